using System.Text.Json;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>The demo as its user starts it: shop, files, pipeline and store, as processes.</summary>
public sealed class DemoTests
{
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(3);

    [Fact]
    public async Task The_embedded_demo_loses_nothing_and_its_chain_is_whole()
    {
        using var folder = new TempFolder();
        await using var demo = ProgramProcess.StartIndexer("demo", "--once", "--data", folder.Path);

        (await demo.ExitCodeAsync(Deadline)).Should().Be(0, demo.Transcript);

        var balance = Balance.Parse(demo.Output);
        balance.Lost.Should().Be(0, demo.Transcript);
        balance.Written.Should().BeGreaterThan(1000);
        balance.Read.Should().Be(balance.Written);
        balance.Stored.Should().Be(balance.Written);
        demo.Output.Should().Contain("gateway").And.Contain("payment").And.NotContain("not received");
    }

    [Fact]
    public async Task Chains_from_the_store_equal_the_chains_rebuilt_from_the_files()
    {
        using var folder = new TempFolder();
        await using var demo = ProgramProcess.StartIndexer("demo", "--once", "--data", folder.Path);
        (await demo.ExitCodeAsync(Deadline)).Should().Be(0, demo.Transcript);

        await ChainComparison.StoreEqualsFilesAsync(folder.Path, traces: 10, "--data", folder.Path);
    }

    [Fact]
    public async Task A_lost_service_is_shown_at_its_place()
    {
        using var folder = new TempFolder();
        await using var demo = ProgramProcess.StartIndexer("demo", "--once", "--lose", "orders", "--data", folder.Path);

        (await demo.ExitCodeAsync(Deadline)).Should().Be(0, demo.Transcript);

        var balance = Balance.Parse(demo.Output);
        balance.Lost.Should().Be(0, demo.Transcript);
        balance.ThrownAway.Should().BeGreaterThan(0);
        (balance.Stored + balance.ThrownAway).Should().Be(balance.Written);

        // The printed chain is a checkout: the call to orders lost its callee's side, orders' own calls are known from their callees only.
        var chain = JsonDocument.Parse((await ChainComparison.ChainJsonAsync(PrintedTraceId(demo.Output), "--data", folder.Path))).RootElement;
        var nodes = chain.GetProperty("nodes").EnumerateArray().ToList();
        var toOrders = nodes.Single(node => node.GetProperty("depth").GetInt32() == 1 && node.GetProperty("caller") is { ValueKind: JsonValueKind.Object } && node.GetProperty("action").GetString()!.Contains("/orders", StringComparison.Ordinal));
        var orders = toOrders.GetProperty("rpc_id").GetString()!;
        toOrders.GetProperty("callee").ValueKind.Should().Be(JsonValueKind.Null);
        chain.GetProperty("complete").GetBoolean().Should().BeFalse();
        var gaps = chain.GetProperty("gaps").EnumerateArray().Select(gap => gap.GetString()!).ToList();
        gaps.Should().Contain(gap => gap.StartsWith(orders + ".", StringComparison.Ordinal));

        var below = nodes.Where(node => node.GetProperty("rpc_id").GetString()!.StartsWith(orders + ".", StringComparison.Ordinal)).ToList();
        var forks = below.Where(node => node.GetProperty("placeholder").GetBoolean()).ToList();
        forks.Should().HaveCount(2, "both forks of orders are known from what they called");
        forks.Should().OnlyContain(node => node.GetProperty("depth").GetInt32() == 2 && node.GetProperty("service").GetString() == "orders");
        below.Should().Contain(node => !node.GetProperty("placeholder").GetBoolean() && node.GetProperty("caller").ValueKind == JsonValueKind.Null
            && node.GetProperty("service").GetString() == "stock");
        below.Should().Contain(node => node.GetProperty("service").GetString() == "payment");
        demo.Output.Should().Contain(orders).And.Contain("orders");
    }

    [RealKafkaTheory]
    [EveryElasticsearch]
    public async Task The_full_pipeline_gives_the_same_balance_and_the_same_chains(string engine)
    {
        using var folder = new TempFolder();
        var kafka = await RealEngines.KafkaAsync();
        var elasticsearch = await RealEngines.ElasticsearchAsync(engine);
        await using var demo = ProgramProcess.StartIndexer("demo", "--once", "--kafka", kafka, "--elasticsearch", elasticsearch, "--data", folder.Path);

        (await demo.ExitCodeAsync(Deadline)).Should().Be(0, demo.Transcript);

        var balance = Balance.Parse(demo.Output);
        balance.Lost.Should().Be(0, demo.Transcript);
        balance.Stored.Should().Be(balance.Written);
        await ChainComparison.StoreEqualsFilesAsync(folder.Path, traces: 10, "--elasticsearch", elasticsearch);
    }

    [Fact]
    public async Task The_embedded_pipeline_never_loads_the_kafka_client()
    {
        using var folder = new TempFolder();
        await using var demo = ProgramProcess.StartIndexer("demo", "--data", folder.Path, "--port", "0", "--rate", "20");
        await Eventually.HoldsAsync((Func<bool>)(() => demo.Errors.Contains("gateway at", StringComparison.Ordinal) || demo.HasExited), "the shop is open", Deadline);

        var mapped = await File.ReadAllTextAsync($"/proc/{demo.Id}/maps");

        mapped.Should().NotContain("librdkafka").And.NotContain("Confluent.Kafka");
        (await demo.StopAsync(TimeSpan.FromSeconds(30))).Should().Be(0, demo.Transcript);
        ChildrenOf(demo.Id).Should().BeEmpty();
    }

    static string PrintedTraceId(string output) =>
        output.Split('\n').Select(line => line.Trim()).First(line => line.StartsWith("chain ", StringComparison.Ordinal)).Split(' ')[1];

    static IEnumerable<string> ChildrenOf(int pid) =>
        Directory.EnumerateDirectories("/proc")
            .Where(path => int.TryParse(Path.GetFileName(path), out _))
            .Where(path =>
            {
                try
                {
                    var stat = File.ReadAllText(Path.Combine(path, "stat"));
                    return stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[1] == pid.ToString(System.Globalization.CultureInfo.InvariantCulture);
                }
                catch (IOException)
                {
                    return false; // ended while we looked
                }
            });
}
