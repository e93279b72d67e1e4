using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// Separates the executions that share one id: by span ids where records have them, else by caller's and callee's service, instance and
/// process. What cannot be told apart stays together and is flagged; no record is ever dropped.
/// </summary>
/// <param name="isLeaf">Nothing stands below the id.</param>
/// <param name="number">Last number of the id, where spans are bound to their numbers (<see cref="BoundSpan"/>); else 0.</param>
sealed class Executions(ChainNames peers, bool trustsSpans, ParentExecutions parents, Func<ParentNode> unknownParent, ulong number, bool isLeaf)
{
    /// <summary>Resources that never write records of their own: a request.info under such a call's id belongs to another one.</summary>
    static readonly HashSet<string> Datastores =
        new(StringComparer.Ordinal) { "mysql", "redis", "memcache", "pgsql", "postgres", "mssql", "oracle", "sqlite", "mongo", "elasticsearch", "db", "mc" };

    static readonly HashSet<string>.AlternateLookup<ReadOnlySpan<char>> s_datastoreLookup = Datastores.GetAlternateLookup<ReadOnlySpan<char>>();

    /// <summary>The usual shared counter leaves a few alike; thousands come only from broken input, where pairs are not worth n * m.</summary>
    const long MaxPairs = 1_000_000;

    internal sealed class Execution
    {
        public List<IndexedRecord> Calls { get; } = [];
        public List<IndexedRecord> Handlings { get; } = [];
        public List<IndexedRecord> Events { get; } = [];
        public ParentNode? Parent { get; set; }
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
        public bool IsConnect { get; } = RecordNames.IsConnect(record.Record.Name);
        public bool IsToDatastore { get; } = record.Kind == RecordKind.Client && IsDatastore(record.Record.Name);
        public ParentNode? Parent { get; set; }
        public bool HasClearParent { get; set; } = true;

        /// <summary>It has found its place and is in its list no more.</summary>
        public bool IsTaken { get; set; }
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

    // Where there are several calls: all of them, the services that made them and, once asked for, those that were called.
    List<Item> _allCalls = [];
    HashSet<string?>? _callers, _called;

    // One call and one handling belong together unless they say otherwise: what kind of call it is decides only between several.
    bool _hasChoice;

    /// <summary>Records of one class come oldest first, none of them twice.</summary>
    /// <param name="isInScope">Logged within the scope of the call, not on its caller's side.</param>
    public void Add(IndexedRecord record, bool isInScope)
    {
        if (record.RpcIdText is null || (record.Facts & ChainFacts.IsEvent) != 0) _events.Add((record, isInScope));
        else ((record.Facts & ChainFacts.IsCall) != 0 ? _calls : _handlings).Add(new Item(record));
    }

    /// <summary>The executions in their order: by parent, then by time. At least one, possibly empty (a placeholder).</summary>
    public List<Execution> Split()
    {
        JoinConnects();
        if (_calls.Count > 1)
        {
            _allCalls = [.. _calls];
            _callers = [.. _calls.Select(call => call.Record.Service)];
        }

        foreach (var call in _calls) (call.Parent, call.HasClearParent) = FindBound(Spans.Of(call.Record)) ?? FindParent(call.ParentSpan, call.Record.Service, call.Instance);
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
        var connects = _calls.FindAll(call => call.IsConnect);
        if (connects.Count == 0 || _calls.Count < 2) return;

        // As with Match below: what agrees is looked for pair by pair unless broken input has thousands, where only what is equal is one use.
        if ((long)connects.Count * _calls.Count <= MaxPairs)
        {
            foreach (var connect in connects) Join(connect, _calls.Where(call => !call.IsTaken && call != connect && IsSameUse(connect, call)));
        }
        else
        {
            foreach (var use in _calls.GroupBy(call => (call.Record.Service, Stem(call.Record.Record.Name).ToString(), call.Instance, call.ParentSpan)))
                JoinEqual([.. use]);
        }

        _calls.RemoveAll(call => call.IsTaken);
        foreach (var call in _calls)
            if (call.All.Count > 2) call.All.Sort(1, call.All.Count - 1, Comparer<IndexedRecord>.Create(ChainEntry.CompareRecords));
    }

    /// <summary>To the first request after the connect, else to the first request, else to another connect: several and no request are still one call.</summary>
    static void Join(Item connect, IEnumerable<Item> others)
    {
        Item? target = null;
        foreach (var call in others)
        {
            if (target is null || (target.IsConnect && !call.IsConnect)) target = call;
            if (call.IsConnect || call.Record.StartMicros < connect.Record.StartMicros) continue;
            target = call;
            break;
        }

        if (target is null) return;
        target.All.AddRange(connect.All);
        connect.IsTaken = true;
    }

    /// <summary>The same for calls that agree in everything, oldest first.</summary>
    static void JoinEqual(List<Item> calls)
    {
        var requests = calls.FindAll(call => !call.IsConnect);
        var next = 0;
        foreach (var connect in calls)
        {
            if (!connect.IsConnect) continue;
            while (next < requests.Count && requests[next].Record.StartMicros < connect.Record.StartMicros) next++;
            var target = requests.Count == 0 ? calls[^1] : requests[next < requests.Count ? next : 0];
            if (target == connect) continue;
            target.All.AddRange(connect.All);
            connect.IsTaken = true;
        }
    }

    static bool IsSameUse(Item left, Item right) =>
        left.Record.Service == right.Record.Service && Stem(left.Record.Record.Name).SequenceEqual(Stem(right.Record.Record.Name)) &&
        AgreeOnInstance(left.Instance, right.Instance) && (left.ParentSpan is null || right.ParentSpan is null || left.ParentSpan == right.ParentSpan);

    static ReadOnlySpan<char> Stem(string? name) => name is not null && name.IndexOf('.') is var dot and >= 0 ? name.AsSpan(0, dot) : name;

    public static bool IsDatastore(IndexedRecord call) => IsDatastore(call.Record.Name);

    static bool IsDatastore(string? name) => s_datastoreLookup.Contains(Stem(name));

    // ---- which handling belongs to which call ----

    void TakeForks()
    {
        foreach (var fork in _handlings)
        {
            if (fork.Record.Kind != RecordKind.Internal) continue;
            (fork.Parent, fork.HasClearParent) = FindParent(fork.ParentSpan ?? fork.Span, fork.Record.Service, fork.Instance);
            fork.IsTaken = true;
            _forks.Add(fork);
        }

        if (_forks.Count == 0) return;
        _handlings.RemoveAll(handling => handling.IsTaken);
        foreach (var group in GroupAlike(_forks)) AddExecution([], group.Items, group.First);
    }

    readonly List<Item> _forks = [];

    void MatchBySpan()
    {
        if (_calls.Count == 0 || _handlings.Count == 0) return;
        var handlings = _handlings.Where(handling => handling.ParentSpan is not null).ToLookup(handling => handling.ParentSpan!);
        if (handlings.Count == 0) return;

        // A span id that several calls have is one of the scope, not of the call: it tells nothing.
        var owners = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var call in _calls)
            if (call.Span is not null) owners[call.Span] = owners.GetValueOrDefault(call.Span) + 1;
        foreach (var call in _calls)
        {
            if (call.Span is null || owners[call.Span] > 1 || !handlings.Contains(call.Span)) continue;
            call.IsTaken = true;
            var isFirst = true;
            foreach (var group in GroupAlike(handlings[call.Span]))
            {
                foreach (var handling in group.Items) handling.IsTaken = true;
                AddExecution(isFirst ? [call] : [], group.Items, call, isSecondHandling: !isFirst);
                isFirst = false;
            }
        }

        _calls.RemoveAll(call => call.IsTaken);
        _handlings.RemoveAll(handling => handling.IsTaken);
    }

    void MatchByService()
    {
        var calls = GroupAlike(_calls);
        var handlings = GroupAlike(_handlings);
        Match(calls, handlings, isExact: true);
        Match(calls, handlings, isExact: false);
        foreach (var group in calls) AddUnclear(group.Items, []);
        foreach (var group in handlings)
        {
            if (!IsSilent(group.First)) AddExecution([], group.Items, null);
            else foreach (var handling in group.Items) AddExecution([], [handling], null, isUnclear: group.Items.Count > 1);
        }
    }

    /// <summary>Joins what can only belong together; whatever leaves a choice becomes one ambiguous execution.</summary>
    void Match(List<Group> calls, List<Group> handlings, bool isExact)
    {
        if (calls.Count == 0 || handlings.Count == 0) return;

        if ((long)calls.Count * handlings.Count > MaxPairs)
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
                AddUnclear([.. componentCalls.SelectMany(group => group.Items)], [.. componentHandlings.SelectMany(group => group.Items)]);
        calls.RemoveAll(group => group.Component >= 0);
        handlings.RemoveAll(group => group.Component >= 0);
    }

    /// <summary>
    /// Calls and handlings of which each may belong to each. Those that agree in what they say stay together; of those that say nothing at all, which may be anybody's, each is shown
    /// apart, with the handling that is likeliest its own.
    /// </summary>
    void AddUnclear(List<Item> calls, List<Item> handlings)
    {
        // Each record is a call. However much alike they are, there is nothing of which it could be unclear whose it is.
        if (handlings.Count == 0 && isLeaf)
        {
            foreach (var call in calls) AddExecution([call], [], call);
            return;
        }

        if ((calls.Count == 1 && handlings.Count <= 1) || !calls.TrueForAll(IsSilent) || !handlings.TrueForAll(IsSilent))
        {
            AddExecution(calls, handlings, calls[0]);
            return;
        }

        calls.Sort(static (left, right) => ChainEntry.CompareRecords(left.Record, right.Record));
        handlings.Sort(static (left, right) => ChainEntry.CompareRecords(left.Record, right.Record));
        var own = new Item?[calls.Count];
        var open = new Stack<int>();
        for (int next = 0, i = 0; i < handlings.Count; i++)
        {
            // As many of both: in the order of time. Else records are lost, and a handling belongs to the last call before it.
            while (next < calls.Count && calls[next].Record.StartMicros <= handlings[i].Record.StartMicros) open.Push(next++);
            if (calls.Count == handlings.Count) own[i] = handlings[i];
            else if (open.TryPop(out var call)) own[call] = handlings[i];
            else AddExecution([], [handlings[i]], null, isUnclear: true);
        }

        for (var i = 0; i < calls.Count; i++) AddExecution([calls[i]], own[i] is { } handling ? [handling] : [], calls[i], isUnclear: true);
    }

    static bool IsSilent(Item item) => item is { Span: null, ParentSpan: null, Instance: (null, null), Record: { Service: null, Peer: null, CallerService: null, CalleeService: null } };

    bool CanBelongTogether(Item call, Item handling, bool isExact) =>
        (!isExact || (CalleeOf(call.Record, peers) is { } callee && callee == handling.Record.Service)) &&
        !(_hasChoice && call.IsToDatastore) && CanBelongTogether(call.Record, handling.Record, peers, trustsSpans);

    /// <summary>False when their spans or services say that the request is not the handling of the call.</summary>
    public static bool CanBelongTogether(IndexedRecord call, IndexedRecord handling, ChainNames peers, bool trustsSpans)
    {
        if (trustsSpans)
        {
            var (span, parent) = (call.Span, handling.ParentSpan);
            if (span != 0 && parent != 0 && span != parent) return false;
        }

        if (handling.CallerService is { } caller && call.Service is { } service && caller != service) return false;
        return CalleeOf(call, peers) is not { } callee || handling.Service is null || callee == handling.Service;
    }

    static string? CalleeOf(IndexedRecord call, ChainNames peers) => call.CalleeService ?? peers.ServiceOf(call.Peer);

    List<Group> GroupAlike(IEnumerable<Item> items)
    {
        var groups = new List<Group>();
        var byKey = new Dictionary<(ParentNode?, string?, string?, string?, string?, string?, string?), Group>();
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

    void AddExecution(List<Item> calls, List<Item> handlings, Item? parented, bool isSecondHandling = false, bool isUnclear = false)
    {
        var (parent, isClear) = parented is not null ? (parented.Parent, parented.HasClearParent) : FindBound(Spans.ParentOf(handlings[0].Record)) ?? FindParent(null, handlings[0].Record.CallerService, default);
        var execution = new Execution
        {
            Parent = parent,
            IsAmbiguous = isUnclear || !isClear || calls.Count > 1 || handlings.Count > 1,
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
    (ParentNode? Parent, bool IsClear) FindParent(string? parentSpan, string? service, (string? Host, string? Process) instance)
    {
        if (parents.First is not { } first) return (null, true);
        if (!parents.HasSeveral) return Contradicts(first, service) ? (unknownParent(), true) : (first, true);
        var (parent, isClear) = parents.Find(parentSpan, service, instance);
        return parent is null ? (unknownParent(), true) : (parent, isClear);
    }

    /// <summary>The parent's execution that the span of a call was made in; null where its span does not tell.</summary>
    (ParentNode? Parent, bool IsClear)? FindBound(ulong span)
    {
        if (number == 0 || span == 0 || parents.First is null || parents.FindBound(span, number) is not { IsClear: true } found) return null;
        return (found.Parent ?? unknownParent(), true);
    }

    /// <summary>The parent's execution that a log line was written in, if its scope's span is bound to the call that it handles; null where it does not tell.</summary>
    (ParentNode? Parent, bool IsClear)? FindCause(IndexedRecord line)
    {
        if (number == 0 || !parents.HasSeveral || Spans.ParentOf(line) is not (not 0 and var call) || !BoundSpan.IsBound(Spans.Of(line), call, 0) || parents.FindCause(call) is not { IsClear: true } found) return null;
        return (found.Parent ?? unknownParent(), true);
    }

    /// <summary>A database makes no calls.</summary>
    public static bool CanHaveScope(ParentNode node) => node.Callee is not null || node.Caller is null || !IsDatastore(node.Caller.Record.Name);

    /// <summary>
    /// Of several calls under one id, one that another service made than the one that handled the parent, while the parent's service made
    /// another of them. Not so where the first was called under this very id: it merely handed the id on without counting, as proxies do.
    /// </summary>
    bool Contradicts(ParentNode parent, string? service)
    {
        if (service is null || _callers is null || parent.Callee is not { Service: { } handled, ServiceIsCertain: true } || handled == service || !_callers.Contains(handled)) return false;
        _called ??= [.. _allCalls.Select(call => CalleeOf(call.Record, peers))];
        return !_called.Contains(service);
    }

    public static string? ScopeService(ParentNode node, ChainNames peers) => node.Callee is { } callee ? callee.Service : node.Caller is { } caller ? CalleeOf(caller, peers) : null;

    /// <summary>Host without its port, and process without its thread, as records of one process agree on them.</summary>
    public static (string? Host, string? Process) InstanceOf(TraceRecord record)
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
        if (_events.Count == 0) return;
        var calls = _executions.Count;
        var hasSeveral = calls > 1;
        ExecutionIndex<Execution>? byHandling = null, byCall = null;
        var byParent = new Dictionary<object, Execution>(ReferenceEqualityComparer.Instance);
        foreach (var execution in _executions) byParent.TryAdd(execution.Parent ?? NoParent, execution);
        foreach (var (record, isInScope) in _events)
        {
            var span = NullIfEmpty(record.Record.SpanId);
            if (isInScope && calls > 0)
            {
                var (scope, count) = hasSeveral ? FindScope(record, span) : default;
                scope ??= _executions[0];
                scope.Events.Add(record);
                scope.IsAmbiguous |= hasSeveral && count != 1;
                continue;
            }

            var (parent, isClear) = isInScope ? FindParent(null, null, default) : FindCause(record) ?? FindParent(span, record.Service, InstanceOf(record.Record));
            if (!byParent.TryGetValue(parent ?? NoParent, out var place))
            {
                if (isClear || _executions.Count == 0)
                {
                    _executions.Add(place = new Execution { Parent = parent });
                    byParent.Add(parent ?? NoParent, place);
                }
                else
                {
                    place = _executions[0];
                }
            }

            place.Events.Add(record);
            place.IsAmbiguous |= !isClear;
        }

        if (_executions.Count > calls && calls > 0) _executions.Sort(Compare);

        // By the span of the handling, else of the call, else by the service and instance that handled it.
        (Execution? First, int Count) FindScope(IndexedRecord record, string? span)
        {
            if (byHandling is null || byCall is null)
            {
                (byHandling, byCall) = (new(), new());
                for (var i = 0; i < calls; i++)
                {
                    var execution = _executions[i];
                    foreach (var handling in execution.Handlings)
                    {
                        byHandling.AddSpan(NullIfEmpty(handling.Record.SpanId), execution);
                        byHandling.AddInstance(handling.Service, InstanceOf(handling.Record), execution);
                    }

                    foreach (var call in execution.Calls) byCall.AddSpan(NullIfEmpty(call.Record.SpanId), execution);
                }
            }

            var found = byHandling.FindSpan(span);
            if (found.Count == 0) found = byCall.FindSpan(span);
            return found.Count > 0 ? found : byHandling.FindInstance(record.Service, InstanceOf(record.Record));
        }
    }

    static readonly object NoParent = new();

    int Compare(Execution left, Execution right)
    {
        var order = IndexOf(left.Parent).CompareTo(IndexOf(right.Parent));
        if (order != 0 || left == right) return order;
        if (left.IsSecondHandling != right.IsSecondHandling) return left.IsSecondHandling ? 1 : -1;
        return ChainEntry.CompareRecords(left.First, right.First);
    }

    static int IndexOf(ParentNode? node) => node?.Execution ?? 0;

    public static string? NullIfEmpty(string? text) => string.IsNullOrEmpty(text) ? null : text;
}
