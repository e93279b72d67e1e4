using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Accuracy;

/// <summary>A node of a tree that some tool shows.</summary>
/// <param name="Parent">Null for a top.</param>
/// <param name="Records">What is drawn there; none for a placeholder.</param>
/// <param name="Depth">Level at which it is drawn.</param>
/// <param name="IsFlagged">Said to be doubtful.</param>
sealed record ShownNode(ShownNode? Parent, IReadOnlyList<TrueRecord> Records, int Depth, bool IsFlagged)
{
    /// <summary>The nearest node above that has records.</summary>
    public ShownNode? Anchor
    {
        get
        {
            var above = Parent;
            while (above is { Records.Count: 0 }) above = above.Parent;
            return above;
        }
    }
}

/// <summary>One trace as a tool shows it. What is in no node is not shown.</summary>
/// <param name="Nodes">In the order in which they are drawn.</param>
/// <param name="Chain">LogTrace's own; null for the other rules.</param>
sealed record ShownTrace(IReadOnlyList<ShownNode> Nodes, CallChain? Chain = null);

/// <summary>A rule by which a tree is made of the records that are left.</summary>
sealed record Rebuilder(string Name, Func<TrueTrace, IReadOnlyList<TrueRecord>, ShownTrace> Show)
{
    /// <summary>LogTrace's chain builder.</summary>
    public static Rebuilder LogTrace { get; } = new("LogTrace", static (trace, survivors) => BuildChain(trace, survivors, null));

    /// <summary>The same in an indexer that has learnt from other traces before.</summary>
    public static Rebuilder After(HopKnowledge known) => new("LogTrace", (trace, survivors) => BuildChain(trace, survivors, known));

    /// <summary>
    /// What other systems do with spans that know their parent's id and nothing else, by the rules that their source code shows; not the products themselves.
    /// A call's records are one span. Siblings are ordered by time.
    /// </summary>
    public static IReadOnlyList<Rebuilder> Others { get; } =
    [
        new("orphans as roots (Jaeger, SkyWalking)", (_, survivors) => BySpans(survivors, OrphansAsRoots)),
        new("orphans under the root (Zipkin)", (_, survivors) => BySpans(survivors, OrphansUnderRoot)),
        new("one-level bridge (Pinpoint-like)", (_, survivors) => BySpans(survivors, Bridge)),
        new("parent-driven walk (fiery-like)", (trace, survivors) => Walk(trace, survivors)),
        new("discard on error", (_, survivors) => BySpans(survivors, DiscardOnError)),
    ];

    /// <summary>
    /// The yardstick for ids used twice: of several calls under one id, a record belongs to the one whose called service is the one it was written by; where
    /// that is not exactly one, to the first. Says nothing of doubt.
    /// </summary>
    public static Rebuilder ByNames { get; } = new("um = dm", (_, survivors) => Match(survivors));

    static ShownTrace BuildChain(TrueTrace trace, IReadOnlyList<TrueRecord> survivors, HopKnowledge? known)
    {
        var truth = new Dictionary<IndexedRecord, TrueRecord>(ReferenceEqualityComparer.Instance);
        foreach (var survivor in survivors) truth.TryAdd(survivor.Record, survivor);
        var chain = ChainBuilder.Build("t", [.. survivors.Select(survivor => survivor.Record)], new ChainOptions { Reading = trace.Reading }, known);
        var shown = new Dictionary<ChainNode, ShownNode>();
        foreach (var node in chain.Nodes)
        {
            shown[node] = new ShownNode(node.Parent is { } parent ? shown[parent] : null, [.. node.Records.Select(record => truth[record])], node.Depth, node.IsAmbiguous);
        }

        return new ShownTrace([.. chain.Rows().Where(row => row.Node is not null).Select(row => shown[row.Node!.Value])], chain);
    }

    /// <summary>A call with at least one record left.</summary>
    sealed class Span(TrueCall call, IReadOnlyList<TrueRecord> records, long startMillis)
    {
        public TrueCall Call => call;
        public IReadOnlyList<TrueRecord> Records => records;
        public long StartMillis => startMillis;
        public List<Span> Children { get; } = [];
        public Span? Parent { get; set; }
    }

    static readonly List<TrueRecord> s_noRecords = [];

    static ShownTrace BySpans(IReadOnlyList<TrueRecord> survivors, Func<List<Span>, List<Span>, List<Span>> attachOrphans)
    {
        var spans = survivors.GroupBy(record => record.Call).ToDictionary(records => records.Key, records => new Span(records.Key, [.. records], records.Min(record => record.Record.StartMicros) / 1_000));
        var all = spans.Values.ToList();
        foreach (var span in all.Where(span => span.Call.Parent is not null))
        {
            if (!spans.TryGetValue(span.Call.Parent!, out var parent)) continue;
            span.Parent = parent;
            parent.Children.Add(span);
        }

        var tops = attachOrphans(all, [.. all.Where(span => span is { Parent: null, Call.Parent: not null })]);
        var nodes = new List<ShownNode>();
        foreach (var top in tops) Draw(top, null, nodes);
        return new ShownTrace(nodes);
    }

    static void Draw(Span span, ShownNode? parent, List<ShownNode> nodes)
    {
        var node = new ShownNode(parent, span.Records, parent is null ? 0 : parent.Depth + 1, false);
        nodes.Add(node);
        foreach (var child in span.Children.OrderBy(child => child.StartMillis)) Draw(child, node, nodes);
    }

    static Span? RootOf(List<Span> all) => all.Find(span => span.Call.Parent is null);

    static List<Span> OrphansAsRoots(List<Span> all, List<Span> orphans) => [.. all.Where(span => span.Parent is null).OrderBy(span => span.StartMillis)];

    static List<Span> OrphansUnderRoot(List<Span> all, List<Span> orphans)
    {
        if (all.Count == 0) return [];
        var root = RootOf(all) ?? Placeholder(orphans[0]);
        root.Children.AddRange(orphans);
        return [root];
    }

    /// <summary>The caller noted the id of the call, so one missing level can be filled in. What stays unlinked is left out where there is a root; without one, one of them and its siblings are shown.</summary>
    static List<Span> Bridge(List<Span> all, List<Span> orphans)
    {
        var unlinked = new List<Span>();
        foreach (var siblings in orphans.GroupBy(span => span.Call.Parent!))
        {
            var bridge = Placeholder(siblings.First());
            bridge.Children.AddRange(siblings);
            if (all.Find(span => span.Call == siblings.Key.Parent) is { } above) above.Children.Add(bridge);
            else unlinked.Add(bridge);
        }

        return RootOf(all) is { } root ? [root] : [.. unlinked.Take(1)];
    }

    static List<Span> DiscardOnError(List<Span> all, List<Span> orphans) => orphans.Count == 0 && RootOf(all) is { } root ? [root] : [];

    /// <summary>Children are found through their parent's record only. Without the root: a flat list by id, indented by the number of segments, which the reader takes for the tree.</summary>
    static ShownTrace Walk(TrueTrace trace, IReadOnlyList<TrueRecord> survivors)
    {
        if (survivors.Any(record => record.Call.Parent is null)) return BySpans(survivors, static (all, _) => [RootOf(all)!]);
        var left = survivors.GroupBy(record => record.Call).ToDictionary(records => records.Key, records => records.ToList());
        var shown = new Dictionary<TrueCall, ShownNode>();
        var nodes = new List<ShownNode>();
        foreach (var call in trace.Calls)
        {
            if (!left.TryGetValue(call, out var records)) continue;
            var above = call.Parent;
            while (above is not null && !shown.ContainsKey(above)) above = above.Parent;
            nodes.Add(shown[call] = new ShownNode(above is null ? null : shown[above], records, call.Depth, false));
        }

        return new ShownTrace(nodes);
    }

    static ShownTrace Match(IReadOnlyList<TrueRecord> survivors)
    {
        var calls = new Dictionary<string, List<(string? Callee, ShownNode Node)>>(StringComparer.Ordinal);
        var nodes = new List<ShownNode>();
        // By the call that a record is of, its caller's record first.
        foreach (var (record, id) in survivors.Select(record => (record, Id: CallOf(record))).OrderBy(it => it.Id).ThenBy(it => it.record.Record.Kind != RecordKind.Client).ThenBy(it => it.record.Record.StartMicros))
        {
            if (record.Record.Kind == RecordKind.Client) Add(record, id, record.Record.Peer?.Split(':')[0]);
            else if (Pick(id, IsCalleeSide(record) ? record.Record.Service : null) is { } node) ((List<TrueRecord>)node.Records).Add(record);
            else Add(record, id, IsCalleeSide(record) ? record.Record.Service : null);
        }

        return new ShownTrace(nodes);

        void Add(TrueRecord record, RpcId id, string? callee)
        {
            ShownNode? parent = null;
            for (var above = id; parent is null && above.TryGetParent(out above);) parent = Pick(above, record.Record.Service);
            var node = new ShownNode(parent, new List<TrueRecord> { record }, id.Depth, false);
            nodes.Add(node);
            if (!calls.TryGetValue(id.Text, out var same)) calls.Add(id.Text, same = []);
            same.Add((callee, node));
        }

        ShownNode? Pick(RpcId id, string? service)
        {
            if (!calls.TryGetValue(id.Text, out var candidates)) return null;
            var fitting = candidates.FindAll(call => call.Callee is not null && call.Callee == service);
            return fitting.Count == 1 ? fitting[0].Node : candidates[0].Node;
        }
    }

    static bool IsCalleeSide(TrueRecord record) => record.Record.Kind is RecordKind.Server or RecordKind.Internal;

    static RpcId CallOf(TrueRecord record)
    {
        var id = record.Record.Record.RpcId!.Value;
        return IsCalleeSide(record) && id.TryGetParent(out var above) ? above : id;
    }

    static Span Placeholder(Span below) => new(below.Call.Parent!, s_noRecords, below.StartMillis);
}
