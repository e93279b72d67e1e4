namespace LogTrace.Tests.Support;

static class Allocation
{
    const int Rounds = 5;

    /// <summary>
    /// Bytes that the calling thread allocates in 1,000 runs once everything that is made once is made: the least of five rounds, because the runtime itself allocates on whatever thread
    /// it meets when it grows a pool or replaces code by faster code.
    /// </summary>
    public static long OfThousand(Action run)
    {
        for (var i = 0; i < 200; i++) run();
        var least = long.MaxValue;
        for (var round = 0; round < Rounds; round++)
        {
            var before = GC.GetAllocatedBytesForCurrentThread();
            for (var i = 0; i < 1000; i++) run();
            least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        return least;
    }
}
