using System.Text;
using Confluent.Kafka;
using LogTrace.Records;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Logger;

/// <summary>Traces through a real Kafka.</summary>
public sealed class KafkaTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly TraceLogger _logger;
    readonly string _topic = $"orders-{Guid.NewGuid():N}";

    public KafkaTests() => _logger = new TraceLogger(TestService.Options("orders", _folder["orders.log"]));

    public void Dispose()
    {
        _logger.Dispose();
        _folder.Dispose();
    }

    static async Task<IProducer<string, string>> ProducerAsync(Action<ProducerConfig>? configure = null)
    {
        var config = new ProducerConfig { BootstrapServers = await RealEngines.KafkaAsync(), LingerMs = 0 };
        configure?.Invoke(config);
        return new ProducerBuilder<string, string>(config).Build().WithTrace("events");
    }

    async Task<List<ConsumeResult<string, string>>> ConsumeAsync(int count)
    {
        using var consumer = new ConsumerBuilder<string, string>(new ConsumerConfig { BootstrapServers = await RealEngines.KafkaAsync(), GroupId = _topic, AutoOffsetReset = AutoOffsetReset.Earliest }).Build();
        using var admin = new DependentAdminClientBuilder(consumer.Handle).Build();
        var partitions = admin.GetMetadata(_topic, Eventually.Deadline).Topics.Single().Partitions;
        consumer.Assign(partitions.Select(partition => new TopicPartitionOffset(_topic, partition.PartitionId, Offset.Beginning)));
        var messages = new List<ConsumeResult<string, string>>();
        using var deadline = new CancellationTokenSource(Eventually.Deadline);
        while (messages.Count < count) messages.Add(consumer.Consume(deadline.Token));
        return messages;
    }

    List<TraceRecord> Records()
    {
        _logger.Dispose();
        return Written.Records(_folder["orders.log"]);
    }

    [RealKafkaFact]
    public async Task A_consumed_message_continues_its_trace_under_the_id_it_carries()
    {
        using (var producer = await ProducerAsync())
        using (_logger.StartRequest("POST /orders", "", new() { TraceId = "trace-7", Prefix = "1.3" }))
        {
            var message = new Message<string, string> { Key = "9527", Value = "placed", Headers = new Headers { { "mine", "x"u8.ToArray() }, { "X-Rpc-Id", "1.9"u8.ToArray() } } };
            await producer.ProduceAsync(_topic, message);
            var answered = new TaskCompletionSource<DeliveryReport<string, string>>(TaskCreationOptions.RunContinuationsAsynchronously);
            producer.Produce(_topic, message, answered.SetResult);
            await answered.Task.Within();
        }

        var consumed = await ConsumeAsync(2);
        consumed.Should().OnlyContain(message => message.Message.Headers.Count(header => header.Key == "mine") == 1 && message.Message.Headers.Count(header => header.Key == "X-Rpc-Id") == 1);
        foreach (var message in consumed.OrderBy(message => message.Offset.Value))
            await message.HandleAsync(() => { TraceOperation.Begin("pgsql.request", "insert")?.Dispose(); return Task.CompletedTask; }, _logger);
        await consumed[0].Invoking(message => message.HandleAsync(() => throw new InvalidOperationException("no such order"), _logger)).Should().ThrowAsync<InvalidOperationException>();

        var records = Records();
        records.Select(record => $"{record.TraceId} {record.RpcId} {record.Name} {record.Action} {record.Param}".TrimEnd()).Should().BeEquivalentTo(
        [
            $"trace-7 1.3.2 kafka.produce {_topic} 9527", $"trace-7 1.3.3 kafka.produce {_topic} 9527", "trace-7 1.3.1 request.info POST /orders",
            "trace-7 1.3.2.2 pgsql.request insert", $"trace-7 1.3.2.1 request.info CONSUME {_topic} 9527",
            "trace-7 1.3.3.2 pgsql.request insert", $"trace-7 1.3.3.1 request.info CONSUME {_topic} 9527",
            $"trace-7 {consumed[0].Message.Headers.Where(header => header.Key == "X-Rpc-Id").Select(header => Encoding.UTF8.GetString(header.GetValueBytes())).Single()}.1 request.info.error CONSUME {_topic} 9527",
        ]);
        var produced = records.Where(record => record.Name == "kafka.produce").ToList();
        records.Where(record => record.Name == "request.info" && record.Action!.StartsWith("CONSUME")).Select(record => record.ParentSpanId).Should().BeEquivalentTo(produced.Select(record => record.SpanId));
        produced.Should().OnlyContain(record => record.InstanceName == "events" && record.ExtraJson!.Contains("\"offset\":"));
    }

    [RealKafkaFact]
    public async Task A_batch_is_a_trace_of_its_own_that_names_those_of_its_messages()
    {
        using (var producer = await ProducerAsync())
        {
            foreach (var trace in new[] { "trace-a", "trace-b", "trace-b" })
                using (_logger.StartRequest("POST /orders", "", new() { TraceId = trace, Prefix = "1" })) await producer.ProduceAsync(new TopicPartition(_topic, 0), new() { Key = "k", Value = "v" });
            await producer.ProduceAsync(new TopicPartition(_topic, 0), new() { Key = "k", Value = "without a trace" });
        }

        using (var batch = (await ConsumeAsync(4)).StartBatchTrace("index orders", _logger)) batch.TraceId.Should().NotStartWith("trace-");

        var records = Records().Where(record => record.TraceId is not ("trace-a" or "trace-b")).ToList();
        records.Select(record => $"{record.RpcId} {record.Name} {record.Action} {record.ExtraJson}").Should().Equal(
            $"1.2 kafka.consume {_topic} {{\"messages\":4,\"{_topic}[0]\":\"0-3\"}}",
            "1.1 request.info index orders {\"trace_count\":2,\"traces\":\"trace-a trace-b\"}");
    }

    [RealKafkaFact]
    public async Task Messages_that_the_broker_does_not_take_are_errors_and_those_without_reports_are_recorded_when_sent()
    {
        using (var producer = await ProducerAsync(config => config.MessageMaxBytes = 1000))
        using (var silent = await ProducerAsync(config => config.EnableDeliveryReports = false))
        using (_logger.StartTrace("test"))
        {
            await producer.Invoking(p => p.ProduceAsync(_topic, new() { Key = "big", Value = new string('x', 2000) })).Should().ThrowAsync<ProduceException<string, string>>();
            silent.Produce(_topic, new() { Key = "a", Value = "b" });
            silent.Produce(_topic, new() { Key = "c", Value = "d" });
            silent.Flush(Eventually.Deadline);
        }

        Records().Where(record => record.Kind == RecordKind.Client).Select(record => $"{record.RpcId} {record.Name} {record.Param} {record.Code}".TrimEnd()).Should().BeEquivalentTo(
            "1.2 kafka.produce.error big MsgSizeTooLarge", "1.3 kafka.produce a", "1.4 kafka.produce c");
        (await ConsumeAsync(2)).Select(message => message.Message.Key).Should().BeEquivalentTo("a", "c");
    }

    [RealKafkaFact]
    public void A_producer_that_is_closed_over_its_messages_leaves_no_number_without_a_record()
    {
        using (_logger.StartTrace("test"))
        {
            using var producer = new ProducerBuilder<string, string>(new ProducerConfig { BootstrapServers = "127.0.0.1:1" }).SetLogHandler((_, _) => { }).SetErrorHandler((_, _) => { }).Build().WithTrace("nowhere");
            producer.Produce(_topic, new() { Key = "a", Value = "b" });
        }

        Records().Where(record => record.Kind == RecordKind.Client).Select(record => $"{record.RpcId} {record.Name}").Should().Equal("1.2 kafka.produce.error");
    }
}
