using System.Diagnostics;
using System.Text.Json;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Serilog.Events;

namespace LogTrace.Tests.Logger;

/// <summary>What ASP.NET Core and IHttpClientFactory make of every request for whoever logs: nothing where only LogTrace does.</summary>
[Collection(nameof(ProcessDefault))]
public sealed class FrameworkScopesTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly HttpClient _client = new();

    public void Dispose()
    {
        _client.Dispose();
        _folder.Dispose();
    }

    async Task<(JsonElement Extra, string Activity, string TraceId, string Problem)> RequestAsync(Func<LogTraceOptions, LogTraceOptions> configure, Action<IServiceCollection>? services = null)
    {
        var activity = "";
        await using var service = await TestService.StartAsync(
            _folder, "orders",
            app =>
            {
                app.MapGet("/orders", (ILogger<FrameworkScopesTests> log) =>
                {
                    activity = Activity.Current?.OperationName ?? "none";
                    using (log.BeginScope("cart {Cart}", 5)) log.LogInformation("Placed {OrderId}", 12);
                });
                app.MapGet("/refused", () => Results.Problem("no"));
            },
            configure,
            all =>
            {
                all.AddProblemDetails();
                services?.Invoke(all);
            });
        (await _client.GetAsync(new Uri(service.Url, "/orders"))).EnsureSuccessStatusCode();
        var refused = await _client.GetAsync(new Uri(service.Url, "/refused"));
        var problem = JsonDocument.Parse(await refused.Content.ReadAsStringAsync()).RootElement.GetProperty("traceId").GetString()!;
        await service.DisposeAsync();
        var line = Written.Records(_folder["orders.log"]).Single(record => record.Name == "log.info" && record.Msg == "Placed 12");
        return (JsonDocument.Parse(line.ExtraJson!).RootElement, activity, refused.Headers.GetValues(TraceHeaders.TraceId).Single(), problem);
    }

    static IEnumerable<string> Names(JsonElement extra) => extra.EnumerateObject().Select(member => member.Name);

    [Fact]
    public async Task A_line_carries_the_scopes_of_ones_own_code_and_not_the_frameworks()
    {
        var (extra, activity, _, _) = await RequestAsync(options => options);

        Names(extra).Should().BeEquivalentTo("OrderId", "Cart", "Scope");
        activity.Should().Be("none", "nobody looks at it");
    }

    [Fact]
    public async Task The_frameworks_scopes_are_there_for_who_asks_for_them()
    {
        var (extra, activity, _, _) = await RequestAsync(options => options with { Instrumentation = new() { FrameworkScopes = true } });

        Names(extra).Should().Contain(["OrderId", "Cart", "RequestId", "RequestPath", "ConnectionId"]);
        activity.Should().Be("Microsoft.AspNetCore.Hosting.HttpRequestIn");
    }

    [Fact]
    public async Task Another_provider_of_ILogger_gets_its_activity_and_scopes()
    {
        var other = new OtherProvider();
        var (extra, activity, traceId, problem) = await RequestAsync(options => options, services => services.AddSingleton<ILoggerProvider>(other));

        Names(extra).Should().BeEquivalentTo("OrderId", "Cart", "Scope");
        activity.Should().Be("Microsoft.AspNetCore.Hosting.HttpRequestIn");
        other.Scopes.Should().Contain(scope => scope.Contains("RequestPath:/orders", StringComparison.Ordinal));
        problem.Should().Contain(traceId);
    }

    [Fact]
    public async Task The_trace_id_is_what_ProblemDetails_names()
    {
        var (_, _, traceId, problem) = await RequestAsync(options => options);

        problem.Should().Be(traceId);
    }

    [Theory]
    [InlineData(LogEventLevel.Warning, false)]
    [InlineData(LogEventLevel.Information, true)]
    public async Task What_the_factory_logs_of_its_clients_requests_is_written_where_its_level_is_and_for_debug_requests(LogEventLevel level, bool isHeard)
    {
        const string Key = "correct horse battery staple";
        var handlers = new List<string>();
        await using var service = await TestService.StartAsync(
            _folder, "orders",
            app =>
            {
                app.MapGet("/items", () => "7");
                app.MapGet("/orders", (IHttpClientFactory clients, HttpRequest request) => clients.CreateClient("stock").GetStringAsync(new Uri($"http://{request.Host}/items")));
            },
            options => options with { DebugKey = Key, LevelOverrides = new Dictionary<string, LogEventLevel> { ["System.Net.Http.HttpClient"] = level } },
            services => services.AddHttpClient("stock").AddHttpMessageHandler(() => new OwnHandler(handlers)));
        var plain = await TraceIdAsync();
        var debug = await TraceIdAsync(("X-Debug", "1"), ("X-Debug-Key", Key));
        var later = await TraceIdAsync();
        await service.DisposeAsync();

        var records = Written.Records(_folder["orders.log"]);
        foreach (var (traceId, isWritten) in new[] { (plain, isHeard), (debug, true), (later, isHeard) })
        {
            var lines = records.Where(record => record.TraceId == traceId && record.Name == "log.info" && record.Action!.StartsWith("System.Net.Http.HttpClient.", StringComparison.Ordinal)).ToList();
            lines.Select(line => (line.Action, line.Msg!.Split(' ')[0])).Should().Equal(!isWritten ? [] :
            [
                ("System.Net.Http.HttpClient.stock.LogicalHandler", "Start"),
                ("System.Net.Http.HttpClient.stock.ClientHandler", "Sending"),
                ("System.Net.Http.HttpClient.stock.ClientHandler", "Received"),
                ("System.Net.Http.HttpClient.stock.LogicalHandler", "End"),
            ]);
            records.Where(record => record.TraceId == traceId && record.Name == "http.get").Should().ContainSingle().Which.InstanceName.Should().Be("stock");
        }

        handlers.Should().Equal("called", "called", "called");

        async Task<string> TraceIdAsync(params (string Name, string Value)[] headers)
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(service.Url, "/orders"));
            foreach (var (name, value) in headers) request.Headers.Add(name, value);
            using var response = await _client.SendAsync(request);
            (await response.Content.ReadAsStringAsync()).Should().Be("7");
            return response.Headers.GetValues(TraceHeaders.TraceId).Single();
        }
    }

    [Fact]
    public async Task Another_provider_hears_what_the_factory_logs_of_its_clients_requests_and_the_scope_around_it()
    {
        var other = new OtherProvider();
        await using var service = await TestService.StartAsync(
            _folder, "orders",
            app =>
            {
                app.MapGet("/items", () => "7");
                app.MapGet("/orders", (IHttpClientFactory clients, HttpRequest request) => clients.CreateClient().GetStringAsync(new Uri($"http://{request.Host}/items")));
            },
            options => options with { LevelOverrides = new Dictionary<string, LogEventLevel> { ["System"] = LogEventLevel.Warning } },
            services => services.AddSingleton<ILoggerProvider>(other));

        (await _client.GetStringAsync(new Uri(service.Url, "/orders"))).Should().Be("7");
        await service.DisposeAsync();

        other.Lines.Should().ContainInOrder(
            "System.Net.Http.HttpClient.Default.LogicalHandler", "System.Net.Http.HttpClient.Default.ClientHandler", "System.Net.Http.HttpClient.Default.ClientHandler", "System.Net.Http.HttpClient.Default.LogicalHandler");
        other.Scopes.Should().Contain(scope => scope.StartsWith("HTTP GET http://", StringComparison.Ordinal));
        Written.Records(_folder["orders.log"]).Should().NotContain(record => record.Name == "log.info" && record.Action!.StartsWith("System.", StringComparison.Ordinal));
    }

    sealed class OwnHandler(List<string> calls) : DelegatingHandler
    {
        protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            calls.Add("called");
            return base.SendAsync(request, cancellationToken);
        }
    }

    sealed class OtherProvider : ILoggerProvider, ISupportExternalScope
    {
        IExternalScopeProvider _scopes = new LoggerExternalScopeProvider();

        public List<string> Scopes { get; } = [];

        public List<string> Lines { get; } = [];

        public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

        public void SetScopeProvider(IExternalScopeProvider scopeProvider) => _scopes = scopeProvider;

        public void Dispose()
        {
        }

        sealed class Logger(OtherProvider provider, string category) : ILogger
        {
            public IDisposable? BeginScope<TState>(TState state)
                where TState : notnull => provider._scopes.Push(state);

            public bool IsEnabled(LogLevel logLevel) => true;

            public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
            {
                lock (provider.Lines) provider.Lines.Add(category);
                provider._scopes.ForEachScope((scope, scopes) => { lock (scopes) scopes.Add($"{scope}"); }, provider.Scopes);
            }
        }
    }
}
