namespace LogTrace.Tests.Support;

/// <summary>Tests of what a process has once, such as its default logger: they run when no others do.</summary>
[CollectionDefinition(nameof(ProcessDefault), DisableParallelization = true)]
public sealed class ProcessDefault;
