namespace LogTrace.Transport;

/// <summary>How to reach Kafka, and what to do there. Shipper and indexer take the same section.</summary>
public sealed record KafkaOptions
{
    /// <summary>Properties that the delivery rule rests on; they cannot be set from outside.</summary>
    static readonly HashSet<string> Ours = new(StringComparer.Ordinal)
    {
        "acks", "request.required.acks", "bootstrap.servers", "metadata.broker.list", "delivery.report.only.error", "enable.auto.commit", "auto.commit.enable",
        "enable.auto.offset.store", "enable.idempotence", "enable.gapless.guarantee", "group.id", "message.timeout.ms", "delivery.timeout.ms", "partitioner", "auto.offset.reset",
        "message.send.max.retries", "retries", "transactional.id", "group.protocol", "partition.assignment.strategy", "session.timeout.ms", "message.max.bytes",
        "linger.ms", "queue.buffering.max.ms", "compression.codec", "compression.type", "queue.buffering.max.kbytes", "queue.buffering.max.messages",
    };

    static readonly string[] Compressions = ["none", "gzip", "snappy", "lz4", "zstd"];
    static readonly string[] Protocols = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];
    static readonly string[] Mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

    /// <summary>One or more <c>host:port</c>, separated by commas. Default <c>localhost:9092</c>.</summary>
    public string Brokers { get; init; } = "localhost:9092";

    /// <summary>The topic of the records. Default <c>logtrace.records</c>.</summary>
    public string Topic { get; init; } = "logtrace.records";

    /// <summary>
    /// The topic of what is set aside, beside the dead letter files of shippers and indexers; made when first needed, keeps 1 GiB and 30 days. Empty for none. Default <c>logtrace.dead</c>.
    /// </summary>
    public string DeadTopic { get; init; } = "logtrace.dead";

    /// <summary>Partitions of the topic when <see cref="KafkaTopic.EnsureAsync"/> creates it, 1 to 10,000; as many indexers can share the work. Default 6.</summary>
    public int Partitions { get; init; } = 6;

    /// <summary>Copies of each partition when <see cref="KafkaTopic.EnsureAsync"/> creates the topic, 1 to 100; 0 for 3 where there are three brokers, else as many as there are. Default 0.</summary>
    public int Replication { get; init; }

    /// <summary>The indexers' consumer group: its members share the partitions. Default <c>logtrace-indexer</c>.</summary>
    public string Group { get; init; } = "logtrace-indexer";

    /// <summary>none, gzip, snappy, lz4 or zstd. Default lz4.</summary>
    public string Compression { get; init; } = "lz4";

    /// <summary>How long lines wait for others to be sent with, 0 to 5 s. Default 20 ms.</summary>
    public TimeSpan Linger { get; init; } = TimeSpan.FromMilliseconds(20);

    /// <summary>
    /// Largest message, line, key and header together, 1,000 bytes to 100 MB; the topic's own limit counts where it is lower. A longer line is refused, see
    /// <see cref="IRecordWriter.WriteAsync"/>. Default 1,048,576.
    /// </summary>
    public int MaxMessageBytes { get; init; } = 1_048_576;

    /// <summary>Bytes handed to Kafka and not yet acknowledged, 1 MiB to 1 GiB; at the limit writing waits. Default 32 MiB.</summary>
    public long MaxInFlightBytes { get; init; } = 32 << 20;

    /// <summary>Bytes of lines after which a batch is given to the indexer, 1 KiB to 64 MiB. A batch is smaller when no more is there. Default 2 MiB.</summary>
    public int ReadBatchBytes { get; init; } = 2 << 20;

    /// <summary>After how long without a sign of life an indexer's partitions go to the others, 6 s to 5 min. Default 10 s.</summary>
    public TimeSpan SessionTimeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>plaintext, ssl, sasl_plaintext or sasl_ssl. Default plaintext.</summary>
    public string Security { get; init; } = "plaintext";

    /// <summary>PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; for the sasl_ protocols. Default none.</summary>
    public string? SaslMechanism { get; init; }

    /// <summary>User name for SASL.</summary>
    public string? SaslUser { get; init; }

    /// <summary>Password for SASL.</summary>
    public string? SaslPassword { get; init; }

    /// <summary>PEM file with the certificate authorities to trust. Default those of the system.</summary>
    public string? CaFile { get; init; }

    /// <summary>PEM file with this client's own certificate, for brokers that ask for one; with <see cref="ClientKeyFile"/>, and ssl or sasl_ssl. Default none.</summary>
    public string? ClientCertificateFile { get; init; }

    /// <summary>PEM file with the key of <see cref="ClientCertificateFile"/>.</summary>
    public string? ClientKeyFile { get; init; }

    /// <summary>Password of <see cref="ClientKeyFile"/>, if it has one.</summary>
    public string? ClientKeyPassword { get; init; }

    /// <summary>Further client properties by their librdkafka names, such as <c>socket.keepalive.enable</c>. Those that the delivery rule rests on are refused.</summary>
    public IReadOnlyDictionary<string, string> Properties { get; init; } = new Dictionary<string, string>();

    /// <summary>Checks every value.</summary>
    /// <returns>All problems at once, each with key, value, allowed range; empty when there is none.</returns>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        foreach (var broker in (Brokers ?? "").Split(','))
        {
            var colon = broker.LastIndexOf(':');
            if (colon <= 0 || !int.TryParse(broker[(colon + 1)..], out var port) || port is < 1 or > 65_535)
            {
                problems.Add($"Kafka:Brokers is '{Brokers}'; it must be one or more host:port, separated by commas, such as kafka-1:9092,kafka-2:9092.");
                break;
            }
        }

        if (!IsTopic(Topic)) problems.Add($"Kafka:Topic is '{Topic}'; it must be 1 to 249 letters, digits, dots, dashes or underscores.");
        if (DeadTopic.Length > 0 && (!IsTopic(DeadTopic) || DeadTopic == Topic)) problems.Add($"Kafka:DeadTopic is '{DeadTopic}'; it must be empty, or 1 to 249 letters, digits, dots, dashes or underscores, and not the topic of the records.");
        if (string.IsNullOrWhiteSpace(Group)) problems.Add("Kafka:Group is empty; name the consumer group, such as logtrace-indexer.");
        Within(nameof(Partitions), Partitions, 1, 10_000, "");
        Within(nameof(Replication), Replication, 0, 100, "");
        Within(nameof(MaxMessageBytes), MaxMessageBytes, 1_000, 100_000_000, " bytes");
        Within(nameof(MaxInFlightBytes), MaxInFlightBytes, 1 << 20, 1 << 30, " bytes");
        Within(nameof(ReadBatchBytes), ReadBatchBytes, 1_024, 64 << 20, " bytes");
        Between(nameof(Linger), Linger, TimeSpan.Zero, TimeSpan.FromSeconds(5));
        Between(nameof(SessionTimeout), SessionTimeout, TimeSpan.FromSeconds(6), TimeSpan.FromMinutes(5));
        OneOf(nameof(Compression), Compression, Compressions);
        OneOf(nameof(Security), Security, Protocols);
        var sasl = Security is "sasl_plaintext" or "sasl_ssl";
        if (sasl)
        {
            OneOf(nameof(SaslMechanism), SaslMechanism, Mechanisms);
            if (string.IsNullOrEmpty(SaslUser) || string.IsNullOrEmpty(SaslPassword)) problems.Add($"Kafka:Security is {Security}, which needs Kafka:SaslUser and Kafka:SaslPassword.");
        }
        else if (SaslMechanism is not null || SaslUser is not null || SaslPassword is not null)
        {
            problems.Add($"Kafka:Security is {Security}, with which Kafka:SaslMechanism, SaslUser and SaslPassword mean nothing; use sasl_ssl, or leave them out.");
        }

        if (CaFile is not null && !File.Exists(CaFile)) problems.Add($"Kafka:CaFile is '{CaFile}'; there is no such file.");
        if (ClientCertificateFile is null != ClientKeyFile is null) problems.Add("Kafka:ClientCertificateFile and Kafka:ClientKeyFile go together; one of them is missing.");
        if (ClientCertificateFile is not null && Security is not ("ssl" or "sasl_ssl")) problems.Add($"Kafka:Security is {Security}, with which Kafka:ClientCertificateFile means nothing; use ssl or sasl_ssl, or leave it out.");
        if (ClientKeyPassword is not null && ClientKeyFile is null) problems.Add("Kafka:ClientKeyPassword is given without Kafka:ClientKeyFile; leave it out, or name the key.");
        foreach (var (key, file) in ((string, string?)[])[("ClientCertificateFile", ClientCertificateFile), ("ClientKeyFile", ClientKeyFile)])
        {
            if (file is not null && !File.Exists(file)) problems.Add($"Kafka:{key} is '{file}'; there is no such file.");
        }

        foreach (var property in Properties.Keys.Where(Ours.Contains))
        {
            problems.Add($"Kafka:Properties:{property} cannot be set: LogTrace sets it itself so that nothing is lost.");
        }

        return problems;

        void Within(string key, long value, long min, long max, string unit)
        {
            if (value < min || value > max) problems.Add($"Kafka:{key} is {value:N0}; it must be between {min:N0} and {max:N0}{unit}.");
        }

        void Between(string key, TimeSpan value, TimeSpan min, TimeSpan max)
        {
            if (value < min || value > max) problems.Add($"Kafka:{key} is {value}; it must be between {min} and {max}.");
        }

        void OneOf(string key, string? value, string[] allowed)
        {
            if (!allowed.Contains(value)) problems.Add($"Kafka:{key} is '{value}'; it must be {string.Join(", ", allowed[..^1])} or {allowed[^1]}.");
        }
    }

    internal KafkaOptions OrThrow() =>
        Validate() is { Count: > 0 } problems ? throw new ArgumentException(string.Join(Environment.NewLine, problems)) : this;

    static bool IsTopic(string? name) =>
        name is { Length: >= 1 and <= 249 } and not "." and not ".." && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '-' or '_');
}
