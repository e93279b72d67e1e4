using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Data.Sqlite;
using SQLitePCL;

namespace LogTrace.Indexer.Store;

/// <summary>Open connections to the day files, lent to one user at a time and kept open between uses, the least recently used closed first. Thread-safe.</summary>
sealed class SqliteConnections(SqliteStoreOptions options) : IDisposable
{
    readonly object _lock = new();
    readonly LinkedList<DayConnection> _idle = new();
    readonly HashSet<string> _closedPaths = [];
    bool _disposed;

    /// <summary>Borrows a connection to an existing file; disposing of the loan gives it back.</summary>
    public DayConnection Borrow(string path, bool forWriting)
    {
        lock (_lock)
        {
            for (var node = _idle.Last; node is not null; node = node.Previous)
            {
                if (node.Value.Path != path || node.Value.ForWriting != forWriting) continue;
                _idle.Remove(node);
                return node.Value;
            }
        }

        return DayConnection.Open(this, path, forWriting, options);
    }

    /// <summary>Closes what is open on a file that is about to be deleted; connections on loan close when they come back.</summary>
    public void Close(string path)
    {
        lock (_lock)
        {
            _closedPaths.Add(path);
            foreach (var connection in _idle.Where(connection => connection.Path == path).ToList())
            {
                _idle.Remove(connection);
                connection.Close();
            }
        }
    }

    /// <summary>Closes what is open on files that are no longer there.</summary>
    public void CloseAllBut(string[] paths)
    {
        lock (_lock)
        {
            foreach (var connection in _idle.Where(connection => Array.BinarySearch(paths, connection.Path, StringComparer.Ordinal) < 0).ToList())
            {
                _idle.Remove(connection);
                connection.Close();
            }
        }
    }

    /// <summary>Takes a connection back. One that failed, or whose file is gone, is closed.</summary>
    public void Return(DayConnection connection)
    {
        lock (_lock)
        {
            if (_disposed || connection.Broken || _closedPaths.Contains(connection.Path))
            {
                connection.Close();
                return;
            }

            _idle.AddLast(connection);
            if (_idle.Count <= options.MaxIdleConnections) return;
            var oldest = _idle.First!.Value;
            _idle.RemoveFirst();
            oldest.Close();
        }
    }

    /// <summary>Says that a deleted file exists anew.</summary>
    public void Reopen(string path)
    {
        lock (_lock) _closedPaths.Remove(path);
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            foreach (var connection in _idle) connection.Close();
            _idle.Clear();
        }
    }
}

/// <summary>A connection to one day file with its prepared statements. Used by one thread at a time; <see cref="Dispose"/> gives it back.</summary>
sealed class DayConnection : IDisposable
{
    /// <summary>Where an exception's data names the file that it is about.</summary>
    public const string PathKey = "path";

    /// <summary>The page cache of a connection that writes, as PRAGMA cache_size takes it: kibibytes if negative.</summary>
    public const int WriterCache = -16_000;

    // Pages in the log before they are copied into the file: 16 MB. The pages of an index are written to over and over, whatever the trace ids are; the more of that one copying covers, the less is written.
    const int PagesPerCheckpoint = 4_000;

    readonly SqliteConnections _owner;
    readonly sqlite3 _database;
    readonly Dictionary<string, DayStatement> _statements = [];

    static DayConnection() => Batteries_V2.Init();

    DayConnection(SqliteConnections owner, string path, bool forWriting, sqlite3 database)
    {
        (_owner, Path, ForWriting, _database) = (owner, path, forWriting, database);
    }

    public string Path { get; }

    public bool ForWriting { get; }

    /// <summary>Set when a statement failed: the connection may be inside a transaction and is not used again.</summary>
    public bool Broken { get; private set; }

    /// <summary>Ids of the paths in <c>sources</c> that this connection has met; it dies with a rolled back transaction, as the connection does.</summary>
    public Dictionary<string, long> SourceIds { get; } = [];

    public static DayConnection Open(SqliteConnections owner, string path, bool forWriting, SqliteStoreOptions options)
    {
        // A reader opens for writing too: it may be the one that has to replay the log which a killed writer left. query_only keeps it from changing data.
        // No locks within SQLite: a connection is lent to one user at a time.
        var code = raw.sqlite3_open_v2(path, out var database, raw.SQLITE_OPEN_READWRITE | raw.SQLITE_OPEN_NOMUTEX, null);
        var day = new DayConnection(owner, path, forWriting, database);
        try
        {
            day.Check(code);
            // References between tables are kept by whoever writes them, and not looked up for every row again.
            day.Execute($"PRAGMA busy_timeout = {(long)options.BusyTimeout.TotalMilliseconds}; PRAGMA foreign_keys = OFF;" + (forWriting
                ? $"PRAGMA synchronous = FULL; PRAGMA cache_size = {WriterCache}; PRAGMA wal_autocheckpoint = {PagesPerCheckpoint}; PRAGMA journal_size_limit = 67108864;"
                : "PRAGMA query_only = ON;"));
            return day;
        }
        catch
        {
            // Whatever it was, the handle must not stay open.
            day.Close();
            throw;
        }
    }

    /// <summary>The statement of this text, prepared once, reset and ready to bind. A loop asks once, before it begins.</summary>
    public DayStatement Prepare(string sql)
    {
        if (_statements.TryGetValue(sql, out var known))
        {
            known.Reset();
            return known;
        }

        Check(raw.sqlite3_prepare_v3(_database, sql, raw.SQLITE_PREPARE_PERSISTENT, out var handle));
        return _statements[sql] = new DayStatement(this, handle);
    }

    /// <summary>Runs statements that return nothing.</summary>
    public void Execute(string sql) => Check(raw.sqlite3_exec(_database, sql));

    /// <summary>The single number that a query gives; null for NULL or no row.</summary>
    public long? Scalar(string sql)
    {
        var statement = Prepare(sql);
        var value = statement.Step() ? statement.Int64OrNull(0) : null;
        statement.Reset();
        return value;
    }

    /// <summary>Writes within one transaction, which is committed at the end. When anything fails it is undone, and the connection is closed once it is given back.</summary>
    /// <param name="committed">What to do and return when the data is safe.</param>
    public TResult InTransaction<TResult>(Action write, Func<TResult> committed)
    {
        Execute("BEGIN IMMEDIATE");
        try
        {
            write();
            Execute("COMMIT");
        }
        catch
        {
            // Whatever it was: the transaction must not stay open, and closing the connection is what rolls it back for certain.
            Break();
            throw;
        }

        return committed();
    }

    /// <summary>Rows that the last statement changed.</summary>
    public int Changes => raw.sqlite3_changes(_database);

    /// <summary>The id of the row inserted last.</summary>
    public long LastRow => raw.sqlite3_last_insert_rowid(_database);

    /// <summary>Gives the connection up: what it has begun is rolled back when it comes back.</summary>
    public void Break() => Broken = true;

    public void Check(int code)
    {
        if (code is raw.SQLITE_OK or raw.SQLITE_ROW or raw.SQLITE_DONE) return;
        Broken = true;
        try
        {
            SqliteException.ThrowExceptionForRC(code, _database);
        }
        catch (SqliteException e)
        {
            e.Data[PathKey] = Path;
            throw;
        }
    }

    public void Dispose()
    {
        foreach (var statement in _statements.Values) statement.Reset();
        _owner.Return(this);
    }

    public void Close()
    {
        foreach (var statement in _statements.Values) statement.Close();
        _statements.Clear();
        _database.Dispose();
    }
}

/// <summary>
/// A prepared statement. Text is bound and read as bytes with its length, since a NUL is a legal character in a log line and the
/// string calls end at it. What is bound is encoded into memory that stays where it is and belongs to the statement: SQLite is told to take it from there, instead of keeping copies.
/// </summary>
sealed unsafe class DayStatement(DayConnection connection, sqlite3_stmt handle)
{
    // Beyond it SQLite keeps a copy of its own for the one statement.
    const int MaxScratch = 64 << 10;

    // The handle keeps the statement; its address is what calls take that are made dozens of times for every record.
    readonly nint _statement = handle.DangerousGetHandle();
    byte[] _scratch = [];
    int _used, _wanted, _next = 1;

    public void Reset()
    {
        _ = Sqlite3.Reset(_statement);
        // Nothing that was bound is needed any more: all parameters are bound anew before every run.
        if (_wanted > _scratch.Length && _scratch.Length < MaxScratch) _scratch = GC.AllocateUninitializedArray<byte>(Math.Clamp(2 * _wanted, 256, MaxScratch), pinned: true);
        (_used, _wanted, _next) = (0, 0, 1);
    }

    /// <summary>Binds the next parameter.</summary>
    public DayStatement Bind(long value) => Bound(Sqlite3.BindInt64(_statement, _next, value));

    public DayStatement Bind(long? value) => value is { } number ? Bind(number) : BindNull();

    public DayStatement Bind(bool value) => Bind(value ? 1L : 0L);

    public DayStatement Bind(string? value) => value is null ? BindNull() : BindText(value.AsSpan());

    /// <summary>Binds text.</summary>
    public DayStatement BindText(ReadOnlySpan<char> text)
    {
        var room = text.Length > MaxScratch ? default : Room(Encoding.UTF8.GetMaxByteCount(text.Length));
        if (!room.IsEmpty) return BindScratch(Encoding.UTF8.GetBytes(text, room), isText: true);
        var bytes = new byte[Encoding.UTF8.GetByteCount(text)];
        Encoding.UTF8.GetBytes(text, bytes);
        return Bind(bytes, isText: true);
    }

    /// <summary>Binds UTF-8 as text.</summary>
    public DayStatement BindText(ReadOnlySpan<byte> utf8) => Bind(utf8, isText: true);

    public DayStatement Bind(ReadOnlySpan<byte> value) => Bind(value, isText: false);

    public DayStatement Bind(UInt128 value)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(bytes, value);
        return Bind(bytes, isText: false);
    }

    public DayStatement BindNull() => Bound(Sqlite3.BindNull(_statement, _next));

    DayStatement Bind(ReadOnlySpan<byte> value, bool isText)
    {
        if (Room(value.Length) is { IsEmpty: false } room)
        {
            value.CopyTo(room);
            return BindScratch(value.Length, isText);
        }

        // No address would be NULL; this one is of the program itself.
        if (value.IsEmpty) value = "\0"u8[..0];
        fixed (byte* start = &MemoryMarshal.GetReference(value))
        {
            return Bound(isText
                ? Sqlite3.BindTextCopy(_statement, _next, start, value.Length, Sqlite3.Transient)
                : Sqlite3.BindBlobCopy(_statement, _next, start, value.Length, Sqlite3.Transient));
        }
    }

    // Empty if there is too little: then there will be more from the next run on.
    Span<byte> Room(int most)
    {
        _wanted = Math.Min(MaxScratch, _wanted + Math.Min(most, MaxScratch) + 1);
        return most < _scratch.Length - _used ? _scratch.AsSpan(_used) : default;
    }

    DayStatement BindScratch(int length, bool isText)
    {
        var start = (byte*)Unsafe.AsPointer(ref _scratch[_used]);
        _used += length;
        return Bound(isText ? Sqlite3.BindText(_statement, _next, start, length, Sqlite3.Static) : Sqlite3.BindBlob(_statement, _next, start, length, Sqlite3.Static));
    }

    DayStatement Bound(int code)
    {
        connection.Check(code);
        _next++;
        return this;
    }

    /// <summary>Goes to the next row; false when there is none.</summary>
    public bool Step()
    {
        var code = Sqlite3.Step(_statement);
        connection.Check(code);
        return code == raw.SQLITE_ROW;
    }

    /// <summary>Runs a statement without rows and gives the number of rows it changed.</summary>
    public int Run()
    {
        Step();
        var changes = connection.Changes;
        Reset();
        return changes;
    }

    public long Int64(int column) => raw.sqlite3_column_int64(handle, column);

    public int Int32(int column) => raw.sqlite3_column_int(handle, column);

    public bool Flag(int column) => Int64(column) != 0;

    public long? Int64OrNull(int column) => IsNull(column) ? null : Int64(column);

    public string Text(int column) => Encoding.UTF8.GetString(raw.sqlite3_column_blob(handle, column));

    public string? TextOrNull(int column) => IsNull(column) ? null : Text(column);

    public byte[] Bytes(int column) => raw.sqlite3_column_blob(handle, column).ToArray();

    public UInt128 Id(int column) => BinaryPrimitives.ReadUInt128BigEndian(raw.sqlite3_column_blob(handle, column));

    bool IsNull(int column) => raw.sqlite3_column_type(handle, column) == raw.SQLITE_NULL;

    public void Close() => handle.Dispose();
}

/// <summary>The calls that are made for every value of every record, without what a safe handle adds to each: it took longer than the calls themselves. https://sqlite.org/c3ref/funclist.html</summary>
static unsafe partial class Sqlite3
{
    const string Library = "e_sqlite3";

    /// <summary>What is bound stays where it is until it is bound anew.</summary>
    public const nint Static = 0;

    /// <summary>What is bound is copied at once.</summary>
    public const nint Transient = -1;

    [LibraryImport(Library, EntryPoint = "sqlite3_step")]
    public static partial int Step(nint statement);

    [LibraryImport(Library, EntryPoint = "sqlite3_reset")]
    public static partial int Reset(nint statement);

    [SuppressGCTransition]
    [LibraryImport(Library, EntryPoint = "sqlite3_bind_int64")]
    public static partial int BindInt64(nint statement, int parameter, long value);

    [SuppressGCTransition]
    [LibraryImport(Library, EntryPoint = "sqlite3_bind_null")]
    public static partial int BindNull(nint statement, int parameter);

    [SuppressGCTransition]
    [LibraryImport(Library, EntryPoint = "sqlite3_bind_text")]
    public static partial int BindText(nint statement, int parameter, byte* text, int bytes, nint lifetime);

    [SuppressGCTransition]
    [LibraryImport(Library, EntryPoint = "sqlite3_bind_blob")]
    public static partial int BindBlob(nint statement, int parameter, byte* value, int bytes, nint lifetime);

    // These may copy megabytes: the garbage collector must not wait for that.
    [LibraryImport(Library, EntryPoint = "sqlite3_bind_text")]
    public static partial int BindTextCopy(nint statement, int parameter, byte* text, int bytes, nint lifetime);

    [LibraryImport(Library, EntryPoint = "sqlite3_bind_blob")]
    public static partial int BindBlobCopy(nint statement, int parameter, byte* value, int bytes, nint lifetime);
}
