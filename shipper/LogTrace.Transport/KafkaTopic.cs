using Confluent.Kafka;
using Confluent.Kafka.Admin;

namespace LogTrace.Transport;

/// <summary>Creates and deletes the topic of the records.</summary>
public static class KafkaTopic
{
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    static readonly TimeSpan LastPatience = TimeSpan.FromSeconds(2);
    static readonly Lock s_closing = new();
    static Task s_closed = Task.CompletedTask;

    /// <summary>What asks is closed behind the answer's back; only the end of the process waits for it, since no thread of the library must run into that.</summary>
    static KafkaTopic() => AppDomain.CurrentDomain.ProcessExit += (_, _) => s_closed.Wait(LastPatience);

    /// <summary>
    /// Creates the topic if it is absent: <see cref="KafkaOptions.Replication"/> copies, by default 3 where there are three brokers or more, else as many as there
    /// are; with 3 or more copies at least 2 are in sync; an out-of-sync replica never becomes leader. An existing topic is left as it is.
    /// </summary>
    /// <returns>True when it was created, false when it was there.</returns>
    /// <exception cref="TransportUnavailableException">Kafka cannot be reached or refused; retry is safe.</exception>
    /// <exception cref="ArgumentException">The client does not take one of <see cref="KafkaOptions.Properties"/>.</exception>
    public static Task<bool> EnsureAsync(KafkaOptions options, CancellationToken cancellationToken = default) => MakeAsync(options, [], cancellationToken);

    /// <summary>Tries whether the client takes all <see cref="KafkaOptions.Properties"/>; asks nobody.</summary>
    /// <exception cref="ArgumentException">It does not; the message says which.</exception>
    public static void CheckProperties(KafkaOptions options) => Open(options.OrThrow()).Dispose();

    /// <summary>Creates <see cref="KafkaOptions.Topic"/> as a topic of what is set aside if it is absent: one partition, so that it is read in the order in which it came, and bounded to 1 GiB and 30 days.</summary>
    /// <returns>True when it was created, false when it was there.</returns>
    /// <exception cref="TransportUnavailableException">Kafka cannot be reached or refused; retry is safe.</exception>
    /// <exception cref="ArgumentException">The client does not take one of <see cref="KafkaOptions.Properties"/>.</exception>
    public static Task<bool> EnsureDeadAsync(KafkaOptions options, CancellationToken cancellationToken = default) =>
        MakeAsync(options with { Partitions = 1 }, [new("retention.bytes", $"{1L << 30}"), new("retention.ms", $"{(long)TimeSpan.FromDays(30).TotalMilliseconds}")], cancellationToken);

    static async Task<bool> MakeAsync(KafkaOptions options, KeyValuePair<string, string>[] more, CancellationToken cancellationToken)
    {
        try
        {
            var there = await LookAsync(options, options.Topic, Patience, cancellationToken).ConfigureAwait(false);
            // Who may only write must not have to ask for more.
            if (there.Partitions is not null) return false;
            var replication = options.Replication > 0 ? options.Replication : Math.Clamp(there.Brokers, 1, 3);
            using var admin = Open(options);
            await admin.Client.CreateTopicsAsync(
            [
                new TopicSpecification
                {
                    Name = options.Topic,
                    NumPartitions = options.Partitions,
                    ReplicationFactor = (short)replication,
                    Configs = new Dictionary<string, string>(more)
                    {
                        ["min.insync.replicas"] = replication >= 3 ? "2" : "1",
                        ["unclean.leader.election.enable"] = "false",
                        // Retention must count from now, not from the time a record was logged: old files can be imported.
                        ["message.timestamp.type"] = "LogAppendTime",
                    },
                },
            ], new CreateTopicsOptions { OperationTimeout = Patience, RequestTimeout = Patience }).WaitAsync(cancellationToken).ConfigureAwait(false);
            return true;
        }
        catch (CreateTopicsException e) when (e.Results.All(result => result.Error.Code == ErrorCode.TopicAlreadyExists))
        {
            return false;
        }
        catch (KafkaException e)
        {
            throw new TransportUnavailableException($"The topic {options.Topic} could not be created at {options.Brokers}: {Reason(e)}.", e);
        }
    }

    // Metadata is only to be had synchronously and without a way to break off: who is cancelled leaves the question to end by itself.

    /// <summary>What the cluster says about a topic, without making it.</summary>
    /// <exception cref="TransportUnavailableException">Kafka cannot be reached or refuses; the message says why.</exception>
    /// <exception cref="ArgumentException">The client does not take one of <see cref="KafkaOptions.Properties"/>.</exception>
    public static Task<KafkaTopicStatus> LookAsync(KafkaOptions options, string topic, TimeSpan patience, CancellationToken cancellationToken = default)
    {
        var said = "";
        var admin = Open(options, (_, error) => { if (KafkaState.IsOutage(error.Code) && (said.Length == 0 || error.Code != ErrorCode.Local_AllBrokersDown)) said = error.Reason; });
        return Task.Run(
            () =>
            {
                using (admin)
                {
                    try
                    {
                        // Of all topics: asking for one by name could make it.
                        var metadata = admin.Client.GetMetadata(patience);
                        var found = metadata.Topics.FirstOrDefault(it => it.Topic == topic && !it.Error.IsError);
                        return new KafkaTopicStatus(metadata.Brokers.Count, found?.Partitions.Count, found?.Partitions.Min(partition => partition.Replicas.Length) ?? 0, found?.Partitions.Count(partition => partition.Leader < 0) ?? 0);
                    }
                    catch (KafkaException e)
                    {
                        throw new TransportUnavailableException($"Kafka at {options.Brokers} cannot be reached: {(said.Length > 0 ? said : e.Error.Reason)}.", e);
                    }
                }
            }, CancellationToken.None).WaitAsync(cancellationToken);
    }

    /// <summary>As <see cref="EnsureAsync"/>, trying again until Kafka can be reached.</summary>
    /// <param name="report">Is told once what is being waited for.</param>
    /// <exception cref="ArgumentException">The client does not take one of <see cref="KafkaOptions.Properties"/>.</exception>
    public static async Task WaitUntilThereAsync(KafkaOptions options, Action<string> report, CancellationToken cancellationToken)
    {
        var backoff = new Backoff(max: TimeSpan.FromSeconds(5));
        while (true)
        {
            try
            {
                await EnsureAsync(options, cancellationToken).ConfigureAwait(false);
                return;
            }
            catch (TransportUnavailableException e)
            {
                if (backoff.Failures == 0) report(e.Message);
                await backoff.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Deletes the topic with all that is in it; nothing happens when it is absent.</summary>
    /// <exception cref="TransportUnavailableException">Kafka cannot be reached or refused; retry is safe.</exception>
    public static async Task DeleteAsync(KafkaOptions options, CancellationToken cancellationToken = default)
    {
        using var admin = Open(options);
        try
        {
            await admin.Client.DeleteTopicsAsync([options.Topic], new DeleteTopicsOptions { OperationTimeout = Patience, RequestTimeout = Patience })
                .WaitAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (DeleteTopicsException e) when (e.Results.All(result => result.Error.Code == ErrorCode.UnknownTopicOrPart))
        {
            // Somebody was quicker.
        }
        catch (KafkaException e)
        {
            throw new TransportUnavailableException($"The topic {options.Topic} could not be deleted at {options.Brokers}: {Reason(e)}.", e);
        }
    }

    /// <summary>Messages of the topic that the group has not committed yet, over all partitions. Asks the brokers and joins no group.</summary>
    /// <exception cref="TransportUnavailableException">Kafka cannot be reached or refused; retry is safe.</exception>
    public static async Task<long> LagAsync(KafkaOptions options, CancellationToken cancellationToken = default) => (await LagsAsync(options, cancellationToken).ConfigureAwait(false)).Sum(partition => partition.Value);

    /// <summary>The same for each partition, by its number.</summary>
    /// <exception cref="TransportUnavailableException">Kafka cannot be reached or refuses; retry is safe.</exception>
    public static Task<IReadOnlyDictionary<int, long>> LagsAsync(KafkaOptions options, CancellationToken cancellationToken = default) => Task.Run<IReadOnlyDictionary<int, long>>(
        () =>
        {
            var config = KafkaClient.ConfigureMember(options);
            using var admin = Open(options);
            using var consumer = new ConsumerBuilder<Ignore, Ignore>(config).SetLogHandler((_, message) => KafkaClient.DropLog(message)).Build();
            try
            {
                var topic = admin.Client.GetMetadata(options.Topic, Patience).Topics[0];
                // Without its partitions nothing could be told from nothing left.
                if (topic.Error.IsError) throw new KafkaException(topic.Error);
                var partitions = topic.Partitions.Select(partition => new TopicPartition(options.Topic, partition.PartitionId));
                return consumer.Committed(partitions, Patience).ToDictionary(committed => committed.Partition.Value, committed =>
                {
                    var held = consumer.QueryWatermarkOffsets(committed.TopicPartition, Patience);
                    return held.High.Value - Math.Max(held.Low.Value, committed.Offset.IsSpecial ? 0 : committed.Offset.Value);
                });
            }
            catch (KafkaException e)
            {
                throw new TransportUnavailableException($"How far the group {options.Group} is in {options.Topic} could not be learnt from {options.Brokers}: {Reason(e)}.", e);
            }
        },
        cancellationToken);

    /// <summary>The topic's own limit for a message; null when it cannot be learnt (not reachable, not allowed, not known to this broker).</summary>
    internal static async Task<int?> MaxMessageBytesAsync(KafkaOptions options)
    {
        using var admin = Open(options);
        try
        {
            var described = await admin.Client.DescribeConfigsAsync([new ConfigResource { Type = ResourceType.Topic, Name = options.Topic }],
                new DescribeConfigsOptions { RequestTimeout = TimeSpan.FromSeconds(2) }).ConfigureAwait(false);
            return described[0].Entries.TryGetValue("max.message.bytes", out var entry) && int.TryParse(entry.Value, out var limit) ? limit : null;
        }
        catch (KafkaException)
        {
            return null;
        }
    }

    /// <summary>The id that a topic keeps for its life, so that one of the same name made later is another; null with brokers that have none.</summary>
    /// <exception cref="KafkaException">It could not be asked.</exception>
    internal static async Task<string?> IdAsync(KafkaOptions options)
    {
        using var admin = Open(options);
        try
        {
            var described = await admin.Client.DescribeTopicsAsync(TopicCollection.OfTopicNames([options.Topic]),
                new DescribeTopicsOptions { RequestTimeout = TimeSpan.FromSeconds(10) }).ConfigureAwait(false);
            return described.TopicDescriptions[0].TopicId.ToString();
        }
        catch (KafkaException e) when (e.Error.Code == ErrorCode.Local_UnsupportedFeature)
        {
            return null;
        }
    }

    static Asking Open(KafkaOptions options, Action<IAdminClient, Error>? failed = null)
    {
        try
        {
            return new Asking(new AdminClientBuilder(KafkaClient.Configure(options)).SetLogHandler((_, message) => KafkaClient.DropLog(message)).SetErrorHandler(failed ?? ((_, _) => { })).Build());
        }
        catch (Exception e) when (e is InvalidOperationException or ArgumentException)
        {
            throw new ArgumentException($"Kafka:Properties cannot be used, see the properties of librdkafka: {e.Message}", e);
        }
    }

    /// <summary>A client for a question or two. That the library takes up to half a second to let go of it is nobody's time.</summary>
    sealed class Asking(IAdminClient client) : IDisposable
    {
        public IAdminClient Client { get; } = client;

        public void Dispose()
        {
            lock (s_closing) s_closed = Task.WhenAll(s_closed, Task.Run(Client.Dispose));
        }
    }

    static string Reason(KafkaException e) => e switch
    {
        CreateTopicsException create => create.Results[0].Error.Reason,
        DeleteTopicsException delete => delete.Results[0].Error.Reason,
        _ => e.Error.Reason,
    };
}

/// <summary>What a cluster says about a topic.</summary>
/// <param name="Brokers">Brokers of the cluster.</param>
/// <param name="Partitions">Partitions of the topic; null when there is no such topic, or this user may not see it.</param>
/// <param name="Replicas">Copies of the partition that has fewest.</param>
/// <param name="WithoutLeader">Partitions that nobody can write to now.</param>
public sealed record KafkaTopicStatus(int Brokers, int? Partitions, int Replicas, int WithoutLeader);
