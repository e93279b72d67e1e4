using System.Globalization;
using LogTrace.Records;
using Serilog.Events;
using Serilog.Parsing;

namespace LogTrace;

/// <summary>
/// A typed record on its way out: an ended span or a metric. It names its fields once, in the order of SCHEMA.md, and writes them either straight as a
/// line or as properties of a LogEvent, so that both say the same.
/// </summary>
readonly struct RecordEntry
{
    readonly TraceLogger _logger;
    readonly TraceSpan? _span;
    readonly TraceContext? _scope;
    readonly KindTexts _kind;
    readonly string _action;
    readonly IReadOnlyList<KeyValuePair<string, object?>>? _extra;
    readonly long _now;

    public RecordEntry(TraceLogger logger, TraceSpan span)
    {
        _logger = logger;
        _span = span;
        _scope = span.Scope;
        _kind = logger.Texts.Kind(span.Name);
        _action = span.Action;
        _extra = span.Extra;
        _now = span.EndTimestamp == 0 ? logger.Clock.Now : span.EndTimestamp;
    }

    public RecordEntry(TraceLogger logger, string name, string action, IReadOnlyList<KeyValuePair<string, object?>> extra, TraceContext? scope)
    {
        _logger = logger;
        _scope = scope;
        _kind = logger.Texts.Kind(name);
        _action = action;
        _extra = extra;
        _now = logger.Clock.Now;
    }

    /// <summary>The scope whose record it is; null outside one.</summary>
    public TraceContext? Scope => _scope;

    /// <summary>Whether it says that something failed.</summary>
    public bool IsError => _span is { IsFailed: true };

    interface IFields
    {
        void Fixed(FixedText text);

        void Ids(TraceContext scope, long number);

        void Text(RecordField field, string? value);

        void Number(RecordField field, long value);

        void Seconds(RecordField field, long micros);

        void Flag(RecordField field, bool value);

        void Span(RecordField field, ulong value);

        void Extra(IReadOnlyList<KeyValuePair<string, object?>> members);
    }

    public static long Micros(DateTimeOffset time) => (time.UtcTicks - DateTimeOffset.UnixEpoch.Ticks) / (TimeSpan.TicksPerMillisecond / 1000);

    public static long Micros(TimeSpan time) => time.Ticks / (TimeSpan.TicksPerMillisecond / 1000);

    /// <summary>Writes the record as one JSON object, without line end.</summary>
    public void WriteTo(LineWriter line)
    {
        line.Begin();
        var fields = new LineFields(line, _logger);
        Visit(ref fields);
        line.End();
    }

    /// <summary>The record as an event for foreign sinks: every field a property with its name on the wire.</summary>
    public LogEvent ToLogEvent()
    {
        var fields = new PropertyFields([], _logger.Mask);
        Visit(ref fields);
        var level = _span is { IsFailed: true } ? LogEventLevel.Error : LogEventLevel.Information;
        return new LogEvent(DateTimeOffset.UnixEpoch.AddMicroseconds(_logger.Clock.Micros(_now)), level, null, TraceLogger.RecordTemplate, fields.Properties);
    }

    void Visit<T>(ref T fields)
        where T : IFields
    {
        var micros = _logger.Clock.Micros(_now);
        var texts = _logger.Texts;
        fields.Fixed(_span is { IsFailed: true } ? _kind.FailedName : _kind.Name);
        if (_scope is not null) fields.Ids(_scope, _span?.Number ?? _scope.LastNumber);
        fields.Number(RecordField.Timestamp, micros / 1_000_000);
        fields.Fixed(_kind.Origin);
        fields.Text(RecordField.Action, _action);
        fields.Text(RecordField.Param, _span?.Param ?? "");
        fields.Fixed(texts.Version);
        if (_span is not null) fields.Seconds(RecordField.Duration, _logger.Clock.Micros(_span.StartTimestamp, _now));
        fields.Text(RecordField.Code, _span?.Code);
        fields.Text(RecordField.Msg, _span?.Msg);
        fields.Text(RecordField.Backtrace, _span?.Backtrace);
        fields.Text(RecordField.Uid, _span?.Uid);
        fields.Fixed(texts.Pid);
        if (_span is not null)
        {
            fields.Text(RecordField.Source, _span.Source);
            fields.Text(RecordField.ClientIp, _span.ClientIp);
            fields.Text(RecordField.UserAgent, _span.UserAgent);
            fields.Text(RecordField.Host, _span.Host);
            fields.Text(RecordField.InstanceName, _span.InstanceName);
            fields.Text(RecordField.Db, _span.Db);
            fields.Text(RecordField.Response, _span.Response);
            if (_span.ResponseLength is { } length and >= 0) fields.Number(RecordField.ResponseLength, length);
            if (_span.DnsDuration is { } dns) fields.Seconds(RecordField.DnsDuration, Micros(dns));
        }

        if (_extra is { Count: > 0 }) fields.Extra(_extra);
        fields.Fixed(texts.Service);
        fields.Number(RecordField.TimestampUs, micros);
        if (_scope is null) return;
        if (_scope.IsDebug) fields.Flag(RecordField.Debug, true);
        if (_scope.Held is not null) fields.Flag(RecordField.Sampled, true);
        TraceSpan execution = _span ?? _scope;
        fields.Span(RecordField.SpanId, execution.SpanNumber);
        if (execution.ParentSpanNumber != 0) fields.Span(RecordField.ParentSpanId, execution.ParentSpanNumber);
    }

    readonly struct LineFields(LineWriter line, TraceLogger logger) : IFields
    {
        public void Fixed(FixedText text) => line.Fixed(text);

        public void Ids(TraceContext scope, long number)
        {
            line.Text(RecordField.TraceId, scope.TraceId, logger.Options.MaxTextLength);
            line.RpcId(scope.Prefix, number);
        }

        // Most fields of most records are empty.
        public void Text(RecordField field, string? value)
        {
            if (value is not null) Filled(field, value);
        }

        void Filled(RecordField field, string value) => line.Text(field, logger.Mask.Field(field, value), logger.Options.MaxTextLength);

        public void Number(RecordField field, long value) => line.Number(field, value);

        public void Seconds(RecordField field, long micros) => line.Seconds(field, micros);

        public void Flag(RecordField field, bool value) => line.Flag(field, value);

        public void Span(RecordField field, ulong value) => line.Span(field, value);

        public void Extra(IReadOnlyList<KeyValuePair<string, object?>> members)
        {
            var extra = ExtraWriter.Begin(line, logger);
            // By index: an enumerator behind the interface would be an object.
            for (var i = 0; i < members.Count; i++) extra.Scalar(members[i].Key, members[i].Value);
            extra.End();
        }
    }

    readonly struct PropertyFields(List<LogEventProperty> properties, TraceMask mask) : IFields
    {
        public List<LogEventProperty> Properties { get; } = properties;

        public void Fixed(FixedText text)
        {
            foreach (var (field, value) in text.Fields) Add(field, value);
        }

        public void Ids(TraceContext scope, long number)
        {
            Add(RecordField.TraceId, scope.TraceId);
            Add(RecordField.RpcId, scope.NumberText(number));
        }

        public void Text(RecordField field, string? value)
        {
            if (mask.Field(field, value) is { } masked) Add(field, masked);
        }

        public void Number(RecordField field, long value) => Add(field, value);

        public void Seconds(RecordField field, long micros) => Add(field, Math.Max(micros, 0) / 1e6);

        public void Flag(RecordField field, bool value) => Add(field, value);

        public void Span(RecordField field, ulong value) => Add(field, value.ToString("x16", CultureInfo.InvariantCulture));

        public void Extra(IReadOnlyList<KeyValuePair<string, object?>> members)
        {
            var extra = new List<LogEventProperty>(members.Count);
            foreach (var (key, value) in members) extra.Add(new(string.IsNullOrWhiteSpace(key) ? "_" : key, new ScalarValue(mask.Member(key, value))));
            Properties.Add(new(RecordFields.WireName(RecordField.Extra), new StructureValue(extra)));
        }

        void Add(RecordField field, object value) => Properties.Add(new(RecordFields.WireName(field), new ScalarValue(value)));
    }
}
