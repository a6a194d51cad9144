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
use super::trace::{SECONDS_MOST, amount_up_to, field, no_more_than, shown, whole};

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
    /// Where it stands in its log: the line, or in a list of JSON its number, from 1.
    pub line: usize,
}

/// Nodes of a simulated pool at most: every start looks at each.
const NODES_MOST: u32 = 100_000;

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
    #[error(
        "the pool has no gpus: `{gpus}` in nodes of `{gpus_per_node}`; both must be above zero"
    )]
    Empty {
        /// GPUs altogether.
        gpus: u32,
        /// GPUs of one node.
        gpus_per_node: u32,
    },
    /// More nodes than can be replayed.
    #[error(
        "`{gpus}` gpus in nodes of `{gpus_per_node}` are more than {NODES_MOST} nodes; larger nodes are fewer"
    )]
    TooMany {
        /// GPUs altogether.
        gpus: u32,
        /// GPUs of one node.
        gpus_per_node: u32,
    },
    /// A job that could never run.
    #[error("line {line}: the job asks for {asked} gpus, and the pool has {gpus}")]
    TooLarge {
        /// Where it stands in its log.
        line: usize,
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
    let is_history = text.trim_start().starts_with('{');
    let mut jobs = match is_history {
        true => history::read(text)?,
        false => read_lines(text)?,
    };
    if jobs.is_empty() {
        let problem = match is_history {
            true => "there are no jobs that ended",
            false => "there are no jobs below the header",
        };
        return Err(TraceError::at(1, problem));
    }
    jobs.sort_by(|left: &Job, right| left.submit_s.total_cmp(&right.submit_s));
    Ok(jobs)
}

fn read_lines(text: &str) -> Result<Vec<Job>, TraceError> {
    const HEADER: &str = "submit_s,duration_s,gpus,virtual_cluster";
    let mut lines = text.lines().zip(1..);
    match lines.next() {
        Some((first, _)) if first.trim_start_matches('\u{feff}').trim_end() == HEADER => {}
        first => {
            let found = shown(first.map_or("", |(text, _)| text));
            let problem = format!("the header `{HEADER}` is expected, not `{found}`");
            return Err(TraceError::at(1, problem));
        }
    }
    let mut jobs: Vec<Job> = Vec::new();
    for (row, line) in lines.filter(|(row, _)| !row.trim().is_empty()) {
        let fields: Vec<&str> = row.split(',').collect();
        no_more_than(4, &fields, line)?;
        let seconds = |index, name| {
            let text = field(&fields, index, name, line)?;
            amount_up_to(SECONDS_MOST, text, name, line)
        };
        let (submit_s, duration_s) = (seconds(0, "submit_s")?, seconds(1, "duration_s")?);
        let gpus = whole(field(&fields, 2, "gpus", line)?, "gpus", line)?;
        let gpus = u32::try_from(gpus).ok().filter(|gpus| *gpus > 0);
        let wrong = || format!("`gpus` is not between 1 and {}: `{}`", u32::MAX, fields[2]);
        let before = jobs.last().map_or(0.0, |job| job.submit_s);
        if submit_s < before {
            let back = before - submit_s;
            let problem = format!("the clock goes back by {back} s: sort the jobs by `submit_s`");
            return Err(TraceError::at(line, problem));
        }
        jobs.push(Job {
            submit_s,
            duration_s,
            gpus: gpus.ok_or_else(|| TraceError::at(line, wrong()))?,
            virtual_cluster: field(&fields, 3, "virtual_cluster", line)?.to_owned(),
            line,
        });
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
mod tests;
