using LogTrace.Transport;
using Microsoft.Extensions.Logging;

namespace LogTrace.Shipper;

/// <summary>
/// Files to transport: finds files, reads whole lines, sends them in batches, and moves the checkpoint only over lines that are safe on the other side
/// or in the dead letter. What is not yet safe is read again after a crash or a failure: the log files are the buffer, and the only one.
/// </summary>
/// <remarks>
/// Runs once. The writer stays the caller's, and must outlive the run. <see cref="Snapshot"/> and <see cref="WaitUntilCaughtUpAsync"/> may be called from anywhere.
/// </remarks>
public sealed class ShipperPipeline : IDisposable
{
    static readonly TimeSpan DeadLetterRetryInterval = TimeSpan.FromSeconds(1);

    // Without an acknowledgement for this long, a shipper that has lines on their way is stalled.
    static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(5);

    // What the runtime, its libraries and the Kafka client open: without these left, not even an assembly can be loaded.
    const int OtherDescriptors = 192;
    const int LeastOpenFiles = 16;

    static readonly TimeSpan LongestSearchInterval = TimeSpan.FromSeconds(2);

    // A file whose last line has not ended counts as caught up when it has not grown for this long.
    static readonly TimeSpan UnfinishedLineQuiet = TimeSpan.FromSeconds(1);

    readonly ShipperOptions _options;
    readonly IRecordWriter _writer;
    readonly ILogger _logger;
    readonly TimeProvider _time;
    readonly DeadLetterTopic? _deadTopic;
    readonly ShipperMetrics _metrics;
    readonly Backoff _backoff = new();
    readonly CancellationTokenSource _leave = new();
    readonly Lock _waitersLock = new();
    readonly List<(TaskCompletionSource Done, long Search)> _waiters = [];

    // Set by Open.
    CheckpointFile _checkpointFile = null!;
    DeadLetterFile _deadLetter = null!;
    FileHints? _hints;
    TailedFiles _files = null!;
    byte[] _readBuffer = [];

    // Sent and not acknowledged, oldest first. Only the head is ever acknowledged, so no offset moves past a line that is not safe.
    readonly Queue<SentBatch> _inFlight = [];
    int _nextFile;
    int _lastBatchBytes;
    long _searchStarted;
    long _nextSearch;
    long _nextQuietSearch;
    long _nextLook;
    long _nextHints;
    long _nextStatus;
    bool _isIdle = true;

    // Some file may have to be read: one was a moment ago, or something was seen, acknowledged or failed since.
    bool _mayRead = true;

    // Something went on since the files were last shown.
    bool _hasNews = true;
    bool _wasStalled;
    ShipperCounts? _saidCounts;

    TransportUnavailableException? _failure;
    string? _lastFailure;
    long _acknowledgedTicks;
    long _sendAgainAt;
    string? _deadLetterProblem;
    long _deadLetterRetryAt;
    bool _hasUnflushedLetters;

    bool _isCheckpointDue;
    int _fingerprint;
    bool _checkpointFails;
    long _nextCheckpoint;
    long _bytesSinceCheckpoint;

    /// <param name="options">Must validate.</param>
    /// <param name="writer">The way to the indexer.</param>
    /// <param name="logger">Takes few lines: changes of state, never records.</param>
    /// <param name="time">The clock; the system's by default.</param>
    /// <param name="deadTopic">Gets what is set aside, too; stays the caller's. Default none.</param>
    /// <exception cref="ArgumentException">The options do not validate; the message has all problems.</exception>
    public ShipperPipeline(ShipperOptions options, IRecordWriter writer, ILogger<ShipperPipeline> logger, TimeProvider? time = null, DeadLetterTopic? deadTopic = null)
    {
        if (options.Validate() is { Count: > 0 } problems) throw new ArgumentException(string.Join(Environment.NewLine, problems), nameof(options));
        _options = options;
        _writer = writer;
        _logger = logger;
        _time = time ?? TimeProvider.System;
        _deadTopic = deadTopic;
        _metrics = new ShipperMetrics(_time);
    }

    /// <summary>A batch on its way.</summary>
    sealed class SentBatch(Task<IReadOnlyList<RefusedLine>> write, List<ReadSpan> spans, long sentTicks)
    {
        public long SentTicks => sentTicks;

        public Task<IReadOnlyList<RefusedLine>> Write => write;

        public List<ReadSpan> Spans => spans;

        /// <summary>Lines already handed to the dead letter, so that a full one is continued where it stopped.</summary>
        public int SetAside { get; set; }
    }

    /// <summary>Counts and files as of now.</summary>
    public ShipperSnapshot Snapshot() => _metrics.Snapshot();

    /// <summary>
    /// Returns when everything that was in the files at the time of the call is acknowledged and in the saved checkpoint, except for last lines without a line end in
    /// files that have stopped growing.
    /// </summary>
    public Task WaitUntilCaughtUpAsync(CancellationToken cancellationToken = default)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_waitersLock) _waiters.Add((done, Volatile.Read(ref _searchStarted)));
        return done.Task.WaitAsync(cancellationToken);
    }

    /// <summary>
    /// Ships until stopped, or with <see cref="ShipperOptions.Once"/> until everything that is there is safe. A stop waits up to
    /// <see cref="ShipperOptions.StopLimit"/> for acknowledgements and saves the checkpoint.
    /// </summary>
    /// <param name="stop">Finish what is on its way, then return.</param>
    /// <param name="leave">Return now; what is not acknowledged is sent again by the next run.</param>
    /// <exception cref="ShipperStateException">The state directory cannot be used; the message says why and what to do.</exception>
    public async Task RunAsync(CancellationToken stop, CancellationToken leave = default)
    {
        await Task.Yield(); // the caller's thread is not ours to read files on
        Open();
        using var leaving = leave.Register(static state => ((CancellationTokenSource)state!).Cancel(), _leave);
        try
        {
            while (!stop.IsCancellationRequested && !leave.IsCancellationRequested)
            {
                var progressed = Turn();
                if (_options.Once && IsCaughtUp()) break;
                if (!progressed) await WaitForWorkAsync(stop).ConfigureAwait(false);
            }

            await DrainAsync(leave).ConfigureAwait(false);
            SaveCheckpoint();
            var counts = _metrics.Counts;
            _logger.Stopped(counts.ReadLines, counts.ShippedLines, counts.SetAsideLines, counts.BlankLines);
        }
        finally
        {
            Dispose();
            lock (_waitersLock)
            {
                foreach (var waiter in _waiters) waiter.Done.TrySetCanceled(CancellationToken.None);
            }
        }
    }

    /// <summary>For tests: asked for each hint of the kernel whether it gets lost. Default none does.</summary>
    internal Func<bool>? LosesHint { get; init; }

    /// <summary>How many times files were looked for.</summary>
    internal long Searches => _files.Searches;

    /// <summary>Takes the state directory and continues where its checkpoint says.</summary>
    internal void Open()
    {
        _checkpointFile = CheckpointFile.Open(_options.StateDirectory);
        var checkpoint = _checkpointFile.Load(out var damage);
        foreach (var problem in damage) _logger.CheckpointDamaged(problem);
        if (damage.Count > 0 && checkpoint.Sequence == 0) _logger.NoCheckpointLeft(_options.StateDirectory);
        _metrics.Restore(checkpoint.Counts);
        _saidCounts = checkpoint.Counts;
        var discovery = new FileDiscovery(_options.Paths, _options.Exclude, _options.StateDirectory);
        var maxOpen = Math.Min(_options.MaxOpenFiles, Math.Max(LeastOpenFiles, (Native.MaxDescriptors() ?? int.MaxValue) - OtherDescriptors));
        if (maxOpen < _options.MaxOpenFiles && _options.MaxOpenFiles != new ShipperOptions().MaxOpenFiles) _logger.FewDescriptors(_options.MaxOpenFiles, maxOpen);
        // Who leaves when all is read needs none.
        if (_options is { Hints: true, Once: false })
        {
            _hints = FileHints.TryOpen(out var problem, _time, LosesHint);
            if (problem is not null) _logger.NoHints(problem, _options.DiscoveryInterval);
        }

        _files = new TailedFiles(_options with { MaxOpenFiles = maxOpen }, discovery, _hints, _metrics, _time, _logger);
        _files.Restore(checkpoint);
        _deadLetter = new DeadLetterFile(_options.DeadLetterPath, _options.DeadLetterBytes, topic: _deadTopic);
        _readBuffer = new byte[FileTailer.BufferBytes(_options.MaxLineBytes, _options.Format)];
        _logger.Started(string.Join(' ', _options.Paths), _options.StateDirectory, checkpoint.Files.Count);
    }

    /// <summary>One round of everything, never waiting. False when there is nothing to do until a batch is acknowledged or time passes.</summary>
    internal bool Turn()
    {
        FindFiles();
        AcknowledgeBatches();
        var sent = SendNextBatch();
        _isIdle = !sent;
        _hasNews |= sent;
        // Without the first condition all files would be looked through for new ids, ten times a second; a line of such a file is not sent without a save anyway.
        if ((_isCheckpointDue && IsDue(_nextCheckpoint)) || _bytesSinceCheckpoint >= _options.CheckpointBytes) SaveCheckpoint();
        TellWaiters();
        return sent;
    }

    // Never held up by the other side: what is open stays readable whatever happens to its name.
    void FindFiles()
    {
        // Under load, a file that is written to brings a hint for every write; once an interval is enough.
        if (_isIdle || IsDue(_nextHints))
        {
            _nextHints = After(_options.PollInterval);
            if (_files.TakeHints()) _hasNews = _mayRead = true;
        }

        var started = _time.GetTimestamp();
        var isSearch = IsDue(_nextSearch) && (_files.IsSearchWanted || IsDue(_nextQuietSearch) || HasWaiters());
        if (isSearch)
        {
            Interlocked.Increment(ref _searchStarted);
            _hasNews |= _files.Search();
            _mayRead = true;
            if (_searchStarted == 1) foreach (var pattern in _options.Paths.Where(FindsNothing)) _logger.NoMatch(pattern);
        }
        else if (IsDue(_nextLook))
        {
            _mayRead |= _files.LookAtUnhinted();
        }
        else
        {
            return;
        }

        // With thousands of files a search takes long: it never takes more than half a percent of the time, unless files would be found late.
        var rest = Math.Min(_time.GetElapsedTime(started).TotalSeconds * 200, LongestSearchInterval.TotalSeconds);
        _nextLook = After(TimeSpan.FromSeconds(Math.Max(_options.DiscoveryInterval.TotalSeconds, rest)));
        if (isSearch) (_nextSearch, _nextQuietSearch) = (_nextLook, After(_options.QuietInterval));
        ShowFiles(isSearch);
        SayStatus();
    }

    void ShowFiles(bool isSearched)
    {
        var stall = Stall();
        var isNew = _hasNews || _inFlight.Count > 0 || stall is not null || _wasStalled;
        if (isNew || isSearched)
        {
            // With thousands of quiet files, saving what is saved already would be most of the work.
            var fingerprint = _files.Fingerprint();
            isNew |= fingerprint != _fingerprint;
            _isCheckpointDue |= fingerprint != _fingerprint;
            _fingerprint = fingerprint;
        }

        if (!isNew)
        {
            _metrics.ShowNothingNew();
            return;
        }

        var now = _time.GetTimestamp();
        (_hasNews, _wasStalled) = (false, stall is not null);
        _metrics.Show([.. _files.Tailers.Select(t => new FileProgress(t.Path, t.FileId, t.AckedOffset, t.ReadOffset, t.SeenBytes, t.TornBytes)
        {
            IsDeleted = t.IsDeleted,
            OldestUnacknowledged = t.UnacknowledgedSinceTicks is { } since ? _time.GetElapsedTime(since, now) : TimeSpan.Zero,
        })], stall);
    }

    // Silence says that nothing went on: many shippers have nothing to do for days.
    void SayStatus()
    {
        if (_options.StatusInterval == TimeSpan.Zero || !IsDue(_nextStatus)) return;
        var snapshot = _metrics.Snapshot();
        var isFirst = _nextStatus == 0;
        _nextStatus = After(_options.StatusInterval);
        if (isFirst || (snapshot.Counts == _saidCounts && snapshot.Stall is null)) return;
        _saidCounts = snapshot.Counts;
        _logger.Status(ShipperStatus.Line(snapshot));
    }

    /// <summary>Why nothing gets on; null while it does.</summary>
    string? Stall()
    {
        if (_deadLetterProblem is not null) return $"the dead letter takes no more: {_deadLetterProblem}";
        if (_backoff.Failures > 0) return $"the other side is away: {_lastFailure}";
        if (_inFlight.TryPeek(out var oldest) && _time.GetElapsedTime(Math.Max(oldest.SentTicks, _acknowledgedTicks)) is var silence && silence > LongestSilence)
            return string.Create(System.Globalization.CultureInfo.InvariantCulture, $"nothing was acknowledged for {silence.TotalSeconds:F0} s");
        return _checkpointFails ? $"the checkpoint cannot be saved in {_options.StateDirectory}" : null;
    }

    // Said once, at the start: it may be a slip, or the files of a service that has not been started yet.
    bool FindsNothing(string pattern) => new FileDiscovery([pattern], _options.Exclude, _options.StateDirectory).Find().Count == 0;

    internal void AcknowledgeBatches()
    {
        while (_failure is null && _inFlight.TryPeek(out var batch) && batch.Write.IsCompleted)
        {
            if (batch.Write.IsFaulted && batch.Write.Exception.InnerException is TransportUnavailableException unavailable)
            {
                _failure = unavailable;
                break;
            }

            // Any other failure is a defect of the writer, not a state of the world: it ends the run.
            var refused = batch.Write.GetAwaiter().GetResult();
            if (!TrySetAside(batch, refused)) return;
            foreach (var span in batch.Spans)
            {
                span.Tailer.Acknowledge(span);
                _bytesSinceCheckpoint += span.Bytes;
            }

            _metrics.CountSafe(batch.Spans, refused.Count, refused.Sum(r => r.Line.Length + 1L));
            _inFlight.Dequeue();
            _hasNews = _mayRead = true;
            _acknowledgedTicks = _time.GetTimestamp();
            _isCheckpointDue = true;
            if (_backoff.Failures > 0) _logger.TransportUp(_backoff.Failures);
            _backoff.Reset();
        }

        if (_failure is not null && _inFlight.All(b => b.Write.IsCompleted)) ReadAgain();
    }

    // Later batches may have got through; they are sent again, which is harmless, and keeps every file in order.
    void ReadAgain()
    {
        if (_backoff.Failures == 0) _logger.TransportDown(_failure!.Message);
        _lastFailure = _failure!.Message;
        _metrics.CountFailed(_inFlight.Count);
        foreach (var span in _inFlight.SelectMany(b => b.Spans))
        {
            span.Tailer.Abandon();
            span.Tailer.ReturnToAcknowledged();
        }

        _inFlight.Clear();
        _hasNews = _mayRead = true;
        _sendAgainAt = After(_backoff.NextDelay());
        _failure = null;
    }

    bool TrySetAside(SentBatch batch, IReadOnlyList<RefusedLine> refused)
    {
        if (_deadLetterProblem is not null && !IsDue(_deadLetterRetryAt)) return false;
        try
        {
            var at = 0;
            foreach (var span in batch.Spans)
            {
                foreach (var line in span.SetAside)
                {
                    if (at++ < batch.SetAside) continue;
                    _deadLetter.Add(span.Source, line.Offset, line.Head, line.Reason, line.Length);
                    batch.SetAside++;
                    _hasUnflushedLetters = true;
                }
            }

            foreach (var line in refused)
            {
                if (at++ < batch.SetAside) continue;
                _deadLetter.Add(line.Source, line.Offset, line.Line.Span, line.Reason);
                batch.SetAside++;
                _hasUnflushedLetters = true;
            }
        }
        catch (Exception e) when (e is DeadLetterFullException or IOException or UnauthorizedAccessException)
        {
            if (_deadLetterProblem is null) _logger.DeadLetterBlocked(e.Message);
            _deadLetterProblem = e.Message;
            _deadLetterRetryAt = After(DeadLetterRetryInterval);
            return false;
        }

        if (_deadLetterProblem is not null) _logger.DeadLetterFree();
        _deadLetterProblem = null;
        return true;
    }

    bool SendNextBatch()
    {
        if (!_mayRead || _failure is not null || _deadLetterProblem is not null || _inFlight.Count >= _options.MaxInFlightBatches || !IsDue(_sendAgainAt)) return false;
        var batch = new RecordBatch(_lastBatchBytes > _options.BatchBytes / 2 ? _options.BatchBytes + (_options.BatchBytes / 4) : 64 * 1024);
        var spans = new List<ReadSpan>();
        var progressed = ReadFiles(batch, spans);
        _lastBatchBytes = batch.Bytes;
        if (spans.Count == 0)
        {
            batch.Dispose();
            return progressed;
        }

        _inFlight.Enqueue(new SentBatch(Send(batch, spans), spans, _time.GetTimestamp()));
        return true;
    }

    // Each file gives at most one buffer a turn, and the next turn starts behind the last file read: a busy file holds up no other.
    bool ReadFiles(RecordBatch batch, List<ReadSpan> spans)
    {
        var progressed = _mayRead = false;
        var now = _time.GetTimestamp();
        var tailers = _files.Tailers;
        var first = tailers.Count == 0 ? 0 : _nextFile % tailers.Count;
        for (var i = 0; i < tailers.Count && batch.Bytes < _options.BatchBytes; i++)
        {
            _nextFile = first + i + 1;
            var tailer = tailers[(first + i) % tailers.Count];
            if (!_files.IsDue(tailer, now)) continue;
            _mayRead = true;
            if (!_files.TryOpen(tailer)) continue;
            var before = _files.Before(tailer);
            if (before is not null && !_files.TryOpen(before)) before = null;
            // First that one is read to its end: a line may begin there.
            if (before is { IsAtEnd: false }) continue;
            try
            {
                var result = tailer.Read(batch, _readBuffer, _options.BatchBytes, _options.HostId, now, out var span, before, out var spanBefore);
                if (spanBefore is not null) spans.Add(spanBefore);
                progressed |= result != TailResult.Nothing;
                if (result == TailResult.Truncated) _files.Emptied(tailer);
                if (span is null && tailer.TakesUnfinishedEnd) span = tailer.TakeUnfinishedEnd(_options.HostId);
                if (span is not null) spans.Add(span);
            }
            catch (IOException e)
            {
                _logger.Unreadable(tailer.Path, e.Message);
            }
        }

        return progressed;
    }

    Task<IReadOnlyList<RefusedLine>> Send(RecordBatch batch, List<ReadSpan> spans)
    {
        // A line's identity must survive a crash before the line is seen anywhere else.
        if (spans.Exists(s => !s.Tailer.IsInCheckpoint) && !SaveCheckpoint())
        {
            batch.Dispose();
            return Task.FromException<IReadOnlyList<RefusedLine>>(new TransportUnavailableException($"the ids of new files cannot be saved in {_options.StateDirectory}."));
        }

        if (batch.Count == 0)
        {
            batch.Dispose();
            return Task.FromResult<IReadOnlyList<RefusedLine>>([]);
        }

        return _writer.WriteAsync(batch, _leave.Token);
    }

    /// <summary>Saves offsets and counts; what they refer to is made durable before. On failure everything stays as it was and is tried again.</summary>
    internal bool SaveCheckpoint()
    {
        if (!_isCheckpointDue && !_files.Tailers.Any(t => t.FileId is not null && !t.IsInCheckpoint)) return true;
        var started = _time.GetTimestamp();
        try
        {
            if (_hasUnflushedLetters) _deadLetter.Flush();
            _hasUnflushedLetters = false;
            _checkpointFile.Save(_files.AddTo(new Checkpoint { Counts = _metrics.Counts }));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            if (!_checkpointFails) _logger.CheckpointFailed(_options.StateDirectory, e.Message);
            _checkpointFails = _isCheckpointDue = true;
            _nextCheckpoint = After(_options.CheckpointInterval);
            return false;
        }

        if (_checkpointFails) _logger.CheckpointRecovered();
        _files.MarkSaved();
        _checkpointFails = _isCheckpointDue = false;
        _bytesSinceCheckpoint = 0;
        // With very many files a save takes long: it never takes more than a tenth of the time.
        var took = _time.GetElapsedTime(started);
        _nextCheckpoint = After(took * 10 > _options.CheckpointInterval ? took * 10 : _options.CheckpointInterval);
        return true;
    }

    /// <summary>Everything that the last search found is acknowledged.</summary>
    internal bool IsCaughtUp()
    {
        if (_files.Searches == 0 || _inFlight.Count > 0 || _failure is not null || !_files.IsSettled) return false;
        var quietSince = _time.GetTimestamp() - (long)(UnfinishedLineQuiet.TotalSeconds * _time.TimestampFrequency);
        return _files.Tailers.All(t => t.IsAtEnd && (t.TornBytes == 0 || t.LastChangeTicks <= quietSince));
    }

    // What was in the files when they asked is only known after a search.
    bool HasWaiters()
    {
        lock (_waitersLock) return _waiters.Count > 0;
    }

    void TellWaiters()
    {
        lock (_waitersLock)
        {
            if (_waiters.Count == 0 || !IsCaughtUp() || !SaveCheckpoint()) return;
            foreach (var waiter in _waiters.Where(w => _searchStarted > w.Search)) waiter.Done.TrySetResult();
            _waiters.RemoveAll(w => w.Done.Task.IsCompleted);
        }
    }

    async Task WaitForWorkAsync(CancellationToken stop)
    {
        var pause = Task.Delay(_options.PollInterval, _time, stop);
        var unfinished = _inFlight.FirstOrDefault(b => !b.Write.IsCompleted)?.Write;
        await (unfinished is null ? Task.WhenAny(pause) : Task.WhenAny(pause, unfinished)).ConfigureAwait(false);
    }

    async Task DrainAsync(CancellationToken leave)
    {
        var deadline = After(_options.StopLimit);
        while (_inFlight.Count > 0 && _failure is null && !IsDue(deadline) && !leave.IsCancellationRequested)
        {
            await WaitForWorkAsync(leave).ConfigureAwait(false);
            AcknowledgeBatches();
        }

        if (_inFlight.Count > 0) _logger.DrainLimitReached(_inFlight.Count, _options.StopLimit);
        if (leave.IsCancellationRequested) return;
        await _leave.CancelAsync().ConfigureAwait(false);
        foreach (var batch in _inFlight)
        {
            // They are told to end; whatever they say, their lines are sent again by the next run.
            await Task.WhenAny(batch.Write, Task.Delay(TimeSpan.FromSeconds(1), _time, CancellationToken.None)).ConfigureAwait(false);
        }
    }

    /// <summary>Lets go of files and state directory without saving anything, as a crash would.</summary>
    public void Dispose()
    {
        _leave.Cancel();
        _files?.Dispose();
        _hints?.Dispose();
        _deadLetter?.Dispose();
        _checkpointFile?.Dispose();
    }

    bool IsDue(long timestamp) => _time.GetTimestamp() >= timestamp;

    long After(TimeSpan delay) => _time.GetTimestamp() + (long)(delay.TotalSeconds * _time.TimestampFrequency);
}
