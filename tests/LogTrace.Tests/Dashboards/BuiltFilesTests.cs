using LogTrace.Dashboards;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Dashboards;

/// <summary>The files that analysts import.</summary>
public sealed class BuiltFilesTests
{
    [Theory]
    [InlineData(Flavour.Kibana)]
    [InlineData(Flavour.OpenSearch)]
    public void The_built_file_is_what_its_sources_give(Flavour flavour)
    {
        var sources = new DashboardSources(Path.Combine(Repository.Root, "dashboards"));

        var built = SavedObjectFormat.Ndjson(sources.Build(flavour));

        File.ReadAllText(Path.Combine(Repository.Root, DashboardsCommand.Files[flavour])).Should().Be(built, "./logtrace dashboards has to be run after a change in dashboards/");
    }

    [Fact]
    public void The_two_files_differ_in_the_filter_function_alone()
    {
        var kibana = Read(Flavour.Kibana);
        var openSearch = Read(Flavour.OpenSearch);

        WithoutEdition(openSearch.Replace("opensearchDashboardsAddFilter", "kibanaAddFilter", StringComparison.Ordinal)).Should().Be(WithoutEdition(kibana));
        openSearch.Should().NotBe(kibana);
    }

    static string Read(Flavour flavour) => File.ReadAllText(Path.Combine(Repository.Root, DashboardsCommand.Files[flavour]));

    static string WithoutEdition(string text) => System.Text.RegularExpressions.Regex.Replace(text, @"\(edition [0-9a-f]{8}\)", "");
}
