using LogTrace.Records;
using LogTrace.Transport;
using Microsoft.Win32.SafeHandles;

namespace LogTrace.Shipper;

/// <summary>What a look at a file brought.</summary>
enum TailResult
{
    /// <summary>No whole line beyond the last one read.</summary>
    Nothing,

    /// <summary>Lines, or a step through a line too long for one read.</summary>
    Progress,

    /// <summary>The bytes before the offset are no longer the ones that were read: the file was emptied or replaced in place.</summary>
    Truncated,
}

/// <summary>A line that is not sent. Only its beginning is kept, however long it is.</summary>
readonly record struct SetAsideLine(long Offset, byte[] Head, long Length, string Reason);

/// <summary>What one look took from one file. The file's acknowledged offset moves over it as a whole, or not at all.</summary>
sealed record ReadSpan(FileTailer Tailer, SourceFile Source, long Start, long End, UInt128 Marker)
{
    public long Lines { get; init; }

    public long ShippedLines { get; init; }

    public long ShippedBytes { get; init; }

    public long BlankLines { get; init; }

    public long BlankBytes { get; init; }

    public long NulBytes { get; init; }

    public IReadOnlyList<SetAsideLine> SetAside { get; init; } = [];

    /// <summary>Bytes in the file, line ends included, as are all byte counts here.</summary>
    public long Bytes => End - Start;
}

/// <summary>
/// One file in one generation of its content: reads whole lines from an offset, and knows when the bytes behind the offset have become others.
/// Which path or inode holds these bytes may change (rename, copy); the offset and the file id stay with the bytes.
/// </summary>
sealed class FileTailer : IDisposable
{
    // How much of a line that is set aside is kept.
    const int KeptHeadBytes = 1024;

    readonly int _maxLineBytes;
    readonly LineFormat _format;
    SafeFileHandle? _handle;
    SourceFile? _source;
    string? _directory;
    long _readOffset;
    UInt128 _readMarker;
    LongLine? _longLine;

    // How far the file was when, oldest first, as far as it is not acknowledged.
    readonly List<(long Size, long Ticks)> _growth = [];

    // What the file looked like when everything in it had been read; while it looks the same there is nothing to do.
    long _seenSize = -1;
    long _seenModified;
    bool _hasMore = true;

    // A file is behind by many looks only when something is wrong; then it counts as somewhat older than it is.
    const int MaxGrowth = 64;

    /// <summary>A line that does not fit into one read: only where it stands and how far it was searched for its end.</summary>
    sealed class LongLine(long start)
    {
        public long ContentStart { get; set; } = -1;

        public long Searched { get; set; } = start;
    }

    public FileTailer(FileKey key, long birthNanos, string path, string matchedPath, int generation, int maxLineBytes, LineFormat format = LineFormat.Plain)
    {
        Key = key;
        BirthNanos = birthNanos;
        Path = path;
        MatchedPath = matchedPath;
        Generation = generation;
        _maxLineBytes = maxLineBytes;
        _format = format;
        AckedMarker = _readMarker = HeadHash = FileIdentity.Hash([]);
    }

    public FileKey Key { get; private set; }

    public long BirthNanos { get; private set; }

    /// <summary>Where the bytes are now.</summary>
    public string Path { get; private set; }

    /// <summary>The directory of <see cref="Path"/>.</summary>
    public string Directory => _directory ??= System.IO.Path.GetDirectoryName(Path)!;

    /// <summary>The last name under which a pattern found the file.</summary>
    public string MatchedPath { get; private set; }

    public int Generation { get; }

    /// <summary>Null until the first whole line is there.</summary>
    public UInt128? FileId { get; private set; }

    /// <summary>Everything before this is safe on the other side.</summary>
    public long AckedOffset { get; private set; }

    /// <summary>Hash of the bytes just before <see cref="AckedOffset"/>.</summary>
    public UInt128 AckedMarker { get; private set; }

    /// <summary>Length of the prefix that was hashed; it grows with what is read.</summary>
    public int HeadLength { get; private set; }

    public UInt128 HeadHash { get; private set; }

    public long ReadOffset => _readOffset;

    /// <summary>Bytes at the last look.</summary>
    public long Size { get; private set; }

    /// <summary>Bytes known to be there, also while nothing may be read.</summary>
    public long SeenBytes { get; private set; }

    /// <summary>When the oldest line that is not acknowledged was first seen; null when there is none.</summary>
    public long? UnacknowledgedSinceTicks => _growth.Count > 0 && !(IsAtEnd && InFlight == 0) ? _growth[0].Ticks : null;

    /// <summary>Set when the last name is gone; the open handle still reads the rest.</summary>
    public bool IsDeleted { get; set; }

    /// <summary>Set when nothing will come any more: a last line without an end is set aside.</summary>
    public bool TakesUnfinishedEnd { get; set; }

    /// <summary>From a checkpoint, and not yet compared with what its inode holds now.</summary>
    public bool IsRestored { get; private set; }

    /// <summary>The checkpoint on disk has the file id; before that no line is sent.</summary>
    public bool IsInCheckpoint { get; set; }

    /// <summary>Since when the file is found nowhere, in milliseconds since the epoch; 0 while it is there.</summary>
    public long AbsentSinceMillis { get; set; }

    /// <summary>Spans that were read and are not acknowledged.</summary>
    public int InFlight { get; private set; }

    /// <summary>When bytes were last found or the size last changed; orders the files whose handles may be closed.</summary>
    public long LastChangeTicks { get; private set; }

    public bool IsOpen => _handle is not null;

    /// <summary>Nothing to read: at the end, or before a line that has no end yet.</summary>
    public bool IsAtEnd => !_hasMore;

    /// <summary>Bytes of a last line that has no end yet.</summary>
    public long TornBytes => IsAtEnd ? Math.Max(0, Size - _readOffset) : 0;

    /// <summary>A tailer that goes on where a checkpoint says.</summary>
    public static FileTailer Restore(CheckpointEntry entry, int maxLineBytes, LineFormat format = LineFormat.Plain) =>
        new(new FileKey(entry.Device, entry.Inode), entry.BirthNanos, entry.Path, entry.MatchedPath, entry.Generation, maxLineBytes, format)
        {
            FileId = entry.FileId,
            AckedOffset = entry.Offset,
            AckedMarker = entry.Marker,
            HeadLength = entry.HeadLength,
            HeadHash = entry.HeadHash,
            _readOffset = entry.Offset,
            _readMarker = entry.Marker,
            Size = entry.Offset,
            SeenBytes = entry.Offset,
            IsRestored = true,
            IsInCheckpoint = true,
            AbsentSinceMillis = entry.AbsentSinceMillis,
        };

    /// <summary>
    /// A tailer for a copy of this file, with its id, so that the lines both hold are the same records. It starts at this file's acknowledged
    /// offset, or at <paramref name="offset"/> when the copy is shorter than that.
    /// </summary>
    public FileTailer CopyAt(FoundFile copy, long offset, UInt128 marker) =>
        new(copy.Status.Key, copy.Status.BirthNanos, copy.Path, copy.MatchedPath, Generation, _maxLineBytes, _format)
        {
            FileId = FileId,
            AckedOffset = offset,
            AckedMarker = marker,
            HeadLength = HeadLength,
            HeadHash = HeadHash,
            _readOffset = offset,
            _readMarker = marker,
        };

    public CheckpointEntry ToEntry(EntryState state) =>
        new(Key.Device, Key.Inode, BirthNanos, Path, MatchedPath, FileId!.Value, Generation, AckedOffset, AckedMarker, HeadLength, HeadHash, state, AbsentSinceMillis);

    public void MoveTo(string path, string? matchedPath = null)
    {
        // The same text is a new string at every search, and would be one more for the garbage collector to keep.
        if (matchedPath is not null && matchedPath != MatchedPath) MatchedPath = matchedPath;
        if (path == Path) return;
        Path = path;
        _source = null;
        _directory = null;
    }

    /// <summary>A look from outside: says whether reading would find something new. Costs nothing but the comparison.</summary>
    public void Saw(FileStatus status, long nowTicks)
    {
        _hasMore |= status.Size != _seenSize || status.ModifiedNanos != _seenModified;
        Grew(status.Size, nowTicks);
    }

    void Grew(long size, long nowTicks)
    {
        SeenBytes = size;
        if (size <= AckedOffset || (_growth.Count > 0 && size <= _growth[^1].Size)) return;
        if (_growth.Count < MaxGrowth) _growth.Add((size, nowTicks));
        else _growth[^1] = (size, _growth[^1].Ticks);
    }

    /// <summary>Whether the bytes that were read are still in the open file; asked of files that changed while nothing may be read.</summary>
    public bool IsIntact(long size) => size >= _readOffset && MarkerAt(_handle!, _readOffset) == _readMarker && (_readOffset >= HeadLength || HasItsHead());

    /// <summary>Whether an open file begins with the bytes of this one and has the same bytes before the acknowledged offset.</summary>
    public bool Recognises(SafeFileHandle handle, long size)
    {
        if (size < AckedOffset || size < HeadLength) return false;
        Span<byte> bytes = stackalloc byte[FileIdentity.MaxHeadBytes];
        var head = bytes[..HeadLength];
        if (ReadAt(handle, head, 0) != HeadLength || FileIdentity.Hash(head) != HeadHash) return false;
        return MarkerAt(handle, AckedOffset) == AckedMarker;
    }

    /// <summary>Hash of the bytes before an offset of an open file; null when the file ends before it.</summary>
    public static UInt128? MarkerAt(SafeFileHandle handle, long offset)
    {
        Span<byte> bytes = stackalloc byte[FileIdentity.MaxMarkerBytes];
        var marker = bytes[..FileIdentity.MarkerLengthAt(offset)];
        return ReadAt(handle, marker, offset - marker.Length) == marker.Length ? FileIdentity.Hash(marker) : null;
    }

    /// <summary>Takes over an open file that holds these bytes: this one's own after a restart, or a copy after the original was emptied.</summary>
    public void Attach(SafeFileHandle handle, FoundFile file, long nowTicks)
    {
        Detach()?.Dispose();
        _handle = handle;
        Key = file.Status.Key;
        BirthNanos = file.Status.BirthNanos;
        MoveTo(file.Path, file.MatchedPath);
        Reopened(nowTicks);
        Grew(file.Status.Size, nowTicks);
        // A copy may hold less than was read of the original, never less than was acknowledged.
        if (_readOffset > AckedOffset && MarkerAt(handle, _readOffset) != _readMarker) ReturnToAcknowledged();
    }

    /// <summary>The same file again after its handle was closed to save one.</summary>
    public void Reopen(SafeFileHandle handle, long nowTicks)
    {
        _handle = handle;
        Reopened(nowTicks);
    }

    void Reopened(long nowTicks)
    {
        FixIdentity();
        _hasMore = true;
        _seenSize = -1;
        IsRestored = false;
        LastChangeTicks = nowTicks;
    }

    /// <summary>
    /// Fixes the file id as soon as there is a first whole line, also while nothing may be read: should the file be emptied or renamed before its turn
    /// comes, its beginning finds it again.
    /// </summary>
    public void FixIdentity()
    {
        if (FileId is not null || _handle is null) return;
        Span<byte> bytes = stackalloc byte[FileIdentity.MaxHeadBytes];
        var head = bytes[..ReadAt(_handle, bytes, 0)];
        var lines = head[..(head.LastIndexOf((byte)'\n') + 1)];
        if (lines.IsEmpty) return;
        FixFileId(lines[..lines.IndexOf((byte)'\n')]);
        HeadLength = lines.Length;
        HeadHash = FileIdentity.Hash(lines);
    }

    bool HasItsHead()
    {
        Span<byte> bytes = stackalloc byte[FileIdentity.MaxHeadBytes];
        var head = bytes[..HeadLength];
        return ReadAt(_handle!, head, 0) == HeadLength && FileIdentity.Hash(head) == HeadHash;
    }

    /// <summary>Gives the open file away.</summary>
    public SafeFileHandle? Detach()
    {
        var handle = _handle;
        _handle = null;
        return handle;
    }

    /// <summary>The status of the open file.</summary>
    public FileStatus Status() => FileStatus.OfHandle(_handle!);

    /// <summary>Where the open file is now.</summary>
    public string? CurrentPath() => Native.PathOf(_handle!);

    /// <summary>
    /// Adds the next whole lines to the batch: as many as fit into <paramref name="buffer"/> or until the batch holds <paramref name="batchBytes"/>.
    /// </summary>
    /// <param name="batch">Takes the lines that are to be sent.</param>
    /// <param name="buffer">At least <see cref="BufferBytes"/> long.</param>
    /// <param name="batchBytes">The batch is full at this size.</param>
    /// <param name="hostId">Names this machine in the records' ids.</param>
    /// <param name="nowTicks">Now.</param>
    /// <param name="span">What was taken; null when no line ended.</param>
    /// <param name="before">A file that ends with parts of a line whose rest is at the start of this one; what is taken of it is <paramref name="spanBefore"/>.</param>
    /// <param name="spanBefore">The rest of the file before; null when it was left alone.</param>
    public TailResult Read(RecordBatch batch, byte[] buffer, int batchBytes, string hostId, long nowTicks, out ReadSpan? span, FileTailer? before, out ReadSpan? spanBefore)
    {
        span = spanBefore = null;
        var status = FileStatus.OfHandle(_handle!);
        // The size before is kept: it says how much was there and was not read.
        if (status.Size < _readOffset) return TailResult.Truncated;
        if (status.Size != Size) LastChangeTicks = nowTicks;
        Size = status.Size;
        Grew(status.Size, nowTicks);
        if (!_hasMore && status.Size == _seenSize && status.ModifiedNanos == _seenModified) return TailResult.Nothing;

        // Before the first read there are no bytes before the offset to compare.
        if (_readOffset < HeadLength && !HasItsHead()) return TailResult.Truncated;
        _seenSize = status.Size;
        _seenModified = status.ModifiedNanos;
        if (_longLine is not null)
        {
            if (MarkerAt(_handle!, _readOffset) != _readMarker) return TailResult.Truncated;
            if (status.Size >= _longLine.Searched) return ReadLongLine(batch, buffer, status.Size, hostId, out span);
            _longLine = null; // shorter than what was searched, and intact before it: its unfinished end was cut off
        }

        // Reading starts with the bytes before the offset: if they are others, nothing behind them is trusted.
        var markerLength = FileIdentity.MarkerLengthAt(_readOffset);
        var from = _readOffset - markerLength;
        var got = ReadAt(_handle!, buffer.AsSpan(0, (int)Math.Min(buffer.Length, status.Size - from)), from);
        if (got < markerLength || FileIdentity.Hash(buffer.AsSpan(0, markerLength)) != _readMarker) return TailResult.Truncated;

        var lines = new LineTally();
        var at = markerLength;
        if (_format != LineFormat.Plain) at = TakeContainerLines(batch, buffer.AsSpan(0, got), at, from, batchBytes, from + got < status.Size, hostId, ref lines, before, out spanBefore);
        while (_format == LineFormat.Plain && at < got && batch.Bytes < batchBytes)
        {
            var length = buffer.AsSpan(at, got - at).IndexOf((byte)'\n');
            if (length < 0) break;
            TakeLine(batch, buffer.AsSpan(at, length), from + at, hostId, ref lines);
            at += length + 1;
        }

        _hasMore = from + got < status.Size || (at < got && batch.Bytes >= batchBytes);
        if (got - at > _maxLineBytes + 1 && buffer.AsSpan(at, got - at).IndexOf((byte)'\n') < 0)
        {
            _longLine = new LongLine(from + at);
            _hasMore = true;
        }

        if (at > markerLength) span = Take(from + at, FileIdentity.Hash(buffer.AsSpan(at - FileIdentity.MarkerLengthAt(from + at), FileIdentity.MarkerLengthAt(from + at))), hostId, lines);
        return at > markerLength || _longLine is not null ? TailResult.Progress : TailResult.Nothing;
    }

    /// <summary>A buffer that holds any line that is sent, its line end, and the bytes before it.</summary>
    public static int BufferBytes(int maxLineBytes, LineFormat format = LineFormat.Plain) =>
        // What is around the parts of a line, and before each of its quotes.
        Math.Max(256 * 1024, format == LineFormat.Plain ? maxLineBytes + 2 : maxLineBytes * 2) + FileIdentity.MaxMarkerBytes;

    /// <summary>Whether nothing was read of it yet, so that it may begin with the rest of a line of the file before it.</summary>
    public bool MayContinue => _format != LineFormat.Plain && _readOffset == 0;

    /// <summary>Takes what no more follows of: a read brings the parts of lines that will never end.</summary>
    public void Conclude()
    {
        TakesUnfinishedEnd = true;
        if (_format != LineFormat.Plain) _hasMore = true;
    }

    // Up to the last place where no line of either stream is open: the offset cannot move past a part of a line, nor lines be sent that would be read again.
    int TakeContainerLines(RecordBatch batch, ReadOnlySpan<byte> buffer, int at, long from, int batchBytes, bool isMore, string hostId, ref LineTally lines, FileTailer? before, out ReadSpan? spanBefore)
    {
        spanBefore = null;
        var rest = before is null ? [] : before.OpenEnd();
        var (outIsOpen, errorIsOpen) = (false, false);
        for (var p = 0; p < rest.Length;) Look(rest, ref p, ref outIsOpen, ref errorIsOpen);
        var (end, commit) = (at, at);
        while (end < buffer.Length && batch.Bytes + (commit - at) < batchBytes)
        {
            if (!Look(buffer, ref end, ref outIsOpen, ref errorIsOpen)) break;
            if (!outIsOpen && !errorIsOpen) commit = end;
        }

        // Longer than any line that is sent, or never to be finished.
        var isTooLong = commit == at && isMore && end > at && buffer.Length - at > _maxLineBytes;
        if (isTooLong || TakesUnfinishedEnd) commit = end;
        if (commit == at) return at;

        var (open, openError) = (new OpenLine(), new OpenLine());
        if (rest.Length > 0)
        {
            var linesBefore = new LineTally();
            before!.Emit(batch, rest, 0, rest.Length, before._readOffset, hostId, ref linesBefore, ref linesBefore, open, openError);
            open.Carry();
            openError.Carry();
            Emit(batch, buffer, at, commit, from + at, hostId, ref lines, ref linesBefore, open, openError);
            // Only a line that is open here can still be unfinished: what was open before was finished, or this is the end of everything.
            Finish(isTooLong, ref lines, ref linesBefore);
            if (before.MarkerAtEnd() is { } marker) spanBefore = before.Take(before.Size, marker, hostId, linesBefore);
        }
        else
        {
            Emit(batch, buffer, at, commit, from + at, hostId, ref lines, ref lines, open, openError);
            Finish(isTooLong, ref lines, ref lines);
        }

        return commit;

        void Finish(bool tooLong, ref LineTally lines, ref LineTally linesBefore)
        {
            foreach (var line in (OpenLine[])[open, openError])
            {
                if (line.IsOpen) TakeJoined(batch, line, ref lines, ref linesBefore, tooLong);
            }
        }
    }

    UInt128? MarkerAtEnd() => MarkerAt(_handle!, Size);

    /// <summary>The lines at its end of which more must follow; empty when there are none, or when its very last line is torn.</summary>
    byte[] OpenEnd()
    {
        if (_handle is null || TornBytes is 0 or > int.MaxValue || TornBytes > BufferBytes(_maxLineBytes, _format)) return [];
        var rest = new byte[TornBytes];
        return ReadAt(_handle, rest, _readOffset) == rest.Length && rest[^1] == '\n' ? rest : [];
    }

    bool Look(ReadOnlySpan<byte> buffer, ref int at, ref bool outIsOpen, ref bool errorIsOpen)
    {
        var length = buffer[at..].IndexOf((byte)'\n');
        if (length < 0) return false;
        var piece = ContainerFormat.Read(_format, buffer.Slice(at, length), null);
        if (piece is { IsWrapped: true, IsError: true }) errorIsOpen = piece.IsPart;
        else if (piece.IsWrapped) outIsOpen = piece.IsPart;
        at += length + 1;
        return true;
    }

    void Emit(RecordBatch batch, ReadOnlySpan<byte> buffer, int at, int end, long offset, string hostId, ref LineTally lines, ref LineTally linesBefore, OpenLine open, OpenLine openError)
    {
        var single = new System.Buffers.ArrayBufferWriter<byte>();
        for (int length; at < end; at += length + 1, offset += length + 1)
        {
            length = buffer[at..].IndexOf((byte)'\n');
            var raw = buffer.Slice(at, length);
            var piece = ContainerFormat.Read(_format, raw, null);
            if (!piece.IsWrapped)
            {
                TakeLine(batch, raw, offset, hostId, ref lines);
                continue;
            }

            if (FileId is null) FixFileId(raw);
            var line = piece.IsError ? openError : open;
            if (raw[0] == 0) lines.NulBytes += raw.IndexOfAnyExcept((byte)0);
            if (!line.IsOpen && !piece.IsPart)
            {
                single.ResetWrittenCount();
                ContainerFormat.Read(_format, raw, single);
                TakeContent(batch, single.WrittenSpan, SourceFor(hostId), offset, length + 1, ref lines, false);
                continue;
            }

            line.Add(SourceFor(hostId), offset, length + 1);
            ContainerFormat.Read(_format, raw, line.Content);
            if (!piece.IsPart) TakeJoined(batch, line, ref lines, ref linesBefore, false);
        }
    }

    void TakeJoined(RecordBatch batch, OpenLine line, ref LineTally lines, ref LineTally linesBefore, bool isTooLong)
    {
        if (line.BytesBefore == 0)
        {
            TakeContent(batch, line.Content.WrittenSpan, line.Source!, line.Offset, line.Bytes, ref lines, isTooLong);
        }
        else
        {
            // It is a line of the file in which it began; what of it is here counts as the same.
            var shipped = linesBefore.ShippedLines;
            TakeContent(batch, line.Content.WrittenSpan, line.Source!, line.Offset, line.BytesBefore, ref linesBefore, isTooLong);
            if (linesBefore.ShippedLines > shipped) lines.ShippedBytes += line.Bytes;
        }

        line.Close();
    }

    void TakeContent(RecordBatch batch, ReadOnlySpan<byte> content, SourceFile source, long offset, long bytes, ref LineTally lines, bool isTooLong)
    {
        lines.Lines++;
        if (content.Length > 0 && content[^1] == '\r') content = content[..^1];
        if (content.Length > _maxLineBytes || isTooLong)
        {
            SetAside(ref lines, offset, content.Length, content);
        }
        else if (content.IsEmpty)
        {
            lines.BlankLines++;
            lines.BlankBytes += bytes;
        }
        else
        {
            if (!RecordCodec.TryReadTraceId(content, out var keyStart, out var keyLength)) keyStart = keyLength = 0;
            batch.Add(content, source, offset, keyStart, keyLength);
            lines.ShippedLines++;
            lines.ShippedBytes += bytes;
        }
    }

    // Memory stays bounded whatever the length: the end is searched block by block, and only then it is known what the line is.
    TailResult ReadLongLine(RecordBatch batch, byte[] buffer, long size, string hostId, out ReadSpan? span)
    {
        span = null;
        var line = _longLine!;
        var got = ReadAt(_handle!, buffer.AsSpan(0, (int)Math.Min(buffer.Length, size - line.Searched)), line.Searched);
        var block = buffer.AsSpan(0, got);
        var start = 0;
        if (line.ContentStart < 0)
        {
            start = block.IndexOfAnyExcept((byte)0);
            if (start >= 0) line.ContentStart = line.Searched + start;
        }

        var length = start < 0 ? -1 : block[start..].IndexOf((byte)'\n');
        if (length < 0)
        {
            line.Searched += got;
            _hasMore = line.Searched < size;
            // NULs at the end of a file may be space that is still to be filled: looked at again from their start.
            if (!_hasMore && line.ContentStart < 0) _longLine = null;
            return _hasMore ? TailResult.Progress : TailResult.Nothing;
        }

        var end = line.Searched + start + length;
        var content = end - line.ContentStart;
        var lines = new LineTally();
        var kept = buffer.AsSpan(0, (int)Math.Min(content, _maxLineBytes + 2));
        if (ReadAt(_handle!, kept, line.ContentStart) != kept.Length || MarkerAt(_handle!, end + 1) is not { } marker) return TailResult.Truncated;
        lines.NulBytes = line.ContentStart - _readOffset;
        if (content <= _maxLineBytes + 1)
        {
            TakeLine(batch, kept, line.ContentStart, hostId, ref lines); // short: only NULs made it long
        }
        else
        {
            FixFileId(kept);
            lines.Lines = 1;
            SetAside(ref lines, line.ContentStart, content, kept);
        }

        _longLine = null;
        _hasMore = true;
        span = Take(end + 1, marker, hostId, lines);
        return TailResult.Progress;
    }

    /// <summary>
    /// The last line of a deleted file, which will never end, as a span that sets it aside; null when there is none.
    /// </summary>
    public ReadSpan? TakeUnfinishedEnd(string hostId)
    {
        if (TornBytes == 0) return null;
        var head = new byte[(int)Math.Min(TornBytes, KeptHeadBytes)];
        var end = Size;
        if (ReadAt(_handle!, head, _readOffset) != head.Length || MarkerAt(_handle!, end) is not { } marker) return null;
        FixFileId(head);
        _longLine = null;
        var lines = new LineTally { Lines = 1 };
        lines.SetAside.Add(new SetAsideLine(_readOffset, head, end - _readOffset, $"the file was deleted before this line ended; {end - _readOffset:N0} bytes of it had been written"));
        return Take(end, marker, hostId, lines);
    }

    struct LineTally()
    {
        public long Lines = 0;
        public long ShippedLines = 0;
        public long ShippedBytes = 0;
        public long BlankLines = 0;
        public long BlankBytes = 0;
        public long NulBytes = 0;
        List<SetAsideLine>? _setAside = null;

        public List<SetAsideLine> SetAside => _setAside ??= [];

        public readonly IReadOnlyList<SetAsideLine> AllSetAside => _setAside ?? (IReadOnlyList<SetAsideLine>)[];
    }

    void TakeLine(RecordBatch batch, ReadOnlySpan<byte> raw, long offset, string hostId, ref LineTally lines)
    {
        if (FileId is null) FixFileId(raw);
        lines.Lines++;
        var content = raw;

        if (offset == 0 && content.StartsWith("\uFEFF"u8))
        {
            content = content[3..];
            offset = 3;
        }

        // A crash of the machine, or a writer that kept its position while its file was emptied, leaves a run of NULs before the next line.
        if (content.Length > 0 && content[0] == 0)
        {
            var nuls = content.IndexOfAnyExcept((byte)0);
            if (nuls < 0) nuls = content.Length;
            content = content[nuls..];
            offset += nuls;
            lines.NulBytes += nuls;
        }

        if (content.Length > 0 && content[^1] == '\r') content = content[..^1];
        if (content.IsEmpty)
        {
            lines.BlankLines++;
            lines.BlankBytes += raw.Length + 1;
        }
        else if (content.Length > _maxLineBytes)
        {
            SetAside(ref lines, offset, content.Length, content);
        }
        else
        {
            if (!RecordCodec.TryReadTraceId(content, out var keyStart, out var keyLength)) keyStart = keyLength = 0;
            batch.Add(content, SourceFor(hostId), offset, keyStart, keyLength);
            lines.ShippedLines++;
            lines.ShippedBytes += raw.Length + 1;
        }
    }

    void SetAside(ref LineTally lines, long offset, long length, ReadOnlySpan<byte> content)
    {
        lines.SetAside.Add(new SetAsideLine(
            offset,
            content[..Math.Min(content.Length, KeptHeadBytes)].ToArray(),
            length,
            $"the line is {length:N0} bytes long, more than Shipper:MaxLineBytes ({_maxLineBytes:N0}); its first {Math.Min(content.Length, KeptHeadBytes):N0} bytes are kept here, the rest is in the file"));
    }

    ReadSpan Take(long end, UInt128 marker, string hostId, in LineTally lines)
    {
        var span = new ReadSpan(this, SourceFor(hostId), _readOffset, end, marker)
        {
            Lines = lines.Lines,
            ShippedLines = lines.ShippedLines,
            ShippedBytes = lines.ShippedBytes,
            BlankLines = lines.BlankLines,
            BlankBytes = lines.BlankBytes,
            NulBytes = lines.NulBytes,
            SetAside = lines.AllSetAside,
        };
        _readOffset = end;
        _readMarker = marker;
        InFlight++;
        GrowHead();
        return span;
    }

    void GrowHead()
    {
        var length = (int)Math.Min(FileIdentity.MaxHeadBytes, _readOffset);
        if (length <= HeadLength) return;
        Span<byte> head = stackalloc byte[length];
        if (ReadAt(_handle!, head, 0) != length) return; // emptied this moment; the next look says so
        HeadLength = length;
        HeadHash = FileIdentity.Hash(head);
    }

    void FixFileId(ReadOnlySpan<byte> firstLine) => FileId ??= FileIdentity.FileIdOf(Key, Generation, firstLine);

    SourceFile SourceFor(string hostId) => _source ??= new SourceFile(hostId, FileId!.Value, Path);

    /// <summary>A span is safe on the other side. Spans are acknowledged in the order they were read.</summary>
    public void Acknowledge(ReadSpan span)
    {
        AckedOffset = span.End;
        AckedMarker = span.Marker;
        InFlight--;
        var settled = 0;
        while (settled < _growth.Count && _growth[settled].Size <= AckedOffset) settled++;
        if (settled > 0) _growth.RemoveRange(0, settled);
    }

    /// <summary>A span is not known to be safe; <see cref="ReturnToAcknowledged"/> follows.</summary>
    public void Abandon() => InFlight--;

    /// <summary>The next read starts after the last line known to be safe.</summary>
    public void ReturnToAcknowledged()
    {
        _readOffset = AckedOffset;
        _readMarker = AckedMarker;
        _longLine = null;
        _hasMore = true;
    }

    public void Dispose() => Detach()?.Dispose();

    static int ReadAt(SafeFileHandle handle, Span<byte> buffer, long offset)
    {
        var got = 0;
        while (got < buffer.Length)
        {
            var read = RandomAccess.Read(handle, buffer[got..], offset + got);
            if (read == 0) break;
            got += read;
        }

        return got;
    }
}
