using System.Globalization;
using LogTrace.EndToEnd.Support;
using LogTrace.Tests.Support;
using LogTrace.Transport;

namespace LogTrace.EndToEnd.Faults;

/// <summary>What became of the lines of a case.</summary>
/// <param name="Written">Lines written.</param>
/// <param name="Lost">Lines that are neither in the topic, for indexers the store, nor set aside.</param>
/// <param name="Doubled">Lines that are there as two different records; the store would keep both.</param>
/// <param name="SentAgain">Messages in the topic beyond one for each line; the store keeps one of equal records. Null for indexers.</param>
/// <param name="SetAside">Lines in the dead letter.</param>
sealed record FaultFigures(int Written, int Lost, int Doubled, int? SentAgain, int SetAside);

/// <summary>One fault with one seed and one shipper: files that grow, a broker, and the oracle at the end. The seed decides moments and choices.</summary>
sealed class FaultCase : IAsyncDisposable
{
    readonly List<string> _notes = [];

    /// <param name="seed">Reproduces the case.</param>
    /// <param name="isShort">The form for everyday tests.</param>
    /// <param name="broker">Where lines go.</param>
    /// <param name="files">How many files are written in turn.</param>
    /// <param name="contender">The shipper.</param>
    public FaultCase(int seed, bool isShort, FaultBroker broker, int files, Func<FaultCase, Contender> contender)
    {
        (Seed, IsShort, Broker, Random) = (seed, isShort, broker, new Random(seed));
        Topic = $"faults-{Guid.NewGuid():n}";
        Log = new GeneratedLog(Folder["logs"], seed, files, Topic[..12]);
        Directory.CreateDirectory(Folder["logs"]);
        Globs = [Log.Glob];
        Address = broker.Address;
        Contender = contender(this);
    }

    public int Seed { get; }

    public bool IsShort { get; }

    public Random Random { get; }

    public FaultBroker Broker { get; }

    public TempFolder Folder { get; } = new();

    public GeneratedLog Log { get; }

    public string Topic { get; }

    /// <summary>The files to ship.</summary>
    public string[] Globs { get; set; }

    /// <summary>The brokers as the shipper is told them.</summary>
    public string Address { get; set; }

    public Contender Contender { get; }

    /// <summary>The shipper, in rows that are about nothing else.</summary>
    public LogTraceShipper Ship => (LogTraceShipper)Contender;

    public bool IsOurs => Contender is LogTraceShipper;

    public FaultFigures? Figures { get; private set; }

    /// <summary>What else is worth knowing.</summary>
    public IReadOnlyList<string> Notes => _notes;

    public void Note(FormattableString note) => _notes.Add(note.ToString(CultureInfo.InvariantCulture));

    public T Of<T>(T inShort, T otherwise) => IsShort ? inShort : otherwise;

    public TimeSpan Seconds(double inShort, double otherwise) => TimeSpan.FromSeconds(Of(inShort, otherwise));

    /// <summary>A time between two, for moments that nothing may depend on.</summary>
    public TimeSpan Between(double least, double most) => TimeSpan.FromSeconds(least + ((most - least) * Random.NextDouble()));

    /// <summary>Starts the shipper and returns when lines flow: what is to hit it must not hit a program that is still starting.</summary>
    public async Task FlowAsync()
    {
        var before = IsOurs ? Ship.SettledLines : 0;
        await Contender.BeginAsync();
        Log.Append(10);
        if (IsOurs) await Ship.SettleAsync(before + 1);
        // It does not say how far it is.
        else await Task.Delay(TimeSpan.FromSeconds(1));
    }

    /// <summary>Writes lines in bursts over a time.</summary>
    public async Task WriteAsync(int lines, TimeSpan over, Action? afterEach = null)
    {
        var bursts = Math.Clamp((int)(over.TotalMilliseconds / 50), 1, Math.Max(1, lines));
        for (var burst = 0; burst < bursts; burst++)
        {
            Log.Append((lines * (burst + 1) / bursts) - (lines * burst / bursts));
            afterEach?.Invoke();
            await Task.Delay(over / bursts * 2 * Random.NextDouble());
        }
    }

    /// <summary>Brings everything over and holds what arrived against what was written.</summary>
    public async Task FinishAsync()
    {
        Log.Close();
        await Contender.FinishAsync();
        Judge();
    }

    /// <summary>The same for files that are gone by now: the shipper that has them open brings them over.</summary>
    public async Task FinishLiveAsync()
    {
        Log.Close();
        await Ship.SettleAsync(Log.Written);
        await Ship.StopAsync();
        Judge();
    }

    void Judge() => Judge(Look());

    /// <summary>Holds figures against what has to be.</summary>
    public void Judge(FaultFigures figures)
    {
        Figures = figures;
        if (!IsOurs) return;
        Figures.Lost.Should().Be(0, $"nothing is lost, seed {Seed}");
        Figures.Doubled.Should().Be(0, $"no line is two records, seed {Seed}");
    }

    FaultFigures Look()
    {
        var seen = new int[Log.Written];
        var records = new HashSet<UInt128>();
        var lastOf = new Dictionary<(int Partition, UInt128 File), (long Offset, int Number)>();
        var messages = 0;
        foreach (var message in TopicContent.Read(Broker.Address, Topic))
        {
            messages++;
            var number = NumberOf(message.Value);
            seen[number]++;
            if (message.Header is null || !RecordHeader.TryRead(message.Header, out var offset, out var source) || !records.Add(source.RecordIdAt(offset, message.Value))) continue;
            // What arrives for the first time is in the order in which it was written, within its file and partition.
            var key = (message.Partition, source.FileId);
            if (lastOf.TryGetValue(key, out var last) && (offset <= last.Offset || number <= last.Number)) throw new InvalidOperationException($"Line {number} of {source.Path} came after line {last.Number}, seed {Seed}.");
            lastOf[key] = (offset, number);
        }

        var distinct = seen.Count(times => times > 0);
        var aside = 0;
        if (IsOurs && File.Exists(Ship.DeadLetterPath))
        {
            foreach (var letter in File.ReadLines(Ship.DeadLetterPath))
            {
                aside++;
                if (System.Text.Json.JsonDocument.Parse(letter).RootElement.TryGetProperty("line", out var line) && line.GetString() is { } text && text.Contains("\"param\":\"", StringComparison.Ordinal)) seen[NumberOf(System.Text.Encoding.UTF8.GetBytes(text))]++;
            }
        }

        var lost = Enumerable.Range(0, seen.Length).Where(number => seen[number] == 0).ToList();
        if (lost.Count > 0) Note($"lost {string.Join(", ", lost.Take(5))}{(lost.Count > 5 ? $" to {lost[^1]}" : "")}");
        return new FaultFigures(Log.Written, lost.Count, IsOurs ? records.Count - distinct : messages - distinct, messages - distinct, aside);
    }

    /// <summary>The number that a generated line carries.</summary>
    public static int NumberOf(ReadOnlySpan<byte> line)
    {
        var start = line.IndexOf("\"param\":\""u8) + "\"param\":\""u8.Length;
        var length = line[start..].IndexOf((byte)'"');
        return int.Parse(line.Slice(start, length), CultureInfo.InvariantCulture);
    }

    public async ValueTask DisposeAsync()
    {
        await Contender.DisposeAsync();
        Folder.Dispose();
    }
}
