using System.Text;
using LogTrace.Shipper;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Shipper;

/// <summary>What was set aside is sent again.</summary>
public sealed class ReplayTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly CollectingWriter _writer = new();
    readonly List<string> _said = [];

    static SourceFile Source(string path) => new("host", UInt128.MaxValue, path);

    string DeadLetter => _folder["dead-letter.jsonl"];

    public void Dispose() => _folder.Dispose();

    void SetAside(Action<DeadLetterFile> add)
    {
        using var file = new DeadLetterFile(DeadLetter);
        add(file);
        file.Flush();
    }

    Task<ReplayCounts> ReplayAsync() => new Replay(_writer, _said.Add, new Backoff(TimeSpan.FromMilliseconds(1))).RunAsync(DeadLetter, CancellationToken.None).Within();

    [Fact]
    public async Task Lines_arrive_byte_by_byte_as_the_records_they_were()
    {
        byte[] odd = [0xff, 0xfe, (byte)'"', 0, (byte)'x'];
        SetAside(file =>
        {
            file.Add(Source("/a.log"), 5, "{\"trace_id\":\"t-1\",\"name\":\"é\"}"u8, "refused");
            file.Add(Source("/a.log"), 70, odd, "no JSON");
        });

        (await ReplayAsync()).Should().Be(new ReplayCounts(2, 2, 0, 0));

        _writer.Lines.Select(line => (line.Source, line.Offset, line.Key)).Should().Equal((Source("/a.log"), 5, "t-1"), (Source("/a.log"), 70, ""));
        _writer.Lines[0].Text.Should().Be("{\"trace_id\":\"t-1\",\"name\":\"é\"}");
        _writer.Lines[1].RecordId.Should().Be(Source("/a.log").RecordIdAt(70, odd));
    }

    [Fact]
    public async Task Line_of_which_only_the_beginning_was_kept_is_read_from_its_file()
    {
        using var rig = new ShipperRig();
        var tooLong = new string('x', 5_000);
        rig.Append("a.log", $"one\n{tooLong}\r\ntwo\n");
        rig.Start().Ship();
        rig.Stop();
        var replayed = new CollectingWriter();

        (await new Replay(replayed, _said.Add).RunAsync(rig.Options.DeadLetterPath, CancellationToken.None)).Should().Be(new ReplayCounts(1, 1, 0, 0));

        replayed.Lines.Should().ContainSingle().Which.Should().BeEquivalentTo(new { Text = tooLong, Offset = 4 });
        replayed.Lines[0].Source.FileId.Should().Be(rig.Writer.Lines[0].Source.FileId);
    }

    [Fact]
    public async Task Line_whose_rest_is_gone_is_said_and_not_sent()
    {
        await File.WriteAllTextAsync(_folder["a.log"], new string('y', 9_000) + "\n");
        SetAside(file => file.Add(Source(_folder["a.log"]), 0, Encoding.ASCII.GetBytes(new string('x', 100)), "too long", wholeLength: 5_000));

        (await ReplayAsync()).Should().Be(new ReplayCounts(1, 0, 0, 1));

        _writer.Lines.Should().BeEmpty();
        _said.Should().ContainSingle().Which.Should().Contain("only 100 of 5,000 bytes");
    }

    [Fact]
    public async Task Lines_that_are_refused_again_are_counted_and_said()
    {
        SetAside(file =>
        {
            file.Add(Source("/a.log"), 0, "bad"u8, "refused");
            file.Add(Source("/a.log"), 4, "good"u8, "refused");
        });
        _writer.Refuses = text => text == "bad";

        (await ReplayAsync()).Should().Be(new ReplayCounts(2, 1, 1, 0));
        _said.Should().ContainSingle().Which.Should().Contain("/a.log at byte 0");
    }

    [Fact]
    public async Task Entry_that_a_crash_cut_off_is_left_out_and_what_is_no_dead_letter_is_said()
    {
        SetAside(file => file.Add(Source("/a.log"), 0, "one"u8, "refused"));
        await File.AppendAllTextAsync(DeadLetter, "{\"at\":\"2026");

        (await ReplayAsync()).Should().Be(new ReplayCounts(1, 1, 0, 0));

        await File.WriteAllTextAsync(DeadLetter, "2026-01-01 hello\n");
        (await FluentActions.Awaiting(ReplayAsync).Should().ThrowAsync<InvalidDataException>()).WithMessage("*line 1*");
    }

    [Fact]
    public async Task Other_side_that_is_away_is_waited_for()
    {
        SetAside(file => file.Add(Source("/a.log"), 0, "one"u8, "refused"));
        _writer.IsDown = true;
        var replaying = new Replay(_writer, said => { lock (_said) _said.Add(said); }, new Backoff(TimeSpan.FromMilliseconds(1), TimeSpan.FromMilliseconds(5))).RunAsync(DeadLetter, CancellationToken.None);
        await Eventually.HoldsAsync(() => _writer.Batches > 2, "it tries again");
        replaying.IsCompleted.Should().BeFalse();

        _writer.IsDown = false;

        (await replaying.Within()).Sent.Should().Be(1);
        _said.Should().ContainSingle("it is said once");
    }
}
