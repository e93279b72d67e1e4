using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Confluent.Kafka;
using LogTrace.EndToEnd.Support;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.EndToEnd.Faults;

/// <summary>
/// Indexers of one group on one store, over a topic that has no keys (every trace's records lie in all partitions): killed, frozen and started again while partitions move between them, left without their
/// store or their dead letter, or told by the store whatever a store may say.
/// </summary>
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
        using var group = new Group(it, url, url, it.Of(4_000, 40_000));
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
            var chains = await group.FinishAsync(instances);
            it.Note($"{it.Log.Written} records, {chains} chains, {rounds} rounds");
        }
        finally
        {
            foreach (var instance in instances) await instance.DisposeAsync();
        }
    }

    /// <summary>
    /// Bulks get 429, 503, 413, an answer that is cut, broken, short of an item or somebody else's, or none; items get 429 and 503 some times and then are taken, or 400 for ever; what came without an
    /// answer comes again and gets 409.
    /// </summary>
    public static async Task BulksSpoiltAsync(FaultCase it)
    {
        var url = await RealEngines.ElasticsearchAsync(RealEngines.Elasticsearches[0]);
        var random = new Random(it.Seed);
        // One of three, each as often as any other.
        BulkFault Fault()
        {
            lock (random) return random.Next(3) > 0 ? BulkFault.None : BulkFaults[random.Next(BulkFaults.Length)];
        }

        (int, string)? Item(int number, int before) => Chance(it.Seed, number, 40) ? (400, "mapper_parsing_exception")
            : Chance(it.Seed + 1, number, 10) && before < 2 ? (before == 0 ? 429 : 503, before == 0 ? "es_rejected_execution_exception" : "unavailable_shards_exception") : null;
        await using var proxy = await BulkProxy.StartAsync(url, Fault, Item);
        using var group = new Group(it, url, proxy.Url, it.Of(2_000, 20_000));
        group.Environment["LOGTRACE__Elasticsearch__BulkBytes"] = $"{it.Of(128, 256) << 10}";
        group.StaySession();
        group.Environment["LOGTRACE__Elasticsearch__Timeout"] = it.Of("00:00:02", "00:00:05");
        ProgramProcess[] instances = [group.Start(0)];
        try
        {
            for (var part = 0; part < 6; part++)
            {
                // In the middle, what a proxy takes is less than what they send.
                proxy.MaxBodyBytes = part is 2 or 3 ? it.Of(40, 100) << 10 : int.MaxValue;
                await group.ProduceAsync(group.Lines * part / 6, group.Lines * (part + 1) / 6, it.Seconds(0.8, 4));
                if (it.IsOurs) NothingIsCommittedBefore(group, number => proxy.HasStored(number));
            }

            proxy.MaxBodyBytes = int.MaxValue;
            if (it.IsOurs)
            {
                await group.CatchUpAsync(instances);
                (await instances[0].StopAsync(TimeSpan.FromSeconds(60))).Should().Be(0, instances[0].Transcript);
                var letters = group.Letters();
                letters.Select(letter => letter.Number).Order().Should().Equal(Enumerable.Range(0, group.Lines).Where(number => Chance(it.Seed, number, 40)), $"what is refused is set aside once, seed {it.Seed}");
                letters.Should().OnlyContain(letter => letter.Reason.StartsWith("the store refused it: mapper_parsing_exception", StringComparison.Ordinal));
            }

            var chains = await group.FinishAsync(instances);
            it.Note($"{proxy.Spoilt} of {proxy.Bulks} bulks spoilt, {proxy.Conflicts:N0} items there already");
            if (it.IsOurs) it.Note($"{chains:N0} chains");
        }
        finally
        {
            foreach (var instance in instances) await instance.DisposeAsync();
        }
    }

    static readonly BulkFault[] BulkFaults =
    [
        BulkFault.ResetBefore, BulkFault.ResetAfter, BulkFault.CutBody, BulkFault.BrokenJson, BulkFault.ProxyPage, BulkFault.ItemMissing, BulkFault.TooMany, BulkFault.Unavailable, BulkFault.Silent,
    ];

    static readonly string[] Refusals = ["mapper_parsing_exception", "illegal_argument_exception", "strict_dynamic_mapping_exception", "document_parsing_exception"];

    /// <summary>The same for each line however often it comes, one of so many.</summary>
    static bool Chance(int seed, int number, int oneOf) => new Random(HashOf(seed, number)).Next(oneOf) == 0;

    // No HashCode: that one differs from process to process.
    static int HashOf(int seed, int number) => unchecked((seed * 486_187_739) + (number * 16_777_619));

    /// <summary>What is committed is in the store or set aside.</summary>
    static void NothingIsCommittedBefore(Group group, Func<int, bool> isStored)
    {
        // In this order: what is settled after the look at what is committed does no harm.
        var committed = group.Committed();
        var aside = group.Letters().Select(letter => letter.Number).ToHashSet();
        committed.Where(number => !isStored(number) && !aside.Contains(number)).Should().BeEmpty("nothing is committed before it is settled");
    }

    /// <summary>The store refuses every record, for reasons of several kinds.</summary>
    public static async Task AllRefusedAsync(FaultCase it)
    {
        var url = await RealEngines.ElasticsearchAsync(RealEngines.Elasticsearches[0]);
        string Refusal(int number) => Refusals[(uint)HashOf(it.Seed, number) % Refusals.Length];
        await using var proxy = await BulkProxy.StartAsync(url, item: (number, _) => (400, Refusal(number)));
        using var group = new Group(it, url, proxy.Url, it.Of(2_000, 20_000));
        group.Environment["LOGTRACE__Elasticsearch__BulkBytes"] = $"{it.Random.Next(8, 1_024) << 10}";
        group.StaySession();
        ProgramProcess[] instances = [.. Enumerable.Range(0, it.Random.Next(1, 3)).Select(instance => group.Start(instance))];
        try
        {
            // What is read while partitions still move is another's to read again.
            await Eventually.HoldsAsync(() => group.Members().Count(member => member.Contains('/', StringComparison.Ordinal)) == instances.Length, "all have partitions", Deadline);
            await group.ProduceAsync(0, group.Lines, it.Seconds(2, 10));
            await group.CatchUpAsync(instances);
            foreach (var instance in instances) (await instance.StopAsync(TimeSpan.FromSeconds(60))).Should().Be(0, instance.Transcript);
            var letters = group.Letters();
            letters.Select(letter => (letter.Number, letter.Reason.Split(':', 3)[1].Trim())).OrderBy(letter => letter.Number).Should().Equal(Enumerable.Range(0, group.Lines).Select(number => (number, Refusal(number))), $"each is set aside once, with its reason, seed {it.Seed}");
            proxy.MostAttempts.Should().Be(1, "none is asked for again");
            await group.FinishAsync(instances);
            it.Note($"{proxy.Bulks} bulks, {instances.Length} indexers");
        }
        finally
        {
            foreach (var instance in instances) await instance.DisposeAsync();
        }
    }

    /// <summary>The dead letter's disk is full or its topic takes nothing, again and again, between kills, while every third line or so is no record.</summary>
    public static async Task DeadLetterAwayAsync(FaultCase it)
    {
        var mock = ((MockBroker)it.Broker).Kafka;
        using var group = new Group(it, null, null, it.Of(1_200, 12_000)) { BrokenOneOf = it.Random.Next(3, 30) };
        using var disk = SmallDisk.IsPossible ? new SmallDisk(it.Of(512, 4_096)) : null;
        Directory.CreateDirectory(it.Folder["indexer0"]);
        if (disk is not null) Directory.CreateSymbolicLink(Path.Combine(it.Folder["indexer0"], "indexer"), disk.Path);
        var (rounds, full, refused) = (it.Of(3, 12), 0, 0);
        for (var round = 0; round < rounds; round++)
        {
            // While no indexer runs: what the broker refuses is to be the dead letter's and not this producer's.
            await group.ProduceAsync(group.Lines * round / rounds, group.Lines * (round + 1) / rounds, TimeSpan.Zero);
            group.Flush();
            var isFull = disk is not null && it.Random.Next(3) > 0;
            var isRefused = !isFull || it.Random.Next(4) == 0;
            if (isFull) disk!.Fill();
            if (isRefused) mock.RefuseProduce([.. Enumerable.Repeat(it.Random.Next(2) == 0 ? ErrorCode.TopicAuthorizationFailed : ErrorCode.InvalidRequiredAcks, 10_000)]);
            (full, refused) = (full + (isFull ? 1 : 0), refused + (isRefused ? 1 : 0));
            await using var indexer = group.Start(0);
            await Eventually.HoldsAsync(() => indexer.Errors.Contains("dead letter", StringComparison.Ordinal) || indexer.HasExited, $"it says that the dead letter takes nothing, seed {it.Seed}: {indexer.Transcript}", Deadline);
            await Task.Delay(it.Between(0.2, 1.5));
            indexer.HasExited.Should().BeFalse($"it waits, seed {it.Seed}: {indexer.Transcript}");
            BrokenAreNotCommitted(group, it);
            if (it.Random.Next(3) == 0)
            {
                // Killed while it waits; what it could not set aside comes again.
                await indexer.KillAsync();
                Free();
                continue;
            }

            Free();
            if (it.Random.Next(2) == 0) await group.CatchUpAsync([indexer]);
            else await Task.Delay(it.Between(0, 1.5));
            await indexer.KillAsync();
        }

        await group.FinishAsync([]);
        it.Note($"{rounds} rounds, disk full {full} times, topic refusing {refused} times");

        void Free()
        {
            disk?.Free();
            mock.AcceptProduce();
        }
    }

    /// <summary>A line that is no record is committed only when it is both in the file and in the topic.</summary>
    static void BrokenAreNotCommitted(Group group, FaultCase it)
    {
        var committed = group.Committed().Where(group.IsBroken).ToHashSet();
        committed.ExceptWith(group.Letters().Select(letter => letter.Number).Intersect(group.DeadMessages()));
        committed.Should().BeEmpty($"nothing is committed that could not be set aside, seed {it.Seed}");
    }

    /// <summary>The store is away for three times as long as Kafka lets a member of the group be busy without asking for more.</summary>
    public static Task StoreAwayAsync(FaultCase it) => StoreAwayAsync(it, it.Seconds(6, 20), it.Seconds(12, 60), it.Of(5_000, 60_000));

    /// <summary>With the poll interval that is in force where nobody sets it.</summary>
    public static Task StoreAwayLongAsync(FaultCase it) => StoreAwayAsync(it, it.IsShort ? Session : null, it.Seconds(12, 15 * 60), it.Of(5_000, 200_000));

    static async Task StoreAwayAsync(FaultCase it, TimeSpan? pollInterval, TimeSpan away, int lines)
    {
        await using var server = await RealEngines.StartOwnAsync("elasticsearch7");
        using var group = new Group(it, server.Address, server.Address, lines);
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
            var chains = await group.FinishAsync(instances);
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
        readonly string? _url, _server;
        readonly string[] _lines;
        readonly List<int> _order;
        readonly KafkaOptions _kafka;
        readonly int _partitions;
        readonly IProducer<Null, byte[]> _producer;
        readonly IAdminClient _admin;
        readonly RsyslogIndexer? _rsyslog;
        readonly ConcurrentDictionary<int, TopicPartitionOffset> _places = new();
        readonly SourceFile _source = new("host", 1, "/var/log/app.log");

        /// <param name="it">The case.</param>
        /// <param name="url">The store; null for the embedded one of the first indexer.</param>
        /// <param name="server">The same as the indexers are told it, which may be something that stands before it.</param>
        /// <param name="lines">How many.</param>
        public Group(FaultCase it, string? url, string? server, int lines)
        {
            (_case, _url, _server) = (it, url, server);
            Prefix = "f" + it.Topic.Replace("-", "", StringComparison.Ordinal)[..20];
            Environment = new()
            {
                ["LOGTRACE__Kafka__SessionTimeout"] = Session.ToString(),
                ["LOGTRACE__Indexer__StaleCheckEvery"] = "00:00:05",
            };
            if (url is not null) Environment["LOGTRACE__Elasticsearch__IndexPrefix"] = Prefix;
            _lines = it.Log.Take(lines).Split('\n', StringSplitOptions.RemoveEmptyEntries);
            _order = [.. Enumerable.Range(0, lines).OrderBy(i => i + it.Random.Next(200))];
            _kafka = new KafkaOptions { Brokers = it.Broker.Address, Topic = it.Topic, Group = it.Topic };
            _partitions = TopicContent.Partitions(it.Broker.Address, it.Topic).Count;
            _producer = new ProducerBuilder<Null, byte[]>(new ProducerConfig { BootstrapServers = it.Broker.Address, Acks = Acks.All, EnableIdempotence = true }).SetLogHandler((_, _) => { }).Build();
            _admin = new AdminClientBuilder([new("bootstrap.servers", it.Broker.Address)]).SetLogHandler((_, _) => { }).Build();
            if (!it.IsOurs) _rsyslog = new RsyslogIndexer(it, url!, Prefix + RsyslogIndexer.IndexEnding);
        }

        /// <summary>Of the index names.</summary>
        public string Prefix { get; }

        /// <summary>Of the indexers.</summary>
        public Dictionary<string, string> Environment { get; }

        /// <summary>For rows where nobody dies: on a machine that has more to do than it can, nobody is taken for dead either.</summary>
        public void StaySession() => Environment["LOGTRACE__Kafka__SessionTimeout"] = "00:00:45";

        public int Lines => _lines.Length;

        /// <summary>One of so many lines is no record; 0 for none.</summary>
        public int BrokenOneOf { get; init; }

        public bool IsBroken(int number) => BrokenOneOf > 0 && Chance(_case.Seed, number, BrokenOneOf);

        public ProgramProcess Start(int instance, params string[] more) => _rsyslog is not null
            ? _rsyslog.Start(instance, _server!, Session)
            : ProgramProcess.StartIndexerWith(Environment,
            [
                "index", "--kafka", _case.Broker.Address, "--topic", _case.Topic, "--group", _case.Topic, .. _server is null ? Array.Empty<string>() : ["--elasticsearch", _server], "--data", _case.Folder[$"indexer{instance}"], .. more,
            ]);

        public async Task ProduceAsync(int from, int to, TimeSpan over)
        {
            var parts = _order.GetRange(from, to - from).Chunk(100).ToList();
            foreach (var part in parts)
            {
                foreach (var i in part)
                    _producer.Produce(new TopicPartition(_case.Topic, _case.Random.Next(_partitions)), new Message<Null, byte[]> { Value = Line(i), Headers = HeadersOf(i) }, report => _places[i] = report.TopicPartitionOffset);
                await Task.Delay(over / parts.Count * _case.Random.NextDouble() * 2);
            }
        }

        /// <summary>A line as it was generated, or with something that makes it no record: it still carries its number.</summary>
        byte[] Line(int number) => !IsBroken(number) ? Encoding.UTF8.GetBytes(_lines[number]) : (number % 3) switch
        {
            0 => Encoding.UTF8.GetBytes($"no JSON at all, \"param\":\"{number}\""),
            1 => [0xff, 0xfe, .. Encoding.UTF8.GetBytes(_lines[number])],
            _ => Encoding.UTF8.GetBytes(_lines[number].Replace("\"rpc_id\":\"1.", "\"rpc_id\":\"1..", StringComparison.Ordinal)),
        };

        // Of another shipper, so that a line is known by its place in the topic; the mock broker's topics have no identity to know it by, there they are ours.
        Headers? HeadersOf(int number) => _case.Broker.IsReal ? null : new Headers { { RecordHeader.Name, RecordHeader.Write(_source, number * 1_000L) } };

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

        /// <summary>Numbers of the lines that the group has committed.</summary>
        public IReadOnlyList<int> Committed()
        {
            using var consumer = new ConsumerBuilder<Ignore, Ignore>([new("bootstrap.servers", _kafka.Brokers), new("group.id", _kafka.Group)]).SetLogHandler((_, _) => { }).Build();
            var committed = consumer.Committed(Enumerable.Range(0, _partitions).Select(partition => new TopicPartition(_kafka.Topic, partition)), Deadline)
                .ToDictionary(it => it.Partition, it => it.Offset.IsSpecial ? 0 : it.Offset.Value);
            return [.. _places.Where(place => place.Value.Offset.Value < committed[place.Value.Partition]).Select(place => place.Key)];
        }

        /// <summary>What is in the dead letters of the indexers, those lines only that are whole.</summary>
        public IReadOnlyList<(int Number, string Reason)> Letters()
        {
            var letters = new List<(int, string)>();
            for (var instance = 0; instance < 2; instance++)
            {
                var path = Path.Combine(_case.Folder[$"indexer{instance}"], "indexer", "dead-letter.jsonl");
                if (!File.Exists(path)) continue;
                using var file = new StreamReader(new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete));
                var text = file.ReadToEnd();
                foreach (var line in text[..(text.LastIndexOf('\n') + 1)].Split('\n', StringSplitOptions.RemoveEmptyEntries))
                {
                    using var letter = JsonDocument.Parse(line);
                    var bytes = letter.RootElement.TryGetProperty("line", out var plain) ? Encoding.UTF8.GetBytes(plain.GetString()!) : letter.RootElement.GetProperty("line_base64").GetBytesFromBase64();
                    var number = NumberOf(bytes);
                    bytes.Should().Equal(Line(number), "it is there byte by byte");
                    letters.Add((number, letter.RootElement.GetProperty("reason").GetString()!));
                }
            }

            return letters;
        }

        /// <summary>Numbers of the lines in the topic of what is set aside.</summary>
        public IReadOnlySet<int> DeadMessages() => TopicContent.Read(_kafka.Brokers, _kafka.DeadTopic).Select(message => NumberOf(message.Value)).ToHashSet();

        static int NumberOf(byte[] line) => int.Parse(System.Text.RegularExpressions.Regex.Match(Encoding.Latin1.GetString(line), "\"param\":\"(\\d+)\"").Groups[1].Value, CultureInfo.InvariantCulture);

        /// <summary>Who is in the group, each with its partitions.</summary>
        public IReadOnlyList<string> Members()
        {
            var group = _admin.DescribeConsumerGroupsAsync([_case.Topic]).GetAwaiter().GetResult().ConsumerGroupDescriptions.Single();
            return [.. group.Members.Select(member => $"{member.ConsumerId}: {string.Join(' ', member.Assignment.TopicPartitions.Select(it => $"/{it.Partition.Value}").Order(StringComparer.Ordinal))}").Order(StringComparer.Ordinal)];
        }

        /// <summary>Stores what is left and holds the store against what was produced; gives how many chains there are.</summary>
        public async Task<int> FinishAsync(ProgramProcess[] instances)
        {
            Flush();
            if (_rsyslog is not null)
            {
                _case.Judge(await _rsyslog.FinishAsync(instances, Lines));
                return 0;
            }

            foreach (var instance in instances) await instance.DisposeAsync();
            await using var last = Start(0, "--once");
            (await last.ExitCodeAsync(Deadline)).Should().Be(0, $"seed {_case.Seed}: {last.Transcript}");
            var because = $"seed {_case.Seed}: {last.Transcript}";
            if (_url is null)
            {
                await using var embedded = new SqliteTraceStore(new SqliteStoreOptions { Directory = Path.Combine(_case.Folder["indexer0"], "store"), ReadOnly = true });
                return await HoldsAsync(embedded, because);
            }

            await using var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [_url], IndexPrefix = Prefix, ReadOnly = true });
            var chains = await HoldsAsync(store, because);
            await ElasticsearchIndices.DeleteAsync(_url, Prefix);
            return chains;
        }

        /// <summary>Every line is stored once or set aside, and every chain document is what the stored records make.</summary>
        async Task<int> HoldsAsync(ITraceStore store, string because)
        {
            var aside = Letters().Select(letter => letter.Number).ToHashSet();
            if (BrokenOneOf > 0) aside.Order().Should().Equal(DeadMessages().Order(), $"file and topic have the same, {because}").And.Equal(Enumerable.Range(0, Lines).Where(IsBroken), because);
            var numbers = new List<int>();
            var chains = 0;
            foreach (var traceIds in _case.Log.TraceIds.Chunk(100))
            {
                foreach (var (traceId, records) in await store.GetTracesAsync(traceIds, CancellationToken.None))
                {
                    if (records.Count == 0) continue;
                    numbers.AddRange(records.Select(record => int.Parse(record.Record.Param!, CultureInfo.InvariantCulture)));
                    var expected = ChainDocuments.From(ChainBuilder.Build(traceId, records, ChainOptions.Default));
                    (await store.GetChainAsync(traceId, CancellationToken.None)).Should().BeEquivalentTo(expected, $"its chain is what its records make, {because}");
                    chains++;
                }
            }

            var distinct = numbers.ToHashSet();
            _case.Judge(new FaultFigures(Lines, Enumerable.Range(0, Lines).Count(number => !distinct.Contains(number) && !aside.Contains(number)), numbers.Count - distinct.Count, null, aside.Count));
            distinct.Should().NotIntersectWith(aside, $"what is set aside is not stored, {because}");
            (await store.CountAsync(CancellationToken.None)).Should().Be(new StoreCounts(numbers.Count, chains), because);
            return chains;
        }

        public void Dispose()
        {
            _producer.Dispose();
            _admin.Dispose();
        }
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
