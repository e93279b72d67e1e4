using System.CommandLine;
using LogTrace.Indexer.Viewer;
using LogTrace.Shipper;

namespace LogTrace.Indexer.Commands;

/// <summary><c>view</c>: the viewer alone, over a store that another process may be filling.</summary>
static class ViewCommand
{
    public static Command Create()
    {
        var data = CommonOptions.Data();
        var elasticsearch = CommonOptions.Elasticsearch();
        var port = CommonOptions.Port();
        var config = CommonOptions.Config();
        var command = new Command("view", "Serves the viewer over a store.") { data, elasticsearch, port, config };
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            var settings = Settings.Load(parsed.GetValue(config), CommonOptions.ConfigurationFile, [new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch))]);
            var chains = CommonOptions.Chains(settings);
            using var logs = CommonOptions.Logs();
            await using var store = CommonOptions.Store(settings, CommonOptions.DataDirectory(parsed, data, settings), logs, readOnly: true);
            await store.OpenAsync(stop);
            await using var viewer = await ViewerHost.StartAsync(store, parsed.GetValue(port), chains, logs, stop);
            Console.WriteLine($"viewer at {viewer.Url}, Ctrl-C stops");
            await viewer.WaitAsync(stop);
            return 0;
        }, endsByStop: true));
        return command;
    }
}
