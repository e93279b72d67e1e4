using System.Text;

namespace LogTrace.Tests.Shipper;

/// <summary>What becomes of one file, line by line.</summary>
public sealed class FileTailerTests
{
    [Fact]
    public void Whole_lines_arrive_in_order_with_their_offsets()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\ntwo\nthree\n");
        rig.Start().Ship();
        rig.Writer.Lines.Select(l => (l.Text, l.Offset)).Should().Equal(("one", 0L), ("two", 4L), ("three", 8L));
        rig.Writer.Lines.Select(l => l.Source.FileId).Distinct().Should().HaveCount(1);
        rig.Counts.ReadLines.Should().Be(3);
        rig.Counts.Balances.Should().BeTrue();
    }

    [Fact]
    public void The_trace_id_is_the_key()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", """{"name":"log.info","trace_id":"t-1","timestamp":1}""" + "\nno json\n");
        rig.Start().Ship();
        rig.Writer.Lines.Select(l => l.Key).Should().Equal("t-1", "");
    }

    [Fact]
    public void Torn_line_is_left_for_the_next_read()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\ntw");
        rig.Start().Ship();
        rig.Records.Should().Equal("one");
        rig.Pipeline.Snapshot().Files.Should().ContainSingle();
        rig.Append("a.log", "o\n");
        rig.Ship();
        rig.Records.Should().Equal("one", "two");
        rig.Arrivals.Should().HaveCount(2);
    }

    [Fact]
    public void Torn_line_is_completed_after_a_restart()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\ntw");
        rig.Start().Ship();
        rig.Stop();
        rig.Append("a.log", "o\nthree\n");
        rig.Start().Ship();
        rig.Arrivals.Should().Equal("one", "two", "three");
    }

    [Fact]
    public void One_carriage_return_is_taken_off_and_lone_ones_stay()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\r\nt\rwo\r\r\nthree\n");
        rig.Start().Ship();
        rig.Records.Should().Equal("one", "t\rwo\r", "three");
    }

    [Fact]
    public void Byte_order_mark_at_the_start_is_skipped()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", [0xef, 0xbb, 0xbf, (byte)'a', (byte)'\n', 0xef, 0xbb, 0xbf, (byte)'b', (byte)'\n']);
        rig.Start().Ship();
        rig.Records.Should().Equal("a", "\uFEFFb");
        rig.Writer.Lines[0].Offset.Should().Be(3);
    }

    [Fact]
    public void Empty_lines_are_counted_as_blank()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "\none\n\r\n\ntwo\n");
        rig.Start().Ship();
        rig.Records.Should().Equal("one", "two");
        rig.Counts.BlankLines.Should().Be(3);
        rig.Counts.ReadLines.Should().Be(5);
        rig.Counts.ReadBytes.Should().Be(12);
        rig.Counts.Balances.Should().BeTrue();
    }

    [Theory]
    [InlineData(5)]
    [InlineData(700_000)]
    public void Leading_NULs_are_skipped_and_counted(int nuls)
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\n");
        rig.Append("a.log", new byte[nuls]);
        rig.Start().Ship();
        rig.Append("a.log", "two\nthree\n");
        rig.Ship();
        rig.Records.Should().Equal("one", "two", "three");
        rig.Writer.Lines[1].Offset.Should().Be(4 + nuls);
        rig.Counts.NulBytes.Should().Be(nuls);
        rig.Counts.Balances.Should().BeTrue();
    }

    [Fact]
    public void NULs_after_a_byte_order_mark_are_skipped_and_counted()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", [0xef, 0xbb, 0xbf, 0, 0, .. "one\n"u8]);
        rig.Start().Ship();
        rig.Records.Should().Equal("one");
        rig.Writer.Lines[0].Offset.Should().Be(5);
        rig.Counts.NulBytes.Should().Be(2);
        rig.Counts.Balances.Should().BeTrue();
    }

    [Fact]
    public void Space_reserved_with_NULs_is_read_when_it_is_filled()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\n");
        rig.Append("a.log", new byte[400_000]);
        rig.Start().Ship();
        using (var file = new FileStream(rig.Log("a.log"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            file.Seek(4, SeekOrigin.Begin);
            file.Write("two\n"u8);
        }

        File.SetLastWriteTimeUtc(rig.Log("a.log"), DateTime.UtcNow.AddSeconds(5));
        rig.Ship();
        rig.Records.Should().Equal("one", "two");
    }

    [Fact]
    public void Invalid_UTF8_is_shipped_as_it_is()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", [0xff, 0xfe, (byte)'x', (byte)'\n']);
        rig.Start().Ship();
        var expected = new LogTrace.Transport.SourceFile("host", rig.Writer.Lines[0].Source.FileId, "").RecordIdAt(0, [0xff, 0xfe, (byte)'x']);
        rig.Writer.Lines[0].RecordId.Should().Be(expected);
    }

    [Fact]
    public void Longest_line_allowed_is_shipped_with_either_line_end()
    {
        using var rig = new ShipperRig();
        var longest = new string('x', 1024);
        rig.Append("a.log", $"{longest}\n{longest}\r\n{longest}");
        rig.Start().Ship();
        rig.Append("a.log", "\r\nend\n");
        rig.Ship();
        rig.Records.Should().Equal(longest, longest, longest, "end");
    }

    [Fact]
    public void A_line_at_every_length_around_the_buffer_comes_whole()
    {
        using var rig = new ShipperRig();
        var expected = new List<string>();
        for (var length = 1; length < 1000; length++) expected.Add(new string((char)('a' + (length % 26)), length));
        rig.Append("a.log", string.Join('\n', expected) + "\n");
        rig.Start().Ship();
        rig.Arrivals.Should().Equal(expected);
    }

    [Fact]
    public void Invalid_bytes_before_the_key_do_not_matter()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", Encoding.Latin1.GetBytes("\u00e9\u00e9\n"));
        rig.Start().Ship();
        rig.Counts.ShippedLines.Should().Be(1);
    }
}
