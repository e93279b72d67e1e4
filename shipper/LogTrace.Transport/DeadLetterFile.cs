using System.Buffers;
using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;

namespace LogTrace.Transport;

/// <summary>
/// Lines that could not be sent, read or stored, each with its reason, source position and original bytes: one JSON object a line.
/// Bounded; when it is full, reading stops rather than anything being lost. The file is made with the first line. Safe for concurrent use.
/// </summary>
/// <remarks>
/// <c>{"at","reason","host","file","file_id","offset","length","line"}</c>; bytes that are no UTF-8 stand as <c>line_base64</c> in place of
/// <c>line</c>, so that both give back exactly what was read; <c>kept</c> says how many of the <c>length</c> bytes are here when not all are. An end without a line end, which a crash leaves, is cut off when the file is
/// opened: nobody was told that it is safe.
/// </remarks>
/// <param name="path">The file; its folder is made when it is missing.</param>
/// <param name="maxBytes">Most bytes the file may have, what is there already included. Default 1 GiB.</param>
/// <param name="time">The clock for <c>at</c>; the system's by default.</param>
/// <param name="topic">Gets everything, too, and has to have it before <see cref="Flush"/> returns; stays the caller's. Default none.</param>
public sealed class DeadLetterFile(string path, long maxBytes = 1L << 30, TimeProvider? time = null, DeadLetterTopic? topic = null) : IDisposable
{
    // More than this is written without waiting for Flush, so that a stream of bad lines does not grow in memory.
    const int MaxPendingBytes = 256 * 1024;

    static readonly JsonWriterOptions Options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    readonly Lock _lock = new();
    readonly ArrayBufferWriter<byte> _pending = new();
    FileStream? _file;
    long _written;
    bool _isDirty;

    /// <summary>The file.</summary>
    public string Path => path;

    /// <summary>Appends a line. It is safe only after <see cref="Flush"/>.</summary>
    /// <param name="source">The file.</param>
    /// <param name="offset">Byte offset of the line there.</param>
    /// <param name="line">Its bytes, or their beginning.</param>
    /// <param name="reason">Why it is set aside.</param>
    /// <param name="wholeLength">Bytes of the whole line, when <paramref name="line"/> is only its beginning.</param>
    /// <exception cref="DeadLetterFullException">The file has reached its limit; nothing was written.</exception>
    /// <exception cref="IOException">The file cannot be opened or written; the line was not taken, retry is safe.</exception>
    public void Add(SourceFile source, long offset, ReadOnlySpan<byte> line, string reason, long? wholeLength = null)
    {
        var length = wholeLength ?? line.Length;
        var entry = Format(source, offset, line, length, reason);
        lock (_lock)
        {
            if (_file is null) Open();
            if (!HasRoom(entry.Length))
            {
                // Whoever moved the file away made room under this path.
                FlushCore();
                Close();
                Open();
                if (!HasRoom(entry.Length))
                {
                    throw new DeadLetterFullException(string.Create(
                        CultureInfo.InvariantCulture,
                        $"{path} has {_written:N0} bytes and takes no further line of {entry.Length:N0}: its limit is {maxBytes:N0}. Look at the reasons in it, then move it away or raise the limit."));
                }
            }

            // Before the line is taken: if writing fails, the caller still has it.
            if (_pending.WrittenCount > MaxPendingBytes) WritePending();
            if (topic is not null) AddToTopic(source, offset, line, length, reason);
            _pending.Write(entry);
        }
    }

    /// <summary>Makes everything added so far durable (fsync, and acknowledged by the topic if there is one). Costs nothing when nothing was added.</summary>
    /// <exception cref="IOException">Not everything is durable; retry is safe and doubles nothing in the file.</exception>
    public void Flush()
    {
        lock (_lock)
        {
            FlushCore();
            if (topic is not null) FlushTopic();
        }
    }

    // Methods of their own: without a topic nothing of Kafka's client is to be loaded.
    void AddToTopic(SourceFile source, long offset, ReadOnlySpan<byte> line, long wholeLength, string reason) => topic!.Add(source, offset, line, wholeLength, reason);

    void FlushTopic() => topic!.Flush();

    /// <summary>Writes what was added and closes the file. What was not flushed before is not promised.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            try
            {
                FlushCore();
            }
            catch (IOException)
            {
                // Nobody was told that these lines are safe; their reader will bring them again.
            }

            Close();
        }
    }

    byte[] Format(SourceFile source, long offset, ReadOnlySpan<byte> line, long wholeLength, string reason)
    {
        var output = new ArrayBufferWriter<byte>(line.Length + 512);
        using (var json = new Utf8JsonWriter(output, Options))
        {
            json.WriteStartObject();
            json.WriteString("at"u8, (time ?? TimeProvider.System).GetUtcNow().UtcDateTime.ToString("O", CultureInfo.InvariantCulture));
            json.WriteString("reason"u8, reason);
            json.WriteString("host"u8, source.HostId);
            json.WriteString("file"u8, source.Path);
            json.WriteString("file_id"u8, source.FileId.ToString("x32", CultureInfo.InvariantCulture));
            json.WriteNumber("offset"u8, offset);
            json.WriteNumber("length"u8, wholeLength);
            if (wholeLength != line.Length) json.WriteNumber("kept"u8, line.Length);
            if (Utf8.IsValid(line)) json.WriteString("line"u8, line);
            else json.WriteBase64String("line_base64"u8, line);
            json.WriteEndObject();
        }

        output.Write("\n"u8);
        return output.WrittenSpan.ToArray();
    }

    bool HasRoom(int bytes) => _written + _pending.WrittenCount + bytes <= maxBytes;

    void Open()
    {
        if (System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path)) is { } folder) Directory.CreateDirectory(folder);
        var file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read | FileShare.Delete, bufferSize: 0);
        try
        {
            _written = EndOfLastWholeLine(file);
            if (_written < file.Length) file.SetLength(_written);
            file.Position = _written;
            _file = file;
        }
        catch
        {
            // Whatever went wrong, an open handle must not stay behind.
            file.Dispose();
            throw;
        }
    }

    static long EndOfLastWholeLine(FileStream file)
    {
        var buffer = new byte[64 * 1024];
        for (var end = file.Length; end > 0;)
        {
            var start = Math.Max(0, end - buffer.Length);
            file.Position = start;
            var part = buffer.AsSpan(0, (int)(end - start));
            file.ReadExactly(part);
            var newline = part.LastIndexOf((byte)'\n');
            if (newline >= 0) return start + newline + 1;
            end = start;
        }

        return 0;
    }

    void FlushCore()
    {
        if (_file is null) return;
        WritePending();
        if (!_isDirty) return;
        _file.Flush(flushToDisk: true);
        _isDirty = false;
    }

    void WritePending()
    {
        if (_pending.WrittenCount == 0) return;
        try
        {
            _file!.Write(_pending.WrittenSpan);
        }
        catch (IOException)
        {
            // A full disk takes half of it: cut that off, so that the next try starts on a new line and doubles nothing.
            _file!.SetLength(_written);
            _file.Position = _written;
            throw;
        }

        _written += _pending.WrittenCount;
        _pending.ResetWrittenCount();
        _isDirty = true;
    }

    void Close()
    {
        _file?.Dispose();
        _file = null;
    }
}

/// <summary>The dead letter has reached its limit. Move the file away or raise the limit; reading goes on by itself then.</summary>
public sealed class DeadLetterFullException(string message) : Exception(message);
