using System.Runtime.CompilerServices;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// The names of one trace, services and targets of calls, as small numbers; and which target is which service, as far as the trace shows it. 0 is no name.
/// </summary>
sealed class ChainNames
{
    const int Kept = 1_000;
    const int Unknown = -1, Several = -1;

    struct Name
    {
        public string Text;
        public int Hash;

        /// <summary>The service that answered calls to this target; <see cref="Several"/> if not always the same.</summary>
        public int Learnt;

        /// <summary>What <see cref="ServiceOf(int)"/> said; <see cref="Unknown"/> before it was asked.</summary>
        public int Service;

        public bool IsService;

        /// <summary>Free for whoever goes over the chain once.</summary>
        public bool IsMarked;
    }

    Name[] _names = new Name[16];
    int[] _slots = new int[64];
    int _count = 1;

    /// <summary>Forgets the trace's names where they are many.</summary>
    public void LetGo()
    {
        if (_count <= Kept) return;
        _names = new Name[16];
        _slots = new int[64];
        _count = 1;
    }

    /// <summary>Forgets the trace.</summary>
    public void Clear()
    {
        // Names were put into slots by their hashes: so they are found again.
        for (var name = 1; name < _count; name++)
            for (var slot = _names[name].Hash & (_slots.Length - 1); _slots[slot] != 0; slot = (slot + 1) & (_slots.Length - 1)) _slots[slot] = 0;
        Array.Clear(_names, 1, _count - 1);
        _count = 1;
    }

    public string? this[int name] => name == 0 ? null : _names[name].Text;

    /// <summary>All names by their number, and behind them some of them once more.</summary>
    public string?[] ToArray(List<int> further)
    {
        var texts = new string?[_count + further.Count];
        for (var i = 1; i < _count; i++) texts[i] = _names[i].Text;
        for (var i = 0; i < further.Count; i++) texts[_count + i] = _names[further[i]].Text;
        return texts;
    }

    public int Of(string? text) => text is null ? 0 : Of(text, SharedNames.HashOf(text));

    /// <param name="text">A name.</param>
    /// <param name="hash"><see cref="SharedNames.HashOf"/> it.</param>
    public int Of(string? text, int hash)
    {
        if (text is null) return 0;
        var slot = hash & (_slots.Length - 1);
        for (int name; (name = _slots[slot]) != 0; slot = (slot + 1) & (_slots.Length - 1))
            if (_names[name].Hash == hash && _names[name].Text == text) return name;
        return Add(text, hash);
    }

    int Add(string text, int hash)
    {
        if (_count == _names.Length)
        {
            Array.Resize(ref _names, _count * 2);
            _slots = new int[_count * 8];
            for (var name = 1; name < _count; name++) Put(name);
        }

        _names[_count] = new Name { Text = text, Hash = hash, Service = Unknown };
        Put(_count);
        return _count++;
    }

    void Put(int name)
    {
        var slot = _names[name].Hash & (_slots.Length - 1);
        while (_slots[slot] != 0) slot = (slot + 1) & (_slots.Length - 1);
        _slots[slot] = name;
    }

    int Find(ReadOnlySpan<char> text)
    {
        var hash = SharedNames.HashOf(text);
        var slot = hash & (_slots.Length - 1);
        for (int name; (name = _slots[slot]) != 0; slot = (slot + 1) & (_slots.Length - 1))
            if (_names[name].Hash == hash && text.SequenceEqual(_names[name].Text)) return name;
        return 0;
    }

    /// <summary>True the first time.</summary>
    public bool Mark(int name)
    {
        if (name == 0 || _names[name].IsMarked) return false;
        return _names[name].IsMarked = true;
    }

    /// <summary>A name that is a service's. Called now and then from a loop that is better off without it.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public int OfService(string? text, int hash)
    {
        var service = Of(text, hash);
        if (service != 0) _names[service].IsService = true;
        return service;
    }

    /// <summary>A name that is a call's target.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public int OfPeer(string? text, int hash) => Of(text, hash);

    /// <summary>No name is known as a service's any more.</summary>
    public void ForgetServices()
    {
        for (var name = 1; name < _count; name++) _names[name].IsService = false;
    }

    /// <summary>A call to <paramref name="peer"/> was handled by <paramref name="service"/>. A target that several services answer for names none.</summary>
    public void Learn(int peer, int service)
    {
        if (peer == 0 || service == 0) return;
        ref var learnt = ref _names[peer].Learnt;
        learnt = learnt == 0 || learnt == service ? service : Several;
    }

    /// <summary>The service behind a call's target; 0 when the trace does not tell. To be asked when all is known and learnt.</summary>
    public int ServiceOf(int peer)
    {
        if (peer == 0) return 0;
        if (_names[peer].Service == Unknown) _names[peer].Service = FindService(peer);
        return _names[peer].Service;
    }

    public string? ServiceOf(string? peer) => peer is null ? null : this[ServiceOf(Of(peer))];

    int FindService(int peer)
    {
        ref var name = ref _names[peer];
        if (name.Text.Length == 0) return 0;
        if (name.Learnt > 0) return name.Learnt;
        if (name.IsService) return peer;
        var host = name.Text.AsSpan();
        if (host.IndexOf(':') is > 0 and var colon) host = host[..colon];
        if (Find(host) is var service && _names[service].IsService) return service;
        return host.IndexOf('.') is > 0 and var dot && Find(host[..dot]) is var shorter && _names[shorter].IsService ? shorter : 0;
    }
}
