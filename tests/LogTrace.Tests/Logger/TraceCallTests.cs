using LogTrace.Records;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Logger;

public sealed class TraceCallTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly TraceLogger _logger;

    public TraceCallTests() => _logger = new TraceLogger(TestService.Options("orders", _folder["orders.log"]));

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
    public void A_call_ends_in_one_record_with_what_was_said_of_it()
    {
        using (_logger.StartTrace("job"))
        {
            using (var call = TraceCall.Begin("memcache.request", "get", "cart:9527"))
            {
                call.Code = "0";
                call.Host = "10.0.0.9:11211";
                call.ResponseLength = 12;
                call.AddExtra("hit", true);
                call.IsOpen.Should().BeTrue();
                call.RpcId.Should().Be("1.2");
            }

            using (var call = TraceCall.Begin("memcache.request", "set")) call.Fail(new TimeoutException("too slow"));
        }

        var records = Records();
        records.Select(record => (record.Name, record.RpcId?.ToString())).Should().Equal(("memcache.request", "1.2"), ("memcache.request.error", "1.3"), ("request.info", "1.1"));
        records[0].Should().BeEquivalentTo(new { Action = "get", Param = "cart:9527", Code = "0", Host = "10.0.0.9:11211", ResponseLength = 12L });
        records[1].Msg.Should().Be("too slow");
        // Nothing of the first one is left in the object that both stood on.
        records[1].Host.Should().BeNull();
        records[1].ResponseLength.Should().BeNull();
        records[1].ExtraJson.Should().BeNull();
    }

    [Fact]
    public void Begun_and_ended_a_call_allocates_nothing()
    {
        using var scope = _logger.StartTrace("job");

        Allocation.OfThousand(Call).Should().Be(0);

        void Call()
        {
            using var call = scope.Call("mysql.request", "select 1", "{\"shard\":7}");
            call.Code = "0";
            call.AddExtra("shard", "7");
        }
    }

    [Fact]
    public async Task Ending_twice_from_many_threads_writes_one_record()
    {
        using (var scope = _logger.StartTrace("once"))
        {
            var call = scope.Call("redis.request", "GET x");
            await Task.WhenAll(Enumerable.Range(0, 16).Select(_ => Task.Run(call.Dispose)));
        }

        Records().Select(record => record.Name).Should().BeEquivalentTo(["redis.request", "request.info"]);
    }

    [Fact]
    public void Whoever_keeps_an_ended_call_cannot_touch_the_next_one()
    {
        using (var scope = _logger.StartTrace("reuse"))
        {
            var first = scope.Call("redis.request", "GET first");
            first.Dispose();
            using var second = scope.Call("redis.request", "GET second");
            second.Live.Should().NotBeNull();

            first.Dispose();
            first.Code = "9";
            first.Action = "GET nothing";
            first.AddExtra("stale", 1);
            first.Fail("9", "stale");
            first.EndedAfter(TimeSpan.FromHours(1));

            first.Should().BeEquivalentTo(new { IsOpen = false, RpcId = "", TraceId = "", Number = 0L, Action = "", Code = (string?)null });
            second.IsOpen.Should().BeTrue();
            second.Code = "0";
        }

        var records = Records();
        records.Select(record => (record.Name, record.Action)).Should().Equal(("redis.request", "GET first"), ("redis.request", "GET second"), ("request.info", "reuse"));
        records[1].Should().BeEquivalentTo(new { Code = "0", ExtraJson = (string?)null });
        records[1].DurationMicros.Should().BeLessThan(600_000_000);
    }

    [Fact]
    public async Task Calls_ended_twice_on_all_threads_at_once_keep_their_own_numbers_and_texts()
    {
        const int Workers = 8, Each = 2000;
        using (var scope = _logger.StartTrace("many"))
        {
            await Task.WhenAll(Enumerable.Range(0, Workers).Select(worker => Task.Run(async () =>
            {
                for (var i = 0; i < Each; i++)
                {
                    var call = scope.Call("redis.request", $"GET {worker} {i}");
                    call.Param = call.RpcId;
                    // It may end on another thread than the one it began on.
                    if (i % 16 == 0) await Task.Yield();
                    await Task.WhenAll(i % 16 == 0 ? Task.Run(call.Dispose) : Task.CompletedTask);
                    call.Dispose();
                    call.Fail("9", "stale");
                }
            })));
        }

        var calls = Records().Where(record => record.Name != "request.info").ToList();
        calls.Should().HaveCount(Workers * Each).And.OnlyContain(call => call.Name == "redis.request" && call.Param == call.RpcId.ToString());
        calls.Select(call => call.RpcId).Should().OnlyHaveUniqueItems();
        calls.Select(call => call.Action).Should().OnlyHaveUniqueItems();
    }

    [Fact]
    public void A_call_that_outlives_its_scope_ends_in_its_own_record()
    {
        TraceCall call;
        using (var scope = _logger.StartTrace("early")) call = scope.Call("redis.request", "GET late");
        using (var next = _logger.StartTrace("next"))
        {
            using var other = next.Call("redis.request", "GET other");
            call.IsOpen.Should().BeTrue();
            call.Dispose();
            call.Dispose();
        }

        var records = Records();
        records.Select(record => record.Action).Should().Equal("early", "GET late", "GET other", "next");
        records[1].TraceId.Should().Be(records[0].TraceId);
        records[2].TraceId.Should().Be(records[3].TraceId).And.NotBe(records[0].TraceId);
    }

    [Fact]
    public void Outside_a_trace_a_call_does_nothing()
    {
        using var call = TraceCall.Begin("redis.request", "GET x");
        call.Code = "0";
        call.Fail(new TimeoutException());
        call.IsOpen.Should().BeFalse();
        call.Code.Should().BeNull();
    }

    [Fact]
    public void Headers_continue_a_call_that_is_open_and_no_other()
    {
        using var scope = _logger.StartTrace("job");
        var headers = new Dictionary<string, string?>();
        var call = scope.Call("http.get", "x");

        TraceHeaders.Write(call, headers, (carrier, name, value) => carrier[name] = value, calleeIsInternal: false);
        headers[TraceHeaders.RpcId].Should().Be("1.2");
        call.Dispose();
        headers.Clear();
        TraceHeaders.Write(call, headers, (carrier, name, value) => carrier[name] = value, calleeIsInternal: false);

        headers.Should().BeEmpty();
    }
}
