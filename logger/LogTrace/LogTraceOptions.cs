using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Serilog.Events;

namespace LogTrace;

/// <summary>
/// Who a service is, what it writes and whom it believes. <see cref="Validate"/> is called when a <see cref="TraceLogger"/> is made of it.
/// In configuration this is the section <c>LogTrace</c>, in the environment <c>LogTrace__Service</c> and so on.
/// </summary>
public sealed record LogTraceOptions
{
    /// <summary>Shortest debug key, in characters: 16.</summary>
    public const int MinDebugKeyLength = 16;

    /// <summary>Name of the service, such as <c>orders</c>; required. Letters, digits, <c>_</c>, <c>.</c> and <c>-</c>, at most 100.</summary>
    public string Service { get; init; } = "";

    /// <summary>Owner, such as <c>shop_backend</c>; required, at most 100 characters.</summary>
    public string Department { get; init; } = "";

    /// <summary>Version of the service, such as <c>1.4</c>, beginning with a digit. Records carry <c>dotnet-SERVICE-VERSION</c>.</summary>
    public string Version { get; init; } = "0";

    /// <summary>First part of <c>module</c>, such as <c>shop</c>; the service's name when empty.</summary>
    public string Application { get; init; } = "";

    /// <summary>Address of this host as records carry it; found out when empty.</summary>
    public string ServerIp { get; init; } = "";

    /// <summary>Where records go; null when they go elsewhere (another Serilog sink).</summary>
    public TraceFileOptions? File { get; init; }

    /// <summary>Lowest level that is written when no debug request asks for more.</summary>
    public LogEventLevel MinimumLevel { get; init; } = LogEventLevel.Information;

    /// <summary>Levels for sources whose name begins with the key, such as <c>Microsoft.AspNetCore</c>.</summary>
    public IReadOnlyDictionary<string, LogEventLevel> LevelOverrides { get; init; } = new Dictionary<string, LogEventLevel>();

    /// <summary>Longest text of one field, in characters: 16,384; 256 to 262,144. Longer ones are cut and say so.</summary>
    public int MaxTextLength { get; init; } = 16 * 1024;

    /// <summary>Most bytes of <c>extra</c> in one record: 65,536; 256 to 1,048,576. Members that do not fit are left out and counted in its member <c>left_out</c>.</summary>
    public int MaxExtraBytes { get; init; } = 64 * 1024;

    /// <summary>Which requests are written. Default: all.</summary>
    public TraceSamplingOptions Sampling { get; init; } = new();

    /// <summary>How measurements are written.</summary>
    public TraceMetricsOptions Metrics { get; init; } = new();

    /// <summary>
    /// Whether a request's debug lines are kept in memory until it ends, and written if it fails (throws or answers 500 and above). Every debug call is then made in full, also of requests that go well. Default
    /// false. Needs <see cref="File"/>; other sinks of the same Serilog logger do not get these lines. Sources that an override of a level that was made after <c>LogTrace(...)</c> holds back stay so.
    /// </summary>
    public bool BufferDebugUntilError { get; init; }

    /// <summary>
    /// Memory for the lines of one request that wait for its end, debug lines and records that are not sampled each: 65,536 bytes; 4,096 to 16 MiB. When it is full the oldest go, and the
    /// <c>request.info</c> says in its <c>extra</c> how many did (<c>lines_cut</c>).
    /// </summary>
    public int MaxHeldBytes { get; init; } = 64 * 1024;

    /// <summary>Memory for all lines that wait so: 64 MiB; 64 KiB to 4 GiB. When it is full, requests hold no more than they do.</summary>
    public long MaxHeldBytesOfAll { get; init; } = 64L * 1024 * 1024;

    /// <summary>What is kept out of records. Default: passwords, tokens, <c>Authorization</c> and cookies.</summary>
    public TraceMaskingOptions Masking { get; init; } = new();

    /// <summary>
    /// The key that makes <c>X-Debug: 1</c> work; all services of one system share it. Empty: nobody can. At least 16 characters, not beginning with <c>t1.</c>.
    /// </summary>
    public string DebugKey { get; init; } = "";

    /// <summary>
    /// Further keys that open like <see cref="DebugKey"/>: one per person, so that each has its own limit, or the old one while keys are changed. Callees are told
    /// with tokens of <see cref="DebugKey"/>; tokens of all these keys are taken. Default: none; at most 100.
    /// </summary>
    public IReadOnlyList<string> DebugKeys { get; init; } = [];

    /// <summary>How long the callees of a debug request are told so: 5 minutes; 10 seconds to 1 hour.</summary>
    public TimeSpan DebugTokenLifetime { get; init; } = TimeSpan.FromMinutes(5);

    /// <summary>Most debug requests that a key starts in a minute: 60; 1 to 10,000. Others are handled as if they had no key.</summary>
    public int MaxDebugRequestsPerMinute { get; init; } = 60;

    /// <summary>
    /// Most debug requests that this service handles in a minute, by whatever key or token: 6,000; 1 to 1,000,000. Others are handled without debug lines.
    /// </summary>
    public int MaxDebugHandledPerMinute { get; init; } = 6_000;

    /// <summary>
    /// Most wrong keys and tokens of one caller (one address, in IPv6 one /64) in a minute: 20; 1 to 10,000. After that none of its keys is looked at until the minute is over.
    /// </summary>
    public int MaxWrongDebugKeysPerMinute { get; init; } = 20;

    /// <summary>Whom to believe, the first network that matches; callers in none of them are ignored. Default: private and loopback addresses are trusted.</summary>
    public IReadOnlyList<CallerNetwork> Callers { get; init; } =
        [.. NetworkList.Private.Select(network => new CallerNetwork { Network = network, Trust = CallerTrust.Trust })];

    /// <summary>
    /// Reverse proxies whose <c>X-Forwarded-For</c> tells the caller's address. Default: none, so that the connection's own address counts. List the
    /// proxy that faces strangers here: else everybody who comes through it is taken for the proxy, or, when the proxy says in <c>X-Forwarded-For</c>,
    /// <c>Forwarded</c> or <c>X-Real-IP</c> for whom it asks, is believed no further than the least trusted address named there.
    /// </summary>
    public IReadOnlyList<string> KnownProxies { get; init; } = [];

    /// <summary>
    /// Hosts that are told of a debug request: addresses and networks, names, and name endings that begin with a dot; <c>*</c> alone stands for names
    /// without a dot. Default: private and loopback addresses, names without a dot, <c>.local</c>, <c>.internal</c>, <c>.svc</c>.
    /// </summary>
    public IReadOnlyList<string> InternalHosts { get; init; } = [.. NetworkList.Private, "*", ".local", ".internal", ".svc"];

    /// <summary>Names the service only: a record would print its members, and some of them are secrets.</summary>
    public override string ToString() => $"{nameof(LogTraceOptions)} {{ Service = {Service} }}";

    /// <summary>What is recorded without change in business code.</summary>
    public TraceInstrumentationOptions Instrumentation { get; init; } = new();

    /// <summary>All problems at once, one sentence each with key, value, range and what to do; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        Name(nameof(Service), Service, "the name of this service, such as orders");
        Text(nameof(Department), Department, "the owner of this service, such as shop_backend");
        if (Application.Length > 0) Name(nameof(Application), Application, "the first part of module, such as shop");
        if (Version.Length is 0 or > 64 || !char.IsAsciiDigit(Version[0]) || Version.Any(letter => letter <= ' ' || letter == '-'))
        {
            problems.Add($"LogTrace:Version is '{Version}'; it must begin with a digit and have 1 to 64 characters without blanks and dashes, such as 1.4.");
        }

        if (ServerIp.Length > 64) problems.Add($"LogTrace:ServerIp has {ServerIp.Length} characters; it must have at most 64. Leave it out to have it found out.");
        if (!Enum.IsDefined(MinimumLevel)) problems.Add($"LogTrace:MinimumLevel is {MinimumLevel}; it must be one of {string.Join(", ", Enum.GetNames<LogEventLevel>())}.");
        Range(nameof(MaxTextLength), MaxTextLength, 256, 262_144, "characters");
        Range(nameof(MaxExtraBytes), MaxExtraBytes, 256, 1_048_576, "bytes");
        if (DebugKey.Length > 0) Key(nameof(DebugKey), DebugKey);
        for (var i = 0; i < DebugKeys.Count; i++) Key($"DebugKeys:{i}", DebugKeys[i]);
        if (DebugKeys.Count > 0 && DebugKey.Length == 0) problems.Add($"LogTrace:DebugKeys has {DebugKeys.Count} keys, but LogTrace:DebugKey is ''; it must be set, callees are told with tokens of it.");
        if (DebugKeys.Count > 100) problems.Add($"LogTrace:DebugKeys has {DebugKeys.Count} keys; it must have at most 100.");

        if (DebugTokenLifetime < TimeSpan.FromSeconds(10) || DebugTokenLifetime > TimeSpan.FromHours(1))
        {
            problems.Add($"LogTrace:DebugTokenLifetime is {DebugTokenLifetime}; it must be between 00:00:10 and 01:00:00.");
        }

        Range(nameof(MaxDebugRequestsPerMinute), MaxDebugRequestsPerMinute, 1, 10_000, "requests");
        Range(nameof(MaxDebugHandledPerMinute), MaxDebugHandledPerMinute, 1, 1_000_000, "requests");
        Range(nameof(MaxWrongDebugKeysPerMinute), MaxWrongDebugKeysPerMinute, 1, 10_000, "keys");
        for (var i = 0; i < Callers.Count; i++)
        {
            Network($"Callers:{i}:Network", Callers[i].Network);
            if (!Enum.IsDefined(Callers[i].Trust)) problems.Add($"LogTrace:Callers:{i}:Trust is {Callers[i].Trust}; it must be Ignore, Accept or Trust.");
        }

        for (var i = 0; i < KnownProxies.Count; i++) Network($"KnownProxies:{i}", KnownProxies[i]);
        for (var i = 0; i < InternalHosts.Count; i++)
        {
            var host = InternalHosts[i];
            if (string.IsNullOrWhiteSpace(host) || (host.Contains('/') && !NetworkList.TryParse(host, out _)) || host.Any(char.IsWhiteSpace))
            {
                problems.Add($"LogTrace:InternalHosts:{i} is '{host}'; it must be an address, a network such as 10.0.0.0/8, a name, an ending such as .internal, or *.");
            }
        }

        problems.AddRange(Instrumentation.Validate());
        problems.AddRange(Masking.Validate());
        problems.AddRange(Sampling.Validate());
        problems.AddRange(Metrics.Validate());
        Range(nameof(MaxHeldBytes), MaxHeldBytes, 4_096, 16 * 1024 * 1024, "bytes");
        if (MaxHeldBytesOfAll < 64 * 1024 || MaxHeldBytesOfAll > 4L << 30) problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:MaxHeldBytesOfAll is {MaxHeldBytesOfAll}; it must be between 65,536 and {4L << 30:N0} bytes."));
        if (File is not null) problems.AddRange(File.Validate());
        return problems;

        // The value stays out of the message: it is a secret and this ends up in a log.
        void Key(string key, string value)
        {
            if (value.Length < MinDebugKeyLength) problems.Add($"LogTrace:{key} has {value.Length} characters; it must have at least {MinDebugKeyLength}. Leave it out to have no debug requests.");
            else if (value.Length > 1024) problems.Add($"LogTrace:{key} has {value.Length} characters; it must have at most 1,024.");
            else if (value.StartsWith(DebugGate.TokenMark, StringComparison.Ordinal)) problems.Add($"LogTrace:{key} begins with '{DebugGate.TokenMark}'; it must begin otherwise, so do the tokens that services make of it.");
            else if (value.Any(letter => letter is < ' ' or > '~') || value[0] == ' ' || value[^1] == ' ') problems.Add($"LogTrace:{key} has characters that a header cannot carry; it must be of visible ASCII, with blanks only inside.");
        }

        void Name(string key, string value, string what)
        {
            if (value.Length is 0 or > 100 || value.Any(letter => !char.IsAsciiLetterOrDigit(letter) && letter is not ('_' or '.' or '-')))
            {
                problems.Add($"LogTrace:{key} is '{value}'; it must be {what}: 1 to 100 letters, digits, '_', '.' and '-'.");
            }
        }

        void Text(string key, string value, string what)
        {
            if (string.IsNullOrWhiteSpace(value) || value.Length > 100) problems.Add($"LogTrace:{key} is '{value}'; it must be {what}: 1 to 100 characters.");
        }

        void Range(string key, int value, int lowest, int highest, string unit)
        {
            if (value >= lowest && value <= highest) return;
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:{key} is {value}; it must be between {lowest:N0} and {highest:N0} {unit}."));
        }

        void Network(string key, string value)
        {
            if (!NetworkList.TryParse(value, out _)) problems.Add($"LogTrace:{key} is '{value}'; it must be an address or a network such as 10.0.0.0/8.");
        }
    }

    /// <summary>
    /// The address other hosts reach this one by: of the interface a packet to the outside would leave through (none is sent), else loopback.
    /// </summary>
    internal static string FindServerIp()
    {
        try
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            // 192.0.2.0/24 is reserved for documentation: connecting a datagram socket only asks the routing table.
            socket.Connect(IPAddress.Parse("192.0.2.1"), 9);
            return ((IPEndPoint)socket.LocalEndPoint!).Address.ToString();
        }
        catch (SocketException)
        {
            return "127.0.0.1"; // no route: a host without network
        }
    }
}

/// <summary>Thrown when options do not hold; the message lists every problem on a line of its own.</summary>
public sealed class LogTraceOptionsException(IReadOnlyList<string> problems)
    : Exception(new StringBuilder("LogTrace cannot start:").AppendJoin("", problems.Select(problem => "\n  " + problem)).ToString())
{
    /// <summary>What is wrong, one sentence each.</summary>
    public IReadOnlyList<string> Problems { get; } = problems;
}
