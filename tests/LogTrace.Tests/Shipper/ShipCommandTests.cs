using System.CommandLine;
using LogTrace.Shipper;

namespace LogTrace.Tests.Shipper;

/// <summary>The command line of <c>ship</c>.</summary>
public sealed class ShipCommandTests
{
    static ParseResult Parse(params string[] arguments) => new RootCommand { ShipCommand.AddTo(new Command("ship")) }.Parse(["ship", .. arguments]);

    [Fact]
    public void An_option_that_does_not_exist_is_no_file() =>
        Parse("*.log", "--nonsense").Errors.Should().Contain(e => e.Message.Contains("--nonsense"));

    [Fact]
    public void Patterns_and_options_are_taken() =>
        Parse("a.log", "b/**/*.log", "--kafka", "h:1", "--exclude", "x", "--exclude", "y", "--once").Errors.Should().BeEmpty();

    [Fact]
    public async Task Without_a_pattern_it_is_wrong_usage() => (await Parse().InvokeAsync()).Should().Be(2);

    [Fact]
    public void Only_a_balance_that_holds_ends_with_success()
    {
        var counts = new ShipperCounts { ReadLines = 3, ReadBytes = 3, ShippedLines = 2, ShippedBytes = 2, BlankLines = 1, BlankBytes = 1 };
        ShipCommand.PrintBalance(new ShipperSnapshot(counts, [], 0), wasStopped: false).Should().Be(0);
        ShipCommand.PrintBalance(new ShipperSnapshot(counts, [], 0), wasStopped: true).Should().Be(1);
        ShipCommand.PrintBalance(new ShipperSnapshot(counts with { ReadLines = 4 }, [], 0), wasStopped: false).Should().Be(1);
    }
}
