using System.Text;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.Extensions.Time.Testing;

namespace LogTrace.Tests.Indexer;

/// <summary>
/// What every store has to do; each implementation runs all of it. A class that runs it gives every test a store of its own, and
/// the same data again when a test opens it twice.
/// </summary>
public abstract class TraceStoreContract
{
    protected static readonly DateTimeOffset Now = new(2026, 11, 23, 12, 0, 0, TimeSpan.Zero);

    protected FakeTimeProvider Clock { get; } = new(Now);

    protected StoreRecords Some { get; } = new(Now);

    /// <summary>Opens the store of this test on <see cref="Clock"/>: empty the first time, with what was written before after that.</summary>
    protected abstract Task<ITraceStore> OpenAsync();

    /// <summary>Makes everything written visible to searches, where that takes the store a moment. Reading one trace never needs it.</summary>
    protected virtual Task SettleAsync() => Task.CompletedTask;

    /// <summary>A record that this store refuses for good; null when it takes everything.</summary>
    protected virtual IndexedRecord? RecordThatIsRefused => null;

    // ---- records

    [ContractFact]
    public async Task Every_field_of_a_record_comes_back()
    {
        await using var store = await OpenAsync();
        var written = Some.FullRecord("t-full", "value");
        await WriteAsync(store, written);

        var read = await store.GetTraceAsync("t-full", default);

        read.Select(StoreRecords.Describe).Should().Equal(StoreRecords.Describe(written));
    }

    [ContractFact]
    public async Task Record_made_in_code_comes_back()
    {
        await using var store = await OpenAsync();
        var record = new TraceRecord
        {
            Name = "mysql.request",
            TraceId = "t-made",
            RpcId = RpcId.Parse("1.2"),
            TimestampMicros = StoreRecords.Micros(Now) + 7,
            HasPreciseTime = true,
            DurationMicros = 1_500,
            Action = "select 1",
            Service = "orders",
        };
        var written = new IndexedRecord { Record = record, RecordId = 5, LineHash = 6, SourceFile = "made.log", Kind = RecordKind.Client, Service = "orders" };
        await WriteAsync(store, written);

        (await store.GetTraceAsync("t-made", default)).Select(StoreRecords.Describe).Should().Equal(StoreRecords.Describe(written));
    }

    [ContractFact]
    public async Task Record_without_optional_fields_comes_back_without_them()
    {
        await using var store = await OpenAsync();
        var written = Some.Read($$"""{"timestamp":{{Now.ToUnixTimeSeconds()}},"trace_id":"t-bare"}""");
        written.Service = null;
        await WriteAsync(store, written);

        var read = (await store.GetTraceAsync("t-bare", default)).Should().ContainSingle().Subject;
        StoreRecords.Describe(read).Should().Be(StoreRecords.Describe(written));
        read.Record.RpcId.Should().BeNull();
        read.Service.Should().BeNull();
    }

    [ContractFact]
    public async Task Record_twice_in_a_batch_is_stored_once()
    {
        await using var store = await OpenAsync();
        var (one, two) = (Some.Record("t-1"), Some.Record("t-1", "1.2"));

        Figures(await store.WriteAsync([one, two, one, one], default)).Should().Be((2, 2, 0));

        (await store.GetTraceAsync("t-1", default)).Should().HaveCount(2);
    }

    [ContractFact]
    public async Task Record_written_again_is_a_duplicate_also_after_a_restart()
    {
        var records = new[] { Some.Record("t-1"), Some.Record("t-1", "1.2"), Some.Record("t-2") };
        await using (var store = await OpenAsync())
        {
            Figures(await store.WriteAsync(records, default)).Should().Be((3, 0, 0));
            Figures(await store.WriteAsync(records, default)).Should().Be((0, 3, 0));
        }

        await using var again = await OpenAsync();
        Figures(await again.WriteAsync([.. records, Some.Record("t-2", "1.2")], default)).Should().Be((1, 3, 0));
        (await again.GetTraceAsync("t-1", default)).Should().HaveCount(2);
        (await again.GetTraceAsync("t-2", default)).Should().HaveCount(2);
        await SettleAsync();
        (await again.CountAsync(default)).Records.Should().Be(4);
    }

    [ContractFact]
    public async Task Equal_lines_at_two_places_are_two_records()
    {
        await using var store = await OpenAsync();
        var (one, two) = (Some.Record("t-1"), Some.Record("t-1"));
        one.LineHash.Should().Be(two.LineHash);

        Figures(await store.WriteAsync([one, two], default)).Should().Be((2, 0, 0));

        (await store.GetTraceAsync("t-1", default)).Select(record => record.SourceOffset).Should().BeEquivalentTo([one.SourceOffset, two.SourceOffset]);
    }

    [ContractFact]
    public async Task Refused_record_is_named_with_its_reason_and_the_others_are_stored()
    {
        if (RecordThatIsRefused is not { } refused) return;
        await using var store = await OpenAsync();

        var result = await store.WriteAsync([Some.Record("t-1"), refused, Some.Record("t-1", "1.2")], default);

        Figures(result).Should().Be((2, 0, 1));
        result.Refused[0].Record.Should().BeSameAs(refused);
        result.Refused[0].Reason.Should().NotBeNullOrWhiteSpace();
        (await store.GetTraceAsync("t-1", default)).Should().HaveCount(2);
    }

    [ContractFact]
    public async Task Nothing_to_write_is_no_error()
    {
        await using var store = await OpenAsync();
        Figures(await store.WriteAsync([], default)).Should().Be((0, 0, 0));
        await store.WriteChainsAsync([], default);
        (await store.CountAsync(default)).Should().Be(new StoreCounts(0, 0));
        (await store.FindChainsAsync(new TraceQuery(), default)).Should().BeEmpty();
        (await store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
        (await store.GetChainAsync("t-1", default)).Should().BeNull();
    }

    [ContractFact]
    public async Task Record_without_a_trace_is_counted_and_belongs_to_no_trace()
    {
        await using var store = await OpenAsync();
        var record = Some.Record(null);
        Figures(await store.WriteAsync([record, Some.Record("t-1")], default)).Should().Be((2, 0, 0));
        Figures(await store.WriteAsync([record], default)).Should().Be((0, 1, 0));

        await SettleAsync();
        (await store.CountAsync(default)).Records.Should().Be(2);
        (await store.GetTraceAsync("t-1", default)).Should().ContainSingle();
        (await store.FindStaleTracesAsync(0, default)).Should().Equal("t-1");
    }

    [ContractFact]
    public async Task Trace_is_its_exact_id_and_nothing_like_it()
    {
        await using var store = await OpenAsync();
        string[] ids = ["t-1", "T-1", "t-1x", "t", "*", "t-?", "%", "a:b_c-d.e", "\"quoted\"", "a/b\\c", "{}[]()", "t-1'--", new string('x', 128), new string('x', 127)];
        await store.WriteAsync(ids.Select(id => Some.Record(id)).ToList(), default);

        foreach (var id in ids)
            (await store.GetTraceAsync(id, default)).Select(record => record.Record.TraceId).Should().Equal(id);
        (await store.GetTraceAsync("t-2", default)).Should().BeEmpty();
    }

    [ContractFact]
    public async Task Trace_gives_back_everything_written_before_at_once()
    {
        await using var store = await OpenAsync();
        for (var number = 1; number <= 20; number++)
        {
            await WriteAsync(store, Some.Record("t-1", $"1.{number}"));
            (await store.GetTraceAsync("t-1", default)).Should().HaveCount(number);
        }
    }

    [ContractFact]
    public async Task Large_trace_comes_back_whole()
    {
        await using var store = await OpenAsync();
        var records = Enumerable.Range(1, 12_000).Select(number => Some.Record("t-1", $"1.{number}")).ToList();
        foreach (var batch in records.Chunk(4_000)) await store.WriteAsync(batch, default);

        var read = await store.GetTraceAsync("t-1", default);

        read.Select(record => record.Record.RpcId!.Value).Order().SequenceEqual(records.Select(record => record.Record.RpcId!.Value)).Should().BeTrue();
    }

    [ContractFact]
    public async Task Trace_whose_records_lie_days_apart_comes_back_whole()
    {
        await using var store = await OpenAsync();
        var records = new[] { 0, -1, -2, -30, -399 }.Select((days, i) => Some.Record("t-1", $"1.{i + 1}", Now.AddDays(days))).ToList();
        Figures(await store.WriteAsync(records, default)).Should().Be((5, 0, 0));
        Figures(await store.WriteAsync(records, default)).Should().Be((0, 5, 0));

        var read = await store.GetTraceAsync("t-1", default);

        read.Select(StoreRecords.Describe).Should().BeEquivalentTo(records.Select(StoreRecords.Describe));
    }

    [ContractFact]
    public async Task Times_far_off_are_stored_like_any_other()
    {
        await using var store = await OpenAsync();
        DateTimeOffset[] times = [DateTimeOffset.UnixEpoch.AddSeconds(1), new(2017, 9, 27, 0, 0, 0, TimeSpan.Zero), Now.AddDays(-401), Now.AddDays(3), new(2262, 1, 1, 0, 0, 0, TimeSpan.Zero)];
        var records = times.Select((time, i) => Some.Record("t-1", $"1.{i + 1}", time)).ToList();
        Figures(await store.WriteAsync(records, default)).Should().Be((5, 0, 0));
        Figures(await store.WriteAsync(records, default)).Should().Be((0, 5, 0));

        (await store.GetTraceAsync("t-1", default)).Select(StoreRecords.Describe).Should().BeEquivalentTo(records.Select(StoreRecords.Describe));
        await SettleAsync();
        (await store.CountAsync(default)).Records.Should().Be(5);
    }

    [ContractFact]
    public async Task Resend_meets_itself_although_its_day_has_become_far_off()
    {
        var record = Some.Record("t-1", at: Now.AddDays(-399.5));
        await using (var store = await OpenAsync()) Figures(await store.WriteAsync([record], default)).Should().Be((1, 0, 0));

        Clock.Advance(TimeSpan.FromDays(1));
        await using var later = await OpenAsync();
        Figures(await later.WriteAsync([record], default)).Should().Be((0, 1, 0));
        (await later.GetTraceAsync("t-1", default)).Should().ContainSingle();
    }

    [ContractFact]
    public async Task Resend_meets_itself_although_its_day_is_far_off_no_more()
    {
        var record = Some.Record("t-1", at: Now.AddDays(1.5));
        await using (var store = await OpenAsync()) Figures(await store.WriteAsync([record], default)).Should().Be((1, 0, 0));

        Clock.Advance(TimeSpan.FromDays(1));
        await using var later = await OpenAsync();
        Figures(await later.WriteAsync([record], default)).Should().Be((0, 1, 0));
        (await later.GetTraceAsync("t-1", default)).Should().ContainSingle();
    }

    [ContractFact]
    public async Task Hostile_texts_come_back_as_they_were()
    {
        await using var store = await OpenAsync();
        string[] texts =
        [
            "'; DROP TABLE records; --", "\"double\" 'single' \\ back", "NUL \0 inside", "\u202eright to left\u202c", "line\nbreak\r\n\ttab", "{\"index\":{}}\n{}",
            "snow ☃ clef \U0001D11E", "\u0001\u001f\u007f", "", " ", "null",
        ];
        var records = texts.Select(text => Some.FullRecord("t-1", text)).Append(Some.Record("t-1", msg: new string('m', 1 << 20))).ToList();
        Figures(await store.WriteAsync(records, default)).Should().Be((records.Count, 0, 0));

        var read = (await store.GetTraceAsync("t-1", default)).OrderBy(record => record.SourceOffset).ToList();

        read.Should().HaveCount(records.Count);
        foreach (var (back, written) in read.Zip(records.OrderBy(record => record.SourceOffset)))
            StoreRecords.Describe(back).Should().Be(StoreRecords.Describe(written));
    }

    [ContractFact]
    public async Task Lone_surrogates_and_invalid_UTF8_are_stored()
    {
        await using var store = await OpenAsync();
        var head = $$"""{"name":"log.info","trace_id":"t-1","timestamp":{{Now.ToUnixTimeSeconds()}},"msg":""";
        var escaped = Some.Read(head + "\"high \\ud800 low \\udc00 end\"}");
        var fullOfThem = Some.Record("t-1");
        fullOfThem.Service = "lone \ud800 surrogate";
        await store.WriteAsync([escaped, fullOfThem], default);

        var read = (await store.GetTraceAsync("t-1", default)).OrderBy(record => record.SourceOffset).ToList();

        read.Should().HaveCount(2);
        read[0].Record.Msg.Should().Be(escaped.Record.Msg);
        read[1].Service.Should().Be("lone \ufffd surrogate");
    }

    // ---- chains

    [ContractFact]
    public async Task Every_field_of_a_chain_comes_back()
    {
        await using var store = await OpenAsync();
        var chain = FullChain("t-1");
        await store.WriteChainsAsync([chain], default);

        await SettleAsync();
        (await store.GetChainAsync("t-1", default)).Should().BeEquivalentTo(chain);
        (await store.FindChainsAsync(new TraceQuery(), default)).Should().ContainSingle()
            .Which.Should().BeEquivalentTo(chain with { RowsJson = "[]", Calls = [] });
    }

    [ContractFact]
    public async Task Chain_without_optional_fields_comes_back_without_them()
    {
        await using var store = await OpenAsync();
        var chain = new ChainDocument { TraceId = "t-1", StartMicros = StoreRecords.Micros(Now), Calls = [new CallDocument { Id = 9, TraceId = "t-1", RpcId = "1.2" }] };
        await store.WriteChainsAsync([chain], default);

        await SettleAsync();
        (await store.GetChainAsync("t-1", default)).Should().BeEquivalentTo(chain);
    }

    [ContractFact]
    public async Task Chain_is_replaced_by_one_of_as_many_or_more_records_only()
    {
        await using var store = await OpenAsync();
        await store.WriteChainsAsync([Chain("t-1", records: 5, action: "first")], default);
        await store.WriteChainsAsync([Chain("t-1", records: 4, action: "fewer") with { Calls = [Call("t-1", "1.9")] }], default);
        await SettleAsync();
        (await store.GetChainAsync("t-1", default))!.EntryAction.Should().Be("first");
        (await store.GetChainAsync("t-1", default))!.Calls.Should().BeEmpty();

        await store.WriteChainsAsync([Chain("t-1", records: 5, action: "as many")], default);
        await SettleAsync();
        (await store.GetChainAsync("t-1", default))!.EntryAction.Should().Be("as many");

        await store.WriteChainsAsync([Chain("t-1", records: 6, action: "more")], default);
        await SettleAsync();
        (await store.GetChainAsync("t-1", default))!.EntryAction.Should().Be("more");
        (await store.CountAsync(default)).Chains.Should().Be(1);
    }

    [ContractFact]
    public async Task Calls_that_are_no_longer_in_the_chain_are_gone()
    {
        await using var store = await OpenAsync();
        await store.WriteChainsAsync([Chain("t-1", records: 3) with { Calls = [Call("t-1", "1.2"), Call("t-1", "1.3"), Call("t-1", "1.4")] }, Chain("t-2") with { Calls = [Call("t-2", "1.2")] }], default);
        await SettleAsync();
        await store.WriteChainsAsync([Chain("t-1", records: 4) with { Calls = [Call("t-1", "1.3") with { IsError = true }, Call("t-1", "1.5")] }], default);

        await SettleAsync();
        var calls = (await store.GetChainAsync("t-1", default))!.Calls;
        calls.Select(call => call.RpcId).Should().BeEquivalentTo("1.3", "1.5");
        calls.Single(call => call.RpcId == "1.3").IsError.Should().BeTrue();
        (await store.GetChainAsync("t-2", default))!.Calls.Should().ContainSingle();
    }

    [ContractFact]
    public async Task Chain_stays_one_when_an_earlier_record_moves_its_start_to_another_day()
    {
        await using (var store = await OpenAsync())
        {
            await store.WriteChainsAsync([Chain("t-1", Now, records: 1)], default);
            await SettleAsync();
            await store.WriteChainsAsync([Chain("t-1", Now.AddDays(-3), records: 2)], default);
        }

        // Without what the first run knew.
        await using var again = await OpenAsync();
        await again.WriteChainsAsync([Chain("t-1", Now.AddDays(-500), records: 3) with { Calls = [Call("t-1", "1.2")] }], default);

        await SettleAsync();
        (await again.CountAsync(default)).Chains.Should().Be(1);
        var chain = await again.GetChainAsync("t-1", default);
        (chain!.RecordCount, chain.StartMicros, chain.Calls.Count).Should().Be((3, StoreRecords.Micros(Now.AddDays(-500)), 1));
    }

    [ContractFact]
    public async Task Chains_far_off_and_of_many_days_are_written_together()
    {
        await using var store = await OpenAsync();
        var chains = Enumerable.Range(0, 30).Select(i => Chain($"t-{i}", Now.AddDays(-i * 20))).ToList();
        await store.WriteChainsAsync(chains, default);

        await SettleAsync();
        (await store.FindChainsAsync(new TraceQuery(), default)).Select(chain => chain.TraceId).Should().Equal(chains.Select(chain => chain.TraceId));
    }

    [ContractFact]
    public async Task Chains_are_added_where_there_are_none_and_the_others_named_and_left_as_they_are()
    {
        await using var store = await OpenAsync();
        await store.WriteChainsAsync([Chain("t-1", records: 3, action: "first") with { Calls = [Call("t-1", "1.2")] }], default);
        await SettleAsync();

        // Whether the one that comes has fewer or more records: both may be some of all.
        (await store.AddChainsAsync([Chain("t-1", records: 2, action: "some"), Chain("t-2", action: "new") with { Calls = [Call("t-2", "1.2")] }], default)).Should().Equal("t-1");
        (await store.AddChainsAsync([Chain("t-1", records: 9, action: "others"), Chain("t-2", action: "again")], default)).Should().BeEquivalentTo("t-1", "t-2");
        (await store.AddChainsAsync([], default)).Should().BeEmpty();

        await SettleAsync();
        (await store.GetChainAsync("t-1", default))!.EntryAction.Should().Be("first");
        (await store.GetChainAsync("t-2", default)).Should().Match<ChainDocument>(chain => chain.EntryAction == "new" && chain.Calls.Count == 1);
        (await store.CountAsync(default)).Chains.Should().Be(2);
    }

    [ContractFact]
    public async Task Calls_of_a_chain_that_was_not_added_are_gone_when_the_whole_chain_is_written()
    {
        await using var store = await OpenAsync();
        await store.WriteChainsAsync([Chain("t-1", records: 1) with { Calls = [Call("t-1", "1.2")] }], default);
        await SettleAsync();
        (await store.AddChainsAsync([Chain("t-1", records: 2) with { Calls = [Call("t-1", "1.2") with { LossState = "placeholder" }, Call("t-1", "1.9")] }], default)).Should().Equal("t-1");
        await store.WriteChainsAsync([Chain("t-1", records: 3) with { Calls = [Call("t-1", "1.2"), Call("t-1", "1.3")] }], default);

        await SettleAsync();
        var chain = (await store.GetChainAsync("t-1", default))!;
        chain.RecordCount.Should().Be(3);
        chain.Calls.Select(call => (call.RpcId, call.LossState)).Should().BeEquivalentTo([("1.2", "none"), ("1.3", "none")]);
    }

    [ContractFact]
    public async Task Chain_is_added_beside_no_other_of_its_trace_in_the_next_day()
    {
        var midnight = new DateTimeOffset(Now.UtcDateTime.Date, TimeSpan.Zero);
        await using var store = await OpenAsync();
        (await store.AddChainsAsync([Chain("t-1", midnight.AddHours(-3))], default)).Should().BeEmpty();
        await store.WriteChainsAsync([Chain("t-2", midnight.AddSeconds(-1), records: 2)], default);
        await SettleAsync();
        (await store.AddChainsAsync([Chain("t-2", midnight.AddSeconds(1))], default)).Should().Equal("t-2");

        await SettleAsync();
        (await store.CountAsync(default)).Chains.Should().Be(2);
    }

    // ---- searches

    [ContractFact]
    public async Task Search_lists_the_newest_first_up_to_the_limit()
    {
        await using var store = await OpenAsync();
        int[] hours = [-30, 0, -500, -1, -26, -10_000];
        await store.WriteChainsAsync(hours.Select(hour => Chain($"t{hour}", Now.AddHours(hour))).ToList(), default);
        await SettleAsync();

        (await FindAsync(store, new TraceQuery())).Should().Equal("t0", "t-1", "t-26", "t-30", "t-500", "t-10000");
        (await FindAsync(store, new TraceQuery { Limit = 3 })).Should().Equal("t0", "t-1", "t-26");
    }

    [ContractFact]
    public async Task Search_meets_each_member_of_the_query()
    {
        await using var store = await OpenAsync();
        await store.WriteChainsAsync(
        [
            Chain("a", Now, action: "POST /Checkout?x=100%") with { Services = ["gateway", "orders"], Uid = "9527", DurationMicros = 5_000_000, ErrorCount = 2, Complete = false },
            Chain("b", Now.AddHours(-1), action: "GET /cart") with { Services = ["gateway", "orders2"], Uid = "95", DurationMicros = 1_000, Complete = true },
            Chain("c", Now.AddHours(-2), action: "GET /items/100x") with { Services = ["Gateway"], DurationMicros = 20_000, Complete = true },
            new ChainDocument { TraceId = "d", StartMicros = StoreRecords.Micros(Now.AddHours(-3)) },
        ], default);
        await SettleAsync();

        (await FindAsync(store, new TraceQuery { Service = "orders" })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Service = "gateway" })).Should().Equal("a", "b");
        (await FindAsync(store, new TraceQuery { Service = "gate*" })).Should().BeEmpty();
        (await FindAsync(store, new TraceQuery { Action = "/checkOUT" })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Action = "100%" })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Action = "*" })).Should().BeEmpty();
        (await FindAsync(store, new TraceQuery { Action = "GET /" })).Should().Equal("b", "c");
        (await FindAsync(store, new TraceQuery { Uid = "95" })).Should().Equal("b");
        (await FindAsync(store, new TraceQuery { FromMicros = StoreRecords.Micros(Now.AddHours(-1)) })).Should().Equal("a", "b");
        (await FindAsync(store, new TraceQuery { ToMicros = StoreRecords.Micros(Now.AddHours(-1)) })).Should().Equal("c", "d");
        (await FindAsync(store, new TraceQuery { MinDurationMicros = 20_000 })).Should().Equal("a", "c");
        (await FindAsync(store, new TraceQuery { HasErrors = true })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { HasErrors = false })).Should().Equal("b", "c", "d");
        (await FindAsync(store, new TraceQuery { Complete = true })).Should().Equal("b", "c");
        (await FindAsync(store, new TraceQuery { Complete = false })).Should().Equal("a", "d");
        (await FindAsync(store, new TraceQuery { Service = "gateway", Complete = true, MinDurationMicros = 1_000 })).Should().Equal("b");
        (await FindAsync(store, new TraceQuery { Service = "", Action = "", Uid = "", Text = "" })).Should().HaveCount(4);
    }

    [ContractFact]
    public async Task Search_for_text_finds_words_of_a_message_and_the_whole_trace_id()
    {
        await using var store = await OpenAsync();
        await store.WriteAsync(
        [
            Some.Record("trace-a", msg: "Payment refused by the bank"), Some.Record("trace-a", "1.2", msg: "retry later"),
            Some.Record("trace-b", at: Now.AddDays(-2), msg: "payment accepted"), Some.Record("trace-c", msg: "repayment"),
        ], default);
        await store.WriteChainsAsync([Chain("trace-a"), Chain("trace-b", Now.AddDays(-2)), Chain("trace-c", Now.AddDays(-3))], default);
        await SettleAsync();

        (await FindAsync(store, new TraceQuery { Text = "payment" })).Should().Equal("trace-a", "trace-b");
        (await FindAsync(store, new TraceQuery { Text = "BANK refused" })).Should().Equal("trace-a");
        (await FindAsync(store, new TraceQuery { Text = "bank later" })).Should().BeEmpty("the words stand in two records");
        (await FindAsync(store, new TraceQuery { Text = "trace-b" })).Should().Equal("trace-b");
        (await FindAsync(store, new TraceQuery { Text = "nothing-like-it" })).Should().BeEmpty();
    }

    [ContractFact]
    public async Task Search_for_text_takes_what_is_written_together_as_neighbours_and_the_rest_of_the_query_as_well()
    {
        await using var store = await OpenAsync();
        await store.WriteAsync(
        [
            Some.Record("a", msg: "order-7: ÄPFEL \"sold out\" at 10.0.0.7"), Some.Record("b", at: Now.AddDays(-1), msg: "7 orders, no order"), Some.Record("c", at: Now.AddDays(-2), msg: "order 7 AND NOT (sold)"),
        ], default);
        await store.WriteChainsAsync(
        [
            Chain("a") with { Services = ["orders", "gateway"], ErrorCount = 1 }, Chain("b", Now.AddDays(-1)) with { Services = ["orders"] }, Chain("c", Now.AddDays(-2), action: "POST /orders") with { Services = ["orders"], ErrorCount = 2 },
        ], default);
        await SettleAsync();

        (await FindAsync(store, new TraceQuery { Text = "order-7" })).Should().Equal("a", "c");
        (await FindAsync(store, new TraceQuery { Text = "7 order" })).Should().Equal("a", "b", "c");
        (await FindAsync(store, new TraceQuery { Text = "äpfel \"sold" })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Text = "10.0.0.7" })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Text = "NOT" })).Should().Equal("c");
        (await FindAsync(store, new TraceQuery { Text = "ord*" })).Should().BeEmpty();
        (await FindAsync(store, new TraceQuery { Text = "order", Service = "gateway" })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Text = "order", HasErrors = true, ToMicros = StoreRecords.Micros(Now.AddHours(-30)) })).Should().Equal("c");
        (await FindAsync(store, new TraceQuery { Service = "orders", HasErrors = true })).Should().Equal("a", "c");
        (await FindAsync(store, new TraceQuery { Service = "orders", HasErrors = false })).Should().Equal("b");
        (await FindAsync(store, new TraceQuery { Text = "order", Service = "orders", HasErrors = true, Action = "post", Limit = 1 })).Should().Equal("c");
    }

    [ContractFact]
    public async Task Chain_that_is_written_anew_is_found_by_what_it_is_now()
    {
        await using var store = await OpenAsync();
        await store.WriteChainsAsync([Chain("a") with { Services = ["orders", "stock"], ErrorCount = 1 }], default);
        await store.WriteChainsAsync([Chain("a", Now.AddMinutes(-5), records: 2) with { Services = ["orders", "payment"] }], default);
        await SettleAsync();

        (await FindAsync(store, new TraceQuery { Service = "payment" })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Service = "orders", ToMicros = StoreRecords.Micros(Now) })).Should().Equal("a");
        (await FindAsync(store, new TraceQuery { Service = "stock" })).Should().BeEmpty();
        (await FindAsync(store, new TraceQuery { Service = "orders", HasErrors = true })).Should().BeEmpty();
    }

    // ---- rules of keeping

    [ContractFact]
    public async Task Dropped_trace_leaves_a_marker_that_no_chain_is_written_over()
    {
        await using var store = await OpenAsync();
        await store.WriteAsync([Some.Record("t-1", msg: "found it"), Some.Record("t-1", "1.2", Now.AddDays(-1)), Some.Record("t-2", msg: "found it"), Some.Record(null)], default);
        await store.WriteChainsAsync(
        [
            Chain("t-1", records: 2) with { UndecidedSince = StoreRecords.Micros(Now), Services = ["orders"], ErrorCount = 1, Calls = [Call("t-1", "1.2")] },
            Chain("t-2") with { Services = ["orders"], ErrorCount = 1, Calls = [Call("t-2", "1.2")] }, Chain("t-3", records: 9) with { UndecidedSince = StoreRecords.Micros(Now) - 5 },
        ], default);
        await SettleAsync();
        (await store.FindUndecidedAsync(StoreRecords.Micros(Now), 10, default)).Should().Equal("t-3");
        (await store.FindUndecidedAsync(StoreRecords.Micros(Now) + 1, 10, default)).Should().Equal("t-3", "t-1");
        (await store.FindUndecidedAsync(StoreRecords.Micros(Now) + 1, 1, default)).Should().Equal("t-3");

        (await store.DropTracesAsync(["t-1"], default)).Should().Be(2);
        (await store.DropTracesAsync(["t-1"], default)).Should().Be(0, "dropping again is harmless");

        await SettleAsync();
        (await store.GetTraceAsync("t-1", default)).Should().BeEmpty();
        (await store.GetTraceAsync("t-2", default)).Should().ContainSingle();
        var marker = (await store.GetChainAsync("t-1", default))!;
        (marker.Dropped, marker.RecordCount, marker.Calls.Count, marker.UndecidedSince).Should().Be((true, 0, 0, null));
        (await store.CountAsync(default)).Should().Be(new StoreCounts(2, 2));
        (await FindAsync(store, new TraceQuery { Text = "found" })).Should().Equal("t-2");
        (await FindAsync(store, new TraceQuery { Service = "orders", HasErrors = true })).Should().Equal("t-2");
        (await FindAsync(store, new TraceQuery())).Should().NotContain("t-1");
        (await store.FindDroppedAsync(["t-1", "t-2", "nobody"], default)).Should().Equal("t-1");
        (await store.FindUndecidedAsync(long.MaxValue, 10, default)).Should().Equal("t-3");
        (await store.FindStaleTracesAsync(0, default)).Should().BeEmpty();

        // An instance that does not know of it yet.
        await store.WriteChainsAsync([Chain("t-1", records: 7) with { Calls = [Call("t-1", "1.9")] }], default);
        await store.WriteAsync([Some.Record("t-1", "1.3")], default);
        await SettleAsync();
        (await store.GetChainAsync("t-1", default))!.Dropped.Should().BeTrue();
        (await store.FindStaleTracesAsync(0, default)).Should().Equal("t-1");
        (await store.DropTracesAsync(["t-1"], default)).Should().Be(1);
        (await store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
    }

    // ---- what a crash left behind

    [ContractFact]
    public async Task Trace_without_a_chain_or_with_one_of_another_count_is_stale()
    {
        await using var store = await OpenAsync();
        await store.WriteAsync([Some.Record("missing"), Some.Record("fewer"), Some.Record("fewer", "1.2"), Some.Record("same"), Some.Record("same", "1.2"), Some.Record("more")], default);
        await store.WriteChainsAsync([Chain("fewer", records: 1), Chain("same", records: 2), Chain("more", records: 2), Chain("without records", records: 1)], default);
        await SettleAsync();

        (await store.FindStaleTracesAsync(0, default)).Should().BeEquivalentTo("missing", "fewer", "more");

        await store.WriteAsync([Some.Record("same", "1.3")], default);
        await store.WriteChainsAsync([Chain("missing", records: 1), Chain("fewer", records: 2)], default);
        await SettleAsync();
        (await store.FindStaleTracesAsync(0, default)).Should().BeEquivalentTo("same", "more");
    }

    [ContractFact]
    public async Task Duplicates_make_no_trace_stale()
    {
        await using var store = await OpenAsync();
        var record = Some.Record("t-1");
        await store.WriteAsync([record, record], default);
        await store.WriteChainsAsync([Chain("t-1", records: 1)], default);
        await store.WriteAsync([record], default);
        await SettleAsync();

        (await store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
    }

    [ContractFact]
    public async Task Records_of_several_days_count_together()
    {
        await using var store = await OpenAsync();
        await store.WriteAsync([Some.Record("t-1"), Some.Record("t-1", "1.2", Now.AddDays(-1)), Some.Record("t-1", "1.3", Now.AddDays(-900))], default);
        await store.WriteChainsAsync([Chain("t-1", records: 3)], default);
        await SettleAsync();
        (await store.FindStaleTracesAsync(0, default)).Should().BeEmpty();

        await store.WriteAsync([Some.Record("t-1", "1.4", Now.AddDays(-40))], default);
        await SettleAsync();
        (await store.FindStaleTracesAsync(0, default)).Should().Equal("t-1");
    }

    [ContractFact]
    public async Task Stale_traces_are_those_with_records_ingested_since_the_watermark()
    {
        await using var store = await OpenAsync();
        await store.WriteAsync(
        [
            Some.Record("old", ingested: Now.AddHours(-3)), Some.Record("at", ingested: Now.AddHours(-2)), Some.Record("new", ingested: Now),
            Some.Record("both", ingested: Now.AddHours(-3)), Some.Record("both", "1.2", Now.AddDays(-20), ingested: Now),
        ], default);
        await SettleAsync();

        (await store.FindStaleTracesAsync(StoreRecords.Micros(Now.AddHours(-2)), default)).Should().BeEquivalentTo("at", "new", "both");
        (await store.FindStaleTracesAsync(StoreRecords.Micros(Now) + 1, default)).Should().BeEmpty();
    }

    // ---- both at once

    [ContractFact]
    public async Task Readers_see_what_was_written_while_the_writer_goes_on()
    {
        await using var store = await OpenAsync();
        using var done = new CancellationTokenSource();
        var seen = 0;
        var readers = Enumerable.Range(0, 2).Select(_ => Task.Run(async () =>
        {
            while (!done.IsCancellationRequested)
            {
                var before = Volatile.Read(ref seen);
                (await store.GetTraceAsync("t-1", default)).Count.Should().BeGreaterThanOrEqualTo(before);
                await store.FindChainsAsync(new TraceQuery(), default);
                await store.FindStaleTracesAsync(0, default);
            }
        })).ToList();

        try
        {
            for (var batch = 0; batch < 10; batch++)
            {
                var written = Volatile.Read(ref seen);
                Figures(await store.WriteAsync(Enumerable.Range(1, 10).Select(i => Some.Record("t-1", $"1.{written + i}", Now.AddDays(-(i % 2)))).ToList(), default)).Should().Be((10, 0, 0));
                await store.WriteChainsAsync([Chain("t-1", records: written + 10)], default);
                (await store.GetTraceAsync("t-1", default)).Count.Should().Be(written + 10);
                Volatile.Write(ref seen, written + 10);
            }
        }
        finally
        {
            await done.CancelAsync();
        }

        await Task.WhenAll(readers).Within();
        await SettleAsync();
        (await store.CountAsync(default)).Should().Be(new StoreCounts(100, 1));
    }

    // ---- making things

    protected static (int Stored, int Duplicates, int Refused) Figures(WriteResult result) => (result.Stored, result.Duplicates, result.Refused.Count);

    protected static async Task WriteAsync(ITraceStore store, IndexedRecord record) =>
        Figures(await store.WriteAsync([record], default)).Should().Be((1, 0, 0));

    static async Task<IEnumerable<string>> FindAsync(ITraceStore store, TraceQuery query) =>
        (await store.FindChainsAsync(query, default)).Select(chain => chain.TraceId);

    protected static ChainDocument Chain(string traceId, DateTimeOffset? start = null, int records = 1, string action = "GET /") => new()
    {
        TraceId = traceId,
        StartMicros = StoreRecords.Micros(start ?? Now),
        EntryAction = action,
        RecordCount = records,
    };

    protected static CallDocument Call(string traceId, string rpcId) => new()
    {
        Id = System.IO.Hashing.XxHash128.HashToUInt128(Encoding.UTF8.GetBytes(traceId + " " + rpcId)),
        TraceId = traceId,
        RpcId = rpcId,
        StartMicros = StoreRecords.Micros(Now),
    };

    static ChainDocument FullChain(string traceId) => new()
    {
        TraceId = traceId,
        StartMicros = StoreRecords.Micros(Now) + 1,
        DurationMicros = 2,
        EntryService = "gateway",
        EntryAction = "POST /checkout 'quoted' \0 ☃",
        EntryCode = "200",
        Services = ["gateway", "orders"],
        Edges = ["gateway>orders"],
        RecordCount = 3,
        NodeCount = 4,
        Depth = 5,
        PlaceholderCount = 6,
        GapCount = 7_000_000_000,
        CalleeOnlyCount = 8,
        LikelyLossCount = 9,
        AmbiguousCount = 10,
        ErrorCount = 11,
        AlarmCount = 12,
        Debug = true,
        Sampled = true,
        Uid = "9527",
        Complete = true,
        Resolved = true,
        LastRecordMicros = StoreRecords.Micros(Now) + 3,
        UndecidedSince = StoreRecords.Micros(Now) + 4,
        RowsJson = """[{"rpc_id":"1","service":"gateway"},{"rpc_id":"1.3"}]""",
        RowsTotal = 13,
        Calls =
        [
            new CallDocument
            {
                Id = UInt128.MaxValue - 5,
                TraceId = traceId,
                RpcId = "1.3",
                Execution = 1,
                StartMicros = StoreRecords.Micros(Now) + 4,
                EntryService = "gateway",
                EntryAction = "POST /checkout",
                Caller = "gateway",
                Callee = "orders",
                Peer = "orders:80",
                Kind = "http",
                ActionKey = "POST orders/orders",
                DurationMicros = 5,
                NetworkMicros = -6,
                IsError = true,
                LossState = "callee_only",
                GapCount = 7_000_000_000,
                CallerHost = "10.0.0.1",
                CalleeHost = "10.0.0.2",
            },
        ],
    };
}
