using System.Text;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;
using static LogTrace.Tests.Indexer.ChainSample;

namespace LogTrace.Tests.Indexer;

/// <summary>Chains of random trees under random loss against models that are written down directly from the tree.</summary>
public sealed class ChainPropertyTests
{
    const int Cases = 10_000;

    /// <summary>A tree as it was before any loss: numbers as a scope hands them out, from 1 without holes.</summary>
    sealed class Call(Call? parent, int number)
    {
        public Call? Parent { get; } = parent;
        public int Number { get; } = number;
        public List<Call> Children { get; } = [];
        public string Id { get; } = parent is null ? $"{number}" : $"{parent.Id}.{number}";
        public int Depth { get; } = parent is null ? 0 : parent.Depth + 1;
        public bool Survives { get; set; }
    }

    static List<Call> RandomTree(Random random, int firstNumber)
    {
        var root = new Call(null, random.Next(3));
        var all = new List<Call> { root };
        var size = 1 + random.Next(random.Next(4) == 0 ? 80 : 20);
        while (all.Count < size)
        {
            // Sometimes the newest call, so that chains get deep; sometimes any, so that they get wide.
            var parent = random.Next(2) == 0 ? all[^1] : all[random.Next(all.Count)];
            var child = new Call(parent, firstNumber + parent.Children.Count);
            parent.Children.Add(child);
            all.Add(child);
        }

        return all;
    }

    [Fact]
    public void Every_survivor_keeps_its_depth_anchor_gap_and_order()
    {
        var seed = Environment.TickCount;
        for (var i = 0; i < Cases; i++)
        {
            var random = new Random(seed + i);
            var tree = RandomTree(random, firstNumber: 1);
            var loss = random.NextDouble();
            foreach (var call in tree) call.Survives = random.NextDouble() >= loss;
            var records = new List<IndexedRecord>();
            foreach (var call in tree.Where(call => call.Survives))
            {
                var hash = new UInt128(9, (ulong)records.Count);
                var copies = random.Next(5) == 0 ? 1 + random.Next(3) : 1;
                var at = random.Next(1_000_000);
                for (var copy = 0; copy < copies; copy++) records.Add(Record("http.get", call.Id, $"s{random.Next(4)}", at, lineHash: hash));
            }

            // Copies are byte-identical, so they name the same service.
            foreach (var copies in records.GroupBy(record => record.LineHash))
                foreach (var copy in copies) copy.Service = copies.First().Service;
            var shuffled = records.ToArray();
            random.Shuffle(shuffled);

            var chain = ChainBuilder.Build("t", shuffled, new ChainOptions { Reading = random.Next(2) == 0 ? ChainReading.Twins : ChainReading.Majority });

            Check(tree, chain, $"seed {seed} + {i}, loss {loss:P0}");
        }
    }

    static void Check(List<Call> tree, CallChain chain, string seed)
    {
        var nodes = chain.Nodes.ToDictionary(node => node.ToString());
        foreach (var call in tree.Where(call => call.Survives))
        {
            Expect(nodes.TryGetValue(call.Id, out var node) && !node.IsPlaceholder, $"{call.Id} is shown; {seed}");
            Expect(node.Depth == call.Depth, $"{call.Id} at depth {call.Depth}; {seed}");

            var anchor = call.Parent;
            while (anchor is { Survives: false }) anchor = anchor.Parent;
            var shown = node.Parent;
            var between = 0;
            for (; shown is { IsPlaceholder: true }; shown = shown.Value.Parent) between++;
            Expect(shown?.ToString() == anchor?.Id, $"{call.Id} under {anchor?.Id}; {seed}");
            Expect(between == call.Depth - (anchor?.Depth ?? -1) - 1, $"{call.Id} with the gap to {anchor?.Id}; {seed}");
        }

        // Siblings stand in the order of their numbers.
        var order = chain.Nodes.Select((node, index) => (node.ToString(), index)).ToDictionary();
        foreach (var call in tree)
        {
            var last = -1;
            foreach (var child in call.Children.Where(child => order.ContainsKey(child.Id)))
            {
                Expect(order[child.Id] > last, $"{child.Id} behind its elder sibling; {seed}");
                last = order[child.Id];
            }
        }

        HashSet<string> expected = [];
        foreach (var survivor in tree.Where(call => call.Survives))
            for (var call = survivor; call is not null; call = call.Parent) expected.Add(call.Id);
        Expect(chain.Nodes.Count == expected.Count, $"{expected.Count} nodes; {seed}");
        Expect(chain.PlaceholderCount == tree.Count(call => expected.Contains(call.Id) && !call.Survives), $"as many placeholders as lost ancestors; {seed}");
        Expect(chain.Resolved == !MayBeCut(tree.Where(call => call.Survives).Select(call => call.Id)), $"nothing ambiguous but where ids may have been cut; {seed}");
    }

    /// <summary>Several long ids of one length: so do ids look that a system cut at a limit, and nothing in them tells otherwise.</summary>
    static bool MayBeCut(IEnumerable<string> ids) => ids.Distinct().Where(id => id.Length >= 64).GroupBy(id => id.Length).Any(alike => alike.Count() > 1);

    /// <summary>The form our own logger writes: a call and its callee's request.info, events, forks.</summary>
    static List<IndexedRecord> ShopLike(Random random)
    {
        var tree = RandomTree(random, firstNumber: 2);
        var written = new List<IndexedRecord>();
        foreach (var call in tree)
        {
            var isFork = call.Parent is not null && call.Children.Count > 0 && random.Next(5) == 0;
            var isHandled = call.Parent is null || call.Children.Count > 0;
            if (call.Parent is not null && !isFork) written.Add(Record("http.get", call.Id, $"s{call.Depth}"));
            if (isFork) written.Add(Fork($"{call.Id}.1", $"s{call.Depth}"));
            else if (isHandled) written.Add(Record("request.info", $"{call.Id}.1", $"s{call.Depth + 1}"));
            if (random.Next(3) == 0) written.Add(Log($"{call.Id}.1", $"s{call.Depth + 1}"));
            if (random.Next(3) == 0 && call.Parent is not null) written.Add(Log(call.Id, $"s{call.Depth}"));
        }

        return written;
    }

    /// <summary>Loss is somebody's: all of it is some call's.</summary>
    [Fact]
    public void Known_loss_of_a_chain_is_that_of_its_calls()
    {
        var seed = Environment.TickCount;
        for (var i = 0; i < 2_000; i++)
        {
            var random = new Random(seed + i);
            var loss = random.NextDouble();
            var records = ShopLike(random).Where(_ => random.NextDouble() >= loss).ToArray();

            var document = ChainDocuments.From(ChainBuilder.Build("t", records));

            Expect(document.LostCount == document.Calls.Sum(call => call.LostCount), $"seed {seed} + {i}, loss {loss:P0}");
        }
    }

    [Fact]
    public void Record_that_arrives_later_takes_its_place_and_nothing_else_moves()
    {
        var seed = Environment.TickCount;
        for (var i = 0; i < 2_000; i++)
        {
            var random = new Random(seed + i);
            var loss = random.NextDouble();
            var records = ShopLike(random).Where(_ => random.NextDouble() >= loss).ToArray();
            if (records.Length < 2) continue;
            random.Shuffle(records);

            var (before, after) = (ChainBuilder.Build("t", records[1..]), ChainBuilder.Build("t", records));

            var places = after.Nodes.Select(node => $"{node} under {node.Parent}").ToList();
            var last = -1;
            foreach (var node in before.Nodes)
            {
                var place = places.IndexOf($"{node} under {node.Parent}");
                Expect(place > last, $"{node} stays where it is; seed {seed} + {i}, loss {loss:P0}");
                last = place;
                Expect(node.Records.All(after.Nodes[place].Records.Contains), $"{node} keeps what stands on it; seed {seed} + {i}, loss {loss:P0}");
            }

            // Only what it makes known is new: its own id, and those above it.
            var late = records[0].Record.RpcId!.Value.Text;
            var known = before.Nodes.Select(node => node.ToString()).ToHashSet();
            foreach (var node in after.Nodes.Where(node => !known.Contains(node.ToString())))
                Expect(late == node.ToString() || late.StartsWith($"{node}.", StringComparison.Ordinal), $"{node} comes with {late}; seed {seed} + {i}, loss {loss:P0}");
        }
    }

    /// <summary>
    /// What is lost is counted by a model that goes
    /// over ids as text, without any of the builder's ideas.
    /// </summary>
    [Fact]
    public void Loss_in_a_shop_like_trace_is_counted_as_a_naive_model_counts_it()
    {
        var seed = Environment.TickCount;
        for (var i = 0; i < 2_000; i++)
        {
            var random = new Random(seed + i);
            var written = ShopLike(random);
            var loss = random.NextDouble();
            var records = written.Where(_ => random.NextDouble() >= loss).ToArray();
            random.Shuffle(records);
            var expected = NaiveCounts(records);

            var chain = ChainBuilder.Build("t", records);

            var counts = (chain.PlaceholderCount, chain.GapCount, chain.CalleeOnlyCount);
            if (counts != expected) counts.Should().Be(expected, $"seed {seed} + {i}, loss {loss:P0}: {string.Join(", ", chain.Draw())}");
            Expect(chain.Resolved == !MayBeCut(records.Select(record => record.Record.RpcId!.Value.Text)), $"nothing ambiguous but where ids may have been cut; seed {seed} + {i}");
            chain.ShouldBeSound(records);
        }
    }

    static (int Placeholders, long Gaps, int CalleeOnly) NaiveCounts(IndexedRecord[] records)
    {
        static string ParentOf(string id) => id[..id.LastIndexOf('.')];
        var calls = new HashSet<string>();
        var handled = new HashSet<string>();
        var forks = new HashSet<string>();
        var events = new HashSet<string>();
        var ids = new HashSet<string>();
        foreach (var record in records)
        {
            var id = record.Record.RpcId!.Value.Text;
            var node = record.Kind != RecordKind.Client && id.EndsWith(".1", StringComparison.Ordinal) ? ParentOf(id) : id;
            (record.Kind switch { RecordKind.Client => calls, RecordKind.Server => handled, RecordKind.Internal => forks, _ => events }).Add(node);
            for (var above = node; ; above = ParentOf(above))
            {
                ids.Add(above);
                if (!above.Contains('.', StringComparison.Ordinal)) break;
            }
        }

        var placeholders = ids.Where(id => !calls.Contains(id) && !handled.Contains(id) && !forks.Contains(id) && !events.Contains(id)).ToHashSet();
        var calleeOnly = handled.Count(id => !calls.Contains(id) && id.Contains('.', StringComparison.Ordinal));
        long gaps = 0;
        foreach (var scope in ids)
        {
            var numbers = ids.Where(id => id.Contains('.', StringComparison.Ordinal) && ParentOf(id) == scope).Select(id => int.Parse(id[(scope.Length + 1)..])).ToHashSet();
            if (handled.Contains(scope) || forks.Contains(scope)) numbers.Add(1);
            var hasEvents = records.Any(record => record.Kind == RecordKind.Event && record.Record.RpcId!.Value.Text == $"{scope}.1");
            if (numbers.Count == 0 && !hasEvents) continue;
            for (var number = 1; number <= Math.Max(1, numbers.DefaultIfEmpty(0).Max()); number++)
                if (!numbers.Contains(number) && !(number == 1 && !scope.Contains('.', StringComparison.Ordinal) && placeholders.Contains(scope))) gaps++;
        }

        return (placeholders.Count, gaps, calleeOnly);
    }

    /// <summary>Zeros, jumps just within and beyond the limit, numbers made from traceparent, in any mixture: the rules of section 3 written down once more, over ids as text.</summary>
    [Fact]
    public void Numbers_of_every_kind_are_counted_as_a_naive_model_counts_them()
    {
        ulong[] numbers = [0, 1, 2, 3, 5, 999, 1_000, 1_001, 1_002, 1_003, 2_000, 2_004, 999_999, 1_000_000, 1_000_001, 1_000_900, 3_000_000, 3_000_005, 4_000_000_000, 9_999_999_999_999_999_998, 9_999_999_999_999_999_999];
        var seed = Environment.TickCount;
        for (var i = 0; i < 5_000; i++)
        {
            var random = new Random(seed + i);
            var ids = new List<string> { $"{random.Next(2)}" };
            for (var size = random.Next(15); size > 0; size--)
            {
                var id = $"{ids[random.Next(ids.Count)]}.{numbers[random.Next(random.Next(2) == 0 ? 5 : numbers.Length)]}";
                if (id.Length < 60 && !ids.Contains(id)) ids.Add(id);
            }

            var records = new List<IndexedRecord>();
            foreach (var id in ids)
            {
                var isCalled = random.Next(3) == 0;
                if (isCalled) records.Add(Record("http.get", id, "s"));
                if (random.Next(3) == 0) records.Add(Record(isCalled || random.Next(4) > 0 ? "request.info" : "fork.info", random.Next(4) == 0 && !id.EndsWith(".1", StringComparison.Ordinal) ? id : $"{id}.1", "s"));
                if (random.Next(6) == 0) records.Add(Log(id, "s"));
                if (random.Next(6) == 0) records.Add(Log($"{id}.1", "s"));
            }

            if (records.Count == 0) continue;
            var expected = CountByTheRules(records);

            var chain = ChainBuilder.Build("t", records, new ChainOptions { Reading = ChainReading.Pairs });

            var counts = (chain.PlaceholderCount, chain.ForeignCount, chain.GapCount, chain.CalleeOnlyCount);
            if (counts != expected) counts.Should().Be(expected, $"seed {seed} + {i}: {string.Join(", ", chain.Draw())}");
        }
    }

    static (int Placeholders, int Foreign, long Gaps, int CalleeOnly) CountByTheRules(List<IndexedRecord> records)
    {
        static string? ParentOf(string id) => id.LastIndexOf('.') is > 0 and var dot ? id[..dot] : null;
        static ulong NumberOf(string id) => ulong.Parse(id[(id.LastIndexOf('.') + 1)..], System.Globalization.CultureInfo.InvariantCulture);
        var at = records.ToLookup(record => record.Record.RpcId!.Value.Text is var id && record.Kind != RecordKind.Client && id.EndsWith(".1", StringComparison.Ordinal) ? ParentOf(id)! : id);
        var nodes = new HashSet<string>();
        foreach (var node in at.Select(group => group.Key))
            for (var above = node; above is not null; above = ParentOf(above)) nodes.Add(above);
        var irregular = new HashSet<string>();
        long gaps = 0;
        foreach (var scope in nodes)
        {
            bool IsAtOne(RecordKind kind) => records.Exists(record => record.Kind == kind && record.Record.RpcId!.Value.Text == $"{scope}.1");
            var children = nodes.Where(node => ParentOf(node) == scope).Select(NumberOf).ToHashSet();
            var used = new SortedSet<ulong>(children.Where(number => number > 0));
            if (IsAtOne(RecordKind.Server) || IsAtOne(RecordKind.Internal)) used.Add(1);
            var lacksOne = used.Count == 0 && (IsAtOne(RecordKind.Event) || children.Contains(0));
            var (last, isBehindJump) = (0ul, false);
            foreach (var number in used)
            {
                var jumps = number - last > 1_000;
                isBehindJump = jumps || (isBehindJump && number >= 1_000_000);
                if (isBehindJump) irregular.Add($"{scope}.{number}");
                if (!jumps)
                {
                    gaps += (long)(number - last) - 1;
                    lacksOne |= last == 0 && number > 1;
                    if (last == 0 && number > 1) gaps--; // counted below
                }
                else if (last == 0)
                {
                    lacksOne |= IsAtOne(RecordKind.Event);
                }

                last = number;
            }

            var isTopThatCounts = ParentOf(scope) is null && !at.Contains(scope);
            if (lacksOne && !isTopThatCounts) gaps++;
        }

        var missing = nodes.Where(node => !at.Contains(node)).ToList();
        var foreign = missing.Count(node => nodes.Where(child => ParentOf(child) == node).All(child => irregular.Contains(child) && NumberOf(child) >= 1_000_000));
        var calleeOnly = at.Count(group => group.Any(record => record.Kind == RecordKind.Server) && group.All(record => record.Kind != RecordKind.Client) && ParentOf(group.Key) is not null && !irregular.Contains(group.Key));
        return (missing.Count - foreign, foreign, gaps, calleeOnly);
    }

    [Fact]
    public void Random_records_never_throw_and_are_all_placed_once()
    {
        var seed = Environment.TickCount;
        string[] names = ["http.get", "request.info", "fork.info", "log.info", "mysql.connect", "mysql.request", "metric.counter", "x", ""];
        string?[] spans = [null, "a", "b", "c", ""];
        for (var i = 0; i < 3_000; i++)
        {
            var random = new Random(seed + i);
            var records = new IndexedRecord[random.Next(30)];
            for (var r = 0; r < records.Length; r++)
            {
                var id = random.Next(12) == 0 ? null : string.Join('.', Enumerable.Range(0, 1 + random.Next(5)).Select(_ => random.Next(8) == 0 ? random.NextInt64().ToString() : random.Next(3).ToString()));
                records[r] = Record(
                    names[random.Next(names.Length)], id, random.Next(3) == 0 ? null : $"s{random.Next(3)}", random.Next(5) == 0 ? long.MaxValue - random.Next(3) : random.Next(10),
                    random.Next(5) == 0 ? long.MaxValue : random.Next(10), spans[random.Next(5)], spans[random.Next(5)], $"10.0.0.{random.Next(2)}", $"{random.Next(2)}",
                    random.Next(2) == 0 ? null : $"s{random.Next(3)}", lineHash: (UInt128)random.Next(20), sampled: random.Next(10) == 0 ? true : null);
            }

            var reading = (ChainReading)random.Next(3);
            var build = () => ChainBuilder.Build("t", records, new ChainOptions { Reading = reading });
            CallChain chain;
            try
            {
                chain = build();
                chain.ShouldBeSound(records);
                Expect(ChainDocuments.From(chain).RowsTotal == chain.Rows().Count(), "every row is drawn");
                var json = chain.Json().ToString();
                random.Shuffle(records);
                Expect(build().Json().ToString() == json, "the order of arrival changes nothing");
            }
            catch (Exception exception)
            {
                throw new Xunit.Sdk.XunitException($"seed {seed} + {i}: {exception}");
            }
        }
    }

    [Fact]
    public void Lines_delivered_again_change_nothing_but_the_positions()
    {
        var seed = Environment.TickCount;
        string[] names = ["http.get", "request.info", "fork.info", "mysql.connect", "mysql.request", "redis.request"];
        string?[] spans = [null, "a", "b", "c"];
        for (var i = 0; i < 2_000; i++)
        {
            var random = new Random(seed + i);
            var once = new List<IndexedRecord>();
            var again = new List<IndexedRecord>();
            for (var r = 1 + random.Next(12); r > 0; r--)
            {
                var id = "1" + string.Concat(Enumerable.Range(0, random.Next(4)).Select(_ => $".{1 + random.Next(3)}"));
                var (name, at, hash) = (names[random.Next(names.Length)], random.Next(5), new UInt128(7, (ulong)r));
                var (service, span, parentSpan) = (random.Next(3) == 0 ? null : $"s{random.Next(3)}", spans[random.Next(4)], spans[random.Next(4)]);
                IndexedRecord Deliver() => Record(name, id, service, at, span: span, parentSpan: parentSpan, peer: "s1", lineHash: hash);
                var first = Deliver();
                once.Add(first);
                again.Add(first);
                for (var copies = random.Next(3); copies > 0; copies--) again.Add(Deliver());
            }

            var shuffled = again.ToArray();
            random.Shuffle(shuffled);
            var expected = ChainBuilder.Build("t", once);

            var chain = ChainBuilder.Build("t", shuffled);

            Expect(WithoutPositions(chain) == WithoutPositions(expected), $"a second delivery changes nothing; seed {seed} + {i}");
            Expect(chain.DuplicateCount == again.Count - once.Count && chain.RecordCount == again.Count, $"copies are counted; seed {seed} + {i}");
            chain.ShouldBeSound(shuffled);
        }

        static string WithoutPositions(CallChain chain)
        {
            var json = System.Text.Json.Nodes.JsonNode.Parse(chain.Json().GetRawText())!.AsObject();
            json.Remove("record_count");
            foreach (var node in json["nodes"]!.AsArray()) node!.AsObject().Remove("records");
            return json.ToJsonString();
        }
    }

    /// <summary>Packed ids that are equal in their first half, in both, or too long to be packed, in traces around the size at which few records are sorted another way.</summary>
    [Fact]
    public void Few_records_stand_in_id_order_however_deep_their_ids_are_and_however_often_they_come()
    {
        var seed = Environment.TickCount;
        for (var i = 0; i < 3_000; i++)
        {
            var random = new Random(seed + i);
            var above = string.Concat(Enumerable.Repeat("1.", random.Next(40)));
            var records = Enumerable.Range(0, 1 + random.Next(24)).Select(_ =>
            {
                var id = above + string.Join('.', Enumerable.Range(0, 1 + random.Next(3)).Select(_ => random.Next(random.Next(4) == 0 ? 2_000_000 : 12)));
                return Record(random.Next(3) == 0 ? "log.info" : "http.get", id, $"s{random.Next(2)}", random.Next(3));
            }).ToArray();

            var chain = ChainBuilder.Build("t", records);

            chain.ShouldBeSound(records);
            random.Shuffle(records);
            Expect(ChainBuilder.Build("t", records).Draw().SequenceEqual(chain.Draw()), $"the same chain in whatever order they come; seed {seed} + {i}");
        }
    }

    [Fact]
    public void Random_bytes_through_codec_and_chain_never_throw()
    {
        var seed = Environment.TickCount;
        var pieces = new[] { "{", "}", "\"rpc_id\":", "\"1.2.3\"", "\"1..2\"", "\"" + new string('9', 1_000_000) + "\"", "\"\"", "\"x_trace_id\":\"t\"", ",", "\"timestamp\":", "17", "-1e308", "\"name\":\"request.info\"", "\\u0000", "\uFFFD", "[", "null", "\"" };
        var read = 0;
        for (var i = 0; i < 1_000; i++)
        {
            var random = new Random(seed + i);
            var records = new List<IndexedRecord>();
            for (var line = 0; line < 5; line++)
            {
                byte[] bytes;
                if (random.Next(2) == 0) random.NextBytes(bytes = new byte[random.Next(200)]);
                else
                {
                    var text = new StringBuilder("{\"timestamp\":1506480162,\"trace_id\":\"t\"");
                    for (var piece = random.Next(6); piece > 0; piece--) text.Append(pieces[random.Next(pieces.Length)]);
                    bytes = Encoding.UTF8.GetBytes(text.Append(random.Next(2) == 0 ? "}" : $",\"rpc_id\":\"1.{random.Next(4)}\"}}").ToString());
                }

                if (RecordCodec.TryRead(bytes, out var record, out var reason)) records.Add(RecordDeriver.Derive(record, (UInt128)line, (UInt128)line, "f", line, 0));
                else Expect(!string.IsNullOrEmpty(reason), $"a reason; seed {seed} + {i}");
            }

            read += records.Count;
            ChainBuilder.Build("t", records).ShouldBeSound(records);
        }

        read.Should().BePositive();
    }

    [Fact]
    public void Deepest_and_widest_ids_build_without_recursion()
    {
        var deepest = string.Join('.', Enumerable.Repeat("1", RpcId.MaxSegments));
        var chain = ChainBuilder.Build("t", [Record("http.get", deepest, "s")], ChainOptions.Twins);
        chain.Nodes.Should().HaveCount(RpcId.MaxSegments);
        chain.PlaceholderCount.Should().Be(RpcId.MaxSegments - 1);

        var wide = Enumerable.Range(1, 100_000).Select(number => Record("http.get", $"1.{number}", "s")).ToArray();
        ChainBuilder.Build("t", wide).Nodes.Should().HaveCount(100_001);
    }

    /// <summary>A counter that somebody resets leaves as many executions as records. Going over them for each record would take minutes here, which whoever runs it notices.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Thousands_of_executions_of_one_id_are_told_apart(bool hasSpans)
    {
        var records = new List<IndexedRecord>();
        for (var i = 0; i < 60_000; i++)
        {
            var (call, scope, service) = ($"c{i}", $"s{i}", $"s{i % 3}");
            records.Add(Record("http.get", "1.2", service, i, span: hasSpans ? call : null, parentSpan: hasSpans ? "top" : null, pid: $"{i % 7}"));
            records.Add(Record("request.info", "1.2.1", $"s{(i + 1) % 3}", i, span: hasSpans ? scope : null, parentSpan: hasSpans ? call : null, pid: $"{i % 5}"));
            records.Add(Record(i % 2 == 0 ? "mysql.connect" : "mysql.request", "1.2.2", $"s{(i + 1) % 3}", i, parentSpan: hasSpans ? scope : null, pid: $"{i % 5}"));
            records.Add(Record("log.info", "1.2.2", $"s{(i + 1) % 3}", i, span: hasSpans ? scope : null, pid: $"{i % 5}"));
            records.Add(Record("log.info", "1.2.1", $"s{(i + 1) % 3}", i, span: hasSpans ? scope : null, pid: $"{i % 5}"));
        }

        var chain = ChainBuilder.Build("t", records);

        chain.ShouldBeSound(records);
        if (hasSpans) chain.Nodes.Count(node => node.IdText is "1.2" && node is { Caller: not null, Callee: not null, IsAmbiguous: false }).Should().Be(60_000);
    }
}
