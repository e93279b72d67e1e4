using System.Runtime.InteropServices;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>What many chains say about a node of one.</summary>
public enum HopLabel
{
    /// <summary>A placeholder where hardly any chain has a record: no logger there, rather than a loss.</summary>
    NeverRecorded = 1,

    /// <summary>A call without records of its callee where nearly every chain has them: likely loss that no id shows, such as a lost leaf.</summary>
    CalleeMissing = 2,
}

/// <summary>
/// Learns from the chains that one process builds which hops (entry action, caller, target) are recorded in at least 95 % of at least 50 chains, and which are missing in as many;
/// which one service writes at an address, or calls from there, in 50 chains in a row; and what each kind of request calls as its first, second, ... call.
/// A chain is learnt from when it has not been built again for a while: one that is still coming in lacks what is on its way. Old chains count half as much every so often, so that
/// a logger that was added or taken away is noticed. Not safe for concurrent use.
/// </summary>
/// <param name="settle">How long a chain must not have been built again.</param>
public sealed class HopKnowledge(TimeSpan settle, TimeProvider? clock = null)
{
    const int Enough = 50, MaxHops = 20_000, MaxPending = 5_000, HalveAt = 10_000;
    const double NearlyAll = 0.95;

    /// <summary>Longer ones are passed over: they are batches, and would take as long again.</summary>
    const int MaxNodes = 10_000;

    readonly TimeProvider _clock = clock ?? TimeProvider.System;
    readonly Dictionary<Hop, Seen> _hops = [];
    readonly Dictionary<ulong, Host> _hosts = [];
    readonly Habits _habits = new();
    readonly Dictionary<string, Pending> _pending = new(StringComparer.Ordinal);
    readonly Queue<(string TraceId, long Since)> _order = new();

    /// <param name="Entry">The entry's action without ids.</param>
    /// <param name="Caller">Service.</param>
    /// <param name="Target">The called service; of a call what its caller says it called, which is the same whether the callee's records are there or not.</param>
    /// <param name="IsCallee">Whether the callee of a recorded call is recorded, not the hop itself.</param>
    readonly record struct Hop(string Entry, string Caller, string Target, bool IsCallee);

    readonly record struct Seen(int Chains, int Recorded);

    /// <param name="Service">The one service of the last chains; null where the last one showed several.</param>
    /// <param name="Chains">How many in a row.</param>
    readonly record struct Host(string? Service, int Chains);

    readonly record struct Pending(long Since, List<(Hop Hop, bool IsRecorded)> Says, List<(ulong Address, string? Service)> Hosts, HabitsShown Habits);

    /// <summary>The nodes of a chain that are not what they seem, by what was learnt from others; null if there are none.</summary>
    public IReadOnlyDictionary<ChainNode, HopLabel>? Label(CallChain chain)
    {
        Settle();
        if (_hops.Count == 0 || chain.Nodes.Count > MaxNodes || (chain.PlaceholderCount == 0 && !chain.Nodes.Any(IsWithoutCallee))) return null;
        Dictionary<ChainNode, HopLabel>? labels = null;
        var entry = chain.EntryKey ?? "";
        foreach (var node in chain.Nodes)
        {
            if (HopOf(entry, node, isCallee: false) is { } hop && node.IsPlaceholder && _hops.TryGetValue(hop, out var seen) && seen.Chains >= Enough && seen.Chains - seen.Recorded >= seen.Chains * NearlyAll)
                (labels ??= []).Add(node, HopLabel.NeverRecorded);
            else if (IsWithoutCallee(node) && HopOf(entry, node, isCallee: true) is { } call && _hops.TryGetValue(call, out seen) && seen.Chains >= Enough && seen.Recorded >= seen.Chains * NearlyAll)
                (labels ??= []).Add(node, HopLabel.CalleeMissing);
        }

        return labels;
    }

    /// <summary>Takes a chain as it is now in place of what it was before.</summary>
    public void Learn(CallChain chain)
    {
        if (chain.Sampled || chain.Nodes.Count > MaxNodes || chain.Nodes.Count < 2) return;
        var entry = chain.EntryKey ?? "";
        var says = new Dictionary<Hop, bool>();
        foreach (var node in chain.Nodes)
        {
            // Once a chain, and for it if only one of several calls has its record: it is about whether there is a logger.
            if (HopOf(entry, node, isCallee: false) is { } hop) Say(hop, !node.IsPlaceholder);
            if (node.Caller is not null && HopOf(entry, node, isCallee: true) is { } call) Say(call, !IsWithoutCallee(node));
        }

        var now = _clock.GetTimestamp();
        _pending[chain.TraceId] = new Pending(now, [.. says.Select(it => (it.Key, it.Value))], HostsOf(chain), _habits.Of(chain));
        _order.Enqueue((chain.TraceId, now));
        Settle();

        void Say(in Hop hop, bool isRecorded) => CollectionsMarshal.GetValueRefOrAddDefault(says, hop, out _) |= isRecorded;
    }

    /// <summary>The one service whose records are written at an address, or whose requests come from there; null where that is not known or not one.</summary>
    /// <param name="address">See <see cref="HostAddress.KeyOf"/>.</param>
    internal string? ServiceAt(ulong address)
    {
        Settle();
        return _hosts.TryGetValue(address, out var host) && host.Chains >= Enough ? host.Service : null;
    }

    /// <summary>Names calls that nothing else names, by what was called from the same place before.</summary>
    internal Habits Habits
    {
        get
        {
            Settle();
            return _habits;
        }
    }

    static List<(ulong Address, string? Service)> HostsOf(CallChain chain)
    {
        var hosts = new Dictionary<ulong, string?>();
        foreach (var node in chain.Nodes)
        {
            // What calls somebody has mostly been called itself: the callees' records show who is where.
            if (node.Callee is not { } callee || node.IsAmbiguous) continue;
            Note(HostAddress.KeyOf(callee.Record.Utf8(RecordField.ServerIp)), callee.Service);

            // Of a proxy this learns that several services call from there.
            if (node.Caller is { } caller) Note(HostAddress.KeyOf(callee.Record.Utf8(RecordField.ClientIp)), caller.Service);
        }

        return [.. hosts.Select(host => (host.Key, host.Value))];

        void Note(ulong address, string? service)
        {
            if (address == 0 || service is null) return;
            if (!hosts.TryAdd(address, service) && hosts[address] != service) hosts[address] = null;
        }
    }

    static Hop? HopOf(string entry, ChainNode node, bool isCallee)
    {
        if (node.Parent is null || node.IsFork || node.IsEventsOnly || node.IsForeign || node.IsSampled || node.IsIrregular || node.IsAmbiguous) return null;
        var target = isCallee ? node.Caller?.Peer ?? node.Caller?.ActionKey : node.CalleeService ?? node.Target;
        return node.CallerService is { } caller && target is not null ? new Hop(entry, caller, target, isCallee) : null;
    }

    // Its numbers do not show that something is missing: where they do, it is known loss.
    static bool IsWithoutCallee(ChainNode node) => node.Caller is not null && node.Callee is null && !node.IsCalleeMissing && node.GapCount == 0 && !node.IsForeign && !node.IsSampled && node.CalleeService is null;

    void Settle()
    {
        while (_order.TryPeek(out var oldest) && (_pending.Count > MaxPending || _clock.GetElapsedTime(oldest.Since) >= settle))
        {
            _order.Dequeue();

            // Built again since: its later place in the queue counts.
            if (!_pending.TryGetValue(oldest.TraceId, out var chain) || chain.Since != oldest.Since) continue;
            _pending.Remove(oldest.TraceId);
            foreach (var (hop, isRecorded) in chain.Says) Count(hop, isRecorded);
            foreach (var (address, service) in chain.Hosts) Meet(address, service);
            _habits.Count(chain.Habits);
        }
    }

    void Meet(ulong address, string? service)
    {
        if (_hosts.Count >= MaxHops && !_hosts.ContainsKey(address)) _hosts.Clear();
        ref var host = ref CollectionsMarshal.GetValueRefOrAddDefault(_hosts, address, out _);

        // An address that another service got is that one's as soon as enough chains show it.
        host = service is not null && host.Service == service ? host with { Chains = Math.Min(host.Chains + 1, Enough) } : new Host(service, 1);
    }

    void Count(Hop hop, bool isRecorded)
    {
        // Full of what comes once, such as actions with ids that nobody recognises: begun anew, what matters comes again.
        if (_hops.Count >= MaxHops && !_hops.ContainsKey(hop)) _hops.Clear();
        ref var seen = ref CollectionsMarshal.GetValueRefOrAddDefault(_hops, hop, out _);
        seen = new Seen(seen.Chains + 1, seen.Recorded + (isRecorded ? 1 : 0));
        if (seen.Chains >= HalveAt) seen = new Seen(seen.Chains / 2, seen.Recorded / 2);
    }
}
