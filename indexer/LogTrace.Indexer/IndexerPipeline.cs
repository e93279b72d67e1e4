using System.Globalization;
using System.IO.Hashing;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Transport;
using Microsoft.Extensions.Logging.Abstractions;

namespace LogTrace.Indexer;

/// <summary>
/// The indexer's loop: read a batch, decode it, derive fields, store it, set aside what is no record, and only then commit; the
/// traces it touched are built into chains when they have been quiet for a moment. A crash at any point leaves records that come
/// again, which the store recognises, and chains that the check at the next start finds missing.
/// </summary>
/// <remarks>The caller owns reader, store and dead letter, and disposes of them after <see cref="RunAsync"/> has returned.</remarks>
public sealed class IndexerPipeline(
    IRecordReader reader, ITraceStore store, DeadLetterFile deadLetter, IndexerOptions options, TimeProvider? clock = null, ILogger? logger = null)
{
    const int TracesPerRead = 50, UndecidedPerRead = 1_000, ChainsPerWrite = 500, RowBytesPerWrite = 4 << 20;

    // While reading is behind, what has not been read yet may hold the rest of a trace that looks quiet. So it waits longer, and building in parts is the exception; what waits is bounded.
    const int LongerWhileBehind = 10;

    // To build of what is stored takes a refresh of the store's indices, which costs it much. So it is done for many traces at once.
    static readonly TimeSpan ReadEvery = TimeSpan.FromSeconds(1);

    readonly TimeProvider _clock = clock ?? TimeProvider.System;
    readonly ILogger _logger = logger ?? NullLogger.Instance;
    readonly OpenTraces _open = new();
    volatile bool _isBehind = true;
    readonly SemaphoreSlim _building = new(1, 1);

    readonly TaskCompletionSource _startChecked = new(TaskCreationOptions.RunContinuationsAsynchronously);
    long _lastIngested;
    long _lastTurn;
    volatile bool _isOpen;

    // While the store looks for traces without their chain: those that got one meanwhile. Used under _building.
    volatile HashSet<string>? _builtSinceCheck;

    // Traces that have to be built of what is stored, and when that was last done. Used under _building.
    readonly HashSet<string> _toRead = new(StringComparer.Ordinal);
    long _lastRead;

    // When large traces may be built again at the earliest: one that keeps growing would else be read whole every few seconds. Used under _building.
    readonly Dictionary<string, long> _notBefore = [];

    // Used under _building.
    readonly HopKnowledge _hops = new(options.ChainMaxWait, clock);

    public IndexerMetrics Metrics { get; } = new();

    /// <summary>How long ago it last did something, be it that it looked for chains to build; zero before the start. While it waits, see <see cref="Stall"/>.</summary>
    internal TimeSpan TurnedAgo => Interlocked.Read(ref _lastTurn) is var last && last == 0 ? TimeSpan.Zero : _clock.GetElapsedTime(last);

    /// <summary>Why nothing gets on, as a sentence; null while it does.</summary>
    internal string? Stall => !_isOpen ? "the store has not answered yet" : Metrics.WaitingFor is { } reason ? "waiting for the " + reason : null;

    void Turned() => Interlocked.Exchange(ref _lastTurn, Math.Max(1, _clock.GetTimestamp()));

    /// <summary>
    /// Runs until the reader has no more (in process, after the shipper's end was completed) or <paramref name="stop"/> is cancelled. Either way what
    /// was read is stored and committed and every open chain is written; after a stop within <see cref="IndexerOptions.DrainLimit"/>, beyond which
    /// the rest is left to be read again.
    /// </summary>
    /// <exception cref="InvalidDataException">The store's own files are damaged; the message says what to do.</exception>
    public async Task RunAsync(CancellationToken stop)
    {
        using var kill = new CancellationTokenSource();
        using var onStop = stop.Register(() => kill.CancelAfter(options.DrainLimit));
        using var readingEnded = new CancellationTokenSource();
        using var chainsFailed = CancellationTokenSource.CreateLinkedTokenSource(stop);
        try
        {
            Turned();
            await WithStoreAsync(token => store.OpenAsync(token), kill.Token);
            _isOpen = true;
            var chains = KeepChainsAsync(readingEnded.Token, chainsFailed, kill.Token);
            try
            {
                await ReadAllAsync(chainsFailed.Token, kill.Token);
            }
            finally
            {
                await readingEnded.CancelAsync();
                await chains;
            }

            await FlushChainsAsync(kill.Token);
        }
        catch (OperationCanceledException) when (kill.IsCancellationRequested)
        {
            IndexerLog.DrainLimitReached(_logger, options.DrainLimit);
        }
        finally
        {
            // Whoever waits for a check that will never be made is told so.
            _startChecked.TrySetCanceled(CancellationToken.None);
        }

        var balance = Metrics.Balance;
        IndexerLog.Stopped(_logger, balance.Consumed, balance.Stored, balance.Duplicates, balance.SetAside, Metrics.ChainsWritten);
    }

    /// <summary>
    /// Returns when every record that was stored before the call is in its trace's chain document, those included that an earlier run stored and
    /// did not get to build: so not before <see cref="RunAsync"/> has looked for them.
    /// </summary>
    public async Task FlushChainsAsync(CancellationToken cancellationToken)
    {
        await _startChecked.Task.WaitAsync(cancellationToken);
        await BuildOpenAsync(static _ => true, cancellationToken, everything: true);
    }

    // ---- records

    async Task ReadAllAsync(CancellationToken stop, CancellationToken kill)
    {
        // While the store takes one batch the next is decoded; each is committed after those before it.
        var inHand = new Queue<Task>();
        var last = Task.CompletedTask;
        using var end = CancellationTokenSource.CreateLinkedTokenSource(stop);
        try
        {
            while (!end.IsCancellationRequested)
            {
                while (inHand.Count >= options.BatchesInHand || inHand.TryPeek(out var first) && first.IsCompleted) await inHand.Dequeue();
                RecordBatch? batch;
                try
                {
                    var reading = WithTransportAsync(reader.ReadAsync, end.Token);
                    if (inHand.Count > 0) await Task.WhenAny(reading, Task.WhenAll(inHand));
                    _isBehind = reading.IsCompleted;
                    batch = await reading;
                }
                catch (OperationCanceledException) when (end.IsCancellationRequested)
                {
                    break;
                }

                if (batch is null) break;
                Turned();
                inHand.Enqueue(last = TakeOrEndAsync(batch, last));
            }
        }
        finally
        {
            // All of them, also those behind one that failed: the store is closed after this.
            await Task.WhenAll(inHand);
        }

        async Task TakeOrEndAsync(RecordBatch batch, Task before)
        {
            try
            {
                await TakeAsync(batch, before, kill);
            }
            catch
            {
                // Whatever it was: it reaches the caller as soon as nothing more is waited for.
                await end.CancelAsync();
                throw;
            }
        }
    }

    async Task TakeAsync(RecordBatch batch, Task before, CancellationToken kill)
    {
        using var mine = batch;
        var ingested = NextIngestedMicros();
        var records = new List<IndexedRecord>(batch.Count);
        var lines = new List<BatchLine>(batch.Count);
        var setAside = 0;
        foreach (var line in batch.Lines)
        {
            var bytes = batch.Memory(line);
            string? problem = null;
            var content = line.Source.IsOfAnotherShipper ? Envelope.LineOf(bytes, out problem) : bytes;
            if (RecordCodec.TryRead(content, out var record, out var reason))
            {
                // Identity is the message's place and bytes; whether it is one line delivered twice is told by the line alone.
                records.Add(RecordDeriver.Derive(record, line.Source.RecordIdAt(line.Offset, bytes.Span), XxHash128.HashToUInt128(content.Span), line.Source.Path, line.Offset, ingested));
                lines.Add(line);
                continue;
            }

            await SetAsideAsync(batch, line, problem ?? reason ?? "it is no record", kill);
            setAside++;
        }

        var dropped = await DropLateAsync(records, lines, kill);
        var result = await WithStoreAsync(
            async token =>
            {
                var started = _clock.GetTimestamp();
                var written = await store.WriteAsync(records, token);
                Metrics.RecordWrites.Add(_clock.GetElapsedTime(started));
                return written;
            },
            kill);
        foreach (var refused in result.Refused)
        {
            await SetAsideAsync(batch, lines[records.IndexOf(refused.Record)], "the store refused it: " + refused.Reason, kill);
            setAside++;
        }

        if (setAside > 0) await WithDeadLetterAsync(deadLetter.Flush, kill);

        // Before the commit: a chain that is missing after a crash is found by the check, one that nobody remembers is not needed sooner.
        if (result.Refused.Count > 0) records.RemoveAll(result.Refused.Select(refused => refused.Record).ToHashSet().Contains);
        _open.Add(records, result.Duplicates == 0, _clock.GetTimestamp());
        Metrics.OpenTraces = _open.Count;
        await before;
        await WithTransportAsync(async token => { await reader.CommitAsync(batch, token); return true; }, kill);
        Metrics.AddBatch(batch.Count, result.Stored, result.Duplicates, setAside, dropped);
        if (Metrics.OpenTraces > options.MaxOpenTraces || _open.Bytes > options.MaxOpenBytes) await BuildQuietestAsync(kill);
    }

    /// <summary>Takes out what belongs to chains that the rules have decided against; gives its number.</summary>
    async Task<int> DropLateAsync(List<IndexedRecord> records, List<BatchLine> lines, CancellationToken kill)
    {
        if (options.Keep is null) return 0;

        // What has just been written to is looked at again when its chain is built.
        var unknown = records.Select(record => record.Record.TraceId).OfType<string>().Where(traceId => !_open.Contains(traceId)).ToHashSet(StringComparer.Ordinal);
        if (unknown.Count == 0) return 0;
        var gone = await WithStoreAsync(token => store.FindDroppedAsync(unknown, token), kill);
        if (gone.Count == 0) return 0;
        var kept = 0;
        for (var i = 0; i < records.Count; i++)
        {
            if (records[i].Record.TraceId is { } traceId && gone.Contains(traceId)) continue;
            (records[kept], lines[kept]) = (records[i], lines[i]);
            kept++;
        }

        var dropped = records.Count - kept;
        records.RemoveRange(kept, dropped);
        lines.RemoveRange(kept, dropped);
        return dropped;
    }

    async Task SetAsideAsync(RecordBatch batch, BatchLine line, string reason, CancellationToken kill)
    {
        await WithDeadLetterAsync(() => deadLetter.Add(line.Source, line.Offset, batch.Span(line), reason), kill);
        Metrics.AddReason(reason);
    }

    // Never goes back within a run, whatever the system's clock does, and no two batches share one: it tells whose a record in the store is.
    long NextIngestedMicros() => _lastIngested = Math.Max(_lastIngested + 1, NowMicros());

    long NowMicros() => (_clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / 10;

    // ---- chains

    async Task KeepChainsAsync(CancellationToken readingEnded, CancellationTokenSource failed, CancellationToken kill)
    {
        var since = ReadWatermark();
        long? lastDecision = null;

        // Side by side: to look for what is left takes a while where much is stored, and what passes must not wait for it.
        await Task.WhenAll(RepeatAsync(TimeSpan.FromMilliseconds(Math.Clamp(options.ChainQuiet.TotalMilliseconds / 4, 5, 250)), BuildDueAsync), RepeatAsync(options.StaleCheckEvery, CheckAsync));

        async Task BuildDueAsync()
        {
            await BuildOpenAsync(IsDue, kill);
            if (options.Keep is { } keep && (lastDecision is null || _clock.GetElapsedTime(lastDecision.Value) >= DecideEvery(keep)))
            {
                await DecideAsync(keep, kill);
                lastDecision = _clock.GetTimestamp();
            }

            Turned();
        }

        async Task CheckAsync()
        {
            since = await CheckStaleAsync(since, kill);
            _startChecked.TrySetResult();
        }

        async Task RepeatAsync(TimeSpan every, Func<Task> work)
        {
            try
            {
                using var timer = new PeriodicTimer(every, _clock);
                do await work();
                while (await timer.WaitForNextTickAsync(readingEnded));
            }
            catch (OperationCanceledException) when (readingEnded.IsCancellationRequested || kill.IsCancellationRequested)
            {
                // The end of the run; what is open is written by whoever ended it.
            }
            catch
            {
                // Whatever it was: without chains nobody sees what is read, so reading ends too, and the exception reaches the caller of RunAsync.
                await failed.CancelAsync();
                throw;
            }
        }
    }

    bool IsDue(OpenTrace trace) =>
        _clock.GetTimestamp() >= _notBefore.GetValueOrDefault(trace.TraceId, long.MinValue) &&
        (_isBehind ? _clock.GetElapsedTime(trace.Last) >= LongerWhileBehind * options.ChainQuiet
            : _clock.GetElapsedTime(trace.Last) >= options.ChainQuiet || _clock.GetElapsedTime(trace.First) >= options.ChainMaxWait);

    // Finds what a crash, or another instance that has gone, left without its chain; gives the time from which the next check has to look.
    async Task<long> CheckStaleAsync(long since, CancellationToken kill)
    {
        var started = NowMicros();
        var from = Math.Max(0, since - (long)options.StaleMargin.TotalMicroseconds);
        var built = _builtSinceCheck = new HashSet<string>(StringComparer.Ordinal);
        var stale = await WithStoreAsync(token => store.FindStaleTracesAsync(from, token), kill);
        await _building.WaitAsync(kill);
        try
        {
            _builtSinceCheck = null;
            var left = stale.Where(traceId => !built.Contains(traceId) && !_open.Contains(traceId) && !_toRead.Contains(traceId)).ToList();
            if (left.Count > 0) IndexerLog.StaleFound(_logger, left.Count);
            await BuildStoredAsync(left, kill);
        }
        finally
        {
            _building.Release();
        }

        SaveWatermark(started);
        return started;
    }

    // ---- keeping

    static TimeSpan DecideEvery(KeepOptions keep) => keep.DecideAfter / 4 < TimeSpan.FromSeconds(10) ? keep.DecideAfter / 4 : TimeSpan.FromSeconds(10);

    /// <summary>
    /// Decides on the chains that have been quiet for long enough, whoever built them: the store knows which they are, so a restart and another instance go on from there. Two that
    /// decide at once come to the same end.
    /// </summary>
    async Task DecideAsync(KeepOptions keep, CancellationToken kill)
    {
        var before = NowMicros() - (long)keep.DecideAfter.TotalMicroseconds;
        var seen = new HashSet<string>(StringComparer.Ordinal);
        while (true)
        {
            var found = await WithStoreAsync(token => store.FindUndecidedAsync(before, UndecidedPerRead, token), kill);
            var due = found.Where(traceId => seen.Add(traceId) && !_open.Contains(traceId)).ToList();
            if (due.Count == 0) return;
            await _building.WaitAsync(kill);
            try
            {
                foreach (var some in due.Chunk(TracesPerRead)) await DecideAsync(keep, some, before, kill);
            }
            finally
            {
                _building.Release();
            }

            Turned();
        }
    }

    async Task DecideAsync(KeepOptions keep, string[] traceIds, long before, CancellationToken kill)
    {
        var traces = await WithStoreAsync(token => store.GetTracesAsync(traceIds, token), kill);
        var documents = new List<ChainDocument>();
        var dropped = new List<string>();
        foreach (var traceId in traceIds)
        {
            // Without records: another instance has just dropped it, or a day was deleted.
            var records = traces.GetValueOrDefault(traceId, []);
            if (records.Count == 0)
            {
                dropped.Add(traceId);
                continue;
            }

            var document = DocumentOf(traceId, records);
            if (document.UndecidedSince is { } since && since < before) dropped.Add(traceId);
            else documents.Add(document);
        }

        await WriteAsync(documents, kill);
        if (dropped.Count == 0) return;
        var removed = await WithStoreAsync(token => store.DropTracesAsync(dropped, token), kill);
        Metrics.AddDropped(dropped.Count, removed);
    }

    ChainDocument DocumentOf(string traceId, IReadOnlyList<IndexedRecord> records)
    {
        var chain = ChainBuilder.Build(traceId, records, options.Chains, _hops);
        var document = ChainDocuments.From(chain, _hops.Label(chain));
        _hops.Learn(chain);
        return options.Keep is { } keep && !keep.Keeps(document) ? document with { UndecidedSince = records.Max(record => record.IngestedMicros) } : document;
    }

    Task BuildQuietestAsync(CancellationToken kill)
    {
        var newest = _open.QuietestQuarter();
        return BuildOpenAsync(trace => trace.Last <= newest, kill);
    }

    async Task BuildOpenAsync(Func<OpenTrace, bool> isDue, CancellationToken cancellationToken, bool everything = false)
    {
        await _building.WaitAsync(cancellationToken);
        try
        {
            // Taken out before anything is built: a record that comes meanwhile opens its trace anew.
            var due = _open.Take(isDue);
            try
            {
                await BuildAtHandAsync(due, cancellationToken);
            }
            catch
            {
                // Whatever it was: they are still to be built.
                _open.GiveBack(due);
                throw;
            }

            if (everything || _clock.GetElapsedTime(_lastRead) >= (_isBehind ? LongerWhileBehind : 1) * ReadEvery)
            {
                await BuildStoredAsync([.. _toRead], cancellationToken);
                _toRead.Clear();
                _lastRead = _clock.GetTimestamp();
            }
        }
        finally
        {
            Metrics.OpenTraces = _open.Count + _toRead.Count;
            _building.Release();
        }
    }

    // Of what has passed by, where that is all there is of the trace. If it has a chain already it is not: then of what is stored, soon.
    async Task BuildAtHandAsync(List<OpenTrace> traces, CancellationToken cancellationToken)
    {
        _toRead.UnionWith(traces.Where(trace => trace.Records is null).Select(trace => trace.TraceId));
        var documents = new List<ChainDocument>();
        long rowBytes = 0;

        // While the store takes some chains the next are built.
        var writing = Task.CompletedTask;
        try
        {
            foreach (var trace in traces)
            {
                if (trace.Records is null) continue;
                var document = DocumentOf(trace.TraceId, trace.Records.Read());
                documents.Add(document);
                rowBytes += document.RowsUtf8.Length;
                if (documents.Count < ChainsPerWrite && rowBytes < RowBytesPerWrite) continue;
                await writing;
                writing = AddAsync(documents);
                (documents, rowBytes) = ([], 0);
            }

            await writing;
            writing = AddAsync(documents);
        }
        finally
        {
            // Also where building failed: whoever comes next must not meet a write of this one.
            await writing;
        }

        async Task AddAsync(List<ChainDocument> some)
        {
            if (some.Count == 0) return;
            var started = _clock.GetTimestamp();
            var present = await WithStoreAsync(token => store.AddChainsAsync(some, token), cancellationToken);
            Metrics.AddChains(some.Count - present.Count);
            Metrics.ChainBuilds.Add(_clock.GetElapsedTime(started));
            Turned();
            _toRead.UnionWith(present);
            _builtSinceCheck?.UnionWith(some.Select(document => document.TraceId));
        }
    }

    async Task BuildStoredAsync(List<string> traceIds, CancellationToken cancellationToken)
    {
        var documents = new List<ChainDocument>();
        long rowBytes = 0;
        foreach (var chunk in traceIds.Chunk(TracesPerRead))
        {
            var started = _clock.GetTimestamp();
            var traces = await WithStoreAsync(token => store.GetTracesAsync(chunk, token), cancellationToken);
            // Also where there are no rules any more: what they dropped stays so.
            if (await WithStoreAsync(token => store.FindDroppedAsync(chunk, token), cancellationToken) is { Count: > 0 } gone)
            {
                // Came while another instance, or this one, was deciding.
                Metrics.AddDropped(0, await WithStoreAsync(token => store.DropTracesAsync([.. gone], token), cancellationToken));
                traces = traces.Where(trace => !gone.Contains(trace.Key)).ToDictionary();
            }

            foreach (var (traceId, records) in traces)
            {
                if (records.Count == 0) continue;
                var document = DocumentOf(traceId, records);
                documents.Add(document);
                rowBytes += document.RowsUtf8.Length;
                if (records.Count >= OpenTraces.LargeTrace) Postpone(traceId, started);
                if (documents.Count < ChainsPerWrite && rowBytes < RowBytesPerWrite) continue;
                await WriteAsync(documents, cancellationToken);
                rowBytes = 0;
            }

            Metrics.ChainBuilds.Add(_clock.GetElapsedTime(started));
            Turned();
        }

        await WriteAsync(documents, cancellationToken);
    }

    async Task WriteAsync(List<ChainDocument> documents, CancellationToken cancellationToken)
    {
        if (documents.Count == 0) return;
        await WithStoreAsync(token => store.WriteChainsAsync(documents, token), cancellationToken);
        Metrics.AddChains(documents.Count);
        _builtSinceCheck?.UnionWith(documents.Select(document => document.TraceId));
        documents.Clear();
    }

    // At most a tenth of the time goes into one trace.
    void Postpone(string traceId, long started)
    {
        var now = _clock.GetTimestamp();
        if (_notBefore.Count >= 1_000)
            foreach (var passed in _notBefore.Where(trace => trace.Value <= now).Select(trace => trace.Key).ToList()) _notBefore.Remove(passed);
        if (_notBefore.Count < 1_000) _notBefore[traceId] = now + ((now - started) * 10);
    }

    // ---- the watermark

    long ReadWatermark()
    {
        if (options.WatermarkPath is not { } path || !File.Exists(path)) return 0;
        if (long.TryParse(File.ReadAllText(path), NumberStyles.None, CultureInfo.InvariantCulture, out var micros)) return micros;
        IndexerLog.WatermarkUnreadable(_logger, path);
        return 0;
    }

    // Not synced: an older watermark, or none, makes the next check look further back and nothing else.
    void SaveWatermark(long micros)
    {
        if (options.WatermarkPath is not { } path) return;
        try
        {
            File.WriteAllText(path + ".new", micros.ToString(CultureInfo.InvariantCulture));
            File.Move(path + ".new", path, overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            IndexerLog.WatermarkNotSaved(_logger, path, e.Message);
        }
    }

    // ---- retries

    Task<T> WithStoreAsync<T>(Func<CancellationToken, Task<T>> work, CancellationToken cancellationToken) =>
        UntilItWorksAsync("store", work, static e => e is StoreUnavailableException, cancellationToken);

    Task WithStoreAsync(Func<CancellationToken, Task> work, CancellationToken cancellationToken) => WithStoreAsync(async token =>
    {
        await work(token);
        return true;
    }, cancellationToken);

    Task<T> WithTransportAsync<T>(Func<CancellationToken, Task<T>> work, CancellationToken cancellationToken) =>
        UntilItWorksAsync("transport", work, static e => e is TransportUnavailableException, cancellationToken);

    // A full disk is as a full dead letter: nothing more is read until somebody makes room.
    Task WithDeadLetterAsync(Action work, CancellationToken cancellationToken) =>
        UntilItWorksAsync("dead letter", _ =>
        {
            work();
            return Task.FromResult(true);
        }, static e => e is DeadLetterFullException or IOException or UnauthorizedAccessException, cancellationToken);

    async Task<T> UntilItWorksAsync<T>(string what, Func<CancellationToken, Task<T>> work, Func<Exception, bool> isTemporary, CancellationToken cancellationToken)
    {
        var backoff = new Backoff(options.RetryFirst, options.RetryMax, _clock);
        while (true)
        {
            try
            {
                var result = await work(cancellationToken);
                if (backoff.Failures > 0)
                {
                    Metrics.WaitingFor = null;
                    IndexerLog.WorksAgain(_logger, what, backoff.Failures);
                }

                return result;
            }
            catch (Exception e) when (isTemporary(e))
            {
                Metrics.AddRetry();
                Metrics.WaitingFor = $"{what}: {e.Message}";
                if (backoff.Failures == 0 && e is DeadLetterFullException) IndexerLog.DeadLetterFull(_logger, e.Message);
                else if (backoff.Failures == 0) IndexerLog.Unavailable(_logger, what, e.Message);
            }

            await backoff.WaitAsync(cancellationToken);
        }
    }
}
