using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;

namespace LogTrace.Tests.Support;

/// <summary>
/// Servers from Debian's packages, each started once per test run, when first asked for, as a child on a free port with a data folder of its own. A shell keeps each and
/// ends it when the test process is gone, however that ends.
/// </summary>
public static class DebianServers
{
    // $1 = data folder, $2 = signal to end with, $3 = user to run as or -, then the command. Its input ends with the test process.
    const string Keeper = """
        data=$1; signal=$2; user=$3; shift 3
        if [ "$user" != - ]; then set -- setpriv --reuid="$user" --regid="$user" --init-groups "$@"; fi
        "$@" >>"$data/log" 2>&1 </dev/null & pid=$!
        read -r _
        kill -"$signal" $pid 2>/dev/null; wait $pid; rm -rf "$data"
        """;

    static readonly ConcurrentDictionary<string, Lazy<Task<int>>> Ports = new();

    static string? Redis { get; } = Find("redis-server");
    static string? MariaDb { get; } = Find("mariadbd");
    static string? MariaDbInstall { get; } = Find("mariadb-install-db");
    static string? Postgres { get; } = Find("postgres");
    static string? InitDb { get; } = Find("initdb");

    /// <summary>Why a server cannot be started here; null when it can.</summary>
    /// <param name="name">redis, postgresql or mariadb.</param>
    public static string? Missing(string name) => name switch
    {
        "redis" when Redis is null => "no redis-server: install Debian's package redis-server",
        "postgresql" when Postgres is null || InitDb is null => "no postgres and initdb: install Debian's package postgresql",
        "mariadb" when MariaDb is null || MariaDbInstall is null || Find("my_print_defaults") is null =>
            "no mariadbd and mariadb-install-db: install Debian's packages mariadb-server-core and mariadb-client-core",
        "redis" or "postgresql" or "mariadb" => null,
        _ => throw new ArgumentException(name),
    };

    /// <summary>Port of a Redis on 127.0.0.1.</summary>
    public static Task<int> RedisAsync() => SharedAsync("redis", async () => await StartAsync("redis", "KILL", "-", (port, data) =>
        [Redis!, "--port", $"{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", data]));

    /// <summary>Port of a PostgreSQL on 127.0.0.1, with the user and database postgres and no password.</summary>
    public static Task<int> PostgresAsync() => SharedAsync("postgresql", async () =>
    {
        // It refuses to be root.
        var user = Environment.UserName == "root" ? "postgres" : "-";
        return await StartAsync("postgresql", "QUIT", user, (port, data) => [Postgres!, "-D", $"{data}/db", "-c", "listen_addresses=127.0.0.1", "-p", $"{port}", "-k", data, "-c", "fsync=off"], async data =>
        {
            if (user != "-") await RunAsync("chown", user, data);
            string[] command = [InitDb!, "-D", $"{data}/db", "-A", "trust", "-U", "postgres", "--no-sync"];
            await RunAsync(user == "-" ? command : ["setpriv", $"--reuid={user}", $"--regid={user}", "--init-groups", .. command]);
        });
    });

    /// <summary>Port of a MariaDB on 127.0.0.1, with the user root and no password.</summary>
    public static Task<int> MariaDbAsync() => SharedAsync("mariadb", async () =>
    {
        var user = Environment.UserName;
        return await StartAsync(
            "mariadb",
            "KILL",
            "-",
            (port, data) => [MariaDb!, "--no-defaults", $"--user={user}", $"--datadir={data}/db", $"--port={port}", "--bind-address=127.0.0.1", $"--socket={data}/socket", "--innodb-flush-log-at-trx-commit=0"],
            data => RunAsync(MariaDbInstall!, "--no-defaults", $"--user={user}", $"--datadir={data}/db", "--auth-root-authentication-method=normal", "--skip-test-db"));
    });

    static Task<int> SharedAsync(string name, Func<Task<int>> start) => Ports.GetOrAdd(name, _ => new Lazy<Task<int>>(start)).Value;

    static async Task<int> StartAsync(string name, string signal, string user, Func<int, string, string[]> command, Func<string, Task>? prepare = null)
    {
        for (var attempt = 1; ; attempt++)
        {
            var data = Directory.CreateTempSubdirectory($"logtrace-test-{name}-").FullName;
            if (prepare is not null) await prepare(data);
            var port = FreePort();
            var shell = Process.Start(new ProcessStartInfo("setsid", ["sh", "-c", Keeper, "sh", data, signal, user, .. command(port, data)]) { RedirectStandardInput = true })!;
            AppDomain.CurrentDomain.ProcessExit += (_, _) =>
            {
                shell.StandardInput.Close();
                shell.WaitForExit(TimeSpan.FromSeconds(5));
            };
            try
            {
                await Eventually.HoldsAsync(() => AnswersAsync(port), $"{name} answers on port {port}; {data}/log says why not");
                return port;
            }
            catch (TimeoutException) when (attempt < 3)
            {
                // Somebody took the port between the look and the start; the next one is another.
                shell.StandardInput.Close();
            }
        }
    }

    static async Task<bool> AnswersAsync(int port)
    {
        try
        {
            using var client = new TcpClient();
            await client.ConnectAsync(IPAddress.Loopback, port);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    static async Task RunAsync(params string[] command)
    {
        using var process = Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var output = process.StandardOutput.ReadToEndAsync();
        var errors = await process.StandardError.ReadToEndAsync();
        await process.WaitForExitAsync();
        if (process.ExitCode != 0) throw new InvalidOperationException($"{string.Join(' ', command)} failed: {await output} {errors}");
    }

    static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    // Debian keeps PostgreSQL's programs where no PATH leads.
    static string? Find(string program)
    {
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':').Concat(["/usr/bin", "/usr/sbin"]);
        if (Directory.Exists("/usr/lib/postgresql")) folders = folders.Concat(Directory.EnumerateDirectories("/usr/lib/postgresql").Select(version => $"{version}/bin"));
        return folders.Where(folder => folder.Length > 0).Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);
    }
}
