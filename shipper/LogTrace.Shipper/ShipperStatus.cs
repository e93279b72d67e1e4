using System.Globalization;
using LogTrace.Transport;

namespace LogTrace.Shipper;

/// <summary>What a shipper does, as <see cref="StatusEndpoint"/> serves it.</summary>
static class ShipperStatus
{
    static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(30);

    public static StatusPage Page(string path, ShipperSnapshot snapshot, KafkaStatistics? kafka) => path switch
    {
        "/" => StatusPage.Ok(Line(snapshot) + "\n"),
        "/metrics" => StatusPage.Ok(Metrics(snapshot, kafka)),
        "/healthz" => Sickness(snapshot) is { } sickness ? StatusPage.Unavailable(sickness) : StatusPage.Ok("ok\n"),
        "/readyz" => snapshot.Stall is { } reason ? StatusPage.Unavailable(reason) : StatusPage.Ok("ok\n"),
        _ => StatusPage.Unknown,
    };

    /// <summary>Why the process should be started anew; null while it is well. Waiting for another side is well.</summary>
    public static string? Sickness(ShipperSnapshot snapshot) =>
        snapshot.LookedAgo > LongestSilence ? $"no file was looked at for {snapshot.LookedAgo.TotalSeconds:F0} s" : null;

    /// <summary>One line that says how it is going.</summary>
    public static string Line(ShipperSnapshot snapshot)
    {
        var counts = snapshot.Counts;
        var behind = snapshot.Files.Where(f => f.LagBytes > 0).ToList();
        return string.Create(CultureInfo.InvariantCulture,
            $"read {counts.ReadLines:N0} = shipped {counts.ShippedLines:N0} + set aside {counts.SetAsideLines:N0} + blank {counts.BlankLines:N0} lines ({counts.ReadBytes:N0} = {counts.ShippedBytes:N0} + {counts.SetAsideBytes:N0} + {counts.BlankBytes:N0} bytes{(counts.Balances ? "" : ", DOES NOT BALANCE")}), {snapshot.Files.Sum(f => f.ReadOffset - f.AcknowledgedOffset):N0} bytes not acknowledged, {behind.Sum(f => f.LagBytes):N0} bytes behind in {behind.Count:N0} of {snapshot.Files.Count:N0} files, oldest {behind.Select(f => f.OldestUnacknowledged).DefaultIfEmpty().Max().TotalSeconds:F1} s{(snapshot.Stall is { } reason ? "; " + reason : "")}");
    }

    public static string Metrics(ShipperSnapshot snapshot, KafkaStatistics? kafka)
    {
        var text = new PrometheusText("logtrace_shipper");
        var counts = snapshot.Counts;
        text.Counter("read_lines", "Lines that ended and are settled: shipped, set aside or blank.", counts.ReadLines);
        text.Counter("read_bytes", "Bytes of these lines.", counts.ReadBytes);
        text.Counter("shipped_lines", "Lines acknowledged by all in-sync replicas.", counts.ShippedLines);
        text.Counter("shipped_bytes", "Bytes of these lines.", counts.ShippedBytes);
        text.Counter("set_aside_lines", "Lines in the dead letter.", counts.SetAsideLines);
        text.Counter("set_aside_bytes", "Bytes of these lines.", counts.SetAsideBytes);
        text.Counter("blank_lines", "Empty lines.", counts.BlankLines);
        text.Counter("lost_bytes", "Bytes emptied or overwritten before they were read.", counts.LostBytes);
        text.Counter("failed_batches", "Batches sent again since the start.", snapshot.FailedBatches);
        text.Gauge("balanced", "1 while read = shipped + set aside + blank.", counts.Balances ? 1 : 0);
        text.Gauge("stalled", "1 while nothing gets on; /readyz has the reason.", snapshot.Stall is null ? 0 : 1);
        text.Gauge("files", "Files that are followed.", snapshot.Files.Count);
        text.Gauge("watched_directories", "Directories of whose changes the kernel tells (inotify).", snapshot.WatchedDirectories);
        text.Gauge("unwatched_directories", "Directories of whose changes it does not tell though asked to; if there are any, files are looked at as without hints.", snapshot.UnwatchedDirectories);
        text.Gauge("deleted_open_bytes", "Bytes of deleted files that are held open, and take disk space, until they are shipped.", snapshot.Files.Where(file => file.IsDeleted).Sum(file => file.SizeBytes));
        PerFile("lag_bytes", "Bytes written and not yet safe on the other side.", file => file.LagBytes);
        PerFile("read_offset_bytes", "Bytes read so far.", file => file.ReadOffset);
        PerFile("acknowledged_offset_bytes", "Bytes safe on the other side.", file => file.AcknowledgedOffset);
        PerFile("oldest_unacknowledged_seconds", "Since when the oldest line that is not safe has been seen.", file => file.OldestUnacknowledged.TotalSeconds);
        if (kafka is null) return text.ToString();
        text.Gauge("kafka_queued_lines", "Lines in the Kafka client without an answer.", kafka.QueuedMessages);
        text.Gauge("kafka_queued_bytes", "Their bytes.", kafka.QueuedBytes);
        text.Counter("kafka_sent_bytes", "Bytes sent after compression.", kafka.SentBytes);
        text.Counter("kafka_retries", "Requests sent again.", kafka.Retries);
        text.Counter("kafka_timeouts", "Requests not answered in time.", kafka.Timeouts);
        text.Gauge("kafka_brokers_up", "Brokers with a connection in use.", kafka.BrokersUp);
        text.Gauge("kafka_round_trip_seconds", "From request to answer, on average.", kafka.RoundTripMicros / 1e6);
        return text.ToString();

        // Two generations of one path are one row: Prometheus refuses rows of one name.
        void PerFile(string name, string help, Func<FileProgress, double> value) =>
            text.Gauge(name, help, "file", snapshot.Files.GroupBy(file => file.Path).Select(file => (file.Key, file.Max(value))));
    }
}
