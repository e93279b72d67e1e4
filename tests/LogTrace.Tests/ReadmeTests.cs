using System.CommandLine;
using System.Text.RegularExpressions;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Commands;
using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.Tests;

/// <summary>What the documents point to is there.</summary>
public sealed partial class ReadmeTests
{
    /// <summary>Commands that the launcher hands to a program; <c>shop</c> and <c>test</c> are not ours to parse.</summary>
    static readonly Command[] Commands =
    [
        DemoCommand.Create(), RunCommand.Create(), IndexCommand.Create(), ViewCommand.Create(), ChainCommand.Create(), RebuildCommand.Create(), SetupCommand.Create(), DoctorCommand.Create(), ShipCommand.AddTo(new Command("ship")),
    ];

    public static TheoryData<string> Documents()
    {
        var documents = new TheoryData<string>();
        foreach (var path in Directory.EnumerateFiles(Repository.Root, "*.md", SearchOption.AllDirectories).Select(path => Path.GetRelativePath(Repository.Root, path)))
            if (!path.StartsWith("artifacts", StringComparison.Ordinal) && !path.Split('/').Any(part => part is "node_modules" or "bin" or "obj")) documents.Add(path);
        return documents;
    }

    [Theory]
    [MemberData(nameof(Documents))]
    public void Files_that_a_document_names_exist(string document)
    {
        var path = Path.Combine(Repository.Root, document);
        var text = File.ReadAllText(path);
        var links = Link().Matches(text).Select(link => link.Groups[1].Value).Where(link => !link.Contains("://", StringComparison.Ordinal)).Select(link => Path.Combine(Path.GetDirectoryName(path)!, link));
        var paths = RootPath().Matches(text).Select(named => Path.Combine(Repository.Root, named.Groups[1].Value));

        links.Concat(paths).Where(named => !File.Exists(named) && !Directory.Exists(named)).Should().BeEmpty($"{document} names them");
    }

    [Fact]
    public void Commands_of_the_readme_exist_with_the_options_it_names()
    {
        var mentioned = CommandLine().Matches(File.ReadAllText(Path.Combine(Repository.Root, "README.md"))).Select(match => (Name: match.Groups[1].Value, Tail: match.Groups[2].Value)).ToList();
        var launcher = File.ReadAllText(Path.Combine(Repository.Root, "logtrace"));

        mentioned.Select(command => command.Name).Should().Contain(["demo", "run", "ship", "index", "view", "chain", "rebuild", "test"]);
        foreach (var (name, tail) in mentioned)
        {
            Regex.IsMatch(launcher, $@"^    ([a-z]+ \| )*{name}( \| [a-z]+)*\)", RegexOptions.Multiline).Should().BeTrue($"the launcher has a case for {name}");
            Regex.IsMatch(launcher, $@"^  {name} ", RegexOptions.Multiline).Should().BeTrue($"the launcher's help lists {name}");
            if (Array.Find(Commands, command => command.Name == name) is not { } known) continue;
            Option().Matches(tail).Select(option => option.Value).Except(known.Options.Select(option => option.Name)).Should().BeEmpty($"'./logtrace {name}' is documented with them");
        }
    }

    [Fact]
    public void Every_option_says_what_it_is() =>
        Commands.SelectMany(command => command.Options.Select(option => (command.Name, option.Name, option.Description)).Concat(command.Arguments.Select(argument => (command.Name, argument.Name, argument.Description))))
            .Where(symbol => string.IsNullOrWhiteSpace(symbol.Description)).Should().BeEmpty();

    [Theory]
    [InlineData("run", "--nonsense")]
    [InlineData("run", "x", "--port", "99999")]
    [InlineData("demo", "--once", "--requests", "0")]
    [InlineData("demo", "--lose", "nobody")]
    [InlineData("chain", "x", "--data", "")]
    [InlineData("chain")]
    [InlineData("rebuild")]
    public void Wrong_usage_is_refused_before_anything_is_begun(string name, params string[] arguments) =>
        Array.Find(Commands, command => command.Name == name)!.Parse(arguments).Errors.Should().NotBeEmpty();

    [GeneratedRegex(@"\]\(([^)#\s]+)")]
    private static partial Regex Link();

    /// <summary>A file of this repository in code marks, named from its root.</summary>
    [GeneratedRegex(@"`((?:logger|shipper|indexer|tests)/[\w./-]+\.\w+)`")]
    private static partial Regex RootPath();

    [GeneratedRegex(@"\./logtrace ([a-z]+)([^`#\n]*)")]
    private static partial Regex CommandLine();

    [GeneratedRegex(@"--[a-z][a-z-]*")]
    private static partial Regex Option();
}
