using System.Globalization;

namespace LogTrace;

/// <summary>
/// One piece of traced work that ends in exactly one record: the handling of a request or a branch (<see cref="TraceContext"/>), or a call
/// to another process (<see cref="TraceOperation"/>). Its properties become the fields of that record when it ends.
/// </summary>
/// <remarks>Ending it is safe from several threads (one record is written); set the properties from one thread at a time.</remarks>
public abstract class TraceSpan : IDisposable
{
    const int KeptExtra = 32;

    List<KeyValuePair<string, object?>>? _extra;
    int _ended;

    private protected TraceSpan(TraceLogger logger, string name, string action, string param)
    {
        Logger = logger;
        Name = name;
        Action = action;
        Param = param;
        StartTimestamp = logger.Clock.Now;
    }

    /// <summary>One that is begun by <see cref="Renew"/>.</summary>
    private protected TraceSpan()
    {
        Logger = null!;
        Name = Action = Param = "";
    }

    /// <summary>Kind of record that this ends in, without <c>.error</c>: <c>request.info</c>, <c>http.get</c>, <c>mysql.request</c>, ...</summary>
    public string Name { get; internal set; }

    /// <summary>The service that the record belongs to.</summary>
    public TraceLogger Logger { get; private set; }

    /// <summary>Place of the record in the chain, such as <c>1.3.2</c>.</summary>
    public abstract string RpcId { get; }

    /// <summary>Id of the whole request.</summary>
    public abstract string TraceId { get; }

    /// <summary>This execution, 16 hex digits.</summary>
    public string SpanId => Hex(SpanNumber);

    /// <summary>The execution that caused this one, 16 hex digits; null at the top of a trace.</summary>
    public string? ParentSpanId => ParentSpanNumber == 0 ? null : Hex(ParentSpanNumber);

    /// <summary>What is executed: URL, SQL text, command.</summary>
    public string Action { get; set; }

    /// <summary>Parameters.</summary>
    public string Param { get; set; }

    /// <summary>Status or error code.</summary>
    public string? Code { get; set; }

    /// <summary>Message.</summary>
    public string? Msg { get; set; }

    /// <summary>Stack trace of a failure.</summary>
    public string? Backtrace { get; set; }

    /// <summary>User on whose behalf this runs.</summary>
    public string? Uid { get; set; }

    /// <summary>Referrer of a request.</summary>
    public string? Source { get; set; }

    /// <summary>Address of a request's caller.</summary>
    public string? ClientIp { get; set; }

    /// <summary>Program of a request's caller.</summary>
    public string? UserAgent { get; set; }

    /// <summary>Target of a call as <c>ip:port</c>.</summary>
    public string? Host { get; set; }

    /// <summary>Name of the connection that a call uses.</summary>
    public string? InstanceName { get; set; }

    /// <summary>Database that a call uses.</summary>
    public string? Db { get; set; }

    /// <summary>Text of the response.</summary>
    public string? Response { get; set; }

    /// <summary>Bytes of the response, 0 or more.</summary>
    public long? ResponseLength { get; set; }

    /// <summary>Time spent on name resolution.</summary>
    public TimeSpan? DnsDuration { get; set; }

    /// <summary>True once <see cref="Fail(Exception)"/> was called: the record's name ends in <c>.error</c>.</summary>
    public bool IsFailed { get; private set; }

    internal ulong SpanNumber { get; private protected set; }

    internal ulong ParentSpanNumber { get; private protected set; }

    internal long StartTimestamp { get; private set; }

    /// <summary>When it ended; 0 for when its record is written.</summary>
    internal long EndTimestamp { get; set; }

    internal IReadOnlyList<KeyValuePair<string, object?>>? Extra => _extra;

    internal abstract TraceContext Scope { get; }

    /// <summary>Number within the scope: the last segment of <see cref="RpcId"/>.</summary>
    public abstract long Number { get; }

    /// <summary>Adds a member to <c>extra</c>. Numbers, booleans and strings keep their type; anything else is written as its text.</summary>
    public void AddExtra(string key, object? value) => (_extra ??= []).Add(new(key, value));

    /// <summary>Marks the work as failed by <paramref name="exception"/>: its type is the code (unless one is set), its message and stack go along. Does not end it.</summary>
    public void Fail(Exception exception)
    {
        ArgumentNullException.ThrowIfNull(exception);
        Code ??= exception is OperationCanceledException ? "cancelled" : exception.GetType().Name;
        Msg ??= exception.Message;
        Backtrace ??= exception.ToString();
        IsFailed = true;
    }

    /// <summary>Marks the work as failed without an exception. Does not end it.</summary>
    public void Fail(string? code, string? message)
    {
        Code = code ?? Code;
        Msg = message ?? Msg;
        IsFailed = true;
    }

    /// <summary>
    /// Says how long the work took, for an integration that learns late that it is over: the record carries that duration and end in place of the moment at
    /// which it is written. Does not end it.
    /// </summary>
    /// <param name="duration">Time since it began, 0 or more.</param>
    public void EndedAfter(TimeSpan duration)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(duration, TimeSpan.Zero);
        // Never 0, which says that nobody told.
        EndTimestamp = StartTimestamp + Math.Max(1, (long)(duration.TotalSeconds * Logger.Time.TimestampFrequency));
    }

    /// <summary>Ends the work: its record is written now, with the time since it began as duration. Does nothing the second time.</summary>
    public void Complete() => Dispose();

    /// <summary>The same as <see cref="Complete"/>: what was not marked as failed counts as done.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _ended, 1) != 0) return;
        Ending();
        Logger.Write(this);
        GC.SuppressFinalize(this);
    }

    /// <summary>Begins another piece of work with an object that <see cref="Forget"/> was called on.</summary>
    private protected void Renew(TraceLogger logger, string name, string action, string param)
    {
        Logger = logger;
        Name = name;
        Action = action;
        Param = param;
        StartTimestamp = logger.Clock.Now;
    }

    /// <summary>Lets go of all that it says, so that it keeps nothing alive while nobody uses it.</summary>
    private protected void Forget()
    {
        Logger = null!;
        Name = Action = Param = "";
        Code = Msg = Backtrace = Uid = Source = ClientIp = UserAgent = Host = InstanceName = Db = Response = null;
        ResponseLength = null;
        DnsDuration = null;
        IsFailed = false;
        EndTimestamp = 0;
        if (_extra is { Capacity: > KeptExtra }) _extra = null;
        else _extra?.Clear();
    }

    private protected virtual void Ending()
    {
    }

    static string Hex(ulong number) => number.ToString("x16", CultureInfo.InvariantCulture);
}
