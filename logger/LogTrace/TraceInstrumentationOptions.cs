namespace LogTrace;

/// <summary>What is recorded without change in business code, beside requests and the clients of IHttpClientFactory. Configuration: <c>LogTrace:Instrumentation</c>.</summary>
public sealed record TraceInstrumentationOptions
{
    /// <summary>
    /// Requests of every other <see cref="HttpClient"/>, made by hand or by a third-party library, through .NET's own diagnostics. Default true. Clients whose
    /// <see cref="SocketsHttpHandler.ActivityHeadersPropagator"/> is null stay out of it.
    /// </summary>
    public bool HttpClients { get; init; } = true;

    /// <summary>Connects and statements of providers that emit activities: Npgsql and MySqlConnector. Default true. A <see cref="TraceDbConnection"/> records its own and is not doubled.</summary>
    public bool Databases { get; init; } = true;

    /// <summary>
    /// Names of further <see cref="System.Diagnostics.ActivitySource"/>s to record; <c>*</c> at the end stands for any ending. Default none. Their client and
    /// producer activities become calls with a number of their own, their internal ones <c>log.trace</c> lines; server and consumer ones are left alone.
    /// </summary>
    public IReadOnlyList<string> ActivitySources { get; init; } = [];

    /// <summary>
    /// Keep what ASP.NET Core and IHttpClientFactory say of every request in a logging scope of theirs: <c>RequestId</c>, <c>RequestPath</c>, <c>ConnectionId</c>, <c>HttpMethod</c> and <c>Uri</c>
    /// in each log line's <c>extra</c>. Default false: a line's ids lead to the records that say it once. Scopes of one's own code are kept either way.
    /// </summary>
    public bool FrameworkScopes { get; init; }

    /// <summary>Bytes kept of a text body that is sent or received as a request, in <c>param</c>: 0, which keeps none, to 65,536. Default 0.</summary>
    public int MaxRequestBodyBytes { get; init; }

    /// <summary>Bytes kept of a text body that is received or sent as a response, in <c>response</c>: 0, which keeps none, to 65,536. Default 0.</summary>
    public int MaxResponseBodyBytes { get; init; }

    /// <summary>All problems at once; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        Bytes(nameof(MaxRequestBodyBytes), MaxRequestBodyBytes);
        Bytes(nameof(MaxResponseBodyBytes), MaxResponseBodyBytes);
        for (var i = 0; i < ActivitySources.Count; i++)
        {
            if (string.IsNullOrWhiteSpace(ActivitySources[i])) problems.Add($"LogTrace:Instrumentation:ActivitySources:{i} is empty; it must be the name of an ActivitySource, or leave it out.");
        }

        return problems;

        void Bytes(string key, int value)
        {
            if (value is < 0 or > 65_536) problems.Add($"LogTrace:Instrumentation:{key} is {value}; it must be between 0 and 65,536 bytes. Leave it out to keep no bodies.");
        }
    }
}
