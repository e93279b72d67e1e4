using System.Buffers.Binary;
using System.IO.Hashing;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace LogTrace.Shipper;

/// <summary>What a path names at one moment: only a device and an inode say which file that is. Both are reused after a deletion.</summary>
readonly record struct FileKey(ulong Device, ulong Inode);

/// <summary>What the kernel says about a file.</summary>
/// <param name="Key">Device and inode.</param>
/// <param name="BirthNanos">When the inode was made, 0 where the file system does not say. Tells a reused inode from the file it was before.</param>
/// <param name="Size">Bytes.</param>
/// <param name="ModifiedNanos">Last change; only ever compared for equality, because clocks jump.</param>
/// <param name="Links">Names the file has; 0 for a file that is deleted and still open.</param>
/// <param name="IsRegular">A plain file.</param>
/// <param name="IsDirectory">A directory.</param>
readonly record struct FileStatus(FileKey Key, long BirthNanos, long Size, long ModifiedNanos, uint Links, bool IsRegular, bool IsDirectory)
{
    /// <summary>Follows symbolic links. Null when there is nothing to be seen at the path.</summary>
    public static FileStatus? OfPath(string path) => OfPath(path, 0);

    /// <summary>As <see cref="OfPath(string)"/>, but of a symbolic link itself, which is neither a plain file nor a directory.</summary>
    public static FileStatus? OfEntry(string path) => OfPath(path, Native.DoNotFollow);

    static FileStatus? OfPath(string path, int flags)
    {
        Span<byte> utf8 = stackalloc byte[512];
        var needed = Encoding.UTF8.GetMaxByteCount(path.Length) + 1;
        if (needed > utf8.Length) utf8 = new byte[needed];
        utf8[Encoding.UTF8.GetBytes(path, utf8)] = 0;
        return Native.TryStatus(Native.CurrentDirectory, utf8, flags, out var status) ? status : null;
    }

    public static FileStatus OfHandle(SafeFileHandle handle)
    {
        Span<byte> empty = stackalloc byte[1];
        if (!Native.TryStatus((int)handle.DangerousGetHandle(), empty, Native.EmptyPath, out var status))
            throw new IOException($"The open file cannot be looked at: {Marshal.GetLastPInvokeErrorMessage()}.");
        return status;
    }

    /// <summary>False when both say when they were made, and differ: the inode was given to another file.</summary>
    public bool MayBeBornAt(long birthNanos) => BirthNanos == 0 || birthNanos == 0 || BirthNanos == birthNanos;
}

/// <summary>The hashes that find a file again, and the id that its records carry.</summary>
static class FileIdentity
{
    /// <summary>The prefix by which a file is found again grows with what was read, up to this many bytes.</summary>
    public const int MaxHeadBytes = 1024;

    /// <summary>Bytes before an offset that must still be there, or the file was truncated and has grown past the offset again.</summary>
    public const int MaxMarkerBytes = 256;

    public static int MarkerLengthAt(long offset) => (int)Math.Min(MaxMarkerBytes, offset);

    public static UInt128 Hash(ReadOnlySpan<byte> bytes) => XxHash128.HashToUInt128(bytes);

    /// <summary>
    /// Fixed when a file has its first whole line, and a function of what is on disk, so that a shipper that lost its newest checkpoint finds the
    /// same id again. Device and inode alone come back after a deletion; the generation tells a file from what its inode held before.
    /// </summary>
    public static UInt128 FileIdOf(FileKey key, int generation, ReadOnlySpan<byte> firstLine)
    {
        Span<byte> fixedPart = stackalloc byte[20];
        BinaryPrimitives.WriteUInt64BigEndian(fixedPart, key.Device);
        BinaryPrimitives.WriteUInt64BigEndian(fixedPart[8..], key.Inode);
        BinaryPrimitives.WriteInt32BigEndian(fixedPart[16..], generation);
        var hash = new XxHash128();
        hash.Append(fixedPart);
        hash.Append(firstLine[..Math.Min(firstLine.Length, MaxHeadBytes)]);
        return hash.GetCurrentHashAsUInt128();
    }

    /// <summary>Machine id and host name: equal containers on one machine differ by name, equal names in a network by machine.</summary>
    public static string DefaultHostId()
    {
        var machine = "";
        try
        {
            machine = File.ReadAllText("/etc/machine-id").Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Minimal containers have none; the host name then stands alone.
        }

        return machine.Length > 0 ? $"{machine}-{Environment.MachineName}" : Environment.MachineName;
    }
}

/// <summary>Calls past .NET, which shows neither inodes nor a way to make a directory entry durable. The only others are those of <see cref="FileHints"/>.</summary>
static class Native
{
    public const int CurrentDirectory = -100;
    public const int EmptyPath = 0x1000;
    public const int DoNotFollow = 0x100;
    const uint BasicAndBirth = 0x7ff | 0x800;

    // The kernel's struct statx has one layout on every architecture, unlike struct stat.
    // https://man7.org/linux/man-pages/man2/statx.2.html
    public static bool TryStatus(int directory, ReadOnlySpan<byte> path, int flags, out FileStatus status)
    {
        Span<byte> buffer = stackalloc byte[256];
        status = default;
        if (statx(directory, ref MemoryMarshal.GetReference(path), flags, BasicAndBirth, ref MemoryMarshal.GetReference(buffer)) != 0) return false;
        var mask = MemoryMarshal.Read<uint>(buffer);
        var mode = MemoryMarshal.Read<ushort>(buffer[28..]);
        status = new FileStatus(
            new FileKey(((ulong)MemoryMarshal.Read<uint>(buffer[136..]) << 32) | MemoryMarshal.Read<uint>(buffer[140..]), MemoryMarshal.Read<ulong>(buffer[32..])),
            (mask & 0x800) != 0 ? Nanos(buffer[80..]) : 0,
            MemoryMarshal.Read<long>(buffer[40..]),
            Nanos(buffer[112..]),
            MemoryMarshal.Read<uint>(buffer[16..]),
            (mode & 0xf000) == 0x8000,
            (mode & 0xf000) == 0x4000);
        return true;
    }

    /// <summary>Makes the names in a directory durable: without this a rename may be undone by a power loss.</summary>
    public static void SyncDirectory(string path)
    {
        var descriptor = open(Encoding.UTF8.GetBytes(path + "\0"), ReadOnlyDirectory, 0);
        if (descriptor < 0) throw new IOException($"The directory {path} cannot be opened: {Marshal.GetLastPInvokeErrorMessage()}.");
        try
        {
            if (fsync(descriptor) != 0) throw new IOException($"The directory {path} cannot be made durable: {Marshal.GetLastPInvokeErrorMessage()}.");
        }
        finally
        {
            _ = close(descriptor);
        }
    }

    /// <summary>Where an open file is now, also after a rename; null when it was deleted.</summary>
    public static string? PathOf(SafeFileHandle handle)
    {
        var path = File.ResolveLinkTarget($"/proc/self/fd/{handle.DangerousGetHandle()}", returnFinalTarget: false)?.FullName;
        return path is null || path.EndsWith(" (deleted)", StringComparison.Ordinal) ? null : path;
    }

    /// <summary>How many files this process may have open at all; null where that is not to be learnt.</summary>
    public static int? MaxDescriptors()
    {
        try
        {
            // "Max open files            256                  256                  files"
            var limit = File.ReadLines("/proc/self/limits").FirstOrDefault(line => line.StartsWith("Max open files", StringComparison.Ordinal));
            return limit is not null && int.TryParse(limit["Max open files".Length..].Split(' ', StringSplitOptions.RemoveEmptyEntries)[0], out var most) ? most : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    static long Nanos(ReadOnlySpan<byte> time) => (MemoryMarshal.Read<long>(time) * 1_000_000_000) + MemoryMarshal.Read<uint>(time[8..]);

    const int CloseOnExec = 0x80000;
    static readonly int ReadOnlyDirectory = CloseOnExec;

    [DllImport("libc", SetLastError = true)]
    static extern int statx(int directory, ref byte path, int flags, uint mask, ref byte buffer);

    [DllImport("libc", SetLastError = true)]
    static extern int open(byte[] path, int flags, int mode);

    [DllImport("libc", SetLastError = true)]
    static extern int fsync(int descriptor);

    [DllImport("libc", SetLastError = true)]
    static extern int close(int descriptor);
}
