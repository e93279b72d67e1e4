using LogTrace.Benchmarks.Logger;
using NLog;
using NLog.Config;
using NLog.Layouts;
using NLog.Targets;
using NLog.Targets.Wrappers;
using Serilog;
using Serilog.Formatting.Json;
using Serilog.Sinks.Async;

namespace LogTrace.Benchmarks.Logger;

/// <summary>A logger that writes the records of <see cref="TraceRecordData"/> to a file in a folder of its own.</summary>
abstract class Contestant : IDisposable
{
    protected Contestant() => Folder = Directory.CreateTempSubdirectory("logtrace-bench-").FullName;

    public string Folder { get; }

    /// <summary>Writes record number <paramref name="i"/> as a user of the logger would.</summary>
    public abstract void Write(int i);

    /// <summary>Waits until the operating system has all of it.</summary>
    public abstract void Drain();

    protected abstract void Close();

    public IEnumerable<string> Files => Directory.EnumerateFiles(Folder).Order(StringComparer.Ordinal);

    public void Dispose()
    {
        // Nobody reads them: what is not yet on the disk need not get there.
        foreach (var file in Files)
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
            stream.SetLength(0);
        }

        Close();
        Directory.Delete(Folder, recursive: true);
    }
}

/// <summary>Typed records: a call is begun, described and ended.</summary>
sealed class LogTraceCalls : Contestant
{
    const int FullQueueBytes = 128 * 1024 * 1024;

    static readonly IncomingTrace s_incoming = new() { TraceId = TraceRecordData.TraceId, Prefix = "1.3" };

    readonly TraceLogger _logger;
    readonly TraceContext _scope;

    /// <param name="queueBytes">As much as the queues of the others hold, 100,000 lines, or what a user has who sets nothing.</param>
    public LogTraceCalls(int queueBytes = FullQueueBytes)
    {
        _logger = NewLogger(Folder, queueBytes);
        _scope = _logger.StartRequest("POST /orders", "", s_incoming);
    }

    public static TraceLogger NewLogger(string folder, int queueBytes = FullQueueBytes) => new(new()
    {
        Service = TraceRecordData.Service,
        Department = TraceRecordData.Department,
        Application = "shop",
        Version = "1.4",
        ServerIp = TraceRecordData.ServerIp,
        File = new() { Path = Path.Combine(folder, "orders.log"), QueueBytes = queueBytes, RollBytes = 1L << 40 },
    });

    public override void Write(int i)
    {
        i &= 63;
        using var call = _scope.Call(TraceRecordData.Name, TraceRecordData.Actions[i], TraceRecordData.Params[i]);
        call.Code = TraceRecordData.Code;
        call.Uid = TraceRecordData.Uids[i];
    }

    /// <summary>The same through an object for the call, as the integrations have one.</summary>
    public void WriteAsObject(int i)
    {
        i &= 63;
        using var call = _scope.BeginCall(TraceRecordData.Name, TraceRecordData.Actions[i], TraceRecordData.Params[i]);
        call.Code = TraceRecordData.Code;
        call.Uid = TraceRecordData.Uids[i];
    }

    /// <summary>A request is begun, becomes the ambient scope, and ends.</summary>
    public void WriteRequest(int i)
    {
        using var request = _logger.StartRequest(TraceRecordData.Actions[i & 63], TraceRecordData.Params[i & 63], s_incoming);
        request.Code = TraceRecordData.Code;
        request.Uid = TraceRecordData.Uids[i & 63];
    }

    /// <summary>Nothing but the record of a request that was begun before.</summary>
    public void WriteRequestRecord(int i)
    {
        _scope.Code = TraceRecordData.Code;
        _scope.Uid = TraceRecordData.Uids[i & 63];
        _logger.Write(_scope);
    }

    public override void Drain() => _logger.File!.Flush(TimeSpan.FromMinutes(5));

    protected override void Close()
    {
        _scope.Dispose();
        _logger.Dispose();
    }
}

/// <summary>Log lines through Serilog's ILogger, with our enricher and our sink.</summary>
sealed class LogTraceSerilog : Contestant
{
    readonly TraceLogger _logger;
    readonly TraceContext _scope;
    readonly Serilog.Core.Logger _log;
    readonly bool _isShort;

    public LogTraceSerilog(bool isShort)
    {
        _isShort = isShort;
        _logger = LogTraceCalls.NewLogger(Folder);
        _scope = _logger.StartRequest("POST /orders", "", new IncomingTrace { TraceId = TraceRecordData.TraceId, Prefix = "1.3" });
        _log = new LoggerConfiguration().LogTrace(_logger).CreateLogger();
    }

    public override void Write(int i)
    {
        if (_isShort) SerilogLines.WriteShort(_log, i & 63);
        else SerilogLines.Write(_log, i & 63);
    }

    public override void Drain() => _logger.File!.Flush(TimeSpan.FromMinutes(5));

    protected override void Close()
    {
        _log.Dispose();
        _scope.Dispose();
        _logger.Dispose();
    }
}

/// <summary>Serilog.Sinks.Async over a buffered Serilog.Sinks.File with JsonFormatter.</summary>
sealed class SerilogBaseline : Contestant, IAsyncLogEventSinkMonitor
{
    readonly Serilog.Core.Logger _log;
    readonly bool _isShort;
    IAsyncLogEventSinkInspector? _queue;

    public SerilogBaseline(bool isShort = false)
    {
        _isShort = isShort;
        _log = new LoggerConfiguration()
            .WriteTo.Async(
                sinks => sinks.File(new JsonFormatter(), Path.Combine(Folder, "orders.log"), buffered: true, fileSizeLimitBytes: null),
                bufferSize: 100_000, blockWhenFull: true, monitor: this)
            .CreateLogger();
    }

    public void StartMonitoring(IAsyncLogEventSinkInspector inspector) => _queue = inspector;

    public void StopMonitoring(IAsyncLogEventSinkInspector inspector)
    {
    }

    public override void Write(int i)
    {
        if (_isShort) SerilogLines.WriteShort(_log, i & 63);
        else SerilogLines.Write(_log, i & 63);
    }

    public override void Drain()
    {
        while (_queue!.Count > 0) Thread.Sleep(1);
    }

    protected override void Close() => _log.Dispose();
}

/// <summary>The lines as users of Serilog write them.</summary>
static class SerilogLines
{
    const string Template = "{name} {trace_id} {rpc_id} {timestamp} {department} {module} {server_ip} {action} {param} {version} {duration} {code} {uid}";

    public static void Write(Serilog.ILogger log, int i) => log.Information(
        Template, TraceRecordData.Name, TraceRecordData.TraceId, TraceRecordData.RpcIds[i], TraceRecordData.Timestamp, TraceRecordData.Department, TraceRecordData.Module,
        TraceRecordData.ServerIp, TraceRecordData.Actions[i], TraceRecordData.Params[i], TraceRecordData.Version, TraceRecordData.Duration(i), TraceRecordData.Code, TraceRecordData.Uids[i]);

    public static void WriteShort(Serilog.ILogger log, int i) => log.Information("Order {OrderId} of {User} costs {Price}", i, TraceRecordData.Uids[i], 12.5);
}

/// <summary>NLog's AsyncWrapper over its file target with JsonLayout.</summary>
sealed class NLogBaseline : Contestant
{
    static readonly string[] s_fields = ["name", "trace_id", "rpc_id", "timestamp", "department", "module", "server_ip", "action", "param", "version", "duration", "code", "uid"];

    readonly LogFactory _factory = new();
    readonly NLog.Logger _log;

    public NLogBaseline()
    {
        var layout = new JsonLayout { SuppressSpaces = true };
        foreach (var field in s_fields) layout.Attributes.Add(new JsonAttribute(field, $"${{event-properties:item={field}}}", encode: field is not ("timestamp" or "duration")));
        var file = new FileTarget("file") { FileName = Path.Combine(Folder, "orders.log"), Layout = layout, KeepFileOpen = true, AutoFlush = false };
        var configuration = new LoggingConfiguration(_factory);
        configuration.AddRuleForAllLevels(new AsyncTargetWrapper("async", file) { QueueLimit = 100_000, OverflowAction = AsyncTargetWrapperOverflowAction.Block });
        _factory.Configuration = configuration;
        _log = _factory.GetLogger("bench");
    }

    public override void Write(int i)
    {
        i &= 63;
        // Properties set one by one: what costs an NLog caller least, no template is read.
        var record = LogEventInfo.Create(NLog.LogLevel.Info, "bench", "");
        var properties = record.Properties;
        properties["name"] = TraceRecordData.Name;
        properties["trace_id"] = TraceRecordData.TraceId;
        properties["rpc_id"] = TraceRecordData.RpcIds[i];
        properties["timestamp"] = TraceRecordData.Timestamp;
        properties["department"] = TraceRecordData.Department;
        properties["module"] = TraceRecordData.Module;
        properties["server_ip"] = TraceRecordData.ServerIp;
        properties["action"] = TraceRecordData.Actions[i];
        properties["param"] = TraceRecordData.Params[i];
        properties["version"] = TraceRecordData.Version;
        properties["duration"] = TraceRecordData.Duration(i);
        properties["code"] = TraceRecordData.Code;
        properties["uid"] = TraceRecordData.Uids[i];
        _log.Log(record);
    }

    public override void Drain() => _factory.Flush(TimeSpan.FromMinutes(5));

    protected override void Close() => _factory.Shutdown();
}
