using System.Buffers;
using System.Text;
using System.Text.Unicode;

namespace LogTrace.Records;

enum JsonKind : byte
{
    String, Number, True, False, Null, Object, Array,
}

/// <summary>One JSON value as a slice: of a string without its quotes, of anything else as it stands.</summary>
readonly record struct JsonValue(JsonKind Kind, int Start, int Length, bool Escaped)
{
    /// <summary>First byte of the value with its quotes.</summary>
    public int RawStart => Kind == JsonKind.String ? Start - 1 : Start;

    public int RawLength => Kind == JsonKind.String ? Length + 2 : Length;
}

/// <summary>One member of an object. <see cref="Field"/> is the reader's to use.</summary>
struct JsonMember
{
    public int NameStart;
    public int NameLength;
    public bool NameEscaped;
    public short Field;
    public JsonValue Value;
}

/// <summary>
/// Walks JSON text without building anything and without exceptions: a line that is no JSON costs no more than one that is. Strict as
/// RFC 8259, but for bytes that are no UTF-8, which pass here and are replaced where a value is taken.
/// </summary>
/// <remarks>System.Text.Json's reader throws on bad input and on lone surrogates, refuses nesting by default at 64, and cannot stop early and go on elsewhere.</remarks>
ref struct JsonScanner(ReadOnlySpan<byte> json)
{
    /// <summary>Deepest nesting that is read; every level costs one stack frame.</summary>
    public const int MaxDepth = 256;

    static readonly SearchValues<byte> EndsPlainText = SearchValues.Create(
        [(byte)'"', (byte)'\\', .. Enumerable.Range(0, 32).Select(character => (byte)character)]);

    readonly ReadOnlySpan<byte> _json = json;
    int _at;
    bool _isFirst;

    /// <summary>What is wrong with the text, with the byte where; null as long as nothing is.</summary>
    public string? Problem { get; private set; }

    /// <summary>Goes to the first member of the object that is the whole text (a byte order mark before it is skipped).</summary>
    public bool TryEnterObject()
    {
        if (_json.StartsWith("\uFEFF"u8)) _at = 3;
        return TryEnter((byte)'{');
    }

    /// <summary>Goes to the first element of the array that is the whole text.</summary>
    public bool TryEnterArray() => TryEnter((byte)'[');

    bool TryEnter(byte opening)
    {
        SkipSpace();
        if (_at >= _json.Length || _json[_at] != opening) return Fail($"'{(char)opening}' is expected");
        _at++;
        _isFirst = true;
        return true;
    }

    /// <summary>Reads the next member. False at the end of the object, where nothing but white space may follow, or with a <see cref="Problem"/>.</summary>
    public bool TryNextMember(out JsonMember member)
    {
        member = default;
        if (!TryGoToNext((byte)'}')) return false;
        if (!TryName(out var name)) return false;
        if (!TryValue(out var value, 1)) return false;
        member = new JsonMember { NameStart = name.Start, NameLength = name.Length, NameEscaped = name.Escaped, Field = -1, Value = value };
        return true;
    }

    /// <summary>Reads the next element. False at the end of the array or with a <see cref="Problem"/>.</summary>
    public bool TryNextElement(out JsonValue value)
    {
        value = default;
        return TryGoToNext((byte)']') && TryValue(out value, 1);
    }

    bool TryGoToNext(byte closing)
    {
        SkipSpace();
        if (_at < _json.Length && _json[_at] == closing)
        {
            _at++;
            SkipSpace();
            return _at < _json.Length && Fail("nothing may follow the end");
        }

        if (!_isFirst && !TryTake((byte)',')) return false;
        _isFirst = false;
        SkipSpace();
        return true;
    }

    bool TryName(out JsonValue name)
    {
        name = default;
        if (_at >= _json.Length || _json[_at] != (byte)'"') return Fail("a member's name in quotes is expected");
        if (!TryString(out name)) return false;
        SkipSpace();
        if (!TryTake((byte)':')) return false;
        SkipSpace();
        return true;
    }

    bool TryTake(byte expected)
    {
        if (_at >= _json.Length || _json[_at] != expected) return Fail($"'{(char)expected}' is expected");
        _at++;
        return true;
    }

    /// <summary>Reads a text that is one value of any kind.</summary>
    public bool TryOnlyValue(out JsonValue value)
    {
        SkipSpace();
        if (!TryValue(out value, 0)) return false;
        SkipSpace();
        return _at >= _json.Length || Fail("nothing may follow the end");
    }

    bool TryValue(out JsonValue value, int depth)
    {
        value = default;
        if (_at >= _json.Length) return Fail("a value is expected");
        var start = _at;
        switch (_json[_at])
        {
            case (byte)'"':
                return TryString(out value);
            case (byte)'{':
                if (!TrySkipContainer((byte)'}', depth + 1)) return false;
                value = new JsonValue(JsonKind.Object, start, _at - start, false);
                return true;
            case (byte)'[':
                if (!TrySkipContainer((byte)']', depth + 1)) return false;
                value = new JsonValue(JsonKind.Array, start, _at - start, false);
                return true;
            case (byte)'t':
                return TryLiteral("true"u8, JsonKind.True, out value);
            case (byte)'f':
                return TryLiteral("false"u8, JsonKind.False, out value);
            case (byte)'n':
                return TryLiteral("null"u8, JsonKind.Null, out value);
            default:
                return TryNumber(out value);
        }
    }

    bool TrySkipContainer(byte closing, int depth)
    {
        if (depth > MaxDepth) return Fail($"nesting goes deeper than {MaxDepth} levels");
        _at++;
        SkipSpace();
        if (_at < _json.Length && _json[_at] == closing)
        {
            _at++;
            return true;
        }

        while (true)
        {
            if (closing == (byte)'}' && !TryName(out _)) return false;
            if (!TryValue(out _, depth)) return false;
            SkipSpace();
            if (_at < _json.Length && _json[_at] == closing)
            {
                _at++;
                return true;
            }

            if (!TryTake((byte)',')) return false;
            SkipSpace();
        }
    }

    bool TryString(out JsonValue value)
    {
        value = default;
        var start = ++_at;
        var escaped = false;
        while (true)
        {
            var plain = _json[_at..].IndexOfAny(EndsPlainText);
            if (plain < 0)
            {
                _at = _json.Length;
                return Fail("a text has no closing quote");
            }

            _at += plain;
            if (_json[_at] == (byte)'"')
            {
                value = new JsonValue(JsonKind.String, start, _at - start, escaped);
                _at++;
                return true;
            }

            if (_json[_at] != (byte)'\\') return Fail($"control character 0x{_json[_at]:X2} within a text must be escaped");
            escaped = true;
            if (!TrySkipEscape()) return false;
        }
    }

    bool TrySkipEscape()
    {
        var rest = _json[(_at + 1)..];
        if (!rest.IsEmpty && "\"\\/bfnrt"u8.Contains(rest[0]))
        {
            _at += 2;
            return true;
        }

        if (rest.Length < 5 || rest[0] != (byte)'u' || !IsHex(rest.Slice(1, 4))) return Fail("an escape in a text is not one of JSON's");
        _at += 6;
        return true;
    }

    static bool IsHex(ReadOnlySpan<byte> digits)
    {
        foreach (var digit in digits)
        {
            if (!char.IsAsciiHexDigit((char)digit)) return false;
        }

        return true;
    }

    bool TryLiteral(ReadOnlySpan<byte> literal, JsonKind kind, out JsonValue value)
    {
        value = new JsonValue(kind, _at, literal.Length, false);
        if (!_json[_at..].StartsWith(literal)) return Fail("a value is expected");
        _at += literal.Length;
        return true;
    }

    bool TryNumber(out JsonValue value)
    {
        value = default;
        var start = _at;
        if (_json[_at] == (byte)'-') _at++;
        var wholeStart = _at;
        if (!TryDigits()) return Fail("a value is expected");
        if (_json[wholeStart] == (byte)'0' && _at - wholeStart > 1) return Fail("a number starts with a zero");
        if (_at < _json.Length && _json[_at] == (byte)'.')
        {
            _at++;
            if (!TryDigits()) return Fail("a digit is expected");
        }

        if (_at < _json.Length && (_json[_at] | 0x20) == 'e')
        {
            _at++;
            if (_at < _json.Length && _json[_at] is (byte)'+' or (byte)'-') _at++;
            if (!TryDigits()) return Fail("a digit is expected");
        }

        value = new JsonValue(JsonKind.Number, start, _at - start, false);
        return true;
    }

    bool TryDigits()
    {
        var count = _json[_at..].IndexOfAnyExceptInRange((byte)'0', (byte)'9');
        if (count < 0) count = _json.Length - _at;
        _at += count;
        return count > 0;
    }

    void SkipSpace()
    {
        while (_at < _json.Length && _json[_at] is (byte)' ' or (byte)'\t' or (byte)'\r' or (byte)'\n') _at++;
    }

    bool Fail(string problem)
    {
        Problem = $"{problem} at byte {_at}";
        return false;
    }

    /// <summary>The text that a raw slice of a string stands for. What is no Unicode (bad UTF-8, a lone surrogate) becomes U+FFFD and sets <paramref name="replaced"/>.</summary>
    public static byte[] Unescape(ReadOnlySpan<byte> raw, out bool replaced)
    {
        replaced = false;
        var output = new byte[raw.Length];
        var length = 0;
        while (!raw.IsEmpty)
        {
            var plain = raw.IndexOf((byte)'\\');
            if (plain < 0) plain = raw.Length;
            raw[..plain].CopyTo(output.AsSpan(length));
            length += plain;
            raw = raw[plain..];
            if (raw.IsEmpty) break;
            if (raw[1] != (byte)'u')
            {
                output[length++] = raw[1] switch
                {
                    (byte)'b' => (byte)'\b',
                    (byte)'f' => (byte)'\f',
                    (byte)'n' => (byte)'\n',
                    (byte)'r' => (byte)'\r',
                    (byte)'t' => (byte)'\t',
                    var itself => itself,
                };
                raw = raw[2..];
                continue;
            }

            var first = CodeUnit(raw);
            raw = raw[6..];
            Rune rune;
            if (char.IsHighSurrogate(first) && raw.StartsWith("\\u"u8) && char.IsLowSurrogate(CodeUnit(raw)))
            {
                rune = new Rune(first, CodeUnit(raw));
                raw = raw[6..];
            }
            else if (!Rune.TryCreate(first, out rune))
            {
                rune = Rune.ReplacementChar;
                replaced = true;
            }

            length += rune.EncodeToUtf8(output.AsSpan(length));
        }

        Array.Resize(ref output, length);
        if (Utf8.IsValid(output)) return output;
        replaced = true;
        return Encoding.UTF8.GetBytes(Encoding.UTF8.GetString(output));
    }

    static char CodeUnit(ReadOnlySpan<byte> escape)
    {
        var unit = 0;
        for (var digit = 2; digit < 6; digit++) unit = (unit << 4) | HexValue(escape[digit]);
        return (char)unit;
    }

    static int HexValue(byte digit) => digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}
