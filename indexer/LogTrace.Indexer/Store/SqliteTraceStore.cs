using LogTrace.Shipper;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging.Abstractions;
using SQLitePCL;
using static LogTrace.Indexer.Store.SqliteRecordRows;
using static LogTrace.Indexer.Store.SqliteValues;

namespace LogTrace.Indexer.Store;

/// <summary>
/// The embedded store: a folder with one SQLite file a UTC day (<c>records-2026-11-23.db</c>), and <c>records-overflow.db</c> for
/// times far off. A record lies in the file of its own day, so that a resend meets itself; a chain lies where it was first written.
/// One process writes, held by <c>writer.lock</c>; any number of readers, also in other processes, read meanwhile.
/// </summary>
public sealed class SqliteTraceStore : ITraceStore
{
    const int KeysPerQuery = 5_000, KnownChains = 100_000;

    readonly SqliteStoreOptions _options;
    readonly SqliteConnections _connections;
    readonly SqliteDays _days;
    readonly SemaphoreSlim _writing = new(1, 1);
    readonly SemaphoreSlim _reading = new(8, 8);

    // Used under _writing only.
    readonly HashSet<long> _overflowDays = [];
    readonly Dictionary<string, string> _chainPaths = [];
    FileStream? _writerLock;

    /// <param name="options">Must be valid, see <see cref="SqliteStoreOptions.Validate"/>.</param>
    /// <param name="clock">Default the system's.</param>
    /// <param name="logger">Gets what retention deletes. Default nobody.</param>
    public SqliteTraceStore(SqliteStoreOptions options, TimeProvider? clock = null, ILogger? logger = null)
    {
        _options = options;
        _connections = new(options);
        _days = new(options, _connections, clock ?? TimeProvider.System, logger ?? NullLogger.Instance) { Deleted = Forget };
    }

    /// <summary>Up to this many traces with the words of a text search are collected first; of commoner words chain by chain is asked whether it has them.</summary>
    internal int FewTraces { get; init; } = 5_000;

    public Task OpenAsync(CancellationToken cancellationToken) => _options.ReadOnly
        ? Task.CompletedTask
        : ExclusiveAsync(() =>
        {
            if (_writerLock is not null) return true;
            _writerLock = _days.Lock();
            _days.BringUpToDate();
            if (File.Exists(_days.PathOf(null)))
            {
                using var overflow = _connections.Borrow(_days.PathOf(null), forWriting: true);
                var days = overflow.Prepare("SELECT day FROM overflow_days");
                while (days.Step()) _overflowDays.Add(days.Int64(0));
            }

            _days.ApplyRetention();
            return true;
        }, cancellationToken);

    public Task<WriteResult> WriteAsync(IReadOnlyList<IndexedRecord> records, CancellationToken cancellationToken) =>
        ExclusiveAsync(() => Write(records), cancellationToken);

    WriteResult Write(IReadOnlyList<IndexedRecord> records)
    {
        var stored = 0;
        var refused = new List<RefusedRecord>();
        var byDay = new SortedDictionary<string, List<Incoming>>(StringComparer.Ordinal);
        var now = _days.NowMicros();
        var (list, listDay, key, keyTrace) = ((List<Incoming>?)null, (long?)null, 0L, (string?)null);
        foreach (var record in records)
        {
            var line = LineOf(record.Record);
            if (line.Length > _options.MaxLineBytes)
            {
                refused.Add(new RefusedRecord(record, $"the line has {line.Length:N0} bytes; the store takes at most {_options.MaxLineBytes:N0} (Sqlite:MaxLineBytes)"));
                continue;
            }

            // Neighbours are mostly of one day, often of one trace.
            if (_days.For(record.Record.TimestampMicros, now) is var day && (list is null || day != listDay))
            {
                var path = _days.PathOf(listDay = day);
                if (!byDay.TryGetValue(path, out list)) byDay[path] = list = [];
            }

            if (record.Record.TraceId is var traceId && traceId != keyTrace) key = KeyOf(keyTrace = traceId);
            list.Add(new Incoming(record, line, key, list.Count));
        }

        foreach (var (path, incoming) in byDay) stored += WriteDay(path, incoming);
        if (_days.IsRetentionDue) _days.ApplyRetention();
        return new WriteResult(stored, records.Count - refused.Count - stored, refused);
    }

    int WriteDay(string path, List<Incoming> records)
    {
        var isOverflow = path == _days.PathOf(null);
        using var day = _days.BorrowForWriting(path);
        var stored = 0;
        var overflowDays = new HashSet<long>();

        // In the order of the indexes: the records of a trace, which may lie scattered over the batch, then meet the same page one after the other.
        records.Sort(static (left, right) => left.TraceKey != right.TraceKey ? left.TraceKey.CompareTo(right.TraceKey) : left.Position.CompareTo(right.Position));
        return day.InTransaction(() =>
        {
            var insert = day.Prepare(InsertRecord);
            var insertText = day.Prepare(InsertText);
            var count = day.Prepare(CountTrace);
            var (open, openKey, inTrace, ingested) = ((string?)null, 0L, 0, 0L);
            foreach (var incoming in records)
            {
                var record = incoming.Record;
                var ownDay = SqliteDays.Of(record.Record.TimestampMicros);
                if (IsStoredElsewhere(incoming, isOverflow, ownDay) || !Insert(day, insert, insertText, incoming)) continue;
                stored++;
                if (isOverflow) overflowDays.Add(ownDay);
                if (record.Record.TraceId is not { } traceId) continue;
                if (traceId != open) CountOpen();
                (open, openKey, inTrace, ingested) = (traceId, incoming.TraceKey, inTrace + 1, Math.Max(ingested, record.IngestedMicros));
            }

            CountOpen();

            // Only what is new: the day's row is there once the first record is.
            foreach (var ownDay in overflowDays.Where(ownDay => !_overflowDays.Contains(ownDay)))
                day.Prepare("INSERT OR IGNORE INTO overflow_days (day) VALUES (?1)").Bind(ownDay).Run();
            if (stored > 0) _days.NoteWrite(day);

            void CountOpen()
            {
                if (open is not null) count.Bind(openKey).Bind(open).Bind(inTrace).Bind(ingested).Run();
                (inTrace, ingested) = (0, 0);
            }
        }, () =>
        {
            _overflowDays.UnionWith(overflowDays);
            return stored;
        });
    }

    // Which days are far off changes with the clock, so a record may have been filed under the other rule when it came first.
    bool IsStoredElsewhere(in Incoming incoming, bool isOverflow, long ownDay)
    {
        if (!isOverflow && !_overflowDays.Contains(ownDay)) return false;
        var other = _days.PathOf(isOverflow ? ownDay : null);
        if (!File.Exists(other)) return false;
        using var day = _connections.Borrow(other, forWriting: true);
        var found = day.Prepare("SELECT 1 FROM records WHERE trace_key = ?1 AND record_id = ?2")
            .Bind(incoming.TraceKey).Bind(incoming.Record.RecordId).Step();
        return found;
    }

    public Task WriteChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken) =>
        ExclusiveAsync(() =>
        {
            Locate(chains);
            WriteLocated(chains);
            return true;
        }, cancellationToken);

    public Task<IReadOnlyList<string>> AddChainsAsync(IReadOnlyList<ChainDocument> chains, CancellationToken cancellationToken) =>
        ExclusiveAsync(IReadOnlyList<string> () =>
        {
            Locate(chains);
            var present = chains.Select(chain => chain.TraceId).Where(_chainPaths.ContainsKey).ToList();
            WriteLocated(present.Count == 0 ? chains : chains.Where(chain => !_chainPaths.ContainsKey(chain.TraceId)).ToList());
            return present;
        }, cancellationToken);

    void WriteLocated(IReadOnlyList<ChainDocument> chains)
    {
        foreach (var group in chains.GroupBy(chain => _chainPaths.GetValueOrDefault(chain.TraceId) ?? FirstPathOf(chains, chain.TraceId), StringComparer.Ordinal))
        {
            using var day = _days.BorrowForWriting(group.Key);
            day.InTransaction(() =>
            {
                // In the order of the indexes; the sort keeps the versions of one chain in theirs.
                foreach (var (key, chain) in group.Select(chain => (Key: KeyOf(chain.TraceId), Chain: chain)).OrderBy(chain => chain.Key)) SqliteChainRows.Write(day, key, chain);
                _days.NoteWrite(day);
            }, () =>
            {
                if (_chainPaths.Count > KnownChains) _chainPaths.Clear();
                foreach (var chain in group) _chainPaths[chain.TraceId] = group.Key;
                return true;
            });
        }
    }

    // All versions of a chain in one call go where the first of them belongs.
    string FirstPathOf(IReadOnlyList<ChainDocument> chains, string traceId) =>
        _days.PathOf(_days.For(chains.First(chain => chain.TraceId == traceId).StartMicros, _days.NowMicros()));

    // Looks up in all files where chains are that this run has not met yet.
    void Locate(IReadOnlyList<ChainDocument> chains)
    {
        var traceIds = chains.Select(chain => chain.TraceId).Where(id => !_chainPaths.ContainsKey(id)).Distinct().ToList();
        if (traceIds.Count == 0) return;
        foreach (var path in _days.Paths())
        {
            using var day = _connections.Borrow(path, forWriting: true);
            foreach (var keys in traceIds.Chunk(KeysPerQuery))
            {
                var wanted = keys.ToHashSet();
                var rows = day.Prepare("SELECT c.trace_id FROM json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value").Bind(KeysAsJson(keys));
                while (rows.Step())
                    if (rows.Text(0) is var traceId && wanted.Contains(traceId)) _chainPaths[traceId] = path;
            }
        }
    }

    public Task<IReadOnlyList<IndexedRecord>> GetTraceAsync(string traceId, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlyList<IndexedRecord>>(() =>
        {
            var records = new List<IndexedRecord>();
            foreach (var path in _days.Paths()) _days.Read(path, day => ReadTrace(day, traceId, records));
            return records;
        }, cancellationToken);

    public Task<ChainDocument?> GetChainAsync(string traceId, CancellationToken cancellationToken) =>
        ReadAsync(() =>
        {
            ChainDocument? best = null;
            foreach (var path in _days.Paths())
            {
                _days.Read(path, day =>
                {
                    var rows = day.Prepare($"SELECT {SqliteChainRows.ChainColumns}, rows FROM chains WHERE trace_key = ?1 AND trace_id = ?2").Bind(KeyOf(traceId)).Bind(traceId);
                    if (!rows.Step()) return;
                    var chain = SqliteChainRows.Read(rows) with { RowsUtf8 = rows.Bytes(27), Calls = SqliteChainRows.ReadCalls(day, traceId) };
                    if (best is null || chain.RecordCount > best.RecordCount) best = chain;
                });
            }

            return best;
        }, cancellationToken);

    public Task<IReadOnlyList<ChainDocument>> FindChainsAsync(TraceQuery query, CancellationToken cancellationToken) =>
        ReadAsync(() => new SqliteSearch(_days, FewTraces).Find(query, cancellationToken), cancellationToken);

    public Task<IReadOnlyList<string>> FindUndecidedAsync(long beforeMicros, int limit, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlyList<string>>(() =>
        {
            var found = new List<string>();
            foreach (var path in _days.Paths())
            {
                _days.Read(path, day =>
                {
                    var rows = day.Prepare("SELECT trace_id FROM chains WHERE undecided > 0 AND undecided < ?1 ORDER BY undecided LIMIT ?2").Bind(beforeMicros).Bind(limit - found.Count);
                    while (rows.Step()) found.Add(rows.Text(0));
                });
            }

            return found;
        }, cancellationToken);

    public Task<IReadOnlySet<string>> FindDroppedAsync(IReadOnlyCollection<string> traceIds, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlySet<string>>(() =>
        {
            var wanted = traceIds.ToHashSet(StringComparer.Ordinal);
            var found = new HashSet<string>(StringComparer.Ordinal);
            foreach (var path in _days.Paths())
            {
                foreach (var keys in wanted.Chunk(KeysPerQuery))
                {
                    _days.Read(path, day =>
                    {
                        var rows = day.Prepare("SELECT c.trace_id FROM json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value WHERE c.dropped = 1").Bind(KeysAsJson(keys));
                        while (rows.Step())
                            if (rows.Text(0) is var traceId && wanted.Contains(traceId)) found.Add(traceId);
                    });
                }
            }

            return found;
        }, cancellationToken);

    public async Task<long> DropTracesAsync(IReadOnlyList<string> traceIds, CancellationToken cancellationToken)
    {
        // The markers first: what is left after a crash has one that counts no records, and so the next check finds it.
        var now = _days.NowMicros();
        await WriteChainsAsync([.. traceIds.Select(traceId => new ChainDocument { TraceId = traceId, StartMicros = now, Dropped = true })], cancellationToken);
        return await ExclusiveAsync(() => _days.Paths().Sum(path => RemoveRecords(path, traceIds)), cancellationToken);
    }

    long RemoveRecords(string path, IReadOnlyList<string> traceIds)
    {
        using var day = _connections.Borrow(path, forWriting: true);
        long removed = 0;
        return day.InTransaction(() =>
        {
            removed = SqliteRecordRows.Remove(day, traceIds);
            if (removed > 0) _days.NoteWrite(day);
        }, () => removed);
    }

    public Task<IReadOnlyList<string>> FindStaleTracesAsync(long sinceMicros, CancellationToken cancellationToken) =>
        ReadAsync<IReadOnlyList<string>>(() =>
        {
            // A trace may have records in several files and its chain in another one: who is concerned first, then all files for those.
            var touched = new HashSet<string>();
            foreach (var path in _days.Paths())
            {
                _days.Read(path, day =>
                {
                    var rows = day.Prepare("SELECT trace_id FROM traces WHERE last_ingested_us >= ?1").Bind(sinceMicros);
                    while (rows.Step()) touched.Add(rows.Text(0));
                });
            }

            var records = new Dictionary<string, long>(touched.Count);
            var chains = new Dictionary<string, long>(touched.Count);
            foreach (var path in _days.Paths())
            {
                foreach (var keys in touched.Chunk(KeysPerQuery))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var json = KeysAsJson(keys);
                    _days.Read(path, day =>
                    {
                        var rows = day.Prepare("SELECT t.trace_id, t.record_count FROM json_each(?1) j CROSS JOIN traces t ON t.trace_key = j.value").Bind(json);
                        while (rows.Step()) records[rows.Text(0)] = records.GetValueOrDefault(rows.Text(0)) + rows.Int64(1);
                        rows = day.Prepare("SELECT c.trace_id, c.record_count FROM json_each(?1) j CROSS JOIN chains c ON c.trace_key = j.value").Bind(json);
                        while (rows.Step()) chains[rows.Text(0)] = Math.Max(chains.GetValueOrDefault(rows.Text(0)), rows.Int64(1));
                    });
                }
            }

            return touched.Where(traceId => !chains.TryGetValue(traceId, out var inChain) || inChain != records.GetValueOrDefault(traceId)).ToList();
        }, cancellationToken);

    /// <summary>Files, their bytes with the logs beside them, and records: without reading any of them.</summary>
    public SqliteSize Size() => _days.Size();

    public void WriteMetrics(PrometheusText output)
    {
        var size = Size();
        output.Gauge("sqlite_files", "Day files.", size.Files);
        output.Gauge("sqlite_bytes", "Their bytes, logs beside them included.", size.Bytes);
        output.Gauge("sqlite_records", "Records in them.", size.Records);
        output.Gauge("sqlite_bytes_per_record", "Bytes of the files for each record: line, derived fields, indexes, chains and calls.", size.BytesPerRecord);
    }

    public Task<StoreCounts> CountAsync(CancellationToken cancellationToken) =>
        ReadAsync(() =>
        {
            long records = 0, chains = 0;
            foreach (var path in _days.Paths())
            {
                _days.Read(path, day =>
                {
                    records += day.Scalar("SELECT count(*) FROM records") ?? 0;
                    chains += day.Scalar("SELECT (SELECT count(*) FROM chains) - (SELECT count(*) FROM chains WHERE dropped = 1)") ?? 0;
                });
            }

            return new StoreCounts(records, chains);
        }, cancellationToken);

    public async ValueTask DisposeAsync()
    {
        await _writing.WaitAsync();
        try
        {
            _connections.Dispose();
            _writerLock?.Dispose();
            _writerLock = null;
        }
        finally
        {
            _writing.Release();
        }
    }

    void Forget(string path)
    {
        foreach (var traceId in _chainPaths.Where(chain => chain.Value == path).Select(chain => chain.Key).ToList()) _chainPaths.Remove(traceId);
        if (path == _days.PathOf(null)) _overflowDays.Clear();
    }

    async Task<TResult> ExclusiveAsync<TResult>(Func<TResult> work, CancellationToken cancellationToken)
    {
        if (_options.ReadOnly) throw new InvalidOperationException($"The store in {_options.Directory} was opened for reading only.");
        await _writing.WaitAsync(cancellationToken);
        try
        {
            return await Task.Run(() => Translated(work), CancellationToken.None);
        }
        finally
        {
            _writing.Release();
        }
    }

    async Task<TResult> ReadAsync<TResult>(Func<TResult> work, CancellationToken cancellationToken)
    {
        await _reading.WaitAsync(cancellationToken);
        try
        {
            return await Task.Run(() => Translated(work), cancellationToken);
        }
        finally
        {
            _reading.Release();
        }
    }

    TResult Translated<TResult>(Func<TResult> work)
    {
        try
        {
            return work();
        }
        catch (SqliteException e) when (e.SqliteErrorCode is raw.SQLITE_CORRUPT or raw.SQLITE_NOTADB)
        {
            throw new InvalidDataException($"{FileOf(e)} is damaged ({e.Message}). Move it away with its -wal and -shm files; its records can be read again from the log files.", e);
        }
        catch (SqliteException e) when (e.SqliteErrorCode is raw.SQLITE_BUSY or raw.SQLITE_LOCKED or raw.SQLITE_IOERR or raw.SQLITE_FULL
            or raw.SQLITE_CANTOPEN or raw.SQLITE_NOMEM or raw.SQLITE_READONLY or raw.SQLITE_PROTOCOL or raw.SQLITE_PERM)
        {
            throw new StoreUnavailableException($"{FileOf(e)}: {e.Message}", e);
        }
        catch (SqliteException e) when (_options.ReadOnly && e.SqliteErrorCode == raw.SQLITE_ERROR && e.Message.Contains("no such", StringComparison.Ordinal))
        {
            throw new InvalidDataException($"{FileOf(e)} was written by an older version. Start './logtrace run' or './logtrace index' on this folder once: it brings the files up to date.", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new StoreUnavailableException($"SQLite in {_options.Directory}: {e.Message}", e);
        }
    }

    string FileOf(Exception e) => e.Data[DayConnection.PathKey] as string ?? _options.Directory;
}

/// <summary>How large an embedded store is.</summary>
public readonly record struct SqliteSize(int Files, long Bytes, long Records)
{
    public long BytesPerRecord => Records == 0 ? 0 : Bytes / Records;
}
