using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;

namespace LogTrace.Tests.Indexer;

/// <summary>What documents have beside the line or chain itself, for the dashboards.</summary>
public sealed class ElasticsearchDocumentsTests
{
    static readonly CallDocument Call = new() { TraceId = "t", RpcId = "1.3", EntryAction = "GET /orders/4711", Callee = "orders" };

    [Fact]
    public void Numbers_of_a_measurement_are_fields_of_their_own()
    {
        var line = """{"name":"metric.histogram","trace_id":"t","rpc_id":"1.2","timestamp":1700000000,"action":"basket.value","extra":{"currency":"EUR","count":3,"sum":7.5,"p95":4,"value":"many"}}""";

        var stored = Written(line);

        (stored.GetProperty("metric_count").GetDouble(), stored.GetProperty("metric_sum").GetDouble(), stored.GetProperty("metric_p95").GetDouble()).Should().Be((3, 7.5, 4));
        stored.TryGetProperty("metric_value", out _).Should().BeFalse("a text is no number");
        Read(line).ExtraJson.Should().Be(ElasticsearchDocuments.ReadRecord(Encoding.UTF8.GetBytes(stored.GetRawText())).Record.ExtraJson);
    }

    [Theory]
    [InlineData("none", 0, 0)]
    [InlineData("none", 3, 3)]
    [InlineData("placeholder", 2, 3)]
    [InlineData("callee_only", 0, 1)]
    [InlineData("foreign", 0, 0)]
    public void A_call_says_what_is_lost_there_and_if_something_is_when_its_chain_last_grew(string state, int gaps, int lost)
    {
        var stored = Written(Call with { LossState = state, GapCount = gaps });

        stored.GetProperty("lost_count").GetInt32().Should().Be(lost);
        stored.TryGetProperty("last_record_at", out var last).Should().Be(lost > 0);
        if (lost > 0) last.GetString().Should().Be("1970-01-01T00:00:07.000000Z");
    }

    [Fact]
    public void Equal_requests_have_one_entry_key() => Written(Call).GetProperty("entry_key").GetString().Should().Be("GET /orders/{id}");

    [Theory]
    [InlineData(0, 0)]
    [InlineData(2, 1)]
    public void A_chain_counts_as_failed_once_however_many_errors_it_has(int errors, int failed)
    {
        var output = new BulkBuffer(1024);
        ElasticsearchDocuments.WriteChain(new ChainDocument { TraceId = "t", ErrorCount = errors, GapCount = errors }, new CallVersions(), true, output);
        var stored = JsonDocument.Parse(output.WrittenFrom(0).ToArray()).RootElement;

        (stored.GetProperty("failed").GetInt32(), stored.GetProperty("lossy").GetInt32(), stored.GetProperty("lost_count").GetInt32()).Should().Be((failed, failed, errors));
    }

    [Theory]
    [InlineData("""{"trace_id":"t","service":"orders","timestamp":17,"extra":{ "b": "\u00e9" }}""", true)]
    [InlineData("""{"trace_id":"t","module":"orders_x","timestamp":17}""", true)]
    [InlineData("""{"service":" orders ","timestamp":17,"name":"log.info"}""", true)]
    [InlineData("""{"timestamp":17}""", true)]
    [InlineData("""{"timestamp": 17,"service":"orders"}""", false)]
    [InlineData("""{"timestamp":17,"zone":"b"}""", false)]
    public void A_line_that_is_stored_as_it_came_is_read_byte_for_byte_and_its_hash_is_made_of_it(string line, bool isStoredAsItCame)
    {
        var bytes = Encoding.UTF8.GetBytes(line);
        var output = new BulkBuffer(1024);
        ElasticsearchDocuments.WriteRecord(RecordDeriver.Derive(Read(line), 1, XxHash128.HashToUInt128(bytes), "a.log", 0, 3), output);
        var stored = output.WrittenFrom(0)[..^1];
        var read = ElasticsearchDocuments.ReadRecord(stored);

        read.LineHash.Should().Be(XxHash128.HashToUInt128(bytes));
        (stored.IndexOf("\"line_hash\""u8) < 0).Should().Be(isStoredAsItCame);
        if (isStoredAsItCame) Encoding.UTF8.GetString(read.Record.SourceLine.Span).Should().Be(line);
    }

    static TraceRecord Read(string line) => RecordCodec.TryRead(Encoding.UTF8.GetBytes(line), out var record, out var reason) ? record : throw new InvalidOperationException(reason);

    static JsonElement Written(string line)
    {
        var output = new BulkBuffer(1024);
        ElasticsearchDocuments.WriteRecord(RecordDeriver.Derive(Read(line), 1, 2, "a.log", 0, 3), output);
        return JsonDocument.Parse(output.WrittenFrom(0).ToArray()).RootElement;
    }

    static JsonElement Written(CallDocument call)
    {
        var output = new BulkBuffer(1024);
        ElasticsearchDocuments.WriteCall(call, 7_000_000, output);
        return JsonDocument.Parse(output.WrittenFrom(0).ToArray()).RootElement;
    }
}
