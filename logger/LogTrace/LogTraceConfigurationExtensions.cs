using System.Runtime.CompilerServices;
using Serilog;
using Serilog.Configuration;
using Serilog.Core;
using Serilog.Core.Enrichers;
using Serilog.Events;

namespace LogTrace;

/// <summary>The entry points from Serilog's configuration.</summary>
public static class LogTraceConfigurationExtensions
{
    /// <summary>
    /// Adds <c>trace_id</c>, <c>rpc_id</c>, <c>span_id</c>, <c>parent_span_id</c> and <c>debug</c> of the ambient scope to every event. Where nobody but one <c>TraceFile</c> sink sees the
    /// events (no other sink, no filter, no enricher behind this one), they go to it beside the event, which is cheaper.
    /// </summary>
    public static LoggerConfiguration WithTrace(this LoggerEnrichmentConfiguration enrich)
    {
        ArgumentNullException.ThrowIfNull(enrich);
        var enricher = new TraceEnricher();
        return enricher.Knows(enrich.With(enricher));
    }

    /// <summary>
    /// All that a service needs: the minimum level as the options say, overrides as they and the configuration so far say, all lowered for debug requests alone; trace ids on
    /// every event; records to the file of <paramref name="logger"/> if it has one. Other sinks can be added. Overrides of levels that are added after this
    /// hold for debug requests, too.
    /// </summary>
    /// <example><code>Log.Logger = new LoggerConfiguration().LogTrace(tracer).WriteTo.Console().CreateLogger();</code></example>
    public static LoggerConfiguration LogTrace(this LoggerConfiguration configuration, TraceLogger logger) => configuration.LogTrace(logger, ownsFile: false);

    /// <param name="configuration">Serilog's.</param>
    /// <param name="logger">The service.</param>
    /// <param name="ownsFile">Whether disposing the Serilog logger disposes <paramref name="logger"/>.</param>
    internal static LoggerConfiguration LogTrace(this LoggerConfiguration configuration, TraceLogger logger, bool ownsFile)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        ArgumentNullException.ThrowIfNull(logger);
        logger.Levels.ApplyTo(configuration);
        var enricher = new TraceEnricher();
        enricher.Knows(configuration.Filter.With(new TraceLevelFilter(logger, enricher)).Enrich.With(enricher));
        return logger.File is null ? configuration : configuration.WriteTo.TraceFile(logger, ownsFile);
    }

    /// <summary>Writes log events to the file of <paramref name="logger"/>, where its typed records go too.</summary>
    /// <exception cref="ArgumentException">The logger has no file.</exception>
    public static LoggerConfiguration TraceFile(this LoggerSinkConfiguration writeTo, TraceLogger logger) => writeTo.TraceFile(logger, owned: false);

    /// <summary>
    /// Opens files for the records of a service and makes it the default of <see cref="TraceContext.StartTrace"/>; closed with the Serilog logger. The levels of
    /// this logger are its own: to have debug requests lower them, use <see cref="LogTrace(LoggerConfiguration, TraceLogger)"/>.
    /// </summary>
    /// <param name="writeTo">Serilog's <c>WriteTo</c>.</param>
    /// <param name="path">Path such as <c>logs/orders.log</c>, see <see cref="TraceFileOptions.Path"/>.</param>
    /// <param name="options">The service.</param>
    /// <exception cref="LogTraceOptionsException">The options do not hold.</exception>
    public static LoggerConfiguration TraceFile(this LoggerSinkConfiguration writeTo, string path, LogTraceOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        var logger = new TraceLogger(options with { File = (options.File ?? new()) with { Path = path } });
        logger.UseAsDefault();
        return writeTo.TraceFile(logger, owned: true);
    }

    /// <summary>The same with plain values, for a configuration file.</summary>
    /// <param name="writeTo">Serilog's <c>WriteTo</c>.</param>
    /// <param name="path">Path such as <c>logs/orders.log</c>, see <see cref="TraceFileOptions.Path"/>.</param>
    /// <param name="service">Name of the service.</param>
    /// <param name="department">Its owner.</param>
    /// <param name="version">Its version.</param>
    /// <exception cref="LogTraceOptionsException">The values do not hold.</exception>
    public static LoggerConfiguration TraceFile(this LoggerSinkConfiguration writeTo, string path, string service, string department, string version = "0") =>
        writeTo.TraceFile(path, new LogTraceOptions { Service = service, Department = department, Version = version });

    internal static LoggerConfiguration TraceFile(this LoggerSinkConfiguration writeTo, TraceLogger logger, bool owned)
    {
        ArgumentNullException.ThrowIfNull(writeTo);
        ArgumentNullException.ThrowIfNull(logger);
        if (logger.File is null) throw new ArgumentException("The logger has no file: set LogTraceOptions.File, or use another sink with a TraceRecordFormatter.", nameof(logger));
        var sink = new TraceFileSink(logger, owned);
        return sink.Knows(writeTo.Sink(sink));
    }

    /// <summary>
    /// Puts the ids of the ambient scope on each event, unless nobody but our own sink can see the event: then the sink takes them beside it. Four more properties cost a caller
    /// as much as all the rest of the way to the file.
    /// </summary>
    sealed class TraceEnricher : ILogEventEnricher
    {
        LoggerConfiguration? _configuration;
        volatile Way _way;

        enum Way
        {
            Unknown,
            OnTheEvent,
            BesideTheEvent,
        }

        /// <summary>Whether events go without ids to the one sink there is. Known from the first event on: then the configuration is complete.</summary>
        public bool LeavesOut
        {
            get
            {
                if (_way == Way.Unknown) _way = _configuration is { } configuration && IsOnlyOurs(configuration) ? Way.BesideTheEvent : Way.OnTheEvent;
                return _way == Way.BesideTheEvent;
            }
        }

        /// <summary>The one of a configuration; null where there is none.</summary>
        public static TraceEnricher? Of(LoggerConfiguration configuration)
        {
            try
            {
                return Enrichers(configuration).OfType<TraceEnricher>().FirstOrDefault();
            }
            catch (MissingFieldException)
            {
                // As said below.
                return null;
            }
        }

        /// <summary>Tells it the configuration that it is part of.</summary>
        public LoggerConfiguration Knows(LoggerConfiguration configuration) => _configuration = configuration;

        public void Enrich(LogEvent logEvent, ILogEventPropertyFactory propertyFactory)
        {
            // A typed record has its own ids; the scope may have moved on since.
            if (LeavesOut || TraceContext.Current is not { } scope || ReferenceEquals(logEvent.MessageTemplate, TraceLogger.RecordTemplate)) return;
            foreach (var property in scope.LogProperties) logEvent.AddOrUpdateProperty(property);
            logEvent.AddOrUpdateProperty(scope.Stamp.Property);
        }

        // Serilog shows nowhere what a configuration is made of; should a later version of it keep that elsewhere, events get their properties.
        bool IsOnlyOurs(LoggerConfiguration configuration)
        {
            try
            {
                return Sinks(configuration) is [TraceFileSink] && AuditSinks(configuration).Count == 0 && Filters(configuration).All(filter => filter is TraceLevelFilter)
                    // Those before it never saw its properties.
                    && Enrichers(configuration).Contains(this) && Enrichers(configuration).SkipWhile(enricher => enricher is not TraceEnricher).All(AddsAtMost);
            }
            catch (MissingFieldException)
            {
                return false;
            }
        }

        /// <summary>Enrich.WithProperty and Enrich.FromLogContext look at nothing.</summary>
        static bool AddsAtMost(ILogEventEnricher enricher) =>
            enricher is TraceEnricher || enricher.GetType() == typeof(PropertyEnricher) || enricher.GetType().FullName == "Serilog.Context.LogContextEnricher";

        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_logEventSinks")]
        static extern ref List<ILogEventSink> Sinks(LoggerConfiguration configuration);

        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_auditSinks")]
        static extern ref List<ILogEventSink> AuditSinks(LoggerConfiguration configuration);

        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_filters")]
        static extern ref List<ILogEventFilter> Filters(LoggerConfiguration configuration);

        [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_enrichers")]
        static extern ref List<ILogEventEnricher> Enrichers(LoggerConfiguration configuration);
    }

    /// <summary>While a debug request is in flight the levels let everybody's debug events pass; this lets through only those of that request.</summary>
    sealed class TraceLevelFilter(TraceLogger logger, TraceEnricher enricher) : ILogEventFilter
    {
        readonly TraceRecordFormatter? _held = logger.Options.BufferDebugUntilError && logger.File is not null ? new(logger) : null;

        public bool IsEnabled(LogEvent logEvent)
        {
            if (logger.Levels.Configured.IsEnabled(logEvent) || ReferenceEquals(logEvent.MessageTemplate, TraceLogger.RecordTemplate)) return true;
            if (TraceContext.Current is not { } scope) return false;
            if (scope.IsDebug) return true;
            // Here, and not in the sink: other sinks of the same logger must not get to see it.
            if (_held is not null && scope.HeldDebug is { } held && scope.Logger == logger) Hold(logEvent, enricher.LeavesOut ? scope : null, held);
            return false;
        }

        void Hold(LogEvent logEvent, TraceContext? scope, HeldLines held)
        {
            var line = LineWriter.Rent();
            _held!.Format(logEvent, scope, line);
            held.Add(line.Written, isError: false);
            LineWriter.Return(line);
        }
    }

    sealed class TraceFileSink(TraceLogger logger, bool owned) : ILogEventSink, IDisposable
    {
        readonly TraceRecordFormatter _formatter = new(logger);
        volatile LoggerConfiguration? _configuration;
        TraceEnricher? _enricher;

        /// <summary>Tells it the configuration that it is part of.</summary>
        public LoggerConfiguration Knows(LoggerConfiguration configuration) => _configuration = configuration;

        public void Emit(LogEvent logEvent)
        {
            if (_configuration is { } configuration)
            {
                // Complete since the first event.
                _enricher = TraceEnricher.Of(configuration);
                _configuration = null;
            }

            if (ReferenceEquals(logEvent.MessageTemplate, TraceLogger.RecordTemplate)) Copy(logEvent);
            else logger.Deliver(logEvent, _formatter, _enricher is { LeavesOut: true });
        }

        // A typed record of a service without a file, which came here through Serilog.
        void Copy(LogEvent logEvent)
        {
            var line = LineWriter.Rent();
            _formatter.Format(logEvent, null, line);
            logger.Deliver(TraceContext.Current, line.Written, logEvent.Level >= LogEventLevel.Error);
            LineWriter.Return(line);
        }

        public void Dispose()
        {
            if (owned) logger.Dispose();
        }
    }
}
