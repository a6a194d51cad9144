//! What knowledge of the future is worth: a fleet that is told the rate to come, and no request.
//!
//! Owns: that policy, which nobody can use. Must not know: any other.

use super::{LATE_SHARE, Scenario};
use crate::autoscaling::{Series, replay};

/// The rate that is told is a mean over so many seconds around a moment: minutes are a trend, less is
/// the requests themselves.
const AROUND_S: usize = 300;
/// Deviations that are tried, in tenths: the best is taken, known afterwards.
const SAFETIES: std::ops::RangeInclusive<u32> = 5..=30;

/// The cheapest fleet that keeps the target on this trace and follows the mean load around the moment
/// at which a replica ordered now is ready.
pub(super) fn known_rate(
    scenario: &Scenario,
    progress: &mut dyn FnMut(u64, u64),
) -> (Series, String) {
    let loads = loads(scenario);
    let mut best: Option<(Series, u32)> = None;
    let all = u64::from(SAFETIES.end() - SAFETIES.start() + 1);
    for (tried, tenths) in SAFETIES.enumerate() {
        let series = follow(scenario, &loads, f64::from(tenths) / 10.0);
        let keeps = late(scenario, &series) <= LATE_SHARE;
        // More deviations cost more: the first that keeps the target is the cheapest.
        best = Some((series, tenths));
        progress(tried as u64 + 1, all);
        if keeps {
            break;
        }
    }
    let (series, tenths) = best.expect("invariant: there are safeties to try");
    (series, format!("z {}", f64::from(tenths) / 10.0))
}

/// The mean number of requests in service that arrivals around each second make.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn loads(scenario: &Scenario) -> Vec<f64> {
    let seconds = scenario.seconds();
    let mut sums = vec![0_u64; seconds + 1];
    for request in &scenario.requests {
        let at = usize::try_from(request.at_ms / 1_000).unwrap_or(seconds);
        sums[at.min(seconds - 1) + 1] += request.service_ms;
    }
    for second in 0..seconds {
        sums[second + 1] += sums[second];
    }
    let around = |second: usize| {
        let from = second.saturating_sub(AROUND_S / 2);
        let to = (second + AROUND_S / 2 + 1).min(seconds);
        (sums[to] - sums[from]) as f64 / 1_000.0 / (to - from) as f64
    };
    (0..seconds).map(around).collect()
}

fn follow(scenario: &Scenario, loads: &[f64], safety: f64) -> Series {
    let spec = scenario.fleet(true);
    let slots = f64::from(spec.slots);
    let cold_s = usize::try_from(spec.cold_start_ms.div_ceil(1_000)).unwrap_or(usize::MAX);
    let requests = scenario.requests.iter().copied();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and the conversion saturates"
    )]
    let needed = |load: f64| ((load + safety * load.sqrt()) / slots).ceil() as u32;
    replay(
        spec,
        scenario.warm(),
        requests,
        scenario.seconds(),
        |_, series| {
            let now = series.seconds();
            let then = now.saturating_add(cold_s).min(loads.len() - 1);
            Some(needed(loads[now].max(loads[then])).max(1))
        },
    )
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn late(scenario: &Scenario, series: &Series) -> f64 {
    let from = scenario.first_measured(series.seconds());
    let over = |sums: &[u64]| (sums[series.seconds()] - sums[from]) as f64;
    over(&series.late) / over(&series.arrivals).max(1.0)
}
