using System.CommandLine;
using System.CommandLine.Help;

namespace LogTrace.Dashboards;

/// <summary><c>dashboards</c>: builds the two files that Kibana and OpenSearch Dashboards import, or says where they differ from their sources.</summary>
public static class DashboardsCommand
{
    /// <summary>Where each product's file is, from the root of the repository.</summary>
    public static IReadOnlyDictionary<Flavour, string> Files { get; } = new Dictionary<Flavour, string>
    {
        [Flavour.Kibana] = "kibana-objects.ndjson",
        [Flavour.OpenSearch] = "dashboards/osd-objects.ndjson",
    };

    public static Command Create()
    {
        var root = new Option<string>("--root") { Description = "root of the repository", HelpName = "DIR", DefaultValueFactory = _ => "." };
        var check = new Option<bool>("--check") { Description = "write nothing; exit 1 if a file differs from its sources or breaks a rule" };
        var command = new Command("dashboards", "Builds kibana-objects.ndjson and dashboards/osd-objects.ndjson from the sources in dashboards/.") { root, check, new HelpOption() };
        command.SetAction(parsed => Run(parsed.GetValue(root)!, parsed.GetValue(check)));
        return command;
    }

    static int Run(string root, bool onlyCheck)
    {
        try
        {
            var sources = new DashboardSources(Path.Combine(root, "dashboards"));
            var linter = DashboardLinter.OfTemplates(Path.Combine(root, "indexer/LogTrace.Indexer/Store"));
            var isWrong = false;
            foreach (var (flavour, file) in Files)
            {
                var objects = sources.Build(flavour);
                var text = SavedObjectFormat.Ndjson(objects);
                var path = Path.Combine(root, file);
                var problems = linter.Check(text, flavour);
                foreach (var problem in problems) Console.Error.WriteLine($"{file}: {problem}");
                isWrong |= problems.Count > 0;
                if (!onlyCheck) File.WriteAllText(path, text);
                var isCurrent = File.Exists(path) && File.ReadAllText(path) == text;
                isWrong |= !isCurrent;
                Console.WriteLine(isCurrent ? $"{file}: {objects.Count} objects" : $"{file} differs from its sources; run ./logtrace dashboards");
            }

            return isWrong ? 1 : 0;
        }
        catch (Exception wrong) when (wrong is InvalidDataException or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine(wrong.Message);
            return 1;
        }
    }
}
