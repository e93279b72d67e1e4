using System.Buffers;
using System.Buffers.Text;
using System.Globalization;
using System.Text;
using System.Text.Unicode;
using LogTrace.Records;

namespace LogTrace;

/// <summary>
/// Builds one record as UTF-8 JSON in a buffer that each thread reuses, so that a line costs no allocation. Written by hand and not over
/// Utf8JsonWriter because text comes from strangers: a lone surrogate must become U+FFFD there, never an exception.
/// </summary>
sealed class LineWriter
{
    const int KeptBytes = 256 * 1024;

    static readonly byte[][] s_keys = [.. RecordFields.All.Select(field => Encoding.UTF8.GetBytes($"\"{field.WireName}\":"))];
    static readonly SearchValues<char> s_escaped = SearchValues.Create([.. Enumerable.Range(0, 0x20).Select(code => (char)code), '"', '\\', '\x7f']);

    [ThreadStatic]
    static LineWriter? t_idle;

    byte[] _buffer = new byte[2048];
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

    public void Key(RecordField field)
    {
        Comma();
        Raw(s_keys[(int)field]);
    }

    public void Key(string name, int maxChars = 256)
    {
        Comma();
        Quoted(name, maxChars);
        Byte((byte)':');
    }

    /// <summary>Writes a text field; nothing when there is no text.</summary>
    public void Text(RecordField field, string? value, int maxChars)
    {
        if (value is null) return;
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
        if (micros < 0) micros = 0;
        Number(micros / 1_000_000);
        Byte((byte)'.');
        var fraction = micros % 1_000_000;
        var digits = 6;
        while (digits > 1 && fraction % 10 == 0)
        {
            fraction /= 10;
            digits--;
        }

        var room = Room(digits);
        for (var i = digits - 1; i >= 0; i--, fraction /= 10) room[i] = (byte)('0' + (fraction % 10));
        _length += digits;
    }

    /// <summary>Writes a span id as 16 hex digits.</summary>
    public void Span(RecordField field, ulong id)
    {
        Key(field);
        Byte((byte)'"');
        Utf8Formatter.TryFormat(id, Room(16), out var written, new StandardFormat('x', 16));
        _length += written;
        Byte((byte)'"');
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
        Byte((byte)'"');
        var cut = value.Length - maxChars;
        if (cut > 0)
        {
            if (char.IsHighSurrogate(value[maxChars - 1])) cut++;
            value = value[..^cut];
        }

        while (true)
        {
            var stop = value.IndexOfAny(s_escaped);
            var run = stop < 0 ? value : value[..stop];
            Utf8.FromUtf16(run, Room(run.Length * 3), out _, out var written, replaceInvalidSequences: true);
            _length += written;
            if (stop < 0) break;
            Escape(value[stop]);
            value = value[(stop + 1)..];
        }

        if (cut > 0)
        {
            Raw("... (+"u8);
            Number(cut);
            Raw(" characters)"u8);
        }

        Byte((byte)'"');
    }

    void Escape(char value)
    {
        var room = Room(6);
        room[0] = (byte)'\\';
        var letter = value switch { '"' => '"', '\\' => '\\', '\n' => 'n', '\r' => 'r', '\t' => 't', '\b' => 'b', '\f' => 'f', _ => 'u' };
        room[1] = (byte)letter;
        _length += 2;
        if (letter != 'u') return;
        Utf8Formatter.TryFormat((ushort)value, room[2..], out _, new StandardFormat('x', 4));
        _length += 4;
    }

    Span<byte> Room(int bytes)
    {
        if (_buffer.Length - _length < bytes) Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, _length + bytes));
        return _buffer.AsSpan(_length);
    }
}
