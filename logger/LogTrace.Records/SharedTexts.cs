using System.Buffers.Binary;
using System.Text;

namespace LogTrace.Records;

/// <summary>
/// One string for what stands in record after record: names, services, hosts, versions. Looked up by its bytes, so that none is made only to find that it is known. Bounded: a text may put another
/// one out, and is then merely made anew. Thread-safe.
/// </summary>
static class SharedTexts
{
    const int Places = 4_096;
    const int MaxBytes = 64;

    static readonly string?[] s_texts = new string?[Places];

    /// <summary>Fields of few values.</summary>
    static readonly ulong s_fields = Bits(
        RecordField.Name, RecordField.Department, RecordField.Module, RecordField.ServerIp, RecordField.Version, RecordField.Code, RecordField.Pid, RecordField.Host, RecordField.InstanceName,
        RecordField.Db, RecordField.Service, RecordField.Level);

    /// <summary>Whether what stands in a field is likely to stand there again.</summary>
    public static bool Hold(RecordField field) => (s_fields & (1ul << (int)field)) != 0;

    /// <summary>The text of valid UTF-8.</summary>
    public static string Of(ReadOnlySpan<byte> utf8)
    {
        if (utf8.Length is 0 or > MaxBytes) return Encoding.UTF8.GetString(utf8);
        ref var place = ref s_texts[Hash(utf8) & (Places - 1)];
        var known = Volatile.Read(ref place);
        if (known is not null && known.Length == utf8.Length && Ascii.Equals(utf8, known)) return known;
        var text = Encoding.UTF8.GetString(utf8);
        Volatile.Write(ref place, text);
        return text;
    }

    // Where they differ names do so at either end; what comes into one place is only slower.
    static uint Hash(ReadOnlySpan<byte> utf8)
    {
        ulong first = 0, last = 0;
        if (utf8.Length >= sizeof(ulong))
        {
            first = BinaryPrimitives.ReadUInt64LittleEndian(utf8);
            last = BinaryPrimitives.ReadUInt64LittleEndian(utf8[^sizeof(ulong)..]);
        }
        else
        {
            foreach (var letter in utf8) first = (first << 8) | letter;
        }

        var mixed = (first * 0x9E37_79B9_7F4A_7C15) ^ (last * 0xC2B2_AE3D_27D4_EB4F) ^ (ulong)utf8.Length;
        return (uint)((mixed * 0x9E37_79B9_7F4A_7C15) >> 40);
    }

    static ulong Bits(params ReadOnlySpan<RecordField> fields)
    {
        ulong bits = 0;
        foreach (var field in fields) bits |= 1ul << (int)field;
        return bits;
    }
}
