using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Indexer;

/// <summary>The contract on a real server. Every test has indices of its own, which go at its end.</summary>
public abstract class ElasticsearchTraceStoreContract(string engine) : TraceStoreContract, IAsyncLifetime
{
    readonly string _prefix = $"lt-{Guid.NewGuid():N}";

    protected override async Task<ITraceStore> OpenAsync()
    {
        var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [await RealEngines.ElasticsearchAsync(engine)], IndexPrefix = _prefix }, Clock);
        await store.OpenAsync(default);
        return store;
    }

    // Longer than any term that Lucene takes.
    protected override IndexedRecord RecordThatIsRefused => new()
    {
        Record = new TraceRecord { Name = "log.info", TraceId = new string('x', 40_000), TimestampMicros = StoreRecords.Micros(Now) },
        RecordId = 7,
        SourceFile = "long.log",
    };

    public Task InitializeAsync() => Task.CompletedTask;

    public async Task DisposeAsync() => await ElasticsearchIndices.DeleteAsync(await RealEngines.ElasticsearchAsync(engine), _prefix);
}

[NeedsEngine("elasticsearch7")]
public sealed class Elasticsearch7TraceStoreTests() : ElasticsearchTraceStoreContract(RealEngines.Elasticsearches[0]);

[NeedsEngine("opensearch2")]
public sealed class OpenSearch2TraceStoreTests() : ElasticsearchTraceStoreContract("opensearch2");

[NeedsEngine("elasticsearch8")]
public sealed class Elasticsearch8TraceStoreTests() : ElasticsearchTraceStoreContract("elasticsearch8");
