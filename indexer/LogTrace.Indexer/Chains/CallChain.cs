using System.Globalization;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// One request's tree of calls as rebuilt from its records; DESIGN.md section 3 says what each part means. Immutable once built, and
/// the same for the same records in whatever order they came.
/// </summary>
public sealed class CallChain
{
    IReadOnlyList<string>? _edges;

    internal CallChain()
    {
    }

    public required string TraceId { get; init; }

    /// <summary>In id order: parent before child, numeric, then execution.</summary>
    public required IReadOnlyList<ChainNode> Nodes { get; init; }

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

    /// <summary>
    /// Calls whose callee's records are missing although nearly every other chain has them. Needs to be learnt from many chains, so a
    /// chain alone always says 0.
    /// </summary>
    public int LikelyLossCount { get; init; }

    /// <summary>Places where the numbering jumps by more than 1,000, or into the range used behind systems that know only W3C.</summary>
    public int IrregularCount { get; init; }

    public int ForeignCount { get; init; }
    public int ErrorCount { get; init; }
    public int AlarmCount { get; init; }

    /// <summary>Greatest number of dots of a node's id.</summary>
    public int Depth { get; init; }

    public bool Debug { get; init; }

    /// <summary>Parts were left out on purpose; no loss is claimed for them.</summary>
    public bool Sampled { get; init; }

    public string? Uid { get; init; }

    /// <summary>Microseconds since the epoch, as logged: clocks of different hosts are not aligned.</summary>
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
    public string? EntryCode => (Entry?.Callee ?? Entry?.Caller)?.Record.Code;

    /// <summary>Services with a record in the chain, in order of appearance.</summary>
    public required IReadOnlyList<string> Services { get; init; }

    /// <summary>Distinct <c>caller&gt;callee</c>, in order of appearance.</summary>
    public IReadOnlyList<string> Edges => _edges ??= FindEdges();

    /// <summary>
    /// Nodes and gaps as they are drawn one below the other: a parent, its children in id order with what is missing between them. That
    /// is the order of <see cref="Nodes"/> unless ids have several executions, whose children stand below their own parent.
    /// </summary>
    public IEnumerable<ChainRow> Rows() => Nodes.Any(node => node.Execution > 0) ? RowsByExecution() : RowsInIdOrder();

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
            if (row.Node is null || !children.TryGetValue(row.Node, out var below)) continue;
            for (var i = below.Count - 1; i >= 0; i--) open.Push(below[i]);
        }
    }

    /// <summary>Number of <see cref="Rows"/>.</summary>
    public int RowCount => Nodes.Count + Gaps.Count;

    List<string> FindEdges()
    {
        var seen = new HashSet<(string, string)>();
        var edges = new List<string>();
        (string? Caller, string? Target) last = default;
        foreach (var node in Nodes)
        {
            if (node.IsFork || node.CallerService is not { } caller || node.Target is not { } target) continue;
            if (ReferenceEquals(caller, last.Caller) && ReferenceEquals(target, last.Target)) continue;
            last = (caller, target);
            if (seen.Add((caller, target))) edges.Add($"{caller}>{target}");
        }

        return edges;
    }
}

/// <summary>One call, or one execution of it where several share its id.</summary>
public sealed class ChainNode
{
    readonly IndexedRecord[] _placed;
    readonly string _idSource;
    readonly int _idLength;
    readonly int _firstRecord;
    readonly int _callerCount;
    readonly int _calleeCount;
    readonly int _eventCount;

    internal ChainNode(
        string idSource, int idLength, int depth, ulong number, int execution, ChainNode? parent,
        IndexedRecord[] placed, int firstRecord, int callerCount, int calleeCount, int eventCount)
    {
        _idSource = idSource;
        _idLength = idLength;
        Depth = depth;
        Number = number;
        Execution = execution;
        Parent = parent;
        _placed = placed;
        _firstRecord = firstRecord;
        _callerCount = callerCount;
        _calleeCount = calleeCount;
        _eventCount = eventCount;
    }

    /// <summary>The id as text, without making a string.</summary>
    public ReadOnlySpan<char> IdText => _idSource.AsSpan(0, _idLength);

    public RpcId Id => RpcId.Parse(_idLength == _idSource.Length ? _idSource : _idSource[.._idLength]);

    /// <summary>0 unless several executions of one id could be told apart.</summary>
    public int Execution { get; }

    /// <summary>Null for a top.</summary>
    public ChainNode? Parent { get; }

    public int Depth { get; }

    /// <summary>The last segment of the id.</summary>
    public ulong Number { get; }

    /// <summary>Every record placed here: caller's, callee's, events. Byte-identical ones are all listed.</summary>
    public ArraySegment<IndexedRecord> Records => new(_placed, _firstRecord, _callerCount + _calleeCount + _eventCount);

    /// <summary>Call records, oldest first.</summary>
    public ArraySegment<IndexedRecord> CallerRecords => new(_placed, _firstRecord, _callerCount);

    /// <summary><c>request.info</c> and <c>fork.info</c> records, oldest first.</summary>
    public ArraySegment<IndexedRecord> CalleeRecords => new(_placed, _firstRecord + _callerCount, _calleeCount);

    /// <summary>Log and metric records: those of the caller's side, then the callee's (logged at <c>P.1</c>), each by time.</summary>
    public ArraySegment<IndexedRecord> Events => new(_placed, _firstRecord + _callerCount + _calleeCount, _eventCount);

    /// <summary>The record that shows the caller's view; a <c>.request</c> rather than its <c>.connect</c>. Null when there is none.</summary>
    public IndexedRecord? Caller { get; internal set; }

    /// <summary>The record that shows the callee's view; null when there is none.</summary>
    public IndexedRecord? Callee => _calleeCount == 0 ? null : _placed[_firstRecord + _callerCount];

    /// <summary>The calling service, from records or inferred from the chain around it.</summary>
    public string? CallerService { get; internal set; }

    /// <summary>The service that handled the call, from records or inferred; null for resources such as databases, which have no records.</summary>
    public string? CalleeService { get; internal set; }

    /// <summary>What was called, as well as it is known: the service, else the call's target, else what kind of resource it is.</summary>
    public string? Target => CalleeService ?? Caller?.Peer ?? ResourceKind;

    /// <summary>First part of the call's name: http, mysql, redis, ...</summary>
    public string? ResourceKind => Caller?.Record.Name is { Length: > 0 } name ? name.IndexOf('.') is var dot and >= 0 ? name[..dot] : name : null;

    /// <summary>One parallel branch within a service.</summary>
    public bool IsFork => Callee is { Kind: RecordKind.Internal };

    /// <summary>No record of this id at all: known from descendants' ids only.</summary>
    public bool IsPlaceholder => !IsUnknownExecution && _callerCount + _calleeCount + _eventCount == 0;

    /// <summary>
    /// An execution that only its children tell of: they were written by a service that handled none of the other executions of this id.
    /// Without records though the id has some, so it is no placeholder, and its id counts as ambiguous.
    /// </summary>
    public bool IsUnknownExecution { get; internal init; }

    /// <summary>Events only: neither a call that is known nor a loss.</summary>
    public bool IsEventsOnly => _callerCount + _calleeCount == 0 && _eventCount > 0;

    /// <summary>A placeholder that stands for a service without LogTrace; no loss.</summary>
    public bool IsForeign { get; internal set; }

    /// <summary>The callee's record is here, its caller's is missing.</summary>
    public bool IsCalleeOnly { get; internal set; }

    /// <summary>The caller's record is here, and its callee's is missing: what the callee called, or a later number of it, is known.</summary>
    public bool IsCalleeMissing { get; internal set; }

    /// <summary>The number does not follow from its neighbours', so nothing is concluded from it.</summary>
    public bool IsIrregular { get; internal set; }

    /// <summary>The scope of the caller leaves records out on purpose: what is missing here is not claimed as loss.</summary>
    public bool IsSampled { get; internal set; }

    /// <summary>It is unclear which records here belong together, or under which execution of the parent they belong.</summary>
    public bool IsAmbiguous { get; internal set; }

    /// <summary>Any call, request or fork record here says failure.</summary>
    public bool IsError { get; internal set; }

    /// <summary>Microseconds since the epoch: the caller's start, else the callee's, else the earliest of events and descendants.</summary>
    public long StartMicros { get; internal set; }

    /// <summary>Duration of the same side as <see cref="StartMicros"/>; null where its record does not say.</summary>
    public long? DurationMicros { get; internal set; }

    /// <summary>Missing numbers in the scope of this call.</summary>
    public long GapCount { get; internal set; }

    /// <summary>The one name to show: the caller's service, else the callee's; for a placeholder the service whose calls stand below it, else the one that made the call.</summary>
    public string? Service =>
        Caller is not null ? CallerService : Callee is not null ? CalleeService : IsPlaceholder ? CalleeService ?? CallerService : CallerService ?? CalleeService;

    /// <summary>Name of the record shown, null for placeholders.</summary>
    public string? Name => Shown?.Record.Name;

    public string? Action => Shown?.Record.Action;

    /// <summary>client, server (callee only), internal (fork), event (events only); null for a placeholder, of which it is not known.</summary>
    public string? Kind =>
        Caller is not null ? "client" : Callee is { } callee ? callee.Kind == RecordKind.Internal ? "internal" : "server" : _eventCount > 0 ? "event" : null;

    /// <summary>True for an event that was logged in the scope of this call (at <c>P.1</c>), not on the caller's side.</summary>
    public bool IsCalleeSide(IndexedRecord record) => record.Record.RpcId is { } id && id.Text.Length > _idLength;

    /// <summary>The record whose name and action stand for the node.</summary>
    IndexedRecord? Shown => Caller ?? Callee ?? (_eventCount > 0 ? Events[0] : null);

    // From the earliest to the latest moment of the node and all below it.
    internal long SpanStart = long.MaxValue;
    internal long SpanEnd = long.MinValue;

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
