using System.Diagnostics;
using System.Runtime.InteropServices;

namespace LogTrace.Benchmarks.Shipper;

/// <summary>What a program took.</summary>
readonly record struct Cost(double CpuSeconds, double WallSeconds, double PeakMegabytes);

/// <summary>A program whose whole cost is measured: CPU of it and all it started, wall time, peak of resident memory.</summary>
sealed class MeasuredProcess : IDisposable
{
    const int Children = -1;
    const int Terminate = 15;

    readonly Process _process;
    readonly string _output;
    readonly Stopwatch _watch = Stopwatch.StartNew();
    readonly double _cpuBefore = ChildrenSeconds();
    double _peakMegabytes;
    TimeSpan _patience = TimeSpan.FromMinutes(10);

    MeasuredProcess(Process process, string output) => (_process, _output) = (process, output);

    /// <summary>Starts a program; what it prints goes to a file.</summary>
    public static MeasuredProcess Start(string output, string program, params IEnumerable<string> arguments)
    {
        // A shell that becomes the program: only so its output needs nobody who reads it.
        var info = new ProcessStartInfo("/bin/sh", ["-c", "out=$1; shift; exec \"$@\" >\"$out\" 2>&1", "sh", output, program, .. arguments]);
        return new MeasuredProcess(Process.Start(info)!, output);
    }

    /// <summary>Waits for its end.</summary>
    /// <param name="patience">Default ten minutes.</param>
    /// <exception cref="InvalidOperationException">It failed, or took longer than that.</exception>
    public Cost End(TimeSpan? patience = null)
    {
        _patience = patience ?? _patience;
        while (!_process.WaitForExit(20)) Look();
        var cost = new Cost(ChildrenSeconds() - _cpuBefore, _watch.Elapsed.TotalSeconds, _peakMegabytes);
        if (_process.ExitCode != 0) throw new InvalidOperationException($"{_process.StartInfo.ArgumentList[4]} failed with {_process.ExitCode}:\n{File.ReadAllText(_output)}");
        return cost;
    }

    /// <summary>Lets a program that never ends run until something holds, then ends it. Its wall time is the time to that point.</summary>
    public Cost EndWhen(Func<bool> isDone)
    {
        while (!isDone())
        {
            if (_process.WaitForExit(50)) throw new InvalidOperationException($"{_process.StartInfo.ArgumentList[4]} ended by itself with {_process.ExitCode}:\n{File.ReadAllText(_output)}");
            Look();
        }

        var wall = _watch.Elapsed.TotalSeconds;
        _ = kill(_process.Id, Terminate);
        return End() with { WallSeconds = wall };
    }

    public bool HasEnded => _process.HasExited;

    /// <summary>CPU seconds of the running program itself.</summary>
    public double CpuSeconds => _process.TotalProcessorTime.TotalSeconds;

    void Look()
    {
        if (_watch.Elapsed > _patience) throw new InvalidOperationException($"{_process.StartInfo.ArgumentList[4]} does not end:\n{File.ReadAllText(_output)}");
        try
        {
            var peak = File.ReadLines($"/proc/{_process.Id}/status").FirstOrDefault(line => line.StartsWith("VmHWM:", StringComparison.Ordinal));
            if (peak is not null) _peakMegabytes = long.Parse(peak.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) / 1024.0;
        }
        catch (IOException)
        {
            // It has ended this moment.
        }
    }

    public void Dispose()
    {
        if (!_process.HasExited) _process.Kill(entireProcessTree: true);
        _process.WaitForExit();
        _process.Dispose();
    }

    /// <summary>CPU of all programs that were started from here and have ended, with what they started themselves.</summary>
    static double ChildrenSeconds()
    {
        _ = getrusage(Children, out var usage);
        return usage.UserSeconds + usage.SystemSeconds + ((usage.UserMicros + usage.SystemMicros) / 1e6);
    }

    [StructLayout(LayoutKind.Sequential, Size = 144)]
    struct Usage
    {
        public long UserSeconds;
        public long UserMicros;
        public long SystemSeconds;
        public long SystemMicros;
    }

    [DllImport("libc")]
    static extern int getrusage(int who, out Usage usage);

    [DllImport("libc")]
    static extern int kill(int process, int signal);
}
