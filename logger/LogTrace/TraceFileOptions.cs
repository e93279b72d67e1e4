using System.Globalization;

namespace LogTrace;

/// <summary>What a caller does when the memory for waiting lines is full.</summary>
public enum FullQueue
{
    /// <summary>It waits for room, at most <see cref="TraceFileOptions.MaxBlock"/>, and then drops its line, counted.</summary>
    Block,

    /// <summary>It drops its line at once, counted.</summary>
    DropNewest,
}

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
    /// Time after which a new file is begun, counted from midnight UTC: 1 day; 1 minute to 366 days, null = only by size. A file without lines is not followed by another.
    /// </summary>
    public TimeSpan? RollInterval { get; init; } = TimeSpan.FromDays(1);

    /// <summary>
    /// Most bytes that all files of this path may have together: null = keep all; at least twice <see cref="RollBytes"/>. The oldest are deleted, also when no shipper has read them yet.
    /// </summary>
    public long? RetainBytes { get; init; }

    /// <summary>Most files of this path: null = keep all; 2 to 1,000,000. The oldest are deleted when a file is begun, as for <see cref="RetainBytes"/>.</summary>
    public int? RetainFiles { get; init; }

    /// <summary>Age at which a file is deleted, counted from its last line: null = keep all; 1 minute to 3,660 days. Looked at when a file is begun.</summary>
    public TimeSpan? RetainAge { get; init; }

    /// <summary>
    /// Memory for lines that wait for the disk, taken at the start: 8 MiB; 64 KiB to 1 GiB. One half fills while the other is written. A line longer than a half passes
    /// through memory of its own. Log lines through Serilog wait packed, mostly in half of what their lines take.
    /// </summary>
    public int QueueBytes { get; init; } = 8 * 1024 * 1024;

    /// <summary>Bytes that are written at once without waiting for <see cref="FlushInterval"/>: 64 KiB; 1,024 bytes to half of <see cref="QueueBytes"/>.</summary>
    public int FlushBytes { get; init; } = 64 * 1024;

    /// <summary>Longest time that a line waits in memory: 100 ms; 1 ms to 1 minute.</summary>
    public TimeSpan FlushInterval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>What a caller does when the queue is full: <see cref="FullQueue.Block"/>.</summary>
    public FullQueue WhenFull { get; init; } = FullQueue.Block;

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
        if (FlushBytes < 1024 || FlushBytes > QueueBytes / 2)
        {
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:File:FlushBytes is {FlushBytes}; it must be between 1,024 bytes and half of LogTrace:File:QueueBytes ({QueueBytes / 2:N0})."));
        }

        if (RetainBytes is { } retain && retain < 2 * RollBytes)
        {
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:File:RetainBytes is {retain}; it must be at least twice LogTrace:File:RollBytes ({RollBytes:N0}). Leave it out to keep all files."));
        }

        if (RetainFiles is < 2 or > 1_000_000) problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:File:RetainFiles is {RetainFiles}; it must be between 2 and 1,000,000 files. Leave it out to keep all files."));
        if (!Enum.IsDefined(WhenFull)) problems.Add($"LogTrace:File:WhenFull is {WhenFull}; it must be {string.Join(" or ", Enum.GetNames<FullQueue>())}.");
        if (RollInterval is { } roll) Time(nameof(RollInterval), roll, TimeSpan.FromMinutes(1), TimeSpan.FromDays(366));
        if (RetainAge is { } age) Time(nameof(RetainAge), age, TimeSpan.FromMinutes(1), TimeSpan.FromDays(3660));
        Time(nameof(FlushInterval), FlushInterval, TimeSpan.FromMilliseconds(1), TimeSpan.FromMinutes(1));
        Time(nameof(MaxBlock), MaxBlock, TimeSpan.Zero, TimeSpan.FromMinutes(1));
        return problems;

        void Range(string key, long value, long lowest, long highest)
        {
            if (value >= lowest && value <= highest) return;
            problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:File:{key} is {value}; it must be between {lowest:N0} and {highest:N0} bytes."));
        }

        void Time(string key, TimeSpan value, TimeSpan lowest, TimeSpan highest)
        {
            if (value < lowest || value > highest) problems.Add($"LogTrace:File:{key} is {value}; it must be between {lowest} and {highest}.");
        }
    }
}
