using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using LogTrace.Records;

namespace LogTrace.Indexer.Store;

/// <summary>How values that SQLite has no type for stand in the day files. All of it is pure.</summary>
static class SqliteValues
{
    // As little escaped as JSON allows: the files are for SQL, too.
    static readonly JsonSerializerOptions PlainJson = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static ReadOnlyMemory<byte> LineOf(TraceRecord record)
    {
        if (!record.SourceLine.IsEmpty) return record.SourceLine;
        var buffer = new ArrayBufferWriter<byte>(512);
        RecordCodec.Write(record, buffer);
        return buffer.WrittenMemory;
    }

    public static long KeyOf(string? traceId) => traceId is null ? 0 : (long)(ulong)(TraceHash.Of(traceId) >> 64);

    // Sorted, so that neighbouring keys meet the same pages.
    public static string KeysAsJson(string[] traceIds) => JsonSerializer.Serialize(traceIds.Select(KeyOf).Distinct().Order());

    public static string Json(IReadOnlyList<string> texts) => JsonSerializer.Serialize(texts, PlainJson);

    public static List<string> Texts(string json) => JsonSerializer.Deserialize<List<string>>(json) ?? [];

    public static ReadOnlySpan<byte> NameOf(RecordKind kind) => kind switch
    {
        RecordKind.Server => "server"u8,
        RecordKind.Client => "client"u8,
        RecordKind.Internal => "internal"u8,
        RecordKind.Metric => "metric"u8,
        _ => "event"u8,
    };

    public static RecordKind KindOf(string name) => name switch
    {
        "server" => RecordKind.Server,
        "client" => RecordKind.Client,
        "internal" => RecordKind.Internal,
        "metric" => RecordKind.Metric,
        _ => RecordKind.Event,
    };
}
