using System.Text;
using System.Text.RegularExpressions;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Shipper;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Indexer;

public sealed class IndexerStatusTests
{
    static readonly string Good = $$"""{"name":"request.info","trace_id":"t-1","rpc_id":"1.1","timestamp":{{DateTimeOffset.UtcNow.ToUnixTimeSeconds()}},"service":"orders"}""";

    [Fact]
    public async Task Pages_say_what_became_of_every_line_and_why()
    {
        using var folder = new TempFolder();
        await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = folder["store"] });
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, new IndexerOptions { ChainQuiet = TimeSpan.FromMilliseconds(20) });
        var status = new IndexerStatus(pipeline, store);

        (await status.PageAsync("/readyz", default)).Should().Be(StatusPage.Unavailable("the store has not answered yet"));
        (await status.PageAsync("/healthz", default)).Status.Should().Be("200 OK", "what has not begun is not sick");

        var running = pipeline.RunAsync(default);
        await transport.Writer.WriteAsync(Batch(Good, Good.Replace("1.1", "1..1"), Good.Replace("1.1", "1.'2"), "nonsense"), default).Within();
        await pipeline.FlushChainsAsync(default).Within();

        (await status.PageAsync("/readyz", default)).Should().Be(StatusPage.Ok("ok\n"));
        (await status.PageAsync("/healthz", default)).Should().Be(StatusPage.Ok("ok\n"));
        (await status.PageAsync("/", default)).Text.Should().Be("consumed 4 = stored 1 + duplicates 0 + set aside 3; 1 chains written, 0 open\n");
        (await status.PageAsync("/elsewhere", default)).Status.Should().StartWith("404");
        var metrics = (await status.PageAsync("/metrics", default)).Text;
        metrics.Should().Contain("\nlogtrace_indexer_consumed_records_total 4\n").And.Contain("\nlogtrace_indexer_stored_records_total 1\n").And.Contain("\nlogtrace_indexer_balanced 1\n")
            .And.Contain("logtrace_indexer_set_aside_reasons_total{reason=\"rpc_id: a segment is empty\"} 1\n")
            .And.Contain("\nlogtrace_indexer_open_chains 0\n").And.Contain("\nlogtrace_indexer_record_write_seconds_count 1\n").And.Contain("\nlogtrace_indexer_record_write_seconds_bucket{le=\"+Inf\"} 1\n")
            .And.Contain("\nlogtrace_indexer_sqlite_records 1\n").And.NotContain("kafka");
        metrics.Split('\n', StringSplitOptions.RemoveEmptyEntries).Should().OnlyContain(line => Regex.IsMatch(line, @"^(# (HELP|TYPE) logtrace_indexer_\w+ .+|logtrace_indexer_\w+(\{\w+=""([^""\\]|\\.)*""\})? -?[0-9.]+(E[+-]?\d+)?)$"));
        transport.Complete();
        await running.Within();
    }

    [Fact]
    public async Task Store_that_is_away_makes_it_unready_with_the_reason_and_still_healthy()
    {
        await using var fake = await FakeElasticsearch.StartAsync();
        using var folder = new TempFolder();
        await using var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [fake.Url], GiveUpAfter = TimeSpan.Zero });
        var transport = new ChannelTransport();
        using var deadLetter = new DeadLetterFile(folder["dead-letter"]);
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, new IndexerOptions
        {
            ChainQuiet = TimeSpan.FromMinutes(1),
            ChainMaxWait = TimeSpan.FromMinutes(1),
            RetryFirst = TimeSpan.FromMilliseconds(100),
            RetryMax = TimeSpan.FromMilliseconds(100),
            DrainLimit = TimeSpan.Zero,
        });
        var status = new IndexerStatus(pipeline, store);
        fake.Item = (_, seen) => seen == 0 ? (429, "es_rejected_execution_exception") : null;
        using var stop = new CancellationTokenSource();
        var running = pipeline.RunAsync(stop.Token);
        for (var i = 0; i < 3; i++) fake.Faults.Enqueue(BulkFault.Unavailable);
        var written = transport.Writer.WriteAsync(Batch(Good), default);
        await Eventually.HoldsAsync(async () => (await status.PageAsync("/readyz", default)) is { Status: "503 Service Unavailable" } page && page.Text.Contains("waiting for the store") && page.Text.Contains("503"), "it says what it waits for");
        (await status.PageAsync("/healthz", default)).Status.Should().Be("200 OK");

        await written.Within();
        var metrics = (await status.PageAsync("/metrics", default)).Text;
        metrics.Should().Contain("logtrace_indexer_bulk_answers_total{status=\"503\"} 3\n").And.Contain("logtrace_indexer_bulk_answers_total{status=\"200\"} 2\n")
            .And.Contain("logtrace_indexer_bulk_items_total{outcome=\"done\"} 1\n").And.Contain("logtrace_indexer_bulk_seconds_count 5\n");
        await stop.CancelAsync();
        await running.Within();
    }

    [Theory]
    [InlineData("rpc_id '1..2': a segment is empty", "rpc_id: a segment is empty")]
    [InlineData("line 'it's \"this\"': no JSON object: a value is missing at byte 1,017", "line: no JSON object: a value is missing at byte N")]
    [InlineData("the store refused it: mapper_parsing_exception: failed to parse field [msg] of type [text] in document with id 'ab' (1,234 bytes)", "the store refused it: mapper_parsing_exception: failed to parse field in document with id")]
    public void Reasons_are_counted_without_what_is_peculiar_to_one_line(string reason, string kind) => IndexerMetrics.KindOf(reason).Should().Be(kind);

    [Fact]
    public void Reasons_are_bounded_whatever_is_sent()
    {
        var metrics = new IndexerMetrics();
        for (var i = 0; i < 1_000; i++) metrics.AddReason(new string((char)('A' + (i % 500)), 300) + i);

        metrics.SetAsideReasons.Should().HaveCountLessThanOrEqualTo(51).And.ContainKey("other");
        metrics.SetAsideReasons.Values.Sum().Should().Be(1_000);
        metrics.SetAsideReasons.Keys.Should().OnlyContain(reason => reason.Length <= 100);
    }

    static RecordBatch Batch(params string[] lines)
    {
        var batch = new RecordBatch();
        for (var i = 0; i < lines.Length; i++) batch.Add(Encoding.UTF8.GetBytes(lines[i]), new SourceFile("host-1", 1, "app.log"), i * 1_000);
        return batch;
    }
}
