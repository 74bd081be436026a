//! The sections of INFO that tell what commands have cost, and the errors that they were answered with.

use super::Report;
use crate::command::Context;
use hdrhistogram::Histogram;

pub(super) fn commandstats(ctx: &mut Context<'_>, report: &mut Report) {
    for (row, command) in ctx.server.counters.statistics.iter() {
        if command.calls + command.rejected + command.failed == 0 {
            continue;
        }
        let micros = command.nanos / 1000;
        let each =
            if command.calls == 0 { 0.0 } else { command.nanos as f64 / 1000.0 / command.calls as f64 };
        report.line(format_args!(
            "cmdstat_{}:calls={},usec={micros},usec_per_call={each:.2},rejected_calls={},failed_calls={}",
            row.name(),
            command.calls,
            command.rejected,
            command.failed
        ));
    }
}

pub(super) fn errorstats(ctx: &mut Context<'_>, report: &mut Report) {
    let mut errors: Vec<_> = ctx.server.counters.errors.iter().collect();
    errors.sort_unstable();
    for (code, count) in errors {
        report.line(format_args!("errorstat_{code}:count={count}"));
    }
}

pub(super) fn latencystats(ctx: &mut Context<'_>, report: &mut Report) {
    if !ctx.server.config.latency_tracking {
        return;
    }
    let percentiles = &ctx.server.config.latency_percentiles;
    for (row, command) in ctx.server.counters.statistics.iter() {
        if let Some(histogram) = &command.histogram {
            let shown: Vec<String> = percentiles.iter().map(|at| percentile(histogram, *at)).collect();
            report.line(format_args!("latency_percentiles_usec_{}:{}", row.name(), shown.join(",")));
        }
    }
}

/// A percentile in microseconds.
fn percentile(histogram: &Histogram<u64>, at: f64) -> String {
    format!("p{at}={:.3}", histogram.value_at_percentile(at) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_shown_as_redis_shows_them() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 2).unwrap();
        histogram.record_n(1000, 99).unwrap();
        histogram.record(2_000_000).unwrap();
        let shown = [50.0, 99.9, 100.0].map(|at| percentile(&histogram, at));
        assert_eq!(shown, ["p50=1.003", "p99.9=2007.039", "p100=2007.039"]);
    }
}
