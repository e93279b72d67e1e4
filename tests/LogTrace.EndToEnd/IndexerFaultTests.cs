using LogTrace.EndToEnd.Faults;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>The short form of each row of the fault matrix that is about indexers, on the real servers that all tests share, with one seed. <c>./logtrace test --faults</c> runs the long forms with many.</summary>
public sealed class IndexerFaultTests
{
    public static TheoryData<string> Rows() => [.. FaultMatrix.Rows.Where(row => row.On == On.Real && row.LeavesBroker && !row.IsOnce && row.WhyNot is null).Select(row => row.Key)];

    [RealKafkaTheory]
    [MemberData(nameof(Rows))]
    public async Task Each_record_is_stored_once_or_set_aside_and_every_chain_is_as_its_records_make_it(string row)
    {
        var seed = TestSeed.Given ?? 1;
        await using var broker = new SharedBroker(await RealEngines.KafkaAsync());

        var outcome = await FaultMatrix.RunAsync(FaultMatrix.Rows.Single(it => it.Key == row), seed, isShort: true, broker);

        outcome.Passed.Should().BeTrue($"LOGTRACE_TEST_SEED={seed}: {outcome.Says}");
    }
}
