using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace LogTrace.Tests.Logger;

/// <summary>Clients as a service has them, against a real callee: made by the factory, by hand with our handler, and by hand without it, where .NET's diagnostics tell.</summary>
public sealed class HttpClientTests : IDisposable
{
    const string Key = "correct horse battery staple";

    readonly TempFolder _folder = new();
    readonly Dictionary<string, TraceLogger> _loggers = [];

    public void Dispose()
    {
        foreach (var logger in _loggers.Values) logger.Dispose();
        _folder.Dispose();
    }

    TraceLogger Logger(TraceInstrumentationOptions? instrumentation = null, string name = "caller") =>
        _loggers[name] = new TraceLogger(TestService.Options(name, _folder[$"{name}.log"]) with { DebugKey = Key, Instrumentation = instrumentation ?? new() });

    List<TraceRecord> Calls(string name = "caller")
    {
        _loggers[name].Dispose();
        return [.. Written.Records(_folder[$"{name}.log"]).Where(record => record.Kind == RecordKind.Client).OrderBy(record => record.RpcId!.Value)];
    }

    string? Field(string field, string rpcId) => Written.Lines(_folder["caller.log"]).Select(line => JsonDocument.Parse(line).RootElement)
        .Where(line => line.GetProperty("rpc_id").GetString() == rpcId).Select(line => line.TryGetProperty(field, out var value) ? value.ToString() : null).Single();

    static HttpClient Client(string made, TraceLogger logger) => made switch
    {
        "factory" => new ServiceCollection().AddLogTrace(logger).AddHttpClient().BuildServiceProvider().GetRequiredService<IHttpClientFactory>().CreateClient("callee"),
        "handler" => new HttpClient(new TraceHttpHandler(new SocketsHttpHandler())),
        "old handler" => new HttpClient(new TraceHttpHandler(new HttpClientHandler())),
        "by hand" => new HttpClient(),
        "invoker" => new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = 2 }),
        _ => throw new ArgumentException(made),
    };

    Task<TestService> CalleeAsync(Action<WebApplication> map) => TestService.StartAsync(_folder, "callee", map);

    static string Seen(HttpContext context) =>
        $"{context.Request.Headers["X-Rpc-Id"]}|{context.Request.Headers.TraceParent.Count}|{context.Request.Headers["X-Trace-Id"]}";

    [Theory]
    [InlineData("factory")]
    [InlineData("handler")]
    [InlineData("old handler")]
    [InlineData("by hand")]
    [InlineData("invoker")]
    public async Task Every_client_tells_the_callee_and_writes_one_record_a_request(string made)
    {
        await using var callee = await CalleeAsync(app => app.MapGet("/items/{id}", (HttpContext context) => Seen(context)));
        var logger = Logger();
        using var client = Client(made, logger);
        string traceId;
        using (var scope = logger.StartTrace("test"))
        {
            traceId = scope.TraceId;
            for (var call = 2; call <= 4; call++) (await client.GetStringAsync(new Uri(callee.Url, "items/7?a=b"))).Should().Be($"1.{call}|1|{traceId}");
        }

        var calls = Calls();
        calls.Select(record => $"{record.RpcId} {record.Name} {record.Code} {record.Action} {record.Param}").Should().Equal(
            Enumerable.Range(2, 3).Select(number => $"1.{number} http.get 200 {callee.Url}items/7?a=b a=b"));
        calls.Should().OnlyContain(record => record.Host == $"127.0.0.1:{callee.Url.Port}" && record.ResponseLength == $"1.2|1|{traceId}".Length && record.DurationMicros > 0);
        calls.Select(record => record.InstanceName).Should().OnlyContain(name => name == (made == "factory" ? "callee" : null));
        (await callee.StopAsync()).Where(record => record.Name == "request.info").Select(record => $"{record.TraceId} {record.RpcId} {record.ParentSpanId}")
            .Should().Equal(calls.Select(call => $"{traceId} {call.RpcId}.1 {call.SpanId}"));
    }

    [Theory]
    [InlineData("factory")]
    [InlineData("handler")]
    [InlineData("by hand")]
    [InlineData("invoker")]
    public async Task Every_client_tells_systems_that_know_only_W3C_which_call_it_was(string made)
    {
        await using var callee = await CalleeAsync(app => app.MapGet("/", (HttpContext context) => $"{context.Request.Headers.TraceParent}|{context.Request.Headers.TraceState}"));
        var logger = Logger();
        using var client = Client(made, logger);
        string seen, traceId;
        using (var scope = logger.StartTrace("test"))
        {
            traceId = scope.TraceId;
            seen = await client.GetStringAsync(callee.Url);
        }

        seen.Should().Be($"00-{traceId}-{Calls().Single().SpanId}-01|logtrace=1.2");
    }

    [Fact]
    public async Task Outside_a_scope_a_client_made_by_hand_sends_what_it_is_told()
    {
        await using var callee = await CalleeAsync(app => app.MapGet("/", (HttpContext context) => Seen(context)));
        Logger();
        using var client = new HttpClient();

        (await client.GetStringAsync(callee.Url)).Should().Be("|0|");

        Calls().Should().BeEmpty();
    }

    [Fact]
    public async Task Loggers_of_one_process_record_only_the_calls_of_their_own_scopes()
    {
        await using var callee = await CalleeAsync(app => app.MapGet("/", (HttpContext context) => Seen(context)));
        var (first, second) = (Logger(name: "first"), Logger(name: "second"));
        using var client = new HttpClient();

        using (first.StartTrace("one")) (await client.GetStringAsync(callee.Url)).Should().StartWith("1.2|1|");
        using (second.StartTrace("two")) (await client.GetStringAsync(callee.Url)).Should().StartWith("1.2|1|");

        Calls("first").Should().ContainSingle();
        Calls("second").Should().ContainSingle();
    }

    [Fact]
    public async Task Clients_made_by_hand_are_left_alone_where_the_option_says_so()
    {
        await using var callee = await CalleeAsync(app => app.MapGet("/", (HttpContext context) => Seen(context)));
        var logger = Logger(new() { HttpClients = false });
        using var client = new HttpClient();

        using (logger.StartTrace("test")) (await client.GetStringAsync(callee.Url)).Should().Be("|0|");

        Calls().Should().BeEmpty();
    }

    [Fact]
    public async Task Redirects_of_a_client_made_by_hand_are_calls_and_another_host_is_not_told_of_a_debug_request()
    {
        var seen = new List<string>();
        await using var target = await TestService.StartAsync(_folder, "target", app => app.MapGet("/end", (HttpContext context) => seen.Add($"{context.Request.Headers["X-Rpc-Id"]} {context.Request.Headers["X-Debug"]}{context.Request.Headers["X-Debug-Key"]}")));
        await using var first = await TestService.StartAsync(_folder, "first", app =>
        {
            app.MapGet("/start", (HttpContext context) => Results.Redirect(context.Request.Headers["X-Debug"] == "1" ? "/second" : "/nowhere"));
            app.MapGet("/second", (HttpContext context) => Results.Redirect(context.Request.Headers["X-Debug"] == "1" ? $"http://localhost:{target.Url.Port}/end" : "/nowhere"));
        });
        var logger = Logger();
        using var client = new HttpClient();

        using (logger.StartRequest("debug", "", new() { DebugUntil = DateTimeOffset.UtcNow.AddMinutes(5) })) await client.GetStringAsync(new Uri(first.Url, "start"));

        seen.Should().Equal("1.4 ");
        Calls().Select(record => $"{record.RpcId} {record.Name} {record.Code}").Should().Equal("1.2 http.get 302", "1.3 http.get 302", "1.4 http.get 200");
    }

    [Theory]
    [InlineData("factory")]
    [InlineData("by hand")]
    public async Task A_refused_a_cancelled_and_a_failed_request_have_their_numbers_and_errors(string made)
    {
        using var closed = new TcpListener(IPAddress.Loopback, 0);
        closed.Start();
        var refusing = ((IPEndPoint)closed.LocalEndpoint).Port;
        closed.Stop();
        var arrived = new TaskCompletionSource();
        await using var callee = await CalleeAsync(app =>
        {
            app.MapGet("/slow", async (HttpContext context) =>
            {
                arrived.SetResult();
                await Task.Delay(Timeout.Infinite, context.RequestAborted);
            });
            app.MapGet("/failing", () => Results.StatusCode(503));
        });
        var logger = Logger();
        using var client = Client(made, logger);
        using var cancel = new CancellationTokenSource();
        using (logger.StartTrace("test"))
        {
            await client.Invoking(c => c.GetStringAsync($"http://127.0.0.1:{refusing}/")).Should().ThrowAsync<HttpRequestException>();
            var slow = client.GetAsync(new Uri(callee.Url, "slow"), cancel.Token);
            await arrived.Task.Within();
            await cancel.CancelAsync();
            await slow.Invoking(task => task).Should().ThrowAsync<OperationCanceledException>();
            await client.GetAsync(new Uri(callee.Url, "failing"));
        }

        var calls = Calls();
        calls.Select(record => $"{record.RpcId} {record.Name} {record.Code}").Should().Equal("1.2 http.get.error HttpRequestException", "1.3 http.get.error cancelled", "1.4 http.get.error 503");
        calls[0].Msg.Should().Contain("refused");
        calls[0].Backtrace.Should().Contain("SocketException");
        (await callee.StopAsync()).Where(record => record.Name!.StartsWith("request.info", StringComparison.Ordinal)).Select(record => $"{record.RpcId} {record.Name} {record.Code}")
            .Should().BeEquivalentTo("1.3.1 request.info.error 499", "1.4.1 request.info.error 503");
    }

    [Theory]
    [InlineData("factory")]
    [InlineData("by hand")]
    public async Task A_call_lasts_until_its_body_was_read_and_a_chunked_body_is_counted(string made)
    {
        var goOn = new TaskCompletionSource();
        await using var callee = await CalleeAsync(app => app.MapGet("/", async (HttpContext context) =>
        {
            await context.Response.WriteAsync(new string('a', 70_000));
            await context.Response.Body.FlushAsync();
            await goOn.Task;
            await context.Response.WriteAsync("bcd");
        }));
        var logger = Logger();
        using var client = Client(made, logger);
        using (logger.StartTrace("test"))
        {
            using var response = await client.GetAsync(callee.Url, HttpCompletionOption.ResponseHeadersRead);
            response.Content.Headers.ContentLength.Should().BeNull();
            await using var body = await response.Content.ReadAsStreamAsync();
            (await body.ReadAsync(Memory<byte>.Empty)).Should().Be(0);
            goOn.SetResult();
            (await new StreamReader(body).ReadToEndAsync()).Should().HaveLength(70_003);
        }

        var call = Calls().Single();
        call.ResponseLength.Should().Be(70_003);
    }

    [Fact]
    public async Task An_answer_that_nobody_reads_is_recorded_with_its_scope_as_it_was_when_it_came()
    {
        await using var callee = await CalleeAsync(app => app.MapGet("/", () => "unread"));
        var logger = Logger();
        using var client = new HttpClient();
        HttpResponseMessage unread;
        using (logger.StartTrace("test")) unread = await client.GetAsync(callee.Url, HttpCompletionOption.ResponseHeadersRead);

        (await unread.Content.ReadAsStringAsync()).Should().Be("unread", "it can be read after its scope as well");
        Calls().Select(record => $"{record.Name} {record.Code}").Should().Equal("http.get 200");
    }

    [Fact]
    public async Task A_body_that_breaks_off_makes_an_error_of_the_call()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var answer = Task.Run(async () =>
        {
            using var socket = await listener.AcceptSocketAsync();
            await socket.ReceiveAsync(new byte[4096]);
            await socket.SendAsync(Encoding.ASCII.GetBytes("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"));
        });
        var logger = Logger();
        using var client = new HttpClient();
        using (logger.StartTrace("test"))
        {
            await client.Invoking(c => c.GetStringAsync($"http://127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}/")).Should().ThrowAsync<HttpRequestException>();
        }

        await answer;
        var call = Calls().Should().ContainSingle().Subject;
        call.Name.Should().Be("http.get.error");
        call.Msg.Should().Contain("prematurely");
    }

    [Theory]
    [InlineData("factory")]
    [InlineData("by hand")]
    public async Task Name_resolution_is_timed_where_there_was_one(string made)
    {
        await using var callee = await CalleeAsync(app => app.MapGet("/", () => "x"));
        var logger = Logger();
        using var client = Client(made, logger);
        using (logger.StartTrace("test"))
        {
            await client.GetStringAsync($"http://localhost:{callee.Url.Port}/");
            await client.GetStringAsync($"http://localhost:{callee.Url.Port}/");
            await client.GetStringAsync(callee.Url);
        }

        var calls = Calls();
        calls[0].DnsDurationMicros.Should().BeGreaterThan(0).And.BeLessThanOrEqualTo(calls[0].DurationMicros!.Value);
        calls[1].DnsDurationMicros.Should().BeNull("the connection was there");
        calls[2].DnsDurationMicros.Should().BeNull("an address needs no resolution");
    }

    [Theory]
    [InlineData("factory")]
    [InlineData("by hand")]
    public async Task Text_bodies_are_kept_up_to_a_bound_where_asked_for(string made)
    {
        await using var callee = await CalleeAsync(app =>
        {
            app.MapPost("/echo", async (HttpContext context) =>
            {
                context.Response.ContentType = context.Request.ContentType;
                await context.Request.Body.CopyToAsync(context.Response.Body);
            });
        });
        var logger = Logger(new() { MaxRequestBodyBytes = 8, MaxResponseBodyBytes = 10 });
        using var client = Client(made, logger);
        var bytes = new byte[] { 1, 2, 3 };
        using (logger.StartTrace("test"))
        {
            var text = new StringContent("{\"a\":1}", Encoding.UTF8, "application/json");
            (await (await client.PostAsync(new Uri(callee.Url, "echo"), text)).Content.ReadAsStringAsync()).Should().Be("{\"a\":1}");
            (await (await client.PostAsync(new Uri(callee.Url, "echo"), new StringContent("ääääääää"))).Content.ReadAsStringAsync()).Should().Be("ääääääää");
            (await (await client.PostAsync(new Uri(callee.Url, "echo"), new ByteArrayContent(bytes))).Content.ReadAsByteArrayAsync()).Should().Equal(bytes);
        }

        Calls().Select(record => $"{record.Param}|{Field("response", record.RpcId.ToString()!)}|{record.ResponseLength}").Should().Equal("{\"a\":1}|{\"a\":1}|7", "ääää...|äääää...|16", "||3");
    }

    [Fact]
    public void Wrong_bounds_are_refused_with_their_range() =>
        new LogTraceOptions { Service = "a", Department = "b", Instrumentation = new() { MaxRequestBodyBytes = -1, MaxResponseBodyBytes = 100_000, ActivitySources = [" "] } }.Validate().Should().Equal(
            "LogTrace:Instrumentation:MaxRequestBodyBytes is -1; it must be between 0 and 65,536 bytes. Leave it out to keep no bodies.",
            "LogTrace:Instrumentation:MaxResponseBodyBytes is 100000; it must be between 0 and 65,536 bytes. Leave it out to keep no bodies.",
            "LogTrace:Instrumentation:ActivitySources:0 is empty; it must be the name of an ActivitySource, or leave it out.");
}
