using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;

namespace LogTrace.Records;

/// <summary>Why a text is not an RPCID. <see cref="None"/> means that it is one.</summary>
public enum RpcIdProblem
{
    /// <summary>The text is a valid RPCID.</summary>
    None,

    /// <summary>No characters at all.</summary>
    Empty,

    /// <summary>More than <see cref="RpcId.MaxBytes"/> bytes.</summary>
    TooLong,

    /// <summary>More than <see cref="RpcId.MaxSegments"/> segments.</summary>
    TooDeep,

    /// <summary>A segment of more than <see cref="RpcId.MaxSegmentDigits"/> digits.</summary>
    SegmentTooLong,

    /// <summary>Two dots in a row, or a dot at either end.</summary>
    EmptySegment,

    /// <summary>A segment such as <c>01</c>: two texts would name one call.</summary>
    LeadingZero,

    /// <summary>A character that is neither a digit nor a dot.</summary>
    BadCharacter,
}

/// <summary>
/// The place of one call in a request's tree: numbers joined by dots, such as <c>1.3.2</c>. The text alone tells depth,
/// parent and order, which is why a chain survives lost records. Immutable and safe for concurrent use.
/// </summary>
/// <remarks>
/// The order is numeric per segment with a parent before its children (<c>1.9</c> &lt; <c>1.10</c> &lt; <c>1.10.1</c>).
/// Ids are never shortened: what exceeds a limit is refused by <see cref="TryParse(string?, out RpcId)"/>.
/// </remarks>
public readonly struct RpcId : IEquatable<RpcId>, IComparable<RpcId>
{
    /// <summary>Longest id that is read or handed on, in bytes: 1,024.</summary>
    public const int MaxBytes = 1024;

    /// <summary>Most segments an id may have: 256.</summary>
    public const int MaxSegments = 256;

    /// <summary>Most digits a segment may have: 19, which any value of a signed 64-bit counter fits.</summary>
    public const int MaxSegmentDigits = 19;

    /// <summary>Characters of the longest <see cref="ToSortText()"/> of an id within the limits: one more than the id has, since every dot becomes a letter and one stands before it all.</summary>
    public const int MaxSortLength = MaxBytes + 1;

    readonly string? _text;

    RpcId(string text) => _text = text;

    /// <summary>The id as text; empty for the default value, which is no id.</summary>
    public string Text => _text ?? "";

    /// <summary>True for the default value: no id at all.</summary>
    public bool IsEmpty => _text is null;

    /// <summary>Number of dots: 0 for an entry service's prefix such as <c>1</c>.</summary>
    public int Depth => Text.AsSpan().Count('.');

    /// <summary>The last segment, e.g. 2 for <c>1.3.2</c>; more than 18 digits may not fit and then give <see cref="long.MaxValue"/>.</summary>
    public long LastNumber =>
        long.TryParse(Text.AsSpan(Text.LastIndexOf('.') + 1), NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : long.MaxValue;

    /// <summary>Gives the id one level up: <c>1.3</c> for <c>1.3.2</c>.</summary>
    /// <returns>False for an id of one segment, which has no parent.</returns>
    public bool TryGetParent(out RpcId parent)
    {
        var dot = Text.LastIndexOf('.');
        parent = dot < 0 ? default : new RpcId(Text[..dot]);
        return dot >= 0;
    }

    /// <summary>The id of call <paramref name="number"/> made from the scope that has this id as prefix. Not checked against the limits.</summary>
    /// <param name="number">0 or greater.</param>
    public RpcId Child(long number)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(number);
        return new RpcId(string.Create(CultureInfo.InvariantCulture, $"{Text}.{number}"));
    }

    /// <summary>True when this id lies strictly above <paramref name="other"/>: <c>1.1</c> is above <c>1.1.2</c>, not above <c>1.10</c>.</summary>
    public bool IsAncestorOf(RpcId other) =>
        other.Text.Length > Text.Length && Text.Length > 0 && other.Text[Text.Length] == '.' && other.Text.StartsWith(Text, StringComparison.Ordinal);

    /// <summary>
    /// A text that sorts bytewise as the ids sort numerically, for stores that can only compare text. Each segment is its number
    /// of digits as a letter (<c>a</c> = 1 digit to <c>s</c> = 19), then the digits: <c>1.12.3</c> becomes <c>a1b12a3</c>. As every
    /// segment tells its own length, the subtree of an id is exactly the texts that start with the id's sort text.
    /// </summary>
    public string ToSortText() => string.Create(Text.Length + 1, this, (text, id) => id.ToSortText(text));

    /// <summary>Writes the text of <see cref="ToSortText()"/>.</summary>
    /// <param name="output">Room for it: <see cref="MaxSortLength"/> characters are enough for every id that was read.</param>
    /// <returns>Number of characters written.</returns>
    /// <exception cref="ArgumentException">There is not enough room.</exception>
    public int ToSortText(Span<char> output)
    {
        var rest = Text.AsSpan();
        var length = 0;
        while (true)
        {
            var dot = rest.IndexOf('.');
            var segment = dot < 0 ? rest : rest[..dot];
            if (length + 1 + segment.Length > output.Length) throw new ArgumentException($"{output.Length} characters are too few for the sort text of '{this}'.", nameof(output));
            output[length++] = (char)('a' + segment.Length - 1);
            segment.CopyTo(output[length..]);
            length += segment.Length;
            if (dot < 0) return length;
            rest = rest[(dot + 1)..];
        }
    }

    /// <summary>Compares numerically per segment, parent before child. A total order.</summary>
    public int CompareTo(RpcId other) => Compare(Text, other.Text);

    /// <summary>The order of <see cref="CompareTo(RpcId)"/> on texts that are known to be valid ids.</summary>
    public static int Compare(ReadOnlySpan<char> left, ReadOnlySpan<char> right)
    {
        var start = left.CommonPrefixLength(right);
        if (start == left.Length || start == right.Length) return EndOrder(left, right, start);

        // Both differ at `start`: the longer of the two segments that hold it is the greater number, else the digit decides.
        // Without leading zeros a number with more digits is greater.
        if (left[start] == '.') return -1;
        if (right[start] == '.') return 1;
        var leftDigits = DigitsFrom(left, start);
        var rightDigits = DigitsFrom(right, start);
        return leftDigits != rightDigits ? leftDigits.CompareTo(rightDigits) : left[start].CompareTo(right[start]);
    }

    // One text is a prefix of the other: 1.1 < 1.1.2 (descendant) and 1.1 < 1.10 (longer number): the shorter is first in both cases.
    static int EndOrder(ReadOnlySpan<char> left, ReadOnlySpan<char> right, int start) =>
        left.Length == right.Length ? 0 : start == left.Length ? -1 : 1;

    static int DigitsFrom(ReadOnlySpan<char> text, int start)
    {
        var dot = text[start..].IndexOf('.');
        return dot < 0 ? text.Length - start : dot;
    }

    /// <summary>Reads an id.</summary>
    /// <exception cref="FormatException">The text is no valid id; the message says why.</exception>
    public static RpcId Parse(string text) =>
        Check(text) is var problem and not RpcIdProblem.None
            ? throw new FormatException($"'{Excerpt(text)}' is no RPCID: {Describe(problem)}.")
            : new RpcId(text);

    /// <summary>Reads an id. False means that <paramref name="text"/> is no valid id; never throws.</summary>
    public static bool TryParse([NotNullWhen(true)] string? text, out RpcId id)
    {
        var valid = text is not null && Check(text) == RpcIdProblem.None;
        id = valid ? new RpcId(text!) : default;
        return valid;
    }

    /// <summary>Reads an id from UTF-8 bytes and says why where it is none; never throws.</summary>
    public static bool TryParse(ReadOnlySpan<byte> utf8, out RpcId id, out RpcIdProblem problem)
    {
        problem = Check(utf8);
        id = problem == RpcIdProblem.None ? new RpcId(Encoding.ASCII.GetString(utf8)) : default;
        return problem == RpcIdProblem.None;
    }

    /// <summary>What is wrong with a text as an RPCID; <see cref="RpcIdProblem.None"/> when nothing is.</summary>
    public static RpcIdProblem Check(ReadOnlySpan<char> text) => CheckCore(text);

    /// <inheritdoc cref="Check(ReadOnlySpan{char})"/>
    public static RpcIdProblem Check(ReadOnlySpan<byte> utf8) => CheckCore(utf8);

    static RpcIdProblem CheckCore<T>(ReadOnlySpan<T> text)
        where T : unmanaged, System.Numerics.IBinaryInteger<T>
    {
        if (text.IsEmpty) return RpcIdProblem.Empty;
        if (text.Length > MaxBytes) return RpcIdProblem.TooLong;
        int segments = 1, digits = 0;
        var startsWithZero = false;
        foreach (var character in text)
        {
            if (character == T.CreateTruncating('.'))
            {
                if (digits == 0) return RpcIdProblem.EmptySegment;
                if (++segments > MaxSegments) return RpcIdProblem.TooDeep;
                digits = 0;
                continue;
            }

            if (character < T.CreateTruncating('0') || character > T.CreateTruncating('9')) return RpcIdProblem.BadCharacter;
            if (digits == 0) startsWithZero = character == T.CreateTruncating('0');
            else if (startsWithZero) return RpcIdProblem.LeadingZero;
            if (++digits > MaxSegmentDigits) return RpcIdProblem.SegmentTooLong;
        }

        return digits == 0 ? RpcIdProblem.EmptySegment : RpcIdProblem.None;
    }

    /// <summary>A sentence part that names the rule which <paramref name="problem"/> breaks, with its limit.</summary>
    public static string Describe(RpcIdProblem problem) => problem switch
    {
        RpcIdProblem.Empty => "it is empty",
        RpcIdProblem.TooLong => $"it is longer than {MaxBytes} bytes",
        RpcIdProblem.TooDeep => $"it has more than {MaxSegments} segments",
        RpcIdProblem.SegmentTooLong => $"a segment has more than {MaxSegmentDigits} digits",
        RpcIdProblem.EmptySegment => "a segment is empty",
        RpcIdProblem.LeadingZero => "a segment has a leading zero",
        RpcIdProblem.BadCharacter => "it holds a character other than digits and dots",
        _ => "it is valid",
    };

    static string Excerpt(string text) => text.Length <= 64 ? text : text[..64] + "...";

    /// <inheritdoc/>
    public bool Equals(RpcId other) => string.Equals(Text, other.Text, StringComparison.Ordinal);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is RpcId other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode() => Text.GetHashCode(StringComparison.Ordinal);

    /// <summary>The id as text.</summary>
    public override string ToString() => Text;

    /// <summary>Same id.</summary>
    public static bool operator ==(RpcId left, RpcId right) => left.Equals(right);

    /// <summary>Different ids.</summary>
    public static bool operator !=(RpcId left, RpcId right) => !left.Equals(right);

    /// <summary>Earlier in the order of the chain.</summary>
    public static bool operator <(RpcId left, RpcId right) => left.CompareTo(right) < 0;

    /// <summary>Later in the order of the chain.</summary>
    public static bool operator >(RpcId left, RpcId right) => left.CompareTo(right) > 0;

    /// <summary>Earlier or the same.</summary>
    public static bool operator <=(RpcId left, RpcId right) => left.CompareTo(right) <= 0;

    /// <summary>Later or the same.</summary>
    public static bool operator >=(RpcId left, RpcId right) => left.CompareTo(right) >= 0;
}
