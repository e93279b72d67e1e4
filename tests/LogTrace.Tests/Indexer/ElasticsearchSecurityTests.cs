using System.Security.Cryptography;
using LogTrace.Indexer.Store;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Indexer;

/// <summary>A real Elasticsearch 8 with TLS and passwords.</summary>
public sealed class ElasticsearchSecurityTests
{
    [OwnEngineFact]
    public async Task Server_is_known_by_its_authority_or_fingerprint_and_knows_us_by_our_password()
    {
        await using var engine = await RealEngines.StartOwnAsync("elasticsearch8", secure: true);
        var some = new StoreRecords(DateTimeOffset.UtcNow);
        var good = new ElasticsearchOptions { Urls = [engine.Address], User = "elastic", Password = "logtrace-test", CaFile = engine.CaFile, GiveUpAfter = TimeSpan.Zero, Gzip = true };

        await using (var store = new ElasticsearchTraceStore(good with { KeepDays = 30, GiveUpAfter = TimeSpan.FromSeconds(30) }))
        {
            (await store.PrepareAsync(lookOnly: false, default)).Should().OnlyContain(part => part.State == PartState.Made);
            (await store.WriteAsync([some.Record("t-1"), some.Record("t-1", "1.2")], default)).Stored.Should().Be(2);
            await store.WriteChainsAsync([new ChainDocument { TraceId = "t-1", RecordCount = 2, StartMicros = StoreRecords.Micros(some.Now), Calls = [new CallDocument { Id = 1, TraceId = "t-1", RpcId = "1.2" }] }], default);
            (await store.GetTraceAsync("t-1", default)).Should().HaveCount(2);
            (await store.GetChainAsync("t-1", default))!.Calls.Should().ContainSingle();
            (await store.FindChainsAsync(new TraceQuery { Text = "ok" }, default)).Should().ContainSingle();
            (await store.FindStaleTracesAsync(0, default)).Should().BeEmpty();
            store.Warnings.Should().BeEmpty("9.x refuses what 8.x warns of");
        }

        var fingerprint = Convert.ToHexString(SHA256.HashData(await ServerCertificateAsync(new Uri(engine.Address))));
        await ReachesAsync(good with { CaFile = null, CertificateFingerprint = string.Join(':', fingerprint.Chunk(2).Select(pair => new string(pair))).ToLowerInvariant() });
        await FailsAsync(good with { CaFile = null, CertificateFingerprint = new string('0', 64) }, "*certificate*");
        await FailsAsync(good with { CaFile = null }, "*certificate*");
        await FailsAsync(good with { Password = "wrong" }, "*Elasticsearch:Password*");
        await FailsAsync(good with { User = null, Password = null }, "*credentials*");
        await ReachesAsync(good with { Urls = ["https://127.0.0.1:9", engine.Address], GiveUpAfter = TimeSpan.FromSeconds(30) });
    }

    static async Task ReachesAsync(ElasticsearchOptions options)
    {
        await using var store = new ElasticsearchTraceStore(options);
        (await store.GetTraceAsync("t-1", default)).Should().HaveCount(2);
    }

    static async Task FailsAsync(ElasticsearchOptions options, string why)
    {
        await using var store = new ElasticsearchTraceStore(options);
        await store.Awaiting(it => it.OpenAsync(default)).Should().ThrowAsync<StoreUnavailableException>().WithMessage(why);
    }

    static async Task<byte[]> ServerCertificateAsync(Uri address)
    {
        using var client = new System.Net.Sockets.TcpClient();
        await client.ConnectAsync(address.Host, address.Port);
        await using var tls = new System.Net.Security.SslStream(client.GetStream(), false, (_, _, _, _) => true);
        await tls.AuthenticateAsClientAsync(address.Host);
        return tls.RemoteCertificate!.GetRawCertData();
    }
}
