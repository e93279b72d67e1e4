using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace LogTrace.Indexer.Store;

/// <summary>What requests to all servers have in common: whom to trust, who one is, and how much of an answer is said.</summary>
static class ServerHttp
{
    const int MaxExcerpt = 400;

    /// <summary>A client without redirects, cookies and a limit of its own for a whole request.</summary>
    /// <param name="caFile">PEM file with the certificates that may have signed the server's; null for the system's own.</param>
    /// <param name="timeout">How long a request may take; a connection is given no more of it than 10 s.</param>
    /// <param name="authorization">Who one is; null for nobody.</param>
    /// <param name="fingerprint">SHA-256 of the certificate that is trusted, the server's own or its authority's, in place of <paramref name="caFile"/>.</param>
    public static HttpClient Client(string? caFile, TimeSpan timeout, AuthenticationHeaderValue? authorization, byte[]? fingerprint = null)
    {
        var handler = new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            ConnectTimeout = timeout < TimeSpan.FromSeconds(10) ? timeout : TimeSpan.FromSeconds(10),

            // So that a cluster that moves to other addresses is followed.
            PooledConnectionLifetime = TimeSpan.FromMinutes(5),
            UseCookies = false,
        };
        if (caFile is not null)
        {
            var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            policy.CustomTrustStore.ImportFromPemFile(caFile);
            handler.SslOptions.CertificateChainPolicy = policy;
        }
        else if (fingerprint is not null)
        {
            handler.SslOptions.RemoteCertificateValidationCallback = (_, certificate, chain, errors) => certificate is X509Certificate2 own && IsTrusted(own, chain, errors, fingerprint);
        }

        var client = new HttpClient(handler) { Timeout = System.Threading.Timeout.InfiniteTimeSpan };
        client.DefaultRequestHeaders.Authorization = authorization;
        return client;
    }

    /// <summary>The very certificate that is trusted; or one for this host signed by the authority that is.</summary>
    static bool IsTrusted(X509Certificate2 own, X509Chain? chain, SslPolicyErrors errors, byte[] fingerprint)
    {
        if (IsIt(own)) return true;
        if (chain is null || (errors & SslPolicyErrors.RemoteCertificateNameMismatch) != 0) return false;

        // What the server sent along, and what the system knows.
        var sent = chain.ChainPolicy.ExtraStore.Concat(chain.ChainElements.Select(element => element.Certificate)).ToArray();
        if (Array.Find(sent, IsIt) is not { } authority) return false;
        using var trusted = new X509Chain { ChainPolicy = { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck } };
        trusted.ChainPolicy.CustomTrustStore.Add(authority);
        trusted.ChainPolicy.ExtraStore.AddRange(sent);
        return trusted.Build(own);

        bool IsIt(X509Certificate2 certificate) => CryptographicOperations.FixedTimeEquals(SHA256.HashData(certificate.RawData), fingerprint);
    }

    /// <summary>An API key in its encoded form, else user and password, else nobody.</summary>
    public static AuthenticationHeaderValue? Authorization(string? user, string? password, string? apiKey)
    {
        if (apiKey is not null) return new AuthenticationHeaderValue("ApiKey", apiKey);
        return user is null ? null : new AuthenticationHeaderValue("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"{user}:{password}")));
    }

    /// <summary>The beginning of what a server said, on one line.</summary>
    public static string Excerpt(string text)
    {
        var line = string.Join(' ', text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        return line.Length <= MaxExcerpt ? line : line[..MaxExcerpt] + "...";
    }
}
