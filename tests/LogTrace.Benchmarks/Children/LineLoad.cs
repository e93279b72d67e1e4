using System.Globalization;
using System.IO.MemoryMappedFiles;
using System.Text;
using Serilog;

namespace LogTrace.Benchmarks.Children;

/// <summary>
/// A process whose threads log to one file until it is stopped, every second one through Serilog, for tests that stop it. What was accepted is written to a mapped file, which outlives
/// the process however it ends.
/// </summary>
static class LineLoad
{
    /// <summary>Name of the command.</summary>
    public const string Command = "write-lines";

    public const int Threads = 4;
    const int LinesAtOnce = 20;
    const int MaxFill = 400;

    /// <summary>Bytes of the mapped file: the number of lines accepted of each thread.</summary>
    public const int AcceptedBytes = Threads * sizeof(long);

    public static int Run(string path, string acceptedPath, int seed)
    {
        var tracer = new TraceLogger(new() { Service = "load", Department = "tests", File = new() { Path = path, RollBytes = 4 * 1024 * 1024 } });
        var log = new LoggerConfiguration().LogTrace(tracer).CreateLogger();
        using var mapped = MemoryMappedFile.CreateFromFile(acceptedPath, FileMode.Create, null, AcceptedBytes);
        using var accepted = mapped.CreateViewAccessor();
        var threads = Enumerable.Range(0, Threads).Select(thread => new Thread(() => Write(tracer.File!, IsLogged(thread) ? log : null, accepted, thread, seed)) { IsBackground = true }).ToList();
        threads.ForEach(thread => thread.Start());
        // Ends with the process: no handler of ours is in the way of a signal.
        threads.ForEach(thread => thread.Join());
        return 0;
    }

    /// <summary>Line number <paramref name="number"/> of a thread, without its line end.</summary>
    public static string Line(int thread, long number, int seed) =>
        string.Create(CultureInfo.InvariantCulture, $"{thread}:{number}:{new string('x', (int)((number * 31 + thread * 7 + seed) % MaxFill))}");

    static bool IsLogged(int thread) => thread % 2 == 1;

    static void Write(TraceFile file, Serilog.ILogger? log, MemoryMappedViewAccessor accepted, int thread, int seed)
    {
        for (long number = 0; ; number++)
        {
            // The message is the line.
            if (log is not null) log.Information("{Line:l}", Line(thread, number, seed));
            else if (!file.Append(Encoding.ASCII.GetBytes(Line(thread, number, seed) + "\n"))) return;
            accepted.Write(thread * sizeof(long), number + 1);
            // Enough to have writes under way all the time, and not so much that the disk is what is tested.
            if (number % LinesAtOnce == 0) Thread.Sleep(1);
        }
    }
}
