using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.Extensions.Logging;

namespace LogTrace.Shipper;

/// <summary>
/// What a process does, over HTTP: <c>/metrics</c> for Prometheus, <c>/healthz</c> (it runs), <c>/readyz</c> (it gets on; else the reason), <c>/</c> (one line for people).
/// It answers GET and nothing else, one request a connection: a whole web server would take more memory than the shipper. The indexer uses it, too.
/// </summary>
sealed class StatusEndpoint : IDisposable
{
    const int MaxRequestBytes = 8 * 1024;
    const int MaxConnections = 16;
    static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    readonly TcpListener _listener;
    readonly Func<string, CancellationToken, Task<StatusPage>> _page;
    readonly ILogger _logger;
    readonly CancellationTokenSource _stop = new();
    readonly SemaphoreSlim _places = new(MaxConnections);

    StatusEndpoint(TcpListener listener, Func<string, CancellationToken, Task<StatusPage>> page, ILogger logger) => (_listener, _page, _logger) = (listener, page, logger);

    public IPEndPoint Address => (IPEndPoint)_listener.LocalEndpoint;

    /// <summary>Listens at <c>host:port</c>; port 0 takes a free one.</summary>
    /// <param name="address">Such as <c>127.0.0.1:9470</c>.</param>
    /// <param name="key">The option that named it, for the message when nobody can listen there.</param>
    /// <param name="page">Gives the page of a path; it may take a few seconds and must not throw. Called for several requests at once.</param>
    /// <param name="logger">Gets where it is served.</param>
    /// <exception cref="IOException">The address cannot be listened at.</exception>
    public static StatusEndpoint Start(string address, string key, Func<string, CancellationToken, Task<StatusPage>> page, ILogger logger)
    {
        var at = Parse(address) ?? throw new ArgumentException($"'{address}' is no address to listen at.", nameof(address));
        var listener = new TcpListener(at);
        try
        {
            listener.Start();
        }
        catch (SocketException e)
        {
            throw new IOException($"{key} is {address}, where nobody can listen: {e.Message}. Name another address, or leave it out.", e);
        }

        var endpoint = new StatusEndpoint(listener, page, logger);
        logger.StatusServed(endpoint.Address);
        _ = endpoint.AcceptAsync();
        return endpoint;
    }

    /// <summary>An address and a port, such as 127.0.0.1:9470, [::1]:9470 or localhost:9470; null for anything else.</summary>
    public static IPEndPoint? Parse(string address)
    {
        if (address.StartsWith("localhost:", StringComparison.Ordinal)) address = string.Concat("127.0.0.1", address.AsSpan("localhost".Length));
        // Without a port IPEndPoint would take port 0.
        return address.LastIndexOf(':') > address.LastIndexOf(']') && IPEndPoint.TryParse(address, out var at) && (at.AddressFamily == AddressFamily.InterNetwork || address[0] == '[') ? at : null;
    }

    async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                await _places.WaitAsync(_stop.Token).ConfigureAwait(false);
                _ = AnswerAsync(await _listener.AcceptTcpClientAsync(_stop.Token).ConfigureAwait(false));
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
        {
            // Stopped.
        }
        catch (SocketException e)
        {
            _logger.StatusEnded(e.Message);
        }
    }

    async Task AnswerAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                using var limit = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
                limit.CancelAfter(Patience);
                var stream = client.GetStream();
                var request = new byte[MaxRequestBytes];
                var got = 0;
                while (request.AsSpan(0, got).IndexOf("\r\n\r\n"u8) < 0)
                {
                    var read = got == request.Length ? 0 : await stream.ReadAsync(request.AsMemory(got), limit.Token).ConfigureAwait(false);
                    if (read == 0) return; // gave up, or sends too much
                    got += read;
                }

                var line = Encoding.ASCII.GetString(request, 0, request.AsSpan(0, got).IndexOf((byte)'\r')).Split(' ');
                var (status, text) = line is ["GET", var target, _] ? await _page(target.Split('?')[0], limit.Token).ConfigureAwait(false) : new StatusPage("405 Method Not Allowed", "only GET\n");
                var body = Encoding.UTF8.GetBytes(text);
                var head = $"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {body.Length}\r\nConnection: close\r\n\r\n";
                await stream.WriteAsync(Encoding.ASCII.GetBytes(head), limit.Token).ConfigureAwait(false);
                await stream.WriteAsync(body, limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or OperationCanceledException or SocketException)
            {
                // Who asked has gone, or takes too long.
            }
            finally
            {
                _places.Release();
            }
        }
    }

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Dispose();
    }
}

/// <summary>What is answered to one request.</summary>
/// <param name="Status">Code and phrase, as on the status line.</param>
/// <param name="Text">The body.</param>
readonly record struct StatusPage(string Status, string Text)
{
    public static StatusPage Ok(string text) => new("200 OK", text);

    public static StatusPage Unavailable(string reason) => new("503 Service Unavailable", reason + "\n");

    public static StatusPage Unknown { get; } = new("404 Not Found", "there are /, /metrics, /healthz and /readyz\n");
}
