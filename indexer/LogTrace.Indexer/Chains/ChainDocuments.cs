using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;
using LogTrace.Indexer.Store;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>Makes of a chain what the stores keep of it: one chain document, with one call document per call that crosses a process boundary.</summary>
public static class ChainDocuments
{
    /// <summary>Rows kept in a chain document; a larger chain is drawn from its records instead.</summary>
    public const int MaxRows = 5_000;

    /// <summary>Longest action kept in a row, in characters: rows are for drawing, the records hold the whole text.</summary>
    public const int MaxActionLength = 200;

    /// <summary>Log lines that the rows of one chain tell of; the records hold them all.</summary>
    public const int MaxLogs = 500;

    const int MaxMessageLength = 100;
    const int RowsRoom = 64 << 10;

    [ThreadStatic] static JsonBuffer? t_rows;

    /// <param name="chain">The chain.</param>
    /// <param name="labels">What other chains say about its nodes, see <see cref="HopKnowledge"/>; null for nothing.</param>
    public static ChainDocument From(CallChain chain, IReadOnlyDictionary<ChainNode, HopLabel>? labels = null)
    {
        var branches = GapsOfBranches(chain);
        return new()
        {
            TraceId = chain.TraceId,
            StartMicros = chain.StartMicros,
            DurationMicros = chain.DurationMicros,
            EntryService = chain.EntryService,
            EntryAction = chain.EntryAction,
            EntryKey = chain.EntryKey,
            EntryCode = chain.EntryCode,
            Services = chain.Services,
            Edges = chain.Edges,
            RecordCount = chain.RecordCount,
            NodeCount = chain.Nodes.Count,
            Depth = chain.Depth,
            PlaceholderCount = chain.PlaceholderCount,
            GapCount = chain.GapCount,
            CalleeOnlyCount = chain.CalleeOnlyCount,
            LikelyLossCount = labels?.Values.Count(label => label == HopLabel.CalleeMissing) ?? 0,
            AmbiguousCount = chain.AmbiguousCount,
            ErrorCount = chain.ErrorCount,
            AlarmCount = chain.AlarmCount,
            Debug = chain.Debug,
            Sampled = chain.Sampled,
            Uid = chain.Uid,
            Complete = chain.Complete,
            Resolved = chain.Resolved,
            LastRecordMicros = chain.LastRecordMicros,
            RowsUtf8 = Rows(chain, labels: labels),
            RowsTotal = chain.RowCount,
            Calls = [.. chain.Nodes.Where(CrossesProcesses).Select(node => CallOf(chain, node, LabelOf(labels, node), branches is null ? 0 : branches.GetValueOrDefault(node)))],
        };
    }

    /// <summary>Numbers missing in what is no call of its own, by the call that it belongs to: a branch loses records of the service that it runs in. Null for none.</summary>
    static Dictionary<ChainNode, long>? GapsOfBranches(CallChain chain)
    {
        Dictionary<ChainNode, long>? gaps = null;
        foreach (var gap in chain.Gaps)
        {
            if (CrossesProcesses(gap.Scope)) continue;
            var call = gap.Scope.Parent;
            while (call is { } above && !CrossesProcesses(above)) call = above.Parent;
            if (call is not { } found) continue;
            gaps ??= [];
            gaps[found] = gaps.GetValueOrDefault(found) + gap.Count;
        }

        return gaps;
    }

    /// <summary>
    /// The rows of the waterfall as a JSON array in drawing order, the first <paramref name="maxRows"/>. A row for a node:
    /// <c>rpc_id, execution, depth, kind, service, target</c> (what was called), <c>name, action</c> (bounded), <c>code, start_us,
    /// duration_us, error, placeholder, foreign, callee_only, callee_missing, never_recorded, sampled</c> (what is missing was left out on purpose), <c>ambiguous, irregular, events</c> (how many), <c>logs</c> (log lines:
    /// <c>at_us, name, msg</c>, bounded; left out where there are none), <c>caller</c> and <c>callee</c>
    /// (<c>service, start_us, duration_us</c>, or null where that side has no record). A row for missing numbers: <c>gap</c> (<c>1.5..1.9</c>),
    /// <c>depth</c> and <c>service</c> of what is missing, and <c>count</c>. Flags that are false are left out. Times are corrected where clocks of hosts do not go together;
    /// <c>clock_us</c> says what was added to those of the callee. <c>self_us</c> (microseconds in which none of its children was at work; left out where not known) and <c>critical</c>
    /// (on the critical path) are as <see cref="ChainTimes"/> says; both are left out in chains of more than <see cref="MaxRows"/> nodes, where part of the path would not be drawn.
    /// </summary>
    public static ReadOnlyMemory<byte> Rows(CallChain chain, int maxRows = MaxRows, IReadOnlyDictionary<ChainNode, HopLabel>? labels = null)
    {
        // One for each thread: most chains take a few kilobytes.
        var json = t_rows ?? new JsonBuffer(RowsRoom);
        t_rows = null;
        var logs = MaxLogs;
        var clocks = ChainClocks.Of(chain);
        using var times = chain.Nodes.Count <= MaxRows ? ChainTimes.Of(chain, clocks) : null;
        json.Write("["u8);
        foreach (var row in chain.Rows().Take(maxRows))
        {
            if (row.Node is { } node) WriteNode(json, node, LabelOf(labels, node), clocks, times, ref logs);
            else WriteGap(json, row.Gap);
        }

        json.EndArray();
        var rows = json.WrittenFrom(0).ToArray();
        if (rows.Length <= RowsRoom) (t_rows = json).Clear();
        else json.Return();
        return rows;
    }

    static void WriteNode(JsonBuffer json, ChainNode node, HopLabel? label, ChainClocks? clocks, ChainTimes? times, ref int logs)
    {
        var (start, duration) = clocks?.Of(node) ?? (node.StartMicros, node.DurationMicros);
        var (callerShift, calleeShift) = clocks is null ? default : (clocks.OfCaller(node.Index), clocks.OfCallee(node.Index));
        json.BeginObject();
        json.Text("rpc_id"u8, node.IdText);
        json.Number("execution"u8, node.Execution);
        json.Number("depth"u8, node.Depth);
        json.Text("kind"u8, node.Kind);
        json.Text("service"u8, node.Service);
        json.Text("target"u8, node.Target);
        json.Text("name"u8, node.Name);
        json.Text("action"u8, Bounded(node.Action, MaxActionLength));
        json.Text("code"u8, (node.Caller ?? node.Callee)?.Record.Code);
        json.Number("start_us"u8, start);
        WriteDuration(json, duration);
        if (times?.SelfMicros(node) is { } self) json.Number("self_us"u8, self);
        WriteFlag(json, "critical"u8, times?.IsCritical(node) == true);
        if (calleeShift != 0 && node.Callee is not null) json.Number("clock_us"u8, calleeShift);
        WriteFlag(json, "error"u8, node.IsError);
        WriteFlag(json, "placeholder"u8, node.IsPlaceholder);
        WriteFlag(json, "foreign"u8, node.IsForeign);
        WriteFlag(json, "callee_only"u8, node.IsCalleeOnly && !node.IsSampled);
        WriteFlag(json, "callee_missing"u8, node.IsCalleeMissing || label == HopLabel.CalleeMissing);
        WriteFlag(json, "never_recorded"u8, label == HopLabel.NeverRecorded);
        WriteFlag(json, "sampled"u8, node.IsSampled && (node.IsPlaceholder || node.IsCalleeOnly));
        WriteFlag(json, "ambiguous"u8, node.IsAmbiguous);
        WriteFlag(json, "irregular"u8, node.IsIrregular);
        json.Number("events"u8, node.Events.Count);
        WriteLogs(json, node, clocks, ref logs);
        WriteSide(json, "caller"u8, node.Caller, node.CallerService, callerShift);
        WriteSide(json, "callee"u8, node.Callee, node.CalleeService, calleeShift);
        json.EndObject();
    }

    static void WriteLogs(JsonBuffer json, ChainNode node, ChainClocks? clocks, ref int left)
    {
        var isOpen = false;
        foreach (var record in node.Events)
        {
            if (left == 0) break;
            if (record.Kind != RecordKind.Event) continue;
            if (!isOpen) json.BeginArray("logs"u8);
            isOpen = true;
            left--;
            json.BeginObject();
            json.Number("at_us"u8, clocks is null ? record.Record.TimestampMicros : clocks.Corrected(node, record));
            json.Text("name"u8, record.Record.Name);
            json.Text("msg"u8, Bounded(record.Record.Msg, MaxMessageLength));
            json.EndObject();
        }

        if (isOpen) json.EndArray();
    }

    static void WriteGap(JsonBuffer json, ChainGap gap)
    {
        json.BeginObject();
        json.Text("gap"u8, gap.ToString());
        json.Number("depth"u8, gap.Scope.Depth + 1);
        json.Text("service"u8, gap.Scope.Target);
        json.Number("count"u8, gap.Count);
        json.EndObject();
    }

    static void WriteSide(JsonBuffer json, ReadOnlySpan<byte> side, IndexedRecord? record, string? service, long shift)
    {
        if (record is null)
        {
            json.Null(side);
            return;
        }

        json.BeginObject(side);
        if (service is null) json.Null("service"u8);
        else json.Text("service"u8, service);
        json.Number("start_us"u8, ChainClocks.Add(record.StartMicros, shift));
        WriteDuration(json, record.Record.DurationMicros);
        json.EndObject();
    }

    static void WriteDuration(JsonBuffer json, long? micros)
    {
        if (micros is { } value) json.Number("duration_us"u8, value);
        else json.Null("duration_us"u8);
    }

    static void WriteFlag(JsonBuffer json, ReadOnlySpan<byte> name, bool value)
    {
        if (value) json.Boolean(name, true);
    }

    static string? Bounded(string? text, int most)
    {
        if (text is null || text.Length <= most) return text;
        var length = char.IsHighSurrogate(text[most - 1]) ? most - 1 : most;
        return text[..length] + "…";
    }

    /// <summary>
    /// Not a branch within a service, and not mere log lines: those do tell of a call where another service wrote them, or made the calls below, than the one that called. What has no id
    /// at all hangs on a top that nobody saw called.
    /// </summary>
    static bool CrossesProcesses(ChainNode node) =>
        !node.IsFork && (!node.IsEventsOnly || (node.CalleeService is { } callee && callee != node.CallerService && (node.Parent is not null || node.GapCount > 0)));

    /// <summary>The labels with which a chain was stored, for one that is built again where nothing was learnt from others.</summary>
    public static IReadOnlyDictionary<ChainNode, HopLabel>? StoredLabels(CallChain chain, IReadOnlyList<CallDocument> calls)
    {
        Dictionary<(string RpcId, int Execution), HopLabel>? stored = null;
        foreach (var call in calls)
            if (call.LossState is "never_recorded" or "callee_missing") (stored ??= [])[(call.RpcId, call.Execution)] = call.LossState == "callee_missing" ? HopLabel.CalleeMissing : HopLabel.NeverRecorded;
        if (stored is null) return null;
        var labels = new Dictionary<ChainNode, HopLabel>();
        foreach (var node in chain.Nodes)
        {
            // What has come since may have made it false.
            var isOpen = node.IsPlaceholder || (node.Caller is not null && node.Callee is null);
            if (isOpen && stored.TryGetValue((node.IdText.ToString(), node.Execution), out var label) && node.IsPlaceholder == (label == HopLabel.NeverRecorded)) labels.Add(node, label);
        }

        return labels;
    }

    static HopLabel? LabelOf(IReadOnlyDictionary<ChainNode, HopLabel>? labels, ChainNode node) => labels is not null && labels.TryGetValue(node, out var label) ? label : null;

    static CallDocument CallOf(CallChain chain, ChainNode node, HopLabel? label, long gapsOfBranches) => new()
    {
        Id = CallId(chain.TraceId, node),
        TraceId = chain.TraceId,
        RpcId = node.IdText.ToString(),
        Execution = node.Execution,
        StartMicros = node.StartMicros,
        EntryService = chain.EntryService,
        EntryAction = chain.EntryAction,
        EntryKey = chain.EntryKey,
        // Loss has to be somebody's: what is below a call without record was called by the service that the call is named after.
        Caller = node.CallerService ?? (node.Parent is { IsPlaceholder: true } parent ? parent.Service : null),
        Callee = node.Target ?? (node.IsPlaceholder ? node.Service : null),
        Peer = node.Caller?.Peer,
        Kind = node.ResourceKind,
        ActionKey = node.Caller?.ActionKey ?? node.Callee?.ActionKey,
        DurationMicros = node.Caller is null && node.Callee is null ? null : node.DurationMicros,
        NetworkMicros = node.Caller?.Record.DurationMicros - node.Callee?.Record.DurationMicros,
        IsError = node.IsError,
        LossState =
            node.IsForeign ? "foreign"
            : node.IsPlaceholder ? (node.IsSampled ? "none" : label == HopLabel.NeverRecorded ? "never_recorded" : "placeholder")
            : node.IsCalleeOnly ? (node.IsSampled ? "none" : "callee_only")
            : node.IsIrregular && node.Caller is null ? "irregular"
            : label == HopLabel.CalleeMissing ? "callee_missing"
            : "none",
        GapCount = node.GapCount + gapsOfBranches,
        // Who handled the call above is the caller here: so a host is known also of calls whose own record is lost.
        CallerHost = (node.Caller ?? node.Parent?.Callee)?.Record.ServerIp,
        CalleeHost = node.Callee?.Record.ServerIp,
    };

    /// <summary>Identity of a call document: 128-bit hash of (trace_id, rpc_id, execution).</summary>
    public static UInt128 CallId(string traceId, ChainNode node)
    {
        // Both are ASCII. The bytes between and behind them: no id holds a zero, so ("a", "1.2") and ("a1", ".2") differ.
        var id = node.IdText;
        var length = Encoding.UTF8.GetByteCount(traceId);
        var most = length + id.Length + 6;
        Span<byte> bytes = most <= 512 ? stackalloc byte[most] : new byte[most];
        Encoding.UTF8.GetBytes(traceId, bytes);
        bytes[length] = 0;
        length += 1 + Encoding.ASCII.GetBytes(id, bytes[(length + 1)..]);
        bytes[length] = 0;
        BinaryPrimitives.WriteInt32BigEndian(bytes[(length + 1)..], node.Execution);
        return XxHash128.HashToUInt128(bytes[..(length + 5)]);
    }
}
