namespace LogTrace.Tests.Support;

/// <summary>Where the checkout is that the tests run from.</summary>
public static class Repository
{
    /// <summary>The folder that holds LogTrace.sln.</summary>
    public static string Root { get; } = FindRoot();

    static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "LogTrace.sln"))) return folder.FullName;
        }

        throw new InvalidOperationException($"No LogTrace.sln above {AppContext.BaseDirectory}: run the tests from a checkout.");
    }
}
