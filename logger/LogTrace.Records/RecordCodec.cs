using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Unicode;

namespace LogTrace.Records;

/// <summary>UTF-8 line to <see cref="TraceRecord"/> and back. Thread-safe: it has no state.</summary>
/// <remarks>
/// A line is walked once; its members are noted as slices on the stack, and a field that needs no unescaping stays a slice of the
/// line. Members are assigned after the walk, so that of a name given twice the last one counts, whatever the earlier ones held.
/// </remarks>
public static class RecordCodec
{
    /// <summary>Longest trace_id, in bytes.</summary>
    public const int MaxTraceIdBytes = 128;

    /// <summary>Last second of the year 9999: no clock says more, and no date type holds more.</summary>
    const long MaxSeconds = 253_402_300_799;

    const int MembersOnStack = 48;
    const int MaxExcerpt = 64;

    /// <summary>
    /// Reads one line (without its line end). Never throws, whatever the bytes. False means that the line is no record and has to
    /// be set aside for <paramref name="reason"/>, a sentence part such as <c>rpc_id '1..2': a segment is empty</c>.
    /// The record refers to <paramref name="line"/>, which must not change while the record is in use.
    /// </summary>
    public static bool TryRead(ReadOnlyMemory<byte> line, out TraceRecord record, out string? reason)
    {
        record = new TraceRecord();
        record.SetLine(line);
        var members = new MemberList(stackalloc JsonMember[MembersOnStack]);
        try
        {
            var scanner = new JsonScanner(line.Span);
            if (scanner.TryEnterObject())
            {
                while (scanner.TryNextMember(out var member)) members.Add(member);
            }

            if (scanner.Problem is { } problem)
            {
                reason = $"line '{Excerpt(line.Span)}': no JSON object: {problem}";
                return false;
            }

            var assignment = new Assignment(record, line.Span, members.Span, stackalloc int[FieldLookup.Count]);
            reason = assignment.Run();
            return reason is null;
        }
        finally
        {
            members.Return();
        }
    }

    /// <summary>
    /// Finds the trace_id of a line (also as x_trace_id, or CLEF's) without reading the rest; the slice is raw JSON text without quotes. False when it has none.
    /// </summary>
    /// <remarks>What stands behind the trace_id is not looked at, so a line that is no record may have one too. It is what keys the record in Kafka, no more.</remarks>
    public static bool TryReadTraceId(ReadOnlySpan<byte> line, out int start, out int length)
    {
        start = length = 0;
        var scanner = new JsonScanner(line);
        if (!scanner.TryEnterObject()) return false;
        while (scanner.TryNextMember(out var member))
        {
            var name = line.Slice(member.NameStart, member.NameLength);
            var isField = FieldLookup.TryFind(name, out var field) && field == RecordField.TraceId;
            if (!isField && !name.SequenceEqual("@tr"u8)) continue;
            if (member.Value.Kind is not (JsonKind.String or JsonKind.Number)) continue;
            var value = line.Slice(member.Value.Start, member.Value.Length);
            if (!member.Value.Escaped && !IsTraceId(value)) continue;
            (start, length) = (member.Value.Start, member.Value.Length);
            if (isField) break; // @tr counts only where no property is called trace_id
        }

        return length > 0;
    }

    /// <summary>True for 1 to 128 bytes of visible ASCII.</summary>
    public static bool IsTraceId(ReadOnlySpan<byte> utf8) =>
        utf8.Length is > 0 and <= MaxTraceIdBytes && utf8.IndexOfAnyExceptInRange((byte)0x21, (byte)0x7E) < 0;

    /// <summary>Writes the record as one JSON object in SCHEMA.md's names and order, without a line end.</summary>
    public static void Write(TraceRecord record, IBufferWriter<byte> output)
    {
        output.Write("{"u8);
        var isFirst = true;
        foreach (var field in RecordFields.All)
        {
            switch (field.Field)
            {
                case RecordField.RpcId:
                    if (record.RpcId is { } rpcId)
                    {
                        WriteName(output, field, ref isFirst);
                        JsonText.WriteString(output, rpcId.Text);
                    }

                    break;
                case RecordField.Timestamp:
                    WriteName(output, field, ref isFirst);
                    JsonText.WriteNumber(output, record.TimestampMicros / 1_000_000);
                    break;
                case RecordField.TimestampUs:
                    if (record.HasPreciseTime) WriteInteger(output, field, record.TimestampMicros, ref isFirst);
                    break;
                case RecordField.ResponseLength:
                    WriteInteger(output, field, record.ResponseLength, ref isFirst);
                    break;
                case RecordField.Duration:
                    WriteSeconds(output, field, record.DurationMicros, ref isFirst);
                    break;
                case RecordField.DnsDuration:
                    WriteSeconds(output, field, record.DnsDurationMicros, ref isFirst);
                    break;
                case RecordField.Debug:
                    WriteBoolean(output, field, record.Debug, ref isFirst);
                    break;
                case RecordField.Sampled:
                    WriteBoolean(output, field, record.Sampled, ref isFirst);
                    break;
                case RecordField.Extra:
                    if (!record.Has(field.Field)) break;
                    WriteName(output, field, ref isFirst);
                    WriteExtra(output, record.Utf8(field.Field));
                    break;
                default:
                    if (!record.Has(field.Field)) break;
                    WriteName(output, field, ref isFirst);
                    JsonText.WriteString(output, record.Utf8(field.Field));
                    break;
            }
        }

        output.Write("}"u8);
    }

    /// <summary>As <see cref="Write"/>, but a record whose line is in that form already (<see cref="TraceRecord.IsAsWritten"/>) goes out as it came in, whatever the order of its fields: nothing is encoded anew.</summary>
    public static void WriteLine(TraceRecord record, IBufferWriter<byte> output)
    {
        if (record.IsAsWritten) output.Write(record.SourceLine.Span);
        else Write(record, output);
    }

    static void WriteName(IBufferWriter<byte> output, FieldInfo field, ref bool isFirst)
    {
        output.Write(isFirst ? "\""u8 : ",\""u8);
        output.Write(FieldLookup.NameOf(field.Field));
        output.Write("\":"u8);
        isFirst = false;
    }

    static void WriteInteger(IBufferWriter<byte> output, FieldInfo field, long? value, ref bool isFirst)
    {
        if (value is null) return;
        WriteName(output, field, ref isFirst);
        JsonText.WriteNumber(output, value.Value);
    }

    static void WriteSeconds(IBufferWriter<byte> output, FieldInfo field, long? micros, ref bool isFirst)
    {
        if (micros is null) return;
        WriteName(output, field, ref isFirst);
        JsonText.WriteSeconds(output, micros.Value);
    }

    static void WriteBoolean(IBufferWriter<byte> output, FieldInfo field, bool? value, ref bool isFirst)
    {
        if (value is null) return;
        WriteName(output, field, ref isFirst);
        output.Write(value.Value ? "true"u8 : "false"u8);
    }

    // What a caller set as JSON may be anything; on the line it must be one object or string, without a line end.
    static void WriteExtra(IBufferWriter<byte> output, ReadOnlySpan<byte> json)
    {
        var scanner = new JsonScanner(json);
        if (!scanner.TryOnlyValue(out var value) || value.Kind is not (JsonKind.Object or JsonKind.String))
        {
            JsonText.WriteString(output, json);
            return;
        }

        if (json.IndexOfAny((byte)'\n', (byte)'\r') < 0) output.Write(json.Slice(value.RawStart, value.RawLength));
        else ExtraJson.Rewrite(json.Slice(value.RawStart, value.RawLength), output);
    }

    /// <summary>The start of a value as it may stand in a reason: at most 64 characters on one line.</summary>
    internal static string Excerpt(ReadOnlySpan<byte> utf8)
    {
        var text = Encoding.UTF8.GetString(utf8[..Math.Min(utf8.Length, MaxExcerpt * 4)]);
        var builder = new StringBuilder(MaxExcerpt + 3);
        foreach (var character in text)
        {
            if (builder.Length == MaxExcerpt) return builder.Append("...").ToString();
            builder.Append(char.IsControl(character) ? '\uFFFD' : character);
        }

        return builder.ToString();
    }

    /// <summary>Members of one line: on the stack as far as they fit.</summary>
    ref struct MemberList(Span<JsonMember> first)
    {
        Span<JsonMember> _members = first;
        JsonMember[]? _rented;
        int _count;

        public readonly Span<JsonMember> Span => _members[.._count];

        public void Add(in JsonMember member)
        {
            if (_count == _members.Length) Grow();
            _members[_count++] = member;
        }

        void Grow()
        {
            var larger = ArrayPool<JsonMember>.Shared.Rent(_members.Length * 2);
            _members.CopyTo(larger);
            Return();
            _members = _rented = larger;
        }

        public void Return()
        {
            if (_rented is not null) ArrayPool<JsonMember>.Shared.Return(_rented);
            _rented = null;
        }
    }

    /// <summary>Puts the members of one line into the record: known names into fields, the rest into extra.</summary>
    ref struct Assignment
    {
        readonly TraceRecord _record;
        readonly ReadOnlySpan<byte> _line;
        readonly Span<JsonMember> _members;

        // Index of the last member of each field, -1 without one.
        readonly Span<int> _places;
        readonly bool _isUtf8;
        List<string>? _unreadable;
        string? _timeProblem;
        bool _hasTime;
        bool _hasLeftovers;

        // What the field timestamp said, which need not be what timestamp_us says.
        long? _seconds;

        // Whether the line could be what Write writes, see TraceRecord.IsAsWritten.
        bool _isAsWritten;

        public Assignment(TraceRecord record, ReadOnlySpan<byte> line, Span<JsonMember> members, Span<int> places)
        {
            _record = record;
            _line = line;
            _members = members;
            _places = places;
            _isUtf8 = Utf8.IsValid(line);
            _isAsWritten = _isUtf8 && line.IndexOf((byte)'\n') < 0;
            places.Fill(-1);
        }

        /// <summary>Null when the record is whole, else the reason why it is none.</summary>
        public string? Run()
        {
            var isClef = Match();
            var clef = isClef ? new ClefReader(_line, _members) : default;
            if (isClef) TakeClefTime(clef);
            for (var field = 0; field < _places.Length; field++)
            {
                if (_places[field] < 0 || field == (int)RecordField.Extra) continue;
                ref var member = ref _members[_places[field]];
                if (member.Value.Kind == JsonKind.Null) continue;
                if (field == (int)RecordField.RpcId)
                {
                    if (ReadRpcId(member.Value) is { } problem) return problem;
                }
                else if (!ReadField((RecordField)field, member.Value))
                {
                    KeepUnderExtra(ref member, (RecordField)field);
                }
            }

            if (isClef) clef.Apply(_record);
            UseAliasOfName();
            if (!_hasTime) return _timeProblem ?? "timestamp: there is none";
            ReadExtra();
            _record.UnreadableFields = _unreadable;
            _record.IsAsWritten = _isAsWritten && !_hasLeftovers && _unreadable is null && HasOwnSeconds();
            return null;
        }

        // The whole seconds that belong to the record's time: the store's date, and all that a reader of other programs knows of it.
        readonly bool HasOwnSeconds() => _seconds == _record.TimestampMicros / 1_000_000;

        // Finds each member's field; -1 are leftovers. Of a field given twice only the last member stays.
        bool Match()
        {
            var isClef = false;
            var length = 1;
            for (var index = 0; index < _members.Length; index++)
            {
                ref var member = ref _members[index];
                var name = _line.Slice(member.NameStart, member.NameLength);
                length += member.NameLength + member.Value.RawLength + 4; // two quotes, colon, comma or brace
                if (member.NameEscaped) name = JsonScanner.Unescape(name, out _);
                if (FieldLookup.TryFind(name, out var field))
                {
                    member.Field = (short)field;
                    _isAsWritten = _isAsWritten && _places[(int)field] < 0 && member.Value.Kind != JsonKind.Null && !member.NameEscaped && name.Length == FieldLookup.NameOf(field).Length;
                    _places[(int)field] = index;
                }
                else if (member.Value.Kind == JsonKind.Null)
                {
                    member.Field = FieldLookup.Consumed;
                    _isAsWritten = false;
                }
                else
                {
                    _hasLeftovers = true;
                    isClef |= name.SequenceEqual("@t"u8);
                }
            }

            _isAsWritten = _isAsWritten && length == _line.Length; // else there are blanks
            return isClef;
        }

        void TakeClefTime(in ClefReader clef)
        {
            if (clef.TryReadTime(out var micros))
            {
                _record.TimestampMicros = micros;
                _record.HasPreciseTime = _hasTime = true;
            }
            else
            {
                _timeProblem = $"@t '{Excerpt(clef.TimeText)}': it is no time such as 2026-11-22T10:11:12.345Z";
            }

            // A property called timestamp may be any moment of the business; the event's own time is @t.
            Disown(RecordField.Timestamp);
            Disown(RecordField.TimestampUs);
            if (!HasRecordName()) Disown(RecordField.Name);
        }

        // In events that other programs wrote, a property "name" is as likely somebody's name as a kind of record.
        readonly bool HasRecordName()
        {
            var place = _places[(int)RecordField.Name];
            if (place < 0 || _members[place].Value is not { Kind: JsonKind.String } value) return false;
            return _line.Slice(value.Start, value.Length).Contains((byte)'.');
        }

        readonly bool HasValue(RecordField field) => _places[(int)field] is >= 0 and var place && _members[place].Value.Kind != JsonKind.Null;

        void Disown(RecordField field)
        {
            if (!HasValue(field)) return;
            _members[_places[(int)field]].Field = -1;
            _places[(int)field] = -1;
        }

        string? ReadRpcId(in JsonValue value)
        {
            if (value.Kind is not (JsonKind.String or JsonKind.Number))
                return $"rpc_id '{Excerpt(_line.Slice(value.RawStart, value.RawLength))}': it is no text";
            var text = Plain(value);
            if (!RpcId.TryParse(text, out var id, out var problem)) return $"rpc_id '{Excerpt(text)}': {RpcId.Describe(problem)}";
            _record.RpcId = id;
            _isAsWritten = _isAsWritten && value is { Kind: JsonKind.String, Escaped: false } && Ascii.Equals(text, id.Text);
            return null;
        }

        // The text of a string or number, unescaped.
        readonly ReadOnlySpan<byte> Plain(in JsonValue value)
        {
            var raw = _line.Slice(value.Start, value.Length);
            return value.Escaped ? JsonScanner.Unescape(raw, out _) : raw;
        }

        bool ReadField(RecordField field, in JsonValue value)
        {
            _isAsWritten = _isAsWritten && field switch
            {
                RecordField.Timestamp or RecordField.TimestampUs or RecordField.ResponseLength => value.Kind == JsonKind.Number && _line.Slice(value.Start, value.Length).IndexOfAnyExceptInRange((byte)'0', (byte)'9') < 0,
                RecordField.Duration or RecordField.DnsDuration => value.Kind == JsonKind.Number,
                RecordField.Debug or RecordField.Sampled => value.Kind is JsonKind.True or JsonKind.False,
                _ => value.Kind == JsonKind.String,
            };
            switch (field)
            {
                case RecordField.Timestamp:
                    return ReadTimestamp(value);
                case RecordField.TimestampUs:
                    return ReadTimestampMicros(value);
                case RecordField.Duration:
                    if (!TryDuration(value, out var duration)) return false;
                    _record.DurationMicros = duration;
                    return true;
                case RecordField.DnsDuration:
                    if (!TryDuration(value, out var dnsDuration)) return false;
                    _record.DnsDurationMicros = dnsDuration;
                    return true;
                case RecordField.ResponseLength:
                    if (!TryNumber(value, 1, out var bytes, out var isExact) || !isExact) return false;
                    _record.ResponseLength = bytes;
                    return true;
                case RecordField.Debug:
                    _record.Debug = Boolean(value);
                    return _record.Debug is not null;
                case RecordField.Sampled:
                    _record.Sampled = Boolean(value);
                    return _record.Sampled is not null;
                case RecordField.TraceId:
                    return value.Kind is JsonKind.String or JsonKind.Number && IsTraceId(Plain(value)) && ReadText(field, value);
                default:
                    return ReadText(field, value);
            }
        }

        bool ReadText(RecordField field, in JsonValue value)
        {
            if (value.Kind is JsonKind.Object or JsonKind.Array) return false;
            var raw = _line.Slice(value.Start, value.Length);
            if (!value.Escaped && (_isUtf8 || Utf8.IsValid(raw)))
            {
                _record.SetSlice(field, value.Start, value.Length);
                return true;
            }

            _record.SetBytes(field, JsonScanner.Unescape(raw, out var replaced));
            if (replaced) Report(RecordFields.WireName(field));
            return true;
        }

        bool ReadTimestamp(in JsonValue value)
        {
            if (TryNumber(value, 1_000_000, out var micros, out _) && IsTime(micros))
            {
                _hasTime = true;
                _seconds = micros / 1_000_000;
                _record.TimestampMicros = micros;
                _record.HasPreciseTime = micros % 1_000_000 != 0;
                return true;
            }

            _timeProblem = $"timestamp '{Excerpt(_line.Slice(value.Start, value.Length))}': it is no number of seconds between 1970 and 9999";
            return false;
        }

        bool ReadTimestampMicros(in JsonValue value)
        {
            if (TryNumber(value, 1, out var micros, out _) && IsTime(micros))
            {
                _record.TimestampMicros = micros;
                _record.HasPreciseTime = _hasTime = true;
                return true;
            }

            _timeProblem ??= $"timestamp_us '{Excerpt(_line.Slice(value.Start, value.Length))}': it is no number of microseconds between 1970 and 9999";
            return false;
        }

        static bool IsTime(long micros) => micros is >= 0 and < (MaxSeconds + 1) * 1_000_000;

        // Nothing takes less than no time, and a duration beyond all times would overflow where a start is computed.
        bool TryDuration(in JsonValue value, out long micros)
        {
            var isDuration = TryNumber(value, 1_000_000, out micros, out var isExact) && IsTime(micros);
            _isAsWritten &= isExact;
            return isDuration;
        }

        readonly bool TryNumber(in JsonValue value, int scale, out long result, out bool isExact)
        {
            (result, isExact) = (0, false);
            return value.Kind is JsonKind.Number or JsonKind.String && TryScale(Plain(value), scale, out result, out isExact);
        }

        readonly bool? Boolean(in JsonValue value) => value.Kind switch
        {
            JsonKind.True => true,
            JsonKind.False => false,
            JsonKind.String or JsonKind.Number when Plain(value) is var text =>
                Ascii.EqualsIgnoreCase(text, "true"u8) || text.SequenceEqual("1"u8) ? true
                : Ascii.EqualsIgnoreCase(text, "false"u8) || text.SequenceEqual("0"u8) ? false
                : null,
            _ => null,
        };

        void UseAliasOfName()
        {
            var name = _record.Utf8(RecordField.Name);
            if (!name.SequenceEqual("metrix.count"u8) && !name.SequenceEqual("metric.count"u8)) return;
            _record.Set(RecordField.Name, "metric.counter");
            _isAsWritten = false;
        }

        void KeepUnderExtra(ref JsonMember member, RecordField field)
        {
            member.Field = -1;
            _hasLeftovers = true;
            Report(RecordFields.WireName(field));
        }

        void Report(string name)
        {
            _unreadable ??= [];
            if (!_unreadable.Contains(name)) _unreadable.Add(name);
        }

        void ReadExtra()
        {
            var place = _places[(int)RecordField.Extra];
            var extra = place >= 0 ? _members[place].Value : new JsonValue(JsonKind.Null, 0, 0, false);
            var isExtraType = extra.Kind is JsonKind.Object or JsonKind.String;
            if (!isExtraType && extra.Kind != JsonKind.Null) Report("extra");
            if (isExtraType && !HasLeftover())
            {
                var raw = _line.Slice(extra.RawStart, extra.RawLength);
                if (_isUtf8 && ExtraJson.IsClean(raw))
                {
                    _record.SetSlice(RecordField.Extra, extra.RawStart, extra.RawLength);
                    return;
                }

                _isAsWritten = false;
                var rewritten = new ArrayBufferWriter<byte>(raw.Length + 16);
                if (ExtraJson.Rewrite(raw, rewritten)) Report("extra");
                _record.SetBytes(RecordField.Extra, rewritten.WrittenSpan);
                return;
            }

            if (extra.Kind != JsonKind.Null || HasLeftover()) MergeExtra(extra);
        }

        readonly bool HasLeftover()
        {
            if (!_hasLeftovers) return false;
            foreach (ref readonly var member in _members)
            {
                if (member.Field == -1) return true;
            }

            return false;
        }

        // Members of extra keep their names; a leftover of the same name gets an underscore before it.
        void MergeExtra(in JsonValue extra)
        {
            var own = new ExtraMembers();
            if (extra.Kind == JsonKind.Object)
            {
                var scanner = new JsonScanner(_line.Slice(extra.Start, extra.Length));
                scanner.TryEnterObject();
                while (scanner.TryNextMember(out var member))
                {
                    own.Set(
                        ExtraJson.Name(_line.Slice(extra.Start, extra.Length), member),
                        extra.Start + member.Value.RawStart,
                        member.Value.RawLength);
                }
            }
            else if (extra.Kind != JsonKind.Null)
            {
                own.Set("extra", extra.RawStart, extra.RawLength);
            }

            var leftovers = new ExtraMembers();
            foreach (ref readonly var member in _members)
            {
                if (member.Field == -1) leftovers.Set(LeftoverName(member), member.Value.RawStart, member.Value.RawLength);
            }

            foreach (var (name, start, length) in leftovers.All) own.Set(own.FreeName(name), start, length);
            var output = new ArrayBufferWriter<byte>(256);
            var separator = "{"u8;
            foreach (var (name, start, length) in own.All)
            {
                output.Write(separator);
                separator = ","u8;
                JsonText.WriteString(output, name);
                output.Write(":"u8);
                if (ExtraJson.Rewrite(_line.Slice(start, length), output, 1)) Report(name);
            }

            output.Write("}"u8);
            _record.SetBytes(RecordField.Extra, output.WrittenSpan);
        }

        // A field whose value could not be read is kept under its one name, however it was spelt; CLEF doubles an @ that is the user's.
        readonly string LeftoverName(in JsonMember member)
        {
            var name = ExtraJson.Name(_line, member);
            if (FieldLookup.TryFind(Encoding.UTF8.GetBytes(name), out var field)) return RecordFields.WireName(field);
            return name.StartsWith("@@", StringComparison.Ordinal) ? name[1..] : name;
        }
    }

    /// <summary>Reads a decimal number times <paramref name="scale"/>; false for anything else and for what no long holds.</summary>
    internal static bool TryScale(ReadOnlySpan<byte> text, int scale, out long result, out bool isExact)
    {
        result = 0;
        isExact = false;

        // Up to 15 digits and no exponent is nearly every number there is, and cannot overflow.
        if (text.Length is > 0 and <= 16)
        {
            long mantissa = 0, divisor = 0;
            foreach (var character in text)
            {
                if (character == '.' && divisor == 0)
                {
                    divisor = 1;
                    continue;
                }

                if (!char.IsAsciiDigit((char)character)) return TryScaleSlowly(text, scale, out result, out isExact);
                mantissa = mantissa * 10 + (character - '0');
                divisor *= 10;
            }

            if (divisor is 0 or > 1 && mantissa < long.MaxValue / scale)
            {
                if (divisor == 0) divisor = 1;
                var (quotient, remainder) = Math.DivRem(mantissa * scale, divisor);
                isExact = remainder == 0;
                result = remainder * 2 >= divisor ? quotient + 1 : quotient;
                return true;
            }
        }

        return TryScaleSlowly(text, scale, out result, out isExact);
    }

    static bool TryScaleSlowly(ReadOnlySpan<byte> text, int scale, out long result, out bool isExact)
    {
        (result, isExact) = (0, false);
        if (!decimal.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var number)) return false;
        if (Math.Abs(number) > long.MaxValue / scale) return false;
        var scaled = number * scale;
        var rounded = Math.Round(scaled, MidpointRounding.AwayFromZero);
        isExact = rounded == scaled;
        if (rounded is > long.MaxValue or < long.MinValue) return false;
        result = (long)rounded;
        return true;
    }
}
