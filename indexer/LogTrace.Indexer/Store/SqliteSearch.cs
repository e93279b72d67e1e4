using System.Collections;
using System.Globalization;
using static LogTrace.Indexer.Store.SqliteValues;

namespace LogTrace.Indexer.Store;

/// <summary>Search for chains over all day files. One search each.</summary>
/// <param name="days">Where the files are.</param>
/// <param name="fewTraces">Up to this many traces with the words of a text search are collected first; of commoner words chain by chain is asked whether it has them.</param>
sealed class SqliteSearch(SqliteDays days, int fewTraces)
{
    /// <summary>The newest chains that a query asks for, newest first, at most as many as it says.</summary>
    public IReadOnlyList<ChainDocument> Find(TraceQuery query, CancellationToken cancellationToken)
    {
        var text = new Words(query.Text);
        if (text.IsAsked) Collect(text, cancellationToken);

        // Files by their newest chain, so that the search ends where no file can hold a newer one than those found.
        var files = new List<(string Path, long Newest)>();
        foreach (var path in days.Paths())
            days.Read(path, day => { if (day.Scalar("SELECT max(start_us) FROM chains") is { } newest) files.Add((path, newest)); });

        var found = new List<ChainDocument>();
        foreach (var (path, newest) in files.OrderByDescending(file => file.Newest))
        {
            if (found.Count >= query.Limit && found[query.Limit - 1].StartMicros > newest) break;
            days.Read(path, day => found.AddRange(FindIn(day, query, text, cancellationToken)));
            found = found.OrderByDescending(chain => chain.StartMicros).Take(query.Limit).ToList();
        }

        return found;
    }

    /// <summary>What is asked for in texts, in the words of the full-text table, and the traces that have it if they are few.</summary>
    sealed class Words(string? text)
    {
        /// <summary>Or the whole id of a trace.</summary>
        public string TraceId { get; } = text?.Trim() ?? "";

        public bool IsAsked => TraceId.Length > 0;

        /// <summary>Each word a phrase: one that has more than letters and digits in it is several, side by side.</summary>
        public string Match { get; } = string.Join(' ', (text ?? "").Replace('\0', ' ').Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(word => $"\"{word.Replace("\"", "\"\"", StringComparison.Ordinal)}\""));

        /// <summary>The traces with a record that has all words; null when there are too many to collect.</summary>
        public HashSet<string>? Traces { get; set; }

        /// <summary>By file, for those that were asked for: which of its records have all words.</summary>
        public Dictionary<string, BitArray> Records { get; } = new(StringComparer.Ordinal);
    }

    // The records of a chain may lie in other files than the chain.
    void Collect(Words text, CancellationToken cancellationToken)
    {
        var traces = new HashSet<string>(StringComparer.Ordinal) { text.TraceId };
        foreach (var path in days.Paths())
        {
            cancellationToken.ThrowIfCancellationRequested();
            days.Read(path, day =>
            {
                var rows = day.Prepare("SELECT r.trace_id FROM texts t CROSS JOIN records r ON r.id = t.rowid WHERE t.texts MATCH ?1 AND r.trace_id IS NOT NULL").Bind(text.Match);
                while (traces.Count <= fewTraces && rows.Step()) traces.Add(rows.Text(0));
                rows.Reset();
            });
            if (traces.Count > fewTraces) return;
        }

        text.Traces = traces;
    }

    List<ChainDocument> FindIn(DayConnection day, TraceQuery query, Words text, CancellationToken cancellationToken)
    {
        var conditions = new List<string> { "dropped = 0" };
        var values = new List<Action<DayStatement>>();
        void Where(bool said, string condition, Action<DayStatement> bind)
        {
            if (!said) return;
            values.Add(bind);
            conditions.Add(string.Format(CultureInfo.InvariantCulture, condition, values.Count));
        }

        // Which table leads is said, not left to the planner: it does not know how many traces or services there are.
        var (from, time) = ("chains", "start_us");
        if (text.Traces is { } traces)
        {
            from = "json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value";
            values.Add(s => s.Bind(KeysAsJson([.. traces])));
            Where(!string.IsNullOrEmpty(query.Service), "EXISTS (SELECT 1 FROM json_each(services) s WHERE s.value = ?{0})", s => s.Bind(query.Service));
        }
        else if (!string.IsNullOrEmpty(query.Service))
        {
            (from, time) = ("chain_services s CROSS JOIN chains c ON c.id = s.chain", "began_us");
            Where(true, "s.service = ?{0}", s => s.Bind(query.Service));
            if (query.HasErrors is { } failed) conditions.Add(failed ? "s.failed = 1" : "s.failed = 0");
        }

        if (query.HasErrors is { } hasErrors) conditions.Add(hasErrors ? "error_count > 0" : "error_count <= 0");
        Where(!string.IsNullOrEmpty(query.Action), "instr(lower(entry_action), lower(?{0})) > 0", s => s.Bind(query.Action));
        Where(!string.IsNullOrEmpty(query.Uid), "uid = ?{0}", s => s.Bind(query.Uid));
        Where(query.FromMicros is not null, time + " >= ?{0}", s => s.Bind(query.FromMicros));
        Where(query.ToMicros is not null, time + " < ?{0}", s => s.Bind(query.ToMicros));
        Where(query.MinDurationMicros is not null, "duration_us >= ?{0}", s => s.Bind(query.MinDurationMicros));
        Where(query.Complete is not null, "complete = ?{0}", s => s.Bind(query.Complete == true));

        var rows = day.Prepare($"SELECT {SqliteChainRows.ChainColumns} FROM {from} WHERE {string.Join(" AND ", conditions)} ORDER BY {time} DESC");
        foreach (var bind in values) bind(rows);
        var found = new List<ChainDocument>();
        while (found.Count < query.Limit && rows.Step())
        {
            cancellationToken.ThrowIfCancellationRequested();
            var chain = SqliteChainRows.Read(rows);
            if (!text.IsAsked || chain.TraceId == text.TraceId || (text.Traces is null ? HasWords(chain.TraceId, text) : text.Traces.Contains(chain.TraceId))) found.Add(chain);
        }

        rows.Reset();
        return found;
    }

    bool HasWords(string traceId, Words text)
    {
        var has = false;
        foreach (var path in days.Paths())
        {
            days.Read(path, day =>
            {
                var rows = day.Prepare("SELECT id FROM records WHERE trace_key = ?1 AND trace_id = ?2").Bind(KeyOf(traceId)).Bind(traceId);
                while (!has && rows.Step())
                {
                    // Of all records at once: to look for each of them in what a common word has is to go through half of that again and again.
                    if (!text.Records.TryGetValue(path, out var matching)) text.Records[path] = matching = Matching(day, text.Match);
                    has = rows.Int64(0) < matching.Length && matching[(int)rows.Int64(0)];
                }

                rows.Reset();
            });
            if (has) return true;
        }

        return false;
    }

    static BitArray Matching(DayConnection day, string match)
    {
        var matching = new BitArray((int)Math.Min(int.MaxValue, (day.Scalar("SELECT max(id) FROM records") ?? 0) + 1));
        var rows = day.Prepare("SELECT rowid FROM texts WHERE texts MATCH ?1").Bind(match);
        while (rows.Step())
            if (rows.Int64(0) < matching.Length) matching[(int)rows.Int64(0)] = true;
        rows.Reset();
        return matching;
    }
}
