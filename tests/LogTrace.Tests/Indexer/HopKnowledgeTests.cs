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
    static readonly string[] Whole = ["1.1 request.info gateway", "1.2 http.get gateway http://stock/items/7", "1.2.1 request.info stock", "1.3 mysql.request gateway select"];
    static readonly string[] LeafLost = ["1.1 request.info gateway", "1.2 http.get gateway http://stock/items/9", "1.3 mysql.request gateway select"];

    // A proxy without a logger between gateway and stock: 1.2 is nobody's.
    static readonly string[] Proxied = ["1.1 request.info gateway", "1.2.1.1 request.info stock", "1.2.1 http.get proxy http://stock/items/7", "1.3 mysql.request gateway select"];

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

    /// <summary>Without a logger its own records are never there: what it called first is, and number one is not.</summary>
    [Fact]
    public void Numbers_of_a_service_that_is_never_recorded_are_not_lost_by_it()
    {
        string[] lines = ["1.1 request.info gateway", "1.2.4.1 request.info stock", "1.2.4 http.get proxy http://stock/items/7"];
        Learn(50, lines);

        var document = Document(lines);

        var call = document.Calls.Single(it => it.RpcId == "1.2");
        (call.LossState, call.GapCount, call.LostCount).Should().Be(("never_recorded", 3, 0));
        (document.GapCount, document.LostCount).Should().Be((3, 4), "no count of the chain changes");
    }

    [Fact]
    public void Hop_that_some_chains_have_stays_lost_where_it_is_missing()
    {
        string[] recorded = [.. Proxied, "1.2 http.get gateway http://proxy/items/7", "1.2.1 request.info proxy"];
        Learn(90, Proxied);
        Learn(10, recorded);

        Document(Proxied).Calls.Single(it => it.RpcId == "1.2").LossState.Should().Be("placeholder");
    }

    [Theory]
    [InlineData(95, "never_recorded", "callee_missing")]
    [InlineData(94, "placeholder", "none")]
    public void Nineteen_of_twenty_chains_are_enough_and_fewer_are_not(int share, string hop, string callee)
    {
        string[] recorded = [.. Proxied, "1.2 http.get gateway http://proxy/items/7", "1.2.1 request.info proxy"];
        Learn(share, Proxied);
        Learn(100 - share, recorded);
        Document(Proxied).Calls.Single(it => it.RpcId == "1.2").LossState.Should().Be(hop);

        Learn(share, Whole, "GET /other");
        Learn(100 - share, LeafLost, "GET /other");
        Document(LeafLost, "GET /other").Calls.Single(it => it.RpcId == "1.2").LossState.Should().Be(callee);
    }

    [Fact]
    public void Labels_that_a_chain_was_stored_with_are_those_of_the_chain_that_is_built_again()
    {
        Learn(50, Whole);
        Learn(50, Proxied, "GET /other");
        foreach (var (lines, entry) in ((string[], string)[])[(LeafLost, "GET /cart"), (Proxied, "GET /other")])
        {
            var document = Document(lines, entry);

            var again = Build("x", lines, entry);
            ChainDocuments.From(again, ChainDocuments.StoredLabels(again, document.Calls)).RowsJson.Should().Be(document.RowsJson).And.MatchRegex("never_recorded|callee_missing");

            var whole = Build("x", [.. lines, "1.2 http.get gateway http://stock/items/7", "1.2.1 request.info stock"], entry);
            ChainDocuments.StoredLabels(whole, document.Calls).Should().BeEmpty("the records came later");
        }
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

    // ---- names of calls without records ----

    // gateway calls orders, orders calls stock: a line's fifth and sixth words are the address it was written at, and where its request came from.
    static readonly string[] Shop =
    [
        "1.1 request.info gateway - 10.0.0.1", "1.2 http.get gateway - 10.0.0.1", "1.2.1 request.info orders - 10.0.0.2 10.0.0.1", "1.2.2 http.get orders - 10.0.0.2",
        "1.2.2.1 request.info stock - 10.0.0.3 ::ffff:10.0.0.2",
    ];

    static string[] Without(string[] lines, params string[] ids) => [.. lines.Where(line => !ids.Contains(line.Split(' ')[0]))];

    [Fact]
    public void Lost_call_is_named_by_where_the_request_below_it_came_from()
    {
        var lines = Without(Shop, "1.2", "1.2.1", "1.2.2");

        Named(Build("x", lines)).Should().Be("1.2 -", "nobody at that address has a record in the trace");
        Named(Build("x", [.. lines, "1.3 mysql.request orders select 10.0.0.2:8080"])).Should().Be("1.2 orders");
    }

    [Fact]
    public void Address_of_several_services_names_none()
    {
        string[] lines = [.. Without(Shop, "1.2", "1.2.1", "1.2.2"), "1.3 mysql.request orders select 10.0.0.2"];

        Named(Build("x", [.. lines, "1.4 mysql.request billing select 10.0.0.2"])).Should().Be("1.2 -", "two live there");
        Named(Build("x", [.. lines, "1.4 http.get gateway - 10.0.0.1", "1.4.1 request.info billing - 10.0.0.4 10.0.0.2"])).Should().Be("1.2 -", "gateway calls from there too, as through a proxy");
    }

    [Fact]
    public void Loopback_is_nobody_s_address() =>
        Named(Build("x", ["1.1 request.info gateway - 127.0.0.1", "1.2.2.1 request.info stock - 127.0.0.1 127.0.0.1"])).Should().Be("1.2 -");

    [Fact]
    public void Lost_call_is_named_by_who_was_at_the_address_in_fifty_earlier_chains()
    {
        var lines = Without(Shop, "1.2", "1.2.1", "1.2.2");
        Learn(49, Without(Shop, "1.1"), "GET /other");
        Named(Build("x", lines, known: _hops)).Should().Be("1.2 -");
        Learn(1, Without(Shop, "1.1"), "GET /other");
        Named(Build("x", lines, known: _hops)).Should().Be("1.2 orders");

        Learn(50, [.. Without(Shop, "1.1").Select(line => line.Replace("orders", "billing", StringComparison.Ordinal))], "GET /other");
        Named(Build("x", lines, known: _hops)).Should().Be("1.2 billing", "the address is another service's now");
    }

    [Fact]
    public void Lost_calls_are_named_by_what_such_requests_call()
    {
        string[] lines = ["1.1 request.info gateway", "1.2 http.get gateway", "1.2.1 request.info orders", "1.2.2 http.get orders", "1.2.2.1 request.info stock", "1.2.2.2 http.get stock", "1.2.2.2.1 request.info price"];
        var left = Without(lines, "1.2", "1.2.1", "1.2.2", "1.2.2.1", "1.2.2.2");
        Learn(49, lines);
        Named(Build("x", left, known: _hops)).Should().Be("1.2 - 1.2.2 -");
        Learn(1, lines);
        Named(Build("x", left, known: _hops)).Should().Be("1.2 orders 1.2.2 stock");

        var document = ChainDocuments.From(Build("x", left, known: _hops));
        document.Calls.Select(call => $"{call.RpcId} {call.Caller}>{call.Callee} {call.LossState}").Should().Contain(["1.2 gateway>orders placeholder", "1.2.2 orders>stock placeholder", "1.2.2.2 stock>price callee_only"]);
    }

    [Fact]
    public void Lost_call_from_where_different_ones_are_made_gets_no_name()
    {
        string[] lines = ["1.1 request.info gateway", "1.2 http.get gateway", "1.2.1 request.info orders", "1.2.2 http.get orders", "1.2.2.1 request.info stock"];
        for (var i = 0; i < 50; i++)
        {
            Learn(1, lines);
            Learn(1, [.. lines.Select(line => line.Replace("orders", "billing", StringComparison.Ordinal))]);
        }

        Named(Build("x", Without(lines, "1.2", "1.2.1", "1.2.2"), known: _hops)).Should().Be("1.2 -");
        Named(Build("x", Without(lines, "1.2", "1.2.1"), known: _hops)).Should().Be("1.2 orders", "what it calls tells");
    }

    [Fact]
    public void Hop_that_no_chain_has_gets_no_name_from_those_that_call_alike()
    {
        Learn(60, Shop);
        Learn(60, ["1.1 request.info gateway", "1.3.1.1 request.info stock"]);

        Named(Build("x", ["1.1 request.info gateway", "1.3.1.1 request.info stock"], known: _hops)).Should().Be("1.3 -");
    }

    static string Named(CallChain chain) => string.Join(' ', chain.Nodes.Where(node => node.IsPlaceholder).Select(node => $"{node} {node.CalleeService ?? "-"}"));

    void Learn(int chains, string[] lines, string entry = "GET /cart")
    {
        for (var i = 0; i < chains; i++) _hops.Learn(Build($"t-{_traces++}", lines, entry));
    }

    LogTrace.Indexer.Store.ChainDocument Document(string[] lines, string entry = "GET /cart")
    {
        var chain = Build("x", lines, entry);
        return ChainDocuments.From(chain, _hops.Label(chain));
    }

    static List<JsonElement> Rows(LogTrace.Indexer.Store.ChainDocument document) => [.. JsonDocument.Parse(document.RowsJson).RootElement.EnumerateArray()];

    static CallChain Build(string traceId, string[] lines, string entry = "GET /cart", HopKnowledge? known = null) =>
        ChainBuilder.Build(traceId, [.. lines.Select((line, i) => Record(traceId, line.Split(' '), entry, i))], ChainOptions.Default, known);

    static IndexedRecord Record(string traceId, string[] parts, string entry, int offset)
    {
        var bytes = Encoding.UTF8.GetBytes(StoreRecords.Line(new Dictionary<string, object?>
        {
            ["name"] = parts[1],
            ["trace_id"] = traceId,
            ["rpc_id"] = parts[0],
            ["timestamp"] = 1_763_892_000,
            ["service"] = parts[2],
            ["action"] = parts.Length > 3 && parts[3] != "-" ? parts[3] : parts[0] == "1.1" ? entry : "GET /items/7",
            ["duration"] = 0.01,
            ["server_ip"] = parts.Length > 4 ? parts[4] : null,
            ["client_ip"] = parts.Length > 5 ? parts[5] : null,
        }));
        RecordCodec.TryRead(bytes, out var record, out var reason).Should().BeTrue(reason);
        return RecordDeriver.Derive(record, XxHash128.HashToUInt128(bytes), XxHash128.HashToUInt128(bytes), "app.log", offset, 1);
    }
}
