using System.Buffers;
using System.Globalization;
using System.Net;
using System.Reflection;
using System.Text;
using System.Text.Json;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Records;

namespace LogTrace.Indexer.Viewer;

/// <summary>What the viewer shows beside the store's contents.</summary>
public sealed record ViewerOptions
{
    /// <summary>How chains are built.</summary>
    public ChainOptions Chains { get; init; } = ChainOptions.Default;

    /// <summary>The pipeline's counters by name, for the status; null where no pipeline runs in this process.</summary>
    public Func<IReadOnlyDictionary<string, long>>? Counters { get; init; }
}

/// <summary>
/// The built-in viewer: one page that lists chains and draws one as a waterfall, and the JSON it is made of. For this machine only: a caller from elsewhere is
/// refused, and so is a Host header that names anything but this machine, since a page of any website could otherwise rebind its own name to
/// 127.0.0.1 and read every log through the browser. The page loads nothing from elsewhere and shows log text as text only.
/// </summary>
public static class ViewerEndpoints
{
    /// <summary>More records than this are not sent to the page; the chain itself is whole.</summary>
    const int MaxRecords = 20_000;

    /// <summary>Most rows sent to the page.</summary>
    const int MaxRows = 20_000;

    /// <summary>Longest single text sent to the page, in characters.</summary>
    const int MaxText = 16_000;

    const string ContentPolicy =
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    static readonly Dictionary<string, (byte[] Content, string Type)> Files = new()
    {
        ["index.html"] = (ReadFile("index.html"), "text/html; charset=utf-8"),
        ["viewer.js"] = (ReadFile("viewer.js"), "text/javascript; charset=utf-8"),
        ["viewer.css"] = (ReadFile("viewer.css"), "text/css; charset=utf-8"),
    };

    /// <summary>
    /// Maps the page at <c>/</c> and <c>/chain/ID</c>, and the API at <c>/api/status</c>, <c>/api/chains</c> (query: service, action, text, uid, errors, incomplete, min_ms,
    /// from_us, to_us, limit) and <c>/api/chains/ID</c> (the object of <c>chain --json</c> with the drawn <c>rows</c> and the texts of the <c>records</c>). An ID that
    /// is no path can be given as <c>?id=</c>. The server that it is mapped on must listen on loopback addresses only.
    /// </summary>
    public static IEndpointRouteBuilder MapViewer(this IEndpointRouteBuilder endpoints, ITraceStore store, ViewerOptions? options = null)
    {
        options ??= new ViewerOptions();
        Get("/", context => SendFileAsync(context, "index.html"));
        Get("/chain/{**id}", context => SendFileAsync(context, "index.html"));
        Get("/viewer.js", context => SendFileAsync(context, "viewer.js"));
        Get("/viewer.css", context => SendFileAsync(context, "viewer.css"));
        Get("/api/status", context => SendStatusAsync(context, store, options));
        Get("/api/chains", context => context.Request.Query.ContainsKey("id") ? SendChainAsync(context, store, options) : SendChainsAsync(context, store));
        Get("/api/chains/{**id}", context => SendChainAsync(context, store, options));
        return endpoints;

        void Get(string pattern, Func<HttpContext, Task> handler) => endpoints.MapGet(pattern, (RequestDelegate)(context => GuardAsync(context, handler)));
    }

    static async Task GuardAsync(HttpContext context, Func<HttpContext, Task> handler)
    {
        var headers = context.Response.Headers;
        headers.ContentSecurityPolicy = ContentPolicy;
        headers.XContentTypeOptions = "nosniff";
        headers.XFrameOptions = "DENY";
        headers["Referrer-Policy"] = "no-referrer";
        headers["Cross-Origin-Resource-Policy"] = "same-origin";
        headers.CacheControl = "no-store";
        if (!IsThisMachine(context.Request.Host))
        {
            await SendTextAsync(context, StatusCodes.Status421MisdirectedRequest,
                "This viewer answers to the names of this machine only: open it as http://127.0.0.1:PORT/ or http://localhost:PORT/.");
            return;
        }

        // No address at all is an in-process caller, such as a test server.
        if (context.Connection.RemoteIpAddress is { } remote && !IPAddress.IsLoopback(remote))
        {
            await SendTextAsync(context, StatusCodes.Status403Forbidden, "This viewer can be used on its own machine only. A tunnel makes it reachable from yours: ssh -L 8080:127.0.0.1:PORT HOST.");
            return;
        }

        try
        {
            await handler(context);
        }
        catch (StoreUnavailableException exception)
        {
            if (context.Response.HasStarted) throw;
            await SendErrorAsync(context, StatusCodes.Status503ServiceUnavailable, exception.Message);
        }
        catch (InvalidDataException exception)
        {
            // A damaged file of the store; the message says which, and what to do.
            if (context.Response.HasStarted) throw;
            await SendErrorAsync(context, StatusCodes.Status500InternalServerError, exception.Message);
        }
    }

    static bool IsThisMachine(HostString host) =>
        host.HasValue && (host.Host is "127.0.0.1" or "[::1]" || host.Host.Equals("localhost", StringComparison.OrdinalIgnoreCase));

    static Task SendFileAsync(HttpContext context, string name)
    {
        var (content, type) = Files[name];
        context.Response.ContentType = type;
        return context.Response.Body.WriteAsync(content, context.RequestAborted).AsTask();
    }

    static byte[] ReadFile(string name)
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream("viewer/" + name)
            ?? throw new InvalidOperationException($"The viewer's {name} is not in the program: Viewer/wwwroot was not embedded when it was built.");
        using var content = new MemoryStream();
        stream.CopyTo(content);
        return content.ToArray();
    }

    static Task SendTextAsync(HttpContext context, int status, string text)
    {
        context.Response.StatusCode = status;
        context.Response.ContentType = "text/plain; charset=utf-8";
        return context.Response.WriteAsync(text + "\n", context.RequestAborted);
    }

    static Task SendErrorAsync(HttpContext context, int status, string message)
    {
        context.Response.StatusCode = status;
        return SendJsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("error"u8, message);
            json.WriteEndObject();
        });
    }

    static Task SendJsonAsync(HttpContext context, Action<Utf8JsonWriter> write)
    {
        var output = new ArrayBufferWriter<byte>(4096);
        using (var json = new Utf8JsonWriter(output)) write(json);
        return SendJsonAsync(context, output);
    }

    static Task SendJsonAsync(HttpContext context, ArrayBufferWriter<byte> output)
    {
        context.Response.ContentType = "application/json; charset=utf-8";
        return context.Response.Body.WriteAsync(output.WrittenMemory, context.RequestAborted).AsTask();
    }

    static async Task SendStatusAsync(HttpContext context, ITraceStore store, ViewerOptions options)
    {
        var counts = await store.CountAsync(context.RequestAborted);
        await SendJsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteNumber("records"u8, counts.Records);
            json.WriteNumber("chains"u8, counts.Chains);
            if (options.Counters?.Invoke() is { } counters)
            {
                json.WriteStartObject("counters"u8);
                foreach (var (name, value) in counters) json.WriteNumber(name, value);
                json.WriteEndObject();
            }

            json.WriteEndObject();
        });
    }

    static async Task SendChainsAsync(HttpContext context, ITraceStore store)
    {
        var problems = new List<string>();
        var query = ReadQuery(context.Request.Query, problems);
        if (problems.Count > 0)
        {
            await SendErrorAsync(context, StatusCodes.Status400BadRequest, string.Join(' ', problems));
            return;
        }

        var chains = await store.FindChainsAsync(query, context.RequestAborted);
        await SendJsonAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteStartArray("chains"u8);
            foreach (var chain in chains) WriteSummary(json, chain);
            json.WriteEndArray();
            json.WriteEndObject();
        });
    }

    static TraceQuery ReadQuery(IQueryCollection query, List<string> problems)
    {
        return new TraceQuery
        {
            Service = Text("service"),
            Action = Text("action"),
            Uid = Text("uid"),
            Text = Text("text"),
            HasErrors = IsOn("errors") ? true : null,
            Complete = IsOn("incomplete") ? false : null,
            MinDurationMicros = Number("min_ms", 0, 1_000_000_000) * 1000,
            FromMicros = Number("from_us", 0, long.MaxValue),
            ToMicros = Number("to_us", 0, long.MaxValue),
            Limit = (int)(Number("limit", 1, 1000) ?? 50),
        };

        string? Text(string name) => query[name].ToString().Trim() is { Length: > 0 } text ? text : null;

        bool IsOn(string name) => Text(name) is "1" or "true";

        long? Number(string name, long least, long most)
        {
            if (Text(name) is not { } text) return null;
            if (long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most) return number;
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"{name} is '{ActionKey.Cut(text, 64)}'; it must be a number between {least:N0} and {most:N0}."));
            return null;
        }
    }

    static void WriteSummary(Utf8JsonWriter json, ChainDocument chain)
    {
        json.WriteStartObject();
        json.WriteString("trace_id"u8, chain.TraceId);
        json.WriteNumber("start_us"u8, chain.StartMicros);
        json.WriteNumber("duration_us"u8, chain.DurationMicros);
        json.WriteString("entry_service"u8, chain.EntryService);
        json.WriteString("entry_action"u8, chain.EntryAction is { } action ? ActionKey.Cut(action, 300) : null);
        json.WriteString("entry_code"u8, chain.EntryCode);
        json.WriteStartArray("services"u8);
        foreach (var service in chain.Services.Take(50)) json.WriteStringValue(service);
        json.WriteEndArray();
        json.WriteNumber("record_count"u8, chain.RecordCount);
        json.WriteNumber("node_count"u8, chain.NodeCount);
        json.WriteNumber("depth"u8, chain.Depth);
        json.WriteNumber("placeholder_count"u8, chain.PlaceholderCount);
        json.WriteNumber("gap_count"u8, chain.GapCount);
        json.WriteNumber("callee_only_count"u8, chain.CalleeOnlyCount);
        json.WriteNumber("likely_loss_count"u8, chain.LikelyLossCount);
        json.WriteNumber("ambiguous_count"u8, chain.AmbiguousCount);
        json.WriteNumber("error_count"u8, chain.ErrorCount);
        json.WriteNumber("alarm_count"u8, chain.AlarmCount);
        json.WriteBoolean("debug"u8, chain.Debug);
        json.WriteBoolean("sampled"u8, chain.Sampled);
        json.WriteBoolean("complete"u8, chain.Complete);
        json.WriteBoolean("resolved"u8, chain.Resolved);
        json.WriteNumber("last_record_us"u8, chain.LastRecordMicros);
        json.WriteEndObject();
    }

    static async Task SendChainAsync(HttpContext context, ITraceStore store, ViewerOptions options)
    {
        var traceId = context.Request.RouteValues["id"] as string ?? context.Request.Query["id"].ToString();
        if (!RecordCodec.IsTraceId(Encoding.UTF8.GetBytes(traceId)))
        {
            await SendErrorAsync(context, StatusCodes.Status400BadRequest, $"A trace id is 1 to {RecordCodec.MaxTraceIdBytes} visible ASCII characters.");
            return;
        }

        var records = await store.GetTraceAsync(traceId, context.RequestAborted);
        if (records.Count == 0)
        {
            if (await store.GetChainAsync(traceId, context.RequestAborted) is { Dropped: true })
            {
                await SendErrorAsync(context, StatusCodes.Status410Gone, $"Trace {traceId} was not kept: none of the rules in Indexer:Keep spoke for it, so its records were deleted.");
                return;
            }

            await SendErrorAsync(context, StatusCodes.Status404NotFound, $"No record of trace {traceId} is stored. Records appear here within seconds of being logged; old days are deleted.");
            return;
        }

        var chain = ChainBuilder.Build(traceId, records, options.Chains);

        // What other chains teach about this one is known to whoever indexed it.
        var labels = await store.GetChainAsync(traceId, context.RequestAborted) is { } stored ? ChainDocuments.StoredLabels(chain, stored.Calls) : null;
        var output = new ArrayBufferWriter<byte>(64 * 1024);
        output.Write(OpenEnded(chain));
        output.Write(",\"rows_total\":"u8);
        output.Write(Encoding.ASCII.GetBytes(chain.RowCount.ToString(CultureInfo.InvariantCulture)));
        output.Write(",\"rows\":"u8);
        output.Write(ChainDocuments.Rows(chain, MaxRows, labels).Span);
        output.Write(",\"records\":"u8);
        using (var json = new Utf8JsonWriter(output)) WriteRecords(json, chain);
        output.Write("}"u8);
        await SendJsonAsync(context, output);
    }

    // The object of `chain --json` without its closing brace, so that it stays that object, member for member, with more behind.
    static ReadOnlySpan<byte> OpenEnded(CallChain chain)
    {
        var output = new ArrayBufferWriter<byte>(64 * 1024);
        ChainJson.Write(chain, output);
        return output.WrittenSpan[..^1];
    }

    // With the node they are placed on, in the order in which they are read there.
    static void WriteRecords(Utf8JsonWriter json, CallChain chain)
    {
        var count = 0;
        json.WriteStartArray();
        foreach (var node in chain.Nodes)
        {
            foreach (var record in node.Records)
            {
                if (count++ == MaxRecords) break;
                WriteRecord(json, node, record);
            }
        }

        json.WriteEndArray();
    }

    static void WriteRecord(Utf8JsonWriter json, ChainNode node, IndexedRecord indexed)
    {
        var record = indexed.Record;
        json.WriteStartObject();
        json.WriteString("node"u8, node.IdText);
        json.WriteNumber("execution"u8, node.Execution);
        json.WriteString("position"u8, $"{indexed.SourceFile}:{indexed.SourceOffset}");
        json.WriteNumber("time_us"u8, record.TimestampMicros);
        json.WriteNumber("start_us"u8, indexed.StartMicros);
        if (record.DurationMicros is { } duration) json.WriteNumber("duration_us"u8, duration);
        if (record.DnsDurationMicros is { } dnsDuration) json.WriteNumber("dns_duration_us"u8, dnsDuration);
        if (record.ResponseLength is { } length) json.WriteNumber("response_length"u8, length);
        if (record.RpcId is { } rpcId) json.WriteString("rpc_id"u8, rpcId.Text);
        if (indexed.Service is { } service) json.WriteString("service"u8, service);
        if (indexed.IsError) json.WriteBoolean("error"u8, true);
        if (record.Debug == true) json.WriteBoolean("debug"u8, true);
        foreach (var field in RecordFields.All)
        {
            var isText = field.Type is FieldType.String or FieldType.ObjectOrString && field.Field is not (RecordField.RpcId or RecordField.TraceId or RecordField.Service);
            if (isText && record.Text(field.Field) is { Length: > 0 } text) json.WriteString(field.WireName, ActionKey.Cut(text, MaxText));
        }

        if (record.UnreadableFields is { Count: > 0 } unreadable) json.WriteString("unreadable"u8, string.Join(", ", unreadable));
        if (record.MissingFields() is { Count: > 0 } missing) json.WriteString("missing"u8, string.Join(", ", missing));
        json.WriteEndObject();
    }
}
