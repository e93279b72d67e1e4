using System.Text;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Transport;

/// <summary>What every transport must do, whatever carries the lines.</summary>
public abstract class RecordTransportContract : IAsyncLifetime
{
    protected static readonly SourceFile File = new("host-1", UInt128.Parse("12345678901234567890123456789"), "/var/log/shop/orders.log");

    protected abstract Task<IRecordWriter> OpenWriterAsync();

    /// <summary>A reader that goes on where the last one had committed.</summary>
    protected abstract Task<IRecordReader> OpenReaderAsync();

    public virtual Task InitializeAsync() => Task.CompletedTask;

    public virtual Task DisposeAsync() => Task.CompletedTask;

    [ContractFact]
    public async Task Lines_arrive_with_their_bytes_key_source_and_offset()
    {
        await using var writer = await OpenWriterAsync();
        await using var reader = await OpenReaderAsync();
        var other = new SourceFile("hôst-2", UInt128.MaxValue, "/tmp/ä b.log");
        Line[] lines =
        [
            Some(0, "t-1", "first"), Some(812, "t-1", "sécond \\u0000 \U0001F600"), Some(1_000_000_000_000, "t-2", "", other),
            new(other, long.MaxValue, "", "no json at all, and so without a key"), new(File, 900, "", ""), Some(901, "t-1", "last"),
        ];

        var written = SendAsync(writer, lines);
        var read = await ReadAsync(reader, lines.Length);

        (await written.Within()).Should().BeEmpty();
        read.Should().BeEquivalentTo(lines);
    }

    [ContractFact]
    public async Task Lines_of_one_key_keep_their_order_over_batches_written_side_by_side()
    {
        await using var writer = await OpenWriterAsync();
        await using var reader = await OpenReaderAsync();
        var lines = Enumerable.Range(0, 3_000).Select(i => Some(i * 100, $"trace-{i % 7}", $"number {i}")).ToArray();

        var written = lines.Chunk(130).Select(chunk => SendAsync(writer, chunk)).ToList();
        var read = await ReadAsync(reader, lines.Length);

        await Task.WhenAll(written).Within();
        foreach (var trace in lines.GroupBy(line => line.Key))
        {
            read.Where(line => line.Key == trace.Key).Should().Equal(trace);
        }
    }

    [ContractFact]
    public async Task What_was_not_committed_comes_again_to_the_next_reader()
    {
        await using var writer = await OpenWriterAsync();
        var lines = Enumerable.Range(0, 50).Select(i => Some(i, "t", $"line {i}")).ToArray();

        var first = await OpenReaderAsync();
        var written = SendAsync(writer, lines);
        (await ReadAsync(first, lines.Length, commit: false)).Should().BeEquivalentTo(lines);
        await first.DisposeAsync();

        await using var second = await OpenReaderAsync();
        (await ReadAsync(second, lines.Length)).Should().BeEquivalentTo(lines);
        await written.Within();
    }

    [ContractFact]
    public async Task Next_reader_gets_only_what_was_not_committed()
    {
        await using var writer = await OpenWriterAsync();
        var before = Enumerable.Range(0, 40).Select(i => Some(i, $"t-{i % 5}", $"before {i}")).ToArray();
        var after = Enumerable.Range(40, 40).Select(i => Some(i, $"t-{i % 5}", $"after {i}")).ToArray();

        var first = await OpenReaderAsync();
        var written = SendAsync(writer, before);
        await ReadAsync(first, before.Length);
        await written.Within();
        written = SendAsync(writer, after);
        await ReadAsync(first, 1, commit: false);
        await first.DisposeAsync();

        await using var second = await OpenReaderAsync();
        (await ReadAsync(second, after.Length)).Should().BeEquivalentTo(after);
        await written.Within();
    }

    [ContractFact]
    public async Task One_commit_covers_every_batch_read_before_it()
    {
        await using var writer = await OpenWriterAsync();
        var first = await OpenReaderAsync();
        var written = new List<Task>();
        var batches = new List<RecordBatch>();
        for (var i = 0; i < 3; i++)
        {
            written.Add(SendAsync(writer, [Some(i, $"t-{i}", $"line {i}")]));
            batches.Add((await first.ReadAsync(default).Within())!);
        }

        await first.CommitAsync(batches[^1], default).Within();
        await Task.WhenAll(written).Within();
        batches.ForEach(batch => batch.Dispose());
        await first.DisposeAsync();

        await using var second = await OpenReaderAsync();
        var more = SendAsync(writer, [Some(9, "t-9", "after")]);
        (await ReadAsync(second, 1)).Should().Equal(Some(9, "t-9", "after"));
        await more.Within();
    }

    [ContractFact]
    public async Task Large_lines_arrive_whole_between_small_ones()
    {
        await using var writer = await OpenWriterAsync();
        await using var reader = await OpenReaderAsync();
        var lines = new[] { Some(0, "t", "small"), Some(10, "t", new string('x', 900_000)), Some(20, "t", "small again"), Some(30, "t", new string('y', 300_000)) };

        var written = SendAsync(writer, lines);

        (await ReadAsync(reader, lines.Length)).Should().Equal(lines);
        await written.Within();
    }

    [ContractFact]
    public async Task Empty_batch_is_safe_at_once()
    {
        await using var writer = await OpenWriterAsync();

        (await writer.WriteAsync(new RecordBatch(), default).Within()).Should().BeEmpty();
    }

    [ContractFact]
    public async Task Cancelled_read_takes_nothing_with_it()
    {
        await using var writer = await OpenWriterAsync();
        await using var reader = await OpenReaderAsync();
        using var cancel = new CancellationTokenSource();

        var waiting = reader.ReadAsync(cancel.Token);
        await cancel.CancelAsync();
        await waiting.Invoking(it => it.Within()).Should().ThrowAsync<OperationCanceledException>();

        var written = SendAsync(writer, [Some(0, "t", "a")]);
        (await ReadAsync(reader, 1)).Should().Equal(Some(0, "t", "a"));
        await written.Within();
    }

    [ContractFact]
    public async Task Cancelled_write_ends_and_the_next_one_gets_through()
    {
        await using var writer = await OpenWriterAsync();
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();

        await writer.Invoking(it => it.WriteAsync(Batch([Some(0, "t", "a")]), cancelled.Token).Within()).Should().ThrowAsync<OperationCanceledException>();

        await using var reader = await OpenReaderAsync();
        var written = SendAsync(writer, [Some(1, "t", "b")]);
        // The cancelled line may have been on its way already.
        (await ReadUntilAsync(reader, lines => lines.Contains(Some(1, "t", "b")))).Should().OnlyContain(line => line.Offset <= 1);
        await written.Within();
    }

    [ContractFact]
    public async Task Batch_from_elsewhere_cannot_be_committed()
    {
        await using var reader = await OpenReaderAsync();

        await reader.Invoking(it => it.CommitAsync(Batch([Some(0, "t", "a")]), default).Within()).Should().ThrowAsync<ArgumentException>();
    }

    /// <summary>What a batch's line amounts to, free of the batch.</summary>
    public sealed record Line(SourceFile Source, long Offset, string Key, string Text);

    /// <summary>A record's line with a trace id, as it stands in a file.</summary>
    public static Line Some(long offset, string traceId, string msg, SourceFile? source = null) =>
        new(source ?? File, offset, traceId, $$"""{"name":"log.info","trace_id":"{{traceId}}","rpc_id":"1.2","msg":"{{msg}}"}""");

    public static RecordBatch Batch(IEnumerable<Line> lines)
    {
        var batch = new RecordBatch();
        foreach (var line in lines)
        {
            var bytes = Encoding.UTF8.GetBytes(line.Text);
            var key = Encoding.UTF8.GetBytes(line.Key);
            batch.Add(bytes, line.Source, line.Offset, key.Length == 0 ? 0 : bytes.AsSpan().IndexOf(key), key.Length);
        }

        return batch;
    }

    /// <summary>Sends as the shipper does: again, until it is safe.</summary>
    public static async Task<IReadOnlyList<RefusedLine>> SendAsync(IRecordWriter writer, Line[] lines)
    {
        while (true)
        {
            try
            {
                return await writer.WriteAsync(Batch(lines), default);
            }
            catch (TransportUnavailableException)
            {
                // The lines still are in the file.
            }
        }
    }

    public static Task<List<Line>> ReadAsync(IRecordReader reader, int count, bool commit = true) =>
        ReadUntilAsync(reader, lines => lines.Count >= count, commit);

    public static async Task<List<Line>> ReadUntilAsync(IRecordReader reader, Func<List<Line>, bool> isEnough, bool commit = true)
    {
        using var deadline = new CancellationTokenSource(Eventually.Deadline);
        var read = new List<Line>();
        while (!isEnough(read))
        {
            using var batch = await reader.ReadAsync(deadline.Token);
            if (batch is null) break;
            read.AddRange(batch.Lines.Select(line => new Line(line.Source, line.Offset, Encoding.UTF8.GetString(batch.Key(line)), Encoding.UTF8.GetString(batch.Span(line)))));
            if (commit) await reader.CommitAsync(batch, deadline.Token);
        }

        return read;
    }
}
