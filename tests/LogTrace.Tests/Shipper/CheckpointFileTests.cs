using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Shipper;

/// <summary>The checkpoint on disk.</summary>
public sealed class CheckpointFileTests : IDisposable
{
    readonly TempFolder _folder = new();

    static readonly CheckpointEntry Entry = new(1, ulong.MaxValue, -5, "/logs/a \"b\".log", "/logs/c.log", UInt128.MaxValue, 3, 1L << 40, 7, 1024, 9, EntryState.Emptied, 77);

    public void Dispose() => _folder.Dispose();

    static Checkpoint Some(long lines) => new()
    {
        Counts = new ShipperCounts { ReadLines = lines, ReadBytes = 2, ShippedLines = 3, ShippedBytes = 4, SetAsideLines = 5, SetAsideBytes = 6, BlankLines = 7, BlankBytes = 8, NulBytes = 9, LostBytes = 10 },
        Files = [Entry, Entry with { Path = "/b", MatchedPath = "/b", State = EntryState.Present, AbsentSinceMillis = 0 }],
        Gone = [new GoneFile(1, 2, 3), new GoneFile(4, 5, 6)],
        KnownNames = new Dictionary<string, long> { ["/logs/c.log"] = 5 },
        GenerationFloor = 12,
    };

    Checkpoint Load(out IReadOnlyList<string> damage)
    {
        using var file = CheckpointFile.Open(_folder.Path);
        return file.Load(out damage);
    }

    void Save(params long[] lines)
    {
        using var file = CheckpointFile.Open(_folder.Path);
        file.Load(out _);
        foreach (var count in lines) file.Save(Some(count));
    }

    string[] Slots => Directory.GetFiles(_folder.Path, "checkpoint-*");

    string Newest => Slots.OrderByDescending(p => CheckpointLine(p, "sequence")).First();

    static long CheckpointLine(string path, string name) =>
        System.Text.Json.JsonDocument.Parse(File.ReadLines(path).First()).RootElement.GetProperty(name).GetInt64();

    [Fact]
    public void What_was_saved_is_loaded()
    {
        Save(1, 2, 3);
        Load(out var damage).Should().BeEquivalentTo(Some(3) with { Sequence = 3 });
        damage.Should().BeEmpty();
        CheckpointFile.TryRead(_folder.Path).Should().BeEquivalentTo(Some(3) with { Sequence = 3 });
    }

    [Fact]
    public void A_directory_without_a_checkpoint_starts_empty()
    {
        CheckpointFile.TryRead(_folder["none"]).Should().BeNull();
        Load(out var damage).Should().BeEquivalentTo(new Checkpoint());
        damage.Should().BeEmpty();
    }

    [Fact]
    public void Cut_at_any_byte_the_one_before_is_used_and_the_next_save_replaces_the_damaged_one()
    {
        Save(1, 2);
        var path = Newest;
        var whole = File.ReadAllBytes(path);
        for (var length = 0; length < whole.Length; length++)
        {
            File.WriteAllBytes(path, whole[..length]);
            Load(out var damage).Counts.ReadLines.Should().Be(1, $"the newest is cut to {length} of {whole.Length} bytes");
            damage.Should().ContainSingle().Which.Should().Contain(path);
        }

        Save(5);
        Load(out var repaired).Counts.ReadLines.Should().Be(5);
        repaired.Should().BeEmpty();
    }

    [Fact]
    public void Changed_at_any_byte_the_one_before_is_used()
    {
        Save(1, 2);
        var path = Newest;
        var whole = File.ReadAllBytes(path);
        for (var at = 0; at < whole.Length; at++)
        {
            var changed = (byte[])whole.Clone();
            changed[at] ^= 0x01;
            File.WriteAllBytes(path, changed);
            Load(out _).Counts.ReadLines.Should().Be(1, $"byte {at} of the newest is changed");
        }
    }

    [Fact]
    public void Zeroed_and_half_written_temporary_files_do_not_matter()
    {
        Save(1, 2);
        File.WriteAllText(_folder["checkpoint.tmp"], "{\"half");
        File.WriteAllBytes(Newest, new byte[300]);
        Load(out var damage).Counts.ReadLines.Should().Be(1);
        damage.Should().HaveCount(1);
    }

    [Fact]
    public void A_second_shipper_is_refused_and_told_who_holds_the_state()
    {
        using var first = CheckpointFile.Open(_folder.Path);
        var second = () => CheckpointFile.Open(_folder.Path);
        second.Should().Throw<ShipperStateException>().WithMessage($"*process {Environment.ProcessId}*");
        first.Dispose();
        second.Should().NotThrow().Which.Dispose();
    }

    [Fact]
    public void A_newer_version_is_not_guessed_at()
    {
        Save(1);
        var text = File.ReadAllLines(Newest)[0].Replace("_checkpoint\":1", "_checkpoint\":2") + "\n";
        var checksum = System.IO.Hashing.XxHash128.HashToUInt128(System.Text.Encoding.UTF8.GetBytes(text)).ToString("x32");
        File.WriteAllText(Newest, $"{text}{{\"xxh128\":\"{checksum}\"}}\n");
        FluentActions.Invoking(() => Load(out _)).Should().Throw<ShipperStateException>().WithMessage("*version 2*--data*");
    }

    [Fact]
    public void A_directory_that_cannot_be_made_is_said_with_a_way_out()
    {
        File.WriteAllText(_folder["file"], "");
        FluentActions.Invoking(() => CheckpointFile.Open(_folder["file/state"])).Should().Throw<ShipperStateException>().WithMessage("*--data*");
    }
}
