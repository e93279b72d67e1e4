using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LogTrace.Records;

namespace LogTrace.Indexer;

/// <summary>
/// The records of one trace that have passed, kept as their lines and read again when they are asked for: to decode a line twice costs a few microseconds, while thousands of decoded
/// records that wait for the rest of their traces are gone over by the garbage collector again and again. What was derived of them is kept as it is: strings that many records share. Not thread-safe.
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
        _places.Add(new Place(_used, line.Length, record));
        _used += line.Length;
    }

    /// <summary>The records as they were added, in that order. They keep this one's memory.</summary>
    public List<IndexedRecord> Read()
    {
        var records = new List<IndexedRecord>(_places.Count);
        foreach (ref readonly var place in CollectionsMarshal.AsSpan(_places))
        {
            if (!RecordCodec.TryRead(_lines.AsMemory(place.Start, place.Length), out var record, out var reason)) throw new InvalidOperationException("A line that was a record is none any more: " + reason);
            records.Add(place.Of(record));
        }

        return records;
    }

    /// <summary>Where a record's line lies, and all that is not on it.</summary>
    readonly struct Place(int start, int length, IndexedRecord record)
    {
        readonly UInt128 _recordId = record.RecordId, _lineHash = record.LineHash;
        readonly string _sourceFile = record.SourceFile;
        readonly string? _service = record.Service, _route = record.Route, _actionKey = record.ActionKey, _errorKey = record.ErrorKey, _peer = record.Peer;
        readonly IReadOnlyList<string> _tags = record.Tags;
        readonly long _offset = record.SourceOffset, _ingested = record.IngestedMicros, _begin = record.StartMicros;
        readonly long? _code = record.CodeNumber;
        readonly RecordKind _kind = record.Kind;
        readonly bool _isError = record.IsError, _isCertain = record.ServiceIsCertain;

        public int Start => start;
        public int Length => length;

        public IndexedRecord Of(TraceRecord record) => new()
        {
            Record = record,
            RecordId = _recordId,
            LineHash = _lineHash,
            SourceFile = _sourceFile,
            SourceOffset = _offset,
            IngestedMicros = _ingested,
            Service = _service,
            ServiceIsCertain = _isCertain,
            Kind = _kind,
            StartMicros = _begin,
            IsError = _isError,
            CodeNumber = _code,
            Route = _route,
            ActionKey = _actionKey,
            ErrorKey = _errorKey,
            Peer = _peer,
            Tags = _tags,
        };
    }
}
