using System.Data.Common;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace LogTrace;

/// <summary>What records say about a connection's provider, server and database.</summary>
sealed class TraceDbTarget
{
    // Longer values are data rather than parameters.
    const int MaxValueLength = 256;

    readonly bool _isFile;

    public TraceDbTarget(DbConnection connection)
    {
        var provider = ProviderOf(connection.GetType());
        ConnectName = provider + ".connect";
        RequestName = provider + ".request";
        _isFile = provider == "sqlite";
        Host = _isFile ? null : HostOf(connection);
    }

    public string ConnectName { get; }

    public string RequestName { get; }

    /// <summary>Server as host:port; null for a database that is a file.</summary>
    public string? Host { get; }

    /// <summary>The server's name alone.</summary>
    public string? HostName => Host is null || Host.LastIndexOf(':') is not (var end and > 0) ? Host : Host[..end];

    /// <summary>The database that is used now; for a file its name without the folder.</summary>
    public string? DatabaseOf(DbConnection connection)
    {
        var name = _isFile ? Path.GetFileName(connection.DataSource) : connection.Database;
        return string.IsNullOrEmpty(name) ? null : name;
    }

    // By namespace and not by type, as this library references no provider.
    static string ProviderOf(Type connection) => (connection.Namespace ?? "") switch
    {
        "Microsoft.Data.Sqlite" or "System.Data.SQLite" => "sqlite",
        "MySqlConnector" or "MySql.Data.MySqlClient" => "mysql",
        "Npgsql" => "pgsql",
        "Microsoft.Data.SqlClient" or "System.Data.SqlClient" => "sqlserver",
        "Oracle.ManagedDataAccess.Client" => "oracle",
        _ => Named(connection.Name),
    };

    // FooConnection is foo: what comes before .connect has to be one word.
    static string Named(string type)
    {
        var stem = type.EndsWith("Connection", StringComparison.Ordinal) ? type[..^"Connection".Length] : type;
        var word = string.Concat(stem.Where(char.IsAsciiLetterOrDigit)).ToLowerInvariant();
        return word.Length == 0 ? "sql" : word;
    }

    // Providers write tcp://host:port (Npgsql), tcp:host,port (SQL Server) or just the host (MySQL), with the port in the connection string.
    static string? HostOf(DbConnection connection)
    {
        try
        {
            var host = connection.DataSource;
            foreach (var scheme in (ReadOnlySpan<string>)["tcp://", "tcp:"])
                if (host.StartsWith(scheme, StringComparison.OrdinalIgnoreCase)) host = host[scheme.Length..];
            host = host.Replace(',', ':');
            if (host.Length == 0) return null;
            if (host.Contains(':')) return host;
            var settings = new DbConnectionStringBuilder { ConnectionString = connection.ConnectionString };
            return settings.TryGetValue("port", out var port) ? $"{host}:{port}" : host;
        }
        catch (Exception exception) when (exception is ArgumentException or InvalidOperationException or NotSupportedException)
        {
            // A provider that does not say where it connects to works all the same.
            return null;
        }
    }

    /// <summary>The database's own code of an error, null where the exception's type says more.</summary>
    public static string? CodeOf(Exception exception)
    {
        if (exception is not DbException error) return null;
        if (error.SqlState is { Length: > 0 } state) return state;

        // Providers without SQLSTATE number their errors under names of their own, and leave ErrorCode at "some failure" (E_FAIL).
        foreach (var name in (ReadOnlySpan<string>)["SqliteErrorCode", "Number"])
            if (error.GetType().GetProperty(name)?.GetValue(error) is int number) return number.ToString(CultureInfo.InvariantCulture);
        return error.ErrorCode is 0 or unchecked((int)0x80004005) ? null : error.ErrorCode.ToString(CultureInfo.InvariantCulture);
    }

    public static string Bounded(string text, int length) => text.Length <= length ? text : text[..(length - 3)] + "...";

    /// <summary>Parameters as a JSON object, those of several statements as an array of such, of at most <paramref name="maxLength"/> characters.</summary>
    public static string Format(ReadOnlySpan<DbParameterCollection> statements, int maxLength)
    {
        if (statements.Length <= 1) return statements.IsEmpty ? "{}" : Format(statements[0], maxLength);
        var text = new StringBuilder("[");
        for (var index = 0; index < statements.Length; index++)
        {
            var more = $"\"...{statements.Length - index}\"]";
            var room = maxLength - text.Length - more.Length - 2;
            var member = room < 16 ? null : Format(statements[index], room);
            if (member is null) return text.Append(index > 0 ? "," : "").Append(more).ToString();
            text.Append(index > 0 ? "," : "").Append(member);
        }

        return text.Append(']').ToString();
    }

    static string Format(DbParameterCollection parameters, int maxLength)
    {
        if (parameters.Count == 0) return "{}";
        var text = new StringBuilder("{");
        for (var index = 0; index < parameters.Count; index++)
        {
            var parameter = parameters[index];
            var name = string.IsNullOrEmpty(parameter.ParameterName) ? index.ToString(CultureInfo.InvariantCulture) : parameter.ParameterName;
            var member = $"{Quoted(name)}:{ValueOf(parameter.Value)}";
            var more = $"\"...\":{parameters.Count - index}}}";
            if (text.Length + member.Length + 1 + more.Length + 1 > maxLength) return text.Append(index > 0 ? "," : "").Append(more).ToString();
            text.Append(index > 0 ? "," : "").Append(member);
        }

        return text.Append('}').ToString();
    }

    static string ValueOf(object? value) => value switch
    {
        null or DBNull => "null",
        bool flag => flag ? "true" : "false",
        sbyte or byte or short or ushort or int or uint or long or ulong or decimal => Convert.ToString(value, CultureInfo.InvariantCulture)!,
        byte[] bytes => $"\"<{bytes.Length} bytes>\"",
        DateTime time => Quoted(time.ToString("O", CultureInfo.InvariantCulture)),
        DateTimeOffset time => Quoted(time.ToString("O", CultureInfo.InvariantCulture)),
        IFormattable formattable => Quoted(Bounded(formattable.ToString(null, CultureInfo.InvariantCulture), MaxValueLength)),
        _ => Quoted(Bounded(value.ToString() ?? "", MaxValueLength)),
    };

    static string Quoted(string text) => $"\"{JsonEncodedText.Encode(text, System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping)}\"";
}
