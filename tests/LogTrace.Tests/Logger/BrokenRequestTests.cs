using System.Net;
using System.Text.Json;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace LogTrace.Tests.Logger;

/// <summary>Requests that do not go well have their one record, too; and what a record says of a body.</summary>
public sealed class BrokenRequestTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly TaskCompletionSource _arrived = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Dispose() => _folder.Dispose();

    Task<TestService> ServiceAsync(Action<WebApplication> map, HttpProtocols protocols = HttpProtocols.Http1, TraceInstrumentationOptions? instrumentation = null) => TestService.StartAsync(
        _folder,
        "orders",
        map,
        options => instrumentation is null ? options : options with { Instrumentation = instrumentation },
        services => services.Configure<KestrelServerOptions>(options => options.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = protocols)));

    static HttpClient Client(Version version) => new() { DefaultRequestVersion = version, DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact };

    static string Said(TraceRecord record) => $"{record.Name} {record.Code} {record.Msg} {record.ExtraJson}".TrimEnd();

    static async Task<TraceRecord> OnlyAsync(TestService service) => (await service.StopAsync()).Single(record => record.Kind == RecordKind.Server);

    [Theory]
    [InlineData("text")]
    [InlineData("none")]
    [InlineData("stream")]
    [InlineData("writer")]
    [InlineData("started")]
    [InlineData("file")]
    [InlineData("cleared")]
    [InlineData("handled inside")]
    [InlineData("handled outside")]
    public async Task Whatever_an_answer_is_made_of_it_names_the_trace(string answer)
    {
        var file = _folder["answer.txt"];
        await File.WriteAllTextAsync(file, "42");
        await using var service = await TestService.StartAsync(
            _folder, "orders",
            app =>
            {
                if (answer == "handled inside") app.UseExceptionHandler(HandleBy());
                app.MapGet("/", AnswerAsync);
            },
            services: services => services.AddSingleton<IStartupFilter>(new Around(app =>
            {
                if (answer == "handled outside") app.UseExceptionHandler(HandleBy());
            })));
        using var client = Client(HttpVersion.Version11);

        using var response = await client.GetAsync(service.Url);

        (await response.Content.ReadAsStringAsync()).Should().Be(answer is "none" ? "" : answer.StartsWith("handled", StringComparison.Ordinal) ? "sorry" : "42");
        var record = await OnlyAsync(service);
        response.Headers.GetValues(TraceHeaders.TraceId).Should().Equal(record.TraceId);
        record.Name.Should().Be(answer.StartsWith("handled", StringComparison.Ordinal) ? "request.info.error" : "request.info");

        static ExceptionHandlerOptions HandleBy() => new() { ExceptionHandler = context => context.Response.WriteAsync("sorry") };

        async Task AnswerAsync(HttpContext context)
        {
            var response = context.Response;
            switch (answer)
            {
                case "text":
                    await response.WriteAsync("42");
                    break;
                case "none":
                    response.StatusCode = StatusCodes.Status204NoContent;
                    break;
                case "stream":
                    await response.Body.WriteAsync("42"u8.ToArray());
                    break;
                case "writer":
                    "42"u8.CopyTo(response.BodyWriter.GetSpan(2));
                    response.BodyWriter.Advance(2);
                    break;
                case "started":
                    await response.StartAsync();
                    await response.WriteAsync("42");
                    break;
                case "file":
                    await response.SendFileAsync(file);
                    break;
                case "cleared":
                    response.Clear();
                    await response.WriteAsync("42");
                    break;
                default:
                    throw new InvalidOperationException("broken");
            }
        }
    }

    sealed class Around(Action<IApplicationBuilder> use) : IStartupFilter
    {
        public Action<IApplicationBuilder> Configure(Action<IApplicationBuilder> next) => app =>
        {
            use(app);
            next(app);
        };
    }

    [Fact]
    public async Task A_handler_that_throws_is_an_error_with_its_stack()
    {
        await using var service = await ServiceAsync(app => app.MapGet("/", string () => throw new InvalidOperationException("broken")));
        using var client = Client(HttpVersion.Version11);

        (await client.GetAsync(service.Url)).StatusCode.Should().Be(HttpStatusCode.InternalServerError);

        var record = await OnlyAsync(service);
        Said(record).Should().Be("request.info.error 500 broken");
        record.Backtrace.Should().Contain("A_handler_that_throws");
    }

    [Fact]
    public async Task A_handler_that_throws_after_its_answer_has_begun_is_an_error_with_the_status_that_went_out()
    {
        await using var service = await ServiceAsync(app => app.MapGet("/", async (HttpContext context) =>
        {
            await context.Response.WriteAsync("half");
            await context.Response.Body.FlushAsync();
            throw new InvalidOperationException("broken");
        }));
        using var client = Client(HttpVersion.Version11);

        await client.Invoking(c => c.GetStringAsync(service.Url)).Should().ThrowAsync<HttpRequestException>();

        var record = await OnlyAsync(service);
        Said(record).Should().Be("request.info.error 200 broken");
        record.ResponseLength.Should().Be(4);
    }

    [Fact]
    public async Task A_handler_whose_own_token_is_cancelled_is_an_error_and_no_aborted_request()
    {
        await using var service = await ServiceAsync(app => app.MapGet("/", async () => await Task.Delay(Timeout.Infinite, new CancellationToken(canceled: true))));
        using var client = Client(HttpVersion.Version11);

        (await client.GetAsync(service.Url)).StatusCode.Should().Be(HttpStatusCode.InternalServerError);

        Said(await OnlyAsync(service)).Should().StartWith("request.info.error 500 A task was canceled.");
    }

    [Theory]
    [InlineData("1.1", true)]
    [InlineData("1.1", false)]
    [InlineData("2.0", true)]
    [InlineData("2.0", false)]
    public async Task A_client_that_goes_away_is_code_499_and_an_error_only_if_the_handler_fails_of_it(string version, bool observes)
    {
        var gone = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using var service = await ServiceAsync(
            app => app.MapGet("/", async (HttpContext context) =>
            {
                context.RequestAborted.Register(() => gone.SetResult());
                _arrived.SetResult();
                await gone.Task;
                if (observes) context.RequestAborted.ThrowIfCancellationRequested();
            }),
            version == "2.0" ? HttpProtocols.Http2 : HttpProtocols.Http1);
        using var client = Client(Version.Parse(version));
        using var cancel = new CancellationTokenSource();

        var call = client.GetAsync(service.Url, cancel.Token);
        await _arrived.Task.Within();
        await cancel.CancelAsync();
        await call.Invoking(task => task).Should().ThrowAsync<OperationCanceledException>();
        await gone.Task.Within();

        var record = await OnlyAsync(service);
        record.Name.Should().Be(observes ? "request.info.error" : "request.info");
        record.Code.Should().Be("499");
        record.ExtraJson.Should().Be("{\"aborted\":true}");
    }

    [Fact]
    public async Task What_a_request_says_of_itself_is_in_its_record()
    {
        await using var service = await ServiceAsync(app => app.MapGet("/items", () => Results.Json(new { id = 7 })));
        using var client = Client(HttpVersion.Version11);
        client.DefaultRequestHeaders.Add("User-Agent", "tester/1.0");
        client.DefaultRequestHeaders.Add("Referer", "http://shop.example/cart");

        var answer = await client.GetStringAsync(new Uri(service.Url, "items?colour=red"));

        var line = JsonDocument.Parse((await service.StopAndReadLinesAsync()).Single(line => line.Contains("request.info"))).RootElement;
        string Field(string name) => line.GetProperty(name).ToString();
        $"{Field("action")} {Field("param")} {Field("client_ip")} {Field("user_agent")} {Field("source")} {Field("code")} {Field("response_length")}".Should()
            .Be($"GET /items colour=red 127.0.0.1 tester/1.0 http://shop.example/cart 200 {answer.Length}");
        line.TryGetProperty("response", out _).Should().BeFalse("bodies are kept only where asked for");
    }

    [Theory]
    [InlineData("/stream")]
    [InlineData("/writer")]
    [InlineData("/json")]
    public async Task Bodies_are_kept_up_to_a_bound_where_asked_for_however_they_are_written(string path)
    {
        await using var service = await ServiceAsync(
            app =>
            {
                app.MapPost("/stream", async (HttpContext context) =>
                {
                    context.Response.ContentType = "application/json";
                    await context.Request.Body.CopyToAsync(context.Response.Body);
                });
                app.MapPost("/writer", async (HttpContext context) =>
                {
                    context.Response.ContentType = "application/json";
                    await context.Request.BodyReader.CopyToAsync(context.Response.BodyWriter);
                });
                app.MapPost("/json", (JsonElement body) => body);
            },
            instrumentation: new() { MaxRequestBodyBytes = 10, MaxResponseBodyBytes = 1000 });
        using var client = Client(HttpVersion.Version11);

        var answer = await client.PostAsync(new Uri(service.Url, path + "?a=b"), new StringContent("{\"name\":\"Müller\"}", null, "application/json"));
        (await answer.Content.ReadAsStringAsync()).Should().Contain("ller");

        var line = JsonDocument.Parse((await service.StopAndReadLinesAsync()).Single(line => line.Contains("request.info"))).RootElement;
        line.GetProperty("param").GetString().Should().Be("a=b\n{\"name\":\"M...");
        line.GetProperty("response").GetString().Should().StartWith("{\"name\":\"M").And.EndWith("ller\"}");
        line.GetProperty("response_length").GetInt64().Should().Be((await answer.Content.ReadAsByteArrayAsync()).Length);
    }
}
