using LogTrace.Indexer.Chains;
using LogTrace.Records;
using static LogTrace.Tests.Indexer.ChainSample;

namespace LogTrace.Tests.Indexer;

/// <summary>One example per rule of DESIGN.md section 3.</summary>
public sealed class ChainBuilderTests
{
    [Fact]
    public void Worked_example_has_five_nodes_and_nothing_missing()
    {
        var chain = Build(Checkout());

        chain.Draw().Should().Equal(
            "1 >gateway [s]",
            "1.2 gateway>redis:6379 [c]",
            "1.3 gateway>orders [c s]",
            "1.3.2 orders>db:3306 [c]",
            "1.3.3 orders>stock [c s]");
        chain.Complete.Should().BeTrue();
        chain.Resolved.Should().BeTrue();
        chain.EntryService.Should().Be("gateway");
        chain.EntryAction.Should().Be("POST /checkout");
        chain.Services.Should().Equal("gateway", "orders", "stock");
        chain.Edges.Should().Equal("gateway>redis:6379", "gateway>orders", "orders>db:3306", "orders>stock");
        (chain.StartMicros, chain.DurationMicros).Should().Be((1_000_000, 90_000));
    }

    [Fact]
    public void Order_of_arrival_changes_nothing()
    {
        var records = Checkout();
        var expected = Build(records).Json().ToString();
        for (var seed = 0; seed < 50; seed++)
        {
            new Random(seed).Shuffle(records);
            Build(records).Json().ToString().Should().Be(expected);
        }
    }

    /// <code>
    /// 1 gateway
    /// `- 1.3   lost: call record and orders' own record
    ///    `- 1.3.2 orders> db
    /// </code>
    [Fact]
    public void Lost_call_is_a_placeholder_that_spans_its_descendants_and_is_named_by_its_childs_caller()
    {
        var chain = Build([.. Checkout().Where(record => record.Record.RpcId!.Value.Text is not ("1.3" or "1.3.1"))]);

        chain.Draw().Should().Equal(
            "1 >gateway [s]",
            "1.2 gateway>redis:6379 [c]",
            "1.3 gateway>orders placeholder",
            "gap 1.3.1",
            "1.3.2 orders>db:3306 [c]",
            "1.3.3 orders>stock [c s]");
        var node = chain.Nodes[2];
        node.Service.Should().Be("orders");
        (node.StartMicros, node.DurationMicros).Should().Be((1_010_000, 40_000));
        (chain.PlaceholderCount, chain.GapCount, chain.CalleeOnlyCount, chain.Complete).Should().Be((1, 1, 0, false));
    }
}
