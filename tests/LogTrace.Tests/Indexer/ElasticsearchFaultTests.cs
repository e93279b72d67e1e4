using System.Globalization;
using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Transport;
using LogTrace.Tests.Support;
using Xunit.Abstractions;

namespace LogTrace.Tests.Indexer;

/// <summary>Whatever a server or what lies before it answers: every record is stored once or refused with its reason, and counted so.</summary>
[Trait("Fault", "8")]
public sealed class ElasticsearchFaultTests(ITestOutputHelper output) : IAsyncLifetime
{
    readonly StoreRecords _some = new(DateTimeOffset.UtcNow);
    FakeElasticsearch _server = null!;

    public async Task InitializeAsync() => _server = await FakeElasticsearch.StartAsync();

    public async Task DisposeAsync() => await _server.DisposeAsync();

    ElasticsearchOptions Options => new() { Urls = [_server.Url], BulkBytes = 4 << 10, GiveUpAfter = TimeSpan.FromSeconds(20) };

    [Fact]
    public async Task Items_that_come_too_early_are_sent_again_alone()
    {
        await using var store = new ElasticsearchTraceStore(Options with { BulkBytes = 1 << 20 });
        var records = Records(10);
        var early = records.Take(3).Select(Id).ToHashSet();
        _server.Item = (id, before) => !early.Contains(id) ? null : before switch { 0 => (429, "es_rejected_execution_exception"), 1 => (503, "unavailable_shards_exception"), _ => null };

        Figures(await store.WriteAsync(records, default)).Should().Be((10, 0, 0));

        _server.Bulks.Should().Equal(10, 3, 3);
        _server.Documents.Should().HaveCount(10);
    }

    /// <summary>The short way of reading an answer: for nothing but the plain yes to every item.</summary>
    [Theory]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}},{"index":{"status":200}}]}""", true)]
    [InlineData("""{"errors":false,"items":[{"delete":{"status":200}},{"create":{"status":201}}]}""", false)]
    [InlineData("""{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":201}}]}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":409}}]}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}},{"delete":{"status":404}}]}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201,"error":{"type":"x"}}},{"create":{"status":201}}]}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}}]}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}},{"create":{"status":201}}]}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":2011}}]}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}""", false)]
    [InlineData("""{"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]} """, false)]
    [InlineData("""{"took":1,"errors":false,"items":[{"create":{"status":201}},{"create":{"status":201}}]}""", false)]
    [InlineData("", false)]
    public void An_answer_is_read_in_short_only_when_every_item_was_carried_out_and_nothing_else_is_said(string answer, bool isShort) =>
        ElasticsearchBulk.AreAllDone(System.Text.Encoding.UTF8.GetBytes(answer), 2).Should().Be(isShort);

    [Fact]
    public async Task Refused_items_come_back_with_their_reason()
    {
        await using var store = new ElasticsearchTraceStore(Options);
        var records = Records(50);
        var bad = records.Where((_, i) => i % 7 == 0).ToList();
        var badIds = bad.Select(Id).ToHashSet();
        _server.Item = (id, _) => badIds.Contains(id) ? (400, "mapper_parsing_exception") : null;

        var result = await store.WriteAsync([.. records, bad[0]], default);

        result.Stored.Should().Be(50 - bad.Count);
        result.Refused.Select(refused => refused.Record).Should().BeEquivalentTo([.. bad, bad[0]]);
        result.Refused.Should().OnlyContain(refused => refused.Reason.StartsWith("mapper_parsing_exception: as told ("));
        _server.Documents.Keys.Should().NotContain(badIds);
    }

    [Fact]
    public async Task Item_that_no_shard_has_memory_for_is_refused()
    {
        await using var store = new ElasticsearchTraceStore(Options);
        var records = Records(6);
        _server.Reason = "rejected execution of primary operation [primary_operation_bytes=70, max_coordinating_and_primary_bytes=50]";
        _server.Item = (id, _) => id == Id(records[4]) ? (429, "es_rejected_execution_exception") : null;

        var result = await store.WriteAsync(records, default);

        Figures(result).Should().Be((5, 0, 1));
        result.Refused[0].Reason.Should().Contain("primary_operation_bytes=70");
    }

    [Fact]
    public async Task State_of_the_cluster_is_no_reason_to_refuse_a_record()
    {
        await using var store = new ElasticsearchTraceStore(Options);
        _server.Item = (_, before) => before == 0 ? (400, "validation_exception") : before == 1 ? (403, "cluster_block_exception") : null;

        Figures(await store.WriteAsync(Records(5), default)).Should().Be((5, 0, 0));
    }

    [Fact]
    public async Task Records_that_are_there_are_duplicates()
    {
        var records = Records(40);
        await using (var store = new ElasticsearchTraceStore(Options)) await store.WriteAsync(records, default);

        await using var again = new ElasticsearchTraceStore(Options);
        Figures(await again.WriteAsync([.. records, .. Records(2)], default)).Should().Be((2, 40, 0));
    }

    [Theory]
    [InlineData(413)]
    [InlineData(429)]
    public async Task Request_that_is_too_large_is_split_down_to_the_record_that_is(int status)
    {
        await using var store = new ElasticsearchTraceStore(Options with { BulkBytes = 1 << 20 });
        if (status == 413) _server.MaxBodyBytes = 5_000;
        else _server.MemoryBytes = 5_000;
        var large = _some.Record("t-1", msg: new string('x', 6_000));

        var result = await store.WriteAsync([.. Records(30), large, .. Records(3)], default);

        Figures(result).Should().Be((33, 0, 1));
        result.Refused[0].Record.Should().BeSameAs(large);
        result.Refused[0].Reason.Should().Contain($"HTTP {status}").And.Contain("bytes)");
        _server.Documents.Should().HaveCount(33);
    }

    [Theory]
    [InlineData(BulkFault.ResetBefore)]
    [InlineData(BulkFault.ResetAfter)]
    [InlineData(BulkFault.CutBody)]
    [InlineData(BulkFault.BrokenJson)]
    [InlineData(BulkFault.ProxyPage)]
    [InlineData(BulkFault.ItemMissing)]
    [InlineData(BulkFault.TooMany)]
    [InlineData(BulkFault.Unavailable)]
    public async Task Request_without_a_whole_answer_is_repeated_and_counted_once(BulkFault fault)
    {
        await using var store = new ElasticsearchTraceStore(Options);
        _server.Faults.Enqueue(fault);
        _server.Faults.Enqueue(fault);

        Figures(await store.WriteAsync(Records(30), default)).Should().Be((30, 0, 0));

        _server.Documents.Should().HaveCount(30);
    }

    [Theory]
    [InlineData(BulkFault.ResetAfter)]
    [InlineData(BulkFault.Unavailable)]
    public async Task Write_that_gave_up_is_written_again_and_counted_once(BulkFault fault)
    {
        await using var store = new ElasticsearchTraceStore(Options with { BulkBytes = 1 << 20, GiveUpAfter = TimeSpan.Zero });
        var records = Records(20);
        _server.Faults.Enqueue(fault);

        var write = () => store.WriteAsync(records, default);
        (await write.Should().ThrowAsync<StoreUnavailableException>()).Which.Message.Should().Contain("POST /_bulk");

        Figures(await store.WriteAsync(records, default)).Should().Be((20, 0, 0));
        Figures(await store.WriteAsync(records, default)).Should().Be((0, 20, 0));
        _server.Documents.Should().HaveCount(20);
    }

    [Fact]
    public async Task Random_faults_lose_nothing_and_double_nothing()
    {
        var seed = TestSeed.Given ?? Environment.TickCount;
        output.WriteLine($"LOGTRACE_TEST_SEED={seed}");
        var random = new Random(seed);
        var records = Records(400);
        var refusedIds = records.Where(_ => random.Next(20) == 0).Select(Id).ToHashSet();
        var early = records.Where(_ => random.Next(5) == 0).Select(Id).ToHashSet();
        _server.Item = (id, before) =>
            refusedIds.Contains(id) ? (400, "mapper_parsing_exception") : early.Contains(id) && before < 2 ? (429, "es_rejected_execution_exception") : null;
        for (var i = 0; i < 25; i++) _server.Faults.Enqueue((BulkFault)random.Next((int)BulkFault.Unauthorized));
        // All faults may meet one batch, and each is waited for longer than the last.
        await using var store = new ElasticsearchTraceStore(Options with { GiveUpAfter = TimeSpan.FromMinutes(5) });

        int stored = 0, duplicates = 0;
        var refused = new HashSet<string>();
        foreach (var batch in records.Chunk(80))
        {
            var result = await store.WriteAsync(batch, default);
            stored += result.Stored;
            duplicates += result.Duplicates;
            refused.UnionWith(result.Refused.Select(item => Id(item.Record)));
        }

        (stored, duplicates).Should().Be((400 - refusedIds.Count, 0));
        refused.Should().BeEquivalentTo(refusedIds);
        _server.Documents.Keys.Should().BeEquivalentTo(records.Select(Id).Except(refusedIds));
    }

    [Fact]
    public async Task Second_address_is_asked_when_the_first_does_not_answer()
    {
        await using var store = new ElasticsearchTraceStore(Options with { Urls = ["http://127.0.0.1:9", _server.Url] });

        Figures(await store.WriteAsync(Records(3), default)).Should().Be((3, 0, 0));
    }

    [Fact]
    public async Task Refused_credentials_say_what_to_check()
    {
        await using var store = new ElasticsearchTraceStore(Options with { ApiKey = "c2VjcmV0" });
        _server.Faults.Enqueue(BulkFault.Unauthorized);

        var write = () => store.WriteAsync(Records(1), default);

        (await write.Should().ThrowAsync<StoreUnavailableException>()).Which.Message.Should().Contain("Elasticsearch:ApiKey").And.NotContain("c2VjcmV0");
        _server.Authorizations.Should().Equal("ApiKey c2VjcmV0");
    }

    [Fact]
    public async Task Server_that_is_not_there_is_unavailable()
    {
        await using var store = new ElasticsearchTraceStore(Options with { Urls = ["http://127.0.0.1:9"], GiveUpAfter = TimeSpan.Zero });

        await store.Invoking(it => it.OpenAsync(default)).Should().ThrowAsync<StoreUnavailableException>();
        await store.Invoking(it => it.GetTraceAsync("t-1", default)).Should().ThrowAsync<StoreUnavailableException>();
        await store.Invoking(it => it.WriteAsync(Records(1), default)).Should().ThrowAsync<StoreUnavailableException>();
    }

    [Fact]
    [Trait("Fault", "30")]
    public async Task Records_that_are_all_refused_are_all_set_aside_and_none_is_sent_again()
    {
        using var folder = new TempFolder();
        _server.Item = (_, _) => (400, "mapper_parsing_exception");
        await using var store = new ElasticsearchTraceStore(Options with { BulkBytes = 1 << 20 });
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, new IndexerOptions { ChainQuiet = TimeSpan.FromMinutes(1), ChainMaxWait = TimeSpan.FromMinutes(1), DrainLimit = TimeSpan.Zero });
        using var stop = new CancellationTokenSource();
        var running = pipeline.RunAsync(stop.Token);
        for (var batch = 0; batch < 10; batch++)
        {
            var lines = new RecordBatch();
            for (var i = 0; i < 200; i++) lines.Add(System.Text.Encoding.UTF8.GetBytes($"{{\"trace_id\":\"t-{batch}\",\"rpc_id\":\"1.{i + 1}\",\"timestamp\":{DateTimeOffset.UtcNow.ToUnixTimeSeconds()}}}"), new SourceFile("host-1", 1, "app.log"), (batch * 200) + i);
            await transport.Writer.WriteAsync(lines, default).Within();
        }

        pipeline.Metrics.Balance.Should().Be(new IndexerBalance(2_000, 0, 0, 2_000));
        pipeline.Metrics.SetAsideReasons.Should().ContainSingle().Which.Key.Should().StartWith("the store refused it: mapper_parsing_exception");
        _server.Bulks.Sum().Should().Be(2_000, "each is asked for once");
        File.ReadAllLines(folder["dead-letter"]).Should().HaveCount(2_000);
        await stop.CancelAsync();
        await running.Within();
    }

    [Fact]
    public async Task Bulks_are_compressed_when_asked_for_and_else_for_other_machines_only()
    {
        await using (var store = new ElasticsearchTraceStore(Options with { Gzip = true })) Figures(await store.WriteAsync(Records(50), default)).Should().Be((50, 0, 0));
        _server.Encodings.Should().NotBeEmpty().And.OnlyContain(encoding => encoding == "gzip");
        _server.Documents.Should().HaveCount(50);

        // What is sent again is compressed anew: only what is left.
        _server.Item = (_, seen) => seen == 0 ? (429, "es_rejected_execution_exception") : null;
        await using (var store = new ElasticsearchTraceStore(Options with { Gzip = true })) Figures(await store.WriteAsync([_some.Record("t-2"), _some.Record("t-2", "1.2")], default)).Should().Be((2, 0, 0));

        new ElasticsearchOptions { Urls = ["http://127.0.0.1:9200", "https://localhost:9200"] }.Compresses.Should().BeFalse();
        new ElasticsearchOptions { Urls = ["http://127.0.0.1:9200", "http://es:9200"] }.Compresses.Should().BeTrue();
        new ElasticsearchOptions { Urls = ["http://es:9200"], Gzip = false }.Compresses.Should().BeFalse();
    }

    [Fact]
    public async Task Server_with_lifecycle_management_deletes_by_its_own_policy()
    {
        _server.Other = (method, path) => (method, path) switch
        {
            ("GET", "/_ilm/policy") => (200, "{}"),
            ("GET", "/_ilm/policy/logtrace") => (200, """{"logtrace":{"version":3,"policy":{"phases":{"warm":{"min_age":"2d","actions":{"forcemerge":{"max_num_segments":1}}},"delete":{"min_age":"90d","actions":{"delete":{}}}}}}}"""),
            _ => null,
        };
        await using var store = new ElasticsearchTraceStore(Options with { KeepDays = 14 });

        (await store.PrepareAsync(lookOnly: true, default)).Should().Contain(new InstalledPart(PartState.Outdated, "lifecycle policy logtrace", "deletes a day's indices after 14d is due"));
        _server.Changes.Should().BeEmpty();
        (await store.PrepareAsync(lookOnly: false, default)).Should().Contain(new InstalledPart(PartState.Renewed, "lifecycle policy logtrace", "deletes a day's indices after 14d"));

        var policy = Body("PUT", "/_ilm/policy/logtrace");
        policy.Should().Contain("\"min_age\":\"14d\"").And.Contain("forcemerge", "phases of its owner stay");
        Body("PUT", "/_component_template/logtrace-lifecycle").Should().Contain("\"index.lifecycle.name\":\"logtrace\"");
        Body("PUT", "/_index_template/logtrace-chains").Should().Contain("\"composed_of\":[\"logtrace-settings\",\"logtrace-lifecycle\",\"logtrace-custom\"]");
        Body("PUT", "/logtrace-records-*.*.*,logtrace-chains-*.*.*,logtrace-calls-*.*.*/_settings").Should().Contain("\"index.lifecycle.name\":\"logtrace\"");
        Body("PUT", "/logtrace-records-overflow,").Should().Contain("\"index.lifecycle.name\":null", "it is written to for ever");
        _server.Changes.Should().NotContain(change => change.Method == "DELETE");
    }

    [Fact]
    public async Task Server_with_state_management_deletes_by_its_own_policy_and_never_sees_the_other_setting()
    {
        _server.Other = (method, path) => (method, path) switch
        {
            ("GET", "/_ilm/policy") => (400, """{"error":"no handler found for uri [/_ilm/policy] and method [GET]"}"""),
            ("GET", "/_plugins/_ism/policies?size=1") => (200, """{"policies":[]}"""),
            ("GET", "/_plugins/_ism/policies/logtrace") => (200, """{"_id":"logtrace","_seq_no":7,"_primary_term":2,"policy":{"states":[{"transitions":[{"conditions":{"min_index_age":"30d"}}]}]}}"""),
            ("PUT", "/_plugins/_ism/policies/logtrace?if_seq_no=7&if_primary_term=2") => (200, "{}"),
            _ => null,
        };
        await using var store = new ElasticsearchTraceStore(Options with { KeepDays = 14 });
        await store.OpenAsync(default);

        Body("PUT", "/_plugins/_ism/policies/logtrace?if_seq_no=7&if_primary_term=2").Should().Contain("\"min_index_age\":\"14d\"").And.Contain("logtrace-records-*.*.*");
        Body("POST", "/_plugins/_ism/add/logtrace-records-*.*.*").Should().Contain("\"policy_id\":\"logtrace\"");
        _server.Changes.Should().NotContain(change => change.Body.Contains("index.lifecycle"));
    }

    [Fact]
    public async Task Preparing_twice_changes_nothing()
    {
        var kept = new Dictionary<string, string>();
        _server.Other = (method, path) =>
        {
            if (method == "PUT") kept[path] = _server.Changes.Last().Body;
            if (method != "GET" || !kept.TryGetValue(path, out var body)) return null;
            var (list, one) = path.StartsWith("/_index_template", StringComparison.Ordinal) ? ("index_templates", "index_template") : ("component_templates", "component_template");
            return (200, $$"""{"{{list}}":[{"name":"x","{{one}}":{{body}}}]}""");
        };
        await using var store = new ElasticsearchTraceStore(Options);

        (await store.PrepareAsync(lookOnly: true, default)).Should().HaveCount(6).And.OnlyContain(part => part.State == PartState.Missing);
        _server.Changes.Should().BeEmpty();
        (await store.PrepareAsync(lookOnly: false, default)).Should().HaveCount(6).And.OnlyContain(part => part.State == PartState.Made);
        (await store.PrepareAsync(lookOnly: false, default)).Should().HaveCount(6).And.OnlyContain(part => part.State == PartState.Current);
    }

    [Fact]
    public async Task Who_only_looks_changes_nothing_on_the_server()
    {
        _server.Other = (_, path) => path.Contains("/_search", StringComparison.Ordinal) ? (200, """{"hits":{"total":{"value":0},"hits":[]}}""") : null;
        await using var store = new ElasticsearchTraceStore(Options with { ReadOnly = true });
        await store.OpenAsync(default);

        _server.Changes.Should().OnlyContain(change => change.Path.Contains("/_search"));
    }

    string Body(string method, string pathStart) => _server.Changes.Where(change => change.Method == method && change.Path.StartsWith(pathStart, StringComparison.Ordinal)).Select(change => change.Body).Should().ContainSingle($"{method} {pathStart} is one of {string.Join(", ", _server.Changes.Select(change => change.Method + " " + change.Path))}").Subject;

    [Fact]
    public void Options_name_all_problems_at_once()
    {
        new ElasticsearchOptions().Validate().Should().BeEmpty();
        var options = new ElasticsearchOptions
        {
            Urls = ["localhost:9200", "http://me:secret@es:9200"],
            User = "me",
            ApiKey = "key",
            CaFile = "/no/such/file.pem",
            IndexPrefix = "Logs*",
            BulkBytes = 0,
            BulksInFlight = 0,
            Timeout = TimeSpan.Zero,
            GiveUpAfter = TimeSpan.FromDays(1),
            OverflowAfterDays = 0,
            OverflowAheadDays = 0,
            CertificateFingerprint = "ab:cd",
            KeepDays = 0,
        };

        var problems = options.Validate();

        problems.Should().HaveCount(15).And.OnlyContain(problem => problem.StartsWith("Elasticsearch:") && problem.EndsWith('.'));
        string.Join(' ', problems).Should().NotContain("secret");
        FluentActions.Invoking(() => new ElasticsearchTraceStore(options)).Should().Throw<ArgumentException>();
    }

    [Fact]
    public async Task Everything_in_a_document_has_a_mapping()
    {
        await using var store = new ElasticsearchTraceStore(Options);
        await store.WriteAsync([_some.FullRecord("t-1", "value"), _some.Record(null)], default);
        using var stream = typeof(ElasticsearchTraceStore).Assembly.GetManifestResourceStream("LogTrace.Indexer.Store.index-template-records.json")!;
        using var template = JsonDocument.Parse(stream);
        var mapped = template.RootElement.GetProperty("template").GetProperty("mappings").GetProperty("properties").EnumerateObject().Select(property => property.Name).ToList();

        mapped.Should().Contain(RecordFields.All.Select(field => field.WireName));
        foreach (var document in _server.Documents.Values) mapped.Should().Contain(document.AsObject().Select(member => member.Key));
    }

    List<IndexedRecord> Records(int count) => [.. Enumerable.Range(1, count).Select(i => _some.Record("t-1", $"1.{i}"))];

    static string Id(IndexedRecord record) => record.RecordId.ToString("x32", CultureInfo.InvariantCulture);

    static (int Stored, int Duplicates, int Refused) Figures(WriteResult result) => (result.Stored, result.Duplicates, result.Refused.Count);
}
