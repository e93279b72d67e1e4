namespace LogTrace;

/// <summary>
/// Time of day and durations from one reading of the monotonic clock: reading two clocks for each record is the dearest part of writing it. The time of
/// day is looked up once a second, so that a clock that is set is followed within a second. Thread-safe.
/// </summary>
sealed class TraceClock
{
    readonly TimeProvider _time;
    readonly long _frequency;

    // Microseconds since the epoch when the monotonic clock read 0, and when that was looked up; each is right on its own.
    long _origin;
    long _looked;

    public TraceClock(TimeProvider time)
    {
        _time = time;
        _frequency = time.TimestampFrequency;
        Look();
    }

    /// <summary>A point in time, for the methods below.</summary>
    public long Now => _time.GetTimestamp();

    /// <summary>Microseconds since the epoch at a point in time that was just read.</summary>
    public long Micros(long now)
    {
        if ((ulong)(now - Volatile.Read(ref _looked)) >= (ulong)_frequency) Look();
        return Volatile.Read(ref _origin) + Micros(0, now);
    }

    /// <summary>Microseconds from one point in time to another.</summary>
    public long Micros(long from, long to)
    {
        var ticks = to - from;
        // Nanoseconds on all systems but Windows.
        return _frequency == 1_000_000_000 ? ticks / 1000 : (long)((Int128)ticks * 1_000_000 / _frequency);
    }

    void Look()
    {
        var now = _time.GetTimestamp();
        Volatile.Write(ref _origin, RecordEntry.Micros(_time.GetUtcNow()) - Micros(0, now));
        Volatile.Write(ref _looked, now);
    }
}
