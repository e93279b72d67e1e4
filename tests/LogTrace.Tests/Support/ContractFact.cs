using Xunit.Abstractions;
using Xunit.Sdk;

namespace LogTrace.Tests.Support;

/// <summary>
/// A test of an abstract contract kit. Where the class that runs the kit says <see cref="NeedsEngineAttribute"/> and that engine is absent,
/// the test is reported as skipped with the reason.
/// </summary>
[XunitTestCaseDiscoverer("LogTrace.Tests.Support.ContractFactDiscoverer", "LogTrace.Tests")]
public sealed class ContractFactAttribute : FactAttribute;

/// <summary>On a class that runs a contract kit: it needs a real server.</summary>
/// <param name="engine">kafka, redis, postgresql, mariadb, or one of the Elasticsearch engines.</param>
[AttributeUsage(AttributeTargets.Class)]
public sealed class NeedsEngineAttribute(string engine) : Attribute
{
    public string Engine => engine;
}

public sealed class ContractFactDiscoverer(IMessageSink diagnostics) : IXunitTestCaseDiscoverer
{
    public IEnumerable<IXunitTestCase> Discover(ITestFrameworkDiscoveryOptions options, ITestMethod method, IAttributeInfo fact) =>
        [new ContractTestCase(diagnostics, options.MethodDisplayOrDefault(), options.MethodDisplayOptionsOrDefault(), method)];
}

public sealed class ContractTestCase : XunitTestCase
{
    // The runner makes it by reflection and then deserialises it.
    [Obsolete("for the runner only")]
    public ContractTestCase()
    {
    }

    public ContractTestCase(IMessageSink diagnostics, TestMethodDisplay display, TestMethodDisplayOptions options, ITestMethod method)
        : base(diagnostics, display, options, method)
    {
    }

    protected override string? GetSkipReason(IAttributeInfo fact)
    {
        var needs = TestMethod.TestClass.Class.GetCustomAttributes(typeof(NeedsEngineAttribute)).SingleOrDefault()?.GetNamedArgument<string>(nameof(NeedsEngineAttribute.Engine));
        return needs switch
        {
            null => base.GetSkipReason(fact),
            "kafka" => RealEngines.KafkaMissing,
            "redis" or "postgresql" or "mariadb" => DebianServers.Missing(needs),
            // With a server given by address there is one set of data only, and it is run under the first name.
            _ when RealEngines.ElasticsearchMissing is null && !RealEngines.Elasticsearches[0].StartsWith("http", StringComparison.Ordinal) => null,
            _ when RealEngines.ElasticsearchMissing is null && needs != "elasticsearch7" => $"{RealEngines.ElasticsearchVariable} names one server, which another class of this kit uses",
            _ => RealEngines.ElasticsearchMissing,
        };
    }
}
