using System.Diagnostics;
using System.Globalization;

namespace LogTrace.Benchmarks;

/// <summary>A real server of this run's own, from the folder of engines beside the checkout; its data is deleted with it.</summary>
sealed class OwnServer : IDisposable
{
    readonly string _script;
    readonly string _name;
    readonly string _port;
    readonly string _state;

    OwnServer(string script, string name, string port, string state, string says)
    {
        (_script, _name, _port, _state) = (script, name, port, state);
        // READY kafka 127.0.0.1:29092 pid 4711 state ...
        var words = says.Split(' ');
        Address = words[2];
        ProcessId = int.Parse(words[4], CultureInfo.InvariantCulture);
    }

    /// <summary>HOST:PORT or URL.</summary>
    public string Address { get; }

    public int ProcessId { get; }

    /// <summary>CPU seconds that it has taken so far.</summary>
    public double CpuSeconds
    {
        get
        {
            using var process = Process.GetProcessById(ProcessId);
            return process.TotalProcessorTime.TotalSeconds;
        }
    }

    /// <summary>Starts one and waits until it answers; null where there are no engines.</summary>
    public static OwnServer? Start(string name, params string[] options)
    {
        var script = Environment.GetEnvironmentVariable("LOGTRACE_ENGINES") is { Length: > 0 } given ? given : Report.Shared("engines/engine") is { } beside ? Path.GetFullPath(beside) : null;
        if (script is null || !File.Exists(script)) return null;
        var (port, state) = ($"{Random.Shared.Next(21_000, 29_000)}", Directory.CreateTempSubdirectory("logtrace-bench-engine-").FullName);
        return new OwnServer(script, name, port, state, Tell(script, state, ["start", name, "--port", port, .. options]));
    }

    static string Tell(string script, string state, string[] arguments)
    {
        var info = new ProcessStartInfo(script, arguments) { RedirectStandardOutput = true };
        info.Environment["ENGINES_STATE"] = state;
        using var process = Process.Start(info)!;
        var says = process.StandardOutput.ReadLine() ?? "";
        process.WaitForExit();
        return process.ExitCode == 0 ? says : throw new InvalidOperationException($"{script} {string.Join(' ', arguments)} failed: {says}");
    }

    public void Dispose()
    {
        Tell(_script, _state, ["wipe", _name, "--port", _port]);
        Directory.Delete(_state, recursive: true);
    }
}
