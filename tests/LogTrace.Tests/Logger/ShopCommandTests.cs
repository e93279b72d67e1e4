using System.Diagnostics;
using System.Text.Json;
using LogTrace.Tests.Support;
using Shop;

namespace LogTrace.Tests.Logger;

/// <summary>The shop as its users start it: as processes.</summary>
public sealed class ShopCommandTests : IDisposable
{
    readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task All_runs_the_load_stops_and_prints_its_counts()
    {
        using var shop = Start("all", "--port", "0", "--requests", "20", "--rate", "200", "--seed", "3");

        var counts = await CountsAsync(shop);

        counts.GetProperty("requests").GetInt32().Should().Be(20);
        foreach (var service in ShopOptions.Services) Written(counts, service).Should().Be(LinesOf(service));
    }

    [Fact]
    public async Task A_signal_ends_all_with_the_same_line()
    {
        using var shop = Start("all", "--port", "0", "--rate", "50");
        await ReadyAsync(shop);
        await Eventually.HoldsAsync(() => LinesOf("payment") > 10, "the load has reached payment");

        await SignalAsync(shop, IgnoresInterrupt() ? "TERM" : "INT");
        var counts = await CountsAsync(shop);

        counts.GetProperty("requests").GetInt32().Should().BeGreaterThan(0);
        foreach (var service in ShopOptions.Services) Written(counts, service).Should().Be(LinesOf(service));
    }

    [Fact]
    public async Task Services_in_processes_of_their_own_make_the_same_shop()
    {
        var port = FreePorts();
        var services = ShopOptions.Services.ToDictionary(service => service, service => Start(service, "--port", $"{port}", "--seed", "3"));
        try
        {
            foreach (var service in services.Values) await ReadyAsync(service);
            using (var load = Start("load", $"http://127.0.0.1:{port}", "--requests", "20", "--rate", "100", "--seed", "3"))
                (await CountsAsync(load)).GetProperty("requests").GetInt32().Should().Be(20);

            foreach (var (name, service) in services)
            {
                await SignalAsync(service, "TERM");
                Written(await CountsAsync(service), name).Should().Be(LinesOf(name)).And.BeGreaterThan(20);
            }
        }
        finally
        {
            foreach (var service in services.Values)
            {
                if (!service.HasExited) service.Kill();
                service.Dispose();
            }
        }
    }

    [Theory]
    [InlineData("--rate is 0", "all", "--rate", "0")]
    [InlineData("--port is 80", "all", "--port", "80")]
    [InlineData("--port is 0", "gateway", "--port", "0")]
    [InlineData("URL is nowhere", "load", "nowhere")]
    [InlineData("--debug-key has 5", "all", "--debug-key", "short")]
    [InlineData("--bogus", "all", "--bogus")]
    public async Task A_usage_error_says_what_is_wrong_and_exits_with_2(string message, params string[] arguments)
    {
        using var shop = Start(arguments);

        var errors = await shop.StandardError.ReadToEndAsync().Within();
        await shop.WaitForExitAsync().Within();

        shop.ExitCode.Should().Be(2);
        errors.Should().Contain(message);
    }

    Process Start(params string[] arguments)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath is { } host && Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = _folder.Path,
        };
        start.ArgumentList.Add(typeof(ShopRun).Assembly.Location);
        foreach (var argument in arguments) start.ArgumentList.Add(argument);
        return Process.Start(start)!;
    }

    // A shell that starts a job in the background has it ignore Ctrl-C's signal, and so do all processes below: then only SIGTERM can be sent.
    static bool IgnoresInterrupt()
    {
        const int interrupt = 2;
        var ignored = File.ReadLines("/proc/self/status").First(line => line.StartsWith("SigIgn:", StringComparison.Ordinal)).Split('\t')[1];
        return (ulong.Parse(ignored, System.Globalization.NumberStyles.HexNumber, System.Globalization.CultureInfo.InvariantCulture) & (1UL << (interrupt - 1))) != 0;
    }

    // Every service says where it listens once it does.
    static async Task ReadyAsync(Process shop) =>
        (await shop.StandardError.ReadLineAsync().Within(TimeSpan.FromMinutes(1))).Should().Contain(" at http://");

    static async Task<JsonElement> CountsAsync(Process shop)
    {
        var line = await shop.StandardOutput.ReadToEndAsync().Within(TimeSpan.FromMinutes(2));
        await shop.WaitForExitAsync().Within();
        shop.ExitCode.Should().Be(0);
        return JsonDocument.Parse(line).RootElement;
    }

    static async Task SignalAsync(Process process, string signal)
    {
        using var kill = Process.Start("kill", [$"-{signal}", $"{process.Id}"]);
        await kill.WaitForExitAsync().Within();
    }

    static long Written(JsonElement counts, string service) => counts.GetProperty("written").GetProperty(service).GetInt64();

    long LinesOf(string service)
    {
        var folder = _folder[$"logs/{service}"];
        return Directory.Exists(folder) ? Directory.EnumerateFiles(folder, "*.log").Sum(file => ReadShared(file)) : 0;
    }

    static long ReadShared(string file)
    {
        using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        using var reader = new StreamReader(stream);
        var lines = 0;
        while (reader.ReadLine() is not null) lines++;
        return lines;
    }

    // Four in a row that nobody has now. Somebody may take one before the services do; then they say so and the test fails.
    static int FreePorts()
    {
        for (var port = 20_000 + Environment.ProcessId % 10_000; ; port += 4)
        {
            try
            {
                for (var offset = 0; offset < 4; offset++)
                {
                    using var listener = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, port + offset);
                    listener.Start();
                }

                return port;
            }
            catch (System.Net.Sockets.SocketException)
            {
                // Taken: the next four.
            }
        }
    }
}
