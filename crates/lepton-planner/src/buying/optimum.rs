//! The least that a job can cost when every sample of the spot offer is known beforehand.
//!
//! Owns: an exact dynamic programme. Must not know: any policy.

/// A job on one offer whose future is known.
#[derive(Debug, Clone, Copy)]
pub struct KnownJob<'a> {
    /// Whether spot is up, one sample a tick, up to the deadline.
    pub up: &'a [bool],
    /// Milliseconds of a tick.
    pub tick_ms: u64,
    /// Milliseconds of work.
    pub work_ms: u64,
    /// Milliseconds lost whenever a machine is taken up.
    pub changeover_ms: u64,
    /// Dollars an hour.
    pub on_demand_usd_per_hour: f64,
    /// Dollars an hour.
    pub spot_usd_per_hour: f64,
}

/// States that one call may visit: some seconds of work.
const STATES_MOST: u128 = 1_000_000_000;
/// States that it may hold at once: a gigabyte.
const HELD_MOST: u128 = 100_000_000;

const MODES: usize = 3;
const IDLE: usize = 0;
const SPOT: usize = 1;
const ON_DEMAND: usize = 2;

/// The least cost in dollars; none, if the deadline cannot be kept or the problem is too large.
///
/// A changeover that is cut short only loses, so a machine is taken up for its whole changeover at
/// least. Work is counted in the greatest unit that divides the tick, the changeover and the work.
#[must_use]
pub fn optimum_usd(job: &KnownJob<'_>) -> Option<f64> {
    if job.work_ms == 0 {
        return Some(0.0);
    }
    let unit = gcd(gcd(job.tick_ms.max(1), job.changeover_ms), job.work_ms);
    let units = |ms: u64| usize::try_from(ms / unit).ok();
    let (tick, changeover, work) = (
        units(job.tick_ms.max(1))?,
        units(job.changeover_ms)?,
        units(job.work_ms)?,
    );
    let ticks = job.up.len();
    if (ticks as u128) * (work as u128 + 1) * 3 > STATES_MOST {
        return None;
    }
    let first = changeover.div_ceil(tick).max(1);
    if (first as u128 + 1) * (work as u128 + 1) * 3 > HELD_MOST {
        return None;
    }
    let gained = first * tick - changeover;
    let unit_hours = lossy(unit) / 3_600_000.0;
    let usd = [
        0.0,
        job.spot_usd_per_hour * unit_hours,
        job.on_demand_usd_per_hour * unit_hours,
    ];
    // `slices[t % ring][mode][left]`: the least cost from tick `t` on with `left` units of work to do.
    let ring = first + 1;
    let empty = || vec![vec![f64::INFINITY; work + 1]; MODES];
    let mut slices: Vec<Vec<Vec<f64>>> = (0..ring).map(|_| empty()).collect();
    for mode in &mut slices[ticks % ring] {
        mode[0] = 0.0;
    }
    for at in (0..ticks).rev() {
        let lasts = job.up[at..]
            .iter()
            .take(first)
            .take_while(|up| **up)
            .count();
        let (from, to) = (
            work.saturating_sub(at * tick),
            work.min((ticks - at) * tick),
        );
        let mut slice = std::mem::take(&mut slices[at % ring]);
        for mode in &mut slice {
            mode.fill(f64::INFINITY);
            mode[0] = 0.0;
        }
        let mut starts = vec![f64::INFINITY; work + 1];
        for left in from.max(1)..=to {
            let mut least = slices[(at + 1) % ring]
                .get(IDLE)
                .map_or(f64::INFINITY, |idle| idle[left]);
            for mode in [SPOT, ON_DEMAND] {
                if mode == SPOT && lasts * tick < (changeover + left).min(first * tick) {
                    continue;
                }
                let cost = if left <= gained {
                    lossy_size(changeover + left) * usd[mode]
                } else if at + first <= ticks {
                    lossy_size(first * tick) * usd[mode]
                        + slices[(at + first) % ring][mode][left - gained]
                } else {
                    f64::INFINITY
                };
                least = least.min(cost);
            }
            starts[left] = least;
        }
        let next = &slices[(at + 1) % ring];
        for left in from.max(1)..=to {
            slice[IDLE][left] = starts[left];
            for mode in [SPOT, ON_DEMAND] {
                let goes_on = if mode == SPOT && !job.up[at] {
                    f64::INFINITY
                } else if left <= tick {
                    lossy_size(left) * usd[mode]
                } else {
                    lossy_size(tick) * usd[mode] + next[mode][left - tick]
                };
                slice[mode][left] = starts[left].min(goes_on);
            }
        }
        slices[at % ring] = slice;
    }
    let least = slices[0][IDLE][work];
    least.is_finite().then_some(least)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations stay far below 2^53 ms"
)]
fn lossy(value: u64) -> f64 {
    value as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "units of work stay far below 2^53"
)]
fn lossy_size(value: usize) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(up: &[bool]) -> KnownJob<'_> {
        KnownJob {
            up,
            tick_ms: 3_600_000,
            work_ms: 3 * 3_600_000,
            changeover_ms: 1_800_000,
            on_demand_usd_per_hour: 4.0,
            spot_usd_per_hour: 1.0,
        }
    }

    #[test]
    fn spot_throughout_pays_one_changeover() {
        assert_eq!(optimum_usd(&job(&[true; 6])), Some(3.5));
    }

    #[test]
    fn no_spot_is_on_demand_and_no_time_is_impossible() {
        assert_eq!(optimum_usd(&job(&[false; 6])), Some(14.0));
        assert_eq!(optimum_usd(&job(&[false; 3])), None);
    }

    #[test]
    fn an_outage_is_waited_for_or_bridged_whichever_costs_less() {
        // Two hours up (1.5 h of work), one down, three up (2.5 h): waiting does it all on spot.
        let up = [true, true, false, true, true, true];
        assert_eq!(optimum_usd(&job(&up)), Some(2.0 + 2.0));
        // Without the last hour waiting is too slow: the outage is bridged, or spot never left.
        let up = [true, true, false, true, false];
        let least = optimum_usd(&job(&up)).unwrap();
        assert!((least - 10.0).abs() < 1e-9, "{least}");
    }
}
