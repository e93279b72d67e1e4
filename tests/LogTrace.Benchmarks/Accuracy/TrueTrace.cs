using System.Globalization;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Accuracy;

/// <summary>One call as it happened, and what was logged of it.</summary>
sealed class TrueCall(TrueCall? parent, int number, string caller, string? callee)
{
    public TrueCall? Parent => parent;
    public int Number => number;

    /// <summary>Calling service; of the top it is nobody.</summary>
    public string Caller => caller;

    /// <summary>Service that handled it; null for a resource, which logs nothing.</summary>
    public string? Callee => callee;

    /// <summary>What the logger wrote as its id: a defect makes it another one than its place in the tree.</summary>
    public string Id { get; set; } = parent is null ? number.ToString(CultureInfo.InvariantCulture) : string.Create(CultureInfo.InvariantCulture, $"{parent.Id}.{number}");

    public int Depth { get; } = parent is null ? 0 : parent.Depth + 1;
    public List<TrueCall> Children { get; } = [];
    public List<TrueRecord> Records { get; } = [];

    /// <summary>Which of several equal processes of the callee handled it.</summary>
    public int Instance { get; set; }

    public bool IsFork { get; set; }

    /// <summary>What was asked of the callee.</summary>
    public string Action { get; set; } = "";

    public long StartMicros { get; set; }

    /// <summary>Of the call, and of its handling; 0 until written.</summary>
    public ulong Span { get; set; }

    public ulong ScopeSpan { get; set; }

    public TrueCall Add(int childNumber, string from, string? to)
    {
        var child = new TrueCall(this, childNumber, from, to);
        Children.Add(child);
        return child;
    }
}

/// <summary>One logged record and the call it is truly of.</summary>
/// <param name="Host">Host of the process that wrote it.</param>
/// <param name="Service">Service of that process.</param>
sealed record TrueRecord(TrueCall Call, bool IsCaller, string Host, string Service, IndexedRecord Record);

/// <summary>A trace as it was before anything was lost.</summary>
/// <param name="Calls">Parents before children.</param>
/// <param name="Reading">How its records put the two sides of a call.</param>
sealed record TrueTrace(IReadOnlyList<TrueCall> Calls, ChainReading Reading)
{
    public IEnumerable<TrueRecord> Records => Calls.SelectMany(call => call.Records);
}

/// <summary>What the records of an input tell about who wrote them, beyond their ids.</summary>
/// <param name="Spans">Records carry span ids.</param>
/// <param name="Services">Records name their service.</param>
/// <param name="Instances">Records name host and process.</param>
/// <param name="Bound">Span ids are bound to what caused them, as those of LogTrace's logger.</param>
sealed record Telling(bool Spans = true, bool Services = true, bool Instances = true, bool Bound = true);

/// <summary>Writes the records of true calls, as LogTrace's logger (pairs) or as systems that log both sides under one id (twins).</summary>
sealed class RecordWriter(ChainReading reading, Telling telling)
{
    ulong _lines;

    /// <summary>Writes all records of a call; its parent's are there already.</summary>
    public void Write(TrueCall call, Random random)
    {
        MakeSpans(call, random);
        var callerHost = call.Parent is null ? "" : HostOf(call.Parent);
        if (call is { Parent: not null, IsFork: false })
        {
            call.Records.Add(new TrueRecord(call, true, callerHost, call.Caller, Make(
                call.Callee is null ? "mysql.request" : "http.get", call.Id, call.Caller, callerHost, call.StartMicros, call.Span, ExecutionOf(call.Parent),
                call.Callee is null ? "db:3306" : $"{call.Callee}:80", call.Action)));
        }

        if (call.Callee is null) return;
        var host = HostOf(call);
        var id = reading == ChainReading.Twins ? call.Id : call.Id + ".1";
        // A branch is an execution of its own in the same process.
        call.Records.Add(new TrueRecord(call, false, host, call.Callee, Make(
            call.IsFork ? "fork.info" : "request.info", id, call.Callee, host, call.StartMicros + 200, ExecutionOf(call), call.IsFork ? ExecutionOf(call.Parent!) : call.Parent is null ? 0 : call.Span, null,
            call.Action, call.IsFork ? null : call.Parent is null ? "user" : callerHost)));
    }

    /// <summary>A log line that carries the number of the scope's last call.</summary>
    public void WriteEvent(TrueCall call, long startMicros)
    {
        var caller = call.Parent!;
        var host = HostOf(caller);
        call.Records.Add(new TrueRecord(call, true, host, call.Caller, Make("log.info", call.Id, call.Caller, host, startMicros, ExecutionOf(caller), caller.IsFork ? ExecutionOf(caller.Parent!) : caller.Span, null, "")));
    }

    /// <summary>The callee's handling of a call has a span of its own, whose parent is the call's. A branch's parent is the scope it was made in.</summary>
    void MakeSpans(TrueCall call, Random random)
    {
        // By the number that was handed out, which a defect made another one than its place.
        var number = ulong.Parse(call.Id.AsSpan(call.Id.LastIndexOf('.') + 1), CultureInfo.InvariantCulture);
        if (call is { Parent: { } caller, IsFork: false }) call.Span = Span(caller.IsFork || caller.Parent is null ? caller.ScopeSpan : caller.Span, number);
        call.ScopeSpan = call.IsFork ? Span(call.Parent!.ScopeSpan, number) : Span(call.Span, 0);

        ulong Span(ulong cause, ulong at) => telling.Bound && reading == ChainReading.Pairs ? BoundSpan.Make(cause, at, (uint)random.NextInt64(1, uint.MaxValue)) : (ulong)random.NextInt64(1, long.MaxValue);
    }

    static ulong ExecutionOf(TrueCall call) => call.ScopeSpan;

    static string HostOf(TrueCall call)
    {
        // Resources call nothing, so this is a service; a branch runs where it was made.
        for (; call.IsFork; call = call.Parent!)
        {
        }

        return string.Create(CultureInfo.InvariantCulture, $"{call.Callee}-{call.Instance}");
    }

    IndexedRecord Make(string name, string id, string service, string host, long start, ulong span, ulong parentSpan, string? peer, string action, string? client = null)
    {
        const long Duration = 1_000;
        var asked = action[(action.IndexOf('/') + 1)..];
        var kind = RecordNames.KindOf(name);
        var isEvent = kind is RecordKind.Event or RecordKind.Metric;
        var line = ++_lines;
        var named = telling.Services ? service : null;
        var record = new TraceRecord
        {
            Name = name,
            TraceId = "t",
            RpcId = RpcId.Parse(id),
            Action = asked,
            Service = named,
            ServerIp = telling.Instances ? host : null,
            Pid = telling.Instances ? "1" : null,
            SpanId = telling.Spans ? Hex(span) : null,
            ParentSpanId = telling.Spans && parentSpan != 0 ? Hex(parentSpan) : null,
            TimestampMicros = isEvent ? start : start + Duration,
            DurationMicros = isEvent ? null : Duration,
        };
        if (telling.Instances) record.Set(RecordField.ClientIp, client);
        return new IndexedRecord
        {
            Record = record,
            Kind = kind,
            ActionKey = asked,
            Service = named,
            ServiceIsCertain = named is not null,
            Peer = telling.Services ? peer : null,
            StartMicros = start,
            LineHash = new UInt128(1, line),
            RecordId = new UInt128(2, line),
            SourceFile = host,
            SourceOffset = (long)line,
        };
    }

    static string Hex(ulong number) => number.ToString("x16", CultureInfo.InvariantCulture);
}
