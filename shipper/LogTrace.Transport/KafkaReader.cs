using System.IO.Hashing;
using System.Text;
using System.Threading.Channels;
using Confluent.Kafka;
using LogTrace.Records;

namespace LogTrace.Transport;

/// <summary>
/// Reads the records topic as a member of the indexers' group. A thread of its own polls, so that a caller who is busy for hours stays in the
/// group; what it has read ahead is bounded. Offsets move only by <see cref="CommitAsync"/>, and only for partitions that are still this
/// member's. Starts at the first read.
/// </summary>
/// <param name="options">Must be valid, see <see cref="KafkaOptions.Validate"/>.</param>
/// <param name="report">Gets a sentence when Kafka is lost or found again and when records were lost to retention; called from any thread. Default nobody.</param>
public sealed class KafkaReader(KafkaOptions options, Action<string>? report = null) : IRecordReader
{
    /// <summary>How long the caller may be busy before the partitions are paused. Pausing throws away what was fetched ahead (librdkafka #2703), so not at once.</summary>
    static readonly TimeSpan PauseAfter = TimeSpan.FromSeconds(2);
    /// <summary>Bounds what lines of a few bytes cost beyond their bytes.</summary>
    const int MaxBatchLines = 20_000;

    static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);

    readonly KafkaOptions _options = options.OrThrow();
    readonly KafkaState _state = new(report);
    readonly CancellationTokenSource _stop = new();
    readonly Lock _starting = new();
    readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    bool _isStarted;
    long _lostCount;

    // From the polling thread to the caller: a batch, or why there is none now.
    readonly Channel<(RecordBatch? Batch, TransportUnavailableException? Failure)> _ready =
        Channel.CreateBounded<(RecordBatch?, TransportUnavailableException?)>(new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.Wait });

    // Under _assignment: what is this member's, and what it may commit. A rebalance waits for a commit that is under way.
    readonly Lock _assignment = new();
    readonly Dictionary<int, Owned> _owned = [];

    // A copy of its keys, for who must not wait for a commit.
    volatile int[] _partitions = [];
    readonly Queue<Receipt> _uncommitted = new();
    readonly Dictionary<int, Position> _toCommit = [];
    IConsumer<Ignore, Ignore>? _consumer;
    int _assignments;

    // The polling thread's own.
    readonly LineDeserializer _line = new();
    readonly Dictionary<int, SourceFile> _foreign = [];
    byte[] _lastHeader = [];
    SourceFile? _lastSource;
    string? _topicId;

    /// <summary>Records that retention deleted before this member could read them.</summary>
    public long LostCount => Interlocked.Read(ref _lostCount);

    /// <summary>The partitions that are this member's at the moment.</summary>
    public IReadOnlyCollection<int> Partitions => _partitions;

    /// <summary>The caller is busy and fetching has stopped.</summary>
    internal bool IsPaused { get; private set; }

    /// <inheritdoc/>
    public async Task<RecordBatch?> ReadAsync(CancellationToken cancellationToken)
    {
        lock (_starting)
        {
            ObjectDisposedException.ThrowIf(_stop.IsCancellationRequested, this);
            if (!_isStarted)
            {
                _isStarted = true;
                new Thread(Run) { Name = "logtrace kafka reader", IsBackground = true }.Start();
            }
        }

        try
        {
            var (batch, failure) = await _ready.Reader.ReadAsync(cancellationToken).ConfigureAwait(false);
            if (failure is not null) throw new TransportUnavailableException(failure.Message, failure);
            lock (_assignment) _uncommitted.Enqueue((Receipt)batch!.Receipt!);
            return batch;
        }
        catch (ChannelClosedException e)
        {
            throw new TransportUnavailableException("The reader was closed.", e);
        }
    }

    /// <inheritdoc/>
    public Task CommitAsync(RecordBatch batch, CancellationToken cancellationToken)
    {
        if (batch.Receipt is not Receipt receipt || receipt.Reader != this) throw new ArgumentException("The batch was not read from this reader.", nameof(batch));
        cancellationToken.ThrowIfCancellationRequested();
        // The client can only wait for the broker's answer.
        return Task.Run(() => Commit(receipt), CancellationToken.None).WaitAsync(cancellationToken);
    }

    /// <summary>Leaves the group, so that others take over at once. What was not committed is theirs to read again.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (_starting)
        {
            if (!_stop.IsCancellationRequested) _stop.Cancel();
            if (!_isStarted) return;
        }

        await _ended.Task.ConfigureAwait(false);
    }

    void Commit(Receipt upTo)
    {
        lock (_assignment)
        {
            if (_uncommitted.Contains(upTo))
            {
                Receipt receipt;
                do
                {
                    receipt = _uncommitted.Dequeue();
                    foreach (var (partition, position) in receipt.Positions) _toCommit[partition] = position;
                }
                while (receipt != upTo);
            }

            // What was revoked since it was read is another member's: committing it could turn that one's offset back.
            foreach (var partition in _toCommit.Where(it => !_owned.TryGetValue(it.Key, out var owned) || owned.Assignment != it.Value.Assignment).Select(it => it.Key).ToList())
            {
                _toCommit.Remove(partition);
            }

            if (_toCommit.Count == 0) return;
            if (_consumer is null) throw new TransportUnavailableException("The reader was closed before the commit; the records come again.");
            try
            {
                _consumer.Commit(_toCommit.Select(it => new TopicPartitionOffset(_options.Topic, it.Key, it.Value.NextOffset)));
                _toCommit.Clear();
            }
            catch (KafkaException e)
            {
                // Kept: the next commit takes it along, if the partitions are still ours then.
                throw new TransportUnavailableException($"Kafka did not take the commit ({e.Error.Reason}); the records may come again.", e);
            }
        }
    }

    void Run()
    {
        try
        {
            while (!_stop.IsCancellationRequested)
            {
                try
                {
                    Poll();
                }
                catch (Exception e) when (e is KafkaException or InvalidOperationException or DllNotFoundException)
                {
                    // A fatal error of this consumer, or it could not be made: tell the caller, then make another one.
                    Offer(null, new TransportUnavailableException($"Kafka at {_options.Brokers} cannot be read from: {e.Message}", e));
                    _stop.Token.WaitHandle.WaitOne(TimeSpan.FromSeconds(1));
                }
            }
        }
        finally
        {
            _ready.Writer.TryComplete();
            while (_ready.Reader.TryRead(out var item)) item.Batch?.Dispose();
            _ended.TrySetResult();
        }
    }

    /// <summary>One consumer's life.</summary>
    void Poll()
    {
        var filling = new Filling(this);
        var consumer = new ConsumerBuilder<Ignore, Ignore>(Config())
            .SetValueDeserializer(_line)
            .SetPartitionsAssignedHandler((it, partitions) => Assigned(it, partitions))
            .SetPartitionsRevokedHandler((_, partitions) => Revoked(partitions))
            .SetPartitionsLostHandler((_, partitions) => Revoked(partitions))
            .SetErrorHandler((_, error) => OnError(error))
            .SetLogHandler((_, message) => KafkaClient.DropLog(message))
            .Build();
        try
        {
            lock (_assignment) _consumer = consumer;
            consumer.Subscribe(_options.Topic);
            while (!_stop.IsCancellationRequested) Step(consumer, filling);
        }
        finally
        {
            filling.Batch?.Dispose();
            lock (_assignment)
            {
                _owned.Clear();
                _partitions = [];
                _consumer = null;
            }

            try
            {
                consumer.Close();
            }
            catch (KafkaException)
            {
                // It could not say goodbye; the others wait for the session to end.
            }

            consumer.Dispose();
        }
    }

    void Step(IConsumer<Ignore, Ignore> consumer, Filling filling)
    {
        if (filling.IsFull && !Offer(filling.Batch, null))
        {
            // The caller is busy. Only polling keeps this member in the group, and only a pause lets it poll without taking more.
            if (!filling.IsPaused && WaitForRoom(PauseAfter)) return;
            filling.Pause(consumer);
            IsPaused = true;
            // A partition that a rebalance brings right now is not paused yet: what it gives must not be dropped.
            if (Consume(consumer, TimeSpan.FromMilliseconds(100)) is { } unasked) Take(unasked, filling);
            return;
        }

        if (filling.IsFull) filling.Next();
        filling.Resume(consumer);
        IsPaused = false;

        var isEmpty = filling.Batch is null;
        var result = Consume(consumer, isEmpty ? TimeSpan.FromMilliseconds(100) : TimeSpan.Zero);
        if (result is not null)
        {
            Take(result, filling);
        }
        else if (!isEmpty)
        {
            // No more at hand: give what there is, or gather on while the caller is busy.
            if (Offer(filling.Batch, null)) filling.Next();
            else WaitForRoom(TimeSpan.FromMilliseconds(10));
        }
    }

    bool Offer(RecordBatch? batch, TransportUnavailableException? failure) => _ready.Writer.TryWrite((batch, failure));

    bool WaitForRoom(TimeSpan atMost)
    {
        var room = _ready.Writer.WaitToWriteAsync(_stop.Token).AsTask();
        try
        {
            return room.Wait(atMost);
        }
        catch (AggregateException) when (_stop.IsCancellationRequested)
        {
            return false;
        }
    }

    ConsumeResult<Ignore, Ignore>? Consume(IConsumer<Ignore, Ignore> consumer, TimeSpan wait)
    {
        try
        {
            return consumer.Consume(wait);
        }
        catch (ConsumeException e) when (!e.Error.IsFatal)
        {
            // Something the operator has to see to, such as an absent topic or a missing right. The consumer goes on by itself when it is done.
            Offer(null, new TransportUnavailableException($"Kafka at {_options.Brokers}, topic {_options.Topic}: {e.Error.Reason}", e));
            _stop.Token.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(100));
            return null;
        }
    }

    void Take(ConsumeResult<Ignore, Ignore> result, Filling filling)
    {
        var partition = result.Partition.Value;
        var offset = result.Offset.Value;
        Owned owned;
        lock (_assignment)
        {
            // Revoked between the fetch and now: another member reads it.
            if (!_owned.TryGetValue(partition, out owned!)) return;
        }

        CountLost(partition, owned, offset);
        owned.NextOffset = offset + 1;
        _state.Up($"Kafka at {_options.Brokers} gives records again.");

        var line = _line.Taken;
        var (source, position, keyStart, keyLength) = Describe(result, line);
        filling.Add(line, source, position, keyStart, keyLength, partition, new Position(offset + 1, owned.Assignment));
    }

    (SourceFile Source, long Offset, int KeyStart, int KeyLength) Describe(ConsumeResult<Ignore, Ignore> result, ReadOnlySpan<byte> line)
    {
        RecordCodec.TryReadTraceId(line, out var keyStart, out var keyLength);
        var header = HeaderOf(result.Message.Headers);
        if (header is not null)
        {
            if (_lastSource is not null && RecordHeader.SameFile(_lastHeader, header) && RecordHeader.TryReadOffset(header, out var offset)) return (_lastSource, offset, keyStart, keyLength);
            if (RecordHeader.TryRead(header, out offset, out var source))
            {
                (_lastHeader, _lastSource) = (header, source);
                return (source, offset, keyStart, keyLength);
            }
        }

        return (Foreign(result.Partition.Value), result.Offset.Value, keyStart, keyLength);
    }

    static byte[]? HeaderOf(Headers? headers)
    {
        if (headers is null) return null;
        for (var i = headers.Count - 1; i >= 0; i--)
        {
            if (headers[i].Key == RecordHeader.Name) return headers[i].GetValueBytes();
        }

        return null;
    }

    /// <summary>The identity of what another shipper wrote: the topic's id, not its name, since a topic made anew counts its offsets from 0 again.</summary>
    SourceFile Foreign(int partition)
    {
        if (_foreign.TryGetValue(partition, out var known)) return known;
        _topicId ??= KafkaTopic.IdAsync(_options).GetAwaiter().GetResult() ?? "name " + _options.Topic;
        var fileId = XxHash128.HashToUInt128(Encoding.UTF8.GetBytes($"{_topicId}/{partition}"));
        return _foreign[partition] = new SourceFile(SourceFile.OtherShippers, fileId, $"{_options.Topic}/{partition}");
    }

    void Assigned(IConsumer<Ignore, Ignore> consumer, List<TopicPartition> partitions)
    {
        var committed = new Dictionary<int, long>();
        try
        {
            foreach (var it in consumer.Committed(partitions, Patience)) committed[it.Partition.Value] = it.Offset.IsSpecial ? -1 : it.Offset.Value;
        }
        catch (KafkaException e)
        {
            report?.Invoke($"Kafka did not say what group {_options.Group} has committed ({e.Error.Reason}); records lost to retention before now go uncounted.");
        }

        lock (_assignment)
        {
            foreach (var it in partitions)
            {
                _owned[it.Partition.Value] = new Owned(++_assignments) { NextOffset = committed.GetValueOrDefault(it.Partition.Value, -1) };
            }

            _partitions = [.. _owned.Keys];
        }

        // The topic may be another one of the same name by now.
        _topicId = null;
        _foreign.Clear();
    }

    void Revoked(List<TopicPartitionOffset> partitions)
    {
        // Waits for a commit that is under way, so that none arrives after the next owner has begun.
        lock (_assignment)
        {
            foreach (var it in partitions) _owned.Remove(it.Partition.Value);
            _partitions = [.. _owned.Keys];
        }
    }

    /// <summary>A record above the expected one: either a marker of a transaction lies between, or retention has deleted what this group had not read.</summary>
    void CountLost(int partition, Owned owned, long offset)
    {
        if (owned.NextOffset < 0 || offset <= owned.NextOffset) return;
        long start;
        try
        {
            lock (_assignment) start = _consumer!.QueryWatermarkOffsets(new TopicPartition(_options.Topic, partition), Patience).Low.Value;
        }
        catch (KafkaException e)
        {
            report?.Invoke($"Kafka did not say where partition {partition} begins ({e.Error.Reason}); up to {offset - owned.NextOffset:N0} records may have been lost to retention.");
            return;
        }

        var lost = Math.Min(start, offset) - owned.NextOffset;
        if (lost <= 0) return;
        Interlocked.Add(ref _lostCount, lost);
        report?.Invoke($"Lost {lost:N0} records: Kafka deleted offsets {owned.NextOffset:N0} to {owned.NextOffset + lost - 1:N0} of {_options.Topic}/{partition} before group {_options.Group} had read them; lengthen the topic's retention.");
    }

    void OnError(Error error)
    {
        if (KafkaState.IsOutage(error.Code))
        {
            _state.Down(error.Code, $"Kafka at {_options.Brokers} cannot be read from ({error.Reason}); waiting until it can.");
        }
    }

    Dictionary<string, string> Config()
    {
        var config = KafkaClient.ConfigureMember(_options);
        config["enable.auto.commit"] = "false";
        config["enable.auto.offset.store"] = "false";
        config["auto.offset.reset"] = "earliest";
        config["partition.assignment.strategy"] = "cooperative-sticky";
        config["dotnet.consumer.consume.result.fields"] = "headers";
        Default("queued.max.messages.kbytes", "16384");
        Default("fetch.wait.max.ms", "100");
        // A topic or partition made after the start is noticed within this, not after 5 minutes.
        Default("topic.metadata.refresh.interval.ms", "10000");
        return config;

        void Default(string key, string value) => config.TryAdd(key, value);
    }

    /// <summary>A partition that is this member's, from one assignment to its end.</summary>
    sealed class Owned(int assignment)
    {
        public int Assignment => assignment;

        /// <summary>Offset of the next record; -1 when it is not known.</summary>
        public long NextOffset { get; set; }
    }

    readonly record struct Position(long NextOffset, int Assignment);

    sealed class Receipt(KafkaReader reader)
    {
        public KafkaReader Reader => reader;
        public Dictionary<int, Position> Positions { get; } = [];
    }

    /// <summary>The batch that is being gathered, and whether the partitions are paused meanwhile.</summary>
    sealed class Filling(KafkaReader reader)
    {
        Receipt? _receipt;
        List<TopicPartition> _paused = [];

        public RecordBatch? Batch { get; private set; }
        public bool IsFull => Batch is not null && (Batch.Bytes >= reader._options.ReadBatchBytes || Batch.Count >= MaxBatchLines);
        public bool IsPaused => _paused.Count > 0;

        public void Add(ReadOnlySpan<byte> line, SourceFile source, long offset, int keyStart, int keyLength, int partition, Position position)
        {
            if (Batch is null)
            {
                _receipt = new Receipt(reader);
                Batch = new RecordBatch { Receipt = _receipt };
            }

            Batch.Add(line, source, offset, keyStart, keyLength);
            _receipt!.Positions[partition] = position;
        }

        /// <summary>The batch was handed over.</summary>
        public void Next() => Batch = null;

        /// <summary>Pauses what is assigned now; called again and again, so that what a rebalance brings meanwhile is paused too.</summary>
        public void Pause(IConsumer<Ignore, Ignore> consumer)
        {
            var more = consumer.Assignment.Except(_paused).ToList();
            if (more.Count == 0) return;
            consumer.Pause(more);
            _paused = [.. _paused, .. more];
        }

        public void Resume(IConsumer<Ignore, Ignore> consumer)
        {
            if (_paused.Count == 0) return;
            consumer.Resume(_paused.Intersect(consumer.Assignment));
            _paused = [];
        }
    }

    /// <summary>Keeps the value's bytes until the step that consumed them has copied them into the batch: no array for each line.</summary>
    sealed class LineDeserializer : IDeserializer<Ignore>
    {
        byte[] _bytes = new byte[4096];
        int _length;

        public ReadOnlySpan<byte> Taken => _bytes.AsSpan(0, _length);

        public Ignore Deserialize(ReadOnlySpan<byte> data, bool isNull, SerializationContext context)
        {
            if (_bytes.Length < data.Length) _bytes = new byte[Math.Max(data.Length, _bytes.Length * 2)];
            data.CopyTo(_bytes);
            _length = data.Length;
            return null!;
        }
    }
}
