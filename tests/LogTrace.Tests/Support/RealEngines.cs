using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Reflection;
using System.Text.RegularExpressions;
using Xunit.Sdk;

namespace LogTrace.Tests.Support;

/// <summary>
/// The real servers that tests run against: those named by <c>LOGTRACE_TEST_KAFKA</c> and <c>LOGTRACE_TEST_ELASTICSEARCH</c>, else servers
/// started here, each once per test run, when first asked for, on free ports. They end with the test process, however it ends.
/// </summary>
public static class RealEngines
{
    public const string KafkaVariable = "LOGTRACE_TEST_KAFKA";
    public const string ElasticsearchVariable = "LOGTRACE_TEST_ELASTICSEARCH";

    // First: what follows asks whether it is there.
    internal static string Script { get; } = Given("LOGTRACE_ENGINES") ?? Path.GetFullPath(Path.Combine(Repository.Root, "../shared/engines/engine"));

    static readonly string? GivenKafka = Given(KafkaVariable);
    static readonly string? GivenElasticsearch = Given(ElasticsearchVariable);
    static readonly string? CannotStart = WhyCannotStart();
    static readonly ConcurrentDictionary<string, Lazy<Task<RealEngine>>> Shared = new();

    /// <summary>Why there is no Kafka to test against; null when there is one.</summary>
    public static string? KafkaMissing { get; } = Missing("Kafka", GivenKafka, KafkaVariable);

    /// <summary>Why there is no Elasticsearch to test against; null when there is one.</summary>
    public static string? ElasticsearchMissing { get; } = Missing("Elasticsearch", GivenElasticsearch, ElasticsearchVariable);

    /// <summary>Why no server of the test's own can be started; null when it can.</summary>
    public static string? OwnMissing { get; } = CannotStart is null ? null : $"needs a server it may break: {CannotStart}";

    /// <summary>What <see cref="ElasticsearchAsync"/> takes here: the three engines, or the one server of the environment.</summary>
    public static IReadOnlyList<string> Elasticsearches { get; } =
        GivenElasticsearch is null ? ["elasticsearch7", "opensearch2", "elasticsearch8"] : [GivenElasticsearch];

    /// <summary>The bootstrap address of the Kafka that all tests of this run share: use a topic and a group of your own.</summary>
    public static async Task<string> KafkaAsync() => GivenKafka ?? (await SharedAsync("kafka")).Address;

    /// <summary>The URL of the Elasticsearch or OpenSearch that all tests of this run share: use index names of your own.</summary>
    /// <param name="engine">One of <see cref="Elasticsearches"/>.</param>
    public static async Task<string> ElasticsearchAsync(string engine) => GivenElasticsearch ?? (await SharedAsync(engine)).Address;

    /// <summary>Starts a server that only the caller uses, and may kill, pause and start again.</summary>
    /// <param name="name">kafka, kafka3, elasticsearch7, opensearch2 or elasticsearch8.</param>
    /// <param name="secure">With TLS, user and password, see <see cref="RealEngine.CaFile"/>.</param>
    public static Task<RealEngine> StartOwnAsync(string name, bool secure = false) => RealEngine.StartAsync(name, secure);

    static Task<RealEngine> SharedAsync(string name) =>
        Shared.GetOrAdd(name, key => new Lazy<Task<RealEngine>>(() => RealEngine.StartAsync(key, secure: false))).Value;

    static string? Given(string variable) => Environment.GetEnvironmentVariable(variable) is { Length: > 0 } value ? value : null;

    static string? Missing(string what, string? given, string variable) =>
        given is not null || CannotStart is null ? null : $"no {what} to test against: {CannotStart}; set {KafkaVariable} (host:port) and {ElasticsearchVariable} (URL) to use servers of your own";

    static string? WhyCannotStart()
    {
        if (!File.Exists(Script)) return $"{Script} is absent";
        try
        {
            using var java = Process.Start(new ProcessStartInfo(Given("JAVA") ?? "java", "-version") { RedirectStandardError = true, RedirectStandardOutput = true })!;
            var says = java.StandardError.ReadToEnd();
            java.WaitForExit();
            var version = Regex.Match(says, "version \"(\\d+)");
            return version.Success && int.Parse(version.Groups[1].Value) >= 17 ? null : "Java 17 is needed, not: " + says.Split('\n')[0];
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "there is no java on the PATH (17 is needed)";
        }
    }
}

/// <summary>One running server, on loopback.</summary>
public sealed class RealEngine : IAsyncDisposable
{
    readonly string _name;
    readonly int _port;
    readonly string _options;

    RealEngine(string name, int port, string options, string[] ready) => (_name, _port, _options, Address, CaFile) = (name, port, options, ready[2], ready[^2] == "ca" ? ready[^1] : null);

    /// <summary>The authority that signed a secure server's certificate.</summary>
    public string? CaFile { get; }

    /// <summary>Where a secure Kafka takes SASL over TLS: user logtrace, password logtrace-test, PLAIN or SCRAM-SHA-256.</summary>
    public string SecureKafkaAddress => $"localhost:{_port + 2}";

    /// <summary>host:port of Kafka, else a URL.</summary>
    public string Address { get; }

    internal static async Task<RealEngine> StartAsync(string name, bool secure)
    {
        var options = secure ? "--secure" : "";
        for (var attempt = 1; ; attempt++)
        {
            var port = FreePort();
            try
            {
                var ready = await EngineKeeper.TellAsync("start", name, port, options);
                return new RealEngine(name, port, options, ready.Split(' '));
            }
            catch (InvalidOperationException) when (attempt < 3)
            {
                // Somebody took one of the ports between the look and the start; the next ones are others.
            }
        }
    }

    /// <summary>Starts it again, with its data, after a kill or a stop; returns when it answers.</summary>
    /// <param name="node">One broker of kafka3, from 1; by default all there are.</param>
    public Task StartAgainAsync(int? node = null) => EngineKeeper.TellAsync("start", _name, _port, $"{_options} {Node(node)}");

    /// <summary>kill -9.</summary>
    public Task KillAsync(int? node = null) => EngineKeeper.TellAsync("kill", _name, _port, Node(node));

    /// <summary>Makes it hang (SIGSTOP) until <see cref="ResumeAsync"/>.</summary>
    public Task PauseAsync() => EngineKeeper.TellAsync("pause", _name, _port);

    public Task ResumeAsync() => EngineKeeper.TellAsync("resume", _name, _port);

    public async ValueTask DisposeAsync() => await EngineKeeper.TellAsync("wipe", _name, _port);

    static string Node(int? node) => node is null ? "" : $"--node {node}";

    /// <summary>A port that is free with those the servers derive from it, below the range the system itself hands out.</summary>
    static int FreePort()
    {
        while (true)
        {
            var port = Random.Shared.Next(20_000, 32_000);
            if (new[] { port, port + 1, port + 2, port + 10, port + 11, port + 20, port + 21, port + 100 }.All(IsFree)) return port;
        }
    }

    static bool IsFree(int port)
    {
        try
        {
            using var listener = new TcpListener(IPAddress.Loopback, port);
            listener.Start();
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}

/// <summary>
/// The shell that starts the servers and outlives the tests by a moment: when its input ends, which it does however the test process ends, it
/// kills them and deletes their data. It sits in a session of its own, so that Ctrl-C does not reach it, and what it starts it has written
/// down before it reads on, so that no server is ever forgotten. Should it be killed itself, the next one finds the folder unlocked and clears it.
/// </summary>
static class EngineKeeper
{
    const string Shell = """
        engine=$1; state=$2
        end_all() {
          for d in "$1"/*-[0-9]*/; do
            [ -d "$d" ] || continue
            b=$(basename "$d"); ENGINES_STATE=$1 "$engine" kill "${b%-*}" --port "${b##*-}" >/dev/null 2>&1
          done
          rm -rf "$1"
        }
        mkdir -p "$state"; exec 9>"$state/owner"; flock 9
        for old in "${state%-*}"-*; do
          [ "$old" = "$state" ] || [ ! -e "$old/owner" ] || ! flock -n "$old/owner" true || end_all "$old"
        done
        while read -r verb name port options; do
          if ENGINES_STATE=$state "$engine" "$verb" "$name" --port "$port" $options </dev/null 9>&- >"$state/answer" 2>"$state/errors"
          then echo "DONE $(tail -n 1 "$state/answer")"
          else echo "FAILED $(tail -n 5 "$state/errors" | tr '\n' ' ')"
          fi
        done
        end_all "$state"
        """;

    static readonly SemaphoreSlim OneAtATime = new(1);
    static Process? _shell;

    /// <summary>Runs an engine command; the answer is its last line.</summary>
    /// <exception cref="InvalidOperationException">The command failed; the message has what it said.</exception>
    public static async Task<string> TellAsync(string verb, string name, int port, string options = "")
    {
        await OneAtATime.WaitAsync();
        try
        {
            _shell ??= Start();
            await _shell.StandardInput.WriteLineAsync($"{verb} {name} {port} {options}");
            await _shell.StandardInput.FlushAsync();
            var answer = await _shell.StandardOutput.ReadLineAsync() ?? throw new InvalidOperationException("the shell that keeps the engines has ended");
            if (!answer.StartsWith("DONE ", StringComparison.Ordinal)) throw new InvalidOperationException($"engine {verb} {name} --port {port}: {answer}");
            return answer["DONE ".Length..];
        }
        finally
        {
            OneAtATime.Release();
        }
    }

    static Process Start()
    {
        var state = Path.Combine(Path.GetTempPath(), $"logtrace-test-engines-{Environment.ProcessId}");
        var start = new ProcessStartInfo("setsid", ["sh", "-c", Shell, "sh", RealEngines.Script, state]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        // They live for minutes: with the quick compiler alone they take half the processor time, which on a machine of two cores is what the tests wait for.
        start.Environment["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1";
        var shell = Process.Start(start)!;
        AppDomain.CurrentDomain.ProcessExit += (_, _) =>
        {
            shell.StandardInput.Close();
            shell.WaitForExit(TimeSpan.FromSeconds(5));
        };
        return shell;
    }
}

/// <summary>A test that needs a real Kafka; skipped, with the reason, where there is none.</summary>
public sealed class RealKafkaFactAttribute : FactAttribute
{
    public RealKafkaFactAttribute() => Skip = RealEngines.KafkaMissing;
}

/// <summary>A test with several cases that needs a real Kafka and a real Elasticsearch.</summary>
public sealed class RealKafkaTheoryAttribute : TheoryAttribute
{
    public RealKafkaTheoryAttribute() => Skip = RealEngines.KafkaMissing ?? RealEngines.ElasticsearchMissing;
}

/// <summary>A test that kills or pauses servers of its own, see <see cref="RealEngines.StartOwnAsync"/>.</summary>
public sealed class OwnEngineFactAttribute : FactAttribute
{
    public OwnEngineFactAttribute() => Skip = RealEngines.OwnMissing;
}

/// <summary>A test that needs a real Elasticsearch; give it <see cref="EveryElasticsearchAttribute"/> for its data.</summary>
public sealed class RealElasticsearchTheoryAttribute : TheoryAttribute
{
    public RealElasticsearchTheoryAttribute() => Skip = RealEngines.ElasticsearchMissing;
}

/// <summary>One row for each of <see cref="RealEngines.Elasticsearches"/>: the argument for <see cref="RealEngines.ElasticsearchAsync"/>.</summary>
public sealed class EveryElasticsearchAttribute : DataAttribute
{
    public override IEnumerable<object[]> GetData(MethodInfo testMethod) => RealEngines.Elasticsearches.Select(engine => new object[] { engine });
}
