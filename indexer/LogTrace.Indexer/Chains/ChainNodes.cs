using System.Collections;

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

    readonly Node[][] _pages;
    readonly IndexedRecord[][] _records;
    readonly string?[] _names;

    internal ChainNodes(Node[][] pages, int count, IndexedRecord[][] records, string?[] names)
    {
        _pages = pages;
        _records = records;
        _names = names;
        Count = count;
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

    internal ref Node At(int index) => ref _pages[index >> PageBits][index & (PageSize - 1)];

    internal string? Name(int name) => _names[name];

    /// <summary>A place among the records: its page, then where on it. The records of one node stand on one page.</summary>
    internal static int Place(int page, int at) => (page << RecordPageBits) | at;

    internal ArraySegment<IndexedRecord> Records(int place, int count) => count == 0 ? ArraySegment<IndexedRecord>.Empty : new(PageOf(place), place & (RecordPageSize - 1), count);

    internal IndexedRecord Record(int place) => PageOf(place)[place & (RecordPageSize - 1)];

    IndexedRecord[] PageOf(int place) => _records[place >> RecordPageBits];

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
