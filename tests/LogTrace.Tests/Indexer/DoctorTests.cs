using System.CommandLine;
using LogTrace.Indexer.Commands;
using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Indexer;

/// <summary><c>doctor</c>: what it finds, and what it says to do.</summary>
public sealed class DoctorTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly StringWriter _said = new();

    public void Dispose() => _folder.Dispose();

    async Task<(int ExitCode, string Said)> LookAsync(params string[] keys)
    {
        var doctor = new Doctor(_said);
        var flags = keys.Chunk(2).Select(pair => KeyValuePair.Create(pair[0], (string?)pair[1])).Append(new("Shipper:DataDirectory", _folder["data"]));
        await doctor.LookAsync(null, Settings.Load(null, _folder["none.json"], flags), CancellationToken.None);
        return (doctor.Sum(), _said.ToString());
    }

    string[] SomeLog()
    {
        File.WriteAllText(_folder["a.log"], "one\n");
        return ["Shipper:Paths:0", _folder["*.log"]];
    }

    [Fact]
    public async Task Nothing_wrong_is_said_and_ends_with_0()
    {
        var (exitCode, said) = await LookAsync(SomeLog());

        exitCode.Should().Be(0, said);
        said.Should().Contain("1 files, all can be read").And.Contain("inotify tells of changes in 1 directories").And.Contain("is not there yet and can be made").And.EndWith("0 problems, 0 warnings\n");
        Directory.Exists(_folder["data"]).Should().BeFalse("it changes nothing");
    }

    [Fact]
    public async Task Pattern_without_a_file_is_a_warning_with_what_to_do()
    {
        var (exitCode, said) = await LookAsync("Shipper:Paths:0", _folder["*.nothing"]);

        exitCode.Should().Be(0);
        said.Should().Contain("matches no file").And.Contain("->").And.Contain("0 problems, 1 warnings");
    }

    [Fact]
    public async Task Wrong_settings_and_mistyped_keys_are_problems()
    {
        var (exitCode, said) = await LookAsync([.. SomeLog(), "Shipper:MaxLineBytes", "1", "Kafka:Nonsense", "x"]);

        exitCode.Should().Be(1);
        said.Should().Contain("Shipper:MaxLineBytes is 1; it must be between").And.Contain("Kafka:Nonsense does not exist").And.Contain("2 problems");
    }

    [Fact]
    public async Task State_that_cannot_be_written_to_is_a_problem()
    {
        await File.WriteAllTextAsync(_folder["data"], "a file where the directory should be");

        var (exitCode, said) = await LookAsync(SomeLog());

        exitCode.Should().Be(1, said);
    }

    [Fact]
    public async Task Damaged_checkpoint_and_dead_letter_are_found()
    {
        var state = Path.Combine(_folder["data"], "shipper");
        Directory.CreateDirectory(state);
        await File.WriteAllTextAsync(Path.Combine(state, "checkpoint-a.jsonl"), "half");
        await File.WriteAllTextAsync(Path.Combine(state, "dead-letter.jsonl"), "{}\n");

        var (exitCode, said) = await LookAsync(SomeLog());

        exitCode.Should().Be(1);
        said.Should().Contain("no checkpoint in").And.Contain("--replay");
    }

    [Fact]
    public async Task Kafka_and_store_that_are_away_are_problems_with_what_to_check()
    {
        var (exitCode, said) = await LookAsync([.. SomeLog(), "Kafka:Brokers", "127.0.0.1:1", "Elasticsearch:Urls:0", "http://127.0.0.1:1"]);

        exitCode.Should().Be(1);
        said.Should().Contain("Kafka at 127.0.0.1:1 cannot be reached").And.Contain("check Elasticsearch:Urls").And.Contain("2 problems");
    }

    [RealKafkaFact]
    public async Task Kafka_that_is_there_is_said_with_its_topics()
    {
        var (exitCode, said) = await LookAsync([.. SomeLog(), "Kafka:Brokers", await RealEngines.KafkaAsync(), "Kafka:Topic", $"none-{Guid.NewGuid():n}"]);

        exitCode.Should().Be(0, said);
        said.Should().Contain("1 brokers").And.Contain("is not there, or this user may not see it");
    }

    [RealElasticsearchTheory]
    [EveryElasticsearch]
    public async Task Store_that_is_there_is_said(string engine)
    {
        var (exitCode, said) = await LookAsync([.. SomeLog(), "Elasticsearch:Urls:0", await RealEngines.ElasticsearchAsync(engine)]);

        exitCode.Should().Be(0, said);
        said.Should().Contain("the cluster is").And.Contain("clock and the store's agree");
    }

    [Fact]
    public async Task Command_takes_patterns_and_says_a_file_that_is_not_there()
    {
        var parsed = new RootCommand { DoctorCommand.Create() }.Parse(["doctor", _folder["*.log"], "--config", _folder["no.json"]]);

        (await parsed.InvokeAsync()).Should().Be(1);
    }
}
