using System.Globalization;
using System.Text;

namespace LogTrace.Records;

/// <summary>Renders a message template with the properties of its event, as Serilog itself would have (<see href="https://messagetemplates.org"/>).</summary>
readonly ref struct ClefTemplate(ReadOnlySpan<byte> line, ReadOnlySpan<JsonMember> members, int renderingsPlace)
{
    readonly ReadOnlySpan<byte> _line = line;
    readonly ReadOnlySpan<JsonMember> _members = members;

    public string Render(string template)
    {
        var renderings = Renderings();
        var rendered = 0;
        var output = new StringBuilder(template.Length + 32);
        for (var at = 0; at < template.Length;)
        {
            var character = template[at];
            if (character is '{' or '}' && at + 1 < template.Length && template[at + 1] == character)
            {
                output.Append(character);
                at += 2;
            }
            else if (character == '{' && TryHole(template, at, out var hole))
            {
                AppendHole(output, hole, template.AsSpan(at, hole.Length), renderings, ref rendered);
                at += hole.Length;
            }
            else
            {
                output.Append(character);
                at++;
            }
        }

        return output.ToString();
    }

    readonly record struct Hole(string Name, int Alignment, bool HasFormat, int Length);

    // {Name}, {@Name}, {$Name}, each with ,alignment and :format. Anything else in braces is text.
    static bool TryHole(string template, int start, out Hole hole)
    {
        hole = default;
        var end = template.IndexOf('}', start);
        if (end < 0) return false;
        var inside = template.AsSpan((start + 1)..end);
        var colon = inside.IndexOf(':');
        if (colon >= 0) inside = inside[..colon];
        var alignment = 0;
        if (inside.IndexOf(',') is >= 0 and var comma)
        {
            if (!int.TryParse(inside[(comma + 1)..], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out alignment)) return false;
            if (Math.Abs((long)alignment) > 1000) return false;
            inside = inside[..comma];
        }

        if (inside.StartsWith("@") || inside.StartsWith("$")) inside = inside[1..];
        if (inside.IsEmpty) return false;
        foreach (var character in inside)
        {
            if (!char.IsLetterOrDigit(character) && character is not ('_' or '.')) return false;
        }

        hole = new Hole(inside.ToString(), alignment, colon >= 0, end + 1 - start);
        return true;
    }

    void AppendHole(StringBuilder output, Hole hole, ReadOnlySpan<char> token, List<string> renderings, ref int rendered)
    {
        var start = output.Length;
        if (hole.HasFormat && rendered < renderings.Count) output.Append(renderings[rendered]);
        else if (TryFind(hole.Name, out var value)) AppendValue(output, _line, value, 0);
        else output.Append(token);
        if (hole.HasFormat) rendered++;
        var padding = Math.Abs(hole.Alignment) - (output.Length - start);
        if (padding <= 0) return;
        if (hole.Alignment > 0) output.Insert(start, " ", padding);
        else output.Append(' ', padding);
    }

    bool TryFind(string name, out JsonValue value)
    {
        value = default;
        var found = false;
        foreach (ref readonly var member in _members)
        {
            if (ExtraJson.Name(_line, member) != name) continue;
            value = member.Value;
            found = true;
        }

        return found;
    }

    // What the writer rendered because a format was given, one for each such hole in their order.
    List<string> Renderings()
    {
        var texts = new List<string>();
        if (renderingsPlace < 0 || _members[renderingsPlace].Value is not { Kind: JsonKind.Array } array) return texts;
        var json = _line.Slice(array.Start, array.Length);
        var scanner = new JsonScanner(json);
        scanner.TryEnterArray();
        while (scanner.TryNextElement(out var element)) texts.Add(element.Kind == JsonKind.String ? Text(json, element) : "");
        return texts;
    }

    static string Text(ReadOnlySpan<byte> json, in JsonValue value)
    {
        var raw = json.Slice(value.Start, value.Length);
        return Encoding.UTF8.GetString(value.Escaped ? JsonScanner.Unescape(raw, out _) : raw);
    }

    static void AppendValue(StringBuilder output, ReadOnlySpan<byte> json, in JsonValue value, int depth)
    {
        switch (value.Kind)
        {
            case JsonKind.String:
                output.Append('"').Append(Text(json, value).Replace("\"", "\\\"", StringComparison.Ordinal)).Append('"');
                break;
            case JsonKind.True:
                output.Append("True");
                break;
            case JsonKind.False:
                output.Append("False");
                break;
            case JsonKind.Object when depth < 10:
                AppendObject(output, json.Slice(value.Start, value.Length), depth);
                break;
            case JsonKind.Array when depth < 10:
                AppendArray(output, json.Slice(value.Start, value.Length), depth);
                break;
            default:
                output.Append(Encoding.UTF8.GetString(json.Slice(value.Start, value.Length)));
                break;
        }
    }

    static void AppendArray(StringBuilder output, ReadOnlySpan<byte> json, int depth)
    {
        var scanner = new JsonScanner(json);
        scanner.TryEnterArray();
        var separator = "[";
        while (scanner.TryNextElement(out var element))
        {
            output.Append(separator);
            AppendValue(output, json, element, depth + 1);
            separator = ", ";
        }

        output.Append(separator == "[" ? "[]" : "]");
    }

    static void AppendObject(StringBuilder output, ReadOnlySpan<byte> json, int depth)
    {
        var scanner = new JsonScanner(json);
        scanner.TryEnterObject();
        var separator = "{ ";
        while (scanner.TryNextMember(out var member))
        {
            output.Append(separator).Append(ExtraJson.Name(json, member)).Append(": ");
            AppendValue(output, json, member.Value, depth + 1);
            separator = ", ";
        }

        output.Append(separator == "{ " ? "{ }" : " }");
    }
}
