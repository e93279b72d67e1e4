using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.IO.Compression;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using LogTrace.Shipper;

namespace LogTrace.Indexer.Store;

/// <summary>What became of one operation of a bulk.</summary>
enum BulkOutcome
{
    /// <summary>Nothing is known: the bulk gave up before an answer named it.</summary>
    Unknown,

    /// <summary>Carried out, durably. For a delete also: there was nothing to delete.</summary>
    Done,

    /// <summary>409: the document, or a newer version of it, is there already.</summary>
    Conflict,

    /// <summary>The server will never take it.</summary>
    Refused,
}

/// <param name="Outcome">What became of the operation.</param>
/// <param name="Reason">Why it was refused, in one line.</param>
/// <param name="MaybeEarlier">An earlier attempt got no answer: a conflict may be with ourselves.</param>
readonly record struct BulkResult(BulkOutcome Outcome, string? Reason = null, bool MaybeEarlier = false);

/// <summary>
/// Sends operations in bulk requests and settles each one by itself: HTTP 200 does not mean that every item was taken. What is not
/// settled is sent again, alone; what is too large is split. All operations carry an id, so that sending one twice is harmless.
/// </summary>
sealed class ElasticsearchBulk(ElasticsearchHttp http, ElasticsearchOptions options)
{
    // Without the names of indices and documents an answer is a tenth the size. The order and number of items stay.
    // The server gives up on a shard that is away before we give up on the server, so that the other items get their answer.
    readonly string _path = string.Create(
        CultureInfo.InvariantCulture, $"/_bulk?timeout={(long)options.Timeout.TotalMilliseconds / 2}ms&filter_path=errors,items.*.status,items.*.error");

    const int MaxReason = 400;

    // Refusals with status 400 or 403 that are about the state of the cluster (too many shards, a full disk), not about the document.
    static readonly string[] PassingTypes = ["validation_exception", "cluster_block_exception", "security_exception", "process_cluster_event_timeout_exception"];

    readonly SemaphoreSlim _inFlight = new(options.BulksInFlight);

    public BulkFigures Figures { get; } = new();

    /// <summary>Sends one operation per item and waits until each is settled.</summary>
    /// <param name="items">What to send, in order; requests of more than one may overtake each other.</param>
    /// <param name="write">Writes an item's action line and document line, each with its line end.</param>
    /// <param name="results">One per item, set as they become known, also when this throws.</param>
    /// <exception cref="StoreUnavailableException">Nothing went through for too long.</exception>
    public async Task SendAsync<T>(IReadOnlyList<T> items, Action<T, BulkBuffer> write, BulkResult[] results, CancellationToken cancellationToken)
    {
        var requests = new List<Task>();
        var next = 0;
        while (next < items.Count && !requests.Exists(request => request.IsFaulted))
        {
            await _inFlight.WaitAsync(cancellationToken);
            try
            {
                var buffer = new BulkBuffer(options.BulkBytes + (options.BulkBytes / 8));
                var first = next;
                while (next < items.Count && buffer.Length < options.BulkBytes)
                {
                    write(items[next++], buffer);
                    buffer.EndOperation();
                }

                requests.Add(SendOneAsync(buffer, results.AsMemory(first, next - first), cancellationToken));
            }
            catch
            {
                _inFlight.Release(); // writing failed, nothing will do it for us
                await Task.WhenAll(requests).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                throw;
            }
        }

        await Task.WhenAll(requests);
    }

    async Task SendOneAsync(BulkBuffer buffer, Memory<BulkResult> results, CancellationToken cancellationToken)
    {
        try
        {
            await SettleAsync(buffer, [.. Enumerable.Range(0, buffer.Count)], results, new Patience(options.GiveUpAfter), cancellationToken);
        }
        finally
        {
            Figures.Settled(results.Span, buffer.Length);
            _inFlight.Release();
        }

        buffer.Return();
    }

    async Task SettleAsync(BulkBuffer buffer, int[] pending, Memory<BulkResult> results, Patience patience, CancellationToken cancellationToken)
    {
        var askFirst = false;
        while (pending.Length > 0)
        {
            string problem;
            var started = Stopwatch.GetTimestamp();
            try
            {
                var answer = await http.SendOnceAsync(HttpMethod.Post, _path, buffer.Content(pending, options.Compresses), askFirst, cancellationToken);
                Figures.Answered(Stopwatch.GetElapsedTime(started), answer.Status);
                if (answer.Status == 200)
                {
                    var (left, reason) = Take(answer.Body, buffer, pending, results.Span);
                    if (left.Length < pending.Length) patience.Reset();
                    pending = left;
                    if (left.Length == 0) return;
                    problem = $"{left.Length} items: {reason}";
                }
                else
                {
                    buffer.Keep();
                    problem = answer.Describe();
                }

                if (answer.Status == 413 || (answer.Status == 400 && answer.IsElasticsearchError) || (answer.Status is 200 or 429 && NeverFits(answer.Status == 200 ? problem : answer.Text)))
                {
                    if (pending.Length == 1)
                    {
                        results.Span[pending[0]] = new BulkResult(BulkOutcome.Refused, $"{problem} ({buffer.Bytes(pending[0]):N0} bytes)");
                        return;
                    }

                    var half = pending.Length / 2;
                    await SettleAsync(buffer, pending[..half], results, patience, cancellationToken);
                    pending = pending[half..];
                    continue;
                }

                if (answer.Status != 200)
                {
                    if (!answer.IsPassing) throw new StoreUnavailableException($"POST /_bulk: {problem}");
                    if (answer.Status >= 500) MarkUncertain(pending, results.Span);
                }
            }
            catch (NoAnswerException exception)
            {
                Figures.Answered(Stopwatch.GetElapsedTime(started), null);
                buffer.Keep();
                problem = exception.Message;
                askFirst = true;
                MarkUncertain(pending, results.Span);
            }
            catch (JsonException exception)
            {
                problem = $"HTTP 200 with a body that is no bulk answer: {exception.Message}";
                MarkUncertain(pending, results.Span);
            }

            Figures.Repeated(pending.Length);
            await patience.WaitAsync($"POST /_bulk: {problem}", cancellationToken);
        }
    }

    /// <summary>
    /// True for the 429 that never passes: a request larger than all the memory the server has for writes (a tenth of its heap). It says both figures:
    /// "coordinating_operation_bytes=62915407, max_coordinating_and_primary_bytes=53687091".
    /// </summary>
    static bool NeverFits(string problem) =>
        Regex.Match(problem, @"operation_bytes=(\d{1,18}), max_\w+=(\d{1,18})\b") is { Success: true } sizes &&
        long.Parse(sizes.Groups[1].ValueSpan, CultureInfo.InvariantCulture) > long.Parse(sizes.Groups[2].ValueSpan, CultureInfo.InvariantCulture);

    static void MarkUncertain(int[] pending, Span<BulkResult> results)
    {
        foreach (var index in pending) results[index] = new BulkResult(BulkOutcome.Unknown, null, true);
    }

    /// <summary>Settles the items that the answer settles; gives back the others with the reason of the last.</summary>
    /// <exception cref="JsonException">The body is not the answer to this request.</exception>
    static (int[] Left, string? Reason) Take(byte[] body, BulkBuffer buffer, int[] pending, Span<BulkResult> results)
    {
        if (AreAllDone(body, pending.Length))
        {
            foreach (var index in pending) results[index] = results[index] with { Outcome = BulkOutcome.Done };
            return ([], null);
        }

        using var json = JsonDocument.Parse(body);
        if (json.RootElement.ValueKind != JsonValueKind.Object || !json.RootElement.TryGetProperty("items", out var items) || items.ValueKind != JsonValueKind.Array)
            throw new JsonException("it has no items");
        if (items.GetArrayLength() != pending.Length) throw new JsonException($"it has {items.GetArrayLength()} items where {pending.Length} were sent");

        // Read whole before anything counts: half an answer would settle items that it says nothing about.
        var answers = new List<(string Action, int Status, JsonElement Error)>(pending.Length);
        foreach (var item in items.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.Object) throw new JsonException("an item is no object");
            JsonProperty action = default;
            foreach (var member in item.EnumerateObject())
            {
                action = member;
                break;
            }

            if (action.Value.ValueKind != JsonValueKind.Object || !action.Value.TryGetProperty("status", out var status) || !status.TryGetInt32(out var number))
                throw new JsonException("an item has no status");
            answers.Add((action.Name, number, action.Value.TryGetProperty("error", out var error) ? error : default));
        }

        var left = new List<int>();
        string? lastReason = null;
        for (var i = 0; i < pending.Length; i++)
        {
            var (action, status, error) = answers[i];
            ref var result = ref results[pending[i]];
            if (status is 200 or 201 || (status == 404 && action == "delete"))
            {
                result = result with { Outcome = BulkOutcome.Done };
            }
            else if (status == 409)
            {
                result = result with { Outcome = BulkOutcome.Conflict };
            }
            else if (status is < 400 or 401 or 403 or 404 or 408 or 429 or >= 500 || PassingTypes.Contains(Text(error, "type")))
            {
                lastReason = $"HTTP {status} {Describe(error)}";
                if (status >= 500) result = result with { MaybeEarlier = true };
                left.Add(pending[i]);
            }
            else
            {
                result = result with { Outcome = BulkOutcome.Refused, Reason = $"{Describe(error)} ({buffer.Bytes(pending[i]):N0} bytes)" };
            }
        }

        return ([.. left], lastReason);
    }

    /// <summary>
    /// True for the answer that nearly every request gets, told by its bytes: no errors, as many items as were sent, each of them carried out. What looks otherwise in any way, be it by a
    /// blank, is left to be read item by item.
    /// </summary>
    internal static bool AreAllDone(ReadOnlySpan<byte> body, int count)
    {
        if (!body.StartsWith("{\"errors\":false,\"items\":["u8)) return false;
        body = body["{\"errors\":false,\"items\":["u8.Length..];
        var last = ReadOnlySpan<byte>.Empty;
        for (; count > 0; count--)
        {
            if (last.IsEmpty || !body.StartsWith(last))
            {
                last = DoneItem(body);
                if (last.IsEmpty) return false;
            }

            body = body[last.Length..];
            if (count == 1) break;
            if (body.IsEmpty || body[0] != (byte)',') return false;
            body = body[1..];
        }

        return body.SequenceEqual("]}"u8);
    }

    /// <summary>The item that the text begins with if it says that its operation was carried out, else nothing.</summary>
    static ReadOnlySpan<byte> DoneItem(ReadOnlySpan<byte> body)
    {
        if (body.StartsWith("{\"create\":{\"status\":201}}"u8)) return "{\"create\":{\"status\":201}}"u8;
        if (body.StartsWith("{\"index\":{\"status\":201}}"u8)) return "{\"index\":{\"status\":201}}"u8;
        if (body.StartsWith("{\"index\":{\"status\":200}}"u8)) return "{\"index\":{\"status\":200}}"u8;
        return default;
    }

    static string? Text(JsonElement error, string name) =>
        error.ValueKind == JsonValueKind.Object && error.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString() : null;

    // "mapper_parsing_exception: failed to parse: Duplicate field 'a'": the outer reason alone rarely says what is wrong.
    static string Describe(JsonElement error)
    {
        var text = new StringBuilder(Text(error, "type") ?? "no error given");
        for (var depth = 0; error.ValueKind == JsonValueKind.Object && depth < 4; depth++)
        {
            if (Text(error, "reason") is { } reason) text.Append(": ").Append(reason);
            if (!error.TryGetProperty("caused_by", out error)) break;
        }

        var line = string.Join(' ', text.ToString().Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        return line.Length <= MaxReason ? line : line[..MaxReason] + "...";
    }
}

/// <summary>How bulk requests went since the start. Thread-safe.</summary>
sealed class BulkFigures
{
    readonly ConcurrentDictionary<string, long> _answers = new();
    readonly long[] _outcomes = new long[Enum.GetValues<BulkOutcome>().Length];
    long _repeated, _bytes;

    /// <summary>Each attempt, from its first byte to the whole answer.</summary>
    public TimeHistogram Times { get; } = new();

    /// <param name="took">How long it took.</param>
    /// <param name="status">Null when no whole answer came.</param>
    public void Answered(TimeSpan took, int? status)
    {
        Times.Add(took);
        _answers.AddOrUpdate(status?.ToString(CultureInfo.InvariantCulture) ?? "none", 1, (_, count) => count + 1);
    }

    public void Repeated(int items) => Interlocked.Add(ref _repeated, items);

    public void Settled(ReadOnlySpan<BulkResult> results, int bytes)
    {
        Interlocked.Add(ref _bytes, bytes);
        Span<int> counts = stackalloc int[_outcomes.Length];
        foreach (var result in results) counts[(int)result.Outcome]++;
        for (var outcome = 0; outcome < counts.Length; outcome++) Interlocked.Add(ref _outcomes[outcome], counts[outcome]);
    }

    public void WriteTo(PrometheusText output)
    {
        output.Histogram("bulk_seconds", "Bulk requests, each attempt.", Times);
        output.Counter("bulk_answers", "Answers to bulk requests by HTTP status; none where no whole answer came.", "status", _answers.OrderBy(it => it.Key, StringComparer.Ordinal).Select(it => (it.Key, (double)it.Value)));
        output.Counter("bulk_items", "Documents by what became of them: done, conflict (there already), refused for good, unknown (given up, written again by the caller).", "outcome",
            Enum.GetValues<BulkOutcome>().Select(outcome => (outcome.ToString().ToLowerInvariant(), (double)Interlocked.Read(ref _outcomes[(int)outcome]))));
        output.Counter("bulk_repeated_items", "Documents sent once more, since the server did not take them just then.", Interlocked.Read(ref _repeated));
        output.Counter("bulk_bytes", "Bytes of bulk requests before compression, repetitions not counted.", Interlocked.Read(ref _bytes));
    }
}

/// <summary>The operations of one bulk request as they are sent, one after another in one pooled array, and where each lies. Not thread-safe.</summary>
sealed class BulkBuffer(int capacity) : JsonBuffer(capacity)
{
    readonly List<int> _ends = [];

    /// <inheritdoc/>
    public override void Return()
    {
        base.Return();
        _ends.Clear();
    }

    /// <summary>Number of operations.</summary>
    public int Count => _ends.Count;

    public void EndOperation() => _ends.Add(Length);

    /// <summary>Size of one operation.</summary>
    public int Bytes(int operation) => _ends[operation] - Start(operation);

    /// <summary>A request body of the given operations.</summary>
    public HttpContent Content(int[] operations, bool compressed)
    {
        var content = new Operations(this, operations);
        if (!compressed) return content;
        using var packed = new MemoryStream(Length / 4);
        using (var gzip = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true)) content.WriteTo(gzip);
        var body = new ByteArrayContent(packed.GetBuffer(), 0, (int)packed.Length);
        body.Headers.ContentType = content.Headers.ContentType;
        body.Headers.ContentEncoding.Add("gzip");
        return body;
    }

    int Start(int operation) => operation == 0 ? 0 : _ends[operation - 1];

    sealed class Operations : HttpContent
    {
        readonly BulkBuffer _buffer;
        readonly int[] _operations;

        public Operations(BulkBuffer buffer, int[] operations)
        {
            (_buffer, _operations) = (buffer, operations);
            Headers.ContentType = new MediaTypeHeaderValue("application/x-ndjson");
        }

        protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, default);

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
        {
            foreach (var piece in Pieces()) await stream.WriteAsync(piece, cancellationToken);
        }

        public void WriteTo(Stream stream)
        {
            foreach (var piece in Pieces()) stream.Write(piece.Span);
        }

        // Neighbours go out in one piece: the whole buffer, unless items are being repeated.
        IEnumerable<ReadOnlyMemory<byte>> Pieces()
        {
            for (var i = 0; i < _operations.Length;)
            {
                var last = i;
                while (last + 1 < _operations.Length && _operations[last + 1] == _operations[last] + 1) last++;
                var start = _buffer.Start(_operations[i]);
                yield return _buffer.WrittenMemory(start, _buffer._ends[_operations[last]] - start);
                i = last + 1;
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            foreach (var operation in _operations) length += _buffer.Bytes(operation);
            return true;
        }
    }
}
