using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace LogTrace;

/// <summary>Passes a command on and records each execution: one number, one record, however it ends.</summary>
sealed class TraceDbCommand : DbCommand
{
    readonly DbCommand _inner;
    TraceDbConnection? _connection;
    DbTransaction? _transaction;

    public TraceDbCommand(DbCommand inner, TraceDbConnection connection)
    {
        _inner = inner;
        _connection = connection;
    }

    public override int ExecuteNonQuery()
    {
        using var call = Begin();
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            var rows = _inner.ExecuteNonQuery();
            TraceDbConnection.AddExtra(call, "rows", rows);
            return rows;
        }
        catch (Exception exception)
        {
            // Only to say so in the record; the caller gets the exception as it is. So in every method here.
            TraceDbConnection.Fail(call, exception);
            throw;
        }
    }

    public override Task<int> ExecuteNonQueryAsync(CancellationToken cancellationToken)
    {
        var call = Begin();
        Task<int> running;
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            running = _inner.ExecuteNonQueryAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            // A failed task, as an async method makes of it.
            running = Task.FromException<int>(exception);
        }

        // A database that is a file has answered by now.
        if (!running.IsCompletedSuccessfully) return CountedAsync(running, call);
        TraceDbConnection.AddExtra(call, "rows", running.Result);
        call.Dispose();
        return running;
    }

    static async Task<int> CountedAsync(Task<int> running, TraceCall call)
    {
        using var ending = call;
        try
        {
            var rows = await running.ConfigureAwait(false);
            TraceDbConnection.AddExtra(call, "rows", rows);
            return rows;
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(call, exception);
            throw;
        }
    }

    public override object? ExecuteScalar()
    {
        using var call = Begin();
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            return _inner.ExecuteScalar();
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(call, exception);
            throw;
        }
    }

    public override Task<object?> ExecuteScalarAsync(CancellationToken cancellationToken)
    {
        var call = Begin();
        Task<object?> running;
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            running = _inner.ExecuteScalarAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            running = Task.FromException<object?>(exception);
        }

        if (!running.IsCompletedSuccessfully) return EndedAsync(running, call);
        call.Dispose();
        return running;
    }

    static async Task<object?> EndedAsync(Task<object?> running, TraceCall call)
    {
        using var ending = call;
        try
        {
            return await running.ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(call, exception);
            throw;
        }
    }

    protected override DbDataReader ExecuteDbDataReader(CommandBehavior behavior)
    {
        var call = Begin();
        try
        {
            using var quiet = TraceDbConnection.Quiet(call);
            return TraceDbReader.Around(_inner.ExecuteReader(behavior), call, _connection);
        }
        catch (Exception exception)
        {
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
            return TraceDbReader.Around(await _inner.ExecuteReaderAsync(behavior, cancellationToken).ConfigureAwait(false), call, _connection);
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(call, exception);
            call.Dispose();
            throw;
        }
    }

    TraceCall Begin() => _connection?.BeginRequest(_inner.CommandText, _inner.Parameters) ?? default;

    public override void Cancel() => _inner.Cancel();
    public override void Prepare() => _inner.Prepare();
    public override Task PrepareAsync(CancellationToken cancellationToken = default) => _inner.PrepareAsync(cancellationToken);

    [AllowNull]
    public override string CommandText { get => _inner.CommandText; set => _inner.CommandText = value; }
    public override int CommandTimeout { get => _inner.CommandTimeout; set => _inner.CommandTimeout = value; }
    public override CommandType CommandType { get => _inner.CommandType; set => _inner.CommandType = value; }
    public override bool DesignTimeVisible { get => _inner.DesignTimeVisible; set => _inner.DesignTimeVisible = value; }
    public override UpdateRowSource UpdatedRowSource { get => _inner.UpdatedRowSource; set => _inner.UpdatedRowSource = value; }
    protected override DbParameterCollection DbParameterCollection => _inner.Parameters;
    protected override DbParameter CreateDbParameter() => _inner.CreateParameter();

    // A command that somebody moves to a connection without a wrapper works on, without records.
    protected override DbConnection? DbConnection
    {
        get => _connection ?? _inner.Connection;
        set
        {
            _connection = value as TraceDbConnection;
            _inner.Connection = _connection?.Inner ?? value;
        }
    }

    protected override DbTransaction? DbTransaction
    {
        get => _transaction;
        set
        {
            _transaction = value;
            _inner.Transaction = value is TraceDbTransaction traced ? traced.Inner : value;
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing) _inner.Dispose();
        base.Dispose(disposing);
    }

    public override ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return _inner.DisposeAsync();
    }
}
