using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using LogTrace.Transport;
using Microsoft.Extensions.Logging;

namespace LogTrace.Shipper;

/// <summary>
/// What a shipper does, over HTTP: <c>/metrics</c> for Prometheus, <c>/healthz</c> (it runs), <c>/readyz</c> (it gets on; else the reason), <c>/</c> (one line for people).
/// It answers GET and nothing else, one request a connection: a whole web server would take more memory than the shipper.
/// </summary>
sealed class StatusEndpoint : IDisposable
{
    const int MaxRequestBytes = 8 * 1024;
    const int MaxConnections = 16;
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);
    static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(30);

    readonly TcpListener _listener;
    readonly Func<ShipperSnapshot> _snapshot;
    readonly Func<KafkaStatistics?> _kafka;
    readonly ILogger _logger;
    readonly CancellationTokenSource _stop = new();
    readonly SemaphoreSlim _places = new(MaxConnections);

    StatusEndpoint(TcpListener listener, Func<ShipperSnapshot> snapshot, Func<KafkaStatistics?> kafka, ILogger logger) =>
        (_listener, _snapshot, _kafka, _logger) = (listener, snapshot, kafka, logger);

    public IPEndPoint Address => (IPEndPoint)_listener.LocalEndpoint;

    /// <summary>Listens at <c>host:port</c>; port 0 takes a free one.</summary>
    /// <exception cref="IOException">The address cannot be listened at.</exception>
    public static StatusEndpoint Start(string address, Func<ShipperSnapshot> snapshot, Func<KafkaStatistics?> kafka, ILogger logger)
    {
        var at = Parse(address) ?? throw new ArgumentException($"'{address}' is no address to listen at.", nameof(address));
        var listener = new TcpListener(at);
        try
        {
            listener.Start();
        }
        catch (SocketException e)
        {
            throw new IOException($"Shipper:Listen is {address}, where nobody can listen: {e.Message}. Name another address, or leave it out.", e);
        }

        var endpoint = new StatusEndpoint(listener, snapshot, kafka, logger);
        logger.StatusServed(endpoint.Address);
        _ = endpoint.AcceptAsync();
        return endpoint;
    }

    /// <summary>An address and a port, such as 127.0.0.1:9470, [::1]:9470 or localhost:9470; null for anything else.</summary>
    public static IPEndPoint? Parse(string address)
    {
        if (address.StartsWith("localhost:", StringComparison.Ordinal)) address = string.Concat("127.0.0.1", address.AsSpan("localhost".Length));
        // Without a port IPEndPoint would take port 0.
        return address.LastIndexOf(':') > address.LastIndexOf(']') && IPEndPoint.TryParse(address, out var at) && (at.AddressFamily == AddressFamily.InterNetwork || address[0] == '[') ? at : null;
    }

    async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                await _places.WaitAsync(_stop.Token).ConfigureAwait(false);
                _ = AnswerAsync(await _listener.AcceptTcpClientAsync(_stop.Token).ConfigureAwait(false));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
        {
            // Stopped.
        }
        catch (SocketException e)
        {
            _logger.StatusEnded(e.Message);
        }
    }

    async Task AnswerAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                using var limit = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
                limit.CancelAfter(Patience);
                var stream = client.GetStream();
                var request = new byte[MaxRequestBytes];
                var got = 0;
                while (request.AsSpan(0, got).IndexOf("\r\n\r\n"u8) < 0)
                {
                    var read = got == request.Length ? 0 : await stream.ReadAsync(request.AsMemory(got), limit.Token).ConfigureAwait(false);
                    if (read == 0) return; // gave up, or sends too much
                    got += read;
                }

                var line = Encoding.ASCII.GetString(request, 0, request.AsSpan(0, got).IndexOf((byte)'\r')).Split(' ');
                var (status, text) = line is ["GET", var target, _] ? Page(target.Split('?')[0], _snapshot(), _kafka()) : ("405 Method Not Allowed", "only GET\n");
                var body = Encoding.UTF8.GetBytes(text);
                var head = $"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {body.Length}\r\nConnection: close\r\n\r\n";
                await stream.WriteAsync(Encoding.ASCII.GetBytes(head), limit.Token).ConfigureAwait(false);
                await stream.WriteAsync(body, limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or SocketException)
            {
                // Who asked has gone, or takes too long.
            }
            finally
            {
                _places.Release();
            }
        }
    }

    internal static (string Status, string Text) Page(string path, ShipperSnapshot snapshot, KafkaStatistics? kafka) => path switch
    {
        "/" => ("200 OK", Line(snapshot) + "\n"),
        "/metrics" => ("200 OK", Metrics(snapshot, kafka)),
        "/healthz" when snapshot.LookedAgo > LongestSilence => ("503 Service Unavailable", $"no file was looked at for {snapshot.LookedAgo.TotalSeconds:F0} s\n"),
        "/healthz" => ("200 OK", "ok\n"),
        "/readyz" when snapshot.Stall is { } reason => ("503 Service Unavailable", reason + "\n"),
        "/readyz" => ("200 OK", "ok\n"),
        _ => ("404 Not Found", "there are /, /metrics, /healthz and /readyz\n"),
    };

    /// <summary>One line that says how it is going.</summary>
    internal static string Line(ShipperSnapshot snapshot)
    {
        var counts = snapshot.Counts;
        var behind = snapshot.Files.Where(f => f.LagBytes > 0).ToList();
        return string.Create(CultureInfo.InvariantCulture,
            $"read {counts.ReadLines:N0} = shipped {counts.ShippedLines:N0} + set aside {counts.SetAsideLines:N0} + blank {counts.BlankLines:N0} lines ({counts.ReadBytes:N0} = {counts.ShippedBytes:N0} + {counts.SetAsideBytes:N0} + {counts.BlankBytes:N0} bytes{(counts.Balances ? "" : ", DOES NOT BALANCE")}), {snapshot.Files.Sum(f => f.ReadOffset - f.AcknowledgedOffset):N0} bytes not acknowledged, {behind.Sum(f => f.LagBytes):N0} bytes behind in {behind.Count:N0} of {snapshot.Files.Count:N0} files, oldest {behind.Select(f => f.OldestUnacknowledged).DefaultIfEmpty().Max().TotalSeconds:F1} s{(snapshot.Stall is { } reason ? "; " + reason : "")}");
    }

    static string Metrics(ShipperSnapshot snapshot, KafkaStatistics? kafka)
    {
        var text = new StringBuilder();
        var counts = snapshot.Counts;
        Counter("read_lines", "Lines that ended and are settled: shipped, set aside or blank.", counts.ReadLines);
        Counter("read_bytes", "Bytes of these lines.", counts.ReadBytes);
        Counter("shipped_lines", "Lines acknowledged by all in-sync replicas.", counts.ShippedLines);
        Counter("shipped_bytes", "Bytes of these lines.", counts.ShippedBytes);
        Counter("set_aside_lines", "Lines in the dead letter.", counts.SetAsideLines);
        Counter("set_aside_bytes", "Bytes of these lines.", counts.SetAsideBytes);
        Counter("blank_lines", "Empty lines.", counts.BlankLines);
        Counter("lost_bytes", "Bytes emptied or overwritten before they were read.", counts.LostBytes);
        Counter("failed_batches", "Batches sent again since the start.", snapshot.FailedBatches);
        Gauge("balanced", "1 while read = shipped + set aside + blank.", counts.Balances ? 1 : 0);
        Gauge("stalled", "1 while nothing gets on; /readyz has the reason.", snapshot.Stall is null ? 0 : 1);
        Gauge("files", "Files that are followed.", snapshot.Files.Count);
        Gauge("deleted_open_bytes", "Bytes of deleted files that are held open, and take disk space, until they are shipped.", snapshot.Files.Where(file => file.IsDeleted).Sum(file => file.SizeBytes));
        PerFile("lag_bytes", "Bytes written and not yet safe on the other side.", file => file.LagBytes);
        PerFile("read_offset_bytes", "Bytes read so far.", file => file.ReadOffset);
        PerFile("acknowledged_offset_bytes", "Bytes safe on the other side.", file => file.AcknowledgedOffset);
        PerFile("oldest_unacknowledged_seconds", "Since when the oldest line that is not safe has been seen.", file => file.OldestUnacknowledged.TotalSeconds);
        if (kafka is null) return text.ToString();
        Gauge("kafka_queued_lines", "Lines in the Kafka client without an answer.", kafka.QueuedMessages);
        Gauge("kafka_queued_bytes", "Their bytes.", kafka.QueuedBytes);
        Counter("kafka_sent_bytes", "Bytes sent after compression.", kafka.SentBytes);
        Counter("kafka_retries", "Requests sent again.", kafka.Retries);
        Counter("kafka_timeouts", "Requests not answered in time.", kafka.Timeouts);
        Gauge("kafka_brokers_up", "Brokers with a connection in use.", kafka.BrokersUp);
        Gauge("kafka_round_trip_seconds", "From request to answer, on average.", kafka.RoundTripMicros / 1e6);
        return text.ToString();

        void Counter(string name, string help, long value) => One(name + "_total", help, "counter", value);

        void Gauge(string name, string help, double value) => One(name, help, "gauge", value);

        void One(string name, string help, string type, double value) =>
            text.Append(CultureInfo.InvariantCulture, $"# HELP logtrace_shipper_{name} {help}\n# TYPE logtrace_shipper_{name} {type}\nlogtrace_shipper_{name} {value}\n");

        void PerFile(string name, string help, Func<FileProgress, double> value)
        {
            text.Append(CultureInfo.InvariantCulture, $"# HELP logtrace_shipper_{name} {help}\n# TYPE logtrace_shipper_{name} gauge\n");
            // Two generations of one path are one row: Prometheus refuses rows of one name.
            foreach (var file in snapshot.Files.GroupBy(file => file.Path))
            {
                var path = file.Key.Replace("\\", @"\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
                text.Append(CultureInfo.InvariantCulture, $"logtrace_shipper_{name}{{file=\"{path}\"}} {file.Max(value)}\n");
            }
        }
    }

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Dispose();
    }
}
