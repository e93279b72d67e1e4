namespace LogTrace.Records;

/// <summary>
/// Span ids of which it can be told later what they were made for. The upper half of one is random, the lower follows from it, from the span that caused it and from the number that it has
/// there. So the record of a request shows that it was made from one scope with one number, though the record of the call that named its span is lost.
/// </summary>
/// <remarks>
/// What causes a call's span is the one that came in with the request it is made in; in a branch, and at the top of a trace, it is the scope's own. What causes a request's own is the call's, or 0,
/// with number 0; a branch's the scope's that it is made in, with the branch's number. Of spans that somebody else made, one in four thousand million looks as if it were bound.
/// </remarks>
public static class BoundSpan
{
    /// <summary>A new span id; never 0, which is none in W3C trace context.</summary>
    /// <param name="cause">Span id of what causes it; 0 for nothing.</param>
    /// <param name="number">Its number there; 0 for none.</param>
    public static ulong Make(ulong cause, ulong number)
    {
        while (true)
        {
            if (Make(cause, number, (uint)Random.Shared.NextInt64()) is var span and not 0) return span;
        }
    }

    /// <summary>The span id with this upper half.</summary>
    /// <param name="cause">Span id of what causes it; 0 for nothing.</param>
    /// <param name="number">Its number there; 0 for none.</param>
    /// <param name="upper">The upper half, to be random.</param>
    public static ulong Make(ulong cause, ulong number, uint upper) => ((ulong)upper << 32) | LowerOf(cause, number, upper);

    /// <summary>True when a span id was made for this cause and number.</summary>
    /// <param name="span">The span id.</param>
    /// <param name="cause">Span id of what may have caused it; 0 for nothing.</param>
    /// <param name="number">Its number there; 0 for none.</param>
    public static bool IsBound(ulong span, ulong cause, ulong number) => (uint)span == LowerOf(cause, number, (uint)(span >> 32));

    // Each step carries upper bits down and lower bits up: after three, every bit that goes in decides on every bit that comes out. 2^64 by the golden ratio has no pattern of its own.
    static uint LowerOf(ulong cause, ulong number, uint upper)
    {
        const ulong Golden = 0x9e3779b97f4a7c15;
        var mixed = (cause + (number * Golden)) ^ ((ulong)upper << 16);
        for (var step = 0; step < 3; step++) mixed = (mixed ^ (mixed >> 32)) * Golden;
        return (uint)(mixed >> 32);
    }
}
