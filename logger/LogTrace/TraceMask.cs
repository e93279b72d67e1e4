using System.Buffers;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;
using LogTrace.Records;

namespace LogTrace;

/// <summary>
/// Takes secrets out of what is about to be written, as <see cref="TraceMaskingOptions"/> says. A text with nothing to mask costs a vectorised search for <c>: = </c>, a look at the name before
/// each of them, and no allocation; all work is linear in the text, whatever it contains. Thread-safe.
/// </summary>
sealed class TraceMask
{
    /// <summary>What stands in the place of a value.</summary>
    public const string Hidden = "***";

    /// <summary>Fields that a text of somebody else can get into.</summary>
    public static readonly IReadOnlyList<RecordField> MaskableFields =
    [
        RecordField.Action, RecordField.Param, RecordField.Msg, RecordField.Backtrace, RecordField.Uid, RecordField.Source, RecordField.ClientIp, RecordField.UserAgent, RecordField.Response,
    ];

    static readonly string[] s_secrets =
    [
        "password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "authorization", "cookie", "cookies", "api_key", "access_key", "private_key", "session_id", "debug_key",
        "credential", "credentials",
    ];

    const string Bearer = "bearer ";
#if NET9_0_OR_GREATER
    // Ignoring case, a string is searched for letter by letter where globalization is invariant.
    static readonly SearchValues<string> s_bearer = SearchValues.Create([Bearer], StringComparison.OrdinalIgnoreCase);
#endif
    const string SchemeEnd = "://";
    const int MaxUserInfo = 512;

    // Shorter ones are words: a bearer of good news.
    const int MinTokenLength = 8;

    // The longest form of an address in IPv6, with room for a port.
    const int MaxAddress = 51;

    // What ends a value that stands in no quotes.
    static readonly SearchValues<char> s_valueEnds = SearchValues.Create(" \t\r\n&;,}])<>\"'`|");
    static readonly SearchValues<char> s_lineEnds = SearchValues.Create("\r\n\"'");
    static readonly SearchValues<char> s_bearerCharacters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=");

    /// <summary>Masks nothing. After what its making reads.</summary>
    public static readonly TraceMask None = new(new() { Enabled = false }, []);

    readonly bool _isOn;

    // By the last letter, in lower case: what a name is compared with. Most names end in a letter that no secret's does, or differ in the letter before it.
    readonly Name[]?[] _names = new Name[128][];
    readonly string[] _exceptions;
    readonly string[] _literals;
    readonly ulong _hiddenFields;
    readonly ulong _maskedFields;
    readonly byte[]? _userIdKey;
    readonly bool _ips;
    readonly bool _cards;
    readonly bool _phones;
    readonly Regex[] _patterns;

    /// <summary>What to do with a value.</summary>
    enum Act
    {
        Keep,
        Hide,
        Hash,
    }

    /// <param name="Text">Lower case, without <c>_</c> and <c>-</c>.</param>
    readonly record struct Name(string Text, bool IsEnding, Act Act);

    /// <param name="options">What to mask.</param>
    /// <param name="literals">Texts that must never be written, wherever they stand: the debug keys.</param>
    public TraceMask(TraceMaskingOptions options, IEnumerable<string> literals)
    {
        _isOn = options.Enabled;
        _exceptions = [.. options.ExceptNames.Select(Plain)];
        // A key is kept out of records also where masking is switched off.
        _literals = [.. literals.Where(literal => literal.Length > 0)];
        _userIdKey = _isOn && options.UserIdKey.Length > 0 ? Encoding.UTF8.GetBytes(options.UserIdKey) : null;
        string[] userIds = _userIdKey is null ? [] : ["uid", "user_id", .. options.UserIdNames];
        Name[] names = !_isOn ? [] :
        [
            .. userIds.Select(name => new Name(Plain(name), false, Act.Hash)),
            .. s_secrets.Select(name => new Name(Plain(name), true, Act.Hide)),
            .. options.Names.Select(name => new Name(Plain(name), name.StartsWith('*'), Act.Hide)),
        ];
        foreach (var sameEnd in names.GroupBy(name => name.Text[^1])) _names[sameEnd.Key] = [.. sameEnd];
        _ips = _isOn && options.IpAddresses;
        _cards = _isOn && options.CardNumbers;
        _phones = _isOn && options.PhoneNumbers;
        _patterns = _isOn ? [.. options.Patterns.Select(TraceMaskingOptions.Pattern)] : [];
        foreach (var field in MaskableFields)
        {
            _maskedFields |= 1UL << (int)field;
            if (_isOn && options.Fields.Contains(RecordFields.WireName(field), StringComparer.Ordinal)) _hiddenFields |= 1UL << (int)field;
        }

        if (!_isOn && _literals.Length == 0) _maskedFields = 0;
    }

    /// <summary>True for what names of members and parameters are made of.</summary>
    public static bool IsNameCharacter(char letter) => char.IsAsciiLetterOrDigit(letter) || letter is '_' or '-';

    /// <summary>The value that may be written into a field; the same string when nothing in it is masked.</summary>
    public string? Field(RecordField field, string? value)
    {
        if (value is null || (_maskedFields >> (int)field & 1) == 0) return value;
        if ((_hiddenFields >> (int)field & 1) != 0) return value.Length == 0 ? value : Hidden;
        if (field == RecordField.Uid && _userIdKey is not null) return Hash(value);
        return TryText(value, out var masked) ? masked : value;
    }

    /// <summary>The same for characters: false when they can be written as they are.</summary>
    public bool TryField(RecordField field, ReadOnlySpan<char> value, [NotNullWhen(true)] out string? masked)
    {
        masked = null;
        if ((_maskedFields >> (int)field & 1) == 0 || value.IsEmpty) return false;
        if ((_hiddenFields >> (int)field & 1) != 0) masked = Hidden;
        else if (field == RecordField.Uid && _userIdKey is not null) masked = Hash(value);
        else return TryText(value, out masked);
        return true;
    }

    /// <summary>What may be written for a member of <c>extra</c> or a property; the same object when nothing is masked.</summary>
    public object? Member(string name, object? value)
    {
        if (value is null) return null;
        switch (ActFor(name))
        {
            case Act.Hide: return Hidden;
            case Act.Hash: return Hash(Convert.ToString(value, CultureInfo.InvariantCulture) ?? "");
            default: return value is string text && TryText(text, out var masked) ? masked : value;
        }
    }

    /// <summary>What may be written for an element of a list, which has no name; the same object when nothing is masked.</summary>
    public object? Element(object? value) => value is string text && TryText(text, out var masked) ? masked : value;

    /// <summary>True when nothing of the values under this name may be written as it is.</summary>
    public bool Covers(ReadOnlySpan<char> name) => ActFor(name) != Act.Keep;

    /// <summary>Whether what needs no masking as part of a text needs none alone: numbers and patterns may look at what is around them.</summary>
    public bool KnowsParts => !_ips && !_cards && !_phones && _patterns.Length == 0;

    /// <summary>False when a text can be written as it is.</summary>
    public bool TryText(ReadOnlySpan<char> text, [NotNullWhen(true)] out string? masked)
    {
        masked = null;
        foreach (var literal in _literals)
        {
            if ((masked ?? text).Contains(literal, StringComparison.Ordinal)) masked = (masked ?? text.ToString()).Replace(literal, Hidden, StringComparison.Ordinal);
        }

        if (_isOn) masked = MaskNamed(masked ?? text) ?? masked;
        if ((_ips || _cards || _phones) && MaskNumbers(masked ?? text) is { } withoutNumbers) masked = withoutNumbers;
        foreach (var pattern in _patterns)
        {
            if (pattern.IsMatch(masked ?? text)) masked = pattern.Replace(masked ?? text.ToString(), Hidden);
        }

        return masked is not null;
    }

    static string Plain(string name) => new([.. name.Where(char.IsAsciiLetterOrDigit).Select(char.ToLowerInvariant)]);

    Act ActFor(ReadOnlySpan<char> name)
    {
        name = name.TrimEnd("_-");
        if (name.IsEmpty || char.ToLowerInvariant(name[^1]) is not (< '\x80' and var last) || _names[last] is not { } known) return Act.Keep;
        foreach (var candidate in known)
        {
            if (Matches(name, candidate.Text, candidate.IsEnding)) return IsException(name) ? Act.Keep : candidate.Act;
        }

        return Act.Keep;
    }

    bool IsException(ReadOnlySpan<char> name)
    {
        foreach (var exception in _exceptions)
        {
            if (Matches(name, exception, isEnding: false)) return true;
        }

        return false;
    }

    static bool Matches(ReadOnlySpan<char> name, string plain, bool isEnding)
    {
        var at = name.Length - 1;
        for (var i = plain.Length - 1; i >= 0; i--, at--)
        {
            while (at >= 0 && name[at] is '_' or '-') at--;
            if (at < 0 || char.ToLowerInvariant(name[at]) != plain[i]) return false;
        }

        if (isEnding) return true;
        while (at >= 0 && name[at] is '_' or '-') at--;
        return at < 0;
    }

    string Hash(ReadOnlySpan<char> value)
    {
        if (value.IsEmpty) return "";
        var bytes = Encoding.UTF8.GetBytes(value.ToString());
        return "u-" + Convert.ToHexString(HMACSHA256.HashData(_userIdKey!, bytes).AsSpan(0, 8)).ToLowerInvariant();
    }

    // ---- names with values ----

    /// <summary>Null when there is nothing to mask.</summary>
    string? MaskNamed(ReadOnlySpan<char> text)
    {
        StringBuilder? result = null;
        var copied = 0;
        // Everything before it was looked at and is not looked at again: that keeps the whole linear.
        var done = 0;
        var separator = SeparatorFrom(text, 0);
        var bearer = BearerFrom(text, 0);
        while (true)
        {
            if (separator < done) separator = SeparatorFrom(text, done);
            if (bearer < done) bearer = BearerFrom(text, done);
            var hit = Math.Min(separator, bearer);
            if (hit >= text.Length) break;

            var (start, length, replacement) = hit == bearer ? BearerToken(text, hit, ref done) : At(text, hit, ref done);
            if (replacement is not null)
            {
                result ??= new StringBuilder(text.Length);
                result.Append(text[copied..start]).Append(replacement);
                copied = start + length;
            }

            if (done <= hit) done = hit + 1;
        }

        return result?.Append(text[copied..]).ToString();
    }

    static int SeparatorFrom(ReadOnlySpan<char> text, int from)
    {
        var next = from < text.Length ? text[from..].IndexOfAny(':', '=') : -1;
        return next < 0 ? text.Length : from + next;
    }

    static int BearerFrom(ReadOnlySpan<char> text, int from)
    {
        if (text.Length - from < Bearer.Length + MinTokenLength) return text.Length;
#if NET9_0_OR_GREATER
        var next = text[from..].IndexOfAny(s_bearer);
#else
        var next = text[from..].IndexOf(Bearer, StringComparison.OrdinalIgnoreCase);
#endif
        return next < 0 ? text.Length : from + next;
    }

    /// <summary>What to replace for the <c>:</c> or <c>=</c> at <paramref name="hit"/>, if anything; moves <paramref name="done"/> behind what was judged.</summary>
    (int Start, int Length, string? Replacement) At(ReadOnlySpan<char> text, int hit, ref int done)
    {
        // Back over what Value passes on its way from the name.
        var end = hit;
        while (end > done && text[end - 1] is ' ' or '\t') end--;
        if (end > done && text[end - 1] == ']') end--;
        if (end > done && text[end - 1] is '"' or '\'')
        {
            end--;
            while (end > done && text[end - 1] == '\\') end--;
        }

        var start = end;
        while (start > done && IsNameCharacter(text[start - 1])) start--;
        var act = ActFor(text[start..end]);
        if (act != Act.Keep) return Value(text, text[start..end], end, act, ref done);
        return text[hit..].StartsWith(SchemeEnd, StringComparison.Ordinal) ? UserInfo(text, hit + SchemeEnd.Length, ref done) : default;
    }

    static (int Start, int Length, string? Replacement) BearerToken(ReadOnlySpan<char> text, int hit, ref int done)
    {
        if (hit > done && IsNameCharacter(text[hit - 1])) return default;
        var start = hit + Bearer.Length;
        var length = text[start..].IndexOfAnyExcept(s_bearerCharacters);
        if (length < 0) length = text.Length - start;
        if (length < MinTokenLength) return default;
        done = start + length;
        return (start, length, Hidden);
    }

    /// <summary>The password in <c>scheme://user:password@host</c>.</summary>
    static (int Start, int Length, string? Replacement) UserInfo(ReadOnlySpan<char> text, int start, ref int done)
    {
        done = start;
        var info = text.Slice(start, Math.Min(MaxUserInfo, text.Length - start));
        var stop = info.IndexOfAny("@/?# \t\r\n\"'<>");
        if (stop < 0 || info[stop] != '@') return default;
        var colon = info[..stop].IndexOf(':');
        if (colon < 0 || colon + 1 == stop) return default;
        done = start + stop;
        return (start + colon + 1, stop - colon - 1, Hidden);
    }

    (int Start, int Length, string? Replacement) Value(ReadOnlySpan<char> text, ReadOnlySpan<char> name, int end, Act act, ref int done)
    {
        // The name may stand in quotes, which are escaped where a JSON text is a member of another.
        var at = end;
        while (at < text.Length && text[at] == '\\') at++;
        var quote = ReadOnlySpan<char>.Empty;
        if (at < text.Length && text[at] is '"' or '\'') quote = text[end..++at];
        else at = end;
        if (at < text.Length && text[at] == ']') at++;
        while (at < text.Length && text[at] is ' ' or '\t') at++;
        if (at >= text.Length || text[at] is not (':' or '=')) return default;
        var isHeader = text[at] == ':' && quote.IsEmpty;
        at++;
        if (at < text.Length && text[at] == '>') at++;
        while (at < text.Length && text[at] is ' ' or '\t') at++;
        done = at;
        if (at >= text.Length) return default;

        var open = at;
        while (open < text.Length && text[open] == '\\') open++;
        if (open < text.Length && text[open] is '"' or '\'')
        {
            var from = open + 1;
            var closed = QuotedEnd(text, from, text[open], open - at, out var length);
            done = closed;
            return length == 0 ? default : (from, length, Replace(text.Slice(from, length), act));
        }

        if (text[at] is '{' or '[')
        {
            done = BalancedEnd(text, at);
            return (at, done - at, quote.IsEmpty ? Hidden : $"{quote}{Hidden}{quote}");
        }

        var value = text[at..];
        var stop = isHeader && (Matches(name, "authorization", isEnding: true) || Matches(name, "cookie", isEnding: true)) ? value.IndexOfAny(s_lineEnds) : UnquotedEnd(value);
        if (stop < 0) stop = value.Length;
        done = at + stop;
        value = value[..stop];
        // A parameter of a query stands for its value, and what is masked already stays so.
        if (value.IsEmpty || value[0] is '@' or '?' or '$' or ':' || value is Hidden) return default;
        var replacement = Replace(value, act);
        return (at, stop, quote.IsEmpty ? replacement : $"{quote}{replacement}{quote}");
    }

    string Replace(ReadOnlySpan<char> value, Act act) => act == Act.Hash ? Hash(value) : Hidden;

    static int UnquotedEnd(ReadOnlySpan<char> value)
    {
        var stop = value.IndexOfAny(s_valueEnds);
        if (stop < 0 || value[stop] != ' ') return stop;
        // token: Bearer abc
        if (!value[..stop].Equals("bearer", StringComparison.OrdinalIgnoreCase) && !value[..stop].Equals("basic", StringComparison.OrdinalIgnoreCase)) return stop;
        var second = value[(stop + 1)..].IndexOfAny(s_valueEnds);
        return second < 0 ? -1 : stop + 1 + second;
    }

    /// <summary>Where to go on behind a value in quotes that are escaped <paramref name="escapes"/> times; to the end of the text when it is not closed.</summary>
    static int QuotedEnd(ReadOnlySpan<char> text, int from, char quote, int escapes, out int length)
    {
        var backslashes = 0;
        for (var at = from; at < text.Length; at++)
        {
            if (text[at] == '\\')
            {
                backslashes++;
                continue;
            }

            if (text[at] == quote && (escapes == 0 ? backslashes % 2 == 0 : backslashes <= escapes))
            {
                length = at - from - (escapes == 0 ? 0 : backslashes);
                return at + 1;
            }

            backslashes = 0;
        }

        length = text.Length - from;
        return text.Length;
    }

    static int BalancedEnd(ReadOnlySpan<char> text, int from)
    {
        var depth = 0;
        for (var at = from; at < text.Length; at++)
        {
            switch (text[at])
            {
                case '{' or '[': depth++; break;
                case '}' or ']':
                    if (--depth == 0) return at + 1;
                    break;
                case '"':
                    var escapes = 0;
                    while (at - escapes - 1 > from && text[at - escapes - 1] == '\\') escapes++;
                    at = QuotedEnd(text, at + 1, '"', escapes, out _) - 1;
                    break;
            }
        }

        return text.Length;
    }

    // ---- numbers ----

    /// <summary>Null when there is none to mask.</summary>
    string? MaskNumbers(ReadOnlySpan<char> text)
    {
        StringBuilder? result = null;
        var copied = 0;
        var at = 0;
        while (at < text.Length)
        {
            var next = _ips ? text[at..].IndexOfAny("0123456789+:") : text[at..].IndexOfAny("0123456789+");
            if (next < 0) break;
            at += next;
            var (start, length, replacement) = NumberAt(text, at, copied);
            if (replacement is not null)
            {
                result ??= new StringBuilder(text.Length);
                result.Append(text[copied..start]).Append(replacement);
                copied = start + length;
            }

            at = Math.Max(at + 1, start + length);
        }

        return result?.Append(text[copied..]).ToString();
    }

    (int Start, int Length, string? Replacement) NumberAt(ReadOnlySpan<char> text, int at, int from)
    {
        if (_ips)
        {
            // An address in IPv6 may begin with letters before the first digit or colon.
            var start = at;
            while (start > from && at - start < 4 && char.IsAsciiHexDigit(text[start - 1])) start--;
            var end = at;
            while (end < text.Length && end - start <= MaxAddress && (char.IsAsciiHexDigit(text[end]) || text[end] is '.' or ':')) end++;
            if (Network(text[start..end].TrimEnd(":.")) is { } network && (start == 0 || (text[start - 1] != '.' && !char.IsAsciiLetterOrDigit(text[start - 1]))))
            {
                var written = text[start..end].TrimEnd(":.").Length;
                // What follows an address with one colon is its port.
                return (start, written, network);
            }
        }

        var plus = text[at] == '+';
        if (text[at] == ':') return (at, 1, null);
        if (!plus && at > 0 && char.IsAsciiLetterOrDigit(text[at - 1])) return (at, RunOfLettersAndDigits(text, at), null);
        Span<char> digits = stackalloc char[20];
        var count = 0;
        var groups = 0;
        var (cardEnd, cardDigits) = (0, 0);
        var stop = at + (plus ? 1 : 0);
        var last = stop;
        for (var i = stop; i < text.Length && count < 20; i++)
        {
            if (char.IsAsciiDigit(text[i]))
            {
                if (i > last) groups++;
                digits[count++] = text[i];
                last = i + 1;
                // More digits may follow in a group of their own: a card ends where a group does.
                if (_cards && !plus && count is >= 13 and <= 19 && (last == text.Length || !char.IsAsciiLetterOrDigit(text[last])) && IsCard(digits[..count])) (cardEnd, cardDigits) = (last, count);
            }
            else if (text[i] is not (' ' or '-' or '.' or '(' or ')') || i - last >= 2)
            {
                break;
            }
        }

        if (count == 0) return (at, 1, null);
        if (cardEnd > 0) return (at, cardEnd - at, $"{Hidden}{digits[(cardDigits - 4)..cardDigits]}");
        var run = RunOfDigits(text, stop);
        if (last < text.Length && char.IsAsciiLetterOrDigit(text[last])) return (at, Math.Max(1, RunOfLettersAndDigits(text, at)), null);
        var number = digits[..count];
        if (_phones && (plus || number.StartsWith("00")) && count - (plus ? 0 : 2) is >= 8 and <= 15) return (at, last - at, $"{Hidden}{number[^2..]}");
        if (_phones && !plus && count == 11 && number[0] == '1' && number[1] >= '3' && groups is 0 or 2) return (at, last - at, $"{Hidden}{number[^2..]}");
        if (_phones && !plus && count == 10 && number[0] >= '2' && groups == 2) return (at, last - at, $"{Hidden}{number[^2..]}");
        return (at, Math.Max(1, (plus ? 1 : 0) + run), null);
    }

    static int RunOfDigits(ReadOnlySpan<char> text, int at)
    {
        var run = text[at..].IndexOfAnyExceptInRange('0', '9');
        return run < 0 ? text.Length - at : run;
    }

    static int RunOfLettersAndDigits(ReadOnlySpan<char> text, int at)
    {
        var end = at;
        while (end < text.Length && char.IsAsciiLetterOrDigit(text[end])) end++;
        return end - at;
    }

    static bool IsCard(ReadOnlySpan<char> digits)
    {
        if (digits[0] is < '2' or > '6') return false;
        var sum = 0;
        for (var i = 0; i < digits.Length; i++)
        {
            var digit = digits[digits.Length - 1 - i] - '0';
            if (i % 2 == 1) digit = digit > 4 ? digit * 2 - 9 : digit * 2;
            sum += digit;
        }

        return sum % 10 == 0;
    }

    /// <summary>The /24 or /64 of an address; null for what is none. A port behind an IPv4 address stays.</summary>
    static string? Network(ReadOnlySpan<char> text)
    {
        if (text.Length is < 2 or > MaxAddress) return null;
        var port = ReadOnlySpan<char>.Empty;
        if (text.Count(':') == 1 && text.Contains('.'))
        {
            var colon = text.IndexOf(':');
            port = text[colon..];
            text = text[..colon];
        }

        // Without three dots or two colons it is a number, which the parser would take for an address.
        if (text.Count('.') != 3 && text.Count(':') < 2) return null;
        if (!IPAddress.TryParse(text, out var address)) return null;
        var bytes = address.GetAddressBytes();
        if (address.AddressFamily == AddressFamily.InterNetwork) bytes[3] = 0;
        else Array.Clear(bytes, 8, 8);
        return $"{new IPAddress(bytes)}{port}";
    }
}
