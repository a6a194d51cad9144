//! scratch
use lepton_planner::simulate::buying::*;
use lepton_types::DurationMs;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let starts: usize = args[1].parse().unwrap();
    let zones: Vec<_> = args[2..]
        .iter()
        .map(|f| read_availability(&std::fs::read_to_string(f).unwrap()).unwrap())
        .collect();
    for d in [52, 60, 72] {
        let sc = Scenario {
            work: DurationMs::from_secs(48 * 3600),
            deadline: DurationMs::from_secs(d * 3600),
            changeover: DurationMs::from_secs(720),
            on_demand_usd_per_hour: 3.06,
            spot_usd_per_hour: 0.918,
            starts,
        };
        let mut g = 0.0;
        for (n, p) in [
            ("greedy", Policy::Greedy),
            ("uniform", Policy::UniformProgress),
            ("lepton", Policy::Lepton),
        ] {
            let t0 = std::time::Instant::now();
            let f = simulate(&sc, &zones, p, &mut |_, _| {}).unwrap();
            if n == "greedy" {
                g = f.cost_vs_on_demand;
            }
            println!(
                "{d} {n:<8} {:.4} opt {:.4} missed {} closed {:.3} {:?}",
                f.cost_vs_on_demand,
                f.optimum_vs_on_demand,
                f.missed,
                (g - f.cost_vs_on_demand) / (g - f.optimum_vs_on_demand),
                t0.elapsed()
            );
        }
    }
}
