//! Which runs have fresh batches, and whose turn it is to be merged.

use std::collections::{BTreeMap, BTreeSet};

use lepton_types::Id;

/// Batches of one run that are merged at once: so many that a block a series is worth writing, so
/// few that reading a series that is being written stays quick.
const RUN_BATCHES_MAX: u64 = 512;

/// The same in points; about a megabyte.
const RUN_POINTS_MAX: u64 = 65_536;

/// Fresh points of all runs beyond which appends wait for the merging: some 10 MB on disk, and 25 MB in
/// the memory of a reader if all are of one series.
const POINTS_MAX: u64 = 1_048_576;

/// The runs that have fresh batches.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    runs: BTreeMap<Id, Waiting>,
    due: BTreeSet<Id>,
    points: u64,
    /// Counts the quiet spells; a run that got nothing for a whole one is merged, however little it is.
    spell: u64,
}

/// What waits of one run.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    batches: u64,
    points: u64,
    spell: u64,
}

impl Backlog {
    /// A run got batches. Whether any is due.
    pub(crate) fn add(&mut self, run: Id, batches: u64, points: u64) -> bool {
        let waiting = self.runs.entry(run).or_default();
        waiting.batches += batches;
        waiting.points += points;
        waiting.spell = self.spell;
        self.points += points;
        let is_large = waiting.batches >= RUN_BATCHES_MAX || waiting.points >= RUN_POINTS_MAX;
        if is_large {
            self.due.insert(run);
        }
        // Many runs that are all small can fill the disk as well as one that is large.
        if self.due.is_empty() && self.is_full() {
            self.due.extend(self.runs.keys());
        }
        !self.due.is_empty()
    }

    /// Begins the next spell: what got nothing for the whole of the one before is due.
    pub(crate) fn next_spell(&mut self) {
        let quiet = self.runs.iter().filter(|(_, run)| run.spell < self.spell);
        self.due.extend(quiet.map(|(run, _)| *run));
        self.spell += 1;
    }

    /// A run that is due, taken off the list: what comes to it from now on counts anew.
    pub(crate) fn take(&mut self) -> Option<(Id, Waiting)> {
        let run = self.due.pop_first()?;
        let waiting = self.runs.remove(&run).unwrap_or_default();
        self.points -= waiting.points;
        Some((run, waiting))
    }

    /// A run that was taken could not be merged: it is due again after a spell.
    pub(crate) fn put_back(&mut self, run: Id, waiting: Waiting) {
        self.add(run, waiting.batches, waiting.points);
        self.due.remove(&run);
    }

    /// Whether appends should wait.
    pub(crate) fn is_full(&self) -> bool {
        self.points > POINTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u8) -> Id {
        Id::from_bytes([number; 16])
    }

    #[test]
    fn large_runs_are_due_at_once_and_quiet_ones_after_a_whole_spell() {
        let mut backlog = Backlog::default();
        assert!(!backlog.add(run(1), 1, 10));
        assert!(backlog.add(run(2), 1, RUN_POINTS_MAX));
        assert!(backlog.add(run(3), RUN_BATCHES_MAX, 1));
        let take = |backlog: &mut Backlog| backlog.take().map(|(run, _)| run);
        assert_eq!(take(&mut backlog), Some(run(2)));
        assert_eq!(take(&mut backlog), Some(run(3)));
        assert_eq!(take(&mut backlog), None);
        backlog.next_spell();
        assert_eq!(take(&mut backlog), None, "not a whole spell yet");
        backlog.next_spell();
        assert_eq!(take(&mut backlog), Some(run(1)));
        assert_eq!(take(&mut backlog), None);
    }

    #[test]
    fn what_could_not_be_merged_is_tried_again_after_a_spell() {
        let mut backlog = Backlog::default();
        backlog.add(run(1), 1, RUN_POINTS_MAX);
        let (taken, waiting) = backlog.take().unwrap();
        backlog.put_back(taken, waiting);
        assert_eq!(backlog.take(), None);
        backlog.next_spell();
        backlog.next_spell();
        assert_eq!(
            backlog.take(),
            Some((
                run(1),
                Waiting {
                    spell: 0,
                    ..waiting
                }
            ))
        );
    }

    #[test]
    fn appends_wait_only_while_much_is_unmerged() {
        let mut backlog = Backlog::default();
        for number in 0..=64 {
            backlog.add(run(number), 1, POINTS_MAX / 64);
        }
        assert!(backlog.is_full());
        while backlog.take().is_some() {}
        assert!(!backlog.is_full());
    }
}
