using LogTrace.Tests.Support;
using Microsoft.Playwright;

namespace LogTrace.Tests.Viewer;

/// <summary>The page as a person sees it, in a real browser.</summary>
public sealed class ViewerPageTests : IAsyncLifetime
{
    // Nothing leaves the machine: no updates, no look-ups, no synchronisation.
    static readonly string[] Arguments =
        ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

    readonly List<string> _troubles = [];
    readonly List<string> _requests = [];
    ViewerSite _site = null!;
    IPlaywright? _playwright;
    IBrowser? _browser;
    IPage _page = null!;

    public async Task InitializeAsync()
    {
        if (BrowserFactAttribute.ChromiumPath is null) return;
        _site = await ViewerSite.StartAsync();
        _playwright = await Playwright.CreateAsync();
        _browser = await _playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions { ExecutablePath = BrowserFactAttribute.ChromiumPath, Args = Arguments, Timeout = 120_000 });
        _page = await _browser.NewPageAsync(new BrowserNewPageOptions { ViewportSize = new ViewportSize { Width = 1360, Height = 860 } });
        _page.SetDefaultTimeout(60_000);
        _page.Console += (_, message) => { if (message.Type is "error" or "warning") _troubles.Add(message.Text); };
        _page.PageError += (_, error) => _troubles.Add(error);
        _page.Request += (_, request) => _requests.Add(request.Url);
    }

    public async Task DisposeAsync()
    {
        if (_browser is not null) await _browser.DisposeAsync();
        _playwright?.Dispose();
        if (_site is not null) await _site.DisposeAsync();
    }

    Task OpenAsync(string path) => _page.GotoAsync(new Uri(_site.Address, path).ToString());

    // For people: set LOGTRACE_SCREENSHOTS to a folder to look at what the tests saw.
    async Task TakePictureAsync(string name)
    {
        if (Environment.GetEnvironmentVariable("LOGTRACE_SCREENSHOTS") is not { Length: > 0 } folder) return;
        foreach (var scheme in new[] { ColorScheme.Light, ColorScheme.Dark })
        {
            await _page.EmulateMediaAsync(new PageEmulateMediaOptions { ColorScheme = scheme });
            await _page.ScreenshotAsync(new PageScreenshotOptions { Path = Path.Combine(folder, $"{name}-{scheme}.png".ToLowerInvariant()), FullPage = true });
        }
    }

    void ShouldHaveStayedQuiet()
    {
        _troubles.Should().BeEmpty();
        _requests.Should().OnlyContain(url => url.StartsWith(_site.Address.ToString()) || url.StartsWith("data:"));
    }

    [BrowserFact]
    public async Task Chain_is_found_in_the_list_and_drawn_as_a_waterfall()
    {
        await OpenAsync("/");
        await _page.Locator("a.chain").First.WaitForAsync();
        (await _page.Locator("a.chain").CountAsync()).Should().Be(4);
        await TakePictureAsync("list");
        await _page.Locator("a.chain[title='checkout-whole']").ClickAsync();
        await _page.Locator("button.row").First.WaitForAsync();
        _page.Url.Should().EndWith("/chain/checkout-whole");
        (await _page.Locator("button.row .id").AllInnerTextsAsync())
            .Should().Equal("1", "1.2", "1.3", "1.3.2", "1.3.3", "1.3.3.2", "1.3.3.2.2", "1.3.4", "1.3.4.2", "1.3.4.3");
        (await _page.Locator(".summary").InnerTextAsync()).Should().Contain("gateway POST /checkout").And.Contain("complete").And.Contain("190 ms");
        (await _page.Locator("button.row.failed").CountAsync()).Should().Be(1);
        (await _page.Locator("button.row.failed .mark").CountAsync()).Should().Be(1);
        var call = _page.Locator("button.row", new() { Has = _page.GetByText("1.3.3.2", new() { Exact = true }) });
        (await call.Locator(".bar.caller").CountAsync()).Should().Be(1);
        (await call.Locator(".bar.callee").CountAsync()).Should().Be(1);
        await _page.Locator("button.row.failed").ClickAsync();
        (await _page.Locator(".logs").InnerTextAsync()).Should().Contain("Payment is busy, trying again").And.Contain("No connection to the bank");
        await _page.Locator(".log.failed details").First.ClickAsync();
        await TakePictureAsync("chain");
        await _page.GoBackAsync();
        await _page.Locator("a.chain").First.WaitForAsync();
        ShouldHaveStayedQuiet();
    }

    [BrowserFact]
    public async Task Lost_records_are_drawn_as_hollow_rows_and_gaps()
    {
        await OpenAsync("/chain/checkout-lost");
        await _page.Locator("button.row").First.WaitForAsync();
        (await _page.Locator(".row.placeholder").CountAsync()).Should().BeGreaterThan(0);
        (await _page.Locator(".row.placeholder .bar.hollow").First.IsVisibleAsync()).Should().BeTrue();
        (await _page.Locator(".row.placeholder").First.InnerTextAsync()).Should().Contain("no record of this call");
        (await _page.Locator(".row.gap").First.InnerTextAsync()).Should().Contain("without a record");
        (await _page.Locator(".summary .badge.loss").InnerTextAsync()).Should().Contain("known from their children only");
        await TakePictureAsync("lost");
        ShouldHaveStayedQuiet();
    }

    [BrowserFact]
    public async Task Markup_in_log_text_is_shown_as_text_and_not_run()
    {
        await OpenAsync("/");
        await _page.Locator("a.chain[title='attack']").ClickAsync();
        await _page.Locator("button.row").First.ClickAsync();
        await _page.Locator(".log details summary").First.ClickAsync();
        (await _page.Locator("button.row .action").First.InnerTextAsync()).Should().Be(ViewerSite.Attack);
        (await _page.Locator(".logs").InnerTextAsync()).Should().Contain(ViewerSite.Attack);
        (await _page.EvaluateAsync<bool>("() => 'hacked' in window")).Should().BeFalse();
        (await _page.Locator("main script, main img").CountAsync()).Should().Be(0);
        ShouldHaveStayedQuiet();
    }

    [BrowserFact]
    public async Task Deep_link_opens_any_id_and_filters_are_part_of_the_address()
    {
        await OpenAsync("/chain?id=" + Uri.EscapeDataString("odd/id?x=1#y&z"));
        await _page.GetByText("GET /odd").First.WaitForAsync();
        await OpenAsync("/?incomplete=1");
        await _page.Locator("a.chain").First.WaitForAsync();
        (await _page.Locator("a.chain").CountAsync()).Should().Be(1);
        (await _page.Locator("#incomplete").IsCheckedAsync()).Should().BeTrue();
        await _page.Locator("#incomplete").UncheckAsync();
        await _page.Locator("a.chain").Nth(3).WaitForAsync();
        await _page.Locator("#service").FillAsync("billing");
        await _page.WaitForURLAsync("**/?service=billing");
        await _page.WaitForFunctionAsync("() => document.querySelectorAll('a.chain').length === 1");
        await OpenAsync("/chain/nobody");
        await _page.GetByText("No record of trace nobody").WaitForAsync();
    }

    [BrowserFact]
    public async Task List_shows_new_chains_by_itself()
    {
        await OpenAsync("/?service=late");
        await _page.GetByText("Nothing matches").WaitForAsync();
        await _site.AddAsync("late-1", ["""{"name":"request.info","trace_id":"TRACE","rpc_id":"1.1","timestamp":TIME,"service":"late","action":"GET /late"}""".Replace("TIME", DateTimeOffset.UtcNow.ToUnixTimeSeconds().ToString())]);
        await _page.Locator("a.chain[title='late-1']").WaitForAsync();
        ShouldHaveStayedQuiet();
    }
}
