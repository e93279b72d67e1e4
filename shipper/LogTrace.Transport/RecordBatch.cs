using System.Buffers;
using System.Collections.Concurrent;
using System.Runtime.InteropServices;

namespace LogTrace.Transport;

/// <summary>One line in a batch: a slice of the batch's buffer, and where it was read.</summary>
/// <param name="Start">First byte in the batch's buffer.</param>
/// <param name="Length">Bytes, without the line end.</param>
/// <param name="Source">The file.</param>
/// <param name="Offset">Byte offset of the line in the file.</param>
/// <param name="KeyStart">First byte of the trace_id in the batch's buffer; it keys the record in Kafka.</param>
/// <param name="KeyLength">Bytes of the trace_id; 0 for a line without one.</param>
public readonly record struct BatchLine(int Start, int Length, SourceFile Source, long Offset, int KeyStart, int KeyLength);

/// <summary>
/// Whole lines as read, UTF-8, in one pooled buffer. The receiver owns a batch and disposes of it; spans and memory taken from it are
/// invalid afterwards. Not safe for concurrent use.
/// </summary>
public sealed class RecordBatch : IDisposable
{
    // A list of thousands of lines is a large object: made anew for every batch it would be most of what the garbage collector has to do.
    const int MaxKept = 16;
    static readonly ConcurrentBag<List<BatchLine>> Kept = [];
    static readonly List<BatchLine> Gone = [];

    List<BatchLine> _lines;
    byte[] _buffer;
    int _used;

    /// <summary>Creates an empty batch.</summary>
    /// <param name="capacityBytes">Bytes rented at once; the buffer grows beyond that by doubling.</param>
    public RecordBatch(int capacityBytes = 64 * 1024)
    {
        _buffer = ArrayPool<byte>.Shared.Rent(capacityBytes);
        _lines = Kept.TryTake(out var kept) ? kept : new List<BatchLine>(256);
    }

    /// <summary>The lines in the order they were added.</summary>
    public IReadOnlyList<BatchLine> Lines => _lines;

    /// <summary>Number of lines.</summary>
    public int Count => _lines.Count;

    /// <summary>Bytes of all lines.</summary>
    public int Bytes => _used;

    /// <summary>
    /// What the transport needs to commit the batch; set and read by the reader that made it.
    /// </summary>
    public object? Receipt { get; set; }

    /// <summary>Copies a line into the batch.</summary>
    /// <param name="line">The line without its end.</param>
    /// <param name="source">The file it was read from.</param>
    /// <param name="offset">Its byte offset there.</param>
    /// <param name="keyStart">Where in <paramref name="line"/> the trace_id starts.</param>
    /// <param name="keyLength">Bytes of the trace_id; 0 when there is none.</param>
    public void Add(ReadOnlySpan<byte> line, SourceFile source, long offset, int keyStart = 0, int keyLength = 0)
    {
        if (_buffer.Length - _used < line.Length) Grow(line.Length);
        line.CopyTo(_buffer.AsSpan(_used));
        _lines.Add(new BatchLine(_used, line.Length, source, offset, _used + keyStart, keyLength));
        _used += line.Length;
    }

    /// <summary>The bytes of a line; valid until the batch is disposed of.</summary>
    public ReadOnlyMemory<byte> Memory(in BatchLine line) => _buffer.AsMemory(line.Start, line.Length);

    /// <summary>The bytes of a line; valid until the batch is disposed of.</summary>
    public ReadOnlySpan<byte> Span(in BatchLine line) => _buffer.AsSpan(line.Start, line.Length);

    /// <summary>The trace_id of a line as UTF-8, empty when it has none; valid until the batch is disposed of.</summary>
    public ReadOnlySpan<byte> Key(in BatchLine line) => _buffer.AsSpan(line.KeyStart, line.KeyLength);

    internal ReadOnlySpan<BatchLine> AllLines => CollectionsMarshal.AsSpan(_lines);

    /// <summary>Fixes the buffer in its place; nothing may be added while it is.</summary>
    internal MemoryHandle Pin() => _buffer.AsMemory().Pin();

    void Grow(int needed)
    {
        var larger = ArrayPool<byte>.Shared.Rent(Math.Max(_buffer.Length * 2, _used + needed));
        _buffer.AsSpan(0, _used).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = larger;
    }

    /// <summary>Gives the buffer back. Further calls do nothing.</summary>
    public void Dispose()
    {
        var buffer = Interlocked.Exchange(ref _buffer, []);
        if (buffer.Length > 0) ArrayPool<byte>.Shared.Return(buffer);
        var lines = Interlocked.Exchange(ref _lines, Gone);
        if (lines == Gone || Kept.Count >= MaxKept) return;
        lines.Clear();
        Kept.Add(lines);
    }
}
