using CsCheck;
using LogTrace.Transport;

namespace LogTrace.Tests.Transport;

public sealed class RecordHeaderTests
{
    static readonly SourceFile File = new("node-7/härt", UInt128.MaxValue - 5, "/var/log/päth with space.log");

    [Fact]
    public void Source_and_offset_come_back() =>
        Gen.Select(Gen.String[Gen.Char.AlphaNumeric, 1, 300], Gen.ULong, Gen.ULong, Gen.String[Gen.Char.AlphaNumeric, 0, 300], Gen.Long[0, long.MaxValue]).Sample((host, high, low, path, offset) =>
        {
            var source = new SourceFile(host, new UInt128(high, low), path);
            return RecordHeader.TryRead(RecordHeader.Write(source, offset), out var readOffset, out var read) && read == source && readOffset == offset;
        });

    [Fact]
    public void Header_of_the_next_line_differs_in_the_offset_only()
    {
        var first = RecordHeader.Write(File, 17);

        var second = first.ToArray();
        RecordHeader.MoveTo(second, 4_711);

        second.Should().Equal(RecordHeader.Write(File, 4_711));
        RecordHeader.SameFile(first, second).Should().BeTrue();
        RecordHeader.SameFile(first, RecordHeader.Write(File with { Path = "/var/log/päth with space.loh" }, 17)).Should().BeFalse();
    }

    [Fact]
    public void Random_bytes_are_read_as_nothing_or_as_a_source_and_never_throw() =>
        Gen.Byte.Array[0, 200].Sample(bytes =>
        {
            if (bytes.Length > 0) bytes[0] &= 1; // the version that gets furthest, every other time
            if (RecordHeader.TryRead(bytes, out var offset, out var source)) RecordHeader.Write(source, offset).Should().Equal(bytes);
        });

    [Fact]
    public void Changed_header_never_throws() =>
        Gen.Select(Gen.Int[0, 80], Gen.Byte, Gen.Int[0, 80]).Sample((at, value, length) =>
        {
            var bytes = RecordHeader.Write(File, 17);
            bytes[at % bytes.Length] = value;
            RecordHeader.TryRead(bytes.AsSpan(0, Math.Min(length, bytes.Length)), out _, out _);
        });

    [Fact]
    public void Header_with_a_byte_too_many_or_too_few_is_absent()
    {
        var bytes = RecordHeader.Write(File, 17);

        RecordHeader.TryRead([.. bytes, 0], out _, out _).Should().BeFalse();
        RecordHeader.TryRead(bytes.AsSpan(..^1), out _, out _).Should().BeFalse();
        RecordHeader.TryRead([], out _, out _).Should().BeFalse();
    }

    [Fact]
    public void Offset_below_zero_and_another_version_are_absent()
    {
        var negative = RecordHeader.Write(File, 17);
        negative[1] = 0x80;
        var later = RecordHeader.Write(File, 17);
        later[0] = 2;

        RecordHeader.TryRead(negative, out _, out _).Should().BeFalse();
        RecordHeader.TryRead(later, out _, out _).Should().BeFalse();
    }
}
