//! How many replicas an uncertain load is worth: the price of late requests against that of replicas.
//!
//! Owns: the share of late requests that a number of replicas is expected to leave, and the number at
//! which one replica more costs more than it saves. Must not know: where the load was expected from.

use super::scaler::Signals;

/// Of what may come free while a request waits, at most as much as the fleet holds is counted on.
const FREED_MOST: f64 = 1.0;
/// So many deviations above the mean no price is worth another replica.
const DEVIATIONS_MOST: f64 = 8.0;
/// At no price at all a reserve is added to only where the load surely is greater, by so many deviations.
const SURELY: f64 = 2.0;

/// A load that is expected, and the replicas that it is served by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staffing {
    /// Requests in service: the mean, and its deviation.
    mean: f64,
    deviation: f64,
    /// Requests a second.
    rate: f64,
    slots: f64,
    /// Slots that come free within the time that a request may wait, for each slot.
    freed: f64,
}

impl Staffing {
    pub(super) fn of(signals: &Signals<'_>, mean: f64, deviation: f64) -> Self {
        let service_s = signals.service_s();
        Self {
            mean,
            deviation,
            rate: mean / service_s,
            slots: f64::from(signals.slots.max(1)),
            freed: (signals.late_after_s / service_s).min(FREED_MOST),
        }
    }

    /// As many replicas as pay: each saves late requests that are worth, at `price` replica-seconds a
    /// request, what it costs. The mean is always served.
    pub(super) fn replicas(&self, price: f64) -> u32 {
        if price <= 0.0 {
            return self.holding(-SURELY);
        }
        let pays = |replicas: u32| {
            let saved = self.late_share(replicas) - self.late_share(replicas.saturating_add(1));
            price * self.rate * saved > 1.0
        };
        // Above the mean every replica saves less than the one before.
        let (mut least, mut most) = (self.holding(0.0), self.holding(DEVIATIONS_MOST));
        while least < most {
            let middle = least + (most - least) / 2;
            if pays(middle) {
                least = middle + 1;
            } else {
                most = middle;
            }
        }
        least
    }

    /// Replicas that hold the mean and so many deviations.
    fn holding(&self, deviations: f64) -> u32 {
        ceil((self.mean + deviations * self.deviation) / self.slots)
    }

    /// The share of requests that find more before them than comes free while they may wait.
    fn late_share(&self, replicas: u32) -> f64 {
        let room = f64::from(replicas) * self.slots * (1.0 + self.freed);
        upper_tail((room - self.mean) / self.deviation)
    }
}

/// The probability that a normal variable is so many deviations above its mean or more: a logistic
/// approximation, off by 0.0002 at most (Bowling et al. 2009).
fn upper_tail(deviations: f64) -> f64 {
    let odds = 1.5976 * deviations + 0.070_56 * deviations.powi(3);
    1.0 / (1.0 + odds.exp())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, which is what is meant"
)]
pub(super) fn ceil(value: f64) -> u32 {
    // A hair below the whole number it stands for is that number.
    (value - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn staffing(mean: f64) -> Staffing {
        Staffing {
            mean,
            deviation: mean.sqrt(),
            rate: mean / 4.0,
            slots: 8.0,
            freed: 0.25,
        }
    }

    #[test]
    fn the_tail_is_that_of_the_normal_distribution() {
        for (deviations, share) in [
            (0.0, 0.5),
            (1.0, 0.158_66),
            (2.0, 0.022_75),
            (-1.0, 0.841_34),
        ] {
            assert!(
                (upper_tail(deviations) - share).abs() < 2e-4,
                "{deviations}"
            );
        }
    }

    #[test]
    fn a_wait_that_is_allowed_needs_fewer_replicas() {
        let patient = staffing(100.0);
        let impatient = Staffing {
            freed: 0.0,
            ..patient
        };
        assert!(patient.replicas(16.0) < impatient.replicas(16.0));
    }

    #[test]
    fn a_load_beyond_any_fleet_is_answered() {
        assert_eq!(staffing(1e300).replicas(16.0), u32::MAX);
        assert_eq!(staffing(f64::NAN).replicas(16.0), 0);
    }

    proptest! {
        #[test]
        fn the_number_is_the_one_that_a_search_one_by_one_finds(
            mean in 0.1..2_000.0_f64,
            spread in 0.5..4.0_f64,
            price in 0.5..2_000.0_f64,
        ) {
            let load = Staffing { deviation: spread * mean.sqrt(), ..staffing(mean) };
            let mut replicas = load.holding(0.0);
            while price * load.rate * (load.late_share(replicas) - load.late_share(replicas + 1)) > 1.0 {
                replicas += 1;
            }
            prop_assert_eq!(load.replicas(price), replicas);
            prop_assert!(load.replicas(2.0 * price) >= replicas);
        }
    }
}
