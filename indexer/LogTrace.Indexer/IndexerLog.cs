namespace LogTrace.Indexer;

/// <summary>Everything the indexer says, to stderr. Error: data is at stake or a person is needed; warning: recovered; information: lifecycle. Nothing per record.</summary>
static partial class IndexerLog
{
    [LoggerMessage(1, LogLevel.Information, "Deleted {File} ({Bytes} bytes): its day and its last write are more than {KeepDays} days ago")]
    public static partial void DayExpired(ILogger logger, string file, int keepDays, long bytes);

    [LoggerMessage(2, LogLevel.Warning, "Deleted {File} ({Bytes} bytes): the store had outgrown its limit of {MaxBytes} bytes")]
    public static partial void DayDeletedForSpace(ILogger logger, string file, long maxBytes, long bytes);

    [LoggerMessage(3, LogLevel.Warning, "{Directory} holds {Bytes} bytes, more than its limit of {MaxBytes}, and nothing in it is old enough to be deleted; raise Sqlite:MaxBytes or log less")]
    public static partial void StoreOverSize(ILogger logger, string directory, long bytes, long maxBytes);
}
