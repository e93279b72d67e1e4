namespace LogTrace.Indexer.Store;

/// <summary>Where Elasticsearch or OpenSearch is and how it is used.</summary>
public sealed record ElasticsearchOptions
{
    /// <summary>Addresses of the nodes, http or https, with a path where a proxy needs one. When one fails the next is asked. Default http://127.0.0.1:9200.</summary>
    public IReadOnlyList<string> Urls { get; init; } = ["http://127.0.0.1:9200"];

    /// <summary>User for basic authentication; none by default.</summary>
    public string? User { get; init; }

    public string? Password { get; init; }

    /// <summary>API key in the encoded form (base64 of id:key); instead of a user.</summary>
    public string? ApiKey { get; init; }

    /// <summary>PEM file with the certificates that may have signed the server's; the system's own by default.</summary>
    public string? CaFile { get; init; }

    /// <summary>
    /// SHA-256 of the server's certificate, or of the authority's that signed it, as 64 hex digits with or without colons: what Elasticsearch prints at its first start.
    /// In place of <see cref="CaFile"/>.
    /// </summary>
    public string? CertificateFingerprint { get; init; }

    /// <summary>Compress bulk requests. Default null: yes, unless all <see cref="Urls"/> are of this machine.</summary>
    public bool? Gzip { get; init; }

    /// <summary>Nothing is created or deleted on the server: for those who only look. Default false.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>
    /// Days after which a day's indices are deleted: by index lifecycle management (ILM) or index state management (ISM) where the server has it, else by the indexers. It counts
    /// from the day or, for one that was filled later, from the making of its index. Default null: nothing is deleted; 1 to 36,500.
    /// </summary>
    public int? KeepDays { get; init; }

    /// <summary>What all index and template names start with: PREFIX-records-*, PREFIX-chains-*, PREFIX-calls-*. Default logtrace.</summary>
    public string IndexPrefix { get; init; } = "logtrace";

    /// <summary>Bytes after which a bulk request is closed and sent. Default 5 MiB; 1 KiB to 64 MiB.</summary>
    public int BulkBytes { get; init; } = 5 << 20;

    /// <summary>Bulk requests under way at once. Default 3; 1 to 16.</summary>
    public int BulksInFlight { get; init; } = 3;

    /// <summary>How long one request may take. Default 1 minute; 100 ms to 10 minutes.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>How long a call retries without any progress before it reports the store as unavailable. Default 30 s; 0 to 10 minutes.</summary>
    public TimeSpan GiveUpAfter { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Records older than this many days share the overflow index. Default 400; 1 to 36,500.</summary>
    public int OverflowAfterDays { get; init; } = 400;

    /// <summary>Records more than this many days ahead of the clock share the overflow index. Default 1; 1 to 36,500.</summary>
    public int OverflowAheadDays { get; init; } = 1;

    /// <summary>All problems at once, each with the key, the value, the range and so the fix; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (Urls.Count == 0) problems.Add("Elasticsearch:Urls is empty; it must name at least one address such as http://127.0.0.1:9200.");
        foreach (var url in Urls)
        {
            if (!Uri.TryCreate(url, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https") || uri.Query.Length > 0)
                problems.Add($"Elasticsearch:Urls has '{url}'; each must be an http or https address such as http://127.0.0.1:9200.");
            else if (uri.UserInfo.Length > 0)
                problems.Add($"Elasticsearch:Urls has a user in the address of {uri.Host}; give it as Elasticsearch:User and Elasticsearch:Password.");
        }

        if (User is null != Password is null) problems.Add("Elasticsearch:User and Elasticsearch:Password go together; one of them is missing.");
        if (User is not null && ApiKey is not null) problems.Add("Elasticsearch:User and Elasticsearch:ApiKey are both given; leave one out.");
        if (CertificateFingerprint is not null && Fingerprint() is null)
            problems.Add($"Elasticsearch:CertificateFingerprint is '{CertificateFingerprint}'; it must be a SHA-256 as 64 hex digits, with or without colons.");
        if (CertificateFingerprint is not null && CaFile is not null) problems.Add("Elasticsearch:CertificateFingerprint and Elasticsearch:CaFile are both given; leave one out.");
        if (CaFile is not null && !File.Exists(CaFile)) problems.Add($"Elasticsearch:CaFile is '{CaFile}', which is no file; it must name a PEM file.");
        if (IndexPrefix.Length is 0 or > 64 || !char.IsAsciiLetterLower(IndexPrefix[0]) || !IndexPrefix.All(IsPrefixCharacter))
            problems.Add($"Elasticsearch:IndexPrefix is '{IndexPrefix}'; it must be 1 to 64 small letters, digits, hyphens and underscores, a letter first.");
        if (IndexPrefix is "logs" or "metrics" or "traces" or "synthetics" or "profiling")
            problems.Add($"Elasticsearch:IndexPrefix is '{IndexPrefix}', whose indices Elasticsearch has templates of its own for; take another, such as logtrace.");
        if (KeepDays is { } days) Check("KeepDays", days, 1, 36_500, "days");
        Check("BulkBytes", BulkBytes, 1 << 10, 64 << 20, "bytes");
        Check("BulksInFlight", BulksInFlight, 1, 16, "requests");
        CheckTime("Timeout", Timeout, TimeSpan.FromMilliseconds(100));
        CheckTime("GiveUpAfter", GiveUpAfter, TimeSpan.Zero);
        Check("OverflowAfterDays", OverflowAfterDays, 1, 36_500, "days");
        Check("OverflowAheadDays", OverflowAheadDays, 1, 36_500, "days");
        return problems;

        void Check(string key, long value, long least, long most, string unit)
        {
            if (value < least || value > most) problems.Add($"Elasticsearch:{key} is {value:N0}; it must be between {least:N0} and {most:N0} {unit}.");
        }

        void CheckTime(string key, TimeSpan value, TimeSpan least)
        {
            if (value < least || value > TimeSpan.FromMinutes(10)) problems.Add($"Elasticsearch:{key} is {value}; it must be between {least} and 00:10:00.");
        }
    }

    /// <summary>The bytes of <see cref="CertificateFingerprint"/>; null if there is none, or it is none.</summary>
    internal byte[]? Fingerprint()
    {
        var digits = CertificateFingerprint?.Replace(":", "", StringComparison.Ordinal).Trim();
        return digits?.Length == 64 && digits.All(char.IsAsciiHexDigit) ? Convert.FromHexString(digits) : null;
    }

    internal bool Compresses => Gzip ?? !Urls.All(url => Uri.TryCreate(url, UriKind.Absolute, out var uri) && uri.IsLoopback);

    static bool IsPrefixCharacter(char character) => char.IsAsciiLetterLower(character) || char.IsAsciiDigit(character) || character is '-' or '_';
}
