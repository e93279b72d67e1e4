using System.Globalization;
using System.Text;
using System.Text.Json;
using LogTrace.Records;
using LogTrace.Transport;

namespace LogTrace.Shipper;

/// <summary>What became of a dead letter that was sent again.</summary>
/// <param name="Letters">Lines in it.</param>
/// <param name="Sent">Lines that are safe on the other side.</param>
/// <param name="Refused">Lines that the other side can never take.</param>
/// <param name="Partial">Lines of which only the beginning was kept and the rest is no longer where it stood.</param>
sealed record ReplayCounts(long Letters, long Sent, long Refused, long Partial);

/// <summary>
/// Sends a dead letter's lines again, byte by byte, with the source positions they had: where they arrived before after all, the store recognises them. The file stays as it is.
/// </summary>
sealed class Replay(IRecordWriter writer, Action<string> report, Backoff? backoff = null)
{
    const int BatchBytes = 1 << 20;

    // Beyond this a line is read from its file by nobody.
    const int MaxLineBytes = 64 << 20;

    readonly Backoff _backoff = backoff ?? new Backoff(max: TimeSpan.FromSeconds(5));

    sealed record Letter(SourceFile Source, long Offset, byte[] Line);

    /// <exception cref="InvalidDataException">The file is no dead letter; the message names the line.</exception>
    /// <exception cref="IOException">It cannot be read.</exception>
    public async Task<ReplayCounts> RunAsync(string path, CancellationToken cancellationToken)
    {
        var counts = new ReplayCounts(0, 0, 0, 0);
        var batch = new List<Letter>();
        var bytes = 0;
        // One that is being written to is read as far as it is now.
        foreach (var text in WholeLines(path))
        {
            counts = counts with { Letters = counts.Letters + 1 };
            var (letter, problem) = Read(text, counts.Letters, path);
            if (letter is null)
            {
                report(problem!);
                counts = counts with { Partial = counts.Partial + 1 };
                continue;
            }

            batch.Add(letter);
            bytes += letter.Line.Length;
            if (bytes < BatchBytes) continue;
            counts = await SendAsync(batch, counts, cancellationToken).ConfigureAwait(false);
            batch.Clear();
            bytes = 0;
        }

        return batch.Count == 0 ? counts : await SendAsync(batch, counts, cancellationToken).ConfigureAwait(false);
    }

    async Task<ReplayCounts> SendAsync(List<Letter> letters, ReplayCounts counts, CancellationToken cancellationToken)
    {
        while (true)
        {
            var batch = new RecordBatch(letters.Sum(letter => letter.Line.Length));
            foreach (var letter in letters)
            {
                if (!RecordCodec.TryReadTraceId(letter.Line, out var keyStart, out var keyLength)) keyStart = keyLength = 0;
                batch.Add(letter.Line, letter.Source, letter.Offset, keyStart, keyLength);
            }

            try
            {
                var refused = await writer.WriteAsync(batch, cancellationToken).ConfigureAwait(false);
                _backoff.Reset();
                foreach (var line in refused) report($"{line.Source.Path} at byte {line.Offset}: {line.Reason}.");
                return counts with { Sent = counts.Sent + letters.Count - refused.Count, Refused = counts.Refused + refused.Count };
            }
            catch (TransportUnavailableException e)
            {
                if (_backoff.Failures == 0) report($"{e.Message} It is tried again.");
                await _backoff.WaitAsync(cancellationToken).ConfigureAwait(false);
            }
        }
    }

    static IEnumerable<string> WholeLines(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        var end = file.Length;
        if (end == 0) yield break;
        file.Position = end - 1;
        var isWhole = file.ReadByte() == '\n';
        file.Position = 0;
        using var reader = new StreamReader(file, new UTF8Encoding(false, throwOnInvalidBytes: true));
        string? before = null;
        while (reader.ReadLine() is { } line)
        {
            if (before is not null) yield return before;
            before = line;
        }

        // A crash may leave an entry unfinished: nobody was told that it is safe, and its line was read again.
        if (before is not null && isWhole) yield return before;
    }

    static (Letter? Letter, string? Problem) Read(string text, long number, string path)
    {
        try
        {
            using var json = JsonDocument.Parse(text);
            var letter = json.RootElement;
            var line = letter.TryGetProperty("line_base64", out var base64) ? base64.GetBytesFromBase64() : Encoding.UTF8.GetBytes(letter.GetProperty("line").GetString()!);
            var source = new SourceFile(letter.GetProperty("host").GetString()!, UInt128.Parse(letter.GetProperty("file_id").GetString()!, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture), letter.GetProperty("file").GetString()!);
            var (offset, length) = (letter.GetProperty("offset").GetInt64(), letter.GetProperty("length").GetInt64());
            if (length == line.Length) return (new Letter(source, offset, line), null);
            return RestOf(source.Path, offset, length, line) is { } whole
                ? (new Letter(source, offset, whole), null)
                : (null, string.Create(CultureInfo.InvariantCulture, $"{source.Path} at byte {offset}: only {line.Length:N0} of {length:N0} bytes were kept, and the file no longer has the rest there."));
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or FormatException or InvalidOperationException or OverflowException or ArgumentNullException)
        {
            throw new InvalidDataException($"{path}, line {number}, is no entry of a dead letter: {e.Message} Name a dead-letter.jsonl of ship or index.", e);
        }
    }

    /// <summary>The whole line, if its file still has it where it stood.</summary>
    static byte[]? RestOf(string path, long offset, long length, byte[] beginning)
    {
        if (length > MaxLineBytes) return null;
        try
        {
            using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            var line = new byte[length + 1];
            var got = 0;
            for (int read; got < line.Length && (read = RandomAccess.Read(file, line.AsSpan(got), offset + got)) > 0;) got += read;
            if (got < length || (got > length && line[length] is not ((byte)'\n' or (byte)'\r')) || !line.AsSpan().StartsWith(beginning)) return null;
            return line[..(int)length];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
