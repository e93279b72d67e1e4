using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
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

    Task GoesThroughAsync(string mechanism) => GoesThroughAsync(broker.Options with { SaslMechanism = mechanism, Topic = mechanism, Group = mechanism });

    static async Task GoesThroughAsync(KafkaOptions options)
    {
        await KafkaTopic.EnsureAsync(options);
        await using var writer = new KafkaWriter(options);
        await using var reader = new KafkaReader(options);
        var lines = Enumerable.Range(0, 100).Select(i => Some(i, "t", $"line {i}")).ToArray();

        (await SendAsync(writer, lines).Within()).Should().BeEmpty();

        (await ReadAsync(reader, 100)).Should().Equal(lines);
        (await KafkaTopic.LagAsync(options)).Should().Be(0);
    }

    [OwnEngineFact]
    public async Task Lines_go_through_with_a_certificate_of_the_clients_own()
    {
        using var folder = new TempFolder();
        var (certificate, key) = WriteCertificate(folder, X509Certificate2.CreateFromPemFile(broker.Options.CaFile!, Path.ChangeExtension(broker.Options.CaFile!, ".key")));

        await GoesThroughAsync(broker.Options with { Topic = "certificate", Group = "certificate", ClientCertificateFile = certificate, ClientKeyFile = key });
    }

    [OwnEngineFact]
    public async Task Certificate_of_another_key_is_told()
    {
        using var folder = new TempFolder();
        using var other = RSA.Create(2048);
        var (certificate, key) = WriteCertificate(folder, X509Certificate2.CreateFromPemFile(broker.Options.CaFile!, Path.ChangeExtension(broker.Options.CaFile!, ".key")));
        await System.IO.File.WriteAllTextAsync(key, other.ExportPkcs8PrivateKeyPem());
        await using var writer = new KafkaWriter(broker.Options with { ClientCertificateFile = certificate, ClientKeyFile = key });

        // The broker of these tests does not insist on a certificate: that a wrong one is noticed shows that it is used.
        (await FluentActions.Awaiting(() => writer.WriteAsync(Batch([Some(0, "t", "a")]), default)).Should().ThrowAsync<TransportUnavailableException>()).WithMessage("*key*mismatch*");
    }

    static CertificateRequest Request(string name, RSA key)
    {
        var request = new CertificateRequest(name, key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, true));
        return request;
    }

    static (string Certificate, string Key) WriteCertificate(TempFolder folder, X509Certificate2 authority)
    {
        using var own = RSA.Create(2048);
        using var certificate = Request("CN=shipper", own).Create(authority.SubjectName, X509SignatureGenerator.CreateForRSA(authority.GetRSAPrivateKey()!, RSASignaturePadding.Pkcs1), DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddHours(1), [1, 2, 3]);
        File.WriteAllText(folder["client.pem"], certificate.ExportCertificatePem());
        File.WriteAllText(folder["client.key"], own.ExportPkcs8PrivateKeyPem());
        authority.Dispose();
        return (folder["client.pem"], folder["client.key"]);
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
