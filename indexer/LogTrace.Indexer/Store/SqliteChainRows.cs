using static LogTrace.Indexer.Store.SqliteValues;

namespace LogTrace.Indexer.Store;

/// <summary>Chains and their calls in a day file. Everything within the caller's transaction and connection.</summary>
static class SqliteChainRows
{
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

    /// <summary>Writes a chain with its calls over what was there of it, unless that has more records or is a marker that stays.</summary>
    public static void Write(DayConnection day, long key, ChainDocument chain)
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

    /// <summary>What <see cref="Read"/> takes, in its order.</summary>
    public const string ChainColumns = """
        trace_id, start_us, duration_us, entry_service, entry_action, entry_code, services, edges, record_count, node_count, depth, placeholder_count,
        gap_count, callee_only_count, likely_loss_count, ambiguous_count, error_count, alarm_count, debug, sampled, uid, complete, resolved, last_record_us, rows_total,
        undecided, dropped
        """;

    /// <summary>A chain without its drawn rows and calls.</summary>
    public static ChainDocument Read(DayStatement row) => new()
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

    public static List<CallDocument> ReadCalls(DayConnection day, string traceId)
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
}
