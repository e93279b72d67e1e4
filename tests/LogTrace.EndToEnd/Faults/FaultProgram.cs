using System.CommandLine;
using System.CommandLine.Help;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>
/// <c>./logtrace test --faults</c>: runs rows of the fault matrix with many seeds and writes the table. What passed is remembered in a file, line by line as it happens,
/// so that a run that was broken off goes on where it was.
/// </summary>
static class FaultProgram
{
    static readonly JsonSerializerOptions Json = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    static string Root => Repository.Root;

    static string DefaultResults => Path.Combine(Root, "artifacts", "faults.jsonl");

    static string Table => Path.Combine(Root, "tests", "FAULTS.md");

    public static Task<int> Main(string[] args)
    {
        var rows = new Argument<int[]>("ROW") { Description = "Numbers of the rows to run (default all).", Arity = ArgumentArity.ZeroOrMore };
        var seeds = new Option<int>("--seeds") { HelpName = "N", Description = "How many seeds for each row.", DefaultValueFactory = _ => 20 };
        var from = new Option<int>("--from") { HelpName = "N", Description = "The first seed.", DefaultValueFactory = _ => 1 };
        var on = new Option<string?>("--on") { HelpName = "BROKER", Description = "Only on mock, kafka or kafka3." };
        var isShort = new Option<bool>("--short") { Description = "The short forms, as in the everyday tests; not remembered." };
        var again = new Option<bool>("--again") { Description = "Forget what has passed before." };
        var command = new Command("--faults", "Tries the fault matrix: the shipper, and rsyslog beside it, under faults. Says what was lost, doubled and set aside.") { new HelpOption(), rows, seeds, from, on, isShort, again };
        command.SetAction((parsed, _) => RunAsync(parsed.GetValue(rows)!, parsed.GetValue(from), parsed.GetValue(seeds), parsed.GetValue(on), parsed.GetValue(isShort), parsed.GetValue(again)));
        return command.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
    }

    static async Task<int> RunAsync(int[] numbers, int from, int seeds, string? on, bool isShort, bool again)
    {
        On[]? wanted = on?.ToLowerInvariant() switch { null => null, "mock" => [On.Mock, On.Mock2], "kafka" => [On.Real], "kafka3" => [On.Real3], _ => [] };
        if (wanted is [])
        {
            await Console.Error.WriteLineAsync($"--on is {on}; it must be mock, kafka or kafka3.");
            return 2;
        }

        var rows = FaultMatrix.Rows.Where(row => (numbers.Length == 0 || numbers.Contains(row.Number)) && (wanted is null || wanted.Contains(row.On))).ToList();
        if (numbers.Except(FaultMatrix.Rows.Select(row => row.Number)).ToList() is { Count: > 0 } unknown)
        {
            await Console.Error.WriteLineAsync($"There is no row {string.Join(", ", unknown)}; there are {string.Join(", ", FaultMatrix.Rows.Select(row => row.Number).Distinct())}.");
            return 2;
        }

        if (again && !isShort) File.Delete(DefaultResults);
        var known = Remembered();
        if (RsyslogShipper.Missing is { } reason) Console.WriteLine($"Without rsyslog: {reason}.");
        var failed = 0;
        var brokers = new Dictionary<On, RealBroker>();
        try
        {
            foreach (var row in rows)
            {
                if (row.WhyNot is { } why)
                {
                    Console.WriteLine($"row {row.Key}: not tried, {why}");
                    continue;
                }

                for (var seed = from; seed < from + (row.IsOnce ? 1 : seeds); seed++)
                {
                    if (!isShort && known.Any(it => it.Row == row.Key && it.Seed == seed && it.Passed))
                    {
                        Console.WriteLine($"row {row.Key}, seed {seed}: passed before");
                        continue;
                    }

                    Console.Write($"row {row.Key}, seed {seed}: ");
                    var outcome = row.On == On.Tests ? await TestsAsync(row, seed) : await FaultMatrix.RunAsync(row, seed, isShort, await BrokerAsync(row.On, brokers), withPeer: true);
                    Console.WriteLine(Describe(outcome));
                    if (!outcome.Passed) failed++;
                    if (isShort) continue;
                    await File.AppendAllTextAsync(DefaultResults, JsonSerializer.Serialize(outcome, Json) + "\n");
                    // Written each time: who breaks off has the table so far.
                    await File.WriteAllTextAsync(Table, Markdown(Remembered()));
                    // They are the same for every seed.
                    if (row.On == On.Tests) break;
                }
            }
        }
        finally
        {
            foreach (var broker in brokers.Values) await broker.DisposeAsync();
        }

        Console.WriteLine(failed == 0 ? "Everything held." : $"{failed} did not hold.");
        return failed == 0 ? 0 : 1;
    }

    static async Task<FaultBroker?> BrokerAsync(On on, Dictionary<On, RealBroker> brokers)
    {
        if (on is not (On.Real or On.Real3)) return null;
        if (!brokers.TryGetValue(on, out var broker)) brokers[on] = broker = await RealBroker.StartAsync(on == On.Real ? "kafka" : "kafka3");
        // A row that failed may have left it dead.
        await broker.ComeBackAsync();
        return broker;
    }

    static async Task<FaultOutcome> TestsAsync(FaultRow row, int seed)
    {
        var watch = Stopwatch.StartNew();
        var start = new ProcessStartInfo("dotnet", ["test", Path.Combine(Root, "artifacts", "bin", "LogTrace.Tests", "release", "LogTrace.Tests.dll"), "--filter", $"Fault={row.Number}"]) { RedirectStandardOutput = true };
        start.Environment["LOGTRACE_TEST_SEED"] = seed.ToString(CultureInfo.InvariantCulture);
        using var process = Process.Start(start)!;
        var output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        var summary = output.Split('\n').LastOrDefault(line => line.Contains("Passed:", StringComparison.Ordinal))?.Trim();
        var passed = process.ExitCode == 0 && summary is not null;
        return new FaultOutcome(row.Key, seed, passed, watch.Elapsed.TotalSeconds, null, null, passed ? System.Text.RegularExpressions.Regex.Replace(summary!, @".*Passed:\s+(\d+),.*", "$1 tests") : output);
    }

    static List<FaultOutcome> Remembered() =>
        File.Exists(DefaultResults) ? [.. File.ReadLines(DefaultResults).Select(line => JsonSerializer.Deserialize<FaultOutcome>(line)!)] : [];

    static string Describe(FaultOutcome outcome)
    {
        var text = new StringBuilder(outcome.Passed ? "held" : "DID NOT HOLD");
        text.Append(CultureInfo.InvariantCulture, $" in {outcome.Seconds:F0} s");
        if (outcome.Figures is { } figures) text.Append(CultureInfo.InvariantCulture, $"; {figures.Written:N0} lines, lost {figures.Lost:N0}, doubled {figures.Doubled:N0}, sent again {figures.SentAgain:N0}, set aside {figures.SetAside:N0}");
        if (outcome.Rsyslog is { } theirs) text.Append(CultureInfo.InvariantCulture, $"; rsyslog lost {theirs.Lost:N0}, doubled {theirs.Doubled:N0}");
        // A transcript may be long, and its end says most.
        if (outcome.Says.Length > 0) text.Append("; ").Append(outcome.Says.Length <= 4_000 ? outcome.Says : $"{outcome.Says[..1_000]}\n...\n{outcome.Says[^3_000..]}");
        return text.ToString();
    }

    /// <summary>The table of everything that is remembered; a row's last outcome with a seed counts.</summary>
    static string Markdown(List<FaultOutcome> outcomes)
    {
        var text = new StringBuilder(string.Create(CultureInfo.InvariantCulture, $"""
            # The fault matrix

            Written by `./logtrace test --faults`; {DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC, {Environment.ProcessorCount} cores, {RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}.

            *Lost*: neither in the topic nor set aside. *Doubled*: in the topic as two different records, which a store would keep both; rsyslog gives its messages no identity, so each repeated
            one counts. *Sent again*: messages beyond one for each line, which the store recognises. Sums over all seeds. rsyslog: Debian's, the same lines, faults and moments.

            | row | fault | on | seeds held | lines | lost | doubled | sent again | rsyslog lost | doubled | seen |
            |---|---|---|---|---|---|---|---|---|---|---|

            """));
        foreach (var row in FaultMatrix.Rows)
        {
            var tried = outcomes.Where(outcome => outcome.Row == row.Key).GroupBy(outcome => outcome.Seed).Select(group => group.Last()).OrderBy(outcome => outcome.Seed).ToList();
            if (tried.Count == 0) continue;
            var (ours, theirs) = (tried.Select(it => it.Figures).OfType<FaultFigures>().ToList(), tried.Select(it => it.Rsyslog).OfType<FaultFigures>().ToList());
            string Sum(List<FaultFigures> of, Func<FaultFigures, int> what) => of.Count == 0 ? "" : of.Sum(it => (long)what(it)).ToString("N0", CultureInfo.InvariantCulture);
            var says = tried[^1].Passed ? tried[^1].Says.Split('\n')[0] : "DID NOT HOLD, see the output";
            text.Append(CultureInfo.InvariantCulture,
                $"| {row.Number} | {row.Fault}{(row.MustHold.Length > 0 ? $" ({row.MustHold})" : "")} | {row.Broker} | {tried.Count(it => it.Passed)} of {tried.Count} | {Sum(ours, it => it.Written)} | {Sum(ours, it => it.Lost)} | {Sum(ours, it => it.Doubled)} | {Sum(ours, it => it.SentAgain)} | {Sum(theirs, it => it.Lost)} | {Sum(theirs, it => it.Doubled)} | {says.Replace("|", "/", StringComparison.Ordinal)} |\n");
        }

        return text.ToString();
    }
}
