using System.Diagnostics;
using LogTrace.EndToEnd.Support;
using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>A shipper under faults: <c>ship</c>, or one that it is compared with.</summary>
abstract class Contender : IAsyncDisposable
{
    protected static readonly TimeSpan Deadline = TimeSpan.FromMinutes(4);

    ProgramProcess? _process;

    public bool IsRunning => _process is { HasExited: false };

    /// <summary>The process that runs, or ran last.</summary>
    public ProgramProcess Process => _process ?? throw new InvalidOperationException("it was never started");

    /// <summary>Most memory that any of its processes had, as far as it was looked at, in megabytes.</summary>
    public double PeakMegabytes { get; private set; }

    /// <summary>Longest time that a gentle stop took.</summary>
    public TimeSpan LongestStop { get; private set; }

    protected abstract ProgramProcess Launch();

    /// <summary>True when it has read its configuration and looks at files.</summary>
    public abstract bool HasBegun { get; }

    public void Start()
    {
        if (IsRunning) return;
        _process = Launch();
    }

    public async Task BeginAsync()
    {
        Start();
        await Eventually.HoldsAsync(() => HasBegun || !IsRunning, $"it begins: {Process.Transcript}", Deadline);
        if (!IsRunning) throw new InvalidOperationException($"It ended by itself: {Process.Transcript}");
    }

    public void LookAtMemory()
    {
        if (IsRunning) PeakMegabytes = Math.Max(PeakMegabytes, Process.PeakMegabytes());
    }

    public async Task KillAsync()
    {
        LookAtMemory();
        if (IsRunning) await Process.KillAsync();
        await Process.DisposeAsync();
    }

    /// <summary>SIGTERM.</summary>
    public async Task StopAsync()
    {
        if (!IsRunning) return;
        LookAtMemory();
        var watch = Stopwatch.StartNew();
        await Process.StopAsync(TimeSpan.FromMinutes(2));
        if (watch.Elapsed > LongestStop) LongestStop = watch.Elapsed;
        await Process.DisposeAsync();
    }

    /// <summary>Brings over whatever is left, then ends.</summary>
    public abstract Task FinishAsync();

    public async ValueTask DisposeAsync()
    {
        if (_process is not null) await _process.DisposeAsync();
    }
}

/// <summary><c>./logtrace ship</c>.</summary>
sealed class LogTraceShipper(FaultCase of) : Contender
{
    public string DataDirectory { get; } = of.Folder["ship"];

    /// <summary>Programs that start it, such as <c>setpriv</c> with its arguments.</summary>
    public string[] Through { get; set; } = [];

    /// <summary>Keys of its configuration.</summary>
    public Dictionary<string, string> Settings { get; } = [];

    public Checkpoint? Saved => CheckpointFile.TryRead(Path.Combine(DataDirectory, "shipper"));

    public string DeadLetterPath => Path.Combine(DataDirectory, "shipper", "dead-letter.jsonl");

    /// <summary>Lines that are settled according to the newest checkpoint.</summary>
    public long SettledLines => Saved?.Counts.ReadLines ?? 0;

    public override bool HasBegun => Process.Errors.Contains("Shipping ", StringComparison.Ordinal);

    string[] Arguments => ["ship", .. of.Globs, "--kafka", of.Address, "--topic", of.Topic, "--data", DataDirectory];

    protected override ProgramProcess Launch() => Launch(Arguments);

    /// <summary>Another shipper on the same files and state.</summary>
    public ProgramProcess LaunchSecond() => Launch(Arguments);

    ProgramProcess Launch(string[] arguments) =>
        ProgramProcess.StartShipperThrough(Through, Settings.ToDictionary(setting => "LOGTRACE__" + setting.Key.Replace(":", "__", StringComparison.Ordinal), setting => setting.Value), arguments);

    /// <summary>Waits until so many lines are settled.</summary>
    public async Task SettleAsync(long lines)
    {
        await Eventually.HoldsAsync(() => SettledLines >= lines || !IsRunning, $"{lines} lines are settled", Deadline);
        if (SettledLines < lines) throw new InvalidOperationException($"It ended by itself with {SettledLines} of {lines} lines settled: {Process.Transcript}");
    }

    /// <summary>Waits until it has found a file.</summary>
    public Task FindAsync(string path) => Eventually.HoldsAsync(() => Process.Errors.Contains($"Found {path}", StringComparison.Ordinal), $"{path} is found: {Process.Transcript}", Deadline);

    public override async Task FinishAsync()
    {
        await StopAsync();
        await using var last = Launch([.. Arguments, "--once"]);
        var code = await last.ExitCodeAsync(Deadline);
        if (code != 0) throw new InvalidOperationException($"The last run, with --once, ended with {code}: {last.Transcript}");
    }
}

/// <summary>rsyslog, as the one shipper to Kafka that Debian has, with the settings that lose least of those that keep its throughput.</summary>
sealed class RsyslogShipper(FaultCase of) : Contender
{
    // It says nothing when it has begun.
    public override bool HasBegun => File.Exists(of.Folder["rsyslog/stats.json"]);

    protected override ProgramProcess Launch()
    {
        var work = of.Folder["rsyslog"];
        Directory.CreateDirectory(Path.Combine(work, "state"));
        File.WriteAllText(Path.Combine(work, "rsyslog.conf"), $$"""
            global(workDirectory="{{work}}/state" maxMessageSize="1m" parser.escapeControlCharactersOnReceive="off")
            module(load="imfile" mode="inotify")
            module(load="omkafka")
            module(load="mmjsonparse")
            module(load="impstats" interval="2" format="json" resetCounters="off" log.syslog="off" log.file="{{work}}/stats.json")
            template(name="raw" type="string" string="%msg%")
            template(name="tkey" type="string" string="%$!trace_id%")
            input(type="imfile" file="{{of.Globs[0]}}" tag="app:" ruleset="ship" addMetadata="off"
                  reopenOnTruncate="on" persistStateInterval="10000" persistStateAfterSubmission="on")
            ruleset(name="ship" queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="2048" queue.workerThreads="1") {
              action(type="mmjsonparse" cookie="")
              action(type="omkafka" broker=["{{of.Address.Replace(",", "\",\"")}}"] topic="{{of.Topic}}" key="tkey" dynaKey="on" partitions.auto="on" template="raw"
                     resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="{{work}}/state/failed.msgs" errorFile="{{work}}/kafka-errors.json"
                     action.resumeRetryCount="-1" action.resumeInterval="1" closeTimeout="30000"
                     confParam=["linger.ms=50","compression.codec=lz4","batch.num.messages=10000","queue.buffering.max.messages=500000","enable.idempotence=true"]
                     topicConfParam=["acks=all","message.timeout.ms=300000"])
            }

            """);
        return ProgramProcess.Start(Rsyslog.Program, "-n", "-iNONE", "-f", Path.Combine(work, "rsyslog.conf"));
    }

    /// <summary>It never says that it has finished: it has when nothing more arrives for a good while.</summary>
    public override async Task FinishAsync()
    {
        Start();
        var (count, since) = (0L, Stopwatch.StartNew());
        await Eventually.HoldsAsync(() =>
        {
            var now = TopicContent.Count(of.Broker.Address, of.Topic);
            if (now != count) since.Restart();
            count = now;
            return since.Elapsed > TimeSpan.FromSeconds(10);
        }, "it comes to rest", Deadline);
        await KillAsync();
    }
}

/// <summary>What Debian has of rsyslog.</summary>
static class Rsyslog
{
    public const string Program = "/usr/sbin/rsyslogd";

    /// <summary>Why it cannot be run; null when it can.</summary>
    public static string? Missing { get; } =
        !File.Exists(Program) ? "no rsyslogd: install Debian's packages rsyslog, rsyslog-kafka and rsyslog-elasticsearch"
        : !Has("omkafka.so") ? "no omkafka: install Debian's package rsyslog-kafka"
        : !Has("omelasticsearch.so") ? "no omelasticsearch: install Debian's package rsyslog-elasticsearch"
        : null;

    static bool Has(string module) => Directory.EnumerateFiles("/usr/lib", module, new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 3, IgnoreInaccessible = true }).Any();
}
