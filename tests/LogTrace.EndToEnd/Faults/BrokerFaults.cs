using System.Net;
using System.Net.Sockets;
using Confluent.Kafka;

namespace LogTrace.EndToEnd.Faults;

/// <summary>Kafka answers with errors, late, or not at all, or its partitions move.</summary>
static class BrokerFaults
{
    static readonly ErrorCode[] Passing =
    [
        ErrorCode.NotLeaderForPartition, ErrorCode.LeaderNotAvailable, ErrorCode.RequestTimedOut, ErrorCode.NotEnoughReplicas, ErrorCode.NotEnoughReplicasAfterAppend, ErrorCode.NetworkException,
        ErrorCode.KafkaStorageError, ErrorCode.Local_Transport,
    ];

    /// <summary>A burst of errors that a working cluster may answer for a while. <c>Local_Transport</c> makes the mock broker cut the connection.</summary>
    public static ErrorCode[] SomeErrors(Random random) => [.. Enumerable.Range(0, random.Next(1, 8)).Select(_ => Passing[random.Next(Passing.Length)])];

    public static async Task ErrorsAsync(FaultCase it)
    {
        var mock = ((MockBroker)it.Broker).Kafka;
        await it.FlowAsync();
        var bursts = it.Of(5, 30);
        for (var burst = 0; burst < bursts; burst++)
        {
            mock.RefuseProduce(SomeErrors(it.Random));
            mock.Lead(it.Topic, it.Random.Next(MockBroker.Partitions), it.Random.Next(1, 3));
            await it.WriteAsync(it.Of(2_000, 5_000), it.Between(0.1, 0.6));
        }

        await it.FinishAsync();
    }

    /// <summary>Each of three brokers is killed once while the other two hold the partitions.</summary>
    public static async Task LeadersKilledAsync(FaultCase it)
    {
        var engine = ((RealBroker)it.Broker).Engine;
        var lines = it.Of(20_000, 300_000);
        await it.FlowAsync();
        await it.WriteAsync(lines / 4, it.Seconds(1, 4));
        for (var node = 1; node <= 3; node++)
        {
            await engine.KillAsync(node);
            await it.WriteAsync(lines / 4, it.Seconds(2, 6));
            await engine.StartAgainAsync(node);
        }

        await it.FinishAsync();
    }

    /// <summary>The broker says that the idempotent producer's sequence is broken: the client draws a new epoch, or fails for good and has to be made anew.</summary>
    public static async Task SequenceBrokenAsync(FaultCase it)
    {
        var mock = ((MockBroker)it.Broker).Kafka;
        await it.FlowAsync();
        for (var round = 0; round < it.Of(2, 10); round++)
        {
            await it.WriteAsync(it.Of(1_000, 5_000), it.Between(0.2, 0.6));
            mock.RefuseProduce(ErrorCode.OutOfOrderSequenceNumber);
        }

        await it.FinishAsync();
    }

    public static async Task SlowAsync(FaultCase it)
    {
        var mock = ((MockBroker)it.Broker).Kafka;
        await it.FlowAsync();
        await it.WriteAsync(it.Of(2_000, 20_000), it.Seconds(0.5, 3));
        mock.AnswerAfter(TimeSpan.FromSeconds(2));
        await it.WriteAsync(it.Of(8_000, 150_000), it.Seconds(4, 60));
        it.Ship.LookAtMemory();
        mock.AnswerAfter(TimeSpan.Zero);
        await it.FinishAsync();
        it.Note($"{it.Ship.PeakMegabytes:F0} MB");
    }

    /// <summary>A proxy between shipper and broker that resets connections in the middle of whatever they carry.</summary>
    public static async Task ConnectionsCutAsync(FaultCase it)
    {
        using var proxy = new CuttingProxy(it.Broker.Address, it.Random);
        it.Address = $"127.0.0.1:{proxy.Port}";
        ((MockBroker)it.Broker).Kafka.Advertise("127.0.0.1", proxy.Port);
        await it.FlowAsync();
        for (var round = 0; round < it.Of(5, 40); round++)
        {
            await it.WriteAsync(it.Of(2_000, 5_000), it.Between(0.2, 0.5));
            proxy.CutSoon();
            it.Log.Append(it.Of(1_000, 3_000));
        }

        proxy.CutNoMore();
        await it.FinishAsync();
        it.Note($"{proxy.Cuts} connections cut");
    }

    /// <summary>Hands bytes on in both directions until it is told to cut.</summary>
    sealed class CuttingProxy : IDisposable
    {
        readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        readonly CancellationTokenSource _end = new();
        readonly string _target;
        readonly Random _random;
        long _bytesLeft = long.MaxValue;

        public CuttingProxy(string target, Random random)
        {
            (_target, _random) = (target, random);
            _listener.Start();
            _ = AcceptAsync();
        }

        public int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        public int Cuts { get; private set; }

        /// <summary>After some more bytes the connection that carries them is reset.</summary>
        public void CutSoon() => Volatile.Write(ref _bytesLeft, _random.Next(1, 20_000));

        public void CutNoMore() => Volatile.Write(ref _bytesLeft, long.MaxValue);

        async Task AcceptAsync()
        {
            try
            {
                while (true) _ = ServeAsync(await _listener.AcceptTcpClientAsync(_end.Token));
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException or SocketException)
            {
                // The case is over.
            }
        }

        async Task ServeAsync(TcpClient client)
        {
            using var server = new TcpClient();
            using (client)
            {
                try
                {
                    var parts = _target.Split(':');
                    await server.ConnectAsync(parts[0], int.Parse(parts[1], System.Globalization.CultureInfo.InvariantCulture));
                    await Task.WhenAny(CopyAsync(client, server), CopyAsync(server, client));
                }
                catch (SocketException)
                {
                    // The broker is away: so is the proxy.
                }
            }
        }

        async Task CopyAsync(TcpClient from, TcpClient to)
        {
            try
            {
                var buffer = new byte[8192];
                for (int got; (got = await from.GetStream().ReadAsync(buffer, _end.Token)) > 0;)
                {
                    if (Interlocked.Add(ref _bytesLeft, -got) < 0)
                    {
                        Volatile.Write(ref _bytesLeft, long.MaxValue);
                        Cuts++;
                        // Half of it arrives, then a reset.
                        await to.GetStream().WriteAsync(buffer.AsMemory(0, got / 2), _end.Token);
                        from.LingerState = to.LingerState = new LingerOption(true, 0);
                        return;
                    }

                    await to.GetStream().WriteAsync(buffer.AsMemory(0, got), _end.Token);
                }
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException or InvalidOperationException)
            {
                // One side has gone.
            }
        }

        public void Dispose()
        {
            _end.Cancel();
            _listener.Dispose();
        }
    }
}
