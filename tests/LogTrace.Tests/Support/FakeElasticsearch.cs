using System.Collections.Concurrent;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace LogTrace.Tests.Support;

/// <summary>What goes wrong with one bulk request.</summary>
public enum BulkFault
{
    None,

    /// <summary>The connection is reset before anything was done.</summary>
    ResetBefore,

    /// <summary>All items are carried out, then the connection is reset.</summary>
    ResetAfter,

    /// <summary>All items are carried out, and half of the answer arrives.</summary>
    CutBody,

    /// <summary>All items are carried out, and the answer is 200 with half of its JSON.</summary>
    BrokenJson,

    /// <summary>All items are carried out, and a proxy answers 200 with a page of its own.</summary>
    ProxyPage,

    /// <summary>All items are carried out, and the answer names one too few.</summary>
    ItemMissing,

    /// <summary>The whole request gets 429.</summary>
    TooMany,

    /// <summary>The whole request gets 503.</summary>
    Unavailable,

    /// <summary>The whole request gets 401.</summary>
    Unauthorized,

    /// <summary>All items are carried out, and no answer comes until whoever asked goes away.</summary>
    Silent,
}

/// <summary>The little of Elasticsearch that a bulk needs, for faults that a real server does not make on demand.</summary>
public sealed class FakeElasticsearch : IAsyncDisposable
{
    readonly WebApplication _app;

    FakeElasticsearch(WebApplication app) => _app = app;

    public string Url => _app.Urls.Single();

    /// <summary>What is stored, by id.</summary>
    public ConcurrentDictionary<string, JsonNode> Documents { get; } = new();

    /// <summary>Faults of the next bulk requests, one each.</summary>
    public ConcurrentQueue<BulkFault> Faults { get; } = new();

    /// <summary>Status and error type of an item instead of carrying it out, by its id and how often it has come before; null carries it out.</summary>
    public Func<string, int, (int Status, string Type)?> Item { get; set; } = (_, _) => null;

    /// <summary>What items that are not carried out say.</summary>
    public string Reason { get; set; } = "as told";

    /// <summary>Bytes beyond which a request is answered by 429 as a server does that has less memory for writes.</summary>
    public int MemoryBytes { get; set; } = int.MaxValue;

    public int MaxBodyBytes { get; set; } = int.MaxValue;

    /// <summary>Number of items of each bulk request that was read.</summary>
    public ConcurrentQueue<int> Bulks { get; } = new();

    public ConcurrentQueue<string> Authorizations { get; } = new();

    /// <summary>What every other request gets, by method and path with query, as status and body; null for 404 to GET and 200 to the rest.</summary>
    public Func<string, string, (int Status, string Body)?> Other { get; set; } = (_, _) => null;

    /// <summary>Every other request that would change something: method, path with query, and body.</summary>
    public ConcurrentQueue<(string Method, string Path, string Body)> Changes { get; } = new();

    /// <summary>Encodings of the bulk requests that came.</summary>
    public ConcurrentQueue<string> Encodings { get; } = new();

    readonly ConcurrentDictionary<string, int> _seen = new();

    public static async Task<FakeElasticsearch> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(System.Net.IPAddress.Loopback, 0));
        var app = builder.Build();
        var fake = new FakeElasticsearch(app);
        app.MapPost("/_bulk", fake.BulkAsync);
        app.MapPost("/_mget", fake.MultiGetAsync);
        app.MapFallback("{**path}", fake.OtherAsync);
        await app.StartAsync();
        return fake;
    }

    async Task OtherAsync(HttpContext context)
    {
        var (method, path) = (context.Request.Method, context.Request.Path + context.Request.QueryString.Value);
        if (method != "GET") Changes.Enqueue((method, path, await new StreamReader(context.Request.Body, Encoding.UTF8).ReadToEndAsync()));
        var (status, body) = Other(method, path) ?? (method == "GET" ? 404 : 200, "{}");
        await AnswerAsync(context, status, body);
    }

    async Task BulkAsync(HttpContext context)
    {
        Authorizations.Enqueue(context.Request.Headers.Authorization.ToString());
        if (context.Request.ContentLength > MaxBodyBytes)
        {
            await AnswerAsync(context, 413, "");
            return;
        }

        if (context.Request.ContentLength > MemoryBytes)
        {
            var reason = $"rejected execution of coordinating operation [coordinating_operation_bytes={context.Request.ContentLength}, max_coordinating_and_primary_bytes={MemoryBytes}]";
            await AnswerAsync(context, 429, new JsonObject { ["error"] = new JsonObject { ["type"] = "es_rejected_execution_exception", ["reason"] = reason } }.ToJsonString());
            return;
        }

        var encoding = context.Request.Headers.ContentEncoding.ToString();
        Encodings.Enqueue(encoding);
        var body = await new StreamReader(encoding == "gzip" ? new GZipStream(context.Request.Body, CompressionMode.Decompress) : context.Request.Body, Encoding.UTF8).ReadToEndAsync();
        var lines = body.Split('\n');
        lines[^1].Should().BeEmpty("a bulk body ends in a line end");
        Bulks.Enqueue(lines.Length / 2);
        var fault = Faults.TryDequeue(out var next) ? next : BulkFault.None;
        switch (fault)
        {
            case BulkFault.ResetBefore:
                context.Abort();
                return;
            case BulkFault.TooMany:
                await AnswerAsync(context, 429, """{"error":{"type":"circuit_breaking_exception"},"status":429}""");
                return;
            case BulkFault.Unavailable:
                await AnswerAsync(context, 503, "<html>no upstream</html>");
                return;
            case BulkFault.Unauthorized:
                await AnswerAsync(context, 401, """{"error":{"type":"security_exception"},"status":401}""");
                return;
        }

        var items = new JsonArray();
        var errors = false;
        for (var i = 0; i + 1 < lines.Length; i += 2)
        {
            var id = JsonNode.Parse(lines[i])!["create"]!["_id"]!.GetValue<string>();
            var document = JsonNode.Parse(lines[i + 1])!;
            var (status, type) = Item(id, _seen.AddOrUpdate(id, 0, (_, count) => count + 1)) ?? (Documents.TryAdd(id, document) ? (201, "") : (409, "version_conflict_engine_exception"));
            errors |= status != 201;
            var item = new JsonObject { ["status"] = status };
            if (status != 201) item["error"] = new JsonObject { ["type"] = type, ["reason"] = Reason };
            items.Add(new JsonObject { ["create"] = item });
        }

        if (fault == BulkFault.ItemMissing) items.RemoveAt(items.Count - 1);
        var json = new JsonObject { ["errors"] = errors, ["items"] = items }.ToJsonString();
        switch (fault)
        {
            case BulkFault.ResetAfter:
                context.Abort();
                break;
            case BulkFault.Silent:
                await Task.Delay(Timeout.Infinite, context.RequestAborted).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                break;
            case BulkFault.CutBody:
                context.Response.ContentLength = json.Length;
                await context.Response.WriteAsync(json[..(json.Length / 2)]);
                await context.Response.Body.FlushAsync();
                context.Abort();
                break;
            case BulkFault.BrokenJson:
                await AnswerAsync(context, 200, json[..(json.Length / 2)]);
                break;
            case BulkFault.ProxyPage:
                await AnswerAsync(context, 200, "<html>please log in</html>");
                break;
            default:
                await AnswerAsync(context, 200, json);
                break;
        }
    }

    async Task MultiGetAsync(HttpContext context)
    {
        var body = await JsonSerializer.DeserializeAsync<JsonObject>(context.Request.Body);
        var docs = body!["docs"]!.AsArray().Select(doc => doc!["_id"]!.GetValue<string>())
            .Select(id => Documents.TryGetValue(id, out var source) ? new JsonObject { ["found"] = true, ["_source"] = source.DeepClone() } : new JsonObject { ["found"] = false });
        await AnswerAsync(context, 200, new JsonObject { ["docs"] = new JsonArray([.. docs]) }.ToJsonString());
    }

    static async Task AnswerAsync(HttpContext context, int status, string body)
    {
        context.Response.StatusCode = status;
        await context.Response.WriteAsync(body);
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync(new CancellationToken(true));
        await _app.DisposeAsync();
    }
}
