using System.Globalization;
using System.Text;

namespace LogTrace.EndToEnd.Support;

/// <summary>
/// Lines that no LogTrace logger wrote, reproducible from a seed, in several files that grow and are rotated. Every line carries a
/// number of its own in <c>param</c>, so that one can count what became of it.
/// </summary>
public sealed class GeneratedLog(string folder, int seed, int files, string prefix)
{
    const int LinesPerTrace = 20;
    readonly Random _random = new(seed);
    readonly int[] _generations = new int[files];
    readonly FileStream?[] _streams = new FileStream?[files];
    int _written;

    public int Written => _written;

    // Covers the rotated names: a file that is made and rotated away while nobody looks can be found by its name alone.
    public string Glob => Path.Combine(folder, "*.log*");

    /// <summary>Only the names that are being written to, not the rotated ones.</summary>
    public string GlobOfCurrent => Path.Combine(folder, "*.log");

    public IEnumerable<string> TraceIds => Enumerable.Range(0, (_written + LinesPerTrace - 1) / LinesPerTrace).Select(TraceId);

    string TraceId(int number) => string.Create(CultureInfo.InvariantCulture, $"{prefix}-{number:d8}");

    /// <summary>Appends lines to the files in turn, in pieces that end anywhere, the last one with a whole line.</summary>
    /// <param name="lines">How many.</param>
    /// <param name="into">The one file to append to; by default every line goes to any of them.</param>
    public void Append(int lines, int? into = null)
    {
        Directory.CreateDirectory(folder);
        var pieces = Enumerable.Range(0, files).Select(_ => new StringBuilder()).ToArray();
        for (var i = 0; i < lines; i++, _written++) pieces[into ?? _random.Next(files)].Append(Line(_written)).Append('\n');
        for (var file = 0; file < files; file++)
        {
            if (pieces[file].Length == 0) continue;
            _streams[file] ??= new FileStream(PathOf(file), FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 1);
            var bytes = Encoding.UTF8.GetBytes(pieces[file].ToString());
            var torn = _random.Next(bytes.Length);
            _streams[file]!.Write(bytes, 0, torn);
            _streams[file]!.Write(bytes, torn, bytes.Length - torn);
        }
    }

    /// <summary>The next lines, for a file that the caller writes.</summary>
    public string Take(int lines)
    {
        var text = new StringBuilder();
        for (var i = 0; i < lines; i++, _written++) text.Append(Line(_written)).Append('\n');
        return text.ToString();
    }

    /// <summary>Renames one file the way logrotate does; the next append makes a new one of the old name.</summary>
    public void Rotate(int file)
    {
        _streams[file]?.Dispose();
        _streams[file] = null;
        if (!File.Exists(PathOf(file))) return;
        File.Move(PathOf(file), $"{PathOf(file)}.{++_generations[file]}");
    }

    /// <summary>Renames every generation of a file by one, <c>app0.log.2</c> to <c>app0.log.3</c>, and the file itself to <c>app0.log.1</c>.</summary>
    public void RotateChain(int file)
    {
        _streams[file]?.Dispose();
        _streams[file] = null;
        if (!File.Exists(PathOf(file))) return;
        for (var generation = _generations[file]++; generation > 0; generation--) File.Move($"{PathOf(file)}.{generation}", $"{PathOf(file)}.{generation + 1}");
        File.Move(PathOf(file), $"{PathOf(file)}.1");
    }

    /// <summary>Copies one file and empties it, as logrotate does with <c>copytruncate</c>; nothing is written in between.</summary>
    public void CopyTruncate(int file)
    {
        if (!File.Exists(PathOf(file))) return;
        File.Copy(PathOf(file), $"{PathOf(file)}.{++_generations[file]}");
        Empty(file);
    }

    /// <summary>Empties one file; what was in it is gone.</summary>
    public void Empty(int file)
    {
        _streams[file]?.Dispose();
        _streams[file] = null;
        if (File.Exists(PathOf(file))) File.Open(PathOf(file), FileMode.Truncate, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete).Dispose();
    }

    public void Delete(int file)
    {
        _streams[file]?.Dispose();
        _streams[file] = null;
        File.Delete(PathOf(file));
    }

    /// <summary>Grows and rotates the files for a time; the moment at which it ends is the test's subject, nothing waits for a result here.</summary>
    public async Task GrowAsync(Random random, TimeSpan time)
    {
        for (var end = Task.Delay(time); !end.IsCompleted; await Task.Delay(20))
        {
            Append(100);
            if (random.Next(20) == 0) Rotate(random.Next(files));
        }
    }

    public void Close()
    {
        for (var file = 0; file < files; file++)
        {
            _streams[file]?.Dispose();
            _streams[file] = null;
        }
    }

    public string PathOf(int file) => Path.Combine(folder, $"app{file}.log");

    string Line(int number)
    {
        var position = number % LinesPerTrace;
        var now = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        var (name, rpcId) = position == 0 ? ("request.info", "1.1") : ("http.get", string.Create(CultureInfo.InvariantCulture, $"1.{position + 1}"));
        return string.Create(CultureInfo.InvariantCulture,
            $$"""{"name":"{{name}}","trace_id":"{{TraceId(number / LinesPerTrace)}}","rpc_id":"{{rpcId}}","timestamp":{{now}},"department":"test","module":"app_test_run","server_ip":"10.0.0.1","action":"http://stock/items/{{number}}","param":"{{number}}","version":"go-app{{number % 3}}-1.2","duration":0.0{{position + 10}},"code":"200"}""");
    }
}
