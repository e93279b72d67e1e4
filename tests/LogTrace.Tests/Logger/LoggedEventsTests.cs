using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.Extensions.Logging;
using Serilog;
using Serilog.Core;
using Serilog.Events;
using Serilog.Extensions.Logging;
using ILogger = Serilog.ILogger;

namespace LogTrace.Tests.Logger;

/// <summary>Log lines that wait as events and are formatted by the thread that writes.</summary>
public sealed class LoggedEventsTests : IDisposable
{
    readonly TempFolder _folder = new();

    string LogPath => _folder["logs/orders.log"];

    public void Dispose() => _folder.Dispose();

    TraceLogger NewLogger(Func<TraceFileOptions, TraceFileOptions> configure)
    {
        var options = TestService.Options("orders", LogPath);
        return new TraceLogger(options with { File = configure(options.File!) });
    }

    [Theory]
    [InlineData(11)]
    public async Task Every_line_of_a_writer_keeps_its_place_by_whichever_way_it_goes(int seed)
    {
        const int Writers = 8, Lines = 3_000;
        using (var logger = NewLogger(file => file with { QueueBytes = 64 * 1024, FlushBytes = 4096, FlushInterval = TimeSpan.FromMilliseconds(1), RollBytes = 256 * 1024, MaxBlock = TimeSpan.FromMinutes(1) }))
        using (var log = new LoggerConfiguration().LogTrace(logger).CreateLogger())
        {
            await Task.WhenAll(Enumerable.Range(0, Writers).Select(writer => Task.Run(() =>
            {
                var random = new Random(seed + writer);
                using var scope = logger.StartTrace(Text(writer));
                for (var i = 0; i < Lines; i++)
                {
                    switch (random.Next(6))
                    {
                        case 0: scope.BeginCall("redis.request", Text(i)).Dispose(); break;
                        case 1: log.ForContext("uid", i).Information(new TimeoutException("late"), "Failed {Number}", i); break;
                        case 2: log.ForContext("uid", i).Information("Long {Text}", new string('x', random.Next(20_000))); break;
                        default: log.ForContext("uid", i).Information("Line {Number} of {@Writer}", i, new { writer }); break;
                    }
                }
            })));
            log.Dispose();
            logger.Dispose();
            logger.Dropped.Should().Be(0);
            logger.Written.Should().Be(Writers * (Lines + 1));
        }

        var records = Written.Records(LogPath);
        records.Should().HaveCount(Writers * (Lines + 1));
        foreach (var own in records.GroupBy(record => record.TraceId))
        {
            own.Take(Lines).Select(record => record.Uid ?? record.Action).Should().Equal(Enumerable.Range(0, Lines).Select(Text), $"seed {seed}");
            own.Last().Name.Should().Be("request.info");
        }

        static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
    }

    [Fact]
    public async Task A_flush_returns_when_the_events_can_be_read_and_closing_writes_what_waits()
    {
        using var logger = NewLogger(file => file with { FlushInterval = TimeSpan.FromMinutes(1) });
        using var log = new LoggerConfiguration().LogTrace(logger).CreateLogger();

        log.Information("one");
        (await Task.Run(() => logger.File!.Flush(TimeSpan.FromSeconds(30))).Within()).Should().BeTrue();
        Written.Records(LogPath).Select(record => record.Msg).Should().Equal("one");
        log.Information("two");
        logger.Dispose();
        log.Information("late");

        Written.Records(LogPath).Select(record => record.Msg).Should().Equal("one", "two");
        logger.File!.DroppedFor(DropReason.Closed).Should().Be(1);
    }

    [Fact]
    public async Task Events_are_charged_what_they_keep_and_dropped_and_counted_when_the_queue_stays_full()
    {
        const int QueueBytes = 64 * 1024, Chars = 1000;
        using var logger = NewLogger(file => file with { QueueBytes = QueueBytes, FlushBytes = 1024, WhenFull = FullQueue.DropNewest });
        using var log = new LoggerConfiguration().LogTrace(logger).CreateLogger();
        using var disk = new StoppedDisk(logger.File!);
        log.Information("first");
        await disk.StandsStill.Within();

        for (var i = 0; i < 100; i++) log.Information("{Text}", new string('x', Chars));

        var dropped = logger.File!.DroppedFor(DropReason.QueueFull);
        dropped.Should().BeInRange(100 - QueueBytes / (2 * Chars * sizeof(char)), 95);
        disk.GoOn();
        await Task.Run(() => logger.File.Flush(TimeSpan.FromSeconds(30))).Within();
        log.Information("last");
        logger.Dispose();
        var records = Written.Records(LogPath);
        records.Count(record => record.Name == "log.info").Should().Be(102 - (int)dropped);
        records.Where(record => record.Action == "logtrace.dropped_lines").Sum(record => JsonDocument.Parse(record.ExtraJson!).RootElement.GetProperty("value").GetInt64()).Should().Be(dropped);
    }

    [Fact]
    public void What_cannot_be_formatted_is_written_as_its_template()
    {
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().Destructure.AsScalar<Broken>().LogTrace(logger).CreateLogger())
        using (logger.StartTrace("job"))
        {
            log.Information("Costs {Price:Q} of {User}", 12, "ann");
            log.Information("It is {Broken}", new Broken());
            log.Information("Fine");
        }

        var records = Written.Records(LogPath).Where(record => record.Name == "log.info").ToList();
        records.Select(record => record.Msg).Should().Equal("Costs {Price:Q} of {User} (formatting it threw FormatException)", "It is (Broken.ToString threw InvalidOperationException)", "Fine");
        records.Should().OnlyContain(record => record.RpcId!.Value.Text == "1.1");
    }

    [Fact]
    public void What_changes_after_the_call_is_written_as_it_was()
    {
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().Destructure.AsScalar<Mutable>().LogTrace(logger).CreateLogger())
        using (var disk = new StoppedDisk(logger.File!))
        {
            var value = new Mutable { Text = "before" };
            var list = new List<int> { 1 };
            log.Information("It is {Value}", value);
            log.Information("They are {List} and {@Value}", list, new { Value = list });
            value.Text = "after";
            list.Add(2);
            disk.GoOn();
        }

        Written.Records(LogPath).Select(record => record.Msg).Should().Equal("It is before", "They are [1] and { Value: [1] }");
    }

    [Fact]
    public void Values_with_parts_are_written_as_they_were_with_secrets_taken_out_at_every_depth()
    {
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().LogTrace(logger).CreateLogger())
        using (var disk = new StoppedDisk(logger.File!))
        {
            var order = new Order { Lines = [new() { Item = 7, Price = 12.5m }], Notes = { ["gift"] = "yes", ["api_key"] = "k" }, Password = "p" };
            log.Information("Placed {@Order} at {@Point}, {Numbers:000}", order, (1, "b"), new[] { 1, 2 });
            log.ForContext("Void", new { A = (object?)null, B = new[] { true }, C = 1.5f, D = DayOfWeek.Monday, E = "token=abc", F = Guid.Empty, G = DateTime.UnixEpoch }, destructureObjects: true).Information("All kinds");
            order.Lines[0].Item = 8;
            order.Notes.Clear();
            disk.GoOn();
        }

        var records = Written.Records(LogPath);
        records[0].Msg.Should().Be("""Placed Order { Lines: [OrderLine { Item: 7, Price: 12.5 }], Notes: [("gift": "yes"), ("api_key": "***")], Password: "***" } at [1, "b"], [001, 002]""");
        records[0].ExtraJson.Should().Be("""{"Order":{"Lines":[{"Item":7,"Price":12.5}],"Notes":{"gift":"yes","api_key":"***"},"Password":"***"},"Point":[1,"b"],"Numbers":[1,2]}""");
        records[1].ExtraJson.Should().Be("""{"Void":{"A":null,"B":[true],"C":1.5,"D":"Monday","E":"token=***","F":"00000000-0000-0000-0000-000000000000","G":"1970-01-01T00:00:00.0000000Z"}}""");
    }

    [Fact]
    public void Lines_of_ILogger_wait_with_their_event_id_scopes_and_exception()
    {
        using (var logger = NewLogger(file => file))
        using (var provider = new SerilogLoggerProvider(new LoggerConfiguration().LogTrace(logger).CreateLogger(), dispose: true))
        using (var disk = new StoppedDisk(logger.File!))
        {
            var log = provider.CreateLogger("Shop.Orders.OrderService");
            using (logger.StartRequest("POST /orders", "", new IncomingTrace { TraceId = "t-1", Prefix = "1.3" }))
            using (log.BeginScope("cart {Cart}", 5))
            {
                var problem = new InvalidOperationException("first");
                log.LogWarning(new EventId(7, "Placed"), problem, "Order {OrderId} of {User} after {Elapsed:0.00} ms", 12, "ann", 3.14159);
                problem.Data["later"] = true;
            }

            disk.GoOn();
        }

        var record = Written.Records(LogPath)[0];
        $"{record.Name} {record.TraceId} {record.RpcId} {record.Action} {record.Module} {record.Code} {record.Msg}".Should().Be(
            "log.exception t-1 1.3.1 Shop.Orders.OrderService shop_orders_OrderService_log InvalidOperationException Order 12 of ann after 3.14 ms");
        record.Backtrace.Should().Be("System.InvalidOperationException: first");
        record.ExtraJson.Should().Be("""{"OrderId":12,"User":"ann","Elapsed":3.14159,"EventId":{"Id":7,"Name":"Placed"},"Cart":5,"Scope":["cart 5"]}""");
    }

    sealed class Order
    {
        public List<OrderLine> Lines { get; init; } = [];

        public Dictionary<string, string> Notes { get; } = [];

        public string Password { get; init; } = "";
    }

    sealed class OrderLine
    {
        public int Item { get; set; }

        public decimal Price { get; init; }
    }

    [Fact]
    public void Templates_and_names_that_are_made_up_are_written_alike()
    {
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().LogTrace(logger).CreateLogger())
        {
            for (var i = 0; i < 2_500; i++) log.Information("Number " + i + " of {Name" + i + "} and {Name" + i + "}, {Missing}", i);
            var template = new MessageTemplate("x {B} {A}", new Serilog.Parsing.MessageTemplateParser().Parse("x {B} {A}").Tokens);
            log.Write(new LogEvent(DateTimeOffset.UnixEpoch, LogEventLevel.Information, null, template, [Property("A", 1), Property("B", 2)]));
            log.Write(new LogEvent(DateTimeOffset.UnixEpoch, LogEventLevel.Information, null, template, [Property("B", 3), Property("C", 4), Property("A", 5)]));
        }

        var records = Written.Records(LogPath);
        records.Take(2_500).Select(record => record.Msg).Should().Equal(Enumerable.Range(0, 2_500).Select(i => $"Number {i} of {i} and {i}, {{Missing}}"));
        records.Take(2_500).Select(record => record.ExtraJson).Should().Equal(Enumerable.Range(0, 2_500).Select(i => $$"""{"Name{{i}}":{{i}}}"""));
        records.Skip(2_500).Select(record => record.Msg).Should().Equal("x 2 1", "x 3 5");
        records.Skip(2_500).Select(record => record.ExtraJson).Should().Equal("""{"A":1,"B":2}""", """{"B":3,"C":4,"A":5}""");

        static LogEventProperty Property(string name, object value) => new(name, new ScalarValue(value));
    }

    [Fact]
    public void A_secret_is_taken_out_whether_it_stands_in_the_message_or_beside_it()
    {
        const string Secret = "zqSECRETzq";
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().LogTrace(logger).CreateLogger())
        {
            log.ForContext("Beside", "token=" + Secret).Information("All is {State}", "well");
            log.Information("Got {Text}", "token=" + Secret);
            log.Information("Got {Text:l} and {Text,5}", "token=" + Secret);
            log.Information("password={Text}", Secret);
            log.Information("The {Password} of {@User}", Secret, new { Name = "ann", Password = Secret });
        }

        // What the template alone makes a secret is one in the message; the value has a name of its own under extra.
        Written.Lines(LogPath).Where(line => line.Contains(Secret, StringComparison.Ordinal)).Should().ContainSingle().Which.Should().Contain("\"msg\":\"password=***\"");
    }

    [Fact]
    public void A_line_says_of_its_scope_what_held_when_it_was_logged()
    {
        var spans = new List<string>();
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().LogTrace(logger).CreateLogger())
        using (var disk = new StoppedDisk(logger.File!))
        {
            using (var scope = logger.StartRequest("POST /orders", "", new IncomingTrace { TraceId = "t-1", Prefix = "1.3", ParentSpan = 0xabc, DebugUntil = DateTimeOffset.MaxValue }))
            {
                log.Debug("begun");
                using (scope.BeginCall("redis.request")) log.Information("called");
                using (var fork = scope.Fork("stock"))
                {
                    log.Information("forked");
                    spans.Add(fork.SpanId);
                }

                log.Information("joined");
                spans.Add(scope.SpanId);
            }

            log.Information("ended");
            disk.GoOn();
        }

        var records = Written.Records(LogPath).Where(record => record.Kind == RecordKind.Event).ToList();
        records.Select(record => $"{record.Msg} {record.TraceId} {record.RpcId} {record.SpanId} {record.ParentSpanId} {record.Debug}").Should().Equal(
            $"begun t-1 1.3.1 {spans[1]} 0000000000000abc True", $"called t-1 1.3.2 {spans[1]} 0000000000000abc True", $"forked t-1 1.3.3.1 {spans[0]} {spans[1]} True",
            $"joined t-1 1.3.3 {spans[1]} 0000000000000abc True", "ended     ");
    }

    [Fact]
    public void Events_that_only_the_file_gets_need_no_properties_for_their_ids()
    {
        var logged = new LogEvent(DateTimeOffset.UtcNow, LogEventLevel.Information, null, new MessageTemplate("Hello", []), []);
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().Enrich.WithProperty("Host", "a").LogTrace(logger).Enrich.FromLogContext().Enrich.WithProperty("rpc_id", "9").CreateLogger())
        using (logger.StartTrace("job"))
        {
            log.Write(logged);
        }

        logged.Properties.Keys.Should().Equal("Host", "rpc_id");
        Written.Records(LogPath)[0].RpcId!.Value.Text.Should().Be("1.1");
    }

    public static TheoryData<string, Func<LoggerConfiguration, TraceLogger, List<string>, LoggerConfiguration>> Observers => new()
    {
        { "a sink", (with, tracer, seen) => with.LogTrace(tracer).WriteTo.Sink(new Observer(seen)) },
        { "a sink before", (with, tracer, seen) => with.WriteTo.Sink(new Observer(seen)).LogTrace(tracer) },
        { "a sink for audits", (with, tracer, seen) => with.LogTrace(tracer).AuditTo.Sink(new Observer(seen)) },
        { "a filter", (with, tracer, seen) => with.LogTrace(tracer).Filter.With(new Observer(seen)) },
        { "an enricher behind", (with, tracer, seen) => with.LogTrace(tracer).Enrich.With(new Observer(seen)) },
        { "a logger within", (with, tracer, seen) => with.Enrich.WithTrace().WriteTo.Logger(inner => inner.WriteTo.TraceFile(tracer).WriteTo.Sink(new Observer(seen))) },
        { "a condition", (with, tracer, seen) => with.Enrich.When(_ => true, enrich => enrich.WithTrace()).WriteTo.TraceFile(tracer).Enrich.With(new Observer(seen)) },
        { "nobody, in a logger within", (with, tracer, _) => with.WriteTo.Logger(inner => inner.LogTrace(tracer)) },
        { "nobody, by parts", (with, tracer, _) => with.Enrich.WithTrace().WriteTo.TraceFile(tracer) },
        { "nobody, twice", (with, tracer, _) => with.Enrich.WithTrace().LogTrace(tracer) },
    };

    [Theory]
    [MemberData(nameof(Observers))]
    public void Who_else_sees_the_events_sees_their_ids_and_makes_no_difference_to_the_lines(string observer, Func<LoggerConfiguration, TraceLogger, List<string>, LoggerConfiguration> configure)
    {
        var seen = new List<string>();
        using (var logger = NewLogger(file => file))
        using (var alone = new LoggerConfiguration().LogTrace(logger).CreateLogger())
        using (var observed = configure(new LoggerConfiguration(), logger, seen).CreateLogger())
        using (logger.StartRequest("POST /orders", "", new IncomingTrace { TraceId = "t-1", Prefix = "1.3", ParentSpan = 0xabc, DebugUntil = DateTimeOffset.MaxValue }))
        {
            foreach (var log in (ILogger[])[alone, observed])
            {
                log.Information("Order {OrderId} of {User}", 12, "ann");
                log.ForContext("parent_span_id", "none").ForContext("debug", 1).ForContext("sampled", true).ForContext("uid", "u-1").Warning("{trace_id} {rpc_id,8}|{span_id:l}", "forged", "1.9", 3);
                log.Error(new TimeoutException("late"), "Failed");
            }
        }

        var lines = Written.Lines(LogPath).Where(line => line.Contains("\"name\":\"log.", StringComparison.Ordinal)).Select(line => Regex.Replace(line, "\"timestamp(_us)?\":[0-9]+", "")).ToList();
        lines.Should().HaveCount(6);
        lines.Skip(3).Should().Equal(lines.Take(3));
        lines.Should().OnlyContain(line => line.Contains("\"trace_id\":\"t-1\",\"rpc_id\":\"1.3.1\"", StringComparison.Ordinal) && line.Contains("\"debug\":true", StringComparison.Ordinal));
        seen.Should().Equal(observer.StartsWith("nobody", StringComparison.Ordinal) ? [] : Enumerable.Repeat("t-1 1.3.1", 3));
    }

    [Fact]
    public void A_line_that_only_the_file_gets_costs_its_caller_no_memory_but_Serilog_s_own()
    {
        using var logger = NewLogger(file => file with { QueueBytes = 64 * 1024 * 1024 });
        using var ours = new LoggerConfiguration().LogTrace(logger).CreateLogger();
        using var nothing = new LoggerConfiguration().WriteTo.Sink(new Nowhere()).CreateLogger();
        using var scope = logger.StartTrace("job");

        Allocation.OfThousand(() => Log(ours)).Should().Be(Allocation.OfThousand(() => Log(nothing)));

        static void Log(ILogger log) => log.Information("Order {OrderId} of {User} costs {Price}", 12, "ann", 12.5);
    }

    sealed class Nowhere : ILogEventSink
    {
        public void Emit(LogEvent logEvent)
        {
        }
    }

    [Fact]
    public void A_file_without_the_enricher_gets_no_ids()
    {
        using (var logger = NewLogger(file => file))
        using (var log = new LoggerConfiguration().WriteTo.TraceFile(logger).CreateLogger())
        using (logger.StartTrace("job"))
        {
            log.Information("Hello");
        }

        Written.Records(LogPath)[0].TraceId.Should().BeNull();
    }

    sealed class Observer(List<string> seen) : ILogEventSink, ILogEventFilter, ILogEventEnricher
    {
        public void Emit(LogEvent logEvent) => seen.Add($"{logEvent.Properties["trace_id"]:l} {logEvent.Properties["rpc_id"]:l}");

        public bool IsEnabled(LogEvent logEvent)
        {
            Emit(logEvent);
            return true;
        }

        public void Enrich(LogEvent logEvent, ILogEventPropertyFactory propertyFactory) => Emit(logEvent);
    }

    sealed class Broken
    {
        public override string ToString() => throw new InvalidOperationException();
    }

    sealed class Mutable
    {
        public string Text { get; set; } = "";

        public override string ToString() => Text;
    }
}
