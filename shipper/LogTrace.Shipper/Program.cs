using System.CommandLine;
using System.CommandLine.Help;
using LogTrace.Shipper;

var root = new Command("./logtrace", "LogTrace's shipper: log files to Kafka.") { new HelpOption(), ShipCommand.AddTo(new Command("ship")) };
var parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    foreach (var error in parsed.Errors) Console.Error.WriteLine(error.Message);
    Console.Error.WriteLine("See: ./logtrace ship --help");
    return 2;
}

// The command handles signals itself: the library would end the process after two seconds, acknowledged or not.
return await parsed.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });
