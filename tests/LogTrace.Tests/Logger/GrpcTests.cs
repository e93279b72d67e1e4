using Grpc.Core;
using Grpc.Net.Client;
using LogTrace.Records;
using LogTrace.Tests.Logger.Grpc;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace LogTrace.Tests.Logger;

/// <summary>A real gRPC service behind the middleware, and a real gRPC client in a scope.</summary>
public sealed class GrpcTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly TraceLogger _logger;

    public GrpcTests() => _logger = new TraceLogger(TestService.Options("caller", _folder["caller.log"]));

    public void Dispose()
    {
        _logger.Dispose();
        _folder.Dispose();
    }

    sealed class StockService : Stock.StockBase
    {
        public override Task<Item> Reserve(Item request, ServerCallContext context) => request.Id switch
        {
            404 => throw new RpcException(new Status(StatusCode.NotFound, "no such item")),
            500 => throw new InvalidOperationException("broken"),
            _ => Task.FromResult(new Item { Id = request.Id + 1 }),
        };

        public override async Task Watch(Item request, IServerStreamWriter<Item> responses, ServerCallContext context)
        {
            await responses.WriteAsync(request);
            await responses.WriteAsync(request);
            if (request.Id == 0) await Task.Delay(Timeout.Infinite, context.CancellationToken);
        }
    }

    Task<TestService> ServiceAsync() => TestService.StartAsync(_folder, "stock", app => app.MapGrpcService<StockService>(), services: services =>
    {
        services.AddGrpc();
        services.Configure<KestrelServerOptions>(options => options.ConfigureEndpointDefaults(endpoint => endpoint.Protocols = HttpProtocols.Http2));
    });

    [Fact]
    public async Task Calls_and_their_handling_are_recorded_under_one_id_with_the_status_of_gRPC()
    {
        await using var service = await ServiceAsync();
        using var channel = GrpcChannel.ForAddress(service.Url);
        var client = new Stock.StockClient(channel);
        using (_logger.StartTrace("test"))
        {
            (await client.ReserveAsync(new Item { Id = 7 })).Id.Should().Be(8);
            await client.Invoking(async c => await c.ReserveAsync(new Item { Id = 404 })).Should().ThrowAsync<RpcException>();
            await client.Invoking(async c => await c.ReserveAsync(new Item { Id = 500 })).Should().ThrowAsync<RpcException>();
            using var watched = client.Watch(new Item { Id = 1 });
            (await watched.ResponseStream.ReadAllAsync().ToListAsync()).Should().HaveCount(2);
        }

        _logger.Dispose();
        var calls = Written.Records(_folder["caller.log"]).Where(record => record.Kind == RecordKind.Client).OrderBy(record => record.RpcId!.Value).ToList();
        var url = service.Url.ToString();
        calls.Select(record => $"{record.RpcId} {record.Name} {record.Action} {record.Code} {record.Msg}".TrimEnd()).Should().Equal(
            $"1.2 grpc.call {url}stock.Stock/Reserve 0", $"1.3 grpc.call.error {url}stock.Stock/Reserve 5 no such item",
            $"1.4 grpc.call.error {url}stock.Stock/Reserve 2 Exception was thrown by handler.", $"1.5 grpc.call {url}stock.Stock/Watch 0");
        (await service.StopAsync()).Where(record => record.Kind == RecordKind.Server).OrderBy(record => record.RpcId!.Value).Select(record => $"{record.RpcId} {record.Name} {record.Action} {record.Code} {record.ParentSpanId}").Should().Equal(
            $"1.2.1 request.info POST /stock.Stock/Reserve 0 {calls[0].SpanId}", $"1.3.1 request.info POST /stock.Stock/Reserve 5 {calls[1].SpanId}",
            $"1.4.1 request.info.error POST /stock.Stock/Reserve 2 {calls[2].SpanId}", $"1.5.1 request.info POST /stock.Stock/Watch 0 {calls[3].SpanId}");
    }

    [Fact]
    public async Task A_stream_that_the_client_gives_up_is_recorded_on_both_sides()
    {
        await using var service = await ServiceAsync();
        using var channel = GrpcChannel.ForAddress(service.Url);
        using (_logger.StartTrace("test"))
        {
            using var cancel = new CancellationTokenSource();
            using var watched = new Stock.StockClient(channel).Watch(new Item { Id = 0 }, cancellationToken: cancel.Token);
            (await watched.ResponseStream.MoveNext(CancellationToken.None)).Should().BeTrue();
            await cancel.CancelAsync();
            await watched.ResponseStream.Invoking(async stream => { while (await stream.MoveNext(CancellationToken.None)) ; }).Should().ThrowAsync<RpcException>();
        }

        _logger.Dispose();
        Written.Records(_folder["caller.log"]).Where(record => record.Kind == RecordKind.Client).Select(record => $"{record.RpcId} {record.Name} {record.Code}").Should().Equal("1.2 grpc.call.error cancelled");
        var handled = (await service.StopAsync()).Single(record => record.Kind == RecordKind.Server);
        $"{handled.RpcId} {handled.Code} {handled.ExtraJson}".Should().StartWith("1.2.1 499 ").And.Contain("\"aborted\":true");
    }
}
