using LogTrace.Shipper;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Shipper;

/// <summary>The configuration of a process: what is wrong in it is said, never passed over.</summary>
public sealed class SettingsTests : IDisposable
{
    readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_flag_wins_over_the_file()
    {
        var settings = Load("""{"Shipper":{"MaxOpenFiles":7,"BatchBytes":2048}}""", new KeyValuePair<string, string?>("Shipper:MaxOpenFiles", "9"));

        settings.Section<ShipperOptions>("Shipper").Should().Match<ShipperOptions>(options => options.MaxOpenFiles == 9 && options.BatchBytes == 2048);
        settings.Value("Shipper:MaxOpenFiles").Should().Be("9");
    }

    [Fact]
    public void A_section_that_does_not_exist_is_named_with_those_that_do() =>
        Loading("""{"Shiper":{"MaxOpenFiles":7}}""").Should().Throw<SettingsException>().WithMessage("There is no section Shiper*there are Shipper, *");

    [Fact]
    public void A_key_that_does_not_exist_is_named_with_those_that_do() =>
        Loading("""{"Shipper":{"MaxOpenFile":7}}""").Should().Throw<SettingsException>().WithMessage("Shipper:MaxOpenFile does not exist; section Shipper has *MaxOpenFiles*");

    [Fact]
    public void A_value_of_the_wrong_type_is_named_with_its_key() =>
        Loading("""{"Shipper":{"MaxOpenFiles":"many"}}""").Should().Throw<SettingsException>().WithMessage("*'many'*Shipper:MaxOpenFiles*");

    [Fact]
    public void A_file_that_is_no_JSON_is_named_with_the_line() =>
        Loading("{\n\"Shipper\":").Should().Throw<SettingsException>().WithMessage("*settings.json cannot be read: *LineNumber: 1*");

    Action Loading(string json) => () => Load(json).Section<ShipperOptions>("Shipper");

    Settings Load(string json, params KeyValuePair<string, string?>[] flags)
    {
        File.WriteAllText(_folder["settings.json"], json);
        return Settings.Load(_folder["settings.json"], "shipper.json", flags);
    }
}
