namespace LogTrace;

/// <summary>
/// Writes measurements as records of the ambient scope (or of none): <c>metric.counter</c>, <c>metric.gauge</c>, <c>metric.histogram</c>. The metric's name
/// is the record's <c>action</c>, its value and tags are members of <c>extra</c>. Thread-safe.
/// </summary>
/// <remarks>Each call writes one record at once.</remarks>
public sealed class TraceMetrics
{
    readonly TraceLogger _logger;

    internal TraceMetrics(TraceLogger logger) => _logger = logger;

    /// <summary>The metrics of the service whose scope is ambient, else of <see cref="TraceLogger.Default"/>.</summary>
    public static TraceMetrics Current => (TraceContext.Current?.Logger ?? TraceLogger.Default).Metrics;

    /// <summary>Something happened <paramref name="count"/> times.</summary>
    public void Counter(string name, long count = 1, params ReadOnlySpan<(string Key, object? Value)> tags) => Write("metric.counter", name, count, tags);

    /// <summary>Something has this value now.</summary>
    public void Gauge(string name, double value, params ReadOnlySpan<(string Key, object? Value)> tags) => Write("metric.gauge", name, value, tags);

    /// <summary>One observation of something whose distribution matters.</summary>
    public void Histogram(string name, double value, params ReadOnlySpan<(string Key, object? Value)> tags) => Write("metric.histogram", name, value, tags);

    void Write(string kind, string name, object value, ReadOnlySpan<(string Key, object? Value)> tags)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        var extra = new List<KeyValuePair<string, object?>>(tags.Length + 1) { new("value", value) };
        foreach (var (key, tag) in tags) extra.Add(new(key, tag));
        // A scope of another service in this process is not ours to write into.
        var scope = TraceContext.Current is { } current && current.Logger == _logger ? current : null;
        _logger.WriteRecord(new RecordEntry(_logger, kind, name, extra, scope));
    }
}
