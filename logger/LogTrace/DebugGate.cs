using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace LogTrace;

/// <summary>
/// Decides whether a request is a debug request, and vouches for it towards our callees. The key stays here: callees get a token that
/// is good for one trace and a short time: <c>t1.EXPIRY.MAC</c>, expiry in seconds since the epoch, MAC = HMAC-SHA256 over both in base64url.
/// </summary>
sealed class DebugGate
{
    const string TokenMark = "t1.";

    readonly LogTraceOptions _options;
    readonly TimeProvider _time;
    readonly byte[] _keyHash;
    readonly byte[] _tokenKey;
    readonly Lock _gate = new();
    long _minute;
    int _started;
    int _wrong;

    public DebugGate(LogTraceOptions options, TimeProvider time)
    {
        _options = options;
        _time = time;
        var key = Encoding.UTF8.GetBytes(options.DebugKey);
        _keyHash = SHA256.HashData(key);
        // A key of its own for tokens: whoever sees many of them learns nothing for guessing the key itself offline but by trying it out.
        _tokenKey = HMACSHA256.HashData(key, "logtrace debug token 1"u8);
    }

    /// <summary>Until when callees may be told that this is a debug request; null when it is none.</summary>
    /// <param name="credential">What came in X-Debug-Key.</param>
    /// <param name="traceId">Trace that the request continues; null when it continues none that is trusted.</param>
    public DateTimeOffset? Admit(string? credential, string? traceId)
    {
        if (_options.DebugKey.Length == 0 || string.IsNullOrEmpty(credential) || credential.Length > 1024) return null;
        var now = _time.GetUtcNow();
        lock (_gate)
        {
            var minute = now.ToUnixTimeSeconds() / 60;
            if (minute != _minute) (_minute, _started, _wrong) = (minute, 0, 0);
            if (_wrong >= _options.MaxWrongDebugKeysPerMinute) return null;
        }

        var isToken = credential.StartsWith(TokenMark, StringComparison.Ordinal);
        var until = isToken ? ReadToken(credential, traceId, now) : IsKey(credential) ? now + _options.DebugTokenLifetime : null;
        lock (_gate)
        {
            if (until is null) _wrong++;
            // Tokens are as many as a debug request makes calls; the request itself was counted where it began.
            else if (!isToken && ++_started > _options.MaxDebugRequestsPerMinute) return null;
        }

        return until;
    }

    public string? Token(string traceId, DateTimeOffset until)
    {
        if (_options.DebugKey.Length == 0 || until <= _time.GetUtcNow()) return null;
        var expiry = until.ToUnixTimeSeconds();
        return string.Create(CultureInfo.InvariantCulture, $"{TokenMark}{expiry}.{Mac(traceId, expiry)}");
    }

    bool IsKey(string text) => CryptographicOperations.FixedTimeEquals(SHA256.HashData(Encoding.UTF8.GetBytes(text)), _keyHash);

    DateTimeOffset? ReadToken(string token, string? traceId, DateTimeOffset now)
    {
        var dot = token.IndexOf('.', TokenMark.Length);
        if (traceId is null || dot < 0 || dot - TokenMark.Length > 11) return null;
        if (!long.TryParse(token.AsSpan(TokenMark.Length, dot - TokenMark.Length), NumberStyles.None, CultureInfo.InvariantCulture, out var expiry)) return null;
        var expected = Encoding.UTF8.GetBytes(Mac(traceId, expiry));
        if (!CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(token[(dot + 1)..]), expected)) return null;
        var until = DateTimeOffset.FromUnixTimeSeconds(expiry);
        return until > now ? until : null;
    }

    string Mac(string traceId, long expiry)
    {
        var text = string.Create(CultureInfo.InvariantCulture, $"{expiry}.{traceId}");
        return System.Buffers.Text.Base64Url.EncodeToString(HMACSHA256.HashData(_tokenKey, Encoding.UTF8.GetBytes(text)));
    }
}
