namespace Shop;

/// <summary>What is in the databases of a new shop. The same in every shop; the seed decides on requests and faults only.</summary>
public static class Catalogue
{
    public const int Skus = 60;
    public const int Carts = 400;
    public const int PastOrders = 200;

    /// <summary>The item that is always sold out. Reserving it breaks a constraint of stock's database.</summary>
    public const string SoldOut = "sku-0";

    /// <summary>What lies in a cart: one to four different items.</summary>
    public static IReadOnlyList<OrderLine> Cart(int cart)
    {
        var random = new Random(cart);
        var lines = Enumerable.Range(0, random.Next(1, 5)).Select(_ => $"sku-{random.Next(1, Skus)}").Distinct();
        if (cart % 25 == 0) lines = lines.Append(SoldOut);
        return [.. lines.Select(sku => new OrderLine(sku, random.Next(1, 4)))];
    }

    /// <summary>What a past order held: the cart of the same number.</summary>
    public static IReadOnlyList<OrderLine> PastOrder(int order) => Cart(order);
}
