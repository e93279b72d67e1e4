using LogTrace.Transport;

namespace LogTrace.Tests.Transport;

public sealed class KafkaOptionsTests
{
    [Fact]
    public void Defaults_are_valid() => new KafkaOptions().Validate().Should().BeEmpty();

    [Fact]
    public void All_problems_are_named_at_once()
    {
        var options = new KafkaOptions
        {
            Brokers = "kafka",
            Topic = "a b",
            Group = " ",
            Compression = "zip",
            Linger = TimeSpan.FromMinutes(1),
            MaxMessageBytes = 1,
            Partitions = 0,
            SessionTimeout = TimeSpan.FromSeconds(1),
            CaFile = "/nowhere/ca.pem",
            Properties = new Dictionary<string, string> { ["acks"] = "1", ["client.rack"] = "a" },
        };

        options.Validate().Should().HaveCount(10)
            .And.Contain("Kafka:MaxMessageBytes is 1; it must be between 1,000 and 100,000,000 bytes.")
            .And.Contain("Kafka:Compression is 'zip'; it must be none, gzip, snappy, lz4 or zstd.")
            .And.Contain(problem => problem.StartsWith("Kafka:Properties:acks cannot be set"));
    }

    [Theory]
    [InlineData("sasl_ssl", null, null, null, 2)]
    [InlineData("sasl_ssl", "PLAIN", "user", null, 1)]
    [InlineData("sasl_ssl", "SCRAM-SHA-256", "user", "word", 0)]
    [InlineData("plaintext", "PLAIN", "user", "word", 1)]
    [InlineData("tls", null, null, null, 1)]
    public void Security_needs_what_belongs_to_it(string security, string? mechanism, string? user, string? password, int problems) =>
        new KafkaOptions { Security = security, SaslMechanism = mechanism, SaslUser = user, SaslPassword = password }.Validate().Should().HaveCount(problems);

    [Theory]
    [InlineData("a:9092,b:9093", true)]
    [InlineData("[::1]:9092", true)]
    [InlineData("a:9092,", false)]
    [InlineData("a:0", false)]
    [InlineData("", false)]
    public void Brokers_are_host_and_port(string brokers, bool isValid) =>
        (new KafkaOptions { Brokers = brokers }.Validate().Count == 0).Should().Be(isValid);

    [Fact]
    public void Writer_and_reader_refuse_bad_options_at_once()
    {
        var bad = new KafkaOptions { Topic = "" };

        FluentActions.Invoking(() => new KafkaWriter(bad)).Should().Throw<ArgumentException>().WithMessage("*Kafka:Topic*");
        FluentActions.Invoking(() => new KafkaReader(bad)).Should().Throw<ArgumentException>().WithMessage("*Kafka:Topic*");
    }
}
