using System.Text;
using System.Text.Json;
using LogTrace.Shipper;

namespace LogTrace.Tests.Shipper;

/// <summary>Lines in the wrappers of container runtimes: parts are joined, whatever cuts them.</summary>
public sealed class ContainerFormatTests
{
    static ShipperRig Rig(LineFormat format) => new(options => options with { Format = format, MaxLineBytes = 4096, Paths = [Path.Combine(Path.GetDirectoryName(options.Paths[0])!, "0.log")] });

    static string Cri(string text, bool part = false, string stream = "stdout") => $"2026-11-23T07:00:00.123456789Z {stream} {(part ? 'P' : 'F')} {text}\n";

    static string Docker(string text, bool part = false, string stream = "stdout") =>
        JsonSerializer.Serialize(new { log = text + (part ? "" : "\n"), stream, time = "2026-11-23T07:00:00.123456789Z" }) + "\n";

    static string Wrap(LineFormat format, string text, bool part = false, string stream = "stdout") => format == LineFormat.Cri ? Cri(text, part, stream) : Docker(text, part, stream);

    [Theory]
    [InlineData(LineFormat.Cri)]
    [InlineData(LineFormat.Docker)]
    public void Text_is_taken_out_with_its_key_and_parts_are_joined(LineFormat format)
    {
        using var rig = Rig(format);
        var record = """{"name":"log.info","trace_id":"t-1","msg":"a \"quoted\" é"}""";
        var first = Wrap(format, record);
        rig.Append("0.log", first + Wrap(format, "one ", part: true) + Wrap(format, "and ", part: true) + Wrap(format, "a half") + Wrap(format, "") + Wrap(format, "last"));

        rig.Start().Ship();

        rig.Arrivals.Should().Equal(record, "one and a half", "last");
        rig.Writer.Lines.Select(line => line.Key).Should().Equal("t-1", "", "");
        rig.Writer.Lines[1].Offset.Should().Be(Encoding.UTF8.GetByteCount(first), "a line is where its first part is");
        rig.Counts.Should().BeEquivalentTo(new { ReadLines = 4L, ShippedLines = 3L, BlankLines = 1L, Balances = true, ReadBytes = new FileInfo(rig.Log("0.log")).Length });
    }

    [Theory]
    [InlineData(LineFormat.Cri)]
    [InlineData(LineFormat.Docker)]
    public void Streams_do_not_mix(LineFormat format)
    {
        using var rig = Rig(format);
        rig.Append("0.log", Wrap(format, "out ", part: true) + Wrap(format, "err ", part: true, "stderr") + Wrap(format, "whole", stream: "stderr").Replace("whole", "two") + Wrap(format, "one"));

        rig.Start().Ship();

        rig.Arrivals.Should().BeEquivalentTo("err two", "out one");
        rig.Counts.Balances.Should().BeTrue();
    }

    [Theory]
    [InlineData(LineFormat.Cri)]
    [InlineData(LineFormat.Docker)]
    public void Part_waits_for_the_rest_and_nothing_is_sent_twice(LineFormat format)
    {
        using var rig = Rig(format);
        rig.Append("0.log", Wrap(format, "before") + Wrap(format, "one ", part: true) + Wrap(format, "between", stream: "stderr"));
        rig.Start().Rounds(3);
        rig.Arrivals.Should().Equal("before");
        rig.Append("0.log", Wrap(format, "half"));

        rig.Ship();

        rig.Arrivals.Should().BeEquivalentTo("before", "between", "one half");
    }

    [Theory]
    [InlineData(LineFormat.Cri)]
    [InlineData(LineFormat.Docker)]
    public void Crash_between_the_parts_of_a_line_reads_it_again_from_its_first_part(LineFormat format)
    {
        using var rig = Rig(format);
        rig.Append("0.log", Wrap(format, "before") + Wrap(format, "one ", part: true));
        rig.Start().Rounds(3);
        rig.Crash();
        rig.Append("0.log", Wrap(format, "and ", part: true));
        rig.Start().Rounds(3);
        rig.Crash();
        rig.Append("0.log", Wrap(format, "a half") + Wrap(format, "after"));

        rig.Start().Ship();

        rig.Records.Should().Equal("before", "one and a half", "after");
        rig.Counts.ReadLines.Should().Be(3);
    }

    [Theory]
    [InlineData(LineFormat.Cri, false)]
    [InlineData(LineFormat.Docker, false)]
    [InlineData(LineFormat.Cri, true)]
    [InlineData(LineFormat.Docker, true)]
    public void Line_cut_by_a_rotation_is_joined_over_the_two_files(LineFormat format, bool whileDown)
    {
        using var rig = Rig(format);
        rig.Append("0.log", Wrap(format, "before") + Wrap(format, "one ", part: true) + Wrap(format, "error", stream: "stderr"));
        rig.Start().Rounds(3);
        var file = rig.Writer.Lines[0].Source.FileId;
        if (whileDown) rig.Stop();
        rig.Move("0.log", "0.log.20261123-070000");
        rig.Append("0.log", Wrap(format, "and ", part: true) + Wrap(format, "a half") + Wrap(format, "after"));
        if (whileDown) rig.Start();

        rig.Ship();

        rig.Arrivals.Should().BeEquivalentTo("before", "error", "one and a half", "after");
        rig.Writer.Lines.Single(line => line.Text == "one and a half").Source.FileId.Should().Be(file, "it is a line of the file in which it began");
        rig.Counts.Should().BeEquivalentTo(new { ReadLines = 4L, ShippedLines = 4L, Balances = true });
        rig.Stop();
        rig.Start().Ship();
        rig.Arrivals.Should().HaveCount(4);
    }

    [Theory]
    [InlineData(LineFormat.Cri)]
    [InlineData(LineFormat.Docker)]
    public void Line_cut_by_a_rotation_is_sent_again_from_its_first_part_when_it_was_not_acknowledged(LineFormat format)
    {
        using var rig = Rig(format);
        rig.Append("0.log", Wrap(format, "one ", part: true));
        rig.Start().Rounds(3);
        rig.Move("0.log", "0.log.20261123-070000");
        rig.Writer.IsHeld = true;
        rig.Append("0.log", Wrap(format, "half"));
        rig.Rounds(3);
        rig.Writer.HeldBatches.Should().Be(1);
        rig.Writer.FailAll();
        rig.Writer.IsHeld = false;

        rig.Ship();

        rig.Records.Should().Equal("one half");
        rig.Counts.Balances.Should().BeTrue();
    }

    [Fact]
    public void Parts_whose_rest_never_comes_are_shipped_when_their_file_is_deleted()
    {
        using var rig = Rig(LineFormat.Cri);
        rig.Append("0.log", Cri("before") + Cri("never finished", part: true) + "2026-11-23T07");
        rig.Start().Rounds(2);
        File.Delete(rig.Log("0.log"));

        rig.Ship();
        rig.Rounds(3);

        rig.Arrivals.Should().Equal("before", "never finished");
        rig.DeadLetters.Should().ContainSingle().Which.Should().Contain("2026-11-23T07");
        rig.Counts.Balances.Should().BeTrue();
    }

    [Theory]
    [InlineData(LineFormat.Cri)]
    [InlineData(LineFormat.Docker)]
    public void Line_joined_to_more_than_the_limit_is_set_aside_and_its_neighbours_are_shipped(LineFormat format)
    {
        using var rig = Rig(format);
        var parts = string.Concat(Enumerable.Repeat(Wrap(format, new string('x', 1_000), part: true), 10));
        rig.Append("0.log", Wrap(format, "before") + parts + Wrap(format, "end") + Wrap(format, "after"));

        rig.Start().Ship();

        rig.Arrivals.Should().Equal("before", "after");
        rig.Stop();
        rig.DeadLetters.Should().ContainSingle().Which.Should().Contain("10,003 bytes");
    }

    [Fact]
    public void Line_without_end_does_not_stop_its_file()
    {
        using var rig = Rig(LineFormat.Cri);
        var part = Cri(new string('x', 10_000), part: true);
        for (var i = 0; i < 100; i++) rig.Append("0.log", part);
        rig.Append("0.log", Cri("end") + Cri("after"));

        rig.Start().Ship();

        rig.Arrivals.Should().EndWith("after");
        rig.Counts.SetAsideLines.Should().BeGreaterThan(0);
        rig.Counts.Balances.Should().BeTrue();
    }

    [Theory]
    [InlineData(LineFormat.Cri, "no wrapper at all")]
    [InlineData(LineFormat.Cri, "2026-11-23T07:00:00Z stdnone F text")]
    [InlineData(LineFormat.Docker, "no wrapper at all")]
    [InlineData(LineFormat.Docker, """{"log":5}""")]
    [InlineData(LineFormat.Docker, """{"log":"half""")]
    public void What_no_runtime_wrote_is_shipped_as_it_is(LineFormat format, string line)
    {
        using var rig = Rig(format);
        rig.Append("0.log", line + "\n" + Wrap(format, "after"));

        rig.Start().Ship();

        rig.Arrivals.Should().Equal(line, "after");
    }

    /// <summary>Cut at any byte by a stop, continued by any rest: every line arrives once.</summary>
    [Theory]
    [InlineData(LineFormat.Cri)]
    [InlineData(LineFormat.Docker)]
    public void Cut_at_any_byte_every_line_arrives_once(LineFormat format)
    {
        var all = Encoding.UTF8.GetBytes(Wrap(format, "a", part: true) + Wrap(format, "x", part: true, "stderr") + Wrap(format, "b") + Wrap(format, "y", stream: "stderr") + Wrap(format, "c"));
        for (var cut = 1; cut < all.Length; cut += 7)
        {
            using var rig = Rig(format);
            rig.Append("0.log", all[..cut]);
            rig.Start().Rounds(2);
            rig.Crash();
            rig.Append("0.log", all[cut..]);

            rig.Start().Ship();

            rig.Arrivals.Should().BeEquivalentTo(["ab", "xy", "c"], $"cut at byte {cut}");
        }
    }
}
