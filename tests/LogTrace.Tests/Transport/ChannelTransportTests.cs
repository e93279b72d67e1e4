using System.Reflection;
using System.Runtime.Loader;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.Tests.Transport;

public sealed class ChannelTransportTests : RecordTransportContract
{
    readonly ChannelTransport _transport = new(capacityBatches: 2);

    protected override Task<IRecordWriter> OpenWriterAsync() => Task.FromResult(_transport.Writer);

    protected override Task<IRecordReader> OpenReaderAsync() => Task.FromResult(_transport.Reader);

    [Fact]
    public async Task Write_returns_only_when_the_reader_has_committed()
    {
        var written = _transport.Writer.WriteAsync(Batch([Some(0, "t", "a")]), default);
        using var batch = await _transport.Reader.ReadAsync(default).Within();
        written.IsCompleted.Should().BeFalse();

        await _transport.Reader.CommitAsync(batch!, default);

        (await written.Within()).Should().BeEmpty();
    }

    [Fact]
    public async Task Write_fails_when_the_reader_goes_without_a_commit()
    {
        var reader = _transport.Reader;
        var delivered = _transport.Writer.WriteAsync(Batch([Some(0, "t", "a")]), default);
        using var batch = await reader.ReadAsync(default).Within();
        var waiting = _transport.Writer.WriteAsync(Batch([Some(1, "t", "b")]), default);

        await reader.DisposeAsync();

        await delivered.Invoking(it => it.Within()).Should().ThrowAsync<TransportUnavailableException>();
        await waiting.Invoking(it => it.Within()).Should().ThrowAsync<TransportUnavailableException>();
        await reader.Invoking(it => it.CommitAsync(batch!, default)).Should().ThrowAsync<TransportUnavailableException>();
    }

    [Fact]
    public async Task Read_that_waits_ends_when_its_reader_is_closed()
    {
        var reader = _transport.Reader;
        var waiting = reader.ReadAsync(default);

        await reader.DisposeAsync();

        await waiting.Invoking(it => it.Within()).Should().ThrowAsync<TransportUnavailableException>();
    }

    [Fact]
    public async Task Full_queue_makes_the_writer_wait()
    {
        var batches = Enumerable.Range(0, 4).Select(i => Batch([Some(i, "t", "a")])).ToArray();
        using var cancel = new CancellationTokenSource();

        var written = batches.Select(batch => _transport.Writer.WriteAsync(batch, cancel.Token)).ToList();
        await cancel.CancelAsync();
        foreach (var write in written) await write.Invoking(it => it.Within()).Should().ThrowAsync<OperationCanceledException>();

        // Only two had been taken; the others were given back when their writers left.
        _transport.Complete();
        (await ReadUntilAsync(_transport.Reader, _ => false)).Select(line => line.Offset).Should().Equal(0, 1);
        batches[3].Invoking(batch => batch.Span(batch.Lines[0]).Length).Should().Throw<ArgumentOutOfRangeException>();
    }

    [Fact]
    public async Task Completed_transport_gives_the_rest_and_then_null()
    {
        var written = _transport.Writer.WriteAsync(Batch([Some(0, "t", "a")]), default);
        _transport.Complete();

        (await ReadAsync(_transport.Reader, 1)).Should().Equal(Some(0, "t", "a"));
        (await _transport.Reader.ReadAsync(default).Within()).Should().BeNull();
        await written.Within();
        await _transport.Writer.Invoking(it => it.WriteAsync(Batch([Some(1, "t", "b")]), default)).Should().ThrowAsync<InvalidOperationException>();
    }

    [Fact]
    public async Task Kafka_client_is_not_loaded_for_the_channel()
    {
        var isolated = new Isolated();
        try
        {
            var here = isolated.LoadFromAssemblyPath(typeof(ChannelTransportTests).Assembly.Location);
            var roundTrip = here.GetType(typeof(ChannelTransportTests).FullName!)!.GetMethod(nameof(RoundTripAsync), BindingFlags.Static | BindingFlags.NonPublic)!;

            await ((Task)roundTrip.Invoke(null, null)!).Within();

            isolated.Asked.Should().Contain("LogTrace.Transport").And.NotContain("Confluent.Kafka");
        }
        finally
        {
            isolated.Unload();
        }
    }

    static async Task RoundTripAsync()
    {
        var transport = new ChannelTransport();
        var written = transport.Writer.WriteAsync(Batch([Some(0, "t", "a")]), default);
        await ReadAsync(transport.Reader, 1);
        await written;
        await transport.Reader.DisposeAsync();
    }

    /// <summary>Loads our own assemblies once more, and writes down what is asked for.</summary>
    sealed class Isolated() : AssemblyLoadContext("isolated", isCollectible: true)
    {
        public List<string> Asked { get; } = [];

        protected override Assembly? Load(AssemblyName name)
        {
            lock (Asked) Asked.Add(name.Name!);
            var path = Path.Combine(AppContext.BaseDirectory, name.Name + ".dll");
            return name.Name!.StartsWith("LogTrace", StringComparison.Ordinal) && System.IO.File.Exists(path) ? LoadFromAssemblyPath(path) : null;
        }
    }
}
