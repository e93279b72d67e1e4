using System.CommandLine;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Shipper;
using LogTrace.Transport;

namespace LogTrace.Indexer.Commands;

/// <summary>Options that several commands share, so that they mean the same everywhere.</summary>
static class CommonOptions
{
    public const string DefaultData = "logtrace-data";
    public const string ConfigurationFile = "indexer.json";

    public static Option<string> Data() => new("--data") { Description = "directory of checkpoints and embedded store", DefaultValueFactory = _ => DefaultData };

    /// <summary>The directory that the flag names, else Shipper:DataDirectory, so that one configuration file serves all commands.</summary>
    public static string DataDirectory(ParseResult parsed, Option<string> data, Settings settings) =>
        (parsed.GetResult(data) is { Implicit: false } ? null : settings.Value("Shipper:DataDirectory")) ?? parsed.GetValue(data)!;

    public static Option<string?> Config() => new("--config") { Description = $"configuration file; without it {ConfigurationFile} in the current directory, if it is there" };

    public static Option<int> Port()
    {
        var port = new Option<int>("--port") { Description = "port of the viewer on 127.0.0.1; 0 takes a free one", DefaultValueFactory = _ => 5080 };
        MustBePort(port);
        return port;
    }

    public static void MustBePort(Option port) => port.Validators.Add(result =>
    {
        if (result.Tokens is [var token] && int.TryParse(token.Value, out var number) && number is < 0 or > 65_535) result.AddError($"--port is {number}; it must be between 0 and 65535, 0 for a free one.");
    });

    public static Option<string?> Elasticsearch() => new("--elasticsearch") { Description = "URL of Elasticsearch 7.10+ or OpenSearch, in place of the embedded store" };

    public static Option<string?> Kafka() => new("--kafka") { Description = "broker as HOST:PORT, several separated by commas" };

    /// <summary>The store that configuration and flags ask for; Elasticsearch if anything names it, else the files under the data directory.</summary>
    /// <param name="settings">Section Elasticsearch, section Sqlite.</param>
    /// <param name="dataDirectory">Where the embedded store is.</param>
    /// <param name="readOnly">Another process may be writing: create nothing, delete nothing.</param>
    public static ITraceStore Store(Settings settings, string dataDirectory, ILoggerFactory logs, bool readOnly = false)
    {
        if (settings.Has("Elasticsearch"))
        {
            var elasticsearch = settings.Section<ElasticsearchOptions>("Elasticsearch");
            if (settings.Values("Elasticsearch:Urls") is { Count: > 0 } urls) elasticsearch = elasticsearch with { Urls = urls };
            Settings.Check(elasticsearch.Validate());
            return new ElasticsearchTraceStore(elasticsearch);
        }

        var sqlite = settings.Section<SqliteStoreOptions>("Sqlite") with { ReadOnly = readOnly };
        sqlite = sqlite with { Directory = Path.GetFullPath(string.IsNullOrWhiteSpace(sqlite.Directory) ? Path.Combine(dataDirectory, "store") : sqlite.Directory) };
        Settings.Check(sqlite.Validate());
        if (readOnly && !Directory.Exists(sqlite.Directory))
            throw new SettingsException($"--data {dataDirectory}: there is no store in {sqlite.Directory}. Name the directory that './logtrace run' or 'demo' used, or --elasticsearch URL.");
        return new SqliteTraceStore(sqlite, logger: logs.CreateLogger<SqliteTraceStore>());
    }

    /// <summary>The indexer's options, with its own files under the data directory.</summary>
    public static IndexerOptions Indexer(Settings settings, string dataDirectory)
    {
        var options = settings.Section<IndexerOptions>("Indexer");
        return options with { WatermarkPath = options.WatermarkPath ?? Path.Combine(IndexerDirectory(dataDirectory), "watermark") };
    }

    /// <summary>How chains are read, for commands that only look: as the indexer with this configuration reads them.</summary>
    public static ChainOptions Chains(Settings settings)
    {
        var chains = settings.Section<IndexerOptions>("Indexer").Chains;
        Settings.Check(chains.Validate());
        return chains;
    }

    /// <summary>Where lines go that are no records, or that the store refuses.</summary>
    public static DeadLetterFile DeadLetter(string dataDirectory)
    {
        Directory.CreateDirectory(IndexerDirectory(dataDirectory));
        return new DeadLetterFile(Path.Combine(IndexerDirectory(dataDirectory), "dead-letter.jsonl"));
    }

    static string IndexerDirectory(string dataDirectory) => Path.Combine(Path.GetFullPath(dataDirectory), "indexer");

    /// <summary>Our own log: to stderr, never into what is tailed.</summary>
    public static ILoggerFactory Logs(LogLevel least = LogLevel.Information) => LoggerFactory.Create(logging => logging
        .SetMinimumLevel(least)
        .AddFilter("Microsoft", LogLevel.Warning)
        .AddSimpleConsole(console =>
        {
            console.SingleLine = true;
            console.TimestampFormat = "HH:mm:ss ";
        })
        .Services.Configure<Microsoft.Extensions.Logging.Console.ConsoleLoggerOptions>(console => console.LogToStandardErrorThreshold = LogLevel.Trace));

    /// <summary>Runs a command's work with the exit codes of all commands: 1 with one clear line when it failed, 2 when it was used wrongly.</summary>
    /// <param name="endsByStop">The command runs until it is stopped: a stop at any moment is success, also while it waits for a server.</param>
    public static async Task<int> GuardAsync(Func<Task<int>> work, bool endsByStop = false)
    {
        try
        {
            return await work();
        }
        catch (SettingsException e)
        {
            Console.Error.WriteLine(e.Message);
            return 2;
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("stopped");
            return endsByStop ? 0 : 1;
        }
        catch (Exception e) when (e is StoreUnavailableException or TransportUnavailableException or ShipperStateException or IOException or InvalidDataException
            or UnauthorizedAccessException or InvalidOperationException or ArgumentException or TimeoutException or DllNotFoundException)
        {
            Console.Error.WriteLine($"failed: {e.Message}");
            return 1;
        }
    }
}
