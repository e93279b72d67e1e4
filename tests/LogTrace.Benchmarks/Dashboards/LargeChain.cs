using System.Globalization;
using System.IO.Hashing;
using System.Text;
using System.Text.Json.Nodes;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Dashboards;

/// <summary>
/// One request that calls again and again: both sides of calls between services, what these ask of databases and caches, log lines, some errors.
/// Made of log lines as services write them, so that what is drawn is what the indexer would have stored.
/// </summary>
static class LargeChain
{
    /// <summary>The records of a chain of so many calls; the request itself is one of them.</summary>
    /// <param name="calls">How many, of which five stand for one pass of the loop.</param>
    /// <param name="traceId">The chain's id.</param>
    /// <param name="at">When the request came, in microseconds since 1970.</param>
    public static IReadOnlyList<IndexedRecord> Records(int calls, string traceId, long at)
    {
        var records = new List<IndexedRecord>();
        var end = at;
        for (var left = calls - 1; left > 0; left -= 5)
        {
            var number = 2 + ((calls - 1 - left) / 5);
            var call = string.Create(CultureInfo.InvariantCulture, $"1.{number}");
            if (left < 5)
            {
                for (var rest = 0; rest < left; rest++) Add("redis.get", string.Create(CultureInfo.InvariantCulture, $"1.{number + rest}"), "gateway", "GET cart:4711", end += 400, 300, "\"host\":\"redis:6379\"");
                break;
            }

            var isError = number % 97 == 0;
            Add(isError ? "http.post.error" : "http.post", call, "gateway", "http://orders/orders", end + 100, 9_000, isError ? "\"host\":\"orders\",\"code\":\"503\"" : "\"host\":\"orders\",\"code\":\"201\"");
            Add("request.info", call + ".1", "orders", "POST /orders", end + 600, 8_000, isError ? "\"code\":\"503\"" : "\"code\":\"201\"");
            Add("mysql.request", call + ".2", "orders", $"insert into orders (id, user_id, state) values ({number}, 9527, 'new')", end + 900, 1_500, "\"instance_name\":\"orders-db\"");
            Add("redis.get", call + ".3", "orders", $"GET stock:{number}", end + 2_600, 300, "\"host\":\"redis:6379\"");
            Add("http.get", call + ".4", "orders", $"http://stock/items/{number}", end + 3_200, 4_000, "\"host\":\"stock\",\"code\":\"200\"");
            Add("request.info", call + ".4.1", "stock", $"GET /items/{number}", end + 3_500, 3_200, "\"code\":\"200\"");
            Add("mysql.request", call + ".4.2", "stock", $"select title, price_cents, quantity from items where id = {number}", end + 3_900, 2_000, "\"instance_name\":\"stock-db\"");
            if (number % 3 == 0) Add("log.info", call, "gateway", "Shop.Gateway", end + 9_500, 0, $"\"msg\":\"order {number} was placed\"");
            end += 9_900;
        }

        Add("request.info", "1.1", "gateway", "POST /checkout", at, end + 1_000 - at, "\"code\":\"201\",\"uid\":\"user-41\"");
        return records;

        // A line is written when the call is over.
        void Add(string name, string rpcId, string service, string action, long start, long micros, string more)
        {
            var written = start + micros;
            var line = Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $$"""
                {"name":"{{name}}","trace_id":"{{traceId}}","rpc_id":"{{rpcId}}","timestamp":{{written / 1_000_000}},"timestamp_us":{{written}},"department":"shop","module":"{{service}}","server_ip":"10.0.0.7","service":"{{service}}","action":"{{action}}","duration":{{micros / 1e6:0.######}},{{more}}}
                """));
            if (!RecordCodec.TryRead(line, out var record, out var reason)) throw new InvalidOperationException(reason);
            var hash = XxHash128.HashToUInt128(line);
            records.Add(RecordDeriver.Derive(record, hash, hash, "large.log", 0, at));
        }
    }

    /// <summary>The chain of so many calls as the store keeps it.</summary>
    public static ChainDocument Document(int calls) => ChainDocuments.From(ChainBuilder.Build("large", Records(calls, "large", 1_795_300_000_000_000)));

    /// <summary>What a server that has this one chain answers to the waterfall.</summary>
    public static JsonObject Reply(ChainDocument chain)
    {
        var output = new BulkBuffer(1024);
        ElasticsearchDocuments.WriteChain(chain, new CallVersions(), true, output);
        return new JsonObject
        {
            ["hits"] = new JsonObject { ["hits"] = new JsonArray(new JsonObject { ["_source"] = JsonNode.Parse(output.WrittenFrom(0)) }) },
            ["aggregations"] = new JsonObject { ["matches"] = new JsonObject { ["value"] = 1 } },
        };
    }
}
