namespace LogTrace.Indexer.Store;

/// <summary>Where records and chains are kept. Safe for one writer and any number of readers at once.</summary>
public interface ITraceStore : IAsyncDisposable
{
    /// <summary>Creates what is missing (files, tables, index templates). Idempotent; called once before anything else.</summary>
    /// <exception cref="StoreUnavailableException">The store cannot be reached; retry is safe.</exception>
    Task OpenAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Stores records, each once however often it is written: <see cref="IndexedRecord.RecordId"/> is the key. On return every record
    /// is durable, was there before (<see cref="WriteResult.Duplicates"/>), or is listed as refused.
    /// </summary>
    /// <exception cref="StoreUnavailableException">Nothing is known about the records; write all of them again, which is harmless.</exception>
    Task<WriteResult> WriteAsync(IReadOnlyList<IndexedRecord> records, CancellationToken cancellationToken);

    /// <summary>Writes chain documents with their call documents, replacing older ones of the same trace that have fewer or as many records; calls no longer in the chain are deleted. Durable on return.</summary>
    /// <exception cref="StoreUnavailableException">Retry is safe.</exception>
    Task WriteChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken);

    /// <summary>All records of a trace, in no particular order; empty when there are none. Sees every record written before the call.</summary>
    Task<IReadOnlyList<IndexedRecord>> GetTraceAsync(string traceId, CancellationToken cancellationToken);

    /// <summary>Chains that match, newest first.</summary>
    Task<IReadOnlyList<ChainDocument>> FindChainsAsync(TraceQuery query, CancellationToken cancellationToken);

    /// <summary>
    /// Ids of traces with records ingested at or after <paramref name="sinceMicros"/> whose chain document is missing or has another record_count than
    /// the number of stored records: what a crash or a rebalance left behind.
    /// </summary>
    Task<IReadOnlyList<string>> FindStaleTracesAsync(long sinceMicros, CancellationToken cancellationToken);

    /// <summary>Number of records stored, of chains, and of distinct record ids (equal to the first unless the store holds doubles).</summary>
    Task<StoreCounts> CountAsync(CancellationToken cancellationToken);
}

/// <param name="Stored">Records that were not there before.</param>
/// <param name="Duplicates">Records that were there already, within the batch or from earlier.</param>
/// <param name="Refused">Records the store will never take, with the reason.</param>
public sealed record WriteResult(int Stored, int Duplicates, IReadOnlyList<RefusedRecord> Refused);

public sealed record RefusedRecord(IndexedRecord Record, string Reason);

public sealed record StoreCounts(long Records, long Chains);

/// <summary>What to look for; null or empty means any.</summary>
public sealed record TraceQuery
{
    public string? Service { get; init; }
    public string? Action { get; init; }
    public string? Uid { get; init; }
    public string? Text { get; init; }
    public long? FromMicros { get; init; }
    public long? ToMicros { get; init; }
    public long? MinDurationMicros { get; init; }
    public bool? HasErrors { get; init; }
    public bool? Complete { get; init; }
    public int Limit { get; init; } = 50;
}

/// <summary>The store cannot be used now; trying again later may succeed.</summary>
public sealed class StoreUnavailableException(string message, Exception? inner = null) : Exception(message, inner);
