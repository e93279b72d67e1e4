using LogTrace.Shipper;
using LogTrace.Tests.Support;
using Microsoft.Extensions.Logging.Abstractions;

namespace LogTrace.Tests.Shipper;

/// <summary>Batches, acknowledgements, failures, stops.</summary>
public sealed class ShipperPipelineTests
{
    static readonly string Thousand = string.Concat(Enumerable.Range(0, 1000).Select(i => $"line {i:d4}\n"));

    static ShipperRig SmallBatches() => new(o => o with { BatchBytes = 1024, MaxInFlightBatches = 4 });

    [Fact]
    public void Nothing_is_sent_before_the_file_id_is_in_the_checkpoint()
    {
        using var rig = new ShipperRig();
        rig.Writer.IsHeld = true;
        rig.Append("a.log", "one\n");
        rig.Start().Turn();
        rig.Writer.HeldBatches.Should().Be(1);
        rig.Saved!.Files.Should().ContainSingle().Which.Offset.Should().Be(0);
        rig.Writer.Release();
        rig.Saved.Files[0].FileId.Should().Be(rig.Writer.Lines[0].Source.FileId);
    }

    [Fact]
    public void The_checkpoint_moves_only_over_acknowledged_lines()
    {
        using var rig = SmallBatches();
        rig.Writer.IsHeld = true;
        rig.Append("a.log", Thousand);
        rig.Start().Rounds(3);
        rig.Writer.HeldBatches.Should().Be(4);
        rig.Writer.ReleaseAt(1);
        rig.Writer.ReleaseAt(2);
        rig.Rounds(1);
        rig.Saved!.Files[0].Offset.Should().Be(0);
        rig.Counts.ReadLines.Should().Be(0);
        rig.Writer.ReleaseAt(0);
        rig.Rounds(1);
        var afterSecond = rig.Writer.Lines.Count(l => l.Offset < rig.Saved!.Files[0].Offset);
        afterSecond.Should().BeGreaterThan(100).And.Be((int)rig.Counts.ReadLines);
        rig.Writer.Lines.Count.Should().BeGreaterThan(afterSecond);
    }

    [Fact]
    public void After_a_crash_what_was_not_acknowledged_is_sent_again_as_the_same_records()
    {
        using var rig = SmallBatches();
        rig.Append("a.log", Thousand);
        rig.Start().Turn();
        rig.Writer.IsHeld = true;
        rig.Rounds(2);
        rig.Crash();
        rig.Writer.Forget(arrived: 3);
        rig.Writer.IsHeld = false;
        rig.Start().Ship();
        rig.Arrivals.Count.Should().BeGreaterThan(1000);
        rig.Records.Should().Equal(Thousand.TrimEnd('\n').Split('\n'));
        rig.Counts.ReadLines.Should().Be(1000);
        rig.Counts.Balances.Should().BeTrue();
    }

    [Fact]
    public void Counts_survive_restarts()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\n\n");
        rig.Start().Ship();
        rig.Stop();
        rig.Append("a.log", "two\n");
        rig.Start().Ship();
        rig.Stop();
        rig.Saved!.Counts.Should().BeEquivalentTo(new { ReadLines = 3, ReadBytes = 9, ShippedLines = 2, ShippedBytes = 8, BlankLines = 1, BlankBytes = 1, SetAsideLines = 0 });
    }

    [Fact]
    public void When_the_other_side_fails_lines_are_read_again_in_order_after_a_pause()
    {
        using var rig = SmallBatches();
        rig.Append("a.log", Thousand);
        rig.Writer.IsHeld = true;
        rig.Start().Rounds(2);
        rig.Writer.Release(1);
        rig.Writer.FailAll(arrived: 1);
        rig.Writer.IsDown = true;
        rig.Turn();
        var tries = rig.Writer.Batches;
        rig.Turn(search: false).Should().BeFalse();
        rig.Writer.Batches.Should().Be(tries, "it waits before it tries again");
        rig.Rounds(100);
        rig.Writer.Batches.Should().BeLessThan(tries + 20, "the pauses grow");
        rig.Writer.IsDown = rig.Writer.IsHeld = false;
        rig.Ship();
        rig.Records.Should().Equal(Thousand.TrimEnd('\n').Split('\n'));
        rig.Counts.ShippedLines.Should().Be(1000);
    }

    [Fact]
    public void New_files_are_opened_while_the_other_side_is_down()
    {
        using var rig = new ShipperRig();
        rig.Writer.IsDown = true;
        rig.Append("a.log", "one\n");
        rig.Start().Rounds(2);
        rig.Append("b.log", "two\n");
        rig.Rounds(1);
        File.Delete(rig.Log("b.log"));
        rig.Rounds(5);
        rig.Writer.IsDown = false;
        rig.Ship();
        rig.Records.Should().BeEquivalentTo("one", "two");
    }

    [Fact]
    public void A_busy_file_does_not_hold_up_a_quiet_one()
    {
        using var rig = SmallBatches();
        rig.Append("busy.log", string.Concat(Enumerable.Repeat(Thousand, 500)));
        rig.Append("quiet.log", "quiet\n");
        File.SetLastWriteTimeUtc(rig.Log("quiet.log"), DateTime.UtcNow.AddMinutes(1));
        rig.Start();
        for (var i = 0; i < 4; i++) rig.Turn();
        rig.Arrivals.Should().Contain("quiet");
    }

    [Fact]
    public void The_shippers_own_files_are_never_read()
    {
        using var rig = new ShipperRig(o => o with { Paths = [Path.GetDirectoryName(o.DataDirectory) + "/**/*"] });
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Rounds(5);
        rig.Arrivals.Should().Equal("one");
    }

    [Fact]
    public void A_damaged_checkpoint_loses_nothing_and_doubles_nothing()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", Thousand);
        rig.Start().Ship();
        rig.Append("a.log", "one\n");
        rig.Truncate("a.log", 50);
        rig.Append("b.log", "two\n");
        rig.Ship();
        rig.Stop();
        var slots = Directory.GetFiles(rig.Options.StateDirectory, "checkpoint-*");
        var expected = rig.Records.Count;
        foreach (var cut in (int[])[0, 100, 500])
        {
            foreach (var slot in slots) File.WriteAllBytes(slot, File.ReadAllBytes(slot).Take(cut).ToArray());
            rig.Start().Ship();
            rig.Stop();
            rig.Records.Count(r => r == "two").Should().Be(1);
            rig.Records.Should().HaveCountLessThanOrEqualTo(expected + 5, "the emptied generation is all that may get another id when every checkpoint is gone");
        }
    }

    [Fact]
    public async Task Once_ends_when_everything_is_shipped()
    {
        using var rig = new ShipperRig(o => o with { Once = true });
        rig.Append("a.log", Thousand + "torn");
        using var pipeline = new ShipperPipeline(rig.Options, rig.Writer, NullLogger<ShipperPipeline>.Instance);
        await pipeline.RunAsync(CancellationToken.None).Within();
        rig.Arrivals.Should().HaveCount(1000);
        pipeline.Snapshot().Counts.Balances.Should().BeTrue();
        pipeline.Snapshot().Files.Should().ContainSingle().Which.UnfinishedBytes.Should().Be(4);
        rig.Saved!.Counts.ReadLines.Should().Be(1000);
    }

    [Fact]
    public async Task Caught_up_means_that_all_is_acknowledged_and_saved()
    {
        using var rig = new ShipperRig();
        using var stop = new CancellationTokenSource();
        rig.Append("a.log", "one\n");
        using var pipeline = new ShipperPipeline(rig.Options, rig.Writer, NullLogger<ShipperPipeline>.Instance);
        var run = pipeline.RunAsync(stop.Token);
        await pipeline.WaitUntilCaughtUpAsync().Within();
        rig.Saved!.Counts.ReadLines.Should().Be(1);
        rig.Append("a.log", "two\n");
        rig.Append("b.log", "three\n");
        await pipeline.WaitUntilCaughtUpAsync().Within();
        rig.Saved!.Counts.ReadLines.Should().Be(3);
        await stop.CancelAsync();
        await run.Within();
    }

    [Fact]
    public async Task A_stop_waits_for_acknowledgements_and_saves()
    {
        using var rig = new ShipperRig();
        using var stop = new CancellationTokenSource();
        rig.Writer.IsHeld = true;
        rig.Append("a.log", "one\n");
        using var pipeline = new ShipperPipeline(rig.Options, rig.Writer, NullLogger<ShipperPipeline>.Instance);
        var run = pipeline.RunAsync(stop.Token);
        await Eventually.HoldsAsync(() => rig.Writer.HeldBatches == 1, "a batch is on its way");
        await stop.CancelAsync();
        run.IsCompleted.Should().BeFalse();
        rig.Writer.Release();
        await run.Within();
        rig.Saved!.Counts.ReadLines.Should().Be(1);
    }

    [Fact]
    public async Task A_stop_does_not_wait_beyond_its_limit()
    {
        using var rig = new ShipperRig(o => o with { StopLimit = TimeSpan.FromMilliseconds(50) });
        using var stop = new CancellationTokenSource();
        rig.Writer.IsHeld = true;
        rig.Append("a.log", "one\n");
        using var pipeline = new ShipperPipeline(rig.Options, rig.Writer, NullLogger<ShipperPipeline>.Instance);
        var run = pipeline.RunAsync(stop.Token);
        await Eventually.HoldsAsync(() => rig.Writer.HeldBatches == 1, "a batch is on its way");
        await stop.CancelAsync();
        await run.Within();
        rig.Saved!.Files[0].Offset.Should().Be(0);
    }

    [Fact]
    public void Options_report_all_problems_at_once()
    {
        var problems = new ShipperOptions { MaxLineBytes = 0, PollInterval = TimeSpan.Zero }.Validate();
        problems.Should().HaveCount(3);
        problems.Should().Contain("Shipper:MaxLineBytes is 0; it must be between 1,024 and 16,777,216 bytes.");
        FluentActions.Invoking(() => new ShipperPipeline(new ShipperOptions(), new CollectingWriter(), NullLogger<ShipperPipeline>.Instance)).Should().Throw<ArgumentException>();
    }
}
