using System.Globalization;

namespace LogTrace;

/// <summary>How measurements are gathered and written.</summary>
public sealed record TraceMetricsOptions
{
    /// <summary>How often what was measured is written: every 10 s; 1 s to 1 hour. It is also written when the logger is closed.</summary>
    public TimeSpan Interval { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Most combinations of tags that one metric has in the life of the process: 200; 1 to 10,000. What comes with others is measured together, in a record with the tag <c>overflow: true</c>, and counted
    /// (<see cref="TraceMetrics.Overflowed"/>). A histogram takes 4 KiB for each.
    /// </summary>
    public int MaxSeriesPerMetric { get; init; } = 200;

    /// <summary>Most metrics: 1,000; 1 to 100,000. Others are not measured, but counted (<see cref="TraceMetrics.Discarded"/>).</summary>
    public int MaxMetrics { get; init; } = 1_000;

    /// <summary>All problems at once, one sentence each with key, value, range and what to do; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (Interval < TimeSpan.FromSeconds(1) || Interval > TimeSpan.FromHours(1)) problems.Add($"LogTrace:Metrics:Interval is {Interval}; it must be between 00:00:01 and 01:00:00.");
        Range(nameof(MaxSeriesPerMetric), MaxSeriesPerMetric, 10_000, "series");
        Range(nameof(MaxMetrics), MaxMetrics, 100_000, "metrics");
        return problems;

        void Range(string key, int value, int highest, string unit)
        {
            if (value < 1 || value > highest) problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:Metrics:{key} is {value}; it must be between 1 and {highest:N0} {unit}."));
        }
    }
}
