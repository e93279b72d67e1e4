using Microsoft.Data.Sqlite;

namespace Shop;

/// <summary>Knows the items and how many are left.</summary>
sealed class Stock
{
    // Answers in about a tenth of a second: SQLite counts this far one by one.
    const int SlowSteps = 400_000;

    public static void CreateDatabase(ShopDatabase database) => database.Create(
        "create table items (sku text primary key, title text not null, price_cents integer not null, quantity integer not null check (quantity >= 0)) without rowid; "
        + "create table reservations (id integer, sku text, quantity integer, primary key (id, sku)) without rowid",
        connection =>
        {
            for (var item = 0; item < Catalogue.Skus; item++)
            {
                var sku = $"sku-{item}";
                ShopDatabase.Execute(
                    connection,
                    "insert into items values ($sku, $title, $price, $quantity)",
                    ("$sku", sku), ("$title", $"Item no. {item}"), ("$price", 199 + 50 * item), ("$quantity", sku == Catalogue.SoldOut ? 0 : 1_000_000_000));
            }
        });

    public static void Map(WebApplication app)
    {
        app.MapGet("/items", ListAsync);
        app.MapGet("/items/{sku}", ShowAsync);
        app.MapPost("/reservations", ReserveAsync);
        app.MapDelete("/reservations/{order:long}", ReleaseAsync);
    }

    static async Task<IResult> ListAsync(int? page, ShopDatabase database, ILogger<Stock> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        await using var select = connection.Command("select sku, title, price_cents, quantity from items order by sku limit 15 offset 15 * ($page - 1)", ("$page", page ?? 1));
        var items = await select.QueryAsync(Read, cancellationToken);
        logger.LogInformation("Page {Page} has {ItemCount} items", page ?? 1, items.Count);
        return Results.Ok(items);
    }

    static async Task<IResult> ShowAsync(string sku, ShopDatabase database, ILogger<Stock> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        await using var select = connection.Command("select sku, title, price_cents, quantity from items where sku = $sku", ("$sku", sku));
        var items = await select.QueryAsync(Read, cancellationToken);
        logger.LogDebug("Item {Sku} was looked up", sku);
        return items.Count == 0 ? Results.NotFound() : Results.Ok(items[0]);
    }

    static async Task<IResult> ReserveAsync(ReservationRequest request, ShopDatabase database, Faults faults, ILogger<Stock> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        if (faults.StockIsSlow(request.Reference))
        {
            await using var plan = connection.Command("with recursive step(n) as (select 1 union all select n + 1 from step where n < $steps) select count(*) from step", ("$steps", SlowSteps));
            await plan.ExecuteScalarAsync(cancellationToken);
            logger.LogWarning("Reservation of order {Order} needed the slow plan", request.Order);
        }

        await using var transaction = await connection.BeginTransactionAsync(cancellationToken);
        try
        {
            foreach (var line in request.Lines)
            {
                await using var update = connection.Command("update items set quantity = quantity - $quantity where sku = $sku", ("$quantity", line.Quantity), ("$sku", line.Sku)).Within(transaction);
                await update.ExecuteNonQueryAsync(cancellationToken);
                await using var insert = connection.Command("insert into reservations values ($order, $sku, $quantity)", ("$order", request.Order), ("$sku", line.Sku), ("$quantity", line.Quantity)).Within(transaction);
                await insert.ExecuteNonQueryAsync(cancellationToken);
            }

            await transaction.CommitAsync(cancellationToken);
        }
        catch (SqliteException exception) when (exception.SqliteErrorCode == 19)
        {
            // 19 is SQLITE_CONSTRAINT (https://www.sqlite.org/rescode.html): fewer are left than were asked for.
            await transaction.RollbackAsync(cancellationToken);
            logger.LogError(exception, "Order {Order} cannot be reserved", request.Order);
            return Results.Conflict();
        }

        logger.LogInformation("Order {Order} is reserved", request.Order);
        return Results.Ok();
    }

    static async Task<IResult> ReleaseAsync(long order, ShopDatabase database, ILogger<Stock> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        await using var delete = connection.Command("delete from reservations where id = $order", ("$order", order));
        var lines = await delete.ExecuteNonQueryAsync(cancellationToken);
        logger.LogInformation("Order {Order} gave back {LineCount} lines", order, lines);
        return Results.NoContent();
    }

    static ItemView Read(System.Data.Common.DbDataReader row) => new(row.GetString(0), row.GetString(1), row.GetInt32(2), row.GetInt32(3));
}
