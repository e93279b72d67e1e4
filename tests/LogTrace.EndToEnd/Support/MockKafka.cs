using System.Reflection;
using System.Runtime.InteropServices;
using Confluent.Kafka;

namespace LogTrace.EndToEnd.Support;

/// <summary>
/// librdkafka's mock broker with its switches, in this process and in the very library that the client has loaded: the real protocol over TCP, idempotence included, no disk,
/// no replication. Each partition keeps 5 MiB or 100,000 messages and drops older ones silently, so use many partitions.
/// </summary>
public sealed unsafe partial class MockKafka : IDisposable
{
    const int Producer = 0;
    const short ProduceRequest = 0;
    readonly nint _client;
    readonly nint _cluster;
    readonly int _brokers;

    static MockKafka()
    {
        Confluent.Kafka.Library.Load();
        var mapped = File.ReadLines("/proc/self/maps").First(line => line.Contains("librdkafka", StringComparison.Ordinal));
        var handle = NativeLibrary.Load(mapped[mapped.IndexOf('/', StringComparison.Ordinal)..]);
        NativeLibrary.SetDllImportResolver(Assembly.GetExecutingAssembly(), (name, _, _) => name == Loaded ? handle : 0);
    }

    public MockKafka(int brokers = 1)
    {
        _brokers = brokers;
        var text = stackalloc byte[512];
        var conf = rd_kafka_conf_new();
        rd_kafka_conf_set_log_cb(conf, 0);
        _client = rd_kafka_new(Producer, conf, text, 512);
        if (_client == 0) throw new InvalidOperationException($"no client for the mock broker: {Marshal.PtrToStringUTF8((nint)text)}");
        _cluster = rd_kafka_mock_cluster_new(_client, brokers);
        Address = Marshal.PtrToStringUTF8(rd_kafka_mock_cluster_bootstraps(_cluster))!;
    }

    /// <summary>host:port of every broker, separated by commas.</summary>
    public string Address { get; }

    public void CreateTopic(string name, int partitions) => Check(rd_kafka_mock_topic_create(_cluster, name, partitions, 1), "create a topic");

    /// <summary>Connections are closed and none are taken.</summary>
    public void GoDown()
    {
        for (var broker = 1; broker <= _brokers; broker++) Check(rd_kafka_mock_broker_set_down(_cluster, broker), "go down");
    }

    public void ComeUp()
    {
        for (var broker = 1; broker <= _brokers; broker++) Check(rd_kafka_mock_broker_set_up(_cluster, broker), "come up");
    }

    /// <summary>Every answer takes this long.</summary>
    public void AnswerAfter(TimeSpan delay)
    {
        for (var broker = 1; broker <= _brokers; broker++) Check(rd_kafka_mock_broker_set_rtt(_cluster, broker, (int)delay.TotalMilliseconds), "be slow");
    }

    /// <summary>Clients are told to connect somewhere else, such as to a proxy.</summary>
    public void Advertise(string host, int port) => rd_kafka_mock_broker_set_host_port(_cluster, 1, host, port);

    /// <summary>Moves a partition to another broker.</summary>
    public void Lead(string topic, int partition, int broker) => Check(rd_kafka_mock_partition_set_leader(_cluster, topic, partition, broker), "move a partition");

    /// <summary>The next produce requests are answered with these errors, whoever sends them.</summary>
    public void RefuseProduce(params ErrorCode[] errors) =>
        rd_kafka_mock_push_request_errors_array(_cluster, ProduceRequest, (nuint)errors.Length, [.. errors.Select(error => (int)error)]);

    /// <summary>Takes back what is left of it.</summary>
    public void AcceptProduce() => rd_kafka_mock_clear_request_errors(_cluster, ProduceRequest);

    public void Dispose()
    {
        rd_kafka_mock_cluster_destroy(_cluster);
        rd_kafka_destroy(_client);
    }

    static void Check(int error, string what)
    {
        if (error != 0) throw new InvalidOperationException($"the mock broker did not {what}: {(ErrorCode)error}");
    }

    // rdkafka.h and rdkafka_mock.h of librdkafka 2.16.
    const string Loaded = "librdkafka-that-is-loaded";

    [LibraryImport(Loaded)]
    private static partial nint rd_kafka_conf_new();

    [LibraryImport(Loaded)]
    private static partial void rd_kafka_conf_set_log_cb(nint conf, nint callback);

    [LibraryImport(Loaded)]
    private static partial nint rd_kafka_new(int type, nint conf, byte* text, nuint size);

    [LibraryImport(Loaded)]
    private static partial void rd_kafka_destroy(nint client);

    [LibraryImport(Loaded)]
    private static partial nint rd_kafka_mock_cluster_new(nint client, int brokers);

    [LibraryImport(Loaded)]
    private static partial void rd_kafka_mock_cluster_destroy(nint cluster);

    [LibraryImport(Loaded)]
    private static partial nint rd_kafka_mock_cluster_bootstraps(nint cluster);

    [LibraryImport(Loaded, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int rd_kafka_mock_topic_create(nint cluster, string topic, int partitions, int replication);

    [LibraryImport(Loaded)]
    private static partial int rd_kafka_mock_broker_set_down(nint cluster, int broker);

    [LibraryImport(Loaded)]
    private static partial int rd_kafka_mock_broker_set_up(nint cluster, int broker);

    [LibraryImport(Loaded)]
    private static partial int rd_kafka_mock_broker_set_rtt(nint cluster, int broker, int milliseconds);

    [LibraryImport(Loaded, StringMarshalling = StringMarshalling.Utf8)]
    private static partial void rd_kafka_mock_broker_set_host_port(nint cluster, int broker, string host, int port);

    [LibraryImport(Loaded, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int rd_kafka_mock_partition_set_leader(nint cluster, string topic, int partition, int broker);

    [LibraryImport(Loaded)]
    private static partial void rd_kafka_mock_push_request_errors_array(nint cluster, short request, nuint count, int[] errors);

    [LibraryImport(Loaded)]
    private static partial void rd_kafka_mock_clear_request_errors(nint cluster, short request);
}
