using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace LogTrace.Benchmarks.Indexer;

/// <summary>What the benchmark asks of Elasticsearch.</summary>
sealed class SearchServer(OwnServer server) : IDisposable
{
    const int PageSize = 5_000;

    readonly HttpClient _http = new() { BaseAddress = new Uri(server.Address), Timeout = TimeSpan.FromMinutes(5) };

    /// <summary>Documents written to these indices so far, also those that no search sees yet.</summary>
    public async Task<long> WrittenAsync(string indices)
    {
        using var json = await JsonAsync(HttpMethod.Get, $"/{indices}/_stats/indexing?ignore_unavailable=true&filter_path=_all.primaries.indexing.index_total", null).ConfigureAwait(false);
        return json.RootElement.TryGetProperty("_all", out var all) && all.TryGetProperty("primaries", out var primaries) && primaries.TryGetProperty("indexing", out var indexing) ? indexing.GetProperty("index_total").GetInt64() : 0;
    }

    public async Task<long> CountAsync(string indices)
    {
        using var refreshed = await JsonAsync(HttpMethod.Post, $"/{indices}/_refresh", null).ConfigureAwait(false);
        using var json = await JsonAsync(HttpMethod.Get, $"/{indices}/_count", null).ConfigureAwait(false);
        return json.RootElement.GetProperty("count").GetInt64();
    }

    /// <summary>Bytes on disk of the primaries, in one segment.</summary>
    public async Task<double> BytesAsync(string indices)
    {
        using var merged = await JsonAsync(HttpMethod.Post, $"/{indices}/_forcemerge?max_num_segments=1&flush=true", null).ConfigureAwait(false);
        using var refreshed = await JsonAsync(HttpMethod.Post, $"/{indices}/_refresh", null).ConfigureAwait(false);
        using var json = await JsonAsync(HttpMethod.Get, $"/{indices}/_stats/store", null).ConfigureAwait(false);
        return json.RootElement.GetProperty("_all").GetProperty("primaries").GetProperty("store").GetProperty("size_in_bytes").GetInt64();
    }

    /// <summary>Every document, its source as it was stored.</summary>
    public async Task ReadAllAsync(string indices, Action<string, string, ReadOnlySpan<byte>> take)
    {
        using var refreshed = await JsonAsync(HttpMethod.Post, $"/{indices}/_refresh", null).ConfigureAwait(false);
        string? scroll = null;
        while (true)
        {
            using var json = scroll is null
                ? await JsonAsync(HttpMethod.Post, $"/{indices}/_search?scroll=2m", $$"""{"size":{{PageSize}},"sort":["_doc"]}""").ConfigureAwait(false)
                : await JsonAsync(HttpMethod.Post, "/_search/scroll", $$"""{"scroll":"2m","scroll_id":"{{scroll}}"}""").ConfigureAwait(false);
            scroll = json.RootElement.GetProperty("_scroll_id").GetString();
            var hits = json.RootElement.GetProperty("hits").GetProperty("hits");
            foreach (var hit in hits.EnumerateArray()) take(hit.GetProperty("_index").GetString()!, hit.GetProperty("_id").GetString()!, JsonMarshal.GetRawUtf8Value(hit.GetProperty("_source")));
            if (hits.GetArrayLength() == 0) break;
        }

        using var closed = await JsonAsync(HttpMethod.Delete, "/_search/scroll", $$"""{"scroll_id":"{{scroll}}"}""").ConfigureAwait(false);
    }

    public async Task PutTemplateAsync(string name, string template)
    {
        using var json = await JsonAsync(HttpMethod.Put, $"/_index_template/{name}", template).ConfigureAwait(false);
    }

    /// <summary>The same settings and mappings for indices of another name.</summary>
    public async Task CopyTemplateAsync(string from, string to)
    {
        using var json = await JsonAsync(HttpMethod.Get, $"/_index_template/{from}", null).ConfigureAwait(false);
        var template = System.Text.Json.Nodes.JsonNode.Parse(json.RootElement.GetProperty("index_templates")[0].GetProperty("index_template").GetRawText())!;
        template["index_patterns"] = new System.Text.Json.Nodes.JsonArray($"{to}-*");
        await PutTemplateAsync(to, template.ToJsonString()).ConfigureAwait(false);
    }

    public async Task DeleteAsync(string indices)
    {
        using var json = await JsonAsync(HttpMethod.Delete, $"/{indices}", null).ConfigureAwait(false);
    }

    async Task<JsonDocument> JsonAsync(HttpMethod method, string path, string? body)
    {
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : new StringContent(body, Encoding.UTF8, "application/json") };
        using var response = await _http.SendAsync(request).ConfigureAwait(false);
        var text = await response.Content.ReadAsByteArrayAsync().ConfigureAwait(false);
        return response.IsSuccessStatusCode ? JsonDocument.Parse(text) : throw new InvalidOperationException($"{method} {path}: {(int)response.StatusCode} {Encoding.UTF8.GetString(text)}");
    }

    public void Dispose() => _http.Dispose();
}

/// <summary>Sees when the first and the last document came to some indices.</summary>
sealed class DocumentWatch : IDisposable
{
    readonly CancellationTokenSource _stop = new();
    readonly Stopwatch _time = Stopwatch.StartNew();
    readonly Task _looking;
    double _first = -1, _last;
    long _written;

    public DocumentWatch(SearchServer server, string indices) => _looking = LookAsync(server, indices);

    public long Written => Interlocked.Read(ref _written);

    async Task LookAsync(SearchServer server, string indices)
    {
        // Once more after the stop, for what came since the last look.
        for (var isLast = false; !isLast;)
        {
            isLast = _stop.IsCancellationRequested;
            var now = _time.Elapsed.TotalSeconds;
            var written = await server.WrittenAsync(indices).ConfigureAwait(false);
            if (written > 0 && _first < 0) _first = now;
            if (written != _written) _last = now;
            Interlocked.Exchange(ref _written, written);
            if (!isLast) await Task.Delay(50, _stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Seconds from the first to the last.</summary>
    public double End()
    {
        _stop.Cancel();
        _looking.GetAwaiter().GetResult();
        return _last - _first;
    }

    public void Dispose()
    {
        _stop.Cancel();
        _looking.ContinueWith(static _ => { }, TaskScheduler.Default).GetAwaiter().GetResult();
        _stop.Dispose();
    }
}

/// <summary>Ready bulk requests in files, dealt out to several who post them.</summary>
sealed class BulkFiles(string folder, string name, int pieceBytes, int posters) : IAsyncDisposable
{
    readonly List<string>[] _files = [.. Enumerable.Range(0, posters).Select(_ => new List<string>())];
    FileStream? _piece;
    int _pieces;

    public int Documents { get; private set; }

    public void Add(string index, string id, ReadOnlySpan<byte> source)
    {
        if (_piece is null || _piece.Length >= pieceBytes)
        {
            _piece?.Dispose();
            var path = Path.Combine(folder, $"{name}-{_pieces}.bulk");
            _files[_pieces++ % posters].Add(path);
            _piece = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16);
        }

        _piece.Write(Encoding.UTF8.GetBytes($"{{\"create\":{{\"_index\":\"{index}\",\"_id\":\"{id}\"}}}}\n"));
        _piece.Write(source);
        _piece.WriteByte((byte)'\n');
        Documents++;
    }

    /// <summary>The files of each poster.</summary>
    public async Task<IReadOnlyList<IReadOnlyList<string>>> CloseAsync()
    {
        if (_piece is not null) await _piece.DisposeAsync().ConfigureAwait(false);
        _piece = null;
        return [.. _files.Where(files => files.Count > 0)];
    }

    public async ValueTask DisposeAsync()
    {
        if (_piece is not null) await _piece.DisposeAsync().ConfigureAwait(false);
        foreach (var file in _files.SelectMany(files => files)) File.Delete(file);
    }
}
