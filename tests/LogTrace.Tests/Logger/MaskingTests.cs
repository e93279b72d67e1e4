using System.Text;
using System.Text.Json;
using CsCheck;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Serilog;

namespace LogTrace.Tests.Logger;

public sealed class MaskingTests
{
    const string DebugKey = "correct horse battery staple";

    static string Mask(string text, TraceMaskingOptions? options = null)
    {
        options ??= new();
        options.Validate().Should().BeEmpty();
        return new TraceMask(options, [DebugKey]).Field(RecordField.Msg, text)!;
    }

    [Theory]
    [InlineData("page=2&access_token=abc.def&x=1", "page=2&access_token=***&x=1")]
    [InlineData("user[password]=hunter2&ok=1", "user[password]=***&ok=1")]
    [InlineData("PASSWORD=hunter2", "PASSWORD=***")]
    [InlineData("Server=db;User Id=sa;Password=p@ss w0rd;Timeout=3", "Server=db;User Id=sa;Password=*** w0rd;Timeout=3")]
    [InlineData("""{"user":"anna","password":"hun\"ter2","n":1}""", """{"user":"anna","password":"***","n":1}""")]
    [InlineData("""{"apiKey": 12345, "n":1}""", """{"apiKey": "***", "n":1}""")]
    [InlineData("""{"refreshToken": {"value":"x}","list":[1,2]}, "n":1}""", """{"refreshToken": "***", "n":1}""")]
    [InlineData("""{"body":"{\"client_secret\":\"s3cr3t\",\"n\":1}"}""", """{"body":"{\"client_secret\":\"***\",\"n\":1}"}""")]
    [InlineData("""{"body":"{\"token\":77,\"n\":1}"}""", """{"body":"{\"token\":\"***\",\"n\":1}"}""")]
    [InlineData("{'db_password' : 'x', 'n': 1}", "{'db_password' : '***', 'n': 1}")]
    [InlineData("Authorization: Bearer eyJhbGciOi.J9.x-y, more\nHost: a", "Authorization: ***\nHost: a")]
    [InlineData("Proxy-Authorization: Basic dXNlcjpwYXNz", "Proxy-Authorization: ***")]
    [InlineData("set-cookie: sid=abc; Path=/; HttpOnly\r\nVary: x", "set-cookie: ***\r\nVary: x")]
    [InlineData("Cookie: a=b; c=d", "Cookie: ***")]
    [InlineData("sent bearer eyJhbGciOiJIUzI1NiJ9.e30.x to stock", "sent bearer *** to stock")]
    [InlineData("token: Bearer abcdef, next", "token: ***, next")]
    [InlineData("amqp://shop:s3cr3t@mq:5672/vhost", "amqp://shop:***@mq:5672/vhost")]
    [InlineData("X-Debug-Key: t1.1700000000.AAAA", "X-Debug-Key: ***")]
    [InlineData("it is correct horse battery staple, they say", "it is ***, they say")]
    [InlineData("csrfToken=>abc password=\"a b\" pwd='c d' end", "csrfToken=>*** password=\"***\" pwd='***' end")]
    public void Secrets_are_taken_out_by_name(string text, string masked)
    {
        Mask(text).Should().Be(masked);
        Mask(masked).Should().Be(masked, "what is masked stays as it is");
    }

    [Theory]
    [InlineData("password")]
    [InlineData("passwd")]
    [InlineData("pwd")]
    [InlineData("passphrase")]
    [InlineData("secret")]
    [InlineData("secrets")]
    [InlineData("token")]
    [InlineData("authorization")]
    [InlineData("cookie")]
    [InlineData("cookies")]
    [InlineData("api_key")]
    [InlineData("access_key")]
    [InlineData("private_key")]
    [InlineData("session_id")]
    [InlineData("debug_key")]
    [InlineData("credential")]
    [InlineData("credentials")]
    public void Secrets_are_known_in_every_spelling_and_length_of_text(string name)
    {
        string[] spellings = [name, name.Replace("_", ""), name.Replace('_', '-')];
        foreach (var spelling in spellings.SelectMany(spelling => new[] { spelling, spelling.ToUpperInvariant(), "my_" + spelling, "My" + spelling }))
        {
            foreach (var around in new[] { "", "a ", new string('x', 40) + " " })
            {
                Mask($"{around}{spelling}=v").Should().Be($"{around}{spelling}=***");
                Mask($"{around}{spelling}: v").Should().Be($"{around}{spelling}: ***");
                Mask($"{around}{{\"{spelling}\":\"v\"}}").Should().Be($"{around}{{\"{spelling}\":\"***\"}}");
            }
        }
    }

    [Theory]
    [InlineData("the bearer of this letter")]
    [InlineData("tokens are 512")]
    [InlineData("max_tokens=512")]
    [InlineData("tokenizer=fast")]
    [InlineData("update users set password = @p0 where token = ?")]
    [InlineData("password=&token=")]
    [InlineData("http://stock/items/7?page=2")]
    [InlineData("http://[::1]:80/a@b")]
    [InlineData("Secretary: Anna")]
    [InlineData("")]
    public void What_only_looks_like_it_stays_and_costs_nothing(string text)
    {
        var mask = new TraceMask(new(), [DebugKey]);

        mask.Field(RecordField.Msg, text).Should().BeSameAs(text);
        Allocation.OfThousand(() => mask.Field(RecordField.Msg, text)).Should().Be(0);
    }

    [Fact]
    public void Names_can_be_added_and_taken_away()
    {
        var options = new TraceMaskingOptions { Names = ["card_holder", "*Pin"], ExceptNames = ["page_token"] };

        Mask("cardHolder=Anna&card-holder=B&userPin=1234&pageToken=7&token=8&spinner=on", options).Should().Be("cardHolder=***&card-holder=***&userPin=***&pageToken=7&token=***&spinner=on");
        Mask("password=x", new TraceMaskingOptions { Enabled = false }).Should().Be("password=x");
        Mask("key " + DebugKey, new TraceMaskingOptions { Enabled = false }).Should().Be("key ***", "the debug key is never written");
    }

    [Theory]
    [InlineData("203.0.113.77", "203.0.113.0")]
    [InlineData("from 203.0.113.77:4711, retry", "from 203.0.113.0:4711, retry")]
    [InlineData("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::")]
    [InlineData("(fe80::1)", "(fe80::)")]
    [InlineData("::1", "::")]
    [InlineData("at 12:34:56.789 in 1.5 s, 3 of 4, std::vector", "at 12:34:56.789 in 1.5 s, 3 of 4, std::vector")]
    [InlineData("1.1.1.1.1", "1.1.1.1.1")]
    public void Addresses_keep_their_network(string text, string masked) => Mask(text, new() { IpAddresses = true }).Should().Be(masked);

    [Theory]
    [InlineData("paid with 4111 1111 1111 1111 2026", "paid with ***1111 2026")]
    [InlineData("4111-1111-1111-1111", "***1111")]
    [InlineData("{\"pan\":5555555555554444}", "{\"pan\":***4444}")]
    [InlineData("2026-11-23 378282246310005.", "2026-11-23 ***0005.")]
    [InlineData("4111111111111112", "4111111111111112")]
    [InlineData("a4111111111111111", "a4111111111111111")]
    [InlineData("1506480162123", "1506480162123")]
    [InlineData("41111111111111111111111111111111", "41111111111111111111111111111111")]
    public void Card_numbers_keep_their_last_digits(string text, string masked) => Mask(text, new() { CardNumbers = true }).Should().Be(masked);

    [Theory]
    [InlineData("call +49 (30) 1234-5678 now", "call ***78 now")]
    [InlineData("13812345678", "***78")]
    [InlineData("212-555-0187", "***87")]
    [InlineData("0049301234567", "***67")]
    [InlineData("order 1506480162 of 2026", "order 1506480162 of 2026")]
    [InlineData("took 12 ms + 3 ms", "took 12 ms + 3 ms")]
    public void Telephone_numbers_keep_their_last_digits(string text, string masked) => Mask(text, new() { PhoneNumbers = true }).Should().Be(masked);

    [Fact]
    public void A_user_stays_one_user_under_a_key_that_is_told_nobody()
    {
        var options = new TraceMaskingOptions { UserIdKey = "0123456789abcdef", UserIdNames = ["member"] };
        var mask = new TraceMask(options, []);

        var anna = mask.Field(RecordField.Uid, "anna");

        anna.Should().MatchRegex("^u-[0-9a-f]{16}$");
        mask.Field(RecordField.Uid, "anna").Should().Be(anna);
        mask.Field(RecordField.Uid, "berta").Should().NotBe(anna);
        mask.Member("UserId", "anna").Should().Be(anna);
        mask.Field(RecordField.Param, "a=1&member=anna&guid=7&user_id=anna").Should().Be($"a=1&member={anna}&guid=7&user_id={anna}");
        new TraceMask(options with { UserIdKey = "another key of 16" }, []).Field(RecordField.Uid, "anna").Should().NotBe(anna);
        options.ToString().Should().NotContain(options.UserIdKey);
    }

    [Fact]
    public void Patterns_of_one_s_own_are_masked_and_checked_at_the_start()
    {
        Mask("iban DE89370400440532013000 end", new() { Patterns = ["[A-Z]{2}[0-9]{20}"] }).Should().Be("iban *** end");

        var problems = new LogTraceOptions { Service = "a", Department = "d", Masking = new() { Patterns = ["(", @"(a)\1", "x*"], Fields = ["trace_id"], Names = ["*", "a b"], UserIdKey = "short" } }.Validate();
        problems.Should().HaveCount(7).And.OnlyContain(problem => problem.StartsWith("LogTrace:Masking:", StringComparison.Ordinal) && !problem.Contains("short", StringComparison.Ordinal));
    }

    [Fact]
    public void A_pattern_that_backtracks_elsewhere_does_not_here() =>
        Mask(new string('a', 100_000) + "!", new() { Patterns = ["(a+)+$"] }).Should().HaveLength(100_001);

    public static TheoryData<string> Hostile => new()
    {
        "password", "password=", "password=\"", "password=\\\"", "password:{", "token:[{\"\\\"", "\\\"token\\\":\\\"", "\"token\\", "://", "://a:", "://a:b", "bearer ", "Bearer ://token=", "1.1.", "1:1:", "+", "+1 ", "1 ", "4111-",
        "a1:", "password password:", "cookie:", "\ud83d", "pass\0word=", "token=\ud83d\ude00", "token-_-", "_-", "{", "\"\\", "4", "1a", "f:", "(1)",
    };

    [Theory]
    [MemberData(nameof(Hostile))]
    public async Task Hostile_texts_take_time_in_proportion_to_their_length(string unit)
    {
        var mask = new TraceMask(new() { IpAddresses = true, CardNumbers = true, PhoneNumbers = true, UserIdKey = "0123456789abcdef" }, [DebugKey]);
        var text = string.Concat(Enumerable.Repeat(unit, 4_000_000 / unit.Length));

        // Milliseconds where the time is linear; the deadline is half a minute, and what is quadratic would take hours.
        await Task.Run(() => mask.Field(RecordField.Msg, text)).Within();
    }

    [Fact]
    public void Random_texts_never_break_it_and_a_secret_between_them_never_survives()
    {
        var mask = new TraceMask(new() { IpAddresses = true, CardNumbers = true, PhoneNumbers = true, UserIdKey = "0123456789abcdef" }, [DebugKey]);
        var noise = Gen.OneOf(Gen.String, Gen.String[Gen.Char["0123456789abcdef:.+-()= \"\\{}[]&;/@token"], 0, 60]);

        Gen.Select(noise, noise).Sample((before, after) =>
        {
            mask.Field(RecordField.Msg, before + after);
            mask.Field(RecordField.Msg, $"{before} my_password=zqzqzqzq {after}").Should().NotContain("zqzqzqzq");
            mask.Field(RecordField.Msg, $"{before}{DebugKey}{after}").Should().NotContain(DebugKey);
        }, iter: 20_000);
    }

    [Fact]
    public async Task Nothing_secret_reaches_the_file_by_any_way()
    {
        using var folder = new TempFolder();
        const string secret = "zqSECRETzq";
        await using var service = await TestService.StartAsync(folder, "orders", app => app.MapGet("/login", (ILogger<MaskingTests> log) =>
        {
            log.LogInformation("Login with {Password} and {@Form}", secret, new { User = "anna", ApiKey = secret, Inner = new Dictionary<string, object> { ["access_token"] = secret, ["list"] = new[] { "token=" + secret } } });
            log.LogError(new InvalidOperationException("no connection: Server=db;Password=" + secret), "Request {Body} failed", $$"""{"password":"{{secret}}"}""");
            TraceContext.Current!.AddExtra("session_id", secret);
            TraceContext.Current!.AddExtra("note", "cookie=" + secret);
            using var call = TraceOperation.Begin("http.get", "https://anna:" + secret + "@stock/items", "token=" + secret);
            call!.Response = $$"""{"refresh_token":"{{secret}}"}""";
            call.Fail(new InvalidOperationException("Authorization: Bearer " + secret));
            return "ok";
        }), options => options with { DebugKey = DebugKey, Masking = new() { IpAddresses = true, Fields = ["user_agent"] } });
        using var client = new HttpClient();
        client.DefaultRequestHeaders.Add("User-Agent", secret);
        client.DefaultRequestHeaders.Add("Referer", "http://shop.example/?token=" + secret);
        await client.GetStringAsync(new Uri(service.Url, "login?password=" + secret + "&page=2"));

        var lines = await service.StopAndReadLinesAsync();

        lines.Should().NotContain(line => line.Contains(secret, StringComparison.Ordinal));
        var records = lines.Select(Written.Record).ToList();
        var request = records.Single(record => record.Name == "request.info");
        request.Param.Should().Be("password=***&page=2");
        request.Text(RecordField.ClientIp).Should().Be("127.0.0.0");
        request.Text(RecordField.UserAgent).Should().Be("***");
        request.Text(RecordField.Source).Should().Be("http://shop.example/?token=***");
        var login = records.Single(record => record.Msg?.StartsWith("Login", StringComparison.Ordinal) == true);
        login.Msg.Should().StartWith("Login with *** and ").And.Contain("anna");
        JsonDocument.Parse(login.ExtraJson!).RootElement.GetProperty("Form").GetProperty("User").GetString().Should().Be("anna");
    }

    [Theory]
    [InlineData(65_536)]
    // Cut within the secret.
    [InlineData(40)]
    public async Task Bodies_that_are_kept_are_masked_on_both_sides_of_a_call(int kept)
    {
        using var folder = new TempFolder();
        const string secret = "zqSECRETzq";
        const string json = $$"""{"user":"anna","note":"a","password":"{{secret}}"}""";
        var bodies = new TraceInstrumentationOptions { MaxRequestBodyBytes = kept, MaxResponseBodyBytes = kept };
        await using var service = await TestService.StartAsync(
            folder, "orders", app => app.MapPost("/login", (JsonElement form) => Results.Text(json, "application/json")), options => options with { Instrumentation = bodies });
        using var caller = new TraceLogger(TestService.Options("caller", folder["caller.log"]) with { Instrumentation = bodies });
        using var client = new HttpClient(new TraceHttpHandler(new SocketsHttpHandler()));
        using (caller.StartTrace("test"))
        using (var form = new StringContent(json, Encoding.UTF8, "application/json"))
        using (var answer = await client.PostAsync(new Uri(service.Url, "login"), form))
            (await answer.Content.ReadAsStringAsync()).Should().Be(json, "only records are masked");

        caller.Dispose();
        var call = Written.Records(folder["caller.log"]).Single(record => record.Name == "http.post");
        var request = (await service.StopAsync()).Single(record => record.Name == "request.info");

        foreach (var record in new[] { call, request })
        {
            record.Param.Should().Contain("anna").And.NotContain("zqS");
            record.Text(RecordField.Response).Should().Contain("anna").And.NotContain("zqS");
        }
    }

    [Fact]
    public void Records_through_serilog_are_masked_alike()
    {
        var options = new LogTraceOptions { Service = "orders", Department = "d", ServerIp = "10.0.0.1", Masking = new() { UserIdKey = "0123456789abcdef" } };
        var text = new StringWriter(new StringBuilder());
        using var direct = new TempFolder();
        string Uid(TraceLogger tracer)
        {
            using var scope = tracer.StartTrace("job", "token=abc");
            scope.Uid = "anna";
            scope.AddExtra("uid", "anna");
            return scope.TraceId;
        }

        using (var serilog = new LoggerConfiguration().WriteTo.Sink(new FormattingSink(new TraceRecordFormatter(options), text)).CreateLogger())
        using (var tracer = new TraceLogger(options, serilog))
            Uid(tracer);
        using (var tracer = new TraceLogger(options with { File = new() { Path = direct["a.log"] } })) Uid(tracer);

        var through = Written.Record(text.ToString());
        var straight = Written.Records(direct["a.log"]).Single();
        (through.Param, through.Uid, through.ExtraJson).Should().Be((straight.Param, straight.Uid, straight.ExtraJson));
        through.Param.Should().Be("token=***");
        through.ExtraJson.Should().Contain(through.Uid);
    }

    sealed class FormattingSink(Serilog.Formatting.ITextFormatter formatter, TextWriter output) : Serilog.Core.ILogEventSink
    {
        public void Emit(Serilog.Events.LogEvent logEvent) => formatter.Format(logEvent, output);
    }
}
