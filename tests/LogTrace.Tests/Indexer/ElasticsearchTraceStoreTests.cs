using System.Globalization;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Indexer;

/// <summary>The contract on a real server. Every test has indices of its own, which go at its end.</summary>
public abstract class ElasticsearchTraceStoreContract(string engine) : TraceStoreContract, IAsyncLifetime
{
    readonly string _prefix = $"lt-{Guid.NewGuid():N}";

    readonly List<ElasticsearchTraceStore> _stores = [];

    protected override async Task<ITraceStore> OpenAsync() => await OpenAsync(5000);

    async Task<ElasticsearchTraceStore> OpenAsync(int fewTraces, int? keepDays = null)
    {
        var options = new ElasticsearchOptions { Urls = [await RealEngines.ElasticsearchAsync(engine)], IndexPrefix = _prefix, Gzip = true, KeepDays = keepDays };
        var store = new ElasticsearchTraceStore(options, Clock) { FewTraces = fewTraces };
        _stores.Add(store);
        await store.OpenAsync(default);
        return store;
    }

    [ContractFact]
    public async Task Old_days_are_deleted_where_the_server_does_not_do_it_and_late_writes_keep_them()
    {
        // The server's clock, which says when an index was made, cannot be set: so the test takes place today.
        var now = new DateTimeOffset(DateTime.UtcNow.Date.AddHours(12), TimeSpan.Zero);
        Clock.SetUtcNow(now);
        await using var store = await OpenAsync(5000, keepDays: 30);
        await store.WriteAsync([Some.Record("imported", at: now.AddDays(-300), ingested: now), Some.Record("far-off", at: now.AddDays(-3_000), ingested: now), Some.Record("today", at: now, ingested: now), Some.Record("yesterday", at: now.AddDays(-1), ingested: now)], default);
        await store.WriteChainsAsync([Chain("today", now) with { Calls = [Call("today", "1.2")] }, Chain("imported", now.AddDays(-300))], default);
        await SettleAsync();

        Clock.Advance(TimeSpan.FromDays(29));
        await store.WriteAsync([Some.Record("imported", "1.2", now.AddDays(-300), ingested: now.AddDays(29))], default);
        (await store.CountAsync(default)).Should().Be(new StoreCounts(5, 2), "nothing is old enough");
        Clock.Advance(TimeSpan.FromDays(2) + TimeSpan.FromHours(8));
        await store.WriteAsync([Some.Record("later", at: now.AddDays(31), ingested: now.AddDays(31))], default);

        (await store.GetTraceAsync("imported", default)).Should().HaveCount(2, "its day was written to a moment ago");
        foreach (var gone in (string[])["far-off", "today", "yesterday"]) (await store.GetTraceAsync(gone, default)).Should().BeEmpty();
        (await store.GetChainAsync("today", default)).Should().BeNull();
        (await store.GetChainAsync("imported", default)).Should().NotBeNull();
        (await store.GetTraceAsync("later", default)).Should().ContainSingle();
    }

    [ContractFact]
    public async Task Calls_are_as_in_the_whole_chain_although_who_had_added_others_of_them_is_gone()
    {
        var call = Call("t-1", "1.2");
        await using (var one = await OpenAsync(5000)) (await one.AddChainsAsync([Chain("t-1", records: 8) with { Calls = [call] }], default)).Should().BeEmpty();
        // Has read other records of the trace, more of them, and ends before it comes to the whole.
        await using (var other = await OpenAsync(5000)) (await other.AddChainsAsync([Chain("t-1", records: 12) with { Calls = [call with { LossState = "placeholder" }] }], default)).Should().Equal("t-1");

        await using var third = await OpenAsync(5000);
        await third.WriteChainsAsync([Chain("t-1", records: 20) with { Calls = [call] }], default);

        await SettleAsync();
        (await third.GetChainAsync("t-1", default))!.Calls.Should().ContainSingle().Which.LossState.Should().Be("none");
    }

    [ContractFact]
    public async Task Chain_is_not_added_over_calls_that_a_crash_left_without_theirs()
    {
        using var http = new HttpClient { BaseAddress = new Uri(await RealEngines.ElasticsearchAsync(engine)) };
        var call = Call("t-1", "1.2");
        await using (var one = await OpenAsync(5000)) await one.AddChainsAsync([Chain("t-1", records: 12) with { Calls = [call with { LossState = "placeholder" }] }], default);
        (await http.PostAsync($"/{_prefix}-chains-*/_refresh", null)).EnsureSuccessStatusCode();
        using var found = System.Text.Json.JsonDocument.Parse(await http.GetStringAsync($"/{_prefix}-chains-*/_search?_source=false"));
        var chain = found.RootElement.GetProperty("hits").GetProperty("hits")[0];
        (await http.DeleteAsync($"/{chain.GetProperty("_index").GetString()}/_doc/{chain.GetProperty("_id").GetString()}?refresh=true")).EnsureSuccessStatusCode();

        await using var other = await OpenAsync(5000);
        (await other.AddChainsAsync([Chain("t-1", records: 8) with { Calls = [call] }], default)).Should().Equal("t-1");
        await other.WriteChainsAsync([Chain("t-1", records: 20) with { Calls = [call] }], default);

        await SettleAsync();
        (await other.GetChainAsync("t-1", default))!.Calls.Should().ContainSingle().Which.LossState.Should().Be("none");
    }

    [ContractFact]
    public async Task Settings_of_the_owner_win_and_are_never_written_again()
    {
        using var http = new HttpClient { BaseAddress = new Uri(await RealEngines.ElasticsearchAsync(engine)) };
        await (await OpenAsync(5000)).DisposeAsync();
        using var own = new StringContent("""{"template":{"settings":{"index.refresh_interval":"7s","index.number_of_shards":2}}}""", System.Text.Encoding.UTF8, "application/json");
        (await http.PutAsync($"/_component_template/{_prefix}-custom", own)).EnsureSuccessStatusCode();

        await using var store = await OpenAsync(5000);
        await store.WriteAsync([Some.Record("t-1")], default);

        var settings = await http.GetStringAsync($"/{_prefix}-records-*/_settings?flat_settings=true");
        settings.Should().Contain("\"index.refresh_interval\":\"7s\"").And.Contain("\"index.number_of_shards\":\"2\"").And.Contain("\"index.translog.durability\":\"request\"");
    }

    // Longer than any term that Lucene takes.
    protected override IndexedRecord RecordThatIsRefused => new()
    {
        Record = new TraceRecord { Name = "log.info", TraceId = new string('x', 40_000), TimestampMicros = StoreRecords.Micros(Now) },
        RecordId = 7,
        SourceFile = "long.log",
    };

    [ContractFact]
    public async Task Words_that_most_traces_have_are_found_too()
    {
        await using var store = await OpenAsync(2);
        await store.WriteAsync([.. Enumerable.Range(0, 8).Select(i => Some.Record($"t-{i}", msg: i % 2 == 0 ? "it went well" : "it went wrong"))], default);
        await store.WriteChainsAsync([.. Enumerable.Range(0, 8).Select(i => Chain($"t-{i}", Now.AddDays(-i)))], default);

        (await store.FindChainsAsync(new TraceQuery { Text = "WENT well" }, default)).Select(chain => chain.TraceId).Should().Equal("t-0", "t-2", "t-4", "t-6");
        (await store.FindChainsAsync(new TraceQuery { Text = "well", Limit = 2 }, default)).Select(chain => chain.TraceId).Should().Equal("t-0", "t-2");
        (await store.FindChainsAsync(new TraceQuery { Text = "went", ToMicros = StoreRecords.Micros(Now.AddDays(-6)) }, default)).Select(chain => chain.TraceId).Should().Equal("t-7");
    }

    [ContractFact]
    public async Task Chain_that_two_instances_began_stays_in_the_older_index_alone()
    {
        await using var store = await OpenAsync(5000);
        await store.WriteAsync([Some.Record("t-1"), Some.Record("t-1", "1.2")], default);
        await store.WriteChainsAsync([Chain("t-1", Now, records: 1) with { Calls = [Call("t-1", "1.2"), Call("t-1", "1.3")] }], default);
        await ElasticsearchIndices.CopyAsync(await RealEngines.ElasticsearchAsync(engine), $"{_prefix}-chains-2026.11.23", $"{_prefix}-chains-2026.11.20", """{"record_count":2}""");
        (await store.CountAsync(default)).Chains.Should().Be(2);
        (await store.GetChainAsync("t-1", default))!.RecordCount.Should().Be(2, "readers take the higher one until the next check");

        (await store.FindStaleTracesAsync(0, default)).Should().BeEmpty();

        (await store.CountAsync(default)).Chains.Should().Be(1);
        var kept = await store.GetChainAsync("t-1", default);
        (kept!.RecordCount, kept.Calls.Count).Should().Be((2, 0), "its calls were those of the other");
        await store.WriteChainsAsync([Chain("t-1", Now, records: 3) with { Calls = [Call("t-1", "1.2")] }], default);
        (await store.CountAsync(default)).Chains.Should().Be(1);
        (await store.GetChainAsync("t-1", default))!.Calls.Should().ContainSingle();
    }

    [ContractFact]
    public async Task A_trace_of_many_pages_is_read_whole_also_where_records_agree_in_time_and_place()
    {
        await using var store = await OpenAsync(5000);
        var records = new List<IndexedRecord>();
        for (var i = 0; i < 3_600; i++)
        {
            // More than a page that agree, a pair at nearly every place where a page could end, and the rest by themselves.
            var (second, offset) = i < 1_300 ? (1, 7) : (i / 2, i / 2);
            var record = Some.Record("t-1", "1.2", Now.AddSeconds(second - 1_000_000), msg: i.ToString(CultureInfo.InvariantCulture));
            records.Add(new IndexedRecord { Record = record.Record, RecordId = record.RecordId, LineHash = record.LineHash, SourceFile = record.SourceFile, SourceOffset = offset, IngestedMicros = record.IngestedMicros, StartMicros = record.StartMicros });
        }

        await store.WriteAsync(records, default);

        (await store.GetTraceAsync("t-1", default)).Select(record => record.RecordId).Should().BeEquivalentTo(records.Select(record => record.RecordId));
    }

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync()
    {
        await ElasticsearchIndices.DeleteAsync(await RealEngines.ElasticsearchAsync(engine), _prefix);
        _stores.SelectMany(store => store.Warnings).Should().BeEmpty("what a server warns of, the next one refuses");
    }
}

[NeedsEngine("elasticsearch7")]
public sealed class Elasticsearch7TraceStoreTests() : ElasticsearchTraceStoreContract(RealEngines.Elasticsearches[0]);

[NeedsEngine("opensearch2")]
public sealed class OpenSearch2TraceStoreTests() : ElasticsearchTraceStoreContract("opensearch2");

[NeedsEngine("elasticsearch8")]
public sealed class Elasticsearch8TraceStoreTests() : ElasticsearchTraceStoreContract("elasticsearch8");
