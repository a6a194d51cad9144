//! scratch
use lepton_planner::simulate::autoscaling::*;
use lepton_types::DurationMs;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let traces: Vec<String> = args[1].split(',').map(String::from).collect();
    let colds: Vec<u64> = args[2].split(',').map(|c| c.parse().unwrap()).collect();
    let only = args.get(3).cloned();
    for t in &traces {
        let requests = match t.split_once(':') {
            Some((s, seed)) => synthetic(
                Shape::ALL.iter().find(|x| x.0 == s).unwrap().1,
                seed.parse().unwrap(), 2),
            None => read_requests(&std::fs::read_to_string(t).unwrap()).unwrap(),
        };
        for &c in &colds {
            let sc = Scenario {
                requests: requests.clone(),
                cold_start: DurationMs::from_secs(c),
                slots: 8,
                warm: None, measure_from: DurationMs::from_secs(if t.contains(':') { 3600 } else { 0 }),
                seed: 1,
            };
            for (n, p) in Policy::ALL {
                if let Some(o) = &only
                    && !o.split(',').any(|x| x == n)
                {
                    continue;
                }
                let t0 = std::time::Instant::now();
                let f = simulate(&sc, p, &mut |_, _| {});
                println!(
                    "{:<12} {:>3} {:<14} {:>8.0} late {:>6.2} ratio {:.3} clair {:.0} starts {:.0} warm {} [{}] {:?}",
                    t.rsplit('/').next().unwrap(),
                    c,
                    n,
                    f.replica_seconds,
                    f.late_pct,
                    f.ratio,
                    f.clairvoyant_replica_seconds,
                    f.clairvoyant_with_starts_replica_seconds,
                    f.warm,
                    f.setting,
                    t0.elapsed()
                );
            }
        }
    }
}
