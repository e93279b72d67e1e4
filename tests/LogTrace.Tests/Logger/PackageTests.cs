using System.Diagnostics;
using System.IO.Compression;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Logger;

/// <summary>What users get: packages as a registry wants them, and a first service made of the page and the packages alone.</summary>
public sealed class PackageTests(PackageTests.Packages packages) : IClassFixture<PackageTests.Packages>, IDisposable
{
    static readonly string[] Names = ["LogTrace", "LogTrace.AspNetCore", "LogTrace.Hosting", "LogTrace.Kafka", "LogTrace.Records", "LogTrace.Redis"];

    readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>All packages, made once of what the tests run with.</summary>
    public sealed class Packages : IDisposable
    {
        readonly TempFolder _folder = new();

        public Packages()
        {
            foreach (var name in Names) Dotnet(Repository.Root, "pack", $"logger/{name}", "-c", "Release", "--no-build", "-o", Path, "--nologo", "-v", "quiet");
        }

        public string Path => _folder.Path;

        public void Dispose() => _folder.Dispose();
    }

    static string Dotnet(string folder, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo("dotnet", arguments) { WorkingDirectory = folder, RedirectStandardOutput = true, RedirectStandardError = true })!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        process.ExitCode.Should().Be(0, "dotnet {0} says {1} {2}", string.Join(' ', arguments), output, errors.Result);
        return output;
    }

    [Fact]
    public void Every_library_of_the_logger_is_a_package() =>
        Directory.EnumerateFiles(Path.Combine(Repository.Root, "logger"), "*.csproj", SearchOption.AllDirectories).Where(path => !path.Contains("/samples/", StringComparison.Ordinal))
            .Select(path => Path.GetFileNameWithoutExtension(path)).Should().BeEquivalentTo(Names);

    [Fact]
    public void Packages_have_readme_documentation_licence_and_symbols()
    {
        foreach (var name in Names)
        {
            using var package = ZipFile.OpenRead(Directory.GetFiles(packages.Path, $"{name}.*.nupkg").Single(path => Regex.IsMatch(Path.GetFileName(path), $@"^{Regex.Escape(name)}\.\d")));
            package.Entries.Select(entry => entry.FullName).Should().Contain([$"lib/net10.0/{name}.dll", $"lib/net10.0/{name}.xml", $"lib/net8.0/{name}.dll", $"lib/net8.0/{name}.xml", "README.md"]);
            using var text = package.GetEntry($"{name}.nuspec")!.Open();
            var metadata = XDocument.Load(text).Root!.Elements().Single().Elements().ToLookup(element => element.Name.LocalName);
            metadata["license"].Single().Value.Should().Be("MIT");
            metadata["readme"].Single().Value.Should().Be("README.md");
            metadata["description"].Single().Value.Should().NotBeEmpty().And.NotBe("Package Description");
            using var symbols = ZipFile.OpenRead(Directory.GetFiles(packages.Path, $"{name}.*.snupkg").Single(path => Regex.IsMatch(Path.GetFileName(path), $@"^{Regex.Escape(name)}\.\d")));
            symbols.Entries.Select(entry => entry.FullName).Should().Contain([$"lib/net10.0/{name}.pdb", $"lib/net8.0/{name}.pdb"]);
        }
    }

    [Theory]
    [InlineData("net10.0")]
    [InlineData("net8.0")] // built for .NET 8, run by what runtime there is
    public async Task The_five_minutes_lead_to_a_service_with_its_first_chain(string framework)
    {
        var samples = Regex.Matches(File.ReadAllText(Path.Combine(Repository.Root, "logger/QUICKSTART.md")), "```csharp\n(.*?)```", RegexOptions.Singleline).Select(sample => sample.Groups[1].Value).ToList();
        samples.Should().HaveCount(2);
        await File.WriteAllTextAsync(_folder["Program.cs"], samples[0]);
        await File.WriteAllTextAsync(_folder["More.cs"], $$"""
            using LogTrace;
            static class More
            {
                public static async Task SampleAsync(System.Data.Common.DbDataSource provider, StackExchange.Redis.IConnectionMultiplexer connection,
                    Confluent.Kafka.IProducer<string, string> kafkaProducer, Confluent.Kafka.ConsumeResult<string, string> message)
                {
                    {{samples[1]}}
                }
            }
            """);
        // A cache of its own, so that a package of these is never taken for one that somebody has released; all others are there already.
        await File.WriteAllTextAsync(_folder["Orders.csproj"], $"""
            <Project Sdk="Microsoft.NET.Sdk.Web">
              <PropertyGroup>
                <TargetFramework>{framework}</TargetFramework>
                <RollForward>Major</RollForward>
                <UseAppHost>false</UseAppHost>
                <ImplicitUsings>enable</ImplicitUsings>
                <Nullable>enable</Nullable>
                <RestorePackagesPath>packages</RestorePackagesPath>
                <RestoreFallbackFolders>{Environment.GetEnvironmentVariable("NUGET_PACKAGES") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".nuget/packages")}</RestoreFallbackFolders>
                <RestoreAdditionalProjectSources>{packages.Path}</RestoreAdditionalProjectSources>
              </PropertyGroup>
              <ItemGroup>
                {string.Concat(new[] { "LogTrace.AspNetCore", "LogTrace.Redis", "LogTrace.Kafka" }.Select(name => $"<PackageReference Include=\"{name}\" Version=\"{typeof(TraceLogger).Assembly.GetName().Version!.ToString(3)}\" />"))}
              </ItemGroup>
            </Project>
            """);
        Dotnet(_folder.Path, "build", "-c", "Release", "--nologo", "-v", "quiet", "-o", _folder["out"]);

        using var service = Process.Start(new ProcessStartInfo("dotnet", [_folder["out/Orders.dll"], "--urls", "http://127.0.0.1:0"]) { WorkingDirectory = _folder.Path, RedirectStandardOutput = true })!;
        try
        {
            string? url = null;
            while (url is null && await service.StandardOutput.ReadLineAsync().Within() is { } line) url = Regex.Match(line, "Now listening on: (\\S+)") is { Success: true } match ? match.Groups[1].Value : null;
            using var client = new HttpClient();
            (await client.GetStringAsync($"{url}/orders/7")).Should().Be("{\"id\":7,\"state\":\"well\"}");
            Process.Start("kill", ["-TERM", service.Id.ToString()]).WaitForExit();
            await service.WaitForExitAsync().Within();
        }
        finally
        {
            if (!service.HasExited) service.Kill();
        }

        Written.Records(_folder["logs/orders.log"]).Where(record => record.TraceId is not null && record.Module?.Contains("Microsoft") != true && record.Name != "log.info").Select(record => $"{record.RpcId} {record.Name} {record.Code}")
            .Should().BeEquivalentTo("1.2.1 request.info 200", "1.2 http.get 200", "1.1 request.info 200");
    }
}
