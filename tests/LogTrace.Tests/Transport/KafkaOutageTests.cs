using LogTrace.Tests.Support;
using LogTrace.Transport;
using static LogTrace.Tests.Transport.RecordTransportContract;

namespace LogTrace.Tests.Transport;

/// <summary>What happens when the broker goes; with a broker that nobody else uses.</summary>
public sealed class KafkaOutageTests
{
    [OwnEngineFact]
    public async Task Killed_broker_is_waited_for_and_nothing_is_lost()
    {
        await using var broker = await RealEngines.StartOwnAsync("kafka");
        var options = new KafkaOptions { Brokers = broker.Address, Topic = "records", Group = "records", SessionTimeout = TimeSpan.FromSeconds(6) };
        await KafkaTopic.EnsureAsync(options);
        var said = new List<string>();
        await using var writer = new KafkaWriter(options, said.Add);
        await using var reader = new KafkaReader(options);
        var lines = Enumerable.Range(0, 2_000).Select(i => Some(i, $"t-{i % 10}", $"line {i}")).ToArray();

        await SendAsync(writer, lines[..1_000]).Within();
        (await ReadAsync(reader, 1_000)).Should().HaveCount(1_000);
        await broker.KillAsync();
        var written = SendAsync(writer, lines[1_000..]);
        await Eventually.HoldsAsync(() => said.Count > 0, "the writer says that the broker is away");
        written.IsCompleted.Should().BeFalse();
        await broker.StartAgainAsync();

        (await written.Within(TimeSpan.FromMinutes(1))).Should().BeEmpty();
        var read = await ReadUntilAsync(reader, it => it.Distinct().Count() >= 1_000);
        read.Distinct().OrderBy(line => line.Offset).Should().Equal(lines[1_000..]);
        said.Should().HaveCount(2).And.Contain(it => it.Contains("takes lines again"));
    }

    [OwnEngineFact]
    public async Task Hung_broker_is_waited_for_and_nothing_is_lost_or_doubled()
    {
        await using var broker = await RealEngines.StartOwnAsync("kafka");
        // Answers in time or counts as gone: so the client gives requests up and sends them again while the test waits.
        var options = new KafkaOptions
        {
            Brokers = broker.Address,
            Topic = "records",
            Group = "records",
            SessionTimeout = TimeSpan.FromSeconds(6),
            Properties = new Dictionary<string, string> { ["socket.timeout.ms"] = "2000", ["request.timeout.ms"] = "2000", ["statistics.interval.ms"] = "100" },
        };
        await KafkaTopic.EnsureAsync(options);
        await using var writer = new KafkaWriter(options);
        var lines = Enumerable.Range(0, 2_000).Select(i => Some(i, $"t-{i % 10}", $"line {i}")).ToArray();
        await SendAsync(writer, lines[..1_000]).Within();

        await broker.PauseAsync();
        var written = SendAsync(writer, lines[1_000..]);
        await Eventually.HoldsAsync(() => writer.Statistics is { Timeouts: > 0, QueuedMessages: 1_000 }, "a request was given up");
        written.IsCompleted.Should().BeFalse();
        await broker.ResumeAsync();

        (await written.Within(TimeSpan.FromMinutes(1))).Should().BeEmpty();
        await using var reader = new KafkaReader(options);
        var read = await ReadUntilAsync(reader, it => it.Distinct().Count() >= 2_000);
        read.OrderBy(line => line.Offset).Should().Equal(lines);
    }
}
