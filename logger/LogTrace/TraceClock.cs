namespace LogTrace;

/// <summary>
/// Time of day and durations from one reading of the monotonic clock: reading two clocks for each record is the dearest part of writing it. The time of
/// day is looked up once a second, so that a clock that is set is followed within a second. Thread-safe.
/// </summary>
sealed class TraceClock
{
    readonly TimeProvider _time;
    readonly long _frequency;
    Anchor _anchor;

    sealed record Anchor(long Timestamp, long Micros);

    public TraceClock(TimeProvider time)
    {
        _time = time;
        _frequency = time.TimestampFrequency;
        _anchor = Look();
    }

    /// <summary>A point in time, for the methods below.</summary>
    public long Now => _time.GetTimestamp();

    /// <summary>Microseconds since the epoch at a point in time that was just read.</summary>
    public long Micros(long now)
    {
        var anchor = Volatile.Read(ref _anchor);
        if ((ulong)(now - anchor.Timestamp) >= (ulong)_frequency) Volatile.Write(ref _anchor, anchor = Look());
        return anchor.Micros + Micros(anchor.Timestamp, now);
    }

    /// <summary>Microseconds from one point in time to another.</summary>
    public long Micros(long from, long to)
    {
        var ticks = to - from;
        // Nanoseconds on all systems but Windows.
        return _frequency == 1_000_000_000 ? ticks / 1000 : (long)((Int128)ticks * 1_000_000 / _frequency);
    }

    Anchor Look() => new(_time.GetTimestamp(), RecordEntry.Micros(_time.GetUtcNow()));
}
