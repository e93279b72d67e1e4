using LogTrace.Transport;

namespace LogTrace.Tests.Shipper;

/// <summary>A line as it arrived on the other side.</summary>
public sealed record Delivered(SourceFile Source, long Offset, string Text, string Key, UInt128 RecordId);

/// <summary>
/// The other side in memory. Keeps the promise of <see cref="IRecordWriter"/>: once a call has failed, the calls begun before the failure was seen fail too,
/// so that lines of one file never overtake each other.
/// </summary>
public sealed class CollectingWriter : IRecordWriter
{
    readonly Queue<(RecordBatch Batch, TaskCompletionSource<IReadOnlyList<RefusedLine>> Done)> _held = [];

    /// <summary>Everything that arrived, repeats included.</summary>
    public List<Delivered> Lines { get; } = [];

    public int Batches { get; private set; }

    /// <summary>Calls wait for <see cref="Release"/>.</summary>
    public bool IsHeld { get; set; }

    public int HeldBatches => _held.Count;

    /// <summary>Calls fail.</summary>
    public bool IsDown { get; set; }

    /// <summary>Lines that are refused for ever.</summary>
    public Func<string, bool> Refuses { get; set; } = _ => false;

    public Task<IReadOnlyList<RefusedLine>> WriteAsync(RecordBatch batch, CancellationToken cancellationToken)
    {
        Batches++;
        var done = new TaskCompletionSource<IReadOnlyList<RefusedLine>>(TaskCreationOptions.RunContinuationsAsynchronously);
        _held.Enqueue((batch, done));
        if (IsDown) FailAll();
        else if (!IsHeld) Release();
        return done.Task;
    }

    /// <summary>Takes the oldest waiting batches.</summary>
    public void Release(int batches = int.MaxValue)
    {
        while (batches-- > 0 && _held.TryDequeue(out var held))
        {
            var refused = new List<RefusedLine>();
            foreach (var line in held.Batch.Lines)
            {
                var bytes = held.Batch.Span(line);
                var text = System.Text.Encoding.UTF8.GetString(bytes);
                if (Refuses(text)) refused.Add(new RefusedLine(line.Source, line.Offset, bytes.ToArray(), "refused"));
                else Lines.Add(new Delivered(line.Source, line.Offset, text, System.Text.Encoding.UTF8.GetString(held.Batch.Key(line)), line.Source.RecordIdAt(line.Offset, bytes)));
            }

            held.Batch.Dispose();
            held.Done.SetResult(refused);
        }
    }

    /// <summary>Fails all waiting batches; with <paramref name="arrived"/> the first of them got through all the same.</summary>
    public void FailAll(int arrived = 0)
    {
        while (_held.TryDequeue(out var held))
        {
            if (arrived-- > 0)
            {
                foreach (var line in held.Batch.Lines)
                {
                    var bytes = held.Batch.Span(line);
                    Lines.Add(new Delivered(line.Source, line.Offset, System.Text.Encoding.UTF8.GetString(bytes), "", line.Source.RecordIdAt(line.Offset, bytes)));
                }
            }

            held.Batch.Dispose();
            held.Done.SetException(new TransportUnavailableException("the other side is down"));
        }
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
