using System.Globalization;
using System.Text.Json.Nodes;
using LogTrace.Dashboards;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Dashboards;

/// <summary>The panels of the built file and what the products ask the server for them: taken out of the file as an importer does, never from the sources.</summary>
sealed class BuiltPanels
{
    readonly Dictionary<string, JsonObject> _objects;

    public BuiltPanels(Flavour flavour) =>
        _objects = File.ReadLines(Path.Combine(Repository.Root, DashboardsCommand.Files[flavour])).Select(line => JsonNode.Parse(line)!.AsObject()).ToDictionary(saved => (string)saved["id"]!);

    /// <summary>Short names of all that ask a server: charts and searches.</summary>
    public IEnumerable<string> Names => _objects.Keys.Where(id => id.StartsWith("logtrace-panel-", StringComparison.Ordinal) || id.StartsWith("logtrace-search-", StringComparison.Ordinal)).Select(id => id["logtrace-".Length..]);

    /// <summary>The Vega spec of a panel; null for those that have none.</summary>
    public string? SpecOf(string name) => name.StartsWith("panel-", StringComparison.Ordinal) ? (string?)State(name)["params"]!["spec"] : null;

    /// <summary>The requests of a panel: one, but for Vega, where each data set has its own.</summary>
    /// <param name="name">Its short name.</param>
    /// <param name="query">What stands in the dashboard's query bar; null for nothing.</param>
    public IReadOnlyDictionary<string, PanelRequest> RequestsOf(string name, JsonObject? query = null)
    {
        if (SpecOf(name) is { } spec)
        {
            return JsonNode.Parse(spec)!["data"]!.AsArray().Where(data => data!["url"] is not null)
                .ToDictionary(data => (string)data!["name"]!, data => VegaRequest(data!["url"]!.AsObject(), query));
        }

        var saved = _objects["logtrace-" + name];
        var index = (string)_objects[(string)saved["references"]![0]!["id"]!]["attributes"]!["title"]!;
        var body = name.StartsWith("search-", StringComparison.Ordinal) ? SearchBody(saved) : AggregationBody(State(name));
        var source = JsonNode.Parse((string)saved["attributes"]!["kibanaSavedObjectMeta"]!["searchSourceJSON"]!)!;
        body["query"] = Filtered([Kql.Parse((string)source["query"]!["query"]!).Body, .. query is null ? Array.Empty<JsonObject>() : [query]]);
        return new Dictionary<string, PanelRequest> { ["reply"] = new(index, body) };
    }

    JsonObject State(string name) => JsonNode.Parse((string)_objects["logtrace-" + name]["attributes"]!["visState"]!)!.AsObject();

    static JsonObject TimeRange() => new() { ["range"] = new JsonObject { ["@timestamp"] = new JsonObject { ["gte"] = "now-1d", ["lte"] = "now+1d" } } };

    static JsonObject Filtered(IEnumerable<JsonObject> filters) => new() { ["bool"] = new JsonObject { ["filter"] = new JsonArray([.. filters.Select(filter => (JsonNode)filter.DeepClone()), TimeRange()]) } };

    static JsonObject SearchBody(JsonObject saved) => new()
    {
        ["size"] = 500,
        ["track_total_hits"] = true,
        ["sort"] = new JsonArray([.. saved["attributes"]!["sort"]!.AsArray().Select(sort => new JsonObject { [(string)sort![0]!] = new JsonObject { ["order"] = (string)sort[1]!, ["unmapped_type"] = "boolean" } })]),
    };

    /// <summary>As the products make it of an aggregation's parameters: buckets within each other in their order, metrics in the innermost and wherever they order.</summary>
    static JsonObject AggregationBody(JsonObject state)
    {
        var all = state["aggs"]!.AsArray().Select(aggregation => aggregation!.AsObject()).ToList();
        var metrics = all.Where(aggregation => (string)aggregation["schema"]! == "metric").ToList();
        var body = new JsonObject { ["size"] = 0, ["track_total_hits"] = true };
        var holder = body;
        foreach (var bucket in all.Except(metrics))
        {
            var (made, orderedBy) = Bucket(bucket, metrics);
            var here = holder["aggs"] as JsonObject ?? [];
            here[(string)bucket["id"]!] = made;
            holder["aggs"] = here;
            if (orderedBy is not null) made["aggs"] = new JsonObject { [(string)orderedBy["id"]!] = Metric(orderedBy) };
            holder = made;
        }

        var inner = holder["aggs"] as JsonObject ?? [];
        foreach (var metric in metrics.Where(metric => (string)metric["type"]! != "count")) inner[(string)metric["id"]!] = Metric(metric);
        if (inner.Count > 0) holder["aggs"] = inner;
        return body;
    }

    static (JsonObject Made, JsonObject? OrderedBy) Bucket(JsonObject bucket, List<JsonObject> metrics)
    {
        var parameters = bucket["params"]!;
        if ((string)bucket["type"]! == "date_histogram")
            return (new JsonObject { ["date_histogram"] = new JsonObject { ["field"] = (string)parameters["field"]!, ["fixed_interval"] = "1m", ["time_zone"] = "UTC", ["min_doc_count"] = 1 } }, null);
        var order = (string)parameters["orderBy"]!;
        var orderedBy = metrics.FirstOrDefault(metric => (string)metric["id"]! == order.Split('.')[0] && (string)metric["type"]! != "count");
        var terms = new JsonObject
        {
            ["field"] = (string)parameters["field"]!,
            ["size"] = (int)parameters["size"]!,
            ["order"] = new JsonObject { [orderedBy is not null ? order : order == "_key" ? "_key" : "_count"] = (string)parameters["order"]! },
        };
        if ((bool)parameters["missingBucket"]!) terms["missing"] = "__missing__";
        return (new JsonObject { ["terms"] = terms }, orderedBy);
    }

    static JsonObject Metric(JsonObject metric)
    {
        var (type, parameters) = ((string)metric["type"]!, metric["params"]!);
        var field = (string)parameters["field"]!;
        return type switch
        {
            "percentiles" => new JsonObject { [type] = new JsonObject { ["field"] = field, ["percents"] = parameters["percents"]!.DeepClone(), ["keyed"] = false } },
            "top_hits" => new JsonObject
            {
                [type] = new JsonObject
                {
                    ["docvalue_fields"] = new JsonArray(new JsonObject { ["field"] = field }),
                    ["_source"] = field,
                    ["size"] = (int)parameters["size"]!,
                    ["sort"] = new JsonArray(new JsonObject { [(string)parameters["sortField"]!] = new JsonObject { ["order"] = (string)parameters["sortOrder"]! } }),
                },
            },
            _ => new JsonObject { [type] = new JsonObject { ["field"] = field } },
        };
    }

    static PanelRequest VegaRequest(JsonObject url, JsonObject? query)
    {
        var body = Filled(url["body"]!, query)!.AsObject();
        if (url["%context%"] is not null) body["query"] = Filtered(query is null ? [] : [query]);
        return new PanelRequest((string)url["index"]!, body);
    }

    /// <summary>The dashboard's query and time range where the spec asks for them.</summary>
    static JsonNode? Filled(JsonNode? node, JsonObject? query)
    {
        switch (node)
        {
            case JsonArray items:
                var filled = new JsonArray();
                foreach (var item in items)
                {
                    if (item is JsonValue text && text.TryGetValue<string>(out var written) && written.StartsWith("%dashboard_context-", StringComparison.Ordinal))
                    {
                        if (written.Contains("-filter_", StringComparison.Ordinal) && query is not null) filled.Add(query.DeepClone());
                    }
                    else
                    {
                        filled.Add(Filled(item, query));
                    }
                }

                return filled;
            case JsonObject members:
                if (members["%timefilter%"] is not null) return TimeRange()["range"]!["@timestamp"]!.DeepClone();
                var copy = new JsonObject();
                foreach (var (name, member) in members) copy[name] = Filled(member, query);
                return copy;
            default:
                return node?.DeepClone();
        }
    }
}

/// <summary>One search.</summary>
sealed record PanelRequest(string Index, JsonObject Body)
{
    static readonly HttpClient Client = new();

    /// <summary>What the server answers, from indices of another prefix, and with chains counting as quiet from the first moment.</summary>
    public async Task<JsonNode> AskAsync(string url, string prefix)
    {
        using var content = new StringContent(Body.ToJsonString().Replace("now-2m", "now+1d", StringComparison.Ordinal), System.Text.Encoding.UTF8, "application/json");
        using var answer = await Client.PostAsync($"{url}/{Index.Replace("logtrace-", prefix + "-", StringComparison.Ordinal)}/_search", content);
        var text = await answer.Content.ReadAsStringAsync();
        if (!answer.IsSuccessStatusCode) throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"{Index} was answered with {(int)answer.StatusCode}: {text}\n{Body}"));
        return JsonNode.Parse(text)!;
    }
}
