using System.Data.Common;

namespace LogTrace;

/// <summary>
/// Any ADO.NET data source, whose connections record what they ask their database, as <see cref="TraceDbConnection"/> does. Commands and batches made from the source
/// itself are recorded as well.
/// </summary>
/// <remarks>Thread-safe as far as the wrapped source is.</remarks>
public sealed class TraceDbDataSource : DbDataSource
{
    readonly TraceDbOptions _options;

    /// <summary>Wraps a data source, which then belongs to the wrapper: disposing of this one disposes of it.</summary>
    /// <param name="inner">The provider's own.</param>
    /// <param name="options">What to write into the records; the default when null.</param>
    /// <exception cref="ArgumentException">An option is out of range; the message lists all that are.</exception>
    public TraceDbDataSource(DbDataSource inner, TraceDbOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(inner);
        _options = TraceDbConnection.Checked(options ?? new TraceDbOptions());
        Inner = inner;
    }

    /// <summary>The wrapped data source. What is done through it directly is recorded only where its provider emits activities.</summary>
    public DbDataSource Inner { get; }

    /// <inheritdoc/>
    public override string ConnectionString => Inner.ConnectionString;

    /// <inheritdoc/>
    protected override DbConnection CreateDbConnection() => new TraceDbConnection(Inner.CreateConnection(), _options, isChecked: true);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing) Inner.Dispose();
    }

    /// <inheritdoc/>
    protected override ValueTask DisposeAsyncCore() => Inner.DisposeAsync();
}
