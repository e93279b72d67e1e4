using System.Globalization;
using System.Text;
using System.Text.Unicode;

namespace LogTrace.Records;

/// <summary>
/// An event in compact log event format (<see href="https://clef-json.org"/>), as Serilog.Formatting.Compact writes it: what its own
/// members (<c>@t @mt @m @l @x @i @r @tr @sp</c>) say in terms of a record. Properties are the codec's business.
/// </summary>
readonly ref struct ClefReader
{
    readonly ReadOnlySpan<byte> _line;
    readonly Span<JsonMember> _members;
    readonly int _time = -1, _template = -1, _message = -1, _level = -1, _exception = -1, _renderings = -1, _traceId = -1, _spanId = -1;

    public ClefReader(ReadOnlySpan<byte> line, Span<JsonMember> members)
    {
        _line = line;
        _members = members;
        for (var index = 0; index < members.Length; index++)
        {
            if (members[index].Field != -1) continue;
            switch (ExtraJson.Name(line, members[index]))
            {
                case "@t": Take(ref _time, index); break;
                case "@mt": Take(ref _template, index); break;
                case "@m": Take(ref _message, index); break;
                case "@l": Take(ref _level, index); break;
                case "@x": Take(ref _exception, index); break;
                case "@r": Take(ref _renderings, index); break;
                case "@tr": Take(ref _traceId, index); break;
                case "@sp": Take(ref _spanId, index); break;
            }
        }
    }

    // Of a member given twice the last counts; the earlier one is no leftover.
    void Take(ref int place, int index)
    {
        if (place >= 0) _members[place].Field = FieldLookup.Consumed;
        place = index;
    }

    public ReadOnlySpan<byte> TimeText => Raw(_time);

    public bool TryReadTime(out long micros)
    {
        micros = 0;
        if (_time < 0 || _members[_time].Value.Kind != JsonKind.String) return false;
        if (!DateTimeOffset.TryParse(TextOf(_time), CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal, out var time)) return false;
        micros = (time.UtcTicks - DateTime.UnixEpoch.Ticks) / TimeSpan.TicksPerMicrosecond;
        _members[_time].Field = FieldLookup.Consumed;
        return micros >= 0;
    }

    /// <summary>Sets the fields that no property of the event has set; what has no field to go to stays a leftover.</summary>
    public void Apply(TraceRecord record)
    {
        var level = IsText(_level) ? TextOf(_level) : "Information";
        if (!record.Has(RecordField.Name)) record.Set(RecordField.Name, NameOf(level, IsText(_exception)));
        if (!record.Has(RecordField.Level))
        {
            record.Set(RecordField.Level, level);
            if (IsText(_level)) Consume(_level);
        }

        ApplyMessage(record);
        Move(record, RecordField.Backtrace, _exception);
        Move(record, RecordField.SpanId, _spanId);
        if (_traceId >= 0 && RecordCodec.IsTraceId(Plain(_traceId))) Move(record, RecordField.TraceId, _traceId);
    }

    void ApplyMessage(TraceRecord record)
    {
        Move(record, RecordField.Msg, _message);
        if (!IsText(_template)) return;
        var template = TextOf(_template);
        if (!record.Has(RecordField.Msg)) record.Set(RecordField.Msg, new ClefTemplate(_line, _members, _renderings).Render(template));
        if (_renderings >= 0) Consume(_renderings);

        // The template groups messages that differ in their values only; it is kept unless it says what the message says.
        if (record.Msg == template) Consume(_template);
    }

    void Move(TraceRecord record, RecordField field, int place)
    {
        if (!IsText(place) || record.Has(field)) return;
        if (!_members[place].Value.Escaped && Utf8.IsValid(Raw(place))) record.SetSlice(field, _members[place].Value.Start, _members[place].Value.Length);
        else record.SetBytes(field, JsonScanner.Unescape(Raw(place), out _));
        Consume(place);
    }

    void Consume(int place) => _members[place].Field = FieldLookup.Consumed;

    bool IsText(int place) => place >= 0 && _members[place].Value.Kind == JsonKind.String;

    /// <summary>The record name that stands for a level: those of Serilog, and what others call them.</summary>
    static string NameOf(string level, bool hasException) => hasException ? "log.exception" : level.ToLowerInvariant() switch
    {
        "verbose" or "trace" => "log.trace",
        "debug" => "log.debug",
        "notice" => "log.notice",
        "warning" or "warn" => "log.warning",
        "error" or "err" => "log.error",
        "fatal" or "critical" or "alarm" or "emergency" => "log.alarm",
        _ => "log.info",
    };

    ReadOnlySpan<byte> Raw(int place) => place < 0 ? default : _line.Slice(_members[place].Value.Start, _members[place].Value.Length);

    ReadOnlySpan<byte> Plain(int place) => _members[place].Value.Escaped ? JsonScanner.Unescape(Raw(place), out _) : Raw(place);

    string TextOf(int place) => Encoding.UTF8.GetString(Plain(place));
}
