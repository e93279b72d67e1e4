using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using LogTrace.Indexer.Kibana;
using LogTrace.Indexer.Store;
using LogTrace.Shipper;
using LogTrace.Transport;

namespace LogTrace.Indexer.Commands;

/// <summary><c>setup</c>: makes what Kafka, the store and Kibana need before LogTrace can be used with them, or says what of it is there.</summary>
static class SetupCommand
{
    const int UsualWaitSeconds = 120;

    public static Command Create()
    {
        var kafka = CommonOptions.Kafka();
        var topic = new Option<string?>("--topic") { HelpName = "NAME", Description = "topic of the records; default logtrace.records" };
        var partitions = new Option<int?>("--partitions") { HelpName = "N", Description = "its partitions if it is made, as many indexers can share the work; default 6" };
        var replication = new Option<int?>("--replication") { HelpName = "N", Description = "copies of each partition if a topic is made; default 3 where there are three brokers, else as many as there are" };
        var elasticsearch = new Option<string?>("--elasticsearch") { HelpName = "URL", Description = "URL of Elasticsearch 7.10+ or OpenSearch" };
        var kibana = new Option<string?>("--kibana") { HelpName = "URL", Description = "URL of Kibana 7.10+ or OpenSearch Dashboards, with its base path if it has one" };
        var space = new Option<string?>("--space") { HelpName = "ID", Description = "space of Kibana that gets the dashboards (default: the default space); with OpenSearch Dashboards the tenant (default: global)" };
        var objects = new Option<string?>("--objects") { HelpName = "FILE", Description = "saved objects to import in place of the built-in ones" };
        var check = new Option<bool>("--check") { Description = "change nothing: say what is installed and whether it is current; exit 1 if something is missing or old" };
        var wait = new Option<int?>("--wait") { HelpName = "SECONDS", Description = $"how long to wait for a server that is not there yet; default {UsualWaitSeconds}, with --check 0" };
        CommonOptions.MustBeWithin(partitions, 1, 10_000);
        CommonOptions.MustBeWithin(replication, 1, 100);
        CommonOptions.MustBeWithin(wait, 0, 600);
        var config = CommonOptions.Config();
        var command = new Command("setup",
            """
            Prepares the servers of the full pipeline; does the parts that are named, by a flag or a section of the configuration:
              Kafka           the topic of the records and the one of what is set aside; topics that are there are left as they are
              Elasticsearch   index and component templates, and who deletes old days (Elasticsearch:KeepDays); newer ones and yours are left as they are
              Kibana          data views, searches and dashboards, into Kibana 7.10+ or OpenSearch Dashboards; found out by asking
            Run again it changes nothing, unless this program brings something newer. Who changed a dashboard of LogTrace in place loses that: save changes under a name of your own.
            Users, passwords and keys: LOGTRACE__Kafka__SaslUser and SaslPassword, LOGTRACE__Elasticsearch__User and Password or ApiKey, LOGTRACE__Kibana__User and Password or ApiKey
            in the environment; certificate authorities: LOGTRACE__Kafka__CaFile, LOGTRACE__Elasticsearch__CaFile, LOGTRACE__Kibana__CaFile; or all of it in the configuration file.
            """)
        {
            kafka, topic, partitions, replication, elasticsearch, kibana, space, objects, check, wait, config,
        };
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            var settings = Settings.Load(parsed.GetValue(config), CommonOptions.ConfigurationFile,
            [
                new("Kafka:Brokers", parsed.GetValue(kafka)), new("Kafka:Topic", parsed.GetValue(topic)), new("Kafka:Partitions", Text(parsed.GetValue(partitions))),
                new("Kafka:Replication", Text(parsed.GetValue(replication))), new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch)),
                new("Kibana:Url", parsed.GetValue(kibana)), new("Kibana:Space", parsed.GetValue(space)), new("Kibana:Objects", parsed.GetValue(objects)),
            ]);
            var lookOnly = parsed.GetValue(check);
            var setup = new Setup(Console.Out, Console.Error, lookOnly, TimeSpan.FromSeconds(parsed.GetValue(wait) ?? (lookOnly ? 0 : UsualWaitSeconds)));
            return await setup.RunAsync(settings, stop);
        }));
        return command;

        static string? Text(int? number) => number?.ToString(CultureInfo.InvariantCulture);
    }
}

/// <summary>One part after the other; what goes wrong with one does not keep the others from being done.</summary>
/// <param name="output">Gets what was found and done, one part a line.</param>
/// <param name="progress">Gets what is being waited for.</param>
/// <param name="lookOnly">Change nothing.</param>
/// <param name="patience">How long to wait for each server.</param>
sealed class Setup(TextWriter output, TextWriter progress, bool lookOnly, TimeSpan patience)
{
    static readonly TimeSpan SayAgainAfter = TimeSpan.FromSeconds(10);

    int _due;
    int _changed;
    int _problems;

    /// <returns>The exit code.</returns>
    public async Task<int> RunAsync(Settings settings, CancellationToken stop)
    {
        var kafka = settings.Has("Kafka") ? settings.Section<KafkaOptions>("Kafka") : null;
        var store = settings.Has("Elasticsearch") ? settings.Section<ElasticsearchOptions>("Elasticsearch") : null;
        if (store is not null && settings.Values("Elasticsearch:Urls") is { Count: > 0 } urls) store = store with { Urls = urls };
        var kibana = settings.Has("Kibana") ? settings.Section<KibanaOptions>("Kibana") : null;
        if (kafka is null && store is null && kibana is null)
            throw new SettingsException("There is nothing to set up: name --kafka HOST:PORT, --elasticsearch URL, --kibana URL or several of them, or give their sections in the configuration file.");
        Settings.Check(kafka?.Validate() ?? [], store?.Validate() ?? [], kibana?.Validate() ?? []);

        if (kafka is not null) await PartAsync($"Kafka at {kafka.Brokers}", () => KafkaAsync(kafka, stop));
        if (store is not null) await PartAsync($"store at {store.Urls[0]}", () => StoreAsync(store, stop));
        if (kibana is not null) await PartAsync(null, () => KibanaAsync(kibana, store?.IndexPrefix ?? settings.Value("Elasticsearch:IndexPrefix") ?? "logtrace", stop));

        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{(lookOnly ? $"{_due} missing or old" : _changed == 0 ? "nothing changed" : $"{_changed} made or renewed")}{(_problems > 0 ? $", {_problems} problems" : "")}"));
        return _problems > 0 || _due > 0 ? 1 : 0;
    }

    async Task PartAsync(string? title, Func<Task> work)
    {
        if (title is not null) output.WriteLine(title);
        try
        {
            await work();
        }
        catch (Exception e) when (e is TransportUnavailableException or StoreUnavailableException or KibanaRefusedException or SetupGaveUpException or InvalidDataException)
        {
            _problems++;
            output.WriteLine($"  PROBLEM  {e.Message}");
        }
    }

    async Task KafkaAsync(KafkaOptions options, CancellationToken stop)
    {
        const string advice = "Check Kafka:Brokers (--kafka), Kafka:Security, CaFile and the Sasl keys, that the brokers run, and that a firewall lets this host through; then run this again";
        await TopicAsync(options, KafkaTopic.EnsureAsync);
        if (options.DeadTopic.Length > 0) await TopicAsync(options with { Topic = options.DeadTopic, DeadTopic = "", Partitions = 1 }, KafkaTopic.EnsureDeadAsync);

        async Task TopicAsync(KafkaOptions topic, Func<KafkaOptions, CancellationToken, Task<bool>> ensure)
        {
            var (made, status) = await WaitAsync($"Kafka at {options.Brokers}", advice, async () =>
            {
                var isMade = !lookOnly && await ensure(topic, stop);
                // A topic just made takes a moment to be known everywhere.
                var seen = await KafkaTopic.LookAsync(topic, topic.Topic, TimeSpan.FromSeconds(10), stop);
                return (isMade, seen);
            }, e => e is TransportUnavailableException, stop);
            var detail = status.Partitions is { } partitions ? string.Create(CultureInfo.InvariantCulture, $"{partitions} partitions, {Math.Max(1, status.Replicas)} copies") : null;
            if (made || (detail is null && !lookOnly)) Say(new InstalledPart(PartState.Made, $"topic {topic.Topic}", detail));
            else if (detail is null) Say(new InstalledPart(PartState.Missing, $"topic {topic.Topic}", "or this user may not see it"));
            else Say(new InstalledPart(PartState.Current, $"topic {topic.Topic}", detail + Differs(topic, status)));
        }
    }

    /// <summary>What an existing topic has otherwise than the options would have made it; it is its owner's.</summary>
    static string Differs(KafkaOptions wanted, KafkaTopicStatus there)
    {
        var replication = wanted.Replication > 0 ? wanted.Replication : Math.Clamp(there.Brokers, 1, 3);
        var otherwise = new List<string>();
        if (there.Partitions != wanted.Partitions) otherwise.Add($"{wanted.Partitions} partitions");
        if (there.Replicas > 0 && there.Replicas < replication) otherwise.Add($"{replication} copies");
        return (otherwise.Count == 0 ? "" : $" (new it would have {string.Join(" and ", otherwise)}; left as it is)")
            + (there.WithoutLeader > 0 ? $"; {there.WithoutLeader} of them have no leader now" : "");
    }

    async Task StoreAsync(ElasticsearchOptions options, CancellationToken stop)
    {
        var wait = new Waiting($"the store at {string.Join(", ", options.Urls)}", patience, progress);
        await using var store = new ElasticsearchTraceStore(options with { GiveUpAfter = patience }, waiting: wait.Say);
        try
        {
            foreach (var part in await store.PrepareAsync(lookOnly, stop)) Say(part);
        }
        catch (StoreUnavailableException e)
        {
            throw new SetupGaveUpException($"{e.Message.TrimEnd('.')}. Check Elasticsearch:Urls (--elasticsearch), User, Password, ApiKey and CaFile, that the server runs, and that the user may manage index templates; then run this again.", e);
        }
    }

    async Task KibanaAsync(KibanaOptions options, string indexPrefix, CancellationToken stop)
    {
        using var server = await WaitAsync($"Kibana at {options.Url}", "Start it, or check Kibana:Url (--kibana) and that a firewall lets this host through; then run this again",
            () => KibanaServer.ConnectAsync(options, stop), e => e is KibanaNotReadyException, stop);
        output.WriteLine($"{server.Product}{(server.Version is null ? "" : " " + server.Version)} at {options.Url}, {server.Place}");
        var objects = Objects(options, server, indexPrefix);
        var title = $"{objects.Count} saved objects";

        // Each step may be repeated: what was written before a failure is found as current.
        var state = await WaitAsync($"{server.Product} at {options.Url}", "Look at its log; then run this again", async () =>
        {
            var differences = objects.Differences(await server.ExportAsync(objects.Keys, stop));
            if (differences.Count > 0 && !lookOnly) await server.ImportAsync(objects, stop);
            return differences;
        }, e => e is KibanaNotReadyException, stop);

        if (state.Count == 0)
        {
            Say(new InstalledPart(PartState.Current, title));
            return;
        }

        var isNew = state.All(it => !it.IsThere);
        if (isNew && state.Count == objects.Count) Say(new InstalledPart(lookOnly ? PartState.Missing : PartState.Made, title));
        else
        {
            Say(new InstalledPart(lookOnly ? PartState.Outdated : PartState.Renewed, title, string.Create(CultureInfo.InvariantCulture, $"{state.Count} of them {(lookOnly ? "differ" : "differed")}")));
            foreach (var it in state.Take(10)) output.WriteLine($"           {it.Type} {it.Id}: {it.Reason}");
            if (state.Count > 10) output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"           and {state.Count - 10} more"));
        }
    }

    static SavedObjects Objects(KibanaOptions options, KibanaServer server, string indexPrefix)
    {
        var name = options.Objects ?? (server.Flavour == KibanaFlavour.Kibana ? "kibana-objects.ndjson" : "osd-objects.ndjson");
        try
        {
            return SavedObjects.Parse(options.Objects is null ? BuiltIn(name) : File.ReadAllText(options.Objects), indexPrefix, server.SpaceOfItsOwn);
        }
        catch (InvalidDataException e)
        {
            throw new InvalidDataException($"{name} {e.Message}", e);
        }
    }

    static string BuiltIn(string name)
    {
        using var resource = typeof(SetupCommand).Assembly.GetManifestResourceStream($"dashboards/{name}") ?? throw new InvalidDataException("is not part of this program; name a file with --objects");
        return new StreamReader(resource, Encoding.UTF8).ReadToEnd();
    }

    async Task<T> WaitAsync<T>(string what, string advice, Func<Task<T>> attempt, Func<Exception, bool> mayPass, CancellationToken stop)
    {
        var wait = new Waiting(what, patience, progress);
        var backoff = new Backoff(TimeSpan.FromMilliseconds(200), TimeSpan.FromSeconds(2));
        while (true)
        {
            try
            {
                return await attempt();
            }
            catch (Exception e) when (mayPass(e))
            {
                if (wait.IsOver) throw new SetupGaveUpException($"{e.Message.TrimEnd('.')}{wait.HowLong}. {advice}.", e);
                wait.Say(e.Message);
                await backoff.WaitAsync(stop);
            }
        }
    }

    void Say(InstalledPart part)
    {
        if (part.IsDue) _due++;
        if (part.IsChanged) _changed++;
        var word = part.State switch
        {
            PartState.Current => "ok",
            PartState.Missing => "MISSING",
            PartState.Outdated => "OLD",
            PartState.Made => "made",
            _ => "renewed",
        };
        output.WriteLine($"  {word,-8} {part.What}{(part.Detail is null ? "" : $": {part.Detail}")}");
    }

    /// <summary>Says what is waited for: at once, when the reason changes, and every ten seconds.</summary>
    sealed class Waiting(string what, TimeSpan patience, TextWriter progress)
    {
        readonly Stopwatch _since = Stopwatch.StartNew();
        string? _said;
        TimeSpan _saidAt;

        public bool IsOver => _since.Elapsed >= patience;

        public string HowLong => patience == TimeSpan.Zero ? "" : string.Create(CultureInfo.InvariantCulture, $" (waited for {_since.Elapsed.TotalSeconds:0} s)");

        public void Say(string problem)
        {
            if (patience == TimeSpan.Zero || (problem == _said && _since.Elapsed - _saidAt < SayAgainAfter)) return;
            (_said, _saidAt) = (problem, _since.Elapsed);
            progress.WriteLine(string.Create(CultureInfo.InvariantCulture, $"waiting for {what}, {_since.Elapsed.TotalSeconds:0} of {patience.TotalSeconds:0} s: {problem}"));
        }
    }

    /// <summary>A server was waited for long enough, or one knows that waiting is of no use.</summary>
    sealed class SetupGaveUpException(string message, Exception inner) : Exception(message, inner);
}
