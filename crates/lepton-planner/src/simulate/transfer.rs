//! Plans seeded transfers on a measured grid of regions.
//!
//! Owns: the formats, the draw of transfers, the figures. Must not know: files, or how figures are printed.

use std::collections::BTreeMap;

use rand::Rng as _;
use serde::Serialize;

use super::trace::{TraceError, amount_up_to, field, shown};
use crate::PlanRng;
use crate::transfer::{
    Link, Method, Network, Report, TransferError, TransferPlan, TransferView, check, fastest, plan,
};

/// What a machine that relays costs an hour: m5.8xlarge, n2-standard-32 and D32 v5 are within 2 %.
pub const MACHINE_USD_PER_HOUR: f64 = 1.54;
/// Machines a region, as in Skyplane's evaluation.
pub const MACHINES_MOST: u32 = 8;
/// A link carries nothing or at least a kilobit; no machine sends faster than the most, nor costs a gigabyte more; beyond are slips of a pen.
const GBPS_LEAST: f64 = 1e-6;
const GBPS_MOST: f64 = 1e5;
const USD_PER_GB_MOST: f64 = 1e5;
/// With a budget and no other limit, a transfer may take a month.
const BUDGET_SECONDS_MOST: f64 = 30.0 * 86_400.0;

/// Reads `src_region,src_tier,dst_region,dst_tier,gbps` and `src,dest,src_tier,dest_tier,cost`; of what was
/// measured more than once the least counts, and only the premium tier, which has prices.
///
/// # Errors
/// A line that is malformed or negative, by its number; a grid without links. With it, which file: 0 for the first.
pub fn read_network(throughput: &str, egress: &str) -> Result<Network, (usize, TraceError)> {
    let prices = read_prices(egress).map_err(|error| (1, error))?;
    read_links(throughput, &prices).map_err(|error| (0, error))
}

type Prices = BTreeMap<(String, String), f64>;

fn read_prices(egress: &str) -> Result<Prices, TraceError> {
    let mut prices = Prices::new();
    for (line, fields) in rows(egress, "src,dest,src_tier,dest_tier,cost")? {
        let text = field(&fields, 4, "cost", line)?;
        let usd = amount_up_to(USD_PER_GB_MOST, text, "cost", line)?;
        let ends = (
            region(&fields, 0, "src", line)?,
            region(&fields, 1, "dest", line)?,
        );
        prices.insert(ends, usd);
    }
    Ok(prices)
}

fn read_links(throughput: &str, prices: &Prices) -> Result<Network, TraceError> {
    let mut links: BTreeMap<(String, String), Link> = BTreeMap::new();
    for (line, fields) in rows(throughput, "src_region,src_tier,dst_region,dst_tier,gbps")? {
        let text = field(&fields, 4, "gbps", line)?;
        let gbps = amount_up_to(GBPS_MOST, text, "gbps", line)?;
        if gbps > 0.0 && gbps < GBPS_LEAST {
            let problem = format!("`gbps` is less than {GBPS_LEAST}: `{}`", shown(text));
            return Err(TraceError::at(line, problem));
        }
        let ends = (
            region(&fields, 0, "src_region", line)?,
            region(&fields, 2, "dst_region", line)?,
        );
        if fields[1].trim() != "PREMIUM" || fields[3].trim() != "PREMIUM" {
            continue;
        }
        if let Some(usd_per_gb) = prices.get(&ends).copied() {
            let link = links.entry(ends).or_insert(Link { gbps, usd_per_gb });
            link.gbps = link.gbps.min(gbps);
        }
    }
    let network = Network::of(&links, MACHINE_USD_PER_HOUR, MACHINES_MOST);
    if network.links.is_empty() {
        return Err(TraceError::at(
            1,
            "no link has both a throughput and a price",
        ));
    }
    Ok(network)
}

fn region(fields: &[&str], index: usize, name: &str, line: usize) -> Result<String, TraceError> {
    match field(fields, index, name, line)? {
        "" => Err(TraceError::at(line, format!("`{name}` is empty"))),
        region => Ok(region.to_owned()),
    }
}

type Row<'a> = (usize, Vec<&'a str>);

fn rows<'a>(text: &'a str, header: &str) -> Result<Vec<Row<'a>>, TraceError> {
    let mut lines = text.lines().enumerate();
    let (_, first) = lines
        .next()
        .ok_or_else(|| TraceError::at(1, "the file is empty"))?;
    if first.trim_start_matches('\u{feff}').trim() != header {
        return Err(TraceError::at(
            1,
            format!("the header is not `{header}`: `{}`", shown(first)),
        ));
    }
    lines
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(index, text)| {
            let fields: Vec<&str> = text.split(',').collect();
            if fields.len() == 5 {
                Ok((index + 1, fields))
            } else {
                Err(TraceError::at(
                    index + 1,
                    format!("{} fields where 5 belong", fields.len()),
                ))
            }
        })
        .collect()
}

/// A transfer drawn from a seed: two regions with a direct link, 100 GB to 10 TB, and a time that asks for a fifth
/// to nine tenths of what the fastest links out of the one and into the other could carry with
/// every machine, which the direct link often cannot.
#[must_use]
pub fn draw(network: &Network, seed: u64) -> TransferView {
    let mut rng = PlanRng::from_seed(seed).stream("seeded transfer", 0);
    let (from, to, _) = network.links[rng.random_range(0..network.links.len())];
    let gigabytes = 100.0 * 100.0_f64.powf(rng.random::<f64>());
    let share = 0.2 + 0.7 * rng.random::<f64>();
    let fastest = |of: fn(&(usize, usize, Link), usize) -> bool, end: usize| {
        network
            .links
            .iter()
            .filter(|link| of(link, end))
            .map(|(_, _, link)| link.gbps)
            .fold(0.0, f64::max)
    };
    let out = fastest(|(from, _, _), end| *from == end, from);
    let into = fastest(|(_, to, _), end| *to == end, to);
    let most = f64::from(network.machines_most) * out.min(into);
    TransferView {
        network: network.clone(),
        from,
        to,
        gigabytes,
        seconds_most: gigabytes * 8.0 / (share * most),
        usd_most: None,
    }
}

/// What a method came to on one transfer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// What it costs.
    pub cost_usd: f64,
    /// How long it takes.
    pub seconds: f64,
    /// How far above the bound it may be, in percent.
    pub gap_pct: f64,
    /// No plan costs less.
    pub bound_usd: f64,
    /// In words.
    pub reason: String,
}

/// Plans the transfer of `seed` with `method`.
///
/// # Errors
/// Limits that nothing keeps.
pub fn simulate(network: &Network, seed: u64, method: Method) -> Result<Figures, TransferError> {
    let view = draw(network, seed);
    let (plan, report): (TransferPlan, Report) = plan(&view, method, &PlanRng::from_seed(seed))?;
    debug_assert_eq!(check(&view, &plan), Vec::new());
    Ok(Figures {
        cost_usd: plan.usd,
        seconds: plan.seconds,
        gap_pct: report.gap_pct,
        bound_usd: report.bound_usd,
        reason: report.reason,
    })
}

/// What a budget buys, by one method.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetFigures {
    /// How long it takes.
    pub seconds: f64,
    /// What it costs.
    pub cost_usd: f64,
    /// No plan within the budget takes less.
    pub bound_seconds: f64,
    /// How far above that it may be, in percent.
    pub gap_pct: f64,
}

/// Plans the transfer of `seed` with `method`, as fast as `usd_most` allows; its own time limit does
/// not count.
///
/// # Errors
/// A budget that is not a number above zero, or that nothing keeps.
pub fn simulate_budget(
    network: &Network,
    seed: u64,
    method: Method,
    usd_most: f64,
) -> Result<BudgetFigures, TransferError> {
    let view = TransferView {
        seconds_most: BUDGET_SECONDS_MOST,
        usd_most: Some(usd_most),
        ..draw(network, seed)
    };
    let found = fastest(&view, method, &PlanRng::from_seed(seed))?;
    debug_assert_eq!(check(&view, &found.plan), Vec::new());
    let (seconds, bound_seconds) = (found.plan.seconds, found.bound_seconds);
    Ok(BudgetFigures {
        seconds,
        cost_usd: found.plan.usd,
        bound_seconds,
        gap_pct: 100.0 * (seconds - bound_seconds).max(0.0) / bound_seconds.max(1e-9),
    })
}

/// What a method came to on many transfers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// What those that it planned cost in all.
    pub cost_usd: f64,
    /// How long they take in all.
    pub seconds: f64,
    /// The mean distance from the bound, in percent.
    pub gap_pct: f64,
    /// Nine in ten are as near as this.
    pub gap_pct_p90: f64,
    /// None is farther.
    pub gap_pct_max: f64,
    /// Transfers for which it found no plan.
    pub failed: u32,
    /// Transfers asked for.
    pub transfers: u32,
}

/// What counts of one transfer in a summary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Came {
    cost_usd: f64,
    seconds: f64,
    gap_pct: f64,
}

impl From<Figures> for Came {
    fn from(figures: Figures) -> Self {
        Self {
            cost_usd: figures.cost_usd,
            seconds: figures.seconds,
            gap_pct: figures.gap_pct,
        }
    }
}

impl From<BudgetFigures> for Came {
    fn from(figures: BudgetFigures) -> Self {
        Self {
            cost_usd: figures.cost_usd,
            seconds: figures.seconds,
            gap_pct: figures.gap_pct,
        }
    }
}

/// Adds up the figures of many transfers; `None` stands for one without a plan.
#[must_use]
pub fn summarise(figures: &[Option<Came>]) -> Summary {
    let found: Vec<&Came> = figures.iter().flatten().collect();
    let mut gaps: Vec<f64> = found.iter().map(|came| came.gap_pct).collect();
    gaps.sort_by(f64::total_cmp);
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    Summary {
        cost_usd: found.iter().map(|came| came.cost_usd).sum(),
        seconds: found.iter().map(|came| came.seconds).sum(),
        gap_pct: gaps.iter().sum::<f64>() / f64::from(count(gaps.len()).max(1)),
        gap_pct_p90: gaps.get(gaps.len() * 9 / 10).copied().unwrap_or(0.0),
        gap_pct_max: gaps.last().copied().unwrap_or(0.0),
        failed: count(figures.len() - found.len()),
        transfers: count(figures.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EGRESS: &str =
        "src,dest,src_tier,dest_tier,cost\na,b,PREMIUM,PREMIUM,0.02\nb,a,PREMIUM,PREMIUM,0.02\n";
    const THROUGHPUT: &str = "src_region,src_tier,dst_region,dst_tier,gbps\na,PREMIUM,b,PREMIUM,5.0\nb,PREMIUM,a,STANDARD,4.0\na,PREMIUM,b,PREMIUM,4.5\n";

    #[test]
    fn the_grid_is_read_and_bad_lines_are_named() {
        let network = read_network(THROUGHPUT, EGRESS).unwrap();
        assert_eq!((network.regions.len(), network.links.len()), (2, 1));
        assert_eq!(
            network.links[0].2,
            Link {
                gbps: 4.5,
                usd_per_gb: 0.02
            }
        );
        let (file, error) =
            read_network(&format!("{THROUGHPUT}a,PREMIUM,b,PREMIUM,-1\n"), EGRESS).unwrap_err();
        assert_eq!(
            (file, error.to_string().as_str()),
            (0, "line 5: `gbps` is negative: `-1`")
        );
        let (file, error) = read_network(THROUGHPUT, &format!("{EGRESS}a,b\n")).unwrap_err();
        assert_eq!(
            (file, error.to_string().as_str()),
            (1, "line 4: 2 fields where 5 belong")
        );
    }

    #[test]
    fn a_seed_draws_the_same_transfer_again_and_its_plan_keeps_the_rules() {
        let network = read_network(THROUGHPUT, EGRESS).unwrap();
        assert_eq!(draw(&network, 7), draw(&network, 7));
        let figures = simulate(&network, 7, Method::Lepton).unwrap();
        assert!(figures.gap_pct < 1e-3 && figures.cost_usd > 0.0);
    }

    #[test]
    fn a_budget_buys_time_and_one_too_small_says_how_much_it_takes() {
        let network = read_network(THROUGHPUT, EGRESS).unwrap();
        let cheapest = simulate(&network, 7, Method::Milp).unwrap().cost_usd;
        let at = |usd| simulate_budget(&network, 7, Method::Milp, usd);
        let found = at(2.0 * cheapest).unwrap();
        assert!(
            found.cost_usd <= 2.0 * cheapest && found.gap_pct < 0.2,
            "{found:?}"
        );
        assert!(found.bound_seconds <= found.seconds);
        let refused = at(0.1 * cheapest).unwrap_err().to_string();
        assert!(refused.contains("none costs less than"), "{refused}");
        for senseless in [-1.0, f64::NAN] {
            let refused = at(senseless).unwrap_err();
            assert!(matches!(refused, TransferError::Amount { .. }), "{refused}");
        }
    }

    #[test]
    fn slips_of_a_pen_are_named() {
        let words = |throughput: &str, egress: &str| {
            let (file, error) = read_network(throughput, egress).unwrap_err();
            format!("{file}: {error}")
        };
        assert_eq!(
            words(&format!("{THROUGHPUT}a,PREMIUM,b,PREMIUM,1e300\n"), EGRESS),
            "0: line 5: `gbps` is more than 100000: `1e300`"
        );
        assert_eq!(
            words(THROUGHPUT, &format!("{EGRESS},b,PREMIUM,PREMIUM,0.1\n")),
            "1: line 4: `src` is empty"
        );
        assert_eq!(
            words(&format!("{THROUGHPUT}a,PREMIUM,b,PREMIUM,1e-300\n"), EGRESS),
            "0: line 5: `gbps` is less than 0.000001: `1e-300`"
        );
        assert_eq!(words("", EGRESS), "0: line 1: the file is empty");
    }
}
