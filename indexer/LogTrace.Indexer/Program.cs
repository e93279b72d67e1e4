using System.CommandLine;
using LogTrace.Indexer.Chains;

var root = new RootCommand("LogTrace: call chains from log lines.") { RebuildCommand.Create() };
var parsed = root.Parse(args);
var code = await parsed.InvokeAsync();
return parsed.Errors.Count > 0 ? 2 : code;
