using System.Diagnostics;
using System.Net;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace LogTrace.Tests.Logger;

public sealed class TraceHttpHandlerTests : IDisposable
{
    const string Key = "correct horse battery staple";

    readonly TempFolder _folder = new();
    readonly TraceLogger _logger;

    public TraceHttpHandlerTests() => _logger = new TraceLogger(TestService.Options("caller", _folder["caller.log"]) with { DebugKey = Key });

    public void Dispose()
    {
        _logger.Dispose();
        _folder.Dispose();
    }

    List<TraceRecord> Calls()
    {
        _logger.Dispose();
        return [.. Written.Records(_folder["caller.log"]).Where(record => record.Kind == RecordKind.Client).OrderBy(record => record.RpcId!.Value)];
    }

    sealed class Answer(Func<HttpRequestMessage, int, HttpResponseMessage> answer) : HttpMessageHandler
    {
        int _count;

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            await Task.Yield();
            cancellationToken.ThrowIfCancellationRequested();
            return answer(request, Interlocked.Increment(ref _count));
        }
    }

    sealed class Retry(HttpMessageHandler inner) : DelegatingHandler(inner)
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            while (true)
            {
                var response = await base.SendAsync(request, cancellationToken);
                if ((int)response.StatusCode < 500) return response;
            }
        }
    }

    [Fact]
    public async Task Each_attempt_of_a_retry_is_a_call_with_its_own_number()
    {
        var sent = new List<string>();
        using var client = new HttpClient(new Retry(new TraceHttpHandler(new Answer((request, count) =>
        {
            sent.Add(request.Headers.GetValues("X-Rpc-Id").Single());
            return new HttpResponseMessage(count < 3 ? HttpStatusCode.ServiceUnavailable : HttpStatusCode.OK);
        }))));
        using (_logger.StartTrace("retry")) await client.GetAsync("http://user:secret@stock/items?id=7");

        var calls = Calls();

        calls.Select(record => $"{record.RpcId} {record.Name} {record.Code}").Should().Equal("1.2 http.get.error 503", "1.3 http.get.error 503", "1.4 http.get 200");
        calls.Should().OnlyContain(record => record.Action == "http://stock/items?id=7" && record.Param == "id=7" && record.Host == "stock:80", "a password in a URL is no one's business");
        sent.Should().Equal("1.2", "1.3", "1.4");
    }

    [Fact]
    public async Task Calls_that_throw_or_are_cancelled_leave_a_record()
    {
        using var client = new HttpClient(new TraceHttpHandler(new Answer((_, _) => throw new HttpRequestException("refused"))));
        using (_logger.StartTrace("errors"))
        {
            await client.Invoking(c => c.PostAsync("http://stock/", null)).Should().ThrowAsync<HttpRequestException>();
            await client.Invoking(c => c.GetAsync("http://stock/", new CancellationToken(true))).Should().ThrowAsync<OperationCanceledException>();
            using var cancel = new CancellationTokenSource();
            var pending = new TaskCompletionSource<HttpResponseMessage>();
            using var slow = new HttpMessageInvoker(new TraceHttpHandler(new Hanging()));
            var call = slow.SendAsync(new HttpRequestMessage(HttpMethod.Delete, "http://stock/"), cancel.Token);
            await cancel.CancelAsync();
            await call.Invoking(task => task).Should().ThrowAsync<OperationCanceledException>();
        }

        Calls().Select(record => $"{record.Name} {record.Code}").Should().Contain(["http.post.error HttpRequestException", "http.delete.error cancelled"]);
    }

    sealed class Hanging : HttpMessageHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            await Task.Delay(Timeout.Infinite, cancellationToken);
            return new HttpResponseMessage();
        }
    }

    [Fact]
    public async Task Outside_a_scope_requests_go_out_as_they_are()
    {
        HttpRequestMessage? seen = null;
        using var client = new HttpClient(new TraceHttpHandler(new Answer((request, _) =>
        {
            seen = request;
            return new HttpResponseMessage();
        })));
        client.DefaultRequestHeaders.Add("X-Debug-Key", "mine");

        await client.GetAsync("http://stock/");

        seen!.Headers.Select(header => header.Key).Should().Equal("X-Debug-Key");
    }

    [Fact]
    public async Task One_traceparent_goes_out_also_when_an_activity_is_current()
    {
        await using var callee = await TestService.StartAsync(_folder, "callee", app => app.MapGet("/", (HttpContext context) => $"{context.Request.Headers.TraceParent}|{context.Request.Headers["X-Rpc-Id"]}"));
        using var client = new HttpClient(new TraceHttpHandler(new SocketsHttpHandler()));
        using var activity = new Activity("around").SetIdFormat(ActivityIdFormat.W3C).Start();
        string answer;
        using (_logger.StartTrace("activity")) answer = await client.GetStringAsync(callee.Url);

        var call = Calls().Single();

        answer.Should().Be($"00-{call.TraceId}-{call.SpanId}-01|1.2");
        (await callee.StopAsync()).Single(record => record.Name == "request.info").ParentSpanId.Should().Be(call.SpanId);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Redirects_are_calls_and_another_host_is_not_told_of_a_debug_request(bool factory)
    {
        var debugAtTarget = new List<string>();
        await using var target = await TestService.StartAsync(_folder, "target", app => app.MapGet("/end", (HttpContext context) =>
        {
            debugAtTarget.Add($"{context.Request.Host.Host} {context.Request.Headers["X-Debug"]} {context.Request.Headers["X-Debug-Key"].Count} {context.Request.Headers["X-Rpc-Id"]} {context.Request.Headers.Authorization}");
            return "end";
        }));
        await using var first = await TestService.StartAsync(_folder, "first", app =>
        {
            app.MapPost("/start", (HttpContext context) => Results.Redirect(context.Request.Headers["X-Debug"] == "1" ? "/second" : "/nowhere"));
            app.MapGet("/second", (HttpContext context) => Results.Redirect(context.Request.Headers["X-Debug"] == "1" ? $"http://localhost:{target.Url.Port}/end" : "/nowhere"));
        });
        using var services = new ServiceCollection().AddLogTrace(_logger).AddHttpClient().BuildServiceProvider();
        using var client = factory ? services.GetRequiredService<IHttpClientFactory>().CreateClient() : new HttpClient(new TraceHttpHandler(new HttpClientHandler()));
        client.DefaultRequestHeaders.Add("Authorization", "Bearer x");
        string text;
        using (_logger.StartRequest("debug", "", new() { DebugUntil = DateTimeOffset.UtcNow.AddMinutes(5) }))
        {
            text = await (await client.PostAsync(new Uri(first.Url, "start"), new StringContent("body"))).Content.ReadAsStringAsync();
        }

        text.Should().Be("end");
        debugAtTarget.Should().Equal("localhost  0 1.4 ");
        Calls().Select(record => $"{record.RpcId} {record.Name} {record.Code}").Should().Equal("1.2 http.post 302", "1.3 http.get 302", "1.4 http.get 200");
    }
}
