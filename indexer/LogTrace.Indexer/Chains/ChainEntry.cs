using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// A record with its id packed so that comparing two ids is nearly always comparing two numbers: each segment as its number of digits
/// and its digits, four bits each, cut at 128 bits. Sorts by id, then by what the record is, then by time; what is still equal is
/// ordered by content and position, so that a chain never depends on the order of arrival.
/// </summary>
readonly struct ChainEntry : IComparable<ChainEntry>
{
    public const byte Call = 0, Handling = 1, Event = 2;

    const int Nibbles = 32;

    readonly ulong _high;
    readonly ulong _low;
    readonly bool _isCut;

    public ChainEntry(IndexedRecord record, string id)
    {
        Record = record;
        Id = id;
        Class = record.Kind switch
        {
            RecordKind.Client => Call,
            RecordKind.Server or RecordKind.Internal => Handling,
            _ => Event,
        };

        var packer = new Packer();
        var start = 0;
        while (start <= id.Length && packer.Used < Nibbles)
        {
            var end = id.IndexOf('.', start);
            if (end < 0) end = id.Length;
            var digits = end - start;
            packer.Put(Math.Min(digits, 15));
            if (digits >= 15) packer.Put(Math.Min(digits - 15, 15));
            for (; start < end; start++) packer.Put(id[start] - '0');
            start = end + 1;
        }

        _high = packer.High;
        _low = packer.Low;
        _isCut = packer.Used >= Nibbles;
    }

    struct Packer
    {
        public ulong High, Low;
        public int Used;

        public void Put(int nibble)
        {
            if (Used < 16) High |= (ulong)(nibble & 15) << (60 - (4 * Used));
            else if (Used < Nibbles) Low |= (ulong)(nibble & 15) << (60 - (4 * (Used - 16)));
            Used++;
        }
    }

    public IndexedRecord Record { get; }
    public string Id { get; }
    public byte Class { get; }

    public bool HasSameId(in ChainEntry other) =>
        _high == other._high && _low == other._low && (!_isCut || string.Equals(Id, other.Id, StringComparison.Ordinal));

    public int CompareId(in ChainEntry other)
    {
        if (_high != other._high) return _high < other._high ? -1 : 1;
        if (_low != other._low) return _low < other._low ? -1 : 1;
        return _isCut ? RpcId.Compare(Id, other.Id) : 0;
    }

    public int CompareTo(ChainEntry other)
    {
        var order = CompareId(other);
        if (order != 0) return order;
        return Class != other.Class ? Class.CompareTo(other.Class) : CompareRecords(Record, other.Record);
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
