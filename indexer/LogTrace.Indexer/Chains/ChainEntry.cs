using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>A record that has an id, with what its place in the chain depends on.</summary>
readonly struct ChainEntry
{
    public const byte Call = 0, Handling = 1, Event = 2;

    public ChainEntry(IndexedRecord record, string id)
    {
        Record = record;
        Id = id;
        Service = record.Service;
        Class = record.Kind switch
        {
            RecordKind.Client => Call,
            RecordKind.Server or RecordKind.Internal => Handling,
            _ => Event,
        };
    }

    public IndexedRecord Record { get; }
    public string Id { get; }
    public string? Service { get; }
    public byte Class { get; }

    public bool HasSameId(in ChainEntry other) => ReferenceEquals(Id, other.Id) || string.Equals(Id, other.Id, StringComparison.Ordinal);

    /// <summary>By id, then by what the record is, then by time; what is still equal is ordered by content and position, so that a chain never depends on the order of arrival.</summary>
    public static int Compare(in ChainEntry left, in ChainEntry right)
    {
        var order = RpcId.Compare(left.Id, right.Id);
        if (order != 0) return order;
        return left.Class != right.Class ? left.Class.CompareTo(right.Class) : CompareRecords(left.Record, right.Record);
    }

    /// <summary>Same line again, as at-least-once delivery brings it.</summary>
    public static bool AreIdentical(IndexedRecord left, IndexedRecord right) => left.LineHash == right.LineHash && left.LineHash != UInt128.Zero;

    /// <summary>Oldest first; never 0 for two records that could be told apart.</summary>
    public static int CompareRecords(IndexedRecord left, IndexedRecord right)
    {
        var order = left.StartMicros.CompareTo(right.StartMicros);
        if (order == 0) order = left.LineHash.CompareTo(right.LineHash);
        if (order == 0) order = string.CompareOrdinal(left.SourceFile, right.SourceFile);
        if (order == 0) order = left.SourceOffset.CompareTo(right.SourceOffset);
        return order != 0 ? order : left.RecordId.CompareTo(right.RecordId);
    }
}

/// <summary>
/// Sorts entries. Ids are packed into 128 bits in their own order (each segment as its number of digits and its digits, four bits each), so that nearly
/// every comparison is one of numbers that lie together; only what is equal in these is compared in full.
/// </summary>
static class ChainSort
{
    const int Nibbles = 32;

    // Runs of equal keys are mostly the few records of one call.
    const int InsertionSortBelow = 17;

    public readonly struct Key(UInt128 packed, int index) : IComparable<Key>
    {
        readonly ulong _high = (ulong)(packed >> 64);
        readonly ulong _low = (ulong)packed;

        public int Index => index;

        public bool IsSame(in Key other) => _high == other._high && _low == other._low;

        public int CompareTo(Key other)
        {
            if (_high != other._high) return _high < other._high ? -1 : 1;
            return _low == other._low ? 0 : _low < other._low ? -1 : 1;
        }
    }

    /// <param name="entries">What to sort.</param>
    /// <param name="keys">Room for as many keys.</param>
    /// <param name="sorted">Gets them in order.</param>
    public static void Sort(ReadOnlySpan<ChainEntry> entries, Span<Key> keys, Span<ChainEntry> sorted)
    {
        for (var i = 0; i < entries.Length; i++) keys[i] = new Key(Pack(entries[i].Id), i);
        keys.Sort();
        for (var i = 0; i < keys.Length; i++) sorted[i] = entries[keys[i].Index];
        for (int start = 0, end; start < keys.Length; start = end)
        {
            end = start + 1;
            while (end < keys.Length && keys[end].IsSame(keys[start])) end++;
            if (end - start > 1) SortRun(sorted[start..end]);
        }
    }

    static void SortRun(Span<ChainEntry> run)
    {
        if (run.Length >= InsertionSortBelow)
        {
            run.Sort(static (left, right) => ChainEntry.Compare(left, right));
            return;
        }

        for (var i = 1; i < run.Length; i++)
        {
            var entry = run[i];
            var place = i;
            for (; place > 0 && ChainEntry.Compare(run[place - 1], entry) > 0; place--) run[place] = run[place - 1];
            run[place] = entry;
        }
    }

    static UInt128 Pack(string id)
    {
        ulong high = 0, low = 0;
        var used = 0;
        var start = 0;
        while (start <= id.Length && used < Nibbles)
        {
            var end = start;
            while (end < id.Length && id[end] != '.') end++;
            var digits = end - start;
            Put(Math.Min(digits, 15), ref high, ref low, ref used);
            if (digits >= 15) Put(Math.Min(digits - 15, 15), ref high, ref low, ref used);
            for (; start < end; start++) Put(id[start] - '0', ref high, ref low, ref used);
            start = end + 1;
        }

        return new UInt128(high, low);
    }

    static void Put(int nibble, ref ulong high, ref ulong low, ref int used)
    {
        if (used < 16) high |= (ulong)(nibble & 15) << (60 - (4 * used));
        else if (used < Nibbles) low |= (ulong)(nibble & 15) << (60 - (4 * (used - 16)));
        used++;
    }
}
