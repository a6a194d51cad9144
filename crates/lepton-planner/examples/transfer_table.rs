//! scratch
use lepton_planner::simulate::transfer::*;
use lepton_planner::transfer::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let n: u64 = args[1].parse().unwrap();
    let net = read_network(
        &std::fs::read_to_string(&args[2]).unwrap(),
        &std::fs::read_to_string(&args[3]).unwrap(),
    )
    .unwrap();
    println!("{} regions {} links", net.regions.len(), net.links.len());
    for (name, m) in Method::ALL {
        let t0 = std::time::Instant::now();
        let t0 = t0;
        for seed in 0..n {
            let v = draw(&net, seed);
            let _ = search(&v, m, &lepton_planner::PlanRng::from_seed(seed));
        }
        let el = t0.elapsed();
        let mut gaps = Vec::new();
        let mut bad = 0;
        for seed in 0..n {
            match simulate(&net, seed, m) {
                Ok(f) => {
                    gaps.push(f.gap_pct);
                    if n <= 5 {
                        println!("{name} {f:?}");
                    }
                }
                Err(e) => {
                    bad += 1;
                    println!("{e}");
                }
            }
        }
        gaps.sort_by(f64::total_cmp);
        println!(
            "{name:<10} mean gap {:.3} median {:.3} p90 {:.3} max {:.3} failed {bad} time each {:?}",
            gaps.iter().sum::<f64>() / gaps.len() as f64,
            gaps[gaps.len() / 2],
            gaps[gaps.len() * 9 / 10],
            gaps[gaps.len() - 1],
            el / n as u32
        );
    }
}
