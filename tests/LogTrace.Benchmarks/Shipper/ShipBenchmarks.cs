using System.Diagnostics;
using System.Globalization;
using Confluent.Kafka;
using LogTrace.Transport;

namespace LogTrace.Benchmarks.Shipper;

/// <summary>How much is shipped and how often.</summary>
sealed record ShipEffort(int SmallLines, int LargeLines, int Rounds, TimeSpan Idle)
{
    public static readonly ShipEffort Full = new(1_000_000, 300_000, 5, TimeSpan.FromSeconds(30));
    public static readonly ShipEffort Quick = new(100_000, 30_000, 1, TimeSpan.FromSeconds(5));
}

/// <summary>
/// Files to a real Kafka with three partitions: <c>./logtrace ship</c> with all it does (checkpoints, key, header with the source) against rsyslog, the fastest
/// shipper that Debian has, and kcat, which parses nothing, keeps no state, and gets the keys and a header of the same size given. All idempotent, acks=all, lz4.
/// </summary>
sealed class ShipBenchmarks(ShipEffort effort, string kafka, string root)
{
    // Of Kafka's own client library, the same for rsyslog and kcat.
    static readonly string[] Shared = ["linger.ms=50", "compression.codec=lz4", "batch.num.messages=10000", "queue.buffering.max.messages=500000", "enable.idempotence=true"];

    static readonly string[] Sides = ["ship", "rsyslog", "kcat"];

    readonly string _folder = Directory.CreateTempSubdirectory("logtrace-bench-").FullName;
    int _headerBytes = 80;
    int _topics;

    public static async Task RunAsync(ShipEffort effort, string? kafka, Report report)
    {
        var root = Report.Checkout ?? throw new InvalidOperationException("bench ship needs a checkout: it runs ./logtrace ship.");
        foreach (var program in (string[])["rsyslogd", "kcat"])
        {
            if (!((string[])["/usr/sbin", "/usr/bin", "/usr/local/bin"]).Any(folder => File.Exists(Path.Combine(folder, program))))
                throw new InvalidOperationException($"{program} is missing; on Debian: apt-get install rsyslog rsyslog-kafka kcat");
        }

        using var own = kafka is null ? OwnServer.Start("kafka") ?? throw new InvalidOperationException("There is no broker to measure with; name one with --kafka HOST:PORT (it gets topics bench-..., which are left there).") : null;
        var benchmarks = new ShipBenchmarks(effort, kafka ?? own!.Address, root);
        try
        {
            await benchmarks.CompareAsync("Lines of about 300 bytes", effort.SmallLines, 300, 3, 0.55, report).ConfigureAwait(false);
            await benchmarks.CompareAsync("Lines of about 1 KB", effort.LargeLines, 1_000, 5, 0.9, report).ConfigureAwait(false);
            await benchmarks.IdleAsync(report).ConfigureAwait(false);
        }
        finally
        {
            Directory.Delete(benchmarks._folder, recursive: true);
        }
    }

    async Task CompareAsync(string heading, int lines, int lineBytes, double timesRsyslog, double timesKcat, Report report)
    {
        var (log, keyed) = (Path.Combine(_folder, "logs", "app.log"), Path.Combine(_folder, "app.keyed"));
        Directory.CreateDirectory(Path.GetDirectoryName(log)!);
        Write(log, keyed, lines, lineBytes);
        Func<Task<Cost>>[] sides = [() => ShipAsync(log, lines), () => RsyslogAsync(lines), () => KcatAsync(keyed, lines)];
        var costs = sides.Select(_ => new List<Cost>()).ToArray();
        // The first round, which may also build the shipper, counts for nobody.
        for (var round = -1; round < effort.Rounds; round++)
        {
            for (var side = 0; side < sides.Length; side++)
            {
                var cost = await sides[side]().ConfigureAwait(false);
                if (round < 0) continue;
                costs[side].Add(cost);
                await Console.Error.WriteLineAsync($"{Sides[side]}: {lines / cost.CpuSeconds:N0} lines/CPU-s, {lines / cost.WallSeconds:N0} lines/s, {cost.PeakMegabytes:F0} MB").ConfigureAwait(false);
            }
        }

        double Median(int side, Func<Cost, double> of) => Round.Median([.. costs[side].Select(of)]);
        double PerCpu(int side) => Median(side, cost => lines / cost.CpuSeconds);
        double PerSecond(int side) => Median(side, cost => lines / cost.WallSeconds);
        report.Section(heading,
            $"{lines:N0} lines, {new FileInfo(log).Length / (double)lines:F0} bytes on average; {effort.Rounds} rounds in turn, medians; CPU-seconds of the shipping process alone, start and end included.",
        [
            Comparison.AtLeast("shipped", "lines/CPU-s", PerCpu(0), "rsyslog", PerCpu(1), timesRsyslog),
            Comparison.AtLeast("shipped", "lines/CPU-s", PerCpu(0), "kcat", PerCpu(2), timesKcat),
            Comparison.AtLeast("shipped", "lines/s", PerSecond(0), "rsyslog", PerSecond(1), 3),
            new("shipped, lines/s", Comparison.Text(PerSecond(0)), "kcat", Comparison.Text(PerSecond(2)), Comparison.Text(PerSecond(0) / PerSecond(2)), "", null),
            Comparison.NoMoreThan("peak resident memory", "MB", Median(0, cost => cost.PeakMegabytes), 100),
            new("peak resident memory, MB", Comparison.Text(Median(0, cost => cost.PeakMegabytes)), "rsyslog", Comparison.Text(Median(1, cost => cost.PeakMegabytes)), "", "", null),
            new("peak resident memory, MB", Comparison.Text(Median(0, cost => cost.PeakMegabytes)), "kcat", Comparison.Text(Median(2, cost => cost.PeakMegabytes)), "", "", null),
        ]);
    }

    async Task IdleAsync(Report report)
    {
        var logs = Directory.CreateDirectory(Path.Combine(_folder, "quiet")).FullName;
        for (var file = 0; file < 1_000; file++) await File.WriteAllTextAsync(Path.Combine(logs, $"{file}.log"), $"{{\"trace_id\":\"{file:x32}\"}}\n").ConfigureAwait(false);
        var options = await TopicAsync().ConfigureAwait(false);
        using var ship = Start(options, Path.Combine(logs, "*.log"));
        while (Held(options) < 1_000) await Task.Delay(200).ConfigureAwait(false);
        // Files that changed a moment ago are looked at more often.
        await Task.Delay(TimeSpan.FromSeconds(12)).ConfigureAwait(false);
        var (before, watch) = (ship.CpuSeconds, Stopwatch.StartNew());
        await Task.Delay(effort.Idle).ConfigureAwait(false);
        var percent = 100 * (ship.CpuSeconds - before) / watch.Elapsed.TotalSeconds;
        ship.EndWhen(() => true);
        report.Section("Nothing to do", $"1,000 files that nobody writes to, over {effort.Idle.TotalSeconds:F0} s.", [Comparison.NoMoreThan("CPU", "% of a core", percent, 1)]);
    }

    MeasuredProcess Start(KafkaOptions options, string pattern, params string[] more) =>
        MeasuredProcess.Start(Path.Combine(_folder, "ship.out"), Path.Combine(root, "logtrace"),
            ["ship", pattern, "--kafka", kafka, "--topic", options.Topic, "--data", Path.Combine(_folder, $"data-{options.Topic}"), .. more]);

    async Task<Cost> ShipAsync(string log, int lines)
    {
        var options = await TopicAsync().ConfigureAwait(false);
        using var ship = Start(options, log, "--once");
        var cost = ship.End();
        Check("./logtrace ship", options, lines);
        _headerBytes = HeaderBytes(options);
        return cost;
    }

    async Task<Cost> KcatAsync(string keyed, int lines)
    {
        var options = await TopicAsync().ConfigureAwait(false);
        using var kcat = MeasuredProcess.Start(Path.Combine(_folder, "kcat.out"), "kcat",
            ["-P", "-b", kafka, "-t", options.Topic, "-K", "\\t", "-l", keyed, "-H", "lt=" + new string('h', _headerBytes), "-X", "topic.partitioner=murmur2_random", "-X", "acks=all", .. Shared.SelectMany(property => (string[])["-X", property])]);
        var cost = kcat.End();
        Check("kcat", options, lines);
        return cost;
    }

    async Task<Cost> RsyslogAsync(int lines)
    {
        var options = await TopicAsync().ConfigureAwait(false);
        var state = Directory.CreateDirectory(Path.Combine(_folder, $"rsyslog-{options.Topic}")).FullName;
        var configuration = Path.Combine(state, "rsyslog.conf");
        await File.WriteAllTextAsync(configuration, $$"""
            global(workDirectory="{{state}}" maxMessageSize="1m" parser.escapeControlCharactersOnReceive="off")
            module(load="imfile" mode="inotify")
            module(load="omkafka")
            module(load="mmjsonparse")
            template(name="raw" type="string" string="%msg%")
            template(name="tkey" type="string" string="%$!trace_id%")
            input(type="imfile" file="{{_folder}}/logs/*.log" tag="app:" ruleset="ship" addMetadata="off"
                  reopenOnTruncate="on" persistStateInterval="10000" persistStateAfterSubmission="on")
            ruleset(name="ship" queue.type="Direct") {
              action(type="mmjsonparse" cookie="")
              action(type="omkafka" broker=["{{kafka}}"] topic="{{options.Topic}}" key="tkey" dynaKey="on" partitions.auto="on" template="raw"
                     resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="{{state}}/failed.msgs" errorFile="{{state}}/kafka-errors.json"
                     action.resumeRetryCount="-1" action.resumeInterval="1" closeTimeout="30000"
                     confParam=[{{string.Join(',', Shared.Select(property => $"\"{property}\""))}}]
                     topicConfParam=["acks=all","message.timeout.ms=300000"])
            }

            """).ConfigureAwait(false);
        using var rsyslog = MeasuredProcess.Start(Path.Combine(_folder, "rsyslog.out"), "/usr/sbin/rsyslogd", "-n", "-iNONE", "-f", configuration);
        return rsyslog.EndWhen(() => Held(options) >= lines);
    }

    async Task<KafkaOptions> TopicAsync()
    {
        var options = new KafkaOptions { Brokers = kafka, Topic = $"bench-{Environment.ProcessId}-{++_topics}", Partitions = 3 };
        await KafkaTopic.EnsureAsync(options).ConfigureAwait(false);
        return options;
    }

    static void Check(string who, KafkaOptions options, int lines)
    {
        if (Held(options) is var held && held != lines) throw new InvalidOperationException($"{who} ended with {held:N0} of {lines:N0} lines in the topic.");
    }

    static long Held(KafkaOptions options)
    {
        using var consumer = Consumer(options);
        return Enumerable.Range(0, options.Partitions).Sum(partition => consumer.QueryWatermarkOffsets(new TopicPartition(options.Topic, partition), TimeSpan.FromSeconds(30)).High.Value);
    }

    static int HeaderBytes(KafkaOptions options)
    {
        using var consumer = Consumer(options);
        consumer.Assign(Enumerable.Range(0, options.Partitions).Select(partition => new TopicPartitionOffset(options.Topic, partition, Offset.Beginning)));
        return consumer.Consume(TimeSpan.FromSeconds(30)).Message.Headers[0].GetValueBytes().Length;
    }

    static IConsumer<Ignore, Ignore> Consumer(KafkaOptions options) =>
        new ConsumerBuilder<Ignore, Ignore>([new("bootstrap.servers", options.Brokers), new("group.id", "bench")]).SetLogHandler((_, _) => { }).Build();

    /// <summary>Lines as a service writes them, eight to a trace, and the same with their keys before them for kcat.</summary>
    static void Write(string log, string keyed, int lines, int lineBytes)
    {
        var random = new Random(7);
        using var logFile = new StreamWriter(log);
        using var keyedFile = new StreamWriter(keyed);
        var trace = "";
        for (var i = 0; i < lines; i++)
        {
            if (i % 8 == 0) trace = Convert.ToHexStringLower(BitConverter.GetBytes(random.NextInt64())) + Convert.ToHexStringLower(BitConverter.GetBytes(random.NextInt64()));
            var line = string.Create(CultureInfo.InvariantCulture,
                $$"""{"name":"mysql.request","trace_id":"{{trace}}","rpc_id":"1.3.{{(i % 8) + 2}}","timestamp":{{1_763_900_000 + (i / 1000)}},"department":"shop_backend","module":"shop_orders_item_insert","server_ip":"10.1.2.{{i % 250}}","action":"insert into orders (id, item) values ({{i}}, {{random.Next(99_999)}})","param":"","version":"dotnet-orders-1.4","duration":{{random.Next(1_000_000) / 1e6:F6}}""");
            if (lineBytes > 310) line += $",\"response\":\"{string.Concat(Enumerable.Range(0, (lineBytes - line.Length) / 9).Select(_ => random.Next(10_000_000, 99_999_999) + " "))}\"";
            line += "}";
            logFile.Write(line + '\n');
            keyedFile.Write(trace + '\t' + line + '\n');
        }
    }
}
