using System.Text;

namespace LogTrace.Indexer;

/// <summary>
/// Gives equal names the same string: services, targets and keys of actions are few and stand in every record, where each would else keep a copy of its own. Bounded: a
/// name may put another one out, and is then merely kept twice. Thread-safe.
/// </summary>
static class SharedNames
{
    const int Places = 4_096;
    const int MaxLength = 64;
    const int MaxKeyLength = 256;

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

    /// <summary>The text as a string: the one that is known, where it is as short as a name or key mostly is.</summary>
    public static string Of(ReadOnlySpan<char> text)
    {
        if (text.Length is 0 or > MaxKeyLength) return text.ToString();
        ref var place = ref s_names[HashOf(text) & (Places - 1)];
        var known = Volatile.Read(ref place);
        if (known is not null && text.SequenceEqual(known)) return known;
        var name = text.ToString();
        Volatile.Write(ref place, name);
        return name;
    }

    /// <summary>The same of what was put together.</summary>
    public static string Of(StringBuilder text)
    {
        foreach (var chunk in text.GetChunks())
            if (chunk.Length == text.Length) return Of(chunk.Span);
        return text.ToString();
    }

    /// <summary>Hash of a name, the same within one process only.</summary>
    public static int HashOf(ReadOnlySpan<char> name) => string.GetHashCode(name);
}
