using System.Text;
using LogTrace.Records;

namespace LogTrace.Tests.Records;

public sealed class SharedTextsTests
{
    [Fact]
    public void A_text_is_what_its_bytes_say_whatever_was_asked_for_before()
    {
        var seed = Environment.TickCount;
        var random = new Random(seed);
        string[] letters = ["a", "b", "c", "0", "ä", "漢", "😀", ".", "-"];
        for (var i = 0; i < 50_000; i++)
        {
            var text = string.Concat(Enumerable.Range(0, random.Next(30)).Select(_ => letters[random.Next(letters.Length)]));
            var shared = SharedTexts.Of(Encoding.UTF8.GetBytes(text));
            if (shared != text) shared.Should().Be(text, $"seed {seed}");
        }
    }

    [Fact]
    public void What_stands_in_record_after_record_is_one_string()
    {
        static TraceRecord Read(string name)
        {
            RecordCodec.TryRead(Encoding.UTF8.GetBytes($$"""{"name":"{{name}}","timestamp":1506480162,"service":"orders-of-this-test","action":"GET /a"}"""), out var record, out _).Should().BeTrue();
            return record;
        }

        var (first, second) = (Read("http.get"), Read("http.post"));

        second.Service.Should().Be("orders-of-this-test").And.BeSameAs(first.Service);
        second.Action.Should().Be(first.Action).And.NotBeSameAs(first.Action, "an action is mostly met once");
    }
}
