using System.Buffers;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Serilog.Events;

namespace LogTrace;

/// <summary>What the value of a packed property is.</summary>
enum PackedKind : byte
{
    Null,
    False,
    True,
    Int32,
    Int64,
    Double,
    Decimal,
    Time,
    TimeOffset,
    Span,
    Guid,

    /// <summary>A number as its text, which JSON reads, too.</summary>
    Number,
    Text,

    /// <summary>A text that the enricher took from the scope: known to be right, where one of a user's own may be anything.</summary>
    Told,

    /// <summary>A constant of an enumeration, by its name.</summary>
    Word,

    /// <summary>The text of some other object.</summary>
    Described,

    /// <summary>What cannot be packed, by its place among the objects.</summary>
    Object,

    // Values with parts, which follow their length in bytes.
    Sequence,
    Structure,
    Dictionary,
}

/// <summary>
/// Takes from an event, or from an ended span, all that its line will say, as bytes in memory that each thread reuses. They can wait where objects had better not: the garbage collector copies what waits, other
/// threads may change it, and nobody knows its size.
/// </summary>
sealed class EventPacker
{
    const int KeptBytes = 64 * 1024;

    // Serilog takes objects apart to a depth of 10, unless it is told otherwise.
    const int MaxDepth = 12;

    // A line is cut to a length; what is longer than this had better wait as its line.
    const int MaxWaitingBytes = 32 * 1024;

    [ThreadStatic]
    static EventPacker? t_idle;

    byte[] _buffer = new byte[4 * 1024];
    LogEventPropertyValue?[] _objects = [];
    int _length;
    int _objectCount;

    public EventShape Shape { get; private set; } = null!;

    public ReadOnlySpan<byte> Packed => _buffer.AsSpan(0, _length);

    /// <summary>What could not be packed.</summary>
    public ReadOnlySpan<LogEventPropertyValue?> Objects => _objects.AsSpan(0, _objectCount);

    /// <summary>This thread's. Give it back with <see cref="Return"/>.</summary>
    public static EventPacker Rent()
    {
        var packer = t_idle ?? new EventPacker();
        t_idle = null;
        return packer;
    }

    public static void Return(EventPacker packer)
    {
        if (packer._objectCount > 0) packer._objects = [];
        if (packer._buffer.Length <= KeptBytes) t_idle = packer;
    }

    /// <summary>Packs an event, in the order in which <see cref="EventReading"/> takes it apart. False when it had better wait as its line, or the bytes do not say everything.</summary>
    /// <param name="logEvent">The event.</param>
    /// <param name="scope">Whose ids the line gets in place of any that the event has: as they are now, since it may hand out more numbers, and end.</param>
    /// <param name="shapes">Those of the formatter that will make the line.</param>
    public bool Pack(LogEvent logEvent, TraceContext? scope, EventShapes shapes)
    {
        // Serilog's own dictionary, as a rule: walking it allocates nothing.
        var properties = logEvent.Properties as Dictionary<string, LogEventPropertyValue> ?? logEvent.Properties.ToDictionary();
        if (shapes.Recent(logEvent.MessageTemplate) is not { } recent || !TryPack(logEvent, scope, recent, properties)) TryPack(logEvent, scope, shapes.Of(logEvent.MessageTemplate, properties), properties);
        return _objectCount == 0 && Shape.IsKept && _length <= MaxWaitingBytes;
    }

    /// <summary>Packs the record of an ended span that has no <c>extra</c>, for <see cref="RecordTexts"/>. False when it had better wait as its line.</summary>
    public bool Pack(TraceLogger logger, TraceSpan span)
    {
        var head = new RecordHead(logger, span);
        // Nearly all texts are ASCII and wait in half the memory: it is another thread, mostly on another core, that has to fetch it.
        return (TryPack(head, span, isWide: false) || TryPack(head, span, isWide: true)) && _length <= MaxWaitingBytes;
    }

    bool TryPack(in RecordHead head, TraceSpan span, bool isWide)
    {
        _length = _objectCount = 0;
        Put(head);
        Put(isWide);
        return TryPut(span.TraceId, isWide)
            && TryPut(span.Scope.Prefix, isWide)
            && TryPut(span.Action, isWide)
            && TryPut(span.Param, isWide)
            && TryPut(span.Code, isWide)
            && TryPut(span.Msg, isWide)
            && TryPut(span.Backtrace, isWide)
            && TryPut(span.Uid, isWide)
            && TryPut(span.Source, isWide)
            && TryPut(span.ClientIp, isWide)
            && TryPut(span.UserAgent, isWide)
            && TryPut(span.Host, isWide)
            && TryPut(span.InstanceName, isWide)
            && TryPut(span.Db, isWide)
            && TryPut(span.Response, isWide);
    }

    bool TryPack(LogEvent logEvent, TraceContext? scope, EventShape shape, Dictionary<string, LogEventPropertyValue> properties)
    {
        if (properties.Count != shape.Names.Length) return false;
        Shape = shape;
        _length = _objectCount = 0;
        Put(new EventHead(logEvent, scope));
        if (scope is not null)
        {
            Put(scope.TraceId);
            Put(scope.Prefix);
        }

        if (logEvent.Exception is { } exception)
        {
            Put(exception.GetType().Name);
            Put(Describe(exception));
        }

        var at = 0;
        foreach (var (key, value) in properties)
        {
            if (!shape.IsNext(at, key)) return false;
            Put(value, shape.IsFormatted[at++], 0);
        }

        return true;
    }

    void Put(LogEventPropertyValue value, bool isFormatted, int depth)
    {
        if (value is not ScalarValue scalar)
        {
            if (isFormatted || depth == MaxDepth || _length > MaxWaitingBytes) PutObject(value);
            else PutParts(value, depth + 1);
            return;
        }

        switch (scalar.Value)
        {
            case null: Put(PackedKind.Null); break;
            case string text: Put(value is TraceValue ? PackedKind.Told : PackedKind.Text, text); break;
            case int number: Put(PackedKind.Int32, number); break;
            case long number: Put(PackedKind.Int64, number); break;
            case double number: Put(PackedKind.Double, number); break;
            case bool flag: Put(flag ? PackedKind.True : PackedKind.False); break;
            case decimal number: Put(PackedKind.Decimal, number); break;
            case DateTime time: Put(PackedKind.Time, time); break;
            case DateTimeOffset time: Put(PackedKind.TimeOffset, time); break;
            case TimeSpan time: Put(PackedKind.Span, time); break;
            case Guid id: Put(PackedKind.Guid, id); break;
            // How it is to be formatted only it knows.
            case not null when isFormatted: PutObject(value); break;
            case short or ushort or byte or sbyte or uint: Put(PackedKind.Int64, Convert.ToInt64(scalar.Value, CultureInfo.InvariantCulture)); break;
            case ulong number: Put(PackedKind.Decimal, (decimal)number); break;
            case float number: Put(float.IsFinite(number) ? PackedKind.Number : PackedKind.Described, number.ToString(CultureInfo.InvariantCulture)); break;
            case Enum word: Put(PackedKind.Word, word.ToString()); break;
            // Whatever it is may change later.
            default: Put(PackedKind.Described, Describe(scalar.Value)); break;
        }
    }

    void PutParts(LogEventPropertyValue value, int depth)
    {
        var start = _length + sizeof(PackedKind);
        switch (value)
        {
            case SequenceValue sequence:
                Put(PackedKind.Sequence, 0);
                Put(sequence.Elements.Count);
                foreach (var element in sequence.Elements) Put(element, false, depth);
                break;
            case StructureValue structure:
                Put(PackedKind.Structure, 0);
                Put(structure.TypeTag is not null);
                if (structure.TypeTag is not null) Put(structure.TypeTag);
                Put(structure.Properties.Count);
                foreach (var property in structure.Properties)
                {
                    Put(property.Name);
                    Put(property.Value, false, depth);
                }

                break;
            case DictionaryValue dictionary:
                Put(PackedKind.Dictionary, 0);
                Put(dictionary.Elements.Count);
                foreach (var (key, element) in dictionary.Elements)
                {
                    Put(key, false, depth);
                    Put(element, false, depth);
                }

                break;
            default:
                PutObject(value);
                return;
        }

        MemoryMarshal.Write(_buffer.AsSpan(start), _length - start - sizeof(int));
    }

    void PutObject(LogEventPropertyValue value)
    {
        if (_objectCount == _objects.Length) Array.Resize(ref _objects, Math.Max(4, _objectCount * 2));
        Put(PackedKind.Object, _objectCount);
        _objects[_objectCount++] = value;
    }

    void Put(PackedKind kind, string text)
    {
        Put(kind);
        Put(text);
    }

    void Put<T>(PackedKind kind, T value)
        where T : unmanaged
    {
        Put(kind);
        Put(value);
    }

    bool TryPut(string? text, bool isWide)
    {
        if (text is null)
        {
            Put(-1);
        }
        else if (isWide)
        {
            Put(text);
        }
        else
        {
            Put(text.Length);
            if (Ascii.FromUtf16(text, Room(text.Length), out var written) != OperationStatus.Done) return false;
            _length += written;
        }

        return true;
    }

    void Put(string text)
    {
        Put(text.Length);
        var bytes = MemoryMarshal.AsBytes(text.AsSpan());
        bytes.CopyTo(Room(bytes.Length));
        _length += bytes.Length;
    }

    void Put<T>(T value)
        where T : unmanaged
    {
        MemoryMarshal.Write(Room(Unsafe.SizeOf<T>()), in value);
        _length += Unsafe.SizeOf<T>();
    }

    Span<byte> Room(int bytes)
    {
        if (_buffer.Length - _length < bytes) Array.Resize(ref _buffer, Math.Max(_buffer.Length * 2, _length + bytes));
        return _buffer.AsSpan(_length);
    }

    public static string Describe(object value)
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

/// <summary>What every packed event begins with.</summary>
readonly struct EventHead(LogEvent logEvent, TraceContext? scope)
{
    public readonly long Micros = RecordEntry.Micros(logEvent.Timestamp);
    public readonly long Number = scope?.LastNumber ?? 0;
    public readonly ulong Span = scope?.SpanNumber ?? 0;

    /// <summary>0 at the top of a trace.</summary>
    public readonly ulong ParentSpan = scope?.ParentSpanNumber ?? 0;
    public readonly byte Level = (byte)Math.Clamp((int)logEvent.Level, (int)LogEventLevel.Verbose, (int)LogEventLevel.Fatal);
    public readonly bool HasScope = scope is not null;
    public readonly bool IsDebug = scope is { IsDebug: true };
    public readonly bool IsSampled = scope?.Held is not null;
    public readonly bool HasException = logEvent.Exception is not null;
}
