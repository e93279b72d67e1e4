using System.Collections.Concurrent;

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
/// <remarks>An object of its own for each call. <see cref="TraceCall"/> is the same without one, for calls by the thousand.</remarks>
public sealed class TraceOperation : TraceSpan
{
    const int MaxIdle = 1024;

    // Those that no thread keeps at hand: a call may begin on one thread and end on another.
    static readonly ConcurrentQueue<TraceOperation> s_idle = new();

    [ThreadStatic]
    static TraceOperation? t_idle;

    TraceContext _scope;
    long _number;
    string? _rpcId;
    long _lease;

    internal TraceOperation(TraceContext scope, long number, ulong span, string name, string action, string param)
        : base(scope.Logger, name, action, param)
    {
        _scope = scope;
        _number = number;
        SpanNumber = span;
        ParentSpanNumber = scope.SpanNumber;
    }

    TraceOperation() => _scope = null!;

    /// <inheritdoc/>
    public override string RpcId => _rpcId ??= Scope.NumberText(Number);

    /// <inheritdoc/>
    public override string TraceId => Scope.TraceId;

    /// <summary>Whether its scope keeps it (<see cref="Pause"/>); these three are the scope's.</summary>
    internal bool IsKept { get; set; }

    internal TraceOperation? KeptBefore { get; set; }

    internal TraceOperation? KeptAfter { get; set; }

    /// <summary>The number that this call took of its scope.</summary>
    public override long Number => _number;

    internal override TraceContext Scope => _scope;

    /// <summary>Who may use it, where several do one after the other: no two get the same number.</summary>
    internal long Lease => Volatile.Read(ref _lease);

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

    /// <summary>An idle one, begun, for <see cref="TraceCall"/>; never handed out as an object, since who has one could end the call of the next.</summary>
    internal static TraceOperation Rent(TraceContext scope, long number, ulong span, string name, string action, string param)
    {
        var call = t_idle;
        if (call is not null) t_idle = null;
        else if (!s_idle.TryDequeue(out call)) call = new TraceOperation();
        call._scope = scope;
        call._number = number;
        call.SpanNumber = span;
        call.ParentSpanNumber = scope.SpanNumber;
        call.Renew(scope.Logger, name, action, param);
        return call;
    }

    /// <summary>Ends it and takes it back; does nothing when that lease is over.</summary>
    internal void EndLease(long lease)
    {
        if (Interlocked.CompareExchange(ref _lease, lease + 1, lease) != lease) return;
        Logger.Write(this);
        Forget();
        _scope = null!;
        _rpcId = null;
        if (t_idle is null) t_idle = this;
        // The count is a moment's: a few more do no harm.
        else if (s_idle.Count < MaxIdle) s_idle.Enqueue(this);
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
