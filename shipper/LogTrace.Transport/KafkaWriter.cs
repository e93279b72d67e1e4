using System.Buffers;
using System.Runtime.InteropServices;
using System.Threading.Channels;
using Confluent.Kafka;

namespace LogTrace.Transport;

/// <summary>
/// Sends lines to the records topic: key = trace_id, value = the line as read, one header with the line's source. Idempotent, acknowledged by
/// all in-sync replicas, and never timed out: while Kafka is away a write waits, and with it the tailer. In each partition lines arrive in the order of the calls: when one is refused for
/// good, all writes under way fail, and the next one is made with another producer. Thread-safe; connects at the first write.
/// </summary>
/// <param name="options">Must be valid, see <see cref="KafkaOptions.Validate"/>.</param>
/// <param name="report">Gets a sentence when Kafka is lost or found again; called from any thread. Default nobody.</param>
/// <param name="makesTopic">
/// Makes the topic if it is not there, as <see cref="KafkaTopic.EnsureAsync"/> does, before the first line; the first writes wait for that as long as it takes. A broker that makes topics by
/// itself would give it its own number of partitions and copies. Default false.
/// </param>
public sealed class KafkaWriter(KafkaOptions options, Action<string>? report = null, bool makesTopic = false) : IRecordWriter
{
    /// <summary>What a record batch of Kafka and a record in it cost at most beyond key, value and header (kafka.apache.org/documentation/#messageformat).</summary>
    const int Framing = 61 + 45;

    readonly KafkaOptions _options = options.OrThrow();

    // Written by callers, taken by one thread, so that lines leave in the order of the calls. Everything else below is that thread's own.
    readonly Channel<Sending> _queue = Channel.CreateBounded<Sending>(new BoundedChannelOptions(4) { FullMode = BoundedChannelFullMode.Wait, SingleReader = true });
    readonly CancellationTokenSource _stop = new();
    readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    readonly KafkaState _state = new(report);
    readonly Lock _starting = new();
    Thread? _thread;
    bool _topicIsThere;
    volatile Connection? _connection;
    long _inFlightBytes;

    /// <summary>Bytes handed over and not yet acknowledged, with what the client adds to each line.</summary>
    public long InFlightBytes => Interlocked.Read(ref _inFlightBytes);

    /// <summary>What the Kafka client measured last; null before the first measurement, some seconds after the first write.</summary>
    public KafkaStatistics? Statistics { get; private set; }

    /// <inheritdoc/>
    public async Task<IReadOnlyList<RefusedLine>> WriteAsync(RecordBatch batch, CancellationToken cancellationToken)
    {
        var sending = new Sending(this, batch);
        try
        {
            lock (_starting)
            {
                ObjectDisposedException.ThrowIf(_stop.IsCancellationRequested, this);
                if (_thread is null)
                {
                    _thread = new Thread(Run) { IsBackground = true, Name = "kafka-writer" };
                    _thread.Start();
                }
            }

            await _queue.Writer.WriteAsync(sending, cancellationToken).ConfigureAwait(false);
            _connection?.Wake();
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
        _connection?.Wake();
        if (_thread is not null) await _ended.Task.ConfigureAwait(false);
    }

    void Run()
    {
        var oneByOne = false;
        try
        {
            while (!_stop.IsCancellationRequested)
            {
                if (_connection is { IsDead: true } dead)
                {
                    oneByOne = dead.MustSendOneByOne;
                    _connection = null;
                    dead.Dispose();
                }

                if (_queue.Reader.TryRead(out var sending)) Send(sending, oneByOne);
                else if (_connection is { } connection) connection.Poll(1_000);
                else if (!_queue.Reader.WaitToReadAsync(_stop.Token).AsTask().GetAwaiter().GetResult()) break;
            }
        }
        catch (OperationCanceledException)
        {
            // Disposed of.
        }
        finally
        {
            _connection?.Dispose();
            while (_queue.Reader.TryRead(out var sending)) sending.Fail(Closed());
            _ended.SetResult();
        }
    }

    void Send(Sending sending, bool oneByOne)
    {
        try
        {
            _connection ??= Connect(oneByOne);
            WaitForRoom(sending);
            _connection.Send(sending, _stop.Token);
        }
        catch (Exception e) when (e is KafkaException or InvalidOperationException or ArgumentException or DllNotFoundException or EntryPointNotFoundException or TypeInitializationException)
        {
            // The client could not be made or has ended: who wrote decides when to try again.
            var cause = e is TypeInitializationException { InnerException: { } inner } ? inner : e;
            sending.Fail(new TransportUnavailableException($"Kafka at {_options.Brokers} cannot be written to: {cause.Message}", e));
        }
        catch (OperationCanceledException)
        {
            sending.Fail(Closed());
            throw;
        }
    }

    /// <summary>Back-pressure: waits until what is on its way has shrunk. One batch always may go, whatever its size.</summary>
    void WaitForRoom(Sending sending)
    {
        while (_inFlightBytes > 0 && _inFlightBytes + sending.Bytes > _options.MaxInFlightBytes)
        {
            _stop.Token.ThrowIfCancellationRequested();
            _connection!.Poll(1_000);
        }

        Interlocked.Add(ref _inFlightBytes, sending.Bytes);
        sending.IsCounted = true;
    }

    Connection Connect(bool oneByOne)
    {
        // The library takes up to half a second to ask for a producer's id, however quick the broker is: meanwhile the topic is looked at.
        var early = oneByOne ? null : Make(_options.MaxMessageBytes, false);
        try
        {
            if (makesTopic && !_topicIsThere)
            {
                KafkaTopic.WaitUntilThereAsync(_options, DropAndReport, _stop.Token).GetAwaiter().GetResult();
                _topicIsThere = true;
            }

            // A batch of messages over the topic's limit is refused as a whole; so the client must know the limit before it makes batches.
            var limit = KafkaTopic.MaxMessageBytesAsync(_options).WaitAsync(_stop.Token).GetAwaiter().GetResult();
            if (oneByOne && limit is null) report?.Invoke($"The limit of topic {_options.Topic} for a message cannot be learnt; lines are sent one by one from now on.");
            if (limit < _options.MaxMessageBytes) Drop();
            var connection = early ?? Make(Math.Min(_options.MaxMessageBytes, limit ?? int.MaxValue), oneByOne && limit is null);
            early = connection;
            connection.Open();
            early = null;
            return connection;
        }
        finally
        {
            Drop();
        }

        Connection Make(int maxMessageBytes, bool singly) => new(_options, maxMessageBytes, singly, _state, it => Statistics = it);

        // What it has to tell of an outage would be told when that is over.
        void DropAndReport(string what)
        {
            Drop();
            report?.Invoke(what);
        }

        void Drop()
        {
            early?.Dispose();
            early = null;
        }
    }

    static TransportUnavailableException Closed() => new("The writer was closed before these lines were acknowledged; send them again.");

    /// <summary>One librdkafka producer. When it has failed for good, everything on its way fails and the next write makes another.</summary>
    sealed class Connection : IDisposable, IProducerEvents
    {
        readonly KafkaOptions _options;
        readonly int _maxMessageBytes;
        readonly bool _oneByOne;
        readonly KafkaState _state;
        readonly Action<KafkaStatistics> _measured;
        readonly NativeProducer _producer;
        // Their buffers are in the library's hands.
        readonly HashSet<Sending> _handedOver = [];
        TransportUnavailableException? _failure;

        // Of the file whose lines are being sent.
        byte[] _header = [];
        SourceFile? _headerSource;

        public Connection(KafkaOptions options, int maxMessageBytes, bool oneByOne, KafkaState state, Action<KafkaStatistics> measured)
        {
            (_options, _maxMessageBytes, _oneByOne, _state, _measured) = (options, maxMessageBytes, oneByOne, state, measured);
            _producer = new NativeProducer(Config(), RecordHeader.Name, this);
        }

        /// <summary>Before the first line; the topic is there.</summary>
        public void Open() => _producer.Open(_options.Topic);

        public bool IsDead => _failure is not null;

        /// <summary>The broker refused a batch of messages as too large, though each may be small enough.</summary>
        public bool MustSendOneByOne { get; private set; }

        public void Wake() => _producer.Wake();

        public void Poll(int patienceMillis) => _producer.Poll(patienceMillis);

        public void Send(Sending sending, CancellationToken cancellationToken)
        {
            if (_failure is not null)
            {
                sending.Fail(_failure);
                return;
            }

            _handedOver.Add(sending);
            sending.Through(this);
            var at = 0;
            try
            {
                while ((at = HandOver(sending, at)) < sending.Batch.Count && !sending.IsSettled)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    Poll(5);
                }
            }
            finally
            {
                // Also what was not handed over any more: nobody has it.
                sending.Answered(1 + sending.Batch.Count - at);
            }

            Poll(0);
        }

        /// <summary>Hands lines over from one on, and returns the first one that was not: the client is full, or the batch has failed.</summary>
        unsafe int HandOver(Sending sending, int at)
        {
            var lines = sending.Batch.AllLines;
            var buffer = sending.Address;
            for (; at < lines.Length && !sending.IsSettled; at++)
            {
                ref readonly var line = ref lines[at];
                if (ReferenceEquals(line.Source, _headerSource)) RecordHeader.MoveTo(_header, line.Offset);
                else (_header, _headerSource) = (RecordHeader.Write(line.Source, line.Offset), line.Source);

                var bytes = line.Length + line.KeyLength + _header.Length + Framing;
                if (bytes > _maxMessageBytes)
                {
                    sending.Refuse(at, $"the message would have {bytes:N0} bytes and the topic {_options.Topic} takes at most {_maxMessageBytes:N0}");
                    continue;
                }

                fixed (byte* header = _header)
                {
                    // Without a key the partitioner spreads lines; an empty key would put all of them into one partition.
                    var key = line.KeyLength == 0 ? null : buffer + line.KeyStart;
                    var error = _producer.Produce(buffer + line.Start, line.Length, key, line.KeyLength, header, _header.Length, sending.Tag, out var reason);
                    if (error == ErrorCode.NoError) continue;
                    // Permanent for this producer unless it is only full: a fatal error, or one that the client sees in the message itself.
                    if (error != ErrorCode.Local_QueueFull) Fail(new TransportUnavailableException($"Kafka at {_options.Brokers} did not take a line: {reason}"));
                    break;
                }
            }

            return at;
        }

        /// <summary>The broker's answer for lines of one batch.</summary>
        void IProducerEvents.Delivered(nint tag, int lines, ErrorCode error, nint value)
        {
            var sending = Sending.Of(tag);
            if (error == ErrorCode.NoError)
            {
                sending.Answered(lines);
                return;
            }

            if (error != ErrorCode.MsgSizeTooLarge)
            {
                // Later lines may be on their way: only reading all again from the first one that has not arrived is sure to lose none, and only with another producer these cannot overtake it.
                Fail(new TransportUnavailableException($"Kafka did not acknowledge a line: {NativeProducer.Describe(error)}"));
            }
            else if (!_oneByOne)
            {
                MustSendOneByOne = true;
                Fail(new TransportUnavailableException("The topic's limit for a message is lower than it was; the lines are sent again in smaller batches."));
            }
            else
            {
                sending.Refuse(sending.LineAt(value), $"the broker found the message too large ({NativeProducer.Describe(error)})");
                return;
            }

            sending.Answered(lines);
        }

        void IProducerEvents.Failed(ErrorCode code, string reason, bool isFatal)
        {
            // The report of the refused line, which follows, says why: a line that is too large needs another answer than others.
            if (isFatal && code == ErrorCode.Local_GaplessGuarantee) return;
            if (isFatal)
            {
                // The producer never sends again (librdkafka: a sequence broke, or the broker fenced it). Another one can.
                Fail(new TransportUnavailableException($"Kafka's producer failed for good and is made anew: {reason}"));
            }
            else if (KafkaState.IsOutage(code))
            {
                _state.Down(code, $"Kafka at {_options.Brokers} cannot be written to ({reason}); waiting until it can, nothing is lost.");
            }
        }

        void IProducerEvents.Measured(ReadOnlySpan<byte> json)
        {
            if (KafkaStatistics.TryRead(json, out var statistics)) _measured(statistics);
        }

        /// <summary>All lines of a batch have been answered: the library has let go of its buffer.</summary>
        public void Released(Sending sending) => _handedOver.Remove(sending);

        public void IsUp() => _state.Up($"Kafka at {_options.Brokers} takes lines again.");

        void Fail(TransportUnavailableException failure)
        {
            _failure ??= failure;
            foreach (var sending in _handedOver.ToArray()) sending.Fail(failure);
        }

        public void Dispose()
        {
            Fail(Closed());
            _producer.Dispose();
            foreach (var sending in _handedOver.ToArray()) sending.Release();
        }

        Dictionary<string, string> Config()
        {
            var config = KafkaClient.Configure(_options);
            config["acks"] = "all";
            config["enable.idempotence"] = "true";
            // Behind a line that the broker refuses for good nothing of its partition may be sent: the producer fails instead, and all is read again in order. Not where it is known to be one line
            // that is too large, which is set aside.
            config["enable.gapless.guarantee"] = _oneByOne ? "false" : "true";
            // 0 is never: an outage is waited for. The default (5 min) turns it into failed messages, some of which have arrived.
            config["message.timeout.ms"] = "0";
            // As the Java clients do it, so that whatever else writes to the topic agrees on where a trace lies.
            config["partitioner"] = "murmur2_random";
            config["compression.codec"] = _options.Compression;
            config["linger.ms"] = _options.Linger.TotalMilliseconds.ToString("F0");
            config["message.max.bytes"] = Math.Max(1_000, _maxMessageBytes).ToString();
            // WaitForRoom bounds what is on its way; these stand behind it, with room for one batch of any size.
            config["queue.buffering.max.messages"] = "0";
            config["queue.buffering.max.kbytes"] = "2097151";
            config.TryAdd("statistics.interval.ms", "5000");
            if (_oneByOne) config["batch.num.messages"] = "1";
            return config;
        }
    }

    /// <summary>A batch on its way: counts what is answered, and settles once. Its buffer is pinned, since the library reads lines from it until they have arrived.</summary>
    sealed class Sending
    {
        readonly KafkaWriter _writer;
        readonly TaskCompletionSource<IReadOnlyList<RefusedLine>> _done = new(TaskCreationOptions.RunContinuationsAsynchronously);
        readonly List<RefusedLine> _refused = [];
        Connection? _connection;
        GCHandle _self;
        MemoryHandle _pinned;
        int _open;

        public Sending(KafkaWriter writer, RecordBatch batch)
        {
            (_writer, Batch) = (writer, batch);
            // One for each line, and one that keeps it open until all were handed over.
            _open = batch.Count + 1;
            Bytes = batch.Bytes + 200L * batch.Count;
        }

        public RecordBatch Batch { get; }
        public long Bytes { get; }
        public bool IsCounted { get; set; }
        public bool IsSettled { get; private set; }
        public Task<IReadOnlyList<RefusedLine>> Done => _done.Task;

        /// <summary>Stands for this batch in the library.</summary>
        public nint Tag => GCHandle.ToIntPtr(_self);

        /// <summary>Where the batch's buffer is.</summary>
        public unsafe byte* Address => (byte*)_pinned.Pointer;

        public static Sending Of(nint tag) => (Sending)GCHandle.FromIntPtr(tag).Target!;

        public void Through(Connection connection)
        {
            _connection = connection;
            _self = GCHandle.Alloc(this);
            _pinned = Batch.Pin();
        }

        /// <summary>The line whose bytes are at an address.</summary>
        public unsafe int LineAt(nint value)
        {
            var lines = Batch.AllLines;
            var start = (int)(value - (nint)Address);
            var (low, high) = (0, lines.Length - 1);
            while (low < high)
            {
                var middle = (low + high) / 2;
                if (lines[middle].Start < start) low = middle + 1;
                else high = middle;
            }

            return low;
        }

        /// <summary>So many more lines are out of the library's hands. With the last one the batch has arrived, unless it failed before.</summary>
        public void Answered(int lines)
        {
            _open -= lines;
            if (_open > 0) return;
            Settle(null);
            Release();
        }

        /// <summary>Sets a line aside. Counts as answered.</summary>
        public void Refuse(int index, string reason)
        {
            var line = Batch.AllLines[index];
            // Settled by a failure, the lines come again.
            if (!IsSettled) _refused.Add(new RefusedLine(line.Source, line.Offset, Batch.Span(line).ToArray(), reason));
            Answered(1);
        }

        /// <summary>The caller has to send it again. Its buffer is given back at once only if the library never had it.</summary>
        public void Fail(TransportUnavailableException failure)
        {
            Settle(failure);
            if (_connection is null) Batch.Dispose();
        }

        void Settle(TransportUnavailableException? failure)
        {
            if (IsSettled) return;
            IsSettled = true;
            if (IsCounted) Interlocked.Add(ref _writer._inFlightBytes, -Bytes);
            if (failure is null)
            {
                _connection!.IsUp();
                _done.TrySetResult(_refused);
                return;
            }

            _done.TrySetException(failure);
            // The caller may have stopped waiting (cancelled); the failure is then nobody's.
            _ = _done.Task.Exception;
        }

        /// <summary>Gives the buffer back; the library must have no line of it any more.</summary>
        public void Release()
        {
            _connection!.Released(this);
            _pinned.Dispose();
            _self.Free();
            Batch.Dispose();
        }
    }
}
