using System.Collections;
using System.ComponentModel;
using System.Reflection;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Serilog.Events;

namespace LogTrace;

/// <summary>Reads the section <c>LogTrace</c> of a host's configuration. What cannot be read is a problem in the list, so that all of them are told at once.</summary>
sealed class HostSettings
{
    const string SectionName = "LogTrace";

    // LOGTRACE__Shipper__... in the environment is meant for the shipper and the indexer, which may run beside the service; case makes no difference to a key.
    static readonly string[] s_sectionsOfOthers = ["Shipper", "Indexer", "Kafka", "Elasticsearch", "Sqlite"];

    readonly List<string> _problems = [];

    public HostSettings(IHostApplicationBuilder builder)
    {
        foreach (var level in builder.Configuration.GetSection("Logging:LogLevel").GetChildren())
        {
            if (Enum.TryParse<LogLevel>(level.Value, ignoreCase: true, out var parsed)) ConfiguredLevels[level.Key] = parsed;
        }

        var section = builder.Configuration.GetSection(SectionName);
        var options = new LogTraceOptions
        {
            Service = new string([.. builder.Environment.ApplicationName.Select(letter => char.IsAsciiLetterOrDigit(letter) || letter is '.' or '-' ? letter : '_')]),
            Version = Assembly.GetEntryAssembly()?.GetName().Version?.ToString(3) ?? "0",
            MinimumLevel = ToSerilog(ConfiguredLevels.GetValueOrDefault("Default", LogLevel.Information)),
            LevelOverrides = ConfiguredLevels.Where(level => level.Key != "Default").ToDictionary(level => level.Key, level => ToSerilog(level.Value)),
        };

        // The binder adds to lists that are there; what a configuration lists has to replace them.
        if (section.GetSection(nameof(options.Callers)).Exists()) options = options with { Callers = [] };
        if (section.GetSection(nameof(options.InternalHosts)).Exists()) options = options with { InternalHosts = [] };
        HasMinimumLevel = section.GetSection(nameof(options.MinimumLevel)).Exists();
        var readable = new List<KeyValuePair<string, string?>>();
        foreach (var child in section.GetChildren())
        {
            if (!s_sectionsOfOthers.Contains(child.Key, StringComparer.OrdinalIgnoreCase)) Member(typeof(LogTraceOptions), section, child, readable);
        }

        new ConfigurationBuilder().AddInMemoryCollection(readable).Build().GetSection(SectionName).Bind(options);
        Options = options;
    }

    public LogTraceOptions Options { get; }

    /// <summary>What <c>Logging:LogLevel</c> says.</summary>
    public Dictionary<string, LogLevel> ConfiguredLevels { get; } = new(StringComparer.Ordinal);

    /// <summary>Whether the section names a minimum level itself.</summary>
    public bool HasMinimumLevel { get; }

    /// <summary>One sentence for each key that does not exist and each value that is not of its option's kind.</summary>
    public IReadOnlyList<string> Problems => _problems;

    public static LogEventLevel ToSerilog(LogLevel level) => level switch
    {
        LogLevel.Trace => LogEventLevel.Verbose,
        LogLevel.Debug => LogEventLevel.Debug,
        LogLevel.Information => LogEventLevel.Information,
        LogLevel.Warning => LogEventLevel.Warning,
        LogLevel.Error => LogEventLevel.Error,
        _ => LogEventLevel.Fatal,
    };

    void Member(Type owner, IConfigurationSection section, IConfigurationSection child, List<KeyValuePair<string, string?>> readable)
    {
        var options = owner.GetProperties().Where(property => property.CanWrite).ToList();
        if (options.Find(property => property.Name.Equals(child.Key, StringComparison.OrdinalIgnoreCase)) is { } option)
        {
            Value(option.PropertyType, child, readable);
            return;
        }

        _problems.Add($"{child.Path} does not exist; {section.Path} has {string.Join(", ", options.Select(property => property.Name).Order(StringComparer.Ordinal))}.");
    }

    void Value(Type type, IConfigurationSection value, List<KeyValuePair<string, string?>> readable)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type != typeof(string) && type.IsAssignableTo(typeof(IEnumerable)))
        {
            // A list's values lie under 0, 1, ..., a dictionary's under their keys.
            if (!string.IsNullOrEmpty(value.Value)) _problems.Add($"{value.Path} is '{value.Value}'; it must be a list.");
            foreach (var element in value.GetChildren()) Value(type.GetGenericArguments()[^1], element, readable);
            return;
        }

        if (type.Namespace == typeof(LogTraceOptions).Namespace && type.IsClass)
        {
            if (!string.IsNullOrEmpty(value.Value)) _problems.Add($"{value.Path} is '{value.Value}'; it must be a section.");
            foreach (var child in value.GetChildren()) Member(type, value, child, readable);
            return;
        }

        if (value.GetChildren().Any())
        {
            _problems.Add($"{value.Path} is a section; it must be {Describe(type)}.");
            return;
        }

        if (IsReadable(type, value.Value)) readable.Add(new(value.Path, value.Value));
        else _problems.Add($"{value.Path} is '{value.Value}'; it must be {Describe(type)}.");
    }

    static bool IsReadable(Type type, string? text)
    {
        if (type == typeof(string) || string.IsNullOrEmpty(text)) return true;
        try
        {
            TypeDescriptor.GetConverter(type).ConvertFromInvariantString(text);
            return true;
        }
        catch (Exception exception) when (exception is FormatException or ArgumentException or NotSupportedException or OverflowException)
        {
            return false;
        }
    }

    static string Describe(Type type) =>
        type.IsEnum ? $"one of {string.Join(", ", Enum.GetNames(type))}"
        : type == typeof(TimeSpan) ? "a time such as 00:00:02"
        : type == typeof(bool) ? "true or false"
        : type == typeof(double) || type == typeof(float) || type == typeof(decimal) ? "a number"
        : type == typeof(string) ? "a text"
        : type == typeof(int) ? "a whole number of at most 2,147,483,647"
        : "a whole number";
}
