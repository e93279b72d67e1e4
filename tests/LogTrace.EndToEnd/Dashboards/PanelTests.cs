using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FluentAssertions.Execution;
using LogTrace.Dashboards;
using LogTrace.EndToEnd.Support;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Dashboards;

/// <summary>
/// Every panel of the built files against real servers that the demo filled, with a service's files thrown away: what the server answers is what can be counted in the log files.
/// </summary>
public sealed class PanelTests
{
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(3);

    // Large chains with errors and losses are rare; those that are kept to be drawn should have something to draw.
    static readonly int Requests = Environment.GetEnvironmentVariable(RecordVariable) is null ? 240 : 900;
    const string Waterfall = "panel-chain-waterfall";

    /// <summary>Set to anything, the answers are written to tests/vega/replies.</summary>
    const string RecordVariable = "LOGTRACE_TEST_RECORD";

    [RealElasticsearchTheory]
    [EveryElasticsearch]
    public async Task Every_panel_shows_what_the_log_files_hold(string engine)
    {
        var url = await RealEngines.ElasticsearchAsync(engine);
        var prefix = $"panels{Guid.NewGuid():n}";
        using var folder = new TempFolder();
        try
        {
            var logs = await FillAsync(folder, url, prefix);

            var panels = new BuiltPanels(Flavour.Kibana);
            var answers = new Dictionary<string, IReadOnlyDictionary<string, JsonNode>>();
            foreach (var name in panels.Names)
            {
                var replies = new Dictionary<string, JsonNode>();
                foreach (var (data, request) in panels.RequestsOf(name)) replies[data] = await request.AskAsync(url, prefix);
                answers[name] = replies;
            }

            // What other chains teach depends on which of them came first, so these two are taken from the panels; that all adds up is checked.
            logs.NeverRecorded = answers["panel-losses-never"]["reply"].Total();
            logs.Likely = (long)answers["panel-losses-figures"]["reply"].Value("likely");
            using (new AssertionScope())
            {
                answers.Keys.Should().BeEquivalentTo(Expectations.Keys, "each panel is held against the files");
                foreach (var (name, expectation) in Expectations)
                {
                    using var scope = new AssertionScope(name);
                    if (answers.TryGetValue(name, out var replies)) Hold(expectation, replies, logs);
                }
            }

            await OpenSearchFileAsksTheSameAsync(panels);
            if (VegaDrawing.Missing is null) await DrawAsync(panels, answers, url, prefix, folder, engine);
        }
        finally
        {
            await ElasticsearchIndices.DeleteAsync(url, prefix);
        }
    }

    static void Hold(Expectation expectation, IReadOnlyDictionary<string, JsonNode> replies, DemoLogs logs)
    {
        try
        {
            expectation(replies.GetValueOrDefault("reply") ?? new JsonObject(), replies, logs);
        }
        catch (Exception exception) when (exception is NullReferenceException or InvalidOperationException or KeyNotFoundException or ArgumentException)
        {
            // An answer of another shape: a failure of this panel, and the others are looked at all the same.
            Execute.Assertion.FailWith("{0}: {1}", exception.Message, exception.StackTrace);
        }
    }

    static async Task<DemoLogs> FillAsync(TempFolder folder, string url, string prefix)
    {
        var config = Path.Combine(folder.Path, "indexer.json");
        await File.WriteAllTextAsync(config, new JsonObject { ["Elasticsearch"] = new JsonObject { ["IndexPrefix"] = prefix } }.ToJsonString());
        var data = Path.Combine(folder.Path, "demo");
        await using var demo = ProgramProcess.StartIndexer("demo", "--once", "--lose", "orders", "--requests", $"{Requests}", "--rate", "200", "--elasticsearch", url, "--config", config, "--data", data);
        (await demo.ExitCodeAsync(Deadline)).Should().Be(0, demo.Transcript);

        var files = Directory.EnumerateFiles(Path.Combine(data, "logs"), "*.log", SearchOption.AllDirectories).Where(path => new FileInfo(path).Length > 0).ToArray();
        await using var rebuild = ProgramProcess.StartIndexer(["rebuild", "--json", .. files]);
        (await rebuild.ExitCodeAsync(Deadline)).Should().Be(0, rebuild.Transcript);
        var logs = DemoLogs.Read(Path.Combine(data, "logs"), rebuild.Output);
        var http = new HttpClient();
        await Eventually.HoldsAsync(async () => await CountAsync("records") == logs.Lines.Count && await CountAsync("chains") == logs.Chains.Count, "all is searchable", Deadline);
        return logs;

        async Task<long> CountAsync(string kind)
        {
            (await http.PostAsync($"{url}/{prefix}-*/_refresh", null)).EnsureSuccessStatusCode();
            return (long)JsonNode.Parse(await http.GetStringAsync($"{url}/{prefix}-{kind}-*/_count"))!["count"]!;
        }
    }

    static Task OpenSearchFileAsksTheSameAsync(BuiltPanels kibana)
    {
        var openSearch = new BuiltPanels(Flavour.OpenSearch);
        foreach (var name in kibana.Names)
            openSearch.RequestsOf(name).Should().BeEquivalentTo(kibana.RequestsOf(name), options => options.Using<JsonObject>(body => body.Subject.ToJsonString().Should().Be(body.Expectation.ToJsonString())).WhenTypeIs<JsonObject>());
        return Task.CompletedTask;
    }

    /// <summary>Draws all Vega panels of what the server answered, and the waterfalls of 200 chains.</summary>
    static async Task DrawAsync(BuiltPanels panels, Dictionary<string, IReadOnlyDictionary<string, JsonNode>> answers, string url, string prefix, TempFolder folder, string engine)
    {
        var names = panels.Names.Where(name => panels.SpecOf(name) is not null).ToList();
        var pictures = await VegaDrawing.DrawAsync(names.SelectMany(name => VegaDrawing.Versions.Select(version => new VegaDrawing.Job(panels.SpecOf(name)!, answers[name], version))));
        pictures.Should().OnlyContain(picture => picture.Warnings.Count == 0 && !picture.IsBroken);

        await using var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [url], IndexPrefix = prefix });
        await store.OpenAsync(CancellationToken.None);
        var all = await store.FindChainsAsync(new TraceQuery { Limit = Requests }, CancellationToken.None);
        var found = all.Take(200).ToList();
        found.Count.Should().Be(200);
        found.Should().Contain(chain => !chain.Complete);
        var largest = all.Where(chain => !chain.Complete && chain.ErrorCount > 0).MaxBy(chain => chain.RowsTotal)!;
        await RecordAsync(panels, new(answers) { [Waterfall] = new Dictionary<string, JsonNode> { ["reply"] = await Only(largest).AskAsync(url, prefix) } }, engine);
        var jobs = new List<VegaDrawing.Job>();

        // What the servers answer is alike; with the others a part of the chains is enough to see that.
        var drawnChains = engine == RealEngines.Elasticsearches[0] ? found : [.. found.Where((_, i) => i % 10 == 0)];
        foreach (var chain in drawnChains)
        {
            jobs.Add(new VegaDrawing.Job(panels.SpecOf(Waterfall)!, new Dictionary<string, JsonNode> { ["reply"] = await Only(chain).AskAsync(url, prefix) }, Height: 10_000));
        }

        var drawn = await VegaDrawing.DrawAsync(jobs);
        using var scope = new AssertionScope();
        for (var i = 0; i < drawn.Count; i++)
        {
            var buffer = new ArrayBufferWriter<byte>();
            ChainJson.Write(ChainBuilder.Build(drawnChains[i].TraceId, await store.GetTraceAsync(drawnChains[i].TraceId, CancellationToken.None)), buffer);
            drawn[i].ShouldBe(JsonDocument.Parse(buffer.WrittenMemory).RootElement);
        }

        // The command itself, a process for each: a few are enough to know that it prints the same.
        foreach (var i in new[] { 0, drawn.Count - 1 }) drawn[i].ShouldBe(JsonDocument.Parse(await ChainComparison.ChainJsonAsync(drawnChains[i].TraceId, "--elasticsearch", url, "--config", Path.Combine(folder.Path, "indexer.json"))).RootElement);

        PanelRequest Only(ChainDocument chain) => panels.RequestsOf(Waterfall, new JsonObject { ["match_phrase"] = new JsonObject { ["trace_id"] = chain.TraceId } })["reply"];
    }

    /// <summary>With the variable set, what the server answered to the Vega panels is kept for the tests that draw without a server.</summary>
    static async Task RecordAsync(BuiltPanels panels, Dictionary<string, IReadOnlyDictionary<string, JsonNode>> answers, string engine)
    {
        if (Environment.GetEnvironmentVariable(RecordVariable) is null) return;
        var recorded = new JsonObject();
        foreach (var (name, replies) in answers.Where(answer => panels.SpecOf(answer.Key) is not null))
        {
            var one = new JsonObject();
            foreach (var (data, reply) in replies) one[data] = reply.DeepClone();
            recorded[name] = one;
        }

        Directory.CreateDirectory(Path.Combine(Repository.Root, "tests/vega/replies"));
        await File.WriteAllTextAsync(Path.Combine(Repository.Root, "tests/vega/replies", engine + ".json"), recorded.ToJsonString() + "\n");
    }

    delegate void Expectation(JsonNode reply, IReadOnlyDictionary<string, JsonNode> replies, DemoLogs logs);

    static readonly Dictionary<string, Expectation> Expectations = new()
    {
        ["panel-overview-figures"] = (reply, _, logs) =>
        {
            reply.Value("requests").Should().Be(logs.Chains.Count);
            reply.Value("failed").Should().Be(logs.Failed);
            reply.Value("lossy").Should().Be(logs.Chains.Keys.Count(trace => logs.Lost(trace) > 0));
            reply.Value("alarms").Should().Be(logs.Lines.Count(line => line.Name == "log.alarm"));
            var durations = logs.Chains.Values.Select(chain => chain.GetProperty("duration_us").GetDouble()).Order().ToList();
            foreach (var (percent, share) in new[] { ("50.0", 0.5), ("95.0", 0.95), ("99.0", 0.99) })
                ((double)reply["aggregations"]!["took"]!["values"]![percent]!).Should().BeInRange(durations[(int)(share * durations.Count * 0.97)], durations[Math.Min(durations.Count - 1, (int)(share * durations.Count * 1.03) + 1)]);
        },
        ["panel-overview-requests"] = (reply, _, logs) => reply.Summed("2", "3").Should().BeEquivalentTo(ByEntry(logs, _ => 1)),
        ["panel-overview-latency"] = (reply, _, logs) => reply.Buckets("2").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(logs.Chains.Count),
        ["panel-overview-errors"] = (reply, _, logs) =>
            reply.Buckets("2").SelectMany(time => time!["3"]!["buckets"]!.AsArray()).Sum(bucket => (long)bucket!["doc_count"]! * (double)bucket["1"]!["value"]!).Should().BeApproximately(logs.Failed, 0.001),
        ["panel-overview-slow"] = (reply, _, logs) => reply.Summed("2", "3").Should().BeEquivalentTo(ByEntry(logs, _ => 1)),
        ["panel-overview-actions"] = (reply, _, logs) =>
        {
            var checkout = reply.Buckets("4").Single(bucket => (string)bucket["key"]! == "gateway")["5"]!["buckets"]!.AsArray().Single(bucket => (string)bucket!["key"]! == "POST /checkout")!;
            var entries = logs.Entries.Where(line => line.Action == "POST /checkout").ToList();
            var failing = logs.Traces.Where(trace => trace.Any(line => line.IsError)).Select(trace => trace.Key).ToHashSet();
            ((long)checkout["doc_count"]!).Should().Be(entries.Count);
            ((double)checkout["2"]!["value"]!).Should().BeApproximately((double)entries.Count(line => failing.Contains(line.TraceId!)) / entries.Count, 1e-9);
        },
        ["search-chains-slowest"] = (reply, _, logs) =>
        {
            reply.Total().Should().Be(logs.Chains.Count);
            reply.Hits("duration_us").Should().BeInDescendingOrder();
            reply.Hits("duration_us")[0].Should().Be(logs.Chains.Values.Max(chain => chain.GetProperty("duration_us").GetDouble()));
        },
        ["search-chains-failing"] = (reply, _, logs) => reply.Total().Should().Be(logs.Failed),
        ["panel-chain-waterfall"] = (reply, _, logs) => reply.Value("matches").Should().Be(logs.Chains.Count),
        ["search-chain-viewer"] = (reply, _, logs) => reply.Total().Should().Be(logs.Chains.Count),
        ["search-chain-records"] = (reply, _, logs) =>
        {
            reply.Total().Should().Be(logs.Lines.Count);
            reply.Texts("rpc_sort").Should().BeInAscendingOrder(StringComparer.Ordinal).And.NotBeEmpty();
        },

        ["panel-services-graph"] = (_, replies, logs) =>
        {
            var pairs = replies["pairs"]["aggregations"]!["known"]!["callers"]!["buckets"]!.AsArray()
                .SelectMany(caller => caller!["callees"]!["buckets"]!.AsArray().SelectMany(callee => callee!["kinds"]!["buckets"]!.AsArray().Select(kind => ($"{caller["key"]}>{kind!["key"]}:{callee["key"]}", kind))))
                .ToDictionary(pair => pair.Item1, pair => pair.kind!);
            Calls("(outside)>(callee only):gateway").Should().Be(logs.Entries.Count());
            Calls("gateway>http:orders").Should().Be(logs.Lines.Count(line => line.Service == "gateway" && line.IsHttpCall && line.Action.Contains("/orders", StringComparison.Ordinal)));
            Calls("gateway>http:stock").Should().Be(logs.Lines.Count(line => line.Service == "gateway" && line.IsHttpCall && line.Action.Contains("/items", StringComparison.Ordinal)));
            Calls("stock>sqlite:stock").Should().Be(logs.Lines.Where(line => line.Service == "stock" && line.IsSqlite).Select(line => (line.TraceId, line.RpcId)).Distinct().Count());
            Calls("orders>(callee only):stock").Should().Be(logs.Lines.Count(line => line.Service == "stock" && line.IsServerSide) - Calls("gateway>http:stock"), "what gateway did not ask stock for, orders did, though none of its lines arrived");
            ((double)pairs["gateway>http:orders"]["failed"]!["value"]!).Should().Be(logs.Lines.Count(line => line.Service == "gateway" && line.IsHttpCall && line.IsError && line.Action.Contains("/orders", StringComparison.Ordinal)));

            long Calls(string pair) => (long)pairs[pair]["doc_count"]!;
        },
        ["panel-services-table"] = (reply, _, logs) =>
        {
            foreach (var service in new[] { "gateway", "stock", "payment" })
                ((long)reply.Buckets("5").Single(bucket => (string)bucket["key"]! == service)["doc_count"]!).Should().Be(logs.Lines.Count(line => line.Service == service && line.IsServerSide), service);
        },
        ["panel-services-latency"] = (reply, _, logs) => reply.Summed("2", "3")["stock"].Should().Be(logs.Lines.Count(line => line.Service == "stock" && line.IsServerSide)),
        ["panel-services-errors"] = (reply, _, logs) => reply.Summed("2", "3")["payment"].Should().Be(logs.Lines.Count(line => line.Service == "payment" && line.IsServerSide)),
        ["panel-services-actions"] = (reply, _, logs) =>
            reply.Buckets("3").SelectMany(service => service["4"]!["buckets"]!.AsArray().SelectMany(action => action!["5"]!["buckets"]!.AsArray().Select(code => ($"{service["key"]} {action["key"]} {code!["key"]}", (long)code["doc_count"]!))))
                .Where(row => row.Item1.StartsWith("payment ", StringComparison.Ordinal)).ToDictionary(row => row.Item1, row => row.Item2)
                .Should().BeEquivalentTo(logs.Lines.Where(line => line.Service == "payment" && line.IsServerSide).GroupBy(line => $"payment {DemoLogs.Key(line.Action)} {line.Code}").ToDictionary(group => group.Key, group => (long)group.Count())),

        ["panel-resources-statements"] = (reply, _, logs) =>
        {
            var sqlite = reply.Buckets("6").Single(bucket => (string)bucket["key"]! == "sqlite");
            ((long)sqlite["doc_count"]!).Should().Be(Resources(logs).Count(call => call.Name.StartsWith("sqlite", StringComparison.Ordinal)));
            var select = sqlite["7"]!["buckets"]!.AsArray().Single(bucket => (string)bucket!["key"]! == "payment")!["8"]!["buckets"]!.AsArray().Single(bucket => (string)bucket!["key"]! == "select count(*) from payments where id = ?")!;
            var lines = logs.Lines.Where(line => line.IsSqlite && line.Action.StartsWith("select count(*) from payments where id", StringComparison.Ordinal)).ToList();
            ((long)select["doc_count"]!).Should().Be(lines.Count);
            ((double)select["1"]!["value"]!).Should().Be(lines.Sum(line => line.Micros));
            ((double)select["5"]!["value"]!).Should().Be(lines.Max(line => line.Micros), "its columns are total, errors, quantiles, longest");
        },
        ["panel-resources-targets"] = (reply, _, logs) => reply.Buckets("6").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(logs.Lines.Count(line => line.IsHttpCall)),
        ["panel-resources-time"] = (reply, _, logs) =>
            reply.Buckets("2").SelectMany(time => time["3"]!["buckets"]!.AsArray()).Where(kind => (string)kind!["key"]! == "http").Sum(kind => (double)kind!["1"]!["value"]!).Should().Be(logs.Lines.Where(line => line.IsHttpCall).Sum(line => line.Micros)),
        ["panel-resources-latency"] = (reply, _, logs) => reply.Summed("2", "3")["stock"].Should().Be(Resources(logs).Count(call => call.Service == "stock" && call.Name.StartsWith("sqlite", StringComparison.Ordinal))),
        ["search-calls-slowest"] = (reply, _, logs) =>
        {
            reply.Total().Should().Be(Resources(logs).Count());
            reply.Hits("duration_us")[0].Should().Be(logs.Lines.Where(line => line.IsHttpCall || line.IsSqlite).Max(line => line.Micros));
        },

        ["panel-errors-over-time"] = (reply, _, logs) => reply.Buckets("2").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(Errors(logs).Count()),
        ["panel-errors-grouped"] = (reply, _, logs) =>
        {
            reply.Buckets("6").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(Errors(logs).Count());
            var thrown = reply.Buckets("6").Single(bucket => ((string)bucket["key"]!).StartsWith("System.InvalidOperationException: The bank's answer", StringComparison.Ordinal));
            var lines = Errors(logs).Where(line => line.Json.TryGetProperty("backtrace", out var trace) && trace.GetString()!.StartsWith("System.InvalidOperationException: The bank's answer", StringComparison.Ordinal)
                && line.Json.TryGetProperty("msg", out var msg) && msg.GetString()!.StartsWith("The bank's answer", StringComparison.Ordinal)).ToList();
            ((long)thrown["doc_count"]!).Should().Be(lines.Count);
            var example = thrown["7"]!["buckets"]![0]!["5"]!["hits"]!["hits"]![0]!["_source"]!["trace_id"]!;
            lines.Select(line => line.TraceId).Should().Contain((string)example!, "the example is one of them");
        },
        ["panel-errors-codes"] = (reply, _, logs) =>
            reply.Buckets("2").SelectMany(code => code["3"]!["buckets"]!.AsArray().SelectMany(service => service!["4"]!["buckets"]!.AsArray().Select(name => ($"{code["key"]} {service["key"]} {name!["key"]}", (long)name["doc_count"]!)))).Where(row => !row.Item1.StartsWith("__", StringComparison.Ordinal)).ToDictionary(row => row.Item1, row => row.Item2)
                .Should().BeEquivalentTo(Errors(logs).Where(line => line.Code is not null).GroupBy(line => $"{line.Code} {line.Service} {line.Name}").ToDictionary(group => group.Key, group => (long)group.Count())),
        ["panel-errors-hosts"] = (reply, _, logs) => reply.Buckets("2").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(Errors(logs).Count()),
        ["search-alarms"] = (reply, _, logs) => reply.Total().Should().Be(logs.Lines.Count(line => line.Name is "log.alarm" or "log.exception")).And.BePositive(),
        ["search-errors"] = (reply, _, logs) => reply.Total().Should().Be(Errors(logs).Count()),

        ["panel-metrics-counters"] = (reply, _, logs) => reply.Buckets("2").SelectMany(time => time["3"]!["buckets"]!.AsArray()).Where(metric => (string)metric!["key"]! == "shop.checkouts").Sum(metric => (double)metric!["1"]!["value"]!)
            .Should().Be(logs.Lines.Where(line => line.Name == "metric.counter" && line.Action == "shop.checkouts").Sum(line => line.Extra.GetProperty("value").GetDouble())).And.BePositive(),
        ["panel-metrics-gauges"] = (reply, _, logs) => reply.Summed("2", "3").Should().BeEquivalentTo(Metrics(logs, "metric.gauge")),
        ["panel-metrics-histograms"] = (reply, _, logs) => reply.Summed("2", "3").Should().BeEquivalentTo(Metrics(logs, "metric.histogram")),
        ["panel-metrics-table"] = (reply, _, logs) => reply.Buckets("4").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(logs.Lines.Count(line => line.Name is "metric.counter" or "metric.gauge")),
        ["panel-metrics-distributions"] = (reply, _, logs) =>
        {
            var items = reply.Buckets("7").Single(bucket => (string)bucket["key"]! == "shop.cart_items")["8"]!["buckets"]![0]!;
            var lines = logs.Lines.Where(line => line.Name == "metric.histogram" && line.Action == "shop.cart_items").ToList();
            ((double)items["1"]!["value"]!).Should().Be(lines.Sum(line => line.Extra.GetProperty("count").GetDouble()));
            ((double)items["2"]!["value"]!).Should().BeApproximately(lines.Sum(line => line.Extra.GetProperty("sum").GetDouble()), 0.001);
            ((double)items["5"]!["value"]!).Should().Be(lines.Max(line => line.Extra.GetProperty("p99").GetDouble()));
        },
        ["search-metrics"] = (reply, _, logs) => reply.Total().Should().Be(logs.Lines.Count(line => line.Name.StartsWith("metric.", StringComparison.Ordinal))).And.BePositive(),

        ["panel-losses-figures"] = (reply, _, logs) =>
        {
            reply.Value("chains").Should().Be(logs.Chains.Count);
            reply.Value("placeholders").Should().Be(logs.InAll("placeholder_count"));
            reply.Value("gaps").Should().Be(logs.InAll("gap_count"));
            reply.Value("calleeOnly").Should().Be(logs.InAll("callee_only_count"));
            reply.Value("records").Should().Be(logs.InAll("record_count"));
        },
        ["panel-losses-services"] = (_, replies, logs) => LossBars(replies).Should().Be(logs.LostOfServices),
        ["panel-losses-hosts"] = (_, replies, logs) => LossBars(replies).Should().Be(logs.LostOfServices),
        ["panel-losses-over-time"] = (reply, _, logs) => reply.Buckets("2").SelectMany(time => time["3"]!["buckets"]!.AsArray()).Sum(callee => (double)callee!["1"]!["value"]!).Should().Be(logs.LostOfServices),
        ["panel-losses-hops"] = (reply, _, logs) =>
            reply.Buckets("3").SelectMany(entry => entry["4"]!["buckets"]!.AsArray()).SelectMany(caller => caller!["5"]!["buckets"]!.AsArray()).SelectMany(callee => callee!["6"]!["buckets"]!.AsArray()).Sum(state => (double)state!["1"]!["value"]!).Should().Be(logs.LostOfServices),
        ["panel-losses-never"] = (reply, _, logs) => reply.Buckets("entries").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(reply.Total()).And.BeLessThanOrEqualTo(logs.InAll("placeholder_count")),
        ["search-chains-lossy"] = (reply, _, logs) => reply.Hits("lost_count").Should().StartWith(logs.Chains.Keys.Max(logs.Lost)).And.BeInDescendingOrder(),

        ["panel-user-requests"] = (reply, _, logs) => reply.Buckets("2").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(logs.Traces.Count(trace => trace.Any(line => line.Uid is not null))),
        ["panel-user-table"] = (reply, _, logs) =>
        {
            var users = logs.Traces.Select(trace => trace.FirstOrDefault(line => line.Uid is not null)?.Uid).OfType<string>().GroupBy(uid => uid).ToDictionary(user => user.Key, user => (long)user.Count());
            reply.Buckets("5").Should().NotBeEmpty().And.OnlyContain(user => (long)user["doc_count"]! == users[(string)user["key"]!]);
        },
        ["search-user-chains"] = (reply, _, logs) =>
        {
            reply.Total().Should().Be(logs.Traces.Count(trace => trace.Any(line => line.Uid is not null)));
            reply.Hits("start_us").Select(start => Math.Floor(start / 1000)).Should().BeInAscendingOrder("dates are sorted by the millisecond");
        },
        ["panel-debug-actions"] = (reply, _, logs) => reply.Buckets("4").Sum(bucket => (long)bucket["doc_count"]!).Should().Be(DebugTraces(logs)),
        ["panel-debug-lines"] = (reply, _, logs) => reply.Summed("2", "3").Should().BeEquivalentTo(logs.Lines.Where(IsDebugLine).GroupBy(line => line.Service).ToDictionary(service => service.Key, service => (long)service.Count())),
        ["search-debug-chains"] = (reply, _, logs) => reply.Total().Should().Be(DebugTraces(logs)).And.BePositive(),
        ["search-debug-records"] = (reply, _, logs) => reply.Total().Should().Be(logs.Lines.Count(IsDebugLine)).And.BePositive(),
    };

    static bool IsDebugLine(DemoLogs.Line line) => line.IsDebug && line.Name is "log.debug" or "log.trace";

    static int DebugTraces(DemoLogs logs) => logs.Traces.Count(trace => trace.Any(line => line.IsDebug));

    static IEnumerable<DemoLogs.Line> Errors(DemoLogs logs) => logs.Lines.Where(line => line.IsError);

    /// <summary>One line for each call to a resource or service: <c>.connect</c> and <c>.request</c> share an id.</summary>
    static IEnumerable<DemoLogs.Line> Resources(DemoLogs logs) =>
        logs.Lines.Where(line => line.TraceId is not null && (line.IsHttpCall || line.Name.StartsWith("sqlite.", StringComparison.Ordinal))).DistinctBy(line => (line.TraceId, line.RpcId, line.Service));

    static Dictionary<string, long> Metrics(DemoLogs logs, string name) => logs.Lines.Where(line => line.Name == name).GroupBy(line => line.Action).ToDictionary(metric => metric.Key, metric => (long)metric.Count());

    /// <summary>Chains by what was asked of the gateway; those whose entry did not arrive apart.</summary>
    static Dictionary<string, long> ByEntry(DemoLogs logs, Func<DemoLogs.Line, long> count)
    {
        var entries = logs.Entries.GroupBy(line => DemoLogs.Key(line.Action)).ToDictionary(entry => entry.Key, entry => entry.Sum(count));
        if (logs.Chains.Count - logs.Entries.Count() is > 0 and var others) entries["__missing__"] = others;
        return entries;
    }

    static double LossBars(IReadOnlyDictionary<string, JsonNode> replies) =>
        Places(replies["byCaller"]).Sum(place => (long)place!["doc_count"]!) + Places(replies["byCallee"]).Sum(place => (double)place!["gaps"]!["value"]! + (long)place["placeholders"]!["doc_count"]! + (long)place["likely"]!["doc_count"]!);

    static IEnumerable<JsonNode?> Places(JsonNode reply) => reply["aggregations"]!["services"]!["buckets"]!.AsArray().SelectMany(service => service!["places"]!["buckets"]!.AsArray());
}

/// <summary>What stands where in a server's answer, and in a picture of it.</summary>
static class Answers
{
    public static long Total(this JsonNode reply) => (long)reply["hits"]!["total"]!["value"]!;

    public static double Value(this JsonNode reply, string aggregation) => (double)reply["aggregations"]![aggregation]!["value"]!;

    public static IReadOnlyList<JsonNode> Buckets(this JsonNode reply, string aggregation) => [.. reply["aggregations"]![aggregation]!["buckets"]!.AsArray().OfType<JsonNode>()];

    /// <summary>Documents by key of the inner buckets, over all outer ones.</summary>
    public static Dictionary<string, long> Summed(this JsonNode reply, string outer, string inner) =>
        reply.Buckets(outer).SelectMany(bucket => bucket[inner]!["buckets"]!.AsArray()).GroupBy(bucket => (string)bucket!["key"]!).ToDictionary(key => key.Key, key => key.Sum(bucket => (long)bucket!["doc_count"]!));

    public static IReadOnlyList<double> Hits(this JsonNode reply, string field) => [.. reply["hits"]!["hits"]!.AsArray().Select(hit => (double)hit!["_source"]![field]!)];

    public static IReadOnlyList<string> Texts(this JsonNode reply, string field) => [.. reply["hits"]!["hits"]!.AsArray().Select(hit => (string?)hit!["_source"]![field]).OfType<string>()];

    /// <summary>The rows of the waterfall are the chain's nodes and gaps: ids, executions, depths, kinds, in order; nothing is amiss in the picture.</summary>
    public static void ShouldBe(this VegaDrawing.Picture picture, JsonElement chain)
    {
        picture.Warnings.Should().BeEmpty();
        picture.IsBroken.Should().BeFalse(string.Join('|', picture.Texts));
        var rows = picture.MarksOf("row");
        rows.Select(row => row.GetProperty("y").GetDouble()).Should().BeInAscendingOrder();
        var data = rows.Select(row => row.GetProperty("datum")).ToList();
        data.Where(row => !row.GetProperty("isGap").GetBoolean()).Select(row => $"{row.GetProperty("id")}#{row.GetProperty("execution")} {row.GetProperty("depth")} {row.GetProperty("kind")}")
            .Should().Equal(chain.GetProperty("nodes").EnumerateArray().Select(node => $"{node.GetProperty("rpc_id")}#{node.GetProperty("execution")} {node.GetProperty("depth")} {KindOf(node)}"));
        data.Where(row => row.GetProperty("isGap").GetBoolean()).Select(row => row.GetProperty("id").GetString()).Should().Equal(chain.GetProperty("gaps").EnumerateArray().Select(gap => gap.GetString()));
    }

    static string? KindOf(JsonElement node) => node.GetProperty("foreign").GetBoolean() ? "foreign" : node.GetProperty("placeholder").GetBoolean() ? "placeholder" : node.GetProperty("kind").GetString();
}
