using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Frozen;
using System.Globalization;
using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using LogTrace.Records;

namespace LogTrace.Indexer.Store;

/// <summary>
/// Documents and back. A record's document is its line (in SCHEMA.md's names and types) with the derived fields before it: what is read again is exactly
/// what was stored, because the server keeps a document's bytes as they came. So the hash of a line that was stored as it is need not be stored.
/// </summary>
static class ElasticsearchDocuments
{
    static readonly FrozenDictionary<string, RecordKind> Kinds =
        Enum.GetValues<RecordKind>().ToFrozenDictionary(kind => kind.ToString().ToLowerInvariant());

    static readonly string[] KindNames = [.. Enum.GetValues<RecordKind>().Select(kind => kind.ToString().ToLowerInvariant())];

    // Members of a record's document that are not on its line.
    static readonly FrozenSet<string> DerivedNames = new[]
    {
        "@timestamp", "ingested_at", "record_id", "line_hash", "source_file", "source_offset", "service_derived", "service_is_certain", "caller_service",
        "callee_service", "kind", "rpc_depth", "rpc_parent", "rpc_sort", "duration_us", "start_us", "is_error", "code_num", "route", "action_key", "error_key", "peer", "tags",
        "metric_value", "metric_total", "metric_count", "metric_sum", "metric_min", "metric_max", "metric_p50", "metric_p90", "metric_p95", "metric_p99",
    }.ToFrozenSet();

    // What a measurement says, in its extra, which is not indexed: the numbers that charts are drawn of.
    static readonly (string Member, byte[] Field)[] MetricNumbers =
        [.. new[] { "value", "total", "count", "sum", "min", "max", "p50", "p90", "p95", "p99" }.Select(member => (member, Encoding.ASCII.GetBytes("metric_" + member)))];

    const int LongestName = 32;

    // Room for a moment or an id.
    const int TextRoom = 32;

    /// <summary>Id of a trace's chain: an Elasticsearch id is at most 512 bytes and any trace_id is one.</summary>
    public static string IdOf(string traceId) => Hex(TraceHash.Of(traceId));

    public static string Hex(UInt128 id) => Encoding.ASCII.GetString(Hex(id, stackalloc byte[TextRoom]));

    static ReadOnlySpan<byte> Hex(UInt128 id, Span<byte> room)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(bytes, id);
        Convert.TryToHexStringLower(bytes, room, out var length);
        return room[..length];
    }

    /// <summary>A moment as Elasticsearch's dates take it, to the microsecond. Moments that no calendar has stand at its ends.</summary>
    public static string Iso(long micros) => Encoding.ASCII.GetString(Iso(micros, stackalloc byte[TextRoom]));

    static ReadOnlySpan<byte> Iso(long micros, Span<byte> room)
    {
        // The runtime's own round-trip form has one digit more.
        Moment(micros).TryFormat(room, out var length, "O", CultureInfo.InvariantCulture);
        room[length - 2] = (byte)'Z';
        return room[..(length - 1)];
    }

    public static long Micros(string iso) =>
        (DateTime.ParseExact(iso, "yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal)
            - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;

    /// <summary>The UTC moment of a number of microseconds, within what a date can be.</summary>
    public static DateTime Moment(long micros)
    {
        var least = (DateTime.MinValue - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        var most = (DateTime.MaxValue - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
        return DateTime.UnixEpoch.AddTicks(Math.Clamp(micros, least, most) * TimeSpan.TicksPerMicrosecond);
    }

    /// <summary>Writes a record's document and its line end.</summary>
    public static void WriteRecord(IndexedRecord indexed, BulkBuffer output)
    {
        var record = indexed.Record;
        var json = DocumentWriter.Begin(output);
        Span<byte> text = stackalloc byte[TextRoom];
        json.Plain("@timestamp"u8, Iso(record.TimestampMicros, text));
        json.Plain("ingested_at"u8, Iso(indexed.IngestedMicros, text));
        json.Plain("record_id"u8, Hex(indexed.RecordId, text));
        if (!record.IsAsWritten || XxHash128.HashToUInt128(record.SourceLine.Span) != indexed.LineHash) json.Plain("line_hash"u8, Hex(indexed.LineHash, text));
        json.Text("source_file"u8, indexed.SourceFile);
        json.Number("source_offset"u8, indexed.SourceOffset);

        // One name for what the line says and for what was derived, as long as they agree. Reading has to tell them apart again:
        // service_derived is there when they differ, and the line's own is the one that is not equal to it.
        var own = record.Service;
        if (own is null && indexed.Service is not null) json.Text("service"u8, indexed.Service);
        if (own != indexed.Service) json.Text("service_derived"u8, indexed.Service);
        if (indexed.ServiceIsCertain) json.Flag("service_is_certain"u8, true);
        json.Text("caller_service"u8, indexed.CallerService);
        json.Text("callee_service"u8, indexed.CalleeService);
        json.Text("kind"u8, KindNames[(int)indexed.Kind]);
        if (record.RpcId is { } rpcId)
        {
            json.Number("rpc_depth"u8, rpcId.Depth);
            if (rpcId.TryGetParent(out var parent)) json.Text("rpc_parent"u8, parent.Text);
            Span<char> sort = stackalloc char[RpcId.MaxSortLength];
            json.Text("rpc_sort"u8, sort[..rpcId.ToSortText(sort)]);
        }

        if (record.DurationMicros is { } duration) json.Number("duration_us"u8, duration);
        json.Number("start_us"u8, indexed.StartMicros);
        json.Flag("is_error"u8, indexed.IsError);
        if (indexed.CodeNumber is { } code) json.Number("code_num"u8, code);
        json.Text("route"u8, indexed.Route);
        json.Text("action_key"u8, indexed.ActionKey);
        json.Text("error_key"u8, indexed.ErrorKey);
        json.Text("peer"u8, indexed.Peer);
        if (indexed.Tags.Count > 0) json.Texts("tags"u8, indexed.Tags);
        if (indexed.Kind == RecordKind.Metric) WriteMetric(json, record.ExtraJson);
        json.EndWith(record, RecordCodec.WriteLine);
    }

    static void WriteMetric(DocumentWriter json, string? extra)
    {
        if (extra is not ['{', ..]) return;
        try
        {
            using var members = JsonDocument.Parse(extra, new JsonDocumentOptions { MaxDepth = 256 });
            foreach (var (member, field) in MetricNumbers)
            {
                if (members.RootElement.TryGetProperty(member, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && double.IsFinite(number))
                    json.Number(field, number);
            }
        }
        catch (JsonException)
        {
            // A record made in code can hold any text as extra: it has no numbers then.
        }
    }

    /// <summary>Reads a record's document.</summary>
    /// <exception cref="InvalidDataException">It is not what <see cref="WriteRecord"/> wrote.</exception>
    public static IndexedRecord ReadRecord(ReadOnlySpan<byte> source)
    {
        var derived = new Dictionary<string, JsonElement>();
        var members = new List<(int Start, int Length)>(32);
        var service = -1; // which of them
        var reader = new Utf8JsonReader(source, new JsonReaderOptions { MaxDepth = 512 });
        Span<char> nameBuffer = stackalloc char[LongestName];
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var start = (int)reader.TokenStartIndex;
            string? known = null;
            if (reader.ValueSpan.Length <= LongestName)
            {
                var name = nameBuffer[..reader.CopyString(nameBuffer)];
                if (name is "service") known = "service";
                else DerivedNames.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(name, out known);
            }

            reader.Read();
            if (known is not null and not "service")
            {
                derived[known] = JsonElement.ParseValue(ref reader);
                continue;
            }

            reader.Skip();
            if (known is "service") service = members.Count;
            members.Add((start, (int)reader.BytesConsumed - start));
        }

        var hasOther = derived.TryGetValue("service_derived", out var other);
        var written = service >= 0 ? ServiceIn(source.Slice(members[service].Start, members[service].Length)) : null;
        if (service >= 0 && hasOther && other.GetString() == written) members.RemoveAt(service);
        var line = Join(source, members);
        if (!RecordCodec.TryRead(line, out var record, out var reason))
            throw new InvalidDataException($"document {Text("record_id")} can no longer be read: {reason}");
        return new IndexedRecord
        {
            Record = record,
            RecordId = Id(Text("record_id")),
            LineHash = Text("line_hash") is { } hash ? Id(hash) : XxHash128.HashToUInt128(line),
            SourceFile = Text("source_file") ?? "",
            SourceOffset = Number("source_offset") ?? 0,
            IngestedMicros = Text("ingested_at") is { } ingested ? Micros(ingested) : 0,
            Service = hasOther ? other.GetString() : written,
            ServiceIsCertain = Is("service_is_certain"),
            CallerService = Text("caller_service"),
            CalleeService = Text("callee_service"),
            Kind = Text("kind") is { } kind ? Kinds[kind] : record.Kind,
            StartMicros = Number("start_us") ?? record.TimestampMicros,
            IsError = Is("is_error"),
            CodeNumber = Number("code_num"),
            Route = Text("route"),
            ActionKey = Text("action_key"),
            ErrorKey = Text("error_key"),
            Peer = Text("peer"),
            Tags = derived.TryGetValue("tags", out var tags) ? Texts(tags) : [],
        };

        string? Text(string name) => derived.TryGetValue(name, out var value) ? value.GetString() : null;
        bool Is(string name) => derived.TryGetValue(name, out var value) && value.ValueKind == JsonValueKind.True;
        long? Number(string name) => derived.TryGetValue(name, out var value) ? value.GetInt64() : null;
    }

    static byte[] Join(ReadOnlySpan<byte> source, List<(int Start, int Length)> members)
    {
        if (members.Count == 0) return "{}"u8.ToArray();
        var line = new byte[members.Sum(member => member.Length + 1) + 1];
        line.AsSpan().Fill((byte)',');
        var at = 1;
        foreach (var (start, length) in members)
        {
            source.Slice(start, length).CopyTo(line.AsSpan(at));
            at += length + 1;
        }

        (line[0], line[^1]) = ((byte)'{', (byte)'}');
        return line;
    }

    static string? ServiceIn(ReadOnlySpan<byte> member)
    {
        var text = Encoding.UTF8.GetBytes($"{{{Encoding.UTF8.GetString(member)}}}");
        using var json = JsonDocument.Parse(text);
        return json.RootElement.GetProperty("service").GetString();
    }

    static UInt128 Id(string? hex) => UInt128.Parse(hex ?? "0", NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    /// <summary>Writes a chain's document and its line end.</summary>
    /// <param name="chain">The chain.</param>
    /// <param name="calls">Its calls' versions, so that the next write knows which calls have changed and which are gone.</param>
    /// <param name="withRows">False leaves the rows out, for a chain that the server finds too large.</param>
    /// <param name="output">Where to.</param>
    public static void WriteChain(ChainDocument chain, CallVersions calls, bool withRows, BulkBuffer output)
    {
        var json = DocumentWriter.Begin(output);
        Span<byte> text = stackalloc byte[TextRoom];
        json.Plain("@timestamp"u8, Iso(chain.StartMicros, text));
        json.Text("trace_id"u8, chain.TraceId);
        json.Number("start_us"u8, chain.StartMicros);
        json.Number("duration_us"u8, chain.DurationMicros);
        json.Text("entry_service"u8, chain.EntryService);
        json.Text("entry_action"u8, chain.EntryAction);
        json.Text("entry_key"u8, chain.EntryKey);
        json.Text("entry_code"u8, chain.EntryCode);
        json.Texts("services"u8, chain.Services);
        json.Texts("edges"u8, chain.Edges);
        json.Number("record_count"u8, chain.RecordCount);
        json.Number("node_count"u8, chain.NodeCount);
        json.Number("depth"u8, chain.Depth);
        json.Number("placeholder_count"u8, chain.PlaceholderCount);
        json.Number("gap_count"u8, chain.GapCount);
        json.Number("callee_only_count"u8, chain.CalleeOnlyCount);
        json.Number("lost_count"u8, chain.LostCount);
        json.Number("likely_loss_count"u8, chain.LikelyLossCount);
        json.Number("ambiguous_count"u8, chain.AmbiguousCount);
        json.Number("error_count"u8, chain.ErrorCount);
        json.Number("alarm_count"u8, chain.AlarmCount);

        // Numbers, because an average of them is a rate, and dashboards average numbers only.
        json.Number("failed"u8, chain.ErrorCount > 0 ? 1 : 0);
        json.Number("lossy"u8, chain.LostCount > 0 ? 1 : 0);
        json.Flag("debug"u8, chain.Debug);
        json.Flag("sampled"u8, chain.Sampled);
        json.Text("uid"u8, chain.Uid);
        json.Flag("complete"u8, chain.Complete);
        json.Flag("resolved"u8, chain.Resolved);
        json.Plain("last_record_at"u8, Iso(chain.LastRecordMicros, text));
        if (chain.UndecidedSince is { } undecided) json.Number("undecided_us"u8, undecided);

        // A line end within would end the document; between JSON's tokens it is a blank.
        if (withRows) json.Json("rows"u8, OnOneLine(chain.RowsUtf8.Span));
        json.Number("rows_total"u8, chain.RowsTotal);
        json.Text("call_versions"u8, calls.ToText());
        json.End();
    }

    static ReadOnlySpan<byte> OnOneLine(ReadOnlySpan<byte> json)
    {
        if (json.IndexOfAny((byte)'\n', (byte)'\r') < 0) return json;
        var line = json.ToArray();
        line.AsSpan().Replace((byte)'\n', (byte)' ');
        line.AsSpan().Replace((byte)'\r', (byte)' ');
        return line;
    }

    /// <summary>Writes what is left of a dropped chain. Without a time, so that no dashboard counts it.</summary>
    public static void WriteMarker(string traceId, BulkBuffer output)
    {
        var json = DocumentWriter.Begin(output);
        json.Text("trace_id"u8, traceId);
        json.Number("record_count"u8, 0);
        json.Flag("dropped"u8, true);
        json.End();
    }

    /// <summary>Reads a chain's document; without its calls, which are documents of their own.</summary>
    public static ChainDocument ReadChain(JsonElement source) => new()
    {
        TraceId = Text(source, "trace_id") ?? throw new InvalidDataException("a chain's document has no trace_id"),
        StartMicros = Number(source, "start_us") ?? 0,
        DurationMicros = Number(source, "duration_us") ?? 0,
        EntryService = Text(source, "entry_service"),
        EntryAction = Text(source, "entry_action"),
        EntryCode = Text(source, "entry_code"),
        Services = source.TryGetProperty("services", out var services) ? Texts(services) : [],
        Edges = source.TryGetProperty("edges", out var edges) ? Texts(edges) : [],
        RecordCount = (int)(Number(source, "record_count") ?? 0),
        NodeCount = (int)(Number(source, "node_count") ?? 0),
        Depth = (int)(Number(source, "depth") ?? 0),
        PlaceholderCount = (int)(Number(source, "placeholder_count") ?? 0),
        GapCount = Number(source, "gap_count") ?? 0,
        CalleeOnlyCount = (int)(Number(source, "callee_only_count") ?? 0),
        LikelyLossCount = (int)(Number(source, "likely_loss_count") ?? 0),
        AmbiguousCount = (int)(Number(source, "ambiguous_count") ?? 0),
        ErrorCount = (int)(Number(source, "error_count") ?? 0),
        AlarmCount = (int)(Number(source, "alarm_count") ?? 0),
        Debug = Flag(source, "debug"),
        Sampled = Flag(source, "sampled"),
        Uid = Text(source, "uid"),
        Complete = Flag(source, "complete"),
        Resolved = Flag(source, "resolved"),
        UndecidedSince = Number(source, "undecided_us"),
        Dropped = Flag(source, "dropped"),
        LastRecordMicros = Text(source, "last_record_at") is { } last ? Micros(last) : 0,
        RowsJson = source.TryGetProperty("rows", out var rows) ? rows.GetRawText() : "[]",
        RowsTotal = (int)(Number(source, "rows_total") ?? 0),
    };

    /// <summary>Writes a call's document and its line end.</summary>
    /// <param name="call">The call.</param>
    /// <param name="lastRecordMicros">When its chain's newest record was logged: written where something is lost, so that a chain under way need not count as lossy, and nowhere else, because it changes with every record.</param>
    /// <param name="output">Where to.</param>
    public static void WriteCall(CallDocument call, long lastRecordMicros, BulkBuffer output)
    {
        var json = DocumentWriter.Begin(output);
        Span<byte> text = stackalloc byte[TextRoom];
        json.Plain("@timestamp"u8, Iso(call.StartMicros, text));
        json.Plain("call_id"u8, Hex(call.Id, text));
        json.Text("trace_id"u8, call.TraceId);
        json.Text("rpc_id"u8, call.RpcId);
        json.Number("execution"u8, call.Execution);
        json.Number("start_us"u8, call.StartMicros);
        json.Text("entry_service"u8, call.EntryService);
        json.Text("entry_action"u8, call.EntryAction);
        json.Text("entry_key"u8, call.EntryKey);
        json.Text("caller"u8, call.Caller);
        json.Text("callee"u8, call.Callee);
        json.Text("peer"u8, call.Peer);
        json.Text("kind"u8, call.Kind);
        json.Text("action_key"u8, call.ActionKey);
        if (call.DurationMicros is { } duration) json.Number("duration_us"u8, duration);
        if (call.NetworkMicros is { } network) json.Number("network_us"u8, network);
        json.Flag("is_error"u8, call.IsError);
        json.Number("failed"u8, call.IsError ? 1 : 0);
        json.Text("loss_state"u8, call.LossState);
        json.Number("gap_count"u8, call.GapCount);
        json.Number("lost_count"u8, call.LostCount);
        if (call.LostCount > 0) json.Plain("last_record_at"u8, Iso(lastRecordMicros, text));
        json.Text("caller_host"u8, call.CallerHost);
        json.Text("callee_host"u8, call.CalleeHost);
        json.End();
    }

    public static CallDocument ReadCall(JsonElement source) => new()
    {
        Id = Id(Text(source, "call_id")),
        TraceId = Text(source, "trace_id") ?? "",
        RpcId = Text(source, "rpc_id") ?? "",
        Execution = (int)(Number(source, "execution") ?? 0),
        StartMicros = Number(source, "start_us") ?? 0,
        EntryService = Text(source, "entry_service"),
        EntryAction = Text(source, "entry_action"),
        Caller = Text(source, "caller"),
        Callee = Text(source, "callee"),
        Peer = Text(source, "peer"),
        Kind = Text(source, "kind"),
        ActionKey = Text(source, "action_key"),
        DurationMicros = Number(source, "duration_us"),
        NetworkMicros = Number(source, "network_us"),
        IsError = Flag(source, "is_error"),
        LossState = Text(source, "loss_state") ?? "none",
        GapCount = Number(source, "gap_count") ?? 0,
        CallerHost = Text(source, "caller_host"),
        CalleeHost = Text(source, "callee_host"),
    };

    public static string? Text(JsonElement source, string name) =>
        source.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    /// <summary>True for what is left of a dropped chain.</summary>
    public static bool IsDropped(JsonElement source) => Flag(source, "dropped");

    public static long? Number(JsonElement source, string name) =>
        source.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number ? value.GetInt64() : null;

    static bool Flag(JsonElement source, string name) => source.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.True;

    static string[] Texts(JsonElement array) => [.. array.EnumerateArray().Select(text => text.GetString()!)];
}

/// <summary>Which calls a chain has and a hash of each: kept in the chain's document, so that only changed calls are written and those that are gone deleted.</summary>
sealed class CallVersions
{
    const int EntryBytes = 16 + 8;

    readonly Dictionary<UInt128, ulong> _hashes = [];

    public IEnumerable<UInt128> Ids => _hashes.Keys;

    public void Set(UInt128 id, ReadOnlySpan<byte> document) => _hashes[id] = XxHash3.HashToUInt64(document);

    /// <summary>Marks calls as different from whatever they are to be.</summary>
    public void Outdate(IEnumerable<UInt128> ids)
    {
        // A hash of 0 is as good as none: of a call's document it comes about once in 10^19.
        foreach (var id in ids) _hashes[id] = 0;
    }

    public bool Has(UInt128 id) => _hashes.ContainsKey(id);

    public bool IsSame(UInt128 id, CallVersions other) => other._hashes.TryGetValue(id, out var hash) && _hashes[id] == hash;

    public string ToText()
    {
        var bytes = new byte[_hashes.Count * EntryBytes];
        var entry = bytes.AsSpan();
        foreach (var (id, hash) in _hashes)
        {
            BinaryPrimitives.WriteUInt128BigEndian(entry, id);
            BinaryPrimitives.WriteUInt64BigEndian(entry[16..], hash);
            entry = entry[EntryBytes..];
        }

        return Convert.ToBase64String(bytes);
    }

    public static CallVersions Parse(string? text)
    {
        var versions = new CallVersions();
        for (ReadOnlySpan<byte> bytes = Convert.FromBase64String(text ?? ""); bytes.Length >= EntryBytes; bytes = bytes[EntryBytes..])
            versions._hashes[BinaryPrimitives.ReadUInt128BigEndian(bytes)] = BinaryPrimitives.ReadUInt64BigEndian(bytes[16..]);
        return versions;
    }
}
