using System.Text;
using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Indexer;

public sealed class IndexerPipelineTests : IAsyncLifetime
{
    static readonly DateTimeOffset Now = DateTimeOffset.UtcNow;
    readonly TempFolder _folder = new();
    readonly SourceFile _file = new("host-1", 42, "/var/log/shop.log");
    SqliteTraceStore _store = null!;
    long _offset;

    IndexerOptions Options => new()
    {
        ChainQuiet = TimeSpan.FromMilliseconds(20),
        ChainMaxWait = TimeSpan.FromMilliseconds(100),
        RetryFirst = TimeSpan.FromMilliseconds(1),
        RetryMax = TimeSpan.FromMilliseconds(5),
        WatermarkPath = _folder["watermark"],
    };

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
    public async Task Every_line_is_stored_or_set_aside_with_its_place_and_the_counts_balance()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, Options);
        var running = pipeline.RunAsync(default);
        string[] lines = [Line("t-1", "1.1"), "no json", Line("t-1", "1.2", "mysql.request"), Line("t-2", "1..2"), Line("t-2", "1.1")];
        var offsets = new List<long>();
        await transport.Writer.WriteAsync(Batch(lines, offsets), default).Within();
        transport.Complete();
        await running.Within();

        pipeline.Metrics.Balance.Should().Be(new IndexerBalance(5, 3, 0, 2));
        pipeline.Metrics.Balance.Balances.Should().BeTrue();
        pipeline.Metrics.OpenTraces.Should().Be(0);
        (await _store.CountAsync(default)).Should().Be(new StoreCounts(3, 2));
        deadLetter.Dispose();
        var setAside = File.ReadAllLines(_folder["dead-letter"]).Select(line => JsonDocument.Parse(line).RootElement).ToList();
        setAside.Select(entry => (entry.GetProperty("offset").GetInt64(), entry.GetProperty("line").GetString())).Should().Equal((offsets[1], lines[1]), (offsets[3], lines[3]));
        setAside[1].GetProperty("reason").GetString().Should().Contain("rpc_id");
        setAside.Should().OnlyContain(entry => entry.GetProperty("file").GetString() == _file.Path);
    }

    [Fact]
    public async Task Chain_has_what_the_records_say()
    {
        await RunAsync(Line("t-1", "1.1", "request.info", service: "gateway"), Line("t-1", "1.2", "http.get", service: "gateway"), Line("t-1", "1.2.1", "request.info", service: "orders"));

        var chain = await _store.GetChainAsync("t-1", default);
        chain!.RecordCount.Should().Be(3);
        chain.Complete.Should().BeTrue();
        chain.Services.Should().Equal("gateway", "orders");
        chain.EntryService.Should().Be("gateway");
        (await _store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
    }

    [Fact]
    public async Task Late_record_takes_its_place_in_the_chain()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, Options);
        var running = pipeline.RunAsync(default);
        await transport.Writer.WriteAsync(Batch([Line("t-1", "1.1", service: "gateway"), Line("t-1", "1.2.1", service: "orders")]), default).Within();
        await Eventually.HoldsAsync(async () => await _store.GetChainAsync("t-1", default) is not null, "the chain is written while reading goes on");
        (await _store.GetChainAsync("t-1", default))!.Complete.Should().BeFalse("the call 1.2 is missing");

        await transport.Writer.WriteAsync(Batch([Line("t-1", "1.2", "http.get", service: "gateway")]), default).Within();
        await pipeline.FlushChainsAsync(default).Within();

        (await _store.GetChainAsync("t-1", default)).Should().Match<ChainDocument>(chain => chain.Complete && chain.RecordCount == 3);
        transport.Complete();
        await running.Within();
    }

    [Fact]
    public async Task Chains_of_what_passes_equal_those_of_what_is_stored_and_nothing_is_read_back_for_them()
    {
        var random = new Random(11);
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var store = new StoreThatFails(_store);
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, Options with { ChainQuiet = TimeSpan.FromMinutes(1), ChainMaxWait = TimeSpan.FromMinutes(1) });
        var running = pipeline.RunAsync(default);
        var lines = Enumerable.Range(0, 40).SelectMany(trace => Enumerable.Range(1, 1 + random.Next(12))
            .Select(number => Line($"t-{trace}", number == 1 ? "1.1" : $"1.{number}", number == 1 ? "request.info" : number % 3 == 0 ? "log.info" : "http.get", service: "gateway"))).ToArray();
        random.Shuffle(lines);
        foreach (var some in lines.Chunk(25)) await transport.Writer.WriteAsync(Batch(some), default).Within();
        await pipeline.FlushChainsAsync(default).Within();

        store.Reads.Should().Be(0);
        for (var trace = 0; trace < 40; trace++)
        {
            var stored = ChainDocuments.From(ChainBuilder.Build($"t-{trace}", await _store.GetTraceAsync($"t-{trace}", default)));
            var shown = await _store.GetChainAsync($"t-{trace}", default);
            shown!.RowsJson.Should().Be(stored.RowsJson);
            shown.RecordCount.Should().Be(stored.RecordCount);
        }

        transport.Complete();
        await running.Within();
    }

    [Fact]
    public async Task Chains_are_built_of_what_is_stored_where_memory_is_short_or_a_trace_large()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var store = new StoreThatFails(_store);
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, Options with { ChainQuiet = TimeSpan.FromMinutes(1), ChainMaxWait = TimeSpan.FromMinutes(1), MaxOpenBytes = 1 << 20 });
        var running = pipeline.RunAsync(default);
        // Of the first trace two thousand records and more; of the others more than a megabyte in all, and each of them twice.
        await transport.Writer.WriteAsync(Batch([.. Enumerable.Range(1, 2_100).Select(number => Line("large", $"1.{number}", "http.get"))]), default).Within();
        for (var part = 0; part < 2; part++)
        {
            foreach (var some in Enumerable.Range(0, 1_000).Chunk(100))
                await transport.Writer.WriteAsync(Batch([.. some.Select(trace => Line($"t-{trace}", $"1.{part + 2}", "http.get"))]), default).Within();
        }

        pipeline.Metrics.ChainsWritten.Should().BePositive("there is no room for all of them, although all of them are young");
        await pipeline.FlushChainsAsync(default).Within();
        store.Reads.Should().BePositive();
        (await _store.GetChainAsync("large", default))!.RecordCount.Should().Be(2_100);
        foreach (var trace in (int[])[0, 500, 999]) (await _store.GetChainAsync($"t-{trace}", default))!.RecordCount.Should().Be(2);
        (await _store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
        transport.Complete();
        await running.Within();
    }

    [Fact]
    public async Task Batch_that_comes_again_after_a_crash_before_its_commit_is_counted_as_duplicates()
    {
        var lines = new[] { Line("t-1", "1.1"), Line("t-1", "1.2", "mysql.request"), Line("t-2", "1.1") };
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var crashing = new IndexerPipeline(new CrashAtCommit(transport.Reader), _store, deadLetter, Options with { ChainQuiet = TimeSpan.FromMinutes(1), ChainMaxWait = TimeSpan.FromMinutes(1) });
        var running = crashing.RunAsync(default);
        var written = transport.Writer.WriteAsync(Batch(lines), default);
        await FluentActions.Awaiting(() => running.Within()).Should().ThrowAsync<InvalidOperationException>().WithMessage("crash");
        await transport.Reader.DisposeAsync();
        await FluentActions.Awaiting(() => written.Within()).Should().ThrowAsync<TransportUnavailableException>();
        (await _store.CountAsync(default)).Should().Be(new StoreCounts(3, 0));

        _offset = 0;
        var balance = await RunAsync([.. lines, Line("t-2", "1.2", "mysql.request")]);

        balance.Should().Be(new IndexerBalance(4, 1, 3, 0));
        (await _store.CountAsync(default)).Should().Be(new StoreCounts(4, 2));
        (await _store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
    }

    [Fact]
    public async Task Chains_that_a_crash_left_out_are_built_at_the_start()
    {
        var some = new StoreRecords(Now);
        await _store.WriteAsync([some.Record("t-1"), some.Record("t-2"), some.Record("t-2", "1.2")], default);

        await RunAsync();

        (await _store.GetChainAsync("t-1", default))!.RecordCount.Should().Be(1);
        (await _store.GetChainAsync("t-2", default))!.RecordCount.Should().Be(2);
        long.Parse(File.ReadAllText(_folder["watermark"])).Should().BeGreaterThan(StoreRecords.Micros(Now));
    }

    [Fact]
    public async Task Check_at_the_start_looks_back_to_the_watermark_less_its_margin()
    {
        var some = new StoreRecords(Now);
        await _store.WriteAsync([some.Record("older", ingested: Now.AddMinutes(-3)), some.Record("newer", ingested: Now.AddMinutes(-1))], default);
        File.WriteAllText(_folder["watermark"], StoreRecords.Micros(Now).ToString());

        await RunAsync();

        (await _store.GetChainAsync("newer", default)).Should().NotBeNull();
        (await _store.GetChainAsync("older", default)).Should().BeNull();
    }

    [Fact]
    public async Task Unreadable_watermark_means_that_everything_is_checked()
    {
        var some = new StoreRecords(Now);
        await _store.WriteAsync([some.Record("old", ingested: Now.AddDays(-1))], default);
        File.WriteAllText(_folder["watermark"], "\0\0\0");

        await RunAsync();

        (await _store.GetChainAsync("old", default)).Should().NotBeNull();
    }

    [Fact]
    public async Task Batch_waits_uncommitted_while_the_store_is_down()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        await using var store = new StoreThatFails(_store) { Down = true };
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, Options);
        var running = pipeline.RunAsync(default);
        var written = transport.Writer.WriteAsync(Batch([Line("t-1", "1.1"), "no json"]), default);
        await Eventually.HoldsAsync(() => store.Failures > 3, "it is tried again");
        written.IsCompleted.Should().BeFalse();
        pipeline.Metrics.WaitingFor.Should().Contain("it is down");
        pipeline.Metrics.Balance.Consumed.Should().Be(0);

        store.Down = false;
        await written.Within();
        transport.Complete();
        await running.Within();

        pipeline.Metrics.Balance.Should().Be(new IndexerBalance(2, 1, 0, 1));
        pipeline.Metrics.WaitingFor.Should().BeNull();
        File.ReadAllLines(_folder["dead-letter"]).Should().ContainSingle("trying again sets nothing aside twice");
        (await _store.GetChainAsync("t-1", default)).Should().NotBeNull();
    }

    [Fact]
    public async Task Stop_writes_what_was_read()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, Options with { ChainQuiet = TimeSpan.FromMinutes(1), ChainMaxWait = TimeSpan.FromMinutes(1) });
        using var stop = new CancellationTokenSource();
        var running = pipeline.RunAsync(stop.Token);
        await transport.Writer.WriteAsync(Batch([Line("t-1", "1.1")]), default).Within();

        await stop.CancelAsync();
        await running.Within();

        (await _store.GetChainAsync("t-1", default)).Should().NotBeNull();
    }

    [Fact]
    public async Task Stop_gives_up_a_batch_that_cannot_be_stored_within_the_limit()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        await using var store = new StoreThatFails(_store);
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, Options with { DrainLimit = TimeSpan.FromMilliseconds(50) });
        using var stop = new CancellationTokenSource();
        var running = pipeline.RunAsync(stop.Token);
        store.Down = true;
        var written = transport.Writer.WriteAsync(Batch([Line("t-1", "1.1")]), default);
        await Eventually.HoldsAsync(() => store.Failures > 0, "the batch was tried");

        await stop.CancelAsync();
        await running.Within();

        written.IsCompleted.Should().BeFalse("nothing was committed");
        pipeline.Metrics.Balance.Should().Be(default(IndexerBalance));
    }

    [Fact]
    [Trait("Fault", "31")]
    public async Task Full_dead_letter_stops_reading_until_there_is_room()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"], maxBytes: 3_000);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, Options);
        var running = pipeline.RunAsync(default);
        var written = transport.Writer.WriteAsync(Batch([new string('x', 2_000), new string('y', 2_000), Line("t-1", "1.1")]), default);
        await Eventually.HoldsAsync(() => pipeline.Metrics.WaitingFor is not null, "reading has stopped");
        written.IsCompleted.Should().BeFalse();

        // With what was written so far: whoever makes room keeps it.
        await Eventually.HoldsAsync(() => File.Exists(_folder["dead-letter"]), "the file is there");
        File.Move(_folder["dead-letter"], _folder["moved-away"]);
        await written.Within();
        transport.Complete();
        await running.Within();

        pipeline.Metrics.Balance.Should().Be(new IndexerBalance(3, 1, 0, 2));
        deadLetter.Dispose();
        (File.ReadAllLines(_folder["moved-away"]).Length + File.ReadAllLines(_folder["dead-letter"]).Length).Should().Be(2);
    }

    [Fact]
    public async Task Open_traces_are_bounded()
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter,
            Options with { ChainQuiet = TimeSpan.FromMinutes(1), ChainMaxWait = TimeSpan.FromMinutes(1), MaxOpenTraces = 20 });
        var running = pipeline.RunAsync(default);
        for (var batch = 0; batch < 10; batch++)
            await transport.Writer.WriteAsync(Batch(Enumerable.Range(0, 15).Select(i => Line($"t-{batch}-{i}", "1.1")).ToArray()), default).Within();
        await Eventually.HoldsAsync(() => pipeline.Metrics.OpenTraces <= 20, "the oldest are built");
        (await _store.CountAsync(default)).Chains.Should().BeGreaterThanOrEqualTo(130);

        transport.Complete();
        await running.Within();
        (await _store.CountAsync(default)).Should().Be(new StoreCounts(150, 150));
    }

    [Fact]
    public async Task Whatever_the_bytes_every_line_is_accounted_for()
    {
        var seed = Random.Shared.Next();
        var random = new Random(seed);
        var good = Encoding.UTF8.GetBytes(Line("t-1", "1.1"));
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, Options);
        var running = pipeline.RunAsync(default);
        var batch = new RecordBatch();
        for (var i = 0; i < 2_000; i++)
        {
            var line = (byte[])good.Clone();
            for (var changes = random.Next(4); changes > 0; changes--) line[random.Next(line.Length)] = (byte)random.Next(256);
            batch.Add(line.AsSpan(0, random.Next(3) == 0 ? random.Next(line.Length + 1) : line.Length), _file, _offset);
            _offset += line.Length + 1;
        }

        await transport.Writer.WriteAsync(batch, default).Within();
        transport.Complete();
        await running.Within();

        pipeline.Metrics.Balance.Should().Match<IndexerBalance>(balance => balance.Balances && balance.Consumed == 2_000, "seed {0}", seed);
        (await _store.CountAsync(default)).Records.Should().Be(pipeline.Metrics.Balance.Stored, "seed {0}", seed);
        (await _store.FindStaleTracesAsync(0, default)).Should().BeEmpty("seed {0}", seed);
    }

    [Fact]
    public void Options_name_every_problem_with_its_range()
    {
        Options.Validate().Should().BeEmpty();
        new IndexerOptions().Validate().Should().BeEmpty();
        new IndexerOptions { ChainQuiet = TimeSpan.Zero, ChainMaxWait = TimeSpan.FromHours(1), MaxOpenTraces = 0 }.Validate().Should().HaveCount(3)
            .And.Contain("Indexer:MaxOpenTraces is 0; it must be between 1 and 1,000,000.");
    }

    async Task<IndexerBalance> RunAsync(params string[] lines)
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(_folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, _store, deadLetter, Options);
        var running = pipeline.RunAsync(default);
        await transport.Writer.WriteAsync(Batch(lines), default).Within();
        transport.Complete();
        await running.Within();
        return pipeline.Metrics.Balance;
    }

    RecordBatch Batch(string[] lines, List<long>? offsets = null)
    {
        var batch = new RecordBatch();
        foreach (var line in lines)
        {
            offsets?.Add(_offset);
            var bytes = Encoding.UTF8.GetBytes(line);
            batch.Add(bytes, _file, _offset);
            _offset += bytes.Length + 1;
        }

        return batch;
    }

    static string Line(string traceId, string rpcId, string name = "request.info", string service = "orders") => StoreRecords.Line(new Dictionary<string, object?>
    {
        ["name"] = name,
        ["trace_id"] = traceId,
        ["rpc_id"] = rpcId,
        ["timestamp"] = Now.ToUnixTimeSeconds(),
        ["timestamp_us"] = StoreRecords.Micros(Now),
        ["service"] = service,
        ["action"] = "GET /",
        ["duration"] = 0.01,
    });

    /// <summary>Dies when the batch is stored and not yet committed.</summary>
    sealed class CrashAtCommit(IRecordReader reader) : IRecordReader
    {
        public Task<RecordBatch?> ReadAsync(CancellationToken cancellationToken) => reader.ReadAsync(cancellationToken);

        public Task CommitAsync(RecordBatch batch, CancellationToken cancellationToken) => throw new InvalidOperationException("crash");

        public ValueTask DisposeAsync() => reader.DisposeAsync();
    }

    /// <summary>A store that can be switched off.</summary>
    sealed class StoreThatFails(ITraceStore store) : ITraceStore
    {
        int _failures;
        int _reads;

        public volatile bool Down;

        public int Failures => Volatile.Read(ref _failures);

        Task<T> Try<T>(Func<Task<T>> work)
        {
            if (!Down) return work();
            Interlocked.Increment(ref _failures);
            throw new StoreUnavailableException("it is down");
        }

        public Task OpenAsync(CancellationToken cancellationToken) => store.OpenAsync(cancellationToken);

        public Task<WriteResult> WriteAsync(IReadOnlyList<IndexedRecord> records, CancellationToken cancellationToken) => Try(() => store.WriteAsync(records, cancellationToken));

        public Task WriteChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken) =>
            Try(async () => { await store.WriteChainsAsync(chains, cancellationToken); return true; });

        public Task<IReadOnlyList<string>> AddChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken) => Try(() => store.AddChainsAsync(chains, cancellationToken));

        /// <summary>Traces read back.</summary>
        public int Reads => Volatile.Read(ref _reads);

        public Task<IReadOnlyList<IndexedRecord>> GetTraceAsync(string traceId, CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref _reads);
            return Try(() => store.GetTraceAsync(traceId, cancellationToken));
        }

        public Task<ChainDocument?> GetChainAsync(string traceId, CancellationToken cancellationToken) => Try(() => store.GetChainAsync(traceId, cancellationToken));

        public Task<IReadOnlyList<ChainDocument>> FindChainsAsync(TraceQuery query, CancellationToken cancellationToken) => Try(() => store.FindChainsAsync(query, cancellationToken));

        public Task<IReadOnlyList<string>> FindStaleTracesAsync(long sinceMicros, CancellationToken cancellationToken) => Try(() => store.FindStaleTracesAsync(sinceMicros, cancellationToken));

        public Task<IReadOnlyList<string>> FindUndecidedAsync(long beforeMicros, int limit, CancellationToken cancellationToken) => Try(() => store.FindUndecidedAsync(beforeMicros, limit, cancellationToken));

        public Task<IReadOnlySet<string>> FindDroppedAsync(IReadOnlyCollection<string> traceIds, CancellationToken cancellationToken) => Try(() => store.FindDroppedAsync(traceIds, cancellationToken));

        public Task<long> DropTracesAsync(IReadOnlyList<string> traceIds, CancellationToken cancellationToken) => Try(() => store.DropTracesAsync(traceIds, cancellationToken));

        public Task<StoreCounts> CountAsync(CancellationToken cancellationToken) => Try(() => store.CountAsync(cancellationToken));

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
