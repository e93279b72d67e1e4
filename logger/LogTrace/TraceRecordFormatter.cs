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
    const int KeptChars = 64 * 1024;

    static readonly string[] s_levelNames = ["Verbose", "Debug", "Information", "Warning", "Error", "Fatal"];
    static readonly string[] s_names = ["log.trace", "log.debug", "log.info", "log.warning", "log.error", "log.alarm"];
    static readonly RecordField[] s_liftedFields =
    [
        RecordField.TraceId, RecordField.RpcId, RecordField.Code, RecordField.Uid, RecordField.File, RecordField.Line,
        RecordField.Debug, RecordField.SpanId, RecordField.ParentSpanId,
    ];

    [ThreadStatic]
    static StringBuilder? t_message;

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
        var source = Scalar(logEvent, Serilog.Core.Constants.SourceContextPropertyName);
        line.Text(RecordField.Name, exception is null ? s_names[level] : "log.exception", _maxText);
        line.Text(RecordField.TraceId, Lifted(logEvent, RecordField.TraceId), _maxText);
        line.Text(RecordField.RpcId, Lifted(logEvent, RecordField.RpcId), _maxText);
        line.Number(RecordField.Timestamp, micros / 1_000_000);
        line.Fixed(_logger.Texts.Department);
        line.Fixed(_logger.Texts.ModuleOfSource(source));
        line.Fixed(_logger.Texts.ServerIp);
        line.Text(RecordField.Action, source ?? "", _maxText);
        line.Fixed(_logger.Texts.NoParam);
        line.Fixed(_logger.Texts.Version);
        line.Text(RecordField.Code, Lifted(logEvent, RecordField.Code) ?? exception?.GetType().Name, _maxText);
        WriteMessage(logEvent, line);
        line.Text(RecordField.Backtrace, exception is null ? null : _logger.Mask.Field(RecordField.Backtrace, Describe(exception)), _maxText);
        line.Text(RecordField.Uid, _logger.Mask.Field(RecordField.Uid, Lifted(logEvent, RecordField.Uid)), _maxText);
        line.Fixed(_logger.Texts.Pid);
        line.Text(RecordField.File, Lifted(logEvent, RecordField.File), _maxText);
        line.Text(RecordField.Line, Lifted(logEvent, RecordField.Line), _maxText);
        WriteExtra(logEvent, line);
        line.Fixed(_logger.Texts.Service);
        line.Number(RecordField.TimestampUs, micros);
        line.Text(RecordField.Level, s_levelNames[level], _maxText);
        if (Lifted(logEvent, RecordField.Debug) is not null) line.Flag(RecordField.Debug, true);
        line.Text(RecordField.SpanId, Lifted(logEvent, RecordField.SpanId), _maxText);
        line.Text(RecordField.ParentSpanId, Lifted(logEvent, RecordField.ParentSpanId), _maxText);
    }

    void WriteMessage(LogEvent logEvent, LineWriter line)
    {
        var message = t_message ?? new StringBuilder();
        t_message = null;
        using (var writer = new StringWriter(message, CultureInfo.InvariantCulture))
        {
            foreach (var token in logEvent.MessageTemplate.Tokens)
            {
                // Texts as they are, without the quotes that Serilog puts around them: the message is for people, the value is under extra.
                if (token is PropertyToken named && _logger.Mask.Covers(named.PropertyName) && logEvent.Properties.TryGetValue(named.PropertyName, out var covered)) writer.Write(_logger.Mask.Member(named.PropertyName, (covered as ScalarValue)?.Value ?? ""));
                else if (token is PropertyToken { Format: null, Alignment: null } property && logEvent.Properties.GetValueOrDefault(property.PropertyName) is ScalarValue { Value: string text }) writer.Write(text);
                else token.Render(logEvent.Properties, writer, CultureInfo.InvariantCulture);
            }
        }

        line.Key(RecordField.Msg);
        var chars = ArrayPool<char>.Shared.Rent(message.Length);
        message.CopyTo(0, chars, message.Length);
        line.Quoted(_logger.Mask.TryText(chars.AsSpan(0, message.Length), out var masked) ? masked : chars.AsSpan(0, message.Length), _maxText);
        ArrayPool<char>.Shared.Return(chars);
        message.Clear();
        if (message.Capacity <= KeptChars) t_message = message;
    }

    void WriteExtra(LogEvent logEvent, LineWriter line)
    {
        var extra = ExtraWriter.Begin(line, _logger);
        foreach (var (name, value) in logEvent.Properties)
        {
            if (name != Serilog.Core.Constants.SourceContextPropertyName && !IsLifted(logEvent, name)) extra.Property(name, value);
        }

        extra.End();
    }

    static bool IsLifted(LogEvent logEvent, string name)
    {
        foreach (var field in s_liftedFields)
        {
            if (RecordFields.WireName(field) == name) return Lifted(logEvent, field) is not null;
        }

        return false;
    }

    /// <summary>The text of a property that is a field of its own; null when there is none or it cannot be one, so that it stays in extra.</summary>
    static string? Lifted(LogEvent logEvent, RecordField field)
    {
        var text = Scalar(logEvent, RecordFields.WireName(field));
        return field switch
        {
            RecordField.TraceId => text is not null && TraceHeaders.IsValidTraceId(text) ? text : null,
            RecordField.RpcId => text is not null && RpcId.Check(text) == RpcIdProblem.None ? text : null,
            RecordField.SpanId or RecordField.ParentSpanId => text is { Length: 16 } && !text.AsSpan().ContainsAnyExcept("0123456789abcdef") ? text : null,
            RecordField.Debug => text is "True" ? text : null,
            _ => text,
        };
    }

    static string? Scalar(LogEvent logEvent, string name) => logEvent.Properties.TryGetValue(name, out var value) && value is ScalarValue scalar
        ? scalar.Value switch { string text => text, int or long or short or bool or Enum => Convert.ToString(scalar.Value, CultureInfo.InvariantCulture), _ => null }
        : null;

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
}
