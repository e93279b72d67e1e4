using System.CommandLine;
using System.CommandLine.Help;
using System.Globalization;
using LogTrace.Benchmarks;
using LogTrace.Benchmarks.Accuracy;
using LogTrace.Benchmarks.Chains;
using LogTrace.Benchmarks.Children;
using LogTrace.Benchmarks.Dashboards;
using LogTrace.Benchmarks.Indexer;
using LogTrace.Benchmarks.Logger;
using LogTrace.Benchmarks.Overhead;
using LogTrace.Benchmarks.Shipper;
using LogTrace.Benchmarks.Visible;

// Children of tests and benchmarks: no command line parser is to stand between them and a signal.
switch (args)
{
    case [LineLoad.Command, var path, var accepted, var fill]:
        return LineLoad.Run(path, accepted, Number(fill));
    case [Services.CalleeCommand]:
        Services.RunCallee();
        return 0;
    case [Services.EndpointCommand, var callee, var home, var tracing]:
        Services.RunEndpoint(callee, home, tracing == "traced");
        return 0;
    case [ChainBenchmarks.Command, var all, var best, .. var traceSizes]:
        ChainBenchmarks.PrintOurs(Number(all), Number(best), [.. traceSizes.Select(Number)]);
        return 0;
}

var rounds = new Option<int?>("--rounds") { Description = "Measured rounds of each side (default 5); the median counts." };
var quick = new Option<bool>("--quick") { Description = "A tenth of the work, three rounds: to see that it runs, not for figures." };
var results = new Option<DirectoryInfo?>("--results") { Description = "Folder to write the results to as markdown (default tests/LogTrace.Benchmarks/results; with --quick none)." };

var logger = new Command("logger", "The logger against Serilog and NLog: cost for the caller, lines/s to a file, memory, suppressed debug lines.") { rounds, quick, results };
logger.SetAction(parse =>
{
    var effort = parse.GetValue(quick) ? LoggerEffort.Quick : LoggerEffort.Full;
    if (parse.GetValue(rounds) is { } count) effort = effort with { Rounds = Math.Max(1, count) };
    var report = new Report("Logger");
    LoggerBenchmarks.Run(effort, report);
    return Keep(parse, report, "logger");
});

var overhead = new Command("overhead", "Requests/s of an ASP.NET Core endpoint with and without the instrumentation; takes three minutes.") { rounds, quick, results };
overhead.SetAction(parse =>
{
    var effort = parse.GetValue(quick) ? OverheadEffort.Quick : OverheadEffort.Full;
    if (parse.GetValue(rounds) is { } count) effort = effort with { Rounds = Math.Max(1, count) };
    var report = new Report("Overhead");
    OverheadBenchmark.Run(effort, report);
    return Keep(parse, report, "overhead");
});

var kafka = new Option<string?>("--kafka") { HelpName = "HOST:PORT", Description = "A broker to measure with (default: one is started from ../shared/engines and wiped)." };
var ship = new Command("ship", "The shipper against rsyslog and kcat over a real Kafka: lines per CPU-second, lines/s, memory, CPU with nothing to do.") { rounds, quick, results, kafka };
ship.SetAction(async (parse, _) =>
{
    var effort = parse.GetValue(quick) ? ShipEffort.Quick : ShipEffort.Full;
    if (parse.GetValue(rounds) is { } count) effort = effort with { Rounds = Math.Max(1, count) };
    var report = new Report("Shipper");
    try
    {
        await ShipBenchmarks.RunAsync(effort, parse.GetValue(kafka), report);
    }
    catch (InvalidOperationException e)
    {
        Console.Error.WriteLine(e.Message);
        return 1;
    }

    return Keep(parse, report, "ship");
});

var index = new Command("index", "Kafka to a real Elasticsearch: the indexer against what the store itself can take, and against rsyslog; what its mapping costs.") { rounds, quick, results };
index.SetAction(async (parse, _) =>
{
    var effort = parse.GetValue(quick) ? IndexEffort.Quick : IndexEffort.Full;
    if (parse.GetValue(rounds) is { } count) effort = effort with { Rounds = Math.Max(1, count) };
    var report = new Report("Indexer");
    try
    {
        await IndexBenchmarks.RunAsync(effort, report);
    }
    catch (InvalidOperationException e)
    {
        Console.Error.WriteLine(e.Message);
        return 1;
    }

    return Keep(parse, report, "index");
});

var peer = new Option<string?>("--peer") { Description = "Program that prints the figures of Zipkin's tree builder (default ../shared/peers/zipkin-tree/run, if it is there)." };
var sizes = new Option<int[]>("--sizes") { Description = "Records a trace (default 10 to 1,000,000).", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [10, 100, 1_000, 10_000, 100_000, 1_000_000] };
var chain = new Command("chain", "Building chains against Zipkin's own tree builder: records/s on one thread, memory a record.") { rounds, quick, results, peer, sizes };
chain.SetAction(parse =>
{
    var isQuick = parse.GetValue(quick);
    var zipkin = parse.GetValue(peer) ?? (Report.Shared("peers/zipkin-tree/run") is { } found && !isQuick ? found : null);
    var report = new Report("Chains");
    ChainBenchmarks.Run([.. parse.GetValue(sizes)!.Where(size => !isQuick || size <= 100_000)], isQuick ? 100_000 : 1_000_000, parse.GetValue(rounds) ?? 5, zipkin, report);
    return Keep(parse, report, "chain");
});

var draw = new Option<int>("--seed") { Description = "Seed of the made traces and of the losses (default 1).", DefaultValueFactory = _ => 1 };
var accuracy = new Command("accuracy", "How right chains are when records are lost or spoilt, beside the rules of systems that link spans by parent ids.") { quick, results, draw };
accuracy.SetAction(parse =>
{
    var report = new Report("Accuracy");
    var (traces, draws) = parse.GetValue(quick) ? (40, 1) : (400, 5);
    AccuracyBenchmark.Run(traces, draws, parse.GetValue(draw), Report.Shared("data/alibaba-2021-sample.csv.gz"), Report.Shared("data/dgg-callgraph-shapes.jsonl.gz"), report);
    return Keep(parse, report, "accuracy");
});

var records = new Option<long[]>("--sizes") { Description = "Records at which searches are timed (default 100,000 1,000,000 10,000,000; the last takes 15 GB of disk).", AllowMultipleArgumentsPerToken = true };
var store = new Command("store", "The embedded store: log files with chains against sqlite3's own import of the same rows, searches as it grows to millions of records, bytes a record.") { rounds, quick, results, records };
store.SetAction(async (parse, _) =>
{
    var effort = parse.GetValue(quick) ? StoreEffort.Quick : StoreEffort.Full;
    if (parse.GetValue(rounds) is { } count) effort = effort with { Rounds = Math.Max(0, count) };
    if (parse.GetValue(records) is { Length: > 0 } asked) effort = effort with { Sizes = asked };
    var report = new Report("Embedded store");
    await StoreBenchmark.RunAsync(effort, report);
    return Keep(parse, report, "store");
});

var visible = new Command("visible", "From a line in a log file to its record in the viewer, under the demo's load: embedded, and over a real Kafka and Elasticsearch.") { quick, results };
visible.SetAction(async (parse, _) =>
{
    var report = new Report("Visible");
    try
    {
        await VisibleBenchmark.RunAsync(parse.GetValue(quick) ? VisibleEffort.Quick : VisibleEffort.Full, report);
    }
    catch (InvalidOperationException e)
    {
        Console.Error.WriteLine(e.Message);
        return 1;
    }

    return Keep(parse, report, "visible");
});

var waterfall = new Command("waterfall", "How long the dashboards' waterfall takes for a chain of 5,000 calls and a larger one, with the Vega versions that Kibana ships; needs node and tests/vega/install.") { rounds, quick, results };
waterfall.SetAction(parse =>
{
    var report = new Report("Waterfall");
    try
    {
        WaterfallBenchmark.Run(Math.Max(1, parse.GetValue(rounds) ?? (parse.GetValue(quick) ? 1 : 5)), report);
    }
    catch (InvalidOperationException e)
    {
        Console.Error.WriteLine(e.Message);
        return 1;
    }

    return Keep(parse, report, "waterfall");
});

var root = new Command("bench", "LogTrace's benchmarks. Each compares two sides measured in turn in one run; exit code 1 when a bar is missed.") { new HelpOption(), logger, overhead, ship, index, store, chain, accuracy, visible, waterfall };
return await root.Parse(args).InvokeAsync();

int Keep(ParseResult parse, Report report, string name)
{
    // A quick run's figures must not take the place of real ones.
    var folder = parse.GetValue(results)?.FullName ?? (parse.GetValue(quick) ? null : Report.CommittedResults);
    if (folder is not null) report.Save(folder, name);
    return report.AllMet ? 0 : 1;
}

static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);
