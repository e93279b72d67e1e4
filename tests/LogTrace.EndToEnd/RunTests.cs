using LogTrace.EndToEnd.Support;
using LogTrace.Indexer.Store;
using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary><c>run</c>, and <c>ship</c> with <c>index</c>, on files that LogTrace's logger did not write; stopped, killed and started again.</summary>
public sealed class RunTests
{
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(3);

    [Fact]
    public async Task A_hundred_thousand_lines_in_growing_rotated_files_are_stored_once_over_two_starts()
    {
        using var folder = new TempFolder();
        var log = new GeneratedLog(Path.Combine(folder.Path, "logs"), seed: 7, files: 3, prefix: "run");
        var data = Path.Combine(folder.Path, "data");
        log.Append(20_000);

        await using (var run = ProgramProcess.StartIndexer("run", log.Glob, "--data", data, "--port", "0"))
        {
            for (var round = 0; round < 40; round++)
            {
                log.Append(1_000);
                if (round % 10 == 5) log.Rotate(round % 3);
            }

            await Eventually.HoldsAsync(() => CheckpointCovers(data, atLeast: 30_000), $"half of it is stored: {run.Transcript}", Deadline);
            (await run.StopAsync(TimeSpan.FromSeconds(30))).Should().Be(0, run.Transcript);
        }

        log.Rotate(1); // while nobody looks
        log.Append(40_000);
        log.Close();
        await using var second = ProgramProcess.StartIndexer("run", log.Glob, "--data", data, "--once");
        (await second.ExitCodeAsync(Deadline)).Should().Be(0, second.Transcript);

        await StoredOnceAsync(log, data);
    }

    [Fact]
    public async Task Lines_that_are_no_records_are_set_aside_with_their_reason_and_position()
    {
        using var folder = new TempFolder();
        var path = Path.Combine(folder.Path, "app.log");
        await File.WriteAllLinesAsync(path,
        [
            """{"x_name":"request.info","x_trace_id":"t1","x_rpc_id":"0.1","x_timestamp":1506480162,"x_module":"js_game1_start"}""",
            "no json at all",
            """{"name":"log.info","trace_id":"t1","rpc_id":"0..1","timestamp":1506480162}""",
            """{"name":"log.info","trace_id":"t1","rpc_id":"0.2"}""",
            "",
            """{"name":"log.info","trace_id":"t1","rpc_id":"0.3","timestamp":1506480162}""",
        ]);
        var data = Path.Combine(folder.Path, "data");

        await using var run = ProgramProcess.StartIndexer("run", path, "--data", data, "--once");
        (await run.ExitCodeAsync(Deadline)).Should().Be(0, run.Transcript);

        var balance = Balance.Parse(run.Output);
        (balance.Read, balance.Blank, balance.Stored, balance.SetAside).Should().Be((6, 1, 2, 3));
        var dead = (await Task.WhenAll(Directory.EnumerateFiles(data, "*dead-letter*", SearchOption.AllDirectories).Select(file => File.ReadAllLinesAsync(file)))).SelectMany(lines => lines).ToList();
        dead.Should().HaveCount(3).And.OnlyContain(line => line.Contains("app.log", StringComparison.Ordinal));
        dead.Should().ContainSingle(line => line.Contains("0..1", StringComparison.Ordinal));

        await using var find = ProgramProcess.StartIndexer("find", "--service", "js", "--data", data);
        (await find.ExitCodeAsync(Deadline)).Should().Be(0, find.Transcript);
        find.Output.Should().Contain("2017-09-27 02:42:42").And.Contain(" t1 ");
        await using var nothing = ProgramProcess.StartIndexer("find", "no", "such", "words", "--data", data);
        (await nothing.ExitCodeAsync(Deadline)).Should().Be(1, nothing.Transcript);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public async Task The_embedded_pipeline_killed_at_a_random_moment_loses_and_doubles_nothing(int seed)
    {
        using var folder = new TempFolder();
        var random = new Random(seed);
        var log = new GeneratedLog(Path.Combine(folder.Path, "logs"), seed, files: 3, prefix: $"kill{seed}");
        var data = Path.Combine(folder.Path, "data");

        for (var kill = 0; kill < 2; kill++)
        {
            await using var run = ProgramProcess.StartIndexer("run", log.Glob, "--data", data, "--port", "0");
            await log.GrowAsync(random, TimeSpan.FromMilliseconds(random.Next(700, 3_000)));
            await run.KillAsync();
        }

        log.Close();
        await using var last = ProgramProcess.StartIndexer("run", log.Glob, "--data", data, "--once");
        (await last.ExitCodeAsync(Deadline)).Should().Be(0, $"seed {seed}: {last.Transcript}");

        await StoredOnceAsync(log, data, $"seed {seed}");
    }

    static async Task StoredOnceAsync(GeneratedLog log, string data, string because = "")
    {
        await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = Path.Combine(data, "store"), ReadOnly = true });
        await store.OpenAsync(CancellationToken.None);
        await Stores.HoldsOnceAsync(store, log, because);
    }

    static bool CheckpointCovers(string data, long atLeast) => CheckpointFile.TryRead(Path.Combine(data, "shipper"))?.Counts.ShippedLines >= atLeast;
}
