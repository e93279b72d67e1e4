using System.Buffers;
using System.Globalization;
using System.IO.Hashing;
using System.Text;
using LogTrace.Records;

namespace LogTrace;

/// <summary>Context that came with a request or message, already checked character by character. The default value is none.</summary>
public readonly record struct IncomingTrace
{
    /// <summary>Id of the trace to continue; null when there is none.</summary>
    public string? TraceId { get; init; }

    /// <summary>Prefix of the scope that handles the request.</summary>
    public string? Prefix { get; init; }

    /// <summary>The call that caused the request: its span id, 0 when unknown.</summary>
    public ulong ParentSpan { get; init; }

    /// <summary>W3C trace flags; 1 = recorded. Null when the sender said nothing, or nothing that is believed.</summary>
    public byte? TraceFlags { get; init; }

    /// <summary>
    /// True when <see cref="TraceFlags"/> without the bit for recorded is somebody's decision: it came from a service with LogTrace or in B3. A bare traceparent says
    /// the same of every Activity that nobody listens to.
    /// </summary>
    internal bool IsSamplingDecided { get; init; }

    /// <summary>Where records of a request that is not sampled wait; null for one that is.</summary>
    internal HeldLines? Held { get; init; }

    /// <summary>Where debug lines wait for a failure; null when they do not.</summary>
    internal HeldLines? HeldDebug { get; init; }

    /// <summary>Members of tracestate that belong to others: handed on as they came.</summary>
    public string? OtherState { get; init; }

    /// <summary>When set, the request is a debug request, and its callees may be told so until then.</summary>
    public DateTimeOffset? DebugUntil { get; init; }

    /// <summary>True when there is a trace to continue.</summary>
    public bool HasContext => TraceId is not null;
}

/// <summary>The headers that carry a trace from one process to the next: HTTP and message headers, gRPC metadata.</summary>
public static class TraceHeaders
{
    /// <summary>Id of the whole request.</summary>
    public const string TraceId = "X-Trace-Id";

    /// <summary>Number of the call: the callee's prefix.</summary>
    public const string RpcId = "X-Rpc-Id";

    /// <summary><c>1</c> asks for the debug lines of this request.</summary>
    public const string Debug = "X-Debug";

    /// <summary>What proves that <see cref="Debug"/> may be asked for: the key, or between services a short-lived token.</summary>
    public const string DebugKey = "X-Debug-Key";

    /// <summary>W3C trace context.</summary>
    public const string TraceParent = "traceparent";

    /// <summary>W3C trace context: carries our id as <c>logtrace=1.2</c> through systems that know only W3C.</summary>
    public const string TraceState = "tracestate";

    /// <summary>B3 in one header, <c>TRACE-SPAN-SAMPLED-PARENT</c>: read where neither <see cref="TraceId"/> nor <see cref="TraceParent"/> came, never written.</summary>
    public const string B3 = "b3";

    /// <summary>B3 in several headers: the trace's id, 16 or 32 hex digits.</summary>
    public const string B3TraceId = "X-B3-TraceId";

    /// <summary>B3 in several headers: the caller's span, 16 hex digits.</summary>
    public const string B3SpanId = "X-B3-SpanId";

    /// <summary>B3 in several headers: <c>1</c> or <c>0</c>.</summary>
    public const string B3Sampled = "X-B3-Sampled";

    /// <summary>B3 in several headers: <c>1</c> for B3's debug, which keeps the trace and opens no debug lines here.</summary>
    public const string B3Flags = "X-B3-Flags";

    /// <summary>Longest trace id that is accepted: 128 characters.</summary>
    public const int MaxTraceIdLength = 128;

    /// <summary>Longest prefix that a server accepts, in bytes: 960, so that its own ids stay within <see cref="Records.RpcId.MaxBytes"/>.</summary>
    public const int MaxPrefixBytes = 960;

    /// <summary>Most segments of a prefix that a server accepts: 250.</summary>
    public const int MaxPrefixSegments = 250;

    const long FirstIrregularNumber = 1_000_000;
    const string StateKey = "logtrace=";

    // Longest tracestate that W3C asks everybody to hand on.
    const int MaxStateLength = 512;

    static readonly SearchValues<char> s_traceIdCharacters =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");

    /// <summary>True for 1 to 128 characters of <c>A-Z a-z 0-9 . _ : -</c>.</summary>
    public static bool IsValidTraceId(string? text) => IsValidTraceId(text.AsSpan());

    /// <inheritdoc cref="IsValidTraceId(string?)"/>
    internal static bool IsValidTraceId(ReadOnlySpan<char> text) => text.Length is > 0 and <= MaxTraceIdLength && !text.ContainsAnyExcept(s_traceIdCharacters);

    /// <summary>True for an RPCID that a server accepts as its prefix.</summary>
    public static bool IsValidPrefix(string? text) =>
        text is { Length: > 0 and <= MaxPrefixBytes } && Records.RpcId.Check(text) == RpcIdProblem.None && text.AsSpan().Count('.') < MaxPrefixSegments;

    /// <summary>
    /// Reads the ids of an incoming request or message. Headers that break a rule make it one without context; never throws. Whether the sender may say so at all,
    /// and whether it may ask for debug lines, is judged elsewhere (<see cref="TraceLogger.Judge"/>).
    /// </summary>
    /// <param name="carrier">The message that has the headers.</param>
    /// <param name="get">Gives a header's one value; null when it is absent or there is more than one.</param>
    public static IncomingTrace Read<TCarrier>(TCarrier carrier, Func<TCarrier, string, string?> get)
    {
        ArgumentNullException.ThrowIfNull(get);
        var hasParent = TryParseTraceParent(get(carrier, TraceParent), out var parentTrace, out var parentSpan, out var flags);
        if (get(carrier, TraceId) is { } traceId)
        {
            var prefix = get(carrier, RpcId) ?? "1";
            if (!IsValidTraceId(traceId) || !IsValidPrefix(prefix)) return default;
            // A traceparent of another trace says nothing about this call.
            hasParent &= TraceParentId(traceId) == parentTrace;
            return new() { TraceId = traceId, Prefix = prefix, ParentSpan = hasParent ? parentSpan : 0, TraceFlags = hasParent ? flags : null, IsSamplingDecided = hasParent, OtherState = hasParent ? ReadState(get(carrier, TraceState)).Others : null };
        }

        if (!hasParent) return ReadB3(carrier, get);

        // The service in between does not know us: it handed on its caller's number, not one of its own. Its span makes ours unique below that.
        var number = FirstIrregularNumber + (long)(uint)parentSpan;
        var (ours, others) = ReadState(get(carrier, TraceState));
        var irregular = string.Create(CultureInfo.InvariantCulture, $"{ours ?? "1"}.{number}");
        return IsValidPrefix(irregular)
            ? new() { TraceId = parentTrace, Prefix = irregular, ParentSpan = parentSpan, TraceFlags = flags, IsSamplingDecided = ours is not null, OtherState = others }
            : default;
    }

    /// <summary>B3 names no number either, so its callees are numbered as those of a traceparent are. Rules: openzipkin/b3-propagation, README.md.</summary>
    static IncomingTrace ReadB3<TCarrier>(TCarrier carrier, Func<TCarrier, string, string?> get)
    {
        string? trace, span, sampled;
        if (get(carrier, B3) is { } single)
        {
            if (single.Length > 128) return default;
            var parts = single.Split('-');
            // One part alone is a decision about no trace.
            if (parts.Length is < 2 or > 4) return default;
            (trace, span, sampled) = (parts[0], parts[1], parts.Length > 2 ? parts[2] : null);
            if (parts.Length > 3 && !IsLowerHex(parts[3], 16)) return default;
        }
        else
        {
            trace = get(carrier, B3TraceId);
            if (trace is null) return default;
            (span, sampled) = (get(carrier, B3SpanId), get(carrier, B3Flags) is "1" ? "d" : get(carrier, B3Sampled));
        }

        if (trace is null || span is null || !IsLowerHex(span, 16) || (!IsLowerHex(trace, 32) && !IsLowerHex(trace, 16))) return default;
        byte? flags = sampled switch { "1" or "d" or "true" => 1, "0" or "false" => 0, _ => null };
        if (flags is null && sampled is not null) return default;
        var number = ulong.Parse(span, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        return new()
        {
            TraceId = trace,
            Prefix = string.Create(CultureInfo.InvariantCulture, $"1.{FirstIrregularNumber + (long)(uint)number}"),
            ParentSpan = number,
            TraceFlags = flags,
            IsSamplingDecided = flags is not null,
        };
    }

    /// <summary>Sets the headers that make the callee of <paramref name="call"/> continue the trace.</summary>
    /// <param name="call">The call that is about to be sent.</param>
    /// <param name="carrier">The message.</param>
    /// <param name="set">Sets one header, replacing what is there; a null value removes it.</param>
    /// <param name="calleeIsInternal">Whether the callee is one of us (<see cref="TraceLogger.IsInternalHost"/>): only then it is told that this is a debug request.</param>
    public static void Write<TCarrier>(TraceOperation call, TCarrier carrier, Action<TCarrier, string, string?> set, bool calleeIsInternal)
    {
        ArgumentNullException.ThrowIfNull(call);
        ArgumentNullException.ThrowIfNull(set);
        var rpcId = call.RpcId;
        set(carrier, TraceId, call.TraceId);
        set(carrier, RpcId, rpcId);
        set(carrier, TraceParent, Parent(TraceParentId(call.TraceId), call.SpanNumber, call.Scope.TraceFlags));
        set(carrier, TraceState, State(rpcId, call.Scope.OtherState));
        var token = calleeIsInternal ? call.Logger.DebugToken(call.Scope) : null;
        set(carrier, Debug, token is null ? null : "1");
        set(carrier, DebugKey, token);
    }

    /// <inheritdoc cref="Write{TCarrier}(TraceOperation, TCarrier, Action{TCarrier, string, string?}, bool)"/>
    /// <remarks>Sets nothing for a call that is not traced or has ended.</remarks>
    public static void Write<TCarrier>(TraceCall call, TCarrier carrier, Action<TCarrier, string, string?> set, bool calleeIsInternal)
    {
        if (call.Live is { } operation) Write(operation, carrier, set, calleeIsInternal);
    }

    /// <summary>What a traceparent carries for a trace: the id itself if it is 32 lower-case hex digits, else its 128-bit hash in that form.</summary>
    public static string TraceParentId(string traceId)
    {
        ArgumentNullException.ThrowIfNull(traceId);
        return IsLowerHex(traceId, 32) ? traceId : Convert.ToHexString(XxHash128.Hash(Encoding.UTF8.GetBytes(traceId))).ToLowerInvariant();
    }

    static bool TryParseTraceParent(string? text, out string traceId, out ulong span, out byte flags)
    {
        traceId = "";
        span = 0;
        flags = 0;
        if (text is not { Length: >= 55 and <= 512 } || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
        var value = text.AsSpan();

        // ff is forbidden; version 00 ends here; later ones may add members after a dash.
        if (!IsHexDigits(value[..2]) || value[..2] is "ff" || (value.Length > 55 && (value[..2] is "00" || value[55] != '-'))) return false;
        if (!IsLowerHex(value[3..35], 32) || !IsLowerHex(value[36..52], 16) || !IsHexDigits(value[53..55])) return false;
        traceId = value[3..35].ToString();
        span = ulong.Parse(value[36..52], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        flags = byte.Parse(value[53..55], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        return true;
    }

    static string Parent(string traceId, ulong span, byte flags)
    {
        Span<char> digits = stackalloc char[20];
        digits[0] = digits[17] = '-';
        span.TryFormat(digits[1..17], out _, "x16", CultureInfo.InvariantCulture);
        flags.TryFormat(digits[18..20], out _, "x2", CultureInfo.InvariantCulture);
        return string.Concat("00-", traceId, digits);
    }

    // 256 characters is what W3C allows a member; a longer id goes in X-Rpc-Id alone.
    static string? State(string rpcId, string? others) => rpcId.Length > 256 ? others : others is null ? StateKey + rpcId : $"{StateKey}{rpcId},{others}";

    static (string? Ours, string? Others) ReadState(string? text)
    {
        if (text is null || text.Length > MaxStateLength || text.AsSpan().ContainsAnyExceptInRange(' ', '~')) return default;
        string? ours = null;
        List<string>? others = null;
        foreach (var member in text.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            if (!member.StartsWith(StateKey, StringComparison.Ordinal)) (others ??= []).Add(member);
            else if (ours is null && member[StateKey.Length..] is var id && IsValidPrefix(id)) ours = id;
        }

        // W3C allows 32 members, one of which is ours.
        return (ours, others is null ? null : string.Join(',', others.Take(31)));
    }

    static bool IsLowerHex(ReadOnlySpan<char> text, int length) => text.Length == length && IsHexDigits(text) && text.ContainsAnyExcept('0');

    static bool IsHexDigits(ReadOnlySpan<char> text) => !text.ContainsAnyExcept("0123456789abcdef");
}
