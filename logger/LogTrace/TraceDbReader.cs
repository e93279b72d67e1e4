using System.Collections;
using System.Collections.ObjectModel;
using System.Data;
using System.Data.Common;
using System.Diagnostics.CodeAnalysis;

namespace LogTrace;

/// <summary>
/// Passes a reader on and ends the query's record when the reader is closed: reading the rows is part of the query. A failure while reading, a cancelled read
/// included, makes it an error.
/// </summary>
sealed class TraceDbReader : DbDataReader
{
    readonly DbDataReader _inner;
    readonly TraceCall _call;
    readonly TraceDbConnection _connection;
    long _rows;
    bool _isEnded;

    public TraceDbReader(DbDataReader inner, TraceCall call, TraceDbConnection connection)
    {
        _inner = inner;
        _call = call;
        _connection = connection;
        connection.ReaderOpened(this);
    }

    public static DbDataReader Around(DbDataReader reader, TraceCall call, TraceDbConnection? connection) =>
        !call.IsOpen || connection is null ? reader : new TraceDbReader(reader, call, connection);

    public override bool Read()
    {
        try
        {
            return Count(_inner.Read());
        }
        catch (Exception exception)
        {
            // Only to say so in the record; the caller gets it as it is. So in every method here.
            TraceDbConnection.Fail(_call, exception);
            throw;
        }
    }

    public override Task<bool> ReadAsync(CancellationToken cancellationToken)
    {
        Task<bool> reading;
        try
        {
            reading = _inner.ReadAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(_call, exception);
            throw;
        }

        // Most rows are there already.
        if (!reading.IsCompletedSuccessfully) return CountAsync(reading);
        Count(reading.Result);
        return reading;
    }

    async Task<bool> CountAsync(Task<bool> reading)
    {
        try
        {
            return Count(await reading.ConfigureAwait(false));
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(_call, exception);
            throw;
        }
    }

    public override bool NextResult()
    {
        try
        {
            return _inner.NextResult();
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(_call, exception);
            throw;
        }
    }

    public override async Task<bool> NextResultAsync(CancellationToken cancellationToken)
    {
        try
        {
            return await _inner.NextResultAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(_call, exception);
            throw;
        }
    }

    public override void Close()
    {
        try
        {
            _inner.Close();
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(_call, exception);
            throw;
        }
        finally
        {
            End();
        }
    }

    public override async Task CloseAsync()
    {
        try
        {
            await _inner.CloseAsync().ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            TraceDbConnection.Fail(_call, exception);
            throw;
        }
        finally
        {
            End();
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (!disposing) return;
        Close();
        _inner.Dispose();
    }

    public override async ValueTask DisposeAsync()
    {
        await CloseAsync().ConfigureAwait(false);
        await _inner.DisposeAsync().ConfigureAwait(false);
    }

    /// <summary>Ends the query's record.</summary>
    public void End()
    {
        // Closed twice or more often than not: Close, then Dispose.
        if (_isEnded) return;
        _isEnded = true;
        TraceDbConnection.AddExtra(_call, "rows", _rows);
        _call.Dispose();
        _connection.ReaderClosed(this);
    }

    bool Count(bool isRow)
    {
        if (isRow) _rows++;
        return isRow;
    }

    // From here on nothing but the inner reader.
    public override object this[int ordinal] => _inner[ordinal];
    public override object this[string name] => _inner[name];
    public override int Depth => _inner.Depth;
    public override int FieldCount => _inner.FieldCount;
    public override bool HasRows => _inner.HasRows;
    public override bool IsClosed => _inner.IsClosed;
    public override int RecordsAffected => _inner.RecordsAffected;
    public override int VisibleFieldCount => _inner.VisibleFieldCount;
    public override bool GetBoolean(int ordinal) => _inner.GetBoolean(ordinal);
    public override byte GetByte(int ordinal) => _inner.GetByte(ordinal);
    public override long GetBytes(int ordinal, long dataOffset, byte[]? buffer, int bufferOffset, int length) => _inner.GetBytes(ordinal, dataOffset, buffer, bufferOffset, length);
    public override char GetChar(int ordinal) => _inner.GetChar(ordinal);
    public override long GetChars(int ordinal, long dataOffset, char[]? buffer, int bufferOffset, int length) => _inner.GetChars(ordinal, dataOffset, buffer, bufferOffset, length);
    public override string GetDataTypeName(int ordinal) => _inner.GetDataTypeName(ordinal);
    public override DateTime GetDateTime(int ordinal) => _inner.GetDateTime(ordinal);
    public override decimal GetDecimal(int ordinal) => _inner.GetDecimal(ordinal);
    public override double GetDouble(int ordinal) => _inner.GetDouble(ordinal);
    public override IEnumerator GetEnumerator() => new DbEnumerator(this);

    [return: DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicFields | DynamicallyAccessedMemberTypes.PublicProperties)]
    public override Type GetFieldType(int ordinal) => _inner.GetFieldType(ordinal);
    public override T GetFieldValue<T>(int ordinal) => _inner.GetFieldValue<T>(ordinal);
    public override Task<T> GetFieldValueAsync<T>(int ordinal, CancellationToken cancellationToken) => _inner.GetFieldValueAsync<T>(ordinal, cancellationToken);
    public override float GetFloat(int ordinal) => _inner.GetFloat(ordinal);
    public override Guid GetGuid(int ordinal) => _inner.GetGuid(ordinal);
    public override short GetInt16(int ordinal) => _inner.GetInt16(ordinal);
    public override int GetInt32(int ordinal) => _inner.GetInt32(ordinal);
    public override long GetInt64(int ordinal) => _inner.GetInt64(ordinal);
    public override string GetName(int ordinal) => _inner.GetName(ordinal);
    public override int GetOrdinal(string name) => _inner.GetOrdinal(name);

    [return: DynamicallyAccessedMembers(DynamicallyAccessedMemberTypes.PublicFields | DynamicallyAccessedMemberTypes.PublicProperties)]
    public override Type GetProviderSpecificFieldType(int ordinal) => _inner.GetProviderSpecificFieldType(ordinal);
    public override object GetProviderSpecificValue(int ordinal) => _inner.GetProviderSpecificValue(ordinal);
    public override int GetProviderSpecificValues(object[] values) => _inner.GetProviderSpecificValues(values);
    public override DataTable? GetSchemaTable() => _inner.GetSchemaTable();
    public override Task<DataTable?> GetSchemaTableAsync(CancellationToken cancellationToken = default) => _inner.GetSchemaTableAsync(cancellationToken);
    public override Task<ReadOnlyCollection<DbColumn>> GetColumnSchemaAsync(CancellationToken cancellationToken = default) => _inner.GetColumnSchemaAsync(cancellationToken);
    public override Stream GetStream(int ordinal) => _inner.GetStream(ordinal);
    public override string GetString(int ordinal) => _inner.GetString(ordinal);
    public override TextReader GetTextReader(int ordinal) => _inner.GetTextReader(ordinal);
    public override object GetValue(int ordinal) => _inner.GetValue(ordinal);
    public override int GetValues(object[] values) => _inner.GetValues(values);
    public override bool IsDBNull(int ordinal) => _inner.IsDBNull(ordinal);
    public override Task<bool> IsDBNullAsync(int ordinal, CancellationToken cancellationToken) => _inner.IsDBNullAsync(ordinal, cancellationToken);
}
