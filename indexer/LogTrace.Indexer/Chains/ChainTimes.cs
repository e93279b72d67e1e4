using System.Buffers;
using System.Runtime.CompilerServices;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// Where the time of a finished chain went: each node's self time, and which nodes lie on the critical path. For display only, with times as <see cref="ChainClocks"/> corrects them.
/// </summary>
/// <remarks>
/// The critical path is found as Jaeger's critical-path view finds it: from a top's end backwards; of the children that end at or before the current moment the one that ends last is on it
/// (of several the longest), and the walk goes on from that child's start; within the child in the same way. What no child takes is the node's own part, so the parts of all make up the top's
/// interval exactly. Children are cut to the interval of their parent; one that starts when its parent is over, such as what the consumer of a message does, is not waited for and not on the path.
/// A call of unknown duration is a point, what has neither call nor handling spans what stands below it, and log lines alone are never on the path. Each top has a path of its own.
/// Takes n log n time in the nodes, and no stack that grows with them. Memory is pooled: dispose.
/// </remarks>
sealed class ChainTimes : IDisposable
{
    struct Times
    {
        /// <summary>As its parent sees it: the caller's side where there is one.</summary>
        public long Start, End;

        /// <summary>What of it lies within all above it on the path.</summary>
        public long From, To;

        /// <summary>The part of the path that is the node's own.</summary>
        public long Own;

        /// <summary>The child that ends last, and the sibling that ends before this one; -1 for none.</summary>
        public int Last, Before;

        public bool IsCritical;
    }

    readonly ChainNodes _nodes;
    readonly ChainClocks? _clocks;
    readonly Times[] _times;

    ChainTimes(ChainNodes nodes, ChainClocks? clocks) => (_nodes, _clocks, _times) = (nodes, clocks, ArrayPool<Times>.Shared.Rent(nodes.Count));

    /// <param name="chain">A finished chain.</param>
    /// <param name="clocks">What <see cref="ChainClocks.Of(CallChain)"/> says of the same chain.</param>
    public static ChainTimes Of(CallChain chain, ChainClocks? clocks)
    {
        var times = new ChainTimes(chain.Nodes, clocks);
        times.FindSpans();
        times.LinkChildren();
        times.FindPath();
        return times;
    }

    public void Dispose() => ArrayPool<Times>.Shared.Return(_times);

    public bool IsCritical(ChainNode node) => _times[node.Index].IsCritical;

    /// <summary>The part of the critical path that is spent in the node and in none of its children, in microseconds; 0 where it is not on the path.</summary>
    public long CriticalMicros(ChainNode node) => _times[node.Index].Own;

    /// <summary>
    /// Microseconds in which a node was at work and none of its children was: of the side that handled the call where it has a record, else of the call. Null where that duration is not known.
    /// </summary>
    public long? SelfMicros(ChainNode node)
    {
        if (node is { Caller: null, Callee: null }) return null;
        var (start, duration) = (_times[node.Index].Start, node.DurationMicros);
        if (node is { Caller: not null, Callee: { } callee }) (start, duration) = (_clocks?.Corrected(node, callee) ?? callee.StartMicros, callee.Record.DurationMicros);
        if (duration is not (>= 0 and var all)) return null;

        // From the child that ends last to the first: what lies behind the earliest start so far is counted.
        var earliest = ChainClocks.Add(start, all);
        var self = 0L;
        for (var child = _times[node.Index].Last; child >= 0 && earliest > start; child = _times[child].Before)
        {
            ref readonly var times = ref _times[child];
            if (times.End <= start) break;
            if (times.End < earliest) (self, earliest) = (self + (earliest - times.End), times.End);
            earliest = Math.Min(earliest, Math.Max(start, times.Start));
        }

        return self + (earliest - start);
    }

    void FindSpans()
    {
        for (var i = 0; i < _nodes.Count; i++) _times[i] = new() { Start = long.MaxValue, End = long.MinValue, Last = -1, Before = -1 };

        // Children stand after their parents.
        for (var i = _nodes.Count - 1; i >= 0; i--)
        {
            ref var times = ref _times[i];
            ref readonly var data = ref _nodes.At(i);
            if (data.Calls + data.Handlings > 0 || times.Start > times.End)
            {
                var node = _nodes[i];
                var (start, duration) = _clocks?.Of(node) ?? (node.StartMicros, node.DurationMicros);
                var isKnown = data.Calls + data.Handlings > 0 && duration is > 0;
                (times.Start, times.End) = (start, isKnown ? ChainClocks.Add(start, duration!.Value) : start);
            }

            if (data.Parent < 0) continue;
            ref var parent = ref _times[data.Parent];
            (parent.Start, parent.End) = (Math.Min(parent.Start, times.Start), Math.Max(parent.End, times.End));
        }
    }

    void LinkChildren()
    {
        var order = ArrayPool<int>.Shared.Rent(_nodes.Count);
        var nodes = order.AsSpan(0, _nodes.Count);
        for (var i = 0; i < nodes.Length; i++) nodes[i] = i;
        nodes.Sort(new ByEnd(_times));
        foreach (var node in nodes)
        {
            if (_nodes.At(node).Parent is not (>= 0 and var parent)) continue;
            _times[node].Before = _times[parent].Last;
            _times[parent].Last = node;
        }

        ArrayPool<int>.Shared.Return(order);
    }

    /// <summary>Parents come before their children: when it is a node's turn it is known whether it is on the path.</summary>
    void FindPath()
    {
        for (var i = 0; i < _nodes.Count; i++)
        {
            ref var node = ref _times[i];
            if (_nodes.At(i).Parent < 0) (node.IsCritical, node.From, node.To) = (!_nodes[i].IsEventsOnly || node.Last >= 0, node.Start, node.End);
            if (!node.IsCritical) continue;
            var now = node.To;
            for (var child = node.Last; child >= 0; child = _times[child].Before)
            {
                ref var times = ref _times[child];
                if (times.End < node.From || (times.End == node.From && times.Start < times.End)) break;
                var isOver = times.Start > node.To || (times.Start == node.To && times.End > times.Start);
                var end = Math.Min(times.End, node.To);
                if (isOver || end > now || (times.Last < 0 && _nodes[child].IsEventsOnly)) continue;
                (times.IsCritical, times.From, times.To) = (true, Math.Max(times.Start, node.From), end);
                node.Own = Sum(node.Own, end, now);
                now = times.From;
            }

            node.Own = Sum(node.Own, node.From, now);
        }
    }

    // What spans others may be longer than a number can say.
    static long Sum(long micros, long from, long to) => (long)Int128.Min((Int128)micros + to - from, long.MaxValue);

    /// <summary>The one that ends first comes first; of those that end together the shortest, and at last their order in the chain decides: never that of arrival.</summary>
    readonly struct ByEnd(Times[] times) : IComparer<int>
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public int Compare(int left, int right)
        {
            ref readonly var a = ref times[left];
            ref readonly var b = ref times[right];
            return a.End != b.End ? a.End.CompareTo(b.End) : a.Start != b.Start ? b.Start.CompareTo(a.Start) : right.CompareTo(left);
        }
    }
}
