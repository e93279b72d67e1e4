using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Accuracy;

/// <summary>What goes wrong besides that records are lost: with ids, before they are written; with records, on their way.</summary>
static class Defects
{
    /// <summary>D1: at-least-once delivery brings a fifth of the lines again, up to three times.</summary>
    public static List<TrueRecord> DeliverAgain(IReadOnlyList<TrueRecord> records, Random random)
    {
        var arrived = new List<TrueRecord>(records);
        foreach (var record in records.Where(_ => random.Next(5) == 0))
            for (var copies = random.Next(3); copies >= 0; copies--) arrived.Add(record with { Record = Copy(record.Record, record.Record.StartMicros) });
        return arrived;
    }

    /// <summary>D5: each host's clock is off by up to <paramref name="deviation"/>, and times may be whole seconds only.</summary>
    public static List<TrueRecord> SkewClocks(IReadOnlyList<TrueRecord> records, Random random, TimeSpan deviation, bool wholeSeconds)
    {
        var offsets = records.Select(record => record.Host).Distinct().Order(StringComparer.Ordinal).ToDictionary(host => host, _ => (long)(Gaussian(random) * deviation.TotalMicroseconds));
        return [.. records.Select(record =>
        {
            var start = record.Record.StartMicros + offsets[record.Host];
            return record with { Record = Copy(record.Record, wholeSeconds ? start / 1_000_000 * 1_000_000 : start) };
        })];
    }

    /// <summary>D2: two concurrent calls of one scope take the same number, because the counter was copied by value; all below them gets equal prefixes.</summary>
    public static void ShareCounter(IReadOnlyList<TrueCall> calls, Random random)
    {
        var scopes = calls.Where(call => call.Children.Count(child => child.Callee is not null) >= 2).ToList();
        if (scopes.Count == 0) return;
        var colliding = scopes[random.Next(scopes.Count)].Children.Where(child => child.Callee is not null).ToArray();
        random.Shuffle(colliding);
        Rename(colliding[1], colliding[0].Id);
    }

    /// <summary>D3: a scope's counter starts anew halfway.</summary>
    public static void ResetCounter(IReadOnlyList<TrueCall> calls, Random random)
    {
        var scopes = calls.Where(call => call.Children.Count >= 2).ToList();
        if (scopes.Count == 0) return;
        var children = scopes[random.Next(scopes.Count)].Children;
        var half = children.Count / 2;
        for (var i = half; i < children.Count; i++) Rename(children[i], children[i - half].Id);
    }

    static void Rename(TrueCall call, string id)
    {
        call.Id = id;
        foreach (var child in call.Children) Rename(child, $"{id}.{child.Number}");
    }

    /// <summary>D4: ids are cut at 64 characters or a few more. One that ends in a dot then is none, and its line is set aside.</summary>
    public static List<TrueRecord> CutIds(IReadOnlyList<TrueRecord> records, Random random)
    {
        var limit = 64 + random.Next(8);
        var left = new List<TrueRecord>();
        foreach (var record in records)
        {
            var id = record.Record.Record.RpcId!.Value.Text;
            if (id.Length <= limit) left.Add(record);
            else if (RpcId.TryParse(id[..limit], out var cut)) left.Add(record with { Record = Copy(record.Record, record.Record.StartMicros, cut: cut) });
        }

        return left;
    }

    /// <summary>D6: of a tenth of the records the service is not known, of a tenth of those it is another one's.</summary>
    public static List<TrueRecord> LoseNames(IReadOnlyList<TrueRecord> records, Random random) =>
        [.. records.Select(record => random.Next(10) != 0 ? record : record with { Record = Copy(record.Record, record.Record.StartMicros, random.Next(10) == 0 ? "s0" : null, renamed: true) })];

    static IndexedRecord Copy(IndexedRecord from, long start, string? service = null, bool renamed = false, RpcId? cut = null)
    {
        var record = new TraceRecord
        {
            Name = from.Record.Name,
            TraceId = from.Record.TraceId,
            RpcId = cut ?? from.Record.RpcId,
            Action = from.Record.Action,
            Service = renamed ? service : from.Record.Service,
            ServerIp = from.Record.ServerIp,
            Pid = from.Record.Pid,
            SpanId = from.Record.SpanId,
            ParentSpanId = from.Record.ParentSpanId,
            TimestampMicros = start + (from.Record.DurationMicros ?? 0),
            DurationMicros = from.Record.DurationMicros,
        };
        record.Set(RecordField.ClientIp, from.Record.Text(RecordField.ClientIp));
        return new IndexedRecord
        {
            Record = record,
            Kind = from.Kind,
            ActionKey = from.ActionKey,
            Service = renamed ? service : from.Service,
            ServiceIsCertain = renamed ? service is not null : from.ServiceIsCertain,
            Peer = from.Peer,
            StartMicros = start,
            LineHash = from.LineHash,
            RecordId = from.RecordId + (UInt128.One << 64),
            SourceFile = from.SourceFile,
            SourceOffset = from.SourceOffset,
        };
    }

    static double Gaussian(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}
