using System.Diagnostics;
using System.Text;
using System.Text.Json;
using LogTrace.Records;
using Serilog;
using Serilog.Core;
using Serilog.Events;
using Serilog.Formatting;
using Serilog.Formatting.Compact;

namespace LogTrace.Tests.Records;

/// <summary>Events as Serilog.Formatting.Compact itself writes them, read as records.</summary>
public sealed class ClefTests
{
    sealed class LastEvent : ILogEventSink
    {
        public LogEvent? Event { get; private set; }

        public void Emit(LogEvent logEvent) => Event = logEvent;
    }

    static readonly ITextFormatter[] Formatters = [new CompactJsonFormatter(), new RenderedCompactJsonFormatter()];

    static IEnumerable<(TraceRecord Record, LogEvent Event)> Log(Action<ILogger> log)
    {
        foreach (var formatter in Formatters)
        {
            var sink = new LastEvent();
            using var logger = new LoggerConfiguration().MinimumLevel.Verbose().WriteTo.Sink(sink).CreateLogger();
            log(logger);
            var output = new StringWriter();
            formatter.Format(sink.Event!, output);
            RecordCodec.TryRead(Encoding.UTF8.GetBytes(output.ToString().TrimEnd('\r', '\n')), out var record, out var reason).Should().BeTrue(reason);
            record.UnreadableFields.Should().BeNull(output.ToString());
            yield return (record, sink.Event!);
        }
    }

    static JsonElement Extra(TraceRecord record) => JsonDocument.Parse(record.ExtraJson!).RootElement;

    [Theory]
    [InlineData(LogEventLevel.Verbose, "log.trace")]
    [InlineData(LogEventLevel.Debug, "log.debug")]
    [InlineData(LogEventLevel.Information, "log.info")]
    [InlineData(LogEventLevel.Warning, "log.warning")]
    [InlineData(LogEventLevel.Error, "log.error")]
    [InlineData(LogEventLevel.Fatal, "log.alarm")]
    public void Level_gives_the_name(LogEventLevel level, string name)
    {
        foreach (var (record, _) in Log(logger => logger.Write(level, "hello")))
        {
            record.Name.Should().Be(name);
            record.Level.Should().Be(level.ToString());
            record.Msg.Should().Be("hello");
        }
    }

    [Fact]
    public void Time_is_kept_to_the_microsecond()
    {
        foreach (var (record, logged) in Log(logger => logger.Information("now")))
        {
            record.TimestampMicros.Should().Be((logged.Timestamp.UtcTicks - DateTime.UnixEpoch.Ticks) / 10);
            record.HasPreciseTime.Should().BeTrue();
        }
    }

    [Fact]
    public void Exception_gives_the_name_and_the_backtrace()
    {
        foreach (var (record, _) in Log(logger => logger.Warning(new InvalidOperationException("no\nstock"), "failed")))
        {
            record.Name.Should().Be("log.exception");
            record.Level.Should().Be("Warning");
            record.Backtrace.Should().Be("System.InvalidOperationException: no\nstock");
        }
    }

    [Theory]
    [InlineData("plain {{braces}} stay")]
    [InlineData("{Text} and {Number} and {Flag} and {Nothing}")]
    [InlineData("{Number:000.00} then {Text} then {Number:x} then {Text:l}")]
    [InlineData("[{Number,8}] [{Number,-8}] [{Text,12}] [{Number,10:000}]")]
    [InlineData("{@Thing} {List} {$Thing}")]
    [InlineData("{Unknown} {not a hole} {} {:x} {")]
    [InlineData("{Text")]
    public void Message_is_what_serilog_itself_renders(string template)
    {
        foreach (var (record, logged) in Log(logger => logger
            .ForContext("Text", "with \"quotes\" and ü")
            .ForContext("Number", 42)
            .ForContext("Flag", true)
            .ForContext("Nothing", null)
            .ForContext("Thing", template.Contains("{@Thing") ? new Dictionary<string, int> { ["a"] = 1 }.Select(pair => new { pair.Key, pair.Value }).First() : null, true)
            .ForContext("List", new[] { 1, 2 })
#pragma warning disable CA2254 // the template is the case
            .Information(template)))
#pragma warning restore CA2254
        {
            record.Msg.Should().Be(logged.RenderMessage());
        }
    }

    [Fact]
    public void Properties_are_fields_where_a_field_is_called_so_and_extra_elsewhere()
    {
        foreach (var (record, _) in Log(logger => logger
            .ForContext("trace_id", "t-1")
            .ForContext("rpc_id", "1.3.2")
            .ForContext("service", "orders")
            .ForContext("duration", 0.25)
            .ForContext("code", 504)
            .ForContext("uid", "9527")
            .ForContext("x_department", "shop")
            .ForContext("@strange", "at")
            .Information("Order {OrderId} took {Elapsed}", 7, 1.5)))
        {
            record.TraceId.Should().Be("t-1");
            record.RpcId!.Value.Text.Should().Be("1.3.2");
            record.Service.Should().Be("orders");
            record.DurationMicros.Should().Be(250_000);
            record.Code.Should().Be("504");
            record.Uid.Should().Be("9527");
            record.Department.Should().Be("shop");
            record.Msg.Should().Be("Order 7 took 1.5");
            var extra = Extra(record);
            extra.GetProperty("OrderId").GetInt32().Should().Be(7);
            extra.GetProperty("Elapsed").GetDouble().Should().Be(1.5);
            extra.GetProperty("@strange").GetString().Should().Be("at");
            extra.EnumerateObject().Select(member => member.Name).Should().NotContain(["@t", "@l", "@m", "@x", "trace_id"]);
        }
    }

    [Fact]
    public void Trace_id_is_judged_by_what_its_escapes_stand_for()
    {
        RecordCodec.TryRead("{\"@t\":\"2026-11-22T10:11:12Z\",\"@tr\":\"4bf9\\ud800\"}"u8.ToArray(), out var broken, out _).Should().BeTrue();
        broken.TraceId.Should().BeNull();
        RecordCodec.TryRead("{\"@t\":\"2026-11-22T10:11:12Z\",\"@tr\":\"4b\\u0066\\u0039\"}"u8.ToArray(), out var whole, out _).Should().BeTrue();
        whole.TraceId.Should().Be("4bf9");
    }

    [Fact]
    public void Template_that_differs_from_the_message_is_kept()
    {
        Extra(Log(logger => logger.Information("Order {OrderId}", 7)).First().Record).GetProperty("@mt").GetString().Should().Be("Order {OrderId}");
        Log(logger => logger.Information("no holes")).First().Record.ExtraJson.Should().BeNull();
    }

    [Fact]
    public void Activity_gives_trace_and_span_where_no_property_does()
    {
        using var activity = new Activity("work").SetIdFormat(ActivityIdFormat.W3C).Start();
        foreach (var (record, _) in Log(logger => logger.Information("within")))
        {
            record.TraceId.Should().Be(activity.TraceId.ToHexString());
            record.SpanId.Should().Be(activity.SpanId.ToHexString());
            record.RpcId.Should().BeNull();
        }

        foreach (var (record, _) in Log(logger => logger.ForContext("trace_id", "mine").ForContext("span_id", "s").Information("within")))
        {
            record.TraceId.Should().Be("mine");
            record.SpanId.Should().Be("s");
            Extra(record).GetProperty("@tr").GetString().Should().Be(activity.TraceId.ToHexString());
        }
    }

    [Fact]
    public void Name_and_time_of_the_business_are_not_those_of_the_record()
    {
        foreach (var (record, logged) in Log(logger => logger.ForContext("name", "Bob").ForContext("timestamp", 12).Information("hi")))
        {
            record.Name.Should().Be("log.info");
            record.TimestampMicros.Should().Be((logged.Timestamp.UtcTicks - DateTime.UnixEpoch.Ticks) / 10);
            Extra(record).GetProperty("name").GetString().Should().Be("Bob");
            Extra(record).GetProperty("timestamp").GetInt32().Should().Be(12);
        }

        foreach (var (record, _) in Log(logger => logger.ForContext("name", "http.get").ForContext("msg", "short").Information("long")))
        {
            record.Name.Should().Be("http.get");
            record.Msg.Should().Be("short");
        }
    }

    [Fact]
    public void Event_id_of_the_rendered_form_is_kept() =>
        Extra(Log(logger => logger.Information("Order {OrderId}", 7)).Last().Record).GetProperty("@i").GetString().Should().HaveLength(8);
}
