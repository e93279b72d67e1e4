namespace LogTrace.Indexer;

/// <summary>
/// Gives equal names the same string: services, targets and keys of actions are few and stand in every record, where each would else keep a copy of its own. Bounded: a
/// name may put another one out, and is then merely kept twice. Thread-safe.
/// </summary>
static class SharedNames
{
    const int Places = 4_096;
    const int MaxLength = 128;

    static readonly string?[] s_names = new string?[Places];

    /// <param name="name">The name.</param>
    /// <param name="hash">Its hash, <see cref="HashOf"/>.</param>
    public static string? Of(string? name, out int hash)
    {
        hash = name is null ? 0 : HashOf(name);
        if (name is null || name.Length > MaxLength) return name;
        ref var place = ref s_names[hash & (Places - 1)];
        var known = Volatile.Read(ref place);
        if (known == name) return known;
        Volatile.Write(ref place, name);
        return name;
    }

    /// <summary>The name as a string, without making one that was made before.</summary>
    public static string Of(ReadOnlySpan<char> name)
    {
        if (name.Length > MaxLength) return name.ToString();
        ref var place = ref s_names[HashOf(name) & (Places - 1)];
        var known = Volatile.Read(ref place);
        if (known is not null && name.SequenceEqual(known)) return known;
        known = name.ToString();
        Volatile.Write(ref place, known);
        return known;
    }

    /// <summary>Hash of a name, the same within one process only.</summary>
    public static int HashOf(ReadOnlySpan<char> name) => string.GetHashCode(name);
}
