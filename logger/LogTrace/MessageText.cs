using System.Globalization;
using System.Text;
using Serilog.Events;
using Serilog.Parsing;

namespace LogTrace;

/// <summary>Renders messages into characters that each thread reuses. Texts stand in them as they are, without the quotes that Serilog puts around them: the value is under extra.</summary>
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

    public void Render(LogEvent logEvent, TraceMask mask)
    {
        foreach (var token in logEvent.MessageTemplate.Tokens)
        {
            if (token is TextToken text) Write(text.Text);
            else if (!TryWrite(token, logEvent, mask)) token.Render(logEvent.Properties, this, CultureInfo.InvariantCulture);
        }
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

    bool TryWrite(MessageTemplateToken token, LogEvent logEvent, TraceMask mask)
    {
        if (token is not PropertyToken property || !logEvent.Properties.TryGetValue(property.PropertyName, out var value)) return false;
        var scalar = value as ScalarValue;
        if (mask.Covers(property.PropertyName))
        {
            Write(mask.Member(property.PropertyName, scalar?.Value ?? "")?.ToString());
            return true;
        }

        if (scalar is null || property is not { Format: null, Alignment: null }) return false;
        switch (scalar.Value)
        {
            case string text:
                Write(text);
                return true;
            case int or long or double or decimal:
                if (!((ISpanFormattable)scalar.Value).TryFormat(Room(MaxNumberChars), out var written, default, CultureInfo.InvariantCulture)) return false;
                _length += written;
                return true;
            default:
                return false;
        }
    }

    Span<char> Room(int chars)
    {
        if (_chars.Length - _length < chars) Array.Resize(ref _chars, Math.Max(_chars.Length * 2, _length + chars));
        return _chars.AsSpan(_length);
    }
}
