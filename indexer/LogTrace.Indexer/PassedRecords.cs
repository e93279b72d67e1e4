using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LogTrace.Records;

namespace LogTrace.Indexer;

/// <summary>
/// The records of one trace that have passed, kept as their lines and read again when they are asked for: to decode a line twice costs a few microseconds, while thousands of decoded
/// records that wait for the rest of their traces are gone over by the garbage collector again and again. Not thread-safe.
/// </summary>
sealed class PassedRecords
{
    byte[] _lines = new byte[2048];
    int _used;
    readonly List<Place> _places = new(8);

    public int Count => _places.Count;

    /// <summary>Memory taken, about.</summary>
    public long Bytes => _lines.Length + ((long)_places.Capacity * Unsafe.SizeOf<Place>());

    /// <summary>Keeps a copy of a record that was read from a line.</summary>
    public void Add(IndexedRecord record)
    {
        var line = record.Record.SourceLine.Span;
        if (_lines.Length - _used < line.Length) Array.Resize(ref _lines, (int)Math.Min(Math.Max(2L * _lines.Length, (long)_used + line.Length), Array.MaxLength));
        line.CopyTo(_lines.AsSpan(_used));
        _places.Add(new Place(_used, line.Length, record.SourceOffset, record.IngestedMicros, record.RecordId, record.LineHash, record.SourceFile));
        _used += line.Length;
    }

    /// <summary>The records as they were added, in that order. They keep this one's memory.</summary>
    public List<IndexedRecord> Read()
    {
        var records = new List<IndexedRecord>(_places.Count);
        foreach (ref readonly var place in CollectionsMarshal.AsSpan(_places))
        {
            if (!RecordCodec.TryRead(_lines.AsMemory(place.Start, place.Length), out var record, out var reason)) throw new InvalidOperationException("A line that was a record is none any more: " + reason);
            records.Add(RecordDeriver.Derive(record, place.RecordId, place.LineHash, place.SourceFile, place.Offset, place.IngestedMicros));
        }

        return records;
    }

    readonly record struct Place(int Start, int Length, long Offset, long IngestedMicros, UInt128 RecordId, UInt128 LineHash, string SourceFile);
}
