using System.Text;

namespace LogTrace.Indexer.Store;

/// <summary>One trace's chain as stored: what lists, searches and dashboards need without building the chain again. Derived data, rewritten whenever late records arrive.</summary>
public sealed record ChainDocument
{
    public required string TraceId { get; init; }

    /// <summary>Microseconds since the epoch.</summary>
    public long StartMicros { get; init; }
    public long DurationMicros { get; init; }
    public string? EntryService { get; init; }
    public string? EntryAction { get; init; }

    /// <summary>The entry action without ids and values: what equal requests have in common.</summary>
    public string? EntryKey { get => field ?? ActionKey.Of("request.info", EntryAction); init; }

    public string? EntryCode { get; init; }
    public IReadOnlyList<string> Services { get; init; } = [];

    /// <summary>Distinct <c>caller&gt;callee</c> pairs.</summary>
    public IReadOnlyList<string> Edges { get; init; } = [];

    public int RecordCount { get; init; }
    public int NodeCount { get; init; }
    public int Depth { get; init; }
    public int PlaceholderCount { get; init; }
    public long GapCount { get; init; }
    public int CalleeOnlyCount { get; init; }

    /// <summary>The known loss.</summary>
    public long LostCount => PlaceholderCount + GapCount + CalleeOnlyCount;

    public int LikelyLossCount { get; init; }
    public int AmbiguousCount { get; init; }
    public int ErrorCount { get; init; }
    public int AlarmCount { get; init; }
    public bool Debug { get; init; }
    public bool Sampled { get; init; }
    public string? Uid { get; init; }
    public bool Complete { get; init; }
    public bool Resolved { get; init; }

    /// <summary>Microseconds since the epoch: the newest record's time of logging.</summary>
    public long LastRecordMicros { get; init; }

    /// <summary>No rule of keeping speaks for this chain so far, and it has not been decided on: when its newest record came, in microseconds since the epoch. Null for a chain that stays.</summary>
    public long? UndecidedSince { get; init; }

    /// <summary>The rules decided against it: its records and calls are deleted, and so is every record that comes later. The rest of the document is empty.</summary>
    public bool Dropped { get; init; }

    /// <summary>The drawn rows as a JSON array, the first 5,000.</summary>
    public string RowsJson { get => Encoding.UTF8.GetString(RowsUtf8.Span); init => RowsUtf8 = Encoding.UTF8.GetBytes(value); }

    /// <summary>The same as it is stored.</summary>
    internal ReadOnlyMemory<byte> RowsUtf8 { get; init; } = "[]"u8.ToArray();

    public int RowsTotal { get; init; }

    public IReadOnlyList<CallDocument> Calls { get; init; } = [];
}

/// <summary>One call that crosses a process boundary, placeholders included: dependency graph, slow resources and loss by service are aggregations over these.</summary>
public sealed record CallDocument
{
    /// <summary>128-bit hash of (trace_id, rpc_id, execution).</summary>
    public UInt128 Id { get; init; }
    public required string TraceId { get; init; }
    public required string RpcId { get; init; }
    public int Execution { get; init; }
    public long StartMicros { get; init; }
    public string? EntryService { get; init; }
    public string? EntryAction { get; init; }

    /// <summary>The entry action without ids and values.</summary>
    public string? EntryKey { get => field ?? Indexer.ActionKey.Of("request.info", EntryAction); init; }

    public string? Caller { get; init; }
    public string? Callee { get; init; }
    public string? Peer { get; init; }

    /// <summary>What was called: http, mysql, redis, kafka, ...</summary>
    public string? Kind { get; init; }
    public string? ActionKey { get; init; }
    public long? DurationMicros { get; init; }

    /// <summary>Caller's duration less callee's, where both sides have a record.</summary>
    public long? NetworkMicros { get; init; }
    public bool IsError { get; init; }

    /// <summary>
    /// none, placeholder, callee_only, foreign, irregular; and by what other chains teach: never_recorded (a placeholder where hardly any chain has a record) and
    /// callee_missing (a call without its callee's records where nearly all have them).
    /// </summary>
    public string LossState { get; init; } = "none";

    /// <summary>Missing numbers in the callee's scope, its branches included.</summary>
    public long GapCount { get; init; }

    /// <summary>What of the chain's loss is this call's: itself, if it, its caller's record or (likely) its callee's is missing, and the gaps in its scope. A hop that is never recorded is no loss, nor is what its service numbered.</summary>
    public long LostCount => LossState == "never_recorded" ? 0 : GapCount + (LossState is "placeholder" or "callee_only" or "callee_missing" ? 1 : 0);

    public string? CallerHost { get; init; }
    public string? CalleeHost { get; init; }
}
