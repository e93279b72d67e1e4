using LogTrace.Indexer.Store;
using LogTrace.Shipper;
using LogTrace.Transport;

namespace LogTrace.Indexer;

/// <summary>Shipper and indexer in one process, joined by the in-process channel: what <c>run</c> and the demo need, and nothing to install.</summary>
sealed class EmbeddedPipeline : IDisposable
{
    // Enough to keep both sides busy; more would only delay the back-pressure that a slow store has to exert.
    const int ChannelBatches = 8;

    readonly ChannelTransport _transport = new(ChannelBatches);
    readonly DeadLetterFile _deadLetter;
    readonly ShipperPipeline _shipper;
    readonly IndexerPipeline _indexer;

    public EmbeddedPipeline(ShipperOptions shipper, IndexerOptions indexer, DeadLetterFile deadLetter, ITraceStore store, ILoggerFactory logs)
    {
        _deadLetter = deadLetter;
        _shipper = new ShipperPipeline(shipper, _transport.Writer, logs.CreateLogger<ShipperPipeline>());
        _indexer = new IndexerPipeline(_transport.Reader, store, deadLetter, indexer, logger: logs.CreateLogger<IndexerPipeline>());
        Status = new IndexerStatus(_indexer, store) { Shipper = _shipper.Snapshot };
    }

    /// <summary>Runs until stopped, or with <see cref="ShipperOptions.Once"/> until all that is there is stored. A stop drains the shipper first, then the indexer.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        using var indexerEnds = new CancellationTokenSource();
        using var shipperLeaves = new CancellationTokenSource();
        var indexing = _indexer.RunAsync(indexerEnds.Token);
        var shipping = _shipper.RunAsync(stop, shipperLeaves.Token);

        // Either failing ends the other, and neither may outlive this call: the store and the files are closed after it.
        if (await Task.WhenAny(shipping, indexing) == indexing) await shipperLeaves.CancelAsync();
        await shipping.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _transport.Complete();
        // The drain of the indexer is bounded as well once somebody asked to stop.
        if (stop.IsCancellationRequested) await indexerEnds.CancelAsync();
        await Task.WhenAll(indexing, shipping);
    }

    /// <summary>Returns when everything that was in the files at the time of the call is stored and in its chain.</summary>
    public async Task WaitUntilCaughtUpAsync(CancellationToken cancellationToken)
    {
        await _shipper.WaitUntilCaughtUpAsync(cancellationToken);
        await _indexer.FlushChainsAsync(cancellationToken);
    }

    /// <summary>What both parts do, for <see cref="StatusEndpoint"/>.</summary>
    public IndexerStatus Status { get; }

    public ShipperCounts Shipped => _shipper.Snapshot().Counts;

    public IndexerBalance Indexed => _indexer.Metrics.Balance;

    public void Dispose()
    {
        _shipper.Dispose();
        _deadLetter.Dispose();
    }
}
