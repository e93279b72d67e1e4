using System.Reflection;
using System.Text;
using LogTrace.Tests.Support;

namespace LogTrace.Tests.Logger;

/// <summary>The public surface of the packages, word for word: a change of it is a decision.</summary>
public sealed class PublicApiTests
{
    const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    static readonly NullabilityInfoContext Nullability = new();

    [Theory]
    [InlineData("LogTrace")]
    [InlineData("LogTrace.AspNetCore")]
    [InlineData("LogTrace.Hosting")]
    [InlineData("LogTrace.Kafka")]
    [InlineData("LogTrace.Records")]
    [InlineData("LogTrace.Redis")]
    public void The_public_surface_is_the_one_that_was_accepted(string assembly)
    {
        var accepted = Path.Combine(Repository.Root, "tests/LogTrace.Tests/Logger/Api", $"{assembly}.txt");
        var received = Path.Combine(Repository.Root, "artifacts", $"{assembly}.api.received.txt");
        var surface = Surface(Assembly.Load(assembly));
        if (File.Exists(accepted) && File.ReadAllText(accepted) == surface) return;
        Directory.CreateDirectory(Path.GetDirectoryName(received)!);
        File.WriteAllText(received, surface);
        var before = File.Exists(accepted) ? File.ReadAllLines(accepted) : [];
        var changes = surface.Split('\n').Except(before).Select(line => "+ " + line).Concat(before.Except(surface.Split('\n')).Select(line => "- " + line));
        Assert.Fail($"The public surface of {assembly} has changed:\n{string.Join('\n', changes)}\nIf that is meant, accept it: cp {received} {accepted}");
    }

    static string Surface(Assembly assembly)
    {
        var text = new StringBuilder();
        foreach (var type in assembly.GetExportedTypes().OrderBy(type => type.FullName, StringComparer.Ordinal))
        {
            var bases = new[] { type.BaseType }.Where(parent => parent is not null && parent != typeof(object) && parent != typeof(ValueType)).Concat(type.GetInterfaces()).Select(parent => Name(parent!)).Order(StringComparer.Ordinal);
            text.Append(type.IsEnum ? "enum" : type.IsInterface ? "interface" : type.IsValueType ? "struct" : type is { IsAbstract: true, IsSealed: true } ? "static class" : type.IsSealed ? "sealed class" : type.IsAbstract ? "abstract class" : "class")
                .Append(" ").Append(Name(type)).Append(bases.Any() ? " : " : "").AppendJoin(", ", bases).Append('\n');
            foreach (var member in type.GetMembers(Declared).Select(Line).OfType<string>().Order(StringComparer.Ordinal)) text.Append("    ").Append(member).Append('\n');
        }

        return text.ToString();
    }

    static bool IsSeen(MethodBase? method) => method is { IsPublic: true } or { IsFamily: true } or { IsFamilyOrAssembly: true };

    static string? Line(MemberInfo member) => member switch
    {
        // What the compiler makes for records and enums says nothing; accessors are said with their property.
        _ when member.Name.Contains('<', StringComparison.Ordinal) || member is FieldInfo { IsSpecialName: true } => null,
        MethodInfo method when IsSeen(method) && (!method.IsSpecialName || method.Name.StartsWith("op_", StringComparison.Ordinal)) =>
            $"{(method.IsStatic ? "static " : method.IsAbstract ? "abstract " : method.GetBaseDefinition() != method ? "override " : method.IsVirtual && !method.IsFinal ? "virtual " : "")}{Name(method.ReturnType)}{Mark(Nullability.Create(method.ReturnParameter))} {method.Name}{Generic(method.GetGenericArguments())}({Parameters(method)})",
        ConstructorInfo constructor when IsSeen(constructor) => $"new({Parameters(constructor)})",
        PropertyInfo property when IsSeen(property.GetMethod) || IsSeen(property.SetMethod) =>
            $"{(property.GetAccessors(true)[0].IsStatic ? "static " : "")}{Name(property.PropertyType)}{Mark(Nullability.Create(property))} {property.Name} {{{(IsSeen(property.GetMethod) ? " get;" : "")}{(IsSeen(property.SetMethod) ? property.SetMethod!.ReturnParameter.GetRequiredCustomModifiers().Length > 0 ? " init;" : " set;" : "")} }}",
        FieldInfo field when field.IsPublic || field.IsFamily => $"{(field.IsLiteral ? "const " : field.IsStatic ? "static " : "")}{Name(field.FieldType)} {field.Name}{(field.IsLiteral ? $" = {field.GetRawConstantValue()}" : "")}",
        EventInfo happening when IsSeen(happening.AddMethod) => $"event {Name(happening.EventHandlerType!)} {happening.Name}",
        _ => null,
    };

    static string Mark(NullabilityInfo nullability) => nullability is { ReadState: NullabilityState.Nullable, Type.IsValueType: false } ? "?" : "";

    static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(parameter =>
        $"{(parameter.IsOut ? "out " : parameter.IsIn ? "in " : "")}{Name(parameter.ParameterType)}{Mark(Nullability.Create(parameter))} {parameter.Name}{(parameter.HasDefaultValue ? $" = {parameter.DefaultValue ?? "default"}" : "")}"));

    static string Generic(Type[] arguments) => arguments.Length == 0 ? "" : $"<{string.Join(", ", arguments.Select(Name))}>";

    static string Name(Type type) => type.IsByRef ? Name(type.GetElementType()!)
        : Nullable.GetUnderlyingType(type) is { } inner ? Name(inner) + "?"
        : type.IsArray ? Name(type.GetElementType()!) + "[]"
        : type.IsGenericParameter ? type.Name
        : $"{(type.DeclaringType is { } outer ? Name(outer) + "." : "")}{type.Name.Split('`')[0]}{Generic(type.GetGenericArguments())}";
}
