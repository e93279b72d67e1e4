using System.Globalization;
using LogTrace.Records;
using Serilog.Events;

namespace LogTrace;

/// <summary>
/// Writes <c>extra</c>. What a service logs there can be of any size: members beyond the limit are left out and counted in the member <c>left_out</c>.
/// </summary>
ref struct ExtraWriter
{
    const int MaxDepth = 12;
    const int NumberChars = 64;

    readonly LineWriter _line;
    readonly TraceMask _mask;
    readonly int _start;
    readonly int _maxBytes;
    readonly int _maxText;
    bool _isOpen;
    int _leftOut;

    ExtraWriter(LineWriter line, TraceLogger logger, TraceMask mask)
    {
        var options = logger.Options;
        _line = line;
        _mask = mask;
        _start = line.Length;
        _maxBytes = options.MaxExtraBytes;
        _maxText = Math.Min(options.MaxTextLength, options.MaxExtraBytes);
    }

    /// <summary>Writes nothing before the first member.</summary>
    public static ExtraWriter Begin(LineWriter line, TraceLogger logger) => new(line, logger, logger.Mask);

    /// <summary>For members that were masked before.</summary>
    public static ExtraWriter BeginMasked(LineWriter line, TraceLogger logger) => new(line, logger, TraceMask.None);

    public void Scalar(string key, object? value)
    {
        var before = Open(key);
        Write(_mask.Member(key, value));
        Close(before);
    }

    public void Property(string key, LogEventPropertyValue value)
    {
        var before = Open(key);
        Write(key, value, 0);
        Close(before);
    }

    /// <summary>The same for what was packed.</summary>
    /// <param name="name">The member.</param>
    /// <param name="value">Its value.</param>
    /// <param name="rendered">How it stands in the message without any format; empty when it does not.</param>
    /// <param name="isClean">Whether texts that stand in the message need not be looked at again.</param>
    public void Property(PropertyName name, in PackedValue value, ReadOnlySpan<char> rendered, bool isClean)
    {
        var before = _line.Length;
        OpenExtra();
        _line.Key(name.Key);
        if (name.IsCovered) WriteCovered(name.Text, value);
        else Write(value, rendered, isClean, 0);
        Close(before);
    }

    public readonly void End()
    {
        if (!_isOpen && _leftOut == 0) return;
        OpenExtra();
        if (_leftOut > 0)
        {
            _line.Key("left_out");
            _line.Number(_leftOut);
        }

        _line.End();
    }

    int Open(string key)
    {
        var before = _line.Length;
        OpenExtra();
        _line.Key(key);
        return before;
    }

    readonly void OpenExtra()
    {
        if (_isOpen) return;
        _line.Key(RecordField.Extra);
        _line.Begin();
    }

    void Close(int before)
    {
        if (_line.Length - _start > _maxBytes)
        {
            _line.CutTo(before);
            _leftOut++;
        }
        else
        {
            _isOpen = true;
        }
    }

    readonly void WriteCovered(string name, in PackedValue value)
    {
        if (value.Kind == PackedKind.Object) Write(name, value.Object, 0);
        else if (value.HasParts) _line.Quoted(TraceMask.Hidden, 3);
        else Write(_mask.Member(name, value.Kind == PackedKind.Null ? null : value.Text(stackalloc char[NumberChars]).ToString()));
    }

    readonly void Write(in PackedValue value, ReadOnlySpan<char> rendered, bool isClean, int depth)
    {
        var written = 0;
        Span<char> room = stackalloc char[NumberChars];
        switch (value.Kind)
        {
            case PackedKind.Null: _line.Raw("null"u8); break;
            case PackedKind.False: _line.Raw("false"u8); break;
            case PackedKind.True: _line.Raw("true"u8); break;
            case PackedKind.Int32: _line.Number(value.As<int>()); break;
            case PackedKind.Int64: _line.Number(value.As<long>()); break;
            // It takes long to find the shortest form of one.
            case PackedKind.Double when !rendered.IsEmpty && double.IsFinite(value.As<double>()): _line.Plain(rendered); break;
            case PackedKind.Double: _line.Number(value.As<double>()); break;
            case PackedKind.Decimal: _line.Number(value.As<decimal>()); break;
            case PackedKind.Number: _line.Plain(value.Chars); break;
            case PackedKind.Time when value.As<DateTime>().TryFormat(room, out written, "O", CultureInfo.InvariantCulture): _line.Quoted(room[..written], NumberChars); break;
            case PackedKind.TimeOffset when value.As<DateTimeOffset>().TryFormat(room, out written, "O", CultureInfo.InvariantCulture): _line.Quoted(room[..written], NumberChars); break;
            case PackedKind.Object: Write(value.Object, depth); break;
            case PackedKind.Sequence or PackedKind.Structure or PackedKind.Dictionary when depth > MaxDepth || _line.Length - _start > _maxBytes: _line.Quoted("...", 3); break;
            case PackedKind.Sequence: WriteSequence(value.Parts, depth + 1); break;
            case PackedKind.Structure: WriteStructure(value.Parts, depth + 1); break;
            case PackedKind.Dictionary: WriteDictionary(value.Parts, depth + 1); break;
            default:
                var text = value.Text(room);
                if (!(isClean && value.IsText && !rendered.IsEmpty) && _mask.TryText(text, out var masked)) text = masked;
                _line.Quoted(text, _maxText);
                break;
        }
    }

    readonly void WriteSequence(PackedReader parts, int depth)
    {
        _line.Byte((byte)'[');
        for (var left = parts.Take<int>(); left > 0; left--)
        {
            _line.Comma();
            Write(parts.TakeValue(), default, isClean: false, depth);
        }

        _line.Byte((byte)']');
    }

    readonly void WriteStructure(PackedReader parts, int depth)
    {
        // Its type is for messages.
        if (parts.Take<bool>()) parts.TakeText();
        _line.Begin();
        for (var left = parts.Take<int>(); left > 0; left--)
        {
            var name = parts.TakeText();
            WriteMember(name, parts.TakeValue(), depth);
        }

        _line.End();
    }

    readonly void WriteDictionary(PackedReader parts, int depth)
    {
        Span<char> room = stackalloc char[NumberChars];
        _line.Begin();
        for (var left = parts.Take<int>(); left > 0; left--)
        {
            var key = parts.TakeValue();
            WriteMember(key.Kind == PackedKind.Null ? "null" : key.Text(room), parts.TakeValue(), depth);
        }

        _line.End();
    }

    readonly void WriteMember(ReadOnlySpan<char> name, in PackedValue value, int depth)
    {
        _line.Key(name);
        if (_mask.Covers(name)) WriteCovered(name.ToString(), value);
        else Write(value, default, isClean: false, depth);
    }

    readonly void Write(string name, LogEventPropertyValue value, int depth)
    {
        if (value is ScalarValue alone) Write(_mask.Member(name, alone.Value));
        else if (_mask.Covers(name)) _line.Quoted(TraceMask.Hidden, 3);
        else Write(value, depth);
    }

    readonly void Write(LogEventPropertyValue value, int depth)
    {
        // Serilog bounds what it takes apart itself; values that were built by hand are bounded here. Past the limit of bytes the rest would be cut anyhow.
        if (depth > MaxDepth || _line.Length - _start > _maxBytes)
        {
            _line.Quoted("...", 3);
            return;
        }

        switch (value)
        {
            case ScalarValue scalar:
                Write(_mask.Element(scalar.Value));
                break;
            case SequenceValue sequence:
                _line.Byte((byte)'[');
                foreach (var element in sequence.Elements)
                {
                    _line.Comma();
                    Write(element, depth + 1);
                }

                _line.Byte((byte)']');
                break;
            case StructureValue structure:
                _line.Begin();
                foreach (var property in structure.Properties)
                {
                    _line.Key(property.Name);
                    Write(property.Name, property.Value, depth + 1);
                }

                _line.End();
                break;
            case DictionaryValue dictionary:
                _line.Begin();
                foreach (var (key, element) in dictionary.Elements)
                {
                    var name = Convert.ToString(key.Value, CultureInfo.InvariantCulture) ?? "null";
                    _line.Key(name);
                    Write(name, element, depth + 1);
                }

                _line.End();
                break;
            default:
                Write(_mask.Element(value.ToString(null, CultureInfo.InvariantCulture)));
                break;
        }
    }

    readonly void Write(object? value)
    {
        switch (value)
        {
            case null: _line.Raw("null"u8); break;
            case string text: _line.Quoted(text, _maxText); break;
            case bool flag: _line.Raw(flag ? "true"u8 : "false"u8); break;
            case int number: _line.Number(number); break;
            case long number: _line.Number(number); break;
            case double number: _line.Number(number); break;
            case float number: _line.Number(double.Parse(number.ToString(CultureInfo.InvariantCulture), CultureInfo.InvariantCulture)); break;
            case decimal number: _line.Number(number); break;
            case short or ushort or byte or sbyte or uint: _line.Number(Convert.ToInt64(value, CultureInfo.InvariantCulture)); break;
            case ulong number: _line.Number((decimal)number); break;
            case DateTime time: _line.Quoted(time.ToString("O", CultureInfo.InvariantCulture), 64); break;
            case DateTimeOffset time: _line.Quoted(time.ToString("O", CultureInfo.InvariantCulture), 64); break;
            default:
                var described = EventPacker.Describe(value);
                _line.Quoted(_mask.TryText(described, out var masked) ? masked : described, _maxText);
                break;
        }
    }
}
