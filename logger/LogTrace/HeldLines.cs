using System.Buffers;

namespace LogTrace;

/// <summary>
/// Lines of one request that are written only if something comes of it: bounded, the oldest go first, since what happened just before says most about a failure.
/// Thread-safe; branches of a request share it.
/// </summary>
sealed class HeldLines(TraceLogger logger, NotWritten reason)
{
    const int FirstBytes = 4096;

    readonly Lock _gate = new();
    byte[]? _buffer;
    int _bytes;
    int _lines;
    int _cut;
    volatile State _state;

    enum State
    {
        Holding,
        Kept,
        Gone,
    }

    /// <summary>Lines that the bound cut of a request that is written after all.</summary>
    public int Cut
    {
        get
        {
            lock (_gate) return _state == State.Kept ? _cut : 0;
        }
    }

    /// <summary>Holds a line, or writes it when the request is written.</summary>
    /// <param name="line">With its line end.</param>
    /// <param name="isError">Whether it brings out all that is held, and itself.</param>
    public void Add(ReadOnlySpan<byte> line, bool isError)
    {
        if (_state == State.Holding)
        {
            lock (_gate)
            {
                if (isError) KeepLocked();
                if (_state == State.Holding)
                {
                    HoldLocked(line);
                    return;
                }
            }
        }

        // Of a request that is over, only errors are of interest any more.
        if (_state == State.Kept || isError) logger.Append(line, 1);
        else logger.Sampler.Count(reason, 1);
    }

    /// <summary>Without a file nothing can be held: true when a record goes to the sink.</summary>
    public bool Admits(bool isError)
    {
        lock (_gate)
        {
            if (isError) _state = State.Kept;
            if (_state == State.Kept) return true;
            logger.Sampler.Count(reason, 1);
            return false;
        }
    }

    /// <summary>Writes what is held; later lines go straight on.</summary>
    public void Keep()
    {
        lock (_gate) KeepLocked();
    }

    /// <summary>The request is over: throws away what is still held, counted.</summary>
    public void End()
    {
        lock (_gate)
        {
            if (_state != State.Holding) return;
            _state = State.Gone;
            // Debug lines of a request that went well were never meant to be written.
            if (reason != NotWritten.HeldDebug) logger.Sampler.Count(reason, _lines + _cut);
            Release();
        }
    }

    void KeepLocked()
    {
        if (_state != State.Holding) return;
        _state = State.Kept;
        logger.Sampler.Count(reason == NotWritten.HeldDebug ? NotWritten.HeldDebug : NotWritten.Held, _cut);
        var held = _buffer.AsSpan(0, _bytes);
        while (!held.IsEmpty)
        {
            var end = held.IndexOf((byte)'\n') + 1;
            logger.Append(held[..end], 1);
            held = held[end..];
        }

        Release();
    }

    void HoldLocked(ReadOnlySpan<byte> line)
    {
        var limit = logger.Options.MaxHeldBytes;
        if (line.Length > limit)
        {
            _cut++;
            return;
        }

        if (_bytes + line.Length > limit) CutOldest(Math.Max(_bytes + line.Length - limit, limit / 4));
        if (_buffer is null || _buffer.Length - _bytes < line.Length)
        {
            var size = Math.Max(FirstBytes, Math.Max(_bytes + line.Length, Math.Min((_buffer?.Length ?? 0) * 2, limit)));
            // All requests together have a limit, too: then this one goes on with the room it has.
            if (!logger.TryHold(size - (_buffer?.Length ?? 0)))
            {
                if (_buffer is null || line.Length > _buffer.Length)
                {
                    _cut++;
                    return;
                }

                CutOldest(_bytes + line.Length - _buffer.Length);
            }
            else
            {
                Grow(size);
            }
        }

        line.CopyTo(_buffer.AsSpan(_bytes));
        _bytes += line.Length;
        _lines++;
    }

    void Grow(int size)
    {
        var grown = ArrayPool<byte>.Shared.Rent(size);
        // The pool gives more than was asked for: all of it is memory that is held.
        logger.Hold(grown.Length - size);
        if (_buffer is not null)
        {
            _buffer.AsSpan(0, _bytes).CopyTo(grown);
            ArrayPool<byte>.Shared.Return(_buffer);
        }

        _buffer = grown;
    }

    void CutOldest(int bytes)
    {
        var held = _buffer.AsSpan(0, _bytes);
        var end = bytes >= _bytes ? _bytes : bytes - 1 + held[(bytes - 1)..].IndexOf((byte)'\n') + 1;
        var lines = held[..end].Count((byte)'\n');
        held[end..].CopyTo(held);
        _bytes -= end;
        _lines -= lines;
        _cut += lines;
    }

    void Release()
    {
        if (_buffer is null) return;
        logger.Hold(-_buffer.Length);
        ArrayPool<byte>.Shared.Return(_buffer);
        _buffer = null;
        _bytes = _lines = 0;
    }
}
