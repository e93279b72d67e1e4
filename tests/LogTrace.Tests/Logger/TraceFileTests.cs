using System.Text;
using LogTrace.Tests.Support;
using Microsoft.Extensions.Time.Testing;
using Serilog;

namespace LogTrace.Tests.Logger;

public sealed class TraceFileTests : IDisposable
{
    readonly TempFolder _folder = new();

    string LogPath => _folder["logs/orders.log"];

    public void Dispose() => _folder.Dispose();

    TraceFileOptions Options => new() { Path = LogPath };

    static byte[] Line(string text) => Encoding.UTF8.GetBytes(text + "\n");

    [Fact]
    public async Task Concurrent_writers_leave_whole_lines_and_a_count_that_fits()
    {
        const int Writers = 8, Lines = 5_000;
        var file = new TraceFile(Options with { RollBytes = 64 * 1024, FlushInterval = TimeSpan.FromMilliseconds(1), QueueBytes = 64 * 1024, FlushBytes = 4096 });

        await Task.WhenAll(Enumerable.Range(0, Writers).Select(writer => Task.Run(() =>
        {
            for (var i = 0; i < Lines; i++) file.Append(Line($"{writer}:{i}:{new string('x', i % 97)}"));
        })));
        file.Dispose();

        var lines = Written.Lines(LogPath);
        file.Dropped.Should().Be(0);
        file.Written.Should().Be(Writers * Lines);
        lines.Should().HaveCount(Writers * Lines);
        foreach (var own in lines.Select(line => line.Split(':')).GroupBy(parts => parts[0]))
        {
            own.Select(parts => int.Parse(parts[1])).Should().Equal(Enumerable.Range(0, Lines), "the lines of one writer keep their order");
            own.Should().OnlyContain(parts => parts[2].Length == int.Parse(parts[1]) % 97);
        }

        var files = Directory.GetFiles(_folder["logs"]);
        files.Should().HaveCountGreaterThan(1);
        files.Should().OnlyContain(path => new FileInfo(path).Length <= 64 * 1024);
        files.Should().OnlyContain(path => Path.GetFileName(path).Contains($"-{Environment.ProcessId}-"));
    }

    [Fact]
    public void Closing_writes_what_waits()
    {
        var file = new TraceFile(Options with { FlushInterval = TimeSpan.FromMinutes(1) });
        for (var i = 0; i < 10; i++) file.Append(Line($"line {i}"));

        file.Dispose();

        Written.Lines(LogPath).Should().Equal(Enumerable.Range(0, 10).Select(i => $"line {i}"));
        file.Append(Line("late")).Should().BeFalse();
        file.Dropped.Should().Be(1);
        file.Written.Should().Be(10);
    }

    [Fact]
    public void Flush_returns_when_the_lines_can_be_read()
    {
        using var file = new TraceFile(Options with { FlushInterval = TimeSpan.FromMinutes(1) });
        file.Append(Line("one"));

        file.Flush(TimeSpan.FromSeconds(10)).Should().BeTrue();

        Written.Lines(LogPath).Should().Equal("one");
        file.Flush(TimeSpan.Zero).Should().BeTrue("nothing waits");
    }

    [Fact]
    public async Task A_line_reaches_the_file_without_a_flush()
    {
        using var file = new TraceFile(Options);
        file.Append(Line("one"));

        await Eventually.HoldsAsync(() => file.Written == 1, "the line is written");
    }

    [Fact]
    public void Lines_that_take_the_room_are_written_although_they_are_too_few_for_a_batch()
    {
        using var file = new TraceFile(Options with { QueueBytes = 64 * 1024, FlushBytes = 32 * 1024, FlushInterval = TimeSpan.FromMinutes(1), MaxBlock = TimeSpan.FromSeconds(30) });
        for (var i = 0; i < 3; i++) file.Append(Line(new string('x', 20_000))).Should().BeTrue("nobody holds the disk up");
    }

    [Fact]
    public async Task A_line_after_a_pause_reaches_the_file_without_a_flush()
    {
        using var file = new TraceFile(Options with { FlushInterval = TimeSpan.FromMilliseconds(20) });
        for (var line = 1; line <= 3; line++)
        {
            file.Append(Line("one"));
            await Eventually.HoldsAsync(() => file.Written == line, "the writer looks at the clock");
            await Eventually.HoldsAsync(() => file.IsIdle, "nothing comes for a while; it wakes up at the next line");
        }
    }

    [Fact]
    public void A_line_longer_than_a_file_may_be_gets_a_file_of_its_own()
    {
        var huge = new string('h', 200_000);
        using (var file = new TraceFile(Options with { RollBytes = 4096, QueueBytes = 64 * 1024, FlushBytes = 1024 }))
        {
            file.Append(Line("before"));
            file.Append(Line(huge));
            file.Append(Line("after"));
        }

        Written.Lines(LogPath).Should().Equal("before", huge, "after");
        Directory.GetFiles(_folder["logs"]).Should().HaveCount(3);
    }

    [Fact]
    public void Two_loggers_with_one_path_never_share_a_file()
    {
        using (var first = new TraceFile(Options))
        using (var second = new TraceFile(Options))
        {
            first.CurrentPath.Should().NotBe(second.CurrentPath);
            for (var i = 0; i < 100; i++)
            {
                first.Append(Line("first"));
                second.Append(Line("second"));
            }
        }

        Written.Lines(LogPath).Should().HaveCount(200);
    }

    [Fact]
    public void A_deleted_or_truncated_file_costs_no_later_line()
    {
        using var file = new TraceFile(Options);
        file.Append(Line("one"));
        file.Flush(TimeSpan.FromSeconds(10));
        using (var truncate = new FileStream(file.CurrentPath!, FileMode.Open, FileAccess.Write, FileShare.ReadWrite)) truncate.SetLength(0);

        file.Append(Line("two"));
        file.Flush(TimeSpan.FromSeconds(10));

        File.ReadAllBytes(file.CurrentPath!).Should().Equal(Line("two"), "no hole is left where the file was cut");
    }

    [Fact]
    public void Old_files_go_when_the_limit_is_reached()
    {
        using (var file = new TraceFile(Options with { RollBytes = 4096, RetainBytes = 12_288, FlushBytes = 1024 }))
        {
            for (var i = 0; i < 1000; i++) file.Append(Line($"{i:000000} {new string('x', 90)}"));
        }

        Directory.GetFiles(_folder["logs"]).Sum(path => new FileInfo(path).Length).Should().BeLessThanOrEqualTo(12_288);
        Written.Lines(LogPath)[^1].Should().StartWith("000999");
    }

    [Fact]
    public void A_disk_that_refuses_drops_and_counts_and_works_again_later()
    {
        using var file = new TraceFile(Options with { RollBytes = 4096, FlushBytes = 1024 });
        // A folder under the name of the next file makes opening it fail as long as it is there.
        file.Append(Line(new string('a', 4000)));
        file.Flush(TimeSpan.FromSeconds(10)).Should().BeTrue();
        Directory.Move(_folder["logs"], _folder["moved"]);
        File.WriteAllText(_folder["logs"], "not a folder");

        file.Append(Line(new string('b', 4000)));
        file.Flush(TimeSpan.FromSeconds(10)).Should().BeTrue();

        file.Dropped.Should().Be(1);
        File.Delete(_folder["logs"]);
        file.Append(Line("again"));
        file.Flush(TimeSpan.FromSeconds(10)).Should().BeTrue();
        file.Written.Should().Be(2);
        Written.Lines(LogPath).Should().Equal("again");
    }

    [Fact]
    public async Task A_disk_that_stands_still_blocks_one_caller_for_a_limited_time_then_lines_are_dropped_and_counted()
    {
        using var file = new TraceFile(Options with { QueueBytes = 64 * 1024, FlushBytes = 1024, MaxBlock = TimeSpan.FromMilliseconds(300) });
        using var disk = new StoppedDisk(file);
        var line = Line(new string('x', 1023));
        while (file.Dropped == 0) file.Append(line);
        var watch = System.Diagnostics.Stopwatch.StartNew();

        for (var i = 0; i < 100; i++) file.Append(line).Should().BeFalse();

        watch.Elapsed.Should().BeLessThan(TimeSpan.FromSeconds(10), "the first caller found out for all, else this took 30 s");
        disk.GoOn();
        await Eventually.HoldsAsync(() => file.Flush(TimeSpan.Zero), "what waited is written");
        file.Append(line).Should().BeTrue("the disk works again");
        file.Dispose();
        file.Dropped.Should().Be(101);
        Written.Lines(LogPath).Should().HaveCount((int)file.Written);
    }

    [Fact]
    public void Serilog_events_and_typed_records_share_the_file_and_the_count()
    {
        using var logger = new TraceLogger(TestService.Options("orders", LogPath));
        using (var log = new LoggerConfiguration().LogTrace(logger).CreateLogger())
        using (logger.StartTrace("job"))
        {
            for (var i = 0; i < 100; i++)
            {
                log.Information("line {Number}", i);
                using var call = TraceOperation.Begin("redis.request", "GET x");
            }
        }

        logger.Dispose();

        logger.Written.Should().Be(201);
        logger.Dropped.Should().Be(0);
        Written.Records(LogPath).Should().HaveCount(201);
    }

    [Theory]
    [InlineData(71)]
    public async Task Sixty_four_writers_of_lines_of_any_length_lose_tear_and_swap_none(int seed)
    {
        const int Writers = 64, Lines = 2_000, Shortest = 10, Longest = 64 * 1024;
        var file = new TraceFile(Options with { MaxBlock = TimeSpan.FromMinutes(1), RollBytes = 1L << 32 });

        var threads = Enumerable.Range(0, Writers).Select(writer => new Thread(() =>
        {
            var buffer = new byte[Longest];
            for (var number = 0; number < Lines; number++) file.Append(LineOf(writer, number, buffer));
        })).ToList();
        threads.ForEach(thread => thread.Start());
        await Task.Run(() => threads.ForEach(thread => thread.Join()));
        file.Dispose();

        file.Dropped.Should().Be(0);
        file.Written.Should().Be(Writers * Lines);
        var next = new int[Writers];
        var expected = new byte[Longest];
        var path = Directory.GetFiles(_folder["logs"]).Should().ContainSingle().Subject;
        using (var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 1024 * 1024))
        {
            var line = new byte[Longest];
            while (stream.ReadAtLeast(line.AsSpan(0, Shortest), Shortest, throwOnEndOfStream: false) == Shortest)
            {
                var writer = (line[0] - ' ') * 8 + (line[1] - ' ');
                var whole = LineOf(writer, next[writer]++, expected);
                stream.ReadExactly(line.AsSpan(Shortest, whole.Length - Shortest));
                if (!line.AsSpan(0, whole.Length).SequenceEqual(whole)) Assert.Fail($"line {next[writer] - 1} of writer {writer} is not whole or not in its place, seed {seed}");
            }
        }

        next.Should().OnlyContain(count => count == Lines);

        // Its writer in two characters, its number in three, then letters; lengths are as likely between 10 and 100 as between 10,000 and 100,000.
        ReadOnlySpan<byte> LineOf(int writer, int number, byte[] buffer)
        {
            var random = new Random(seed * 1_000_003 + writer * 10_007 + number);
            var length = (int)(Shortest * Math.Pow((double)Longest / Shortest, random.NextDouble()));
            var line = buffer.AsSpan(0, length);
            line.Fill((byte)('a' + random.Next(26)));
            line[0] = (byte)(' ' + writer / 8);
            line[1] = (byte)(' ' + writer % 8);
            for (var (i, rest) = (4, number); i > 1; i--, rest /= 16) line[i] = (byte)(' ' + rest % 16);
            line[^1] = (byte)'\n';
            return line;
        }
    }

    [SmallDiskFact]
    public void A_full_disk_drops_counts_and_says_so_in_the_file_when_there_is_room_again()
    {
        using var disk = new SmallDisk(kilobytes: 512);
        var path = Path.Combine(disk.Path, "orders.log");
        var ballast = Path.Combine(disk.Path, "ballast");
        File.WriteAllBytes(ballast, new byte[256 * 1024]);
        using var logger = new TraceLogger(TestService.Options("orders", path) with { File = new() { Path = path, RollBytes = 64 * 1024, FlushBytes = 1024 } });
        using var scope = logger.StartTrace("job");

        for (var i = 0; i < 1000; i++)
        {
            scope.BeginCall("redis.request", new string('k', 1000)).Dispose();
            logger.File!.Flush(TimeSpan.FromSeconds(10)).Should().BeTrue();
        }

        var dropped = logger.File!.DroppedFor(DropReason.Disk);
        dropped.Should().BePositive();
        Directory.GetFiles(disk.Path, "orders-*").Should().HaveCountLessThan(10, "a disk that refuses leaves no empty files behind");
        File.Delete(ballast);
        scope.BeginCall("redis.request", "GET again").Dispose();
        logger.File.Flush(TimeSpan.FromSeconds(10)).Should().BeTrue();

        var records = Written.Records(path);
        records.Should().HaveCount((int)logger.Written);
        records.Where(record => record.Action == "logtrace.dropped_lines").Should().ContainSingle()
            .Which.ExtraJson.Should().Be($$"""{"value":{{dropped}},"reason":"Disk"}""");
        records[^2].Action.Should().Be("GET again");
        (logger.Written + logger.Dropped).Should().Be(1000 + 1 + 1, "every line is in the file or counted");
    }

    [Fact]
    public async Task Where_no_caller_is_to_wait_lines_are_dropped_at_once_and_the_file_says_how_many()
    {
        using var file = new TraceFile(Options with { QueueBytes = 64 * 1024, FlushBytes = 1024, MaxBlock = TimeSpan.FromMinutes(1), WhenFull = FullQueue.DropNewest })
        {
            DropReport = (reason, lines) => Line($"{reason} {lines}"),
        };
        using var disk = new StoppedDisk(file);
        var line = Line(new string('x', 1023));
        file.Append(line);
        await disk.StandsStill.Within();

        while (file.Append(line))
        {
        }

        for (var i = 0; i < 9; i++) file.Append(line).Should().BeFalse();
        disk.GoOn();
        await Eventually.HoldsAsync(() => file.Flush(TimeSpan.Zero), "what waited is written");
        file.Dispose();

        file.DroppedFor(DropReason.QueueFull).Should().Be(10);
        Written.Lines(LogPath).Where(text => text.StartsWith("QueueFull", StringComparison.Ordinal)).Should().Equal("QueueFull 10");
        Written.Lines(LogPath).Should().HaveCount((int)file.Written);
    }

    [Fact]
    public void A_new_file_is_begun_on_the_hour()
    {
        var time = new FakeTimeProvider(new DateTimeOffset(2026, 11, 22, 1, 59, 59, TimeSpan.Zero));
        using (var file = new TraceFile(Options with { RollInterval = TimeSpan.FromHours(1) }, time))
        {
            WriteOne(file, "one");
            WriteOne(file, "two");
            time.Advance(TimeSpan.FromSeconds(1));
            WriteOne(file, "three");
            time.Advance(TimeSpan.FromMinutes(59));
            WriteOne(file, "four");
        }

        Directory.GetFiles(_folder["logs"]).Order(StringComparer.Ordinal).Select(File.ReadAllText).Should().Equal("one\ntwo\n", "three\nfour\n");
    }

    [Fact]
    public void Old_files_go_by_number_and_by_age()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        using (var file = new TraceFile(Options with { RollInterval = TimeSpan.FromMinutes(1), RetainFiles = 3 }, time))
        {
            for (var i = 0; i < 6; i++)
            {
                WriteOne(file, $"line {i}");
                time.Advance(TimeSpan.FromMinutes(1));
            }
        }

        Written.Lines(LogPath).Should().Equal("line 3", "line 4", "line 5");

        time.Advance(TimeSpan.FromHours(2));
        using (var file = new TraceFile(Options with { RetainAge = TimeSpan.FromHours(1) }, time)) WriteOne(file, "next day");

        Written.Lines(LogPath).Should().Equal("next day");
    }

    static void WriteOne(TraceFile file, string text)
    {
        file.Append(Line(text));
        file.Flush(TimeSpan.FromSeconds(30)).Should().BeTrue();
    }
}
