using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>What became of one row with one seed.</summary>
/// <param name="Row">The row's key.</param>
/// <param name="Seed">The seed.</param>
/// <param name="Passed">Everything held.</param>
/// <param name="Seconds">How long it took, rsyslog's part included.</param>
/// <param name="Figures">Ours.</param>
/// <param name="Rsyslog">The peer's, where it was put through the same.</param>
/// <param name="Says">What else was seen, or why it did not hold.</param>
sealed record FaultOutcome(string Row, int Seed, bool Passed, double Seconds, FaultFigures? Figures, FaultFigures? Rsyslog, string Says)
{
    /// <summary>Day on which it was seen.</summary>
    public string Date { get; init; } = "";

    /// <summary>The newest change of the program that it was seen with; <c>+</c> for one that is not committed.</summary>
    public string Commit { get; init; } = "";
}

/// <summary>Sums over several seeds of a row, of which the single outcomes were not kept.</summary>
/// <param name="Row">The row's key.</param>
/// <param name="Tried">With how many seeds; <c>--faults</c> counts them from 1.</param>
/// <param name="Held">With how many of them everything held.</param>
/// <param name="Sums">Ours.</param>
/// <param name="Rsyslog">The peer's.</param>
/// <param name="Says">What else the last of them said.</param>
/// <param name="Date">Day on which the last of them was seen.</param>
/// <param name="Commit">The commit whose table had them first.</param>
sealed record FaultSummary(string Row, int Tried, int Held, FaultSums? Sums, FaultSums? Rsyslog, string Says, string Date, string Commit);

/// <summary>Figures of several seeds together; null where none were kept.</summary>
/// <param name="Seeds">Of how many, where those are not all that were tried.</param>
sealed record FaultSums(long? Written, long? Lost, long? Doubled, long? SentAgain, int? Seeds = null)
{
    public static FaultSums? Of(IReadOnlyCollection<FaultFigures> figures, int tried) =>
        figures.Count == 0 ? null : new(figures.Sum(it => (long)it.Written), figures.Sum(it => (long)it.Lost), figures.Sum(it => (long)it.Doubled), figures.Any(it => it.SentAgain is null) ? null : figures.Sum(it => (long)it.SentAgain!), figures.Count == tried ? null : figures.Count);
}

/// <summary>
/// What was seen of the fault matrix so far: a file of one line an outcome, and the table made of it, both committed. Several runs may add to it at once. Of one row and seed
/// the last outcome counts; lines that are sums over seeds stay until their row has been seen with all those seeds again.
/// </summary>
sealed class FaultResults(string file, string table, string lockFile)
{
    // Whoever reads them wants the reason, not the whole transcript.
    const int MostText = 1_500;

    static readonly JsonSerializerOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull };

    public bool HasPassed(FaultRow row, int seed) => Outcomes(Read()).Any(outcome => outcome.Row == row.Key && outcome.Seed == seed && outcome.Passed);

    /// <summary>Adds an outcome, in place of an earlier one of the same row and seed, and writes the table again.</summary>
    public void Add(FaultOutcome outcome)
    {
        using var ours = Lock();
        var lines = Read();
        lines.RemoveAll(line => line is FaultOutcome it && it.Row == outcome.Row && it.Seed == outcome.Seed);
        // Where the checkout lies says nothing, and is nobody's business.
        lines.Add(outcome with { Says = Shortened(outcome.Says.Replace(Repository.Root + Path.DirectorySeparatorChar, "", StringComparison.Ordinal)) });
        // In the order of the rows, so that what two people add can be merged; rows that are no more stay at the end.
        var order = FaultMatrix.Rows.Select((row, i) => (row.Key, i)).ToDictionary(it => it.Key, it => it.i);
        lines = [.. lines.OrderBy(line => order.GetValueOrDefault(RowOf(line), int.MaxValue)).ThenBy(line => line is FaultOutcome it ? it.Seed : 0)];
        // Whoever breaks off has all of it so far, and never half a line.
        Replace(file, string.Concat(lines.Select(line => JsonSerializer.Serialize(line, line.GetType(), Json) + "\n")));
        Replace(table, Markdown(lines));
    }

    /// <summary>Writes the table again, for a file that was merged by hand.</summary>
    public void WriteTable()
    {
        using var ours = Lock();
        Replace(table, Markdown(Read()));
    }

    List<object> Read()
    {
        if (!File.Exists(file)) return [];
        var lines = new List<object>();
        foreach (var text in File.ReadLines(file))
        {
            try
            {
                using var line = JsonDocument.Parse(text);
                lines.Add(line.RootElement.TryGetProperty(nameof(FaultSummary.Tried), out _) ? line.Deserialize<FaultSummary>()! : line.Deserialize<FaultOutcome>()!);
            }
            catch (JsonException e)
            {
                throw new InvalidDataException($"{file}, line {lines.Count + 1}: {e.Message}", e);
            }
        }

        return lines;
    }

    static IEnumerable<FaultOutcome> Outcomes(List<object> lines) => lines.OfType<FaultOutcome>();

    static string RowOf(object line) => line is FaultOutcome outcome ? outcome.Row : ((FaultSummary)line).Row;

    /// <summary>Frees itself when its process dies.</summary>
    FileStream Lock()
    {
        for (var attempt = 1; ; attempt++)
        {
            try
            {
                return new FileStream(lockFile, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (attempt < 1_000)
            {
                Thread.Sleep(20);
            }
        }
    }

    static void Replace(string path, string text)
    {
        File.WriteAllText(path + ".new", text);
        File.Move(path + ".new", path, overwrite: true);
    }

    /// <summary>Its beginning, and its end, which says most of a transcript.</summary>
    static string Shortened(string text) => text.Length <= MostText ? text : $"{text[..(MostText / 3)]}\n...\n{text[^(MostText / 3 * 2)..]}";

    static string Markdown(List<object> lines)
    {
        var text = new StringBuilder(string.Create(CultureInfo.InvariantCulture, $"""
            # The fault matrix

            Written by `./logtrace test --faults` out of [faults.jsonl](faults.jsonl), one line an outcome; {Environment.ProcessorCount} cores, {RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}.

            *Lost*: neither in the topic (rows of the indexer: in the store) nor set aside. *Doubled*: there as two different records, which a store would keep both; rsyslog gives its messages no identity, so each
            repeated one counts. *Sent again*: messages beyond one for each line, which the store recognises. Sums over all seeds. rsyslog: Debian's, the same lines, faults and moments.
            *When*: the days, and the newest changes of the program under test. *Summary*: the single outcomes were not kept, the sums are those of that commit's table.

            | row | fault | on | seeds held | lines | lost | doubled | sent again | rsyslog lost | doubled | seen | when |
            |---|---|---|---|---|---|---|---|---|---|---|---|

            """));
        foreach (var row in FaultMatrix.Rows)
        {
            var tried = Outcomes(lines).Where(outcome => outcome.Row == row.Key).OrderBy(outcome => outcome.Seed).ToList();
            foreach (var summary in lines.OfType<FaultSummary>().Where(it => it.Row == row.Key))
            {
                // Seen again one by one: it would count them twice.
                if (Enumerable.Range(1, summary.Tried).All(seed => tried.Any(outcome => outcome.Seed == seed))) continue;
                Line(text, row, $"{summary.Held} of {summary.Tried}", summary.Sums, summary.Rsyslog, summary.Says, $"{summary.Date}, {summary.Commit}, summary");
            }

            if (tried.Count == 0) continue;
            var failed = tried.Where(it => !it.Passed).Select(it => it.Seed).ToList();
            Line(text, row, $"{tried.Count - failed.Count} of {tried.Count}{(tried[0].Seed == 1 && tried[^1].Seed == tried.Count ? "" : $" ({Ranges(tried.Select(it => it.Seed))})")}",
                FaultSums.Of([.. tried.Select(it => it.Figures).OfType<FaultFigures>()], tried.Count), FaultSums.Of([.. tried.Select(it => it.Rsyslog).OfType<FaultFigures>()], tried.Count),
                failed.Count > 0 ? $"DID NOT HOLD with seed {Ranges(failed)}, see faults.jsonl" : tried[^1].Says.Split('\n')[0],
                $"{string.Join(" to ", ((string[])[tried.Min(it => it.Date)!, tried.Max(it => it.Date)!]).Distinct())}, {string.Join(", ", tried.Select(it => it.Commit).Distinct())}");
        }

        return text.ToString();
    }

    static void Line(StringBuilder text, FaultRow row, string held, FaultSums? ours, FaultSums? theirs, string says, string when)
    {
        static string Number(long? number) => number is { } it ? it.ToString("N0", CultureInfo.InvariantCulture) : "";
        string[] cells =
        [
            $"{row.Number}", $"{row.Fault}{(row.MustHold.Length > 0 ? $" ({row.MustHold})" : "")}", row.Broker, held, Number(ours?.Written), Number(ours?.Lost), Number(ours?.Doubled), Number(ours?.SentAgain),
            Number(theirs?.Lost) + (theirs?.Seeds is { } seeds ? $" ({seeds} seed{(seeds == 1 ? "" : "s")})" : ""), Number(theirs?.Doubled), says.Replace("|", "/", StringComparison.Ordinal), when,
        ];
        text.Append("| ").AppendJoin(" | ", cells).Append(" |\n");
    }

    /// <summary>1-4, 7.</summary>
    static string Ranges(IEnumerable<int> numbers)
    {
        var ranges = new List<(int From, int To)>();
        foreach (var number in numbers.Order())
        {
            if (ranges.Count > 0 && ranges[^1].To == number - 1) ranges[^1] = (ranges[^1].From, number);
            else ranges.Add((number, number));
        }

        return string.Join(", ", ranges.Select(it => it.From == it.To ? $"{it.From}" : $"{it.From}-{it.To}"));
    }
}
