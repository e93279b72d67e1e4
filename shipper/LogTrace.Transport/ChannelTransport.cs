using System.Threading.Channels;

namespace LogTrace.Transport;

/// <summary>
/// The embedded broker: a bounded queue of batches between a shipper and an indexer in one process. It keeps nothing on disk; a
/// write returns only when the reader has committed, so the shipper's checkpoint never passes what the store does not have.
/// Thread-safe for one writing and one reading side.
/// </summary>
public sealed class ChannelTransport
{
    readonly Channel<Entry> _queue;
    readonly Lock _readerLock = new();
    ReadingEnd _reader;

    /// <summary>Creates an empty queue.</summary>
    /// <param name="capacityBatches">Batches that may wait to be read, 1 or more; at the limit a write waits. Default 4.</param>
    public ChannelTransport(int capacityBatches = 4)
    {
        _queue = Channel.CreateBounded<Entry>(new BoundedChannelOptions(capacityBatches) { FullMode = BoundedChannelFullMode.Wait });
        _reader = new ReadingEnd(_queue.Reader);
        Writer = new WritingEnd(_queue.Writer);
    }

    /// <summary>The shipper's end. Disposing of it is <see cref="Complete"/>.</summary>
    public IRecordWriter Writer { get; }

    /// <summary>
    /// The indexer's end. When it is disposed of, every write that it has not committed fails with <see cref="TransportUnavailableException"/>,
    /// so that the shipper reads those lines again; this property then gives the next reader.
    /// </summary>
    public IRecordReader Reader
    {
        get
        {
            lock (_readerLock)
            {
                if (_reader.IsClosed) _reader = new ReadingEnd(_queue.Reader);
                return _reader;
            }
        }
    }

    /// <summary>Says that no more is written: the reader gets the rest, then null. Further calls do nothing.</summary>
    public void Complete() => _queue.Writer.TryComplete();

    /// <summary>A batch on its way, with the promise made to who wrote it.</summary>
    sealed class Entry(RecordBatch batch)
    {
        static readonly IReadOnlyList<RefusedLine> NoneRefused = [];
        readonly TaskCompletionSource<IReadOnlyList<RefusedLine>> _safe = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public RecordBatch Batch => batch;

        public Task<IReadOnlyList<RefusedLine>> Safe => _safe.Task;

        public void Commit() => _safe.TrySetResult(NoneRefused);

        public void Fail()
        {
            _safe.TrySetException(new TransportUnavailableException("The reader was closed before it had committed these lines; send them again."));
            // The writer may have stopped waiting (cancelled); its failure is then nobody's.
            _ = _safe.Task.Exception;
        }
    }

    sealed class WritingEnd(ChannelWriter<Entry> queue) : IRecordWriter
    {
        public async Task<IReadOnlyList<RefusedLine>> WriteAsync(RecordBatch batch, CancellationToken cancellationToken)
        {
            if (batch.Count == 0)
            {
                batch.Dispose();
                return [];
            }

            var entry = new Entry(batch);
            try
            {
                await queue.WriteAsync(entry, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                // Whatever the reason, the queue has not taken it and the caller has let go of it.
                batch.Dispose();
                if (e is ChannelClosedException) throw new InvalidOperationException("The transport was completed; nothing can be written any more.", e);
                throw;
            }

            return await entry.Safe.WaitAsync(cancellationToken).ConfigureAwait(false);
        }

        public ValueTask DisposeAsync()
        {
            queue.TryComplete();
            return ValueTask.CompletedTask;
        }
    }

    sealed class ReadingEnd(ChannelReader<Entry> queue) : IRecordReader
    {
        // Read and not committed, oldest first.
        readonly Queue<Entry> _delivered = new();
        readonly CancellationTokenSource _closed = new();

        public bool IsClosed => _closed.IsCancellationRequested;

        public async Task<RecordBatch?> ReadAsync(CancellationToken cancellationToken)
        {
            using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _closed.Token);
            try
            {
                while (await queue.WaitToReadAsync(either.Token).ConfigureAwait(false))
                {
                    lock (_delivered)
                    {
                        if (IsClosed) throw Closed();
                        if (!queue.TryRead(out var entry)) continue;
                        entry.Batch.Receipt = entry;
                        _delivered.Enqueue(entry);
                        return entry.Batch;
                    }
                }

                return null;
            }
            catch (OperationCanceledException) when (IsClosed && !cancellationToken.IsCancellationRequested)
            {
                throw Closed();
            }
        }

        public Task CommitAsync(RecordBatch batch, CancellationToken cancellationToken)
        {
            lock (_delivered)
            {
                if (IsClosed) throw Closed();
                if (batch.Receipt is not Entry last) throw new ArgumentException("The batch was not read from this transport.", nameof(batch));
                if (last.Safe.IsCompleted) return Task.CompletedTask;
                if (!_delivered.Contains(last)) throw new ArgumentException("The batch was not read from this reader.", nameof(batch));
                Entry entry;
                do
                {
                    entry = _delivered.Dequeue();
                    entry.Commit();
                }
                while (entry != last);
            }

            return Task.CompletedTask;
        }

        public ValueTask DisposeAsync()
        {
            lock (_delivered)
            {
                if (IsClosed) return ValueTask.CompletedTask;
                _closed.Cancel();
                // What was delivered belongs to who read it; only the promise fails.
                while (_delivered.TryDequeue(out var entry)) entry.Fail();
                // What still waits must fail too: it comes after what has to be sent again.
                while (queue.TryRead(out var entry))
                {
                    entry.Batch.Dispose();
                    entry.Fail();
                }
            }

            return ValueTask.CompletedTask;
        }

        static TransportUnavailableException Closed() => new("This reader is closed; take the transport's next one.");
    }
}
