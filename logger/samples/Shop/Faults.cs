namespace Shop;

/// <summary>
/// What goes wrong, decided by the seed and the request's reference alone: the same request meets the same fault in every run,
/// whichever process serves it and whatever runs beside it.
/// </summary>
public sealed class Faults(int seed)
{
    /// <summary>The bank refuses the card: 402, an answer and not a crash.</summary>
    public bool CardIsDeclined(string reference) => Draw("declined", reference) < 0.04;

    /// <summary>The first attempt to pay is turned away with 503; the second gets through.</summary>
    public bool PaymentIsBusyAtFirst(string reference) => Draw("busy", reference) < 0.05;

    /// <summary>A bug in payment: an exception nobody expected.</summary>
    public bool PaymentCrashes(string reference) => Draw("crash", reference) < 0.02;

    /// <summary>Stock plans the reservation with a query that takes long.</summary>
    public bool StockIsSlow(string reference) => Draw("slow", reference) < 0.04;

    double Draw(string what, string reference) => (Mix(seed, what + "/" + reference) >> 11) * (1.0 / (1UL << 53));

    /// <summary>A number for a seed and a text, the same on every machine and in every version.</summary>
    internal static ulong Mix(int seed, string text)
    {
        // FNV-1a over the text, then the finaliser of SplitMix64 so that neighbouring references share no bits.
        var hash = 14695981039346656037UL ^ (uint)seed;
        foreach (var character in text) hash = (hash ^ character) * 1099511628211UL;
        hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9UL;
        hash = (hash ^ (hash >> 27)) * 0x94d049bb133111ebUL;
        return hash ^ (hash >> 31);
    }
}
