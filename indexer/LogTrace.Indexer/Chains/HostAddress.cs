using System.IO.Hashing;

namespace LogTrace.Indexer.Chains;

/// <summary>Addresses of hosts, as <c>server_ip</c> and <c>client_ip</c> hold them, made comparable.</summary>
static class HostAddress
{
    /// <summary>
    /// A number that stands for the address, whatever port is written behind it, and whether or not an IPv4 address is written as an IPv6 one, as sockets
    /// for both do. 0 for none, and for loopback, which is every host's.
    /// </summary>
    public static ulong KeyOf(ReadOnlySpan<byte> text)
    {
        if (text.StartsWith("::ffff:"u8) && text.Contains((byte)'.')) text = text["::ffff:"u8.Length..];
        if (!text.IsEmpty && text[0] == '[' && text.IndexOf((byte)']') is > 0 and var end) text = text[1..end];
        else if (text.IndexOf((byte)':') is >= 0 and var colon && text.LastIndexOf((byte)':') == colon) text = text[..colon];
        if (text.IsEmpty || text.StartsWith("127."u8) || text.SequenceEqual("::1"u8) || text.SequenceEqual("localhost"u8)) return 0;
        return Math.Max(1, XxHash3.HashToUInt64(text));
    }
}
