using System.Buffers;

namespace LogTrace.Indexer;

/// <summary>
/// Makes equal work equal text: SQL without literals, URLs without ids and query, redis commands with the pattern of their key. Every
/// function takes any text and time linear in its length. The keys of a site are few, and no text is made of one that was made before.
/// </summary>
static class ActionKey
{
    const int MaxLength = 1000;

    // What is longer is cut before it is looked at: a key that differs after 16,000 characters helps nobody.
    const int MaxRead = 16_000;

    /// <summary>The key of an action; null without one.</summary>
    public static string? Of(string? name, string? action) => Of(name, action, out _, out _);

    /// <summary>The key of an action, and what an HTTP action says besides: all of one look at it.</summary>
    /// <param name="name">Name of the record.</param>
    /// <param name="action">The action.</param>
    /// <param name="route">The path without ids, host and query; null for other actions.</param>
    /// <param name="authority">host or host:port without user and password; null where there is none.</param>
    public static string? Of(string? name, ReadOnlySpan<char> action, out string? route, out string? authority)
    {
        route = authority = null;
        var text = Cut(action, MaxRead).Trim();
        if (text.IsEmpty) return null;
        var isUrl = TrySplitUrl(text, out var url);
        var output = new Characters(stackalloc char[Characters.Few]);
        try
        {
            if (isUrl)
            {
                AppendPath(ref output, url.Path);
                route = Text(output.Written);
                output.Length = 0;
                if (url.Authority.Length > 0)
                {
                    output.AppendLower(url.Authority);
                    authority = SharedNames.Of(output.Written);
                    output.Length = 0;
                }
            }

            switch (FamilyOf(name))
            {
                case "mysql" or "mariadb":
                    Sql(text, isMySql: true, ref output);
                    break;
                case "pgsql" or "postgres" or "postgresql" or "sqlite" or "mssql" or "sqlserver" or "oracle" or "sql" or "db" or "clickhouse":
                    Sql(text, isMySql: false, ref output);
                    break;
                case "redis" or "memcache" or "memcached":
                    Command(text, ref output);
                    break;
                case var _ when isUrl:
                    output.Append(url.Method);
                    output.AppendLower(url.Scheme);
                    output.AppendLower(url.Authority);
                    AppendPath(ref output, url.Path);
                    break;
                default:
                    AppendWithoutValues(ref output, text);
                    break;
            }

            return Text(output.Written);
        }
        finally
        {
            output.Return();
        }
    }

    static string Text(ReadOnlySpan<char> key) => key.Length <= MaxLength ? SharedNames.Of(key) : Cut(key.ToString(), MaxLength);

    // What stands before the first dot of a record's name: mysql in mysql.success.
    static ReadOnlySpan<char> FamilyOf(ReadOnlySpan<char> name) => name.IndexOf('.') is >= 0 and var dot ? name[..dot] : name;

    /// <summary>The text up to a length, with an ending that says that it was cut; never half a character.</summary>
    public static string Cut(string text, int length, string ending = "...")
    {
        if (text.Length <= length) return text;
        length = Math.Max(0, length - ending.Length);
        if (length > 0 && char.IsHighSurrogate(text[length - 1])) length--;
        return text[..length] + ending;
    }

    static ReadOnlySpan<char> Cut(ReadOnlySpan<char> text, int length)
    {
        if (text.Length <= length) return text;
        return text[..(char.IsHighSurrogate(text[length - 1]) ? length - 1 : length)];
    }

    /// <summary>Method keeps its space and Scheme its "://"; the user is left out.</summary>
    ref struct Url
    {
        public ReadOnlySpan<char> Method, Scheme, Authority, Path;
    }

    // "GET /path?x", "http://host/path#y", "POST http://host/path".
    static bool TrySplitUrl(ReadOnlySpan<char> text, out Url url)
    {
        url = default;
        var space = text.IndexOf(' ');
        if (space is > 0 and <= 8 && text[..space].IndexOfAnyExceptInRange('A', 'Z') < 0)
        {
            url.Method = text[..(space + 1)];
            text = text[(space + 1)..].TrimStart();
        }

        var end = text.IndexOfAny(s_endOfPath);
        if (end >= 0) text = text[..end];
        var scheme = text.IndexOf("://");
        if (scheme is > 0 and <= 10 && text[..scheme].IndexOfAny("/.:@") < 0)
        {
            url.Scheme = text[..(scheme + 3)];
            text = text[(scheme + 3)..];
            var slash = text.IndexOf('/');
            url.Path = slash < 0 ? "/" : text[slash..];
            url.Authority = slash < 0 ? text : text[..slash];
            url.Authority = url.Authority[(url.Authority.LastIndexOf('@') + 1)..];
            return true;
        }

        if (!text.StartsWith('/')) return false;
        url.Path = text;
        return true;
    }

    static readonly SearchValues<char> s_endOfPath = SearchValues.Create("?# \t\n\r");

    static void AppendPath(ref Characters output, ReadOnlySpan<char> path)
    {
        var isFirst = true;
        foreach (var range in path.Split('/'))
        {
            var segment = path[range];
            if (!isFirst) output.Append('/');
            isFirst = false;
            if (IdLength(segment) is > 0 and var length)
            {
                output.Append("{id}");
                segment = segment[length..];
            }

            output.Append(segment);
        }
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
        var output = new Characters(stackalloc char[Characters.Few]);
        try
        {
            AppendWithoutValues(ref output, Cut(text, MaxRead));
            return output.Written.ToString();
        }
        finally
        {
            output.Return();
        }
    }

    static void AppendWithoutValues(ref Characters output, ReadOnlySpan<char> text)
    {
        var start = output.Length;
        for (var at = 0; at < text.Length && output.Length - start <= MaxLength;)
        {
            var character = text[at];
            if (character is '"' or '\'' && (at == 0 || !char.IsLetterOrDigit(text[at - 1])) && text[(at + 1)..].IndexOf(character) is >= 0 and var close)
            {
                output.Append("{text}");
                at += close + 2;
                continue;
            }

            if (char.IsWhiteSpace(character))
            {
                if (output.Length > start && output[^1] != ' ') output.Append(' ');
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
            else if (word.Contains('-')) AppendParts(ref output, word);
            else if (char.IsAsciiDigit(word[0]))
            {
                output.Append("{id}");
                output.Append(word.TrimStart("0123456789")); // 17ms, 3rd
            }
            else output.Append(word);
            at = end;
        }

        output.TrimEnd(start);
    }

    static void AppendParts(ref Characters output, ReadOnlySpan<char> word)
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
    static void Command(ReadOnlySpan<char> text, ref Characters output)
    {
        Span<Range> words = stackalloc Range[3];
        var count = text.SplitAny(words, " \t\r\n", StringSplitOptions.RemoveEmptyEntries);
        if (count == 0) return;
        output.AppendUpper(text[words[0]]);
        if (count == 1) return;
        output.Append(' ');
        AppendWithoutValues(ref output, Cut(text[words[1]].Trim("\"'"), MaxRead));
    }

    static void Sql(ReadOnlySpan<char> text, bool isMySql, ref Characters output)
    {
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
                AppendValue(ref output);
            }
            else if (character is '"' or '`' or '[')
            {
                var end = text[(at + 1)..].IndexOf(character == '[' ? ']' : character);
                end = end < 0 ? text.Length : at + end + 2;
                output.Append(text[at..end]);
                at = end;
            }
            else if (character == '$' && !char.IsAsciiDigit(next) && DollarQuotedEnd(text, at) is > 0 and var dollarEnd)
            {
                at = dollarEnd;
                AppendValue(ref output);
            }
            else if (character is '@' or '$' or ':' && (char.IsLetterOrDigit(next) || next == '_') && (output.Length == 0 || output[^1] != ':'))
            {
                at++;
                while (at < text.Length && (char.IsLetterOrDigit(text[at]) || text[at] == '_')) at++;
                AppendValue(ref output);
            }
            else if (char.IsAsciiDigit(character) || (character == '.' && char.IsAsciiDigit(next) && (output.Length == 0 || !char.IsLetterOrDigit(output[^1]))))
            {
                while (at < text.Length && (char.IsLetterOrDigit(text[at]) || text[at] == '.' || (text[at] is '+' or '-' && text[at - 1] is 'e' or 'E'))) at++;
                AppendValue(ref output);
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
                if (character == ')') FoldList(ref output);
            }
        }

        output.Trim();
        output.TrimEnd(0, ';');
        output.TrimEnd(0);
    }

    static int SkipSpaceOrComment(ReadOnlySpan<char> text, int at)
    {
        if (char.IsWhiteSpace(text[at])) return at + 1;
        var isBlock = text[at] == '/';
        var start = isBlock ? at + 2 : at;
        var end = isBlock ? text[start..].IndexOf("*/") : text[start..].IndexOf('\n');
        return end < 0 ? text.Length : start + end + (isBlock ? 2 : 1);
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
        var end = text[(close + 1)..].IndexOf(tag);
        return end < 0 ? text.Length : close + 1 + end + tag.Length;
    }

    static void AppendValue(ref Characters output)
    {
        // A sign belongs to the number: "= -1" is "= ?". Two values with nothing between are one ('a' 'b').
        if (output.Length > 1 && output[^1] is '-' or '+' && output[^2] is ' ' or '(' or ',' or '=' or '<' or '>') output.Length--;
        if (output.Length == 0 || output[^1] != '?') output.Append('?');
    }

    // "(?, ?, ?)" becomes "(?)", and "(?), (?)" too: lists of any length are one key.
    static void FoldList(ref Characters output)
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

    /// <summary>Characters that are added at the end, on the stack as long as they are few.</summary>
    ref struct Characters(Span<char> few)
    {
        public const int Few = 512;

        Span<char> _characters = few;
        char[]? _rented;
        int _length;

        /// <summary>Number of characters; may be made less.</summary>
        public int Length { readonly get => _length; set => _length = value; }

        public readonly ReadOnlySpan<char> Written => _characters[.._length];

        public readonly char this[int index] => _characters[index];

        public readonly char this[Index index] => _characters[index.GetOffset(_length)];

        public void Append(char character)
        {
            if (_length == _characters.Length) Grow(1);
            _characters[_length++] = character;
        }

        public void Append(ReadOnlySpan<char> text)
        {
            if (_characters.Length - _length < text.Length) Grow(text.Length);
            text.CopyTo(_characters[_length..]);
            _length += text.Length;
        }

        public void AppendLower(ReadOnlySpan<char> text)
        {
            if (_characters.Length - _length < text.Length) Grow(text.Length);
            _length += text.ToLowerInvariant(_characters[_length..]);
        }

        public void AppendUpper(ReadOnlySpan<char> text)
        {
            if (_characters.Length - _length < text.Length) Grow(text.Length);
            _length += text.ToUpperInvariant(_characters[_length..]);
        }

        public void Trim()
        {
            TrimEnd(0);
            var rest = Written.TrimStart();
            rest.CopyTo(_characters);
            _length = rest.Length;
        }

        /// <summary>Takes white space away from the end, down to a position.</summary>
        public void TrimEnd(int start) => _length = start + Written[start..].TrimEnd().Length;

        public void TrimEnd(int start, char character) => _length = start + Written[start..].TrimEnd(character).Length;

        public void Return()
        {
            if (_rented is not null) ArrayPool<char>.Shared.Return(_rented);
            _rented = null;
        }

        void Grow(int needed)
        {
            var larger = ArrayPool<char>.Shared.Rent(Math.Max(_characters.Length * 2, _length + needed));
            Written.CopyTo(larger);
            Return();
            _characters = _rented = larger;
        }
    }
}
