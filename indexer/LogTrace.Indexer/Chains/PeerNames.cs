namespace LogTrace.Indexer.Chains;

/// <summary>Which target of a call is which service, as far as one trace shows it.</summary>
sealed class PeerNames
{
    readonly Dictionary<string, string?> _learnt = new(StringComparer.Ordinal);
    readonly HashSet<string> _services = new(StringComparer.Ordinal);
    string? _last;

    /// <summary>Names held.</summary>
    public int Count => _learnt.Count + _services.Count;

    public void Clear()
    {
        _learnt.Clear();
        _services.Clear();
        _last = null;
    }

    /// <summary>A name that is a service's.</summary>
    public void Know(string? service)
    {
        if (service is null || ReferenceEquals(service, _last)) return;
        _last = service;
        _services.Add(service);
    }

    /// <summary>A call to <paramref name="peer"/> was handled by <paramref name="service"/>. A target that several services answer for names none.</summary>
    public void Learn(string? peer, string? service)
    {
        if (peer is null || service is null) return;
        if (!_learnt.TryAdd(peer, service) && _learnt[peer] != service) _learnt[peer] = null;
    }

    /// <summary>The service behind a call's target; null when the trace does not tell.</summary>
    public string? ServiceOf(string? peer)
    {
        if (string.IsNullOrEmpty(peer)) return null;
        if (_learnt.TryGetValue(peer, out var service) && service is not null) return service;
        if (_services.TryGetValue(peer, out service)) return service;
        var host = peer.AsSpan();
        if (host.IndexOf(':') is > 0 and var colon) host = host[..colon];
        var byText = _services.GetAlternateLookup<ReadOnlySpan<char>>();
        if (byText.TryGetValue(host, out service)) return service;
        return host.IndexOf('.') is > 0 and var dot && byText.TryGetValue(host[..dot], out service) ? service : null;
    }
}
