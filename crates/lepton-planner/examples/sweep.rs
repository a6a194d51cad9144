//! scratch
use lepton_planner::simulate::autoscaling::*;
use lepton_planner::autoscaling::*;
use lepton_types::DurationMs;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let requests = match args[1].split_once(':') {
        Some((s, seed)) => synthetic(Shape::ALL.iter().find(|x| x.0 == s).unwrap().1, seed.parse().unwrap(), 2),
        None => read_requests(&std::fs::read_to_string(&args[1]).unwrap()).unwrap(),
    };
    for c in [10u64, 30, 90] {
        let sc = Scenario { requests: requests.clone(), cold_start: DurationMs::from_secs(c), slots: 8, warm: None, measure_from: DurationMs::from_secs(if args[1].contains(':') { 3600 } else { 0 }), seed: 1 };
        let mut all = Vec::new();
        for z in [-10, -5, 0, 5, 10] { for w in [30, 60, 120, 300] { for h in [0, c as u32, 60, 300] { for f in [0, 5, 10, 15, 20, 25] {
            let fig = run_scaler(&sc, Scaler::Forecast(Forecast::new(ForecastSetting { z_tenths: z, window_s: w, hold_s: h, floor: 0, band_tenths: f })));
            all.push((fig.late_pct > 1.0, fig.replica_seconds, fig.late_pct, z, w, h, f, fig.ratio));
        }}}}
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        for a in &all[..6] { println!("{c} {a:?}"); }
    }
}
