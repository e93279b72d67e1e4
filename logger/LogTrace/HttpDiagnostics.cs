using System.Diagnostics;
using System.Reflection;

namespace LogTrace;

/// <summary>
/// Records the requests of HTTP clients without a <see cref="TraceHttpHandler"/>. .NET tells its diagnostic listeners of each hop of a request before it is sent, where headers can
/// still be added, and after its answer's headers are there.
/// </summary>
/// <remarks>The events' payloads are private types of System.Net.Http, whose properties have kept their names since .NET Core 3: OpenTelemetry reads them, too.</remarks>
sealed class HttpDiagnostics : IObserver<DiagnosticListener>, IObserver<KeyValuePair<string, object?>>, IDisposable
{
    const string ListenerName = "HttpHandlerDiagnosticListener";
    const string Activity = "System.Net.Http.HttpRequestOut";
    const string Start = Activity + ".Start";
    const string Stop = Activity + ".Stop";
    const string Failed = "System.Net.Http.Exception";

    // The first address of a request that .NET sends on where it is redirected to; where the next hop's record finds the last one's exception.
    static readonly HttpRequestOptionsKey<string> s_firstHost = new("LogTrace.FirstHost");
    static readonly HttpRequestOptionsKey<Exception> s_exception = new("LogTrace.Exception");

    // The same for all subscribers; null until .NET has sent something.
    static DiagnosticListener? s_events;

    // Has the listeners that .NET's own has.
    static readonly ActivitySource s_activities = new("System.Net.Http");

    readonly TraceLogger _logger;
    readonly IDisposable _listeners;
    readonly PayloadProperty _startRequest = new("Request");
    readonly PayloadProperty _stopRequest = new("Request");
    readonly PayloadProperty _stopResponse = new("Response");
    readonly PayloadProperty _stopStatus = new("RequestTaskStatus");
    readonly PayloadProperty _failedRequest = new("Request");
    readonly PayloadProperty _failedException = new("Exception");
    IDisposable? _events;

    public HttpDiagnostics(TraceLogger logger)
    {
        _logger = logger;
        _listeners = DiagnosticListener.AllListeners.Subscribe(this);
    }

    public void OnNext(DiagnosticListener listener)
    {
        // Asked before anything is made of a request, so that one outside a scope costs what it cost before.
        if (listener.Name != ListenerName) return;
        _events ??= listener.Subscribe(this, (name, argument, _) => name switch
        {
            Activity or Start => IsMine && (argument is not HttpRequestMessage request || !HttpCall.IsRecorded(request)),
            Stop or Failed => IsMine,
            // Events of older versions of .NET, which are sent as well.
            _ => false,
        });
        Volatile.Write(ref s_events, listener);
    }

    /// <summary>True when nobody wants to see the activity that .NET would make for a request that is recorded already.</summary>
    public static bool IsActivityUnseen(HttpRequestMessage request) =>
        Volatile.Read(ref s_events) is { } events && !s_activities.HasListeners() && !events.IsEnabled(Activity, request);

    public void OnNext(KeyValuePair<string, object?> item)
    {
        switch (item.Key)
        {
            case Start when IsMine && _startRequest.Of(item.Value) is HttpRequestMessage request && !HttpCall.IsRecorded(request):
                if (!request.Options.TryGetValue(s_firstHost, out var firstHost)) request.Options.Set(s_firstHost, firstHost = request.RequestUri?.IdnHost ?? "");
                if (HttpCall.Begin(request, null, string.Equals(firstHost, request.RequestUri?.IdnHost, StringComparison.OrdinalIgnoreCase)) is { } begun) Mark(request, begun);
                break;
            case Failed when _failedRequest.Of(item.Value) is HttpRequestMessage request && IsMarked(request) && _failedException.Of(item.Value) is Exception exception:
                request.Options.Set(s_exception, exception);
                break;
            case Stop when _stopRequest.Of(item.Value) is HttpRequestMessage request && IsMarked(request):
                var call = HttpCall.Of(request)!;
                ((IDictionary<string, object?>)request.Options).Remove(s_marked.Key);
                HttpCall.Unmark(request);
                if (_stopResponse.Of(item.Value) is HttpResponseMessage response) HttpCall.End(call, request, response);
                else HttpCall.End(call, request, ExceptionOf(request, _stopStatus.Of(item.Value)));
                break;
        }
    }

    // The call is this logger's; the handler's requests pass here as well.
    static readonly HttpRequestOptionsKey<TraceLogger> s_marked = new("LogTrace.Diagnostics");

    bool IsMine => TraceContext.Current is { } scope && ReferenceEquals(scope.Logger, _logger);

    static void Mark(HttpRequestMessage request, TraceOperation call)
    {
        HttpCall.Mark(request, call);
        request.Options.Set(s_marked, call.Logger);
    }

    bool IsMarked(HttpRequestMessage request) => request.Options.TryGetValue(s_marked, out var logger) && ReferenceEquals(logger, _logger);

    static Exception ExceptionOf(HttpRequestMessage request, object? status) =>
        request.Options.TryGetValue(s_exception, out var exception) ? exception
        : status is TaskStatus.Canceled ? new OperationCanceledException() : new HttpRequestException("The request failed.");

    public void OnCompleted()
    {
    }

    public void OnError(Exception error)
    {
    }

    public void Dispose()
    {
        _listeners.Dispose();
        _events?.Dispose();
    }

    /// <summary>A property of payloads that are all of one type.</summary>
    sealed class PayloadProperty(string name)
    {
        PropertyInfo? _property;

        public object? Of(object? payload)
        {
            if (payload is null) return null;
            var property = _property;
            if (property?.DeclaringType != payload.GetType()) _property = property = payload.GetType().GetProperty(name);
            return property?.GetValue(payload);
        }
    }
}
