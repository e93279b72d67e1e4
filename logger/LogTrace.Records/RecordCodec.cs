using System.Buffers;

namespace LogTrace.Records;

/// <summary>UTF-8 line to <see cref="TraceRecord"/> and back. Thread-safe: it has no state.</summary>
public static class RecordCodec
{
    /// <summary>
    /// Reads one line (without its line end). Never throws, whatever the bytes. False means that the line is no record and has to
    /// be set aside for <paramref name="reason"/>, a sentence part such as <c>rpc_id '1..2': a segment is empty</c>.
    /// The record refers to <paramref name="line"/>, which must not change while the record is in use.
    /// </summary>
    public static bool TryRead(ReadOnlyMemory<byte> line, out TraceRecord record, out string? reason)
    {
        record = new TraceRecord();
        reason = "not implemented";
        return false;
    }

    /// <summary>
    /// Finds the trace_id of a line (also as x_trace_id, or CLEF's) without reading the rest; the slice is raw JSON text without quotes. False when it has none.
    /// </summary>
    public static bool TryReadTraceId(ReadOnlySpan<byte> line, out int start, out int length)
    {
        start = length = 0;
        return false;
    }

    /// <summary>Writes the record as one JSON object in SCHEMA.md's names and order, without a line end.</summary>
    public static void Write(TraceRecord record, IBufferWriter<byte> output) => throw new NotSupportedException();
}
