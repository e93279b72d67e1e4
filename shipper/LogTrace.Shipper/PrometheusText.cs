using System.Globalization;
using System.Text;

namespace LogTrace.Shipper;

/// <summary>Measurements as Prometheus reads them (https://prometheus.io/docs/instrumenting/exposition_formats/). Not safe for concurrent use.</summary>
/// <param name="prefix">What all names start with, without the underscore behind it.</param>
public sealed class PrometheusText(string prefix)
{
    readonly StringBuilder _text = new();

    /// <summary>A number that only grows; its name gets <c>_total</c> behind it.</summary>
    public void Counter(string name, string help, double value) => One(name + "_total", help, "counter", value);

    /// <summary>The same by the values of a label, each at most once.</summary>
    public void Counter(string name, string help, string label, IEnumerable<(string Value, double Number)> rows) => Several(name + "_total", help, "counter", label, rows);

    /// <summary>A number that goes up and down.</summary>
    public void Gauge(string name, string help, double value) => One(name, help, "gauge", value);

    /// <summary>The same by the values of a label, each at most once.</summary>
    public void Gauge(string name, string help, string label, IEnumerable<(string Value, double Number)> rows) => Several(name, help, "gauge", label, rows);

    /// <summary>How long something took, each time; the name should end in <c>_seconds</c>.</summary>
    public void Histogram(string name, string help, TimeHistogram times)
    {
        Head(name, help, "histogram");
        var (counts, seconds) = times.Read();
        long upTo = 0;
        for (var bucket = 0; bucket < counts.Length; bucket++)
        {
            upTo += counts[bucket];
            var bound = bucket < TimeHistogram.Bounds.Length ? TimeHistogram.Bounds[bucket].ToString(CultureInfo.InvariantCulture) : "+Inf";
            _text.Append(CultureInfo.InvariantCulture, $"{prefix}_{name}_bucket{{le=\"{bound}\"}} {upTo}\n");
        }

        _text.Append(CultureInfo.InvariantCulture, $"{prefix}_{name}_sum {seconds}\n{prefix}_{name}_count {upTo}\n");
    }

    /// <summary>All that was said so far.</summary>
    public override string ToString() => _text.ToString();

    void One(string name, string help, string type, double value)
    {
        Head(name, help, type);
        _text.Append(CultureInfo.InvariantCulture, $"{prefix}_{name} {value}\n");
    }

    void Several(string name, string help, string type, string label, IEnumerable<(string Value, double Number)> rows)
    {
        Head(name, help, type);
        foreach (var (value, number) in rows)
        {
            var escaped = value.Replace("\\", @"\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
            _text.Append(CultureInfo.InvariantCulture, $"{prefix}_{name}{{{label}=\"{escaped}\"}} {number}\n");
        }
    }

    void Head(string name, string help, string type) => _text.Append(CultureInfo.InvariantCulture, $"# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {type}\n");
}

/// <summary>Counts how long something took, from a millisecond to a minute. Thread-safe.</summary>
public sealed class TimeHistogram
{
    /// <summary>Upper ends of the buckets in seconds; beyond the last there is one more.</summary>
    internal static readonly double[] Bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

    readonly Lock _lock = new();
    readonly long[] _counts = new long[Bounds.Length + 1];
    double _seconds;

    /// <summary>Counts one more.</summary>
    public void Add(TimeSpan took)
    {
        var seconds = took.TotalSeconds;
        var bucket = Array.FindIndex(Bounds, bound => seconds <= bound);
        lock (_lock)
        {
            _counts[bucket < 0 ? Bounds.Length : bucket]++;
            _seconds += seconds;
        }
    }

    /// <summary>How many fell into each bucket, and all seconds together.</summary>
    internal (long[] Counts, double Seconds) Read()
    {
        lock (_lock) return ([.. _counts], _seconds);
    }
}
