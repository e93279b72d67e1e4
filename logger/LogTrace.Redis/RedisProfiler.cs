using System.Globalization;
using System.Net;
using System.Reflection;
using System.Runtime.CompilerServices;
using StackExchange.Redis.Profiling;

namespace LogTrace;

/// <summary>
/// Gives each command a profiling session of its own, together with a number of the scope it is sent from: so the number is taken when the command is sent, as with any other call,
/// though the profiler tells of it only later, and only when asked.
/// </summary>
sealed class RedisProfiler(string instanceName)
{
    // The key is in the message, which is internal; without it the action is the command alone. OpenTelemetry's instrumentation looks there as well.
    static FieldInfo? s_message;
    static PropertyInfo? s_commandAndKey;

    readonly ConditionalWeakTable<TraceContext, Commands> _commands = [];

    /// <summary>Called for each command when it is about to be sent, by whoever sends it.</summary>
    public ProfilingSession? Session()
    {
        if (TraceContext.Current is not { } scope) return null;
        var call = scope.BeginCall("redis.request");
        call.InstanceName = instanceName;
        var session = new ProfilingSession();
        Of(scope).Add(call, session);
        return session;
    }

    Commands Of(TraceContext scope) => _commands.GetValue(scope, static scope =>
    {
        var commands = new Commands();
        scope.Closing += commands.Close;
        return commands;
    });

    /// <summary>A scope's commands that were not written yet, in the order of their numbers.</summary>
    sealed class Commands
    {
        readonly Queue<(TraceOperation Call, ProfilingSession Session)> _open = new();
        bool _isClosed;

        public void Add(TraceOperation call, ProfilingSession session)
        {
            lock (_open)
            {
                // Those that are done make room for the next one, so that a long scope keeps no more than what is under way.
                while (_open.TryPeek(out var first) && TryWrite(first.Call, first.Session)) _open.Dequeue();
                if (!_isClosed)
                {
                    _open.Enqueue((call, session));
                    return;
                }
            }

            Unfinished(call);
        }

        public void Close()
        {
            lock (_open)
            {
                _isClosed = true;
                while (_open.TryDequeue(out var left))
                    if (!TryWrite(left.Call, left.Session)) Unfinished(left.Call);
            }
        }

        static void Unfinished(TraceOperation call)
        {
            call.AddExtra("unfinished", true);
            call.Dispose();
        }
    }

    static bool TryWrite(TraceOperation call, ProfilingSession session)
    {
        var attempts = 0;
        IProfiledCommand? last = null;
        foreach (var command in session.FinishProfiling())
        {
            attempts++;
            if (last is null || command.CommandCreated + command.ElapsedTime > last.CommandCreated + last.ElapsedTime) last = command;
        }

        if (last is null) return false;
        call.Action = CommandAndKey(last);
        call.Host = HostOf(last.EndPoint);
        call.Db = last.Db < 0 ? null : last.Db.ToString(CultureInfo.InvariantCulture);
        // A command that the cluster sent elsewhere is sent again under its number.
        if (attempts > 1) call.AddExtra("sent", attempts);
        if (last.Flags.HasFlag(StackExchange.Redis.CommandFlags.FireAndForget)) call.AddExtra("fire_and_forget", true);
        call.EndedAfter(last.ElapsedTime);
        call.Dispose();
        return true;
    }

    static string CommandAndKey(IProfiledCommand command)
    {
        var message = (s_message ??= command.GetType().GetField("Message", BindingFlags.NonPublic | BindingFlags.Instance))?.GetValue(command);
        var property = s_commandAndKey ??= message?.GetType().GetProperty("CommandAndKey", BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance);
        return message is not null && property?.DeclaringType?.IsInstanceOfType(message) == true && property.GetValue(message) is string text ? text : command.Command;
    }

    static string? HostOf(EndPoint? server) => server switch
    {
        DnsEndPoint named => string.Create(CultureInfo.InvariantCulture, $"{named.Host}:{named.Port}"),
        null => null,
        _ => server.ToString(),
    };
}
