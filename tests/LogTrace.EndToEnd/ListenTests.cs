using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using LogTrace.EndToEnd.Support;
using LogTrace.Shipper;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.EndToEnd;

/// <summary><c>--listen</c>: what it says is the truth of the files, while Kafka is away and when it is back.</summary>
public sealed class ListenTests : IDisposable
{
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(1);

    readonly TempFolder _folder = new();
    readonly HttpClient _http = new();

    public void Dispose()
    {
        _http.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public async Task Lag_and_balance_are_the_truth_of_the_files_in_an_outage_and_after_it()
    {
        using var kafka = new MockKafka();
        kafka.CreateTopic("records", 8);
        kafka.CreateTopic(new KafkaOptions().DeadTopic, 1);
        Directory.CreateDirectory(_folder["logs"]);
        var port = FreePort();
        var paths = Enumerable.Range(0, 3).Select(file => _folder[$"logs/{file}.log"]).ToArray();
        foreach (var path in paths) await File.WriteAllTextAsync(path, Lines(100));
        await using var ship = ProgramProcess.StartShipper("ship", _folder["logs/*.log"], "--kafka", kafka.Address, "--topic", "records", "--data", _folder["data"], "--listen", $"127.0.0.1:{port}");
        _http.BaseAddress = new Uri($"http://127.0.0.1:{port}");
        await Eventually.HoldsAsync(async () => Value(await MetricsAsync(ship), "shipped_lines_total") == 300, $"all is shipped: {ship.Transcript}", Deadline);
        var shipped = paths.ToDictionary(path => path, path => new FileInfo(path).Length);

        kafka.GoDown();
        await File.AppendAllTextAsync(paths[0], Lines(50));
        await File.AppendAllTextAsync(paths[1], "\n" + Lines(5) + new string('x', new ShipperOptions().MaxLineBytes + 1) + "\n" + "torn");
        await Eventually.HoldsAsync(async () => Value(await MetricsAsync(ship), "lag_bytes", paths[1]) == new FileInfo(paths[1]).Length - shipped[paths[1]], "it has seen what was written", Deadline);
        var metrics = await MetricsAsync(ship);
        foreach (var path in paths)
        {
            Value(metrics, "acknowledged_offset_bytes", path).Should().Be(shipped[path]);
            Value(metrics, "lag_bytes", path).Should().Be(new FileInfo(path).Length - shipped[path]);
        }

        Value(metrics, "read_bytes_total").Should().Be(shipped.Values.Sum());
        Value(metrics, "balanced").Should().Be(1);
        await Eventually.HoldsAsync(async () => (await _http.GetAsync("/readyz")).StatusCode == HttpStatusCode.ServiceUnavailable, "it says that nothing gets on", Deadline);
        (await _http.GetStringAsync("/readyz").ContinueWith(answer => answer.IsFaulted)).Should().BeTrue();
        (await _http.GetStringAsync("/healthz")).Should().Be("ok\n", "waiting is healthy");
        Value(await MetricsAsync(ship), "oldest_unacknowledged_seconds", paths[0]).Should().BeGreaterThan(0);

        kafka.ComeUp();
        await Eventually.HoldsAsync(async () => Value(await MetricsAsync(ship), "read_lines_total") == 357, $"the rest is settled: {ship.Transcript}", Deadline);
        await Eventually.HoldsAsync(async () => Value(await MetricsAsync(ship), "lag_bytes", paths[0]) == 0, "the lag is gone", Deadline);
        metrics = await MetricsAsync(ship);
        (Value(metrics, "shipped_lines_total"), Value(metrics, "set_aside_lines_total"), Value(metrics, "blank_lines_total")).Should().Be((355, 1, 1));
        Value(metrics, "read_bytes_total").Should().Be(paths.Sum(path => new FileInfo(path).Length) - "torn".Length);
        Value(metrics, "lag_bytes", paths[1]).Should().Be("torn".Length);
        Value(metrics, "balanced").Should().Be(1);
        (await _http.GetStringAsync("/readyz")).Should().Be("ok\n");
        (await _http.GetStringAsync("/")).Should().StartWith("read 357 = shipped 355 + set aside 1 + blank 1 lines");

        (await ship.StopAsync(Deadline)).Should().Be(0, ship.Transcript);
    }

    [RealKafkaFact]
    public async Task Indexer_says_how_far_it_is_behind_and_what_became_of_every_record()
    {
        var run = $"listen-{Guid.NewGuid():n}";
        var options = new KafkaOptions { Brokers = await RealEngines.KafkaAsync(), Topic = run, Group = run, Partitions = 3 };
        await KafkaTopic.EnsureAsync(options);
        await using (var writer = new KafkaWriter(options))
        {
            var batch = new RecordBatch();
            for (var i = 0; i < 100; i++) batch.Add(System.Text.Encoding.UTF8.GetBytes(i == 7 ? "nonsense" : $"{{\"trace_id\":\"t-{i % 7}\",\"rpc_id\":\"1.{i + 1}\",\"timestamp\":{DateTimeOffset.UtcNow.ToUnixTimeSeconds()}}}"), new SourceFile("host-1", 1, "app.log"), i * 100);
            await writer.WriteAsync(batch, default);
        }

        var port = FreePort();
        await using var index = ProgramProcess.StartIndexer("index", "--kafka", options.Brokers, "--topic", run, "--group", run, "--data", _folder["data"], "--listen", $"127.0.0.1:{port}");
        _http.BaseAddress = new Uri($"http://127.0.0.1:{port}");
        await Eventually.HoldsAsync(async () => (await MetricsAsync(index)).Contains("logtrace_indexer_consumed_records_total 100\n", StringComparison.Ordinal), $"all is read: {index.Transcript}", Deadline);
        await Eventually.HoldsAsync(async () => Regex.Matches(await MetricsAsync(index), "logtrace_indexer_kafka_lag_records.* 0\n").Count == 3, "nothing is left", Deadline);
        (await MetricsAsync(index)).Should().Contain("logtrace_indexer_stored_records_total 99\n").And.Contain("logtrace_indexer_set_aside_records_total 1\n").And.Contain("logtrace_indexer_balanced 1\n")
            .And.Contain("logtrace_indexer_kafka_partitions 3\n").And.Contain("logtrace_indexer_kafka_lost_records_total 0\n");
        (await _http.GetStringAsync("/readyz")).Should().Be("ok\n");
        (await _http.GetStringAsync("/healthz")).Should().Be("ok\n");
        (await index.StopAsync(Deadline)).Should().Be(0, index.Transcript);
    }

    [Fact]
    public async Task Embedded_pipeline_says_what_both_its_parts_do()
    {
        Directory.CreateDirectory(_folder["logs"]);
        await File.WriteAllTextAsync(_folder["logs/a.log"], $"{{\"trace_id\":\"t-1\",\"rpc_id\":\"1.1\",\"timestamp\":{DateTimeOffset.UtcNow.ToUnixTimeSeconds()}}}\n\n");
        var port = FreePort();
        await using var run = ProgramProcess.StartIndexer("run", _folder["logs/*.log"], "--data", _folder["data"], "--port", "0", "--listen", $"127.0.0.1:{port}");
        _http.BaseAddress = new Uri($"http://127.0.0.1:{port}");
        await Eventually.HoldsAsync(async () => (await MetricsAsync(run)).Contains("logtrace_indexer_stored_records_total 1\n", StringComparison.Ordinal), $"it is stored: {run.Transcript}", Deadline);
        await Eventually.HoldsAsync(async () => Value(await MetricsAsync(run), "read_lines_total") == 2, "both lines are settled", Deadline);
        (await _http.GetStringAsync("/readyz")).Should().Be("ok\n");
        (await run.StopAsync(Deadline)).Should().Be(0, run.Transcript);
    }

    static string Lines(int count) => string.Concat(Enumerable.Range(0, count).Select(i => $"{{\"trace_id\":\"t-{i % 7}\",\"n\":{i}}}\n"));

    async Task<string> MetricsAsync(ProgramProcess ship)
    {
        try
        {
            return await _http.GetStringAsync("/metrics");
        }
        catch (HttpRequestException) when (!ship.HasExited)
        {
            return ""; // not listening yet
        }
    }

    static double Value(string metrics, string name, string? file = null)
    {
        var start = $"logtrace_shipper_{name}{(file is null ? "" : $"{{file=\"{file}\"}}")} ";
        var row = metrics.Split('\n').FirstOrDefault(line => line.StartsWith(start, StringComparison.Ordinal));
        return row is null ? double.NaN : double.Parse(row.Split(' ')[^1], CultureInfo.InvariantCulture);
    }

    static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
