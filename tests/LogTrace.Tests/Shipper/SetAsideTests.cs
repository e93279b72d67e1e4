using LogTrace.Shipper;

namespace LogTrace.Tests.Shipper;

/// <summary>Lines that cannot be sent, and what happens when they cannot be set aside either.</summary>
public sealed class SetAsideTests
{
    [Theory]
    [InlineData(1025)]
    [InlineData(300_000)]
    [InlineData(3_000_000)]
    public void Too_long_line_is_set_aside_and_its_neighbours_are_shipped(int length)
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\n" + new string('x', length) + "\ntwo\n");
        rig.Start().Ship();
        rig.Stop();
        rig.Records.Should().Equal("one", "two");
        rig.DeadLetters.Should().ContainSingle().Which.Should().Contain("a.log").And.Contain($"{length:N0} bytes").And.Contain("xxxx");
        rig.DeadLetters[0].Length.Should().BeLessThan(4096);
        rig.Saved!.Counts.Should().BeEquivalentTo(new { ReadLines = 3, ShippedLines = 2, SetAsideLines = 1, SetAsideBytes = length + 1 });
    }

    [Fact]
    public void Too_long_line_written_in_parts_is_one_line_set_aside()
    {
        using var rig = new ShipperRig();
        rig.Start();
        for (var i = 0; i < 20; i++)
        {
            rig.Append("a.log", new string('x', 50_000));
            rig.Rounds(1);
        }

        rig.Append("a.log", "\r\none\n");
        rig.Ship();
        rig.Stop();
        rig.Records.Should().Equal("one");
        rig.DeadLetters.Should().ContainSingle().Which.Should().Contain("1,000,00");
        rig.Saved!.Counts.Balances.Should().BeTrue();
    }

    [Fact]
    public void Unfinished_end_of_a_deleted_file_is_set_aside()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\ntor");
        rig.Start().Ship();
        File.Delete(rig.Log("a.log"));
        rig.Ship();
        rig.Rounds(3);
        rig.Stop();
        rig.DeadLetters.Should().ContainSingle().Which.Should().Contain("deleted");
        rig.Saved!.Files.Should().BeEmpty();
        rig.Saved.Counts.Should().BeEquivalentTo(new { ReadLines = 2, ShippedLines = 1, SetAsideLines = 1 });
    }

    [Fact]
    public void Lines_that_the_other_side_refuses_are_set_aside()
    {
        using var rig = new ShipperRig();
        rig.Writer.Refuses = text => text == "two";
        rig.Append("a.log", "one\ntwo\nthree\n");
        rig.Start().Ship();
        rig.Stop();
        rig.Records.Should().Equal("one", "three");
        rig.DeadLetters.Should().ContainSingle().Which.Should().Contain("refused");
        rig.Saved!.Counts.Should().BeEquivalentTo(new { ReadLines = 3, ReadBytes = 14, ShippedLines = 2, ShippedBytes = 10, SetAsideLines = 1, SetAsideBytes = 4 });
    }

    [Fact]
    public void A_full_dead_letter_stops_reading_until_there_is_room()
    {
        using var rig = new ShipperRig(o => o with { DeadLetterBytes = 4096 });
        for (var i = 0; i < 10; i++) rig.Append("a.log", new string('x', 2000) + "\n");
        rig.Start();
        rig.Rounds(10);
        rig.Append("b.log", "waits\n");
        rig.Rounds(10);
        rig.Records.Should().BeEmpty();
        rig.Counts.ReadLines.Should().Be(0);
        for (var i = 0; i < 10 && rig.Records.Count == 0; i++)
        {
            File.Delete(rig.Options.DeadLetterPath);
            rig.Rounds(10);
        }

        rig.Ship();
        rig.Records.Should().Equal("waits");
        rig.Counts.Should().BeEquivalentTo(new { ReadLines = 11, SetAsideLines = 10 });
    }
}
