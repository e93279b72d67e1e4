using System.Globalization;
using System.Text;
using LogTrace.Tests.Support;
using Xunit.Abstractions;

namespace LogTrace.Tests.Shipper;

/// <summary>
/// Random programs of a writer, a rotation and a shipper that stops, crashes and loses its other side, against a plain model: every line written
/// arrives, with and without hints of the kernel and with some of them lost, and after removing equal record ids it arrives once and in the order of its file. Only what was emptied or deleted before it was read may miss.
/// </summary>
public sealed class RandomShippingTests(ITestOutputHelper output)
{
    [Fact]
    public void Every_line_arrives_once_whatever_happens_to_its_file()
    {
        var seed = TestSeed.Given ?? Random.Shared.Next();
        var programs = int.TryParse(Environment.GetEnvironmentVariable("LOGTRACE_TEST_PROGRAMS"), CultureInfo.InvariantCulture, out var count) ? count : 150;
        for (var i = 0; i < programs; i++)
        {
            using var program = new Program(unchecked(seed + i));
            try
            {
                program.Run();
            }
            catch (Exception e)
            {
                output.WriteLine(string.Join(Environment.NewLine, program.Steps));
                throw new InvalidOperationException($"LOGTRACE_TEST_SEED={unchecked(seed + i)} LOGTRACE_TEST_PROGRAMS=1: {e.Message}{Environment.NewLine}{string.Join("; ", program.Steps)}", e);
            }
        }
    }

    sealed class Program(int seed) : IDisposable
    {
        readonly Random _random = new(seed);

        // Decided by the seed, so that a program is the same with each.
        readonly Hints _hints = (Hints)((uint)seed % 3);
        readonly ShipperRig _rig = new(o => o with { BatchBytes = 1024, MaxInFlightBatches = 3, Hints = (Hints)((uint)seed % 3) != Hints.Off })
        {
            LosesHint = (Hints)((uint)seed % 3) == Hints.Lossy ? Losing(new Random(~seed)) : null,
        };

        readonly List<string> _written = [];
        readonly HashSet<string> _mayMiss = [];
        readonly Dictionary<string, (string Text, string Line)> _unfinished = [];

        // Lines whose only copy is a deleted file that the running shipper may still hold open.
        readonly List<string> _heldOpen = [];
        readonly List<string> _inApp = [];

        // Their writer may still be at work.
        readonly List<string> _renamed = [];
        readonly HashSet<string> _unseen = [];
        readonly HashSet<string> _copied = [];
        readonly HashSet<string> _mayDouble = [];
        int _line;
        int _rotation;
        bool _isRunning;

        // Whether the running shipper has app.log open, and whether the beginning of its present content is in a checkpoint.
        bool _isSeen;
        bool _isKnown;

        enum Hints
        {
            On,
            Off,
            Lossy,
        }

        public List<string> Steps { get; } = [];

        // Some or all of them.
        static Func<bool> Losing(Random random)
        {
            var share = random.Next(1, 5) / 4.0;
            return () => random.NextDouble() < share;
        }

        public void Run()
        {
            Say($"hints {_hints}");
            var steps = _random.Next(5, 40);
            for (var i = 0; i < steps; i++) Step();
            Say("end");
            _rig.Writer.IsDown = _rig.Writer.IsHeld = false;
            _rig.Writer.Release();
            if (!_isRunning) _rig.Start();
            _rig.Ship();
            Check();
        }

        void Step()
        {
            switch (_random.Next(17))
            {
                case <= 4: Write("app.log"); break;
                case 5: WriteToRotated(); break;
                case 6: Rename(); break;
                case 7: CopyTruncate(); break;
                case 8: Truncate(); break;
                case 9: Delete(); break;
                case 10: StopOrStart(); break;
                case 11: Crash(); break;
                case 12: ChangeOtherSide(); break;
                default: Turns(); break;
            }
        }

        void Say(string step) => Steps.Add(step);

        void Write(string name)
        {
            var text = new StringBuilder();
            var lines = _random.Next(1, 12);
            for (var i = 0; i < lines; i++)
            {
                if (_random.Next(10) == 0) text.Append(_random.Next(2) == 0 ? "\n" : "\r\n");
                var line = $"line {_line++} {new string('x', _random.Next(_random.Next(8) == 0 ? 900 : 30))}";
                _written.Add(line);
                if (name == "app.log") _inApp.Add(line);
                text.Append(line).Append(_random.Next(6) == 0 ? "\r\n" : "\n");
            }

            if (_unseen.Contains(name)) _mayMiss.UnionWith(_written.TakeLast(lines));

            // The last line may be torn; it is finished by the next write to the same file.
            var rest = _unfinished.Remove(name, out var left) ? left.Text : "";
            var whole = rest + text;
            var cut = _random.Next(3) == 0 ? whole.Length - _random.Next(1, _written[^1].Length) : whole.Length;
            if (cut < whole.Length) _unfinished[name] = (whole[cut..], _written[^1]);
            _rig.Append(name, whole[..cut]);
            Say($"write {lines} to {name}{(cut < whole.Length ? " torn" : "")}");
        }

        void WriteToRotated()
        {
            if (_renamed.Count > 0) Write(_renamed[_random.Next(_renamed.Count)]);
        }

        // Inside the pattern or outside it.
        string NewName() => _random.Next(2) == 0 ? $"app-{_rotation++:d3}.log" : $"app.log.{_rotation++:d3}";

        void Rename()
        {
            if (!File.Exists(_rig.Log("app.log"))) return;
            var name = NewName();
            // Never seen under a name that is asked for, it may belong to anybody.
            if (!_isKnown && !name.EndsWith(".log", StringComparison.Ordinal)) _unseen.Add(name);
            _rig.Move("app.log", name);
            _renamed.Add(name);
            if (_unseen.Contains(name)) _mayMiss.UnionWith(_inApp);
            _inApp.Clear();
            if (_unfinished.Remove("app.log", out var left)) _unfinished[name] = left;
            _isSeen = _isKnown = false;
            Say($"rename to {name}");
        }

        void CopyTruncate()
        {
            if (!File.Exists(_rig.Log("app.log"))) return;
            FinishLine();
            var name = NewName();
            File.Copy(_rig.Log("app.log"), _rig.Log(name));
            _copied.UnionWith(Present(name));
            var wasKnown = _isKnown;
            _isKnown = false;
            _rig.Truncate("app.log");
            _inApp.Clear();
            if (!wasKnown && !name.EndsWith(".log", StringComparison.Ordinal)) _mayMiss.UnionWith(Present(name));
            Say($"copytruncate to {name}");
        }

        void Truncate()
        {
            if (!File.Exists(_rig.Log("app.log"))) return;
            FinishLine();
            foreach (var line in Present("app.log")) _mayMiss.Add(line);
            _rig.Truncate("app.log");
            _inApp.Clear();
            _isKnown = false;
            Say("truncate");
        }

        void Delete()
        {
            if (!File.Exists(_rig.Log("app.log"))) return;
            FinishLine();
            // Held open, it is finished, unless the shipper ends before that.
            if (_isRunning && _isSeen) _heldOpen.AddRange(Present("app.log"));
            else foreach (var line in Present("app.log")) _mayMiss.Add(line);
            // With the original gone before a copy was seen, only a long equal beginning proves that it is one.
            _mayDouble.UnionWith(_copied);
            File.Delete(_rig.Log("app.log"));
            _inApp.Clear();
            _isSeen = _isKnown = false;
            Say("delete");
        }

        void FinishLine()
        {
            if (_unfinished.Remove("app.log", out var left)) _rig.Append("app.log", left.Text);
        }

        string[] Present(string name) => File.ReadAllLines(_rig.Log(name));

        void StopOrStart()
        {
            if (_isRunning)
            {
                Say("stop");
                _rig.Stop();
                Gone();
            }
            else
            {
                Say("start");
                _rig.Start();
                _isRunning = true;
            }
        }

        void Crash()
        {
            if (!_isRunning) return;
            Say("crash");
            _rig.Crash();
            Gone();
        }

        void Gone()
        {
            _rig.Writer.Forget(arrived: _random.Next(4));
            _isRunning = _isSeen = false;
            _mayMiss.UnionWith(_heldOpen);
            _heldOpen.Clear();
        }

        void ChangeOtherSide()
        {
            switch (_random.Next(4))
            {
                case 0: _rig.Writer.IsDown = true; _rig.Writer.FailAll(_random.Next(3)); Say("down"); break;
                case 1: _rig.Writer.IsDown = false; Say("up"); break;
                case 2: _rig.Writer.IsHeld = true; Say("hold"); break;
                default: _rig.Writer.IsHeld = false; _rig.Writer.Release(); Say("release"); break;
            }
        }

        void Turns()
        {
            if (!_isRunning) return;
            var turns = _random.Next(1, 6);
            for (var i = 0; i < turns; i++)
            {
                var search = _random.Next(3) == 0;
                var searches = _rig.Pipeline.Searches;
                _rig.Turn(search);
                // Hints that are all there make up for a search that was spared.
                if (_rig.Pipeline.Searches > searches || (search && _hints == Hints.On))
                {
                    _isSeen = File.Exists(_rig.Log("app.log"));
                    _isKnown = _isSeen && File.ReadAllText(_rig.Log("app.log")).Contains('\n');
                    _copied.Clear();
                }

                if (_random.Next(3) == 0) _rig.Writer.Release(1);
            }

            Say($"{turns} turns");
        }

        void Check()
        {
            var torn = _unfinished.Values.Select(u => u.Line).ToHashSet();
            var distinct = _rig.Writer.Lines.DistinctBy(l => l.RecordId).ToList();
            var missing = _written.Except(distinct.Select(l => l.Text)).Where(w => !_mayMiss.Contains(w) && !torn.Contains(w)).ToList();
            missing.Should().BeEmpty();
            distinct.GroupBy(l => l.Text).Where(g => g.Count() > 1 && !_mayDouble.Contains(g.Key)).Select(g => g.Key).Should().BeEmpty("each line is one record");
            distinct.Select(l => l.Text).Except(_written).Should().BeEmpty("nothing arrives that was not written");
            foreach (var file in distinct.GroupBy(l => l.Source.FileId)) file.Select(l => l.Offset).Should().BeInAscendingOrder("a file keeps its order");
            _rig.Counts.Balances.Should().BeTrue();
            _rig.Counts.ShippedLines.Should().BeInRange(distinct.Count - _mayMiss.Count - _mayDouble.Count, distinct.Count);
        }

        public void Dispose() => _rig.Dispose();
    }
}
