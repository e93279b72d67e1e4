using System.Collections.Concurrent;
using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;

namespace LogTrace.EndToEnd.Faults;

/// <summary>
/// Stands before a real Elasticsearch and spoils bulks: whole requests, their answers, and single items, which never reach the server then. Everything else it hands on. Lines are known by the
/// number that they carry, whoever sends them.
/// </summary>
sealed partial class BulkProxy : IAsyncDisposable
{
    // Longer than ours is told to wait for an answer; whoever would wait for ever learns that there will be none.
    static readonly TimeSpan Silence = TimeSpan.FromSeconds(10);

    static readonly HttpClient Http = new(new SocketsHttpHandler { UseProxy = false }) { Timeout = TimeSpan.FromMinutes(5) };

    readonly WebApplication _app;
    readonly string _target;
    readonly ConcurrentDictionary<int, int> _came = new();
    readonly ConcurrentDictionary<int, bool> _stored = new();
    int _bulks, _spoilt, _conflicts;

    BulkProxy(WebApplication app, string target) => (_app, _target) = (app, target.TrimEnd('/'));

    public string Url => _app.Urls.Single();

    /// <summary>What becomes of the next bulk request. Called from several threads.</summary>
    public Func<BulkFault> Fault { get; init; } = static () => BulkFault.None;

    /// <summary>Status and error type of a line in place of storing it, by its number and how often it came before; null stores it.</summary>
    public Func<int, int, (int Status, string Type)?> Item { get; init; } = static (_, _) => null;

    /// <summary>Bodies beyond this are answered by 413.</summary>
    public int MaxBodyBytes { get; set; } = int.MaxValue;

    /// <summary>Bulk requests so far.</summary>
    public int Bulks => Volatile.Read(ref _bulks);

    /// <summary>Bulk requests that did not get their proper answer.</summary>
    public int Spoilt => Volatile.Read(ref _spoilt);

    /// <summary>Lines that came although the server has them.</summary>
    public int Conflicts => Volatile.Read(ref _conflicts);

    /// <summary>The server has said that it has the line.</summary>
    public bool HasStored(int number) => _stored.ContainsKey(number);

    /// <summary>How often the line with this number came at most, over all lines.</summary>
    public int MostAttempts => _came.IsEmpty ? 0 : _came.Values.Max() + 1;

    public static async Task<BulkProxy> StartAsync(string target, Func<BulkFault>? fault = null, Func<int, int, (int Status, string Type)?>? item = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Limits.MaxRequestBodySize = 64 << 20;
            kestrel.Listen(System.Net.IPAddress.Loopback, 0);
        });
        var app = builder.Build();
        var proxy = new BulkProxy(app, target) { Fault = fault ?? (static () => BulkFault.None), Item = item ?? (static (_, _) => null) };
        app.MapPost("/_bulk", proxy.BulkAsync);
        app.MapFallback("{**path}", proxy.HandOnAsync);
        await app.StartAsync();
        return proxy;
    }

    async Task HandOnAsync(HttpContext context)
    {
        var (status, type, answer) = await AskAsync(context, await BodyAsync(context));
        context.Response.StatusCode = status;
        context.Response.ContentType = type;
        if (context.Request.Method != "HEAD") await context.Response.Body.WriteAsync(answer);
    }

    async Task BulkAsync(HttpContext context)
    {
        Interlocked.Increment(ref _bulks);
        var body = await BodyAsync(context);
        var fault = body.Length > MaxBodyBytes ? BulkFault.None : Fault();
        if (fault != BulkFault.None || body.Length > MaxBodyBytes) Interlocked.Increment(ref _spoilt);
        if (body.Length > MaxBodyBytes)
        {
            await AnswerAsync(context, 413, "");
            return;
        }

        switch (fault)
        {
            case BulkFault.ResetBefore:
                context.Abort();
                return;
            case BulkFault.TooMany:
                await AnswerAsync(context, 429, """{"error":{"type":"es_rejected_execution_exception","reason":"as told"},"status":429}""");
                return;
            case BulkFault.Unavailable:
                await AnswerAsync(context, 503, "<html>no upstream</html>");
                return;
        }

        var answer = await CarryOutAsync(context, Encoding.UTF8.GetString(body));
        var json = answer.ToJsonString();
        switch (fault)
        {
            case BulkFault.ResetAfter:
                context.Abort();
                break;
            case BulkFault.Silent:
                try
                {
                    await Task.Delay(Silence, context.RequestAborted);
                }
                catch (OperationCanceledException)
                {
                    // It has lost its patience, as it should.
                }

                context.Abort();
                break;
            case BulkFault.CutBody:
                context.Response.ContentLength = Encoding.UTF8.GetByteCount(json);
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
            case BulkFault.ItemMissing:
                answer["items"]!.AsArray().RemoveAt(0);
                await AnswerAsync(context, 200, answer.ToJsonString());
                break;
            default:
                await AnswerAsync(context, 200, json);
                break;
        }
    }

    /// <summary>Sends on what is not to be refused, and gives the answer to all of it.</summary>
    async Task<JsonObject> CarryOutAsync(HttpContext context, string body)
    {
        var lines = body.Split('\n');
        var rest = new StringBuilder(body.Length);
        var items = new List<(JsonObject? Answer, int? Number)>();
        for (var i = 0; i < lines.Length && lines[i].Length > 0; i++)
        {
            var action = lines[i];
            var document = action.StartsWith("{\"delete\"", StringComparison.Ordinal) ? null : lines[++i];
            int? number = document is not null && IsOfRecords(action) && Number().Match(document) is { Success: true } match ? int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture) : null;
            if (number is { } it && Item(it, _came.AddOrUpdate(it, 0, static (_, before) => before + 1)) is var (status, type))
            {
                var operation = JsonNode.Parse(action)!.AsObject().Single();
                items.Add((new JsonObject
                {
                    [operation.Key] = new JsonObject
                    {
                        ["_index"] = operation.Value!["_index"]?.DeepClone(),
                        ["_id"] = operation.Value["_id"]?.DeepClone(),
                        ["status"] = status,
                        ["error"] = new JsonObject { ["type"] = type, ["reason"] = "as told" },
                    },
                }, number));
                continue;
            }

            items.Add((null, number));
            rest.Append(action).Append('\n');
            if (document is not null) rest.Append(document).Append('\n');
        }

        var errors = items.Exists(item => item.Answer is not null);
        var answers = new Queue<JsonNode?>();
        if (rest.Length > 0)
        {
            var (status, _, answer) = await AskAsync(context, Encoding.UTF8.GetBytes(rest.ToString()));
            if (status != 200) throw new InvalidOperationException($"the server itself answers {status} to a bulk: {Encoding.UTF8.GetString(answer)}");
            var parsed = JsonNode.Parse(answer)!;
            errors |= parsed["errors"]!.GetValue<bool>();
            answers = new Queue<JsonNode?>(parsed["items"]!.AsArray());
        }

        var all = new JsonArray();
        foreach (var (refused, number) in items)
        {
            var answer = refused ?? answers.Dequeue()!.DeepClone();
            all.Add(answer);
            if (refused is not null || number is not { } it) continue;
            var status = answer.AsObject().Single().Value!["status"]!.GetValue<int>();
            if (status is 200 or 201 or 409) _stored[it] = true;
            if (status == 409) Interlocked.Increment(ref _conflicts);
        }

        return new JsonObject { ["errors"] = errors, ["items"] = all };
    }

    // Ours, and the one that rsyslog is told to use; chains and calls are not lines.
    static bool IsOfRecords(string action) => action.Contains("-records-", StringComparison.Ordinal) || action.Contains(RsyslogIndexer.IndexEnding, StringComparison.Ordinal);

    async Task<(int Status, string? Type, byte[] Answer)> AskAsync(HttpContext context, byte[] body)
    {
        using var request = new HttpRequestMessage(new HttpMethod(context.Request.Method), $"{_target}{context.Request.Path.ToUriComponent()}{context.Request.QueryString}");
        if (body.Length > 0)
        {
            request.Content = new ByteArrayContent(body);
            if (context.Request.ContentType is { Length: > 0 } type) request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(type);
        }

        using var response = await Http.SendAsync(request);
        return ((int)response.StatusCode, response.Content.Headers.ContentType?.ToString(), await response.Content.ReadAsByteArrayAsync());
    }

    static async Task<byte[]> BodyAsync(HttpContext context)
    {
        using var body = new MemoryStream();
        await context.Request.Body.CopyToAsync(body);
        return body.ToArray();
    }

    static async Task AnswerAsync(HttpContext context, int status, string body)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(body);
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync(new CancellationToken(true));
        await _app.DisposeAsync();
    }

    [GeneratedRegex("\"param\":\"(\\d+)\"")]
    private static partial Regex Number();
}
