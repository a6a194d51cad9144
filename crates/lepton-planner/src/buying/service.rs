//! The cheapest machines for a service that must stay up.
//!
//! Owns: how many of which, spot and on demand. Must not know: how machines are rented.
//!
//! The spot machines of one offer are taken to go together, which is the cautious reading of a
//! zone that runs dry; different offers go independently. The service is up while what is left
//! has the capacity that is asked for. A spot machine is paid for while it is up.

use serde::{Deserialize, Serialize};

use super::view::Offer;

/// Spot offers that are combined at once: the states double with each.
const SPOT_OFFERS_MOST: usize = 10;
/// Mixes that are looked at, at each grain, before the search stops with the best found.
const MIXES_MOST: u64 = 300_000;
/// Capacities that are no further apart are equal.
const HAIR: f64 = 1e-9;
/// The coarsest grain has so many counts of an offer at most.
const COUNTS_COARSE: u32 = 8;

/// Everything that [`mix`] looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceView {
    /// What can be bought, and the share of the time that its spot machines are up.
    pub offers: Vec<(Offer, f64)>,
    /// Reference machines that must be up: an offer counts for its speed.
    pub capacity: f64,
    /// The share of the time at which they must.
    pub availability: f64,
    /// Machines of one offer at most.
    pub machines_most: u32,
}

/// How many of each offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePlan {
    /// On-demand machines, by offer.
    pub on_demand: Vec<u32>,
    /// Spot machines, by offer.
    pub spot: Vec<u32>,
    /// Dollars an hour on average.
    pub usd_per_hour: f64,
    /// The share of the time at which the capacity is up.
    pub availability: f64,
    /// Whether every mix that could cost less was looked at.
    pub proven: bool,
}

/// Why no mix does.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ServiceError {
    /// A target that makes no sense.
    #[error("{what} makes no sense: `{value}`")]
    Senseless {
        /// Which.
        what: &'static str,
        /// What was given.
        value: f64,
    },
    /// Nothing that is offered is large enough.
    #[error(
        "{machines_most} machines of each offer come to a capacity of {most}, less than {capacity}"
    )]
    TooLarge {
        /// The limit.
        machines_most: u32,
        /// All together.
        most: f64,
        /// Asked for.
        capacity: f64,
    },
}

/// The cheapest mix that keeps the availability.
///
/// Branch and bound over spot counts, by offers of falling saving, first over counts far apart, then over
/// ever nearer ones; what the spot machines leave to be done by on-demand ones is filled with the
/// cheapest capacity.
///
/// # Errors
/// A view that makes no sense, or asks for more than there is.
pub fn mix(view: &ServiceView) -> Result<ServicePlan, ServiceError> {
    validate(view)?;
    let sane: Vec<usize> = (0..view.offers.len())
        .filter(|at| view.offers[*at].0.fault().is_none())
        .collect();
    let most: f64 = sane
        .iter()
        .map(|at| view.offers[*at].0.speed * f64::from(view.machines_most))
        .sum();
    if most < view.capacity {
        return Err(ServiceError::TooLarge {
            machines_most: view.machines_most,
            most,
            capacity: view.capacity,
        });
    }
    let mut spots: Vec<usize> = sane
        .iter()
        .copied()
        .filter(|at| view.offers[*at].0.spot_usd_per_hour.is_some())
        .collect();
    let unit = |at: usize| {
        view.offers[at].0.spot_usd_per_hour.unwrap_or(f64::INFINITY) / view.offers[at].0.speed
    };
    spots.sort_by(|a, b| unit(*a).total_cmp(&unit(*b)));
    // The fill is the cheapest where machines are alike; a mix of large and small ones it may miss.
    let speed = sane.first().map_or(0.0, |at| view.offers[*at].0.speed);
    let alike = |at: &usize| view.offers[*at].0.speed.total_cmp(&speed).is_eq();
    let is_exact = spots.len() <= SPOT_OFFERS_MOST && sane.iter().all(alike);
    spots.truncate(SPOT_OFFERS_MOST);
    let fixed = |at: usize| view.offers[at].0.on_demand_usd_per_hour / view.offers[at].0.speed;
    let mut cheapest = sane;
    cheapest.sort_by(|a, b| fixed(*a).total_cmp(&fixed(*b)));
    let mut search = Search {
        view,
        cheapest,
        spots,
        spot: vec![0; view.offers.len()],
        best: None,
        seen: 0,
        step: 1,
    };
    let largest = search.spots.iter().map(|at| search.enough(*at)).max();
    let mut step = largest
        .unwrap_or(0)
        .div_ceil(COUNTS_COARSE)
        .max(1)
        .next_power_of_two();
    while step > 0 {
        (search.step, search.seen) = (step, 0);
        search.descend(0, 0.0);
        step /= 2;
    }
    let proven = is_exact && search.seen <= MIXES_MOST;
    search
        .best
        .map(|best| ServicePlan { proven, ..best })
        .ok_or(ServiceError::TooLarge {
            machines_most: view.machines_most,
            most,
            capacity: view.capacity,
        })
}

fn validate(view: &ServiceView) -> Result<(), ServiceError> {
    if !view.capacity.is_finite() || view.capacity <= 0.0 {
        return Err(ServiceError::Senseless {
            what: "the capacity",
            value: view.capacity,
        });
    }
    if !(0.0..=1.0).contains(&view.availability) {
        return Err(ServiceError::Senseless {
            what: "the availability",
            value: view.availability,
        });
    }
    match view.offers.iter().find(|(_, up)| !(0.0..=1.0).contains(up)) {
        Some((_, up)) => Err(ServiceError::Senseless {
            what: "the share of the time that spot is up",
            value: *up,
        }),
        None => Ok(()),
    }
}

struct Search<'a> {
    view: &'a ServiceView,
    /// Offers on demand, the cheapest capacity first.
    cheapest: Vec<usize>,
    spots: Vec<usize>,
    spot: Vec<u32>,
    best: Option<ServicePlan>,
    seen: u64,
    /// Only multiples of it are looked at, and the most that could be of use.
    step: u32,
}

impl Search<'_> {
    /// More machines of an offer than this are of no use, or not to be had.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and the conversion saturates"
    )]
    fn enough(&self, at: usize) -> u32 {
        let enough = (self.view.capacity / self.view.offers[at].0.speed).ceil() as u32;
        enough.min(self.view.machines_most)
    }

    fn descend(&mut self, depth: usize, spot_usd: f64) {
        self.seen += 1;
        let beaten = self
            .best
            .as_ref()
            .is_some_and(|best| spot_usd >= best.usd_per_hour);
        if beaten || self.seen > MIXES_MOST {
            return;
        }
        let Some(at) = self.spots.get(depth).copied() else {
            self.finish(spot_usd);
            return;
        };
        let (offer, up) = &self.view.offers[at];
        let usd = up * offer.spot_usd_per_hour.unwrap_or(f64::INFINITY);
        let enough = self.enough(at);
        let steps = (0..enough).step_by(self.step as usize);
        for count in steps.chain(std::iter::once(enough)) {
            let dearer = spot_usd + usd * f64::from(count);
            let beaten = |best: &ServicePlan| dearer >= best.usd_per_hour;
            // More of them are dearer still.
            if self.seen > MIXES_MOST || self.best.as_ref().is_some_and(beaten) {
                break;
            }
            self.spot[at] = count;
            self.descend(depth + 1, spot_usd + usd * f64::from(count));
        }
        self.spot[at] = 0;
    }

    /// The least on-demand capacity that lifts this spot mix to the target, bought cheapest first.
    fn finish(&mut self, spot_usd: f64) {
        let states = self.states();
        // What need never be up needs no machine.
        let (mut up, mut needed) = (0.0, (self.view.availability <= 0.0).then_some(0.0));
        for (capacity, probability) in &states {
            if needed.is_some() {
                break;
            }
            up += probability;
            if up >= self.view.availability - 1e-12 {
                needed = Some((self.view.capacity - capacity).max(0.0));
            }
        }
        let Some((on_demand, usd)) = needed.and_then(|needed| self.fill(needed)) else {
            return;
        };
        let total = spot_usd + usd;
        if self
            .best
            .as_ref()
            .is_some_and(|best| best.usd_per_hour <= total + 1e-12)
        {
            return;
        }
        let fixed: f64 = on_demand
            .iter()
            .zip(&self.view.offers)
            .map(|(count, (offer, _))| f64::from(*count) * offer.speed)
            .sum();
        let availability = states
            .iter()
            .filter(|(capacity, _)| capacity + fixed >= self.view.capacity - 1e-9)
            .map(|(_, probability)| probability)
            .sum();
        self.best = Some(ServicePlan {
            on_demand,
            spot: self.spot.clone(),
            usd_per_hour: total,
            availability,
            proven: false,
        });
    }

    /// Spot capacity and its probability, most capacity first.
    fn states(&self) -> Vec<(f64, f64)> {
        let mut states = vec![(0.0, 1.0)];
        for at in self.spots.iter().copied().filter(|at| self.spot[*at] > 0) {
            let (offer, up) = &self.view.offers[at];
            let capacity = f64::from(self.spot[at]) * offer.speed;
            states = states
                .into_iter()
                .flat_map(|(have, probability)| {
                    [
                        (have + capacity, probability * up),
                        (have, probability * (1.0 - up)),
                    ]
                })
                .collect();
        }
        states.sort_by(|a, b| b.0.total_cmp(&a.0));
        states
    }

    /// On-demand machines for `needed`: the cheapest capacity first, and one last machine of any offer where that
    /// comes to less.
    fn fill(&self, needed: f64) -> Option<(Vec<u32>, f64)> {
        let mut bought = vec![0; self.view.offers.len()];
        if needed <= HAIR {
            return Some((bought, 0.0));
        }
        let offer = |at: usize| &self.view.offers[at].0;
        let price = |at: usize| offer(at).on_demand_usd_per_hour;
        let room = |at: usize| self.view.machines_most - self.spot[at];
        let mut best: Option<(Vec<u32>, f64)> = None;
        let (mut usd, mut left) = (0.0, needed);
        for at in self.cheapest.iter().copied() {
            for last in self.cheapest.iter().copied() {
                let rest = (left - offer(last).speed).max(0.0);
                let before = machines(rest / offer(at).speed);
                let of_last = bought[last] + if last == at { before } else { 0 };
                if before > room(at) || of_last >= room(last) {
                    continue;
                }
                let total = usd + f64::from(before) * price(at) + price(last);
                if best.as_ref().is_none_or(|(_, least)| total < *least) {
                    let mut mix = bought.clone();
                    mix[at] += before;
                    mix[last] += 1;
                    best = Some((mix, total));
                }
            }
            let all = machines(left / offer(at).speed).min(room(at));
            bought[at] = all;
            usd += f64::from(all) * price(at);
            left -= f64::from(all) * offer(at).speed;
            if left <= HAIR {
                break;
            }
        }
        best
    }
}

/// So many machines at least, a hair below the whole number being that number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and the conversion saturates"
)]
fn machines(exact: f64) -> u32 {
    (exact - HAIR).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buying::SpotHistory;

    fn offer(name: &str, on_demand: f64, spot: f64) -> Offer {
        Offer {
            name: name.to_owned(),
            speed: 1.0,
            on_demand_usd_per_hour: on_demand,
            spot_usd_per_hour: Some(spot),
            history: SpotHistory::default(),
        }
    }

    #[test]
    fn two_flaky_zones_back_each_other_up() {
        let view = ServiceView {
            offers: vec![(offer("a", 3.0, 1.0), 0.95), (offer("b", 3.0, 1.0), 0.95)],
            capacity: 1.0,
            availability: 0.99,
            machines_most: 10,
        };
        let plan = mix(&view).unwrap();
        // 1 − 0.05² = 0.9975 for two dollars while both are up; on demand would be three.
        assert_eq!(
            (plan.spot.as_slice(), plan.usd_per_hour, plan.proven),
            ([1, 1].as_slice(), 1.9, true)
        );
        assert!((plan.availability - 0.9975).abs() < 1e-9);
        let always = mix(&ServiceView {
            availability: 1.0,
            ..view.clone()
        })
        .unwrap();
        assert_eq!((always.on_demand, always.usd_per_hour), (vec![1, 0], 3.0));
    }

    #[test]
    fn a_large_service_is_bought_as_a_small_one_is() {
        let zone = |name: &str, up| (offer(name, 3.0, 1.0), up);
        let of = |capacity| {
            let view = ServiceView {
                offers: vec![
                    zone("a", 0.8),
                    zone("b", 0.7),
                    zone("c", 0.75),
                    zone("d", 0.6),
                ],
                capacity,
                availability: 0.95,
                machines_most: 1_000,
            };
            mix(&view).unwrap()
        };
        let (small, large) = (of(2.0), of(64.0));
        assert!(small.proven && small.usd_per_hour < 3.0 * 2.0, "{small:?}");
        assert!(
            large.usd_per_hour <= 32.0 * small.usd_per_hour * 1.01,
            "{large:?}"
        );
        assert!(large.availability >= 0.95);
    }

    #[test]
    fn a_thousand_machines_are_bought_as_soon_as_one_is() {
        let zone = |name: &str, up| (offer(name, 3.0, 1.0), up);
        let plan = mix(&ServiceView {
            offers: vec![zone("a", 0.8), zone("b", 0.7), zone("c", 0.6)],
            capacity: 4e9,
            availability: 0.5,
            machines_most: u32::MAX,
        });
        let plan = plan.unwrap();
        assert!(plan.usd_per_hour < 3.0 * 4e9 && plan.availability >= 0.5);
    }

    #[test]
    fn a_large_machine_is_bought_only_where_small_ones_come_to_more() {
        let of = |speed: f64, usd: f64| {
            let of_speed = Offer {
                speed,
                spot_usd_per_hour: None,
                ..offer("any", usd, 0.0)
            };
            (of_speed, 0.0)
        };
        let bought = |large: (Offer, f64), capacity, availability| {
            let plan = mix(&ServiceView {
                offers: vec![of(1.0, 1.0), large],
                capacity,
                availability,
                machines_most: 10,
            });
            let plan = plan.unwrap();
            (plan.on_demand, plan.proven)
        };
        assert_eq!(bought(of(2.0, 100.0), 2.0, 1.0), (vec![2, 0], false));
        assert_eq!(bought(of(1.5, 1.6), 1.5, 1.0), (vec![0, 1], false));
        assert_eq!(bought(of(4.0, 4.5), 12.5, 1.0), (vec![9, 1], false));
        assert_eq!(bought(of(1.0, 2.0), 2.0, 0.0), (vec![0, 0], true));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let view = ServiceView {
            offers: vec![(offer("a", 3.0, 1.0), 0.95)],
            capacity: 40.0,
            availability: 0.9,
            machines_most: 10,
        };
        assert_eq!(
            mix(&view).unwrap_err().to_string(),
            "10 machines of each offer come to a capacity of 10, less than 40"
        );
        let above_one = ServiceView {
            availability: 1.5,
            ..view
        };
        assert_eq!(
            mix(&above_one).unwrap_err().to_string(),
            "the availability makes no sense: `1.5`"
        );
    }
}
