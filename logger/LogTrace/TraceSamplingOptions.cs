using System.Globalization;

namespace LogTrace;

/// <summary>
/// Which requests are written. Errors are, always: the first error record of a request that is not sampled (its own, of one of its calls, a <c>log.error</c>, <c>log.alarm</c> or <c>log.exception</c>)
/// brings out what was held of it and lets the rest through. So are slow requests and debug requests. Records of a trace that was not sampled carry <c>sampled: true</c>: parts of it are left out on purpose.
/// </summary>
/// <remarks>Counted before and never sampled: <c>metric.*</c>. Lines outside a trace know only the limit.</remarks>
public sealed record TraceSamplingOptions
{
    /// <summary>
    /// Share of traces that are written: 1 (all); 0 to 1. A trace is, when the 64-bit XxHash3 of its id's UTF-8 bytes is below that share of 2^64: the same in every service with the same ratio.
    /// </summary>
    public double Ratio { get; init; } = 1;

    /// <summary>Other ratios for some routes, the first that matches; at most 100. They hold where a trace begins; its callees follow the decision. Default: none.</summary>
    public IReadOnlyList<TraceSamplingRule> Rules { get; init; } = [];

    /// <summary>Requests that take at least this long are written in any case: 1 s; 1 ms to 1 hour.</summary>
    public TimeSpan SlowerThan { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>
    /// Most records in a second: 0 (no limit) to 10,000,000. It is kept by requests, not by records, so that what is written is whole: while it is exceeded, new requests are not sampled, whatever others
    /// decided (their decision travels on). Errors, slow and debug requests are written beyond it.
    /// </summary>
    public int MaxRecordsPerSecond { get; init; }

    /// <summary>Whether anything here leaves records out.</summary>
    internal bool IsOn => Ratio < 1 || Rules.Count > 0 || MaxRecordsPerSecond > 0;

    /// <summary>All problems at once, one sentence each with key, value, range and what to do; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        Share(nameof(Ratio), Ratio);
        if (Rules.Count > 100) problems.Add($"LogTrace:Sampling:Rules has {Rules.Count} rules; it must have at most 100.");
        for (var i = 0; i < Rules.Count; i++)
        {
            if (Rules[i].Route.Length is 0 or > 200) problems.Add($"LogTrace:Sampling:Rules:{i}:Route is '{Rules[i].Route}'; it must be a route of 1 to 200 characters, such as GET /health*.");
            Share($"Rules:{i}:Ratio", Rules[i].Ratio);
        }

        if (SlowerThan < TimeSpan.FromMilliseconds(1) || SlowerThan > TimeSpan.FromHours(1)) problems.Add($"LogTrace:Sampling:SlowerThan is {SlowerThan}; it must be between 00:00:00.0010000 and 01:00:00.");
        if (MaxRecordsPerSecond is < 0 or > 10_000_000) problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:Sampling:MaxRecordsPerSecond is {MaxRecordsPerSecond}; it must be between 0 (no limit) and 10,000,000 records."));
        return problems;

        void Share(string key, double value)
        {
            if (value is not (>= 0 and <= 1)) problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:Sampling:{key} is {value}; it must be between 0 and 1."));
        }
    }
}

/// <summary>The ratio for some routes.</summary>
public sealed record TraceSamplingRule
{
    /// <summary>
    /// Path of a request or name of a job, with <c>*</c> for anything: <c>/health*</c>; with the method before it, <c>GET /items/*</c>, for that method only. Letter case makes no difference.
    /// </summary>
    public string Route { get; init; } = "";

    /// <summary>Share of the traces beginning there that are written: 0 to 1; 0 unless set.</summary>
    public double Ratio { get; init; }
}

/// <summary>Records that were left out on purpose, by reason, since the logger was made. What could not be written is <see cref="TraceLogger.Dropped"/>.</summary>
/// <param name="Ratio">By <see cref="TraceSamplingOptions.Ratio"/>.</param>
/// <param name="Rule">By one of <see cref="TraceSamplingOptions.Rules"/>.</param>
/// <param name="Upstream">By the decision of a trusted caller.</param>
/// <param name="Limit">By <see cref="TraceSamplingOptions.MaxRecordsPerSecond"/>.</param>
/// <param name="Held">Of requests that were written after all: what <see cref="LogTraceOptions.MaxHeldBytes"/> had cut before.</param>
/// <param name="HeldDebug">Debug lines of failed requests that <see cref="LogTraceOptions.MaxHeldBytes"/> had cut.</param>
public readonly record struct NotWrittenCounts(long Ratio, long Rule, long Upstream, long Limit, long Held, long HeldDebug)
{
    /// <summary>All of them.</summary>
    public long Total => Ratio + Rule + Upstream + Limit + Held + HeldDebug;
}
