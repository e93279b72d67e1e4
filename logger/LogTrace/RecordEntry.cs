using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using LogTrace.Records;
using Serilog.Events;
using Serilog.Parsing;

namespace LogTrace;

/// <summary>
/// A typed record on its way out: an ended span or a metric, or what <see cref="EventPacker"/> took from one. It names its fields once, in the order of SCHEMA.md, and writes them either
/// straight as a line or as properties of a LogEvent, so that both say the same.
/// </summary>
readonly ref struct RecordEntry
{
    readonly TraceLogger _logger;
    readonly KindTexts _kind;
    readonly RecordHead _head;
    readonly RecordTexts _texts;
    readonly IReadOnlyList<KeyValuePair<string, object?>>? _extra;

    public RecordEntry(TraceLogger logger, TraceSpan span)
    {
        _logger = logger;
        _kind = logger.Texts.Kind(span.Name);
        _head = new RecordHead(logger, span);
        _texts = new RecordTexts(span);
        _extra = span.Extra;
        Scope = span.Scope;
    }

    public RecordEntry(TraceLogger logger, string name, string action, IReadOnlyList<KeyValuePair<string, object?>> extra, TraceContext? scope)
    {
        _logger = logger;
        _kind = logger.Texts.Kind(name);
        _head = new RecordHead(logger, scope);
        _texts = new RecordTexts(action, scope);
        _extra = extra;
        Scope = scope;
    }

    /// <summary>A packed one. It cannot become a LogEvent.</summary>
    public RecordEntry(TraceLogger logger, KindTexts kind, ReadOnlySpan<byte> packed)
    {
        _logger = logger;
        _kind = kind;
        _head = MemoryMarshal.Read<RecordHead>(packed);
        _texts = new RecordTexts(packed[Unsafe.SizeOf<RecordHead>()..]);
    }

    /// <summary>The scope whose record it is; null outside one.</summary>
    public TraceContext? Scope { get; }

    /// <summary>Whether it says that something failed.</summary>
    public bool IsError => _head.IsFailed;

    interface IFields
    {
        void Fixed(FixedText text);

        void Ids(ReadOnlySpan<char> traceId, ReadOnlySpan<char> prefix, long number);

        void Text(RecordField field, ReadOnlySpan<char> value);

        void Number(RecordField field, long value);

        void Seconds(RecordField field, long micros);

        void Flag(RecordField field, bool value);

        void Span(RecordField field, ulong value);

        void Extra(IReadOnlyList<KeyValuePair<string, object?>> members);
    }

    public static long Micros(DateTimeOffset time) => (time.UtcTicks - DateTimeOffset.UnixEpoch.Ticks) / (TimeSpan.TicksPerMillisecond / 1000);

    public static long Micros(TimeSpan time) => time.Ticks / (TimeSpan.TicksPerMillisecond / 1000);

    /// <summary>Writes the record as one JSON object, without line end.</summary>
    public void WriteTo(LineWriter line)
    {
        line.Begin();
        var fields = new LineFields(line, _logger);
        Visit(ref fields);
        line.End();
    }

    /// <summary>The record as an event for foreign sinks: every field a property with its name on the wire.</summary>
    public LogEvent ToLogEvent()
    {
        var fields = new PropertyFields([], _logger.Mask);
        Visit(ref fields);
        return new LogEvent(
            DateTimeOffset.UnixEpoch.AddMicroseconds(_head.Micros), IsError ? LogEventLevel.Error : LogEventLevel.Information, null, TraceLogger.RecordTemplate, fields.Properties);
    }

    void Visit<T>(ref T fields)
        where T : IFields
    {
        var texts = _logger.Texts;
        fields.Fixed(_head.IsFailed ? _kind.FailedName : _kind.Name);
        if (_head.HasScope) fields.Ids(_texts.TraceId, _texts.Prefix, _head.Number);
        fields.Number(RecordField.Timestamp, _head.Micros / 1_000_000);
        fields.Fixed(_kind.Origin);
        fields.Text(RecordField.Action, _texts.Action);
        fields.Text(RecordField.Param, _texts.Param);
        fields.Fixed(texts.Version);
        if (_head.DurationMicros is not RecordHead.None) fields.Seconds(RecordField.Duration, _head.DurationMicros);
        fields.Text(RecordField.Code, _texts.Code);
        fields.Text(RecordField.Msg, _texts.Msg);
        fields.Text(RecordField.Backtrace, _texts.Backtrace);
        fields.Text(RecordField.Uid, _texts.Uid);
        fields.Fixed(texts.Pid);
        fields.Text(RecordField.Source, _texts.Source);
        fields.Text(RecordField.ClientIp, _texts.ClientIp);
        fields.Text(RecordField.UserAgent, _texts.UserAgent);
        fields.Text(RecordField.Host, _texts.Host);
        fields.Text(RecordField.InstanceName, _texts.InstanceName);
        fields.Text(RecordField.Db, _texts.Db);
        fields.Text(RecordField.Response, _texts.Response);
        if (_head.ResponseLength >= 0) fields.Number(RecordField.ResponseLength, _head.ResponseLength);
        if (_head.DnsMicros is not RecordHead.None) fields.Seconds(RecordField.DnsDuration, _head.DnsMicros);
        if (_extra is { Count: > 0 }) fields.Extra(_extra);
        fields.Fixed(texts.Service);
        fields.Number(RecordField.TimestampUs, _head.Micros);
        if (!_head.HasScope) return;
        if (_head.IsDebug) fields.Flag(RecordField.Debug, true);
        if (_head.IsSampled) fields.Flag(RecordField.Sampled, true);
        fields.Span(RecordField.SpanId, _head.Span);
        if (_head.ParentSpan != 0) fields.Span(RecordField.ParentSpanId, _head.ParentSpan);
    }

    readonly struct LineFields(LineWriter line, TraceLogger logger) : IFields
    {
        public void Fixed(FixedText text) => line.Fixed(text);

        public void Ids(ReadOnlySpan<char> traceId, ReadOnlySpan<char> prefix, long number)
        {
            line.Text(RecordField.TraceId, traceId, logger.Options.MaxTextLength);
            line.RpcId(prefix, number);
        }

        // Most fields of most records are empty.
        public void Text(RecordField field, ReadOnlySpan<char> value)
        {
            if (RecordTexts.IsSaid(value)) Filled(field, value);
        }

        void Filled(RecordField field, ReadOnlySpan<char> value) => line.Text(field, logger.Mask.TryField(field, value, out var masked) ? masked : value, logger.Options.MaxTextLength);

        public void Number(RecordField field, long value) => line.Number(field, value);

        public void Seconds(RecordField field, long micros) => line.Seconds(field, micros);

        public void Flag(RecordField field, bool value) => line.Flag(field, value);

        public void Span(RecordField field, ulong value) => line.Span(field, value);

        public void Extra(IReadOnlyList<KeyValuePair<string, object?>> members)
        {
            var extra = ExtraWriter.Begin(line, logger);
            // By index: an enumerator behind the interface would be an object.
            for (var i = 0; i < members.Count; i++) extra.Scalar(members[i].Key, members[i].Value);
            extra.End();
        }
    }

    readonly struct PropertyFields(List<LogEventProperty> properties, TraceMask mask) : IFields
    {
        public List<LogEventProperty> Properties { get; } = properties;

        public void Fixed(FixedText text)
        {
            foreach (var (field, value) in text.Fields) Add(field, value);
        }

        public void Ids(ReadOnlySpan<char> traceId, ReadOnlySpan<char> prefix, long number)
        {
            Add(RecordField.TraceId, traceId.ToString());
            Add(RecordField.RpcId, string.Create(CultureInfo.InvariantCulture, $"{prefix}.{number}"));
        }

        public void Text(RecordField field, ReadOnlySpan<char> value)
        {
            if (RecordTexts.IsSaid(value)) Add(field, mask.TryField(field, value, out var masked) ? masked : value.ToString());
        }

        public void Number(RecordField field, long value) => Add(field, value);

        public void Seconds(RecordField field, long micros) => Add(field, Math.Max(micros, 0) / 1e6);

        public void Flag(RecordField field, bool value) => Add(field, value);

        public void Span(RecordField field, ulong value) => Add(field, value.ToString("x16", CultureInfo.InvariantCulture));

        public void Extra(IReadOnlyList<KeyValuePair<string, object?>> members)
        {
            var extra = new List<LogEventProperty>(members.Count);
            foreach (var (key, value) in members) extra.Add(new(string.IsNullOrWhiteSpace(key) ? "_" : key, new ScalarValue(mask.Member(key, value))));
            Properties.Add(new(RecordFields.WireName(RecordField.Extra), new StructureValue(extra)));
        }

        void Add(RecordField field, object value) => Properties.Add(new(RecordFields.WireName(field), new ScalarValue(value)));
    }
}

/// <summary>What a record says in numbers.</summary>
readonly struct RecordHead
{
    /// <summary>Where there is no duration or length.</summary>
    public const long None = -1;

    public readonly long Micros;
    public readonly long DurationMicros = None;
    public readonly long Number;
    public readonly ulong Span;

    /// <summary>0 at the top of a trace.</summary>
    public readonly ulong ParentSpan;
    public readonly long ResponseLength = None;
    public readonly long DnsMicros = None;
    public readonly bool HasScope;
    public readonly bool IsFailed;
    public readonly bool IsDebug;
    public readonly bool IsSampled;

    public RecordHead(TraceLogger logger, TraceSpan span)
    {
        var clock = logger.Clock;
        var now = span.EndTimestamp == 0 ? clock.Now : span.EndTimestamp;
        var scope = span.Scope;
        Micros = clock.Micros(now);
        DurationMicros = Math.Max(0, clock.Micros(span.StartTimestamp, now));
        Number = span.Number;
        Span = span.SpanNumber;
        ParentSpan = span.ParentSpanNumber;
        if (span.ResponseLength is { } length and >= 0) ResponseLength = length;
        if (span.DnsDuration is { } dns) DnsMicros = Math.Max(0, RecordEntry.Micros(dns));
        HasScope = true;
        IsFailed = span.IsFailed;
        IsDebug = scope.IsDebug;
        IsSampled = scope.Held is not null;
    }

    /// <summary>Of a record that is no span's: it took place where its scope, if there is one, is now.</summary>
    public RecordHead(TraceLogger logger, TraceContext? scope)
    {
        Micros = logger.Clock.Micros(logger.Clock.Now);
        if (scope is null) return;
        Number = scope.LastNumber;
        Span = scope.SpanNumber;
        ParentSpan = scope.ParentSpanNumber;
        HasScope = true;
        IsDebug = scope.IsDebug;
        IsSampled = scope.Held is not null;
    }
}

/// <summary>What a record says in texts; the default value where it says nothing, which is not the empty text.</summary>
readonly ref struct RecordTexts
{
    const int UsualLetters = 4096;

    // Where texts that wait as ASCII become characters again.
    [ThreadStatic]
    static char[]? t_letters;

    public readonly ReadOnlySpan<char> TraceId;
    public readonly ReadOnlySpan<char> Prefix;
    public readonly ReadOnlySpan<char> Action;
    public readonly ReadOnlySpan<char> Param;
    public readonly ReadOnlySpan<char> Code;
    public readonly ReadOnlySpan<char> Msg;
    public readonly ReadOnlySpan<char> Backtrace;
    public readonly ReadOnlySpan<char> Uid;
    public readonly ReadOnlySpan<char> Source;
    public readonly ReadOnlySpan<char> ClientIp;
    public readonly ReadOnlySpan<char> UserAgent;
    public readonly ReadOnlySpan<char> Host;
    public readonly ReadOnlySpan<char> InstanceName;
    public readonly ReadOnlySpan<char> Db;
    public readonly ReadOnlySpan<char> Response;

    public RecordTexts(TraceSpan span)
        : this(span.Action, span.Scope)
    {
        Param = span.Param;
        Code = span.Code;
        Msg = span.Msg;
        Backtrace = span.Backtrace;
        Uid = span.Uid;
        Source = span.Source;
        ClientIp = span.ClientIp;
        UserAgent = span.UserAgent;
        Host = span.Host;
        InstanceName = span.InstanceName;
        Db = span.Db;
        Response = span.Response;
    }

    public RecordTexts(string action, TraceContext? scope)
    {
        TraceId = scope?.TraceId;
        Prefix = scope?.Prefix;
        Action = action;
        Param = "";
    }

    /// <summary>Reads what <see cref="EventPacker"/> wrote, in its order. To be used up before this thread reads the next one.</summary>
    public RecordTexts(ReadOnlySpan<byte> packed)
    {
        var room = Span<char>.Empty;
        if (!MemoryMarshal.Read<bool>(packed))
        {
            if (t_letters is null || t_letters.Length < packed.Length) t_letters = new char[Math.Max(packed.Length, UsualLetters)];
            room = t_letters;
        }

        packed = packed[sizeof(bool)..];
        TraceId = Take(ref packed, ref room);
        Prefix = Take(ref packed, ref room);
        Action = Take(ref packed, ref room);
        Param = Take(ref packed, ref room);
        Code = Take(ref packed, ref room);
        Msg = Take(ref packed, ref room);
        Backtrace = Take(ref packed, ref room);
        Uid = Take(ref packed, ref room);
        Source = Take(ref packed, ref room);
        ClientIp = Take(ref packed, ref room);
        UserAgent = Take(ref packed, ref room);
        Host = Take(ref packed, ref room);
        InstanceName = Take(ref packed, ref room);
        Db = Take(ref packed, ref room);
        Response = Take(ref packed, ref room);
    }

    /// <summary>Whether there is a text, if only the empty one.</summary>
    public static bool IsSaid(ReadOnlySpan<char> text) => !Unsafe.IsNullRef(ref MemoryMarshal.GetReference(text));

    static ReadOnlySpan<char> Take(scoped ref ReadOnlySpan<byte> packed, scoped ref Span<char> room)
    {
        var length = MemoryMarshal.Read<int>(packed);
        packed = packed[sizeof(int)..];
        if (length < 0) return default;
        if (!room.IsEmpty)
        {
            Ascii.ToUtf16(packed[..length], room, out _);
            packed = packed[length..];
            var letters = room[..length];
            room = room[length..];
            return letters;
        }

        var text = MemoryMarshal.Cast<byte, char>(packed[..(length * sizeof(char))]);
        packed = packed[(length * sizeof(char))..];
        return text;
    }
}
