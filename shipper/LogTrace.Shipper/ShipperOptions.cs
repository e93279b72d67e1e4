namespace LogTrace.Shipper;

/// <summary>
/// What to ship and within which limits: section Shipper of shipper.json, LOGTRACE__Shipper__Key in the environment, flags of <c>ship</c>.
/// </summary>
public sealed record ShipperOptions
{
    /// <summary>
    /// Patterns of the files to read: <c>*</c>, <c>?</c>, <c>[a-z]</c>, <c>{one,two}</c> and <c>**</c> for any directories. Relative ones start at the current directory.
    /// </summary>
    public IReadOnlyList<string> Paths { get; init; } = [];

    /// <summary>Patterns of files to leave out; one without a slash is compared with the file name alone. Default none.</summary>
    public IReadOnlyList<string> Exclude { get; init; } = [];

    /// <summary>Holds the directory <c>shipper</c> with checkpoint, lock and dead letter. One shipper at a time. Default <c>logtrace-data</c>.</summary>
    public string DataDirectory { get; init; } = "logtrace-data";

    /// <summary>
    /// Names this machine in the identity of its records; two machines must never share it, and it must not change while files are being read.
    /// Default: machine id and host name. In Kubernetes: the node's name, with the data directory on the node.
    /// </summary>
    public string HostId { get; init; } = FileIdentity.DefaultHostId();

    /// <summary>
    /// plain, or what a container runtime wraps around every line: cri (Kubernetes: /var/log/pods/*/*/*.log) or docker (json-file). Parts of a line are joined, also over a rotation. Default plain.
    /// </summary>
    public LineFormat Format { get; init; }

    /// <summary>Longer lines are set aside. 1,024 to 16,777,216 bytes, default 1,048,576.</summary>
    public int MaxLineBytes { get; init; } = 1 << 20;

    /// <summary>A batch is sent at this size, or when there is nothing more to read. 1,024 to 67,108,864 bytes, default 1,048,576. One line more may be in it.</summary>
    public int BatchBytes { get; init; } = 1 << 20;

    /// <summary>Batches sent and not acknowledged; at this number reading waits. 1 to 64, default 8.</summary>
    public int MaxInFlightBatches { get; init; } = 8;

    /// <summary>How often files that grow, and those that the kernel says have changed, are looked at while there is nothing else to do. 1 ms to 10 s, default 100 ms.</summary>
    public TimeSpan PollInterval { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>How often new, renamed and deleted files are looked for; with thousands of files less often, but at least every 2 s. 1 ms to 60 s, default 500 ms. Where the kernel tells of changes, only after it did.</summary>
    public TimeSpan DiscoveryInterval { get; init; } = TimeSpan.FromMilliseconds(500);

    /// <summary>
    /// Let the kernel tell of changes (inotify: one instance, one watch for each directory), so that quiet files need not be looked at all the time. Only hints: without
    /// them, or with too few watches, or on a network file system, everything is found by looking as often as <see cref="DiscoveryInterval"/> says. Default true.
    /// </summary>
    public bool Hints { get; init; } = true;

    /// <summary>
    /// How often files are looked at and looked for even though the kernel told of nothing: the longest that a change of which it fails to tell stays unseen. After the first
    /// one, files are looked for as without hints. Counts as <see cref="DiscoveryInterval"/> when that is longer. 1 ms to 60 s, default 5 s.
    /// </summary>
    public TimeSpan QuietInterval { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>The checkpoint is saved at most this often, or after <see cref="CheckpointBytes"/>. 1 ms to 60 s, default 200 ms.</summary>
    public TimeSpan CheckpointInterval { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>The checkpoint is saved when this much was acknowledged since the last save. At least 1, default 67,108,864 bytes.</summary>
    public long CheckpointBytes { get; init; } = 64 << 20;

    /// <summary>
    /// How long a stop waits for acknowledgements; what has none by then is sent again at the next start. 0 to 10 minutes, default 5 s, since service managers kill after 10 s.
    /// </summary>
    public TimeSpan StopLimit { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>A deleted file is let go when nothing was written to it for this long. 0 to 1 day, default 5 s.</summary>
    public TimeSpan DeletedGrace { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// A new file that begins like one that is being read may be a copy made by a rotation: it waits until it has not grown for this long, or until the
    /// original is emptied. 0 to 1 hour, default 2 s.
    /// </summary>
    public TimeSpan CopyGrace { get; init; } = TimeSpan.FromSeconds(2);

    /// <summary>A file that was found nowhere for this long leaves the checkpoint. 1 minute to 10 years, default 7 days.</summary>
    public TimeSpan ForgetAfter { get; init; } = TimeSpan.FromDays(7);

    /// <summary>Files held open; with more, those that did not change longest are closed and opened again when they do. 1 to 1,000,000, default 4,096; fewer where the process may not open as many.</summary>
    public int MaxOpenFiles { get; init; } = 4096;

    /// <summary>Size at which the dead letter is full and reading stops. At least 4,096 bytes, default 1 GiB.</summary>
    public long DeadLetterBytes { get; init; } = 1L << 30;

    /// <summary>
    /// Address and port, such as 127.0.0.1:9470, where /metrics (Prometheus), /healthz, /readyz and / (one line) are served; without a password, so on loopback or
    /// in a network that may see file names. Default none.
    /// </summary>
    public string? Listen { get; init; }

    /// <summary>How often a line about the course of things is logged, if anything went on or nothing gets on. 0 for never, else 1 s to 1 day. Default 1 minute.</summary>
    public TimeSpan StatusInterval { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>End when everything that is there is safe on the other side. Default false: go on until stopped.</summary>
    public bool Once { get; init; }

    /// <summary>Where checkpoint, lock and dead letter are.</summary>
    public string StateDirectory => Path.Combine(Path.GetFullPath(DataDirectory), "shipper");

    /// <summary>The lines that could not be sent.</summary>
    public string DeadLetterPath => Path.Combine(StateDirectory, "dead-letter.jsonl");

    /// <summary>Everything that is wrong, one sentence each with key, value, allowed range and what to do; empty when all is well.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (Paths.Count == 0) problems.Add("Shipper:Paths is empty; it must name at least one file or pattern, such as '/var/log/shop/*.log'.");
        foreach (var path in Paths.Where(string.IsNullOrWhiteSpace)) problems.Add($"Shipper:Paths holds '{path}'; each must name a file or pattern. Remove it.");
        foreach (var path in Exclude.Where(string.IsNullOrWhiteSpace)) problems.Add($"Shipper:Exclude holds '{path}'; each must name a file or pattern. Remove it.");
        if (string.IsNullOrWhiteSpace(DataDirectory)) problems.Add($"Shipper:DataDirectory is '{DataDirectory}'; it must name a directory that can be written to.");
        if (HostId.Length is 0 or > 256 || HostId.Any(char.IsControl))
            problems.Add($"Shipper:HostId is '{HostId}'; it must be 1 to 256 visible characters that no other machine uses.");
        if (Listen is not null && StatusEndpoint.Parse(Listen) is null) problems.Add($"Shipper:Listen is '{Listen}'; it must be an address and a port, such as 127.0.0.1:9470 or 0.0.0.0:9470.");
        InRange("MaxLineBytes", MaxLineBytes, 1_024, 16_777_216, "bytes");
        InRange("BatchBytes", BatchBytes, 1_024, 67_108_864, "bytes");
        InRange("MaxInFlightBatches", MaxInFlightBatches, 1, 64, "batches");
        InRange("CheckpointBytes", CheckpointBytes, 1, long.MaxValue, "bytes");
        InRange("MaxOpenFiles", MaxOpenFiles, 1, 1_000_000, "files");
        InRange("DeadLetterBytes", DeadLetterBytes, 4_096, long.MaxValue, "bytes");
        Lasts("PollInterval", PollInterval, TimeSpan.FromMilliseconds(1), TimeSpan.FromSeconds(10));
        Lasts("DiscoveryInterval", DiscoveryInterval, TimeSpan.FromMilliseconds(1), TimeSpan.FromSeconds(60));
        Lasts("QuietInterval", QuietInterval, TimeSpan.FromMilliseconds(1), TimeSpan.FromSeconds(60));
        Lasts("CheckpointInterval", CheckpointInterval, TimeSpan.FromMilliseconds(1), TimeSpan.FromSeconds(60));
        Lasts("StopLimit", StopLimit, TimeSpan.Zero, TimeSpan.FromMinutes(10));
        Lasts("DeletedGrace", DeletedGrace, TimeSpan.Zero, TimeSpan.FromDays(1));
        Lasts("CopyGrace", CopyGrace, TimeSpan.Zero, TimeSpan.FromHours(1));
        if (StatusInterval != TimeSpan.Zero) Lasts("StatusInterval", StatusInterval, TimeSpan.FromSeconds(1), TimeSpan.FromDays(1));
        Lasts("ForgetAfter", ForgetAfter, TimeSpan.FromMinutes(1), TimeSpan.FromDays(3650));
        return problems;

        void InRange(string key, long value, long least, long most, string unit)
        {
            if (value < least || value > most)
                problems.Add(most == long.MaxValue
                    ? $"Shipper:{key} is {value:N0}; it must be at least {least:N0} {unit}."
                    : $"Shipper:{key} is {value:N0}; it must be between {least:N0} and {most:N0} {unit}.");
        }

        void Lasts(string key, TimeSpan value, TimeSpan least, TimeSpan most)
        {
            if (value < least || value > most) problems.Add($"Shipper:{key} is {value}; it must be between {least} and {most} (days.hours:minutes:seconds).");
        }
    }
}
