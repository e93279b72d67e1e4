using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace LogTrace;

/// <summary>
/// Measures in memory and writes one record for each metric and combination of tags every <see cref="TraceMetricsOptions.Interval"/> in which it was measured: <c>metric.counter</c>, <c>metric.gauge</c>,
/// <c>metric.histogram</c>, outside any trace and never sampled. The metric's name is the record's <c>action</c>; <c>extra</c> has the measurement (SCHEMA.md) and the tags.
/// Thread-safe; measuring with tags that were seen before allocates nothing but what the tags do.
/// </summary>
public sealed class TraceMetrics
{
    readonly TraceLogger _logger;
    readonly ConcurrentDictionary<SeriesKey, Series> _series = new(SeriesComparer.Instance);
    readonly ConcurrentDictionary<(MetricKind Kind, string Name), Metric> _metrics = new();
    readonly Lock _flushGate = new();
    readonly long[] _notWritten = new long[TraceSampler.ReasonNames.Length];
    ITimer? _timer;
    bool _disposed;
    long _flushed;
    long _overflowed;
    long _discarded;
    long _reportedDiscarded;

    internal TraceMetrics(TraceLogger logger)
    {
        _logger = logger;
        _flushed = logger.Time.GetTimestamp();
        if (logger.Options.Sampling.IsOn) StartTimer();
    }

    enum MetricKind
    {
        Counter,
        Gauge,
        Histogram,
    }

    /// <summary>The metrics of the service whose scope is ambient, else of <see cref="TraceLogger.Default"/>.</summary>
    public static TraceMetrics Current => (TraceContext.Current?.Logger ?? TraceLogger.Default).Metrics;

    /// <summary>Measurements that came with more combinations of tags than <see cref="TraceMetricsOptions.MaxSeriesPerMetric"/>; they are in the records with <c>overflow: true</c>.</summary>
    public long Overflowed => Interlocked.Read(ref _overflowed);

    /// <summary>Measurements given up: more metrics than <see cref="TraceMetricsOptions.MaxMetrics"/>, or a value that is no number.</summary>
    public long Discarded => Interlocked.Read(ref _discarded);

    /// <summary>Something happened <paramref name="count"/> times. The record has the <c>value</c> since the last one and the <c>total</c> since the start.</summary>
    public void Counter(string name, long count = 1, params ReadOnlySpan<(string Key, object? Value)> tags) => Find(MetricKind.Counter, name, tags)?.Add(count);

    /// <summary>Something has this value now. The record has the last <c>value</c> and <c>min</c> and <c>max</c> since the last one.</summary>
    public void Gauge(string name, double value, params ReadOnlySpan<(string Key, object? Value)> tags) => Observe(MetricKind.Gauge, name, value, tags);

    /// <summary>
    /// One observation of something whose distribution matters. The record has <c>count</c>, <c>sum</c>, <c>min</c>, <c>max</c> and the quantiles <c>p50 p90 p95 p99</c> since the last one; quantiles are off by at
    /// most 3.2 % between 2.4e-10 and 4.2e9, and lie between min and max everywhere. Values of 0 and below are told apart by min only.
    /// </summary>
    public void Histogram(string name, double value, params ReadOnlySpan<(string Key, object? Value)> tags) => Observe(MetricKind.Histogram, name, value, tags);

    /// <summary>Writes now what was measured since the last time.</summary>
    public void Flush()
    {
        lock (_flushGate)
        {
            var now = _logger.Time.GetTimestamp();
            var seconds = Math.Round(_logger.Time.GetElapsedTime(_flushed, now).TotalSeconds, 3);
            _flushed = now;
            foreach (var (key, series) in _series) Write(key.Kind, key.Name, series.Take(), seconds, key.Tags);
            foreach (var ((kind, name), metric) in _metrics) Write(kind, name, metric.Overflow?.Take(), seconds, [("overflow", true)]);
            for (var reason = 0; reason < _notWritten.Length; reason++) Report("logtrace.not_written", _logger.Sampler[(NotWritten)reason], ref _notWritten[reason], seconds, [("reason", TraceSampler.ReasonNames[reason])]);
            Report("logtrace.metrics_discarded", Discarded, ref _reportedDiscarded, seconds, []);
        }
    }

    internal void Dispose()
    {
        lock (_flushGate)
        {
            if (_disposed) return;
            _disposed = true;
            _timer?.Dispose();
        }

        Flush();
    }

    /// <summary>Has the counts of what was not written told in time, though nothing is measured.</summary>
    internal void StartTimer()
    {
        if (Volatile.Read(ref _timer) is not null) return;
        lock (_flushGate)
        {
            if (_timer is not null || _disposed) return;
            // The request that happens to measure first must not be what every later flush runs in.
            using (ExecutionContext.IsFlowSuppressed() ? default(AsyncFlowControl?) : ExecutionContext.SuppressFlow())
                _timer = _logger.Time.CreateTimer(static metrics => ((TraceMetrics)metrics!).Flush(), this, _logger.Options.Metrics.Interval, _logger.Options.Metrics.Interval);
        }
    }

    void Observe(MetricKind kind, string name, double value, ReadOnlySpan<(string Key, object? Value)> tags)
    {
        if (double.IsNaN(value)) Interlocked.Increment(ref _discarded);
        else Find(kind, name, tags)?.Observe(value);
    }

    Series? Find(MetricKind kind, string name, ReadOnlySpan<(string Key, object? Value)> tags)
    {
        ArgumentException.ThrowIfNullOrEmpty(name);
        StartTimer();
        return TryFind(new SeriesName(kind, name, tags), out var series) ? series : Add(kind, name, tags);
    }

#if NET9_0_OR_GREATER
    bool TryFind(SeriesName name, [MaybeNullWhen(false)] out Series series) => _series.GetAlternateLookup<SeriesName>().TryGetValue(name, out series);
#else
    // Before .NET 9 a dictionary finds nothing without a key of its own kind, so that measuring costs one.
    bool TryFind(SeriesName name, [MaybeNullWhen(false)] out Series series) => _series.TryGetValue(SeriesComparer.Create(name), out series);
#endif

    Series? Add(MetricKind kind, string name, ReadOnlySpan<(string Key, object? Value)> tags)
    {
        if (!_metrics.TryGetValue((kind, name), out var metric))
        {
            if (_metrics.Count >= _logger.Options.Metrics.MaxMetrics)
            {
                Interlocked.Increment(ref _discarded);
                return null;
            }

            metric = _metrics.GetOrAdd((kind, name), _ => new Metric());
        }

        lock (metric)
        {
            if (TryFind(new SeriesName(kind, name, tags), out var series)) return series;
            if (metric.SeriesCount >= _logger.Options.Metrics.MaxSeriesPerMetric)
            {
                Interlocked.Increment(ref _overflowed);
                return metric.Overflow ??= Make(kind);
            }

            metric.SeriesCount++;
            return _series[SeriesComparer.Create(new SeriesName(kind, name, tags))] = Make(kind);
        }
    }

    static Series Make(MetricKind kind) => kind switch
    {
        MetricKind.Counter => new CounterSeries(),
        MetricKind.Gauge => new GaugeSeries(),
        _ => new HistogramSeries(),
    };

    void Report(string name, long total, ref long reported, double seconds, ReadOnlySpan<(string Key, object? Value)> tags)
    {
        if (total == reported) return;
        Write(MetricKind.Counter, name, [new("value", total - reported), new("total", total)], seconds, tags);
        reported = total;
    }

    void Write(MetricKind kind, string name, List<KeyValuePair<string, object?>>? members, double seconds, ReadOnlySpan<(string Key, object? Value)> tags)
    {
        if (members is null) return;
        members.Add(new("seconds", seconds));
        foreach (var (key, value) in tags)
        {
            // A tag that is called like a member keeps its value under another name.
            var isTaken = members.Exists(member => member.Key == key);
            members.Add(new(isTaken ? $"tag_{key}" : key, value));
        }

        _logger.WriteRecord(new RecordEntry(_logger, kind switch { MetricKind.Counter => "metric.counter", MetricKind.Gauge => "metric.gauge", _ => "metric.histogram" }, name, members, null), isMetric: true);
    }

    sealed class Metric
    {
        public int SeriesCount { get; set; }

        public Series? Overflow { get; set; }
    }

    sealed record SeriesKey(MetricKind Kind, string Name, (string Key, object? Value)[] Tags);

    readonly ref struct SeriesName(MetricKind kind, string name, ReadOnlySpan<(string Key, object? Value)> tags)
    {
        public MetricKind Kind { get; } = kind;

        public string Name { get; } = name;

        public ReadOnlySpan<(string Key, object? Value)> Tags { get; } = tags;
    }

    /// <summary>Finds a series without making a key.</summary>
    sealed class SeriesComparer : IEqualityComparer<SeriesKey>
#if NET9_0_OR_GREATER
        , IAlternateEqualityComparer<SeriesName, SeriesKey>
#endif
    {
        public static readonly SeriesComparer Instance = new();

        // Other objects may change or be equal to nothing: their text stands for them.
        public static object? Plain(object? value) => value is null or string or IConvertible ? value : Convert.ToString(value, CultureInfo.InvariantCulture);

        public bool Equals(SeriesKey? one, SeriesKey? other) => ReferenceEquals(one, other) || (one is not null && other is not null && Equals(new SeriesName(one.Kind, one.Name, one.Tags), other));

        public int GetHashCode([DisallowNull] SeriesKey key) => GetHashCode(new SeriesName(key.Kind, key.Name, key.Tags));

        public bool Equals(SeriesName alternate, SeriesKey other)
        {
            if (alternate.Kind != other.Kind || alternate.Tags.Length != other.Tags.Length || alternate.Name != other.Name) return false;
            for (var i = 0; i < alternate.Tags.Length; i++)
            {
                if (alternate.Tags[i].Key != other.Tags[i].Key || !Equals(Plain(alternate.Tags[i].Value), other.Tags[i].Value)) return false;
            }

            return true;
        }

        public int GetHashCode(SeriesName alternate)
        {
            var hash = new HashCode();
            hash.Add(alternate.Kind);
            hash.Add(alternate.Name);
            foreach (var (key, value) in alternate.Tags)
            {
                hash.Add(key);
                hash.Add(Plain(value));
            }

            return hash.ToHashCode();
        }

#if NET9_0_OR_GREATER
        SeriesKey IAlternateEqualityComparer<SeriesName, SeriesKey>.Create(SeriesName alternate) => Create(alternate);
#endif

        public static SeriesKey Create(SeriesName name)
        {
            var kept = new (string, object?)[name.Tags.Length];
            for (var i = 0; i < kept.Length; i++) kept[i] = (name.Tags[i].Key, Plain(name.Tags[i].Value));
            return new SeriesKey(name.Kind, name.Name, kept);
        }
    }

    abstract class Series
    {
        public virtual void Add(long count)
        {
        }

        public virtual void Observe(double value)
        {
        }

        /// <summary>The members of the record for what was measured since the last time; null when nothing was.</summary>
        public abstract List<KeyValuePair<string, object?>>? Take();
    }

    sealed class CounterSeries : Series
    {
        long _value;
        long _total;
        int _touched;

        public override void Add(long count)
        {
            Interlocked.Add(ref _value, count);
            Volatile.Write(ref _touched, 1);
        }

        public override List<KeyValuePair<string, object?>>? Take()
        {
            if (Interlocked.Exchange(ref _touched, 0) == 0) return null;
            var value = Interlocked.Exchange(ref _value, 0);
            _total += value;
            return [new("value", value), new("total", _total)];
        }
    }

    sealed class GaugeSeries : Series
    {
        readonly Lock _gate = new();
        double _value;
        double _min = double.PositiveInfinity;
        double _max = double.NegativeInfinity;

        public override void Observe(double value)
        {
            lock (_gate)
            {
                _value = value;
                _min = Math.Min(_min, value);
                _max = Math.Max(_max, value);
            }
        }

        public override List<KeyValuePair<string, object?>>? Take()
        {
            lock (_gate)
            {
                if (_min > _max) return null;
                List<KeyValuePair<string, object?>> members = [new("value", _value), new("min", _min), new("max", _max)];
                (_min, _max) = (double.PositiveInfinity, double.NegativeInfinity);
                return members;
            }
        }
    }

    /// <summary>16 buckets for each power of two from 2^-32 to 2^32: a bucket is at most 1/16 wide, its middle at most 1/32 off.</summary>
    sealed class HistogramSeries : Series
    {
        const int LowestExponent = -32;
        const int Exponents = 64;
        const int BucketsEach = 16;

        readonly Lock _gate = new();
        readonly int[] _buckets = new int[1 + Exponents * BucketsEach];
        long _count;
        double _sum;
        double _min = double.PositiveInfinity;
        double _max = double.NegativeInfinity;

        public override void Observe(double value)
        {
            var bucket = BucketOf(value);
            lock (_gate)
            {
                _buckets[bucket]++;
                _count++;
                _sum += value;
                _min = Math.Min(_min, value);
                _max = Math.Max(_max, value);
            }
        }

        public override List<KeyValuePair<string, object?>>? Take()
        {
            lock (_gate)
            {
                if (_count == 0) return null;
                List<KeyValuePair<string, object?>> members =
                [
                    new("count", _count), new("sum", _sum), new("min", _min), new("max", _max),
                    new("p50", Quantile(0.5)), new("p90", Quantile(0.9)), new("p95", Quantile(0.95)), new("p99", Quantile(0.99)),
                ];
                Array.Clear(_buckets);
                (_count, _sum, _min, _max) = (0, 0, double.PositiveInfinity, double.NegativeInfinity);
                return members;
            }
        }

        static int BucketOf(double value)
        {
            if (value <= 0) return 0;
            var bits = BitConverter.DoubleToInt64Bits(value);
            var exponent = (int)(bits >> 52) - 1023 - LowestExponent;
            if (exponent < 0) return 1;
            return exponent >= Exponents ? Exponents * BucketsEach : 1 + exponent * BucketsEach + (int)(bits >> 48 & 15);
        }

        double Quantile(double share)
        {
            var rank = (long)Math.Ceiling(share * _count);
            long seen = 0;
            for (var bucket = 0; bucket < _buckets.Length; bucket++)
            {
                seen += _buckets[bucket];
                if (seen < rank) continue;
                var (exponent, part) = Math.DivRem(bucket - 1, BucketsEach);
                var middle = bucket == 0 ? _min : Math.ScaleB(1 + (part + 0.5) / BucketsEach, exponent + LowestExponent);
                return Math.Clamp(middle, _min, _max);
            }

            return _max;
        }
    }
}
