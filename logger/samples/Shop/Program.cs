using System.CommandLine;
using System.Globalization;

namespace Shop;

/// <summary>The commands. Exit codes: 0 done, 1 failed, 2 usage.</summary>
static class Program
{
    static readonly Option<string> Logs = new("--logs") { Description = "Log files: one subfolder a service, DIR/SERVICE/SERVICE-*.log.", HelpName = "DIR", DefaultValueFactory = _ => "logs" };
    static readonly Option<string> Data = new("--data") { Description = "SQLite files, one a service; made when missing.", HelpName = "DIR", DefaultValueFactory = _ => "shop-data" };
    static readonly Option<int> Port = new("--port") { Description = "Port of the gateway; orders, stock and payment take the next three. 0: free ports (only with all).", DefaultValueFactory = _ => 5710 };
    static readonly Option<int> Seed = new("--seed") { Description = "Everything random comes from it.", DefaultValueFactory = _ => 1 };
    static readonly Option<double> Rate = new("--rate") { Description = "Requests a second.", DefaultValueFactory = _ => 20 };
    static readonly Option<int?> Requests = new("--requests") { Description = "Number of requests, then stop.", HelpName = "N" };
    static readonly Option<double?> Duration = new("--duration") { Description = "Seconds of load, then stop.", HelpName = "S" };
    static readonly Option<string?> DebugKey = new("--debug-key") { Description = "Key that lets X-DEBUG through; the load then asks for debug logs now and then.", HelpName = "KEY" };

    static async Task<int> Main(string[] args)
    {
        var root = new RootCommand("The sample shop: four services that write LogTrace records.");
        var all = new Command("all", "All services in one process under load; prints a JSON line of counts at the end.") { Logs, Data, Port, Seed, Rate, Requests, Duration, DebugKey };
        all.SetAction(RunAllAsync);
        root.Add(all);
        foreach (var name in ShopOptions.Services)
        {
            var service = new Command(name, $"The {name} service alone, until it is told to stop.") { Logs, Data, Port, Seed, DebugKey };
            service.SetAction((parsed, cancellationToken) => RunOneAsync(name, parsed, cancellationToken));
            root.Add(service);
        }

        var url = new Argument<string>("URL") { Description = "The gateway, such as http://127.0.0.1:5710" };
        var load = new Command("load", "Only the load, against a gateway that runs already.") { url, Seed, Rate, Requests, Duration, DebugKey };
        load.SetAction((parsed, cancellationToken) => RunLoadAsync(parsed.GetRequiredValue(url), parsed, cancellationToken));
        root.Add(load);

        var result = root.Parse(args);
        if (result.Errors.Count > 0)
        {
            await result.InvokeAsync(new InvocationConfiguration { Output = Console.Error });
            return 2;
        }

        // A stop waits for the requests under way and for the logs to be written out.
        return await result.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromSeconds(60) });
    }

    static async Task<int> RunAllAsync(ParseResult parsed, CancellationToken cancellationToken)
    {
        var (options, load) = (ServiceOptions(parsed), LoadOptionsOf(parsed));
        if (Complain([.. options.Validate(), .. load.Validate()])) return 2;
        return await GuardAsync(async () =>
        {
            await using var shop = await ShopRun.StartAsync(options, cancellationToken);
            await Console.Error.WriteLineAsync($"shop: gateway at {shop.Gateway}, logs in {Path.GetFullPath(options.LogDirectory)}");
            var summary = await shop.StopAsync(await shop.LoadAsync(load, cancellationToken));
            Console.WriteLine(summary);
        });
    }

    static async Task<int> RunOneAsync(string name, ParseResult parsed, CancellationToken cancellationToken)
    {
        var options = ServiceOptions(parsed);
        var problems = options.Validate().ToList();
        if (options.BasePort == 0) problems.Add("--port is 0; services in processes of their own find each other by the port, so give the same --port of 1,024 to 65,532 to each.");
        if (Complain(problems)) return 2;
        return await GuardAsync(async () =>
        {
            await using var service = await ShopService.StartAsync(name, options, other => options.AddressOf(other), cancellationToken);
            await Console.Error.WriteLineAsync($"shop: {name} at {service.Address}");
            await UntilAsync(cancellationToken);
            await service.StopAsync();
            Console.WriteLine(new ShopSummary
            {
                Requests = 0,
                Failed = 0,
                Written = new Dictionary<string, long> { [name] = service.Written },
                Dropped = new Dictionary<string, long> { [name] = service.Dropped },
                JobTraces = service.JobTraces,
            });
        });
    }

    static async Task<int> RunLoadAsync(string url, ParseResult parsed, CancellationToken cancellationToken)
    {
        var load = LoadOptionsOf(parsed);
        var problems = load.Validate().ToList();
        if (!Uri.TryCreate(url, UriKind.Absolute, out var gateway) || gateway.Scheme is not ("http" or "https")) problems.Add($"URL is {url}; it must be an http address such as http://127.0.0.1:5710.");
        if (Complain(problems)) return 2;
        return await GuardAsync(async () =>
        {
            var result = await new LoadGenerator(load).RunAsync(gateway!, cancellationToken);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{{\"requests\":{result.Requests},\"failed\":{result.Failed}}}"));
        });
    }

    static async Task UntilAsync(CancellationToken stop)
    {
        var stopped = new TaskCompletionSource();
        await using var registration = stop.Register(stopped.SetResult);
        await stopped.Task;
    }

    static ShopOptions ServiceOptions(ParseResult parsed) => new()
    {
        LogDirectory = parsed.GetValue(Logs)!,
        DataDirectory = parsed.GetValue(Data)!,
        BasePort = parsed.GetValue(Port),
        Seed = parsed.GetValue(Seed),
        DebugKey = parsed.GetValue(DebugKey),
    };

    static LoadOptions LoadOptionsOf(ParseResult parsed) => new()
    {
        Rate = parsed.GetValue(Rate),
        Requests = parsed.GetValue(Requests),
        Duration = parsed.GetValue(Duration) is { } seconds ? TimeSpan.FromSeconds(seconds) : null,
        Seed = parsed.GetValue(Seed),
        DebugKey = parsed.GetValue(DebugKey),
    };

    static bool Complain(IReadOnlyList<string> problems)
    {
        foreach (var problem in problems) Console.Error.WriteLine("shop: " + problem);
        return problems.Count > 0;
    }

    // What a user can mend gets a sentence; anything else is a bug and keeps its stack.
    static async Task<int> GuardAsync(Func<Task> run)
    {
        try
        {
            await run();
            return 0;
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or System.Data.Common.DbException)
        {
            await Console.Error.WriteLineAsync($"shop: {exception.Message} Choose another --port, --logs or --data.");
            return 1;
        }
        catch (OperationCanceledException)
        {
            await Console.Error.WriteLineAsync("shop: stopped while starting.");
            return 1;
        }
    }
}
