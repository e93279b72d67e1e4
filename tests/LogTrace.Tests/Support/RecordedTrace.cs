using System.Text;
using LogTrace.Records;

namespace LogTrace.Tests.Support;

/// <summary>A logger with a file of its own and a trace begun in the test's own scope, to be read back when it is over.</summary>
public sealed class RecordedTrace : IDisposable
{
    readonly TempFolder _folder;
    readonly TraceLogger _logger;
    readonly TraceContext _context;
    IReadOnlyList<string>? _lines;

    public RecordedTrace(TempFolder folder)
    {
        _folder = folder;
        _logger = new TraceLogger(new LogTraceOptions { Service = "test", Department = "tests", File = new TraceFileOptions { Path = folder["logs/test.log"] } });
        _context = _logger.StartTrace("test");
    }

    /// <summary>Ends the trace.</summary>
    public void End() => _context.Dispose();

    /// <summary>Ends everything and gives the lines of the file.</summary>
    public IReadOnlyList<string> Lines()
    {
        if (_lines is not null) return _lines;
        _context.Dispose();
        _logger.Dispose();
        return _lines = [.. Directory.EnumerateFiles(_folder["logs"]).SelectMany(File.ReadAllLines)];
    }

    /// <summary>Ends everything and gives what was written, in the order of writing.</summary>
    public IReadOnlyList<TraceRecord> Records() => [.. Lines().Select(Read)];

    /// <summary>The record of a line, which must be one.</summary>
    public static TraceRecord Read(string line)
    {
        RecordCodec.TryRead(Encoding.UTF8.GetBytes(line), out var record, out var reason).Should().BeTrue($"{reason}: {line}");
        return record;
    }

    public void Dispose() => Lines();
}
