using System.CommandLine;
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

    public static Option<string?> Config() => new("--config") { Description = $"configuration file; without it {ConfigurationFile} in the current directory, if it is there" };

    public static Option<int> Port() => new("--port") { Description = "port of the viewer on 127.0.0.1; 0 takes a free one", DefaultValueFactory = _ => 5080 };

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

        var sqlite = settings.Section<SqliteStoreOptions>("Sqlite") with { Directory = Path.Combine(Path.GetFullPath(dataDirectory), "store"), ReadOnly = readOnly };
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
    public static async Task<int> GuardAsync(Func<Task<int>> work)
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
            return 1;
        }
        catch (Exception e) when (e is StoreUnavailableException or TransportUnavailableException or ShipperStateException or IOException or UnauthorizedAccessException or InvalidOperationException or TimeoutException)
        {
            Console.Error.WriteLine($"failed: {e.Message}");
            return 1;
        }
    }
}
