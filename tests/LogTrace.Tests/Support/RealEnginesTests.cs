using System.Net.Sockets;

namespace LogTrace.Tests.Support;

public sealed class RealEnginesTests
{
    [RealKafkaFact]
    public async Task Real_Kafka_answers_at_its_address()
    {
        var address = await RealEngines.KafkaAsync();

        using var client = new TcpClient();
        await client.ConnectAsync(address.Split(':')[0], int.Parse(address.Split(':')[1]));
    }

    [RealElasticsearchTheory]
    [EveryElasticsearch]
    public async Task Real_Elasticsearch_answers_at_its_address(string engine)
    {
        var url = await RealEngines.ElasticsearchAsync(engine);

        using var client = new HttpClient();
        (await client.GetAsync(url + "/_cluster/health")).IsSuccessStatusCode.Should().BeTrue();
    }
}
