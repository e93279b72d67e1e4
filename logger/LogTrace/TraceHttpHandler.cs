using System.Diagnostics;
using System.Net;
using System.Runtime.CompilerServices;

namespace LogTrace;

/// <summary>
/// Makes each request that an <see cref="HttpClient"/> sends a call of the ambient scope: it takes a number, tells the callee in headers, and writes
/// one <c>http.get</c>, <c>http.post</c>, ... record (<c>grpc.call</c> for gRPC), <c>.error</c> on an exception or a status of 500 and above, also when it is cancelled. The call ends
/// when the response's body has been read, was disposed of or failed, at the latest with its scope. Has to sit innermost, so that each attempt of a retry takes a number of its own. Does nothing outside a scope.
/// </summary>
/// <remarks>
/// The primary handler below would send all headers on to wherever a redirect leads. So this handler follows redirects itself, by the rules of
/// <see cref="SocketsHttpHandler"/>: each hop is a call with a number, and another host is not told of a debug request.
/// </remarks>
public sealed class TraceHttpHandler : DelegatingHandler
{
    // A primary handler can be handed out again and has then been switched off already.
    static readonly ConditionalWeakTable<HttpMessageHandler, RedirectLimit> s_taken = [];

    RedirectLimit? _redirects;
    bool _innerRedirects;
    bool _isLast;
    bool _looked;
    volatile bool _isUsed;

    sealed record RedirectLimit(int Hops);

    /// <summary>For chains that set <see cref="DelegatingHandler.InnerHandler"/> themselves, such as IHttpClientFactory's.</summary>
    public TraceHttpHandler()
    {
    }

    /// <summary>For a client of one's own: <c>new HttpClient(new TraceHttpHandler(new SocketsHttpHandler()))</c>.</summary>
    public TraceHttpHandler(HttpMessageHandler innerHandler)
        : base(innerHandler)
    {
    }

    /// <summary>
    /// Name of the client, which calls carry as instance_name: it names the callee also when the callee's records are lost. IHttpClientFactory's clients
    /// have the name they were registered under. Default none.
    /// </summary>
    public string? ClientName { get; init; }

    /// <inheritdoc/>
    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        LookBelow();
        var origin = request.RequestUri;
        for (var hop = 0; ; hop++)
        {
            var call = Begin(request, origin, out var isMarked);
            HttpResponseMessage response;
            try
            {
                response = await (_isLast && call is not null ? PassAsync(request, cancellationToken) : base.SendAsync(request, cancellationToken)).ConfigureAwait(false);
                if (isMarked) HttpCall.Unmark(request);
                if (call is not null) HttpCall.End(call, request, response);
                _isUsed = true;
            }
            catch (Exception exception)
            {
                // Whatever it is: it is recorded here and handled by the caller.
                if (isMarked) HttpCall.Unmark(request);
                if (call is not null) HttpCall.End(call, request, exception);
                throw;
            }

            if (!TryRedirect(request, response, hop)) return response;
        }
    }

    /// <inheritdoc/>
    protected override HttpResponseMessage Send(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(request);
        LookBelow();
        var origin = request.RequestUri;
        for (var hop = 0; ; hop++)
        {
            var call = Begin(request, origin, out var isMarked);
            HttpResponseMessage response;
            try
            {
                response = _isLast && call is not null ? Pass(request, cancellationToken) : base.Send(request, cancellationToken);
                if (isMarked) HttpCall.Unmark(request);
                if (call is not null) HttpCall.End(call, request, response);
            }
            catch (Exception exception)
            {
                // As in SendAsync.
                if (isMarked) HttpCall.Unmark(request);
                if (call is not null) HttpCall.End(call, request, exception);
                throw;
            }

            if (!TryRedirect(request, response, hop)) return response;
        }
    }

    /// <summary>Hands down a recorded request where only .NET's own handler is below: it comes to where others could record it before this returns, but for the first, for which that handler is built.</summary>
    Task<HttpResponseMessage> PassAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var outer = HttpCall.Pass(request);
        try
        {
            // Where there is one, .NET makes another for each request, only to send headers that ours have taken the place of.
            if (Activity.Current is not { } activity || !HttpDiagnostics.IsActivityUnseen(request)) return base.SendAsync(request, cancellationToken);
            Activity.Current = null;
            try
            {
                return base.SendAsync(request, cancellationToken);
            }
            finally
            {
                Activity.Current = activity;
            }
        }
        finally
        {
            HttpCall.Passed(outer);
        }
    }

    /// <summary>The same for a caller that waits.</summary>
    HttpResponseMessage Pass(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        var outer = HttpCall.Pass(request);
        try
        {
            return base.Send(request, cancellationToken);
        }
        finally
        {
            HttpCall.Passed(outer);
        }
    }

    TraceOperation? Begin(HttpRequestMessage request, Uri? origin, out bool isMarked)
    {
        var uri = request.RequestUri;
        var sameHost = origin is not null && (ReferenceEquals(uri, origin) || string.Equals(uri?.IdnHost, origin.IdnHost, StringComparison.OrdinalIgnoreCase));
        var call = HttpCall.Begin(request, ClientName, sameHost && !_innerRedirects);
        isMarked = call is not null && !(_isLast && _isUsed);
        if (isMarked) HttpCall.Mark(request, call!);
        return call;
    }

    void LookBelow()
    {
        if (_looked) return;
        var handler = InnerHandler;
        while (handler is DelegatingHandler { InnerHandler: { } inner }) handler = inner;
        if (handler is not null) TakeRedirects(handler);
        // Then no code of somebody else is below, which may want to see the activity, and a request comes down once.
        _isLast = handler == InnerHandler && !_innerRedirects && (handler is SocketsHttpHandler || handler?.GetType() == typeof(HttpClientHandler));
        _looked = true;
    }

    void TakeRedirects(HttpMessageHandler handler)
    {
        lock (s_taken)
        {
            if (s_taken.TryGetValue(handler, out _redirects)) return;
            var (follows, hops, credentials) = handler switch
            {
                SocketsHttpHandler sockets => (sockets.AllowAutoRedirect, sockets.MaxAutomaticRedirections, sockets.Credentials),
                HttpClientHandler client => (client.AllowAutoRedirect, client.MaxAutomaticRedirections, client.Credentials),
                _ => (false, 0, null),
            };
            if (!follows) return;
            try
            {
                // Credentials for any host must not answer wherever a redirect leads; only the handler itself can see to that.
                if (credentials is not (null or CredentialCache)) throw new InvalidOperationException();
                if (handler is SocketsHttpHandler sockets) sockets.AllowAutoRedirect = false;
                else ((HttpClientHandler)handler).AllowAutoRedirect = false;
                _redirects = new RedirectLimit(hops);
                s_taken.Add(handler, _redirects);
            }
            catch (InvalidOperationException)
            {
                // It was used before and cannot be changed, or must not be: then it follows redirects, and nobody is told of debug requests through it.
                _innerRedirects = true;
            }
        }
    }

    bool TryRedirect(HttpRequestMessage request, HttpResponseMessage response, int hop)
    {
        if (_redirects is null || hop >= _redirects.Hops || request.RequestUri is not { } uri) return false;
        if (response.StatusCode is not (HttpStatusCode.MultipleChoices or HttpStatusCode.MovedPermanently or HttpStatusCode.Found or HttpStatusCode.SeeOther
            or HttpStatusCode.TemporaryRedirect or HttpStatusCode.PermanentRedirect) || response.Headers.Location is not { } location) return false;
        var next = location.IsAbsoluteUri ? location : new Uri(uri, location);
        if (next.Scheme != Uri.UriSchemeHttps && (next.Scheme != Uri.UriSchemeHttp || uri.Scheme == Uri.UriSchemeHttps)) return false;
        if (uri.Fragment.Length > 0 && next.Fragment.Length == 0) next = new UriBuilder(next) { Fragment = uri.Fragment }.Uri;
        var becomesGet = response.StatusCode switch
        {
            HttpStatusCode.SeeOther => request.Method != HttpMethod.Get && request.Method != HttpMethod.Head,
            HttpStatusCode.TemporaryRedirect or HttpStatusCode.PermanentRedirect => false,
            _ => request.Method == HttpMethod.Post,
        };
        if (becomesGet)
        {
            request.Method = HttpMethod.Get;
            request.Content = null;
            if (request.Headers.TransferEncodingChunked == true) request.Headers.TransferEncodingChunked = false;
        }

        request.RequestUri = next;
        request.Headers.Authorization = null;
        response.Dispose();
        return true;
    }
}
