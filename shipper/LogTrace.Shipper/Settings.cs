using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Configuration;

namespace LogTrace.Shipper;

/// <summary>The configuration is wrong; the message says which key, what it is and what it may be.</summary>
public sealed class SettingsException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// A process' configuration: one JSON file, environment variables <c>LOGTRACE__Section__Key</c> above it, flags of the command line above both.
/// </summary>
public sealed class Settings
{
    const string EnvironmentPrefix = "LOGTRACE__";

    // Of all processes: an environment is often shared.
    static readonly string[] Sections = ["Shipper", "Indexer", "Kafka", "Elasticsearch", "Sqlite", "Kibana"];

    readonly IConfigurationRoot _configuration;

    Settings(IConfigurationRoot configuration) => _configuration = configuration;

    /// <param name="file">The file the user named, which must exist; null for <paramref name="defaultFile"/> in the current directory, which may be absent.</param>
    /// <param name="defaultFile">Such as <c>shipper.json</c>.</param>
    /// <param name="flags">Key (<c>Section:Key</c>) and value; a null value was not given.</param>
    /// <exception cref="SettingsException">The file is absent or no JSON.</exception>
    public static Settings Load(string? file, string defaultFile, IEnumerable<KeyValuePair<string, string?>> flags)
    {
        var path = Path.GetFullPath(file ?? defaultFile);
        if (file is not null && !File.Exists(path)) throw new SettingsException($"--config: there is no file {path}.");
        try
        {
            var configuration = new ConfigurationBuilder()
                .AddJsonFile(path, optional: true)
                .AddEnvironmentVariables(EnvironmentPrefix)
                .AddInMemoryCollection(flags.Where(flag => flag.Value is not null))
                .Build();
            var unknown = configuration.GetChildren().Select(section => section.Key).FirstOrDefault(key => !Sections.Contains(key, StringComparer.OrdinalIgnoreCase));
            if (unknown is not null) throw new SettingsException($"There is no section {unknown}, neither for {path} nor for the environment ({EnvironmentPrefix}{unknown}__...); there are {string.Join(", ", Sections)}.");
            return new Settings(configuration);
        }
        catch (InvalidDataException e)
        {
            throw new SettingsException($"{path} cannot be read: {e.GetBaseException().Message}", e);
        }
    }

    /// <summary>Reads one section into its options. A key that does not exist is an error, because a mistyped one would silently do nothing.</summary>
    /// <exception cref="SettingsException">A key is unknown, or its value cannot be read as its type.</exception>
    [UnconditionalSuppressMessage("Trimming", "IL2026", Justification = "Options hold numbers, texts, enumerations, times, and lists and dictionaries of text: what the binder makes of the last two is named below.")]
    [UnconditionalSuppressMessage("AOT", "IL3050", Justification = "Options hold no collection of values, which would need code of its own.")]
    [DynamicDependency(DynamicallyAccessedMemberTypes.All, typeof(List<string>))]
    [DynamicDependency(DynamicallyAccessedMemberTypes.All, typeof(Dictionary<string, string>))]
    public T Section<[DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicProperties | DynamicallyAccessedMemberTypes.PublicConstructors)] T>(string name)
        where T : class
    {
        try
        {
            var known = typeof(T).GetProperties().Where(property => property.CanWrite).Select(property => property.Name).ToList();
            if (_configuration.GetSection(name).GetChildren().FirstOrDefault(child => !known.Contains(child.Key, StringComparer.OrdinalIgnoreCase)) is { } unknown)
                throw new SettingsException($"{unknown.Path} does not exist; section {name} has {string.Join(", ", known.Order(StringComparer.Ordinal))}.");
            return _configuration.GetSection(name).Get<T>(binder => binder.ErrorOnUnknownConfiguration = true) ?? Activator.CreateInstance<T>();
        }
        catch (InvalidOperationException e)
        {
            throw new SettingsException($"Section {name}: {(e.InnerException is null ? e.Message : $"{e.Message} {e.InnerException.Message}")}", e);
        }
    }

    /// <summary>
    /// The values of a list, empty when nothing says any. For lists that have a default: <see cref="Section"/> would append to it what was meant to replace it.
    /// </summary>
    public IReadOnlyList<string> Values(string key) => [.. _configuration.GetSection(key).GetChildren().Select(child => child.Value).OfType<string>()];

    /// <summary>One value; null when nothing says it.</summary>
    public string? Value(string key) => _configuration[key];

    /// <summary>True when file, environment or flags say anything about a section.</summary>
    public bool Has(string section) => _configuration.GetSection(section).Exists();

    /// <summary>Flags that hold a list, as configuration keys <c>Section:Key:0</c>, <c>:1</c>, ...</summary>
    public static IEnumerable<KeyValuePair<string, string?>> List(string key, IReadOnlyList<string>? values) =>
        (values ?? []).Select((value, index) => KeyValuePair.Create($"{key}:{index}", (string?)value));

    /// <summary>Stops when options have problems, with all of them.</summary>
    /// <exception cref="SettingsException">There is at least one.</exception>
    public static void Check(params IEnumerable<string>[] problems)
    {
        var all = problems.SelectMany(some => some).ToList();
        if (all.Count > 0) throw new SettingsException(string.Join(Environment.NewLine, all));
    }
}
