using System.Buffers;
using System.Text;
using System.Text.Unicode;

namespace LogTrace.Records;

/// <summary>
/// Makes the value of <c>extra</c>: JSON that any parser downstream takes, whatever came in. Elasticsearch refuses a document with a
/// name twice in one object, many parsers stop at 64 levels, and lone surrogates have no UTF-8.
/// </summary>
static class ExtraJson
{
    /// <summary>A value nested deeper is kept as text.</summary>
    const int MaxKeptDepth = 32;

    /// <summary>Up to this many members names are compared pairwise, beyond it by hash.</summary>
    const int FewMembers = 16;

    /// <summary>True when the value can stay as it stands: every name once per object, not deep, no escapes that may be half a character. <paramref name="json"/> must be valid JSON and UTF-8.</summary>
    public static bool IsClean(ReadOnlySpan<byte> json, int depth = 0)
    {
        if (json.IsEmpty || json[0] is not ((byte)'{' or (byte)'[' or (byte)'"')) return true;
        if (json[0] == (byte)'"') return json.IndexOf("\\ud"u8) < 0 && json.IndexOf("\\uD"u8) < 0;
        if (depth >= MaxKeptDepth) return false;
        var scanner = new JsonScanner(json);
        if (json[0] == (byte)'[')
        {
            scanner.TryEnterArray();
            while (scanner.TryNextElement(out var element))
            {
                if (!IsClean(json.Slice(element.RawStart, element.RawLength), depth + 1)) return false;
            }

            return true;
        }

        Span<(int Start, int Length)> names = stackalloc (int, int)[FewMembers];
        var count = 0;
        scanner.TryEnterObject();
        while (scanner.TryNextMember(out var member))
        {
            if (count == FewMembers || member.NameEscaped) return false;
            var name = json.Slice(member.NameStart, member.NameLength);
            foreach (var (start, length) in names[..count])
            {
                if (json.Slice(start, length).SequenceEqual(name)) return false;
            }

            names[count++] = (member.NameStart, member.NameLength);
            if (!IsClean(json.Slice(member.Value.RawStart, member.Value.RawLength), depth + 1)) return false;
        }

        return true;
    }

    /// <summary>Writes a valid JSON value so that <see cref="IsClean"/> holds in meaning. True when a text had to be changed for that (bad UTF-8, half characters).</summary>
    public static bool Rewrite(ReadOnlySpan<byte> json, IBufferWriter<byte> output, int depth = 0)
    {
        if (json.IsEmpty) return false;
        switch (json[0])
        {
            case (byte)'"':
                var raw = json[1..^1];
                if (raw.IndexOf((byte)'\\') < 0 && Utf8.IsValid(raw))
                {
                    output.Write(json);
                    return false;
                }

                JsonText.WriteString(output, JsonScanner.Unescape(raw, out var replaced));
                return replaced;
            case (byte)'{' or (byte)'[' when depth >= MaxKeptDepth:
                JsonText.WriteString(output, Encoding.UTF8.GetString(json));
                return true;
            case (byte)'{':
                return RewriteObject(json, output, depth);
            case (byte)'[':
                return RewriteArray(json, output, depth);
            default:
                output.Write(json);
                return false;
        }
    }

    static bool RewriteArray(ReadOnlySpan<byte> json, IBufferWriter<byte> output, int depth)
    {
        var scanner = new JsonScanner(json);
        scanner.TryEnterArray();
        var (changed, isFirst) = (false, true);
        output.Write("["u8);
        while (scanner.TryNextElement(out var element))
        {
            if (!isFirst) output.Write(","u8);
            isFirst = false;
            changed |= Rewrite(json.Slice(element.RawStart, element.RawLength), output, depth + 1);
        }

        output.Write("]"u8);
        return changed;
    }

    static bool RewriteObject(ReadOnlySpan<byte> json, IBufferWriter<byte> output, int depth)
    {
        var members = new ExtraMembers();
        var scanner = new JsonScanner(json);
        scanner.TryEnterObject();
        while (scanner.TryNextMember(out var member)) members.Set(Name(json, member), member.Value.RawStart, member.Value.RawLength);
        var (changed, isFirst) = (false, true);
        output.Write("{"u8);
        foreach (var (name, start, length) in members.All)
        {
            if (!isFirst) output.Write(","u8);
            isFirst = false;
            JsonText.WriteString(output, name);
            output.Write(":"u8);
            changed |= Rewrite(json.Slice(start, length), output, depth + 1);
        }

        output.Write("}"u8);
        return changed;
    }

    public static string Name(ReadOnlySpan<byte> json, in JsonMember member)
    {
        var raw = json.Slice(member.NameStart, member.NameLength);
        return Encoding.UTF8.GetString(member.NameEscaped ? JsonScanner.Unescape(raw, out _) : raw);
    }
}

/// <summary>Members of an object in the order of their first appearance, the last value of each.</summary>
sealed class ExtraMembers
{
    readonly Dictionary<string, int> _places = new(StringComparer.Ordinal);

    public List<(string Name, int Start, int Length)> All { get; } = [];

    public void Set(string name, int start, int length)
    {
        if (_places.TryAdd(name, All.Count)) All.Add((name, start, length));
        else All[_places[name]] = (name, start, length);
    }

    /// <summary>A name that nothing has yet: the name itself or with underscores before it.</summary>
    public string FreeName(string name)
    {
        while (_places.ContainsKey(name)) name = "_" + name;
        return name;
    }
}
