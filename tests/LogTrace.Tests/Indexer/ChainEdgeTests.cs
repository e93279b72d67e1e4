using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;
using static LogTrace.Tests.Indexer.ChainSample;

namespace LogTrace.Tests.Indexer;

/// <summary>Where the rules of DESIGN.md section 3 meet each other, or begin and end.</summary>
public sealed class ChainEdgeTests
{
    // ---- number one ----

    [Fact]
    public void Number_one_is_a_call_of_its_own_beside_the_request_that_closes_the_scope()
    {
        var chain = Build(Request("1.1", "gateway"), Call("1.1", "gateway", "redis", "redis.request"), Log("1.1", "gateway"));

        chain.Draw().Should().Equal("1 >gateway [s e1]", "1.1 gateway>redis [c]");
        chain.Complete.Should().BeTrue();
    }

    [Fact]
    public void Call_at_number_one_fills_it_and_so_does_a_descendant() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Call("1.2.1", "orders", "db"), Call("1.3", "gateway", "stock"), Call("1.3.1.2", "x", "db"), Request("1.3.1.1", "x")).Draw().Should().Equal(
            "1 >gateway [s]", "1.2 gateway>orders [c]", "1.2.1 orders>db [c]", "1.3 gateway>stock [c]", "1.3.1 stock>x [s] callee-only", "1.3.1.2 x>db [c]");

    [Fact]
    public void Events_at_number_one_belong_to_the_scope_though_a_descendant_makes_it_a_node() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Log("1.2.1", "orders"), Call("1.2.1.2", "x", "db")).Draw().Should().Equal(
            "1 >gateway [s]", "1.2 gateway>orders [c e1]", "1.2.1 orders>x placeholder", "gap 1.2.1.1", "1.2.1.2 x>db [c]");

    [Fact]
    public void Metric_at_number_one_fills_it_as_little_as_a_log_line()
    {
        var chain = Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Record("metric.counter", "1.2.1", "orders"), Call("1.2.5", "orders", "db"));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c e1]", "gap 1.2.1..1.2.4", "1.2.5 orders>db [c]");
        chain.Nodes[1].IsCalleeMissing.Should().BeTrue();
    }

    [Fact]
    public void Call_below_which_nothing_is_known_lacks_no_number() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Log("1.2", "gateway")).Complete.Should().BeTrue();

    [Fact]
    public void Log_lines_fill_the_numbers_that_they_carry() =>
        Build(Request("1.1", "gateway"), Log("1.3", "gateway"), Log("1.2", "gateway"), Log("1.6", "gateway")).Draw()
            .Should().Equal("1 >gateway [s]", "1.2 gateway> [e1]", "1.3 gateway> [e1]", "gap 1.4..1.5", "1.6 gateway> [e1]");

    [Fact]
    public void Events_of_both_sides_stand_by_side_then_by_time()
    {
        var node = Build(
            Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Request("1.2.1", "orders"), Log("1.2", "gateway", at: 9), Log("1.2.1", "orders", at: 8), Log("1.2.1", "orders", at: 7), Log("1.2", "gateway", at: 6)).Nodes[1];

        node.Events.Select(record => record.StartMicros).Should().Equal(6, 9, 7, 8);
    }

    // ---- zero ----

    [Fact]
    public void Number_zero_is_no_number_one() =>
        Build(Request("1.1", "gateway"), Call("1.0", "gateway", "a"), Call("1.2", "gateway", "orders"), Call("1.2.0", "orders", "db")).Draw()
            .Should().Equal("1 >gateway [s]", "1.0 gateway>a [c]", "1.2 gateway>orders [c]", "1.2.0 orders>db [c]", "gap 1.2.1");

    [Fact]
    public void Number_zero_and_the_request_leave_no_gap() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Call("1.2.0", "orders", "db"), Request("1.2.1", "orders")).Complete.Should().BeTrue();

    // ---- tops ----

    [Theory]
    [InlineData("0")]
    [InlineData("1")]
    [InlineData("17")]
    [InlineData("9999999999999999999")]
    public void Any_single_number_is_a_top(string top)
    {
        var chain = Build(Request($"{top}.1", "gateway"), Call($"{top}.2", "gateway", "db"));

        chain.Draw().Should().Equal($"{top} >gateway [s]", $"{top}.2 gateway>db [c]");
        (chain.Complete, chain.EntryService, chain.Depth).Should().Be((true, "gateway", 1));
    }

    [Fact]
    public void Tops_without_a_common_prefix_are_one_chain()
    {
        var chain = Build(Request("1.1", "gateway"), Request("3.1", "batch"), Call("7.2", "job", "db"));

        chain.Draw().Should().Equal("1 >gateway [s]", "3 >batch [s]", "7 >job placeholder", "7.2 job>db [c]");
        (chain.PlaceholderCount, chain.GapCount, chain.CalleeOnlyCount).Should().Be((1, 0, 0));
    }

    [Fact]
    public void Request_with_a_single_number_is_complete_alone() => Build(Request("1", "gateway")).Complete.Should().BeTrue();

    [Fact]
    public void Placeholder_at_the_top_stands_for_number_one_only()
    {
        var chain = Build(Call("1.4", "gateway", "db"));

        chain.Draw().Should().Equal("1 >gateway placeholder", "gap 1.2..1.3", "1.4 gateway>db [c]");
        (chain.PlaceholderCount, chain.GapCount).Should().Be((1, 2));
    }

    [Fact]
    public void Call_at_the_top_is_no_placeholder_so_that_its_request_is_a_gap() =>
        Build(Call("1", "client", "gateway"), Call("1.2", "gateway", "db")).Draw().Should().Equal("1 client>gateway [c]", "gap 1.1", "1.2 gateway>db [c]");

    // ---- irregular numbers ----

    [Theory]
    [InlineData("1.2.1000", "1.2.1..1.2.999")]
    [InlineData("1.2.1001", null)]
    public void Jump_of_more_than_a_thousand_from_nothing_is_irregular(string id, string? gap)
    {
        var chain = Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Call(id, "orders", "db"));

        chain.Gaps.Select(found => found.ToString()).Should().Equal(gap is null ? [] : [gap]);
        chain.Nodes[2].IsIrregular.Should().Be(gap is null);
    }

    [Fact]
    public void Numbers_behind_a_jump_are_counted_from_there() =>
        Build(Request("1.1", "gateway"), Call("1.5000", "gateway", "a"), Call("1.5003", "gateway", "b")).Draw()
            .Should().Equal("1 >gateway [s]", "1.5000 gateway>a [c] irregular", "gap 1.5001..1.5002", "1.5003 gateway>b [c]");

    [Fact]
    public void Jump_does_not_excuse_the_request_of_a_scope_that_has_log_lines_at_number_one() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Log("1.2.1", "orders"), Call("1.2.5000", "orders", "db")).Draw()
            .Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c e1]", "gap 1.2.1", "1.2.5000 orders>db [c] irregular");

    [Fact]
    public void Request_behind_a_jump_is_not_callee_only()
    {
        var chain = Build(Request("1.1", "gateway"), Request("1.5000.1", "orders"), Request("1.5001.1", "stock"));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.5000 gateway>orders [s] irregular", "1.5001 gateway>stock [s] callee-only");
    }

    // ---- services without LogTrace ----

    [Theory]
    [InlineData("1.2.999999.1", false)]
    [InlineData("1.2.1000000.1", true)]
    public void Foreign_numbers_begin_at_a_million(string id, bool isForeign)
    {
        var chain = Build(Request("1.1", "gateway"), Request(id, "stock"));

        (chain.Nodes[1].IsForeign, chain.ForeignCount, chain.PlaceholderCount, chain.Complete).Should().Be((isForeign, isForeign ? 1 : 0, isForeign ? 0 : 1, isForeign));
    }

    [Fact]
    public void Placeholder_with_a_regular_child_beside_foreign_ones_is_a_loss() =>
        Build(Request("1.1", "gateway"), Call("1.2.2", "orders", "db"), Request("1.2.3000000.1", "stock")).Draw().Should().Equal(
            "1 >gateway [s]", "1.2 gateway>orders placeholder", "gap 1.2.1", "1.2.2 orders>db [c]", "1.2.3000000 orders>stock [s] irregular");

    [Fact]
    public void Node_with_log_lines_above_foreign_numbers_is_no_placeholder_at_all()
    {
        var chain = Build(Request("1.1", "gateway"), Log("1.2", "gateway"), Request("1.2.3000000.1", "stock"));

        (chain.Nodes[1].IsForeign, chain.ForeignCount, chain.Complete).Should().Be((false, 0, true));
    }

    [Fact]
    public void Call_to_a_service_without_LogTrace_is_complete() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "php"), Request("1.2.3000000.1", "stock"), Request("1.2.4000000000.1", "payment")).Complete.Should().BeTrue();

    [Fact]
    public void Lost_call_behind_a_service_without_LogTrace_is_a_loss_and_that_service_none() =>
        Build(Request("1.1", "gateway"), Call("1.2.3000000.2", "stock", "db")).Draw().Should().Equal(
            "1 >gateway [s]", "1.2 gateway> foreign", "1.2.3000000 >stock placeholder irregular", "gap 1.2.3000000.1", "1.2.3000000.2 stock>db [c]");

    [Fact]
    public void Two_services_without_LogTrace_one_below_the_other_are_no_loss()
    {
        var chain = Build(Request("1.1", "gateway"), Request("1.2.3000000.4000000.1", "stock"));

        (chain.ForeignCount, chain.Complete).Should().Be((2, true));
    }

    // ---- twins ----

    [Fact]
    public void Number_one_of_twins_is_a_call_like_any_other()
    {
        var chain = Build(Request("0", "a"), Call("0.1", "a", "b"), Request("0.1", "b"), Call("0.3", "a", "c"), Request("0.3", "c"), Call("0.3.2", "c", "d"), Request("0.3.2", "d"));

        chain.IsTwins.Should().BeTrue();
        chain.Gaps.Select(gap => gap.ToString()).Should().Equal("0.2", "0.3.1");
    }

    [Fact]
    public void One_id_more_of_either_kind_decides_the_reading()
    {
        IndexedRecord[] tie = [Call("0.1", "a", "b"), Request("0.1.1", "b"), Call("0.2", "a", "c"), Request("0.2", "c")];

        ChainBuilder.Build("t", [.. tie, Call("0.3", "a", "c"), Request("0.3", "c")]).IsTwins.Should().BeTrue();
        ChainBuilder.Build("t", [.. tie, Call("0.3", "a", "c"), Request("0.3.1", "c")], new ChainOptions { TieReading = ChainReading.Twins }).IsTwins.Should().BeFalse();
    }

    [Fact]
    public void Call_and_request_of_one_service_under_one_id_are_no_twins() =>
        ChainBuilder.Build("t", [Call("0.1", "a", "b"), Request("0.1", "a")]).IsTwins.Should().BeFalse();

    // ---- one record again ----

    [Theory]
    [InlineData("http.get", "1.2", 1)]
    [InlineData("request.info", "1.2.1", 1)]
    [InlineData("fork.info", "1.2.1", 1)]
    [InlineData("log.info", "1.2", 0)]
    [InlineData("metric.counter", "1.2", 0)]
    public void Calls_requests_and_forks_that_come_again_are_one_record_and_other_lines_are_not(string name, string id, int duplicates)
    {
        IndexedRecord[] records = [Request("1.1", "gateway"), Record(name, id, "orders", lineHash: 5), Record(name, id, "orders", lineHash: 5)];
        var chain = Build(records);

        (chain.DuplicateCount, chain.Resolved, chain.RecordCount, chain.Nodes[1].Records.Count).Should().Be((duplicates, true, 3, 2));
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Failed_call_that_comes_again_is_one_error()
    {
        var chain = Build(Request("1.1", "gateway"), Record("http.get.error", "1.2", "gateway", lineHash: 5), Record("http.get.error", "1.2", "gateway", lineHash: 5), Record("log.alarm", "1.2", "gateway", lineHash: 6), Record("log.alarm", "1.2", "gateway", lineHash: 6));

        (chain.ErrorCount - chain.AlarmCount, chain.AlarmCount).Should().Be((1, 2));
    }

    // ---- without an id ----

    [Fact]
    public void Call_without_an_id_is_an_event()
    {
        var chain = Build(Request("1.1", "gateway", span: "a"), Call("1.2", "gateway", "orders", span: "b", parentSpan: "a"), Record("http.get", null, "gateway", span: "b"), Record("request.info", null, "gateway"));

        chain.Draw().Should().Equal("1 >gateway [s e1]", "1.2 gateway>orders [c e1]");
        chain.Complete.Should().BeTrue();
    }

    [Fact]
    public void Record_without_an_id_on_a_lost_top_is_an_event_of_it_and_its_request_a_gap()
    {
        var chain = Build(Record("log.info", null, "gateway"), Call("1.2", "gateway", "db"));

        (chain.PlaceholderCount, chain.GapCount).Should().Be((0, 1));
    }

    [Fact]
    public void Record_without_an_id_beside_a_call_does_not_say_who_was_called() =>
        ChainDocuments.From(Build(Request("1.1", "gateway", span: "a"), Call("1.2", "gateway", "db:3306", "mysql.request", span: "b", parentSpan: "a"), Record("log.info", null, "gateway", span: "b"))).Edges
            .Should().Equal("gateway>db:3306");

    // ---- clocks ----

    /// <summary>gateway calls orders, whose clock is <paramref name="ahead"/> microseconds ahead; orders calls a database and writes a line.</summary>
    static IndexedRecord[] Skewed(long ahead, string host = "10.0.0.2", string call = "http.post") =>
    [
        Record("request.info", "1.1", "gateway", 1_000_000, 100_000, ip: "10.0.0.1"), Record(call, "1.2", "gateway", 1_010_000, 80_000, ip: "10.0.0.1", peer: "orders"),
        Record("request.info", "1.2.1", "orders", 1_020_000 + ahead, 60_000, ip: host), Record("mysql.request", "1.2.2", "orders", 1_030_000 + ahead, 10_000, ip: host, peer: "db"),
        Log("1.2.3", "orders", at: 1_050_000 + ahead),
    ];

    static List<JsonElement> Rows(CallChain chain) => [.. JsonDocument.Parse(ChainDocuments.Rows(chain)).RootElement.EnumerateArray()];

    static string Times(CallChain chain) => string.Join(' ', Rows(chain).Where(row => row.TryGetProperty("rpc_id", out _)).Select(row =>
        $"{row.GetProperty("start_us")}{(row.GetProperty("callee") is { ValueKind: JsonValueKind.Object } callee ? $"/{callee.GetProperty("start_us")}" : "")}{(row.TryGetProperty("clock_us", out var clock) ? $"({clock})" : "")}"));

    [Theory]
    [InlineData(5_000_000)]
    [InlineData(-5_000_000)]
    [InlineData(-12_000)]
    [InlineData(12_000)]
    public void Callee_whose_clock_differs_is_drawn_within_the_call_with_all_that_it_did(long ahead)
    {
        var chain = Build(Skewed(ahead));

        Times(chain).Should().Be($"1000000/1000000 1010000/1020000({-ahead}) 1030000 1050000");
        Rows(chain)[3].GetProperty("logs")[0].GetProperty("at_us").GetInt64().Should().Be(1_050_000);
        chain.Json().GetProperty("nodes")[1].GetProperty("callee").GetProperty("start_us").GetInt64().Should().Be(1_020_000 + ahead, "for display only");
        Drawn(chain).Should().Contain($"corrected by up to {(Math.Abs(ahead) > 1_000_000 ? "5 s" : "12 ms")}");
    }

    static string Drawn(CallChain chain)
    {
        using var writer = new StringWriter();
        var console = Spectre.Console.AnsiConsole.Create(new Spectre.Console.AnsiConsoleSettings { Out = new Spectre.Console.AnsiConsoleOutput(writer), Ansi = Spectre.Console.AnsiSupport.No });
        console.Profile.Width = 120;
        ChainText.Draw(console, chain);
        return writer.ToString();
    }

    [Fact]
    public void Times_that_go_together_are_drawn_as_they_were_logged()
    {
        var chain = Build(Skewed(5_000));

        Times(chain).Should().Be("1000000/1000000 1010000/1025000 1035000 1055000");
        Drawn(chain).Should().NotContain("corrected");
    }

    [Fact]
    public void One_host_has_one_clock() => Times(Build(Skewed(5_000_000, host: "10.0.0.1"))).Should().NotContain("(", "whatever the times say");

    [Fact]
    public void Message_that_is_handled_later_is_no_matter_of_clocks_but_one_that_is_handled_before_it_was_sent()
    {
        Times(Build(Skewed(5_000_000, call: "kafka.produce"))).Should().NotContain("(");
        Times(Build(Skewed(-5_000_000, call: "kafka.produce"))).Should().Contain("(5000000)");
    }

    [Fact]
    public void Call_that_its_caller_gave_up_may_be_handled_later() => Times(Build(Skewed(70_000, call: "http.post.error"))).Should().NotContain("(");

    [Fact]
    public void Clock_of_a_third_host_is_held_against_the_corrected_time_of_its_caller()
    {
        var chain = Build([
            .. Skewed(5_000_000), Record("http.get", "1.2.4", "orders", 6_060_000, 10_000, ip: "10.0.0.2", peer: "stock"), Record("request.info", "1.2.4.1", "stock", 1_062_000, 5_000, ip: "10.0.0.3"),
            Record("http.get", "1.2.5", "orders", 6_060_000, 10_000, ip: "10.0.0.2", peer: "price"), Record("request.info", "1.2.5.1", "price", 6_062_000, 5_000, ip: "10.0.0.4"),
        ]);

        Times(chain).Should().EndWith("1060000/1062000 1060000/1062500(-4999500)");
    }

    [Fact]
    public void Placeholder_spans_what_stands_below_it_as_it_is_drawn()
    {
        var chain = Build([.. Skewed(5_000_000), Record("mysql.request", "1.2.5.2", "worker", 6_070_000, 1_000, ip: "10.0.0.2"), Request("1.2.6.3.1", "stock", at: 1_060_000)]);

        Times(chain).Should().EndWith("1060000 1060000/1060000");
    }

    [Fact]
    public void Absurd_clocks_are_no_trouble()
    {
        foreach (var at in (long[])[long.MinValue, long.MinValue / 2, -1, long.MaxValue / 2, long.MaxValue - 1])
            Rows(Build(Request("1.1", "a"), Call("1.2", "a", "b"), Request("1.2.1", "b", at: at), Call("1.2.2", "b", "c", at: -at))).Should().HaveCount(3);
    }

    // ---- sampling ----

    [Fact]
    public void What_was_left_out_on_purpose_is_drawn_as_that_and_not_as_lost()
    {
        var chain = Build(Record("request.info", "1.1", "gateway", sampled: true), Request("1.5.1", "stock"), Record("http.get", "1.6.2", "payment", sampled: true));

        (chain.Complete, chain.GapCount, chain.Sampled).Should().Be((true, 0, true));
        var rows = Rows(chain);
        rows.Select(row => row.TryGetProperty("sampled", out _)).Should().Equal(false, true, true, false);
        rows.Select(row => row.TryGetProperty("callee_only", out _)).Should().AllBeEquivalentTo(false);
        ChainDocuments.From(chain).Calls.Should().OnlyContain(call => call.LostCount == 0);
    }

    [Fact]
    public void Sampling_of_one_scope_does_not_excuse_another()
    {
        var chain = Build(Request("1.1", "gateway"), Record("http.get", "1.2", "gateway"), Record("request.info", "1.2.1", "orders", sampled: true), Record("http.get", "1.2.5", "orders", sampled: true), Call("1.4", "gateway"), Request("1.5.1", "stock"));

        chain.Gaps.Select(gap => gap.ToString()).Should().Equal("1.3");
        chain.CalleeOnlyCount.Should().Be(1);
    }

    // ---- one call or several ----

    [Fact]
    public void Connect_of_another_service_or_to_something_else_is_another_call() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "db", "mysql.connect"), Call("1.2", "gateway", "cache", "redis.request"), Call("1.3", "gateway", "db", "mysql.connect"), Call("1.3", "batch", "db", "mysql.request"), Call("1.4", "gateway", "db", "mysql.connect"))
            .Nodes.Select(node => $"{node} {node.Name}").Should().Equal("1 request.info", "1.2 mysql.connect", "1.2#1 redis.request", "1.3 mysql.connect", "1.3#1 mysql.request", "1.4 mysql.connect");

    [Fact]
    public void Branch_and_call_under_one_id_are_two_executions() =>
        Build(Request("1.1", "gateway"), Fork("1.2.1", "gateway"), Call("1.2", "gateway", "orders", at: 900_000)).Nodes.Select(node => (node.ToString(), node.IsFork, node.Kind)).Should().BeEquivalentTo([("1", false, "server"), ("1.2", false, "client"), ("1.2#1", true, "internal")]);

    // ---- limits ----

    [Fact]
    public void Longest_ids_are_placed_like_short_ones()
    {
        var longest = string.Join('.', Enumerable.Repeat(new string('9', RpcId.MaxSegmentDigits), 51)) + ".9999";
        longest.Length.Should().Be(1_024);
        IndexedRecord[] records = [Call(longest, "a", "b"), Log(longest, "a"), Call(longest[..^1] + "8", "a", "c"), Call(longest[..^5], "z", "a")];

        var chain = ChainBuilder.Build("t", records);

        chain.ShouldBeSound(records);
        (chain.Nodes.Count, chain.Depth, chain.GapCount).Should().Be((53, 51, 0));
        chain.Nodes.Select(node => node.Events.Count).Last().Should().Be(1);
    }

    // ---- what the stores keep ----

    [Fact]
    public void Document_has_every_field_of_the_chain()
    {
        var checkout = Checkout();
        checkout[0].Record.Set(RecordField.Code, "200");
        IndexedRecord[] records = [.. checkout, Record("log.alarm", "1.3.2", "orders", at: 1_015_000, uid: "9527"), Record("http.get.error", "1.6", "gateway", 1_060_000, 2_000_000, peer: "mail"), Request("1.7.2.1", "audit", at: 1_070_000)];
        var chain = Build(records);

        var document = ChainDocuments.From(chain);

        (document.TraceId, document.StartMicros, document.DurationMicros, document.LastRecordMicros).Should().Be(("t", 1_000_000, 2_060_000, 3_060_000));
        (document.EntryService, document.EntryAction, document.EntryKey, document.EntryCode, document.Uid).Should().Be(("gateway", "POST /checkout", "POST /checkout", "200", "9527"));
        document.Services.Should().Equal("gateway", "orders", "stock", "audit");
        document.Edges.Should().Equal("gateway>redis:6379", "gateway>orders", "orders>db:3306", "orders>stock", "gateway>mail");
        (document.RecordCount, document.NodeCount, document.Depth).Should().Be((10, 8, 2));
        (document.PlaceholderCount, document.GapCount, document.CalleeOnlyCount, document.LikelyLossCount, document.AmbiguousCount).Should().Be((1, 3, 1, 0, 0));
        (document.ErrorCount, document.AlarmCount).Should().Be((chain.ErrorCount, 1));
        (document.Debug, document.Sampled, document.Complete, document.Resolved, document.RowsTotal).Should().Be((false, false, false, true, 10));
    }

    [Fact]
    public void Document_keeps_the_first_five_thousand_rows_and_says_how_many_there_are()
    {
        var document = ChainDocuments.From(Build([Request("1.1", "gateway"), .. Enumerable.Range(2, 5_010).Select(number => Call($"1.{number}", "gateway", "db"))]));

        (document.RowsTotal, document.Calls.Count).Should().Be((5_011, 5_011));
        JsonDocument.Parse(document.RowsJson).RootElement.GetArrayLength().Should().Be(5_000);
    }

    [Fact]
    public void Branches_and_mere_log_lines_are_no_calls_to_another_process() =>
        ChainDocuments.From(Build(Request("1.1", "gateway"), Fork("1.2.1", "gateway"), Call("1.2.2", "gateway", "db"), Log("1.3", "gateway"))).Calls.Select(call => call.RpcId).Should().Equal("1", "1.2.2");

    [Fact]
    public void Log_lines_of_the_called_service_tell_of_the_call_and_its_loss_though_both_its_records_are_lost()
    {
        var document = ChainDocuments.From(Build(Request("1.1", "gateway"), Log("1.2.1", "orders"), Call("1.2.2", "orders", "db"), Log("1.3", "gateway"), Call("1.3.1", "stock", "db")));

        document.Calls.Select(call => $"{call.RpcId} {call.Caller}>{call.Callee} {call.LostCount} {call.DurationMicros}").Should().Equal(
            "1 >gateway 0 1000", "1.2 gateway>orders 1 ", "1.2.2 orders>db 0 1000", "1.3 gateway>stock 0 ", "1.3.1 stock>db 0 1000");
    }

    [Fact]
    public void Trace_of_log_lines_without_ids_tells_of_no_call() => ChainDocuments.From(Build(Record("log.info", null, "job"))).Calls.Should().BeEmpty();

    [Fact]
    public void Numbers_missing_in_a_branch_are_lost_by_the_service_that_it_runs_in()
    {
        var document = ChainDocuments.From(Build(
            Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Request("1.2.1", "orders"), Fork("1.2.2.1", "orders"), Fork("1.2.2.3.1", "orders"), Call("1.2.2.3.5", "orders", "db"), Call("1.2.5", "orders", "db")));

        document.Calls.Select(call => $"{call.RpcId} {call.GapCount}").Should().Equal("1 0", "1.2 6", "1.2.2.3.5 0", "1.2.5 0");
        document.Calls.Sum(call => call.LostCount).Should().Be(document.LostCount);
    }

    [Fact]
    public void Call_document_says_who_where_and_what()
    {
        var call = Record("http.post", "1.2", "gateway", 1_000_000, 50_000, ip: "10.0.0.1", peer: "orders:80", action: "http://orders:80/orders/7");
        var request = Record("request.info", "1.2.1", "orders", 1_010_000, 20_000, ip: "10.0.0.2", action: "POST /orders/7");

        var document = ChainDocuments.From(Build(Record("request.info", "1.1", "gateway", ip: "10.0.0.1", action: "POST /checkout"), call, request)).Calls[1];

        (document.TraceId, document.RpcId, document.Execution, document.StartMicros, document.DurationMicros, document.NetworkMicros).Should().Be(("t", "1.2", 0, 1_000_000, 50_000, 30_000));
        (document.EntryService, document.EntryAction, document.Caller, document.Callee, document.Peer, document.Kind).Should().Be(("gateway", "POST /checkout", "gateway", "orders", "orders:80", "http"));
        (document.CallerHost, document.CalleeHost, document.IsError, document.LossState, document.GapCount).Should().Be(("10.0.0.1", "10.0.0.2", false, "none", 0));
    }

    [Fact]
    public void Call_document_is_the_same_whatever_came_beside_the_call()
    {
        IndexedRecord[] records = [Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Request("1.2.1", "orders"), Call("1.3", "gateway", "db", "mysql.request")];

        var before = ChainDocuments.From(Build(records)).Calls;
        var after = ChainDocuments.From(Build([.. records, Log("1.3", "gateway"), Call("1.4", "gateway", "stock")])).Calls;

        after.Take(3).Should().BeEquivalentTo(before, options => options.WithStrictOrdering(), "only what has changed is written again");
    }
}
