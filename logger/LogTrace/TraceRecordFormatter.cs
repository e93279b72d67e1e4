using System.Buffers;
using System.Text;
using LogTrace.Records;
using Serilog.Events;
using Serilog.Formatting;

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
    static readonly FixedText[] s_levels = [.. new[] { "Verbose", "Debug", "Information", "Warning", "Error", "Fatal" }.Select(name => new FixedText(RecordField.Level, name))];
    static readonly FixedText[] s_names =
        [.. new[] { "log.trace", "log.debug", "log.info", "log.warning", "log.error", "log.alarm" }.Select(name => new FixedText(RecordField.Name, name))];
    static readonly FixedText s_exceptionName = new(RecordField.Name, "log.exception");

    readonly TraceLogger _logger;
    readonly int _maxText;

    /// <summary>Writes records of the service that <paramref name="options"/> describe. Opens no file.</summary>
    /// <exception cref="LogTraceOptionsException">The options do not hold.</exception>
    public TraceRecordFormatter(LogTraceOptions options)
        : this(new TraceLogger(Silent(options ?? throw new ArgumentNullException(nameof(options)))))
    {
    }

    /// <summary>Writes records of the service of <paramref name="logger"/>.</summary>
    public TraceRecordFormatter(TraceLogger logger)
    {
        ArgumentNullException.ThrowIfNull(logger);
        _logger = logger;
        Shapes = new EventShapes(this, logger.Mask);
        _maxText = logger.Options.MaxTextLength;
    }

    // It only lends its settings and is never disposed: were it to listen to what happens in the process, it would do so for good.
    static LogTraceOptions Silent(LogTraceOptions options) =>
        options with { File = null, Instrumentation = options.Instrumentation with { HttpClients = false, Databases = false, ActivitySources = [] } };

    internal EventShapes Shapes { get; }

    /// <inheritdoc/>
    public void Format(LogEvent logEvent, TextWriter output)
    {
        ArgumentNullException.ThrowIfNull(logEvent);
        ArgumentNullException.ThrowIfNull(output);
        var line = LineWriter.Rent();
        Format(logEvent, null, line);
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

    /// <summary>Adds the line with its line end. Never throws.</summary>
    /// <param name="logEvent">What was logged.</param>
    /// <param name="scope">Whose ids the line gets in place of any that the event has.</param>
    /// <param name="line">Where to.</param>
    internal void Format(LogEvent logEvent, TraceContext? scope, LineWriter line)
    {
        if (ReferenceEquals(logEvent.MessageTemplate, TraceLogger.RecordTemplate))
        {
            line.Begin();
            WriteRecord(logEvent, line);
            line.End();
            line.LineEnd();
            return;
        }

        var packer = EventPacker.Rent();
        packer.Pack(logEvent, scope, Shapes);
        Format(packer.Packed, packer.Objects, packer.Shape, line);
        EventPacker.Return(packer);
    }

    /// <summary>The same for a packed event.</summary>
    /// <param name="packed">The event.</param>
    /// <param name="objects">What could not be packed.</param>
    /// <param name="shape">The event's shape.</param>
    /// <param name="line">Where to.</param>
    internal void Format(ReadOnlySpan<byte> packed, ReadOnlySpan<LogEventPropertyValue?> objects, EventShape shape, LineWriter line)
    {
        var start = line.Length;
        try
        {
            WriteLog(packed, objects, shape, line, null);
        }
        catch (Exception exception)
        {
            // A format that its value does not know, or somebody's code in a value. The line is not lost, and neither a request nor the thread that writes may end by it.
            line.CutTo(start);
            WriteLog(packed, objects, shape, line, exception);
        }
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

    void WriteLog(ReadOnlySpan<byte> packed, ReadOnlySpan<LogEventPropertyValue?> objects, EventShape shape, LineWriter line, Exception? problem)
    {
        var texts = _logger.Texts;
        var mask = _logger.Mask;
        Span<char> room = stackalloc char[64];
        var reading = new EventReading(packed, objects, shape);
        var source = reading.Source(room);
        line.Begin();
        line.Fixed(reading.HasException ? s_exceptionName : s_names[reading.Level]);
        reading.WritePlace(line, _maxText);
        line.Number(RecordField.Timestamp, reading.Micros / 1_000_000);
        line.Fixed(texts.OriginOfSource(source));
        line.Text(RecordField.Action, source, _maxText);
        line.Fixed(texts.NoParamAndVersion);
        reading.WriteCode(line, _maxText);
        var message = MessageText.Rent();
        if (problem is null) reading.Render(message, mask);
        else message.Write($"{shape.Template.Text} (formatting it threw {problem.GetType().Name})");
        var isMasked = mask.TryField(RecordField.Msg, message.Written, out var masked);
        line.Text(RecordField.Msg, isMasked ? masked : message.Written, _maxText);
        if (reading.HasException) line.Text(RecordField.Backtrace, mask.TryField(RecordField.Backtrace, reading.ExceptionText, out var text) ? text : reading.ExceptionText, _maxText);
        if (reading.HasUid)
        {
            var uid = reading.Uid(room);
            line.Text(RecordField.Uid, mask.TryField(RecordField.Uid, uid, out var maskedUid) ? maskedUid : uid, _maxText);
        }

        line.Fixed(texts.Pid);
        reading.WriteSourceLine(line, _maxText);
        if (reading.HasExtra && problem is null)
        {
            var extra = ExtraWriter.Begin(line, _logger);
            reading.WriteExtra(ref extra, message.Written, isClean: !isMasked && mask.KnowsParts);
            extra.End();
        }

        line.Fixed(texts.Service);
        line.Number(RecordField.TimestampUs, reading.Micros);
        line.Fixed(s_levels[reading.Level]);
        reading.WriteExecution(line, _maxText);
        line.End();
        line.LineEnd();
        MessageText.Return(message);
        reading.Return();
    }
}

/// <summary>A value that the enricher took from the scope: known to be right, where one of a user's own may be anything.</summary>
sealed class TraceValue(object value) : ScalarValue(value);
