using System.Globalization;
using System.IO.Hashing;
using System.Text;

namespace LogTrace.Benchmarks.Accuracy;

/// <summary>A way of losing records.</summary>
/// <param name="Name">With its parameter, such as <c>L1 uniform 5 %</c>.</param>
/// <param name="Pick">Gives the records of an input that are lost.</param>
sealed record Loss(string Name, Func<IReadOnlyList<TrueTrace>, Random, HashSet<TrueRecord>> Pick)
{
    static readonly double[] s_shares = [0.01, 0.05, 0.10, 0.20, 0.30, 0.50];

    /// <summary>The eight models, those with a share at every share.</summary>
    public static IReadOnlyList<Loss> All =>
    [
        .. s_shares.Select(share => new Loss($"L1 uniform {Percent(share)}", (traces, random) => Where(traces, _ => random.NextDouble() < share))),
        new("L2 a service", (traces, random) => Named(traces, random, record => record.Service)),
        new("L3 a host", (traces, random) => Named(traces, random, record => record.Host)),
        .. s_shares.Select(share => new Loss($"L4 burst {Percent(share)}", (traces, random) => Burst(traces, random, share))),
        new("L5 the entry", (traces, _) => Where(traces, record => record.Call.Parent is null || (record.Call.Parent.Parent is null && record.IsCaller))),
        .. s_shares.Select(share => new Loss($"L6 tails {Percent(share)}", (traces, _) => Tails(traces, share))),
        new("L7 a partition of 4", (traces, random) => Partition(traces, random.Next(4))),
        .. s_shares.Select(share => new Loss($"L8 one side {Percent(share)}", (traces, random) => OneSide(traces, random, share))),
    ];

    public static HashSet<TrueRecord> Where(IReadOnlyList<TrueTrace> traces, Func<TrueRecord, bool> isLost) => [.. traces.SelectMany(trace => trace.Records).Where(isLost)];

    static string Percent(double share) => (share * 100).ToString("0", CultureInfo.InvariantCulture) + " %";

    static HashSet<TrueRecord> Named(IReadOnlyList<TrueTrace> traces, Random random, Func<TrueRecord, string> name)
    {
        var names = traces.SelectMany(trace => trace.Records).Select(name).Distinct().Order(StringComparer.Ordinal).ToArray();
        var lost = names[random.Next(names.Length)];
        return Where(traces, record => name(record) == lost);
    }

    /// <summary>Every host in turn stops shipping for a while: a run of consecutive lines.</summary>
    static HashSet<TrueRecord> Burst(IReadOnlyList<TrueTrace> traces, Random random, double share)
    {
        var lost = new HashSet<TrueRecord>();
        foreach (var lines in LinesByHost(traces))
        {
            var run = (int)(lines.Count * share);
            var first = random.Next(lines.Count - run + 1);
            lost.UnionWith(lines.GetRange(first, run));
        }

        return lost;
    }

    /// <summary>What each process had not flushed when it was killed.</summary>
    static HashSet<TrueRecord> Tails(IReadOnlyList<TrueTrace> traces, double share) =>
        [.. LinesByHost(traces).SelectMany(lines => lines[^(int)(lines.Count * share)..])];

    static HashSet<TrueRecord> Partition(IReadOnlyList<TrueTrace> traces, int lost) =>
        Where(traces, record => XxHash3.HashToUInt64(Encoding.UTF8.GetBytes(record.Host)) % 4 == (ulong)lost);

    /// <summary>Of some of the calls that have both, one side's records.</summary>
    static HashSet<TrueRecord> OneSide(IReadOnlyList<TrueTrace> traces, Random random, double share)
    {
        var lost = new HashSet<TrueRecord>();
        foreach (var call in traces.SelectMany(trace => trace.Calls))
        {
            if (random.NextDouble() >= share || !call.Records.Exists(record => record.IsCaller) || !call.Records.Exists(record => !record.IsCaller)) continue;
            var side = random.Next(2) == 0;
            lost.UnionWith(call.Records.Where(record => record.IsCaller == side));
        }

        return lost;
    }

    static IEnumerable<List<TrueRecord>> LinesByHost(IReadOnlyList<TrueTrace> traces) =>
        traces.SelectMany(trace => trace.Records).GroupBy(record => record.Host).Select(lines => lines.OrderBy(record => record.Record.TimestampMicros).ToList());
}
