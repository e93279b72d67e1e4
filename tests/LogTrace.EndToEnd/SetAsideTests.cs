using System.Text;
using LogTrace.EndToEnd.Faults;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.EndToEnd;

/// <summary>The topic of what is set aside, and <c>ship --replay</c>, over a broker that goes and comes.</summary>
public sealed class SetAsideTests : IDisposable
{
    const string Dead = "logtrace.dead";
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(1);
    static readonly SourceFile Source = new("host", 7, "/a.log");

    readonly TempFolder _folder = new();
    readonly MockKafka _kafka = new();

    public SetAsideTests()
    {
        _kafka.CreateTopic("records", 4);
        _kafka.CreateTopic(Dead, 1);
    }

    public void Dispose()
    {
        _kafka.Dispose();
        _folder.Dispose();
    }

    KafkaOptions Options => new() { Brokers = _kafka.Address, Topic = "records" };

    static string Header(TopicMessage message, string name) => message.Headers.TryGetLastBytes(name, out var bytes) ? Encoding.UTF8.GetString(bytes) : "";

    [Fact]
    public void Topic_gets_bytes_reason_and_position_and_of_what_is_too_large_the_beginning()
    {
        using var topic = new DeadLetterTopic(Options);
        using var file = new DeadLetterFile(_folder["dead-letter.jsonl"], topic: topic);
        byte[] odd = [0xff, 0, (byte)'x'];
        file.Add(Source, 5, odd, "no JSON");
        file.Add(Source, 9, Encoding.ASCII.GetBytes(new string('y', 2_000_000)), "too large");

        file.Flush();

        var messages = TopicContent.Read(_kafka.Address, Dead).ToList();
        messages.Select(message => (Header(message, "reason"), Header(message, "length"))).Should().Equal(("no JSON", ""), ("too large", "2000000"));
        messages[0].Value.Should().Equal(odd);
        messages[1].Value.Length.Should().BeInRange(10_000, 1_000_000);
        RecordHeader.TryRead(messages[0].Header, out var offset, out var source).Should().BeTrue();
        (offset, source).Should().Be((5L, Source));
        File.ReadAllLines(file.Path).Should().HaveCount(2).And.Subject.Last().Length.Should().BeGreaterThan(2_000_000, "the file has all of it");
    }

    [Fact]
    public void While_the_topic_takes_nothing_nothing_counts_as_set_aside()
    {
        using var topic = new DeadLetterTopic(Options);
        using var file = new DeadLetterFile(_folder["dead-letter.jsonl"], topic: topic);
        _kafka.GoDown();
        file.Add(Source, 5, "one"u8, "refused");

        FluentActions.Invoking(file.Flush).Should().Throw<IOException>().WithMessage($"*{Dead}*");

        _kafka.ComeUp();
        file.Flush();
        TopicContent.Read(_kafka.Address, Dead).Select(message => Encoding.UTF8.GetString(message.Value)).Distinct().Should().Equal("one");
        File.ReadAllLines(file.Path).Should().ContainSingle("the file has it once");
    }

    [Fact]
    public async Task Replayed_lines_arrive_as_the_records_that_they_are()
    {
        var tooLong = "{\"trace_id\":\"t-1\",\"text\":\"" + new string('x', 5_000) + "\"}";
        Directory.CreateDirectory(_folder["logs"]);
        const string First = "{\"trace_id\":\"t-0\"}\n";
        await File.WriteAllTextAsync(_folder["logs/a.log"], $"{First}{tooLong}\n");
        string[] to = ["--kafka", _kafka.Address, "--topic", "records", "--data", _folder["data"]];
        await using (var ship = ProgramProcess.StartShipperThrough(["env"], new Dictionary<string, string> { ["LOGTRACE__Shipper__MaxLineBytes"] = "2000" }, ["ship", _folder["logs/*.log"], "--once", .. to]))
        {
            (await ship.ExitCodeAsync(Deadline)).Should().Be(0, ship.Transcript);
            ship.Output.Should().Contain("shipped 1 + set aside 1");
        }

        var letters = Path.Combine(_folder["data"], "shipper", "dead-letter.jsonl");
        await using var replay = ProgramProcess.StartShipper(["ship", "--replay", letters, .. to]);

        (await replay.ExitCodeAsync(Deadline)).Should().Be(0, replay.Transcript);
        replay.Output.Should().Contain("1 lines = sent 1 + refused 0 + not kept whole 0");
        var arrived = TopicContent.Read(_kafka.Address, "records").Single(message => message.Value.Length > 1_000);
        Encoding.UTF8.GetString(arrived.Value).Should().Be(tooLong);
        RecordHeader.TryRead(arrived.Header, out var offset, out var source).Should().BeTrue();
        (offset, source.Path).Should().Be(((long)First.Length, _folder["logs/a.log"]));

        await using var wrong = ProgramProcess.StartShipper(["ship", "--replay", _folder["logs/a.log"], .. to]);
        (await wrong.ExitCodeAsync(Deadline)).Should().Be(1);
        wrong.Errors.Should().Contain("is no entry of a dead letter").And.NotContain("   at ");
    }
}
