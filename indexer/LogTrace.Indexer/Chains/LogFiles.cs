using System.Formats.Tar;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// The log files that a path stands for: one, or each regular file of a tar archive. What is compressed (gzip) is known by its first bytes, an archive by its first block or its
/// name (.tar, .tar.gz, .tgz). Files in an archive may be compressed themselves; an archive in an archive is not opened. No more of an archive is held in memory than of a plain file.
/// </summary>
static class LogFiles
{
    /// <summary>Long names and attributes of a file in an archive; more come only from damage or ill will.</summary>
    const int MaxHeaderBytes = 1 << 20;

    const int BlockBytes = 512;

    /// <summary>One after the other: each is to be read, as far as it is wanted, before the next one is asked for.</summary>
    /// <returns>Files of an archive are named <c>archive.tar.gz/entry</c>.</returns>
    /// <exception cref="InvalidDataException">Thrown on the way: the archive or its compression is damaged. What came before is good.</exception>
    public static IEnumerable<(string Name, Stream Content)> Open(string path)
    {
        var name = path == "-" ? "stdin" : path;
        using var file = LogLines.Open(path);
        var (content, isArchive) = LookForArchive(file);
        using (content)
        {
            if (!isArchive && !HasNameOfArchive(path))
            {
                yield return (name, content);
                yield break;
            }

            var archive = new ArchiveStream(content);
            using var reader = new TarReader(archive, leaveOpen: true);
            while (Next(reader, archive) is { } entry)
            {
                if (entry.EntryType is not (TarEntryType.RegularFile or TarEntryType.V7RegularFile or TarEntryType.ContiguousFile or TarEntryType.SparseFile)) continue;
                var entryName = $"{name}/{ChainText.Visible(entry.Name.StartsWith("./", StringComparison.Ordinal) ? entry.Name[2..] : entry.Name)}";
                if (entry.EntryType == TarEntryType.SparseFile) throw new InvalidDataException($"{entryName} is stored with holes (sparse), which is not understood; unpack the archive.");
                using var raw = new EntryStream(entry.DataStream ?? Stream.Null, entry.Length, archive);
                using var start = LogLines.Decompressed(raw);
                yield return (entryName, start);

                // A file of which the archive lacks a part has said so itself.
                if (archive.IsDamaged) yield break;
                Drain(raw, out _);
            }

            Drain(content, out var hasMore);
            if (hasMore) throw new InvalidDataException("something follows the end of the archive, as when archives were put one behind the other; it was not read.");
        }
    }

    static bool HasNameOfArchive(string path) =>
        path.EndsWith(".tar", StringComparison.OrdinalIgnoreCase) || path.EndsWith(".tar.gz", StringComparison.OrdinalIgnoreCase) || path.EndsWith(".tgz", StringComparison.OrdinalIgnoreCase);

    static (Stream Whole, bool IsArchive) LookForArchive(Stream stream)
    {
        var block = new byte[BlockBytes];
        var length = 0;
        try
        {
            length = stream.ReadAtLeast(block, BlockBytes, throwOnEndOfStream: false);
        }
        catch (InvalidDataException)
        {
            // Damaged this early. Whoever reads on meets it again, and says so.
        }

        return (new LogLines.StartedStream(block.AsMemory(0, length), stream), length == BlockBytes && HasHeaderChecksum(block));
    }

    /// <summary>All forms of tar, the old ones without any other mark too, have the sum of a header's bytes in it, its own counted as spaces.</summary>
    static bool HasHeaderChecksum(ReadOnlySpan<byte> block)
    {
        const int Start = 148, Length = 8;
        long sum = Length * ' ';
        for (var i = 0; i < block.Length; i++)
            if (i is < Start or >= Start + Length) sum += block[i];
        return Octal(block.Slice(Start, Length)) == sum;
    }

    static long Octal(ReadOnlySpan<byte> field)
    {
        long number = 0;
        foreach (var digit in field.Trim(" \0"u8))
        {
            if (digit is < (byte)'0' or > (byte)'7') return -1;
            number = (number << 3) + (digit - '0');
        }

        return number;
    }

    static TarEntry? Next(TarReader reader, ArchiveStream archive)
    {
        archive.IsAtHeader = true;
        try
        {
            return reader.GetNextEntry();
        }
        catch (Exception exception) when (exception is EndOfStreamException or InvalidDataException or InvalidOperationException or FormatException or ArgumentException or OverflowException or NotSupportedException)
        {
            throw new InvalidDataException($"the archive is damaged, or is none: {exception.Message}", exception);
        }
        finally
        {
            archive.IsAtHeader = false;
        }
    }

    static void Drain(Stream stream, out bool hasContent)
    {
        var buffer = new byte[1 << 13];
        hasContent = false;
        while (stream.Read(buffer) is > 0 and var count) hasContent |= buffer.AsSpan(0, count).ContainsAnyExcept((byte)0);
    }

    /// <summary>The archive as its reader reads it. The reader takes a header's word for how much memory it needs; this does not.</summary>
    sealed class ArchiveStream(Stream content) : LogLines.ReadOnlyStream
    {
        /// <summary>Nothing but headers is being read.</summary>
        public bool IsAtHeader { get; set; }

        public bool IsDamaged { get; set; }

        public override int Read(Span<byte> buffer)
        {
            if (!IsAtHeader || buffer.Length != BlockBytes) return content.Read(buffer);
            var count = content.ReadAtLeast(buffer, BlockBytes, throwOnEndOfStream: false);
            const int SizeStart = 124, SizeLength = 12, Kind = 156;
            if (count == BlockBytes && buffer[Kind] is (byte)'x' or (byte)'g' or (byte)'X' or (byte)'L' or (byte)'K' && Octal(buffer.Slice(SizeStart, SizeLength)) is < 0 or > MaxHeaderBytes)
                throw new InvalidDataException($"a file's name or attributes take more than {MaxHeaderBytes:N0} bytes.");
            return count;
        }
    }

    /// <summary>A file in an archive. Should the archive end or break within it, then with a message rather than as if the file ended there.</summary>
    sealed class EntryStream(Stream data, long length, ArchiveStream archive) : LogLines.ReadOnlyStream
    {
        long _read;

        public override int Read(Span<byte> buffer)
        {
            int count;
            try
            {
                count = data.Read(buffer);
            }
            catch (Exception exception) when (exception is InvalidDataException or EndOfStreamException)
            {
                archive.IsDamaged = true;
                throw new InvalidDataException($"the archive is damaged within this file: {exception.Message}", exception);
            }

            _read += count;
            if (count > 0 || buffer.IsEmpty || _read >= length) return count;
            archive.IsDamaged = true;
            throw new InvalidDataException("the archive ends within this file.");
        }
    }
}
