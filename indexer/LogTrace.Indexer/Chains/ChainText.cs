using System.Globalization;
using System.Text;
using LogTrace.Records;
using Spectre.Console;
using Spectre.Console.Rendering;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// Draws a chain as a tree in the terminal: what was called by whom, how long it took on the trace's time axis, what failed, and what is
/// missing. Log text is untrusted: it is never read as markup, and its control characters are made visible.
/// </summary>
public static class ChainText
{
    const int NarrowWidth = 60;
    const int DurationWidth = 9;

    /// <summary>Below this many columns an indented tree leaves nothing to read; the tree then says the depth in words.</summary>
    const int MinTextWidth = 24;

    static readonly Style Plain = Style.Plain;
    static readonly Style Strong = new(decoration: Decoration.Bold);
    static readonly Style Faint = new(Color.Grey);
    static readonly Style Bad = new(Color.Red);
    static readonly Style Missing = new(Color.Yellow);
    static readonly Style Bar = new(Color.Green);

    /// <param name="withLogs">Also shows the log and metric records, below the call they belong to.</param>
    public static void Draw(IAnsiConsole console, CallChain chain, bool withLogs = false)
    {
        var width = Math.Max(20, console.Profile.Width);
        var signs = console.Profile.Capabilities.Unicode ? Signs.Unicode : Signs.Ascii;
        var clocks = ChainClocks.Of(chain);
        DrawHeader(console, chain, clocks, width);
        var rows = chain.Rows().ToList();
        var isLast = FindLast(rows);
        var open = new List<bool>(); // for each depth above: does a later row of that depth still come?
        for (var i = 0; i < rows.Count; i++)
        {
            var depth = DepthOf(rows[i]);
            open.RemoveRange(Math.Min(depth, open.Count), open.Count - Math.Min(depth, open.Count));
            var guides = Guides(open, depth, isLast[i], signs, width);
            if (rows[i].Node is { } node)
            {
                DrawNode(console, chain, node, clocks, guides, signs, width);
                while (open.Count < depth) open.Add(false);
                open.Add(!isLast[i]);
                if (withLogs) DrawEvents(console, node, Guides(open, depth + 1, null, signs, width), width);
            }
            else
            {
                DrawGap(console, rows[i].Gap, guides, width);
            }
        }
    }

    // ---- header ----

    static void DrawHeader(IAnsiConsole console, CallChain chain, ChainClocks? clocks, int width)
    {
        var line = new Line(width);
        line.Add("trace ", Faint).Add(chain.TraceId, Strong);
        if (chain.StartMicros != 0) line.Add($"  {Moment(chain.StartMicros)}", Faint);
        line.Add($"  {Duration(chain.DurationMicros)}", Plain).Write(console);

        line = new Line(width);
        line.Add($"{Count(chain.Nodes.Count(node => !node.IsPlaceholder), "call")}, {Count(chain.RecordCount, "record")}, {Count(chain.Services.Count, "service")}, depth {chain.Depth}", Plain);
        if (chain.ErrorCount > 0) line.Add($", {Count(chain.ErrorCount, "error")}", Bad);
        if (chain.AlarmCount > 0) line.Add($", {Count(chain.AlarmCount, "alarm")}", Bad);
        if (chain.Debug) line.Add(", debug", Plain);
        line.Write(console);

        if (!chain.Complete)
        {
            var losses = new List<string>();
            if (chain.PlaceholderCount > 0) losses.Add(Count(chain.PlaceholderCount, "call") + " not received");
            if (chain.GapCount > 0) losses.Add(Count(chain.GapCount, "number") + " missing");
            if (chain.CalleeOnlyCount > 0) losses.Add(Count(chain.CalleeOnlyCount, "call") + " without the caller's record");
            new Line(width).Add($"incomplete: {string.Join(", ", losses)}", Missing).Write(console);
        }

        if (!chain.Resolved) new Line(width).Add($"ambiguous: {Count(chain.AmbiguousCount, "id")} used by several calls that cannot be told apart", Missing).Write(console);
        if (chain.Sampled) new Line(width).Add("sampled: parts were left out on purpose and are not counted as lost", Faint).Write(console);
        if (chain.IrregularCount > 0) new Line(width).Add($"irregular numbering at {Count(chain.IrregularCount, "call")}: nothing is concluded from it", Faint).Write(console);
        if (clocks is not null) new Line(width).Add($"clocks of hosts differ: drawn with times corrected by up to {Duration(clocks.Largest)}", Faint).Write(console);
    }

    // ---- rows ----

    static void DrawNode(IAnsiConsole console, CallChain chain, ChainNode node, ChainClocks? clocks, string guides, Signs signs, int width)
    {
        var barWidth = width < NarrowWidth ? 0 : Math.Clamp(width / 4, 12, 48);
        var rightWidth = DurationWidth + (barWidth > 0 ? barWidth + 1 : 0);
        var line = new Line(width - rightWidth - 1);
        line.Add(guides, Faint).Add(node.ToString(), node.IsPlaceholder ? Missing : Strong).Add(" ", Plain);
        if (node.IsPlaceholder || node.IsUnknownExecution) AddMissing(line, node);
        else
        {
            // What needs attention stands before the action, which may be cut off.
            line.Add(Who(node), node.IsError ? Bad : Plain);
            foreach (var flag in Flags(node)) line.Add($" [{flag}]", Missing);
            var failure = Failure(node);
            if (failure is not null) line.Add($" {failure}", Bad);
            if (!node.IsEventsOnly && node.Name is { Length: > 0 } name) line.Add($" {name}", Faint);
            if (!node.IsEventsOnly && node.Action is { Length: > 0 } action) line.Add($" {action}", Plain);
        }

        line.Pad();
        line.Grow(rightWidth + 1);
        line.Add(" ", Plain);
        if (barWidth > 0) AddBar(line, chain, node, clocks, signs, barWidth);
        line.Add((node.IsPlaceholder ? "" : node.DurationMicros is { } micros && !node.IsEventsOnly ? Duration(micros) : "").PadLeft(DurationWidth), Faint);
        line.Write(console);
    }

    static void AddMissing(Line line, ChainNode node)
    {
        if (node.IsForeign)
        {
            line.Add("a service without LogTrace", Faint);
            return;
        }

        line.Add(node.IsUnknownExecution ? "another use of this id, not received" : node.IsSampled ? "left out (sampled)" : "not received", Missing);
        var who = Who(node);
        if (who.Length > 0) line.Add($" - {who}?", Missing);
        foreach (var flag in Flags(node)) line.Add($" [{flag}]", Missing);
    }

    static void DrawGap(IAnsiConsole console, ChainGap gap, string guides, int width)
    {
        var line = new Line(width).Add(guides, Faint).Add(gap.ToString(), Missing).Add(" ", Plain);
        line.Add(gap.Count == 1 ? "not received" : $"{gap.Count} numbers not received", Missing);
        if (gap.Scope.Target is { } service) line.Add($" - {service}?", Missing);
        line.Write(console);
    }

    static void DrawEvents(IAnsiConsole console, ChainNode node, string guides, int width)
    {
        foreach (var record in node.Events.OrderBy(line => line.Record.TimestampMicros)) // of both sides as they happened
        {
            var isBad = record.IsError || record.Record.Level is "error" or "alarm";
            var line = new Line(width).Add(guides, Faint).Add(TimeOfDay(record.Record.TimestampMicros), Faint).Add(" ", Plain);
            line.Add(record.Record.Name ?? "log", isBad ? Bad : Faint);
            if (record.Service is { } service) line.Add($" {service}", Faint);
            if (record.Record.Code is { Length: > 0 } code) line.Add($" {code}", isBad ? Bad : Plain);
            line.Add($" {record.Record.Msg ?? $"{record.Record.Action} {record.Record.ExtraJson}".Trim()}", isBad ? Bad : Plain).Write(console);
        }
    }

    static string Who(ChainNode node)
    {
        var caller = node.CallerService;
        var target = node.Target;
        if (node.IsFork) return $"{node.CalleeService} (branch)";
        if (node.IsEventsOnly) return $"{node.Service} {Count(node.Events.Count, "log line")}".TrimStart();
        // A database that is called as its service is: the name twice says nothing.
        if (target == caller && node.Callee is null && node.ResourceKind is not "http") return caller ?? "";
        return caller is null ? target ?? "" : target is null ? caller : $"{caller} > {target}";
    }

    static IEnumerable<string> Flags(ChainNode node)
    {
        if (node.IsCalleeOnly) yield return node.IsSampled ? "caller's record left out (sampled)" : "caller's record not received";
        if (node.IsCalleeMissing) yield return "callee's record not received";
        if (node.IsAmbiguous) yield return node.Records.Count > 1 ? $"ambiguous: {node.Records.Count} records" : "ambiguous";
        if (node.IsIrregular) yield return "irregular number";
    }

    static string? Failure(ChainNode node)
    {
        if (!node.IsError) return null;
        var record = node.Caller is { IsError: true } caller ? caller : node.Callee ?? node.Caller!;
        var text = string.Join(' ', new[] { record.Record.Code, record.Record.Msg }.Where(part => !string.IsNullOrEmpty(part)));
        return text.Length > 0 ? "! " + text : "! failed";
    }

    /// <summary>The callee's time within the caller's: what is left over is network and queueing.</summary>
    static void AddBar(Line line, CallChain chain, ChainNode node, ChainClocks? clocks, Signs signs, int width)
    {
        var (first, all) = clocks is null ? (chain.StartMicros, chain.DurationMicros) : (clocks.StartMicros, clocks.DurationMicros);
        var (nodeStart, nodeDuration) = clocks?.Of(node) ?? (node.StartMicros, node.DurationMicros);
        var cells = new char[width];
        Array.Fill(cells, ' ');
        Fill(nodeStart, nodeDuration ?? 0, node.IsPlaceholder ? signs.Missing : node.IsEventsOnly ? signs.Point : node is { Caller: not null, Callee: not null } ? signs.Waiting : signs.Work);
        if (node is { Caller: not null, Callee: { } callee }) Fill(clocks?.Corrected(node, callee) ?? callee.StartMicros, callee.Record.DurationMicros ?? 0, signs.Work);
        line.Add(new string(cells), node.IsPlaceholder ? Missing : node.IsError ? Bad : Bar).Add(" ", Plain);

        void Fill(long start, long duration, char sign)
        {
            var total = Math.Max(1.0, all);
            var from = Math.Clamp((int)((start - (double)first) / total * width), 0, width - 1);
            var to = Math.Clamp((int)Math.Ceiling((start - (double)first + duration) / total * width), from + 1, width);
            cells.AsSpan(from, to - from).Fill(sign);
        }
    }

    // ---- the tree's lines ----

    sealed record Signs(string Branch, string Last, string Through, string Blank, char Work, char Waiting, char Missing, char Point)
    {
        public static Signs Unicode { get; } = new("├─ ", "└─ ", "│  ", "   ", '█', '░', '·', '•');
        public static Signs Ascii { get; } = new("|- ", "`- ", "|  ", "   ", '#', '-', '.', '*');
    }

    static int DepthOf(ChainRow row) => row.Node?.Depth ?? row.Gap.Scope.Depth + 1;

    /// <summary>For each row: no later row has the same parent.</summary>
    static bool[] FindLast(List<ChainRow> rows)
    {
        var isLast = new bool[rows.Count];
        var seen = new List<bool>();
        for (var i = rows.Count - 1; i >= 0; i--)
        {
            var depth = DepthOf(rows[i]);
            while (seen.Count <= depth) seen.Add(false);
            isLast[i] = !seen[depth];
            seen[depth] = true;
            seen.RemoveRange(depth + 1, seen.Count - depth - 1);
        }

        return isLast;
    }

    /// <param name="isLast">Null for lines that hang on the row above instead of being a row.</param>
    static string Guides(List<bool> open, int depth, bool? isLast, Signs signs, int width)
    {
        if (depth == 0) return "";
        if (depth * 3 > width - MinTextWidth - DurationWidth - (width < NarrowWidth ? 0 : Math.Clamp(width / 4, 12, 48) + 1))
            return string.Create(CultureInfo.InvariantCulture, $"({depth}) "); // too deep to indent
        var guides = new StringBuilder(depth * 3);
        for (var level = 1; level < depth; level++) guides.Append(level < open.Count && open[level] ? signs.Through : signs.Blank);
        return guides.Append(isLast switch { true => signs.Last, false => signs.Branch, null => signs.Blank }).ToString();
    }

    // ---- text ----

    /// <summary>One line of the terminal: takes what fits, and marks what does not.</summary>
    sealed class Line(int width)
    {
        readonly Paragraph _text = new();
        int _left = width;
        bool _isCut;

        public Line Add(string text, Style style)
        {
            if (_isCut || text.Length == 0) return this;
            var visible = Visible(text);
            var cells = new Segment(visible).CellCount();
            if (cells > _left)
            {
                visible = Cut(visible, _left);
                cells = new Segment(visible).CellCount();
                _isCut = true;
            }

            _text.Append(visible, style);
            _left -= cells;
            return this;
        }

        public void Pad()
        {
            if (_left > 0) _text.Append(new string(' ', _left));
            _left = 0;
        }

        public void Grow(int cells)
        {
            _left += cells;
            _isCut = false;
        }

        public void Write(IAnsiConsole console)
        {
            console.Write(_text);
            console.WriteLine();
        }

        static string Cut(string text, int cells)
        {
            if (cells <= 0) return "";
            var kept = new StringBuilder();
            var used = 1; // the mark itself
            foreach (var rune in text.EnumerateRunes())
            {
                var size = new Segment(rune.ToString()).CellCount();
                if (used + size > cells) break;
                kept.Append(rune);
                used += size;
            }

            return kept.Append('…').ToString();
        }
    }

    /// <summary>The text with every character that would not show, or would change how the rest shows, replaced by one that does.</summary>
    internal static string Visible(string text)
    {
        StringBuilder? changed = null;
        for (var i = 0; i < text.Length; i++)
        {
            var character = text[i];
            var isPair = char.IsHighSurrogate(character) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]);
            var replacement = character switch
            {
                < ' ' => ((char)(0x2400 + character)).ToString(),
                '\x7F' => "\u2421",
                _ when isPair => null,
                _ when char.IsSurrogate(character) => "\uFFFD",
                _ when CharUnicodeInfo.GetUnicodeCategory(character) is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator =>
                    string.Create(CultureInfo.InvariantCulture, $"\\u{(int)character:X4}"),
                _ => null,
            };
            if (replacement is not null) changed ??= new StringBuilder(text, 0, i, text.Length + 16);
            if (changed is null)
            {
                if (isPair) i++;
                continue;
            }

            if (replacement is not null) changed.Append(replacement);
            else
            {
                changed.Append(character);
                if (isPair) changed.Append(text[++i]);
            }
        }

        return changed?.ToString() ?? text;
    }

    static string Count(long count, string what) => string.Create(CultureInfo.InvariantCulture, $"{count:N0} {what}{(count == 1 ? "" : "s")}");

    static string Duration(long micros) => micros switch
    {
        < 1_000 => string.Create(CultureInfo.InvariantCulture, $"{micros} us"),
        < 1_000_000 => string.Create(CultureInfo.InvariantCulture, $"{micros / 1e3:0.#} ms"),
        < 120_000_000 => string.Create(CultureInfo.InvariantCulture, $"{micros / 1e6:0.##} s"),
        < 360_000_000_000 => string.Create(CultureInfo.InvariantCulture, $"{micros / 60e6:0.#} min"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{micros / 3600e6:0} h"),
    };

    static string Moment(long micros) => At(micros)?.ToString("yyyy-MM-dd HH:mm:ss.fff 'UTC'", CultureInfo.InvariantCulture) ?? "at an impossible time";

    static string TimeOfDay(long micros) => At(micros)?.ToString("HH:mm:ss.fff", CultureInfo.InvariantCulture) ?? "--:--:--.---";

    static DateTimeOffset? At(long micros) =>
        micros / 1_000 is >= -62_135_596_800_000 and <= 253_402_300_799_000 and var millis ? DateTimeOffset.FromUnixTimeMilliseconds(millis) : null;
}
