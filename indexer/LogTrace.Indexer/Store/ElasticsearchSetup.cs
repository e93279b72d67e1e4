using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace LogTrace.Indexer.Store;

/// <summary>
/// Index templates, component templates and retention. What the server can do is asked: index lifecycle management (ILM) and index state management (ISM) are there or not
/// whatever the version says. Where neither is, the indexers delete old days themselves, and the overflow index in any case.
/// </summary>
sealed class ElasticsearchSetup(ElasticsearchHttp http, ElasticsearchOptions options, TimeProvider time, ILogger logger)
{
    static readonly string[] Kinds = ["records", "chains", "calls"];
    static readonly TimeSpan RetainEvery = TimeSpan.FromHours(1);
    const int MostPerDelete = 30;

    readonly string _name = options.IndexPrefix;
    Retention _retention;
    long _nextRetention = long.MaxValue;

    /// <summary>Who deletes old days.</summary>
    enum Retention
    {
        Nobody,
        Ilm,
        Ism,
        Indexers,
    }

    /// <summary>Creates what is missing and replaces what an older version made; what is newer, or its owner's, stays.</summary>
    /// <param name="lookOnly">Change nothing.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Every part with what was found or done.</returns>
    public async Task<IReadOnlyList<InstalledPart>> PrepareAsync(bool lookOnly, CancellationToken cancellationToken)
    {
        var parts = new List<InstalledPart>();
        _retention = options.KeepDays is null ? Retention.Nobody : await AskAsync(cancellationToken);
        if (_retention == Retention.Ilm) parts.Add(await PutIlmPolicyAsync(lookOnly, cancellationToken));
        if (_retention == Retention.Ism) parts.Add(await PutIsmPolicyAsync(lookOnly, cancellationToken));

        parts.Add(await PutTemplateAsync("component", _name + "-settings", Resource("component-template-settings"), lookOnly, cancellationToken));
        parts.Add(await PutLifecycleAsync(lookOnly, cancellationToken));
        parts.Add(await PutTemplateAsync("component", _name + "-custom", Empty("LogTrace: yours. What is put here wins over -settings and -lifecycle, and is never written again"), lookOnly, cancellationToken, isOwners: true));
        foreach (var kind in Kinds)
        {
            var template = Resource($"index-template-{kind}");
            template["index_patterns"] = new JsonArray($"{_name}-{kind}-*");
            template["composed_of"] = new JsonArray(_name + "-settings", _name + "-lifecycle", _name + "-custom");
            parts.Add(await PutTemplateAsync("index", $"{_name}-{kind}", template, lookOnly, cancellationToken));
        }

        if (lookOnly) return parts;
        if (_retention == Retention.Ism) await SendAsync(HttpMethod.Post, $"/_plugins/_ism/add/{DayPatterns}", new JsonObject { ["policy_id"] = _name }, cancellationToken, 404);
        Interlocked.Exchange(ref _nextRetention, _retention == Retention.Nobody ? long.MaxValue : 0);
        await RetainAsync(cancellationToken);
        return parts;
    }

    /// <summary>Once an hour deletes what is past its time and nobody else deletes. A failure is said and tried again an hour later: no write has to wait for it.</summary>
    public async Task RetainAsync(CancellationToken cancellationToken)
    {
        var now = time.GetUtcNow();
        var due = Interlocked.Read(ref _nextRetention);
        if (now.Ticks < due || Interlocked.CompareExchange(ref _nextRetention, (now + RetainEvery).Ticks, due) != due) return;
        try
        {
            await DeleteOldAsync(now.AddDays(-options.KeepDays!.Value), cancellationToken);
            if (_retention == Retention.Ilm) await AttachIlmAsync(cancellationToken);
        }
        catch (StoreUnavailableException e)
        {
            IndexerLog.RetentionFailed(logger, e.Message);
        }
    }

    // All days; the overflow has no dot in its name. Wildcards with a suffix of their own are what every server takes for settings, if not for deletion.
    string DayPatterns => string.Join(',', Kinds.Select(kind => $"{_name}-{kind}-*.*.*"));

    async Task<Retention> AskAsync(CancellationToken cancellationToken)
    {
        // Where there is no such part, servers answer by 400 (no handler), 404 (an index of that name) or 405 (a document of that index).
        var ilm = await http.SendAsync(HttpMethod.Get, "/_ilm/policy", null, cancellationToken, 400, 403, 404, 405);
        if (ilm.Status == 200) return Retention.Ilm;
        var ism = await http.SendAsync(HttpMethod.Get, "/_plugins/_ism/policies?size=1", null, cancellationToken, 400, 403, 404, 405);
        if (ism.Status == 200) return Retention.Ism;
        if (ilm.Status == 403 || ism.Status == 403) IndexerLog.LifecycleForbidden(logger, ilm.Status == 403 ? "ILM (manage_ilm)" : "ISM");
        return Retention.Indexers;
    }

    // Only the age is ours: who has added other phases keeps them.
    async Task<InstalledPart> PutIlmPolicyAsync(bool lookOnly, CancellationToken cancellationToken)
    {
        var age = string.Create(CultureInfo.InvariantCulture, $"{options.KeepDays}d");
        var present = await http.SendAsync(HttpMethod.Get, $"/_ilm/policy/{_name}", null, cancellationToken, 404);
        var phases = present.Status == 200 ? JsonNode.Parse(present.Body)?[_name]?["policy"]?["phases"]?.DeepClone().AsObject() : null;
        var what = $"lifecycle policy {_name}";
        if (phases?["delete"]?["min_age"]?.GetValue<string>() == age) return new InstalledPart(PartState.Current, what, After(age));
        if (lookOnly) return new InstalledPart(phases is null ? PartState.Missing : PartState.Outdated, what, After(age) + " is due");
        var state = phases is null ? PartState.Made : PartState.Renewed;
        phases ??= new JsonObject { ["hot"] = new JsonObject { ["actions"] = new JsonObject() } };
        var delete = phases["delete"]?.DeepClone().AsObject() ?? new JsonObject { ["actions"] = new JsonObject { ["delete"] = new JsonObject() } };
        delete["min_age"] = age;
        phases["delete"] = delete;
        await SendAsync(HttpMethod.Put, $"/_ilm/policy/{_name}", new JsonObject { ["policy"] = new JsonObject { ["phases"] = phases } }, cancellationToken);
        return new InstalledPart(state, what, After(age));
    }

    static string After(string age) => $"deletes a day's indices after {age}";

    async Task<InstalledPart> PutIsmPolicyAsync(bool lookOnly, CancellationToken cancellationToken)
    {
        var age = string.Create(CultureInfo.InvariantCulture, $"{options.KeepDays}d");
        var present = await http.SendAsync(HttpMethod.Get, $"/_plugins/_ism/policies/{_name}", null, cancellationToken, 404);
        var version = "";
        var what = $"state management policy {_name}";
        if (present.Status == 200)
        {
            var known = JsonNode.Parse(present.Body)!;
            if (known["policy"]?.ToJsonString().Contains($"\"min_index_age\":\"{age}\"", StringComparison.Ordinal) == true) return new InstalledPart(PartState.Current, what, After(age));
            version = $"?if_seq_no={known["_seq_no"]}&if_primary_term={known["_primary_term"]}";
        }

        if (lookOnly) return new InstalledPart(version.Length == 0 ? PartState.Missing : PartState.Outdated, what, After(age) + " is due");
        var policy = new JsonObject
        {
            ["description"] = "LogTrace: deletes old days",
            ["default_state"] = "kept",
            ["states"] = new JsonArray(
                new JsonObject
                {
                    ["name"] = "kept",
                    ["actions"] = new JsonArray(),
                    ["transitions"] = new JsonArray(new JsonObject { ["state_name"] = "deleted", ["conditions"] = new JsonObject { ["min_index_age"] = age } }),
                },
                new JsonObject { ["name"] = "deleted", ["actions"] = new JsonArray(new JsonObject { ["delete"] = new JsonObject() }), ["transitions"] = new JsonArray() }),
            ["ism_template"] = new JsonArray(new JsonObject { ["index_patterns"] = new JsonArray([.. DayPatterns.Split(',').Select(pattern => JsonValue.Create(pattern))]), ["priority"] = 500 }),
        };
        await SendAsync(HttpMethod.Put, $"/_plugins/_ism/policies/{_name}{version}", new JsonObject { ["policy"] = policy }, cancellationToken, 201);
        return new InstalledPart(version.Length == 0 ? PartState.Made : PartState.Renewed, what, After(age));
    }

    // The overlay of this server. OpenSearch refuses a template with a setting that it does not know, so only who has answered to ILM gets it.
    async Task<InstalledPart> PutLifecycleAsync(bool lookOnly, CancellationToken cancellationToken)
    {
        var name = _name + "-lifecycle";
        var present = await http.SendAsync(HttpMethod.Get, $"/_component_template/{name}", null, cancellationToken, 404);
        var template = Empty("LogTrace: who deletes old days on this server");
        if (_retention == Retention.Ilm) template["template"] = new JsonObject { ["settings"] = new JsonObject { ["index.lifecycle.name"] = _name } };
        var what = $"component template {name}";
        if (present.Status == 200)
        {
            // Without KeepDays somebody else sees to it, perhaps here.
            var hasPolicy = System.Text.Encoding.UTF8.GetString(present.Body).Contains("lifecycle\":", StringComparison.Ordinal);
            if (_retention == Retention.Nobody || hasPolicy == (_retention == Retention.Ilm)) return new InstalledPart(PartState.Current, what, Says());
            if (lookOnly) return new InstalledPart(PartState.Outdated, what, Says());
        }
        else if (lookOnly)
        {
            return new InstalledPart(PartState.Missing, what, Says());
        }

        await SendAsync(HttpMethod.Put, $"/_component_template/{name}", template, cancellationToken);
        return new InstalledPart(present.Status == 200 ? PartState.Renewed : PartState.Made, what, Says());

        string Says() => _retention switch
        {
            Retention.Ilm => "old days are deleted by the lifecycle policy",
            Retention.Ism => "old days are deleted by the state management policy",
            Retention.Indexers => string.Create(CultureInfo.InvariantCulture, $"old days are deleted by the indexers, after {options.KeepDays} days"),
            _ => "nothing is deleted; Elasticsearch:KeepDays says after how many days",
        };
    }

    // Days that are older than the policy, or were made before it. The overflow is written to for ever, so its age says nothing.
    async Task AttachIlmAsync(CancellationToken cancellationToken)
    {
        const string Lenient = "_settings?allow_no_indices=true&ignore_unavailable=true";
        await SendAsync(HttpMethod.Put, $"/{DayPatterns}/{Lenient}", new JsonObject { ["index.lifecycle.name"] = _name }, cancellationToken, 404);
        await SendAsync(HttpMethod.Put, $"/{string.Join(',', Kinds.Select(kind => $"{_name}-{kind}-{ElasticsearchTraceStore.Overflow}"))}/{Lenient}", new JsonObject { ["index.lifecycle.name"] = null }, cancellationToken, 404);
    }

    async Task DeleteOldAsync(DateTimeOffset limit, CancellationToken cancellationToken)
    {
        var stems = Kinds.Select(kind => $"{_name}-{kind}-").ToArray();
        var answer = await http.SendAsync(HttpMethod.Get, $"/{string.Join(',', stems.Select(stem => stem + "*"))}/_settings?allow_no_indices=true&ignore_unavailable=true&filter_path=*.settings.index.creation_date", null, cancellationToken, 404);
        if (answer.Status != 200) return;
        using var json = JsonDocument.Parse(answer.Body);
        var days = new Dictionary<string, List<(string Index, DateTimeOffset Made)>>(StringComparer.Ordinal);
        foreach (var index in json.RootElement.EnumerateObject())
        {
            if (Array.Find(stems, stem => index.Name.StartsWith(stem, StringComparison.Ordinal)) is not { } found) continue;
            var made = index.Value.GetProperty("settings").GetProperty("index").GetProperty("creation_date").GetString();
            if (!long.TryParse(made, NumberStyles.None, CultureInfo.InvariantCulture, out var millis)) continue;
            var suffix = index.Name[found.Length..];
            if (!days.TryGetValue(suffix, out var list)) days[suffix] = list = [];
            list.Add((index.Name, DateTimeOffset.FromUnixTimeMilliseconds(millis)));
        }

        foreach (var (suffix, indices) in days)
        {
            var isOverflow = suffix == ElasticsearchTraceStore.Overflow;
            if (!isOverflow && _retention != Retention.Indexers) continue;
            if (!isOverflow && (!DateTime.TryParseExact(suffix, ElasticsearchTraceStore.DayFormat, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var day) || day.AddDays(1) > limit.UtcDateTime)) continue;
            if (indices.Exists(index => index.Made > limit) || await LastWriteAsync(stems[0] + suffix, cancellationToken) > limit) continue;
            foreach (var some in indices.Select(index => index.Index).Chunk(MostPerDelete))
            {
                // By name: servers refuse to delete by wildcard. 404: another instance was quicker.
                await SendAsync(HttpMethod.Delete, "/" + string.Join(',', some), null, cancellationToken, 404);
                IndexerLog.IndicesExpired(logger, string.Join(", ", some), options.KeepDays!.Value);
            }
        }
    }

    async Task<DateTimeOffset> LastWriteAsync(string index, CancellationToken cancellationToken)
    {
        var body = new JsonObject { ["size"] = 0, ["track_total_hits"] = false, ["aggs"] = new JsonObject { ["last"] = new JsonObject { ["max"] = new JsonObject { ["field"] = "ingested_at" } } } };
        var answer = await http.SendAsync(HttpMethod.Post, $"/{index}/_search?allow_partial_search_results=false", body, cancellationToken, 404);
        if (answer.Status != 200) return DateTimeOffset.MinValue; // chains or calls without records: nothing holds them
        using var json = JsonDocument.Parse(answer.Body);
        return json.RootElement.TryGetProperty("aggregations", out var found) && found.GetProperty("last").GetProperty("value") is { ValueKind: JsonValueKind.Number } last
            ? DateTimeOffset.FromUnixTimeMilliseconds((long)last.GetDouble())
            : DateTimeOffset.MinValue;
    }

    // A template that is there is left alone unless it is older: its owner may have changed it.
    async Task<InstalledPart> PutTemplateAsync(string kind, string name, JsonObject template, bool lookOnly, CancellationToken cancellationToken, bool isOwners = false)
    {
        var wanted = template["version"]!.GetValue<long>();
        var what = $"{kind} template {name}";
        long? version = null;
        var present = await http.SendAsync(HttpMethod.Get, $"/_{kind}_template/{name}", null, cancellationToken, 404);
        if (present.Status == 200)
        {
            using var json = JsonDocument.Parse(present.Body);
            version = json.RootElement.EnumerateObject().First().Value.EnumerateArray().Select(found => ElasticsearchDocuments.Number(found.GetProperty(kind + "_template"), "version")).FirstOrDefault() ?? 0;
            if (isOwners || version >= wanted) return new InstalledPart(PartState.Current, what, isOwners ? "its owner's" : $"version {version}");
        }

        if (lookOnly) return version is null ? new InstalledPart(PartState.Missing, what) : new InstalledPart(PartState.Outdated, what, $"version {version}, version {wanted} is due");
        await SendAsync(HttpMethod.Put, $"/_{kind}_template/{name}", template, cancellationToken);
        return version is null ? new InstalledPart(PartState.Made, what, $"version {wanted}") : new InstalledPart(PartState.Renewed, what, $"version {wanted} in place of {version}");
    }

    Task SendAsync(HttpMethod method, string path, JsonObject? body, CancellationToken cancellationToken, params int[] expected) => http.SendAsync(method, path, body, cancellationToken, expected);

    static JsonObject Empty(string description) => new() { ["version"] = 1L, ["_meta"] = new JsonObject { ["description"] = description }, ["template"] = new JsonObject() };

    static JsonObject Resource(string name)
    {
        using var resource = typeof(ElasticsearchSetup).Assembly.GetManifestResourceStream($"LogTrace.Indexer.Store.{name}.json")!;
        return JsonNode.Parse(resource)!.AsObject();
    }
}
