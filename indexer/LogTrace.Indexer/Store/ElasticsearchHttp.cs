using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using LogTrace.Transport;

namespace LogTrace.Indexer.Store;

/// <summary>
/// Requests to one cluster: addresses in turn, authentication, time limits, and what is worth another try. Nothing is guessed
/// from a version. Safe for concurrent use.
/// </summary>
sealed class ElasticsearchHttp : IDisposable
{
    // Told between attempts what the last one met, for who sits in front of a screen.
    readonly Action<string>? _waiting;

    readonly HttpClient _client;
    readonly string[] _urls;
    readonly ElasticsearchOptions _options;
    readonly ConcurrentDictionary<string, bool> _warnings = new();
    readonly ILogger _logger;
    int _current;

    public ElasticsearchHttp(ElasticsearchOptions options, ILogger logger, Action<string>? waiting = null)
    {
        _logger = logger;
        _options = options;
        _waiting = waiting;
        _urls = [.. options.Urls.Select(url => url.TrimEnd('/'))];
        _client = ServerHttp.Client(options.CaFile, options.Timeout, ServerHttp.Authorization(options.User, options.Password, options.ApiKey), options.Fingerprint());
    }

    /// <summary>Sends a request until it is answered with something that another try would not change, and that is one of <paramref name="expected"/>.</summary>
    /// <exception cref="StoreUnavailableException">No such answer in time; the message says what came instead.</exception>
    public async Task<Answer> SendAsync(HttpMethod method, string path, JsonNode? body, CancellationToken cancellationToken, params int[] expected)
    {
        var patience = new Patience(_options.GiveUpAfter);
        while (true)
        {
            string problem;
            try
            {
                var answer = await SendOnceAsync(method, path, Content(body), false, cancellationToken);
                if (answer.Status == 200 || expected.Contains(answer.Status)) return answer;
                problem = answer.Describe();
                if (!answer.IsPassing) throw new StoreUnavailableException($"{method} {path} at {Url}: {problem}");
            }
            catch (NoAnswerException exception)
            {
                problem = exception.Message;
            }

            _waiting?.Invoke(problem);
            await patience.WaitAsync($"{method} {path}: {problem}", cancellationToken);
        }
    }

    /// <summary>One attempt.</summary>
    /// <exception cref="NoAnswerException">No whole answer came; whether the request was carried out is unknown. The next attempt goes to the next address.</exception>
    /// <exception cref="StoreUnavailableException">The server does not let this client in.</exception>
    public async Task<Answer> SendOnceAsync(HttpMethod method, string path, HttpContent? content, bool askFirst, CancellationToken cancellationToken)
    {
        var url = Url;
        using var request = new HttpRequestMessage(method, url + path) { Content = content };

        // A server that finds a body too large answers and hangs up at once, and the answer is lost while the body is being sent.
        if (askFirst) request.Headers.ExpectContinue = true;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(_options.Timeout);
        try
        {
            using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseContentRead, limit.Token);
            if (response.Headers.TryGetValues("Warning", out var warnings)) Warned(warnings);
            var answer = new Answer((int)response.StatusCode, await response.Content.ReadAsByteArrayAsync(limit.Token));
            if (answer.Status is 401)
                throw new StoreUnavailableException($"{url} refuses the credentials ({answer.Describe()}); check Elasticsearch:User and Elasticsearch:Password or Elasticsearch:ApiKey.");
            return answer;
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            throw Failed($"no answer from {url} within {_options.Timeout.TotalSeconds:0.#} s", exception);
        }
        catch (Exception exception) when (exception is HttpRequestException or IOException)
        {
            throw Failed($"{url}: {Innermost(exception)}", exception);
        }

        NoAnswerException Failed(string message, Exception exception)
        {
            Interlocked.CompareExchange(ref _current, (Array.IndexOf(_urls, url) + 1) % _urls.Length, Array.IndexOf(_urls, url));
            return new NoAnswerException(message, exception);
        }
    }

    /// <summary>What servers said about requests that they carried out and want another way one day.</summary>
    public ICollection<string> Warnings => _warnings.Keys;

    // Bounded: some have a name or time in them.
    void Warned(IEnumerable<string> warnings)
    {
        foreach (var warning in warnings.Where(warning => _warnings.Count < 100 && _warnings.TryAdd(warning, true))) IndexerLog.ElasticsearchWarns(_logger, warning);
    }

    public void Dispose() => _client.Dispose();

    string Url => _urls[Volatile.Read(ref _current)];

    static ByteArrayContent? Content(JsonNode? body)
    {
        if (body is null) return null;
        var content = new ByteArrayContent(JsonSerializer.SerializeToUtf8Bytes(body));
        content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
        return content;
    }

    static string Innermost(Exception exception) => exception.GetBaseException().Message;

    /// <summary>A whole HTTP answer.</summary>
    internal readonly record struct Answer(int Status, byte[] Body)
    {
        /// <summary>Statuses that say "not now": too many requests, an overloaded or restarting server or proxy.</summary>
        public bool IsPassing => Status is 408 or 429 or >= 500;

        /// <summary>True for an answer in Elasticsearch's own form, not a proxy's page: only that can refuse a document for good.</summary>
        public bool IsElasticsearchError
        {
            get
            {
                try
                {
                    using var json = JsonDocument.Parse(Body);
                    return json.RootElement.ValueKind == JsonValueKind.Object && json.RootElement.TryGetProperty("error", out _);
                }
                catch (JsonException)
                {
                    return false; // not in that form
                }
            }
        }

        /// <summary>The start of the body, long enough for any error's own words.</summary>
        public string Text => Encoding.UTF8.GetString(Body.AsSpan(0, Math.Min(Body.Length, 8192)));

        public string Describe() => $"HTTP {Status} {ServerHttp.Excerpt(Text)}".TrimEnd();
    }
}

/// <summary>A request got no whole answer: nobody knows whether it was carried out.</summary>
sealed class NoAnswerException(string message, Exception inner) : Exception(message, inner);

/// <summary>Waits between attempts, and gives up when nothing has worked for too long.</summary>
sealed class Patience(TimeSpan giveUpAfter)
{
    readonly Backoff _backoff = new(TimeSpan.FromMilliseconds(100), TimeSpan.FromSeconds(5));
    long _firstFailure;

    /// <summary>Something worked: the count of failures starts again.</summary>
    public void Reset() => _backoff.Reset();

    /// <exception cref="StoreUnavailableException">It has been failing for too long.</exception>
    public async Task WaitAsync(string problem, CancellationToken cancellationToken)
    {
        if (_backoff.Failures == 0) _firstFailure = Stopwatch.GetTimestamp();
        var elapsed = Stopwatch.GetElapsedTime(_firstFailure);
        if (elapsed >= giveUpAfter)
            throw new StoreUnavailableException($"Elasticsearch has not worked for {elapsed.TotalSeconds:0.#} s ({_backoff.Failures + 1} attempts): {problem}");
        await _backoff.WaitAsync(cancellationToken);
    }
}
