using System.Runtime.CompilerServices;
using System.Text;

namespace LogTrace.Records;

/// <summary>
/// One record, decoded. A record read by <see cref="RecordCodec"/> keeps its fields as slices of the line and makes a string
/// only when one is asked for; a record made in code has strings from the start. Both look the same from outside.
/// </summary>
/// <remarks>Not safe for concurrent use: asking for a string caches it. The record keeps the memory of its line alive.</remarks>
public sealed class TraceRecord
{
    // Where each field's bytes lie. A record that was read is one object as long as nobody asks for a string.
    Slots _slots;
    string?[]? _texts;

    // The line first, then whatever had to be unescaped: a slice's start counts through both.
    ReadOnlyMemory<byte> _line;
    byte[] _unescaped = [];
    bool _isAsWritten;

    /// <summary>A slice, or a mere text; the default is a field that the record does not have.</summary>
    readonly struct Slot
    {
        readonly int _start;
        readonly int _lengthAndOne;

        public static readonly Slot OfText = new(0, -2);

        public Slot(int start, int length) => (_start, _lengthAndOne) = (start, length + 1);

        public int Start => _start;
        public int Length => _lengthAndOne - 1;
        public bool IsSet => _lengthAndOne != 0;
        public bool IsText => _lengthAndOne < 0;
    }

    [InlineArray(RecordFields.Count)]
    struct Slots
    {
        Slot _first;
    }

    /// <summary>Kind of record, such as <c>request.info</c>.</summary>
    public string? Name { get => Text(RecordField.Name); init => Set(RecordField.Name, value); }

    /// <summary>Id of the whole request; null for a line that belongs to no chain.</summary>
    public string? TraceId { get => Text(RecordField.TraceId); init => Set(RecordField.TraceId, value); }

    /// <summary>Place in the chain; null for an event that carries none.</summary>
    public RpcId? RpcId { get; set => (field, _isAsWritten) = (value, false); }

    /// <summary>Microseconds since the epoch at which the record was logged: from timestamp_us, else from timestamp.</summary>
    public long TimestampMicros { get; set => (field, _isAsWritten) = (value, false); }

    /// <summary>True when the time is known to the microsecond (timestamp_us or CLEF's @t), not only to the second.</summary>
    public bool HasPreciseTime { get; set => (field, _isAsWritten) = (value, false); }

    /// <summary>Time taken, in microseconds.</summary>
    public long? DurationMicros { get; set => (field, _isAsWritten) = (value, false); }

    /// <summary>Name resolution, in microseconds.</summary>
    public long? DnsDurationMicros { get; set => (field, _isAsWritten) = (value, false); }

    /// <summary>Bytes of the response.</summary>
    public long? ResponseLength { get; set => (field, _isAsWritten) = (value, false); }

    /// <summary>Part of an X-DEBUG request.</summary>
    public bool? Debug { get; set => (field, _isAsWritten) = (value, false); }

    /// <summary>Parts of the trace were left out on purpose.</summary>
    public bool? Sampled { get; set => (field, _isAsWritten) = (value, false); }

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

    /// <summary>
    /// The line of <see cref="SourceLine"/> holds this record in SCHEMA.md's names and types and nothing besides, each name once and no blanks between members; their order and needless escapes are its own.
    /// So it can be passed on as it is. False as soon as a field was set.
    /// </summary>
    public bool IsAsWritten { get => _isAsWritten; internal set => _isAsWritten = value; }

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
        ref readonly var slot = ref _slots[(int)field];
        if (!slot.IsSet) return null;
        // Where the same text stands in many records it is looked up each time it is asked for: so this one needs no room for strings.
        if (!slot.IsText && Repeats(field)) return SharedTexts.Of(Slice(slot));
        return Texts[(int)field] ??= Encoding.UTF8.GetString(Slice(slot));
    }

    static bool Repeats(RecordField field) => field is
        RecordField.Name or RecordField.Department or RecordField.Module or RecordField.ServerIp or RecordField.Version or RecordField.Code or RecordField.Host or
        RecordField.InstanceName or RecordField.Db or RecordField.File or RecordField.Service or RecordField.Level;

    /// <summary>UTF-8 text of a string field (unescaped; for extra its JSON), empty when the record has none. Makes no string for a record that was read.</summary>
    public ReadOnlySpan<byte> Utf8(RecordField field)
    {
        ref readonly var slot = ref _slots[(int)field];
        if (!slot.IsSet) return default;
        return slot.IsText ? Encoding.UTF8.GetBytes(Texts[(int)field]!) : Slice(slot);
    }

    /// <summary>True when the record has a value for a text field or extra.</summary>
    public bool Has(RecordField field) => _slots[(int)field].IsSet;

    /// <summary>Sets a text field; null removes it.</summary>
    public void Set(RecordField field, string? value)
    {
        _slots[(int)field] = value is null ? default : Slot.OfText;
        if (value is not null || _texts is not null) Texts[(int)field] = value;
        _isAsWritten = false;
    }

    /// <summary>Says where the slices of a read record point to.</summary>
    internal void SetLine(ReadOnlyMemory<byte> line) => _line = line;

    /// <summary>Sets a field to a slice of the line, which needed no unescaping.</summary>
    internal void SetSlice(RecordField field, int start, int length) => _slots[(int)field] = new Slot(start, length);

    /// <summary>Sets a field to bytes of its own, such as unescaped text.</summary>
    internal void SetBytes(RecordField field, ReadOnlySpan<byte> utf8)
    {
        var start = _unescaped.Length;
        Array.Resize(ref _unescaped, start + utf8.Length);
        utf8.CopyTo(_unescaped.AsSpan(start));
        _slots[(int)field] = new Slot(_line.Length + start, utf8.Length);
    }

    string?[] Texts => _texts ??= new string?[RecordFields.Count];

    ReadOnlySpan<byte> Slice(in Slot slot) =>
        slot.Start >= _line.Length && slot.Length > 0
            ? _unescaped.AsSpan(slot.Start - _line.Length, slot.Length)
            : _line.Span.Slice(Math.Min(slot.Start, _line.Length), slot.Length);
}
