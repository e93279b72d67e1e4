using System.Collections.Concurrent;
using System.Text.Json;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Shop;

namespace LogTrace.Tests.Logger;

/// <summary>One run of the shop under a seeded load, shared by the tests that look at its log files.</summary>
public sealed class ShopFixture : IAsyncLifetime
{
    public const int Seed = 7;
    public const int Requests = 150;
    const string DebugKey = "a key for the tests only";

    readonly TempFolder _folder = new();

    public ShopSummary Summary { get; private set; } = null!;

    /// <summary>The trace of each request, as the gateway's answer names it.</summary>
    public ConcurrentDictionary<string, LoadRequest> Planned { get; } = new();

    /// <summary>Lines by service.</summary>
    public Dictionary<string, string[]> Lines { get; private set; } = [];

    public List<TraceRecord> Records { get; private set; } = [];

    public ILookup<string?, TraceRecord> Traces { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        var options = new ShopOptions { LogDirectory = _folder["logs"], DataDirectory = _folder["data"], BasePort = 0, Seed = Seed, DebugKey = DebugKey, JobInterval = TimeSpan.FromMilliseconds(200) };
        await using (var shop = await ShopRun.StartAsync(options, CancellationToken.None))
        {
            var load = new LoadOptions { Rate = 500, Requests = Requests, Seed = Seed, DebugKey = DebugKey };
            var result = await shop.LoadAsync(load, CancellationToken.None, (request, response) => Planned[response.Headers.GetValues("X-Trace-Id").Single()] = request);
            Summary = await shop.StopAsync(result);
        }

        Lines = Directory.EnumerateDirectories(_folder["logs"]).ToDictionary(folder => Path.GetFileName(folder)!, folder => Directory.EnumerateFiles(folder, "*.log").SelectMany(File.ReadAllLines).ToArray());
        Records = [.. Lines.Values.SelectMany(lines => lines).Select(RecordedTrace.Read)];
        Traces = Records.ToLookup(record => record.TraceId);
    }

    public Task DisposeAsync()
    {
        _folder.Dispose();
        return Task.CompletedTask;
    }
}

public sealed class ShopTests(ShopFixture shop) : IClassFixture<ShopFixture>
{
    static readonly Faults s_faults = new(ShopFixture.Seed);

    static bool IsPlaced(TraceRecord record) => record.Kind is RecordKind.Client or RecordKind.Server or RecordKind.Internal;

    [Fact]
    public void Every_request_is_answered_and_every_service_counts_the_lines_in_its_files()
    {
        shop.Summary.Requests.Should().Be(ShopFixture.Requests);
        shop.Planned.Should().HaveCount(ShopFixture.Requests);
        shop.Summary.Dropped.Should().Equal(ShopOptions.Services.ToDictionary(service => service, _ => 0L));
        shop.Summary.Written.Should().Equal(shop.Lines.ToDictionary(service => service.Key, service => (long)service.Value.Length));
    }

    [Fact]
    public void Every_chain_is_the_one_that_the_readme_describes()
    {
        foreach (var (trace, request) in shop.Planned)
        {
            var chain = shop.Traces[trace].Where(IsPlaced).Select(record => $"{record.RpcId} {record.Name} {record.Service}").Order(StringComparer.Ordinal).ToList();
            if (request.Path.StartsWith("/orders/", StringComparison.Ordinal)) HideOrderOfConcurrentCalls(chain);

            chain.Should().Equal(ExpectedShopChain.Of(request, s_faults), $"that is the chain of request {request.Number} of seed {ShopFixture.Seed}, {request.Method} {request.Path}, trace {trace}");
        }
    }

    // Below an order view every call goes to stock but one, which goes to payment.
    static void HideOrderOfConcurrentCalls(List<string> chain)
    {
        var payments = chain.Count(line => line.EndsWith(" request.info payment", StringComparison.Ordinal));
        payments.Should().BeLessThanOrEqualTo(1);
        for (var line = 0; line < chain.Count; line++)
        {
            foreach (var service in (string[])["stock", "payment"])
                if (chain[line].EndsWith(" " + service, StringComparison.Ordinal)) chain[line] = chain[line][..^service.Length] + ExpectedShopChain.StockOrPayment;
        }
    }

    [Fact]
    public void The_load_meets_every_case_of_the_readme()
    {
        var checkouts = shop.Planned.Values.Select(request => request.Body).OfType<CheckoutRequest>().ToList();

        checkouts.Should().Contain(checkout => checkout.Cart % 25 == 0, "one cart is sold out");
        checkouts.Should().Contain(checkout => s_faults.StockIsSlow(checkout.Reference));
        checkouts.Should().Contain(checkout => s_faults.PaymentIsBusyAtFirst(checkout.Reference));
        checkouts.Should().Contain(checkout => s_faults.CardIsDeclined(checkout.Reference));
        checkouts.Should().Contain(checkout => s_faults.PaymentCrashes(checkout.Reference));
        shop.Planned.Values.Should().Contain(request => request.Path.StartsWith("/orders/9", StringComparison.Ordinal), "one order is unknown");
        shop.Planned.Values.Should().Contain(request => request.Debug);
        shop.Summary.Failed.Should().BeGreaterThan(0);
    }

    [Fact]
    public void No_id_stands_for_two_calls_and_no_number_is_missing()
    {
        foreach (var trace in shop.Traces.Where(trace => trace.Key is not null))
        {
            var placed = trace.Where(IsPlaced).ToList();

            // A connect and its request are one call; otherwise an id has one record of a kind.
            placed.GroupBy(record => (record.RpcId, IsConnect: RecordNames.IsConnect(record.Name))).Should().OnlyContain(group => group.Count() == 1, $"trace {trace.Key} must use an id once");

            // Every number below the highest one of a scope has a record, or records below it.
            var used = placed.SelectMany(record => WithAncestors(record.RpcId!.Value)).ToHashSet();
            foreach (var scope in used.Where(id => id.TryGetParent(out _)).GroupBy(id => id.TryGetParent(out var parent) ? parent : default))
                scope.Select(id => id.LastNumber).Should().BeEquivalentTo(Enumerable.Range(1, scope.Count()).Select(number => (long)number), $"scope {scope.Key} of trace {trace.Key} must be dense");
        }
    }

    static IEnumerable<RpcId> WithAncestors(RpcId id)
    {
        yield return id;
        while (id.TryGetParent(out id)) yield return id;
    }

    [Fact]
    public void Every_run_of_the_job_is_a_whole_trace_of_its_own()
    {
        var jobs = shop.Traces.Where(trace => trace.Any(record => record.Name == "request.info" && record.Action == "settlement")).ToList();

        jobs.Should().HaveCount(shop.Summary.JobTraces).And.NotBeEmpty();
        jobs.Should().OnlyContain(trace => !shop.Planned.ContainsKey(trace.Key!));
        jobs.Should().OnlyContain(trace => trace.Single(record => record.Name == "request.info" && record.Action == "settlement").RpcId == RpcId.Parse("1.1"));
        jobs.Should().Contain(trace => trace.Any(record => record.Service == "payment"), "some run had something to settle");
    }

    [Fact]
    public void Every_service_logs_at_every_level_in_its_place()
    {
        var names = shop.Records.Where(record => record.TraceId is not null && record.Kind == RecordKind.Event).Select(record => record.Name).ToHashSet();

        names.Should().Contain(["log.info", "log.warning", "log.exception"]);
        shop.Records.Where(record => record.TraceId is not null).Should().OnlyContain(record => record.RpcId != null);
        shop.Records.Where(record => record.Kind == RecordKind.Event).Should().Contain(record => record.Name == "log.exception" && record.Service == "payment" && record.Backtrace!.Contains("ChargeAsync"));
    }

    [Fact]
    public void A_debug_request_gets_debug_lines_of_every_service_it_reaches_and_others_get_none()
    {
        foreach (var (trace, request) in shop.Planned)
        {
            if (!request.Debug) shop.Traces[trace].Should().NotContain(record => record.Name == "log.debug" || record.Debug == true);
            else shop.Traces[trace].Should().OnlyContain(record => record.Debug == true);
        }

        var checkout = shop.Planned.First(planned => planned.Value.Debug && planned.Value.Body is not null).Key;
        shop.Traces[checkout].Where(record => record.Name == "log.debug").Select(record => record.Service).Should().Contain(["gateway", "orders", "stock"]);
    }

    [Fact]
    public void The_same_seed_plans_the_same_requests_and_another_seed_others()
    {
        string Plan(int seed) => string.Join('\n', Enumerable.Range(1, 100).Select(number => LoadRequest.Plan(seed, number, mayDebug: true).ToString()));

        Plan(1).Should().Be(Plan(1)).And.NotBe(Plan(2));
    }

    [Fact]
    public void The_counts_are_one_line_of_json()
    {
        var line = shop.Summary.ToString();

        line.Should().NotContain("\n");
        var json = JsonDocument.Parse(line).RootElement;
        json.GetProperty("requests").GetInt32().Should().Be(ShopFixture.Requests);
        json.GetProperty("failed").GetInt32().Should().Be(shop.Summary.Failed);
        json.GetProperty("written").GetProperty("stock").GetInt64().Should().BeGreaterThan(0);
        json.GetProperty("dropped").GetProperty("payment").GetInt64().Should().Be(0);
        json.GetProperty("job_traces").GetInt32().Should().BeGreaterThan(0);
    }
}
