using System.Runtime.InteropServices;
using System.Text;
using Confluent.Kafka;

namespace LogTrace.Transport;

/// <summary>What a <see cref="NativeProducer"/> tells whoever polls it.</summary>
interface IProducerEvents
{
    /// <summary>The fate of lines that were handed over one after the other with the same tag.</summary>
    /// <param name="tag">As given with the lines.</param>
    /// <param name="lines">How many.</param>
    /// <param name="error"><see cref="ErrorCode.NoError"/>: they are safe.</param>
    /// <param name="value">Address of the last line's value.</param>
    void Delivered(nint tag, int lines, ErrorCode error, nint value);

    void Failed(ErrorCode code, string reason, bool isFatal);

    void Measured(ReadOnlySpan<byte> json);
}

/// <summary>
/// A producer of librdkafka, called directly: the managed client makes several objects for every message, which cost more than the sending. Lines are
/// handed over without a copy and delivery reports taken in batches. All calls into the library are in this file, and they go to the very copy
/// of it that the managed client has loaded: which one that is depends on the distribution, and two of them in one process are two libraries.
/// Not thread-safe but for <see cref="Wake"/>: who hands lines over also takes the reports, since what one thread allocates and another one frees costs half as much again.
/// </summary>
sealed unsafe class NativeProducer : IDisposable
{
    const int EventsAtOnce = 2_048;
    const int MaxTextBytes = 512;

    readonly IProducerEvents _events;
    readonly byte* _headerName;
    readonly Field* _fields;
    readonly nint* _messages;
    readonly nint _queue;

    // Also read by a test, which makes the producer fail for good.
    readonly nint _client;
    readonly Lock _waking = new();
    nint _topic;
    bool _isClosed;

    /// <param name="config">Properties by the library's names.</param>
    /// <param name="headerName">The one header of every line.</param>
    /// <param name="events">Who is told.</param>
    /// <exception cref="ArgumentException">The library does not know or take a property.</exception>
    /// <exception cref="InvalidOperationException">The library refused to make a producer.</exception>
    public NativeProducer(IReadOnlyDictionary<string, string> config, string headerName, IProducerEvents events)
    {
        _events = events;
        var text = stackalloc byte[MaxTextBytes];
        var conf = Library.ConfNew();
        try
        {
            foreach (var (name, value) in config)
            {
                fixed (byte* nameText = Text(name), valueText = Text(value))
                {
                    if (Library.ConfSet(conf, nameText, valueText, text, MaxTextBytes) != 0) throw new ArgumentException(ToText(text));
                }
            }

            // Without a callback of ours the library's log would go to stderr; what matters of it comes as an error, too.
            Library.ConfSetLog(conf, 0);
            Library.ConfSetEvents(conf, (int)(EventType.Delivery | EventType.Error | EventType.Statistics));
            _client = Library.New(0, conf, text, MaxTextBytes);
            if (_client == 0) throw new InvalidOperationException(ToText(text));
            conf = 0; // the client's now
        }
        finally
        {
            if (conf != 0) Library.ConfDestroy(conf);
        }

        _queue = Library.QueueGetMain(_client);
        _messages = (nint*)NativeMemory.Alloc(EventsAtOnce, (nuint)sizeof(nint));
        _headerName = (byte*)Marshal.StringToCoTaskMemUTF8(headerName);
        _fields = (Field*)NativeMemory.AllocZeroed(5, (nuint)sizeof(Field));
        _fields[0].Type = FieldType.Topic;
        _fields[1].Type = FieldType.Value;
        _fields[2].Type = FieldType.Key;
        _fields[3] = new Field { Type = FieldType.Header, First = (nint)_headerName };
        _fields[4].Type = FieldType.Opaque;
    }

    /// <summary>Says where all lines go; once, before the first. From here on the library asks about the topic, which may make it.</summary>
    /// <exception cref="InvalidOperationException">The library does not take the name.</exception>
    public void Open(string topic)
    {
        fixed (byte* name = Text(topic)) _topic = Library.TopicNew(_client, name, 0);
        if (_topic == 0) throw new InvalidOperationException($"the library does not take the topic {topic}");
        _fields[0].First = _topic;
    }

    /// <summary>
    /// Hands one line over. Value stays the caller's and must not move or change before its fate is known or the producer is disposed of; key and header are copied.
    /// </summary>
    /// <param name="key">Null for a line without one.</param>
    /// <returns><see cref="ErrorCode.Local_QueueFull"/>: not now.</returns>
    public ErrorCode Produce(byte* value, int length, byte* key, int keyLength, byte* header, int headerLength, nint tag, out string reason)
    {
        var fields = _fields;
        (fields[1].First, fields[1].Second) = ((nint)value, length);
        (fields[2].First, fields[2].Second) = ((nint)key, keyLength);
        (fields[3].Second, fields[3].Third) = ((nint)header, headerLength);
        fields[4].First = tag;
        var error = Library.Produce(_client, fields, 5);
        reason = "";
        if (error == 0) return ErrorCode.NoError;
        var code = (ErrorCode)Library.ErrorCodeOf(error);
        reason = ToText(Library.ErrorText(error));
        Library.ErrorDestroy(error);
        return code;
    }

    /// <summary>Tells what has happened; waits for something up to a time when nothing has, or until <see cref="Wake"/>.</summary>
    public void Poll(int patienceMillis)
    {
        for (nint happened; (happened = Library.QueuePoll(_queue, patienceMillis)) != 0; patienceMillis = 0)
        {
            switch ((EventType)Library.EventTypeOf(happened))
            {
                case EventType.Delivery:
                    Deliver(happened);
                    break;
                case EventType.Error:
                    Tell(happened);
                    break;
                case EventType.Statistics:
                    _events.Measured(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(Library.EventStatistics(happened)));
                    break;
            }

            Library.EventDestroy(happened);
        }
    }

    /// <summary>Ends the wait of <see cref="Poll"/>, or the next one. From any thread, also when it was disposed of.</summary>
    public void Wake()
    {
        lock (_waking)
        {
            if (!_isClosed) Library.QueueYield(_queue);
        }
    }

    void Deliver(nint happened)
    {
        int count;
        while ((count = (int)Library.EventMessages(happened, _messages, EventsAtOnce)) > 0)
        {
            for (var i = 0; i < count;)
            {
                var first = (Message*)_messages[i];
                var last = first;
                var lines = 1;
                while (++i < count && (Message*)_messages[i] is var next && next->Tag == first->Tag && next->Error == first->Error && first->Error == 0)
                {
                    last = next;
                    lines++;
                }

                _events.Delivered(first->Tag, lines, (ErrorCode)first->Error, last->Value);
            }
        }
    }

    void Tell(nint happened)
    {
        var code = (ErrorCode)Library.EventError(happened);
        if (code != ErrorCode.Local_Fatal)
        {
            _events.Failed(code, ToText(Library.EventErrorText(happened)), isFatal: false);
            return;
        }

        var text = stackalloc byte[MaxTextBytes];
        code = (ErrorCode)Library.FatalError(_client, text, MaxTextBytes);
        _events.Failed(code, ToText(text), isFatal: true);
    }

    /// <summary>The library's sentence for an error.</summary>
    public static string Describe(ErrorCode code) => ToText(Library.ErrorName((int)code));

    /// <summary>Ends at once. Afterwards no value that was handed over is looked at any more, and nothing is told.</summary>
    public void Dispose()
    {
        lock (_waking)
        {
            if (_isClosed) return;
            _isClosed = true;
        }

        Library.QueueDestroy(_queue);
        if (_topic != 0) Library.TopicDestroy(_topic);
        Library.Destroy(_client);
        NativeMemory.Free(_messages);
        NativeMemory.Free(_fields);
        Marshal.FreeCoTaskMem((nint)_headerName);
    }

    static byte[] Text(string text) => Encoding.UTF8.GetBytes(text + '\0');

    static string ToText(byte* text) => Encoding.UTF8.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(text));

    // The following is the library's interface as rdkafka.h has it, unchanged there since 1.5.

    [Flags]
    enum EventType
    {
        Delivery = 0x1,
        Error = 0x8,
        Statistics = 0x40,
    }

    enum FieldType
    {
        Topic = 2,
        Value = 4,
        Key = 5,
        Opaque = 6,
        Header = 9,
    }

    /// <summary>rd_kafka_vu_t.</summary>
    [StructLayout(LayoutKind.Sequential, Size = 72)]
    struct Field
    {
        public FieldType Type;
        public nint First;
        public nint Second;
        public nint Third;
    }

    /// <summary>rd_kafka_message_t.</summary>
    [StructLayout(LayoutKind.Sequential)]
    struct Message
    {
        public int Error;
        public nint Topic;
        public int Partition;
        public nint Value;
        public nint ValueLength;
        public nint Key;
        public nint KeyLength;
        public long Offset;
        public nint Tag;
    }

    static class Library
    {
        static readonly nint Handle = Find();

        public static readonly delegate* unmanaged[Cdecl]<nint> ConfNew = (delegate* unmanaged[Cdecl]<nint>)Export("conf_new");
        public static readonly delegate* unmanaged[Cdecl]<nint, byte*, byte*, byte*, nint, int> ConfSet = (delegate* unmanaged[Cdecl]<nint, byte*, byte*, byte*, nint, int>)Export("conf_set");
        public static readonly delegate* unmanaged[Cdecl]<nint, nint, void> ConfSetLog = (delegate* unmanaged[Cdecl]<nint, nint, void>)Export("conf_set_log_cb");
        public static readonly delegate* unmanaged[Cdecl]<nint, int, void> ConfSetEvents = (delegate* unmanaged[Cdecl]<nint, int, void>)Export("conf_set_events");
        public static readonly delegate* unmanaged[Cdecl]<nint, void> ConfDestroy = (delegate* unmanaged[Cdecl]<nint, void>)Export("conf_destroy");
        public static readonly delegate* unmanaged[Cdecl]<int, nint, byte*, nint, nint> New = (delegate* unmanaged[Cdecl]<int, nint, byte*, nint, nint>)Export("new");
        public static readonly delegate* unmanaged[Cdecl]<nint, byte*, nint, nint> TopicNew = (delegate* unmanaged[Cdecl]<nint, byte*, nint, nint>)Export("topic_new");
        public static readonly delegate* unmanaged[Cdecl]<nint, void> TopicDestroy = (delegate* unmanaged[Cdecl]<nint, void>)Export("topic_destroy");
        public static readonly delegate* unmanaged[Cdecl]<nint, void> Destroy = (delegate* unmanaged[Cdecl]<nint, void>)Export("destroy");
        public static readonly delegate* unmanaged[Cdecl]<nint, Field*, nint, nint> Produce = (delegate* unmanaged[Cdecl]<nint, Field*, nint, nint>)Export("produceva");
        public static readonly delegate* unmanaged[Cdecl]<nint, int> ErrorCodeOf = (delegate* unmanaged[Cdecl]<nint, int>)Export("error_code");
        public static readonly delegate* unmanaged[Cdecl]<nint, byte*> ErrorText = (delegate* unmanaged[Cdecl]<nint, byte*>)Export("error_string");
        public static readonly delegate* unmanaged[Cdecl]<nint, void> ErrorDestroy = (delegate* unmanaged[Cdecl]<nint, void>)Export("error_destroy");
        public static readonly delegate* unmanaged[Cdecl]<int, byte*> ErrorName = (delegate* unmanaged[Cdecl]<int, byte*>)Export("err2str");
        public static readonly delegate* unmanaged[Cdecl]<nint, byte*, nint, int> FatalError = (delegate* unmanaged[Cdecl]<nint, byte*, nint, int>)Export("fatal_error");
        public static readonly delegate* unmanaged[Cdecl]<nint, nint> QueueGetMain = (delegate* unmanaged[Cdecl]<nint, nint>)Export("queue_get_main");
        public static readonly delegate* unmanaged[Cdecl]<nint, int, nint> QueuePoll = (delegate* unmanaged[Cdecl]<nint, int, nint>)Export("queue_poll");
        public static readonly delegate* unmanaged[Cdecl]<nint, void> QueueYield = (delegate* unmanaged[Cdecl]<nint, void>)Export("queue_yield");
        public static readonly delegate* unmanaged[Cdecl]<nint, void> QueueDestroy = (delegate* unmanaged[Cdecl]<nint, void>)Export("queue_destroy");
        public static readonly delegate* unmanaged[Cdecl]<nint, int> EventTypeOf = (delegate* unmanaged[Cdecl]<nint, int>)Export("event_type");
        public static readonly delegate* unmanaged[Cdecl]<nint, nint*, nint, nint> EventMessages = (delegate* unmanaged[Cdecl]<nint, nint*, nint, nint>)Export("event_message_array");
        public static readonly delegate* unmanaged[Cdecl]<nint, int> EventError = (delegate* unmanaged[Cdecl]<nint, int>)Export("event_error");
        public static readonly delegate* unmanaged[Cdecl]<nint, byte*> EventErrorText = (delegate* unmanaged[Cdecl]<nint, byte*>)Export("event_error_string");
        public static readonly delegate* unmanaged[Cdecl]<nint, byte*> EventStatistics = (delegate* unmanaged[Cdecl]<nint, byte*>)Export("event_stats");
        public static readonly delegate* unmanaged[Cdecl]<nint, void> EventDestroy = (delegate* unmanaged[Cdecl]<nint, void>)Export("event_destroy");

        static nint Export(string name) => NativeLibrary.GetExport(Handle, "rd_kafka_" + name);

        static nint Find()
        {
            Confluent.Kafka.Library.Load();
            if (!OperatingSystem.IsLinux()) return NativeLibrary.Load("librdkafka", typeof(Confluent.Kafka.Library).Assembly, null);
            var mapped = File.ReadLines("/proc/self/maps").FirstOrDefault(line => line.Contains("librdkafka", StringComparison.Ordinal));
            return mapped is null ? throw new DllNotFoundException("librdkafka is not loaded") : NativeLibrary.Load(mapped[mapped.IndexOf('/')..]);
        }
    }
}
