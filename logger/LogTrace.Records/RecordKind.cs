namespace LogTrace.Records;

/// <summary>What a record says about a call; follows from its name alone.</summary>
public enum RecordKind
{
    /// <summary>A log line: <c>log.*</c>, or a record without a name.</summary>
    Event,

    /// <summary>A measurement: <c>metric.*</c>.</summary>
    Metric,

    /// <summary>The handling of one request, seen by the service that handled it: <c>request.info</c>.</summary>
    Server,

    /// <summary>A call to another process, seen by the caller: <c>http.*</c>, <c>mysql.request</c>, <c>kafka.produce</c>, ...</summary>
    Client,

    /// <summary>One parallel branch within a service: <c>fork.info</c>.</summary>
    Internal,
}

/// <summary>Reads the kind and the outcome out of a record's name.</summary>
public static class RecordNames
{
    /// <summary>Closing record of a handled request.</summary>
    public const string RequestInfo = "request.info";

    /// <summary>Closing record of a parallel branch.</summary>
    public const string ForkInfo = "fork.info";

    /// <summary>Ending that says that a call or request failed.</summary>
    public const string ErrorSuffix = ".error";

    /// <summary>The kind of record that a name stands for. Every name that is neither a request, a fork, a log line nor a metric is a call.</summary>
    public static RecordKind KindOf(string? name)
    {
        if (string.IsNullOrEmpty(name)) return RecordKind.Event;
        if (Is(name, RequestInfo)) return RecordKind.Server;
        if (Is(name, ForkInfo)) return RecordKind.Internal;
        if (name.StartsWith("log.", StringComparison.Ordinal)) return RecordKind.Event;
        return name.StartsWith("metric.", StringComparison.Ordinal) ? RecordKind.Metric : RecordKind.Client;
    }

    /// <summary>True for names that say failure: <c>*.error</c>, <c>log.error</c>, <c>log.alarm</c>, <c>log.exception</c>.</summary>
    public static bool IsError(string? name) =>
        name is not null && (name.EndsWith(ErrorSuffix, StringComparison.Ordinal) || name is "log.alarm" or "log.exception");

    /// <summary>True for the record of opening a connection, which shares its number with the request it was made for.</summary>
    public static bool IsConnect(string? name) =>
        name is not null && (name.EndsWith(".connect", StringComparison.Ordinal) || name.EndsWith(".connect.error", StringComparison.Ordinal));

    static bool Is(string name, string stem) =>
        name.StartsWith(stem, StringComparison.Ordinal) &&
        (name.Length == stem.Length || name.AsSpan(stem.Length).SequenceEqual(ErrorSuffix));
}
