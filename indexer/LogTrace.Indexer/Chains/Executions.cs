using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// Separates the executions that share one id: by span ids where records have them, else by caller's and callee's service, instance and
/// process. What cannot be told apart stays together and is flagged; no record is ever dropped.
/// </summary>
sealed class Executions(PeerNames peers, bool trustsSpans, IReadOnlyList<ChainNode> parents, Func<ChainNode> unknownParent)
{
    /// <summary>Resources that never write records of their own: a request.info under such a call's id belongs to another one.</summary>
    static readonly HashSet<string> Datastores =
        new(StringComparer.Ordinal) { "mysql", "redis", "memcache", "pgsql", "postgres", "mssql", "oracle", "sqlite", "mongo", "elasticsearch", "db", "mc" };

    internal sealed class Execution
    {
        public List<IndexedRecord> Calls { get; } = [];
        public List<IndexedRecord> Handlings { get; } = [];
        public List<IndexedRecord> Events { get; } = [];
        public ChainNode? Parent { get; set; }
        public bool IsAmbiguous { get; set; }

        /// <summary>One call that was handled again, such as a message delivered twice: its call record is known, and stands with the first.</summary>
        public bool IsSecondHandling { get; init; }

        public IndexedRecord First => Calls.Count > 0 ? Calls[0] : Handlings.Count > 0 ? Handlings[0] : Events[0];
        public bool IsEmpty => Calls.Count + Handlings.Count + Events.Count == 0;
    }

    /// <summary>One call or one handling: a record, and with a call the records of opening the connection for it.</summary>
    sealed class Item(IndexedRecord record)
    {
        public IndexedRecord Record { get; } = record;
        public List<IndexedRecord> All { get; } = [record];
        public string? Span { get; } = NullIfEmpty(record.Record.SpanId);
        public string? ParentSpan { get; } = NullIfEmpty(record.Record.ParentSpanId);
        public (string? Host, string? Process) Instance { get; } = InstanceOf(record.Record);
        public ChainNode? Parent { get; set; }
        public bool HasClearParent { get; set; } = true;
    }

    /// <summary>Items that nothing tells apart.</summary>
    sealed class Group
    {
        public List<Item> Items { get; } = [];
        public Item First => Items[0];
        public int Component { get; set; } = -1;
    }

    readonly List<Item> _calls = [];
    readonly List<Item> _handlings = [];
    readonly List<(IndexedRecord Record, bool IsInScope)> _events = [];
    readonly List<Execution> _executions = [];

    // One call and one handling belong together unless they say otherwise: what kind of call it is decides only between several.
    bool _hasChoice;

    /// <summary>Records of one class come oldest first, none of them twice.</summary>
    /// <param name="isInScope">Logged within the scope of the call, not on its caller's side.</param>
    public void Add(IndexedRecord record, byte kind, bool isInScope)
    {
        if (kind == ChainEntry.Event) _events.Add((record, isInScope));
        else (kind == ChainEntry.Call ? _calls : _handlings).Add(new Item(record));
    }

    /// <summary>The executions in their order: by parent, then by time. At least one, possibly empty (a placeholder).</summary>
    public List<Execution> Split()
    {
        JoinConnects();
        foreach (var call in _calls) (call.Parent, call.HasClearParent) = FindParent(call.ParentSpan, call.Record.Service, call.Instance);
        TakeForks();
        _hasChoice = _calls.Count > 1 || _handlings.Count > 1;
        MatchBySpan();
        MatchByService();
        _executions.Sort(Compare);
        PlaceEvents();
        if (_executions.Count == 0)
        {
            var (parent, isClear) = FindParent(null, null, default);
            _executions.Add(new Execution { Parent = parent, IsAmbiguous = !isClear });
        }

        return _executions;
    }

    // ---- one call: its request and the connection opened for it ----

    void JoinConnects()
    {
        if (_calls.Count < 2) return;
        for (var i = 0; i < _calls.Count; i++)
        {
            var connect = _calls[i];
            if (!RecordNames.IsConnect(connect.Record.Record.Name)) continue;
            Item? target = null;
            foreach (var call in _calls)
            {
                if (call == connect || !IsSameUse(connect, call)) continue;
                if (RecordNames.IsConnect(call.Record.Record.Name))
                {
                    target ??= call; // several connects and no request so far: still one call
                    continue;
                }

                if (target is null || RecordNames.IsConnect(target.Record.Record.Name)) target = call;
                if (call.Record.StartMicros < connect.Record.StartMicros) continue;
                target = call;
                break; // the first request after the connect
            }

            if (target is null) continue;
            target.All.AddRange(connect.All);
            _calls.RemoveAt(i--);
        }

        foreach (var call in _calls) call.All.Sort(1, call.All.Count - 1, Comparer<IndexedRecord>.Create(ChainEntry.CompareRecords));
    }

    static bool IsSameUse(Item left, Item right) =>
        left.Record.Service == right.Record.Service && Stem(left).SequenceEqual(Stem(right)) && AgreeOnInstance(left.Instance, right.Instance) &&
        (left.ParentSpan is null || right.ParentSpan is null || left.ParentSpan == right.ParentSpan);

    static ReadOnlySpan<char> Stem(Item item)
    {
        var name = item.Record.Record.Name.AsSpan();
        var dot = name.IndexOf('.');
        return dot < 0 ? name : name[..dot];
    }

    // ---- which handling belongs to which call ----

    void TakeForks()
    {
        for (var i = 0; i < _handlings.Count; i++)
        {
            var fork = _handlings[i];
            if (fork.Record.Kind != RecordKind.Internal) continue;
            (fork.Parent, fork.HasClearParent) = FindParent(fork.ParentSpan ?? fork.Span, fork.Record.Service, fork.Instance);
            _handlings.RemoveAt(i--);
            _forks.Add(fork);
        }

        foreach (var group in GroupAlike(_forks)) AddExecution([], group.Items, group.First);
    }

    readonly List<Item> _forks = [];

    void MatchBySpan()
    {
        for (var i = 0; i < _calls.Count; i++)
        {
            var call = _calls[i];
            if (call.Span is null) continue;
            var isShared = _calls.Exists(other => other != call && other.Span == call.Span);
            if (isShared) continue; // an id of the scope, not of the call: it tells nothing
            var handled = _handlings.FindAll(handling => handling.ParentSpan == call.Span);
            if (handled.Count == 0) continue;
            _handlings.RemoveAll(handled.Contains);
            _calls.RemoveAt(i--);
            var isFirst = true;
            foreach (var group in GroupAlike(handled))
            {
                AddExecution(isFirst ? [call] : [], group.Items, call, isSecondHandling: !isFirst);
                isFirst = false;
            }
        }
    }

    void MatchByService()
    {
        var calls = GroupAlike(_calls);
        var handlings = GroupAlike(_handlings);
        Match(calls, handlings, isExact: true);
        Match(calls, handlings, isExact: false);
        foreach (var group in calls) AddExecution(group.Items, [], group.First);
        foreach (var group in handlings) AddExecution([], group.Items, null);
    }

    /// <summary>Joins what can only belong together; whatever leaves a choice becomes one ambiguous execution.</summary>
    void Match(List<Group> calls, List<Group> handlings, bool isExact)
    {
        if (calls.Count == 0 || handlings.Count == 0) return;

        // The usual shared counter leaves a few groups; thousands come only from broken input, where pairs are not worth n * m.
        if ((long)calls.Count * handlings.Count > 1_000_000)
        {
            if (isExact) return;
            AddExecution([.. calls.SelectMany(group => group.Items)], [.. handlings.SelectMany(group => group.Items)], calls[0].First);
            calls.Clear();
            handlings.Clear();
            return;
        }

        var components = new List<(List<Group> Calls, List<Group> Handlings)>();
        foreach (var handling in handlings)
        {
            var joined = -1;
            foreach (var call in calls)
            {
                if (!CanBelongTogether(call.First, handling.First, isExact)) continue;
                if (call.Component < 0 && joined < 0)
                {
                    joined = call.Component = components.Count;
                    components.Add(([call], []));
                }
                else if (call.Component < 0)
                {
                    call.Component = joined;
                    components[joined].Calls.Add(call);
                }
                else if (joined < 0)
                {
                    joined = call.Component;
                }
                else if (call.Component != joined)
                {
                    var (from, into) = (components[call.Component], components[joined]);
                    foreach (var moved in from.Calls) moved.Component = joined;
                    foreach (var moved in from.Handlings) moved.Component = joined;
                    into.Calls.AddRange(from.Calls);
                    into.Handlings.AddRange(from.Handlings);
                    from.Calls.Clear();
                    from.Handlings.Clear();
                }
            }

            if (joined < 0) continue;
            handling.Component = joined;
            components[joined].Handlings.Add(handling);
        }

        foreach (var (componentCalls, componentHandlings) in components)
            if (componentCalls.Count > 0)
                AddExecution([.. componentCalls.SelectMany(group => group.Items)], [.. componentHandlings.SelectMany(group => group.Items)], componentCalls[0].First);
        calls.RemoveAll(group => group.Component >= 0);
        handlings.RemoveAll(group => group.Component >= 0);
    }

    bool CanBelongTogether(Item call, Item handling, bool isExact) =>
        (!isExact || (CalleeOf(call.Record, peers) is { } callee && callee == handling.Record.Service)) &&
        !(_hasChoice && Datastores.Contains(Stem(call).ToString())) && CanBelongTogether(call.Record, handling.Record, peers, trustsSpans);

    /// <summary>False when their spans or services say that the request is not the handling of the call.</summary>
    public static bool CanBelongTogether(IndexedRecord call, IndexedRecord handling, PeerNames peers, bool trustsSpans)
    {
        if (trustsSpans)
        {
            var span = call.Record.Utf8(RecordField.SpanId);
            var parent = handling.Record.Utf8(RecordField.ParentSpanId);
            if (!span.IsEmpty && !parent.IsEmpty && !span.SequenceEqual(parent)) return false;
        }

        if (handling.CallerService is { } caller && call.Service is { } service && caller != service) return false;
        return CalleeOf(call, peers) is not { } callee || handling.Service is null || callee == handling.Service;
    }

    static string? CalleeOf(IndexedRecord call, PeerNames peers) => call.CalleeService ?? peers.ServiceOf(call.Peer);

    List<Group> GroupAlike(List<Item> items)
    {
        var groups = new List<Group>();
        var byKey = new Dictionary<(ChainNode?, string?, string?, string?, string?, string?, string?), Group>();
        foreach (var item in items)
        {
            var record = item.Record;
            var other = record.Kind == RecordKind.Client ? CalleeOf(record, peers) ?? record.Peer : record.CallerService;
            var key = (item.Parent, record.Service, item.Instance.Host, item.Instance.Process, other, item.Span, item.ParentSpan);
            if (!byKey.TryGetValue(key, out var group))
            {
                byKey.Add(key, group = new Group());
                groups.Add(group);
            }

            group.Items.Add(item);
        }

        return groups;
    }

    void AddExecution(List<Item> calls, List<Item> handlings, Item? parented, bool isSecondHandling = false)
    {
        var (parent, isClear) = parented is not null ? (parented.Parent, parented.HasClearParent) : FindParent(null, handlings[0].Record.CallerService, default);
        var execution = new Execution
        {
            Parent = parent,
            IsAmbiguous = !isClear || calls.Count > 1 || handlings.Count > 1,
            IsSecondHandling = isSecondHandling,
        };
        foreach (var call in calls) execution.Calls.AddRange(call.All);
        foreach (var handling in handlings) execution.Handlings.AddRange(handling.All);
        if (calls.Count > 1) execution.Calls.Sort(ChainEntry.CompareRecords);
        if (handlings.Count > 1) execution.Handlings.Sort(ChainEntry.CompareRecords);
        _executions.Add(execution);
    }

    // ---- under which execution of the parent ----

    /// <summary>
    /// The parent's execution that a record with this parent span, or of this service, instance and process, was written in. What fits
    /// none of several is the sign of one more, whose own records are missing.
    /// </summary>
    (ChainNode? Parent, bool IsClear) FindParent(string? parentSpan, string? service, (string? Host, string? Process) instance)
    {
        if (parents.Count == 0) return (null, true);
        if (parents.Count == 1) return Contradicts(parents[0], service) ? (unknownParent(), true) : (parents[0], true);
        var candidates = parents.Where(CanHaveScope).ToList();
        if (parentSpan is not null)
        {
            var same = candidates.FindAll(parent => HasScopeSpan(parent, parentSpan));
            if (same.Count > 0) return (same[0], same.Count == 1);
            candidates.RemoveAll(parent => HasScopeSpan(parent, null));
        }

        if (candidates.Count == 0) return (unknownParent(), true);
        if (service is null) return (candidates[0], false);
        var known = candidates.FindAll(parent => ScopeService(parent) == service);
        if (known.Count == 0) known = candidates.FindAll(parent => ScopeService(parent) is null && !parent.IsUnknownExecution);
        if (known.Count == 0) return (unknownParent(), true);
        if (known.Count > 1 && instance != default)
        {
            var here = known.FindAll(parent => parent.Callee is { } callee && AgreeOnInstance(InstanceOf(callee.Record), instance));
            if (here.Count > 0) known = here;
        }

        return (known[0], known.Count == 1);
    }

    /// <summary>A database makes no calls.</summary>
    static bool CanHaveScope(ChainNode node) => node.Callee is not null || node.Caller is null || node.ResourceKind is not { } kind || !Datastores.Contains(kind);

    /// <summary>
    /// Of several calls under one id, one that another service made than the one that handled the parent, while the parent's service made
    /// another of them. Not so where the first was called under this very id: it merely handed the id on without counting, as proxies do.
    /// </summary>
    bool Contradicts(ChainNode parent, string? service) =>
        service is not null && _calls.Count > 1 && parent.Callee is { Service: { } handled, ServiceIsCertain: true } && handled != service &&
        _calls.Exists(call => call.Record.Service == handled) && !_calls.Exists(call => CalleeOf(call.Record, peers) == service);

    /// <summary>True when a record of the node's scope has this span id, or any for null.</summary>
    static bool HasScopeSpan(ChainNode node, string? span)
    {
        foreach (var record in node.CalleeRecords)
            if (NullIfEmpty(record.Record.SpanId) is { } found && (span is null || found == span)) return true;
        return false;
    }

    string? ScopeService(ChainNode node) => node.Callee is { } callee ? callee.Service : node.Caller is { } caller ? CalleeOf(caller, peers) : null;

    /// <summary>Host without its port, and process without its thread, as records of one process agree on them.</summary>
    static (string? Host, string? Process) InstanceOf(TraceRecord record)
    {
        var host = record.ServerIp;
        if (host is not null && host.IndexOf(':') is > 0 and var colon && host.LastIndexOf(':') == colon) host = host[..colon];
        var process = record.Pid;
        if (process is not null && process.IndexOf('-') is > 0 and var dash) process = process[..dash];
        return (string.IsNullOrEmpty(host) ? null : host, string.IsNullOrEmpty(process) ? null : process);
    }

    static bool AgreeOnInstance((string? Host, string? Process) left, (string? Host, string? Process) right) =>
        (left.Host is null || right.Host is null || left.Host == right.Host) && (left.Process is null || right.Process is null || left.Process == right.Process);

    // ---- events ----

    void PlaceEvents()
    {
        var calls = _executions.Count;
        foreach (var (record, isInScope) in _events)
        {
            var span = NullIfEmpty(record.Record.SpanId);
            if (isInScope && calls > 0)
            {
                var scopes = _executions.GetRange(0, calls);
                if (calls > 1)
                {
                    var same = scopes.FindAll(execution => span is not null && execution.Handlings.Exists(handling => handling.Record.SpanId == span));
                    if (same.Count == 0) same = scopes.FindAll(execution => span is not null && execution.Calls.Exists(call => call.Record.SpanId == span));
                    if (same.Count == 0)
                    {
                        same = scopes.FindAll(execution => execution.Handlings.Exists(
                            handling => handling.Service == record.Service && AgreeOnInstance(InstanceOf(handling.Record), InstanceOf(record.Record))));
                    }

                    if (same.Count > 0) scopes = same;
                }

                scopes[0].Events.Add(record);
                scopes[0].IsAmbiguous |= scopes.Count > 1;
                continue;
            }

            var (parent, isClear) = isInScope ? FindParent(null, null, default) : FindParent(span, record.Service, InstanceOf(record.Record));
            var execution = _executions.Find(candidate => candidate.Parent == parent) ?? (isClear || _executions.Count == 0 ? null : _executions[0]);
            if (execution is null) _executions.Add(execution = new Execution { Parent = parent });
            execution.Events.Add(record);
            execution.IsAmbiguous |= !isClear;
        }

        if (_executions.Count > calls && calls > 0) _executions.Sort(Compare);
    }

    int Compare(Execution left, Execution right)
    {
        var order = IndexOf(left.Parent).CompareTo(IndexOf(right.Parent));
        if (order != 0 || left == right) return order;
        if (left.IsSecondHandling != right.IsSecondHandling) return left.IsSecondHandling ? 1 : -1;
        return ChainEntry.CompareRecords(left.First, right.First);
    }

    static int IndexOf(ChainNode? node) => node?.Execution ?? 0;

    static string? NullIfEmpty(string? text) => string.IsNullOrEmpty(text) ? null : text;
}
