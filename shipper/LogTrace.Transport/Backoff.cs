namespace LogTrace.Transport;

/// <summary>
/// How long to wait before trying again: the delay doubles with each failure in a row up to a maximum, less a random part of up to
/// half of it, so that many processes do not return at the same moment. Not safe for concurrent use.
/// </summary>
/// <param name="first">Delay after the first failure, before the random part; above zero. Default 200 ms.</param>
/// <param name="max">No delay is longer; at least <paramref name="first"/>. Default 30 s.</param>
/// <param name="time">The clock that <see cref="WaitAsync"/> waits by. Default the system's.</param>
/// <param name="random">Source of the random part; give one with a seed for a repeatable run.</param>
public sealed class Backoff(TimeSpan? first = null, TimeSpan? max = null, TimeProvider? time = null, Random? random = null)
{
    readonly TimeSpan _first = first ?? TimeSpan.FromMilliseconds(200);
    readonly TimeSpan _max = max ?? TimeSpan.FromSeconds(30);

    /// <summary>Failures since the last success.</summary>
    public int Failures { get; private set; }

    /// <summary>Counts a failure and gives the time to wait: between half of <c>min(max, first * 2^(failures-1))</c> and all of it.</summary>
    public TimeSpan NextDelay()
    {
        Failures++;
        // Beyond 2^40 every sensible first delay has reached its maximum; the bound keeps the number finite.
        var full = Math.Min(_max.Ticks, _first.Ticks * Math.Pow(2, Math.Min(Failures - 1, 40)));
        return TimeSpan.FromTicks((long)(full * (0.5 + (random ?? Random.Shared).NextDouble() / 2)));
    }

    /// <summary>Counts a failure and waits.</summary>
    /// <exception cref="OperationCanceledException">The token was cancelled first.</exception>
    public Task WaitAsync(CancellationToken cancellationToken) => Task.Delay(NextDelay(), time ?? TimeProvider.System, cancellationToken);

    /// <summary>Says that it worked: the next failure is a first one.</summary>
    public void Reset() => Failures = 0;
}
