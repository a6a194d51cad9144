//! scratch
use lepton_planner::buying::*;
use lepton_planner::simulate::buying::*;
use lepton_types::DurationMs;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let d: u64 = args[1].parse().unwrap();
    for f in &args[2..] {
        let z = read_availability(&std::fs::read_to_string(f).unwrap()).unwrap();
        let sc = Scenario {
            work: DurationMs::from_secs(48 * 3600),
            deadline: DurationMs::from_secs(d * 3600),
            changeover: DurationMs::from_secs(720),
            on_demand_usd_per_hour: 3.06,
            spot_usd_per_hour: 0.918,
            starts: 8,
        };
        let b = 3.06 * 48.2;
        print!("{} ", f.rsplit('/').next().unwrap());
        for s in 0..8 {
            let from = start_of(&sc, &z, s);
            let n = (d * 3600 / 195) as usize;
            let o = optimum_usd(&KnownJob {
                up: &z.up[from..from + n],
                tick_ms: 195000,
                work_ms: 48 * 3600 * 1000,
                changeover_ms: 720000,
                on_demand_usd_per_hour: 3.06,
                spot_usd_per_hour: 0.918,
            })
            .unwrap();
            let g = run_job(&sc, &z, &[], from, Policy::Greedy);
            let l = run_job(&sc, &z, &[], from, Policy::Lepton);
            print!(
                "| {:.2} {:.2} {:.2} ({}) ",
                g.usd / b,
                l.usd / b,
                o / b,
                l.changeovers
            );
        }
        println!();
    }
}
