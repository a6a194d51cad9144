//! Plans seeded transfers on a measured grid of regions.
//!
//! Owns: the formats, the draw of transfers, the figures. Must not know: files, or how figures are printed.

use std::collections::BTreeMap;

use rand::Rng as _;
use serde::Serialize;

use super::trace::{TraceError, amount, field};
use crate::PlanRng;
use crate::transfer::{
    Link, Method, Network, Report, TransferError, TransferPlan, TransferView, check, plan,
};

/// What a machine that relays costs an hour: m5.8xlarge, n2-standard-32 and D32 v5 are within 2 %.
pub const MACHINE_USD_PER_HOUR: f64 = 1.54;
/// Machines a region, as in Skyplane's evaluation.
pub const MACHINES_MOST: u32 = 8;

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
        let usd = amount(field(&fields, 4, "cost", line)?, "cost", line)?;
        let ends = (fields[0].trim().to_owned(), fields[1].trim().to_owned());
        prices.insert(ends, usd);
    }
    Ok(prices)
}

fn read_links(throughput: &str, prices: &Prices) -> Result<Network, TraceError> {
    let mut links: BTreeMap<(String, String), Link> = BTreeMap::new();
    for (line, fields) in rows(throughput, "src_region,src_tier,dst_region,dst_tier,gbps")? {
        let gbps = amount(field(&fields, 4, "gbps", line)?, "gbps", line)?;
        if fields[1].trim() != "PREMIUM" || fields[3].trim() != "PREMIUM" {
            continue;
        }
        let ends = (fields[0].trim().to_owned(), fields[2].trim().to_owned());
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

type Row<'a> = (usize, Vec<&'a str>);

fn rows<'a>(text: &'a str, header: &str) -> Result<Vec<Row<'a>>, TraceError> {
    let mut lines = text.lines().enumerate();
    let (_, first) = lines
        .next()
        .ok_or_else(|| TraceError::at(1, "the file is empty"))?;
    if first.trim() != header {
        let shown: String = first.chars().take(64).collect();
        return Err(TraceError::at(
            1,
            format!("the header is not `{header}`: `{shown}`"),
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

/// Adds up the figures of many transfers; `None` stands for one without a plan.
#[must_use]
pub fn summarise(figures: &[Option<Figures>]) -> Summary {
    let found: Vec<&Figures> = figures.iter().flatten().collect();
    let mut gaps: Vec<f64> = found.iter().map(|figures| figures.gap_pct).collect();
    gaps.sort_by(f64::total_cmp);
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    Summary {
        cost_usd: found.iter().map(|figures| figures.cost_usd).sum(),
        seconds: found.iter().map(|figures| figures.seconds).sum(),
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
}
