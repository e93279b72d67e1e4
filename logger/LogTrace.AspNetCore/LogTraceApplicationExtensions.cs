using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;

namespace LogTrace;

/// <summary>The entry point from ASP.NET Core; <see cref="LogTraceHostExtensions"/> has the other half.</summary>
public static class LogTraceApplicationExtensions
{
    /// <summary>Handles requests in scopes from here on; put it first, before exception handlers and routing.</summary>
    /// <exception cref="InvalidOperationException">AddLogTrace was not called.</exception>
    public static IApplicationBuilder UseLogTrace(this IApplicationBuilder app)
    {
        ArgumentNullException.ThrowIfNull(app);
        if (app.ApplicationServices.GetService<TraceLogger>() is null) throw new InvalidOperationException("UseLogTrace needs a set-up: call builder.AddLogTrace(...) before builder.Build().");
        return app.UseMiddleware<TraceMiddleware>();
    }
}
