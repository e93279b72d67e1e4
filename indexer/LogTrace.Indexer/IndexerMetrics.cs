using System.Text.RegularExpressions;
using LogTrace.Shipper;

namespace LogTrace.Indexer;

/// <summary>What the indexer has done since it started. Safe to read at any time; the figures of one <see cref="Balance"/> belong together.</summary>
public sealed partial class IndexerMetrics
{
    const int MaxReasons = 50, MaxReasonLength = 100;

    readonly Lock _lock = new();
    readonly Dictionary<string, long> _reasons = new(StringComparer.Ordinal);
    long _consumed, _stored, _duplicates, _setAside, _dropped, _chainsWritten, _chainsDropped, _recordsRemoved, _retries;

    /// <summary>Lines up to the last commit, and what became of them.</summary>
    public IndexerBalance Balance
    {
        get
        {
            lock (_lock) return new IndexerBalance(_consumed, _stored, _duplicates, _setAside) { Dropped = _dropped };
        }
    }

    /// <summary>Chain documents handed to the store, rewritten ones counted again.</summary>
    public long ChainsWritten => Interlocked.Read(ref _chainsWritten);

    /// <summary>Chains that the rules of keeping decided against.</summary>
    public long ChainsDropped => Interlocked.Read(ref _chainsDropped);

    /// <summary>Records that had been stored and were deleted with their chain.</summary>
    public long RecordsRemoved => Interlocked.Read(ref _recordsRemoved);

    internal void AddDropped(int chains, long records)
    {
        Interlocked.Add(ref _chainsDropped, chains);
        Interlocked.Add(ref _recordsRemoved, records);
    }

    /// <summary>Attempts that failed and were made again.</summary>
    public long Retries => Interlocked.Read(ref _retries);

    /// <summary>Traces with records that are not yet in their chain document.</summary>
    public int OpenTraces { get; internal set; }

    /// <summary>What the indexer is waiting for because it failed, as a sentence part; null while all is well.</summary>
    public string? WaitingFor { get; internal set; }

    /// <summary>Lines set aside by why: the reason without what is peculiar to one line. At most 50 reasons; what comes after them counts as <c>other</c>.</summary>
    public IReadOnlyDictionary<string, long> SetAsideReasons
    {
        get
        {
            lock (_lock) return new Dictionary<string, long>(_reasons);
        }
    }

    /// <summary>How long the store took for a batch of records, retries not included.</summary>
    public TimeHistogram RecordWrites { get; } = new();

    /// <summary>How long the store took to give the records of some traces and to write their chains, the building included.</summary>
    public TimeHistogram ChainBuilds { get; } = new();

    internal void AddReason(string reason)
    {
        var kind = KindOf(reason);
        lock (_lock)
        {
            if (_reasons.Count >= MaxReasons && !_reasons.ContainsKey(kind)) kind = "other";
            _reasons[kind] = _reasons.GetValueOrDefault(kind) + 1;
        }
    }

    /// <summary>"rpc_id '1..2': a segment is empty" is one kind whatever the id, and "no JSON object: ... at byte 17" wherever it happened.</summary>
    internal static string KindOf(string reason)
    {
        var kind = Numbers().Replace(Quoted().Replace(reason, ""), "N").Trim();
        return kind.Length <= MaxReasonLength ? kind : kind[..MaxReasonLength];
    }

    // Greedy: what is quoted is the line's own and may have quotes in it.
    [GeneratedRegex(@"\s*'.*'|\s*\[.*\]|\s*\(.*\)", RegexOptions.Singleline | RegexOptions.CultureInvariant)]
    private static partial Regex Quoted();

    [GeneratedRegex(@"[0-9][0-9,.]*", RegexOptions.CultureInvariant)]
    private static partial Regex Numbers();

    internal void AddBatch(long consumed, long stored, long duplicates, long setAside, long dropped)
    {
        lock (_lock)
        {
            _consumed += consumed;
            _stored += stored;
            _duplicates += duplicates;
            _setAside += setAside;
            _dropped += dropped;
        }
    }

    internal void AddChains(int written) => Interlocked.Add(ref _chainsWritten, written);

    internal void AddRetry() => Interlocked.Increment(ref _retries);
}

/// <param name="Consumed">Lines read and committed.</param>
/// <param name="Stored">Records that were new to the store.</param>
/// <param name="Duplicates">Records that the store had already.</param>
/// <param name="SetAside">Lines in the dead letter.</param>
public readonly record struct IndexerBalance(long Consumed, long Stored, long Duplicates, long SetAside)
{
    /// <summary>Records that were not stored, because their chain had been dropped by the rules of keeping.</summary>
    public long Dropped { get; init; }

    /// <summary>Every line has become exactly one of the four.</summary>
    public bool Balances => Consumed == Stored + Duplicates + SetAside + Dropped;
}
