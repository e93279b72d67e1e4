namespace LogTrace;

/// <summary>What a logger listens to in its process. Each looks at the ambient scope first and leaves alone what belongs to no scope, or to another logger's.</summary>
sealed class TraceInstrumentation : IDisposable
{
    readonly HttpDiagnostics? _http;

    public TraceInstrumentation(TraceLogger logger)
    {
        var options = logger.Options.Instrumentation;
        NameResolution.Listen();
        if (options.HttpClients) _http = new HttpDiagnostics(logger);
    }

    public void Dispose() => _http?.Dispose();
}
