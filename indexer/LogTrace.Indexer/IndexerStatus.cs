using System.Globalization;
using LogTrace.Indexer.Store;
using LogTrace.Shipper;
using LogTrace.Transport;

namespace LogTrace.Indexer;

/// <summary>What an indexer does, as <see cref="StatusEndpoint"/> serves it; of an embedded pipeline also what its shipper does.</summary>
sealed class IndexerStatus(IndexerPipeline indexer, ITraceStore store)
{
    // Several times the longest that a store or broker may take to answer; waiting for one is well, standing still is not.
    static readonly TimeSpan LongestSilence = TimeSpan.FromMinutes(5);
    static readonly TimeSpan LagPatience = TimeSpan.FromSeconds(3), LagEvery = TimeSpan.FromSeconds(5);

    readonly SemaphoreSlim _asking = new(1);
    (long At, IReadOnlyDictionary<int, long> Partitions)? _lags;

    /// <summary>Where the records come from; null for an embedded pipeline.</summary>
    public (KafkaReader Reader, KafkaOptions Options)? Kafka { get; init; }

    /// <summary>The shipper in the same process; null where it is another's.</summary>
    public Func<ShipperSnapshot>? Shipper { get; init; }

    public async Task<StatusPage> PageAsync(string path, CancellationToken cancellationToken)
    {
        var shipper = Shipper?.Invoke();
        return path switch
        {
            "/" => StatusPage.Ok((shipper is null ? "" : ShipperStatus.Line(shipper) + "\n") + Line() + "\n"),
            "/metrics" => StatusPage.Ok((shipper is null ? "" : ShipperStatus.Metrics(shipper, null)) + await MetricsAsync(cancellationToken)),
            "/healthz" => Sickness(shipper) is { } sickness ? StatusPage.Unavailable(sickness) : StatusPage.Ok("ok\n"),
            "/readyz" => (indexer.Stall ?? shipper?.Stall) is { } reason ? StatusPage.Unavailable(reason) : StatusPage.Ok("ok\n"),
            _ => StatusPage.Unknown,
        };
    }

    string? Sickness(ShipperSnapshot? shipper) =>
        indexer.Stall is null && indexer.TurnedAgo > LongestSilence ? $"nothing was done for {indexer.TurnedAgo.TotalSeconds:F0} s" : shipper is null ? null : ShipperStatus.Sickness(shipper);

    /// <summary>One line that says how it is going.</summary>
    public string Line()
    {
        var balance = indexer.Metrics.Balance;
        return string.Create(CultureInfo.InvariantCulture,
            $"consumed {balance.Consumed:N0} = stored {balance.Stored:N0} + duplicates {balance.Duplicates:N0} + set aside {balance.SetAside:N0}{(balance.Dropped > 0 ? $" + dropped {balance.Dropped:N0}" : "")}{(balance.Balances ? "" : ", DOES NOT BALANCE")}; {indexer.Metrics.ChainsWritten:N0} chains written, {indexer.Metrics.OpenTraces:N0} open{(indexer.Stall is { } reason ? "; " + reason : "")}");
    }

    async Task<string> MetricsAsync(CancellationToken cancellationToken)
    {
        var text = new PrometheusText("logtrace_indexer");
        var metrics = indexer.Metrics;
        var balance = metrics.Balance;
        text.Counter("consumed_records", "Lines read and committed.", balance.Consumed);
        text.Counter("stored_records", "Records that were new to the store.", balance.Stored);
        text.Counter("duplicate_records", "Records that the store had already.", balance.Duplicates);
        text.Counter("set_aside_records", "Lines in the dead letter.", balance.SetAside);
        text.Counter("set_aside_reasons", "Why lines were set aside; a line whose batch is read again after a failure counts again.", "reason",
            metrics.SetAsideReasons.OrderBy(it => it.Key, StringComparer.Ordinal).Select(it => (it.Key, (double)it.Value)));
        text.Counter("dropped_records", "Records that came after the rules of keeping had decided against their chain.", balance.Dropped);
        text.Counter("dropped_chains", "Chains that the rules of keeping decided against.", metrics.ChainsDropped);
        text.Counter("removed_records", "Stored records that were deleted with their chain.", metrics.RecordsRemoved);
        text.Gauge("balanced", "1 while consumed = stored + duplicates + set aside + dropped.", balance.Balances ? 1 : 0);
        text.Gauge("stalled", "1 while nothing gets on; /readyz has the reason.", indexer.Stall is null ? 0 : 1);
        text.Counter("retries", "Attempts with store, transport or dead letter that failed and were made again.", metrics.Retries);
        text.Gauge("open_chains", "Traces with records that are not in their chain document yet.", metrics.OpenTraces);
        text.Counter("chains_written", "Chain documents handed to the store, rewritten ones counted again.", metrics.ChainsWritten);
        text.Histogram("record_write_seconds", "Batches of records, until the store has them for good.", metrics.RecordWrites);
        text.Histogram("chain_build_seconds", "Up to 50 traces at a time: fetching their records, building, and writing what was built.", metrics.ChainBuilds);
        if (Kafka is var (reader, options)) await WriteKafkaAsync(text, reader, options, cancellationToken);
        store.WriteMetrics(text);
        return text.ToString();
    }

    async Task WriteKafkaAsync(PrometheusText text, KafkaReader reader, KafkaOptions options, CancellationToken cancellationToken)
    {
        var own = reader.Partitions;
        text.Gauge("kafka_partitions", "Partitions that this instance reads.", own.Count);
        text.Counter("kafka_lost_records", "Records that Kafka deleted before they were read.", reader.LostCount);

        // Of its own partitions only, so that the instances of a group can be summed up.
        var lags = await LagsAsync(options, cancellationToken);
        text.Gauge("kafka_lag_known", "1 if the brokers said how far they are.", lags is null ? 0 : 1);
        if (lags is not null)
            text.Gauge("kafka_lag_records", "Records of a partition of this instance that are not committed yet.", "partition",
                own.Order().Where(lags.ContainsKey).Select(partition => (partition.ToString(CultureInfo.InvariantCulture), (double)lags[partition])));
    }

    /// <summary>Null if the brokers do not answer in time. Asked for at most every 5 s, however many look.</summary>
    async Task<IReadOnlyDictionary<int, long>?> LagsAsync(KafkaOptions options, CancellationToken cancellationToken)
    {
        await _asking.WaitAsync(cancellationToken);
        try
        {
            if (_lags is { } known && TimeProvider.System.GetElapsedTime(known.At) < LagEvery) return known.Partitions;
            _lags = null;
            var lags = await KafkaTopic.LagsAsync(options, cancellationToken).WaitAsync(LagPatience, cancellationToken);
            _lags = (TimeProvider.System.GetTimestamp(), lags);
            return lags;
        }
        catch (Exception e) when (e is TransportUnavailableException or TimeoutException)
        {
            return null; // the reader waits for the same brokers, and says so
        }
        finally
        {
            _asking.Release();
        }
    }
}
