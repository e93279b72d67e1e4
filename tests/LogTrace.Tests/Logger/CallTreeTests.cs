using System.Collections.Concurrent;
using System.Net.Http.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Trace;
using Serilog;
using Serilog.Extensions.Logging;

namespace LogTrace.Tests.Logger;

/// <summary>Chains of real services, rebuilt from their files and compared with the calls that were made.</summary>
public sealed class CallTreeTests
{
    const int Requests = 200;

    /// <summary>What a service does for a request, one after the other.</summary>
    /// <param name="Kind">call, retry, cancel, throw, fork or parallel.</param>
    /// <param name="Steps">What the callee or the branch does, or the branches that run at once.</param>
    public sealed record Step(string Kind, Step[] Steps);

    static Step[] Plan(Random random, int depth) =>
        [.. Enumerable.Range(0, depth == 0 ? 0 : random.Next(1, 4)).Select(_ => random.Next(10) switch
        {
            < 4 => new Step("call", Plan(random, depth - 1)),
            4 => new Step("retry", Plan(random, depth - 1)),
            5 => new Step("cancel", []),
            6 => new Step("throw", Plan(random, depth - 1)),
            7 => new Step("fork", Plan(random, depth - 1)),
            _ => new Step("parallel", [.. Enumerable.Range(0, 3).Select(_ => new Step("branch", Plan(random, depth - 1)))]),
        })];

    /// <summary>The records of a scope, as DESIGN says they are numbered: "id name service".</summary>
    static void Expect(List<string> records, string prefix, string service, Step[] steps)
    {
        var callee = Next(service);
        var number = 1;
        foreach (var step in steps)
        {
            var id = $"{prefix}.{++number}";
            switch (step.Kind)
            {
                case "call":
                    Call(id, "http.post", "request.info");
                    Expect(records, id, callee, step.Steps);
                    break;
                case "retry":
                    Call(id, "http.post.error", "request.info.error");
                    id = $"{prefix}.{++number}";
                    Call(id, "http.post", "request.info");
                    Expect(records, id, callee, step.Steps);
                    break;
                case "cancel":
                    Call(id, "http.post.error", "request.info.error");
                    break;
                case "throw":
                    Call(id, "http.post.error", "request.info.error");
                    Expect(records, id, callee, step.Steps);
                    break;
                case "fork":
                    records.Add($"{id}.1 fork.info {service}");
                    Expect(records, id, service, step.Steps);
                    break;
                case "parallel":
                    for (var branch = 0; branch < step.Steps.Length; branch++)
                    {
                        if (branch > 0) id = $"{prefix}.{++number}";
                        records.Add($"{id}.1 fork.info {service}");
                        Expect(records, id, service, step.Steps[branch].Steps);
                    }

                    break;
            }
        }

        void Call(string id, string name, string handled)
        {
            records.Add($"{id} {name} {service}");
            records.Add($"{id}.1 {handled} {callee}");
        }
    }

    static string Next(string service) => service switch { "a" => "b", "b" => "c", _ => "a" };

    [Fact]
    public async Task Two_hundred_requests_at_once_give_exactly_the_trees_that_were_called()
    {
        using var folder = new TempFolder();
        var urls = new ConcurrentDictionary<string, Uri>();
        var arrived = new ConcurrentDictionary<string, TaskCompletionSource>();
        var services = new List<TestService>();
        try
        {
            foreach (var name in (string[])["a", "b", "c"])
            {
                services.Add(await TestService.StartAsync(folder, name, app => app.MapPost("/{how}", (string how, Step[] steps, HttpContext context, IHttpClientFactory clients, CancellationToken aborted) => HandleAsync(name, how, steps, context, clients.CreateClient(), aborted))));
                urls[name] = services[^1].Url;
            }

            const int seed = 20261123;
            var plans = Enumerable.Range(0, Requests).Select(number => Plan(new Random(seed + number), 3)).ToList();
            using var client = new HttpClient();
            var traces = await Task.WhenAll(plans.Select(async plan =>
            {
                using var response = await client.PostAsJsonAsync(new Uri(urls["a"], "run"), plan);
                return response.Headers.GetValues("X-Trace-Id").Single();
            })).Within(TimeSpan.FromMinutes(3));

            var records = new List<TraceRecord>();
            foreach (var service in services) records.AddRange(await service.StopAsync());
            var byTrace = records.Where(record => record.TraceId is not null).ToLookup(record => record.TraceId);
            for (var i = 0; i < Requests; i++)
            {
                var expected = new List<string> { "1.1 request.info a" };
                Expect(expected, "1", "a", plans[i]);
                var written = byTrace[traces[i]].ToList();
                written.Where(record => record.Kind is RecordKind.Client or RecordKind.Server or RecordKind.Internal).Select(record => $"{record.RpcId} {record.Name} {record.Service}")
                    .Should().BeEquivalentTo(expected, "that is plan {0} of seed {1}", i, seed);

                var chain = ChainBuilder.Build(traces[i], [.. written.Select((record, line) => RecordDeriver.Derive(record, (UInt128)line, new UInt128(1, (ulong)line), "file", line, 0))]);
                (chain.PlaceholderCount, chain.GapCount, chain.CalleeOnlyCount, chain.AmbiguousCount).Should().Be((0, 0L, 0, 0), "nothing was lost of plan {0} of seed {1}", i, seed);
                chain.Nodes.Select(node => node.IdText.ToString()).Should().OnlyHaveUniqueItems();
            }
        }
        finally
        {
            foreach (var service in services) await service.DisposeAsync();
        }

        async Task<IResult> HandleAsync(string name, string how, Step[] steps, HttpContext context, HttpClient client, CancellationToken aborted)
        {
            switch (how)
            {
                case "busy": return Results.StatusCode(503);
                case "hang":
                    arrived[context.Request.Query["key"]!].SetResult();
                    await Task.Delay(Timeout.Infinite, aborted);
                    break;
            }

            await RunAsync(name, steps, client);
            return how == "throw" ? throw new InvalidOperationException("as planned") : Results.Ok();
        }

        async Task RunAsync(string name, Step[] steps, HttpClient client)
        {
            var callee = urls[Next(name)];
            foreach (var step in steps)
            {
                switch (step.Kind)
                {
                    case "call": (await client.PostAsJsonAsync(new Uri(callee, "run"), step.Steps)).Dispose(); break;
                    case "throw": (await client.PostAsJsonAsync(new Uri(callee, "throw"), step.Steps)).Dispose(); break;
                    case "retry":
                        (await client.PostAsJsonAsync(new Uri(callee, "busy"), step.Steps)).Dispose();
                        (await client.PostAsJsonAsync(new Uri(callee, "run"), step.Steps)).Dispose();
                        break;
                    case "cancel":
                        using (var cancel = new CancellationTokenSource())
                        {
                            var key = Guid.NewGuid().ToString("N");
                            arrived[key] = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                            var call = client.PostAsJsonAsync(new Uri(callee, "hang?key=" + key), step.Steps, cancel.Token);
                            await arrived[key].Task;
                            await cancel.CancelAsync();
                            try
                            {
                                await call;
                            }
                            catch (OperationCanceledException)
                            {
                                // As planned.
                            }
                        }

                        break;
                    case "fork": await TraceContext.ForkAsync("branch", () => RunAsync(name, step.Steps, client)); break;
                    case "parallel": await Task.WhenAll(step.Steps.Select(branch => TraceContext.ForkAsync("branch", () => RunAsync(name, branch.Steps, client)))); break;
                }
            }
        }
    }
}

/// <summary>Alone: OpenTelemetry listens to the activities of the whole process.</summary>
[Collection(nameof(ProcessDefault))]
public sealed class OpenTelemetryTests
{
    [Fact]
    public async Task An_OpenTelemetry_service_between_two_of_ours_keeps_the_chain_whole()
    {
        using var folder = new TempFolder();
        await using var stock = await TestService.StartAsync(folder, "stock", app => app.MapGet("/items", () => "ok"));
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = folder.Path, ApplicationName = "foreign" });
        builder.Logging.ClearProviders();
        builder.WebHost.UseSetting("urls", "http://127.0.0.1:0");
        builder.Services.AddOpenTelemetry().WithTracing(tracing => tracing.AddAspNetCoreInstrumentation().AddHttpClientInstrumentation());
        await using var foreign = builder.Build();
        // It knows nothing of us: a client without our handler.
        using var plain = new HttpClient();
        foreign.MapGet("/pass", () => TraceContext.Current is null ? plain.GetStringAsync(new Uri(stock.Url, "items")) : throw new InvalidOperationException("our scope leaked"));
        await foreign.StartAsync();
        var foreignUrl = new Uri(foreign.Urls.Single());
        await using var gateway = await TestService.StartAsync(folder, "gateway", app => app.MapGet("/checkout", async (IHttpClientFactory clients) =>
        {
            var client = clients.CreateClient();
            await Task.WhenAll(client.GetStringAsync(new Uri(foreignUrl, "pass")), client.GetStringAsync(new Uri(foreignUrl, "pass")));
            return "ok";
        }));
        // Without a traceparent of its own, or it would be another system above ours.
        using var browser = new HttpClient(new SocketsHttpHandler { ActivityHeadersPropagator = null });
        var trace = (await browser.GetAsync(new Uri(gateway.Url, "checkout"))).Headers.GetValues("X-Trace-Id").Single();

        await foreign.StopAsync();
        var records = (await gateway.StopAsync()).Concat(await stock.StopAsync()).Where(record => record.TraceId == trace && record.Kind != RecordKind.Event).ToList();

        var handled = records.Where(record => record.Service == "stock" && record.Name == "request.info").ToList();
        handled.Should().HaveCount(2);
        foreach (var record in handled)
        {
            var low = Convert.ToUInt64(record.ParentSpanId, 16) & 0xffffffff;
            record.RpcId!.Value.Text.Should().MatchRegex($@"^1\.[23]\.{1_000_000 + low}\.1$");
        }

        handled.Select(record => record.RpcId).Should().OnlyHaveUniqueItems();
        var chain = ChainBuilder.Build(trace, [.. records.Select((record, line) => RecordDeriver.Derive(record, (UInt128)line, new UInt128(1, (ulong)line), "file", line, 0))]);
        (chain.PlaceholderCount, chain.GapCount, chain.CalleeOnlyCount, chain.AmbiguousCount).Should().Be((0, 0L, 0, 0));
        chain.Nodes.Count(node => node.IsIrregular).Should().Be(2);
    }
}

public sealed class DebugInterleavingTests
{
    [Fact]
    public async Task Of_a_hundred_thousand_interleaved_calls_only_the_debug_request_s_are_written()
    {
        using var folder = new TempFolder();
        using (var tracer = new TraceLogger(TestService.Options("orders", folder["orders.log"])))
        {
            using var serilog = new LoggerConfiguration().LogTrace(tracer).CreateLogger();
            using var loggers = new LoggerFactory([new SerilogLoggerProvider(serilog)], new LoggerFilterOptions { MinLevel = LogLevel.Trace });
            var log = loggers.CreateLogger("Shop.Orders");
            using var started = new CountdownEvent(5);
            using var othersDone = new CountdownEvent(4);
            var tasks = Enumerable.Range(0, 5).Select(worker => Task.Run(async () =>
            {
                // The first is the debug request, in flight until all others are done.
                for (var request = 0; request < (worker == 0 ? 1 : 100); request++)
                {
                    using var scope = tracer.StartRequest($"request {worker}", "", worker == 0 ? new IncomingTrace { DebugUntil = DateTimeOffset.MaxValue } : default);
                    if (request == 0)
                    {
                        started.Signal();
                        started.Wait(Eventually.Deadline).Should().BeTrue();
                    }

                    for (var call = 0; call < (worker == 0 ? 10_000 : 225); call++)
                    {
                        if (worker == 0 && call < 5_000) log.LogDebug("mine {Call}", call);
                        else if (worker == 0) serilog.Debug("mine {Call}", call);
                        else if (call % 2 == 0) log.LogDebug("others {Call}", call);
                        else serilog.Debug("others {Call}", call);
                        if (call % 100 == 0) await Task.Yield();
                    }

                    if (worker == 0) othersDone.Wait(Eventually.Deadline).Should().BeTrue();
                }

                if (worker > 0) othersDone.Signal();
            })).ToList();
            await Task.WhenAll(tasks).Within(TimeSpan.FromMinutes(2));
        }

        var lines = Written.Records(folder["orders.log"]).Where(record => record.Name == "log.debug").ToList();
        lines.Should().HaveCount(10_000).And.OnlyContain(record => record.Debug == true && record.Msg!.StartsWith("mine "));
        lines.Select(record => record.TraceId).Distinct().Should().ContainSingle();
    }
}
