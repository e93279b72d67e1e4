using System.CommandLine;
using LogTrace.Dashboards;

return DashboardsCommand.Create().Parse(args).Invoke();
