using System.Diagnostics;

namespace LogTrace.Tests.Support;

/// <summary>A file system of a few hundred kilobytes, to fill up.</summary>
public sealed class SmallDisk : IDisposable
{
    readonly TempFolder _folder = new();

    public SmallDisk(int kilobytes) => Run("mount", "-t", "tmpfs", "-o", $"size={kilobytes}k", "tmpfs", Path).Should().Be(0);

    public string Path => _folder.Path;

    string Ballast => System.IO.Path.Combine(Path, "ballast");

    /// <summary>To the last byte.</summary>
    public void Fill()
    {
        using var file = new FileStream(Ballast, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);
        try
        {
            while (true) file.Write(new byte[1024]);
        }
        catch (IOException)
        {
            // Full, as wished.
        }
    }

    /// <summary>Takes back <see cref="Fill"/>.</summary>
    public void Free() => File.Delete(Ballast);

    public void Dispose()
    {
        Run("umount", "-l", Path);
        _folder.Dispose();
    }

    /// <summary>Whether this user may make one.</summary>
    public static bool IsPossible { get; } = Try();

    static bool Try()
    {
        if (!OperatingSystem.IsLinux() || Environment.UserName != "root") return false;
        using var folder = new TempFolder();
        if (Run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder.Path) != 0) return false;
        Run("umount", folder.Path);
        return true;
    }

    static int Run(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode;
    }
}

/// <summary>A test that fills a disk; skipped, with the reason, where none can be made for it.</summary>
public sealed class SmallDiskFactAttribute : FactAttribute
{
    public SmallDiskFactAttribute()
    {
        if (!SmallDisk.IsPossible) Skip = "fills a tmpfs of its own, which only root may mount";
    }
}
