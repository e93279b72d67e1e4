using Microsoft.Extensions.Logging;

namespace LogTrace;

/// <summary>
/// Stands for a handler of IHttpClientFactory that logs the client's requests, and passes by it while nobody wants to hear it: with all that it prepares for its lines it costs a request as much as
/// its record does.
/// </summary>
/// <param name="logging">Writes lines of level Information and below.</param>
/// <param name="logger">What it writes them to.</param>
sealed class UnheardLoggingHandler(DelegatingHandler logging, ILogger logger) : DelegatingHandler
{
    readonly Lock _gate = new();
    volatile HttpMessageInvoker? _heard;

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        logger.IsEnabled(LogLevel.Information) ? Heard().SendAsync(request, cancellationToken) : base.SendAsync(request, cancellationToken);

    protected override HttpResponseMessage Send(HttpRequestMessage request, CancellationToken cancellationToken) =>
        logger.IsEnabled(LogLevel.Information) ? Heard().Send(request, cancellationToken) : base.Send(request, cancellationToken);

    HttpMessageInvoker Heard()
    {
        if (_heard is { } known) return known;
        lock (_gate)
        {
            if (_heard is null)
            {
                // What comes next is known once the client's handlers have been put together.
                logging.InnerHandler = InnerHandler!;
                _heard = new HttpMessageInvoker(logging, disposeHandler: false);
            }

            return _heard;
        }
    }

    protected override void Dispose(bool disposing)
    {
        // With all behind it, if it was ever asked.
        if (disposing) logging.Dispose();
        base.Dispose(disposing);
    }
}
