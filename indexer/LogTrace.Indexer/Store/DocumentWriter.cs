using System.Buffers;
using System.Globalization;
using System.Text;

namespace LogTrace.Indexer.Store;

/// <summary>
/// Writes one JSON object at the end of a bulk, member by member in the order of the calls. Most of an indexer's work is writing documents, each of a few dozen members with known names: a writer
/// for any JSON spends more on keeping track of where it is than on the bytes.
/// </summary>
/// <remarks>Names are taken as they are. What of a text is no valid UTF-16 becomes U+FFFD. Not thread-safe; nothing else may write to the bulk between <see cref="Begin"/> and the end.</remarks>
readonly ref struct DocumentWriter
{
    static readonly SearchValues<char> s_escaped = SearchValues.Create([.. "\"\\", .. Enumerable.Range(0, 32).Select(code => (char)code)]);

    readonly BulkBuffer _output;
    readonly int _start;

    DocumentWriter(BulkBuffer output) => (_output, _start) = (output, output.Length);

    public static DocumentWriter Begin(BulkBuffer output)
    {
        var document = new DocumentWriter(output);
        output.Write("{"u8);
        return document;
    }

    /// <summary>Closes the object, and the line.</summary>
    public void End()
    {
        // Every member has its comma behind it.
        if (_output.Length == _start + 1) _output.Write("}"u8);
        else _output.Patch(_output.Length - 1, (byte)'}');
        _output.Write("\n"u8);
    }

    /// <summary>Goes on with the members of another object, so that the two become one, and closes the line. At least one member must have been written.</summary>
    /// <param name="what">What the other object is made of.</param>
    /// <param name="write">Writes the whole of it, with its braces and without a line end.</param>
    public void EndWith<T>(T what, Action<T, BulkBuffer> write)
    {
        // The last member's comma goes, and the opening brace at its place becomes one.
        var joint = _output.Length - 1;
        _output.Truncate(joint);
        write(what, _output);
        _output.Patch(joint, (byte)',');
        _output.Write("\n"u8);
    }

    /// <summary>A text; nothing for null.</summary>
    public void Text(ReadOnlySpan<byte> name, string? value)
    {
        if (value is not null) Text(name, value.AsSpan());
    }

    public void Text(ReadOnlySpan<byte> name, ReadOnlySpan<char> value)
    {
        Name(name);
        Quoted(value);
        _output.Write(","u8);
    }

    /// <summary>A text of ASCII in which nothing is to be escaped.</summary>
    public void Plain(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        Name(name);
        _output.Write("\""u8);
        _output.Write(value);
        _output.Write("\","u8);
    }

    public void Number(ReadOnlySpan<byte> name, long value)
    {
        Name(name);
        value.TryFormat(_output.GetSpan(24), out var length, default, CultureInfo.InvariantCulture);
        _output.Advance(length);
        _output.Write(","u8);
    }

    /// <param name="name">Its name.</param>
    /// <param name="value">Must be finite.</param>
    public void Number(ReadOnlySpan<byte> name, double value)
    {
        Name(name);
        value.TryFormat(_output.GetSpan(32), out var length, default, CultureInfo.InvariantCulture);
        _output.Advance(length);
        _output.Write(","u8);
    }

    public void Flag(ReadOnlySpan<byte> name, bool value)
    {
        Name(name);
        _output.Write(value ? "true,"u8 : "false,"u8);
    }

    public void Texts(ReadOnlySpan<byte> name, IReadOnlyList<string> values)
    {
        Name(name);
        _output.Write("["u8);
        for (var i = 0; i < values.Count; i++)
        {
            if (i > 0) _output.Write(","u8);
            Quoted(values[i]);
        }

        _output.Write("],"u8);
    }

    /// <param name="name">Its name.</param>
    /// <param name="json">A JSON value on one line.</param>
    public void Json(ReadOnlySpan<byte> name, ReadOnlySpan<byte> json)
    {
        Name(name);
        _output.Write(json);
        _output.Write(","u8);
    }

    void Name(ReadOnlySpan<byte> name)
    {
        var room = _output.GetSpan(name.Length + 3);
        room[0] = (byte)'"';
        name.CopyTo(room[1..]);
        room[name.Length + 1] = (byte)'"';
        room[name.Length + 2] = (byte)':';
        _output.Advance(name.Length + 3);
    }

    void Quoted(ReadOnlySpan<char> text)
    {
        _output.Write("\""u8);
        while (true)
        {
            var plain = text.IndexOfAny(s_escaped);
            var piece = plain < 0 ? text : text[..plain];
            _output.Advance(Encoding.UTF8.GetBytes(piece, _output.GetSpan(3 * piece.Length)));
            if (plain < 0) break;
            Escape(text[plain]);
            text = text[(plain + 1)..];
        }

        _output.Write("\""u8);
    }

    void Escape(char character)
    {
        switch (character)
        {
            case '"': _output.Write("\\\""u8); break;
            case '\\': _output.Write("\\\\"u8); break;
            case '\n': _output.Write("\\n"u8); break;
            case '\r': _output.Write("\\r"u8); break;
            case '\t': _output.Write("\\t"u8); break;
            default:
                ((int)character).TryFormat(_output.GetSpan(16)[4..], out _, "x2", CultureInfo.InvariantCulture);
                "\\u00"u8.CopyTo(_output.GetSpan(16));
                _output.Advance(6);
                break;
        }
    }
}
