using System.Text.Json;

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
    }
}
