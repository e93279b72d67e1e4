using System.Text;
using LogTrace.Records;

namespace LogTrace.Tests.Records;

/// <summary>The sample lines of the log standard that this format follows, as published, and one in the unprefixed form.</summary>
public sealed class AppendixLinesTests
{
    internal static readonly string[] Lines =
    [
        """{"x_name":"request.info","x_trace_id":"123jiojfdsao","x_rpc_id":"0.1","x_version":"php-baseserver-4.0","x_department":"tal_client_frontend","x_timestamp":1506480162,"x_duration":0.021,"x_uid":"9527","x_pid":"123","x_module":"js_game1_start","x_user_agent":"string curl/7.29.0","x_action":"http://testapi.speiyou.com/v3/user/getinfo?id=9527","x_server_ip":"192.168.1.1:80","x_client_ip":"192.168.1.123","x_param":"json string","x_source":"www.baidu.com","x_code":"200","x_response":"json:api result","x_response_len":12324}""",
        """{"x_name":"mysql.connect","x_trace_id":"123jiojfdsao","x_rpc_id":"0.2","x_version":"php-baseserver-4","x_department":"tal_client_frontend","x_timestamp":1506480162,"x_duration":0.024,"x_uid":"9527","x_pid":"123","x_module":"js_mysql_connect","x_instance_name":"default","x_host":"12.123.23.1:3306","x_db":"tal_game_round","x_msg":"ok","x_code":"1","x_response":"json:****"}""",
        """{"x_name":"mysql.request","x_trace_id":"123jiojfdsao","x_rpc_id":"0.2","x_version":"php-4","x_department":"tal_client_frontend","x_timestamp":1506480162,"x_duration":0.024,"x_uid":"9527","x_pid":"123","x_module":"js_game1_round_sigup","x_instance_name":"default","x_host":"12.123.23.1:3306","x_db":"tal_game_round","x_action":"select * from xxx where xxxx","x_param":"json string","x_code":"1","x_msg":"ok","x_response":"json:****"}""",
        """{"x_name":"http.post","x_trace_id":"123jiojfdsao","x_department":"tal_client_frontend","x_rpc_id":"0.3","x_version":"php-4","x_timestamp":1506480162,"x_duration":0.214,"x_uid":"9527","x_pid":"123","x_module":"js_game1_round_win_report","x_action":"http://testapi.speiyou.com/v3/game/report","x_param":"json:","x_server_ip":"192.168.1.1","x_msg":"ok","x_code":"200","x_response_len":12324,"x_response":"json:responsexxxx","x_dns_duration":0.001}""",
        """{"x_name":"log.info","x_trace_id":"123jiojfdsao","x_department":"tal_client_frontend","x_rpc_id":"0.3","x_version":"php-4","x_timestamp":1506480162,"x_duration":0.214,"x_uid":"9527","x_pid":"123","x_module":"game1_round_win_round_end","x_file":"userinfo.php","x_line":"232","x_msg":"ok","x_code":"201","extra":"json game_id lesson_num xxxxx"}""",
        """{"x_name":"log.exception","x_trace_id":"123jiojfdsao","x_department":"tal_client_frontend","x_rpc_id":"0.3","x_version":"php-4","x_timestamp":1506480162,"x_duration":0.214,"x_uid":"9527","x_pid":"123","x_module":"game1_round_win","x_file":"userinfo.php","x_line":"232","x_msg":"exception:xxxxx call stack","x_code":"hy20001","x_backtrace":"xxxxx.php(123) gotError:..."}""",
        """{"x_name":"log.alarm","x_trace_id":"123jiojfdsao","x_department":"tal_client_frontend","x_rpc_id":"0.3","x_version":"php-4","x_timestamp":1506480162,"x_duration":0.214,"x_uid":"9527","x_pid":"123","x_module":"game1_round_win_round_report","x_file":"game_win_notify.php","x_line":"123","x_msg":"game report request fail! retryed three time..","x_code":"201","x_extra":"json game_id lesson_num xxxxx"}""",
        """{"x_name":"metrix.count","x_trace_id":"123jiojfdsao","x_department":"tal_client_frontend","x_rpc_id":"0.3","x_version":"php-4","x_timestamp":1506480162,"x_uid":"9527","x_pid":"123","x_module":"game1_round_win_click","x_extra":"json curl invoke count"}""",
        """{"name":"http.get.error","trace_id":"123jiojfdsao","rpc_id":"0.4","department":"client_frontend","version":"java-rti-1.9","timestamp":1506480163,"duration":0.5,"module":"rti_lesson_load_get","server_ip":"192.168.1.1","action":"http://testapi.example/v3/lesson","param":"{}","code":"504","msg":"timeout","backtrace":"at ...","dns_duration":0.001,"response_length":0}""",
    ];

    static TraceRecord Read(int index)
    {
        RecordCodec.TryRead(Encoding.UTF8.GetBytes(Lines[index]), out var record, out var reason).Should().BeTrue(reason);
        record.UnreadableFields.Should().BeNull();
        return record;
    }

    [Fact]
    public void Every_line_is_read_with_its_common_fields()
    {
        for (var index = 0; index < Lines.Length; index++)
        {
            var record = Read(index);
            record.TraceId.Should().Be("123jiojfdsao");
            record.RpcId!.Value.Text.Should().StartWith("0.");
            record.TimestampMicros.Should().Be(index == 8 ? 1506480163_000_000 : 1506480162_000_000);
            record.HasPreciseTime.Should().BeFalse();
            record.Uid.Should().Be(index == 8 ? null : "9527");
        }
    }

    [Fact]
    public void Names_are_read_and_the_misspelt_metric_is_put_right() =>
        Enumerable.Range(0, Lines.Length).Select(index => Read(index).Name).Should().Equal(
            "request.info", "mysql.connect", "mysql.request", "http.post", "log.info", "log.exception", "log.alarm", "metric.counter", "http.get.error");

    [Fact]
    public void Request_has_every_field_of_the_published_line()
    {
        var record = Read(0);
        record.RpcId.Should().Be(RpcId.Parse("0.1"));
        record.Version.Should().Be("php-baseserver-4.0");
        record.Department.Should().Be("tal_client_frontend");
        record.DurationMicros.Should().Be(21_000);
        record.Pid.Should().Be("123");
        record.Module.Should().Be("js_game1_start");
        record.Text(RecordField.UserAgent).Should().Be("string curl/7.29.0");
        record.Action.Should().Be("http://testapi.speiyou.com/v3/user/getinfo?id=9527");
        record.ServerIp.Should().Be("192.168.1.1:80");
        record.Text(RecordField.ClientIp).Should().Be("192.168.1.123");
        record.Param.Should().Be("json string");
        record.Text(RecordField.Source).Should().Be("www.baidu.com");
        record.Code.Should().Be("200");
        record.Text(RecordField.Response).Should().Be("json:api result");
        record.ResponseLength.Should().Be(12324);
        record.MissingFields().Should().BeEmpty();
    }

    [Fact]
    public void Calls_have_their_target_and_times()
    {
        var query = Read(2);
        query.Host.Should().Be("12.123.23.1:3306");
        query.InstanceName.Should().Be("default");
        query.Text(RecordField.Db).Should().Be("tal_game_round");
        query.Action.Should().Be("select * from xxx where xxxx");
        var call = Read(3);
        call.DnsDurationMicros.Should().Be(1_000);
        call.DurationMicros.Should().Be(214_000);
        call.ResponseLength.Should().Be(12324);
        Read(8).ResponseLength.Should().Be(0);
        Read(8).DurationMicros.Should().Be(500_000);
    }

    [Fact]
    public void Extra_is_read_with_and_without_the_prefix()
    {
        Read(4).ExtraJson.Should().Be("\"json game_id lesson_num xxxxx\"");
        Read(6).ExtraJson.Should().Be("\"json game_id lesson_num xxxxx\"");
        Read(7).ExtraJson.Should().Be("\"json curl invoke count\"");
        Read(7).DurationMicros.Should().BeNull();
    }

    [Fact]
    public void Fields_that_a_line_lacks_are_named() =>
        Read(7).MissingFields().Should().Equal("server_ip", "action", "param");
}
