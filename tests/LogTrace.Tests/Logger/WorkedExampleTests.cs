using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace LogTrace.Tests.Logger;

public sealed class WorkedExampleTests
{
    [Fact]
    public async Task Gateway_orders_and_stock_write_the_ids_of_the_worked_example()
    {
        using var folder = new TempFolder();
        await using var stock = await TestService.StartAsync(folder, "stock", app => app.MapGet("/items/{id}", (int id) => $"item {id}"));
        await using var orders = await TestService.StartAsync(folder, "orders", app => app.MapPost("/orders", async (IHttpClientFactory clients) =>
        {
            using (TraceOperation.Begin("mysql.request", "insert into orders values (?)", "9527"))
            {
                await Task.Yield();
            }

            return await clients.CreateClient().GetStringAsync(new Uri(stock.Url, "items/7"));
        }));
        await using var gateway = await TestService.StartAsync(folder, "gateway", app => app.MapPost("/checkout", async (IHttpClientFactory clients, ILogger<WorkedExampleTests> log) =>
        {
            log.LogInformation("Checking out cart {Cart}", 9527);
            await TraceOperation.RunAsync("redis.request", "GET cart:9527", _ => Task.FromResult("cart"));
            var response = await clients.CreateClient().PostAsync(new Uri(orders.Url, "orders"), null);
            log.LogInformation("Ordered");
            return await response.Content.ReadAsStringAsync();
        }));
        using var client = new HttpClient();

        var answer = await client.PostAsync(new Uri(gateway.Url, "checkout"), null);

        (await answer.Content.ReadAsStringAsync()).Should().Be("item 7");
        var records = (await gateway.StopAsync()).Concat(await orders.StopAsync()).Concat(await stock.StopAsync()).Where(record => record.TraceId is not null).ToList();
        records.Select(record => record.TraceId).Distinct().Should().ContainSingle().Which.Should().Be(answer.Headers.GetValues("X-Trace-Id").Single());
        records.OrderBy(record => record.RpcId!.Value).ThenBy(record => record.TimestampMicros)
            .Select(record => $"{record.RpcId} {record.Name} {record.Service} {(record.Name == "log.info" ? record.Msg : record.Action)}")
            .Should().Equal(
                "1.1 log.info gateway Checking out cart 9527",
                "1.1 request.info gateway POST /checkout",
                "1.2 redis.request gateway GET cart:9527",
                $"1.3 http.post gateway {orders.Url}orders",
                "1.3 log.info gateway Ordered",
                "1.3.1 request.info orders POST /orders",
                "1.3.2 mysql.request orders insert into orders values (?)",
                $"1.3.3 http.get orders {stock.Url}items/7",
                "1.3.3.1 request.info stock GET /items/7");

        var call = records.Single(record => record.Name == "http.post");
        var callee = records.Single(record => record is { Name: "request.info", Service: "orders" });
        var entry = records.Single(record => record is { Name: "request.info", Service: "gateway" });
        callee.ParentSpanId.Should().Be(call.SpanId, "a callee's parent is the call's execution");
        call.ParentSpanId.Should().Be(entry.SpanId);
        records.Where(record => record.Name == "log.info").Should().OnlyContain(record => record.SpanId == entry.SpanId && record.ParentSpanId == entry.ParentSpanId);
        callee.DurationMicros.Should().BeLessThanOrEqualTo(call.DurationMicros!.Value);
        entry.Code.Should().Be("200");
    }

    [Fact]
    public async Task Every_record_says_who_wrote_it()
    {
        using var folder = new TempFolder();
        await using var service = await TestService.StartAsync(folder, "orders", app => app.MapGet("/items", (ILogger<WorkedExampleTests> log, HttpContext context) =>
        {
            log.LogWarning("Low");
            TraceMetrics.Current.Counter("items_read", 3, ("shelf", "a"));
            using (TraceOperation.Begin("redis.request", "GET x"))
            {
            }

            context.Response.ContentLength = 2;
            return "ok";
        }));
        using var client = new HttpClient();
        client.DefaultRequestHeaders.Add("User-Agent", "tests/1");
        client.DefaultRequestHeaders.Add("Referer", "http://shop.example/");
        await client.GetStringAsync(new Uri(service.Url, "items?page=2"));

        var all = await service.StopAsync();
        var records = all.Where(record => record.TraceId is not null).ToList();

        records.Select(record => record.Name).Should().BeEquivalentTo(["log.warning", "redis.request", "request.info"]);
        foreach (var record in records)
        {
            record.Department.Should().Be("shop_backend");
            record.Module.Should().StartWith("shop_orders_");
            record.ServerIp.Should().Be("10.0.0.7");
            record.Version.Should().Be("dotnet-orders-1.4");
            record.Service.Should().Be("orders");
            record.Pid.Should().Be(Environment.ProcessId.ToString());
            record.HasPreciseTime.Should().BeTrue();
            record.SpanId.Should().HaveLength(16);
            record.Has(LogTrace.Records.RecordField.Param).Should().BeTrue();
            record.Has(LogTrace.Records.RecordField.Action).Should().BeTrue();
        }

        var request = records.Single(record => record.Name == "request.info");
        request.Param.Should().Be("page=2");
        request.Text(LogTrace.Records.RecordField.ClientIp).Should().Be("127.0.0.1");
        request.Text(LogTrace.Records.RecordField.UserAgent).Should().Be("tests/1");
        request.Text(LogTrace.Records.RecordField.Source).Should().Be("http://shop.example/");
        request.ResponseLength.Should().Be(2);
        var metric = all.Single(record => record.Name == "metric.counter" && record.Action == "items_read");
        metric.ExtraJson.Should().StartWith("""{"value":3,"total":3,""").And.EndWith("""shelf":"a"}""");
        metric.Service.Should().Be("orders");
    }

    [Fact]
    public async Task A_request_that_throws_fails_or_is_aborted_ends_in_one_record()
    {
        using var folder = new TempFolder();
        var entered = new TaskCompletionSource();
        await using var service = await TestService.StartAsync(folder, "orders", app =>
        {
            app.MapGet("/throws", string () => throw new InvalidOperationException("no stock"));
            app.MapGet("/fails", () => Results.StatusCode(503));
            app.MapGet("/missing", () => Results.NotFound());
            app.MapGet("/hangs", async (CancellationToken aborted) =>
            {
                entered.SetResult();
                await Task.Delay(Timeout.Infinite, aborted);
            });
        });
        using var client = new HttpClient();
        foreach (var path in new[] { "throws", "fails", "missing" }) (await client.GetAsync(new Uri(service.Url, path))).Dispose();
        using var abort = new CancellationTokenSource();
        var hanging = client.GetAsync(new Uri(service.Url, "hangs"), abort.Token);
        await entered.Task.Within();
        await abort.CancelAsync();
        await hanging.Invoking(task => task).Should().ThrowAsync<OperationCanceledException>();

        var requests = (await service.StopAsync()).Where(record => record.Name!.StartsWith("request.", StringComparison.Ordinal)).ToDictionary(record => record.Action!);

        requests.Should().HaveCount(4);
        requests.Values.Should().OnlyContain(record => record.RpcId!.Value.Text == "1.1");
        requests["GET /throws"].Name.Should().Be("request.info.error");
        requests["GET /throws"].Code.Should().Be("500");
        requests["GET /throws"].Msg.Should().Be("no stock");
        requests["GET /throws"].Backtrace.Should().Contain("InvalidOperationException");
        requests["GET /fails"].Name.Should().Be("request.info.error");
        requests["GET /fails"].Code.Should().Be("503");
        requests["GET /missing"].Name.Should().Be("request.info");
        requests["GET /missing"].Code.Should().Be("404");
        requests["GET /hangs"].Code.Should().Be("499");
        requests["GET /hangs"].Name.Should().Be("request.info.error");
    }
}
