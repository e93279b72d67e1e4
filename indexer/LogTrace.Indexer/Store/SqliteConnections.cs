using System.Buffers.Binary;
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

    readonly SqliteConnections _owner;
    readonly SqliteConnection _connection;
    readonly Dictionary<string, DayStatement> _statements = [];

    DayConnection(SqliteConnections owner, string path, bool forWriting, SqliteConnection connection)
    {
        (_owner, Path, ForWriting, _connection) = (owner, path, forWriting, connection);
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
        var connection = new SqliteConnection(new SqliteConnectionStringBuilder
        {
            DataSource = path,
            Mode = SqliteOpenMode.ReadWrite,
            Pooling = false,
            DefaultTimeout = Math.Max(1, (int)options.BusyTimeout.TotalSeconds),
        }.ToString());
        try
        {
            connection.Open();
            var day = new DayConnection(owner, path, forWriting, connection);
            day.Execute(
                $"PRAGMA busy_timeout = {(long)options.BusyTimeout.TotalMilliseconds};" +
                (forWriting ? "PRAGMA synchronous = FULL; PRAGMA cache_size = -16000; PRAGMA journal_size_limit = 67108864;" : "PRAGMA query_only = ON;"));
            return day;
        }
        catch (Exception e)
        {
            // Whatever it was, the handle must not stay open.
            connection.Dispose();
            e.Data[PathKey] = path;
            throw;
        }
    }

    /// <summary>The statement of this text, prepared once, reset and ready to bind.</summary>
    public DayStatement Prepare(string sql)
    {
        if (_statements.TryGetValue(sql, out var known))
        {
            known.Reset();
            return known;
        }

        Check(raw.sqlite3_prepare_v3(_connection.Handle, sql, raw.SQLITE_PREPARE_PERSISTENT, out var handle));
        return _statements[sql] = new DayStatement(this, handle);
    }

    /// <summary>Runs statements that return nothing.</summary>
    public void Execute(string sql)
    {
        using var command = _connection.CreateCommand();
        command.CommandText = sql;
        try
        {
            command.ExecuteNonQuery();
        }
        catch (SqliteException e)
        {
            Broken = true;
            e.Data[PathKey] = Path;
            throw;
        }
    }

    /// <summary>The single number that a query gives; null for NULL or no row.</summary>
    public long? Scalar(string sql)
    {
        var statement = Prepare(sql);
        var value = statement.Step() ? statement.Int64OrNull(0) : null;
        statement.Reset();
        return value;
    }

    /// <summary>Rows that the last statement changed.</summary>
    public int Changes => raw.sqlite3_changes(_connection.Handle);

    /// <summary>The id of the row inserted last.</summary>
    public long LastRow => raw.sqlite3_last_insert_rowid(_connection.Handle);

    /// <summary>Gives the connection up: what it has begun is rolled back when it comes back.</summary>
    public void Break() => Broken = true;

    public void Check(int code)
    {
        if (code is raw.SQLITE_OK or raw.SQLITE_ROW or raw.SQLITE_DONE) return;
        Broken = true;
        try
        {
            SqliteException.ThrowExceptionForRC(code, _connection.Handle);
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
        _connection.Dispose();
    }
}

/// <summary>
/// A prepared statement. Text is bound and read as bytes with its length, since a NUL is a legal character in a log line and the
/// string calls end at it.
/// </summary>
sealed class DayStatement(DayConnection connection, sqlite3_stmt handle)
{
    int _next = 1;

    public void Reset()
    {
        raw.sqlite3_reset(handle);
        _next = 1;
    }

    /// <summary>Binds the next parameter.</summary>
    public DayStatement Bind(long value) => Bound(raw.sqlite3_bind_int64(handle, _next, value));

    public DayStatement Bind(long? value) => value is { } number ? Bind(number) : BindNull();

    public DayStatement Bind(bool value) => Bind(value ? 1L : 0L);

    public DayStatement Bind(string? value) => value switch
    {
        null => BindNull(),
        "" => Bound(raw.sqlite3_bind_text(handle, _next, "")),
        _ => Bound(raw.sqlite3_bind_text(handle, _next, Encoding.UTF8.GetBytes(value).AsSpan())),
    };

    /// <summary>Binds UTF-8 as text.</summary>
    public DayStatement BindText(ReadOnlySpan<byte> utf8) =>
        utf8.IsEmpty ? Bind("") : Bound(raw.sqlite3_bind_text(handle, _next, utf8));

    public DayStatement Bind(ReadOnlySpan<byte> value) =>
        Bound(value.IsEmpty ? raw.sqlite3_bind_zeroblob(handle, _next, 0) : raw.sqlite3_bind_blob(handle, _next, value));

    public DayStatement Bind(UInt128 value)
    {
        Span<byte> bytes = stackalloc byte[16];
        BinaryPrimitives.WriteUInt128BigEndian(bytes, value);
        return Bound(raw.sqlite3_bind_blob(handle, _next, bytes));
    }

    DayStatement BindNull() => Bound(raw.sqlite3_bind_null(handle, _next));

    DayStatement Bound(int code)
    {
        connection.Check(code);
        _next++;
        return this;
    }

    /// <summary>Goes to the next row; false when there is none.</summary>
    public bool Step()
    {
        var code = raw.sqlite3_step(handle);
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
