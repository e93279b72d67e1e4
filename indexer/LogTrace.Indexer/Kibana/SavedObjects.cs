using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace LogTrace.Indexer.Kibana;

/// <summary>
/// A file of saved objects, one JSON object a line, as it is to be installed at one place: for indices with another prefix and for further spaces the ids and
/// index names in it are others. Knows whether what a server has is what the file says.
/// </summary>
sealed class SavedObjects
{
    static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    readonly JsonObject[] _objects;

    SavedObjects(JsonObject[] objects) => _objects = objects;

    public int Count => _objects.Length;

    public IEnumerable<(string Type, string Id)> Keys => _objects.Select(KeyOf);

    /// <param name="text">The file's content.</param>
    /// <param name="indexPrefix">What the names of the indices start with, <see cref="Store.ElasticsearchOptions.IndexPrefix"/>.</param>
    /// <param name="space">The space they are for if ids must not be the same as in other spaces (Kibana 8 would give them new ones, and links would go astray), else null.</param>
    /// <exception cref="InvalidDataException">It is no file of saved objects; the message names the line.</exception>
    public static SavedObjects Parse(string text, string indexPrefix = "logtrace", string? space = null)
    {
        var objects = new List<JsonObject>();
        foreach (var (index, line) in text.Split('\n').Index())
        {
            if (string.IsNullOrWhiteSpace(line)) continue;
            objects.Add(ParseLine(line, index + 1));
        }

        // The last line of a server's own export counts the others.
        objects.RemoveAll(it => it.ContainsKey("exportedCount"));
        foreach (var it in objects)
        {
            if (it["id"] is not JsonValue id || it["type"] is not JsonValue type || !id.TryGetValue<string>(out _) || !type.TryGetValue<string>(out _) || it["attributes"] is not JsonObject)
                throw new InvalidDataException("is no file of saved objects: each line must be a JSON object with id, type and attributes, as an export of Kibana writes it");
        }

        if (objects.Count == 0) throw new InvalidDataException("has no saved objects");
        if (objects.GroupBy(KeyOf).FirstOrDefault(same => same.Count() > 1) is { } twice) throw new InvalidDataException($"has {twice.Key.Type} {twice.Key.Id} twice, which no server takes");
        var suffix = (indexPrefix == "logtrace" ? "" : "-" + indexPrefix) + (space is null ? "" : "-" + space.ToLowerInvariant());
        return new SavedObjects(suffix.Length == 0 ? [.. objects] : Moved(objects, indexPrefix, suffix));
    }

    static JsonObject ParseLine(string line, int number)
    {
        try
        {
            return JsonNode.Parse(line)?.AsObject() ?? throw new InvalidDataException($"line {number} is null");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InvalidDataException($"line {number} is no JSON object: {e.Message}", e);
        }
    }

    /// <summary>Ids stand not only in id and references but in links inside texts, so every text is looked through.</summary>
    static JsonObject[] Moved(List<JsonObject> objects, string indexPrefix, string suffix)
    {
        var ids = objects.Select(it => it["id"]!.GetValue<string>()).Distinct().OrderByDescending(id => id.Length).Select(Regex.Escape);
        var names = new Regex($"(?<id>{string.Join('|', ids)})(?![A-Za-z0-9_-])|logtrace(?=-(?:records|chains|calls)-)", RegexOptions.CultureInvariant);
        return [.. objects.Select(it => Changed(it).AsObject())];

        JsonNode Changed(JsonNode node) => node switch
        {
            JsonObject members => new JsonObject(members.Select(member => KeyValuePair.Create(member.Key, member.Value is null ? null : Changed(member.Value)))),
            JsonArray items => new JsonArray([.. items.Select(item => item is null ? null : Changed(item))]),
            JsonValue value when value.TryGetValue<string>(out var text) => JsonValue.Create(names.Replace(text, name => name.Groups["id"].Success ? name.Value + suffix : indexPrefix)),
            _ => node.DeepClone(),
        };
    }

    /// <summary>The file as it is sent.</summary>
    public byte[] ToBytes() => Encoding.UTF8.GetBytes(string.Concat(_objects.Select(it => it.ToJsonString(Plain) + "\n")));

    /// <summary>Which objects a server does not have as the file has them, and how they differ; empty when nothing has to be done.</summary>
    /// <param name="found">What the server exports.</param>
    public IReadOnlyList<SavedObjectDifference> Differences(IReadOnlyList<JsonObject> found)
    {
        var there = found.ToDictionary(KeyOf);
        return
        [
            .. _objects.Select(it => (Key: KeyOf(it), Difference: there.TryGetValue(KeyOf(it), out var other) ? Difference(it, other) : "not there"))
                .Where(it => it.Difference is not null)
                .Select(it => new SavedObjectDifference(it.Key.Type, it.Key.Id, there.ContainsKey(it.Key), it.Difference!)),
        ];
    }

    static string? Difference(JsonObject ours, JsonObject theirs)
    {
        var type = KeyOf(ours).Type;
        var isMigrated = false;
        if (VersionOf(ours, type) is { } due && VersionOf(theirs, type) is { } has && due != has)
        {
            isMigrated = has > due;
            if (!isMigrated) return $"it is of version {has}, and {due} is due";
        }

        var wanted = ours["attributes"]!.AsObject();
        var there = theirs["attributes"] as JsonObject ?? [];
        foreach (var (name, value) in wanted)
        {
            // A newer server writes some members in its own way. Its data views keep a list of fields that it fills by itself.
            if (type == "index-pattern" && name == "fields") continue;
            if (type == "index-pattern" && name == "fieldFormatMap" ? !IsSameFormats(value, there[name]) : isMigrated ? !IsKept(type, name, value, there[name], there) : !IsSame(value, there[name])) return $"{name} is another";
        }

        if (isMigrated) return null;
        if (type != "index-pattern" && there.FirstOrDefault(member => !wanted.ContainsKey(member.Key)) is { Key: { } more }) return $"{more} was added";
        return References(ours).SetEquals(References(theirs)) ? null : "it refers to other objects";
    }

    /// <summary>What no server changes when it brings an object to its own version. The edition in the descriptions of dashboards speaks for the rest.</summary>
    static bool IsKept(string type, string name, JsonNode? ours, JsonNode? theirs, JsonObject there) => (type, name) switch
    {
        (_, "title" or "description") => IsSame(ours, theirs),
        ("index-pattern", "timeFieldName") => IsSame(ours, theirs),
        ("search", "columns") when there.ContainsKey("columns") => IsSame(ours, theirs),
        ("visualization", "visState") => Inside(ours) is { } our && Inside(theirs) is { } their && IsSame(our["type"], their["type"])
            && new[] { "spec", "markdown" }.All(text => our["params"]?[text] is not { } wanted || IsSame(wanted, their["params"]?[text])),
        _ => true,
    };

    /// <summary>Kibana 7.10 saves a data view again when it first asks for its fields, and then leaves out of the formats what is its default and puts the address in by which it was opened.</summary>
    static bool IsSameFormats(JsonNode? ours, JsonNode? theirs) =>
        Inside(ours) is JsonObject wanted && Inside(theirs) is JsonObject there && wanted.Count == there.Count && wanted.All(format =>
            there[format.Key] is { } other && IsSame(format.Value?["id"], other["id"])
            && format.Value?["params"] is var our && other["params"] is var their
            && (our as JsonObject ?? []).All(parameter => their?[parameter.Key] is not { } set || IsSame(parameter.Value, set))
            && (their as JsonObject ?? []).All(parameter => parameter.Key == "parsedUrl" || our?[parameter.Key] is not null));

    /// <summary>Texts that hold JSON are compared by what they hold.</summary>
    static bool IsSame(JsonNode? one, JsonNode? other)
    {
        if (JsonNode.DeepEquals(one, other)) return true;
        if (one is JsonObject a && other is JsonObject b) return a.Count == b.Count && a.All(member => b.ContainsKey(member.Key) && IsSame(member.Value, b[member.Key]));
        return Inside(one) is { } inOne && Inside(other) is { } inOther && JsonNode.DeepEquals(inOne, inOther);
    }

    static JsonNode? Inside(JsonNode? text)
    {
        if (text is not JsonValue value || !value.TryGetValue<string>(out var json) || json.Length == 0 || json[0] is not ('{' or '[')) return null;
        try
        {
            return JsonNode.Parse(json);
        }
        catch (JsonException)
        {
            return null; // a text that only begins like JSON
        }
    }

    static HashSet<string> References(JsonObject it) =>
        [.. (it["references"] as JsonArray ?? []).Select(reference => $"{reference?["name"]} {reference?["type"]} {reference?["id"]}")];

    // 7.x and OpenSearch Dashboards write the first form, Kibana from 8.8 on the second.
    static Version? VersionOf(JsonObject it, string type) => Version.TryParse((it["migrationVersion"]?[type] ?? it["typeMigrationVersion"])?.ToString(), out var version) ? version : null;

    static (string Type, string Id) KeyOf(JsonObject it) => (it["type"]!.GetValue<string>(), it["id"]!.GetValue<string>());
}

/// <summary>An object that a server has not as the file says.</summary>
/// <param name="IsThere">It has one with this id.</param>
/// <param name="Reason">How it differs.</param>
sealed record SavedObjectDifference(string Type, string Id, bool IsThere, string Reason);
