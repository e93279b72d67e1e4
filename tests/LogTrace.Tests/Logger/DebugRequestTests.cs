using System.Net;
using System.Net.Sockets;
using System.Text;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Time.Testing;

namespace LogTrace.Tests.Logger;

public sealed class DebugRequestTests
{
    const string Key = "correct horse battery staple";

    static HttpRequestMessage Get(TestService service, string path, params (string Name, string Value)[] headers)
    {
        var request = new HttpRequestMessage(HttpMethod.Get, new Uri(service.Url, path));
        foreach (var (name, value) in headers) request.Headers.Add(name, value);
        return request;
    }

    [Fact]
    public async Task Debug_lines_of_one_request_are_written_in_every_service_and_nobody_elses()
    {
        using var folder = new TempFolder();
        var debugArrived = new TaskCompletionSource();
        var otherDone = new TaskCompletionSource();
        string? keyAtStock = null;
        await using var stock = await TestService.StartAsync(folder, "stock", app => app.MapGet("/items", async (HttpContext context, ILogger<DebugRequestTests> log) =>
        {
            if (context.Request.Headers.ContainsKey("X-Debug"))
            {
                keyAtStock = context.Request.Headers["X-Debug-Key"];
                debugArrived.SetResult();
                await otherDone.Task.Within();
            }

            log.LogDebug("Looking at shelf");
            return "ok";
        }), WithKey);
        await using var gateway = await TestService.StartAsync(folder, "gateway", app => app.MapGet("/checkout", async (IHttpClientFactory clients, ILogger<DebugRequestTests> log) =>
        {
            log.LogDebug("Checking out");
            log.LogTrace("Too fine even for a debug request");
            return await clients.CreateClient().GetStringAsync(new Uri(stock.Url, "items"));
        }), WithKey);
        using var client = new HttpClient();

        var debugged = client.SendAsync(Get(gateway, "checkout", ("X-Debug", "1"), ("X-Debug-Key", Key)));
        await debugArrived.Task.Within();
        // In flight at the same time: its lines stay out.
        var other = await client.SendAsync(Get(gateway, "checkout"));
        otherDone.SetResult();
        var traceId = (await debugged.Within()).Headers.GetValues("X-Trace-Id").Single();
        await client.SendAsync(Get(gateway, "checkout", ("X-Debug", "1"), ("X-Debug-Key", "wrong key, wrong key")));
        await client.SendAsync(Get(gateway, "checkout", ("X-Debug", "1")));

        other.StatusCode.Should().Be(HttpStatusCode.OK);
        keyAtStock.Should().MatchRegex(@"^t1\.[0-9]+\.[A-Za-z0-9_-]{43}$");
        await Eventually.HoldsAsync(() => gateway.Logger.LevelSwitch.MinimumLevel == Serilog.Events.LogEventLevel.Information, "no debug request is in flight any more");
        var lines = (await gateway.StopAndReadLinesAsync()).Concat(await stock.StopAndReadLinesAsync()).ToList();
        lines.Should().NotContain(line => line.Contains(Key, StringComparison.Ordinal) || line.Contains(keyAtStock!, StringComparison.Ordinal));
        var records = lines.Select(Written.Record).ToList();
        records.Where(record => record.Name == "log.debug" && record.Action!.EndsWith(nameof(DebugRequestTests), StringComparison.Ordinal)).Select(record => $"{record.Service} {record.Msg}").Should().BeEquivalentTo(["gateway Checking out", "stock Looking at shelf"]);
        records.Where(record => record.Name == "log.debug").Should().OnlyContain(record => record.TraceId == traceId);
        records.Where(record => record.TraceId == traceId).Should().OnlyContain(record => record.Debug == true);
        records.Where(record => record.TraceId != traceId).Should().OnlyContain(record => record.Debug == null);
        records.Should().NotContain(record => record.Name == "log.trace");

        static LogTraceOptions WithKey(LogTraceOptions options) => options with { DebugKey = Key };
    }

    [Fact]
    public async Task A_public_caller_with_the_key_gets_debug_lines_but_its_ids_are_ignored()
    {
        using var folder = new TempFolder();
        await using var service = await TestService.StartAsync(folder, "orders", app => app.MapGet("/", (ILogger<DebugRequestTests> log) =>
        {
            log.LogDebug("seen");
            return "ok";
        }), options => options with { DebugKey = Key, Callers = [] });
        using var client = new HttpClient();

        var plain = await client.SendAsync(Get(service, "", ("X-Trace-Id", "forged"), ("X-Rpc-Id", "1.2")));
        var keyed = await client.SendAsync(Get(service, "", ("X-Trace-Id", "forged"), ("X-Rpc-Id", "1.2"), ("X-Debug", "1"), ("X-Debug-Key", Key)));

        plain.Headers.Contains("X-Trace-Id").Should().BeFalse("strangers are told nothing");
        var traceId = keyed.Headers.GetValues("X-Trace-Id").Single();
        var records = (await service.StopAsync()).Where(record => record.TraceId is not null).ToList();
        records.Should().OnlyContain(record => record.TraceId != "forged" && record.RpcId!.Value.Text == "1.1");
        records.Should().ContainSingle(record => record.Msg == "seen").Which.TraceId.Should().Be(traceId);
    }

    [Fact]
    public async Task A_stranger_s_traceparent_is_not_adopted_where_callers_are_ignored()
    {
        using var folder = new TempFolder();
        await using var service = await TestService.StartAsync(folder, "orders", app => app.MapGet("/", () => "ok"), options => options with { Callers = [] });
        using var client = new HttpClient();

        await client.SendAsync(Get(service, "", ("traceparent", "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01")));

        var request = (await service.StopAsync()).Single(record => record.Name == "request.info");
        request.TraceId.Should().NotBe("0123456789abcdef0123456789abcdef");
        request.ParentSpanId.Should().BeNull();
        request.RpcId!.Value.Text.Should().Be("1.1");
    }

    [Fact]
    public async Task Two_ids_in_place_of_one_are_no_context()
    {
        using var folder = new TempFolder();
        await using var service = await TestService.StartAsync(folder, "orders", app => app.MapGet("/", () => "ok"));

        await SendAsync("X-Trace-Id: t1\r\nX-Rpc-Id: 1.2\r\nX-Rpc-Id: 1.3\r\n");
        await SendAsync("X-Trace-Id: t1\r\nX-Trace-Id: t2\r\nX-Rpc-Id: 1.2\r\n");

        var requests = (await service.StopAsync()).Where(record => record.Name == "request.info").ToList();
        requests.Should().HaveCount(2).And.OnlyContain(record => record.RpcId!.Value.Text == "1.1" && record.TraceId != "t1" && record.TraceId != "t2");

        // By hand: HttpClient would send two values in one line.
        async Task SendAsync(string headers)
        {
            using var connection = new TcpClient();
            await connection.ConnectAsync(service.Url.Host, service.Url.Port);
            await connection.GetStream().WriteAsync(Encoding.ASCII.GetBytes($"GET / HTTP/1.1\r\nHost: {service.Url.Authority}\r\nConnection: close\r\n{headers}\r\n"));
            using var reader = new StreamReader(connection.GetStream());
            (await reader.ReadToEndAsync().Within()).Should().StartWith("HTTP/1.1 200");
        }
    }

    [Theory]
    [InlineData(CallerTrust.Ignore, null, null)]
    [InlineData(CallerTrust.Accept, "0123456789abcdef0123456789abcdef", null)]
    [InlineData(CallerTrust.Trust, "0123456789abcdef0123456789abcdef", (byte)0)]
    public void Ids_are_accepted_and_the_sampling_decision_is_trusted(CallerTrust trust, string? traceId, byte? flags)
    {
        using var logger = new TraceLogger(new() { Service = "a", Department = "d" });

        var incoming = logger.Judge(trust, "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-00", (header, name) => name == TraceHeaders.TraceParent ? header : null);

        (incoming.TraceId, incoming.TraceFlags).Should().Be((traceId, flags));
    }

    [Fact]
    public void A_token_is_good_for_its_trace_and_time_only()
    {
        var time = new FakeTimeProvider();
        var options = new LogTraceOptions { Service = "a", Department = "d", DebugKey = Key };
        var gate = new DebugGate(options, time);
        var token = gate.Token("trace-1", time.GetUtcNow() + TimeSpan.FromMinutes(1))!;

        gate.Admit(token, "trace-1").Should().Be(DateTimeOffset.FromUnixTimeSeconds((time.GetUtcNow() + TimeSpan.FromMinutes(1)).ToUnixTimeSeconds()), "its end does not move when it is handed on");
        gate.Admit(token, "trace-2").Should().BeNull();
        gate.Admit(token, null).Should().BeNull();
        gate.Admit(token[..^1] + (token[^1] == 'A' ? 'E' : 'A'), "trace-1").Should().BeNull();
        gate.Admit(token.Replace("t1.", "t1.9", StringComparison.Ordinal), "trace-1").Should().BeNull();
        new DebugGate(options with { DebugKey = "another key, long enough" }, time).Admit(token, "trace-1").Should().BeNull();
        time.Advance(TimeSpan.FromMinutes(2));
        gate.Admit(token, "trace-1").Should().BeNull();
    }

    [Fact]
    public void Guessing_is_stopped_for_who_guesses_and_for_nobody_else()
    {
        var time = new FakeTimeProvider();
        var gate = new DebugGate(new() { Service = "a", Department = "d", DebugKey = Key, MaxWrongDebugKeysPerMinute = 3, MaxDebugRequestsPerMinute = 2 }, time);
        var stranger = IPAddress.Parse("203.0.113.7");
        for (var i = 0; i < 3; i++) gate.Admit($"guess {i}", null, stranger, CallerTrust.Ignore).Should().BeNull();

        gate.Admit(Key, null, stranger, CallerTrust.Ignore).Should().BeNull("no key of this caller is looked at any more");
        gate.Admit(Key, null, IPAddress.Parse("203.0.113.8"), CallerTrust.Ignore).Should().NotBeNull("another caller has guessed nothing");
        time.Advance(TimeSpan.FromMinutes(1));
        gate.Admit(Key, null, stranger, CallerTrust.Ignore).Should().NotBeNull();
        gate.Admit(Key, null, stranger, CallerTrust.Ignore).Should().NotBeNull();
        gate.Admit(Key, null, stranger, CallerTrust.Ignore).Should().BeNull("two in a minute are allowed");
    }

    [Fact]
    public void A_hundred_thousand_strangers_who_guess_stop_no_trusted_caller_and_take_bounded_memory()
    {
        var gate = new DebugGate(new() { Service = "a", Department = "d", DebugKey = Key, MaxWrongDebugKeysPerMinute = 3 }, new FakeTimeProvider());
        for (var i = 0; i < 100_000; i++) gate.Admit("a guess", null, new IPAddress([198, (byte)(i >> 16), (byte)(i >> 8), (byte)i]), CallerTrust.Ignore);

        gate.Admit(Key, null, IPAddress.Parse("203.0.113.9"), CallerTrust.Ignore).Should().BeNull("strangers beyond the counted ones share a limit");
        gate.Admit(Key, null, IPAddress.Parse("10.0.0.9"), CallerTrust.Trust).Should().NotBeNull();
    }

    [Fact]
    public void Addresses_of_one_network_in_IPv6_are_one_caller()
    {
        var gate = new DebugGate(new() { Service = "a", Department = "d", DebugKey = Key, MaxWrongDebugKeysPerMinute = 3 }, new FakeTimeProvider());
        for (var i = 1; i < 4; i++) gate.Admit("a guess", null, IPAddress.Parse($"2001:db8:1:1::{i}"), CallerTrust.Ignore);

        gate.Admit(Key, null, IPAddress.Parse("2001:db8:1:1:ffff::1"), CallerTrust.Ignore).Should().BeNull();
        gate.Admit(Key, null, IPAddress.Parse("2001:db8:1:2::1"), CallerTrust.Ignore).Should().NotBeNull();
    }

    [Fact]
    public void Each_key_has_a_limit_and_all_of_them_have_one()
    {
        const string anna = "anna's key, long enough", berta = "berta's key, long enough";
        var options = new LogTraceOptions { Service = "a", Department = "d", DebugKey = Key, DebugKeys = [anna, berta], MaxDebugRequestsPerMinute = 2, MaxDebugHandledPerMinute = 4 };
        options.Validate().Should().BeEmpty();
        var gate = new DebugGate(options, new FakeTimeProvider());

        bool[] admitted = [.. new[] { anna, anna, anna, berta, Key, Key }.Select(key => gate.Admit(key, null) is not null)];

        admitted.Should().Equal(true, true, false, true, true, false);
    }

    [Fact]
    public void A_token_of_a_key_that_is_being_replaced_is_still_taken()
    {
        const string next = "the next key, long enough";
        var time = new FakeTimeProvider();
        var options = new LogTraceOptions { Service = "a", Department = "d" };
        var token = new DebugGate(options with { DebugKey = Key }, time).Token("t", time.GetUtcNow() + TimeSpan.FromMinutes(1));

        new DebugGate(options with { DebugKey = next, DebugKeys = [Key] }, time).Admit(token, "t").Should().NotBeNull();
        new DebugGate(options with { DebugKey = next }, time).Admit(token, "t").Should().BeNull();
    }

    [Theory]
    [InlineData("t1.looks like a token", "LogTrace:DebugKey begins with 't1.'; it must begin otherwise, so do the tokens that services make of it.")]
    [InlineData("short", "LogTrace:DebugKey has 5 characters; it must have at least 16. Leave it out to have no debug requests.")]
    [InlineData("clé qui ne passe pas", "LogTrace:DebugKey has characters that a header cannot carry; it must be of visible ASCII, with blanks only inside.")]
    [InlineData("ends in a blank, alas ", "LogTrace:DebugKey has characters that a header cannot carry; it must be of visible ASCII, with blanks only inside.")]
    public void A_key_that_could_never_open_is_refused_and_not_repeated(string key, string problem)
    {
        var problems = new LogTraceOptions { Service = "a", Department = "d", DebugKey = key }.Validate();

        problems.Should().Equal(problem);
    }

    [Fact]
    public void Options_printed_by_accident_show_no_key() =>
        new LogTraceOptions { Service = "a", Department = "d", DebugKey = Key, DebugKeys = [Key + "2"] }.ToString().Should().NotContain(Key);

    [Theory]
    [InlineData("X-Forwarded-For", "203.0.113.7", false)]
    [InlineData("X-Forwarded-For", "127.0.0.1, 203.0.113.7", false)]
    [InlineData("X-Forwarded-For", "203.0.113.7, 10.0.0.3", false)]
    [InlineData("X-Forwarded-For", "unknown", false)]
    [InlineData("X-Real-IP", "203.0.113.7", false)]
    [InlineData("Forwarded", "for=203.0.113.7;proto=https", false)]
    [InlineData("Forwarded", "for=\"[2001:db8::7]:4711\"", false)]
    [InlineData("Forwarded", "proto=https;by=10.0.0.3", false)]
    [InlineData("X-Forwarded-For", "10.0.0.3", true)]
    [InlineData("Forwarded", "for=10.0.0.3, For=\"[fd00::7]\"", true)]
    public async Task Callers_behind_a_proxy_that_nobody_listed_are_believed_no_further_than_the_least_of_them(string header, string value, bool believed)
    {
        using var folder = new TempFolder();
        await using var service = await TestService.StartAsync(folder, "orders", app => app.MapGet("/", () => "ok"));
        using var client = new HttpClient();

        var response = await client.SendAsync(Get(service, "", (header, value), ("X-Trace-Id", "t1"), ("X-Rpc-Id", "1.2")));

        response.Headers.Contains("X-Trace-Id").Should().Be(believed);
        var request = (await service.StopAsync()).Single(record => record.Name == "request.info");
        request.RpcId!.Value.Text.Should().Be(believed ? "1.2.1" : "1.1");
        request.Text(LogTrace.Records.RecordField.ClientIp).Should().Be("127.0.0.1", "the header of an unknown proxy names nobody");
    }

    [Fact]
    public void Without_a_key_there_are_no_debug_requests()
    {
        var gate = new DebugGate(new() { Service = "a", Department = "d" }, new FakeTimeProvider());

        gate.Admit("", null).Should().BeNull();
        gate.Admit("anything", null).Should().BeNull();
        gate.Token("t", DateTimeOffset.MaxValue).Should().BeNull();
    }
}
