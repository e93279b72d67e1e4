using System.Text;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Serilog.Core;
using Serilog.Events;

namespace LogTrace.Tests.Logger;

/// <summary>Reads back what a logger wrote.</summary>
static class Written
{
    /// <summary>Every whole line of the files that were written for <paramref name="path"/>, in file and line order.</summary>
    public static List<string> Lines(string path)
    {
        var pattern = TraceFile.PatternFor(path);
        var text = new StringBuilder();
        foreach (var file in Directory.GetFiles(Path.GetDirectoryName(pattern)!, Path.GetFileName(pattern)).Order(StringComparer.Ordinal))
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            text.Append(new StreamReader(stream, new UTF8Encoding(false, throwOnInvalidBytes: true)).ReadToEnd());
        }

        if (text.Length == 0) return [];
        text[^1].Should().Be('\n', "only whole lines are written");
        return [.. text.ToString()[..^1].Split('\n')];
    }

    public static List<TraceRecord> Records(string path) => [.. Lines(path).Select(Record)];

    public static TraceRecord Record(string line)
    {
        RecordCodec.TryRead(Encoding.UTF8.GetBytes(line.TrimEnd('\n')), out var record, out var reason).Should().BeTrue("{0}: {1}", reason, line);
        record.UnreadableFields.Should().BeNull("{0}", line);
        return record;
    }
}

/// <summary>Keeps events in memory.</summary>
sealed class EventList : ILogEventSink
{
    readonly List<LogEvent> _events = [];

    public IReadOnlyList<LogEvent> Events
    {
        get
        {
            lock (_events) return [.. _events];
        }
    }

    public void Emit(LogEvent logEvent)
    {
        lock (_events) _events.Add(logEvent);
    }
}

/// <summary>A real ASP.NET Core service on a free loopback port that writes to a folder of the test.</summary>
sealed class TestService : IAsyncDisposable
{
    readonly WebApplication _app;
    readonly string _path;

    TestService(WebApplication app, TraceLogger logger, string path)
    {
        _app = app;
        _path = path;
        Logger = logger;
        Url = new Uri(app.Urls.Single());
    }

    public TraceLogger Logger { get; }

    public Uri Url { get; }

    public static LogTraceOptions Options(string service, string path) =>
        new() { Service = service, Department = "shop_backend", Version = "1.4", Application = "shop", ServerIp = "10.0.0.7", File = new() { Path = path, FlushInterval = TimeSpan.FromMilliseconds(1) } };

    public static async Task<TestService> StartAsync(
        TempFolder folder, string name, Action<WebApplication> map, Func<LogTraceOptions, LogTraceOptions>? configure = null, Action<IServiceCollection>? services = null)
    {
        var path = folder[$"{name}.log"];
        // An empty content root: no settings file of another project is read.
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = folder.Path, ApplicationName = name });
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Services.AddHttpClient();
        services?.Invoke(builder.Services);
        var logger = builder.AddLogTrace(_ =>
        {
            var options = Options(name, path) with { LevelOverrides = new Dictionary<string, LogEventLevel> { ["Microsoft"] = LogEventLevel.Warning, ["System"] = LogEventLevel.Warning } };
            return configure is null ? options : configure(options);
        });
        var app = builder.Build();
        app.UseLogTrace();
        map(app);
        await app.StartAsync();
        return new TestService(app, logger, path);
    }

    /// <summary>Stops the service and reads all that it wrote.</summary>
    public async Task<List<TraceRecord>> StopAsync()
    {
        await DisposeAsync();
        return Written.Records(_path);
    }

    public async Task<List<string>> StopAndReadLinesAsync()
    {
        await DisposeAsync();
        return Written.Lines(_path);
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync();
        await _app.DisposeAsync();
    }
}
