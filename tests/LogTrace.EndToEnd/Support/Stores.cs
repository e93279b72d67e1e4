using LogTrace.Indexer.Store;

namespace LogTrace.EndToEnd.Support;

/// <summary>What a store holds, held against what was written.</summary>
static class Stores
{
    /// <summary>Every line ever written is in the store exactly once, at its trace, and every chain counts all its records.</summary>
    public static async Task HoldsOnceAsync(ITraceStore store, GeneratedLog log, string because)
    {
        var numbers = new List<int>();
        foreach (var traceId in log.TraceIds)
        {
            var records = await store.GetTraceAsync(traceId, CancellationToken.None);
            numbers.AddRange(records.Select(record => int.Parse(record.Record.Param!, System.Globalization.CultureInfo.InvariantCulture)));
            var chain = await store.GetChainAsync(traceId, CancellationToken.None);
            chain.Should().NotBeNull($"trace {traceId} has a chain {because}");
            chain!.RecordCount.Should().Be(records.Count, $"the chain of {traceId} counts its records {because}");
        }

        var missing = Enumerable.Range(0, log.Written).Except(numbers).ToList();
        missing.Should().BeEmpty($"nothing is lost {because}");
        numbers.Should().HaveCount(log.Written, $"nothing is doubled {because}");
    }
}
