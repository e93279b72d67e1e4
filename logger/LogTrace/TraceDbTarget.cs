using System.Buffers;
using System.Collections.Concurrent;
using System.Data.Common;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace LogTrace;

/// <summary>What records say about a connection's provider, server and database. Thread-safe.</summary>
sealed class TraceDbTarget
{
    // Longer values are data rather than parameters.
    const int MaxValueLength = 256;

    // Of a thread's text for parameters, in characters.
    const int MaxKept = 4096;

    // What JSON escapes, and what is not ASCII: for those there is the encoder.
    static readonly SearchValues<char> s_plain = SearchValues.Create(" !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~");
    static readonly ConcurrentDictionary<Type, Names> s_names = new();

    [ThreadStatic]
    static StringBuilder? s_text;

    // That of the last connection: most services have one database, and a connection to it for each request.
    static TraceDbTarget? s_last;

    readonly Type _type;
    readonly string _settings;
    readonly bool _isFile;
    string? _file;

    sealed record Names(string Provider, string Connect, string Request);

    TraceDbTarget(DbConnection connection, Type type, string settings)
    {
        (_type, _settings) = (type, settings);
        var names = s_names.GetOrAdd(type, static type => ProviderOf(type) is var provider ? new Names(provider, provider + ".connect", provider + ".request") : null!);
        ConnectName = names.Connect;
        RequestName = names.Request;
        _isFile = names.Provider == "sqlite";
        Host = _isFile ? null : HostOf(connection);
        HostName = Host is null || Host.LastIndexOf(':') is not (var end and > 0) ? Host : Host[..end];
    }

    /// <summary>What the connection's type and connection string say.</summary>
    public static TraceDbTarget Of(DbConnection connection)
    {
        var (type, settings) = (connection.GetType(), connection.ConnectionString ?? "");
        var last = Volatile.Read(ref s_last);
        if (last?._type != type || last._settings != settings) Volatile.Write(ref s_last, last = new TraceDbTarget(connection, type, settings));
        return last;
    }

    public string ConnectName { get; }

    public string RequestName { get; }

    /// <summary>Server as host:port; null for a database that is a file.</summary>
    public string? Host { get; }

    /// <summary>The server's name alone.</summary>
    public string? HostName { get; }

    /// <summary>The database that is used now; for a file its name without the folder.</summary>
    public string? DatabaseOf(DbConnection connection)
    {
        // SQLite is asked once: an open connection would ask the database itself each time.
        var name = _isFile ? _file ??= Path.GetFileName(connection.DataSource) ?? "" : connection.Database;
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
        var text = (s_text ??= new StringBuilder(MaxKept)).Append('{');
        try
        {
            for (var index = 0; index < parameters.Count; index++)
            {
                var parameter = parameters[index];
                var before = text.Length;
                if (index > 0) text.Append(',');
                Quote(text, string.IsNullOrEmpty(parameter.ParameterName) ? index.ToString(CultureInfo.InvariantCulture) : parameter.ParameterName);
                AppendValue(text.Append(':'), parameter.Value);
                // Room has to be left for saying that there are more.
                if (text.Length + MoreLength(parameters.Count - index) > maxLength)
                {
                    text.Length = before;
                    return text.Append(index > 0 ? "," : "").Append(CultureInfo.InvariantCulture, $"\"...\":{parameters.Count - index}}}").ToString();
                }
            }

            return text.Append('}').ToString();
        }
        finally
        {
            if (text.Capacity > MaxKept) s_text = null;
            else text.Clear();
        }
    }

    // With the comma before it.
    static int MoreLength(int left) => left.ToString(CultureInfo.InvariantCulture).Length + 8;

    static void AppendValue(StringBuilder text, object? value)
    {
        switch (value)
        {
            case null or DBNull: text.Append("null"); break;
            case bool flag: text.Append(flag ? "true" : "false"); break;
            case int number: AppendNumber(text, number); break;
            case long number: AppendNumber(text, number); break;
            case sbyte or byte or short or ushort or uint or ulong or decimal: text.Append(Convert.ToString(value, CultureInfo.InvariantCulture)); break;
            case byte[] bytes: text.Append(CultureInfo.InvariantCulture, $"\"<{bytes.Length} bytes>\""); break;
            case DateTime time: Quote(text, time.ToString("O", CultureInfo.InvariantCulture)); break;
            case DateTimeOffset time: Quote(text, time.ToString("O", CultureInfo.InvariantCulture)); break;
            case IFormattable formattable: Quote(text, Bounded(formattable.ToString(null, CultureInfo.InvariantCulture), MaxValueLength)); break;
            default: Quote(text, Bounded(value.ToString() ?? "", MaxValueLength)); break;
        }
    }

    static void AppendNumber(StringBuilder text, long number)
    {
        Span<char> digits = stackalloc char[20];
        number.TryFormat(digits, out var length, provider: CultureInfo.InvariantCulture);
        text.Append(digits[..length]);
    }

    static void Quote(StringBuilder text, string value)
    {
        text.Append('"');
        if (value.AsSpan().ContainsAnyExcept(s_plain)) text.Append(JsonEncodedText.Encode(value, System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping).Value);
        else text.Append(value);
        text.Append('"');
    }
}
