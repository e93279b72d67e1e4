using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;

namespace LogTrace.Records;

/// <summary>
/// Gives equal UTF-8 texts the same string: names, services and versions are few and stand in every record, where a string for each would be most of what reading allocates.
/// Bounded: a text may put another one out, which is then merely made anew. Thread-safe.
/// </summary>
static class SharedTexts
{
    /// <summary>Longest text that is shared, in bytes.</summary>
    public const int MaxBytes = 96;

    const int PlaceBits = 12;
    const ulong Multiplier = 0x9E37_79B9_7F4A_7C15;

    static readonly Known?[] s_places = new Known?[1 << PlaceBits];

    sealed record Known(byte[] Utf8, string Text);

    public static string Of(ReadOnlySpan<byte> utf8)
    {
        if (utf8.Length is 0 or > MaxBytes) return Encoding.UTF8.GetString(utf8);
        ref var place = ref s_places[Place(utf8)];
        var known = Volatile.Read(ref place);
        if (known is not null && utf8.SequenceEqual(known.Utf8)) return known.Text;
        known = new Known(utf8.ToArray(), Encoding.UTF8.GetString(utf8));
        Volatile.Write(ref place, known);
        return known.Text;
    }

    static int Place(ReadOnlySpan<byte> utf8)
    {
        var hash = (ulong)utf8.Length;
        for (; utf8.Length >= sizeof(ulong); utf8 = utf8[sizeof(ulong)..]) hash = (BitOperations.RotateLeft(hash, 5) ^ MemoryMarshal.Read<ulong>(utf8)) * Multiplier;
        foreach (var character in utf8) hash = (BitOperations.RotateLeft(hash, 5) ^ character) * Multiplier;
        return (int)(hash >> (64 - PlaceBits));
    }
}
