using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using LogTrace.Records;
using Serilog.Events;

namespace LogTrace;

/// <summary>Takes packed bytes one after the other.</summary>
ref struct PackedReader(ReadOnlySpan<byte> bytes, ReadOnlySpan<LogEventPropertyValue?> objects)
{
    readonly ReadOnlySpan<byte> _bytes = bytes;
    readonly ReadOnlySpan<LogEventPropertyValue?> _objects = objects;

    public int At { get; private set; }

    public T Take<T>()
        where T : unmanaged
    {
        var value = MemoryMarshal.Read<T>(_bytes[At..]);
        At += Unsafe.SizeOf<T>();
        return value;
    }

    public ReadOnlySpan<char> TakeText() => MemoryMarshal.Cast<byte, char>(TakeBytes(Take<int>() * sizeof(char)));

    public PackedValue TakeValue()
    {
        var kind = (PackedKind)_bytes[At++];
        return new(kind, TakeBytes(LengthOf(kind)), _objects);
    }

    ReadOnlySpan<byte> TakeBytes(int length)
    {
        var taken = _bytes.Slice(At, length);
        At += length;
        return taken;
    }

    int LengthOf(PackedKind kind)
    {
        switch (kind)
        {
            case PackedKind.Null or PackedKind.False or PackedKind.True: return 0;
            case PackedKind.Int32 or PackedKind.Object: return sizeof(int);
            case PackedKind.Int64 or PackedKind.Double: return sizeof(long);
            case PackedKind.Decimal: return sizeof(decimal);
            case PackedKind.Time: return Unsafe.SizeOf<DateTime>();
            case PackedKind.TimeOffset: return Unsafe.SizeOf<DateTimeOffset>();
            case PackedKind.Span: return Unsafe.SizeOf<TimeSpan>();
            case PackedKind.Guid: return Unsafe.SizeOf<Guid>();
            case PackedKind.Sequence or PackedKind.Structure or PackedKind.Dictionary: return Take<int>();
            default: return Take<int>() * sizeof(char);
        }
    }
}

/// <summary>A packed value. What it says is read from the bytes each time.</summary>
readonly ref struct PackedValue(PackedKind kind, ReadOnlySpan<byte> bytes, ReadOnlySpan<LogEventPropertyValue?> objects)
{
    readonly ReadOnlySpan<byte> _bytes = bytes;
    readonly ReadOnlySpan<LogEventPropertyValue?> _objects = objects;

    public PackedKind Kind { get; } = kind;

    public bool IsText => Kind is >= PackedKind.Number and <= PackedKind.Described;

    /// <summary>The characters of a text of any kind.</summary>
    public ReadOnlySpan<char> Chars => MemoryMarshal.Cast<byte, char>(_bytes);

    public LogEventPropertyValue Object => _objects[As<int>()]!;

    public bool HasParts => Kind >= PackedKind.Sequence;

    /// <summary>The parts of a sequence, structure or dictionary.</summary>
    public PackedReader Parts => new(_bytes, _objects);

    public int Length => _bytes.Length;

    public T As<T>()
        where T : unmanaged => MemoryMarshal.Read<T>(_bytes);

    /// <summary>The value as Serilog has it, for what is rare.</summary>
    public LogEventPropertyValue ToProperty() => Kind switch
    {
        PackedKind.Object => Object,
        PackedKind.Null => ScalarValue.Null,
        PackedKind.False => new ScalarValue(false),
        PackedKind.True => new ScalarValue(true),
        PackedKind.Int32 => new ScalarValue(As<int>()),
        PackedKind.Int64 => new ScalarValue(As<long>()),
        PackedKind.Double => new ScalarValue(As<double>()),
        PackedKind.Decimal => new ScalarValue(As<decimal>()),
        PackedKind.Time => new ScalarValue(As<DateTime>()),
        PackedKind.TimeOffset => new ScalarValue(As<DateTimeOffset>()),
        PackedKind.Span => new ScalarValue(As<TimeSpan>()),
        PackedKind.Guid => new ScalarValue(As<Guid>()),
        // Serilog puts quotes around strings, and around nothing else.
        PackedKind.Text or PackedKind.Told => new ScalarValue(Chars.ToString()),
        PackedKind.Sequence => ToSequence(),
        PackedKind.Structure => ToStructure(),
        PackedKind.Dictionary => ToDictionary(),
        _ => new ScalarValue(new Unquoted(Chars.ToString())),
    };

    /// <summary>Its text without any format.</summary>
    /// <param name="room">For numbers; 64 characters.</param>
    public ReadOnlySpan<char> Text(Span<char> room)
    {
        if (IsText) return Chars;
        var written = 0;
        _ = Kind switch
        {
            PackedKind.Int32 => As<int>().TryFormat(room, out written, default, CultureInfo.InvariantCulture),
            PackedKind.Int64 => As<long>().TryFormat(room, out written, default, CultureInfo.InvariantCulture),
            PackedKind.Double => As<double>().TryFormat(room, out written, default, CultureInfo.InvariantCulture),
            PackedKind.Decimal => As<decimal>().TryFormat(room, out written, default, CultureInfo.InvariantCulture),
            PackedKind.Time => As<DateTime>().TryFormat(room, out written, default, CultureInfo.InvariantCulture),
            PackedKind.TimeOffset => As<DateTimeOffset>().TryFormat(room, out written, default, CultureInfo.InvariantCulture),
            PackedKind.Span => As<TimeSpan>().TryFormat(room, out written, default, CultureInfo.InvariantCulture),
            PackedKind.Guid => As<Guid>().TryFormat(room, out written),
            PackedKind.False => bool.FalseString.TryCopyTo(room) && (written = bool.FalseString.Length) > 0,
            PackedKind.True => bool.TrueString.TryCopyTo(room) && (written = bool.TrueString.Length) > 0,
            _ => false,
        };
        return room[..written];
    }

    SequenceValue ToSequence()
    {
        var parts = Parts;
        var elements = new LogEventPropertyValue[parts.Take<int>()];
        for (var i = 0; i < elements.Length; i++) elements[i] = parts.TakeValue().ToProperty();
        return new(elements);
    }

    StructureValue ToStructure()
    {
        var parts = Parts;
        var tag = parts.Take<bool>() ? parts.TakeText().ToString() : null;
        var properties = new LogEventProperty[parts.Take<int>()];
        for (var i = 0; i < properties.Length; i++)
        {
            var name = parts.TakeText().ToString();
            properties[i] = new(name, parts.TakeValue().ToProperty());
        }

        return new(properties, tag);
    }

    DictionaryValue ToDictionary()
    {
        var parts = Parts;
        var elements = new KeyValuePair<ScalarValue, LogEventPropertyValue>[parts.Take<int>()];
        for (var i = 0; i < elements.Length; i++)
        {
            var key = (ScalarValue)parts.TakeValue().ToProperty();
            elements[i] = new(key, parts.TakeValue().ToProperty());
        }

        return new(elements);
    }

    sealed class Unquoted(string text)
    {
        public override string ToString() => text;
    }
}

/// <summary>A packed event taken apart, once: which of its properties are fields, which stand in the message, which are members of extra.</summary>
ref struct EventReading
{
    const int NumberChars = 64;

    [ThreadStatic]
    static Slot[]? t_slots;

    readonly ReadOnlySpan<byte> _packed;
    readonly ReadOnlySpan<LogEventPropertyValue?> _objects;
    readonly EventShape _shape;
    readonly Slot[] _memory;
    readonly Span<Slot> _slots;
    readonly ReadOnlySpan<char> _traceId;
    readonly ReadOnlySpan<char> _prefix;
    readonly EventHead _head;
    // Where among the slots; one more, so that 0 is nowhere.
    int _ownTraceId;
    int _ownRpcId;
    int _ownSpanId;
    int _ownParentSpanId;
    int _source;
    int _code;
    int _uid;
    int _file;
    int _line;
    bool _isDebug;
    bool _isSampled;

    struct Slot
    {
        public PackedKind Kind;
        public bool IsLifted;

        /// <summary>Whether the scope says it in its place, in the message, too.</summary>
        public bool IsReplaced;
        public int At;
        public int Length;

        /// <summary>Where it stands in the message as it is; no length when it does not.</summary>
        public int MessageAt;
        public int MessageLength;
    }

    public EventReading(ReadOnlySpan<byte> packed, ReadOnlySpan<LogEventPropertyValue?> objects, EventShape shape)
    {
        _packed = packed;
        _objects = objects;
        _shape = shape;
        var names = shape.Names;
        // Somebody's ToString may log while this is being read.
        _memory = t_slots is { } idle && idle.Length >= names.Length ? idle : new Slot[Math.Max(16, names.Length)];
        t_slots = null;
        _slots = _memory.AsSpan(0, names.Length);
        var reader = new PackedReader(packed, objects);
        _head = reader.Take<EventHead>();
        if (_head.HasScope)
        {
            _traceId = reader.TakeText();
            _prefix = reader.TakeText();
        }

        if (_head.HasException)
        {
            ExceptionType = reader.TakeText();
            ExceptionText = reader.TakeText();
        }

        for (var i = 0; i < names.Length; i++)
        {
            ref var slot = ref _slots[i];
            var value = reader.TakeValue();
            slot = new Slot { Kind = value.Kind, At = reader.At - value.Length, Length = value.Length };
            if (names[i].Field is { } field)
            {
                slot.IsReplaced = IsSaidByScope(field);
                slot.IsLifted = slot.IsReplaced || TryLift(field, i);
            }

            if (!slot.IsLifted) HasExtra = true;
        }
    }

    /// <summary>Gives its memory back to the thread.</summary>
    public readonly void Return() => t_slots = _memory;

    public readonly long Micros => _head.Micros;

    public readonly int Level => _head.Level;

    public readonly bool HasException => _head.HasException;

    public ReadOnlySpan<char> ExceptionType { get; }

    public ReadOnlySpan<char> ExceptionText { get; }

    /// <summary>Whether there are properties that are no fields.</summary>
    public bool HasExtra { get; }

    /// <summary>The source context; empty when there is none.</summary>
    public readonly ReadOnlySpan<char> Source(Span<char> room) => OwnText(_source, room);

    public readonly bool HasUid => _uid > 0;

    public readonly ReadOnlySpan<char> Uid(Span<char> room) => OwnText(_uid, room);

    /// <summary>Writes the code that the event has of its own, or the exception's.</summary>
    public readonly void WriteCode(LineWriter line, int maxText)
    {
        if (_code == 0 && HasException) line.Text(RecordField.Code, ExceptionType, maxText);
        else WriteOwn(RecordField.Code, _code, line, maxText);
    }

    /// <summary>Writes where in the source code it was logged, if the event says so.</summary>
    public readonly void WriteSourceLine(LineWriter line, int maxText)
    {
        WriteOwn(RecordField.File, _file, line, maxText);
        WriteOwn(RecordField.Line, _line, line, maxText);
    }

    /// <summary>Writes where in the chain the line belongs.</summary>
    public readonly void WritePlace(LineWriter line, int maxText)
    {
        if (_head.HasScope)
        {
            line.Text(RecordField.TraceId, _traceId, maxText);
            line.RpcId(_prefix, _head.Number);
            return;
        }

        WriteOwn(RecordField.TraceId, _ownTraceId, line, maxText);
        WriteOwn(RecordField.RpcId, _ownRpcId, line, maxText);
    }

    /// <summary>Writes which execution logged it.</summary>
    public readonly void WriteExecution(LineWriter line, int maxText)
    {
        if (_isDebug || _head.IsDebug) line.Flag(RecordField.Debug, true);
        if (_isSampled || _head.IsSampled) line.Flag(RecordField.Sampled, true);
        if (_head.HasScope) line.Span(RecordField.SpanId, _head.Span);
        else WriteOwn(RecordField.SpanId, _ownSpanId, line, maxText);
        if (_head.ParentSpan != 0) line.Span(RecordField.ParentSpanId, _head.ParentSpan);
        else WriteOwn(RecordField.ParentSpanId, _ownParentSpanId, line, maxText);
    }

    /// <summary>Writes the message: texts stand in it without the quotes that Serilog puts around them, since the values are under extra.</summary>
    public readonly void Render(MessageText message, TraceMask mask)
    {
        foreach (ref readonly var token in _shape.Tokens.AsSpan())
        {
            if (token.Text is not null) message.Write(token.Text);
            else Render(token, ref _slots[token.At], message, mask);
        }
    }

    /// <summary>Writes the properties that are no fields.</summary>
    /// <param name="extra">Where to.</param>
    /// <param name="message">What was rendered.</param>
    /// <param name="isClean">Whether texts that stand in it need not be looked at again.</param>
    public readonly void WriteExtra(ref ExtraWriter extra, ReadOnlySpan<char> message, bool isClean)
    {
        var names = _shape.Names;
        for (var i = 0; i < _slots.Length; i++)
        {
            ref var slot = ref _slots[i];
            if (slot.IsLifted) continue;
            extra.Property(names[i], Value(slot), message.Slice(slot.MessageAt, slot.MessageLength), isClean);
        }
    }

    readonly PackedValue Value(in Slot slot) => new(slot.Kind, _packed.Slice(slot.At, slot.Length), _objects);

    readonly ReadOnlySpan<char> OwnText(int place, Span<char> room) => place == 0 ? default : Value(_slots[place - 1]).Text(room);

    readonly void WriteOwn(RecordField field, int place, LineWriter line, int maxText)
    {
        if (place > 0) line.Text(field, OwnText(place, stackalloc char[NumberChars]), maxText);
    }

    readonly bool IsSaidByScope(RecordField field) => _head.HasScope && field switch
    {
        RecordField.TraceId or RecordField.RpcId or RecordField.SpanId => true,
        RecordField.ParentSpanId => _head.ParentSpan != 0,
        RecordField.Debug => _head.IsDebug,
        RecordField.Sampled => _head.IsSampled,
        _ => false,
    };

    /// <summary>False when the value cannot be that field, so that it stays in extra.</summary>
    bool TryLift(RecordField field, int at)
    {
        var value = Value(_slots[at]);
        if (value.Kind is not (PackedKind.Text or PackedKind.Told or PackedKind.Word or PackedKind.Int32 or PackedKind.Int64 or PackedKind.True or PackedKind.False)) return false;
        Span<char> room = stackalloc char[NumberChars];
        var text = value.Text(room);
        var isTold = value.Kind == PackedKind.Told;
        switch (field)
        {
            case RecordField.TraceId when isTold || TraceHeaders.IsValidTraceId(text): _ownTraceId = at + 1; break;
            case RecordField.RpcId when isTold || Records.RpcId.Check(text) == RpcIdProblem.None: _ownRpcId = at + 1; break;
            case RecordField.SpanId when isTold || IsSpanId(text): _ownSpanId = at + 1; break;
            case RecordField.ParentSpanId when isTold || IsSpanId(text): _ownParentSpanId = at + 1; break;
            case RecordField.Debug when text is "True": _isDebug = true; break;
            case RecordField.Sampled when text is "True": _isSampled = true; break;
            case RecordField.Action: _source = at + 1; break;
            case RecordField.Code: _code = at + 1; break;
            case RecordField.Uid: _uid = at + 1; break;
            case RecordField.File: _file = at + 1; break;
            case RecordField.Line: _line = at + 1; break;
            default: return false;
        }

        return true;
    }

    static bool IsSpanId(ReadOnlySpan<char> text) => text.Length == 16 && !text.ContainsAnyExcept("0123456789abcdef");

    readonly void Render(in EventShape.Token token, ref Slot slot, MessageText message, TraceMask mask)
    {
        var name = _shape.Names[token.At];
        var value = Value(slot);
        if (slot.IsReplaced)
        {
            WriteSaid(name.Field!.Value, token, message);
            return;
        }

        if (name.IsCovered)
        {
            // Of what has no text of its own nothing is said.
            message.Write(mask.Member(name.Text, value.Kind == PackedKind.Object ? "" : value.Text(stackalloc char[NumberChars]).ToString())?.ToString());
            return;
        }

        var from = message.Written.Length;
        if (token.IsPlain && value.IsText)
        {
            message.Write(value.Chars);
            (slot.MessageAt, slot.MessageLength) = (from, value.Chars.Length);
        }
        else if (!token.IsAligned && TryRender(value, token.Format, message))
        {
            if (token.Format is null) (slot.MessageAt, slot.MessageLength) = (from, message.Written.Length - from);
        }
        else
        {
            token.Property!.Render(new Dictionary<string, LogEventPropertyValue> { [token.Property.PropertyName] = value.ToProperty() }, message, CultureInfo.InvariantCulture);
        }
    }

    static bool TryRender(in PackedValue value, string? format, MessageText message) => value.Kind switch
    {
        PackedKind.Int32 => message.TryWrite(value.As<int>(), format),
        PackedKind.Int64 => message.TryWrite(value.As<long>(), format),
        PackedKind.Double => message.TryWrite(value.As<double>(), format),
        PackedKind.Decimal => message.TryWrite(value.As<decimal>(), format),
        PackedKind.Time => message.TryWrite(value.As<DateTime>(), format),
        PackedKind.TimeOffset => message.TryWrite(value.As<DateTimeOffset>(), format),
        PackedKind.Span => message.TryWrite(value.As<TimeSpan>(), format),
        PackedKind.Guid => message.TryWrite(value.As<Guid>(), format),
        PackedKind.False => message.TryWrite(bool.FalseString),
        PackedKind.True => message.TryWrite(bool.TrueString),
        PackedKind.Null => message.TryWrite("null"),
        _ => false,
    };

    readonly void WriteSaid(RecordField field, in EventShape.Token token, MessageText message)
    {
        if (token.IsPlain && field == RecordField.TraceId)
        {
            message.Write(_traceId);
            return;
        }

        if (token.IsPlain && field == RecordField.RpcId)
        {
            message.Write(_prefix);
            message.Write('.');
            message.TryWrite(_head.Number, null);
            return;
        }

        var said = field switch
        {
            RecordField.TraceId => _traceId.ToString(),
            RecordField.RpcId => string.Create(CultureInfo.InvariantCulture, $"{_prefix}.{_head.Number}"),
            RecordField.SpanId => _head.Span.ToString("x16", CultureInfo.InvariantCulture),
            RecordField.ParentSpanId => _head.ParentSpan.ToString("x16", CultureInfo.InvariantCulture),
            _ => bool.TrueString,
        };
        if (token.IsPlain) message.Write(said);
        else token.Property!.Render(new Dictionary<string, LogEventPropertyValue> { [token.Property.PropertyName] = new ScalarValue(said) }, message, CultureInfo.InvariantCulture);
    }
}
