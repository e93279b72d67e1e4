using System.Globalization;
using System.IO.Hashing;
using System.Text;
using LogTrace.Indexer;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Chains;

/// <summary>Random trees of calls, each node's parent drawn from all nodes before it, one call record a node: decoded and shuffled, as a store gives them.</summary>
static class RandomTrees
{
    public static IndexedRecord[][] Make(int traces, int size, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, traces).Select(_ => Make(size, random))];
    }

    static IndexedRecord[] Make(int size, Random random)
    {
        var traceId = random.NextInt64().ToString("x16", CultureInfo.InvariantCulture);
        var ids = new string[size];
        var children = new int[size];
        var records = new IndexedRecord[size];
        ids[0] = "1";
        for (var i = 0; i < size; i++)
        {
            if (i > 0)
            {
                var parent = random.Next(i);
                ids[i] = string.Create(CultureInfo.InvariantCulture, $"{ids[parent]}.{++children[parent]}");
            }

            records[i] = Decode(string.Create(
                CultureInfo.InvariantCulture,
                $$"""
                {"name":"http.get","trace_id":"{{traceId}}","rpc_id":"{{ids[i]}}","timestamp":1795300000,"department":"shop_backend","module":"shop_gateway_http_get","server_ip":"10.0.0.{{i % 7}}","action":"http://orders/items/{{i % 10}}","param":"","version":"dotnet-gateway-1.4","duration":0.001,"code":"200","pid":"4711","host":"orders:80","timestamp_us":{{1795300000000000L + i}},"span_id":"{{i + 1:x16}}"}
                """));
        }

        random.Shuffle(records);
        return records;
    }

    static IndexedRecord Decode(string text)
    {
        var line = Encoding.UTF8.GetBytes(text);
        if (!RecordCodec.TryRead(line, out var record, out var reason)) throw new InvalidOperationException(reason);
        var hash = XxHash128.HashToUInt128(line);
        return RecordDeriver.Derive(record, hash, hash, "bench.log", 0, 0);
    }
}
