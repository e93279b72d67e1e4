using System.Buffers;
using System.Text;
using System.Text.Json;
using CsCheck;
using LogTrace.Records;

namespace LogTrace.Tests.Records;

/// <summary>Whatever the bytes: a record or a reason, never an exception, and what is written from it is JSON that reads as the same record.</summary>
public sealed class RecordCodecFuzzTests
{
    static readonly byte[][] Seeds =
    [
        .. AppendixLinesTests.Lines.Select(Encoding.UTF8.GetBytes),
        """{"@t":"2026-11-22T10:11:12.3456789Z","@mt":"{User} did {@What,10:l} {{ {0:x}","@r":["a"],"@l":"Warning","@x":"E\r\n at","@i":"f1","@tr":"4bf9","@sp":"00f0","User":"\u00fc\ud83d\ude00","What":{"a":[1,null,true]},"@@t":1,"rpc_id":"1.2"}"""u8.ToArray(),
        """{"sampled":true,"timestamp_us":1506480162000007,"duration":0.010,"extra":{"a":[1]}, "timestamp":1506480162,"trace_id":"ab","rpc_id":"1.2","msg":"say \u0041 \"it\"","uid":"7","response_length":12}"""u8.ToArray(),
        """{"timestamp":1506480162.5,"extra":{"a":{"b":[1,2,{"c":"d","c":"\ud800"}]}},"a":1e5,"duration":-1,"trace_id":"a b","zone":[[[]]],"extra2":"x"}"""u8.ToArray(),
    ];

    static readonly byte[][] Fragments =
    [
        "\""u8.ToArray(), "{"u8.ToArray(), "}"u8.ToArray(), "["u8.ToArray(), "]"u8.ToArray(), ","u8.ToArray(), ":"u8.ToArray(), "\\"u8.ToArray(), "\\u"u8.ToArray(), "\\ud800"u8.ToArray(),
        "null"u8.ToArray(), "1e400"u8.ToArray(), "-"u8.ToArray(), "."u8.ToArray(), "00"u8.ToArray(), "NaN"u8.ToArray(), "x_"u8.ToArray(), "@"u8.ToArray(), [0], [0xFF], [0xC3], [0xED, 0xA0, 0x80],
        "\"trace_id\":\"\","u8.ToArray(), "\"extra\":1,"u8.ToArray(), "\"@t\":\"2026-11-22T10:11:12Z\","u8.ToArray(), "\"timestamp\":1,"u8.ToArray(), "\uFEFF"u8.ToArray(), "\n"u8.ToArray(),
    ];

    static void ShouldBeRecordOrReason(byte[] line)
    {
        var isRecord = RecordCodec.TryRead(line, out var record, out var reason);
        isRecord.Should().Be(reason is null);
        RecordCodec.TryReadTraceId(line, out var start, out var length);
        (start >= 0 && length >= 0 && start + length <= line.Length).Should().BeTrue();
        if (!isRecord)
        {
            reason.Should().NotBeNullOrWhiteSpace();
            return;
        }

        var output = new ArrayBufferWriter<byte>();
        RecordCodec.Write(record, output);
        using var written = JsonDocument.Parse(output.WrittenMemory);
        foreach (var member in written.RootElement.EnumerateObject())
        {
            if (member.Value.ValueKind == JsonValueKind.String) member.Value.GetString();
        }

        var again = new ArrayBufferWriter<byte>();
        RecordCodec.TryRead(output.WrittenMemory.ToArray(), out var second, out var secondReason).Should().BeTrue(secondReason);
        second.UnreadableFields.Should().BeNull();
        RecordCodec.Write(second, again);
        Encoding.UTF8.GetString(again.WrittenSpan).Should().Be(Encoding.UTF8.GetString(output.WrittenSpan));
        if (!record.IsAsWritten) return;

        // What may be passed on as it came says the same as what would be written.
        var passed = new ArrayBufferWriter<byte>();
        RecordCodec.WriteLine(record, passed);
        passed.WrittenSpan.SequenceEqual(line).Should().BeTrue();
        using var same = JsonDocument.Parse(line);
        JsonElement.DeepEquals(same.RootElement, written.RootElement).Should().BeTrue(Encoding.UTF8.GetString(line));
        line.Should().NotContain((byte)'\n').And.StartWith([(byte)'{']);
    }

    [Fact]
    public void Random_bytes() => Gen.Byte.Array[0, 200].Sample(ShouldBeRecordOrReason, iter: 5_000);

    [Fact]
    public void Random_fragments_of_json() =>
        Gen.Int[0, Fragments.Length - 1].Array[0, 30].Sample(
            picks => ShouldBeRecordOrReason([.. "{\"timestamp\":1,"u8, .. picks.SelectMany(pick => Fragments[pick])]), iter: 5_000);

    [Fact]
    public void Every_truncation_of_a_valid_line()
    {
        foreach (var seed in Seeds)
        {
            for (var length = 0; length <= seed.Length; length++) ShouldBeRecordOrReason(seed[..length]);
        }
    }

    [Fact]
    public void Random_mutations_of_valid_lines() =>
        Gen.Select(Gen.Int[0, Seeds.Length - 1], Gen.Select(Gen.Double[0, 1], Gen.Int[0, 2], Gen.Int[0, Fragments.Length - 1], Gen.Byte).Array[1, 4]).Sample(
            (seed, mutations) =>
            {
                var line = Seeds[seed].ToList();
                foreach (var (where, how, fragment, value) in mutations)
                {
                    var at = (int)(where * (line.Count - 1));
                    if (how == 0) line[at] = value;
                    else if (how == 1) line.RemoveRange(at, Math.Min(1 + value % 8, line.Count - at));
                    else line.InsertRange(at, Fragments[fragment]);
                    if (line.Count == 0) break;
                }

                ShouldBeRecordOrReason([.. line]);
            },
            iter: 20_000);

    [Fact]
    public void Lines_of_a_megabyte_of_one_thing()
    {
        foreach (var fragment in Fragments)
        {
            var body = Enumerable.Repeat(fragment, (1 << 20) / fragment.Length).SelectMany(bytes => bytes).ToArray();
            ShouldBeRecordOrReason(body);
            ShouldBeRecordOrReason([.. "{\"timestamp\":1,\"msg\":\""u8, .. body]);
            ShouldBeRecordOrReason([.. "{\"timestamp\":1,"u8, .. body, .. "\"code\":1}"u8]);
        }
    }

    [Fact]
    public void Segments_of_a_million_digits_and_empty_segments()
    {
        foreach (var id in new[] { new string('1', 1_000_000), "1." + new string('0', 1_000_000), new string('.', 1_000_000), "1..1", ".", "1.1." })
        {
            var line = Encoding.UTF8.GetBytes($$"""{"timestamp":1,"trace_id":"a","rpc_id":"{{id}}"}""");
            RecordCodec.TryRead(line, out _, out var reason).Should().BeFalse();
            reason.Should().StartWith("rpc_id '").And.Match(text => text.Length < 150);
        }
    }
}
