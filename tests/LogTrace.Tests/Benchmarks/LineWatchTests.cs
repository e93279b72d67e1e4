using LogTrace.Benchmarks.Visible;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Benchmarks;

public sealed class LineWatchTests : IDisposable
{
    const string First = """{"name":"log.info","trace_id":"t1","rpc_id":"1.1","timestamp":1795300000}""";
    const string Second = """{"name":"log.info","trace_id":"t2","rpc_id":"1.1","timestamp":1795300000}""";
    readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Line_is_seen_once_it_is_whole_with_the_place_where_it_begins()
    {
        var watch = new LineWatch(_folder["logs"]);
        Directory.CreateDirectory(_folder["logs/orders"]);
        var path = _folder["logs/orders/orders.log"];
        File.WriteAllText(path, First + "\n" + Second[..20]);

        var before = watch.Look();
        File.AppendAllText(path, Second[20..] + "\n");
        var after = watch.Look();

        before.Select(line => (line.TraceId, line.Path, line.Offset)).Should().Equal(("t1", path, 0L));
        after.Select(line => (line.TraceId, line.Path, line.Offset)).Should().Equal(("t2", path, First.Length + 1L));
        after[0].Since.Should().BeGreaterThan(before[0].Since, "it was not there at the look before");
        watch.Look().Should().BeEmpty();
        watch.Count.Should().Be(2);
    }

    [Fact]
    public void Line_without_a_trace_counts_but_is_no_record_of_a_chain()
    {
        Directory.CreateDirectory(_folder["logs"]);
        File.WriteAllText(_folder["logs/app.log"], """{"name":"log.info","timestamp":1795300000,"msg":"started"}""" + "\n");
        var watch = new LineWatch(_folder["logs"]);

        watch.Look().Should().BeEmpty();
        watch.Count.Should().Be(1);
    }
}
