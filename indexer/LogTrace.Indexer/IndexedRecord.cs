using LogTrace.Records;

namespace LogTrace.Indexer;

/// <summary>A record with its identity, its source position and the fields derived from it (DESIGN.md section 5): what both stores keep and what chains are built from.</summary>
/// <remarks>What a chain asks of each of its records is kept here and not looked up in the record: a large trace lies scattered over the memory.</remarks>
public sealed class IndexedRecord
{
    readonly TraceRecord _record = null!;

    /// <summary>The record as it was read; must be complete when it is set here.</summary>
    public required TraceRecord Record
    {
        get => _record;
        init
        {
            _record = value;
            RpcIdText = value.RpcId is { IsEmpty: false } id ? id.Text : null;
            TimestampMicros = value.TimestampMicros;
            DurationMicros = value.DurationMicros;
            IsDebug = value.Debug == true;
            IsSampled = value.Sampled == true;
            IsAlarm = value.Utf8(RecordField.Name).SequenceEqual("log.alarm"u8);
            HasUid = value.Has(RecordField.Uid);
        }
    }

    /// <summary>The id as text; null for a record without one.</summary>
    internal string? RpcIdText { get; private init; }

    internal long TimestampMicros { get; private init; }

    internal long? DurationMicros { get; private init; }

    internal bool IsDebug { get; private init; }

    internal bool IsSampled { get; private init; }

    internal bool IsAlarm { get; private init; }

    internal bool HasUid { get; private init; }

    /// <summary>Primary key in both stores: where the line was read, see <see cref="Transport.SourceFile.RecordIdAt"/>.</summary>
    public UInt128 RecordId { get; init; }

    /// <summary>128-bit hash of the line's bytes: equal lines of one trace are one record delivered again.</summary>
    public UInt128 LineHash { get; init; }

    public required string SourceFile { get; init; }
    public long SourceOffset { get; init; }

    /// <summary>Microseconds since the epoch at which the indexer took the record.</summary>
    public long IngestedMicros { get; init; }

    /// <summary>The service that wrote the record; see <see cref="RecordDeriver.ResolveServices"/> for what the rest of the trace can add.</summary>
    public string? Service { get; set => field = SharedNames.Of(value); }

    /// <summary>True when the record itself names its service (field or version); false for a guess from its module, which other records of the trace may better.</summary>
    public bool ServiceIsCertain { get; init; }
    public RecordKind Kind { get; init; }

    /// <summary>The calling service, where the record of handling a call names it for certain (imported data); our own form leaves it to the chain.</summary>
    public string? CallerService { get; init; }

    /// <summary>The called service, where the record of a call names it for certain (imported data); <see cref="Peer"/> is a mere target.</summary>
    public string? CalleeService { get; init; }

    /// <summary>When the work began: the time of logging less the duration for calls and requests, the time of logging for events.</summary>
    public long StartMicros { get; init; }

    /// <summary>When the work ended; for events the time of logging.</summary>
    internal long EndMicros
    {
        get
        {
            var duration = DurationMicros is { } micros and > 0 && Kind is not (RecordKind.Event or RecordKind.Metric) ? micros : 0;
            return StartMicros > long.MaxValue - duration ? long.MaxValue : StartMicros + duration;
        }
    }

    public bool IsError { get; init; }
    public long? CodeNumber { get; init; }

    /// <summary>Path of an HTTP action without ids, host and query, such as <c>/items/{id}</c>.</summary>
    public string? Route { get; init; }

    /// <summary>The action normalised so that equal work is equal text: SQL without literals, URL without ids and query.</summary>
    public string? ActionKey { get; init; }

    /// <summary>What equal errors have in common: kind or code and the message without values. Null where there is no error.</summary>
    public string? ErrorKey { get; init; }

    /// <summary>The target of a call: from host, URL or instance name.</summary>
    public string? Peer { get; init => field = SharedNames.Of(value); }

    /// <summary><c>Name=value</c> of extra's scalar members, bounded.</summary>
    public IReadOnlyList<string> Tags { get; init; } = [];
}
