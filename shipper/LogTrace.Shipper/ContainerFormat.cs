using System.Buffers;
using System.Text.Json;
using LogTrace.Transport;

namespace LogTrace.Shipper;

/// <summary>What stands around a line in its file.</summary>
public enum LineFormat
{
    /// <summary>Nothing: the line is the record.</summary>
    Plain,

    /// <summary>
    /// What container runtimes write for Kubernetes (CRI): time, stream, <c>F</c> or <c>P</c> for a part of a longer line, then the text.
    /// https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
    /// </summary>
    Cri,

    /// <summary>What Docker's <c>json-file</c> driver writes: an object with <c>log</c>, <c>stream</c> and <c>time</c>; a part of a longer line has no line end in <c>log</c>.</summary>
    Docker,
}

/// <summary>Takes lines out of what a container runtime wraps around them.</summary>
static class ContainerFormat
{
    /// <summary>One line of the file, taken apart.</summary>
    /// <param name="IsWrapped">False for a line that no runtime wrote so: it is taken as it is.</param>
    /// <param name="IsError">Written to stderr; each stream has parts of its own.</param>
    /// <param name="IsPart">More of the same line follows.</param>
    public readonly record struct Piece(bool IsWrapped, bool IsError, bool IsPart);

    /// <summary>Reads one line.</summary>
    /// <param name="format">Cri or Docker.</param>
    /// <param name="line">Without its end.</param>
    /// <param name="content">Gets the text, without its line end; null to look only.</param>
    public static Piece Read(LineFormat format, ReadOnlySpan<byte> line, ArrayBufferWriter<byte>? content)
    {
        // A crash of the machine may leave a run of NULs before a line.
        if (line.Length > 0 && line[0] == 0) line = line.TrimStart((byte)0);
        return format == LineFormat.Cri ? ReadCri(line, content) : ReadDocker(line, content);
    }

    static Piece ReadCri(ReadOnlySpan<byte> line, ArrayBufferWriter<byte>? content)
    {
        var time = line.IndexOf((byte)' ');
        if (time < "2006-01-02T15:04:05Z".Length || line[10] != 'T') return default;
        var rest = line[(time + 1)..];
        var isError = rest.StartsWith("stderr "u8);
        if (!isError && !rest.StartsWith("stdout "u8)) return default;
        rest = rest["stdout ".Length..];
        // Tags are separated by colons, and the first says which part it is.
        var tags = rest.IndexOf((byte)' ');
        if (tags < 0) tags = rest.Length;
        if (tags == 0 || rest[0] is not ((byte)'F' or (byte)'P') || (tags > 1 && rest[1] != ':')) return default;
        content?.Write(rest[Math.Min(tags + 1, rest.Length)..]);
        return new Piece(true, isError, rest[0] == 'P');
    }

    static Piece ReadDocker(ReadOnlySpan<byte> line, ArrayBufferWriter<byte>? content)
    {
        try
        {
            var json = new Utf8JsonReader(line);
            if (!json.Read() || json.TokenType != JsonTokenType.StartObject) return default;
            var (hasLog, isError, isPart) = (false, false, false);
            while (json.Read() && json.TokenType == JsonTokenType.PropertyName)
            {
                var (isLog, isStream) = (json.ValueTextEquals("log"u8), json.ValueTextEquals("stream"u8));
                if (!json.Read()) return default;
                if (isStream && json.TokenType == JsonTokenType.String) isError = json.ValueTextEquals("stderr"u8);
                if (!isLog || hasLog || json.TokenType != JsonTokenType.String)
                {
                    json.Skip();
                    continue;
                }

                hasLog = true;
                isPart = !json.ValueSpan.EndsWith("\\n"u8);
                if (content is null) continue;
                var text = content.GetSpan(json.ValueSpan.Length + 1);
                var length = json.CopyString(text);
                content.Advance(length > 0 && text[length - 1] == '\n' ? length - 1 : length);
            }

            return hasLog ? new Piece(true, isError, isPart) : default;
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return default; // not Docker's: a torn one, or another program wrote into the file
        }
    }
}

/// <summary>The parts of a line of one stream that were read so far.</summary>
sealed class OpenLine
{
    public ArrayBufferWriter<byte> Content { get; } = new();

    public bool IsOpen { get; private set; }

    public SourceFile? Source { get; private set; }

    public long Offset { get; private set; }

    /// <summary>Bytes of its parts in the file that is being read.</summary>
    public long Bytes { get; private set; }

    /// <summary>Bytes of its parts in the file before that one.</summary>
    public long BytesBefore { get; private set; }

    public void Add(SourceFile source, long offset, long bytes)
    {
        if (!IsOpen) (IsOpen, Source, Offset) = (true, source, offset);
        Bytes += bytes;
    }

    /// <summary>What follows is in the next file.</summary>
    public void Carry() => (BytesBefore, Bytes) = (Bytes, 0);

    public void Close()
    {
        (IsOpen, Source, Bytes, BytesBefore) = (false, null, 0, 0);
        Content.ResetWrittenCount();
    }
}
