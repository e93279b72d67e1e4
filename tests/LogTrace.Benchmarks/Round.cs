using System.Diagnostics;

namespace LogTrace.Benchmarks;

/// <summary>Takes the sides of a comparison in turn, so that what else the machine does meets all of them alike, and gives each side's median.</summary>
static class Round
{
    /// <summary>Runs every side once unmeasured, then <paramref name="rounds"/> times in turn.</summary>
    public static double[] Medians(int rounds, params Func<double>[] sides) => Medians(rounds, 1, sides);

    /// <summary>Runs every side <paramref name="warmUps"/> times unmeasured, then <paramref name="rounds"/> times in turn.</summary>
    public static double[] Medians(int rounds, int warmUps, params Func<double>[] sides)
    {
        var figures = new double[sides.Length][];
        for (var side = 0; side < sides.Length; side++)
        {
            figures[side] = new double[rounds];
            for (var warmUp = 0; warmUp < warmUps; warmUp++) sides[side]();
        }

        for (var round = 0; round < rounds; round++)
        {
            for (var side = 0; side < sides.Length; side++)
            {
                Settle();
                figures[side][round] = sides[side]();
            }
        }

        return [.. figures.Select(Median)];
    }

    /// <summary>The garbage of one side must not be collected in the time of the next.</summary>
    public static void Settle()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        GC.Collect();
    }

    public static double Median(double[] values)
    {
        var sorted = values.Order().ToArray();
        var middle = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
    }

    public static double Nanoseconds(long started) => Stopwatch.GetElapsedTime(started).TotalNanoseconds;
}
