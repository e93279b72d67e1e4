using System.CommandLine;
using System.Globalization;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Store;
using LogTrace.Shipper;

namespace LogTrace.Indexer.Commands;

/// <summary><c>find</c>: the newest chains that meet all that is asked, one line each.</summary>
static class FindCommand
{
    public static Command Create()
    {
        var words = new Argument<string[]>("WORD") { Description = "words of a message, all of them in one record, or a whole trace_id; without any: the newest chains", Arity = ArgumentArity.ZeroOrMore };
        var service = new Option<string?>("--service") { HelpName = "NAME", Description = "service that takes part" };
        var action = new Option<string?>("--action") { HelpName = "TEXT", Description = "part of the entry's action, such as /checkout" };
        var uid = new Option<string?>("--uid") { HelpName = "ID", Description = "user" };
        var errors = new Option<bool>("--errors") { Description = "with errors only" };
        var incomplete = new Option<bool>("--incomplete") { Description = "with known loss only" };
        var slower = CommonOptions.Number("--slower", "that took at least this many milliseconds", 0, 0, 1_000_000_000);
        var minutes = CommonOptions.Number("--minutes", "that began in the last N minutes; 0 for all", 0, 0, 100_000_000);
        var limit = CommonOptions.Number("--limit", "most chains to print", 20, 1, 1_000);
        var data = CommonOptions.Data();
        var elasticsearch = CommonOptions.Elasticsearch();
        var config = CommonOptions.Config();
        var command = new Command("find", "Finds chains in the store, newest first; prints the trace_id for './logtrace chain'. Exit 1 if there is none.")
        {
            words, service, action, uid, errors, incomplete, slower, minutes, limit, data, elasticsearch, config,
        };
        command.SetAction((parsed, stop) => CommonOptions.GuardAsync(async () =>
        {
            var settings = Settings.Load(parsed.GetValue(config), CommonOptions.ConfigurationFile, [new("Elasticsearch:Urls:0", parsed.GetValue(elasticsearch))]);
            using var logs = CommonOptions.Logs(LogLevel.Warning);
            await using var store = CommonOptions.Store(settings, CommonOptions.DataDirectory(parsed, data, settings), logs, readOnly: true);
            var ago = parsed.GetValue(minutes);
            var found = await store.FindChainsAsync(
                new TraceQuery
                {
                    Text = string.Join(' ', parsed.GetValue(words) ?? []),
                    Service = parsed.GetValue(service),
                    Action = parsed.GetValue(action),
                    Uid = parsed.GetValue(uid),
                    HasErrors = parsed.GetValue(errors) ? true : null,
                    Complete = parsed.GetValue(incomplete) ? false : null,
                    MinDurationMicros = parsed.GetValue(slower) is > 0 and var milliseconds ? milliseconds * 1_000L : null,
                    FromMicros = ago > 0 ? (DateTimeOffset.UtcNow.AddMinutes(-ago) - DateTimeOffset.UnixEpoch).Ticks / 10 : null,
                    Limit = parsed.GetValue(limit),
                },
                stop);
            foreach (var chain in found) Console.WriteLine(Line(chain));
            if (found.Count == 0) Console.Error.WriteLine("No chain in the store meets this.");
            return found.Count > 0 ? 0 : 1;
        }));
        return command;
    }

    // Columns up to the trace_id have one width, so that lists can be read and cut.
    static string Line(ChainDocument chain)
    {
        var marks = new List<string>();
        if (chain.ErrorCount > 0) marks.Add(string.Create(CultureInfo.InvariantCulture, $"{chain.ErrorCount:N0} errors"));
        var missing = chain.PlaceholderCount + chain.GapCount + chain.CalleeOnlyCount;
        if (missing > 0) marks.Add(string.Create(CultureInfo.InvariantCulture, $"{missing:N0} missing"));
        if (chain.AmbiguousCount > 0) marks.Add(string.Create(CultureInfo.InvariantCulture, $"{chain.AmbiguousCount:N0} ambiguous"));
        var start = DateTimeOffset.UnixEpoch.AddTicks(Math.Clamp(chain.StartMicros, 0, 253_402_300_799_000_000) * 10);
        return string.Create(CultureInfo.InvariantCulture,
            $"{start:yyyy-MM-dd HH:mm:ss.fff}Z {chain.DurationMicros / 1000.0,12:N3} ms  {ChainText.Visible(chain.TraceId),-32}  {ChainText.Visible(chain.EntryService ?? "?")} {ChainText.Visible(chain.EntryAction ?? "")} {(marks.Count == 0 ? "" : $"({string.Join(", ", marks)})")}").TrimEnd();
    }
}
