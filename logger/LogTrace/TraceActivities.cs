using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using LogTrace.Records;

namespace LogTrace;

/// <summary>
/// Makes records of the activities that libraries emit. A client or producer activity is a call: it takes a number of the ambient scope when it starts and is written when it
/// stops, at the latest with the scope. An internal one is nobody's call, so it takes no number and becomes a <c>log.trace</c> line. Server and consumer ones are left alone: what
/// handles a request or message begins a scope.
/// </summary>
sealed class TraceActivities : IDisposable
{
    const string NpgsqlName = "Npgsql";
    const string MySqlName = "MySqlConnector";
    const string CallKey = "LogTrace.Call";
    const int MaxActionLength = 8192;
    const int MaxTags = 32;

    // A provider may say that an activity failed only after it has stopped (MySqlConnector does): until then, or until its scope ends, nothing is written.
    static readonly TimeSpan s_verdictTime = TimeSpan.FromSeconds(1);

    static readonly AsyncLocal<bool> s_quiet = new();
    static readonly ConditionalWeakTable<TraceContext, ScopeState> s_states = [];

    readonly TraceLogger _logger;
    readonly string[] _names;
    readonly ActivityListener _listener;

    public TraceActivities(TraceLogger logger, IEnumerable<string> names)
    {
        _logger = logger;
        _names = [.. names];
        _listener = new ActivityListener
        {
            ShouldListenTo = IsChosen,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => IsMine ? ActivitySamplingResult.AllData : ActivitySamplingResult.None,
            SampleUsingParentId = (ref ActivityCreationOptions<string> _) => IsMine ? ActivitySamplingResult.AllData : ActivitySamplingResult.None,
            ActivityStarted = Started,
            ActivityStopped = Stopped,
        };
        ActivitySource.AddActivityListener(_listener);
    }

    public static IReadOnlyList<string> Databases { get; } = [NpgsqlName, MySqlName];

    /// <summary>Whether activities of a database's client may be recorded. SQLite's emits none, and is so fast that silencing it would be felt.</summary>
    public static bool MayHear(TraceOperation call) => call.Logger.Options.Instrumentation is var options
        && (options.ActivitySources.Count > 0 || (options.Databases && !call.Name.StartsWith("sqlite.", StringComparison.Ordinal)));

    /// <summary>What a scope's activities have to know of each other.</summary>
    sealed class ScopeState
    {
        public List<(string Source, object? Connection, TraceOperation Call)> Connects { get; } = [];

        public Queue<TraceOperation> Unjudged { get; } = new();
    }

    /// <summary>Until it is disposed of, activities of this flow of control are not recorded: somebody else records what they stand for.</summary>
    public static Quiet BeQuiet()
    {
        if (s_quiet.Value) return default;
        s_quiet.Value = true;
        return new Quiet(true);
    }

    public readonly struct Quiet(bool isSet) : IDisposable
    {
        public void Dispose()
        {
            if (isSet) s_quiet.Value = false;
        }
    }

    bool IsMine => TraceContext.Current is { } scope && ReferenceEquals(scope.Logger, _logger) && !s_quiet.Value;

    // Requests of System.Net.Http are recorded where their headers are.
    bool IsChosen(ActivitySource source) => source.Name != "System.Net.Http"
        && Array.Exists(_names, name => name.EndsWith('*') ? source.Name.StartsWith(name[..^1], StringComparison.Ordinal) : source.Name == name);

    void Started(Activity activity)
    {
        // It may have been made for somebody else's listener.
        if (activity.Kind is not (ActivityKind.Client or ActivityKind.Producer or ActivityKind.Internal) || !IsMine) return;
        var scope = TraceContext.Current!;
        if (activity.Kind == ActivityKind.Internal)
        {
            activity.SetCustomProperty(CallKey, scope);
            return;
        }

        var call = Begin(scope, activity);
        call.Settle = () => Settle(call, activity);
        scope.Keep(call);
        activity.SetCustomProperty(CallKey, call);
    }

    void Stopped(Activity activity)
    {
        switch (activity.GetCustomProperty(CallKey))
        {
            case TraceContext scope when ReferenceEquals(scope.Logger, _logger):
                WriteLine(scope, activity);
                break;
            case TraceOperation call when ReferenceEquals(call.Logger, _logger):
                if (IsConnect(activity) && activity.Status != ActivityStatusCode.Error)
                {
                    var state = s_states.GetOrCreateValue(call.Scope);
                    lock (state) state.Connects.Add((activity.Source.Name, ConnectionOf(activity), call));
                }

                if (activity.Source.Name == MySqlName && activity.Status == ActivityStatusCode.Unset && !IsConnect(activity))
                {
                    call.EndTimestamp = _logger.Time.GetTimestamp();
                    var state = s_states.GetOrCreateValue(call.Scope);
                    lock (state) state.Unjudged.Enqueue(call);
                    break;
                }

                call.Scope.Release(call);
                call.Dispose();
                break;
        }
    }

    TraceOperation Begin(TraceContext scope, Activity activity)
    {
        if (!s_states.TryGetValue(scope, out var state)) return scope.BeginCall("activity.request");
        TraceOperation? connect = null;
        List<TraceOperation>? judged = null;
        lock (state)
        {
            while (state.Unjudged.TryPeek(out var first) && _logger.Time.GetElapsedTime(first.EndTimestamp) > s_verdictTime) (judged ??= []).Add(state.Unjudged.Dequeue());
            // The connect whose number this request shares: the one of its connection, where the provider tells that yet.
            var connection = ConnectionOf(activity);
            var index = IsConnect(activity) ? -1 : state.Connects.FindIndex(made => made.Source == activity.Source.Name && (connection is null || Equals(connection, made.Connection)));
            if (index >= 0)
            {
                connect = state.Connects[index].Call;
                state.Connects.RemoveAt(index);
            }
        }

        foreach (var call in judged ?? [])
        {
            scope.Release(call);
            call.Dispose();
        }

        return connect?.BeginPart("activity.request") ?? scope.BeginCall("activity.request");
    }

    static object? ConnectionOf(Activity activity) => activity.GetTagItem("db.connection_id");

    static bool IsConnect(Activity activity) =>
        activity.Source.Name == NpgsqlName ? activity.OperationName.StartsWith("CONNECT", StringComparison.Ordinal) : activity.Source.Name == MySqlName && activity.OperationName == "Open";

    /// <summary>What the record says is known when the activity is over.</summary>
    static void Settle(TraceOperation call, Activity activity)
    {
        var tags = new Tags(activity);
        var host = tags.Text("server.address", "net.peer.name", "net.peer.ip");
        var port = tags.Text("server.port", "net.peer.port");
        call.Host = host is null || port is null ? host : $"{host}:{port}";
        call.Db = tags.Text("db.namespace", "db.name");
        var system = tags.Text("db.system.name", "db.system");
        if (activity.Source.Name is NpgsqlName or MySqlName || system is not null)
        {
            call.Name = Word(activity.Source.Name switch { NpgsqlName => "pgsql", MySqlName => "mysql", _ => ShortName(system!) }) + (IsConnect(activity) ? ".connect" : ".request");
            // A statement without text is one that the provider sends by itself: Commit, Rollback, a batch.
            var text = tags.Text("db.query.text", "db.statement");
            call.Action = IsConnect(activity) ? "" : TraceDbTarget.Bounded(text ?? activity.OperationName.ToUpperInvariant(), MaxActionLength);
        }
        else
        {
            (call.Name, call.Action) = Describe(activity, tags);
            foreach (var (key, value) in activity.TagObjects.Take(MaxTags)) call.AddExtra(key, value is string or bool or int or long or double ? value : value?.ToString());
        }

        call.Code ??= tags.Text("http.response.status_code", "http.status_code", "rpc.grpc.status_code");
        if (host is not null) call.DnsDuration = NameResolution.Within(call, host);
        if (activity.Status == ActivityStatusCode.Error) Fail(call, activity, tags);
    }

    static void Fail(TraceOperation call, Activity activity, Tags tags)
    {
        var exception = activity.Events.LastOrDefault(happened => happened.Name == "exception").Tags?.ToDictionary(tag => tag.Key, tag => tag.Value?.ToString());
        var type = exception?.GetValueOrDefault("exception.type") ?? tags.Text("error.type");
        var isCancelled = type is not null && type.EndsWith("CanceledException", StringComparison.Ordinal);
        call.Code = isCancelled ? "cancelled" : tags.Text("db.response.status_code") ?? call.Code ?? type?[(type.LastIndexOf('.') + 1)..];
        call.Backtrace ??= exception?.GetValueOrDefault("exception.stacktrace");
        call.Fail(call.Code, exception?.GetValueOrDefault("exception.message") ?? activity.StatusDescription);
    }

    static (string Name, string Action) Describe(Activity activity, Tags tags)
    {
        if (tags.Text("messaging.system") is { } broker)
        {
            var operation = tags.Text("messaging.operation.type", "messaging.operation");
            var verb = activity.Kind == ActivityKind.Producer || operation is "publish" or "send" or "create" ? "produce" : operation is "receive" or "poll" ? "consume" : "request";
            return ($"{Word(broker)}.{verb}", tags.Text("messaging.destination.name", "messaging.destination") ?? activity.DisplayName);
        }

        if (tags.Text("rpc.system.name", "rpc.system") is { } rpc)
        {
            var (service, method) = (tags.Text("rpc.service"), tags.Text("rpc.method"));
            return ($"{Word(rpc)}.call", service is null ? method ?? activity.DisplayName : $"{service}/{method}");
        }

        if (tags.Text("http.request.method", "http.method") is { } verbOfHttp) return ($"http.{Word(verbOfHttp)}", tags.Text("url.full", "http.url") ?? activity.DisplayName);
        return ($"{Word(activity.Source.Name[(activity.Source.Name.LastIndexOf('.') + 1)..])}.request", activity.DisplayName);
    }

    void WriteLine(TraceContext scope, Activity activity)
    {
        var extra = new List<KeyValuePair<string, object?>>
        {
            new("source", activity.Source.Name),
            new("duration", activity.Duration.TotalSeconds),
        };
        if (activity.Status == ActivityStatusCode.Error) extra.Add(new("error", activity.StatusDescription ?? "true"));
        foreach (var (key, value) in activity.TagObjects.Take(MaxTags)) extra.Add(new(key, value is string or bool or int or long or double ? value : value?.ToString()));
        _logger.WriteRecord(new RecordEntry(_logger, "log.trace", activity.DisplayName, extra, scope));
    }

    static string ShortName(string system) => system switch
    {
        "postgresql" => "pgsql",
        "mariadb" => "mysql",
        "microsoft.sql_server" or "mssql" => "sqlserver",
        "mongodb" => "mongo",
        "memcached" => "memcache",
        _ => system,
    };

    // What comes before the dot has to be one word.
    static string Word(string text)
    {
        var word = string.Concat(text.Where(char.IsAsciiLetterOrDigit)).ToLower(CultureInfo.InvariantCulture);
        return word.Length == 0 ? "activity" : word;
    }

    public void Dispose() => _listener.Dispose();

    readonly struct Tags(Activity activity)
    {
        /// <summary>The first of them that is there: conventions have renamed them, and libraries follow at their own pace.</summary>
        public string? Text(params ReadOnlySpan<string> names)
        {
            foreach (var name in names)
                if (activity.GetTagItem(name) is { } value && Convert.ToString(value, CultureInfo.InvariantCulture) is { Length: > 0 } text) return text;
            return null;
        }
    }
}
