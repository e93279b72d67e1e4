namespace LogTrace;

/// <summary>
/// One call to another process, as <see cref="TraceOperation"/> is, without an object of its own: beginning, describing and ending it allocates nothing. It took a number
/// of its scope when it began and ends in exactly one record with that number:
/// <code>
/// using var call = TraceCall.Begin("memcache.request", "get cart:9527");
/// try { ... call.Code = "0"; } catch (Exception e) { call.Fail(e); throw; }
/// </code>
/// </summary>
/// <remarks>
/// A value that may be copied, kept and carried over <c>await</c>: all copies are the same call. Ending it is safe from several threads (one record is written). Once it has ended, all
/// copies are dead for good, although what they stood on serves other calls by then: reading gives null or empty text, setting, failing and ending do nothing. Set the properties from one
/// thread at a time, and not while another one ends the call. The default value is a call that is not traced and behaves like one that has ended.
/// A call that is never ended writes no record; it costs the memory of one, until it is collected.
/// </remarks>
public readonly struct TraceCall : IDisposable
{
    readonly TraceOperation? _operation;
    readonly long _lease;

    internal TraceCall(TraceOperation operation)
    {
        _operation = operation;
        _lease = operation.Lease;
    }

    /// <summary>True between its beginning and its end; false also where nothing is traced.</summary>
    public bool IsOpen => Live is not null;

    /// <summary>Place of the record in the chain, such as <c>1.3.2</c>; empty once it has ended. Makes a string when it is read first.</summary>
    public string RpcId => Live?.RpcId ?? "";

    /// <summary>Id of the whole request; empty once it has ended.</summary>
    public string TraceId => Live?.TraceId ?? "";

    /// <summary>The number that the call took of its scope; 0 once it has ended.</summary>
    public long Number => Live?.Number ?? 0;

    /// <summary>What is executed: URL, SQL text, command.</summary>
    public string Action
    {
        get => Live?.Action ?? "";
        set
        {
            if (Live is { } live) live.Action = value;
        }
    }

    /// <summary>Parameters.</summary>
    public string Param
    {
        get => Live?.Param ?? "";
        set
        {
            if (Live is { } live) live.Param = value;
        }
    }

    /// <summary>Status or error code.</summary>
    public string? Code
    {
        get => Live?.Code;
        set
        {
            if (Live is { } live) live.Code = value;
        }
    }

    /// <summary>Message.</summary>
    public string? Msg
    {
        get => Live?.Msg;
        set
        {
            if (Live is { } live) live.Msg = value;
        }
    }

    /// <summary>Stack trace of a failure.</summary>
    public string? Backtrace
    {
        get => Live?.Backtrace;
        set
        {
            if (Live is { } live) live.Backtrace = value;
        }
    }

    /// <summary>User on whose behalf this runs.</summary>
    public string? Uid
    {
        get => Live?.Uid;
        set
        {
            if (Live is { } live) live.Uid = value;
        }
    }

    /// <summary>Target of the call as <c>ip:port</c>.</summary>
    public string? Host
    {
        get => Live?.Host;
        set
        {
            if (Live is { } live) live.Host = value;
        }
    }

    /// <summary>Name of the connection that the call uses.</summary>
    public string? InstanceName
    {
        get => Live?.InstanceName;
        set
        {
            if (Live is { } live) live.InstanceName = value;
        }
    }

    /// <summary>Database that the call uses.</summary>
    public string? Db
    {
        get => Live?.Db;
        set
        {
            if (Live is { } live) live.Db = value;
        }
    }

    /// <summary>Text of the response.</summary>
    public string? Response
    {
        get => Live?.Response;
        set
        {
            if (Live is { } live) live.Response = value;
        }
    }

    /// <summary>Bytes of the response, 0 or more.</summary>
    public long? ResponseLength
    {
        get => Live?.ResponseLength;
        set
        {
            if (Live is { } live) live.ResponseLength = value;
        }
    }

    /// <summary>Time spent on name resolution.</summary>
    public TimeSpan? DnsDuration
    {
        get => Live?.DnsDuration;
        set
        {
            if (Live is { } live) live.DnsDuration = value;
        }
    }

    /// <summary>True once <see cref="Fail(Exception)"/> was called: the record's name ends in <c>.error</c>.</summary>
    public bool IsFailed => Live is { IsFailed: true };

    /// <summary>What it stands on; null once that serves another call.</summary>
    internal TraceOperation? Live => _operation is { } operation && operation.Lease == _lease ? operation : null;

    /// <summary>Begins a call in the ambient scope; one that is not traced where there is none.</summary>
    /// <param name="name">Kind of record, without <c>.error</c>: <c>mysql.request</c>, <c>redis.request</c>, <c>kafka.produce</c>, ...</param>
    /// <param name="action">What is executed.</param>
    /// <param name="param">Its parameters.</param>
    public static TraceCall Begin(string name, string action = "", string param = "") => TraceContext.Current?.Call(name, action, param) ?? default;

    /// <summary>Adds a member to <c>extra</c>. Numbers, booleans and strings keep their type; anything else is written as its text. A number or boolean is boxed for it.</summary>
    public void AddExtra(string key, object? value) => Live?.AddExtra(key, value);

    /// <summary>Marks the call as failed by <paramref name="exception"/>: its type is the code (unless one is set), its message and stack go along. Does not end it.</summary>
    public void Fail(Exception exception)
    {
        ArgumentNullException.ThrowIfNull(exception);
        Live?.Fail(exception);
    }

    /// <summary>Marks the call as failed without an exception. Does not end it.</summary>
    public void Fail(string? code, string? message) => Live?.Fail(code, message);

    /// <summary>
    /// Says how long the call took, for an integration that learns late that it is over: the record carries that duration and end in place of the moment at which it is written. Does not
    /// end it.
    /// </summary>
    /// <param name="duration">Time since it began, 0 or more.</param>
    public void EndedAfter(TimeSpan duration)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(duration, TimeSpan.Zero);
        Live?.EndedAfter(duration);
    }

    /// <summary>Ends the call: its record is written now, with the time since it began as duration. Does nothing the second time.</summary>
    public void Complete() => Dispose();

    /// <summary>The same as <see cref="Complete"/>: what was not marked as failed counts as done.</summary>
    public void Dispose() => _operation?.EndLease(_lease);
}
