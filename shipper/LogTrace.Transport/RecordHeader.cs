using System.Buffers.Binary;
using System.Text;

namespace LogTrace.Transport;

/// <summary>
/// The one Kafka header with which a line's source travels, so that its identity survives both hops:
/// version (1 byte, now 1), offset (8), file id (16), length of host id (2), host id, length of path (2), path; numbers big-endian, text UTF-8.
/// </summary>
static class RecordHeader
{
    public const string Name = "lt";

    const byte Version = 1;
    const int OffsetAt = 1;
    const int FileIdAt = 9;
    const int HostIdAt = 25;

    static readonly Encoding StrictUtf8 = new UTF8Encoding(false, throwOnInvalidBytes: true);

    /// <summary>The header of the first line of a file; the others differ in the offset only, see <see cref="MoveTo"/>.</summary>
    /// <exception cref="ArgumentException">The host id has more than 65,535 bytes.</exception>
    public static byte[] Write(SourceFile source, long offset)
    {
        var hostId = Encoding.UTF8.GetBytes(source.HostId);
        if (hostId.Length > ushort.MaxValue) throw new ArgumentException($"The host id has {hostId.Length:N0} bytes; at most 65,535 can be sent.", nameof(source));
        // The path is for people; no file system here has longer ones.
        var path = Encoding.UTF8.GetBytes(source.Path.Length <= 16_384 ? source.Path : source.Path[..16_384]);

        var header = new byte[HostIdAt + 2 + hostId.Length + 2 + path.Length];
        header[0] = Version;
        BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(OffsetAt), offset);
        BinaryPrimitives.WriteUInt128BigEndian(header.AsSpan(FileIdAt), source.FileId);
        var rest = header.AsSpan(HostIdAt);
        WriteText(ref rest, hostId);
        WriteText(ref rest, path);
        return header;
    }

    /// <summary>Makes it the header of another line of the same file.</summary>
    public static void MoveTo(byte[] header, long offset) => BinaryPrimitives.WriteInt64BigEndian(header.AsSpan(OffsetAt), offset);

    /// <summary>
    /// Reads a header. False, and never an exception, for anything that is not exactly one of ours: then it counts as absent.
    /// </summary>
    public static bool TryRead(ReadOnlySpan<byte> header, out long offset, out SourceFile source)
    {
        source = null!;
        if (!TryReadOffset(header, out offset)) return false;
        var fileId = BinaryPrimitives.ReadUInt128BigEndian(header[FileIdAt..]);
        var rest = header[HostIdAt..];
        if (!TryReadText(ref rest, out var hostId) || hostId.Length == 0 || !TryReadText(ref rest, out var path) || rest.Length > 0) return false;
        source = new SourceFile(hostId, fileId, path);
        return true;
    }

    /// <summary>True when both headers name the same file, so that the second needs no reading but for <see cref="TryReadOffset"/>.</summary>
    public static bool SameFile(ReadOnlySpan<byte> one, ReadOnlySpan<byte> other) =>
        one.Length > FileIdAt && one.Length == other.Length && one[0] == other[0] && one[FileIdAt..].SequenceEqual(other[FileIdAt..]);

    public static bool TryReadOffset(ReadOnlySpan<byte> header, out long offset)
    {
        offset = 0;
        if (header.Length < HostIdAt || header[0] != Version) return false;
        offset = BinaryPrimitives.ReadInt64BigEndian(header[OffsetAt..]);
        return offset >= 0;
    }

    static void WriteText(ref Span<byte> rest, byte[] utf8)
    {
        BinaryPrimitives.WriteUInt16BigEndian(rest, (ushort)utf8.Length);
        utf8.CopyTo(rest[2..]);
        rest = rest[(2 + utf8.Length)..];
    }

    static bool TryReadText(ref ReadOnlySpan<byte> rest, out string text)
    {
        text = "";
        if (rest.Length < 2) return false;
        var length = BinaryPrimitives.ReadUInt16BigEndian(rest);
        if (rest.Length < 2 + length) return false;
        try
        {
            text = StrictUtf8.GetString(rest.Slice(2, length));
        }
        catch (ArgumentException)
        {
            // Not UTF-8: a changed host id would be another identity at each reading, so the header is not ours.
            return false;
        }

        rest = rest[(2 + length)..];
        return true;
    }
}
