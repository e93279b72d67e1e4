using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;
using Serilog;
using Serilog.Events;

namespace LogTrace.Tests.Logger;

public sealed class SamplingTests : IDisposable
{
    readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    TraceLogger Logger(TraceSamplingOptions sampling, TimeProvider? time = null, int maxHeldBytes = 64 * 1024)
    {
        var options = TestService.Options("orders", _folder["orders.log"]) with { Sampling = sampling, MaxHeldBytes = maxHeldBytes };
        return time is null ? new TraceLogger(options) : new TraceLogger(options, new TraceFile(options.File!), time);
    }

    List<TraceRecord> Traced(TraceLogger logger)
    {
        logger.Dispose();
        logger.File!.Dispose();
        return [.. Written.Records(_folder["orders.log"]).Where(record => record.TraceId is not null)];
    }

    static string Name(TraceRecord record) => $"{record.RpcId} {record.Name}";

    [Fact]
    public void A_ratio_keeps_its_share_of_ids_and_the_same_ids_everywhere()
    {
        var ids = Enumerable.Range(0, 20_000).Select(number => $"trace-{number}").ToList();

        ids.Count(id => TraceSampler.Position(id) < 0.1).Should().BeInRange(1_800, 2_200);
        TraceSampler.Position("4bf92f3577b34da6a3ce929d0e0e4736").Should().Be(TraceSampler.Position("4bf92f3577b34da6a3ce929d0e0e4736")).And.BeInRange(0, 1);
        var time = new FakeTimeProvider();
        var gateway = new TraceSampler(new() { Ratio = 0.1 }, time);
        var orders = new TraceSampler(new() { Ratio = 0.1 }, time);
        foreach (var id in ids) gateway.Decide(id, "x", default, out _).Should().Be(orders.Decide(id, "y", default, out _));
    }

    [Fact]
    public void A_request_that_is_not_sampled_leaves_nothing_but_a_count()
    {
        var logger = Logger(new() { Ratio = 0 });
        using (logger.StartTrace("job"))
        using (TraceOperation.Begin("redis.request", "GET a"))
        {
        }

        Traced(logger).Should().BeEmpty();
        logger.NotWritten.Should().Be(new NotWrittenCounts(2, 0, 0, 0, 0, 0));
        Written.Records(_folder["orders.log"]).Single(record => record.Action == "logtrace.not_written").ExtraJson.Should().StartWith("""{"value":2,"total":2,""").And.Contain("\"reason\":\"ratio\"");
    }

    [Fact]
    public void The_first_error_brings_out_what_was_held_and_lets_the_rest_through()
    {
        var logger = Logger(new() { Ratio = 0 });
        using (logger.StartTrace("job"))
        {
            using (TraceOperation.Begin("redis.request", "GET a"))
            {
            }

            using (var call = TraceOperation.Begin("http.get", "http://stock/")) call!.Fail("503", "busy");
            using (TraceContext.Current!.Fork("later"))
            {
            }
        }

        var records = Traced(logger);
        records.Select(Name).Should().Equal("1.2 redis.request", "1.3 http.get.error", "1.4.1 fork.info", "1.1 request.info");
        records.Should().OnlyContain(record => record.Sampled == true, "callees may have left their parts out");
        logger.NotWritten.Total.Should().Be(0);
    }

    [Fact]
    public void Slow_and_failed_requests_are_written_and_debug_ones_are_whole()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var logger = Logger(new() { Ratio = 0, SlowerThan = TimeSpan.FromSeconds(2) }, time);
        using (logger.StartTrace("quick")) time.Advance(TimeSpan.FromSeconds(1));
        using (logger.StartTrace("slow")) time.Advance(TimeSpan.FromSeconds(2));
        using (var failed = logger.StartTrace("failed")) failed.Fail("500", "no");
        using (logger.StartRequest("debug", "", new() { DebugUntil = DateTimeOffset.MaxValue }))
        {
        }

        Traced(logger).Select(record => $"{record.Action} {record.Sampled}").Should().Equal("slow True", "failed True", "debug ");
    }

    [Fact]
    public void Rules_hold_where_a_trace_begins_and_the_first_that_matches_counts()
    {
        var logger = Logger(new() { Rules = [new() { Route = "GET /health/deep", Ratio = 1 }, new() { Route = "/HEALTH*" }, new() { Route = "nightly *" }] });
        foreach (var action in (string[])["GET /health/deep", "GET /health/live", "POST /health", "nightly report", "GET /orders/health"])
        {
            using (logger.StartTrace(action))
            {
            }
        }

        Traced(logger).Select(record => record.Action).Should().Equal("GET /health/deep", "GET /orders/health");
        logger.NotWritten.Rule.Should().Be(3);
    }

    [Theory]
    [InlineData("1.2", "00", null, 0, true)]
    [InlineData("1.2", "01", 0.0, 1, false)]
    [InlineData(null, "00", null, 1, false)]
    [InlineData(null, "00", 1.0, 0, true)]
    [InlineData(null, "01", 0.0, 1, false)]
    public void A_trusted_caller_s_decision_wins_and_travels_on(string? rpcId, string flags, double? ratio, int sent, bool isLeftOut)
    {
        // Rules make a service one that samples without touching its ratio.
        var sampling = ratio is { } share ? new TraceSamplingOptions { Ratio = share, Rules = [new() { Route = "other" }] } : new();
        var logger = Logger(sampling);
        const string trace = "0123456789abcdef0123456789abcdef";
        var headers = new Dictionary<string, string> { ["traceparent"] = $"00-{trace}-00f067aa0ba902b7-{flags}" };
        if (rpcId is not null) (headers["X-Trace-Id"], headers["X-Rpc-Id"]) = (trace, rpcId);
        var passed = new Dictionary<string, string?>();
        using (var scope = logger.StartRequest("GET /", "", logger.Judge(CallerTrust.Trust, headers, (carrier, name) => carrier.GetValueOrDefault(name))))
        {
            using var call = scope.BeginCall("http.get", "x");
            TraceHeaders.Write(call, passed, (carrier, name, value) => carrier[name] = value, calleeIsInternal: true);
        }

        passed["traceparent"].Should().EndWith($"-0{sent}");
        Traced(logger).Should().HaveCount(isLeftOut ? 0 : 2);
        logger.NotWritten.Upstream.Should().Be(isLeftOut ? 2 : 0);
    }

    [Theory]
    [InlineData(CallerTrust.Ignore)]
    [InlineData(CallerTrust.Accept)]
    public void A_stranger_silences_nothing(CallerTrust trust)
    {
        var logger = Logger(new() { Rules = [new() { Route = "other" }] });
        var headers = new Dictionary<string, string> { ["traceparent"] = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-00", ["tracestate"] = "logtrace=1.2", ["b3"] = "0" };
        using (logger.StartRequest("GET /", "", logger.Judge(trust, headers, (carrier, name) => carrier.GetValueOrDefault(name))))
        {
        }

        Traced(logger).Should().ContainSingle();
    }

    [Fact]
    public void Beyond_the_limit_requests_are_left_out_whole_and_errors_are_not()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        var logger = Logger(new() { MaxRecordsPerSecond = 10 }, time);
        for (var i = 0; i < 100; i++)
        {
            using (logger.StartTrace("plain"))
            using (TraceOperation.Begin("redis.request", "GET a"))
            {
            }
        }

        using (var failed = logger.StartTrace("failed")) failed.Fail("500", "no");
        time.Advance(TimeSpan.FromSeconds(1));
        using (logger.StartTrace("later"))
        {
        }

        var records = Traced(logger);
        records.GroupBy(record => record.Action).ToDictionary(group => group.Key!, group => group.Count()).Should().BeEquivalentTo(new Dictionary<string, int> { ["plain"] = 5, ["GET a"] = 5, ["failed"] = 1, ["later"] = 1 });
        logger.NotWritten.Limit.Should().Be(190);
    }

    [Fact]
    public void What_is_held_is_bounded_and_what_the_bound_cut_is_said()
    {
        var logger = Logger(new() { Ratio = 0 }, maxHeldBytes: 4096);
        using (var scope = logger.StartTrace("job"))
        {
            for (var i = 0; i < 100; i++)
            {
                using (TraceOperation.Begin("redis.request", $"GET {i}"))
                {
                }
            }

            scope.Fail("500", "no");
        }

        var records = Traced(logger);
        var calls = records.Where(record => record.Name == "redis.request").ToList();
        calls.Should().HaveCountLessThan(20).And.NotBeEmpty();
        calls[^1].Action.Should().Be("GET 99", "the last ones say most");
        logger.NotWritten.Held.Should().Be(100 - calls.Count);
        records[^1].ExtraJson.Should().Contain($"\"lines_cut\":{100 - calls.Count}");
    }

    [Fact]
    public async Task Debug_lines_are_written_for_requests_that_fail_and_for_no_others()
    {
        var others = new EventList();
        await using var service = await TestService.StartAsync(_folder, "orders", app => app.MapGet("/{how}", (string how, ILogger<SamplingTests> log) =>
        {
            log.LogDebug("Looking at {How}", how);
            log.LogInformation("Found {How}", how);
            return how == "bad" ? throw new InvalidOperationException(how) : Results.StatusCode(how == "busy" ? 503 : 200);
        }), options => options with { BufferDebugUntilError = true });
        using var client = new HttpClient();
        foreach (var how in (string[])["good", "bad", "busy"]) await client.GetAsync(new Uri(service.Url, how));

        var records = (await service.StopAsync()).Where(record => record.Kind == RecordKind.Event && record.Action!.EndsWith(nameof(SamplingTests), StringComparison.Ordinal)).ToList();

        records.Select(record => record.Msg).Should().BeEquivalentTo(["Found good", "Looking at bad", "Found bad", "Looking at busy", "Found busy"]);
        records.Should().OnlyContain(record => record.Debug == null && record.Sampled == null);
    }

    [Fact]
    public void Held_debug_lines_reach_no_other_sink()
    {
        var others = new EventList();
        using (var tracer = new TraceLogger(TestService.Options("orders", _folder["orders.log"]) with { BufferDebugUntilError = true }))
        {
            using var serilog = new LoggerConfiguration().LogTrace(tracer).WriteTo.Sink(others).CreateLogger();
            using var scope = tracer.StartTrace("job");
            serilog.Debug("detail");
            serilog.Information("fact");
            scope.Fail("500", "no");
        }

        others.Events.Select(logEvent => logEvent.Level).Should().Equal(LogEventLevel.Information);
        Written.Records(_folder["orders.log"]).Select(record => record.Name).Should().Equal("log.info", "log.debug", "request.info.error");
    }
}
