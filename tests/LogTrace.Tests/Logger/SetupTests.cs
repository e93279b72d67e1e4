using System.Reflection;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Serilog;
using Serilog.Events;
using ILogger = Microsoft.Extensions.Logging.ILogger;

namespace LogTrace.Tests.Logger;

/// <summary>Set-up by code and by settings files, with ASP.NET Core and without.</summary>
[Collection(nameof(ProcessDefault))]
public sealed class SetupTests : IDisposable
{
    const string Key = "a key for the tests only";

    readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    string Settings(string json)
    {
        var path = _folder["appsettings.json"];
        File.WriteAllText(path, json.Replace("FOLDER", _folder.Path, StringComparison.Ordinal));
        return path;
    }

    HostApplicationBuilder WorkerBuilder() => Host.CreateApplicationBuilder(new HostApplicationBuilderSettings { ContentRootPath = _folder.Path, ApplicationName = "Worker", Args = [] });

    [Fact]
    public async Task A_worker_without_ASP_NET_is_set_up_by_its_settings_file()
    {
        Settings("""
            {
              "LogTrace": {
                "Service": "reports", "Department": "shop_backend", "Version": "2.1", "ServerIp": "10.0.0.8",
                "File": { "Path": "FOLDER/reports.log", "FlushInterval": "00:00:00.010" },
                "LevelOverrides": { "Microsoft": "Warning", "LogTrace.Tests": "Debug" }
              }
            }
            """);
        var builder = WorkerBuilder();
        builder.AddLogTrace();
        builder.Services.AddHostedService<ReportJob>();
        using (var host = builder.Build())
        {
            await host.StartAsync();
            await host.Services.GetServices<IHostedService>().OfType<ReportJob>().Single().ExecuteTask!.Within();
            await host.StopAsync();
        }

        var records = Written.Records(_folder["reports.log"]);
        records.Where(record => record.TraceId is not null).Select(record => $"{record.RpcId} {record.Name} {record.Version} {record.Msg}").Should().BeEquivalentTo(
            ["1.1 request.info dotnet-reports-2.1 ", "1.1 log.debug dotnet-reports-2.1 Counting orders", "1.2 redis.request dotnet-reports-2.1 "]);
        records.Should().NotContain(record => record.Action!.StartsWith("Microsoft") && record.Name == "log.info");
    }

    sealed class ReportJob(TraceLogger tracer, ILogger<ReportJob> log) : BackgroundService
    {
        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            using var job = tracer.StartTrace("report");
            log.LogDebug("Counting {What}", "orders");
            using var call = TraceOperation.Begin("redis.request", "GET orders");
            await Task.Yield();
        }
    }

    [Fact]
    public void The_hosting_package_needs_no_ASP_NET() =>
        Assembly.Load("LogTrace.Hosting").GetReferencedAssemblies().Should().NotContain(reference => reference.Name!.StartsWith("Microsoft.AspNetCore", StringComparison.Ordinal));

    [Fact]
    public void All_problems_of_a_settings_file_are_told_at_once()
    {
        Settings("""
            {
              "LogTrace": {
                "Servce": "orders", "Department": "shop_backend", "MaxTextLength": "many", "DebugTokenLifetime": "soon", "MinimumLevel": "Loud", "DebugKey": "hush",
                "Callers": [ { "Network": "10.0.0.0/8", "Trust": "Maybe" }, { "Network": "nowhere" } ],
                "File": { "Path": "FOLDER/x.log", "RollBytes": 10, "Colour": "red" },
                "KnownProxies": "10.0.0.5"
              }
            }
            """);

        var start = () => WorkerBuilder().AddLogTrace();

        start.Should().Throw<LogTraceOptionsException>().Which.Problems.Should().BeEquivalentTo(
        [
            "LogTrace:Callers:0:Trust is 'Maybe'; it must be one of Ignore, Accept, Trust.",
            "LogTrace:Callers:1:Network is 'nowhere'; it must be an address or a network such as 10.0.0.0/8.",
            "LogTrace:DebugKey has 4 characters; it must have at least 16. Leave it out to have no debug requests.",
            "LogTrace:DebugTokenLifetime is 'soon'; it must be a time such as 00:00:02.",
            "LogTrace:File:RollBytes is 10; it must be between 4,096 and 1,099,511,627,776 bytes.",
            "LogTrace:KnownProxies is '10.0.0.5'; it must be a list.",
            "LogTrace:MaxTextLength is 'many'; it must be a whole number of at most 2,147,483,647.",
            "LogTrace:MinimumLevel is 'Loud'; it must be one of Verbose, Debug, Information, Warning, Error, Fatal.",
            start.Should().Throw<LogTraceOptionsException>().Which.Problems.Single(problem => problem.StartsWith("LogTrace:Servce does not exist; LogTrace has Application, ", StringComparison.Ordinal)),
            start.Should().Throw<LogTraceOptionsException>().Which.Problems.Single(problem => problem.StartsWith("LogTrace:File:Colour does not exist; LogTrace:File has ", StringComparison.Ordinal)),
        ]);
    }

    [Fact]
    public async Task Variables_meant_for_the_shipper_do_not_disturb_a_service()
    {
        var builder = WorkerBuilder();
        builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?> { ["LOGTRACE:Shipper:MaxLineBytes"] = "1048576", ["LOGTRACE:Department"] = "shop_backend" });

        var logger = builder.AddLogTrace(options => options with { File = new() { Path = _folder["x.log"] } });

        logger.Options.Department.Should().Be("shop_backend");
        logger.Dispose();
        await Task.CompletedTask;
    }

    [Fact]
    public void Serilog_s_own_settings_file_sets_up_enricher_and_sink()
    {
        var settings = new ConfigurationBuilder().AddJsonFile(Settings("""
            {
              "Serilog": {
                "Using": [ "LogTrace" ],
                "MinimumLevel": { "Default": "Information", "Override": { "Noisy": "Error" } },
                "Enrich": [ "WithTrace" ],
                "WriteTo": [ { "Name": "TraceFile", "Args": { "path": "FOLDER/app.log", "service": "app", "department": "shop_backend", "version": "3.0" } } ]
              }
            }
            """)).Build();
        using (var serilog = new LoggerConfiguration().ReadFrom.Configuration(settings).CreateLogger())
        {
            using var tracer = new TraceLogger(TestService.Options("other", "") with { File = null });
            using var scope = tracer.StartTrace("job");
            serilog.Information("Hello {Who}", "world");
            serilog.ForContext(Serilog.Core.Constants.SourceContextPropertyName, "Noisy.Part").Warning("not this");
        }

        Written.Records(_folder["app.log"]).Select(record => $"{record.RpcId} {record.Name} {record.Version} {record.Msg}").Should().BeEquivalentTo(["1.1 log.info dotnet-app-3.0 Hello world"]);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Filters_of_every_kind_hold_for_all_requests_but_debug_ones(bool debug)
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = _folder.Path, ApplicationName = "orders" });
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?> { ["Logging:LogLevel:Default"] = "Information", ["Logging:LogLevel:Microsoft"] = "Error", ["Logging:LogLevel:FromSettings"] = "Warning" });
        builder.Logging.ClearProviders().AddFilter("FromCode", LogLevel.Error).AddFilter("Lowered", LogLevel.Debug).AddFilter("FromFunction", level => level >= LogLevel.Critical);
        builder.AddLogTrace(
            options => options with { Department = "shop_backend", DebugKey = Key, File = new() { Path = _folder["orders.log"] } },
            serilog => serilog.MinimumLevel.Override("FromSerilog", LogEventLevel.Error));
        var app = builder.Build();
        app.UseLogTrace();
        app.MapGet("/", (ILoggerFactory loggers) =>
        {
            foreach (var category in (string[])["Plain", "FromSettings", "FromCode", "FromFunction", "FromSerilog", "Lowered"])
            {
                var log = loggers.CreateLogger(category);
                log.LogTrace("trace");
                log.LogDebug("debug");
                log.LogWarning("warning");
                log.LogCritical("critical");
            }
        });
        await using (app)
        {
            await app.StartAsync();
            using var client = new HttpClient();
            var request = new HttpRequestMessage(HttpMethod.Get, app.Urls.Single());
            if (debug) request.Headers.Add("X-Debug", "1");
            request.Headers.Add("X-Debug-Key", Key);
            (await client.SendAsync(request)).EnsureSuccessStatusCode();
            await app.StopAsync();
        }

        var lines = Written.Records(_folder["orders.log"]).Where(record => record.Kind == RecordKind.Event && record.TraceId is not null)
            .GroupBy(record => record.Action!, record => record.Msg!).ToDictionary(group => group.Key, group => string.Join(' ', group));
        lines.Remove("Microsoft.Hosting.Lifetime");
        var all = "debug warning critical";
        lines.Where(pair => !pair.Key.StartsWith("Microsoft", StringComparison.Ordinal)).Should().BeEquivalentTo(new Dictionary<string, string>
        {
            ["Plain"] = debug ? all : "warning critical",
            ["FromSettings"] = debug ? all : "warning critical",
            ["FromCode"] = debug ? all : "critical",
            ["FromFunction"] = debug ? all : "critical",
            ["FromSerilog"] = debug ? all : "critical",
            ["Lowered"] = all,
        });
    }

    [Fact]
    public void Serilog_s_overrides_hold_for_all_but_debug_requests_where_Serilog_is_set_up_by_hand()
    {
        using (var tracer = new TraceLogger(TestService.Options("orders", _folder["orders.log"])))
        {
            using var serilog = new LoggerConfiguration().MinimumLevel.Override("Quiet", LogEventLevel.Error).LogTrace(tracer).CreateLogger();
            var quiet = serilog.ForContext(Serilog.Core.Constants.SourceContextPropertyName, "Quiet.Part");
            using (tracer.StartTrace("plain")) quiet.Warning("plain before");
            using (tracer.StartRequest("debugged", "", new IncomingTrace { DebugUntil = DateTimeOffset.MaxValue }))
            {
                quiet.Debug("debugged");
                TraceContext.Detached(() =>
                {
                    using (tracer.StartTrace("plain")) quiet.Warning("plain meanwhile");
                });
            }

            using (tracer.StartTrace("plain")) quiet.Warning("plain after");
        }

        Written.Records(_folder["orders.log"]).Where(record => record.Kind == RecordKind.Event).Select(record => record.Msg).Should().Equal("debugged");
    }
}
