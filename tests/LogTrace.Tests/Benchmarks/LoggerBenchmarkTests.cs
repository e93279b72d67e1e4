using LogTrace.Benchmarks;
using LogTrace.Benchmarks.Logger;
using LogTrace.Benchmarks.Overhead;

namespace LogTrace.Tests.Benchmarks;

/// <summary>Each benchmark runs once, with next to no work, so that it cannot rot. Figures are for <c>./logtrace bench</c>.</summary>
public sealed class LoggerBenchmarkTests
{
    public static TheoryData<string> All => ["cost for the caller", "lines to a file", "through Serilog", "memory", "suppressed debug line", "overhead"];

    [Theory]
    [MemberData(nameof(All))]
    public void A_benchmark_measures_both_sides(string name)
    {
        var rows = (name switch
        {
            "cost for the caller" => LoggerBenchmarks.CallerCost(LoggerEffort.Once),
            "lines to a file" => LoggerBenchmarks.ToFile(LoggerEffort.Once),
            "through Serilog" => LoggerBenchmarks.ThroughSerilog(LoggerEffort.Once),
            "memory" => LoggerBenchmarks.Allocation(LoggerEffort.Once),
            "overhead" => OverheadBenchmark.Requests(OverheadEffort.Once),
            _ => LoggerBenchmarks.SuppressedDebug(LoggerEffort.Once),
        }).ToList();

        rows.Should().NotBeEmpty();
        rows.Should().OnlyContain(row => row.Ours.Length > 0).And.Contain(row => row.Bar.Length > 0 && row.IsMet != null);
        rows.Where(row => row.OtherName.Length > 0 && (row.Other.Length == 0 || row.Ratio.Length == 0)).Should().BeEmpty("both sides are printed, and their ratio");
    }

    [Fact]
    public void The_median_is_the_middle() => Round.Median([9, 1, 4]).Should().Be(4);
}
