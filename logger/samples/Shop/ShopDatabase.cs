using System.Data.Common;
using System.Globalization;
using LogTrace;
using Microsoft.Data.Sqlite;

namespace Shop;

/// <summary>The SQLite file of one service. Connections that requests use write trace records; creating the file does not.</summary>
public sealed class ShopDatabase
{
    readonly string _service;
    readonly string _connectionString;

    public ShopDatabase(string service, string directory)
    {
        _service = service;
        _connectionString = new SqliteConnectionStringBuilder { DataSource = Path.Combine(directory, service + ".db") }.ToString();
        Directory.CreateDirectory(directory);
    }

    /// <summary>Creates tables and rows if they are missing; <paramref name="fill"/> runs in a transaction, on a new file only.</summary>
    public void Create(string tables, Action<SqliteConnection> fill)
    {
        using var connection = new SqliteConnection(_connectionString);
        connection.Open();

        // Readers go on while somebody writes, and a commit does not wait for the disk: the shop may lose its last orders in a
        // power cut, its traces are what counts here.
        Execute(connection, "pragma journal_mode = wal");
        using var transaction = connection.BeginTransaction();
        using (var version = new SqliteCommand("pragma user_version", connection, transaction))
        {
            if (Convert.ToInt64(version.ExecuteScalar(), CultureInfo.InvariantCulture) == 1) return;
        }

        Execute(connection, tables);
        fill(connection);
        Execute(connection, "pragma user_version = 1");
        transaction.Commit();
    }

    /// <summary>An open connection whose commands write records. The caller disposes of it.</summary>
    public async Task<DbConnection> OpenAsync(CancellationToken cancellationToken)
    {
        var connection = new TraceDbConnection(new SqliteConnection(_connectionString), _service);
        try
        {
            await connection.OpenAsync(cancellationToken);
            return connection;
        }
        catch
        {
            // Whatever went wrong, nobody else will ever hold this connection.
            await connection.DisposeAsync();
            throw;
        }
    }

    /// <summary>Gives back the file handles that the provider's pool keeps for this file.</summary>
    public void Close()
    {
        using var connection = new SqliteConnection(_connectionString);
        SqliteConnection.ClearPool(connection);
    }

    internal static void Execute(SqliteConnection connection, string sql, params ReadOnlySpan<(string Name, object Value)> parameters)
    {
        using var command = connection.CreateCommand();
        command.CommandText = sql;
        foreach (var (name, value) in parameters) command.Parameters.AddWithValue(name, value);
        command.ExecuteNonQuery();
    }
}

static class DbConnectionExtensions
{
    /// <summary>A command with its parameters. The caller disposes of it.</summary>
    public static DbCommand Command(this DbConnection connection, string sql, params ReadOnlySpan<(string Name, object Value)> parameters)
    {
        var command = connection.CreateCommand();
        command.CommandText = sql;
        foreach (var (name, value) in parameters)
        {
            var parameter = command.CreateParameter();
            parameter.ParameterName = name;
            parameter.Value = value;
            command.Parameters.Add(parameter);
        }

        return command;
    }

    public static DbCommand Within(this DbCommand command, DbTransaction transaction)
    {
        command.Transaction = transaction;
        return command;
    }

    /// <summary>All rows of a query.</summary>
    public static async Task<List<T>> QueryAsync<T>(this DbCommand command, Func<DbDataReader, T> read, CancellationToken cancellationToken)
    {
        await using var reader = await command.ExecuteReaderAsync(cancellationToken);
        var rows = new List<T>();
        while (await reader.ReadAsync(cancellationToken)) rows.Add(read(reader));
        return rows;
    }
}
