using System.Collections.Concurrent;
using System.Globalization;
using LogTrace.Records;

namespace LogTrace;

/// <summary>Fields that stand side by side with the same texts in many records, encoded once.</summary>
sealed class FixedText
{
    const int MaxChars = 1024;

    public FixedText(RecordField field, string value)
        : this((field, value))
    {
    }

    public FixedText(params (RecordField Field, string Value)[] fields)
    {
        Fields = fields;
        var line = LineWriter.Rent();
        // The writer leaves out the comma after an opened object alone.
        line.Byte((byte)',');
        foreach (var (field, value) in fields) line.Text(field, value, MaxChars);
        Json = line.Written[1..].ToArray();
        LineWriter.Return(line);
    }

    public IReadOnlyList<(RecordField Field, string Value)> Fields { get; }

    /// <summary>As it stands in a line: <c>,"department":"shop_backend"</c>.</summary>
    public byte[] Json { get; }
}

/// <summary>What all records of one kind have in common, <c>mysql.request</c> and its failures.</summary>
sealed class KindTexts(string name, FixedText origin, TraceLogger logger) : ILineMaker
{
    public string Key { get; } = name;

    public FixedText Name { get; } = new(RecordField.Name, name);

    public FixedText FailedName { get; } = new(RecordField.Name, name + RecordNames.ErrorSuffix);

    /// <summary>Department, module and address.</summary>
    public FixedText Origin { get; } = origin;

    /// <summary>Makes the line of a packed record of this kind.</summary>
    public void Make(ReadOnlySpan<byte> packed, LineWriter line)
    {
        new RecordEntry(logger, this, packed).WriteTo(line);
        line.LineEnd();
    }
}

/// <summary>What all log lines of one source context have in common.</summary>
sealed record SourceTexts(string Source, FixedText Origin);

/// <summary>The fields that a service's records have in common, encoded once. Thread-safe.</summary>
sealed class ServiceTexts
{
    // Bounded: names and sources may be made up while running.
    const int MaxKept = 1000;

    readonly ConcurrentDictionary<string, KindTexts> _kinds = new(StringComparer.Ordinal);

    // In front of it: a service writes a dozen kinds all the time, and comparing a name is cheaper than hashing it. A length that is a power of two.
    readonly KindTexts?[] _recent = new KindTexts?[64];
    readonly ConcurrentDictionary<string, SourceTexts> _sources = new(StringComparer.Ordinal);
    readonly SourceTexts?[] _recentSources = new SourceTexts?[64];
    readonly TraceLogger _logger;
    readonly LogTraceOptions _options;
    readonly string _serverIp;

    public ServiceTexts(TraceLogger logger)
    {
        var options = logger.Options;
        _logger = logger;
        _options = options;
        _serverIp = options.ServerIp.Length > 0 ? options.ServerIp : LogTraceOptions.FindServerIp();
        Service = new(RecordField.Service, options.Service);
        var version = $"dotnet-{options.Service}-{options.Version}";
        Version = new(RecordField.Version, version);
        NoParamAndVersion = new((RecordField.Param, ""), (RecordField.Version, version));
        Pid = new(RecordField.Pid, Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
    }

    public FixedText Service { get; }

    public FixedText Version { get; }

    public FixedText Pid { get; }

    public FixedText NoParamAndVersion { get; }

    /// <summary>Name and module of records of this name, given without <c>.error</c>.</summary>
    public KindTexts Kind(string name)
    {
        ref var recent = ref _recent[name.Length == 0 ? 0 : (name.Length ^ (name[0] << 2) ^ (name[^1] << 1)) & (_recent.Length - 1)];
        if (Volatile.Read(ref recent) is { } last && last.Key == name) return last;
        if (!_kinds.TryGetValue(name, out var kind))
        {
            kind = new KindTexts(name, OriginOf(name.Replace('.', '_')), _logger);
            if (_kinds.Count < MaxKept) _kinds.TryAdd(name, kind);
        }

        Volatile.Write(ref recent, kind);
        return kind;
    }

    /// <summary>Department, module and address of log lines: the last part of their source context stands for the function. Empty for a line without one.</summary>
    public FixedText OriginOfSource(ReadOnlySpan<char> source)
    {
        ref var recent = ref _recentSources[source.IsEmpty ? 0 : (source.Length ^ (source[source.Length / 2] << 2) ^ (source[^1] << 1)) & (_recentSources.Length - 1)];
        if (Volatile.Read(ref recent) is { } last && source.SequenceEqual(last.Source)) return last.Origin;
        var name = source.ToString();
        if (!_sources.TryGetValue(name, out var known))
        {
            known = new SourceTexts(name, OriginOf(name.Length == 0 ? "log" : name[(name.LastIndexOfAny(['.', '+']) + 1)..] + "_log"));
            if (_sources.Count < MaxKept) _sources.TryAdd(name, known);
        }

        Volatile.Write(ref recent, known);
        return known.Origin;
    }

    /// <summary>Module is application_module_function_action: what a record is about names the last two.</summary>
    FixedText OriginOf(string about)
    {
        var application = _options.Application.Length > 0 ? _options.Application : _options.Service;
        return new((RecordField.Department, _options.Department), (RecordField.Module, $"{application}_{_options.Service}_{about}"), (RecordField.ServerIp, _serverIp));
    }
}
