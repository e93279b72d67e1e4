using System.Globalization;
using Shop;

namespace LogTrace.Tests.Logger;

/// <summary>What the README of the shop says about the chain of a request: its calls, requests and forks, but no log lines.</summary>
static class ExpectedShopChain
{
    /// <summary>Each record as "id name service", in ordinal order.</summary>
    public static List<string> Of(LoadRequest request, Faults faults)
    {
        var chain = new Chain();
        if (request.Body is { } checkout) Checkout(chain, checkout, faults);
        else if (request.Path.StartsWith("/orders/", StringComparison.Ordinal)) ShowOrder(chain, int.Parse(request.Path["/orders/".Length..], CultureInfo.InvariantCulture));
        else ListItems(chain);
        chain.Lines.Sort(StringComparer.Ordinal);
        return chain.Lines;
    }

    static void Checkout(Chain chain, CheckoutRequest request, Faults faults)
    {
        var lines = Catalogue.Cart(request.Cart);
        var k = lines.Count;
        var soldOut = lines.Any(line => line.Sku == Catalogue.SoldOut);
        var crash = faults.PaymentCrashes(request.Reference);
        var paid = !crash && !faults.CardIsDeclined(request.Reference);
        var done = paid && !soldOut;
        var answer = done ? 201 : soldOut ? 409 : crash ? 502 : 402;

        chain.Request("1.1", "gateway", answer);
        chain.FirstSql("1.2", "gateway");
        chain.Http("1.3", "post", "gateway", "orders", answer);
        chain.FirstSql("1.3.2", "orders");
        for (var number = 3; number <= 4 + k; number++) chain.Sql($"1.3.{number}", "orders");

        var stock = $"1.3.{5 + k}";
        chain.Add($"{stock}.1", "fork.info", "orders");
        for (var number = 2; number <= 1 + k; number++)
        {
            chain.Http($"{stock}.{number}", "get", "orders", "stock", 200);
            chain.FirstSql($"{stock}.{number}.2", "stock");
        }

        var reservation = $"{stock}.{2 + k}";
        chain.Http(reservation, "post", "orders", "stock", soldOut ? 409 : 200);
        chain.FirstSql($"{reservation}.2", "stock");
        var begin = 2;
        if (faults.StockIsSlow(request.Reference)) chain.Sql($"{reservation}.{++begin}", "stock");
        if (soldOut)
        {
            chain.Add($"{reservation}.{begin + 1}", "sqlite.request.error", "stock");
            chain.Sql($"{reservation}.{begin + 2}", "stock");
        }
        else
        {
            for (var number = 1; number <= 2 * k + 1; number++) chain.Sql($"{reservation}.{begin + number}", "stock");
        }

        var payment = $"1.3.{6 + k}";
        chain.Add($"{payment}.1", "fork.info", "orders");
        var attempt = 2;
        if (faults.PaymentIsBusyAtFirst(request.Reference)) chain.Http($"{payment}.{attempt++}", "post", "orders", "payment", 503);
        chain.Http($"{payment}.{attempt}", "post", "orders", "payment", crash ? 500 : paid ? 200 : 402);
        chain.FirstSql($"{payment}.{attempt}.2", "payment");
        if (paid) chain.Sql($"{payment}.{attempt}.3", "payment");

        var next = 7 + k;
        if (paid == soldOut)
        {
            var service = soldOut ? "payment" : "stock";
            chain.Http($"1.3.{next}", "delete", "orders", service, 204);
            chain.FirstSql($"1.3.{next}.2", service);
            next++;
        }

        chain.Sql($"1.3.{next}", "orders");
        if (done) chain.Sql("1.4", "gateway");
    }

    static void ShowOrder(Chain chain, int order)
    {
        var answer = order <= Catalogue.PastOrders ? 200 : 404;
        chain.Request("1.1", "gateway", answer);
        chain.Http("1.2", "get", "gateway", "orders", answer);
        chain.FirstSql("1.2.2", "orders");
        if (answer == 404) return;
        chain.Sql("1.2.3", "orders");
        var k = Catalogue.PastOrder(order).Count;
        for (var number = 4; number <= 4 + k; number++)
        {
            // Which of the numbers went to payment is not said.
            chain.Http($"1.2.{number}", "get", "orders", StockOrPayment, 200);
            chain.FirstSql($"1.2.{number}.2", StockOrPayment);
        }
    }

    static void ListItems(Chain chain)
    {
        chain.Request("1.1", "gateway", 200);
        chain.Http("1.2", "get", "gateway", "stock", 200);
        chain.FirstSql("1.2.2", "stock");
    }

    /// <summary>Stands for either service below an order view, where the order of concurrent calls is open.</summary>
    public const string StockOrPayment = "stock|payment";

    sealed class Chain
    {
        public List<string> Lines { get; } = [];

        public void Add(string id, string name, string service) => Lines.Add($"{id} {name} {service}");

        public void Request(string id, string service, int status) => Add(id, status >= 500 ? "request.info.error" : "request.info", service);

        // A call and what its callee says of it.
        public void Http(string id, string method, string caller, string callee, int status)
        {
            Add(id, status >= 500 ? $"http.{method}.error" : $"http.{method}", caller);
            Request($"{id}.1", callee, status);
        }

        public void Sql(string id, string service) => Add(id, "sqlite.request", service);

        public void FirstSql(string id, string service)
        {
            Add(id, "sqlite.connect", service);
            Sql(id, service);
        }
    }
}
