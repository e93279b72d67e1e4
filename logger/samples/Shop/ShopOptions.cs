namespace Shop;

/// <summary>What every service of the shop needs to know.</summary>
public sealed record ShopOptions
{
    /// <summary>The services in the order of their ports: base port, base port + 1, ...</summary>
    public static IReadOnlyList<string> Services { get; } = ["gateway", "orders", "stock", "payment"];

    /// <summary>Log files go to <c>LogDirectory/SERVICE/SERVICE-TIME-PID-NUMBER.log</c>.</summary>
    public required string LogDirectory { get; init; }

    /// <summary>Each service keeps its SQLite file here.</summary>
    public required string DataDirectory { get; init; }

    /// <summary>Port of the gateway; the others follow it. 0 takes free ports, which only works when all services share a process.</summary>
    public int BasePort { get; init; } = 5710;

    /// <summary>Everything random comes from it.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Key that allows X-DEBUG, 16 characters or more; null switches debug requests off.</summary>
    public string? DebugKey { get; init; }

    /// <summary>Time between two runs of the settlement job.</summary>
    public TimeSpan JobInterval { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>Where a service listens when the ports are fixed.</summary>
    public Uri AddressOf(string service) => new($"http://127.0.0.1:{PortOf(service)}");

    /// <summary>The port a service asks for; 0 for a free one.</summary>
    public int PortOf(string service) => BasePort == 0 ? 0 : BasePort + Services.ToList().IndexOf(service);

    /// <summary>All problems at once; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (BasePort is not 0 and (< 1024 or > 65_532)) problems.Add($"--port is {BasePort}; it must be 0 (free ports) or between 1,024 and 65,532, because the four services take four ports in a row.");
        if (JobInterval < TimeSpan.FromMilliseconds(10)) problems.Add($"JobInterval is {JobInterval}; it must be at least 10 ms.");
        if (DebugKey is { Length: < LogTrace.LogTraceOptions.MinDebugKeyLength }) problems.Add($"--debug-key has {DebugKey.Length} characters; it must have at least {LogTrace.LogTraceOptions.MinDebugKeyLength}.");
        if (LogDirectory.Length == 0) problems.Add("--logs is empty; name a directory.");
        if (DataDirectory.Length == 0) problems.Add("--data is empty; name a directory.");
        return problems;
    }
}

/// <summary>Load to put on the gateway.</summary>
public sealed record LoadOptions
{
    /// <summary>Requests a second, 0.1 to 10,000.</summary>
    public double Rate { get; init; } = 20;

    /// <summary>Number of requests; null means no limit.</summary>
    public int? Requests { get; init; }

    /// <summary>Time after which no request is begun any more; null means no limit.</summary>
    public TimeSpan? Duration { get; init; }

    /// <summary>Requests under way at once, at most. A gateway that falls behind slows the load down rather than piling it up.</summary>
    public int MaxInFlight { get; init; } = 16;

    public int Seed { get; init; } = 1;

    /// <summary>With a key, one request in 25 asks for debug logs.</summary>
    public string? DebugKey { get; init; }

    /// <summary>All problems at once; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (Rate is not (>= 0.1 and <= 10_000)) problems.Add($"--rate is {Rate}; it must be between 0.1 and 10,000 requests a second.");
        if (Requests is < 0) problems.Add($"--requests is {Requests}; it must be 0 or more.");
        if (Duration is { } duration && duration <= TimeSpan.Zero) problems.Add($"--duration is {duration.TotalSeconds} s; it must be more than 0 seconds.");
        if (MaxInFlight < 1) problems.Add($"MaxInFlight is {MaxInFlight}; it must be 1 or more.");
        return problems;
    }
}
