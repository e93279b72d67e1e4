using System.Diagnostics;
using LogTrace.Benchmarks.Children;

namespace LogTrace.Benchmarks.Overhead;

/// <param name="Rounds">Measured rounds of each side; the median counts.</param>
/// <param name="Round">How long one side is under load in a round.</param>
/// <param name="WarmUpRequests">Requests to each side before the measured ones.</param>
/// <param name="Connections">Requests under way at any time.</param>
sealed record OverheadEffort(int Rounds, TimeSpan Round, int WarmUpRequests, int Connections)
{
    public static OverheadEffort Full => new(5, TimeSpan.FromSeconds(10), 400_000, 32);

    public static OverheadEffort Quick => new(3, TimeSpan.FromSeconds(1), 40_000, 32);

    public static OverheadEffort Once => new(1, TimeSpan.FromMilliseconds(50), 0, 4);
}

/// <summary>Requests/s of an ASP.NET Core endpoint with one query and one HTTP call, with the whole instrumentation and without.</summary>
static class OverheadBenchmark
{
    const int WarmUpTurn = 10_000;

    public static void Run(OverheadEffort effort, Report report) => report.Section(
        "What the instrumentation costs an endpoint",
        $"One SQLite query and one HTTP call to an uninstrumented process; {effort.Connections} connections, {effort.Round.TotalSeconds:0.##} s alternating, medians of {effort.Rounds}. 'Without' logs nothing.",
        Requests(effort));

    public static IEnumerable<Comparison> Requests(OverheadEffort effort)
    {
        var folder = Directory.CreateTempSubdirectory("logtrace-bench-").FullName;
        try
        {
            using var callee = new Child(Services.CalleeCommand);
            using var traced = new Child(Services.EndpointCommand, callee.Url, NewFolder(folder, "traced"), "traced");
            using var plain = new Child(Services.EndpointCommand, callee.Url, NewFolder(folder, "plain"), "plain");
            // Until the compiler is through with both. It counts calls, so that is a number of requests and no time; in turns, so that both have the same pauses.
            for (var sent = 0; sent < effort.WarmUpRequests; sent += WarmUpTurn)
            {
                Load(traced, effort.Connections, (_, count) => count < WarmUpTurn / effort.Connections);
                Load(plain, effort.Connections, (_, count) => count < WarmUpTurn / effort.Connections);
            }

            traced.ForgetRounds();
            plain.ForgetRounds();
            var median = Round.Medians(effort.Rounds, () => RequestsPerSecond(traced, effort), () => RequestsPerSecond(plain, effort));
            const string Without = "without instrumentation";
            return
            [
                Comparison.AtLeast("requests", "1/s", median[0], Without, median[1], 0.93),
                new("CPU of the endpoint's process a request, µs", Comparison.Text(traced.CpuMicros), Without, Comparison.Text(plain.CpuMicros), Comparison.Text(traced.CpuMicros / plain.CpuMicros), "", null),
            ];
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    static string NewFolder(string folder, string name) => Directory.CreateDirectory(Path.Combine(folder, name)).FullName;

    static double RequestsPerSecond(Child endpoint, OverheadEffort effort) => Load(endpoint, effort.Connections, (elapsed, _) => elapsed < effort.Round);

    /// <param name="goesOn">Asked by each connection before each request: the time since the beginning and the connection's requests so far.</param>
    static double Load(Child endpoint, int connections, Func<TimeSpan, int, bool> goesOn)
    {
        using var client = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = connections }) { BaseAddress = new Uri(endpoint.Url) };
        var started = Stopwatch.GetTimestamp();
        var counts = Task.WhenAll(Enumerable.Range(0, connections).Select(connection => Task.Run(async () =>
        {
            var count = 0;
            for (; goesOn(Stopwatch.GetElapsedTime(started), count); count++) await client.GetStringAsync($"/orders/{connection * 7919 + count}");
            return count;
        }))).GetAwaiter().GetResult();
        endpoint.EndRound(counts.Sum());
        return counts.Sum() / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }

    /// <summary>One of our processes; it ends when its standard input does.</summary>
    sealed class Child : IDisposable
    {
        readonly Process _process;
        readonly List<double> _cpuMicros = [];
        TimeSpan _cpu;

        public Child(params string[] arguments)
        {
            var start = new ProcessStartInfo("dotnet", [typeof(Services).Assembly.Location, .. arguments]) { RedirectStandardInput = true, RedirectStandardOutput = true };
            // As a web project has it unless it says otherwise.
            start.Environment["DOTNET_gcServer"] = "1";
            _process = Process.Start(start)!;
            var line = _process.StandardOutput.ReadLine();
            if (line is null || !line.StartsWith(Services.Ready, StringComparison.Ordinal)) throw new InvalidOperationException($"'{string.Join(' ', arguments)}' did not start: {line}");
            Url = line[Services.Ready.Length..];
        }

        public string Url { get; }

        /// <summary>CPU time that it took for a request, the median of the measured rounds.</summary>
        public double CpuMicros => Round.Median([.. _cpuMicros.Skip(1)]);

        public void ForgetRounds() => _cpuMicros.Clear();

        public void EndRound(int requests)
        {
            _process.Refresh();
            var cpu = _process.TotalProcessorTime;
            _cpuMicros.Add((cpu - _cpu).TotalMicroseconds / requests);
            _cpu = cpu;
        }

        public void Dispose()
        {
            _process.StandardInput.Close();
            if (!_process.WaitForExit(TimeSpan.FromSeconds(20))) _process.Kill();
            _process.Dispose();
        }
    }
}
