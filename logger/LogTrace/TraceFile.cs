using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.Win32.SafeHandles;
using Serilog.Debugging;

namespace LogTrace;

/// <summary>
/// Appends whole lines to files of this process's own, from one thread. Lines wait in one of two buffers while the other is written; when the waiting
/// one is full, callers wait for a limited time and then drop their line, counted.
/// </summary>
/// <remarks>
/// Two buffers instead of a channel of lines: the bound is bytes, a batch is one write, and a line costs a copy instead of an allocation.
/// Thread-safe. <see cref="Dispose"/> writes what waits and syncs it to the disk.
/// </remarks>
public sealed class TraceFile : IDisposable
{
    static readonly TimeSpan s_othersAreAlive = TimeSpan.FromHours(1);

    readonly TraceFileOptions _options;
    readonly string _folder;
    readonly string _stem;
    readonly string _ending;
    readonly string _started = DateTime.UtcNow.ToString("yyyyMMdd'T'HHmmssfff", CultureInfo.InvariantCulture);
    readonly Thread _writer;
    readonly Lock _fileGate = new();
    readonly object _gate = new();

    // Guarded by _gate.
    byte[] _waiting = new byte[64 * 1024];
    byte[] _spare = new byte[64 * 1024];
    int _waitingBytes;
    int _waitingLines;
    long _taken;
    long _settled;
    bool _flushNow;
    bool _closing;
    bool _stalled;

    // Guarded by _fileGate.
    SafeFileHandle? _file;
    string? _path;
    long _position;
    int _number;
    long _lastLook;
    bool _failing;

    long _written;
    long _dropped;

    /// <summary>Opens the first file.</summary>
    /// <exception cref="LogTraceOptionsException">The options do not hold.</exception>
    /// <exception cref="IOException">The folder or file cannot be made.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder or file may not be made.</exception>
    public TraceFile(TraceFileOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Validate() is { Count: > 0 } problems) throw new LogTraceOptionsException(problems);
        _options = options;
        var path = Path.GetFullPath(options.Path);
        _folder = Path.GetDirectoryName(path)!;
        _stem = Path.GetFileNameWithoutExtension(path);
        _ending = Path.GetExtension(path);
        OpenNext();
        AppDomain.CurrentDomain.ProcessExit += OnProcessExit;
        _writer = new Thread(Run) { IsBackground = true, Name = "LogTrace file writer" };
        // The writer must not keep the context of whoever made it alive.
        _writer.UnsafeStart();
    }

    /// <summary>Called before each write, for tests that let the disk stand still.</summary>
    internal Action? BeforeWrite { get; set; }

    /// <summary>Lines that the operating system has.</summary>
    public long Written => Interlocked.Read(ref _written);

    /// <summary>Lines given up: the queue stayed full, the disk refused, or the file was closed.</summary>
    public long Dropped => Interlocked.Read(ref _dropped);

    /// <summary>The file that is written to now; null while the disk refuses.</summary>
    public string? CurrentPath
    {
        get
        {
            lock (_fileGate) return _path;
        }
    }

    /// <summary>Pattern that finds the files of all processes that write to <paramref name="path"/>, for a shipper: <c>logs/orders-*.log</c>.</summary>
    public static string PatternFor(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        return Path.Combine(Path.GetDirectoryName(path) ?? "", $"{Path.GetFileNameWithoutExtension(path)}-*{Path.GetExtension(path)}");
    }

    /// <summary>
    /// Queues one line, which must end in its only <c>\n</c>. Waits at most <see cref="TraceFileOptions.MaxBlock"/> for room; false means that the line was dropped
    /// and counted. Never throws.
    /// </summary>
    public bool Append(ReadOnlySpan<byte> line)
    {
        lock (_gate)
        {
            if (_closing || !WaitForRoom(line.Length))
            {
                Interlocked.Increment(ref _dropped);
                return false;
            }

            if (_waiting.Length - _waitingBytes < line.Length) Array.Resize(ref _waiting, Math.Max(_waitingBytes + line.Length, Math.Min(_waiting.Length * 2, _options.QueueBytes)));
            line.CopyTo(_waiting.AsSpan(_waitingBytes));
            var before = _waitingBytes;
            _waitingBytes += line.Length;
            _waitingLines++;
            _taken++;
            if (before == 0 || (before < _options.FlushBytes && _waitingBytes >= _options.FlushBytes)) Monitor.PulseAll(_gate);
            return true;
        }
    }

    /// <summary>Waits until every line queued so far is with the operating system or dropped. False when that took longer than <paramref name="timeout"/>.</summary>
    public bool Flush(TimeSpan timeout)
    {
        var deadline = Environment.TickCount64 + (long)timeout.TotalMilliseconds;
        lock (_gate)
        {
            var target = _taken;
            while (_settled < target)
            {
                _flushNow = true;
                Monitor.PulseAll(_gate);
                var left = deadline - Environment.TickCount64;
                if (left <= 0 || !Monitor.Wait(_gate, (int)Math.Min(left, int.MaxValue))) return _settled >= target;
            }

            return true;
        }
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
        _writer.Join();
        lock (_fileGate) Close();
    }

    void OnProcessExit(object? sender, EventArgs arguments) => Dispose();

    bool WaitForRoom(int bytes)
    {
        if (Fits(bytes)) return true;
        // One caller found out that the disk stands still; a thousand others need not wait a second each to find out the same.
        if (_stalled) return false;
        var deadline = Environment.TickCount64 + (long)_options.MaxBlock.TotalMilliseconds;
        while (!Fits(bytes))
        {
            var left = deadline - Environment.TickCount64;
            if (left <= 0)
            {
                _stalled = true;
                return false;
            }

            Monitor.Wait(_gate, (int)left);
            if (_closing) return false;
        }

        return true;
    }

    // A line longer than the whole queue is taken when nothing else waits.
    bool Fits(int bytes) => _waitingBytes == 0 || _waitingBytes + bytes <= _options.QueueBytes;

    void Run()
    {
        while (true)
        {
            byte[] batch;
            int bytes, lines;
            lock (_gate)
            {
                while (_waitingBytes == 0 && !_closing)
                {
                    _flushNow = false;
                    Monitor.Wait(_gate);
                }

                if (_waitingBytes == 0) return;
                var deadline = Environment.TickCount64 + (long)_options.FlushInterval.TotalMilliseconds;
                while (_waitingBytes < _options.FlushBytes && !_closing && !_flushNow)
                {
                    var left = deadline - Environment.TickCount64;
                    if (left <= 0) break;
                    Monitor.Wait(_gate, (int)left);
                }

                batch = _waiting;
                bytes = _waitingBytes;
                lines = _waitingLines;
                _waiting = _spare;
                _spare = batch;
                _waitingBytes = _waitingLines = 0;
                Monitor.PulseAll(_gate);
            }

            BeforeWrite?.Invoke();
            var written = WriteOut(batch.AsSpan(0, bytes));
            Interlocked.Add(ref _written, written);
            Interlocked.Add(ref _dropped, lines - written);
            lock (_gate)
            {
                _settled += lines;
                _stalled = false;
                Monitor.PulseAll(_gate);
            }
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
                        Retain();
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
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
            {
                // Said once for each time it begins; the lines are counted as dropped.
                if (!_failing) SelfLog.WriteLine("LogTrace: cannot write to {0}: {1} Lines are dropped and counted until it works again.", _path ?? _folder, exception.Message);
                _failing = true;
                CutTornLine();
            }
        }

        return lines;
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
                return;
            }
            catch (IOException) when (File.Exists(path))
            {
                // Another container with the same pid began in the same millisecond: the next number is free.
            }
        }
    }

    void CutTornLine()
    {
        if (_file is null) return;
        try
        {
            RandomAccess.SetLength(_file, _position);
        }
        catch (IOException)
        {
            // It stays as a torn last line, which a shipper never sends, as nothing is appended to this file again.
        }

        Close();
    }

    void Close()
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

        _file.Dispose();
        _file = null;
        _path = null;
    }

    void Retain()
    {
        if (_options.RetainBytes is not { } limit) return;
        var names = new Regex($"^{Regex.Escape(_stem)}-[0-9]{{8}}T[0-9]{{9}}-[0-9]+-[0-9]{{4,}}{Regex.Escape(_ending)}$", RegexOptions.CultureInvariant);
        var files = new DirectoryInfo(_folder).EnumerateFiles($"{_stem}-*{_ending}")
            .Where(file => names.IsMatch(file.Name) && file.FullName != _path)
            .OrderBy(file => file.LastWriteTimeUtc).ThenBy(file => file.Name, StringComparer.Ordinal).ToList();
        var total = files.Sum(file => file.Length) + _options.RollBytes;
        var own = $"{_stem}-{_started}-{Environment.ProcessId}-";
        foreach (var file in files)
        {
            if (total <= limit) return;
            // A file of another process may still be written to.
            if (!file.Name.StartsWith(own, StringComparison.Ordinal) && DateTime.UtcNow - file.LastWriteTimeUtc < s_othersAreAlive) continue;
            total -= file.Length;
            file.Delete();
        }
    }
}
