using Confluent.Kafka;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.EndToEnd.Faults;

/// <summary>The Kafka that a fault is tried on, with the ways in which it fails.</summary>
abstract class FaultBroker : IAsyncDisposable
{
    /// <summary>host:port, several separated by commas.</summary>
    public abstract string Address { get; }

    public abstract bool IsReal { get; }

    public abstract Task CreateTopicAsync(string topic);

    /// <summary>Gone from one moment to the next.</summary>
    public abstract Task GoDownAsync();

    public abstract Task ComeBackAsync();

    public abstract ValueTask DisposeAsync();
}

/// <summary>librdkafka's mock broker, made anew for each case.</summary>
sealed class MockBroker(int brokers = 1) : FaultBroker
{
    // So many that what a case writes stays within the 5 MiB that each partition keeps.
    public const int Partitions = 32;

    public MockKafka Kafka { get; } = new(brokers);

    public override string Address => Kafka.Address;

    public override bool IsReal => false;

    public override Task CreateTopicAsync(string topic)
    {
        Kafka.CreateTopic(topic, Partitions);
        Kafka.CreateTopic(new KafkaOptions().DeadTopic, 1);
        return Task.CompletedTask;
    }

    public override Task GoDownAsync()
    {
        Kafka.GoDown();
        return Task.CompletedTask;
    }

    public override Task ComeBackAsync()
    {
        Kafka.ComeUp();
        return Task.CompletedTask;
    }

    public override ValueTask DisposeAsync()
    {
        Kafka.Dispose();
        return ValueTask.CompletedTask;
    }
}

/// <summary>A real Kafka, or three of them, that the case may break.</summary>
sealed class RealBroker : FaultBroker
{
    RealBroker(RealEngine engine) => Engine = engine;

    public RealEngine Engine { get; }

    public override string Address => Engine.Address;

    public override bool IsReal => true;

    public static async Task<RealBroker> StartAsync(string engine) => new(await RealEngines.StartOwnAsync(engine));

    public override Task CreateTopicAsync(string topic) => KafkaTopic.EnsureAsync(new KafkaOptions { Brokers = Address, Topic = topic, Partitions = 3 });

    public override Task GoDownAsync() => Engine.KillAsync();

    public override Task ComeBackAsync() => Engine.StartAgainAsync();

    public override ValueTask DisposeAsync() => Engine.DisposeAsync();
}

/// <summary>One message of a topic, in the order of its partition.</summary>
readonly record struct TopicMessage(int Partition, byte[] Value, Headers Headers)
{
    public byte[]? Header => Headers.TryGetLastBytes("lt", out var header) ? header : null;
}

/// <summary>Reads all that a topic holds.</summary>
static class TopicContent
{
    static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <exception cref="InvalidOperationException">The broker has dropped messages, so that nothing can be said.</exception>
    public static IEnumerable<TopicMessage> Read(string brokers, string topic)
    {
        using var consumer = Consumer(brokers);
        var partitions = Partitions(brokers, topic);
        foreach (var partition in partitions)
        {
            if (consumer.QueryWatermarkOffsets(partition, Patience).Low.Value != 0)
                throw new InvalidOperationException($"{partition} no longer holds its first messages: the broker keeps too little for what was written.");
        }

        consumer.Assign(partitions.Select(partition => new TopicPartitionOffset(partition, Offset.Beginning)));
        for (var open = partitions.Count; open > 0;)
        {
            var message = consumer.Consume(Patience) ?? throw new TimeoutException($"{topic} at {brokers} gives nothing more, {open} partitions before their end.");
            if (message.IsPartitionEOF) open--;
            else yield return new TopicMessage(message.Partition.Value, message.Message.Value, message.Message.Headers);
        }

        consumer.Unassign();
    }

    /// <summary>How many messages there are.</summary>
    public static long Count(string brokers, string topic)
    {
        using var consumer = Consumer(brokers);
        return Partitions(brokers, topic).Sum(partition => consumer.QueryWatermarkOffsets(partition, Patience).High.Value);
    }

    public static List<TopicPartition> Partitions(string brokers, string topic)
    {
        using var admin = new AdminClientBuilder([new("bootstrap.servers", brokers)]).SetLogHandler((_, _) => { }).Build();
        return [.. admin.GetMetadata(topic, Patience).Topics[0].Partitions.Select(partition => new TopicPartition(topic, partition.PartitionId))];
    }

    public static IConsumer<Ignore, byte[]> Consumer(string brokers) =>
        new ConsumerBuilder<Ignore, byte[]>([new("bootstrap.servers", brokers), new("group.id", "faults"), new("enable.partition.eof", "true"), new("enable.auto.commit", "false")])
            .SetLogHandler((_, _) => { }).Build();
}

/// <summary>Reads along with a topic of generated lines, to know which of them are there.</summary>
sealed class Arrivals : IDisposable
{
    readonly IConsumer<Ignore, byte[]> _consumer;
    readonly HashSet<int> _seen = [];

    public Arrivals(string brokers, string topic)
    {
        _consumer = TopicContent.Consumer(brokers);
        _consumer.Assign(TopicContent.Partitions(brokers, topic).Select(partition => new TopicPartitionOffset(partition, Offset.Beginning)));
    }

    /// <summary>Waits until so many different lines are there.</summary>
    public Task HoldAsync(int lines, Contender shipper) => Eventually.HoldsAsync(() =>
    {
        while (_consumer.Consume(TimeSpan.FromMilliseconds(20)) is { } message)
        {
            if (!message.IsPartitionEOF) _seen.Add(FaultCase.NumberOf(message.Message.Value));
        }

        return _seen.Count >= lines || !shipper.IsRunning;
    }, $"{lines} lines are there", TimeSpan.FromMinutes(4));

    public void Dispose() => _consumer.Dispose();
}
