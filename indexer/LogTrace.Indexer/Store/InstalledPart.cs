namespace LogTrace.Indexer.Store;

/// <summary>Something that a server has to have before LogTrace can be used with it, and what became of it.</summary>
/// <param name="What">Such as <c>index template logtrace-records</c>.</param>
/// <param name="Detail">Its version, size or difference; null when there is nothing to say.</param>
public sealed record InstalledPart(PartState State, string What, string? Detail = null)
{
    /// <summary>It is not as it should be, and was not changed.</summary>
    public bool IsDue => State is PartState.Missing or PartState.Outdated;

    /// <summary>It was changed just now.</summary>
    public bool IsChanged => State is PartState.Made or PartState.Renewed;
}

public enum PartState
{
    /// <summary>It is there as it should be, or was made otherwise by its owner, which is left alone.</summary>
    Current,

    /// <summary>It is not there; nothing was done.</summary>
    Missing,

    /// <summary>It is there in an older or other form; nothing was done.</summary>
    Outdated,

    /// <summary>It was not there and is now.</summary>
    Made,

    /// <summary>It was there in an older or other form and is right now.</summary>
    Renewed,
}
