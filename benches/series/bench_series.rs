//! Series under load: how fast points are logged at the start and at the end, what they take on disk,
//! and how long a curve of a long series takes.
//!
//! `bench_series [POINTS] [RUNS] [POINTS_OF_THE_LONG_SERIES]`, in a folder of its own that goes at the end.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends where it fails"
)]

use std::path::Path;
use std::time::Instant;

use lepton_store::{Axis, CurveQuery, PointRange, SeriesQuery, Store, Transaction};
use lepton_types::resources::{MetricPoint, Resource, RunSpec};
use lepton_types::{Id, Name, RunId, Timestamp};

/// Points of one append: what clients send at most.
const BATCH: u64 = 1_000;

/// Appends under way at once.
const WRITERS: u64 = 8;

/// Between which the speed is told.
const WINDOWS: u64 = 10;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|n| n.replace('_', "").parse::<u64>().unwrap());
    let points = arguments.next().unwrap_or(100_000_000);
    let runs = arguments.next().unwrap_or(1_000);
    let long = arguments.next().unwrap_or(10_000_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let store = Store::open(&file).unwrap();

    for number in 0..runs {
        make(&store, run(number)).await;
    }
    log_evenly(&store, points, runs).await;
    let started = Instant::now();
    for number in 0..runs {
        store.merge_series(run(number)).await.unwrap();
    }
    println!(
        "the rest merged after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    sizes(&file, points);
    println!(
        "resident now {} MiB, peak {} MiB",
        memory("VmRSS"),
        memory("VmHWM")
    );

    curve(&store, RunId::from(Id::from_bytes([255; 16])), long).await;
    println!("peak {} MiB", memory("VmHWM"));
    store.close().await;
}

/// Points are logged to runs that are there.
async fn make(store: &Store, run: RunId) {
    let (home, at) = (Name::default_project(), Timestamp::from_millis(0));
    let spec = RunSpec::of(Id::from_bytes([254; 16]).into());
    let mut transaction = Transaction::new();
    transaction.create(&Resource::draft(run.id(), home, "a run", at, spec));
    store.commit(transaction).await.unwrap();
}

async fn log_evenly(store: &Store, points: u64, runs: u64) {
    let window = points / WINDOWS;
    for number in 0..WINDOWS {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                let batches = window / BATCH;
                for batch in (0..batches).filter(|batch| batch % WRITERS == writer) {
                    let batch = number * batches + batch;
                    let (run_number, first) = (batch % runs, batch / runs * BATCH);
                    append(&store, run(run_number), series_of(run_number), first).await;
                }
            });
        }
        while let Some(done) = writers.join_next().await {
            done.unwrap();
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "points {} to {} million: {:.0} a second, {:.1} s of processor, resident {} MiB",
            number * window / 1_000_000,
            (number + 1) * window / 1_000_000,
            window as f64 / seconds,
            cpu_seconds() - cpu,
            memory("VmRSS"),
        );
    }
}

async fn append(store: &Store, run: RunId, key: &'static str, first: u64) {
    let points = (first..first + BATCH)
        .map(|step| point(key, step))
        .collect();
    let mut transaction = Transaction::new();
    transaction.append_metrics(run, points);
    store.commit(transaction).await.unwrap();
}

async fn curve(store: &Store, run: RunId, points: u64) {
    make(store, run).await;
    for first in (0..points).step_by(BATCH as usize) {
        append(store, run, "smooth", first).await;
    }
    store.merge_series(run).await.unwrap();
    for (pixels, what) in [(2_000, "whole"), (2_000, "middle fifth")] {
        let range = match what {
            "whole" => PointRange::default(),
            _ => PointRange {
                from_step: Some(points as i64 * 2 / 5 + 17),
                to_step: Some(points as i64 * 3 / 5 + 17),
                ..PointRange::default()
            },
        };
        for axis in [Axis::Step, Axis::Time] {
            let mut times = Vec::new();
            let mut count = 0;
            for _ in 0..20 {
                let query = CurveQuery {
                    run,
                    key: "smooth".to_owned(),
                    range,
                    axis,
                    points_max: pixels * 4,
                };
                let started = Instant::now();
                count = store.curve(query).await.unwrap().len();
                times.push(started.elapsed().as_secs_f64() * 1e3);
            }
            times.sort_by(f64::total_cmp);
            println!(
                "{pixels} pixels of {points} points, {what}, over {axis:?}: {count} points, median {:.1} ms, slowest {:.1} ms",
                times[times.len() / 2],
                times[times.len() - 1],
            );
        }
    }
    let started = Instant::now();
    let mut query = SeriesQuery::new(run, "smooth", 25_000);
    let mut read = 0;
    while let page = store.series(query.clone()).await.unwrap()
        && read < 1_000_000
    {
        read += page.points.len();
        query.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    println!(
        "{read} points read in pages: {:.1} ms",
        started.elapsed().as_secs_f64() * 1e3
    );
}

/// Half of the runs log a smooth loss, a quarter one with noise, a quarter that in single precision.
fn series_of(run: u64) -> &'static str {
    ["smooth", "noisy", "smooth", "noisy32"][(run % 4) as usize]
}

fn point(key: &str, step: u64) -> MetricPoint {
    let x = step as f64;
    let smooth = 2.0 * (-x / 50_000.0).exp() + 0.1 * (x / 7_000.0).sin() + 0.3;
    let noise = (hash(step) >> 11) as f64 / (1_u64 << 53) as f64;
    let value = match key {
        "smooth" => smooth,
        "noisy" => smooth + 0.05 * noise,
        _ => f64::from((smooth + 0.05 * noise) as f32),
    };
    // Every 100 ms, give or take four.
    let at = 1_700_000_000_000 + step * 100 + hash(step ^ 0x5bd1_e995) % 8;
    MetricPoint {
        key: key.to_owned(),
        step: step as i64,
        timestamp: Some(Timestamp::from_millis(at as i64)),
        value,
    }
}

/// SplitMix64's finaliser.
fn hash(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn run(number: u64) -> RunId {
    Id::from_bytes((u128::from(number) + 1).to_be_bytes()).into()
}

fn sizes(file: &Path, points: u64) {
    let connection = rusqlite::Connection::open(file).unwrap();
    for key in ["smooth", "noisy", "noisy32"] {
        let (bytes, stored, blocks): (u64, u64, u64) = connection
            .query_row(
                "SELECT COALESCE(SUM(LENGTH(body) + LENGTH(summary)), 0), COALESCE(SUM(points), 0), COUNT(*)
                 FROM metric_blocks JOIN metric_latest USING (series) WHERE key = ?1",
                [key],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .unwrap();
        println!(
            "{key}: {stored} points in {blocks} blocks, {:.2} bytes a point",
            bytes as f64 / stored.max(1) as f64
        );
    }
    let pages = |pragma| -> u64 {
        connection
            .pragma_query_value(None, pragma, |row| row.get(0))
            .unwrap()
    };
    let (all, free) = (pages("page_count"), pages("freelist_count"));
    println!(
        "the file: {:.2} bytes a point, of which free for what comes {:.2}",
        (all * 4_096) as f64 / points as f64,
        (free * 4_096) as f64 / points as f64
    );
}

fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1_024
}

/// Of this process so far, at 100 ticks a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
