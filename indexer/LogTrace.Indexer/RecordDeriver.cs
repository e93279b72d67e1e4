using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Json;
using LogTrace.Records;

namespace LogTrace.Indexer;

/// <summary>Adds to a record what its fields imply (DESIGN.md section 5): what both stores index and dashboards aggregate. Total: any record gives a result.</summary>
public static class RecordDeriver
{
    const int MaxTags = 32;
    const int MaxTagBytes = 256;
    const int MaxNameLength = 256;
    const int MaxErrorKeyLength = 256;
    const int MaxActionOnStack = 512;

    /// <summary>Derives everything that the record alone can tell. Its service may still be a guess, see <see cref="ResolveServices"/>.</summary>
    public static IndexedRecord Derive(
        TraceRecord record, UInt128 recordId, UInt128 lineHash, string sourceFile, long offset, long ingestedMicros)
    {
        var kind = record.Kind;
        var certainService = Bounded(record.Service) ?? ServiceInVersion(record.Version);
        long? codeNumber = long.TryParse(record.Code, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number) ? number : null;
        var isError = IsError(record.Name, kind, codeNumber);
        var (tags, template) = ReadExtra(record);
        var actionKey = ActionKeyOf(record, out var route, out var authority);
        var isWork = kind is RecordKind.Server or RecordKind.Client or RecordKind.Internal;
        return new IndexedRecord
        {
            Record = record,
            RecordId = recordId,
            LineHash = lineHash,
            SourceFile = sourceFile,
            SourceOffset = offset,
            IngestedMicros = ingestedMicros,
            Service = certainService ?? ServiceInModule(record.Module),
            ServiceIsCertain = certainService is not null,
            Kind = kind,
            StartMicros = isWork ? record.TimestampMicros - (record.DurationMicros ?? 0) : record.TimestampMicros,
            IsError = isError,
            CodeNumber = codeNumber,
            Route = route,
            ActionKey = actionKey,
            ErrorKey = isError ? ErrorKeyOf(record, template) : null,
            Peer = kind == RecordKind.Client ? Bounded(record.Host) ?? Bounded(authority) ?? Bounded(record.InstanceName) : null,
            Tags = tags,
        };
    }

    /// <summary>
    /// Gives records whose service is a guess the service that the records of the same process (server_ip without port, pid without thread) in
    /// the trace agree on. Where they name several, as services in one test process do, or none, the guess stays. Running it again changes nothing.
    /// </summary>
    public static void ResolveServices(ReadOnlySpan<IndexedRecord> traceRecords)
    {
        if (!HasGuess(traceRecords)) return;
        Dictionary<(string? Ip, string Pid), string?>? services = null;
        foreach (var record in traceRecords)
        {
            if (!record.ServiceIsCertain || ProcessOf(record.Record) is not { } process) continue;
            services ??= [];
            if (services.TryGetValue(process, out var service) && service != record.Service) services[process] = null;
            else services[process] = record.Service;
        }

        if (services is null) return;
        foreach (var record in traceRecords)
        {
            if (record.ServiceIsCertain || ProcessOf(record.Record) is not { } process) continue;
            if (services.GetValueOrDefault(process) is { } service) record.Service = service;
        }
    }

    static bool HasGuess(ReadOnlySpan<IndexedRecord> records)
    {
        foreach (var record in records)
            if (!record.ServiceIsCertain) return true;
        return false;
    }

    static (string? Ip, string Pid)? ProcessOf(TraceRecord record)
    {
        if (string.IsNullOrEmpty(record.Pid)) return null;
        var ip = record.ServerIp;
        if (ip is not null && ip.LastIndexOf(':') is > 0 and var colon && (ip.IndexOf(':') == colon || ip[colon - 1] == ']')) ip = ip[..colon];
        return (ip, record.Pid.Split('-', 2)[0]);
    }

    // language-service-version: "php-baseserver-4.0" names baseserver, "php-4" nobody.
    static string? ServiceInVersion(string? version)
    {
        if (version is null) return null;
        var first = version.IndexOf('-');
        var last = version.LastIndexOf('-');
        if (first < 0 || last - first < 2 || last + 1 >= version.Length || !char.IsAsciiDigit(version[last + 1])) return null;
        return Bounded(version[(first + 1)..last]);
    }

    static string? ServiceInModule(string? module) => module is null ? null : Bounded(module.IndexOf('_') is >= 0 and var end ? module[..end] : module);

    static string? Bounded(string? name) => string.IsNullOrWhiteSpace(name) ? null : ActionKey.Cut(name.Trim(), MaxNameLength);

    /// <summary>
    /// An error is what its name says is one (*.error, log.alarm, log.exception), and a request or HTTP call that was answered with a code of
    /// 500 to 599. A code of 400 to 499 is the client's doing; codes of databases and of one's own mean what their owners say.
    /// </summary>
    static bool IsError(string? name, RecordKind kind, long? code) =>
        RecordNames.IsError(name) ||
        (code is >= 500 and <= 599 && (kind == RecordKind.Server || (kind == RecordKind.Client && name!.StartsWith("http.", StringComparison.Ordinal))));

    // Type of the exception if one is told, else the code; then the template of the message or its first line without values.
    static string ErrorKeyOf(TraceRecord record, string? template)
    {
        var what = ExceptionType(record.Backtrace) ?? record.Code;
        var message = template ?? ActionKey.WithoutValues(FirstLine(record.Msg));
        var key = string.IsNullOrWhiteSpace(what) ? message : string.IsNullOrWhiteSpace(message) ? what : $"{what}: {message}";
        return ActionKey.Cut(string.IsNullOrWhiteSpace(key) ? record.Name ?? "error" : key.Trim(), MaxErrorKeyLength);
    }

    // "System.InvalidOperationException: no stock" in .NET and Java; other languages put the type elsewhere or nowhere.
    static string? ExceptionType(string? backtrace)
    {
        if (backtrace is null) return null;
        var length = 0;
        while (length < backtrace.Length && length < MaxNameLength && (char.IsLetterOrDigit(backtrace[length]) || backtrace[length] is '.' or '_' or '+' or '`' or '$')) length++;
        var type = backtrace[..length];
        return type.EndsWith("Exception", StringComparison.Ordinal) || type.EndsWith("Error", StringComparison.Ordinal) ? type : null;
    }

    static string FirstLine(string? text)
    {
        if (text is null) return "";
        var trimmed = text.AsSpan().TrimStart();
        var end = trimmed.IndexOfAny('\n', '\r');
        return (end < 0 ? trimmed : trimmed[..end]).ToString();
    }

    static string? ActionKeyOf(TraceRecord record, out string? route, out string? authority)
    {
        // No string of the action itself: of most records nobody asks for it.
        var action = record.Utf8(RecordField.Action);
        if (action.Length > MaxActionOnStack) return ActionKey.Of(record.Name, record.Action, out route, out authority);
        Span<char> text = stackalloc char[MaxActionOnStack];
        return ActionKey.Of(record.Name, text[..Encoding.UTF8.GetChars(action, text)], out route, out authority);
    }

    /// <summary>The scalar members of extra as <c>Name=value</c>, bounded; and the message template, where the logger kept one there.</summary>
    static (IReadOnlyList<string> Tags, string? Template) ReadExtra(TraceRecord record)
    {
        var json = record.Utf8(RecordField.Extra);
        if (json.IsEmpty || json[0] != (byte)'{') return ([], null);
        var tags = new List<string>();
        string? template = null;
        try
        {
            var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 256 });
            reader.Read();
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                var name = reader.GetString()!;
                reader.Read();
                var value = reader.TokenType switch
                {
                    JsonTokenType.String => reader.GetString(),
                    JsonTokenType.Number => Encoding.UTF8.GetString(reader.ValueSpan),
                    JsonTokenType.True => "true",
                    JsonTokenType.False => "false",
                    _ => null,
                };
                reader.Skip();
                if (value is null) continue;
                if (name == "@mt") template = value;
                else if (tags.Count < MaxTags) tags.Add(Tag(name, value));
            }
        }
        catch (Exception exception) when (exception is JsonException or InvalidOperationException)
        {
            // A record made in code can hold any text as extra; what was read so far stays.
        }

        return (tags, template);
    }

    static string Tag(string name, string value)
    {
        // Longer than the limit in characters is longer in bytes too: no megabyte is encoded to keep 256 bytes of it.
        var text = string.Concat(ActionKey.Cut(name, MaxTagBytes, ""), "=", ActionKey.Cut(value, MaxTagBytes, ""));
        while (Encoding.UTF8.GetByteCount(text) > MaxTagBytes) text = ActionKey.Cut(text, text.Length - Math.Max(1, (Encoding.UTF8.GetByteCount(text) - MaxTagBytes) / 3), "");
        return text;
    }
}
