using LogTrace.Records;

namespace LogTrace.Tests.Records;

public sealed class BoundSpanTests
{
    [Fact]
    public void Span_is_bound_to_its_cause_and_number_and_to_no_other()
    {
        for (ulong i = 0; i < 10_000; i++)
        {
            var (cause, number) = ((i * 7_919) + 1, i % 50);
            var span = BoundSpan.Make(cause, number);
            BoundSpan.IsBound(span, cause, number).Should().BeTrue();
            BoundSpan.IsBound(span, cause, number + 1).Should().BeFalse();
            BoundSpan.IsBound(span, cause + 1, number).Should().BeFalse();
            BoundSpan.IsBound(span ^ 1, cause, number).Should().BeFalse();
            BoundSpan.IsBound(span ^ (1ul << 40), cause, number).Should().BeFalse();
        }
    }

    [Fact]
    public void Spans_of_one_cause_and_number_differ() =>
        Enumerable.Range(0, 1_000).Select(_ => BoundSpan.Make(5, 2)).Distinct().Should().HaveCountGreaterThan(998, "their upper halves are random");
}
