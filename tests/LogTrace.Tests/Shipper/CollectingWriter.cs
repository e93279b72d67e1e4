using System.Text;
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
    readonly List<(RecordBatch Batch, TaskCompletionSource<IReadOnlyList<RefusedLine>> Done)> _held = [];

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
        _held.Add((batch, done));
        if (IsDown) FailAll();
        else if (!IsHeld) Release();
        return done.Task;
    }

    /// <summary>Takes the oldest waiting batches.</summary>
    public void Release(int batches = int.MaxValue)
    {
        while (batches-- > 0 && _held.Count > 0) ReleaseAt(0);
    }

    /// <summary>Takes one of the waiting batches, out of turn.</summary>
    public void ReleaseAt(int index)
    {
        var (batch, done) = _held[index];
        _held.RemoveAt(index);
        done.SetResult(Take(batch));
    }

    /// <summary>Fails all waiting batches; the first <paramref name="arrived"/> of them got through all the same.</summary>
    public void FailAll(int arrived = 0)
    {
        foreach (var (batch, done) in _held)
        {
            if (arrived-- > 0) Take(batch);
            else batch.Dispose();
            done.SetException(new TransportUnavailableException("the other side is down"));
        }

        _held.Clear();
    }

    /// <summary>The sender is gone: of what waits, the first <paramref name="arrived"/> batches got through.</summary>
    public void Forget(int arrived = 0)
    {
        foreach (var (batch, _) in _held)
        {
            if (arrived-- > 0) Take(batch);
            else batch.Dispose();
        }

        _held.Clear();
    }

    List<RefusedLine> Take(RecordBatch batch)
    {
        var refused = new List<RefusedLine>();
        foreach (var line in batch.Lines)
        {
            var bytes = batch.Span(line);
            var text = Encoding.UTF8.GetString(bytes);
            if (Refuses(text)) refused.Add(new RefusedLine(line.Source, line.Offset, bytes.ToArray(), "refused"));
            else Lines.Add(new Delivered(line.Source, line.Offset, text, Encoding.UTF8.GetString(batch.Key(line)), line.Source.RecordIdAt(line.Offset, bytes)));
        }

        batch.Dispose();
        return refused;
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
