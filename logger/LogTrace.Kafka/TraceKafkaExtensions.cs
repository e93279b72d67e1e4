using System.Globalization;
using System.Text;
using Confluent.Kafka;

namespace LogTrace;

/// <summary>Carries traces through Kafka, with Confluent.Kafka's producers and messages.</summary>
public static class TraceKafkaExtensions
{
    const int MaxNamedTraces = 100;

    /// <summary>
    /// Makes each message that is produced from within a scope a call of it: one <c>kafka.produce</c> record with a number of its own, which the message's headers carry to whoever consumes it.
    /// The record is written when the broker has answered; <c>.error</c> with the broker's code where it did not take the message, or the call was cancelled.
    /// </summary>
    /// <param name="producer">Belongs to the wrapper then: disposing of that one disposes of it.</param>
    /// <param name="instanceName">What records call the producer; its own name when null.</param>
    /// <returns>The producer to use in its place; as thread-safe as that one.</returns>
    public static IProducer<TKey, TValue> WithTrace<TKey, TValue>(this IProducer<TKey, TValue> producer, string? instanceName = null)
    {
        ArgumentNullException.ThrowIfNull(producer);
        return new TraceProducer<TKey, TValue>(producer, instanceName ?? producer.Name);
    }

    /// <summary>
    /// Begins the handling of one consumed message and makes it the ambient scope of the calling method: it continues the message's trace, and the id the message carries is its prefix; a message
    /// without one starts a trace. Dispose it to write its <c>request.info</c>, with the action <c>CONSUME topic</c>. A message that is delivered again is handled under the same id
    /// again: two executions of one call.
    /// </summary>
    /// <param name="message">The message.</param>
    /// <param name="logger">Whose records; the default logger's when null.</param>
    /// <param name="trust">How far whoever can write to the topic is believed. Default: it is one's own broker.</param>
    public static TraceContext StartTrace<TKey, TValue>(this ConsumeResult<TKey, TValue> message, TraceLogger? logger = null, CallerTrust trust = CallerTrust.Trust)
    {
        ArgumentNullException.ThrowIfNull(message);
        logger ??= TraceLogger.Default;
        var scope = logger.StartRequest($"CONSUME {message.Topic}", TraceProducer.KeyText(message.Message is null ? null : message.Message.Key), logger.Judge(trust, message.Message?.Headers, GetHeader));
        scope.AddExtra("partition", message.Partition.Value);
        scope.AddExtra("offset", message.Offset.Value);
        return scope;
    }

    /// <summary>Handles one consumed message as <see cref="StartTrace"/> says; an exception of <paramref name="handle"/> makes an error of its record and goes on to the caller.</summary>
    public static async Task HandleAsync<TKey, TValue>(this ConsumeResult<TKey, TValue> message, Func<Task> handle, TraceLogger? logger = null, CallerTrust trust = CallerTrust.Trust)
    {
        ArgumentNullException.ThrowIfNull(handle);
        using var scope = message.StartTrace(logger, trust);
        try
        {
            await handle().ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            // Whatever it is: it is recorded here and handled by the caller.
            scope.Fail(exception);
            throw;
        }
    }

    /// <summary>
    /// Begins work that is done once for a whole batch of messages: a trace of its own. Its first call, <c>kafka.consume</c>, says what was consumed, and the <c>extra</c> of its
    /// <c>request.info</c> names the messages' traces (<c>traces</c>, the first 100, and <c>trace_count</c>). Dispose it to write its <c>request.info</c>.
    /// </summary>
    /// <param name="messages">The batch; may be empty.</param>
    /// <param name="action">Name of the work.</param>
    /// <param name="logger">Whose records; the default logger's when null.</param>
    /// <param name="trust">As with a single message: traces of those who are ignored are not named.</param>
    public static TraceContext StartBatchTrace<TKey, TValue>(
        this IReadOnlyCollection<ConsumeResult<TKey, TValue>> messages, string action, TraceLogger? logger = null, CallerTrust trust = CallerTrust.Trust)
    {
        ArgumentNullException.ThrowIfNull(messages);
        logger ??= TraceLogger.Default;
        var scope = logger.StartTrace(action);
        using (var consume = scope.BeginCall("kafka.consume", string.Join(' ', messages.Select(message => message.Topic).Distinct())))
        {
            consume.AddExtra("messages", messages.Count);
            foreach (var part in messages.GroupBy(message => message.TopicPartition))
                consume.AddExtra($"{part.Key.Topic}[{part.Key.Partition.Value.ToString(CultureInfo.InvariantCulture)}]", $"{part.Min(message => message.Offset.Value)}-{part.Max(message => message.Offset.Value)}");
        }

        var traces = messages.Select(message => logger.Judge(trust, message.Message?.Headers, GetHeader).TraceId).OfType<string>().Distinct().ToList();
        scope.AddExtra("trace_count", traces.Count);
        if (traces.Count > 0) scope.AddExtra("traces", string.Join(' ', traces.Take(MaxNamedTraces)));
        return scope;
    }

    static string? GetHeader(Headers? headers, string name)
    {
        byte[]? value = null;
        foreach (var header in headers ?? [])
        {
            if (!header.Key.Equals(name, StringComparison.OrdinalIgnoreCase)) continue;
            if (value is not null) return null;
            value = header.GetValueBytes();
        }

        return value is null ? null : Encoding.UTF8.GetString(value);
    }
}
