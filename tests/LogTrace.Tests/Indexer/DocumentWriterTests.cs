using System.Text;
using System.Text.Json;
using LogTrace.Indexer.Store;

namespace LogTrace.Tests.Indexer;

public sealed class DocumentWriterTests
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
            var buffer = new BulkBuffer(16);

            var writer = DocumentWriter.Begin(buffer);
            writer.Text("text"u8, text);
            writer.Text("nothing"u8, null);
            writer.Number("number"u8, number);
            writer.Number("real"u8, real);
            writer.Flag("flag"u8, flag);
            writer.Texts("texts"u8, texts);
            writer.Plain("plain"u8, "2026-11-23T12:00:00.000000Z"u8);
            writer.Json("json"u8, "[{\"a\":1}]"u8);
            writer.End();

            var written = buffer.WrittenFrom(0);
            written.IndexOf((byte)'\n').Should().Be(written.Length - 1, $"a document is one line; seed {seed} + {i}");
            using var json = JsonDocument.Parse(written.ToArray());
            var root = json.RootElement;
            root.EnumerateObject().Select(member => member.Name).Should().Equal("text", "number", "real", "flag", "texts", "plain", "json");
            root.GetProperty("text").GetString().Should().Be(AsUtf8Keeps(text), $"seed {seed} + {i}");
            root.GetProperty("number").GetInt64().Should().Be(number);
            root.GetProperty("real").GetDouble().Should().Be(real);
            root.GetProperty("flag").GetBoolean().Should().Be(flag);
            root.GetProperty("texts").EnumerateArray().Select(value => value.GetString()).Should().Equal(texts.Select(AsUtf8Keeps), $"seed {seed} + {i}");
            root.GetProperty("plain").GetString().Should().Be("2026-11-23T12:00:00.000000Z");
            root.GetProperty("json")[0].GetProperty("a").GetInt32().Should().Be(1);
        }
    }

    [Fact]
    public void An_object_without_members_is_one_too_and_two_objects_become_one()
    {
        var empty = new BulkBuffer(16);
        DocumentWriter.Begin(empty).End();
        Encoding.UTF8.GetString(empty.WrittenFrom(0)).Should().Be("{}\n");

        var joined = new BulkBuffer(16);
        var writer = DocumentWriter.Begin(joined);
        writer.Number("a"u8, 1);
        writer.EndWith("{\"b\":2}", static (other, output) => output.WriteAscii(other));
        Encoding.UTF8.GetString(joined.WrittenFrom(0)).Should().Be("{\"a\":1,\"b\":2}\n");
    }

    // Half of a pair of surrogates is no character.
    static string AsUtf8Keeps(string text) => Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));

    static string RandomText(Random random)
    {
        string[] pieces = ["a", "order 17 placed", "\"", "\\", "\n", "\r", "\t", "\0", "\u001f", "\u007f", "ä", "\u2028", "漢字", "😀", "\ud83d", "\ude00", "</script>"];
        return string.Concat(Enumerable.Range(0, random.Next(12)).Select(_ => pieces[random.Next(pieces.Length)]));
    }
}
