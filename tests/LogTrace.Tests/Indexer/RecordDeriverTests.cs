using System.Text;
using CsCheck;
using LogTrace.Indexer;
using LogTrace.Records;
using LogTrace.Tests.Records;

namespace LogTrace.Tests.Indexer;

public sealed class RecordDeriverTests
{
    static IndexedRecord Derive(TraceRecord record) => RecordDeriver.Derive(record, 1, 2, "app.log", 3, 4);

    static IndexedRecord Derive(string line)
    {
        RecordCodec.TryRead(Encoding.UTF8.GetBytes(line), out var record, out var reason).Should().BeTrue(reason);
        return Derive(record);
    }

    static TraceRecord Call(string name, string action) => new() { Name = name, Action = action };

    [Fact]
    public void Identity_and_position_are_kept()
    {
        var derived = Derive(new TraceRecord { Name = "log.info", TimestampMicros = 7 });
        (derived.RecordId, derived.LineHash, derived.SourceFile, derived.SourceOffset, derived.IngestedMicros).Should().Be(((UInt128)1, (UInt128)2, "app.log", 3L, 4L));
    }

    [Theory]
    [InlineData("orders", "php-other-1", "shop_a_b", "orders", true)]
    [InlineData(null, "dotnet-orders-1.4", "shop_a_b", "orders", true)]
    [InlineData(null, "php-baseserver-4.0", "shop_a_b", "baseserver", true)]
    [InlineData(null, "java-order-service-2", null, "order-service", true)]
    [InlineData(null, "php-4", "js_game1_start", "js", false)]
    [InlineData(null, "php--4", "js_game1_start", "js", false)]
    [InlineData(null, "php-orders-beta", "js_game1_start", "js", false)]
    [InlineData(" ", "php-orders-", "js", "js", false)]
    [InlineData(null, null, null, null, false)]
    [InlineData(null, null, "_a", null, false)]
    public void Service_is_the_field_else_in_the_version_else_guessed_from_the_module(string? service, string? version, string? module, string? expected, bool isCertain)
    {
        var derived = Derive(new TraceRecord { Service = service, Version = version, Module = module });
        derived.Service.Should().Be(expected);
        derived.ServiceIsCertain.Should().Be(isCertain);
    }

    [Fact]
    public void Guessed_service_is_bettered_by_other_records_of_the_process()
    {
        var records = AppendixLinesTests.Lines.Select(Derive).ToArray();
        records.Select(record => record.Service).Should().Equal("baseserver", "baseserver", "js", "js", "game1", "game1", "game1", "game1", "rti");
        for (var time = 0; time < 2; time++)
        {
            RecordDeriver.ResolveServices(records);
            records.Take(8).Select(record => record.Service).Should().OnlyContain(service => service == "baseserver");
            records[8].Service.Should().Be("rti");
        }
    }

    [Fact]
    public void Process_that_holds_several_services_betters_nothing()
    {
        IndexedRecord Of(string? service) => Derive(new TraceRecord { Service = service, Module = "shop_x", ServerIp = "10.0.0.1", Pid = "7-1" });
        var records = new[] { Of("gateway"), Of("orders"), Of(null), Of("gateway") };
        RecordDeriver.ResolveServices(records);
        records[2].Service.Should().Be("shop");
        RecordDeriver.ResolveServices([]);
    }

    [Theory]
    [InlineData("request.info", RecordKind.Server, 750)]
    [InlineData("http.get", RecordKind.Client, 750)]
    [InlineData("fork.info", RecordKind.Internal, 750)]
    [InlineData("log.info", RecordKind.Event, 1000)]
    [InlineData("metric.gauge", RecordKind.Metric, 1000)]
    public void Work_starts_its_duration_before_it_was_logged(string name, RecordKind kind, long start)
    {
        var derived = Derive(new TraceRecord { Name = name, TimestampMicros = 1000, DurationMicros = 250 });
        derived.Kind.Should().Be(kind);
        derived.StartMicros.Should().Be(start);
    }

    [Theory]
    [InlineData("request.info", "500", true)]
    [InlineData("request.info", "404", false)]
    [InlineData("request.info", "hy20001", false)]
    [InlineData("request.info.error", "200", true)]
    [InlineData("http.get", "503", true)]
    [InlineData("http.get", "1503", false)]
    [InlineData("mysql.request", "550", false)]
    [InlineData("mysql.request.error", "1062", true)]
    [InlineData("log.info", "500", false)]
    [InlineData("log.error", null, true)]
    [InlineData("log.alarm", null, true)]
    [InlineData("log.exception", null, true)]
    [InlineData(null, "500", false)]
    public void Error_is_what_the_name_says_or_an_answer_of_the_500s(string? name, string? code, bool isError)
    {
        var derived = Derive(new TraceRecord { Name = name, Code = code });
        derived.IsError.Should().Be(isError);
        (derived.ErrorKey is not null).Should().Be(isError);
    }

    [Theory]
    [InlineData("200", 200L)]
    [InlineData("-1", -1L)]
    [InlineData("hy20001", null)]
    [InlineData("99999999999999999999", null)]
    [InlineData(null, null)]
    public void Code_is_a_number_where_it_is_one(string? code, long? number) => Derive(new TraceRecord { Code = code }).CodeNumber.Should().Be(number);

    [Theory]
    [InlineData("select * from orders where id = 7 and name = 'O''Brien'", "select * from orders where id = ? and name = ?")]
    [InlineData("SELECT a FROM t1 WHERE b IN (1, 2,3) AND c NOT IN ('a','b')", "SELECT a FROM t1 WHERE b IN (?) AND c NOT IN (?)")]
    [InlineData("insert into t (a, b) values (1, 'x'), (2, 'y'),(3,'z')", "insert into t (a, b) values (?)")]
    [InlineData("insert into t (a, b) values (@p0, @p1)", "insert into t (a, b) values (?)")]
    [InlineData("select  1.5e-3,\n -2 -- why\n from t /* hint */ where a=$1 and b=:name and c=-3;", "select ?, ? from t where a=? and b=? and c=?")]
    [InlineData("select x::text, \"Odd 'Name\" from t where j = $$it's$$ and k=$q$x$q$", "select x::text, \"Odd 'Name\" from t where j = ? and k=?")]
    [InlineData("select * from [My 'Table] where a = 0xFF and n = N'text'", "select * from [My 'Table] where a = ? and n = ?")]
    [InlineData("select 'unterminated", "select ?")]
    [InlineData("select count(*) from t", "select count(*) from t")]
    [InlineData("update t set a = a + 1 where f(1, x) > 2", "update t set a = a + ? where f(?, x) > ?")]
    public void Sql_loses_its_literals_and_the_length_of_its_lists(string sql, string key) => Derive(Call("sqlite.request", sql)).ActionKey.Should().Be(key);

    [Fact]
    public void Double_quotes_and_backslashes_are_read_as_mysql_does_for_mysql()
    {
        Derive(Call("mysql.request", """select "it\"s" from `a"b` where c = 'x\'y' # done""")).ActionKey.Should().Be("select ? from `a\"b` where c = ?");
        Derive(Call("pgsql.request", """select "it" from t where c = 'x\' and d = 'y'""")).ActionKey.Should().Be("select \"it\" from t where c = ? and d = ?");
    }

    [Theory]
    [InlineData("http.get", "http://stock/items/7?full=1#top", "http://stock/items/{id}", "/items/{id}")]
    [InlineData("http.get", "https://user:secret@Stock:8443/v3/items/4bf92f3577b34da6a3ce929d0e0e4736/a.7", "https://stock:8443/v3/items/{id}/a.7", "/v3/items/{id}/a.7")]
    [InlineData("http.post", "POST http://orders", "POST http://orders/", "/")]
    [InlineData("request.info", "GET /users/0c4a1f5e-9d0b-4e43-8d5c-1f2e3d4c5b6a/avatar.png", "GET /users/{id}/avatar.png", "/users/{id}/avatar.png")]
    [InlineData("request.info", "/reports/2017.pdf?x=1", "/reports/{id}.pdf", "/reports/{id}.pdf")]
    [InlineData("request.info", "/mail/jo@example.com", "/mail/{id}", "/mail/{id}")]
    [InlineData("http.get", "http://", "http:///", "/")]
    public void Url_loses_its_ids_and_its_query(string name, string action, string key, string route)
    {
        var derived = Derive(Call(name, action));
        derived.ActionKey.Should().Be(key);
        derived.Route.Should().Be(route);
    }

    [Theory]
    [InlineData("redis.request", "GET cart:9527", "GET cart:{id}")]
    [InlineData("redis.request", "set user:0c4a1f5e-9d0b-4e43-8d5c-1f2e3d4c5b6a:name \"Bob\" EX 10", "SET user:{id}:name")]
    [InlineData("redis.request", "PING", "PING")]
    [InlineData("memcache.request", "get session_77", "GET session_{id}")]
    [InlineData("kafka.produce", "orders.created", "orders.created")]
    [InlineData("fork.info", "price item 17", "price item {id}")]
    public void Commands_keep_their_verb_and_the_pattern_of_their_key(string name, string action, string key) => Derive(Call(name, action)).ActionKey.Should().Be(key);

    [Theory]
    [InlineData("log.error", null, "order 7 of \"Bob\" took 17ms", null, "order {id} of {text} took {id}ms")]
    [InlineData("http.get.error", "504", "timeout", null, "504: timeout")]
    [InlineData("log.exception", "1", "failed for 7", "System.InvalidOperationException: no stock\n at X()", "System.InvalidOperationException: failed for {id}")]
    [InlineData("log.alarm", null, null, null, "log.alarm")]
    public void Errors_of_one_kind_have_one_key(string name, string? code, string? msg, string? backtrace, string key) =>
        Derive(new TraceRecord { Name = name, Code = code, Msg = msg, Backtrace = backtrace }).ErrorKey.Should().Be(key);

    [Fact]
    public void Template_of_the_message_keys_the_error_where_there_is_one() =>
        Derive("""{"@t":"2026-11-22T10:11:12Z","@mt":"Order {Id} failed","@l":"Error","Id":"abc"}""").ErrorKey.Should().Be("Order {Id} failed");

    [Theory]
    [InlineData("http.get", "10.0.0.7:80", "http://stock/items", "conn", "10.0.0.7:80")]
    [InlineData("http.get", null, "http://me:pw@stock:81/items", "conn", "stock:81")]
    [InlineData("mysql.request", null, "select 1", "orders_replica", "orders_replica")]
    [InlineData("mysql.request", null, null, null, null)]
    [InlineData("request.info", "10.0.0.7:80", "http://stock/items", "conn", null)]
    public void Peer_is_the_target_of_a_call(string name, string? host, string? action, string? instance, string? peer) =>
        Derive(new TraceRecord { Name = name, Host = host, Action = action, InstanceName = instance }).Peer.Should().Be(peer);

    [Fact]
    public void Tags_are_the_scalars_of_extra() =>
        Derive(new TraceRecord { ExtraJson = """{"a":"x=y","n":1.50,"t":true,"f":false,"none":null,"o":{"b":1},"l":[1],"z":"\u00fc"}""" })
            .Tags.Should().Equal("a=x=y", "n=1.50", "t=true", "f=false", "z=ü");

    [Fact]
    public void Tags_are_bounded_in_number_and_bytes()
    {
        var many = "{" + string.Join(',', Enumerable.Range(0, 100).Select(number => $"\"k{number}\":\"{string.Concat(Enumerable.Repeat("😀", 1000))}\"")) + "}";
        var tags = Derive(new TraceRecord { ExtraJson = many }).Tags;
        tags.Should().HaveCount(32);
        tags.Should().OnlyContain(tag => Encoding.UTF8.GetByteCount(tag) <= 256 && Encoding.UTF8.GetByteCount(tag) > 240 && !tag.Contains('\uFFFD'));
    }

    [Theory]
    [InlineData("\"text\"")]
    [InlineData("{\"a\":")]
    [InlineData("{\"a\":\"\\ud800\"}")]
    [InlineData("[1]")]
    [InlineData("no json")]
    public void Extra_without_readable_members_gives_no_tags(string extra) => Derive(new TraceRecord { ExtraJson = extra }).Tags.Should().BeEmpty();

    static readonly string[] Names = ["mysql.request", "sqlite.request.error", "redis.request", "http.get.error", "request.info", "log.error", "", "x"];

    static readonly Gen<string> AnyText = Gen.OneOf(
        Gen.String[0, 60],
        Gen.String[Gen.Char["selct 'x\"`[]()?,;$@:/-#*0123456789.eE\\{}%\n=ü\ud800"], 0, 80],
        Gen.Int[0, 30].Select(count => string.Concat(Enumerable.Repeat("(1,2),$$'/*http://a@", count))));

    [Fact]
    public void Any_text_in_any_field_gives_a_result_and_equal_texts_equal_keys() =>
        Gen.Select(AnyText, Gen.Int[0, Names.Length - 1].Select(index => Names[index])).Sample(
            (text, name) =>
            {
                var record = new TraceRecord
                {
                    Name = name,
                    Action = text,
                    Service = text,
                    Version = text,
                    Module = text,
                    Code = text,
                    Msg = text,
                    Backtrace = text,
                    Host = text,
                    InstanceName = text,
                    ExtraJson = text,
                    Pid = text,
                    ServerIp = text,
                    TimestampMicros = 5,
                    DurationMicros = 7,
                };
                var derived = Derive(record);
                (derived.ActionKey?.Length ?? 0).Should().BeLessThanOrEqualTo(1000);
                (derived.ErrorKey?.Length ?? 0).Should().BeLessThanOrEqualTo(256);
                Derive(record).ActionKey.Should().Be(derived.ActionKey);
                RecordDeriver.ResolveServices([derived, Derive(new TraceRecord { Pid = text, ServerIp = text })]);
            },
            iter: 5_000);

    [Fact]
    public void Megabytes_are_no_trouble()
    {
        foreach (var fragment in new[] { "(1,2),", "'", "/*", "$$", "$a", "http://a@", "a-1", "\"x", ": ", "((" })
        {
            var text = string.Concat(Enumerable.Repeat(fragment, (1 << 20) / fragment.Length));
            foreach (var name in new[] { "mysql.request.error", "pgsql.request", "redis.request", "http.get", "log.error" })
            {
                Derive(new TraceRecord { Name = name, Action = text, Msg = text, Backtrace = text, Version = text, Module = text, Service = text });
            }
        }
    }
}
