using System.Buffers.Text;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>One execution of an id, as a parent of the records below it.</summary>
sealed class ParentNode
{
    /// <summary>Where its node stands while the chain is built.</summary>
    public required int Index { get; init; }

    public required int Execution { get; init; }
    public required bool IsUnknownExecution { get; init; }
    public IndexedRecord? Caller { get; init; }
    public required ArraySegment<IndexedRecord> CalleeRecords { get; init; }
    public IndexedRecord? Callee => CalleeRecords.Count == 0 ? null : CalleeRecords[0];
}

/// <summary>Span ids of records as the numbers they are, for what <see cref="BoundSpan"/> can tell of them.</summary>
static class Spans
{
    /// <summary>0 where the record has none, or one that is not 16 hex digits.</summary>
    public static ulong Of(IndexedRecord record, RecordField field = RecordField.SpanId)
    {
        var text = record.Record.Utf8(field);
        return text.Length == 16 && Utf8Parser.TryParse(text, out ulong span, out var read, 'x') && read == 16 ? span : 0;
    }

    public static ulong ParentOf(IndexedRecord record) => Of(record, RecordField.ParentSpanId);

    /// <summary>What the spans of calls are bound to that were made in an execution; 0 where none of its records tells.</summary>
    public static ulong CauseOfCalls(IndexedRecord? caller, IndexedRecord? callee)
    {
        if (callee is null) return caller is null ? 0 : Of(caller);
        return callee.Kind != RecordKind.Internal && ParentOf(callee) is not 0 and var call ? call : Of(callee);
    }

    /// <summary>A record of handling whose span is bound to what its own record says caused it.</summary>
    public static bool ShowsBond(IndexedRecord handling)
    {
        var number = handling.Kind == RecordKind.Internal && handling.Record.RpcId is { } id && id.TryGetParent(out var branch) ? NumberOf(branch.Text) : 0;
        return BoundSpan.IsBound(Of(handling), ParentOf(handling), number);
    }

    /// <summary>The last number of an id.</summary>
    public static ulong NumberOf(ReadOnlySpan<char> id) => ulong.Parse(id[(id.LastIndexOf('.') + 1)..], System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>
/// The executions of one id as parents of the records below it: found by span, service and instance without going over all of them, since a
/// counter that somebody resets can leave as many executions as records.
/// </summary>
sealed class ParentExecutions
{
    readonly IReadOnlyList<ParentNode> _nodes;
    readonly ChainNames _peers;
    ExecutionIndex<ParentNode>? _all, _withoutSpan;

    public ParentExecutions(IReadOnlyList<ParentNode> nodes, ChainNames peers)
    {
        _nodes = nodes;
        _peers = peers;
    }

    /// <summary>Null at a top.</summary>
    public ParentNode? First => _nodes.Count == 0 ? null : _nodes[0];

    public bool HasSeveral => _nodes.Count > 1;

    /// <summary>The one that a record with this parent span, else of this service, instance and process, was written in; null when it fits none.</summary>
    public (ParentNode? Parent, bool IsClear) Find(string? parentSpan, string? service, (string? Host, string? Process) instance)
    {
        if (_all is null) Fill();
        var candidates = _all!;
        var isOpen = false;
        if (parentSpan is not null)
        {
            if (_all!.FindSpan(parentSpan) is { Count: > 0 } same) return (same.First, same.Count == 1);
            candidates = _withoutSpan!;

            // One is known from below only: whether the span is that one's or another's whose handling is missing, nothing tells.
            isOpen = _nodes[^1].IsUnknownExecution && candidates.First is { IsUnknownExecution: false };
        }

        if (service is null) return (candidates.First, false);
        var known = candidates.FindService(service);
        var name = known.Count > 0 ? service : null;
        if (known.Count == 0) known = candidates.FindService(null);
        if (known.Count > 1 && instance != default && candidates.FindInstance(name, instance) is { Count: > 0 } here) known = here;
        return (known.First, known.Count == 1 && !isOpen);
    }

    /// <summary>
    /// The execution that a span was made in with this number, as far as that can be told: null and false where it cannot, null and true where it was none of them.
    /// </summary>
    public (ParentNode? Parent, bool IsClear) FindBound(ulong span, ulong number) => FindOne(cause => BoundSpan.IsBound(span, cause, number));

    /// <summary>The execution in which calls are bound to this span, likewise.</summary>
    public (ParentNode? Parent, bool IsClear) FindCause(ulong span) => FindOne(cause => cause == span);

    (ParentNode? Parent, bool IsClear) FindOne(Func<ulong, bool> isIt)
    {
        if (_nodes.Count > MaxBound) return default;
        ParentNode? parent = null;
        foreach (var node in _nodes)
        {
            if (node.IsUnknownExecution) continue;
            var cause = Spans.CauseOfCalls(node.Caller, node.Callee);
            if (cause == 0) return default;
            if (!isIt(cause)) continue;
            if (parent is not null) return default;
            parent = node;
        }

        return (parent, true);
    }

    /// <summary>More executions of one id come only from broken input.</summary>
    const int MaxBound = 64;

    void Fill()
    {
        (_all, _withoutSpan) = (new(), new());
        var spans = new HashSet<string>(StringComparer.Ordinal);
        foreach (var node in _nodes)
        {
            if (!Executions.CanHaveScope(node)) continue;
            spans.Clear();
            foreach (var record in node.CalleeRecords)
                if (Executions.NullIfEmpty(record.Record.SpanId) is { } span && spans.Add(span)) _all.AddSpan(span, node);
            Add(_all, node);
            if (spans.Count == 0) Add(_withoutSpan, node);
        }
    }

    void Add(ExecutionIndex<ParentNode> index, ParentNode node)
    {
        index.Add(node);
        var service = Executions.ScopeService(node, _peers);
        // An unknown execution is nobody's by service: what fits no other has already made it.
        if (service is null && node.IsUnknownExecution) return;
        index.AddService(service, node);
        if (node.Callee is { } callee) index.AddInstance(service, Executions.InstanceOf(callee.Record), node);
    }
}

/// <summary>Finds the first of several executions that fits, and how many do. What is added counts once for each key.</summary>
sealed class ExecutionIndex<T>
    where T : class
{
    // What a key of the instances leaves open.
    const byte Exact = 0, AnyHost = 1, AnyProcess = 2;

    readonly Dictionary<string, Found> _spans = new(StringComparer.Ordinal);
    readonly Dictionary<Name, Found> _services = [];
    readonly Dictionary<(Name Service, byte Open, string? Host, string? Process), Found> _instances = [];
    int _added;

    readonly record struct Name(string? Text);

    readonly record struct Found(T? Item, int Place, int Count)
    {
        public Found With(T item, int place) => Count == 0 ? new(item, place, 1) : this with { Count = Count + 1 };

        public Found And(in Found other) => Count == 0 ? other : other.Count == 0 ? this : (Place <= other.Place ? this : other) with { Count = Count + other.Count };
    }

    public T? First { get; private set; }

    public void Add(T item) => First ??= item;

    public void AddSpan(string? span, T item)
    {
        if (span is null || (_spans.TryGetValue(span, out var found) && found.Item == item)) return;
        _spans[span] = found.With(item, _added++);
    }

    public void AddService(string? service, T item) => _services[new(service)] = _services.GetValueOrDefault(new(service)).With(item, _added++);

    /// <summary>An instance of which host or process are not known fits every other in that.</summary>
    public void AddInstance(string? service, (string? Host, string? Process) instance, T item)
    {
        var place = _added++;
        foreach (var key in ((Name, byte, string?, string?)[])[(new(service), Exact, instance.Host, instance.Process), (new(service), AnyHost, null, instance.Process), (new(service), AnyProcess, instance.Host, null), (new(service), AnyHost | AnyProcess, null, null)])
            _instances[key] = _instances.GetValueOrDefault(key).With(item, place);
    }

    public (T? First, int Count) FindSpan(string? span) => span is not null && _spans.TryGetValue(span, out var found) ? (found.Item, found.Count) : default;

    public (T? First, int Count) FindService(string? service) => _services.TryGetValue(new(service), out var found) ? (found.Item, found.Count) : default;

    public (T? First, int Count) FindInstance(string? service, (string? Host, string? Process) instance)
    {
        var (host, process) = instance;
        var found = (host, process) switch
        {
            (null, null) => Get(AnyHost | AnyProcess, null, null),
            (null, _) => Get(AnyHost, null, process).And(Get(AnyHost, null, null)),
            (_, null) => Get(AnyProcess, host, null).And(Get(AnyProcess, null, null)),
            _ => Get(Exact, host, process).And(Get(Exact, null, process)).And(Get(Exact, host, null)).And(Get(Exact, null, null)),
        };
        return (found.Item, found.Count);

        Found Get(byte open, string? hostKey, string? processKey) => _instances.GetValueOrDefault((new(service), open, hostKey, processKey));
    }
}
