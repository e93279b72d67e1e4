using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace LogTrace.Benchmarks;

/// <summary>One line of a report: two sides measured in one run, their ratio, and the ratio that is asked for.</summary>
/// <param name="What">What was measured, with its unit.</param>
/// <param name="Ours">LogTrace's figure.</param>
/// <param name="OtherName">What it is compared with.</param>
/// <param name="Other">The other side's figure.</param>
/// <param name="Ratio">What the bar is about: ours / other unless <paramref name="What"/> says otherwise.</param>
/// <param name="Bar">The bar in words, such as <c>at most 0.20</c>; empty when there is none.</param>
/// <param name="IsMet">Whether the bar is met; null when there is none.</param>
sealed record Comparison(string What, string Ours, string OtherName, string Other, string Ratio, string Bar, bool? IsMet)
{
    public static Comparison AtMost(string what, string unit, double ours, string otherName, double other, double bar) =>
        new($"{what}, {unit}", Text(ours), otherName, Text(other), Text(ours / other), $"at most {Text(bar)}", ours / other <= bar);

    public static Comparison AtLeast(string what, string unit, double ours, string otherName, double other, double bar) =>
        new($"{what}, {unit}", Text(ours), otherName, Text(other), Text(ours / other), $"at least {Text(bar)}", ours / other >= bar);

    public static Comparison NoMoreThan(string what, string unit, double ours, double bar) =>
        new($"{what}, {unit}", Text(ours), "", "", "", $"at most {Text(bar)}", ours <= bar);

    /// <summary>A figure to know, with no bar.</summary>
    public static Comparison Alone(string what, string unit, double ours) => new($"{what}, {unit}", Text(ours), "", "", "", "", null);

    public static string Text(double value) => value.ToString(Math.Abs(value) >= 1000 ? "N0" : Math.Abs(value) >= 10 ? "0.#" : "0.##", CultureInfo.InvariantCulture);
}

/// <summary>Prints comparisons and keeps them as markdown.</summary>
sealed class Report(string title)
{
    readonly StringBuilder _text = new(Head(title));

    /// <summary>Where the figures lie that are under version control; null when this does not run from a checkout.</summary>
    public static string? CommittedResults => Checkout is { } root ? Path.Combine(root, "tests", "LogTrace.Benchmarks", "results") : null;

    /// <summary>A program to compare with, or a file of public data, kept in the folder shared beside the checkout; null when it is not there.</summary>
    public static string? Shared(string name) => Checkout is { } root && Path.Combine(root, "..", "shared", name) is var path && File.Exists(path) ? path : null;

    /// <summary>Root of the checkout that this runs from; null when it does not.</summary>
    public static string? Checkout
    {
        get
        {
            for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            {
                if (File.Exists(Path.Combine(folder.FullName, "LogTrace.sln"))) return folder.FullName;
            }

            return null;
        }
    }

    public bool AllMet { get; private set; } = true;

    public string Markdown => _text.ToString();

    public void Section(string heading, string how, IEnumerable<Comparison> comparisons)
    {
        var rows = comparisons.ToList();
        var cells = rows.Select(row => new[] { row.What, row.Ours, row.OtherName, row.Other, row.Ratio, row.Bar, row.IsMet switch { true => "yes", false => "NO", _ => "" } })
            .Prepend(["measured", "LogTrace", "compared with", "there", "ratio", "bar", "met"]).ToList();
        AllMet &= rows.All(row => row.IsMet != false);
        Print(heading, how, cells);
    }

    void Print(string heading, string how, List<string[]> cells)
    {
        var widths = Enumerable.Range(0, cells[0].Length).Select(column => cells.Max(row => row[column].Length)).ToArray();
        var text = new StringBuilder($"\n## {heading}\n\n{how}\n\n");
        for (var row = 0; row < cells.Count; row++)
        {
            text.AppendLine($"| {string.Join(" | ", cells[row].Select((cell, column) => cell.PadRight(widths[column])))} |");
            if (row == 0) text.AppendLine($"|{string.Join('|', widths.Select(width => new string('-', width + 2)))}|");
        }

        _text.Append(text);
        Console.Write(text);
    }

    /// <summary>A table of any figures; <paramref name="isMet"/> says whether they hold what is asked for.</summary>
    public void Table(string heading, string how, IReadOnlyList<string> columns, IReadOnlyList<string[]> rows, bool isMet = true)
    {
        AllMet &= isMet;
        Print(heading, how, [[.. columns], .. rows]);
    }

    public void Save(string folder, string name)
    {
        Directory.CreateDirectory(folder);
        var path = Path.Combine(folder, name + ".md");
        File.WriteAllText(path, Markdown);
        Console.WriteLine($"\nwritten to {path}");
    }

    static string Head(string title) => string.Create(CultureInfo.InvariantCulture, $"""
        # {title}

        {DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC, {Cpu()}, {Environment.ProcessorCount} cores, {RuntimeInformation.OSDescription}, {RuntimeInformation.FrameworkDescription}{(System.Runtime.GCSettings.IsServerGC ? ", server GC" : "")}

        """);

    static string Cpu()
    {
        const string Info = "/proc/cpuinfo";
        var line = File.Exists(Info) ? File.ReadLines(Info).FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal)) : null;
        return line?[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim() ?? RuntimeInformation.ProcessArchitecture.ToString();
    }
}
