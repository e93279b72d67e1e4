using System.Buffers;
using System.Globalization;
using System.IO.Hashing;
using System.Text;
using System.Text.Json;

namespace LogTrace.Shipper;

/// <summary>Where the bytes of an entry are.</summary>
public enum EntryState
{
    /// <summary>In the file with the entry's inode.</summary>
    Present,

    /// <summary>No longer there: the file was emptied. A copy made before that may hold them.</summary>
    Emptied,
}

/// <summary>How far one file is safe, and everything that finds it again under any name.</summary>
/// <param name="Device">Device number.</param>
/// <param name="Inode">Inode number.</param>
/// <param name="BirthNanos">When the inode was made; 0 where unknown.</param>
/// <param name="Path">Last path, for people.</param>
/// <param name="MatchedPath">Last name that a pattern matched.</param>
/// <param name="FileId">Id in the records' identity.</param>
/// <param name="Generation">How many contents this inode had before.</param>
/// <param name="Offset">Everything before this is safe.</param>
/// <param name="Marker">Hash of the up to 256 bytes before the offset.</param>
/// <param name="HeadLength">Bytes of the hashed prefix.</param>
/// <param name="HeadHash">Hash of the prefix.</param>
/// <param name="State">Where the bytes are.</param>
/// <param name="AbsentSinceMillis">Since when the file has not been seen, in milliseconds since the epoch; 0 while it is there.</param>
public sealed record CheckpointEntry(
    ulong Device, ulong Inode, long BirthNanos, string Path, string MatchedPath, UInt128 FileId, int Generation,
    long Offset, UInt128 Marker, int HeadLength, UInt128 HeadHash, EntryState State, long AbsentSinceMillis);

/// <summary>An inode whose file is gone, and the last generation it had: a file that gets the inode next must not be taken for it.</summary>
public readonly record struct GoneFile(ulong Device, ulong Inode, int Generation);

/// <summary>All that a shipper needs to go on, and its counts, which move together with the offsets or not at all.</summary>
public sealed record Checkpoint
{
    /// <summary>Grows by one with every save; the higher of two wins.</summary>
    public long Sequence { get; init; }

    /// <summary>Counts since the state directory was new.</summary>
    public ShipperCounts Counts { get; init; } = new();

    /// <summary>The files.</summary>
    public IReadOnlyList<CheckpointEntry> Files { get; init; } = [];

    /// <summary>Inodes of files that are gone, the oldest first.</summary>
    public IReadOnlyList<GoneFile> Gone { get; init; } = [];

    /// <summary>
    /// For each name that a pattern matched, the youngest birth in its directory when the name was first seen, in nanoseconds since the epoch: what is younger
    /// and has a rotated form of the name was made since.
    /// </summary>
    public IReadOnlyDictionary<string, long> KnownNames { get; init; } = new Dictionary<string, long>();

    /// <summary>First generation for inodes that nothing is known about: above all that were forgotten.</summary>
    public int GenerationFloor { get; init; }
}

/// <summary>The state directory cannot be used; the message says why and what to do.</summary>
public sealed class ShipperStateException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// The checkpoint of one state directory, in two files that take turns: a save replaces the older one (temporary file, fsync, rename, fsync of the
/// directory), so the previous generation is always whole, and is used when the newest is damaged. Lines of JSON; the last one is the checksum of all
/// before it. A lock that the kernel releases with the process keeps a second shipper out.
/// </summary>
public sealed class CheckpointFile : IDisposable
{
    const int Version = 1;
    const string HolderName = "holder.pid";
    static readonly string[] Slots = ["checkpoint-a.jsonl", "checkpoint-b.jsonl"];

    readonly string _directory;
    readonly FileStream _lock;
    readonly ArrayBufferWriter<byte> _buffer = new(4096);
    int _nextSlot;
    long _sequence;

    CheckpointFile(string directory, FileStream heldLock)
    {
        _directory = directory;
        _lock = heldLock;
    }

    /// <summary>Takes the directory for this process.</summary>
    /// <exception cref="ShipperStateException">Another shipper has it, or it cannot be written to.</exception>
    public static CheckpointFile Open(string directory)
    {
        try
        {
            Directory.CreateDirectory(directory);
            FileStream held;
            try
            {
                held = new FileStream(Path.Combine(directory, "lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 1);
            }
            catch (IOException) when (HolderOf(directory) is { } holder)
            {
                throw new ShipperStateException($"Another shipper (process {holder}) uses the state in {directory}. Stop it, or give this one a directory of its own with --data.");
            }

            File.WriteAllText(Path.Combine(directory, HolderName), Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
            return new CheckpointFile(directory, held);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ShipperStateException($"The state directory {directory} cannot be used: {e.Message} Make it writable, or choose another with --data.", e);
        }
    }

    // In a file of its own: the locked one can be opened by nobody else. It only names the holder; the lock alone decides.
    static string? HolderOf(string directory)
    {
        try
        {
            var path = Path.Combine(directory, HolderName);
            return File.Exists(Path.Combine(directory, "lock")) && File.Exists(path) ? File.ReadAllText(path) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    /// <summary>The newest whole checkpoint; an empty one at the first start.</summary>
    /// <param name="damage">One message for each file that had to be passed over.</param>
    /// <exception cref="ShipperStateException">It was written by a newer version.</exception>
    public Checkpoint Load(out IReadOnlyList<string> damage)
    {
        var problems = new List<string>();
        Checkpoint? newest = null;
        for (var slot = 0; slot < Slots.Length; slot++)
        {
            var path = Path.Combine(_directory, Slots[slot]);
            if (!File.Exists(path)) continue;
            if (Parse(File.ReadAllBytes(path), path) is not { } checkpoint)
            {
                problems.Add($"{path} is damaged and is not used.");
                _nextSlot = newest is null ? slot : _nextSlot;
            }
            else if (newest is null || checkpoint.Sequence > newest.Sequence)
            {
                newest = checkpoint;
                _nextSlot = 1 - slot;
            }
        }

        damage = problems;
        _sequence = newest?.Sequence ?? 0;
        return newest ?? new Checkpoint();
    }

    /// <summary>Reads the newest whole checkpoint of a directory that may belong to a running shipper; null when there is none.</summary>
    /// <param name="directory">The shipper's state directory, see <see cref="ShipperOptions.StateDirectory"/>.</param>
    public static Checkpoint? TryRead(string directory)
    {
        Checkpoint? newest = null;
        foreach (var slot in Slots)
        {
            try
            {
                var path = Path.Combine(directory, slot);
                if (Parse(File.ReadAllBytes(path), path) is { } checkpoint && (newest is null || checkpoint.Sequence > newest.Sequence)) newest = checkpoint;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // Not written yet, or not ours to read.
            }
        }

        return newest;
    }

    /// <summary>Makes the checkpoint durable. On failure the last one stays as it was.</summary>
    /// <exception cref="IOException">The disk refuses.</exception>
    /// <exception cref="UnauthorizedAccessException">The directory refuses.</exception>
    public void Save(Checkpoint checkpoint)
    {
        _buffer.ResetWrittenCount();
        Write(checkpoint with { Sequence = _sequence + 1 }, _buffer);
        var temporary = Path.Combine(_directory, "checkpoint.tmp");
        using (var file = File.OpenHandle(temporary, FileMode.Create, FileAccess.Write))
        {
            RandomAccess.Write(file, _buffer.WrittenSpan, 0);
            RandomAccess.FlushToDisk(file);
        }

        File.Move(temporary, Path.Combine(_directory, Slots[_nextSlot]), overwrite: true);
        Native.SyncDirectory(_directory);
        _sequence++;
        _nextSlot = 1 - _nextSlot;
    }

    /// <summary>Lets another shipper take the directory.</summary>
    public void Dispose() => _lock.Dispose();

    static void Write(Checkpoint checkpoint, ArrayBufferWriter<byte> output)
    {
        using var json = new Utf8JsonWriter(output);
        var counts = checkpoint.Counts;
        json.WriteStartObject();
        json.WriteNumber("logtrace_shipper_checkpoint", Version);
        json.WriteNumber("sequence", checkpoint.Sequence);
        json.WriteNumber("read_lines", counts.ReadLines);
        json.WriteNumber("read_bytes", counts.ReadBytes);
        json.WriteNumber("shipped_lines", counts.ShippedLines);
        json.WriteNumber("shipped_bytes", counts.ShippedBytes);
        json.WriteNumber("set_aside_lines", counts.SetAsideLines);
        json.WriteNumber("set_aside_bytes", counts.SetAsideBytes);
        json.WriteNumber("blank_lines", counts.BlankLines);
        json.WriteNumber("blank_bytes", counts.BlankBytes);
        json.WriteNumber("nul_bytes", counts.NulBytes);
        json.WriteNumber("lost_bytes", counts.LostBytes);
        json.WriteNumber("generation_floor", checkpoint.GenerationFloor);
        json.WriteStartObject("known_names");
        foreach (var (path, born) in checkpoint.KnownNames) json.WriteNumber(path, born);
        json.WriteEndObject();
        json.WriteStartArray("gone");
        foreach (var gone in checkpoint.Gone)
        {
            json.WriteNumberValue(gone.Device);
            json.WriteNumberValue(gone.Inode);
            json.WriteNumberValue(gone.Generation);
        }

        json.WriteEndArray();
        json.WriteEndObject();
        EndLine(json, output);
        foreach (var file in checkpoint.Files)
        {
            json.WriteStartObject();
            json.WriteString("path", file.Path);
            if (file.MatchedPath != file.Path) json.WriteString("matched_path", file.MatchedPath);
            json.WriteNumber("offset", file.Offset);
            json.WriteString("file_id", Hex(file.FileId));
            json.WriteNumber("generation", file.Generation);
            json.WriteNumber("device", file.Device);
            json.WriteNumber("inode", file.Inode);
            json.WriteNumber("birth_ns", file.BirthNanos);
            json.WriteString("marker", Hex(file.Marker));
            json.WriteNumber("head_length", file.HeadLength);
            json.WriteString("head", Hex(file.HeadHash));
            if (file.State != EntryState.Present) json.WriteString("state", "emptied");
            if (file.AbsentSinceMillis != 0) json.WriteNumber("absent_since_ms", file.AbsentSinceMillis);
            json.WriteEndObject();
            EndLine(json, output);
        }

        var checksum = XxHash128.HashToUInt128(output.WrittenSpan);
        json.WriteStartObject();
        json.WriteString("xxh128", Hex(checksum));
        json.WriteEndObject();
        EndLine(json, output);
    }

    static void EndLine(Utf8JsonWriter json, ArrayBufferWriter<byte> output)
    {
        json.Flush();
        output.Write("\n"u8);
        json.Reset();
    }

    static string Hex(UInt128 value) => value.ToString("x32", CultureInfo.InvariantCulture);

    static UInt128 FromHex(JsonElement value) => UInt128.Parse(value.GetString()!, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    /// <summary>Null for anything that is not a whole checkpoint of a version that is known.</summary>
    static Checkpoint? Parse(byte[] bytes, string path)
    {
        if (bytes.Length == 0 || bytes[^1] != '\n') return null;
        var lastLine = bytes.AsSpan(0, bytes.Length - 1).LastIndexOf((byte)'\n') + 1;
        if (lastLine == 0) return null;
        try
        {
            using var end = JsonDocument.Parse(bytes.AsMemory(lastLine));
            if (!end.RootElement.TryGetProperty("xxh128", out var checksum) || FromHex(checksum) != XxHash128.HashToUInt128(bytes.AsSpan(0, lastLine))) return null;
        }
        catch (Exception e) when (e is JsonException or FormatException or InvalidOperationException or OverflowException or ArgumentNullException)
        {
            return null;
        }

        // From here on the bytes are what some version wrote.
        Checkpoint? checkpoint = null;
        var files = new List<CheckpointEntry>();
        for (var at = 0; at < lastLine;)
        {
            var length = bytes.AsSpan(at, lastLine - at).IndexOf((byte)'\n');
            using var line = JsonDocument.Parse(bytes.AsMemory(at, length));
            at += length + 1;
            if (checkpoint is null) checkpoint = ReadHeader(line.RootElement, path);
            else files.Add(ReadEntry(line.RootElement));
        }

        return checkpoint! with { Files = files };
    }

    static Checkpoint ReadHeader(JsonElement header, string path)
    {
        var version = header.TryGetProperty("logtrace_shipper_checkpoint", out var number) ? number.GetInt32() : 0;
        if (version != Version)
            throw new ShipperStateException($"{path} has version {version}; this program reads version {Version}. Run the version that wrote it, or give this one a new directory with --data (it then reads all files again).");
        var gone = new List<GoneFile>();
        var numbers = header.GetProperty("gone");
        for (var i = 0; i + 2 < numbers.GetArrayLength(); i += 3)
            gone.Add(new GoneFile(numbers[i].GetUInt64(), numbers[i + 1].GetUInt64(), numbers[i + 2].GetInt32()));
        long Number(string name) => header.GetProperty(name).GetInt64();
        return new Checkpoint
        {
            Sequence = Number("sequence"),
            GenerationFloor = (int)Number("generation_floor"),
            Gone = gone,
            KnownNames = header.GetProperty("known_names").EnumerateObject().ToDictionary(name => name.Name, name => name.Value.GetInt64()),
            Counts = new ShipperCounts
            {
                ReadLines = Number("read_lines"),
                ReadBytes = Number("read_bytes"),
                ShippedLines = Number("shipped_lines"),
                ShippedBytes = Number("shipped_bytes"),
                SetAsideLines = Number("set_aside_lines"),
                SetAsideBytes = Number("set_aside_bytes"),
                BlankLines = Number("blank_lines"),
                BlankBytes = Number("blank_bytes"),
                NulBytes = Number("nul_bytes"),
                LostBytes = Number("lost_bytes"),
            },
        };
    }

    static CheckpointEntry ReadEntry(JsonElement entry)
    {
        var path = entry.GetProperty("path").GetString()!;
        return new CheckpointEntry(
            entry.GetProperty("device").GetUInt64(),
            entry.GetProperty("inode").GetUInt64(),
            entry.GetProperty("birth_ns").GetInt64(),
            path,
            entry.TryGetProperty("matched_path", out var matched) ? matched.GetString()! : path,
            FromHex(entry.GetProperty("file_id")),
            entry.GetProperty("generation").GetInt32(),
            entry.GetProperty("offset").GetInt64(),
            FromHex(entry.GetProperty("marker")),
            entry.GetProperty("head_length").GetInt32(),
            FromHex(entry.GetProperty("head")),
            entry.TryGetProperty("state", out _) ? EntryState.Emptied : EntryState.Present,
            entry.TryGetProperty("absent_since_ms", out var absent) ? absent.GetInt64() : 0);
    }
}
