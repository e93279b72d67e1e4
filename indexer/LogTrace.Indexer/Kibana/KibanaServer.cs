using System.Net.Http.Headers;
using System.Security.Authentication;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using LogTrace.Indexer.Store;

namespace LogTrace.Indexer.Kibana;

/// <summary>The two products that show saved objects. Their interfaces are the same but for a few names; the objects differ in the function of a Vega filter.</summary>
enum KibanaFlavour
{
    Kibana,
    OpenSearchDashboards,
}

/// <summary>Kibana cannot be asked now: trying again later may succeed.</summary>
sealed class KibanaNotReadyException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>Kibana refuses, and will refuse again until somebody changes something; the message says what.</summary>
sealed class KibanaRefusedException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// One Kibana or OpenSearch Dashboards, of any version from 7.10 and 1.0 on: found out by asking, spoken to through the two calls that all of them keep for others (export and
/// import of saved objects). Every refusal that is known comes as a message that says what to do.
/// </summary>
sealed class KibanaServer : IDisposable
{
    readonly HttpClient _client;
    readonly KibanaOptions _options;
    readonly string _url;

    KibanaServer(KibanaOptions options)
    {
        _options = options;
        _url = options.Url.TrimEnd('/');
        _client = ServerHttp.Client(options.CaFile, options.Timeout, ServerHttp.Authorization(options.User, options.Password, options.ApiKey));
    }

    public KibanaFlavour Flavour { get; private set; }

    /// <summary>Such as 7.10.2; null when the server does not tell this user.</summary>
    public string? Version { get; private set; }

    public string Product => Flavour == KibanaFlavour.Kibana ? "Kibana" : "OpenSearch Dashboards";

    /// <summary>Where the objects are, for people.</summary>
    public string Place => Flavour == KibanaFlavour.Kibana ? $"space {_options.Space ?? "default"}" : $"tenant {_options.Space ?? "global"}";

    /// <summary>The space whose objects have ids of their own, see <see cref="SavedObjects.Parse"/>: tenants of OpenSearch Dashboards know nothing of each other.</summary>
    public string? SpaceOfItsOwn => Flavour == KibanaFlavour.Kibana && _options.Space is not (null or "default") ? _options.Space : null;

    /// <summary>Asks the server who it is.</summary>
    /// <exception cref="KibanaNotReadyException">It does not answer, or is not ready yet.</exception>
    /// <exception cref="KibanaRefusedException">It will not do with these options.</exception>
    public static async Task<KibanaServer> ConnectAsync(KibanaOptions options, CancellationToken cancellationToken)
    {
        var server = new KibanaServer(options);
        try
        {
            await server.AskAsync(cancellationToken);
            return server;
        }
        catch
        {
            // Whatever ended it, nobody else can dispose of it.
            server.Dispose();
            throw;
        }
    }

    async Task AskAsync(CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"{_url}/api/status");
        var answer = await SendAsync(request, cancellationToken);
        if (answer.Status is >= 300 and < 400)
            throw new KibanaRefusedException($"{_url} sends on to {answer.Location}; name the address that it has behind its proxy or base path in Kibana:Url (--kibana).");
        if (answer.Status == 404)
            throw new KibanaRefusedException($"{_url}/api/status: HTTP 404; that is no Kibana, or it has a base path (server.basePath) that is missing in Kibana:Url (--kibana), as in http://127.0.0.1:5601/kibana.");
        if (answer.Status == 403) throw Forbidden(answer, "may not ask for its status");
        // A server that starts, or that has lost its store, says its state with 503.
        if (answer.Status is not (200 or 503)) throw Unexpected(answer, "status");
        var status = answer.Json as JsonObject;
        var overall = status?["status"]?["overall"];
        var level = (overall?["level"] ?? overall?["state"])?.ToString();
        if (level is null)
        {
            if (answer.Status == 503) throw new KibanaNotReadyException($"{_url} says: {answer.Describe()}");
            throw new KibanaRefusedException($"{_url} answers, but neither as Kibana nor as OpenSearch Dashboards: {answer.Describe()}; check Kibana:Url (--kibana).");
        }

        Flavour = answer.IsOpenSearch ?? answer.Text.Contains("core:opensearch@", StringComparison.Ordinal) ? KibanaFlavour.OpenSearchDashboards : KibanaFlavour.Kibana;
        Version = status!["version"]?["number"]?.ToString();
        if (level is not ("available" or "degraded" or "green" or "yellow"))
            throw new KibanaNotReadyException($"{Product} at {_url} is {level}{(overall?["summary"] is { } summary ? $" ({ServerHttp.Excerpt(summary.ToString())})" : ", most often because its own Elasticsearch or OpenSearch cannot be reached")}");
    }

    /// <summary>Those of the named objects that are there, as this server keeps them.</summary>
    /// <exception cref="KibanaNotReadyException">Nothing was learnt; retry is safe.</exception>
    /// <exception cref="KibanaRefusedException">The user, the space or the server will not do.</exception>
    public async Task<IReadOnlyList<JsonObject>> ExportAsync(IEnumerable<(string Type, string Id)> objects, CancellationToken cancellationToken)
    {
        var wanted = objects.ToHashSet();
        while (wanted.Count > 0)
        {
            var body = new JsonObject
            {
                ["objects"] = new JsonArray([.. wanted.Select(it => new JsonObject { ["type"] = it.Type, ["id"] = it.Id })]),
                ["includeReferencesDeep"] = false,
                ["excludeExportDetails"] = true,
            };
            using var request = Request("/api/saved_objects/_export", new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json"));
            var answer = await SendAsync(request, cancellationToken);
            if (answer.Status == 200) return [.. answer.Text.Split('\n').Where(line => line.Trim().Length > 0).Select(line => JsonNode.Parse(line)!.AsObject())];

            // One that is not there, or of a type that is not known there, refuses the whole request, which then names it.
            var missing = (answer.Json?["attributes"]?["objects"] as JsonArray ?? []).Where(it => it?["error"]?["statusCode"]?.ToString() == "404")
                .Select(it => (Type: it!["type"]!.ToString(), Id: it["id"]!.ToString())).ToHashSet();
            if (answer.Json?["message"]?.ToString() is { } said && said.Contains("non-exportable", StringComparison.Ordinal))
                missing.UnionWith(wanted.Where(it => said.Contains($"{it.Type}:{it.Id}", StringComparison.Ordinal)));
            if (answer.Status != 400 || !wanted.Overlaps(missing)) throw Refusal(answer);
            wanted.ExceptWith(missing);
        }

        return [];
    }

    /// <summary>Writes objects over those with the same ids.</summary>
    /// <exception cref="KibanaNotReadyException">Nobody knows what was written; retry is safe.</exception>
    /// <exception cref="KibanaRefusedException">Not all was taken; the message says what not, why, and what to do.</exception>
    public async Task ImportAsync(SavedObjects objects, CancellationToken cancellationToken)
    {
        var file = new ByteArrayContent(objects.ToBytes());
        file.Headers.ContentType = new MediaTypeHeaderValue("application/ndjson");
        using var request = Request("/api/saved_objects/_import?overwrite=true", new MultipartFormDataContent { { file, "file", "logtrace.ndjson" } });
        var answer = await SendAsync(request, cancellationToken);
        if (answer.Status != 200 || answer.Json is not JsonObject result || result["success"] is not { } success) throw Refusal(answer);
        if (success.GetValueKind() != JsonValueKind.True) throw NotAllTaken(result);
        var moved = (result["successResults"] as JsonArray ?? []).Where(it => it?["destinationId"]?.ToString() is { } id && id != it["id"]?.ToString()).ToList();
        if (moved.Count > 0)
        {
            throw new KibanaRefusedException($"{Product} gave {moved.Count} objects new ids, such as {moved[0]!["destinationId"]} for {moved[0]!["id"]}, because another space has objects with theirs: links between the dashboards of {Place} now go astray. "
                + "Delete LogTrace's objects of the other space (Stack Management > Saved Objects) and those just made, then run this again, with --space for each space that is to have them.");
        }
    }

    KibanaRefusedException NotAllTaken(JsonObject result)
    {
        var errors = (result["errors"] as JsonArray ?? []).OfType<JsonObject>().ToList();
        var groups = errors.GroupBy(error => Reason(error["error"] as JsonObject ?? [])).Select(group =>
            $"{group.Count()} ({string.Join(", ", group.Take(3).Select(error => $"{error["type"]} {error["id"]}"))}{(group.Count() > 3 ? ", ..." : "")}): {group.Key}");
        // As the importer does it: one of these keeps all the others out as well.
        var nothing = errors.Any(error => error["error"]?["type"]?.ToString() is "missing_references" or "conflict" or "ambiguous_conflict");
        return new KibanaRefusedException($"{Product} at {_url} did not take all objects into {Place}{(nothing ? ", so it took none" : "; the others are there")}: {string.Join("; ", groups)}");

        string Reason(JsonObject error) => error["type"]?.ToString() switch
        {
            "missing_references" => $"it refers to {string.Join(", ", (error["references"] as JsonArray ?? []).Select(it => $"{it?["type"]} {it?["id"]}").Distinct().Take(5))}, which is neither in the file nor on the server; "
                + "import the data view first, or take the whole file",
            "unsupported_type" => $"this {Product}{(Version is null ? "" : " " + Version)} does not know objects of this type; leave them out of the file",
            "conflict" => "an object with this id is there and was not to be replaced; delete it, or ask whose it is",
            "ambiguous_conflict" => "several objects were imported from one with this id; delete those that are not wanted (Stack Management > Saved Objects)",
            _ when error["message"]?.ToString() is { } message && message.Contains("mapping set to strict", StringComparison.Ordinal) => $"{message}; the file has something that this version does not know, so take the file that came with this program",
            _ => error["message"]?.ToString() ?? ServerHttp.Excerpt(error.ToJsonString()),
        };
    }

    HttpRequestMessage Request(string path, HttpContent content)
    {
        var space = Flavour == KibanaFlavour.Kibana && _options.Space is not (null or "default") ? $"/s/{_options.Space}" : "";
        var request = new HttpRequestMessage(HttpMethod.Post, _url + space + path) { Content = content };
        // Each takes its own and ignores the other.
        request.Headers.Add(Flavour == KibanaFlavour.Kibana ? "kbn-xsrf" : "osd-xsrf", "true");
        // Without it the user's last tenant would be taken, or his private one.
        if (Flavour == KibanaFlavour.OpenSearchDashboards) request.Headers.Add("securitytenant", _options.Space ?? "global");
        return request;
    }

    async Task<Answer> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(_options.Timeout);
        Answer answer;
        try
        {
            using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseContentRead, limit.Token);
            answer = new Answer((int)response.StatusCode, await response.Content.ReadAsStringAsync(limit.Token), response.Headers.Location?.ToString(),
                response.Headers.Contains("osd-name") ? true : response.Headers.Contains("kbn-name") ? false : null);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new KibanaNotReadyException($"no answer from {_url} within {_options.Timeout.TotalSeconds:0.#} s", e);
        }
        catch (HttpRequestException e) when (e.GetBaseException() is AuthenticationException tls)
        {
            throw new KibanaRefusedException(tls.Message.Contains("certificate", StringComparison.OrdinalIgnoreCase)
                ? $"{_url}: its certificate is not trusted: {tls.Message} Name the file with the authority that signed it in Kibana:CaFile, and the host as the certificate has it in Kibana:Url."
                : $"{_url} does not speak TLS: {tls.Message} If it has none, the address begins with http://.", e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new KibanaNotReadyException($"{_url}: {e.GetBaseException().Message}", e);
        }

        return answer.Status switch
        {
            401 => throw new KibanaRefusedException(_options.User is null && _options.ApiKey is null
                ? $"{_url} asks who is there ({answer.Describe()}); give Kibana:User and Kibana:Password, or Kibana:ApiKey, most safely as LOGTRACE__Kibana__User and so on in the environment."
                : $"{_url} refuses the credentials ({answer.Describe()}); check {(_options.User is null ? "Kibana:ApiKey (in its encoded form)" : "Kibana:User and Kibana:Password")}."),
            // 503 is said in its own form by the status.
            408 or 429 or 500 or 502 or 504 => throw new KibanaNotReadyException($"{_url}: {answer.Describe()}"),
            503 when request.Method == HttpMethod.Post => throw new KibanaNotReadyException($"{_url}: {answer.Describe()}"),
            _ => answer,
        };
    }

    KibanaRefusedException Refusal(Answer answer)
    {
        var said = answer.Json?["message"]?.ToString() ?? "";
        if (said.Contains("more recent version", StringComparison.Ordinal))
        {
            return new KibanaRefusedException($"the objects are newer than {Product} {Version} at {_url}, so it took none: {said}. They need Kibana 7.10 or OpenSearch Dashboards 1.0, or newer; "
                + "take the file that came with this program, or bring the server up to date.");
        }

        return answer.Status switch
        {
            403 => Forbidden(answer, $"may not write to {Place}"),
            404 when _options.Space is not null => new KibanaRefusedException($"{Product} at {_url} has no {Place} ({answer.Describe()}); make it (Stack Management > Spaces), or name another with Kibana:Space (--space)."),
            413 => new KibanaRefusedException($"{_url}: the file is too large for it ({answer.Describe()}); raise savedObjects.maxImportPayloadBytes, or the limit of the proxy before it (client_max_body_size), above 25 MB."),
            400 when said.Contains("xsrf", StringComparison.OrdinalIgnoreCase) =>
                new KibanaRefusedException($"{_url}: {said} It was sent, so something on the way takes it out: let the proxy hand on headers that begin with kbn- and osd-."),
            400 when said.Contains("-version\" header", StringComparison.Ordinal) || said.Contains("elastic-api-version", StringComparison.OrdinalIgnoreCase) =>
                new KibanaRefusedException($"{_url}: {said}. No such header is sent from here, so something on the way adds or demands it: look at the proxy, and at server.versioned in kibana.yml."),
            400 when said.Contains("Non-unique", StringComparison.Ordinal) => new KibanaRefusedException($"the file has objects twice: {said}; take the file that came with this program."),
            400 when said.Contains("not available with the current configuration", StringComparison.Ordinal) =>
                new KibanaRefusedException($"{Product} at {_url} does not let saved objects be imported: {said}."),
            _ => Unexpected(answer, "saved objects"),
        };
    }

    KibanaRefusedException Forbidden(Answer answer, string what) => new(
        $"this user {what} of {Product} at {_url} ({answer.Describe()}): the user or the {(Flavour == KibanaFlavour.Kibana ? "space" : "tenant")} is read-only. "
        + (Flavour == KibanaFlavour.Kibana
            ? "Give the role the privilege All on Dashboard, Visualize Library, Discover and Saved Objects Management in this space, or take another user or space."
            : "Give the role write access to the tenant (kibana_all_write), or take another user or tenant (--space)."));

    KibanaRefusedException Unexpected(Answer answer, string what) => new($"{_url} ({what}): {answer.Describe()}");

    public void Dispose() => _client.Dispose();

    /// <param name="IsOpenSearch">Null when a proxy took the header out by which they name themselves.</param>
    readonly record struct Answer(int Status, string Text, string? Location, bool? IsOpenSearch)
    {
        public JsonNode? Json
        {
            get
            {
                try
                {
                    return Text.AsSpan().TrimStart() is ['{', ..] ? JsonNode.Parse(Text) : null;
                }
                catch (JsonException)
                {
                    return null; // not in that form
                }
            }
        }

        public string Describe() => $"HTTP {Status} {ServerHttp.Excerpt(Json?["message"]?.ToString() ?? Text)}".TrimEnd();
    }
}
