using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;
using LogTrace.Benchmarks.Shipper;
using LogTrace.Transport;

namespace LogTrace.Benchmarks.Visible;

/// <param name="Requests">Requests to the shop while records are sampled, and as many before that which only warm up.</param>
/// <param name="Rate">Requests a second.</param>
sealed record VisibleEffort(int Requests, int Rate)
{
    public static readonly VisibleEffort Full = new(600, 30);
    public static readonly VisibleEffort Quick = new(150, 30);
}

/// <summary>
/// How long it takes from a line in a log file to its record in the viewer: the sample shop under load, the product as the processes that a user starts (<c>run</c>; <c>ship</c> and
/// <c>index</c> over a real Kafka and Elasticsearch 7.10.2), and a few who ask the viewer's API for a record that has just been written until it is there.
/// </summary>
sealed partial class VisibleBenchmark : IDisposable
{
    // Enough to sample some hundreds of records, and so few that they are no load of their own: each time somebody asks, Elasticsearch has to make visible what was written since.
    const int Watchers = 4;
    static readonly TimeSpan AskEvery = TimeSpan.FromMilliseconds(40);
    static readonly TimeSpan LookEvery = TimeSpan.FromMilliseconds(4);
    static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    readonly VisibleEffort _effort;
    readonly string _root;
    readonly string _folder = Directory.CreateTempSubdirectory("logtrace-bench-").FullName;
    readonly HttpClient _http = new() { Timeout = TimeSpan.FromSeconds(30) };
    readonly List<MeasuredProcess> _processes = [];

    VisibleBenchmark(VisibleEffort effort, string root) => (_effort, _root) = (effort, root);

    string Logs => Path.Combine(_folder, "logs");

    string Glob => Path.Combine(Logs, "**", "*.log");

    public static async Task RunAsync(VisibleEffort effort, Report report)
    {
        var root = Report.Checkout ?? throw new InvalidOperationException("bench visible needs a checkout: it runs ./logtrace run, ship, index and shop.");
        var rows = new List<Comparison>();
        using (var embedded = new VisibleBenchmark(effort, root)) Add("embedded", 1_000, await embedded.EmbeddedAsync().ConfigureAwait(false));
        using (var kafka = OwnServer.Start("kafka"))
        using (var elasticsearch = OwnServer.Start("elasticsearch7", "--heap", "1g"))
        {
            if (kafka is null || elasticsearch is null) Console.Error.WriteLine("Only the embedded pipeline: the servers in ../shared/engines are missing.");
            else using (var full = new VisibleBenchmark(effort, root)) Add("Kafka + Elasticsearch", 3_000, await full.FullAsync(kafka, elasticsearch).ConfigureAwait(false));
        }

        report.Section(
            "From the file to the viewer",
            $"The sample shop under {effort.Rate} requests a second, {effort.Requests} of them, after a first run of as many that only warms up; shop, pipeline, servers and those who ask share the machine. From the last look at the file that did not see the line (every {LookEvery.TotalMilliseconds:0} ms) to the answer of the viewer's /api/chains/ID that has the record (asked {AskEvery.TotalMilliseconds:0} ms after each answer, by {Watchers} at once).",
            rows);

        void Add(string what, double bar, Seen seen)
        {
            if (seen.Millis.Count == 0) throw new InvalidOperationException($"{what}: the shop wrote nothing that could be sampled.");
            Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{what}: {seen.Millis.Count} records, half after {At(seen.Millis, 0.5):F0} ms, 99 of 100 after {At(seen.Millis, 0.99):F0} ms, all after {seen.Millis[^1]:F0} ms"));
            rows.Add(Comparison.Alone($"{what}: records sampled of {seen.Lines.ToString("N0", CultureInfo.InvariantCulture)}", "records", seen.Millis.Count));
            rows.Add(Comparison.Alone($"{what}: half are visible after", "ms", At(seen.Millis, 0.5)));
            rows.Add(Comparison.NoMoreThan($"{what}: 99 of 100 are visible after", "ms", At(seen.Millis, 0.99), bar));
            rows.Add(Comparison.Alone($"{what}: all are visible after", "ms", seen.Millis[^1]));
        }
    }

    static double At(List<double> sorted, double share) => sorted[Math.Min(sorted.Count - 1, (int)Math.Ceiling(share * sorted.Count) - 1)];

    async Task<Seen> EmbeddedAsync()
    {
        var run = Start("run", Glob, "--data", Path.Combine(_folder, "run"), "--port", "0");
        return await SampleAsync((await SaysAsync(run, "run", ViewerLine()).ConfigureAwait(false)).Groups[1].Value).ConfigureAwait(false);
    }

    async Task<Seen> FullAsync(OwnServer kafka, OwnServer elasticsearch)
    {
        var topic = new KafkaOptions { Brokers = kafka.Address, Topic = "visible" };
        await KafkaTopic.EnsureAsync(topic).ConfigureAwait(false);
        var index = Start("index", "--kafka", kafka.Address, "--topic", topic.Topic, "--elasticsearch", elasticsearch.Address, "--data", Path.Combine(_folder, "index"), "--port", "0");
        var viewer = (await SaysAsync(index, "index", ViewerLine()).ConfigureAwait(false)).Groups[1].Value;
        var ship = Start("ship", Glob, "--kafka", kafka.Address, "--topic", topic.Topic, "--data", Path.Combine(_folder, "ship"));
        await SaysAsync(ship, "ship", ShippingLine()).ConfigureAwait(false);
        return await SampleAsync(viewer).ConfigureAwait(false);
    }

    /// <summary>Puts the load on twice and samples: the first time everybody wakes up, and what that held up has to be through before the second begins.</summary>
    async Task<Seen> SampleAsync(string viewer)
    {
        Directory.CreateDirectory(Logs);
        var watch = new LineWatch(Logs);
        await SampleAsync(viewer, "warm", watch).ConfigureAwait(false);
        return await SampleAsync(viewer, "shop", watch).ConfigureAwait(false);
    }

    async Task<Seen> SampleAsync(string viewer, string run, LineWatch watch)
    {
        var before = watch.Count;
        var shop = StartAs(run, "shop", "all", "--logs", Path.Combine(Logs, run), "--data", Path.Combine(_folder, run), "--port", "0", "--seed", "1", "--rate", $"{_effort.Rate}", "--requests", $"{_effort.Requests}");
        var random = new Random(1);
        var waiting = new List<Task<double>>();
        var millis = new List<double>();
        SeenLine? last = null;
        for (var hasEnded = false; !hasEnded;)
        {
            // Once more after its end, and then no more.
            hasEnded = shop.HasEnded;
            var lines = watch.Look();
            if (lines.Count > 0) last = lines[^1];
            foreach (var seen in waiting.FindAll(task => task.IsCompleted))
            {
                waiting.Remove(seen);
                millis.Add(await seen.ConfigureAwait(false));
            }

            // One of those that came this moment for each who is free.
            while (lines.Count > 0 && waiting.Count < Watchers)
            {
                var line = lines[random.Next(lines.Count)];
                lines.Remove(line);
                waiting.Add(VisibleAsync(viewer, line));
            }

            await Task.Delay(LookEvery).ConfigureAwait(false);
        }

        shop.End();
        millis.AddRange(await Task.WhenAll(waiting).ConfigureAwait(false));
        if (last is { } newest) await VisibleAsync(viewer, newest).ConfigureAwait(false);
        millis.Sort();
        return new Seen(millis, watch.Count - before);
    }

    /// <summary>Asks for the record's chain until the record is in it.</summary>
    async Task<double> VisibleAsync(string viewer, SeenLine line)
    {
        var position = Encoding.UTF8.GetBytes($"\"position\":\"{line.Path}:{line.Offset}\"");
        while (true)
        {
            using (var answer = await _http.GetAsync($"{viewer}/api/chains/{line.TraceId}").ConfigureAwait(false))
            {
                var body = await answer.Content.ReadAsByteArrayAsync().ConfigureAwait(false);
                var took = Stopwatch.GetElapsedTime(line.Since);
                if (answer.StatusCode == HttpStatusCode.OK && body.AsSpan().IndexOf(position) >= 0) return took.TotalMilliseconds;
                if (answer.StatusCode is not (HttpStatusCode.OK or HttpStatusCode.NotFound)) throw new InvalidOperationException($"The viewer answers {(int)answer.StatusCode}: {Encoding.UTF8.GetString(body)}");
                if (took > Patience) throw new InvalidOperationException($"{line.Path}:{line.Offset} of trace {line.TraceId} never came to the viewer.");
            }

            await Task.Delay(AskEvery).ConfigureAwait(false);
        }
    }

    MeasuredProcess Start(string command, params string[] arguments) => StartAs(command, command, arguments);

    MeasuredProcess StartAs(string name, string command, params string[] arguments)
    {
        var process = MeasuredProcess.Start(Output(name), Path.Combine(_root, "logtrace"), [command, .. arguments]);
        _processes.Add(process);
        return process;
    }

    string Output(string name) => Path.Combine(_folder, name + ".out");

    /// <summary>Waits until a program has said something; the first one may have to be built before it speaks.</summary>
    async Task<Match> SaysAsync(MeasuredProcess process, string command, Regex what)
    {
        for (var watch = Stopwatch.StartNew(); ; await Task.Delay(20).ConfigureAwait(false))
        {
            var said = File.Exists(Output(command)) ? await File.ReadAllTextAsync(Output(command)).ConfigureAwait(false) : "";
            if (what.Match(said) is { Success: true } match) return match;
            if (process.HasEnded || watch.Elapsed > Patience) throw new InvalidOperationException($"./logtrace {command} does not say {what}:\n{said}");
        }
    }

    [GeneratedRegex(@"viewer at (http://[^,\s]+)[,\s]")]
    private static partial Regex ViewerLine();

    [GeneratedRegex("Shipping ")]
    private static partial Regex ShippingLine();

    public void Dispose()
    {
        // The indexer first: what it has open is of no use any more.
        foreach (var process in _processes) process.Dispose();
        _http.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <param name="Millis">Of each sampled record, least first.</param>
    /// <param name="Lines">All lines of that time.</param>
    sealed record Seen(List<double> Millis, long Lines);
}
