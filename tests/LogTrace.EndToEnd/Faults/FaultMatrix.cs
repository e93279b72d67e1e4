using System.Diagnostics;
using System.Text.RegularExpressions;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>What a row is tried on.</summary>
enum On
{
    Mock,
    Mock2,
    Real,
    Real3,

    /// <summary>Tests that carry the row's number as trait Fault.</summary>
    Tests,
}

/// <summary>One row of the fault matrix on one kind of broker.</summary>
/// <param name="Number">The row's number.</param>
/// <param name="Fault">What is done.</param>
/// <param name="MustHold">What has to hold, beyond that nothing is lost, no line becomes two records, and what arrives for the first time is in order.</param>
/// <param name="On">What it is tried on.</param>
/// <param name="RunAsync">Does it, and throws when something does not hold.</param>
sealed record FaultRow(int Number, string Fault, string MustHold, On On, Func<FaultCase, Task>? RunAsync = null)
{
    /// <summary>rsyslog is put through the same.</summary>
    public bool HasPeer { get; init; }

    /// <summary>Its short form is one of the everyday tests.</summary>
    public bool IsEveryday { get; init; } = On is On.Mock or On.Mock2;

    /// <summary>So long, or of so little chance, that one seed is enough.</summary>
    public bool IsOnce { get; init; } = On == On.Tests;

    /// <summary>The broker takes no harm, so it may be one that others use.</summary>
    public bool LeavesBroker { get; init; }

    public int Files { get; init; } = 3;

    /// <summary>Why it cannot be tried here; null when it can.</summary>
    public Func<string?> Missing { get; init; } = static () => null;

    /// <summary>Names it in results, and for people.</summary>
    public string Key => $"{Number} {Fault} ({Broker})";

    public string Broker => On switch { On.Mock or On.Mock2 => "mock", On.Real => "Kafka", On.Real3 => "3 x Kafka", _ => "tests" };

    public string? WhyNot => Missing() ?? (On is On.Real or On.Real3 ? LeavesBroker ? RealEngines.KafkaMissing : RealEngines.OwnMissing : null);
}

/// <summary>The rows, and how one of them is run.</summary>
static class FaultMatrix
{
    static readonly Func<string?> NeedsSmallDisk = static () => SmallDisk.IsPossible ? null : "fills a tmpfs of its own, which only root may mount";

    static readonly Func<string?> NeedsNamespace = static () => FileFaults.CanRefuseInotify ? null : "refuses inotify in a user namespace of its own, which this user may not make";

    public static IReadOnlyList<FaultRow> Rows { get; } =
    [
        new(1, "shipper killed (-9) at random moments", "", On.Mock, ProcessFaults.KilledAsync) { HasPeer = true },
        new(1, "shipper killed (-9) at random moments", "", On.Real, ProcessFaults.KilledAsync) { HasPeer = true },
        new(2, "Kafka down; shipper stopped or killed; both come back", "ends within 10 s", On.Mock, ProcessFaults.KafkaDownAsync) { HasPeer = true },
        new(2, "Kafka down; shipper stopped; both come back", "ends within 10 s", On.Real, ProcessFaults.KafkaDownAsync) { HasPeer = true },
        new(2, "broker killed, back after 5 s", "", On.Real, ProcessFaults.BrokerKilledAsync) { HasPeer = true },
        new(2, "broker hung for 60 s", "", On.Real, ProcessFaults.BrokerHungAsync) { HasPeer = true },
        new(2, "Kafka down for 10 minutes under load", "memory flat, ends within 10 s", On.Mock, ProcessFaults.LongOutageAsync) { IsEveryday = false, IsOnce = true },
        new(3, "rename rotation storm, also while the shipper is stopped or killed", "", On.Mock, FileFaults.RotationStormAsync) { HasPeer = true },
        new(3, "rename rotation storm, also while the shipper is stopped or killed", "", On.Real, FileFaults.RotationStormAsync) { HasPeer = true },
        new(4, "copytruncate; emptied and grown past the old size; running and stopped", "", On.Mock, FileFaults.CopyTruncateAsync),
        new(5, "inode reused", "the new file from its first byte", On.Mock, FileFaults.InodeReusedAsync) { Files = 1 },
        new(6, "state cut, zeroed, emptied, changed; disk of the state full", "", On.Mock, ProcessFaults.StateSpoiltAsync),
        new(7, "two indexers killed (-9) at random moments, a topic without keys", "each record once, every chain document as its records make it", On.Real, IndexerFaults.KilledAsync) { Files = 1, LeavesBroker = true, HasPeer = true, Missing = static () => RealEngines.ElasticsearchMissing },
        new(8, "bulk answered by 429, 503, 400, 409, 413, cut, broken, too short, or not at all", "each record stored once or set aside, nothing committed before", On.Real, IndexerFaults.BulksSpoiltAsync) { Files = 1, LeavesBroker = true, HasPeer = true, Missing = static () => RealEngines.ElasticsearchMissing },
        new(8, "bulk answered by 429, 503, 400, 409, 413, cut or broken, or not at all", "each record stored once or set aside, nothing committed before", On.Tests),
        new(9, "one of two indexers frozen beyond its session, again and again", "each record once, every chain document as its records make it", On.Real, IndexerFaults.FrozenAsync) { Files = 1, LeavesBroker = true, Missing = static () => RealEngines.ElasticsearchMissing },
        new(10, "hostile bytes, with kills", "each line byte by byte in the topic or set aside", On.Mock, FileFaults.HostileBytesAsync),
        new(11, "message larger than the broker takes, also when its limit is lowered", "set aside, the stream goes on", On.Tests),
        new(12, "errors in bursts, connections dropped, leaders moved", "", On.Mock2, BrokerFaults.ErrorsAsync),
        new(12, "each of three brokers killed, one after the other", "", On.Real3, BrokerFaults.LeadersKilledAsync),
        new(13, "broker says that the producer's sequence is broken", "", On.Mock, BrokerFaults.SequenceBrokenAsync),
        new(13, "producer fails for good", "another is made", On.Tests),
        new(14, "every answer takes 2 s", "", On.Mock, BrokerFaults.SlowAsync),
        new(15, "connections cut in mid-request", "", On.Mock, BrokerFaults.ConnectionsCutAsync),
        new(16, "shipper frozen (SIGSTOP) for 2 minutes", "", On.Mock, ProcessFaults.FrozenAsync),
        new(17, "two shippers on one state directory; the first killed", "the second refuses and names the first", On.Mock, ProcessFaults.StartedTwiceAsync),
        new(18, "files deleted while open, with a backlog and Kafka down", "", On.Mock, FileFaults.DeletedWhileOpenAsync),
        new(19, "symbolic link chain retargeted", "", On.Mock, FileFaults.LinkRetargetedAsync),
        new(20, "10,000 files, 256 descriptors", "", On.Mock, FileFaults.FewDescriptorsAsync),
        new(21, "no inotify to be had", "refused, without watches, switched off, flooded: said once, all found by looking", On.Mock, FileFaults.WithoutInotifyAsync) { Missing = NeedsNamespace },
        new(22, "directories and files that live less than 100 ms", "no crash, the others whole", On.Mock, FileFaults.ShortLivedAsync),
        new(23, "permissions taken away and given back", "said once for each file", On.Mock, FileFaults.PermissionsLostAsync),
        new(24, "clock a day ahead or back, files of 1970 and 2099", "", On.Tests),
        new(25, "files with equal beginnings, empty files", "both read", On.Tests),
        new(26, "rotated file compressed", "not read twice", On.Tests),
        new(27, "disk of the logs full, lines cut in half", "", On.Mock, FileFaults.LogDiskFullAsync) { Missing = NeedsSmallDisk },
        new(28, "device number changed by a remount", "nothing sent again", On.Tests),
        new(29, "store killed or hung for 60 s, the poll interval of the group 20 s", "nobody leaves the group; each record once, every chain document as its records make it", On.Real, IndexerFaults.StoreAwayAsync) { Files = 1, LeavesBroker = true, Missing = static () => RealEngines.OwnMissing },
        new(29, "store killed or hung for 15 minutes, the poll interval of the group 5 minutes", "nobody leaves the group; each record once, every chain document as its records make it", On.Real, IndexerFaults.StoreAwayLongAsync) { Files = 1, LeavesBroker = true, Missing = static () => RealEngines.OwnMissing, IsOnce = true },
        new(30, "every record refused by the store", "all set aside with the reason, nothing repeated", On.Real, IndexerFaults.AllRefusedAsync) { Files = 1, LeavesBroker = true, Missing = static () => RealEngines.ElasticsearchMissing },
        new(30, "every record refused by the store", "all set aside with the reason, nothing repeated", On.Tests),
        new(31, "dead letter's disk full or its topic away, with kills", "nothing is committed, nothing dropped", On.Mock, IndexerFaults.DeadLetterAwayAsync) { Files = 1 },
        new(31, "dead letter full or away", "nothing is committed, nothing dropped", On.Tests),
        new(32, "random mix of these for 10 minutes", "memory and state flat", On.Mock, ProcessFaults.SoakAsync) { IsOnce = true },
    ];

    /// <summary>Runs a row with one seed.</summary>
    /// <param name="real">The broker to use for rows that need a real one; it stays the caller's.</param>
    /// <param name="withPeer">Puts rsyslog through the same, where the row has it and it is here.</param>
    public static async Task<FaultOutcome> RunAsync(FaultRow row, int seed, bool isShort, FaultBroker? real = null, bool withPeer = false)
    {
        var watch = Stopwatch.StartNew();
        FaultFigures? figures = null, rsyslog = null;
        var says = new List<string>();
        try
        {
            (figures, var notes) = await OnceAsync(row, seed, isShort, real, it => new LogTraceShipper(it));
            says.AddRange(notes);
            if (withPeer && row.HasPeer && Rsyslog.Missing is null)
            {
                (rsyslog, var theirs) = await OnceAsync(row, seed, isShort, real, it => new RsyslogShipper(it));
                says.AddRange(theirs.Select(note => $"rsyslog: {note}"));
            }

            return new FaultOutcome(row.Key, seed, true, watch.Elapsed.TotalSeconds, figures, rsyslog, string.Join("; ", says));
        }
        catch (Exception e)
        {
            // Whatever it is, the row does not hold with this seed, and the others are still to be tried.
            return new FaultOutcome(row.Key, seed, false, watch.Elapsed.TotalSeconds, figures, rsyslog, e.ToString());
        }
    }

    static async Task<(FaultFigures? Figures, IReadOnlyList<string> Notes)> OnceAsync(FaultRow row, int seed, bool isShort, FaultBroker? real, Func<FaultCase, Contender> contender)
    {
        var mock = row.On switch { On.Mock => new MockBroker(), On.Mock2 => new MockBroker(2), _ => null };
        try
        {
            await using var it = new FaultCase(seed, isShort, mock ?? real ?? throw new InvalidOperationException("this row needs a real broker"), row.Files, contender);
            await it.Broker.CreateTopicAsync(it.Topic);
            await row.RunAsync!(it);
            return (it.Figures, it.Notes);
        }
        finally
        {
            if (mock is not null) await mock.DisposeAsync();
        }
    }
}
