using System.Diagnostics;
using System.Globalization;
using System.Text;
using Confluent.Kafka;
using LogTrace.EndToEnd.Support;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.EndToEnd.Faults;

/// <summary>Two indexers of one group on one Elasticsearch, over a topic that has no keys (every trace's records lie in all partitions): killed, frozen and started again while partitions move between them, or left without their store.</summary>
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
        using var group = new Group(it, url, it.Of(4_000, 40_000));
        var rounds = it.Of(3, 12);
        var instances = new[] { group.Start(0), group.Start(1) };
        try
        {
            for (var round = 0; round < rounds; round++)
            {
                await group.ProduceAsync(group.Lines * round / rounds, group.Lines * (round + 1) / rounds, it.Seconds(2.5, 8));
                var hit = it.Random.Next(2);
                var left = await hitAsync(instances[hit], it.Random);
                if (left is not null) continue;
                await Task.Delay(it.Between(0, 2));
                await instances[hit].DisposeAsync();
                instances[hit] = group.Start(hit);
            }

            group.Flush();
        }
        finally
        {
            foreach (var instance in instances) await instance.DisposeAsync();
        }

        var chains = await group.FinishAsync();
        it.Note($"{it.Log.Written} records, {chains} chains, {rounds} rounds");
        await ElasticsearchIndices.DeleteAsync(url, group.Prefix);
    }

    /// <summary>The store is away for three times as long as Kafka lets a member of the group be busy without asking for more.</summary>
    public static Task StoreAwayAsync(FaultCase it) => StoreAwayAsync(it, it.Seconds(6, 20), it.Seconds(12, 60), it.Of(5_000, 60_000));

    /// <summary>With the poll interval that is in force where nobody sets it.</summary>
    public static Task StoreAwayLongAsync(FaultCase it) => StoreAwayAsync(it, it.IsShort ? Session : null, it.Seconds(12, 15 * 60), it.Of(5_000, 200_000));

    static async Task StoreAwayAsync(FaultCase it, TimeSpan? pollInterval, TimeSpan away, int lines)
    {
        await using var server = await RealEngines.StartOwnAsync("elasticsearch7");
        using var group = new Group(it, server.Address, lines);
        if (pollInterval is { } interval) group.Environment["LOGTRACE__Kafka__Properties__max.poll.interval.ms"] = interval.TotalMilliseconds.ToString("F0", CultureInfo.InvariantCulture);
        // Little fits into a batch in the short form, so that here, too, there is more than they may hold and they have to pause.
        if (it.IsShort)
        {
            group.Environment["LOGTRACE__Kafka__ReadBatchBytes"] = "65536";
            group.Environment["LOGTRACE__Indexer__RetryMax"] = "00:00:01";
        }

        var isKilled = it.Random.Next(2) == 0;
        ProgramProcess[] instances = [group.Start(0), group.Start(1)];
        try
        {
            await group.ProduceAsync(0, lines / 10, it.Seconds(1, 5));
            await group.CatchUpAsync(instances);
            await Eventually.HoldsAsync(() => group.Members().Count(member => member.Contains('/', StringComparison.Ordinal)) == instances.Length, "both have partitions", Deadline);
            var members = group.Members();

            var watch = Stopwatch.StartNew();
            if (isKilled) await server.KillAsync();
            else await server.PauseAsync();
            for (var part = 1; watch.Elapsed < away || part < 9; part++)
            {
                if (part < 9) await group.ProduceAsync(lines * part / 10, lines * (part + 1) / 10, away / 16);
                else await Task.Delay(TimeSpan.FromSeconds(1));
                // Who is thrown out comes back under another name.
                group.Members().Should().Equal(members, $"the group stays as it was with the store away for {watch.Elapsed.TotalSeconds:F0} s, seed {it.Seed}: {Transcript(instances)}");
            }

            if (isKilled) await server.StartAgainAsync();
            else await server.ResumeAsync();
            watch.Restart();
            await group.ProduceAsync(lines * 9 / 10, lines, it.Seconds(0.5, 2));
            await group.CatchUpAsync(instances);
            var took = watch.Elapsed;
            group.Members().Should().Equal(members, $"nobody was thrown out, seed {it.Seed}: {Transcript(instances)}");
            var memory = instances.Max(instance => instance.PeakMegabytes());
            foreach (var instance in instances) (await instance.StopAsync(TimeSpan.FromSeconds(30))).Should().Be(0, instance.Transcript);
            var chains = await group.FinishAsync();
            it.Note($"{it.Log.Written:N0} records, {chains:N0} chains, store {(isKilled ? "killed" : "hung")} for {away.TotalSeconds:F0} s, all stored {took.TotalSeconds:F1} s after it was back, {memory:F0} MB");
        }
        finally
        {
            foreach (var instance in instances) await instance.DisposeAsync();
        }
    }

    static string Transcript(ProgramProcess[] instances) => string.Join('\n', instances.Select(instance => instance.Transcript));

    /// <summary>Indexers of one group, and the lines that they are given: each near its place, so that a trace comes over some time and out of order, in all partitions.</summary>
    sealed class Group : IDisposable
    {
        readonly FaultCase _case;
        readonly string _url;
        readonly string[] _lines;
        readonly List<int> _order;
        readonly KafkaOptions _kafka;
        readonly int _partitions;
        readonly IProducer<Null, byte[]> _producer;
        readonly IAdminClient _admin;

        public Group(FaultCase it, string url, int lines)
        {
            (_case, _url) = (it, url);
            Prefix = "f" + it.Topic.Replace("-", "", StringComparison.Ordinal)[..20];
            Environment = new()
            {
                ["LOGTRACE__Elasticsearch__IndexPrefix"] = Prefix,
                ["LOGTRACE__Kafka__SessionTimeout"] = Session.ToString(),
                ["LOGTRACE__Indexer__StaleCheckEvery"] = "00:00:05",
            };
            _lines = it.Log.Take(lines).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            _order = [.. Enumerable.Range(0, lines).OrderBy(i => i + it.Random.Next(200))];
            _kafka = new KafkaOptions { Brokers = it.Broker.Address, Topic = it.Topic, Group = it.Topic };
            _partitions = TopicContent.Partitions(it.Broker.Address, it.Topic).Count;
            _producer = new ProducerBuilder<Null, byte[]>(new ProducerConfig { BootstrapServers = it.Broker.Address, Acks = Acks.All, EnableIdempotence = true }).SetLogHandler((_, _) => { }).Build();
            _admin = new AdminClientBuilder([new("bootstrap.servers", it.Broker.Address)]).SetLogHandler((_, _) => { }).Build();
        }

        /// <summary>Of the index names.</summary>
        public string Prefix { get; }

        /// <summary>Of the indexers.</summary>
        public Dictionary<string, string> Environment { get; }

        public int Lines => _lines.Length;

        public ProgramProcess Start(int instance, params string[] more) =>
            ProgramProcess.StartIndexerWith(Environment, ["index", "--kafka", _case.Broker.Address, "--topic", _case.Topic, "--group", _case.Topic, "--elasticsearch", _url, "--data", _case.Folder[$"indexer{instance}"], .. more]);

        public async Task ProduceAsync(int from, int to, TimeSpan over)
        {
            var parts = _order.GetRange(from, to - from).Chunk(100).ToList();
            foreach (var part in parts)
            {
                foreach (var i in part) _producer.Produce(new TopicPartition(_case.Topic, _case.Random.Next(_partitions)), new Message<Null, byte[]> { Value = Encoding.UTF8.GetBytes(_lines[i]) });
                await Task.Delay(over / parts.Count * _case.Random.NextDouble() * 2);
            }
        }

        public void Flush() => _producer.Flush(Deadline);

        /// <summary>Waits until all that was produced is committed.</summary>
        public async Task CatchUpAsync(ProgramProcess[] instances)
        {
            Flush();
            for (var watch = Stopwatch.StartNew(); await KafkaTopic.LagAsync(_kafka, CancellationToken.None) != 0; await Task.Delay(100))
            {
                if (watch.Elapsed > Deadline || instances.Any(instance => instance.HasExited)) throw new TimeoutException($"Not all is committed, seed {_case.Seed}: {Transcript(instances)}");
            }
        }

        /// <summary>Who is in the group, each with its partitions.</summary>
        public IReadOnlyList<string> Members()
        {
            var group = _admin.DescribeConsumerGroupsAsync([_case.Topic]).GetAwaiter().GetResult().ConsumerGroupDescriptions.Single();
            return [.. group.Members.Select(member => $"{member.ConsumerId}: {string.Join(' ', member.Assignment.TopicPartitions.Select(it => $"/{it.Partition.Value}").Order(StringComparer.Ordinal))}").Order(StringComparer.Ordinal)];
        }

        /// <summary>Stores what is left and holds the store against what was produced; gives how many chains there are.</summary>
        public async Task<int> FinishAsync()
        {
            await using var last = Start(0, "--once");
            (await last.ExitCodeAsync(Deadline)).Should().Be(0, $"seed {_case.Seed}: {last.Transcript}");
            await using var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [_url], IndexPrefix = Prefix, ReadOnly = true });
            return await HoldsAsync(store, _case.Log, $"seed {_case.Seed}: {last.Transcript}");
        }

        public void Dispose()
        {
            _producer.Dispose();
            _admin.Dispose();
        }
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

    public override Task CreateTopicAsync(string topic) => KafkaTopic.EnsureAsync(new KafkaOptions { Brokers = address, Topic = topic, Partitions = 3 });

    public override Task GoDownAsync() => throw new NotSupportedException();

    public override Task ComeBackAsync() => throw new NotSupportedException();

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
