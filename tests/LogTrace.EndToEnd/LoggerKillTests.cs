using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using LogTrace.Benchmarks.Children;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>A logging process that ends under load: what was accepted is in the file.</summary>
public sealed class LoggerKillTests : IDisposable
{
    static readonly TimeSpan s_deadline = TimeSpan.FromMinutes(1);

    // The interval of a flush, and what a busy machine takes to write one.
    static readonly TimeSpan s_unflushedWindow = new TraceFileOptions().FlushInterval + TimeSpan.FromSeconds(2);

    readonly TempFolder _folder = new();

    string LogPath => _folder["logs/load.log"];

    string AcceptedPath => _folder["accepted"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task SIGTERM_under_load_leaves_every_accepted_line_in_the_file(int seed)
    {
        await using var process = await StartAsync(seed);
        var before = Accepted();

        await process.StopAsync(s_deadline);

        var written = Written(seed);
        var accepted = Accepted();
        for (var thread = 0; thread < LineLoad.Threads; thread++)
        {
            accepted[thread].Should().BeGreaterThanOrEqualTo(before[thread]);
            // A line that was accepted last may not have been counted any more.
            written[thread].Should().BeInRange(accepted[thread], accepted[thread] + 1, $"thread {thread}, seed {seed}: {process.Transcript}");
        }
    }

    [Theory]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Kill_9_under_load_loses_at_most_the_unflushed_window(int seed)
    {
        await using var process = await StartAsync(seed);
        var before = Accepted();
        var watch = Stopwatch.StartNew();
        await Eventually.HoldsAsync(() => watch.Elapsed > s_unflushedWindow, "the window is over");

        await process.KillAsync();

        var written = Written(seed);
        var accepted = Accepted();
        for (var thread = 0; thread < LineLoad.Threads; thread++)
        {
            written[thread].Should().BeInRange(before[thread], accepted[thread] + 1, $"thread {thread}, seed {seed}");
        }
    }

    async Task<ProgramProcess> StartAsync(int seed)
    {
        var process = ProgramProcess.StartBenchmarks(LineLoad.Command, LogPath, AcceptedPath, seed.ToString(CultureInfo.InvariantCulture));
        await Eventually.HoldsAsync(() => process.HasExited || (File.Exists(AcceptedPath) && Accepted().Min() > 2_000), "every thread writes", s_deadline);
        process.HasExited.Should().BeFalse(process.Transcript);
        return process;
    }

    long[] Accepted()
    {
        var bytes = new byte[LineLoad.AcceptedBytes];
        using var file = new FileStream(AcceptedPath, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        return [.. Enumerable.Range(0, LineLoad.Threads).Select(thread => BitConverter.ToInt64(bytes, thread * sizeof(long)))];
    }

    /// <summary>How many lines of each thread are there; each is whole and they are in order without a hole.</summary>
    long[] Written(int seed)
    {
        var next = new long[LineLoad.Threads];
        var files = Directory.GetFiles(_folder["logs"]).Order(StringComparer.Ordinal).ToList();
        foreach (var path in files)
        {
            var text = File.ReadAllText(path);
            var end = text.LastIndexOf('\n') + 1;
            if (end < text.Length) path.Should().Be(files[^1], $"only the last line of a killed process may be torn, seed {seed}");
            foreach (var line in text[..end].Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                // Of what went through Serilog the line is the message.
                var own = line[0] == '{' ? JsonDocument.Parse(line).RootElement.GetProperty("msg").GetString()! : line;
                var thread = own[0] - '0';
                own.Should().Be(LineLoad.Line(thread, next[thread], seed));
                next[thread]++;
            }
        }

        return next;
    }
}
