using System.Numerics;
using System.Text;
using CsCheck;
using LogTrace.Records;

namespace LogTrace.Tests.Records;

public sealed class RpcIdTests
{
    // Small numbers meet often, long ones test widths: any width from 1 to 19 digits, no leading zero.
    static readonly Gen<string> Segment = Gen.Frequency(
        (6, Gen.Int[0, 12].Select(number => number.ToString())),
        (1, Gen.Select(Gen.Char['1', '9'], Gen.Char['0', '9'].Array[0, 18]).Select((first, rest) => first + new string(rest))));

    static readonly Gen<RpcId> Id = Segment.List[1, 6].Select(segments => RpcId.Parse(string.Join('.', segments)));

    static int CompareNaively(RpcId left, RpcId right)
    {
        var leftNumbers = left.Text.Split('.').Select(BigInteger.Parse).ToList();
        var rightNumbers = right.Text.Split('.').Select(BigInteger.Parse).ToList();
        for (var level = 0; level < Math.Min(leftNumbers.Count, rightNumbers.Count); level++)
        {
            if (leftNumbers[level] != rightNumbers[level]) return leftNumbers[level].CompareTo(rightNumbers[level]);
        }

        return leftNumbers.Count.CompareTo(rightNumbers.Count);
    }

    [Fact]
    public void Order_is_numeric_per_segment_with_a_parent_before_its_children() =>
        Gen.Select(Id, Id).Sample((left, right) => Math.Sign(left.CompareTo(right)) == Math.Sign(CompareNaively(left, right)), iter: 20_000);

    [Fact]
    public void Order_is_antisymmetric_and_agrees_with_equality() =>
        Gen.Select(Id, Id).Sample(
            (left, right) => Math.Sign(left.CompareTo(right)) == -Math.Sign(right.CompareTo(left)) && left.CompareTo(right) == 0 == (left == right),
            iter: 20_000);

    [Fact]
    public void Order_is_transitive() =>
        Gen.Select(Id, Id, Id).Sample((a, b, c) => !(a <= b && b <= c) || a <= c, iter: 20_000);

    [Fact]
    public void Sort_text_has_the_same_order_bytewise() =>
        Gen.Select(Id, Id).Sample(
            (left, right) => Math.Sign(left.CompareTo(right)) == Math.Sign(string.CompareOrdinal(left.ToSortText(), right.ToSortText())),
            iter: 20_000);

    [Fact]
    public void Subtree_is_what_starts_with_the_sort_text() =>
        Gen.Select(Id, Id).Sample(
            (root, other) => other.ToSortText().StartsWith(root.ToSortText(), StringComparison.Ordinal) == (other == root || root.IsAncestorOf(other)),
            iter: 20_000);

    [Fact]
    public void Text_survives_the_round_trip() =>
        Id.Sample(id => RpcId.Parse(id.Text) == id && RpcId.TryParse(Encoding.UTF8.GetBytes(id.Text), out var again, out _) && again == id && again.ToString() == id.Text);

    [Fact]
    public void Child_and_parent_undo_each_other() =>
        Gen.Select(Id, Gen.Long[0, long.MaxValue]).Sample((id, number) =>
        {
            var child = id.Child(number);
            return child.TryGetParent(out var parent) && parent == id && id.IsAncestorOf(child) && !child.IsAncestorOf(id)
                && child.Depth == id.Depth + 1 && child.LastNumber == number && id < child && RpcId.Parse(child.Text) == child;
        });

    [Theory]
    [InlineData("1.12.3", "a1b12a3")]
    [InlineData("0", "a0")]
    [InlineData("1.9223372036854775807", "a1s9223372036854775807")]
    public void Sort_text_gives_each_segment_its_width(string id, string sortText) => RpcId.Parse(id).ToSortText().Should().Be(sortText);

    [Fact]
    public void Sort_text_of_the_longest_id_fits_the_room_that_is_enough_for_all_and_in_less_it_is_refused()
    {
        var id = RpcId.Parse(string.Join('.', Enumerable.Repeat("1234567", RpcId.MaxBytes / 8)) + "8");
        id.Text.Length.Should().Be(RpcId.MaxBytes);
        var room = new char[RpcId.MaxSortLength];
        new string(room, 0, id.ToSortText(room)).Should().Be(id.ToSortText()).And.HaveLength(RpcId.MaxSortLength);
        id.Invoking(it => it.ToSortText(new char[RpcId.MaxSortLength - 1])).Should().Throw<ArgumentException>().WithMessage("1024 characters are too few*");
    }

    [Theory]
    [InlineData("1.9", "1.10")]
    [InlineData("1.1", "1.1.2")]
    [InlineData("1.1.99", "1.2")]
    [InlineData("1.1.2", "1.10")]
    [InlineData("0.1", "1")]
    [InlineData("1.9999999999", "1.10000000000")]
    public void Neighbours_are_in_order(string first, string second) => RpcId.Parse(first).Should().BeLessThan(RpcId.Parse(second));

    [Theory]
    [InlineData("", RpcIdProblem.Empty)]
    [InlineData("1..2", RpcIdProblem.EmptySegment)]
    [InlineData(".1", RpcIdProblem.EmptySegment)]
    [InlineData("1.", RpcIdProblem.EmptySegment)]
    [InlineData(".", RpcIdProblem.EmptySegment)]
    [InlineData("1.01", RpcIdProblem.LeadingZero)]
    [InlineData("00", RpcIdProblem.LeadingZero)]
    [InlineData("1.a", RpcIdProblem.BadCharacter)]
    [InlineData("-1", RpcIdProblem.BadCharacter)]
    [InlineData(" 1", RpcIdProblem.BadCharacter)]
    [InlineData("1.２", RpcIdProblem.BadCharacter)]
    [InlineData("1.12345678901234567890", RpcIdProblem.SegmentTooLong)]
    [InlineData("1.1234567890123456789", RpcIdProblem.None)]
    [InlineData("0", RpcIdProblem.None)]
    [InlineData("0.0.0", RpcIdProblem.None)]
    public void Each_problem_is_told(string text, RpcIdProblem problem)
    {
        RpcId.Check(text).Should().Be(problem);
        RpcId.TryParse(Encoding.UTF8.GetBytes(text), out var id, out var told).Should().Be(problem == RpcIdProblem.None);
        told.Should().Be(problem);
        id.IsEmpty.Should().Be(problem != RpcIdProblem.None);
        RpcId.TryParse(text, out _).Should().Be(problem == RpcIdProblem.None);
        RpcId.Describe(problem).Should().NotBeNullOrWhiteSpace();
    }

    [Fact]
    public void Limits_are_256_segments_and_1024_bytes()
    {
        RpcId.Check(string.Join('.', Enumerable.Repeat("1", 256))).Should().Be(RpcIdProblem.None);
        RpcId.Check(string.Join('.', Enumerable.Repeat("1", 257))).Should().Be(RpcIdProblem.TooDeep);
        var longest = string.Concat(Enumerable.Repeat("123456789.", 102)) + "1234";
        longest.Should().HaveLength(1024);
        RpcId.Check(longest).Should().Be(RpcIdProblem.None);
        RpcId.Check(longest + "5").Should().Be(RpcIdProblem.TooLong);
        RpcId.Check(new string('1', 1_000_000)).Should().Be(RpcIdProblem.TooLong);
    }

    [Fact]
    public void Refusal_names_the_text_and_the_rule() =>
        FluentActions.Invoking(() => RpcId.Parse("1.01")).Should().Throw<FormatException>().WithMessage("'1.01' is no RPCID: a segment has a leading zero.");

    [Fact]
    public void Single_segment_has_no_parent()
    {
        RpcId.Parse("1").TryGetParent(out var parent).Should().BeFalse();
        parent.IsEmpty.Should().BeTrue();
        RpcId.Parse("1.1").IsAncestorOf(RpcId.Parse("1.10")).Should().BeFalse();
    }

    [Fact]
    public void Any_text_is_an_id_or_has_a_problem() =>
        Gen.String[Gen.Char["0123456789.. a"], 0, 40].Sample(text => RpcId.TryParse(text, out var id) ? id.Text == text : RpcId.Check(text) != RpcIdProblem.None);
}
