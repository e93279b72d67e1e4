using System.Globalization;
using System.Text;
using Confluent.Kafka;
using LogTrace.EndToEnd.Support;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>Two indexers of one group on one Elasticsearch, killed, frozen and started again while partitions move between them, over a topic that has no keys: every trace's records lie in all partitions.</summary>
static class IndexerFaults
{
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(4);

    public static Task KilledAsync(FaultCase it) => RunAsync(it, async (instance, _) =>
    {
        await instance.KillAsync();
        return null;
    });

    public static Task FrozenAsync(FaultCase it) => RunAsync(it, async (instance, random) =>
    {
        // Beyond its session: its partitions are another's before it wakes and goes on with what it had in hand.
        instance.Freeze();
        await Task.Delay(Session + TimeSpan.FromSeconds(1 + random.NextDouble()));
        instance.Thaw();
        return instance;
    });

    static readonly TimeSpan Session = TimeSpan.FromSeconds(6);

    static async Task RunAsync(FaultCase it, Func<ProgramProcess, Random, Task<ProgramProcess?>> hitAsync)
    {
        var url = await RealEngines.ElasticsearchAsync(RealEngines.Elasticsearches[0]);
        var prefix = "f" + it.Topic.Replace("-", "", StringComparison.Ordinal)[..20];
        var environment = new Dictionary<string, string>
        {
            ["LOGTRACE__Elasticsearch__IndexPrefix"] = prefix,
            ["LOGTRACE__Kafka__SessionTimeout"] = Session.ToString(),
            ["LOGTRACE__Indexer__StaleCheckEvery"] = "00:00:05",
        };
        ProgramProcess Start(int instance, params string[] more) =>
            ProgramProcess.StartIndexerWith(environment, ["index", "--kafka", it.Broker.Address, "--topic", it.Topic, "--group", it.Topic, "--elasticsearch", url, "--data", it.Folder[$"indexer{instance}"], .. more]);

        var lines = it.Log.Take(it.Of(4_000, 40_000)).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        var rounds = it.Of(3, 12);
        var instances = new[] { Start(0), Start(1) };
        try
        {
            using var producer = new ProducerBuilder<Null, byte[]>(new ProducerConfig { BootstrapServers = it.Broker.Address, Acks = Acks.All, EnableIdempotence = true }).SetLogHandler((_, _) => { }).Build();
            var partitions = TopicContent.Partitions(it.Broker.Address, it.Topic).Count;

            // Each line near its place, so that a trace comes over some time and out of order, in all partitions.
            var order = Enumerable.Range(0, lines.Length).OrderBy(i => i + it.Random.Next(200)).ToList();
            for (var round = 0; round < rounds; round++)
            {
                var part = order.Skip(lines.Length * round / rounds).Take((lines.Length * (round + 1) / rounds) - (lines.Length * round / rounds)).Chunk(100).ToList();
                foreach (var some in part)
                {
                    foreach (var i in some) producer.Produce(new TopicPartition(it.Topic, it.Random.Next(partitions)), new Message<Null, byte[]> { Value = Encoding.UTF8.GetBytes(lines[i]) });
                    await Task.Delay(it.Seconds(2.5, 8) / part.Count * it.Random.NextDouble() * 2);
                }

                var hit = it.Random.Next(2);
                var left = await hitAsync(instances[hit], it.Random);
                if (left is not null) continue;
                await Task.Delay(it.Between(0, 2));
                await instances[hit].DisposeAsync();
                instances[hit] = Start(hit);
            }

            producer.Flush(Deadline);
        }
        finally
        {
            foreach (var instance in instances) await instance.DisposeAsync();
        }

        await using var last = Start(0, "--once");
        (await last.ExitCodeAsync(Deadline)).Should().Be(0, $"seed {it.Seed}: {last.Transcript}");
        await using var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [url], IndexPrefix = prefix, ReadOnly = true });
        var chains = await HoldsAsync(store, it.Log, $"seed {it.Seed}: {last.Transcript}");
        it.Note($"{it.Log.Written} records, {chains} chains, {rounds} rounds");
        await ElasticsearchIndices.DeleteAsync(url, prefix);
    }

    /// <summary>Every line is stored once, and every chain document is what the stored records make.</summary>
    static async Task<int> HoldsAsync(ElasticsearchTraceStore store, GeneratedLog log, string because)
    {
        var numbers = new List<int>();
        var chains = 0;
        foreach (var traceIds in log.TraceIds.Chunk(100))
        {
            foreach (var (traceId, records) in await store.GetTracesAsync(traceIds, CancellationToken.None))
            {
                numbers.AddRange(records.Select(record => int.Parse(record.Record.Param!, CultureInfo.InvariantCulture)));
                var expected = ChainDocuments.From(ChainBuilder.Build(traceId, records, ChainOptions.Default));
                (await store.GetChainAsync(traceId, CancellationToken.None)).Should().BeEquivalentTo(expected, $"its chain is what its records make, {because}");
                chains++;
            }
        }

        numbers.Order().Should().Equal(Enumerable.Range(0, log.Written), $"each record is there once, {because}");
        (await store.CountAsync(CancellationToken.None)).Should().Be(new StoreCounts(log.Written, chains), because);
        return chains;
    }
}

/// <summary>A broker that others use, too.</summary>
sealed class SharedBroker(string address) : FaultBroker
{
    public override string Address => address;

    public override bool IsReal => true;

    public override Task CreateTopicAsync(string topic) => LogTrace.Transport.KafkaTopic.EnsureAsync(new LogTrace.Transport.KafkaOptions { Brokers = address, Topic = topic, Partitions = 3 });

    public override Task GoDownAsync() => throw new NotSupportedException();

    public override Task ComeBackAsync() => throw new NotSupportedException();

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
