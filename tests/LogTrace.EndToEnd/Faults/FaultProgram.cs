using System.CommandLine;
using System.CommandLine.Help;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>
/// <c>./logtrace test --faults</c>: runs rows of the fault matrix with many seeds and writes the table. What was seen is remembered in a committed file as it happens, so that a run
/// that was broken off, or is made anew from another checkout, goes on where it was.
/// </summary>
static class FaultProgram
{
    static string Root => Repository.Root;

    static readonly FaultResults Results = new(Path.Combine(Root, "tests", "faults.jsonl"), Path.Combine(Root, "tests", "FAULTS.md"), Path.Combine(Root, "artifacts", "faults.lock"));

    public static Task<int> Main(string[] args)
    {
        var rows = new Argument<int[]>("ROW") { Description = "Numbers of the rows to run (default all).", Arity = ArgumentArity.ZeroOrMore };
        var seeds = new Option<int>("--seeds") { HelpName = "N", Description = "How many seeds for each row; with 0 only the table is written again.", DefaultValueFactory = _ => 20 };
        var from = new Option<int>("--from") { HelpName = "N", Description = "The first seed.", DefaultValueFactory = _ => 1 };
        var on = new Option<string?>("--on") { HelpName = "BROKER", Description = "Only on mock, kafka or kafka3, or only those that are tests." };
        var fault = new Option<string?>("--fault") { HelpName = "TEXT", Description = "Only rows whose fault has TEXT in it, such as hung." };
        var alone = new Option<bool>("--alone") { Description = "Without rsyslog, which takes as long again." };
        var isShort = new Option<bool>("--short") { Description = "The short forms, as in the everyday tests; not remembered." };
        var again = new Option<bool>("--again") { Description = "Also what has held before; its new outcome takes the place of the old one." };
        var command = new Command("--faults", "Tries the fault matrix: shipper and indexer, and rsyslog beside them, under faults. Says what was lost, doubled and set aside. What was seen is remembered in tests/faults.jsonl, the table is tests/FAULTS.md; several may run side by side.") { new HelpOption(), rows, seeds, from, on, fault, alone, isShort, again };
        command.SetAction((parsed, _) => RunAsync(parsed.GetValue(rows)!, parsed.GetValue(from), parsed.GetValue(seeds), parsed.GetValue(on), parsed.GetValue(fault), parsed.GetValue(alone), parsed.GetValue(isShort), parsed.GetValue(again)));
        return command.Parse(args).InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
    }

    static async Task<int> RunAsync(int[] numbers, int from, int seeds, string? on, string? fault, bool alone, bool isShort, bool again)
    {
        On[]? wanted = on?.ToLowerInvariant() switch { null => null, "mock" => [On.Mock, On.Mock2], "kafka" => [On.Real], "kafka3" => [On.Real3], "tests" => [On.Tests], _ => [] };
        if (wanted is [])
        {
            await Console.Error.WriteLineAsync($"--on is {on}; it must be mock, kafka, kafka3 or tests.");
            return 2;
        }

        var rows = FaultMatrix.Rows.Where(row => (numbers.Length == 0 || numbers.Contains(row.Number)) && (wanted is null || wanted.Contains(row.On)) && (fault is null || row.Fault.Contains(fault, StringComparison.OrdinalIgnoreCase))).ToList();
        if (numbers.Except(FaultMatrix.Rows.Select(row => row.Number)).ToList() is { Count: > 0 } unknown)
        {
            await Console.Error.WriteLineAsync($"There is no row {string.Join(", ", unknown)}; there are {string.Join(", ", FaultMatrix.Rows.Select(row => row.Number).Distinct())}.");
            return 2;
        }

        ProgramProcess.PrefersAhead = true;
        var (date, commit) = (DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture), Commit());
        if (!isShort) Results.WriteTable();
        if (!alone && Rsyslog.Missing is { } reason) Console.WriteLine($"Without rsyslog: {reason}.");
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

                for (var seed = from; seed < from + (row.IsOnce ? Math.Min(seeds, 1) : seeds); seed++)
                {
                    if (!isShort && !again && Results.HasPassed(row, seed))
                    {
                        Console.WriteLine($"row {row.Key}, seed {seed}: passed before");
                        continue;
                    }

                    Console.Write($"row {row.Key}, seed {seed}: ");
                    var outcome = row.On == On.Tests ? await TestsAsync(row, seed) : await FaultMatrix.RunAsync(row, seed, isShort, await BrokerAsync(row, brokers), withPeer: !alone);
                    Console.WriteLine(Describe(outcome));
                    if (!outcome.Passed) failed++;
                    if (isShort) continue;
                    Results.Add(outcome with { Date = date, Commit = commit });
                    if (!outcome.Passed) await KeepAsync(row, outcome);
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

    static async Task<FaultBroker?> BrokerAsync(FaultRow row, Dictionary<On, RealBroker> brokers)
    {
        if (row.On is not (On.Real or On.Real3)) return null;
        if (row.LeavesBroker) return new SharedBroker(await RealEngines.KafkaAsync());
        if (!brokers.TryGetValue(row.On, out var broker)) brokers[row.On] = broker = await RealBroker.StartAsync(row.On == On.Real ? "kafka" : "kafka3");
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

    /// <summary>All that is known of a failure, for whoever looks into it.</summary>
    static async Task KeepAsync(FaultRow row, FaultOutcome outcome)
    {
        var folder = Directory.CreateDirectory(Path.Combine(Root, "artifacts", "faults")).FullName;
        var path = Path.Combine(folder, $"row{row.Number}-{row.Broker.Replace(" ", "", StringComparison.Ordinal)}-seed{outcome.Seed}-{DateTime.UtcNow:HHmmss}.txt");
        await File.WriteAllTextAsync(path, $"{row.Key}, seed {outcome.Seed}\n{outcome.Says}\n");
        Console.WriteLine($"All that is known of it: {path}");
    }

    /// <summary>The newest change of what is under test, and whether there are others that are not committed.</summary>
    static string Commit()
    {
        string[] program = ["--", "logger", "shipper", "indexer"];
        return Git(["log", "-1", "--format=%h", .. program]) is { Length: > 0 } commit ? commit + (Git(["status", "--porcelain", .. program]) is { Length: > 0 } ? "+" : "") : "unknown";
    }

    static string? Git(string[] arguments)
    {
        try
        {
            using var git = Process.Start(new ProcessStartInfo("git", arguments) { WorkingDirectory = Root, RedirectStandardOutput = true, RedirectStandardError = true })!;
            var output = git.StandardOutput.ReadToEnd();
            git.WaitForExit();
            return git.ExitCode == 0 ? output.Trim() : null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            // A checkout without git.
            return null;
        }
    }

    static string Describe(FaultOutcome outcome)
    {
        var text = new StringBuilder(outcome.Passed ? "held" : "DID NOT HOLD");
        text.Append(CultureInfo.InvariantCulture, $" in {outcome.Seconds:F0} s");
        if (outcome.Figures is { } figures) text.Append(CultureInfo.InvariantCulture, $"; {figures.Written:N0} lines, lost {figures.Lost:N0}, doubled {figures.Doubled:N0}{(figures.SentAgain is { } again ? $", sent again {again:N0}" : "")}, set aside {figures.SetAside:N0}");
        if (outcome.Rsyslog is { } theirs) text.Append(CultureInfo.InvariantCulture, $"; rsyslog lost {theirs.Lost:N0}, doubled {theirs.Doubled:N0}");
        // A transcript may be long, and its end says most.
        if (outcome.Says.Length > 0) text.Append("; ").Append(outcome.Says.Length <= 4_000 ? outcome.Says : $"{outcome.Says[..1_000]}\n...\n{outcome.Says[^3_000..]}");
        return text.ToString();
    }
}
