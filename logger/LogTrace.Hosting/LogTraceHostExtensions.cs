using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Http;
using Microsoft.Extensions.Http.Logging;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using Serilog;

namespace LogTrace;

/// <summary>The entry points from the generic host: web applications, workers and console programs with a host.</summary>
public static class LogTraceHostExtensions
{
    /// <summary>
    /// Sets up tracing from the configuration section <c>LogTrace</c>: <c>ILogger</c> lines and every client of IHttpClientFactory write
    /// records to <c>logs/SERVICE-*.log</c>; requests too, with <c>app.UseLogTrace()</c> of LogTrace.AspNetCore. Levels are those of <c>Logging:LogLevel</c> and of
    /// <c>builder.Logging.AddFilter</c>, unless <c>LogTrace:MinimumLevel</c> or <c>LogTrace:LevelOverrides</c> are set.
    /// </summary>
    /// <param name="builder">A web application's, worker's or console program's builder.</param>
    /// <param name="configure">Changes what the configuration said: <c>options => options with { Service = "orders" }</c>.</param>
    /// <param name="serilog">Adds sinks, enrichers and levels to the Serilog logger behind <c>ILogger</c>. Runs when the host is built.</param>
    /// <returns>The service's logger, also registered as a service. It is closed with the host.</returns>
    /// <exception cref="LogTraceOptionsException">
    /// The options do not hold, or the section has keys that do not exist or values of the wrong kind; the message lists all problems.
    /// </exception>
    public static TraceLogger AddLogTrace(
        this IHostApplicationBuilder builder, Func<LogTraceOptions, LogTraceOptions>? configure = null, Action<LoggerConfiguration>? serilog = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var settings = new HostSettings(builder);
        var read = settings.Options;
        var usual = read.File is null ? read with { File = FileOf(read.Service) } : read;
        var options = configure is null ? usual : configure(usual);
        // Named after the service, also where the service gets its name here.
        if (read.File is null && ReferenceEquals(options.File, usual.File)) options = options with { File = FileOf(options.Service) };
        if (settings.Problems.Count > 0) throw new LogTraceOptionsException([.. settings.Problems, .. options.Validate()]);
        var logger = new TraceLogger(options);
        var filters = new HostFilters(logger);
        // Serilog's levels decide: a filter in front of them would hold back what a debug request asks for.
        builder.Logging.AddFilter<TraceLoggerProvider>(filters.IsEnabled);
        // Made by the container, when all filters are known, and early, so that it is disposed by it, and late.
        builder.Services.AddSingleton<ILoggerProvider>(services =>
        {
            filters.Use(services.GetRequiredService<IOptions<LoggerFilterOptions>>().Value, settings);
            var configuration = new LoggerConfiguration().LogTrace(logger, ownsFile: true);
            serilog?.Invoke(configuration);
            logger.Levels.Adopt(configuration);
            var events = configuration.CreateLogger();
            if (logger.File is null) logger.SendTo(events);
            return new TraceLoggerProvider(events, options.Instrumentation.FrameworkScopes);
        });
        builder.Services.AddLogTrace(logger);
        return logger;
    }

    /// <summary>Only requests and HTTP clients, for a service that sets up <c>ILogger</c> and Serilog itself.</summary>
    public static IServiceCollection AddLogTrace(this IServiceCollection services, TraceLogger logger)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(logger);
        logger.UseAsDefault();
        services.TryAddSingleton(logger);
        // First of all filters, so that its handler is added last: innermost.
        if (!services.Any(service => service.ImplementationType == typeof(TraceHttpFilter))) services.Insert(0, ServiceDescriptor.Singleton<IHttpMessageHandlerBuilderFilter, TraceHttpFilter>());
        return services;
    }

    static TraceFileOptions FileOf(string service) => new() { Path = $"logs/{service}.log" };

    sealed class TraceHttpFilter : IHttpMessageHandlerBuilderFilter
    {
        public Action<HttpMessageHandlerBuilder> Configure(Action<HttpMessageHandlerBuilder> next) => builder =>
        {
            next(builder);
            PassBy(builder);
            builder.AdditionalHandlers.Add(new TraceHttpHandler { ClientName = string.IsNullOrEmpty(builder.Name) ? null : builder.Name });
        };

        static void PassBy(HttpMessageHandlerBuilder builder)
        {
            if (builder.Services.GetService<ILoggerFactory>() is not { } loggers) return;
            // The scope that the outer one opens is there for lines of handlers between them, too, and other providers may write it.
            var isOurs = builder.Services.GetServices<ILoggerProvider>().All(provider => provider is TraceLoggerProvider { KeepsFrameworkScopes: false });
            var handlers = builder.AdditionalHandlers;
            for (var i = 0; i < handlers.Count; i++)
            {
                var part = handlers[i] switch { LoggingHttpMessageHandler => "ClientHandler", LoggingScopeHttpMessageHandler when isOurs => "LogicalHandler", _ => null };
                // The names that the factory gives them.
                if (part is not null) handlers[i] = new UnheardLoggingHandler((DelegatingHandler)handlers[i], loggers.CreateLogger($"System.Net.Http.HttpClient.{(string.IsNullOrEmpty(builder.Name) ? "Default" : builder.Name)}.{part}"));
            }
        }
    }
}
