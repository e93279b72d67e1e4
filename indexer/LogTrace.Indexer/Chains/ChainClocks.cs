using LogTrace.Records;
using NodeFacts = LogTrace.Indexer.Chains.ChainNodes.NodeFacts;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// How far clocks are apart, as single calls show it: nothing is handled before it was called, nor, as long as its caller waits, after the call was over. What does not fit is drawn in the
/// middle of the call, with all that was written in the same scope. For display only: nothing in a chain is placed, counted or ordered by time.
/// </summary>
sealed class ChainClocks
{
    /// <summary>Less is not worth a word: nobody sees it, and clocks that agree well are as far apart.</summary>
    const long Tolerance = 1_000;

    readonly ChainNodes _nodes;

    /// <summary>What is added to the times that were written in each node's scope: by who handled the call, and for the calls made there.</summary>
    readonly long[] _scopes;

    long[] _starts = [], _ends = [];

    ChainClocks(ChainNodes nodes) => (_nodes, _scopes) = (nodes, new long[nodes.Count]);

    /// <summary>The greatest correction, in microseconds.</summary>
    public long Largest { get; private set; }

    /// <summary>From the first to the last of all, as corrected.</summary>
    public long StartMicros { get; private set; }

    public long DurationMicros { get; private set; }

    /// <summary>Null where all times go together, as they do in nearly every chain.</summary>
    public static ChainClocks? Of(CallChain chain)
    {
        var nodes = chain.Nodes;
        ChainClocks? clocks = null;
        for (var i = 0; i < nodes.Count; i++)
        {
            ref readonly var node = ref nodes.At(i);
            if (node.Handlings == 0 || (node.Calls == 0 && clocks is null)) continue;
            var made = clocks?.OfCaller(i) ?? 0;
            var shift = ShiftOf(nodes, node, made, clocks);
            if (shift == 0) continue;
            clocks ??= new ChainClocks(nodes);
            clocks._scopes[i] = shift;
            clocks.Largest = Math.Max(clocks.Largest, shift == long.MinValue ? long.MaxValue : Math.Abs(shift));
        }

        clocks?.FindSpans();
        return clocks;
    }

    static long ShiftOf(ChainNodes nodes, in ChainNodes.Node node, long made, ChainClocks? clocks)
    {
        if ((node.Facts & NodeFacts.Fork) != 0) return made;
        var callee = nodes.Record(node.First + node.Calls);
        if (node.Calls > 0)
        {
            var caller = nodes.Record(node.First + node.Shown);
            if (AreOfOneHost(caller, callee)) return made;

            // Which of several belongs to which is not known.
            return (node.Facts & NodeFacts.Ambiguous) != 0 ? 0 : Needed(caller, made, callee);
        }

        // The call's record is lost: its host's clock is known only if it is that of the scope above.
        if (node.Parent < 0 || clocks is null || nodes.At(node.Parent) is not { Handlings: > 0 } above) return 0;
        return AreOfOneHost(nodes.Record(above.First + above.Calls), callee) ? made : 0;
    }

    static bool AreOfOneHost(IndexedRecord left, IndexedRecord right) =>
        left.Record.Utf8(RecordField.ServerIp) is { IsEmpty: false } host && host.SequenceEqual(right.Record.Utf8(RecordField.ServerIp));

    static long Needed(IndexedRecord caller, long made, IndexedRecord callee)
    {
        var start = Add(caller.StartMicros, made);
        const long Absurd = long.MaxValue / 4;
        if (start is < -Absurd or > Absurd || callee.StartMicros is < -Absurd or > Absurd) return 0;
        var ahead = callee.StartMicros - start;
        var (calling, handling) = (caller.RawDuration, callee.RawDuration);
        var fits = calling >= 0 && handling >= 0 && handling <= calling;
        var isEarly = ahead < -Tolerance;
        var isLate = fits && ahead - Tolerance > calling - handling && Waits(caller);
        return isEarly || isLate ? (fits ? (calling - handling) / 2 : 0) - ahead : 0;
    }

    /// <summary>A message is handled when its turn comes, and a call that failed may have been given up by its caller alone.</summary>
    static bool Waits(IndexedRecord caller) => !caller.IsError && ChainNode.ResourceOf(caller) is "http" or "grpc" or "rpc";

    /// <summary>What is added to the times of a call's record, and of the log lines beside it: they were written in the scope above.</summary>
    public long OfCaller(int node) => _nodes.At(node).Parent is >= 0 and var parent ? _scopes[parent] : 0;

    /// <summary>What is added to the times of the record that handled a call, and of the log lines there.</summary>
    public long OfCallee(int node) => _scopes[node];

    public long Corrected(ChainNode node, IndexedRecord record) =>
        Add(record.StartMicros, record.Kind is RecordKind.Server or RecordKind.Internal || node.IsCalleeSide(record) || record.RpcIdText is null ? OfCallee(node.Index) : OfCaller(node.Index));

    /// <summary>Start and duration as <see cref="ChainNode.StartMicros"/> and <see cref="ChainNode.DurationMicros"/> say them.</summary>
    public (long Start, long? Duration) Of(ChainNode node)
    {
        var index = node.Index;
        ref readonly var data = ref _nodes.At(index);
        if (data.Calls > 0) return (Add(data.StartMicros, OfCaller(index)), node.DurationMicros);
        if (data.Handlings > 0) return (Add(data.StartMicros, OfCallee(index)), node.DurationMicros);
        return (_starts[index], Between(_starts[index], _ends[index]));
    }

    /// <summary>From the first to the last of what stands on a node and below it. Children stand after their parents.</summary>
    void FindSpans()
    {
        (_starts, _ends) = (new long[_nodes.Count], new long[_nodes.Count]);
        Array.Fill(_starts, long.MaxValue);
        Array.Fill(_ends, long.MinValue);
        var (start, end) = (long.MaxValue, long.MinValue);
        for (var i = _nodes.Count - 1; i >= 0; i--)
        {
            var node = _nodes[i];
            foreach (var record in node.Records)
            {
                var from = Corrected(node, record);
                Span(i, from, Add(from, Math.Max(0, record.EndMicros - record.StartMicros)));
            }

            if (_nodes.At(i).Parent is >= 0 and var parent) Span(parent, _starts[i], _ends[i]);
            else (start, end) = (Math.Min(start, _starts[i]), Math.Max(end, _ends[i]));
        }

        (StartMicros, DurationMicros) = (start, Between(start, end));

        void Span(int node, long from, long to) => (_starts[node], _ends[node]) = (Math.Min(_starts[node], from), Math.Max(_ends[node], to));
    }

    internal static long Add(long micros, long shift) => shift == 0 ? micros : (long)Int128.Clamp((Int128)micros + shift, long.MinValue, long.MaxValue);

    static long Between(long start, long end) => (long)Int128.Clamp((Int128)end - start, 0, long.MaxValue);
}
