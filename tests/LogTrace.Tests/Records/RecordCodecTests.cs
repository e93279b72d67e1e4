using System.Buffers;
using System.Text;
using System.Text.Json;
using CsCheck;
using LogTrace.Records;

namespace LogTrace.Tests.Records;

public sealed class RecordCodecTests
{
    static TraceRecord Read(string line) => Read(Encoding.UTF8.GetBytes(line));

    static TraceRecord Read(byte[] line)
    {
        RecordCodec.TryRead(line, out var record, out var reason).Should().BeTrue(reason);
        return record;
    }

    static string Reason(string line)
    {
        RecordCodec.TryRead(Encoding.UTF8.GetBytes(line), out _, out var reason).Should().BeFalse();
        return reason!;
    }

    static string Write(TraceRecord record)
    {
        var output = new ArrayBufferWriter<byte>();
        RecordCodec.Write(record, output);
        return Encoding.UTF8.GetString(output.WrittenSpan);
    }

    static JsonElement Extra(TraceRecord record) => JsonDocument.Parse(record.ExtraJson!).RootElement;

    [Fact]
    public void Every_field_is_read_with_and_without_the_prefix()
    {
        foreach (var field in RecordFields.All)
        {
            var value = field.Type switch
            {
                FieldType.Integer => "17",
                FieldType.Float => "1.5",
                FieldType.Boolean => "true",
                FieldType.ObjectOrString => """{"a":1}""",
                _ => field.Field == RecordField.RpcId ? "\"1.2\"" : "\"text\"",
            };
            foreach (var prefix in new[] { "", "x_" })
            {
                var record = Read($$"""{"{{prefix}}{{field.WireName}}":{{value}},"x_timestamp":17}""");
                record.UnreadableFields.Should().BeNull();
                Write(record).Should().Contain($"\"{field.WireName}\":{value}");
            }
        }
    }

    [Theory]
    [InlineData("""{"name":"log.info","trace_id":"t","rpc_id":"1.2","timestamp":17,"msg":"\u00e9 \"a\"","duration":0.10,"extra":{"b":1}}""", true)]
    [InlineData("""{"timestamp_us":17000001,"timestamp":17,"trace_id":"t","extra":{ "b" : 1 }}""", true)]
    [InlineData("""{"timestamp_us":17000001, "timestamp":17,"trace_id":"t"}""", false)] // blanks
    [InlineData("""{"timestamp_us":17000001,"timestamp":17,"trace_id":"t"} """, false)]
    [InlineData("""{"timestamp":18,"timestamp_us":17000001}""", false)] // seconds that are not its own
    [InlineData("""{"timestamp_us":17000001}""", false)] // none
    [InlineData("""{"timestamp":17.0}""", false)]
    [InlineData("""{"timestamp":"17"}""", false)]
    [InlineData("""{"timestamp":17,"x_uid":"7"}""", false)] // another spelling
    [InlineData("""{"timestamp":17,"u\u0069d":"7"}""", false)]
    [InlineData("""{"timestamp":17,"response_len":7}""", false)]
    [InlineData("""{"timestamp":17,"zone":"7"}""", false)] // belongs under extra
    [InlineData("""{"timestamp":17,"kind":null}""", false)]
    [InlineData("""{"timestamp":17,"uid":7}""", false)] // another type
    [InlineData("""{"timestamp":17,"duration":0.00000001}""", false)]
    [InlineData("""{"timestamp":17,"duration":"0.1"}""", false)]
    [InlineData("""{"timestamp":17,"debug":1}""", false)]
    [InlineData("""{"timestamp":17,"uid":"1","uid":"2"}""", false)] // said twice
    [InlineData("""{"timestamp":17,"uid":null}""", false)]
    [InlineData("""{"timestamp":17,"uid":"\ud800"}""", false)] // half a character
    [InlineData("""{"timestamp":17,"name":"metrix.count"}""", false)]
    [InlineData("""{"timestamp":17,"extra":{"a":1,"a":2}}""", false)]
    [InlineData(" {\"timestamp\":17}", false)]
    [InlineData("{\"timestamp\":17\n}", false)]
    public void A_line_is_passed_on_as_it_is_only_where_it_is_what_would_be_written(string line, bool isPassedOn)
    {
        var record = Read(line);
        var output = new ArrayBufferWriter<byte>();
        RecordCodec.WriteLine(record, output);

        record.IsAsWritten.Should().Be(isPassedOn);
        Encoding.UTF8.GetString(output.WrittenSpan).Should().Be(isPassedOn ? line : Write(record));
    }

    [Fact]
    public void A_record_that_was_changed_is_written_anew()
    {
        var record = Read("""{"uid":"7","timestamp":17}""");
        record.IsAsWritten.Should().BeTrue();
        record.DurationMicros = 5;

        record.IsAsWritten.Should().BeFalse();
        Write(record).Should().Contain("duration");
    }

    [Fact]
    public void Numbers_and_texts_are_converted_to_the_type_of_the_field()
    {
        var record = Read("""{"timestamp":"1506480162","duration":"0.021","response_length":"12","dns_duration":" 1e-3 ","code":200,"line":232,"uid":1.50,"trace_id":9007199254740993,"rpc_id":1.10,"debug":"true","sampled":0,"msg":true}""");
        record.TimestampMicros.Should().Be(1506480162_000_000);
        record.DurationMicros.Should().Be(21_000);
        record.ResponseLength.Should().Be(12);
        record.DnsDurationMicros.Should().Be(1_000);
        record.Code.Should().Be("200");
        record.Text(RecordField.Line).Should().Be("232");
        record.Uid.Should().Be("1.50");
        record.TraceId.Should().Be("9007199254740993");
        record.RpcId!.Value.Text.Should().Be("1.10");
        record.Debug.Should().BeTrue();
        record.Sampled.Should().BeFalse();
        record.Msg.Should().Be("true");
        record.UnreadableFields.Should().BeNull();
    }

    [Theory]
    [InlineData("metrix.count", "metric.counter")]
    [InlineData("metric.count", "metric.counter")]
    [InlineData("metric.gauge", "metric.gauge")]
    public void Names_of_other_writers_are_put_right(string name, string expected) => Read($$"""{"x_name":"{{name}}","timestamp":1}""").Name.Should().Be(expected);

    [Theory]
    [InlineData("response_len")]
    [InlineData("x_response_len")]
    [InlineData("response_length")]
    [InlineData("x_response_length")]
    public void Length_of_the_response_has_four_spellings(string name) => Read($$"""{"timestamp":1,"{{name}}":5}""").ResponseLength.Should().Be(5);

    [Fact]
    public void Unknown_fields_are_kept_under_extra()
    {
        Extra(Read("""{"timestamp":1,"shard":7,"tags":["a","b"],"gone":null}""")).ToString().Should().Be("""{"shard":7,"tags":["a","b"]}""");
        Extra(Read("""{"timestamp":1,"shard":7,"extra":{"a":1}}""")).ToString().Should().Be("""{"a":1,"shard":7}""");
        Extra(Read("""{"timestamp":1,"shard":7,"x_extra":"json ..."}""")).ToString().Should().Be("""{"extra":"json ...","shard":7}""");
        Extra(Read("""{"timestamp":1,"a":7,"extra":{"a":1}}""")).ToString().Should().Be("""{"a":1,"_a":7}""");
    }

    [Fact]
    public void Extra_stays_as_it_stands_when_there_is_nothing_to_add()
    {
        Read("""{"timestamp":1,"extra":{ "a" : [1, {"b":"ü"}] }}""").ExtraJson.Should().Be("""{ "a" : [1, {"b":"ü"}] }""");
        Read("""{"timestamp":1,"extra":"text"}""").ExtraJson.Should().Be("\"text\"");
        var odd = Read("""{"timestamp":1,"extra":[1]}""");
        odd.ExtraJson.Should().Be("""{"extra":[1]}""");
        odd.UnreadableFields.Should().Equal("extra");
    }

    [Fact]
    public void Last_of_two_members_of_one_name_counts()
    {
        var record = Read("""{"timestamp":1,"code":{"bad":1},"timestamp":2,"x_code":"b","extra":{"k":1,"k":2,"n":{"m":1,"m":[2]}},"zone":"a","zone":"b"}""");
        record.TimestampMicros.Should().Be(2_000_000);
        record.Code.Should().Be("b");
        record.UnreadableFields.Should().BeNull();
        Extra(record).ToString().Should().Be("""{"k":2,"n":{"m":[2]},"zone":"b"}""");
        Read("""{"timestamp":1,"code":"a","code":null}""").Code.Should().BeNull();
    }

    [Fact]
    public void Names_written_with_escapes_are_the_same_names() =>
        Read("""{"\u0074imestamp":1,"c\u006fde":"7"}""").Code.Should().Be("7");

    [Theory]
    [InlineData("duration", "\"soon\"")]
    [InlineData("duration", "1e400")]
    [InlineData("duration", "-0.5")]
    [InlineData("duration", "true")]
    [InlineData("duration", "\"NaN\"")]
    [InlineData("dns_duration", "[1]")]
    [InlineData("response_length", "1.5")]
    [InlineData("response_length", "9223372036854775808")]
    [InlineData("timestamp_us", "\"now\"")]
    [InlineData("code", "{\"a\":1}")]
    [InlineData("name", "[\"log.info\"]")]
    [InlineData("debug", "\"maybe\"")]
    [InlineData("trace_id", "\"\"")]
    [InlineData("trace_id", "\"with space\"")]
    [InlineData("trace_id", "\"ümlaut\"")]
    [InlineData("trace_id", "{}")]
    public void Value_of_the_wrong_type_is_kept_under_extra_and_named(string field, string value)
    {
        var record = Read($$"""{"timestamp":1,"x_{{field}}":{{value}}}""");
        record.UnreadableFields.Should().Equal(field);
        record.ExtraJson.Should().Be($$"""{"{{field}}":{{value}}}""");
        record.TraceId.Should().BeNull();
        Read(Write(record)).ExtraJson.Should().Be(record.ExtraJson);
    }

    [Fact]
    public void Trace_id_of_128_bytes_is_one_and_of_129_is_none()
    {
        Read($$"""{"timestamp":1,"trace_id":"{{new string('a', 128)}}"}""").TraceId.Should().HaveLength(128);
        Read($$"""{"timestamp":1,"trace_id":"{{new string('a', 129)}}"}""").TraceId.Should().BeNull();
    }

    [Fact]
    public void Time_is_exact_to_the_microsecond_when_the_line_says_so()
    {
        var seconds = Read("""{"timestamp":1506480162}""");
        (seconds.TimestampMicros, seconds.HasPreciseTime).Should().Be((1506480162_000_000, false));
        var decimals = Read("""{"timestamp":1506480162.1234567}""");
        (decimals.TimestampMicros, decimals.HasPreciseTime).Should().Be((1506480162_123_457, true));
        var both = Read("""{"timestamp_us":1506480162654321,"timestamp":1506480162.5}""");
        (both.TimestampMicros, both.HasPreciseTime).Should().Be((1506480162_654_321, true));
        Read("""{"timestamp_us":1506480162654321}""").TimestampMicros.Should().Be(1506480162_654_321);
        Read("""{"timestamp":1506480162,"timestamp_us":"x"}""").TimestampMicros.Should().Be(1506480162_000_000);
        Write(both).Should().Be("""{"timestamp":1506480162,"timestamp_us":1506480162654321}""");
    }

    [Theory]
    [InlineData("", "line '': no JSON object: '{' is expected at byte 0")]
    [InlineData("GET / 200", "line 'GET / 200': no JSON object: '{' is expected at byte 0")]
    [InlineData("[1]", "line '[1]': no JSON object: '{' is expected at byte 0")]
    [InlineData("""{"timestamp":1""", """line '{"timestamp":1': no JSON object: ',' is expected at byte 14""")]
    [InlineData("""{"timestamp":1}{}""", """line '{"timestamp":1}{}': no JSON object: nothing may follow the end at byte 15""")]
    [InlineData("""{"timestamp":NaN}""", """line '{"timestamp":NaN}': no JSON object: a value is expected at byte 13""")]
    [InlineData("""{"timestamp":01}""", """line '{"timestamp":01}': no JSON object: a number starts with a zero at byte 15""")]
    [InlineData("""{"a":"\x"}""", """line '{"a":"\x"}': no JSON object: an escape in a text is not one of JSON's at byte 6""")]
    [InlineData("{}", "timestamp: there is none")]
    [InlineData("""{"timestamp":null}""", "timestamp: there is none")]
    [InlineData("""{"timestamp":"soon"}""", "timestamp 'soon': it is no number of seconds between 1970 and 9999")]
    [InlineData("""{"timestamp":1506480162000}""", "timestamp '1506480162000': it is no number of seconds between 1970 and 9999")]
    [InlineData("""{"timestamp":-1}""", "timestamp '-1': it is no number of seconds between 1970 and 9999")]
    [InlineData("""{"timestamp":1e400}""", "timestamp '1e400': it is no number of seconds between 1970 and 9999")]
    [InlineData("""{"timestamp_us":true}""", "timestamp_us 'true': it is no number of microseconds between 1970 and 9999")]
    [InlineData("""{"timestamp":1,"rpc_id":"1..2"}""", "rpc_id '1..2': a segment is empty")]
    [InlineData("""{"timestamp":1,"x_rpc_id":""}""", "rpc_id '': it is empty")]
    [InlineData("""{"timestamp":1,"rpc_id":[1]}""", "rpc_id '[1]': it is no text")]
    [InlineData("""{"timestamp":1,"rpc_id":"1.02"}""", "rpc_id '1.02': a segment has a leading zero")]
    [InlineData("""{"@t":"yesterday"}""", "@t 'yesterday': it is no time such as 2026-11-22T10:11:12.345Z")]
    public void What_is_no_record_has_a_reason_with_field_value_and_rule(string line, string reason) => Reason(line).Should().Be(reason);

    [Fact]
    public void Reason_shows_64_characters_at_most()
    {
        Reason($$"""{"timestamp":1,"rpc_id":"{{new string('7', 1_000_000)}}"}""").Should().Be($"rpc_id '{new string('7', 64)}...': it is longer than 1024 bytes");
        Reason(new string('\t', 1000)).Length.Should().BeLessThan(150);
    }

    [Fact]
    public void Byte_order_mark_and_white_space_around_the_object_are_skipped() =>
        Read("\uFEFF \t{ \"timestamp\" : 1 , \"code\" : \"a\" } \r").Code.Should().Be("a");

    [Fact]
    public void Bytes_that_are_no_utf8_are_replaced_and_named()
    {
        byte[] line = [.. "{\"timestamp\":1,\"msg\":\"a"u8, 0xFF, 0xC3, .. "b\",\"code\":\"ü\",\"zone\":\""u8, 0xE4, .. "\"}"u8];
        var record = Read(line);
        record.Msg.Should().Be("a\uFFFD\uFFFDb");
        record.Code.Should().Be("ü");
        Extra(record).GetProperty("zone").GetString().Should().Be("\uFFFD");
        record.UnreadableFields.Should().BeEquivalentTo("msg", "zone");
    }

    [Fact]
    public void Half_of_a_surrogate_pair_is_replaced_wherever_it_stands()
    {
        var record = Read("""{"timestamp":1,"msg":"\ud83d\ude00 \ud83d","extra":{"a":"\ude00","\udead":1}}""");
        record.Msg.Should().Be("😀 \uFFFD");
        Extra(record).ToString().Should().Be("{\"a\":\"\uFFFD\",\"\uFFFD\":1}");
        record.UnreadableFields.Should().BeEquivalentTo("msg", "extra");
    }

    [Fact]
    public void Deep_nesting_is_kept_as_text_and_endless_nesting_set_aside()
    {
        static string Nested(int levels) => string.Concat(Enumerable.Repeat("[", levels)) + string.Concat(Enumerable.Repeat("]", levels));
        var deep = Read("{\"timestamp\":1,\"extra\":{\"a\":" + Nested(200) + "}}");
        FluentActions.Invoking(() => Extra(deep)).Should().NotThrow();
        deep.ExtraJson.Should().Contain("\"[[[");
        deep.UnreadableFields.Should().Equal("extra");
        Read(Write(deep)).ExtraJson.Should().Be(deep.ExtraJson);
        Reason($$"""{"timestamp":1,"a":{{Nested(1_000_000)}}}""").Should().Contain("nesting goes deeper than 256 levels");
        Reason(string.Concat(Enumerable.Repeat("""{"a":""", 100_000))).Should().Contain("nesting goes deeper than 256 levels");
    }

    [Fact]
    public void Lines_of_a_megabyte_are_read()
    {
        var text = new string('x', 1 << 20);
        Read($$"""{"timestamp":1,"msg":"{{text}}"}""").Msg.Should().Be(text);
        Read($$"""{"timestamp":1,"extra":"{{text}}\n"}""").ExtraJson.Should().HaveLength(text.Length + 4);
        var many = "{\"timestamp\":1" + string.Concat(Enumerable.Range(0, 100_000).Select(number => $",\"f{number}\":{number}")) + "}";
        Extra(Read(many)).EnumerateObject().Should().HaveCount(100_000);
        Read($$"""{"timestamp":1,"duration":0.{{new string('1', 1_000_000)}}}""").DurationMicros.Should().Be(111_111);
        Read($$"""{"timestamp":1,"duration":{{new string('1', 1_000_000)}}}""").UnreadableFields.Should().Equal("duration");
    }

    [Theory]
    [InlineData("""{"name":"log.info","trace_id":"abc","timestamp":1}""", "abc")]
    [InlineData("""{"extra":{"trace_id":"no"},"x_trace_id":"abc"}""", "abc")]
    [InlineData("""{"@t":"2026-11-22T10:11:12Z","@tr":"w3c","trace_id":"abc"}""", "abc")]
    [InlineData("""{"@t":"2026-11-22T10:11:12Z","@tr":"w3c"}""", "w3c")]
    [InlineData("""{"trace_id":42}""", "42")]
    [InlineData("""{"trace_id":"abc","torn""", "abc")]
    [InlineData("""{"trace_id":""}""", null)]
    [InlineData("""{"trace_id":null}""", null)]
    [InlineData("""{"trace_id":"with space"}""", null)]
    [InlineData("""{"timestamp":1}""", null)]
    [InlineData("""not json""", null)]
    [InlineData("", null)]
    public void Trace_id_is_found_without_reading_the_line(string line, string? traceId)
    {
        var bytes = Encoding.UTF8.GetBytes(line);
        RecordCodec.TryReadTraceId(bytes, out var start, out var length).Should().Be(traceId is not null);
        Encoding.UTF8.GetString(bytes, start, length).Should().Be(traceId ?? "");
    }

    [Fact]
    public void Record_made_in_code_is_written_in_the_order_of_the_schema()
    {
        var record = new TraceRecord
        {
            Level = "Information",
            ExtraJson = "{\n  \"a\": 1\n}",
            DurationMicros = 1_250_000,
            TimestampMicros = 1506480162_000_007,
            HasPreciseTime = true,
            RpcId = RpcId.Parse("1.1"),
            TraceId = "t",
            Name = "request.info",
            Action = "say \"hi\"\n\t\u0001 \\ ü \ud83d",
            Debug = true,
            ResponseLength = 0,
        };
        Write(record).Should().Be(
            """{"name":"request.info","trace_id":"t","rpc_id":"1.1","timestamp":1506480162,"action":"say \"hi\"\n\t\u0001 \\ ü ?","duration":1.25,"response_length":0,"extra":{"a":1},"timestamp_us":1506480162000007,"level":"Information","debug":true}"""
                .Replace('?', '\uFFFD'));
    }

    [Theory]
    [InlineData("{", "\"{\"")]
    [InlineData("[1]", "\"[1]\"")]
    [InlineData("{}\n{}", "\"{}\\n{}\"")]
    [InlineData(" {\"a\":1} ", "{\"a\":1}")]
    public void Extra_that_is_no_object_is_written_as_text_on_one_line(string extra, string written) =>
        Write(new TraceRecord { ExtraJson = extra }).Should().Be($$"""{"timestamp":0,"extra":{{written}}}""");

    [Theory]
    [InlineData(0, "0")]
    [InlineData(1, "0.000001")]
    [InlineData(21_000, "0.021")]
    [InlineData(1_000_000, "1")]
    [InlineData(12_345_600_000, "12345.6")]
    public void Durations_are_written_in_seconds_with_no_digit_too_many(long micros, string seconds) =>
        Write(new TraceRecord { DurationMicros = micros }).Should().Be($$"""{"timestamp":0,"duration":{{seconds}}}""");

    static readonly Gen<string?> Text = Gen.OneOf(
        Gen.Const((string?)null),
        Gen.String[Gen.Char[' ', '~'], 0, 20].Select(text => (string?)text),
        Gen.String[0, 10].Select(text => (string?)Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text))));

    static readonly Gen<TraceRecord> AnyRecord = Gen.Select(
        Text.Array[RecordFields.All.Count],
        Gen.Long[0, 253_402_300_799_999_999],
        Gen.Long[0, 100_000_000_000].Nullable(),
        Gen.Long[0, long.MaxValue].Nullable(),
        Gen.Bool.Nullable(),
        Gen.Int[0, 30].Nullable(),
        Gen.Bool).Select((texts, time, duration, length, flag, number, isPrecise) =>
    {
        var record = new TraceRecord
        {
            TimestampMicros = isPrecise ? time : time / 1_000_000 * 1_000_000,
            HasPreciseTime = isPrecise,
            DurationMicros = duration,
            DnsDurationMicros = duration / 3,
            ResponseLength = length,
            Debug = flag,
            Sampled = !flag,
            RpcId = number is null ? null : RpcId.Parse("1.2").Child(number.Value),
        };
        foreach (var field in RecordFields.All)
        {
            if (field.Type == FieldType.String && field.Field is not (RecordField.RpcId or RecordField.TraceId)) record.Set(field.Field, texts[(int)field.Field]);
        }

        record.Set(RecordField.TraceId, number is null ? null : "trace-" + number);
        record.Set(RecordField.Extra, flag is null ? null : JsonSerializer.Serialize(new { a = texts[0], b = new[] { texts[1] }, c = number }));
        return record;
    });

    [Fact]
    public void Record_survives_writing_and_reading() =>
        AnyRecord.Sample(
            record =>
            {
                var line = Write(record);
                line.Should().NotContain("\n");
                var again = Read(line);
                again.UnreadableFields.Should().BeNull();
                foreach (var field in RecordFields.All)
                {
                    if (field.Type == FieldType.String && field.Field != RecordField.Name) again.Text(field.Field).Should().Be(record.Text(field.Field), field.WireName);
                }

                again.RpcId.Should().Be(record.RpcId);
                again.TimestampMicros.Should().Be(record.TimestampMicros);
                again.DurationMicros.Should().Be(record.DurationMicros);
                again.DnsDurationMicros.Should().Be(record.DnsDurationMicros);
                using var before = JsonDocument.Parse(line);
                using var after = JsonDocument.Parse(Write(again));
                JsonElement.DeepEquals(before.RootElement, after.RootElement).Should().BeTrue();
            },
            iter: 1_000);
}
