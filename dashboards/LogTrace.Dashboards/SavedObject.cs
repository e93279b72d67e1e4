using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LogTrace.Dashboards;

/// <summary>Which product a file is for: they differ in the names of the filter functions that Vega specs call, and in nothing else.</summary>
public enum Flavour
{
    Kibana,
    OpenSearch,
}

/// <summary>What saved objects look like on every Kibana from 7.10 and every OpenSearch Dashboards: newer servers migrate these versions, older ones know no higher.</summary>
public static class SavedObjectFormat
{
    public const string DataView = "index-pattern";
    public const string Search = "search";
    public const string Visualization = "visualization";
    public const string Dashboard = "dashboard";

    /// <summary>The version that each type is written at, see dashboards/README.md.</summary>
    public static IReadOnlyDictionary<string, string> Versions { get; } = new Dictionary<string, string>
    {
        [DataView] = "7.6.0",
        [Search] = "7.9.3",
        [Visualization] = "7.10.0",
        [Dashboard] = "7.9.3",
    };

    /// <summary>Attributes that the strictest server takes; any other is refused there.</summary>
    public static IReadOnlyDictionary<string, string[]> Attributes { get; } = new Dictionary<string, string[]>
    {
        [DataView] = ["title", "timeFieldName", "fields", "fieldFormatMap", "sourceFilters"],
        [Search] = ["title", "description", "hits", "columns", "sort", "version", "kibanaSavedObjectMeta"],
        [Visualization] = ["title", "description", "visState", "uiStateJSON", "version", "savedSearchRefName", "kibanaSavedObjectMeta"],
        [Dashboard] = ["title", "description", "hits", "version", "panelsJSON", "optionsJSON", "timeRestore", "timeFrom", "timeTo", "refreshInterval", "kibanaSavedObjectMeta"],
    };

    public static string AddFilter(Flavour flavour) => flavour == Flavour.Kibana ? "kibanaAddFilter" : "opensearchDashboardsAddFilter";

    public const string SearchSource = "searchSourceJSON";
    public const string DataViewReference = "kibanaSavedObjectMeta.searchSourceJSON.index";

    // Readable in the file and in a diff; it is data for an importer and never put into a page.
    internal static readonly JsonSerializerOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static string Text(JsonNode node) => node.ToJsonString(Json);

    public static JsonObject Reference(string name, string type, string id) => new() { ["name"] = name, ["type"] = type, ["id"] = id };

    public static JsonObject Object(string type, string id, JsonObject attributes, params IEnumerable<JsonObject> references) => new()
    {
        ["id"] = id,
        ["type"] = type,
        ["attributes"] = attributes,
        ["references"] = new JsonArray([.. references]),
        ["migrationVersion"] = new JsonObject { [type] = Versions[type] },
    };

    /// <summary>One object a line, as both products import and export them.</summary>
    public static string Ndjson(IEnumerable<JsonObject> objects)
    {
        var lines = new StringBuilder();
        foreach (var saved in objects) lines.Append(Text(saved)).Append('\n');
        return lines.ToString();
    }
}
