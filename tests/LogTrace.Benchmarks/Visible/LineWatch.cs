using System.Diagnostics;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Visible;

/// <summary>A line that has come to a file.</summary>
/// <param name="TraceId">Its trace.</param>
/// <param name="Path">The file.</param>
/// <param name="Offset">Where it begins, in bytes.</param>
/// <param name="Since">Timestamp of the last look that did not see it: it came after that.</param>
readonly record struct SeenLine(string TraceId, string Path, long Offset, long Since);

/// <summary>Sees lines come to all log files below a folder, whole ones only; lines without a trace are passed over. Not thread-safe.</summary>
sealed class LineWatch(string folder)
{
    readonly Dictionary<string, long> _ends = new(StringComparer.Ordinal);
    readonly byte[] _buffer = new byte[1 << 20];
    long _last = Stopwatch.GetTimestamp();

    /// <summary>Whole lines so far.</summary>
    public long Count { get; private set; }

    /// <summary>The lines that came since the last look.</summary>
    public List<SeenLine> Look()
    {
        var now = Stopwatch.GetTimestamp();
        var lines = new List<SeenLine>();
        foreach (var path in Directory.EnumerateFiles(folder, "*.log", SearchOption.AllDirectories)) Read(path, lines);
        _last = now;
        return lines;
    }

    void Read(string path, List<SeenLine> lines)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        var end = _ends.GetValueOrDefault(path);
        file.Position = end;
        var some = _buffer.AsSpan(0, file.ReadAtLeast(_buffer, _buffer.Length, throwOnEndOfStream: false));
        for (int length; (length = some.IndexOf((byte)'\n')) >= 0; some = some[(length + 1)..])
        {
            Count++;
            RecordCodec.TryReadTraceId(some[..length], out var start, out var size);
            if (size > 0) lines.Add(new SeenLine(System.Text.Encoding.ASCII.GetString(some.Slice(start, size)), path, end, _last));
            end += length + 1;
        }

        _ends[path] = end;
    }
}
