using System.Globalization;

namespace LogTrace;

/// <summary>Where and how records are written to files. <see cref="Validate"/> is called when the file is opened.</summary>
public sealed record TraceFileOptions
{
    /// <summary>
    /// Path such as <c>logs/orders.log</c>; required. It is a pattern: each process writes <c>logs/orders-TIME-PID-NUMBER.log</c>, so that several
    /// processes never share a file and a full file needs no rename. The folder is created.
    /// </summary>
    public string Path { get; init; } = "";

    /// <summary>Size at which a new file is begun: 100 MiB; 4,096 bytes to 1 TiB. A single longer line gets a file of its own.</summary>
    public long RollBytes { get; init; } = 100 * 1024 * 1024;

    /// <summary>
    /// Most bytes that all files of this path may have together: null = keep all; at least twice <see cref="RollBytes"/>. The oldest are deleted, also when no shipper has read them yet.
    /// </summary>
    public long? RetainBytes { get; init; }

    /// <summary>Memory for lines that wait for the disk: 8 MiB; 64 KiB to 1 GiB. When it is full, callers wait.</summary>
    public int QueueBytes { get; init; } = 8 * 1024 * 1024;

    /// <summary>Bytes that are written at once without waiting for <see cref="FlushInterval"/>: 64 KiB; 1,024 bytes to <see cref="QueueBytes"/>.</summary>
    public int FlushBytes { get; init; } = 64 * 1024;

    /// <summary>Longest time that a line waits in memory: 100 ms; 1 ms to 1 minute.</summary>
    public TimeSpan FlushInterval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Longest time that a caller waits when the queue is full: 1 s; 0 to 1 minute. Then its line is dropped and counted.</summary>
    public TimeSpan MaxBlock { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>All problems at once, one sentence each with key, value, range and what to do; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (string.IsNullOrWhiteSpace(Path) || Path.Contains('\0') || System.IO.Path.GetFileName(Path).Length == 0)
        {
            problems.Add($"LogTrace:File:Path is '{Path}'; it must be the path of a file, such as logs/orders.log.");
        }

        Range(nameof(RollBytes), RollBytes, 4_096, 1L << 40);
        Range(nameof(QueueBytes), QueueBytes, 64 * 1024, 1 << 30);
        if (FlushBytes < 1024 || FlushBytes > QueueBytes)
        {
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:File:FlushBytes is {FlushBytes}; it must be between 1,024 bytes and LogTrace:File:QueueBytes ({QueueBytes:N0})."));
        }

        if (RetainBytes is { } retain && retain < 2 * RollBytes)
        {
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:File:RetainBytes is {retain}; it must be at least twice LogTrace:File:RollBytes ({RollBytes:N0}). Leave it out to keep all files."));
        }

        Time(nameof(FlushInterval), FlushInterval, TimeSpan.FromMilliseconds(1));
        Time(nameof(MaxBlock), MaxBlock, TimeSpan.Zero);
        return problems;

        void Range(string key, long value, long lowest, long highest)
        {
            if (value >= lowest && value <= highest) return;
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:File:{key} is {value}; it must be between {lowest:N0} and {highest:N0} bytes."));
        }

        void Time(string key, TimeSpan value, TimeSpan lowest)
        {
            if (value < lowest || value > TimeSpan.FromMinutes(1)) problems.Add($"LogTrace:File:{key} is {value}; it must be between {lowest} and 00:01:00.");
        }
    }
}
