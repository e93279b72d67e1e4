using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.RegularExpressions;
using LogTrace.EndToEnd.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>
/// rsyslog, as the one indexer from Kafka to Elasticsearch that Debian has, with the settings that lose least: ids of the lines' own so that a repeated one meets itself, what the store does not take
/// is tried again, and what it refuses goes to a file.
/// </summary>
sealed partial class RsyslogIndexer(FaultCase of, string url, string index)
{
    /// <summary>Of the name of the index that it is given.</summary>
    public const string IndexEnding = "-rsyslog";

    static readonly TimeSpan Deadline = TimeSpan.FromMinutes(4), AtRest = TimeSpan.FromSeconds(30);
    static readonly HttpClient Http = new() { Timeout = TimeSpan.FromMinutes(1) };

    public ProgramProcess Start(int instance, string server, TimeSpan session)
    {
        var work = of.Folder[$"rsyslog{instance}"];
        var address = new Uri(server);
        Directory.CreateDirectory(work);
        File.WriteAllText(Path.Combine(work, "rsyslog.conf"), $$"""
            global(workDirectory="{{work}}" maxMessageSize="1m")
            module(load="imkafka")
            module(load="omelasticsearch")
            module(load="mmjsonparse")
            template(name="whole" type="string" string="%$!%")
            template(name="line" type="string" string="%$!%\n")
            template(name="docid" type="string" string="%$.docid%")
            ruleset(name="refused") {
              action(type="omfile" file="{{work}}/refused.json" template="line")
            }
            ruleset(name="store") {
              if strlen($.omes!status) > 0 then {
                if ($.omes!status == 200) or ($.omes!status == 201) or ($.omes!status == 409) then stop
                if ($.omes!writeoperation == "unknown") or (strlen($.omes!error!type) == 0) or ($.omes!status == 400) or ($.omes!status < 200) then {
                  call refused
                  stop
                }
              }
              set $.docid = $!trace_id & "-" & $!param;
              action(type="omelasticsearch" server="{{address.Host}}" serverport="{{address.Port}}" template="whole" searchIndex="{{index}}" searchType=""
                     bulkmode="on" maxbytes="8m" bulkid="docid" dynbulkid="on" writeoperation="create" retryfailures="on" retryruleset="store"
                     action.resumeRetryCount="-1" action.resumeInterval="1" errorfile="{{work}}/es-errors.json")
            }
            ruleset(name="index" queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="2000" queue.workerThreads="1") {
              action(type="mmjsonparse" cookie="")
              call store
            }
            input(type="imkafka" broker=["{{of.Broker.Address.Replace(",", "\",\"")}}"] topic="{{of.Topic}}" consumergroup="{{of.Topic}}" ruleset="index"
                  confParam=["auto.offset.reset=earliest","fetch.min.bytes=65536","fetch.wait.max.ms=100","session.timeout.ms={{session.TotalMilliseconds:F0}}"])

            """);
        return ProgramProcess.Start(Rsyslog.Program, "-n", "-iNONE", "-f", Path.Combine(work, "rsyslog.conf"));
    }

    /// <summary>It never says that it has finished: it has when nothing more is stored for a good while. Then it is stopped, gently, and looked at.</summary>
    public async Task<FaultFigures> FinishAsync(ProgramProcess[] instances, int lines)
    {
        var (count, since) = (-1L, Stopwatch.StartNew());
        for (var watch = Stopwatch.StartNew(); since.Elapsed < AtRest && watch.Elapsed < Deadline; await Task.Delay(500))
        {
            var now = await CountAsync();
            if (now != count) since.Restart();
            count = now;
        }

        foreach (var instance in instances.Where(instance => !instance.HasExited)) await instance.StopAsync(Deadline);
        var stored = await NumbersAsync();
        var distinct = stored.ToHashSet();
        var aside = Directory.EnumerateDirectories(of.Folder.Path, "rsyslog*").SelectMany(work => (string[])["refused.json", "es-errors.json"], Path.Combine).Where(File.Exists)
            .SelectMany(File.ReadLines).SelectMany(line => Number().Matches(line)).Select(match => int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture)).Where(number => !distinct.Contains(number)).ToHashSet();
        var lost = Enumerable.Range(0, lines).Count(number => !distinct.Contains(number) && !aside.Contains(number));
        of.Note($"{aside.Count:N0} in its error files");
        await Http.DeleteAsync($"{url}/{index}");
        return new FaultFigures(lines, lost, stored.Count - distinct.Count, null, aside.Count);
    }

    async Task<long> CountAsync()
    {
        using var refreshed = await Http.PostAsync($"{url}/{index}/_refresh", null);
        using var answer = await Http.GetAsync($"{url}/{index}/_count");
        return answer.IsSuccessStatusCode ? (await answer.Content.ReadFromJsonAsync<JsonElement>()).GetProperty("count").GetInt64() : 0;
    }

    async Task<List<int>> NumbersAsync()
    {
        var numbers = new List<int>();
        if (await CountAsync() == 0) return numbers;
        using var first = await Http.PostAsJsonAsync($"{url}/{index}/_search?scroll=1m", new { size = 5_000, _source = new[] { "param" }, sort = new[] { "_doc" } });
        for (var page = await first.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<JsonElement>(); page.GetProperty("hits").GetProperty("hits") is var hits && hits.GetArrayLength() > 0;)
        {
            numbers.AddRange(hits.EnumerateArray().Select(hit => int.Parse(hit.GetProperty("_source").GetProperty("param").GetString()!, CultureInfo.InvariantCulture)));
            using var next = await Http.PostAsJsonAsync($"{url}/_search/scroll", new { scroll = "1m", scroll_id = page.GetProperty("_scroll_id").GetString() });
            page = await next.EnsureSuccessStatusCode().Content.ReadFromJsonAsync<JsonElement>();
        }

        return numbers;
    }

    // In the whole of a request that went wrong the lines stand within a string.
    [GeneratedRegex(@"\\?""param\\?"": ?\\?""(\d+)\\?""")]
    private static partial Regex Number();
}
