namespace LogTrace.Indexer.Store;

/// <summary>Where the SQLite store lies and how much it keeps.</summary>
public sealed record SqliteStoreOptions
{
    /// <summary>Folder of the day files; made when missing. One writing process at a time.</summary>
    public required string Directory { get; init; }

    /// <summary>Reads beside a writer in another process: nothing is made, changed or deleted. A missing folder reads as an empty store.</summary>
    public bool ReadOnly { get; init; }

    /// <summary>A day's file is deleted when both the day and its last write are longer ago than this many days. Default 7; 1 to 36,500.</summary>
    public int KeepDays { get; init; } = 7;

    /// <summary>Size of all files together beyond which the oldest days are deleted, whatever <see cref="KeepDays"/> says. Default 10 GiB; at least 64 MiB.</summary>
    public long MaxBytes { get; init; } = 10L << 30;

    /// <summary>Records older than this many days share the overflow file. Default 400; 1 to 36,500.</summary>
    public int OverflowAfterDays { get; init; } = 400;

    /// <summary>Records more than this many days ahead of the clock share the overflow file. Default 1; 1 to 36,500.</summary>
    public int OverflowAheadDays { get; init; } = 1;

    /// <summary>Longest line that is stored; a longer one is refused. Default 64 MiB; 1 KiB to 512 MiB.</summary>
    public int MaxLineBytes { get; init; } = 64 << 20;

    /// <summary>Connections kept open between calls; each holds two file handles. Default 48; 1 to 1,000.</summary>
    public int MaxIdleConnections { get; init; } = 48;

    /// <summary>How long a call waits for a lock that another process holds before it reports the store as unavailable. Default 10 s; 0 to 5 minutes.</summary>
    public TimeSpan BusyTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>All problems at once, each with the key, the value, the range and so the fix; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (string.IsNullOrWhiteSpace(Directory)) problems.Add("Sqlite:Directory is empty; it must name a folder.");
        Check("KeepDays", KeepDays, 1, 36_500, "days");
        Check("MaxBytes", MaxBytes, 64L << 20, long.MaxValue, "bytes");
        Check("OverflowAfterDays", OverflowAfterDays, 1, 36_500, "days");
        Check("OverflowAheadDays", OverflowAheadDays, 1, 36_500, "days");
        Check("MaxLineBytes", MaxLineBytes, 1 << 10, 512 << 20, "bytes");
        Check("MaxIdleConnections", MaxIdleConnections, 1, 1_000, "connections");
        if (BusyTimeout < TimeSpan.Zero || BusyTimeout > TimeSpan.FromMinutes(5))
            problems.Add($"Sqlite:BusyTimeout is {BusyTimeout}; it must be between 00:00:00 and 00:05:00.");
        return problems;

        void Check(string key, long value, long least, long most, string unit)
        {
            if (value < least || value > most) problems.Add($"Sqlite:{key} is {value:N0}; it must be between {least:N0} and {most:N0} {unit}.");
        }
    }
}
