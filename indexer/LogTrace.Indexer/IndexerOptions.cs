using LogTrace.Indexer.Chains;
using LogTrace.Shipper;

namespace LogTrace.Indexer;

/// <summary>How the indexer's loop behaves. Where records come from and go to is decided by the reader and the store it is given.</summary>
public sealed record IndexerOptions
{
    /// <summary>A trace is built into its chain when no record of it has come for this long; ten times as long while reading is behind. Default 500 ms; 10 ms to 1 minute.</summary>
    public TimeSpan ChainQuiet { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>... and at the latest this long after its first record, however many keep coming, unless reading is behind. Default 5 s; <see cref="ChainQuiet"/> to 10 minutes.</summary>
    public TimeSpan ChainMaxWait { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Traces that may wait for that; beyond it reading waits while those without a record for longest are built. Default 20,000; 1 to 1,000,000.</summary>
    public int MaxOpenTraces { get; init; } = 20_000;

    /// <summary>Memory that the records of those traces may take, about; beyond it likewise. Default 128 MiB; 1 MiB to 64 GiB.</summary>
    public long MaxOpenBytes { get; init; } = 128 << 20;

    /// <summary>Batches that may be on their way to the store at once. Default 3; 1 to 16.</summary>
    public int BatchesInHand { get; init; } = 3;

    /// <summary>How often the store is asked for traces without a chain, or with one that misses records. Default 1 minute; 100 ms to 1 hour.</summary>
    public TimeSpan StaleCheckEvery { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>How far before the last check the next one starts: more than a record takes from its reading to its chain, and than the clocks of the instances differ. Default 2 minutes; zero to 1 day.</summary>
    public TimeSpan StaleMargin { get; init; } = TimeSpan.FromMinutes(2);

    /// <summary>File that keeps the time of the last check over a restart. Null: a start checks everything that is stored.</summary>
    public string? WatermarkPath { get; init; }

    /// <summary>After a stop: how long a batch in hand may still wait for the store, and open chains be written. What is left then is read again. Default 4 s, so that
    /// with the shipper's 5 s before it a stop ends before service managers kill after 10 s; zero to 10 minutes.</summary>
    public TimeSpan DrainLimit { get; init; } = TimeSpan.FromSeconds(4);

    /// <summary>First wait after a failure of store, transport or dead letter; it doubles up to <see cref="RetryMax"/>. Default 200 ms; 1 ms to 1 minute.</summary>
    public TimeSpan RetryFirst { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>Longest wait between two attempts. Default 15 s; <see cref="RetryFirst"/> to 10 minutes.</summary>
    public TimeSpan RetryMax { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Where /metrics (Prometheus), /healthz, /readyz and / (one line) are served, as ADDRESS:PORT. Default null: nowhere.</summary>
    public string? Listen { get; init; }

    /// <summary>Rules by which whole chains are kept or dropped. Default null: everything is kept.</summary>
    public KeepOptions? Keep { get; init; }

    /// <summary>How chains are read.</summary>
    public ChainOptions Chains { get; init; } = ChainOptions.Default;

    /// <summary>All problems at once, each with the key, the value, the range and so the fix; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        Check("ChainQuiet", ChainQuiet, TimeSpan.FromMilliseconds(10), TimeSpan.FromMinutes(1));
        Check("ChainMaxWait", ChainMaxWait, ChainQuiet, TimeSpan.FromMinutes(10), " (at least Indexer:ChainQuiet)");
        Check("StaleCheckEvery", StaleCheckEvery, TimeSpan.FromMilliseconds(100), TimeSpan.FromHours(1));
        Check("StaleMargin", StaleMargin, TimeSpan.Zero, TimeSpan.FromDays(1));
        Check("DrainLimit", DrainLimit, TimeSpan.Zero, TimeSpan.FromMinutes(10));
        Check("RetryFirst", RetryFirst, TimeSpan.FromMilliseconds(1), TimeSpan.FromMinutes(1));
        Check("RetryMax", RetryMax, RetryFirst, TimeSpan.FromMinutes(10), " (at least Indexer:RetryFirst)");
        if (MaxOpenTraces is < 1 or > 1_000_000) problems.Add($"Indexer:MaxOpenTraces is {MaxOpenTraces:N0}; it must be between 1 and 1,000,000.");
        if (MaxOpenBytes is < 1 << 20 or > 64L << 30) problems.Add($"Indexer:MaxOpenBytes is {MaxOpenBytes:N0}; it must be between 1,048,576 and 68,719,476,736.");
        if (BatchesInHand is < 1 or > 16) problems.Add($"Indexer:BatchesInHand is {BatchesInHand:N0}; it must be between 1 and 16.");
        if (Listen is not null && StatusEndpoint.Parse(Listen) is null) problems.Add($"Indexer:Listen is '{Listen}'; it must be an address and a port, such as 127.0.0.1:9471 or 0.0.0.0:9471.");
        if (Keep is not null) problems.AddRange(Keep.Validate());
        problems.AddRange(Chains.Validate());
        return problems;

        void Check(string key, TimeSpan value, TimeSpan least, TimeSpan most, string why = "")
        {
            if (value < least || value > most) problems.Add($"Indexer:{key} is {value}; it must be between {least} and {most}{why}.");
        }
    }
}
