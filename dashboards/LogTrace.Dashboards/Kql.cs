using System.Text;
using System.Text.Json.Nodes;

namespace LogTrace.Dashboards;

/// <summary>
/// The part of Kibana's query language that the sources use: <c>field: value</c>, <c>field: (a or b)</c>, <c>field: *</c>, <c>field: prefix*</c>, <c>field &lt; value</c>,
/// <c>and</c>, <c>or</c>, <c>not</c>, parentheses, quotes. Tells which fields a query asks for, and what the products make of it for the server.
/// </summary>
public sealed class Kql
{
    readonly List<(string Text, bool IsQuoted)> _tokens = [];
    int _next;

    Kql(string query)
    {
        for (var i = 0; i < query.Length;)
        {
            if (char.IsWhiteSpace(query[i]))
            {
                i++;
            }
            else if (query[i] == '"')
            {
                var text = new StringBuilder();
                for (i++; i < query.Length && query[i] != '"'; i++)
                {
                    if (query[i] == '\\' && i + 1 < query.Length) i++;
                    text.Append(query[i]);
                }

                if (i++ == query.Length) throw new FormatException($"the query \"{query}\" has a quote that is not closed");
                _tokens.Add((text.ToString(), true));
            }
            else if (query[i] is '(' or ')' or ':')
            {
                _tokens.Add((query[i++].ToString(), false));
            }
            else if (query[i] is '<' or '>')
            {
                var length = i + 1 < query.Length && query[i + 1] == '=' ? 2 : 1;
                _tokens.Add((query.Substring(i, length), false));
                i += length;
            }
            else
            {
                var start = i;
                while (i < query.Length && !char.IsWhiteSpace(query[i]) && query[i] is not ('(' or ')' or ':' or '<' or '>' or '"')) i++;
                _tokens.Add((query[start..i], false));
            }
        }
    }

    /// <summary>Fields that the query asks for.</summary>
    public IReadOnlyCollection<string> Fields { get; private set; } = [];

    /// <summary>The query as the server takes it.</summary>
    public JsonObject Body { get; private set; } = [];

    /// <exception cref="FormatException">It is not a query, or more than this reads; the message says where.</exception>
    public static Kql Parse(string query)
    {
        var kql = new Kql(query);
        var fields = new SortedSet<string>(StringComparer.Ordinal);
        kql.Body = kql._tokens.Count == 0 ? new JsonObject { ["match_all"] = new JsonObject() } : kql.Or(fields);
        if (kql._next < kql._tokens.Count) throw new FormatException($"the query \"{query}\" goes on with '{kql._tokens[kql._next].Text}' where it should end");
        kql.Fields = fields;
        return kql;
    }

    JsonObject Or(ISet<string> fields)
    {
        var parts = new List<JsonObject> { And(fields) };
        while (Takes("or")) parts.Add(And(fields));
        return parts.Count == 1 ? parts[0] : Any(parts);
    }

    JsonObject And(ISet<string> fields)
    {
        var parts = new List<JsonObject> { Not(fields) };
        while (Takes("and")) parts.Add(Not(fields));
        return parts.Count == 1 ? parts[0] : new JsonObject { ["bool"] = new JsonObject { ["filter"] = new JsonArray([.. parts]) } };
    }

    JsonObject Not(ISet<string> fields)
    {
        if (Takes("not")) return new JsonObject { ["bool"] = new JsonObject { ["must_not"] = new JsonArray(Not(fields)) } };
        if (!Takes("(")) return Comparison(fields);
        var inner = Or(fields);
        Expect(")");
        return inner;
    }

    JsonObject Comparison(ISet<string> fields)
    {
        var field = Word();
        fields.Add(field);
        foreach (var (sign, name) in new[] { ("<=", "lte"), (">=", "gte"), ("<", "lt"), (">", "gt") })
            if (Takes(sign)) return new JsonObject { ["range"] = new JsonObject { [field] = new JsonObject { [name] = Word() } } };
        Expect(":");
        if (!Takes("(")) return Is(field);
        var values = new List<JsonObject> { Is(field) };
        while (Takes("or")) values.Add(Is(field));
        Expect(")");
        return Any(values);
    }

    JsonObject Is(string field)
    {
        var isQuoted = _next < _tokens.Count && _tokens[_next].IsQuoted;
        var value = Word();
        if (isQuoted) return new JsonObject { ["match_phrase"] = new JsonObject { [field] = value } };
        if (value == "*") return new JsonObject { ["exists"] = new JsonObject { ["field"] = field } };
        if (value.Contains('*', StringComparison.Ordinal)) return new JsonObject { ["query_string"] = new JsonObject { ["fields"] = new JsonArray(field), ["query"] = value } };
        return new JsonObject { ["match"] = new JsonObject { [field] = value } };
    }

    static JsonObject Any(List<JsonObject> parts) => new() { ["bool"] = new JsonObject { ["should"] = new JsonArray([.. parts]), ["minimum_should_match"] = 1 } };

    bool Takes(string word)
    {
        if (_next == _tokens.Count || _tokens[_next].IsQuoted || !_tokens[_next].Text.Equals(word, StringComparison.OrdinalIgnoreCase)) return false;
        _next++;
        return true;
    }

    void Expect(string word)
    {
        if (!Takes(word)) throw new FormatException($"the query lacks a '{word}' {(_next < _tokens.Count ? $"before '{_tokens[_next].Text}'" : "at its end")}");
    }

    string Word()
    {
        if (_next == _tokens.Count) throw new FormatException("the query ends where a field or value should be");
        var (text, isQuoted) = _tokens[_next];
        if (!isQuoted && text is "(" or ")" or ":") throw new FormatException($"the query has '{text}' where a field or value should be");
        _next++;
        return text;
    }
}
