using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using LogTrace.Indexer.Chains;

namespace LogTrace.Benchmarks.Dashboards;

/// <summary>
/// How long the waterfall of a large chain takes from the server's answer to the picture, with the Vega versions that Kibana ships, in Node. Each round is a new process, as a page that is opened has nothing compiled yet.
/// </summary>
static class WaterfallBenchmark
{
    const double Bar = 3;

    /// <exception cref="InvalidOperationException">Something that it needs is not there; the message says what to do.</exception>
    public static void Run(int rounds, Report report)
    {
        if (Report.Checkout is not { } root) throw new InvalidOperationException("this runs from a checkout only: it draws the panel of kibana-objects.ndjson");
        var folder = Path.Combine(root, "tests/vega");
        var versions = Directory.Exists(Path.Combine(folder, "node_modules"))
            ? Directory.EnumerateDirectories(Path.Combine(folder, "node_modules"), "vega-?.*").Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal).ToList()
            : [];
        if (versions.Count == 0) throw new InvalidOperationException("no Vega is there: run tests/vega/install first, it needs npm");
        var spec = SpecIn(Path.Combine(root, "kibana-objects.ndjson"));
        var (whole, larger) = (ChainDocuments.MaxRows, ChainDocuments.MaxRows * 8 / 5);
        foreach (var calls in new[] { whole, larger })
        {
            var reply = LargeChain.Reply(LargeChain.Document(calls));
            report.Section(
                string.Create(CultureInfo.InvariantCulture, $"Waterfall of {calls:N0} calls"),
                $"From the server's answer ({reply.ToJsonString().Length / 1e6:0.0} MB) to the finished picture, as SVG; node {Node("--version", "").Trim()}, a new process each time; median and slowest of {rounds}."
                    + (calls > ChainDocuments.MaxRows ? string.Create(CultureInfo.InvariantCulture, $" Of it the first {ChainDocuments.MaxRows:N0} are drawn; it says: {Draw(folder, versions[0], spec, reply).More}") : ""),
                versions.Select(version =>
                {
                    var seconds = Enumerable.Range(0, rounds).Select(_ => Draw(folder, version, spec, reply).Seconds).ToArray();
                    var median = Round.Median(seconds);
                    return new Comparison($"{version}, s", Comparison.Text(median), "slowest", Comparison.Text(seconds.Max()), "", $"under {Bar}", median < Bar);
                }));
        }
    }

    static JsonNode SpecIn(string file) =>
        File.ReadLines(file).Select(line => JsonNode.Parse(line)!).Where(saved => (string?)saved["id"] == "logtrace-panel-chain-waterfall")
            .Select(saved => JsonNode.Parse((string)JsonNode.Parse((string)saved["attributes"]!["visState"]!)!["params"]!["spec"]!)!).Single();

    static (double Seconds, string? More) Draw(string folder, string version, JsonNode spec, JsonNode reply)
    {
        var job = new JsonObject
        {
            ["vega"] = version,
            ["spec"] = spec.DeepClone(),
            ["replies"] = new JsonObject { ["reply"] = reply.DeepClone() },
            ["width"] = 1300,
            ["height"] = 600,
        };
        using var answer = JsonDocument.Parse(Node(Path.Combine(folder, "render.cjs"), job.ToJsonString()));
        if (answer.RootElement.TryGetProperty("error", out var error)) throw new InvalidOperationException(error.GetString());
        if (answer.RootElement.GetProperty("isBroken").GetBoolean() || answer.RootElement.GetProperty("warnings").GetArrayLength() > 0) throw new InvalidOperationException($"{version} warns or shows a missing value");
        var more = answer.RootElement.GetProperty("texts").EnumerateArray().Select(text => text.GetString()).FirstOrDefault(text => text!.StartsWith("Only the first", StringComparison.Ordinal));
        return (answer.RootElement.GetProperty("ms").GetDouble() / 1000, more?.Trim());
    }

    static string Node(string argument, string input)
    {
        try
        {
            using var node = Process.Start(new ProcessStartInfo("node", argument) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
            node.StandardInput.WriteLine(input);
            node.StandardInput.Close();
            var output = node.StandardOutput.ReadToEnd();
            node.WaitForExit();
            return output;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            throw new InvalidOperationException("there is no node on the PATH: install Debian's package nodejs");
        }
    }
}
