using System.Text.Json;

namespace LogTrace.Indexer;

/// <summary>
/// Other shippers put a JSON object of their own around a line: Filebeat, Logstash and Vector in <c>message</c>, Fluent Bit in <c>log</c>, and by the
/// Elastic common schema in <c>event.original</c>. This finds the line in it, also through several of them.
/// </summary>
static class Envelope
{
    const int MostLayers = 4;
    const int MaxDepth = 256;

    /// <summary>
    /// The line within; the very same bytes where there is none. What has a trace_id, an rpc_id or a CLEF time of its own is a record (the shipper has taken the envelope
    /// off, or never put one on) unless it still has the original.
    /// </summary>
    /// <param name="message">What lies in Kafka.</param>
    /// <param name="problem">Why there is no record in it, as far as the envelope tells; null if that is for the record's reader to say.</param>
    public static ReadOnlyMemory<byte> LineOf(ReadOnlyMemory<byte> message, out string? problem)
    {
        problem = null;
        for (var layer = 0; layer < MostLayers; layer++)
        {
            var found = Look(message.Span);
            if (found.Line is null)
            {
                if (found.Text is { } member) problem = $"{member}: what is in the envelope of another shipper is no JSON object";
                return message;
            }

            message = found.Line;
        }

        return message;
    }

    /// <param name="Line">The JSON object in one of the members; null if there is none, or what was looked at is a record itself.</param>
    /// <param name="Text">The member that holds text which is none.</param>
    readonly record struct Layer(byte[]? Line, string? Text);

    static Layer Look(ReadOnlySpan<byte> json)
    {
        byte[]? original = null, line = null;
        string? text = null;
        var isRecord = false;
        try
        {
            var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = MaxDepth });
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) return default;
            while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
            {
                if (reader.ValueTextEquals("trace_id"u8) || reader.ValueTextEquals("x_trace_id"u8) || reader.ValueTextEquals("rpc_id"u8) || reader.ValueTextEquals("x_rpc_id"u8) || reader.ValueTextEquals("@t"u8))
                {
                    isRecord = true;
                }
                else if (reader.ValueTextEquals("message"u8) || reader.ValueTextEquals("log"u8))
                {
                    var member = reader.GetString()!;
                    reader.Read();
                    if (reader.TokenType == JsonTokenType.String)
                    {
                        // Of both, the one that is an object; message before log.
                        var within = ObjectIn(ref reader);
                        if (within is null) text ??= member;
                        else if (member == "message" || line is null) line = within;
                    }

                    reader.Skip();
                    continue;
                }
                else if (reader.ValueTextEquals("event.original"u8))
                {
                    reader.Read();
                    if (reader.TokenType == JsonTokenType.String) original = ObjectIn(ref reader);
                    continue;
                }
                else if (reader.ValueTextEquals("event"u8))
                {
                    reader.Read();
                    if (reader.TokenType == JsonTokenType.StartObject) original = OriginalIn(ref reader) ?? original;
                    continue;
                }

                reader.Read();
                reader.Skip();
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return default; // no JSON, or text that is no Unicode: the record's reader says what is wrong, or makes the best of it
        }

        return original is not null ? new Layer(original, null) : isRecord ? default : new Layer(line, line is null ? text : null);
    }

    // The reader stands on the object's start and ends on its end.
    static byte[]? OriginalIn(ref Utf8JsonReader reader)
    {
        byte[]? original = null;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var isOriginal = reader.ValueTextEquals("original"u8);
            reader.Read();
            if (isOriginal && reader.TokenType == JsonTokenType.String) original = ObjectIn(ref reader);
            reader.Skip();
        }

        return original;
    }

    static byte[]? ObjectIn(ref Utf8JsonReader reader)
    {
        var unescaped = new byte[reader.ValueSpan.Length];
        var text = unescaped.AsSpan(0, reader.CopyString(unescaped)).Trim(" \t\r\n"u8);
        return text.Length > 1 && text[0] == (byte)'{' && text[^1] == (byte)'}' ? text.ToArray() : null;
    }
}
