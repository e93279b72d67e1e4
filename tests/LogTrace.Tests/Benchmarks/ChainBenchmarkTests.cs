using LogTrace.Benchmarks;
using LogTrace.Benchmarks.Accuracy;
using LogTrace.Benchmarks.Chains;

namespace LogTrace.Tests.Benchmarks;

/// <summary>The benchmarks of chains run once with little work, so that they cannot rot. Figures are for <c>./logtrace bench</c>.</summary>
public sealed class ChainBenchmarkTests
{
    [Fact]
    public void Building_is_measured_for_every_size()
    {
        var report = new Report("test");

        ChainBenchmarks.Run([10, 1_000], records: 1_000, rounds: 1, peer: null, report);

        report.Markdown.Should().Contain("| 10 records a trace, records/s").And.Contain("| 1,000 records a trace, records/s");
    }

    [Fact]
    public void Chains_under_loss_are_exact_and_harmless_defects_change_nothing()
    {
        var seed = Environment.TickCount;
        var report = new Report("test");

        AccuracyBenchmark.Run(traces: 20, repetitions: 1, seed, alibaba: null, shapes: null, report);

        report.Markdown.Should().Contain("one top for LogTrace, met", $"ids alone place every record; seed {seed}");
        report.Markdown.Should().NotContain("NO (", $"copies and clocks change nothing; seed {seed}");
    }
}
