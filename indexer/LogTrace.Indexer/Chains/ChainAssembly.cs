using System.Buffers;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using LogTrace.Records;
using Node = LogTrace.Indexer.Chains.ChainNodes.Node;
using NodeFacts = LogTrace.Indexer.Chains.ChainNodes.NodeFacts;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// The state of one build: take what decides out of the records, sort it, sweep over the ids to find the nodes' places, split executions, then name,
/// span and count. Everything lies in few arrays that are gone over from one end to the other and kept for the thread's next chain.
/// </summary>
sealed class ChainAssembly
{
    /// <summary>
    /// What building takes beside the node at the same place: an id that is in the chain, present or inferred, with its first execution. Further
    /// executions of an id stand behind the last id, so that those of one id are not side by side.
    /// </summary>
    struct Site
    {
        /// <summary>The id above. Which of its executions is the parent, the node tells.</summary>
        public int Above;

        /// <summary>The id's first execution: itself, unless it is a further one.</summary>
        public int First;

        /// <summary>The next execution of the id; 0 for none.</summary>
        public int Next;

        // Entries with this very id, and those at .1 that belong to this call; how many of both are calls and handlings.
        public int OwnStart, OwnEnd, CalleeStart, CalleeEnd, Calls, Handlings;

        /// <summary>The calling service by the record of handling: counts where nothing better is known.</summary>
        public int StatedCaller;

        /// <summary>Highest number used so far below the id.</summary>
        public ulong LastUsed;

        /// <summary>From the first to the last of all that is placed here, in the end of all below too.</summary>
        public long SpanStart, SpanEnd;

        /// <summary>Characters of the id, and bits of its key (more than there are where they do not fit).</summary>
        public ushort Length, Bits;
        public byte Depth;
        public bool IsIrregular, OnlyEventsAtOne, UsedZero, LastIsIrregular, HasRegularChild, IsAmbiguous, HasFurtherScope, IsUnclearBelow;

        public readonly int EntryCount => OwnEnd - OwnStart + CalleeEnd - CalleeStart;

        public void Span(long start, long end)
        {
            if (start < SpanStart) SpanStart = start;
            if (end > SpanEnd) SpanEnd = end;
        }
    }

    enum Scope : byte
    {
        Unknown,
        Whole,
        Sampled,
    }

    /// <summary>Larger arrays go back to the pool that all share.</summary>
    const int KeptLength = 1 << 12;

    /// <summary>Records are fetched this many before they are looked at.</summary>
    const int FetchAhead = 12;

    /// <summary>Calls and handlings of one id that are compared each with each; more come only from broken input.</summary>
    const int MaxPairs = 256;

    /// <summary>Bits of an id that does not fit its key.</summary>
    const ushort TooManyBits = ushort.MaxValue;

    [ThreadStatic]
    static ChainAssembly? t_idle;

    static readonly List<IndexedRecord> s_none = [];

    readonly ChainNames _names = new();
    readonly List<IndexedRecord> _loose = [];
    readonly List<(int Site, ulong From, ulong To)> _gaps = [];
    readonly List<int> _services = [];
    readonly List<IndexedRecord[]> _filledPages = [];
    readonly Dictionary<ulong, int> _hosts = [];
    readonly List<(int Node, int Service)> _lostNames = [];
    readonly Dictionary<int, ParentExecutions> _parents = [];
    readonly Dictionary<int, ParentNode> _unknown = [];

    // Only the first _entryCount, _siteCount and _nodeCount are of this trace. None holds references.
    ChainEntry[] _taken = [];
    ChainEntry[] _entries = [];
    ulong[] _keys = [];
    int[] _order = [];
    Site[] _sites = [];
    Node[] _nodes = [];
    int _entryCount;
    int _siteCount;
    int _nodeCount;

    IndexedRecord[] _records = [];
    ChainOptions _options = ChainOptions.Default;
    HopKnowledge? _known;

    // The page of placed records that is being filled.
    IndexedRecord[] _page = [];
    int _pageUsed;
    int _pagePlace;
    int _placedCount;

    int _lastService;

    /// <summary>Some node has neither call nor handling: what it shows comes from below.</summary>
    bool _hasBare;
    bool _twins;
    bool _trustsSpans;
    bool? _areSpansBound;

    /// <summary>Length of ids that may have been cut; 0 for none.</summary>
    int _cutLength;

    /// <summary>Some site is <see cref="Site.IsUnclearBelow"/>.</summary>
    bool _hasUnclear;

    /// <summary>Some site may be <see cref="Site.HasFurtherScope"/>.</summary>
    bool _hasFurtherScopes;
    int _matchingPairs, _differingPairs;
    Dictionary<int, List<IndexedRecord>>? _looseBySite;
    Dictionary<IndexedRecord, List<IndexedRecord>>? _copies;

    // What does not depend on the places of the records. Facts: those that any of them has.
    ulong _any;
    long _start, _end, _newest;
    int _duplicates, _errors, _alarms, _ambiguous;

    public static CallChain Build(string traceId, IndexedRecord[] records, ChainOptions options, HopKnowledge? known)
    {
        // The array is often as far away as the records are. Until it is there, what the thread's last chain left is cleared away; an assembly that failed is not used again.
        Fetch(records);
        var assembly = t_idle ?? new ChainAssembly();
        t_idle = null;
        assembly.Clear();
        var chain = assembly.Assemble(traceId, records, options, known);
        assembly.LetGo();
        t_idle = assembly;
        return chain;
    }

    CallChain Assemble(string traceId, IndexedRecord[] records, ChainOptions options, HopKnowledge? known)
    {
        (_options, _known, _records) = (options, known, records);
        Take();
        Sort();
        _twins = ReadsAsTwins();
        FindSites();

        // Lengths that were put together bit by bit are no less than the greatest of them, and below the shortest limit if all are.
        if (ChainFacts.LengthOf((uint)_any) >= ShortestLimit) FindCutLength();
        _trustsSpans = true;
        if ((_any & ChainFacts.IsHandling) != 0) LearnPairs();
        _hasFurtherScopes = _trustsSpans && (_any & ChainFacts.HasParentSpan) != 0;
        if (_hasFurtherScopes) FindFurtherScopes();
        if (_loose.Count > 0) PlaceLoose();
        AddNodes();
        if (_cutLength > 0) DoubtCutIds();
        return Finish(traceId);
    }

    /// <summary>Holds on to nothing of the chain but some of its names.</summary>
    void LetGo()
    {
        GiveBack(ref _taken);
        GiveBack(ref _entries);
        GiveBack(ref _keys);
        GiveBack(ref _order);
        GiveBack(ref _sites);
        GiveBack(ref _nodes);
        _names.LetGo();
        if (_loose.Count > 0) _loose.Clear();
        _filledPages.Clear();
        if (_parents.Count > 0) _parents.Clear();
        if (_unknown.Count > 0) _unknown.Clear();
        (_records, _page, _looseBySite, _copies, _known) = ([], [], null, null, null);
    }

    void Clear()
    {
        _names.Clear();
        _gaps.Clear();
        _services.Clear();
        _entryCount = _siteCount = _nodeCount = _placedCount = _cutLength = _pageUsed = _pagePlace = _lastService = _matchingPairs = _differingPairs = 0;
        _duplicates = _errors = _alarms = _ambiguous = 0;
        _areSpansBound = null;
        _hasBare = _hasUnclear = _hasFurtherScopes = false;
    }

    static void GiveBack<T>(ref T[] array)
    {
        if (array.Length <= KeptLength) return;
        ArrayPool<T>.Shared.Return(array);
        array = [];
    }

    static void Grow<T>(ref T[] array, int length, int kept = 0)
    {
        if (array.Length < length) Enlarge(ref array, length, kept);
    }

    static void Enlarge<T>(ref T[] array, int length, int kept)
    {
        var larger = length <= KeptLength ? new T[BitOperations.RoundUpToPowerOf2((uint)length)] : ArrayPool<T>.Shared.Rent(length);
        array.AsSpan(0, kept).CopyTo(larger);
        GiveBack(ref array);
        array = larger;
    }

    // ---- what the records tell ----

    void Take()
    {
        var records = _records;
        for (var i = 0; i < records.Length && i < FetchAhead; i++) Fetch(records[i]);

        // Until they are there, memory is got for what comes.
        Reserve(Math.Min(1, records.Length));
        Grow(ref _taken, records.Length);
        Grow(ref _keys, Math.Max(ChainSort.Few, records.Length));
        var (entries, keys, names) = (_taken, _keys, _names);
        long earliest = long.MaxValue, latest = long.MinValue, newest = long.MinValue;
        ulong any = 0, all = ulong.MaxValue;
        string? lastService = null, lastPeer = null;
        int service = 0, peer = 0, count = 0;
        for (var i = 0; i < records.Length; i++)
        {
            if (i + FetchAhead < records.Length) Fetch(records[i + FetchAhead]);
            var record = records[i];
            var facts = record.Facts;
            any |= facts;
            all &= facts;
            if ((facts & (ChainFacts.IsError | ChainFacts.IsAlarm)) != 0) CountErrors(facts, 1);
            var (start, duration) = (record.StartMicros, record.RawDuration);
            earliest = Math.Min(earliest, start);
            latest = Math.Max(latest, ChainFacts.EndOf(start, duration, facts));
            newest = Math.Max(newest, record.TimestampMicros);
            if ((facts & ChainFacts.HasId) == 0)
            {
                _loose.Add(record);
                continue;
            }

            if (!ReferenceEquals(record.Service, lastService))
            {
                lastService = record.Service;
                service = names.OfService(lastService, record.ServiceHash);
            }

            if (!ReferenceEquals(record.Peer, lastPeer))
            {
                lastPeer = record.Peer;
                peer = names.OfPeer(lastPeer, record.PeerHash);
            }

            ref var entry = ref entries[count];
            keys[count] = entry.High = record.KeyHigh;
            entry.Low = record.KeyLow;
            entry.Start = start;
            entry.Duration = duration;
            entry.Index = i;
            entry.Service = service;
            entry.Peer = peer;
            entry.Facts = (uint)facts;
            count++;
        }

        (_any, _entryCount) = (any, count);
        (_start, _end, _newest) = (earliest, latest, newest);
        if (_loose.Count > 1) _loose.Sort(ChainEntry.CompareRecords);
        if ((all & ChainFacts.ServiceIsCertain) == 0) ResolveServices();
    }

    /// <summary>Asks for the memory of a record that is needed soon: where a trace lies scattered, waiting for it is most of the work.</summary>
    static unsafe void Fetch(IndexedRecord record)
    {
        if (!Sse.IsSupported) return;

        // Only a hint: that the collector may have moved the record in the meantime costs nothing.
        var address = Unsafe.As<IndexedRecord, nint>(ref record);
        Sse.Prefetch0((void*)(address + 80));
        Sse.Prefetch0((void*)(address + 136));
    }

    /// <summary>The same for an array's length and what stands first in it.</summary>
    static unsafe void Fetch(IndexedRecord[] records)
    {
        if (!Sse.IsSupported) return;
        var address = Unsafe.As<IndexedRecord[], nint>(ref records);
        Sse.Prefetch0((void*)(address + 8));
        Sse.Prefetch0((void*)(address + 72));
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    void CountErrors(ulong facts, int times)
    {
        if ((facts & ChainFacts.IsError) != 0) _errors += times;
        if ((facts & ChainFacts.IsAlarm) != 0) _alarms += times;
    }

    void ResolveServices()
    {
        RecordDeriver.ResolveServices(_records);
        _names.ForgetServices();
        foreach (ref var entry in _taken.AsSpan(0, _entryCount))
        {
            var record = _records[entry.Index];
            entry.Service = _names.OfService(record.Service, record.ServiceHash);
        }
    }

    void Sort()
    {
        Grow(ref _entries, _entryCount);
        var taken = _taken.AsSpan(0, _entryCount);
        var entries = _entries.AsSpan(0, _entryCount);
        bool areSomeEqual;
        if (_entryCount <= ChainSort.Few)
        {
            areSomeEqual = ChainSort.ByRank(taken, _keys.AsSpan(0, ChainSort.Few), entries);
        }
        else
        {
            Grow(ref _order, _entryCount);
            areSomeEqual = ChainSort.ByKey(taken, _keys.AsSpan(0, _entryCount), _order.AsSpan(0, _entryCount), entries);
        }

        if (!areSomeEqual) return;
        ChainSort.Runs(entries, _records);
        SetCopiesAside();
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
            if (entry.IsEvent || entry.Class != first.Class || !HaveSameId(entry, first) || !ChainEntry.AreIdentical(_records[entry.Index], _records[first.Index]))
            {
                if (kept != i) _entries[kept] = entry;
                kept++;
                continue;
            }

            _copies ??= new(ReferenceEqualityComparer.Instance);
            if (!_copies.TryGetValue(_records[first.Index], out var copies)) _copies.Add(_records[first.Index], copies = []);
            copies.Add(_records[entry.Index]);
            _duplicates++;
            CountErrors(_records[entry.Index].Facts, -1);
        }

        _entryCount = kept;
    }

    string IdOf(in ChainEntry entry) => _records[entry.Index].RpcIdText!;

    bool HaveSameId(in ChainEntry left, in ChainEntry right) => left.HasKeyOf(right) && ((left.IsWhole && right.IsWhole) || HaveSameText(left, right));

    bool HaveSameText(in ChainEntry left, in ChainEntry right) => string.Equals(IdOf(left), IdOf(right), StringComparison.Ordinal);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    int EndOfGroup(int start)
    {
        var end = start + 1;
        while (end < _entryCount && HaveSameId(_entries[end], _entries[start])) end++;
        return end;
    }

    // ---- which reading ----

    bool ReadsAsTwins()
    {
        if (_options.Reading != ChainReading.Majority) return _options.Reading == ChainReading.Twins;
        var tieIsTwins = _options.TieReading == ChainReading.Twins;
        if ((_any & ChainFacts.IsCall) == 0 || (_any & ChainFacts.IsServer) == 0) return tieIsTwins;
        int twins = 0, pairs = 0;
        for (int start = 0, end; start < _entryCount; start = end)
        {
            end = EndOfGroup(start);
            if (ShowsTwins(start, end)) twins++;
        }

        // Pairs need a look-up each and logs of our own form show no twins at all: count them only where they can decide.
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
        if (!_entries[start].IsCall || end - start < 2) return false;
        for (var server = start + 1; server < end; server++)
        {
            if (_entries[server] is not { IsServer: true, Service: not 0 and var callee }) continue;
            for (var call = start; call < end && _entries[call].IsCall; call++)
                if (_entries[call].Service is not 0 and var caller && caller != callee) return true;
        }

        return false;
    }

    bool ShowsPair(int start, int end)
    {
        if (!_entries[start].IsNumberOne) return false;
        var hasServer = false;
        for (var i = start; i < end && !hasServer; i++) hasServer = _entries[i].IsServer;
        if (!hasServer) return false;

        var id = IdOf(_entries[start]);
        var parent = id.AsSpan(0, id.Length - 2);
        int low = 0, high = start;
        while (low < high)
        {
            var middle = (low + high) >>> 1;
            if (RpcId.Compare(IdOf(_entries[middle]), parent) < 0) low = middle + 1;
            else high = middle;
        }

        return parent.SequenceEqual(IdOf(_entries[low])) && _entries[low].IsCall; // calls sort first within an id
    }

    // ---- which ids are nodes, and which numbers are missing ----

    void FindSites()
    {
        Grow(ref _sites, Math.Max(16, _entryCount));

        // The way down to the last id: all sites above this one are ids above the last entry's.
        var open = -1;
        for (int start = 0, last = 0, end; start < _entryCount; start = end)
        {
            end = EndOfGroup(start);
            var calls = start;
            while (calls < end && _entries[calls].IsCall) calls++;
            var handlings = calls;
            while (handlings < end && _entries[handlings].IsHandling) handlings++;

            // P.1 closes and belongs to call P; only a call makes it a node (or a descendant, which comes later in the order).
            var own = _twins || !_entries[start].IsNumberOne ? end : calls;
            var isOfScope = own == start;
            if (open >= 0) open = LeaveUpTo(open, last, start, isOfScope);
            open = Enter(open, start, isOfScope);
            last = start;
            var scope = open;
            if (own > start)
            {
                ref var site = ref _sites[open];
                (site.OwnStart, site.OwnEnd, site.Calls) = (start, own, calls - start);
                if (own == end) site.Handlings = handlings - calls;
                scope = site.Above;
            }

            if (own == end) continue;
            ref var called = ref _sites[scope];
            (called.CalleeStart, called.CalleeEnd) = (own, end);
            called.Handlings += handlings - calls;
            if (handlings > calls) Use(scope, ref called, 1);
            else called.OnlyEventsAtOne = called.LastUsed == 0;
        }

        while (open >= 0) open = Leave(open);
        if (_siteCount > 0 || _loose.Count == 0) return;
        Open(-1, 1, TooManyBits); // records without any id still have a top to hang on
    }

    /// <summary>Leaves all sites that are not above an entry's id, or above the one that it is number one of. Ids come in order, so that none of them comes again.</summary>
    int LeaveUpTo(int open, int lastEntry, int index, bool isOfScope)
    {
        ref readonly var entry = ref _entries[index];
        ref readonly var last = ref _entries[lastEntry];
        var length = LengthOf(entry, isOfScope);
        var common = entry.High != last.High ? BitOperations.LeadingZeroCount(entry.High ^ last.High) : 64 + BitOperations.LeadingZeroCount(entry.Low ^ last.Low);
        while (open >= 0)
        {
            ref readonly var site = ref _sites[open];
            if (site.Length <= length && (site.Bits <= RpcKey.Bits ? site.Bits <= common : IsPrefix(IdOf(last).AsSpan(0, site.Length), IdOf(entry)))) break;
            open = Leave(open);
        }

        return open;
    }

    static int LengthOf(in ChainEntry entry, bool isOfScope) => entry.Length - (isOfScope ? 2 : 0);

    /// <summary>Gives the site of an entry's id, or of the id above it that it is number one of, creating it and those between it and the open one.</summary>
    int Enter(int open, int index, bool isOfScope)
    {
        ref readonly var entry = ref _entries[index];
        if (entry.IsWhole)
        {
            var bits = entry.KeyBits - (isOfScope ? RpcKey.BitsOfOne : 0);
            for (var at = open < 0 ? 0 : _sites[open].Bits; at < bits;)
            {
                at += RpcKey.Read(entry.High, entry.Low, at, out var number);
                open = Open(open, number, at);
            }
        }
        else
        {
            var id = IdOf(entry);
            var length = LengthOf(entry, isOfScope);
            for (var start = open < 0 ? 0 : _sites[open].Length + 1; start <= length;)
            {
                // At most 19 digits (RpcId.MaxSegmentDigits), so that the number fits.
                ulong number = 0;
                for (; start < length && id[start] != '.'; start++) number = (number * 10) + (ulong)(id[start] - '0');
                start++;
                open = Open(open, number, (open < 0 ? 0 : _sites[open].Bits) + RpcKey.BitsOf(number));
            }
        }

        return open;
    }

    static bool IsPrefix(ReadOnlySpan<char> above, string id) => id.StartsWith(above) && (id.Length == above.Length || id[above.Length] == '.');

    /// <summary>Goes one number down. Gives the site there.</summary>
    int Open(int aboveIndex, ulong number, int bits)
    {
        var index = _siteCount++;
        if (index == _sites.Length) Grow(ref _sites, Math.Max(16, index * 2), index);
        ref var site = ref _sites[index];
        site = default;
        site.Above = aboveIndex;
        site.First = index;
        (site.SpanStart, site.SpanEnd) = (long.MaxValue, long.MinValue);
        site.Bits = (ushort)(bits <= RpcKey.Bits ? bits : TooManyBits);
        var digits = number < 10 ? 1 : Digits(number);
        if (aboveIndex < 0)
        {
            site.Length = (ushort)digits;
            return index;
        }

        ref var above = ref _sites[aboveIndex];
        site.Length = (ushort)(above.Length + 1 + digits);
        site.Depth = (byte)(above.Depth + 1);
        var isForeign = number >= ChainBuilder.FirstForeignNumber;
        var isIrregular = Use(aboveIndex, ref above, number) || (isForeign && above.LastIsIrregular);
        site.IsIrregular = above.LastIsIrregular = isIrregular;
        if (!isIrregular || !isForeign) above.HasRegularChild = true;
        return index;
    }

    static int Digits(ulong number)
    {
        var digits = 1;
        for (; number >= 10; number /= 10) digits++;
        return digits;
    }

    /// <summary>Notes that a scope handed out a number, and what is missing before it. True when the number is out of line with the last one.</summary>
    bool Use(int index, ref Site scope, ulong number)
    {
        if (number != scope.LastUsed + 1) return UseOther(index, ref scope, number);
        scope.LastUsed = number;
        return false;
    }

    bool UseOther(int index, ref Site scope, ulong number)
    {
        var last = scope.LastUsed;
        if (number <= last)
        {
            scope.UsedZero |= number == 0;
            return false;
        }

        scope.LastUsed = number;
        if (number - last > ChainBuilder.LargestGap)
        {
            // Events at P.1 show that the scope itself is of the regular kind: the record that closes it is missing.
            if (scope.OnlyEventsAtOne && last == 0) _gaps.Add((index, 1, 1));
            return true;
        }

        if (number - last > 1) _gaps.Add((index, last + 1, number - 1));
        return false;
    }

    /// <summary>Gives the site above.</summary>
    int Leave(int open)
    {
        ref readonly var site = ref _sites[open];
        if (site.LastUsed == 0 && (site.OnlyEventsAtOne || (site.UsedZero && !_twins))) _gaps.Add((open, 1, 1));
        return site.Above;
    }

    // ---- ids that somebody cut ----

    /// <summary>
    /// Some systems cut long ids at a limit, so that all that is deeper falls on few ids of that one length, in wrong places. No id says that it was cut: the greatest length that
    /// several have may be such a limit.
    /// </summary>
    void FindCutLength()
    {
        var once = new HashSet<int>();
        for (int start = 0, end; start < _entryCount; start = end)
        {
            end = EndOfGroup(start);
            if (_entries[start].Length is >= ShortestLimit and var length && length > _cutLength && (!once.Add(length) || IsUsedAgain(start, end))) _cutLength = length;
        }
    }

    const int ShortestLimit = 64;

    /// <summary>Several calls or several handlings under one id, or a call and a handling that is not its own.</summary>
    bool IsUsedAgain(int start, int end)
    {
        int calls = 0, handlings = 0;
        for (var i = start; i < end; i++)
        {
            if (_entries[i].IsCall) calls++;
            else if (_entries[i].IsHandling) handlings++;
        }

        return calls > 1 || handlings > 1 || (!_twins && calls + handlings > 1);
    }

    void DoubtCutIds()
    {
        for (var i = 0; i < _siteCount; i++)
        {
            ref readonly var site = ref _sites[i];
            if ((site.OwnStart < site.OwnEnd && _entries[site.OwnStart].Length == _cutLength) || (site.CalleeStart < site.CalleeEnd && _entries[site.CalleeStart].Length == _cutLength)) Doubt(i);
        }
    }

    // ---- what the trace teaches about itself ----

    /// <summary>Where one call meets one request: are span ids carried from caller to callee, and which target is which service?</summary>
    void LearnPairs()
    {
        // A proxy that takes part in W3C tracing puts its own span between caller and callee, everywhere: then a difference proves nothing.
        var sites = _sites.AsSpan(0, _siteCount);
        foreach (ref readonly var site in sites)
        {
            if (site.Calls == 0 || site.Handlings == 0 || (long)site.Calls * site.Handlings > MaxPairs) continue;
            for (var entry = site.OwnStart + site.Calls; entry < site.OwnEnd; entry++) Count(site, _entries[entry]);
            for (var entry = site.CalleeStart; entry < site.CalleeEnd; entry++) Count(site, _entries[entry]);
        }

        _trustsSpans = _matchingPairs >= _differingPairs;
        foreach (ref readonly var site in sites)
        {
            if (site.Calls != 1 || site.Handlings != 1) continue;
            ref readonly var call = ref _entries[site.OwnStart];
            ref readonly var server = ref _entries[HandlingOf(site)];
            if (server.IsServer && !(_trustsSpans && HaveOtherSpans(call, server))) _names.Learn(call.Peer, server.Service);
        }

        void Count(in Site site, in ChainEntry handling)
        {
            if (!handling.IsHandling || _records[handling.Index].ParentSpan is not (not 0 and var parent)) return;
            var differs = false;
            for (var call = site.OwnStart; call < site.OwnStart + site.Calls; call++)
            {
                // No database makes a request of it: such a pair says that the id was used twice, not whether spans are handed on.
                var record = _records[_entries[call].Index];
                if (record.Span is not (not 0 and var span) || (span != parent && Executions.IsDatastore(record))) continue;
                if (span == parent)
                {
                    _matchingPairs++;
                    return;
                }

                differs = true;
            }

            if (differs && !IsBoundTo(site, parent: _records[handling.Index])) _differingPairs++;
        }
    }

    /// <summary>The request names a span that was made in the scope above with this very number: whatever stands between, the id was used for another call too.</summary>
    bool IsBoundTo(in Site site, IndexedRecord parent)
    {
        if (site.Above < 0 || site.Length == _cutLength || _sites[site.Above] is not { Calls: <= 1, Handlings: <= 1 } above) return false;
        return CauseOfCalls(above) is not 0 and var cause && BoundSpan.IsBound(Spans.ParentOf(parent), cause, Spans.NumberOf(IdOf(site)));
    }

    /// <summary>Of a site with at most one of each.</summary>
    ulong CauseOfCalls(in Site site) =>
        Spans.CauseOfCalls(site.Calls > 0 ? _records[_entries[site.OwnStart].Index] : null, site.Handlings > 0 ? _records[_entries[HandlingOf(site)].Index] : null);

    bool HaveOtherSpans(in ChainEntry call, in ChainEntry handling) =>
        _records[call.Index].Span is not 0 and var span && _records[handling.Index].ParentSpan is not 0 and var parent && span != parent;

    /// <summary>
    /// Whatever is written in one scope names its span: the record that closes it as its own, calls and branches as their parent's, events as their own. Where
    /// an id with one handling at most has two, it was used once more, and the records of that use are missing.
    /// </summary>
    void FindFurtherScopes()
    {
        var scopes = new ulong[_siteCount];
        for (var i = 0; i < _siteCount; i++)
            if (_sites[i].Handlings == 1) scopes[i] = _records[_entries[HandlingOf(_sites[i])].Index].Span;

        // Somebody else's spans may lie between a scope and what it calls, or around a log line: where most differ, a difference proves nothing.
        int calls = _matchingPairs - _differingPairs, events = 0;
        for (var i = 0; i < _siteCount; i++)
        {
            ref readonly var site = ref _sites[i];
            if (site.Above < 0 || scopes[site.Above] is not (not 0 and var scope)) continue;
            for (var entry = site.OwnStart; entry < site.OwnEnd; entry++)
            {
                if (ScopeOf(_entries[entry]) is not (not 0 and var own)) continue;
                if (_entries[entry].IsEvent) events += own == scope ? 1 : -1;
                else calls += own == scope ? 1 : -1;
            }
        }

        for (var i = 0; i < _siteCount; i++)
        {
            ref readonly var site = ref _sites[i];
            if (site.Above < 0) continue;
            ref var above = ref _sites[site.Above];
            if (above.Handlings > 1) continue;

            // A database makes no calls.
            if (above.Calls == 1 && above.Handlings == 0 && Executions.IsDatastore(_records[_entries[above.OwnStart].Index])) above.HasFurtherScope = true;
            for (var entry = site.OwnStart; entry < site.OwnEnd; entry++) Note(site.Above, _entries[entry]);
            for (var entry = site.CalleeStart; entry < site.CalleeEnd; entry++)
                if (_entries[entry].IsHandling) Note(site.Above, _entries[entry]);
        }

        FindUnboundSpans();

        void Note(int parent, in ChainEntry entry)
        {
            ref var above = ref _sites[parent];
            if (above is { Calls: 1, Handlings: 0 } && IsCausedElsewhere(_entries[above.OwnStart], entry)) above.HasFurtherScope = true;
            if ((entry.IsEvent ? events : calls) < 0 || ScopeOf(entry) is not (not 0 and var own)) return;
            ref var scope = ref scopes[parent];
            if (scope == 0) scope = own;
            else if (scope != own) above.HasFurtherScope = true;
            if (above is { Calls: 1, Handlings: 0 } && IsElsewhere(_entries[above.OwnStart], entry.Service)) above.IsUnclearBelow = _hasUnclear = true;
        }
    }

    /// <summary>
    /// A span that is bound tells where it was made though the call's record is lost that it was made for, or the record that closes the scope: where that was not in what is left of the
    /// id above, that id was used once more.
    /// </summary>
    void FindUnboundSpans()
    {
        for (var i = 0; i < _siteCount; i++)
        {
            ref readonly var site = ref _sites[i];
            if (site.Above < 0 || site.IsIrregular || site.Length == _cutLength || site.Calls + site.Handlings == 0) continue;
            ref var above = ref _sites[site.Above];
            if (above.HasFurtherScope || above.Calls > 1 || above.Handlings > 1 || above.Calls + above.Handlings == 0 || (site.Calls > 0 && above.Handlings > 0)) continue;
            var record = _records[_entries[site.Calls > 0 ? site.OwnStart : HandlingOf(site)].Index];
            if (site.Calls == 0 && record.Kind != RecordKind.Server) continue;
            if (!AreSpansBound()) return;
            var span = site.Calls > 0 ? Spans.Of(record) : Spans.ParentOf(record);
            if (span != 0 && CauseOfCalls(above) is not 0 and var cause && !BoundSpan.IsBound(span, cause, Spans.NumberOf(IdOf(site)))) above.HasFurtherScope = true;
        }
    }

    /// <summary>Id of a site that has entries.</summary>
    ReadOnlySpan<char> IdOf(in Site site) => IdOf(_entries[site.OwnStart < site.OwnEnd ? site.OwnStart : site.CalleeStart]).AsSpan(0, site.Length);

    /// <summary>Every record of handling that has a span shows that it is bound: then a span that is not was made elsewhere.</summary>
    bool AreSpansBound()
    {
        if (_areSpansBound is { } known) return known;
        var areSome = false;
        if (_trustsSpans && (_any & ChainFacts.HasParentSpan) != 0)
        {
            foreach (ref readonly var entry in _entries.AsSpan(0, _entryCount))
            {
                if (!entry.IsHandling || _records[entry.Index] is not { Span: not 0 } handling) continue;
                if (areSome = Spans.ShowsBond(handling)) continue;
                break;
            }
        }

        _areSpansBound = areSome;
        return areSome;
    }

    /// <summary>A log line of a scope whose own span is bound to another call's.</summary>
    bool IsCausedElsewhere(in ChainEntry call, in ChainEntry line)
    {
        if (!line.IsEvent || _records[call.Index].Span is not (not 0 and var span)) return false;
        var record = _records[line.Index];
        return record.ParentSpan != 0 && record.ParentSpan != span && BoundSpan.IsBound(Spans.Of(record), Spans.ParentOf(record), 0);
    }

    /// <summary>The call was to another service than <paramref name="service"/>, as far as its target is known. Names may be wrong: that makes it doubtful who called, no more.</summary>
    bool IsElsewhere(in ChainEntry call, int service)
    {
        var called = _records[call.Index].CalleeService is { } stated ? _names.Of(stated) : _names.ServiceOf(call.Peer);
        return called != 0 && service != 0 && called != service;
    }

    /// <summary>Span of the scope that a record on the caller's side was written in, 0 where it does not say: of a request that is the caller's secret.</summary>
    ulong ScopeOf(in ChainEntry entry)
    {
        if (entry.IsServer) return 0;
        var record = _records[entry.Index];
        return entry.IsEvent ? record.Span : record.ParentSpan;
    }

    /// <summary>The entry of the only handling. An id's entries stand by what they are, calls first.</summary>
    int HandlingOf(in Site site) => site.OwnStart + site.Calls < site.OwnEnd && _entries[site.OwnStart + site.Calls].IsHandling ? site.OwnStart + site.Calls : site.CalleeStart;

    /// <summary>Records without an id are events on the node with their span id, else on the top.</summary>
    void PlaceLoose()
    {
        var sites = new Dictionary<ulong, int>();
        foreach (var wanted in (ReadOnlySpan<ulong>)[ChainFacts.IsHandling, ChainFacts.IsCall, ChainFacts.IsEvent])
            for (var site = 0; site < _siteCount; site++)
                foreach (var (start, end) in (ReadOnlySpan<(int, int)>)[(_sites[site].OwnStart, _sites[site].OwnEnd), (_sites[site].CalleeStart, _sites[site].CalleeEnd)])
                    for (var i = start; i < end; i++)
                        if ((_entries[i].Facts & wanted) != 0 && _records[_entries[i].Index].Span is not 0 and var span) sites.TryAdd(span, site);

        _looseBySite = [];
        foreach (var record in _loose)
        {
            var site = record.Span != 0 && sites.TryGetValue(record.Span, out var found) ? found : 0;
            if (!_looseBySite.TryGetValue(site, out var list)) _looseBySite.Add(site, list = []);
            list.Add(record);
        }
    }

    // ---- nodes ----

    void AddNodes()
    {
        Grow(ref _nodes, _siteCount);
        _nodeCount = _siteCount;
        for (var index = 0; index < _siteCount; index++)
        {
            ref readonly var site = ref _sites[index];
            var isSimple = site.Calls <= 1 && site.Handlings <= 1 && (_nodeCount == _siteCount || site.Above < 0 || _sites[site.Above].Next == 0) && !NeedsSplit(site);
            if (isSimple) AddOne(index);
            else Split(index);
            if (_hasFurtherScopes && _sites[index] is { HasFurtherScope: true, Next: 0 }) UnknownExecution(index);
            if (_hasUnclear && site.Above >= 0 && _sites[site.Above].IsUnclearBelow) Doubt(index);
        }
    }

    void Doubt(int index)
    {
        for (var node = index; ; node = _sites[node].Next)
        {
            _nodes[node].Facts |= NodeFacts.Ambiguous;
            if (_sites[node].Next == 0) break;
        }

        CountAmbiguous(index);
    }

    void CountAmbiguous(int site)
    {
        ref var isAmbiguous = ref _sites[site].IsAmbiguous;
        if (!isAmbiguous) _ambiguous++;
        isAmbiguous = true;
    }

    List<IndexedRecord> LooseOf(int site) => _looseBySite is not null && _looseBySite.TryGetValue(site, out var loose) ? loose : s_none;

    /// <summary>One call and one request that do not belong together, as far as their records tell.</summary>
    bool NeedsSplit(in Site site)
    {
        if (site.Calls == 0 || site.Handlings == 0) return false;
        ref readonly var server = ref _entries[HandlingOf(site)];
        return !server.IsServer || !Executions.CanBelongTogether(_records[_entries[site.OwnStart].Index], _records[server.Index], _names, _trustsSpans);
    }

    /// <summary>A node with nothing on it.</summary>
    static void Begin(ref Node node, in Site site, int parent, int execution)
    {
        node = default;
        node.IdRecord = -1;
        node.Parent = parent;
        node.Execution = execution;
        node.IdLength = site.Length;
        node.Depth = site.Depth;
        if (site.IsIrregular) node.Facts = NodeFacts.Irregular;
    }

    /// <summary>At most one call and one record of its handling: no question of executions.</summary>
    void AddOne(int index)
    {
        ref var site = ref _sites[index];
        ref var node = ref _nodes[index];
        Begin(ref node, site, site.Above, execution: 0);
        var count = site.EntryCount;
        if (count == 1 && site.Calls == 1 && _copies is null && _looseBySite is null)
        {
            // The commonest of all.
            ref readonly var only = ref _entries[site.OwnStart];
            Reserve(1);
            node.First = node.IdRecord = Here;
            node.Calls = 1;
            PlaceOne(_records[only.Index], only.Service);
            (site.SpanStart, site.SpanEnd) = (only.Start, only.End);
            node.CalleeService = TakeCall(ref node, only);
            return;
        }

        var loose = LooseOf(index);
        var (call, handling) = (site.Calls > 0 ? site.OwnStart : -1, site.Handlings > 0 ? HandlingOf(site) : -1);
        var copies = _copies is null ? 0 : (call < 0 ? 0 : CopiesOf(_records[_entries[call].Index]).Count) + (handling < 0 ? 0 : CopiesOf(_records[_entries[handling].Index]).Count);
        Reserve(count + loose.Count + copies);
        node.First = Here;
        if (count > 0) node.IdRecord = Here;
        int called = 0, eventService = 0;
        if (call >= 0)
        {
            node.Calls = Place(_entries[call], ref site);
            called = TakeCall(ref node, _entries[call]);
        }

        if (handling >= 0)
        {
            ref readonly var entry = ref _entries[handling];
            node.Handlings = Place(entry, ref site);
            TakeHandling(ref node, ref site, entry.Service, entry.Start, entry.Duration, entry.Facts, _records[entry.Index]);
            if (call < 0 && entry.IsServer && node.Parent >= 0 && (node.Facts & NodeFacts.Irregular) == 0) node.Facts |= NodeFacts.CalleeOnly;
        }

        for (var i = site.OwnStart; i < site.OwnEnd; i++)
            if (_entries[i].IsEvent) node.Events += PlaceEvent(_entries[i], ref site, ref node.CallerService);
        for (var i = site.CalleeStart; i < site.CalleeEnd; i++)
            if (_entries[i].IsEvent) node.Events += PlaceEvent(_entries[i], ref site, ref eventService);
        foreach (var record in loose) node.Events += PlaceLoose(record, ref site, node.CallerService, ref eventService);
        Close(ref node, called, eventService);
    }

    /// <summary>Gives the service that was called, as far as the call can tell.</summary>
    int TakeCall(ref Node node, in ChainEntry call)
    {
        node.CallerService = call.Service;
        node.Target = call.Peer;
        (node.StartMicros, node.Duration) = (call.Start, call.Duration);
        if (call.IsError) node.Facts |= NodeFacts.Error;
        var called = _names.ServiceOf(call.Peer);
        return (call.Facts & (ChainFacts.NamesPartner | ChainFacts.HasClientName)) == 0 ? called : CalledBy(_records[call.Index], called);
    }

    int CalledBy(IndexedRecord call, int learnt)
    {
        if (call.CalleeService is { } service) return _names.Of(service);
        return learnt != 0 || (call.Facts & ChainFacts.HasClientName) == 0 ? learnt : _names.Of(ClientName(call));
    }

    /// <summary>
    /// The name that the caller's code gave its client for a service, where nothing better is known of who answers. Good enough to show;
    /// executions are never told apart by it.
    /// </summary>
    static string? ClientName(IndexedRecord call) =>
        call.Record.InstanceName is { Length: > 0 } client && !client.Equals("default", StringComparison.OrdinalIgnoreCase) ? client : null;

    void TakeHandling(ref Node node, ref Site site, int service, long start, long duration, ulong facts, IndexedRecord record)
    {
        node.CalleeService = service;
        if ((facts & ChainFacts.NamesPartner) != 0) site.StatedCaller = _names.Of(record.CallerService);
        if ((facts & ChainFacts.IsError) != 0) node.Facts |= NodeFacts.Error;
        if ((facts & ChainFacts.IsServer) == 0) node.Facts |= NodeFacts.Fork;
        if (node.Calls == 0) (node.StartMicros, node.Duration) = (start, duration);
    }

    /// <summary>All records are placed: who was called is said by the handling, else by events in its scope, else by the call. What is below may know better than the last two.</summary>
    void Close(ref Node node, int called, int eventService)
    {
        if (node.CalleeService == 0) node.CalleeService = eventService;

        // A branch runs in the service that made it.
        if ((node.Facts & NodeFacts.Fork) != 0 && node.CallerService == 0) node.CallerService = node.CalleeService;
        if (node.CalleeService == 0) node.CalleeService = called;
        _hasBare |= node.Calls + node.Handlings == 0;
    }

    // ---- placing records ----

    int Here => _pagePlace + _pageUsed;

    IndexedRecord[] PageOf(int place) => place >> ChainNodes.RecordPageBits is var page && page < _filledPages.Count ? _filledPages[page] : _page;

    IndexedRecord RecordAt(int place) => PageOf(place)[place & (ChainNodes.RecordPageSize - 1)];

    /// <summary>Makes sure that so many records get places side by side.</summary>
    void Reserve(int count)
    {
        if (_pageUsed + count > _page.Length) BeginPage(count);
    }

    void BeginPage(int count)
    {
        if (_pageUsed > 0) _filledPages.Add(_page);
        _placedCount += _pageUsed;
        _page = new IndexedRecord[Math.Max(count, Math.Min(ChainNodes.RecordPageSize, _records.Length - _placedCount))];
        _pagePlace = ChainNodes.Place(_filledPages.Count, 0);
        _pageUsed = 0;
    }

    /// <summary>Places a record and the copies of it. Gives how many they are.</summary>
    int Place(in ChainEntry entry, ref Site site)
    {
        var record = _records[entry.Index];
        site.Span(entry.Start, entry.End);
        PlaceOne(record, entry.Service);
        if (_copies is null) return 1;
        foreach (var copy in CopiesOf(record)) PlaceCopy(copy, ref site);
        return 1 + CopiesOf(record).Count;
    }

    List<IndexedRecord> CopiesOf(IndexedRecord record) => _copies is not null && _copies.TryGetValue(record, out var copies) ? copies : s_none;

    void PlaceCopy(IndexedRecord copy, ref Site site)
    {
        site.Span(copy.StartMicros, copy.EndMicros);
        PlaceOne(copy, _names.Of(copy.Service, copy.ServiceHash));
    }

    void PlaceOne(IndexedRecord record, int service)
    {
        _page[_pageUsed++] = record;
        if (service != _lastService) List(service);
    }

    int PlaceEvent(in ChainEntry entry, ref Site site, ref int side)
    {
        PlaceOne(_records[entry.Index], entry.Service);
        site.Span(entry.Start, entry.Start);
        if (side == 0) side = entry.Service;
        return 1;
    }

    int PlaceEvent(IndexedRecord record, ref Site site, ref int side)
    {
        var service = _names.Of(record.Service, record.ServiceHash);
        PlaceOne(record, service);
        site.Span(record.StartMicros, record.EndMicros);
        if (side == 0) side = service;
        return 1;
    }

    /// <summary>A record that only a span brought here may be of either side. What its caller writes does not say who was called.</summary>
    int PlaceLoose(IndexedRecord record, ref Site site, int caller, ref int eventService)
    {
        var side = eventService;
        var count = PlaceEvent(record, ref site, ref side);
        if (side != caller) eventService = side;
        return count;
    }

    void List(int service)
    {
        _lastService = service;
        if (_names.Mark(service)) _services.Add(service);
    }

    // ---- several executions ----

    void Split(int index)
    {
        var site = _sites[index];
        var parent = site.Above;

        // Log lines tell which of several scopes they were written in; not that what was called under their number was called there.
        if (site is { Calls: 0, Handlings: 0, EntryCount: > 0 }) _hasUnclear = _sites[index].IsUnclearBelow = true;
        var number = parent >= 0 && site.EntryCount > 0 && !site.IsIrregular && site.Length != _cutLength && AreSpansBound() ? Spans.NumberOf(IdOf(site)) : 0;
        var executions = new Executions(_names, _trustsSpans, ParentsOf(parent), () => UnknownExecution(parent), number, isLeaf: index + 1 == _siteCount || _sites[index + 1].Above != index);
        for (var i = site.OwnStart; i < site.OwnEnd; i++) executions.Add(_records[_entries[i].Index], isInScope: false);
        for (var i = site.CalleeStart; i < site.CalleeEnd; i++) executions.Add(_records[_entries[i].Index], isInScope: true);
        foreach (var record in LooseOf(index)) executions.Add(record, isInScope: true);

        var last = -1;
        var idRecord = -1;
        foreach (var execution in executions.Split())
        {
            if (last >= 0) last = AddExecution(last);
            else Begin(ref _nodes[last = index], site, parent, execution: 0);
            ref var node = ref _nodes[last];
            node.Parent = execution.Parent?.Index ?? -1;
            Fill(ref node, ref _sites[last], execution);
            if (execution.IsAmbiguous)
            {
                node.Facts |= NodeFacts.Ambiguous;
                CountAmbiguous(index);
            }

            // Any record that has an id shows this one's, whichever execution it is in.
            for (var i = 0; i < node.Calls + node.Handlings + node.Events && idRecord < 0; i++)
                if (RecordAt(node.First + i).RpcIdText is not null) idRecord = node.First + i;
        }

        _nodes[index].IdRecord = idRecord;
    }

    /// <summary>One more execution of an id, behind the last one so far; its parent is that one's until it is known better.</summary>
    int AddExecution(int last)
    {
        if (_nodeCount >= _sites.Length) Grow(ref _sites, _nodeCount * 2, _nodeCount);
        if (_nodeCount >= _nodes.Length) Grow(ref _nodes, _nodeCount * 2, _nodeCount);
        ref readonly var first = ref _sites[_sites[last].First];
        ref var site = ref _sites[_nodeCount];
        site = default;
        (site.Above, site.First) = (first.Above, first.First);
        (site.SpanStart, site.SpanEnd) = (long.MaxValue, long.MinValue);
        Begin(ref _nodes[_nodeCount], first, _nodes[first.First].Parent, _nodes[last].Execution + 1);
        return _sites[last].Next = _nodeCount++;
    }

    void Fill(ref Node node, ref Site site, Executions.Execution execution)
    {
        var count = execution.Events.Count;
        foreach (var record in execution.Calls) count += 1 + CopiesOf(record).Count;
        foreach (var record in execution.Handlings) count += 1 + CopiesOf(record).Count;
        Reserve(count);
        node.First = Here;
        int called = 0, eventService = 0;
        IndexedRecord? call = null;
        foreach (var record in execution.Calls)
        {
            if (call is null || (RecordNames.IsConnect(call.Record.Name) && !RecordNames.IsConnect(record.Record.Name)))
            {
                call = record;
                node.Shown = node.Calls;
            }

            node.Calls += Place(record, ref node, ref site);
        }

        if (call is not null)
        {
            node.CallerService = _names.Of(call.Service, call.ServiceHash);
            node.Target = _names.Of(call.Peer, call.PeerHash);
            called = CalledBy(call, _names.ServiceOf(node.Target));
            (node.StartMicros, node.Duration) = (call.StartMicros, call.RawDuration);
        }

        foreach (var record in execution.Handlings) node.Handlings += Place(record, ref node, ref site);
        if (execution.Handlings is [var handling, ..])
        {
            TakeHandling(ref node, ref site, _names.Of(handling.Service, handling.ServiceHash), handling.StartMicros, handling.RawDuration, handling.Facts, handling);
            if (call is null && handling.Kind == RecordKind.Server && !execution.IsSecondHandling && site.Above >= 0 && (node.Facts & NodeFacts.Irregular) == 0)
                node.Facts |= NodeFacts.CalleeOnly;
        }

        foreach (var record in execution.Events)
        {
            if (record.RpcIdText is { } id) node.Events += PlaceEvent(record, ref site, ref id.Length > node.IdLength ? ref eventService : ref node.CallerService);
            else node.Events += PlaceLoose(record, ref site, node.CallerService, ref eventService);
        }

        Close(ref node, called, eventService);
    }

    int Place(IndexedRecord record, ref Node node, ref Site site)
    {
        if (record.IsError) node.Facts |= NodeFacts.Error;
        site.Span(record.StartMicros, record.EndMicros);
        PlaceOne(record, _names.Of(record.Service, record.ServiceHash));
        foreach (var copy in CopiesOf(record)) PlaceCopy(copy, ref site);
        return 1 + CopiesOf(record).Count;
    }

    ParentExecutions ParentsOf(int parent)
    {
        if (parent < 0) return new ParentExecutions([], _names);
        var site = _sites[parent].First;
        if (_parents.TryGetValue(site, out var parents)) return parents;
        var nodes = new List<ParentNode>();
        for (var node = site; ; node = _sites[node].Next)
        {
            nodes.Add(_unknown.TryGetValue(node, out var unknown) ? unknown : Described(node));
            if (_sites[node].Next == 0) break;
        }

        parents = new ParentExecutions(nodes, _names);
        _parents.Add(site, parents);
        return parents;
    }

    ParentNode Described(int index)
    {
        ref readonly var node = ref _nodes[index];
        var (page, first) = (PageOf(node.First), node.First & (ChainNodes.RecordPageSize - 1));
        return new ParentNode
        {
            Index = index,
            Execution = node.Execution,
            Caller = node.Calls == 0 ? null : page[first + node.Shown],
            CalleeRecords = node.Handlings == 0 ? ArraySegment<IndexedRecord>.Empty : new ArraySegment<IndexedRecord>(page, first + node.Calls, node.Handlings),
            IsUnknownExecution = false,
        };
    }

    /// <summary>The execution of a call that none of its records belongs to, known from below; one for each id at most.</summary>
    ParentNode UnknownExecution(int parent)
    {
        var site = _sites[parent].First;
        var last = site;
        while (_sites[last].Next != 0) last = _sites[last].Next;
        if (_unknown.TryGetValue(last, out var unknown)) return unknown;
        _parents.Remove(site); // for those that come later there is one more
        var index = AddExecution(last);
        ref var node = ref _nodes[index];
        node.Facts |= NodeFacts.UnknownExecution | NodeFacts.Ambiguous;
        CountAmbiguous(site);
        _hasBare = true;
        unknown = new ParentNode { Index = index, Execution = node.Execution, IsUnknownExecution = true, CalleeRecords = ArraySegment<IndexedRecord>.Empty };
        _unknown.Add(index, unknown);
        return unknown;
    }

    // ---- spans, names, counts ----

    CallChain Finish(string traceId)
    {
        var order = _nodeCount > _siteCount ? Order() : null;
        HandUp(order);
        if (_hasBare) NameLost(order);
        var sampled = (_any & ChainFacts.IsSampled) != 0 ? FindSampled() : null;
        int placeholders = 0, calleeOnly = 0, foreign = 0, irregular = 0, depth = 0;
        for (var i = 0; i < _nodeCount; i++)
        {
            var index = order is null ? i : order[i];
            ref var node = ref _nodes[index];
            ref readonly var site = ref _sites[index];
            Name(ref node, site);
            if (sampled is not null && sampled[site.Above >= 0 ? site.Above : site.First] == Scope.Sampled) node.Facts |= NodeFacts.Sampled;
            if (node.IsPlaceholder)
            {
                if (!_sites[site.First].HasRegularChild)
                {
                    node.Facts |= NodeFacts.Foreign;
                    foreign++;
                }
                else if ((node.Facts & NodeFacts.Sampled) == 0)
                {
                    placeholders++;
                }
            }

            if (node.Facts != 0)
            {
                if ((node.Facts & (NodeFacts.CalleeOnly | NodeFacts.Sampled)) == NodeFacts.CalleeOnly) calleeOnly++;
                if ((node.Facts & NodeFacts.Irregular) != 0) irregular++;
            }

            if (node.Depth > depth) depth = node.Depth;
        }

        var places = order is null ? null : Inverse(order);
        var nodes = Show(order, places);
        var (gaps, gapCount) = Gaps(nodes, places, sampled);
        var hasNodes = _nodeCount > 0;
        return new CallChain
        {
            TraceId = traceId,
            Nodes = nodes,
            Gaps = gaps,
            IsTwins = _twins,
            HasExecutions = order is not null,
            RecordCount = _records.Length,
            DuplicateCount = _duplicates,
            PlaceholderCount = placeholders,
            GapCount = gapCount,
            CalleeOnlyCount = calleeOnly,
            AmbiguousCount = _ambiguous,
            IrregularCount = irregular,
            ForeignCount = foreign,
            ErrorCount = _errors,
            AlarmCount = _alarms,
            Depth = depth,
            Debug = (_any & ChainFacts.IsDebug) != 0,
            Sampled = (_any & ChainFacts.IsSampled) != 0,
            Uid = (_any & ChainFacts.HasUid) != 0 ? FirstUid() : null,
            StartMicros = hasNodes ? _start : 0,
            DurationMicros = hasNodes ? Between(_start, _end) : 0,
            LastRecordMicros = hasNodes ? _newest : 0,
        };
    }

    /// <summary>The nodes in id order, each id's executions one after the other.</summary>
    int[] Order()
    {
        var order = new int[_nodeCount];
        var count = 0;
        for (var site = 0; site < _siteCount; site++)
        {
            order[count++] = site;
            for (var next = _sites[site].Next; next != 0; next = _sites[next].Next) order[count++] = next;
        }

        return order;
    }

    static int[] Inverse(int[] order)
    {
        var places = new int[order.Length];
        for (var i = 0; i < order.Length; i++) places[order[i]] = i;
        return places;
    }

    /// <summary>Children stand after their parents: backwards, what is known below is handed up.</summary>
    void HandUp(int[]? order)
    {
        for (var i = _nodeCount - 1; i >= 0; i--)
        {
            var index = order is null ? i : order[i];
            ref readonly var node = ref _nodes[index];
            if (node.Parent < 0) continue;
            ref var parent = ref _nodes[node.Parent];

            // What calls from a scope is what handled the call; the first child that says so wins, being handed up last.
            if (node.CallerService != 0 && parent.Handlings == 0) parent.CalleeService = node.CallerService;
            if (!_hasBare) continue;
            ref readonly var site = ref _sites[index];
            ref var above = ref _sites[node.Parent];
            above.Span(site.SpanStart, site.SpanEnd);
            ref var idRecord = ref _nodes[above.First].IdRecord;
            if (idRecord < 0) idRecord = _nodes[site.First].IdRecord;
        }
    }

    /// <summary>Names what no call below it names, as far as the trace or earlier ones tell.</summary>
    void NameLost(int[]? order)
    {
        NameByAddress();
        if (_known?.Habits is not { IsEmpty: false } habits) return;
        for (var i = 0; i < _nodeCount; i++)
        {
            if (!_nodes[i].IsPlaceholder || !IsNameless(i)) continue;
            NameByHabit(habits, order);
            return;
        }
    }

    /// <summary>
    /// Who handled a call of which nothing but requests below it is left: their records hold the address that they came from, and other records of the trace,
    /// or earlier traces, tell who is at home there. Said only where that is one service alone: behind a proxy or on a shared host an address tells nothing.
    /// </summary>
    void NameByAddress()
    {
        for (var i = 0; i < _nodeCount; i++)
            if (_nodes[i] is { Calls: 0, Handlings: > 0, Parent: >= 0 and var parent } && IsNameless(parent) && ClientOf(_nodes[i]) is not 0 and var client) _hosts.TryAdd(client, 0);
        if (_hosts.Count == 0) return;
        foreach (ref readonly var entry in _entries.AsSpan(0, _entryCount)) Meet(HostAddress.KeyOf(_records[entry.Index].Record.Utf8(RecordField.ServerIp)), entry.Service);
        for (var i = 0; i < _nodeCount; i++)
            if (_nodes[i] is { Calls: > 0, Handlings: > 0 }) Meet(ClientOf(_nodes[i]), _nodes[i].CallerService);
        for (var i = 0; i < _nodeCount; i++)
        {
            ref readonly var node = ref _nodes[i];
            if (node is not { Calls: 0, Handlings: > 0, Parent: >= 0 } || !IsNameless(node.Parent) || ClientOf(node) is not (not 0 and var client)) continue;
            var service = _hosts[client];
            if (service == 0 && _known?.ServiceAt(client) is { } known) service = _names.Of(known);
            if (service > 0) _lostNames.Add((node.Parent, service));
        }

        foreach (var (node, service) in _lostNames)
        {
            ref var name = ref _nodes[node].CalleeService;
            name = name == 0 || name == service ? service : SeveralServices;
        }

        foreach (var (node, _) in _lostNames)
            if (_nodes[node].CalleeService < 0) _nodes[node].CalleeService = 0;
        _lostNames.Clear();
        _hosts.Clear();

        void Meet(ulong address, int service)
        {
            if (address == 0 || service == 0) return;
            ref var known = ref CollectionsMarshal.GetValueRefOrNullRef(_hosts, address);
            if (!Unsafe.IsNullRef(ref known)) known = known == 0 || known == service ? service : SeveralServices;
        }
    }

    /// <summary>Whom calls went to by what was called from the same places in earlier traces, above and below.</summary>
    void NameByHabit(Habits habits, int[]? order)
    {
        // Placeholders, what stands above them up to a record of handling, and what stands right below.
        var unsure = new HashSet<int>();
        for (var i = 0; i < _nodeCount; i++)
            if (_nodes[i].IsPlaceholder)
                for (var above = i; above >= 0 && _nodes[above].Handlings == 0 && unsure.Add(above);) above = _nodes[above].Parent;
        var (places, calls, nodes) = (new Dictionary<int, int>(), new List<UnsureCall>(), new List<int>());
        for (var i = 0; i < _nodeCount && calls.Count < MaxUnsure; i++)
        {
            var index = order is null ? i : order[i];
            ref readonly var node = ref _nodes[index];
            if (!unsure.Contains(index) && !unsure.Contains(node.Parent)) continue;
            places.Add(index, calls.Count);
            nodes.Add(index);
            calls.Add(new UnsureCall(
                places.GetValueOrDefault(node.Parent, -1), node.Parent < 0 ? Habits.Outside : KindOf(_nodes[node.Parent]), node.Parent < 0 ? 0 : NumberOf(index), KindOf(node), _names[node.CalleeService]));
        }

        var services = habits.Guess(calls);
        for (var i = 0; i < nodes.Count; i++)
            if (services[i] is { } service && IsNameless(nodes[i])) _nodes[nodes[i]].CalleeService = _names.Of(service);

        int KindOf(in Node node) => node.Handlings == 0 ? Habits.Unknown : habits.KindOf(RecordAt(node.First + node.Calls));
    }

    /// <summary>More are not gone through for their names.</summary>
    const int MaxUnsure = 1_000;

    ulong NumberOf(int node)
    {
        return Spans.NumberOf(RecordAt(_nodes[_sites[node].First].IdRecord).RpcIdText.AsSpan(0, _nodes[node].IdLength));
    }

    const int SeveralServices = -1;

    /// <summary>Without a record that could name it. What stands for a service without LogTrace gets no name.</summary>
    bool IsNameless(int node) => _nodes[node].Calls + _nodes[node].Handlings == 0 && _nodes[node].CalleeService == 0 && _sites[_sites[node].First].HasRegularChild;

    /// <summary>Where the request came from that a node shows; 0 where it does not say.</summary>
    ulong ClientOf(in Node node) => HostAddress.KeyOf(RecordAt(node.First + node.Calls).Record.Utf8(RecordField.ClientIp));

    /// <summary>In id order, so that what is above is known.</summary>
    void Name(ref Node node, in Site site)
    {
        if (node.CallerService == 0) node.CallerService = site.StatedCaller != 0 || node.Parent < 0 ? site.StatedCaller : _nodes[node.Parent].Target;
        if (node.CalleeService == 0 && (node.Facts & NodeFacts.Fork) != 0) node.CalleeService = node.CallerService;
        if (node.CalleeService != 0) node.Target = node.CalleeService;
        else if (node.Target == 0 && node.Calls > 0) node.Target = _names.Of(ChainNode.ResourceOf(RecordAt(node.First + node.Shown)));
        if (node.Calls + node.Handlings == 0) (node.StartMicros, node.Duration) = (site.SpanStart, Between(site.SpanStart, site.SpanEnd));
    }

    /// <summary>The nodes as the chain keeps them.</summary>
    ChainNodes Show(int[]? order, int[]? places)
    {
        var page = PageFrom(0);
        var furtherPages = _nodeCount > ChainNodes.PageSize ? new Node[(_nodeCount - 1) >> ChainNodes.PageBits][] : null;
        for (var i = 0; i < furtherPages?.Length; i++) furtherPages[i] = PageFrom((i + 1) << ChainNodes.PageBits);
        _filledPages.Add(_page);
        var furtherRecords = _filledPages.Count > 1 ? _filledPages.GetRange(1, _filledPages.Count - 1).ToArray() : null;
        return new ChainNodes(_nodeCount, page, furtherPages, _filledPages[0], furtherRecords, _names.ToArray(_services), _services.Count);

        Node[] PageFrom(int first)
        {
            var shown = GC.AllocateUninitializedArray<Node>(Math.Min(ChainNodes.PageSize, _nodeCount - first));
            if (order is null || places is null)
            {
                _nodes.AsSpan(first, shown.Length).CopyTo(shown);
                return shown;
            }

            // Where nodes stand in another order, their places have changed.
            for (var i = 0; i < shown.Length; i++)
            {
                ref var node = ref shown[i];
                node = _nodes[order[first + i]];
                node.IdRecord = _nodes[_sites[order[first + i]].First].IdRecord;
                if (node.Parent >= 0) node.Parent = places[node.Parent];
            }

            return shown;
        }
    }

    /// <summary>Absurd clocks may lie further apart than a number can say.</summary>
    static long Between(long start, long end) => unchecked(end - start) is >= 0 and var micros ? micros : long.MaxValue;

    (ChainGap[] Gaps, long Count) Gaps(ChainNodes nodes, int[]? places, Scope[]? sampled)
    {
        if (_gaps.Count == 0) return ([], 0);
        var gaps = new List<ChainGap>(_gaps.Count);
        long count = 0;
        foreach (var (site, from, to) in _gaps)
        {
            if (sampled is not null && sampled[site] == Scope.Sampled) continue;
            ref var scope = ref nodes.At(places is null ? site : places[site]);

            // The top counts once: the placeholder is the missing request.info.
            var first = from == 1 && scope.Parent < 0 && scope.IsPlaceholder ? 2 : from;
            if (first > to) continue;
            var gap = new ChainGap(nodes[places is null ? site : places[site]], first, to);
            gaps.Add(gap);
            if (first == 1 && !_twins && scope.Calls > 0 && scope.Handlings == 0) scope.Facts |= NodeFacts.CalleeMissing;
            count += gap.Count;
            scope.GapCount = (uint)Math.Min(scope.GapCount + gap.Count, uint.MaxValue);
        }

        return ([.. gaps], count);
    }

    string? FirstUid()
    {
        foreach (var page in _filledPages)
            foreach (var record in page)
                if (record is { HasUid: true }) return record.Record.Uid;
        return null;
    }

    // ---- sampling ----

    /// <summary>
    /// Which scopes leave records out on purpose. A scope with records says so itself; one without any is taken to do as the scopes
    /// below it do, else as the one above, since the decision travels with the context.
    /// </summary>
    Scope[] FindSampled()
    {
        var scopes = new Scope[_siteCount];
        for (var i = 0; i < _siteCount; i++)
        {
            ref readonly var site = ref _sites[i];
            for (var entry = site.OwnStart; entry < site.OwnEnd; entry++) Note(_entries[entry].IsHandling || site.Above < 0 ? i : site.Above, _entries[entry]);
            for (var entry = site.CalleeStart; entry < site.CalleeEnd; entry++) Note(i, _entries[entry]);
        }

        var own = (Scope[])scopes.Clone();
        for (var i = _siteCount - 1; i > 0; i--)
            if (_sites[i].Above is >= 0 and var above && own[above] == Scope.Unknown && scopes[i] == Scope.Sampled) scopes[above] = Scope.Sampled;
        for (var i = 0; i < _siteCount; i++)
            if (scopes[i] == Scope.Unknown && _sites[i].Above is >= 0 and var above) scopes[i] = scopes[above];
        return scopes;

        void Note(int scope, in ChainEntry entry)
        {
            if ((entry.Facts & ChainFacts.IsSampled) != 0) scopes[scope] = Scope.Sampled;
            else if (scopes[scope] == Scope.Unknown) scopes[scope] = Scope.Whole;
        }
    }
}
