using System.Text.Json;

namespace Shop;

/// <summary>All four services in one process, under a load of their own if wanted.</summary>
public sealed class ShopRun : IAsyncDisposable
{
    readonly Dictionary<string, ShopService> _services = [];

    /// <summary>Address of the gateway.</summary>
    public Uri Gateway => _services["gateway"].Address;

    /// <summary>Starts the services: first those that nobody can do without.</summary>
    public static async Task<ShopRun> StartAsync(ShopOptions options, CancellationToken cancellationToken)
    {
        var run = new ShopRun();
        try
        {
            foreach (var name in ShopOptions.Services.Reverse())
                run._services[name] = await ShopService.StartAsync(name, options, other => run._services[other].Address, cancellationToken);
            return run;
        }
        catch
        {
            // Those that did start must not go on without their fellows.
            await run.DisposeAsync();
            throw;
        }
    }

    /// <summary>Puts a load on the gateway and waits for its last answer.</summary>
    public Task<LoadResult> LoadAsync(LoadOptions load, CancellationToken cancellationToken, Action<LoadRequest, HttpResponseMessage>? answered = null) =>
        new LoadGenerator(load).RunAsync(Gateway, cancellationToken, answered);

    /// <summary>Stops callers before callees, so that no call under way is cut off, and adds up what the loggers counted.</summary>
    public async Task<ShopSummary> StopAsync(LoadResult load)
    {
        foreach (var name in ShopOptions.Services)
            if (_services.TryGetValue(name, out var service)) await service.StopAsync();
        return new ShopSummary
        {
            Requests = load.Requests,
            Failed = load.Failed,
            Written = Count(service => service.Written),
            Dropped = Count(service => service.Dropped),
            JobTraces = _services.Values.Sum(service => service.JobTraces),
        };
    }

    Dictionary<string, long> Count(Func<ShopService, long> count) => ShopOptions.Services.Where(_services.ContainsKey).ToDictionary(name => name, name => count(_services[name]));

    public async ValueTask DisposeAsync() => await StopAsync(new LoadResult(0, 0));
}

/// <summary>What a run did, as the services' own loggers counted it.</summary>
public sealed record ShopSummary
{
    static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public required int Requests { get; init; }
    public required int Failed { get; init; }

    /// <summary>Records in the log files, by service.</summary>
    public required IReadOnlyDictionary<string, long> Written { get; init; }

    /// <summary>Records given up by the loggers, by service.</summary>
    public required IReadOnlyDictionary<string, long> Dropped { get; init; }

    public required int JobTraces { get; init; }

    /// <summary>One JSON object without line breaks.</summary>
    public override string ToString() => JsonSerializer.Serialize(this, Json);
}
