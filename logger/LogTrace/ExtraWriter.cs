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

    public readonly void End()
    {
        if (!_isOpen && _leftOut == 0) return;
        if (!_isOpen)
        {
            _line.Key(RecordField.Extra);
            _line.Begin();
        }

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
        if (!_isOpen)
        {
            _line.Key(RecordField.Extra);
            _line.Begin();
        }

        _line.Key(key);
        return before;
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
                var described = Text(value);
                _line.Quoted(_mask.TryText(described, out var masked) ? masked : described, _maxText);
                break;
        }
    }

    static string Text(object value)
    {
        try
        {
            return Convert.ToString(value, CultureInfo.InvariantCulture) ?? "";
        }
        catch (Exception exception)
        {
            // Somebody's ToString: a log line must not break the request that writes it.
            return $"({value.GetType().Name}.ToString threw {exception.GetType().Name})";
        }
    }
}
