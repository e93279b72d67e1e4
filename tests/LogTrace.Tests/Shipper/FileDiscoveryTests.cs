using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Shipper;

/// <summary>Patterns to files.</summary>
public sealed class FileDiscoveryTests : IDisposable
{
    readonly TempFolder _folder = new();

    public FileDiscoveryTests()
    {
        foreach (var name in (string[])["a.log", "b.log", "b.txt", "x/c.log", "x/y/d.log", "x/y/old/e.log", ".hidden.log", ".git/f.log", "state/checkpoint.log"])
        {
            Directory.CreateDirectory(Path.GetDirectoryName(_folder[name])!);
            File.WriteAllText(_folder[name], name);
        }
    }

    public void Dispose() => _folder.Dispose();

    string[] Find(string pattern, params string[] excludes) =>
        [.. new FileDiscovery([_folder[pattern]], excludes, _folder["state"]).Find().Select(f => Path.GetRelativePath(_folder.Path, f.Path)).Order(StringComparer.Ordinal)];

    [Theory]
    [InlineData("*.log", "a.log b.log")]
    [InlineData("a.log", "a.log")]
    [InlineData("none.log", "")]
    [InlineData("none/*.log", "")]
    [InlineData("?.*", "a.log b.log b.txt")]
    [InlineData("[!a].{log,txt}", "b.log b.txt")]
    [InlineData("[a-b].log", "a.log b.log")]
    [InlineData("**/*.log", "a.log b.log x/c.log x/y/d.log x/y/old/e.log")]
    [InlineData("**/y/*.log", "x/y/d.log")]
    [InlineData("x/**", "x/c.log x/y/d.log x/y/old/e.log")]
    [InlineData("x/*/*.log", "x/y/d.log")]
    [InlineData(".*.log", ".hidden.log")]
    public void Patterns_find_files(string pattern, string expected) => string.Join(' ', Find(pattern)).Should().Be(expected);

    [Fact]
    public void Excludes_take_names_and_paths() =>
        Find("**/*.log", "b.*", _folder["x/**/old/*"]).Should().Equal("a.log", "x/c.log", "x/y/d.log");

    [Fact]
    public void A_file_is_found_once_whatever_names_it_has()
    {
        File.CreateSymbolicLink(_folder["0.log"], _folder["a.log"]);
        File.CreateSymbolicLink(_folder["broken.log"], _folder["none"]);
        Directory.CreateSymbolicLink(_folder["x/y/up"], _folder["x"]);
        Find("**/*.log").Should().Equal("a.log", "b.log", "x/c.log", "x/y/d.log", "x/y/old/e.log");
    }

    [Fact]
    public void A_link_is_followed_to_where_the_file_is()
    {
        File.CreateSymbolicLink(_folder["current"], _folder["x/c.log"]);
        Find("current").Should().Equal("x/c.log");
    }

    [Fact]
    public void A_name_that_holds_pattern_characters_is_found_by_itself()
    {
        File.WriteAllText(_folder["app[1].log"], "");
        Find("app[1].log").Should().Equal("app[1].log");
    }

    [Theory]
    [InlineData("*.log", "x.log", true)]
    [InlineData("a*b*c", "aXbYbZc", true)]
    [InlineData("a*b*c", "aXbYbZ", false)]
    [InlineData("[]x]", "]", true)]
    [InlineData("[a", "[a", true)]
    [InlineData("*", "", true)]
    [InlineData("?", "", false)]
    public void Names_match(string pattern, string name, bool expected) => FileDiscovery.MatchesName(pattern, name).Should().Be(expected);
}
