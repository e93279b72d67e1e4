using System.Text;
using System.Text.Json;
using Confluent.Kafka;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Indexer;

/// <summary>Topics that other shippers fill. The envelopes are as those programs write them with their usual settings.</summary>
public sealed class EnvelopeTests
{
    const string Record = """{"name":"request.info","trace_id":"t-1","rpc_id":"1.1","timestamp":1763892000,"service":"orders","action":"GET /\"a\"?q=ä","duration":0.5}""";

    static string Quoted(string line) => JsonSerializer.Serialize(line);

    public static TheoryData<string, string> Envelopes { get; } = new()
    {
        { "the line itself (kcat, our shipper)", Record },
        {
            "Filebeat", $$$"""
            {"@timestamp":"2026-11-23T10:00:00.123Z","@metadata":{"beat":"filebeat","type":"_doc","version":"8.19.1"},"log":{"offset":4711,"file":{"path":"/var/log/shop/app.log","device_id":"64769","inode":"1311"}},"message":{{{Quoted(Record)}}},"input":{"type":"filestream"},"host":{"name":"web-1"},"agent":{"id":"5f0c","name":"web-1","type":"filebeat","version":"8.19.1"},"ecs":{"version":"8.0.0"}}
            """
        },
        {
            "Filebeat that has parsed the line (ndjson)", $$$"""
            {"@timestamp":"2026-11-23T10:00:00.123Z","@metadata":{"beat":"filebeat","type":"_doc","version":"8.19.1"},"log":{"offset":4711,"file":{"path":"/var/log/shop/app.log"}},{{{Record[1..^1]}}},"input":{"type":"filestream"},"ecs":{"version":"8.0.0"}}
            """
        },
        {
            "Fluent Bit", $$$"""
            {"@timestamp":1763892000.123456,"log":{{{Quoted(Record + "\n")}}},"stream":"stdout","time":"2026-11-23T10:00:00.123456789Z","kubernetes":{"pod_name":"orders-5d9","labels":{"app":"orders"} } }
            """
        },
        { "Fluent Bit that has parsed the line", $$$"""{"@timestamp":1763892000.123456,{{{Record[1..]}}}""" },
        {
            "Vector", $$$"""
            {"file":"/var/log/shop/app.log","host":"web-1","message":{{{Quoted(Record)}}},"source_type":"file","timestamp":"2026-11-23T10:00:00.123456789Z"}
            """
        },
        {
            "Logstash", $$$"""
            {"@timestamp":"2026-11-23T10:00:00.123456789Z","@version":"1","host":{"name":"web-1"},"log":{"file":{"path":"/var/log/shop/app.log"}},"event":{"original":{{{Quoted(Record)}}}},"message":{{{Quoted(Record)}}}}
            """
        },
        {
            "Logstash that has parsed the line", $$$"""
            {"@timestamp":"2026-11-23T10:00:00.123456789Z","@version":"1","host":{"name":"web-1"},"event":{"dataset":"shop","original":{{{Quoted(Record)}}}},{{{Record[1..]}}}
            """
        },
        { "a name with a dot", $$$"""{"event.original":{{{Quoted(Record)}}},"message":"GET / took 0.5 s"}""" },
        {
            "Filebeat that read what Docker wrote", $$$"""
            {"@timestamp":"2026-11-23T10:00:00.123Z","message":{{{Quoted($$"""{"log":{{Quoted(Record + "\n")}},"stream":"stdout","time":"2026-11-23T10:00:00.1Z"}""")}}},"log":{"offset":0}}
            """
        },
    };

    [Theory]
    [MemberData(nameof(Envelopes))]
    public async Task Line_is_found_in_what_other_shippers_put_around_it(string shipper, string message)
    {
        using var folder = new TempFolder();
        await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = folder["store"], KeepDays = 36_500, OverflowAfterDays = 36_500 });
        var balance = await RunAsync(folder, store, message);

        balance.Should().Be(new IndexerBalance(1, 1, 0, 0), shipper);
        var record = (await store.GetTraceAsync("t-1", default)).Should().ContainSingle().Subject;
        record.Record.Action.Should().Be("GET /\"a\"?q=ä");
        record.Record.RpcId!.Value.Text.Should().Be("1.1");
        record.Record.TimestampMicros.Should().Be(1_763_892_000_000_000);
        record.Record.DurationMicros.Should().Be(500_000);
        record.Service.Should().Be("orders");
        record.SourceFile.Should().Be("records/3");
        record.SourceOffset.Should().Be(0);
    }

    [Fact]
    public async Task Same_line_in_two_messages_is_drawn_once_and_stored_twice()
    {
        using var folder = new TempFolder();
        await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = folder["store"], KeepDays = 36_500, OverflowAfterDays = 36_500 });
        var first = $$$"""{"@timestamp":"2026-11-23T10:00:00.123Z","message":{{{Quoted(Record)}}}}""";
        (await RunAsync(folder, store, first, first.Replace(".123Z", ".124Z", StringComparison.Ordinal))).Should().Be(new IndexerBalance(2, 2, 0, 0));

        var chain = (await store.GetChainAsync("t-1", default))!;
        chain.RecordCount.Should().Be(2);
        chain.AmbiguousCount.Should().Be(0);
    }

    [Theory]
    [InlineData("""{"@timestamp":"2026-11-23T10:00:00.123Z","message":"GET / took 0.5 s"}""", "message: what is in the envelope of another shipper is no JSON object")]
    [InlineData("""{"@timestamp":1.5,"log":"Starting\n"}""", "log: what is in the envelope of another shipper is no JSON object")]
    [InlineData("""{"message":"{\"rpc_id\":\"1..2\",\"timestamp\":1763892000}"}""", "rpc_id '1..2'")]
    [InlineData("""{"message":17}""", "timestamp: there is none")]
    [InlineData("""{"message":"{}""", "no JSON object")]
    [InlineData("plain text", "no JSON object")]
    [InlineData("""{"message":"\ud800{}"}""", "timestamp: there is none")]
    public async Task What_has_no_line_in_it_is_set_aside_whole_and_with_the_reason(string message, string reason)
    {
        using var folder = new TempFolder();
        await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = folder["store"] });
        (await RunAsync(folder, store, message)).Should().Be(new IndexerBalance(1, 0, 0, 1));

        var letter = JsonDocument.Parse(File.ReadAllLines(folder["dead-letter"]).Single()).RootElement;
        letter.GetProperty("reason").GetString().Should().Contain(reason);
        letter.GetProperty("line").GetString().Should().Be(message);
        letter.GetProperty("file").GetString().Should().Be("records/3");
    }

    [Fact]
    public void Line_of_our_own_shipper_is_taken_as_it_is()
    {
        // An application may log JSON in a field of its own that is called message.
        new SourceFile("web-1", 1, "app.log").IsOfAnotherShipper.Should().BeFalse();
        new SourceFile("kafka", 1, "records/3").IsOfAnotherShipper.Should().BeTrue();
    }

    [RealKafkaFact]
    public async Task Topic_filled_by_all_of_them_at_once_is_stored_once_each_and_read_again_as_duplicates()
    {
        using var folder = new TempFolder();
        var options = new KafkaOptions { Brokers = await RealEngines.KafkaAsync(), Topic = $"foreign-{Guid.NewGuid():n}", Group = $"g-{Guid.NewGuid():n}", Partitions = 3 };
        await KafkaTopic.EnsureAsync(options);
        var messages = Envelopes.Select(row => (string)row[1]).ToList();
        using (var producer = new ProducerBuilder<Null, string>(new ProducerConfig { BootstrapServers = options.Brokers }).Build())
        {
            for (var i = 0; i < messages.Count; i++)
                await producer.ProduceAsync(new TopicPartition(options.Topic, i % 3), new Message<Null, string> { Value = messages[i].Replace("t-1", $"t-{i}", StringComparison.Ordinal) });
        }

        await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = folder["store"], KeepDays = 36_500, OverflowAfterDays = 36_500 });
        (await ReadAllAsync(folder, store, options)).Should().Be(new IndexerBalance(messages.Count, messages.Count, 0, 0));
        for (var i = 0; i < messages.Count; i++) (await store.GetChainAsync($"t-{i}", default))!.EntryService.Should().Be("orders");

        (await ReadAllAsync(folder, store, options with { Group = options.Group + "-again" })).Should().Be(new IndexerBalance(messages.Count, 0, messages.Count, 0));
        await KafkaTopic.DeleteAsync(options);
    }

    static async Task<IndexerBalance> ReadAllAsync(TempFolder folder, ITraceStore store, KafkaOptions options)
    {
        await using var reader = new KafkaReader(options);
        using var deadLetter = new DeadLetterFile(folder["dead-letter"]);
        var pipeline = new IndexerPipeline(reader, store, deadLetter, new IndexerOptions { ChainQuiet = TimeSpan.FromMilliseconds(20) });
        using var stop = new CancellationTokenSource();
        var running = pipeline.RunAsync(stop.Token);
        await Eventually.HoldsAsync(() => pipeline.Metrics.Balance.Consumed == Envelopes.Count(), "all is read", TimeSpan.FromMinutes(1));
        await pipeline.FlushChainsAsync(default).Within();
        await stop.CancelAsync();
        await running.Within();
        return pipeline.Metrics.Balance;
    }

    static async Task<IndexerBalance> RunAsync(TempFolder folder, ITraceStore store, params string[] messages)
    {
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, new IndexerOptions { ChainQuiet = TimeSpan.FromMilliseconds(20) });
        var running = pipeline.RunAsync(default);
        var batch = new RecordBatch();
        for (var i = 0; i < messages.Length; i++) batch.Add(Encoding.UTF8.GetBytes(messages[i]), new SourceFile("kafka", 3, "records/3"), i);
        await transport.Writer.WriteAsync(batch, default).Within();
        transport.Complete();
        await running.Within();
        return pipeline.Metrics.Balance;
    }
}
