using System.Text.Json;
using System.Text.RegularExpressions;

namespace LogTrace.EndToEnd.Dashboards;

/// <summary>The log files that the demo's pipeline read, counted by hand: what panels must agree with.</summary>
sealed partial class DemoLogs
{
    /// <summary>One line of a log file.</summary>
    public sealed record Line(JsonElement Json)
    {
        public string Name => Text("name")!;
        public string? TraceId => Text("trace_id");
        public string RpcId => Text("rpc_id") ?? "";
        public string Service => Text("service")!;
        public string Action => Text("action") ?? "";
        public string? Code => Text("code");
        public string? Uid => Text("uid");
        public bool IsDebug => Json.TryGetProperty("debug", out var debug) && debug.ValueKind == JsonValueKind.True;
        public bool IsServerSide => Name.StartsWith("request.info", StringComparison.Ordinal);
        public bool IsEntry => IsServerSide && RpcId == "1.1";
        public bool IsHttpCall => Name.StartsWith("http.", StringComparison.Ordinal);
        public bool IsSqlite => Name.StartsWith("sqlite.request", StringComparison.Ordinal);
        public long Micros => Json.TryGetProperty("duration", out var duration) ? (long)Math.Round(duration.GetDouble() * 1_000_000) : 0;
        public JsonElement Extra => Json.GetProperty("extra");

        /// <summary>5xx, or a name that says failure.</summary>
        public bool IsError => Name.EndsWith(".error", StringComparison.Ordinal) || Name is "log.alarm" or "log.exception"
            || ((IsServerSide || IsHttpCall) && int.TryParse(Code, out var code) && code is >= 500 and <= 599);

        string? Text(string member) => Json.TryGetProperty(member, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;
    }

    DemoLogs(IReadOnlyList<Line> lines, IReadOnlyDictionary<string, JsonElement> chains) => (Lines, Chains) = (lines, chains);

    public IReadOnlyList<Line> Lines { get; }

    /// <summary>The chains rebuilt from the files, without any store, by trace id.</summary>
    public IReadOnlyDictionary<string, JsonElement> Chains { get; }

    public IEnumerable<IGrouping<string, Line>> Traces => Lines.Where(line => line.TraceId is not null).GroupBy(line => line.TraceId!);

    public int Failed => Traces.Count(trace => trace.Any(line => line.IsError));

    public IEnumerable<Line> Entries => Lines.Where(line => line.IsEntry && line.Service == "gateway");

    public long Lost(string trace) => Counts(trace, "placeholder_count") + Counts(trace, "gap_count") + Counts(trace, "callee_only_count");

    public long LostInAll => Chains.Keys.Sum(Lost);

    /// <summary>Placeholders that the chains label as never recorded: known loss of the chain, but of no service.</summary>
    public long NeverRecorded { get; set; }

    /// <summary>Likely losses, which show in no id.</summary>
    public long Likely { get; set; }

    public long LostOfServices => LostInAll - NeverRecorded + Likely;

    public long InAll(string count) => Chains.Keys.Sum(trace => Counts(trace, count));

    long Counts(string trace, string count) => Chains[trace].GetProperty(count).GetInt64();

    /// <summary>An action without what differs from request to request.</summary>
    public static string Key(string action) => Number().Replace(action.Split('?')[0], "/{id}");

    public static DemoLogs Read(string folder, string rebuilt) => new(
        [.. Directory.EnumerateFiles(folder, "*.log", SearchOption.AllDirectories).SelectMany(File.ReadLines).Select(line => new Line(JsonDocument.Parse(line).RootElement))],
        rebuilt.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(chain => JsonDocument.Parse(chain).RootElement).ToDictionary(chain => chain.GetProperty("trace_id").GetString()!));

    [GeneratedRegex(@"/\d+(?=/|$)")]
    private static partial Regex Number();
}
