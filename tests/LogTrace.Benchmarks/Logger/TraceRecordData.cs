namespace LogTrace.Benchmarks.Logger;

/// <summary>What the records of all sides say: the values of a shop's query, the same ones in the same order for everybody.</summary>
static class TraceRecordData
{
    public const string Name = "mysql.request";
    public const string Department = "shop_backend";
    public const string Service = "orders";
    public const string Module = "shop_orders_mysql_request";
    public const string ServerIp = "10.0.0.7";
    public const string Version = "dotnet-orders-1.4";
    public const string Code = "0";

    public static string[] Actions { get; } = [.. Enumerable.Range(0, 64).Select(i => $"insert into orders (user_id, item_id, price) values (@user, @item, @price) /* shard {i} */")];

    public static string[] Params { get; } = [.. Enumerable.Range(0, 64).Select(i => $"{{\"user\":\"u-{1000 + i}\",\"item\":{i},\"price\":12.5}}")];

    public static string[] Uids { get; } = [.. Enumerable.Range(0, 64).Select(i => $"u-{1000 + i}")];

    public static string[] RpcIds { get; } = [.. Enumerable.Range(0, 64).Select(i => $"1.3.{i + 2}")];

    public const string TraceId = "4bf92f3577b34da6a3ce929d0e0e4736";

    public const long Timestamp = 1_795_000_000;

    public static double Duration(int i) => (i & 63) / 1e4;
}
