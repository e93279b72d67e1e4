namespace LogTrace.Tests.Support;

/// <summary>
/// Lets the thread that writes a file stand still before its next write. Declare it after the file or logger, so that it is disposed of first: a file that is closed while its disk stands
/// still waits for it, and a test that fails would never end.
/// </summary>
sealed class StoppedDisk : IDisposable
{
    readonly ManualResetEventSlim _goesOn = new();
    readonly TaskCompletionSource _standsStill = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public StoppedDisk(TraceFile file) => file.BeforeWrite = () =>
    {
        _standsStill.TrySetResult();
        _goesOn.Wait();
    };

    /// <summary>A write has begun, with what was queued until then.</summary>
    public Task StandsStill => _standsStill.Task;

    public void GoOn() => _goesOn.Set();

    // The event itself stays: the thread may be about to leave it.
    public void Dispose() => GoOn();
}
