using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Serilog.Events;

namespace LogTrace;

/// <summary>
/// Makes what <c>builder.Logging.AddFilter</c> and <c>SetMinimumLevel</c> say hold for our lines, except for debug requests. Levels become Serilog's, where a debug request can lower them;
/// filters that are functions are asked here.
/// </summary>
sealed class HostFilters(TraceLogger logger)
{
    const int MaxCachedCategories = 10_000;

    readonly ConcurrentDictionary<string, LoggerFilterRule?> _rules = new(StringComparer.Ordinal);
    LoggerFilterRule[] _functions = [];

    /// <summary>Called once, when the host is built and all filters are known.</summary>
    public void Use(LoggerFilterOptions options, HostSettings settings)
    {
        var rules = options.Rules.Where(rule => rule.ProviderName is null && rule.CategoryName?.Contains('*') != true).ToList();
        _functions = [.. rules.Where(rule => rule.Filter is not null)];
        // LogTrace's own options win, and what Logging:LogLevel says is in them already; later rules win over earlier ones.
        LogEventLevel? minimum = options.MinLevel != LogLevel.Information && !settings.ConfiguredLevels.ContainsKey("Default") ? HostSettings.ToSerilog(options.MinLevel) : null;
        var overrides = new Dictionary<string, LogEventLevel>(StringComparer.Ordinal);
        foreach (var rule in rules)
        {
            if (rule.LogLevel is not { } level) continue;
            if (settings.ConfiguredLevels.TryGetValue(rule.CategoryName ?? "Default", out var configured) && configured == level) continue;
            if (string.IsNullOrEmpty(rule.CategoryName)) minimum = HostSettings.ToSerilog(level);
            else overrides[rule.CategoryName] = HostSettings.ToSerilog(level);
        }

        if (minimum is { } lowest && !settings.HasMinimumLevel && logger.Options.MinimumLevel == settings.Options.MinimumLevel) logger.Levels.SetMinimum(lowest);
        foreach (var (category, level) in overrides)
        {
            var isOurs = logger.Options.LevelOverrides.TryGetValue(category, out var own)
                && !(settings.ConfiguredLevels.TryGetValue(category, out var configured) && HostSettings.ToSerilog(configured) == own);
            if (!isOurs) logger.Levels.SetOverride(category, level);
        }
    }

    public bool IsEnabled(string? category, LogLevel level)
    {
        if (_functions.Length == 0 || category is null || TraceContext.Current is { IsDebug: true }) return level != LogLevel.None;
        if (!_rules.TryGetValue(category, out var rule))
        {
            rule = Best(category);
            if (_rules.Count < MaxCachedCategories) _rules[category] = rule;
        }

        return rule is null || (level >= (rule.LogLevel ?? LogLevel.Trace) && rule.Filter!(typeof(TraceLoggerProvider).FullName, category, level));
    }

    // As Microsoft.Extensions.Logging selects: the longest category that matches, of equal ones the last.
    LoggerFilterRule? Best(string category) => _functions
        .Where(rule => rule.CategoryName is null || category.StartsWith(rule.CategoryName, StringComparison.OrdinalIgnoreCase))
        .Reverse().MaxBy(rule => rule.CategoryName?.Length ?? 0);
}
