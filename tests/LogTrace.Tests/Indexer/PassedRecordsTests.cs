using System.Text;
using LogTrace.Indexer;
using LogTrace.Records;

namespace LogTrace.Tests.Indexer;

public sealed class PassedRecordsTests
{
    [Fact]
    public void Records_come_back_as_they_were_added_also_when_their_lines_are_gone()
    {
        var passed = new PassedRecords();
        var added = new List<IndexedRecord>();
        for (var i = 0; i < 100; i++)
        {
            var line = Encoding.UTF8.GetBytes($$"""{"name":"http.get","trace_id":"t","rpc_id":"1.{{i}}","timestamp":17,"action":"GET /items/{{i}}","msg":"{{new string('x', i * 50)}}","extra":{"a":{{i}} } }""");
            added.Add(Derived([.. line], i));
            passed.Add(Derived(line, i));
            Array.Clear(line);
        }

        passed.Count.Should().Be(100);
        var read = passed.Read();
        read.Select(record => (record.RecordId, record.LineHash, record.SourceFile, record.SourceOffset, record.IngestedMicros, record.RpcIdText, record.ActionKey, record.Record.Msg, record.Tags[0]))
            .Should().Equal(added.Select(record => (record.RecordId, record.LineHash, record.SourceFile, record.SourceOffset, record.IngestedMicros, record.RpcIdText, record.ActionKey, record.Record.Msg, record.Tags[0])));
        passed.Bytes.Should().BeGreaterThan(read.Sum(record => record.Record.SourceLine.Length));
    }

    static IndexedRecord Derived(byte[] line, int number) =>
        RecordDeriver.Derive(RecordCodec.TryRead(line, out var record, out var reason) ? record : throw new InvalidOperationException(reason), (UInt128)number, (UInt128)number + 1, "a.log", number * 10, number + 1_000);
}
