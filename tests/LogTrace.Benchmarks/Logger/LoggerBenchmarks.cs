using System.Diagnostics;
using Microsoft.Win32.SafeHandles;
using Serilog;

namespace LogTrace.Benchmarks.Logger;

/// <summary>How much to measure.</summary>
/// <param name="Rounds">Measured rounds of each side; the median counts.</param>
/// <param name="WarmUps">Rounds of each side before them, until the compiler is through: it takes one of two cores while it is at work.</param>
/// <param name="BurstLines">Lines of a burst into an empty queue; fewer than the queues hold (100,000).</param>
/// <param name="FileLines">Lines of a run to the file.</param>
/// <param name="Calls">Calls of a loop that is over in nanoseconds each.</param>
sealed record LoggerEffort(int Rounds, int WarmUps, int BurstLines, int FileLines, int Calls)
{
    public static LoggerEffort Full => new(5, 10, 50_000, 300_000, 20_000_000);

    public static LoggerEffort Quick => new(3, 2, 10_000, 30_000, 2_000_000);

    public static LoggerEffort Once => new(1, 1, 100, 100, 100);
}

/// <summary>The logger against Serilog and NLog, which write the same fields, and against a loop that only writes.</summary>
static class LoggerBenchmarks
{
    const string Serilog = "Serilog Async + File + JsonFormatter";
    const string NLog = "NLog AsyncWrapper + JsonLayout";
    const int PieceBytes = 64 * 1024;

    // Of rounds that write several times as many lines.
    const int FileWarmUps = 2;

    // A run of lines to the file waits for the writer whatever the queue holds; memory that is touched for the first time would be measured with it.
    static readonly int s_usualQueue = new TraceFileOptions { Path = "unused" }.QueueBytes;

    static readonly AsyncLocal<object?> s_slot = new();
    static readonly object s_filling = new();

    public static void Run(LoggerEffort effort, Report report)
    {
        report.Section("What a record costs its caller", $"Bursts of {effort.BurstLines:N0} records into an empty queue, medians of {effort.Rounds}.", CallerCost(effort));
        report.Section("Lines to a file", $"One producer, {effort.FileLines:N0} lines until the operating system has all of them, medians of {effort.Rounds}.", ToFile(effort));
        report.Section("Log lines through Serilog's ILogger", "The same call on both sides; ours with enricher and sink.", ThroughSerilog(effort));
        report.Section("Memory", "Bytes allocated on the caller's thread, writing what a user writes.", Allocation(effort));
        report.Section("A debug line that is not written", $"Loops of {effort.Calls:N0} calls while no debug request is in flight.", SuppressedDebug(effort));
    }

    public static IEnumerable<Comparison> CallerCost(LoggerEffort effort)
    {
        using var ours = new LogTraceCalls();
        using var serilog = new SerilogBaseline();
        using var nlog = new NLogBaseline();
        var median = Round.Medians(effort.Rounds, effort.WarmUps, () => Burst(ours, effort), () => Burst(serilog, effort), () => Burst(nlog, effort));
        yield return Comparison.AtMost("call record", "ns", median[0], Serilog, median[1], 1 / 5.0);
        yield return Comparison.AtMost("call record", "ns", median[0], NLog, median[2], 1 / 4.0);
    }

    public static IEnumerable<Comparison> ToFile(LoggerEffort effort)
    {
        var ready = ReadyBytes(effort);
        var median = Round.Medians(
            effort.Rounds, FileWarmUps, () => LinesPerSecond(new LogTraceCalls(s_usualQueue), effort), () => LinesPerSecond(new SerilogBaseline(), effort),
            () => LinesPerSecond(new NLogBaseline(), effort), () => RawLinesPerSecond(ready, effort));
        yield return Comparison.AtLeast("call records", "lines/s", median[0], Serilog, median[1], 7);
        yield return Comparison.AtLeast("call records", "lines/s", median[0], NLog, median[2], 1);
        yield return Comparison.AtLeast("call records", "lines/s", median[0], "loop writing the same bytes in 64 KiB pieces", median[3], 0.2);
    }

    public static IEnumerable<Comparison> ThroughSerilog(LoggerEffort effort)
    {
        foreach (var isShort in new[] { false, true })
        {
            var what = isShort ? "line with three values" : "line with the fields of a record";
            double[] cost;
            using (var ours = new LogTraceSerilog(isShort))
            using (var serilog = new SerilogBaseline(isShort))
            {
                cost = Round.Medians(effort.Rounds, effort.WarmUps, () => Burst(ours, effort), () => Burst(serilog, effort));
            }

            yield return Comparison.AtMost(what, "ns for the caller", cost[0], Serilog, cost[1], 1);
            var speed = Round.Medians(
                effort.Rounds, FileWarmUps, () => LinesPerSecond(new LogTraceSerilog(isShort), effort), () => LinesPerSecond(new SerilogBaseline(isShort), effort));
            yield return Comparison.AtLeast(what, "lines/s", speed[0], Serilog, speed[1], 1.5);
        }
    }

    public static IEnumerable<Comparison> Allocation(LoggerEffort effort)
    {
        using var calls = new LogTraceCalls();
        yield return Comparison.NoMoreThan("call record, begun, described and ended", "bytes", AllocatedBytes(effort, calls.Write), 0);
        yield return Comparison.NoMoreThan("request record, written at the request's end", "bytes", AllocatedBytes(effort, calls.WriteRequestRecord), 0);
        yield return Comparison.Alone("the same call as an object (TraceOperation)", "bytes", AllocatedBytes(effort, calls.WriteAsObject));
        yield return Comparison.Alone("a whole request: its record, its scope, two changes of the ambient scope (AsyncLocal)", "bytes", AllocatedBytes(effort, calls.WriteRequest));
        yield return Comparison.Alone("of that, two changes of an AsyncLocal", "bytes", AllocatedBytes(effort, _ => { s_slot.Value = s_filling; s_slot.Value = null; }));
    }

    public static IEnumerable<Comparison> SuppressedDebug(LoggerEffort effort)
    {
        using var ours = new LogTraceSerilog(isShort: true);
        using var tracer = LogTraceCalls.NewLogger(ours.Folder);
        using var traced = new LoggerConfiguration().LogTrace(tracer).CreateLogger();
        using var plain = new LoggerConfiguration().WriteTo.Sink(new Nowhere()).CreateLogger();
        var median = Round.Medians(effort.Rounds, () => Debug(traced, effort), () => Debug(plain, effort));
        yield return new(
            "log.Debug with two values, ns", Comparison.Text(median[0]), "disabled Serilog level", Comparison.Text(median[1]), $"{median[0] - median[1]:+0.00;-0.00} ns",
            "at most +2 ns", median[0] - median[1] <= 2);
        yield return Comparison.NoMoreThan("log.Debug with two values", "bytes", AllocatedBytes(effort, i => traced.Debug("Order {OrderId} of {User}", i, "ann")), 0);
    }

    static double Debug(Serilog.ILogger log, LoggerEffort effort)
    {
        var started = Stopwatch.GetTimestamp();
        for (var i = 0; i < effort.Calls; i++) log.Debug("Order {OrderId} of {User}", i, "ann");
        return Round.Nanoseconds(started) / effort.Calls;
    }

    static double Burst(Contestant contestant, LoggerEffort effort)
    {
        var started = Stopwatch.GetTimestamp();
        for (var i = 0; i < effort.BurstLines; i++) contestant.Write(i);
        var nanoseconds = Round.Nanoseconds(started) / effort.BurstLines;
        contestant.Drain();
        return nanoseconds;
    }

    static double LinesPerSecond(Contestant contestant, LoggerEffort effort)
    {
        using (contestant)
        {
            // Queues of this size, just made, let the collector begin.
            Round.Settle();
            var started = Stopwatch.GetTimestamp();
            for (var i = 0; i < effort.FileLines; i++) contestant.Write(i);
            contestant.Drain();
            return effort.FileLines / (Round.Nanoseconds(started) / 1e9);
        }
    }

    static byte[] ReadyBytes(LoggerEffort effort)
    {
        using var contestant = new LogTraceCalls();
        for (var i = 0; i < effort.FileLines; i++) contestant.Write(i);
        contestant.Drain();
        using var bytes = new MemoryStream();
        foreach (var path in contestant.Files)
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            file.CopyTo(bytes);
        }

        return bytes.ToArray();
    }

    static double RawLinesPerSecond(byte[] ready, LoggerEffort effort)
    {
        var path = Path.Combine(Path.GetTempPath(), $"logtrace-bench-raw-{Environment.ProcessId}");
        using SafeFileHandle file = File.OpenHandle(path, FileMode.Create, FileAccess.Write, FileShare.None, FileOptions.DeleteOnClose);
        var started = Stopwatch.GetTimestamp();
        for (var position = 0; position < ready.Length; position += PieceBytes)
        {
            RandomAccess.Write(file, ready.AsSpan(position, Math.Min(PieceBytes, ready.Length - position)), position);
        }

        return effort.FileLines / (Round.Nanoseconds(started) / 1e9);
    }

    static double AllocatedBytes(LoggerEffort effort, Action<int> write)
    {
        // What is made once, buffers and caches, is made before.
        for (var i = 0; i < 200; i++) write(i);
        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < effort.BurstLines; i++) write(i);
        return Math.Round((GC.GetAllocatedBytesForCurrentThread() - before) / (double)effort.BurstLines, 1);
    }

    sealed class Nowhere : global::Serilog.Core.ILogEventSink
    {
        public void Emit(global::Serilog.Events.LogEvent logEvent)
        {
        }
    }
}
