using System.Runtime.Intrinsics;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>What of a record that has an id decides on its place, apart from the record, so that going over a trace is going over one array.</summary>
struct ChainEntry
{
    /// <summary>The id as <see cref="RpcKey"/> packs it.</summary>
    public ulong High, Low;

    public long Start, Duration;

    /// <summary>Place of the record in the input.</summary>
    public int Index;

    /// <summary>Names, as <see cref="ChainNames"/> numbers them.</summary>
    public int Service, Peer;

    /// <summary>Lower half of <see cref="ChainFacts"/>.</summary>
    public uint Facts;

    public readonly uint Class => Facts & (uint)ChainFacts.OfClasses;
    public readonly bool IsCall => (Facts & ChainFacts.IsCall) != 0;
    public readonly bool IsHandling => (Facts & ChainFacts.IsHandling) != 0;
    public readonly bool IsEvent => (Facts & ChainFacts.IsEvent) != 0;
    public readonly bool IsServer => (Facts & ChainFacts.IsServer) != 0;
    public readonly bool IsError => (Facts & ChainFacts.IsError) != 0;
    public readonly bool IsWhole => (Facts & ChainFacts.IsWhole) != 0;
    public readonly bool IsNumberOne => (Facts & ChainFacts.IsNumberOne) != 0;
    public readonly int Length => ChainFacts.LengthOf(Facts);
    public readonly int KeyBits => ChainFacts.KeyBitsOf(Facts);
    public readonly long End => ChainFacts.EndOf(Start, Duration, Facts);

    public readonly bool HasKeyOf(in ChainEntry other) => High == other.High && Low == other.Low;

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
/// Puts entries in order: by id, then by what the record is, then by time; what is still equal by content and position, so that a chain never depends on
/// the order of arrival. Nearly every comparison is one of packed ids that lie together; only what is equal in these is compared in full.
/// </summary>
static class ChainSort
{
    /// <summary>So many at most are put in order by comparing each with each.</summary>
    public const int Few = 16;

    // Runs of equal keys are mostly the few records of one call.
    const int InsertionSortBelow = 17;

    /// <summary>
    /// By packed ids alone, for few: each goes where as many are smaller. Takes no decision on the way, which a processor would guess wrong every other time. True when some are equal.
    /// </summary>
    /// <param name="entries">What to sort.</param>
    /// <param name="keys">First halves of their ids, and room for as many as <see cref="Few"/>.</param>
    /// <param name="sorted">Gets them in order.</param>
    public static bool ByRank(ReadOnlySpan<ChainEntry> entries, ReadOnlySpan<ulong> keys, Span<ChainEntry> sorted)
    {
        Span<ulong> ranks = stackalloc ulong[Few];
        for (var block = 0; block < entries.Length; block += Vector256<ulong>.Count)
        {
            var own = Vector256.Create(keys[block..]);
            var places = Vector256<ulong>.Indices + Vector256.Create((ulong)block);
            var smaller = Vector256<ulong>.Zero;
            for (var i = 0; i < entries.Length; i++)
            {
                var other = Vector256.Create(keys[i]);
                smaller -= Vector256.GreaterThan(own, other) | (Vector256.Equals(own, other) & Vector256.GreaterThan(places, Vector256.Create((ulong)i)));
            }

            smaller.CopyTo(ranks[block..]);
        }

        for (var i = 0; i < entries.Length; i++) sorted[(int)ranks[i]] = entries[i];
        var areSome = false;
        for (var i = 1; i < sorted.Length; i++)
            if (sorted[i].High == sorted[i - 1].High) areSome |= SinkByLow(sorted, i);
        return areSome;
    }

    /// <summary>Moves an entry to its place among those before it that have the same first half. True when one of them is equal to it.</summary>
    static bool SinkByLow(Span<ChainEntry> sorted, int index)
    {
        var entry = sorted[index];
        for (; index > 0 && sorted[index - 1].High == entry.High && sorted[index - 1].Low > entry.Low; index--) sorted[index] = sorted[index - 1];
        sorted[index] = entry;
        return index > 0 && sorted[index - 1].HasKeyOf(entry);
    }

    /// <summary>By packed ids alone. True when some are equal.</summary>
    /// <param name="entries">What to sort.</param>
    /// <param name="keys">First halves of their ids; not to be used afterwards.</param>
    /// <param name="order">Gets their order.</param>
    /// <param name="sorted">Gets them in order.</param>
    public static bool ByKey(ReadOnlySpan<ChainEntry> entries, Span<ulong> keys, Span<int> order, Span<ChainEntry> sorted)
    {
        for (var i = 0; i < order.Length; i++) order[i] = i;
        keys.Sort(order);
        var areSome = false;
        for (int start = 0, end; start < keys.Length; start = end)
        {
            end = start + 1;
            while (end < keys.Length && keys[end] == keys[start]) end++;
            if (end - start > 1) areSome |= ByLow(entries, keys[start..end], order[start..end]);
        }

        for (var i = 0; i < order.Length; i++) sorted[i] = entries[order[i]];
        return areSome;
    }

    /// <summary>Equal first halves: deep ids, or the same one again.</summary>
    static bool ByLow(ReadOnlySpan<ChainEntry> entries, Span<ulong> keys, Span<int> order)
    {
        for (var i = 0; i < order.Length; i++) keys[i] = entries[order[i]].Low;
        keys.Sort(order);
        for (var i = 1; i < keys.Length; i++)
            if (keys[i] == keys[i - 1]) return true;
        return false;
    }

    /// <summary>Puts what is equal by its packed id in full order.</summary>
    public static void Runs(Span<ChainEntry> sorted, IndexedRecord[] records)
    {
        for (int start = 0, end; start < sorted.Length; start = end)
        {
            end = start + 1;
            while (end < sorted.Length && sorted[end].HasKeyOf(sorted[start])) end++;
            if (end - start > 1) Run(sorted[start..end], records);
        }
    }

    static void Run(Span<ChainEntry> run, IndexedRecord[] records)
    {
        if (run.Length >= InsertionSortBelow)
        {
            run.Sort((left, right) => Compare(left, right, records));
            return;
        }

        for (var i = 1; i < run.Length; i++)
        {
            if (Compare(run[i - 1], run[i], records) <= 0) continue;
            var entry = run[i];
            var place = i;
            for (; place > 0 && Compare(run[place - 1], entry, records) > 0; place--) run[place] = run[place - 1];
            run[place] = entry;
        }
    }

    static int Compare(in ChainEntry left, in ChainEntry right, IndexedRecord[] records)
    {
        if (!left.IsWhole || !right.IsWhole)
        {
            var order = RpcId.Compare(records[left.Index].RpcIdText, records[right.Index].RpcIdText);
            if (order != 0) return order;
        }

        if (left.Class != right.Class) return left.Class.CompareTo(right.Class);
        return left.Start != right.Start ? left.Start.CompareTo(right.Start) : ChainEntry.CompareRecords(records[left.Index], records[right.Index]);
    }
}
