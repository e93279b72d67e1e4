using System.Globalization;
using System.Text.RegularExpressions;

namespace LogTrace.EndToEnd.Support;

/// <summary>The balance of counts as the commands print it.</summary>
public sealed record Balance(long Written, long ThrownAway, long Read, long Shipped, long Blank, long Consumed, long Stored, long Duplicates, long SetAside, long Lost)
{
    public static Balance Parse(string output) => new(
        Number(output, "written", optional: true), Number(output, "thrown away", optional: true), Number(output, "read"), Number(output, "= shipped", anywhere: true), Number(output, "blank", anywhere: true),
        Number(output, "consumed"), Number(output, "= stored", anywhere: true), Number(output, "duplicates", anywhere: true), SumOf(output, "set aside"), Number(output, "lost", optional: true));

    static long Number(string output, string label, bool anywhere = false, bool optional = false)
    {
        var match = Regex.Match(output, (anywhere ? "" : @"^\s*") + Regex.Escape(label) + @"\s+(-?[\d,]+)", RegexOptions.Multiline);
        if (optional && !match.Success) return 0;
        match.Success.Should().BeTrue($"the balance has a figure for '{label}':\n{output}");
        return Read1(match);
    }

    static long SumOf(string output, string label) => Regex.Matches(output, Regex.Escape(label) + @"\s+([\d,]+)").Sum(Read1);

    static long Read1(Match match) => long.Parse(match.Groups[1].Value, NumberStyles.AllowThousands | NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
}
