using System.Globalization;
using LogTrace.Indexer.Chains;
using LogTrace.Records;

namespace LogTrace.Benchmarks.Accuracy;

/// <summary>A share: how many of how many.</summary>
struct Share
{
    public long Right, All;

    public void Count(bool isRight)
    {
        All++;
        if (isRight) Right++;
    }

    public void Add(Share other) => (Right, All) = (Right + other.Right, All + other.All);

    public readonly bool IsWhole => Right == All;

    public override readonly string ToString() => All == 0 ? "-" : (Math.Floor(10_000.0 * Right / All) / 100).ToString("0.00", CultureInfo.InvariantCulture);
}

/// <summary>
/// How right shown traces are, counted over the records that are left. A record's true anchor is its call's nearest ancestor of which a record is left.
/// </summary>
sealed class Score
{
    public Share Depth, Anchor, OrphanAnchor, Gap, EdgePrecision, EdgeRecall, AncestorPrecision, AncestorRecall, Order, Visible, Exact, Name, WrongName;

    /// <summary>Records whose anchor or company is wrong; those of them that nothing flags; records that are flagged.</summary>
    public Share Placed, WrongAndUnflagged, Flagged;

    /// <summary>Of the lost calls: known as a placeholder, as a missing number, or not at all. And of what is reported: how much was truly lost.</summary>
    public long LostCalls, AsPlaceholder, AsGap;

    public Share PlaceholderPrecision, GapPrecision;
    public long Tops, Traces;

    /// <summary>All that has to be 100 % where ids are intact.</summary>
    public bool IsExact =>
        Depth.IsWhole && Anchor.IsWhole && OrphanAnchor.IsWhole && Gap.IsWhole && EdgePrecision.IsWhole && EdgeRecall.IsWhole && AncestorPrecision.IsWhole
        && AncestorRecall.IsWhole && Order.IsWhole && Visible.IsWhole && Exact.IsWhole && Tops == Traces;

    public void Count(TrueTrace trace, IReadOnlyList<TrueRecord> survivors, ShownTrace shown)
    {
        if (survivors.Count == 0) return;
        Traces++;
        Tops += shown.Nodes.Count(node => node.Parent is null);
        var left = survivors.Select(record => record.Call).ToHashSet();
        var nodeOf = new Dictionary<TrueRecord, ShownNode>(ReferenceEqualityComparer.Instance);
        foreach (var node in shown.Nodes)
            foreach (var record in node.Records) nodeOf.TryAdd(record, node);

        var isExact = true;
        foreach (var record in survivors)
        {
            var isShown = nodeOf.TryGetValue(record, out var node);
            var anchor = AnchorOf(record.Call, left);
            var isDeepRight = isShown && node!.Depth == record.Call.Depth;
            var isAnchored = isShown && Shows(IsOfNoCall(node!.Anchor, record.Call, left) ? node.Anchor!.Anchor : node.Anchor, anchor);
            Visible.Count(isShown);
            Depth.Count(isDeepRight);
            Anchor.Count(isAnchored);
            if (record.Call.Parent is { } parent && !left.Contains(parent)) OrphanAnchor.Count(isAnchored);
            if (isShown) Gap.Count(Between(node!) == record.Call.Depth - (anchor?.Depth ?? -1) - 1);
            else Gap.Count(false);

            // Nothing but records of the one call in the node, and that below the right one. A log line only says that its scope had made this call last.
            var isPlaced = isAnchored && (IsEvent(record) || node!.Records.All(other => other.Call == record.Call || IsEvent(other)));
            var isFlagged = isShown && IsFlagged(node!);
            Placed.Count(isPlaced);
            Flagged.Count(isFlagged);
            WrongAndUnflagged.Count(!isPlaced && !isFlagged);
            isExact &= isShown && isDeepRight && isAnchored;
        }

        CountPairs(left, shown);
        isExact &= CountOrder(trace, left, shown);
        Exact.Count(isExact);
        CountLoss(trace, survivors, left, shown);
    }

    /// <summary>Itself or what it stands under, down from its anchor: a doubtful placeholder between them says that the anchor is doubtful.</summary>
    static bool IsFlagged(ShownNode node)
    {
        for (var shown = node; shown is not null; shown = shown.Parent)
        {
            if (shown.IsFlagged) return true;
            if (shown != node && shown.Records.Count > 0) break;
        }

        return false;
    }

    /// <summary>
    /// Only log lines of the calling side: they stand under the number that their scope gave out last. Where it gave that out twice and of one call all is lost, they are
    /// no more of the other than of this one.
    /// </summary>
    static bool IsOfNoCall(ShownNode? anchor, TrueCall call, HashSet<TrueCall> left)
    {
        if (anchor is null || !anchor.Records.All(record => IsEvent(record) && record.IsCaller)) return false;
        for (var above = call.Parent; above is not null && !left.Contains(above); above = above.Parent)
            if (anchor.Records.All(record => record.Call != above && record.Call.Id == above.Id)) return true;
        return false;
    }

    static bool IsEvent(TrueRecord record) => record.Record.Kind == RecordKind.Event;

    static TrueCall? AnchorOf(TrueCall call, HashSet<TrueCall> left)
    {
        var above = call.Parent;
        while (above is not null && !left.Contains(above)) above = above.Parent;
        return above;
    }

    /// <summary>A node that holds several calls shows none of them: what stands below it may be of any.</summary>
    static bool Shows(ShownNode? node, TrueCall? call) =>
        call is null ? node is null : node is not null && node.Records.Any(record => record.Call == call) && node.Records.All(record => record.Call == call || IsEvent(record));

    static int Between(ShownNode node)
    {
        var count = 0;
        for (var above = node.Parent; above is { Records.Count: 0 }; above = above.Parent) count++;
        return count;
    }

    void CountPairs(HashSet<TrueCall> left, ShownTrace shown)
    {
        var trueEdges = new HashSet<(TrueCall, TrueCall)>();
        var truePairs = new HashSet<(TrueCall, TrueCall)>();
        foreach (var call in left)
        {
            if (AnchorOf(call, left) is { } anchor) trueEdges.Add((anchor, call));
            for (var above = call.Parent; above is not null; above = above.Parent)
                if (left.Contains(above)) truePairs.Add((above, call));
        }

        var edges = new HashSet<(TrueCall, TrueCall)>();
        var pairs = new HashSet<(TrueCall, TrueCall)>();
        foreach (var node in shown.Nodes)
        {
            foreach (var call in node.Records.Select(record => record.Call).Distinct())
            {
                foreach (var above in node.Anchor?.Records ?? []) edges.Add((above.Call, call));
                for (var above = node.Anchor; above is not null; above = above.Anchor)
                    foreach (var record in above.Records) pairs.Add((record.Call, call));
            }
        }

        Compare(edges, trueEdges, ref EdgePrecision, ref EdgeRecall);
        Compare(pairs, truePairs, ref AncestorPrecision, ref AncestorRecall);
    }

    static void Compare(HashSet<(TrueCall, TrueCall)> shown, HashSet<(TrueCall, TrueCall)> truth, ref Share precision, ref Share recall)
    {
        var right = shown.Count(truth.Contains);
        (precision.Right, precision.All) = (precision.Right + right, precision.All + shown.Count);
        (recall.Right, recall.All) = (recall.Right + right, recall.All + truth.Count);
    }

    bool CountOrder(TrueTrace trace, HashSet<TrueCall> left, ShownTrace shown)
    {
        var place = new Dictionary<TrueCall, int>();
        for (var i = 0; i < shown.Nodes.Count; i++)
            foreach (var record in shown.Nodes[i].Records) place.TryAdd(record.Call, i);
        var isRight = true;
        foreach (var call in trace.Calls)
        {
            TrueCall? elder = null;
            foreach (var child in call.Children.Where(left.Contains))
            {
                if (elder is not null)
                {
                    var isInOrder = place.TryGetValue(elder, out var first) && place.TryGetValue(child, out var second) && first < second;
                    Order.Count(isInOrder);
                    isRight &= isInOrder;
                }

                elder = child;
            }
        }

        return isRight;
    }

    /// <summary>How much of what was lost the chain knows of; other rules report nothing that could be compared.</summary>
    void CountLoss(TrueTrace trace, IReadOnlyList<TrueRecord> survivors, HashSet<TrueCall> left, ShownTrace shown)
    {
        if (shown.Chain is not { } chain) return;
        var lost = trace.Calls.Where(call => !left.Contains(call)).DistinctBy(call => call.Id).ToDictionary(call => call.Id);
        LostCalls += lost.Count;
        foreach (var node in chain.Nodes.Where(node => node.IsPlaceholder))
        {
            var isLost = lost.TryGetValue(node.IdText.ToString(), out var call);
            PlaceholderPrecision.Count(isLost);
            if (!isLost) continue;
            AsPlaceholder++;
            // What the top was, and a resource, has no name to find.
            if (call!.Callee is null) continue;
            Name.Count(node.CalleeService == call.Callee);
            WrongName.Count(node.CalleeService is not null && node.CalleeService != call.Callee);
        }

        var answered = survivors.Where(record => !record.IsCaller).Select(record => record.Call.Id).ToHashSet();
        var ids = trace.Calls.DistinctBy(call => call.Id).ToDictionary(call => call.Id);
        foreach (var gap in chain.Gaps)
        {
            for (var number = gap.From; number <= gap.To; number++)
            {
                var scope = gap.Scope.IdText.ToString();
                // A scope's own record has number 1 where both sides have ids of their own.
                var isOwn = number == 1 && trace.Reading == ChainReading.Pairs;
                var isLost = isOwn ? ids.TryGetValue(scope, out var call) && call.Callee is not null && !answered.Contains(scope) : lost.ContainsKey($"{scope}.{number}");
                GapPrecision.Count(isLost);
                if (isLost && !isOwn) AsGap++;
            }
        }
    }
}
