using LogTrace.EndToEnd.Faults;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary><c>./logtrace ship</c> as its users start it: machine code where a linker is there, which has only what its compiler saw a use for.</summary>
public sealed class ShipCommandTests
{
    // The first start compiles it.
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(6);

    [Fact]
    public async Task Every_option_is_read_from_a_file_whatever_its_kind()
    {
        using var folder = new TempFolder();
        using var kafka = new MockKafka();
        kafka.CreateTopic("options", 4);
        var log = new GeneratedLog(folder["logs"], 1, 2, "options");
        log.Append(1_000);
        log.Close();
        await File.WriteAllTextAsync(folder["logs/app9.log.tmp"], "not to be shipped\n");
        await File.WriteAllTextAsync(folder["ship.json"], $$"""
            {
              "Kafka": {
                "Brokers": "{{kafka.Address}}", "Topic": "options", "DeadTopic": "options.dead", "Partitions": 4, "Replication": 1, "Compression": "gzip", "Linger": "00:00:00.030",
                "MaxMessageBytes": 900000, "MaxInFlightBytes": 8388608, "Security": "plaintext", "Properties": { "socket.keepalive.enable": "true", "client.id": "ship" }
              },
              "Shipper": {
                "Paths": [ "{{log.Glob}}" ], "Exclude": [ "*.gz", "*.tmp" ], "DataDirectory": "{{folder["data"]}}", "HostId": "h1", "Format": "plain", "MaxLineBytes": 100000, "BatchBytes": 262144,
                "MaxInFlightBatches": 4, "PollInterval": "00:00:00.050", "DiscoveryInterval": "00:00:00.200", "Hints": false, "QuietInterval": "00:00:03", "CheckpointInterval": "00:00:00.100", "CheckpointBytes": 1048576,
                "StopLimit": "00:00:04", "DeletedGrace": "00:00:03", "CopyGrace": "00:00:01", "ForgetAfter": "1.00:00:00", "MaxOpenFiles": 100, "DeadLetterBytes": 1048576,
                "StatusInterval": "00:00:10", "Listen": "127.0.0.1:0", "Once": true
              }
            }
            """);

        await using var ship = ProgramProcess.Start(Path.Combine(Repository.Root, "logtrace"), "ship", "--config", folder["ship.json"]);

        (await ship.ExitCodeAsync(Deadline)).Should().Be(0, ship.Transcript);
        ship.Output.Should().Contain("read 1000 = shipped 1000 + set aside 0 + blank 0", ship.Transcript);
        TopicContent.Read(kafka.Address, "options").Should().HaveCount(1_000);
    }

    [Theory]
    [InlineData("LOGTRACE__Shipper__Format=weird", "'weird' at 'Shipper:Format'")]
    [InlineData("LOGTRACE__Shipper__PollInterval=soon", "'soon' at 'Shipper:PollInterval'")]
    [InlineData("LOGTRACE__Shipper__MaxOpenFiles=many", "'many' at 'Shipper:MaxOpenFiles'")]
    [InlineData("LOGTRACE__Kafka__Linger=-1", "Kafka:Linger is -1.00:00:00; it must be between 00:00:00 and 00:00:05")]
    [InlineData("LOGTRACE__Kafka__Nonsense=1", "Kafka:Nonsense does not exist")]
    public async Task Wrong_values_are_named_with_their_key(string setting, string expected)
    {
        using var folder = new TempFolder();
        await using var ship = ProgramProcess.Start("env", setting, Path.Combine(Repository.Root, "logtrace"), "ship", folder["*.log"], "--data", folder["data"], "--once");

        (await ship.ExitCodeAsync(Deadline)).Should().Be(2, ship.Transcript);
        ship.Errors.Should().Contain(expected).And.NotContain("   at ");
    }
}
