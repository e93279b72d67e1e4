using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using LogTrace.Transport;
using Microsoft.Extensions.Logging;

namespace LogTrace.Shipper;

/// <summary>The command <c>ship</c>: files to Kafka.</summary>
public static class ShipCommand
{
    /// <summary>The files to read, as every command takes them.</summary>
    public static Argument<string[]> Patterns()
    {
        var patterns = new Argument<string[]>("GLOB") { Description = "Log files: *, ?, [a-z], {one,two} and ** stand for parts of a path; quote them, so that new files are found.", Arity = ArgumentArity.ZeroOrMore };
        // An option that does not exist would otherwise be waited for as a file.
        patterns.Validators.Add(result =>
        {
            foreach (var token in result.Tokens.Where(t => t.Value.StartsWith('-'))) result.AddError($"There is no option '{token.Value}'. For a file of that name write './{token.Value}'.");
        });
        return patterns;
    }

    /// <summary>The command with its options, to run by itself or below another root.</summary>
    public static Command AddTo(Command command)
    {
        var patterns = Patterns();
        var kafka = new Option<string?>("--kafka") { HelpName = "HOST:PORT", Description = "Kafka as HOST:PORT, several separated by commas (default localhost:9092)." };
        var topic = new Option<string?>("--topic") { HelpName = "NAME", Description = "Topic of the records (default logtrace.records)." };
        var data = new Option<string?>("--data") { HelpName = "DIR", Description = "Directory that keeps how far every file is (default logtrace-data)." };
        var exclude = new Option<string[]>("--exclude") { HelpName = "PATTERN", Description = "Files to leave out, as a pattern of a name or path; may be repeated." };
        var format = new Option<string?>("--format") { HelpName = "FORMAT", Description = "plain, cri (Kubernetes) or docker (json-file): what stands around each line (default plain)." };
        var listen = new Option<string?>("--listen") { HelpName = "ADDRESS:PORT", Description = "Serve /metrics (Prometheus), /healthz, /readyz and / (one line) there, such as 127.0.0.1:9470 (default: nowhere)." };
        var once = new Option<bool>("--once") { Description = "End when everything that is there is shipped; exit 0 only if the counts balance." };
        var replay = new Option<string?>("--replay") { HelpName = "FILE", Description = "Send the lines of a dead letter (dead-letter.jsonl of ship or index) again, with the positions they had, and end; exit 0 only if all were sent. The file stays." };
        var config = new Option<string?>("--config") { HelpName = "FILE", Description = "Configuration file (default shipper.json in the current directory, if there)." };
        command.Description = "Ship log files to Kafka: every whole line, at least once, going on where the last run stopped.";
        foreach (var symbol in (Symbol[])[patterns, kafka, topic, data, exclude, format, listen, once, replay, config])
        {
            if (symbol is Argument argument) command.Arguments.Add(argument);
            else command.Options.Add((Option)symbol);
        }

        command.SetAction(async (parsed, _) =>
        {
            try
            {
                var settings = Settings.Load(parsed.GetValue(config), "shipper.json",
                [
                    new("Kafka:Brokers", parsed.GetValue(kafka)),
                    new("Kafka:Topic", parsed.GetValue(topic)),
                    new("Shipper:DataDirectory", parsed.GetValue(data)),
                    new("Shipper:Format", parsed.GetValue(format)),
                    new("Shipper:Listen", parsed.GetValue(listen)),
                    new("Shipper:Once", parsed.GetValue(once) ? "true" : null),
                ]);
                var options = settings.Section<ShipperOptions>("Shipper");
                // Lists of the configuration are replaced, not added to.
                if (parsed.GetValue(patterns) is { Length: > 0 } paths) options = options with { Paths = paths };
                if (parsed.GetValue(exclude) is { Length: > 0 } excludes) options = options with { Exclude = excludes };
                var kafkaOptions = settings.Section<KafkaOptions>("Kafka");
                if (parsed.GetValue(replay) is { } letters)
                {
                    Settings.Check(kafkaOptions.Validate());
                    return await ReplayAsync(letters, kafkaOptions).ConfigureAwait(false);
                }

                Settings.Check(options.Validate(), kafkaOptions.Validate());
                return await ShipAsync(options, kafkaOptions).ConfigureAwait(false);
            }
            catch (SettingsException e)
            {
                await Console.Error.WriteLineAsync(e.Message).ConfigureAwait(false);
                return 2;
            }
            catch (Exception e) when (e is ShipperStateException or ArgumentException or IOException or InvalidDataException or UnauthorizedAccessException or InvalidOperationException or DllNotFoundException)
            {
                await Console.Error.WriteLineAsync($"failed: {e.Message}").ConfigureAwait(false);
                return 1;
            }
        });
        return command;
    }

    static async Task<int> ShipAsync(ShipperOptions options, KafkaOptions kafka)
    {
        using var stop = new CancellationTokenSource();
        using var leave = new CancellationTokenSource();
        void OnSignal(PosixSignalContext signal)
        {
            signal.Cancel = true; // the process ends when what is on its way is safe, or at the second signal
            if (stop.IsCancellationRequested) leave.Cancel();
            else stop.Cancel();
        }

        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
        using var logs = LoggerFactory.Create(logging => logging
            .AddSimpleConsole(console => console.SingleLine = true)
            .AddConsole(console => console.LogToStandardErrorThreshold = LogLevel.Trace));
        var logger = logs.CreateLogger<ShipperPipeline>();
        KafkaTopic.CheckProperties(kafka);
        // Files are found and held open from the first moment, whether Kafka is there or not.
        await using var writer = new KafkaWriter(kafka, logger.TransportSays, makesTopic: true);
        using var deadTopic = kafka.DeadTopic.Length > 0 ? new DeadLetterTopic(kafka) : null;
        using var pipeline = new ShipperPipeline(options, writer, logger, deadTopic: deadTopic);
        using var status = options.Listen is { } address ? StatusEndpoint.Start(address, "Shipper:Listen", (path, _) => Task.FromResult(ShipperStatus.Page(path, pipeline.Snapshot(), writer.Statistics)), logger) : null;
        try
        {
            await pipeline.RunAsync(stop.Token, leave.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (leave.IsCancellationRequested)
        {
            return 1;
        }

        return options.Once ? PrintBalance(pipeline.Snapshot(), stop.IsCancellationRequested) : 0;
    }

    static async Task<int> ReplayAsync(string path, KafkaOptions kafka)
    {
        using var stop = new CancellationTokenSource();
        void OnSignal(PosixSignalContext signal)
        {
            signal.Cancel = true;
            stop.Cancel();
        }

        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, OnSignal);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, OnSignal);
        if (!File.Exists(path)) throw new SettingsException($"--replay: there is no file {Path.GetFullPath(path)}.");
        await using var writer = new KafkaWriter(kafka, Console.Error.WriteLine, makesTopic: true);
        try
        {
            var counts = await new Replay(writer, Console.Error.WriteLine).RunAsync(path, stop.Token).ConfigureAwait(false);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{counts.Letters} lines = sent {counts.Sent} + refused {counts.Refused} + not kept whole {counts.Partial}"));
            return counts.Sent == counts.Letters ? 0 : 1;
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            await Console.Error.WriteLineAsync("Stopped before everything was sent; the whole file can be sent again.").ConfigureAwait(false);
            return 1;
        }
    }

    /// <summary>Prints the balance of a run with <c>--once</c> and says what stays for the next start.</summary>
    /// <returns>The exit code: 0 when everything is shipped and the counts balance.</returns>
    internal static int PrintBalance(ShipperSnapshot snapshot, bool wasStopped)
    {
        var counts = snapshot.Counts;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"read {counts.ReadLines} = shipped {counts.ShippedLines} + set aside {counts.SetAsideLines} + blank {counts.BlankLines} lines ({counts.ReadBytes} = {counts.ShippedBytes} + {counts.SetAsideBytes} + {counts.BlankBytes} bytes)"));
        foreach (var file in snapshot.Files.Where(f => f.UnfinishedBytes > 0))
            Console.Error.WriteLine($"{file.Path}: the last line, {file.UnfinishedBytes:N0} bytes at byte {file.ReadOffset}, has no line end; it stays for the next start.");
        if (counts.LostBytes > 0) Console.Error.WriteLine($"{counts.LostBytes:N0} bytes were emptied or overwritten before they were read.");
        if (wasStopped) Console.Error.WriteLine("Stopped before everything was shipped; the next start goes on from here.");
        return counts.Balances && !wasStopped ? 0 : 1;
    }
}
