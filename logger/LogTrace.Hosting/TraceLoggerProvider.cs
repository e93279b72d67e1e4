using Microsoft.Extensions.Logging;
using Serilog.Extensions.Logging;

namespace LogTrace;

/// <summary>
/// Brings what is written to <c>ILogger</c> to Serilog, without the scopes that the framework opens around every request unless they are asked for: each would cost every line of the request,
/// and the request more than its lines, to say once more what its records say.
/// </summary>
/// <remarks>It keeps scopes itself and does not take part in the factory's common ones (<see cref="ISupportExternalScope"/>): of those nobody can say who opened them.</remarks>
[ProviderAlias("LogTrace")]
sealed class TraceLoggerProvider(Serilog.ILogger events, bool keepsFrameworkScopes) : ILoggerProvider
{
    // Where ASP.NET Core logs that a request has begun and ended.
    const string Requests = "Microsoft.AspNetCore.Hosting.Diagnostics";

    static readonly string[] s_framework = ["Microsoft.AspNetCore.Hosting.", "Microsoft.AspNetCore.Server.", "System.Net.Http.HttpClient."];

    readonly SerilogLoggerProvider _provider = new(events, dispose: true);

    public bool KeepsFrameworkScopes => keepsFrameworkScopes;

    public ILogger CreateLogger(string categoryName)
    {
        var logger = _provider.CreateLogger(categoryName);
        var isFramework = s_framework.Any(start => categoryName.StartsWith(start, StringComparison.Ordinal));
        return isFramework && !keepsFrameworkScopes ? new FrameworkLogger(logger, categoryName == Requests) : logger;
    }

    public void Dispose() => _provider.Dispose();

    sealed class FrameworkLogger(ILogger inner, bool logsRequests) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        // ASP.NET Core asks for Critical to learn whether anything is logged of requests at all, and then makes an Activity for each, which costs more than our records. It has only
        // Information to log. Only the answer is no: what is logged as critical, at the start of the host, is written.
        public bool IsEnabled(LogLevel logLevel) => inner.IsEnabled(logsRequests && logLevel == LogLevel.Critical ? LogLevel.Information : logLevel);

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            inner.Log(logLevel, eventId, state, exception, formatter);
    }
}
