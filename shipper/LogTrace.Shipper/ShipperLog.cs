using Microsoft.Extensions.Logging;

namespace LogTrace.Shipper;

/// <summary>Everything the shipper says. Error: data is lost or a person is needed. Warning: recovered, or waiting. Information: the course of things.</summary>
static partial class ShipperLog
{
    [LoggerMessage(1, LogLevel.Information, "Shipping {Patterns}; state in {StateDirectory}, {FileCount} files known")]
    public static partial void Started(this ILogger logger, string patterns, string stateDirectory, int fileCount);

    [LoggerMessage(2, LogLevel.Information, "Stopped; read {ReadLines} = shipped {ShippedLines} + set aside {SetAsideLines} + blank {BlankLines} lines since the first start")]
    public static partial void Stopped(this ILogger logger, long readLines, long shippedLines, long setAsideLines, long blankLines);

    [LoggerMessage(3, LogLevel.Error, "{Problem} The older checkpoint is used if it is whole; lines sent since then are sent again with the same ids")]
    public static partial void CheckpointDamaged(this ILogger logger, string problem);

    [LoggerMessage(4, LogLevel.Error, "No checkpoint in {StateDirectory} is whole: all files are read again from their start, with the same ids as before")]
    public static partial void NoCheckpointLeft(this ILogger logger, string stateDirectory);

    [LoggerMessage(5, LogLevel.Error, "The checkpoint cannot be saved in {StateDirectory}: {Reason} Shipping goes on where it can; after a crash more lines are sent again. Free space there or make it writable")]
    public static partial void CheckpointFailed(this ILogger logger, string stateDirectory, string reason);

    [LoggerMessage(6, LogLevel.Information, "The checkpoint can be saved again")]
    public static partial void CheckpointRecovered(this ILogger logger);

    [LoggerMessage(10, LogLevel.Information, "Found {Path}")]
    public static partial void Found(this ILogger logger, string path);

    [LoggerMessage(11, LogLevel.Information, "{OldPath} is now {Path}")]
    public static partial void Renamed(this ILogger logger, string oldPath, string path);

    [LoggerMessage(12, LogLevel.Information, "{Path} was emptied or overwritten after byte {Offset}: it is read again from its start as a new file")]
    public static partial void Emptied(this ILogger logger, string path, long offset);

    [LoggerMessage(13, LogLevel.Information, "{Path} is a copy of {Original}: it goes on at byte {Offset}")]
    public static partial void CopyFound(this ILogger logger, string path, string original, long offset);

    [LoggerMessage(14, LogLevel.Error, "{Path}: at least {LostBytes} bytes were emptied or overwritten before they were shipped, and no copy of them is beside it: they are lost")]
    public static partial void Lost(this ILogger logger, string path, long lostBytes);

    [LoggerMessage(15, LogLevel.Information, "{Path} is deleted; its open end is still read")]
    public static partial void Deleted(this ILogger logger, string path);

    [LoggerMessage(16, LogLevel.Debug, "{Path} is gone and finished at byte {Offset}")]
    public static partial void Finished(this ILogger logger, string path, long offset);

    [LoggerMessage(17, LogLevel.Information, "{Path} is compressed and is not read")]
    public static partial void Compressed(this ILogger logger, string path);

    [LoggerMessage(18, LogLevel.Warning, "{Path} cannot be read: {Reason} It is tried again every time files are looked for")]
    public static partial void Unreadable(this ILogger logger, string path, string reason);

    [LoggerMessage(19, LogLevel.Warning, "{Pattern} matches no file")]
    public static partial void NoMatch(this ILogger logger, string pattern);

    [LoggerMessage(20, LogLevel.Warning, "Nothing can be sent: {Reason} Reading stops, and is tried again; the log files are the buffer")]
    public static partial void TransportDown(this ILogger logger, string reason);

    [LoggerMessage(21, LogLevel.Information, "Sending works again after {Failures} failures; lines not known to be safe were sent again")]
    public static partial void TransportUp(this ILogger logger, int failures);

    [LoggerMessage(22, LogLevel.Error, "Nothing can be set aside: {Reason} Reading stops until it can")]
    public static partial void DeadLetterBlocked(this ILogger logger, string reason);

    [LoggerMessage(23, LogLevel.Information, "Setting lines aside works again")]
    public static partial void DeadLetterFree(this ILogger logger);

    [LoggerMessage(24, LogLevel.Warning, "{Batches} batches were not acknowledged within {Limit}; their lines are sent again at the next start")]
    public static partial void DrainLimitReached(this ILogger logger, int batches, TimeSpan limit);

    [LoggerMessage(25, LogLevel.Warning, "{Sentence}")]
    public static partial void TransportSays(this ILogger logger, string sentence);

    [LoggerMessage(26, LogLevel.Information, "Metrics and health are served at http://{Address}/")]
    public static partial void StatusServed(this ILogger logger, System.Net.IPEndPoint address);

    [LoggerMessage(27, LogLevel.Error, "Metrics and health are no longer served: {Reason}")]
    public static partial void StatusEnded(this ILogger logger, string reason);

    [LoggerMessage(28, LogLevel.Warning, "Shipper:MaxOpenFiles is {Wanted}, but this process may open so few files that {Possible} are held open; raise its limit (ulimit -n, LimitNOFILE)")]
    public static partial void FewDescriptors(this ILogger logger, int wanted, int possible);

    [LoggerMessage(29, LogLevel.Information, "{Status}")]
    public static partial void Status(this ILogger logger, string status);

    [LoggerMessage(30, LogLevel.Warning, "The kernel does not tell of all changes: {Problem} Files are looked at every {Interval} instead, which takes more of the processor and nothing else")]
    public static partial void NoHints(this ILogger logger, string problem, TimeSpan interval);
}
