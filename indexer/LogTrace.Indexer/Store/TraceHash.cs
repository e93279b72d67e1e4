using System.IO.Hashing;
using System.Text;
using LogTrace.Records;

namespace LogTrace.Indexer.Store;

/// <summary>What the stores find a trace by, in place of an id of any length: the 128-bit XxHash of its UTF-8 bytes.</summary>
static class TraceHash
{
    public static UInt128 Of(string traceId)
    {
        Span<byte> utf8 = traceId.Length <= RecordCodec.MaxTraceIdBytes ? stackalloc byte[RecordCodec.MaxTraceIdBytes * 3] : new byte[traceId.Length * 3];
        return XxHash128.HashToUInt128(utf8[..Encoding.UTF8.GetBytes(traceId, utf8)]);
    }
}
