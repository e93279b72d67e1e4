using System.Globalization;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Data.Sqlite;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Serilog.Events;

namespace LogTrace.Benchmarks.Children;

/// <summary>The processes of the overhead benchmark: an endpoint that makes one query and one HTTP call, and the service that it calls.</summary>
static class Services
{
    public const string CalleeCommand = "callee";
    public const string EndpointCommand = "endpoint";

    /// <summary>What a process prints before its address when it is ready.</summary>
    public const string Ready = "listening on ";

    const int Items = 1000;

    /// <summary>A service without any tracing.</summary>
    public static void RunCallee()
    {
        var builder = NewBuilder();
        var app = builder.Build();
        app.MapGet("/items/{id:int}", (int id) => Results.Json(new { id, stock = id % 7 }));
        Run(app);
    }

    /// <summary>The endpoint under test.</summary>
    /// <param name="calleeUrl">Address of the callee.</param>
    /// <param name="folder">For its database and its log files.</param>
    /// <param name="isTraced">With the whole instrumentation, or as it would be without LogTrace, logging nothing.</param>
    public static void RunEndpoint(string calleeUrl, string folder, bool isTraced)
    {
        var builder = NewBuilder();
        builder.Services.AddHttpClient("stock", client => client.BaseAddress = new Uri(calleeUrl));
        if (isTraced)
        {
            builder.AddLogTrace(options => options with
            {
                Service = "orders",
                Department = "shop_backend",
                Version = "1.4",
                File = new() { Path = Path.Combine(folder, "orders.log") },
                // As the templates' settings have it.
                LevelOverrides = new Dictionary<string, LogEventLevel> { ["Microsoft"] = LogEventLevel.Warning, ["System"] = LogEventLevel.Warning },
            });
        }

        var app = builder.Build();
        if (isTraced) app.UseLogTrace();
        var database = CreateDatabase(Path.Combine(folder, "orders.db"));
        app.MapGet("/orders/{id:int}", async (int id, IHttpClientFactory clients) =>
        {
            var plain = new SqliteConnection(database);
            await using System.Data.Common.DbConnection connection = isTraced ? new TraceDbConnection(plain, "orders_db") : plain;
            await connection.OpenAsync();
            await using var command = connection.CreateCommand();
            command.CommandText = "select price from items where id = $id";
            var parameter = command.CreateParameter();
            (parameter.ParameterName, parameter.Value) = ("$id", id % Items);
            command.Parameters.Add(parameter);
            var price = Convert.ToDouble(await command.ExecuteScalarAsync(), CultureInfo.InvariantCulture);
            using var client = clients.CreateClient("stock");
            var stock = await client.GetStringAsync($"/items/{id % Items}");
            return Results.Json(new { id, price, stock });
        });
        Run(app);
    }

    static string CreateDatabase(string path)
    {
        var text = $"Data Source={path}";
        using var connection = new SqliteConnection(text);
        connection.Open();
        using var command = connection.CreateCommand();
        command.CommandText = $"""
            pragma journal_mode = wal;
            create table if not exists items(id integer primary key, price real);
            insert or ignore into items with recursive n(i) as (select 0 union all select i + 1 from n where i < {Items - 1}) select i, i * 1.5 from n;
            """;
        command.ExecuteNonQuery();
        return text;
    }

    static WebApplicationBuilder NewBuilder()
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { ContentRootPath = AppContext.BaseDirectory });
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        return builder;
    }

    /// <summary>Until standard input ends: so no child outlives the benchmark.</summary>
    static void Run(WebApplication app)
    {
        app.StartAsync().GetAwaiter().GetResult();
        Console.WriteLine(Ready + app.Urls.Single());
        while (Console.In.Read() >= 0)
        {
        }

        app.StopAsync().GetAwaiter().GetResult();
    }
}
