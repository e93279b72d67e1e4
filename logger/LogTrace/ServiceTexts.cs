using System.Collections.Concurrent;
using System.Globalization;
using LogTrace.Records;

namespace LogTrace;

/// <summary>A field that has the same text in many records, encoded once.</summary>
sealed class FixedText
{
    const int MaxChars = 1024;

    public FixedText(RecordField field, string value)
    {
        Field = field;
        Value = value;
        var line = LineWriter.Rent();
        // The writer leaves out the comma after an opened object alone.
        line.Byte((byte)',');
        line.Text(field, value, MaxChars);
        Json = line.Written[1..].ToArray();
        LineWriter.Return(line);
    }

    public RecordField Field { get; }

    public string Value { get; }

    /// <summary>As it stands in a line: <c>,"department":"shop_backend"</c>.</summary>
    public byte[] Json { get; }
}

/// <summary>What all records of one kind have in common, <c>mysql.request</c> and its failures.</summary>
sealed class KindTexts(string name, string module)
{
    public FixedText Name { get; } = new(RecordField.Name, name);

    public FixedText FailedName { get; } = new(RecordField.Name, name + RecordNames.ErrorSuffix);

    public FixedText Module { get; } = new(RecordField.Module, module);
}

/// <summary>The fields that a service's records have in common, encoded once. Thread-safe.</summary>
sealed class ServiceTexts
{
    // Bounded: names and sources may be made up while running.
    const int MaxKept = 1000;

    readonly ConcurrentDictionary<string, KindTexts> _kinds = new(StringComparer.Ordinal);
    readonly ConcurrentDictionary<string, FixedText> _sourceModules = new(StringComparer.Ordinal);
    readonly string _application;
    readonly FixedText _logModule;

    public ServiceTexts(LogTraceOptions options)
    {
        _application = options.Application.Length > 0 ? options.Application : options.Service;
        Service = new(RecordField.Service, options.Service);
        Department = new(RecordField.Department, options.Department);
        ServerIp = new(RecordField.ServerIp, options.ServerIp.Length > 0 ? options.ServerIp : LogTraceOptions.FindServerIp());
        Version = new(RecordField.Version, $"dotnet-{options.Service}-{options.Version}");
        Pid = new(RecordField.Pid, Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
        _logModule = new(RecordField.Module, ModuleOf("log"));
    }

    public FixedText Service { get; }

    public FixedText Department { get; }

    public FixedText ServerIp { get; }

    public FixedText Version { get; }

    public FixedText Pid { get; }

    public FixedText NoParam { get; } = new(RecordField.Param, "");

    /// <summary>Name and module of records of this name, given without <c>.error</c>.</summary>
    public KindTexts Kind(string name)
    {
        if (_kinds.TryGetValue(name, out var kind)) return kind;
        kind = new KindTexts(name, ModuleOf(name));
        if (_kinds.Count < MaxKept) _kinds.TryAdd(name, kind);
        return kind;
    }

    /// <summary>The module of log lines: the last part of their source context stands for the function.</summary>
    public FixedText ModuleOfSource(string? source)
    {
        if (source is null) return _logModule;
        if (_sourceModules.TryGetValue(source, out var module)) return module;
        module = new FixedText(RecordField.Module, $"{_application}_{Service.Value}_{source[(source.LastIndexOfAny(['.', '+']) + 1)..]}_log");
        if (_sourceModules.Count < MaxKept) _sourceModules.TryAdd(source, module);
        return module;
    }

    /// <summary>application_module_function_action; what a record is about names the last two.</summary>
    string ModuleOf(string about) => $"{_application}_{Service.Value}_{about.Replace('.', '_')}";
}
