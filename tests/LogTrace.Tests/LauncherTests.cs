using System.Diagnostics;
using System.Globalization;
using LogTrace.Tests.Support;

namespace LogTrace.Tests;

/// <summary>The launcher by itself, with a program in the compiler's place.</summary>
public sealed class LauncherTests
{
    [Fact]
    public async Task What_the_compiler_leaves_running_does_not_keep_the_lock_of_the_build()
    {
        using var folder = new TempFolder();
        var programs = Directory.CreateDirectory(Path.Combine(folder.Path, "programs")).FullName;
        var dotnet = Path.Combine(programs, "dotnet");
        File.Copy(Path.Combine(Repository.Root, "logtrace"), Path.Combine(folder.Path, "logtrace"));
        // As the compiler's server does: it outlives the command that started it.
        await File.WriteAllTextAsync(dotnet, $"#!/bin/sh\n[ \"$1\" != build ] || {{ sleep 60 & echo $! >> '{folder.Path}/left'; }}\n");
        (await RunAsync("chmod", ["+x", dotnet], programs)).Should().Be(0);
        try
        {
            (await RunAsync("sh", [Path.Combine(folder.Path, "logtrace"), "shop"], programs)).Should().Be(0);

            File.Exists(Path.Combine(folder.Path, "left")).Should().BeTrue("something was left running");
            (await RunAsync("flock", ["-n", Path.Combine(folder.Path, "artifacts", ".building"), "true"], programs)).Should().Be(0, "the lock is free");
        }
        finally
        {
            foreach (var left in await File.ReadAllLinesAsync(Path.Combine(folder.Path, "left")))
            {
                using var process = Process.GetProcessById(int.Parse(left, CultureInfo.InvariantCulture));
                process.Kill();
            }
        }
    }

    static async Task<int> RunAsync(string program, string[] arguments, string programs)
    {
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { Environment = { ["PATH"] = $"{programs}:{Environment.GetEnvironmentVariable("PATH")}" } })!;
        await process.WaitForExitAsync(deadline.Token);
        return process.ExitCode;
    }
}
