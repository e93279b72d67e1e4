using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using Confluent.Kafka;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Transport;

/// <summary>The contract, and what only Kafka has, over librdkafka's mock broker: the real protocol, no disk, no replication. Runs everywhere.</summary>
public sealed class KafkaMockTransportTests : KafkaTransportTests
{
    // Lives as long as the client that made it, which is as long as the test process.
    static readonly Lazy<(IAdminClient Owner, string Address)> Mock = new(() =>
    {
        var owner = new AdminClientBuilder([new("test.mock.num.brokers", "1"), new("bootstrap.servers", "unused")]).SetLogHandler((_, _) => { }).Build();
        var brokers = owner.GetMetadata(TimeSpan.FromSeconds(10)).Brokers;
        return (owner, $"{brokers[0].Host}:{brokers[0].Port}");
    });

    protected override Task<string> BrokerAsync() => Task.FromResult(Mock.Value.Address);

    public override async Task InitializeAsync()
    {
        await base.InitializeAsync();
        // It refuses to create topics, but makes one that a producer asks for.
        using var producer = new ProducerBuilder<Null, Null>([new("bootstrap.servers", Options.Brokers)]).Build();
        using var admin = new DependentAdminClientBuilder(producer.Handle).Build();
        await Eventually.HoldsAsync(() => admin.GetMetadata(Options.Topic, TimeSpan.FromSeconds(10)).Topics[0].Error.Code == ErrorCode.NoError, "the mock broker has made the topic");
    }

    [Fact]
    [Trait("Fault", "13")]
    public async Task Producer_that_failed_for_good_is_made_anew()
    {
        await using var writer = new KafkaWriter(Options);
        await using var reader = await OpenReaderAsync();
        await writer.WriteAsync(Batch([Some(0, "t", "before")]), default).Within();

        FailForGood(writer);
        // The failure may be noticed with this write or before it; the shipper tries again as here.
        await SendAsync(writer, [Some(1, "t", "after")]).Within();

        (await ReadUntilAsync(reader, it => it.Contains(Some(1, "t", "after")))).Distinct().Should().Equal(Some(0, "t", "before"), Some(1, "t", "after"));
    }

    /// <summary>librdkafka's own switch for this, in the very library that the client has loaded.</summary>
    static void FailForGood(KafkaWriter writer)
    {
        object Field(object of, string name) => of.GetType().GetField(name, BindingFlags.Instance | BindingFlags.NonPublic)!.GetValue(of)!;
        var client = (nint)Field(Field(Field(writer, "_connection"), "_producer"), "_client");
        var library = System.IO.File.ReadLines("/proc/self/maps").First(map => map.Contains("librdkafka")).Split(' ')[^1];
        var testFatalError = Marshal.GetDelegateForFunctionPointer<TestFatalError>(NativeLibrary.GetExport(NativeLibrary.Load(library), "rd_kafka_test_fatal_error"));
        testFatalError(client, (int)ErrorCode.OutOfOrderSequenceNumber, "said by a test").Should().Be(0);
    }

    delegate int TestFatalError(IntPtr client, int error, [MarshalAs(UnmanagedType.LPStr)] string reason);
}

/// <summary>The same over a real broker, and what the mock cannot do.</summary>
[NeedsEngine("kafka")]
public sealed class KafkaRealTransportTests : KafkaTransportTests
{
    protected override Task<string> BrokerAsync() => RealEngines.KafkaAsync();

    public override async Task InitializeAsync()
    {
        if (RealEngines.KafkaMissing is not null) return;
        await base.InitializeAsync();
        (await KafkaTopic.EnsureAsync(Options)).Should().BeTrue();
    }

    public override async Task DisposeAsync()
    {
        if (RealEngines.KafkaMissing is null) await KafkaTopic.DeleteAsync(Options);
    }

    [RealKafkaFact]
    public async Task Topic_that_is_there_is_left_alone() => (await KafkaTopic.EnsureAsync(Options with { Partitions = 1 })).Should().BeFalse();

    [RealKafkaFact]
    public async Task Lag_is_what_the_group_has_not_committed()
    {
        (await KafkaTopic.LagAsync(Options)).Should().Be(0, "nothing is in the topic");
        await using var writer = await OpenWriterAsync();
        await SendAsync(writer, [.. Enumerable.Range(0, 60).Select(i => Some(i, $"t{i}", $"line {i}"))]).Within();
        (await KafkaTopic.LagAsync(Options)).Should().Be(60, "the group has never committed");

        await using (var reader = await OpenReaderAsync()) await ReadAsync(reader, 60);

        (await KafkaTopic.LagAsync(Options)).Should().Be(0);
        (await KafkaTopic.LagAsync(Options with { Group = "another" })).Should().Be(60);
    }

    [RealKafkaFact]
    public async Task Lag_can_be_asked_for_whatever_poll_interval_the_group_has() =>
        (await KafkaTopic.LagAsync(Options with { Properties = new Dictionary<string, string> { ["max.poll.interval.ms"] = "10000" } })).Should().Be(0);

    [RealKafkaFact]
    public async Task Records_deleted_before_they_were_read_are_counted_as_lost()
    {
        await using var writer = await OpenWriterAsync();
        var lines = Enumerable.Range(0, 60).Select(i => Some(i, "t", $"line {i}")).ToArray();
        await SendAsync(writer, lines[..10]).Within();
        await using (var first = await OpenReaderAsync()) await ReadAsync(first, 10);
        await SendAsync(writer, lines[10..40]).Within();
        using (var admin = new AdminClientBuilder([new("bootstrap.servers", Options.Brokers)]).Build())
        {
            var at = (await PartitionsAsync()).First(partition => partition.Value.Count > 0).Key;
            await admin.DeleteRecordsAsync([new TopicPartitionOffset(Options.Topic, at, 30)]);
        }

        await SendAsync(writer, lines[40..]).Within();
        var said = new List<string>();
        await using var second = new KafkaReader(Options, said.Add);
        (await ReadAsync(second, 30)).Should().Equal(lines[30..]);

        second.LostCount.Should().Be(20);
        said.Should().ContainSingle().Which.Should().Contain("Lost 20 records").And.Contain("offsets 10 to 29");
    }

    [RealKafkaFact]
    public async Task Messages_of_other_shippers_have_topic_partition_and_offset_as_identity()
    {
        using (var stranger = new ProducerBuilder<string?, string>([new("bootstrap.servers", Options.Brokers)]).Build())
        {
            Message<string?, string> One(string? key, string value, byte[]? header = null) =>
                new() { Key = key, Value = value, Headers = header is null ? null : [new Header("lt", header)] };
            foreach (var message in new[] { One("x", "{\"trace_id\":\"abc\"}"), One(null, "no json"), One("x", "hostile header", [1, 2, 3]) })
            {
                await stranger.ProduceAsync(new TopicPartition(Options.Topic, 1), message).Within();
            }
        }

        List<Line> read;
        await using (var first = await OpenReaderAsync()) read = await ReadAsync(first, 3, commit: false);
        await using var second = await OpenReaderAsync();
        var again = await ReadAsync(second, 3);

        read.Select(line => (line.Offset, line.Key, line.Text)).Should().Equal((0, "abc", "{\"trace_id\":\"abc\"}"), (1, "", "no json"), (2, "", "hostile header"));
        read.Select(line => line.Source).Distinct().Should().ContainSingle().Which.Path.Should().Be($"{Options.Topic}/1");
        again.Should().Equal(read);
    }

    [RealKafkaFact]
    [Trait("Fault", "11")]
    public async Task Topic_that_takes_less_than_we_would_send_refuses_only_what_is_too_long()
    {
        using (var admin = new AdminClientBuilder([new("bootstrap.servers", Options.Brokers)]).Build())
        {
            await admin.IncrementalAlterConfigsAsync(new Dictionary<Confluent.Kafka.Admin.ConfigResource, List<Confluent.Kafka.Admin.ConfigEntry>>
            {
                [new() { Type = Confluent.Kafka.Admin.ResourceType.Topic, Name = Options.Topic }] =
                    [new() { Name = "max.message.bytes", Value = "20000", IncrementalOperation = Confluent.Kafka.Admin.AlterConfigOpType.Set }],
            });
        }

        await using var writer = await OpenWriterAsync();
        await using var reader = await OpenReaderAsync();
        var lines = Enumerable.Range(0, 200).Select(i => Some(i, "t", i == 100 ? new string('x', 30_000) : new string('a', 1_000))).ToArray();

        var refused = await SendAsync(writer, lines).Within();

        refused.Should().ContainSingle().Which.Offset.Should().Be(100);
        (await ReadAsync(reader, 199)).Should().Equal(lines.Where(line => line.Offset != 100));
    }

    [RealKafkaFact]
    [Trait("Fault", "11")]
    public async Task Limit_lowered_while_we_write_refuses_only_what_is_too_long()
    {
        await using var writer = await OpenWriterAsync();
        await using var reader = await OpenReaderAsync();
        await SendAsync(writer, [Some(0, "t", "before")]).Within();
        using (var admin = new AdminClientBuilder([new("bootstrap.servers", Options.Brokers)]).Build())
        {
            await admin.IncrementalAlterConfigsAsync(new Dictionary<Confluent.Kafka.Admin.ConfigResource, List<Confluent.Kafka.Admin.ConfigEntry>>
            {
                [new() { Type = Confluent.Kafka.Admin.ResourceType.Topic, Name = Options.Topic }] =
                    [new() { Name = "max.message.bytes", Value = "20000", IncrementalOperation = Confluent.Kafka.Admin.AlterConfigOpType.Set }],
            });
        }

        // Random text, which does not compress below the limit.
        var random = new Random(1);
        string Text(int length) => string.Create(length, random, (span, it) => it.GetItems("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", span));
        var lines = Enumerable.Range(1, 200).Select(i => Some(i, "t", Text(i == 100 ? 50_000 : 1_000))).ToArray();

        var refused = await SendAsync(writer, lines).Within();

        refused.Should().ContainSingle().Which.Offset.Should().Be(100);
        var read = await ReadUntilAsync(reader, it => it.Contains(lines[^1]));
        read.Distinct().Should().Equal(lines.Where(line => line.Offset != 100).Prepend(Some(0, "t", "before")));
    }
}

public abstract class KafkaTransportTests : RecordTransportContract
{
    protected KafkaOptions Options { get; private set; } = new();

    protected abstract Task<string> BrokerAsync();

    public override async Task InitializeAsync()
    {
        var name = "test-" + Guid.NewGuid().ToString("N");
        Options = new KafkaOptions { Brokers = await BrokerAsync(), Topic = name, Group = name, Linger = TimeSpan.FromMilliseconds(5), SessionTimeout = TimeSpan.FromSeconds(6), Partitions = 3 };
    }

    protected override Task<IRecordWriter> OpenWriterAsync() => Task.FromResult<IRecordWriter>(new KafkaWriter(Options));

    protected override Task<IRecordReader> OpenReaderAsync() => Task.FromResult<IRecordReader>(new KafkaReader(Options));

    [ContractFact]
    public async Task Line_too_long_is_given_back_with_its_reason_and_its_neighbours_arrive()
    {
        await using var writer = new KafkaWriter(Options with { MaxMessageBytes = 10_000 });
        await using var reader = await OpenReaderAsync();
        var (before, tooLong, after) = (Some(0, "t", "a"), Some(10, "t", new string('x', 10_000)), Some(20_000, "t", "b"));

        var refused = await writer.WriteAsync(Batch([before, tooLong, after]), default).Within();

        refused.Should().ContainSingle();
        Encoding.UTF8.GetString(refused[0].Line.Span).Should().Be(tooLong.Text);
        refused[0].Should().BeEquivalentTo(new { Source = File, Offset = 10 });
        refused[0].Reason.Should().Contain("10,000").And.Contain(Options.Topic);
        (await ReadAsync(reader, 2)).Should().Equal(before, after);
    }

    [ContractFact]
    public async Task Batch_is_given_back_when_its_lines_are_safe()
    {
        await using var writer = await OpenWriterAsync();
        var batch = Batch([Some(0, "t", "a")]);

        await writer.WriteAsync(batch, default).Within();

        await Eventually.HoldsAsync(() => Throws<ArgumentOutOfRangeException>(() => batch.Span(batch.Lines[0])), "the batch's buffer is given back");
    }

    [ContractFact]
    public async Task Key_lies_in_the_partition_where_a_Java_client_would_put_it()
    {
        await using var writer = await OpenWriterAsync();
        var lines = Enumerable.Range(0, 60).Select(i => Some(i, $"trace-{i % 20}", "x")).ToArray();
        await SendAsync(writer, lines).Within();

        var partitions = await PartitionsAsync();

        foreach (var (partition, keys) in partitions)
        {
            keys.Should().OnlyContain(key => (Murmur2(Encoding.UTF8.GetBytes(key)) & 0x7fffffff) % partitions.Count == partition);
        }

        partitions.Sum(partition => partition.Value.Count).Should().Be(60);
    }

    [ContractFact]
    public async Task Two_readers_share_the_work_and_the_one_that_stays_takes_over()
    {
        await using var writer = await OpenWriterAsync();
        var staying = await OpenReaderAsync();
        var leaving = await OpenReaderAsync();
        var lines = Enumerable.Range(0, 400).Select(i => Some(i, $"t-{i}", $"line {i}")).ToArray();
        await SendAsync(writer, lines[..200]).Within();

        using var enough = new CancellationTokenSource();
        var seen = new HashSet<Line>();
        Task Drain(IRecordReader reader, CancellationToken stop) => Task.Run(async () =>
        {
            try
            {
                while (true)
                {
                    using var batch = await reader.ReadAsync(stop);
                    lock (seen) seen.UnionWith(batch!.Lines.Select(line => new Line(line.Source, line.Offset, Encoding.UTF8.GetString(batch.Key(line)), Encoding.UTF8.GetString(batch.Span(line)))));
                    try
                    {
                        await reader.CommitAsync(batch, default);
                    }
                    catch (TransportUnavailableException)
                    {
                        // A rebalance was under way; the records may come again.
                    }
                }
            }
            catch (OperationCanceledException)
            {
                // Enough.
            }
        }, CancellationToken.None);
        using var leave = new CancellationTokenSource();
        var one = Drain(staying, enough.Token);
        var two = Drain(leaving, leave.Token);
        await Eventually.HoldsAsync(() => { lock (seen) return seen.Count == 200; }, "both have read the first half");

        await leave.CancelAsync();
        await two.Within();
        await leaving.DisposeAsync();
        await SendAsync(writer, lines[200..]).Within();

        await Eventually.HoldsAsync(() => { lock (seen) return seen.Count == 400; }, "the one that stays has read the rest");
        await enough.CancelAsync();
        await one.Within();
        await staying.DisposeAsync();
    }

    [ContractFact]
    public async Task Caller_who_is_busy_for_long_finds_everything_in_order()
    {
        await using var writer = await OpenWriterAsync();
        await using var reader = new KafkaReader(Options with { ReadBatchBytes = 1_024 });
        var lines = Enumerable.Range(0, 500).Select(i => Some(i, "t", $"line {i}")).ToArray();
        await SendAsync(writer, lines).Within();

        var read = await ReadAsync(reader, 1);
        await Eventually.HoldsAsync(() => reader.IsPaused, "the reader stops fetching");
        read.AddRange(await ReadAsync(reader, lines.Length - read.Count));

        read.Should().Equal(lines);
    }

    [ContractFact]
    public async Task Absent_broker_holds_the_writer_back_within_its_bound_and_closing_is_quick()
    {
        // Nobody listens at port 1.
        var writer = new KafkaWriter(Options with { Brokers = "127.0.0.1:1", MaxInFlightBytes = 4 << 20 });
        var written = Enumerable.Range(0, 40).Select(i => writer.WriteAsync(Batch([Some(i, "t", new string('x', 700_000))]), default)).ToList();
        await Eventually.HoldsAsync(() => writer.InFlightBytes > 3 << 20, "the writer has taken what it may", TimeSpan.FromSeconds(60));

        writer.InFlightBytes.Should().BeLessThanOrEqualTo(4 << 20);
        written.Should().OnlyContain(write => !write.IsCompleted);

        await writer.DisposeAsync().AsTask().Within(TimeSpan.FromSeconds(8));
        foreach (var write in written) await write.Invoking(it => it.Within()).Should().ThrowAsync<TransportUnavailableException>();
    }

    /// <summary>All keys in the topic, by partition.</summary>
    protected Task<Dictionary<int, List<string>>> PartitionsAsync() => Task.Run(() =>
    {
        using var consumer = new ConsumerBuilder<string, Ignore>([new("bootstrap.servers", Options.Brokers), new("group.id", "unused"), new("enable.partition.eof", "true")]).Build();
        using var admin = new DependentAdminClientBuilder(consumer.Handle).Build();
        var partitions = admin.GetMetadata(Options.Topic, TimeSpan.FromSeconds(10)).Topics[0].Partitions.Select(partition => partition.PartitionId).ToList();
        consumer.Assign(partitions.Select(partition => new TopicPartitionOffset(Options.Topic, partition, Offset.Beginning)));
        var keys = partitions.ToDictionary(partition => partition, _ => new List<string>());
        for (var open = partitions.Count; open > 0;)
        {
            var result = consumer.Consume(Eventually.Deadline) ?? throw new TimeoutException("the topic does not end");
            if (result.IsPartitionEOF) open--;
            else keys[result.Partition.Value].Add(result.Message.Key);
        }

        consumer.Close();
        return keys;
    });

    static bool Throws<T>(Action action)
        where T : Exception
    {
        try
        {
            action();
            return false;
        }
        catch (T)
        {
            return true;
        }
    }

    /// <summary>The hash of Kafka's Java client, org.apache.kafka.common.utils.Utils.murmur2, from its description.</summary>
    static int Murmur2(byte[] data)
    {
        const uint m = 0x5bd1e995;
        var h = 0x9747b28c ^ (uint)data.Length;
        var i = 0;
        for (; i + 4 <= data.Length; i += 4)
        {
            var k = BitConverter.ToUInt32(data, i) * m;
            k = (k ^ (k >> 24)) * m;
            h = (h * m) ^ k;
        }

        var left = data.Length - i;
        if (left >= 3) h ^= (uint)data[i + 2] << 16;
        if (left >= 2) h ^= (uint)data[i + 1] << 8;
        if (left >= 1) h = (h ^ data[i]) * m;
        h = (h ^ (h >> 13)) * m;
        return (int)(h ^ (h >> 15));
    }
}
