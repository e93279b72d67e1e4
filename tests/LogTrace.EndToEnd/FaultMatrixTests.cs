using LogTrace.EndToEnd.Faults;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>The short form of each row of the fault matrix that needs no real broker, with one seed. <c>./logtrace test --faults</c> runs the long forms with many.</summary>
public sealed class FaultMatrixTests
{
    public static TheoryData<string> Rows() => [.. FaultMatrix.Rows.Where(row => row.IsEveryday && row.WhyNot is null).Select(row => row.Key)];

    [Theory]
    [MemberData(nameof(Rows))]
    public async Task Nothing_is_lost_and_no_line_becomes_two_records(string row)
    {
        var seed = TestSeed.Given ?? 1;

        var outcome = await FaultMatrix.RunAsync(FaultMatrix.Rows.Single(it => it.Key == row), seed, isShort: true);

        outcome.Passed.Should().BeTrue($"LOGTRACE_TEST_SEED={seed}: {outcome.Says}");
    }
}
