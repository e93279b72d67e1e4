namespace Shop;

/// <summary>Charges cards, and settles with the bank when the settlement job asks for it.</summary>
sealed class Payment
{
    public static void CreateDatabase(ShopDatabase database) => database.Create(
        "create table payments (id integer primary key, reference text not null, state text not null)",
        connection =>
        {
            for (var order = 1; order <= Catalogue.PastOrders; order++)
                ShopDatabase.Execute(connection, "insert into payments values ($id, 'past', 'settled')", ("$id", order));
        });

    public static void Map(WebApplication app)
    {
        app.MapPost("/payments", ChargeAsync);
        app.MapGet("/payments/{order:long}", ShowAsync);
        app.MapDelete("/payments/{order:long}", RefundAsync);
        app.MapPost("/settlements", SettleAsync);
    }

    static async Task<IResult> ChargeAsync(PaymentRequest request, ShopDatabase database, Faults faults, ILogger<Payment> logger, CancellationToken cancellationToken)
    {
        if (request.Attempt == 1 && faults.PaymentIsBusyAtFirst(request.Reference)) return Results.StatusCode(StatusCodes.Status503ServiceUnavailable);
        await using var connection = await database.OpenAsync(cancellationToken);
        await using (var select = connection.Command("select count(*) from payments where id = $order", ("$order", request.Order)))
            if ((long)(await select.ExecuteScalarAsync(cancellationToken))! > 0) return Results.Ok();
        if (faults.PaymentCrashes(request.Reference))
        {
            // An alarm: money may be gone, so somebody has to look.
            logger.LogCritical("The bank answered without an amount for order {Order}", request.Order);
            throw new InvalidOperationException($"The bank's answer for order {request.Order} has no amount.");
        }

        if (faults.CardIsDeclined(request.Reference))
        {
            logger.LogWarning("The card for order {Order} was declined", request.Order);
            return Results.StatusCode(StatusCodes.Status402PaymentRequired);
        }

        await using var insert = connection.Command("insert into payments values ($order, $reference, 'charged')", ("$order", request.Order), ("$reference", request.Reference));
        await insert.ExecuteNonQueryAsync(cancellationToken);
        logger.LogInformation("Order {Order} is paid at attempt {Attempt}", request.Order, request.Attempt);
        return Results.Ok();
    }

    static async Task<IResult> ShowAsync(long order, ShopDatabase database, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        await using var select = connection.Command("select state from payments where id = $order", ("$order", order));
        var states = await select.QueryAsync(row => row.GetString(0), cancellationToken);
        return states.Count == 0 ? Results.NotFound() : Results.Ok(new PaymentView(order, states[0]));
    }

    static async Task<IResult> RefundAsync(long order, ShopDatabase database, ILogger<Payment> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        await using var update = connection.Command("update payments set state = 'refunded' where id = $order", ("$order", order));
        await update.ExecuteNonQueryAsync(cancellationToken);
        logger.LogInformation("Order {Order} is refunded", order);
        return Results.NoContent();
    }

    static async Task<IResult> SettleAsync(SettlementRequest request, ShopDatabase database, ILogger<Payment> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        await using var update = connection.Command("update payments set state = 'settled' where id in (select value from json_each($orders)) and state = 'charged'", ("$orders", System.Text.Json.JsonSerializer.Serialize(request.Orders)));
        var settled = await update.ExecuteNonQueryAsync(cancellationToken);
        logger.LogInformation("Settled {Settled} of {OrderCount} orders", settled, request.Orders.Count);
        return Results.NoContent();
    }
}
