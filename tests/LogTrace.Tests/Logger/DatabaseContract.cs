using System.Data.Common;
using LogTrace.Records;
using LogTrace.Tests.Support;
using MySqlConnector;
using Npgsql;

namespace LogTrace.Tests.Logger;

/// <summary>What is executed on a real server against what the records say, through the wrapper and without it, where the provider's activities tell.</summary>
public abstract class DatabaseContract : IDisposable
{
    readonly TempFolder _folder = new();
    readonly RecordedTrace _trace;

    protected DatabaseContract() => _trace = new RecordedTrace(_folder);

    public void Dispose()
    {
        _trace.Dispose();
        _folder.Dispose();
    }

    protected string Table { get; } = $"items_{Guid.NewGuid():N}";

    protected abstract string Kind { get; }

    /// <summary>The provider's own data source, with a pool of its own.</summary>
    protected abstract Task<DbDataSource> SourceAsync(int? port = null);

    protected abstract string Sleep { get; }

    /// <summary>Code of a table that is not there, as the exception and as the provider's activity have it.</summary>
    protected abstract (string Exception, string Activity) MissingTable { get; }

    /// <summary>What the provider's activities say of a transaction that is committed, and of a batch.</summary>
    protected abstract IEnumerable<string> CommitAndBatch { get; }

    /// <summary>What they say of a query that was cancelled.</summary>
    protected virtual string Cancelled => $"{Kind}.request.error cancelled";

    List<TraceRecord> Calls() => [.. _trace.Records().Where(record => record.Kind == RecordKind.Client).OrderBy(record => record.RpcId!.Value)];

    static async Task<int> RunAsync(DbConnection connection, string sql, params (string Name, object Value)[] parameters)
    {
        await using var command = Command(connection, sql, parameters);
        return await command.ExecuteNonQueryAsync();
    }

    static DbCommand Command(DbConnection connection, string sql, params (string Name, object Value)[] parameters)
    {
        var command = connection.CreateCommand();
        command.CommandText = sql;
        foreach (var (name, value) in parameters)
        {
            var parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.Value) = (name, value);
            command.Parameters.Add(parameter);
        }

        return command;
    }

    async Task ExecuteAsync(DbDataSource source)
    {
        await using var connection = await source.OpenConnectionAsync();
        await RunAsync(connection, $"create table {Table} (id int, name varchar(20))");
        await RunAsync(connection, $"insert into {Table} values (@id, @name)", ("id", 7), ("name", "seven"));
        await using (var reader = await Command(connection, $"select id, name from {Table}").ExecuteReaderAsync())
        {
            (await reader.ReadAsync()).Should().BeTrue();
            reader.GetString(1).Should().Be("seven");
        }

        await connection.Invoking(c => RunAsync(c, "select * from nowhere")).Should().ThrowAsync<DbException>();
        await using (var transaction = await connection.BeginTransactionAsync())
        {
            await using var update = Command(connection, $"update {Table} set name = 'eight'");
            update.Transaction = transaction;
            (await update.ExecuteNonQueryAsync()).Should().Be(1);
            await transaction.CommitAsync();
        }

        await using (var batch = connection.CreateBatch())
        {
            foreach (var id in new[] { 8, 9 })
            {
                var command = batch.CreateBatchCommand();
                command.CommandText = $"insert into {Table} values (@id, 'more')";
                var parameter = command.CreateParameter();
                (parameter.ParameterName, parameter.Value) = ("id", id);
                command.Parameters.Add(parameter);
                batch.BatchCommands.Add(command);
            }

            await batch.ExecuteNonQueryAsync();
        }

        (await Command(connection, $"select count(*) from {Table}").ExecuteScalarAsync()).Should().Be(3L);
    }

    [ContractFact]
    public async Task Through_the_wrapper_all_that_was_executed_is_recorded_once()
    {
        string host;
        await using (var source = new TraceDbDataSource(await SourceAsync(), new() { InstanceName = "main" }))
        {
            await ExecuteAsync(source);
            await using var connection = source.CreateConnection();
            host = connection.Inner().DataSource;
        }

        var calls = Calls();
        calls.Select(record => $"{record.RpcId} {record.Name} {record.Action} {record.Param}".TrimEnd()).Should().Equal(
            $"1.2 {Kind}.connect",
            $"1.2 {Kind}.request create table {Table} (id int, name varchar(20)) {{}}",
            $"1.3 {Kind}.request insert into {Table} values (@id, @name) {{\"id\":7,\"name\":\"seven\"}}",
            $"1.4 {Kind}.request select id, name from {Table} {{}}",
            $"1.5 {Kind}.request.error select * from nowhere {{}}",
            $"1.6 {Kind}.request BEGIN {{}}",
            $"1.7 {Kind}.request update {Table} set name = 'eight' {{}}",
            $"1.8 {Kind}.request COMMIT {{}}",
            $"1.9 {Kind}.request insert into {Table} values (@id, 'more'); insert into {Table} values (@id, 'more') [{{\"id\":8}},{{\"id\":9}}]",
            $"1.10 {Kind}.request select count(*) from {Table} {{}}");
        calls.Should().OnlyContain(record => record.InstanceName == "main" && record.Host!.Contains("127.0.0.1:") && record.DurationMicros > 0);
        calls.Single(record => record.RpcId.ToString() == "1.9").ExtraJson.Should().Be("{\"statements\":2,\"rows\":2}");
        Failure(calls).Should().Be($"{MissingTable.Exception} True True");
        host.Should().NotBeEmpty();
    }

    [ContractFact]
    public async Task Without_the_wrapper_the_provider_s_activities_tell_what_was_executed()
    {
        await using (var source = await SourceAsync()) await ExecuteAsync(source);

        var calls = Calls();
        string[] told =
        [
            $"{Kind}.connect", $"{Kind}.request create table {Table} (id int, name varchar(20))", $"{Kind}.request insert into {Table} values (@id, @name)", $"{Kind}.request select id, name from {Table}",
            $"{Kind}.request.error select * from nowhere", .. CommitAndBatch, $"{Kind}.request select count(*) from {Table}",
        ];
        // The first request shares its connect's number.
        calls.Select(record => $"{record.RpcId} {record.Name} {record.Action}".TrimEnd()).Should().Equal(told.Select((call, index) => $"1.{Math.Max(2, index + 1)} {call}"));
        calls.Should().OnlyContain(record => record.Host!.StartsWith("127.0.0.1:") && record.DurationMicros > 0);
        Failure(calls).Should().Be($"{MissingTable.Activity} True True");
    }

    static string Failure(List<TraceRecord> calls)
    {
        var failed = calls.Single(record => record.Name!.EndsWith(".error", StringComparison.Ordinal));
        return $"{failed.Code} {failed.Msg!.Contains("nowhere")} {failed.Backtrace!.Contains("Exception")}";
    }

    [ContractFact]
    public async Task A_server_that_is_not_there_is_an_error_of_the_connect()
    {
        await using (var plain = await SourceAsync(port: 1))
        await using (var traced = new TraceDbDataSource(await SourceAsync(port: 1)))
        {
            await plain.Invoking(async source => await source.OpenConnectionAsync()).Should().ThrowAsync<DbException>();
            await traced.Invoking(async source => await source.OpenConnectionAsync()).Should().ThrowAsync<DbException>();
        }

        var calls = Calls();
        calls.Select(record => $"{record.RpcId} {record.Name}").Should().Equal($"1.2 {Kind}.connect.error", $"1.3 {Kind}.connect.error");
        calls.Should().OnlyContain(record => record.Code!.Length > 0 && record.Msg!.Length > 0 && record.Backtrace!.Length > 0);
    }

    [ContractFact]
    public async Task A_cancelled_query_is_an_error_with_its_number()
    {
        await using (var plain = await SourceAsync())
        await using (var traced = new TraceDbDataSource(await SourceAsync()))
        {
            foreach (var source in new[] { plain, traced })
            {
                using var cancel = new CancellationTokenSource();
                await using var connection = await source.OpenConnectionAsync();
                await using var command = Command(connection, Sleep);
                var sleeping = command.ExecuteNonQueryAsync(cancel.Token);
                await cancel.CancelAsync();
                await sleeping.Invoking(task => task).Should().ThrowAsync<OperationCanceledException>();
            }
        }

        Calls().Where(record => record.Action == Sleep).Select(record => $"{record.Name} {record.Code}".TrimEnd()).Should().Equal(Cancelled, $"{Kind}.request.error cancelled");
    }

    [ContractFact]
    public async Task Concurrent_queries_have_distinct_numbers()
    {
        await using (var source = await SourceAsync())
        {
            await Task.WhenAll(Enumerable.Range(0, 40).Select(async number =>
            {
                await using var connection = await source.OpenConnectionAsync();
                await Command(connection, $"select {number}").ExecuteScalarAsync();
            }));
        }

        var requests = Calls().Where(record => record.Name == $"{Kind}.request").ToList();
        requests.Select(record => record.Action).Should().BeEquivalentTo(Enumerable.Range(0, 40).Select(number => $"select {number}"));
        requests.Select(record => record.RpcId).Should().OnlyHaveUniqueItems();
        Calls().Select(record => record.RpcId!.Value.ToString()).Distinct().Should().HaveCount(40, "a connect shares the number of its request");
    }
}

static class DatabaseContractExtensions
{
    public static DbConnection Inner(this DbConnection connection) => ((TraceDbConnection)connection).Inner;
}

[NeedsEngine("postgresql")]
public sealed class PostgresTests : DatabaseContract
{
    protected override string Kind => "pgsql";
    protected override string Sleep => "select pg_sleep(30)";
    protected override (string, string) MissingTable => ("42P01", "42P01");

    // The provider sends BEGIN with the next statement and tells of neither BEGIN nor COMMIT.
    protected override IEnumerable<string> CommitAndBatch =>
        [$"pgsql.request update {Table} set name = 'eight'", $"pgsql.request insert into {Table} values (@id, 'more');\ninsert into {Table} values (@id, 'more')"];

    protected override async Task<DbDataSource> SourceAsync(int? port = null) =>
        NpgsqlDataSource.Create($"Host=127.0.0.1;Port={port ?? await DebianServers.PostgresAsync()};Username=postgres;Database=postgres;Application Name={Table};Maximum Pool Size=5");
}

[NeedsEngine("mariadb")]
public sealed class MariaDbTests : DatabaseContract
{
    protected override string Kind => "mysql";
    protected override string Sleep => "select sleep(30)";
    protected override (string, string) MissingTable => ("42S02", "1146");

    // The server's sleep() answers as if nothing had happened when it is woken, and the provider throws only after its activity.
    protected override string Cancelled => "mysql.request";

    // The provider sends BEGIN with the next statement. Statements that it makes itself go by the name of what they do.
    protected override IEnumerable<string> CommitAndBatch => [$"mysql.request update {Table} set name = 'eight'", "mysql.request COMMIT", "mysql.request EXECUTE"];

    protected override async Task<DbDataSource> SourceAsync(int? port = null) =>
        new MySqlDataSource($"Server=127.0.0.1;Port={port ?? await DebianServers.MariaDbAsync()};User Id=root;Database=mysql;Application Name={Table};Maximum Pool Size=5");
}
