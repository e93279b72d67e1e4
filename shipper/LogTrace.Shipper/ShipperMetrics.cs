namespace LogTrace.Shipper;

/// <summary>
/// What went through since the state directory was new. Counted when the checkpoint moves, and saved with it, so that a crash takes back counts and
/// offsets together. Bytes are bytes of the files, line ends included.
/// </summary>
public sealed record ShipperCounts
{
    /// <summary>Lines that ended.</summary>
    public long ReadLines { get; init; }

    /// <summary>Bytes of these lines.</summary>
    public long ReadBytes { get; init; }

    /// <summary>Lines that are safe on the other side.</summary>
    public long ShippedLines { get; init; }

    /// <summary>Bytes of these lines.</summary>
    public long ShippedBytes { get; init; }

    /// <summary>Lines in the dead letter.</summary>
    public long SetAsideLines { get; init; }

    /// <summary>Bytes of these lines.</summary>
    public long SetAsideBytes { get; init; }

    /// <summary>Empty lines.</summary>
    public long BlankLines { get; init; }

    /// <summary>Bytes of these lines.</summary>
    public long BlankBytes { get; init; }

    /// <summary>NUL bytes skipped before lines; part of the bytes above.</summary>
    public long NulBytes { get; init; }

    /// <summary>Bytes known to have been emptied or overwritten before they were read; part of none of the above.</summary>
    public long LostBytes { get; init; }

    /// <summary>read = shipped + set aside + blank.</summary>
    public bool Balances => ReadLines == ShippedLines + SetAsideLines + BlankLines && ReadBytes == ShippedBytes + SetAsideBytes + BlankBytes;
}

/// <summary>How far one file is.</summary>
/// <param name="Path">Where it is now.</param>
/// <param name="FileId">Its id; null until its first line has ended.</param>
/// <param name="AcknowledgedOffset">Everything before this is safe on the other side.</param>
/// <param name="ReadOffset">Everything before this was read.</param>
/// <param name="SizeBytes">Size at the last look.</param>
/// <param name="UnfinishedBytes">Bytes of a last line that has not ended.</param>
public sealed record FileProgress(string Path, UInt128? FileId, long AcknowledgedOffset, long ReadOffset, long SizeBytes, long UnfinishedBytes)
{
    /// <summary>For how long the oldest line that is not safe has been known; 0 when there is none.</summary>
    public TimeSpan OldestUnacknowledged { get; init; }

    /// <summary>Its last name is gone; it is read to its end through the open file.</summary>
    public bool IsDeleted { get; init; }

    /// <summary>Bytes written and not yet safe.</summary>
    public long LagBytes => Math.Max(0, SizeBytes - AcknowledgedOffset);
}

/// <summary>The state of a pipeline at one moment.</summary>
/// <param name="Counts">What went through.</param>
/// <param name="Files">The files, as of the last look at them.</param>
/// <param name="FailedBatches">Batches that were not acknowledged and sent again, in this run.</param>
public sealed record ShipperSnapshot(ShipperCounts Counts, IReadOnlyList<FileProgress> Files, long FailedBatches)
{
    /// <summary>Why nothing gets on, as a sentence; null while it does.</summary>
    public string? Stall { get; init; }

    /// <summary>How long ago files were looked at; 0 before the first time.</summary>
    public TimeSpan LookedAgo { get; init; }

    /// <summary>Directories of whose changes the kernel tells. 0 with <see cref="ShipperOptions.Hints"/> off, or where inotify is not to be had.</summary>
    public int WatchedDirectories { get; init; }

    /// <summary>Directories of whose changes it does not tell, although it was asked to; one of them is enough for files to be looked for as without hints.</summary>
    public int UnwatchedDirectories { get; init; }
}

/// <summary>Keeps the counts. Written by the pipeline, read from anywhere.</summary>
sealed class ShipperMetrics(TimeProvider time)
{
    readonly Lock _lock = new();
    ShipperCounts _counts = new();
    IReadOnlyList<FileProgress> _files = [];
    long _failedBatches;
    int _watched;
    int _unwatched;
    string? _stall = "no files were looked for yet";
    long? _lookedAt;

    public ShipperCounts Counts
    {
        get
        {
            lock (_lock) return _counts;
        }
    }

    public ShipperSnapshot Snapshot()
    {
        lock (_lock)
        {
            return new ShipperSnapshot(_counts, _files, _failedBatches)
            {
                Stall = _stall,
                LookedAgo = _lookedAt is { } at ? time.GetElapsedTime(at) : TimeSpan.Zero,
                WatchedDirectories = _watched,
                UnwatchedDirectories = _unwatched,
            };
        }
    }

    public void Restore(ShipperCounts counts)
    {
        lock (_lock) _counts = counts;
    }

    /// <summary>Spans are safe, except for the lines that the transport refused and that are in the dead letter now.</summary>
    public void CountSafe(IReadOnlyList<ReadSpan> spans, long refusedLines, long refusedBytes)
    {
        lock (_lock)
        {
            var (read, readBytes) = (_counts.ReadLines, _counts.ReadBytes);
            var (shipped, shippedBytes) = (_counts.ShippedLines - refusedLines, _counts.ShippedBytes - refusedBytes);
            var (aside, asideBytes) = (_counts.SetAsideLines + refusedLines, _counts.SetAsideBytes + refusedBytes);
            var (blank, blankBytes, nul) = (_counts.BlankLines, _counts.BlankBytes, _counts.NulBytes);
            foreach (var span in spans)
            {
                read += span.Lines;
                readBytes += span.Bytes;
                shipped += span.ShippedLines;
                shippedBytes += span.ShippedBytes;
                aside += span.SetAside.Count;
                asideBytes += span.Bytes - span.ShippedBytes - span.BlankBytes;
                blank += span.BlankLines;
                blankBytes += span.BlankBytes;
                nul += span.NulBytes;
            }

            _counts = _counts with
            {
                ReadLines = read,
                ReadBytes = readBytes,
                ShippedLines = shipped,
                ShippedBytes = shippedBytes,
                SetAsideLines = aside,
                SetAsideBytes = asideBytes,
                BlankLines = blank,
                BlankBytes = blankBytes,
                NulBytes = nul,
            };
        }
    }

    public void CountLost(long bytes)
    {
        lock (_lock) _counts = _counts with { LostBytes = _counts.LostBytes + bytes };
    }

    public void CountFailed(int batches)
    {
        lock (_lock) _failedBatches += batches;
    }

    public void Show(IReadOnlyList<FileProgress> files, string? stall)
    {
        lock (_lock) (_files, _stall, _lookedAt) = (files, stall, time.GetTimestamp());
    }

    /// <summary>Files were looked at, and all is as it was.</summary>
    public void ShowNothingNew()
    {
        lock (_lock) _lookedAt = time.GetTimestamp();
    }

    public void ShowHints(int watched, int unwatched)
    {
        lock (_lock) (_watched, _unwatched) = (watched, unwatched);
    }
}
