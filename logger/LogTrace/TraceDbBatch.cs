using System.Data;
using System.Data.Common;

namespace LogTrace;

/// <summary>Passes a batch on and records each execution as one call: it is one round trip.</summary>
sealed class TraceDbBatch(DbBatch inner, TraceDbConnection connection) : DbBatch
{
    TraceDbConnection? _connection = connection;
    DbTransaction? _transaction;

    public override int ExecuteNonQuery() => Run(inner.ExecuteNonQuery, countsRows: true);

    public override Task<int> ExecuteNonQueryAsync(CancellationToken cancellationToken = default) => RunAsync(inner.ExecuteNonQueryAsync, countsRows: true, cancellationToken);

    public override object? ExecuteScalar() => Run(inner.ExecuteScalar, countsRows: false);

    public override Task<object?> ExecuteScalarAsync(CancellationToken cancellationToken = default) => RunAsync(inner.ExecuteScalarAsync, countsRows: false, cancellationToken);

    protected override DbDataReader ExecuteDbDataReader(CommandBehavior behavior)
    {
        var call = Begin();
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            return TraceDbReader.Around(inner.ExecuteReader(behavior), call, _connection);
        }
        catch (Exception exception)
        {
            // Only to say so in the record; the caller gets the exception as it is. So in every method here.
            TraceDbConnection.Fail(call, exception);
            call.Dispose();
            throw;
        }
    }

    protected override async Task<DbDataReader> ExecuteDbDataReaderAsync(CommandBehavior behavior, CancellationToken cancellationToken)
    {
        var call = Begin();
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            return TraceDbReader.Around(await inner.ExecuteReaderAsync(behavior, cancellationToken).ConfigureAwait(false), call, _connection);
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(call, exception);
            call.Dispose();
            throw;
        }
    }

    T Run<T>(Func<T> execute, bool countsRows)
    {
        using var call = Begin();
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            var result = execute();
            if (countsRows) TraceDbConnection.AddExtra(call, "rows", result);
            return result;
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(call, exception);
            throw;
        }
    }

    async Task<T> RunAsync<T>(Func<CancellationToken, Task<T>> execute, bool countsRows, CancellationToken cancellationToken)
    {
        using var call = Begin();
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            var result = await execute(cancellationToken).ConfigureAwait(false);
            if (countsRows) TraceDbConnection.AddExtra(call, "rows", result);
            return result;
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(call, exception);
            throw;
        }
    }

    TraceCall Begin()
    {
        var call = _connection?.BeginRequest(string.Join("; ", inner.BatchCommands.Select(command => command.CommandText)), [.. inner.BatchCommands.Select(command => command.Parameters)]) ?? default;
        TraceDbConnection.AddExtra(call, "statements", inner.BatchCommands.Count);
        return call;
    }

    public override int Timeout { get => inner.Timeout; set => inner.Timeout = value; }
    public override void Cancel() => inner.Cancel();
    public override void Prepare() => inner.Prepare();
    public override Task PrepareAsync(CancellationToken cancellationToken = default) => inner.PrepareAsync(cancellationToken);
    protected override DbBatchCommandCollection DbBatchCommands => inner.BatchCommands;
    protected override DbBatchCommand CreateDbBatchCommand() => inner.CreateBatchCommand();

    // As with a command: one that is moved to a connection without a wrapper works on, without records.
    protected override DbConnection? DbConnection
    {
        get => _connection ?? inner.Connection;
        set
        {
            _connection = value as TraceDbConnection;
            inner.Connection = _connection?.Inner ?? value;
        }
    }

    protected override DbTransaction? DbTransaction
    {
        get => _transaction;
        set
        {
            _transaction = value;
            inner.Transaction = value is TraceDbTransaction traced ? traced.Inner : value;
        }
    }

    public override void Dispose()
    {
        inner.Dispose();
        base.Dispose();
    }

    public override async ValueTask DisposeAsync()
    {
        await inner.DisposeAsync().ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }
}
