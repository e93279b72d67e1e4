using System.Buffers;
using System.Runtime.InteropServices;

namespace LogTrace.Indexer.Chains;

/// <summary>One call as a chain shows it: a request of one kind made another one with this number.</summary>
readonly record struct Habit(int Caller, ulong Number, int Called);

/// <param name="Era">Kinds of requests got other numbers since, if it is over.</param>
readonly record struct HabitsShown(int Era, List<Habit> Habits);

/// <summary>A call that has no record of its handling, or stands next to one that has none.</summary>
/// <param name="Parent">The call that it was made in, by its place among the others; -1 where that is none of them.</param>
/// <param name="Caller">Where it is none of them, the kind of request that made it.</param>
/// <param name="Number">As which call of that.</param>
/// <param name="Called">The kind of request that it was, where that is known.</param>
/// <param name="Service">The service that handled it, where that is known.</param>
readonly record struct UnsureCall(int Parent, int Caller, ulong Number, int Called, string? Service);

/// <summary>
/// What each kind of request calls as its first, second, ... call: code makes mostly the same calls in the same order. Tells whom a call went to that left no record,
/// and says nothing where habits differ. A kind of request is a service and what was asked of it, or a branch within one. Not safe for concurrent use.
/// </summary>
sealed class Habits
{
    /// <summary>The kind of request that no record tells.</summary>
    public const int Unknown = -1;

    /// <summary>What calls the top of a trace.</summary>
    public const int Outside = 0;

    const int Enough = 50, MaxKinds = 5_000, MaxPlaces = 50_000, HalveAt = 10_000, MaxShown = 500;

    /// <summary>Steps taken for one trace at most: while a host is down, every trace has names missing.</summary>
    const int MaxSteps = 20_000;

    /// <summary>Later ones are loops.</summary>
    const ulong MaxNumber = 200;

    /// <summary>Surer than this, or nothing is said: a name found so is shown as a guess, and one in a few hundred is wrong.</summary>
    const double Sure = 0.75;

    /// <summary>What was never seen happens now and then.</summary>
    const double Unseen = 0.01;

    readonly Dictionary<(string Service, string Action), int> _kinds = [];
    readonly List<string> _services = [""];

    // Whom calls went to: those with one number from one kind of request, and all.
    readonly Dictionary<(int Kind, ulong Number), Shares<int>> _places = [];
    Shares<int> _anywhere = new();
    Shares<string> _anyService = new();
    int _era;

    /// <summary>How often each of several was met. The old counts half as much every so often.</summary>
    sealed class Shares<T>
        where T : notnull
    {
        readonly Dictionary<T, int> _counts = [];

        public int Total { get; private set; }

        public IReadOnlyDictionary<T, int> Counts => _counts;

        public double Of(T one) => (double)_counts.GetValueOrDefault(one) / Total;

        public void Count(T one)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(_counts, one, out _)++;
            if (++Total < HalveAt) return;
            Total = 0;
            foreach (var (met, count) in _counts)
            {
                if (count == 1) _counts.Remove(met);
                else Total += _counts[met] = count / 2;
            }
        }
    }

    public bool IsEmpty => _places.Count == 0;

    /// <summary>The kind of request that a record of handling one, or a branch, is of.</summary>
    public int KindOf(IndexedRecord handling) => KeyOf(handling) is { } key && _kinds.TryGetValue(key, out var kind) ? kind : Unknown;

    static (string Service, string Action)? KeyOf(IndexedRecord handling) =>
        handling.Service is { } service && (handling.ActionKey ?? handling.Record.Action) is { } action ? (service, action) : null;

    /// <summary>What a chain shows, without a record lost on either side; to be counted when it has settled.</summary>
    public HabitsShown Of(CallChain chain)
    {
        if (_services.Count >= MaxKinds) Forget(); // full of what comes once, such as actions with ids that nobody recognises: what matters comes again
        var shown = new List<Habit>();
        var nodes = chain.Nodes;
        var kinds = ArrayPool<int>.Shared.Rent(nodes.Count);
        for (var i = 0; i < nodes.Count && shown.Count < MaxShown; i++)
        {
            kinds[i] = Unknown;
            var node = nodes[i];
            if (node.Callee is not { } handling || node.IsAmbiguous || node.IsIrregular || KeyOf(handling) is not { } key) continue;
            kinds[i] = Number(key);
            if (nodes.At(i).Parent is not (>= 0 and var parent)) shown.Add(new Habit(Outside, 0, kinds[i]));
            else if (kinds[parent] is not Unknown and var caller && node.Number is <= MaxNumber and var number) shown.Add(new Habit(caller, number, kinds[i]));
        }

        ArrayPool<int>.Shared.Return(kinds);
        return new HabitsShown(_era, shown);
    }

    int Number((string Service, string Action) key)
    {
        if (_kinds.TryGetValue(key, out var kind)) return kind;
        _kinds.Add(key, _services.Count);
        _services.Add(key.Service);
        return _services.Count - 1;
    }

    void Forget()
    {
        _era++;
        _kinds.Clear();
        _services.RemoveRange(1, _services.Count - 1);
        _places.Clear();
        _anywhere = new();
        _anyService = new();
    }

    public void Count(HabitsShown shown)
    {
        if (shown.Era != _era) return;
        foreach (var habit in shown.Habits) Count(habit);
    }

    void Count(Habit habit)
    {
        if (_places.Count >= MaxPlaces) _places.Clear();
        if (!_places.TryGetValue((habit.Caller, habit.Number), out var place)) _places.Add((habit.Caller, habit.Number), place = new());
        place.Count(habit.Called);
        _anywhere.Count(habit.Called);
        _anyService.Count(_services[habit.Called]);
    }

    /// <summary>Who handled the calls of a tree of which some have no record of it, where that is sure.</summary>
    /// <param name="calls">Parents before children; a call without a parent was made from outside or by a scope that is none of them.</param>
    /// <returns>A service for each call; null where it is not sure.</returns>
    public string?[] Guess(IReadOnlyList<UnsureCall> calls) => new Guesses(this, calls).Services();

    /// <summary>
    /// All that is known of the calls below one call makes one kind of request likelier than another, and what is known above makes other kinds likelier: both together are gone through
    /// once up and once down the tree.
    /// </summary>
    sealed class Guesses
    {
        readonly Habits _habits;
        readonly IReadOnlyList<UnsureCall> _calls;
        readonly List<int>[] _below;

        // How well what is known below a call goes with its being of one kind, and with its being made by one kind.
        readonly Dictionary<(int Call, int Kind), double> _fits = [], _callers = [];
        int _steps;

        public Guesses(Habits habits, IReadOnlyList<UnsureCall> calls)
        {
            (_habits, _calls, _below) = (habits, calls, new List<int>[calls.Count]);
            for (var i = 0; i < calls.Count; i++)
            {
                _below[i] = [];
                if (calls[i].Parent >= 0) _below[calls[i].Parent].Add(i);
            }
        }

        public string?[] Services()
        {
            var named = new string?[_calls.Count];
            for (var i = 0; i < _calls.Count; i++)
                if (_calls[i].Parent < 0) MadeBy(i, _calls[i].Caller);
            if (_steps > MaxSteps) return named;
            var kinds = new Dictionary<int, double>[_calls.Count];
            var services = new Dictionary<string, double>(StringComparer.Ordinal);
            for (var i = 0; i < _calls.Count; i++)
            {
                var call = _calls[i];
                kinds[i] = [];
                if (call.Parent < 0) Spread(i, call.Caller, 1, kinds[i]);
                else
                    foreach (var (caller, share) in kinds[call.Parent]) Spread(i, caller, share, kinds[i]);
                services.Clear();
                foreach (var (kind, share) in kinds[i])
                    if (kind != Unknown) services[_habits._services[kind]] = services.GetValueOrDefault(_habits._services[kind]) + share;
                named[i] = services.Count > 0 && services.MaxBy(it => it.Value) is { Value: >= Sure } likeliest ? likeliest.Key : null;
            }

            return named;
        }

        /// <summary>What a call is, made by <paramref name="caller"/>, adds up to <paramref name="share"/>.</summary>
        void Spread(int call, int caller, double share, Dictionary<int, double> kinds)
        {
            if (share < Unseen * Unseen || MadeBy(call, caller) is not (> 0 and var all)) return;
            foreach (var (kind, chance) in Chances(call, caller)) kinds[kind] = kinds.GetValueOrDefault(kind) + (share * chance * Fit(call, kind) / all);
        }

        double MadeBy(int call, int caller)
        {
            if (_callers.TryGetValue((call, caller), out var known)) return known;
            double all = 0;
            foreach (var (kind, chance) in Chances(call, caller))
            {
                if (++_steps > MaxSteps) break;
                all += chance * Fit(call, kind);
            }

            _callers.Add((call, caller), all);
            return all;
        }

        double Fit(int call, int kind)
        {
            if (_below[call].Count == 0) return 1;
            if (_fits.TryGetValue((call, kind), out var known)) return known;
            var fit = 1.0;
            foreach (var child in _below[call]) fit *= MadeBy(child, kind);
            _fits.Add((call, kind), fit);
            return fit;
        }

        /// <summary>What the call may be, and how often it is that when <paramref name="caller"/> makes it; as far as it goes with what is known of it.</summary>
        IEnumerable<(int Kind, double Chance)> Chances(int call, int caller)
        {
            var (_, _, number, called, service) = _calls[call];

            // From a place that is known and from which nothing was ever seen called, such as a proxy's, comes what has no name. So does what such a place calls.
            var place = caller == Unknown ? null : _habits._places.GetValueOrDefault((caller, number));
            if (place is { Total: < Enough }) place = null;
            var other = (place is null ? 1 : Unseen) * (called != Unknown ? _habits._anywhere.Of(called) : service is not null ? Math.Max(Unseen, _habits._anyService.Of(service)) : 1);
            if (called != Unknown)
            {
                yield return (called, (place?.Of(called) ?? 0) + other);
                yield break;
            }

            if (place is not null)
                foreach (var (kind, count) in place.Counts)
                    if (service is null || _habits._services[kind] == service) yield return (kind, (1 - Unseen) * count / place.Total);
            yield return (Unknown, other);
        }
    }
}
