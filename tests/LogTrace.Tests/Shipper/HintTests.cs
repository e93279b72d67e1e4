using System.Globalization;
using LogTrace.Shipper;
using LogTrace.Tests.Support;
using Microsoft.Extensions.Time.Testing;

namespace LogTrace.Tests.Shipper;

/// <summary>The kernel tells of changes, and what becomes of files when it does not.</summary>
public sealed class HintTests
{
    // Longer than files that have changed are looked at all the time, and ending between two searches.
    static readonly TimeSpan Quiet = TimeSpan.FromSeconds(32);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_quiet_file_that_is_written_to_is_read_without_a_search_where_the_kernel_tells_of_it(bool tells)
    {
        using var rig = new ShipperRig(o => o with { Hints = tells });
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        Pass(rig, Quiet);
        var searches = rig.Pipeline.Searches;
        rig.Append("a.log", "two\n");

        rig.Turn(search: false);

        rig.Pipeline.Searches.Should().Be(searches);
        rig.Arrivals.Should().Equal(tells ? ["one", "two"] : ["one"]);
        rig.Ship().Arrivals.Should().Equal("one", "two");
    }

    [Fact]
    public void While_nothing_happens_files_are_looked_for_at_the_quiet_interval()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        Pass(rig, Quiet);
        var searches = rig.Pipeline.Searches;

        Pass(rig, Quiet);

        (rig.Pipeline.Searches - searches).Should().BeInRange(6, 7, "32 s have 6 times 5 s");
    }

    [Fact]
    public void Files_that_come_and_go_are_seen_at_once()
    {
        using var rig = new ShipperRig(o => o with { Paths = [o.Paths[0].Replace("/*.log", "/**/*.log", StringComparison.Ordinal)] });
        rig.Append("a.log", "one\n");
        rig.Start().Ship();

        Pass(rig, Quiet);
        Directory.CreateDirectory(rig.Log("new/deep"));
        rig.Append("new/deep/b.log", "two\n");
        rig.Turn(search: false);
        rig.Arrivals.Should().Equal("one", "two");

        Pass(rig, Quiet);
        rig.Append("new/deep/b.log", "three\n");
        rig.Turn(search: false);
        rig.Arrivals.Should().Equal("one", "two", "three");

        Pass(rig, Quiet);
        Directory.Move(rig.Log("new"), rig.Log("old"));
        rig.Append("old/deep/b.log", "four\n");
        rig.Turn(search: false);
        rig.Arrivals.Should().Equal("one", "two", "three", "four");
        rig.Writer.Lines[^1].Source.Path.Should().Be(rig.Log("old/deep/b.log"));

        Pass(rig, Quiet);
        rig.Append("old/deep/b.log", "five\n");
        rig.Turn(search: false);
        rig.Arrivals.Should().HaveCount(5);
    }

    /// <summary>A shipper that has read one line of a.log, long ago, and to which the kernel says nothing more.</summary>
    static ShipperRig QuietAndDeaf()
    {
        var isDeaf = false;
        var rig = new ShipperRig { LosesHint = () => isDeaf };
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        Pass(rig, Quiet);
        isDeaf = true;
        return rig;
    }

    [Fact]
    public void A_change_of_which_the_kernel_tells_nothing_is_seen_after_the_quiet_interval_and_all_others_are_looked_for_from_then_on()
    {
        using var rig = QuietAndDeaf();
        rig.Append("a.log", "two\n");

        Pass(rig, rig.Options.QuietInterval);
        rig.Arrivals.Should().Equal("one", "two");
        Pass(rig, Quiet);
        rig.Pipeline.Snapshot().Should().Match<ShipperSnapshot>(s => s.WatchedDirectories == 0 && s.UnwatchedDirectories == 1);

        rig.Append("a.log", "three\n");
        rig.Turn();
        rig.Arrivals.Should().Equal("one", "two", "three");
    }

    [Fact]
    public void A_file_that_comes_without_a_word_of_the_kernel_is_seen_after_the_quiet_interval()
    {
        using var rig = QuietAndDeaf();
        rig.Append("b.log", "two\n");

        Pass(rig, rig.Options.QuietInterval);
        rig.Arrivals.Should().Equal("one", "two");
        Pass(rig, Quiet);
        rig.Pipeline.Snapshot().UnwatchedDirectories.Should().Be(1);
    }

    [Fact]
    public void Directories_of_which_the_kernel_tells_are_never_taken_for_silent()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "a line\n");
        rig.Start().Ship();
        for (var round = 0; round < 30; round++)
        {
            rig.Append("a.log", $"line {round}\n");
            rig.Append($"{round}.log", "begin\n");
            if (round % 3 == 0) rig.Move("a.log", $"a.log.{round}");
            if (round % 5 == 0) rig.Truncate($"{round}.log");
            if (round % 7 == 0) File.Delete(rig.Log($"{round}.log"));
            Pass(rig, TimeSpan.FromSeconds(round % 11));
        }

        rig.Ship();
        rig.Pipeline.Snapshot().Should().Match<ShipperSnapshot>(s => s.WatchedDirectories == 1 && s.UnwatchedDirectories == 0);
    }

    [Fact]
    public void A_file_that_is_written_to_under_another_name_elsewhere_is_looked_at_as_without_hints()
    {
        using var rig = new ShipperRig();
        Directory.CreateDirectory(rig.Log("elsewhere"));
        rig.Append("a.log", "one\n");
        File.CreateSymbolicLink(rig.Log("linked.log"), rig.Log("elsewhere/target"));
        rig.Append("elsewhere/target", "two\n");
        using var second = new TempFolder();
        HardLink(rig.Log("a.log"), second["other name"]);
        rig.Start().Ship();
        Pass(rig, Quiet);
        File.AppendAllText(second["other name"], "three\n");
        rig.Append("elsewhere/target", "four\n");

        rig.Turn();

        rig.Arrivals.Should().BeEquivalentTo("one", "two", "three", "four");
        rig.Pipeline.Snapshot().UnwatchedDirectories.Should().Be(0);
    }

    [Fact]
    public void A_link_far_away_that_leads_elsewhere_is_seen_as_without_hints()
    {
        using var rig = new ShipperRig(o => o with { Paths = [o.Paths[0].Replace("/*.log", "/current/*.log", StringComparison.Ordinal), o.Paths[0]] });
        foreach (var target in (string[])["first", "second", "far"]) Directory.CreateDirectory(rig.Log(target));
        File.CreateSymbolicLink(rig.Log("far/way"), rig.Log("first"));
        File.CreateSymbolicLink(rig.Log("current"), rig.Log("far/way"));
        rig.Append("first/a.log", "one\n");
        rig.Append("second/a.log", "two\n");
        rig.Append("first/b", "three\n");
        rig.Append("second/b", "four\n");
        File.CreateSymbolicLink(rig.Log("b.log"), rig.Log("far/way/b"));
        rig.Start().Ship();
        rig.Arrivals.Should().BeEquivalentTo("one", "three");
        Pass(rig, Quiet);
        File.Delete(rig.Log("far/way"));
        File.CreateSymbolicLink(rig.Log("far/way"), rig.Log("second"));

        rig.Rounds(2);

        rig.Arrivals.Should().BeEquivalentTo("one", "two", "three", "four");
    }

    [Fact]
    public void A_directory_that_is_not_there_yet_is_seen_when_it_is()
    {
        using var rig = new ShipperRig(o => o with { Paths = [o.Paths[0].Replace("/*.log", "/later/still/*.log", StringComparison.Ordinal)] });
        rig.Start();
        Pass(rig, Quiet);
        Directory.CreateDirectory(rig.Log("later/still"));
        rig.Append("later/still/a.log", "one\n");

        rig.Rounds(2);

        rig.Arrivals.Should().Equal("one");
    }

    [Fact]
    public void What_is_behind_while_the_other_side_is_away_is_shown_as_it_is()
    {
        using var rig = new ShipperRig();
        rig.Append("a.log", "one\n");
        rig.Start().Ship();
        rig.Writer.IsDown = true;
        rig.Append("a.log", "two\n");
        Pass(rig, Quiet);
        rig.Append("a.log", "three\n");

        rig.Turn();

        rig.Pipeline.Snapshot().Files.Should().ContainSingle().Which.LagBytes.Should().Be("two\nthree\n".Length);
    }

    [Fact]
    public void So_many_changes_that_the_kernel_cannot_remember_them_are_all_seen()
    {
        var most = int.Parse(File.ReadAllText("/proc/sys/fs/inotify/max_queued_events"), CultureInfo.InvariantCulture);
        using var rig = new ShipperRig();
        foreach (var name in (string[])["a.log", "b.log", "z.log"]) rig.Append(name, "begin\n");
        rig.Start().Ship();
        Pass(rig, Quiet);
        using (var a = new FileStream(rig.Log("a.log"), FileMode.Append, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0))
        using (var b = new FileStream(rig.Log("b.log"), FileMode.Append, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0))
        {
            // In turn, since equal hints in a row are one.
            for (var i = 0; i < most; i++) (i % 2 == 0 ? a : b).Write("\n"u8);
        }

        rig.Append("z.log", "seen all the same\n");
        rig.Append("new.log", "this one, too\n");

        rig.Rounds(2);

        rig.Arrivals.Should().Contain("seen all the same").And.Contain("this one, too");
        rig.Ship().Counts.BlankLines.Should().Be(most);
        rig.Pipeline.Snapshot().UnwatchedDirectories.Should().Be(0, "it told that it cannot remember");
    }

    [Fact]
    public void Each_file_that_changed_is_told_once()
    {
        using var folder = new TempFolder();
        Directory.CreateDirectory(folder["in"]);
        File.WriteAllText(folder["in/a"], "");
        File.WriteAllText(folder["in/b"], "");
        using var hints = FileHints.TryOpen(out var problem, new FakeTimeProvider())!;
        problem.Should().BeNull();
        hints.BeginSearch();
        hints.Watch(folder["in"], isListed: true);
        hints.EndSearch();
        for (var i = 0; i < 3; i++)
        {
            File.AppendAllText(folder["in/a"], "1");
            File.AppendAllText(folder["in/b"], "1");
        }

        List<string> changed = [];
        hints.Fetch(changed).Should().BeFalse("nothing came or went");
        changed.Should().BeEquivalentTo(folder["in/a"], folder["in/b"]);
        changed.Clear();
        hints.Fetch(changed).Should().BeFalse();
        changed.Should().BeEmpty();
        File.Delete(folder["in/b"]);
        hints.Fetch(changed).Should().BeTrue();
        hints.Fetch(changed).Should().BeFalse();
    }

    [Fact]
    public void A_directory_in_the_place_of_another_is_watched_in_its_stead()
    {
        using var folder = new TempFolder();
        Directory.CreateDirectory(folder["in"]);
        using var hints = FileHints.TryOpen(out _, new FakeTimeProvider())!;
        Search();
        Directory.Move(folder["in"], folder["out"]);
        Directory.CreateDirectory(folder["in"]);
        List<string> changed = [];
        hints.Fetch(changed).Should().BeTrue();
        Search();
        hints.Fetch(changed);
        File.WriteAllText(folder["out/a"], "1");
        hints.Fetch(changed).Should().BeFalse("nobody asks for that one any more");
        File.WriteAllText(folder["in/a"], "1");
        hints.Fetch(changed).Should().BeTrue();
        changed.Should().Equal(folder["in/a"]);

        void Search()
        {
            hints.BeginSearch();
            hints.Watch(folder["in"], isListed: true);
            hints.EndSearch();
            hints.CoverAll.Should().BeTrue();
        }
    }

    static void HardLink(string path, string name)
    {
        using var process = System.Diagnostics.Process.Start("ln", [path, name]);
        process.WaitForExit();
        process.ExitCode.Should().Be(0);
    }

    static void Pass(ShipperRig rig, TimeSpan time) => rig.Rounds((int)Math.Ceiling(time / rig.Options.DiscoveryInterval));
}
