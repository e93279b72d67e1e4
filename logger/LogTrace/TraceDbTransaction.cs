using System.Data;
using System.Data.Common;

namespace LogTrace;

/// <summary>Passes a transaction on; commit, rollback and savepoints are statements of their own and get records like any other.</summary>
sealed class TraceDbTransaction(DbTransaction inner, TraceDbConnection connection) : DbTransaction
{
    bool _completed;

    public DbTransaction Inner => inner;

    protected override DbConnection DbConnection => connection;
    public override IsolationLevel IsolationLevel => inner.IsolationLevel;
    public override bool SupportsSavepoints => inner.SupportsSavepoints;

    public override void Commit()
    {
        connection.Run("COMMIT", inner.Commit);
        _completed = true;
    }

    public override async Task CommitAsync(CancellationToken cancellationToken = default)
    {
        await connection.RunAsync("COMMIT", inner.CommitAsync, cancellationToken).ConfigureAwait(false);
        _completed = true;
    }

    public override void Rollback()
    {
        connection.Run("ROLLBACK", inner.Rollback);
        _completed = true;
    }

    public override async Task RollbackAsync(CancellationToken cancellationToken = default)
    {
        await connection.RunAsync("ROLLBACK", inner.RollbackAsync, cancellationToken).ConfigureAwait(false);
        _completed = true;
    }

    public override void Save(string savepointName) => connection.Run($"SAVEPOINT {savepointName}", () => inner.Save(savepointName));

    public override Task SaveAsync(string savepointName, CancellationToken cancellationToken = default) =>
        connection.RunAsync($"SAVEPOINT {savepointName}", token => inner.SaveAsync(savepointName, token), cancellationToken);

    public override void Rollback(string savepointName) => connection.Run($"ROLLBACK TO SAVEPOINT {savepointName}", () => inner.Rollback(savepointName));

    public override Task RollbackAsync(string savepointName, CancellationToken cancellationToken = default) =>
        connection.RunAsync($"ROLLBACK TO SAVEPOINT {savepointName}", token => inner.RollbackAsync(savepointName, token), cancellationToken);

    public override void Release(string savepointName) => connection.Run($"RELEASE SAVEPOINT {savepointName}", () => inner.Release(savepointName));

    public override Task ReleaseAsync(string savepointName, CancellationToken cancellationToken = default) =>
        connection.RunAsync($"RELEASE SAVEPOINT {savepointName}", token => inner.ReleaseAsync(savepointName, token), cancellationToken);

    // Leaving a transaction without a commit is a rollback that the provider sends by itself.
    bool RollsBackNow => !_completed && inner.Connection is { State: ConnectionState.Open };

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            if (RollsBackNow) connection.Run("ROLLBACK", inner.Dispose);
            else inner.Dispose();
            _completed = true;
        }

        base.Dispose(disposing);
    }

    public override async ValueTask DisposeAsync()
    {
        if (RollsBackNow) await connection.RunAsync("ROLLBACK", _ => inner.DisposeAsync().AsTask(), CancellationToken.None).ConfigureAwait(false);
        else await inner.DisposeAsync().ConfigureAwait(false);
        _completed = true;
        GC.SuppressFinalize(this);
    }
}
