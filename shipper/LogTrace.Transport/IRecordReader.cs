namespace LogTrace.Transport;

/// <summary>The indexer's end of the hop from the shipper. Used by one loop at a time.</summary>
public interface IRecordReader : IAsyncDisposable
{
    /// <summary>
    /// Waits for the next lines. The caller owns the batch.
    /// </summary>
    /// <returns>Null when the other side has completed and everything was read (in process only; Kafka never ends).</returns>
    /// <exception cref="TransportUnavailableException">Reading failed for now; retry is safe.</exception>
    Task<RecordBatch?> ReadAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Says that everything up to and including <paramref name="batch"/> is stored or set aside durably. A batch that is never
    /// committed is delivered again after a restart. Commits come in the order of the reads. Must be called before the batch is disposed of.
    /// </summary>
    /// <exception cref="TransportUnavailableException">The commit did not get through; the records may come again, which is harmless.</exception>
    Task CommitAsync(RecordBatch batch, CancellationToken cancellationToken);
}
