namespace LogTrace;

/// <summary>
/// One call to another process: a query, a command, a message, a request. It took a number of its scope when it began and ends in exactly
/// one record with that number, also when it fails:
/// <code>
/// using var call = TraceOperation.Begin("redis.request", "GET cart:9527");
/// try { ... } catch (Exception e) { call?.Fail(e); throw; }
/// </code>
/// or shorter <c>await TraceOperation.RunAsync("redis.request", "GET cart:9527", call => ...)</c>.
/// </summary>
public sealed class TraceOperation : TraceSpan
{
    string? _rpcId;

    internal TraceOperation(TraceContext scope, long number, ulong span, string name, string action, string param)
        : base(scope.Logger, name, action, param)
    {
        Scope = scope;
        Number = number;
        SpanNumber = span;
        ParentSpanNumber = scope.SpanNumber;
    }

    /// <inheritdoc/>
    public override string RpcId => _rpcId ??= Scope.NumberText(Number);

    /// <inheritdoc/>
    public override string TraceId => Scope.TraceId;

    /// <summary>The number that this call took of its scope.</summary>
    public override long Number { get; }

    internal override TraceContext Scope { get; }

    /// <summary>
    /// Begins a second record of the same call under the same number: <c>mysql.request</c> after its <c>mysql.connect</c>. Each ends on its own.
    /// </summary>
    public TraceOperation BeginPart(string name, string action = "", string param = "") => new(Scope, Number, SpanNumber, name, action, param);

    /// <summary>Called once, when the call ends and before its record is written: fills in what was not known before.</summary>
    internal Action? Settle { get; set; }

    private protected override void Ending() => Settle?.Invoke();

    /// <summary>
    /// What was called has answered, but whether that is all depends on who reads the answer: the scope keeps the call until <see cref="Resume"/> and ends it at its own
    /// end, as of now. False when the scope has ended already.
    /// </summary>
    internal bool Pause()
    {
        EndTimestamp = Logger.Time.GetTimestamp();
        return Scope.Keep(this);
    }

    /// <summary>Takes a call back that is about to end; false when it has ended with its scope, or somebody else took it back.</summary>
    internal bool Resume()
    {
        if (!Scope.Release(this)) return false;
        EndTimestamp = 0;
        return true;
    }

    /// <summary>Begins a call in the ambient scope; null where nothing is traced (<c>using</c> accepts null).</summary>
    /// <param name="name">Kind of record, without <c>.error</c>: <c>mysql.request</c>, <c>redis.request</c>, <c>kafka.produce</c>, ...</param>
    /// <param name="action">What is executed.</param>
    /// <param name="param">Its parameters.</param>
    public static TraceOperation? Begin(string name, string action = "", string param = "") => TraceContext.Current?.BeginCall(name, action, param);

    /// <summary>
    /// Runs <paramref name="work"/> as one call of the ambient scope, marked as failed if it throws or is cancelled; the exception goes on. The
    /// argument of <paramref name="work"/> is null where nothing is traced.
    /// </summary>
    public static async Task<T> RunAsync<T>(string name, string action, Func<TraceOperation?, Task<T>> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        using var call = Begin(name, action);
        try
        {
            return await work(call).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            // Whatever it is: it is recorded here and handled by the caller.
            call?.Fail(exception);
            throw;
        }
    }
}
