using System.Diagnostics;
using System.Globalization;
using System.IO.Hashing;
using System.Text;
using LogTrace.Benchmarks.Shipper;
using LogTrace.Transport;

namespace LogTrace.Benchmarks.Indexer;

/// <param name="Records">Records in the topic.</param>
/// <param name="Rounds">Measured rounds of each side; the median counts.</param>
sealed record IndexEffort(int Records, int Rounds)
{
    public static readonly IndexEffort Full = new(300_000, 3);
    public static readonly IndexEffort Quick = new(30_000, 1);
}

/// <summary>
/// Kafka to a real Elasticsearch 7.10.2 with two gigabytes of heap and one shard: <c>./logtrace index</c> with all it does (derived fields, chains, calls) against what the server takes
/// when the same documents are posted to it from files, and against rsyslog, the fastest indexer that Debian has, which stores the lines as they are.
/// </summary>
sealed class IndexBenchmarks : IDisposable
{
    const int RecordsPerTrace = 10;
    const int PieceBytes = 5 << 20;
    const int Posters = 3;

    readonly IndexEffort _effort;
    readonly OwnServer _kafka;
    readonly OwnServer _elasticsearch;
    readonly SearchServer _server;
    readonly string _root;
    readonly string _folder = Directory.CreateTempSubdirectory("logtrace-bench-").FullName;
    readonly KafkaOptions _topic;
    int _runs;

    IndexBenchmarks(IndexEffort effort, string root)
    {
        (_effort, _root) = (effort, root);
        _kafka = OwnServer.Start("kafka") ?? throw new InvalidOperationException("bench index needs the servers in ../shared/engines.");
        _elasticsearch = OwnServer.Start("elasticsearch7", "--heap", "2g")!;
        _server = new SearchServer(_elasticsearch);
        _topic = new KafkaOptions { Brokers = _kafka.Address, Topic = "bench", Partitions = 3 };
    }

    public static async Task RunAsync(IndexEffort effort, Report report)
    {
        var root = Report.Checkout ?? throw new InvalidOperationException("bench index needs a checkout: it runs ./logtrace index.");
        if (!File.Exists("/usr/sbin/rsyslogd") || !Directory.EnumerateDirectories("/usr/lib").Any(folder => File.Exists(Path.Combine(folder, "rsyslog", "omelasticsearch.so"))))
            throw new InvalidOperationException("rsyslog is missing; on Debian: apt-get install rsyslog rsyslog-kafka rsyslog-elasticsearch");
        using var benchmarks = new IndexBenchmarks(effort, root);
        await benchmarks.FillAsync().ConfigureAwait(false);
        await benchmarks.CompareAsync(report).ConfigureAwait(false);
        await benchmarks.MappingAsync(report).ConfigureAwait(false);
    }

    async Task CompareAsync(Report report)
    {
        List<Taken> ours = [], ceiling = [], rsyslog = [];
        // The first round warms the server, builds the indexer if need be, and counts for nobody.
        for (var round = -1; round < _effort.Rounds; round++)
        {
            var (taken, prefix) = await IndexAsync().ConfigureAwait(false);
            Say("index", taken);
            var posted = await PostAsync(prefix).ConfigureAwait(false);
            Say("three curls", posted);
            await _server.DeleteAsync($"{prefix}-*").ConfigureAwait(false);
            var peer = await RsyslogAsync().ConfigureAwait(false);
            Say("rsyslog", peer);
            if (round < 0) continue;
            ours.Add(taken);
            ceiling.Add(posted);
            rsyslog.Add(peer);
        }

        static double Median(List<Taken> of, Func<Taken, double> what) => Round.Median([.. of.Select(what)]);
        double PerSecond(List<Taken> of) => Median(of, it => it.Documents / it.WallSeconds);
        double RecordsPerSecond(List<Taken> of) => Median(of, it => _effort.Records / it.WallSeconds);
        double PerCpu(List<Taken> of) => Median(of, it => _effort.Records / it.OwnCpu);
        report.Section(
            "Kafka to Elasticsearch",
            $"{_effort.Records:N0} records of {RecordsPerTrace} to a trace; {_effort.Rounds} rounds in turn, medians. Documents are records, chains and calls. Time runs from the first document in the store to the last; CPU from start to end.",
            [
                Comparison.AtLeast("documents", "1/s", PerSecond(ours), "the same, posted by three curls", PerSecond(ceiling), 0.85),
                Comparison.NoMoreThan("share of all CPU (indexer, broker, store)", "%", Median(ours, it => 100 * it.OwnCpu / (it.OwnCpu + it.KafkaCpu + it.StoreCpu)), 15),
                Comparison.AtLeast("records", "1/CPU-s", PerCpu(ours), "rsyslog", PerCpu(rsyslog), 3),
                Comparison.AtLeast("records", "1/s", RecordsPerSecond(ours), "rsyslog", RecordsPerSecond(rsyslog), 1),
                Comparison.Alone("peak resident memory", "MB", Median(ours, it => it.PeakMegabytes)),
                new("the store's CPU, µs/document", Comparison.Text(Median(ours, it => 1e6 * it.StoreCpu / it.Documents)), "three curls", Comparison.Text(Median(ceiling, it => 1e6 * it.StoreCpu / it.Documents)), "", "", null),
                new("the store's CPU, µs/record", Comparison.Text(Median(ours, it => 1e6 * it.StoreCpu / _effort.Records)), "rsyslog", Comparison.Text(Median(rsyslog, it => 1e6 * it.StoreCpu / _effort.Records)), "", "", null),
            ]);
    }

    /// <summary>What the mapping costs: the record bodies alone under our template, beside the raw lines under a mapping that makes every text a keyword.</summary>
    async Task MappingAsync(Report report)
    {
        var (_, prefix) = await IndexAsync().ConfigureAwait(false);
        var sizes = new Dictionary<string, double>();
        foreach (var kind in (string[])["records", "chains", "calls"]) sizes[kind] = await _server.BytesAsync($"{prefix}-{kind}-*").ConfigureAwait(false);
        List<double> ourCpu = [], rawCpu = [];
        double ourBytes = 0, rawBytes = 0;
        await _server.PutTemplateAsync("raw", """{"index_patterns":["raw*"],"template":{"settings":{"number_of_shards":1,"number_of_replicas":0,"refresh_interval":"5s"},"mappings":{"dynamic_templates":[{"texts":{"match_mapping_type":"string","mapping":{"type":"keyword","ignore_above":8191}}}]}}}""").ConfigureAwait(false);
        for (var round = -1; round < _effort.Rounds; round++)
        {
            var run = $"map{++_runs}";
            await _server.CopyTemplateAsync($"{prefix}-records", $"{run}-records").ConfigureAwait(false);
            await using (var pieces = new BulkFiles(_folder, run, PieceBytes, Posters))
            {
                await _server.ReadAllAsync($"{prefix}-records-*", (index, id, source) => pieces.Add(run + index[prefix.Length..], id, source)).ConfigureAwait(false);
                var posted = await PostAsync(pieces).ConfigureAwait(false);
                if (round >= 0) ourCpu.Add(1e6 * posted.StoreCpu / _effort.Records);
            }

            ourBytes = await _server.BytesAsync($"{run}-records-*").ConfigureAwait(false) / _effort.Records;
            await _server.DeleteAsync($"{run}-*").ConfigureAwait(false);
            await using (var pieces = new BulkFiles(_folder, run, PieceBytes, Posters))
            {
                var number = 0;
                foreach (var line in File.ReadLines(Log)) pieces.Add("raw", HashOf(number++), Encoding.UTF8.GetBytes(line));
                var posted = await PostAsync(pieces).ConfigureAwait(false);
                if (round >= 0) rawCpu.Add(1e6 * posted.StoreCpu / _effort.Records);
            }

            rawBytes = await _server.BytesAsync("raw").ConfigureAwait(false) / _effort.Records;
            await _server.DeleteAsync("raw").ConfigureAwait(false);
        }

        var all = sizes.Values.Sum();
        report.Section(
            "What the mapping costs",
            "The bodies of the records alone under LogTrace's template, and the raw lines, with ids of the same kind, under a mapping that makes every text a keyword; posted by three curls, one segment each when measured.",
            [
                Comparison.AtMost("the store's CPU", "µs/record", Round.Median([.. ourCpu]), "raw lines", Round.Median([.. rawCpu]), 1.5),
                Comparison.AtMost("on disk", "bytes/record", ourBytes, "raw lines", rawBytes, 1.5),
                Comparison.Alone("records, of all bytes on disk", "%", 100 * sizes["records"] / all),
                Comparison.Alone("chains, of all bytes on disk", "%", 100 * sizes["chains"] / all),
                Comparison.Alone("calls, of all bytes on disk", "%", 100 * sizes["calls"] / all),
            ]);
    }

    // As scattered as a record's id: ids that count up take a quarter of the disk away, and are no part of a mapping.
    static string HashOf(int number) => Convert.ToHexStringLower(XxHash128.Hash(BitConverter.GetBytes(number)));

    string Log => Path.Combine(_folder, "app.log");

    async Task FillAsync()
    {
        ServiceLines.Write(Log, _effort.Records / RecordsPerTrace);
        await KafkaTopic.EnsureAsync(_topic).ConfigureAwait(false);
        using var ship = MeasuredProcess.Start(Path.Combine(_folder, "ship.out"), Path.Combine(_root, "logtrace"), ["ship", Log, "--kafka", _kafka.Address, "--topic", _topic.Topic, "--data", Path.Combine(_folder, "ship"), "--once"]);
        ship.End();
    }

    async Task<(Taken Taken, string Prefix)> IndexAsync()
    {
        var prefix = $"bench{++_runs}";
        var data = Directory.CreateDirectory(Path.Combine(_folder, prefix)).FullName;
        var settings = Path.Combine(data, "bench.json");
        await File.WriteAllTextAsync(settings, $$"""{ "Elasticsearch": { "IndexPrefix": "{{prefix}}" } }""").ConfigureAwait(false);
        var (store, kafka) = (_elasticsearch.CpuSeconds, _kafka.CpuSeconds);
        using var watch = new DocumentWatch(_server, $"{prefix}-*");
        using var index = MeasuredProcess.Start(Path.Combine(data, "index.out"), Path.Combine(_root, "logtrace"),
            ["index", "--kafka", _kafka.Address, "--topic", _topic.Topic, "--group", prefix, "--elasticsearch", _elasticsearch.Address, "--data", data, "--config", settings, "--once"]);
        var cost = index.End();
        var wall = watch.End();
        var (documents, records) = (await _server.CountAsync($"{prefix}-*").ConfigureAwait(false), await _server.CountAsync($"{prefix}-records-*").ConfigureAwait(false));
        if (records != _effort.Records) throw new InvalidOperationException($"./logtrace index stored {records:N0} of {_effort.Records:N0} records.");
        return (new Taken(documents, wall, cost.CpuSeconds, _elasticsearch.CpuSeconds - store, _kafka.CpuSeconds - kafka, cost.PeakMegabytes), prefix);
    }

    async Task<Taken> PostAsync(string prefix)
    {
        var run = $"post{++_runs}";
        await using var pieces = new BulkFiles(_folder, run, PieceBytes, Posters);
        foreach (var kind in (string[])["records", "chains", "calls"])
        {
            await _server.CopyTemplateAsync($"{prefix}-{kind}", $"{run}-{kind}").ConfigureAwait(false);
            await _server.ReadAllAsync($"{prefix}-{kind}-*", (index, id, source) => pieces.Add(run + index[prefix.Length..], id, source)).ConfigureAwait(false);
        }

        var taken = await PostAsync(pieces).ConfigureAwait(false);
        await _server.DeleteAsync($"{run}-*").ConfigureAwait(false);
        return taken;
    }

    /// <summary>The server's ceiling: ready requests, from files, by programs that do nothing else.</summary>
    async Task<Taken> PostAsync(BulkFiles pieces)
    {
        var files = await pieces.CloseAsync().ConfigureAwait(false);
        var store = _elasticsearch.CpuSeconds;
        var watch = Stopwatch.StartNew();
        var posters = files.Select((mine, number) => MeasuredProcess.Start(Path.Combine(_folder, $"curl{number}.out"), "curl",
            mine.SelectMany((file, i) => (string[])
            [
                .. (i == 0 ? Array.Empty<string>() : ["--next"]), "-sS", "--fail", "-H", "Content-Type: application/x-ndjson", "--data-binary", "@" + file, $"{_elasticsearch.Address}/_bulk?filter_path=errors",
            ]))).ToList();
        var cpu = posters.Sum(poster => poster.End().CpuSeconds);
        var wall = watch.Elapsed.TotalSeconds;
        posters.ForEach(poster => poster.Dispose());
        for (var number = 0; number < files.Count; number++)
        {
            if ((await File.ReadAllTextAsync(Path.Combine(_folder, $"curl{number}.out")).ConfigureAwait(false)).Contains("true", StringComparison.Ordinal)) throw new InvalidOperationException("The store refused documents that it had taken before.");
        }

        return new Taken(pieces.Documents, wall, cpu, _elasticsearch.CpuSeconds - store, 0, 0);
    }

    async Task<Taken> RsyslogAsync()
    {
        var index = $"rsyslog{++_runs}";
        var state = Directory.CreateDirectory(Path.Combine(_folder, index)).FullName;
        var configuration = Path.Combine(state, "rsyslog.conf");
        var port = new Uri(_elasticsearch.Address).Port;
        await _server.PutTemplateAsync("rsyslog", """{"index_patterns":["rsyslog*"],"template":{"settings":{"number_of_shards":1,"number_of_replicas":0,"refresh_interval":"5s"}}}""").ConfigureAwait(false);
        await File.WriteAllTextAsync(configuration, $$"""
            global(workDirectory="{{state}}" maxMessageSize="1m")
            module(load="imkafka")
            module(load="omelasticsearch")
            module(load="mmjsonparse")
            template(name="raw" type="string" string="%msg%")
            template(name="docid" type="string" string="%$.docid%")
            ruleset(name="index" queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="2000" queue.workerThreads="1") {
              action(type="mmjsonparse" cookie="")
              set $.docid = $!trace_id & "-" & $!span_id;
              action(type="omelasticsearch" server="127.0.0.1" serverport="{{port}}" template="raw" searchIndex="{{index}}" searchType=""
                     bulkmode="on" maxbytes="8m" bulkid="docid" dynbulkid="on" writeoperation="create"
                     action.resumeRetryCount="-1" action.resumeInterval="1" errorfile="{{state}}/es-errors.json")
            }
            input(type="imkafka" broker=["{{_kafka.Address}}"] topic="{{_topic.Topic}}" consumergroup="{{index}}" ruleset="index"
                  confParam=["auto.offset.reset=earliest","fetch.min.bytes=65536","fetch.wait.max.ms=100"])

            """).ConfigureAwait(false);
        var (store, kafka) = (_elasticsearch.CpuSeconds, _kafka.CpuSeconds);
        using var watch = new DocumentWatch(_server, index);
        using var rsyslog = MeasuredProcess.Start(Path.Combine(state, "rsyslog.out"), "/usr/sbin/rsyslogd", "-n", "-iNONE", "-f", configuration);
        var cost = rsyslog.EndWhen(() => watch.Written >= _effort.Records);
        var wall = watch.End();
        var taken = new Taken(_effort.Records, wall, cost.CpuSeconds, _elasticsearch.CpuSeconds - store, _kafka.CpuSeconds - kafka, cost.PeakMegabytes);
        await _server.DeleteAsync(index).ConfigureAwait(false);
        return taken;
    }

    void Say(string side, in Taken taken) => Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture,
        $"{side}: {taken.Documents:N0} documents, {taken.Documents / taken.WallSeconds:N0}/s, {_effort.Records / taken.OwnCpu:N0} records/CPU-s; CPU {taken.OwnCpu:F1} s, store {taken.StoreCpu:F1} s, broker {taken.KafkaCpu:F1} s; {taken.PeakMegabytes:F0} MB"));

    public void Dispose()
    {
        _server.Dispose();
        _elasticsearch.Dispose();
        _kafka.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <param name="Documents">Records, chains and calls in the store at the end.</param>
    /// <param name="WallSeconds">From the first to the last.</param>
    /// <param name="OwnCpu">Of the program that is measured.</param>
    /// <param name="StoreCpu">Of Elasticsearch.</param>
    /// <param name="KafkaCpu">Of the broker.</param>
    /// <param name="PeakMegabytes">Resident memory of the program.</param>
    readonly record struct Taken(long Documents, double WallSeconds, double OwnCpu, double StoreCpu, double KafkaCpu, double PeakMegabytes);
}
