using LogTrace.Indexer;
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

    /// <code>
    /// 1 gateway
    /// `- 1.2 > orders
    ///    |- 1.2.1  request.info, lost
    ///    `- 1.2.2 orders > stock
    /// </code>
    [Fact]
    public void Call_without_its_callees_record_has_a_gap_at_number_one() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Call("1.2.2", "orders", "stock")).Draw()
            .Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c]", "gap 1.2.1", "1.2.2 orders>stock [c]");

    [Fact]
    public void Request_without_its_callers_record_is_callee_only()
    {
        var chain = Build(Request("1.1", "gateway"), Request("1.2.1", "orders"));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [s] callee-only");
        (chain.CalleeOnlyCount, chain.PlaceholderCount, chain.GapCount, chain.Complete).Should().Be((1, 0, 0, false));
        chain.Nodes[1].Service.Should().Be("orders");
    }

    [Fact]
    public void Request_info_at_an_id_that_does_not_end_in_one_is_the_server_side_of_that_node() =>
        Build(Request("1", "gateway"), Call("1.2", "gateway", "orders"), Request("1.2", "orders")).Draw()
            .Should().Equal("1 >gateway [s]", "gap 1.1", "1.2 gateway>orders [c s]");

    /// <code>
    /// 1 gateway
    /// |- 1.2 branch (fork.info at 1.2.1)
    /// |  `- 1.2.2 > stock
    /// `- 1.3 branch, its fork.info lost
    ///    `- 1.3.2 > payment
    /// </code>
    [Fact]
    public void Fork_is_complete_with_its_fork_info_alone_and_a_placeholder_without()
    {
        var chain = Build(Request("1.1", "gateway"), Fork("1.2.1", "gateway"), Call("1.2.2", "gateway", "stock"), Call("1.3.2", "gateway", "payment"));

        chain.Draw().Should().Equal(
            "1 >gateway [s]",
            "1.2 gateway>gateway [f]",
            "1.2.2 gateway>stock [c]",
            "1.3 gateway>gateway placeholder",
            "gap 1.3.1",
            "1.3.2 gateway>payment [c]");
    }

    [Fact]
    public void Lost_branch_is_named_by_the_call_that_reached_its_service() =>
        Build(Request("1.1", "gateway"), Call("1.2", "gateway", "orders"), Request("1.2.4.2.1", "stock")).Nodes.Select(node => $"{node} {node.Service}")
            .Should().Equal("1 gateway", "1.2 gateway", "1.2.4 orders", "1.2.4.2 stock");

    [Fact]
    public void Service_that_left_no_record_is_named_as_its_callers_client_names_it()
    {
        var call = Call("1.2", "gateway", "127.0.0.1:5002", instance: "orders");

        Build(Request("1.1", "gateway"), call, Request("1.2.4.2.1", "stock")).Draw().Should().Equal(
            "1 >gateway [s]", "1.2 gateway>orders [c]", "gap 1.2.1..1.2.3", "1.2.4 orders> placeholder", "gap 1.2.4.1", "1.2.4.2 >stock [s] callee-only");
    }

    [Fact]
    public void Connect_and_request_of_one_service_are_one_call()
    {
        var chain = Build(Request("1.1", "gateway"), Call("1.2", "gateway", "db", "mysql.connect"), Call("1.2", "gateway", "db", "mysql.request"));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>db [c2]");
        chain.Nodes[1].Name.Should().Be("mysql.request");
        chain.Resolved.Should().BeTrue();
    }

    [Fact]
    public void Events_hang_on_the_call_they_follow_and_those_at_number_one_on_the_call_that_is_handled()
    {
        var chain = Build(Request("1.1", "gateway"), Log("1.1", "gateway"), Call("1.2", "gateway", "orders"), Log("1.2", "gateway"), Log("1.2.1", "orders"), Request("1.2.1", "orders"), Log("1.3", "gateway"));

        chain.Draw().Should().Equal("1 >gateway [s e1]", "1.2 gateway>orders [c s e2]", "1.3 gateway> [e1]");
        chain.Complete.Should().BeTrue();
        chain.Nodes[1].Events.Select(chain.Nodes[1].IsCalleeSide).Should().Equal(false, true);
    }

    [Fact]
    public void Node_with_events_only_is_neither_placeholder_nor_loss_but_fills_no_number_one()
    {
        var chain = Build(Request("1.1", "gateway"), Log("1.2.1", "orders"));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [e1]", "gap 1.2.1");
        (chain.PlaceholderCount, chain.GapCount).Should().Be((0, 1));
    }

    [Fact]
    public void Event_without_an_id_hangs_on_the_node_with_its_span_else_on_the_top() =>
        Build(Request("1.1", "gateway", span: "a"), Call("1.2", "gateway", "orders", span: "b"), Request("1.2.1", "orders", span: "c", parentSpan: "b"),
                Record("log.info", null, "orders", span: "c"), Record("log.info", null, "gateway", span: "unknown"), Record("log.info", null))
            .Draw().Should().Equal("1 >gateway [s e2]", "1.2 gateway>orders [c s e1]");

    [Fact]
    public void Trace_without_any_id_still_shows_its_events() =>
        Build(Record("log.info", null, "job"), Record("log.info", null, "job")).Draw().Should().Equal("1 >job [e2]");

    [Fact]
    public void Gaps_are_ranges_counted_as_numbers()
    {
        var chain = Build(Request("1.1", "gateway"), Call("1.3", "gateway"), Call("1.10", "gateway"));

        chain.Gaps.Select(gap => gap.ToString()).Should().Equal("1.2", "1.4..1.9");
        chain.GapCount.Should().Be(7);
        chain.Json().GetProperty("gaps").EnumerateArray().Select(gap => gap.GetString()).Should().Equal("1.2", "1.4..1.9");
    }

    [Fact]
    public void Top_without_its_request_counts_once()
    {
        var chain = Build(Call("1.2", "gateway", "orders"), Request("1.2.1", "orders"));

        chain.Draw().Should().Equal("1 >gateway placeholder", "1.2 gateway>orders [c s]");
        (chain.PlaceholderCount, chain.GapCount).Should().Be((1, 0));
    }

    [Fact]
    public void Top_without_its_request_but_with_log_lines_is_a_gap_instead_of_a_placeholder()
    {
        var chain = Build(Log("1.1", "gateway"), Call("1.2", "gateway"));

        (chain.PlaceholderCount, chain.GapCount, chain.Complete).Should().Be((0, 1, false));
    }

    [Theory]
    [InlineData("1.1001", "gap 1.2..1.1000")]
    [InlineData("1.1002", null)]
    public void Jump_of_more_than_a_thousand_is_irregular_and_no_loss(string id, string? gap)
    {
        var chain = Build(Request("1.1", "gateway"), Call(id, "gateway"));

        chain.Gaps.Select(found => $"gap {found}").Should().Equal(gap is null ? [] : [gap]);
        chain.Nodes[1].IsIrregular.Should().Be(gap is null);
        chain.Complete.Should().Be(gap is null);
    }

    [Fact]
    public void Segments_of_nineteen_digits_neither_overflow_nor_count_as_loss()
    {
        var chain = Build(Request("1.1", "gateway"), Call("1.9999999999999999998", "gateway"), Call("1.9999999999999999999", "gateway"));

        chain.GapCount.Should().Be(0);
        chain.Nodes.Select(node => node.Number).Should().Equal(1ul, 9999999999999999998ul, 9999999999999999999ul);
    }

    /// <code>
    /// 1 gateway
    /// `- 1.2   a service without LogTrace that passes traceparent on: its call record is lost, its callees got 1.2.N
    ///    `- 1.2.3000000 stock
    /// </code>
    [Fact]
    public void Placeholder_above_ids_made_from_traceparent_is_foreign_and_no_loss()
    {
        var chain = Build(Request("1.1", "gateway"), Request("1.2.3000000.1", "stock"), Request("1.2.4000007.1", "payment"));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway> foreign", "1.2.3000000 >stock [s] irregular", "1.2.4000007 >payment [s] irregular");
        chain.Complete.Should().BeTrue();
    }

    [Fact]
    public void Sampled_scope_claims_no_loss()
    {
        var chain = Build(
            Record("request.info", "1.1", "gateway", sampled: true), Call("1.4", "gateway", "orders"), Request("1.5.1", "stock"), Call("1.6.2", "payment"));

        (chain.PlaceholderCount, chain.CalleeOnlyCount, chain.Sampled).Should().Be((0, 0, true));
        chain.Gaps.Select(gap => gap.ToString()).Should().Equal("1.6.1");
    }

    [Fact]
    public void Twins_are_read_as_one_call_where_the_trace_shows_more_of_them_than_pairs()
    {
        var chain = Build(Request("0", "a"), Call("0.1", "a", "b"), Request("0.1", "b"), Call("0.1.1", "b", "c"), Request("0.1.1", "c"));

        chain.IsTwins.Should().BeTrue();
        chain.Draw().Should().Equal("0 >a [s]", "0.1 a>b [c s]", "0.1.1 b>c [c s]");
        chain.Complete.Should().BeTrue();
    }

    [Fact]
    public void As_many_twins_as_pairs_are_read_as_configured()
    {
        IndexedRecord[] records = [Request("0", "a"), Call("0.1", "a", "b"), Request("0.1.1", "b"), Call("0.2", "a", "c"), Request("0.2", "c")];

        ChainBuilder.Build("t", records).IsTwins.Should().BeFalse();
        ChainBuilder.Build("t", records, new ChainOptions { TieReading = ChainReading.Twins }).IsTwins.Should().BeTrue();
    }

    /// <code>
    /// 1 gateway
    /// |- 1.2 > orders (first try)          each try has its own spans
    /// |  `- 1.2.2 orders > db
    /// `- 1.2 > orders (second try)
    ///    `- 1.2.2 orders > db
    /// </code>
    [Fact]
    public void Executions_that_share_an_id_are_separated_by_their_spans()
    {
        IndexedRecord[] records =
        [
            Request("1.1", "gateway", "e0"),
            Call("1.2", "gateway", "orders", span: "c1", parentSpan: "e0", at: 1_000), Call("1.2", "gateway", "orders", span: "c2", parentSpan: "e0", at: 2_000),
            Request("1.2.1", "orders", "e2", "c2", at: 2_100), Request("1.2.1", "orders", "e1", "c1", at: 1_100),
            Call("1.2.2", "orders", "db", "mysql.request", "d2", "e2", at: 2_200), Call("1.2.2", "orders", "db", "mysql.request", "d1", "e1", at: 1_200),
            Log("1.2.1", "orders", "e2"),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal(
            "1 >gateway [s]",
            "1.2 gateway>orders [c s]",
            "1.2.2 orders>db [c]",
            "1.2#1 gateway>orders [c s e1]",
            "1.2.2#1 under 1.2#1 orders>db [c]");
        chain.Resolved.Should().BeTrue();
        chain.Complete.Should().BeTrue();
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Message_that_is_delivered_twice_is_handled_twice_and_nothing_is_lost()
    {
        var chain = Build(
            Request("1.1", "gateway", "e0"), Call("1.2", "gateway", "queue", "kafka.produce", "c1", "e0"),
            Request("1.2.1", "worker", "w1", "c1", at: 2_000_000), Request("1.2.1", "worker", "w2", "c1", at: 3_000_000));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>worker [c s]", "1.2#1 gateway>worker [s]");
        chain.Complete.Should().BeTrue();
        chain.Resolved.Should().BeTrue();
    }

    /// <code>
    /// 1 gateway
    /// |- 1.2 > stock      two branches copied one counter
    /// |  `- 1.2.2 stock > db
    /// `- 1.2 > payment
    ///    `- 1.2.2 payment > bank
    /// </code>
    [Fact]
    public void Executions_without_spans_are_separated_by_service()
    {
        IndexedRecord[] records =
        [
            Request("1.1", "gateway"), Call("1.2", "gateway", "stock", at: 1_000), Call("1.2", "gateway", "payment", at: 2_000),
            Request("1.2.1", "payment", at: 2_100), Request("1.2.1", "stock", at: 1_100),
            Call("1.2.2", "payment", "bank"), Call("1.2.2", "stock", "db", "mysql.request"),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal(
            "1 >gateway [s]",
            "1.2 gateway>stock [c s]",
            "1.2.2 stock>db [c]",
            "1.2#1 gateway>payment [c s]",
            "1.2.2#1 under 1.2#1 payment>bank [c]");
        chain.Resolved.Should().BeTrue();
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Executions_without_spans_are_separated_by_process() =>
        Build(
                Request("1.1", "gateway", ip: "10.0.0.1", pid: "7"), Call("1.2", "gateway", ip: "10.0.0.1", pid: "7-1", at: 1_000), Call("1.2", "gateway", ip: "10.0.0.2", pid: "7-3", at: 2_000))
            .Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>http [c]", "1.2#1 gateway>http [c]");

    [Fact]
    public void What_cannot_be_told_apart_stays_under_its_id_and_is_flagged()
    {
        IndexedRecord[] records =
        [
            Request("1.1", "gateway"), Call("1.2", "gateway", "orders", at: 1_000), Call("1.2", "gateway", "orders", at: 2_000),
            Request("1.2.1", "orders", at: 1_100), Request("1.2.1", "orders", at: 2_100),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c2 s2] ambiguous");
        (chain.AmbiguousCount, chain.Resolved, chain.Complete).Should().Be((1, false, true));
        chain.ShouldBeSound(records);
    }

    /// <code>
    /// 1 gateway
    /// |- 1.2 > stock
    /// |- 1.2 > payment
    /// `- 1.2 ?            whose records are missing: nobody else could have made billing's call
    ///    `- 1.2.2 billing > bank
    /// </code>
    [Fact]
    public void Call_that_fits_none_of_several_executions_shows_one_more_of_them()
    {
        IndexedRecord[] records =
        [
            Request("1.1", "gateway"), Call("1.2", "gateway", "stock", at: 1_000), Call("1.2", "gateway", "payment", at: 2_000),
            Request("1.2.1", "payment", at: 2_100), Request("1.2.1", "stock", at: 1_100), Call("1.2.2", "billing", "bank"),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal(
            "1 >gateway [s]", "1.2 gateway>stock [c s]", "1.2#1 gateway>payment [c s]", "1.2#2 gateway>billing ambiguous", "1.2.2 under 1.2#2 billing>bank [c]");
        (chain.AmbiguousCount, chain.PlaceholderCount).Should().Be((1, 0));
        chain.ShouldBeSound(records);
    }

    /// <code>
    /// 1 gateway
    /// |- 1.2 > orders
    /// |  `- 1.2.2 orders > db
    /// `- 1.2 ?               both its records are missing: 1.2.3 was made in another scope than the one that is left
    ///    `- 1.2.3 orders > db
    /// </code>
    [Fact]
    public void Call_of_another_scope_shows_that_its_id_was_used_once_more()
    {
        IndexedRecord[] records =
        [
            Request("1.1", "gateway", "e0"), Call("1.2", "gateway", "orders", span: "c1", parentSpan: "e0"), Request("1.2.1", "orders", "e1", "c1"),
            Call("1.2.2", "orders", "db", "mysql.request", "d1", "e1"), Call("1.2.3", "orders", "db", "mysql.request", "d2", "e9"),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal(
            "1 >gateway [s]", "1.2 gateway>orders [c s]", "1.2.2 orders>db [c]", "1.2#1 gateway>orders ambiguous", "1.2.3 under 1.2#1 orders>db [c]");
        (chain.AmbiguousCount, chain.PlaceholderCount).Should().Be((1, 0));
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Spans_that_somebody_else_puts_between_a_scope_and_its_calls_prove_nothing() =>
        Build(
                Request("1.1", "gateway", "e0"), Call("1.2", "gateway", "orders", span: "c1", parentSpan: "x1"), Call("1.3", "gateway", "stock", span: "c2", parentSpan: "x2"),
                Call("1.4", "gateway", "stock", span: "c3", parentSpan: "x3"))
            .Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c]", "1.3 gateway>stock [c]", "1.4 gateway>stock [c]");

    [Fact]
    public void Byte_identical_lines_are_one_record_with_two_positions()
    {
        IndexedRecord[] records =
        [
            Request("1.1", "gateway"), Record("http.get", "1.2", "gateway", lineHash: 77), Record("http.get", "1.2", "gateway", lineHash: 77),
            Record("log.info", "1.2", "gateway", lineHash: 78), Record("log.info", "1.2", "gateway", lineHash: 78),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>http [c2 e2]");
        (chain.Resolved, chain.DuplicateCount, chain.RecordCount).Should().Be((true, 1, 5));
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Fragments_without_a_common_record_are_joined_under_their_common_prefix() =>
        Build(Call("0.1.2.1", "a"), Call("0.3.1", "b")).Draw().Should().Equal(
            "0 > placeholder", "0.1 > placeholder", "gap 0.1.1", "0.1.2 >a placeholder", "0.1.2.1 a>http [c]", "gap 0.2", "0.3 >b placeholder", "0.3.1 b>http [c]");

    [Fact]
    public void Late_record_takes_its_place_and_nothing_else_moves()
    {
        var all = Checkout();
        var before = Build([.. all.Where(record => record.Record.RpcId!.Value.Text != "1.3")]);
        var after = Build(all);

        after.Nodes.Select(node => node.ToString()).Should().Equal(before.Nodes.Select(node => node.ToString()));
        before.Nodes[2].IsCalleeOnly.Should().BeTrue();
        after.Complete.Should().BeTrue();
    }

    [Fact]
    public void Service_of_a_record_that_names_none_comes_from_its_process()
    {
        var named = Call("1.2", "gateway", ip: "10.0.0.1:80", pid: "9");
        var certain = new IndexedRecord { Record = named.Record, Kind = named.Kind, Service = "gateway", ServiceIsCertain = true, SourceFile = "f", StartMicros = 5 };
        var chain = Build(certain, Record("request.info", "1.1", null, ip: "10.0.0.1", pid: "9-4"));

        chain.EntryService.Should().Be("gateway");
    }

    [Fact]
    public void Json_has_exactly_the_members_that_programs_rely_on()
    {
        var json = Build([.. Checkout().Where(record => record.Record.RpcId!.Value.Text is not "1.3.3")]).Json();

        json.EnumerateObject().Select(member => member.Name).Should().Equal(
            "trace_id", "start_us", "duration_us", "complete", "resolved", "record_count", "placeholder_count", "gap_count", "callee_only_count", "ambiguous_count", "nodes", "gaps");
        var nodes = json.GetProperty("nodes").EnumerateArray().ToList();
        nodes[4].EnumerateObject().Select(member => member.Name).Should().Equal(
            "rpc_id", "execution", "parent", "parent_execution", "depth", "kind", "placeholder", "foreign", "ambiguous", "service", "name", "action", "start_us", "duration_us", "self_us", "critical", "error", "caller", "callee", "records");
        nodes[0].GetProperty("parent").ValueKind.Should().Be(System.Text.Json.JsonValueKind.Null);
        nodes[4].GetProperty("caller").ValueKind.Should().Be(System.Text.Json.JsonValueKind.Null);
        nodes[4].GetProperty("callee").GetRawText().Should().Be("""{"service":"stock","start_us":1022000,"duration_us":25000}""");
        nodes[4].GetProperty("records")[0].GetString().Should().StartWith("sample.log:");
    }

    [Fact]
    public void Documents_hold_the_chain_its_rows_and_a_call_for_each_hop()
    {
        var document = ChainDocuments.From(Build([.. Checkout().Where(record => record.Record.RpcId!.Value.Text is not ("1.3" or "1.3.1"))]));

        (document.NodeCount, document.PlaceholderCount, document.RowsTotal, document.EntryAction).Should().Be((5, 1, 6, "POST /checkout"));
        document.Calls.Select(call => $"{call.RpcId} {call.Caller}>{call.Callee} {call.LossState} {call.GapCount} {call.NetworkMicros}").Should().Equal(
            "1 >gateway none 0 ", "1.2 gateway>redis:6379 none 0 ", "1.3 gateway>orders placeholder 1 ", "1.3.2 orders>db:3306 none 0 ", "1.3.3 orders>stock none 0 5000");
        document.Calls.Select(call => call.Id).Should().OnlyHaveUniqueItems();
        System.Text.Json.JsonDocument.Parse(document.RowsJson).RootElement.GetArrayLength().Should().Be(6);
    }

    [Fact]
    public void Rows_tell_of_the_log_lines_on_them_but_not_without_end()
    {
        var logs = Enumerable.Range(0, ChainDocuments.MaxLogs + 10).Select(i => Log("1.2", "gateway", at: 2_000_000 + i));

        var document = ChainDocuments.From(Build([Request("1.1", "gateway"), Call("1.2", "gateway", "orders:80"), .. logs, Log("1.3", "gateway")]));

        var rows = System.Text.Json.JsonDocument.Parse(document.RowsJson).RootElement.EnumerateArray().ToList();
        rows[0].TryGetProperty("logs", out _).Should().BeFalse("none was written there");
        rows[1].GetProperty("events").GetInt32().Should().Be(ChainDocuments.MaxLogs + 10);
        rows[1].GetProperty("logs").GetArrayLength().Should().Be(ChainDocuments.MaxLogs);
        rows[1].GetProperty("logs")[0].GetRawText().Should().Be("""{"at_us":2000000,"name":"log.info"}""");
        rows[2].TryGetProperty("logs", out _).Should().BeFalse("the chain's share is used up");
    }

    // ---- what span ids tell that are bound to their cause ----

    static readonly ulong s_top = BoundSpan.Make(0, 0, 1);

    static string Hex(ulong span) => span.ToString("x16", System.Globalization.CultureInfo.InvariantCulture);

    /// <code>
    /// 1 gateway
    /// |- 1.2 > orders
    /// `- 1.2 ?               both its records are missing: orders never made the call that stock was called by
    ///    `- 1.2.2 > stock
    /// </code>
    [Fact]
    public void Request_whose_span_was_not_made_in_the_scope_above_shows_that_the_id_was_used_once_more()
    {
        var (orders, other) = (BoundSpan.Make(s_top, 2, 11), BoundSpan.Make(s_top, 2, 12));
        var (handling, stranger) = (BoundSpan.Make(orders, 0, 13), BoundSpan.Make(other, 2, 14));
        IndexedRecord[] records =
        [
            Request("1.1", "gateway", Hex(s_top)), Call("1.2", "gateway", "orders", span: Hex(orders), parentSpan: Hex(s_top)), Request("1.2.1", "orders", Hex(handling), Hex(orders)),
            Request("1.2.2.1", "stock", Hex(BoundSpan.Make(stranger, 0, 15)), Hex(stranger)),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c s]", "1.2#1 gateway> ambiguous", "1.2.2 under 1.2#1 >stock [s] callee-only");
        chain.Resolved.Should().BeFalse();
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Request_whose_span_was_made_in_the_scope_above_is_just_one_whose_call_is_lost()
    {
        var orders = BoundSpan.Make(s_top, 2, 11);
        var stock = BoundSpan.Make(orders, 2, 14);

        var chain = Build(
            Request("1.1", "gateway", Hex(s_top)), Call("1.2", "gateway", "orders", span: Hex(orders), parentSpan: Hex(s_top)), Request("1.2.1", "orders", Hex(BoundSpan.Make(orders, 0, 13)), Hex(orders)),
            Request("1.2.2.1", "stock", Hex(BoundSpan.Make(stock, 0, 15)), Hex(stock)));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c s]", "1.2.2 orders>stock [s] callee-only");
        chain.Resolved.Should().BeTrue();
    }

    [Fact]
    public void Request_whose_call_is_lost_stands_under_the_execution_that_its_span_was_made_in()
    {
        var (first, second) = (BoundSpan.Make(s_top, 2, 11), BoundSpan.Make(s_top, 2, 12));
        var stock = BoundSpan.Make(second, 2, 14);
        IndexedRecord[] records =
        [
            Request("1.1", "gateway", Hex(s_top)),
            Call("1.2", "gateway", "orders", span: Hex(first), parentSpan: Hex(s_top), at: 1_000), Request("1.2.1", "orders", Hex(BoundSpan.Make(first, 0, 13)), Hex(first), at: 1_100),
            Call("1.2", "gateway", "orders", span: Hex(second), parentSpan: Hex(s_top), at: 2_000), Request("1.2.1", "orders", Hex(BoundSpan.Make(second, 0, 14)), Hex(second), at: 2_100),
            Request("1.2.2.1", "stock", Hex(BoundSpan.Make(stock, 0, 15)), Hex(stock)),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c s]", "1.2#1 gateway>orders [c s]", "1.2.2 under 1.2#1 orders>stock [s] callee-only");
        chain.Resolved.Should().BeTrue();
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Log_line_of_another_scope_than_the_call_s_shows_that_the_id_was_used_once_more()
    {
        var (orders, other) = (BoundSpan.Make(s_top, 2, 11), BoundSpan.Make(s_top, 2, 12));
        var line = Record("log.info", "1.2.2", "orders", span: Hex(BoundSpan.Make(other, 0, 13)), parentSpan: Hex(other));

        Build(Request("1.1", "gateway", Hex(s_top)), Call("1.2", "gateway", "orders", span: Hex(orders), parentSpan: Hex(s_top)), line)
            .Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c]", "gap 1.2.1", "1.2#1 gateway>orders ambiguous", "1.2.2 under 1.2#1 orders> [e1]");
    }

    [Fact]
    public void Spans_that_somebody_else_made_are_not_asked_for_what_they_are_bound_to()
    {
        var chain = Build(
            Request("1.1", "gateway", "1000000000000001"), Call("1.2", "gateway", "orders", span: "1000000000000002", parentSpan: "1000000000000001"),
            Request("1.2.1", "orders", "1000000000000003", "1000000000000002"), Request("1.2.2.1", "stock", "1000000000000005", "1000000000000004"));

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c s]", "1.2.2 orders>stock [s] callee-only");
        chain.Resolved.Should().BeTrue();
    }

    [Fact]
    public void Request_under_the_id_of_a_database_call_with_another_span_is_another_call_in_a_trace_of_two_pairs_too() =>
        Build(Request("1.1", "gateway", "e0"), Call("1.2", "gateway", "db", "mysql.request", "d1", "e0"), Request("1.2.1", "orders", "e1", "c9"))
            .Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>db [c]", "1.2#1 gateway>orders [s] callee-only");

    [Fact]
    public void What_a_service_calls_is_doubtful_under_a_call_to_another_one()
    {
        var chain = Build(
            Request("1.1", "gateway", "e0"), Call("1.2", "gateway", "orders", span: "c1", parentSpan: "e0"), Call("1.3", "gateway", "stock", span: "c2", parentSpan: "e0"),
            Request("1.3.1", "stock", "e2", "c2"), Call("1.4", "gateway", "orders", span: "c3", parentSpan: "e0"), Request("1.4.1", "orders", "e4", "c3"), Call("1.2.2", "stock", "db", "mysql.request", "d1", "e9"));

        chain.Draw().Should().Contain("1.2.2 stock>db [c] ambiguous");
        chain.AmbiguousCount.Should().Be(1);
    }

    [Fact]
    public void Executions_that_tell_nothing_of_themselves_are_shown_apart_and_flagged()
    {
        IndexedRecord[] records =
        [
            Record("request.info", "1.1"), Record("http.get", "1.2", at: 1_000), Record("http.get", "1.2", at: 2_000), Record("request.info", "1.2.1", at: 1_100), Record("request.info", "1.2.1", at: 2_100),
        ];
        var chain = Build(records);

        chain.Draw().Should().Equal("1 > [s]", "1.2 >http [c s] ambiguous", "1.2#1 >http [c s] ambiguous");
        chain.Nodes.Skip(1).Select(node => node.Callee!.StartMicros - node.Caller!.StartMicros).Should().Equal([100, 100], "time says most likely which is whose");
        chain.AmbiguousCount.Should().Be(1);
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Handling_of_one_of_several_silent_calls_belongs_to_the_last_call_before_it()
    {
        var chain = Build(Record("request.info", "1.1"), Record("http.get", "1.2", at: 1_000), Record("http.get", "1.2", at: 2_000), Record("http.get", "1.2", at: 3_000), Record("request.info", "1.2.1", at: 2_100));

        chain.Draw().Should().Equal("1 > [s]", "1.2 >http [c] ambiguous", "1.2#1 >http [c s] ambiguous", "1.2#2 >http [c] ambiguous");
    }

    [Fact]
    public void Calls_that_are_alike_are_still_calls_of_their_own_where_nothing_is_below_them()
    {
        IndexedRecord[] records = [Request("1.1", "gateway"), Call("1.2", "gateway", "orders", at: 1_000), Call("1.2", "gateway", "orders", at: 2_000)];
        var chain = Build(records);

        chain.Draw().Should().Equal("1 >gateway [s]", "1.2 gateway>orders [c]", "1.2#1 gateway>orders [c]");
        chain.Resolved.Should().BeTrue("no record is anybody else's");

        var above = Build([.. records, Call("1.2.2", "orders", "db", "mysql.request")]);
        above.Draw().Should().StartWith(["1 >gateway [s]", "1.2 gateway>orders [c2] ambiguous"], "whose call that is below is not clear");
    }

    // ---- ids that somebody cut ----

    /// <summary>A trace of calls one below the other, ids cut at <paramref name="limit"/>.</summary>
    static IndexedRecord[] Deep(int depth, int limit)
    {
        var records = new List<IndexedRecord> { Request("1.1", "s0") };
        for (var (id, level) = ("1.2", 1); level <= depth; (id, level) = (id + ".2", level + 1))
        {
            records.Add(Call(Cut(id), $"s{level - 1}", $"s{level}"));
            records.Add(Request(Cut(id + ".1"), $"s{level}"));
        }

        return [.. records];

        string Cut(string id) => id.Length <= limit ? id : id[..limit];
    }

    [Fact]
    public void Ids_as_long_as_the_limit_that_somebody_cut_them_at_are_flagged()
    {
        var records = Deep(40, limit: 65);
        var chain = Build(records);

        chain.Nodes.SelectMany(node => node.Records, (node, record) => (node.IsAmbiguous, record.Record.RpcId!.Value.Text.Length)).Should().OnlyContain(it => it.IsAmbiguous == (it.Length == 65) || (it.Length == 63 && it.IsAmbiguous));
        chain.Resolved.Should().BeFalse();
        chain.ShouldBeSound(records);
    }

    [Fact]
    public void Deep_ids_that_nobody_cut_are_doubted_at_one_length_only()
    {
        Build(Deep(25, limit: 1_024)).Resolved.Should().BeTrue("nothing is as long as the shortest limit");

        var chain = Build(Deep(40, limit: 1_024));
        chain.Nodes.Where(node => node.IsAmbiguous).SelectMany(node => node.Records).Select(record => record.Record.RpcId!.Value.Text.Length).Distinct().Should().HaveCountLessThanOrEqualTo(3, "the length that may be a limit, and the other side of those calls");
        chain.Nodes.Count(node => node.Depth > 35 && !node.IsAmbiguous).Should().BePositive();
    }
}
