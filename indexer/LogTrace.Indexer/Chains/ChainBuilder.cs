using System.Buffers;
using System.Runtime.InteropServices;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>Turns the records of one trace into its chain, from their ids alone (DESIGN.md section 3). Safe for concurrent use as long as the records are not shared.</summary>
public static class ChainBuilder
{
    /// <summary>Numbers from here on were handed out behind a system that passes W3C's context only (DESIGN.md section 2).</summary>
    public const ulong FirstForeignNumber = 1_000_000;

    /// <summary>A jump of more than this between neighbours is another way of numbering, not a loss.</summary>
    public const ulong LargestGap = 1_000;

    /// <summary>
    /// Builds the chain. Never throws, whatever the records hold; takes time n log n in the total length of the ids. Sets
    /// <see cref="IndexedRecord.Service"/> where the record itself does not name its service, since only the whole trace can tell.
    /// </summary>
    /// <param name="traceId">Id of the trace.</param>
    /// <param name="records">Records of this trace in any order, duplicates included.</param>
    /// <param name="options">How to read them; null for the default.</param>
    public static CallChain Build(string traceId, IReadOnlyList<IndexedRecord> records, ChainOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(traceId);
        ArgumentNullException.ThrowIfNull(records);
        var all = records switch
        {
            IndexedRecord[] array => array,
            List<IndexedRecord> list => CollectionsMarshal.AsSpan(list),
            _ => [.. records],
        };
        RecordDeriver.ResolveServices(all);
        var assembly = ChainAssembly.Rent();
        var chain = assembly.Build(traceId, all, options ?? ChainOptions.Default);
        ChainAssembly.Return(assembly);
        return chain;
    }
}

/// <summary>The state of one build: sort, sweep over the ids to find the nodes' places, split executions, then name, span and count.</summary>
sealed class ChainAssembly
{
    /// <summary>An id that is in the chain, present or inferred; its nodes are its executions.</summary>
    struct Site
    {
        public string Source;
        public int Length;
        public int Parent;
        public int Depth;
        public ulong Number;

        // Entries with this very id, and those at .1 that belong to this call: ranges of _entries.
        public int OwnStart, OwnEnd, CalleeStart, CalleeEnd;
        public int FirstNode, NodeCount;
        public ulong LastUsed;
        public bool OnlyEventsAtOne, UsedZero, IsIrregular, LastIsIrregular, HasRegularChild, IsAmbiguous;
        public ChainNode? Unknown;

        public readonly ReadOnlySpan<char> Text => Source.AsSpan(0, Length);
    }

    enum Scope : byte
    {
        Unknown,
        Whole,
        Sampled,
    }

    // Beyond this a dictionary is given up with its trace.
    const int KeptNames = 1_000;

    [ThreadStatic]
    static ChainAssembly? t_idle;

    readonly List<IndexedRecord> _loose = [];
    readonly List<int> _open = [];
    readonly List<(int Site, ulong From, ulong To)> _gaps = [];
    readonly Dictionary<int, ParentExecutions> _parents = [];
    PeerNames _peers = new();
    HashSet<string> _seenServices = new(StringComparer.Ordinal);
    Totals _totals;

    // Rented: only the first _entryCount, _siteCount and so on are of this trace.
    ChainEntry[] _entries = [];
    Site[] _sites = [];
    int[] _siteOfNode = [];
    int _entryCount;
    int _siteCount;

    // Become the chain's.
    ChainOptions _options = ChainOptions.Default;
    List<ChainNode> _nodes = null!;
    List<string> _services = null!;
    IndexedRecord[] _placed = null!;
    int _placedCount;
    string? _lastService;
    bool _hasUnknown;
    bool _twins;
    bool _trustsSpans;
    Dictionary<int, List<IndexedRecord>>? _looseBySite;
    Dictionary<IndexedRecord, List<IndexedRecord>>? _copies;

    /// <summary>What does not depend on the places of the records.</summary>
    struct Totals
    {
        public long Start, End, Newest;
        public int Records, Duplicates, Errors, Alarms;
        public bool IsDebug, IsSampled, HasUid;
    }

    /// <summary>This thread's assembly, to be used for one chain. One that failed is not given back.</summary>
    public static ChainAssembly Rent()
    {
        var assembly = t_idle ?? new ChainAssembly();
        t_idle = null;
        return assembly;
    }

    /// <summary>Keeps the assembly for the thread's next chain, without anything of the last one.</summary>
    public static void Return(ChainAssembly assembly)
    {
        assembly.Clear();
        t_idle = assembly;
    }

    public CallChain Build(string traceId, ReadOnlySpan<IndexedRecord> records, ChainOptions options)
    {
        _options = options;
        _services = [];
        _placed = new IndexedRecord[records.Length];
        Take(records);
        SetCopiesAside();
        _loose.Sort(ChainEntry.CompareRecords);
        _twins = ReadsAsTwins();
        FindSites();
        LearnPairs();
        PlaceLoose();
        _nodes = new List<ChainNode>(_siteCount);
        for (var site = 0; site < _siteCount; site++) AddNodes(site);
        AddUnknown();
        _siteOfNode = ArrayPool<int>.Shared.Rent(_nodes.Count);
        for (var site = 0; site < _siteCount; site++)
            for (var i = 0; i < _sites[site].NodeCount; i++) _siteOfNode[_sites[site].FirstNode + i] = site;
        SpanAndName();
        return Count(traceId);
    }

    void Clear()
    {
        GiveBack(ref _entries, _entryCount);
        GiveBack(ref _sites, _siteCount);
        GiveBack(ref _siteOfNode, 0);
        _entryCount = _siteCount = _placedCount = 0;
        _loose.Clear();
        _open.Clear();
        _gaps.Clear();
        _parents.Clear();
        if (_peers.Count > KeptNames) (_peers, _seenServices) = (new PeerNames(), new HashSet<string>(StringComparer.Ordinal));
        _peers.Clear();
        _seenServices.Clear();
        _totals = default;
        (_nodes, _services, _placed, _lastService) = (null!, null!, null!, null);
        _hasUnknown = _twins = _trustsSpans = false;
        (_looseBySite, _copies) = (null, null);
    }

    /// <summary>Nothing of a trace stays in the pool.</summary>
    static void GiveBack<T>(ref T[] array, int used)
    {
        if (array.Length == 0) return;
        Array.Clear(array, 0, used);
        ArrayPool<T>.Shared.Return(array);
        array = [];
    }

    void Take(ReadOnlySpan<IndexedRecord> records)
    {
        _totals = new Totals { Records = records.Length, Start = long.MaxValue, End = long.MinValue, Newest = long.MinValue };
        var entries = ArrayPool<ChainEntry>.Shared.Rent(records.Length);
        var count = 0;
        foreach (var record in records)
        {
            _totals.Start = Math.Min(_totals.Start, record.StartMicros);
            _totals.End = Math.Max(_totals.End, record.EndMicros);
            _totals.Newest = Math.Max(_totals.Newest, record.TimestampMicros);
            _totals.IsDebug |= record.IsDebug;
            _totals.IsSampled |= record.IsSampled;
            _totals.HasUid |= record.HasUid;
            CountErrors(record, 1);
            if (record.RpcIdText is { } id) entries[count++] = new ChainEntry(record, id);
            else _loose.Add(record);
        }

        _entries = ArrayPool<ChainEntry>.Shared.Rent(count);
        _entryCount = count;
        var keys = ArrayPool<ChainSort.Key>.Shared.Rent(count);
        ChainSort.Sort(entries.AsSpan(0, count), keys.AsSpan(0, count), _entries);
        ArrayPool<ChainSort.Key>.Shared.Return(keys);
        GiveBack(ref entries, count);
    }

    void CountErrors(IndexedRecord record, int times)
    {
        if (record.IsError) _totals.Errors += times;
        if (record.IsAlarm) _totals.Alarms += times;
    }

    /// <summary>
    /// Byte-identical calls and handlings are one record that was delivered again: only the first takes part, the others are placed with it,
    /// so that a second delivery changes nothing else.
    /// </summary>
    void SetCopiesAside()
    {
        var kept = Math.Min(1, _entryCount);
        for (var i = 1; i < _entryCount; i++)
        {
            ref readonly var first = ref _entries[kept - 1];
            ref readonly var entry = ref _entries[i];
            if (entry.Class == ChainEntry.Event || entry.Class != first.Class || !entry.HasSameId(first) || !ChainEntry.AreIdentical(entry.Record, first.Record))
            {
                if (kept != i) _entries[kept] = entry;
                kept++;
                continue;
            }

            _copies ??= new(ReferenceEqualityComparer.Instance);
            if (!_copies.TryGetValue(first.Record, out var copies)) _copies.Add(first.Record, copies = []);
            copies.Add(entry.Record);
            _totals.Duplicates++;
            CountErrors(entry.Record, -1);
        }

        Array.Clear(_entries, kept, _entryCount - kept);
        _entryCount = kept;
    }

    /// <summary>Places a record and the copies of it.</summary>
    void Place(IndexedRecord record)
    {
        PlaceOne(record);
        if (_copies is null || !_copies.TryGetValue(record, out var copies)) return;
        foreach (var copy in copies) PlaceOne(copy);
    }

    void PlaceOne(IndexedRecord record)
    {
        _placed[_placedCount++] = record;
        if (record.Service is not { } service || ReferenceEquals(service, _lastService)) return;
        _lastService = service;
        if (_seenServices.Add(service)) _services.Add(service);
    }

    // ---- which reading ----

    bool ReadsAsTwins()
    {
        if (_options.Reading != ChainReading.Majority) return _options.Reading == ChainReading.Twins;
        int twins = 0, pairs = 0;
        for (int start = 0, end; start < _entryCount; start = end)
        {
            end = EndOfGroup(start);
            if (ShowsTwins(start, end)) twins++;
        }

        // Pairs need a look-up each and logs of our own form show no twins at all: count them only where they can decide.
        var tieIsTwins = _options.TieReading == ChainReading.Twins;
        if (twins == 0 && !tieIsTwins) return false;
        for (int start = 0, end; start < _entryCount; start = end)
        {
            end = EndOfGroup(start);
            if (ShowsPair(start, end)) pairs++;
        }

        return twins != pairs ? twins > pairs : tieIsTwins;
    }

    bool ShowsTwins(int start, int end)
    {
        if (_entries[start].Class != ChainEntry.Call || end - start < 2) return false;
        for (var server = start + 1; server < end; server++)
        {
            if (_entries[server].Record is not { Kind: RecordKind.Server, Service: { } callee }) continue;
            for (var call = start; call < end && _entries[call].Class == ChainEntry.Call; call++)
                if (_entries[call].Record.Service is { } caller && caller != callee) return true;
        }

        return false;
    }

    bool ShowsPair(int start, int end)
    {
        var id = _entries[start].Id;
        if (!IsNumberOne(id)) return false;
        var hasServer = false;
        for (var i = start; i < end && !hasServer; i++) hasServer = _entries[i].Record.Kind == RecordKind.Server;
        if (!hasServer) return false;

        var parent = id.AsSpan(0, id.Length - 2);
        int low = 0, high = start;
        while (low < high)
        {
            var middle = (low + high) >>> 1;
            if (RpcId.Compare(_entries[middle].Id, parent) < 0) low = middle + 1;
            else high = middle;
        }

        return parent.SequenceEqual(_entries[low].Id) && _entries[low].Class == ChainEntry.Call; // calls sort first within an id
    }

    static bool IsNumberOne(string id) => id.Length > 2 && id[^1] == '1' && id[^2] == '.';

    int EndOfGroup(int start)
    {
        var end = start + 1;
        while (end < _entryCount && _entries[end].HasSameId(_entries[start])) end++;
        return end;
    }

    // ---- which ids are nodes, and which numbers are missing ----

    void FindSites()
    {
        for (int start = 0, end; start < _entryCount; start = end)
        {
            end = EndOfGroup(start);
            var id = _entries[start].Id;
            var calls = start;
            while (calls < end && _entries[calls].Class == ChainEntry.Call) calls++;

            // P.1 closes and belongs to call P; only a call makes it a node (or a descendant, which comes later in the order).
            var own = _twins || !IsNumberOne(id) ? end : calls;
            if (own > start)
            {
                var site = Enter(id, id.Length);
                _sites[site].OwnStart = start;
                _sites[site].OwnEnd = own;
            }

            if (own == end) continue;
            var scope = Enter(id, id.Length - 2, keepsDeeper: true);
            _sites[scope].CalleeStart = own;
            _sites[scope].CalleeEnd = end;
            if (_entries[own].Class == ChainEntry.Handling) Use(scope, 1);
            else _sites[scope].OnlyEventsAtOne = _sites[scope].LastUsed == 0;
        }

        while (_open.Count > 0) Leave();
        if (_siteCount == 0 && _loose.Count > 0) AddSite("1", 1, -1, 0, 1); // records without any id still have a top to hang on
    }

    /// <summary>Gives the site of an id, creating it and its ancestors. Ids come in order, so the open sites are the way down to the last one.</summary>
    int Enter(string id, int length, bool keepsDeeper = false)
    {
        if (_open.Count > 0)
        {
            ref var last = ref _sites[_open[^1]];
            var common = last.Text.CommonPrefixLength(id.AsSpan(0, length));
            if (keepsDeeper && common == length && last.Length > length && last.Parent >= 0 && _sites[last.Parent].Length == length) return last.Parent;
            while (_open.Count > 0)
            {
                var open = _sites[_open[^1]].Length;
                if (open <= common && (open == length || id[open] == '.')) break;
                Leave();
            }
        }

        var parent = _open.Count > 0 ? _open[^1] : -1;
        var start = parent < 0 ? 0 : _sites[parent].Length + 1;
        while (start <= length)
        {
            // At most 19 digits (RpcId.MaxSegmentDigits), so that the number fits.
            var end = start;
            ulong number = 0;
            for (; end < length && id[end] != '.'; end++) number = (number * 10) + (ulong)(id[end] - '0');
            var isIrregular = parent >= 0 && (Use(parent, number) || (number >= ChainBuilder.FirstForeignNumber && _sites[parent].LastIsIrregular));
            var site = AddSite(id, end, parent, parent < 0 ? 0 : _sites[parent].Depth + 1, number);
            _sites[site].IsIrregular = isIrregular;
            if (parent >= 0)
            {
                _sites[parent].LastIsIrregular = isIrregular;
                _sites[parent].HasRegularChild |= !isIrregular || number < ChainBuilder.FirstForeignNumber;
            }

            _open.Add(site);
            parent = site;
            start = end + 1;
        }

        return parent;
    }

    int AddSite(string source, int length, int parent, int depth, ulong number)
    {
        if (_siteCount == _sites.Length)
        {
            var larger = ArrayPool<Site>.Shared.Rent(Math.Max(Math.Max(16, _entryCount), _siteCount * 2));
            _sites.AsSpan(0, _siteCount).CopyTo(larger);
            GiveBack(ref _sites, _siteCount);
            _sites = larger;
        }

        _sites[_siteCount] = new Site { Source = source, Length = length, Parent = parent, Depth = depth, Number = number };
        return _siteCount++;
    }

    /// <summary>Notes that a scope handed out a number, and what is missing before it. True when the number is out of line with the last one.</summary>
    bool Use(int scope, ulong number)
    {
        ref var site = ref _sites[scope];
        var last = site.LastUsed;
        if (number <= last)
        {
            site.UsedZero |= number == 0;
            return false;
        }

        site.LastUsed = number;
        if (number - last > ChainBuilder.LargestGap)
        {
            // Events at P.1 show that the scope itself is of the regular kind: the record that closes it is missing.
            if (site.OnlyEventsAtOne && last == 0) _gaps.Add((scope, 1, 1));
            return true;
        }

        if (number - last > 1) _gaps.Add((scope, last + 1, number - 1));
        return false;
    }

    void Leave()
    {
        ref var site = ref _sites[_open[^1]];
        if (site.LastUsed == 0 && (site.OnlyEventsAtOne || (site.UsedZero && !_twins))) _gaps.Add((_open[^1], 1, 1));
        _open.RemoveAt(_open.Count - 1);
    }

    // ---- what the trace teaches about itself ----

    /// <summary>Where one call meets one request: are span ids carried from caller to callee, and which target is which service?</summary>
    void LearnPairs()
    {
        int matching = 0, differing = 0;
        for (var i = 0; i < _siteCount; i++)
        {
            ref var site = ref _sites[i];
            if (!IsSimple(site, out var call, out var server) || call is null || server is null) continue;
            var parent = server.Record.Utf8(RecordField.ParentSpanId);
            var span = call.Record.Utf8(RecordField.SpanId);
            if (!parent.IsEmpty && !span.IsEmpty)
            {
                if (parent.SequenceEqual(span)) matching++;
                else differing++;
            }

            if (server.Kind == RecordKind.Server) _peers.Learn(call.Peer, server.Service);
        }

        // A proxy that takes part in W3C tracing puts its own span between caller and callee, everywhere: then a difference proves nothing.
        _trustsSpans = matching >= differing;
        for (var i = 0; i < _entryCount; i++) _peers.Know(_entries[i].Service);
    }

    /// <summary>At most one call and one record of its handling: no question of executions.</summary>
    bool IsSimple(in Site site, out IndexedRecord? call, out IndexedRecord? server)
    {
        call = server = null;
        for (var i = site.OwnStart; i < site.OwnEnd && _entries[i].Class != ChainEntry.Event; i++)
        {
            ref var slot = ref _entries[i].Class == ChainEntry.Call ? ref call : ref server;
            if (slot is not null) return false;
            slot = _entries[i].Record;
        }

        for (var i = site.CalleeStart; i < site.CalleeEnd && _entries[i].Class != ChainEntry.Event; i++)
        {
            if (server is not null) return false;
            server = _entries[i].Record;
        }

        return true;
    }

    /// <summary>Records without an id are events on the node with their span id, else on the top.</summary>
    void PlaceLoose()
    {
        if (_loose.Count == 0) return;
        var sites = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var wanted in (ReadOnlySpan<byte>)[ChainEntry.Handling, ChainEntry.Call, ChainEntry.Event])
            for (var site = 0; site < _siteCount; site++)
                foreach (var range in (ReadOnlySpan<(int, int)>)[(_sites[site].OwnStart, _sites[site].OwnEnd), (_sites[site].CalleeStart, _sites[site].CalleeEnd)])
                    for (var i = range.Item1; i < range.Item2; i++)
                        if (_entries[i].Class == wanted && _entries[i].Record.Record.SpanId is { Length: > 0 } span) sites.TryAdd(span, site);

        _looseBySite = [];
        foreach (var record in _loose)
        {
            var site = record.Record.SpanId is { } span && sites.TryGetValue(span, out var found) ? found : 0;
            if (!_looseBySite.TryGetValue(site, out var list)) _looseBySite.Add(site, list = []);
            list.Add(record);
        }
    }

    // ---- nodes ----

    void AddNodes(int index)
    {
        ref var site = ref _sites[index];
        site.FirstNode = _nodes.Count;
        var parent = site.Parent < 0 ? null : _nodes[_sites[site.Parent].FirstNode];
        var hasOneParent = site.Parent < 0 || _sites[site.Parent] is { NodeCount: 1, Unknown: null };
        var loose = _looseBySite is not null && _looseBySite.TryGetValue(index, out var list) ? list : [];
        if (hasOneParent && IsSimple(site, out var call, out var server) && !NeedsSplit(call, server))
        {
            var first = _placedCount;
            if (call is not null) Place(call);
            var firstHandling = _placedCount;
            if (server is not null) Place(server);
            var firstEvent = _placedCount;
            PlaceEvents(site.OwnStart, site.OwnEnd);
            PlaceEvents(site.CalleeStart, site.CalleeEnd);
            foreach (var record in loose) PlaceOne(record);
            var node = AddNode(site, 0, parent, first, firstHandling - first, firstEvent - firstHandling, _placedCount - firstEvent);
            node.Caller = call;
            node.IsError = call is { IsError: true } || server is { IsError: true };
            SetCalleeOnly(node, site, isSecondHandling: false);
        }
        else
        {
            SplitNodes(ref site, loose);
        }

        site.NodeCount = _nodes.Count - site.FirstNode;
    }

    /// <summary>One call and one request that do not belong together, as far as their records tell.</summary>
    bool NeedsSplit(IndexedRecord? call, IndexedRecord? server)
    {
        if (call is null || server is null) return false;
        return server.Kind == RecordKind.Internal || !Executions.CanBelongTogether(call, server, _peers, _trustsSpans);
    }

    void PlaceEvents(int start, int end)
    {
        for (var i = start; i < end; i++)
            if (_entries[i].Class == ChainEntry.Event) PlaceOne(_entries[i].Record);
    }

    void SplitNodes(ref Site site, List<IndexedRecord> loose)
    {
        var parent = site.Parent;
        var executions = new Executions(_peers, _trustsSpans, ParentsOf(site), () => UnknownExecution(parent));
        for (var i = site.OwnStart; i < site.OwnEnd; i++) executions.Add(_entries[i].Record, _entries[i].Class, isInScope: false);
        for (var i = site.CalleeStart; i < site.CalleeEnd; i++) executions.Add(_entries[i].Record, _entries[i].Class, isInScope: true);
        foreach (var record in loose) executions.Add(record, ChainEntry.Event, isInScope: true);

        var number = 0;
        foreach (var execution in executions.Split())
        {
            var first = _placedCount;
            foreach (var record in execution.Calls) Place(record);
            var firstHandling = _placedCount;
            foreach (var record in execution.Handlings) Place(record);
            var firstEvent = _placedCount;
            foreach (var record in execution.Events) PlaceOne(record);
            var node = AddNode(site, number++, execution.Parent, first, firstHandling - first, firstEvent - firstHandling, _placedCount - firstEvent);
            node.IsAmbiguous = execution.IsAmbiguous;
            site.IsAmbiguous |= execution.IsAmbiguous;
            foreach (var record in execution.Calls)
            {
                if (node.Caller is null || (RecordNames.IsConnect(node.Caller.Record.Name) && !RecordNames.IsConnect(record.Record.Name))) node.Caller = record;
                node.IsError |= record.IsError;
            }

            foreach (var record in execution.Handlings) node.IsError |= record.IsError;
            SetCalleeOnly(node, site, execution.IsSecondHandling);
        }
    }

    ParentExecutions ParentsOf(in Site site)
    {
        if (site.Parent < 0) return new ParentExecutions([], _peers);
        if (_parents.TryGetValue(site.Parent, out var parents)) return parents;
        ref var above = ref _sites[site.Parent];
        var nodes = _nodes.GetRange(above.FirstNode, above.NodeCount);
        if (above.Unknown is not null) nodes.Add(above.Unknown);
        parents = new ParentExecutions(nodes, _peers);
        _parents.Add(site.Parent, parents);
        return parents;
    }

    /// <summary>The execution of a call that none of its records belongs to, known from below; one for each id at most.</summary>
    ChainNode UnknownExecution(int index)
    {
        ref var site = ref _sites[index];
        if (site.Unknown is not null) return site.Unknown;
        _hasUnknown = site.IsAmbiguous = true;
        _parents.Remove(index); // for those that come later there is one more
        return site.Unknown = new ChainNode(site.Source, site.Length, site.Depth, site.Number, site.NodeCount, _nodes[site.FirstNode].Parent, _placed, 0, 0, 0, 0)
        {
            IsUnknownExecution = true,
            IsAmbiguous = true,
            IsIrregular = site.IsIrregular,
        };
    }

    /// <summary>Unknown executions are found below their place: put them behind the others of their id.</summary>
    void AddUnknown()
    {
        if (!_hasUnknown) return;
        var known = _nodes.ToArray();
        _nodes.Clear();
        for (var i = 0; i < _siteCount; i++)
        {
            ref var site = ref _sites[i];
            var first = _nodes.Count;
            _nodes.AddRange(known.AsSpan(site.FirstNode, site.NodeCount));
            if (site.Unknown is not null) _nodes.Add(site.Unknown);
            site.FirstNode = first;
            site.NodeCount = _nodes.Count - first;
        }
    }

    ChainNode AddNode(in Site site, int execution, ChainNode? parent, int first, int calls, int handlings, int events)
    {
        var node = new ChainNode(site.Source, site.Length, site.Depth, site.Number, execution, parent, _placed, first, calls, handlings, events)
        {
            IsIrregular = site.IsIrregular,
        };
        _nodes.Add(node);
        return node;
    }

    static void SetCalleeOnly(ChainNode node, in Site site, bool isSecondHandling) =>
        node.IsCalleeOnly = node is { Caller: null, Callee.Kind: RecordKind.Server } && site.Parent >= 0 && !site.IsIrregular && !isSecondHandling;

    // ---- spans, names ----

    void SpanAndName()
    {
        // Children stand after their parents: backwards hands up what is known below, forwards hands down what is known above.
        for (var i = _nodes.Count - 1; i >= 0; i--)
        {
            var node = _nodes[i];
            SetOwnFacts(node);
            if (node.Parent is not { } parent) continue;
            parent.SpanStart = Math.Min(parent.SpanStart, node.SpanStart);
            parent.SpanEnd = Math.Max(parent.SpanEnd, node.SpanEnd);

            // What calls from a scope is what handled the call; the first child that says so wins, being handed up last.
            if (node.CallerService is { } service && parent.Callee is null) parent.CalleeService = service;
        }

        for (var i = 0; i < _nodes.Count; i++)
        {
            var node = _nodes[i];
            if (node.Caller is { } call) node.CalleeService ??= call.CalleeService ?? _peers.ServiceOf(call.Peer) ?? ClientName(call);
            node.CallerService ??= node.Callee?.CallerService ?? node.Parent?.Target;
            if (node.IsFork) node.CalleeService ??= node.CallerService;
            node.IsForeign = node.IsPlaceholder && !_sites[_siteOfNode[i]].HasRegularChild;
        }
    }

    /// <summary>
    /// The name that the caller's code gave its client for a service, where nothing better is known of who answers. Good enough to show;
    /// executions are never told apart by it.
    /// </summary>
    static string? ClientName(IndexedRecord call) =>
        call.Record.InstanceName is { Length: > 0 } client && !client.Equals("default", StringComparison.OrdinalIgnoreCase) &&
        call.Record.Name is { } name && (name.StartsWith("http.", StringComparison.Ordinal) || name.StartsWith("grpc.", StringComparison.Ordinal))
            ? client
            : null;

    void SetOwnFacts(ChainNode node)
    {
        // Own records come before what descendants handed up, except in the span, which covers both.
        foreach (var record in node.Records)
        {
            node.SpanStart = Math.Min(node.SpanStart, record.StartMicros);
            node.SpanEnd = Math.Max(node.SpanEnd, record.EndMicros);
        }

        var shown = node.Caller ?? node.Callee;
        node.StartMicros = shown?.StartMicros ?? node.SpanStart;
        node.DurationMicros = shown is null ? Between(node.SpanStart, node.SpanEnd) : shown.DurationMicros;
        node.CallerService = node.Caller?.Service;
        if (node.Callee?.Service is { } callee) node.CalleeService = callee;
        foreach (var record in node.Events)
        {
            if (record.Service is not { } service) continue;
            if (node.IsCalleeSide(record) || record.Record.RpcId is null) node.CalleeService ??= service;
            else node.CallerService ??= service;
        }

        // A branch runs in the service that made it.
        if (node.IsFork) node.CallerService ??= node.CalleeService;
    }

    /// <summary>Absurd clocks may lie further apart than a number can say.</summary>
    static long Between(long start, long end) => unchecked(end - start) is >= 0 and var micros ? micros : long.MaxValue;

    // ---- counts ----

    CallChain Count(string traceId)
    {
        var sampled = _totals.IsSampled ? FindSampled() : null;
        int placeholders = 0, calleeOnly = 0, foreign = 0, irregular = 0, depth = 0;
        for (var i = 0; i < _nodes.Count; i++)
        {
            var node = _nodes[i];
            var site = _siteOfNode[i];
            var parent = _sites[site].Parent;
            node.IsSampled = sampled is not null && (parent >= 0 ? sampled[parent] : sampled[site]) == Scope.Sampled;
            if (node.IsForeign) foreign++;
            else if (node.IsPlaceholder && !node.IsSampled) placeholders++;
            if (node.IsCalleeOnly && !node.IsSampled) calleeOnly++;
            if (node.IsIrregular) irregular++;
            depth = Math.Max(depth, node.Depth);
        }

        var ambiguous = 0;
        for (var site = 0; site < _siteCount; site++)
            if (_sites[site].IsAmbiguous) ambiguous++;

        List<ChainGap> gaps = new(_gaps.Count);
        long gapCount = 0;
        foreach (var (site, from, to) in _gaps)
        {
            if (sampled is not null && sampled[site] == Scope.Sampled) continue;
            var scope = _nodes[_sites[site].FirstNode];

            // The top counts once: the placeholder is the missing request.info.
            var first = from == 1 && _sites[site].Parent < 0 && scope.IsPlaceholder ? 2 : from;
            if (first > to) continue;
            var gap = new ChainGap(scope, first, to);
            gaps.Add(gap);
            if (first == 1 && !_twins && scope.Caller is not null && scope.Callee is null) scope.IsCalleeMissing = true;
            gapCount += gap.Count;
            scope.GapCount += gap.Count;
        }

        return new CallChain
        {
            TraceId = traceId,
            Nodes = _nodes,
            Gaps = gaps,
            Services = _services,
            IsTwins = _twins,
            RecordCount = _totals.Records,
            DuplicateCount = _totals.Duplicates,
            PlaceholderCount = placeholders,
            GapCount = gapCount,
            CalleeOnlyCount = calleeOnly,
            AmbiguousCount = ambiguous,
            IrregularCount = irregular,
            ForeignCount = foreign,
            ErrorCount = _totals.Errors,
            AlarmCount = _totals.Alarms,
            Depth = depth,
            Debug = _totals.IsDebug,
            Sampled = _totals.IsSampled,
            Uid = _totals.HasUid ? Array.Find(_placed, record => record.HasUid)?.Record.Uid : null,
            StartMicros = _nodes.Count == 0 ? 0 : _totals.Start,
            DurationMicros = _nodes.Count == 0 ? 0 : Between(_totals.Start, _totals.End),
            LastRecordMicros = _nodes.Count == 0 ? 0 : _totals.Newest,
        };
    }

    /// <summary>
    /// Which scopes leave records out on purpose. A scope with records says so itself; one without any is taken to do as the scopes
    /// below it do, else as the one above, since the decision travels with the context.
    /// </summary>
    Scope[] FindSampled()
    {
        var scopes = new Scope[_siteCount];
        for (var i = 0; i < _siteCount; i++)
        {
            ref var site = ref _sites[i];
            for (var entry = site.OwnStart; entry < site.OwnEnd; entry++)
                Note(_entries[entry].Class == ChainEntry.Handling || site.Parent < 0 ? i : site.Parent, _entries[entry].Record);
            for (var entry = site.CalleeStart; entry < site.CalleeEnd; entry++) Note(i, _entries[entry].Record);
        }

        var own = (Scope[])scopes.Clone();
        for (var i = _siteCount - 1; i > 0; i--)
            if (_sites[i].Parent is >= 0 and var parent && own[parent] == Scope.Unknown && scopes[i] == Scope.Sampled) scopes[parent] = Scope.Sampled;
        for (var i = 0; i < _siteCount; i++)
            if (scopes[i] == Scope.Unknown && _sites[i].Parent is >= 0 and var parent) scopes[i] = scopes[parent];
        return scopes;

        void Note(int scope, IndexedRecord record)
        {
            if (record.IsSampled) scopes[scope] = Scope.Sampled;
            else if (scopes[scope] == Scope.Unknown) scopes[scope] = Scope.Whole;
        }
    }
}
