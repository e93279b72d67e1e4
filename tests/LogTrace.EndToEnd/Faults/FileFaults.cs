using System.Diagnostics;
using System.Text;
using LogTrace.EndToEnd.Support;
using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.EndToEnd.Faults;

/// <summary>Files are renamed, copied, emptied, deleted, relinked, locked away, or hold what no logger should write.</summary>
static class FileFaults
{
    /// <summary>Renames in quick succession while the shipper runs, is stopped and is killed; rotated names inside or outside the pattern.</summary>
    public static async Task RotationStormAsync(FaultCase it)
    {
        it.Globs = [it.Seed % 2 == 1 ? it.Log.GlobOfCurrent : it.Log.Glob];
        var (rounds, lines) = (it.Of(3, 8), it.Of(24_000, 300_000));
        for (var round = 0; round < rounds; round++)
        {
            // A shipper that has never seen a name does not know what its rotated forms are.
            if (round == 0) it.Log.Append(100);
            await it.FlowAsync();
            await StormAsync(it, lines / rounds / 2, it.Seconds(1, 3));
            if (round % 2 == 0) await it.Contender.KillAsync();
            else await it.Contender.StopAsync();
            await StormAsync(it, lines / rounds / 2, it.Seconds(0.6, 1));
        }

        await it.FinishAsync();
        it.Note($"rotated names {(it.Seed % 2 == 1 ? "outside" : "inside")} the pattern");
    }

    static Task StormAsync(FaultCase it, int lines, TimeSpan over)
    {
        var since = Stopwatch.StartNew();
        return it.WriteAsync(lines, over, () =>
        {
            if (since.Elapsed < TimeSpan.FromMilliseconds(200)) return;
            since.Restart();
            it.Log.RotateChain(it.Random.Next(3));
        });
    }

    /// <summary>Copied and emptied, or emptied and at once longer than before, while the shipper runs and while it is down.</summary>
    public static async Task CopyTruncateAsync(FaultCase it)
    {
        var (copies, regrown) = (0, 0);
        using var arrivals = new Arrivals(it.Broker.Address, it.Topic);
        for (var step = 0; step < it.Of(6, 60); step++)
        {
            if (!it.Ship.IsRunning) await it.Ship.BeginAsync();
            await it.WriteAsync(it.Of(500, 2_000), it.Between(0.1, 0.5));
            var isDown = it.Random.Next(3) == 0;
            if (isDown && it.Random.Next(2) == 0) await it.Ship.KillAsync();
            else if (isDown) await it.Ship.StopAsync();
            var file = it.Random.Next(3);
            if (it.Random.Next(2) == 0)
            {
                it.Log.CopyTruncate(file);
                copies++;
            }
            else
            {
                // What was not read before it is emptied is gone for everybody: so first it is read. What was read twice, of a copy that was not known for one, must not count for it.
                it.Ship.Start();
                await arrivals.HoldAsync(it.Log.Written, it.Ship);
                if (isDown) await it.Ship.KillAsync();
                var before = File.Exists(it.Log.PathOf(file)) ? new FileInfo(it.Log.PathOf(file)).Length : 0;
                it.Log.Empty(file);
                while (!File.Exists(it.Log.PathOf(file)) || new FileInfo(it.Log.PathOf(file)).Length <= before) it.Log.Append(500, file);
                regrown++;
            }

            it.Log.Append(100);
        }

        await it.FinishAsync();
        it.Note($"{copies} copied and emptied, {regrown} emptied and grown past the old size");
    }

    /// <summary>A file is deleted and another gets its inode.</summary>
    public static async Task InodeReusedAsync(FaultCase it)
    {
        var reused = 0;
        for (var round = 0; round < it.Of(3, 25); round++)
        {
            await it.Ship.BeginAsync();
            it.Log.Append(it.Random.Next(1, 400), 0);
            await it.Ship.SettleAsync(it.Log.Written);
            var inode = FileStatus.OfPath(it.Log.PathOf(0))!.Value.Key.Inode;
            var isDown = it.Random.Next(2) == 0;
            if (isDown) await it.Ship.KillAsync();
            it.Log.Delete(0);
            // Open files keep their inode: the shipper lets go of a deleted one after a while.
            for (var attempt = 0; attempt < 200; attempt++)
            {
                await File.WriteAllTextAsync(it.Log.PathOf(0), "");
                if (FileStatus.OfPath(it.Log.PathOf(0))!.Value.Key.Inode == inode)
                {
                    reused++;
                    break;
                }

                // Away and back: another inode for the next try.
                File.Move(it.Log.PathOf(0), it.Folder[$"kept-{round}-{attempt}"]);
            }

            foreach (var kept in Directory.EnumerateFiles(it.Folder.Path, "kept-*")) File.Delete(kept);
            it.Log.Append(it.Random.Next(1, 400), 0);
        }

        await it.FinishAsync();
        it.Note($"{reused} inodes reused");
        (reused > 0 || it.IsShort).Should().BeTrue("the file system gave an inode again");
    }

    /// <summary>Lines as no logger should write them; each whole line is in the topic byte by byte, or set aside.</summary>
    public static async Task HostileBytesAsync(FaultCase it)
    {
        var path = Path.Combine(it.Folder["logs"], "hostile.log");
        it.Globs = [path];
        var expected = new Dictionary<string, int>();
        var (lines, aside, blank) = (0, 0, 0);
        await it.Ship.BeginAsync();
        await using (var file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0))
        {
            if (it.Seed % 2 == 0) file.Write([0xef, 0xbb, 0xbf]);
            var count = it.Of(150, 2_000);
            for (var i = 0; i < count; i++)
            {
                // None begins with NUL or a byte order mark or ends with a carriage return of its own: those belong to the line's surroundings.
                var (before, line) = Hostile(it.Random, i);
                byte[] all = [.. before, .. line, .. it.Random.Next(4) == 0 ? "\r\n"u8 : "\n"u8];
                lines++;
                if (line.Length == 0) blank++;
                else if (line.Length > new ShipperOptions().MaxLineBytes) aside++;
                else expected[Key(line)] = expected.GetValueOrDefault(Key(line)) + 1;

                // In pieces that end anywhere; now and then the shipper dies between two of them.
                for (var at = 0; at < all.Length;)
                {
                    var piece = it.Random.Next(3) == 0 ? it.Random.Next(1, all.Length - at + 1) : all.Length - at;
                    file.Write(all, at, piece);
                    at += piece;
                    if (it.Random.Next(it.Of(60, 200)) != 0) continue;
                    await it.Ship.KillAsync();
                    await it.Ship.BeginAsync();
                }
            }

            file.Write("torn, and never finished"u8);
        }

        await it.Ship.FinishAsync();
        var got = TopicContent.Read(it.Broker.Address, it.Topic)
            .DistinctBy(message => { LogTrace.Transport.RecordHeader.TryRead(message.Header, out var offset, out var source); return source.RecordIdAt(offset, message.Value); })
            .GroupBy(message => Key(message.Value)).ToDictionary(group => group.Key, group => group.Count());
        got.Should().BeEquivalentTo(expected, $"each line arrives byte by byte and once, seed {it.Seed}");
        it.Ship.Saved!.Counts.Should().BeEquivalentTo(new { ReadLines = (long)lines, SetAsideLines = (long)aside, BlankLines = (long)blank }, $"nothing is silent, seed {it.Seed}");
        it.Ship.Saved!.Counts.Balances.Should().BeTrue();
        var letters = File.Exists(it.Ship.DeadLetterPath) ? await File.ReadAllLinesAsync(it.Ship.DeadLetterPath) : [];
        letters.Length.Should().BeGreaterThanOrEqualTo(aside, "each is in the dead letter");
        var dead = TopicContent.Read(it.Broker.Address, new LogTrace.Transport.KafkaOptions().DeadTopic).ToList();
        dead.Select(message => { LogTrace.Transport.RecordHeader.TryRead(message.Header, out var offset, out _); return offset; }).Distinct().Should().HaveCount(aside, "each is in the topic beside it");
        it.Note($"{lines:N0} lines, {aside} set aside, {blank} blank: all accounted for");
    }

    static string Key(byte[] line) => line.Length <= 200 ? Encoding.Latin1.GetString(line) : Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(line));

    static (byte[] Before, byte[] Line) Hostile(Random random, int number)
    {
        var tail = Encoding.ASCII.GetBytes($"#{number}");
        return random.Next(9) switch
        {
            0 => ([], []),
            1 => (new byte[random.Next(1, 5_000)], [.. "after NULs "u8, .. tail]),
            2 => ([], [.. Bytes(random, random.Next(1, 300)), .. tail]),
            3 => ([], [0xff, 0xfe, 0xc3, 0x28, .. tail]),
            4 when random.Next(12) == 0 => ([], [.. Enumerable.Repeat((byte)'x', 3_000_000), .. tail]),
            5 => ([], [.. Enumerable.Repeat((byte)'y', random.Next(900_000)), .. tail]),
            6 => ([], [.. "lone \r in \r it"u8, .. tail]),
            7 => ([], [.. "{\"trace_id\":\""u8, .. tail, .. "\",\"unclosed"u8]),
            _ => ([], [.. "{\"trace_id\":\"t\",\"n\":"u8, .. tail, (byte)'}']),
        };
    }

    static byte[] Bytes(Random random, int length)
    {
        var bytes = new byte[length];
        for (var i = 0; i < length; i++)
        {
            do bytes[i] = (byte)random.Next(1, 256);
            while (bytes[i] is (byte)'\n' or (byte)'\r' or 0xef);
        }

        return bytes;
    }

    /// <summary>Deleted with lines that were never sent, while Kafka is away; with even seeds it was never there since the start.</summary>
    public static async Task DeletedWhileOpenAsync(FaultCase it)
    {
        it.Log.Append(300);
        if (it.Seed % 2 == 0) await it.Broker.GoDownAsync();
        await it.Ship.BeginAsync();
        if (it.Seed % 2 == 1)
        {
            await it.Ship.SettleAsync(300);
            await it.Broker.GoDownAsync();
        }

        for (var file = 0; file < 3; file++) await it.Ship.FindAsync(it.Log.PathOf(file));
        await it.WriteAsync(it.Of(3_000, 100_000), it.Seconds(1, 20));
        for (var file = 0; file < 3; file++) it.Log.Delete(file);
        await it.WriteAsync(it.Of(1_000, 20_000), it.Seconds(1, 10));
        await it.Broker.ComeBackAsync();
        await it.FinishLiveAsync();
    }

    /// <summary>A link that points to one file after the other.</summary>
    public static async Task LinkRetargetedAsync(FaultCase it)
    {
        var (link, real) = (Path.Combine(it.Folder["logs"], "current"), it.Folder["real"]);
        Directory.CreateDirectory(real);
        it.Globs = [link];
        await it.Ship.BeginAsync();
        for (var target = 0; target < it.Of(6, 40); target++)
        {
            var path = Path.Combine(real, $"{target}.log");
            var chained = Path.Combine(real, $"link-{target}");
            var text = it.Log.Take(it.Random.Next(1, 300));
            await File.WriteAllTextAsync(path, text[..(text.Length / 2)]);
            File.CreateSymbolicLink(chained, path);
            File.Delete(link);
            File.CreateSymbolicLink(link, chained);
            // A target that nobody looked at while the link pointed there cannot be known.
            await it.Ship.FindAsync(path);
            await File.AppendAllTextAsync(path, text[(text.Length / 2)..]);
        }

        await it.FinishLiveAsync();
    }

    /// <summary>Many files for a process that may open few.</summary>
    public static async Task FewDescriptorsAsync(FaultCase it)
    {
        var files = it.Of(1_000, 10_000);
        it.Ship.Through = ["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"];
        it.Globs = [Path.Combine(it.Folder["logs"], "**", "*.log")];
        void Grow(int lines)
        {
            for (var file = 0; file < files; file++)
            {
                var folder = Path.Combine(it.Folder["logs"], $"{file % 50}");
                Directory.CreateDirectory(folder);
                File.AppendAllText(Path.Combine(folder, $"{file}.log"), it.Log.Take(lines));
            }
        }

        Grow(2);
        await it.Ship.BeginAsync();
        await it.Ship.SettleAsync(files * 2L);
        Grow(1);
        await it.Ship.SettleAsync(files * 3L);
        // Files that have just changed are looked at more often.
        await Task.Delay(it.Seconds(1, 15));
        var (cpu, watch) = (it.Ship.Process.CpuSeconds, Stopwatch.StartNew());
        await Task.Delay(it.Seconds(1, 20));
        it.Note($"{files:N0} files, idle {100 * (it.Ship.Process.CpuSeconds - cpu) / watch.Elapsed.TotalSeconds:F1} % of a core");
        it.Ship.LookAtMemory();
        it.Note($"{it.Ship.PeakMegabytes:F0} MB");
        await it.FinishLiveAsync();
    }

    /// <summary>Directories and files that come and go within a tenth of a second: read, or never seen, but never a crash.</summary>
    public static async Task ShortLivedAsync(FaultCase it)
    {
        it.Globs = [Path.Combine(it.Folder["logs"], "**", "*.log")];
        await it.Ship.BeginAsync();
        for (var round = 0; round < it.Of(40, 400); round++)
        {
            var folder = Path.Combine(it.Folder["logs"], $"new-{round}", "deep");
            Directory.CreateDirectory(folder);
            await File.WriteAllTextAsync(Path.Combine(folder, "a.log"), "{\"param\":\"short-lived\"}\n");
            await Task.Delay(it.Random.Next(100));
            Directory.Delete(Path.GetDirectoryName(folder)!, recursive: true);
            it.Log.Append(20);
        }

        await it.Ship.SettleAsync(it.Log.Written);
        it.Ship.IsRunning.Should().BeTrue(it.Ship.Process.Transcript);
        var all = TopicContent.Read(it.Broker.Address, it.Topic).Select(message => Encoding.UTF8.GetString(message.Value)).ToList();
        all.Count(text => !text.Contains("short-lived", StringComparison.Ordinal)).Should().Be(it.Log.Written);
        it.Note($"{all.Count - it.Log.Written} of {it.Of(40, 400)} short-lived files were seen in time");
    }

    /// <summary>Whether a program can be started in a user namespace, whose limits of inotify are its own.</summary>
    public static bool CanRefuseInotify { get; } = TryRefusing();

    static bool TryRefusing()
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo("unshare", [.. Refusing("max_inotify_instances")[1..], "true"]) { RedirectStandardError = true })!;
            process.WaitForExit();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    // In the namespace only; whoever else uses inotify on this machine keeps his.
    static string[] Refusing(string limit) => ["unshare", "--user", "--map-root-user", "sh", "-c", $"set -e; echo 0 > /proc/sys/user/{limit}; exec \"$@\"", "sh"];

    /// <summary>inotify is refused, gives an instance and no watch, is switched off, or is told of more than it remembers.</summary>
    public static async Task WithoutInotifyAsync(FaultCase it)
    {
        foreach (var limit in (string?[])["max_inotify_instances", "max_inotify_watches", null])
        {
            it.Ship.Through = limit is null ? [] : Refusing(limit);
            it.Ship.Settings["Shipper:Hints"] = limit is null ? "false" : "true";
            await it.FlowAsync();
            await it.WriteAsync(it.Of(300, 3_000), it.Seconds(0.5, 2), () => it.Log.Rotate(it.Random.Next(3)));
            await it.Ship.SettleAsync(it.Log.Written);
            // So long that files are not looked at because they have just changed.
            await Task.Delay(it.Seconds(0, 12));
            it.Log.Append(3);
            it.Log.Rotate(1);
            it.Log.Append(3);
            await it.Ship.SettleAsync(it.Log.Written);
            HoldsInotify(it).Should().Be(limit == "max_inotify_watches");
            it.Ship.Process.Errors.Split('\n').Count(line => line.Contains("does not tell of all changes", StringComparison.Ordinal)).Should().Be(limit is null ? 0 : 1, it.Ship.Process.Transcript);
            await it.Ship.StopAsync();
        }

        (it.Ship.Through, it.Ship.Settings["Shipper:Hints"]) = ([], "true");
        await it.FlowAsync();
        HoldsInotify(it).Should().BeTrue();
        it.Ship.Process.Freeze();
        // In turn, since equal hints in a row are one.
        var most = int.Parse(await File.ReadAllTextAsync("/proc/sys/fs/inotify/max_queued_events"), System.Globalization.CultureInfo.InvariantCulture);
        for (var line = 0; line < most; line++) it.Log.Append(1, line % 2);
        it.Log.Append(100, 2);
        it.Ship.Process.Thaw();
        await it.Ship.SettleAsync(it.Log.Written);
        await it.FinishAsync();
        it.Note($"{most:N0} changes remembered, more than that written");
    }

    static bool HoldsInotify(FaultCase it) =>
        Directory.EnumerateFiles($"/proc/{it.Ship.Process.Id}/fd").Any(descriptor => new FileInfo(descriptor).LinkTarget?.Contains("inotify", StringComparison.Ordinal) == true);

    public static async Task PermissionsLostAsync(FaultCase it)
    {
        const string Nobody = "65534";
        Directory.CreateDirectory(it.Ship.DataDirectory);
        if (Environment.UserName == "root")
        {
            // Root may read everything.
            it.Ship.Through = ["setpriv", $"--reuid={Nobody}", $"--regid={Nobody}", "--clear-groups"];
            foreach (var folder in (string[])[it.Folder.Path, it.Ship.DataDirectory]) SetMode(folder, (UnixFileMode)0b111_111_111);
        }

        const UnixFileMode Readable = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
        await it.Ship.BeginAsync();
        for (var round = 0; round < it.Of(2, 6); round++)
        {
            it.Log.Append(500);
            await it.Ship.SettleAsync(it.Log.Written);
            await it.Ship.StopAsync();
            for (var file = 0; file < 3; file++) SetMode(it.Log.PathOf(file), UnixFileMode.UserWrite);
            await it.Ship.BeginAsync();
            it.Log.Append(500);
            await Eventually.HoldsAsync(() => it.Ship.Process.Errors.Contains("cannot be read", StringComparison.Ordinal), "it says that it may not read");
            for (var file = 0; file < 3; file++) SetMode(it.Log.PathOf(file), Readable);
            await it.Ship.SettleAsync(it.Log.Written);
            it.Ship.Process.Errors.Split('\n').Count(line => line.Contains("cannot be read", StringComparison.Ordinal)).Should().BeLessThanOrEqualTo(3, "once for each file, not at every try");
        }

        await it.FinishLiveAsync();
    }

    static void SetMode(string path, UnixFileMode mode)
    {
        if (!OperatingSystem.IsWindows()) File.SetUnixFileMode(path, mode);
    }

    /// <summary>The disk of the logs is full for a while: a line is cut in half, and its writer goes on with the next when there is room.</summary>
    public static async Task LogDiskFullAsync(FaultCase it)
    {
        using var disk = new SmallDisk(512);
        var path = Path.Combine(disk.Path, "app.log");
        var rounds = it.Of(3, 8);
        for (var round = 0; round < rounds; round++) await File.WriteAllBytesAsync(Path.Combine(disk.Path, $"ballast{round}"), new byte[40 * 1024]);
        it.Globs = [path];
        await it.Ship.BeginAsync();
        var lines = 0;
        for (var round = 0; round <= rounds; round++)
        {
            await using (var file = new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0))
            {
                try
                {
                    // In the last round there is room enough.
                    for (var left = round == rounds ? 20 : int.MaxValue; left > 0; left--) file.Write(Encoding.ASCII.GetBytes($"line {lines++:d6} {new string('x', it.Random.Next(500))}\n"));
                }
                catch (IOException)
                {
                    // Full; the first part of the line may be there.
                }
            }

            await it.Ship.SettleAsync((await File.ReadAllTextAsync(path)).Count(character => character == '\n'));
            if (round < rounds) File.Delete(Path.Combine(disk.Path, $"ballast{round}"));
        }

        await it.Ship.StopAsync();
        var written = (await File.ReadAllTextAsync(path)).Split('\n');
        TopicContent.Read(it.Broker.Address, it.Topic).Select(message => Encoding.ASCII.GetString(message.Value)).Should().BeEquivalentTo(written[..^1], $"a cut line and the one glued to it are one line, all others are whole, seed {it.Seed}");
        it.Note($"{written.Length - 1:N0} lines, the disk full {rounds} times");
    }
}
