using System.Buffers;
using System.Buffers.Binary;
using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using LogTrace.Records;
using LogTrace.Shipper;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging.Abstractions;
using SQLitePCL;

namespace LogTrace.Indexer.Store;

/// <summary>
/// The embedded store: a folder with one SQLite file a UTC day (<c>records-2026-11-23.db</c>), and <c>records-overflow.db</c> for
/// times far off. A record lies in the file of its own day, so that a resend meets itself; a chain lies where it was first written.
/// One process writes, held by <c>writer.lock</c>; any number of readers, also in other processes, read meanwhile.
/// </summary>
public sealed class SqliteTraceStore(SqliteStoreOptions options, TimeProvider? clock = null, ILogger? logger = null) : ITraceStore
{
    const string Prefix = "records-", Suffix = ".db", NewSuffix = ".new", Overflow = "overflow";
    const int SchemaVersion = 2, KeysPerQuery = 5_000, KnownChains = 100_000;
    const long MicrosPerDay = 86_400_000_000;
    static readonly TimeSpan RetentionEvery = TimeSpan.FromMinutes(10), SafeFromSizeLimit = TimeSpan.FromMinutes(10);

    readonly TimeProvider _clock = clock ?? TimeProvider.System;
    readonly ILogger _logger = logger ?? NullLogger.Instance;
    readonly SqliteConnections _connections = new(options);
    readonly SemaphoreSlim _writing = new(1, 1);
    readonly SemaphoreSlim _reading = new(8, 8);

    // Used under _writing only.
    readonly HashSet<long> _overflowDays = [];
    readonly Dictionary<string, string> _chainPaths = [];
    FileStream? _writerLock;
    long _nextRetention;

    /// <summary>Up to this many traces with the words of a text search are collected first; of commoner words chain by chain is asked whether it has them.</summary>
    internal int FewTraces { get; init; } = 5_000;

    public Task OpenAsync(CancellationToken cancellationToken) => options.ReadOnly
        ? Task.CompletedTask
        : ExclusiveAsync(() =>
        {
            if (_writerLock is not null) return true;
            Directory.CreateDirectory(options.Directory);
            _writerLock = LockFolder();
            foreach (var left in Directory.GetFiles(options.Directory, Prefix + "*" + NewSuffix + "*")) File.Delete(left);
            foreach (var path in Paths())
            {
                using var day = _connections.Borrow(path, forWriting: true);
                var version = day.Scalar("PRAGMA user_version");
                if (version == 1) Upgrade(day);
                else if (version != SchemaVersion)
                    throw new InvalidDataException($"{path} has the format {version}; this program reads format {SchemaVersion}. Use the program that wrote it, or move the file away.");
            }

            if (File.Exists(PathOf(null)))
            {
                using var overflow = _connections.Borrow(PathOf(null), forWriting: true);
                var days = overflow.Prepare("SELECT day FROM overflow_days");
                while (days.Step()) _overflowDays.Add(days.Int64(0));
            }

            ApplyRetention();
            return true;
        }, cancellationToken);

    public Task<WriteResult> WriteAsync(IReadOnlyList<IndexedRecord> records, CancellationToken cancellationToken) =>
        ExclusiveAsync(() => Write(records), cancellationToken);

    /// <summary>A record on its way into a file.</summary>
    /// <param name="TraceKey">Of its trace: what the indexes are ordered by.</param>
    /// <param name="Position">In the batch.</param>
    readonly record struct Incoming(IndexedRecord Record, ReadOnlyMemory<byte> Line, long TraceKey, int Position);

    WriteResult Write(IReadOnlyList<IndexedRecord> records)
    {
        var stored = 0;
        var refused = new List<RefusedRecord>();
        var byDay = new SortedDictionary<string, List<Incoming>>(StringComparer.Ordinal);
        var now = NowMicros();
        var (list, listDay, key, keyTrace) = ((List<Incoming>?)null, (long?)null, 0L, (string?)null);
        foreach (var record in records)
        {
            var line = LineOf(record.Record);
            if (line.Length > options.MaxLineBytes)
            {
                refused.Add(new RefusedRecord(record, $"the line has {line.Length:N0} bytes; the store takes at most {options.MaxLineBytes:N0} (Sqlite:MaxLineBytes)"));
                continue;
            }

            // Neighbours are mostly of one day, often of one trace.
            if (DayFor(record.Record.TimestampMicros, now) is var day && (list is null || day != listDay))
            {
                var path = PathOf(listDay = day);
                if (!byDay.TryGetValue(path, out list)) byDay[path] = list = [];
            }

            if (record.Record.TraceId is var traceId && traceId != keyTrace) key = KeyOf(keyTrace = traceId);
            list.Add(new Incoming(record, line, key, list.Count));
        }

        foreach (var (path, incoming) in byDay) stored += WriteDay(path, incoming);
        if (_clock.GetUtcNow().Ticks >= _nextRetention) ApplyRetention();
        return new WriteResult(stored, records.Count - refused.Count - stored, refused);
    }

    int WriteDay(string path, List<Incoming> records)
    {
        var isOverflow = path == PathOf(null);
        using var day = BorrowForWriting(path);
        var stored = 0;
        var overflowDays = new HashSet<long>();

        // In the order of the indexes: the records of a trace, which may lie scattered over the batch, then meet the same page one after the other.
        records.Sort(static (left, right) => left.TraceKey != right.TraceKey ? left.TraceKey.CompareTo(right.TraceKey) : left.Position.CompareTo(right.Position));
        return InTransaction(day, () =>
        {
            var insert = day.Prepare(InsertRecord);
            var insertText = day.Prepare(InsertText);
            var count = day.Prepare(CountTrace);
            var (open, openKey, inTrace, ingested) = ((string?)null, 0L, 0, 0L);
            foreach (var incoming in records)
            {
                var record = incoming.Record;
                var ownDay = DayOf(record.Record.TimestampMicros);
                if (IsStoredElsewhere(incoming, isOverflow, ownDay) || !Insert(day, insert, insertText, incoming)) continue;
                stored++;
                if (isOverflow) overflowDays.Add(ownDay);
                if (record.Record.TraceId is not { } traceId) continue;
                if (traceId != open) CountOpen();
                (open, openKey, inTrace, ingested) = (traceId, incoming.TraceKey, inTrace + 1, Math.Max(ingested, record.IngestedMicros));
            }

            CountOpen();

            // Only what is new: the day's row is there once the first record is.
            foreach (var ownDay in overflowDays.Where(ownDay => !_overflowDays.Contains(ownDay)))
                day.Prepare("INSERT OR IGNORE INTO overflow_days (day) VALUES (?1)").Bind(ownDay).Run();
            if (stored > 0) NoteWrite(day);

            void CountOpen()
            {
                if (open is not null) count.Bind(openKey).Bind(open).Bind(inTrace).Bind(ingested).Run();
                (inTrace, ingested) = (0, 0);
            }
        }, () =>
        {
            _overflowDays.UnionWith(overflowDays);
            return stored;
        });
    }

    // Which days are far off changes with the clock, so a record may have been filed under the other rule when it came first.
    bool IsStoredElsewhere(in Incoming incoming, bool isOverflow, long ownDay)
    {
        if (!isOverflow && !_overflowDays.Contains(ownDay)) return false;
        var other = PathOf(isOverflow ? ownDay : null);
        if (!File.Exists(other)) return false;
        using var day = _connections.Borrow(other, forWriting: true);
        var found = day.Prepare("SELECT 1 FROM records WHERE trace_key = ?1 AND record_id = ?2")
            .Bind(incoming.TraceKey).Bind(incoming.Record.RecordId).Step();
        return found;
    }

    const string InsertRecord = """
        INSERT INTO records (trace_key, record_id, trace_id, line_hash, source, source_offset, timestamp_us, ingested_us, start_us, duration_us,
            name, kind, rpc_id, rpc_depth, rpc_parent, rpc_sort, service, is_error, code_num, route, action_key, error_key, peer, tags, line, service_certain)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)
        ON CONFLICT DO NOTHING
        """;

    const string InsertText = "INSERT INTO texts (rowid, msg) VALUES (?1, ?2)";

    const string CountTrace = """
        INSERT INTO traces (trace_key, trace_id, record_count, last_ingested_us) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO UPDATE SET record_count = record_count + excluded.record_count, last_ingested_us = max(last_ingested_us, excluded.last_ingested_us)
        """;

    static bool Insert(DayConnection day, DayStatement insert, DayStatement insertText, in Incoming incoming)
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

    public Task WriteChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken) =>
        ExclusiveAsync(() =>
        {
            Locate(chains);
            WriteLocated(chains);
            return true;
        }, cancellationToken);

    public Task<IReadOnlyList<string>> AddChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken) =>
        ExclusiveAsync(IReadOnlyList<string> () =>
        {
            Locate(chains);
            var present = chains.Select(chain => chain.TraceId).Where(_chainPaths.ContainsKey).ToList();
            WriteLocated(present.Count == 0 ? chains : chains.Where(chain => !_chainPaths.ContainsKey(chain.TraceId)).ToList());
            return present;
        }, cancellationToken);

    void WriteLocated(IReadOnlyList<ChainDocument> chains)
    {
        foreach (var group in chains.GroupBy(chain => _chainPaths.GetValueOrDefault(chain.TraceId) ?? FirstPathOf(chains, chain.TraceId), StringComparer.Ordinal))
        {
            using var day = BorrowForWriting(group.Key);
            InTransaction(day, () =>
            {
                // In the order of the indexes; the sort keeps the versions of one chain in theirs.
                foreach (var (key, chain) in group.Select(chain => (Key: KeyOf(chain.TraceId), Chain: chain)).OrderBy(chain => chain.Key)) WriteChain(day, key, chain);
                NoteWrite(day);
            }, () =>
            {
                if (_chainPaths.Count > KnownChains) _chainPaths.Clear();
                foreach (var chain in group) _chainPaths[chain.TraceId] = group.Key;
                return true;
            });
        }
    }

    // All versions of a chain in one call go where the first of them belongs.
    string FirstPathOf(IReadOnlyList<ChainDocument> chains, string traceId) =>
        PathOf(DayFor(chains.First(chain => chain.TraceId == traceId).StartMicros, NowMicros()));

    // Looks up in all files where chains are that this run has not met yet.
    void Locate(IReadOnlyList<ChainDocument> chains)
    {
        var traceIds = chains.Select(chain => chain.TraceId).Where(id => !_chainPaths.ContainsKey(id)).Distinct().ToList();
        if (traceIds.Count == 0) return;
        foreach (var path in Paths())
        {
            using var day = _connections.Borrow(path, forWriting: true);
            foreach (var keys in traceIds.Chunk(KeysPerQuery))
            {
                var wanted = keys.ToHashSet();
                var rows = day.Prepare("SELECT c.trace_id FROM json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value").Bind(KeysAsJson(keys));
                while (rows.Step())
                    if (rows.Text(0) is var traceId && wanted.Contains(traceId)) _chainPaths[traceId] = path;
            }
        }
    }

    const string InsertChain = """
        INSERT INTO chains (trace_key, trace_id, start_us, duration_us, entry_service, entry_action, entry_code, services, edges, record_count, node_count,
            depth, placeholder_count, gap_count, callee_only_count, likely_loss_count, ambiguous_count, error_count, alarm_count, debug, sampled,
            uid, complete, resolved, last_record_us, rows_total, rows, undecided, dropped)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29)
        ON CONFLICT (trace_key, trace_id) DO UPDATE SET start_us = excluded.start_us, duration_us = excluded.duration_us,
            entry_service = excluded.entry_service, entry_action = excluded.entry_action, entry_code = excluded.entry_code, services = excluded.services,
            edges = excluded.edges, record_count = excluded.record_count, node_count = excluded.node_count, depth = excluded.depth,
            placeholder_count = excluded.placeholder_count, gap_count = excluded.gap_count, callee_only_count = excluded.callee_only_count,
            likely_loss_count = excluded.likely_loss_count, ambiguous_count = excluded.ambiguous_count, error_count = excluded.error_count,
            alarm_count = excluded.alarm_count, debug = excluded.debug, sampled = excluded.sampled, uid = excluded.uid, complete = excluded.complete,
            resolved = excluded.resolved, last_record_us = excluded.last_record_us, rows_total = excluded.rows_total, rows = excluded.rows,
            undecided = excluded.undecided, dropped = excluded.dropped
            WHERE excluded.dropped OR (NOT dropped AND excluded.record_count >= record_count)
        """;

    const string InsertCall = """
        INSERT OR REPLACE INTO calls (trace_key, call_id, trace_id, rpc_id, execution, start_us, entry_service, entry_action, caller, callee, peer, kind, action_key,
            duration_us, network_us, is_error, loss_state, gap_count, caller_host, callee_host)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
        """;

    static void WriteChain(DayConnection day, long key, ChainDocument chain)
    {
        var before = ServicesOf(day, key, chain.TraceId);
        var services = Json(chain.Services);
        var written = day.Prepare(InsertChain)
            .Bind(key).Bind(chain.TraceId).Bind(chain.StartMicros).Bind(chain.DurationMicros).Bind(chain.EntryService).Bind(chain.EntryAction).Bind(chain.EntryCode)
            .Bind(services).Bind(Json(chain.Edges)).Bind(chain.RecordCount).Bind(chain.NodeCount)
            .Bind(chain.Depth).Bind(chain.PlaceholderCount).Bind(chain.GapCount).Bind(chain.CalleeOnlyCount).Bind(chain.LikelyLossCount)
            .Bind(chain.AmbiguousCount).Bind(chain.ErrorCount).Bind(chain.AlarmCount).Bind(chain.Debug).Bind(chain.Sampled).Bind(chain.Uid)
            .Bind(chain.Complete).Bind(chain.Resolved).Bind(chain.LastRecordMicros).Bind(chain.RowsTotal).BindText(chain.RowsUtf8.Span).Bind(chain.UndecidedSince ?? 0).Bind(chain.Dropped)
            .Run();
        if (written == 0) return;
        WriteServices(day, chain, before, new ServicesInChain(before?.Chain ?? day.LastRow, chain.StartMicros, chain.ErrorCount > 0, services));

        // Without a chain there are no calls of it either.
        if (before is not null) day.Prepare("DELETE FROM calls WHERE trace_key = ?1 AND trace_id = ?2").Bind(key).Bind(chain.TraceId).Run();
        var insert = day.Prepare(InsertCall);
        foreach (var call in chain.Calls)
        {
            insert.Bind(key).Bind(call.Id).Bind(chain.TraceId).Bind(call.RpcId).Bind(call.Execution).Bind(call.StartMicros).Bind(call.EntryService)
                .Bind(call.EntryAction).Bind(call.Caller).Bind(call.Callee).Bind(call.Peer).Bind(call.Kind).Bind(call.ActionKey).Bind(call.DurationMicros)
                .Bind(call.NetworkMicros).Bind(call.IsError).Bind(call.LossState).Bind(call.GapCount).Bind(call.CallerHost).Bind(call.CalleeHost)
                .Run();
        }
    }

    readonly record struct ServicesInChain(long Chain, long BeganMicros, bool Failed, string Names);

    static ServicesInChain? ServicesOf(DayConnection day, long key, string traceId)
    {
        var row = day.Prepare("SELECT id, start_us, error_count > 0, services FROM chains WHERE trace_key = ?1 AND trace_id = ?2").Bind(key).Bind(traceId);
        ServicesInChain? found = row.Step() ? new ServicesInChain(row.Int64(0), row.Int64(1), row.Flag(2), row.Text(3)) : null;
        row.Reset();
        return found;
    }

    static void WriteServices(DayConnection day, ChainDocument chain, ServicesInChain? before, in ServicesInChain after)
    {
        if (before is { } old)
        {
            if (old == after) return;
            foreach (var service in Texts(old.Names))
                day.Prepare("DELETE FROM chain_services WHERE service = ?1 AND began_us = ?2 AND chain = ?3").Bind(service).Bind(old.BeganMicros).Bind(old.Chain).Run();
        }

        var insert = day.Prepare("INSERT OR IGNORE INTO chain_services (service, began_us, chain, failed) VALUES (?1, ?2, ?3, ?4)");
        foreach (var service in chain.Services) insert.Bind(service).Bind(after.BeganMicros).Bind(after.Chain).Bind(after.Failed).Run();
    }

    public Task<IReadOnlyList<IndexedRecord>> GetTraceAsync(string traceId, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlyList<IndexedRecord>>(() =>
        {
            var records = new List<IndexedRecord>();
            foreach (var path in Paths()) ReadExisting(path, day => ReadTrace(day, traceId, records));
            return records;
        }, cancellationToken);

    static void ReadTrace(DayConnection day, string traceId, List<IndexedRecord> records)
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

    const string ChainColumns = """
        trace_id, start_us, duration_us, entry_service, entry_action, entry_code, services, edges, record_count, node_count, depth, placeholder_count,
        gap_count, callee_only_count, likely_loss_count, ambiguous_count, error_count, alarm_count, debug, sampled, uid, complete, resolved, last_record_us, rows_total,
        undecided, dropped
        """;

    static ChainDocument ReadChain(DayStatement row) => new()
    {
        TraceId = row.Text(0),
        StartMicros = row.Int64(1),
        DurationMicros = row.Int64(2),
        EntryService = row.TextOrNull(3),
        EntryAction = row.TextOrNull(4),
        EntryCode = row.TextOrNull(5),
        Services = Texts(row.Text(6)),
        Edges = Texts(row.Text(7)),
        RecordCount = row.Int32(8),
        NodeCount = row.Int32(9),
        Depth = row.Int32(10),
        PlaceholderCount = row.Int32(11),
        GapCount = row.Int64(12),
        CalleeOnlyCount = row.Int32(13),
        LikelyLossCount = row.Int32(14),
        AmbiguousCount = row.Int32(15),
        ErrorCount = row.Int32(16),
        AlarmCount = row.Int32(17),
        Debug = row.Flag(18),
        Sampled = row.Flag(19),
        Uid = row.TextOrNull(20),
        Complete = row.Flag(21),
        Resolved = row.Flag(22),
        LastRecordMicros = row.Int64(23),
        RowsTotal = row.Int32(24),
        UndecidedSince = row.Int64(25) is > 0 and var undecided ? undecided : null,
        Dropped = row.Flag(26),
    };

    public Task<ChainDocument?> GetChainAsync(string traceId, CancellationToken cancellationToken) =>
        ReadAsync(() =>
        {
            ChainDocument? best = null;
            foreach (var path in Paths())
            {
                ReadExisting(path, day =>
                {
                    var rows = day.Prepare($"SELECT {ChainColumns}, rows FROM chains WHERE trace_key = ?1 AND trace_id = ?2").Bind(KeyOf(traceId)).Bind(traceId);
                    if (!rows.Step()) return;
                    var chain = ReadChain(rows) with { RowsUtf8 = rows.Bytes(27), Calls = ReadCalls(day, traceId) };
                    if (best is null || chain.RecordCount > best.RecordCount) best = chain;
                });
            }

            return best;
        }, cancellationToken);

    static List<CallDocument> ReadCalls(DayConnection day, string traceId)
    {
        var calls = new List<CallDocument>();
        var rows = day.Prepare("""
            SELECT call_id, rpc_id, execution, start_us, entry_service, entry_action, caller, callee, peer, kind, action_key, duration_us, network_us, is_error,
                loss_state, gap_count, caller_host, callee_host
            FROM calls WHERE trace_key = ?1 AND trace_id = ?2 ORDER BY id
            """).Bind(KeyOf(traceId)).Bind(traceId);
        while (rows.Step())
        {
            calls.Add(new CallDocument
            {
                Id = rows.Id(0),
                TraceId = traceId,
                RpcId = rows.Text(1),
                Execution = rows.Int32(2),
                StartMicros = rows.Int64(3),
                EntryService = rows.TextOrNull(4),
                EntryAction = rows.TextOrNull(5),
                Caller = rows.TextOrNull(6),
                Callee = rows.TextOrNull(7),
                Peer = rows.TextOrNull(8),
                Kind = rows.TextOrNull(9),
                ActionKey = rows.TextOrNull(10),
                DurationMicros = rows.Int64OrNull(11),
                NetworkMicros = rows.Int64OrNull(12),
                IsError = rows.Flag(13),
                LossState = rows.Text(14),
                GapCount = rows.Int64(15),
                CallerHost = rows.TextOrNull(16),
                CalleeHost = rows.TextOrNull(17),
            });
        }

        return calls;
    }

    public Task<IReadOnlyList<ChainDocument>> FindChainsAsync(TraceQuery query, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlyList<ChainDocument>>(() =>
        {
            var text = new TextSearch(query.Text);
            if (text.IsAsked) Collect(text, cancellationToken);

            // Files by their newest chain, so that the search ends where no file can hold a newer one than those found.
            var files = new List<(string Path, long Newest)>();
            foreach (var path in Paths())
                ReadExisting(path, day => { if (day.Scalar("SELECT max(start_us) FROM chains") is { } newest) files.Add((path, newest)); });

            var found = new List<ChainDocument>();
            foreach (var (path, newest) in files.OrderByDescending(file => file.Newest))
            {
                if (found.Count >= query.Limit && found[query.Limit - 1].StartMicros > newest) break;
                ReadExisting(path, day => found.AddRange(FindIn(day, query, text, cancellationToken)));
                found = found.OrderByDescending(chain => chain.StartMicros).Take(query.Limit).ToList();
            }

            return found;
        }, cancellationToken);

    /// <summary>What is asked for in texts, in the words of the full-text table, and the traces that have it if they are few.</summary>
    sealed class TextSearch(string? text)
    {
        /// <summary>Or the whole id of a trace.</summary>
        public string TraceId { get; } = text?.Trim() ?? "";

        public bool IsAsked => TraceId.Length > 0;

        /// <summary>Each word a phrase: one that has more than letters and digits in it is several, side by side.</summary>
        public string Match { get; } = string.Join(' ', (text ?? "").Replace('\0', ' ').Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(word => $"\"{word.Replace("\"", "\"\"", StringComparison.Ordinal)}\""));

        /// <summary>The traces with a record that has all words; null when there are too many to collect.</summary>
        public HashSet<string>? Traces { get; set; }

        /// <summary>By file, for those that were asked for: which of its records have all words.</summary>
        public Dictionary<string, BitArray> Records { get; } = new(StringComparer.Ordinal);
    }

    // The records of a chain may lie in other files than the chain.
    void Collect(TextSearch text, CancellationToken cancellationToken)
    {
        var traces = new HashSet<string>(StringComparer.Ordinal) { text.TraceId };
        foreach (var path in Paths())
        {
            cancellationToken.ThrowIfCancellationRequested();
            ReadExisting(path, day =>
            {
                var rows = day.Prepare("SELECT r.trace_id FROM texts t CROSS JOIN records r ON r.id = t.rowid WHERE t.texts MATCH ?1 AND r.trace_id IS NOT NULL").Bind(text.Match);
                while (traces.Count <= FewTraces && rows.Step()) traces.Add(rows.Text(0));
                rows.Reset();
            });
            if (traces.Count > FewTraces) return;
        }

        text.Traces = traces;
    }

    List<ChainDocument> FindIn(DayConnection day, TraceQuery query, TextSearch text, CancellationToken cancellationToken)
    {
        var conditions = new List<string> { "dropped = 0" };
        var values = new List<Action<DayStatement>>();
        void Where(bool said, string condition, Action<DayStatement> bind)
        {
            if (!said) return;
            values.Add(bind);
            conditions.Add(string.Format(CultureInfo.InvariantCulture, condition, values.Count));
        }

        // Which table leads is said, not left to the planner: it does not know how many traces or services there are.
        var (from, time) = ("chains", "start_us");
        if (text.Traces is { } traces)
        {
            from = "json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value";
            values.Add(s => s.Bind(KeysAsJson([.. traces])));
            Where(!string.IsNullOrEmpty(query.Service), "EXISTS (SELECT 1 FROM json_each(services) s WHERE s.value = ?{0})", s => s.Bind(query.Service));
        }
        else if (!string.IsNullOrEmpty(query.Service))
        {
            (from, time) = ("chain_services s CROSS JOIN chains c ON c.id = s.chain", "began_us");
            Where(true, "s.service = ?{0}", s => s.Bind(query.Service));
            if (query.HasErrors is { } failed) conditions.Add(failed ? "s.failed = 1" : "s.failed = 0");
        }

        if (query.HasErrors is { } hasErrors) conditions.Add(hasErrors ? "error_count > 0" : "error_count <= 0");
        Where(!string.IsNullOrEmpty(query.Action), "instr(lower(entry_action), lower(?{0})) > 0", s => s.Bind(query.Action));
        Where(!string.IsNullOrEmpty(query.Uid), "uid = ?{0}", s => s.Bind(query.Uid));
        Where(query.FromMicros is not null, time + " >= ?{0}", s => s.Bind(query.FromMicros));
        Where(query.ToMicros is not null, time + " < ?{0}", s => s.Bind(query.ToMicros));
        Where(query.MinDurationMicros is not null, "duration_us >= ?{0}", s => s.Bind(query.MinDurationMicros));
        Where(query.Complete is not null, "complete = ?{0}", s => s.Bind(query.Complete == true));

        var rows = day.Prepare($"SELECT {ChainColumns} FROM {from} WHERE {string.Join(" AND ", conditions)} ORDER BY {time} DESC");
        foreach (var bind in values) bind(rows);
        var found = new List<ChainDocument>();
        while (found.Count < query.Limit && rows.Step())
        {
            cancellationToken.ThrowIfCancellationRequested();
            var chain = ReadChain(rows);
            if (!text.IsAsked || chain.TraceId == text.TraceId || (text.Traces is null ? HasWords(chain.TraceId, text) : text.Traces.Contains(chain.TraceId))) found.Add(chain);
        }

        rows.Reset();
        return found;
    }

    bool HasWords(string traceId, TextSearch text)
    {
        var has = false;
        foreach (var path in Paths())
        {
            ReadExisting(path, day =>
            {
                var rows = day.Prepare("SELECT id FROM records WHERE trace_key = ?1 AND trace_id = ?2").Bind(KeyOf(traceId)).Bind(traceId);
                while (!has && rows.Step())
                {
                    // Of all records at once: to look for each of them in what a common word has is to go through half of that again and again.
                    if (!text.Records.TryGetValue(path, out var matching)) text.Records[path] = matching = Matching(day, text.Match);
                    has = rows.Int64(0) < matching.Length && matching[(int)rows.Int64(0)];
                }

                rows.Reset();
            });
            if (has) return true;
        }

        return false;
    }

    static BitArray Matching(DayConnection day, string match)
    {
        var matching = new BitArray((int)Math.Min(int.MaxValue, (day.Scalar("SELECT max(id) FROM records") ?? 0) + 1));
        var rows = day.Prepare("SELECT rowid FROM texts WHERE texts MATCH ?1").Bind(match);
        while (rows.Step())
            if (rows.Int64(0) < matching.Length) matching[(int)rows.Int64(0)] = true;
        rows.Reset();
        return matching;
    }

    public Task<IReadOnlyList<string>> FindUndecidedAsync(long beforeMicros, int limit, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlyList<string>>(() =>
        {
            var found = new List<string>();
            foreach (var path in Paths())
            {
                ReadExisting(path, day =>
                {
                    var rows = day.Prepare("SELECT trace_id FROM chains WHERE undecided > 0 AND undecided < ?1 ORDER BY undecided LIMIT ?2").Bind(beforeMicros).Bind(limit - found.Count);
                    while (rows.Step()) found.Add(rows.Text(0));
                });
            }

            return found;
        }, cancellationToken);

    public Task<IReadOnlySet<string>> FindDroppedAsync(IReadOnlyCollection<string> traceIds, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlySet<string>>(() =>
        {
            var wanted = traceIds.ToHashSet(StringComparer.Ordinal);
            var found = new HashSet<string>(StringComparer.Ordinal);
            foreach (var path in Paths())
            {
                foreach (var keys in wanted.Chunk(KeysPerQuery))
                {
                    ReadExisting(path, day =>
                    {
                        var rows = day.Prepare("SELECT c.trace_id FROM json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value WHERE c.dropped = 1").Bind(KeysAsJson(keys));
                        while (rows.Step())
                            if (rows.Text(0) is var traceId && wanted.Contains(traceId)) found.Add(traceId);
                    });
                }
            }

            return found;
        }, cancellationToken);

    public async Task<long> DropTracesAsync(IReadOnlyList<string> traceIds, CancellationToken cancellationToken)
    {
        // The markers first: what is left after a crash has one that counts no records, and so the next check finds it.
        var now = NowMicros();
        await WriteChainsAsync([.. traceIds.Select(traceId => new ChainDocument { TraceId = traceId, StartMicros = now, Dropped = true })], cancellationToken);
        return await ExclusiveAsync(() => Paths().Sum(path => RemoveRecords(path, traceIds)), cancellationToken);
    }

    long RemoveRecords(string path, IReadOnlyList<string> traceIds)
    {
        using var day = _connections.Borrow(path, forWriting: true);
        long removed = 0;
        return InTransaction(day, () =>
        {
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

            if (removed > 0) NoteWrite(day);
        }, () => removed);
    }

    public Task<IReadOnlyList<string>> FindStaleTracesAsync(long sinceMicros, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlyList<string>>(() =>
        {
            // A trace may have records in several files and its chain in another one: who is concerned first, then all files for those.
            var touched = new HashSet<string>();
            foreach (var path in Paths())
            {
                ReadExisting(path, day =>
                {
                    var rows = day.Prepare("SELECT trace_id FROM traces WHERE last_ingested_us >= ?1").Bind(sinceMicros);
                    while (rows.Step()) touched.Add(rows.Text(0));
                });
            }

            var records = new Dictionary<string, long>(touched.Count);
            var chains = new Dictionary<string, long>(touched.Count);
            foreach (var path in Paths())
            {
                foreach (var keys in touched.Chunk(KeysPerQuery))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var json = KeysAsJson(keys);
                    ReadExisting(path, day =>
                    {
                        var rows = day.Prepare("SELECT t.trace_id, t.record_count FROM json_each(?1) j CROSS JOIN traces t ON t.trace_key = j.value").Bind(json);
                        while (rows.Step()) records[rows.Text(0)] = records.GetValueOrDefault(rows.Text(0)) + rows.Int64(1);
                        rows = day.Prepare("SELECT c.trace_id, c.record_count FROM json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value").Bind(json);
                        while (rows.Step()) chains[rows.Text(0)] = Math.Max(chains.GetValueOrDefault(rows.Text(0)), rows.Int64(1));
                    });
                }
            }

            return touched.Where(traceId => !chains.TryGetValue(traceId, out var inChain) || inChain != records.GetValueOrDefault(traceId)).ToList();
        }, cancellationToken);

    /// <summary>Files, their bytes with the logs beside them, and records: without reading any of them.</summary>
    public SqliteSize Size()
    {
        long bytes = 0, records = 0;
        var files = 0;
        foreach (var path in Paths())
        {
            try
            {
                ReadExisting(path, day => records += day.Scalar("SELECT max(id) FROM records") ?? 0);
                bytes += BytesOf(path);
                files++;
            }
            catch (SqliteException)
            {
                // Locked or damaged: whoever writes or searches says so; a figure is not worth it.
            }
        }

        return new SqliteSize(files, bytes, records);
    }

    public void WriteMetrics(PrometheusText output)
    {
        var size = Size();
        output.Gauge("sqlite_files", "Day files.", size.Files);
        output.Gauge("sqlite_bytes", "Their bytes, logs beside them included.", size.Bytes);
        output.Gauge("sqlite_records", "Records in them.", size.Records);
        output.Gauge("sqlite_bytes_per_record", "Bytes of the files for each record: line, derived fields, indexes, chains and calls.", size.BytesPerRecord);
    }

    public Task<StoreCounts> CountAsync(CancellationToken cancellationToken) =>
        ReadAsync(() =>
        {
            long records = 0, chains = 0;
            foreach (var path in Paths())
            {
                ReadExisting(path, day =>
                {
                    records += day.Scalar("SELECT count(*) FROM records") ?? 0;
                    chains += day.Scalar("SELECT (SELECT count(*) FROM chains) - (SELECT count(*) FROM chains WHERE dropped = 1)") ?? 0;
                });
            }

            return new StoreCounts(records, chains);
        }, cancellationToken);

    public async ValueTask DisposeAsync()
    {
        await _writing.WaitAsync();
        try
        {
            _connections.Dispose();
            _writerLock?.Dispose();
            _writerLock = null;
        }
        finally
        {
            _writing.Release();
        }
    }

    // ---- files

    FileStream LockFolder()
    {
        var path = Path.Combine(options.Directory, "writer.lock");
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e)
        {
            throw new IOException($"{options.Directory} is in use: another process writes to this store (it holds {path}). Stop it, or give this one a folder of its own.", e);
        }
    }

    /// <summary>The file for a record or chain of this time, by today's clock: null for the overflow.</summary>
    long? DayFor(long micros, long now)
    {
        var day = DayOf(micros);
        var isFarOff = micros < now - (options.OverflowAfterDays * MicrosPerDay) || micros > now + (options.OverflowAheadDays * MicrosPerDay);
        return isFarOff ? null : day;
    }

    long NowMicros() => (_clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / 10;

    static long DayOf(long micros) => (micros / MicrosPerDay) - (micros % MicrosPerDay < 0 ? 1 : 0);

    string PathOf(long? day) => Path.Combine(options.Directory, Prefix + (day is { } number ? DayName(number) : Overflow) + Suffix);

    // Days that no calendar has lie beyond every limit; they are asked for only to look whether a file of theirs exists.
    static string DayName(long day) => day is >= -719_162 and <= 2_932_896
        ? DateTime.UnixEpoch.AddDays(day).ToString("yyyy-MM-dd", CultureInfo.InvariantCulture)
        : "day" + day.ToString(CultureInfo.InvariantCulture);

    string[] Paths()
    {
        if (!Directory.Exists(options.Directory)) return [];
        var paths = Directory.GetFiles(options.Directory, Prefix + "*" + Suffix);
        Array.Sort(paths, StringComparer.Ordinal);
        // A reader would else keep the space of the days that the writer has deleted.
        if (options.ReadOnly) _connections.CloseAllBut(paths);
        return paths;
    }

    DayConnection BorrowForWriting(string path)
    {
        if (!File.Exists(path)) Create(path);
        return _connections.Borrow(path, forWriting: true);
    }

    // Made under another name, so that no reader ever meets a file without its tables. The rename is durable with the first
    // commit: SQLite syncs the folder when it makes the log beside the file.
    void Create(string path)
    {
        var temporary = path + NewSuffix;
        File.Delete(temporary);
        using (var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = temporary, Pooling = false }.ToString()))
        {
            connection.Open();
            using var command = connection.CreateCommand();
            command.CommandText = $"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN; {Schema} PRAGMA user_version = {SchemaVersion}; COMMIT;";
            command.ExecuteNonQuery();
        }

        _connections.Reopen(path);
        File.Move(temporary, path);
    }

    // Of format 1, the first: it had no words of texts, no rules of keeping, and was searched chain by chain.
    static void Upgrade(DayConnection day) => InTransaction(day, () =>
    {
        day.Execute("""
            ALTER TABLE chains ADD COLUMN undecided INTEGER NOT NULL DEFAULT 0;
            ALTER TABLE chains ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
            DROP INDEX chains_by_start;
            CREATE INDEX chains_by_start ON chains (start_us, dropped, entry_action, duration_us);
            CREATE INDEX chains_to_decide ON chains (undecided) WHERE undecided > 0;
            CREATE INDEX chains_dropped ON chains (trace_key) WHERE dropped = 1;
            CREATE INDEX chains_with_errors ON chains (start_us) WHERE error_count > 0;
            CREATE INDEX chains_by_user ON chains (uid, start_us) WHERE uid IS NOT NULL;
            CREATE TABLE chain_services (service TEXT NOT NULL, began_us INTEGER NOT NULL, chain INTEGER NOT NULL REFERENCES chains (id), failed INTEGER NOT NULL,
                PRIMARY KEY (service, began_us, chain)) WITHOUT ROWID;
            CREATE INDEX chain_services_failed ON chain_services (service, began_us) WHERE failed = 1;
            CREATE VIRTUAL TABLE texts USING fts5 (msg, content = '', tokenize = 'unicode61 remove_diacritics 0');
            INSERT OR IGNORE INTO chain_services (service, began_us, chain, failed) SELECT j.value, c.start_us, c.id, c.error_count > 0 FROM chains c, json_each(c.services) j;
            """);
        var rows = day.Prepare("SELECT id, line FROM records");
        while (rows.Step())
        {
            if (RecordCodec.TryRead(rows.Bytes(1), out var record, out _) && record.Utf8(RecordField.Msg) is { IsEmpty: false } msg)
                day.Prepare("INSERT INTO texts (rowid, msg) VALUES (?1, ?2)").Bind(rows.Int64(0)).BindText(msg).Run();
        }

        rows.Reset();
        day.Execute($"PRAGMA user_version = {SchemaVersion}");
    }, () => true);

    static readonly string Schema = ReadSchema();

    static string ReadSchema()
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream("LogTrace.Indexer.Store.schema.sql")!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    void NoteWrite(DayConnection day) =>
        day.Prepare("INSERT INTO meta (key, value) VALUES ('last_write_us', ?1) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)")
            .Bind(NowMicros()).Run();

    /// <summary>Deletes days that are past the limits and says so.</summary>
    void ApplyRetention()
    {
        var now = _clock.GetUtcNow();
        _nextRetention = (now + RetentionEvery).Ticks;
        var files = Paths().Select(path => (Path: path, Bytes: BytesOf(path), LastWrite: LastWrite(path), End: EndOfDay(path)))
            .OrderBy(file => file.End > file.LastWrite ? file.End : file.LastWrite).ThenBy(file => file.End).ToList();
        var limit = now - TimeSpan.FromDays(options.KeepDays);
        foreach (var file in files.Where(file => file.LastWrite < limit && (file.End ?? DateTimeOffset.MinValue) < limit).ToList())
        {
            Delete(file.Path);
            files.Remove(file);
            IndexerLog.DayExpired(_logger, Path.GetFileName(file.Path), options.KeepDays, file.Bytes);
        }

        // What is being written now stays, else a resend or an import would run against its own deletion.
        var total = files.Sum(file => file.Bytes);
        foreach (var file in files.Where(file => file.LastWrite < now - SafeFromSizeLimit && (file.End is null || file.End < now)))
        {
            if (total <= options.MaxBytes) return;
            Delete(file.Path);
            total -= file.Bytes;
            IndexerLog.DayDeletedForSpace(_logger, Path.GetFileName(file.Path), options.MaxBytes, file.Bytes);
        }

        if (total > options.MaxBytes) IndexerLog.StoreOverSize(_logger, options.Directory, total, options.MaxBytes);
    }

    // The overflow has no day; its last write alone decides.
    static DateTimeOffset? EndOfDay(string path) =>
        DateTimeOffset.TryParseExact(Path.GetFileNameWithoutExtension(path)[Prefix.Length..], "yyyy-MM-dd", CultureInfo.InvariantCulture,
            DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var day) ? day.AddDays(1) : null;

    DateTimeOffset LastWrite(string path)
    {
        using var day = _connections.Borrow(path, forWriting: true);
        return DateTimeOffset.UnixEpoch.AddTicks((day.Scalar("SELECT value FROM meta WHERE key = 'last_write_us'") ?? 0) * 10);
    }

    static long BytesOf(string path) => new[] { path, path + "-wal" }.Select(file => new FileInfo(file)).Where(file => file.Exists).Sum(file => file.Length);

    void Delete(string path)
    {
        _connections.Close(path);
        foreach (var file in new[] { path, path + "-wal", path + "-shm" }) File.Delete(file);
        foreach (var traceId in _chainPaths.Where(chain => chain.Value == path).Select(chain => chain.Key).ToList()) _chainPaths.Remove(traceId);
        if (path == PathOf(null)) _overflowDays.Clear();
    }

    // ---- calls

    static TResult InTransaction<TResult>(DayConnection day, Action write, Func<TResult> committed)
    {
        day.Execute("BEGIN IMMEDIATE");
        try
        {
            write();
            day.Execute("COMMIT");
        }
        catch
        {
            // Whatever it was: the transaction must not stay open, and closing the connection is what rolls it back for certain.
            day.Break();
            throw;
        }

        return committed();
    }

    // A day may be deleted between the listing and the opening.
    void ReadExisting(string path, Action<DayConnection> read)
    {
        DayConnection day;
        try
        {
            day = _connections.Borrow(path, forWriting: false);
        }
        catch (SqliteException e) when (e.SqliteErrorCode == raw.SQLITE_CANTOPEN && !File.Exists(path))
        {
            return;
        }

        using (day) read(day);
    }

    async Task<TResult> ExclusiveAsync<TResult>(Func<TResult> work, CancellationToken cancellationToken)
    {
        if (options.ReadOnly) throw new InvalidOperationException($"The store in {options.Directory} was opened for reading only.");
        await _writing.WaitAsync(cancellationToken);
        try
        {
            return await Task.Run(() => Translated(work), CancellationToken.None);
        }
        finally
        {
            _writing.Release();
        }
    }

    async Task<TResult> ReadAsync<TResult>(Func<TResult> work, CancellationToken cancellationToken)
    {
        await _reading.WaitAsync(cancellationToken);
        try
        {
            return await Task.Run(() => Translated(work), cancellationToken);
        }
        finally
        {
            _reading.Release();
        }
    }

    TResult Translated<TResult>(Func<TResult> work)
    {
        try
        {
            return work();
        }
        catch (SqliteException e) when (e.SqliteErrorCode is raw.SQLITE_CORRUPT or raw.SQLITE_NOTADB)
        {
            throw new InvalidDataException($"{FileOf(e)} is damaged ({e.Message}). Move it away with its -wal and -shm files; its records can be read again from the log files.", e);
        }
        catch (SqliteException e) when (e.SqliteErrorCode is raw.SQLITE_BUSY or raw.SQLITE_LOCKED or raw.SQLITE_IOERR or raw.SQLITE_FULL
            or raw.SQLITE_CANTOPEN or raw.SQLITE_NOMEM or raw.SQLITE_READONLY or raw.SQLITE_PROTOCOL or raw.SQLITE_PERM)
        {
            throw new StoreUnavailableException($"{FileOf(e)}: {e.Message}", e);
        }
        catch (SqliteException e) when (options.ReadOnly && e.SqliteErrorCode == raw.SQLITE_ERROR && e.Message.Contains("no such", StringComparison.Ordinal))
        {
            throw new InvalidDataException($"{FileOf(e)} was written by an older version. Start './logtrace run' or './logtrace index' on this folder once: it brings the files up to date.", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new StoreUnavailableException($"SQLite in {options.Directory}: {e.Message}", e);
        }
    }

    string FileOf(Exception e) => e.Data[DayConnection.PathKey] as string ?? options.Directory;

    // ---- values

    static ReadOnlyMemory<byte> LineOf(TraceRecord record)
    {
        if (!record.SourceLine.IsEmpty) return record.SourceLine;
        var buffer = new ArrayBufferWriter<byte>(512);
        RecordCodec.Write(record, buffer);
        return buffer.WrittenMemory;
    }

    static long KeyOf(string? traceId) => traceId is null ? 0 : (long)(ulong)(TraceHash.Of(traceId) >> 64);

    // Sorted, so that neighbouring keys meet the same pages.
    static string KeysAsJson(string[] traceIds) => JsonSerializer.Serialize(traceIds.Select(KeyOf).Distinct().Order());

    // As little escaped as JSON allows: the files are for SQL, too.
    static readonly JsonSerializerOptions PlainJson = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    static string Json(IReadOnlyList<string> texts) => JsonSerializer.Serialize(texts, PlainJson);

    static List<string> Texts(string json) => JsonSerializer.Deserialize<List<string>>(json) ?? [];

    static ReadOnlySpan<byte> NameOf(RecordKind kind) => kind switch
    {
        RecordKind.Server => "server"u8,
        RecordKind.Client => "client"u8,
        RecordKind.Internal => "internal"u8,
        RecordKind.Metric => "metric"u8,
        _ => "event"u8,
    };

    static RecordKind KindOf(string name) => name switch
    {
        "server" => RecordKind.Server,
        "client" => RecordKind.Client,
        "internal" => RecordKind.Internal,
        "metric" => RecordKind.Metric,
        _ => RecordKind.Event,
    };
}

/// <summary>How large an embedded store is.</summary>
public readonly record struct SqliteSize(int Files, long Bytes, long Records)
{
    public long BytesPerRecord => Records == 0 ? 0 : Bytes / Records;
}
