using System.Buffers;
using System.CommandLine;
using LogTrace.Indexer.Chains;
using LogTrace.Shipper;

namespace LogTrace.Indexer.Commands;

/// <summary><c>chain ID</c>: one chain from the store, drawn or as JSON.</summary>
static class ChainCommand
{
    public static Command Create()
    {
        var traceId = new Argument<string>("ID") { Description = "the trace_id" };
        var json = new Option<bool>("--json") { Description = "one JSON object on one line" };
        var withLogs = new Option<bool>("--logs") { Description = "draw the log lines, too" };
        var data = CommonOptions.Data();
        var elasticsearch = CommonOptions.Elasticsearch();
        var config = CommonOptions.Config();
        var command = new Command("chain", "Draws one chain from the store: who called whom, how long it took, what failed, what is missing.") { traceId, json, withLogs, data, elasticsearch, config };
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            var settings = Settings.Load(parsed.GetValue(config), CommonOptions.ConfigurationFile, [new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch))]);
            var chains = CommonOptions.Chains(settings);
            using var logs = CommonOptions.Logs(LogLevel.Warning);
            await using var store = CommonOptions.Store(settings, CommonOptions.DataDirectory(parsed, data, settings), logs, readOnly: true);
            await store.OpenAsync(stop);
            var id = parsed.GetValue(traceId)!;
            var records = await store.GetTraceAsync(id, stop);
            if (records.Count == 0)
            {
                var wasDropped = await store.GetChainAsync(id, stop) is { Dropped: true };
                Console.Error.WriteLine(wasDropped
                    ? $"Trace '{ChainText.Visible(id)}' was not kept: none of the rules in Indexer:Keep spoke for it, so its records were deleted."
                    : $"No record of trace '{ChainText.Visible(id)}' is in the store.");
                return 1;
            }

            var chain = ChainBuilder.Build(id, records, chains);
            if (parsed.GetValue(json)) Print(chain);
            else ChainText.Draw(RebuildCommand.ConsoleOn(Console.Out), chain, parsed.GetValue(withLogs));
            return 0;
        }));
        return command;
    }

    static void Print(CallChain chain)
    {
        var buffer = new ArrayBufferWriter<byte>();
        ChainJson.Write(chain, buffer);
        using var output = Console.OpenStandardOutput();
        output.Write(buffer.WrittenSpan);
        output.WriteByte((byte)'\n');
    }
}
