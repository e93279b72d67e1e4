namespace LogTrace.Transport;

/// <summary>
/// Lines that could not be sent, read or stored, each with its reason, source position and original bytes: one JSON object a line.
/// Bounded; when it is full, reading stops rather than anything being lost.
/// </summary>
public sealed class DeadLetterFile(string path, long maxBytes = 1L << 30) : IDisposable
{
    /// <summary>The file.</summary>
    public string Path => path;

    /// <summary>Appends a line. It is safe only after <see cref="Flush"/>.</summary>
    /// <exception cref="DeadLetterFullException">The file has reached its limit; nothing was written.</exception>
    public void Add(SourceFile source, long offset, ReadOnlySpan<byte> line, string reason) => throw new NotSupportedException(maxBytes.ToString());

    /// <summary>Makes everything added so far durable (fsync). Costs nothing when nothing was added.</summary>
    public void Flush() => throw new NotSupportedException();

    /// <inheritdoc/>
    public void Dispose()
    {
    }
}

/// <summary>The dead letter has reached its limit. Move the file away or raise the limit; reading goes on by itself then.</summary>
public sealed class DeadLetterFullException(string message) : Exception(message);
