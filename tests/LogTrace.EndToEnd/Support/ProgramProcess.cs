using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace LogTrace.EndToEnd.Support;

/// <summary>One of LogTrace's programs as a process of its own: started, read, stopped gently or killed.</summary>
public sealed partial class ProgramProcess : IAsyncDisposable
{
    const int SigTerm = 15;
    readonly Process _process;
    readonly StringBuilder _output = new();
    readonly StringBuilder _errors = new();
    readonly string _commandLine;

    ProgramProcess(string assembly, IEnumerable<string> arguments, IReadOnlyDictionary<string, string>? environment)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
            WorkingDirectory = Path.GetTempPath(),
        };
        start.ArgumentList.Add(Path.Combine(LogTrace.Tests.Support.Repository.Root, "artifacts", "bin", assembly, "release", assembly + ".dll"));
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        foreach (var (name, value) in environment ?? new Dictionary<string, string>()) start.Environment[name] = value;
        _commandLine = $"{assembly} {string.Join(' ', arguments)}";

        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Append(_output, line.Data);
        _process.ErrorDataReceived += (_, line) => Append(_errors, line.Data);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public static ProgramProcess StartIndexer(params string[] arguments) => new("LogTrace.Indexer", arguments, null);

    public static ProgramProcess StartShipper(params string[] arguments) => new("LogTrace.Shipper", arguments, null);

    public static ProgramProcess StartBenchmarks(params string[] arguments) => new("LogTrace.Benchmarks", arguments, null);

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

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

    /// <summary>SIGKILL: no chance to say goodbye.</summary>
    public async Task KillAsync()
    {
        _process.Kill();
        await _process.WaitForExitAsync();
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited) await KillAsync();
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
