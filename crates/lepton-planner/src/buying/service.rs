//! The cheapest machines for a service that must stay up.
//!
//! Owns: how many of which, spot and on demand. Must not know: how machines are rented.
//!
//! The spot machines of one offer are taken to go together, which is the cautious reading of a
//! zone that runs dry; different offers go independently. The service is up while what is left
//! has the capacity that is asked for.

use serde::{Deserialize, Serialize};

use super::view::Offer;

/// Spot offers that are combined at once: the states double with each.
const SPOT_OFFERS_MOST: usize = 10;
/// Mixes that are looked at before the search stops with the best found.
const MIXES_MOST: u64 = 2_000_000;

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
    /// Dollars an hour.
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
/// Branch and bound over spot counts, by offers of falling saving; what the spot machines leave to be
/// done by on-demand ones is filled with the cheapest capacity.
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
    spots.truncate(SPOT_OFFERS_MOST);
    let mut search = Search {
        view,
        sane,
        spots,
        spot: vec![0; view.offers.len()],
        best: None,
        seen: 0,
    };
    search.descend(0, 0.0);
    let proven = search.seen < MIXES_MOST;
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
    sane: Vec<usize>,
    spots: Vec<usize>,
    spot: Vec<u32>,
    best: Option<ServicePlan>,
    seen: u64,
}

impl Search<'_> {
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
        let (offer, _) = &self.view.offers[at];
        let usd = offer.spot_usd_per_hour.unwrap_or(f64::INFINITY);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and the conversion saturates"
        )]
        let enough = (self.view.capacity / offer.speed).ceil() as u32;
        for count in 0..=enough.min(self.view.machines_most) {
            self.spot[at] = count;
            self.descend(depth + 1, spot_usd + usd * f64::from(count));
        }
        self.spot[at] = 0;
    }

    /// The least on-demand capacity that lifts this spot mix to the target, bought cheapest first.
    fn finish(&mut self, spot_usd: f64) {
        let states = self.states();
        let (mut up, mut needed) = (0.0, None);
        for (capacity, probability) in &states {
            up += probability;
            if up >= self.view.availability - 1e-12 {
                needed = Some((self.view.capacity - capacity).max(0.0));
                break;
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

    /// On-demand machines for `needed`: the cheapest capacity first, the last machine the cheapest that suffices.
    fn fill(&self, needed: f64) -> Option<(Vec<u32>, f64)> {
        let mut order = self.sane.clone();
        let unit = |at: usize| {
            self.view.offers[at].0.on_demand_usd_per_hour / self.view.offers[at].0.speed
        };
        order.sort_by(|a, b| unit(*a).total_cmp(&unit(*b)));
        let (mut bought, mut usd, mut left) = (vec![0; self.view.offers.len()], 0.0, needed);
        for at in order {
            let offer = &self.view.offers[at].0;
            while left > 1e-9 && bought[at] + self.spot[at] < self.view.machines_most {
                let last = self
                    .sane
                    .iter()
                    .copied()
                    .filter(|other| {
                        self.view.offers[*other].0.speed >= left - 1e-9
                            && bought[*other] + self.spot[*other] < self.view.machines_most
                    })
                    .min_by(|a, b| {
                        let price = |at: &usize| self.view.offers[*at].0.on_demand_usd_per_hour;
                        price(a).total_cmp(&price(b))
                    });
                let next = last.unwrap_or(at);
                bought[next] += 1;
                usd += self.view.offers[next].0.on_demand_usd_per_hour;
                left -=
                    self.view.offers[next]
                        .0
                        .speed
                        .max(if next == at { offer.speed } else { 0.0 });
            }
        }
        (left <= 1e-9).then_some((bought, usd))
    }
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
        // 1 − 0.05² = 0.9975 for two dollars; on demand would be three.
        assert_eq!(
            (plan.spot.as_slice(), plan.usd_per_hour, plan.proven),
            ([1, 1].as_slice(), 2.0, true)
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
