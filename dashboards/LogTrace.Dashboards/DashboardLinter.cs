using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace LogTrace.Dashboards;

/// <summary>What is wrong with an object.</summary>
/// <param name="Rule">Short name of the rule.</param>
/// <param name="Where">Line or id of the object.</param>
/// <param name="What">What is wrong, and what would be right.</param>
public sealed record LintProblem(string Rule, string Where, string What)
{
    public override string ToString() => $"{Where}: {What} [{Rule}]";
}

/// <summary>
/// Finds in a built file what a server would refuse or what a panel would fail of: the products import broken content without a word and show it as an error later.
/// </summary>
public sealed partial class DashboardLinter
{
    const int Columns = 48;

    static readonly string[] Keys = ["id", "type", "attributes", "references", "migrationVersion"];

    /// <summary>Chart types that Kibana 7.10 to 9 and OpenSearch Dashboards all draw without a licence.</summary>
    static readonly string[] ChartTypes = ["markdown", "table", "metric", "histogram", "line", "area", "pie", "horizontal_bar", "vega"];

    static readonly string[] Numbers = ["long", "integer", "short", "byte", "double", "float"];

    /// <summary>Types of field that an aggregation takes.</summary>
    static readonly Dictionary<string, string[]> FitFor = new()
    {
        ["terms"] = ["keyword", "ip", "boolean", .. Numbers],
        ["cardinality"] = ["keyword", "ip", "boolean", "date", .. Numbers],
        ["value_count"] = ["keyword", "ip", "boolean", "date", .. Numbers],
        ["top_hits"] = ["keyword", "text", "ip", "boolean", "date", .. Numbers],
        ["avg"] = Numbers,
        ["sum"] = Numbers,
        ["percentiles"] = Numbers,
        ["min"] = ["date", .. Numbers],
        ["max"] = ["date", .. Numbers],
        ["date_histogram"] = ["date"],
        ["auto_date_histogram"] = ["date"],
    };

    readonly IReadOnlyDictionary<string, IReadOnlyDictionary<string, string>> _indices;

    /// <param name="indices">For each index pattern its fields and their types.</param>
    public DashboardLinter(IReadOnlyDictionary<string, IReadOnlyDictionary<string, string>> indices) => _indices = indices;

    /// <summary>A linter that knows the fields of the index templates in a folder.</summary>
    public static DashboardLinter OfTemplates(string folder)
    {
        var indices = new Dictionary<string, IReadOnlyDictionary<string, string>>();
        foreach (var file in Directory.EnumerateFiles(folder, "index-template-*.json"))
        {
            var template = JsonNode.Parse(File.ReadAllText(file))!;
            var fields = new Dictionary<string, string> { ["_id"] = "keyword", ["_index"] = "keyword", ["_source"] = "object" };
            foreach (var (name, field) in template["template"]!["mappings"]!["properties"]!.AsObject())
            {
                fields[name] = field!["type"]!.GetValue<string>();
                foreach (var (sub, inner) in field["fields"]?.AsObject() ?? []) fields[$"{name}.{sub}"] = inner!["type"]!.GetValue<string>();
            }

            indices[template["index_patterns"]![0]!.GetValue<string>()] = fields;
        }

        return new DashboardLinter(indices);
    }

    /// <summary>All that is wrong with a built file; empty when nothing is.</summary>
    public IReadOnlyList<LintProblem> Check(string ndjson, Flavour flavour) => new Run(_indices, flavour).Check(ndjson);

    sealed class Run(IReadOnlyDictionary<string, IReadOnlyDictionary<string, string>> indices, Flavour flavour)
    {
        readonly List<LintProblem> _problems = [];
        readonly Dictionary<string, JsonObject> _objects = [];
        readonly HashSet<string> _dataViewTitles = [];
        string _where = "";

        void Problem(string rule, string what) => _problems.Add(new LintProblem(rule, _where, what));

        public List<LintProblem> Check(string ndjson)
        {
            var number = 0;
            foreach (var line in ndjson.Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                _where = $"line {++number}";
                if (TryParse(line) is not JsonObject saved) Problem("line", "it is not a JSON object");
                else if (saved["id"] is not JsonValue id || saved["type"] is not JsonValue || saved["attributes"] is not JsonObject || saved["references"] is not JsonArray) Problem("line", "it lacks id, type, attributes or references");
                else if (!_objects.TryAdd(id.GetValue<string>(), saved)) Problem("unique id", $"the id {id} is there twice; an import refuses the whole file");
            }

            foreach (var view in Of(SavedObjectFormat.DataView)) _dataViewTitles.Add(view["attributes"]!["title"]?.GetValue<string>() ?? "");
            foreach (var (id, saved) in _objects)
            {
                _where = id;
                CheckEnvelope(id, saved);
                CheckEmbedded(saved);
            }

            return _problems;
        }

        IEnumerable<JsonObject> Of(string type) => _objects.Values.Where(saved => saved["type"]!.GetValue<string>() == type);

        void CheckEnvelope(string id, JsonObject saved)
        {
            foreach (var (key, _) in saved)
                if (!Keys.Contains(key)) Problem("keys", $"'{key}' does not belong into the file");
            if (!Id().IsMatch(id)) Problem("id", "an id is logtrace- and then small letters, digits and hyphens, so that it reads the same in links");
            var type = saved["type"]!.GetValue<string>();
            if (!SavedObjectFormat.Versions.TryGetValue(type, out var version))
            {
                Problem("type", $"not every product has the type {type}");
                return;
            }

            if (saved["migrationVersion"] is not JsonObject { Count: 1 } written || written[type]?.GetValue<string>() != version)
                Problem("version", $"migrationVersion must be {type} {version}: servers refuse a file with a version newer than theirs, and migrate one without from the beginning");
            foreach (var (key, _) in saved["attributes"]!.AsObject())
                if (!SavedObjectFormat.Attributes[type].Contains(key)) Problem("attributes", $"a {type} has no attribute '{key}' on every server");
            if (type != SavedObjectFormat.DataView && string.IsNullOrWhiteSpace(saved["attributes"]!["description"]?.GetValue<string>())) Problem("description", "it says nowhere what it is for");
            CheckReferences(saved);
        }

        void CheckReferences(JsonObject saved)
        {
            var references = saved["references"]!.AsArray().Select(reference => (Name: (string)reference!["name"]!, Type: (string)reference["type"]!, Id: (string)reference["id"]!)).ToList();
            var used = Texts(saved["attributes"]!).Where(text => text.Key.EndsWith("RefName", StringComparison.Ordinal)).Select(text => text.Value).ToList();
            foreach (var name in used.Where(name => references.Count(reference => reference.Name == name) != 1)) Problem("reference name", $"'{name}' must have exactly one reference");
            foreach (var reference in references)
            {
                if (!used.Contains(reference.Name)) Problem("unused reference", $"nothing uses the reference '{reference.Name}'");
                if (!_objects.TryGetValue(reference.Id, out var target) || target["type"]!.GetValue<string>() != reference.Type) Problem("reference", $"there is no {reference.Type} {reference.Id} in the file");
            }
        }

        /// <summary>All texts of an object, those within its JSON texts included.</summary>
        static IEnumerable<(string Key, string Value)> Texts(JsonNode node, string key = "")
        {
            switch (node)
            {
                case JsonObject members:
                    foreach (var (name, member) in members)
                        foreach (var text in member is null ? [] : Texts(member, name)) yield return text;
                    break;
                case JsonArray items:
                    foreach (var item in items)
                        foreach (var text in item is null ? [] : Texts(item, key)) yield return text;
                    break;
                case JsonValue value when value.TryGetValue<string>(out var written):
                    yield return (key, written);
                    if (IsEmbedded(key) && TryParse(written) is { } inner)
                        foreach (var text in Texts(inner, key)) yield return text;
                    break;
            }
        }

        static bool IsEmbedded(string key) => key.EndsWith("JSON", StringComparison.Ordinal) || key is "visState" or "fieldFormatMap" or "fields";

        void CheckEmbedded(JsonObject saved)
        {
            var attributes = saved["attributes"]!.AsObject();
            foreach (var (key, value) in Texts(attributes))
                if (IsEmbedded(key) && TryParse(value) is null) Problem("embedded JSON", $"{key} is not JSON");
            foreach (var (_, value) in Texts(attributes))
                foreach (Match link in DashboardLink().Matches(value))
                    if (!_objects.TryGetValue(link.Groups[1].Value, out var target) || target["type"]!.GetValue<string>() != SavedObjectFormat.Dashboard)
                        Problem("link", $"it links to {link.Groups[1].Value}, which is no dashboard of the file");

            switch (saved["type"]!.GetValue<string>())
            {
                case SavedObjectFormat.DataView: CheckDataView(attributes); break;
                case SavedObjectFormat.Search: CheckSearch(saved, attributes); break;
                case SavedObjectFormat.Visualization: CheckVisualization(saved, attributes); break;
                case SavedObjectFormat.Dashboard: CheckDashboard(attributes); break;
            }
        }

        void CheckDataView(JsonObject attributes)
        {
            var title = attributes["title"]?.GetValue<string>() ?? "";
            if (TemplateOf(title) is not { } fields)
            {
                Problem("index", $"no index template is for '{title}'");
                return;
            }

            CheckField(fields, attributes["timeFieldName"]?.GetValue<string>() ?? "", "date_histogram");
            foreach (var (field, _) in TryParse(attributes["fieldFormatMap"]?.GetValue<string>() ?? "") as JsonObject ?? []) CheckField(fields, field);
            foreach (var filter in TryParse(attributes["sourceFilters"]?.GetValue<string>() ?? "[]") as JsonArray ?? []) CheckField(fields, (string?)filter!["value"] ?? "");
        }

        /// <summary>Two data views may be of the same indices with other formats, but not of the same title: logtrace-chains* is also of logtrace-chains-*.</summary>
        IReadOnlyDictionary<string, string>? TemplateOf(string title) => indices.TryGetValue(title, out var fields) || indices.TryGetValue(title.TrimEnd('*') + "-*", out fields) ? fields : null;

        IReadOnlyDictionary<string, string>? FieldsOf(JsonObject saved)
        {
            var view = saved["references"]!.AsArray().FirstOrDefault(reference => (string)reference!["type"]! == SavedObjectFormat.DataView);
            return view is not null && _objects.TryGetValue((string)view["id"]!, out var target) && (string?)target["attributes"]!["title"] is { } title ? TemplateOf(title) : null;
        }

        void CheckSearch(JsonObject saved, JsonObject attributes)
        {
            if (attributes["columns"] is not JsonArray { Count: > 0 } columns)
            {
                Problem("columns", "a search without columns fails when it is opened");
                return;
            }

            if (FieldsOf(saved) is not { } fields) return;
            foreach (var column in columns) CheckField(fields, (string)column!);
            foreach (var sort in attributes["sort"]?.AsArray() ?? [])
            {
                var field = (string)sort![0]!;
                CheckField(fields, field);
                if (fields.GetValueOrDefault(field) == "text") Problem("field type", $"{field} is text, which cannot be sorted");
            }

            CheckQuery(fields, attributes);
        }

        void CheckQuery(IReadOnlyDictionary<string, string>? fields, JsonObject attributes)
        {
            if (TryParse(attributes["kibanaSavedObjectMeta"]?[SavedObjectFormat.SearchSource]?.GetValue<string>() ?? "")?["query"] is not JsonObject query)
            {
                Problem("query", "it has no query");
                return;
            }

            try
            {
                var kql = Kql.Parse((string)query["query"]!);
                foreach (var field in fields is null ? [] : kql.Fields) CheckField(fields!, field);
            }
            catch (FormatException wrong)
            {
                Problem("query", wrong.Message);
            }
        }

        void CheckVisualization(JsonObject saved, JsonObject attributes)
        {
            if (TryParse(attributes["visState"]?.GetValue<string>() ?? "") is not JsonObject state)
            {
                Problem("embedded JSON", "visState is not a JSON object");
                return;
            }

            var type = (string?)state["type"] ?? "";
            if (!ChartTypes.Contains(type)) Problem("chart type", $"not every product draws a {type}");
            if (type == "vega")
            {
                CheckVega((string?)state["params"]?["spec"] ?? "");
                return;
            }

            CheckQuery(FieldsOf(saved), attributes);
            var aggregations = state["aggs"]?.AsArray().Select(aggregation => aggregation!.AsObject()).ToList() ?? [];
            if (aggregations.Count > 0 && FieldsOf(saved) is null) Problem("reference", "it aggregates and has no data view");
            var ids = aggregations.Select(aggregation => (string?)aggregation["id"] ?? "").ToList();
            if (ids.Distinct().Count() != ids.Count) Problem("aggregation", "two aggregations have one id");
            foreach (var aggregation in aggregations)
            {
                var parameters = aggregation["params"] as JsonObject ?? [];
                if ((string?)parameters["field"] is { } field && FieldsOf(saved) is { } fields) CheckField(fields, field, (string)aggregation["type"]!);
                if ((string?)parameters["orderBy"] is { } order && order != "_key" && !ids.Contains(order.Split('.')[0])) Problem("aggregation", $"it orders by aggregation {order}, which is not there");
            }
        }

        void CheckVega(string text)
        {
            if (TryParse(text) is not JsonObject spec)
            {
                Problem("embedded JSON", "the Vega spec is not a JSON object");
                return;
            }

            if ((string?)spec["$schema"] != "https://vega.github.io/schema/vega/v5.json") Problem("vega schema", "a spec of another schema than https://vega.github.io/schema/vega/v5.json is not drawn everywhere");
            foreach (var other in Enum.GetValues<Flavour>().Where(other => other != flavour).Select(SavedObjectFormat.AddFilter))
                if (text.Contains(other, StringComparison.Ordinal)) Problem("vega function", $"{other} is a function of the other product; here it blanks the panel");
            foreach (Match call in FilterFunction().Matches(text))
                if (call.Value != SavedObjectFormat.AddFilter(flavour) && !Enum.GetValues<Flavour>().Select(SavedObjectFormat.AddFilter).Contains(call.Value)) Problem("vega function", $"{call.Value} is not a function that panels may call");
            foreach (Match index in FilterIndex().Matches(text))
                if (!_dataViewTitles.Contains(index.Groups[1].Value)) Problem("vega index", $"a filter is for '{index.Groups[1].Value}', which is no data view's title");
            foreach (Match field in FilterField().Matches(text))
                if (indices.Values.All(fields => !fields.ContainsKey(field.Groups[1].Value))) Problem("field", $"a filter asks for {field.Groups[1].Value}, which no index has");

            var names = new HashSet<string>();
            foreach (var data in spec["data"]?.AsArray() ?? [])
            {
                names.Add((string?)data!["name"] ?? "");
                if (data["url"] is JsonValue) Problem("vega url", $"the data {data["name"]} is loaded from outside, which servers forbid by default");
                if (data["url"] is JsonObject url) CheckVegaSearch(url);
            }

            foreach (var mark in Marks(spec))
                if ((string?)mark["name"] is { } name && names.Contains(name)) Problem("vega name", $"a mark and a data set are both called {name}, which Vega refuses");
        }

        static IEnumerable<JsonObject> Marks(JsonObject group) =>
            (group["marks"]?.AsArray() ?? []).Select(mark => mark!.AsObject()).SelectMany(mark => Marks(mark).Prepend(mark));

        void CheckVegaSearch(JsonObject url)
        {
            var index = (string?)url["index"] ?? "";
            if (!indices.TryGetValue(index, out var fields))
            {
                Problem("vega index", $"no index template is for '{index}'");
                return;
            }

            var hasContext = url["%context%"] is not null || url["%timefield%"] is not null;
            if (hasContext && url["body"]?["query"] is not null) Problem("vega query", "%context% and %timefield% make the query; a body.query beside them is refused");
            if (!hasContext && url["body"]?.ToJsonString().Contains("%dashboard_context-", StringComparison.Ordinal) != true) Problem("vega query", "it neither has %context% nor the dashboard's clauses in its query: filters would not reach it");
            if (url["body"] is { } body) CheckBody(body, fields);
        }

        void CheckBody(JsonNode node, IReadOnlyDictionary<string, string> fields, string parent = "")
        {
            if (node is JsonArray items)
            {
                foreach (var item in items.OfType<JsonNode>()) CheckBody(item, fields, parent);
                return;
            }

            if (node is not JsonObject members) return;
            if (members["field"] is JsonValue field) CheckField(fields, (string)field!, parent);
            foreach (var (name, member) in members)
            {
                if (parent is "term" or "terms" or "range" or "match" or "match_phrase" && member is not JsonValue && name != "order") CheckField(fields, name);
                else if (parent is "term" or "match" or "match_phrase" or "sort") CheckField(fields, name);
                if (member is not null) CheckBody(member, fields, name);
            }
        }

        void CheckField(IReadOnlyDictionary<string, string> fields, string field, string? aggregation = null)
        {
            if (!fields.TryGetValue(field, out var type)) Problem("field", $"the index has no field {field}");
            else if (aggregation is not null && FitFor.TryGetValue(aggregation, out var fit) && !fit.Contains(type)) Problem("field type", $"{field} is {type}, of which there is no {aggregation}");
        }

        void CheckDashboard(JsonObject attributes)
        {
            var panels = (TryParse(attributes["panelsJSON"]?.GetValue<string>() ?? "") as JsonArray ?? []).Select(panel => panel!.AsObject()).ToList();
            if (panels.Count == 0) Problem("panels", "it has no panels");
            var places = new List<(int X, int Y, int Width, int Height, string Name)>();
            foreach (var panel in panels)
            {
                var name = $"panel {panel["panelIndex"]}";
                if (panel["embeddableConfig"] is not JsonObject) Problem("panels", $"{name} has no embeddableConfig, without which newer servers cannot read it");
                if (panel["gridData"] is not JsonObject grid)
                {
                    Problem("panels", $"{name} has no place");
                    continue;
                }

                var place = (X: (int)grid["x"]!, Y: (int)grid["y"]!, Width: (int)grid["w"]!, Height: (int)grid["h"]!, Name: name);
                if (place.X < 0 || place.Y < 0 || place.Width < 1 || place.Height < 1 || place.X + place.Width > Columns) Problem("panel width", string.Create(CultureInfo.InvariantCulture, $"{name} does not fit into {Columns} columns"));
                foreach (var other in places.Where(other => place.X < other.X + other.Width && other.X < place.X + place.Width && place.Y < other.Y + other.Height && other.Y < place.Y + place.Height))
                    Problem("panel overlap", $"{name} lies over {other.Name}");
                places.Add(place);
            }

            if ((bool?)attributes["timeRestore"] == true && (attributes["timeFrom"] is null || attributes["timeTo"] is null)) Problem("time", "it restores a time range and has none");
        }

        static JsonNode? TryParse(string text)
        {
            try
            {
                return JsonNode.Parse(text);
            }
            catch (JsonException)
            {
                return null;
            }
        }
    }

    [GeneratedRegex("^logtrace-[a-z0-9-]+$")]
    private static partial Regex Id();

    [GeneratedRegex(@"#/view/([A-Za-z0-9_-]+)")]
    private static partial Regex DashboardLink();

    [GeneratedRegex(@"\b(?:kibana|opensearchDashboards)[A-Z]\w*(?=\()")]
    private static partial Regex FilterFunction();

    [GeneratedRegex(@"AddFilter\((?:[^']|'(?!,'))*?\},'([^']+)'")]
    private static partial Regex FilterIndex();

    [GeneratedRegex(@"\b(?:term|match_phrase):\{(\w+):")]
    private static partial Regex FilterField();
}
