using System.Globalization;
using System.Net;

namespace LogTrace;

/// <summary>One request on the wire as a call: what <see cref="TraceHttpHandler"/> and <see cref="HttpDiagnostics"/> have in common.</summary>
static class HttpCall
{
    const string GrpcType = "application/grpc";

    // On a request that is being recorded: whoever sees it further down leaves it alone.
    static readonly HttpRequestOptionsKey<TraceOperation> s_call = new("LogTrace.Call");

    // The same for one that goes all the way down in one go: a request's options cost more than all else that is done with it.
    [ThreadStatic]
    static HttpRequestMessage? t_passing;

    // The last host that was called: most services call few.
    static HostText s_host = new("", 0, "");

    sealed record HostText(string Host, int Port, string Text);

    public static TraceOperation? Of(HttpRequestMessage request) => request.Options.TryGetValue(s_call, out var call) ? call : null;

    /// <summary>Whether somebody further up records this request.</summary>
    public static bool IsRecorded(HttpRequestMessage request) => ReferenceEquals(t_passing, request) || Of(request) is not null;

    /// <summary>Makes a request one that is recorded until the call ends.</summary>
    public static void Mark(HttpRequestMessage request, TraceOperation call) => request.Options.Set(s_call, call);

    /// <summary>Makes a request one that is recorded while this thread hands it down.</summary>
    /// <returns>What to hand to <see cref="Passed"/>.</returns>
    public static HttpRequestMessage? Pass(HttpRequestMessage request)
    {
        var outer = t_passing;
        t_passing = request;
        return outer;
    }

    public static void Passed(HttpRequestMessage? outer) => t_passing = outer;

    /// <summary>Takes a number for the request and tells the callee. The request is not marked.</summary>
    /// <param name="mayTellDebug">Whether the callee, if it is one of ours, may know that this is a debug request.</param>
    public static TraceOperation? Begin(HttpRequestMessage request, string? clientName, bool mayTellDebug)
    {
        if (TraceContext.Current is not { } scope || request.RequestUri is not { IsAbsoluteUri: true } uri) return null;
        var isGrpc = request.Content?.Headers.ContentType?.MediaType?.StartsWith(GrpcType, StringComparison.Ordinal) == true;
        var url = UrlOf(uri);
        var call = scope.BeginCall(isGrpc ? "grpc.call" : NameOf(request.Method), url, url.Contains('?') ? uri.Query.TrimStart('?') : "");
        var host = uri.IdnHost;
        call.Host = HostOf(host, uri.Port);
        call.InstanceName = clientName;
        // Most requests have no headers yet, and none of ours.
        TraceHeaders.Write(call, request, request.Headers.NonValidated.Count == 0 ? AddHeader : SetHeader, mayTellDebug && scope.IsDebug && call.Logger.IsInternalHost(host));
        if (call.Logger.Options.Instrumentation.MaxRequestBodyBytes is var kept and > 0 && request.Content is { } content && HttpBody.IsText(content.Headers))
        {
            request.Content = new SentContent(content, call, kept);
        }

        return call;
    }

    /// <summary>
    /// The answer is there. The call ends when its body has been read, or with its scope: only then its length, its failures and a gRPC status are known, and the callee's own
    /// time lies within the caller's.
    /// </summary>
    public static void End(TraceOperation call, HttpRequestMessage request, HttpResponseMessage response)
    {
        Release(request);
        call.Code = ((int)response.StatusCode).ToString(CultureInfo.InvariantCulture);
        if ((int)response.StatusCode >= 500) call.Fail(call.Code, response.ReasonPhrase);
        call.DnsDuration = NameResolution.Within(call, request.RequestUri!.IdnHost);
        var length = response.Content.Headers.ContentLength;
        call.ResponseLength = length;
        if (length == 0 || request.Method == HttpMethod.Head || request.Method == HttpMethod.Connect
            || response.StatusCode is HttpStatusCode.SwitchingProtocols or HttpStatusCode.NoContent or HttpStatusCode.NotModified)
        {
            SetGrpcStatus(call, response);
            call.Dispose();
            return;
        }

        if (call.Pause()) response.Content = new ReceivedContent(response.Content, call, response);
        else call.Dispose();
    }

    public static void End(TraceOperation call, HttpRequestMessage request, Exception exception)
    {
        Release(request);
        call.DnsDuration = NameResolution.Within(call, request.RequestUri!.IdnHost);
        call.Fail(exception);
        call.Dispose();
    }

    /// <summary>gRPC says in a trailer how it went; HTTP's status says 200 whatever happened. Without that trailer the call was given up.</summary>
    public static void SetGrpcStatus(TraceOperation call, HttpResponseMessage response)
    {
        if (call.Name != "grpc.call") return;
        if (!TryGet(response.TrailingHeaders, "grpc-status", out var status) && !TryGet(response.Headers, "grpc-status", out status))
        {
            if (!call.IsFailed) call.Fail("cancelled", "The call was given up before its status came.");
            return;
        }

        call.Code = status;
        if (status == "0") return;
        if (!TryGet(response.TrailingHeaders, "grpc-message", out var message)) TryGet(response.Headers, "grpc-message", out message);
        call.Fail(status, message is null ? null : Uri.UnescapeDataString(message));
    }

    static bool TryGet(System.Net.Http.Headers.HttpResponseHeaders headers, string name, out string? value)
    {
        value = headers.TryGetValues(name, out var values) ? values.FirstOrDefault() : null;
        return value is not null;
    }

    // The request goes back to whoever sent it as it was: a retry sends the same one again.
    static void Release(HttpRequestMessage request)
    {
        if (request.Content is SentContent sent) request.Content = sent.Inner;
    }

    /// <summary>Takes back what <see cref="Mark"/> did.</summary>
    public static void Unmark(HttpRequestMessage request) => ((IDictionary<string, object?>)request.Options).Remove(s_call.Key);

    static string HostOf(string host, int port)
    {
        var last = s_host;
        if (last.Port != port || last.Host != host) s_host = last = new HostText(host, port, string.Create(CultureInfo.InvariantCulture, $"{host}:{port}"));
        return last.Text;
    }

    static string NameOf(HttpMethod method) => method.Method switch
    {
        "GET" => "http.get",
        "POST" => "http.post",
        "PUT" => "http.put",
        "DELETE" => "http.delete",
        "PATCH" => "http.patch",
        "HEAD" => "http.head",
        "OPTIONS" => "http.options",
        _ => "http.request",
    };

    static string UrlOf(Uri uri)
    {
        var url = uri.AbsoluteUri;
        return url.AsSpan().ContainsAny('@', '#') ? uri.GetComponents(UriComponents.HttpRequestUrl, UriFormat.UriEscaped) : url;
    }

    static void SetHeader(HttpRequestMessage request, string name, string? value)
    {
        // A request that is sent again has them from the last time.
        if (request.Headers.NonValidated.Contains(name)) request.Headers.Remove(name);
        AddHeader(request, name, value);
    }

    static void AddHeader(HttpRequestMessage request, string name, string? value)
    {
        if (value is not null) request.Headers.TryAddWithoutValidation(name, value);
    }
}
