using System.IO.Compression;

namespace LogTrace.Indexer.Chains;

/// <summary>Lines of a log file from its beginning to its end: plain or gzip (known by its first bytes), or standard input as <c>-</c>.</summary>
static class LogLines
{
    /// <summary>A longer line is set aside, not read into memory: 16 MiB.</summary>
    public const int MaxLineBytes = 16 << 20;

    /// <param name="Bytes">The line without its line end; memory of its own. Empty for a line that is too long.</param>
    /// <param name="Number">From 1.</param>
    /// <param name="Offset">Of its first byte in the (decompressed) file.</param>
    public readonly record struct Line(ReadOnlyMemory<byte> Bytes, long Number, long Offset, bool IsTooLong);

    public static Stream Open(string path)
    {
        return Decompressed(path == "-" ? Console.OpenStandardInput() : new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 1 << 16));
    }

    /// <summary>A file's content, whether it is compressed or not.</summary>
    public static Stream Decompressed(Stream file)
    {
        var start = new byte[2];
        var length = 0;
        try
        {
            length = file.ReadAtLeast(start, 2, throwOnEndOfStream: false);
        }
        catch (InvalidDataException)
        {
            // A file in a damaged archive. Whoever reads on meets it again, and says so.
        }

        var whole = new StartedStream(start.AsMemory(0, length), file);
        return length == 2 && start[0] == 0x1F && start[1] == 0x8B ? new GZipStream(whole, CompressionMode.Decompress) : whole;
    }

    /// <summary>A line end is <c>\n</c> or <c>\r\n</c>; what stands behind the last one is a line too.</summary>
    public static IEnumerable<Line> Read(Stream stream)
    {
        var buffer = new byte[1 << 16];
        int start = 0, end = 0;
        long number = 1, offset = 0;
        var skipped = 0L; // bytes of the current line that were given up because it is too long
        while (true)
        {
            var found = buffer.AsSpan(start, end - start).IndexOf((byte)'\n');
            if (found >= 0)
            {
                yield return Take(found, 1);
                continue;
            }

            if (end - start > MaxLineBytes)
            {
                skipped += end - start;
                start = end = 0;
            }

            if (start > 0)
            {
                buffer.AsSpan(start, end - start).CopyTo(buffer);
                (start, end) = (0, end - start);
            }

            if (end == buffer.Length) Array.Resize(ref buffer, buffer.Length * 2);
            var read = stream.Read(buffer, end, buffer.Length - end);
            end += read;
            if (read > 0) continue;
            if (end > start || skipped > 0) yield return Take(end - start, 0);
            yield break;
        }

        Line Take(int length, int ending)
        {
            var bytes = buffer.AsSpan(start, length);
            if (bytes.Length > 0 && bytes[^1] == (byte)'\r') bytes = bytes[..^1];
            if (number == 1 && bytes.StartsWith("\uFEFF"u8)) bytes = bytes[3..];
            var isTooLong = skipped > 0 || bytes.Length > MaxLineBytes;
            var line = new Line(isTooLong ? default : bytes.ToArray(), number, offset, isTooLong);
            number++;
            offset += skipped + length + ending;
            start += length + ending;
            skipped = 0;
            return line;
        }
    }

    /// <summary>A stream with the bytes that were already taken off its start.</summary>
    public sealed class StartedStream(ReadOnlyMemory<byte> start, Stream rest) : ReadOnlyStream
    {
        ReadOnlyMemory<byte> _start = start;

        public override int Read(Span<byte> buffer)
        {
            if (_start.IsEmpty) return rest.Read(buffer);
            var count = Math.Min(buffer.Length, _start.Length);
            _start.Span[..count].CopyTo(buffer);
            _start = _start[count..];
            return count;
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing) rest.Dispose();
            base.Dispose(disposing);
        }
    }

    /// <summary>Read from its beginning to its end.</summary>
    public abstract class ReadOnlyStream : Stream
    {
        public override bool CanRead => true;
        public override bool CanSeek => false;
        public override bool CanWrite => false;
        public override long Length => throw new NotSupportedException();
        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public abstract override int Read(Span<byte> buffer);

        public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));
        public override void Flush() { }
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
