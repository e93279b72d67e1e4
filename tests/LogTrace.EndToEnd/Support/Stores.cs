using LogTrace.Indexer.Store;

namespace LogTrace.EndToEnd.Support;

/// <summary>What a store holds, held against what was written.</summary>
static class Stores
{
    /// <summary>Every line ever written is in the store exactly once, at its trace, and every chain counts all its records.</summary>
    public static async Task HoldsOnceAsync(ITraceStore store, GeneratedLog log, string because)
    {
        var numbers = new List<int>();
        foreach (var traceIds in log.TraceIds.Chunk(100))
        {
            var traces = await store.GetTracesAsync(traceIds, CancellationToken.None);
            numbers.AddRange(traces.Values.SelectMany(records => records).Select(record => int.Parse(record.Record.Param!, System.Globalization.CultureInfo.InvariantCulture)));
        }

        var missing = Enumerable.Range(0, log.Written).Except(numbers).ToList();
        missing.Should().BeEmpty($"nothing is lost {because}");
        numbers.Should().HaveCount(log.Written, $"nothing is doubled {because}");

        // Stale is a trace whose chain document is missing or counts other records than the store holds.
        (await store.FindStaleTracesAsync(0, CancellationToken.None)).Should().NotIntersectWith(log.TraceIds, $"every chain counts its records {because}");
        var first = await store.GetChainAsync(log.TraceIds.First(), CancellationToken.None);
        first.Should().NotBeNull($"the first trace has its chain {because}");
    }
}
