using System.Diagnostics;

namespace LogTrace.Tests.Support;

/// <summary>Waits for what another thread or process will do, with a deadline in place of a sleep.</summary>
public static class Eventually
{
    public static readonly TimeSpan Deadline = TimeSpan.FromSeconds(30);

    /// <summary>Returns as soon as the condition holds.</summary>
    /// <param name="what">What is waited for, for the message of a failure.</param>
    public static async Task HoldsAsync(Func<bool> condition, string what, TimeSpan? deadline = null) =>
        await HoldsAsync(() => Task.FromResult(condition()), what, deadline);

    /// <inheritdoc cref="HoldsAsync(Func{bool}, string, TimeSpan?)"/>
    public static async Task HoldsAsync(Func<Task<bool>> condition, string what, TimeSpan? deadline = null)
    {
        var watch = Stopwatch.StartNew();
        while (!await condition())
        {
            if (watch.Elapsed > (deadline ?? Deadline)) throw new TimeoutException($"After {watch.Elapsed.TotalSeconds:F1} s still not so: {what}.");
            await Task.Delay(10);
        }
    }

    /// <summary>Awaits a task, but not beyond the deadline.</summary>
    public static Task<T> Within<T>(this Task<T> task, TimeSpan? deadline = null) => task.WaitAsync(deadline ?? Deadline);

    /// <inheritdoc cref="Within{T}(Task{T}, TimeSpan?)"/>
    public static Task Within(this Task task, TimeSpan? deadline = null) => task.WaitAsync(deadline ?? Deadline);
}
