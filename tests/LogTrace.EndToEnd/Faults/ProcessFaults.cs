using System.Diagnostics;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>The shipper is killed, stopped, frozen or started twice, or its state is spoilt.</summary>
static class ProcessFaults
{
    static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(10);

    public static async Task KilledAsync(FaultCase it)
    {
        var kills = it.Of(3, it.Broker.IsReal ? 3 : 20);
        var lines = it.Of(30_000, 300_000) / kills;
        for (var kill = 0; kill < kills; kill++)
        {
            await it.FlowAsync();
            await it.WriteAsync(lines / 2, it.Between(0.2, it.Of(1.0, 2.0)));
            // In the middle of a burst, or soon after.
            it.Log.Append(lines - (lines / 2));
            await Task.Delay(it.Between(0, 0.2));
            await it.Contender.KillAsync();
        }

        await it.FinishAsync();
        it.Note($"{kills} kills");
    }

    /// <summary>Kafka goes, then the shipper is stopped or killed; both come back, the shipper first.</summary>
    public static async Task KafkaDownAsync(FaultCase it)
    {
        var lines = it.Of(20_000, 300_000);
        await it.FlowAsync();
        await it.WriteAsync(lines / 4, it.Seconds(1, 3));
        await it.Broker.GoDownAsync();
        await it.WriteAsync(lines / 4, it.Seconds(2, 60));
        it.Contender.LookAtMemory();
        var isGentle = it.Broker.IsReal || it.Seed % 2 == 1;
        if (isGentle) await it.Contender.StopAsync();
        else await it.Contender.KillAsync();
        it.Log.Append(lines / 4);
        it.Contender.Start();
        await it.WriteAsync(lines / 4, it.Seconds(1, 5));

        var before = it.IsOurs ? it.Ship.SettledLines : 0;
        await it.Broker.ComeBackAsync();
        var back = Stopwatch.StartNew();
        if (it.IsOurs)
        {
            await it.Ship.SettleAsync(before + 1);
            it.Note($"gets on {back.Elapsed.TotalSeconds:F1} s after Kafka is back");
        }

        await it.FinishAsync();
        if (isGentle) it.Note($"stops in {it.Contender.LongestStop.TotalSeconds:F1} s");
        it.Note($"{it.Contender.PeakMegabytes:F0} MB");
        if (it.IsOurs) it.Contender.LongestStop.Should().BeLessThan(StopLimit, "it ends although Kafka is away");
    }

    /// <summary>The broker dies and comes back; the shipper stays.</summary>
    public static async Task BrokerKilledAsync(FaultCase it)
    {
        var lines = it.Of(20_000, 300_000);
        await it.FlowAsync();
        await it.WriteAsync(lines / 2, it.Seconds(1, 4));
        await it.Broker.GoDownAsync();
        await it.WriteAsync(lines / 4, TimeSpan.FromSeconds(5));
        await it.Broker.ComeBackAsync();
        await it.WriteAsync(lines / 4, it.Seconds(1, 4));
        await it.FinishAsync();
    }

    /// <summary>The broker takes connections and answers nothing.</summary>
    public static async Task BrokerHungAsync(FaultCase it)
    {
        var engine = ((RealBroker)it.Broker).Engine;
        var lines = it.Of(20_000, 300_000);
        await it.FlowAsync();
        await it.WriteAsync(lines / 2, it.Seconds(1, 4));
        await engine.PauseAsync();
        await it.WriteAsync(lines / 4, it.Seconds(8, 60));
        it.Contender.LookAtMemory();
        await engine.ResumeAsync();
        await it.WriteAsync(lines / 4, it.Seconds(1, 4));
        await it.FinishAsync();
        it.Note($"{it.Contender.PeakMegabytes:F0} MB");
    }

    /// <summary>Ten minutes without Kafka, under load.</summary>
    public static async Task LongOutageAsync(FaultCase it)
    {
        await it.FlowAsync();
        await it.WriteAsync(it.Of(5_000, 30_000), it.Seconds(1, 10));
        await it.Broker.GoDownAsync();
        await it.WriteAsync(it.Of(1_000, 10_000), it.Seconds(1, 30));
        it.Ship.LookAtMemory();
        var early = it.Ship.PeakMegabytes;
        await it.WriteAsync(it.Of(10_000, 250_000), it.Seconds(5, 570));
        it.Ship.LookAtMemory();
        it.Note($"{early:F0} MB half a minute into the outage, {it.Ship.PeakMegabytes:F0} MB at its end");
        it.Ship.PeakMegabytes.Should().BeLessThan(early + 40, "memory is flat");
        if (it.Seed % 2 == 1)
        {
            await it.Ship.StopAsync();
            it.Ship.LongestStop.Should().BeLessThan(StopLimit);
            it.Note($"stops in {it.Ship.LongestStop.TotalSeconds:F1} s");
        }

        await it.Broker.ComeBackAsync();
        await it.FinishAsync();
    }

    public static async Task StateSpoiltAsync(FaultCase it)
    {
        await using var disk = new SmallDiskFor(it);
        var rounds = it.Of(4, 12);
        for (var round = 0; round < rounds; round++)
        {
            await it.Ship.BeginAsync();
            var full = disk.IsThere && round % 3 == 2;
            if (full) disk.Fill();
            var before = it.Ship.SettledLines;
            await it.WriteAsync(it.Of(2_000, 10_000), it.Between(0.3, 1));
            // With the disk full nothing is settled on paper, and all is shipped all the same.
            if (full) await Eventually.HoldsAsync(() => it.Ship.Process.Errors.Contains("checkpoint cannot be saved", StringComparison.Ordinal), "the full disk is said");
            else await it.Ship.SettleAsync(before + 1);
            if (full) disk.Free();
            await it.Ship.KillAsync();
            Spoil(it, round);
        }

        await it.FinishAsync();
    }

    /// <summary>What a crash, a bad disk or a person may leave of the newest checkpoint; the one before stays whole, or all would be read again.</summary>
    static void Spoil(FaultCase it, int round)
    {
        var newest = Directory.GetFiles(Path.Combine(it.Ship.DataDirectory, "shipper"), "checkpoint-?.jsonl").OrderByDescending(SequenceOf).FirstOrDefault();
        if (newest is null) return;
        var bytes = File.ReadAllBytes(newest);
        switch (round % 4)
        {
            case 0: File.WriteAllBytes(newest, bytes[..it.Random.Next(bytes.Length)]); break;
            case 1: File.WriteAllBytes(newest, new byte[bytes.Length]); break;
            case 2: File.WriteAllBytes(newest, []); break;
            default:
                bytes[it.Random.Next(bytes.Length)] ^= 0x20;
                File.WriteAllBytes(newest, bytes);
                break;
        }
    }

    static long SequenceOf(string path) =>
        long.TryParse(System.Text.RegularExpressions.Regex.Match(File.ReadLines(path).FirstOrDefault() ?? "", "\"sequence\":(\\d+)").Groups[1].Value, out var sequence) ? sequence : -1;

    /// <summary>The state on a file system of its own that can be filled up, where one can be made.</summary>
    sealed class SmallDiskFor : IAsyncDisposable
    {
        readonly SmallDisk? _disk;
        readonly FaultCase _it;

        public SmallDiskFor(FaultCase it)
        {
            _it = it;
            if (!SmallDisk.IsPossible) return;
            _disk = new SmallDisk(512);
            Directory.CreateSymbolicLink(it.Ship.DataDirectory, _disk.Path);
        }

        public bool IsThere => _disk is not null;

        public void Fill() => _disk!.Fill();

        public void Free() => _disk!.Free();

        public async ValueTask DisposeAsync()
        {
            if (_disk is null) return;
            if (_it.Ship.IsRunning) await _it.Ship.KillAsync();
            Directory.Delete(_it.Ship.DataDirectory);
            _disk.Dispose();
        }
    }

    public static async Task FrozenAsync(FaultCase it)
    {
        await it.FlowAsync();
        await it.WriteAsync(it.Of(5_000, 50_000), it.Seconds(1, 3));
        it.Ship.Process.Freeze();
        await it.WriteAsync(it.Of(5_000, 50_000), it.Seconds(3, 120));
        it.Ship.Process.Thaw();
        await it.WriteAsync(it.Of(5_000, 50_000), it.Seconds(1, 3));
        await it.FinishAsync();
    }

    public static async Task StartedTwiceAsync(FaultCase it)
    {
        await it.Ship.BeginAsync();
        it.Log.Append(2_000);
        await using (var second = it.Ship.LaunchSecond())
        {
            (await second.ExitCodeAsync(TimeSpan.FromMinutes(1))).Should().Be(1);
            second.Errors.Should().Contain($"process {it.Ship.Process.Id}");
        }

        await it.Ship.SettleAsync(2_000);
        await it.Ship.KillAsync();
        it.Log.Append(1_000);
        await it.Ship.BeginAsync();
        await it.FinishAsync();
    }

    /// <summary>A random mix of the others for a long time.</summary>
    public static async Task SoakAsync(FaultCase it)
    {
        var mock = (MockBroker)it.Broker;
        var end = Stopwatch.StartNew();
        var (steps, kills) = (0, 0);
        var (earlyPeak, latePeak, state) = (0.0, 0.0, 0L);
        var length = it.Seconds(15, 600);
        while (end.Elapsed < length)
        {
            steps++;
            if (!it.Ship.IsRunning && it.Random.Next(3) > 0) await it.FlowAsync();
            await it.WriteAsync(it.Of(300, 400), it.Between(0.1, 0.6));
            it.Ship.LookAtMemory();
            if (end.Elapsed < length / 4) earlyPeak = it.Ship.PeakMegabytes;
            latePeak = it.Ship.PeakMegabytes;
            switch (it.Random.Next(10))
            {
                case 0: await it.Ship.KillAsync(); kills++; break;
                case 1: await it.Ship.StopAsync(); break;
                case 2:
                    mock.Kafka.GoDown();
                    await it.WriteAsync(200, it.Between(0.2, 2));
                    mock.Kafka.ComeUp();
                    break;
                case 3: it.Log.Rotate(it.Random.Next(3)); break;
                case 4: it.Log.CopyTruncate(it.Random.Next(3)); break;
                case 5: mock.Kafka.RefuseProduce(BrokerFaults.SomeErrors(it.Random)); break;
                case 6: mock.Kafka.AnswerAfter(it.Random.Next(2) == 0 ? TimeSpan.Zero : it.Between(0.05, 0.5)); break;
            }

            if (it.Ship.Saved is { } saved) state = Math.Max(state, saved.Files.Count);
        }

        mock.Kafka.AnswerAfter(TimeSpan.Zero);
        await it.FinishAsync();
        it.Note($"{steps} steps, {kills} kills, {latePeak:F0} MB at most ({earlyPeak:F0} in the first quarter), {state} files in the state");
        // A process that has just been started is no measure.
        latePeak.Should().BeLessThan(Math.Max(earlyPeak, 80) + 40, "memory is flat");
    }
}
