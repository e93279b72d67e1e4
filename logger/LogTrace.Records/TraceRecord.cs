using System.Text;

namespace LogTrace.Records;

/// <summary>
/// One record, decoded. A record read by <see cref="RecordCodec"/> keeps its fields as slices of the line and makes a string
/// only when one is asked for; a record made in code has strings from the start. Both look the same from outside.
/// </summary>
/// <remarks>Not safe for concurrent use: asking for a string caches it. The record keeps the memory of its line alive.</remarks>
public sealed class TraceRecord
{
    readonly Slot[] _slots = new Slot[RecordFields.All.Count];

    // The line first, then whatever had to be unescaped: a slice's start counts through both.
    ReadOnlyMemory<byte> _line;
    byte[] _unescaped = [];

    struct Slot
    {
        public string? Text;
        public int Start;
        public int Length;
        public bool IsSet;
    }

    /// <summary>Kind of record, such as <c>request.info</c>.</summary>
    public string? Name { get => Text(RecordField.Name); init => Set(RecordField.Name, value); }

    /// <summary>Id of the whole request; null for a line that belongs to no chain.</summary>
    public string? TraceId { get => Text(RecordField.TraceId); init => Set(RecordField.TraceId, value); }

    /// <summary>Place in the chain; null for an event that carries none.</summary>
    public RpcId? RpcId { get; set; }

    /// <summary>Microseconds since the epoch at which the record was logged: from timestamp_us, else from timestamp.</summary>
    public long TimestampMicros { get; set; }

    /// <summary>True when the time is known to the microsecond (timestamp_us or CLEF's @t), not only to the second.</summary>
    public bool HasPreciseTime { get; set; }

    /// <summary>Time taken, in microseconds.</summary>
    public long? DurationMicros { get; set; }

    /// <summary>Name resolution, in microseconds.</summary>
    public long? DnsDurationMicros { get; set; }

    /// <summary>Bytes of the response.</summary>
    public long? ResponseLength { get; set; }

    /// <summary>Part of an X-DEBUG request.</summary>
    public bool? Debug { get; set; }

    /// <summary>Parts of the trace were left out on purpose.</summary>
    public bool? Sampled { get; set; }

    /// <summary>Owner.</summary>
    public string? Department { get => Text(RecordField.Department); init => Set(RecordField.Department, value); }

    /// <summary>application_module_function_action.</summary>
    public string? Module { get => Text(RecordField.Module); init => Set(RecordField.Module, value); }

    /// <summary>The host that wrote the record.</summary>
    public string? ServerIp { get => Text(RecordField.ServerIp); init => Set(RecordField.ServerIp, value); }

    /// <summary>What was executed.</summary>
    public string? Action { get => Text(RecordField.Action); init => Set(RecordField.Action, value); }

    /// <summary>Request parameters.</summary>
    public string? Param { get => Text(RecordField.Param); init => Set(RecordField.Param, value); }

    /// <summary>language-service-version.</summary>
    public string? Version { get => Text(RecordField.Version); init => Set(RecordField.Version, value); }

    /// <summary>Error or status code.</summary>
    public string? Code { get => Text(RecordField.Code); init => Set(RecordField.Code, value); }

    /// <summary>Message.</summary>
    public string? Msg { get => Text(RecordField.Msg); init => Set(RecordField.Msg, value); }

    /// <summary>Stack trace.</summary>
    public string? Backtrace { get => Text(RecordField.Backtrace); init => Set(RecordField.Backtrace, value); }

    /// <summary>User.</summary>
    public string? Uid { get => Text(RecordField.Uid); init => Set(RecordField.Uid, value); }

    /// <summary>Process.</summary>
    public string? Pid { get => Text(RecordField.Pid); init => Set(RecordField.Pid, value); }

    /// <summary>Target as ip:port.</summary>
    public string? Host { get => Text(RecordField.Host); init => Set(RecordField.Host, value); }

    /// <summary>Name of the connection.</summary>
    public string? InstanceName { get => Text(RecordField.InstanceName); init => Set(RecordField.InstanceName, value); }

    /// <summary>Anything else, as JSON text: an object, or a string with its quotes.</summary>
    public string? ExtraJson { get => Text(RecordField.Extra); init => Set(RecordField.Extra, value); }

    /// <summary>Name of the service, where the record says it.</summary>
    public string? Service { get => Text(RecordField.Service); init => Set(RecordField.Service, value); }

    /// <summary>Log level.</summary>
    public string? Level { get => Text(RecordField.Level); init => Set(RecordField.Level, value); }

    /// <summary>This execution.</summary>
    public string? SpanId { get => Text(RecordField.SpanId); init => Set(RecordField.SpanId, value); }

    /// <summary>The execution that caused this one.</summary>
    public string? ParentSpanId { get => Text(RecordField.ParentSpanId); init => Set(RecordField.ParentSpanId, value); }

    /// <summary>What the record says about a call, by its name.</summary>
    public RecordKind Kind => RecordNames.KindOf(Name);

    /// <summary>Fields whose value could not be read as the field's type; the value is kept under extra. Null when there are none.</summary>
    public IReadOnlyList<string>? UnreadableFields { get; set; }

    /// <summary>The bytes of the line that the record was read from; empty for a record made in code.</summary>
    public ReadOnlyMemory<byte> SourceLine => _line;

    /// <summary>
    /// Wire names of the fields that every record must have and this one has not, in the order of SCHEMA.md; empty when nothing is missing.
    /// Such a record is kept and reported. A rpc_id is missed on server records only: an event without one has a place in its trace all the same.
    /// </summary>
    public IReadOnlyList<string> MissingFields()
    {
        List<string>? missing = null;
        foreach (var field in RecordFields.All)
        {
            if (field.Need != FieldNeed.Yes || field.Field == RecordField.Timestamp) continue;
            var isMissing = field.Field == RecordField.RpcId ? RpcId is null && Kind == RecordKind.Server : !Has(field.Field);
            if (isMissing) (missing ??= []).Add(field.WireName);
        }

        return missing ?? (IReadOnlyList<string>)[];
    }

    /// <summary>Text of a string field (or the JSON of extra), null when the record has none. Number and boolean fields have properties of their own.</summary>
    public string? Text(RecordField field)
    {
        ref var slot = ref _slots[(int)field];
        if (!slot.IsSet) return null;
        return slot.Text ??= Encoding.UTF8.GetString(Slice(slot));
    }

    /// <summary>UTF-8 text of a string field (unescaped; for extra its JSON), empty when the record has none. Makes no string for a record that was read.</summary>
    public ReadOnlySpan<byte> Utf8(RecordField field)
    {
        ref var slot = ref _slots[(int)field];
        if (!slot.IsSet) return default;
        return slot.Length >= 0 ? Slice(slot) : Encoding.UTF8.GetBytes(slot.Text!);
    }

    /// <summary>True when the record has a value for a text field or extra.</summary>
    public bool Has(RecordField field) => _slots[(int)field].IsSet;

    /// <summary>Sets a text field; null removes it.</summary>
    public void Set(RecordField field, string? value) => _slots[(int)field] = new Slot { Text = value, Length = -1, IsSet = value is not null };

    /// <summary>Says where the slices of a read record point to.</summary>
    internal void SetLine(ReadOnlyMemory<byte> line) => _line = line;

    /// <summary>Sets a field to a slice of the line, which needed no unescaping.</summary>
    internal void SetSlice(RecordField field, int start, int length) =>
        _slots[(int)field] = new Slot { Start = start, Length = length, IsSet = true };

    /// <summary>Sets a field to bytes of its own, such as unescaped text.</summary>
    internal void SetBytes(RecordField field, ReadOnlySpan<byte> utf8)
    {
        var start = _unescaped.Length;
        Array.Resize(ref _unescaped, start + utf8.Length);
        utf8.CopyTo(_unescaped.AsSpan(start));
        _slots[(int)field] = new Slot { Start = _line.Length + start, Length = utf8.Length, IsSet = true };
    }

    ReadOnlySpan<byte> Slice(in Slot slot) =>
        slot.Start >= _line.Length && slot.Length > 0
            ? _unescaped.AsSpan(slot.Start - _line.Length, slot.Length)
            : _line.Span.Slice(Math.Min(slot.Start, _line.Length), slot.Length);
}
