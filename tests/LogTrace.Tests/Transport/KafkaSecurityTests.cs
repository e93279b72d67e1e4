using LogTrace.Tests.Support;
using LogTrace.Transport;
using static LogTrace.Tests.Transport.RecordTransportContract;

namespace LogTrace.Tests.Transport;

/// <summary>User and password over TLS, against a broker that asks for both.</summary>
public sealed class KafkaSecurityTests(SecureBroker broker) : IClassFixture<SecureBroker>
{
    [OwnEngineFact]
    public Task Lines_go_through_with_PLAIN() => GoesThroughAsync("PLAIN");

    [OwnEngineFact]
    public Task Lines_go_through_with_SCRAM() => GoesThroughAsync("SCRAM-SHA-256");

    async Task GoesThroughAsync(string mechanism)
    {
        var options = broker.Options with { SaslMechanism = mechanism, Topic = mechanism, Group = mechanism };
        await KafkaTopic.EnsureAsync(options);
        await using var writer = new KafkaWriter(options);
        await using var reader = new KafkaReader(options);
        var lines = Enumerable.Range(0, 100).Select(i => Some(i, "t", $"line {i}")).ToArray();

        (await SendAsync(writer, lines).Within()).Should().BeEmpty();

        (await ReadAsync(reader, 100)).Should().Equal(lines);
        (await KafkaTopic.LagAsync(options)).Should().Be(0);
    }

    [OwnEngineFact]
    public Task Wrong_password_is_told_and_waited_for() => IsToldAsync(broker.Options with { SaslPassword = "wrong" }, "authentication");

    [OwnEngineFact]
    public Task Certificate_of_an_authority_that_is_not_trusted_is_told_and_waited_for() => IsToldAsync(broker.Options with { CaFile = null }, "certificate");

    static async Task IsToldAsync(KafkaOptions options, string reason)
    {
        var said = new List<string>();
        var writer = new KafkaWriter(options, it => { lock (said) said.Add(it); });

        var written = writer.WriteAsync(Batch([Some(0, "t", "a")]), default);
        await Eventually.HoldsAsync(() => { lock (said) return said.Any(it => it.Contains(reason, StringComparison.OrdinalIgnoreCase)); }, "the writer says why it cannot write");
        written.IsCompleted.Should().BeFalse();
        await writer.DisposeAsync().AsTask().Within();

        // That all brokers are down may have been noticed first; nothing is said twice.
        said.Should().OnlyHaveUniqueItems().And.HaveCountLessThanOrEqualTo(2);
        await FluentActions.Awaiting(() => written).Should().ThrowAsync<TransportUnavailableException>();
    }
}

/// <summary>One broker with TLS and passwords for the whole class.</summary>
public sealed class SecureBroker : IAsyncLifetime
{
    RealEngine? _engine;

    public KafkaOptions Options { get; private set; } = new();

    public async Task InitializeAsync()
    {
        if (RealEngines.OwnMissing is not null) return;
        _engine = await RealEngines.StartOwnAsync("kafka", secure: true);
        Options = new KafkaOptions
        {
            Brokers = _engine.SecureKafkaAddress,
            SessionTimeout = TimeSpan.FromSeconds(6),
            Security = "sasl_ssl",
            SaslMechanism = "PLAIN",
            SaslUser = "logtrace",
            SaslPassword = "logtrace-test",
            CaFile = _engine.CaFile,
        };
    }

    public async Task DisposeAsync()
    {
        if (_engine is not null) await _engine.DisposeAsync();
    }
}
