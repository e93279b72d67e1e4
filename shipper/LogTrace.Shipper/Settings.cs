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
            return new Settings(new ConfigurationBuilder()
                .AddJsonFile(path, optional: true)
                .AddEnvironmentVariables(EnvironmentPrefix)
                .AddInMemoryCollection(flags.Where(flag => flag.Value is not null))
                .Build());
        }
        catch (InvalidDataException e)
        {
            throw new SettingsException($"{path} cannot be read: {(e.InnerException ?? e).Message}", e);
        }
    }

    /// <summary>Reads one section into its options. A key that does not exist is an error, because a mistyped one would silently do nothing.</summary>
    /// <exception cref="SettingsException">A key is unknown, or its value cannot be read as its type.</exception>
    public T Section<T>(string name)
        where T : class
    {
        try
        {
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
