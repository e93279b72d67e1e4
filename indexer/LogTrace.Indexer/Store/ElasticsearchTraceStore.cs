using System.Buffers;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using LogTrace.Records;
using LogTrace.Shipper;
using Microsoft.Extensions.Logging.Abstractions;
using JsonValue = System.Text.Json.Nodes.JsonValue;

namespace LogTrace.Indexer.Store;

/// <summary>
/// Records, chains and calls in Elasticsearch 7.10 and later or OpenSearch, over REST alone. Records are filed by their own UTC
/// day under their record id, so that a resend meets itself; a chain stays in the index of its first write, and an older
/// one never replaces a newer one; its calls lie in the calls index of the same day.
/// </summary>
public sealed class ElasticsearchTraceStore : ITraceStore
{
    internal const string Overflow = "overflow";
    internal const string DayFormat = "yyyy.MM.dd";

    // A search that a shard could not answer must fail: half a trace looks like loss.
    const string Whole = "allow_partial_search_results=false";
    const int TracesPerQuery = 1000;
    const long AroundMidnight = 5 * 60 * 1_000_000L;
    const int DocumentsPerLookUp = 1000;
    const int MaxPage = 1000;

    /// <summary>Most hits that a server gives at once unless told otherwise.</summary>
    const int MaxHits = 10_000;
    const int MaxPageBytes = 16 << 20;

    readonly ElasticsearchHttp _http;
    readonly ElasticsearchBulk _bulk;
    readonly ElasticsearchSetup _setup;
    readonly ElasticsearchOptions _options;
    readonly TimeProvider _time;
    readonly IndexGroup _records;
    readonly IndexGroup _chains;
    readonly IndexGroup _calls;

    // Records of a write that failed: some of them are stored, and have not been counted as stored by anyone.
    readonly ConcurrentDictionary<UInt128, bool> _uncounted = new();

    // Calls that were written for a chain that was not, because its trace has one: by trace, until that one has been written anew.
    readonly ConcurrentDictionary<string, UInt128[]> _unplaced = new(StringComparer.Ordinal);

    volatile Tuple<DateTime, string> _lastDay = Tuple.Create(DateTime.MinValue, "0001.01.01");

    /// <summary>Up to this many traces with the words of a text search are collected first; commoner words are looked for chain by chain.</summary>
    internal int FewTraces { get; init; } = 5000;

    /// <param name="waiting">Told between the attempts of one request what the last of them met.</param>
    /// <exception cref="ArgumentException">The options are not valid; the message says what to change.</exception>
    public ElasticsearchTraceStore(ElasticsearchOptions options, TimeProvider? time = null, ILogger? logger = null, Action<string>? waiting = null)
    {
        if (options.Validate() is { Count: > 0 } problems) throw new ArgumentException(string.Join(Environment.NewLine, problems), nameof(options));
        _options = options;
        _time = time ?? TimeProvider.System;
        _http = new ElasticsearchHttp(options, logger ?? NullLogger.Instance, waiting);
        _setup = new ElasticsearchSetup(_http, options, _time, logger ?? NullLogger.Instance);
        _bulk = new ElasticsearchBulk(_http, options);
        _records = new IndexGroup($"{options.IndexPrefix}-records-", _http);
        _chains = new IndexGroup($"{options.IndexPrefix}-chains-", _http);
        _calls = new IndexGroup($"{options.IndexPrefix}-calls-", _http);
    }

    public Task OpenAsync(CancellationToken cancellationToken) => _options.ReadOnly ? CountAsync(_chains, cancellationToken) : PrepareAsync(lookOnly: false, cancellationToken);

    /// <summary>Creates or renews what the server has to have before the first write: templates, and who deletes old days. Idempotent.</summary>
    /// <param name="lookOnly">Change nothing, only say what is there.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Every part with what was found or done.</returns>
    /// <exception cref="StoreUnavailableException">The server cannot be reached or refuses; retry is safe.</exception>
    public Task<IReadOnlyList<InstalledPart>> PrepareAsync(bool lookOnly, CancellationToken cancellationToken) => _setup.PrepareAsync(lookOnly, cancellationToken);

    public async Task<WriteResult> WriteAsync(IReadOnlyList<IndexedRecord> records, CancellationToken cancellationToken)
    {
        // The first of each id is written; what becomes of it becomes of its doubles.
        var writes = Placed(records);
        var elsewhere = await FindElsewhereAsync(writes, cancellationToken);
        var toSend = elsewhere.Count == 0 ? writes : writes.Where(write => !elsewhere.Contains(write.Record.RecordId)).ToList();
        var results = new BulkResult[toSend.Count];
        try
        {
            await _bulk.SendAsync(toSend, WriteRecord, results, cancellationToken);
        }
        catch
        {
            // Whatever ended it: the next try must not take what did get through for somebody else's.
            for (var i = 0; i < toSend.Count; i++)
            {
                if (results[i].Outcome is BulkOutcome.Done or BulkOutcome.Unknown) _uncounted.TryAdd(toSend[i].Record.RecordId, true);
            }

            throw;
        }
        finally
        {
            _records.Written(toSend.Select(write => write.Index));
        }

        if (toSend.Count == records.Count && Array.TrueForAll(results, result => result.Outcome == BulkOutcome.Done))
        {
            Counted(toSend);
            await _setup.RetainAsync(cancellationToken);
            return new WriteResult(records.Count, 0, []);
        }

        var own = await FindOwnAsync(toSend, results, cancellationToken);
        var fates = new Dictionary<UInt128, BulkResult>(toSend.Count);
        for (var i = 0; i < toSend.Count; i++) fates[toSend[i].Record.RecordId] = results[i];
        int stored = 0, duplicates = 0;
        var refused = new List<RefusedRecord>();
        var counted = new HashSet<UInt128>(toSend.Count);
        foreach (var record in records)
        {
            if (!fates.TryGetValue(record.RecordId, out var fate)) duplicates++;
            else if (fate.Outcome == BulkOutcome.Refused) refused.Add(new RefusedRecord(record, fate.Reason!));
            else if (counted.Add(record.RecordId) && (fate.Outcome == BulkOutcome.Done || own.Contains(record.RecordId))) stored++;
            else duplicates++;
        }

        Counted(toSend);
        await _setup.RetainAsync(cancellationToken);
        return new WriteResult(stored, duplicates, refused);
    }

    void Counted(List<RecordWrite> writes)
    {
        if (_uncounted.IsEmpty) return;
        foreach (var write in writes) _uncounted.TryRemove(write.Record.RecordId, out _);
    }

    List<RecordWrite> Placed(IReadOnlyList<IndexedRecord> records)
    {
        var seen = new HashSet<UInt128>(records.Count);
        var writes = new List<RecordWrite>(records.Count);

        // Thousands in a row lie in one place.
        var (name, place) = ("", default(Place));
        foreach (var record in records)
        {
            if (!seen.Add(record.RecordId)) continue;
            if (!place.Holds(record.Record.TimestampMicros)) (place, name) = (PlaceOf(record.Record.TimestampMicros), "");
            if (name.Length == 0) name = _records.Name(place.Suffix);
            writes.Add(new RecordWrite(record, name, place.Other));
        }

        return writes;
    }

    static void WriteRecord(RecordWrite write, BulkBuffer output)
    {
        WriteAction(output, "create"u8, write.Index, write.Record.RecordId, null);
        ElasticsearchDocuments.WriteRecord(write.Record, output);
    }

    /// <summary>Records that lie in the other of two places. As the clock moves on, a record's place may change between a write and its repetition: at the limits of the overflow index only.</summary>
    async Task<HashSet<UInt128>> FindElsewhereAsync(List<RecordWrite> writes, CancellationToken cancellationToken)
    {
        var found = new HashSet<UInt128>();
        var doubtful = writes.Where(write => write.Other is not null).ToList();
        var sources = await LookUpAsync(
            [.. doubtful.Select(write => (_records.Name(write.Other!), ElasticsearchDocuments.Hex(write.Record.RecordId)))], "record_id", cancellationToken);
        for (var i = 0; i < doubtful.Count; i++)
        {
            if (sources[i] is not null) found.Add(doubtful[i].Record.RecordId);
        }

        return found;
    }

    /// <summary>Records that met themselves: an earlier attempt of this very write had stored them, and its answer was lost. They were taken at the same microsecond.</summary>
    async Task<HashSet<UInt128>> FindOwnAsync(List<RecordWrite> writes, BulkResult[] results, CancellationToken cancellationToken)
    {
        var own = new HashSet<UInt128>();
        var doubtful = writes.Where((write, i) => results[i].Outcome == BulkOutcome.Conflict && (results[i].MaybeEarlier || _uncounted.ContainsKey(write.Record.RecordId))).ToList();
        var sources = await LookUpAsync([.. doubtful.Select(write => (write.Index, ElasticsearchDocuments.Hex(write.Record.RecordId)))], "ingested_at", cancellationToken);
        for (var i = 0; i < doubtful.Count; i++)
        {
            if (sources[i] is { } source && ElasticsearchDocuments.Text(source, "ingested_at") == ElasticsearchDocuments.Iso(doubtful[i].Record.IngestedMicros))
                own.Add(doubtful[i].Record.RecordId);
        }

        return own;
    }

    /// <summary>The named members of documents by index and id, as last written; null where there is no such document or index.</summary>
    async Task<JsonElement?[]> LookUpAsync(IReadOnlyList<(string Index, string Id)> documents, string members, CancellationToken cancellationToken)
    {
        var found = new JsonElement?[documents.Count];
        for (var start = 0; start < documents.Count; start += DocumentsPerLookUp)
        {
            var count = Math.Min(DocumentsPerLookUp, documents.Count - start);
            var body = new JsonObject
            {
                ["docs"] = new JsonArray([.. documents.Skip(start).Take(count).Select(document => new JsonObject { ["_index"] = document.Index, ["_id"] = document.Id })]),
            };
            using var json = await JsonAsync($"/_mget?_source_includes={members}&filter_path=docs.found,docs._source,docs.error.type", body, cancellationToken);
            var docs = json.RootElement.GetProperty("docs");
            if (docs.GetArrayLength() != count) throw new StoreUnavailableException($"POST /_mget: {docs.GetArrayLength()} documents where {count} were asked for.");
            for (var i = 0; i < count; i++)
            {
                var document = docs[i];
                if (document.TryGetProperty("error", out var error) && ElasticsearchDocuments.Text(error, "type") is var type and not "index_not_found_exception")
                    throw new StoreUnavailableException($"POST /_mget: {documents[start + i].Index}/{documents[start + i].Id}: {type}");
                if (document.TryGetProperty("found", out var isFound) && isFound.ValueKind == JsonValueKind.True)
                    found[start + i] = document.GetProperty("_source").Clone();
            }
        }

        return found;
    }

    public async Task WriteChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken)
    {
        foreach (var some in chains.GroupBy(chain => chain.TraceId).Select(group => group.MaxBy(chain => chain.RecordCount)!).Chunk(TracesPerQuery))
            await WriteSomeChainsAsync(some, cancellationToken);
    }

    public async Task<IReadOnlyList<string>> AddChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken)
    {
        // Nobody is asked which of them there are, as good as none: the index says so itself. Only around midnight a chain of the trace may lie in another index.
        var writes = new List<ChainWrite>(chains.Count);
        var present = new List<string>();
        foreach (var chain in chains)
        {
            var suffix = PlaceOf(chain.StartMicros - AroundMidnight).Suffix;
            if (suffix == PlaceOf(chain.StartMicros + AroundMidnight).Suffix) writes.Add(new ChainWrite(chain, suffix, new CallVersions(), new CallVersions()));
            else present.Add(chain.TraceId);
        }

        // What is there belongs to another instance, or to one that died before it wrote its chain: it is left as that one's chain says that it is, or nobody would ever know of the difference.
        var withOthers = await WriteCallsAsync(writes, true, cancellationToken);
        var added = writes.Where(write => !withOthers.Contains(write.Chain.TraceId)).ToList();
        var outcomes = await WriteChainDocumentsAsync(added, true, true, cancellationToken);
        withOthers.UnionWith(added.Where((_, i) => outcomes[i] == BulkOutcome.Conflict).Select(write => write.Chain.TraceId));
        foreach (var write in writes)
        {
            if (!withOthers.Contains(write.Chain.TraceId)) continue;
            // Its calls as they are in the whole chain are other ones, perhaps fewer.
            _unplaced[write.Chain.TraceId] = [.. write.Calls.Ids];
            present.Add(write.Chain.TraceId);
        }

        return present;
    }

    async Task WriteSomeChainsAsync(ChainDocument[] chains, CancellationToken cancellationToken)
    {
        var writes = await PlaceChainsAsync(chains, cancellationToken);
        await WriteCallsAsync(writes, false, cancellationToken);
        await WriteChainDocumentsAsync(writes, false, true, cancellationToken);
        foreach (var chain in chains) _unplaced.TryRemove(chain.TraceId, out _);
    }

    // Calls first: a crash between them and their chain leaves one that the next check finds stale, and its calls are written again.
    /// <param name="writes">The chains.</param>
    /// <param name="isNew">True: a conflict is a call that is there already, which stays as it is; false: a conflict is a newer one of another instance.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Traces of which a call was in conflict.</returns>
    async Task<HashSet<string>> WriteCallsAsync(List<ChainWrite> writes, bool isNew, CancellationToken cancellationToken)
    {
        var calls = new List<CallWrite>();
        var ends = new List<int>(writes.Count);
        var documents = new JsonBuffer(1 << 16);
        foreach (var write in writes)
        {
            var index = _calls.Name(write.Suffix);
            foreach (var call in write.Chain.Calls)
            {
                var start = documents.Length;
                ElasticsearchDocuments.WriteCall(call, write.Chain.LastRecordMicros, documents);
                write.Calls.Set(call.Id, documents.WrittenFrom(start));
                if (!write.Calls.IsSame(call.Id, write.Former)) calls.Add(new CallWrite(index, call.Id, write.Chain.RecordCount, start, documents.Length - start));
            }

            calls.AddRange(write.Former.Ids.Where(id => !write.Calls.Has(id)).Select(id => new CallWrite(index, id, write.Chain.RecordCount, 0, 0)));
            ends.Add(calls.Count);
        }

        var callResults = new BulkResult[calls.Count];
        try
        {
            await _bulk.SendAsync(calls, (call, output) => WriteCall(call, isNew, documents, output), callResults, cancellationToken);
        }
        finally
        {
            _calls.Written(calls.Select(call => call.Index));
            documents.Return();
        }

        ThrowIfRefused(callResults);
        var conflicts = new HashSet<string>(StringComparer.Ordinal);
        for (int i = 0, chain = 0; i < callResults.Length; i++)
        {
            while (i == ends[chain]) chain++;
            if (callResults[i].Outcome == BulkOutcome.Conflict) conflicts.Add(writes[chain].Chain.TraceId);
        }

        return conflicts;
    }

    /// <param name="writes">The chains.</param>
    /// <param name="isNew">True: a conflict is a chain that is there already; false: a conflict is a newer chain of another instance.</param>
    /// <param name="withRows">False after the server has refused them with all their rows.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    async Task<BulkOutcome[]> WriteChainDocumentsAsync(List<ChainWrite> writes, bool isNew, bool withRows, CancellationToken cancellationToken)
    {
        var results = new BulkResult[writes.Count];
        try
        {
            await _bulk.SendAsync(
                writes,
                (write, output) =>
                {
                    WriteAction(output, isNew ? "create"u8 : "index"u8, _chains.Name(write.Suffix), TraceHash.Of(write.Chain.TraceId), isNew ? null : write.Chain.RecordCount);
                    ElasticsearchDocuments.WriteChain(write.Chain, write.Calls, withRows, output);
                },
                results,
                cancellationToken);
        }
        finally
        {
            _chains.Written(writes.Select(write => _chains.Name(write.Suffix)));
        }

        // Too large is what the rows have grown to: without them the chain can still be found.
        if (!withRows) ThrowIfRefused(results);
        var outcomes = Array.ConvertAll(results, result => result.Outcome);
        var tooLarge = Enumerable.Range(0, writes.Count).Where(i => results[i].Outcome == BulkOutcome.Refused).ToList();
        if (tooLarge.Count == 0) return outcomes;
        var again = await WriteChainDocumentsAsync([.. tooLarge.Select(i => writes[i])], isNew, false, cancellationToken);
        for (var i = 0; i < again.Length; i++) outcomes[tooLarge[i]] = again[i];
        return outcomes;
    }

    static void ThrowIfRefused(BulkResult[] results)
    {
        if (Array.Find(results, result => result.Outcome == BulkOutcome.Refused) is { Reason: { } reason })
            throw new InvalidOperationException($"Elasticsearch refuses a chain or call document: {reason}. The index templates do not fit this version of LogTrace.");
    }

    static void WriteCall(CallWrite call, bool isNew, JsonBuffer documents, BulkBuffer output)
    {
        WriteAction(output, call.Length == 0 ? "delete"u8 : isNew ? "create"u8 : "index"u8, call.Index, call.Id, isNew ? null : call.Version);
        output.Write(documents.Written(call.Start, call.Length));
    }

    static void WriteAction(BulkBuffer output, ReadOnlySpan<byte> action, string index, UInt128 id, long? version)
    {
        BeginAction(output, action, index);
        output.WriteHex(id);
        output.Write("\""u8);
        if (version is { } number)
        {
            output.Number("version"u8, number);
            output.Plain("version_type"u8, "external_gte"u8);
        }

        output.Write("}}\n"u8);
    }

    // Index names have no character that JSON would escape.
    static void BeginAction(BulkBuffer output, ReadOnlySpan<byte> action, string index)
    {
        output.Write("{\""u8);
        output.Write(action);
        output.Write("\":{\"_index\":\""u8);
        output.WriteAscii(index);
        output.Write("\",\"_id\":\""u8);
    }

    // Larger than any record_count: no chain of an instance that does not know of the decision yet is written over it.
    const long MarkerVersion = 1L << 62;

    public async Task<long> DropTracesAsync(IReadOnlyList<string> traceIds, CancellationToken cancellationToken)
    {
        long removed = 0;
        foreach (var some in traceIds.Distinct(StringComparer.Ordinal).Chunk(TracesPerQuery))
        {
            var now = (_time.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / 10;
            var writes = await PlaceChainsAsync([.. some.Select(traceId => new ChainDocument { TraceId = traceId, StartMicros = now, Dropped = true })], cancellationToken);

            // The markers first: what is left after a crash has one that counts no records, and so the next check finds it.
            await BulkAsync(_chains, writes, write => _chains.Name(write.Suffix), (write, output) =>
            {
                WriteAction(output, "index"u8, _chains.Name(write.Suffix), TraceHash.Of(write.Chain.TraceId), MarkerVersion);
                ElasticsearchDocuments.WriteMarker(write.Chain.TraceId, output);
            }, cancellationToken);
            var calls = writes.SelectMany(write => write.Former.Ids.Select(id => new CallWrite(_calls.Name(write.Suffix), id, MarkerVersion, 0, 0))).ToList();
            await BulkAsync(_calls, calls, call => call.Index, (call, output) => WriteAction(output, "delete"u8, call.Index, call.Id, call.Version), cancellationToken);

            await _records.RefreshAsync(cancellationToken, true);
            var records = new List<(string Index, string Id)>();
            await foreach (var hit in ScanAsync(_records.Pattern, TraceTerms(some), RecordOrder, cancellationToken, withSource: false))
                records.Add((hit.GetProperty("_index").GetString()!, hit.GetProperty("_id").GetString()!));
            await BulkAsync(_records, records, record => record.Index, WriteDelete, cancellationToken);
            removed += records.Count;
        }

        return removed;
    }

    async Task BulkAsync<T>(IndexGroup group, List<T> items, Func<T, string> index, Action<T, BulkBuffer> write, CancellationToken cancellationToken)
    {
        var results = new BulkResult[items.Count];
        try
        {
            await _bulk.SendAsync(items, write, results, cancellationToken);
        }
        finally
        {
            group.Written(items.Select(index));
        }

        ThrowIfRefused(results);
    }

    public async Task<IReadOnlySet<string>> FindDroppedAsync(IReadOnlyCollection<string> traceIds, CancellationToken cancellationToken)
    {
        // Not refreshed: it is asked before every write, and what was dropped a moment ago is found by the next check.
        var found = new HashSet<string>(StringComparer.Ordinal);
        foreach (var some in traceIds.Chunk(TracesPerQuery))
        {
            var body = new JsonObject { ["size"] = MaxHits, ["query"] = Filter([TraceTerms(some), Clause("term", "dropped", true)]), ["track_total_hits"] = false };
            using var json = await JsonAsync($"/{_chains.Pattern}/_search?{Whole}&_source_includes=trace_id&filter_path=hits.hits._source,_shards.failed", body, cancellationToken);
            if (!json.RootElement.TryGetProperty("hits", out var hits)) continue;
            foreach (var hit in hits.GetProperty("hits").EnumerateArray()) found.Add(ElasticsearchDocuments.Text(hit.GetProperty("_source"), "trace_id")!);
        }

        return found;
    }

    public async Task<IReadOnlyList<string>> FindUndecidedAsync(long beforeMicros, int limit, CancellationToken cancellationToken)
    {
        await _chains.RefreshAsync(cancellationToken);
        var body = new JsonObject
        {
            ["size"] = Math.Min(limit, MaxHits),
            ["query"] = Filter([Clause("range", "undecided_us", new JsonObject { ["lt"] = beforeMicros })]),
            ["sort"] = new JsonArray(new JsonObject { ["undecided_us"] = new JsonObject { ["order"] = "asc", ["unmapped_type"] = "long" } }),
            ["track_total_hits"] = false,
        };
        using var json = await JsonAsync($"/{_chains.Pattern}/_search?{Whole}&_source_includes=trace_id", body, cancellationToken);
        return [.. json.RootElement.GetProperty("hits").GetProperty("hits").EnumerateArray().Select(hit => ElasticsearchDocuments.Text(hit.GetProperty("_source"), "trace_id")!)];
    }

    /// <summary>
    /// Where each chain has its document, the oldest of several, and the versions of its calls there. One that another process began
    /// a moment ago in another day's index is not seen yet; <see cref="FindStaleTracesAsync"/> leaves the older of the two.
    /// </summary>
    async Task<List<ChainWrite>> PlaceChainsAsync(ChainDocument[] chains, CancellationToken cancellationToken)
    {
        await _chains.RefreshAsync(cancellationToken);
        var body = new JsonObject { ["size"] = MaxHits, ["query"] = TraceTerms(chains.Select(chain => chain.TraceId)), ["track_total_hits"] = false };
        var present = new Dictionary<string, (string Suffix, long Count, string? Calls)>(chains.Length);
        using (var json = await JsonAsync($"/{_chains.Pattern}/_search?{Whole}&_source_includes=trace_id,record_count,dropped,call_versions", body, cancellationToken))
        {
            foreach (var hit in json.RootElement.GetProperty("hits").GetProperty("hits").EnumerateArray())
            {
                var source = hit.GetProperty("_source");
                var (traceId, suffix) = (ElasticsearchDocuments.Text(source, "trace_id")!, _chains.Suffix(hit));
                if (present.TryGetValue(traceId, out var known) && string.CompareOrdinal(known.Suffix, suffix) <= 0) continue;
                var count = ElasticsearchDocuments.IsDropped(source) ? long.MaxValue : ElasticsearchDocuments.Number(source, "record_count") ?? 0;
                present[traceId] = (suffix, count, ElasticsearchDocuments.Text(source, "call_versions"));
            }
        }

        var writes = new List<ChainWrite>(chains.Length);
        foreach (var chain in chains)
        {
            var isPresent = present.TryGetValue(chain.TraceId, out var place);
            if (isPresent && place.Count > chain.RecordCount && !chain.Dropped) continue;
            var former = CallVersions.Parse(place.Calls);
            if (_unplaced.TryGetValue(chain.TraceId, out var ids)) former.Outdate(ids);
            writes.Add(new ChainWrite(chain, isPresent ? place.Suffix : PlaceOf(chain.StartMicros).Suffix, former, new CallVersions()));
        }

        return writes;
    }

    /// <summary>Where records and chains of a moment lie.</summary>
    /// <param name="Suffix">The index suffix.</param>
    /// <param name="Other">The one where a record of that moment may lie as well because the clock has moved or moves past a limit.</param>
    /// <param name="From">First moment of which the same holds.</param>
    /// <param name="To">First moment after those.</param>
    readonly record struct Place(string Suffix, string? Other, long From, long To)
    {
        public bool Holds(long micros) => micros >= From && micros < To;
    }

    Place PlaceOf(long micros)
    {
        var moment = ElasticsearchDocuments.Moment(micros);
        var now = _time.GetUtcNow().UtcDateTime;
        var oldest = now.AddDays(-_options.OverflowAfterDays);
        var newest = now.AddDays(_options.OverflowAheadDays);
        if (moment < oldest || moment > newest) return new Place(Overflow, Day(moment), 0, 0);

        // Within a day of a limit.
        var (certain, doubtful) = (oldest.AddDays(1), newest.AddDays(-1));
        if (moment < certain || moment > doubtful) return new Place(Day(moment), Overflow, 0, 0);
        var (first, end) = (moment.Date, moment.Date.AddDays(1));
        return new Place(Day(moment), null, ElasticsearchDocuments.Micros(first > certain ? first : certain), ElasticsearchDocuments.Micros(end < doubtful ? end : doubtful));
    }

    // Thousands of records in a row are of one day.
    string Day(DateTime moment)
    {
        var (day, name) = _lastDay;
        if (day == moment.Date) return name;
        name = moment.ToString(DayFormat, CultureInfo.InvariantCulture);
        _lastDay = Tuple.Create(moment.Date, name);
        return name;
    }

    public async Task<IReadOnlyList<IndexedRecord>> GetTraceAsync(string traceId, CancellationToken cancellationToken) =>
        (await GetTracesAsync([traceId], cancellationToken)).GetValueOrDefault(traceId, []);

    public async Task<IReadOnlyDictionary<string, IReadOnlyList<IndexedRecord>>> GetTracesAsync(IReadOnlyList<string> traceIds, CancellationToken cancellationToken)
    {
        await _records.RefreshAsync(cancellationToken);
        var records = new Dictionary<UInt128, IndexedRecord>();
        await foreach (var hit in ScanAsync(_records.Pattern, TraceTerms(traceIds), RecordOrder, cancellationToken))
        {
            var record = ElasticsearchDocuments.ReadRecord(JsonMarshal.GetRawUtf8Value(hit.GetProperty("_source")));
            records.TryAdd(record.RecordId, record);
        }

        return records.Values.GroupBy(record => record.Record.TraceId!, StringComparer.Ordinal)
            .ToDictionary(trace => trace.Key, IReadOnlyList<IndexedRecord> (trace) => [.. trace], StringComparer.Ordinal);
    }

    /// <summary>All hits of a query, however many, in the order of a keyword that no two of them share. Each is valid until the next.</summary>
    // An id that is a text of its own for every document costs the server more than all numbers together, to index and to sort by. So records are
    // paged through by numbers, and documents that agree in them never lie on two pages.
    static readonly string[] RecordOrder = ["start_us", "source_offset"], CallOrder = ["start_us", "rpc_id"];

    async IAsyncEnumerable<JsonElement> ScanAsync(
        string pattern, JsonNode query, string[] order, [EnumeratorCancellation] CancellationToken cancellationToken, bool withSource = true)
    {
        JsonArray? after = null;
        var size = MaxPage;
        while (true)
        {
            var body = new JsonObject
            {
                ["size"] = size,
                ["query"] = query.DeepClone(),
                ["sort"] = new JsonArray([.. order.Select(field => new JsonObject { [field] = new JsonObject { ["order"] = "asc", ["unmapped_type"] = "long" } })]),
                ["track_total_hits"] = false,
            };
            if (after is not null) body["search_after"] = after.DeepClone();
            if (!withSource) body["_source"] = false;

            // No filter_path: with one the server writes the documents anew and may change how numbers look.
            var answer = await _http.SendAsync(HttpMethod.Post, $"/{pattern}/_search?{Whole}", body, cancellationToken, size > 1 ? [429, 500, 503] : []);
            if (answer.Status != 200)
            {
                // Too much for the server's memory at once, perhaps; with one document a page it is only unavailable.
                size = Math.Max(1, size / 4);
                continue;
            }

            using var json = Parse(answer, "_search");
            var hits = json.RootElement.GetProperty("hits").GetProperty("hits");
            var count = hits.GetArrayLength();
            var whole = count < size ? count : WholeGroups(hits, count);
            if (whole == 0 && size is > 1 and < MaxHits)
            {
                size = Math.Min(MaxHits, size * 4);
                continue;
            }

            // One document at a time, or ten thousand that agree: there is no more to tell them apart by.
            if (whole == 0) whole = count;
            for (var i = 0; i < whole; i++) yield return hits[i];
            if (count < size) yield break;
            after = JsonArray.Create(hits[whole - 1].GetProperty("sort").Clone());
            size = answer.Body.Length > MaxPageBytes ? Math.Max(1, size / 2) : answer.Body.Length < MaxPageBytes / 4 ? Math.Min(MaxPage, size * 2) : size;
        }
    }

    // Without the documents at the end that the next page may have more of.
    static int WholeGroups(JsonElement hits, int count)
    {
        var last = hits[count - 1].GetProperty("sort");
        while (count > 0 && JsonElement.DeepEquals(hits[count - 1].GetProperty("sort"), last)) count--;
        return count;
    }

    public async Task<ChainDocument?> GetChainAsync(string traceId, CancellationToken cancellationToken)
    {
        await Task.WhenAll(_chains.RefreshAsync(cancellationToken), _calls.RefreshAsync(cancellationToken));
        var body = new JsonObject { ["size"] = 10, ["query"] = Term("trace_id", traceId) };
        ChainDocument? chain = null;
        string suffix = "";
        using (var json = await JsonAsync($"/{_chains.Pattern}/_search?{Whole}", body, cancellationToken))
        {
            foreach (var hit in json.RootElement.GetProperty("hits").GetProperty("hits").EnumerateArray().OrderBy(hit => _chains.Suffix(hit), StringComparer.Ordinal))
            {
                var candidate = ElasticsearchDocuments.ReadChain(hit.GetProperty("_source"));
                if (chain is not null && chain.RecordCount >= candidate.RecordCount) continue;
                (chain, suffix) = (candidate, _chains.Suffix(hit));
            }
        }

        if (chain is null) return null;
        var calls = new List<CallDocument>();
        await foreach (var hit in ScanAsync(_calls.Name(suffix) + "*", Term("trace_id", traceId), CallOrder, cancellationToken))
            calls.Add(ElasticsearchDocuments.ReadCall(hit.GetProperty("_source")));
        return chain with { Calls = calls };
    }

    public async Task<IReadOnlyList<ChainDocument>> FindChainsAsync(TraceQuery query, CancellationToken cancellationToken)
    {
        await _chains.RefreshAsync(cancellationToken);
        var filters = Filters(query);
        var text = query.Text?.Trim() ?? "";
        if (text.Length == 0) return await FindPageAsync(filters, query.Limit, cancellationToken);

        await _records.RefreshAsync(cancellationToken);
        var words = new JsonArray([.. text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(word => Clause("match_phrase", "msg", word))]);
        var (traces, isAll) = await FindTracesAsync(words, FewTraces, cancellationToken);
        if (isAll)
        {
            filters.Add(Clause("terms", "trace_id", new JsonArray([.. traces.Append(text).Select(trace => JsonValue.Create(trace))])));
            return await FindPageAsync(filters, query.Limit, cancellationToken);
        }

        // So common that the newest chains will have them: chains page by page, and which of those have the words.
        var found = new List<ChainDocument>();
        await foreach (var page in ChainPagesAsync(filters, TracesPerQuery, cancellationToken))
        {
            var ids = page.Select(chain => chain.TraceId).ToHashSet();
            var inPage = Clause("terms", "trace_id", new JsonArray([.. ids.Select(trace => JsonValue.Create(trace))]));
            var (having, _) = await FindTracesAsync(new JsonArray([inPage, .. words.Select(word => word!.DeepClone())]), ids.Count, cancellationToken);
            var matching = having.Append(text).ToHashSet();
            found.AddRange(page.Where(chain => matching.Contains(chain.TraceId)));
            if (found.Count >= query.Limit) break;
        }

        return [.. found.Take(query.Limit)];
    }

    static JsonArray Filters(TraceQuery query)
    {
        var filters = new JsonArray(NotDropped());
        if (!string.IsNullOrEmpty(query.Service)) filters.Add(Term("services", query.Service));
        if (!string.IsNullOrEmpty(query.Uid)) filters.Add(Term("uid", query.Uid));
        if (!string.IsNullOrEmpty(query.Action))
        {
            var escaped = query.Action.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("*", "\\*", StringComparison.Ordinal).Replace("?", "\\?", StringComparison.Ordinal);
            filters.Add(Clause("wildcard", "entry_action", new JsonObject { ["value"] = $"*{escaped}*", ["case_insensitive"] = true }));
        }

        var start = new JsonObject();
        if (query.FromMicros is { } from) start["gte"] = from;
        if (query.ToMicros is { } to) start["lt"] = to;
        if (start.Count > 0) filters.Add(Clause("range", "start_us", start));
        if (query.MinDurationMicros is { } duration) filters.Add(Clause("range", "duration_us", new JsonObject { ["gte"] = duration }));
        if (query.HasErrors is { } hasErrors) filters.Add(Clause("range", "error_count", hasErrors ? new JsonObject { ["gt"] = 0 } : new JsonObject { ["lte"] = 0 }));
        if (query.Complete is { } complete) filters.Add(Clause("term", "complete", JsonValue.Create(complete)));
        return filters;
    }

    static JsonObject NotDropped() => new() { ["bool"] = new JsonObject { ["must_not"] = new JsonArray(Clause("term", "dropped", true)) } };

    async Task<IReadOnlyList<ChainDocument>> FindPageAsync(JsonArray filters, int limit, CancellationToken cancellationToken)
    {
        var found = new List<ChainDocument>();
        await foreach (var page in ChainPagesAsync(filters, limit, cancellationToken))
        {
            found.AddRange(page);
            if (found.Count >= limit) break;
        }

        return [.. found.Take(limit)];
    }

    /// <summary>Chains by start, newest first, a page at a time, each trace once.</summary>
    async IAsyncEnumerable<List<ChainDocument>> ChainPagesAsync(
        JsonArray filters, int size, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        JsonNode? after = null;
        var seen = new HashSet<string>();
        while (true)
        {
            var body = new JsonObject
            {
                ["size"] = size,
                ["query"] = Filter(filters.DeepClone().AsArray()),
                ["sort"] = new JsonArray(
                    new JsonObject { ["start_us"] = new JsonObject { ["order"] = "desc", ["unmapped_type"] = "long" } },
                    new JsonObject { ["trace_id"] = new JsonObject { ["order"] = "asc", ["unmapped_type"] = "keyword" } }),
                ["track_total_hits"] = false,
            };
            if (after is not null) body["search_after"] = after;
            using var json = await JsonAsync($"/{_chains.Pattern}/_search?{Whole}&_source_excludes=rows,call_versions", body, cancellationToken);
            var hits = json.RootElement.GetProperty("hits").GetProperty("hits");
            var count = hits.GetArrayLength();
            var page = hits.EnumerateArray().Select(hit => ElasticsearchDocuments.ReadChain(hit.GetProperty("_source")))
                .GroupBy(chain => chain.TraceId).Select(group => group.MaxBy(chain => chain.RecordCount)!)
                .Where(chain => seen.Add(chain.TraceId)).ToList();
            yield return page;
            if (count < size) yield break;
            after = JsonNode.Parse(hits[count - 1].GetProperty("sort").GetRawText());
        }
    }

    /// <summary>Ids of traces with a record that meets all conditions: at most <paramref name="limit"/>, and whether that is all.</summary>
    async Task<(List<string> Traces, bool IsAll)> FindTracesAsync(JsonArray conditions, int limit, CancellationToken cancellationToken)
    {
        var traces = new List<string>();
        await foreach (var page in TracePagesAsync(Filter(conditions.DeepClone().AsArray()), cancellationToken))
        {
            traces.AddRange(page);
            if (traces.Count > limit) return (traces, false);
        }

        return (traces, true);
    }

    /// <summary>Ids of all traces that have a record which meets the query, a page at a time.</summary>
    async IAsyncEnumerable<List<string>> TracePagesAsync(JsonNode query, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        string? after = null;
        while (true)
        {
            var composite = new JsonObject
            {
                ["size"] = TracesPerQuery,
                ["sources"] = new JsonArray(new JsonObject { ["trace"] = new JsonObject { ["terms"] = new JsonObject { ["field"] = "trace_id" } } }),
            };
            if (after is not null) composite["after"] = new JsonObject { ["trace"] = after };
            var body = new JsonObject
            {
                ["size"] = 0,
                ["query"] = query.DeepClone(),
                ["track_total_hits"] = false,
                ["aggs"] = new JsonObject { ["traces"] = new JsonObject { ["composite"] = composite } },
            };
            using var json = await JsonAsync($"/{_records.Pattern}/_search?{Whole}", body, cancellationToken);

            // Without any index there is no aggregation in the answer.
            if (!json.RootElement.TryGetProperty("aggregations", out var aggregations)) yield break;
            var traces = aggregations.GetProperty("traces").GetProperty("buckets").EnumerateArray().Select(bucket => bucket.GetProperty("key").GetProperty("trace").GetString()!).ToList();
            if (traces.Count > 0) yield return traces;
            if (traces.Count < TracesPerQuery) yield break;
            after = traces[^1];
        }
    }

    public async Task<IReadOnlyList<string>> FindStaleTracesAsync(long sinceMicros, CancellationToken cancellationToken)
    {
        await Task.WhenAll(_records.RefreshAsync(cancellationToken, true), _chains.RefreshAsync(cancellationToken, true));
        var stale = new List<string>();

        var since = Clause("range", "ingested_at", new JsonObject { ["gte"] = ElasticsearchDocuments.Iso(sinceMicros) });
        await foreach (var traces in TracePagesAsync(since, cancellationToken))
        {
            var stored = await CountRecordsAsync(traces, cancellationToken);
            var chained = await CountInChainsAsync(traces, cancellationToken);
            stale.AddRange(traces.Where(trace => !chained.TryGetValue(trace, out var count) || count != stored.GetValueOrDefault(trace)));
        }

        return stale;
    }

    async Task<Dictionary<string, long>> CountRecordsAsync(List<string> traces, CancellationToken cancellationToken)
    {
        // As many buckets as there are traces, so that no shard leaves one out and the counts are exact.
        var body = new JsonObject
        {
            ["size"] = 0,
            ["query"] = TraceTerms(traces),
            ["track_total_hits"] = false,
            ["aggs"] = new JsonObject { ["traces"] = new JsonObject { ["terms"] = new JsonObject { ["field"] = "trace_id", ["size"] = traces.Count } } },
        };
        using var json = await JsonAsync($"/{_records.Pattern}/_search?{Whole}", body, cancellationToken);
        return json.RootElement.GetProperty("aggregations").GetProperty("traces").GetProperty("buckets").EnumerateArray()
            .ToDictionary(bucket => bucket.GetProperty("key").GetString()!, bucket => bucket.GetProperty("doc_count").GetInt64());
    }

    /// <summary>record_count of the chains of these traces. A chain found in two indices is left in the older one only.</summary>
    async Task<Dictionary<string, long>> CountInChainsAsync(List<string> traces, CancellationToken cancellationToken)
    {
        var counts = new Dictionary<string, long>(traces.Count);
        var places = new List<(string Trace, string Suffix, long Count, bool IsDropped)>();
        foreach (var some in traces.Chunk(TracesPerQuery))
        {
            var body = new JsonObject { ["size"] = MaxHits, ["query"] = TraceTerms(some), ["track_total_hits"] = false };
            using var json = await JsonAsync($"/{_chains.Pattern}/_search?{Whole}&_source_includes=trace_id,record_count,dropped", body, cancellationToken);
            foreach (var hit in json.RootElement.GetProperty("hits").GetProperty("hits").EnumerateArray())
            {
                var source = hit.GetProperty("_source");
                places.Add((ElasticsearchDocuments.Text(source, "trace_id")!, _chains.Suffix(hit), ElasticsearchDocuments.Number(source, "record_count") ?? 0, ElasticsearchDocuments.IsDropped(source)));
            }
        }

        foreach (var group in places.GroupBy(place => place.Trace))
        {
            // What was dropped stays so, whoever began it anew.
            var inOrder = group.OrderByDescending(place => place.IsDropped).ThenBy(place => place.Suffix, StringComparer.Ordinal).ToList();
            counts[group.Key] = inOrder[0].Count;
            foreach (var (trace, suffix, _, _) in inOrder.Skip(1)) await DeleteChainAsync(trace, suffix, cancellationToken);
        }

        return counts;
    }

    /// <summary>Deletes a chain and its calls from one day's indices. Not by query: not every server has that.</summary>
    async Task DeleteChainAsync(string traceId, string suffix, CancellationToken cancellationToken)
    {
        await _calls.RefreshAsync(cancellationToken, true);
        var ids = new List<(string Index, string Id)>();
        await foreach (var hit in ScanAsync(_calls.Name(suffix) + "*", Term("trace_id", traceId), CallOrder, cancellationToken))
            ids.Add((hit.GetProperty("_index").GetString()!, hit.GetProperty("_id").GetString()!));

        // The chain last: what is left after a crash is found again.
        ids.Add((_chains.Name(suffix), ElasticsearchDocuments.IdOf(traceId)));
        await _bulk.SendAsync(ids[..^1], WriteDelete, new BulkResult[ids.Count - 1], cancellationToken);
        await _bulk.SendAsync(ids[^1..], WriteDelete, new BulkResult[1], cancellationToken);
        _calls.Written([_calls.Name(suffix)]);
        _chains.Written([_chains.Name(suffix)]);
    }

    static void WriteDelete((string Index, string Id) document, BulkBuffer output)
    {
        BeginAction(output, "delete"u8, document.Index);
        output.WriteAscii(document.Id);
        output.Write("\"}}\n"u8);
    }

    /// <summary>Deprecation warnings that the server has answered with.</summary>
    internal ICollection<string> Warnings => _http.Warnings;

    public void WriteMetrics(PrometheusText output) => _bulk.Figures.WriteTo(output);

    public async Task<StoreCounts> CountAsync(CancellationToken cancellationToken)
    {
        await Task.WhenAll(_records.RefreshAsync(cancellationToken, true), _chains.RefreshAsync(cancellationToken, true));
        return new StoreCounts(await CountAsync(_records, cancellationToken), await CountAsync(_chains, cancellationToken, NotDropped()));
    }

    async Task<long> CountAsync(IndexGroup group, CancellationToken cancellationToken, JsonObject? query = null)
    {
        var body = new JsonObject { ["size"] = 0, ["track_total_hits"] = true };
        if (query is not null) body["query"] = query;
        using var json = await JsonAsync($"/{group.Pattern}/_search?{Whole}", body, cancellationToken);
        return json.RootElement.GetProperty("hits").GetProperty("total").GetProperty("value").GetInt64();
    }

    async Task<JsonDocument> JsonAsync(string path, JsonObject body, CancellationToken cancellationToken) =>
        Parse(await _http.SendAsync(HttpMethod.Post, path, body, cancellationToken), path);

    static JsonDocument Parse(ElasticsearchHttp.Answer answer, string path)
    {
        try
        {
            return JsonDocument.Parse(answer.Body, new JsonDocumentOptions { MaxDepth = 512 });
        }
        catch (JsonException exception)
        {
            throw new StoreUnavailableException($"POST {path}: an answer that is no JSON: {exception.Message}", exception);
        }
    }

    static JsonNode Term(string field, string value) => Clause("term", field, JsonValue.Create(value));

    static JsonNode TraceTerms(IEnumerable<string> traces) => Clause("terms", "trace_id", new JsonArray([.. traces.Select(trace => JsonValue.Create(trace))]));

    static JsonNode Clause(string kind, string field, JsonNode value) => new JsonObject { [kind] = new JsonObject { [field] = value } };

    static JsonObject Filter(JsonArray clauses) => new() { ["bool"] = new JsonObject { ["filter"] = clauses } };

    public ValueTask DisposeAsync()
    {
        _http.Dispose();
        return ValueTask.CompletedTask;
    }

    readonly record struct RecordWrite(IndexedRecord Record, string Index, string? Other);

    /// <param name="Start">Where its document lies.</param>
    /// <param name="Length">0 for a call that is gone.</param>
    readonly record struct CallWrite(string Index, UInt128 Id, long Version, int Start, int Length);

    sealed record ChainWrite(ChainDocument Chain, string Suffix, CallVersions Former, CallVersions Calls);

    /// <summary>
    /// The indices of one kind, and which of them have to be refreshed before a search sees all that was written. A search that
    /// follows other searches without a write between them costs no refresh, so that many chains are built after one.
    /// </summary>
    sealed class IndexGroup(string stem, ElasticsearchHttp http)
    {
        // What other processes write is seen after this long at the latest, or at once by a process that does not write itself.
        static readonly TimeSpan OthersSeenAfter = TimeSpan.FromSeconds(1);

        readonly SemaphoreSlim _oneAtATime = new(1);
        readonly HashSet<string> _unseen = [];
        volatile string? _lastName;
        bool _isWriter;

        // When the last refreshes began: of what this process wrote, and of everything.
        long? _refreshed;
        long? _refreshedAll;

        public string Pattern => stem + "*";

        public string Name(string suffix)
        {
            var last = _lastName;
            return last is not null && last.AsSpan(stem.Length).SequenceEqual(suffix) ? last : _lastName = stem + suffix;
        }

        /// <summary>The suffix of the index that a hit lies in.</summary>
        public string Suffix(JsonElement hit) => hit.GetProperty("_index").GetString()![stem.Length..];

        public void Written(IEnumerable<string> indices)
        {
            lock (_unseen)
            {
                // Thousands in a row are one and the same string.
                string? last = null;
                foreach (var index in indices)
                {
                    if (ReferenceEquals(index, last)) continue;
                    _isWriter |= _unseen.Add(last = index);
                }
            }
        }

        /// <summary>Makes everything visible that was written before the call. Who waits while another's refresh runs shares the next one with all who wait: many readers of a busy store cost it no more than one.</summary>
        /// <param name="cancellationToken">Ends the wait.</param>
        /// <param name="everything">True: also what other processes wrote a moment ago.</param>
        public async Task RefreshAsync(CancellationToken cancellationToken, bool everything = false)
        {
            var asked = Stopwatch.GetTimestamp();
            await _oneAtATime.WaitAsync(cancellationToken);
            string[] own = [];
            try
            {
                if ((everything ? _refreshedAll : _refreshed) >= asked) return;
                lock (_unseen)
                {
                    everything |= !_isWriter || _refreshedAll is null || Stopwatch.GetElapsedTime(_refreshedAll.Value) > OthersSeenAfter;
                    own = [.. _unseen];
                    _unseen.Clear();
                }

                var now = Stopwatch.GetTimestamp();
                if (everything) await RefreshAsync(Pattern, cancellationToken);
                else foreach (var some in own.Chunk(50)) await RefreshAsync(string.Join(',', some), cancellationToken);
                _refreshed = now;
                if (everything) _refreshedAll = now;
            }
            catch
            {
                Written(own); // not refreshed after all
                throw;
            }
            finally
            {
                _oneAtATime.Release();
            }
        }

        async Task RefreshAsync(string indices, CancellationToken cancellationToken)
        {
            var answer = await http.SendAsync(HttpMethod.Post, $"/{indices}/_refresh?ignore_unavailable=true&allow_no_indices=true", null, cancellationToken);
            using var json = Parse(answer, "_refresh");
            if (json.RootElement.TryGetProperty("_shards", out var shards) && ElasticsearchDocuments.Number(shards, "failed") is > 0 and var failed)
                throw new StoreUnavailableException($"POST /{indices}/_refresh: {failed} shards failed.");
        }
    }
}
