using System.Diagnostics;
using LogTrace.Records;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Logger;

public sealed class TraceContextTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly TraceLogger _logger;

    public TraceContextTests() => _logger = new TraceLogger(TestService.Options("orders", _folder["orders.log"]));

    public void Dispose()
    {
        _logger.Dispose();
        _folder.Dispose();
    }

    List<TraceRecord> Records()
    {
        _logger.Dispose();
        return Written.Records(_folder["orders.log"]);
    }

    [Fact]
    public async Task A_thousand_calls_at_once_get_a_thousand_numbers()
    {
        using (_logger.StartTrace("load"))
        {
            await Task.WhenAll(Enumerable.Range(0, 1000).Select(i => Task.Run(async () =>
            {
                using var call = TraceOperation.Begin("redis.request", $"GET {i}");
                await Task.Yield();
            })));
        }

        var records = Records();
        records.Where(record => record.Name == "redis.request").Select(record => record.RpcId!.Value.LastNumber).Should().BeEquivalentTo(Enumerable.Range(2, 1000).Select(number => (long)number));
        records.Where(record => record.Name == "redis.request").Select(record => record.SpanId).Should().OnlyHaveUniqueItems();
        records.Single(record => record.Name == "request.info").RpcId!.Value.Text.Should().Be("1.1");
    }

    [Fact]
    public async Task Branches_take_a_number_each_and_end_at_their_own_first_place()
    {
        using (_logger.StartTrace("fork"))
        {
            using (TraceOperation.Begin("redis.request", "before"))
            {
            }

            await Task.WhenAll(Branch("stock", 2), Branch("payment", 1));
            using (TraceOperation.Begin("redis.request", "after"))
            {
            }

            TraceContext.Current!.CurrentRpcId.Should().Be("1.5");
        }

        var records = Records();
        records.OrderBy(record => record.RpcId!.Value).Select(record => $"{record.RpcId} {record.Name} {record.Action}").Should().Equal(
            "1.1 request.info fork", "1.2 redis.request before",
            "1.3.1 fork.info stock", "1.3.2 redis.request stock 0", "1.3.3 redis.request stock 1",
            "1.4.1 fork.info payment", "1.4.2 redis.request payment 0",
            "1.5 redis.request after");
        var request = records.Single(record => record.Name == "request.info");
        var fork = records.Single(record => record.Action == "stock");
        fork.ParentSpanId.Should().Be(request.SpanId);
        records.Where(record => record.Action!.StartsWith("stock ", StringComparison.Ordinal)).Should().OnlyContain(record => record.ParentSpanId == fork.SpanId);

        static Task Branch(string name, int calls) => TraceContext.ForkAsync(name, async () =>
        {
            for (var i = 0; i < calls; i++)
            {
                using var call = TraceOperation.Begin("redis.request", $"{name} {i}");
                await Task.Yield();
            }
        });
    }

    /// <summary>So that a reader can tell where a request belongs whose caller's records are lost.</summary>
    [Theory]
    [InlineData(0xabcul)]
    [InlineData(0ul)]
    public async Task Span_ids_are_bound_to_what_caused_them(ulong parent)
    {
        using (_logger.StartRequest("POST /orders", "", new IncomingTrace { TraceId = "t-1", Prefix = "1.3", ParentSpan = parent }))
        {
            using (TraceOperation.Begin("redis.request", "call"))
            {
            }

            await TraceContext.ForkAsync("branch", () =>
            {
                using var call = TraceContext.Current!.Call("redis.request", "within");
                return Task.CompletedTask;
            });
        }

        var records = Records().ToDictionary(record => record.Action!);
        var (request, branch) = (Span("POST /orders"), Span("branch"));
        BoundSpan.IsBound(request, parent, 0).Should().BeTrue();
        BoundSpan.IsBound(Span("call"), parent == 0 ? request : parent, 2).Should().BeTrue("the call that came in is known on both sides");
        BoundSpan.IsBound(branch, request, 3).Should().BeTrue();
        BoundSpan.IsBound(Span("within"), branch, 2).Should().BeTrue();

        ulong Span(string action) => ulong.Parse(records[action].SpanId!, System.Globalization.NumberStyles.HexNumber, System.Globalization.CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task A_call_that_throws_or_is_cancelled_ends_in_one_error_record()
    {
        using (_logger.StartTrace("errors"))
        {
            await Assert.ThrowsAsync<TimeoutException>(() => TraceOperation.RunAsync<int>("mysql.request", "select 1", _ => throw new TimeoutException("too slow")));
            await Assert.ThrowsAsync<TaskCanceledException>(() => TraceOperation.RunAsync("mysql.request", "select 2", _ => Task.FromCanceled<int>(new CancellationToken(true))));
            await Assert.ThrowsAsync<ArgumentException>(() => TraceContext.ForkAsync("branch", () => throw new ArgumentException("bad")));
        }

        var records = Records().OrderBy(record => record.RpcId!.Value).ToList();
        records.Select(record => $"{record.RpcId} {record.Name} {record.Code}").Should().Equal(
            "1.1 request.info ", "1.2 mysql.request.error TimeoutException", "1.3 mysql.request.error cancelled", "1.4.1 fork.info.error ArgumentException");
        records[1].Msg.Should().Be("too slow");
        records[1].Backtrace.Should().Contain(nameof(A_call_that_throws_or_is_cancelled_ends_in_one_error_record));
    }

    [Fact]
    public async Task Ending_twice_from_many_threads_writes_one_record()
    {
        using var scope = _logger.StartTrace("once");
        var call = scope.BeginCall("redis.request", "GET x");

        await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Task.Run(call.Dispose)));

        scope.Dispose();
        Records().Select(record => record.Name).Should().BeEquivalentTo(["redis.request", "request.info"]);
    }

    [Fact]
    public async Task Work_that_outlives_its_request_loses_the_context()
    {
        var go = new TaskCompletionSource();
        Task<TraceContext?> late;
        using (_logger.StartTrace("request"))
        {
            late = Task.Run(async () =>
            {
                await go.Task;
                return TraceContext.Current;
            });
        }

        go.SetResult();

        (await late.Within()).Should().BeNull();
        TraceContext.Current.Should().BeNull();
    }

    [Fact]
    public async Task Work_that_outlives_its_branch_goes_on_in_the_request()
    {
        var go = new TaskCompletionSource();
        Task<TraceContext?>? late = null;
        using var request = _logger.StartTrace("request");
        await TraceContext.ForkAsync("branch", () =>
        {
            late = Task.Run(async () =>
            {
                await go.Task;
                return TraceContext.Current;
            });
            return Task.CompletedTask;
        });

        go.SetResult();

        (await late!.Within()).Should().BeSameAs(request);
    }

    [Fact]
    public void Detached_work_sees_no_context()
    {
        using var request = _logger.StartTrace("request");
        TraceContext? seen = request;

        TraceContext.Detached(() => seen = TraceContext.Current);

        seen.Should().BeNull();
        TraceContext.Current.Should().BeSameAs(request);
    }

    [Fact]
    public void A_connect_and_its_request_share_a_number()
    {
        using (_logger.StartTrace("connect"))
        {
            var connect = TraceOperation.Begin("mysql.connect")!;
            connect.Dispose();
            using var query = connect.BeginPart("mysql.request", "select 1");
        }

        var calls = Records().Where(record => record.Kind == RecordKind.Client).ToList();
        calls.Select(record => $"{record.RpcId} {record.Name}").Should().Equal("1.2 mysql.connect", "1.2 mysql.request");
        calls.Select(record => record.SpanId).Distinct().Should().ContainSingle();
    }

    [Fact]
    public void A_message_continues_the_trace_that_it_carries()
    {
        var headers = new Dictionary<string, string>();
        using (_logger.StartTrace("producer"))
        {
            using var call = TraceOperation.Begin("kafka.produce", "orders")!;
            TraceHeaders.Write(call, headers, (carrier, name, value) =>
            {
                if (value is null) carrier.Remove(name);
                else carrier[name] = value;
            }, calleeIsInternal: false);
        }

        using (_logger.StartRequest("orders", "", _logger.Judge(CallerTrust.Trust, headers, (carrier, name) => carrier.GetValueOrDefault(name))))
        {
        }

        var records = Records();
        records.Select(record => $"{record.RpcId} {record.Name}").Should().Equal("1.2 kafka.produce", "1.1 request.info", "1.2.1 request.info");
        records[2].TraceId.Should().Be(records[0].TraceId);
        records[2].ParentSpanId.Should().Be(records[0].SpanId);
    }

    [Fact]
    public void A_new_trace_takes_the_id_of_an_activity_that_began_here()
    {
        using var activity = new Activity("local").SetIdFormat(ActivityIdFormat.W3C).Start();

        using var scope = _logger.StartTrace("job");

        scope.TraceId.Should().Be(activity.TraceId.ToHexString());
    }

    [Fact]
    public void A_second_trace_under_one_activity_gets_an_id_of_its_own()
    {
        using var activity = new Activity("local").SetIdFormat(ActivityIdFormat.W3C).Start();
        using var request = _logger.StartTrace("request");
        using var child = new Activity("child").Start();

        using var job = _logger.StartTrace("job");

        job.TraceId.Should().NotBe(request.TraceId, "both count their calls from 1.2");
    }

    [Fact]
    public void A_value_whose_text_cannot_be_had_breaks_no_record()
    {
        using (var job = _logger.StartTrace("job")) job.AddExtra("bad", new Broken());

        Records().Single().ExtraJson.Should().Be("""{"bad":"(Broken.ToString threw InvalidOperationException)"}""");
    }

    sealed class Broken
    {
        public override string ToString() => throw new InvalidOperationException("broken");
    }

    [Fact]
    public void A_new_trace_does_not_take_the_id_of_a_stranger()
    {
        using var remote = new Activity("remote").SetParentId("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01").Start();
        using var child = new Activity("child").Start();

        using var scope = _logger.StartTrace("job");

        scope.TraceId.Should().MatchRegex("^[0-9a-f]{32}$").And.NotBe("0123456789abcdef0123456789abcdef");
    }

    [Fact]
    public void Without_a_set_up_or_scope_nothing_breaks()
    {
        TraceOperation.Begin("redis.request").Should().BeNull();
        TraceContext.Current.Should().BeNull();
        var job = async () => await TraceContext.ForkAsync("alone", () => Task.FromResult(1));
        job.Should().NotThrowAsync();
    }
}
