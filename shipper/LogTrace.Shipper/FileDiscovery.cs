using System.IO.Enumeration;

namespace LogTrace.Shipper;

/// <summary>A file that a pattern names.</summary>
/// <param name="Path">Where it is, links resolved.</param>
/// <param name="MatchedPath">The name that matched.</param>
/// <param name="Status">What it is.</param>
sealed record FoundFile(string Path, string MatchedPath, FileStatus Status)
{
    /// <summary>The longest unchanged first: after a rotation that is the order in which they were written.</summary>
    public static int CompareAge(FoundFile a, FoundFile b) =>
        a.Status.ModifiedNanos != b.Status.ModifiedNanos ? a.Status.ModifiedNanos.CompareTo(b.Status.ModifiedNanos) : string.CompareOrdinal(a.Path, b.Path);
}

/// <summary>
/// Patterns to files. A pattern is a path in which <c>*</c>, <c>?</c>, <c>[a-z]</c> and <c>{one,two}</c> stand for parts of a name and <c>**</c> for any directories.
/// As in a shell, a name that begins with a dot must be named so. Symbolic links are followed, and a file is found once, whatever its names.
/// </summary>
sealed class FileDiscovery
{
    readonly List<string[]> _patterns = [];
    readonly List<string[]> _excludes = [];
    readonly string _ownDirectory;
    readonly List<(string Path, FileKey? Key)> _landmarks = [];
    readonly Dictionary<FileKey, FoundFile> _found = [];
    FileHints? _hints;

    /// <param name="patterns">What to find.</param>
    /// <param name="excludes">What to leave out; a pattern without a slash is compared with the file name alone.</param>
    /// <param name="ownDirectory">The shipper's own files are never found: shipping its dead letter would feed on itself.</param>
    public FileDiscovery(IEnumerable<string> patterns, IEnumerable<string> excludes, string ownDirectory)
    {
        foreach (var pattern in patterns.SelectMany(ExpandBraces)) _patterns.Add(Segments(Path.GetFullPath(pattern)));
        foreach (var pattern in excludes.SelectMany(ExpandBraces))
            _excludes.Add(pattern.Contains('/') ? Segments(Path.GetFullPath(pattern)) : ["**", pattern]);
        _ownDirectory = Path.GetFullPath(ownDirectory).TrimEnd('/') + "/";
    }

    /// <summary>Directories that could not be read in the last search, each with the reason.</summary>
    public Dictionary<string, string> Unreadable { get; } = [];

    /// <summary>All files there are now, in no particular order, until the next search.</summary>
    /// <param name="hints">Is to watch every directory that is looked into; null for none.</param>
    public IReadOnlyCollection<FoundFile> Find(FileHints? hints = null)
    {
        Unreadable.Clear();
        _landmarks.Clear();
        _hints = hints;
        _found.Clear();
        foreach (var pattern in _patterns)
        {
            // A name that holds pattern characters itself.
            Add("/" + string.Join('/', pattern));
            Walk("/", pattern, 0, []);
        }

        return _found.Values;
    }

    /// <summary>
    /// Whether a path by which the last search came to a directory leads to another one now, or to none. What happens inside the directories is a matter
    /// of hints; the way to them would take more watches, and none sees a link that is changed far away.
    /// </summary>
    public bool LeadsElsewhere() => _landmarks.Exists(landmark => FileStatus.OfPath(landmark.Path)?.Key != landmark.Key);

    /// <summary>Whether a file of this name would be found.</summary>
    public bool Covers(string path)
    {
        var segments = Segments(path);
        return !IsOwn(path) && _patterns.Exists(p => Matches(p, segments)) && !IsExcluded(path);
    }

    /// <summary>Whether the name is left out by the configuration, or is one of the shipper's own.</summary>
    public bool Excludes(string path) => IsOwn(path) || IsExcluded(path);

    /// <summary>
    /// Whether a rotation may have given <paramref name="path"/> to a file called <paramref name="original"/>: in the same directory, with a number or date
    /// behind the name or before its extension.
    /// </summary>
    public static bool IsRotatedName(string path, string original)
    {
        if (Path.GetDirectoryName(path) != Path.GetDirectoryName(original)) return false;
        var (name, before, extension) = (Path.GetFileName(path), Path.GetFileName(original), Path.GetExtension(original));
        if (name.StartsWith(before, StringComparison.Ordinal) && IsNumberOrDate(name.AsSpan(before.Length))) return true;
        var stem = before[..^extension.Length];
        return extension.Length > 0 && name.StartsWith(stem, StringComparison.Ordinal) && name.EndsWith(extension, StringComparison.Ordinal)
            && name.Length > before.Length && IsNumberOrDate(name.AsSpan(stem.Length, name.Length - before.Length));

        static bool IsNumberOrDate(ReadOnlySpan<char> part) =>
            part.IndexOfAnyInRange('0', '9') >= 0 && part.IndexOfAnyExcept("0123456789-._:TZ") < 0;
    }

    /// <summary>All plain files of a directory by identity, whatever their names.</summary>
    public static Dictionary<FileKey, FoundFile> FilesIn(string directory)
    {
        var files = new Dictionary<FileKey, FoundFile>();
        foreach (var (path, _) in List(directory, static _ => true, null))
        {
            if (FileStatus.OfPath(path) is { IsRegular: true } status) files.TryAdd(status.Key, new FoundFile(path, path, status));
        }

        return files;
    }

    void Walk(string directory, string[] pattern, int at, HashSet<FileKey> above)
    {
        var segment = pattern[at];
        var isLast = at == pattern.Length - 1;
        var isListed = segment.AsSpan().IndexOfAny("*?[") >= 0;
        if (_hints is not null && (isLast || isListed || at > FirstListed(pattern))) Visit(directory, isListed, at <= FirstListed(pattern));
        if (segment == "**")
        {
            if (isLast) pattern = [.. pattern, "*"];
            Walk(directory, pattern, at + 1, above);
            foreach (var (path, isDirectory) in List(directory, static name => name[0] != '.', Unreadable))
            {
                // A link to a directory above would be followed for ever.
                if (!isDirectory || FileStatus.OfPath(path) is not { } status || !above.Add(status.Key)) continue;
                Walk(path, pattern, at, above);
                above.Remove(status.Key);
            }
        }
        else if (!isListed)
        {
            var path = Path.Combine(directory, segment);
            if (isLast) Add(path);
            else Walk(path, pattern, at + 1, above);
        }
        else
        {
            foreach (var (path, isDirectory) in List(directory, name => MatchesName(segment, name), Unreadable))
            {
                if (isLast && !isDirectory) Add(path);
                else if (!isLast && isDirectory) Walk(path, pattern, at + 1, above);
            }
        }
    }

    static int FirstListed(string[] pattern) => Array.FindIndex(pattern, segment => segment.AsSpan().IndexOfAny("*?[") >= 0) is >= 0 and var first ? first : pattern.Length - 1;

    void Visit(string directory, bool isListed, bool isFirst)
    {
        // Each checkpoint would ask for a search of files.
        if (IsOwn(directory + "/")) return;
        // Whoever changes a directory is told of its names, not of where the way to it leads.
        if (isFirst || FileStatus.OfEntry(directory) is not { IsDirectory: true }) _landmarks.Add((directory, FileStatus.OfPath(directory)?.Key));
        _hints!.Watch(directory, isListed);
    }

    void Add(string path)
    {
        // Called for every file in every search: a plain file, as nearly all are, takes one system call.
        if (FileStatus.OfEntry(path) is not { IsDirectory: false } status || IsOwn(path) || IsExcluded(path)) return;
        var target = path;
        if (!status.IsRegular)
        {
            if (FileStatus.OfPath(path) is not { IsRegular: true } linked) return;
            status = linked;
            try
            {
                if (File.ResolveLinkTarget(path, returnFinalTarget: true) is { } resolved) target = resolved.FullName;
            }
            catch (IOException)
            {
                return; // gone, or changed under our eyes: the next search sees it as it is then
            }
        }

        if (target != path && IsOwn(target)) return;
        var file = new FoundFile(target, path, status);
        // Its own name says more than a link's.
        if (!_found.TryAdd(status.Key, file) && target == path && _found[status.Key].MatchedPath != _found[status.Key].Path) _found[status.Key] = file;
    }

    bool IsOwn(string path) => path.StartsWith(_ownDirectory, StringComparison.Ordinal);

    bool IsExcluded(string path)
    {
        if (_excludes.Count == 0) return false;
        var segments = Segments(path);
        return _excludes.Exists(p => Matches(p, segments));
    }

    delegate bool NameFilter(ReadOnlySpan<char> name);

    static List<(string Path, bool IsDirectory)> List(string directory, NameFilter filter, Dictionary<string, string>? unreadable)
    {
        try
        {
            return [.. new FileSystemEnumerable<(string, bool)>(
                directory,
                static (ref entry) => (entry.ToSpecifiedFullPath(), entry.IsDirectory),
                new EnumerationOptions { AttributesToSkip = 0, IgnoreInaccessible = false })
            {
                ShouldIncludePredicate = (ref entry) => filter(entry.FileName),
            }];
        }
        catch (DirectoryNotFoundException)
        {
            return []; // not there yet, or no longer
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            unreadable?.TryAdd(directory, e.Message);
            return [];
        }
    }

    static string[] Segments(string path) => path.Split('/', StringSplitOptions.RemoveEmptyEntries);

    static bool Matches(ReadOnlySpan<string> pattern, ReadOnlySpan<string> path)
    {
        if (pattern.IsEmpty) return path.IsEmpty;
        if (pattern[0] == "**")
        {
            for (var skipped = 0; skipped <= path.Length; skipped++)
            {
                if (pattern.Length == 1 || Matches(pattern[1..], path[skipped..])) return true;
            }

            return false;
        }

        return !path.IsEmpty && MatchesName(pattern[0], path[0]) && Matches(pattern[1..], path[1..]);
    }

    /// <summary>One name against one segment of a pattern.</summary>
    internal static bool MatchesName(ReadOnlySpan<char> pattern, ReadOnlySpan<char> name)
    {
        if (name.StartsWith(".") && !pattern.StartsWith(".")) return false;
        int p = 0, n = 0, starAt = -1, starName = 0;
        while (n < name.Length)
        {
            if (p < pattern.Length && pattern[p] == '*')
            {
                starAt = p++;
                starName = n;
            }
            else if (p < pattern.Length && MatchesOne(pattern, p, name[n], out var next))
            {
                p = next;
                n++;
            }
            else if (starAt >= 0)
            {
                p = starAt + 1;
                n = ++starName;
            }
            else
            {
                return false;
            }
        }

        while (p < pattern.Length && pattern[p] == '*') p++;
        return p == pattern.Length;
    }

    static bool MatchesOne(ReadOnlySpan<char> pattern, int at, char character, out int next)
    {
        next = at + 1;
        if (pattern[at] == '?') return true;
        if (pattern[at] != '[') return pattern[at] == character;
        var end = at + 1;
        var negated = end < pattern.Length && pattern[end] is '!' or '^';
        if (negated) end++;
        var first = end;
        var hit = false;
        for (; end < pattern.Length && (pattern[end] != ']' || end == first); end++)
        {
            if (end + 2 < pattern.Length && pattern[end + 1] == '-' && pattern[end + 2] != ']')
            {
                hit |= character >= pattern[end] && character <= pattern[end + 2];
                end += 2;
            }
            else
            {
                hit |= pattern[end] == character;
            }
        }

        if (end >= pattern.Length) return pattern[at] == character; // no closing bracket: it means itself
        next = end + 1;
        return hit != negated;
    }

    static IEnumerable<string> ExpandBraces(string pattern)
    {
        var open = pattern.IndexOf('{');
        var close = open < 0 ? -1 : pattern.IndexOf('}', open);
        if (close < 0) return [pattern];
        return pattern[(open + 1)..close].Split(',')
            .SelectMany(choice => ExpandBraces(pattern[..open] + choice + pattern[(close + 1)..]));
    }
}
