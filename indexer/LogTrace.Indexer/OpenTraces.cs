using System.IO.Hashing;
using System.Text;
using LogTrace.Records;

namespace LogTrace.Indexer;

/// <summary>A trace with records that its chain document does not have yet. Times are the clock's timestamps.</summary>
sealed class OpenTrace(string traceId, long first)
{
    public string TraceId => traceId;

    /// <summary>When its first record came.</summary>
    public long First { get; set; } = first;

    /// <summary>When its last record came.</summary>
    public long Last { get; set; } = first;

    /// <summary>All records of it that passed since it was opened; null when they are more than is worth keeping, or the store is known to hold others: then the store is asked.</summary>
    public PassedRecords? Records { get; set; } = new();

    /// <summary>Memory that <see cref="Records"/> take, about.</summary>
    public long Bytes => Records?.Bytes ?? 0;
}

/// <summary>
/// The traces whose chain is still to be built, each with the records that have passed: so that most chains are built of what is at hand, and nothing is read back from the store. Thread-safe.
/// </summary>
sealed class OpenTraces
{
    /// <summary>A trace of more records is read from the store when it is built: one that large would take the room of all others.</summary>
    public const int LargeTrace = 2_000;

    readonly Lock _lock = new();
    readonly Dictionary<string, OpenTrace> _traces = new(TraceIdComparer.Instance);
    long _bytes;

    /// <summary>Memory that the records of all of them take, about.</summary>
    public long Bytes => Interlocked.Read(ref _bytes);

    public int Count
    {
        get
        {
            lock (_lock) return _traces.Count;
        }
    }

    public bool Contains(string traceId)
    {
        lock (_lock) return _traces.ContainsKey(traceId);
    }

    /// <summary>Adds records that are in the store.</summary>
    /// <param name="records">What is kept of them is a copy.</param>
    /// <param name="areNew">False when some of them were in the store before: who brought those may have brought more of their traces.</param>
    /// <param name="now">The clock's timestamp.</param>
    public void Add(IReadOnlyList<IndexedRecord> records, bool areNew, long now)
    {
        lock (_lock)
        {
            var traces = _traces.GetAlternateLookup<ReadOnlySpan<byte>>();
            foreach (var record in records)
            {
                if (!record.Record.Has(RecordField.TraceId)) continue;
                if (!traces.TryGetValue(record.Record.Utf8(RecordField.TraceId), out var trace))
                {
                    var traceId = record.Record.TraceId!;
                    _traces.Add(traceId, trace = new OpenTrace(traceId, now));
                    _bytes += trace.Bytes;
                }

                trace.Last = now;
                if (!areNew || trace.Records?.Count >= LargeTrace) Forget(trace);
                if (trace.Records is null) continue;
                var before = trace.Bytes;
                trace.Records.Add(record);
                _bytes += trace.Bytes - before;
            }
        }
    }

    /// <summary>Takes out those that are due. A record that comes afterwards opens its trace anew.</summary>
    public List<OpenTrace> Take(Func<OpenTrace, bool> isDue)
    {
        lock (_lock)
        {
            var due = _traces.Values.Where(isDue).ToList();
            foreach (var trace in due)
            {
                _traces.Remove(trace.TraceId);
                _bytes -= trace.Bytes;
            }

            return due;
        }
    }

    /// <summary>Puts back what could not be built.</summary>
    public void GiveBack(IEnumerable<OpenTrace> traces)
    {
        lock (_lock)
        {
            foreach (var trace in traces)
            {
                _bytes += trace.Bytes;
                if (_traces.TryAdd(trace.TraceId, trace)) continue;
                // Opened anew meanwhile: what is there now is not all of it.
                var present = _traces[trace.TraceId];
                present.First = Math.Min(present.First, trace.First);
                Forget(trace);
                Forget(present);
            }
        }
    }

    /// <summary>The time by which the quarter that has been without a record for longest got its last one.</summary>
    public long QuietestQuarter()
    {
        lock (_lock)
        {
            if (_traces.Count == 0) return long.MaxValue;
            var last = _traces.Values.Select(trace => trace.Last).Order().ToList();
            return last[Math.Max(1, last.Count / 4) - 1];
        }
    }

    void Forget(OpenTrace trace)
    {
        _bytes -= trace.Bytes;
        trace.Records = null;
    }
}

/// <summary>Trace ids by what they are as UTF-8, so that a record's is looked up without making a string of it.</summary>
sealed class TraceIdComparer : IEqualityComparer<string>, IAlternateEqualityComparer<ReadOnlySpan<byte>, string>
{
    const int OnStack = 512;

    public static readonly TraceIdComparer Instance = new();

    public bool Equals(string? left, string? right) => left == right;

    public int GetHashCode(string id)
    {
        Span<byte> utf8 = id.Length <= OnStack / 3 ? stackalloc byte[OnStack] : new byte[Encoding.UTF8.GetByteCount(id)];
        return GetHashCode(utf8[..Encoding.UTF8.GetBytes(id, utf8)]);
    }

    public string Create(ReadOnlySpan<byte> id) => Encoding.UTF8.GetString(id);

    public bool Equals(ReadOnlySpan<byte> id, string other) => Ascii.Equals(id, other) || (id.Length > other.Length && Encoding.UTF8.GetString(id) == other);

    public int GetHashCode(ReadOnlySpan<byte> id) => (int)XxHash3.HashToUInt64(id);
}
