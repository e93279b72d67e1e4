using System.Diagnostics;
using System.Net.Http.Json;

namespace Shop;

/// <summary>One request of the load.</summary>
public sealed record LoadRequest(int Number, HttpMethod Method, string Path, CheckoutRequest? Body, bool Debug)
{
    /// <summary>Request <paramref name="number"/> of a seed: always the same, whatever was sent before.</summary>
    public static LoadRequest Plan(int seed, int number, bool mayDebug)
    {
        var random = new Random((int)Faults.Mix(seed, $"load/{number}"));
        var kind = random.NextDouble();
        var debug = random.NextDouble() < 0.04 && mayDebug;
        if (kind < 0.6)
        {
            var body = new CheckoutRequest($"user-{random.Next(1, 200)}", random.Next(1, Catalogue.Carts + 1), $"{seed}-{number}");
            return new LoadRequest(number, HttpMethod.Post, "/checkout", body, debug);
        }

        if (kind < 0.85)
        {
            var known = random.NextDouble() < 0.95;
            var order = random.Next(1, Catalogue.PastOrders + 1) + (known ? 0 : 900_000_000);
            return new LoadRequest(number, HttpMethod.Get, $"/orders/{order}", null, debug);
        }

        return new LoadRequest(number, HttpMethod.Get, $"/items?page={random.Next(1, 5)}", null, debug);
    }
}

/// <summary>What the load saw. A request failed when its answer was 400 or above, or none.</summary>
public sealed record LoadResult(int Requests, int Failed);

/// <summary>Sends the planned requests at a steady rate: request n leaves at start + n / rate, however long the answers take.</summary>
public sealed class LoadGenerator(LoadOptions options)
{
    /// <summary>Runs until the number of requests or the duration is reached or the token is cancelled; answers under way are waited for.</summary>
    /// <param name="answered">Gets every answer; several at once.</param>
    public async Task<LoadResult> RunAsync(Uri gateway, CancellationToken cancellationToken, Action<LoadRequest, HttpResponseMessage>? answered = null)
    {
        using var client = new HttpClient { BaseAddress = gateway, Timeout = TimeSpan.FromSeconds(60) };
        using var slots = new SemaphoreSlim(options.MaxInFlight);
        var clock = Stopwatch.StartNew();
        int sent = 0, failed = 0;
        try
        {
            while ((options.Requests is not { } limit || sent < limit) && (options.Duration is not { } duration || clock.Elapsed < duration))
            {
                var wait = TimeSpan.FromSeconds(sent / options.Rate) - clock.Elapsed;
                if (wait > TimeSpan.FromMilliseconds(1)) await Task.Delay(wait, cancellationToken);
                await slots.WaitAsync(cancellationToken);
                var request = LoadRequest.Plan(options.Seed, ++sent, options.DebugKey is not null);
                _ = SendAsync(request);
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            // Asked to stop: what is under way still gets its answer below.
        }

        for (var slot = 0; slot < options.MaxInFlight; slot++) await slots.WaitAsync(CancellationToken.None);
        return new LoadResult(sent, failed);

        async Task SendAsync(LoadRequest request)
        {
            try
            {
                using var message = new HttpRequestMessage(request.Method, request.Path);
                if (request.Body is not null) message.Content = JsonContent.Create(request.Body);
                if (request.Debug)
                {
                    message.Headers.Add("X-Debug", "1");
                    message.Headers.Add("X-Debug-Key", options.DebugKey);
                }

                using var response = await client.SendAsync(message, CancellationToken.None);
                answered?.Invoke(request, response);
                if (!response.IsSuccessStatusCode) Interlocked.Increment(ref failed);
            }
            catch (Exception exception) when (exception is HttpRequestException or OperationCanceledException)
            {
                Interlocked.Increment(ref failed);
            }
            finally
            {
                slots.Release();
            }
        }
    }
}
