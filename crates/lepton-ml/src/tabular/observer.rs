//! What training tells while it runs, and how it is told to stop.
//!
//! Owns: the events. Must not know: who watches.

use serde::{Deserialize, Serialize};

/// Watches a training run. All calls come from the thread that called `train`.
pub trait Observer {
    /// A step is done.
    fn progress(&mut self, _progress: &Progress) {}

    /// A figure is known.
    fn point(&mut self, _point: &Point) {}

    /// Asked several times a second; true makes training give up.
    fn should_stop(&mut self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {}

/// How far training has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How many trials are finished.
    pub trials: u32,
    /// How many there will be, where that is known.
    pub trials_total: Option<u32>,
    /// The last finished trial's algorithm.
    pub model: Option<String>,
    /// Its score in the chosen metric, unless it was given up.
    pub score: Option<f64>,
    /// The best score so far.
    pub best: Option<f64>,
    /// The part of the budget that is used, 0 to 1.
    pub fraction: f64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Candidates are tried.
    Search,
    /// The chosen one is judged on fresh folds.
    Evaluation,
    /// It is fitted on all rows.
    Refit,
}

/// One figure of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The series, such as `search/best_log_loss`.
    pub key: String,
    /// The trial, or 0 for final figures.
    pub step: i64,
    /// The figure.
    pub value: f64,
}
