using System.Globalization;
using Confluent.Kafka;

namespace LogTrace.Transport;

/// <summary>What producer, consumer and administration have in common. Nothing that works without Kafka may refer to it.</summary>
static class KafkaClient
{
    public static Dictionary<string, string> Configure(KafkaOptions options)
    {
        var config = new Dictionary<string, string>(options.OrThrow().Properties)
        {
            ["bootstrap.servers"] = options.Brokers,
            ["security.protocol"] = options.Security,
        };
        Add("client.id", config.ContainsKey("client.id") ? null : "logtrace");
        Add("sasl.mechanism", options.SaslMechanism);
        Add("sasl.username", options.SaslUser);
        Add("sasl.password", options.SaslPassword);
        Add("ssl.ca.location", options.CaFile);
        Add("ssl.certificate.location", options.ClientCertificateFile);
        Add("ssl.key.location", options.ClientKeyFile);
        Add("ssl.key.password", options.ClientKeyPassword);
        // An outage of minutes must not be followed by minutes of waiting: the default doubles up to 10 s.
        if (!config.ContainsKey("reconnect.backoff.max.ms")) config["reconnect.backoff.max.ms"] = "2000";
        return config;

        void Add(string key, string? value)
        {
            if (value is not null) config[key] = value;
        }
    }

    /// <summary>For the indexers' group: also who only asks what it has committed needs a session that fits the other properties, such as max.poll.interval.ms.</summary>
    public static Dictionary<string, string> ConfigureMember(KafkaOptions options)
    {
        var config = Configure(options);
        config["group.id"] = options.Group;
        config["session.timeout.ms"] = options.SessionTimeout.TotalMilliseconds.ToString("F0", CultureInfo.InvariantCulture);
        config["heartbeat.interval.ms"] = (options.SessionTimeout.TotalMilliseconds / 4).ToString("F0", CultureInfo.InvariantCulture);
        return config;
    }

    /// <summary>librdkafka logs every failed connection; what matters of it arrives at the error handler too, and is said once.</summary>
    public static void DropLog(LogMessage message)
    {
    }
}

/// <summary>Says once that something does not work, and once that it works again, however often either is noticed. Thread-safe.</summary>
sealed class KafkaState(Action<string>? report)
{
    const int Works = 0;
    const int OutOfReach = 1;
    const int Refused = 2;

    int _state;

    /// <summary>Whether the error says that nothing can be done until the broker, or somebody's configuration, changes.</summary>
    public static bool IsOutage(ErrorCode code) =>
        code is ErrorCode.Local_AllBrokersDown or ErrorCode.Local_Ssl or ErrorCode.Local_Authentication or ErrorCode.TopicAuthorizationFailed or ErrorCode.ClusterAuthorizationFailed;

    /// <summary>Says so unless it was said. A refusal (certificate, password, permission) is also said after "all brokers are down", which may come first and helps nobody to mend it.</summary>
    public void Down(ErrorCode code, string what)
    {
        var state = code == ErrorCode.Local_AllBrokersDown ? OutOfReach : Refused;
        int known;
        do
        {
            known = Volatile.Read(ref _state);
            if (known >= state) return;
        }
        while (Interlocked.CompareExchange(ref _state, state, known) != known);
        report?.Invoke(what);
    }

    public void Up(string what)
    {
        // Read first: this is called for every batch.
        if (Volatile.Read(ref _state) != Works && Interlocked.Exchange(ref _state, Works) != Works) report?.Invoke(what);
    }
}
