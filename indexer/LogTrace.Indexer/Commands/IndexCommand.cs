using System.CommandLine;
using LogTrace.Indexer.Viewer;
using LogTrace.Shipper;
using LogTrace.Transport;

namespace LogTrace.Indexer.Commands;

/// <summary><c>index</c>: Kafka to the store, with chains and viewer.</summary>
static class IndexCommand
{
    public static Command Create()
    {
        var kafka = CommonOptions.Kafka();
        var topic = new Option<string?>("--topic") { HelpName = "NAME", Description = "topic to read; default logtrace.records" };
        var group = new Option<string?>("--group") { HelpName = "NAME", Description = "consumer group; default logtrace-indexer" };
        var data = CommonOptions.Data();
        var elasticsearch = CommonOptions.Elasticsearch();
        var port = new Option<int?>("--port") { HelpName = "N", Description = "serve the viewer on this port of 127.0.0.1, 0 for a free one; without it there is no viewer" };
        CommonOptions.MustBeWithin(port, 0, 65_535);
        var listen = CommonOptions.Listen(9471);
        var once = new Option<bool>("--once") { Description = "end when all that is in the topic is stored; print the balance, exit 0 only if it balances" };
        var config = CommonOptions.Config();
        var command = new Command("index", "Reads records from Kafka, stores each once, and builds the chains.") { kafka, topic, group, elasticsearch, data, port, listen, once, config };
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            var settings = Settings.Load(parsed.GetValue(config), CommonOptions.ConfigurationFile,
            [
                new("Kafka:Brokers", parsed.GetValue(kafka)), new("Kafka:Topic", parsed.GetValue(topic)), new("Kafka:Group", parsed.GetValue(group)),
                new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch)), new("Indexer:Listen", parsed.GetValue(listen)),
            ]);
            var kafkaOptions = settings.Section<KafkaOptions>("Kafka");
            var directory = CommonOptions.DataDirectory(parsed, data, settings);
            var indexer = CommonOptions.Indexer(settings, directory);
            Settings.Check(kafkaOptions.Validate(), indexer.Validate());
            return await RunAsync(kafkaOptions, indexer, directory, settings, parsed.GetValue(port), parsed.GetValue(once), stop);
        }, endsByStop: !parsed.GetValue(once)));
        return command;
    }

    static async Task<int> RunAsync(KafkaOptions kafka, IndexerOptions options, string data, Settings settings, int? port, bool once, CancellationToken stop)
    {
        using var logs = CommonOptions.Logs();
        await using var store = CommonOptions.Store(settings, data, logs);
        await using var reader = new KafkaReader(kafka, logs.CreateLogger<KafkaReader>().KafkaSays);
        using var deadTopic = kafka.DeadTopic.Length > 0 ? new DeadLetterTopic(kafka) : null;
        using var deadLetter = CommonOptions.DeadLetter(data, deadTopic);
        var indexer = new IndexerPipeline(reader, store, deadLetter, options, logger: logs.CreateLogger<IndexerPipeline>());
        var pages = new IndexerStatus(indexer, store) { Kafka = (reader, kafka) };

        // Before anything is waited for: whoever asks is told what.
        using var status = options.Listen is { } address ? StatusEndpoint.Start(address, "Indexer:Listen", pages.PageAsync, logs.CreateLogger<StatusEndpoint>()) : null;
        await store.OpenAsync(stop);
        await KafkaTopic.WaitUntilThereAsync(kafka, message => IndexerLog.Unavailable(logs.CreateLogger<KafkaReader>(), "transport", message), stop);
        await using var viewer = port is { } viewerPort ? await ViewerHost.StartAsync(store, viewerPort, options.Chains, logs, stop) : null;
        if (viewer is not null) Console.WriteLine($"viewer at {viewer.Url}");
        if (!once)
        {
            await indexer.RunAsync(stop);
            return 0;
        }

        using var enough = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var running = indexer.RunAsync(enough.Token);
        try
        {
            await WaitUntilCaughtUpAsync(kafka, indexer, running, stop);
        }
        finally
        {
            // Reader and store are closed after this, whatever became of the waiting.
            await enough.CancelAsync();
            await running;
        }

        var balance = Balance.Of(null, indexer.Metrics.Balance);
        balance.WriteTo(Console.Out);
        return balance.Holds && !stop.IsCancellationRequested ? 0 : 1;
    }

    /// <summary>Returns when the group has committed all that is in the topic, and the chains are written. Another member of the group may do part of it.</summary>
    static async Task WaitUntilCaughtUpAsync(KafkaOptions kafka, IndexerPipeline indexer, Task running, CancellationToken stop)
    {
        while (!running.IsCompleted)
        {
            try
            {
                if (await KafkaTopic.LagAsync(kafka, stop) == 0) break;
            }
            catch (TransportUnavailableException)
            {
                // The reader waits for the same broker, and says so.
            }

            await Task.WhenAny(running, Task.Delay(TimeSpan.FromMilliseconds(500), stop));
        }

        if (!running.IsCompleted) await indexer.FlushChainsAsync(stop);
    }
}
