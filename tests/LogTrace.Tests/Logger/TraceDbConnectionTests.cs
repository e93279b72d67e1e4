using System.Data;
using System.Data.Common;
using LogTrace.Records;
using LogTrace.Tests.Support;
using Microsoft.Data.Sqlite;

namespace LogTrace.Tests.Logger;

public sealed class TraceDbConnectionTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly RecordedTrace _trace;

    public TraceDbConnectionTests() => _trace = new RecordedTrace(_folder);

    public void Dispose()
    {
        _trace.Dispose();
        SqliteConnection.ClearAllPools();
        _folder.Dispose();
    }

    string ConnectionString => new SqliteConnectionStringBuilder { DataSource = _folder["shop.db"] }.ToString();

    TraceDbConnection Connection(TraceDbOptions? options = null) => new(new SqliteConnection(ConnectionString), options ?? new TraceDbOptions { InstanceName = "main" });

    static DbCommand Command(DbConnection connection, string sql, params (string Name, object? Value)[] parameters)
    {
        var command = connection.CreateCommand();
        command.CommandText = sql;
        foreach (var (name, value) in parameters)
        {
            var parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.Value) = (name, value ?? DBNull.Value);
            command.Parameters.Add(parameter);
        }

        return command;
    }

    IEnumerable<string> Calls() => _trace.Records().Where(record => record.Kind == RecordKind.Client).Select(record => $"{record.RpcId} {record.Name} {record.Action}".TrimEnd());

    [Fact]
    public void Whoever_listens_hears_of_the_connections_states_until_it_stops_listening()
    {
        var heard = new List<string>();
        using var connection = Connection();
        void Hear(object sender, StateChangeEventArgs change) => heard.Add($"{ReferenceEquals(sender, connection)} {change.CurrentState}");
        connection.Open();
        connection.StateChange += Hear;
        connection.Close();
        connection.Open();
        connection.StateChange -= Hear;
        connection.Close();

        heard.Should().Equal("True Closed", "True Open");
    }

    [Fact]
    public async Task Connect_shares_the_number_of_the_request_it_was_made_for()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await Command(connection, "create table items (id integer)").ExecuteNonQueryAsync();
            await Command(connection, "insert into items values (7)").ExecuteNonQueryAsync();
            (await Command(connection, "select id from items").ExecuteScalarAsync()).Should().Be(7L);
        }

        Calls().Should().Equal(
            "1.2 sqlite.connect",
            "1.2 sqlite.request create table items (id integer)",
            "1.3 sqlite.request insert into items values (7)",
            "1.4 sqlite.request select id from items");
    }

    [Fact]
    public void The_synchronous_methods_record_the_same()
    {
        using (var connection = Connection())
        {
            connection.Open();
            Command(connection, "create table items (id integer)").ExecuteNonQuery();
            Command(connection, "select 7").ExecuteScalar().Should().Be(7L);
            using var reader = Command(connection, "select 8").ExecuteReader();
            reader.Read().Should().BeTrue();
            reader.GetInt32(0).Should().Be(8);
        }

        Calls().Should().Equal(
            "1.2 sqlite.connect",
            "1.2 sqlite.request create table items (id integer)",
            "1.3 sqlite.request select 7",
            "1.4 sqlite.request select 8");
    }

    [Fact]
    public async Task A_connect_nobody_uses_keeps_its_number_to_itself()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await connection.CloseAsync();
            await connection.OpenAsync();
            await Command(connection, "select 1").ExecuteScalarAsync();
        }

        Calls().Should().Equal("1.2 sqlite.connect", "1.3 sqlite.connect", "1.3 sqlite.request select 1");
    }

    [Fact]
    public async Task A_connection_opened_in_one_branch_and_used_in_another_takes_a_number_of_each()
    {
        await using var connection = Connection();
        await connection.OpenAsync();
        await TraceContext.ForkAsync("branch", () => Command(connection, "select 1").ExecuteScalarAsync());

        Calls().Should().Equal("1.2 sqlite.connect", "1.3.2 sqlite.request select 1");
    }

    [Fact]
    public async Task A_record_says_which_database_which_statement_and_which_parameters()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await Command(connection, "select $id, $name, $none", ("$id", 9527), ("$name", "o\"neil"), ("$none", null)).ExecuteScalarAsync();
        }

        var request = _trace.Records().Single(record => record.Name == "sqlite.request");
        request.Text(RecordField.Db).Should().Be("shop.db");
        request.InstanceName.Should().Be("main");
        request.Action.Should().Be("select $id, $name, $none");
        request.Param.Should().Be("""{"$id":9527,"$name":"o\"neil","$none":null}""");
        request.DurationMicros.Should().BeGreaterThanOrEqualTo(0);
        request.Code.Should().BeNull();
    }

    [Fact]
    public async Task Long_statements_and_parameters_are_cut_and_say_so()
    {
        await using (var connection = Connection(new TraceDbOptions { MaxActionLength = 64, MaxParamLength = 64 }))
        {
            await connection.OpenAsync();
            await Command(connection, "select $a, $b --" + new string('x', 1000), ("$a", 1), ("$b", new string('y', 1000))).ExecuteScalarAsync();
        }

        var request = _trace.Records().Single(record => record.Name == "sqlite.request");
        request.Action.Should().HaveLength(64).And.EndWith("xxx...");
        request.Param.Should().Be("""{"$a":1,"...":1}""");
    }

    [Fact]
    public async Task Parameters_stay_out_of_the_record_when_told_so()
    {
        await using (var connection = Connection(new TraceDbOptions { RecordParameters = false }))
        {
            await connection.OpenAsync();
            await Command(connection, "select $secret", ("$secret", "swordfish")).ExecuteScalarAsync();
        }

        _trace.Lines().Should().NotContain(line => line.Contains("swordfish"));
    }

    [Fact]
    public async Task A_query_ends_when_its_reader_is_disposed_of()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await using (var reader = await Command(connection, "select 1 union select 2").ExecuteReaderAsync())
            {
                await reader.ReadAsync();
                Begun("1.2");
                await reader.ReadAsync();
            }

            await Command(connection, "select 3").ExecuteScalarAsync();
        }

        Calls().Should().Equal("1.2 sqlite.connect", "1.2 sqlite.request select 1 union select 2", "1.3 sqlite.request select 3");
        _trace.Records().First(record => record.Name == "sqlite.request").ExtraJson.Should().Be("""{"rows":2}""");

        // Log lines written meanwhile carry the number of the query.
        void Begun(string rpcId) => TraceContext.Current!.CurrentRpcId.Should().Be(rpcId);
    }

    [Fact]
    public async Task A_reader_nobody_closed_ends_with_its_connection()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await Command(connection, "select 1").ExecuteReaderAsync();
        }

        Calls().Should().Equal("1.2 sqlite.connect", "1.2 sqlite.request select 1");
    }

    [Fact]
    public async Task A_failed_statement_is_an_error_with_the_databases_code()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await Command(connection, "create table items (id integer check (id > 0))").ExecuteNonQueryAsync();
            var insert = () => Command(connection, "insert into items values (0)").ExecuteNonQueryAsync();
            (await insert.Should().ThrowAsync<SqliteException>()).Which.SqliteErrorCode.Should().Be(19);
        }

        var error = _trace.Records().Single(record => record.Name == "sqlite.request.error");
        error.RpcId.Should().Be(RpcId.Parse("1.3"));
        error.Code.Should().Be("19");
        error.Msg.Should().Contain("CHECK constraint failed");
        error.Backtrace.Should().Contain(nameof(SqliteException)).And.Contain("TraceDbCommand");
    }

    [Fact]
    public async Task An_error_while_reading_is_an_error_of_the_query()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await using var reader = await Command(connection, "select 1 union all select abs(-9223372036854775808)").ExecuteReaderAsync();
            (await reader.ReadAsync()).Should().BeTrue();
            var next = () => reader.ReadAsync();
            await next.Should().ThrowAsync<SqliteException>();
        }

        Calls().Should().Equal("1.2 sqlite.connect", "1.2 sqlite.request.error select 1 union all select abs(-9223372036854775808)");
    }

    [Fact]
    public async Task A_cancelled_statement_is_an_error()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            var select = () => Command(connection, "select 1").ExecuteScalarAsync(new CancellationToken(canceled: true));
            await select.Should().ThrowAsync<OperationCanceledException>();
        }

        var error = _trace.Records().Single(record => record.Name == "sqlite.request.error");
        error.Code.Should().Be("cancelled");
        error.RpcId.Should().Be(RpcId.Parse("1.2"));
    }

    [Fact]
    public async Task A_connection_that_cannot_be_opened_is_an_error_with_a_number_of_its_own()
    {
        await using (var connection = new TraceDbConnection(new SqliteConnection($"Data Source={_folder["no/such/folder.db"]}")))
        {
            var open = () => connection.OpenAsync();
            await open.Should().ThrowAsync<SqliteException>();
        }

        var error = _trace.Records().Single(record => record.Kind == RecordKind.Client);
        error.Name.Should().Be("sqlite.connect.error");
        error.RpcId.Should().Be(RpcId.Parse("1.2"));
        error.Code.Should().Be("14");
    }

    [Fact]
    public async Task A_transaction_is_recorded_from_begin_to_commit()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            await using var transaction = await connection.BeginTransactionAsync(IsolationLevel.Serializable);
            var create = Command(connection, "create table items (id integer)");
            create.Transaction = transaction;
            await create.ExecuteNonQueryAsync();
            await transaction.CommitAsync();
        }

        Calls().Should().Equal("1.2 sqlite.connect", "1.2 sqlite.request BEGIN", "1.3 sqlite.request create table items (id integer)", "1.4 sqlite.request COMMIT");
    }

    [Fact]
    public async Task Leaving_a_transaction_without_a_commit_is_recorded_as_the_rollback_it_is()
    {
        await using (var connection = Connection())
        {
            await connection.OpenAsync();
            using (connection.BeginTransaction())
            {
            }

            (await Command(connection, "select 1").ExecuteScalarAsync()).Should().Be(1L);
        }

        Calls().Should().Equal("1.2 sqlite.connect", "1.2 sqlite.request BEGIN", "1.3 sqlite.request ROLLBACK", "1.4 sqlite.request select 1");
    }

    [Fact]
    public async Task Outside_a_trace_it_is_a_plain_connection()
    {
        _trace.End();

        await using var connection = Connection();
        await connection.OpenAsync();
        (await Command(connection, "select 1").ExecuteScalarAsync()).Should().Be(1L);

        Calls().Should().BeEmpty();
    }

    [Fact]
    public async Task Concurrent_connections_of_one_scope_never_share_a_number_and_leave_no_gap()
    {
        await Task.WhenAll(Enumerable.Range(0, 20).Select(async number =>
        {
            await Task.Yield();
            await using var connection = Connection();
            await connection.OpenAsync();
            await Command(connection, $"select {number}").ExecuteScalarAsync();
        }));

        var requests = _trace.Records().Where(record => record.Name == "sqlite.request").Select(record => record.RpcId!.Value.LastNumber);
        requests.Should().BeEquivalentTo(Enumerable.Range(2, 20));
    }

    [Fact]
    public void Options_out_of_range_are_all_named()
    {
        var wrap = () => new TraceDbConnection(new SqliteConnection(), new TraceDbOptions { InstanceName = "", MaxActionLength = 1, MaxParamLength = 2 });

        wrap.Should().Throw<ArgumentException>().WithMessage("*InstanceName*MaxActionLength is 1*MaxParamLength is 2*");
    }
}
