using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace LogTrace.Dashboards;

/// <summary>
/// The folder <c>dashboards/</c>: one file an object, texts and colours once in <c>theme.json</c>. Makes of it the objects that are imported.
/// A source says what a reader wants to know; what the products want besides is added here.
/// </summary>
public sealed partial class DashboardSources
{
    const int Columns = 48;
    const int GuideHeight = 7;
    const string PanelVersion = "7.10.2";

    readonly string _folder;
    readonly JsonObject _theme;
    readonly JsonObject _panelTypes;
    readonly List<string> _boards;

    /// <exception cref="InvalidDataException">A file cannot be read; the message names it.</exception>
    public DashboardSources(string folder)
    {
        _folder = folder;
        _theme = Read("theme.json");
        _panelTypes = Read("panel-types.json");
        _boards = [.. _theme["boards"]!.AsArray().Select(name => name!.GetValue<string>())];
    }

    /// <summary>All objects of one file, in the order of their references: data views, searches, panels, dashboards.</summary>
    /// <exception cref="InvalidDataException">A source is wrong; the message names the file and what is wrong.</exception>
    public IReadOnlyList<JsonObject> Build(Flavour flavour)
    {
        var objects = new List<JsonObject>();
        objects.AddRange(Names("data-views").Select(DataView));
        objects.AddRange(Names("searches").Select(name => Search(name, flavour)));
        objects.AddRange(Names("panels").Select(name => Panel(name, flavour)));
        foreach (var name in _boards)
        {
            objects.Add(Guide(name));
            objects.Add(Board(name));
        }

        if (Names("boards").Except(_boards).FirstOrDefault() is { } forgotten)
            throw new InvalidDataException($"boards/{forgotten}.json is not among the boards of theme.json, so nothing would link to it.");
        Stamp(objects);
        return objects;
    }

    /// <summary>
    /// Says at the end of each dashboard's description which edition of the objects it is part of. Servers change what they import; this they keep, so that what is installed can be told current or not.
    /// </summary>
    static void Stamp(List<JsonObject> objects)
    {
        var edition = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(SavedObjectFormat.Ndjson(objects))))[..8];
        foreach (var dashboard in objects.Where(saved => saved["type"]!.GetValue<string>() == SavedObjectFormat.Dashboard))
            dashboard["attributes"]!["description"] = $"{dashboard["attributes"]!["description"]} (edition {edition})";
    }

    public static string DataViewId(string name) => $"logtrace-{name}";
    public static string SearchId(string name) => $"logtrace-search-{name}";
    public static string PanelId(string name) => $"logtrace-panel-{name}";
    public static string BoardId(string name) => $"logtrace-dash-{name}";
    public static string GuideId(string name) => $"logtrace-guide-{name}";

    JsonObject DataView(string name)
    {
        var source = Read($"data-views/{name}.json");
        var formats = new JsonObject();
        foreach (var (field, format) in source["formats"]!.AsObject()) formats[field] = format is JsonValue shared ? _theme["formats"]![shared.GetValue<string>()]!.DeepClone() : format!.DeepClone();
        var attributes = new JsonObject
        {
            ["title"] = Copy(source, "title"),
            ["timeFieldName"] = Copy(source, "timeField"),
            ["fields"] = SavedObjectFormat.Text(Fields(_theme["indices"]![source["of"]?.GetValue<string>() ?? name]!.GetValue<string>())),
            ["fieldFormatMap"] = SavedObjectFormat.Text(formats),
        };
        if (source["without"] is JsonArray without) attributes["sourceFilters"] = SavedObjectFormat.Text(new JsonArray([.. without.Select(field => (JsonNode)new JsonObject { ["value"] = field!.DeepClone() })]));
        return SavedObjectFormat.Object(SavedObjectFormat.DataView, DataViewId(name), attributes);
    }

    /// <summary>
    /// What Kibana 7.10 and OpenSearch Dashboards want to know of each field; newer ones look themselves. Left empty they would ask the indices when the first user opens a panel, and save the
    /// answer together with that user's address of Kibana in every format, so that links would lead all others there.
    /// </summary>
    JsonArray Fields(string indices)
    {
        var template = Directory.EnumerateFiles(Path.Combine(_folder, "../indexer/LogTrace.Indexer/Store"), "index-template-*.json").Order(StringComparer.Ordinal)
            .Select(file => JsonNode.Parse(File.ReadAllText(file))!).FirstOrDefault(template => template["index_patterns"]![0]!.GetValue<string>() == indices)
            ?? throw new InvalidDataException($"theme.json: no index template is for {indices}.");
        var fields = new JsonArray(
            Field("_id", "string", "_id", true, true, false), Field("_index", "string", "_index", true, true, false), Field("_score", "number", null, false, false, false),
            Field("_source", "_source", "_source", false, false, false), Field("_type", "string", "_type", true, true, false));
        foreach (var (name, field) in template["template"]!["mappings"]!["properties"]!.AsObject())
        {
            AddField(name, field!, null);
            foreach (var (sub, inner) in field!["fields"]?.AsObject() ?? []) AddField($"{name}.{sub}", inner!, name);
        }

        return fields;

        void AddField(string name, JsonNode field, string? parent)
        {
            var type = field["type"]!.GetValue<string>();
            // What is not indexed is not a field to them.
            if (type == "object") return;
            var isColumn = type != "text" && field["doc_values"]?.GetValue<bool>() != false;
            var known = type switch
            {
                "keyword" or "text" => "string",
                "date" or "date_nanos" => "date",
                "boolean" => "boolean",
                "ip" => "ip",
                "long" or "integer" or "short" or "double" or "float" or "scaled_float" => "number",
                _ => throw new InvalidDataException($"the index template of {indices}: {name} is a {type}, of which DashboardSources does not know what Kibana calls it."),
            };
            var said = Field(name, known, type, field["index"]?.GetValue<bool>() != false, isColumn, isColumn);
            if (parent is not null) said["subType"] = new JsonObject { ["multi"] = new JsonObject { ["parent"] = parent } };
            fields.Add(said);
        }

        static JsonObject Field(string name, string type, string? storeType, bool searchable, bool aggregatable, bool docValues) => new()
        {
            ["count"] = 0,
            ["name"] = name,
            ["type"] = type,
            ["esTypes"] = storeType is null ? new JsonArray() : new JsonArray(storeType),
            ["scripted"] = false,
            ["searchable"] = searchable,
            ["aggregatable"] = aggregatable,
            ["readFromDocValues"] = docValues,
        };
    }

    JsonObject Search(string name, Flavour flavour)
    {
        var source = Read($"searches/{name}.json", flavour);
        return SavedObjectFormat.Object(SavedObjectFormat.Search, SearchId(name), new JsonObject
        {
            ["title"] = Title(source),
            ["description"] = Copy(source, "description"),
            ["hits"] = 0,
            ["columns"] = Copy(source, "columns"),
            ["sort"] = Copy(source, "sort"),
            ["version"] = 1,
            ["kibanaSavedObjectMeta"] = SearchSource(source),
        }, DataViewReference(source));
    }

    JsonObject Panel(string name, Flavour flavour)
    {
        var source = Read($"panels/{name}.json", flavour);
        var title = Title(source);
        var isVega = source["vega"] is not null;
        JsonObject state;
        if (source["vega"] is { } vega)
            state = new JsonObject { ["title"] = title, ["type"] = "vega", ["params"] = new JsonObject { ["spec"] = Spec(vega.GetValue<string>(), source, flavour) }, ["aggs"] = new JsonArray() };
        else
            state = Aggregations(title, source);

        var attributes = new JsonObject
        {
            ["title"] = title,
            ["description"] = Copy(source, "description"),
            ["visState"] = SavedObjectFormat.Text(state),
            ["uiStateJSON"] = SavedObjectFormat.Text(source["uiState"] ?? new JsonObject()),
            ["version"] = 1,
            ["kibanaSavedObjectMeta"] = isVega ? NoSource() : SearchSource(source),
        };
        return SavedObjectFormat.Object(SavedObjectFormat.Visualization, PanelId(name), attributes, isVega ? [] : [DataViewReference(source)]);
    }

    /// <summary>The spec as its author wrote it, so that who opens it in the editor reads the same.</summary>
    string Spec(string file, JsonObject source, Flavour flavour)
    {
        var spec = ReadText($"vega/{file}.json");
        foreach (var (name, value) in source["values"]?.AsObject() ?? []) spec = value is JsonValue
            ? spec.Replace($"@{{{name}}}", SavedObjectFormat.Text(value).Trim('"'), StringComparison.Ordinal)
            : spec.Replace($"\"@{{{name}}}\"", SavedObjectFormat.Text(value!), StringComparison.Ordinal);
        return Filled(spec, $"vega/{file}.json", flavour);
    }

    JsonObject Aggregations(string title, JsonObject source)
    {
        var type = source["type"]!.GetValue<string>();
        if (_panelTypes[type] is not JsonObject defaults) throw new InvalidDataException($"panel '{title}' is of type {type}, which panel-types.json does not have.");
        var aggregations = new JsonArray();
        foreach (var aggregation in source["aggs"]!.AsArray())
        {
            var full = new JsonObject { ["id"] = (aggregations.Count + 1).ToString(CultureInfo.InvariantCulture), ["enabled"] = true };
            foreach (var (key, value) in aggregation!.AsObject()) full[key] = value?.DeepClone();
            aggregations.Add(full);
        }

        var parameters = defaults["params"]!.DeepClone().AsObject();
        if (defaults["series"] is JsonObject series)
        {
            // A chart draws the metrics that it has a series for.
            parameters["seriesParams"] = new JsonArray([.. aggregations.Where(aggregation => aggregation!["schema"]!.GetValue<string>() == "metric").Select(metric =>
            {
                var one = series.DeepClone().AsObject();
                one["data"] = new JsonObject { ["id"] = metric!["id"]!.DeepClone(), ["label"] = metric["params"]?["customLabel"]?.DeepClone() ?? metric["type"]!.DeepClone() };
                return (JsonNode)one;
            })]);
        }

        Merge(parameters, source["params"]?.AsObject() ?? []);
        return new JsonObject { ["title"] = title, ["type"] = type, ["params"] = parameters, ["aggs"] = aggregations };
    }

    static void Merge(JsonObject into, JsonObject from)
    {
        foreach (var (key, value) in from)
        {
            if (into[key] is JsonObject inner && value is JsonObject more) Merge(inner, more);
            else into[key] = value?.DeepClone();
        }
    }

    /// <summary>Links to all boards, this one in bold, and what this one is for.</summary>
    JsonObject Guide(string name)
    {
        var source = Read($"boards/{name}.json");
        var links = _boards.Select(board =>
        {
            var title = Read($"boards/{board}.json")["title"]!.GetValue<string>();
            return board == name ? $"**{title}**" : $"[{title}](#/view/{BoardId(board)})";
        });
        var text = $"{string.Join(" · ", links)}\n\n{source["guide"]!.GetValue<string>()}";
        var title = $"{Prefix} Guide: {source["title"]}";
        var state = new JsonObject
        {
            ["title"] = title,
            ["type"] = "markdown",
            ["params"] = new JsonObject { ["fontSize"] = 12, ["openLinksInNewTab"] = false, ["markdown"] = text },
            ["aggs"] = new JsonArray(),
        };
        return SavedObjectFormat.Object(SavedObjectFormat.Visualization, GuideId(name), new JsonObject
        {
            ["title"] = title,
            ["description"] = "What this dashboard answers, and the way to the others.",
            ["visState"] = SavedObjectFormat.Text(state),
            ["uiStateJSON"] = "{}",
            ["version"] = 1,
            ["kibanaSavedObjectMeta"] = NoSource(),
        });
    }

    JsonObject Board(string name)
    {
        var source = Read($"boards/{name}.json");
        var panels = new JsonArray();
        var references = new List<JsonObject>();
        int x = 0, y = 0, lineHeight = 0;
        Add(SavedObjectFormat.Visualization, GuideId(name), Columns, source["guideHeight"]?.GetValue<int>() ?? GuideHeight, hasTitle: false, "");
        foreach (var panel in source["panels"]!.AsArray())
        {
            var (width, height) = (panel!["width"]!.GetValue<int>(), panel["height"]!.GetValue<int>());
            if (panel["search"] is { } search) Add(SavedObjectFormat.Search, SearchId(search.GetValue<string>()), width, height, true, Unprefixed($"searches/{search}.json"));
            else Add(SavedObjectFormat.Visualization, PanelId(panel["panel"]!.GetValue<string>()), width, height, true, Unprefixed($"panels/{panel["panel"]}.json"));
        }

        var attributes = new JsonObject
        {
            ["title"] = Title(source),
            ["description"] = Copy(source, "description"),
            ["hits"] = 0,
            ["version"] = 1,
            ["panelsJSON"] = SavedObjectFormat.Text(panels),
            ["optionsJSON"] = """{"useMargins":true,"hidePanelTitles":false}""",
            ["timeRestore"] = source["time"] is not null,
            ["kibanaSavedObjectMeta"] = new JsonObject { ["searchSourceJSON"] = SavedObjectFormat.Text(new JsonObject { ["query"] = Query(source), ["filter"] = new JsonArray() }) },
        };
        if (source["time"] is { } from)
        {
            attributes["timeFrom"] = from.GetValue<string>();
            attributes["timeTo"] = "now";
        }

        return SavedObjectFormat.Object(SavedObjectFormat.Dashboard, BoardId(name), attributes, references);

        void Add(string type, string id, int width, int height, bool hasTitle, string title)
        {
            if (x + width > Columns) (x, y, lineHeight) = (0, y + lineHeight, 0);
            var number = panels.Count.ToString(CultureInfo.InvariantCulture);
            panels.Add(new JsonObject
            {
                ["version"] = PanelVersion,
                ["type"] = type,
                ["gridData"] = new JsonObject { ["x"] = x, ["y"] = y, ["w"] = width, ["h"] = height, ["i"] = number },
                ["panelIndex"] = number,
                ["embeddableConfig"] = hasTitle ? new JsonObject { ["title"] = title } : new JsonObject { ["hidePanelTitles"] = true },
                ["panelRefName"] = $"panel_{number}",
            });
            references.Add(SavedObjectFormat.Reference($"panel_{number}", type, id));
            x += width;
            lineHeight = Math.Max(lineHeight, height);
        }
    }

    string Prefix => _theme["prefix"]!.GetValue<string>();

    string Title(JsonObject source) => $"{Prefix} {source["title"]!.GetValue<string>()}";

    string Unprefixed(string file) => Read(file)["title"]!.GetValue<string>();

    static JsonNode? Copy(JsonObject source, string key) => source[key]?.DeepClone();

    static JsonObject Query(JsonObject source) => new() { ["query"] = source["query"]?.GetValue<string>() ?? "", ["language"] = "kuery" };

    static JsonObject SearchSource(JsonObject source) => new()
    {
        [SavedObjectFormat.SearchSource] = SavedObjectFormat.Text(new JsonObject { ["query"] = Query(source), ["filter"] = new JsonArray(), ["indexRefName"] = SavedObjectFormat.DataViewReference }),
    };

    static JsonObject NoSource() => new() { [SavedObjectFormat.SearchSource] = """{"query":{"query":"","language":"kuery"},"filter":[]}""" };

    static JsonObject DataViewReference(JsonObject source) =>
        SavedObjectFormat.Reference(SavedObjectFormat.DataViewReference, SavedObjectFormat.DataView, DataViewId(source["dataView"]!.GetValue<string>()));

    IEnumerable<string> Names(string kind) =>
        Directory.EnumerateFiles(Path.Combine(_folder, kind), "*.json").Select(file => Path.GetFileNameWithoutExtension(file)).Order(StringComparer.Ordinal);

    JsonObject Read(string file, Flavour flavour = Flavour.Kibana)
    {
        var text = ReadText(file);
        if (_theme is not null) text = Filled(text, file, flavour);
        try
        {
            return JsonNode.Parse(text)!.AsObject();
        }
        catch (Exception wrong) when (wrong is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"{file} is not a JSON object: {wrong.Message}", wrong);
        }
    }

    string ReadText(string file) => File.ReadAllText(Path.Combine(_folder, file)).Replace("\r\n", "\n", StringComparison.Ordinal).TrimEnd('\n');

    /// <summary><c>@{colours.error}</c> is that member of theme.json; <c>@{addFilter}</c> is the product's function.</summary>
    string Filled(string text, string file, Flavour flavour) => Token().Replace(text, token =>
    {
        var name = token.Groups[1].Value;
        if (name == "addFilter") return SavedObjectFormat.AddFilter(flavour);
        JsonNode? value = _theme;
        foreach (var part in name.Split('.')) value = (value as JsonObject)?[part];
        return value is JsonValue text
            ? SavedObjectFormat.Text(text).Trim('"')
            : throw new InvalidDataException($"{file} has {token.Value}, which theme.json does not have as a text or number.");
    });

    [GeneratedRegex(@"@\{([a-zA-Z0-9.]+)\}")]
    private static partial Regex Token();
}
