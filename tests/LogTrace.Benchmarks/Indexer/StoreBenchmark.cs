using System.Diagnostics;
using System.Globalization;
using System.Text;
using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Transport;

namespace LogTrace.Benchmarks.Indexer;

/// <summary>
/// The embedded store as it grows: how fast it takes lines with their chains, against the sqlite3 program importing the same rows into the same schema, and how long searches take.
/// Lines go through the indexer's own loop, so decoding, derived fields, chains and their calls are in the figure; each batch is synced to disk.
/// </summary>
static class StoreBenchmark
{
    const int RecordsPerTrace = 8, LinesPerBatch = 8_000, Days = 7;
    static readonly string[] Users = [.. Enumerable.Range(0, 5_000).Select(i => (9_000 + i).ToString(CultureInfo.InvariantCulture))];
    static readonly string[] Words = ["cart", "refused", "accepted", "bank", "voucher", "address", "stock", "reserved", "timeout", "retry", "invoice", "delivery"];

    public static async Task RunAsync(long[] sizes, int lookUps, Report report)
    {
        var folder = Directory.CreateTempSubdirectory("logtrace-bench-").FullName;
        try
        {
            await using var store = new SqliteTraceStore(new SqliteStoreOptions { Directory = Path.Combine(folder, "store"), MaxBytes = long.MaxValue });
            await store.OpenAsync(CancellationToken.None);
            long traces = 0;
            var searches = new List<(long Records, Dictionary<string, double> Millis)>();
            foreach (var size in sizes)
            {
                var more = (size / RecordsPerTrace) - traces;
                var (watch, before) = (Stopwatch.StartNew(), Environment.CpuUsage.TotalTime);
                await FillAsync(store, folder, traces, more);
                var rowsPerSecond = more * RecordsPerTrace / watch.Elapsed.TotalSeconds;
                var rowsPerCpu = more * RecordsPerTrace / (Environment.CpuUsage.TotalTime - before).TotalSeconds;
                traces += more;
                await Console.Error.WriteLineAsync(string.Create(CultureInfo.InvariantCulture, $"{traces * RecordsPerTrace:N0} records: the last {more * RecordsPerTrace:N0} at {rowsPerSecond:N0} a second, {rowsPerCpu:N0} a CPU-second")).ConfigureAwait(false);
                if (size == sizes[0]) Import(store, folder, rowsPerSecond, rowsPerCpu, report);
                searches.Add((traces * RecordsPerTrace, await SearchAsync(store, traces, lookUps)));
            }

            var largest = searches[^1];
            var at = store.Size();
            report.Section("Searching the embedded store",
                $"Up to {largest.Records:N0} records of {RecordsPerTrace} a trace in {Days} day files, {lookUps:N0} searches each, in one process with 48 connections; milliseconds, 99th percentile.",
                [
                    Comparison.NoMoreThan("chain by id", "ms", largest.Millis["chain by id"], 10),
                    Comparison.NoMoreThan("service and error", "ms", largest.Millis["service and error"], 200),
                    Comparison.NoMoreThan("service and error, a service that hardly fails", "ms", largest.Millis["service and error, a service that hardly fails"], 200),
                    Comparison.Alone("records of a trace", "ms", largest.Millis["records of a trace"]),
                    Comparison.Alone("user", "ms", largest.Millis["user"]),
                    Comparison.Alone("words of a message, rare", "ms", largest.Millis["words of a message, rare"]),
                    Comparison.Alone("words of a message, common", "ms", largest.Millis["words of a message, common"]),
                    Comparison.Alone("part of an action", "ms", largest.Millis["part of an action"]),
                    Comparison.Alone("bytes a record", "bytes", at.BytesPerRecord),
                ]);
            var first = searches[0];
            report.Section("How searches grow", $"From {first.Records:N0} to {largest.Records:N0} records.",
                largest.Millis.Keys.Select(what => Comparison.AtMost(what, "ms", largest.Millis[what], $"{first.Records:N0} records", first.Millis[what], double.MaxValue) with { Bar = "", IsMet = null }));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    static async Task FillAsync(SqliteTraceStore store, string folder, long from, long count)
    {
        var transport = new ChannelTransport(4);
        using var deadLetter = new DeadLetterFile(Path.Combine(folder, "dead-letter.jsonl"));
        var pipeline = new IndexerPipeline(transport.Reader, store, deadLetter, new IndexerOptions { StaleCheckEvery = TimeSpan.FromHours(1), WatermarkPath = Path.Combine(folder, "watermark") });
        var running = pipeline.RunAsync(CancellationToken.None);
        var writing = new List<Task>();
        var source = new SourceFile("bench", (UInt128)from, "bench.log");
        long offset = 0;
        var text = new StringBuilder(400);
        for (var day = 0; day < Days; day++)
        {
            // Each day grows with every size, as if all were of one week.
            var (first, end) = (from + (count * day / Days), from + (count * (day + 1) / Days));
            var seconds = DateTimeOffset.UtcNow.AddDays(day - Days + 1).ToUnixTimeSeconds() - 3_600;
            for (var trace = first; trace < end;)
            {
                var batch = new RecordBatch();
                for (; trace < end && batch.Count < LinesPerBatch; trace++)
                {
                    for (var record = 0; record < RecordsPerTrace; record++)
                    {
                        var line = Encoding.UTF8.GetBytes(Line(text, trace, record, seconds + (trace % 3_600)));
                        batch.Add(line, source, offset);
                        offset += line.Length + 1;
                    }
                }

                writing.RemoveAll(task => task.IsCompletedSuccessfully);
                if (writing.Count >= 4) await Task.WhenAny(writing);
                writing.Add(transport.Writer.WriteAsync(batch, CancellationToken.None));
            }
        }

        await Task.WhenAll(writing);
        transport.Complete();
        await running;
        if (pipeline.Metrics.Balance is var balance && (balance.Stored != count * RecordsPerTrace || !balance.Balances)) throw new InvalidOperationException($"the store has not taken all: {balance}");
    }

    public static string TraceId(long trace) => string.Create(CultureInfo.InvariantCulture, $"{(ulong)trace * 0x9E3779B97F4A7C15UL:x16}{trace:x16}");

    static string Line(StringBuilder text, long trace, int record, long seconds)
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
        return text.Append('}').ToString();
    }

    static async Task<Dictionary<string, double>> SearchAsync(SqliteTraceStore store, long traces, int lookUps)
    {
        var random = new Random(1);
        var few = Math.Max(20, lookUps / 20);
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
            ["records of a trace"] = await TimeAsync(lookUps, async () =>
            {
                if ((await store.GetTraceAsync(TraceId(Any()), CancellationToken.None)).Count != RecordsPerTrace) throw new InvalidOperationException("records are missing");
            }),
            ["service and error"] = await FindAsync(few, () => new TraceQuery { Service = "orders", HasErrors = true }),
            ["service and error, a service that hardly fails"] = await FindAsync(few, () => new TraceQuery { Service = "stock", HasErrors = true, ToMicros = DateTimeOffset.UtcNow.AddHours(-random.Next(48)).ToUnixTimeMilliseconds() * 1_000 }),
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

    /// <summary>The same rows by sqlite3 itself, into the same tables, indexes and words, as durably; one day's file.</summary>
    static void Import(SqliteTraceStore store, string folder, double ours, double oursPerCpu, Report report)
    {
        var size = store.Size();
        var day = Directory.GetFiles(Path.Combine(folder, "store"), "records-*.db").Order(StringComparer.Ordinal).First();
        var (csv, words, target, schema) = (Path.Combine(folder, "records.csv"), Path.Combine(folder, "texts.csv"), Path.Combine(folder, "imported.db"), Path.Combine(folder, "schema.sql"));
        Sqlite(day, ".mode csv", $".output {csv}", "SELECT * FROM records;", $".output {words}", "SELECT id, json_extract(CAST(line AS TEXT), '$.msg') FROM records WHERE json_extract(CAST(line AS TEXT), '$.msg') IS NOT NULL;");
        using (var resource = typeof(SqliteTraceStore).Assembly.GetManifestResourceStream("LogTrace.Indexer.Store.schema.sql")!)
        using (var file = File.Create(schema)) resource.CopyTo(file);
        Sqlite(target, "PRAGMA journal_mode = WAL;", $".read {schema}");
        var watch = Stopwatch.StartNew();
        Sqlite(target, "PRAGMA synchronous = FULL;", $".import --csv {csv} records", "CREATE TEMP TABLE words (id INTEGER, msg TEXT);", $".import --csv {words} words", "INSERT INTO texts (rowid, msg) SELECT id, msg FROM words;");
        var wall = watch.Elapsed.TotalSeconds;
        var cpu = _childrenCpu;
        var rows = long.Parse(Sqlite(target, "SELECT count(*) FROM records;").Trim(), CultureInfo.InvariantCulture);
        report.Section("Lines into the embedded store",
            $"{size.Records:N0} records in {Days} days through the indexer's loop, chains and calls included, each batch synced; {rows:N0} rows of one day by sqlite3's .import into the same schema, records and words only.",
            [
                Comparison.AtLeast("stored", "rows/s", ours, "sqlite3 .import", rows / wall, 0.5),
                Comparison.AtLeast("stored", "rows/CPU-s", oursPerCpu, "sqlite3 .import", rows / cpu, 0) with { Bar = "", IsMet = null },
            ]);
    }

    // Of the last one.
    static double _childrenCpu;

    static string Sqlite(string database, params string[] commands)
    {
        var start = new ProcessStartInfo("sh", ["-c", "sqlite3 \"$0\" && times", database]) { RedirectStandardInput = true, RedirectStandardOutput = true };
        using var process = Process.Start(start) ?? throw new InvalidOperationException("sqlite3 did not start; on Debian: apt-get install sqlite3");
        foreach (var command in commands) process.StandardInput.WriteLine(command);
        process.StandardInput.Close();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0) throw new InvalidOperationException($"sqlite3 {string.Join(' ', commands)} failed: {output}");

        // The shell's own times, then its children's: "0m1.203s 0m0.100s".
        var lines = output.TrimEnd().Split('\n');
        _childrenCpu = lines[^1].Split(' ').Sum(time => time.Split('m') is [var minutes, var seconds] ? (int.Parse(minutes, CultureInfo.InvariantCulture) * 60) + double.Parse(seconds.TrimEnd('s'), CultureInfo.InvariantCulture) : 0);
        return string.Join('\n', lines[..^2]);
    }
}
