using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using CsCheck;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Serilog;
using Serilog.Core;
using Serilog.Events;

namespace LogTrace.Tests.Logger;

public sealed class TraceRecordFormatterTests
{
    static readonly LogTraceOptions s_options = new() { Service = "orders", Department = "shop_backend", Version = "1.4", Application = "shop", ServerIp = "10.0.0.7" };

    static (string Line, TraceRecord Record) Format(Action<ILogger> write, LogTraceOptions? options = null)
    {
        var events = new EventList();
        using var log = new LoggerConfiguration().MinimumLevel.Verbose().Enrich.WithTrace().WriteTo.Sink(events).CreateLogger();
        write(log);
        var text = new StringWriter();
        new TraceRecordFormatter(options ?? s_options).Format(events.Events.Single(), text);
        var line = text.ToString();
        line.Should().EndWith("\n");
        line.AsSpan(0, line.Length - 1).IndexOfAny("\n\r").Should().Be(-1);
        return (line, Written.Record(line));
    }

    [Fact]
    public void A_formatter_listens_to_nothing()
    {
        using var source = new ActivitySource($"{nameof(A_formatter_listens_to_nothing)}-{Guid.NewGuid():n}");
        var options = s_options with { Instrumentation = new() { ActivitySources = [source.Name] } };

        _ = new TraceRecordFormatter(options);

        source.HasListeners().Should().BeFalse();
        using var logger = new TraceLogger(options);
        source.HasListeners().Should().BeTrue();
    }

    [Theory]
    [InlineData(LogEventLevel.Verbose, "log.trace")]
    [InlineData(LogEventLevel.Debug, "log.debug")]
    [InlineData(LogEventLevel.Information, "log.info")]
    [InlineData(LogEventLevel.Warning, "log.warning")]
    [InlineData(LogEventLevel.Error, "log.error")]
    [InlineData(LogEventLevel.Fatal, "log.alarm")]
    public void Levels_become_names(LogEventLevel level, string name)
    {
        var (_, record) = Format(log => log.Write(level, "Hello"));

        record.Name.Should().Be(name);
        record.Level.Should().Be(level.ToString());
    }

    [Fact]
    public void Message_properties_and_source_find_their_fields()
    {
        var (line, record) = Format(log => log.ForContext("SourceContext", "Shop.Orders.OrderService").ForContext("file", "Orders.cs").ForContext("line", 12)
            .Information("Order {OrderId} of {@User} costs {Price:0.00}", 9527, new { Name = "Ann \"A\" Lee\n", Tags = new[] { "x", "y" } }, 12.5m));

        record.Msg.Should().Be("Order 9527 of { Name: \"Ann \\\"A\\\" Lee\n\", Tags: [\"x\", \"y\"] } costs 12.50");
        record.Action.Should().Be("Shop.Orders.OrderService");
        record.Module.Should().Be("shop_orders_OrderService_log");
        record.Text(RecordField.File).Should().Be("Orders.cs");
        record.Text(RecordField.Line).Should().Be("12");
        record.TraceId.Should().BeNull();
        record.RpcId.Should().BeNull();
        using var extra = JsonDocument.Parse(record.ExtraJson!);
        extra.RootElement.EnumerateObject().Select(member => member.Name).Should().BeEquivalentTo(["OrderId", "User", "Price"]);
        extra.RootElement.GetProperty("OrderId").GetInt32().Should().Be(9527);
        extra.RootElement.GetProperty("User").GetProperty("Name").GetString().Should().Be("Ann \"A\" Lee\n");
        extra.RootElement.GetProperty("Price").GetDecimal().Should().Be(12.5m);
        using var json = JsonDocument.Parse(line);
        json.RootElement.GetProperty("timestamp_us").GetInt64().Should().Be(record.TimestampMicros);
        json.RootElement.GetProperty("timestamp").GetInt64().Should().Be(record.TimestampMicros / 1_000_000);
    }

    [Fact]
    public void Fields_stand_in_the_order_of_the_schema()
    {
        var (line, _) = Format(log => log.ForContext("uid", "u1").ForContext("code", 7).Error(new InvalidOperationException("x"), "Failed {A}", 1));

        var order = RecordFields.All.Select(field => field.WireName).ToList();
        using var json = JsonDocument.Parse(line);
        json.RootElement.EnumerateObject().Select(member => order.IndexOf(member.Name)).Should().BeInAscendingOrder().And.NotContain(-1);
    }

    [Fact]
    public void An_exception_makes_it_log_exception()
    {
        var (_, record) = Format(log => log.Warning(new TimeoutException("too slow"), "Payment failed"));

        record.Name.Should().Be("log.exception");
        record.Level.Should().Be("Warning");
        record.Msg.Should().Be("Payment failed");
        record.Code.Should().Be("TimeoutException");
        record.Backtrace.Should().Contain("too slow");
    }

    [Fact]
    public void A_property_called_name_does_not_make_another_kind_of_record()
    {
        var (_, record) = Format(log => log.Information("Hello {name} {rpc_id} {trace_id} {timestamp}", "request.info", "1..2", "a b", "never"));

        record.Name.Should().Be("log.info");
        record.RpcId.Should().BeNull();
        record.ExtraJson.Should().Be("""{"name":"request.info","rpc_id":"1..2","trace_id":"a b","timestamp":"never"}""");
    }

    [Fact]
    public void The_scope_wins_over_properties_of_its_name()
    {
        using var logger = new TraceLogger(s_options);
        using var scope = logger.StartTrace("job");

        var (_, record) = Format(log => log.Information("Hello {trace_id}", "forged"));

        record.TraceId.Should().Be(scope.TraceId);
        record.RpcId!.Value.Text.Should().Be("1.1");
        record.SpanId.Should().Be(scope.SpanId);
    }

    [Fact]
    public void Too_long_texts_and_extras_are_cut_and_say_so()
    {
        var (_, record) = Format(log => log.Information("{A} {B} {C}", new string('a', 1000), new string('b', 200), "c"), s_options with { MaxTextLength = 256, MaxExtraBytes = 256 });

        record.Msg.Should().StartWith("aaa").And.EndWith(" characters)").And.HaveLength(256 + "... (+947 characters)".Length);
        record.ExtraJson.Should().StartWith("{\"B\":").And.EndWith("\"left_out\":1}");
    }

    [Fact]
    public void Values_of_all_kinds_are_written_as_json()
    {
        var (line, _) = Format(log => log.ForContext("Float", 0.1f).ForContext("Nan", double.NaN).ForContext("Null", null).ForContext("Ulong", ulong.MaxValue).ForContext("Guid", Guid.Empty)
            .ForContext("Time", DateTimeOffset.UnixEpoch).ForContext("Map", new Dictionary<string, int> { ["a"] = 1 }, destructureObjects: true).Information("x"));

        using var json = JsonDocument.Parse(line);
        json.RootElement.GetProperty("extra").GetRawText().Should().Contain("\"Float\":0.1").And.Contain("\"Nan\":\"NaN\"").And.Contain("\"Null\":null")
            .And.Contain("\"Ulong\":18446744073709551615").And.Contain("\"Map\":{\"a\":1}").And.Contain("1970-01-01T00:00:00");
    }

    [Fact]
    public void Any_text_survives_the_line()
    {
        Gen.String.Sample(text =>
        {
            // Without masking: a random text may well say pwd=.
            var (_, record) = Format(log => log.Information("{Text:l}", text), s_options with { Masking = new() { Enabled = false } });
            // A lone surrogate has no UTF-8: it becomes U+FFFD.
            var expected = System.Text.Encoding.UTF8.GetString(System.Text.Encoding.UTF8.GetBytes(text));
            return record.Msg == expected;
        }, iter: 2_000);
    }

    [Fact]
    public void A_typed_record_reads_the_same_through_serilog_as_straight()
    {
        using var folder = new TempFolder();
        var time = new Microsoft.Extensions.Time.Testing.FakeTimeProvider(new DateTimeOffset(2026, 11, 22, 1, 2, 3, 456, TimeSpan.Zero));
        var events = new EventList();
        using var log = new LoggerConfiguration().MinimumLevel.Fatal().Enrich.WithTrace().WriteTo.Sink(events).CreateLogger();
        using var through = new TraceLogger(s_options, null, time);
        through.SendTo(log);
        string[] straightLines;
        using (var file = new TraceFile(new() { Path = folder["orders.log"] }))
        {
            using var straight = new TraceLogger(s_options, file, time);
            Write(straight);
            file.Dispose();
            straightLines = [.. Written.Lines(folder["orders.log"])];
        }

        Write(through);

        var formatter = new TraceRecordFormatter(s_options);
        var lines = events.Events.Select(logEvent =>
        {
            var text = new StringWriter(CultureInfo.InvariantCulture);
            formatter.Format(logEvent, text);
            return text.ToString().TrimEnd('\n');
        });
        lines.Select(Anonymous).Should().Equal(straightLines.Select(Anonymous));

        void Write(TraceLogger logger)
        {
            logger.Metrics.Flush();
            using var scope = logger.StartRequest("POST /orders", "a=1", new() { TraceId = "t", Prefix = "1.3", ParentSpan = 5, DebugUntil = DateTimeOffset.MaxValue });
            scope.ClientIp = "1.2.3.4";
            scope.Uid = "u";
            using (var call = scope.BeginCall("mysql.request", "select \"x\" \u0001 é 😀", "p"))
            {
                call.Db = "shop";
                call.Host = "10.0.0.9:3306";
                call.ResponseLength = 12;
                call.DnsDuration = TimeSpan.FromMilliseconds(1.5);
                call.AddExtra("rows", 3);
                call.AddExtra("ratio", 0.5);
                call.AddExtra("cached", false);
                call.AddExtra("none", null);
                time.Advance(TimeSpan.FromMicroseconds(21_340));
            }

            scope.BeginCall("http.get", "u").Dispose();
            logger.Metrics.Histogram("size", 0.25, ("shelf", "a"));
            logger.Metrics.Flush();
            scope.Fail("503", "unavailable");
        }

        static string Anonymous(string line)
        {
            // Span ids are random, the rest is not: the clock stands where both began, less what the first run advanced it by.
            using var json = JsonDocument.Parse(line);
            return string.Join('\n', json.RootElement.EnumerateObject().Select(member => member.Name switch
            {
                "span_id" => "span_id",
                "parent_span_id" => "parent_span_id",
                "timestamp_us" => "timestamp_us",
                _ => member.ToString(),
            }));
        }
    }
}
