namespace LogTrace.Indexer;

/// <summary>What the indexer has done since it started. Safe to read at any time; the figures of one <see cref="Balance"/> belong together.</summary>
public sealed class IndexerMetrics
{
    readonly Lock _lock = new();
    long _consumed, _stored, _duplicates, _setAside, _chainsWritten, _retries;

    /// <summary>Lines up to the last commit, and what became of them.</summary>
    public IndexerBalance Balance
    {
        get
        {
            lock (_lock) return new IndexerBalance(_consumed, _stored, _duplicates, _setAside);
        }
    }

    /// <summary>Chain documents handed to the store, rewritten ones counted again.</summary>
    public long ChainsWritten => Interlocked.Read(ref _chainsWritten);

    /// <summary>Attempts that failed and were made again.</summary>
    public long Retries => Interlocked.Read(ref _retries);

    /// <summary>Traces with records that are not yet in their chain document.</summary>
    public int OpenTraces { get; internal set; }

    /// <summary>What the indexer is waiting for because it failed, as a sentence part; null while all is well.</summary>
    public string? WaitingFor { get; internal set; }

    internal void AddBatch(long consumed, long stored, long duplicates, long setAside)
    {
        lock (_lock)
        {
            _consumed += consumed;
            _stored += stored;
            _duplicates += duplicates;
            _setAside += setAside;
        }
    }

    internal void AddChains(int written) => Interlocked.Add(ref _chainsWritten, written);

    internal void AddRetry() => Interlocked.Increment(ref _retries);
}

/// <param name="Consumed">Lines read and committed.</param>
/// <param name="Stored">Records that were new to the store.</param>
/// <param name="Duplicates">Records that the store had already.</param>
/// <param name="SetAside">Lines in the dead letter.</param>
public readonly record struct IndexerBalance(long Consumed, long Stored, long Duplicates, long SetAside)
{
    /// <summary>Every line has become exactly one of the three.</summary>
    public bool Balances => Consumed == Stored + Duplicates + SetAside;
}
