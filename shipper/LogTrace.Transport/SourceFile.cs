using System.Buffers.Binary;
using System.IO.Hashing;
using System.Text;

namespace LogTrace.Transport;

/// <summary>
/// Where lines come from. <paramref name="HostId"/> and <paramref name="FileId"/> identify the file across renames and restarts;
/// <paramref name="Path"/> is for people and may change. For messages that another shipper put into Kafka the file is the
/// topic's partition and the offset is Kafka's.
/// </summary>
/// <param name="HostId">Machine that read the file; two machines never share one.</param>
/// <param name="FileId">128-bit id of the file, fixed with its first whole line.</param>
/// <param name="Path">Path at the time of reading.</param>
public sealed record SourceFile(string HostId, UInt128 FileId, string Path)
{
    [ThreadStatic] static XxHash128? t_hash;

    /// <summary>The host id of what others put into Kafka.</summary>
    internal const string OtherShippers = "kafka";

    /// <summary>True for a message that another shipper put into Kafka: its line may lie within an envelope of that shipper's. A line from a machine whose host id is <c>kafka</c> looks like one.</summary>
    public bool IsOfAnotherShipper => HostId == OtherShippers;

    /// <summary>
    /// The identity of a record: a 128-bit hash of where its line stands and of its bytes, so that a resend after a crash meets
    /// itself in the store. Deterministic across machines and versions.
    /// </summary>
    public UInt128 RecordIdAt(long offset, ReadOnlySpan<byte> line)
    {
        // One for each thread: it holds a kilobyte, which is more than most lines.
        var hash = t_hash ??= new XxHash128();
        hash.Reset();
        Span<byte> host = HostId.Length <= 128 ? stackalloc byte[3 * 128] : new byte[HostId.Length * 3];
        hash.Append(host[..Encoding.UTF8.GetBytes(HostId, host)]);
        Span<byte> position = stackalloc byte[25];
        position[0] = 0; // ends the host id, so that host "a" with file "b..." differs from host "ab..."
        BinaryPrimitives.WriteUInt128BigEndian(position[1..], FileId);
        BinaryPrimitives.WriteInt64BigEndian(position[17..], offset);
        hash.Append(position);
        hash.Append(line);
        return hash.GetCurrentHashAsUInt128();
    }
}
