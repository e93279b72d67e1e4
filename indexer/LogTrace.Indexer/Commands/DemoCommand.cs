using System.Buffers;
using System.CommandLine;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Indexer.Viewer;
using LogTrace.Shipper;
using LogTrace.Transport;

namespace LogTrace.Indexer.Commands;

/// <summary>
/// <c>demo</c>: the sample shop under load, its log files through the pipeline, the chains in the viewer; with <c>--once</c> a fixed load, one chain and the
/// balance. The shop is a process of its own and knows nothing of the pipeline but the folder its log files are in.
/// </summary>
static class DemoCommand
{
    const string MarkerName = ".logtrace-demo";
    static readonly string[] Services = ["gateway", "orders", "stock", "payment"];
    static readonly TimeSpan CatchUpLimit = TimeSpan.FromMinutes(2);

    sealed record DemoOptions
    {
        public bool Once { get; init; }
        public string? Lose { get; init; }
        public string? Kafka { get; init; }
        /// <summary>As the user wrote it, for messages.</summary>
        public required string Data { get; init; }

        public string Directory => Path.GetFullPath(Data);
        public int Port { get; init; }
        public int Rate { get; init; }
        public int Requests { get; init; }
        public int Seed { get; init; }

        /// <summary>Chains of earlier demos may be in the same store.</summary>
        public long StartedMicros { get; } = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() * 1000;

        public string Logs => Path.Combine(Directory, "logs");
    }

    public static Command Create()
    {
        var once = new Option<bool>("--once") { Description = "a fixed load, then one rebuilt chain and the balance of counts; exits 0 only if nothing is lost" };
        var lose = new Option<string?>("--lose") { Description = "throw this service's log files away before they are shipped" };
        var kafka = CommonOptions.Kafka();
        var elasticsearch = CommonOptions.Elasticsearch();
        var data = CommonOptions.Data("directory of the demo; emptied at the start if an earlier demo made it", Path.Combine(CommonOptions.DefaultData, "demo"));
        var port = CommonOptions.Port();
        var rate = CommonOptions.Number("--rate", "requests a second", 50, 1, 10_000);
        var requests = CommonOptions.Number("--requests", "requests in all, with --once", 300, 1, 10_000_000);
        var seed = new Option<int>("--seed") { HelpName = "N", Description = "the same seed gives the same requests", DefaultValueFactory = _ => 1 };
        var config = CommonOptions.Config();
        var command = new Command("demo", "The sample shop under load, its log lines through the pipeline, its chains in a viewer.") { once, lose, kafka, elasticsearch, data, port, rate, requests, seed, config };
        lose.AcceptOnlyFromAmong(Services);
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            var options = new DemoOptions
            {
                Once = parsed.GetValue(once),
                Lose = parsed.GetValue(lose),
                Kafka = parsed.GetValue(kafka),
                Data = parsed.GetValue(data)!,
                Port = parsed.GetValue(port),
                Rate = parsed.GetValue(rate),
                Requests = parsed.GetValue(requests),
                Seed = parsed.GetValue(seed),
            };
            // A topic and a group of the demo's own: what others have in logtrace.records is not its business, and the balance is of this run alone.
            var topic = $"logtrace.demo-{Guid.NewGuid():n}";
            var settings = Settings.Load(parsed.GetValue(config), CommonOptions.ConfigurationFile,
            [
                new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch)), new("Kafka:Brokers", options.Kafka),
                new("Kafka:Topic", options.Kafka is null ? null : topic), new("Kafka:Group", options.Kafka is null ? null : topic),
            ]);
            return await RunAsync(options, settings, stop);
        }));
        return command;
    }

    static async Task<int> RunAsync(DemoOptions options, Settings settings, CancellationToken stop)
    {
        await using var hold = EmptyDirectory(options);
        using var logs = CommonOptions.Logs(LogLevel.Warning);
        await using var store = CommonOptions.Store(settings, options.Directory, logs);
        await store.OpenAsync(stop);
        await using IDemoPipeline pipeline = options.Kafka is null
            ? new Embedded(options, settings, store, logs)
            : await Full.StartAsync(options, settings, store, logs, stop);
        await using var viewer = options.Once ? null : await ViewerHost.StartAsync(store, options.Port, CommonOptions.Chains(settings), logs, stop);
        if (viewer is not null) Console.WriteLine($"viewer at {viewer.Url}, Ctrl-C stops the demo");

        Console.Error.WriteLine(options.Once
            ? $"demo: {options.Requests} requests to the shop"
            : $"demo: {options.Rate} requests a second to the shop until Ctrl-C");
        await using var shop = ChildProgram.StartShop(
        [
            "all", "--logs", options.Logs, "--data", Path.Combine(options.Directory, "shop"), "--port", "0", "--rate", Text(options.Rate), "--seed", Text(options.Seed),
            // A few of the requests ask for debug logs, so that there are some to look at; the key is nobody's but this run's.
            "--debug-key", Convert.ToHexString(RandomNumberGenerator.GetBytes(16)),
            .. options.Once ? ["--requests", Text(options.Requests)] : Array.Empty<string>(),
        ]);
        var written = Written(await RunShopAsync(shop, pipeline, stop));
        if (stop.IsCancellationRequested && options.Once) throw new OperationCanceledException(stop);

        var thrownAway = options.Lose is null ? 0 : ThrowAway(Path.Combine(options.Logs, options.Lose));
        Console.Error.WriteLine($"demo: the shop wrote {written?.ToString("N0", CultureInfo.InvariantCulture) ?? "no"} lines, waiting until all are stored");
        using var limit = new CancellationTokenSource(CatchUpLimit);
        try
        {
            await pipeline.WaitUntilCaughtUpAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            if (pipeline.Running.IsFaulted) await pipeline.Running; // says why
            throw new TimeoutException($"not all lines were stored within {CatchUpLimit.TotalMinutes:0} minutes of the shop's end");
        }

        var balance = (await pipeline.StopAsync()) with { Written = written, ThrownAway = thrownAway };

        if (options.Once) await PrintChainAsync(store, options, settings, limit.Token);
        balance.WriteTo(Console.Out);
        return balance.Holds ? 0 : 1;
    }

    /// <summary>The shop until it has carried out its load, or until the demo is stopped; the pipeline must not end before.</summary>
    static async Task<string?> RunShopAsync(ChildProgram shop, IDemoPipeline pipeline, CancellationToken stop)
    {
        var ended = shop.OutputAsync(stop);
        if (await Task.WhenAny(ended, pipeline.Running) == pipeline.Running && !stop.IsCancellationRequested)
        {
            await pipeline.Running;
            throw new InvalidOperationException("the pipeline ended while the shop was running");
        }

        return stop.IsCancellationRequested ? await shop.StopAsync() : await ended;
    }

    /// <summary>Lines that the shop's loggers say they wrote; null when the shop was stopped before it could count.</summary>
    static long? Written(string? output)
    {
        if (output is null) return null;
        var line = output.Split('\n').Select(line => line.Trim()).LastOrDefault(line => line.StartsWith('{'))
            ?? throw new InvalidOperationException($"the shop ended without its counts; it printed: {output}");
        using var counts = JsonDocument.Parse(line);
        var dropped = counts.RootElement.GetProperty("dropped").EnumerateObject().Sum(service => service.Value.GetInt64());
        if (dropped > 0) Console.Error.WriteLine($"demo: the shop's loggers dropped {dropped} lines, which are not counted as written");
        return counts.RootElement.GetProperty("written").EnumerateObject().Sum(service => service.Value.GetInt64());
    }

    static long ThrowAway(string folder)
    {
        var lines = 0L;
        foreach (var file in Directory.EnumerateFiles(folder))
        {
            lines += File.ReadLines(file).LongCount();
            File.Delete(file);
        }

        return lines;
    }

    /// <summary>The fullest checkout, because it shows the most; of those that lost something, if something was thrown away.</summary>
    static async Task PrintChainAsync(ITraceStore store, DemoOptions options, Settings settings, CancellationToken cancellationToken)
    {
        var found = await store.FindChainsAsync(new TraceQuery { Service = "payment", HasErrors = false, Complete = options.Lose is null, Limit = 200, FromMicros = options.StartedMicros }, cancellationToken);
        if (found.Count == 0) found = await store.FindChainsAsync(new TraceQuery { Limit = 200 }, cancellationToken);
        var fullest = found.MaxBy(chain => chain.RecordCount) ?? throw new InvalidOperationException("no chain is in the store");
        var chain = ChainBuilder.Build(fullest.TraceId, await store.GetTraceAsync(fullest.TraceId, cancellationToken), CommonOptions.Chains(settings));
        Console.WriteLine($"chain {fullest.TraceId}");
        ChainText.Draw(RebuildCommand.ConsoleOn(Console.Out), chain);
        Console.WriteLine();
        var urls = settings.Values("Elasticsearch:Urls");
        Console.WriteLine($"again: ./logtrace chain {fullest.TraceId} {(urls.Count > 0 ? $"--elasticsearch {urls[0]}" : $"--data {options.Data}")}");
        Console.WriteLine();
    }

    /// <summary>Deletes what an earlier demo left, and nothing else: a folder that no demo made, or that one is running in, is refused.</summary>
    /// <returns>What keeps other demos out for as long as it is open.</returns>
    static FileStream EmptyDirectory(DemoOptions options)
    {
        var marker = Path.Combine(options.Directory, MarkerName);
        var isOurs = File.Exists(marker);
        if (!isOurs && Directory.Exists(options.Directory) && Directory.EnumerateFileSystemEntries(options.Directory).Any())
            throw new SettingsException($"--data {options.Data} has files in it that no demo made; name another directory, or an empty one.");

        Directory.CreateDirectory(options.Directory);
        FileStream hold;
        try
        {
            hold = new FileStream(marker, FileMode.Create, FileAccess.Write, FileShare.None);
        }
        catch (IOException e) when (isOurs)
        {
            throw new SettingsException($"--data {options.Data}: another demo is running there. Stop it, or name another directory with --data (and another viewer port with --port).", e);
        }

        hold.Write("Made by './logtrace demo'; the next demo with this --data deletes the directory.\n"u8);
        hold.Flush();
        foreach (var entry in new DirectoryInfo(options.Directory).EnumerateFileSystemInfos().Where(entry => entry.Name != MarkerName))
        {
            if (entry is DirectoryInfo folder) folder.Delete(recursive: true);
            else entry.Delete();
        }

        return hold;
    }

    static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>The part of the demo between the log files and the store.</summary>
    interface IDemoPipeline : IAsyncDisposable
    {
        /// <summary>Ends only when stopped or failed.</summary>
        Task Running { get; }

        Task WaitUntilCaughtUpAsync(CancellationToken cancellationToken);

        Task<Balance> StopAsync();
    }

    static ShipperOptions Shipper(DemoOptions options, Settings settings) => settings.Section<ShipperOptions>("Shipper") with
    {
        Paths = [Path.Combine(options.Logs, "**", "*.log")],
        Exclude = options.Lose is null ? [] : [Path.Combine(options.Logs, options.Lose, "*")],
        DataDirectory = options.Directory,
    };

    static IndexerOptions Indexer(DemoOptions options, Settings settings) => CommonOptions.Indexer(settings, options.Directory);

    /// <summary>All in this process.</summary>
    sealed class Embedded : IDemoPipeline
    {
        readonly CancellationTokenSource _stop = new();
        readonly EmbeddedPipeline _pipeline;

        public Embedded(DemoOptions options, Settings settings, ITraceStore store, ILoggerFactory logs)
        {
            _pipeline = new EmbeddedPipeline(Shipper(options, settings), Indexer(options, settings), CommonOptions.DeadLetter(options.Directory), store, logs);
            Running = _pipeline.RunAsync(_stop.Token);
        }

        public Task Running { get; }

        public Task WaitUntilCaughtUpAsync(CancellationToken cancellationToken) => _pipeline.WaitUntilCaughtUpAsync(cancellationToken);

        public async Task<Balance> StopAsync()
        {
            await _stop.CancelAsync();
            await Running;
            return Balance.Of(_pipeline.Shipped, _pipeline.Indexed);
        }

        public async ValueTask DisposeAsync()
        {
            await _stop.CancelAsync();
            await Task.WhenAny(Running);
            _pipeline.Dispose();
            _stop.Dispose();
        }
    }

    /// <summary>
    /// Kafka between shipper and indexer. Both are in this process: a child would get Ctrl-C from the terminal at the same moment, and end before the shop has
    /// written its last line.
    /// </summary>
    sealed class Full : IDemoPipeline
    {
        readonly CancellationTokenSource _stop = new();
        readonly CancellationTokenSource _stopShipper = new();
        readonly KafkaOptions _kafka;
        readonly KafkaWriter _writer;
        readonly KafkaReader _reader;
        readonly DeadLetterFile _deadLetter;
        readonly ShipperPipeline _shipper;
        readonly IndexerPipeline _indexer;
        readonly Task _shipping;
        readonly Task _indexing;

        Full(DemoOptions options, Settings settings, KafkaOptions kafka, ITraceStore store, ILoggerFactory logs)
        {
            _kafka = kafka;
            _writer = new KafkaWriter(kafka, logs.CreateLogger<KafkaWriter>().KafkaSays);
            _reader = new KafkaReader(kafka, logs.CreateLogger<KafkaReader>().KafkaSays);
            _deadLetter = CommonOptions.DeadLetter(options.Directory);
            _shipper = new ShipperPipeline(Shipper(options, settings), _writer, logs.CreateLogger<ShipperPipeline>());
            _indexer = new IndexerPipeline(_reader, store, _deadLetter, Indexer(options, settings), logger: logs.CreateLogger<IndexerPipeline>());
            _shipping = _shipper.RunAsync(_stopShipper.Token);
            _indexing = _indexer.RunAsync(_stop.Token);
            Running = Task.WhenAny(_indexing, _shipping).Unwrap();
        }

        public Task Running { get; }

        public static async Task<Full> StartAsync(DemoOptions options, Settings settings, ITraceStore store, ILoggerFactory logs, CancellationToken cancellationToken)
        {
            var kafka = settings.Section<KafkaOptions>("Kafka");
            Settings.Check(kafka.Validate());
            await KafkaTopic.EnsureAsync(kafka, cancellationToken);
            return new Full(options, settings, kafka, store, logs);
        }

        public async Task WaitUntilCaughtUpAsync(CancellationToken cancellationToken)
        {
            await _shipper.WaitUntilCaughtUpAsync(cancellationToken);
            while (_indexer.Metrics.Balance.Consumed < _shipper.Snapshot().Counts.ShippedLines)
            {
                if (Running.IsCompleted) await Running;
                await Task.Delay(50, cancellationToken);
            }

            await _indexer.FlushChainsAsync(cancellationToken);
        }

        public async Task<Balance> StopAsync()
        {
            await _stopShipper.CancelAsync();
            await _shipping;
            await _stop.CancelAsync();
            await _indexing;
            return Balance.Of(_shipper.Snapshot().Counts, _indexer.Metrics.Balance);
        }

        public async ValueTask DisposeAsync()
        {
            await _stopShipper.CancelAsync();
            await _stop.CancelAsync();
            await Task.WhenAll(_shipping, _indexing).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            _shipper.Dispose();
            await _writer.DisposeAsync();
            await _reader.DisposeAsync();
            _deadLetter.Dispose();
            try
            {
                await KafkaTopic.DeleteAsync(_kafka, CancellationToken.None);
            }
            catch (TransportUnavailableException e)
            {
                // What made the demo fail is said elsewhere; this must not take its place.
                Console.Error.WriteLine($"demo: the topic {_kafka.Topic} stays behind: {e.Message}");
            }

            _stopShipper.Dispose();
            _stop.Dispose();
        }
    }
}
