using LogTrace.EndToEnd.Faults;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>What was seen of the fault matrix is evidence: nothing of it may be lost or counted twice.</summary>
public sealed class FaultResultsTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly FaultRow _row = FaultMatrix.Rows[0];

    public void Dispose() => _folder.Dispose();

    FaultResults Results => new(_folder["faults.jsonl"], _folder["FAULTS.md"], _folder["lock"]);

    IEnumerable<string> TableLines => File.ReadLines(_folder["FAULTS.md"]).Where(line => line.StartsWith($"| {_row.Number} |", StringComparison.Ordinal));

    FaultOutcome Outcome(int seed, bool passed = true, string says = "") => new(_row.Key, seed, passed, 12.34, new FaultFigures(100, 0, 0, 7, 0), new FaultFigures(100, 30, 5, 5, 0), says) { Date = "2026-12-01", Commit = "abc" };

    [Fact]
    public async Task Runs_side_by_side_keep_each_others_outcomes()
    {
        await Task.WhenAll(Enumerable.Range(0, 4).Select(run => Task.Run(() =>
        {
            var results = Results;
            for (var i = 0; i < 10; i++) results.Add(Outcome((run * 10) + i + 1));
        })));

        File.ReadAllLines(_folder["faults.jsonl"]).Should().HaveCount(40);
        TableLines.Should().ContainSingle().Which.Should().Contain("| 40 of 40 | 4,000 | 0 | 0 | 280 | 1,200 | 200 |").And.EndWith("| 2026-12-01, abc |");
        Results.HasPassed(_row, 40).Should().BeTrue();
        Results.HasPassed(_row, 41).Should().BeFalse();
        Results.HasPassed(FaultMatrix.Rows[1], 1).Should().BeFalse("it is another row");
    }

    [Fact]
    public void Last_outcome_of_a_seed_counts()
    {
        Results.Add(Outcome(2));
        Results.Add(Outcome(1, passed: false, says: "one\ntwo"));
        TableLines.Should().ContainSingle().Which.Should().Contain("| 1 of 2 |").And.Contain("DID NOT HOLD with seed 1,");
        Results.HasPassed(_row, 1).Should().BeFalse();

        Results.Add(Outcome(1, says: "this|that"));

        TableLines.Should().ContainSingle().Which.Should().Contain("| 2 of 2 | 200 |");
        File.ReadAllLines(_folder["faults.jsonl"]).Should().HaveCount(2).And.Subject.First().Should().Contain("\"Seed\":1").And.Contain("this|that");
    }

    [Fact]
    public void Where_the_checkout_lies_is_not_kept()
    {
        Results.Add(Outcome(1, passed: false, says: $"at FileFaults.Fail() in {Path.Combine(Repository.Root, "tests", "FileFaults.cs")}:line 7"));

        File.ReadAllText(_folder["faults.jsonl"]).Should().Contain("in tests/FileFaults.cs:line 7").And.NotContain(Repository.Root);
    }

    [Fact]
    public void Sums_stay_until_all_their_seeds_are_seen_again()
    {
        File.WriteAllLines(_folder["faults.jsonl"],
        [
            $$"""{"Row":"{{_row.Key}}","Tried":2,"Held":2,"Sums":{"Written":600,"Lost":0,"Doubled":0,"SentAgain":9},"Rsyslog":{"Lost":80,"Doubled":0},"Says":"as it was","Date":"2026-11-23","Commit":"f00"}""",
            """{"Row":"99 a row that is no more (mock)","Tried":1,"Held":1,"Says":"","Date":"2026-11-23","Commit":"f00"}""",
        ]);

        Results.Add(Outcome(2));
        Results.Add(Outcome(3));

        TableLines.Should().HaveCount(2).And.Subject.First().Should().Contain("| 2 of 2 | 600 | 0 | 0 | 9 | 80 | 0 | as it was | 2026-11-23, f00, summary |");
        TableLines.Last().Should().Contain("| 2 of 2 (2-3) |");

        Results.Add(Outcome(1));

        TableLines.Should().ContainSingle().Which.Should().Contain("| 3 of 3 |");
        File.ReadAllLines(_folder["faults.jsonl"]).Should().HaveCount(5, "the file forgets nothing").And.Subject.Last().Should().Contain("no more");
    }

    [Fact]
    public void Long_texts_are_cut_in_the_middle()
    {
        Results.Add(Outcome(1, passed: false, says: $"what was expected{new string('x', 100_000)}the end of the transcript"));

        File.ReadAllText(_folder["faults.jsonl"]).Length.Should().BeLessThan(2_000);
        File.ReadAllText(_folder["faults.jsonl"]).Should().Contain("what was expected").And.Contain("the end of the transcript");
    }

    [Fact]
    public void Line_that_cannot_be_read_is_named()
    {
        File.WriteAllText(_folder["faults.jsonl"], "{\"Row\":\"1 it (mock)\",\"Seed\":1,\"Passed\":true,\"Seconds\":1,\"Says\":\"\"}\n<<<<<<< merge\n");

        FluentActions.Invoking(() => Results.Add(Outcome(1))).Should().Throw<InvalidDataException>().WithMessage("*faults.jsonl, line 2: *");
        File.ReadAllText(_folder["faults.jsonl"]).Should().Contain("merge");
    }

    [Fact]
    public void Committed_table_is_made_of_the_committed_outcomes()
    {
        File.Copy(Path.Combine(Repository.Root, "tests", "faults.jsonl"), _folder["faults.jsonl"]);

        Results.WriteTable();

        static IEnumerable<string> Rows(string path) => File.ReadLines(path).Where(line => line.StartsWith('|'));
        Rows(Path.Combine(Repository.Root, "tests", "FAULTS.md")).Should().Equal(Rows(_folder["FAULTS.md"]), "./logtrace test --faults --seeds 0 writes it");
    }
}
