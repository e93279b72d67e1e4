using System.Globalization;

namespace LogTrace.Indexer.Commands;

/// <summary>
/// The counts that prove that nothing went missing between a log file and the store. The equations are DESIGN's:
/// <c>read = shipped + set aside + blank</c> and <c>consumed = stored + duplicates + set aside</c>; where the writers counted what they wrote,
/// also <c>lost = written - thrown away - stored - set aside</c>.
/// </summary>
sealed record Balance
{
    /// <summary>Lines the loggers say they wrote; null where the writers do not count.</summary>
    public long? Written { get; init; }

    /// <summary>Lines in files that the demo threw away on purpose.</summary>
    public long ThrownAway { get; init; }

    /// <summary>Lines that the shipper read, also in earlier runs on the same files; null where it is another process.</summary>
    public long? Read { get; init; }

    public long Shipped { get; init; }
    public long ShipperSetAside { get; init; }
    public long Blank { get; init; }
    public long Consumed { get; init; }
    public long Stored { get; init; }
    public long Duplicates { get; init; }
    public long IndexerSetAside { get; init; }

    /// <summary>Records that came after the rules of keeping had decided against their chain.</summary>
    public long Dropped { get; init; }

    /// <param name="shipper">Null where another process ships.</param>
    /// <param name="indexer">What came out of the transport, and where it went.</param>
    public static Balance Of(Shipper.ShipperCounts? shipper, IndexerBalance indexer) => new()
    {
        Read = shipper?.ReadLines,
        Shipped = shipper?.ShippedLines ?? 0,
        ShipperSetAside = shipper?.SetAsideLines ?? 0,
        Blank = shipper?.BlankLines ?? 0,
        Consumed = indexer.Consumed,
        Stored = indexer.Stored,
        Duplicates = indexer.Duplicates,
        IndexerSetAside = indexer.SetAside,
        Dropped = indexer.Dropped,
    };

    public long? Lost => Written - ThrownAway - Stored - ShipperSetAside - IndexerSetAside - Dropped;

    public bool Holds => (Read is null || Read == Shipped + ShipperSetAside + Blank) && Consumed == Stored + Duplicates + IndexerSetAside + Dropped && Lost is null or 0;

    public void WriteTo(TextWriter output)
    {
        output.WriteLine("balance");
        if (Written is not null)
        {
            output.WriteLine($"  written      {Figure(Written.Value)} (counted by the loggers)");
            output.WriteLine($"  thrown away  {Figure(ThrownAway)}");
        }

        if (Read is not null) output.WriteLine($"  read         {Figure(Read.Value)} = shipped {Figure(Shipped)} + set aside {Figure(ShipperSetAside)} + blank {Figure(Blank)}");
        output.WriteLine($"  consumed     {Figure(Consumed)} = stored {Figure(Stored)} + duplicates {Figure(Duplicates)} + set aside {Figure(IndexerSetAside)}{(Dropped > 0 ? $" + dropped {Figure(Dropped)}" : "")}");
        if (Written is null && Read is not null && Consumed != Shipped) output.WriteLine("  (read counts since the first start with this --data, consumed since this start)");
        if (Lost is not null) output.WriteLine($"  lost         {Figure(Lost.Value)} = written - thrown away - stored - set aside");
        if (!Holds) output.WriteLine("  DOES NOT BALANCE: please keep the log files and the data folder, they show where the difference arose");
    }

    static string Figure(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
