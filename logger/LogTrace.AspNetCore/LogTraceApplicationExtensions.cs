using System.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Http;
using Microsoft.Extensions.Logging;
using Serilog;
using Serilog.Events;
using Serilog.Extensions.Logging;

namespace LogTrace;

/// <summary>The entry points from ASP.NET Core and the generic host.</summary>
public static class LogTraceApplicationExtensions
{
    /// <summary>
    /// Sets up tracing from the configuration section <c>LogTrace</c>: <c>ILogger</c> lines, requests and every client of IHttpClientFactory write
    /// records to <c>logs/SERVICE-*.log</c>. Levels are those of <c>Logging:LogLevel</c> unless <c>LogTrace:MinimumLevel</c> or <c>LogTrace:LevelOverrides</c> are set.
    /// </summary>
    /// <param name="builder">A web application's or worker's builder.</param>
    /// <param name="configure">Changes what the configuration said: <c>options => options with { Service = "orders" }</c>.</param>
    /// <param name="serilog">Adds sinks and enrichers to the Serilog logger behind <c>ILogger</c>.</param>
    /// <returns>The service's logger, also registered as a service. It is closed with the host.</returns>
    /// <exception cref="LogTraceOptionsException">The options do not hold; the message lists all problems.</exception>
    public static TraceLogger AddLogTrace(
        this IHostApplicationBuilder builder, Func<LogTraceOptions, LogTraceOptions>? configure = null, Action<LoggerConfiguration>? serilog = null)
    {
        ArgumentNullException.ThrowIfNull(builder);
        var read = ReadOptions(builder);
        var usual = read.File is null ? read with { File = FileOf(read.Service) } : read;
        var options = configure is null ? usual : configure(usual);
        // Named after the service, also where the service gets its name here.
        if (read.File is null && ReferenceEquals(options.File, usual.File)) options = options with { File = FileOf(options.Service) };
        var logger = new TraceLogger(options);
        var configuration = new LoggerConfiguration().LogTrace(logger, ownsFile: true);
        serilog?.Invoke(configuration);
        var events = configuration.CreateLogger();
        if (logger.File is null) logger.SendTo(events);
        // Its own levels decide: a filter in front of it would hold back what a debug request asks for.
        builder.Logging.AddFilter<SerilogLoggerProvider>(null, LogLevel.Trace);
        // Made by the container, and early, so that it is disposed by it, and late.
        builder.Services.AddSingleton<ILoggerProvider>(_ => new SerilogLoggerProvider(events, dispose: true));
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

    /// <summary>Handles requests in scopes from here on; put it first, before exception handlers and routing.</summary>
    /// <exception cref="InvalidOperationException">AddLogTrace was not called.</exception>
    public static IApplicationBuilder UseLogTrace(this IApplicationBuilder app)
    {
        ArgumentNullException.ThrowIfNull(app);
        if (app.ApplicationServices.GetService<TraceLogger>() is null) throw new InvalidOperationException("UseLogTrace needs a set-up: call builder.AddLogTrace(...) before builder.Build().");
        return app.UseMiddleware<TraceMiddleware>();
    }

    static LogTraceOptions ReadOptions(IHostApplicationBuilder builder)
    {
        var section = builder.Configuration.GetSection("LogTrace");
        var levels = builder.Configuration.GetSection("Logging:LogLevel").GetChildren()
            .Where(level => Enum.TryParse<LogLevel>(level.Value, ignoreCase: true, out _))
            .ToDictionary(level => level.Key, level => ToSerilog(Enum.Parse<LogLevel>(level.Value!, ignoreCase: true)));
        var options = new LogTraceOptions
        {
            Service = new string([.. builder.Environment.ApplicationName.Select(letter => char.IsAsciiLetterOrDigit(letter) || letter is '.' or '-' ? letter : '_')]),
            Version = Assembly.GetEntryAssembly()?.GetName().Version?.ToString(3) ?? "0",
            MinimumLevel = levels.GetValueOrDefault("Default", LogEventLevel.Information),
            LevelOverrides = levels.Where(level => level.Key != "Default").ToDictionary(),
        };

        // The binder adds to lists that are there; what a configuration lists has to replace them.
        if (section.GetSection(nameof(options.Callers)).Exists()) options = options with { Callers = [] };
        if (section.GetSection(nameof(options.InternalHosts)).Exists()) options = options with { InternalHosts = [] };
        section.Bind(options);
        return options;
    }

    static TraceFileOptions FileOf(string service) => new() { Path = $"logs/{service}.log" };

    static LogEventLevel ToSerilog(LogLevel level) => level switch
    {
        LogLevel.Trace => LogEventLevel.Verbose,
        LogLevel.Debug => LogEventLevel.Debug,
        LogLevel.Information => LogEventLevel.Information,
        LogLevel.Warning => LogEventLevel.Warning,
        LogLevel.Error => LogEventLevel.Error,
        _ => LogEventLevel.Fatal,
    };

    sealed class TraceHttpFilter : IHttpMessageHandlerBuilderFilter
    {
        public Action<HttpMessageHandlerBuilder> Configure(Action<HttpMessageHandlerBuilder> next) => builder =>
        {
            next(builder);
            builder.AdditionalHandlers.Add(new TraceHttpHandler { ClientName = string.IsNullOrEmpty(builder.Name) ? null : builder.Name });
        };
    }
}
