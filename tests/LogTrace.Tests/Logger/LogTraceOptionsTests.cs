using System.Net;
using LogTrace.Tests.Support;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Serilog.Events;

namespace LogTrace.Tests.Logger;

public sealed class LogTraceOptionsTests
{
    static readonly LogTraceOptions s_good = new() { Service = "orders", Department = "shop_backend" };

    [Fact]
    public void Good_options_have_no_problems() => s_good.Validate().Should().BeEmpty();

    [Fact]
    public void All_problems_are_listed_at_once()
    {
        var bad = new LogTraceOptions
        {
            Service = "or ders",
            Version = "v1",
            MaxTextLength = 0,
            DebugKey = "hush",
            Callers = [new() { Network = "10.0.0.0/99" }],
            File = new() { Path = "x.log", RollBytes = 10, FlushBytes = 100 },
        };

        var start = () => new TraceLogger(bad);

        start.Should().Throw<LogTraceOptionsException>().Which.Message.Should().Be(
            """
            LogTrace cannot start:
              LogTrace:Service is 'or ders'; it must be the name of this service, such as orders: 1 to 100 letters, digits, '_', '.' and '-'.
              LogTrace:Department is ''; it must be the owner of this service, such as shop_backend: 1 to 100 characters.
              LogTrace:Version is 'v1'; it must begin with a digit and have 1 to 64 characters without blanks and dashes, such as 1.4.
              LogTrace:MaxTextLength is 0; it must be between 256 and 262,144 characters.
              LogTrace:DebugKey has 4 characters; it must have at least 16. Leave it out to have no debug requests.
              LogTrace:Callers:0:Network is '10.0.0.0/99'; it must be an address or a network such as 10.0.0.0/8.
              LogTrace:File:RollBytes is 10; it must be between 4,096 and 1,099,511,627,776 bytes.
              LogTrace:File:FlushBytes is 100; it must be between 1,024 bytes and half of LogTrace:File:QueueBytes (4,194,304).
            """);
    }

    [Theory]
    [InlineData("127.0.0.1", CallerTrust.Trust)]
    [InlineData("10.200.3.4", CallerTrust.Trust)]
    [InlineData("172.31.255.255", CallerTrust.Trust)]
    [InlineData("172.32.0.1", CallerTrust.Ignore)]
    [InlineData("::ffff:192.168.1.1", CallerTrust.Trust)]
    [InlineData("::1", CallerTrust.Trust)]
    [InlineData("fd00::1", CallerTrust.Trust)]
    [InlineData("8.8.8.8", CallerTrust.Ignore)]
    [InlineData("2001:4860:4860::8888", CallerTrust.Ignore)]
    public void Private_callers_are_trusted_and_public_ones_ignored(string address, CallerTrust trust)
    {
        using var logger = new TraceLogger(s_good);

        logger.TrustOf(IPAddress.Parse(address)).Should().Be(trust);
    }

    [Theory]
    [InlineData("orders", true)]
    [InlineData("localhost", true)]
    [InlineData("orders.shop.svc", true)]
    [InlineData("orders.shop.svc.cluster.local", true)]
    [InlineData("db.internal.", true)]
    [InlineData("10.1.2.3", true)]
    [InlineData("[::1]", true)]
    [InlineData("8.8.8.8", false)]
    [InlineData("api.example.com", false)]
    [InlineData("evil.internal.example.com", false)]
    [InlineData("", false)]
    public void Internal_hosts_are_told_apart(string host, bool isInternal)
    {
        using var logger = new TraceLogger(s_good);

        logger.IsInternalHost(host).Should().Be(isInternal);
    }

    [Theory]
    [InlineData(null, "10.0.0.5")]
    [InlineData("8.8.8.8", "8.8.8.8")]
    [InlineData("127.0.0.1, 8.8.8.8", "8.8.8.8")]
    [InlineData("8.8.8.8, 10.0.0.6", "8.8.8.8")]
    [InlineData("8.8.8.8:1234", "8.8.8.8")]
    [InlineData("unknown", "255.255.255.255")]
    public void The_caller_is_looked_for_behind_known_proxies_only(string? forwardedFor, string caller)
    {
        using var behind = new TraceLogger(s_good with { KnownProxies = ["10.0.0.5", "10.0.0.6"] });
        using var alone = new TraceLogger(s_good);

        behind.CallerOf(IPAddress.Parse("10.0.0.5"), forwardedFor)!.ToString().Should().Be(caller);
        alone.CallerOf(IPAddress.Parse("10.0.0.5"), forwardedFor)!.ToString().Should().Be("10.0.0.5");
        behind.CallerOf(IPAddress.Parse("9.9.9.9"), forwardedFor)!.ToString().Should().Be("9.9.9.9", "a stranger's own header says nothing");
    }

    [Fact]
    public async Task Configuration_replaces_the_lists_and_takes_the_usual_levels()
    {
        using var folder = new TempFolder();
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = folder.Path, ApplicationName = "Shop.Orders" });
        builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?>
        {
            ["LogTrace:Department"] = "shop_backend",
            ["LogTrace:Version"] = "2.0",
            ["LogTrace:File:Path"] = folder["own.log"],
            ["LogTrace:Callers:0:Network"] = "203.0.113.0/24",
            ["LogTrace:Callers:0:Trust"] = "Accept",
            ["Logging:LogLevel:Default"] = "Warning",
            ["Logging:LogLevel:Shop"] = "Debug",
        });

        var logger = builder.AddLogTrace();

        await using var app = builder.Build();
        logger.Service.Should().Be("Shop.Orders");
        logger.Options.File!.Path.Should().Be(folder["own.log"]);
        logger.TrustOf(IPAddress.Parse("203.0.113.9")).Should().Be(CallerTrust.Accept);
        logger.TrustOf(IPAddress.Loopback).Should().Be(CallerTrust.Ignore);
        logger.Options.MinimumLevel.Should().Be(LogEventLevel.Warning);
        logger.Options.LevelOverrides.Should().Contain("Shop", LogEventLevel.Debug);
        logger.Dispose();
    }

    [Fact]
    public async Task File_is_named_after_the_service_wherever_that_is_named()
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ApplicationName = "Shop.Orders" });

        var logger = builder.AddLogTrace(options => options with { Service = "orders", Department = "shop_backend" });

        await using var app = builder.Build();
        logger.Options.File!.Path.Should().Be("logs/orders.log");
        logger.Dispose();
    }
}
