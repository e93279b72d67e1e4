using System.Text.Json.Nodes;
using LogTrace.Dashboards;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Dashboards;

/// <summary>Each rule finds what it is for, in a built file that is otherwise as it was.</summary>
public sealed class DashboardLinterTests
{
    static readonly DashboardLinter Linter = DashboardLinter.OfTemplates(Path.Combine(Repository.Root, "indexer/LogTrace.Indexer/Store"));
    static readonly string Built = File.ReadAllText(Path.Combine(Repository.Root, DashboardsCommand.Files[Flavour.Kibana]));

    const string Table = "logtrace-panel-overview-actions";
    const string Waterfall = "logtrace-panel-chain-waterfall";
    const string Overview = "logtrace-dash-overview";
    const string Slowest = "logtrace-search-chains-slowest";

    [Theory]
    [InlineData(Flavour.Kibana)]
    [InlineData(Flavour.OpenSearch)]
    public void The_built_files_break_no_rule(Flavour flavour) =>
        Linter.Check(File.ReadAllText(Path.Combine(Repository.Root, DashboardsCommand.Files[flavour])), flavour).Should().BeEmpty();

    public static TheoryData<string, string, Func<string, string>> Defects => new()
    {
        { "line", "a line cut short", built => built[..(built.Length / 2)] },
        { "keys", "an object with the server's own bookkeeping", built => Changed(built, Table, saved => saved["updated_at"] = "2026-01-01T00:00:00Z") },
        { "id", "an id made up by a server", built => built.Replace("logtrace-panel-overview-actions", "5b2a1e70-9c1d-11ec", StringComparison.Ordinal) },
        { "unique id", "an object twice", built => built + built.Split('\n')[0] + "\n" },
        { "type", "a type that OpenSearch Dashboards does not have", built => Changed(built, Table, saved => saved["type"] = "lens") },
        { "version", "a version newer than 7.10 knows", built => Changed(built, Table, saved => saved["migrationVersion"]!["visualization"] = "7.14.0") },
        { "attributes", "an attribute of later servers", built => Changed(built, Slowest, saved => saved["attributes"]!["hideChart"] = true) },
        { "description", "an object that does not say what it is for", built => Changed(built, Table, saved => saved["attributes"]!["description"] = " ") },
        { "embedded JSON", "a chart whose state is no JSON", built => Changed(built, Table, saved => saved["attributes"]!["visState"] = "{\"title\":") },
        { "reference name", "a panel whose reference is gone", built => Changed(built, Overview, saved => saved["references"]!.AsArray().RemoveAt(1)) },
        { "unused reference", "a reference that nothing uses", built => Changed(built, Overview, saved => saved["references"]!.AsArray().Add(new JsonObject { ["name"] = "panel_99", ["type"] = "visualization", ["id"] = Table })) },
        { "reference", "a reference to an object that is not in the file", built => Changed(built, Table, saved => saved["references"]![0]!["id"] = "logtrace-nobody") },
        { "link", "a link to a dashboard that is not there", built => built.Replace("#/view/logtrace-dash-losses", "#/view/logtrace-dash-loss", StringComparison.Ordinal) },
        { "index", "a data view of an index that nobody writes", built => Changed(built, "logtrace-chains", saved => saved["attributes"]!["title"] = "logs-*") },
        { "columns", "a search without columns", built => Changed(built, Slowest, saved => saved["attributes"]!.AsObject().Remove("columns")) },
        { "query", "a query that ends in the middle", built => Inside(built, Slowest, "kibanaSavedObjectMeta.searchSourceJSON", source => source["query"]!["query"] = "error_count > 0 and (debug: true") },
        { "field", "a query for a field that the index does not have", built => Inside(built, Slowest, "kibanaSavedObjectMeta.searchSourceJSON", source => source["query"]!["query"] = "elapsed > 0") },
        { "field", "a column that the index does not have", built => Changed(built, Slowest, saved => saved["attributes"]!["columns"]!.AsArray().Add("elapsed")) },
        { "field type", "an average of a text", built => Inside(built, Table, "visState", state => state["aggs"]![1]!["params"]!["field"] = "entry_action") },
        { "field type", "a search sorted by a text that is not indexed for it", built => Changed(built, "logtrace-search-alarms", saved => saved["attributes"]!["sort"]![0]![0] = "msg") },
        { "aggregation", "an order by an aggregation that is not there", built => Inside(built, Table, "visState", state => state["aggs"]![3]!["params"]!["orderBy"] = "9") },
        { "chart type", "a chart that needs a licence", built => Inside(built, Table, "visState", state => state["type"] = "lnsMetric") },
        { "panel overlap", "a panel over another", built => Inside(built, Overview, "panelsJSON", panels => panels[2]!["gridData"]!["y"] = 1) },
        { "panel width", "a panel beyond the last column", built => Inside(built, Overview, "panelsJSON", panels => panels[1]!["gridData"]!["x"] = 30) },
        { "panels", "a panel that 9.x cannot read", built => Inside(built, Overview, "panelsJSON", panels => panels[1]!.AsObject().Remove("embeddableConfig")) },
        { "time", "a dashboard that restores a time it does not have", built => Changed(built, Overview, saved => saved["attributes"]!["timeRestore"] = true) },
        { "vega schema", "a spec for Vega 6 alone", built => Spec(built, spec => spec["$schema"] = "https://vega.github.io/schema/vega/v6.json") },
        { "vega url", "a picture's data from outside", built => Spec(built, spec => spec["data"]![0]!["url"] = "https://example.com/data.json") },
        { "vega function", "the filter function of the other product", built => built.Replace("kibanaAddFilter", "opensearchDashboardsAddFilter", StringComparison.Ordinal) },
        { "vega index", "a filter for a data view that is not there", built => built.Replace("},'logtrace-records-*',", "},'logtrace-logs-*',", StringComparison.Ordinal) },
        { "vega query", "a query of its own beside the dashboard's", built => Spec(built, spec => spec["data"]![0]!["url"]!["body"]!["query"] = new JsonObject { ["match_all"] = new JsonObject() }) },
        { "vega name", "a mark called as a data set", built => Spec(built, spec => spec["marks"]![0]!["name"] = "rows") },
        { "field", "a Vega search for a field that the index does not have", built => Spec(built, spec => spec["data"]![0]!["url"]!["body"]!["aggs"]!["matches"]!["value_count"]!["field"] = "trace") },
    };

    [Theory]
    [MemberData(nameof(Defects))]
    public void A_defect_is_found_by_the_rule_that_is_for_it(string rule, string defect, Func<string, string> seed)
    {
        var broken = seed(Built);

        broken.Should().NotBe(Built, "the defect has to be in it");
        Linter.Check(broken, Flavour.Kibana).Select(problem => problem.Rule).Should().Contain(rule, $"it has {defect}");
    }

    [Fact]
    public void Every_rule_has_a_defect_that_shows_it_works()
    {
        var source = File.ReadAllText(Path.Combine(Repository.Root, "dashboards/LogTrace.Dashboards/DashboardLinter.cs"));
        var rules = System.Text.RegularExpressions.Regex.Matches(source, """[^.]Problem\("([^"]+)",""").Select(rule => rule.Groups[1].Value).Distinct();

        Defects.Select(defect => (string)defect[0]).Should().Contain(rules);
    }

    static string Changed(string built, string id, Action<JsonObject> change) =>
        string.Join('\n', built.Split('\n').Select(line =>
        {
            if (!line.StartsWith($"{{\"id\":\"{id}\"", StringComparison.Ordinal)) return line;
            var saved = JsonNode.Parse(line)!.AsObject();
            change(saved);
            return saved.ToJsonString();
        }));

    /// <summary>Changes the JSON that an attribute holds as a text.</summary>
    static string Inside(string built, string id, string path, Action<JsonNode> change) => Changed(built, id, saved =>
    {
        var parts = path.Split('.');
        JsonNode holder = saved["attributes"]!;
        foreach (var part in parts[..^1]) holder = holder[part]!;
        var inner = JsonNode.Parse((string)holder[parts[^1]]!)!;
        change(inner);
        holder[parts[^1]] = inner.ToJsonString();
    });

    static string Spec(string built, Action<JsonNode> change) => Inside(built, Waterfall, "visState", state =>
    {
        var spec = JsonNode.Parse((string)state["params"]!["spec"]!)!;
        change(spec);
        state["params"]!["spec"] = spec.ToJsonString();
    });
}
