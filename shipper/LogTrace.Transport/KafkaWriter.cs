using System.Threading.Channels;
using Confluent.Kafka;

namespace LogTrace.Transport;

/// <summary>
/// Sends lines to the records topic: key = trace_id, value = the line as read, one header with the line's source. Idempotent, acknowledged by
/// all in-sync replicas, and never timed out: while Kafka is away a write waits, and with it the tailer. Thread-safe; connects at the first write.
/// </summary>
/// <param name="options">Must be valid, see <see cref="KafkaOptions.Validate"/>.</param>
/// <param name="report">Gets a sentence when Kafka is lost or found again; called from any thread. Default nobody.</param>
public sealed class KafkaWriter(KafkaOptions options, Action<string>? report = null) : IRecordWriter
{
    /// <summary>What a record batch of Kafka and a record in it cost at most beyond key, value and header (kafka.apache.org/documentation/#messageformat).</summary>
    const int Framing = 61 + 45;

    readonly KafkaOptions _options = options.OrThrow();

    // Written by callers, taken by one loop, so that lines leave in the order of the calls.
    readonly Channel<Sending> _queue = Channel.CreateBounded<Sending>(new BoundedChannelOptions(4) { FullMode = BoundedChannelFullMode.Wait, SingleReader = true });
    readonly CancellationTokenSource _stop = new();
    readonly KafkaState _state = new(report);
    readonly Lock _starting = new();
    Task? _loop;

    // The loop's own.
    Connection? _connection;

    // Between the loop and the delivery reports.
    readonly SemaphoreSlim _delivered = new(0);
    long _inFlightBytes;

    /// <summary>Bytes handed over and not yet acknowledged, with what the client adds to each line.</summary>
    public long InFlightBytes => Interlocked.Read(ref _inFlightBytes);

    /// <inheritdoc/>
    public async Task<IReadOnlyList<RefusedLine>> WriteAsync(RecordBatch batch, CancellationToken cancellationToken)
    {
        var sending = new Sending(this, batch);
        try
        {
            lock (_starting)
            {
                ObjectDisposedException.ThrowIf(_stop.IsCancellationRequested, this);
                _loop ??= Task.Run(SendAsync, CancellationToken.None);
            }

            await _queue.Writer.WriteAsync(sending, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            // Whatever the reason, the loop has not taken it and the caller has let go of it.
            batch.Dispose();
            if (e is ChannelClosedException) throw Closed();
            throw;
        }

        // Cancelled, the lines may still arrive; the batch is disposed of when their fate is known.
        return await sending.Done.WaitAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Stops at once: writes that have not returned fail with <see cref="TransportUnavailableException"/>, though their lines may have arrived.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_starting)
        {
            if (_stop.IsCancellationRequested) return;
            _stop.Cancel();
        }

        _queue.Writer.TryComplete();
        if (_loop is not null) await _loop.ConfigureAwait(false);
    }

    async Task SendAsync()
    {
        var oneByOne = false;
        try
        {
            await foreach (var sending in _queue.Reader.ReadAllAsync(_stop.Token).ConfigureAwait(false))
            {
                try
                {
                    await RoomForAsync(sending).ConfigureAwait(false);
                    if (_connection is { IsDead: true })
                    {
                        oneByOne = _connection.MustSendOneByOne;
                        _connection.Dispose();
                        _connection = null;
                    }

                    _connection ??= await ConnectAsync(oneByOne).ConfigureAwait(false);
                    await _connection.SendAsync(sending, _stop.Token).ConfigureAwait(false);
                }
                catch (Exception e) when (e is KafkaException or InvalidOperationException or ArgumentException or DllNotFoundException)
                {
                    // The client could not be made or has ended: who wrote decides when to try again.
                    sending.Fail(new TransportUnavailableException($"Kafka at {_options.Brokers} cannot be written to: {e.Message}", e));
                }
                catch (OperationCanceledException)
                {
                    sending.Fail(Closed());
                }
                finally
                {
                    sending.LetGo();
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Disposed of.
        }
        finally
        {
            _connection?.Fail(Closed());
            _connection?.Dispose();
            while (_queue.Reader.TryRead(out var sending))
            {
                sending.Fail(Closed());
                sending.LetGo();
            }
        }
    }

    /// <summary>Back-pressure: waits until what is on its way has shrunk. One batch always may go, whatever its size.</summary>
    async Task RoomForAsync(Sending sending)
    {
        while (Interlocked.Read(ref _inFlightBytes) is var bytes and > 0 && bytes + sending.Bytes > _options.MaxInFlightBytes)
        {
            await _delivered.WaitAsync(_stop.Token).ConfigureAwait(false);
        }

        Interlocked.Add(ref _inFlightBytes, sending.Bytes);
        sending.IsCounted = true;
    }

    void Settled(Sending sending)
    {
        if (sending.IsCounted) Interlocked.Add(ref _inFlightBytes, -sending.Bytes);
        if (_delivered.CurrentCount == 0) _delivered.Release();
    }

    async Task<Connection> ConnectAsync(bool oneByOne)
    {
        // A batch of messages over the topic's limit is refused as a whole; so the client must know the limit before it makes batches.
        var limit = await KafkaTopic.MaxMessageBytesAsync(_options).WaitAsync(_stop.Token).ConfigureAwait(false);
        if (oneByOne && limit is null) report?.Invoke($"The limit of topic {_options.Topic} for a message cannot be learnt; lines are sent one by one from now on.");
        return new Connection(_options, Math.Min(_options.MaxMessageBytes, limit ?? int.MaxValue), oneByOne && limit is null, _state);
    }

    static TransportUnavailableException Closed() => new("The writer was closed before these lines were acknowledged; send them again.");

    /// <summary>One librdkafka producer. When it has failed for good, everything on its way fails and the next write makes another.</summary>
    sealed class Connection : IDisposable
    {
        readonly KafkaOptions _options;
        readonly int _maxMessageBytes;
        readonly bool _oneByOne;
        readonly KafkaState _state;
        readonly IProducer<Line, Line> _producer;
        readonly Lock _lock = new();
        readonly HashSet<Sending> _inFlight = [];
        TransportUnavailableException? _failure;

        public Connection(KafkaOptions options, int maxMessageBytes, bool oneByOne, KafkaState state)
        {
            (_options, _maxMessageBytes, _oneByOne, _state) = (options, maxMessageBytes, oneByOne, state);
            _producer = new ProducerBuilder<Line, Line>(Config())
                .SetKeySerializer(LineSerializer.Key)
                .SetValueSerializer(LineSerializer.Value)
                .SetErrorHandler((_, error) => OnError(error))
                .SetLogHandler((_, message) => KafkaClient.DropLog(message))
                .Build();
        }

        public bool IsDead
        {
            get
            {
                lock (_lock) return _failure is not null;
            }
        }

        /// <summary>The broker refused a batch of messages as too large, though each may be small enough.</summary>
        public bool MustSendOneByOne { get; private set; }

        public async Task SendAsync(Sending sending, CancellationToken cancellationToken)
        {
            lock (_lock)
            {
                if (_failure is not null)
                {
                    sending.Fail(_failure);
                    return;
                }

                _inFlight.Add(sending);
                sending.Through(this);
            }

            byte[]? header = null;
            SourceFile? source = null;
            for (var i = 0; i < sending.Batch.Count && !sending.Done.IsCompleted; i++)
            {
                var line = sending.Batch.Lines[i];
                var isSameFile = ReferenceEquals(line.Source, source);
                header = isSameFile ? RecordHeader.WithOffset(header!, line.Offset) : RecordHeader.Write(line.Source, line.Offset);
                source = line.Source;

                var bytes = line.Length + line.KeyLength + header.Length + Framing;
                if (bytes > _maxMessageBytes)
                {
                    sending.Refuse(i, $"the message would have {bytes:N0} bytes and the topic {_options.Topic} takes at most {_maxMessageBytes:N0}");
                    continue;
                }

                var reference = new Line(sending, i);
                var message = new Message<Line, Line> { Key = reference, Value = reference, Headers = [new Header(RecordHeader.Name, header)] };
                while (!TryProduce(message, sending.OnReport)) await Task.Delay(5, cancellationToken).ConfigureAwait(false);
            }

            sending.AllHandedOver();
        }

        bool TryProduce(Message<Line, Line> message, Action<DeliveryReport<Line, Line>> onReport)
        {
            try
            {
                _producer.Produce(_options.Topic, message, onReport);
                return true;
            }
            catch (ProduceException<Line, Line> e) when (e.Error.Code == ErrorCode.Local_QueueFull)
            {
                return false;
            }
            catch (ProduceException<Line, Line> e)
            {
                // Permanent for this producer: a fatal error, or one that the client sees in the message itself.
                Fail(new TransportUnavailableException($"Kafka at {_options.Brokers} did not take a line: {e.Error.Reason}", e));
                return true;
            }
        }

        /// <summary>The broker's answer for one line, on the producer's own thread.</summary>
        public void OnReport(Sending sending, DeliveryReport<Line, Line> report)
        {
            var line = report.Message.Value.Index;
            if (!report.Error.IsError)
            {
                sending.Acknowledge();
            }
            else if (report.Error.Code != ErrorCode.MsgSizeTooLarge)
            {
                // Later lines may have arrived: only reading again from the first one that has not is sure to lose none.
                sending.Fail(new TransportUnavailableException($"Kafka did not acknowledge a line: {report.Error.Reason}"));
            }
            else if (_oneByOne)
            {
                sending.Refuse(line, $"the broker found the message too large ({report.Error.Reason})");
            }
            else
            {
                MustSendOneByOne = true;
                Fail(new TransportUnavailableException("The topic's limit for a message is lower than it was; the lines are sent again in smaller batches."));
            }
        }

        void OnError(Error error)
        {
            if (error.IsFatal)
            {
                // The producer never sends again (librdkafka: a sequence broke, or the broker fenced it). Another one can.
                Fail(new TransportUnavailableException($"Kafka's producer failed for good and is made anew: {error.Reason}"));
            }
            else if (error.Code is ErrorCode.Local_AllBrokersDown or ErrorCode.Local_Authentication or ErrorCode.TopicAuthorizationFailed or ErrorCode.ClusterAuthorizationFailed)
            {
                _state.Down($"Kafka at {_options.Brokers} cannot be written to ({error.Reason}); waiting until it can, nothing is lost.");
            }
        }

        public void Settled(Sending sending, bool isSafe)
        {
            lock (_lock) _inFlight.Remove(sending);
            if (isSafe) _state.Up($"Kafka at {_options.Brokers} takes lines again.");
        }

        public void Fail(TransportUnavailableException failure)
        {
            Sending[] inFlight;
            lock (_lock)
            {
                _failure ??= failure;
                inFlight = [.. _inFlight];
            }

            foreach (var sending in inFlight) sending.Fail(failure);
        }

        public void Dispose() => _producer.Dispose();

        Dictionary<string, string> Config()
        {
            var config = KafkaClient.Configure(_options);
            config["acks"] = "all";
            config["enable.idempotence"] = "true";
            // 0 is never: an outage is waited for. The default (5 min) turns it into failed messages, some of which have arrived.
            config["message.timeout.ms"] = "0";
            // As the Java clients do it, so that whatever else writes to the topic agrees on where a trace lies.
            config["partitioner"] = "murmur2_random";
            config["compression.codec"] = _options.Compression;
            config["linger.ms"] = _options.Linger.TotalMilliseconds.ToString("F0");
            config["message.max.bytes"] = Math.Max(1_000, _maxMessageBytes).ToString();
            // RoomForAsync bounds what is on its way; these stand behind it, with room for one batch of any size.
            config["queue.buffering.max.messages"] = "0";
            config["queue.buffering.max.kbytes"] = "2097151";
            config["dotnet.producer.delivery.report.fields"] = "value";
            if (_oneByOne) config["batch.num.messages"] = "1";
            return config;
        }
    }

    /// <summary>A batch on its way: counts what is acknowledged, and settles once.</summary>
    sealed class Sending
    {
        readonly KafkaWriter _writer;
        readonly TaskCompletionSource<IReadOnlyList<RefusedLine>> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        readonly List<RefusedLine> _refused = [];
        Connection? _connection;
        int _open;
        int _isSettled;
        int _holders = 2; // the loop that reads the batch's buffer, and the settling that reads refused lines from it

        public Sending(KafkaWriter writer, RecordBatch batch)
        {
            (_writer, Batch) = (writer, batch);
            // One for each line, and one that keeps it open until all were handed over.
            _open = batch.Count + 1;
            Bytes = batch.Bytes + 200L * batch.Count;
            OnReport = report => _connection!.OnReport(this, report);
        }

        public RecordBatch Batch { get; }
        public long Bytes { get; }
        public bool IsCounted { get; set; }
        public Task<IReadOnlyList<RefusedLine>> Done => _done.Task;
        public Action<DeliveryReport<Line, Line>> OnReport { get; }

        public void Through(Connection connection) => _connection = connection;

        public void Acknowledge(int lines = 1)
        {
            if (Interlocked.Add(ref _open, -lines) == 0) Settle(null);
        }

        public void AllHandedOver() => Acknowledge();

        /// <summary>Sets a line aside. Counts as acknowledged.</summary>
        public void Refuse(int index, string reason)
        {
            lock (_refused)
            {
                // Settled by a failure meanwhile: the lines come again, and the batch's buffer is gone.
                if (Volatile.Read(ref _isSettled) != 0) return;
                var line = Batch.Lines[index];
                _refused.Add(new RefusedLine(line.Source, line.Offset, Batch.Span(line).ToArray(), reason));
            }

            Acknowledge();
        }

        public void Fail(TransportUnavailableException failure) => Settle(failure);

        void Settle(TransportUnavailableException? failure)
        {
            lock (_refused)
            {
                if (_isSettled != 0) return;
                _isSettled = 1;
            }

            _connection?.Settled(this, failure is null);
            _writer.Settled(this);
            LetGo();
            if (failure is null)
            {
                _done.TrySetResult(_refused);
                return;
            }

            _done.TrySetException(failure);
            // The caller may have stopped waiting (cancelled); the failure is then nobody's.
            _ = _done.Task.Exception;
        }

        /// <summary>Gives the buffer back when neither side needs it: a line must not be read from a buffer that is somebody else's by now.</summary>
        public void LetGo()
        {
            if (Interlocked.Decrement(ref _holders) == 0) Batch.Dispose();
        }
    }

    /// <summary>What is handed to the client in place of key and value: their bytes are taken from the batch when it serialises.</summary>
    readonly record struct Line(Sending Sending, int Index);

    sealed class LineSerializer(bool isKey) : ISerializer<Line>
    {
        public static readonly LineSerializer Key = new(isKey: true);
        public static readonly LineSerializer Value = new(isKey: false);

        public byte[] Serialize(Line data, SerializationContext context)
        {
            var batch = data.Sending.Batch;
            var line = batch.Lines[data.Index];
            // Without a key the partitioner spreads lines; an empty key would put all of them into one partition.
            if (isKey) return line.KeyLength == 0 ? null! : batch.Key(line).ToArray();
            return batch.Span(line).ToArray();
        }
    }
}
