using System.Globalization;

namespace LogTrace.Benchmarks.Indexer;

/// <summary>Lines as three services write them: each trace is the same request, ten records with their own span ids and times of now.</summary>
static class ServiceLines
{
    /// <summary>Where in the chain each record of a trace stands, by which service it is written, and what it says.</summary>
    static readonly (string Name, string RpcId, string Service, string Module, string Action, string Param)[] s_records =
    [
        ("redis.request", "1.2", "gateway", "shop_gateway_cart_get", "GET cart:{0}", ""),
        ("mysql.request", "1.3.2", "orders", "shop_orders_item_insert", "insert into orders (id, item) values ({0}, {1})", ""),
        ("request.info", "1.3.3.1", "stock", "shop_stock_item_get", "GET /items/{1}", ""),
        ("http.get", "1.3.3", "orders", "shop_orders_stock_get", "http://stock:8080/items/{1}", ""),
        ("log.info", "1.3.3", "orders", "shop_orders_order_place", "order {0} placed", ""),
        ("mysql.request", "1.3.4", "orders", "shop_orders_item_update", "update items set reserved = reserved + 1 where id = {1}", ""),
        ("request.info", "1.3.1", "orders", "shop_orders_order_create", "POST /orders", "item={1}&count=1"),
        ("http.post", "1.3", "gateway", "shop_gateway_order_post", "http://orders:8080/orders", ""),
        ("log.info", "1.3", "gateway", "shop_gateway_checkout_done", "checkout of cart {0} done", ""),
        ("request.info", "1.1", "gateway", "shop_gateway_checkout_post", "POST /checkout", "cart={0}"),
    ];

    /// <summary>Writes all records of a number of traces; as at a busy time, those of up to a hundred traces lie mixed.</summary>
    public static void Write(string path, int traces)
    {
        const int AtOnce = 100;
        var random = new Random(7);
        var begin = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() * 1000 - 60_000_000;
        using var file = new StreamWriter(path);
        for (var first = 0; first < traces; first += AtOnce)
        {
            var some = Enumerable.Range(first, Math.Min(AtOnce, traces - first)).Select(number => (Number: number, Id: Hex(random) + Hex(random))).ToList();
            for (var i = 0; i < s_records.Length; i++)
            {
                foreach (var (number, id) in some) file.Write(Line(i, number, id, begin + (number * 100L) + (i * 7), random));
            }
        }
    }

    static string Line(int position, int number, string trace, long micros, Random random)
    {
        var (name, rpcId, service, module, action, param) = s_records[position];
        var item = number * 31 % 10_000;
        var (what, with) = (string.Format(CultureInfo.InvariantCulture, action, number, item), string.Format(CultureInfo.InvariantCulture, param, number, item));
        var time = name.StartsWith("log.", StringComparison.Ordinal) ? "" : string.Create(CultureInfo.InvariantCulture, $"\"duration\":{random.Next(1_000, 90_000) / 1e6:F6},\"code\":\"200\",");
        return string.Create(CultureInfo.InvariantCulture,
            $$"""{"name":"{{name}}","trace_id":"{{trace}}","rpc_id":"{{rpcId}}","timestamp":{{micros / 1_000_000}},"department":"shop_backend","module":"{{module}}","server_ip":"10.1.2.{{position}}","action":"{{what}}","param":"{{with}}","version":"dotnet-{{service}}-1.4",{{time}}"pid":"{{4000 + position}}","service":"{{service}}","timestamp_us":{{micros}},"span_id":"{{Hex(random)}}"}""") + "\n";
    }

    static string Hex(Random random) => random.NextInt64().ToString("x16", CultureInfo.InvariantCulture);
}
