using LogTrace.Indexer;
using LogTrace.Indexer.Store;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.Logging;

namespace LogTrace.Tests.Indexer;

public sealed class SqliteTraceStoreTests : TraceStoreContract, IDisposable
{
    readonly TempFolder _folder = new();

    SqliteStoreOptions Options => new() { Directory = _folder["store"], MaxLineBytes = 20 << 20 };

    protected override async Task<ITraceStore> OpenAsync() => await OpenAsync(Options);

    async Task<SqliteTraceStore> OpenAsync(SqliteStoreOptions options, ILogger? logger = null)
    {
        var store = new SqliteTraceStore(options, Clock, logger);
        await store.OpenAsync(default);
        return store;
    }

    protected override IndexedRecord RecordThatIsRefused => Some.Record("t-1", "1.3", msg: new string('x', 21 << 20));

    [Fact]
    public async Task Record_lies_in_the_file_of_its_own_day_and_far_off_ones_share_one()
    {
        await using var store = await OpenAsync();
        await store.WriteAsync([Some.Record("t-1"), Some.Record("t-2", at: new(2026, 11, 21, 23, 59, 59, TimeSpan.Zero)), Some.Record("t-3", at: new(2017, 9, 27, 0, 0, 0, TimeSpan.Zero))], default);

        Days().Should().Equal("records-2026-11-21.db", "records-2026-11-23.db", "records-overflow.db");
    }

    [Fact]
    public async Task What_was_written_survives_kill_9()
    {
        await using var store = await OpenAsync();
        var records = Enumerable.Range(1, 500).Select(i => Some.Record("t-1", $"1.{i}", Now.AddDays(-(i % 3)))).ToList();
        foreach (var batch in records.Chunk(100)) await store.WriteAsync(batch, default);
        await store.WriteChainsAsync([Chain("t-1", records: 500)], default);

        // The files as they lie there in the midst of the run, with their logs and without an orderly end.
        CopyFolder(_folder["store"], _folder["after"]);
        File.WriteAllText(Path.Combine(_folder["after"], "records-2026-11-25.db.new"), "half a file");

        await using var again = await OpenAsync(Options with { Directory = _folder["after"] });
        (await again.CountAsync(default)).Should().Be(new StoreCounts(500, 1));
        Figures(await again.WriteAsync(records, default)).Should().Be((0, 500, 0));
        (await again.FindStaleTracesAsync(0, default)).Should().BeEmpty();
        Directory.GetFiles(_folder["after"], "*.new").Should().BeEmpty();
    }

    [Fact]
    public async Task Reader_of_another_process_reads_beside_the_writer_and_changes_nothing()
    {
        await using var reader = await OpenAsync(Options with { ReadOnly = true });
        (await reader.FindChainsAsync(new TraceQuery(), default)).Should().BeEmpty("the folder is not there yet");
        Directory.Exists(_folder["store"]).Should().BeFalse();

        await using var writer = await OpenAsync();
        await writer.WriteAsync([Some.Record("t-1"), Some.Record("t-1", "1.2")], default);
        await writer.WriteChainsAsync([Chain("t-1", records: 2)], default);
        (await reader.GetTraceAsync("t-1", default)).Should().HaveCount(2);
        (await reader.FindChainsAsync(new TraceQuery(), default)).Should().ContainSingle();

        await writer.WriteAsync([Some.Record("t-1", "1.3")], default);
        (await reader.GetTraceAsync("t-1", default)).Should().HaveCount(3);
        await FluentActions.Awaiting(() => reader.WriteAsync([Some.Record("t-2")], default)).Should().ThrowAsync<InvalidOperationException>();
    }

    [Fact]
    public async Task Reader_reads_what_a_killed_writer_left()
    {
        await using var writer = await OpenAsync();
        await writer.WriteAsync([Some.Record("t-1")], default);
        CopyFolder(_folder["store"], _folder["after"]);

        await using var reader = await OpenAsync(Options with { Directory = _folder["after"], ReadOnly = true });
        (await reader.GetTraceAsync("t-1", default)).Should().ContainSingle();
    }

    [Fact]
    public async Task Second_writer_is_refused_with_the_folder_named()
    {
        await using var first = await OpenAsync();
        await using var second = new SqliteTraceStore(Options, Clock);
        await FluentActions.Awaiting(() => second.OpenAsync(default)).Should().ThrowAsync<IOException>().WithMessage($"{_folder["store"]} is in use*");
    }

    [Fact]
    public async Task Day_is_deleted_when_both_it_and_its_last_write_are_past_the_limit()
    {
        var log = new LinesLogger();
        await using var store = await OpenAsync(Options with { KeepDays = 7 }, log);
        await store.WriteAsync([Some.Record("imported", at: Now.AddDays(-100)), Some.Record("far-off", at: Now.AddDays(-3_000)), Some.Record("today"), Some.Record("yesterday", at: Now.AddDays(-1))], default);
        await store.WriteChainsAsync([Chain("imported", Now.AddDays(-100))], default);
        Days().Should().HaveCount(4, "an import is kept although its days are long past");

        Clock.Advance(TimeSpan.FromDays(5));
        await store.WriteAsync([Some.Record("imported", "1.2", Now.AddDays(-100))], default);
        Clock.Advance(TimeSpan.FromHours(54));
        await store.WriteAsync([Some.Record("later", at: Now.AddDays(7))], default);

        Days().Should().Equal("records-2026-08-15.db", "records-2026-11-23.db", "records-2026-11-30.db");
        log.Lines.Should().HaveCount(2).And.Contain(line => line.Contains("records-2026-11-22.db")).And.Contain(line => line.Contains("records-overflow.db"));
        (await store.GetTraceAsync("yesterday", default)).Should().BeEmpty();
        (await store.GetTraceAsync("imported", default)).Should().HaveCount(2);
    }

    [Fact]
    public async Task Deleted_day_can_be_written_again()
    {
        await using var store = await OpenAsync(Options with { KeepDays = 1 });
        var (normal, farOff) = (Some.Record("t-1"), Some.Record("t-2", at: Now.AddDays(-3_000)));
        await store.WriteAsync([normal, farOff], default);
        await store.WriteChainsAsync([Chain("t-1")], default);
        Clock.Advance(TimeSpan.FromDays(3));
        await store.WriteAsync([Some.Record("t-3", at: Now.AddDays(3))], default);
        Days().Should().Equal("records-2026-11-26.db");

        Figures(await store.WriteAsync([normal, farOff], default)).Should().Be((2, 0, 0));
        await store.WriteChainsAsync([Chain("t-1")], default);
        (await store.GetTraceAsync("t-1", default)).Should().ContainSingle();
        (await store.CountAsync(default)).Should().Be(new StoreCounts(3, 1));
    }

    [Fact]
    public async Task Oldest_days_go_when_the_store_outgrows_its_limit()
    {
        var log = new LinesLogger();
        await using var store = await OpenAsync(Options with { MaxBytes = 3_000_000 }, log);
        for (var day = 0; day < 6; day++)
        {
            await store.WriteAsync([Some.Record($"t-{day}", at: Now.AddDays(day), msg: new string('m', 1_000_000))], default);
            Clock.Advance(TimeSpan.FromDays(1));
        }

        await store.WriteAsync([Some.Record("t-6", at: Now.AddDays(6))], default);

        var total = new DirectoryInfo(_folder["store"]).GetFiles("records-*").Sum(file => file.Length);
        total.Should().BeLessThan(4_500_000);
        Days().Should().Contain("records-2026-11-29.db").And.NotContain("records-2026-11-23.db");
        log.Lines.Should().Contain(line => line.Contains("records-2026-11-23.db") && line.Contains("limit"));
    }

    [Fact]
    public async Task Number_of_open_files_is_bounded()
    {
        await using var store = await OpenAsync(Options with { MaxIdleConnections = 4 });
        await store.WriteAsync(Enumerable.Range(0, 60).Select(day => Some.Record("t-1", $"1.{day + 1}", Now.AddDays(-day))).ToList(), default);
        (await store.GetTraceAsync("t-1", default)).Should().HaveCount(60);
        await store.FindChainsAsync(new TraceQuery(), default);

        var open = new DirectoryInfo("/proc/self/fd").GetFiles().Count(file => file.LinkTarget?.StartsWith(_folder["store"], StringComparison.Ordinal) == true);
        open.Should().BeLessThan(20);
    }

    [Fact]
    public async Task Damaged_file_is_named_with_what_to_do()
    {
        await using (var store = await OpenAsync()) await store.WriteAsync([Some.Record("t-1")], default);
        File.WriteAllBytes(Path.Combine(_folder["store"], "records-2026-11-23.db"), new byte[8192]);
        File.WriteAllText(Path.Combine(_folder["store"], "records-2026-11-22.db"), new string('x', 8192));

        await using var again = new SqliteTraceStore(Options, Clock);
        await FluentActions.Awaiting(() => again.OpenAsync(default)).Should().ThrowAsync<InvalidDataException>().WithMessage("*records-2026-11-22.db*away*");
    }

    [Fact]
    public async Task Words_that_nearly_every_trace_has_are_found_in_the_newest_chains()
    {
        await using var store = new SqliteTraceStore(Options, Clock) { FewTraces = 2 };
        await store.OpenAsync(default);
        for (var i = 0; i < 6; i++) await store.WriteAsync([Some.Record($"t-{i}", at: Now.AddDays(-i), msg: i % 2 == 0 ? "went well" : "went wrong")], default);
        await store.WriteAsync([Some.Record("t-5", "1.2", Now, msg: "but ended well")], default);
        await store.WriteChainsAsync([.. Enumerable.Range(0, 6).Select(i => Chain($"t-{i}", Now.AddDays(-i)))], default);

        (await FindAsync(store, "well")).Should().Equal("t-0", "t-2", "t-4", "t-5");
        (await FindAsync(store, "WENT wrong")).Should().Equal("t-1", "t-3", "t-5");
        (await FindAsync(store, "ended wrong")).Should().BeEmpty();

        static async Task<IEnumerable<string>> FindAsync(SqliteTraceStore store, string text) => (await store.FindChainsAsync(new TraceQuery { Text = text }, default)).Select(chain => chain.TraceId);
    }

    [Fact]
    public async Task Files_of_the_first_format_are_brought_up_to_date()
    {
        await using (var store = await OpenAsync())
        {
            await store.WriteAsync([Some.Record("t-1", msg: "Payment refused"), Some.Record("t-1", "1.2")], default);
            await store.WriteChainsAsync([Chain("t-1", records: 2) with { Services = ["orders"], ErrorCount = 1 }], default);
        }

        using (var connection = new SqliteConnection($"Data Source={Path.Combine(_folder["store"], "records-2026-11-23.db")};Pooling=False"))
        {
            connection.Open();
            using var command = connection.CreateCommand();
            command.CommandText = """
                DROP INDEX chains_by_start; CREATE INDEX chains_by_start ON chains (start_us);
                DROP TABLE texts; DROP TABLE chain_services; DROP INDEX chains_with_errors; DROP INDEX chains_by_user; DROP INDEX chains_to_decide; DROP INDEX chains_dropped;
                ALTER TABLE chains DROP COLUMN undecided; ALTER TABLE chains DROP COLUMN dropped; PRAGMA user_version = 1;
                """;
            command.ExecuteNonQuery();
        }

        await using (var reader = await OpenAsync(Options with { ReadOnly = true }))
            await FluentActions.Awaiting(() => reader.FindChainsAsync(new TraceQuery { Text = "refused" }, default)).Should().ThrowAsync<InvalidDataException>().WithMessage("*older version*");

        await using var again = await OpenAsync();
        foreach (var query in (TraceQuery[])[new() { Text = "refused" }, new() { Service = "orders", HasErrors = true }])
            (await again.FindChainsAsync(query, default)).Should().ContainSingle().Which.RecordCount.Should().Be(2);
        await again.WriteAsync([Some.Record("t-2", msg: "refused, too")], default);
        await again.WriteChainsAsync([Chain("t-2")], default);
        (await again.FindChainsAsync(new TraceQuery { Text = "refused" }, default)).Should().HaveCount(2);
    }

    [Theory]
    [InlineData("1")]
    [InlineData("1.1")]
    [InlineData("0.12.345")]
    [InlineData("1.4294967295.1")]
    [InlineData("1.9223372036854775807.10")]
    public async Task Place_of_a_record_can_be_asked_for_in_SQL(string id)
    {
        await using (var store = await OpenAsync()) await store.WriteAsync([Some.Record("t-1", id)], default);

        using var connection = new SqliteConnection($"Data Source={Path.Combine(_folder["store"], "records-2026-11-23.db")};Pooling=False");
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = "SELECT rpc_id, rpc_depth, coalesce(rpc_parent, 'none'), rpc_sort FROM records";
        using var row = command.ExecuteReader();
        row.Read();
        var expected = RpcId.Parse(id);
        (row.GetString(0), row.GetInt32(1), row.GetString(2), row.GetString(3)).Should()
            .Be((id, expected.Depth, expected.TryGetParent(out var parent) ? parent.Text : "none", expected.ToSortText()));
    }

    [Fact]
    public async Task Size_of_the_store_and_of_a_record_is_known()
    {
        await using var store = await OpenAsync(Options);
        store.Size().Should().Be(default(SqliteSize));
        await store.WriteAsync([.. Enumerable.Range(1, 300).Select(i => Some.Record("t-1", $"1.{i}", Now.AddDays(-(i % 3))))], default);

        var size = store.Size();
        (size.Files, size.Records).Should().Be((3, 300));
        size.Bytes.Should().Be(new DirectoryInfo(_folder["store"]).GetFiles("records-*").Where(file => !file.Name.EndsWith("-shm", StringComparison.Ordinal)).Sum(file => file.Length));
        size.BytesPerRecord.Should().Be(size.Bytes / 300);
    }

    [Fact]
    public async Task File_of_another_format_is_refused()
    {
        await using (var store = await OpenAsync()) await store.WriteAsync([Some.Record("t-1")], default);
        using (var connection = new SqliteConnection($"Data Source={Path.Combine(_folder["store"], "records-2026-11-23.db")};Pooling=False"))
        {
            connection.Open();
            using var command = connection.CreateCommand();
            command.CommandText = "PRAGMA user_version = 99";
            command.ExecuteNonQuery();
        }

        await using var again = new SqliteTraceStore(Options, Clock);
        await FluentActions.Awaiting(() => again.OpenAsync(default)).Should().ThrowAsync<InvalidDataException>().WithMessage("*format 99*");
    }

    [Fact]
    public void Options_name_every_problem_with_its_range()
    {
        Options.Validate().Should().BeEmpty();
        new SqliteStoreOptions { Directory = " ", KeepDays = 0, MaxBytes = 1 }.Validate().Should().HaveCount(3)
            .And.Contain("Sqlite:KeepDays is 0; it must be between 1 and 36,500 days.");
    }

    string[] Days() => Directory.GetFiles(_folder["store"], "*.db").Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal).ToArray();

    static void CopyFolder(string from, string to)
    {
        Directory.CreateDirectory(to);
        foreach (var file in Directory.GetFiles(from).Where(file => !file.EndsWith(".lock", StringComparison.Ordinal))) File.Copy(file, Path.Combine(to, Path.GetFileName(file)));
    }

    sealed class LinesLogger : ILogger
    {
        public List<string> Lines { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) => Lines.Add(formatter(state, exception));
    }

    public void Dispose() => _folder.Dispose();
}
