using System.CommandLine;
using System.Globalization;
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
    static readonly TimeSpan LookPatience = TimeSpan.FromSeconds(5);

    public static Option<string> Data(string what = "directory of checkpoints and embedded store", string directory = DefaultData)
    {
        var data = new Option<string>("--data") { Description = what, HelpName = "DIR", DefaultValueFactory = _ => directory };
        data.Validators.Add(result =>
        {
            if (string.IsNullOrWhiteSpace(result.GetValue(data))) result.AddError("--data is empty; it must name a directory.");
        });
        return data;
    }

    /// <summary>The directory that the flag names, else Shipper:DataDirectory, so that one configuration file serves all commands.</summary>
    public static string DataDirectory(ParseResult parsed, Option<string> data, Settings settings) =>
        (parsed.GetResult(data) is { Implicit: false } ? null : settings.Value("Shipper:DataDirectory")) ?? parsed.GetValue(data)!;

    public static Option<string?> Config() => new("--config") { HelpName = "FILE", Description = $"configuration file; without it {ConfigurationFile} in the current directory, if it is there" };

    public static Option<int> Port() => Number("--port", "port of the viewer on 127.0.0.1; 0 takes a free one", 5080, 0, 65_535);

    /// <summary>A whole number within bounds, so that a wrong one is refused before anything is begun.</summary>
    public static Option<int> Number(string name, string what, int usual, int least, int most)
    {
        var number = new Option<int>(name) { Description = what, HelpName = "N", DefaultValueFactory = _ => usual };
        MustBeWithin(number, least, most);
        return number;
    }

    public static void MustBeWithin(Option option, int least, int most) => option.Validators.Add(result =>
    {
        if (result.Tokens is [var token] && int.TryParse(token.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) && (number < least || number > most))
            result.AddError(string.Create(CultureInfo.InvariantCulture, $"{option.Name} is {number}; it must be between {least} and {most}."));
    });

    public static Option<string?> Listen(int port) => new("--listen") { HelpName = "ADDRESS:PORT", Description = $"serve /metrics (Prometheus), /healthz, /readyz and / (one line) there, such as 127.0.0.1:{port}; default nowhere" };

    public static Option<string?> Elasticsearch() => new("--elasticsearch") { HelpName = "URL", Description = "URL of Elasticsearch 7.10+ or OpenSearch, in place of the embedded store" };

    public static Option<string?> Kafka() => new("--kafka") { HelpName = "HOST:PORT", Description = "broker as HOST:PORT, several separated by commas" };

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
            // Whoever looks waits in front of the screen; whoever writes has all the time that the settings give.
            if (readOnly && elasticsearch.GiveUpAfter > LookPatience) elasticsearch = elasticsearch with { GiveUpAfter = LookPatience };
            elasticsearch = elasticsearch with { ReadOnly = readOnly };
            Settings.Check(elasticsearch.Validate());
            return new ElasticsearchTraceStore(elasticsearch, logger: logs.CreateLogger<ElasticsearchTraceStore>());
        }

        var sqlite = settings.Section<SqliteStoreOptions>("Sqlite") with { ReadOnly = readOnly };
        sqlite = sqlite with { Directory = Path.GetFullPath(string.IsNullOrWhiteSpace(sqlite.Directory) ? Path.Combine(dataDirectory, "store") : sqlite.Directory) };
        Settings.Check(sqlite.Validate());
        if (readOnly && !Directory.Exists(sqlite.Directory))
        {
            var demo = Path.Combine(DefaultData, "demo");
            throw new SettingsException($"--data {dataDirectory}: there is no store in {sqlite.Directory}. Name the directory that './logtrace run' used{(Directory.Exists(Path.Combine(demo, "store")) ? $", --data {demo} for the demo's" : "")}, or --elasticsearch URL.");
        }

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
    public static DeadLetterFile DeadLetter(string dataDirectory, DeadLetterTopic? topic = null)
    {
        Directory.CreateDirectory(IndexerDirectory(dataDirectory));
        return new DeadLetterFile(Path.Combine(IndexerDirectory(dataDirectory), "dead-letter.jsonl"), topic: topic);
    }

    static string IndexerDirectory(string dataDirectory) => Path.Combine(Path.GetFullPath(dataDirectory), "indexer");

    /// <summary>Our own log: to stderr, never into what is tailed.</summary>
    public static ILoggerFactory Logs(LogLevel least = LogLevel.Information) => LoggerFactory.Create(logging => logging
        .SetMinimumLevel(least)
        .AddFilter("Microsoft", LogLevel.Warning)
        .AddFilter("Microsoft.Extensions.Hosting.Internal.Host", LogLevel.None) // a taken port is said by ViewerHost, without the stack
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
