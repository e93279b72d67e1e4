using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace LogTrace;

/// <summary>
/// Any ADO.NET connection, with a record for each thing that it asks its database: <c>mysql.connect</c> and <c>mysql.request</c> (or
/// <c>pgsql</c>, <c>sqlserver</c>, <c>sqlite</c>, ... by provider), with <c>.error</c> appended where it failed or was cancelled. Use it in place of
/// the connection: commands, batches, readers and transactions made from it are wrapped as well.
/// </summary>
/// <remarks>
/// Every request takes the next number of the scope in which it starts. Opening takes one too, and the first request that follows in the
/// same scope shares it. A query's record is written when its reader is closed, at the latest when the connection is. Outside a trace
/// nothing is recorded. As safe for concurrent use as the wrapped connection: usually not.
/// </remarks>
public sealed class TraceDbConnection : DbConnection
{
    // The last one made of a name alone: most services have one name for all their connections.
    static TraceDbOptions s_named = new();

    readonly TraceDbOptions _options;
    TraceDbTarget _target;
    StateChangeEventHandler? _stateChange;
    List<TraceDbReader>? _reading;

    // The connect whose number the next request shares: its scope, null when there is none to share, and its place there.
    TraceContext? _connectScope;
    long _connectNumber;
    ulong _connectSpan;

    /// <summary>Wraps a connection, which then belongs to the wrapper: disposing of this one disposes of it.</summary>
    /// <param name="inner">Open or closed.</param>
    /// <param name="instanceName">What records call the connection.</param>
    public TraceDbConnection(DbConnection inner, string instanceName = "default")
        : this(inner, Named(instanceName), isChecked: true)
    {
    }

    /// <summary>Wraps a connection, which then belongs to the wrapper: disposing of this one disposes of it.</summary>
    /// <param name="inner">Open or closed.</param>
    /// <param name="options">What to write into the records.</param>
    /// <exception cref="ArgumentException">An option is out of range; the message lists all that are.</exception>
    public TraceDbConnection(DbConnection inner, TraceDbOptions options)
        : this(inner, options, isChecked: false)
    {
    }

    internal TraceDbConnection(DbConnection inner, TraceDbOptions options, bool isChecked)
    {
        ArgumentNullException.ThrowIfNull(inner);
        ArgumentNullException.ThrowIfNull(options);
        Inner = inner;
        _options = isChecked ? options : Checked(options);
        _target = TraceDbTarget.Of(inner);
    }

    /// <inheritdoc/>
    public override event StateChangeEventHandler? StateChange
    {
        add
        {
            // Only where somebody listens: most connections live for a moment.
            if (_stateChange is null) Inner.StateChange += OnInnerStateChange;
            _stateChange += value;
        }

        remove
        {
            _stateChange -= value;
            if (_stateChange is null) Inner.StateChange -= OnInnerStateChange;
        }
    }

    /// <summary>The wrapped connection. What is done through it directly leaves no record.</summary>
    public DbConnection Inner { get; }

    /// <inheritdoc/>
    [AllowNull]
    public override string ConnectionString
    {
        get => Inner.ConnectionString;
        set
        {
            Inner.ConnectionString = value;
            _target = TraceDbTarget.Of(Inner);
        }
    }

    /// <inheritdoc/>
    public override int ConnectionTimeout => Inner.ConnectionTimeout;

    /// <inheritdoc/>
    public override string Database => Inner.Database;

    /// <inheritdoc/>
    public override string DataSource => Inner.DataSource;

    /// <inheritdoc/>
    public override string ServerVersion => Inner.ServerVersion;

    /// <inheritdoc/>
    public override ConnectionState State => Inner.State;

    /// <inheritdoc/>
    public override void Open()
    {
        using var connect = Begin(TraceCall.Begin(_target.ConnectName));
        try
        {
            using var quiet = Quiet(connect);
            Inner.Open();
            Share(connect);
        }
        catch (Exception exception)
        {
            // Only to say so in the record; the caller gets the exception as it is. So in every method here.
            Fail(connect, exception);
            throw;
        }
        finally
        {
            Resolved(connect);
        }
    }

    /// <inheritdoc/>
    public override Task OpenAsync(CancellationToken cancellationToken)
    {
        var connect = Begin(TraceCall.Begin(_target.ConnectName));
        Task opening;
        try
        {
            using var quiet = Quiet(connect);
            opening = Inner.OpenAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            // A failed task, as an async method makes of it.
            opening = Task.FromException(exception);
        }

        // A connection from a pool, or to a file, is there at once.
        if (!opening.IsCompletedSuccessfully) return OpenedAsync(opening, connect);
        Share(connect);
        Resolved(connect);
        connect.Dispose();
        return opening;
    }

    async Task OpenedAsync(Task opening, TraceCall connect)
    {
        using var ending = connect;
        try
        {
            await opening.ConfigureAwait(false);
            Share(connect);
        }
        catch (Exception exception)
        {
            Fail(connect, exception);
            throw;
        }
        finally
        {
            Resolved(connect);
        }
    }

    /// <inheritdoc/>
    public override void Close()
    {
        try
        {
            Inner.Close();
        }
        finally
        {
            Closed();
        }
    }

    /// <inheritdoc/>
    public override async Task CloseAsync()
    {
        try
        {
            await Inner.CloseAsync().ConfigureAwait(false);
        }
        finally
        {
            Closed();
        }
    }

    /// <inheritdoc/>
    public override void ChangeDatabase(string databaseName) => Inner.ChangeDatabase(databaseName);

    /// <inheritdoc/>
    public override Task ChangeDatabaseAsync(string databaseName, CancellationToken cancellationToken = default) => Inner.ChangeDatabaseAsync(databaseName, cancellationToken);

    /// <inheritdoc/>
    public override void EnlistTransaction(System.Transactions.Transaction? transaction) => Inner.EnlistTransaction(transaction);

    /// <inheritdoc/>
    public override DataTable GetSchema() => Inner.GetSchema();

    /// <inheritdoc/>
    public override DataTable GetSchema(string collectionName) => Inner.GetSchema(collectionName);

    /// <inheritdoc/>
    public override DataTable GetSchema(string collectionName, string?[] restrictionValues) => Inner.GetSchema(collectionName, restrictionValues);

    /// <inheritdoc/>
    protected override DbCommand CreateDbCommand() => new TraceDbCommand(Inner.CreateCommand(), this);

    /// <inheritdoc/>
    public override bool CanCreateBatch => Inner.CanCreateBatch;

    /// <inheritdoc/>
    protected override DbBatch CreateDbBatch() => new TraceDbBatch(Inner.CreateBatch(), this);

    /// <inheritdoc/>
    protected override DbTransaction BeginDbTransaction(IsolationLevel isolationLevel)
    {
        DbTransaction? transaction = null;
        Run("BEGIN", () => transaction = Inner.BeginTransaction(isolationLevel));
        return new TraceDbTransaction(transaction!, this);
    }

    /// <inheritdoc/>
    protected override async ValueTask<DbTransaction> BeginDbTransactionAsync(IsolationLevel isolationLevel, CancellationToken cancellationToken)
    {
        DbTransaction? transaction = null;
        await RunAsync("BEGIN", async token => transaction = await Inner.BeginTransactionAsync(isolationLevel, token).ConfigureAwait(false), cancellationToken).ConfigureAwait(false);
        return new TraceDbTransaction(transaction!, this);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            try
            {
                Inner.Dispose();
            }
            finally
            {
                Closed();
            }
        }

        base.Dispose(disposing);
    }

    /// <inheritdoc/>
    public override ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        ValueTask disposing;
        try
        {
            disposing = Inner.DisposeAsync();
        }
        catch (Exception exception)
        {
            disposing = ValueTask.FromException(exception);
        }

        if (!disposing.IsCompletedSuccessfully) return DisposedAsync(disposing);
        Closed();
        return disposing;
    }

    async ValueTask DisposedAsync(ValueTask disposing)
    {
        try
        {
            await disposing.ConfigureAwait(false);
        }
        finally
        {
            Closed();
        }
    }

    /// <summary>Begins the record of a statement, under the number of the connect that was made for it or one of its own; one that is not traced outside a scope.</summary>
    internal TraceCall BeginRequest(string sql, params ReadOnlySpan<DbParameterCollection> parameters)
    {
        var scope = TraceContext.Current;
        var connectScope = Interlocked.Exchange(ref _connectScope, null);
        if (scope is null) return default;

        // A connection may be opened in one branch and used in another: there the connect's number is somebody else's.
        var action = TraceDbTarget.Bounded(sql, _options.MaxActionLength);
        var param = _options.RecordParameters ? TraceDbTarget.Format(parameters, _options.MaxParamLength) : "";
        return Begin(ReferenceEquals(connectScope, scope)
            ? scope.CallPart(_connectNumber, _connectSpan, _target.RequestName, action, param)
            : scope.Call(_target.RequestName, action, param));
    }

    /// <summary>Runs a statement that has no command.</summary>
    internal void Run(string sql, Action run)
    {
        using var call = BeginRequest(sql);
        try
        {
            using var quiet = Quiet(call);
            run();
        }
        catch (Exception exception)
        {
            Fail(call, exception);
            throw;
        }
    }

    /// <inheritdoc cref="Run"/>
    internal async Task RunAsync(string sql, Func<CancellationToken, Task> run, CancellationToken cancellationToken)
    {
        using var call = BeginRequest(sql);
        try
        {
            using var quiet = Quiet(call);
            await run(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            Fail(call, exception);
            throw;
        }
    }

    internal static TraceDbOptions Checked(TraceDbOptions options)
    {
        var problems = options.Validate();
        return problems.Count == 0 ? options : throw new ArgumentException(string.Join(Environment.NewLine, problems), nameof(options));
    }

    /// <summary>Keeps the provider's own activities from being recorded a second time while <paramref name="call"/> runs.</summary>
    internal static TraceActivities.Quiet Quiet(TraceCall call) => call.Live is { } live && TraceActivities.MayHear(live) ? TraceActivities.BeQuiet() : default;

    internal static void Fail(TraceCall call, Exception exception)
    {
        if (!call.IsOpen) return;
        call.Code ??= TraceDbTarget.CodeOf(exception);
        call.Fail(exception);
    }

    internal static void AddExtra<T>(TraceCall call, string key, T value)
    {
        // Before the value becomes an object.
        if (call.IsOpen) call.AddExtra(key, value);
    }

    internal void ReaderOpened(TraceDbReader reader)
    {
        var reading = LazyInitializer.EnsureInitialized(ref _reading, static () => []);
        lock (reading) reading.Add(reader);
    }

    internal void ReaderClosed(TraceDbReader reader)
    {
        if (_reading is not { } reading) return;
        lock (reading) reading.Remove(reader);
    }

    TraceCall Begin(TraceCall call)
    {
        if (call.Live is not { } live) return call;
        live.InstanceName = _options.InstanceName;
        live.Host = _target.Host;
        live.Db = _target.DatabaseOf(Inner);
        return call;
    }

    void Share(TraceCall connect)
    {
        if (connect.Live is not { } live) return;
        (_connectNumber, _connectSpan) = (live.Number, live.SpanNumber);
        Volatile.Write(ref _connectScope, live.Scope);
    }

    void Resolved(TraceCall connect)
    {
        if (connect.Live is { } live && _target.HostName is { } host) live.DnsDuration = NameResolution.Within(live, host);
    }

    // A reader that nobody closed ends with its connection: the number it took must not be missing from the chain.
    void Closed()
    {
        _connectScope = null;
        if (_reading is not { } reading) return;
        TraceDbReader[] left;
        lock (reading)
        {
            left = [.. reading];
            reading.Clear();
        }

        foreach (var reader in left) reader.End();
    }

    static TraceDbOptions Named(string instanceName)
    {
        var named = Volatile.Read(ref s_named);
        if (named.InstanceName != instanceName) Volatile.Write(ref s_named, named = Checked(new TraceDbOptions { InstanceName = instanceName }));
        return named;
    }

    void OnInnerStateChange(object sender, StateChangeEventArgs change) => _stateChange?.Invoke(this, change);
}
