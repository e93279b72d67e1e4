using System.Text;
using LogTrace.Shipper;
using LogTrace.Tests.Support;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;

namespace LogTrace.Tests.Shipper;

/// <summary>A shipper over a folder of log files, moved turn by turn on a clock of the test's own.</summary>
public sealed class ShipperRig : IDisposable
{
    readonly TempFolder _folder = new();
    ShipperPipeline? _pipeline;

    public ShipperRig(Func<ShipperOptions, ShipperOptions>? with = null)
    {
        Directory.CreateDirectory(_folder["logs"]);
        Options = new ShipperOptions
        {
            Paths = [Log("*.log")],
            DataDirectory = _folder["data"],
            HostId = "host",
            MaxLineBytes = 1024,
            DeletedGrace = TimeSpan.FromSeconds(1),
        };
        if (with is not null) Options = with(Options);
    }

    public ShipperOptions Options { get; set; }

    /// <summary>Asked for each hint of the kernel whether it gets lost; by default none does.</summary>
    public Func<bool>? LosesHint { get; init; }

    public FakeTimeProvider Time { get; } = new();

    public CollectingWriter Writer { get; set; } = new();

    public ShipperPipeline Pipeline => _pipeline!;

    public ShipperCounts Counts => Pipeline.Snapshot().Counts;

    public string Log(string name) => Path.Combine(_folder["logs"], name);

    /// <summary>Texts of the distinct records in the order of their first arrival.</summary>
    public List<string> Records => Writer.Lines.DistinctBy(l => l.RecordId).Select(l => l.Text).ToList();

    /// <summary>Lines that arrived, repeats included.</summary>
    public List<string> Arrivals => Writer.Lines.ConvertAll(l => l.Text);

    public void Append(string name, string text) => Append(name, Encoding.UTF8.GetBytes(text));

    public void Append(string name, byte[] bytes)
    {
        using var file = new FileStream(Log(name), FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
        file.Write(bytes);
    }

    public void Truncate(string name, long length = 0)
    {
        using var file = new FileStream(Log(name), FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete);
        file.SetLength(length);
    }

    public void Move(string from, string to)
    {
        if (Path.GetDirectoryName(Log(to)) is { } directory) Directory.CreateDirectory(directory);
        File.Move(Log(from), Log(to));
    }

    public ShipperRig Start()
    {
        _pipeline = new ShipperPipeline(Options, Writer, NullLogger<ShipperPipeline>.Instance, Time) { LosesHint = LosesHint };
        _pipeline.Open();
        return this;
    }

    /// <summary>One round, with files looked for.</summary>
    public bool Turn(bool search = true)
    {
        if (search) Time.Advance(Options.DiscoveryInterval);
        return Pipeline.Turn();
    }

    /// <summary>Goes on until everything there is is shipped.</summary>
    public ShipperRig Ship()
    {
        // What no hint told of is seen after this time at the latest.
        if (LosesHint is not null) Rounds((int)Math.Ceiling(Options.QuietInterval / Options.DiscoveryInterval));
        for (var round = 0; round < 200; round++)
        {
            Time.Advance(Options.DiscoveryInterval);
            while (Pipeline.Turn())
            {
            }

            if (Pipeline.IsCaughtUp())
            {
                Pipeline.Turn();
                if (Pipeline.IsCaughtUp()) return this;
            }
        }

        throw new TimeoutException($"Not caught up after 200 rounds: {string.Join("; ", Pipeline.Snapshot().Files)}");
    }

    /// <summary>Rounds in which files are looked for, without waiting for anything.</summary>
    public void Rounds(int count)
    {
        for (var i = 0; i < count; i++)
        {
            Turn();
            while (Pipeline.Turn())
            {
            }
        }
    }

    public void Stop()
    {
        Pipeline.AcknowledgeBatches();
        Pipeline.SaveCheckpoint().Should().BeTrue();
        Crash();
    }

    /// <summary>The process is gone; the last checkpoint on disk is all that is left.</summary>
    public void Crash()
    {
        _pipeline?.Dispose();
        _pipeline = null;
    }

    public Checkpoint? Saved => CheckpointFile.TryRead(Options.StateDirectory);

    public string[] DeadLetters => File.Exists(Options.DeadLetterPath) ? File.ReadAllLines(Options.DeadLetterPath) : [];

    public void Dispose()
    {
        Crash();
        _folder.Dispose();
    }
}
