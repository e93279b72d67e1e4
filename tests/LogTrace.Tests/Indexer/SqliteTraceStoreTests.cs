using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Indexer;

public sealed class SqliteTraceStoreTests : TraceStoreContract, IDisposable
{
    readonly TempFolder _folder = new();

    SqliteStoreOptions Options => new() { Directory = _folder["store"], MaxLineBytes = 20 << 20 };

    protected override async Task<ITraceStore> OpenAsync() => await OpenAsync(Options);

    async Task<SqliteTraceStore> OpenAsync(SqliteStoreOptions options)
    {
        options.Validate().Should().BeEmpty();
        var store = new SqliteTraceStore(options, Clock);
        await store.OpenAsync(default);
        return store;
    }

    protected override IndexedRecord RecordThatIsRefused => Some.Record("t-1", "1.3", msg: new string('x', 21 << 20));

    public void Dispose() => _folder.Dispose();
}
