using LogTrace.Shipper;

namespace LogTrace.Indexer.Store;

/// <summary>Where records and chains are kept. Safe for concurrent use.</summary>
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

    /// <summary>Writes the chains of traces that have none yet, with their calls. Durable on return.</summary>
    /// <returns>Ids of traces that have a chain already, or may have one. Those chains are left as they are: they have records that these do not, and are to be built of all that is stored.</returns>
    /// <exception cref="StoreUnavailableException">Retry is safe.</exception>
    Task<IReadOnlyList<string>> AddChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken);

    /// <summary>All records of a trace, in no particular order; empty when there are none. Sees every record written before the call.</summary>
    Task<IReadOnlyList<IndexedRecord>> GetTraceAsync(string traceId, CancellationToken cancellationToken);

    /// <summary>
    /// All records of several traces at once, which costs a store behind a network about as much as one trace. A trace without records may be left out.
    /// </summary>
    async Task<IReadOnlyDictionary<string, IReadOnlyList<IndexedRecord>>> GetTracesAsync(IReadOnlyList<string> traceIds, CancellationToken cancellationToken)
    {
        var traces = new Dictionary<string, IReadOnlyList<IndexedRecord>>(StringComparer.Ordinal);
        foreach (var traceId in traceIds) traces[traceId] = await GetTraceAsync(traceId, cancellationToken);
        return traces;
    }

    /// <summary>The chain document of a trace with its rows and calls; null when it has none. Of two documents (two instances began one trace) the one with more records.</summary>
    Task<ChainDocument?> GetChainAsync(string traceId, CancellationToken cancellationToken);

    /// <summary>Chains that match, by start, newest first. They come without what only the view of one chain needs: <see cref="ChainDocument.RowsJson"/> is <c>[]</c> and <see cref="ChainDocument.Calls"/> empty.</summary>
    Task<IReadOnlyList<ChainDocument>> FindChainsAsync(TraceQuery query, CancellationToken cancellationToken);

    /// <summary>
    /// Ids of traces with records ingested at or after <paramref name="sinceMicros"/> whose chain document is missing or has another record_count than
    /// the number of stored records: what a crash or a rebalance left behind.
    /// </summary>
    Task<IReadOnlyList<string>> FindStaleTracesAsync(long sinceMicros, CancellationToken cancellationToken);

    /// <summary>Traces that are <see cref="ChainDocument.UndecidedSince"/> before this moment, the longest waiting first as far as the store knows; at most <paramref name="limit"/>.</summary>
    Task<IReadOnlyList<string>> FindUndecidedAsync(long beforeMicros, int limit, CancellationToken cancellationToken);

    /// <summary>Which of these traces were dropped. One that another process dropped a moment ago may be missing.</summary>
    Task<IReadOnlySet<string>> FindDroppedAsync(IReadOnlyCollection<string> traceIds, CancellationToken cancellationToken);

    /// <summary>
    /// Leaves a marker of each trace and nothing else (<see cref="ChainDocument.Dropped"/>): chain, calls and records are deleted. No chain is written over a marker. Records that are
    /// written later are stored all the same and make the trace stale: dropping it again deletes them. Durable on return, idempotent.
    /// </summary>
    /// <returns>Records deleted.</returns>
    /// <exception cref="StoreUnavailableException">Retry is safe.</exception>
    Task<long> DropTracesAsync(IReadOnlyList<string> traceIds, CancellationToken cancellationToken);

    /// <summary>Adds what is worth knowing about this kind of store. May take a moment, must not throw; safe at any time.</summary>
    void WriteMetrics(PrometheusText output)
    {
    }

    /// <summary>Number of records stored, of chains (markers of dropped ones not counted), and of distinct record ids (equal to the first unless the store holds doubles).</summary>
    Task<StoreCounts> CountAsync(CancellationToken cancellationToken);
}

/// <param name="Stored">Records that were not there before.</param>
/// <param name="Duplicates">Records that were there already, within the batch or from earlier.</param>
/// <param name="Refused">Records the store will never take, with the reason.</param>
public sealed record WriteResult(int Stored, int Duplicates, IReadOnlyList<RefusedRecord> Refused);

public sealed record RefusedRecord(IndexedRecord Record, string Reason);

public sealed record StoreCounts(long Records, long Chains);

/// <summary>What to look for; null or empty means any. A chain has to meet all that is said.</summary>
public sealed record TraceQuery
{
    /// <summary>Name of a service that takes part, exactly.</summary>
    public string? Service { get; init; }

    /// <summary>Part of the entry action, capital and small ASCII letters alike; no character is a wildcard.</summary>
    public string? Action { get; init; }

    /// <summary>The user, exactly.</summary>
    public string? Uid { get; init; }

    /// <summary>The whole trace_id; or words (split at blanks), each of which stands as a word in the msg of one and the same record of the trace, capital and small ASCII letters alike.</summary>
    public string? Text { get; init; }

    /// <summary>Earliest start, inclusive.</summary>
    public long? FromMicros { get; init; }

    /// <summary>Latest start, exclusive.</summary>
    public long? ToMicros { get; init; }

    /// <summary>Shortest duration, inclusive.</summary>
    public long? MinDurationMicros { get; init; }

    /// <summary>True: only chains with an error_count above 0; false: only chains without errors.</summary>
    public bool? HasErrors { get; init; }

    public bool? Complete { get; init; }

    /// <summary>Most chains to return, 1 to 1,000.</summary>
    public int Limit { get; init; } = 50;
}

/// <summary>The store cannot be used now; trying again later may succeed.</summary>
public sealed class StoreUnavailableException(string message, Exception? inner = null) : Exception(message, inner);
