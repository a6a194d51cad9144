//! Regions, what passes between them, and what that costs.
//!
//! Owns: the network and its faults. Must not know: any transfer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A link slower or faster than this, in gigabits a second, or a price beyond it, in dollars, is a
/// slip of a pen: rounding would leave nothing of the others.
const MAGNITUDE_MOST: f64 = 1e6;

/// A link from one region to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Gigabits a second from one machine to one machine.
    pub gbps: f64,
    /// Dollars a gigabyte that leaves.
    pub usd_per_gb: f64,
}

/// Regions and the links between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Names; everything else speaks of places in this list.
    pub regions: Vec<String>,
    /// From, to, link: sorted, one a pair.
    pub links: Vec<(usize, usize, Link)>,
    /// Dollars an hour for one machine, in each region.
    pub machine_usd_per_hour: Vec<f64>,
    /// Machines that may be rented in one region.
    pub machines_most: u32,
}

/// A network that cannot be planned on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NetworkFault {
    /// A link from or to a region that is not there, or to itself.
    #[error("link {index} joins no two regions")]
    Dangling {
        /// Place in the list of links.
        index: usize,
    },
    /// A throughput or price that is no number, below zero, or of no magnitude that exists.
    #[error("link {index} has a throughput of {gbps} Gbit/s at ${usd_per_gb} a GB")]
    Senseless {
        /// Place in the list of links.
        index: usize,
        /// Throughput.
        gbps: f64,
        /// Price.
        usd_per_gb: f64,
    },
    /// A machine's price that is no number, below zero, beyond all that exist, or missing.
    #[error("`{region}` has no price of a machine that can be paid")]
    Price {
        /// The region.
        region: String,
    },
}

impl Network {
    /// From links by name; links of nothing and to the region itself are left out.
    #[must_use]
    pub fn of(
        links: &BTreeMap<(String, String), Link>,
        machine_usd_per_hour: f64,
        machines_most: u32,
    ) -> Self {
        let mut regions: Vec<String> = links
            .keys()
            .flat_map(|(from, to)| [from.clone(), to.clone()])
            .collect();
        regions.sort_unstable();
        regions.dedup();
        let place = |name: &String| regions.binary_search(name).unwrap_or(0);
        let links = links
            .iter()
            .filter(|((from, to), link)| from != to && link.gbps > 0.0)
            .map(|((from, to), link)| (place(from), place(to), *link))
            .collect();
        Self {
            machine_usd_per_hour: vec![machine_usd_per_hour; regions.len()],
            regions,
            links,
            machines_most,
        }
    }

    /// What makes the network impossible to plan on.
    ///
    /// # Errors
    /// The first fault.
    pub fn validate(&self) -> Result<(), NetworkFault> {
        for (index, (from, to, link)) in self.links.iter().enumerate() {
            if from == to || *from >= self.regions.len() || *to >= self.regions.len() {
                return Err(NetworkFault::Dangling { index });
            }
            let sound = (1.0 / MAGNITUDE_MOST..=MAGNITUDE_MOST).contains(&link.gbps)
                && (0.0..=MAGNITUDE_MOST).contains(&link.usd_per_gb);
            if !sound {
                return Err(NetworkFault::Senseless {
                    index,
                    gbps: link.gbps,
                    usd_per_gb: link.usd_per_gb,
                });
            }
        }
        for (index, region) in self.regions.iter().enumerate() {
            let price = self.machine_usd_per_hour.get(index);
            if !price.is_some_and(|usd| (0.0..=MAGNITUDE_MOST).contains(usd)) {
                return Err(NetworkFault::Price {
                    region: region.clone(),
                });
            }
        }
        Ok(())
    }

    /// Dollars a second for one machine.
    pub(super) fn machine_usd_per_s(&self, region: usize) -> f64 {
        self.machine_usd_per_hour[region] / 3_600.0
    }
}
