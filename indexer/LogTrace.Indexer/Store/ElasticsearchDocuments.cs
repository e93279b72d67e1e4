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

    /// <summary>Id of a trace's chain: an Elasticsearch id is at most 512 bytes and any trace_id is one.</summary>
    public static string IdOf(string traceId) => Hex(TraceHash.Of(traceId));

    public static string Hex(UInt128 id) => id.ToString("x32", CultureInfo.InvariantCulture);

    /// <summary>A moment as text, see <see cref="JsonBuffer.Iso"/>.</summary>
    public static string Iso(long micros)
    {
        Span<byte> text = stackalloc byte[JsonBuffer.IsoLength];
        JsonBuffer.Iso(micros, text);
        return Encoding.ASCII.GetString(text);
    }

    public static long Micros(string iso) =>
        Micros(DateTime.ParseExact(iso, "yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal));

    /// <summary>Microseconds since the epoch of a UTC moment.</summary>
    public static long Micros(DateTime moment) => (moment - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;

    /// <summary>The UTC moment of a number of microseconds, within what a date can be.</summary>
    public static DateTime Moment(long micros) => DateTime.UnixEpoch.AddTicks(JsonBuffer.OfCalendar(micros) * TimeSpan.TicksPerMicrosecond);

    /// <summary>Writes a record's document and its line end.</summary>
    public static void WriteRecord(IndexedRecord indexed, JsonBuffer output)
    {
        var record = indexed.Record;
        output.BeginObject();
        output.Moment("@timestamp"u8, record.TimestampMicros);
        output.Moment("ingested_at"u8, indexed.IngestedMicros);
        output.Hex("record_id"u8, indexed.RecordId);
        if (!record.IsAsWritten || XxHash128.HashToUInt128(record.SourceLine.Span) != indexed.LineHash) output.Hex("line_hash"u8, indexed.LineHash);
        output.Text("source_file"u8, indexed.SourceFile);
        output.Number("source_offset"u8, indexed.SourceOffset);

        // One name for what the line says and for what was derived, as long as they agree. Reading has to tell them apart again:
        // service_derived is there when they differ, and the line's own is the one that is not equal to it.
        var own = record.Service;
        if (own is null && indexed.Service is not null) output.Text("service"u8, indexed.Service);
        if (own != indexed.Service) output.Text("service_derived"u8, indexed.Service);
        if (indexed.ServiceIsCertain) output.Boolean("service_is_certain"u8, true);
        output.Text("caller_service"u8, indexed.CallerService);
        output.Text("callee_service"u8, indexed.CalleeService);
        output.Text("kind"u8, KindNames[(int)indexed.Kind]);
        if (record.RpcId is { } rpcId)
        {
            output.Number("rpc_depth"u8, rpcId.Depth);
            if (rpcId.TryGetParent(out var parent)) output.Text("rpc_parent"u8, parent.Text);
            Span<char> sort = stackalloc char[RpcId.MaxSortLength];
            output.Text("rpc_sort"u8, sort[..rpcId.ToSortText(sort)]);
        }

        if (record.DurationMicros is { } duration) output.Number("duration_us"u8, duration);
        output.Number("start_us"u8, indexed.StartMicros);
        output.Boolean("is_error"u8, indexed.IsError);
        if (indexed.CodeNumber is { } code) output.Number("code_num"u8, code);
        output.Text("route"u8, indexed.Route);
        output.Text("action_key"u8, indexed.ActionKey);
        output.Text("error_key"u8, indexed.ErrorKey);
        output.Text("peer"u8, indexed.Peer);
        if (indexed.Tags.Count > 0) output.Texts("tags"u8, indexed.Tags);
        if (indexed.Kind == RecordKind.Metric) WriteMetric(output, record.ExtraJson);

        var line = output.Length;
        RecordCodec.WriteLine(record, output);
        output.Patch(line, (byte)','); // its opening brace: the two objects become one
        output.Write("\n"u8);
    }

    static void WriteMetric(JsonBuffer output, string? extra)
    {
        if (extra is not ['{', ..]) return;
        try
        {
            using var members = JsonDocument.Parse(extra, new JsonDocumentOptions { MaxDepth = 256 });
            foreach (var (member, field) in MetricNumbers)
            {
                if (members.RootElement.TryGetProperty(member, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out var number) && double.IsFinite(number))
                    output.Number(field, number);
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
    public static void WriteChain(ChainDocument chain, CallVersions calls, bool withRows, JsonBuffer output)
    {
        output.BeginObject();
        output.Moment("@timestamp"u8, chain.StartMicros);
        output.Text("trace_id"u8, chain.TraceId);
        output.Number("start_us"u8, chain.StartMicros);
        output.Number("duration_us"u8, chain.DurationMicros);
        output.Text("entry_service"u8, chain.EntryService);
        output.Text("entry_action"u8, chain.EntryAction);
        output.Text("entry_key"u8, chain.EntryKey);
        output.Text("entry_code"u8, chain.EntryCode);
        output.Texts("services"u8, chain.Services);
        output.Texts("edges"u8, chain.Edges);
        output.Number("record_count"u8, chain.RecordCount);
        output.Number("node_count"u8, chain.NodeCount);
        output.Number("depth"u8, chain.Depth);
        output.Number("placeholder_count"u8, chain.PlaceholderCount);
        output.Number("gap_count"u8, chain.GapCount);
        output.Number("callee_only_count"u8, chain.CalleeOnlyCount);
        output.Number("lost_count"u8, chain.LostCount);
        output.Number("likely_loss_count"u8, chain.LikelyLossCount);
        output.Number("ambiguous_count"u8, chain.AmbiguousCount);
        output.Number("error_count"u8, chain.ErrorCount);
        output.Number("alarm_count"u8, chain.AlarmCount);

        // Numbers, because an average of them is a rate, and dashboards average numbers only.
        output.Number("failed"u8, chain.ErrorCount > 0 ? 1 : 0);
        output.Number("lossy"u8, chain.LostCount > 0 ? 1 : 0);
        output.Boolean("debug"u8, chain.Debug);
        output.Boolean("sampled"u8, chain.Sampled);
        output.Text("uid"u8, chain.Uid);
        output.Boolean("complete"u8, chain.Complete);
        output.Boolean("resolved"u8, chain.Resolved);
        output.Moment("last_record_at"u8, chain.LastRecordMicros);
        if (chain.UndecidedSince is { } undecided) output.Number("undecided_us"u8, undecided);

        // A line end within would end the document; between JSON's tokens it is a blank.
        if (withRows) output.Raw("rows"u8, OnOneLine(chain.RowsUtf8.Span));
        output.Number("rows_total"u8, chain.RowsTotal);
        output.Text("call_versions"u8, calls.ToText());
        output.Write("}\n"u8);
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
    public static void WriteMarker(string traceId, JsonBuffer output)
    {
        output.BeginObject();
        output.Text("trace_id"u8, traceId);
        output.Number("record_count"u8, 0);
        output.Boolean("dropped"u8, true);
        output.Write("}\n"u8);
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
    public static void WriteCall(CallDocument call, long lastRecordMicros, JsonBuffer output)
    {
        output.BeginObject();
        output.Moment("@timestamp"u8, call.StartMicros);
        output.Hex("call_id"u8, call.Id);
        output.Text("trace_id"u8, call.TraceId);
        output.Text("rpc_id"u8, call.RpcId);
        output.Number("execution"u8, call.Execution);
        output.Number("start_us"u8, call.StartMicros);
        output.Text("entry_service"u8, call.EntryService);
        output.Text("entry_action"u8, call.EntryAction);
        output.Text("entry_key"u8, call.EntryKey);
        output.Text("caller"u8, call.Caller);
        output.Text("callee"u8, call.Callee);
        output.Text("peer"u8, call.Peer);
        output.Text("kind"u8, call.Kind);
        output.Text("action_key"u8, call.ActionKey);
        if (call.DurationMicros is { } duration) output.Number("duration_us"u8, duration);
        if (call.NetworkMicros is { } network) output.Number("network_us"u8, network);
        output.Boolean("is_error"u8, call.IsError);
        output.Number("failed"u8, call.IsError ? 1 : 0);
        output.Text("loss_state"u8, call.LossState);
        output.Number("gap_count"u8, call.GapCount);
        output.Number("lost_count"u8, call.LostCount);
        if (call.LostCount > 0) output.Moment("last_record_at"u8, lastRecordMicros);
        output.Text("caller_host"u8, call.CallerHost);
        output.Text("callee_host"u8, call.CalleeHost);
        output.Write("}\n"u8);
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
