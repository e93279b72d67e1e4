using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using static LogTrace.Tests.Indexer.ChainSample;

namespace LogTrace.Tests.Indexer;

/// <summary>Self time and the critical path. Times are microseconds from the start of the request.</summary>
public sealed class ChainTimesTests
{
    const long Start = 1_000_000;

    [Fact]
    public void Sequential_calls_are_all_on_the_path_and_the_gap_between_them_is_the_parents_own() =>
        Describe(At("request.info", "1.1", 0, 100), At("http.get", "1.2", 10, 20), At("http.get", "1.3", 40, 50)).Should().Equal("1 self 30 path 30", "1.2 self 20 path 20", "1.3 self 50 path 50");

    [Fact]
    public void Of_parallel_calls_the_one_that_ends_last_is_on_the_path() =>
        Describe(At("request.info", "1.1", 0, 100), At("http.get", "1.2", 10, 20), At("http.get", "1.3", 10, 80), At("http.get", "1.4", 20, 60)).Should().Equal("1 self 20 path 20", "1.2 self 20", "1.3 self 80 path 80", "1.4 self 60");

    [Fact]
    public void Path_goes_on_within_a_call_and_the_network_is_the_calls_part_of_it_but_not_its_self_time() =>
        Describe(At("request.info", "1.1", 0, 100), At("http.get", "1.2", 10, 80), At("request.info", "1.2.1", 20, 60, "orders"), At("mysql.request", "1.2.2", 30, 40, "orders"))
            .Should().Equal("1 self 20 path 20", "1.2 self 20 path 40", "1.2.2 self 40 path 40");

    [Fact]
    public void What_a_call_that_is_not_on_the_path_calls_is_not_on_it() =>
        Describe(At("request.info", "1.1", 0, 100), At("http.get", "1.2", 10, 20), At("mysql.request", "1.2.2", 15, 5, "orders"), At("http.get", "1.3", 10, 80)).Should().Equal("1 self 20 path 20", "1.2 self 15", "1.2.2 self 5", "1.3 self 80 path 80");

    [Fact]
    public void Child_that_outlives_its_parent_is_cut_to_it() =>
        Describe(At("request.info", "1.1", 0, 100), At("http.get", "1.2", 60, 500)).Should().Equal("1 self 60 path 60", "1.2 self 500 path 40");

    [Fact]
    public void Consumer_of_a_message_is_not_waited_for() =>
        Describe(At("request.info", "1.1", 0, 100), At("kafka.produce", "1.2", 10, 5), At("request.info", "1.2.1", 300, 60, "mailer"), At("mysql.request", "1.2.2", 310, 20, "mailer"))
            .Should().Equal("1 self 95 path 95", "1.2 self 40 path 5", "1.2.2 self 20");

    [Fact]
    public void Placeholder_spans_what_stands_below_it_and_has_no_self_time() =>
        Describe(At("request.info", "1.1", 0, 100), At("mysql.request", "1.2.2", 20, 10, "orders"), At("mysql.request", "1.2.3", 40, 20, "orders")).Should().Equal("1 self 60 path 60", "1.2 path 10", "1.2.2 self 10 path 10", "1.2.3 self 20 path 20");

    [Fact]
    public void Call_of_unknown_duration_is_a_point() =>
        Describe(At("request.info", "1.1", 0, 100), At("http.get", "1.2", 10, null), At("http.get", "1.3", 40, 20)).Should().Equal("1 self 80 path 80", "1.2 path 0", "1.3 self 20 path 20");

    [Fact]
    public void Log_lines_alone_are_not_on_the_path() =>
        Describe(At("request.info", "1.1", 0, 100), Log("1.2", "gateway", at: Start + 50)).Should().Equal("1 self 100 path 100", "1.2");

    [Fact]
    public void Clocks_that_differ_are_corrected_first() =>
        Describe(
            At("request.info", "1.1", 0, 100_000, ip: "10.0.0.1"), At("http.get", "1.2", 10_000, 80_000, ip: "10.0.0.1"), At("request.info", "1.2.1", -900_000, 60_000, "orders", "10.0.0.2"),
            At("mysql.request", "1.2.2", -890_000, 40_000, "orders", "10.0.0.2")).Should().Equal("1 self 20000 path 20000", "1.2 self 20000 path 40000", "1.2.2 self 40000 path 40000");

    [Fact]
    public void Parts_of_the_path_make_up_the_time_of_the_top_in_any_tree_and_any_order_of_arrival()
    {
        var random = new Random(7);
        for (var round = 0; round < 500; round++)
        {
            var total = random.Next(0, 1_000);
            var records = new List<IndexedRecord> { At("request.info", "1.1", 0, total) };
            var ids = new List<string> { "1" };
            var counts = new Dictionary<string, int>();
            for (var i = random.Next(30); i > 0; i--)
            {
                var parent = ids[random.Next(ids.Count)];
                counts[parent] = counts.GetValueOrDefault(parent, 1) + 1;
                ids.Add($"{parent}.{counts[parent]}");
                if (random.Next(10) > 0) records.Add(At("http.get", ids[^1], random.Next(-100, 1_100), random.Next(8) == 0 ? null : random.Next(500)));
                if (random.Next(3) == 0) records.Add(At("request.info", ids[^1] + ".1", random.Next(-100, 1_100), random.Next(500)));
            }

            var chain = Build([.. records]);
            using var times = ChainTimes.Of(chain, null);
            chain.Nodes.Where(node => node == chain.Nodes[0] || node.Parent is not null).Sum(times.CriticalMicros).Should().Be(total, "round {0}", round);
            foreach (var node in chain.Nodes)
            {
                if (times.SelfMicros(node) is { } self) self.Should().BeInRange(0, (node.Callee ?? node.Caller)!.Record.DurationMicros!.Value);
                if (times.IsCritical(node) && node.Parent is { } above) times.IsCritical(above).Should().BeTrue();
            }

            var expected = Describe(chain);
            var shuffled = records.ToArray();
            random.Shuffle(shuffled);
            Describe(Build(shuffled)).Should().Equal(expected);
        }
    }

    [Fact]
    public void Large_and_deep_chains_and_times_that_overflow_have_a_path_too()
    {
        var wide = Build([At("request.info", "1.1", 0, 1_000_000), .. Enumerable.Range(2, 200_000).Select(number => At("http.get", $"1.{number}", number, 1))]);
        using (var times = ChainTimes.Of(wide, null)) wide.Nodes.Sum(times.CriticalMicros).Should().Be(1_000_000);

        var id = "1";
        var deep = new List<IndexedRecord> { At("request.info", "1.1", 0, 1_000) };
        for (var depth = 1; depth < 250; depth++) deep.Add(At("http.get", id += ".2", depth, 1_000 - 2 * depth));
        var chain = Build([.. deep]);
        using (var times = ChainTimes.Of(chain, null)) chain.Nodes.Sum(times.CriticalMicros).Should().Be(1_000);

        var absurd = Build(At("request.info", "1.1", long.MinValue / 2, long.MaxValue), At("http.get", "1.2", long.MaxValue - Start, long.MaxValue), At("http.get", "1.3", -Start, long.MaxValue));
        using (var times = ChainTimes.Of(absurd, null)) times.CriticalMicros(absurd.Nodes[0]).Should().BeGreaterThanOrEqualTo(0);
    }

    [Fact]
    public void Rows_and_json_tell_both()
    {
        var chain = Build(At("request.info", "1.1", 0, 100), At("http.get", "1.2", 10, 20), At("http.get", "1.3", 10, 80));
        using var rows = JsonDocument.Parse(ChainDocuments.Rows(chain));
        rows.RootElement.EnumerateArray().Select(row => row.GetProperty("self_us").GetInt64()).Should().Equal(20, 20, 80);
        rows.RootElement.EnumerateArray().Select(row => row.TryGetProperty("critical", out var critical) && critical.GetBoolean()).Should().Equal(true, false, true);

        var output = new System.Buffers.ArrayBufferWriter<byte>();
        ChainJson.Write(chain, output);
        using var json = JsonDocument.Parse(output.WrittenMemory);
        json.RootElement.GetProperty("nodes").EnumerateArray().Select(node => (node.GetProperty("self_us").GetInt64(), node.GetProperty("critical").GetBoolean())).Should().Equal((20, true), (20, false), (80, true));
    }

    static IndexedRecord At(string name, string id, long at, long? duration, string service = "gateway", string? ip = null) => Record(name, id, service, Start + at, duration, ip: ip);

    static string[] Describe(params IndexedRecord[] records) => Describe(Build(records));

    static string[] Describe(CallChain chain)
    {
        using var times = ChainTimes.Of(chain, ChainClocks.Of(chain));
        return [.. chain.Nodes.Select(node => $"{node}{(times.SelfMicros(node) is { } self ? $" self {self}" : "")}{(times.IsCritical(node) ? $" path {times.CriticalMicros(node)}" : "")}")];
    }
}
