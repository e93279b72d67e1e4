using System.IO.Hashing;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace LogTrace.Shipper;

/// <summary>
/// What the kernel says about changes (inotify). Only a hint: whoever trusts it looks for himself every few seconds, too, and is told here for which
/// directories nothing can be expected. One instance for a process, one watch for a directory, no thread: hints wait in the kernel until they are fetched. Not safe for concurrent use.
/// </summary>
/// <remarks>
/// Nothing is said of other machines' changes on a network file system, of memory that is mapped and written to, and of files that are written under a
/// name in another directory. https://man7.org/linux/man-pages/man7/inotify.7.html
/// </remarks>
sealed class FileHints : IDisposable
{
    const uint Modified = 0x2, Attributes = 0x4, Made = 0x100 | 0x80, Gone = 0x200 | 0x40, Itself = 0x400 | 0x800, OnlyDirectories = 0x1000000, Overflowed = 0x4000, Ignored = 0x8000;
    const int NonBlocking = 0x800, CloseOnExec = 0x80000;
    const int NotThere = 2, NoAccess = 13, NoDirectory = 20, NoSpace = 28, TooMany = 24;
    const int HeaderBytes = 16, LongestHint = HeaderBytes + 256;

    // The kernel keeps 16,384 hints by default. When so many come while they are fetched, the rest is for the next time.
    const int MostReads = 16;

    // A change is to be seen a moment before the kernel speaks of it.
    static readonly TimeSpan LatestHint = TimeSpan.FromSeconds(1);

    readonly SafeFileHandle _inotify;
    readonly TimeProvider _time;
    readonly Func<bool>? _loses;
    readonly byte[] _buffer = new byte[64 * 1024];
    readonly Dictionary<string, Place> _places = [];
    readonly Dictionary<int, List<Place>> _byWatch = [];
    readonly HashSet<(int, ulong)> _fetched = [];
    readonly List<Place> _missed = [];
    long _search;

    /// <summary>A directory.</summary>
    sealed class Place(string path)
    {
        public string Path => path;

        public int Watch { get; set; } = -1;

        /// <summary>Why it has no watch, or none that is worth anything.</summary>
        public string? Problem { get; set; }

        public bool IsHopeless { get; set; }

        /// <summary>The search in which the watch was set.</summary>
        public long Since { get; set; }

        public long Visited { get; set; }

        /// <summary>Something was said of it since the last search began.</summary>
        public bool Spoke { get; set; }

        /// <summary>Since when it is known that something changed of which nothing was said.</summary>
        public long? MissedTicks { get; set; }
    }

    FileHints(SafeFileHandle inotify, TimeProvider time, Func<bool>? loses) => (_inotify, _time, _loses) = (inotify, time, loses);

    /// <summary>Takes an instance of inotify; null when there is none to be had.</summary>
    /// <param name="problem">Why there is none, and what helps.</param>
    /// <param name="time">The clock.</param>
    /// <param name="loses">For tests: asked for each hint whether it gets lost.</param>
    public static FileHints? TryOpen(out string? problem, TimeProvider time, Func<bool>? loses = null)
    {
        problem = null;
        try
        {
            var descriptor = inotify_init1(NonBlocking | CloseOnExec);
            if (descriptor >= 0) return new FileHints(new SafeFileHandle(descriptor, ownsHandle: true), time, loses);
            var error = Marshal.GetLastPInvokeError();
            problem = error == TooMany
                ? "this user's instances of inotify are used up; raise fs.inotify.max_user_instances."
                : $"inotify refuses: {Marshal.GetPInvokeErrorMessage(error)}.";
        }
        catch (EntryPointNotFoundException)
        {
            problem = "this system has no inotify.";
        }

        return null;
    }

    /// <summary>Every directory of the last search is watched, and none is known to change without a hint.</summary>
    public bool CoverAll => Unwatched == 0;

    /// <summary>Directories of the last search of which hints are to be expected.</summary>
    public int Watched { get; private set; }

    /// <summary>Directories of the last search of which none are to be expected.</summary>
    public int Unwatched { get; private set; }

    /// <summary>One of them with the reason; null when there is none.</summary>
    public string? Problem => _places.Values.FirstOrDefault(place => place.Problem is not null) is { } place ? $"{place.Path}: {place.Problem}" : null;

    /// <summary>Whether hints are to be expected of files in this directory.</summary>
    public bool Cover(string directory) => _places.TryGetValue(directory, out var place) && place is { Watch: >= 0, Problem: null };

    public void BeginSearch() => _search++;

    /// <summary>To be called before a directory is looked into: what happens in between is then seen or said, or both. Once for each in every search, since what a path leads to changes.</summary>
    /// <param name="directory">Its path.</param>
    /// <param name="isListed">Its names are read, which says by itself when that is forbidden.</param>
    public void Watch(string directory, bool isListed)
    {
        if (!_places.TryGetValue(directory, out var place)) _places.Add(directory, place = new Place(directory));
        if (place.Visited == _search) return;
        place.Visited = _search;
        if (place.IsHopeless) return;
        if (place.Since == 0 && IsRemote(directory))
        {
            (place.IsHopeless, place.Problem) = (true, "other machines may write there, of which this kernel is not told.");
            return;
        }

        var watch = inotify_add_watch(_inotify, Encoding.UTF8.GetBytes(directory + "\0"), Modified | Attributes | Made | Gone | Itself | OnlyDirectories);
        if (watch == place.Watch && watch >= 0) return;
        var error = watch >= 0 ? 0 : Marshal.GetLastPInvokeError();
        Forget(place);
        place.Problem = error switch
        {
            0 or NotThere or NoDirectory => null, // nothing is there: whatever comes is new in a directory above it
            NoAccess when isListed => null, // nor can it be listed, and that it can be is said of the directory above it
            NoSpace => "this user's watches of inotify are used up; raise fs.inotify.max_user_watches.",
            _ => $"inotify refuses: {Marshal.GetPInvokeErrorMessage(error)}.",
        };
        if (error != 0) return;
        (place.Watch, place.Since) = (watch, _search);
        if (!_byWatch.TryGetValue(watch, out var places)) _byWatch.Add(watch, places = []);
        places.Add(place);
    }

    /// <summary>Lets go of what was not visited.</summary>
    public void EndSearch()
    {
        foreach (var place in _places.Values)
        {
            place.Spoke = false;
            if (place.Visited == _search) continue;
            Forget(place);
            _places.Remove(place.Path);
        }

        Count();
    }

    void Count()
    {
        Unwatched = _places.Values.Count(place => place.Problem is not null);
        Watched = _places.Values.Count(place => place is { Watch: >= 0, Problem: null });
    }

    /// <summary>A look found a change in a directory. Should the kernel never speak of it, it speaks of none there, and the directory counts as not watched from then on.</summary>
    public void Missed(string directory)
    {
        if (!_places.TryGetValue(directory, out var place) || place.Since == _search || place.Spoke || place.MissedTicks is not null || place.Watch < 0) return;
        place.MissedTicks = _time.GetTimestamp();
        _missed.Add(place);
    }

    /// <summary>Takes all hints there are, without waiting.</summary>
    /// <param name="changed">Gets the paths of files that were written to or cut, each once.</param>
    /// <returns>True when files may have come, gone or changed their names, or hints were lost.</returns>
    public bool Fetch(List<string> changed)
    {
        var isMoved = false;
        _fetched.Clear();
        for (var reads = 0; reads < MostReads; reads++)
        {
            var got = (int)read(_inotify, ref _buffer[0], _buffer.Length);
            for (var at = 0; at < got;)
            {
                var (watch, what) = (MemoryMarshal.Read<int>(_buffer.AsSpan(at)), MemoryMarshal.Read<uint>(_buffer.AsSpan(at + 4)));
                var name = _buffer.AsSpan(at + HeaderBytes, MemoryMarshal.Read<int>(_buffer.AsSpan(at + 12)));
                at += HeaderBytes + name.Length;
                if (_loses?.Invoke() == true) continue;
                isMoved |= Take(watch, what, name, changed);
            }

            if (got < _buffer.Length - LongestHint) break;
        }

        if (_missed.Count > 0) isMoved |= Judge();
        return isMoved;
    }

    bool Take(int watch, uint what, ReadOnlySpan<byte> name, List<string> changed)
    {
        if ((what & Overflowed) != 0)
        {
            // Whichever they were of: none of them was silent.
            foreach (var place in _places.Values) place.Spoke = true;
            return true;
        }

        if (!_byWatch.TryGetValue(watch, out var places)) return false; // let go of meanwhile
        if ((what & Ignored) != 0)
        {
            // The kernel let go: the directory is deleted or unmounted.
            _byWatch.Remove(watch);
            foreach (var place in places) place.Watch = -1;
            return true;
        }

        foreach (var place in places) place.Spoke = true;
        if ((what & Modified) == 0) return true;
        // Two files that are written to in turn bring thousands.
        if (!_fetched.Add((watch, XxHash3.HashToUInt64(name)))) return false;
        var end = name.IndexOf((byte)0);
        var file = Encoding.UTF8.GetString(end < 0 ? name : name[..end]);
        foreach (var place in places) changed.Add(Path.Join(place.Path, file));
        return false;
    }

    bool Judge()
    {
        var unwatched = Unwatched;
        for (var i = _missed.Count - 1; i >= 0; i--)
        {
            var place = _missed[i];
            if (!place.Spoke && _time.GetElapsedTime(place.MissedTicks!.Value) < LatestHint) continue;
            if (!place.Spoke) (place.IsHopeless, place.Problem) = (true, "files there changed, and the kernel did not say so.");
            place.MissedTicks = null;
            _missed.RemoveAt(i);
        }

        Count();
        return Unwatched > unwatched;
    }

    void Forget(Place place)
    {
        if (place.Watch < 0) return;
        if (_byWatch.TryGetValue(place.Watch, out var places) && places.Remove(place) && places.Count == 0)
        {
            _byWatch.Remove(place.Watch);
            _ = inotify_rm_watch(_inotify, place.Watch); // it may be gone by itself
        }

        place.Watch = -1;
    }

    static bool IsRemote(string directory)
    {
        try
        {
            return new DriveInfo(directory).DriveType == DriveType.Network;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return false; // should it be, a change of which nothing is said will show it
        }
    }

    public void Dispose() => _inotify.Dispose();

    [DllImport("libc", SetLastError = true)]
    static extern int inotify_init1(int flags);

    [DllImport("libc", SetLastError = true)]
    static extern int inotify_add_watch(SafeFileHandle inotify, byte[] path, uint mask);

    [DllImport("libc", SetLastError = true)]
    static extern int inotify_rm_watch(SafeFileHandle inotify, int watch);

    [DllImport("libc", SetLastError = true)]
    static extern nint read(SafeFileHandle inotify, ref byte buffer, nint length);
}
