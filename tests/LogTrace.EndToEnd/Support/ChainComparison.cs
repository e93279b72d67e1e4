using System.Text.Json.Nodes;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Support;

/// <summary>Holds the chains of a store against those rebuilt from the very log files, by the JSON that the commands print.</summary>
static class ChainComparison
{
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(1);

    public static async Task<string> ChainJsonAsync(string traceId, params string[] store)
    {
        await using var chain = ProgramProcess.StartIndexer(["chain", traceId, "--json", .. store]);
        (await chain.ExitCodeAsync(Deadline)).Should().Be(0, chain.Transcript);
        return chain.Output.Trim();
    }

    public static async Task StoreEqualsFilesAsync(string data, int traces, params string[] store)
    {
        var files = Directory.EnumerateFiles(data, "*.log", SearchOption.AllDirectories).Where(path => new FileInfo(path).Length > 0).ToArray();
        await using var rebuild = ProgramProcess.StartIndexer(["rebuild", "--json", .. files]);
        (await rebuild.ExitCodeAsync(Deadline)).Should().Be(0, rebuild.Transcript);
        var chains = rebuild.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        chains.Length.Should().BeGreaterThanOrEqualTo(traces);

        // Spread over the whole run, the first and the last one included.
        for (var i = 0; i < traces; i++)
        {
            var expected = WithoutPositions(chains[(int)((long)i * (chains.Length - 1) / Math.Max(1, traces - 1))]);
            var actual = WithoutPositions(await ChainJsonAsync((string)expected["trace_id"]!, store));
            actual.ToJsonString().Should().Be(expected.ToJsonString());
        }
    }

    static JsonNode WithoutPositions(string json)
    {
        var chain = JsonNode.Parse(json)!;
        foreach (var node in chain["nodes"]!.AsArray())
        {
            // How many records were placed there still has to agree, only their positions may not.
            node!["records"] = node["records"]!.AsArray().Count;
        }

        return chain;
    }
}
