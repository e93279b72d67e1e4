using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace LogTrace.Indexer.Commands;

/// <summary>
/// Another of LogTrace's programs, run as a child for the demo. It is ended with this process: gently by <see cref="StopAsync"/>,
/// and for certain by <see cref="DisposeAsync"/>.
/// </summary>
sealed partial class ChildProgram : IAsyncDisposable
{
    const int SigTerm = 15;
    static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(20);

    readonly Process _process;
    readonly StringBuilder _output = new();
    readonly Task _outputRead;
    readonly Task _errorsRead;
    readonly string _name;

    ChildProgram(string name, string assembly, IEnumerable<string> arguments)
    {
        _name = name;
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        start.ArgumentList.Add(assembly);
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        _process = Process.Start(start) ?? throw new InvalidOperationException($"{name} could not be started: dotnet {assembly}");
        _outputRead = CopyAsync(_process.StandardOutput, line => _output.AppendLine(line));
        _errorsRead = CopyAsync(_process.StandardError, line => Console.Error.WriteLine(line.StartsWith(name + ": ", StringComparison.Ordinal) ? line : $"{name}: {line}"));
    }

    public static ChildProgram StartShop(params IEnumerable<string> arguments) => Start("shop", "Shop", arguments);

    static ChildProgram Start(string name, string assembly, IEnumerable<string> arguments)
    {
        // Every project builds into artifacts/bin/<project>/<configuration>; an installed copy may have them all in one folder.
        var here = new DirectoryInfo(AppContext.BaseDirectory.TrimEnd(Path.DirectorySeparatorChar));
        string[] places =
        [
            Path.Combine(here.Parent!.Parent!.FullName, assembly, here.Name, assembly + ".dll"),
            Path.Combine(here.FullName, assembly + ".dll"),
        ];
        var found = Array.Find(places, File.Exists)
            ?? throw new FileNotFoundException($"{assembly}.dll is in none of {string.Join(", ", places)}: build the solution, or start through ./logtrace.");
        return new ChildProgram(name, found, arguments);
    }

    /// <summary>Waits for the end and gives what the program printed.</summary>
    /// <exception cref="InvalidOperationException">It ended with another exit code than 0.</exception>
    public async Task<string> OutputAsync(CancellationToken cancellationToken)
    {
        await _process.WaitForExitAsync(cancellationToken);
        await Task.WhenAll(_outputRead, _errorsRead);
        if (_process.ExitCode != 0) throw new InvalidOperationException($"{_name} ended with exit code {_process.ExitCode}; what it said is above.");
        return _output.ToString();
    }

    /// <summary>Asks the program to stop (SIGTERM) and gives what it printed; null when it had not got as far as to listen to signals.</summary>
    /// <exception cref="TimeoutException">It was still there after 20 s.</exception>
    public async Task<string?> StopAsync()
    {
        // A failed kill means that it has ended already, which the wait below sees.
        _ = kill(_process.Id, SigTerm);
        using var limit = new CancellationTokenSource(StopLimit);
        try
        {
            await _process.WaitForExitAsync(limit.Token);
            return _process.ExitCode == 128 + SigTerm ? null : await OutputAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            throw new TimeoutException($"{_name} did not stop within {StopLimit.TotalSeconds:0} s of SIGTERM.");
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
            await _process.WaitForExitAsync();
        }

        _process.Dispose();
    }

    static async Task CopyAsync(StreamReader from, Action<string> to)
    {
        while (await from.ReadLineAsync() is { } line) to(line);
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
