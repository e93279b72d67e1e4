using System.Net;
using System.Net.Http.Headers;
using System.Text;

namespace LogTrace;

/// <summary>The beginning of a body that passes by, kept as text.</summary>
sealed class HttpBody(int maxBytes, string? charset)
{
    byte[] _kept = [];
    int _count;
    bool _isCut;

    /// <summary>Bytes that passed, kept or not.</summary>
    public long Length { get; private set; }

    public static bool IsText(HttpContentHeaders headers) => IsText(headers.ContentType?.MediaType) && headers.ContentEncoding.Count == 0;

    public static bool IsText(string? mediaType) => mediaType is not null
        && (mediaType.StartsWith("text/", StringComparison.OrdinalIgnoreCase) || mediaType.EndsWith("json", StringComparison.OrdinalIgnoreCase)
            || mediaType.EndsWith("xml", StringComparison.OrdinalIgnoreCase) || mediaType.Equals("application/x-www-form-urlencoded", StringComparison.OrdinalIgnoreCase));

    public void Add(ReadOnlySpan<byte> bytes)
    {
        Length += bytes.Length;
        var room = maxBytes - _count;
        if (bytes.Length > room)
        {
            _isCut = true;
            bytes = bytes[..room];
        }

        if (bytes.IsEmpty) return;
        if (_kept.Length < _count + bytes.Length) Array.Resize(ref _kept, Math.Min(maxBytes, Math.Max(_count + bytes.Length, 2 * _kept.Length)));
        bytes.CopyTo(_kept.AsSpan(_count));
        _count += bytes.Length;
    }

    /// <summary>What was kept; null when that is nothing.</summary>
    public override string? ToString()
    {
        if (_count == 0) return null;
        Encoding encoding;
        try
        {
            encoding = charset is null ? Encoding.UTF8 : Encoding.GetEncoding(charset.Trim('"'));
        }
        catch (ArgumentException)
        {
            encoding = Encoding.UTF8; // a name that nobody knows
        }

        // A character cut in two at the end is left out.
        var text = new char[encoding.GetMaxCharCount(_count)];
        var length = encoding.GetDecoder().GetChars(_kept, 0, _count, text, 0, flush: !_isCut);
        return _isCut ? string.Concat(text.AsSpan(0, length), "...") : new string(text, 0, length);
    }
}

/// <summary>A request's content that keeps the beginning of what is sent; the content itself goes out as it is.</summary>
sealed class SentContent : HttpContent
{
    readonly TraceOperation _call;
    readonly int _maxBytes;

    public SentContent(HttpContent inner, TraceOperation call, int maxBytes)
    {
        Inner = inner;
        _call = call;
        _maxBytes = maxBytes;
        HttpContents.Copy(inner.Headers, Headers);
    }

    public HttpContent Inner { get; }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, default);

    protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        var body = Body();
        try
        {
            await Inner.CopyToAsync(new PassingStream(stream, body), context, cancellationToken).ConfigureAwait(false);
        }
        finally
        {
            _call.Param = body.ToString() ?? _call.Param;
        }
    }

    protected override void SerializeToStream(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        var body = Body();
        try
        {
            Inner.CopyTo(new PassingStream(stream, body), context, cancellationToken);
        }
        finally
        {
            _call.Param = body.ToString() ?? _call.Param;
        }
    }

    protected override bool TryComputeLength(out long length)
    {
        var known = Inner.Headers.ContentLength;
        length = known ?? 0;
        return known is not null;
    }

    HttpBody Body() => new(_maxBytes, Headers.ContentType?.CharSet);
}

/// <summary>A response's content that ends its call when it has been read, was given up or failed.</summary>
sealed class ReceivedContent : HttpContent
{
    readonly HttpContent _inner;
    readonly TraceOperation _call;
    readonly HttpResponseMessage _response;
    readonly HttpBody _body;
    Stream? _stream;

    public ReceivedContent(HttpContent inner, TraceOperation call, HttpResponseMessage response)
    {
        _inner = inner;
        _call = call;
        _response = response;
        HttpContents.Copy(inner.Headers, Headers);
        var kept = call.Logger.Options.Instrumentation.MaxResponseBodyBytes;
        _body = kept > 0 && HttpBody.IsText(Headers) ? new HttpBody(kept, Headers.ContentType?.CharSet) : new HttpBody(0, null);
    }

    protected override Task<Stream> CreateContentReadStreamAsync() => CreateContentReadStreamAsync(default);

    protected override Task<Stream> CreateContentReadStreamAsync(CancellationToken cancellationToken)
    {
        Task<Stream> opening;
        try
        {
            opening = _inner.ReadAsStreamAsync(cancellationToken);
        }
        catch (Exception exception)
        {
            // A failed task, as an async method makes of it.
            opening = Task.FromException<Stream>(exception);
        }

        return opening.IsCompletedSuccessfully ? Task.FromResult(_stream = new ReceivedStream(opening.Result, this)) : OpenedAsync(opening);
    }

    async Task<Stream> OpenedAsync(Task<Stream> opening)
    {
        try
        {
            return _stream = new ReceivedStream(await opening.ConfigureAwait(false), this);
        }
        catch (Exception exception)
        {
            // Whatever it is: it is recorded here and handled by whoever reads.
            End(exception, null);
            throw;
        }
    }

    protected override Stream CreateContentReadStream(CancellationToken cancellationToken)
    {
        try
        {
            return _stream = new ReceivedStream(_inner.ReadAsStream(cancellationToken), this);
        }
        catch (Exception exception)
        {
            // As above.
            End(exception, null);
            throw;
        }
    }

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context) => SerializeToStreamAsync(stream, context, default);

    protected override Task SerializeToStreamAsync(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        var passing = new PassingStream(stream, _body);
        Task copying;
        try
        {
            copying = _inner.CopyToAsync(passing, context, cancellationToken);
        }
        catch (Exception exception)
        {
            // As above.
            copying = Task.FromException(exception);
        }

        return CopiedAsync(copying, passing);
    }

    protected override void SerializeToStream(Stream stream, TransportContext? context, CancellationToken cancellationToken)
    {
        var passing = new PassingStream(stream, _body);
        try
        {
            _inner.CopyTo(passing, context, cancellationToken);
        }
        catch (Exception exception)
        {
            // As above.
            End(passing.IsTargetBroken ? null : exception, null);
            throw;
        }

        End(null, _body.Length);
    }

    protected override bool TryComputeLength(out long length)
    {
        length = _call.ResponseLength ?? 0;
        return _call.ResponseLength is not null;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _stream?.Dispose();
            _inner.Dispose();
            End(null, null);
        }

        base.Dispose(disposing);
    }

    internal HttpBody Body => _body;

    /// <summary>Ends the call with a copy of its whole body: what .NET reads from copies itself better than anybody can who reads it.</summary>
    internal Task CopiedAsync(Task copying, PassingStream target)
    {
        // A short answer mostly came with its headers.
        if (!copying.IsCompletedSuccessfully) return LaterAsync(copying, target);
        End(null, _body.Length);
        return copying;
    }

    async Task LaterAsync(Task copying, PassingStream target)
    {
        try
        {
            await copying.ConfigureAwait(false);
        }
        catch (Exception exception)
        {
            // Whatever it is: it is recorded here and handled by whoever reads. That there is no room for the answer is not the call's failure.
            End(target.IsTargetBroken ? null : exception, null);
            throw;
        }

        End(null, _body.Length);
    }

    /// <summary>Ends the call; only the first time counts.</summary>
    /// <param name="exception">Why the body could not be read.</param>
    /// <param name="length">Its bytes, where it was read to its end.</param>
    internal void End(Exception? exception, long? length)
    {
        if (!_call.Resume()) return;
        if (exception is not null) _call.Fail(exception);
        _call.ResponseLength ??= length;
        _call.Response = _body.ToString() ?? _call.Response;
        HttpCall.SetGrpcStatus(_call, _response);
        _call.Dispose();
    }
}

static class HttpContents
{
    public static void Copy(HttpContentHeaders from, HttpContentHeaders to)
    {
        foreach (var (name, values) in from.NonValidated)
        {
            if (values.Count == 1) to.TryAddWithoutValidation(name, values.ToString());
            else to.TryAddWithoutValidation(name, values);
        }
    }
}

/// <summary>Hands on what is written and keeps its beginning.</summary>
sealed class PassingStream(Stream target, HttpBody body) : Stream
{
    public override bool CanRead => false;
    public override bool CanSeek => false;
    public override bool CanWrite => true;

    /// <summary>Bytes handed on.</summary>
    public override long Length => body.Length;

    /// <summary>Whether the target refused what was written.</summary>
    public bool IsTargetBroken { get; private set; }

    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override void Flush() => target.Flush();
    public override Task FlushAsync(CancellationToken cancellationToken) => target.FlushAsync(cancellationToken);
    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
    public override void SetLength(long value) => throw new NotSupportedException();
    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        body.Add(buffer);
        try
        {
            target.Write(buffer);
        }
        catch
        {
            // Only to know whose fault it was.
            IsTargetBroken = true;
            throw;
        }
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        body.Add(buffer.Span);
        // True until it has worked: a target that is memory, as most are, is done at once.
        IsTargetBroken = true;
        var written = target.WriteAsync(buffer, cancellationToken);
        if (!written.IsCompletedSuccessfully) return Written(written);
        IsTargetBroken = false;
        return written;
    }

    async ValueTask Written(ValueTask written)
    {
        await written.ConfigureAwait(false);
        IsTargetBroken = false;
    }
}

/// <summary>Counts what is read of a response.</summary>
sealed class ReceivedStream(Stream source, ReceivedContent content) : Stream
{
    public override bool CanRead => source.CanRead;
    public override bool CanSeek => false;
    public override bool CanWrite => false;
    public override bool CanTimeout => source.CanTimeout;
    public override int ReadTimeout { get => source.ReadTimeout; set => source.ReadTimeout = value; }
    public override long Length => throw new NotSupportedException();
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer)
    {
        try
        {
            var count = source.Read(buffer);
            Count(buffer[..count], buffer.Length);
            return count;
        }
        catch (Exception exception)
        {
            // Whatever it is: it is recorded here and handled by whoever reads.
            content.End(exception, null);
            throw;
        }
    }

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            var count = await source.ReadAsync(buffer, cancellationToken).ConfigureAwait(false);
            Count(buffer.Span[..count], buffer.Length);
            return count;
        }
        catch (Exception exception)
        {
            // As above.
            content.End(exception, null);
            throw;
        }
    }

    public override Task CopyToAsync(Stream destination, int bufferSize, CancellationToken cancellationToken)
    {
        ValidateCopyToArguments(destination, bufferSize);
        var passing = new PassingStream(destination, content.Body);
        return content.CopiedAsync(source.CopyToAsync(passing, bufferSize, cancellationToken), passing);
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
    public override void SetLength(long value) => throw new NotSupportedException();
    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            source.Dispose();
            content.End(null, null);
        }

        base.Dispose(disposing);
    }

    void Count(ReadOnlySpan<byte> bytes, int asked)
    {
        content.Body.Add(bytes);
        // Asking for nothing is how one waits for data; then 0 is not the end.
        if (bytes.IsEmpty && asked > 0) content.End(null, content.Body.Length);
    }
}
