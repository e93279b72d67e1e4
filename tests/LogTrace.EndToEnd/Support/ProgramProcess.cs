using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace LogTrace.EndToEnd.Support;

/// <summary>A program, mostly one of LogTrace's, as a process of its own: started, read, stopped gently, frozen or killed.</summary>
public sealed partial class ProgramProcess : IAsyncDisposable
{
    const int SigTerm = 15;
    const int SigContinue = 18;
    const int SigStop = 19;
    readonly Process _process;
    readonly StringBuilder _output = new();
    readonly StringBuilder _errors = new();
    readonly string _commandLine;
    bool _isDisposed;

    ProgramProcess(string program, IEnumerable<string> arguments, IReadOnlyDictionary<string, string>? environment)
    {
        var start = new ProcessStartInfo(program)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = Path.GetTempPath(),
        };
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        foreach (var (name, value) in environment ?? new Dictionary<string, string>()) start.Environment[name] = value;
        _commandLine = $"{program} {string.Join(' ', arguments)}";

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Append(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Append(_errors, line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public static ProgramProcess StartIndexer(params string[] arguments) => Run(Program("LogTrace.Indexer"), null, arguments);

    public static ProgramProcess StartIndexerWith(IReadOnlyDictionary<string, string> environment, string[] arguments) => Run(Program("LogTrace.Indexer"), environment, arguments);

    public static ProgramProcess StartShipper(params string[] arguments) => StartShipperThrough([], new Dictionary<string, string>(), arguments);

    public static ProgramProcess StartBenchmarks(params string[] arguments) => Run(Program("LogTrace.Benchmarks"), null, arguments);

    /// <summary>The shipper, run by a program that becomes it, such as <c>setpriv</c>.</summary>
    /// <param name="through">The program and its arguments, to which the shipper's command line is added.</param>
    /// <param name="environment">Added to the environment.</param>
    /// <param name="arguments">The shipper's.</param>
    public static ProgramProcess StartShipperThrough(IReadOnlyList<string> through, IReadOnlyDictionary<string, string> environment, params string[] arguments)
    {
        string[] command = [.. through, .. Program("LogTrace.Shipper"), .. arguments];
        return new(command[0], command[1..], environment);
    }

    /// <summary>Any other program.</summary>
    public static ProgramProcess Start(string program, params string[] arguments) => new(program, arguments, null);

    /// <summary>What <c>./logtrace</c> has compiled ahead of time is run, where there is any: as its users run it, and a start costs a fifth. Default false: what the build has just made.</summary>
    public static bool PrefersAhead { get; set; }

    // The shipper is machine code where that could be made, else compiled ahead for the runtime.
    static string[] Program(string name)
    {
        var artifacts = Path.Combine(LogTrace.Tests.Support.Repository.Root, "artifacts");
        var ahead = Path.Combine(artifacts, "ahead", name, name);
        if (PrefersAhead && File.Exists(ahead + ".dll")) return ["dotnet", ahead + ".dll"];
        if (PrefersAhead && File.Exists(ahead)) return [ahead];
        return ["dotnet", Path.Combine(artifacts, "bin", name, "release", name + ".dll")];
    }

    static ProgramProcess Run(string[] program, IReadOnlyDictionary<string, string>? environment, string[] arguments) => new(program[0], [.. program[1..], .. arguments], environment);

    public int Id => _process.Id;

    public double CpuSeconds => _process.TotalProcessorTime.TotalSeconds;

    public bool HasExited => _isDisposed || _process.HasExited;

    public string Output => Read(_output);

    public string Errors => Read(_errors);

    /// <summary>Everything that helps to see why a test failed.</summary>
    public string Transcript => $"$ {_commandLine}\n{Output}\n--- stderr ---\n{Errors}";

    /// <summary>Waits for the end and gives the exit code.</summary>
    public async Task<int> ExitCodeAsync(TimeSpan deadline)
    {
        using var timeout = new CancellationTokenSource(deadline);
        try
        {
            await _process.WaitForExitAsync(timeout.Token);
        }
        catch (OperationCanceledException)
        {
            throw new TimeoutException($"Not ended after {deadline.TotalSeconds:0} s: {Transcript}");
        }

        return _process.ExitCode;
    }

    /// <summary>SIGTERM, then waits for the end.</summary>
    public Task<int> StopAsync(TimeSpan deadline)
    {
        _ = kill(_process.Id, SigTerm);
        return ExitCodeAsync(deadline);
    }

    /// <summary>SIGSTOP: it stands still until <see cref="Thaw"/>.</summary>
    public void Freeze() => _ = kill(_process.Id, SigStop);

    public void Thaw() => _ = kill(_process.Id, SigContinue);

    /// <summary>Most resident memory so far, in megabytes; 0 once it has ended.</summary>
    public double PeakMegabytes()
    {
        try
        {
            var peak = File.ReadLines($"/proc/{_process.Id}/status").FirstOrDefault(line => line.StartsWith("VmHWM:", StringComparison.Ordinal));
            return peak is null ? 0 : long.Parse(peak.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], System.Globalization.CultureInfo.InvariantCulture) / 1024.0;
        }
        catch (IOException)
        {
            return 0;
        }
    }

    /// <summary>SIGKILL: no chance to say goodbye.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (_isDisposed) return;
        if (!_process.HasExited) await KillAsync();
        _isDisposed = true;
        _process.Dispose();
    }

    static void Append(StringBuilder text, string? line)
    {
        if (line is null) return;
        lock (text) text.AppendLine(line);
    }

    static string Read(StringBuilder text)
    {
        lock (text) return text.ToString();
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
