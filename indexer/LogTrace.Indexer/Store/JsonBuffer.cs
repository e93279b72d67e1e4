using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using LogTrace.Records;

namespace LogTrace.Indexer.Store;

/// <summary>
/// JSON as UTF-8 in one pooled array. Commas come by themselves; that objects and arrays are closed, and names are plain ASCII, is the caller's business.
/// Texts are escaped as far as JSON demands it; half a surrogate pair becomes U+FFFD. Not thread-safe.
/// </summary>
/// <remarks>In place of Utf8JsonWriter: the indexer writes the same few members millions of times, and with it that took as long as all else it does with a record.</remarks>
class JsonBuffer(int capacity) : IBufferWriter<byte>
{
    /// <summary>Bytes of a moment as <see cref="Iso"/> writes it.</summary>
    public const int IsoLength = 27;

    /// <summary>Digits of a 128-bit id.</summary>
    public const int HexLength = 32;

    static readonly long s_least = (DateTime.MinValue - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;
    static readonly long s_most = (DateTime.MaxValue - DateTime.UnixEpoch).Ticks / TimeSpan.TicksPerMicrosecond;

    const int DateLength = 10, LongestNumber = 32;
    const long MicrosPerDay = 86_400_000_000;

    // Thousands of moments in a row are of one day.
    [ThreadStatic] static byte[]? t_date;
    [ThreadStatic] static long t_day;

    byte[] _bytes = ArrayPool<byte>.Shared.Rent(capacity);
    bool _isKept;

    /// <summary>Bytes written.</summary>
    public int Length { get; private set; }

    /// <summary>A request that was given up, or answered before it was sent whole, may still read the array: nobody else gets it.</summary>
    public void Keep() => _isKept = true;

    /// <summary>Gives the array back; nothing may be read or written after that.</summary>
    public virtual void Return()
    {
        if (!_isKept) ArrayPool<byte>.Shared.Return(_bytes);
        _bytes = [];
        Length = 0;
    }

    /// <summary>Forgets what was written, and keeps the room.</summary>
    public void Clear() => Length = 0;

    /// <summary>Overwrites a byte written before.</summary>
    public void Patch(int position, byte value) => _bytes[position] = value;

    /// <summary>What was written from a position on.</summary>
    public ReadOnlySpan<byte> WrittenFrom(int position) => _bytes.AsSpan(position, Length - position);

    /// <summary>A part of what was written.</summary>
    public ReadOnlySpan<byte> Written(int position, int length) => _bytes.AsSpan(position, length);

    /// <inheritdoc cref="Written"/>
    public ReadOnlyMemory<byte> WrittenMemory(int position, int length) => _bytes.AsMemory(position, length);

    public void Advance(int count) => Length += count;

    public Memory<byte> GetMemory(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _bytes.AsMemory(Length);
    }

    public Span<byte> GetSpan(int sizeHint = 0)
    {
        Reserve(sizeHint);
        return _bytes.AsSpan(Length);
    }

    // ---- bytes

    /// <summary>Writes bytes as they are.</summary>
    public void Write(ReadOnlySpan<byte> bytes)
    {
        Reserve(bytes.Length);
        bytes.CopyTo(_bytes.AsSpan(Length));
        Length += bytes.Length;
    }

    /// <summary>Writes a text that is mere ASCII.</summary>
    public void WriteAscii(ReadOnlySpan<char> text)
    {
        Reserve(text.Length);
        Length += Encoding.UTF8.GetBytes(text, _bytes.AsSpan(Length));
    }

    /// <summary>Writes the 32 digits of an id.</summary>
    public void WriteHex(UInt128 id)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(bytes, id);
        Reserve(HexLength);
        Convert.TryToHexStringLower(bytes, _bytes.AsSpan(Length), out var length);
        Length += length;
    }

    /// <summary>Writes the digits of a number.</summary>
    public void WriteNumber(long value)
    {
        Reserve(LongestNumber);
        value.TryFormat(_bytes.AsSpan(Length), out var length, default, CultureInfo.InvariantCulture);
        Length += length;
    }

    // ---- JSON

    /// <summary>Begins an object that is a value of its own or an array's element.</summary>
    public void BeginObject()
    {
        if (Length > 0 && _bytes[Length - 1] is (byte)'}') Write(",{"u8);
        else Write("{"u8);
    }

    public void BeginObject(ReadOnlySpan<byte> name)
    {
        Name(name);
        Write("{"u8);
    }

    public void EndObject() => Write("}"u8);

    public void BeginArray(ReadOnlySpan<byte> name)
    {
        Name(name);
        Write("["u8);
    }

    public void EndArray() => Write("]"u8);

    /// <summary>A member with a text; none where it is null.</summary>
    public void Text(ReadOnlySpan<byte> name, string? value)
    {
        if (value is not null) Text(name, value.AsSpan());
    }

    public void Text(ReadOnlySpan<byte> name, ReadOnlySpan<char> value)
    {
        Name(name);
        Quoted(value);
    }

    /// <summary>A member with a text that is mere ASCII and has nothing to escape.</summary>
    public void Plain(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        Name(name);
        Reserve(value.Length + 2);
        var room = _bytes.AsSpan(Length);
        room[0] = (byte)'"';
        value.CopyTo(room[1..]);
        room[value.Length + 1] = (byte)'"';
        Length += value.Length + 2;
    }

    public void Texts(ReadOnlySpan<byte> name, IReadOnlyList<string> values)
    {
        BeginArray(name);
        for (var i = 0; i < values.Count; i++)
        {
            if (i > 0) Write(","u8);
            Quoted(values[i]);
        }

        EndArray();
    }

    public void Number(ReadOnlySpan<byte> name, long value)
    {
        Name(name);
        WriteNumber(value);
    }

    /// <summary>A member with a number that is finite.</summary>
    public void Number(ReadOnlySpan<byte> name, double value)
    {
        Name(name);
        Reserve(LongestNumber);
        value.TryFormat(_bytes.AsSpan(Length), out var length, default, CultureInfo.InvariantCulture);
        Length += length;
    }

    public void Boolean(ReadOnlySpan<byte> name, bool value)
    {
        Name(name);
        Write(value ? "true"u8 : "false"u8);
    }

    public void Null(ReadOnlySpan<byte> name)
    {
        Name(name);
        Write("null"u8);
    }

    /// <summary>A member with a value that is JSON already.</summary>
    public void Raw(ReadOnlySpan<byte> name, ReadOnlySpan<byte> json)
    {
        Name(name);
        Write(json);
    }

    /// <summary>A member with an id as its 32 digits.</summary>
    public void Hex(ReadOnlySpan<byte> name, UInt128 id)
    {
        Name(name);
        Write("\""u8);
        WriteHex(id);
        Write("\""u8);
    }

    /// <summary>A member with a moment, see <see cref="Iso"/>.</summary>
    public void Moment(ReadOnlySpan<byte> name, long micros)
    {
        Name(name);
        Reserve(IsoLength + 2);
        var room = _bytes.AsSpan(Length, IsoLength + 2);
        room[0] = room[^1] = (byte)'"';
        Iso(micros, room[1..]);
        Length += room.Length;
    }

    /// <summary>Writes a moment as Elasticsearch's dates take it, to the microsecond: <c>2026-11-22T10:11:12.345678Z</c>. Moments that no calendar has stand at its ends.</summary>
    /// <param name="micros">Microseconds since the epoch.</param>
    /// <param name="output">Room for <see cref="IsoLength"/> bytes.</param>
    public static void Iso(long micros, Span<byte> output)
    {
        micros = OfCalendar(micros);
        var day = Math.DivRem(micros, MicrosPerDay, out var rest);
        if (rest < 0) (day, rest) = (day - 1, rest + MicrosPerDay);
        var date = t_date;
        if (date is null || day != t_day)
        {
            date = new byte[DateLength];
            DateTime.UnixEpoch.AddDays(day).TryFormat(date, out _, "yyyy-MM-dd", CultureInfo.InvariantCulture);
            (t_date, t_day) = (date, day);
        }

        date.CopyTo(output);
        var seconds = (int)(rest / 1_000_000);
        var fraction = (int)(rest % 1_000_000);
        (output[10], output[13], output[16], output[19], output[26]) = ((byte)'T', (byte)':', (byte)':', (byte)'.', (byte)'Z');
        Two(output[11..], seconds / 3600);
        Two(output[14..], seconds / 60 % 60);
        Two(output[17..], seconds % 60);
        Two(output[20..], fraction / 10_000);
        Two(output[22..], fraction / 100 % 100);
        Two(output[24..], fraction % 100);

        static void Two(Span<byte> at, int number)
        {
            at[1] = (byte)('0' + (number % 10));
            at[0] = (byte)('0' + (number / 10));
        }
    }

    /// <summary>Microseconds since the epoch, cut to what a date can be.</summary>
    public static long OfCalendar(long micros) => Math.Clamp(micros, s_least, s_most);

    void Name(ReadOnlySpan<byte> name)
    {
        Reserve(name.Length + 4);
        var at = Length;
        if (_bytes[at - 1] is not (byte)'{') _bytes[at++] = (byte)',';
        _bytes[at++] = (byte)'"';
        name.CopyTo(_bytes.AsSpan(at));
        at += name.Length;
        _bytes[at] = (byte)'"';
        _bytes[at + 1] = (byte)':';
        Length = at + 2;
    }

    void Quoted(ReadOnlySpan<char> text)
    {
        Reserve(checked((text.Length * 3) + 2));
        var room = _bytes.AsSpan(Length);
        room[0] = (byte)'"';
        var length = Encoding.UTF8.GetBytes(text, room[1..]);
        if (!JsonText.IsPlain(room.Slice(1, length)))
        {
            // What is there is written over.
            JsonText.WriteString(this, room.Slice(1, length).ToArray());
            return;
        }

        room[length + 1] = (byte)'"';
        Length += length + 2;
    }

    void Reserve(int needed)
    {
        if (_bytes.Length - Length < needed + 1) Grow(needed + 1);
    }

    void Grow(int needed)
    {
        var larger = ArrayPool<byte>.Shared.Rent((int)Math.Min(Math.Max(_bytes.Length * 2L, (long)Length + Math.Max(needed, 256)), Array.MaxLength));
        _bytes.AsSpan(0, Length).CopyTo(larger);
        if (!_isKept) ArrayPool<byte>.Shared.Return(_bytes);
        _bytes = larger;
    }
}
