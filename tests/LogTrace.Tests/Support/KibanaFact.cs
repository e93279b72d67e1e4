namespace LogTrace.Tests.Support;

/// <summary>
/// A test that opens the dashboards in somebody's real Kibana (7.10 or later, without security) over a store that he filled; nobody has one by chance, so it has to be asked for.
/// </summary>
public sealed class KibanaFactAttribute : FactAttribute
{
    /// <summary>The Kibana's URL; its store is <see cref="RealEngines.ElasticsearchVariable"/>.</summary>
    public const string Variable = "LOGTRACE_TEST_KIBANA";

    public KibanaFactAttribute()
    {
        if (Url.Length == 0 || Store.Length == 0)
        {
            Skip = $"needs a real Kibana: set {Variable} to its URL and {RealEngines.ElasticsearchVariable} to that of the Elasticsearch behind it, "
                + "and fill that first: './logtrace demo --once --requests 900 --rate 25 --elasticsearch URL', then the same with '--lose orders --seed 2', then wait two minutes";
        }
        else if (BrowserFactAttribute.ChromiumPath is null)
        {
            Skip = $"no Chromium: install Debian's package chromium, or name one in {BrowserFactAttribute.Variable}";
        }
    }

    public static string Url { get; } = (Environment.GetEnvironmentVariable(Variable) ?? "").TrimEnd('/');

    public static string Store { get; } = (Environment.GetEnvironmentVariable(RealEngines.ElasticsearchVariable) ?? "").TrimEnd('/');
}
