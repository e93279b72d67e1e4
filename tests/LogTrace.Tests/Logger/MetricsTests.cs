using System.Text.Json;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.Extensions.Time.Testing;

namespace LogTrace.Tests.Logger;

public sealed class MetricsTests : IDisposable
{
    readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    TraceLogger Logger(FakeTimeProvider time, TraceMetricsOptions? metrics = null)
    {
        var options = TestService.Options("orders", _folder["orders.log"]) with { Metrics = metrics ?? new() };
        return new TraceLogger(options, new TraceFile(options.File!), time);
    }

    List<string> Metrics(TraceLogger logger)
    {
        logger.Dispose();
        logger.File!.Dispose();
        return [.. Written.Records(_folder["orders.log"]).Where(record => record.Kind == RecordKind.Metric).Select(record => $"{record.Name} {record.Action} {record.ExtraJson}")];
    }

    [Fact]
    public void Measurements_are_written_once_an_interval_and_at_the_stop()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var logger = Logger(time);
        using (logger.StartTrace("job"))
        {
            logger.Metrics.Counter("orders", 2, ("shop", "a"));
            logger.Metrics.Counter("orders", 1, ("shop", "a"));
            logger.Metrics.Counter("orders", 5, ("shop", "b"));
            logger.Metrics.Gauge("queue", 3);
            logger.Metrics.Gauge("queue", 1);
        }

        time.Advance(TimeSpan.FromSeconds(10));
        time.Advance(TimeSpan.FromSeconds(10));
        logger.Metrics.Counter("orders", 4, ("shop", "a"));
        time.Advance(TimeSpan.FromSeconds(5));

        Metrics(logger).Should().BeEquivalentTo(
        [
            """metric.counter orders {"value":3,"total":3,"seconds":10,"shop":"a"}""",
            """metric.counter orders {"value":5,"total":5,"seconds":10,"shop":"b"}""",
            """metric.gauge queue {"value":1,"min":1,"max":3,"seconds":10}""",
            """metric.counter orders {"value":4,"total":7,"seconds":5,"shop":"a"}""",
        ]);
        Written.Records(_folder["orders.log"]).Where(record => record.Kind == RecordKind.Metric).Should().OnlyContain(record => record.TraceId == null);
    }

    [Fact]
    public void Quantiles_are_near_the_true_ones()
    {
        var logger = Logger(new FakeTimeProvider());
        var values = Enumerable.Range(1, 10_000).Select(number => number * number / 1e6).ToList();
        foreach (var value in values) logger.Metrics.Histogram("latency", value);

        var histogram = JsonDocument.Parse(Metrics(logger).Single().Split(' ', 3)[2]).RootElement;

        histogram.GetProperty("count").GetInt64().Should().Be(10_000);
        histogram.GetProperty("sum").GetDouble().Should().BeApproximately(values.Sum(), 1e-3);
        histogram.GetProperty("min").GetDouble().Should().Be(values[0]);
        histogram.GetProperty("max").GetDouble().Should().Be(values[^1]);
        foreach (var (name, share) in (ReadOnlySpan<(string, double)>)[("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)])
            (histogram.GetProperty(name).GetDouble() / values[(int)(share * 10_000) - 1]).Should().BeApproximately(1, 0.033, name);
    }

    [Fact]
    public void Values_of_every_size_are_taken_and_no_number_is_counted()
    {
        var logger = Logger(new FakeTimeProvider());
        foreach (var value in (double[])[0, -1, double.Epsilon, 1e300, double.PositiveInfinity, double.NaN]) logger.Metrics.Histogram("odd", value);

        logger.Metrics.Discarded.Should().Be(1);
        Metrics(logger).Should().HaveCount(2).And.Contain(line => line.StartsWith("""metric.histogram odd {"count":5,""", StringComparison.Ordinal));
    }

    [Fact]
    public void Too_many_tags_are_measured_together_and_counted()
    {
        var logger = Logger(new FakeTimeProvider(), new() { MaxSeriesPerMetric = 3, MaxMetrics = 2 });
        for (var user = 0; user < 10; user++) logger.Metrics.Counter("orders", 1, ("user", user));
        logger.Metrics.Counter("others");
        logger.Metrics.Counter("one too many");

        (logger.Metrics.Overflowed, logger.Metrics.Discarded).Should().Be((7, 1));
        Metrics(logger).Should().BeEquivalentTo(
        [
            """metric.counter orders {"value":1,"total":1,"seconds":0,"user":0}""",
            """metric.counter orders {"value":1,"total":1,"seconds":0,"user":1}""",
            """metric.counter orders {"value":1,"total":1,"seconds":0,"user":2}""",
            """metric.counter orders {"value":7,"total":7,"seconds":0,"overflow":true}""",
            """metric.counter others {"value":1,"total":1,"seconds":0}""",
            """metric.counter logtrace.metrics_discarded {"value":1,"total":1,"seconds":0}""",
        ]);
    }

    [Fact]
    public async Task Nothing_is_lost_between_threads_and_flushes()
    {
        var logger = Logger(new FakeTimeProvider());
        var work = Enumerable.Range(0, 8).Select(_ => Task.Run(() =>
        {
            for (var i = 0; i < 20_000; i++)
            {
                logger.Metrics.Counter("orders", 1, ("shop", "a"));
                logger.Metrics.Histogram("latency", i);
            }
        })).ToList();
        while (!Task.WhenAll(work).IsCompleted) logger.Metrics.Flush();
        await Task.WhenAll(work);

        long Sum(string name, string member, List<string> lines) => lines.Where(line => line.StartsWith(name, StringComparison.Ordinal)).Sum(line => JsonDocument.Parse(line.Split(' ', 3)[2]).RootElement.GetProperty(member).GetInt64());
        var written = Metrics(logger);
        Sum("metric.counter", "value", written).Should().Be(160_000);
        Sum("metric.histogram", "count", written).Should().Be(160_000);
    }

    [Fact]
    public void Measuring_with_known_tags_allocates_nothing()
    {
        var logger = Logger(new FakeTimeProvider());
        void Measure()
        {
            logger.Metrics.Counter("orders", 1, ("shop", "a"), ("kind", "b"));
            logger.Metrics.Histogram("latency", 0.5, ("shop", "a"));
            logger.Metrics.Gauge("queue", 4);
        }

        Allocation.OfThousand(Measure).Should().Be(0);
        Metrics(logger).Should().HaveCount(3);
    }
}
