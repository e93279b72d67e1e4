using System.Collections.Concurrent;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.Logging;

namespace LogTrace.Tests.Support;

/// <summary>
/// The little of Kibana and OpenSearch Dashboards that an import needs: it keeps objects a place (space or tenant), refuses as the real ones were seen or are documented to
/// refuse, and can be told to answer the next requests otherwise.
/// </summary>
public sealed class FakeKibana : IAsyncDisposable
{
    readonly WebApplication _app;

    FakeKibana(WebApplication app) => _app = app;

    public string Url => _app.Urls.Single().Replace("127.0.0.1", "localhost");

    /// <summary>osd- in place of kbn-, and tenants in place of spaces.</summary>
    public bool IsOpenSearch { get; init; }

    public string Version { get; init; } = "7.10.2";

    /// <summary>As 8.0 and later say their state.</summary>
    public bool SaysLevel { get; init; }

    /// <summary>A proxy takes out the header with the product's name.</summary>
    public bool HidesName { get; init; }

    /// <summary>What object versions become when they are imported, as newer servers do it; null keeps them.</summary>
    public Func<JsonObject, JsonObject> Migrate { get; init; } = it => it;

    /// <summary>Places that exist beside the default one.</summary>
    public HashSet<string> Places { get; } = [];

    /// <summary>place/type/id -> object.</summary>
    public ConcurrentDictionary<string, JsonObject> Objects { get; } = new();

    public ConcurrentQueue<string> Authorizations { get; } = new();

    public int Imports { get; private set; }

    /// <summary>Answers that come in place of the right one, one a request whose path ends so: status, refused, up, ...</summary>
    public ConcurrentQueue<(string PathEnd, int Status, string Body)> Answers { get; } = new();

    public static async Task<FakeKibana> StartAsync(Func<WebApplication, FakeKibana>? make = null, X509Certificate2? certificate = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseKestrelHttpsConfiguration();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen =>
        {
            if (certificate is not null) listen.UseHttps(new HttpsConnectionAdapterOptions { ServerCertificate = certificate, ClientCertificateMode = ClientCertificateMode.NoCertificate });
        }));
        var app = builder.Build();
        var fake = make?.Invoke(app) ?? new FakeKibana(app);
        app.Run(fake.AnswerAsync);
        await app.StartAsync();
        return fake;
    }

    public static Task<FakeKibana> StartAsync(bool isOpenSearch, string version = "7.10.2", bool saysLevel = false, bool hidesName = false, Func<JsonObject, JsonObject>? migrate = null) =>
        StartAsync(app => new FakeKibana(app) { IsOpenSearch = isOpenSearch, Version = version, SaysLevel = saysLevel, HidesName = hidesName, Migrate = migrate ?? (it => it) });

    /// <summary>A certificate for localhost that signed itself, so that its own file is the authority.</summary>
    public static X509Certificate2 SomeCertificate()
    {
        using var key = RSA.Create(2048);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        request.CertificateExtensions.Add(names.Build());
        using var certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddHours(1));
        return X509CertificateLoader.LoadPkcs12(certificate.Export(X509ContentType.Pkcs12), null);
    }

    async Task AnswerAsync(HttpContext context)
    {
        Authorizations.Enqueue(context.Request.Headers.Authorization.ToString());
        if (!HidesName) context.Response.Headers[IsOpenSearch ? "osd-name" : "kbn-name"] = "some-host";
        var path = context.Request.Path.Value!;
        if (Answers.TryPeek(out var next) && path.EndsWith(next.PathEnd, StringComparison.Ordinal) && Answers.TryDequeue(out next))
        {
            if (next.Status is >= 300 and < 400) context.Response.Headers.Location = next.Body;
            await SayAsync(context, next.Status, next.Body);
            return;
        }

        var place = path.StartsWith("/s/", StringComparison.Ordinal) ? path.Split('/')[2] : IsOpenSearch ? context.Request.Headers["securitytenant"].ToString() : "default";
        if (path == "/api/status") await SayAsync(context, 200, Status().ToJsonString());
        else if (context.Request.Method != "POST" || path.EndsWith("port", StringComparison.Ordinal) == false) await RefuseAsync(context, 404, "Not Found");
        else if (!context.Request.Headers.ContainsKey(IsOpenSearch ? "osd-xsrf" : "kbn-xsrf")) await RefuseAsync(context, 400, $"Request must contain a {(IsOpenSearch ? "osd" : "kbn")}-xsrf header.");
        else if (place is not ("default" or "global") && !Places.Contains(place)) await RefuseAsync(context, 404, $"Saved object [space/{place}] not found");
        else if (path.EndsWith("_export", StringComparison.Ordinal)) await ExportAsync(context, place);
        else await ImportAsync(context, place);
    }

    JsonObject Status() => new()
    {
        ["name"] = "some-host",
        ["version"] = new JsonObject { ["number"] = Version },
        ["status"] = new JsonObject
        {
            ["overall"] = SaysLevel ? new JsonObject { ["level"] = "available" } : new JsonObject { ["state"] = "green" },
            ["statuses"] = new JsonArray(new JsonObject { ["id"] = $"core:{(IsOpenSearch ? "opensearch" : "elasticsearch")}@{Version}" }),
        },
    };

    async Task ExportAsync(HttpContext context, string place)
    {
        var wanted = (await JsonNode.ParseAsync(context.Request.Body))!["objects"]!.AsArray().Select(it => (Type: $"{it!["type"]}", Id: $"{it["id"]}")).ToList();
        var missing = wanted.Where(it => !Objects.ContainsKey($"{place}/{it.Type}/{it.Id}")).ToList();
        if (missing.Count > 0)
        {
            var attributes = new JsonObject { ["objects"] = new JsonArray([.. missing.Select(it => new JsonObject { ["id"] = it.Id, ["type"] = it.Type, ["error"] = new JsonObject { ["statusCode"] = 404 } })]) };
            await SayAsync(context, 400, new JsonObject { ["statusCode"] = 400, ["error"] = "Bad Request", ["message"] = "Bad Request", ["attributes"] = attributes }.ToJsonString());
            return;
        }

        await SayAsync(context, 200, string.Join('\n', wanted.Select(it => Objects[$"{place}/{it.Type}/{it.Id}"].ToJsonString())));
    }

    async Task ImportAsync(HttpContext context, string place)
    {
        Imports++;
        var file = (await context.Request.ReadFormAsync()).Files.Single();
        file.Name.Should().Be("file");
        file.FileName.Should().EndWith(".ndjson", "other names are refused");
        context.Request.Query["overwrite"].ToString().Should().Be("true");
        var results = new JsonArray();
        foreach (var line in (await new StreamReader(file.OpenReadStream()).ReadToEndAsync()).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            var it = JsonNode.Parse(line)!.AsObject();
            var kept = Migrate(it.DeepClone().AsObject());
            kept["updated_at"] = DateTime.UtcNow.ToString("O");
            Objects[$"{place}/{it["type"]}/{it["id"]}"] = kept;
            results.Add(new JsonObject { ["type"] = $"{it["type"]}", ["id"] = $"{it["id"]}" });
        }

        await SayAsync(context, 200, new JsonObject { ["success"] = true, ["successCount"] = results.Count, ["successResults"] = results }.ToJsonString());
    }

    static Task RefuseAsync(HttpContext context, int status, string message) => SayAsync(context, status, new JsonObject { ["statusCode"] = status, ["message"] = message }.ToJsonString());

    static async Task SayAsync(HttpContext context, int status, string body)
    {
        context.Response.StatusCode = status;
        await context.Response.WriteAsync(body);
    }

    public async ValueTask DisposeAsync()
    {
        await _app.StopAsync(new CancellationToken(true));
        await _app.DisposeAsync();
    }
}
