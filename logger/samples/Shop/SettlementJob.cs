using System.Net.Http.Json;
using LogTrace;

namespace Shop;

/// <summary>
/// Orders' background job: tells payment to settle what was ordered. Every run is a trace of its own, as no request caused it. A run that has
/// begun is finished at a stop, so that its trace is whole.
/// </summary>
sealed class SettlementJob(ShopOptions options, ShopDatabase database, IHttpClientFactory clients, TraceLogger traces, ILogger<SettlementJob> logger) : BackgroundService
{
    const int BatchSize = 100;

    int _runs;

    /// <summary>Runs that were begun: one trace each.</summary>
    public int Runs => Volatile.Read(ref _runs);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(options.JobInterval);
        try
        {
            do
            {
                await RunOnceAsync();
            }
            while (await timer.WaitForNextTickAsync(stoppingToken));
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // The service stops between two runs. What was ordered since the last one is not left over:
            await RunOnceAsync();
        }
    }

    async Task RunOnceAsync()
    {
        Interlocked.Increment(ref _runs);
        using var trace = traces.StartTrace("settlement");
        try
        {
            await using var connection = await database.OpenAsync(CancellationToken.None);
            await using var select = connection.Command("select id from orders where state = 'done' and settled = 0 order by id limit $limit", ("$limit", BatchSize));
            var orders = await select.QueryAsync(row => row.GetInt64(0), CancellationToken.None);
            if (orders.Count == 0)
            {
                logger.LogDebug("Nothing to settle");
                return;
            }

            using var response = await clients.CreateClient("payment").PostAsJsonAsync("/settlements", new SettlementRequest(orders), CancellationToken.None);
            response.EnsureSuccessStatusCode();
            await using var update = connection.Command(
                "update orders set settled = 1 where id in (select value from json_each($orders))", ("$orders", System.Text.Json.JsonSerializer.Serialize(orders)));
            await update.ExecuteNonQueryAsync(CancellationToken.None);
            logger.LogInformation("Settled {OrderCount} orders", orders.Count);
        }
        catch (Exception exception) when (exception is HttpRequestException or TaskCanceledException or System.Data.Common.DbException)
        {
            // The orders stay open; the next run takes them again.
            trace.Fail(exception);
            logger.LogError(exception, "Settlement failed");
        }
    }
}
