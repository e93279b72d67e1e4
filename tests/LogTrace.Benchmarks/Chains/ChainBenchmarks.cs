using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;

namespace LogTrace.Benchmarks.Chains;

/// <summary>Records a second from an array of decoded records to the finished chain, on one thread; compared with Zipkin's own tree builder on trees of the same shape.</summary>
static partial class ChainBenchmarks
{
    /// <summary>Runs <see cref="PrintOurs"/>: <c>chains RECORDS ROUNDS SIZE...</c></summary>
    public const string Command = "chains";

    /// <summary>How long chains are built before any are measured: longer than the runtime takes to see what is hot and to compile it anew, twice.</summary>
    static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(3);

    /// <summary>Our figures for one size.</summary>
    /// <param name="Rate">Records a second, best round.</param>
    /// <param name="Bytes">Memory of the chain beside its records, a record.</param>
    internal readonly record struct Figures(double Rate, double Bytes);

    /// <summary>How often Zipkin's figure is wanted, by size: 2 up to 10^4, 4 beyond.</summary>
    static double BarFor(int size) => size <= 10_000 ? 2 : 4;

    /// <param name="sizes">Records a trace.</param>
    /// <param name="records">Records in all, for each size.</param>
    /// <param name="rounds">The best of these counts, as in the peer.</param>
    /// <param name="peer">Command that prints the peer's figures; null for none.</param>
    /// <param name="report">Gets the table.</param>
    public static void Run(IReadOnlyList<int> sizes, int records, int rounds, string? peer, Report report)
    {
        var ours = RunOurs(sizes, records, rounds);
        var theirs = peer is null ? [] : RunPeer(peer);
        report.Section(
            "Building chains",
            $"Random trees, one call record a node, shuffled; from an array of decoded records to the finished chain with every value read that `--json` prints, one thread, best of {rounds}. "
                + $"Memory of the chain beside its records, a record: {string.Join(", ", sizes.Select(size => string.Create(CultureInfo.InvariantCulture, $"{ours[size].Bytes:N0} B at {size:N0}")))}.",
            sizes.Select(size => theirs.TryGetValue(size, out var other)
                ? Comparison.AtLeast($"{size:N0} records a trace", "records/s", ours[size].Rate, "Zipkin's SpanNode.Builder", other, BarFor(size))
                : new Comparison($"{size:N0} records a trace, records/s", Comparison.Text(ours[size].Rate), "", "", "", "", null)));
    }

    /// <summary>In a process of its own as the peer is, with the collector that the indexer has: as a web project it runs with the server's.</summary>
    static Dictionary<int, Figures> RunOurs(IReadOnlyList<int> sizes, int records, int rounds)
    {
        var start = new ProcessStartInfo("dotnet", [typeof(ChainBenchmarks).Assembly.Location, Command, Text(records), Text(rounds), .. sizes.Select(Text)]) { RedirectStandardOutput = true };
        start.Environment["DOTNET_gcServer"] = "1";
        var figures = new Dictionary<int, Figures>();
        Read(start, line =>
        {
            if (line.Split(' ') is [var size, var rate, var bytes])
                figures[int.Parse(size, CultureInfo.InvariantCulture)] = new(double.Parse(rate, CultureInfo.InvariantCulture), double.Parse(bytes, CultureInfo.InvariantCulture));
        });
        return figures;

        static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
    }

    /// <summary>Measures our side and prints a line for each size.</summary>
    public static void PrintOurs(int records, int rounds, IReadOnlyList<int> sizes, TimeSpan? warmUp = null)
    {
        WarmUp(warmUp ?? s_warmUp);
        foreach (var size in sizes)
        {
            var figures = Measure(size, records, rounds);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{size} {figures.Rate:0} {figures.Bytes:0.0}"));
        }
    }

    static void WarmUp(TimeSpan duration)
    {
        var traces = ((int[])[10, 100, 1_000, 10_000]).Select(size => RandomTrees.Make(10_000 / size, size, seed: 1)).ToList();
        for (var watch = Stopwatch.StartNew(); watch.Elapsed < duration;)
            foreach (var some in traces) BuildAll(some);
    }

    internal static Figures Measure(int size, int records, int rounds)
    {
        var traces = RandomTrees.Make(Math.Max(1, records / size), size, seed: 7);
        var best = 0.0;
        Settle();
        for (var round = 0; round < rounds; round++) best = Math.Max(best, BuildAll(traces));

        return new(best, BytesPerRecord(traces));
    }

    static double BuildAll(IndexedRecord[][] traces)
    {
        long built = 0, read = 0;
        var started = Stopwatch.GetTimestamp();
        foreach (var records in traces)
        {
            var chain = ChainBuilder.Build("t", records);
            read += ReadAll(chain);
            built += chain.RecordCount;
        }

        var elapsed = Stopwatch.GetElapsedTime(started);
        return read == 0 ? throw new InvalidOperationException("Nothing was built.") : built / elapsed.TotalSeconds;
    }

    /// <summary>Asks for all that `--json` prints and the chain has to work out. What is left is text of the records themselves, which only writing it looks at.</summary>
    static long ReadAll(CallChain chain)
    {
        var sum = chain.StartMicros + chain.DurationMicros + chain.RecordCount + chain.PlaceholderCount + chain.GapCount + chain.CalleeOnlyCount + chain.AmbiguousCount;
        if (chain.Complete || chain.Resolved) sum++;
        foreach (var node in chain.Nodes)
        {
            sum += node.IdLength + node.Execution + node.Depth + node.StartMicros + (node.DurationMicros ?? 0) + node.Records.Count;
            if (node.Parent is { } parent) sum += parent.IdLength + parent.Execution;
            if (node.IsPlaceholder || node.IsForeign || node.IsAmbiguous || node.IsError) sum++;
            if (node.Kind is not null) sum++;
            if (node.Service is not null) sum++;
            if (node.Caller is not null && node.CallerService is not null) sum++;
            if (node.Callee is not null && node.CalleeService is not null) sum++;
        }

        foreach (var gap in chain.Gaps) sum += gap.Count;
        return sum;
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
        var figures = new Dictionary<int, double>();
        Read(new ProcessStartInfo(command) { RedirectStandardOutput = true }, line =>
        {
            if (Figure().Match(line) is { Success: true } match) figures[Number(match.Groups[1].Value)] = Number(match.Groups[2].Value);
        });
        return figures;

        static int Number(string text) => int.Parse(text, NumberStyles.AllowThousands, CultureInfo.InvariantCulture);
    }

    static void Read(ProcessStartInfo start, Action<string> line)
    {
        using var process = Process.Start(start) ?? throw new InvalidOperationException($"{start.FileName} did not start.");
        while (process.StandardOutput.ReadLine() is { } text)
        {
            Console.Error.WriteLine($"  {text}");
            line(text);
        }

        process.WaitForExit();
        if (process.ExitCode != 0) throw new InvalidOperationException($"{start.FileName} failed with {process.ExitCode}.");
    }

    [GeneratedRegex(@"^\s*([\d,]+) spans a trace:\s+([\d,]+) spans/s")]
    private static partial Regex Figure();
}
