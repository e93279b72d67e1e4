using System.Globalization;
using System.Text;

namespace LogTrace;

/// <summary>Characters of a message, which each thread reuses.</summary>
sealed class MessageText : TextWriter
{
    const int KeptChars = 64 * 1024;
    const int MaxNumberChars = 64;

    [ThreadStatic]
    static MessageText? t_idle;

    char[] _chars = new char[1024];
    int _length;

    MessageText()
        : base(CultureInfo.InvariantCulture)
    {
    }

    public override Encoding Encoding => Encoding.Unicode;

    public ReadOnlySpan<char> Written => _chars.AsSpan(0, _length);

    /// <summary>This thread's, empty. Give it back with <see cref="Return"/>.</summary>
    public static MessageText Rent()
    {
        var text = t_idle ?? new MessageText();
        t_idle = null;
        text._length = 0;
        return text;
    }

    public static void Return(MessageText text)
    {
        if (text._chars.Length <= KeptChars) t_idle = text;
    }

    /// <summary>False for what is longer than any number.</summary>
    /// <exception cref="FormatException">The number does not know the format.</exception>
    public bool TryWrite<T>(T number, string? format)
        where T : ISpanFormattable
    {
        if (!number.TryFormat(Room(MaxNumberChars), out var written, format, CultureInfo.InvariantCulture)) return false;
        _length += written;
        return true;
    }

    /// <summary>Always true.</summary>
    public bool TryWrite(string text)
    {
        Write(text.AsSpan());
        return true;
    }

    public override void Write(char value)
    {
        Room(1)[0] = value;
        _length++;
    }

    public override void Write(string? value) => Write(value.AsSpan());

    public override void Write(char[] buffer, int index, int count) => Write(buffer.AsSpan(index, count));

    public override void Write(ReadOnlySpan<char> buffer)
    {
        buffer.CopyTo(Room(buffer.Length));
        _length += buffer.Length;
    }

    Span<char> Room(int chars)
    {
        if (_chars.Length - _length < chars) Array.Resize(ref _chars, Math.Max(_chars.Length * 2, _length + chars));
        return _chars.AsSpan(_length);
    }
}
