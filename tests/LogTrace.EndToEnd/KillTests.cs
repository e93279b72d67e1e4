using LogTrace.EndToEnd.Support;
using LogTrace.Indexer.Store;
using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd;

/// <summary>The full pipeline as processes, over real servers, killed at random moments.</summary>
public sealed class KillTests
{
    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(3);

    [RealKafkaTheory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public async Task Shipper_and_indexer_killed_at_random_moments_lose_and_double_nothing(int seed)
    {
        using var folder = new TempFolder();
        var random = new Random(seed);
        var run = $"kill{seed}-{Guid.NewGuid():n}";
        var log = new GeneratedLog(folder["logs"], seed, files: 3, prefix: run);
        var kafka = await RealEngines.KafkaAsync();
        var elasticsearch = await RealEngines.ElasticsearchAsync(RealEngines.Elasticsearches[0]);
        string[] ship = ["ship", log.Glob, "--kafka", kafka, "--topic", run, "--data", folder["shipper"]];
        string[] index = ["index", "--kafka", kafka, "--topic", run, "--group", run, "--elasticsearch", elasticsearch, "--data", folder["indexer"]];

        await using (var second = ProgramProcess.StartIndexer(index))
        {
            await using (var first = ProgramProcess.StartShipper(ship))
            {
                await log.GrowAsync(random, TimeSpan.FromMilliseconds(random.Next(1_500, 5_000)));
                await first.KillAsync();
            }

            await using var again = ProgramProcess.StartShipper(ship);
            await log.GrowAsync(random, TimeSpan.FromMilliseconds(random.Next(1_500, 6_000)));
            await second.KillAsync();
            log.Close();
            await Eventually.HoldsAsync(() => CheckpointFile.TryRead(Path.Combine(folder["shipper"], "shipper"))?.Counts.ShippedLines >= log.Written, $"all is shipped, seed {seed}: {again.Transcript}", Deadline);
            (await again.StopAsync(TimeSpan.FromSeconds(30))).Should().Be(0, again.Transcript);
        }

        await using var last = ProgramProcess.StartIndexer([.. index, "--once"]);
        (await last.ExitCodeAsync(Deadline)).Should().Be(0, $"seed {seed}: {last.Transcript}");

        await using var store = new ElasticsearchTraceStore(new ElasticsearchOptions { Urls = [elasticsearch] });
        await store.OpenAsync(CancellationToken.None);
        await Stores.HoldsOnceAsync(store, log, $"seed {seed}");
    }
}
