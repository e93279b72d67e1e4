using System.IO.Hashing;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Indexer;

/// <summary>A record with its identity, its source position and the fields derived from it (DESIGN.md section 5): what both stores keep and what chains are built from.</summary>
/// <remarks>
/// What a chain asks of each of its records is worked out once and kept here, in fields that lie side by side: a large trace lies scattered over the
/// memory, and fetching it from there is most of the work of building its chain.
/// </remarks>
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
            _timestamp = value.TimestampMicros;
            _duration = value.DurationMicros ?? NoDuration;
            var facts = 0ul;
            if (value.RpcId is { IsEmpty: false } id)
            {
                RpcIdText = id.Text;
                var bits = RpcKey.Pack(id.Text, out _keyHigh, out _keyLow);
                facts = ChainFacts.HasId | ChainFacts.OfId(id.Text, bits);
            }

            if (value.Debug == true) facts |= ChainFacts.IsDebug;
            if (value.Sampled == true) facts |= ChainFacts.IsSampled;
            if (value.Has(RecordField.Uid)) facts |= ChainFacts.HasUid;
            var name = value.Utf8(RecordField.Name);
            if (name.SequenceEqual("log.alarm"u8)) facts |= ChainFacts.IsAlarm;
            if (value.Has(RecordField.InstanceName) && (name.StartsWith("http."u8) || name.StartsWith("grpc."u8))) facts |= ChainFacts.HasClientName;
            _span = SpanKey(value.Utf8(RecordField.SpanId));
            _parentSpan = SpanKey(value.Utf8(RecordField.ParentSpanId));
            if (_parentSpan != 0) facts |= ChainFacts.HasParentSpan;
            Set(facts, true);
        }
    }

    /// <summary>Primary key in both stores: where the line was read, see <see cref="Transport.SourceFile.RecordIdAt"/>.</summary>
    public UInt128 RecordId { get; init; }

    /// <summary>128-bit hash of the line's bytes: equal lines of one trace are one record delivered again.</summary>
    public UInt128 LineHash { get; init; }

    public required string SourceFile { get; init; }

    /// <summary>True when the record itself names its service (field or version); false for a guess from its module, which other records of the trace may better.</summary>
    public bool ServiceIsCertain { get => (_facts & ChainFacts.ServiceIsCertain) != 0; init => Set(ChainFacts.ServiceIsCertain, value); }

    public RecordKind Kind
    {
        get => ChainFacts.KindOf(_facts);
        init => _facts = (_facts & ~ChainFacts.OfKinds) | ChainFacts.Of(value);
    }

    /// <summary>The calling service, where the record of handling a call names it for certain (imported data); our own form leaves it to the chain.</summary>
    public string? CallerService
    {
        get;
        init
        {
            field = value;
            if (value is not null) Set(ChainFacts.NamesPartner, true);
        }
    }

    /// <summary>The called service, where the record of a call names it for certain (imported data); <see cref="Peer"/> is a mere target.</summary>
    public string? CalleeService
    {
        get;
        init
        {
            field = value;
            if (value is not null) Set(ChainFacts.NamesPartner, true);
        }
    }

    /// <summary>When the work ended; for events the time of logging.</summary>
    internal long EndMicros => ChainFacts.EndOf(StartMicros, _duration, _facts);

    public bool IsError { get => (_facts & ChainFacts.IsError) != 0; init => Set(ChainFacts.IsError, value); }

    public long? CodeNumber { get; init; }

    /// <summary>Path of an HTTP action without ids, host and query, such as <c>/items/{id}</c>.</summary>
    public string? Route { get; init; }

    /// <summary>The action normalised so that equal work is equal text: SQL without literals, URL without ids and query.</summary>
    public string? ActionKey { get; init; }

    /// <summary>What equal errors have in common: kind or code and the message without values. Null where there is no error.</summary>
    public string? ErrorKey { get; init; }

    /// <summary><c>Name=value</c> of extra's scalar members, bounded.</summary>
    public IReadOnlyList<string> Tags { get; init; } = [];

    // From here on what building a chain looks at. The runtime puts references first, then numbers from the longest to the shortest, each in the order of
    // declaration: so all that every record is asked for lies within 64 bytes.

    /// <summary>The id as text; null for a record without one.</summary>
    internal string? RpcIdText { get; private init; }

    /// <summary>The service that wrote the record; see <see cref="RecordDeriver.ResolveServices"/> for what the rest of the trace can add.</summary>
    public string? Service { get; set => field = SharedNames.Of(value, out _serviceHash); }

    /// <summary><see cref="SharedNames.HashOf"/> the service.</summary>
    internal int ServiceHash => _serviceHash;

    /// <summary>The target of a call: from host, URL or instance name.</summary>
    public string? Peer { get; init => field = SharedNames.Of(value, out _peerHash); }

    /// <summary><see cref="SharedNames.HashOf"/> the peer.</summary>
    internal int PeerHash => _peerHash;

    ulong _facts = ChainFacts.IsEvent;
    readonly ulong _keyHigh, _keyLow;

    /// <summary>When the work began: the time of logging less the duration for calls and requests, the time of logging for events.</summary>
    public long StartMicros { get; init; }

    readonly long _duration = NoDuration;
    readonly long _timestamp;
    readonly ulong _span, _parentSpan;

    public long SourceOffset { get; init; }

    /// <summary>Microseconds since the epoch at which the indexer took the record.</summary>
    public long IngestedMicros { get; init; }

    int _serviceHash;
    readonly int _peerHash;

    /// <summary>What a chain wants to know of the record, as <see cref="ChainFacts"/>.</summary>
    internal ulong Facts => _facts;

    /// <summary>The id as <see cref="RpcKey"/> packs it, first half.</summary>
    internal ulong KeyHigh => _keyHigh;

    internal ulong KeyLow => _keyLow;

    /// <summary>A hash of the span id that stands for it; 0 where the record has none.</summary>
    internal ulong Span => _span;

    internal ulong ParentSpan => _parentSpan;

    internal const long NoDuration = long.MinValue;

    /// <summary>The duration in microseconds, or <see cref="NoDuration"/>.</summary>
    internal long RawDuration => _duration;

    internal long TimestampMicros => _timestamp;

    internal bool IsAlarm => (_facts & ChainFacts.IsAlarm) != 0;

    internal bool HasUid => (_facts & ChainFacts.HasUid) != 0;

    internal bool IsSampled => (_facts & ChainFacts.IsSampled) != 0;

    void Set(ulong fact, bool value) => _facts = value ? _facts | fact : _facts & ~fact;

    // Two different span ids with one hash would be taken for one: of a million, once in ten million traces.
    static ulong SpanKey(ReadOnlySpan<byte> id) => id.IsEmpty ? 0 : Math.Max(1, XxHash3.HashToUInt64(id));
}
