using System.Formats.Tar;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using LogTrace.Indexer.Chains;
using Spectre.Console;
using static LogTrace.Tests.Indexer.ChainSample;

namespace LogTrace.Tests.Indexer;

public sealed class ChainRebuildTests : IDisposable
{
    readonly string _folder = Directory.CreateTempSubdirectory("logtrace-rebuild-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    (int Code, string[] Lines, string Messages) Rebuild(string[] files, RebuildCommand.RebuildOptions? options = null)
    {
        using var output = new MemoryStream();
        using var messages = new StringWriter();
        var code = RebuildCommand.Run(files, options ?? new() { Json = true }, output, messages);
        return (code, Encoding.UTF8.GetString(output.ToArray()).Split('\n', StringSplitOptions.RemoveEmptyEntries), messages.ToString());
    }

    string Write(string name, string text)
    {
        var path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return path;
    }

    [Fact]
    public void Lines_become_chains_and_what_is_no_record_is_listed_with_its_line()
    {
        var file = Write("a.log", """
            {"name":"request.info","trace_id":"t1","rpc_id":"1.1","timestamp":1700000000,"service":"gateway"}

            no json
            {"name":"request.info","trace_id":"t2","rpc_id":"1..1","timestamp":1700000000}
            {"name":"log.info","timestamp":1700000000,"msg":"starting"}
            {"name":"request.info","trace_id":"t2","rpc_id":"1.1","timestamp":1700000000}
            """);

        var (code, lines, messages) = Rebuild([file]);

        code.Should().Be(0);
        lines.Select(line => JsonDocument.Parse(line).RootElement.GetProperty("trace_id").GetString()).Should().Equal("t1", "t2");
        JsonDocument.Parse(lines[0]).RootElement.GetProperty("nodes")[0].GetProperty("records")[0].GetString().Should().Be($"{file}:0");
        messages.Should().Contain($"{file}:3 set aside: ").And.Contain($"{file}:4 set aside: ").And.Contain("5 read, 2 set aside, 2 chains, 1 belong to no chain");
    }

    [Fact]
    public void Compressed_files_patterns_and_the_choice_of_a_trace_work()
    {
        using (var file = new GZipStream(File.Create(Path.Combine(_folder, "b.log.gz")), CompressionLevel.Fastest))
            file.Write("{\"name\":\"request.info\",\"trace_id\":\"t1\",\"rpc_id\":\"1.2.1\",\"timestamp\":1700000000,\"service\":\"orders\"}\n"u8);
        Write("a.log", "{\"name\":\"http.get\",\"trace_id\":\"t1\",\"rpc_id\":\"1.2\",\"timestamp\":1700000000,\"service\":\"gateway\"}\n{\"name\":\"http.get\",\"trace_id\":\"t2\",\"rpc_id\":\"1.2\",\"timestamp\":1700000000}");

        var (code, lines, messages) = Rebuild([Path.Combine(_folder, "*.log*")], new() { Json = true, TraceId = "t1" });

        code.Should().Be(0);
        var chain = JsonDocument.Parse(lines.Single()).RootElement;
        chain.GetProperty("nodes").EnumerateArray().Select(node => node.GetProperty("rpc_id").GetString()).Should().Equal("1", "1.2");
        messages.Should().Contain("3 read, 0 set aside, 1 chains");
    }

    [Fact]
    public void Missing_file_is_a_usage_error_and_a_damaged_one_a_failure_after_what_was_read()
    {
        Rebuild([Path.Combine(_folder, "none.log")]).Code.Should().Be(2);

        var whole = new MemoryStream();
        using (var gzip = new GZipStream(whole, CompressionLevel.NoCompression, leaveOpen: true))
            for (var i = 0; i < 5_000; i++)
                gzip.Write(Encoding.UTF8.GetBytes($$"""{"name":"http.get","trace_id":"t1","rpc_id":"1.{{i + 1}}","timestamp":1700000000}{{"\n"}}"""));
        var path = Path.Combine(_folder, "cut.gz");
        File.WriteAllBytes(path, whole.ToArray()[..(int)(whole.Length / 2)]);
        var (code, lines, messages) = Rebuild([path]);
        code.Should().Be(1, messages);
        lines.Should().HaveCount(1);
    }

    // ---- archives ----

    const string Gateway = "{\"name\":\"request.info\",\"trace_id\":\"t1\",\"rpc_id\":\"1.1\",\"timestamp\":1700000000,\"service\":\"gateway\"}\n";
    const string Call = "{\"name\":\"http.get\",\"trace_id\":\"t1\",\"rpc_id\":\"1.2\",\"timestamp\":1700000000,\"service\":\"gateway\"}\n";
    const string AlibabaHeader = "traceid,timestamp,rpcid,um,rpctype,dm,interface,rt\n";

    static byte[] Gzip(byte[] bytes)
    {
        var whole = new MemoryStream();
        using (var gzip = new GZipStream(whole, CompressionLevel.Fastest, leaveOpen: true)) gzip.Write(bytes);
        return whole.ToArray();
    }

    static byte[] Tar(TarEntryFormat format, params (string Name, byte[] Content)[] files)
    {
        var whole = new MemoryStream();
        using (var writer = new TarWriter(whole, format, leaveOpen: true))
        {
            foreach (var (name, content) in files)
            {
                var type = name.EndsWith('/') ? TarEntryType.Directory : format == TarEntryFormat.V7 ? TarEntryType.V7RegularFile : TarEntryType.RegularFile;
                TarEntry entry = format switch
                {
                    TarEntryFormat.V7 => new V7TarEntry(type, name),
                    TarEntryFormat.Ustar => new UstarTarEntry(type, name),
                    TarEntryFormat.Gnu => new GnuTarEntry(type, name),
                    _ => new PaxTarEntry(type, name),
                };
                if (type != TarEntryType.Directory) entry.DataStream = new MemoryStream(content);
                writer.WriteEntry(entry);
            }
        }

        return whole.ToArray();
    }

    string WriteBytes(string name, byte[] bytes)
    {
        var path = Path.Combine(_folder, name);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    static string[] Positions(string chain) =>
        [.. JsonDocument.Parse(chain).RootElement.GetProperty("nodes").EnumerateArray().SelectMany(node => node.GetProperty("records").EnumerateArray()).Select(record => record.GetString()!)];

    [Theory]
    [InlineData(TarEntryFormat.V7, "logs.tar.gz")]
    [InlineData(TarEntryFormat.Ustar, "logs.tgz")]
    [InlineData(TarEntryFormat.Pax, "logs.tar")]
    [InlineData(TarEntryFormat.Gnu, "logs.bin")]
    public void Each_file_of_an_archive_is_read_as_one_of_its_own(TarEntryFormat format, string name)
    {
        var tar = Tar(format, ("logs/", []), ("./logs/a.log", Encoding.UTF8.GetBytes(Gateway)), ("logs/empty.log", []), ("logs/b.log.gz", Gzip(Encoding.UTF8.GetBytes("no json\n" + Call))));
        var file = WriteBytes(name, name.EndsWith(".tar", StringComparison.Ordinal) ? tar : Gzip(tar));

        var (code, lines, messages) = Rebuild([file]);

        code.Should().Be(0, messages);
        Positions(lines.Single()).Should().Equal($"{file}/logs/a.log:0", $"{file}/logs/b.log.gz:8");
        messages.Should().Contain($"{file}/logs/b.log.gz:1 set aside: ").And.Contain("3 read, 1 set aside, 1 chains");
    }

    [Fact]
    public void Rows_of_alibaba_are_read_from_the_archives_that_they_come_in()
    {
        var file = WriteBytes("MSCallGraph_0.tar.gz", Gzip(Tar(
            TarEntryFormat.Ustar, ("MSCallGraph_0.csv", Encoding.UTF8.GetBytes(AlibabaHeader + "T,10,0,,http,A,I,9\n")), ("README.md", "# Data\n"u8.ToArray()), ("MSCallGraph_1.csv", Encoding.UTF8.GetBytes(AlibabaHeader + "T,11,0.1,A,mc,C,,1\n")))));

        var (code, lines, messages) = Rebuild([file], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        code.Should().Be(1, "one of the files is no table");
        Positions(lines.Single()).Should().Equal($"{file}/MSCallGraph_0.csv:51", $"{file}/MSCallGraph_1.csv:51");
        messages.Should().Contain($"{file}/README.md: ").And.Contain("has no column traceid").And.Contain("2 read, 0 set aside, 1 chains");
    }

    [Theory]
    [InlineData(600, "/a.log: the archive ends within this file")]
    [InlineData(1_100, "the archive is damaged, or is none")]
    [InlineData(1_600, "/b.log: the archive ends within this file")]
    public void Archive_that_was_cut_says_where_after_what_was_read(int length, string expected)
    {
        var tar = Tar(TarEntryFormat.Ustar, ("a.log", Encoding.UTF8.GetBytes(Gateway)), ("b.log", Encoding.UTF8.GetBytes(Call)));
        var file = WriteBytes("cut.tar", tar[..length]);

        var (code, lines, messages) = Rebuild([file]);

        code.Should().Be(1);
        lines.Should().HaveCount(length > 1_000 ? 1 : 0);
        messages.Split('\n').Should().ContainSingle(line => line.StartsWith(file) && !line.Contains("set aside")).Which.Should().Contain(expected);
    }

    [Fact]
    public void Rows_before_the_end_of_a_compressed_table_that_was_cut_are_shown()
    {
        var random = new Random(1);
        var rows = string.Concat(Enumerable.Range(1, 5_000).Select(i => $"T,10,0.{i},A,mc,C{random.Next()},,1\n"));
        var whole = Gzip(Encoding.UTF8.GetBytes(AlibabaHeader + rows));

        var (code, lines, messages) = Rebuild([WriteBytes("rows.csv.gz", whole[..^(whole.Length / 3)])], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        code.Should().Be(1, messages);
        Positions(lines.Single()).Should().HaveCountGreaterThan(1_000);
    }

    [Theory]
    [InlineData((byte)'L')]
    [InlineData((byte)'x')]
    public void Archive_whose_header_claims_gigabytes_is_not_believed(byte kind)
    {
        var tar = Tar(TarEntryFormat.Ustar, ("a.log", Encoding.UTF8.GetBytes(Gateway)), ("b.log", Encoding.UTF8.GetBytes(Call)));
        var header = tar.AsSpan(1024, 512);
        "14000000000\0"u8.CopyTo(header[124..]);
        header[156] = kind;
        "        "u8.CopyTo(header[148..]);
        var sum = 0;
        foreach (var value in header) sum += value;
        Encoding.ASCII.GetBytes(Convert.ToString(sum, 8).PadLeft(6, '0') + "\0 ").CopyTo(header[148..]);
        var file = WriteBytes("large.tar", tar);
        var before = GC.GetAllocatedBytesForCurrentThread();

        var (code, lines, messages) = Rebuild([file]);

        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(100 << 20);
        code.Should().Be(1);
        lines.Should().HaveCount(1);
        messages.Should().Contain($"{file}: the archive is damaged, or is none: a file's name or attributes take more than 1,048,576 bytes");
    }

    [Fact]
    public void Damaged_archives_never_throw()
    {
        var seed = Environment.TickCount;
        for (var i = 0; i < 500; i++)
        {
            var random = new Random(seed + i);
            var format = (TarEntryFormat)random.Next(1, 5);
            var tar = Tar(format, ("a.log", Encoding.UTF8.GetBytes(Gateway)), (format is TarEntryFormat.V7 or TarEntryFormat.Ustar ? "b" : new string('b', 300), Encoding.UTF8.GetBytes(Call)));
            for (var spoilt = random.Next(4); spoilt >= 0; spoilt--) tar[random.Next(tar.Length)] = (byte)random.Next(256);
            if (random.Next(3) == 0) tar = tar[..random.Next(tar.Length)];
            var file = WriteBytes("spoilt.tgz", random.Next(2) == 0 ? tar : Gzip(tar));
            try
            {
                Rebuild([file]).Code.Should().BeOneOf(0, 1);
            }
            catch (Exception exception)
            {
                throw new Xunit.Sdk.XunitException($"seed {seed} + {i}: {exception}");
            }
        }
    }

    [Fact]
    public void Archives_one_behind_the_other_are_not_taken_for_one_without_a_word()
    {
        var file = WriteBytes("two.tar", [.. Tar(TarEntryFormat.Ustar, ("a.log", Encoding.UTF8.GetBytes(Gateway))), .. Tar(TarEntryFormat.Ustar, ("b.log", Encoding.UTF8.GetBytes(Call)))]);

        var (code, _, messages) = Rebuild([file]);

        code.Should().Be(1);
        messages.Should().Contain($"{file}: something follows the end of the archive");
    }

    [Fact]
    public void Name_in_an_archive_does_not_speak_to_the_terminal()
    {
        var file = WriteBytes("a.tar", Tar(TarEntryFormat.Pax, ("\u001b[2Ja.log", "no json\n"u8.ToArray())));

        Rebuild([file]).Messages.Should().Contain($"{file}/␛[2Ja.log:1 set aside").And.NotContain("\u001b");
    }

    [Fact]
    public void Rows_of_2022_are_read_by_column_name_and_zeros_take_the_other_side()
    {
        var file = Write("2022.csv", """
            timestamp,traceid,service,rpc_id,um,uminstanceid,rpctype,interface,dm,dminstanceid,rt
            10,T,S,0,USER,,http,i0,A,a1,-9
            11,T,S,0.1,A,a1,rpc,i1,B,b1,1.001
            12,T,S,0.1,A,a1,rpc,i1,B,b1,0
            12,T,S,0.2,A,a1,mc,,C,,0
            12,T,S,0.2x,A,a1,mc,,C,,0
            12,T,S,0.3
            """);

        var (code, lines, messages) = Rebuild([file], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        code.Should().Be(0);
        messages.Should().Contain($"{file}:6 set aside: rpcid '0.2x'").And.Contain($"{file}:7 set aside: it has 4 columns").And.Contain("6 read, 2 set aside, 1 chains");
        JsonDocument.Parse(lines.Single()).RootElement.GetProperty("nodes").EnumerateArray()
            .Select(node => $"{node.GetProperty("rpc_id")} {node.GetProperty("service")} {node.GetProperty("duration_us")} {node.GetProperty("caller").ValueKind} {node.GetProperty("callee").ValueKind}")
            .Should().Equal("0 A 9000 Null Object", "0.1 A 1001 Object Object", "0.2 A 0 Object Null");
    }

    /// <summary>As tables are saved by other programs: with a running number, a byte order mark, Windows' line ends, quotes.</summary>
    [Theory]
    [InlineData(",traceid,timestamp,rpcid,um,rpctype,dm,interface,rt", true)]
    [InlineData("Unnamed: 0,traceid,timestamp,rpcid,um,rpctype,dm,interface,rt", true)]
    [InlineData("\uFEFFtraceid,timestamp,rpcid,um,rpctype,dm,interface,rt", false)]
    [InlineData("\"traceid\",\"timestamp\",\"rpcid\",\"um\",\"rpctype\",\"dm\",\"interface\",\"rt\"", false)]
    public void Row_that_was_recorded_twice_is_one_call_however_the_table_was_saved(string header, bool isNumbered)
    {
        string[] rows = ["T,10,0,,http,A,I,9", "T,11,0.1,A,rpc,B,I,3", "T,11,0.1,A,rpc,B,I,3", "T,11,0.1,A,rpc,B,I,-2"];
        var file = Write("saved.csv", string.Join("\r\n", [header, .. rows.Select((row, i) => isNumbered ? $"{i},{row}" : row)]));

        var (code, lines, messages) = Rebuild([file], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        code.Should().Be(0, messages);
        var chain = JsonDocument.Parse(lines.Single()).RootElement;
        chain.GetProperty("resolved").GetBoolean().Should().BeTrue();
        chain.GetProperty("nodes").EnumerateArray().Select(node => $"{node.GetProperty("rpc_id")} {node.GetProperty("records").GetArrayLength()}").Should().Equal("0 1", "0.1 3");
    }

    /// <summary>In 2022 no response time has a sign.</summary>
    [Fact]
    public void Where_no_response_time_has_a_sign_what_lies_within_a_call_is_its_other_side()
    {
        var file = Write("2022.csv", """
            timestamp,traceid,service,rpc_id,rpctype,um,uminstanceid,interface,dm,dminstanceid,rt
            10,T,S,0,http,USER,USER,X,A,a1,50
            12,T,S,0.1,rpc,A,a1,I,B,b1,9
            11,T,S,0.1,rpc,A,a1,I,B,b1,11
            13,T,S,0.1.1,rpc,B,b1,I,C,UNKNOWN,3
            13,T,S,0.1.1,rpc,B,b1,J,C,c1,3
            30,T,S,0.2,rpc,A,a1,I,B,b1,2
            40,T,S,0.2,rpc,A,a1,I,B,b1,2
            41,T,S,0.3,rpc,A,a1,I,B,b1,5
            42,T,S,0.3,rpc,A,a1,I,B,b2,2
            """);

        var (code, lines, messages) = Rebuild([file], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        code.Should().Be(0, messages);
        var chain = JsonDocument.Parse(lines.Single()).RootElement;
        chain.GetProperty("resolved").GetBoolean().Should().BeTrue();
        chain.GetProperty("nodes").EnumerateArray()
            .Select(node => $"{node.GetProperty("rpc_id")} {node.GetProperty("duration_us")} {node.GetProperty("caller").ValueKind} {node.GetProperty("callee").ValueKind}")
            .Should().Equal("0 50000 Object Null", "0.1 11000 Object Object", "0.1.1 3000 Object Object", "0.2 2000 Object Null", "0.2 2000 Object Null", "0.3 5000 Object Null", "0.3 2000 Object Null");
    }

    [Fact]
    public void Row_without_a_response_time_or_an_id_is_shown_all_the_same()
    {
        var file = Write("gaps.csv", "traceid,timestamp,rpcid,um,rpctype,dm,interface,rt\nT,10,0,(?),http,A,I,9\nT,11,0.1,A,rpc,unknown,I,NaN\nT,11,0.1,A,rpc,B,I,-2\nT,12,0.2,A,mc,C,,\nT,13,,A,rpc,B,I,1\nT,14,NaN,None,db,null,,\nT,15,0.3,A,rpc,B,I,soon\n");

        var (_, lines, messages) = Rebuild([file], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        messages.Should().Contain("7 read, 1 set aside, 1 chains").And.Contain($"{file}:8 set aside: rt 'soon'");
        JsonDocument.Parse(lines.Single()).RootElement.GetProperty("nodes").EnumerateArray()
            .Select(node => $"{node.GetProperty("rpc_id")} {node.GetProperty("records").GetArrayLength()} {node.GetProperty("duration_us").GetRawText()}").Should().Equal("0 3 9000", "0.1 2 null", "0.2 1 null");
    }

    /// <summary>The public sample as other samples of its kind are: numbered, with cells missing here and there.</summary>
    [AlibabaSampleFact]
    public void Real_sample_with_a_running_number_and_response_times_missing_is_as_resolved_as_without()
    {
        var chains = RebuildSpoilt(column: 7);

        chains.Count(chain => chain.GetProperty("resolved").GetBoolean()).Should().BeGreaterThanOrEqualTo(14);
        chains.Sum(chain => chain.GetProperty("ambiguous_count").GetInt32()).Should().BeLessThan(40);
    }

    [AlibabaSampleFact]
    public void Real_sample_with_ids_and_names_missing_is_read_whole()
    {
        foreach (var column in (int[])[2, 3, 4, 5]) RebuildSpoilt(column);
    }

    /// <summary>Every row is shown, though the cells of one column are empty here and there.</summary>
    List<JsonElement> RebuildSpoilt(int column)
    {
        using var reader = new StreamReader(new System.IO.Compression.GZipStream(File.OpenRead(AlibabaSampleFactAttribute.Path!), System.IO.Compression.CompressionMode.Decompress));
        var random = new Random(1);
        var text = new System.Text.StringBuilder(",").AppendLine(reader.ReadLine());
        for (var number = 0; reader.ReadLine() is { } line; number++)
        {
            var fields = line.Split(',');
            if (random.Next(25) == 0) fields[column] = "";
            text.AppendLine(System.Globalization.CultureInfo.InvariantCulture, $"{number},{string.Join(',', fields)}");
        }

        var (code, lines, messages) = Rebuild([Write("numbered.csv", text.ToString())], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        code.Should().Be(0, messages);
        var chains = lines.Select(line => JsonDocument.Parse(line).RootElement).ToList();
        chains.Should().HaveCount(17);
        chains.Sum(chain => chain.GetProperty("nodes").EnumerateArray().Sum(node => node.GetProperty("records").GetArrayLength())).Should().Be(967);
        return chains;
    }

    [Fact]
    public void File_without_the_columns_says_which_are_missing()
    {
        var (code, _, messages) = Rebuild([Write("x.csv", "a,b\n1,2\n")], new() { Json = true, IsAlibaba = true });

        code.Should().Be(1);
        messages.Should().Contain("has no column traceid, timestamp");
    }

    [AlibabaSampleFact]
    public void Real_sample_is_read_whole()
    {
        var (code, lines, messages) = Rebuild([AlibabaSampleFactAttribute.Path!], new() { Json = true, IsAlibaba = true, Reading = ChainReading.Twins });

        code.Should().Be(0, messages);
        lines.Should().HaveCount(17);
        var chains = lines.Select(line => JsonDocument.Parse(line).RootElement).ToList();
        var nodes = chains.SelectMany(chain => chain.GetProperty("nodes").EnumerateArray().Select(node => (Trace: chain.GetProperty("trace_id").GetString(), Node: node))).ToList();
        var records = nodes.SelectMany(node => node.Node.GetProperty("records").EnumerateArray().Select(record => record.GetString())).ToList();
        records.Should().HaveCount(967).And.OnlyHaveUniqueItems();
        var placeholders = nodes.Where(node => node.Node.GetProperty("placeholder").GetBoolean()).Select(node => (node.Trace, node.Node.GetProperty("rpc_id").GetString()!)).ToHashSet();
        placeholders.Should().HaveCount(66);
        var present = nodes.Where(node => node.Node.GetProperty("records").GetArrayLength() > 0).Select(node => (node.Trace, node.Node.GetProperty("rpc_id").GetString()!)).ToHashSet();
        placeholders.Count(placeholder => Ancestors(placeholder.Item2).Any(above => present.Contains((placeholder.Trace, above)))).Should().Be(56);
        chains.Count(chain => chain.GetProperty("resolved").GetBoolean()).Should().BeGreaterThanOrEqualTo(14);
        chains.Sum(chain => chain.GetProperty("ambiguous_count").GetInt32()).Should().BeLessThan(40);

        static IEnumerable<string> Ancestors(string id)
        {
            for (var dot = id.LastIndexOf('.'); dot > 0; dot = id.LastIndexOf('.', dot - 1)) yield return id[..dot];
        }
    }

    [Theory]
    [InlineData(20)]
    [InlineData(60)]
    [InlineData(140)]
    public void Drawing_fits_the_terminal_and_shows_log_text_as_text(int width)
    {
        var records = Checkout().Where(record => record.Record.RpcId!.Value.Text is not ("1.3" or "1.3.1"))
            .Append(Record("http.get.error", "1.4", "gateway", action: "[red]boom[/] \u001b[2J\n\u202E日本語" + new string('x', 300)))
            .Append(Record("log.info", "1.4", "gateway"))
            .Append(Record("request.info", string.Join('.', Enumerable.Repeat("2", 100)), "deep"))
            .ToArray();
        using var writer = new StringWriter();
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer), Ansi = AnsiSupport.No, ColorSystem = ColorSystemSupport.NoColors });
        console.Profile.Width = width;
        console.Profile.Capabilities.Unicode = true;

        ChainText.Draw(console, Build(records), withLogs: true);

        var text = writer.ToString();
        text.Should().NotContain("\u001b").And.NotContain("\u202E");
        foreach (var line in text.Split('\n')) new Spectre.Console.Rendering.Segment(line.TrimEnd('\r')).CellCount().Should().BeLessThanOrEqualTo(width);
        if (width == 140) text.Should().Contain("1.3 not received - gateway > orders?").And.Contain("1.3.1 not received - orders?").And.Contain("[red]boom[/] ␛[2J␊\\u202E日本語").And.Contain("└─");
    }
}

/// <summary>Runs where the public sample lies beside the repository (../shared/data) or LOGTRACE_DATA names its folder.</summary>
sealed class AlibabaSampleFactAttribute : FactAttribute
{
    public static string? Path { get; } = Find();

    public AlibabaSampleFactAttribute()
    {
        if (Path is null) Skip = "alibaba-2021-sample.csv.gz was not found in ../shared/data; LOGTRACE_DATA may name its folder.";
    }

    static string? Find()
    {
        var folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(System.IO.Path.Combine(folder, "LogTrace.sln"))) folder = System.IO.Path.GetDirectoryName(folder);
        string?[] folders = [Environment.GetEnvironmentVariable("LOGTRACE_DATA"), folder is null ? null : System.IO.Path.Combine(folder, "..", "shared", "data")];
        return folders.Where(name => !string.IsNullOrEmpty(name)).Select(name => System.IO.Path.Combine(name!, "alibaba-2021-sample.csv.gz")).FirstOrDefault(File.Exists);
    }
}
