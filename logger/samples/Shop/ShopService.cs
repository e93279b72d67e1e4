using System.Net;
using LogTrace;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Serilog.Events;

namespace Shop;

/// <summary>One service of the shop, running: a web server on loopback, its database, its log file.</summary>
public sealed class ShopService : IAsyncDisposable
{
    readonly WebApplication _app;
    readonly TraceLogger _traces;
    readonly ShopDatabase _database;
    bool _stopped;

    ShopService(WebApplication app, TraceLogger traces, ShopDatabase database)
    {
        _app = app;
        _traces = traces;
        _database = database;
        Job = app.Services.GetService<SettlementJob>();
        Address = new Uri(app.Urls.First());
    }

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>Records in the log file; final after the stop.</summary>
    public long Written => _traces.Written;

    /// <summary>Records that the logger had to give up; final after the stop.</summary>
    public long Dropped => _traces.Dropped;

    /// <summary>Runs of the background job, each a trace of its own; 0 for services without one.</summary>
    public int JobTraces => Job?.Runs ?? 0;

    SettlementJob? Job { get; }

    /// <summary>Starts a service.</summary>
    /// <param name="name">One of <see cref="ShopOptions.Services"/>.</param>
    /// <param name="addressOf">Finds the other services; asked when a client is made, so that they may start later.</param>
    /// <exception cref="IOException">The port is taken, or a directory cannot be written.</exception>
    public static async Task<ShopService> StartAsync(string name, ShopOptions options, Func<string, Uri> addressOf, CancellationToken cancellationToken)
    {
        var database = new ShopDatabase(name, options.DataDirectory);
        CreateDatabase(name, database);

        // Empty: what a service of the shop does is decided by its options alone, not by settings files or variables that happen to be around.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions { ApplicationName = typeof(ShopService).Assembly.GetName().Name });
        builder.WebHost.UseKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, options.PortOf(name)));
        var traces = builder.AddLogTrace(logTrace => logTrace with
        {
            Service = name,
            Department = "shop_backend",
            Application = "shop",
            Version = "1.0",
            DebugKey = options.DebugKey ?? "",
            LevelOverrides = new Dictionary<string, LogEventLevel> { ["Microsoft"] = LogEventLevel.Warning, ["System"] = LogEventLevel.Warning },
            File = new TraceFileOptions { Path = Path.Combine(options.LogDirectory, name, name + ".log") },
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton(options).AddSingleton(database).AddSingleton(new Faults(options.Seed));
        foreach (var other in ShopOptions.Services)
            builder.Services.AddHttpClient(other, client => client.BaseAddress = addressOf(other));
        if (name == "orders") builder.Services.AddSingleton<SettlementJob>().AddHostedService(services => services.GetRequiredService<SettlementJob>());

        // Several services may share the process, and a signal to it must not stop them all at once: their owner stops them in order.
        builder.Services.Replace(ServiceDescriptor.Singleton<IHostLifetime, StoppedByOwner>());

        var app = builder.Build();
        try
        {
            app.UseLogTrace();
            app.UseExceptionHandler(failed => failed.Run(context => context.Response.WriteAsync("Something went wrong here.", context.RequestAborted)));
            app.UseRouting();
            Map(name, app);
            await app.StartAsync(cancellationToken);
            var service = new ShopService(app, traces, database);
            app.Logger.LogInformation("{Service} listens at {Address}", name, service.Address);
            return service;
        }
        catch
        {
            // Whatever kept it from starting: its log file must not stay open.
            await app.DisposeAsync();
            throw;
        }
    }

    static void CreateDatabase(string name, ShopDatabase database)
    {
        switch (name)
        {
            case "gateway": Gateway.CreateDatabase(database); break;
            case "orders": Orders.CreateDatabase(database); break;
            case "stock": Stock.CreateDatabase(database); break;
            case "payment": Payment.CreateDatabase(database); break;
            default: throw new ArgumentException($"There is no service {name}; the services are {string.Join(", ", ShopOptions.Services)}.", nameof(name));
        }
    }

    static void Map(string name, WebApplication app)
    {
        switch (name)
        {
            case "gateway": Gateway.Map(app); break;
            case "orders": Orders.Map(app); break;
            case "stock": Stock.Map(app); break;
            case "payment": Payment.Map(app); break;
        }
    }

    /// <summary>Finishes the requests and the job run under way, then writes the log out. Further calls do nothing.</summary>
    public async Task StopAsync()
    {
        if (_stopped) return;
        _stopped = true;
        await _app.StopAsync();
        await _app.DisposeAsync();
        _database.Close();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await StopAsync();

    sealed class StoppedByOwner : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
