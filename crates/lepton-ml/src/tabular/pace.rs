//! Time, threads and cancellation of a training run.
//!
//! Owns: the budget, and running tasks on several threads while the observer is asked whether
//! to stop. Must not know: what the tasks do. Results come in the order of the tasks, so that
//! the number of threads cannot show in them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use lepton_types::{Clock, DurationMs, Timestamp};
use serde::{Deserialize, Serialize};

use super::observer::Observer;

/// How long to search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// For about this long, final fit included; what is found depends on the machine.
    Time(DurationMs),
    /// This many candidates; the same seed and data give the same bytes on one machine,
    /// whatever the number of threads.
    Trials(u32),
}

/// How often the observer is asked, while tasks run.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// The part of a time budget that the search may take; the rest judges and refits.
const SEARCH_SHARE_PERCENT: u64 = 60;

/// One run's pace.
pub(super) struct Pace<'a> {
    clock: &'a dyn Clock,
    started: Timestamp,
    budget: Budget,
    threads: usize,
    cancelled: AtomicBool,
}

/// When a task must give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Only when cancelled.
    Done,
    /// When the search's time is over.
    SearchEnds,
    /// When all time is over.
    BudgetEnds,
}

impl<'a> Pace<'a> {
    pub(super) fn new(clock: &'a dyn Clock, budget: Budget, threads: usize) -> Self {
        let started = clock.now();
        Self {
            clock,
            started,
            budget,
            threads: threads.max(1),
            cancelled: AtomicBool::new(false),
        }
    }

    pub(super) fn budget(&self) -> Budget {
        self.budget
    }

    pub(super) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn elapsed(&self) -> DurationMs {
        self.clock.now().since(self.started)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// What is left of a budget of time.
    pub(super) fn left(&self) -> Option<DurationMs> {
        match self.budget {
            Budget::Trials(_) => None,
            Budget::Time(whole) => {
                let left = whole.as_millis().saturating_sub(self.elapsed().as_millis());
                Some(DurationMs::from_millis(left))
            }
        }
    }

    /// Whether it is time to give up.
    pub(super) fn over(&self, until: Until) -> bool {
        self.cancelled()
            || match (self.budget, until) {
                (Budget::Trials(_), _) | (_, Until::Done) => false,
                (Budget::Time(whole), Until::SearchEnds) => {
                    self.elapsed().as_millis() >= whole.as_millis() * SEARCH_SHARE_PERCENT / 100
                }
                (Budget::Time(whole), Until::BudgetEnds) => self.elapsed() >= whole,
            }
    }

    /// The part of the budget that is used.
    pub(super) fn fraction(&self, trials: u32) -> f64 {
        let part = match self.budget {
            Budget::Time(whole) => self.elapsed().as_secs_f64() / whole.as_secs_f64().max(1e-3),
            Budget::Trials(total) => f64::from(trials) / f64::from(total.max(1)),
        };
        part.min(1.0)
    }

    /// Runs `task` on each of `inputs`, on as many threads as there are, and asks the observer
    /// meanwhile. The results are in the order of the inputs.
    pub(super) fn run<T: Sync, R: Send>(
        &self,
        inputs: &[T],
        observer: &mut dyn Observer,
        task: impl Fn(&T) -> R + Sync,
    ) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let mut results: Vec<Option<R>> = Vec::new();
        results.resize_with(inputs.len(), || None);
        std::thread::scope(|scope| {
            // Bounded by the number of inputs: each sends once.
            let (sender, receiver) = mpsc::channel();
            for _ in 0..self.threads.min(inputs.len()) {
                let (sender, next, task) = (sender.clone(), &next, &task);
                scope.spawn(move || {
                    while let Some((at, input)) = {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        inputs.get(at).map(|input| (at, input))
                    } {
                        // The receiver lives as long as the scope.
                        let _ = sender.send((at, task(input)));
                    }
                });
            }
            drop(sender);
            loop {
                if observer.should_stop() {
                    self.cancelled.store(true, Ordering::Relaxed);
                }
                match receiver.recv_timeout(ASK_EVERY) {
                    Ok((at, result)) => results[at] = Some(result),
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                }
            }
        });
        results
            .into_iter()
            .map(|r| r.expect("invariant: every input is taken once"))
            .collect()
    }
}
