namespace LogTrace.Transport;

/// <summary>The shipper's end of the hop to the indexer.</summary>
public interface IRecordWriter : IAsyncDisposable
{
    /// <summary>
    /// Hands a batch over and returns when every line of it is safe on the other side: acknowledged by all in-sync replicas, or
    /// (in process) committed by the reader. Takes ownership of <paramref name="batch"/> and disposes of it in every case. May be called again before an
    /// earlier call has returned; lines of one key arrive in the order of the calls, unless a call failed.
    /// </summary>
    /// <returns>Lines that can never be sent (too large for the broker), with the reason; everything else is safe. Normally empty.</returns>
    /// <exception cref="TransportUnavailableException">
    /// Not every line is known to be safe. The caller reads the lines again from the source, from the last position known to be safe,
    /// and retries: that may duplicate, and never loses.
    /// </exception>
    /// <exception cref="OperationCanceledException">The token was cancelled first; nothing is known about the lines.</exception>
    Task<IReadOnlyList<RefusedLine>> WriteAsync(RecordBatch batch, CancellationToken cancellationToken);
}

/// <summary>A line that the transport can never carry.</summary>
/// <param name="Source">The file.</param>
/// <param name="Offset">Byte offset of the line.</param>
/// <param name="Line">The line's bytes, owned by the receiver.</param>
/// <param name="Reason">A sentence part that says why, with figures.</param>
public sealed record RefusedLine(SourceFile Source, long Offset, ReadOnlyMemory<byte> Line, string Reason);

/// <summary>The transport cannot take or give records now; trying again later may succeed.</summary>
public sealed class TransportUnavailableException(string message, Exception? inner = null) : Exception(message, inner);
