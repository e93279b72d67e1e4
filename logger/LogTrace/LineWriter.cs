using System.Buffers;
using System.Buffers.Binary;
using System.Buffers.Text;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Text;
using LogTrace.Records;

namespace LogTrace;

/// <summary>
/// Builds one record as UTF-8 JSON in a buffer that each thread reuses, so that a line costs no allocation. Written by hand and not over
/// Utf8JsonWriter because text comes from strangers: a lone surrogate must become U+FFFD there, never an exception.
/// </summary>
sealed class LineWriter
{
    const int KeptBytes = 256 * 1024;
    const int TextChunk = 1024;
    const int MaxBytesPerChar = 6;
    const int MaxNameChars = 256;

    // With the comma before them: only the first member of an object goes without.
    static readonly byte[][] s_keys = [.. RecordFields.All.Select(field => Encoding.UTF8.GetBytes($",\"{field.WireName}\":"))];

    [ThreadStatic]
    static LineWriter? t_idle;

    byte[] _buffer = new byte[8 * 1024];
    int _length;

    /// <summary>This thread's writer, empty. Give it back with <see cref="Return"/>; one that is rented meanwhile is another one.</summary>
    public static LineWriter Rent()
    {
        var writer = t_idle ?? new LineWriter();
        t_idle = null;
        writer._length = 0;
        return writer;
    }

    public static void Return(LineWriter writer)
    {
        if (writer._buffer.Length <= KeptBytes) t_idle = writer;
    }

    public int Length => _length;

    public ReadOnlySpan<byte> Written => _buffer.AsSpan(0, _length);

    public void Begin() => Byte((byte)'{');

    public void End() => Byte((byte)'}');

    public void LineEnd() => Byte((byte)'\n');

    /// <summary>Undoes everything after <paramref name="length"/>.</summary>
    public void CutTo(int length) => _length = length;

    public void Key(RecordField field) => Member(s_keys[(int)field]);

    public void Key(ReadOnlySpan<char> name)
    {
        Comma();
        Quoted(name, MaxNameChars);
        Byte((byte)':');
    }

    /// <summary>A name as <see cref="Key(byte[])"/> takes it.</summary>
    public static byte[] KeyOf(string name)
    {
        var line = Rent();
        // The writer leaves out the comma after an opened object alone.
        line.Byte((byte)',');
        line.Quoted(name, MaxNameChars);
        line.Byte((byte)':');
        var key = line.Written.ToArray();
        Return(line);
        return key;
    }

    /// <summary>Writes a name that was encoded before.</summary>
    public void Key(byte[] withComma) => Member(withComma);

    /// <summary>Writes fields that were encoded before.</summary>
    public void Fixed(FixedText text) => Member(text.Json);

    /// <summary>Writes a text field; nothing when there is no text.</summary>
    public void Text(RecordField field, string? value, int maxChars)
    {
        if (value is not null) Text(field, value.AsSpan(), maxChars);
    }

    public void Text(RecordField field, ReadOnlySpan<char> value, int maxChars)
    {
        Key(field);
        Quoted(value, maxChars);
    }

    public void Number(RecordField field, long value)
    {
        Key(field);
        Number(value);
    }

    public void Flag(RecordField field, bool value)
    {
        Key(field);
        Raw(value ? "true"u8 : "false"u8);
    }

    /// <summary>Writes microseconds as seconds with up to six decimals: 21,000 is <c>0.021</c>.</summary>
    public void Seconds(RecordField field, long micros)
    {
        Key(field);
        var (seconds, fraction) = Math.DivRem((ulong)Math.Max(micros, 0), 1_000_000u);
        Number((long)seconds);
        var room = Room(7);
        room[0] = (byte)'.';
        for (var i = 6; i > 0; i--) (fraction, room[i]) = (fraction / 10, (byte)('0' + (fraction % 10)));
        // One decimal stays, so that nobody takes it for an integer.
        _length += 2 + room[2..7].TrimEnd((byte)'0').Length;
    }

    /// <summary>Writes an id from its parts, so that nobody has to make a string of it.</summary>
    public void RpcId(ReadOnlySpan<char> prefix, long number)
    {
        Key(RecordField.RpcId);
        Quoted(prefix, prefix.Length);
        // In place of the closing quote.
        _buffer[_length - 1] = (byte)'.';
        Number(number);
        Byte((byte)'"');
    }

    /// <summary>Writes a span id as 16 hex digits.</summary>
    public void Span(RecordField field, ulong id)
    {
        Key(field);
        var room = Room(18);
        room[0] = room[17] = (byte)'"';
        WriteHex(id, room[1..]);
        _length += 18;
    }

    static void WriteHex(ulong value, Span<byte> digits)
    {
#if NET9_0_OR_GREATER
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, value);
        Convert.TryToHexStringLower(bytes, digits, out _);
#else
        Utf8Formatter.TryFormat(value, digits, out _, new StandardFormat('x', 16));
#endif
    }

    public void Number(long value)
    {
        value.TryFormat(Room(20), out var written, provider: CultureInfo.InvariantCulture);
        _length += written;
    }

    /// <summary>JSON has no NaN and no infinity: those are written as text.</summary>
    public void Number(double value)
    {
        if (!double.IsFinite(value))
        {
            Quoted(value.ToString(CultureInfo.InvariantCulture), 32);
            return;
        }

        value.TryFormat(Room(32), out var written, provider: CultureInfo.InvariantCulture);
        _length += written;
    }

    public void Number(decimal value)
    {
        value.TryFormat(Room(40), out var written, provider: CultureInfo.InvariantCulture);
        _length += written;
    }

    /// <summary>Writes characters of ASCII that need no escape.</summary>
    public void Plain(ReadOnlySpan<char> ascii) => _length += Encoding.UTF8.GetBytes(ascii, Room(ascii.Length * 3));

    public void Raw(ReadOnlySpan<byte> utf8)
    {
        utf8.CopyTo(Room(utf8.Length));
        _length += utf8.Length;
    }

    public void Byte(byte value)
    {
        Room(1)[0] = value;
        _length++;
    }

    /// <summary>Writes a comma unless a container was just opened.</summary>
    public void Comma()
    {
        if (_length > 0 && _buffer[_length - 1] is not ((byte)'{' or (byte)'[' or (byte)':' or (byte)',')) Byte((byte)',');
    }

    /// <summary>Writes a JSON string. What exceeds <paramref name="maxChars"/> is cut and the cut is said at the end of the text.</summary>
    public void Quoted(ReadOnlySpan<char> value, int maxChars)
    {
        if (value.Length > Math.Min(maxChars, TextChunk))
        {
            QuotedLong(value, maxChars);
            return;
        }

        var room = Room(value.Length * MaxBytesPerChar + 2);
        room[0] = (byte)'"';
        var end = Encode(value, value.Length, room[1..], out _) + 1;
        room[end] = (byte)'"';
        _length += end + 1;
    }

    void QuotedLong(ReadOnlySpan<char> value, int maxChars)
    {
        Byte((byte)'"');
        var cut = value.Length - maxChars;
        if (cut > 0)
        {
            if (char.IsHighSurrogate(value[maxChars - 1])) cut++;
            value = value[..^cut];
        }

        while (value.Length > 0)
        {
            var chunk = Math.Min(value.Length, TextChunk);
            // A surrogate pair may reach over the end of the chunk.
            _length += Encode(value, chunk, Room((chunk + 1) * MaxBytesPerChar), out var taken);
            value = value[taken..];
        }

        if (cut > 0)
        {
            Raw("... (+"u8);
            Number(cut);
            Raw(" characters)"u8);
        }

        Byte((byte)'"');
    }

    /// <summary>
    /// Encodes the first <paramref name="chars"/> of a text (a surrogate pair whole) and gives the number of bytes. Sixteen characters at a time are narrowed to bytes and stored; the first one
    /// among them that JSON wants escaped, or that is not ASCII, is then written over: most texts have few of those, and parameters a quote every few letters.
    /// </summary>
    static int Encode(ReadOnlySpan<char> text, int chars, Span<byte> output, out int taken)
    {
        int from = 0, to = 0;
        while (from < chars)
        {
            if (chars - from >= Vector128<byte>.Count)
            {
                var letters = MemoryMarshal.Cast<char, ushort>(text.Slice(from, Vector128<byte>.Count));
                // What is no byte becomes 255.
                var most = Vector128.Create((ushort)byte.MaxValue);
                var bytes = Vector128.Narrow(Vector128.Min(Vector128.Create(letters), most), Vector128.Min(Vector128.Create(letters[Vector128<ushort>.Count..]), most));
                // Blank to tilde, without quote and backslash. Below the blank the subtraction wraps around.
                var odd = Vector128.GreaterThan(bytes - Vector128.Create((byte)' '), Vector128.Create((byte)('~' - ' ')))
                    | Vector128.Equals(bytes, Vector128.Create((byte)'"')) | Vector128.Equals(bytes, Vector128.Create((byte)'\\'));
                bytes.CopyTo(output[to..]);
                var plain = odd == Vector128<byte>.Zero ? Vector128<byte>.Count : BitOperations.TrailingZeroCount(odd.ExtractMostSignificantBits());
                from += plain;
                to += plain;
                if (plain == Vector128<byte>.Count) continue;
            }

            var letter = text[from];
            if (letter is '"' or '\\')
            {
                output[to++] = (byte)'\\';
                output[to++] = (byte)letter;
                from++;
            }
            else if (letter is >= ' ' and <= '~')
            {
                output[to++] = (byte)letter;
                from++;
            }
            else
            {
                to += EncodeOdd(text, ref from, output[to..]);
            }
        }

        taken = from;
        return to;
    }

    static int EncodeOdd(ReadOnlySpan<char> text, ref int from, Span<byte> output)
    {
        var letter = text[from];
        if (letter > '\x7f')
        {
            // A lone surrogate gives U+FFFD and has a length of 1.
            Rune.DecodeFromUtf16(text[from..], out var rune, out var length);
            from += length;
            return rune.EncodeToUtf8(output);
        }

        from++;
        output[0] = (byte)'\\';
        output[1] = (byte)(letter switch { '\n' => 'n', '\r' => 'r', '\t' => 't', '\b' => 'b', '\f' => 'f', _ => 'u' });
        if (output[1] != (byte)'u') return 2;
        Utf8Formatter.TryFormat((ushort)letter, output[2..], out _, new StandardFormat('x', 4));
        return MaxBytesPerChar;
    }

    void Member(ReadOnlySpan<byte> withComma) => Raw(_buffer[_length - 1] == (byte)'{' ? withComma[1..] : withComma);

    Span<byte> Room(int bytes)
    {
        if (_buffer.Length - _length < bytes) Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, _length + bytes));
        return _buffer.AsSpan(_length);
    }
}
