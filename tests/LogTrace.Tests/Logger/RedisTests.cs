using LogTrace.Records;
using LogTrace.Tests.Support;
using StackExchange.Redis;

namespace LogTrace.Tests.Logger;

/// <summary>What is sent to a real Redis against what the records say.</summary>
[NeedsEngine("redis")]
public sealed class RedisTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly TraceLogger _logger;
    readonly string _key = $"cart:{Guid.NewGuid():N}";

    public RedisTests() => _logger = new TraceLogger(TestService.Options("cart", _folder["cart.log"]));

    public void Dispose()
    {
        _logger.Dispose();
        _folder.Dispose();
    }

    static async Task<ConnectionMultiplexer> ConnectAsync() => (await ConnectionMultiplexer.ConnectAsync($"127.0.0.1:{await DebianServers.RedisAsync()},allowAdmin=true")).WithTrace("carts");

    List<TraceRecord> Calls()
    {
        _logger.Dispose();
        return [.. Written.Records(_folder["cart.log"]).Where(record => record.Kind == RecordKind.Client).OrderBy(record => record.RpcId!.Value)];
    }

    [ContractFact]
    public async Task Each_command_is_a_call_with_the_number_it_was_sent_under()
    {
        await using var redis = await ConnectAsync();
        var database = redis.GetDatabase(3);
        await database.PingAsync();
        using (var scope = _logger.StartTrace("test"))
        {
            await database.StringSetAsync(_key, "7");
            (await database.StringGetAsync(_key)).Should().Be("7");
            scope.BeginCall("http.get", "between").Dispose();
            await database.Invoking(d => d.ListLengthAsync(_key)).Should().ThrowAsync<RedisServerException>();
            var transaction = database.CreateTransaction();
            var raised = transaction.StringIncrementAsync(_key);
            await transaction.ExecuteAsync();
            (await raised).Should().Be(8);
            var batch = database.CreateBatch();
            var (first, second) = (batch.StringGetAsync(_key), batch.KeyExistsAsync(_key));
            batch.Execute();
            await Task.WhenAll(first, second);
        }

        await database.StringGetAsync(_key);
        var calls = Calls();
        calls.Select(record => $"{record.RpcId} {record.Name} {record.Action}").Should().Equal(
            $"1.2 redis.request SET {_key}", $"1.3 redis.request GET {_key}", "1.4 http.get between", $"1.5 redis.request LLEN {_key}", "1.6 redis.request EXEC", $"1.7 redis.request GET {_key}",
            $"1.8 redis.request EXISTS {_key}");
        calls.Where(record => record.Name == "redis.request").Should().OnlyContain(record => record.InstanceName == "carts" && record.Host!.StartsWith("127.0.0.1:") && record.DurationMicros > 0 && record.ExtraJson == null);
        var scopeDuration = Written.Records(_folder["cart.log"]).Single(record => record.Name == "request.info").DurationMicros;
        calls.Should().OnlyContain(record => record.DurationMicros <= scopeDuration);
    }

    [ContractFact]
    public async Task A_thousand_parallel_commands_have_a_thousand_numbers()
    {
        await using var redis = await ConnectAsync();
        var database = redis.GetDatabase();
        using (_logger.StartTrace("test")) await Task.WhenAll(Enumerable.Range(0, 1000).Select(number => Task.Run(() => database.StringIncrementAsync($"{_key}:{number}"))));

        var calls = Calls();
        calls.Select(record => record.Action).Should().BeEquivalentTo(Enumerable.Range(0, 1000).Select(number => $"INCR {_key}:{number}"));
        calls.Select(record => record.RpcId!.Value.ToString()).Should().Equal(Enumerable.Range(2, 1000).Select(number => $"1.{number}"));
    }

    [ContractFact]
    public async Task A_command_still_under_way_when_its_scope_ends_is_recorded_as_unfinished()
    {
        await using var redis = await ConnectAsync();
        var database = redis.GetDatabase();
        // The server answers nobody for a while.
        var pause = redis.GetServers().Single().ExecuteAsync("CLIENT", "PAUSE", "2000", "ALL");
        await pause;
        Task<RedisValue> waiting;
        using (_logger.StartTrace("test")) waiting = database.StringGetAsync(_key);
        var calls = Calls();

        calls.Select(record => $"{record.RpcId} {record.Name} {record.ExtraJson}").Should().Equal("1.2 redis.request {\"unfinished\":true}");
        await waiting;
    }
}
