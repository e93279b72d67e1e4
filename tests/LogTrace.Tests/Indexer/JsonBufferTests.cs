using System.Text;
using System.Text.Json;
using LogTrace.Indexer.Store;

namespace LogTrace.Tests.Indexer;

public sealed class JsonBufferTests
{
    [Fact]
    public void What_is_written_is_read_back_by_a_JSON_parser()
    {
        var seed = Environment.TickCount;
        for (var i = 0; i < 2_000; i++)
        {
            var random = new Random(seed + i);
            var (text, number, real, flag) = (RandomText(random), random.NextInt64(long.MinValue, long.MaxValue), (random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-300, 300)), random.Next(2) == 0);
            string[] texts = [.. Enumerable.Range(0, random.Next(4)).Select(_ => RandomText(random))];
            var buffer = new JsonBuffer(16);

            buffer.BeginObject();
            buffer.Text("text"u8, text);
            buffer.Text("nothing"u8, null);
            buffer.Number("number"u8, number);
            buffer.Number("real"u8, real);
            buffer.Boolean("flag"u8, flag);
            buffer.Texts("texts"u8, texts);
            buffer.Moment("moment"u8, 1_795_300_000_000_001);
            buffer.Hex("id"u8, 0xABC);
            buffer.Null("null"u8);
            buffer.Raw("json"u8, "[{\"a\":1}]"u8);
            buffer.EndObject();

            var written = buffer.WrittenFrom(0);
            written.IndexOfAnyInRange((byte)0, (byte)31).Should().Be(-1, $"a document is one line; seed {seed} + {i}");
            using var json = JsonDocument.Parse(written.ToArray());
            var root = json.RootElement;
            root.EnumerateObject().Select(member => member.Name).Should().Equal("text", "number", "real", "flag", "texts", "moment", "id", "null", "json");
            root.GetProperty("text").GetString().Should().Be(AsUtf8Keeps(text), $"seed {seed} + {i}");
            root.GetProperty("number").GetInt64().Should().Be(number);
            root.GetProperty("real").GetDouble().Should().Be(real);
            root.GetProperty("flag").GetBoolean().Should().Be(flag);
            root.GetProperty("texts").EnumerateArray().Select(value => value.GetString()).Should().Equal(texts.Select(AsUtf8Keeps), $"seed {seed} + {i}");
            root.GetProperty("moment").GetString().Should().Be("2026-11-21T22:26:40.000001Z");
            root.GetProperty("id").GetString().Should().Be("00000000000000000000000000000abc");
            root.GetProperty("null").ValueKind.Should().Be(JsonValueKind.Null);
            root.GetProperty("json")[0].GetProperty("a").GetInt32().Should().Be(1);
        }
    }

    [Fact]
    public void Moments_are_those_of_the_calendar_and_stand_at_its_ends_beyond_it()
    {
        var seed = Environment.TickCount;
        var random = new Random(seed);
        var room = new byte[JsonBuffer.IsoLength];
        for (var i = 0; i < 20_000; i++)
        {
            var moment = DateTime.UnixEpoch.AddTicks(10 * random.NextInt64(-62_135_596_800_000_000, 253_402_300_799_999_999));
            JsonBuffer.Iso((moment - DateTime.UnixEpoch).Ticks / 10, room);
            Encoding.ASCII.GetString(room).Should().Be(moment.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", System.Globalization.CultureInfo.InvariantCulture), $"seed {seed}");
        }

        JsonBuffer.Iso(long.MinValue, room);
        Encoding.ASCII.GetString(room).Should().Be("0001-01-01T00:00:00.000000Z");
        JsonBuffer.Iso(long.MaxValue, room);
        Encoding.ASCII.GetString(room).Should().Be("9999-12-31T23:59:59.999999Z");
    }

    [Fact]
    public void Objects_in_an_array_and_members_behind_each_other_have_their_commas()
    {
        var buffer = new JsonBuffer(16);
        buffer.BeginObject();
        buffer.BeginArray("rows"u8);
        for (var i = 0; i < 3; i++)
        {
            buffer.BeginObject();
            if (i > 0) buffer.Text("text"u8, "{");
            if (i > 1) buffer.Number("more"u8, i);
            buffer.EndObject();
        }

        buffer.EndArray();
        buffer.BeginObject("inner"u8);
        buffer.EndObject();
        buffer.Boolean("last"u8, true);
        buffer.EndObject();

        Encoding.UTF8.GetString(buffer.WrittenFrom(0)).Should().Be("""{"rows":[{},{"text":"{"},{"text":"{","more":2}],"inner":{},"last":true}""");
    }

    // Half of a pair of surrogates is no character.
    static string AsUtf8Keeps(string text) => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));

    static string RandomText(Random random)
    {
        string[] pieces = ["a", "order 17 placed", "\"", "\\", "\n", "\r", "\t", "\0", "\u001f", "\u007f", "ä", "\u2028", "漢字", "😀", "\ud83d", "\ude00", "</script>"];
        return string.Concat(Enumerable.Range(0, random.Next(12)).Select(_ => pieces[random.Next(pieces.Length)]));
    }
}
