using System.IO.Hashing;
using System.Text;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Indexer.Viewer;
using LogTrace.Records;
using LogTrace.Tests.Support;
using LogTrace.Transport;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.Extensions.Logging;

namespace LogTrace.Tests.Viewer;

/// <summary>The viewer on a free port of this machine, over a real store with a few traces in it.</summary>
public sealed class ViewerSite : IAsyncDisposable
{
    /// <summary>What log text must never do to the page.</summary>
    public const string Attack = """<script>window.hacked=1</script><img src=x onerror="window.hacked=1">""";

    readonly TempFolder _folder = new();
    readonly SqliteTraceStore _store;
    readonly WebApplication _app;

    ViewerSite()
    {
        _store = new SqliteTraceStore(new SqliteStoreOptions { Directory = _folder["store"] });
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        _app = builder.Build();
        _app.MapViewer(_store, new ViewerOptions { Counters = () => new Dictionary<string, long> { ["stored"] = 17 } });
    }

    public ITraceStore Store => _store;

    public Uri Address => new(_app.Urls.Single());

    public static async Task<ViewerSite> StartAsync()
    {
        var site = new ViewerSite();
        await site._store.OpenAsync(CancellationToken.None);
        await site.AddAsync("checkout-whole", Checkout(isWhole: true));
        await site.AddAsync("checkout-lost", Checkout(isWhole: false));
        await site.AddAsync("attack", [Line("request.info", "1.1", "gateway", 0, 5, Attack, $$"""  ,"msg":{{System.Text.Json.JsonSerializer.Serialize(Attack)}}""")]);
        await site.AddAsync("odd/id?x=1#y&z", [Line("request.info", "1.1", "billing", 0, 5, "GET /odd")]);
        await site._app.StartAsync();
        return site;
    }

    /// <summary>Stores lines as the records of one trace, with its chain.</summary>
    public async Task AddAsync(string traceId, IEnumerable<string> lines)
    {
        var source = new SourceFile("host-1", XxHash128.HashToUInt128(Encoding.UTF8.GetBytes(traceId)), $"/var/log/{traceId.Split('/')[0]}.log");
        var records = new List<IndexedRecord>();
        var offset = 0L;
        foreach (var text in lines)
        {
            var line = Encoding.UTF8.GetBytes(text.Replace("TRACE", traceId));
            RecordCodec.TryRead(line, out var record, out var reason).Should().BeTrue(reason);
            records.Add(RecordDeriver.Derive(record, source.RecordIdAt(offset, line), XxHash128.HashToUInt128(line), source.Path, offset, record.TimestampMicros));
            offset += line.Length + 1;
        }

        (await _store.WriteAsync(records, CancellationToken.None)).Refused.Should().BeEmpty();
        await _store.WriteChainsAsync([ChainDocuments.From(ChainBuilder.Build(traceId, records))], CancellationToken.None);
    }

    static readonly long Start = (DateTimeOffset.UtcNow.AddMinutes(-5).Ticks - DateTime.UnixEpoch.Ticks) / 10;

    static string Line(string name, string rpcId, string service, double atMillis, double? millis, string action, string more = "")
    {
        var ended = Start + (long)((atMillis + (millis ?? 0)) * 1000);
        var duration = millis is { } value ? FormattableString.Invariant($",\"duration\":{value / 1000}") : "";
        return $$"""{"name":"{{name}}","trace_id":"TRACE","rpc_id":"{{rpcId}}","timestamp":{{ended / 1_000_000}},"timestamp_us":{{ended}},"department":"shop","module":"shop_{{service}}","server_ip":"10.0.0.7","pid":"4711","service":"{{service}}","action":{{System.Text.Json.JsonSerializer.Serialize(action)}},"param":""{{duration}}{{more}}}""";
    }

    // A checkout: cart, stock and payment in two forks, one failed try; without orders' own file where it is not whole.
    static IEnumerable<string> Checkout(bool isWhole)
    {
        string[] gateway =
        [
            Line("log.info", "1.1", "gateway", 1, null, "POST /checkout", ",\"msg\":\"Checkout of cart 9527 begins\",\"level\":\"Information\",\"extra\":{\"CartId\":9527}"),
            Line("redis.request", "1.2", "gateway", 2, 1.4, "GET cart:9527", ",\"host\":\"10.0.0.9:6379\""),
            Line("http.post", "1.3", "gateway", 5, 182, "http://orders/orders", ",\"code\":\"201\""),
            Line("request.info", "1.1", "gateway", 0, 190, "POST /checkout", ",\"code\":\"200\",\"uid\":\"9527\""),
        ];
        string[] orders =
        [
            Line("mysql.request", "1.3.2", "orders", 9, 6, "insert into orders (sku, cart) values (7, 9527)", ",\"host\":\"10.0.0.3:3306\",\"db\":\"shop\""),
            Line("http.get", "1.3.3.2", "orders", 18, 44, "http://stock/items/7", ",\"code\":\"200\""),
            Line("fork.info", "1.3.3.1", "orders", 17, 47, "reserve"),
            Line("http.post.error", "1.3.4.2", "orders", 18, 30, "http://payment/charges", ",\"code\":\"503\",\"msg\":\"payment is busy\""),
            Line("log.warning", "1.3.4.2", "orders", 49, null, "", ",\"msg\":\"Payment is busy, trying again\",\"level\":\"Warning\""),
            Line("http.post", "1.3.4.3", "orders", 60, 118, "http://payment/charges", ",\"code\":\"201\""),
            Line("fork.info", "1.3.4.1", "orders", 17, 162, "charge"),
            Line("request.info", "1.3.1", "orders", 7, 178, "POST /orders", ",\"code\":\"201\""),
        ];
        string[] others =
        [
            Line("pgsql.request", "1.3.3.2.2", "stock", 25, 30, "select count from items where id = 7", ",\"host\":\"10.0.0.4:5432\""),
            Line("request.info", "1.3.3.2.1", "stock", 20, 40, "GET /items/7", ",\"code\":\"200\""),
            Line("request.info", "1.3.4.2.1", "payment", 20, 26, "POST /charges", ",\"code\":\"503\""),
            Line("log.exception", "1.3.4.2.1", "payment", 40, null, "POST /charges", ",\"msg\":\"No connection to the bank\",\"level\":\"Error\",\"backtrace\":\"Bank.BusyException: try later\\n   at Bank.Charge() in Bank.cs:line 12\""),
            Line("request.info", "1.3.4.3.1", "payment", 63, 112, "POST /charges", ",\"code\":\"201\""),
        ];
        return isWhole ? [.. gateway, .. orders, .. others] : [.. gateway, .. others];
    }

    public async ValueTask DisposeAsync()
    {
        await _app.DisposeAsync();
        await _store.DisposeAsync();
        _folder.Dispose();
    }
}
