using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace LogTrace.Shipper;

/// <summary>
/// Which file on disk continues which bytes: follows renames, notices deletions, reused inodes and emptied files, and recognises the copies that a
/// rotation makes before it empties a file. Paths only lead here; device, inode, time of birth, hashed beginning and the bytes before the offset decide.
/// </summary>
/// <remarks>
/// Looking is the truth. Where the kernel tells of changes (<see cref="FileHints"/>), a file is looked at when it does, and the search for all files, which
/// looks at each of them, is only due every <see cref="ShipperOptions.QuietInterval"/>; see <see cref="IsSearchWanted"/>.
/// </remarks>
sealed class TailedFiles(ShipperOptions options, FileDiscovery discovery, FileHints? hints, ShipperMetrics metrics, TimeProvider time, ILogger logger) : IDisposable
{
    // Inodes are reused soon after a deletion; what is older only raises the floor of generations.
    const int MaxGone = 1_000;
    const int MaxNames = 10_000;

    // A file that changed this recently is looked at on every poll, others when files are looked for.
    static readonly TimeSpan WarmFor = TimeSpan.FromSeconds(10);
    static readonly TimeSpan AbsentSearchInterval = TimeSpan.FromSeconds(10);

    readonly Dictionary<FileKey, FileTailer> _tailers = [];
    readonly List<(FileTailer Tailer, long Search)> _emptied = [];
    readonly Dictionary<FileKey, Suspect> _suspects = [];
    readonly Dictionary<FileKey, long> _compressed = [];
    readonly OrderedDictionary<FileKey, int> _gone = [];
    readonly HashSet<string> _reported = [];
    readonly Dictionary<string, long> _directories = [];
    readonly Dictionary<string, long> _names = [];
    readonly Dictionary<string, List<string>> _namesIn = [];
    readonly Dictionary<string, Dictionary<FileKey, FoundFile>> _siblings = [];
    readonly List<string> _changed = [];

    // With thousands of files it is too large to be made anew for every search.
    readonly HashSet<FileKey> _here = [];

    // Files of which no hint can be relied on, with the name to look at; null for their handle's file.
    readonly List<(FileTailer Tailer, string? Name)> _unhinted = [];
    List<FileTailer> _list = [];

    // Made when a hint is the first to ask for it.
    Dictionary<string, FileTailer>? _byPath;
    bool _isListStale = true;
    bool _isRestless = true;
    bool _hasNews;
    bool _hasDeleted;
    bool _couldNotOpen;
    bool _saidNoHints;
    int _generationFloor;
    long _searches;
    long _nextAbsentSearch;

    /// <summary>A file that begins like one that is being read, while it is not clear yet whether it is a copy.</summary>
    sealed class Suspect(FileTailer original, string path, long size, long sinceTicks)
    {
        public string Path => path;

        public FileTailer Original => original;

        public long Size { get; set; } = size;

        public long UnchangedSinceTicks { get; set; } = sinceTicks;
    }

    /// <summary>How many times files were looked for.</summary>
    public long Searches => _searches;

    /// <summary>The files that can be read, in the order of discovery.</summary>
    public IReadOnlyList<FileTailer> Tailers => _list;

    public void Restore(Checkpoint checkpoint)
    {
        _generationFloor = checkpoint.GenerationFloor;
        foreach (var (path, born) in checkpoint.KnownNames) AddName(path, born);
        foreach (var gone in checkpoint.Gone) _gone[new FileKey(gone.Device, gone.Inode)] = gone.Generation;
        foreach (var entry in checkpoint.Files)
        {
            var tailer = FileTailer.Restore(entry, options.MaxLineBytes, options.Format);
            if (entry.State == EntryState.Present) _tailers[tailer.Key] = tailer;
            else _emptied.Add((tailer, 0));
        }

        _list = [.. _tailers.Values];
    }

    /// <summary>What a checkpoint has to hold. A file whose first line has not ended needs no entry: it is read from its start.</summary>
    public Checkpoint AddTo(Checkpoint checkpoint)
    {
        var files = new List<CheckpointEntry>(_tailers.Count);
        files.AddRange(_tailers.Values.Where(t => t.FileId is not null).Select(t => t.ToEntry(EntryState.Present)));
        files.AddRange(_emptied.Select(e => e.Tailer.ToEntry(EntryState.Emptied)));
        return checkpoint with
        {
            Files = files,
            Gone = [.. _gone.Select(g => new GoneFile(g.Key.Device, g.Key.Inode, g.Value))],
            // Names without a file are kept in memory only: dated names would pile up.
            KnownNames = _tailers.Values.Select(t => t.MatchedPath).Distinct().Where(_names.ContainsKey).ToDictionary(path => path, path => _names[path]),
            GenerationFloor = _generationFloor,
        };
    }

    /// <summary>Another number when a checkpoint made now would say something else of files, names or generations than before.</summary>
    public int Fingerprint()
    {
        var hash = new HashCode();
        foreach (var tailer in _tailers.Values)
        {
            hash.Add(tailer.Key);
            hash.Add(tailer.Generation);
            hash.Add(tailer.Path);
            hash.Add(tailer.MatchedPath);
            hash.Add(tailer.FileId);
            hash.Add(tailer.HeadLength);
            hash.Add(tailer.AckedOffset);
            hash.Add(tailer.AbsentSinceMillis);
        }

        foreach (var (tailer, _) in _emptied) hash.Add(tailer.FileId);
        foreach (var (key, generation) in _gone) hash.Add((key, generation));
        hash.Add(_generationFloor);
        hash.Add(_names.Count);
        return hash.ToHashCode();
    }

    /// <summary>The checkpoint was saved with all ids known now.</summary>
    public void MarkSaved()
    {
        foreach (var tailer in _tailers.Values) tailer.IsInCheckpoint |= tailer.FileId is not null;
    }

    /// <summary>True when nothing waits for a decision: no suspected copy, no emptied file whose copy is searched for, no deleted file with an unfinished end.</summary>
    public bool IsSettled => _suspects.Count == 0 && _emptied.Count == 0 && !_tailers.Values.Any(t => t.IsDeleted && t.TornBytes > 0);

    /// <summary>
    /// Whether files should be looked for as often as the options allow: something was made, renamed or deleted, something waits for time to pass, or there
    /// are directories of whose changes nobody tells.
    /// </summary>
    public bool IsSearchWanted => hints is not { CoverAll: true } || _isRestless || _hasDeleted || _couldNotOpen || _suspects.Count > 0 || _emptied.Count > 0;

    /// <summary>Looks at the files of which the kernel said since the last time that they changed. False when there were none.</summary>
    public bool TakeHints()
    {
        if (hints is null) return false;
        _changed.Clear();
        _isRestless |= hints.Fetch(_changed);
        if (_changed.Count == 0) return false;
        if (_byPath is null)
        {
            _byPath = new Dictionary<string, FileTailer>(_list.Count);
            foreach (var tailer in _list) _byPath[tailer.Path] = tailer;
        }

        var any = false;
        foreach (var path in _changed)
        {
            // What nobody follows is of no interest: it was looked at when it was made.
            if (!_byPath.TryGetValue(path, out var tailer)) continue;
            any = true;
            Look(tailer, FileStatus.OfPath(path));
        }

        Relist();
        return any;
    }

    /// <summary>Looks, without a search, at what no hint can be relied on for: files with several names, links, and the ways to the directories. False when there are no such files.</summary>
    public bool LookAtUnhinted()
    {
        if (discovery.LeadsElsewhere()) _isRestless = true;
        foreach (var (tailer, name) in _unhinted) Look(tailer, name is null && tailer.IsOpen ? tailer.Status() : FileStatus.OfPath(name ?? tailer.Path));
        Relist();
        return _unhinted.Count > 0;
    }

    void Look(FileTailer tailer, FileStatus? seen)
    {
        if (seen is not { } status || status.Key != tailer.Key || !status.MayBeBornAt(tailer.BirthNanos))
        {
            _isRestless = true; // another file, or none; the search finds out
            return;
        }

        tailer.Saw(status, time.GetTimestamp());
        tailer.FixIdentity();
        CheckIntact(tailer, status);
    }

    void Relist()
    {
        if (!_isListStale) return;
        _isListStale = false;
        // Nearly always it is what it was, and too large to be made anew for nothing.
        if (_tailers.Values.Where(t => t.AbsentSinceMillis == 0).SequenceEqual(_list)) return;
        _list = [.. _tailers.Values.Where(t => t.AbsentSinceMillis == 0)];
        _byPath = null;
    }

    /// <summary>Looks for files and settles what became of the ones known. False when none of these has another size than at the last look, nor is newly deleted; whatever else may have changed is in <see cref="Fingerprint"/>.</summary>
    public bool Search()
    {
        _searches++;
        _siblings.Clear();
        var isRetry = _couldNotOpen;
        _isRestless = _couldNotOpen = false;
        hints?.BeginSearch();
        var found = discovery.Find(hints);
        var unknown = new List<FoundFile>();
        var here = _here;
        here.Clear();
        _hasNews = false;
        foreach (var file in found)
        {
            here.Add(file.Status.Key);
            if (_tailers.TryGetValue(file.Status.Key, out var tailer) && IsSame(tailer, file.Status)) See(tailer, file);
            else unknown.Add(file);
        }

        var searchAbsent = time.GetTimestamp() >= _nextAbsentSearch;
        if (searchAbsent) _nextAbsentSearch = time.GetTimestamp() + Ticks(AbsentSearchInterval);
        foreach (var tailer in _tailers.Values.Where(t => !here.Contains(t.Key)).ToList()) Follow(tailer, searchAbsent);
        unknown.Sort(FoundFile.CompareAge);
        foreach (var file in unknown)
        {
            if (Admit(file) && !isRetry) CountMissed(file);
        }

        foreach (var (key, _) in _suspects.Where(s => !here.Contains(s.Key) && FileStatus.OfPath(s.Value.Path)?.Key != s.Key).ToList()) _suspects.Remove(key);
        foreach (var key in _compressed.Keys.Where(k => !here.Contains(k)).ToList()) _compressed.Remove(key);
        SettleEmptied();
        FindRotatedUnseen();
        foreach (var (directory, reason) in discovery.Unreadable) Report(directory, reason);
        _isListStale = true;
        Relist();
        if (hints is not null) SettleHints(found, here);
        return _hasNews;
    }

    void SettleHints(IReadOnlyCollection<FoundFile> found, HashSet<FileKey> here)
    {
        hints!.EndSearch();
        _hasDeleted = _list.Exists(t => t.IsDeleted);
        _unhinted.Clear();
        var linked = new HashSet<FileTailer>();
        foreach (var file in found)
        {
            if (!IsLinked(file) || !_tailers.TryGetValue(file.Status.Key, out var tailer) || !linked.Add(tailer)) continue;
            _unhinted.Add((tailer, file.MatchedPath));
        }

        foreach (var tailer in _list)
        {
            if (!hints.Cover(tailer.Directory) && !linked.Contains(tailer)) _unhinted.Add((tailer, here.Contains(tailer.Key) ? tailer.Path : null));
        }

        metrics.ShowHints(hints.Watched, hints.Unwatched);
        if (_saidNoHints || hints.Problem is not { } problem) return;
        _saidNoHints = true;
        logger.NoHints(problem, options.DiscoveryInterval);
    }

    // It may be written to under a name, and led to over a way, of which no hint comes.
    static bool IsLinked(FoundFile file) => file.Path != file.MatchedPath || file.Status.Links > 1;

    void CountMissed(FoundFile file)
    {
        if (hints is not null && !IsLinked(file)) hints.Missed(Path.GetDirectoryName(file.Path)!);
    }

    /// <summary>The file that the same container wrote before this one, when a rotation may have cut a line between the two; null when there is none.</summary>
    public FileTailer? Before(FileTailer tailer) => !tailer.MayContinue ? null : _tailers.Values
        .Where(other => other != tailer && other.BirthNanos < tailer.BirthNanos && other.AbsentSinceMillis == 0 && (other.MatchedPath == tailer.MatchedPath || FileDiscovery.IsRotatedName(other.Path, tailer.MatchedPath)))
        .MaxBy(other => other.BirthNanos);

    /// <summary>Whether a look at the file is worth a system call now.</summary>
    public bool IsDue(FileTailer tailer, long nowTicks) =>
        !tailer.IsAtEnd || tailer.TakesUnfinishedEnd || (tailer.IsOpen && nowTicks - tailer.LastChangeTicks < Ticks(WarmFor));

    /// <summary>
    /// Opens the file if it is not open. False when it cannot be opened now, or is no longer the one it was; the next search finds out what it is.
    /// </summary>
    public bool TryOpen(FileTailer tailer)
    {
        if (tailer.IsOpen) return true;
        if (OpenAt(tailer.Path) is not { } opened) return false;
        if (opened.Status.Key != tailer.Key || !opened.Status.MayBeBornAt(tailer.BirthNanos))
        {
            opened.Handle.Dispose();
            return false;
        }

        if (!tailer.IsRestored)
        {
            tailer.Reopen(opened.Handle, time.GetTimestamp());
            return true;
        }

        var file = new FoundFile(tailer.Path, tailer.MatchedPath, opened.Status);
        if (tailer.Recognises(opened.Handle, opened.Status.Size))
        {
            tailer.Attach(opened.Handle, file, time.GetTimestamp());
            return true;
        }

        // Other content under the inode than at the last checkpoint.
        Replace(tailer, opened.Handle, file);
        return false;
    }

    /// <summary>The bytes before the tailer's offset are no longer in its file. What is there now is read as a new generation; the old one waits for a copy.</summary>
    public void Emptied(FileTailer tailer)
    {
        var handle = tailer.Detach()!;
        Replace(tailer, handle, new FoundFile(tailer.Path, tailer.MatchedPath, FileStatus.OfHandle(handle)));
        Relist();
    }

    void Replace(FileTailer tailer, SafeFileHandle handle, FoundFile file)
    {
        logger.Emptied(tailer.Path, tailer.ReadOffset);
        var next = new FileTailer(file.Status.Key, file.Status.BirthNanos, file.Path, file.MatchedPath, NextGeneration(file.Status.Key), options.MaxLineBytes, options.Format);
        next.Attach(handle, file, time.GetTimestamp());
        next.IsDeleted = tailer.IsDeleted;
        _tailers[file.Status.Key] = next;
        _isListStale = true;
        if (tailer.FileId is not null) _emptied.Add((tailer, _searches));
    }

    // An inode given to another file: only possible when no handle of ours held it.
    bool IsSame(FileTailer tailer, FileStatus status)
    {
        if (tailer.IsOpen || status.MayBeBornAt(tailer.BirthNanos)) return true;
        Bury(tailer);
        // Copied, then deleted, all unseen: a file of another name that holds the same long beginning goes on for it.
        if (tailer.FileId is not null && HasLongHead(tailer)) _emptied.Add((tailer, _searches));
        return false;
    }

    void See(FileTailer tailer, FoundFile file)
    {
        if (tailer.Path != file.Path)
        {
            logger.Renamed(tailer.Path, file.Path);
            _byPath = null;
        }
        else if (!tailer.IsRestored && tailer.SeenBytes != file.Status.Size)
        {
            CountMissed(file);
        }

        _hasNews |= tailer.SeenBytes != file.Status.Size;
        tailer.MoveTo(file.Path, file.MatchedPath);
        tailer.AbsentSinceMillis = 0;
        tailer.Saw(file.Status, time.GetTimestamp());
        tailer.FixIdentity();
        if (tailer.IsRestored) TryOpen(tailer);
        else CheckIntact(tailer, file.Status);
    }

    // Reading notices this too, but not while the other side is down.
    void CheckIntact(FileTailer tailer, FileStatus status)
    {
        if (!tailer.IsOpen || tailer.IsAtEnd || tailer.IsIntact(status.Size)) return;
        var handle = tailer.Detach()!;
        Replace(tailer, handle, new FoundFile(tailer.Path, tailer.MatchedPath, FileStatus.OfHandle(handle)));
    }

    // No pattern names the file any more.
    void Follow(FileTailer tailer, bool searchAbsent)
    {
        if (tailer.IsOpen)
        {
            var status = tailer.Status();
            _hasNews |= tailer.SeenBytes != status.Size;
            tailer.Saw(status, time.GetTimestamp());
            tailer.FixIdentity();
            CheckIntact(tailer, status);
            if (!tailer.IsOpen) return; // its successor is followed from the next search on
            if (status.Links > 0)
            {
                if (tailer.CurrentPath() is { } path && path != tailer.Path)
                {
                    logger.Renamed(tailer.Path, path);
                    tailer.MoveTo(path);
                    _byPath = null;
                }
            }
            else
            {
                FinishDeleted(tailer, status);
            }

            return;
        }

        // Its pattern was taken out of the configuration: kept for a while, and left alone.
        var isWanted = discovery.Covers(tailer.MatchedPath);
        if (isWanted && FileStatus.OfPath(tailer.Path) is { } there && there.Key == tailer.Key && IsSame(tailer, there))
        {
            See(tailer, new FoundFile(tailer.Path, tailer.MatchedPath, there));
            return;
        }

        if (!_tailers.ContainsKey(tailer.Key)) return; // its inode is another file's now
        if (isWanted && (searchAbsent || tailer.AbsentSinceMillis == 0) && FindBeside(tailer) is { } renamed && IsSame(tailer, renamed.Status))
        {
            See(tailer, renamed);
            return;
        }

        var now = time.GetUtcNow().ToUnixTimeMilliseconds();
        if (tailer.AbsentSinceMillis == 0) tailer.AbsentSinceMillis = now;
        if (now - tailer.AbsentSinceMillis > options.ForgetAfter.TotalMilliseconds) Bury(tailer);
    }

    // Renamed to a name that no pattern covers, while no handle held it.
    FoundFile? FindBeside(FileTailer tailer)
    {
        foreach (var path in (string[])[tailer.Path, tailer.MatchedPath])
        {
            if (Siblings(path).TryGetValue(tailer.Key, out var file)) return file with { MatchedPath = tailer.MatchedPath };
        }

        return null;
    }

    Dictionary<FileKey, FoundFile> Siblings(string path)
    {
        var directory = Path.GetDirectoryName(path)!;
        if (!_siblings.TryGetValue(directory, out var files)) _siblings[directory] = files = FileDiscovery.FilesIn(directory);
        return files;
    }

    void FinishDeleted(FileTailer tailer, FileStatus status)
    {
        if (!tailer.IsDeleted)
        {
            logger.Deleted(tailer.Path);
            tailer.IsDeleted = _hasNews = true;
        }

        var isQuiet = time.GetTimestamp() - tailer.LastChangeTicks >= Ticks(options.DeletedGrace);
        if (!tailer.IsAtEnd || tailer.InFlight > 0 || !isQuiet || status.Size != tailer.Size) return;
        if (tailer.TornBytes > 0) tailer.Conclude();
        else Bury(tailer);
    }

    // True when it is a file that nobody knew of before.
    bool Admit(FoundFile file)
    {
        if (_compressed.TryGetValue(file.Status.Key, out var seen) && seen == file.Status.ModifiedNanos) return false;
        if (OpenAt(file.Path) is not { } opened) return false;
        var handle = opened.Handle;
        file = file with { Status = opened.Status };
        if (_tailers.ContainsKey(file.Status.Key))
        {
            handle.Dispose(); // renamed again since it was listed
            return false;
        }

        Span<byte> buffer = stackalloc byte[FileIdentity.MaxHeadBytes];
        var head = buffer[..RandomAccess.Read(handle, buffer, 0)];
        if (IsCompressed(head))
        {
            logger.Compressed(file.Path);
            _compressed[file.Status.Key] = file.Status.ModifiedNanos;
            handle.Dispose();
            return false;
        }

        if (head.Length > 0 && (ContinuesAnother(file, handle) || MayBeCopy(file, handle, head))) return false;
        var wasSuspect = _suspects.Remove(file.Status.Key);
        logger.Found(file.Path);
        var tailer = new FileTailer(file.Status.Key, file.Status.BirthNanos, file.Path, file.MatchedPath, NextGeneration(file.Status.Key), options.MaxLineBytes, options.Format);
        LearnName(file.MatchedPath);
        tailer.Attach(handle, file, time.GetTimestamp());
        _tailers.Add(file.Status.Key, tailer);
        return !wasSuspect;
    }

    bool ContinuesAnother(FoundFile file, SafeFileHandle handle)
    {
        // The copy that a rotation made before it emptied the original.
        foreach (var entry in _emptied)
        {
            var wasDeleted = !_tailers.TryGetValue(entry.Tailer.Key, out var next) || next.Generation <= entry.Tailer.Generation;
            if ((wasDeleted && entry.Tailer.MatchedPath == file.Path) || !entry.Tailer.Recognises(handle, file.Status.Size)) continue;
            _emptied.Remove(entry);
            Continue(entry.Tailer, file, handle);
            return true;
        }

        // Device numbers may change with a restart of the machine; all else says that it is the same file.
        var renumbered = _tailers.Values.FirstOrDefault(t =>
            t.IsRestored && t.AbsentSinceMillis != 0 && t.AckedOffset > 0 && t.Key.Inode == file.Status.Key.Inode && t.BirthNanos == file.Status.BirthNanos && t.Recognises(handle, file.Status.Size));
        if (renumbered is null) return false;
        _tailers.Remove(renumbered.Key);
        Continue(renumbered, file, handle);
        return true;
    }

    void Continue(FileTailer tailer, FoundFile file, SafeFileHandle handle)
    {
        logger.CopyFound(file.Path, tailer.Path, tailer.AckedOffset);
        _suspects.Remove(file.Status.Key);
        _byPath = null;
        tailer.AbsentSinceMillis = 0;
        tailer.IsDeleted = false;
        tailer.Attach(handle, file, time.GetTimestamp());
        _tailers[file.Status.Key] = tailer;
    }

    // True when the file was taken care of: it waits, or it is a copy. A file is only taken for a copy when reading it as one loses nothing: everything
    // before its offset has been read from the original with the same bytes.
    bool MayBeCopy(FoundFile file, SafeFileHandle handle, ReadOnlySpan<byte> head)
    {
        var now = time.GetTimestamp();
        if (!_suspects.TryGetValue(file.Status.Key, out var suspect))
        {
            if (OriginalOf(file, head) is not { } original) return false;
            _suspects.Add(file.Status.Key, new Suspect(original, file.Path, file.Status.Size, now));
            handle.Dispose();
            return true;
        }

        var of = suspect.Original;
        if (file.Status.Size != suspect.Size) (suspect.Size, suspect.UnchangedSinceTicks) = (file.Status.Size, now);
        // Emptied meanwhile, and this is no copy of what it held; or the two have gone different ways.
        if (!_tailers.TryGetValue(of.Key, out var still) || still != of) return false;
        var common = Math.Min(file.Status.Size, of.ReadOffset);
        if (MarkerOf(of, common) is { } marker && FileTailer.MarkerAt(handle, common) != marker) return false;
        if (file.Status.Size <= of.Size && now - suspect.UnchangedSinceTicks < Ticks(options.CopyGrace))
        {
            handle.Dispose();
            return true;
        }

        // A long equal beginning is no coincidence; a short one (a line "started", say) may be, and then both files count.
        if (!HasLongHead(of)) return false;
        var offset = Math.Min(of.AckedOffset, LineStartBefore(handle, file.Status.Size));
        if (FileTailer.MarkerAt(handle, offset) is not { } at || at != MarkerOf(of, offset)) return false;
        var copy = of.CopyAt(file, offset, at);
        logger.CopyFound(file.Path, of.Path, offset);
        copy.Attach(handle, file, now);
        copy.IsInCheckpoint = of.IsInCheckpoint;
        _tailers.Add(file.Status.Key, copy);
        _suspects.Remove(file.Status.Key);
        return true;
    }

    static bool HasLongHead(FileTailer tailer) => tailer.HeadLength >= FileIdentity.MaxHeadBytes;

    FileTailer? OriginalOf(FoundFile file, ReadOnlySpan<byte> head)
    {
        var hashes = new Dictionary<int, UInt128>();
        foreach (var tailer in _tailers.Values)
        {
            if (tailer.HeadLength == 0 || tailer.HeadLength > head.Length) continue;
            // A deleted name that is made again is a new file, whatever is in it.
            if ((tailer.IsDeleted || tailer.AbsentSinceMillis != 0) && tailer.MatchedPath == file.Path) continue;
            if (!hashes.TryGetValue(tailer.HeadLength, out var hash)) hashes[tailer.HeadLength] = hash = FileIdentity.Hash(head[..tailer.HeadLength]);
            if (hash == tailer.HeadHash) return tailer;
        }

        return null;
    }

    UInt128? MarkerOf(FileTailer tailer, long offset)
    {
        if (offset == tailer.AckedOffset) return tailer.AckedMarker;
        if (OpenAt(tailer.Path) is not { } opened) return null;
        using var handle = opened.Handle;
        return opened.Status.Key == tailer.Key ? FileTailer.MarkerAt(handle, offset) : null;
    }

    static long LineStartBefore(SafeFileHandle handle, long offset)
    {
        var block = new byte[64 * 1024];
        while (offset > 0)
        {
            var from = Math.Max(0, offset - block.Length);
            var got = RandomAccess.Read(handle, block.AsSpan(0, (int)(offset - from)), from);
            var end = block.AsSpan(0, got).LastIndexOf((byte)'\n');
            if (end >= 0) return from + end + 1;
            offset = from;
        }

        return 0;
    }

    // A copy exists before its original is emptied, so one search after the fact finds it, also under a name that no pattern covers.
    void SettleEmptied()
    {
        foreach (var entry in _emptied.Where(e => e.Search < _searches).ToList())
        {
            var tailer = entry.Tailer;
            if (AdoptSibling(entry)) continue;
            if (tailer.InFlight > 0) continue; // its last lines may still fail, and then have to be read again somewhere
            _emptied.Remove(entry);
            Remember(tailer);
            var lost = Math.Max(0, tailer.Size - tailer.AckedOffset);
            if (lost == 0) continue;
            metrics.CountLost(lost);
            logger.Lost(tailer.Path, lost);
        }
    }

    bool AdoptSibling((FileTailer Tailer, long Search) entry)
    {
        foreach (var (key, file) in Siblings(entry.Tailer.MatchedPath))
        {
            if (_tailers.ContainsKey(key) || file.Status.Size < entry.Tailer.AckedOffset || discovery.Covers(file.Path)) continue;
            if (OpenAt(file.Path) is not { } opened) continue;
            if (opened.Status.Key == key && entry.Tailer.Recognises(opened.Handle, opened.Status.Size))
            {
                _emptied.Remove(entry);
                Continue(entry.Tailer, new FoundFile(file.Path, entry.Tailer.MatchedPath, opened.Status), opened.Handle);
                return true;
            }

            opened.Handle.Dispose();
        }

        return false;
    }

    // With the youngest birth in the directory at this moment.
    void LearnName(string matchedPath)
    {
        if (_names.ContainsKey(matchedPath) || _names.Count >= MaxNames) return;
        var youngest = Siblings(matchedPath).Values.Select(f => f.Status.BirthNanos).DefaultIfEmpty().Max();
        if (youngest > 0) AddName(matchedPath, youngest);
    }

    void AddName(string path, long born)
    {
        if (!_names.TryAdd(path, born)) return;
        var directory = Path.GetDirectoryName(path)!;
        if (!_namesIn.TryGetValue(directory, out var names)) _namesIn.Add(directory, names = []);
        names.Add(path);
    }

    // Made, filled and renamed out of the patterns since the last search, or while the shipper was down: it has a rotated name of a file that is known, was
    // made after everything that lay there when that file was first seen, and is no copy of anything. What is older was rotated away before: nobody asked for it.
    void FindRotatedUnseen()
    {
        foreach (var (directory, names) in _namesIn)
        {
            if (FileStatus.OfPath(directory) is not { } status) continue;
            if (_directories.TryGetValue(directory, out var changed) && changed == status.ModifiedNanos) continue;
            _directories[directory] = status.ModifiedNanos;
            foreach (var file in Siblings(names[0]).Values)
            {
                if (_tailers.ContainsKey(file.Status.Key) || discovery.Covers(file.Path) || discovery.Excludes(file.Path)) continue;
                var original = names.Find(path => file.Status.BirthNanos > _names[path] && FileDiscovery.IsRotatedName(file.Path, path));
                if (original is not null) Admit(file with { MatchedPath = original });
                if (_suspects.ContainsKey(file.Status.Key)) _directories.Remove(directory); // looked at again
            }
        }
    }

    int NextGeneration(FileKey key)
    {
        var next = _gone.TryGetValue(key, out var gone) ? gone + 1 : _generationFloor;
        if (_tailers.TryGetValue(key, out var tailer)) next = Math.Max(next, tailer.Generation + 1);
        foreach (var entry in _emptied.Where(e => e.Tailer.Key == key)) next = Math.Max(next, entry.Tailer.Generation + 1);
        return next;
    }

    void Bury(FileTailer tailer)
    {
        logger.Finished(tailer.Path, tailer.AckedOffset);
        Remember(tailer);
        tailer.Dispose();
        _tailers.Remove(tailer.Key);
    }

    void Remember(FileTailer tailer)
    {
        var generation = _gone.TryGetValue(tailer.Key, out var known) ? Math.Max(known, tailer.Generation) : tailer.Generation;
        _gone.Remove(tailer.Key);
        _gone.Add(tailer.Key, generation);
        while (_gone.Count > MaxGone)
        {
            _generationFloor = Math.Max(_generationFloor, _gone.GetAt(0).Value + 1);
            _gone.RemoveAt(0);
        }
    }

    (SafeFileHandle Handle, FileStatus Status)? OpenAt(string path)
    {
        MakeRoom();
        try
        {
            // Opening a pipe would wait for its writer.
            if (FileStatus.OfPath(path) is not { IsRegular: true }) return null;
            var handle = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            _reported.Remove(path);
            return (handle, FileStatus.OfHandle(handle));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null; // renamed or deleted this moment
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A right that is given is told of; that there is room again for one more open file, or that a disk works again, is not.
            _couldNotOpen |= e is IOException;
            Report(path, e.Message);
            return null;
        }
    }

    void MakeRoom()
    {
        if (_tailers.Count < options.MaxOpenFiles) return;
        var open = _tailers.Values.Where(t => t.IsOpen).ToList();
        foreach (var tailer in open.Where(t => !t.IsDeleted).OrderBy(t => t.IsAtEnd ? 0 : 1).ThenBy(t => t.LastChangeTicks).Take(open.Count - options.MaxOpenFiles + 1))
            tailer.Detach()!.Dispose();
    }

    void Report(string path, string reason)
    {
        if (_reported.Count < 10_000 && _reported.Add(path)) logger.Unreadable(path, reason);
    }

    static bool IsCompressed(ReadOnlySpan<byte> head) =>
        head.StartsWith((ReadOnlySpan<byte>)[0x1f, 0x8b]) || head.StartsWith((ReadOnlySpan<byte>)[0x28, 0xb5, 0x2f, 0xfd]) ||
        head.StartsWith((ReadOnlySpan<byte>)[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]) || head.StartsWith("BZh"u8);

    long Ticks(TimeSpan span) => (long)(span.TotalSeconds * time.TimestampFrequency);

    public void Dispose()
    {
        foreach (var tailer in _tailers.Values) tailer.Dispose();
    }
}
