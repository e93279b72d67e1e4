namespace LogTrace.Indexer.Chains;

/// <summary>How the two sides of one call share ids in a trace (DESIGN.md section 3).</summary>
public enum ChainReading
{
    /// <summary>What most of the trace's ids show; where they show nothing, or as much of both, <see cref="ChainOptions.TieReading"/>.</summary>
    Majority,

    /// <summary>The callee closes with a <c>request.info</c> at <c>P.1</c> for a call logged at <c>P</c>: LogTrace's own form.</summary>
    Pairs,

    /// <summary>Caller and callee log under one id, as Alibaba's tracing and SOFATracer do.</summary>
    Twins,
}

/// <summary>How a chain is built from records.</summary>
public sealed record ChainOptions
{
    public static ChainOptions Default { get; } = new();

    /// <summary>For input known to be twins.</summary>
    public static ChainOptions Twins { get; } = new() { Reading = ChainReading.Twins };

    public ChainReading Reading { get; init; } = ChainReading.Majority;

    /// <summary>The reading of a trace whose ids show as many twins as pairs; <see cref="ChainReading.Majority"/> is not allowed here.</summary>
    public ChainReading TieReading { get; init; } = ChainReading.Pairs;

    /// <summary>Everything that is wrong, one sentence each.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (!Enum.IsDefined(Reading)) problems.Add($"Indexer:Chains:Reading is {Reading}; it must be Majority, Pairs or Twins.");
        if (TieReading is not (ChainReading.Pairs or ChainReading.Twins))
            problems.Add($"Indexer:Chains:TieReading is {TieReading}; it must be Pairs or Twins, since it decides where the majority does not.");
        return problems;
    }
}
