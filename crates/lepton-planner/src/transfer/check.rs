//! Refuses a transfer plan that breaks the rules, by its own reading of them.
//!
//! Owns: the rules. Must not know: how a plan is made.

use std::collections::BTreeMap;

use super::plan::{TransferPlan, TransferView};

/// One rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Finding {
    /// A flow where no link is, or of less than nothing.
    #[error("a flow of {gbps} Gbit/s from region {from} to region {to}, where no link is")]
    NoLink {
        /// From.
        from: usize,
        /// To.
        to: usize,
        /// Planned.
        gbps: f64,
    },
    /// What comes in does not go out.
    #[error("region {region} takes in {surplus:.4} Gbit/s more than it gives out")]
    Unbalanced {
        /// Where.
        region: usize,
        /// By how much.
        surplus: f64,
    },
    /// More than the machines there can do.
    #[error("region {region} needs {needed:.3} machines and has {machines}")]
    Overloaded {
        /// Where.
        region: usize,
        /// Needed.
        needed: f64,
        /// Rented.
        machines: u32,
    },
    /// More machines than may be rented.
    #[error("region {region} has {machines} machines, more than may be rented")]
    TooMany {
        /// Where.
        region: usize,
        /// Rented.
        machines: u32,
    },
    /// Too slow.
    #[error("{seconds:.1} s is longer than allowed, or not what the flows take")]
    Late {
        /// Planned.
        seconds: f64,
    },
    /// Another cost than the plan says, or more than may be spent.
    #[error("the plan costs ${usd:.4}, which is not what it says or more than may be spent")]
    Cost {
        /// Worked out.
        usd: f64,
    },
}

/// Relative difference that rounding explains.
const TOLERANCE: f64 = 1e-5;

/// Every rule that `plan` breaks on `view`.
#[must_use]
pub fn check(view: &TransferView, plan: &TransferPlan) -> Vec<Finding> {
    let network = &view.network;
    let mut findings = Vec::new();
    let count = network.regions.len();
    let (mut net, mut sends, mut receives) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
    let links: BTreeMap<(usize, usize), usize> = network
        .links
        .iter()
        .enumerate()
        .map(|(index, (from, to, _))| ((*from, *to), index))
        .collect();
    let mut usd_per_s = 0.0;
    for (from, to, gbps) in &plan.flows {
        let Some(index) = links.get(&(*from, *to)).filter(|_| *gbps >= 0.0) else {
            findings.push(Finding::NoLink {
                from: *from,
                to: *to,
                gbps: *gbps,
            });
            continue;
        };
        let link = network.links[*index].2;
        net[*from] -= gbps;
        net[*to] += gbps;
        sends[*from] += gbps / link.gbps;
        receives[*to] += gbps / link.gbps;
        usd_per_s += link.usd_per_gb * gbps / 8.0;
    }
    let rate = net.get(view.to).copied().unwrap_or(0.0);
    let slack = TOLERANCE * rate.abs().max(1.0);
    for region in 0..count {
        let expected = if region == view.to {
            rate
        } else if region == view.from {
            -rate
        } else {
            0.0
        };
        let surplus = net[region] - expected;
        if surplus.abs() > slack {
            findings.push(Finding::Unbalanced { region, surplus });
        }
        let machines = plan.machines.get(&region).copied().unwrap_or(0);
        let needed = f64::max(sends[region], receives[region]);
        if needed > f64::from(machines) + TOLERANCE * needed.max(1.0) {
            findings.push(Finding::Overloaded {
                region,
                needed,
                machines,
            });
        }
        if machines > network.machines_most {
            findings.push(Finding::TooMany { region, machines });
        }
        usd_per_s += f64::from(machines) * network.machine_usd_per_hour[region] / 3_600.0;
    }
    let seconds = view.gigabytes * 8.0 / rate;
    let takes = (seconds - plan.seconds).abs() <= TOLERANCE * seconds.abs();
    if !takes || plan.seconds > view.seconds_most * (1.0 + TOLERANCE) {
        findings.push(Finding::Late {
            seconds: plan.seconds,
        });
    }
    let usd = usd_per_s * seconds;
    let true_cost = (usd - plan.usd).abs() <= TOLERANCE * usd.abs().max(1.0);
    if !true_cost
        || view
            .usd_most
            .is_some_and(|most| usd > most * (1.0 + TOLERANCE))
    {
        findings.push(Finding::Cost { usd });
    }
    findings
}
