using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;

namespace LogTrace.Benchmarks.Chains;

/// <summary>Records a second from an array of decoded records to the finished chain, on one thread; compared with Zipkin's own tree builder on trees of the same shape.</summary>
static partial class ChainBenchmarks
{
    /// <summary>How often Zipkin's figure is wanted, by size: 2 up to 10^4, 4 beyond.</summary>
    static double BarFor(int size) => size <= 10_000 ? 2 : 4;

    /// <param name="sizes">Records a trace.</param>
    /// <param name="records">Records in all, for each size.</param>
    /// <param name="rounds">The best of these counts, as in the peer.</param>
    /// <param name="peer">Command that prints the peer's figures; null for none.</param>
    /// <param name="report">Gets the table.</param>
    public static void Run(IReadOnlyList<int> sizes, int records, int rounds, string? peer, Report report)
    {
        var theirs = peer is null ? [] : RunPeer(peer);
        var rows = new List<Comparison>();
        var memory = new List<string>();
        foreach (var size in sizes)
        {
            var traces = RandomTrees.Make(Math.Max(1, records / size), size, seed: 7);
            var best = 0.0;
            for (var round = 0; round <= rounds; round++)
            {
                Settle();
                best = Math.Max(best, BuildAll(traces));
            }

            rows.Add(theirs.TryGetValue(size, out var other)
                ? Comparison.AtLeast($"{size:N0} records a trace", "records/s", best, "Zipkin's SpanNode.Builder", other, BarFor(size))
                : new Comparison($"{size:N0} records a trace, records/s", Comparison.Text(best), "", "", "", "", null));
            memory.Add(string.Create(CultureInfo.InvariantCulture, $"{BytesPerRecord(traces):N0} B at {size:N0}"));
        }

        report.Section(
            "Building chains",
            $"Random trees, one call record a node, shuffled; from decoded records to the finished chain with services and edges, one thread, best of {rounds}. "
                + $"Memory of the chain beside its records, a record: {string.Join(", ", memory)}.",
            rows);
    }

    static double BuildAll(IndexedRecord[][] traces)
    {
        long built = 0;
        var started = Stopwatch.GetTimestamp();
        foreach (var records in traces)
        {
            var chain = ChainBuilder.Build("t", records);
            if (chain.Services.Count + chain.Edges.Count > 0) built += chain.RecordCount;
        }

        return built / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    static double BytesPerRecord(IndexedRecord[][] traces)
    {
        Settle();
        var before = GC.GetTotalMemory(forceFullCollection: true);
        var chains = Array.ConvertAll(traces, records => ChainBuilder.Build("t", records));
        var after = GC.GetTotalMemory(forceFullCollection: true);
        GC.KeepAlive(chains);
        return (double)(after - before) / traces.Sum(records => records.Length);
    }

    static void Settle()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
    }

    static Dictionary<int, double> RunPeer(string command)
    {
        using var process = Process.Start(new ProcessStartInfo(command) { RedirectStandardOutput = true }) ?? throw new InvalidOperationException($"{command} did not start.");
        var figures = new Dictionary<int, double>();
        while (process.StandardOutput.ReadLine() is { } line)
        {
            Console.Error.WriteLine($"  {line}");
            if (Figure().Match(line) is { Success: true } match) figures[Number(match.Groups[1].Value)] = Number(match.Groups[2].Value);
        }

        process.WaitForExit();
        return process.ExitCode == 0 ? figures : throw new InvalidOperationException($"{command} failed with {process.ExitCode}.");

        static int Number(string text) => int.Parse(text, NumberStyles.AllowThousands, CultureInfo.InvariantCulture);
    }

    [GeneratedRegex(@"^\s*([\d,]+) spans a trace:\s+([\d,]+) spans/s")]
    private static partial Regex Figure();
}
