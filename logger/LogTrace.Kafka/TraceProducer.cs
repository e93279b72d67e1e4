using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Confluent.Kafka;

namespace LogTrace;

static class TraceProducer
{
    const int MaxKeyLength = 256;

    /// <summary>A key as param: text and numbers as they are, bytes by their number.</summary>
    public static string KeyText(object? key) => key switch
    {
        null or Null or Ignore => "",
        string text => text.Length <= MaxKeyLength ? text : text[..(MaxKeyLength - 3)] + "...",
        byte[] bytes => $"<{bytes.Length} bytes>",
        IFormattable value => value.ToString(null, CultureInfo.InvariantCulture),
        _ => "",
    };
}

/// <summary>Passes messages on with the headers of the call they are.</summary>
sealed class TraceProducer<TKey, TValue>(IProducer<TKey, TValue> inner, string instanceName) : IProducer<TKey, TValue>
{
    // Sent, but not answered yet: their records must not be missing when the producer is closed over them.
    readonly ConcurrentDictionary<TraceOperation, bool> _sent = new();
    volatile bool _hasNoReports;

    public Task<DeliveryResult<TKey, TValue>> ProduceAsync(string topic, Message<TKey, TValue> message, CancellationToken cancellationToken = default) =>
        ProduceAsync(Begin(topic, message), inner.ProduceAsync, topic, message, cancellationToken);

    public Task<DeliveryResult<TKey, TValue>> ProduceAsync(TopicPartition topicPartition, Message<TKey, TValue> message, CancellationToken cancellationToken = default) =>
        ProduceAsync(Begin(topicPartition?.Topic, message), inner.ProduceAsync, topicPartition!, message, cancellationToken);

    public void Produce(string topic, Message<TKey, TValue> message, Action<DeliveryReport<TKey, TValue>>? deliveryHandler = null) =>
        Produce(Begin(topic, message), inner.Produce, topic, message, deliveryHandler);

    public void Produce(TopicPartition topicPartition, Message<TKey, TValue> message, Action<DeliveryReport<TKey, TValue>>? deliveryHandler = null) =>
        Produce(Begin(topicPartition?.Topic, message), inner.Produce, topicPartition!, message, deliveryHandler);

    static async Task<DeliveryResult<TKey, TValue>> ProduceAsync<TTarget>(
        TraceOperation? call, Func<TTarget, Message<TKey, TValue>, CancellationToken, Task<DeliveryResult<TKey, TValue>>> produce, TTarget target, Message<TKey, TValue> message, CancellationToken cancellationToken)
    {
        using (call)
        {
            try
            {
                var result = await produce(target, message, cancellationToken).ConfigureAwait(false);
                Describe(call, result.TopicPartitionOffset);
                return result;
            }
            catch (Exception exception)
            {
                // Whatever it is: it is recorded here and handled by the caller.
                Fail(call, exception);
                throw;
            }
        }
    }

    void Produce<TTarget>(
        TraceOperation? call, Action<TTarget, Message<TKey, TValue>, Action<DeliveryReport<TKey, TValue>>?> produce, TTarget target, Message<TKey, TValue> message, Action<DeliveryReport<TKey, TValue>>? handler)
    {
        if (call is null || (_hasNoReports && handler is null))
        {
            using (call) produce(target, message, handler);
            return;
        }

        _sent.TryAdd(call, true);
        try
        {
            try
            {
                produce(target, message, Answered);
            }
            catch (InvalidOperationException) when (handler is null)
            {
                // The producer was configured to tell nobody what became of a message.
                produce(target, message, null);
                _hasNoReports = true;
                End(call);
            }
        }
        catch (Exception exception)
        {
            // As above.
            Fail(call, exception);
            End(call);
            throw;
        }

        void Answered(DeliveryReport<TKey, TValue> report)
        {
            Describe(call, report.TopicPartitionOffset);
            if (report.Error.IsError) call.Fail(report.Error.Code.ToString(), report.Error.Reason);
            End(call);
            handler?.Invoke(report);
        }
    }

    TraceOperation? Begin(string? topic, Message<TKey, TValue>? message)
    {
        if (topic is null || message is null || TraceOperation.Begin("kafka.produce", topic, TraceProducer.KeyText(message.Key)) is not { } call) return null;
        call.InstanceName = instanceName;
        // One's own broker: who may read the topic may know of a debug request.
        TraceHeaders.Write(call, message.Headers ??= [], SetHeader, calleeIsInternal: true);
        return call;
    }

    static void SetHeader(Headers headers, string name, string? value)
    {
        headers.Remove(name);
        if (value is not null) headers.Add(name, Encoding.UTF8.GetBytes(value));
    }

    static void Describe(TraceOperation? call, TopicPartitionOffset? place)
    {
        if (call is null || place is null) return;
        if (place.Partition != Partition.Any) call.AddExtra("partition", place.Partition.Value);
        if (place.Offset != Offset.Unset) call.AddExtra("offset", place.Offset.Value);
    }

    static void Fail(TraceOperation? call, Exception exception)
    {
        if (call is null) return;
        if (exception is KafkaException failed) call.Code = failed.Error.Code.ToString();
        call.Fail(exception);
    }

    void End(TraceOperation call)
    {
        if (_sent.TryRemove(call, out _)) call.Dispose();
    }

    public void Dispose()
    {
        inner.Dispose();
        foreach (var call in _sent.Keys)
        {
            call.Fail("unanswered", "The producer was closed before the broker answered.");
            End(call);
        }
    }

    public Handle Handle => inner.Handle;
    public string Name => inner.Name;
    public int AddBrokers(string brokers) => inner.AddBrokers(brokers);
    public void SetSaslCredentials(string username, string password) => inner.SetSaslCredentials(username, password);
    public int Poll(TimeSpan timeout) => inner.Poll(timeout);
    public int Flush(TimeSpan timeout) => inner.Flush(timeout);
    public void Flush(CancellationToken cancellationToken = default) => inner.Flush(cancellationToken);
    public void InitTransactions(TimeSpan timeout) => inner.InitTransactions(timeout);
    public void BeginTransaction() => inner.BeginTransaction();
    public void CommitTransaction(TimeSpan timeout) => inner.CommitTransaction(timeout);
    public void CommitTransaction() => inner.CommitTransaction();
    public void AbortTransaction(TimeSpan timeout) => inner.AbortTransaction(timeout);
    public void AbortTransaction() => inner.AbortTransaction();
    public void SendOffsetsToTransaction(IEnumerable<TopicPartitionOffset> offsets, IConsumerGroupMetadata groupMetadata, TimeSpan timeout) =>
        inner.SendOffsetsToTransaction(offsets, groupMetadata, timeout);
}
