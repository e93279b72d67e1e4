using System.Globalization;
using System.Reflection;
using LogTrace.Records;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace LogTrace.Indexer.Store;

/// <summary>The files of the embedded store, one a UTC day and one for times far off: where they are, how they are made, when they are deleted. Reading is thread-safe; one thread at a time writes.</summary>
sealed class SqliteDays(SqliteStoreOptions options, SqliteConnections connections, TimeProvider clock, ILogger logger)
{
    const string Prefix = "records-", Suffix = ".db", NewSuffix = ".new", Overflow = "overflow";
    const int SchemaVersion = 2;
    const long MicrosPerDay = 86_400_000_000;
    static readonly TimeSpan s_retentionEvery = TimeSpan.FromMinutes(10), s_safeFromSizeLimit = TimeSpan.FromMinutes(10);

    long _nextRetention;

    /// <summary>Told of each file that retention has deleted.</summary>
    public Action<string>? Deleted { get; set; }

    public bool IsRetentionDue => clock.GetUtcNow().Ticks >= _nextRetention;

    /// <summary>Makes the folder and holds it against other writers until what is returned is disposed of.</summary>
    /// <exception cref="IOException">Another process holds it.</exception>
    public FileStream Lock()
    {
        Directory.CreateDirectory(options.Directory);
        var path = Path.Combine(options.Directory, "writer.lock");
        try
        {
            return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e)
        {
            throw new IOException($"{options.Directory} is in use: another process writes to this store (it holds {path}). Stop it, or give this one a folder of its own.", e);
        }
    }

    /// <summary>The file for a record or chain of this time, by today's clock: null for the overflow.</summary>
    public long? For(long micros, long now)
    {
        var day = Of(micros);
        var isFarOff = micros < now - (options.OverflowAfterDays * MicrosPerDay) || micros > now + (options.OverflowAheadDays * MicrosPerDay);
        return isFarOff ? null : day;
    }

    /// <summary>Microseconds since the epoch.</summary>
    public long NowMicros() => (clock.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks / 10;

    /// <summary>Days since the epoch.</summary>
    public static long Of(long micros) => (micros / MicrosPerDay) - (micros % MicrosPerDay < 0 ? 1 : 0);

    /// <summary>The file of a day; null for the overflow.</summary>
    public string PathOf(long? day) => Path.Combine(options.Directory, Prefix + (day is { } number ? DayName(number) : Overflow) + Suffix);

    // Days that no calendar has lie beyond every limit; they are asked for only to look whether a file of theirs exists.
    static string DayName(long day) => day is >= -719_162 and <= 2_932_896
        ? DateTime.UnixEpoch.AddDays(day).ToString("yyyy-MM-dd", CultureInfo.InvariantCulture)
        : "day" + day.ToString(CultureInfo.InvariantCulture);

    /// <summary>The files that there are, in the order of their names.</summary>
    public string[] Paths()
    {
        if (!Directory.Exists(options.Directory)) return [];
        var paths = Directory.GetFiles(options.Directory, Prefix + "*" + Suffix);
        Array.Sort(paths, StringComparer.Ordinal);
        // A reader would else keep the space of the days that the writer has deleted.
        if (options.ReadOnly) connections.CloseAllBut(paths);
        return paths;
    }

    /// <summary>Borrows a connection that writes, to a file that is made if it is not there.</summary>
    public DayConnection BorrowForWriting(string path)
    {
        if (!File.Exists(path)) Create(path);
        return connections.Borrow(path, forWriting: true);
    }

    // Made under another name, so that no reader ever meets a file without its tables. The rename is durable with the first
    // commit: SQLite syncs the folder when it makes the log beside the file.
    void Create(string path)
    {
        var temporary = path + NewSuffix;
        File.Delete(temporary);
        using (var connection = new SqliteConnection(new SqliteConnectionStringBuilder { DataSource = temporary, Pooling = false }.ToString()))
        {
            connection.Open();
            using var command = connection.CreateCommand();
            command.CommandText = $"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN; {Schema} PRAGMA user_version = {SchemaVersion}; COMMIT;";
            command.ExecuteNonQuery();
        }

        connections.Reopen(path);
        File.Move(temporary, path);
    }

    /// <summary>Removes what a crash left, and brings files of the format before this one to the present one.</summary>
    /// <exception cref="InvalidDataException">A file has a format that this program does not know.</exception>
    public void BringUpToDate()
    {
        foreach (var left in Directory.GetFiles(options.Directory, Prefix + "*" + NewSuffix + "*")) File.Delete(left);
        foreach (var path in Paths())
        {
            using var day = connections.Borrow(path, forWriting: true);
            var version = day.Scalar("PRAGMA user_version");
            if (version == 1) Upgrade(day);
            else if (version != SchemaVersion)
                throw new InvalidDataException($"{path} has the format {version}; this program reads format {SchemaVersion}. Use the program that wrote it, or move the file away.");
        }
    }

    // Of format 1, the first: it had no words of texts, no rules of keeping, and was searched chain by chain.
    static void Upgrade(DayConnection day) => day.InTransaction(() =>
    {
        day.Execute("""
            ALTER TABLE chains ADD COLUMN undecided INTEGER NOT NULL DEFAULT 0;
            ALTER TABLE chains ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
            DROP INDEX chains_by_start;
            CREATE INDEX chains_by_start ON chains (start_us, dropped, entry_action, duration_us);
            CREATE INDEX chains_to_decide ON chains (undecided) WHERE undecided > 0;
            CREATE INDEX chains_dropped ON chains (trace_key) WHERE dropped = 1;
            CREATE INDEX chains_with_errors ON chains (start_us) WHERE error_count > 0;
            CREATE INDEX chains_by_user ON chains (uid, start_us) WHERE uid IS NOT NULL;
            CREATE TABLE chain_services (service TEXT NOT NULL, began_us INTEGER NOT NULL, chain INTEGER NOT NULL REFERENCES chains (id), failed INTEGER NOT NULL,
                PRIMARY KEY (service, began_us, chain)) WITHOUT ROWID;
            CREATE INDEX chain_services_failed ON chain_services (service, began_us) WHERE failed = 1;
            CREATE VIRTUAL TABLE texts USING fts5 (msg, content = '', tokenize = 'unicode61 remove_diacritics 0');
            INSERT OR IGNORE INTO chain_services (service, began_us, chain, failed) SELECT j.value, c.start_us, c.id, c.error_count > 0 FROM chains c, json_each(c.services) j;
            """);
        var rows = day.Prepare("SELECT id, line FROM records");
        while (rows.Step())
        {
            if (RecordCodec.TryRead(rows.Bytes(1), out var record, out _) && record.Utf8(RecordField.Msg) is { IsEmpty: false } msg)
                day.Prepare("INSERT INTO texts (rowid, msg) VALUES (?1, ?2)").Bind(rows.Int64(0)).BindText(msg).Run();
        }

        rows.Reset();
        day.Execute($"PRAGMA user_version = {SchemaVersion}");
    }, () => true);

    static readonly string Schema = ReadSchema();

    static string ReadSchema()
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream("LogTrace.Indexer.Store.schema.sql")!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    /// <summary>Keeps when a file was last written to: retention counts from there.</summary>
    public void NoteWrite(DayConnection day) =>
        day.Prepare("INSERT INTO meta (key, value) VALUES ('last_write_us', ?1) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)")
            .Bind(NowMicros()).Run();

    /// <summary>Deletes days that are past the limits and says so.</summary>
    public void ApplyRetention()
    {
        var now = clock.GetUtcNow();
        _nextRetention = (now + s_retentionEvery).Ticks;
        var files = Paths().Select(path => (Path: path, Bytes: BytesOf(path), LastWrite: LastWrite(path), End: EndOfDay(path)))
            .OrderBy(file => file.End > file.LastWrite ? file.End : file.LastWrite).ThenBy(file => file.End).ToList();
        var limit = now - TimeSpan.FromDays(options.KeepDays);
        foreach (var file in files.Where(file => file.LastWrite < limit && (file.End ?? DateTimeOffset.MinValue) < limit).ToList())
        {
            Delete(file.Path);
            files.Remove(file);
            IndexerLog.DayExpired(logger, Path.GetFileName(file.Path), options.KeepDays, file.Bytes);
        }

        // What is being written now stays, else a resend or an import would run against its own deletion.
        var total = files.Sum(file => file.Bytes);
        foreach (var file in files.Where(file => file.LastWrite < now - s_safeFromSizeLimit && (file.End is null || file.End < now)))
        {
            if (total <= options.MaxBytes) return;
            Delete(file.Path);
            total -= file.Bytes;
            IndexerLog.DayDeletedForSpace(logger, Path.GetFileName(file.Path), options.MaxBytes, file.Bytes);
        }

        if (total > options.MaxBytes) IndexerLog.StoreOverSize(logger, options.Directory, total, options.MaxBytes);
    }

    // The overflow has no day; its last write alone decides.
    static DateTimeOffset? EndOfDay(string path) =>
        DateTimeOffset.TryParseExact(Path.GetFileNameWithoutExtension(path)[Prefix.Length..], "yyyy-MM-dd", CultureInfo.InvariantCulture,
            DateTimeStyles.AssumeUniversal | DateTimeStyles.AdjustToUniversal, out var day) ? day.AddDays(1) : null;

    DateTimeOffset LastWrite(string path)
    {
        using var day = connections.Borrow(path, forWriting: true);
        return DateTimeOffset.UnixEpoch.AddTicks((day.Scalar("SELECT value FROM meta WHERE key = 'last_write_us'") ?? 0) * 10);
    }

    static long BytesOf(string path) => new[] { path, path + "-wal" }.Select(file => new FileInfo(file)).Where(file => file.Exists).Sum(file => file.Length);

    void Delete(string path)
    {
        connections.Close(path);
        foreach (var file in new[] { path, path + "-wal", path + "-shm" }) File.Delete(file);
        Deleted?.Invoke(path);
    }

    // A day may be deleted between the listing and the opening.
    public void Read(string path, Action<DayConnection> read)
    {
        DayConnection day;
        try
        {
            day = connections.Borrow(path, forWriting: false);
        }
        catch (SqliteException e) when (e.SqliteErrorCode == raw.SQLITE_CANTOPEN && !File.Exists(path))
        {
            return;
        }

        using (day) read(day);
    }

    /// <summary>Files, their bytes with the logs beside them, and records: without reading any of them.</summary>
    public SqliteSize Size()
    {
        long bytes = 0, records = 0;
        var files = 0;
        foreach (var path in Paths())
        {
            try
            {
                Read(path, day => records += day.Scalar("SELECT max(id) FROM records") ?? 0);
                bytes += BytesOf(path);
                files++;
            }
            catch (SqliteException)
            {
                // Locked or damaged: whoever writes or searches says so; a figure is not worth it.
            }
        }

        return new SqliteSize(files, bytes, records);
    }
}
