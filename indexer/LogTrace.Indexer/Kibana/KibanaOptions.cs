namespace LogTrace.Indexer.Kibana;

/// <summary>Where Kibana or OpenSearch Dashboards is, and as whom to speak to it.</summary>
public sealed record KibanaOptions
{
    /// <summary>Its address, http or https, with the path where it has one (server.basePath, or a proxy's). Default http://127.0.0.1:5601.</summary>
    public string Url { get; init; } = "http://127.0.0.1:5601";

    /// <summary>User for basic authentication; none by default.</summary>
    public string? User { get; init; }

    public string? Password { get; init; }

    /// <summary>API key in the encoded form (base64 of id:key); instead of a user. Kibana only.</summary>
    public string? ApiKey { get; init; }

    /// <summary>PEM file with the certificates that may have signed the server's; the system's own by default.</summary>
    public string? CaFile { get; init; }

    /// <summary>The space that gets the objects, by its id; with OpenSearch Dashboards the tenant. Null for the default space, and the global tenant.</summary>
    public string? Space { get; init; }

    /// <summary>A file of saved objects in place of the built-in one.</summary>
    public string? Objects { get; init; }

    /// <summary>How long one request may take. Default 1 minute; 100 ms to 10 minutes.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>All problems at once, each with the key, the value, the range and so the fix; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (!Uri.TryCreate(Url, UriKind.Absolute, out var uri) || uri.Scheme is not ("http" or "https") || uri.Query.Length > 0 || uri.Fragment.Length > 0)
            problems.Add($"Kibana:Url is '{Url}'; it must be an http or https address such as http://127.0.0.1:5601.");
        else if (uri.UserInfo.Length > 0)
            problems.Add($"Kibana:Url has a user in the address of {uri.Host}; give it as Kibana:User and Kibana:Password.");
        if (User is null != Password is null) problems.Add("Kibana:User and Kibana:Password go together; one of them is missing.");
        if (User is not null && ApiKey is not null) problems.Add("Kibana:User and Kibana:ApiKey are both given; leave one out.");
        if (CaFile is not null && !File.Exists(CaFile)) problems.Add($"Kibana:CaFile is '{CaFile}', which is no file; it must name a PEM file.");
        if (Space is not null && (Space.Length is 0 or > 100 || !Space.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_')))
            problems.Add($"Kibana:Space is '{Space}'; it must be the id of a space (or the name of a tenant): 1 to 100 letters, digits, hyphens and underscores.");
        if (Objects is not null && !File.Exists(Objects)) problems.Add($"Kibana:Objects is '{Objects}', which is no file; it must name a file of saved objects, or be left out.");
        if (Timeout < TimeSpan.FromMilliseconds(100) || Timeout > TimeSpan.FromMinutes(10)) problems.Add($"Kibana:Timeout is {Timeout}; it must be between 00:00:00.1000000 and 00:10:00.");
        return problems;
    }
}
