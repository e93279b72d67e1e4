using System.Globalization;
using System.IO.Compression;
using System.IO.Hashing;
using System.Text;
using System.Text.Json;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Accuracy;

/// <summary>The three kinds of traces that are rebuilt: made ones, ids of a public trace sample, shapes of public call graphs.</summary>
static class Inputs
{
    const int Services = 12;
    const int InstancesEach = 3;

    /// <summary>How deep made traces get.</summary>
    public const int UsualDepth = 13;


    /// <summary>G1: traces as LogTrace's logger writes them: requests, resources, branches and log lines, up to fourteen levels deep.</summary>
    /// <param name="defect">Spoils the ids before records are written.</param>
    /// <param name="deepest">Greatest depth of a call.</param>
    public static List<TrueTrace> Generate(int traces, int seed, Telling? telling = null, Action<IReadOnlyList<TrueCall>, Random>? defect = null, int deepest = UsualDepth)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, traces).Select(_ => Trace(random, telling ?? new Telling(), defect, deepest))];
    }

    static TrueTrace Trace(Random random, Telling telling, Action<IReadOnlyList<TrueCall>, Random>? defect, int deepest)
    {
        var entry = Code.Entry(random);
        var calls = new List<TrueCall> { new(null, 1, "", Code.ServiceOf(entry)) { Action = entry, Instance = random.Next(InstancesEach), StartMicros = random.NextInt64(60_000_000) } };
        var used = new Dictionary<TrueCall, int>();
        var isDeep = deepest > UsualDepth;
        var size = isDeep ? deepest + random.Next(deepest) : 5 + random.Next(random.Next(4) == 0 ? 150 : 40);
        while (calls.Count < size)
        {
            // Often the newest, so that chains get deep; else any, so that they get wide.
            var parent = random.Next(isDeep ? 10 : 2) == 1 ? calls[random.Next(calls.Count)] : isDeep ? calls.FindLast(call => call.Callee is not null)! : calls[^1];
            if (parent.Callee is null || parent.Depth >= deepest) continue;
            // The scope's own record has number 1.
            var number = used[parent] = used.GetValueOrDefault(parent, 1) + 1;
            var (action, isFork) = Code.Calls(parent.Action, number, random);
            var child = parent.Add(number, parent.Callee, isFork ? parent.Callee : action is null ? null : Code.ServiceOf(action));
            child.Action = action ?? "";
            child.IsFork = isFork;
            child.Instance = random.Next(InstancesEach);
            child.StartMicros = parent.StartMicros + (1_000 * number) + random.Next(1_000);
            calls.Add(child);
        }

        defect?.Invoke(calls, random);
        return Written(calls, ChainReading.Pairs, telling, random, events: true);
    }

    /// <summary>
    /// What services do: every kind of request makes its own calls, in its own order, in every trace. Now and then it is another call: code has conditions.
    /// </summary>
    static class Code
    {
        const int RequestsEach = 4;
        const int EntryServices = 2;

        /// <summary>Of a hundred calls, so many are not the usual one with that number.</summary>
        const int Unusual = 3;

        /// <summary>From outside only the first services are called.</summary>
        public static string Entry(Random random) => Request(random, EntryServices);

        static string Request(Random random, int services) => string.Create(CultureInfo.InvariantCulture, $"s{random.Next(services)}/r{random.Next(RequestsEach)}");

        public static string ServiceOf(string action) => action[..action.IndexOf('/')];

        /// <summary>What a request calls with one number: another request, a branch, or a resource (null), each with a name of its own.</summary>
        public static (string? Action, bool IsFork) Calls(string action, int number, Random random)
        {
            if (random.Next(100) < Unusual) return Choose(action, number, random);
            return Choose(action, number, new Random((int)XxHash32.HashToUInt32(Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"{action} {number}")))));
        }

        static (string? Action, bool IsFork) Choose(string action, int number, Random random) =>
            random.Next(12) == 0 ? (string.Create(CultureInfo.InvariantCulture, $"{action}-{number}"), true) : (random.Next(3) == 0 ? null : Request(random, Services), false);
    }

    /// <summary>G2: the ids of the 2021 sample of Alibaba's traces, closed under ancestors; both sides under one id. Null when the file is not there.</summary>
    public static List<TrueTrace>? AlibabaIds(string? file, int seed)
    {
        if (file is null) return null;
        var random = new Random(seed);
        var traces = new Dictionary<string, SortedSet<RpcId>>(StringComparer.Ordinal);
        using (var text = new StreamReader(new GZipStream(File.OpenRead(file), CompressionMode.Decompress)))
        {
            var columns = text.ReadLine()!.Split(',').ToList();
            var (traceId, rpcId) = (columns.IndexOf("traceid"), columns.IndexOf("rpcid"));
            while (text.ReadLine() is { } line)
            {
                var fields = line.Split(',');
                if (!traces.TryGetValue(fields[traceId], out var ids)) traces.Add(fields[traceId], ids = []);
                for (var id = RpcId.Parse(fields[rpcId]); ;)
                {
                    if (!ids.Add(id) || !id.TryGetParent(out id)) break;
                }
            }
        }

        return [.. traces.Values.Select(ids => FromIds(ids, random))];
    }

    static TrueTrace FromIds(SortedSet<RpcId> ids, Random random)
    {
        var calls = new Dictionary<RpcId, TrueCall>();
        var ordered = new List<TrueCall>();
        var parents = ids.Select(id => id.TryGetParent(out var parent) ? parent : default).ToHashSet();
        foreach (var id in ids)
        {
            var callee = parents.Contains(id) || random.Next(2) == 0 ? Service(random) : null;
            var parent = id.TryGetParent(out var above) ? calls[above] : null;
            // Numbers of ten digits are met in this data; only their order counts here.
            var call = parent is null ? new TrueCall(null, 0, "", callee ?? Service(random)) : parent.Add(parent.Children.Count + 1, parent.Callee!, callee);
            call.Id = id.Text;
            call.Instance = random.Next(InstancesEach);
            call.StartMicros = (parent?.StartMicros ?? 0) + random.Next(3_000);
            calls.Add(id, call);
            ordered.Add(call);
        }

        return Written(ordered, ChainReading.Twins, new Telling(), random, events: false);
    }

    /// <summary>G3: shapes of call graphs from Alibaba's 2022 data, call counts expanded, trees of 6 to 400 calls. Null when the file is not there.</summary>
    public static List<TrueTrace>? Shapes(string? file, int traces, int seed)
    {
        if (file is null) return null;
        var random = new Random(seed);
        var lines = new List<string>();
        using (var text = new StreamReader(new GZipStream(File.OpenRead(file), CompressionMode.Decompress)))
        {
            while (text.ReadLine() is { } line) lines.Add(line);
        }

        var made = new List<TrueTrace>();
        foreach (var line in random.GetItems(lines.ToArray(), traces * 3))
        {
            if (made.Count < traces && FromShape(line, random) is { } trace) made.Add(trace);
        }

        return made;
    }

    static TrueTrace? FromShape(string line, Random random)
    {
        const int Largest = 400;
        using var shape = JsonDocument.Parse(line);
        var edges = shape.RootElement.GetProperty("edges").EnumerateArray()
            .Select(edge => (From: edge[0].GetString()!, To: edge[1].GetString()!, Calls: edge[2].GetInt32(), Type: edge[3].GetString()!)).ToList();
        var entry = edges.Find(edge => edge.From == "USER").To;
        if (entry is null) return null;
        var calls = new List<TrueCall> { new(null, 1, "", entry) { StartMicros = random.NextInt64(60_000_000) } };
        for (var i = 0; i < calls.Count; i++)
        {
            var call = calls[i];
            if (call.Callee is null || call.Depth > 50) continue;
            foreach (var edge in edges.Where(edge => edge.From == call.Callee))
            {
                for (var repeat = 0; repeat < edge.Calls; repeat++)
                {
                    if (calls.Count > Largest) return null;
                    var child = call.Add(call.Children.Count + 1, call.Callee, edge.Type is "rpc" or "http" or "mq" || edges.Exists(other => other.From == edge.To) ? edge.To : null);
                    child.Instance = random.Next(InstancesEach);
                    child.StartMicros = call.StartMicros + (1_000 * child.Number);
                    calls.Add(child);
                }
            }
        }

        return calls.Count < 6 ? null : Written(calls, ChainReading.Twins, new Telling(), random, events: false);
    }

    static TrueTrace Written(List<TrueCall> calls, ChainReading reading, Telling telling, Random random, bool events)
    {
        var writer = new RecordWriter(reading, telling);
        foreach (var call in calls)
        {
            writer.Write(call, random);
            if (events && call.Parent is not null && !call.IsFork && random.Next(4) == 0) writer.WriteEvent(call, call.StartMicros + 1_100);
        }

        return new TrueTrace(calls, reading);
    }

    static string Service(Random random) => string.Create(CultureInfo.InvariantCulture, $"s{random.Next(Services)}");
}
