//! The replay of a log of jobs through an order of service, with nodes and checkpoints.
//!
//! Owns: the format of the log, events, the measures. Must not know: files, how a rank comes
//! about.

mod bursts;
mod history;
mod machines;
mod replay;
mod room;

use std::collections::BTreeMap;

use super::TraceError;
use super::trace::{amount, field, whole};

pub use replay::replay;

/// One job of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// When it was asked for, in seconds.
    pub submit_s: f64,
    /// How long it runs, in seconds.
    pub duration_s: f64,
    /// How many GPUs it needs.
    pub gpus: u32,
    /// Who asked for it.
    pub virtual_cluster: String,
}

/// The pool on which a log is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    /// GPUs altogether.
    pub gpus: u32,
    /// GPUs of one node.
    pub gpus_per_node: u32,
    /// What a stop costs the job that is stopped, in seconds on its GPUs.
    pub checkpoint_s: f64,
}

/// A setting or a log that contradicts itself.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// No node or a node of nothing.
    #[error("the pool has no gpus: `{gpus}` in nodes of `{gpus_per_node}`")]
    Empty {
        /// GPUs altogether.
        gpus: u32,
        /// GPUs of one node.
        gpus_per_node: u32,
    },
    /// A job that could never run.
    #[error("job {number} asks for {asked} gpus, and the pool has {gpus}")]
    TooLarge {
        /// Its number in the log, from 1.
        number: usize,
        /// What it asks for.
        asked: u32,
        /// What there is.
        gpus: u32,
    },
}

/// What a replay measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Mean time from asking to the end, in seconds.
    pub jct_mean_s: f64,
    /// The 99th percentile of it.
    pub jct_p99_s: f64,
    /// Mean time spent waiting, stops included, in seconds.
    pub wait_mean_s: f64,
    /// From the first asking to the last end, in seconds.
    pub makespan_s: f64,
    /// How often a job was stopped.
    pub preemptions: u64,
    /// Jain's index of the virtual clusters' mean slow-downs: 1 if all suffer alike.
    pub fairness: f64,
    /// The part of the GPU time until the last asking that was used.
    pub utilisation: f64,
    /// How many events were replayed.
    pub events: u64,
}

/// Reads `submit_s,duration_s,gpus,virtual_cluster`, or Lepton's own history (`lepton get jobs -o
/// json`), sorted by the time of asking.
///
/// # Errors
///
/// Names the line and what is wrong with it.
pub fn parse_jobs(text: &str) -> Result<Vec<Job>, TraceError> {
    let mut jobs = match text.trim_start().starts_with('{') {
        true => history::read(text)?,
        false => read_lines(text)?,
    };
    if jobs.is_empty() {
        return Err(TraceError::at(1, "there are no jobs that ended"));
    }
    jobs.sort_by(|left: &Job, right| left.submit_s.total_cmp(&right.submit_s));
    Ok(jobs)
}

fn read_lines(text: &str) -> Result<Vec<Job>, TraceError> {
    const HEADER: &str = "submit_s,duration_s,gpus,virtual_cluster";
    let mut lines = text.lines().zip(1..);
    match lines.next() {
        Some((first, _)) if first.trim_end() == HEADER => {}
        _ => {
            return Err(TraceError::at(
                1,
                format!("the header `{HEADER}` is expected"),
            ));
        }
    }
    let mut jobs = Vec::new();
    for (row, line) in lines.filter(|(row, _)| !row.trim().is_empty()) {
        let fields: Vec<&str> = row.split(',').collect();
        let gpus = whole(field(&fields, 2, "gpus", line)?, "gpus", line)?;
        let job = Job {
            submit_s: amount(field(&fields, 0, "submit_s", line)?, "submit_s", line)?,
            duration_s: amount(field(&fields, 1, "duration_s", line)?, "duration_s", line)?,
            gpus: u32::try_from(gpus)
                .ok()
                .filter(|gpus| *gpus > 0)
                .ok_or_else(|| TraceError::at(line, format!("`gpus` is {gpus}")))?,
            virtual_cluster: field(&fields, 3, "virtual_cluster", line)?.to_owned(),
        };
        jobs.push(job);
    }
    Ok(jobs)
}

/// Jain's index (1984) of the means of each group.
#[expect(clippy::cast_precision_loss, reason = "counts")]
fn jain(slow_downs: impl Iterator<Item = (usize, f64)>) -> f64 {
    let mut groups: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for (group, value) in slow_downs {
        let (sum, count) = groups.entry(group).or_default();
        *sum += value;
        *count += 1.0;
    }
    let means: Vec<f64> = groups.values().map(|(sum, count)| sum / count).collect();
    let sum: f64 = means.iter().sum();
    let squares: f64 = means.iter().map(|mean| mean * mean).sum();
    if squares > 0.0 {
        sum * sum / (squares * means.len() as f64)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlanRng;
    use crate::queueing::Policy;
    use rand::Rng as _;

    const SETTING: Setting = Setting {
        gpus: 16,
        gpus_per_node: 8,
        checkpoint_s: 60.0,
    };

    /// Two groups: one whose jobs are short, one whose jobs are long; more than there is room for.
    fn log(seed: u64) -> Vec<Job> {
        let mut random = PlanRng::from_seed(seed).stream("log", 0);
        let mut submit_s = 0.0;
        let job = |_: usize| {
            submit_s += random.random_range(0.0..120.0);
            let long = random.random_bool(0.2);
            let spread: f64 = random.random_range(0.5..2.0);
            Job {
                submit_s,
                duration_s: spread * if long { 4_000.0 } else { 300.0 },
                gpus: [1, 1, 2, 4, 8, 16][random.random_range(0..6)],
                virtual_cluster: if long { "long" } else { "short" }.to_owned(),
            }
        };
        (0..600).map(job).collect()
    }

    #[test]
    fn ours_learns_who_is_short_and_comes_near_the_oracle() {
        let means: Vec<f64> = Policy::ALL
            .into_iter()
            .map(|policy| {
                replay(&log(1), &SETTING, policy, |_| {})
                    .unwrap()
                    .jct_mean_s
            })
            .collect();
        let [fifo, backfill, attained, oracle, ours] = means[..] else {
            panic!()
        };
        assert!(oracle < ours && ours < 1.5 * oracle, "{means:?}");
        assert!(
            ours < attained && attained < fifo && backfill < fifo,
            "{means:?}"
        );
    }

    #[test]
    fn a_lone_job_waits_for_nothing_and_the_first_comes_first() {
        let job = |submit_s, duration_s, gpus| Job {
            submit_s,
            duration_s,
            gpus,
            virtual_cluster: "a".to_owned(),
        };
        let outcome = |jobs: &[Job], policy| replay(jobs, &SETTING, policy, |_| {}).unwrap();
        for policy in Policy::ALL {
            let lone = outcome(&[job(5.0, 100.0, 16)], policy);
            assert_eq!(
                (lone.jct_mean_s, lone.wait_mean_s, lone.makespan_s),
                (100.0, 0.0, 100.0)
            );
        }
        // 16, then 16: the second waits for the first; a job of 12 leaves no room for one of 8.
        let jobs = [job(0.0, 100.0, 16), job(0.0, 50.0, 12), job(1.0, 10.0, 8)];
        assert_eq!(outcome(&jobs, Policy::Fifo).makespan_s, 160.0);
        // The oracle lets the shortest go first, once the first has run its least time.
        assert_eq!(outcome(&jobs, Policy::ShortestRemaining).makespan_s, 160.0);
    }

    #[test]
    fn a_stop_costs_a_checkpoint_and_loses_no_work() {
        let jobs = |long, short| {
            let job = |submit_s, duration_s| Job {
                submit_s,
                duration_s,
                gpus: 16,
                virtual_cluster: "a".to_owned(),
            };
            [job(0.0, long), job(500.0, short)]
        };
        let outcome = replay(
            &jobs(1_000.0, 10.0),
            &SETTING,
            Policy::ShortestRemaining,
            |_| {},
        );
        let outcome = outcome.unwrap();
        assert_eq!(
            (outcome.preemptions, outcome.makespan_s),
            (1, 1_000.0 + 10.0 + 60.0)
        );
    }

    #[test]
    fn contradictions_are_said() {
        let empty = Setting {
            gpus_per_node: 0,
            ..SETTING
        };
        let words = |setting: &Setting, jobs: &[Job]| {
            replay(jobs, setting, Policy::Fifo, |_| {})
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            words(&empty, &log(1)),
            "the pool has no gpus: `16` in nodes of `0`"
        );
        let mut jobs = log(1);
        jobs[2].gpus = 17;
        assert_eq!(
            words(&SETTING, &jobs),
            "job 3 asks for 17 gpus, and the pool has 16"
        );
        let bad = |row: &str| {
            let text = format!("submit_s,duration_s,gpus,virtual_cluster\n0,1,1,a\n{row}");
            parse_jobs(&text).unwrap_err().to_string()
        };
        assert_eq!(bad("0,1,0,a"), "line 3: `gpus` is 0");
        assert_eq!(bad("0,-1,1,a"), "line 3: `duration_s` is negative: `-1`");
        assert_eq!(
            bad("NaN,1,1,a"),
            "line 3: `submit_s` is not a number: `NaN`"
        );
        assert_eq!(
            bad("0,1,1"),
            "line 3: the field `virtual_cluster` is missing"
        );
    }
}
