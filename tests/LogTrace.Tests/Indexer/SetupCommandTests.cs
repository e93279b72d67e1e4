using System.CommandLine;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json.Nodes;
using CsCheck;
using LogTrace.Indexer.Commands;
using LogTrace.Shipper;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Indexer;

/// <summary><c>setup</c>: what it makes, what it says, and that a second run changes nothing.</summary>
public sealed class SetupCommandTests : IDisposable
{
    readonly TempFolder _folder = new();

    public SetupCommandTests() => File.WriteAllText(_folder["some.ndjson"], SavedObjectsTests.Some);

    public void Dispose() => _folder.Dispose();

    /// <param name="keys">Key, value, key, value, ...; of a key given twice the second value counts.</param>
    async Task<Outcome> RunAsync(string[] keys, bool lookOnly = false, double patience = 0)
    {
        StringWriter said = new(), progress = new();
        var setup = new Setup(said, progress, lookOnly, TimeSpan.FromSeconds(patience));
        var exitCode = await setup.RunAsync(Settings.Load(null, _folder["none.json"], keys.Chunk(2).GroupBy(pair => pair[0]).Select(same => KeyValuePair.Create(same.Key, (string?)same.Last()[1]))), CancellationToken.None);
        return new Outcome(exitCode, said.ToString(), progress.ToString());
    }

    sealed record Outcome(int ExitCode, string Said, string Progress);

    string[] Objects(FakeKibana kibana, params string[] more) => ["Kibana:Url", kibana.Url, "Kibana:Objects", _folder["some.ndjson"], .. more];

    [Fact]
    public async Task Second_run_changes_nothing()
    {
        await using var kibana = await FakeKibana.StartAsync();

        var before = await RunAsync(Objects(kibana), lookOnly: true);
        var first = await RunAsync(Objects(kibana));
        var second = await RunAsync(Objects(kibana));
        var after = await RunAsync(Objects(kibana), lookOnly: true);

        (before.ExitCode, before.Said).Should().Be((1, $"Kibana 7.10.2 at {kibana.Url}, space default\n  MISSING  5 saved objects\n1 missing or old\n"));
        (first.ExitCode, first.Said).Should().Be((0, $"Kibana 7.10.2 at {kibana.Url}, space default\n  made     5 saved objects\n1 made or renewed\n"));
        (second.ExitCode, second.Said).Should().Be((0, $"Kibana 7.10.2 at {kibana.Url}, space default\n  ok       5 saved objects\nnothing changed\n"));
        (after.ExitCode, after.Said).Should().Be((0, $"Kibana 7.10.2 at {kibana.Url}, space default\n  ok       5 saved objects\n0 missing or old\n"));
        kibana.Imports.Should().Be(1);
        kibana.Objects.Keys.Should().BeEquivalentTo("default/index-pattern/logtrace-view", "default/visualization/logtrace-guide", "default/visualization/logtrace-graph", "default/search/logtrace-search", "default/dashboard/logtrace-dash");
    }

    [Fact]
    public async Task After_any_changes_one_run_puts_all_right_and_the_next_finds_nothing_to_do()
    {
        await using var kibana = await FakeKibana.StartAsync(isOpenSearch: false, migrate: it => DateTime.UtcNow.Ticks % 2 == 0 ? it : SavedObjectsTests.AsNewServer(it));
        await RunAsync(Objects(kibana));
        string[] keys = [.. kibana.Objects.Keys];

        // What a user may do to each: nothing, delete it, give it another title.
        await Gen.Int[0, 2].Array[keys.Length].SampleAsync(async changes =>
        {
            foreach (var (key, change) in keys.Zip(changes))
            {
                if (change == 1) kibana.Objects.TryRemove(key, out _);
                else if (change == 2) kibana.Objects[key]["attributes"]!["title"] = "mine";
            }

            var imports = kibana.Imports;
            var first = await RunAsync(Objects(kibana));
            var second = await RunAsync(Objects(kibana), lookOnly: true);

            first.ExitCode.Should().Be(0, first.Said);
            kibana.Imports.Should().Be(imports + (changes.Any(change => change > 0) ? 1 : 0));
            (second.ExitCode, second.Said).Should().Be((0, $"Kibana 7.10.2 at {kibana.Url}, space default\n  ok       5 saved objects\n0 missing or old\n"));
        }, iter: 60, threads: 1);
    }

    [Fact]
    public async Task Changed_and_missing_objects_are_named()
    {
        await using var kibana = await FakeKibana.StartAsync();
        await RunAsync(Objects(kibana));
        kibana.Objects["default/dashboard/logtrace-dash"]["attributes"]!["title"] = "mine";
        kibana.Objects.TryRemove("default/search/logtrace-search", out _);

        var look = await RunAsync(Objects(kibana), lookOnly: true);
        var mend = await RunAsync(Objects(kibana));

        look.ExitCode.Should().Be(1);
        look.Said.Should().Contain("OLD      5 saved objects: 2 of them differ").And.Contain("dashboard logtrace-dash: title is another").And.Contain("search logtrace-search: not there");
        mend.Said.Should().Contain("renewed  5 saved objects: 2 of them differed");
    }

    [Theory]
    [InlineData(false, false, false, "7.10.2", "Kibana 7.10.2")]
    [InlineData(false, true, false, "9.1.0", "Kibana 9.1.0")]
    [InlineData(false, true, true, "8.19.0", "Kibana 8.19.0")]
    [InlineData(true, false, false, "2.17.0", "OpenSearch Dashboards 2.17.0")]
    [InlineData(true, false, true, "1.3.0", "OpenSearch Dashboards 1.3.0")]
    public async Task Product_is_found_out_by_asking(bool isOpenSearch, bool saysLevel, bool hidesName, string version, string product)
    {
        await using var kibana = await FakeKibana.StartAsync(isOpenSearch, version, saysLevel, hidesName);

        var made = await RunAsync(Objects(kibana));

        made.ExitCode.Should().Be(0, made.Said);
        made.Said.Should().StartWith($"{product} at").And.Contain(isOpenSearch ? "tenant global" : "space default");
    }

    [Fact]
    public async Task Each_space_gets_objects_with_ids_of_its_own_and_a_tenant_those_of_the_file()
    {
        await using var kibana = await FakeKibana.StartAsync();
        await using var openSearch = await FakeKibana.StartAsync(isOpenSearch: true);
        kibana.Places.Add("Team_A");
        openSearch.Places.Add("team-a");

        (await RunAsync(Objects(kibana))).ExitCode.Should().Be(0);
        (await RunAsync(Objects(kibana, "Kibana:Space", "Team_A"))).Said.Should().Contain("space Team_A\n  made     5");
        (await RunAsync(Objects(kibana, "Kibana:Space", "Team_A"))).Said.Should().Contain("nothing changed");
        (await RunAsync(Objects(openSearch, "Kibana:Space", "team-a"))).Said.Should().Contain("tenant team-a\n  made     5");

        kibana.Objects.Keys.Should().HaveCount(10).And.Contain(["default/dashboard/logtrace-dash", "Team_A/dashboard/logtrace-dash-team_a"]);
        openSearch.Objects.Keys.Should().HaveCount(5).And.Contain("team-a/dashboard/logtrace-dash");
    }

    [Fact]
    public async Task User_key_and_authority_are_used()
    {
        using var certificate = FakeKibana.SomeCertificate();
        await File.WriteAllTextAsync(_folder["ca.pem"], certificate.ExportCertificatePem());
        await using var kibana = await FakeKibana.StartAsync(certificate: certificate);

        var untrusted = await RunAsync(Objects(kibana), patience: 60);
        var asUser = await RunAsync(Objects(kibana, "Kibana:CaFile", _folder["ca.pem"], "Kibana:User", "ann", "Kibana:Password", "secret"));
        var withKey = await RunAsync(Objects(kibana, "Kibana:CaFile", _folder["ca.pem"], "Kibana:ApiKey", "a2V5"));
        var inPlain = await RunAsync(Objects(kibana, "Kibana:Url", kibana.Url.Replace("https", "http")));

        untrusted.Said.Should().Contain("certificate is not trusted").And.Contain("Kibana:CaFile");
        untrusted.Progress.Should().BeEmpty("waiting would not help");
        asUser.ExitCode.Should().Be(0, asUser.Said);
        withKey.ExitCode.Should().Be(0, withKey.Said);
        kibana.Authorizations.Distinct().Should().BeEquivalentTo("Basic YW5uOnNlY3JldA==", "ApiKey a2V5");
        inPlain.ExitCode.Should().Be(1);
    }

    /// <summary>What servers were seen or are documented to say, and the words by which one knows what to do.</summary>
    [Theory]
    [InlineData("_import", 422, """{"statusCode":422,"error":"Unprocessable Entity","message":"Document \"v9\" has property \"visualization\" which belongs to a more recent version of Kibana [7.14.0]. The last known version is [7.10.0]"}""", "objects are newer than Kibana 7.10.2", "bring the server up to date")]
    [InlineData("_import", 200, """{"success":false,"successCount":0,"errors":[{"id":"logtrace-search","type":"search","title":"s","error":{"type":"missing_references","references":[{"type":"index-pattern","id":"nowhere"}]}}]}""", "it took none: 1 (search logtrace-search): it refers to index-pattern nowhere", "import the data view first")]
    [InlineData("_import", 200, """{"success":false,"successCount":4,"errors":[{"id":"logtrace-graph","type":"lens","error":{"type":"unsupported_type"}}]}""", "the others are there: 1 (lens logtrace-graph)", "does not know objects of this type")]
    [InlineData("_import", 200, """{"success":false,"successCount":0,"errors":[{"id":"a","type":"search","error":{"type":"conflict"}},{"id":"b","type":"search","error":{"type":"conflict"}}]}""", "2 (search a, search b)", "delete it, or ask whose it is")]
    [InlineData("_import", 200, """{"success":false,"successCount":0,"errors":[{"id":"a","type":"search","error":{"type":"ambiguous_conflict","destinations":[]}}]}""", "several objects were imported", "delete those that are not wanted")]
    [InlineData("_import", 200, """{"success":false,"successCount":1,"errors":[{"id":"a","type":"search","error":{"type":"unknown","message":"mapping set to strict, dynamic introduction of [grid] within [search] is not allowed"}}]}""", "introduction of [grid]", "take the file that came with this program")]
    [InlineData("_import", 200, """{"success":true,"successCount":1,"successResults":[{"id":"logtrace-dash","type":"dashboard","destinationId":"5e1a"}]}""", "gave 1 objects new ids, such as 5e1a for logtrace-dash", "--space")]
    [InlineData("_import", 403, """{"statusCode":403,"error":"Forbidden","message":"Unable to bulk_create dashboard,index-pattern,visualization"}""", "may not write to space default", "Saved Objects Management")]
    [InlineData("_import", 413, """{"statusCode":413,"error":"Request Entity Too Large","message":"Payload content length greater than maximum allowed: 1048576"}""", "too large", "savedObjects.maxImportPayloadBytes")]
    [InlineData("_import", 400, """{"statusCode":400,"error":"Bad Request","message":"Non-unique import objects detected: [a]: Bad Request"}""", "objects twice", "take the file")]
    [InlineData("_import", 400, """{"statusCode":400,"error":"Bad Request","message":"Request must contain a kbn-xsrf header."}""", "something on the way takes it out", "kbn-")]
    [InlineData("_import", 400, """{"statusCode":400,"error":"Bad Request","message":"Browser client is out of date, please refresh the page (\"kbn-version\" header was \"7.9.0\" but should be \"7.10.2\")"}""", "kbn-version", "look at the proxy")]
    [InlineData("_import", 400, """{"statusCode":400,"error":"Bad Request","message":"Please specify a version via elastic-api-version header. Available versions: [2023-10-31]"}""", "elastic-api-version", "server.versioned")]
    [InlineData("_import", 400, """{"statusCode":400,"error":"Bad Request","message":"uri [/api/saved_objects/_import] with method [post] exists but is not available with the current configuration"}""", "does not let saved objects be imported", "configuration")]
    [InlineData("_import", 418, "<html>a teapot</html>", "HTTP 418 <html>a teapot</html>", "saved objects")]
    [InlineData("_export", 404, """{"statusCode":404,"error":"Not Found","message":"Saved object [space/nowhere] not found"}""", "has no space nowhere", "--space", "nowhere")]
    [InlineData("_export", 401, """{"statusCode":401,"error":"Unauthorized","message":"[security_exception] missing authentication credentials"}""", "asks who is there", "LOGTRACE__Kibana__User")]
    [InlineData("status", 401, "Unauthorized", "asks who is there", "Kibana:ApiKey")]
    [InlineData("status", 403, """{"statusCode":403,"error":"Forbidden","message":"Forbidden"}""", "may not ask for its status", "role")]
    [InlineData("status", 404, "Not Found", "base path", "--kibana")]
    [InlineData("status", 302, "/kibana/api/status", "sends on to /kibana/api/status", "Kibana:Url")]
    [InlineData("status", 200, "<html>It works!</html>", "neither as Kibana nor as OpenSearch Dashboards", "check Kibana:Url")]
    public async Task Refusal_is_said_with_what_to_do(string pathEnd, int status, string body, string what, string fix, string space = "default")
    {
        await using var kibana = await FakeKibana.StartAsync();
        kibana.Answers.Enqueue((pathEnd, status, body));

        var watch = Stopwatch.StartNew();
        var refused = await RunAsync(Objects(kibana, "Kibana:Space", space), patience: 300);

        refused.ExitCode.Should().Be(1);
        refused.Said.Should().Contain("PROBLEM").And.Contain(what).And.Contain(fix).And.Contain("1 problems");
        refused.Progress.Should().BeEmpty("waiting would not help");
    }

    [Fact]
    public async Task Kibana_that_starts_is_waited_for_and_each_state_is_said_once()
    {
        await using var kibana = await FakeKibana.StartAsync();
        foreach (var _ in Enumerable.Range(0, 3)) kibana.Answers.Enqueue(("status", 503, "Kibana server is not ready yet"));
        kibana.Answers.Enqueue(("status", 503, """{"status":{"overall":{"level":"unavailable","summary":"elasticsearch: no connection"}}}"""));
        kibana.Answers.Enqueue(("status", 200, """{"status":{"overall":{"state":"red"}}}"""));
        kibana.Answers.Enqueue(("_export", 502, "Bad Gateway"));
        kibana.Answers.Enqueue(("_import", 429, "slow down"));

        var made = await RunAsync(Objects(kibana), patience: 300);

        made.ExitCode.Should().Be(0, made.Said);
        made.Said.Should().Contain("made     5 saved objects");
        made.Progress.Split('\n', StringSplitOptions.RemoveEmptyEntries).Should().SatisfyRespectively(
            line => line.Should().Contain("of 300 s").And.Contain("Kibana server is not ready yet"),
            line => line.Should().Contain("is unavailable (elasticsearch: no connection)"),
            line => line.Should().Contain("is red, most often because its own Elasticsearch"),
            line => line.Should().Contain("HTTP 502 Bad Gateway"),
            line => line.Should().Contain("HTTP 429 slow down"));
    }

    [Fact]
    public async Task Servers_that_are_down_are_waited_for_then_the_run_fails_and_says_what_to_do()
    {
        var nowhere = $"http://127.0.0.1:{FreePort()}";

        var failed = await RunAsync(["Elasticsearch:Urls:0", nowhere, "Kibana:Url", nowhere, "Kibana:Objects", _folder["some.ndjson"]], patience: 0.5);

        failed.ExitCode.Should().Be(1);
        failed.Said.Should().Contain("Check Elasticsearch:Urls (--elasticsearch)").And.Contain("Start it, or check Kibana:Url (--kibana)").And.Contain("waited for").And.EndWith("nothing changed, 2 problems\n");
        failed.Progress.Should().Contain($"waiting for the store at {nowhere}").And.Contain($"waiting for Kibana at {nowhere}").And.Contain("Connection refused");
    }

    [Fact]
    public async Task Wrong_options_are_refused_all_at_once_and_nothing_named_is_wrong_too()
    {
        var wrong = () => RunAsync(["Kibana:Url", "ftp://x", "Kibana:Space", "a/b", "Kibana:User", "ann", "Kibana:Objects", _folder["no.ndjson"], "Kibana:CaFile", _folder["no.pem"], "Kibana:Timeout", "00:00:00", "Elasticsearch:Urls:0", "x", "Kafka:Replication", "101"]);
        var nothing = () => RunAsync([]);

        (await wrong.Should().ThrowAsync<SettingsException>()).And.Message.Split('\n').Should().HaveCount(8);
        (await nothing.Should().ThrowAsync<SettingsException>()).WithMessage("There is nothing to set up: name --kafka HOST:PORT*");
    }

    [Fact]
    public async Task Command_takes_its_options()
    {
        await using var kibana = await FakeKibana.StartAsync();
        kibana.Places.Add("ops");
        var parsed = new RootCommand { SetupCommand.Create() }.Parse(["setup", "--kibana", kibana.Url, "--space", "ops", "--objects", _folder["some.ndjson"], "--wait", "5"]);

        (await parsed.InvokeAsync()).Should().Be(0);
        kibana.Objects.Should().HaveCount(5);
        new RootCommand { SetupCommand.Create() }.Parse(["setup", "--partitions", "0"]).Errors.Should().NotBeEmpty();
        new RootCommand { SetupCommand.Create() }.Parse(["setup", "--wait", "601"]).Errors.Should().NotBeEmpty();
    }

    [RealElasticsearchTheory]
    [EveryElasticsearch]
    public async Task Index_templates_are_made_once_on_a_real_server(string engine)
    {
        var url = await RealEngines.ElasticsearchAsync(engine);
        var prefix = $"setup-{Guid.NewGuid():n}";
        string[] keys = ["Elasticsearch:Urls:0", url, "Elasticsearch:IndexPrefix", prefix];
        try
        {
            var before = await RunAsync(keys, lookOnly: true);
            var first = await RunAsync(keys);
            var second = await RunAsync(keys);
            await AgeAsync(url, $"{prefix}-chains");
            var old = await RunAsync(keys, lookOnly: true);
            var mended = await RunAsync(keys);

            before.ExitCode.Should().Be(1);
            before.Said.Should().Contain($"MISSING  index template {prefix}-records").And.Contain($"MISSING  index template {prefix}-calls");
            first.ExitCode.Should().Be(0, first.Said);
            first.Said.Should().Contain($"made     index template {prefix}-records").And.Contain($"made     index template {prefix}-chains").And.Contain($"made     index template {prefix}-calls");
            second.Said.Should().Contain($"ok       index template {prefix}-records: version").And.EndWith("nothing changed\n");
            old.Said.Should().Contain($"OLD      index template {prefix}-chains: version 0, version").And.EndWith("1 missing or old\n");
            mended.Said.Should().Contain($"renewed  index template {prefix}-chains").And.EndWith("1 made or renewed\n");
        }
        finally
        {
            await ElasticsearchIndices.DeleteAsync(url, prefix);
        }
    }

    /// <summary>Makes a template as a program before the first version would have left it.</summary>
    static async Task AgeAsync(string url, string name)
    {
        using var client = new HttpClient();
        var template = JsonNode.Parse(await client.GetStringAsync($"{url}/_index_template/{name}"))!["index_templates"]![0]!["index_template"]!.DeepClone();
        template["version"] = 0;
        (await client.PutAsync($"{url}/_index_template/{name}", new StringContent(template.ToJsonString(), System.Text.Encoding.UTF8, "application/json"))).EnsureSuccessStatusCode();
    }

    [RealKafkaFact]
    public async Task Topics_are_made_once_and_an_existing_one_is_left_as_it_is()
    {
        var brokers = await RealEngines.KafkaAsync();
        var topic = $"setup-{Guid.NewGuid():n}";
        string[] keys = ["Kafka:Brokers", brokers, "Kafka:Topic", topic, "Kafka:DeadTopic", $"{topic}.dead"];
        try
        {
            var before = await RunAsync([.. keys, "Kafka:Partitions", "2"], lookOnly: true);
            var first = await RunAsync([.. keys, "Kafka:Partitions", "2"], patience: 60);
            var second = await RunAsync([.. keys, "Kafka:Partitions", "2"], patience: 60);
            var other = await RunAsync([.. keys, "Kafka:Partitions", "5"], patience: 60);

            before.Said.Should().Contain($"MISSING  topic {topic}: or this user may not see it").And.EndWith("2 missing or old\n");
            first.ExitCode.Should().Be(0, first.Said);
            first.Said.Should().Contain($"made     topic {topic}: 2 partitions, 1 copies").And.Contain($"made     topic {topic}.dead: 1 partitions, 1 copies");
            second.Said.Should().Contain($"ok       topic {topic}: 2 partitions, 1 copies\n").And.EndWith("nothing changed\n");
            other.Said.Should().Contain($"ok       topic {topic}: 2 partitions, 1 copies (new it would have 5 partitions; left as it is)").And.EndWith("nothing changed\n");
        }
        finally
        {
            var options = new KafkaOptions { Brokers = brokers };
            await KafkaTopic.DeleteAsync(options with { Topic = topic });
            await KafkaTopic.DeleteAsync(options with { Topic = $"{topic}.dead" });
        }
    }

    [RealKafkaFact]
    public async Task More_copies_than_brokers_are_refused_with_the_broker_s_reason()
    {
        var failed = await RunAsync(["Kafka:Brokers", await RealEngines.KafkaAsync(), "Kafka:Topic", $"setup-{Guid.NewGuid():n}", "Kafka:DeadTopic", "", "Kafka:Replication", "3"]);

        failed.ExitCode.Should().Be(1);
        failed.Said.Should().Contain("could not be created").And.Contain("Unable to replicate the partition 3 time(s)").And.Contain("Check Kafka:Brokers");
    }

    static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
