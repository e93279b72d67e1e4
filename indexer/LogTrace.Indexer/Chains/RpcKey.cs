using System.Runtime.CompilerServices;

namespace LogTrace.Indexer.Chains;

/// <summary>
/// Ids packed into 128 bits that compare as the ids do, numerically per segment and a parent before its children. Each segment is a code that
/// tells its own length, small numbers in four bits, so that ids of up to some thirty segments fit; what does not fit is cut off.
/// </summary>
/// <remarks>
/// The codes, in the order of their numbers: <c>0nnn</c> for 0 to 6, <c>10</c> and 5 bits, <c>110</c> and 10 bits, <c>1110</c> and 20 bits,
/// <c>1111</c> and all 64 bits. None is all zeros, as the bits behind the last segment are.
/// </remarks>
static class RpcKey
{
    public const int Bits = 128;

    /// <summary>Bits of a segment that is 1.</summary>
    public const int BitsOfOne = 4;

    const ulong FirstOfFive = 7, FirstOfTen = FirstOfFive + (1 << 5), FirstOfTwenty = FirstOfTen + (1 << 10), FirstOfAll = FirstOfTwenty + (1 << 20);

    /// <summary>Packs an id that is known to be valid. Gives the bits it takes: more than <see cref="Bits"/> when its end was cut off.</summary>
    public static int Pack(ReadOnlySpan<char> id, out ulong high, out ulong low)
    {
        high = low = 0;
        var used = 0;
        for (var at = 0; at < id.Length; at++)
        {
            // At most 19 digits (RpcId.MaxSegmentDigits), so that the number fits.
            ulong number = 0;
            for (; at < id.Length && id[at] != '.'; at++) number = (number * 10) + (ulong)(id[at] - '0');
            var (code, bits) = Code(number);
            if (bits > 64)
            {
                Put(ref high, ref low, used, 0b1111, 4);
                Put(ref high, ref low, used + 4, number, 64);
            }
            else
            {
                Put(ref high, ref low, used, code, bits);
            }

            used += bits;
        }

        return used;
    }

    /// <summary>Bits that a segment takes.</summary>
    public static int BitsOf(ulong number) => Code(number).Bits;

    static (ulong Code, int Bits) Code(ulong number) => number switch
    {
        < FirstOfFive => (number + 1, 4),
        < FirstOfTen => ((0b10ul << 5) | (number - FirstOfFive), 7),
        < FirstOfTwenty => ((0b110ul << 10) | (number - FirstOfTen), 13),
        < FirstOfAll => ((0b1110ul << 20) | (number - FirstOfTwenty), 24),
        _ => (0, 68),
    };

    static void Put(ref ulong high, ref ulong low, int at, ulong code, int bits)
    {
        if (at < 64)
        {
            var right = at + bits - 64;
            if (right <= 0)
            {
                high |= code << -right;
                return;
            }

            high |= code >> right;
            low |= code << (64 - right);
        }
        else if (at < Bits)
        {
            var right = at + bits - Bits;
            low |= right <= 0 ? code << -right : code >> right;
        }
    }

    /// <summary>Reads the segment that begins at a bit; it must not be cut off. Gives its bits.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static int Read(ulong high, ulong low, int at, out ulong number)
    {
        var ahead = From(high, low, at);
        number = (ahead >> 60) - 1;
        return (long)ahead >= 0 ? BitsOfOne : ReadLonger(high, low, at, ahead, out number);
    }

    static int ReadLonger(ulong high, ulong low, int at, ulong ahead, out ulong number)
    {
        if (ahead < 0b110ul << 61)
        {
            number = ((ahead >> 57) & 31) + FirstOfFive;
            return 7;
        }

        if (ahead < 0b1110ul << 60)
        {
            number = ((ahead >> 51) & 1023) + FirstOfTen;
            return 13;
        }

        if (ahead < 0b1111ul << 60)
        {
            number = ((ahead >> 40) & 0xFFFFF) + FirstOfTwenty;
            return 24;
        }

        number = From(high, low, at + 4);
        return 68;
    }

    // Shifted twice, since a shift by 64 would be none.
    static ulong From(ulong high, ulong low, int at) => at < 64 ? (high << at) | ((low >> 1) >> (63 - at)) : low << (at - 64);
}
