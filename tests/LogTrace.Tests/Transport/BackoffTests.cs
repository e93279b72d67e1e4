using LogTrace.Transport;
using Microsoft.Extensions.Time.Testing;

namespace LogTrace.Tests.Transport;

public sealed class BackoffTests
{
    [Fact]
    public void Delay_doubles_up_to_the_maximum_and_keeps_at_least_half()
    {
        var backoff = new Backoff(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(10), random: new Random(4711));

        foreach (var full in new[] { 1, 2, 4, 8, 10, 10, 10 })
        {
            backoff.NextDelay().TotalSeconds.Should().BeInRange(full / 2.0, full);
        }

        backoff.Failures.Should().Be(7);
    }

    [Fact]
    public void First_delay_returns_after_a_success()
    {
        var backoff = new Backoff(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(60));
        for (var i = 0; i < 10; i++) backoff.NextDelay();

        backoff.Reset();

        backoff.NextDelay().Should().BeLessThanOrEqualTo(TimeSpan.FromSeconds(1));
    }

    [Fact]
    public void Any_number_of_failures_stays_within_the_maximum()
    {
        var backoff = new Backoff(TimeSpan.FromSeconds(1), TimeSpan.FromSeconds(30));

        for (var i = 0; i < 5_000; i++) backoff.NextDelay().TotalSeconds.Should().BeInRange(0.5, 30);
    }

    [Fact]
    public void Two_of_one_kind_do_not_return_together()
    {
        var delays = Enumerable.Range(0, 100).Select(_ => new Backoff(TimeSpan.FromSeconds(10)).NextDelay()).Distinct();

        delays.Should().HaveCountGreaterThan(90);
    }

    [Fact]
    public async Task Waiting_goes_by_the_given_clock()
    {
        var time = new FakeTimeProvider();
        var waiting = new Backoff(TimeSpan.FromHours(1), TimeSpan.FromHours(1), time).WaitAsync(default);

        time.Advance(TimeSpan.FromMinutes(29));
        waiting.IsCompleted.Should().BeFalse();
        time.Advance(TimeSpan.FromMinutes(31));

        await waiting;
    }
}
