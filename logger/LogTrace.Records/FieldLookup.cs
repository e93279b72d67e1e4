using System.Text;

namespace LogTrace.Records;

/// <summary>
/// From a name on the line to its field: one multiplication and one comparison of bytes, without a string. The multiplier that gives
/// every name a place of its own is searched once at start.
/// </summary>
static class FieldLookup
{
    /// <summary>A member that needs no keeping: absent, or read by somebody else.</summary>
    public const short Consumed = -2;

    const int Bits = 8;

    static readonly byte[][] Names = [.. RecordFields.All.Select(field => Encoding.UTF8.GetBytes(field.WireName))];

    static readonly (byte[] Name, RecordField Field)[] Known =
        [.. RecordFields.All.Select(field => (Names[(int)field.Field], field.Field)), ("response_len"u8.ToArray(), RecordField.ResponseLength)];

    static readonly (byte[]? Name, RecordField Field)[] Places = new (byte[]?, RecordField)[1 << Bits];
    static readonly uint Multiplier = FindMultiplier();

    public static int Count => Names.Length;

    public static ReadOnlySpan<byte> NameOf(RecordField field) => Names[(int)field];

    /// <summary>Finds the field of a name in any accepted spelling: with or without <c>x_</c>, or an alias.</summary>
    public static bool TryFind(ReadOnlySpan<byte> name, out RecordField field)
    {
        if (name.StartsWith("x_"u8)) name = name[2..];
        field = default;
        if (name.IsEmpty) return false;
        var place = Places[Place(name, Multiplier)];
        field = place.Field;
        return place.Name is not null && name.SequenceEqual(place.Name);
    }

    static uint Place(ReadOnlySpan<byte> name, uint multiplier)
    {
        var key = (uint)name.Length | (uint)name[0] << 8 | (uint)name[name.Length / 2] << 16 | (uint)name[^1] << 24;
        return key * multiplier >> (32 - Bits);
    }

    static uint FindMultiplier()
    {
        for (var multiplier = 2_654_435_761u; ; multiplier += 2)
        {
            Array.Clear(Places);
            if (Known.All(known => TryPlace(known, multiplier))) return multiplier;
        }
    }

    static bool TryPlace((byte[] Name, RecordField Field) known, uint multiplier)
    {
        ref var place = ref Places[Place(known.Name, multiplier)];
        if (place.Name is not null) return false;
        place = known;
        return true;
    }
}
