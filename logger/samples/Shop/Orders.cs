using System.Net;
using System.Net.Http.Json;
using LogTrace;

namespace Shop;

/// <summary>Takes orders: writes them down, then reserves at stock and charges at payment side by side.</summary>
sealed class Orders
{
    public static void CreateDatabase(ShopDatabase database) => database.Create(
        "create table orders (id integer primary key, uid text not null, reference text not null, state text not null, settled integer not null default 0); create index open_orders on orders (id) where state = 'done' and settled = 0; "
        + "create table order_lines (id integer, sku text, quantity integer, primary key (id, sku)) without rowid",
        connection =>
        {
            for (var order = 1; order <= Catalogue.PastOrders; order++)
            {
                ShopDatabase.Execute(connection, "insert into orders values ($id, 'user-0', 'past', 'done', 1)", ("$id", order));
                foreach (var line in Catalogue.PastOrder(order))
                    ShopDatabase.Execute(connection, "insert into order_lines values ($id, $sku, $quantity)", ("$id", order), ("$sku", line.Sku), ("$quantity", line.Quantity));
            }
        });

    public static void Map(WebApplication app)
    {
        app.MapPost("/orders", PlaceAsync);
        app.MapGet("/orders/{id:long}", ShowAsync);
    }

    static async Task<IResult> PlaceAsync(OrderRequest request, ShopDatabase database, IHttpClientFactory clients, ILogger<Orders> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        long id;
        await using (var transaction = await connection.BeginTransactionAsync(cancellationToken))
        {
            await using var insert = connection.Command("insert into orders (uid, reference, state) values ($uid, $reference, 'open') returning id", ("$uid", request.Uid), ("$reference", request.Reference)).Within(transaction);
            id = (long)(await insert.ExecuteScalarAsync(cancellationToken))!;
            foreach (var line in request.Lines)
            {
                await using var insertLine = connection.Command("insert into order_lines values ($id, $sku, $quantity)", ("$id", id), ("$sku", line.Sku), ("$quantity", line.Quantity)).Within(transaction);
                await insertLine.ExecuteNonQueryAsync(cancellationToken);
            }

            await transaction.CommitAsync(cancellationToken);
        }

        logger.LogInformation("Order {Order} of {Uid} with {LineCount} lines is open", id, request.Uid, request.Lines.Count);
        var reserving = TraceContext.ForkAsync("stock", () => ReserveAsync(clients, id, request, logger, cancellationToken));
        var paying = TraceContext.ForkAsync("payment", () => PayAsync(clients, id, request, logger, cancellationToken));
        await Task.WhenAll(reserving, paying);
        var (reserved, paid) = (await reserving, await paying);

        // Whoever got through has to be taken back when the other did not.
        if (reserved == HttpStatusCode.OK && paid != HttpStatusCode.OK)
            (await clients.CreateClient("stock").DeleteAsync($"/reservations/{id}", cancellationToken)).Dispose();
        if (paid == HttpStatusCode.OK && reserved != HttpStatusCode.OK)
            (await clients.CreateClient("payment").DeleteAsync($"/payments/{id}", cancellationToken)).Dispose();

        var done = reserved == HttpStatusCode.OK && paid == HttpStatusCode.OK;
        await using var update = connection.Command("update orders set state = $state where id = $id", ("$state", done ? "done" : "failed"), ("$id", id));
        await update.ExecuteNonQueryAsync(cancellationToken);
        if (done) return Results.Created($"/orders/{id}", new OrderAnswer(id, "done"));
        logger.LogWarning("Order {Order} failed: stock answered {StockStatus}, payment {PaymentStatus}", id, (int)reserved, (int)paid);
        var refusal = reserved != HttpStatusCode.OK ? reserved : paid;
        return Results.StatusCode(refusal >= HttpStatusCode.InternalServerError ? StatusCodes.Status502BadGateway : (int)refusal);
    }

    static async Task<HttpStatusCode> ReserveAsync(IHttpClientFactory clients, long order, OrderRequest request, ILogger logger, CancellationToken cancellationToken)
    {
        var stock = clients.CreateClient("stock");
        var items = await Task.WhenAll(request.Lines.Select(line => stock.GetFromJsonAsync<ItemView>($"/items/{line.Sku}", cancellationToken)));
        logger.LogDebug("Order {Order} wants {Items}", order, items);
        using var response = await stock.PostAsJsonAsync("/reservations", new ReservationRequest(order, request.Reference, request.Lines), cancellationToken);
        return response.StatusCode;
    }

    static async Task<HttpStatusCode> PayAsync(IHttpClientFactory clients, long order, OrderRequest request, ILogger logger, CancellationToken cancellationToken)
    {
        var payment = clients.CreateClient("payment");
        for (var attempt = 1; ; attempt++)
        {
            using var response = await payment.PostAsJsonAsync("/payments", new PaymentRequest(order, request.Reference, attempt), cancellationToken);
            if (response.StatusCode != HttpStatusCode.ServiceUnavailable || attempt == 3) return response.StatusCode;
            logger.LogWarning("Payment of order {Order} was turned away, attempt {Attempt}", order, attempt);
        }
    }

    static async Task<IResult> ShowAsync(long id, ShopDatabase database, IHttpClientFactory clients, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        await using var select = connection.Command("select uid, state from orders where id = $id", ("$id", id));
        var found = await select.QueryAsync(row => (Uid: row.GetString(0), State: row.GetString(1)), cancellationToken);
        if (found.Count == 0) return Results.NotFound();
        await using var selectLines = connection.Command("select sku, quantity from order_lines where id = $id order by sku", ("$id", id));
        var lines = await selectLines.QueryAsync(row => new OrderLine(row.GetString(0), row.GetInt32(1)), cancellationToken);

        // Side by side without forks: every call takes its own number from the one counter of this scope.
        var stock = clients.CreateClient("stock");
        var paying = clients.CreateClient("payment").GetFromJsonAsync<PaymentView>($"/payments/{id}", cancellationToken);
        var items = await Task.WhenAll(lines.Select(line => stock.GetFromJsonAsync<ItemView>($"/items/{line.Sku}", cancellationToken)));
        var payment = await paying;
        return Results.Ok(new OrderView(id, found[0].Uid, found[0].State, payment?.State, [.. items.OfType<ItemView>()]));
    }
}
