using System.Diagnostics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LogTrace.Tests.Support;

/// <summary>Draws Vega specs with the versions that Kibana ships, in Node: what a panel shows, without a browser.</summary>
public static class VegaDrawing
{
    static readonly string Folder = Path.Combine(Repository.Root, "tests/vega");

    /// <summary>The version of Kibana 7.10 and those of 9.x.</summary>
    public static IReadOnlyList<string> Versions { get; } = ["vega-7.10", "vega-9.1", "vega-9.3"];

    /// <summary>Why nothing can be drawn here; null when it can.</summary>
    public static string? Missing { get; } = WhyMissing();

    static string? WhyMissing()
    {
        if (!Versions.All(version => File.Exists(Path.Combine(Folder, "node_modules", version, "build", "vega.js")))) return "tests/vega/install has not been run (./logtrace test does it where npm is)";
        try
        {
            using var node = Process.Start(new ProcessStartInfo("node", "--version") { RedirectStandardOutput = true })!;
            node.WaitForExit();
            return null;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "there is no node on the PATH: install Debian's package nodejs";
        }
    }

    /// <param name="Spec">The spec as it is in the built file.</param>
    /// <param name="Replies">For each data set that is searched for, what the server answered.</param>
    public sealed record Job(string Spec, IReadOnlyDictionary<string, JsonNode> Replies, string Version = "vega-7.10", int Width = 1000, int Height = 600);

    /// <summary>What was drawn: warnings, whether a missing value shows, all texts, named marks with the data they stand for.</summary>
    public sealed record Picture(IReadOnlyList<string> Warnings, bool IsBroken, IReadOnlyList<string> Texts, JsonElement Marks, double Milliseconds, string Svg)
    {
        public IReadOnlyList<JsonElement> MarksOf(string name) => Marks.TryGetProperty(name, out var marks) ? [.. marks.EnumerateArray()] : [];
    }

    /// <exception cref="InvalidOperationException">A spec is wrong; the message is Vega's.</exception>
    public static async Task<IReadOnlyList<Picture>> DrawAsync(IEnumerable<Job> jobs)
    {
        using var node = Process.Start(new ProcessStartInfo("node", [Path.Combine(Folder, "render.cjs")])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            StandardInputEncoding = new UTF8Encoding(false),
            StandardOutputEncoding = Encoding.UTF8,
        })!;
        var feeding = Task.Run(async () =>
        {
            foreach (var job in jobs)
            {
                var replies = new JsonObject();
                foreach (var (name, reply) in job.Replies) replies[name] = reply.DeepClone();
                await node.StandardInput.WriteLineAsync(new JsonObject
                {
                    ["vega"] = job.Version,
                    ["spec"] = JsonNode.Parse(job.Spec),
                    ["replies"] = replies,
                    ["width"] = job.Width,
                    ["height"] = job.Height,
                    ["svg"] = true,
                }.ToJsonString());
            }

            node.StandardInput.Close();
        });
        var pictures = new List<Picture>();
        while (await node.StandardOutput.ReadLineAsync() is { } line)
        {
            var answer = JsonDocument.Parse(line).RootElement;
            if (answer.TryGetProperty("error", out var error)) throw new InvalidOperationException(error.GetString());
            pictures.Add(new Picture(
                [.. answer.GetProperty("warnings").EnumerateArray().Select(warning => warning.GetString()!)], answer.GetProperty("isBroken").GetBoolean(),
                [.. answer.GetProperty("texts").EnumerateArray().Select(text => text.GetString()!)], answer.GetProperty("marks"), answer.GetProperty("ms").GetDouble(), answer.GetProperty("svg").GetString()!));
        }

        await feeding;
        await node.WaitForExitAsync();
        return pictures;
    }
}

/// <summary>A test that draws Vega specs; skipped, with what to do, where there is no Node or no Vega.</summary>
public sealed class VegaFactAttribute : FactAttribute
{
    public VegaFactAttribute() => Skip = VegaDrawing.Missing;
}

/// <summary>A test with several cases that draws Vega specs.</summary>
public sealed class VegaTheoryAttribute : TheoryAttribute
{
    public VegaTheoryAttribute() => Skip = VegaDrawing.Missing;
}
