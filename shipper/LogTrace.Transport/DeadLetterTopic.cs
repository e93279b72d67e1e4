using System.Globalization;
using System.Text;
using Confluent.Kafka;

namespace LogTrace.Transport;

/// <summary>
/// The topic beside the dead letter files of all shippers and indexers, so that one place shows what was set aside anywhere: value = the line's bytes as read, header <c>lt</c> = its source
/// position as in the records' topic, <c>reason</c>, and <c>length</c> where the value is only the beginning of a longer line. Bounded by its retention. Not safe for concurrent use.
/// </summary>
/// <param name="options">Must be valid; <see cref="KafkaOptions.DeadTopic"/> names the topic.</param>
public sealed class DeadLetterTopic(KafkaOptions options) : IDisposable
{
    // What is kept of a line that the topic would not take whole.
    const int MostBytes = 900_000;
    const int FewBytes = 16 * 1024;

    // Sent before anybody asks for it, so that a stream of bad lines does not grow in memory.
    const int MaxPendingBytes = 4 << 20;

    static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    readonly KafkaOptions _options = options.OrThrow() with { Topic = options.DeadTopic, DeadTopic = "" };
    readonly Queue<Letter> _pending = new();
    IProducer<Null, byte[]>? _producer;
    long _pendingBytes;

    sealed record Letter(byte[] Header, byte[] Line, long WholeLength, string Reason);

    /// <summary>Takes a line; it is in the topic after <see cref="Flush"/>.</summary>
    /// <param name="source">The file.</param>
    /// <param name="offset">Byte offset of the line.</param>
    /// <param name="line">Its bytes, or their beginning.</param>
    /// <param name="wholeLength">Bytes of the whole line.</param>
    /// <param name="reason">Why it was set aside.</param>
    /// <exception cref="IOException">Too many wait and the topic takes none; the line was not taken, retry is safe.</exception>
    public void Add(SourceFile source, long offset, ReadOnlySpan<byte> line, long wholeLength, string reason)
    {
        if (_pendingBytes > MaxPendingBytes) Flush();
        _pending.Enqueue(new Letter(RecordHeader.Write(source, offset), line[..Math.Min(line.Length, MostBytes)].ToArray(), wholeLength, reason));
        _pendingBytes += line.Length;
    }

    /// <summary>Returns when all in-sync replicas have every line added so far. Costs nothing when nothing was added.</summary>
    /// <exception cref="IOException">They do not, within some seconds; retry is safe, and may double lines in the topic.</exception>
    public void Flush()
    {
        if (_pending.Count == 0) return;
        try
        {
            using var limit = new CancellationTokenSource(Patience);
            _producer ??= ConnectAsync(limit.Token).GetAwaiter().GetResult();
            var letters = _pending.ToArray();
            Task.WhenAll(letters.Select(letter => SendAsync(_producer, letter, limit.Token))).GetAwaiter().GetResult();
            _pending.Clear();
            _pendingBytes = 0;
        }
        catch (Exception e) when (e is KafkaException or TransportUnavailableException or OperationCanceledException)
        {
            // What of it is still on its way belongs to a producer that is not asked any more.
            _producer?.Dispose();
            _producer = null;
            var reason = e is OperationCanceledException ? "there is no answer" : e.Message;
            throw new IOException($"The topic {_options.Topic} at {_options.Brokers} does not take what is set aside: {reason} It is tried again; Kafka:DeadTopic names another topic, or none when it is empty.", e);
        }
    }

    async Task<IProducer<Null, byte[]>> ConnectAsync(CancellationToken cancellationToken)
    {
        await KafkaTopic.EnsureDeadAsync(_options, cancellationToken).ConfigureAwait(false);
        var config = KafkaClient.Configure(_options);
        config["acks"] = "all";
        config["enable.idempotence"] = "true";
        config["compression.codec"] = _options.Compression;
        return new ProducerBuilder<Null, byte[]>(config).SetLogHandler((_, message) => KafkaClient.DropLog(message)).Build();
    }

    static async Task SendAsync(IProducer<Null, byte[]> producer, string topic, Letter letter, int mostBytes, CancellationToken cancellationToken)
    {
        var value = letter.Line[..Math.Min(letter.Line.Length, mostBytes)];
        var headers = new Headers { { RecordHeader.Name, letter.Header }, { "reason", Encoding.UTF8.GetBytes(letter.Reason) } };
        if (value.Length < letter.WholeLength) headers.Add("length", Encoding.ASCII.GetBytes(letter.WholeLength.ToString(CultureInfo.InvariantCulture)));
        await producer.ProduceAsync(topic, new Message<Null, byte[]> { Value = value, Headers = headers }, cancellationToken).ConfigureAwait(false);
    }

    async Task SendAsync(IProducer<Null, byte[]> producer, Letter letter, CancellationToken cancellationToken)
    {
        try
        {
            await SendAsync(producer, _options.Topic, letter, MostBytes, cancellationToken).ConfigureAwait(false);
        }
        catch (ProduceException<Null, byte[]> e) when (e.Error.Code == ErrorCode.MsgSizeTooLarge)
        {
            // The file beside it has all of it.
            await SendAsync(producer, _options.Topic, letter, FewBytes, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Ends at once; what was not flushed is not promised.</summary>
    public void Dispose() => _producer?.Dispose();
}
