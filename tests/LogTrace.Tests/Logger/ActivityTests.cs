using System.Diagnostics;
using LogTrace.Records;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Logger;

/// <summary>Activities of sources that a user chose.</summary>
public sealed class ActivityTests : IDisposable
{
    readonly TempFolder _folder = new();
    readonly ActivitySource _source = new($"Vendor.{Guid.NewGuid():N}.Storage");
    readonly TraceLogger _logger;

    public ActivityTests() =>
        _logger = new TraceLogger(TestService.Options("files", _folder["files.log"]) with { Instrumentation = new() { ActivitySources = [_source.Name[..^4] + "*"] } });

    public void Dispose()
    {
        _logger.Dispose();
        _source.Dispose();
        _folder.Dispose();
    }

    List<TraceRecord> Records()
    {
        _logger.Dispose();
        return [.. Written.Records(_folder["files.log"]).OrderBy(record => record.RpcId!.Value)];
    }

    static KeyValuePair<string, object?>[] Tags(params (string, object?)[] tags) => [.. tags.Select(tag => KeyValuePair.Create(tag.Item1, tag.Item2))];

    [Fact]
    public void Client_activities_are_calls_named_after_what_they_do()
    {
        using (_logger.StartTrace("test"))
        {
            _source.StartActivity(ActivityKind.Client, tags: Tags(("container", "photos"), ("bytes", 7)), name: "Upload")!.Dispose();
            _source.StartActivity(ActivityKind.Client, tags: Tags(("db.system.name", "mongodb"), ("db.query.text", "{find: 1}"), ("server.address", "10.0.0.1"), ("server.port", 27017), ("db.namespace", "shop")), name: "find")!.Dispose();
            _source.StartActivity(ActivityKind.Producer, tags: Tags(("messaging.system", "rabbitmq"), ("messaging.destination.name", "orders")), name: "send")!.Dispose();
            _source.StartActivity(ActivityKind.Client, tags: Tags(("rpc.system", "grpc"), ("rpc.service", "Stock"), ("rpc.method", "Reserve"), ("rpc.grpc.status_code", 0)), name: "x")!.Dispose();
        }

        Records().Select(record => $"{record.RpcId} {record.Name} {record.Action} {record.Host} {record.Code}".TrimEnd()).Should().Equal(
            "1.1 request.info test", "1.2 storage.request Upload", "1.3 mongo.request {find: 1} 10.0.0.1:27017", "1.4 rabbitmq.produce orders", "1.5 grpc.call Stock/Reserve  0");
        Records()[1].ExtraJson.Should().Be("{\"container\":\"photos\",\"bytes\":7}");
    }

    [Fact]
    public void A_failed_activity_is_an_error_with_code_message_and_backtrace()
    {
        using (_logger.StartTrace("test"))
        {
            using var activity = _source.StartActivity("Upload", ActivityKind.Client)!;
            activity.AddException(new InvalidOperationException("no room"));
            activity.SetStatus(ActivityStatusCode.Error);
        }

        var failed = Records().Single(record => record.Kind == RecordKind.Client);
        $"{failed.Name} {failed.Code} {failed.Msg}".Should().Be("storage.request.error InvalidOperationException no room");
        failed.Backtrace.Should().Contain("InvalidOperationException");
    }

    [Fact]
    public void Internal_activities_are_lines_without_a_number_and_those_of_servers_are_left_alone()
    {
        using (_logger.StartTrace("test"))
        {
            _source.StartActivity("Plan", ActivityKind.Internal)!.Dispose();
            _source.StartActivity("Upload", ActivityKind.Client)!.Dispose();
            _source.StartActivity("Handle", ActivityKind.Server)?.Dispose();
            _source.StartActivity("Handle", ActivityKind.Consumer)?.Dispose();
        }

        Records().Select(record => $"{record.RpcId} {record.Name} {record.Action}").Should().BeEquivalentTo("1.1 request.info test", "1.1 log.trace Plan", "1.2 storage.request Upload");
    }

    [Fact]
    public void Outside_a_scope_and_for_sources_that_were_not_chosen_no_activity_is_even_made()
    {
        using var other = new ActivitySource("Vendor.Other");
        _source.StartActivity("Upload", ActivityKind.Client).Should().BeNull();
        using (_logger.StartTrace("test")) other.StartActivity("Upload", ActivityKind.Client).Should().BeNull();

        Records().Should().ContainSingle();
    }

    [Fact]
    public void An_activity_that_outlives_its_scope_is_recorded_with_it()
    {
        Activity activity;
        using (_logger.StartTrace("test")) activity = _source.StartActivity("Upload", ActivityKind.Client)!;
        activity.Dispose();

        Records().Select(record => $"{record.RpcId} {record.Name}").Should().Equal("1.1 request.info", "1.2 storage.request");
    }
}
