using System.Text;
using LogTrace.Shipper;

namespace LogTrace.Tests.Shipper;

/// <summary>The same where the kernel tells of nothing.</summary>
public sealed class RotationWithoutHintsTests : RotationTests
{
    protected override bool HasHints => false;
}

/// <summary>What becomes of files that are renamed, copied, emptied, deleted and made again.</summary>
public class RotationTests
{
    protected virtual bool HasHints => true;

    ShipperRig Rig(Func<ShipperOptions, ShipperOptions>? with = null) => new(o => (with is null ? o : with(o)) with { Hints = HasHints });

    // Long enough that equal beginnings are no coincidence.
    static readonly string LongStart = string.Concat(Enumerable.Range(0, 40).Select(i => $"a line of some length, number {i}\n"));

    [Fact]
    public void Renamed_file_is_read_to_its_end_beside_the_new_one()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Append("a.log", "two\n");
        rig.Move("a.log", "a.log.1");
        rig.Append("a.log.1", "three\n");
        rig.Append("a.log", "four\n");
        rig.Ship();
        rig.Append("a.log.1", "five\n");
        rig.Ship();
        rig.Arrivals.Should().BeEquivalentTo("one", "two", "three", "four", "five");
        rig.Writer.Lines.Where(l => l.Text is "one" or "two" or "three" or "five").Select(l => l.Source.FileId).Distinct().Should().HaveCount(1);
        rig.Writer.Lines[^1].Source.Path.Should().Be(rig.Log("a.log.1"));
    }

    [Fact]
    public void Renamed_within_the_pattern_is_not_sent_again()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Move("a.log", "b.log");
        rig.Append("a.log", "two\n");
        rig.Ship();
        rig.Stop();
        rig.Move("b.log", "c.log");
        rig.Move("a.log", "b.log");
        rig.Start().Ship();
        rig.Arrivals.Should().Equal("one", "two");
    }

    [Theory]
    [InlineData("a.log.1")]
    [InlineData("rest.log")]
    public void Renamed_while_the_shipper_is_down_goes_on_where_it_stopped(string newName)
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Stop();
        rig.Append("a.log", "two\n");
        rig.Move("a.log", newName);
        rig.Append("a.log", "three\n");
        rig.Start().Ship();
        rig.Arrivals.Should().BeEquivalentTo("one", "two", "three");
        rig.Writer.Lines.Where(l => l.Text != "three").Select(l => l.Source.FileId).Distinct().Should().HaveCount(1);
    }

    [Fact]
    public void Rotated_several_times_while_the_shipper_is_down_loses_nothing()
    {
        using var rig = Rig();
        rig.Append("a.log", "long ago\n");
        File.Move(rig.Log("a.log"), rig.Log("a.log.9"));
        rig.Append("a.log", "one\n");
        AwaitNextBirth(rig);
        rig.Start().Ship();
        rig.Stop();
        AwaitNextBirth(rig);
        for (var i = 1; i < 4; i++)
        {
            rig.Append("a.log", $"more {i}\n");
            rig.Move("a.log", $"a.log.{i}");
            rig.Append($"a.log.{i}", "after the rename\n");
        }

        rig.Append("a.log.note", "not a rotation\n");
        rig.Append("a.log", "last\n");
        rig.Start().Ship();
        rig.Records.Should().BeEquivalentTo("one", "more 1", "after the rename", "more 2", "after the rename", "more 3", "after the rename", "last");
        rig.Ship();
        rig.Arrivals.Should().HaveCount(8);
    }

    [Fact]
    public void Copies_that_were_there_before_the_first_start_are_not_read()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        AwaitNextBirth(rig);
        File.Copy(rig.Log("a.log"), rig.Log("a.log.1"));
        rig.Truncate("a.log");
        rig.Append("a.log", "two\n");
        rig.Start().Ship();
        rig.Rounds(5);
        rig.Stop();
        rig.Start().Ship();
        rig.Arrivals.Should().Equal("two");
    }

    [Fact]
    public void Renamed_into_another_directory_is_followed_through_the_open_file()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Append("a.log", "two\n");
        rig.Move("a.log", "old/a.log");
        rig.Turn();
        rig.Stop();
        rig.Append("old/a.log", "three\n");
        rig.Start().Ship();
        rig.Arrivals.Should().Equal("one", "two", "three");
    }

    [Fact]
    public void A_chain_of_renames_is_followed_with_few_open_files()
    {
        using var rig = Rig(o => o with { MaxOpenFiles = 1 });
        rig.Start();
        var written = new List<string>();
        for (var round = 0; round < 6; round++)
        {
            rig.Append("a.log", $"first {round}\n");
            rig.Ship();
            rig.Append("a.log", $"second {round}\n");
            for (var i = round; i >= 1; i--) rig.Move($"a.log.{i}", $"a.log.{i + 1}");
            rig.Move("a.log", "a.log.1");
            written.AddRange([$"first {round}", $"second {round}"]);
        }

        rig.Ship();
        rig.Arrivals.Should().BeEquivalentTo(written);
    }

    [Fact]
    public void Emptied_file_starts_a_new_generation_whose_equal_lines_are_other_records()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\ntwo\n");
        rig.Start().Ship();
        rig.Truncate("a.log");
        rig.Append("a.log", "one\n");
        rig.Ship();
        rig.Records.Should().Equal("one", "two", "one");
        rig.Counts.ReadLines.Should().Be(3);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Emptied_and_grown_past_the_old_offset_is_read_from_the_start(bool whileDown)
    {
        using var rig = Rig();
        rig.Append("a.log", "one\ntwo\n");
        rig.Start().Ship();
        if (whileDown) rig.Stop();
        rig.Truncate("a.log");
        rig.Append("a.log", "another beginning, longer than what was there\nlast\n");
        if (whileDown) rig.Start();
        rig.Ship();
        rig.Arrivals.Should().Equal("one", "two", "another beginning, longer than what was there", "last");
    }

    [Fact]
    public void Overwritten_with_as_many_other_bytes_is_read_from_the_start()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\ntwo\n");
        rig.Start().Ship();
        rig.Truncate("a.log");
        rig.Append("a.log", "six\nten\n");
        File.SetLastWriteTimeUtc(rig.Log("a.log"), DateTime.UtcNow.AddSeconds(7));
        rig.Ship();
        rig.Arrivals.Should().Equal("one", "two", "six", "ten");
    }

    [Theory]
    [InlineData("a.log.1", false)]
    [InlineData("a-1.log", false)]
    [InlineData("a.log.1", true)]
    [InlineData("a-1.log", true)]
    public void Copytruncate_loses_nothing_and_sends_nothing_again(string copy, bool whileDown)
    {
        using var rig = Rig();
        rig.Append("a.log", "one\ntwo\n");
        rig.Start().Ship();
        if (whileDown) rig.Stop();
        rig.Append("a.log", "three\n");
        File.Copy(rig.Log("a.log"), rig.Log(copy));
        rig.Truncate("a.log");
        rig.Append("a.log", "four\n");
        if (whileDown) rig.Start();
        rig.Ship();
        rig.Arrivals.Should().BeEquivalentTo("one", "two", "three", "four");
        rig.Writer.Lines.Where(l => l.Text != "four").Select(l => l.Source.FileId).Distinct().Should().HaveCount(1);
        rig.Counts.LostBytes.Should().Be(0);
        rig.Stop();
        rig.Start().Ship();
        rig.Arrivals.Should().HaveCount(4);
    }

    [Fact]
    public void Copytruncate_while_the_other_side_is_down_loses_nothing()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Writer.IsHeld = true;
        rig.Append("a.log", "two\n");
        rig.Turn();
        rig.Append("a.log", "three\n");
        File.Copy(rig.Log("a.log"), rig.Log("a.log.1"));
        rig.Truncate("a.log");
        rig.Append("a.log", "four\n");
        rig.Rounds(3);
        rig.Writer.FailAll();
        rig.Writer.IsHeld = false;
        rig.Ship();
        rig.Records.Should().BeEquivalentTo("one", "two", "three", "four");
        rig.Counts.LostBytes.Should().Be(0);
    }

    [Fact]
    public void A_copy_seen_before_its_original_is_emptied_waits_for_that()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\ntwo\n");
        rig.Start().Ship();
        File.Copy(rig.Log("a.log"), rig.Log("a-1.log"));
        rig.Rounds(2);
        rig.Truncate("a.log");
        rig.Append("a.log", "three\n");
        rig.Ship();
        rig.Arrivals.Should().Equal("one", "two", "three");
    }

    [Fact]
    public void A_plain_copy_of_a_long_file_is_not_sent_again_and_its_own_lines_are()
    {
        using var rig = Rig();
        rig.Append("a.log", LongStart);
        rig.Start().Ship();
        File.Copy(rig.Log("a.log"), rig.Log("b.log"));
        rig.Append("a.log", "more of a\n");
        rig.Ship();
        rig.Append("b.log", "more of b\n");
        rig.Ship();
        rig.Arrivals.Should().HaveCount(42).And.EndWith(["more of a", "more of b"]);
    }

    [Fact]
    [Trait("Fault", "25")]
    public void Two_files_that_begin_alike_are_both_read()
    {
        using var rig = Rig();
        rig.Append("a.log", "started\n");
        rig.Start().Ship();
        rig.Append("b.log", "started\n");
        rig.Append("c.log", "started\nand different\n");
        rig.Ship();
        rig.Append("b.log", "b\n");
        rig.Ship();
        rig.Records.Should().BeEquivalentTo("started", "started", "started", "and different", "b");
    }

    [Fact]
    [Trait("Fault", "25")]
    public void Long_equal_beginnings_with_different_ends_are_both_read()
    {
        using var rig = Rig();
        rig.Append("a.log", LongStart + "a\n");
        rig.Start().Ship();
        rig.Append("b.log", LongStart + "b\n");
        rig.Ship();
        rig.Arrivals.Should().HaveCount(82);
    }

    [Fact]
    [Trait("Fault", "25")]
    public void Empty_files_are_not_alike()
    {
        using var rig = Rig();
        rig.Append("a.log", "");
        rig.Append("b.log", "");
        rig.Start().Ship();
        rig.Append("a.log", "one\n");
        rig.Append("b.log", "one\n");
        rig.Ship();
        rig.Records.Should().Equal("one", "one");
    }

    [Fact]
    public void Deleted_while_open_is_finished_and_let_go()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Writer.IsDown = true;
        rig.Append("a.log", "two\n");
        File.Delete(rig.Log("a.log"));
        rig.Rounds(3);
        rig.Writer.IsDown = false;
        rig.Ship();
        rig.Arrivals.Should().Equal("one", "two");
        rig.Rounds(5);
        rig.Pipeline.Snapshot().Files.Should().BeEmpty();
        rig.Saved!.Files.Should().BeEmpty();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_name_made_again_is_a_new_file_even_with_equal_content(bool whileDown)
    {
        using var rig = Rig(o => o with { DeletedGrace = TimeSpan.FromSeconds(5) });
        rig.Append("a.log", LongStart);
        rig.Start().Ship();
        if (whileDown) rig.Stop();
        File.Delete(rig.Log("a.log"));
        if (whileDown) AwaitNextBirth(rig);
        rig.Append("a.log", LongStart);
        if (whileDown) rig.Start();
        rig.Ship();
        rig.Records.Should().HaveCount(80);
    }

    [Fact]
    public void A_reused_inode_is_a_new_file()
    {
        using var rig = Rig();
        for (var i = 0; i < 5; i++)
        {
            rig.Append($"{i}.log", $"same\n{i}\n");
            rig.Start().Ship();
            rig.Rounds(2);
            rig.Stop();
            File.Delete(rig.Log($"{i}.log"));
            AwaitNextBirth(rig);
        }

        rig.Records.Should().Equal("same", "0", "same", "1", "same", "2", "same", "3", "same", "4");
    }

    // The kernel gives times of birth in steps of a few milliseconds; without this the same moment could be met.
    static void AwaitNextBirth(ShipperRig rig)
    {
        rig.Append("probe", "");
        var first = LogTrace.Shipper.FileStatus.OfPath(rig.Log("probe"))!.Value.BirthNanos;
        for (var now = first; now == first && first != 0;)
        {
            rig.Append("probe2", "");
            now = LogTrace.Shipper.FileStatus.OfPath(rig.Log("probe2"))!.Value.BirthNanos;
            File.Delete(rig.Log("probe2"));
        }
    }

    [Fact]
    public void A_writer_that_keeps_its_position_over_a_truncation_leaves_NULs_that_are_skipped()
    {
        using var rig = Rig();
        using var writer = new FileStream(rig.Log("a.log"), FileMode.Create, FileAccess.Write, FileShare.ReadWrite);
        writer.Write(Encoding.ASCII.GetBytes(LongStart));
        writer.Flush();
        rig.Start().Ship();
        File.Copy(rig.Log("a.log"), rig.Log("a.log.1"));
        rig.Truncate("a.log");
        writer.Write("after\n"u8);
        writer.Flush();
        rig.Ship();
        rig.Arrivals.Should().HaveCount(41).And.EndWith("after");
        rig.Counts.NulBytes.Should().Be(LongStart.Length);
    }

    [Fact]
    [Trait("Fault", "26")]
    public void Compressed_files_are_not_read()
    {
        using var rig = Rig(o => o with { Paths = [o.Paths[0] + "*"] });
        rig.Append("a.log", "one\n");
        rig.Append("a.log.1.gz", [0x1f, 0x8b, 8, 0, 10, 10, 10]);
        rig.Start().Ship();
        rig.Arrivals.Should().Equal("one");
    }

    [Theory]
    [Trait("Fault", "24")]
    [InlineData(1)]
    [InlineData(-1)]
    public void Clock_that_jumps_by_a_day_and_files_of_any_age_change_nothing(int days)
    {
        using var rig = Rig();
        rig.Append("old.log", "one\n");
        File.SetLastWriteTimeUtc(rig.Log("old.log"), DateTime.UnixEpoch);
        rig.Append("new.log", "two\n");
        File.SetLastWriteTimeUtc(rig.Log("new.log"), new DateTime(2099, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        rig.Start().Ship();
        rig.Time.AdjustTime(rig.Time.GetUtcNow().AddDays(days));
        rig.Append("old.log", "three\n");
        File.SetLastWriteTimeUtc(rig.Log("old.log"), DateTime.UnixEpoch.AddSeconds(1));
        rig.Ship();
        rig.Stop();
        rig.Time.AdjustTime(rig.Time.GetUtcNow().AddDays(-2 * days));
        rig.Append("new.log", "four\n");
        rig.Start().Ship();
        rig.Arrivals.Should().BeEquivalentTo("one", "two", "three", "four");
    }

    [Fact]
    [Trait("Fault", "28")]
    public void Device_number_that_changed_with_a_remount_sends_nothing_again()
    {
        using var rig = Rig();
        rig.Append("a.log", LongStart);
        rig.Start().Ship();
        rig.Stop();
        using (var state = LogTrace.Shipper.CheckpointFile.Open(rig.Options.StateDirectory))
        {
            var checkpoint = state.Load(out _);
            state.Save(checkpoint with { Files = [.. checkpoint.Files.Select(file => file with { Device = file.Device + 1 })] });
        }

        rig.Append("a.log", "more\n");
        rig.Start().Ship();

        rig.Arrivals.Should().HaveCount(41).And.EndWith("more");
        rig.Writer.Lines.Select(line => line.Source.FileId).Distinct().Should().HaveCount(1);
    }

    [Fact]
    public void More_files_than_may_be_open_are_all_read()
    {
        using var rig = Rig(o => o with { MaxOpenFiles = 3 });
        for (var i = 0; i < 10; i++) rig.Append($"{i}.log", $"first of {i}\n");
        rig.Start().Ship();
        for (var i = 0; i < 10; i++) rig.Append($"{i}.log", $"second of {i}\n");
        rig.Ship();
        rig.Arrivals.Should().BeEquivalentTo(Enumerable.Range(0, 10).SelectMany(i => (string[])[$"first of {i}", $"second of {i}"]));
    }

    [Fact]
    public void Lines_emptied_before_they_were_read_are_counted_as_lost()
    {
        using var rig = Rig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Writer.IsHeld = true;
        rig.Append("a.log", "two\n");
        rig.Turn();
        rig.Truncate("a.log");
        rig.Rounds(2);
        rig.Writer.FailAll();
        rig.Writer.IsHeld = false;
        rig.Ship();
        rig.Rounds(2);
        rig.Counts.LostBytes.Should().Be(4);
        rig.Counts.Balances.Should().BeTrue();
    }
}
