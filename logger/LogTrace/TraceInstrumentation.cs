namespace LogTrace;

/// <summary>What a logger listens to in its process. Each looks at the ambient scope first and leaves alone what belongs to no scope, or to another logger's.</summary>
sealed class TraceInstrumentation : IDisposable
{
    readonly HttpDiagnostics? _http;
    readonly TraceActivities? _activities;

    public TraceInstrumentation(TraceLogger logger)
    {
        var options = logger.Options.Instrumentation;
        NameResolution.Listen();
        if (options.HttpClients) _http = new HttpDiagnostics(logger);
        string[] sources = [.. options.Databases ? TraceActivities.Databases : [], .. options.ActivitySources];
        if (sources.Length > 0) _activities = new TraceActivities(logger, sources);
    }

    public void Dispose()
    {
        _http?.Dispose();
        _activities?.Dispose();
    }
}
