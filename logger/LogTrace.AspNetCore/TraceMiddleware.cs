using System.Diagnostics;
using System.Globalization;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features.Authentication;

namespace LogTrace;

/// <summary>
/// Handles each request in a scope: judges the context that came with it, and writes the request's <c>request.info</c> when it is over, however it ends.
/// </summary>
public sealed class TraceMiddleware
{
    /// <summary>What nginx logs when the client goes away before it has its answer.</summary>
    const string ClientClosedRequest = "499";

    readonly RequestDelegate _next;
    readonly TraceLogger _logger;

    /// <summary>Made by <see cref="LogTraceApplicationExtensions.UseLogTrace"/>.</summary>
    public TraceMiddleware(RequestDelegate next, TraceLogger logger)
    {
        _next = next;
        _logger = logger;
    }

    /// <summary>Handles one request.</summary>
    public async Task InvokeAsync(HttpContext context)
    {
        ArgumentNullException.ThrowIfNull(context);
        // Before anything is asked of the context: a new feature makes it forget those it has looked up.
        var meter = BodyMeter.Install(context, _logger.Options.Instrumentation);
        var request = context.Request;
        var caller = context.Connection.RemoteIpAddress;
        CallerTrust trust;
        IncomingTrace incoming = default;
        if (request.QueryString.HasValue || !HasUsualHeadersOnly(request.Headers))
        {
            var connection = caller;
            string? forwardedFor = request.Headers["X-Forwarded-For"];
            caller = _logger.CallerOf(connection, forwardedFor);
            trust = _logger.TrustOf(connection, forwardedFor, request.Headers["Forwarded"], request.Headers["X-Real-IP"]);
            incoming = _logger.Judge(trust, request, GetHeader, caller);
        }
        else
        {
            trust = _logger.TrustOf(caller);
        }

        using var scope = _logger.StartRequest(string.Concat(request.Method, " ", request.PathBase.ToString(), request.Path.ToString()), request.QueryString.HasValue ? request.QueryString.Value![1..] : "", incoming);
        // What ProblemDetails and error pages show. With an Activity they show that one's id, whose trace id is ours.
        if (Activity.Current is null) context.TraceIdentifier = scope.TraceId;
        scope.ClientIp = caller?.ToString();
        scope.UserAgent = One(request.Headers.UserAgent);
        scope.Source = One(request.Headers.Referer);
        if (trust == CallerTrust.Trust || scope.IsDebug) meter.Announce(scope.TraceId);
        try
        {
            await _next(context);
            Close(context, scope, null, meter);
        }
        catch (Exception exception)
        {
            // Whatever it is: it is recorded here and answered by the server or a handler around this.
            Close(context, scope, exception, meter);
            throw;
        }
    }

    static void Close(HttpContext context, TraceContext scope, Exception? exception, BodyMeter meter)
    {
        var response = context.Response;
        var aborted = context.RequestAborted.IsCancellationRequested;
        // The server answers what nobody caught with 500, unless the answer is already under way.
        scope.Code ??= aborted ? ClientClosedRequest
            : (exception is not null && !response.HasStarted ? StatusCodes.Status500InternalServerError : response.StatusCode).ToString(CultureInfo.InvariantCulture);
        meter.End(scope, aborted);
        // Asking the context for a user would make one.
        if (context.Features.Get<IHttpAuthenticationFeature>()?.User?.Identity is { IsAuthenticated: true, Name: { } name }) scope.Uid ??= name;
        if (exception is not null) scope.Fail(exception);
        else if (response.StatusCode >= 500) Fail(context, scope);
        if (aborted) scope.AddExtra("aborted", true);
    }

    static void Fail(HttpContext context, TraceContext scope)
    {
        // A handler below this one may have made an answer of an exception.
        if (context.Features.Get<IExceptionHandlerFeature>()?.Error is { } failure) scope.Fail(failure);
        else scope.Fail(null, null);
    }

    /// <summary>
    /// True for a request without any header that says something of a trace, of debugging or of proxies. Most from outside have none, and counting the others is cheaper than looking
    /// for each of those.
    /// </summary>
    static bool HasUsualHeadersOnly(IHeaderDictionary headers)
    {
        var unknown = headers.Count;
        if (headers.Host.Count > 0) unknown--;
        if (unknown > 0 && headers.UserAgent.Count > 0) unknown--;
        if (unknown > 0 && headers.Accept.Count > 0) unknown--;
        if (unknown > 0 && headers.AcceptEncoding.Count > 0) unknown--;
        if (unknown > 0 && headers.AcceptLanguage.Count > 0) unknown--;
        if (unknown > 0 && headers.Connection.Count > 0) unknown--;
        if (unknown > 0 && headers.ContentType.Count > 0) unknown--;
        if (unknown > 0 && headers.ContentLength is not null) unknown--;
        if (unknown > 0 && headers.Authorization.Count > 0) unknown--;
        if (unknown > 0 && headers.Cookie.Count > 0) unknown--;
        if (unknown > 0 && headers.Referer.Count > 0) unknown--;
        return unknown == 0;
    }

    static string? GetHeader(HttpRequest request, string name)
    {
        var values = request.Headers[name];
        if (values.Count == 1) return values[0];
        // Only tracestate may come in parts. Two ids are none: joined they break the rules, where left out they would read as a request that has none.
        if (values.Count > 1) return name is TraceHeaders.TraceState or TraceHeaders.TraceId or TraceHeaders.RpcId ? values.ToString() : null;
        if (!request.QueryString.HasValue) return null;
        // Where a caller can send no headers it names the context in the query, both parts of it.
        return name switch
        {
            TraceHeaders.TraceId when One(request.Query["rpc_id"]) is not null => One(request.Query["trace_id"]),
            TraceHeaders.RpcId when request.Headers[TraceHeaders.TraceId].Count == 0 && One(request.Query["trace_id"]) is not null => One(request.Query["rpc_id"]),
            _ => null,
        };
    }

    static string? One(Microsoft.Extensions.Primitives.StringValues values) => values.Count == 1 ? values[0] : null;
}
