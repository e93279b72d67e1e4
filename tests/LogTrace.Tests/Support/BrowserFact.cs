namespace LogTrace.Tests.Support;

/// <summary>A test that drives a real browser; skipped, with what to do, where no Chromium is installed.</summary>
public sealed class BrowserFactAttribute : FactAttribute
{
    /// <summary>Names a Chromium or Chrome that is in none of the usual places.</summary>
    public const string Variable = "LOGTRACE_TEST_CHROMIUM";

    static readonly string[] UsualPaths = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

    public BrowserFactAttribute()
    {
        if (ChromiumPath is null) Skip = $"no Chromium at {string.Join(", ", UsualPaths)}: install Debian's package chromium, or name one in {Variable}";
    }

    public static string? ChromiumPath { get; } = UsualPaths.Prepend(Environment.GetEnvironmentVariable(Variable)).FirstOrDefault(File.Exists);
}
