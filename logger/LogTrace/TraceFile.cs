using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Microsoft.Win32.SafeHandles;
using Serilog.Debugging;

namespace LogTrace;

/// <summary>Why a line was given up.</summary>
public enum DropReason
{
    /// <summary>The queue was full and stayed so for <see cref="TraceFileOptions.MaxBlock"/>, or no caller is to wait.</summary>
    QueueFull,

    /// <summary>The disk refused it: full, gone, or not to be written to.</summary>
    Disk,

    /// <summary>It came after the file was closed.</summary>
    Closed,
}

/// <summary>Makes a line of what was packed, when its turn to be written comes.</summary>
interface ILineMaker
{
    /// <summary>Adds the line with its line end. Never throws.</summary>
    void Make(ReadOnlySpan<byte> packed, LineWriter line);
}

/// <summary>
/// Appends whole lines to files of this process's own, from one thread. Lines wait in one of two buffers while the other is written; when the waiting
/// one is full, callers wait for a limited time and then drop their line, counted. Records and log lines mostly wait there packed, at their place among the lines, and are made
/// lines by the thread that writes: it has time, and all it needs at hand. While it is behind, callers make the lines of their records themselves.
/// </summary>
/// <remarks>
/// Two buffers, made at the start, instead of a channel of lines: the bound is bytes, a batch is one write, and a line costs a copy instead of an allocation.
/// Thread-safe. <see cref="Dispose"/> writes what waits and syncs it to the disk; so does the end of the process, by SIGTERM and by an unhandled exception, too.
/// </remarks>
public sealed class TraceFile : IDisposable
{
    static readonly TimeSpan s_othersAreAlive = TimeSpan.FromHours(1);
    static readonly TimeSpan s_lastWords = TimeSpan.FromSeconds(2);
    static readonly TimeSpan s_shutdown = TimeSpan.FromMinutes(1);
    static readonly PosixSignal[] s_signals = [PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGQUIT, PosixSignal.SIGHUP];
    static readonly DropReason[] s_reasons = Enum.GetValues<DropReason>();

    // What packed events become lines in before they are written.
    const int PieceBytes = 64 * 1024;

    // Of a packed event; where they are smaller, memory for more of them is made.
    const int UsualBytes = 1024;

    // More than the processor's caches hold: packed records that have gone to memory cost more to bring back than was saved by packing them.
    const int MaxBehindBytes = 4 * 1024 * 1024;

    readonly TraceFileOptions _options;
    readonly TimeProvider _time;
    readonly int _behindBytes;
    readonly string _folder;
    readonly string _stem;
    readonly string _ending;
    readonly string _started = DateTime.UtcNow.ToString("yyyyMMdd'T'HHmmssfff", CultureInfo.InvariantCulture);
    readonly Thread _writer;
    readonly PosixSignalRegistration[] _signals;
    readonly Lock _fileGate = new();
    readonly object _gate = new();

    // Guarded by _gate.
    byte[] _waiting;
    byte[] _spare;
    PackedEvent[] _waitingEvents;
    PackedEvent[] _spareEvents;
    int _waitingEventCount;
    int _waitingBytes;
    int _waitingLines;
    long _taken;
    long _settled;
    bool _flushNow;
    bool _sleeps;
    bool _closing;
    long _writeThroughUntil;
    bool _stalled;

    // Guarded by _fileGate.
    SafeFileHandle? _file;
    string? _path;
    long _position;
    int _number;
    long _lastLook;
    DateTimeOffset _rollAt;
    bool _failing;

    // The writer's own.
    readonly long[] _reported = new long[s_reasons.Length];

    readonly long[] _dropped = new long[s_reasons.Length];
    long _written;

    /// <summary>Where among the waiting lines an event stands.</summary>
    readonly record struct PackedEvent(ILineMaker Maker, int At, int Length);

    /// <summary>Opens the first file.</summary>
    /// <exception cref="LogTraceOptionsException">The options do not hold.</exception>
    /// <exception cref="IOException">The folder or file cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder or file may not be made.</exception>
    public TraceFile(TraceFileOptions options)
        : this(options, TimeProvider.System)
    {
    }

    internal TraceFile(TraceFileOptions options, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Validate() is { Count: > 0 } problems) throw new LogTraceOptionsException(problems);
        _options = options;
        _time = time;
        _behindBytes = Math.Min(options.QueueBytes / 4, MaxBehindBytes);
        _waiting = NewBuffer();
        _spare = NewBuffer();
        _waitingEvents = new PackedEvent[options.QueueBytes / 2 / UsualBytes];
        _spareEvents = new PackedEvent[options.QueueBytes / 2 / UsualBytes];
        var path = Path.GetFullPath(options.Path);
        _folder = Path.GetDirectoryName(path)!;
        _stem = Path.GetFileNameWithoutExtension(path);
        _ending = Path.GetExtension(path);
        OpenNext();
        AppDomain.CurrentDomain.ProcessExit += OnProcessExit;
        AppDomain.CurrentDomain.UnhandledException += OnUnhandledException;
        _signals = [.. s_signals.Select(signal => PosixSignalRegistration.Create(signal, OnSignal))];
        _writer = new Thread(Run) { IsBackground = true, Name = "LogTrace file writer" };
        // The writer must not keep the context of whoever made it alive.
        _writer.UnsafeStart();
    }

    /// <summary>Called before each write, for tests that let the disk stand still.</summary>
    internal Action? BeforeWrite { get; set; }

    /// <summary>Makes a line that says how many lines were given up and why. It is written as soon as a line can be written again.</summary>
    internal Func<DropReason, long, byte[]>? DropReport { get; set; }

    /// <summary>Lines that the operating system has.</summary>
    public long Written => Interlocked.Read(ref _written);

    /// <summary>Lines given up: the queue stayed full, the disk refused, or the file was closed.</summary>
    public long Dropped => s_reasons.Sum(DroppedFor);

    /// <summary>Whether so much waits that callers had better make lines themselves. A moment's answer.</summary>
    internal bool IsBehind => Volatile.Read(ref _waitingBytes) > _behindBytes;

    /// <summary>Whether the thread that writes waits for a line without a look at the clock, for tests.</summary>
    internal bool IsIdle
    {
        get
        {
            lock (_gate) return _sleeps;
        }
    }

    /// <summary>The file that is written to now; null while the disk refuses.</summary>
    public string? CurrentPath
    {
        get
        {
            lock (_fileGate) return _path;
        }
    }

    /// <summary>Lines given up for one reason.</summary>
    public long DroppedFor(DropReason reason) => Interlocked.Read(ref _dropped[(int)reason]);

    /// <summary>Pattern that finds the files of all processes that write to <paramref name="path"/>, for a shipper: <c>logs/orders-*.log</c>.</summary>
    public static string PatternFor(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Path.Combine(Path.GetDirectoryName(path) ?? "", $"{Path.GetFileNameWithoutExtension(path)}-*{Path.GetExtension(path)}");
    }

    /// <summary>
    /// Queues one line, which must end in its only <c>\n</c>. When the queue is full, does what <see cref="TraceFileOptions.WhenFull"/> says; false means that the line was
    /// dropped and counted. Never throws.
    /// </summary>
    public bool Append(ReadOnlySpan<byte> line) => Append(line, null);

    /// <summary>The same for what becomes a line on the thread that writes.</summary>
    /// <param name="line">A packed event or record, or a line.</param>
    /// <param name="maker">What makes its line; null for a line.</param>
    internal bool Append(ReadOnlySpan<byte> line, ILineMaker? maker)
    {
        lock (_gate)
        {
            if (_closing) return Drop(DropReason.Closed, 1);
            if (!Fits(line.Length) && !WaitForRoom(line.Length)) return Drop(_closing ? DropReason.Closed : DropReason.QueueFull, 1);
            // Longer than a buffer: it comes alone and in a buffer of its own.
            if (line.Length > _waiting.Length) _waiting = new byte[line.Length];
            line.CopyTo(_waiting.AsSpan(_waitingBytes));
            if (maker is not null) AddEvent(new(maker, _waitingBytes, line.Length));
            var before = _waitingBytes;
            _waitingBytes += line.Length;
            _waitingLines++;
            _taken++;
            // The writer wakes up for the line that fills a batch. For the first one only when there was none for a while: else it looks at the clock anyway, before that line is too old.
            if (_sleeps || (before < _options.FlushBytes && _waitingBytes >= _options.FlushBytes))
            {
                _sleeps = false;
                Monitor.PulseAll(_gate);
            }

            // The process may be gone at any moment: what is accepted now has to be in the file.
            if (_writeThroughUntil != 0 && _writeThroughUntil > Environment.TickCount64) WaitUntilSettled(_taken, _options.MaxBlock);
            return true;
        }
    }

    /// <summary>Waits until every line queued so far is with the operating system or dropped. False when that took longer than <paramref name="timeout"/>.</summary>
    public bool Flush(TimeSpan timeout)
    {
        lock (_gate) return WaitUntilSettled(_taken, timeout);
    }

    /// <summary>Writes what waits, syncs the file to the disk and closes it. Lines that come later are dropped and counted.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _closing = true;
            Monitor.PulseAll(_gate);
        }

        AppDomain.CurrentDomain.ProcessExit -= OnProcessExit;
        AppDomain.CurrentDomain.UnhandledException -= OnUnhandledException;
        foreach (var signal in _signals) signal.Dispose();
        _writer.Join();
        lock (_fileGate)
        {
            Sync();
            Close();
        }
    }

    void OnProcessExit(object? sender, EventArgs arguments) => BeforeTheEnd(long.MaxValue);

    // Since .NET 10 nothing but the signal's handlers runs before it ends the process. Where one of them keeps the process alive, to shut down in order, that takes a while.
    void OnSignal(PosixSignalContext context) => BeforeTheEnd(Environment.TickCount64 + (long)s_shutdown.TotalMilliseconds);

    // The file stays open: other handlers may have something to say, too.
    void BeforeTheEnd(long writeThroughUntil)
    {
        lock (_gate)
        {
            _writeThroughUntil = Math.Max(_writeThroughUntil, writeThroughUntil);
            WaitUntilSettled(_taken, s_shutdown);
        }

        lock (_fileGate) Sync();
    }

    // What was logged last says most about a crash, and no ProcessExit follows on it.
    void OnUnhandledException(object sender, UnhandledExceptionEventArgs arguments) => Flush(s_lastWords);

    bool WaitUntilSettled(long target, TimeSpan timeout)
    {
        var deadline = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
        while (_settled < target)
        {
            _flushNow = true;
            Monitor.PulseAll(_gate);
            var left = deadline - Environment.TickCount64;
            if (left <= 0 || !Monitor.Wait(_gate, (int)Math.Min(left, int.MaxValue))) return _settled >= target;
        }

        return true;
    }

    void AddEvent(PackedEvent packed)
    {
        if (_waitingEventCount == _waitingEvents.Length) Array.Resize(ref _waitingEvents, _waitingEventCount * 2);
        _waitingEvents[_waitingEventCount++] = packed;
    }

    byte[] NewBuffer() => GC.AllocateUninitializedArray<byte>(_options.QueueBytes / 2);

    bool Drop(DropReason reason, long lines)
    {
        Interlocked.Add(ref _dropped[(int)reason], lines);
        return false;
    }

    bool WaitForRoom(int bytes)
    {
        // One caller found out that the disk stands still; a thousand others need not wait a second each to find out the same.
        if (_stalled || _options.WhenFull == FullQueue.DropNewest) return false;
        var deadline = Environment.TickCount64 + (long)_options.MaxBlock.TotalMilliseconds;
        while (!Fits(bytes))
        {
            var left = deadline - Environment.TickCount64;
            if (left <= 0)
            {
                _stalled = true;
                return false;
            }

            // What waits may be too little for a batch yet, and take the room all the same.
            if (!_flushNow)
            {
                _flushNow = true;
                Monitor.PulseAll(_gate);
            }

            Monitor.Wait(_gate, (int)left);
            if (_closing) return false;
        }

        return true;
    }

    // A line longer than a buffer is taken when nothing else waits.
    bool Fits(int bytes) => _waitingBytes == 0 || _waitingBytes + bytes <= _waiting.Length;

    void Run()
    {
        while (true)
        {
            byte[] batch;
            PackedEvent[] events;
            int bytes, lines, eventCount;
            lock (_gate)
            {
                AwaitBatch();
                if (_waitingBytes == 0) return;
                _flushNow = false;
                batch = _waiting;
                bytes = _waitingBytes;
                lines = _waitingLines;
                _waiting = _spare;
                _spare = batch.Length == _options.QueueBytes / 2 ? batch : NewBuffer();
                (events, eventCount) = (_waitingEvents, _waitingEventCount);
                (_waitingEvents, _spareEvents) = (_spareEvents, events);
                _waitingBytes = _waitingLines = _waitingEventCount = 0;
                Monitor.PulseAll(_gate);
            }

            BeforeWrite?.Invoke();
            var written = eventCount == 0 ? WriteOut(batch.AsSpan(0, bytes)) : WriteOut(batch.AsSpan(0, bytes), events.AsSpan(0, eventCount));
            if (written < lines) Drop(DropReason.Disk, lines - written);
            else ReportDrops();
            lock (_gate)
            {
                _settled += lines;
                _stalled = false;
                Monitor.PulseAll(_gate);
            }
        }
    }

    /// <summary>Waits, with the gate held, until lines had better be written: none when the file is closed and all is written.</summary>
    void AwaitBatch()
    {
        var deadline = Environment.TickCount64 + (long)_options.FlushInterval.TotalMilliseconds;
        while (_waitingBytes < _options.FlushBytes && !_closing && !(_flushNow && _waitingBytes > 0))
        {
            var left = deadline - Environment.TickCount64;
            if (left > 0)
            {
                Monitor.Wait(_gate, (int)left);
            }
            else if (_waitingBytes > 0)
            {
                return;
            }
            else
            {
                _sleeps = true;
                Monitor.Wait(_gate);
                _sleeps = false;
                deadline = Environment.TickCount64 + (long)_options.FlushInterval.TotalMilliseconds;
            }
        }
    }

    /// <summary>Writes lines and what becomes of the events between them, in their order; gives the number of lines written.</summary>
    int WriteOut(ReadOnlySpan<byte> lines, ReadOnlySpan<PackedEvent> events)
    {
        var written = 0;
        var done = 0;
        var piece = LineWriter.Rent();
        foreach (ref readonly var packed in events)
        {
            AddLines(lines[done..packed.At]);
            done = packed.At + packed.Length;
            packed.Maker.Make(lines[packed.At..done], piece);
            if (piece.Length >= PieceBytes) WritePiece();
        }

        AddLines(lines[done..]);
        WritePiece();
        LineWriter.Return(piece);
        return written;

        void AddLines(ReadOnlySpan<byte> between)
        {
            if (between.Length < PieceBytes)
            {
                piece.Raw(between);
                return;
            }

            WritePiece();
            written += WriteOut(between);
        }

        void WritePiece()
        {
            if (piece.Length > 0) written += WriteOut(piece.Written);
            piece.CutTo(0);
        }
    }

    void ReportDrops()
    {
        if (DropReport is null) return;
        foreach (var reason in s_reasons)
        {
            var dropped = DroppedFor(reason);
            if (dropped == _reported[(int)reason]) continue;
            if (WriteOut(DropReport(reason, dropped - _reported[(int)reason])) > 0) _reported[(int)reason] = dropped;
        }
    }

    /// <summary>Writes whole lines, beginning new files on the way; gives the number of lines written.</summary>
    int WriteOut(ReadOnlySpan<byte> batch)
    {
        var lines = 0;
        lock (_fileGate)
        {
            try
            {
                LookAtFile();
                while (!batch.IsEmpty)
                {
                    var part = batch[..Fitting(batch)];
                    if (part.IsEmpty)
                    {
                        Close();
                        OpenNext();
                        continue;
                    }

                    RandomAccess.Write(_file!, part, _position);
                    _position += part.Length;
                    lines += part.Count((byte)'\n');
                    batch = batch[part.Length..];
                }

                if (_failing) SelfLog.WriteLine("LogTrace: writing to {0} works again.", _path);
                _failing = false;
            }
            catch (Exception exception)
            {
                // Whatever a disk can think of: it must not end the process that only wanted to log. Said once for each time it begins; the lines are counted as dropped.
                if (!_failing) SelfLog.WriteLine("LogTrace: cannot write to {0}: {1} Lines are dropped and counted until it works again.", _path ?? _folder, exception.Message);
                _failing = true;
                lines += KeepWholeLines(batch);
            }
        }

        Interlocked.Add(ref _written, lines);
        return lines;
    }

    /// <summary>What reached the file of a refused batch: its whole lines count as written, a torn one is cut off, so that the next line does not continue it.</summary>
    int KeepWholeLines(ReadOnlySpan<byte> batch)
    {
        if (_file is null) return 0;
        try
        {
            var reached = RandomAccess.GetLength(_file) - _position;
            if (reached <= 0) return 0;
            var whole = batch[..(int)Math.Min(reached, batch.Length)].LastIndexOf((byte)'\n') + 1;
            RandomAccess.SetLength(_file, _position + whole);
            _position += whole;
            return batch[..whole].Count((byte)'\n');
        }
        catch (IOException)
        {
            // It stays as a torn last line, which a shipper never sends, as nothing is appended to this file again.
            Close();
            return 0;
        }
    }

    int Fitting(ReadOnlySpan<byte> batch)
    {
        var room = _options.RollBytes - _position;
        if (batch.Length <= room) return batch.Length;
        var end = room > 0 ? batch[..(int)room].LastIndexOf((byte)'\n') + 1 : 0;
        // A line that is longer than a file may be gets a file of its own.
        return end > 0 || _position > 0 ? end : batch.IndexOf((byte)'\n') + 1;
    }

    void LookAtFile()
    {
        if (_file is not null && _position > 0 && _time.GetUtcNow() >= _rollAt) Close();
        if (_file is not null)
        {
            // Somebody who truncates our file moves its end: writing on at the old place would leave a hole of zeros.
            _position = Math.Min(_position, RandomAccess.GetLength(_file));
            if (Environment.TickCount64 - _lastLook < 1000) return;
            _lastLook = Environment.TickCount64;
            if (File.Exists(_path)) return;
            Close();
        }

        OpenNext();
    }

    void OpenNext()
    {
        Directory.CreateDirectory(_folder);
        while (true)
        {
            _number++;
            var path = Path.Combine(_folder, string.Create(CultureInfo.InvariantCulture, $"{_stem}-{_started}-{Environment.ProcessId}-{_number:0000}{_ending}"));
            try
            {
                _file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
                _path = path;
                _position = 0;
                _lastLook = Environment.TickCount64;
                _rollAt = NextRoll(_time.GetUtcNow());
                Retain();
                return;
            }
            catch (IOException) when (File.Exists(path))
            {
                // Another container with the same pid began in the same millisecond: the next number is free.
            }
        }
    }

    // Whole intervals since the epoch: a day begins at midnight UTC, an hour on the hour.
    DateTimeOffset NextRoll(DateTimeOffset now) =>
        _options.RollInterval is { } interval ? DateTimeOffset.UnixEpoch + (Math.Floor((now - DateTimeOffset.UnixEpoch) / interval) + 1) * interval : DateTimeOffset.MaxValue;

    void Sync()
    {
        if (_file is null) return;
        try
        {
            RandomAccess.FlushToDisk(_file);
        }
        catch (IOException exception)
        {
            SelfLog.WriteLine("LogTrace: cannot sync {0}: {1}", _path, exception.Message);
        }
    }

    void Close()
    {
        _file?.Dispose();
        _file = null;
        _path = null;
    }

    void Retain()
    {
        if (_options is { RetainBytes: null, RetainFiles: null, RetainAge: null }) return;
        try
        {
            var names = new Regex($"^{Regex.Escape(_stem)}-[0-9]{{8}}T[0-9]{{9}}-[0-9]+-[0-9]{{4,}}{Regex.Escape(_ending)}$", RegexOptions.CultureInvariant);
            var files = new DirectoryInfo(_folder).EnumerateFiles($"{_stem}-*{_ending}")
                .Where(file => names.IsMatch(file.Name) && file.FullName != _path)
                .OrderBy(file => file.LastWriteTimeUtc).ThenBy(file => file.Name, StringComparer.Ordinal).ToList();
            var bytes = files.Sum(file => file.Length) + _options.RollBytes;
            var count = files.Count + 1;
            var own = $"{_stem}-{_started}-{Environment.ProcessId}-";
            var now = _time.GetUtcNow();
            foreach (var file in files)
            {
                var age = now - file.LastWriteTimeUtc;
                if (bytes <= (_options.RetainBytes ?? long.MaxValue) && count <= (_options.RetainFiles ?? int.MaxValue) && age <= (_options.RetainAge ?? TimeSpan.MaxValue)) return;
                // A file of another process may still be written to.
                if (!file.Name.StartsWith(own, StringComparison.Ordinal) && age < s_othersAreAlive) continue;
                bytes -= file.Length;
                count--;
                file.Delete();
            }
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            // Tried again with the next file; no line is lost over it.
            SelfLog.WriteLine("LogTrace: cannot delete old files of {0}: {1}", _options.Path, exception.Message);
        }
    }
}
