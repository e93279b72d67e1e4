using System.Reflection;

namespace LogTrace.Tests;

/// <summary>Data flows down the folders, references point up; see the table in the README.</summary>
public sealed class ArchitectureTests
{
    public static TheoryData<string, string[]> AllowedReferences => new()
    {
        { "LogTrace.Records", [] },
        { "LogTrace", ["LogTrace.Records"] },
        { "LogTrace.Hosting", ["LogTrace", "LogTrace.Records"] },
        { "LogTrace.AspNetCore", ["LogTrace.Hosting", "LogTrace", "LogTrace.Records"] },
        { "LogTrace.Redis", ["LogTrace", "LogTrace.Records"] },
        { "LogTrace.Kafka", ["LogTrace", "LogTrace.Records"] },
        { "Shop", ["LogTrace.AspNetCore", "LogTrace.Hosting", "LogTrace", "LogTrace.Records"] },
        { "LogTrace.Transport", ["LogTrace.Records"] },
        { "LogTrace.Shipper", ["LogTrace.Transport", "LogTrace.Records"] },
        { "LogTrace.Indexer", ["LogTrace.Shipper", "LogTrace.Transport", "LogTrace.Records"] },
        { "LogTrace.Dashboards", [] },
    };

    [Theory]
    [MemberData(nameof(AllowedReferences))]
    public void An_assembly_refers_only_to_those_before_it(string assembly, string[] allowed)
    {
        var ours = AllowedReferences.Select(row => (string)row[0]).ToHashSet();

        var references = Assembly.Load(assembly).GetReferencedAssemblies().Select(reference => reference.Name!).Where(ours.Contains);

        references.Should().BeSubsetOf(allowed);
    }

    [Fact]
    public void The_records_library_depends_on_nothing_but_the_framework() =>
        Assembly.Load("LogTrace.Records").GetReferencedAssemblies()
            .Should().OnlyContain(reference => reference.Name!.StartsWith("System.", StringComparison.Ordinal));

    [Fact]
    public void Every_source_project_is_in_the_table()
    {
        var root = Support.Repository.Root;

        var projects = new[] { "logger", "shipper", "indexer", "dashboards" }
            .SelectMany(folder => Directory.EnumerateFiles(Path.Combine(root, folder), "*.csproj", SearchOption.AllDirectories))
            .Select(path => Path.GetFileNameWithoutExtension(path));

        projects.Should().BeEquivalentTo(AllowedReferences.Select(row => (string)row[0]));
    }
}
