using System.Text;
using LogTrace.Records;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Records;

/// <summary>SCHEMA.md is read, not trusted: its tables and example lines have to agree with the code.</summary>
public sealed class SchemaTests
{
    static readonly string Schema = File.ReadAllText(Path.Combine(Repository.Root, "logger", "LogTrace.Records", "SCHEMA.md"));

    static IEnumerable<string[]> Rows(string heading) =>
        Schema.Split('\n')
            .SkipWhile(line => line != heading)
            .Skip(1)
            .TakeWhile(line => !line.StartsWith('#'))
            .Where(line => line.StartsWith('|'))
            .Skip(2)
            .Select(line => line.Trim('|').Split('|').Select(cell => cell.Trim()).ToArray());

    static string TypeText(FieldType type) => type == FieldType.ObjectOrString ? "object or string" : type.ToString().ToLowerInvariant();

    static string NeedText(FieldNeed need) => need switch
    {
        FieldNeed.IfKnown => "if known",
        FieldNeed.OnErrors => "on errors",
        _ => need.ToString().ToLowerInvariant(),
    };

    [Fact]
    public void Table_of_fields_is_the_list_of_fields_in_the_code()
    {
        var written = Rows("## Fields").Select(cells => string.Join(" | ", cells.Take(4)));
        var known = RecordFields.All.Select(field => $"{field.WireName} | {TypeText(field.Type)} | {NeedText(field.Need)} | {field.Meaning}");
        written.Should().Equal(known);
    }

    [Fact]
    public void List_of_fields_is_indexed_by_its_enumeration()
    {
        RecordFields.All.Should().HaveCount(Enum.GetValues<RecordField>().Length);
        foreach (var field in Enum.GetValues<RecordField>()) RecordFields.All[(int)field].Field.Should().Be(field);
        RecordFields.All.Select(field => field.WireName).Should().OnlyHaveUniqueItems();
    }

    [Fact]
    public void Example_of_each_field_is_read_as_that_field_and_type()
    {
        foreach (var cells in Rows("## Fields"))
        {
            var field = RecordFields.All.Single(known => known.WireName == cells[0]);
            var example = cells[5].Trim('`');
            var isText = field.Type == FieldType.String;
            var value = isText ? System.Text.Json.JsonSerializer.Serialize(example) : example;
            var record = Read($$"""{"timestamp":1,"{{cells[0]}}":{{value}}}""");
            record.UnreadableFields.Should().BeNull(cells[0]);
            if (isText && field.Field != RecordField.RpcId) record.Text(field.Field).Should().Be(example);
            if (field.Field == RecordField.Extra) record.ExtraJson.Should().Be(example);
        }
    }

    [Fact]
    public void Names_of_the_table_have_the_kind_that_their_row_says()
    {
        var kinds = Rows("## Names").SelectMany(cells => cells[0].Split('`').Where((_, part) => part % 2 == 1).Select(name => (name, says: cells[1]))).ToList();
        kinds.Should().HaveCountGreaterThan(20);
        foreach (var (name, says) in kinds)
        {
            if (!name.Contains('.')) continue;
            var expected = says switch
            {
                _ when says.StartsWith("this service's own") => RecordKind.Server,
                _ when says.StartsWith("one parallel branch") => RecordKind.Internal,
                _ when says.StartsWith("a log line") => RecordKind.Event,
                _ when says.StartsWith("a measurement") => RecordKind.Metric,
                _ => RecordKind.Client,
            };
            RecordNames.KindOf(name).Should().Be(expected, name);
        }
    }

    [Fact]
    public void Example_lines_are_records_without_a_fault()
    {
        var lines = Schema.Split("```json\n")[1].Split("\n```")[0].Split('\n');
        lines.Should().HaveCount(6);
        foreach (var line in lines) Read(line).UnreadableFields.Should().BeNull(line);
        lines.Take(4).Select(line => Read(line).MissingFields()).Should().OnlyContain(missing => missing.Count == 0);
        Read(lines[4]).Name.Should().Be("metric.counter");
        Read(lines[5]).Msg.Should().Be("Order 7 is late");
    }

    static TraceRecord Read(string line)
    {
        RecordCodec.TryRead(Encoding.UTF8.GetBytes(line), out var record, out var reason).Should().BeTrue(reason);
        return record;
    }
}
