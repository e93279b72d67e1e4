using System.Buffers;
using System.Net;
using System.Text.Json;
using LogTrace.Indexer.Chains;

namespace LogTrace.Tests.Viewer;

public sealed class ViewerApiTests : IAsyncLifetime
{
    readonly HttpClient _client = new();
    ViewerSite _site = null!;

    public async Task InitializeAsync()
    {
        _site = await ViewerSite.StartAsync();
        _client.BaseAddress = _site.Address;
    }

    public async Task DisposeAsync()
    {
        _client.Dispose();
        await _site.DisposeAsync();
    }

    async Task<JsonElement> JsonAsync(string path, HttpStatusCode status = HttpStatusCode.OK)
    {
        var response = await _client.GetAsync(path);
        var text = await response.Content.ReadAsStringAsync();
        response.StatusCode.Should().Be(status, text);
        response.Content.Headers.ContentType!.MediaType.Should().Be("application/json");
        return JsonDocument.Parse(text).RootElement;
    }

    static IEnumerable<string?> Ids(JsonElement answer) => answer.GetProperty("chains").EnumerateArray().Select(chain => chain.GetProperty("trace_id").GetString());

    [Theory]
    [InlineData("evil.example")]
    [InlineData("127.0.0.1.evil.example")]
    [InlineData("localhost.evil.example:80")]
    [InlineData("10.0.0.7:8080")]
    [InlineData("0.0.0.0")]
    public async Task Host_that_is_not_this_machine_is_refused(string host)
    {
        foreach (var path in new[] { "/", "/viewer.js", "/api/status", "/api/chains", "/api/chains/checkout-whole", "/chain/checkout-whole" })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, path);
            request.Headers.Host = host;
            var response = await _client.SendAsync(request);
            response.StatusCode.Should().Be(HttpStatusCode.MisdirectedRequest);
            (await response.Content.ReadAsStringAsync()).Should().Contain("names of this machine only").And.NotContain("checkout");
        }
    }

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("127.0.0.1:1234")]
    [InlineData("localhost:8080")]
    [InlineData("LocalHost")]
    [InlineData("[::1]:8080")]
    public async Task Names_of_this_machine_are_answered(string host)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/api/status");
        request.Headers.Host = host;
        (await _client.SendAsync(request)).StatusCode.Should().Be(HttpStatusCode.OK);
    }

    [Fact]
    public async Task Page_may_load_from_itself_only()
    {
        foreach (var path in new[] { "/", "/chain/checkout-whole", "/chain/any%2Fthing" })
        {
            var response = await _client.GetAsync(path);
            response.Content.Headers.ContentType!.ToString().Should().Be("text/html; charset=utf-8");
            var policy = response.Headers.GetValues("Content-Security-Policy").Single();
            policy.Should().Contain("default-src 'none'").And.Contain("script-src 'self'").And.NotContain("unsafe").And.NotContain("*");
            response.Headers.GetValues("X-Content-Type-Options").Single().Should().Be("nosniff");
            (await response.Content.ReadAsStringAsync()).Should().NotContain("src=\"http").And.NotContain("href=\"http");
        }
    }

    [Fact]
    public async Task Chains_are_listed_and_filtered()
    {
        Ids(await JsonAsync("/api/chains")).Should().BeEquivalentTo("checkout-whole", "checkout-lost", "attack", "odd/id?x=1#y&z");
        Ids(await JsonAsync("/api/chains?incomplete=1")).Should().Equal("checkout-lost");
        Ids(await JsonAsync("/api/chains?service=billing")).Should().Equal("odd/id?x=1#y&z");
        Ids(await JsonAsync("/api/chains?errors=1")).Should().BeEquivalentTo("checkout-whole", "checkout-lost");
        Ids(await JsonAsync("/api/chains?text=checkout-lost")).Should().Equal("checkout-lost");
        Ids(await JsonAsync("/api/chains?text=bank+connection")).Should().BeEquivalentTo("checkout-whole", "checkout-lost");
        Ids(await JsonAsync("/api/chains?min_ms=100&limit=1")).Should().HaveCount(1);
        var lost = (await JsonAsync("/api/chains?incomplete=1")).GetProperty("chains")[0];
        lost.GetProperty("entry_service").GetString().Should().Be("gateway");
        lost.GetProperty("entry_action").GetString().Should().Be("POST /checkout");
        lost.GetProperty("complete").GetBoolean().Should().BeFalse();
        lost.GetProperty("placeholder_count").GetInt32().Should().BeGreaterThan(0);
    }

    [Theory]
    [InlineData("limit=0", "limit is '0'; it must be a number between 1 and 1,000.")]
    [InlineData("limit=x", "limit is 'x'; it must be a number between 1 and 1,000.")]
    [InlineData("min_ms=-1", "min_ms is '-1'; it must be a number between 0 and 1,000,000,000.")]
    public async Task Wrong_question_is_told(string query, string message) =>
        (await JsonAsync("/api/chains?" + query, HttpStatusCode.BadRequest)).GetProperty("error").GetString().Should().Be(message);

    [Fact]
    public async Task Chain_is_the_object_of_the_command_with_rows_and_texts()
    {
        var answer = await JsonAsync("/api/chains/checkout-lost");
        var output = new ArrayBufferWriter<byte>();
        ChainJson.Write(ChainBuilder.Build("checkout-lost", await _site.Store.GetTraceAsync("checkout-lost", CancellationToken.None)), output);
        using var printed = JsonDocument.Parse(output.WrittenMemory);
        foreach (var member in printed.RootElement.EnumerateObject())
        {
            JsonElement.DeepEquals(answer.GetProperty(member.Name), member.Value).Should().BeTrue(member.Name);
        }

        answer.GetProperty("rows").GetArrayLength().Should().Be(answer.GetProperty("rows_total").GetInt32());
        answer.GetProperty("records").GetArrayLength().Should().Be(9);
        var exception = answer.GetProperty("records").EnumerateArray().Single(record => record.GetProperty("name").GetString() == "log.exception");
        exception.GetProperty("msg").GetString().Should().Be("No connection to the bank");
        exception.GetProperty("node").GetString().Should().Be("1.3.4.2");
        exception.GetProperty("backtrace").GetString().Should().Contain("Bank.cs:line 12");
    }

    [Fact]
    public async Task Chain_of_an_id_that_is_no_path_is_found_by_query() =>
        (await JsonAsync("/api/chains?id=" + Uri.EscapeDataString("odd/id?x=1#y&z"))).GetProperty("trace_id").GetString().Should().Be("odd/id?x=1#y&z");

    [Fact]
    public async Task Unknown_and_impossible_traces_are_told_apart()
    {
        (await JsonAsync("/api/chains/nobody", HttpStatusCode.NotFound)).GetProperty("error").GetString().Should().Contain("No record of trace nobody");
        (await JsonAsync("/api/chains/" + new string('a', 129), HttpStatusCode.BadRequest)).GetProperty("error").GetString().Should().Contain("1 to 128");
        (await JsonAsync("/api/chains/a%20b", HttpStatusCode.BadRequest)).GetProperty("error").GetString().Should().Contain("visible ASCII");
    }

    [Fact]
    public async Task Trace_that_was_not_kept_is_said_to_be_so_and_is_in_no_list()
    {
        await _site.Store.DropTracesAsync(["checkout-lost"], default);

        (await JsonAsync("/api/chains/checkout-lost", HttpStatusCode.Gone)).GetProperty("error").GetString().Should().Contain("Indexer:Keep");
        Ids(await JsonAsync("/api/chains")).Should().NotContain("checkout-lost").And.Contain("checkout-whole");
    }

    [Fact]
    public async Task Status_counts_what_is_stored()
    {
        var status = await JsonAsync("/api/status");
        status.GetProperty("records").GetInt64().Should().Be(28);
        status.GetProperty("chains").GetInt64().Should().Be(4);
        status.GetProperty("counters").GetProperty("stored").GetInt64().Should().Be(17);
    }
}
