using System.Collections.Concurrent;
using System.Diagnostics;

namespace LogTrace;

/// <summary>
/// How long names took to resolve, told by .NET's own activities (from .NET 9 on; before that nobody knows). Connections are made apart from the requests that wait for
/// them, so a lookup belongs to every call to that host in whose time it lies: they all waited for it.
/// </summary>
static class NameResolution
{
    const string SourceName = "Experimental.System.Net.NameResolution";
    const int MaxHosts = 1000;

    static readonly ConcurrentDictionary<string, Lookup> s_last = new(StringComparer.OrdinalIgnoreCase);
    static readonly ActivityListener s_listener = new()
    {
        ShouldListenTo = source => source.Name == SourceName,
        Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
        ActivityStopped = Stopped,
    };

    static long s_lastEnd;
    static int s_started;

    sealed record Lookup(long Start, long End);

    public static void Listen()
    {
        if (Interlocked.Exchange(ref s_started, 1) == 0) ActivitySource.AddActivityListener(s_listener);
    }

    /// <summary>Time spent on resolving a call's host since the call began; null when there was no need to.</summary>
    public static TimeSpan? Within(TraceSpan call, string host)
    {
        // Lookups are rare and calls are not.
        if (Volatile.Read(ref s_lastEnd) <= call.StartTimestamp) return null;
        return s_last.TryGetValue(host, out var lookup) && lookup.Start >= call.StartTimestamp ? Stopwatch.GetElapsedTime(lookup.Start, lookup.End) : null;
    }

    static void Stopped(Activity lookup)
    {
        if (lookup.GetTagItem("dns.question.name") is not string host || (s_last.Count >= MaxHosts && !s_last.ContainsKey(host))) return;
        var end = Stopwatch.GetTimestamp();
        s_last[host] = new Lookup(end - (long)(lookup.Duration.TotalSeconds * Stopwatch.Frequency), end);
        Volatile.Write(ref s_lastEnd, end);
    }
}
