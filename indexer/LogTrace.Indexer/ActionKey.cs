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
        var text = Cut(action, MaxRead, "").AsSpan().Trim();
        var isUrl = TrySplitUrl(text, out var url);
        var path = isUrl ? PathPattern(url.Path) : null;
        var key = FamilyOf(name) switch
        {
            "mysql" or "mariadb" => Sql(text, isMySql: true),
            "pgsql" or "postgres" or "postgresql" or "sqlite" or "mssql" or "sqlserver" or "oracle" or "sql" or "db" or "clickhouse" => Sql(text, isMySql: false),
            "redis" or "memcache" or "memcached" => Command(text),
            _ => isUrl ? url.WithPath(path) : WithoutValues(text),
        };
        return (Cut(key, MaxLength), path is null ? null : Cut(path, MaxLength));
    }

    // What stands before the first dot of a record's name: mysql in mysql.success.
    static ReadOnlySpan<char> FamilyOf(ReadOnlySpan<char> name) => name.IndexOf('.') is >= 0 and var dot ? name[..dot] : name;

    /// <summary>host or host:port of a URL in an action, without user and password; null for other actions.</summary>
    public static string? AuthorityOf(string? action)
    {
        if (action is null || !TrySplitUrl(Cut(action, MaxRead, "").AsSpan().Trim(), out var url) || url.Authority.IsEmpty) return null;
        var output = Output();
        AppendLower(output, url.Authority);
        return SharedNames.Of(output);
    }

    /// <summary>The text up to a length, with an ending that says that it was cut; never half a character.</summary>
    public static string Cut(string text, int length, string ending = "...")
    {
        if (text.Length <= length) return text;
        length = Math.Max(0, length - ending.Length);
        if (length > 0 && char.IsHighSurrogate(text[length - 1])) length--;
        return text[..length] + ending;
    }

    /// <summary>Parts of a URL as they stand: the method with its space, scheme and authority without user and password, both empty for a mere path.</summary>
    readonly ref struct Url(ReadOnlySpan<char> method, ReadOnlySpan<char> scheme, ReadOnlySpan<char> authority, ReadOnlySpan<char> path)
    {
        readonly ReadOnlySpan<char> _method = method, _scheme = scheme;

        public ReadOnlySpan<char> Authority { get; } = authority;
        public ReadOnlySpan<char> Path { get; } = path;

        public string WithPath(string? path)
        {
            var output = Output().Append(_method);
            AppendLower(output, _scheme);
            AppendLower(output, Authority);
            return SharedNames.Of(output.Append(path));
        }
    }

    // "GET /path?x", "http://host/path#y", "POST http://host/path".
    static bool TrySplitUrl(ReadOnlySpan<char> text, out Url url)
    {
        url = default;
        ReadOnlySpan<char> method = default;
        var space = text.IndexOf(' ');
        if (space is > 0 and <= 8 && text[..space].IndexOfAnyExceptInRange('A', 'Z') < 0)
        {
            method = text[..(space + 1)];
            text = text[(space + 1)..].TrimStart();
        }

        var end = text.IndexOfAny("?# \t\n\r");
        if (end >= 0) text = text[..end];
        var scheme = text.IndexOf("://");
        if (scheme is > 0 and <= 10 && text[..scheme].IndexOfAny("/.:@") < 0)
        {
            var start = scheme + 3;
            var slash = text[start..].IndexOf('/');
            slash = slash < 0 ? text.Length : start + slash;
            var authority = text[start..slash];
            var user = authority.LastIndexOf('@');
            url = new Url(method, text[..start], authority[(user + 1)..], slash == text.Length ? "/" : text[slash..]);
            return true;
        }

        if (text is not ['/', ..]) return false;
        url = new Url(method, default, default, text);
        return true;
    }

    static void AppendLower(StringBuilder output, ReadOnlySpan<char> text)
    {
        Span<char> lower = text.Length <= 256 ? stackalloc char[256] : new char[text.Length];
        output.Append(lower[..text.ToLowerInvariant(lower)]);
    }

    static string PathPattern(ReadOnlySpan<char> path)
    {
        if (!HasId(path)) return SharedNames.Of(path);
        var output = Output();
        foreach (var range in path.Split('/'))
        {
            if (range.Start.Value > 0) output.Append('/');
            var segment = path[range];
            if (IdLength(segment) is > 0 and var length) output.Append("{id}").Append(segment[length..]);
            else output.Append(segment);
        }

        return SharedNames.Of(output);
    }

    // Each thread has one that it uses over and over, for one text at a time.
    [ThreadStatic]
    static StringBuilder? t_output;

    static StringBuilder Output()
    {
        if (t_output is null || t_output.Capacity > MaxRead) t_output = new StringBuilder(MaxRead / 4);
        return t_output.Clear();
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
    public static string WithoutValues(ReadOnlySpan<char> text)
    {
        if (text.Length > MaxRead) text = text[..(char.IsHighSurrogate(text[MaxRead - 1]) ? MaxRead - 1 : MaxRead)];
        var output = Output();
        for (var at = 0; at < text.Length && output.Length <= MaxLength;)
        {
            var character = text[at];
            if (character is '"' or '\'' && (at == 0 || !char.IsLetterOrDigit(text[at - 1])) && text[(at + 1)..].IndexOf(character) is >= 0 and var inside)
            {
                output.Append("{text}");
                at += inside + 2;
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
            var word = text[at..end];
            if (IsId(word)) output.Append("{id}");
            else if (word.Contains('-')) AppendParts(output, word);
            else if (char.IsAsciiDigit(word[0])) output.Append("{id}").Append(word.TrimStart("0123456789")); // 17ms, 3rd
            else output.Append(word);
            at = end;
        }

        TrimEnd(output);
        return SharedNames.Of(output);
    }

    static void TrimEnd(StringBuilder output)
    {
        while (output.Length > 0 && char.IsWhiteSpace(output[^1])) output.Length--;
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
    static string Command(ReadOnlySpan<char> text)
    {
        const string Blanks = " \t\r\n";
        text = text.Trim(Blanks);
        if (text.IsEmpty) return "";
        var end = text.IndexOfAny(Blanks);
        var key = end < 0 ? null : WithoutValues(FirstWord(text[end..].TrimStart(Blanks)).Trim("\"'"));
        var output = Output();
        Span<char> upper = end is < 0 or > 64 ? new char[end < 0 ? text.Length : end] : stackalloc char[end];
        output.Append(upper[..text[..upper.Length].ToUpperInvariant(upper)]);
        if (key is not null) output.Append(' ').Append(key);
        return SharedNames.Of(output);

        static ReadOnlySpan<char> FirstWord(ReadOnlySpan<char> text) => text.IndexOfAny(Blanks) is >= 0 and var end ? text[..end] : text;
    }

    static string Sql(ReadOnlySpan<char> text, bool isMySql)
    {
        var output = Output();
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
                var inside = text[(at + 1)..].IndexOf(character == '[' ? ']' : character);
                var end = inside < 0 ? text.Length : at + inside + 2;
                output.Append(text[at..end]);
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
                output.Append(text[start..at]);
            }
            else
            {
                if (character is ',' or ')' && output.Length > 0 && output[^1] == ' ') output.Length--;
                output.Append(character);
                at++;
                if (character == ')') FoldList(output);
            }
        }

        TrimEnd(output);
        while (output.Length > 0 && output[^1] == ';') output.Length--;
        TrimEnd(output);
        // Leading blanks are written as one.
        if (output.Length > 0 && char.IsWhiteSpace(output[0])) output.Remove(0, 1);
        return SharedNames.Of(output);
    }

    static int SkipSpaceOrComment(ReadOnlySpan<char> text, int at)
    {
        if (char.IsWhiteSpace(text[at])) return at + 1;
        if (text[at] == '/') return text[(at + 2)..].IndexOf("*/") is >= 0 and var inside ? at + inside + 4 : text.Length;
        return text[at..].IndexOf('\n') is >= 0 and var rest ? at + rest + 1 : text.Length;
    }

    // A doubled quote is a quote within; a backslash escapes in MySQL only. Without an end the rest is the literal.
    static int SkipQuoted(ReadOnlySpan<char> text, int at, bool isMySql)
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
    static int DollarQuotedEnd(ReadOnlySpan<char> text, int at)
    {
        var close = at + 1;
        while (close < text.Length && close - at <= 64 && (char.IsLetterOrDigit(text[close]) || text[close] == '_')) close++;
        if (close >= text.Length || text[close] != '$') return 0;
        var tag = text[at..(close + 1)];
        var inside = text[(close + 1)..].IndexOf(tag);
        return inside < 0 ? text.Length : close + 1 + inside + tag.Length;
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
