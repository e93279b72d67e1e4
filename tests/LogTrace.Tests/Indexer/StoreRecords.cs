using System.Globalization;
using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Records;
using LogTrace.Transport;

namespace LogTrace.Tests.Indexer;

/// <summary>Records and chains for the store's tests: lines as somebody's service would write them, each at a place of its own.</summary>
public sealed class StoreRecords(DateTimeOffset now)
{
    readonly SourceFile _file = new("host-1", 77, "/var/log/orders/orders.log");
    long _offset;

    public DateTimeOffset Now => now;

    public static long Micros(DateTimeOffset time) => (time - DateTimeOffset.UnixEpoch).Ticks / 10;

    /// <summary>A record of one request, by default logged now.</summary>
    public IndexedRecord Record(string? traceId, string rpcId = "1.1", DateTimeOffset? at = null, string msg = "ok", DateTimeOffset? ingested = null) =>
        Read(Line(new Dictionary<string, object?>
        {
            ["name"] = "request.info",
            ["trace_id"] = traceId,
            ["rpc_id"] = rpcId,
            ["timestamp"] = Micros(at ?? now) / 1_000_000,
            ["timestamp_us"] = Micros(at ?? now),
            ["service"] = "orders",
            ["action"] = "POST /orders",
            ["duration"] = 0.25,
            ["msg"] = msg,
        }), ingested ?? now);

    /// <summary>A record with a value in every field there is, derived ones included.</summary>
    public IndexedRecord FullRecord(string traceId, string text)
    {
        var members = new Dictionary<string, object?>();
        foreach (var field in RecordFields.All)
        {
            members[field.WireName] = field.Type switch
            {
                FieldType.Integer => 4_711,
                FieldType.Float => 0.125,
                FieldType.Boolean => true,
                FieldType.ObjectOrString => new Dictionary<string, object?> { ["note"] = text, ["size"] = 3 },
                _ => field.WireName + " " + text,
            };
        }

        members["name"] = "http.post.error";
        members["trace_id"] = traceId;
        members["rpc_id"] = "1.3.12";
        members["timestamp"] = Micros(now) / 1_000_000;
        members["timestamp_us"] = Micros(now) + 123;
        members["span_id"] = "00f067aa0ba902b7";
        members["parent_span_id"] = "00f067aa0ba902b8";
        var record = Read(Line(members), now);
        return new IndexedRecord
        {
            Record = record.Record,
            RecordId = record.RecordId,
            LineHash = record.LineHash,
            SourceFile = record.SourceFile,
            SourceOffset = record.SourceOffset,
            IngestedMicros = record.IngestedMicros,
            Service = "orders " + text,
            ServiceIsCertain = true,
            Kind = RecordKind.Client,
            StartMicros = record.StartMicros - 125_000,
            IsError = true,
            CodeNumber = -504,
            Route = "/orders/{id} " + text,
            ActionKey = "POST stock/items " + text,
            ErrorKey = "timeout " + text,
            Peer = "stock:80 " + text,
            Tags = ["note=" + text, "size=3"],
        };
    }

    /// <summary>A line read at the next offset, with the plainest derived fields.</summary>
    public IndexedRecord Read(string line, DateTimeOffset? ingested = null)
    {
        var bytes = Encoding.UTF8.GetBytes(line);
        RecordCodec.TryRead(bytes, out var record, out var reason).Should().BeTrue($"{line[..Math.Min(line.Length, 200)]} should be a record, not: {reason}");
        var offset = _offset;
        _offset += bytes.Length + 1;
        return new IndexedRecord
        {
            Record = record,
            RecordId = _file.RecordIdAt(offset, bytes),
            LineHash = XxHash128.HashToUInt128(bytes),
            SourceFile = _file.Path,
            SourceOffset = offset,
            IngestedMicros = Micros(ingested ?? now),
            Service = "orders",
            Kind = record.Kind,
            StartMicros = record.TimestampMicros - (record.DurationMicros ?? 0),
        };
    }

    public static string Line(Dictionary<string, object?> members) =>
        JsonSerializer.Serialize(members.Where(member => member.Value is not null).ToDictionary(member => member.Key, member => member.Value));

    /// <summary>Everything that a record says, as text that a failed test can print.</summary>
    public static string Describe(IndexedRecord record)
    {
        var text = new StringBuilder();
        void Say(string name, object? value)
        {
            if (value is not null) text.Append(CultureInfo.InvariantCulture, $"{name}={value}\n");
        }

        Say("record_id", record.RecordId.ToString("x32", CultureInfo.InvariantCulture));
        Say("line_hash", record.LineHash.ToString("x32", CultureInfo.InvariantCulture));
        Say("source", $"{record.SourceFile}:{record.SourceOffset}");
        Say("ingested_us", record.IngestedMicros);
        Say("service", record.Service);
        Say("service_certain", record.ServiceIsCertain);
        Say("kind", record.Kind);
        Say("start_us", record.StartMicros);
        Say("is_error", record.IsError);
        Say("code_num", record.CodeNumber);
        Say("route", record.Route);
        Say("action_key", record.ActionKey);
        Say("error_key", record.ErrorKey);
        Say("peer", record.Peer);
        Say("tags", string.Join('|', record.Tags));
        var content = record.Record;
        foreach (var field in RecordFields.All.Where(field => field.Type is FieldType.String && field.Field != RecordField.RpcId)) Say("record." + field.WireName, content.Text(field.Field));
        Say("record.extra", content.ExtraJson is { } extra ? JsonSerializer.Serialize(JsonDocument.Parse(extra).RootElement) : null);
        Say("record.rpc_id", content.RpcId);
        Say("record.timestamp_us", content.TimestampMicros);
        Say("record.precise", content.HasPreciseTime);
        Say("record.duration_us", content.DurationMicros);
        Say("record.dns_duration_us", content.DnsDurationMicros);
        Say("record.response_length", content.ResponseLength);
        Say("record.debug", content.Debug);
        Say("record.sampled", content.Sampled);
        return text.ToString();
    }
}
