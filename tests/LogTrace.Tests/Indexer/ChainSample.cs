using System.Text;
using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Tests.Indexer;

/// <summary>Records for chain tests, and a view of a chain as text that is easy to compare: one line a row.</summary>
static class ChainSample
{
    static int _lines;

    public static IndexedRecord Record(
        string name, string? id, string? service = null, long at = 1_000_000, long? duration = 1_000, string? span = null, string? parentSpan = null,
        string? ip = null, string? pid = null, string? peer = null, string? action = null, string? version = null, string? module = null,
        UInt128? lineHash = null, bool? sampled = null, string? uid = null, string? instance = null)
    {
        var line = Interlocked.Increment(ref _lines);
        var kind = RecordNames.KindOf(name);
        var isEvent = kind is RecordKind.Event or RecordKind.Metric;
        var record = new TraceRecord
        {
            Name = name,
            TraceId = "t",
            Service = service,
            SpanId = span,
            ParentSpanId = parentSpan,
            ServerIp = ip,
            Pid = pid,
            Action = action,
            Version = version,
            Module = module,
            Uid = uid,
            InstanceName = instance,
            RpcId = id is null ? null : RpcId.Parse(id),
            TimestampMicros = at + (isEvent ? 0 : duration ?? 0),
            DurationMicros = isEvent ? null : duration,
            Sampled = sampled,
        };
        return new IndexedRecord
        {
            Record = record,
            Kind = kind,
            Service = service,
            Peer = peer,
            StartMicros = at,
            IsError = RecordNames.IsError(name),
            LineHash = lineHash ?? new UInt128(1, (ulong)line),
            RecordId = new UInt128(2, (ulong)line),
            SourceFile = "sample.log",
            SourceOffset = line * 100,
        };
    }

    public static IndexedRecord Call(string id, string service, string? peer = null, string name = "http.post", string? span = null, string? parentSpan = null, long at = 1_000_000, string? ip = null, string? pid = null, string? instance = null) =>
        Record(name, id, service, at, span: span, parentSpan: parentSpan, ip: ip, pid: pid, peer: peer, instance: instance);

    public static IndexedRecord Request(string id, string service, string? span = null, string? parentSpan = null, long at = 1_000_000, string? ip = null, string? pid = null) =>
        Record("request.info", id, service, at, span: span, parentSpan: parentSpan, ip: ip, pid: pid);

    public static IndexedRecord From(this IndexedRecord request, string client)
    {
        request.Record.Set(RecordField.ClientIp, client);
        return request;
    }

    public static IndexedRecord Fork(string id, string service) => Record("fork.info", id, service);

    public static IndexedRecord Log(string id, string service, string? span = null, long at = 1_000_000) => Record("log.info", id, service, at, span: span);

    /// <summary>The worked example of DESIGN.md section 2.</summary>
    public static IndexedRecord[] Checkout() =>
    [
        Record("request.info", "1.1", "gateway", 1_000_000, 90_000, action: "POST /checkout"),
        Record("redis.request", "1.2", "gateway", 1_001_000, 1_000, action: "GET cart:9527", peer: "redis:6379"),
        Record("http.post", "1.3", "gateway", 1_005_000, 80_000, action: "http://orders/orders", peer: "orders"),
        Record("request.info", "1.3.1", "orders", 1_006_000, 78_000, action: "POST /orders"),
        Record("mysql.request", "1.3.2", "orders", 1_010_000, 5_000, action: "insert into orders ...", peer: "db:3306"),
        Record("http.get", "1.3.3", "orders", 1_020_000, 30_000, action: "http://stock/items/7", peer: "stock"),
        Record("request.info", "1.3.3.1", "stock", 1_022_000, 25_000, action: "GET /items/7"),
    ];

    public static CallChain Build(params IndexedRecord[] records) => ChainBuilder.Build("t", records);

    /// <summary>
    /// One line a row: <c>1.3 gateway&gt;orders</c> with the flags that are set, in the words of DESIGN.md section 3; missing numbers as
    /// <c>gap 1.5..1.9</c>. <c>[c s e2]</c> says which sides there are: call, server (f = fork), number of events.
    /// </summary>
    public static string[] Draw(this CallChain chain) => [.. chain.Rows().Select(row =>
    {
        if (row.Node is not { } node) return $"gap {row.Gap}";
        var text = new StringBuilder(node.ToString());
        if (node.Parent is { Execution: > 0 } parent) text.Append($" under {parent}");
        text.Append(' ').Append(node.CallerService).Append('>').Append(node.Target);
        var sides = new List<string>();
        if (node.CallerRecords.Count > 0) sides.Add(node.CallerRecords.Count == 1 ? "c" : $"c{node.CallerRecords.Count}");
        if (node.CalleeRecords.Count > 0) sides.Add((node.IsFork ? "f" : "s") + (node.CalleeRecords.Count == 1 ? "" : $"{node.CalleeRecords.Count}"));
        if (node.Events.Count > 0) sides.Add($"e{node.Events.Count}");
        if (sides.Count > 0) text.Append($" [{string.Join(' ', sides)}]");
        if (node.IsPlaceholder) text.Append(node.IsForeign ? " foreign" : " placeholder");
        if (node.IsCalleeOnly) text.Append(" callee-only");
        if (node.IsIrregular) text.Append(" irregular");
        if (node.IsAmbiguous) text.Append(" ambiguous");
        if (node.IsSampled) text.Append(" sampled");
        return text.ToString();
    })];

    /// <summary>What must hold in every chain, whatever went in. Checked by hand: it runs thousands of times.</summary>
    public static void ShouldBeSound(this CallChain chain, IReadOnlyList<IndexedRecord> records)
    {
        var left = new HashSet<IndexedRecord>(records, ReferenceEqualityComparer.Instance);
        foreach (var record in chain.Nodes.SelectMany(node => node.Records)) Expect(left.Remove(record), "every record is placed exactly once");
        Expect(left.Count == 0, "every record is placed");
        var seen = new HashSet<ChainNode>();
        ChainNode? last = null;
        foreach (var node in chain.Nodes)
        {
            Expect(seen.Add(node), "a node stands once");
            if (node.Parent is not { } parent) Expect(node.Depth == 0, "only a top has no parent");
            else
            {
                Expect(seen.Contains(parent), "a parent stands before its children");
                Expect(node.Id.TryGetParent(out var parentId) && parent.Id == parentId, "the parent has the parent's id");
            }

            var order = last?.Id.CompareTo(node.Id) ?? -1;
            Expect(order < 0 || (order == 0 && last!.Value.Execution + 1 == node.Execution), "nodes stand in id order, then by execution");
            last = node;
        }
    }

    public static void Expect(bool holds, string what)
    {
        if (!holds) throw new Xunit.Sdk.XunitException(what);
    }

    public static JsonElement Json(this CallChain chain)
    {
        var buffer = new System.Buffers.ArrayBufferWriter<byte>();
        ChainJson.Write(chain, buffer);
        return JsonDocument.Parse(buffer.WrittenMemory).RootElement;
    }
}
