using System.Text;
using System.Text.Json;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Transport;

public sealed class DeadLetterFileTests : IDisposable
{
    static readonly SourceFile Source = new("host-1", 0xABC, "/var/log/orders.log");

    readonly TempFolder _folder = new();

    string FilePath => _folder["state/dead.jsonl"];

    public void Dispose() => _folder.Dispose();

    static byte[] Line(int length) => Encoding.ASCII.GetBytes(new string('x', length));

    List<JsonElement> Entries() => File.ReadAllLines(FilePath).Select(line => JsonDocument.Parse(line).RootElement).ToList();

    [Fact]
    public void Line_is_kept_with_its_reason_and_position()
    {
        using (var file = new DeadLetterFile(FilePath))
        {
            file.Add(Source, 4711, "{\"a\":\"ü \\\" \t😀\"}"u8, "timestamp: there is none");
            file.Flush();
            var entry = Entries().Single();
            entry.EnumerateObject().Select(member => member.Name).Should().Equal("at", "reason", "host", "file", "file_id", "offset", "length", "line");
            entry.GetProperty("reason").GetString().Should().Be("timestamp: there is none");
            entry.GetProperty("host").GetString().Should().Be("host-1");
            entry.GetProperty("file").GetString().Should().Be("/var/log/orders.log");
            entry.GetProperty("file_id").GetString().Should().Be("00000000000000000000000000000abc");
            entry.GetProperty("offset").GetInt64().Should().Be(4711);
            entry.GetProperty("length").GetInt32().Should().Be(19);
            entry.GetProperty("line").GetString().Should().Be("{\"a\":\"ü \\\" \t😀\"}");
            entry.GetProperty("at").GetDateTimeOffset().Should().BeCloseTo(DateTimeOffset.UtcNow, TimeSpan.FromMinutes(1));
        }
    }

    [Fact]
    public void Bytes_that_are_no_text_are_kept_as_they_were()
    {
        byte[] line = [0xFF, 0, 0xC3, (byte)'\n', 0xED, 0xA0, 0x80];
        using var file = new DeadLetterFile(FilePath);
        file.Add(Source with { Path = "odd \ud800 name" }, 0, line, "no JSON");
        file.Add(Source, 1, [], "empty");
        file.Flush();
        Entries()[0].GetProperty("line_base64").GetBytesFromBase64().Should().Equal(line);
        Entries()[0].TryGetProperty("line", out _).Should().BeFalse();
        Entries()[1].GetProperty("line").GetString().Should().BeEmpty();
    }

    [Fact]
    public void Nothing_added_makes_no_file()
    {
        using (var file = new DeadLetterFile(FilePath)) file.Flush();
        File.Exists(FilePath).Should().BeFalse();
    }

    [Fact]
    public void Lines_are_added_to_those_that_are_there()
    {
        for (var run = 0; run < 3; run++)
        {
            using var file = new DeadLetterFile(FilePath);
            file.Add(Source, run, "line"u8, "reason");
            file.Flush();
        }

        Entries().Select(entry => entry.GetProperty("offset").GetInt64()).Should().Equal(0, 1, 2);
    }

    [Theory]
    [InlineData("{\"whole\":1}\n{\"torn\":\"half a li", 1)]
    [InlineData("{\"torn\":\"half a li", 0)]
    [InlineData("{\"whole\":1}\n", 1)]
    [InlineData("", 0)]
    public void Torn_last_line_of_a_crash_is_cut_off(string content, int wholeLines)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(FilePath)!);
        File.WriteAllText(FilePath, content);
        using var file = new DeadLetterFile(FilePath);
        file.Add(Source, 1, "line"u8, "reason");
        file.Flush();
        Entries().Should().HaveCount(wholeLines + 1);
    }

    [Fact]
    public void Torn_line_longer_than_a_buffer_is_cut_off_too()
    {
        Directory.CreateDirectory(Path.GetDirectoryName(FilePath)!);
        File.WriteAllText(FilePath, "{\"whole\":1}\n{\"torn\":\"" + new string('x', 300_000));
        using var file = new DeadLetterFile(FilePath);
        file.Add(Source, 1, "line"u8, "reason");
        file.Flush();
        Entries().Should().HaveCount(2);
    }

    [Fact]
    public void Full_file_refuses_the_line_and_stays_within_its_limit()
    {
        using var file = new DeadLetterFile(FilePath, maxBytes: 1000);
        var taken = 0;
        var refusal = FluentActions.Invoking(() =>
        {
            for (; ; taken++) file.Add(Source, taken, "line"u8, "reason");
        }).Should().Throw<DeadLetterFullException>().Which;
        refusal.Message.Should().Contain(FilePath).And.Contain("its limit is 1,000").And.Contain("raise the limit");
        taken.Should().BeGreaterThan(2);
        file.Flush();
        new FileInfo(FilePath).Length.Should().BeLessThanOrEqualTo(1000);
        Entries().Should().HaveCount(taken);
        FluentActions.Invoking(() => file.Add(Source, 0, "line"u8, "reason")).Should().Throw<DeadLetterFullException>();
        Entries().Should().HaveCount(taken);
    }

    [Fact]
    public void What_is_there_already_counts_towards_the_limit()
    {
        using (var first = new DeadLetterFile(FilePath, maxBytes: 1000))
        {
            first.Add(Source, 0, Line(600), "reason");
        }

        using var second = new DeadLetterFile(FilePath, maxBytes: 1000);
        FluentActions.Invoking(() => second.Add(Source, 0, Line(600), "reason")).Should().Throw<DeadLetterFullException>();
    }

    [Fact]
    public void Full_file_that_is_moved_away_makes_room_without_a_restart()
    {
        using var file = new DeadLetterFile(FilePath, maxBytes: 500);
        file.Add(Source, 1, Line(200), "reason");
        FluentActions.Invoking(() => file.Add(Source, 2, Line(200), "reason")).Should().Throw<DeadLetterFullException>();
        File.Move(FilePath, FilePath + ".old");
        file.Add(Source, 3, Line(200), "reason");
        file.Flush();
        Entries().Single().GetProperty("offset").GetInt64().Should().Be(3);
        File.ReadAllLines(FilePath + ".old").Should().HaveCount(1);
    }

    [Fact]
    public void Large_lines_and_many_lines_come_through_whole()
    {
        var large = new string('x', 1 << 20);
        using var file = new DeadLetterFile(FilePath);
        file.Add(Source, 0, Encoding.UTF8.GetBytes(large), "too long");
        for (var number = 1; number <= 5_000; number++) file.Add(Source, number, "line"u8, "reason");
        file.Flush();
        Entries().Select(entry => entry.GetProperty("offset").GetInt64()).Should().Equal(Enumerable.Range(0, 5_001).Select(number => (long)number));
        Entries()[0].GetProperty("line").GetString().Should().Be(large);
    }

    [Fact]
    public void Lines_of_two_loops_do_not_mix()
    {
        using var file = new DeadLetterFile(FilePath);
        Parallel.For(0, 2_000, number =>
        {
            file.Add(Source, number, "line"u8, "reason");
            if (number % 100 == 0) file.Flush();
        });
        file.Flush();
        Entries().Select(entry => entry.GetProperty("offset").GetInt64()).Should().BeEquivalentTo(Enumerable.Range(0, 2_000).Select(number => (long)number));
    }

    [Fact]
    public void Disk_that_refuses_is_told_and_nothing_is_doubled()
    {
        if (!File.Exists("/dev/full")) return; // Linux's device on which every write finds the disk full
        using var file = new DeadLetterFile("/dev/full");
        FluentActions.Invoking(() =>
        {
            file.Add(Source, 0, "line"u8, "reason");
            file.Flush();
        }).Should().Throw<IOException>();
    }
}
