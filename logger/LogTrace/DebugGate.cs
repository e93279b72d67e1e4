using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace LogTrace;

/// <summary>
/// Decides whether a request is a debug request, and vouches for it towards our callees. The key stays here: callees get a token that
/// is good for one trace and a short time: <c>t1.EXPIRY.MAC</c>, expiry in seconds since the epoch, MAC = HMAC-SHA256 over both in base64url.
/// </summary>
sealed class DebugGate
{
    /// <summary>How tokens begin, and therefore no key.</summary>
    public const string TokenMark = "t1.";

    // Callers whose wrong keys are counted one by one. Strangers beyond them share a count, so that many addresses cannot take more memory.
    const int MaxCallers = 10_000;

    readonly LogTraceOptions _options;
    readonly TimeProvider _time;
    readonly Key[] _keys;
    readonly Lock _gate = new();
    readonly Dictionary<UInt128, int> _wrong = [];
    readonly int[] _started;
    int _wrongOfOthers;
    int _handled;
    long _minute;

    // A key of its own for tokens: whoever sees many of them learns nothing for guessing the key itself offline but by trying it out.
    readonly record struct Key(byte[] Hash, byte[] TokenKey)
    {
        public static Key Of(string text)
        {
            var bytes = Encoding.UTF8.GetBytes(text);
            return new(SHA256.HashData(bytes), HMACSHA256.HashData(bytes, "logtrace debug token 1"u8));
        }
    }

    public DebugGate(LogTraceOptions options, TimeProvider time)
    {
        _options = options;
        _time = time;
        _keys = options.DebugKey.Length == 0 ? [] : [Key.Of(options.DebugKey), .. options.DebugKeys.Select(Key.Of)];
        _started = new int[_keys.Length];
    }

    /// <summary>Until when callees may be told that this is a debug request; null when it is none.</summary>
    /// <param name="credential">What came in X-Debug-Key.</param>
    /// <param name="traceId">Trace that the request continues; null when it continues none that is trusted.</param>
    /// <param name="caller">Who asks; null when unknown. Wrong keys are held against this one alone.</param>
    /// <param name="trust">How far the caller is believed.</param>
    public DateTimeOffset? Admit(string? credential, string? traceId, IPAddress? caller = null, CallerTrust trust = CallerTrust.Trust)
    {
        if (_keys.Length == 0 || string.IsNullOrEmpty(credential) || credential.Length > 1024) return null;
        var now = _time.GetUtcNow();
        var who = Network(caller);
        lock (_gate)
        {
            BeginMinute(now);
            if (!MayTry(who, trust)) return null;
        }

        var key = -1;
        DateTimeOffset? until;
        if (credential.StartsWith(TokenMark, StringComparison.Ordinal)) until = ReadToken(credential, traceId, now);
        else until = (key = IndexOf(credential)) < 0 ? null : now + _options.DebugTokenLifetime;
        lock (_gate)
        {
            BeginMinute(now);
            if (until is null)
            {
                CountWrong(who, trust);
                return null;
            }

            // A token is counted with the rest only: there are as many as a debug request makes calls, and its key was counted where it began.
            if (_handled >= _options.MaxDebugHandledPerMinute || (key >= 0 && _started[key] >= _options.MaxDebugRequestsPerMinute)) return null;
            _handled++;
            if (key >= 0) _started[key]++;
        }

        return until;
    }

    public string? Token(string traceId, DateTimeOffset until)
    {
        if (_keys.Length == 0 || until <= _time.GetUtcNow()) return null;
        var expiry = until.ToUnixTimeSeconds();
        return string.Create(CultureInfo.InvariantCulture, $"{TokenMark}{expiry}.{Mac(_keys[0], traceId, expiry)}");
    }

    void BeginMinute(DateTimeOffset now)
    {
        var minute = now.ToUnixTimeSeconds() / 60;
        if (minute == _minute) return;
        _minute = minute;
        _wrong.Clear();
        Array.Clear(_started);
        _wrongOfOthers = _handled = 0;
    }

    bool MayTry(UInt128 who, CallerTrust trust)
    {
        if (_wrong.TryGetValue(who, out var wrong)) return wrong < _options.MaxWrongDebugKeysPerMinute;
        return trust == CallerTrust.Trust || _wrongOfOthers < _options.MaxWrongDebugKeysPerMinute;
    }

    void CountWrong(UInt128 who, CallerTrust trust)
    {
        if (_wrong.TryGetValue(who, out var wrong)) _wrong[who] = wrong + 1;
        else if (_wrong.Count < MaxCallers) _wrong[who] = 1;
        else if (trust != CallerTrust.Trust) _wrongOfOthers++;
    }

    /// <summary>One stranger has a whole /64 of addresses in IPv6, so that is what counts as one caller.</summary>
    static UInt128 Network(IPAddress? caller)
    {
        if (caller is null) return UInt128.Zero;
        Span<byte> bytes = stackalloc byte[16];
        bytes.Clear();
        if (caller.IsIPv4MappedToIPv6) caller = caller.MapToIPv4();
        caller.TryWriteBytes(bytes, out _);
        if (caller.AddressFamily == AddressFamily.InterNetworkV6) bytes[8..].Clear();
        else bytes[15] = 4;
        return BinaryPrimitives.ReadUInt128BigEndian(bytes);
    }

    /// <summary>Which key it is, -1 for none. Looks at all of them to the end, so that the time says nothing.</summary>
    int IndexOf(string text)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(text));
        var found = -1;
        for (var i = 0; i < _keys.Length; i++)
        {
            if (CryptographicOperations.FixedTimeEquals(hash, _keys[i].Hash)) found = i;
        }

        return found;
    }

    DateTimeOffset? ReadToken(string token, string? traceId, DateTimeOffset now)
    {
        var dot = token.IndexOf('.', TokenMark.Length);
        if (traceId is null || dot < 0 || dot - TokenMark.Length > 11) return null;
        if (!long.TryParse(token.AsSpan(TokenMark.Length, dot - TokenMark.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var expiry)) return null;
        var mac = Encoding.UTF8.GetBytes(token[(dot + 1)..]);
        var isGood = false;
        foreach (var key in _keys) isGood |= CryptographicOperations.FixedTimeEquals(mac, Encoding.UTF8.GetBytes(Mac(key, traceId, expiry)));
        if (!isGood) return null;
        var until = DateTimeOffset.FromUnixTimeSeconds(expiry);
        return until > now ? until : null;
    }

    static string Mac(Key key, string traceId, long expiry)
    {
        var text = string.Create(CultureInfo.InvariantCulture, $"{expiry}.{traceId}");
        return Convert.ToBase64String(HMACSHA256.HashData(key.TokenKey, Encoding.UTF8.GetBytes(text))).TrimEnd('=').Replace('+', '-').Replace('/', '_');
    }
}
