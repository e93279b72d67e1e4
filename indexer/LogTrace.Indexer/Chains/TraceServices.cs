using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>Names the services of records that do not name their own: from other records of the same process in the trace (DESIGN.md section 5).</summary>
static class TraceServices
{
    public static void Resolve(IReadOnlyList<IndexedRecord> records)
    {
        Dictionary<(string, string), string?>? byProcess = null;
        foreach (var record in records)
        {
            if (NamesItself(record)) continue;
            byProcess ??= FindProcesses(records);
            if (InstanceOf(record.Record) is ({ } host, { } process) && byProcess.TryGetValue((host, process), out var service) && service is not null)
                record.Service = service;
            else if (record.Service is null && record.Record.Module is { Length: > 0 } module)
                record.Service = module.Split('_', 2)[0] is { Length: > 0 } first ? first : module;
        }
    }

    /// <summary>Host without its port, and process without its thread, as records of one process agree on them.</summary>
    public static (string? Host, string? Process) InstanceOf(TraceRecord record)
    {
        var host = record.ServerIp;
        if (host is not null && host.IndexOf(':') is > 0 and var colon && host.LastIndexOf(':') == colon) host = host[..colon];
        var process = record.Pid;
        if (process is not null && process.IndexOf('-') is > 0 and var dash) process = process[..dash];
        return (string.IsNullOrEmpty(host) ? null : host, string.IsNullOrEmpty(process) ? null : process);
    }

    static bool NamesItself(IndexedRecord record) =>
        record.Service is not null && (record.Record.Has(RecordField.Service) || VersionNamesService(record.Record.Utf8(RecordField.Version)));

    /// <summary><c>dotnet-orders-1.4</c> does, <c>php-4</c> does not: something must stand between the language and a last part that begins with a digit.</summary>
    static bool VersionNamesService(ReadOnlySpan<byte> version)
    {
        var first = version.IndexOf((byte)'-');
        var last = version.LastIndexOf((byte)'-');
        return first >= 0 && last > first + 1 && last + 1 < version.Length && version[last + 1] is >= (byte)'0' and <= (byte)'9';
    }

    static Dictionary<(string, string), string?> FindProcesses(IReadOnlyList<IndexedRecord> records)
    {
        var services = new Dictionary<(string, string), string?>();
        foreach (var record in records)
        {
            if (!NamesItself(record) || InstanceOf(record.Record) is not ({ } host, { } process)) continue;

            // Two services in one process: it names neither.
            if (!services.TryAdd((host, process), record.Service) && services[(host, process)] != record.Service) services[(host, process)] = null;
        }

        return services;
    }
}

/// <summary>Which target of a call is which service, as far as one trace shows it.</summary>
sealed class PeerNames
{
    readonly Dictionary<string, string?> _learnt = new(StringComparer.Ordinal);
    readonly HashSet<string> _services = new(StringComparer.Ordinal);
    string? _last;

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
