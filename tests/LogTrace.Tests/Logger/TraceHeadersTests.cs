using CsCheck;
using LogTrace.Records;

namespace LogTrace.Tests.Logger;

public sealed class TraceHeadersTests
{
    const string Parent = "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01";

    static IncomingTrace Read(params (string Name, string Value)[] headers) =>
        TraceHeaders.Read(headers.ToDictionary(header => header.Name, header => header.Value), (carrier, name) => carrier.GetValueOrDefault(name));

    [Theory]
    [InlineData("abc-123", "1.3")]
    [InlineData("A.b_c:d-9", "0")]
    [InlineData("123jiojfdsao", "0.1")]
    public void Ids_that_keep_the_rules_are_continued(string traceId, string rpcId)
    {
        var incoming = Read(("X-Trace-Id", traceId), ("X-Rpc-Id", rpcId));

        incoming.TraceId.Should().Be(traceId);
        incoming.Prefix.Should().Be(rpcId);
    }

    [Theory]
    [InlineData("", "1.3")]
    [InlineData("a b", "1.3")]
    [InlineData("a\"b", "1.3")]
    [InlineData("a\nb", "1.3")]
    [InlineData("spür", "1.3")]
    [InlineData("abc", "")]
    [InlineData("abc", "1..3")]
    [InlineData("abc", "1.03")]
    [InlineData("abc", "1.3.")]
    [InlineData("abc", "1.x")]
    [InlineData("abc", "1.12345678901234567890")]
    [InlineData("abc", "１.3")]
    public void Ids_that_break_a_rule_are_no_context(string traceId, string rpcId) => Read(("X-Trace-Id", traceId), ("X-Rpc-Id", rpcId)).HasContext.Should().BeFalse();

    [Fact]
    public void Bounds_are_exact()
    {
        Read(("X-Trace-Id", new string('a', 128)), ("X-Rpc-Id", "1")).HasContext.Should().BeTrue();
        Read(("X-Trace-Id", new string('a', 129)), ("X-Rpc-Id", "1")).HasContext.Should().BeFalse();
        Read(("X-Trace-Id", "a"), ("X-Rpc-Id", Segments(250))).HasContext.Should().BeTrue();
        Read(("X-Trace-Id", "a"), ("X-Rpc-Id", Segments(251))).HasContext.Should().BeFalse();
        var longest = string.Join('.', Enumerable.Repeat("1234567890123456789", 48));
        longest.Length.Should().Be(959);
        Read(("X-Trace-Id", "a"), ("X-Rpc-Id", longest)).HasContext.Should().BeTrue();
        Read(("X-Trace-Id", "a"), ("X-Rpc-Id", longest + ".1")).HasContext.Should().BeFalse();

        static string Segments(int count) => string.Join('.', Enumerable.Repeat('1', count));
    }

    [Fact]
    public void Own_ids_of_the_deepest_accepted_scope_are_still_valid()
    {
        var deepest = string.Join('.', Enumerable.Repeat('1', 250)) + ".9223372036854775807";

        RpcId.TryParse(deepest, out _).Should().BeTrue();
    }

    [Fact]
    public void Traceparent_alone_gives_an_irregular_number_below_the_call_that_tracestate_names()
    {
        var incoming = Read(("traceparent", Parent), ("tracestate", "vendor=x, logtrace=1.2"));

        incoming.TraceId.Should().Be("0123456789abcdef0123456789abcdef");
        incoming.Prefix.Should().Be($"1.2.{1_000_000 + 0x0ba902b7L}");
        incoming.ParentSpan.Should().Be(0x00f067aa0ba902b7);
        incoming.OtherState.Should().Be("vendor=x");
        Read(("traceparent", Parent)).Prefix.Should().Be($"1.{1_000_000 + 0x0ba902b7L}");
        Read(("traceparent", Parent), ("tracestate", "logtrace=1..2")).Prefix.Should().Be($"1.{1_000_000 + 0x0ba902b7L}");
    }

    [Theory]
    [InlineData("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90", "80f198ee56343ba864fe8b2a57d3eff7", (byte)1)]
    [InlineData("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d", "80f198ee56343ba864fe8b2a57d3eff7", (byte)1)]
    [InlineData("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0", "80f198ee56343ba864fe8b2a57d3eff7", (byte)0)]
    [InlineData("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1", "64fe8b2a57d3eff7", null)]
    [InlineData("X-B3-TraceId X-B3-SpanId", "64fe8b2a57d3eff7 e457b5a2e4d86bd1", "64fe8b2a57d3eff7", null)]
    [InlineData("X-B3-TraceId X-B3-SpanId X-B3-Sampled", "64fe8b2a57d3eff7 e457b5a2e4d86bd1 0", "64fe8b2a57d3eff7", (byte)0)]
    [InlineData("X-B3-TraceId X-B3-SpanId X-B3-Sampled X-B3-Flags", "64fe8b2a57d3eff7 e457b5a2e4d86bd1 0 1", "64fe8b2a57d3eff7", (byte)1)]
    public void B3_is_read_in_both_forms(string names, string values, string traceId, byte? flags)
    {
        var incoming = Read([.. names.Split(' ').Zip(values.Split(' '))]);

        incoming.Should().BeEquivalentTo(new { TraceId = traceId, Prefix = "1.3840388625", ParentSpan = 0xe457b5a2e4d86bd1, TraceFlags = flags });
    }

    [Theory]
    [InlineData("0")]
    [InlineData("80f198ee56343ba864fe8b2a57d3eff7")]
    [InlineData("80F198EE56343BA864FE8B2A57D3EFF7-e457b5a2e4d86bd1-1")]
    [InlineData("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-x")]
    [InlineData("80f198ee56343ba864fe8b2a57d3eff7-0000000000000000-1")]
    [InlineData("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-parent")]
    [InlineData("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90-more")]
    [InlineData("")]
    public void A_bad_b3_is_no_context(string b3) => Read(("b3", b3)).HasContext.Should().BeFalse();

    [Fact]
    public void Traceparent_wins_over_b3() =>
        Read(("b3", "64fe8b2a57d3eff7-e457b5a2e4d86bd1"), ("traceparent", "00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01")).TraceId.Should().Be("0123456789abcdef0123456789abcdef");

    [Fact]
    public void Our_own_header_wins_over_traceparent()
    {
        var incoming = Read(("X-Trace-Id", "abc"), ("X-Rpc-Id", "1.4"), ("traceparent", Parent));

        incoming.TraceId.Should().Be("abc");
        incoming.Prefix.Should().Be("1.4");
        incoming.ParentSpan.Should().Be(0, "the traceparent is that of another trace");
    }

    [Theory]
    [InlineData("00-00000000000000000000000000000000-00f067aa0ba902b7-01")]
    [InlineData("00-0123456789abcdef0123456789abcdef-0000000000000000-01")]
    [InlineData("00-0123456789ABCDEF0123456789abcdef-00f067aa0ba902b7-01")]
    [InlineData("ff-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01")]
    [InlineData("00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01-more")]
    [InlineData("00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7")]
    [InlineData("00-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-0x")]
    public void A_bad_traceparent_is_no_context(string parent) => Read(("traceparent", parent)).HasContext.Should().BeFalse();

    [Fact]
    public void A_traceparent_of_a_later_version_is_read() => Read(("traceparent", "01-0123456789abcdef0123456789abcdef-00f067aa0ba902b7-01-more")).HasContext.Should().BeTrue();

    [Fact]
    public void A_callee_that_reads_what_a_call_writes_continues_it()
    {
        using var logger = new TraceLogger(new() { Service = "a", Department = "d" });
        using var scope = logger.StartRequest("x", "", Read(("X-Trace-Id", "not-hex"), ("X-Rpc-Id", "1.7"), ("traceparent", $"00-{TraceHeaders.TraceParentId("not-hex")}-00f067aa0ba902b7-00"), ("tracestate", "v=1,logtrace=1.7,w=2")));
        using var call = scope.BeginCall("http.get", "x");
        var headers = new Dictionary<string, string?>();

        TraceHeaders.Write(call, headers, (carrier, name, value) => carrier[name] = value, calleeIsInternal: true);

        headers["X-Trace-Id"].Should().Be("not-hex");
        headers["X-Rpc-Id"].Should().Be("1.7.2");
        headers["traceparent"].Should().Be($"00-{TraceHeaders.TraceParentId("not-hex")}-{call.SpanId}-00");
        headers["tracestate"].Should().Be("logtrace=1.7.2,v=1,w=2");
        headers["X-Debug"].Should().BeNull();
        scope.ParentSpanId.Should().Be("00f067aa0ba902b7");
    }

    [Fact]
    public void Random_headers_never_break_a_reader()
    {
        var text = Gen.OneOf(Gen.String, Gen.String[Gen.Char["0123456789abcdef.-=,logtrace "], 0, 80], Gen.Const(Parent));
        Gen.Select(text, text, text, text).Sample((traceId, rpcId, parent, state) =>
        {
            var incoming = Read(("X-Trace-Id", traceId), ("X-Rpc-Id", rpcId), ("traceparent", parent), ("tracestate", state));
            if (incoming.HasContext && !(TraceHeaders.IsValidTraceId(incoming.TraceId) && RpcId.TryParse(incoming.Prefix + ".9223372036854775807", out _))) return false;
            var bridged = Read(("traceparent", parent), ("tracestate", state));
            return !bridged.HasContext || RpcId.TryParse(bridged.Prefix, out _);
        }, iter: 20_000, print: tuple => tuple.ToString());
    }
}
