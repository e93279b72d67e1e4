using System.Net;
using System.Text;
using LogTrace.Records;
using Serilog.Core;
using Serilog.Debugging;
using Serilog.Events;

namespace LogTrace;

/// <summary>
/// One service's tracing: who it is, whom it believes, and where its records go. Make one per service at start and dispose it last:
/// <code>
/// using var tracer = new TraceLogger(new() { Service = "orders", Department = "shop_backend", File = new() { Path = "logs/orders.log" } });
/// Log.Logger = new LoggerConfiguration().LogTrace(tracer).CreateLogger();
/// </code>
/// </summary>
/// <remarks>Thread-safe. Nothing that is called while a request runs throws.</remarks>
public sealed class TraceLogger : IDisposable
{
    /// <summary>Marks the LogEvents that stand for typed records, so that a log line with a property called name is never taken for one.</summary>
    internal static readonly MessageTemplate RecordTemplate =
        new Serilog.Parsing.MessageTemplateParser().Parse("{name:l} {action:l} {code:l}");

    static TraceLogger? s_default;
    static TraceLogger? s_none;

    readonly DebugGate _debugGate;
    readonly NetworkList _callers;
    readonly NetworkList _proxies;
    readonly NetworkList _internalNetworks;
    readonly bool _ownsFile;
    readonly TraceInstrumentation _instrumentation;
    ILogEventSink? _sink;
    long _handedOver;
    long _refused;
    long _heldBytes;

    /// <summary>Opens the file that the options name, if any.</summary>
    /// <exception cref="LogTraceOptionsException">The options do not hold; the message lists all problems.</exception>
    /// <exception cref="IOException">The file cannot be made.</exception>
    public TraceLogger(LogTraceOptions options)
        : this(options, null, TimeProvider.System)
    {
    }

    /// <summary>Writes typed records to a Serilog logger or sink, each as a LogEvent that <see cref="TraceRecordFormatter"/> formats to the record's line.</summary>
    /// <param name="options">Must name no file.</param>
    /// <param name="sink">A logger (its levels and filters do not apply to typed records) or sink; not disposed.</param>
    public TraceLogger(LogTraceOptions options, ILogEventSink sink)
        : this(options, null, TimeProvider.System) => _sink = sink;

    internal TraceLogger(LogTraceOptions options, TraceFile? file, TimeProvider time)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.Validate() is { Count: > 0 } problems) throw new LogTraceOptionsException(problems);
        Options = options;
        Time = time;
        Clock = new TraceClock(time);
        Service = options.Service;
        Texts = new ServiceTexts(this);
        _debugGate = new DebugGate(options, time);
        _callers = new NetworkList(options.Callers.Select(caller => caller.Network));
        _proxies = new NetworkList(options.KnownProxies);
        _internalNetworks = new NetworkList(options.InternalHosts);
        Levels = new TraceLevels(options.MinimumLevel, options.LevelOverrides);
        Mask = new TraceMask(options.Masking, [options.DebugKey, .. options.DebugKeys]);
        Sampler = new TraceSampler(options.Sampling, time);
        Metrics = new TraceMetrics(this);
        if (options.BufferDebugUntilError) Levels.Lower();
        File = file;
        if (file is null && options.File is not null)
        {
            // Before the file's own: what is measured is written before it is closed.
            AppDomain.CurrentDomain.ProcessExit += OnProcessExit;
            File = new TraceFile(options.File) { DropReport = DropRecord };
            _ownsFile = true;
        }

        _instrumentation = new TraceInstrumentation(this);
    }

    /// <summary>
    /// The logger of <see cref="TraceContext.StartTrace"/> and of metrics outside a scope. Set by the first set-up of the process; until then one that writes nothing.
    /// </summary>
    public static TraceLogger Default
    {
        get => Volatile.Read(ref s_default) ?? LazyInitializer.EnsureInitialized(ref s_none, () => new TraceLogger(new()
        {
            Service = "none",
            Department = "none",
            ServerIp = "127.0.0.1",
            Instrumentation = new() { HttpClients = false, Databases = false },
        }));
        set => Volatile.Write(ref s_default, value ?? throw new ArgumentNullException(nameof(value)));
    }

    /// <summary>What it was made of.</summary>
    public LogTraceOptions Options { get; }

    /// <summary>Name of the service.</summary>
    public string Service { get; }

    /// <summary>Writes metric records.</summary>
    public TraceMetrics Metrics { get; }

    /// <summary>The file that records go to; null when they go to a Serilog sink.</summary>
    public TraceFile? File { get; }

    /// <summary>The level below which Serilog makes no event: the configured one, or Debug while a debug request is in flight.</summary>
    public LoggingLevelSwitch LevelSwitch => Levels.Minimum;

    /// <summary>Lines that the operating system has (without a file: typed records handed to the Serilog sink).</summary>
    public long Written => File?.Written ?? Interlocked.Read(ref _handedOver);

    /// <summary>Lines given up: queue full, disk refused (without a file: typed records that the sink threw at).</summary>
    public long Dropped => File?.Dropped ?? Interlocked.Read(ref _refused);

    /// <summary>Records left out on purpose, by reason. They are also written as a <c>metric.counter</c> called <c>logtrace.not_written</c>, every <see cref="TraceMetricsOptions.Interval"/> in which there were some.</summary>
    public NotWrittenCounts NotWritten => Sampler.Counts;

    internal TraceSampler Sampler { get; }

    internal TraceLevels Levels { get; }

    internal TraceMask Mask { get; }

    internal TimeProvider Time { get; }

    internal TraceClock Clock { get; }

    internal ServiceTexts Texts { get; }

    /// <summary>Sets this as <see cref="Default"/> unless there is one.</summary>
    public void UseAsDefault() => Interlocked.CompareExchange(ref s_default, this, null);

    /// <summary>Starts a trace of its own for a job or a console run and makes it the ambient scope. Dispose it to write its <c>request.info</c>.</summary>
    /// <param name="action">Name of the job.</param>
    /// <param name="param">Its parameters.</param>
    public TraceContext StartTrace(string action, string param = "") => StartRequest(action, param, default);

    /// <summary>
    /// Starts the handling of a request or message and makes it the ambient scope of the calling method. Dispose it to write its <c>request.info</c>.
    /// </summary>
    /// <param name="action">What is handled, such as <c>POST /orders</c>.</param>
    /// <param name="param">Its parameters.</param>
    /// <param name="incoming">The context that came with it, already judged; the default value starts a new trace.</param>
    public TraceContext StartRequest(string action, string param, in IncomingTrace incoming)
    {
        var isContinued = incoming is { TraceId: not null, Prefix: not null };
        var known = isContinued ? incoming : new IncomingTrace { TraceId = TraceContext.NewTraceId(), Prefix = "1", DebugUntil = incoming.DebugUntil };
        var left = Sampler.Decide(known.TraceId!, action, known, out var flags);
        known = known with
        {
            TraceFlags = flags,
            Held = left is { } reason ? new HeldLines(this, reason) : null,
            HeldDebug = Options.BufferDebugUntilError && File is not null && known.DebugUntil is null ? new HeldLines(this, LogTrace.NotWritten.HeldDebug) : null,
        };
        return new(this, RecordNames.RequestInfo, known.TraceId!, known.Prefix!, action, param, known.ParentSpan, known);
    }

    /// <summary>Reads the headers of a request or message and keeps of them what its sender may say.</summary>
    /// <param name="trust">How far the sender is believed: <see cref="TrustOf(IPAddress?, string?, string?, string?)"/>, or <see cref="CallerTrust.Trust"/> for one's own message broker.</param>
    /// <param name="carrier">The message that has the headers.</param>
    /// <param name="get">Gives a header's one value; null when it is absent or there is more than one.</param>
    /// <param name="caller">Who sent it; null when unknown. Wrong debug keys are held against that address.</param>
    public IncomingTrace Judge<TCarrier>(CallerTrust trust, TCarrier carrier, Func<TCarrier, string, string?> get, IPAddress? caller = null)
    {
        ArgumentNullException.ThrowIfNull(get);
        var incoming = trust == CallerTrust.Ignore ? default : TraceHeaders.Read(carrier, get);
        // What is recorded is not for a caller to decide of whom only the ids are believed.
        if (trust == CallerTrust.Accept) incoming = incoming with { TraceFlags = null };
        if (get(carrier, TraceHeaders.Debug) is not "1") return incoming;
        // A key opens from anywhere, it proves who asks. A token only says that somebody inside checked one, and only a trusted caller says that to us.
        var until = _debugGate.Admit(get(carrier, TraceHeaders.DebugKey), trust == CallerTrust.Trust ? incoming.TraceId : null, caller, trust);
        return incoming with { DebugUntil = until };
    }

    /// <summary>How far a caller is believed; null (a Unix socket) counts as loopback.</summary>
    public CallerTrust TrustOf(IPAddress? caller)
    {
        var index = _callers.IndexOf(caller ?? IPAddress.Loopback);
        return index < 0 ? CallerTrust.Ignore : Options.Callers[index].Trust;
    }

    /// <summary>
    /// How far the sender of a request is believed: as its address (<see cref="CallerOf"/>) is, but no further than any address that headers name behind it. A proxy that is not
    /// among <see cref="LogTraceOptions.KnownProxies"/> has an address that is trusted and callers that must not be; its headers are not believed, but they lower the trust.
    /// </summary>
    /// <param name="connection">Address at the other end of the connection; null (a Unix socket) counts as loopback.</param>
    /// <param name="forwardedFor">Header <c>X-Forwarded-For</c>.</param>
    /// <param name="forwarded">Header <c>Forwarded</c> (RFC 7239).</param>
    /// <param name="realIp">Header <c>X-Real-IP</c>.</param>
    public CallerTrust TrustOf(IPAddress? connection, string? forwardedFor, string? forwarded, string? realIp)
    {
        var trust = TrustOf(CallerOf(connection, forwardedFor));
        if (string.IsNullOrEmpty(forwardedFor) && string.IsNullOrEmpty(forwarded) && string.IsNullOrEmpty(realIp)) return trust;
        foreach (var hop in ForwardedHeaders.Addresses(forwardedFor, forwarded, realIp))
        {
            if (trust == CallerTrust.Ignore) break;
            if (hop is not null && _proxies.IndexOf(hop) >= 0) continue;
            var hopTrust = hop is null ? CallerTrust.Ignore : TrustOf(hop);
            if (hopTrust < trust) trust = hopTrust;
        }

        return trust;
    }

    /// <summary>
    /// The caller's address: the connection's, or behind known proxies the last one in <c>X-Forwarded-For</c> that is no known proxy itself.
    /// </summary>
    public IPAddress? CallerOf(IPAddress? connection, string? forwardedFor)
    {
        var caller = connection;
        if (Options.KnownProxies.Count == 0 || string.IsNullOrEmpty(forwardedFor) || forwardedFor.Length > 2048) return caller;
        var hops = forwardedFor.Split(',', StringSplitOptions.TrimEntries);
        for (var i = hops.Length - 1; i >= 0 && caller is not null && _proxies.IndexOf(caller) >= 0; i--)
        {
            // What the proxy wrote is no address (unknown, _hidden): then the nearest thing known is the proxy, whose trust it must not get.
            if (!IPEndPoint.TryParse(hops[i], out var hop)) return IPAddress.None;
            caller = hop.Address;
        }

        return caller;
    }

    /// <summary>True for hosts that may know that a request is a debug request.</summary>
    /// <param name="host">Name or address, without port.</param>
    public bool IsInternalHost(string? host)
    {
        if (string.IsNullOrEmpty(host)) return false;
        host = host.Trim('[', ']').TrimEnd('.');
        if (IPAddress.TryParse(host, out var address)) return _internalNetworks.IndexOf(address) >= 0;
        foreach (var entry in Options.InternalHosts)
        {
            if (entry == "*" ? !host.Contains('.') && host.Length > 0
                : entry.StartsWith('.') ? host.EndsWith(entry, StringComparison.OrdinalIgnoreCase)
                : host.Equals(entry, StringComparison.OrdinalIgnoreCase))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Closes its file: what waits is written and synced to the disk.</summary>
    public void Dispose()
    {
        Interlocked.CompareExchange(ref s_default, null, this);
        _instrumentation.Dispose();
        Metrics.Dispose();
        AppDomain.CurrentDomain.ProcessExit -= OnProcessExit;
        if (_ownsFile) File?.Dispose();
    }

    /// <summary>From now on, typed records go to this Serilog logger or sink, unless there is a file. It is not disposed.</summary>
    public void SendTo(ILogEventSink sink) => _sink = sink;

    internal string? DebugToken(TraceContext scope) => scope.DebugUntil is { } until ? _debugGate.Token(scope.TraceId, until) : null;

    internal void DebugStarted() => Levels.Lower();

    internal void DebugEnded() => Levels.Restore();

    /// <summary>Writes the one record of an ended span.</summary>
    internal void Write(TraceSpan span)
    {
        if (span is TraceContext { IsFork: false } scope && (scope.Held is not null || scope.HeldDebug is not null)) WriteLast(scope);
        else if (File is not { IsBehind: false } file || span.Scope.Held is not null || span.Extra is { Count: > 0 }) WriteRecord(new RecordEntry(this, span));
        else Queue(span, file);
    }

    /// <summary>Queues what becomes the record of an ended span on the thread that writes.</summary>
    void Queue(TraceSpan span, TraceFile file)
    {
        var packer = EventPacker.Rent();
        if (packer.Pack(this, span))
        {
            if (Sampler.HasLimit) Sampler.Written(1);
            file.Append(packer.Packed, Texts.Kind(span.Name));
        }
        else
        {
            WriteRecord(new RecordEntry(this, span));
        }

        EventPacker.Return(packer);
    }

    /// <summary>The record that says in the file itself that lines are missing there: a <c>metric.counter</c> named <c>logtrace.dropped_lines</c>.</summary>
    byte[] DropRecord(DropReason reason, long lines)
    {
        var line = LineWriter.Rent();
        new RecordEntry(this, "metric.counter", "logtrace.dropped_lines", [new("value", lines), new("reason", reason.ToString())], null).WriteTo(line);
        line.LineEnd();
        var bytes = line.Written.ToArray();
        LineWriter.Return(line);
        return bytes;
    }

    /// <summary>The closing record of a request of which something is held: it decides what becomes of that.</summary>
    void WriteLast(TraceContext scope)
    {
        if (scope.IsFailed) scope.HeldDebug?.Keep();
        if (scope.IsFailed || Time.GetElapsedTime(scope.StartTimestamp) >= Options.Sampling.SlowerThan) scope.Held?.Keep();
        var cut = (scope.Held?.Cut ?? 0) + (scope.HeldDebug?.Cut ?? 0);
        if (cut > 0) scope.AddExtra("lines_cut", cut);
        WriteRecord(new RecordEntry(this, scope));
        scope.HeldDebug?.End();
        scope.Held?.End();
    }

    /// <summary>Writes a line of a scope, or holds it while the scope's request is not sampled.</summary>
    internal void Deliver(TraceContext? scope, ReadOnlySpan<byte> line, bool isError)
    {
        if (scope is not null && scope.Logger == this)
        {
            if (scope.Held is { } held) held.Add(line, isError);
            else Append(line, 1);
        }
        else if (!Sampler.HasLimit || isError || Sampler.AdmitsLoose())
        {
            Append(line, 1);
        }
    }

    /// <summary>
    /// Writes a log line of the ambient scope. Mostly it waits packed until the file's thread makes it; its caller makes what cannot be packed, what is long, so that it waits cut to its
    /// length, and what is held.
    /// </summary>
    /// <param name="logEvent">The line to be.</param>
    /// <param name="formatter">Makes the line.</param>
    /// <param name="isBare">Whether the ids of the ambient scope are to be taken beside the event, which has none.</param>
    internal void Deliver(LogEvent logEvent, TraceRecordFormatter formatter, bool isBare)
    {
        var scope = TraceContext.Current;
        var isOurs = scope?.Logger == this;
        var isError = logEvent.Level >= LogEventLevel.Error || logEvent.Exception is not null;
        var packer = EventPacker.Rent();
        if (!packer.Pack(logEvent, isBare ? scope : null, formatter.Shapes) || (isOurs && scope!.Held is not null))
        {
            var line = LineWriter.Rent();
            formatter.Format(packer.Packed, packer.Objects, packer.Shape, line);
            Deliver(scope, line.Written, isError);
            LineWriter.Return(line);
        }
        else if (isOurs || !Sampler.HasLimit || isError || Sampler.AdmitsLoose())
        {
            if (Sampler.HasLimit) Sampler.Written(1);
            File!.Append(packer.Packed, packer.Shape);
        }

        EventPacker.Return(packer);
    }

    internal void Append(ReadOnlySpan<byte> line, int records)
    {
        if (Sampler.HasLimit) Sampler.Written(records);
        File!.Append(line);
    }

    /// <summary>Memory that lines begin or cease to wait in.</summary>
    internal void Hold(long bytes) => Interlocked.Add(ref _heldBytes, bytes);

    /// <summary>False when lines of all requests take their limit already.</summary>
    internal bool TryHold(int bytes)
    {
        if (Interlocked.Add(ref _heldBytes, bytes) <= Options.MaxHeldBytesOfAll) return true;
        Interlocked.Add(ref _heldBytes, -bytes);
        return false;
    }

    void OnProcessExit(object? sender, EventArgs arguments) => Metrics.Flush();

    internal void WriteRecord(in RecordEntry entry, bool isMetric = false)
    {
        if (File is not null)
        {
            var line = LineWriter.Rent();
            entry.WriteTo(line);
            line.LineEnd();
            if (isMetric) Append(line.Written, 1);
            else Deliver(entry.Scope, line.Written, entry.IsError);
            LineWriter.Return(line);
        }
        else if (_sink is not null && (isMetric || entry.Scope?.Held is not { } held || held.Admits(entry.IsError)))
        {
            try
            {
                _sink.Emit(entry.ToLogEvent());
                Interlocked.Increment(ref _handedOver);
            }
            catch (Exception exception)
            {
                // Somebody's sink: a record must not break the request that writes it.
                Interlocked.Increment(ref _refused);
                SelfLog.WriteLine("LogTrace: the sink {0} refused a record: {1}", _sink.GetType(), exception);
            }
        }
    }
}
