using System.Net.Http.Json;
using System.Security.Principal;
using LogTrace;

namespace Shop;

/// <summary>The only service that the outside sees. Keeps the carts.</summary>
sealed class Gateway
{
    public static void CreateDatabase(ShopDatabase database) => database.Create(
        "create table cart_lines (cart integer, sku text, quantity integer, primary key (cart, sku)) without rowid; create table carts (cart integer primary key, uid text, ordered integer not null default 0)",
        connection =>
        {
            for (var cart = 1; cart <= Catalogue.Carts; cart++)
            {
                ShopDatabase.Execute(connection, "insert into carts (cart) values ($cart)", ("$cart", cart));
                foreach (var line in Catalogue.Cart(cart))
                    ShopDatabase.Execute(connection, "insert into cart_lines values ($cart, $sku, $quantity)", ("$cart", cart), ("$sku", line.Sku), ("$quantity", line.Quantity));
            }
        });

    public static void Map(WebApplication app)
    {
        app.MapPost("/checkout", CheckoutAsync);
        app.MapGet("/orders/{id:long}", (long id, IHttpClientFactory clients, CancellationToken cancellationToken) => PassOnAsync(clients, "orders", $"/orders/{id}", cancellationToken));
        app.MapGet("/items", (int? page, IHttpClientFactory clients, CancellationToken cancellationToken) => PassOnAsync(clients, "stock", $"/items?page={page ?? 1}", cancellationToken));
    }

    static int _checkoutsUnderWay;

    static async Task<IResult> CheckoutAsync(CheckoutRequest request, HttpContext context, ShopDatabase database, IHttpClientFactory clients, ILogger<Gateway> logger, CancellationToken cancellationToken)
    {
        // In place of an authentication: who is signed in is the uid of the request's record.
        context.User = new(new GenericIdentity(request.Uid, "cart"));
        var metrics = TraceMetrics.Current;
        metrics.Gauge("shop.checkouts_under_way", Interlocked.Increment(ref _checkoutsUnderWay));
        try
        {
            var result = await OrderCartAsync(request, database, clients, logger, cancellationToken);
            metrics.Counter("shop.checkouts", 1, ("status", (result as IStatusCodeHttpResult)?.StatusCode));
            return result;
        }
        finally
        {
            Interlocked.Decrement(ref _checkoutsUnderWay);
        }
    }

    static async Task<IResult> OrderCartAsync(CheckoutRequest request, ShopDatabase database, IHttpClientFactory clients, ILogger<Gateway> logger, CancellationToken cancellationToken)
    {
        await using var connection = await database.OpenAsync(cancellationToken);
        List<OrderLine> lines;
        await using (var select = connection.Command("select sku, quantity from cart_lines where cart = $cart order by sku", ("$cart", request.Cart)))
            lines = await select.QueryAsync(row => new OrderLine(row.GetString(0), row.GetInt32(1)), cancellationToken);
        logger.LogDebug("Cart {Cart} holds {Lines}", request.Cart, lines);
        TraceMetrics.Current.Histogram("shop.cart_items", lines.Sum(line => line.Quantity));
        if (lines.Count == 0) return Results.NotFound();

        using var response = await clients.CreateClient("orders").PostAsJsonAsync("/orders", new OrderRequest(request.Uid, request.Reference, lines), cancellationToken);
        if (!response.IsSuccessStatusCode)
        {
            logger.LogWarning("Checkout of cart {Cart} for {Uid} was refused with {StatusCode}", request.Cart, request.Uid, (int)response.StatusCode);
            return Results.StatusCode((int)response.StatusCode);
        }

        var order = await response.Content.ReadFromJsonAsync<OrderAnswer>(cancellationToken);
        await using var update = connection.Command("update carts set uid = $uid, ordered = ordered + 1 where cart = $cart", ("$uid", request.Uid), ("$cart", request.Cart));
        await update.ExecuteNonQueryAsync(cancellationToken);
        logger.LogInformation("Cart {Cart} became order {Order}", request.Cart, order!.Id);
        return Results.Created($"/orders/{order.Id}", order);
    }

    static async Task<IResult> PassOnAsync(IHttpClientFactory clients, string service, string path, CancellationToken cancellationToken)
    {
        using var response = await clients.CreateClient(service).GetAsync(path, cancellationToken);
        return response.IsSuccessStatusCode
            ? Results.Text(await response.Content.ReadAsStringAsync(cancellationToken), "application/json")
            : Results.StatusCode((int)response.StatusCode);
    }
}
