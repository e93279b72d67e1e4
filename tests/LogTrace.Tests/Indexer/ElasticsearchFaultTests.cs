using System.Globalization;
using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Xunit.Abstractions;

namespace LogTrace.Tests.Indexer;

/// <summary>Whatever a server or what lies before it answers: every record is stored once or refused with its reason, and counted so.</summary>
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
        var seed = Environment.TickCount;
        output.WriteLine($"seed {seed}");
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
        };

        var problems = options.Validate();

        problems.Should().HaveCount(12).And.OnlyContain(problem => problem.StartsWith("Elasticsearch:") && problem.EndsWith('.'));
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
