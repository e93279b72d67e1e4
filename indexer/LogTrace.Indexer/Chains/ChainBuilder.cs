namespace LogTrace.Indexer.Chains;

/// <summary>Turns the records of one trace into its chain, from their ids alone (DESIGN.md section 3). Safe for concurrent use as long as the records are not shared.</summary>
public static class ChainBuilder
{
    /// <summary>Numbers from here on were handed out behind a system that passes W3C's context only (DESIGN.md section 2).</summary>
    public const ulong FirstForeignNumber = 1_000_000;

    /// <summary>A jump of more than this between neighbours is another way of numbering, not a loss.</summary>
    public const ulong LargestGap = 1_000;

    /// <summary>
    /// Builds the chain. Never throws, whatever the records hold; takes time n log n in the total length of the ids. Sets
    /// <see cref="IndexedRecord.Service"/> where the record itself does not name its service, since only the whole trace can tell.
    /// </summary>
    /// <param name="traceId">Id of the trace.</param>
    /// <param name="records">Records of this trace in any order, duplicates included.</param>
    /// <param name="options">How to read them; null for the default.</param>
    /// <param name="known">What earlier chains taught; names calls that nothing in the trace names. Null for nothing.</param>
    public static CallChain Build(string traceId, IReadOnlyList<IndexedRecord> records, ChainOptions? options = null, HopKnowledge? known = null)
    {
        ArgumentNullException.ThrowIfNull(traceId);
        ArgumentNullException.ThrowIfNull(records);
        return ChainAssembly.Build(traceId, records as IndexedRecord[] ?? [.. records], options ?? ChainOptions.Default, known);
    }
}
