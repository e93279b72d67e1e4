using System.Buffers;
using System.CommandLine;
using System.Globalization;
using System.IO.Hashing;
using System.Text.RegularExpressions;
using LogTrace.Records;
using Spectre.Console;

namespace LogTrace.Indexer.Chains;

/// <summary><c>rebuild FILES</c>: chains straight from log files, without any store.</summary>
public static class RebuildCommand
{
    const int Done = 0, Failed = 1, Usage = 2;

    public static Command Create()
    {
        var files = new Argument<string[]>("FILES") { Description = "Log files, plain, .gz, or in archives (.tar, .tar.gz, .tgz: each file in it counts as one); patterns such as 'logs/**/*.log'; - for standard input.", Arity = ArgumentArity.OneOrMore };
        var json = new Option<bool>("--json") { Description = "One JSON object a chain, one a line, in place of the drawing." };
        var trace = new Option<string?>("--trace") { HelpName = "ID", Description = "Only the chain with this trace id." };
        var from = new Option<string?>("--from") { Description = "Form of the files when it is not ours: alibaba (cluster-trace-microservices: CSV, or the archives that it comes in)." };
        from.AcceptOnlyFromAmong("alibaba");
        var pairs = new Option<bool>("--pairs") { Description = "Read request.info at P.1 as the other side of call P, whatever the trace looks like." };
        var twins = new Option<bool>("--twins") { Description = "Read both sides of a call under one id, whatever the trace looks like." };
        var logs = new Option<bool>("--logs") { Description = "Also draw the log lines of each call." };
        var command = new Command("rebuild", "Rebuild call chains straight from log files.") { files, json, trace, from, pairs, twins, logs };
        command.Validators.Add(result =>
        {
            if (result.GetValue(pairs) && result.GetValue(twins)) result.AddError("--pairs and --twins are two readings of the same ids; give one of them.");
        });
        command.SetAction(result => Run(
            result.GetValue(files)!,
            new RebuildOptions
            {
                Json = result.GetValue(json),
                TraceId = result.GetValue(trace),
                IsAlibaba = result.GetValue(from) is not null,
                Reading = result.GetValue(pairs) ? ChainReading.Pairs : result.GetValue(twins) || result.GetValue(from) is not null ? ChainReading.Twins : ChainReading.Majority,
                WithLogs = result.GetValue(logs),
            },
            Console.OpenStandardOutput(),
            Console.Error));
        return command;
    }

    internal sealed record RebuildOptions
    {
        public bool Json { get; init; }
        public string? TraceId { get; init; }
        public bool IsAlibaba { get; init; }
        public ChainReading Reading { get; init; }
        public bool WithLogs { get; init; }
    }

    /// <summary>Writes the chains to <paramref name="output"/>; what was set aside and the totals to <paramref name="messages"/>.</summary>
    internal static int Run(IReadOnlyList<string> patterns, RebuildOptions options, Stream output, TextWriter messages)
    {
        if (Expand(patterns, messages) is not { } files) return Usage;
        var traces = new TraceGroups();
        long read = 0, setAside = 0, chainless = 0, skipped = 0;
        var failed = false;
        foreach (var file in files)
        {
            Try(file == "-" ? "stdin" : file, () =>
            {
                foreach (var (name, content) in LogFiles.Open(file)) Try(name, () => Read(name, content));
            });
        }

        var chainOptions = new ChainOptions { Reading = options.Reading };
        var ambiguous = 0;
        var resolved = 0;
        foreach (var chain in traces.Select(trace => ChainBuilder.Build(trace.TraceId, trace.Records, chainOptions)))
        {
            ambiguous += chain.AmbiguousCount;
            if (chain.Resolved) resolved++;
            if (options.Json) WriteJson(chain, output);
            else Draw(chain, output, options.WithLogs);
        }

        output.Flush();
        var summary = string.Create(CultureInfo.InvariantCulture, $"{read} read, {setAside} set aside, {traces.Count} chains");
        if (chainless > 0) summary += string.Create(CultureInfo.InvariantCulture, $", {chainless} belong to no chain");
        if (skipped > 0) summary += string.Create(CultureInfo.InvariantCulture, $", {skipped} of other traces");
        if (ambiguous > 0) summary += string.Create(CultureInfo.InvariantCulture, $", {resolved} chains resolved, {ambiguous} ids ambiguous");
        messages.WriteLine(summary);
        if (options.TraceId is not null && traces.Count == 0)
        {
            messages.WriteLine($"No record has trace_id {ChainText.Visible(options.TraceId)}.");
            failed = true;
        }

        return failed ? Failed : Done;

        // What was read before a damaged place is good, and so are the other files of an archive: show them, and fail in the end.
        void Try(string name, Action read)
        {
            try
            {
                read();
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or InvalidDataException)
            {
                messages.WriteLine($"{name}: {ChainText.Visible(exception.Message)}");
                failed = true;
            }
        }

        void Read(string name, Stream stream)
        {
            if (options.IsAlibaba) AlibabaFile.Read(stream, name, ref read, Take, SetAside);
            else ReadOwn();

            void ReadOwn()
            {
                foreach (var line in LogLines.Read(stream))
                {
                    if (!line.IsTooLong && line.Bytes.Span.Trim(" \t"u8).IsEmpty) continue;
                    read++;
                    if (line.IsTooLong) SetAside(line.Number, $"it is longer than {LogLines.MaxLineBytes:N0} bytes");
                    else if (!RecordCodec.TryRead(line.Bytes, out var record, out var reason)) SetAside(line.Number, reason ?? "it is no record");
                    else
                    {
                        // A record is known by its place in the file; the hash of its bytes tells lines that were delivered twice.
                        var hash = XxHash128.HashToUInt128(line.Bytes.Span);
                        Take(RecordDeriver.Derive(record, hash ^ (UInt128)(ulong)line.Offset, hash, name, line.Offset, 0));
                    }
                }
            }

            void Take(IndexedRecord record)
            {
                if (record.Record.TraceId is not { Length: > 0 } traceId) chainless++;
                else if (options.TraceId is not null && options.TraceId != traceId) skipped++;
                else traces.Add(traceId, record);
            }

            void SetAside(long line, string reason)
            {
                setAside++;
                messages.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{name}:{line} set aside: {ChainText.Visible(reason)}"));
            }
        }
    }

    static void WriteJson(CallChain chain, Stream output)
    {
        var buffer = new ArrayBufferWriter<byte>(4096);
        ChainJson.Write(chain, buffer);
        buffer.Write("\n"u8);
        output.Write(buffer.WrittenSpan);
    }

    static void Draw(CallChain chain, Stream output, bool withLogs)
    {
        using var writer = new StreamWriter(output, leaveOpen: true);
        ChainText.Draw(ConsoleOn(writer), chain, withLogs);
        writer.WriteLine();
    }

    /// <summary>The terminal as it is; plain and wide enough to read when the output goes into a file or a pipe.</summary>
    internal static IAnsiConsole ConsoleOn(TextWriter writer)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Out = new AnsiConsoleOutput(writer),
            Ansi = Console.IsOutputRedirected ? AnsiSupport.No : AnsiSupport.Detect,
            ColorSystem = Console.IsOutputRedirected ? ColorSystemSupport.NoColors : ColorSystemSupport.Detect,
            Interactive = InteractionSupport.No,
        });
        console.Profile.Capabilities.Unicode = true;
        if (int.TryParse(Environment.GetEnvironmentVariable("COLUMNS"), NumberStyles.None, CultureInfo.InvariantCulture, out var columns) && columns is >= 20 and <= 1000) console.Profile.Width = columns;
        else if (Console.IsOutputRedirected) console.Profile.Width = 140;
        return console;
    }

    /// <summary>The files that the arguments name, each once. Null when one of them names none.</summary>
    static List<string>? Expand(IReadOnlyList<string> patterns, TextWriter messages)
    {
        var files = new List<string>();
        var isUsable = true;
        foreach (var pattern in patterns)
        {
            if (pattern == "-" || File.Exists(pattern)) files.Add(pattern);
            else if (Directory.Exists(pattern)) Refuse($"{pattern} is a folder; name the files in it, such as '{pattern.TrimEnd('/')}/**/*.log'.");
            else if (pattern.AsSpan().IndexOfAny('*', '?') < 0) Refuse($"{pattern} does not exist.");
            else if (Match(pattern) is { Count: > 0 } found) files.AddRange(found);
            else Refuse($"{pattern} matches no file.");
        }

        return isUsable ? [.. files.Distinct(StringComparer.Ordinal)] : null;

        void Refuse(string problem)
        {
            messages.WriteLine(ChainText.Visible(problem));
            isUsable = false;
        }
    }

    static List<string> Match(string pattern)
    {
        var wildcard = pattern.AsSpan().IndexOfAny('*', '?');
        var slash = pattern.AsSpan(0, wildcard).LastIndexOf('/');
        var folder = slash < 0 ? "." : slash == 0 ? "/" : pattern[..slash];
        if (!Directory.Exists(folder)) return [];
        var rest = pattern[(slash + 1)..];
        var regex = new Regex("^" + Regex.Escape(rest).Replace(@"\*\*/", "(.*/)?").Replace(@"\*", "[^/]*").Replace(@"\?", "[^/]") + "$", RegexOptions.CultureInvariant);
        var enumeration = new EnumerationOptions { RecurseSubdirectories = rest.Contains('/', StringComparison.Ordinal), IgnoreInaccessible = true, AttributesToSkip = 0 };
        return [.. Directory.EnumerateFiles(folder, "*", enumeration)
            .Where(path => regex.IsMatch(Path.GetRelativePath(folder, path).Replace('\\', '/')))
            .Select(path => slash < 0 ? Path.GetRelativePath(folder, path) : path)
            .Order(StringComparer.Ordinal)];
    }

    /// <summary>Records by trace, in order of each trace's first record.</summary>
    sealed class TraceGroups
    {
        readonly Dictionary<string, List<IndexedRecord>> _byTrace = new(StringComparer.Ordinal);
        readonly List<string> _order = [];

        public int Count => _order.Count;

        public void Add(string traceId, IndexedRecord record)
        {
            if (!_byTrace.TryGetValue(traceId, out var records))
            {
                _byTrace.Add(traceId, records = []);
                _order.Add(traceId);
            }

            records.Add(record);
        }

        /// <summary>Builds one after the other and lets each trace's records go once it is done.</summary>
        public IEnumerable<T> Select<T>(Func<(string TraceId, List<IndexedRecord> Records), T> build)
        {
            foreach (var traceId in _order)
                if (_byTrace.Remove(traceId, out var records)) yield return build((traceId, records));
        }
    }
}
