using System.CommandLine;
using System.CommandLine.Help;
using LogTrace.Indexer.Chains;
using LogTrace.Indexer.Commands;

// Named as it is called, for the usage lines of --help.
var root = new Command("./logtrace", "LogTrace: call chains out of the log lines that services write anyway.")
{
    new HelpOption(), DemoCommand.Create(), RunCommand.Create(), IndexCommand.Create(), ViewCommand.Create(), ChainCommand.Create(), FindCommand.Create(), RebuildCommand.Create(), SetupCommand.Create(), DoctorCommand.Create(),
};
var parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    foreach (var error in parsed.Errors) Console.Error.WriteLine(error.Message);
    Console.Error.WriteLine($"See: ./logtrace {(parsed.CommandResult.Command == root ? "" : parsed.CommandResult.Command.Name + " ")}--help");
    return 2;
}

// A stop drains what is under way; how long that may take is the options' business (StopLimit), not the parser's.
return await parsed.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = TimeSpan.FromMinutes(11) });
