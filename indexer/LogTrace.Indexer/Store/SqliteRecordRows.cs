using LogTrace.Records;
using static LogTrace.Indexer.Store.SqliteValues;

namespace LogTrace.Indexer.Store;

/// <summary>The records of a day file: written once, read by trace, deleted by trace. Everything within the caller's transaction and connection.</summary>
static class SqliteRecordRows
{
    /// <summary>A record on its way into a file.</summary>
    /// <param name="TraceKey">Of its trace: what the indexes are ordered by.</param>
    /// <param name="Position">In the batch.</param>
    public readonly record struct Incoming(IndexedRecord Record, ReadOnlyMemory<byte> Line, long TraceKey, int Position);

    public const string InsertRecord = """
        INSERT INTO records (trace_key, record_id, trace_id, line_hash, source, source_offset, timestamp_us, ingested_us, start_us, duration_us,
            name, kind, rpc_id, rpc_depth, rpc_parent, rpc_sort, service, is_error, code_num, route, action_key, error_key, peer, tags, line, service_certain)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)
        ON CONFLICT DO NOTHING
        """;

    public const string InsertText = "INSERT INTO texts (rowid, msg) VALUES (?1, ?2)";

    public const string CountTrace = """
        INSERT INTO traces (trace_key, trace_id, record_count, last_ingested_us) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET record_count = record_count + excluded.record_count, last_ingested_us = max(last_ingested_us, excluded.last_ingested_us)
        """;

    /// <summary>Adds a record with its text, by <see cref="InsertRecord"/> and <see cref="InsertText"/>. False when it was there.</summary>
    public static bool Insert(DayConnection day, DayStatement insert, DayStatement insertText, in Incoming incoming)
    {
        var record = incoming.Record;
        var content = record.Record;
        insert.Bind(incoming.TraceKey).Bind(record.RecordId).Bind(content.TraceId).Bind(record.LineHash).Bind(SourceOf(day, record.SourceFile)).Bind(record.SourceOffset)
            .Bind(content.TimestampMicros).Bind(record.IngestedMicros).Bind(record.StartMicros).Bind(content.DurationMicros)
            .Bind(content.Name).BindText(NameOf(record.Kind));
        if (content.RpcId is { } rpcId) BindPlace(insert, rpcId);
        else insert.BindNull().BindNull().BindNull().BindNull();
        var isNew = insert.Bind(record.Service).Bind(record.IsError).Bind(record.CodeNumber).Bind(record.Route).Bind(record.ActionKey).Bind(record.ErrorKey)
            .Bind(record.Peer).Bind(record.Tags.Count == 0 ? null : Json(record.Tags)).Bind(incoming.Line.Span).Bind(record.ServiceIsCertain)
            .Run() == 1;
        if (isNew && content.Utf8(RecordField.Msg) is { IsEmpty: false } msg) insertText.Bind(day.LastRow).BindText(msg).Run();
        return isNew;
    }

    // The id, how deep it lies, what it lies under, and what it sorts by.
    static void BindPlace(DayStatement insert, RpcId id)
    {
        insert.BindText(id.Text).Bind(id.Depth);
        if (id.Text.LastIndexOf('.') is >= 0 and var last) insert.BindText(id.Text.AsSpan(0, last));
        else insert.BindNull();
        Span<char> sort = stackalloc char[RpcId.MaxSortLength];
        insert.BindText(sort[..id.ToSortText(sort)]);
    }

    static long SourceOf(DayConnection day, string path)
    {
        if (day.SourceIds.TryGetValue(path, out var source)) return source;
        day.Prepare("INSERT OR IGNORE INTO sources (path) VALUES (?1)").Bind(path).Run();
        var known = day.Prepare("SELECT id FROM sources WHERE path = ?1").Bind(path);
        known.Step();
        source = known.Int64(0);
        known.Reset();
        if (day.SourceIds.Count >= 10_000) day.SourceIds.Clear();
        return day.SourceIds[path] = source;
    }

    /// <summary>Adds the records of one trace to a list, in no order.</summary>
    /// <exception cref="InvalidDataException">A line can no longer be read.</exception>
    public static void ReadTrace(DayConnection day, string traceId, List<IndexedRecord> records)
    {
        var rows = day.Prepare("""
            SELECT r.record_id, r.line_hash, s.path, r.source_offset, r.ingested_us, r.service, r.kind, r.start_us, r.is_error, r.code_num, r.route,
                r.action_key, r.error_key, r.peer, r.tags, r.line, r.service_certain
            FROM records r JOIN sources s ON s.id = r.source WHERE r.trace_key = ?1 AND r.trace_id = ?2
            """).Bind(KeyOf(traceId)).Bind(traceId);
        while (rows.Step())
        {
            if (!RecordCodec.TryRead(rows.Bytes(15), out var record, out var reason))
                throw new InvalidDataException($"{day.Path}: record {rows.Id(0):x32} of trace '{traceId}' can no longer be read: {reason}.");
            records.Add(new IndexedRecord
            {
                Record = record,
                RecordId = rows.Id(0),
                LineHash = rows.Id(1),
                SourceFile = rows.Text(2),
                SourceOffset = rows.Int64(3),
                IngestedMicros = rows.Int64(4),
                Service = rows.TextOrNull(5),
                ServiceIsCertain = rows.Flag(16),
                Kind = KindOf(rows.Text(6)),
                StartMicros = rows.Int64(7),
                IsError = rows.Flag(8),
                CodeNumber = rows.Int64OrNull(9),
                Route = rows.TextOrNull(10),
                ActionKey = rows.TextOrNull(11),
                ErrorKey = rows.TextOrNull(12),
                Peer = rows.TextOrNull(13),
                Tags = rows.TextOrNull(14) is { } tags ? Texts(tags) : [],
            });
        }
    }

    /// <summary>Deletes the records of traces with all that is searched by.</summary>
    /// <returns>Records that were there.</returns>
    public static long Remove(DayConnection day, IReadOnlyList<string> traceIds)
    {
        long removed = 0;
        foreach (var traceId in traceIds)
        {
            var key = KeyOf(traceId);
            if (day.Prepare("DELETE FROM traces WHERE trace_key = ?1 AND trace_id = ?2").Bind(key).Bind(traceId).Run() == 0) continue;
            var rows = day.Prepare("SELECT id, line FROM records WHERE trace_key = ?1 AND trace_id = ?2").Bind(key).Bind(traceId);
            while (rows.Step())
            {
                if (RecordCodec.TryRead(rows.Bytes(1), out var record, out _) && record.Utf8(RecordField.Msg) is { IsEmpty: false } msg)
                    day.Prepare("INSERT INTO texts (texts, rowid, msg) VALUES ('delete', ?1, ?2)").Bind(rows.Int64(0)).BindText(msg).Run();
            }

            removed += day.Prepare("DELETE FROM records WHERE trace_key = ?1 AND trace_id = ?2").Bind(key).Bind(traceId).Run();
        }

        return removed;
    }
}
