using System.Text.Json;
using System.Text.Json.Nodes;
using LogTrace.Benchmarks.Dashboards;
using LogTrace.Dashboards;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Indexer;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Dashboards;

/// <summary>What the Vega panels of the built file show, drawn with the versions that Kibana 7.10 and 9 ship.</summary>
public sealed class VegaTests
{
    const string Waterfall = "panel-chain-waterfall";

    static readonly Dictionary<string, string> Specs = File.ReadLines(Path.Combine(Repository.Root, DashboardsCommand.Files[Flavour.Kibana]))
        .Select(line => JsonNode.Parse(line)!).Where(saved => (string)saved["type"]! == SavedObjectFormat.Visualization)
        .Select(saved => (Id: (string)saved["id"]!, State: JsonNode.Parse((string)saved["attributes"]!["visState"]!)!)).Where(panel => (string)panel.State["type"]! == "vega")
        .ToDictionary(panel => panel.Id["logtrace-".Length..], panel => (string)panel.State["params"]!["spec"]!);

    /// <summary>Texts that a panel must show of the recorded answers, which are the demo's without the service orders.</summary>
    static readonly Dictionary<string, string[]> Expected = new()
    {
        ["panel-overview-figures"] = ["requests", "with errors", "p50", "p95", "p99", "incomplete", "alarms"],
        ["panel-losses-figures"] = ["chains", "records received", "missing numbers", "calls without record"],
        ["panel-losses-services"] = ["orders", "its call record is missing", "numbers are missing in it"],
        ["panel-losses-hosts"] = ["numbers are missing in it"],
        ["panel-losses-never"] = [],
        ["panel-services-graph"] = ["(outside)", "gateway", "orders", "stock", "payment", "sqlite stock"],
        [Waterfall] = [],
    };

    public static TheoryData<string, string> Recorded()
    {
        var data = new TheoryData<string, string>();
        foreach (var file in Directory.EnumerateFiles(Path.Combine(Repository.Root, "tests/vega/replies"), "*.json").Order(StringComparer.Ordinal))
            foreach (var version in VegaDrawing.Versions) data.Add(Path.GetFileNameWithoutExtension(file), version);
        return data;
    }

    [VegaTheory]
    [MemberData(nameof(Recorded))]
    public async Task Every_spec_is_drawn_of_what_a_real_server_answered(string server, string version)
    {
        var replies = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(Repository.Root, "tests/vega/replies", server + ".json")))!.AsObject();
        replies.Select(panel => panel.Key).Should().BeEquivalentTo(Specs.Keys, "LOGTRACE_TEST_RECORD=1 ./logtrace test --filter FullyQualifiedName~PanelTests records them anew").And.BeEquivalentTo(Expected.Keys);
        var names = Specs.Keys.Order(StringComparer.Ordinal).ToList();

        var pictures = await VegaDrawing.DrawAsync(names.Select(name => new VegaDrawing.Job(Specs[name], replies[name]!.AsObject().ToDictionary(reply => reply.Key, reply => reply.Value!), version)));

        foreach (var (name, picture) in names.Zip(pictures))
        {
            picture.Warnings.Should().BeEmpty(name);
            picture.IsBroken.Should().BeFalse($"{name} shows {string.Join('|', picture.Texts)}");
            if (Expected[name].Length > 0) picture.Texts.Should().Contain(Expected[name], name);
            picture.Texts.Should().NotBeEmpty(name);
        }
    }

    public static TheoryData<string> AllVersions() => [.. VegaDrawing.Versions];

    [VegaTheory]
    [MemberData(nameof(AllVersions))]
    public async Task Every_spec_is_drawn_of_an_empty_answer(string version)
    {
        var nothing = JsonNode.Parse("""
            {"hits":{"total":{"value":0},"hits":[]},"aggregations":{"matches":{"value":0},"requests":{"value":0},"failed":{"value":0},"lossy":{"value":0},"alarms":{"value":0},
            "took":{"values":{"50.0":null,"95.0":null,"99.0":null}},"chains":{"value":0},"placeholders":{"value":0},"gaps":{"value":0},"calleeOnly":{"value":0},"likely":{"value":0},"ambiguous":{"value":0},
            "records":{"value":0},"services":{"buckets":[]},"entries":{"buckets":[]},"known":{"callers":{"buckets":[]}}}}
            """)!;
        var any = new[] { "reply", "pairs", "byCaller", "byCallee" }.ToDictionary(data => data, _ => nothing);

        var pictures = await VegaDrawing.DrawAsync(Specs.Select(spec => new VegaDrawing.Job(spec.Value, any, version)));

        foreach (var (name, picture) in Specs.Keys.Zip(pictures)) picture.IsBroken.Should().BeFalse($"{name} shows {string.Join('|', picture.Texts)}");
        pictures[Specs.Keys.ToList().IndexOf(Waterfall)].Texts.Should().Contain(text => text.StartsWith("No chain matches", StringComparison.Ordinal));
    }

    [VegaTheory]
    [InlineData("<script>alert(1)</script>")]
    [InlineData("{{value}} {{constructor.constructor('alert(1)')()}}")]
    [InlineData("';kibanaRemoveAllFilters();'")]
    [InlineData("\u202e\u2067right to left\u2069 \u0000 \ud83d\ude00")]
    [InlineData("%s %d &lt;b&gt; \"quoted\" \\ ")]
    public async Task Hostile_text_is_shown_as_text(string hostile)
    {
        var records = new[]
        {
            ChainSample.Record("request.info", "1.1", hostile, action: hostile),
            ChainSample.Record("http.post", "1.2", hostile, peer: hostile, action: hostile),
            ChainSample.Record("log.error", "1.2", hostile),
            ChainSample.Record("request.info", "1.2.1", "orders", action: new string('x', 10_000) + hostile),
        };
        var document = ChainDocuments.From(ChainSample.Build(records)) with { TraceId = "t", Uid = hostile };

        foreach (var version in VegaDrawing.Versions)
        {
            var picture = (await VegaDrawing.DrawAsync([Job(document, version)])).Single();

            picture.Warnings.Should().BeEmpty();
            picture.Svg.Should().NotContain("<script").And.NotContain("<b>");
            picture.MarksOf("row").Should().HaveCount(2);
            picture.MarksOf("label").Should().OnlyContain(label => label.GetProperty("text").GetString()!.Length < 600);
            picture.MarksOf("label")[0].GetProperty("text").GetString().Should().Contain(hostile, "it is what the service wrote");
        }
    }

    [VegaFact]
    public async Task A_chain_of_5_000_calls_is_drawn_and_of_a_larger_one_the_first_5_000_and_where_the_rest_is()
    {
        var whole = LargeChain.Document(ChainDocuments.MaxRows);
        var large = LargeChain.Document(ChainDocuments.MaxRows + 1_000);

        var pictures = await VegaDrawing.DrawAsync([Job(whole, "vega-7.10"), Job(large, "vega-7.10"), Job(large, "vega-9.3"), Job(whole, "vega-9.3", height: 100 + (18 * ChainDocuments.MaxRows))]);

        whole.NodeCount.Should().Be(ChainDocuments.MaxRows);
        pictures.Should().OnlyContain(picture => picture.Warnings.Count == 0 && !picture.IsBroken);
        foreach (var picture in pictures.Take(3)) picture.MarksOf("row").Count.Should().BeInRange(20, 40, "as many as there is room for are drawn, the others when they are scrolled to");
        pictures[3].MarksOf("row").Should().HaveCount(ChainDocuments.MaxRows);
        pictures[0].Texts.Should().NotContain(text => text.Contains("the first", StringComparison.Ordinal));
        pictures[2].Texts.Should().Contain(text => text.StartsWith("Only the first 5,000 of 6,000 rows", StringComparison.Ordinal) && text.Contains("/chain/large", StringComparison.Ordinal));
    }

    [VegaFact]
    public async Task Hops_that_are_never_recorded_are_listed_and_none_is_said_in_words()
    {
        var some = JsonNode.Parse("""
            {"aggregations":{"entries":{"buckets":[{"key":"POST /checkout","callers":{"buckets":[{"key":"orders","callees":{"buckets":[{"key":"legacy","doc_count":1200,"chains":{"value":1100}},{"key":"fax","doc_count":7,"chains":{"value":7}}]}}]}}]}}}
            """)!;
        var none = JsonNode.Parse("""{"aggregations":{"entries":{"buckets":[]}}}""")!;

        var pictures = await VegaDrawing.DrawAsync(VegaDrawing.Versions.SelectMany(version =>
            new[] { some, none }.Select(reply => new VegaDrawing.Job(Specs["panel-losses-never"], new Dictionary<string, JsonNode> { ["reply"] = reply }, version, Height: 180))));

        pictures.Should().OnlyContain(picture => picture.Warnings.Count == 0 && !picture.IsBroken);
        foreach (var pair in pictures.Chunk(2))
        {
            pair[0].Texts.Should().Equal("entry action", "caller", "callee", "calls", "chains", "POST /checkout", "orders", "legacy", "1,200", "1,100", "POST /checkout", "orders", "fax", "7", "7");
            pair[1].Texts.Should().ContainSingle().Which.Should().StartWith("None so far: ");
        }
    }

    [VegaFact]
    public async Task Log_lines_are_marks_on_their_call_and_missing_ones_have_their_own_style()
    {
        var chain = ChainSample.Build(
        [
            ChainSample.Request("1.1", "gateway", at: 1_000_000), ChainSample.Call("1.2", "gateway", "redis:6379", "redis.request"), ChainSample.Log("1.2", "gateway", at: 1_000_200),
            ChainSample.Record("log.error", "1.2", "gateway", at: 1_000_300), ChainSample.Request("1.4.2.1", "stock", at: 1_000_500),
        ]);

        var picture = (await VegaDrawing.DrawAsync([Job(ChainDocuments.From(chain), "vega-9.1")])).Single();

        picture.MarksOf("line").Select(line => line.GetProperty("datum").GetProperty("level").GetString()).Should().Equal("log.info", "log.error");
        picture.MarksOf("row").Select(row => $"{row.GetProperty("datum").GetProperty("id")} {row.GetProperty("datum").GetProperty("kind")}").Should().Equal("1 server", "1.2 client", "1.3 gap", "1.4 placeholder", "1.4.1 gap", "1.4.2 server");
        picture.Texts.Should().Contain("1 number not received").And.Contain("no record received").And.Contain(text => text.Contains("caller's record not received", StringComparison.Ordinal));
        picture.Texts.Should().Contain(text => text.StartsWith("Known loss 4: 1 calls without any record, 2 missing numbers, 1 calls whose caller's record is missing.", StringComparison.Ordinal));
    }

    /// <summary>The answer a server gives that has this one chain.</summary>
    static VegaDrawing.Job Job(ChainDocument chain, string version, int height = 600) => new(Specs[Waterfall], new Dictionary<string, JsonNode> { ["reply"] = LargeChain.Reply(chain) }, version, Height: height);
}
