using System.IO.Hashing;
using System.Text;

namespace LogTrace;

/// <summary>Why a record was not written; the order of <see cref="NotWrittenCounts"/>.</summary>
enum NotWritten
{
    Ratio,
    Rule,
    Upstream,
    Limit,
    Held,
    HeldDebug,
}

/// <summary>Decides about whole requests, and counts what was left out.</summary>
sealed class TraceSampler
{
    /// <summary>The names of the reasons in records.</summary>
    public static readonly string[] ReasonNames = ["ratio", "rule", "upstream", "limit", "held", "held_debug"];

    readonly TraceSamplingOptions _options;
    readonly TimeProvider _time;
    readonly long[] _notWritten = new long[ReasonNames.Length];
    readonly Lock _gate = new();
    double _tokens;
    long _filled;

    public TraceSampler(TraceSamplingOptions options, TimeProvider time)
    {
        _options = options;
        _time = time;
        _tokens = options.MaxRecordsPerSecond;
        _filled = time.GetTimestamp();
    }

    public NotWrittenCounts Counts => new(this[NotWritten.Ratio], this[NotWritten.Rule], this[NotWritten.Upstream], this[NotWritten.Limit], this[NotWritten.Held], this[NotWritten.HeldDebug]);

    /// <summary>Whether written records have to be told.</summary>
    public bool HasLimit => _options.MaxRecordsPerSecond > 0;

    public long this[NotWritten reason] => Interlocked.Read(ref _notWritten[(int)reason]);

    /// <summary>Where an id lies between 0 and 1, the same in every service.</summary>
    public static double Position(string traceId)
    {
        Span<byte> utf8 = stackalloc byte[3 * TraceHeaders.MaxTraceIdLength];
        var id = traceId.AsSpan(0, Math.Min(traceId.Length, TraceHeaders.MaxTraceIdLength));
        // 53 bits are what a double holds without rounding up to 1.
        return (XxHash3.HashToUInt64(utf8[..Encoding.UTF8.GetBytes(id, utf8)]) >> 11) * (1.0 / (1L << 53));
    }

    public void Count(NotWritten reason, long records) => Interlocked.Add(ref _notWritten[(int)reason], records);

    /// <summary>Null when the request is to be written, else why not.</summary>
    /// <param name="traceId">Its trace.</param>
    /// <param name="action">Its action, for the rules.</param>
    /// <param name="incoming">What its caller said, as far as it is believed.</param>
    /// <param name="flags">The trace flags that go to its callees.</param>
    public NotWritten? Decide(string traceId, string action, in IncomingTrace incoming, out byte flags)
    {
        flags = (byte)((incoming.TraceFlags ?? 0) | 1);
        if (incoming.DebugUntil is not null) return null;
        NotWritten? reason = null;
        if (incoming.TraceFlags is { } decided && (decided & 1) != 0)
        {
            // Somebody wants the whole trace.
        }
        else if (incoming.TraceFlags is not null && (incoming.IsSamplingDecided || _options.IsOn))
        {
            reason = NotWritten.Upstream;
        }
        else if (_options.IsOn)
        {
            var rule = _options.Rules.Count == 0 ? null : _options.Rules.FirstOrDefault(rule => Matches(rule.Route, action));
            var ratio = rule?.Ratio ?? _options.Ratio;
            if (ratio < 1 && Position(traceId) >= ratio) reason = rule is null ? NotWritten.Ratio : NotWritten.Rule;
        }

        var travels = reason is null && incoming.TraceFlags is not null;
        if (reason is null && HasLimit && IsOverLimit()) reason = NotWritten.Limit;
        if (reason is not null && !travels) flags &= 0xfe;
        return reason;
    }

    /// <summary>Tells the limit of records that are written.</summary>
    public void Written(int records)
    {
        lock (_gate)
        {
            Fill();
            // A debt of more than a minute says nothing more and would only keep the quiet after a storm.
            _tokens = Math.Max(_tokens - records, -60.0 * _options.MaxRecordsPerSecond);
        }
    }

    /// <summary>Whether a line outside a trace is written; counts it if not.</summary>
    public bool AdmitsLoose()
    {
        if (!IsOverLimit()) return true;
        Count(NotWritten.Limit, 1);
        return false;
    }

    bool IsOverLimit()
    {
        lock (_gate)
        {
            Fill();
            return _tokens <= 0;
        }
    }

    void Fill()
    {
        var now = _time.GetTimestamp();
        _tokens = Math.Min(_options.MaxRecordsPerSecond, _tokens + _time.GetElapsedTime(_filled, now).TotalSeconds * _options.MaxRecordsPerSecond);
        _filled = now;
    }

    /// <summary>A route without a method is for the path alone.</summary>
    public static bool Matches(string route, string action)
    {
        var text = action.AsSpan();
        if (route.StartsWith('/') && text.IndexOf(' ') is > 0 and var blank) text = text[(blank + 1)..];
        return IsLike(route, text);
    }

    // The last star takes one character more each time the rest does not fit: no recursion.
    static bool IsLike(ReadOnlySpan<char> pattern, ReadOnlySpan<char> text)
    {
        int p = 0, t = 0, star = -1, mark = 0;
        while (t < text.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                star = p++;
                mark = t;
            }
            else if (p < pattern.Length && char.ToUpperInvariant(pattern[p]) == char.ToUpperInvariant(text[t]))
            {
                p++;
                t++;
            }
            else if (star >= 0)
            {
                p = star + 1;
                t = ++mark;
            }
            else
            {
                return false;
            }
        }

        while (p < pattern.Length && pattern[p] == '*') p++;
        return p == pattern.Length;
    }
}
