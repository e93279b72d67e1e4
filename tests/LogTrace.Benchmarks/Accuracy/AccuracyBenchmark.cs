using System.Globalization;
using System.Text;
using LogTrace.Indexer;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Accuracy;

/// <summary>How right chains are when records are lost or spoilt, beside the rules of systems that link spans by their parent's id.</summary>
static class AccuracyBenchmark
{
    static readonly string[] s_columns =
    [
        "input", "loss", "lost %", "rule", "depth", "anchor", "orphans' anchor", "gap", "edge P", "edge R", "ancestor P", "ancestor R", "order", "visible", "exact traces", "tops/trace",
    ];

    /// <param name="traces">Made traces, and shapes taken; the sample of ids is always taken whole.</param>
    /// <param name="repetitions">Draws of each loss.</param>
    public static void Run(int traces, int repetitions, int seed, string? alibaba, string? shapes, Report report)
    {
        var inputs = new List<Input> { new("G1 made", Inputs.Generate(traces, seed), Learn(seed)) };
        if (Inputs.AlibabaIds(alibaba, seed) is { } ids) inputs.Add(new("G2 Alibaba 2021 ids", ids, null));
        if (Inputs.Shapes(shapes, traces, seed) is { } graphs) inputs.Add(new("G3 call graph shapes", graphs, null));
        LossVisibility(PureLoss(inputs, repetitions, seed, report), report);
        Harmless(traces, seed, report);
        SpoiltIds(traces, seed, report);
        MalformedIds(traces, seed, report);
    }

    /// <param name="Known">What an indexer has learnt from traces before these; null where there are none of the same kind.</param>
    sealed record Input(string Name, List<TrueTrace> Traces, HopKnowledge? Known);

    /// <param name="Alone">What the trace alone tells, without what was learnt before.</param>
    sealed record Ours(string Input, string Loss, Score Score, Score Alone);

    /// <summary>The indexer has been running for a while: it has built chains of other traces of the same services, in which a record was lost now and then.</summary>
    static HopKnowledge Learn(int seed)
    {
        const int Earlier = 2_000, LostPercent = 5;
        var learnt = 0;
        var known = new HopKnowledge(TimeSpan.Zero);
        var random = new Random(seed + 1_000);
        foreach (var trace in Inputs.Generate(Earlier, seed + 1_000))
        {
            IndexedRecord[] records = [.. trace.Records.Where(_ => random.Next(100) >= LostPercent).Select(record => record.Record)];
            known.Learn(ChainBuilder.Build($"earlier-{learnt++}", records, new ChainOptions { Reading = trace.Reading }));
        }

        return known;
    }

    static List<Ours> PureLoss(List<Input> inputs, int repetitions, int seed, Report report)
    {
        var rows = new List<string[]>();
        var ours = new List<Ours>();
        var isMet = true;
        foreach (var (name, traces, known) in inputs)
        {
            foreach (var loss in Loss.All)
            {
                var asItRuns = known is null ? Rebuilder.LogTrace : Rebuilder.After(known);
                foreach (var rule in (Rebuilder[])[asItRuns, .. Rebuilder.Others])
                {
                    var (score, lost) = Measure(traces, loss, rule, repetitions, seed);
                    if (rule == asItRuns)
                    {
                        isMet &= score.IsExact;
                        ours.Add(new Ours(name, loss.Name, score, known is null ? score : Measure(traces, loss, Rebuilder.LogTrace, repetitions, seed).Score));
                    }

                    rows.Add(
                    [
                        name, loss.Name, lost.ToString(), rule.Name, $"{score.Depth}", $"{score.Anchor}", $"{score.OrphanAnchor}", $"{score.Gap}", $"{score.EdgePrecision}", $"{score.EdgeRecall}",
                        $"{score.AncestorPrecision}", $"{score.AncestorRecall}", $"{score.Order}", $"{score.Visible}", $"{score.Exact}", Ratio(score.Tops, score.Traces),
                    ]);
                }
            }
        }

        report.Table(
            "Records lost, ids intact",
            $"Percent, rounded down, counted over the records that are left; seed {seed}, {repetitions} draws of each loss. The bar: 100.00 everywhere and one top for LogTrace{(isMet ? ", met" : ", NOT MET")}.",
            s_columns, rows, isMet);
        return ours;
    }

    static (Score Score, Share Lost) Measure(List<TrueTrace> traces, Loss loss, Rebuilder rule, int repetitions, int seed)
    {
        var score = new Score();
        var share = new Share();
        for (var repetition = 0; repetition < repetitions; repetition++)
        {
            // The same draws for every rule.
            var random = new Random(seed + repetition);
            var lost = loss.Pick(traces, random);
            foreach (var trace in traces)
            {
                List<TrueRecord> survivors = [.. trace.Records.Where(record => !lost.Contains(record))];
                var all = trace.Records.Count();
                (share.Right, share.All) = (share.Right + all - survivors.Count, share.All + all);
                score.Count(trace, Shuffled(survivors, random), rule.Show(trace, survivors));
            }
        }

        return (score, share);
    }

    static List<TrueRecord> Shuffled(List<TrueRecord> records, Random random)
    {
        random.Shuffle(System.Runtime.InteropServices.CollectionsMarshal.AsSpan(records));
        return records;
    }

    static void LossVisibility(List<Ours> ours, Report report)
    {
        var rows = new List<string[]>();
        var isMet = true;
        foreach (var input in ours.GroupBy(it => it.Input))
        {
            Share names = new(), wrong = new(), alone = new();
            foreach (var (_, loss, score, without) in input)
            {
                names.Add(score.Name);
                wrong.Add(score.WrongName);
                alone.Add(without.Name);
                rows.Add(
                [
                    input.Key, loss, score.LostCalls.ToString("N0", CultureInfo.InvariantCulture), Percent(score.AsPlaceholder, score.LostCalls), Percent(score.AsGap, score.LostCalls),
                    Percent(score.LostCalls - score.AsPlaceholder - score.AsGap, score.LostCalls), $"{score.PlaceholderPrecision}", $"{score.GapPrecision}", $"{score.Name}", $"{score.WrongName}", $"{without.Name}",
                ]);
            }

            rows.Add([input.Key, "all", "", "", "", "", "", "", $"{names}", $"{wrong}", $"{alone}"]);
            if (input.Key.StartsWith("G1", StringComparison.Ordinal)) isMet &= names.Right >= 0.95 * names.All;
        }

        report.Table(
            "What is known of the lost calls",
            "A call of which every record is lost shows as a placeholder, as a missing number, or not at all (silent: nothing below it and no number after it). Percent; the bar: of all placeholders on G1, whatever was " +
            "lost, at least 95 % are named rightly. Counted are all placeholders, those too that nothing is left to name by. A placeholder's name is always shown as inferred: from calls below it, from the address that requests below it came from, and from what " +
            "the indexer learnt from earlier traces, here 2,000 with 5 % of the records lost: which service is at an address, and what each kind of request calls. Of G2 and G3 there are none: their services are drawn for each trace.",
            ["input", "loss", "calls lost", "as placeholder", "as missing number", "silent", "placeholders that are losses", "missing numbers that are losses", "placeholders named rightly", "wrongly", "rightly by the trace alone"], rows, isMet);
    }

    /// <summary>Repeated delivery and wrong clocks change nothing.</summary>
    static void Harmless(int traces, int seed, Report report)
    {
        var input = Inputs.Generate(traces, seed);
        var rows = new List<string[]>();
        var isMet = true;
        Measure("D1 delivered again", Defects.DeliverAgain);
        foreach (var millis in (int[])[0, 10, 100, 1_000])
        {
            Measure($"D5 clocks off by {millis} ms", (records, random) => Defects.SkewClocks(records, random, TimeSpan.FromMilliseconds(millis), false));
            Measure($"D5 clocks off by {millis} ms, whole seconds", (records, random) => Defects.SkewClocks(records, random, TimeSpan.FromMilliseconds(millis), true));
        }

        report.Table("Harmless defects", "With 10 % of the records lost; the bar: everything as without the defect.", ["defect", "exact traces", "wrong and not flagged", "flagged", "same as without"], rows, isMet);

        void Measure(string name, Func<IReadOnlyList<TrueRecord>, Random, List<TrueRecord>> spoil)
        {
            var random = new Random(seed);
            var score = new Score();
            var differing = 0;
            foreach (var trace in input)
            {
                List<TrueRecord> survivors = [.. trace.Records.Where(_ => random.Next(10) != 0)];
                var arrived = Shuffled(spoil(survivors, random), random);
                var shown = Rebuilder.LogTrace.Show(trace, arrived);
                score.Count(trace, arrived, shown);
                if (Outline(shown.Chain!) != Outline(Rebuilder.LogTrace.Show(trace, survivors).Chain!)) differing++;
            }

            var isRight = score.IsExact && score.WrongAndUnflagged.Right == 0 && differing == 0;
            isMet &= isRight;
            rows.Add([name, $"{score.Exact}", $"{score.WrongAndUnflagged}", $"{score.Flagged}", differing == 0 ? "yes" : $"NO ({differing} of {input.Count})"]);
        }
    }

    static string Outline(CallChain chain) => string.Join('\n', chain.Rows().Select(row => row.Node is { } node
        ? $"{node} {node.Caller is not null} {node.Callee is not null} {node.CallerService}>{node.CalleeService} {node.IsPlaceholder} {node.IsCalleeOnly} {node.IsAmbiguous}"
        : row.Gap.ToString()));

    static void SpoiltIds(int traces, int seed, Report report)
    {
        (string Name, Telling Telling)[] tellings =
        [
            ("span ids", new Telling()), ("others' span ids", new Telling(Bound: false)), ("service, host, pid", new Telling(Spans: false)), ("service", new Telling(Spans: false, Instances: false)), ("nothing", new Telling(false, false, false)),
        ];
        (string Name, Action<IReadOnlyList<TrueCall>, Random>? Ids, Func<IReadOnlyList<TrueRecord>, Random, List<TrueRecord>>? Records, int Deepest)[] defects =
        [
            ("D2 shared counter", Defects.ShareCounter, null, Inputs.UsualDepth), ("D3 counter reset", Defects.ResetCounter, null, Inputs.UsualDepth), ("D4 ids cut", null, Defects.CutIds, 60),
            ("D6 names unknown or wrong", null, Defects.LoseNames, Inputs.UsualDepth),
        ];
        var rows = new List<string[]>();
        var isMet = true;
        foreach (var (defect, ids, records, deepest) in defects)
        {
            foreach (var (telling, what) in tellings)
            {
                var input = Inputs.Generate(traces, seed, what, ids, deepest);
                foreach (var loss in (int[])[0, 10])
                {
                    Score ours = new(), names = new();
                    var random = new Random(seed);
                    foreach (var trace in input)
                    {
                        List<TrueRecord> arrived = [.. trace.Records.Where(_ => random.Next(100) >= loss)];
                        if (records is not null) arrived = records(arrived, random);
                        Shuffled(arrived, random);
                        ours.Count(trace, arrived, Rebuilder.LogTrace.Show(trace, arrived));
                        names.Count(trace, arrived, Rebuilder.ByNames.Show(trace, arrived));
                    }

                    // With nothing lost, and with losses where span ids tell the executions apart, nothing is wrong without being said.
                    var asked = telling == "span ids" || (loss == 0 && telling != "nothing");
                    if (asked) isMet &= ours.WrongAndUnflagged.Right == 0;
                    isMet &= ours.Placed.Right >= names.Placed.Right;
                    rows.Add([defect, telling, $"{loss}", $"{ours.WrongAndUnflagged}", ours.WrongAndUnflagged.Right.ToString("N0", CultureInfo.InvariantCulture), asked ? "0" : "", $"{ours.Flagged}", $"{ours.Placed}", $"{names.Placed}", $"{names.WrongAndUnflagged}"]);
                }
            }
        }

        report.Table(
            "Ids used twice, names spoilt",
            "Share of the records, percent: wrong = under a wrong anchor (one that holds several calls is none of them) or in company of another call's records. Beside it: matching called with calling service (um = dm). " +
            "The bar: none wrong and not flagged where a number stands for it, and nowhere fewer rightly placed than by um = dm. Span ids of LogTrace's logger are bound to the call that caused them, which tells where a request belongs whose caller's " +
            "records are all lost; of others' that cannot be told.",
            ["defect", "records tell", "lost %", "wrong and not flagged", "records", "bar", "flagged", "rightly placed", "um = dm rightly placed", "um = dm wrong and not flagged"], rows, isMet);
    }

    /// <summary>D7: lines with an id that is none come among those of a trace.</summary>
    static void MalformedIds(int traces, int seed, Report report)
    {
        (string Name, string Id)[] ids =
        [
            ("empty", ""), ("empty segment", "1..2"), ("dot at the end", "1.2."), ("leading zero", "1.01"), ("letters", "1.a"), ("sign", "1.-2"), ("10^6 digits", new string('9', 1_000_000)),
            ("10^6 segments", string.Join('.', Enumerable.Repeat("1", 1_000_000))), ("other digits", "1.\u0662"),
        ];
        var input = Inputs.Generate(traces, seed);
        var rows = new List<string[]>();
        var isMet = true;
        foreach (var (name, id) in ids)
        {
            var line = Encoding.UTF8.GetBytes($$"""{"name":"http.get","trace_id":"t","rpc_id":"{{id}}","timestamp":1795300000,"service":"s0"}""");
            var isRead = RecordCodec.TryRead(line, out var record, out var reason);
            var extra = isRead ? RecordDeriver.Derive(record!, 1, 1, "malformed.log", 0, 0) : null;
            int differing = 0, failed = 0;
            foreach (var trace in input)
            {
                List<IndexedRecord> records = [.. trace.Records.Select(written => written.Record)];
                var options = new ChainOptions { Reading = trace.Reading };
                var expected = Outline(ChainBuilder.Build("t", records, options));
                if (extra is not null) records.Insert(records.Count / 2, extra);
                try
                {
                    if (Outline(ChainBuilder.Build("t", records, options)) != expected) differing++;
                }
                catch (Exception exception) // whatever it is, it is what this looks for
                {
                    Console.Error.WriteLine($"{name}: {exception}");
                    failed++;
                }
            }

            isMet &= differing + failed == 0 && (isRead || !string.IsNullOrEmpty(reason));
            rows.Add([name, isRead ? "no: shown on the top, as a record without an id" : $"yes: {reason}", $"{failed}", differing == 0 ? "yes" : $"NO ({differing} of {input.Count})"]);
        }

        report.Table("D7 malformed ids", "The bar: nothing fails, what is set aside has its reason, and the rest of the chain is as without the line.", ["id", "set aside", "failures", "same as without"], rows, isMet);
    }

    static string Ratio(long part, long all) => all == 0 ? "-" : ((double)part / all).ToString("0.0##", CultureInfo.InvariantCulture);

    static string Percent(long part, long all) => all == 0 ? "-" : (100.0 * part / all).ToString("0.0", CultureInfo.InvariantCulture);
}
