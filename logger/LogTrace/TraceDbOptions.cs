namespace LogTrace;

/// <summary>What a <see cref="TraceDbConnection"/> writes into its records.</summary>
public sealed record TraceDbOptions
{
    /// <summary>What records call the connection (<c>instance_name</c>). Default <c>default</c>.</summary>
    public string InstanceName { get; init; } = "default";

    /// <summary>Whether parameter values are written. Default true; switch it off where they are private.</summary>
    public bool RecordParameters { get; init; } = true;

    /// <summary>Characters of SQL text kept in <c>action</c>, 64 to 1,000,000; what is longer is cut and ends in <c>...</c>. Default 8,192.</summary>
    public int MaxActionLength { get; init; } = 8192;

    /// <summary>Characters of parameters kept in <c>param</c>, 64 to 1,000,000; parameters that do not fit are left out and counted. Default 2,048.</summary>
    public int MaxParamLength { get; init; } = 2048;

    /// <summary>All problems at once; empty when there are none.</summary>
    public IReadOnlyList<string> Validate()
    {
        var problems = new List<string>();
        if (string.IsNullOrEmpty(InstanceName)) problems.Add("InstanceName is empty; give the connection a name such as default.");
        if (MaxActionLength is < 64 or > 1_000_000) problems.Add($"MaxActionLength is {MaxActionLength}; it must be between 64 and 1,000,000 characters.");
        if (MaxParamLength is < 64 or > 1_000_000) problems.Add($"MaxParamLength is {MaxParamLength}; it must be between 64 and 1,000,000 characters.");
        return problems;
    }
}
