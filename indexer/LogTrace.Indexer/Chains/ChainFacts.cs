using System.Runtime.CompilerServices;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>What a chain wants to know of each record, as bits of one number. The lower half is what is still asked for when the record has its place.</summary>
static class ChainFacts
{
    // What a record is, one bit each: what comes first stands first where several records share an id.
    public const ulong IsCall = 1, IsHandling = 2, IsEvent = 4, OfClasses = 7;

    public const ulong IsServer = 1 << 3, IsMetric = 1 << 4, OfKinds = OfClasses | IsServer | IsMetric;

    public const ulong IsError = 1 << 5, IsSampled = 1 << 6, NamesPartner = 1 << 7, HasClientName = 1 << 8;

    /// <summary>The id fits its key whole, so that equal keys are equal ids.</summary>
    public const ulong IsWhole = 1 << 9;

    /// <summary>The id has a parent and ends in <c>.1</c>.</summary>
    public const ulong IsNumberOne = 1 << 10;

    const int LengthShift = 11, LengthBits = 11, KeyBitsShift = LengthShift + LengthBits;

    public const ulong IsDebug = 1ul << 32, IsAlarm = 1ul << 33, HasUid = 1ul << 34, ServiceIsCertain = 1ul << 35, HasId = 1ul << 36, HasParentSpan = 1ul << 37;

    public static ulong OfId(string id, int keyBits) =>
        ((ulong)id.Length << LengthShift) | ((ulong)Math.Min(keyBits, byte.MaxValue) << KeyBitsShift) | (keyBits <= RpcKey.Bits ? IsWhole : 0) |
        (id.Length > 2 && id[^1] == '1' && id[^2] == '.' ? IsNumberOne : 0);

    /// <summary>Characters of the id.</summary>
    public static int LengthOf(uint facts) => (int)(facts >> LengthShift) & ((1 << LengthBits) - 1);

    /// <summary>Bits of the id's key.</summary>
    public static int KeyBitsOf(uint facts) => (int)(facts >> KeyBitsShift) & byte.MaxValue;

    public static ulong Of(RecordKind kind) => kind switch
    {
        RecordKind.Client => IsCall,
        RecordKind.Server => IsHandling | IsServer,
        RecordKind.Internal => IsHandling,
        RecordKind.Metric => IsEvent | IsMetric,
        _ => IsEvent,
    };

    public static RecordKind KindOf(ulong facts) =>
        (facts & IsCall) != 0 ? RecordKind.Client
        : (facts & IsHandling) != 0 ? ((facts & IsServer) != 0 ? RecordKind.Server : RecordKind.Internal)
        : (facts & IsMetric) != 0 ? RecordKind.Metric
        : RecordKind.Event;

    /// <summary>End of a record's work, of events their time; where it would lie beyond the numbers, the greatest.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static long EndOf(long start, long duration, ulong facts)
    {
        if (duration <= 0 || (facts & IsEvent) != 0) return start;
        return start > long.MaxValue - duration ? long.MaxValue : start + duration;
    }
}
