using StackExchange.Redis;

namespace LogTrace;

/// <summary>Entry point for StackExchange.Redis.</summary>
public static class TraceRedisExtensions
{
    /// <summary>
    /// Records every command of the connection that is sent from within a scope: one <c>redis.request</c> with a number of its own, the command and its key as action. It uses the
    /// connection's profiler, of which there is one: <see cref="IConnectionMultiplexer.RegisterProfiler"/> must not be called besides.
    /// </summary>
    /// <remarks>
    /// A record is written soon after its command has completed, at the latest with its scope; it says when and how long the command ran. The profiler does not tell what a command answered:
    /// an error reply or a time-out is an exception at the caller and no <c>.error</c> here. A command that is still running when its scope ends, which a fire-and-forget one may be,
    /// carries <c>unfinished</c> in <c>extra</c>. Thread-safe.
    /// </remarks>
    /// <param name="connection">Commands that it sends before this call are not recorded.</param>
    /// <param name="instanceName">What records call the connection; its client name when null.</param>
    /// <returns>The connection itself.</returns>
    public static T WithTrace<T>(this T connection, string? instanceName = null)
        where T : IConnectionMultiplexer
    {
        ArgumentNullException.ThrowIfNull(connection);
        var profiler = new RedisProfiler(instanceName ?? connection.ClientName);
        connection.RegisterProfiler(profiler.Session);
        return connection;
    }
}
