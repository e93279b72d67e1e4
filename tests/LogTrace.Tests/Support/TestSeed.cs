using System.Globalization;

namespace LogTrace.Tests.Support;

/// <summary>What random tests start from: a number given by <c>LOGTRACE_TEST_SEED</c>, to repeat one of them, else of their own choice. They print it.</summary>
public static class TestSeed
{
    public static int? Given { get; } = int.TryParse(Environment.GetEnvironmentVariable("LOGTRACE_TEST_SEED"), CultureInfo.InvariantCulture, out var given) ? given : null;
}
