using System.Runtime.CompilerServices;
using Serilog;
using Serilog.Core;
using Serilog.Events;

namespace LogTrace;

/// <summary>
/// The levels below which Serilog makes no event. While a debug request is in flight all of them are Debug at most; what they are configured to be is
/// kept, for a filter that holds back everybody else's debug events.
/// </summary>
sealed class TraceLevels
{
    readonly Lock _gate = new();
    readonly Dictionary<string, LogEventLevel> _overrides;
    readonly Dictionary<LoggingLevelSwitch, Level> _levels = [];
    volatile Table _configured;
    int _lowered;

    sealed class Level(string? source, LogEventLevel configured)
    {
        public string? Source { get; } = source;

        public LogEventLevel Configured { get; set; } = configured;
    }

    public TraceLevels(LogEventLevel minimum, IReadOnlyDictionary<string, LogEventLevel> overrides)
    {
        _overrides = new(overrides, StringComparer.Ordinal);
        Minimum = Add(null, minimum);
        _configured = new Table(minimum, []);
    }

    /// <summary>The level for all that no override is for.</summary>
    public LoggingLevelSwitch Minimum { get; }

    /// <summary>What holds without a debug request.</summary>
    public Table Configured => _configured;

    /// <summary>Changes the configured minimum.</summary>
    public void SetMinimum(LogEventLevel level)
    {
        lock (_gate)
        {
            _levels[Minimum].Configured = level;
            Minimum.MinimumLevel = Effective(level);
            Tabulate();
        }
    }

    /// <summary>Adds an override for <see cref="ApplyTo"/>.</summary>
    public void SetOverride(string source, LogEventLevel level) => _overrides[source] = level;

    /// <summary>Puts Serilog's levels under ours, those of the configuration so far included.</summary>
    public void ApplyTo(LoggerConfiguration configuration)
    {
        configuration.MinimumLevel.ControlledBy(Minimum);
        foreach (var (source, level) in _overrides) configuration.MinimumLevel.Override(source, Add(source, level));
        Adopt(configuration);
    }

    /// <summary>
    /// Takes over the levels that somebody else set on the configuration, so that debug requests lower them too. Serilog shows them nowhere; should a
    /// later version of it keep them elsewhere, they stay as they are.
    /// </summary>
    public void Adopt(LoggerConfiguration configuration)
    {
        try
        {
            if (LevelSwitch(configuration) != Minimum)
            {
                SetMinimum(LevelSwitch(configuration)?.MinimumLevel ?? MinimumLevel(configuration));
                configuration.MinimumLevel.ControlledBy(Minimum);
            }

            lock (_gate)
            {
                foreach (var (source, level) in Overrides(configuration))
                {
                    if (_levels.ContainsKey(level)) continue;
                    foreach (var replaced in _levels.Where(pair => pair.Value.Source == source).Select(pair => pair.Key).ToList()) _levels.Remove(replaced);
                    _levels.Add(level, new Level(source, level.MinimumLevel));
                    level.MinimumLevel = Effective(level.MinimumLevel);
                }

                Tabulate();
            }
        }
        catch (MissingFieldException)
        {
            // As said above.
        }
    }

    /// <summary>A debug request began.</summary>
    public void Lower()
    {
        lock (_gate)
        {
            if (++_lowered != 1) return;
            // Switches may have been turned by their owners since.
            foreach (var (level, configured) in _levels) configured.Configured = level.MinimumLevel;
            Tabulate();
            foreach (var (level, configured) in _levels) level.MinimumLevel = Effective(configured.Configured);
        }
    }

    /// <summary>A debug request ended.</summary>
    public void Restore()
    {
        lock (_gate)
        {
            if (--_lowered != 0) return;
            foreach (var (level, configured) in _levels) level.MinimumLevel = configured.Configured;
        }
    }

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_overrides")]
    static extern ref Dictionary<string, LoggingLevelSwitch> Overrides(LoggerConfiguration configuration);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_levelSwitch")]
    static extern ref LoggingLevelSwitch? LevelSwitch(LoggerConfiguration configuration);

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_minimumLevel")]
    static extern ref LogEventLevel MinimumLevel(LoggerConfiguration configuration);

    LoggingLevelSwitch Add(string? source, LogEventLevel level)
    {
        lock (_gate)
        {
            var added = new LoggingLevelSwitch(Effective(level));
            _levels.Add(added, new Level(source, level));
            return added;
        }
    }

    LogEventLevel Effective(LogEventLevel configured) => _lowered > 0 && configured > LogEventLevel.Debug ? LogEventLevel.Debug : configured;

    void Tabulate() => _configured = new Table(
        _levels[Minimum].Configured,
        [.. _levels.Values.Where(level => level.Source is not null).OrderByDescending(level => level.Source!.Length).Select(level => KeyValuePair.Create(level.Source!, level.Configured))]);

    /// <summary>Levels by source at one moment, the longest sources first.</summary>
    public sealed class Table(LogEventLevel minimum, KeyValuePair<string, LogEventLevel>[] overrides)
    {
        readonly LogEventLevel _highest = overrides.Select(pair => pair.Value).Append(minimum).Max();

        public bool IsEnabled(LogEvent logEvent) => logEvent.Level >= _highest || logEvent.Level >= LevelOf(logEvent);

        LogEventLevel LevelOf(LogEvent logEvent)
        {
            if (overrides.Length == 0 || !logEvent.Properties.TryGetValue(Constants.SourceContextPropertyName, out var value) || value is not ScalarValue { Value: string source }) return minimum;
            foreach (var (prefix, level) in overrides)
            {
                if (source.StartsWith(prefix, StringComparison.Ordinal) && (source.Length == prefix.Length || source[prefix.Length] == '.')) return level;
            }

            return minimum;
        }
    }
}
