using System.Text;
using System.Text.Json.Nodes;
using CsCheck;
using LogTrace.Indexer.Kibana;

namespace LogTrace.Tests.Indexer;

/// <summary>What is installed is compared with the file, and the file is made fit for other places.</summary>
public sealed class SavedObjectsTests
{
    /// <summary>A data view, two visualizations, a search and a dashboard, at the versions that all servers take.</summary>
    internal const string Some = """
        {"id":"logtrace-view","type":"index-pattern","attributes":{"title":"logtrace-records-*","timeFieldName":"@timestamp","fields":"[]","fieldFormatMap":"{\"trace_id\":{\"id\":\"url\",\"params\":{\"urlTemplate\":\"dashboards#/view/logtrace-dash?_a=(query:'trace_id:%22{{value}}%22',index:%22logtrace-view%22)\",\"openLinkInCurrentTab\":true}}}"},"references":[],"migrationVersion":{"index-pattern":"7.6.0"}}
        {"id":"logtrace-guide","type":"visualization","attributes":{"title":"Guide","description":"","visState":"{\"type\":\"markdown\",\"params\":{\"markdown\":\"all\\nlogtrace-dash [here](#/view/logtrace-dash), not logtrace-dash-board\"},\"aggs\":[]}","uiStateJSON":"{}","version":1,"kibanaSavedObjectMeta":{"searchSourceJSON":"{}"}},"references":[],"migrationVersion":{"visualization":"7.10.0"}}
        {"id":"logtrace-graph","type":"visualization","attributes":{"title":"Graph","description":"","visState":"{\"type\":\"vega\",\"params\":{\"spec\":\"{ data: {url: {index: 'logtrace-calls-*'}} }\"},\"aggs\":[]}","uiStateJSON":"{}","version":1,"kibanaSavedObjectMeta":{"searchSourceJSON":"{}"}},"references":[],"migrationVersion":{"visualization":"7.10.0"}}
        {"id":"logtrace-search","type":"search","attributes":{"title":"Records","description":"","hits":0,"columns":["name","msg"],"sort":[["@timestamp","desc"]],"version":1,"kibanaSavedObjectMeta":{"searchSourceJSON":"{\"indexRefName\":\"kibanaSavedObjectMeta.searchSourceJSON.index\"}"}},"references":[{"name":"kibanaSavedObjectMeta.searchSourceJSON.index","type":"index-pattern","id":"logtrace-view"}],"migrationVersion":{"search":"7.9.3"}}
        {"id":"logtrace-dash","type":"dashboard","attributes":{"title":"Board","description":"All of it (edition 0123abcd)","hits":0,"version":1,"panelsJSON":"[{\"panelIndex\":\"1\",\"panelRefName\":\"panel_0\"}]","optionsJSON":"{}","timeRestore":false,"kibanaSavedObjectMeta":{"searchSourceJSON":"{}"}},"references":[{"name":"panel_0","type":"visualization","id":"logtrace-guide"}],"migrationVersion":{"dashboard":"7.9.3"}}
        {"exportedCount":5,"missingRefCount":0,"missingReferences":[]}
        """;

    static List<JsonObject> Lines(SavedObjects objects) =>
        [.. Encoding.UTF8.GetString(objects.ToBytes()).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => JsonNode.Parse(line)!.AsObject())];

    static JsonObject Of(List<JsonObject> objects, string id) => objects.Single(it => it["id"]!.ToString() == id);

    /// <summary>As 8.x and 9.x keep objects: another place for the version, and attributes written anew.</summary>
    internal static JsonObject AsNewServer(JsonObject it)
    {
        it.Remove("migrationVersion");
        it["typeMigrationVersion"] = "8.5.0";
        it["coreMigrationVersion"] = "8.8.0";
        it["managed"] = false;
        var attributes = it["attributes"]!.AsObject();
        attributes.Remove("hits");
        attributes["version"] = 2;
        if (attributes["visState"] is { } state)
        {
            var vis = JsonNode.Parse(state.ToString())!.AsObject();
            vis["params"]!["addTooltip"] = true;
            attributes["visState"] = vis.ToJsonString();
        }

        if (attributes["panelsJSON"] is not null) attributes["panelsJSON"] = "[{\"panelIndex\":\"1\",\"embeddableConfig\":{},\"panelRefName\":\"1:panel_1\"}]";
        foreach (var reference in it["references"]!.AsArray().Where(reference => reference!["name"]!.ToString() == "panel_0")) reference!["name"] = "1:panel_1";
        return it;
    }

    [Fact]
    public void Objects_that_are_there_as_they_are_in_the_file_make_no_difference()
    {
        var objects = SavedObjects.Parse(Some);

        objects.Count.Should().Be(5);
        objects.Differences(Lines(objects)).Should().BeEmpty();
    }

    [Fact]
    public void Objects_that_a_newer_server_has_brought_to_its_version_make_no_difference()
    {
        var objects = SavedObjects.Parse(Some);

        objects.Differences([.. Lines(objects).Select(AsNewServer)]).Should().BeEmpty();
    }

    [Fact]
    public void What_a_server_fills_in_by_itself_makes_no_difference()
    {
        var objects = SavedObjects.Parse(Some);
        var there = Lines(objects);
        Of(there, "logtrace-view")["attributes"]!["fields"] = "[{\"name\":\"msg\",\"count\":3}]";
        Of(there, "logtrace-view")["attributes"]!["fieldAttrs"] = "{}";
        var formats = JsonNode.Parse(Of(there, "logtrace-view")["attributes"]!["fieldFormatMap"]!.ToString())!;
        formats["trace_id"]!["params"]!["parsedUrl"] = new JsonObject { ["origin"] = "http://127.0.0.1:5601", ["pathname"] = "/app/dashboards", ["basePath"] = "" };
        formats["trace_id"]!["params"]!.AsObject().Remove("openLinkInCurrentTab");
        Of(there, "logtrace-view")["attributes"]!["fieldFormatMap"] = formats.ToJsonString();

        objects.Differences(there).Should().BeEmpty();
    }

    public static TheoryData<string, string, Action<JsonObject>> Changes() => new()
    {
        { "logtrace-view", "fieldFormatMap", it => it["attributes"]!["fieldFormatMap"] = "{}" },
        { "logtrace-view", "fieldFormatMap", it => it["attributes"]!["fieldFormatMap"] = it["attributes"]!["fieldFormatMap"]!.ToString().Replace("view/logtrace-dash", "view/mine") },
        { "logtrace-view", "fieldFormatMap", it => it["attributes"]!["fieldFormatMap"] = it["attributes"]!["fieldFormatMap"]!.ToString().Replace("\"openLinkInCurrentTab\":true", "\"width\":3") },
        { "logtrace-guide", "visState", it => it["attributes"]!["visState"] = it["attributes"]!["visState"]!.ToString().Replace("here", "there") },
        { "logtrace-graph", "visState", it => it["attributes"]!["visState"] = it["attributes"]!["visState"]!.ToString().Replace("calls", "chains") },
        { "logtrace-search", "columns", it => it["attributes"]!["columns"] = new JsonArray("name") },
        { "logtrace-dash", "description", it => it["attributes"]!["description"] = "All of it (edition 77777777)" },
        { "logtrace-dash", "title", it => it["attributes"]!["title"] = "Mine" },
    };

    [Theory]
    [MemberData(nameof(Changes))]
    public void Changed_object_is_found_on_every_server(string id, string member, Action<JsonObject> change)
    {
        var objects = SavedObjects.Parse(Some);
        var same = Lines(objects);
        change(Of(same, id));
        var migrated = same.Select(it => AsNewServer(it.DeepClone().AsObject())).ToList();

        objects.Differences(same).Should().Equal(new SavedObjectDifference(Of(same, id)["type"]!.ToString(), id, true, $"{member} is another"));
        objects.Differences(migrated).Should().ContainSingle().Which.Id.Should().Be(id);
    }

    [Fact]
    public void Missing_object_older_version_and_other_references_are_found()
    {
        var objects = SavedObjects.Parse(Some);
        var there = Lines(objects);
        there.Remove(Of(there, "logtrace-guide"));
        Of(there, "logtrace-graph")["migrationVersion"] = new JsonObject { ["visualization"] = "7.8.0" };
        Of(there, "logtrace-dash")["references"] = new JsonArray();

        objects.Differences(there).Select(it => (it.Id, it.IsThere, it.Reason)).Should().BeEquivalentTo([
            ("logtrace-guide", false, "not there"), ("logtrace-graph", true, "it is of version 7.8.0, and 7.10.0 is due"), ("logtrace-dash", true, "it refers to other objects"),
        ]);
    }

    [Fact]
    public void Another_space_gets_ids_of_its_own_also_in_links_and_another_prefix_its_indices()
    {
        var moved = Encoding.UTF8.GetString(SavedObjects.Parse(Some, "shop", "team-a").ToBytes());

        moved.Should().Contain("\"id\":\"logtrace-dash-shop-team-a\"").And.Contain("#/view/logtrace-dash-shop-team-a)").And.Contain("\\nlogtrace-dash-shop-team-a [here]").And.Contain("view/logtrace-dash-shop-team-a?_a=")
            .And.Contain("%22logtrace-view-shop-team-a%22").And.Contain("not logtrace-dash-board").And.Contain("shop-records-*").And.Contain("'shop-calls-*'");
        moved.Should().NotContain("logtrace-records").And.NotContain("logtrace-calls");
        Lines(SavedObjects.Parse(Some, "shop", "team-a")).SelectMany(it => it["references"]!.AsArray()).Select(it => it!["id"]!.ToString())
            .Should().OnlyContain(id => id.EndsWith("-shop-team-a"));
    }

    [Fact]
    public void Default_place_gets_the_file_as_it_is() =>
        Encoding.UTF8.GetString(SavedObjects.Parse(Some).ToBytes()).Should().Contain("logtrace-records-*").And.NotContain("exportedCount");

    [Theory]
    [InlineData("", "has no saved objects")]
    [InlineData("{\"exportedCount\":0}", "has no saved objects")]
    [InlineData("[]", "line 1 is no JSON object")]
    [InlineData("null", "line 1 is null")]
    [InlineData("{\"id\":\"a\"}\n", "must be a JSON object with id, type and attributes")]
    [InlineData("\n{oops", "line 2 is no JSON object")]
    [InlineData("{\"id\":\"a\",\"type\":\"search\",\"attributes\":{}}\n{\"id\":\"a\",\"type\":\"search\",\"attributes\":{}}", "has search a twice")]
    public void File_that_is_none_is_refused_with_the_reason(string text, string reason) =>
        FluentActions.Invoking(() => SavedObjects.Parse(text)).Should().Throw<InvalidDataException>().WithMessage($"*{reason}*");

    [Fact]
    public void Any_text_is_parsed_or_refused() => Gen.String[Gen.Char["{}[]\":,\\n\n aid"], 0, 60].Sample(text =>
    {
        try
        {
            SavedObjects.Parse(text);
        }
        catch (InvalidDataException)
        {
            // refused
        }
    });
}
