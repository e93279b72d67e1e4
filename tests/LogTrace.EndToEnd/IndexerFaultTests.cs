using LogTrace.EndToEnd.Faults;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>Rows 7 and 29 of the fault matrix, on the broker that all tests share, with one seed; <c>./logtrace test --faults 7 9 29</c> runs many.</summary>
public sealed class IndexerFaultTests
{
    [RealKafkaTheory]
    [InlineData(1)]
    public async Task Two_indexers_killed_at_random_moments_leave_every_record_once_and_every_chain_as_its_records_make_it(int seed)
    {
        await using var broker = new SharedBroker(await RealEngines.KafkaAsync());
        await using var it = new FaultCase(seed, isShort: true, broker, 1, contender => new LogTraceShipper(contender));
        await broker.CreateTopicAsync(it.Topic);
        await IndexerFaults.KilledAsync(it);
    }

    [OwnEngineFact]
    public async Task Store_away_for_longer_than_the_poll_interval_throws_nobody_out_of_the_group_and_loses_nothing()
    {
        await using var broker = new SharedBroker(await RealEngines.KafkaAsync());
        await using var it = new FaultCase(1, isShort: true, broker, 1, contender => new LogTraceShipper(contender));
        await broker.CreateTopicAsync(it.Topic);
        await IndexerFaults.StoreAwayAsync(it);
    }
}
