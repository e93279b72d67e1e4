using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Tests.Indexer;

/// <summary>What many chains teach about one.</summary>
public sealed class HopKnowledgeTests
{
    readonly HopKnowledge _hops = new(TimeSpan.Zero);
    int _traces;

    // gateway calls stock, which calls nobody; without its record nothing in the ids shows that it was ever called.
    static readonly string[] Whole = ["1.1 request.info gateway", "1.2 http.get gateway http://stock/items/7", "1.2.1 request.info stock", "1.3 mysql.request gateway select 1"];
    static readonly string[] LeafLost = ["1.1 request.info gateway", "1.2 http.get gateway http://stock/items/9", "1.3 mysql.request gateway select 1"];

    // A proxy without a logger between gateway and stock: 1.2 is nobody's.
    static readonly string[] Proxied = ["1.1 request.info gateway", "1.2.1.1 request.info stock", "1.2.1 http.get proxy http://stock/items/7", "1.3 mysql.request gateway select 1"];

    [Fact]
    public void Call_whose_callee_nearly_every_chain_has_is_likely_loss()
    {
        Learn(49, Whole);
        Document(LeafLost).LikelyLossCount.Should().Be(0, "49 chains are not enough");
        Learn(1, Whole);

        var document = Document(LeafLost);
        document.LikelyLossCount.Should().Be(1);
        document.Complete.Should().BeTrue("it is never known loss");
        document.LostCount.Should().Be(0);
        var call = document.Calls.Single(it => it.RpcId == "1.2");
        (call.LossState, call.LostCount).Should().Be(("callee_missing", 1));
        document.Calls.Single(it => it.RpcId == "1.3").LossState.Should().Be("none", "no database has a record");
        Rows(document).Single(row => row.GetProperty("rpc_id").GetString() == "1.2").GetProperty("callee_missing").GetBoolean().Should().BeTrue();
        Document(Whole).LikelyLossCount.Should().Be(0);
    }

    [Fact]
    public void Callee_that_a_tenth_of_the_chains_lacks_says_nothing()
    {
        for (var i = 0; i < 20; i++)
        {
            Learn(9, Whole);
            Learn(1, LeafLost);
        }

        Document(LeafLost).LikelyLossCount.Should().Be(0);
    }

    [Fact]
    public void Hop_that_no_chain_has_is_never_recorded_and_no_count_changes()
    {
        Learn(49, Proxied);
        var before = Document(Proxied);
        Learn(1, Proxied);
        var after = Document(Proxied);

        before.Calls.Single(it => it.RpcId == "1.2").LossState.Should().Be("placeholder");
        var call = after.Calls.Single(it => it.RpcId == "1.2");
        (call.LossState, call.LostCount).Should().Be(("never_recorded", 0));
        (after.PlaceholderCount, after.GapCount, after.CalleeOnlyCount, after.Complete, after.LikelyLossCount).Should().Be((before.PlaceholderCount, before.GapCount, before.CalleeOnlyCount, before.Complete, 0));
        after.PlaceholderCount.Should().Be(1);
        Rows(after).Single(row => row.GetProperty("rpc_id").GetString() == "1.2").GetProperty("never_recorded").GetBoolean().Should().BeTrue();
    }

    [Fact]
    public void Hop_that_some_chains_have_stays_lost_where_it_is_missing()
    {
        string[] recorded = [.. Proxied, "1.2 http.get gateway http://proxy/items/7", "1.2.1 request.info proxy"];
        Learn(90, Proxied);
        Learn(10, recorded);

        Document(Proxied).Calls.Single(it => it.RpcId == "1.2").LossState.Should().Be("placeholder");
    }

    [Fact]
    public void Another_entry_or_caller_is_another_hop()
    {
        Learn(60, Whole);

        Document([.. LeafLost.Select(line => line.Replace("gateway", "batch", StringComparison.Ordinal))]).LikelyLossCount.Should().Be(0);
        Document(LeafLost, "GET /elsewhere").LikelyLossCount.Should().Be(0);
    }

    [Fact]
    public void Chain_that_is_built_again_counts_once_as_it_is_in_the_end()
    {
        var clock = new Microsoft.Extensions.Time.Testing.FakeTimeProvider();
        var hops = new HopKnowledge(TimeSpan.FromSeconds(5), clock);
        for (var i = 0; i < 50; i++)
        {
            // The callee's record comes a moment later.
            hops.Learn(Build($"t-{i}", LeafLost));
            hops.Learn(Build($"t-{i}", Whole));
        }

        hops.Label(Build("x", LeafLost)).Should().BeNull("nothing has settled");
        clock.Advance(TimeSpan.FromSeconds(5));

        hops.Label(Build("x", LeafLost)).Should().ContainSingle().Which.Value.Should().Be(HopLabel.CalleeMissing);
    }

    void Learn(int chains, string[] lines)
    {
        for (var i = 0; i < chains; i++) _hops.Learn(Build($"t-{_traces++}", lines));
    }

    LogTrace.Indexer.Store.ChainDocument Document(string[] lines, string entry = "GET /cart")
    {
        var chain = Build("x", lines, entry);
        return ChainDocuments.From(chain, _hops.Label(chain));
    }

    static List<JsonElement> Rows(LogTrace.Indexer.Store.ChainDocument document) => [.. JsonDocument.Parse(document.RowsJson).RootElement.EnumerateArray()];

    static CallChain Build(string traceId, string[] lines, string entry = "GET /cart") =>
        ChainBuilder.Build(traceId, [.. lines.Select((line, i) => Record(traceId, line.Split(' ', 4), entry, i))], ChainOptions.Default);

    static IndexedRecord Record(string traceId, string[] parts, string entry, int offset)
    {
        var bytes = Encoding.UTF8.GetBytes(StoreRecords.Line(new Dictionary<string, object?>
        {
            ["name"] = parts[1],
            ["trace_id"] = traceId,
            ["rpc_id"] = parts[0],
            ["timestamp"] = 1_763_892_000,
            ["service"] = parts[2],
            ["action"] = parts.Length > 3 ? parts[3] : parts[0] == "1.1" ? entry : "GET /items/7",
            ["duration"] = 0.01,
        }));
        RecordCodec.TryRead(bytes, out var record, out var reason).Should().BeTrue(reason);
        return RecordDeriver.Derive(record, XxHash128.HashToUInt128(bytes), XxHash128.HashToUInt128(bytes), "app.log", offset, 1);
    }
}
