using System.Buffers;
using System.Text;

namespace LogTrace.Records;

/// <summary>Writes JSON text as UTF-8.</summary>
static class JsonText
{
    static readonly SearchValues<byte> MustBeEscaped = SearchValues.Create(
        [(byte)'"', (byte)'\\', .. Enumerable.Range(0, 32).Select(character => (byte)character)]);

    /// <summary>Whether a text stands in JSON as it is.</summary>
    public static bool IsPlain(ReadOnlySpan<byte> utf8) => utf8.IndexOfAny(MustBeEscaped) < 0;

    /// <summary>Writes valid UTF-8 as a string in quotes. Only what JSON demands is escaped: lines stay readable and small.</summary>
    public static void WriteString(IBufferWriter<byte> output, ReadOnlySpan<byte> utf8)
    {
        output.Write("\""u8);
        while (true)
        {
            var plain = utf8.IndexOfAny(MustBeEscaped);
            if (plain < 0) break;
            output.Write(utf8[..plain]);
            WriteEscape(output, utf8[plain]);
            utf8 = utf8[(plain + 1)..];
        }

        output.Write(utf8);
        output.Write("\""u8);
    }

    public static void WriteString(IBufferWriter<byte> output, string text) => WriteString(output, Encoding.UTF8.GetBytes(text));

    static void WriteEscape(IBufferWriter<byte> output, byte character)
    {
        switch (character)
        {
            case (byte)'"': output.Write("\\\""u8); break;
            case (byte)'\\': output.Write("\\\\"u8); break;
            case (byte)'\n': output.Write("\\n"u8); break;
            case (byte)'\r': output.Write("\\r"u8); break;
            case (byte)'\t': output.Write("\\t"u8); break;
            default:
                output.Write("\\u00"u8);
                output.Write([HexDigit(character >> 4), HexDigit(character & 15)]);
                break;
        }
    }

    static byte HexDigit(int value) => (byte)(value < 10 ? '0' + value : 'a' + value - 10);

    public static void WriteNumber(IBufferWriter<byte> output, long value)
    {
        var span = output.GetSpan(20);
        value.TryFormat(span, out var written, default, System.Globalization.CultureInfo.InvariantCulture);
        output.Advance(written);
    }

    /// <summary>Writes microseconds as seconds, with as few decimals as keep them all: 0.021, 3, 0.000001.</summary>
    public static void WriteSeconds(IBufferWriter<byte> output, long micros)
    {
        var magnitude = (ulong)Math.Abs((decimal)micros);
        if (micros < 0) output.Write("-"u8);
        WriteNumber(output, (long)(magnitude / 1_000_000));
        var fraction = (int)(magnitude % 1_000_000);
        if (fraction == 0) return;
        Span<byte> digits = [(byte)'.', 0, 0, 0, 0, 0, 0];
        for (var index = 6; index > 0; index--, fraction /= 10) digits[index] = (byte)('0' + fraction % 10);
        output.Write(digits.TrimEnd((byte)'0'));
    }
}
