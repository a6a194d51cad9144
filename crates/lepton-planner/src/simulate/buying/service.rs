//! Buys machines for a service that must stay up, and replays what became of them.
//!
//! Owns: the policies by name, the figures. Must not know: files, or how figures are printed.
//!
//! What is known is the first half of every trace; the second half is replayed. The machines are
//! bought once and kept: on-demand ones are always up, spot ones while their zone is. That zones
//! go independently of one another is what the plan assumes and the replay does not.

use serde::{Deserialize, Serialize};

use super::{Availability, ScenarioError, validate_prices};
use crate::buying::{Offer, ServiceError, ServicePlan, ServiceView, SpotHistory, mix};

/// Machines of one zone at most.
const MACHINES_MOST: u32 = 1_000;

/// A service to be kept up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Service {
    /// Machines that must be up.
    pub machines: u32,
    /// The share of the time at which they must.
    pub available: f64,
    /// Dollars an hour.
    pub on_demand_usd_per_hour: f64,
    /// Dollars an hour.
    pub spot_usd_per_hour: f64,
}

/// A way to buy for a service, by the name it has on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServicePolicy {
    /// Ours: the cheapest mix that keeps the availability, by what was seen of the zones.
    Lepton,
    /// As many spot machines as must be up, spread evenly over the zones, and no other.
    Spread,
    /// Never spot.
    OnDemand,
}

impl ServicePolicy {
    /// Every policy and its name.
    pub const ALL: [(&'static str, Self); 3] = [
        ("lepton", Self::Lepton),
        ("spread", Self::Spread),
        ("on-demand", Self::OnDemand),
    ];
}

/// What a policy came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceFigures {
    /// What was paid in the replay, beside as many machines on demand as must be up.
    pub cost_vs_on_demand: f64,
    /// The share of the time at which enough machines were up, in the replay.
    pub availability: f64,
    /// The same as planned, zones taken to go independently.
    pub availability_planned: f64,
    /// Dollars an hour, as planned.
    pub usd_per_hour: f64,
    /// Machines on demand.
    pub on_demand: u32,
    /// Spot machines, by zone.
    pub spot: Vec<u32>,
    /// Whether no mix that was not looked at could cost less.
    pub proven: bool,
}

/// Why nothing was bought.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ServiceFault {
    /// Prices that make no sense.
    #[error(transparent)]
    Prices(#[from] ScenarioError),
    /// No mix does.
    #[error(transparent)]
    Mix(#[from] ServiceError),
    /// A trace too short to be learnt from and replayed.
    #[error("a trace of {samples} samples is too short: half is learnt from, half is replayed")]
    Short {
        /// The number of the trace among those given.
        zone: usize,
        /// In the trace.
        samples: usize,
    },
}

/// Buys for `service` by what the first half of each trace says, and replays the second.
///
/// # Errors
/// A service or prices that make no sense, or a trace too short.
pub fn simulate(
    service: &Service,
    zones: &[Availability],
    policy: ServicePolicy,
) -> Result<ServiceFigures, ServiceFault> {
    validate_prices(service.on_demand_usd_per_hour, service.spot_usd_per_hour)?;
    if let Some(zone) = zones.iter().position(|zone| zone.up.len() < 2) {
        let samples = zones[zone].up.len();
        return Err(ServiceFault::Short { zone, samples });
    }
    let view = view(service, zones);
    // A service that makes no sense is refused under every policy.
    let ours = mix(&view)?;
    let plan = match policy {
        ServicePolicy::Lepton => ours,
        ServicePolicy::Spread => spread(service, &view),
        ServicePolicy::OnDemand => on_demand(service, &view),
    };
    Ok(replay(service, zones, &plan))
}

fn view(service: &Service, zones: &[Availability]) -> ServiceView {
    let offer = |number: usize| Offer {
        name: format!("zone {}", number + 1),
        speed: 1.0,
        on_demand_usd_per_hour: service.on_demand_usd_per_hour,
        spot_usd_per_hour: Some(service.spot_usd_per_hour),
        history: SpotHistory::default(),
    };
    let offers = zones
        .iter()
        .enumerate()
        .map(|(number, zone)| (offer(number), share(&zone.up[..zone.up.len() / 2])));
    ServiceView {
        offers: offers.collect(),
        capacity: f64::from(service.machines),
        availability: service.available,
        machines_most: MACHINES_MOST,
    }
}

fn spread(service: &Service, view: &ServiceView) -> ServicePlan {
    let zones = u32::try_from(view.offers.len()).unwrap_or(u32::MAX).max(1);
    let of_zone = |zone| service.machines / zones + u32::from(zone < service.machines % zones);
    // All of them are needed, so all zones must be up.
    let used = view.offers.iter().take(service.machines as usize);
    ServicePlan {
        on_demand: vec![0; view.offers.len()],
        spot: (0..zones).map(of_zone).collect(),
        usd_per_hour: (0..zones)
            .zip(&view.offers)
            .map(|(zone, (_, up))| f64::from(of_zone(zone)) * up * service.spot_usd_per_hour)
            .sum(),
        availability: used.map(|(_, up)| up).product(),
        proven: false,
    }
}

fn on_demand(service: &Service, view: &ServiceView) -> ServicePlan {
    let mut on_demand = vec![0; view.offers.len()];
    if let Some(first) = on_demand.first_mut() {
        *first = service.machines;
    }
    ServicePlan {
        on_demand,
        spot: vec![0; view.offers.len()],
        usd_per_hour: f64::from(service.machines) * service.on_demand_usd_per_hour,
        availability: 1.0,
        proven: false,
    }
}

/// Every moment of the second halves at which a zone is looked at.
fn replay(service: &Service, zones: &[Availability], plan: &ServicePlan) -> ServiceFigures {
    let halves: Vec<(&[bool], u64)> = zones
        .iter()
        .map(|zone| (&zone.up[zone.up.len() / 2..], zone.tick.as_millis().max(1)))
        .collect();
    let step = halves.iter().map(|(_, tick)| *tick).min().unwrap_or(1);
    let ends = halves.iter().map(|(up, tick)| up.len() as u64 * tick);
    let steps = ends.min().unwrap_or(0) / step;
    let always: u32 = plan.on_demand.iter().sum();
    let (mut kept, mut spot_steps) = (0_u64, 0_u64);
    for now in (0..steps).map(|number| number * step) {
        let is_up = |(up, tick): &(&[bool], u64)| {
            let sample = usize::try_from(now / tick).ok();
            sample.and_then(|sample| up.get(sample)) == Some(&true)
        };
        let up = halves
            .iter()
            .zip(&plan.spot)
            .filter(|(half, _)| is_up(half));
        let spot: u32 = up.map(|(_, machines)| machines).sum();
        kept += u64::from(always + spot >= service.machines);
        spot_steps += u64::from(spot);
    }
    let steps = count(steps.max(1));
    let paid = f64::from(always) * service.on_demand_usd_per_hour
        + count(spot_steps) / steps * service.spot_usd_per_hour;
    ServiceFigures {
        cost_vs_on_demand: paid / (f64::from(service.machines) * service.on_demand_usd_per_hour),
        availability: count(kept) / steps,
        availability_planned: plan.availability,
        usd_per_hour: plan.usd_per_hour,
        on_demand: always,
        spot: plan.spot.clone(),
        proven: plan.proven,
    }
}

fn share(up: &[bool]) -> f64 {
    let ups = up.iter().filter(|up| **up).count();
    count(ups as u64) / count(up.len().max(1) as u64)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn count(of: u64) -> f64 {
    of as f64
}

#[cfg(test)]
mod tests {
    use lepton_types::DurationMs;

    use super::*;

    fn zone(up: impl Fn(usize) -> bool) -> Availability {
        Availability {
            tick: DurationMs::from_secs(60),
            up: (0..4_000).map(up).collect(),
        }
    }

    const SERVICE: Service = Service {
        machines: 1,
        available: 0.95,
        on_demand_usd_per_hour: 3.0,
        spot_usd_per_hour: 1.0,
    };

    #[test]
    fn two_zones_that_fail_at_other_times_keep_a_service_up_for_less() {
        let zones = [zone(|at| at % 10 != 0), zone(|at| at % 9 != 0)];
        let figures = |policy| simulate(&SERVICE, &zones, policy).unwrap();
        let ours = figures(ServicePolicy::Lepton);
        assert_eq!((ours.on_demand, ours.spot.as_slice()), (0, &[1, 1][..]));
        // Both are down once in ninety samples; a machine is paid for while it is up.
        assert!(
            (ours.availability - (1.0 - 1.0 / 90.0)).abs() < 1e-3,
            "{ours:?}"
        );
        assert!((ours.availability_planned - ours.availability).abs() < 1e-3);
        assert!((ours.cost_vs_on_demand - (0.9 + 8.0 / 9.0) / 3.0).abs() < 1e-3);
        assert!(figures(ServicePolicy::Spread).availability < 0.91);
        let dear = figures(ServicePolicy::OnDemand);
        assert_eq!((dear.cost_vs_on_demand, dear.availability), (1.0, 1.0));
    }

    #[test]
    fn zones_that_fail_together_are_seen_in_the_replay_and_not_in_the_plan() {
        let zones = [zone(|at| at % 10 != 0), zone(|at| at % 10 != 0)];
        let ours = simulate(&SERVICE, &zones, ServicePolicy::Lepton).unwrap();
        assert!(
            ours.availability_planned > 0.98 && ours.availability < 0.91,
            "{ours:?}"
        );
    }

    #[test]
    fn every_figure_is_a_number_and_many_machines_are_bought_as_few_are() {
        let zones: Vec<Availability> = (2..8)
            .map(|every| zone(move |tick| !tick.is_multiple_of(every)))
            .collect();
        let of = |machines, on_demand_usd_per_hour| {
            let service = Service {
                machines,
                on_demand_usd_per_hour,
                ..SERVICE
            };
            simulate(&service, &zones, ServicePolicy::Lepton)
        };
        let large = of(1_000, 3.0).unwrap();
        assert!(large.cost_vs_on_demand <= 1.0 && large.availability_planned >= 0.95);
        assert!(of(1_000, 1e9).unwrap().cost_vs_on_demand.is_finite());
        for senseless in [1e-320, 1e308, f64::NAN, f64::INFINITY] {
            assert!(matches!(of(1, senseless), Err(ServiceFault::Prices(_))));
        }
    }

    #[test]
    fn services_that_make_no_sense_are_refused() {
        let zones = [zone(|_| true)];
        let words = |service: Service, zones: &[Availability]| {
            let refused = simulate(&service, zones, ServicePolicy::OnDemand);
            refused.unwrap_err().to_string()
        };
        assert_eq!(
            words(
                Service {
                    machines: 0,
                    ..SERVICE
                },
                &zones
            ),
            "the capacity makes no sense: `0`"
        );
        assert_eq!(
            words(
                Service {
                    available: 1.5,
                    ..SERVICE
                },
                &zones
            ),
            "the availability makes no sense: `1.5`"
        );
        assert_eq!(
            words(
                Service {
                    machines: 1_001,
                    ..SERVICE
                },
                &zones
            ),
            "1000 machines of each offer come to a capacity of 1000, less than 1001"
        );
        assert_eq!(
            words(
                Service {
                    on_demand_usd_per_hour: 0.0,
                    ..SERVICE
                },
                &zones
            ),
            "the on-demand price is not a number above zero: `0`"
        );
        let short = Availability {
            up: vec![true],
            ..zones[0].clone()
        };
        assert!(words(SERVICE, &[short]).starts_with("a trace of 1 samples is too short"));
    }
}
