using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using LogTrace.Indexer.Store;
using LogTrace.Shipper;
using LogTrace.Transport;
using Microsoft.Extensions.Logging.Abstractions;

namespace LogTrace.Indexer.Commands;

/// <summary><c>doctor</c>: looks at everything that ship and index need, changes nothing, and says what to do about what is wrong.</summary>
static class DoctorCommand
{
    public static Command Create()
    {
        var patterns = ShipCommand.Patterns();
        var kafka = CommonOptions.Kafka();
        var elasticsearch = CommonOptions.Elasticsearch();
        var data = new Option<string?>("--data") { HelpName = "DIR", Description = "directory of checkpoints and embedded store (default logtrace-data)" };
        var config = new Option<string[]>("--config") { HelpName = "FILE", Description = "configuration file; may be repeated (default shipper.json and indexer.json in the current directory, as far as they are there)" };
        var command = new Command("doctor", "Checks configuration, files, permissions, limits, disk, clock, Kafka and the store; each finding says what to do. Changes nothing; exit 1 if something has to be done.")
        {
            patterns, kafka, elasticsearch, data, config,
        };
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            KeyValuePair<string, string?>[] flags =
            [
                .. Settings.List("Shipper:Paths", parsed.GetValue(patterns)), new("Kafka:Brokers", parsed.GetValue(kafka)),
                new("Shipper:DataDirectory", parsed.GetValue(data)), new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch)),
            ];
            var given = parsed.GetValue(config) ?? [];
            var files = given.Length > 0 ? given : [.. ((string[])["shipper.json", CommonOptions.ConfigurationFile]).Where(File.Exists)];
            var doctor = new Doctor(Console.Out);
            if (files.Length == 0) await doctor.LookAsync(null, Settings.Load(null, "shipper.json", flags), stop);
            foreach (var file in files)
            {
                try
                {
                    await doctor.LookAsync(file, Settings.Load(file, file, flags), stop);
                }
                catch (SettingsException e)
                {
                    doctor.Problem($"{file}: {e.Message}", null);
                }
            }

            return doctor.Sum();
        }));
        return command;
    }
}

/// <summary>Looks, counts and says. One finding a line: <c>ok</c>, <c>warning</c> or <c>PROBLEM</c>, then what was found, then what to do.</summary>
sealed class Doctor(TextWriter output)
{
    const int MaxFilesTried = 10_000;
    const long LittleSpace = 100L << 20;
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(10);
    static readonly TimeSpan SkewSaid = TimeSpan.FromSeconds(5);
    static readonly TimeSpan SkewBad = TimeSpan.FromMinutes(1);

    // Nothing of this program can be older.
    static readonly DateTimeOffset Earliest = new(2025, 1, 1, 0, 0, 0, TimeSpan.Zero);

    int _problems;
    int _warnings;

    public async Task LookAsync(string? file, Settings settings, CancellationToken stop)
    {
        output.WriteLine(file is null ? "no configuration file; defaults, environment and flags" : $"{file}, environment and flags");
        var shipper = Section(() => settings.Section<ShipperOptions>("Shipper"));
        var kafka = Section(() => settings.Section<KafkaOptions>("Kafka"));
        var indexer = Section(() => settings.Section<IndexerOptions>("Indexer"));
        if (shipper is { Paths.Count: > 0 }) Check(shipper.Validate());
        if (indexer is not null) Check(indexer.Validate());
        if (shipper is not null)
        {
            LookAtFiles(shipper);
            LookAtState(shipper);
        }

        LookAtClock();
        if (kafka is not null && settings.Has("Kafka"))
        {
            var problems = kafka.Validate();
            Check(problems);
            if (problems.Count == 0) await LookAtKafkaAsync(kafka, stop);
        }

        if (settings.Has("Elasticsearch"))
        {
            var store = Section(() => settings.Section<ElasticsearchOptions>("Elasticsearch"));
            if (store is not null && settings.Values("Elasticsearch:Urls") is { Count: > 0 } urls) store = store with { Urls = urls };
            if (store is not null)
            {
                var problems = store.Validate();
                Check(problems);
                if (problems.Count == 0) await LookAtElasticsearchAsync(store, stop);
            }
        }
        else if (shipper is not null)
        {
            LookAtEmbeddedStore(Path.Combine(Path.GetFullPath(shipper.DataDirectory), "store"));
        }
    }

    /// <returns>The exit code.</returns>
    public int Sum()
    {
        output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{_problems} problems, {_warnings} warnings"));
        return _problems == 0 ? 0 : 1;
    }

    T? Section<T>(Func<T> read)
        where T : class
    {
        try
        {
            return read();
        }
        catch (SettingsException e)
        {
            Problem(e.Message, null);
            return null;
        }
    }

    // Their messages say what to do.
    void Check(IEnumerable<string> problems)
    {
        foreach (var problem in problems) Problem(problem, null);
    }

    void LookAtFiles(ShipperOptions options)
    {
        if (options.Paths.Count == 0)
        {
            Warning("no log files are named", "name them as './logtrace doctor \"/var/log/app/*.log\"', or in Shipper:Paths, to have them looked at");
            return;
        }

        var all = 0;
        string? hintProblem = null;
        using var hints = options.Hints ? FileHints.TryOpen(out hintProblem, TimeProvider.System) : null;
        hints?.BeginSearch();
        foreach (var pattern in options.Paths)
        {
            var discovery = new FileDiscovery([pattern], options.Exclude, options.StateDirectory);
            var found = discovery.Find(hints);
            all += found.Count;
            foreach (var (directory, reason) in discovery.Unreadable.Take(5)) Problem($"{directory} cannot be looked into: {reason}", $"give this user the right to read and enter it: setfacl -m u:{Environment.UserName}:rx {directory}");
            if (found.Count == 0)
            {
                Warning($"{pattern} matches no file", "check the pattern, and quote it so that the shell leaves it alone; it is found as soon as there is one");
                continue;
            }

            var locked = found.Take(MaxFilesTried).Where(it => !CanRead(it.Path)).Select(it => it.Path).ToList();
            if (locked.Count > 0) Problem($"{pattern}: {locked.Count:N0} of {found.Count:N0} files cannot be read, such as {locked[0]}", $"give this user the right to read them: setfacl -m u:{Environment.UserName}:r {locked[0]}; and tell whatever rotates them to keep it");
            else Fine($"{pattern}: {found.Count:N0} files, all can be read");
        }

        hints?.EndSearch();
        if (!options.Hints) Fine("inotify is not used, as Shipper:Hints says: all files are looked at all the time");
        else if ((hintProblem ?? hints?.Problem) is { } problem) Warning($"inotify cannot tell of all changes: {problem}", "nothing is lost by it: files are then looked at all the time, which takes more of the processor; or set Shipper:Hints to false");
        else Fine($"inotify tells of changes in {hints!.Watched:N0} directories, so that quiet files are looked at every {options.QuietInterval.TotalSeconds:0.###} s only; without it they would be looked at all the time");
        if (Native.MaxDescriptors() is not { } most) return;
        var wanted = Math.Min(options.MaxOpenFiles, all) + 192;
        if (wanted > most) Warning($"{all:N0} files, and this process may open {most:N0}", "the shipper then closes and opens them in turn; raise the limit (ulimit -n, LimitNOFILE= of the service) to spare that");
        else Fine($"open files: {most:N0} allowed, {wanted:N0} needed at most");
    }

    static bool CanRead(string path)
    {
        try
        {
            File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete).Dispose();
            return true;
        }
        catch (FileNotFoundException)
        {
            return true; // rotated this moment
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    void LookAtState(ShipperOptions options)
    {
        var directory = options.StateDirectory;
        var exists = Directory.Exists(directory);
        // What is not there yet is made in the nearest directory that is.
        var place = directory;
        while (!Directory.Exists(place))
        {
            if (File.Exists(place))
            {
                Problem($"state directory {directory} cannot be made: {place} is a file", "move it away, or name another directory with --data");
                return;
            }

            place = Path.GetDirectoryName(place)!;
        }

        var probe = Path.Combine(place, $".logtrace-doctor-{Environment.ProcessId}");
        try
        {
            File.WriteAllText(probe, "");
            File.Delete(probe);
            Fine(exists ? $"state directory {directory} can be written to" : $"state directory {directory} is not there yet and can be made");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Problem($"state directory {directory} cannot be written to: {e.Message}", $"make it this user's: install -d -o {Environment.UserName} {directory}; or name another with --data");
            return;
        }

        try
        {
            var space = new DriveInfo(place);
            if (space.AvailableFreeSpace < LittleSpace) Problem($"{space.AvailableFreeSpace >> 20:N0} MB are free where {place} is", "free some: without it no checkpoint can be saved and no line set aside");
            else if (space.AvailableFreeSpace < options.DeadLetterBytes) Warning($"{space.AvailableFreeSpace >> 20:N0} MB are free where {place} is, and the dead letter may grow to {options.DeadLetterBytes >> 20:N0}", "free some, or lower Shipper:DeadLetterBytes");
            else Fine($"disk: {space.AvailableFreeSpace >> 20:N0} MB free where {place} is");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            Warning($"free space where {place} is cannot be learnt: {e.Message}", "look at it with df");
        }

        if (!exists) return;
        var slots = Directory.GetFiles(directory, "checkpoint-?.jsonl");
        if (CheckpointFile.TryRead(directory) is { } checkpoint)
        {
            Fine(string.Create(CultureInfo.InvariantCulture, $"checkpoint: {checkpoint.Files.Count:N0} files, read {checkpoint.Counts.ReadLines:N0} = shipped {checkpoint.Counts.ShippedLines:N0} + set aside {checkpoint.Counts.SetAsideLines:N0} + blank {checkpoint.Counts.BlankLines:N0} lines"));
            if (!checkpoint.Counts.Balances) Problem("the counts of the checkpoint do not balance", "please report this with the files of the state directory");
            if (checkpoint.Counts.LostBytes > 0) Warning($"{checkpoint.Counts.LostBytes:N0} bytes were emptied or overwritten before they were read", "rotate by renaming (logrotate: create), or copy before emptying in the same directory");
        }
        else if (slots.Length > 0)
        {
            Problem($"no checkpoint in {directory} is whole", "the next start reads all files again, which the store recognises; if that is not wanted, put a copy of the directory back first");
        }

        var letters = new FileInfo(options.DeadLetterPath);
        if (!letters.Exists || letters.Length == 0) Fine("the dead letter is empty");
        else if (letters.Length > options.DeadLetterBytes * 9 / 10) Problem($"{letters.FullName} has {letters.Length >> 20:N0} of {options.DeadLetterBytes >> 20:N0} MB; when it is full, reading stops", $"look at the reasons in it, send again what can be ('./logtrace ship --replay {letters.FullName}'), then move it away");
        else Warning($"{letters.FullName} has {letters.Length:N0} bytes of lines that were set aside", $"look at the reasons in it; './logtrace ship --replay {letters.FullName}' sends them again");
    }

    void LookAtClock()
    {
        var now = DateTimeOffset.UtcNow;
        if (now < Earliest) Problem($"the clock says {now:O}", "set it (timedatectl set-ntp true): records are filed by their day");
        else Fine($"clock: {now.ToString("yyyy-MM-dd HH:mm:ss", CultureInfo.InvariantCulture)} UTC");
    }

    async Task LookAtKafkaAsync(KafkaOptions options, CancellationToken stop)
    {
        try
        {
            var records = await KafkaTopic.LookAsync(options, options.Topic, Patience, stop);
            Fine($"Kafka at {options.Brokers}: {records.Brokers:N0} brokers");
            LookAtTopic(options.Topic, records, options.Partitions);
            if (options.DeadTopic.Length > 0) LookAtTopic(options.DeadTopic, await KafkaTopic.LookAsync(options, options.DeadTopic, Patience, stop), 1);
        }
        catch (TransportUnavailableException e)
        {
            Problem(e.Message, "check Kafka:Brokers (or --kafka), Kafka:Security, CaFile and the Sasl keys, and that a firewall lets this host through; lines wait in their files meanwhile");
        }
    }

    void LookAtTopic(string topic, KafkaTopicStatus status, int wanted)
    {
        if (status.Partitions is not { } partitions)
        {
            Warning($"topic {topic} is not there, or this user may not see it", $"ship and index make it with {wanted:N0} partitions if this user may create topics; else let somebody create it");
            return;
        }

        if (status.WithoutLeader > 0) Problem($"topic {topic}: {status.WithoutLeader:N0} of {partitions:N0} partitions have no leader", "bring the brokers back that have them; their lines wait");
        else if (status.Replicas < Math.Min(3, status.Brokers)) Warning($"topic {topic}: {partitions:N0} partitions with {status.Replicas:N0} copies on {status.Brokers:N0} brokers", "raise its replication to 3 (kafka-reassign-partitions) and min.insync.replicas to 2, so that losing one broker loses nothing");
        else Fine($"topic {topic}: {partitions:N0} partitions, {status.Replicas:N0} copies");
    }

    async Task LookAtElasticsearchAsync(ElasticsearchOptions options, CancellationToken stop)
    {
        using var http = new ElasticsearchHttp(options with { GiveUpAfter = Patience / 2, Timeout = Patience }, NullLogger.Instance);
        try
        {
            // It says the time, too.
            var health = await http.SendAsync(HttpMethod.Get, "/_cat/health?format=json", null, stop, 403);
            var received = DateTimeOffset.UtcNow;
            if (health.Status == 403) Warning($"{options.Urls[0]} answers, and this user may not ask how it is", "give it the cluster privilege monitor to have that looked at");
            else LookAtHealth(options.Urls[0], health.Body, received);
            foreach (var kind in (string[])["records", "chains", "calls"])
            {
                var template = await http.SendAsync(HttpMethod.Get, $"/_index_template/{options.IndexPrefix}-{kind}", null, stop, 403, 404);
                if (template.Status == 404) Warning($"index template {options.IndexPrefix}-{kind} is not there yet", "index puts it there when it starts");
                else if (template.Status == 403) Warning($"this user may not see the index template {options.IndexPrefix}-{kind}", "index needs the cluster privilege manage_index_templates, or the template put there by somebody else");
                else Fine($"index template {options.IndexPrefix}-{kind} is there");
            }
        }
        catch (StoreUnavailableException e)
        {
            Problem(e.Message, "check Elasticsearch:Urls (or --elasticsearch), User, Password, ApiKey and CaFile, and that the server runs");
        }
    }

    void LookAtHealth(string url, byte[] body, DateTimeOffset received)
    {
        using var json = JsonDocument.Parse(body);
        if (json.RootElement.ValueKind != JsonValueKind.Array || json.RootElement.GetArrayLength() == 0) return;
        var row = json.RootElement[0];
        var status = row.TryGetProperty("status", out var value) ? value.GetString() : null;
        if (status == "red") Problem($"{url}: the cluster is red, some shards are missing", "look at GET /_cluster/allocation/explain; records for these indices wait");
        else Fine($"{url}: the cluster is {status ?? "there"}");

        if (!row.TryGetProperty("epoch", out var epoch) || !long.TryParse(epoch.ToString(), CultureInfo.InvariantCulture, out var seconds)) return;
        var skew = (DateTimeOffset.FromUnixTimeSeconds(seconds) - received).Duration();
        if (skew > SkewBad) Problem($"this clock and the store's differ by {skew.TotalSeconds:F0} s", "set both by NTP: times of records and their days would disagree");
        else if (skew > SkewSaid) Warning($"this clock and the store's differ by {skew.TotalSeconds:F0} s", "set both by NTP");
        else Fine("this clock and the store's agree");
    }

    void LookAtEmbeddedStore(string directory)
    {
        if (!Directory.Exists(directory)) return;
        var days = Directory.GetFiles(directory, "*.db");
        Fine($"embedded store {directory}: {days.Length:N0} files, {days.Sum(day => new FileInfo(day).Length) >> 20:N0} MB");
    }

    void Fine(string what) => output.WriteLine($"  ok       {what}");

    void Warning(string what, string fix)
    {
        _warnings++;
        output.WriteLine($"  warning  {what}\n           -> {fix}");
    }

    public void Problem(string what, string? fix)
    {
        _problems++;
        output.WriteLine($"  PROBLEM  {what}{(fix is null ? "" : $"\n           -> {fix}")}");
    }
}
