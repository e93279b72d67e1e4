using System.Text.Json;

namespace LogTrace.Transport;

/// <summary>What the Kafka client (librdkafka) says about itself every 5 s, or as often as the property <c>statistics.interval.ms</c> says.</summary>
/// <param name="QueuedMessages">Lines in the client that the brokers have not acknowledged.</param>
/// <param name="QueuedBytes">Their bytes.</param>
/// <param name="SentMessages">Lines sent since the client was made, resends included.</param>
/// <param name="SentBytes">Bytes of all requests sent since then, after compression.</param>
/// <param name="Retries">Requests that were sent again.</param>
/// <param name="Errors">Requests that could not be sent.</param>
/// <param name="Timeouts">Requests that were not answered in time.</param>
/// <param name="Connects">Connections made or tried.</param>
/// <param name="BrokersUp">Brokers with a connection in use.</param>
/// <param name="RoundTripMicros">Longest of the brokers' average times from request to answer, in microseconds; 0 when nothing was sent lately.</param>
/// <param name="RoundTrip99Micros">Longest of the brokers' 99th percentiles of it.</param>
public sealed record KafkaStatistics(
    long QueuedMessages,
    long QueuedBytes,
    long SentMessages,
    long SentBytes,
    long Retries,
    long Errors,
    long Timeouts,
    long Connects,
    int BrokersUp,
    long RoundTripMicros,
    long RoundTrip99Micros)
{
    /// <summary>Reads the client's JSON (github.com/confluentinc/librdkafka, STATISTICS.md); members that are not there count as 0.</summary>
    internal static bool TryRead(ReadOnlySpan<byte> json, out KafkaStatistics statistics)
    {
        statistics = new KafkaStatistics(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        try
        {
            var reader = new Utf8JsonReader(json);
            using var document = JsonDocument.ParseValue(ref reader);
            var root = document.RootElement;
            statistics = statistics with
            {
                QueuedMessages = Number(root, "msg_cnt"),
                QueuedBytes = Number(root, "msg_size"),
                SentMessages = Number(root, "txmsgs"),
                SentBytes = Number(root, "tx_bytes"),
            };
            if (!root.TryGetProperty("brokers", out var brokers) || brokers.ValueKind != JsonValueKind.Object) return true;
            foreach (var broker in brokers.EnumerateObject().Select(member => member.Value))
            {
                var times = broker.TryGetProperty("rtt", out var rtt) ? rtt : default;
                statistics = statistics with
                {
                    Retries = statistics.Retries + Number(broker, "txretries"),
                    Errors = statistics.Errors + Number(broker, "txerrs"),
                    Timeouts = statistics.Timeouts + Number(broker, "req_timeouts"),
                    Connects = statistics.Connects + Number(broker, "connects"),
                    BrokersUp = statistics.BrokersUp + (broker.TryGetProperty("state", out var state) && state.ValueEquals("UP"u8) ? 1 : 0),
                    RoundTripMicros = Math.Max(statistics.RoundTripMicros, Number(times, "avg")),
                    RoundTrip99Micros = Math.Max(statistics.RoundTrip99Micros, Number(times, "p99")),
                };
            }

            return true;
        }
        catch (JsonException)
        {
            return false; // another release of the library says it differently: then there are none
        }

        static long Number(JsonElement of, string name) =>
            of.ValueKind == JsonValueKind.Object && of.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.Number && value.TryGetInt64(out var number) ? number : 0;
    }
}
