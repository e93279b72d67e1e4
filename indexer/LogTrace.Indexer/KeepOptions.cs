using System.IO.Hashing;
using System.Text;
using LogTrace.Indexer.Store;

namespace LogTrace.Indexer;

/// <summary>
/// Which chains stay. A chain that meets any of the rules is kept; of every other the records are deleted once it has been quiet for <see cref="DecideAfter"/>, and what comes later
/// for it is dropped. Every instance must have the same rules.
/// </summary>
public sealed record KeepOptions
{
    /// <summary>Keep chains with errors or alarms. Default true.</summary>
    public bool Errors { get; init; } = true;

    /// <summary>Keep chains of X-DEBUG requests. Default true.</summary>
    public bool Debug { get; init; } = true;

    /// <summary>Keep chains that took at least this long. Default null: no chain is kept for that; zero to 1 day.</summary>
    public TimeSpan? SlowerThan { get; init; }

    /// <summary>The share of all chains that is kept whatever they are, chosen by trace_id as the logger's sampling chooses. Default 1: every chain; 0 to 1.</summary>
    public double Share { get; init; } = 1;

    /// <summary>A chain is decided on when none of its records has come for this long. Default 30 s; 100 ms to 1 hour.</summary>
    public TimeSpan DecideAfter { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>True for a chain that one of the rules keeps.</summary>
    public bool Keeps(ChainDocument chain) =>
        (Errors && chain.ErrorCount + chain.AlarmCount > 0) || (Debug && chain.Debug) || (SlowerThan is { } slow && chain.DurationMicros >= slow.TotalMicroseconds) || ShareOf(chain.TraceId) < Share;

    // The logger's formula, so that a share of what a share of the requests logs is a share of it.
    static double ShareOf(string traceId) => (XxHash3.HashToUInt64(Encoding.UTF8.GetBytes(traceId)) >> 11) * (1.0 / (1L << 53));

    /// <summary>All problems at once.</summary>
    public IEnumerable<string> Validate()
    {
        if (Share is not (>= 0 and <= 1)) yield return $"Indexer:Keep:Share is {Share}; it must be between 0 and 1.";
        if (SlowerThan is { } slow && (slow < TimeSpan.Zero || slow > TimeSpan.FromDays(1))) yield return $"Indexer:Keep:SlowerThan is {slow}; it must be between 00:00:00 and 1.00:00:00.";
        if (DecideAfter < TimeSpan.FromMilliseconds(100) || DecideAfter > TimeSpan.FromHours(1)) yield return $"Indexer:Keep:DecideAfter is {DecideAfter}; it must be between 00:00:00.1000000 and 01:00:00.";
    }
}
