using System.Text;

namespace LogTrace.Indexer;

/// <summary>
/// Makes equal work equal text: SQL without literals, URLs without ids and query, redis commands with the pattern of their key. Every
/// function takes any text and time linear in its length.
/// </summary>
static class ActionKey
{
    const int MaxLength = 1000;

    // What is longer is cut before it is looked at: a key that differs after 16,000 characters helps nobody.
    const int MaxRead = 16_000;

    /// <summary>The key of an action; null without one.</summary>
    public static string? Of(string? name, string? action) => KeyAndRoute(name, action).Key;

    /// <summary>The key of an action and, of an HTTP action, its path without ids, host and query: both of one look at it.</summary>
    public static (string? Key, string? Route) KeyAndRoute(string? name, string? action)
    {
        if (string.IsNullOrWhiteSpace(action)) return (null, null);
        var text = Cut(action, MaxRead, "").Trim();
        var isUrl = TrySplitUrl(text, out var url);
        var path = isUrl ? PathPattern(url.Path) : null;
        var key = FamilyOf(name) switch
        {
            "mysql" or "mariadb" => Sql(text, isMySql: true),
            "pgsql" or "postgres" or "postgresql" or "sqlite" or "mssql" or "sqlserver" or "oracle" or "sql" or "db" or "clickhouse" => Sql(text, isMySql: false),
            "redis" or "memcache" or "memcached" => Command(text),
            _ => isUrl ? url.Method + url.Origin + path : WithoutValues(text),
        };
        return (Cut(key, MaxLength), path is null ? null : Cut(path, MaxLength));
    }

    // What stands before the first dot of a record's name: mysql in mysql.success.
    static ReadOnlySpan<char> FamilyOf(ReadOnlySpan<char> name) => name.IndexOf('.') is >= 0 and var dot ? name[..dot] : name;

    /// <summary>host or host:port of a URL in an action, without user and password; null for other actions.</summary>
    public static string? AuthorityOf(string? action)
    {
        if (action is null || !TrySplitUrl(Cut(action, MaxRead, "").Trim(), out var url) || url.Origin.Length == 0) return null;
        var authority = url.Origin[(url.Origin.IndexOf("://", StringComparison.Ordinal) + 3)..];
        return authority.Length == 0 ? null : authority;
    }

    /// <summary>The text up to a length, with an ending that says that it was cut; never half a character.</summary>
    public static string Cut(string text, int length, string ending = "...")
    {
        if (text.Length <= length) return text;
        length = Math.Max(0, length - ending.Length);
        if (length > 0 && char.IsHighSurrogate(text[length - 1])) length--;
        return text[..length] + ending;
    }

    readonly record struct Url(string Method, string Origin, string Path);

    // "GET /path?x", "http://host/path#y", "POST http://host/path"; the method keeps its space, the origin its user no more.
    static bool TrySplitUrl(string text, out Url url)
    {
        url = default;
        var method = "";
        var space = text.IndexOf(' ');
        if (space is > 0 and <= 8 && text.AsSpan(0, space).IndexOfAnyExceptInRange('A', 'Z') < 0)
        {
            method = text[..(space + 1)];
            text = text[(space + 1)..].TrimStart();
        }

        var end = text.IndexOfAny(['?', '#', ' ', '\t', '\n', '\r']);
        if (end >= 0) text = text[..end];
        var scheme = text.IndexOf("://", StringComparison.Ordinal);
        if (scheme is > 0 and <= 10 && text.AsSpan(0, scheme).IndexOfAny("/.:@") < 0)
        {
            var start = scheme + 3;
            var slash = text.IndexOf('/', start);
            if (slash < 0) slash = text.Length;
            var user = text.LastIndexOf('@', Math.Max(slash - 1, 0), Math.Max(slash - start, 0));
            var origin = text[..start] + text[(user < 0 ? start : user + 1)..slash];
            url = new Url(method, origin.ToLowerInvariant(), slash == text.Length ? "/" : text[slash..]);
            return true;
        }

        if (!text.StartsWith('/')) return false;
        url = new Url(method, "", text);
        return true;
    }

    static string PathPattern(string path)
    {
        if (!HasId(path)) return path;
        var segments = path.Split('/');
        for (var index = 0; index < segments.Length; index++)
            if (IdLength(segments[index]) is > 0 and var length) segments[index] = string.Concat("{id}", segments[index].AsSpan(length));
        return string.Join('/', segments);
    }

    static bool HasId(ReadOnlySpan<char> path)
    {
        foreach (var range in path.Split('/'))
            if (IdLength(path[range]) > 0) return true;
        return false;
    }

    // How much of a segment is an id: all of 17, two characters of 17.json, nothing of v3.
    static int IdLength(ReadOnlySpan<char> segment)
    {
        if (IsId(segment)) return segment.Length;
        return segment.IndexOf('.') is > 0 and var dot && IsId(segment[..dot]) ? dot : 0;
    }

    // Numbers, UUIDs, hashes, long tokens and addresses name one thing each; words and "v3" name a kind of thing.
    static bool IsId(ReadOnlySpan<char> segment)
    {
        if (segment.IsEmpty) return false;
        int digits = 0, hex = 0, other = 0;
        foreach (var character in segment)
        {
            if (char.IsAsciiDigit(character)) digits++;
            else if (char.IsAsciiHexDigit(character) || character == '-') hex++;
            else if (character is '@' or '%') return true;
            else other++;
        }

        if (digits == 0) return false;
        if (hex + other == 0) return true;
        return other == 0 ? segment.Length >= 8 : segment.Length >= 20;
    }

    /// <summary>Free text with its numbers, ids and quoted parts replaced, so that messages of one kind are one text.</summary>
    public static string WithoutValues(string text)
    {
        text = Cut(text, MaxRead, "");
        var output = new StringBuilder(Math.Min(text.Length, MaxLength) + 16);
        for (var at = 0; at < text.Length && output.Length <= MaxLength;)
        {
            var character = text[at];
            if (character is '"' or '\'' && (at == 0 || !char.IsLetterOrDigit(text[at - 1])) && text.IndexOf(character, at + 1) is > 0 and var close)
            {
                output.Append("{text}");
                at = close + 1;
                continue;
            }

            if (char.IsWhiteSpace(character))
            {
                if (output.Length > 0 && output[^1] != ' ') output.Append(' ');
                at++;
                continue;
            }

            if (!char.IsLetterOrDigit(character))
            {
                output.Append(character);
                at++;
                continue;
            }

            var end = at;
            while (end < text.Length && (char.IsLetterOrDigit(text[end]) || (text[end] == '-' && end + 1 < text.Length && char.IsAsciiHexDigit(text[end + 1])))) end++;
            var word = text.AsSpan(at, end - at);
            if (IsId(word)) output.Append("{id}");
            else if (word.Contains('-')) AppendParts(output, word);
            else if (char.IsAsciiDigit(word[0])) output.Append("{id}").Append(word.TrimStart("0123456789")); // 17ms, 3rd
            else output.Append(word);
            at = end;
        }

        return output.ToString().TrimEnd();
    }

    static void AppendParts(StringBuilder output, ReadOnlySpan<char> word)
    {
        var isFirst = true;
        foreach (var range in word.Split('-'))
        {
            if (!isFirst) output.Append('-');
            isFirst = false;
            if (IsId(word[range])) output.Append("{id}");
            else output.Append(word[range]);
        }
    }

    // The command and the pattern of its first key; values never belong to a key.
    static string Command(string text)
    {
        var words = text.Split([' ', '\t', '\r', '\n'], 3, StringSplitOptions.RemoveEmptyEntries);
        if (words.Length == 0) return "";
        var command = words[0].ToUpperInvariant();
        return words.Length == 1 ? command : $"{command} {WithoutValues(words[1].Trim('"', '\''))}";
    }

    static string Sql(string text, bool isMySql)
    {
        var output = new StringBuilder(Math.Min(text.Length, 512));
        for (var at = 0; at < text.Length;)
        {
            var character = text[at];
            var next = at + 1 < text.Length ? text[at + 1] : '\0';
            if (char.IsWhiteSpace(character) || (character == '-' && next == '-') || (character == '/' && next == '*') || (character == '#' && isMySql))
            {
                at = SkipSpaceOrComment(text, at);
                if (output.Length > 0 && output[^1] is not (' ' or '(')) output.Append(' ');
            }
            else if (character == '\'' || (character == '"' && isMySql))
            {
                at = SkipQuoted(text, at, isMySql);
                AppendValue(output);
            }
            else if (character is '"' or '`' or '[')
            {
                var end = text.IndexOf(character == '[' ? ']' : character, at + 1);
                end = end < 0 ? text.Length : end + 1;
                output.Append(text, at, end - at);
                at = end;
            }
            else if (character == '$' && !char.IsAsciiDigit(next) && DollarQuotedEnd(text, at) is > 0 and var dollarEnd)
            {
                at = dollarEnd;
                AppendValue(output);
            }
            else if (character is '@' or '$' or ':' && (char.IsLetterOrDigit(next) || next == '_') && (output.Length == 0 || output[^1] != ':'))
            {
                at++;
                while (at < text.Length && (char.IsLetterOrDigit(text[at]) || text[at] == '_')) at++;
                AppendValue(output);
            }
            else if (char.IsAsciiDigit(character) || (character == '.' && char.IsAsciiDigit(next) && (output.Length == 0 || !char.IsLetterOrDigit(output[^1]))))
            {
                while (at < text.Length && (char.IsLetterOrDigit(text[at]) || text[at] == '.' || (text[at] is '+' or '-' && text[at - 1] is 'e' or 'E'))) at++;
                AppendValue(output);
            }
            else if (char.IsLetter(character) || character == '_')
            {
                var start = at;
                while (at < text.Length && (char.IsLetterOrDigit(text[at]) || text[at] is '_' or '$')) at++;

                // X'1F', N'text', b'01', E'\n': the letter belongs to the literal.
                if (at - start == 1 && at < text.Length && text[at] == '\'' && "xXnNbBeE".Contains(character)) continue;
                output.Append(text, start, at - start);
            }
            else
            {
                if (character is ',' or ')' && output.Length > 0 && output[^1] == ' ') output.Length--;
                output.Append(character);
                at++;
                if (character == ')') FoldList(output);
            }
        }

        return output.ToString().Trim().TrimEnd(';').TrimEnd();
    }

    static int SkipSpaceOrComment(string text, int at)
    {
        if (char.IsWhiteSpace(text[at])) return at + 1;
        var end = text[at] == '/' ? text.IndexOf("*/", at + 2, StringComparison.Ordinal) : text.IndexOf('\n', at);
        return end < 0 ? text.Length : end + (text[at] == '/' ? 2 : 1);
    }

    // A doubled quote is a quote within; a backslash escapes in MySQL only. Without an end the rest is the literal.
    static int SkipQuoted(string text, int at, bool isMySql)
    {
        var quote = text[at++];
        for (; at < text.Length; at++)
        {
            if (text[at] == '\\' && isMySql) at++;
            else if (text[at] == quote && at + 1 < text.Length && text[at + 1] == quote) at++;
            else if (text[at] == quote) return at + 1;
        }

        return text.Length;
    }

    // PostgreSQL's $$text$$ and $tag$text$tag$; 0 where no such literal starts.
    static int DollarQuotedEnd(string text, int at)
    {
        var close = at + 1;
        while (close < text.Length && close - at <= 64 && (char.IsLetterOrDigit(text[close]) || text[close] == '_')) close++;
        if (close >= text.Length || text[close] != '$') return 0;
        var tag = text[at..(close + 1)];
        var end = text.IndexOf(tag, close + 1, StringComparison.Ordinal);
        return end < 0 ? text.Length : end + tag.Length;
    }

    static void AppendValue(StringBuilder output)
    {
        // A sign belongs to the number: "= -1" is "= ?". Two values with nothing between are one ('a' 'b').
        if (output.Length > 1 && output[^1] is '-' or '+' && output[^2] is ' ' or '(' or ',' or '=' or '<' or '>') output.Length--;
        if (output.Length == 0 || output[^1] != '?') output.Append('?');
    }

    // "(?, ?, ?)" becomes "(?)", and "(?), (?)" too: lists of any length are one key.
    static void FoldList(StringBuilder output)
    {
        var at = output.Length - 2;
        var hasValue = false;
        while (at >= 0 && output[at] is '?' or ',' or ' ')
        {
            hasValue |= output[at] == '?';
            at--;
        }

        if (!hasValue || at < 0 || output[at] != '(') return;
        output.Length = at + 1;
        output.Append("?)");
        var before = at - 1;
        while (before >= 0 && output[before] == ' ') before--;
        if (before < 3 || output[before] != ',') return;
        while (before > 0 && output[before - 1] == ' ') before--;
        if (before >= 3 && output[before - 1] == ')' && output[before - 2] == '?' && output[before - 3] == '(') output.Length = before;
    }
}
