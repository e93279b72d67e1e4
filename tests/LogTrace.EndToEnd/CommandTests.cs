using System.Text.Json;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>What a user sees of a wrong option, a damaged file or a server that is away: one sentence, the right exit code, and an end in time.</summary>
public sealed class CommandTests
{
    const string Line = """{"name":"request.info","trace_id":"t1","rpc_id":"1.1","timestamp":1506480162,"action":"GET /"}""";
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(1);

    [Fact]
    public async Task A_damaged_store_is_named_with_what_to_do()
    {
        using var folder = new TempFolder();
        await File.WriteAllTextAsync(folder["a.log"], Line + "\n");
        (await RunAsync("run", folder["a.log"], "--once", "--data", folder["data"])).ExitCode.Should().Be(0);
        foreach (var file in Directory.EnumerateFiles(folder["data/store"], "*.db")) await File.WriteAllTextAsync(file, new string('x', 40_000));

        foreach (var command in (string[][])[["chain", "t1"], ["run", folder["a.log"], "--once"]])
        {
            var (exitCode, errors) = await RunAsync([.. command, "--data", folder["data"]]);

            exitCode.Should().Be(1);
            errors.Should().Contain("is damaged").And.Contain("Move it away").And.NotContain("   at ");
        }
    }

    [Theory]
    [InlineData("--port is 99999; it must be between 0 and 65535", "run", "a.log", "--port", "99999")]
    [InlineData("--port is 99999; it must be between 0 and 65535", "index", "--port", "99999")]
    [InlineData("There is no option '--nonsense'", "run", "a.log", "--nonsense")]
    [InlineData("Kafka:Brokers is 'nowhere'", "index", "--kafka", "nowhere")]
    [InlineData("Elasticsearch:Urls has 'nowhere'", "run", "a.log", "--elasticsearch", "nowhere")]
    [InlineData("there is no store in", "view", "--data", "no-such-directory")]
    public async Task Wrong_usage_names_the_option_and_its_value(string expected, params string[] arguments)
    {
        var (exitCode, errors) = await RunAsync(arguments);

        exitCode.Should().Be(2, errors);
        errors.Should().Contain(expected).And.NotContain("   at ");
    }

    [Fact]
    public async Task A_second_process_on_the_same_data_is_refused()
    {
        using var folder = new TempFolder();
        await File.WriteAllTextAsync(folder["a.log"], Line + "\n");
        await using var first = ProgramProcess.StartIndexer("run", folder["a.log"], "--port", "0", "--data", folder["data"]);
        await Eventually.HoldsAsync(() => first.Output.Contains("viewer at", StringComparison.Ordinal) || first.HasExited, "the first runs", Deadline);

        var (exitCode, errors) = await RunAsync("run", folder["a.log"], "--port", "0", "--data", folder["data"]);

        exitCode.Should().Be(1);
        errors.Should().Contain("is in use").And.NotContain("   at ");
        (await first.StopAsync(Deadline)).Should().Be(0, first.Transcript);
    }

    [Theory]
    [InlineData("ship")]
    [InlineData("index")]
    public async Task A_stop_while_Kafka_is_away_ends_within_ten_seconds(string command)
    {
        using var folder = new TempFolder();
        await File.WriteAllTextAsync(folder["a.log"], Line + "\n");
        // Nothing listens on port 1.
        string[] arguments = [command, .. command == "ship" ? [folder["a.log"]] : Array.Empty<string>(), "--kafka", "127.0.0.1:1", "--data", folder["data"]];
        await using var process = command == "ship" ? ProgramProcess.StartShipper(arguments) : ProgramProcess.StartIndexer(arguments);
        await Eventually.HoldsAsync(() => LoadsKafka(process.Id) || process.HasExited, "it asks for Kafka", Deadline);

        (await process.StopAsync(TimeSpan.FromSeconds(10))).Should().Be(0, process.Transcript);
    }

    [Fact]
    public async Task A_pattern_that_matches_nothing_is_said()
    {
        using var folder = new TempFolder();

        var (exitCode, errors) = await RunAsync("run", folder["none-*.log"], "--once", "--data", folder["data"]);

        exitCode.Should().Be(0, "there was nothing to store");
        errors.Should().Contain("none-*.log matches no file");
    }

    [Fact]
    public async Task One_configuration_file_serves_run_and_chain()
    {
        using var folder = new TempFolder();
        await File.WriteAllTextAsync(folder["a.log"], Line + "\n");
        await File.WriteAllTextAsync(folder["indexer.json"], JsonSerializer.Serialize(new { Shipper = new { DataDirectory = folder["data"] } }));

        (await RunAsync("run", folder["a.log"], "--once", "--config", folder["indexer.json"])).ExitCode.Should().Be(0);
        (await RunAsync("chain", "t1", "--config", folder["indexer.json"])).ExitCode.Should().Be(0);
    }

    static async Task<(int ExitCode, string Errors)> RunAsync(params string[] arguments)
    {
        await using var process = ProgramProcess.StartIndexer(arguments);
        return (await process.ExitCodeAsync(Deadline), process.Errors);
    }

    static bool LoadsKafka(int pid)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/maps").Contains("librdkafka", StringComparison.Ordinal);
        }
        catch (IOException)
        {
            return false; // ended while we looked
        }
    }
}
