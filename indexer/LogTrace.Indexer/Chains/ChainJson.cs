using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// A chain as one JSON object, for programs: what <c>rebuild --json</c> and <c>chain --json</c> print, one a line. Members may be
/// added, never changed. A chain from the store and one from files are the same text but for <c>records</c>.
/// Times are as logged; <c>self_us</c> (microseconds, null where not known) and <c>critical</c> are found with times that are corrected for clocks, see <see cref="ChainTimes"/>.
/// </summary>
public static class ChainJson
{
    // Readable for people too; the output is JSON for programs, never put into a page.
    static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes the object, without a line end.</summary>
    public static void Write(CallChain chain, IBufferWriter<byte> output)
    {
        using var json = new Utf8JsonWriter(output, Options);
        json.WriteStartObject();
        json.WriteString("trace_id"u8, chain.TraceId);
        json.WriteNumber("start_us"u8, chain.StartMicros);
        json.WriteNumber("duration_us"u8, chain.DurationMicros);
        json.WriteBoolean("complete"u8, chain.Complete);
        json.WriteBoolean("resolved"u8, chain.Resolved);
        json.WriteNumber("record_count"u8, chain.RecordCount);
        json.WriteNumber("placeholder_count"u8, chain.PlaceholderCount);
        json.WriteNumber("gap_count"u8, chain.GapCount);
        json.WriteNumber("callee_only_count"u8, chain.CalleeOnlyCount);
        json.WriteNumber("ambiguous_count"u8, chain.AmbiguousCount);
        json.WriteStartArray("nodes"u8);
        using var times = ChainTimes.Of(chain, ChainClocks.Of(chain));
        foreach (var node in chain.Nodes) WriteNode(json, node, times);
        json.WriteEndArray();
        json.WriteStartArray("gaps"u8);
        foreach (var gap in chain.Gaps) json.WriteStringValue(gap.ToString());
        json.WriteEndArray();
        json.WriteEndObject();
    }

    static void WriteNode(Utf8JsonWriter json, ChainNode node, ChainTimes times)
    {
        json.WriteStartObject();
        json.WriteString("rpc_id"u8, node.IdText);
        json.WriteNumber("execution"u8, node.Execution);
        if (node.Parent is { } parent)
        {
            json.WriteString("parent"u8, parent.IdText);
            json.WriteNumber("parent_execution"u8, parent.Execution);
        }
        else
        {
            json.WriteNull("parent"u8);
            json.WriteNull("parent_execution"u8);
        }

        json.WriteNumber("depth"u8, node.Depth);
        json.WriteString("kind"u8, node.Kind);
        json.WriteBoolean("placeholder"u8, node.IsPlaceholder);
        json.WriteBoolean("foreign"u8, node.IsForeign);
        json.WriteBoolean("ambiguous"u8, node.IsAmbiguous);
        json.WriteString("service"u8, node.Service);
        json.WriteString("name"u8, node.Name);
        json.WriteString("action"u8, node.Action);
        json.WriteNumber("start_us"u8, node.StartMicros);
        WriteDuration(json, node.DurationMicros);
        if (times.SelfMicros(node) is { } self) json.WriteNumber("self_us"u8, self);
        else json.WriteNull("self_us"u8);
        json.WriteBoolean("critical"u8, times.IsCritical(node));
        json.WriteBoolean("error"u8, node.IsError);
        WriteSide(json, "caller"u8, node.Caller, node.CallerService);
        WriteSide(json, "callee"u8, node.Callee, node.CalleeService);
        json.WriteStartArray("records"u8);
        foreach (var record in node.Records) json.WriteStringValue($"{record.SourceFile}:{record.SourceOffset}");
        json.WriteEndArray();
        json.WriteEndObject();
    }

    static void WriteSide(Utf8JsonWriter json, ReadOnlySpan<byte> side, IndexedRecord? record, string? service)
    {
        if (record is null)
        {
            json.WriteNull(side);
            return;
        }

        json.WriteStartObject(side);
        json.WriteString("service"u8, service);
        json.WriteNumber("start_us"u8, record.StartMicros);
        WriteDuration(json, record.Record.DurationMicros);
        json.WriteEndObject();
    }

    static void WriteDuration(Utf8JsonWriter json, long? micros)
    {
        if (micros is { } value) json.WriteNumber("duration_us"u8, value);
        else json.WriteNull("duration_us"u8);
    }
}
