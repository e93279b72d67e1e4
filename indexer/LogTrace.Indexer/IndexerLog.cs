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

    [LoggerMessage(4, LogLevel.Information, "Deleted {Indices}: their day and their last write are more than {KeepDays} days ago")]
    public static partial void IndicesExpired(ILogger logger, string indices, int keepDays);

    [LoggerMessage(5, LogLevel.Warning, "Old indices could not be looked for or deleted, trying again in an hour: {Message}")]
    public static partial void RetentionFailed(ILogger logger, string message);

    [LoggerMessage(6, LogLevel.Warning, "The server has {What}, but this user may not use it; old days are deleted by the indexers")]
    public static partial void LifecycleForbidden(ILogger logger, string what);

    [LoggerMessage(7, LogLevel.Warning, "The server warns: {Warning}")]
    public static partial void ElasticsearchWarns(ILogger logger, string warning);

    [LoggerMessage(10, LogLevel.Information, "Stopped: consumed {Consumed} = stored {Stored} + duplicates {Duplicates} + set aside {SetAside}; {Chains} chains written")]
    public static partial void Stopped(ILogger logger, long consumed, long stored, long duplicates, long setAside, long chains);

    [LoggerMessage(11, LogLevel.Warning, "Stopped after {Limit} before all was written: what was not committed is read again at the next start, and chains that are missing are built then")]
    public static partial void DrainLimitReached(ILogger logger, TimeSpan limit);

    [LoggerMessage(12, LogLevel.Warning, "The {What} is unavailable, trying again until it is back: {Message}")]
    public static partial void Unavailable(ILogger logger, string what, string message);

    [LoggerMessage(13, LogLevel.Information, "The {What} works again after {Failures} failed attempts")]
    public static partial void WorksAgain(ILogger logger, string what, int failures);

    [LoggerMessage(14, LogLevel.Error, "Reading has stopped, nothing is lost: {Message}")]
    public static partial void DeadLetterFull(ILogger logger, string message);

    [LoggerMessage(15, LogLevel.Information, "{Count} traces had no chain, or one that missed records; building them")]
    public static partial void StaleFound(ILogger logger, int count);

    [LoggerMessage(16, LogLevel.Warning, "{Path} is no number; every stored trace is checked for its chain now")]
    public static partial void WatermarkUnreadable(ILogger logger, string path);

    [LoggerMessage(18, LogLevel.Warning, "{Message}")]
    public static partial void KafkaSays(this ILogger logger, string message);

    [LoggerMessage(17, LogLevel.Warning, "{Path} could not be written, so the next start checks more traces than it has to: {Message}")]
    public static partial void WatermarkNotSaved(ILogger logger, string path, string message);
}
