using System.Collections;
using System.Runtime.CompilerServices;

namespace LogTrace.Indexer.Chains;

/// <summary>The nodes of one chain in id order, and the records on them.</summary>
/// <remarks>
/// A node is a row in an array and <see cref="ChainNode"/> a way to look at it: a chain of a million calls is a few thousand objects, not millions. The
/// arrays stay below the size from which the runtime keeps them apart and collects all memory for want of room there.
/// </remarks>
public sealed class ChainNodes : IReadOnlyList<ChainNode>
{
    internal const int PageBits = 9, PageSize = 1 << PageBits;

    internal const int RecordPageBits = 12, RecordPageSize = 1 << RecordPageBits;

    internal struct Node
    {
        public long StartMicros, Duration;

        /// <summary>Place of its first record and of one whose id begins with the node's, see <see cref="Place"/>; -1 for none.</summary>
        public int First, IdRecord;

        public int Calls, Handlings, Events;

        /// <summary>The call record to show, counted from the first.</summary>
        public int Shown;

        public int Parent, Execution;
        public int CallerService, CalleeService, Target;
        public uint GapCount;
        public ushort IdLength;
        public byte Depth;
        public NodeFacts Facts;

        public readonly bool IsPlaceholder => Calls + Handlings + Events == 0 && (Facts & NodeFacts.UnknownExecution) == 0;
    }

    [Flags]
    internal enum NodeFacts : ushort
    {
        None = 0,
        UnknownExecution = 1,
        Foreign = 2,
        CalleeOnly = 4,
        CalleeMissing = 8,
        Irregular = 16,
        Sampled = 32,
        Ambiguous = 64,
        Error = 128,
        Fork = 256,
    }

    // Nearly always there is one page of each.
    readonly Node[] _nodes;
    readonly Node[][]? _furtherNodes;
    readonly IndexedRecord[] _records;
    readonly IndexedRecord[][]? _furtherRecords;
    readonly string?[] _names;
    readonly int _serviceCount;

    /// <param name="count">Number of nodes.</param>
    /// <param name="nodes">The first page of them.</param>
    /// <param name="furtherNodes">The other pages.</param>
    /// <param name="records">The first page of records.</param>
    /// <param name="furtherRecords">The other pages.</param>
    /// <param name="names">Names by their number, and behind them the services.</param>
    /// <param name="serviceCount">Number of services.</param>
    internal ChainNodes(int count, Node[] nodes, Node[][]? furtherNodes, IndexedRecord[] records, IndexedRecord[][]? furtherRecords, string?[] names, int serviceCount)
    {
        Count = count;
        (_nodes, _furtherNodes) = (nodes, furtherNodes);
        (_records, _furtherRecords) = (records, furtherRecords);
        (_names, _serviceCount) = (names, serviceCount);
    }

    public int Count { get; }

    public ChainNode this[int index]
    {
        get
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Count, nameof(index));
            return new(this, index);
        }
    }

    public Enumerator GetEnumerator() => new(this);

    IEnumerator<ChainNode> IEnumerable<ChainNode>.GetEnumerator() => GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    internal ref Node At(int index) => ref PageOfNode(index)[index & (PageSize - 1)];

    /// <summary>The page that a node stands on.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal Node[] PageOfNode(int index) => index < PageSize ? _nodes : _furtherNodes![(index >> PageBits) - 1];

    /// <summary>Services with a record in the chain, in order of appearance.</summary>
    internal IReadOnlyList<string> Services => new ArraySegment<string>(_names!, _names.Length - _serviceCount, _serviceCount);

    internal string? Name(int name) => _names[name];

    /// <summary>A place among the records: its page, then where on it. The records of one node stand on one page.</summary>
    internal static int Place(int page, int at) => (page << RecordPageBits) | at;

    internal ArraySegment<IndexedRecord> Records(int place, int count) => count == 0 ? ArraySegment<IndexedRecord>.Empty : new(PageOf(place), place & (RecordPageSize - 1), count);

    internal IndexedRecord Record(int place) => PageOf(place)[place & (RecordPageSize - 1)];

    IndexedRecord[] PageOf(int place) => place < RecordPageSize ? _records : _furtherRecords![(place >> RecordPageBits) - 1];

    internal string IdText(int place) => place < 0 ? "1" : Record(place).RpcIdText!;

    public struct Enumerator : IEnumerator<ChainNode>
    {
        readonly ChainNodes _nodes;
        int _index = -1;

        internal Enumerator(ChainNodes nodes) => _nodes = nodes;

        public readonly ChainNode Current => new(_nodes, _index);

        readonly object IEnumerator.Current => Current;

        public bool MoveNext() => ++_index < _nodes.Count;

        public void Reset() => _index = -1;

        public readonly void Dispose()
        {
        }
    }
}
