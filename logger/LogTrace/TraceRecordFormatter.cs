using System.Buffers;
using System.Globalization;
using System.Text;
using LogTrace.Records;
using Serilog.Events;
using Serilog.Formatting;
using Serilog.Parsing;

namespace LogTrace;

/// <summary>
/// Formats a LogEvent as one record on one line, for any Serilog sink: <c>WriteTo.Console(new TraceRecordFormatter(options))</c>. Trace ids come from
/// <c>Enrich.WithTrace()</c>. Thread-safe.
/// </summary>
/// <remarks>
/// The properties <c>code</c>, <c>uid</c>, <c>file</c> and <c>line</c> become the fields of that name, the source context becomes <c>action</c>, all others
/// members of <c>extra</c>.
/// </remarks>
public sealed class TraceRecordFormatter : ITextFormatter
{
    static readonly string[] s_levelNames = ["Verbose", "Debug", "Information", "Warning", "Error", "Fatal"];
    static readonly string[] s_names = ["log.trace", "log.debug", "log.info", "log.warning", "log.error", "log.alarm"];

    readonly TraceLogger _logger;
    readonly int _maxText;

    /// <summary>Writes records of the service that <paramref name="options"/> describe. Opens no file.</summary>
    /// <exception cref="LogTraceOptionsException">The options do not hold.</exception>
    public TraceRecordFormatter(LogTraceOptions options)
        : this(new TraceLogger((options ?? throw new ArgumentNullException(nameof(options))) with { File = null }))
    {
    }

    /// <summary>Writes records of the service of <paramref name="logger"/>.</summary>
    public TraceRecordFormatter(TraceLogger logger)
    {
        ArgumentNullException.ThrowIfNull(logger);
        _logger = logger;
        _maxText = logger.Options.MaxTextLength;
    }

    /// <inheritdoc/>
    public void Format(LogEvent logEvent, TextWriter output)
    {
        ArgumentNullException.ThrowIfNull(logEvent);
        ArgumentNullException.ThrowIfNull(output);
        var line = LineWriter.Rent();
        Format(logEvent, line);
        var utf8 = line.Written;
        var chars = ArrayPool<char>.Shared.Rent(utf8.Length);
        try
        {
            output.Write(chars, 0, Encoding.UTF8.GetChars(utf8, chars));
        }
        finally
        {
            ArrayPool<char>.Shared.Return(chars);
            LineWriter.Return(line);
        }
    }

    /// <summary>Writes the line with its line end.</summary>
    internal void Format(LogEvent logEvent, LineWriter line)
    {
        line.Begin();
        if (ReferenceEquals(logEvent.MessageTemplate, TraceLogger.RecordTemplate)) WriteRecord(logEvent, line);
        else WriteLog(logEvent, line);
        line.End();
        line.LineEnd();
    }

    /// <summary>A typed record that went through Serilog: every field is a property.</summary>
    void WriteRecord(LogEvent logEvent, LineWriter line)
    {
        foreach (var field in RecordFields.All)
        {
            if (!logEvent.Properties.TryGetValue(field.WireName, out var value)) continue;
            if (value is StructureValue { } members)
            {
                var extra = ExtraWriter.BeginMasked(line, _logger);
                foreach (var member in members.Properties) extra.Property(member.Name, member.Value);
                extra.End();
                continue;
            }

            switch ((value as ScalarValue)?.Value)
            {
                case string text: line.Text(field.Field, text, _maxText); break;
                case long number: line.Number(field.Field, number); break;
                case double seconds: line.Seconds(field.Field, (long)Math.Round(seconds * 1e6)); break;
                case bool flag: line.Flag(field.Field, flag); break;
            }
        }
    }

    void WriteLog(LogEvent logEvent, LineWriter line)
    {
        var level = Math.Clamp((int)logEvent.Level, 0, s_names.Length - 1);
        var exception = logEvent.Exception;
        var micros = RecordEntry.Micros(logEvent.Timestamp);
        var texts = _logger.Texts;
        var own = LiftedFields.Of(logEvent);
        line.Text(RecordField.Name, exception is null ? s_names[level] : "log.exception", _maxText);
        line.Text(RecordField.TraceId, own.TraceId, _maxText);
        line.Text(RecordField.RpcId, own.RpcId, _maxText);
        line.Number(RecordField.Timestamp, micros / 1_000_000);
        line.Fixed(texts.OriginOfSource(own.Source));
        line.Text(RecordField.Action, own.Source ?? "", _maxText);
        line.Fixed(texts.NoParam);
        line.Fixed(texts.Version);
        line.Text(RecordField.Code, own.Code ?? exception?.GetType().Name, _maxText);
        WriteMessage(logEvent, line);
        line.Text(RecordField.Backtrace, exception is null ? null : _logger.Mask.Field(RecordField.Backtrace, Describe(exception)), _maxText);
        line.Text(RecordField.Uid, _logger.Mask.Field(RecordField.Uid, own.Uid), _maxText);
        line.Fixed(texts.Pid);
        line.Text(RecordField.File, own.File, _maxText);
        line.Text(RecordField.Line, own.Line, _maxText);
        if (own.Count < logEvent.Properties.Count) WriteExtra(logEvent, line);
        line.Fixed(texts.Service);
        line.Number(RecordField.TimestampUs, micros);
        line.Text(RecordField.Level, s_levelNames[level], _maxText);
        if (own.IsDebug) line.Flag(RecordField.Debug, true);
        if (own.IsSampled) line.Flag(RecordField.Sampled, true);
        line.Text(RecordField.SpanId, own.SpanId, _maxText);
        line.Text(RecordField.ParentSpanId, own.ParentSpanId, _maxText);
    }

    void WriteMessage(LogEvent logEvent, LineWriter line)
    {
        var message = MessageText.Rent();
        message.Render(logEvent, _logger.Mask);
        line.Text(RecordField.Msg, _logger.Mask.TryText(message.Written, out var masked) ? masked : message.Written, _maxText);
        MessageText.Return(message);
    }

    void WriteExtra(LogEvent logEvent, LineWriter line)
    {
        var extra = ExtraWriter.Begin(line, _logger);
        foreach (var (name, value) in LiftedFields.PropertiesOf(logEvent))
        {
            if (LiftedFields.TextOf(name, value) is null) extra.Property(name, value);
        }

        extra.End();
    }

    static string Describe(Exception exception)
    {
        try
        {
            return exception.ToString();
        }
        catch (Exception inner)
        {
            // Somebody's ToString: a log line must not break the request that writes it.
            return $"{exception.GetType()} (its ToString threw {inner.GetType().Name})";
        }
    }
    /// <summary>The properties of an event that are fields of their own.</summary>
    struct LiftedFields
    {
        public string? TraceId, RpcId, Code, Uid, File, Line, SpanId, ParentSpanId, Source;
        public bool IsDebug, IsSampled;

        /// <summary>How many there are; all others belong to extra.</summary>
        public int Count;

        public static LiftedFields Of(LogEvent logEvent)
        {
            var fields = new LiftedFields();
            foreach (var (name, value) in PropertiesOf(logEvent))
            {
                if (TextOf(name, value) is not { } text) continue;
                fields.Count++;
                switch (name)
                {
                    case "trace_id": fields.TraceId = text; break;
                    case "rpc_id": fields.RpcId = text; break;
                    case "code": fields.Code = text; break;
                    case "uid": fields.Uid = text; break;
                    case "file": fields.File = text; break;
                    case "line": fields.Line = text; break;
                    case "debug": fields.IsDebug = true; break;
                    case "sampled": fields.IsSampled = true; break;
                    case "span_id": fields.SpanId = text; break;
                    case "parent_span_id": fields.ParentSpanId = text; break;
                    case Serilog.Core.Constants.SourceContextPropertyName: fields.Source = text; break;
                }
            }

            return fields;
        }

        /// <summary>The text of a property that is a field of its own; null when it is none or cannot be one, so that it stays in extra.</summary>
        public static string? TextOf(string name, LogEventPropertyValue value) => name switch
        {
            "trace_id" => Scalar(value) is { } text && (value is TraceValue || TraceHeaders.IsValidTraceId(text)) ? text : null,
            "rpc_id" => Scalar(value) is { } text && (value is TraceValue || Records.RpcId.Check(text) == RpcIdProblem.None) ? text : null,
            "span_id" or "parent_span_id" => Scalar(value) is { Length: 16 } text && !text.AsSpan().ContainsAnyExcept("0123456789abcdef") ? text : null,
            "debug" or "sampled" => Scalar(value) is "True" ? "True" : null,
            "code" or "uid" or "file" or "line" or Serilog.Core.Constants.SourceContextPropertyName => Scalar(value),
            _ => null,
        };

        /// <summary>Serilog's own dictionary where it is one: walking it allocates nothing.</summary>
        public static Dictionary<string, LogEventPropertyValue> PropertiesOf(LogEvent logEvent) =>
            logEvent.Properties as Dictionary<string, LogEventPropertyValue> ?? logEvent.Properties.ToDictionary();

        static string? Scalar(LogEventPropertyValue value) => value is ScalarValue scalar
            ? scalar.Value switch { string text => text, int or long or short or bool or Enum => Convert.ToString(scalar.Value, CultureInfo.InvariantCulture), _ => null }
            : null;
    }
}

/// <summary>A value that the enricher took from the scope: known to be right, where one of a user's own may be anything.</summary>
sealed class TraceValue(object value) : ScalarValue(value);
