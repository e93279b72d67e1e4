using System.Diagnostics;
using System.Globalization;
using LogTrace.Records;
using Serilog.Events;

namespace LogTrace;

/// <summary>
/// A scope: one service handling one request, one job, or one parallel branch of them. It has a prefix P; its lines are P.1, P.2, ... It hands
/// out a number to each outgoing call and writes its closing record (<c>request.info</c> or <c>fork.info</c>) at P.1 when it ends.
/// </summary>
/// <remarks>
/// The ambient scope follows <c>await</c> and <see cref="Task.Run(Action)"/>. All of it shares one atomic counter, so that calls made at the same time get
/// distinct numbers. When a scope ends, work that still runs with it falls back to the enclosing scope, and to none after the request.
/// </remarks>
public sealed class TraceContext : TraceSpan
{
    const string TakenMark = "logtrace";

    static readonly AsyncLocal<Holder?> s_ambient = new();

    readonly Holder _holder;

    // What the spans of calls are bound to: see BoundSpan.
    readonly ulong _cause;
    readonly Holder? _outer;
    long _counter = 1;
    StampCache? _stamp;
    LogEventProperty[]? _logProperties;
    TraceOperation? _kept;
    bool _closed;

    // Clearing an AsyncLocal does not reach the copies that background work captured; emptying what it points to does.
    sealed class Holder(TraceContext context, Holder? outer)
    {
        public volatile TraceContext? Context = context;

        public Holder? Outer { get; } = outer;
    }

    /// <summary>What log lines of this scope carry at the moment, made once per number.</summary>
    internal sealed class StampCache(long number, string rpcId)
    {
        LogEventProperty? _property;

        public long Number { get; } = number;

        public string RpcId { get; } = rpcId;

        public LogEventProperty Property => _property ??= new(RecordFields.WireName(RecordField.RpcId), new TraceValue(RpcId));
    }

    /// <param name="branch">Number of the branch in the scope it is made in; 0 for a request.</param>
    internal TraceContext(TraceLogger logger, string name, string traceId, string prefix, string action, string param, ulong parentSpan, in IncomingTrace incoming, long branch = 0)
        : base(logger, name, action, param)
    {
        TraceId = traceId;
        Prefix = prefix;
        SpanNumber = BoundSpan.Make(parentSpan, (ulong)branch);
        ParentSpanNumber = parentSpan;
        _cause = branch == 0 && parentSpan != 0 ? parentSpan : SpanNumber;
        DebugUntil = incoming.DebugUntil;
        TraceFlags = incoming.TraceFlags ?? 1;
        OtherState = incoming.OtherState;
        Held = incoming.Held;
        HeldDebug = incoming.HeldDebug;
        _outer = s_ambient.Value;
        // A fork's work may outlive it within the request; a request's work must not see what was ambient around it.
        _holder = new Holder(this, name == RecordNames.ForkInfo ? _outer : null);
        s_ambient.Value = _holder;
        if (IsDebug && !IsFork) logger.DebugStarted();
    }

    /// <summary>The ambient scope; null where nothing is traced.</summary>
    public static TraceContext? Current
    {
        get
        {
            for (var holder = s_ambient.Value; holder is not null; holder = holder.Outer)
            {
                if (holder.Context is { } context) return context;
            }

            return null;
        }
    }

    /// <summary>
    /// Raised once, when the scope ends and before its closing record is written: here integrations write the records of calls whose end they have not seen yet.
    /// </summary>
    public event Action? Closing;

    /// <inheritdoc/>
    public override string TraceId { get; }

    /// <summary>Prefix of all ids of this scope: <c>1</c> in an entry service, else the number of the call that reached it.</summary>
    public string Prefix { get; }

    /// <summary>Where the closing record goes: <see cref="Prefix"/> and <c>.1</c>.</summary>
    public override string RpcId => NumberText(1);

    /// <summary>What log lines carry now: <see cref="Prefix"/> and the number handed out last.</summary>
    public string CurrentRpcId => Stamp.RpcId;

    /// <summary>True for a request that was sent with <c>X-Debug</c> and a valid key or token: its debug lines are written whatever the level.</summary>
    public bool IsDebug => DebugUntil is not null;

    internal bool IsFork => Name == RecordNames.ForkInfo;

    internal DateTimeOffset? DebugUntil { get; }

    internal byte TraceFlags { get; }

    internal string? OtherState { get; }

    /// <summary>Set for a request that is not sampled, and its branches: their records wait there.</summary>
    internal HeldLines? Held { get; }

    /// <summary>Set where debug lines wait for a failure.</summary>
    internal HeldLines? HeldDebug { get; }

    internal override TraceContext Scope => this;

    /// <summary>The closing record's number: 1.</summary>
    public override long Number => 1;

    /// <summary>The number handed out last.</summary>
    internal long LastNumber => Interlocked.Read(ref _counter);

    /// <summary>What all log lines of this scope carry, but for the number.</summary>
    internal LogEventProperty[] LogProperties => _logProperties ??= MakeLogProperties();

    internal StampCache Stamp
    {
        get
        {
            var number = LastNumber;
            var stamp = _stamp;
            if (stamp is null || stamp.Number != number) _stamp = stamp = new StampCache(number, NumberText(number));
            return stamp;
        }
    }

    /// <summary>
    /// Starts a trace of its own for a job or a console run, under the default logger. Dispose it to write its <c>request.info</c>.
    /// </summary>
    /// <param name="action">Name of the job.</param>
    /// <param name="param">Its parameters.</param>
    public static TraceContext StartTrace(string action, string param = "") => TraceLogger.Default.StartTrace(action, param);

    /// <summary>Starts the handling of a request or message under the default logger. Dispose it to write its <c>request.info</c>.</summary>
    public static TraceContext StartRequest(string action, string param, in IncomingTrace incoming) => TraceLogger.Default.StartRequest(action, param, incoming);

    /// <summary>
    /// Takes the next number and begins a call with it. The returned operation writes the call's one record when it is disposed; it must be.
    /// Thread-safe.
    /// </summary>
    /// <param name="name">Kind of record, without <c>.error</c>: <c>http.get</c>, <c>mysql.request</c>, <c>kafka.produce</c>, ...</param>
    /// <param name="action">What is executed.</param>
    /// <param name="param">Its parameters.</param>
    public TraceOperation BeginCall(string name, string action = "", string param = "")
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var number = Interlocked.Increment(ref _counter);
        return new(this, number, BoundSpan.Make(_cause, (ulong)number), name, action, param);
    }

    /// <summary>The same as <see cref="BeginCall"/> without an object for the call: nothing is allocated. It must be disposed, too. Thread-safe.</summary>
    /// <param name="name">Kind of record, without <c>.error</c>: <c>http.get</c>, <c>mysql.request</c>, <c>kafka.produce</c>, ...</param>
    /// <param name="action">What is executed.</param>
    /// <param name="param">Its parameters.</param>
    public TraceCall Call(string name, string action = "", string param = "")
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var number = Interlocked.Increment(ref _counter);
        return new(TraceOperation.Rent(this, number, BoundSpan.Make(_cause, (ulong)number), name, action, param));
    }

    /// <summary>A second call object under the number of one that began here, as <see cref="TraceOperation.BeginPart"/> makes one.</summary>
    internal TraceCall CallPart(long number, ulong span, string name, string action, string param) => new(TraceOperation.Rent(this, number, span, name, action, param));

    /// <summary>
    /// Takes the next number as the prefix of a parallel branch and makes the branch the ambient scope of the calling method. Dispose it where it
    /// was made: that writes <c>fork.info</c>. Branches that run side by side each need a method of their own; <see cref="ForkAsync{T}"/> gives them one.
    /// </summary>
    public TraceContext Fork(string name)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var inherited = new IncomingTrace { DebugUntil = DebugUntil, TraceFlags = TraceFlags, OtherState = OtherState, Held = Held, HeldDebug = HeldDebug };
        var number = Interlocked.Increment(ref _counter);
        return new(Logger, RecordNames.ForkInfo, TraceId, NumberText(number), name, "", SpanNumber, inherited, number);
    }

    /// <summary>Runs <paramref name="work"/> as a branch of the ambient scope, marked as failed if it throws; where nothing is traced it just runs.</summary>
    public static async Task<T> ForkAsync<T>(string name, Func<Task<T>> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        using var branch = Current?.Fork(name);
        try
        {
            return await work().ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            // Whatever it is: it is recorded here and handled by the caller.
            branch?.Fail(exception);
            throw;
        }
    }

    /// <inheritdoc cref="ForkAsync{T}"/>
    public static Task ForkAsync(string name, Func<Task> work) => ForkAsync(name, async () =>
    {
        await work().ConfigureAwait(false);
        return true;
    });

    /// <summary>Runs <paramref name="work"/> without an ambient scope, for background work that a request starts and does not wait for.</summary>
    public static void Detached(Action work)
    {
        ArgumentNullException.ThrowIfNull(work);
        var held = s_ambient.Value;
        s_ambient.Value = null;
        try
        {
            work();
        }
        finally
        {
            s_ambient.Value = held;
        }
    }

    internal string NumberText(long number)
    {
        Span<char> digits = stackalloc char[20];
        number.TryFormat(digits, out var length, provider: CultureInfo.InvariantCulture);
        return string.Concat(Prefix, ".", digits[..length]);
    }

    /// <summary>
    /// An id for a new trace: the current Activity's, unless that one or one around it took its id from a remote caller, whose word was not
    /// accepted here, or a trace has taken it already. ASP.NET Core's own Activity does that for any stranger's traceparent before a middleware runs.
    /// </summary>
    internal static string NewTraceId()
    {
        var current = Activity.Current;
        if (current is not { IdFormat: ActivityIdFormat.W3C }) return ActivityTraceId.CreateRandom().ToHexString();
        var top = current;
        while (!top.HasRemoteParent && top.Parent is { } parent) top = parent;
        if (top.HasRemoteParent || top.ParentId is not null) return ActivityTraceId.CreateRandom().ToHexString();
        lock (top)
        {
            // A second trace under one Activity would count from 1 again: its ids would be those of the first.
            if (top.GetCustomProperty(TakenMark) is not null) return ActivityTraceId.CreateRandom().ToHexString();
            top.SetCustomProperty(TakenMark, TakenMark);
        }

        return current.TraceId.ToHexString();
    }

    LogEventProperty[] MakeLogProperties()
    {
        var properties = new List<LogEventProperty>(4)
        {
            new(RecordFields.WireName(RecordField.TraceId), new TraceValue(TraceId)),
            new(RecordFields.WireName(RecordField.SpanId), new TraceValue(SpanId)),
        };
        if (ParentSpanId is { } parent) properties.Add(new(RecordFields.WireName(RecordField.ParentSpanId), new TraceValue(parent)));
        if (IsDebug) properties.Add(new(RecordFields.WireName(RecordField.Debug), new TraceValue(true)));
        if (Held is not null) properties.Add(new(RecordFields.WireName(RecordField.Sampled), new TraceValue(true)));
        return [.. properties];
    }

    /// <summary>Keeps a call that has to end with this scope at the latest; false when that has ended.</summary>
    internal bool Keep(TraceOperation call)
    {
        lock (_holder)
        {
            if (_closed) return false;
            call.IsKept = true;
            (call.KeptBefore, call.KeptAfter) = (null, _kept);
            if (_kept is not null) _kept.KeptBefore = call;
            _kept = call;
            return true;
        }
    }

    internal bool Release(TraceOperation call)
    {
        lock (_holder)
        {
            if (!call.IsKept) return false;
            call.IsKept = false;
            if (call.KeptAfter is not null) call.KeptAfter.KeptBefore = call.KeptBefore;
            if (call.KeptBefore is not null) call.KeptBefore.KeptAfter = call.KeptAfter;
            else _kept = call.KeptAfter;
            call.KeptBefore = call.KeptAfter = null;
            return true;
        }
    }

    private protected override void Ending()
    {
        TraceOperation? left;
        lock (_holder)
        {
            _closed = true;
            left = _kept;
            _kept = null;
            // From here on nobody takes one back, so that the list stays as it is.
            for (var call = left; call is not null; call = call.KeptAfter) call.IsKept = false;
        }

        for (; left is not null; left = left.KeptAfter) left.Dispose();
        Closing?.Invoke();
        if (IsDebug && !IsFork) Logger.DebugEnded();
        _holder.Context = null;
        if (s_ambient.Value == _holder) s_ambient.Value = _outer;
    }
}
