using System.Globalization;
using System.IO.Hashing;
using System.Text;
using LogTrace.Records;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// The public cluster-trace-microservices data (2021 and 2022): one row per call and side, both sides under one id (twins). Columns are
/// found by name, in any order, other columns are ignored. What the columns mean: github.com/alibaba/clusterdata.
/// </summary>
static class AlibabaFile
{
    static readonly string[] Columns = ["traceid", "timestamp", "rpcid", "um", "rpctype", "dm", "interface", "rt"];

    // Recorded by caller and callee; the other types (caches, databases, user code) by the caller only.
    static readonly string[] RemoteTypes = ["rpc", "http", "mq"];

    sealed record Row(
        string TraceId, RpcId? RpcId, long StartMicros, double? ResponseMillis, string? Caller, string? Callee, string? CallerInstance, string? CalleeInstance,
        string Type, string Interface, UInt128 Hash, long Offset)
    {
        public bool? IsCallerSide { get; set; } = ResponseMillis switch { > 0 => true, < 0 => false, _ => null };

        /// <summary>Both are between the same two, as far as each knows them, and this one lies within the other. Times are whole milliseconds.</summary>
        public bool IsWithin(Row other)
        {
            const long Rounding = 1_000;
            return StartMicros >= other.StartMicros - Rounding && StartMicros + Micros <= other.StartMicros + other.Micros + Rounding
                && Agree(Caller, other.Caller) && Agree(Callee, other.Callee) && Agree(CallerInstance, other.CallerInstance) && Agree(CalleeInstance, other.CalleeInstance);
        }

        long Micros => (long)((ResponseMillis ?? 0) * 1_000);

        static bool Agree(string? left, string? right) => left is null || right is null || left == right;

        /// <summary>Rows of the two sides agree in this; the called service is often known to one side only.</summary>
        public (string, string, string?, string, string) TwinKey => (TraceId, RpcId?.Text ?? "", Caller, Type, Interface);
    }

    /// <summary>
    /// Reads all rows of a file. Throws <see cref="InvalidDataException"/> when the header lacks a column, or, after it has handed on the rows up to there, when the compressed data is damaged.
    /// </summary>
    /// <param name="read">Counts rows; header and blank ones are none.</param>
    /// <param name="add">Takes each record.</param>
    /// <param name="setAside">Takes line number and reason of each row that is no call.</param>
    public static void Read(Stream stream, string file, ref long read, Action<IndexedRecord> add, Action<long, string> setAside)
    {
        var rows = new List<Row>();
        try
        {
            ReadRows(stream, file, rows, ref read, setAside);
        }
        finally
        {
            if (!rows.Exists(row => row.ResponseMillis < 0)) DecideSidesByTime(rows);
            DecideSides(rows);
            foreach (var row in rows) add(RecordOf(row, file));
        }
    }

    static void ReadRows(Stream stream, string file, List<Row> rows, ref long read, Action<long, string> setAside)
    {
        Dictionary<string, int>? columns = null;
        foreach (var line in LogLines.Read(stream))
        {
            if (!line.IsTooLong && line.Bytes.Span.Trim(" \t"u8).IsEmpty) continue;
            var fields = line.IsTooLong ? [] : Split(Encoding.UTF8.GetString(line.Bytes.Span));
            if (columns is null)
            {
                columns = ReadHeader(fields, file);
                continue;
            }

            read++;
            if (line.IsTooLong) setAside(line.Number, $"it is longer than {LogLines.MaxLineBytes:N0} bytes");
            else if (TryReadRow(fields, columns, line, out var row, out var reason)) rows.Add(row!);
            else setAside(line.Number, reason!);
        }

        if (columns is null) throw new InvalidDataException($"{file} is empty; its first line must name the columns {string.Join(", ", Columns)}.");
    }

    static Dictionary<string, int> ReadHeader(List<string> fields, string file)
    {
        var columns = new Dictionary<string, int>(StringComparer.OrdinalIgnoreCase);
        for (var i = 0; i < fields.Count; i++) columns.TryAdd(fields[i].Trim().Replace("_", "", StringComparison.Ordinal), i);
        var missing = Columns.Where(column => !columns.ContainsKey(column)).ToArray();
        if (missing.Length > 0)
            throw new InvalidDataException($"{file} has no column {string.Join(", ", missing)} in its first line; that line must name the columns {string.Join(", ", Columns)}, in any order.");
        columns.Add("#", fields.Count);
        return columns;
    }

    // RFC 4180 within one line: this data has no line ends in its fields, and a line keeps its number and offset.
    static List<string> Split(string line)
    {
        var fields = new List<string>();
        var field = new StringBuilder();
        var isQuoted = false;
        for (var i = 0; i < line.Length; i++)
        {
            var character = line[i];
            if (character == '"' && isQuoted && i + 1 < line.Length && line[i + 1] == '"') field.Append(line[++i]);
            else if (character == '"' && (isQuoted || field.Length == 0)) isQuoted = !isQuoted;
            else if (character == ',' && !isQuoted)
            {
                fields.Add(field.ToString());
                field.Clear();
            }
            else field.Append(character);
        }

        fields.Add(field.ToString());
        return fields;
    }

    static bool TryReadRow(List<string> fields, Dictionary<string, int> columns, LogLines.Line line, out Row? row, out string? reason)
    {
        row = null;
        if (fields.Count != columns["#"])
        {
            reason = $"it has {fields.Count} columns, the first line {columns["#"]}";
            return false;
        }

        string Value(string column) => columns.TryGetValue(column, out var index) ? fields[index].Trim() : "";
        var traceId = Value("traceid");
        if (traceId.Length == 0)
        {
            reason = "traceid is empty";
            return false;
        }

        // Without an id it is still somebody's call in this trace, only nobody knows where.
        RpcId? rpcId = null;
        if (RpcId.TryParse(Value("rpcid"), out var id)) rpcId = id;
        else if (Known(Value("rpcid")) is not null)
        {
            reason = $"rpcid '{Excerpt(Value("rpcid"))}': {RpcId.Describe(RpcId.Check(Value("rpcid")))}";
            return false;
        }

        if (!double.TryParse(Value("timestamp"), NumberStyles.Float, CultureInfo.InvariantCulture, out var millis) || millis is not (>= -1e12 and <= 1e15))
        {
            reason = $"timestamp '{Excerpt(Value("timestamp"))}' is no number of milliseconds";
            return false;
        }

        double? responseMillis = null;
        if (double.TryParse(Value("rt"), NumberStyles.Float, CultureInfo.InvariantCulture, out var response) && response is >= -1e12 and <= 1e12) responseMillis = response;
        else if (Known(Value("rt")) is not null)
        {
            reason = $"rt '{Excerpt(Value("rt"))}' is no number of milliseconds";
            return false;
        }

        row = new Row(
            traceId, rpcId, (long)Math.Round(millis * 1_000), responseMillis, Known(Value("um")), Known(Value("dm")), Known(Value("uminstanceid")), Known(Value("dminstanceid")),
            Value("rpctype"), Value("interface"), HashOf(fields, columns), line.Offset);
        reason = null;
        return true;
    }

    /// <summary>Of what the row says, not of where it stands: a running number, as tables are often saved with, makes no two calls of one row that was recorded twice.</summary>
    static UInt128 HashOf(List<string> fields, Dictionary<string, int> columns)
    {
        var hash = new XxHash128();
        foreach (var (name, column) in columns)
        {
            if (name is "#" or "" or "index" || name.StartsWith("Unnamed", StringComparison.Ordinal)) continue;
            hash.Append(Encoding.UTF8.GetBytes(fields[column].Trim()));
            hash.Append([0]);
        }

        return hash.GetCurrentHashAsUInt128();
    }

    static string? Known(string value) => s_unknown.Contains(value) ? null : value;

    /// <summary>What the publishers wrote where they did not know, and what programs make of an empty cell.</summary>
    static readonly HashSet<string> s_unknown = new(StringComparer.OrdinalIgnoreCase) { "", "(?)", "?", "UNKNOWN", "UNAVAILABLE", "NaN", "null", "None", "NA", "N/A" };

    static string Excerpt(string text) => text.Length <= 64 ? text : text[..64] + "...";

    /// <summary>
    /// A response time below 1 ms is recorded as 0 and has no sign to tell the side: it is the other side of its twin, else the caller's.
    /// Equal lines are one row recorded twice and stay on one side. Of two rows without a sign only remote calls make twins: what caches,
    /// databases and user code do is recorded by the caller.
    /// </summary>
    static void DecideSides(List<Row> rows)
    {
        // Without an id nothing says which row is the other side of which.
        foreach (var row in rows.Where(row => row.RpcId is null)) row.IsCallerSide ??= true;
        var zeros = rows.Where(row => row.IsCallerSide is null).ToLookup(row => row.TwinKey);
        if (zeros.Count == 0) return;
        var signed = rows.Where(row => row.IsCallerSide is not null).ToLookup(row => row.TwinKey);
        foreach (var group in zeros)
        {
            foreach (var copies in group.GroupBy(row => row.Hash).OrderBy(copies => copies.First().Callee is not null).ThenBy(copies => copies.First().StartMicros).ThenBy(copies => copies.Key))
            {
                var row = copies.First();
                var twins = signed[group.Key].Concat(group).Where(other => other.IsCallerSide is not null && other.Hash != row.Hash && (other.Callee is null || row.Callee is null || other.Callee == row.Callee)).ToList();
                if (!RemoteTypes.Contains(row.Type)) twins.RemoveAll(twin => twin.ResponseMillis is 0 or null);
                var isCaller = twins.TrueForAll(twin => twin.IsCallerSide == false);
                foreach (var copy in copies) copy.IsCallerSide = isCaller;
            }
        }
    }

    /// <summary>
    /// Where no response time has a sign, as in the data of 2022, time tells the sides of a remote call: what its callee saw lies within what its caller saw, between the
    /// same two. Rows under one id of which neither holds the other are calls of their own.
    /// </summary>
    static void DecideSidesByTime(List<Row> rows)
    {
        foreach (var call in rows.Where(row => row.RpcId is not null && RemoteTypes.Contains(row.Type)).GroupBy(row => (row.TraceId, row.RpcId!.Value.Text, row.Type)))
        {
            var open = new List<Row>();
            foreach (var copies in call.GroupBy(row => row.Hash).OrderBy(copies => copies.First().StartMicros).ThenByDescending(copies => copies.First().ResponseMillis).ThenBy(copies => copies.Key))
            {
                var row = copies.First();
                var caller = open.Count > MaxOpen ? null : open.Find(row.IsWithin);
                if (caller is null) open.Add(row);
                else open.Remove(caller);
                foreach (var copy in copies) copy.IsCallerSide = caller is null;
            }
        }
    }

    /// <summary>More calls under one id come only from broken input.</summary>
    const int MaxOpen = 1_000;

    static IndexedRecord RecordOf(Row row, string file)
    {
        var isCaller = row.IsCallerSide == true;
        var duration = row.ResponseMillis is { } millis ? (long)Math.Round(Math.Abs(millis) * 1_000) : (long?)null;
        var service = isCaller ? row.Caller : row.Callee;
        var record = new TraceRecord
        {
            Name = row.Type,
            TraceId = row.TraceId,
            RpcId = row.RpcId,
            Service = service,
            Action = row.Interface.Length == 0 ? null : row.Interface,
            ServerIp = isCaller ? row.CallerInstance : row.CalleeInstance,
            TimestampMicros = row.StartMicros + (duration ?? 0),
            HasPreciseTime = true,
            DurationMicros = duration,
        };
        return new IndexedRecord
        {
            Record = record,
            LineHash = row.Hash,
            SourceFile = file,
            SourceOffset = row.Offset,
            Service = service,
            ServiceIsCertain = service is not null,
            Kind = row.RpcId is null ? RecordKind.Event : isCaller ? RecordKind.Client : RecordKind.Server,
            StartMicros = row.StartMicros,
            Peer = isCaller ? row.Callee : null,
            CallerService = isCaller ? null : row.Caller,
            CalleeService = isCaller ? row.Callee : null,
        };
    }
}
