using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using LogTrace.Records;
using Serilog.Core;
using Serilog.Events;
using Serilog.Parsing;

namespace LogTrace;

/// <summary>What is known of a property before its value comes.</summary>
sealed class PropertyName(string text, TraceMask mask)
{
    public string Text { get; } = text;

    /// <summary>As it stands in a line, with the comma before it.</summary>
    public byte[] Key { get; } = LineWriter.KeyOf(text);

    /// <summary>Whether nothing of its values may be written as it is.</summary>
    public bool IsCovered { get; } = mask.Covers(text);

    /// <summary>The field that its value becomes if it can be one; null for a member of extra.</summary>
    public RecordField? Field { get; } = text switch
    {
        Constants.SourceContextPropertyName => RecordField.Action,
        "trace_id" => RecordField.TraceId,
        "rpc_id" => RecordField.RpcId,
        "span_id" => RecordField.SpanId,
        "parent_span_id" => RecordField.ParentSpanId,
        "code" => RecordField.Code,
        "uid" => RecordField.Uid,
        "file" => RecordField.File,
        "line" => RecordField.Line,
        "debug" => RecordField.Debug,
        "sampled" => RecordField.Sampled,
        _ => null,
    };
}

/// <summary>What events of one template with the same properties in the same order have in common.</summary>
sealed class EventShape : ILineMaker
{
    readonly string[] _keys;

    /// <param name="Text">A text that stands as it is; null for a property.</param>
    /// <param name="At">The property's place among those of the event.</param>
    /// <param name="Property">Serilog's.</param>
    public readonly record struct Token(string? Text, int At, PropertyToken? Property)
    {
        /// <summary>Whether a text stands as it is.</summary>
        public bool IsPlain { get; } = Property is { Format: null or "l", Alignment: null };

        public bool IsAligned { get; } = Property is { Alignment: not null };

        public string? Format { get; } = Property?.Format;
    }

    public EventShape(TraceRecordFormatter formatter, MessageTemplate template, PropertyName[] names, string[] keys, bool isKept)
    {
        Formatter = formatter;
        Template = template;
        Names = names;
        IsKept = isKept;
        _keys = keys;
        IsFormatted = new bool[names.Length];
        Tokens = [.. template.Tokens.Select(token =>
        {
            if (token is TextToken text) return new Token(text.Text, -1, null);
            var at = token is PropertyToken property ? Array.IndexOf(keys, property.PropertyName) : -1;
            // Without a value it stands as it is written in the template.
            if (at < 0) return new Token(token.ToString(), -1, null);
            var known = new Token(null, at, (PropertyToken)token);
            if (known.Format is not (null or "l")) IsFormatted[at] = true;
            return known;
        })];
    }

    public TraceRecordFormatter Formatter { get; }

    public MessageTemplate Template { get; }

    public PropertyName[] Names { get; }

    /// <summary>For each property whether the message says how its value is to be formatted.</summary>
    public bool[] IsFormatted { get; }

    public Token[] Tokens { get; }

    /// <summary>Whether it is there for good, and not for a single event.</summary>
    public bool IsKept { get; }

    /// <summary>Makes the line of a packed event of this shape.</summary>
    public void Make(ReadOnlySpan<byte> packed, LineWriter line) => Formatter.Format(packed, [], this, line);

    public bool IsNext(int at, string key) => at < _keys.Length && _keys[at] == key;

    public bool Fits(Dictionary<string, LogEventPropertyValue> properties)
    {
        if (properties.Count != _keys.Length) return false;
        var at = 0;
        foreach (var key in properties.Keys)
        {
            if (_keys[at++] != key) return false;
        }

        return true;
    }
}

/// <summary>Shapes and names that came before. Bounded, since both may be made up while running. Thread-safe.</summary>
sealed class EventShapes(TraceRecordFormatter formatter, TraceMask mask)
{
    const int MaxKept = 1000;
    const int MaxKeptChars = 1024;
    const int MaxOfTemplate = 16;

    // Serilog keeps its templates, so they can be told apart by their objects.
    readonly ConcurrentDictionary<MessageTemplate, EventShape[]> _shapes = new(ReferenceEqualityComparer.Instance);
    readonly ConcurrentDictionary<string, PropertyName> _names = new(StringComparer.Ordinal);

    // In front of it, by the hash of the template. A length that is a power of two.
    readonly EventShape?[] _recent = new EventShape?[64];

    /// <summary>The shape that the last event of this template had, if it is remembered.</summary>
    public EventShape? Recent(MessageTemplate template) => Volatile.Read(ref Place(template)) is { } recent && ReferenceEquals(recent.Template, template) ? recent : null;

    /// <summary>The shape of an event.</summary>
    public EventShape Of(MessageTemplate template, Dictionary<string, LogEventPropertyValue> properties)
    {
        var shapes = _shapes.GetValueOrDefault(template, []);
        var shape = Array.Find(shapes, known => known.Fits(properties));
        if (shape is null)
        {
            var isKept = template.Text.Length <= MaxKeptChars && shapes.Length < MaxOfTemplate;
            shape = new EventShape(formatter, template, [.. properties.Keys.Select(Name)], [.. properties.Keys], isKept);
            if (!isKept) return shape;
            // Whoever makes up templates all the time must not keep out those that come again.
            if (_shapes.Count >= MaxKept) _shapes.Clear();
            _shapes[template] = [.. shapes, shape];
        }

        Volatile.Write(ref Place(template), shape);
        return shape;
    }

    ref EventShape? Place(MessageTemplate template) => ref _recent[RuntimeHelpers.GetHashCode(template) & (_recent.Length - 1)];

    PropertyName Name(string text)
    {
        if (_names.TryGetValue(text, out var name)) return name;
        name = new PropertyName(text, mask);
        if (text.Length > MaxKeptChars) return name;
        if (_names.Count >= MaxKept) _names.Clear();
        _names.TryAdd(text, name);
        return name;
    }
}
