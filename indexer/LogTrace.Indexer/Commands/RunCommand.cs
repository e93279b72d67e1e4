using System.CommandLine;
using System.Globalization;
using LogTrace.Indexer.Store;
using LogTrace.Indexer.Viewer;
using LogTrace.Shipper;

namespace LogTrace.Indexer.Commands;

/// <summary><c>run 'GLOB'</c>: the embedded pipeline over the user's own files, with the viewer.</summary>
static class RunCommand
{
    public static Command Create()
    {
        var patterns = ShipCommand.Patterns();
        var exclude = new Option<string[]>("--exclude") { HelpName = "PATTERN", Description = "files to leave out; a pattern without a slash is compared with the file name" };
        var once = new Option<bool>("--once") { Description = "end when all that is there is stored, print the balance, exit 0 only if it balances" };
        var data = CommonOptions.Data();
        var elasticsearch = CommonOptions.Elasticsearch();
        var port = CommonOptions.Port();
        var listen = CommonOptions.Listen(9470);
        var config = CommonOptions.Config();
        var command = new Command("run", "Tails your log files into the embedded store and serves the viewer; continues where it stopped.") { patterns, exclude, once, data, elasticsearch, port, listen, config };
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            var settings = Settings.Load(parsed.GetValue(config), CommonOptions.ConfigurationFile,
            [
                .. Settings.List("Shipper:Paths", parsed.GetValue(patterns)), .. Settings.List("Shipper:Exclude", parsed.GetValue(exclude)),
                new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch)), new("Indexer:Listen", parsed.GetValue(listen)),
            ]);
            var directory = CommonOptions.DataDirectory(parsed, data, settings);
            var shipper = settings.Section<ShipperOptions>("Shipper") with { DataDirectory = directory, Once = parsed.GetValue(once) };
            var indexer = CommonOptions.Indexer(settings, directory);
            Settings.Check(shipper.Validate(), indexer.Validate());
            return await RunAsync(shipper, indexer, settings, parsed.GetValue(port), stop);
        }, endsByStop: !parsed.GetValue(once)));
        return command;
    }

    static async Task<int> RunAsync(ShipperOptions shipper, IndexerOptions indexer, Settings settings, int port, CancellationToken stop)
    {
        using var logs = CommonOptions.Logs();
        await using var store = CommonOptions.Store(settings, shipper.DataDirectory, logs);
        await store.OpenAsync(stop);
        using var pipeline = new EmbeddedPipeline(shipper, indexer, CommonOptions.DeadLetter(shipper.DataDirectory), store, logs);
        var (key, address) = indexer.Listen is null ? ("Shipper:Listen", shipper.Listen) : ("Indexer:Listen", indexer.Listen);
        using var status = address is null ? null : StatusEndpoint.Start(address, key, pipeline.Status.PageAsync, logs.CreateLogger<StatusEndpoint>());
        if (shipper.Once)
        {
            await pipeline.RunAsync(stop);
            var balance = Balance.Of(pipeline.Shipped, pipeline.Indexed);
            balance.WriteTo(Console.Out);
            if (store is SqliteTraceStore sqlite)
            {
                // Closing copies the logs beside the files into them: the size is then the one that lasts.
                await sqlite.DisposeAsync();
                if (sqlite.Size() is { Records: > 0 } size)
                    Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"store: {size.Records:N0} records in {size.Bytes:N0} bytes, {size.BytesPerRecord:N0} a record"));
            }

            return balance.Holds && !stop.IsCancellationRequested ? 0 : 1;
        }

        await using var viewer = await ViewerHost.StartAsync(store, port, indexer.Chains, logs, stop);
        Console.WriteLine($"viewer at {viewer.Url}, Ctrl-C stops");
        await pipeline.RunAsync(stop);
        return 0;
    }
}
