using System.Threading.Channels;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Logger;

/// <summary>The table "Context" of the logger's README, row by row.</summary>
public sealed class ContextRulesTests
{
    static readonly TraceLogger s_tracer = new(new() { Service = "orders", Department = "d", ServerIp = "10.0.0.1", Instrumentation = new() { HttpClients = false, Databases = false } });

    [Fact]
    public async Task Tasks_threads_pool_and_parallel_loops_carry_the_scope()
    {
        using var scope = s_tracer.StartTrace("job");
        var seen = new List<TraceContext?> { await Task.Run(() => TraceContext.Current) };
        var thread = new Thread(() => seen.Add(TraceContext.Current));
        thread.Start();
        thread.Join();
        var queued = new TaskCompletionSource<TraceContext?>();
        ThreadPool.QueueUserWorkItem(_ => queued.SetResult(TraceContext.Current));
        seen.Add(await queued.Task.Within());
        Parallel.For(0, 100, _ =>
        {
            lock (seen) seen.Add(TraceContext.Current);
        });

        seen.Should().HaveCount(103).And.OnlyContain(current => current == scope);
    }

    [Fact]
    public async Task Unsafe_starts_carry_none()
    {
        using var scope = s_tracer.StartTrace("job");
        var seen = new TaskCompletionSource<TraceContext?>();
        ThreadPool.UnsafeQueueUserWorkItem(_ => seen.SetResult(TraceContext.Current), null);

        (await seen.Task.Within()).Should().BeNull();
    }

    [Fact]
    public async Task A_channel_carries_none_but_an_item_can_take_its_scope_along()
    {
        var channel = Channel.CreateUnbounded<TraceContext>();
        var consumer = Task.Run(async () =>
        {
            var item = await channel.Reader.ReadAsync();
            TraceContext.Current.Should().BeNull();
            using var call = item.BeginCall("redis.request", "GET a");
            return call.RpcId;
        });
        using var scope = s_tracer.StartTrace("job");
        await channel.Writer.WriteAsync(scope);

        (await consumer.Within()).Should().Be("1.2");
    }

    [Fact]
    public async Task A_timer_made_in_a_request_has_its_scope_until_the_request_ends_and_none_after()
    {
        var ticks = Channel.CreateUnbounded<TraceContext?>();
        Timer timer;
        TraceContext scope;
        using (scope = s_tracer.StartTrace("request"))
        {
            timer = new Timer(_ => ticks.Writer.TryWrite(TraceContext.Current), null, Timeout.Infinite, Timeout.Infinite);
            timer.Change(0, Timeout.Infinite);
            (await ticks.Reader.ReadAsync().AsTask().Within()).Should().BeSameAs(scope);
        }

        timer.Change(0, Timeout.Infinite);
        (await ticks.Reader.ReadAsync().AsTask().Within()).Should().BeNull();
        await timer.DisposeAsync();
    }

    [Fact]
    public async Task A_background_loop_that_a_request_started_traces_its_own_rounds_afterwards()
    {
        var over = new TaskCompletionSource();
        Task<string> loop;
        string request;
        using (var scope = s_tracer.StartTrace("request"))
        {
            request = scope.TraceId;
            loop = Task.Run(async () =>
            {
                await over.Task;
                TraceContext.Current.Should().BeNull();
                using var round = s_tracer.StartTrace("round");
                return round.TraceId;
            });
        }

        over.SetResult();
        (await loop.Within()).Should().NotBe(request);
    }
}
