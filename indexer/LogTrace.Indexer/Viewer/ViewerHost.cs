using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http.Features;

namespace LogTrace.Indexer.Viewer;

/// <summary>The viewer's web server, on loopback.</summary>
sealed class ViewerHost : IAsyncDisposable
{
    readonly WebApplication _application;

    ViewerHost(WebApplication application) => _application = application;

    /// <summary>Where the viewer is, such as <c>http://127.0.0.1:5080</c>.</summary>
    public string Url => _application.Services.GetRequiredService<IServer>().Features.GetRequiredFeature<IServerAddressesFeature>().Addresses.First();

    /// <param name="port">0 takes a free one.</param>
    /// <exception cref="IOException">The port is taken, or not for this user; the message says so.</exception>
    public static async Task<ViewerHost> StartAsync(ITraceStore store, int port, ChainOptions chains, ILoggerFactory logs, CancellationToken cancellationToken)
    {
        // Empty: no configuration file, environment variable or content root of whatever folder we were started in may open other addresses.
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().ConfigureKestrel(kestrel => kestrel.Listen(System.Net.IPAddress.Loopback, port));
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton(logs);
        var application = builder.Build();
        application.UseRouting();
        application.MapViewer(store, new ViewerOptions { Chains = chains });
        try
        {
            await application.StartAsync(cancellationToken);
        }
        catch (Exception e) when (e is IOException or System.Net.Sockets.SocketException)
        {
            await application.DisposeAsync();
            throw new IOException($"The viewer cannot listen on port {port}: {e.Message} Choose another with --port, or 0 for a free one.", e);
        }

        return new ViewerHost(application);
    }

    /// <summary>Serves until told to stop.</summary>
    public async Task WaitAsync(CancellationToken stop)
    {
        var stopped = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using var registration = stop.Register(() => stopped.TrySetResult());
        await stopped.Task;
    }

    public ValueTask DisposeAsync() => _application.DisposeAsync();
}
