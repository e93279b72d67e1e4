using System.Diagnostics;
using System.Globalization;
using System.Text;
using LogTrace.Benchmarks.Shipper;
using LogTrace.Indexer.Store;

namespace LogTrace.Benchmarks.Indexer;

/// <param name="Compared">Records that both sides of the comparison take.</param>
/// <param name="Rounds">Measured rounds of each side; the median counts.</param>
/// <param name="Sizes">Records at which searches are timed.</param>
/// <param name="LookUps">Searches of each kind.</param>
sealed record StoreEffort(int Compared, int Rounds, IReadOnlyList<long> Sizes, int LookUps)
{
    public static readonly StoreEffort Full = new(1_000_000, 3, [100_000, 1_000_000, 10_000_000], 2_000);
    public static readonly StoreEffort Quick = new(100_000, 1, [100_000], 200);
}

/// <summary>
/// The embedded store: how fast <c>./logtrace run</c> takes log files with their chains, against the sqlite3 program importing the same rows into the same schema; and how long
/// searches take as it grows.
/// </summary>
sealed class StoreBenchmark : IDisposable
{
    const int RecordsPerTrace = 8, Days = 7;
    static readonly string[] Users = [.. Enumerable.Range(0, 5_000).Select(i => (9_000 + i).ToString(CultureInfo.InvariantCulture))];
    static readonly string[] Words = ["cart", "refused", "accepted", "bank", "voucher", "address", "stock", "reserved", "timeout", "retry", "invoice", "delivery"];

    // In the order in which they refer to each other. What is left out has a row or two a file.
    static readonly string[] Tables = ["records", "traces", "chains", "chain_services", "calls"];

    readonly string _folder = Directory.CreateTempSubdirectory("logtrace-bench-").FullName;
    int _runs;

    public static async Task RunAsync(StoreEffort effort, Report report)
    {
        using var benchmark = new StoreBenchmark();
        if (effort.Rounds > 0) benchmark.Compare(effort, report);
        await benchmark.GrowAsync(effort, report).ConfigureAwait(false);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // ---- what it takes

    void Compare(StoreEffort effort, Report report)
    {
        var log = WriteLog(0, effort.Compared / RecordsPerTrace);
        List<Cost> ours = [], theirs = [];
        long rows = 0, words = 0;
        for (var round = 0; round < effort.Rounds; round++)
        {
            var data = Path.Combine(_folder, $"data{++_runs}");
            ours.Add(Take(log, data));
            Say("./logtrace run", effort.Compared, ours[^1]);
            var (script, imported) = Export(data, out rows, out words);
            theirs.Add(Sqlite(script));
            Say("sqlite3 .import", effort.Compared, theirs[^1]);
            Check(data, imported);
            Directory.Delete(data, recursive: true);
            Directory.Delete(imported, recursive: true);
        }

        File.Delete(log);
        double PerSecond(List<Cost> of) => Round.Median([.. of.Select(cost => effort.Compared / cost.WallSeconds)]);
        double PerCpu(List<Cost> of) => Round.Median([.. of.Select(cost => effort.Compared / cost.CpuSeconds)]);
        report.Section("Log files into the embedded store",
            $"{effort.Compared:N0} records of {Days} days, {RecordsPerTrace} to a trace, by ./logtrace run --once: read from the log file, derived, chains built, each batch synced. The other side is handed the finished rows ({rows:N0} of records, chains, calls and the tables beside them) " +
            $"and {words:N0} texts as CSV, and imports them into the same files, schema, indexes and full-text table with the same cache, each table in one transaction. {effort.Rounds} rounds in turn, medians; start and end of both programs included.",
            [
                Comparison.AtLeast("records stored", "1/s", PerSecond(ours), "sqlite3 .import", PerSecond(theirs), 0.5),
                Comparison.AtLeast("records stored", "1/CPU-s", PerCpu(ours), "sqlite3 .import", PerCpu(theirs), 0) with { Bar = "", IsMet = null },
                Comparison.Alone("peak resident memory", "MB", ours.Max(cost => cost.PeakMegabytes)),
            ]);
    }

    static void Say(string side, long records, in Cost cost) => Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture,
        $"{side}: {records:N0} records at {records / cost.WallSeconds:N0} a second, {records / cost.CpuSeconds:N0} a CPU-second, {cost.PeakMegabytes:F0} MB"));

    /// <summary>Has the embedded pipeline take a log file.</summary>
    Cost Take(string log, string data)
    {
        var settings = Path.Combine(_folder, "bench.json");
        File.WriteAllText(settings, """{ "Sqlite": { "MaxBytes": 1000000000000 } }""");
        using var run = MeasuredProcess.Start(data + ".out", Path.Combine(AppContext.BaseDirectory, "LogTrace.Indexer"), ["run", log, "--once", "--data", data, "--config", settings]);
        return run.End(TimeSpan.FromHours(2));
    }

    /// <summary>The rows of a store as CSV, and the commands that import them into files of their own.</summary>
    (string Script, string Imported) Export(string data, out long rows, out long words)
    {
        var imported = Directory.CreateDirectory(Path.Combine(_folder, $"imported{_runs}")).FullName;
        var (schema, script) = (Path.Combine(imported, "schema.sql"), Path.Combine(imported, "import.sql"));
        using (var resource = typeof(SqliteTraceStore).Assembly.GetManifestResourceStream("LogTrace.Indexer.Store.schema.sql")!)
        using (var file = File.Create(schema)) resource.CopyTo(file);
        var commands = new StringBuilder();
        (rows, words) = (0, 0);
        foreach (var day in Directory.GetFiles(Path.Combine(data, "store"), "records-*.db").Order(StringComparer.Ordinal))
        {
            var name = Path.GetFileNameWithoutExtension(day);
            string Csv(string table) => Path.Combine(imported, $"{name}.{table}.csv");
            var export = new StringBuilder(".mode csv\n");
            foreach (var table in Tables) export.Append(CultureInfo.InvariantCulture, $".output {Csv(table)}\nSELECT {Columns(day, table)} FROM {table};\n");
            export.Append(CultureInfo.InvariantCulture, $".output {Csv("texts")}\nSELECT json_extract(CAST(line AS TEXT), '$.msg') FROM records WHERE json_extract(CAST(line AS TEXT), '$.msg') IS NOT NULL;\n");
            Ask(day, export.ToString());
            commands.Append(CultureInfo.InvariantCulture, $".open {Path.Combine(imported, name + ".db")}\nPRAGMA journal_mode = WAL;\nPRAGMA synchronous = FULL;\nPRAGMA cache_size = {DayConnection.WriterCache};\n.read {schema}\n");
            foreach (var table in Tables.Append("texts")) commands.Append(CultureInfo.InvariantCulture, $".import --csv {Csv(table)} {table}\n");
            rows += Tables.Sum(table => long.Parse(Ask(day, $"SELECT count(*) FROM {table};"), CultureInfo.InvariantCulture));
            words += File.ReadLines(Csv("texts")).LongCount();
        }

        File.WriteAllText(script, commands.ToString());
        return (script, imported);
    }

    // CSV cannot hold any byte: hashes become as many letters, which are as much work to compare.
    static string Columns(string day, string table) =>
        Ask(day, $"SELECT group_concat(CASE WHEN type = 'BLOB' AND name <> 'line' THEN 'substr(hex(' || name || '), 1, 16)' ELSE name END) FROM pragma_table_info('{table}');");

    /// <summary>What was imported is what was stored.</summary>
    static void Check(string data, string imported)
    {
        foreach (var file in Directory.GetFiles(imported, "*.db"))
        {
            foreach (var table in Tables)
            {
                var count = $"SELECT count(*) FROM {table};";
                var (there, here) = (Ask(file, count), Ask(Path.Combine(data, "store", Path.GetFileName(file)), count));
                if (here != there) throw new InvalidOperationException($"sqlite3 imported {there} of {here} rows of {table} in {Path.GetFileName(file)}.");
            }
        }
    }

    static string Ask(string database, string commands)
    {
        var start = new ProcessStartInfo("sqlite3", [database]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        using var process = Process.Start(start) ?? throw new InvalidOperationException("sqlite3 did not start; on Debian: apt-get install sqlite3");
        process.StandardInput.WriteLine(commands);
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new InvalidOperationException($"sqlite3 {commands} failed: {output}");
        return output.Trim();
    }

    static Cost Sqlite(string script)
    {
        using var run = MeasuredProcess.Start(script + ".out", "sqlite3", ":memory:", $".read {script}");
        return run.End(TimeSpan.FromHours(2));
    }

    // ---- how searches grow

    async Task GrowAsync(StoreEffort effort, Report report)
    {
        var data = Path.Combine(_folder, "grown");
        long traces = 0;
        var searches = new List<(long Records, Dictionary<string, double> Millis)>();
        SqliteSize at = default;
        foreach (var size in effort.Sizes)
        {
            var more = (size / RecordsPerTrace) - traces;
            var log = WriteLog(traces, more);
            Say("./logtrace run", more * RecordsPerTrace, Take(log, data));
            File.Delete(log);
            traces += more;
            await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = Path.Combine(data, "store"), ReadOnly = true });
            await store.OpenAsync(CancellationToken.None).ConfigureAwait(false);
            searches.Add((traces * RecordsPerTrace, await SearchAsync(store, traces, effort.LookUps).ConfigureAwait(false)));
            await Console.Error.WriteLineAsync($"{traces * RecordsPerTrace:N0} records: {string.Join(", ", searches[^1].Millis.Select(it => string.Create(CultureInfo.InvariantCulture, $"{it.Key} {it.Value:F2} ms")))}").ConfigureAwait(false);
            at = store.Size();
        }

        var largest = searches[^1];
        report.Section("Searching the embedded store",
            $"{largest.Records:N0} records of {RecordsPerTrace} a trace in {Days} day files, {effort.LookUps:N0} look-ups by id and {Few(effort.LookUps):N0} searches of each other kind; milliseconds, 99th percentile.",
            [
                Comparison.NoMoreThan("chain by id", "ms", largest.Millis["chain by id"], 10),
                Comparison.NoMoreThan("service and error", "ms", largest.Millis["service and error"], 200),
                Comparison.NoMoreThan("service and error, a service that hardly fails", "ms", largest.Millis["service and error, a service that hardly fails"], 200),
                .. largest.Millis.Skip(3).Select(it => Comparison.Alone(it.Key, "ms", it.Value)),
                Comparison.Alone("bytes a record", "bytes", at.BytesPerRecord),
            ]);
        report.Table("How searches grow", "99th percentile, milliseconds, by records in the store.",
            ["search", .. searches.Select(it => it.Records.ToString("N0", CultureInfo.InvariantCulture)), "growth"],
            [.. largest.Millis.Select(it => (string[])[it.Key, .. searches.Select(of => Comparison.Text(of.Millis[it.Key])), Comparison.Text(it.Value / searches[0].Millis[it.Key])])]);
    }

    /// <summary>A log file of new traces, as if all were of one week: each day grows with every file.</summary>
    string WriteLog(long from, long count)
    {
        var path = Path.Combine(_folder, $"app{++_runs}.log");
        using var file = new StreamWriter(path);
        var text = new StringBuilder(400);
        for (var day = 0; day < Days; day++)
        {
            var seconds = DateTimeOffset.UtcNow.AddDays(day - Days + 1).ToUnixTimeSeconds() - 3_600;
            for (var trace = from + (count * day / Days); trace < from + (count * (day + 1) / Days); trace++)
                for (var record = 0; record < RecordsPerTrace; record++) file.Write(Line(text, trace, record, seconds + (trace % 3_600)).Append('\n'));
        }

        return path;
    }

    static string TraceId(long trace) => string.Create(CultureInfo.InvariantCulture, $"{(ulong)trace * 0x9E3779B97F4A7C15UL:x16}{trace:x16}");

    static StringBuilder Line(StringBuilder text, long trace, int record, long seconds)
    {
        // Every 50th fails in orders, every 5,000th in stock; the gateway is in all of them.
        var fails = trace % 50 == 0;
        var (name, id, service, action, msg) = record switch
        {
            0 => ("request.info", "1.1", "gateway", $"POST /checkout/{trace % 997}", null),
            1 => ("redis.request", "1.2", "gateway", $"GET cart:{trace}", null),
            2 => ("http.post", "1.3", "gateway", "http://orders/orders", null),
            3 => (fails ? "request.info.error" : "request.info", "1.3.1", "orders", "POST /orders", null),
            4 => ("mysql.request", "1.3.2", "orders", $"insert into orders values ({trace})", null),
            5 => ("http.get", "1.3.3", "orders", $"http://stock/items/{trace % 10_000}", null),
            6 => (trace % 5_000 == 0 ? "request.info.error" : "request.info", "1.3.3.1", "stock", $"GET /items/{trace % 10_000}", null),
            _ => ("log.info", "1.3.3", "orders", "POST /orders", $"order {trace}: {Words[trace % 12]} {Words[trace / 12 % 12]}"),
        };
        text.Clear().Append(CultureInfo.InvariantCulture,
            $"{{\"name\":\"{name}\",\"trace_id\":\"{TraceId(trace)}\",\"rpc_id\":\"{id}\",\"timestamp\":{seconds},\"timestamp_us\":{(seconds * 1_000_000) + (record * 1_000)},\"department\":\"shop\",\"module\":\"shop_{service}_run\",\"server_ip\":\"10.0.0.{1 + (service.Length % 9)}\",\"service\":\"{service}\",\"action\":\"{action}\",\"param\":\"\",\"duration\":0.0{10 + record}");
        if (record == 0) text.Append(CultureInfo.InvariantCulture, $",\"uid\":\"{Users[trace % Users.Length]}\"");
        if (msg is not null) text.Append(CultureInfo.InvariantCulture, $",\"msg\":\"{msg}\"");
        return text.Append('}');
    }

    static int Few(int lookUps) => Math.Max(20, lookUps / 20);

    static async Task<Dictionary<string, double>> SearchAsync(SqliteTraceStore store, long traces, int lookUps)
    {
        var random = new Random(1);
        var few = Few(lookUps);
        long Any() => random.NextInt64(traces);
        async Task<double> FindAsync(int times, Func<TraceQuery> query) => await TimeAsync(times, async () =>
        {
            if ((await store.FindChainsAsync(query(), CancellationToken.None)).Count == 0) throw new InvalidOperationException("nothing was found");
        });
        return new Dictionary<string, double>
        {
            ["chain by id"] = await TimeAsync(lookUps, async () =>
            {
                if (await store.GetChainAsync(TraceId(Any()), CancellationToken.None) is not { RecordCount: RecordsPerTrace }) throw new InvalidOperationException("a chain is missing");
            }),
            ["service and error"] = await FindAsync(few, () => new TraceQuery { Service = "orders", HasErrors = true }),
            ["service and error, a service that hardly fails"] = await FindAsync(few, () => new TraceQuery { Service = "stock", HasErrors = true, ToMicros = DateTimeOffset.UtcNow.AddHours(-random.Next(48)).ToUnixTimeMilliseconds() * 1_000 }),
            ["records of a trace"] = await TimeAsync(lookUps, async () =>
            {
                if ((await store.GetTraceAsync(TraceId(Any()), CancellationToken.None)).Count != RecordsPerTrace) throw new InvalidOperationException("records are missing");
            }),
            ["user"] = await FindAsync(few, () => new TraceQuery { Uid = Users[Any() % Users.Length] }),
            ["words of a message, rare"] = await FindAsync(few, () => new TraceQuery { Text = $"order {Any().ToString(CultureInfo.InvariantCulture)}" }),
            ["words of a message, common"] = await FindAsync(few, () => new TraceQuery { Text = $"{Words[random.Next(12)]}" }),
            ["part of an action"] = await FindAsync(few, () => new TraceQuery { Action = $"/checkout/{random.Next(997)}" }),
        };
    }

    static async Task<double> TimeAsync(int times, Func<Task> work)
    {
        await work();
        var millis = new double[times];
        for (var i = 0; i < times; i++)
        {
            var started = Stopwatch.GetTimestamp();
            await work();
            millis[i] = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        }

        Array.Sort(millis);
        return millis[Math.Min(times - 1, (int)(times * 0.99))];
    }
}
