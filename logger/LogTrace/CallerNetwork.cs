using System.Net;

namespace LogTrace;

/// <summary>How far a caller's headers are believed.</summary>
public enum CallerTrust
{
    /// <summary>Not at all: its requests start new traces.</summary>
    Ignore,

    /// <summary>Its ids: its traces are continued.</summary>
    Accept,

    /// <summary>Its ids, its sampling decision and that a request is a debug request; its responses carry <c>X-Trace-Id</c>.</summary>
    Trust,
}

/// <summary>What is believed of callers in one network.</summary>
public sealed record CallerNetwork
{
    /// <summary>The network, such as <c>10.0.0.0/8</c>, or one address.</summary>
    public string Network { get; init; } = "";

    /// <summary>How far its headers are believed.</summary>
    public CallerTrust Trust { get; init; }
}

/// <summary>A list of networks, parsed once.</summary>
sealed class NetworkList
{
    /// <summary>Private, link-local and loopback addresses: RFC 1918, 3927, 4193, 4291.</summary>
    public static IReadOnlyList<string> Private { get; } =
        ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7", "fe80::/10"];

    readonly List<IPNetwork> _networks = [];

    public NetworkList(IEnumerable<string> networks)
    {
        foreach (var text in networks)
        {
            if (TryParse(text, out var network)) _networks.Add(network);
        }
    }

    public static bool TryParse(string text, out IPNetwork network)
    {
        if (IPAddress.TryParse(text, out var address))
        {
            network = new IPNetwork(address, address.GetAddressBytes().Length * 8);
            return true;
        }

        return IPNetwork.TryParse(text, out network);
    }

    public int IndexOf(IPAddress address)
    {
        if (address.IsIPv4MappedToIPv6) address = address.MapToIPv4();
        for (var index = 0; index < _networks.Count; index++)
        {
            if (_networks[index].Contains(address)) return index;
        }

        return -1;
    }
}

/// <summary>The addresses that proxies say they passed a request on for.</summary>
static class ForwardedHeaders
{
    const int MaxLength = 2048;

    /// <summary>All addresses that <c>X-Forwarded-For</c>, <c>Forwarded</c> and <c>X-Real-IP</c> name; null for what is no address (<c>unknown</c>, <c>_hidden</c>) or too much.</summary>
    public static IEnumerable<IPAddress?> Addresses(string? forwardedFor, string? forwarded, string? realIp)
    {
        if (forwardedFor?.Length > MaxLength || forwarded?.Length > MaxLength || realIp?.Length > MaxLength)
        {
            yield return null;
            yield break;
        }

        if (!string.IsNullOrWhiteSpace(forwardedFor))
        {
            foreach (var hop in forwardedFor.Split(',', StringSplitOptions.TrimEntries)) yield return Address(hop);
        }

        if (!string.IsNullOrWhiteSpace(realIp)) yield return Address(realIp.Trim());
        if (string.IsNullOrWhiteSpace(forwarded)) yield break;
        foreach (var hop in forwarded.Split(',', StringSplitOptions.TrimEntries))
        {
            var node = hop.Split(';', StringSplitOptions.TrimEntries).FirstOrDefault(pair => pair.StartsWith("for=", StringComparison.OrdinalIgnoreCase));
            yield return node is null ? null : Address(node[4..].Trim('"'));
        }
    }

    static IPAddress? Address(string text) => IPEndPoint.TryParse(text, out var hop) ? hop.Address : null;
}
