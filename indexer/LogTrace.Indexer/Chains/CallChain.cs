using System.Globalization;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// One request's tree of calls as rebuilt from its records; DESIGN.md section 3 says what each part means. Immutable once built, and
/// the same for the same records in whatever order they came.
/// </summary>
public sealed class CallChain
{
    IReadOnlyList<string>? _services, _edges;
    string? _entryKey;

    internal CallChain()
    {
    }

    public required string TraceId { get; init; }

    /// <summary>In id order: parent before child, numeric, then execution.</summary>
    public required ChainNodes Nodes { get; init; }

    /// <summary>Missing numbers as ranges, in id order.</summary>
    public required IReadOnlyList<ChainGap> Gaps { get; init; }

    /// <summary>Read as twins: both sides of a call under one id.</summary>
    public bool IsTwins { get; init; }

    /// <summary>Records the chain was built from, duplicates included: as many as the store holds of this trace.</summary>
    public int RecordCount { get; init; }

    /// <summary>Records that are byte-identical to another one of the chain and drawn with it.</summary>
    public int DuplicateCount { get; init; }

    /// <summary>Nodes without any record that count as loss; foreign and sampled ones do not.</summary>
    public int PlaceholderCount { get; init; }

    /// <summary>Missing numbers.</summary>
    public long GapCount { get; init; }

    public int CalleeOnlyCount { get; init; }

    /// <summary>Distinct ids under which it stays unclear which record belongs to which execution.</summary>
    public int AmbiguousCount { get; init; }

    /// <summary>Places where the numbering jumps by more than 1,000, or into the range used behind systems that know only W3C.</summary>
    public int IrregularCount { get; init; }

    public int ForeignCount { get; init; }

    /// <summary>Some id has several executions.</summary>
    internal bool HasExecutions { get; init; }

    public int ErrorCount { get; init; }
    public int AlarmCount { get; init; }

    /// <summary>Greatest number of dots of a node's id.</summary>
    public int Depth { get; init; }

    public bool Debug { get; init; }

    /// <summary>Parts were left out on purpose; no loss is claimed for them.</summary>
    public bool Sampled { get; init; }

    public string? Uid { get; init; }

    /// <summary>Microseconds since the epoch, as logged: clocks of different hosts are aligned only where a chain is drawn.</summary>
    public long StartMicros { get; init; }

    public long DurationMicros { get; init; }

    /// <summary>Microseconds since the epoch: the newest record's time of logging.</summary>
    public long LastRecordMicros { get; init; }

    /// <summary>No known loss.</summary>
    public bool Complete => PlaceholderCount == 0 && GapCount == 0 && CalleeOnlyCount == 0;

    /// <summary>Every record's place is clear.</summary>
    public bool Resolved => AmbiguousCount == 0;

    /// <summary>The first top of the chain, null for no records at all.</summary>
    public ChainNode? Entry => Nodes.Count == 0 ? null : Nodes[0];

    public string? EntryService => Entry?.CalleeService ?? Entry?.CallerService;
    public string? EntryAction => (Entry?.Callee ?? Entry?.Caller)?.Record.Action;

    /// <summary>The entry action without ids and values: what equal requests have in common.</summary>
    public string? EntryKey => _entryKey ??= ActionKey.Of(RecordNames.RequestInfo, EntryAction);

    public string? EntryCode => (Entry?.Callee ?? Entry?.Caller)?.Record.Code;

    /// <summary>Services with a record in the chain, in order of appearance.</summary>
    public IReadOnlyList<string> Services => _services ??= Nodes.Services;

    /// <summary>Distinct <c>caller&gt;callee</c>, in order of appearance.</summary>
    public IReadOnlyList<string> Edges => _edges ??= FindEdges();

    /// <summary>
    /// Nodes and gaps as they are drawn one below the other: a parent, its children in id order with what is missing between them. That
    /// is the order of <see cref="Nodes"/> unless ids have several executions, whose children stand below their own parent.
    /// </summary>
    public IEnumerable<ChainRow> Rows() => HasExecutions ? RowsByExecution() : RowsInIdOrder();

    IEnumerable<ChainRow> RowsInIdOrder()
    {
        var gap = 0;
        foreach (var node in Nodes)
        {
            while (gap < Gaps.Count && Gaps[gap].StandsBefore(node)) yield return new ChainRow(null, Gaps[gap++]);
            yield return new ChainRow(node, default);
        }

        while (gap < Gaps.Count) yield return new ChainRow(null, Gaps[gap++]);
    }

    IEnumerable<ChainRow> RowsByExecution()
    {
        var children = new Dictionary<ChainNode, List<ChainRow>>();
        var tops = new List<ChainRow>();
        foreach (var row in RowsInIdOrder())
        {
            if ((row.Node is { } node ? node.Parent : row.Gap.Scope) is not { } parent) tops.Add(row);
            else if (children.TryGetValue(parent, out var list)) list.Add(row);
            else children.Add(parent, [row]);
        }

        var open = new Stack<ChainRow>(Enumerable.Reverse(tops));
        while (open.TryPop(out var row))
        {
            yield return row;
            if (row.Node is null || !children.TryGetValue(row.Node.Value, out var below)) continue;
            for (var i = below.Count - 1; i >= 0; i--) open.Push(below[i]);
        }
    }

    /// <summary>Number of <see cref="Rows"/>.</summary>
    public int RowCount => Nodes.Count + Gaps.Count;

    List<string> FindEdges()
    {
        var seen = new HashSet<(int, int)>();
        var edges = new List<string>();
        (int Caller, int Target) last = default;
        for (var i = 0; i < Nodes.Count; i++)
        {
            ref readonly var node = ref Nodes.At(i);
            var edge = (node.CallerService, node.Target);
            if (edge == last || node.CallerService == 0 || node.Target == 0 || (node.Facts & ChainNodes.NodeFacts.Fork) != 0) continue;
            last = edge;
            if (seen.Add(edge)) edges.Add($"{Nodes.Name(node.CallerService)}>{Nodes.Name(node.Target)}");
        }

        return edges;
    }
}

/// <summary>One call, or one execution of it where several share its id. A view: two of the same node are equal.</summary>
public readonly struct ChainNode : IEquatable<ChainNode>
{
    readonly ChainNodes _nodes;
    readonly ChainNodes.Node[] _page;
    readonly int _index;

    internal ChainNode(ChainNodes nodes, int index)
    {
        _nodes = nodes;
        _page = nodes.PageOfNode(index);
        _index = index;
    }

    ref readonly ChainNodes.Node Data => ref _page[_index & (ChainNodes.PageSize - 1)];

    /// <summary>The id as text, without making a string.</summary>
    public ReadOnlySpan<char> IdText
    {
        get
        {
            ref readonly var data = ref Data;
            return _nodes.IdText(data.IdRecord).AsSpan(0, data.IdLength);
        }
    }

    /// <summary>Its place among the chain's nodes.</summary>
    internal int Index => _index;

    /// <summary>Length of <see cref="IdText"/>, without looking at the text.</summary>
    internal int IdLength => Data.IdLength;

    public RpcId Id
    {
        get
        {
            ref readonly var data = ref Data;
            var text = _nodes.IdText(data.IdRecord);
            return RpcId.Parse(data.IdLength == text.Length ? text : text[..data.IdLength]);
        }
    }

    /// <summary>0 unless several executions of one id could be told apart.</summary>
    public int Execution => Data.Execution;

    /// <summary>Null for a top.</summary>
    public ChainNode? Parent => Data.Parent is >= 0 and var parent ? new ChainNode(_nodes, parent) : null;

    public int Depth => Data.Depth;

    /// <summary>The last segment of the id.</summary>
    public ulong Number
    {
        get
        {
            var id = IdText;
            return ulong.Parse(id[(id.LastIndexOf('.') + 1)..], NumberStyles.None, CultureInfo.InvariantCulture);
        }
    }

    /// <summary>Every record placed here: caller's, callee's, events. Byte-identical ones are all listed.</summary>
    public ArraySegment<IndexedRecord> Records
    {
        get
        {
            ref readonly var data = ref Data;
            return _nodes.Records(data.First, data.Calls + data.Handlings + data.Events);
        }
    }

    /// <summary>Call records, oldest first.</summary>
    public ArraySegment<IndexedRecord> CallerRecords
    {
        get
        {
            ref readonly var data = ref Data;
            return _nodes.Records(data.First, data.Calls);
        }
    }

    /// <summary><c>request.info</c> and <c>fork.info</c> records, oldest first.</summary>
    public ArraySegment<IndexedRecord> CalleeRecords
    {
        get
        {
            ref readonly var data = ref Data;
            return _nodes.Records(data.First + data.Calls, data.Handlings);
        }
    }

    /// <summary>Log and metric records: those of the caller's side, then the callee's (logged at <c>P.1</c>), each by time.</summary>
    public ArraySegment<IndexedRecord> Events
    {
        get
        {
            ref readonly var data = ref Data;
            return _nodes.Records(data.First + data.Calls + data.Handlings, data.Events);
        }
    }

    /// <summary>The record that shows the caller's view; a <c>.request</c> rather than its <c>.connect</c>. Null when there is none.</summary>
    public IndexedRecord? Caller
    {
        get
        {
            ref readonly var data = ref Data;
            return data.Calls == 0 ? null : _nodes.Record(data.First + data.Shown);
        }
    }

    /// <summary>The record that shows the callee's view; null when there is none.</summary>
    public IndexedRecord? Callee
    {
        get
        {
            ref readonly var data = ref Data;
            return data.Handlings == 0 ? null : _nodes.Record(data.First + data.Calls);
        }
    }

    /// <summary>The calling service, from records or inferred from the chain around it.</summary>
    public string? CallerService => _nodes.Name(Data.CallerService);

    /// <summary>The service that handled the call, from records or inferred; null for resources such as databases, which have no records.</summary>
    public string? CalleeService => _nodes.Name(Data.CalleeService);

    /// <summary>What was called, as well as it is known: the service, else the call's target, else what kind of resource it is.</summary>
    public string? Target => _nodes.Name(Data.Target);

    /// <summary>First part of the call's name: http, mysql, redis, ...</summary>
    public string? ResourceKind => Caller is { } call ? ResourceOf(call) : null;

    internal static string? ResourceOf(IndexedRecord call) => call.Record.Name is { Length: > 0 } name ? name.IndexOf('.') is var dot and >= 0 ? name[..dot] : name : null;

    /// <summary>One parallel branch within a service.</summary>
    public bool IsFork => Has(ChainNodes.NodeFacts.Fork);

    /// <summary>No record of this id at all: known from descendants' ids only.</summary>
    public bool IsPlaceholder => Data.IsPlaceholder;

    /// <summary>
    /// An execution that only its children tell of: they were written by a service that handled none of the other executions of this id.
    /// Without records though the id has some, so it is no placeholder, and its id counts as ambiguous.
    /// </summary>
    public bool IsUnknownExecution => Has(ChainNodes.NodeFacts.UnknownExecution);

    /// <summary>Events only: neither a call that is known nor a loss.</summary>
    public bool IsEventsOnly
    {
        get
        {
            ref readonly var data = ref Data;
            return data.Calls + data.Handlings == 0 && data.Events > 0;
        }
    }

    /// <summary>A placeholder that stands for a service without LogTrace; no loss.</summary>
    public bool IsForeign => Has(ChainNodes.NodeFacts.Foreign);

    /// <summary>The callee's record is here, its caller's is missing.</summary>
    public bool IsCalleeOnly => Has(ChainNodes.NodeFacts.CalleeOnly);

    /// <summary>The caller's record is here, and its callee's is missing: what the callee called, or a later number of it, is known.</summary>
    public bool IsCalleeMissing => Has(ChainNodes.NodeFacts.CalleeMissing);

    /// <summary>The number does not follow from its neighbours', so nothing is concluded from it.</summary>
    public bool IsIrregular => Has(ChainNodes.NodeFacts.Irregular);

    /// <summary>The scope of the caller leaves records out on purpose: what is missing here is not claimed as loss.</summary>
    public bool IsSampled => Has(ChainNodes.NodeFacts.Sampled);

    /// <summary>It is unclear which records here belong together, or under which execution of the parent they belong.</summary>
    public bool IsAmbiguous => Has(ChainNodes.NodeFacts.Ambiguous);

    /// <summary>Any call, request or fork record here says failure.</summary>
    public bool IsError => Has(ChainNodes.NodeFacts.Error);

    /// <summary>Microseconds since the epoch: the caller's start, else the callee's, else the earliest of events and descendants.</summary>
    public long StartMicros => Data.StartMicros;

    /// <summary>Duration of the same side as <see cref="StartMicros"/>; null where its record does not say.</summary>
    public long? DurationMicros => Data.Duration is not IndexedRecord.NoDuration and var micros ? micros : null;

    /// <summary>Missing numbers in the scope of this call.</summary>
    public long GapCount => Data.GapCount;

    /// <summary>The one name to show: the caller's service, else the callee's; for a placeholder the service whose calls stand below it, else the one that made the call.</summary>
    public string? Service
    {
        get
        {
            ref readonly var data = ref Data;
            var (caller, callee) = (data.CallerService, data.CalleeService);
            if (data.Calls > 0) return _nodes.Name(caller);
            if (data.Handlings > 0) return _nodes.Name(callee);
            return _nodes.Name(IsPlaceholder ? (callee != 0 ? callee : caller) : caller != 0 ? caller : callee);
        }
    }

    /// <summary>Name of the record shown, null for placeholders.</summary>
    public string? Name => Shown?.Record.Name;

    public string? Action => Shown?.Record.Action;

    /// <summary>client, server (callee only), internal (fork), event (events only); null for a placeholder, of which it is not known.</summary>
    public string? Kind
    {
        get
        {
            ref readonly var data = ref Data;
            return data.Calls > 0 ? "client" : data.Handlings > 0 ? (IsFork ? "internal" : "server") : data.Events > 0 ? "event" : null;
        }
    }

    /// <summary>True for an event that was logged in the scope of this call (at <c>P.1</c>), not on the caller's side.</summary>
    public bool IsCalleeSide(IndexedRecord record) => record.RpcIdText is { } id && id.Length > Data.IdLength;

    /// <summary>The record whose name and action stand for the node.</summary>
    IndexedRecord? Shown => Caller ?? Callee ?? (Events is { Count: > 0 } events ? events[0] : null);

    bool Has(ChainNodes.NodeFacts fact) => (Data.Facts & fact) != 0;

    public bool Equals(ChainNode other) => _nodes == other._nodes && _index == other._index;

    public override bool Equals(object? obj) => obj is ChainNode other && Equals(other);

    public override int GetHashCode() => _index;

    public static bool operator ==(ChainNode left, ChainNode right) => left.Equals(right);

    public static bool operator !=(ChainNode left, ChainNode right) => !left.Equals(right);

    /// <summary>The id and execution, for the debugger and messages.</summary>
    public override string ToString() => Execution == 0 ? IdText.ToString() : string.Create(CultureInfo.InvariantCulture, $"{IdText}#{Execution}");
}

/// <summary>Neighbouring numbers of one scope that no record and no node has.</summary>
/// <param name="Scope">The node whose scope handed the numbers out (its first execution).</param>
/// <param name="From">First missing number.</param>
/// <param name="To">Last missing number.</param>
public readonly record struct ChainGap(ChainNode Scope, ulong From, ulong To)
{
    public long Count => (long)(To - From) + 1;

    internal bool StandsBefore(ChainNode node)
    {
        var scope = Scope.IdText;
        var id = node.IdText;
        var isBelow = id.Length > scope.Length && id[scope.Length] == '.' && id.StartsWith(scope);
        if (!isBelow) return RpcId.Compare(scope, id) < 0;
        var rest = id[(scope.Length + 1)..];
        var dot = rest.IndexOf('.');
        return !ulong.TryParse(dot < 0 ? rest : rest[..dot], NumberStyles.None, CultureInfo.InvariantCulture, out var number) || From < number;
    }

    /// <summary><c>1.3</c>, or <c>1.5..1.9</c> for several.</summary>
    public override string ToString() => From == To
        ? string.Create(CultureInfo.InvariantCulture, $"{Scope.IdText}.{From}")
        : string.Create(CultureInfo.InvariantCulture, $"{Scope.IdText}.{From}..{Scope.IdText}.{To}");
}

/// <summary>One drawn row: a node, or a gap where <paramref name="Node"/> is null.</summary>
public readonly record struct ChainRow(ChainNode? Node, ChainGap Gap);
