using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LogTrace.Tests.Support;

/// <summary>Clears a shared server of what a test made there.</summary>
public static class ElasticsearchIndices
{
    static readonly HttpClient Client = new();

    /// <summary>Deletes the indices and templates whose names start with the prefix: one by one, as servers refuse wildcards.</summary>
    public static async Task DeleteAsync(string url, string prefix)
    {
        using var indices = JsonDocument.Parse(await Client.GetStringAsync($"{url}/{prefix}-*/_settings?filter_path=*.settings.index.uuid"));
        foreach (var some in indices.RootElement.EnumerateObject().Select(index => index.Name).Chunk(50))
            (await Client.DeleteAsync($"{url}/{string.Join(',', some)}")).EnsureSuccessStatusCode();
        foreach (var kind in new[] { "records", "chains", "calls" }) await Client.DeleteAsync($"{url}/_index_template/{prefix}-{kind}");
        foreach (var part in new[] { "settings", "lifecycle", "custom" }) await Client.DeleteAsync($"{url}/_component_template/{prefix}-{part}");
    }

    /// <summary>Copies all documents of an index to another, without what would make the calls theirs, with some members changed: what a second process may have written.</summary>
    public static async Task CopyAsync(string url, string from, string to, string changes)
    {
        await Client.PostAsync($"{url}/{from}/_refresh", null);
        var found = JsonNode.Parse(await Client.GetStringAsync($"{url}/{from}/_search"))!;
        foreach (var hit in found["hits"]!["hits"]!.AsArray())
        {
            var source = hit!["_source"]!.DeepClone().AsObject();
            source.Remove("call_versions");
            foreach (var (name, value) in JsonNode.Parse(changes)!.AsObject()) source[name] = value!.DeepClone();
            using var content = new StringContent(source.ToJsonString(), Encoding.UTF8, "application/json");
            (await Client.PutAsync($"{url}/{to}/_doc/{hit["_id"]}?refresh=true", content)).EnsureSuccessStatusCode();
        }
    }
}
