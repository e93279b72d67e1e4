using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.RegularExpressions;
using LogTrace.Shipper;
using LogTrace.Transport;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace LogTrace.Tests.Shipper;

public sealed class StatusEndpointTests
{
    static string Metrics(ShipperRig rig) => ShipperStatus.Page("/metrics", rig.Pipeline.Snapshot(), null).Text;

    static double Value(string metrics, string name, string? file = null)
    {
        var row = metrics.Split('\n').Single(line => line.StartsWith($"logtrace_shipper_{name}{(file is null ? "" : $"{{file=\"{file}\"}}")} ", StringComparison.Ordinal));
        return double.Parse(row.Split(' ')[^1], CultureInfo.InvariantCulture);
    }

    [Fact]
    public void Lag_of_each_file_is_what_it_has_beyond_what_is_acknowledged()
    {
        using var rig = new ShipperRig(options => options with { BatchBytes = 1_024 }).Start();
        var lines = string.Concat(Enumerable.Range(0, 60).Select(i => $"{{\"n\":{i:000}}}\n"));
        rig.Append("a.log", lines);
        rig.Append("b.log", "one\n\ntwo, torn");
        rig.Writer.IsHeld = true;
        rig.Rounds(3);

        var held = Metrics(rig);
        Value(held, "lag_bytes", rig.Log("a.log")).Should().Be(new FileInfo(rig.Log("a.log")).Length);
        Value(held, "lag_bytes", rig.Log("b.log")).Should().Be(new FileInfo(rig.Log("b.log")).Length);
        Value(held, "shipped_lines_total").Should().Be(0);

        rig.Writer.IsHeld = false;
        rig.Writer.Release();
        rig.Ship().Turn();
        var shipped = Metrics(rig);
        Value(shipped, "lag_bytes", rig.Log("a.log")).Should().Be(0);
        Value(shipped, "lag_bytes", rig.Log("b.log")).Should().Be("two, torn".Length);
        Value(shipped, "oldest_unacknowledged_seconds", rig.Log("b.log")).Should().Be(0);
        Value(shipped, "read_lines_total").Should().Be(62);
        Value(shipped, "shipped_lines_total").Should().Be(61);
        Value(shipped, "blank_lines_total").Should().Be(1);
        Value(shipped, "read_bytes_total").Should().Be(lines.Length + "one\n\n".Length);
        Value(shipped, "balanced").Should().Be(1);
    }

    [Fact]
    public void Lag_grows_with_the_file_while_nothing_can_be_sent_and_says_how_old_and_why()
    {
        using var rig = new ShipperRig().Start();
        rig.Append("a.log", "first\n");
        rig.Writer.IsDown = true;
        rig.Rounds(2);
        rig.Time.Advance(TimeSpan.FromSeconds(60));
        rig.Append("a.log", "second\n");
        rig.Rounds(1);

        var snapshot = rig.Pipeline.Snapshot();
        var file = snapshot.Files.Should().ContainSingle().Subject;
        file.LagBytes.Should().Be(13);
        file.OldestUnacknowledged.Should().BeGreaterThanOrEqualTo(TimeSpan.FromSeconds(60)).And.BeLessThan(TimeSpan.FromSeconds(65));
        ShipperStatus.Page("/readyz", snapshot, null).Should().Match<StatusPage>(it => it.Status.StartsWith("503") && it.Text.Contains("the other side is down"));
        ShipperStatus.Line(snapshot).Should().Contain("13 bytes behind in 1 of 1 files").And.Contain("the other side is down");

        rig.Writer.IsDown = false;
        rig.Time.Advance(TimeSpan.FromMinutes(1));
        rig.Ship().Turn();
        ShipperStatus.Page("/readyz", rig.Pipeline.Snapshot(), null).Status.Should().StartWith("200");
    }

    [Fact]
    public void Batch_that_is_not_acknowledged_is_a_stall()
    {
        using var rig = new ShipperRig().Start();
        rig.Append("a.log", "first\n");
        rig.Writer.IsHeld = true;
        rig.Rounds(1);
        rig.Time.Advance(TimeSpan.FromSeconds(30));
        rig.Rounds(1);

        rig.Pipeline.Snapshot().Stall.Should().Contain("nothing was acknowledged for 30 s");
    }

    [Fact]
    public void Status_is_logged_when_anything_went_on_or_nothing_gets_on_and_else_not()
    {
        using var rig = new ShipperRig(options => options with { StatusInterval = TimeSpan.FromSeconds(30) });
        var said = new List<string>();
        using var pipeline = new ShipperPipeline(rig.Options, rig.Writer, new Listener(said), rig.Time);
        pipeline.Open();
        void Pass(int seconds)
        {
            for (var second = 0; second < seconds; second++)
            {
                rig.Time.Advance(TimeSpan.FromSeconds(1));
                while (pipeline.Turn())
                {
                }
            }
        }

        rig.Append("a.log", "one\n");
        Pass(40);
        said.Should().ContainSingle().Which.Should().StartWith("read 1 = shipped 1 + set aside 0 + blank 0 lines (4 = 4 + 0 + 0 bytes), 0 bytes not acknowledged, 0 bytes behind in 0 of 1 files");
        Pass(120);
        said.Should().HaveCount(1, "nothing went on");
        rig.Writer.IsDown = true;
        rig.Append("a.log", "two\n");
        Pass(40);
        said.Should().HaveCountGreaterThan(1).And.Subject.Last().Should().Contain("4 bytes behind in 1 of 1 files").And.Contain("the other side is down");
    }

    /// <summary>Keeps what the status line says.</summary>
    sealed class Listener(List<string> said) : ILogger<ShipperPipeline>
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (formatter(state, exception) is { } text && text.StartsWith("read ", StringComparison.Ordinal)) said.Add(text);
        }
    }

    [Fact]
    public void Paths_and_statistics_are_written_as_Prometheus_reads_them()
    {
        var files = new FileProgress[] { new("/var/log/a \"b\".log", null, 1, 2, 4, 0), new("/var/log/a \"b\".log", null, 0, 0, 9, 0) };
        KafkaStatistics.TryRead("""{"msg_cnt":3,"msg_size":900,"txmsgs":7,"tx_bytes":5000,"brokers":{"b":{"state":"UP","txretries":2,"rtt":{"avg":1500}}}}"""u8, out var kafka).Should().BeTrue();

        var (status, text) = ShipperStatus.Page("/metrics", new ShipperSnapshot(new ShipperCounts { ReadLines = 1 }, files, 0), kafka);

        status.Should().Be("200 OK");
        text.Should().Contain("logtrace_shipper_lag_bytes{file=\"/var/log/a \\\"b\\\".log\"} 9\n")
            .And.Contain("logtrace_shipper_balanced 0\n").And.Contain("logtrace_shipper_kafka_queued_lines 3\n").And.Contain("logtrace_shipper_kafka_round_trip_seconds 0.0015\n");
        text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Should().OnlyContain(line => Regex.IsMatch(line, @"^(# (HELP|TYPE) logtrace_shipper_\w+ .+|logtrace_shipper_\w+(\{file="".*""\})? -?[0-9.]+(E[+-]?\d+)?)$"));
    }

    [Fact]
    public async Task Pages_are_served_and_nonsense_is_refused()
    {
        using var rig = new ShipperRig().Start();
        rig.Append("a.log", "first\n");
        rig.Ship().Turn();
        using var endpoint = StatusEndpoint.Start("127.0.0.1:0", "Shipper:Listen", (path, _) => Task.FromResult(ShipperStatus.Page(path, rig.Pipeline.Snapshot(), null)), NullLogger.Instance);
        using var http = new HttpClient { BaseAddress = new Uri($"http://{endpoint.Address}") };

        (await http.GetStringAsync("/metrics")).Should().Contain("logtrace_shipper_shipped_lines_total 1\n");
        (await http.GetStringAsync("/healthz")).Should().Be("ok\n");
        (await http.GetStringAsync("/readyz?verbose")).Should().Be("ok\n");
        (await http.GetStringAsync("/")).Should().StartWith("read 1 = shipped 1");
        (await http.GetAsync("/secret")).StatusCode.Should().Be(HttpStatusCode.NotFound);
        (await http.PostAsync("/metrics", null)).StatusCode.Should().Be(HttpStatusCode.MethodNotAllowed);
        using var client = new TcpClient();
        await client.ConnectAsync(endpoint.Address);
        await client.GetStream().WriteAsync("\r\n\r\n"u8.ToArray());
        (await new StreamReader(client.GetStream()).ReadToEndAsync()).Should().StartWith("HTTP/1.1 405");
    }

    [Theory]
    [InlineData("127.0.0.1:9470", true)]
    [InlineData("localhost:9470", true)]
    [InlineData("0.0.0.0:9470", true)]
    [InlineData("[::1]:9470", true)]
    [InlineData("9470", false)]
    [InlineData("::1:9470", false)]
    [InlineData("127.0.0.1", false)]
    [InlineData("somewhere:9470", false)]
    public void Address_to_listen_at_is_checked(string address, bool isGood) =>
        (new ShipperOptions { Paths = ["x"], Listen = address }.Validate().Count == 0).Should().Be(isGood);
}
