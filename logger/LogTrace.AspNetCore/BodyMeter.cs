using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace LogTrace;

/// <summary>
/// Counts the bytes of a response as they are written, since most have no Content-Length, keeps the beginning of text bodies where the options ask for it, and tells callers that may know the
/// trace's id. Nothing is buffered: what the application reads and writes passes by.
/// </summary>
sealed class BodyMeter : PipeWriter, IHttpResponseBodyFeature
{
    readonly IHttpResponseBodyFeature _inner;
    readonly HttpContext _context;
    readonly TraceInstrumentationOptions _options;
    readonly HttpBody? _request;
    HttpBody? _response;
    string? _traceId;
    bool _isChosen;
    long _length;
    MeterStream? _stream;
    PipeWriter? _writer;
    Memory<byte> _memory;

    BodyMeter(HttpContext context, IHttpResponseBodyFeature inner, TraceInstrumentationOptions options)
    {
        _context = context;
        _inner = inner;
        _options = options;
        var request = context.Request;
        if (options.MaxRequestBodyBytes > 0 && HttpBody.IsText(MediaType(request.ContentType)) && request.Headers.ContentEncoding.Count == 0)
        {
            _request = new HttpBody(options.MaxRequestBodyBytes, null);
            request.Body = new RequestStream(request.Body, _request);
        }
    }

    public static BodyMeter Install(HttpContext context, TraceInstrumentationOptions options)
    {
        var meter = new BodyMeter(context, context.Features.Get<IHttpResponseBodyFeature>() ?? new StreamResponseBodyFeature(Stream.Null), options);
        context.Features.Set<IHttpResponseBodyFeature>(meter);
        return meter;
    }

    /// <summary>Tells the caller the trace's id in a header.</summary>
    public void Announce(string traceId)
    {
        _traceId = traceId;
        SetTraceId();
    }

    /// <summary>The application has handled the request: puts into its record what has passed.</summary>
    public void End(TraceContext scope, bool isAborted)
    {
        // Whoever is around this may still clear what was set.
        if (_traceId is not null && !_context.Response.HasStarted)
        {
            _context.Response.OnStarting(
                static state =>
                {
                    ((BodyMeter)state).SetTraceId();
                    return Task.CompletedTask;
                },
                this);
        }

        scope.ResponseLength ??= _context.Response.ContentLength ?? _length;
        scope.Response ??= _response?.ToString();
        if (_request?.ToString() is { } sent) scope.Param = scope.Param.Length == 0 ? sent : $"{scope.Param}\n{sent}";
        // gRPC says in a trailer, or without a body in a header, how it went; to a client that has gone away it says nothing that counts.
        if (isAborted || _context.Response.ContentType?.StartsWith("application/grpc", StringComparison.Ordinal) != true) return;
        var status = _context.Features.Get<IHttpResponseTrailersFeature>()?.Trailers?["grpc-status"].ToString();
        if (string.IsNullOrEmpty(status)) status = _context.Response.Headers["grpc-status"].ToString();
        if (string.IsNullOrEmpty(status)) return;
        scope.Code = status;
        // As for HTTP, what the caller did wrong is no error of this service: Unknown, DeadlineExceeded, Unimplemented, Internal, Unavailable and DataLoss are.
        if (status is "2" or "4" or "12" or "13" or "14" or "15") scope.Fail(status, _context.Features.Get<IHttpResponseTrailersFeature>()?.Trailers?["grpc-message"].ToString());
    }

    public Stream Stream
    {
        get
        {
            SetTraceId();
            return _stream ??= new MeterStream(this, _inner.Stream);
        }
    }

    /// <summary>This: one object less for each request.</summary>
    public PipeWriter Writer
    {
        get
        {
            SetTraceId();
            _writer ??= _inner.Writer;
            return this;
        }
    }

    public Task StartAsync(CancellationToken cancellationToken = default)
    {
        SetTraceId();
        return _inner.StartAsync(cancellationToken);
    }

    Task IHttpResponseBodyFeature.CompleteAsync()
    {
        SetTraceId();
        return _inner.CompleteAsync();
    }

    public void DisableBuffering() => _inner.DisableBuffering();

    public async Task SendFileAsync(string path, long offset, long? count, CancellationToken cancellationToken = default)
    {
        SetTraceId();
        await _inner.SendFileAsync(path, offset, count, cancellationToken).ConfigureAwait(false);
        _length += count ?? (new FileInfo(path).Length - offset);
    }

    public override bool CanGetUnflushedBytes => Inner.CanGetUnflushedBytes;

    public override long UnflushedBytes => Inner.UnflushedBytes;

    public override void Advance(int bytes)
    {
        if (_memory.IsEmpty)
        {
            _length += bytes;
        }
        else
        {
            Passed(_memory.Span[..bytes]);
            _memory = default;
        }

        Inner.Advance(bytes);
    }

    public override Memory<byte> GetMemory(int sizeHint = 0)
    {
        var memory = Inner.GetMemory(sizeHint);
        if (Keeps) _memory = memory;
        return memory;
    }

    public override Span<byte> GetSpan(int sizeHint = 0) => Keeps ? GetMemory(sizeHint).Span : Inner.GetSpan(sizeHint);

    public override ValueTask<FlushResult> WriteAsync(ReadOnlyMemory<byte> source, CancellationToken cancellationToken = default)
    {
        Passed(source.Span);
        return Inner.WriteAsync(source, cancellationToken);
    }

    public override ValueTask<FlushResult> FlushAsync(CancellationToken cancellationToken = default) => Inner.FlushAsync(cancellationToken);

    public override void CancelPendingFlush() => Inner.CancelPendingFlush();

    public override void Complete(Exception? exception = null) => Inner.Complete(exception);

    public override ValueTask CompleteAsync(Exception? exception = null) => Inner.CompleteAsync(exception);

    // Whoever has the writer got it from the property.
    PipeWriter Inner => _writer!;

    bool Keeps
    {
        get
        {
            if (_isChosen || _options.MaxResponseBodyBytes == 0) return _response is not null;
            // The type is known when the first byte is written.
            _isChosen = true;
            var response = _context.Response;
            if (HttpBody.IsText(MediaType(response.ContentType)) && response.Headers.ContentEncoding.Count == 0) _response = new HttpBody(_options.MaxResponseBodyBytes, null);
            return _response is not null;
        }
    }

    static string? MediaType(string? contentType) => contentType?.Split(';', 2)[0].Trim();

    // Again whenever the body is asked for: an exception handler clears the headers before it answers. The server's own callback for that moment costs more than all of this.
    void SetTraceId()
    {
        if (_traceId is not null && !_context.Response.HasStarted) _context.Response.Headers[TraceHeaders.TraceId] = _traceId;
    }

    void Passed(ReadOnlySpan<byte> bytes)
    {
        _length += bytes.Length;
        if (Keeps) _response!.Add(bytes);
    }

    sealed class MeterStream(BodyMeter meter, Stream inner) : Stream
    {
        public override bool CanRead => false;
        public override bool CanSeek => false;
        public override bool CanWrite => inner.CanWrite;
        public override long Length => inner.Length;
        public override long Position { get => inner.Position; set => inner.Position = value; }

        public override void Flush() => inner.Flush();
        public override Task FlushAsync(CancellationToken cancellationToken) => inner.FlushAsync(cancellationToken);
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count)
        {
            inner.Write(buffer, offset, count);
            meter.Passed(buffer.AsSpan(offset, count));
        }

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            meter.Passed(buffer.Span);
            return inner.WriteAsync(buffer, cancellationToken);
        }
    }

    sealed class RequestStream(Stream inner, HttpBody body) : Stream
    {
        public override bool CanRead => true;
        public override bool CanSeek => false;
        public override bool CanWrite => false;
        public override long Length => inner.Length;
        public override long Position { get => inner.Position; set => inner.Position = value; }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count)
        {
            var read = inner.Read(buffer, offset, count);
            body.Add(buffer.AsSpan(offset, read));
            return read;
        }

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            var read = await inner.ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
            body.Add(buffer.Span[..read]);
            return read;
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
