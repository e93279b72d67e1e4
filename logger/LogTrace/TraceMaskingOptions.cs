using System.Globalization;
using System.Text.RegularExpressions;
using LogTrace.Records;

namespace LogTrace;

/// <summary>
/// What is kept out of records, typed ones and log lines alike. Passwords, tokens, <c>Authorization</c> and cookies are, by name, unless switched off: as query parameters, JSON members,
/// headers, <c>name=value</c> and <c>name: value</c> in any text, as properties of log events and members of <c>extra</c>, also nested ones. The value becomes <c>***</c>.
/// </summary>
public sealed record TraceMaskingOptions
{
    /// <summary>Whether anything is masked. Default true.</summary>
    public bool Enabled { get; init; } = true;

    /// <summary>
    /// Further names whose values are masked, at most 100. Letter case and <c>_ -</c> make no difference: <c>card_holder</c> is also <c>cardHolder</c>. With <c>*</c> before it, it
    /// stands for all names that end so. Always masked are names that end in <c>password passwd pwd passphrase secret secrets token authorization cookie cookies api_key
    /// access_key private_key session_id debug_key credential credentials</c>.
    /// </summary>
    public IReadOnlyList<string> Names { get; init; } = [];

    /// <summary>Names that are not masked though they end like one that is, such as <c>page_token</c>; at most 100.</summary>
    public IReadOnlyList<string> ExceptNames { get; init; } = [];

    /// <summary>Fields of the record whose whole value is masked: <c>action param msg backtrace uid source client_ip user_agent response</c>. Default: none.</summary>
    public IReadOnlyList<string> Fields { get; init; } = [];

    /// <summary>Whether addresses of clients and those found in texts keep only their network: <c>203.0.113.7</c> becomes <c>203.0.113.0</c> (/24), in IPv6 /64. Default false.</summary>
    public bool IpAddresses { get; init; }

    /// <summary>
    /// When set, <c>uid</c> and values named <c>uid</c>, <c>user_id</c> or as <see cref="UserIdNames"/> says become <c>u-</c> and 16 hex digits of an HMAC-SHA256 with this key: one user stays one, but who it is
    /// only the key tells. At least 16 characters; services with the same key give the same values. Default: not set.
    /// </summary>
    public string UserIdKey { get; init; } = "";

    /// <summary>Further names of user ids, for <see cref="UserIdKey"/>; at most 100.</summary>
    public IReadOnlyList<string> UserIdNames { get; init; } = [];

    /// <summary>Whether numbers of payment cards found in texts keep only their last four digits: 13 to 19 digits that begin with 2 to 6 and pass the Luhn check. Default false.</summary>
    public bool CardNumbers { get; init; }

    /// <summary>Whether telephone numbers found in texts keep only their last two digits: <c>+</c> or <c>00</c> and 8 to 15 digits, 11 digits as in China, 10 in groups as in North America. Default false.</summary>
    public bool PhoneNumbers { get; init; }

    /// <summary>Regular expressions for what else is masked in texts, at most 20. They run without backtracking, in time linear in the text; look-arounds and back-references do not work.</summary>
    public IReadOnlyList<string> Patterns { get; init; } = [];

    /// <summary>Names no members: one of them is a secret.</summary>
    public override string ToString() => $"{nameof(TraceMaskingOptions)} {{ Enabled = {Enabled} }}";

    /// <summary>All problems at once, one sentence each with key, value, range and what to do; empty when there is none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        NameList(nameof(Names), Names, mayEnd: true);
        NameList(nameof(ExceptNames), ExceptNames, mayEnd: false);
        NameList(nameof(UserIdNames), UserIdNames, mayEnd: false);
        for (var i = 0; i < Fields.Count; i++)
        {
            if (!TraceMask.MaskableFields.Any(field => RecordFields.WireName(field) == Fields[i]))
            {
                problems.Add($"LogTrace:Masking:Fields:{i} is '{Fields[i]}'; it must be one of {string.Join(", ", TraceMask.MaskableFields.Select(RecordFields.WireName))}.");
            }
        }

        // The value stays out of the message: it is a secret.
        if (UserIdKey.Length is > 0 and < 16) problems.Add($"LogTrace:Masking:UserIdKey has {UserIdKey.Length} characters; it must have at least 16. Leave it out to write user ids as they are.");
        if (Patterns.Count > 20) problems.Add($"LogTrace:Masking:Patterns has {Patterns.Count} patterns; it must have at most 20.");
        for (var i = 0; i < Patterns.Count; i++)
        {
            try
            {
                if (Pattern(Patterns[i]).IsMatch("")) problems.Add($"LogTrace:Masking:Patterns:{i} is '{Patterns[i]}'; it must not match the empty text.");
            }
            catch (Exception exception) when (exception is ArgumentException or NotSupportedException)
            {
                problems.Add($"LogTrace:Masking:Patterns:{i} is '{Patterns[i]}'; it must be a regular expression without look-arounds and back-references. {exception.Message}");
            }
        }

        return problems;

        void NameList(string key, IReadOnlyList<string> names, bool mayEnd)
        {
            if (names.Count > 100) problems.Add(string.Create(CultureInfo.InvariantCulture, $"LogTrace:Masking:{key} has {names.Count} names; it must have at most 100."));
            for (var i = 0; i < names.Count; i++)
            {
                var name = mayEnd && names[i].StartsWith('*') ? names[i][1..] : names[i];
                if (name.Length is < 2 or > 100 || !name.Any(char.IsAsciiLetterOrDigit) || name.Any(letter => !TraceMask.IsNameCharacter(letter)))
                {
                    problems.Add($"LogTrace:Masking:{key}:{i} is '{names[i]}'; it must be 2 to 100 letters, digits, '_' and '-'{(mayEnd ? ", with '*' before it for all names that end so" : "")}.");
                }
            }
        }
    }

    internal static Regex Pattern(string text) => new(text, RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
}
