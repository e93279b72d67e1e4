namespace LogTrace.Records;

/// <summary>Every field of a record, in the order of SCHEMA.md. <see cref="RecordFields"/> has the names on the wire.</summary>
public enum RecordField
{
#pragma warning disable CS1591 // each member's meaning is the prose beside its wire name in RecordFields.All
    Name, TraceId, RpcId, Timestamp, Department, Module, ServerIp, Action, Param, Version, Duration, Code, Msg, Backtrace,
    Uid, Pid, Source, ClientIp, UserAgent, Host, InstanceName, Db, File, Line, Response, ResponseLength, DnsDuration, Extra,
    Service, TimestampUs, Level, Debug, Sampled, SpanId, ParentSpanId,
#pragma warning restore CS1591
}

/// <summary>The JSON type of a field; it never changes, because stores can aggregate numbers only.</summary>
public enum FieldType
{
    /// <summary>A JSON string.</summary>
    String,

    /// <summary>A whole JSON number.</summary>
    Integer,

    /// <summary>A JSON number with decimals, in seconds.</summary>
    Float,

    /// <summary>true or false.</summary>
    Boolean,

    /// <summary>A JSON object or a string.</summary>
    ObjectOrString,
}

/// <summary>Who must write a field.</summary>
public enum FieldNeed
{
    /// <summary>Every record.</summary>
    Yes,

    /// <summary>Recommended.</summary>
    Should,

    /// <summary>Where it is known.</summary>
    IfKnown,

    /// <summary>On errors.</summary>
    OnErrors,

    /// <summary>Optional.</summary>
    No,

    /// <summary>Written by LogTrace's own logger, optional for others.</summary>
    Extension,
}

/// <summary>One field of the record: its name on the wire, its type, who must write it and what it means.</summary>
public sealed record FieldInfo(RecordField Field, string WireName, FieldType Type, FieldNeed Need, string Meaning);

/// <summary>Every name on the wire, once. The codec, the stores' mappings, SCHEMA.md and the dashboards take them from here.</summary>
public static class RecordFields
{
    /// <summary>Number of fields.</summary>
    internal const int Count = (int)RecordField.ParentSpanId + 1;

    /// <summary>All fields, indexed by <see cref="RecordField"/>.</summary>
    public static IReadOnlyList<FieldInfo> All { get; } =
    [
        new(RecordField.Name, "name", FieldType.String, FieldNeed.Yes, "kind of record, see the table of names"),
        new(RecordField.TraceId, "trace_id", FieldType.String, FieldNeed.Yes, "one id for the whole request: 1 to 128 bytes of visible ASCII"),
        new(RecordField.RpcId, "rpc_id", FieldType.String, FieldNeed.Yes, "place in the chain (server side), such as 1.3.2"),
        new(RecordField.Timestamp, "timestamp", FieldType.Integer, FieldNeed.Yes, "seconds since the epoch at which the record was logged"),
        new(RecordField.Department, "department", FieldType.String, FieldNeed.Yes, "owner, such as shop_backend"),
        new(RecordField.Module, "module", FieldType.String, FieldNeed.Yes, "application_module_function_action"),
        new(RecordField.ServerIp, "server_ip", FieldType.String, FieldNeed.Yes, "this host"),
        new(RecordField.Action, "action", FieldType.String, FieldNeed.Yes, "what was executed: URL, SQL, redis command"),
        new(RecordField.Param, "param", FieldType.String, FieldNeed.Yes, "request parameters"),
        new(RecordField.Version, "version", FieldType.String, FieldNeed.Should, "language-service-version, such as dotnet-orders-1.4: names the service"),
        new(RecordField.Duration, "duration", FieldType.Float, FieldNeed.IfKnown, "seconds taken"),
        new(RecordField.Code, "code", FieldType.String, FieldNeed.OnErrors, "error or status code"),
        new(RecordField.Msg, "msg", FieldType.String, FieldNeed.OnErrors, "message"),
        new(RecordField.Backtrace, "backtrace", FieldType.String, FieldNeed.OnErrors, "stack trace"),
        new(RecordField.Uid, "uid", FieldType.String, FieldNeed.No, "user"),
        new(RecordField.Pid, "pid", FieldType.String, FieldNeed.No, "process, as pid or pid-tid"),
        new(RecordField.Source, "source", FieldType.String, FieldNeed.No, "referrer"),
        new(RecordField.ClientIp, "client_ip", FieldType.String, FieldNeed.No, "client's address"),
        new(RecordField.UserAgent, "user_agent", FieldType.String, FieldNeed.No, "client's program"),
        new(RecordField.Host, "host", FieldType.String, FieldNeed.No, "target as ip:port"),
        new(RecordField.InstanceName, "instance_name", FieldType.String, FieldNeed.No, "name of the connection"),
        new(RecordField.Db, "db", FieldType.String, FieldNeed.No, "database"),
        new(RecordField.File, "file", FieldType.String, FieldNeed.No, "source file"),
        new(RecordField.Line, "line", FieldType.String, FieldNeed.No, "line in the source file"),
        new(RecordField.Response, "response", FieldType.String, FieldNeed.No, "response text"),
        new(RecordField.ResponseLength, "response_length", FieldType.Integer, FieldNeed.No, "bytes of the response"),
        new(RecordField.DnsDuration, "dns_duration", FieldType.Float, FieldNeed.No, "seconds of name resolution"),
        new(RecordField.Extra, "extra", FieldType.ObjectOrString, FieldNeed.No, "anything else"),
        new(RecordField.Service, "service", FieldType.String, FieldNeed.Extension, "name of the service"),
        new(RecordField.TimestampUs, "timestamp_us", FieldType.Integer, FieldNeed.Extension, "microseconds since the epoch, the same moment as timestamp"),
        new(RecordField.Level, "level", FieldType.String, FieldNeed.Extension, "log level"),
        new(RecordField.Debug, "debug", FieldType.Boolean, FieldNeed.Extension, "part of an X-DEBUG request"),
        new(RecordField.Sampled, "sampled", FieldType.Boolean, FieldNeed.Extension, "the trace is sampled: parts were left out on purpose"),
        new(RecordField.SpanId, "span_id", FieldType.String, FieldNeed.Extension, "this execution, 16 hex digits"),
        new(RecordField.ParentSpanId, "parent_span_id", FieldType.String, FieldNeed.Extension, "the execution that caused this one, 16 hex digits"),
    ];

    /// <summary>The name of a field on the wire.</summary>
    public static string WireName(RecordField field) => All[(int)field].WireName;
}
