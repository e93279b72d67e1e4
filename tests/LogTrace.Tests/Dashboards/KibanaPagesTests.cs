using System.Globalization;
using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using LogTrace.Benchmarks.Dashboards;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Commands;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Shipper;
using LogTrace.Tests.Support;
using LogTrace.Transport;
using Microsoft.Playwright;
using Xunit.Abstractions;

namespace LogTrace.Tests.Dashboards;

/// <summary>
/// The dashboards as an analyst sees them: imported into a real Kibana by <c>setup</c> and opened in a real browser. Asked for by <see cref="KibanaFactAttribute.Variable"/>;
/// with LOGTRACE_SCREENSHOTS naming a folder each dashboard is left there as a picture.
/// </summary>
public sealed class KibanaPagesTests(ITestOutputHelper output) : IAsyncLifetime
{
    // Nothing leaves the machine: no updates, no look-ups, no synchronisation.
    static readonly string[] Arguments =
        ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

    /// <summary>Every Vega view is kept, so that what it drew can be asked for; Kibana itself keeps the last one.</summary>
    const string KeepViews = """
        window.logtraceViews = [];
        addEventListener('keydown', event => { if (event.key === 'Enter') { window.logtraceViews.length = 0; window.logtraceAsked = performance.now(); } }, true);
        let kept;
        Object.defineProperty(window, 'VEGA_DEBUG', { configurable: true, get: () => kept, set: debug => {
          kept = debug;
          if (!debug) return;
          let view = debug.view;
          Object.defineProperty(debug, 'view', { configurable: true, get: () => view, set: next => { view = next; window.logtraceViews.push(next); } });
        } });
        """;

    /// <summary>All panels are there, and each says that it is drawn.</summary>
    const string IsDrawn = """
        () => {
          const items = [...document.querySelectorAll('[data-shared-item]')];
          const count = Number(document.querySelector('[data-shared-items-count]')?.getAttribute('data-shared-items-count') ?? 0);
          return count > 0 && items.length >= count && items.every(item => !item.querySelector('.euiLoadingChart, .euiLoadingSpinner'))
            && items.every(item => [item, ...item.querySelectorAll('[data-render-complete]')].every(it => it.getAttribute('data-render-complete') !== 'false'));
        }
        """;

    /// <summary>What is wrong with each panel, by its title.</summary>
    const string Troubles = """
        () => {
          const troubles = [];
          for (const panel of document.querySelectorAll('[data-test-subj="embeddablePanel"]')) {
            const title = (panel.querySelector('.embPanel__titleText, [data-test-subj="embeddablePanelTitle"], .embPanel__title')?.innerText ?? '').trim() || panel.innerText.trim().slice(0, 40);
            const errors = [...panel.querySelectorAll('.visError, .embPanel__error, .embPanel__label--error, .vgaVis__messages li, .euiCallOut--danger, [data-test-subj="embeddableError"], [data-test-subj="embeddableStackError"]')]
              .map(it => it.innerText.trim()).filter(text => text);
            if (errors.length) troubles.push(`${title}: ${errors.join('; ').slice(0, 300)}`);
            else if (/no results (found|match)|no data to display/i.test(panel.innerText)) troubles.push(`${title}: is empty`);
            for (const canvas of panel.querySelectorAll('canvas')) {
              if (!canvas.width || !canvas.height) continue;
              const pixels = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data;
              if (!pixels) continue;
              const colours = new Set();
              for (let i = 0; i < pixels.length && colours.size < 4; i += 4) if (pixels[i + 3]) colours.add(`${pixels[i]},${pixels[i + 1]},${pixels[i + 2]}`);
              if (colours.size < 2) troubles.push(`${title}: nothing is drawn`);
            }
          }
          for (const toast of document.querySelectorAll('.euiToast--danger')) troubles.push(`message: ${toast.innerText.slice(0, 300)}`);
          return troubles;
        }
        """;

    /// <summary>Milliseconds from the last Enter to the first frame that shows so many rows.</summary>
    const string WaterfallTime = """
        rows => new Promise(resolve => {
          const isDrawn = item => item.name === 'label' ? item.items.length > 0 : (item.items ?? []).some(isDrawn);
          const look = () => {
            const view = window.logtraceViews.find(view => { try { return view.data('rows').length === rows; } catch { return false; } });
            if (view && isDrawn(view.scenegraph().root)) requestAnimationFrame(now => resolve(now - window.logtraceAsked));
            else requestAnimationFrame(look);
          };
          look();
        })
        """;

    /// <summary>The texts that all Vega views have drawn.</summary>
    const string DrawnTexts = """
        () => {
          const texts = [];
          const visit = item => { if (item.text !== undefined && item.text !== null) texts.push(String(item.text)); (item.items ?? []).forEach(visit); };
          for (const view of window.logtraceViews) { try { visit(view.scenegraph().root); } catch { /* a view that its panel has replaced */ } }
          return texts;
        }
        """;

    static readonly List<JsonObject> Objects =
        [.. File.ReadLines(Path.Combine(Repository.Root, "kibana-objects.ndjson")).Where(line => line.Length > 0).Select(line => JsonNode.Parse(line)!.AsObject())];

    readonly HttpClient _store = new();
    IPlaywright? _playwright;
    IBrowser? _browser;
    IPage _page = null!;

    // Of the chains that are there: a chart of a week would show a minute of load as one bar.
    DateTimeOffset _from;
    DateTimeOffset _to;

    public async Task InitializeAsync()
    {
        if (KibanaFactAttribute.Url.Length == 0 || KibanaFactAttribute.Store.Length == 0 || BrowserFactAttribute.ChromiumPath is null) return;
        await SetUpAsync();
        await FindTimesAsync();
        _playwright = await Playwright.CreateAsync();
        _browser = await _playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions { ExecutablePath = BrowserFactAttribute.ChromiumPath, Args = Arguments, Timeout = 120_000 });
        _page = await _browser.NewPageAsync(new BrowserNewPageOptions { ViewportSize = new ViewportSize { Width = 1400, Height = 1000 } });
        _page.SetDefaultTimeout(120_000);
        await _page.AddInitScriptAsync(KeepViews);
    }

    public async Task DisposeAsync()
    {
        if (_browser is not null) await _browser.DisposeAsync();
        _playwright?.Dispose();
        _store.Dispose();
    }

    static async Task<(int ExitCode, string Said)> SetUpAsync()
    {
        var said = new StringWriter();
        var settings = Settings.Load(null, "none.json", [new("Kibana:Url", KibanaFactAttribute.Url), new("Kibana:Objects", Path.Combine(Repository.Root, "kibana-objects.ndjson"))]);
        return (await new Setup(said, said, lookOnly: false, TimeSpan.FromMinutes(2)).RunAsync(settings, CancellationToken.None), said.ToString());
    }

    async Task FindTimesAsync()
    {
        using var question = new StringContent("""{"size":0,"query":{"range":{"@timestamp":{"gte":"now-7d","lte":"now"}}},"aggs":{"first":{"min":{"field":"@timestamp"}},"last":{"max":{"field":"@timestamp"}}}}""", Encoding.UTF8, "application/json");
        var answer = JsonNode.Parse(await (await _store.PostAsync($"{KibanaFactAttribute.Store}/logtrace-chains-*/_search", question)).Content.ReadAsStringAsync())!;
        if (answer["aggregations"]?["first"]?["value"] is not { } first || answer["aggregations"]?["last"]?["value"] is not { } last)
            throw new InvalidOperationException($"{KibanaFactAttribute.Store} has no chains of the last week: fill it by './logtrace demo --once --elasticsearch {KibanaFactAttribute.Store}', and once more with '--lose orders'.");
        _from = DateTimeOffset.FromUnixTimeMilliseconds((long)first.GetValue<double>());
        _to = DateTimeOffset.FromUnixTimeMilliseconds((long)last.GetValue<double>()).AddSeconds(10);
    }

    static IEnumerable<(string Id, string Title)> Boards() =>
        Objects.Where(it => it["type"]!.ToString() == "dashboard").Select(it => (it["id"]!.ToString(), it["attributes"]!["title"]!.ToString()));

    async Task OpenAsync(string board, string query = "", string more = "")
    {
        await _page.GotoAsync("about:blank"); // else only the part behind # would change
        var state = query.Length == 0 ? "" : $"&_a=(query:(language:kuery,query:'{Uri.EscapeDataString(query)}'))";
        await _page.GotoAsync($"{KibanaFactAttribute.Url}/app/dashboards#/view/{board}?{more}_g=(time:(from:'{_from:yyyy-MM-ddTHH:mm:ss.fffZ}',to:'{_to:yyyy-MM-ddTHH:mm:ss.fffZ}')){state}");
        await DrawnAsync();
    }

    async Task DrawnAsync()
    {
        await _page.WaitForFunctionAsync(IsDrawn);
        // Vega says that it is drawn before it is.
        await _page.WaitForFunctionAsync("() => document.querySelectorAll('.vgaVis canvas, .vgaVis__view canvas').length === 0 || window.logtraceViews.length > 0");
        await _page.EvaluateAsync("() => Promise.all((window.logtraceViews ?? []).map(view => view.runAsync().catch(() => 0))).then(() => 0)");
    }

    async Task<string[]> TroublesAsync() => await _page.EvaluateAsync<string[]>(Troubles);

    /// <summary>What a panel drew on a canvas, or has as text.</summary>
    async Task<string> AllTextAsync() => string.Join('\n', await _page.EvaluateAsync<string[]>(DrawnTexts)) + "\n" + await _page.Locator("body").InnerTextAsync();

    async Task TakePictureAsync(string name)
    {
        if (Environment.GetEnvironmentVariable("LOGTRACE_SCREENSHOTS") is not { Length: > 0 } folder) return;
        await _page.AddStyleTagAsync(new PageAddStyleTagOptions { Content = ".euiGlobalToastList, .euiToast { display: none !important }" });
        var bottom = await _page.EvaluateAsync<int>("() => Math.ceil(Math.max(...[...document.querySelectorAll('[data-test-subj=\"embeddablePanel\"]')].map(panel => panel.getBoundingClientRect().bottom + window.scrollY)))");
        await _page.SetViewportSizeAsync(1400, Math.Clamp(bottom + 12, 400, 4000));
        await DrawnAsync();
        await _page.ScreenshotAsync(new PageScreenshotOptions { Path = Path.Combine(folder, $"{name}.png") });
        await _page.SetViewportSizeAsync(1400, 1000);
    }

    [KibanaFact]
    public async Task File_is_imported_without_an_error_and_a_second_time_nothing_changes()
    {
        var (exitCode, said) = await SetUpAsync();

        exitCode.Should().Be(0, said);
        said.Should().Contain($"ok       {Objects.Count} saved objects").And.EndWith("nothing changed\n");
    }

    [KibanaFact]
    public async Task Every_panel_of_every_dashboard_shows_something()
    {
        var troubles = new List<string>();
        foreach (var (id, title) in Boards())
        {
            try
            {
                await OpenAsync(id, more: "embed=true&");
                troubles.AddRange((await TroublesAsync()).Select(trouble => $"{title} / {trouble}"));
                troubles.AddRange((await _page.EvaluateAsync<string[]>(DrawnTexts)).Where(text => text.Contains("NaN", StringComparison.Ordinal) || text is "undefined" or "null").Select(text => $"{title} / draws '{text}'").Distinct());
                await TakePictureAsync(id);
            }
            catch (TimeoutException)
            {
                troubles.Add($"{title} / is not drawn in time: {string.Join("; ", await TroublesAsync())}");
                await TakeFailureAsync(id);
            }
        }

        troubles.Should().BeEmpty();
        (await SetUpAsync()).Said.Should().EndWith("nothing changed\n", "looking at the dashboards changes none of them");
    }

    async Task TakeFailureAsync(string id)
    {
        if (Environment.GetEnvironmentVariable("LOGTRACE_SCREENSHOTS") is { Length: > 0 } folder) await _page.ScreenshotAsync(new PageScreenshotOptions { Path = Path.Combine(folder, $"{id}-failed.png") });
    }

    [KibanaFact]
    public async Task Click_on_a_trace_id_shows_that_chain()
    {
        await OpenAsync("logtrace-dash-overview");
        var link = _page.Locator("[data-test-subj='embeddablePanel'] a[href*='logtrace-dash-chain?']").First;
        var traceId = System.Text.RegularExpressions.Regex.Match(Uri.UnescapeDataString((await link.GetAttributeAsync("href"))!), "trace_id:\"([^\"]+)\"").Groups[1].Value;
        traceId.Should().NotBeEmpty();

        await _page.EvaluateAsync("() => { window.logtraceViews.length = 0; }");
        await _page.Locator($"[data-test-subj='embeddablePanel'] a[href*='{traceId}']").First.ClickAsync();
        await _page.WaitForURLAsync("**/logtrace-dash-chain**");
        await _page.WaitForFunctionAsync("() => window.logtraceViews.length > 0"); // else what is still drawn of the overview would do
        await DrawnAsync();

        (await TroublesAsync()).Should().BeEmpty();
        var drawn = JsonNode.Parse(await _page.EvaluateAsync<string>("() => { for (const view of window.logtraceViews.slice().reverse()) try { return JSON.stringify(view.data('rows').filter(row => !row.isGap).map(row => row.id)); } catch { } return '[]'; }"))!
            .AsArray().Select(id => id!.ToString()).ToList();
        var stored = await RowsAsync(traceId);
        drawn.Should().Equal(stored, $"these are the rows of chain {traceId}");
        (await AllTextAsync()).Should().Contain(traceId);
    }

    async Task<List<string>> RowsAsync(string traceId)
    {
        using var json = JsonDocument.Parse(await _store.GetStringAsync($"{KibanaFactAttribute.Store}/logtrace-chains-*/_search?_source_includes=rows&q=trace_id:%22{Uri.EscapeDataString(traceId)}%22"));
        return [.. json.RootElement.GetProperty("hits").GetProperty("hits")[0].GetProperty("_source").GetProperty("rows").EnumerateArray()
            .Where(row => row.TryGetProperty("rpc_id", out _)) // the others are gaps
            .Select(row => row.GetProperty("rpc_id").GetString()!)];
    }

    [KibanaFact]
    public async Task Hostile_text_is_shown_as_text_on_every_dashboard()
    {
        const string attack = """<script>window.hacked=1</script><img src=x onerror="window.hacked=1">{{7*191}}""";
        var traceId = $"hostile-{Guid.NewGuid():n}";
        await AddAsync(traceId, attack + "\u202eright to left\u202c");
        try
        {
            foreach (var (id, title) in Boards())
            {
                await OpenAsync(id, $"trace_id:\"{traceId}\"");
                (await _page.EvaluateAsync<bool>("() => 'hacked' in window")).Should().BeFalse(title);
                (await _page.Locator("img[src='x']").CountAsync()).Should().Be(0, title);
                var text = await AllTextAsync();
                text.Should().NotContain("1337", "{{7*191}} is no template");
                if (id == "logtrace-dash-chain") text.Should().Contain("<script>window.hacked=1</script>", title);
                if (id is "logtrace-dash-chain" or "logtrace-dash-overview") await TakePictureAsync($"hostile-{id}");
            }
        }
        finally
        {
            await RemoveAsync(traceId);
        }
    }

    [KibanaFact]
    public async Task Chain_of_5_000_calls_is_drawn_and_of_a_larger_one_the_first_5_000_and_where_the_rest_is()
    {
        await OpenAsync("logtrace-dash-chain");
        // A busy machine lengthens the time, but not the work.
        var work = await _page.Context.NewCDPSessionAsync(_page);
        await work.SendAsync("Performance.enable", new() { ["timeDomain"] = "threadTicks" });
        var at = (_from + ((_to - _from) / 2)).ToUnixTimeMilliseconds() * 1000;
        foreach (var calls in new[] { ChainDocuments.MaxRows, ChainDocuments.MaxRows + 3_000 })
        {
            var traceId = $"large-{calls}-{Guid.NewGuid():n}";
            await StoreAsync(traceId, LargeChain.Records(calls, traceId, at));
            try
            {
                for (var round = 0; round < 3; round++)
                {
                    await AskAsync("trace_id:none");
                    await DrawnAsync();
                    var before = await WorkAsync(work);
                    await AskAsync($"trace_id:\"{traceId}\"");
                    var took = await _page.EvaluateAsync<double>(WaterfallTime, ChainDocuments.MaxRows);
                    var cpu = await WorkAsync(work) - before;
                    output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{calls:N0} calls: {took:N0} ms from asking to the picture, of which the page had {cpu:N0} ms of a processor"));
                    await DrawnAsync();
                }

                (await TroublesAsync()).Should().BeEmpty();
                var text = await AllTextAsync();
                text.Should().Contain($"{calls.ToString("N0", CultureInfo.InvariantCulture)} calls");
                if (calls > ChainDocuments.MaxRows) text.Should().Contain("Only the first 5,000 of 8,000 rows are drawn here; all are in the viewer").And.Contain($"/chain/{traceId}");
                else text.Should().NotContain("Only the first");
            }
            finally
            {
                await RemoveAsync(traceId);
            }
        }
    }

    /// <summary>Milliseconds of a processor that the page's main thread has had.</summary>
    static async Task<double> WorkAsync(ICDPSession page) =>
        (await page.SendAsync("Performance.getMetrics"))!.Value.GetProperty("metrics").EnumerateArray().Single(metric => metric.GetProperty("name").GetString() == "TaskDuration").GetProperty("value").GetDouble() * 1000;

    /// <summary>Puts a query into the query bar, as an analyst does.</summary>
    async Task AskAsync(string query)
    {
        var bar = _page.Locator("[data-test-subj='queryInput']");
        await bar.FillAsync(query);
        await bar.PressAsync("Escape"); // the suggestions would take the Enter
        await bar.PressAsync("Enter");
    }

    /// <summary>A request, a call it makes, a failed one, a log line and an alarm, each with the text wherever a service may write one.</summary>
    async Task AddAsync(string traceId, string text)
    {
        var json = JsonSerializer.Serialize(text);
        var longText = JsonSerializer.Serialize(text + new string('x', 10_000));
        var at = (_from + ((_to - _from) / 2)).ToUnixTimeMilliseconds() * 1000;
        string Line(string name, string rpcId, string service, string more) => string.Create(CultureInfo.InvariantCulture,
            $$"""{"name":"{{name}}","trace_id":"{{traceId}}","rpc_id":"{{rpcId}}","timestamp":{{at / 1_000_000}},"timestamp_us":{{at}},"department":"shop","module":{{json}},"server_ip":"10.0.0.7","service":{{JsonSerializer.Serialize(service)}},"action":{{json}},"param":{{longText}},"uid":{{json}},"duration":0.1{{more}}}""");
        string[] lines =
        [
            Line("request.info.error", "1.1", text, $",\"code\":{json},\"msg\":{json}"),
            Line("http.get.error", "1.2", text, $",\"code\":\"500\",\"msg\":{longText},\"host\":{json}"),
            Line("mysql.request", "1.3", text, $",\"db\":{json},\"instance_name\":{json}"),
            Line("request.info", "1.4.1", text + "2", ""),
            Line("log.exception", "1.2", text, $",\"msg\":{json},\"backtrace\":{json}"),
            Line("log.alarm", "1.2", text, $",\"msg\":{json}"),
            Line("log.debug", "1.2", text, $",\"msg\":{json},\"debug\":true"),
        ];
        var source = new SourceFile("host-1", XxHash128.HashToUInt128(Encoding.UTF8.GetBytes(traceId)), "/var/log/hostile.log");
        var records = new List<IndexedRecord>();
        var offset = 0L;
        foreach (var line in lines.Select(Encoding.UTF8.GetBytes))
        {
            RecordCodec.TryRead(line, out var record, out var reason).Should().BeTrue(reason);
            records.Add(RecordDeriver.Derive(record, source.RecordIdAt(offset, line), XxHash128.HashToUInt128(line), source.Path, offset, at));
            offset += line.Length + 1;
        }

        await StoreAsync(traceId, records);
    }

    async Task StoreAsync(string traceId, IReadOnlyList<IndexedRecord> records)
    {
        await using var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [KibanaFactAttribute.Store] });
        await store.OpenAsync(CancellationToken.None);
        (await store.WriteAsync(records, CancellationToken.None)).Refused.Should().BeEmpty();
        await store.WriteChainsAsync([ChainDocuments.From(ChainBuilder.Build(traceId, records))], CancellationToken.None);
        await _store.PostAsync($"{KibanaFactAttribute.Store}/logtrace-*/_refresh", null);
    }

    async Task RemoveAsync(string traceId)
    {
        var query = new JsonObject { ["query"] = new JsonObject { ["term"] = new JsonObject { ["trace_id"] = traceId } } };
        using var content = new StringContent(query.ToJsonString(), Encoding.UTF8, "application/json");
        (await _store.PostAsync($"{KibanaFactAttribute.Store}/logtrace-*/_delete_by_query?conflicts=proceed&refresh=true", content)).EnsureSuccessStatusCode();
    }
}
