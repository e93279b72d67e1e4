using System.Text;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Indexer;

/// <summary>Rules of keeping: whole chains, decided when they are quiet.</summary>
public sealed class KeepTests : IAsyncLifetime
{
    static readonly SourceFile File = new("host-1", 42, "/var/log/shop.log");
    readonly TempFolder _folder = new();
    SqliteTraceStore _store = null!;
    long _offset;

    static IndexerOptions Options(KeepOptions? keep) => new()
    {
        ChainQuiet = TimeSpan.FromMilliseconds(20),
        ChainMaxWait = TimeSpan.FromMilliseconds(100),
        RetryFirst = TimeSpan.FromMilliseconds(1),
        Keep = keep,
    };

    static readonly KeepOptions Nothing = new() { Share = 0, DecideAfter = TimeSpan.FromMilliseconds(200) };

    public async Task InitializeAsync()
    {
        _store = new SqliteTraceStore(new SqliteStoreOptions { Directory = _folder["store"] });
        await _store.OpenAsync(default);
    }

    public async Task DisposeAsync()
    {
        await _store.DisposeAsync();
        _folder.Dispose();
    }

    [Fact]
    public async Task Chains_with_errors_slow_ones_and_debug_stay_and_of_the_rest_a_marker()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, Options(Nothing with { SlowerThan = TimeSpan.FromSeconds(1) }));
        var running = pipeline.RunAsync(default);
        string[] lines =
        [
            Line("plain", "1.1"), Line("plain", "1.2", "mysql.request"), Line("failed", "1.1"), Line("failed", "1.2", "mysql.request.error"), Line("alarm", "1.1"), Line("alarm", "1.1", "log.alarm"),
            Line("slow", "1.1", duration: 1.5), Line("debug", "1.1", debug: true), "nonsense",
        ];
        await transport.Writer.WriteAsync(Batch(lines), default).Within();
        await Eventually.HoldsAsync(() => pipeline.Metrics.ChainsDropped == 1, "the plain one is dropped");

        (await _store.GetChainAsync("plain", default))!.Dropped.Should().BeTrue();
        (await _store.GetTraceAsync("plain", default)).Should().BeEmpty();
        foreach (var kept in (string[])["failed", "alarm", "slow", "debug"]) (await _store.GetChainAsync(kept, default)).Should().Match<ChainDocument>(chain => !chain.Dropped && chain.UndecidedSince == null && chain.RecordCount > 0, kept);

        // Late records of it, and of one that stays; and the same again, as after a crash.
        await transport.Writer.WriteAsync(Batch(Line("plain", "1.3", "redis.request"), Line("failed", "1.3", "redis.request")), default).Within();
        _offset = 0;
        await transport.Writer.WriteAsync(Batch(lines), default).Within();
        await pipeline.FlushChainsAsync(default).Within();
        transport.Complete();
        await running.Within();

        pipeline.Metrics.Balance.Should().Be(new IndexerBalance(20, 9, 6, 2) { Dropped = 3 });
        pipeline.Metrics.Balance.Balances.Should().BeTrue();
        pipeline.Metrics.RecordsRemoved.Should().Be(2);
        (await _store.CountAsync(default)).Should().Be(new StoreCounts(7, 4));
        (await _store.GetChainAsync("failed", default))!.RecordCount.Should().Be(3);
        (await _store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
    }

    [Fact]
    public async Task Start_decides_on_what_the_last_run_left_undecided()
    {
        await RunAsync(Options(Nothing with { DecideAfter = TimeSpan.FromHours(1) }), Line("plain", "1.1"), Line("failed", "1.1", "request.info.error"));
        (await _store.GetChainAsync("plain", default)).Should().Match<ChainDocument>(chain => chain.UndecidedSince > 0 && !chain.Dropped, "it is not quiet for an hour");

        await RunAsync(Options(Nothing), async pipeline => await Eventually.HoldsAsync(async () => (await _store.GetChainAsync("plain", default))!.Dropped, "the next run decides"));

        (await _store.GetTraceAsync("plain", default)).Should().BeEmpty();
    }

    [Fact]
    public async Task Records_that_another_instance_stores_while_one_decides_go_with_the_chain()
    {
        await RunAsync(Options(Nothing), async pipeline => await Eventually.HoldsAsync(() => pipeline.Metrics.ChainsDropped == 1, "it is dropped"), Line("plain", "1.1"));

        // It had asked before the marker was there; its own chain is refused, and the next check finds the record.
        var some = new StoreRecords(DateTimeOffset.UtcNow);
        await _store.WriteAsync([some.Record("plain", "1.2")], default);
        await _store.WriteChainsAsync([new ChainDocument { TraceId = "plain", RecordCount = 2, StartMicros = StoreRecords.Micros(some.Now) }], default);

        // Also when nobody has rules any more.
        await RunAsync(Options(null));

        (await _store.GetTraceAsync("plain", default)).Should().BeEmpty();
        (await _store.GetChainAsync("plain", default))!.Dropped.Should().BeTrue();
        (await _store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
    }

    [Fact]
    public async Task Without_rules_nothing_is_undecided_and_a_share_is_chosen_by_trace_id_alone()
    {
        await RunAsync(Options(null), Line("plain", "1.1"));
        (await _store.GetChainAsync("plain", default))!.UndecidedSince.Should().BeNull();

        var chains = Enumerable.Range(0, 10_000).Select(i => new ChainDocument { TraceId = $"{i:x32}" }).ToList();
        var tenth = chains.Where(new KeepOptions { Share = 0.1 }.Keeps).ToHashSet();
        tenth.Count.Should().BeInRange(850, 1_150);
        chains.Where(new KeepOptions { Share = 0.2 }.Keeps).Should().Contain(tenth, "a larger share has all of a smaller one");
        chains.Should().OnlyContain(chain => new KeepOptions().Keeps(chain), "nothing is dropped that nobody asked to drop");
        new IndexerOptions { Keep = new KeepOptions { Share = 2, SlowerThan = TimeSpan.FromDays(2), DecideAfter = TimeSpan.Zero } }.Validate().Should().HaveCount(3).And.OnlyContain(problem => problem.StartsWith("Indexer:Keep:"));
    }

    Task RunAsync(IndexerOptions options, params string[] lines) => RunAsync(options, _ => Task.CompletedTask, lines);

    async Task RunAsync(IndexerOptions options, Func<IndexerPipeline, Task> until, params string[] lines)
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, options);
        var running = pipeline.RunAsync(default);
        if (lines.Length > 0) await transport.Writer.WriteAsync(Batch(lines), default).Within();
        await pipeline.FlushChainsAsync(default).Within();
        await until(pipeline);
        transport.Complete();
        await running.Within();
    }

    RecordBatch Batch(params string[] lines)
    {
        var batch = new RecordBatch();
        foreach (var line in lines)
        {
            var bytes = Encoding.UTF8.GetBytes(line);
            batch.Add(bytes, File, _offset);
            _offset += bytes.Length + 1;
        }

        return batch;
    }

    static readonly long Seconds = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    static string Line(string traceId, string rpcId, string name = "request.info", double duration = 0.01, bool? debug = null) => StoreRecords.Line(new Dictionary<string, object?>
    {
        ["name"] = name,
        ["trace_id"] = traceId,
        ["rpc_id"] = rpcId,
        ["timestamp"] = Seconds,
        ["service"] = "orders",
        ["action"] = "GET /",
        ["duration"] = duration,
        ["debug"] = debug,
    });
}
