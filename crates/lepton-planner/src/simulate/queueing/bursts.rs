//! Jobs of one kind that were asked for at one go.
//!
//! Owns: which jobs belong together, and what a replay learns of them. Must not know: ranks,
//! nodes.

use std::collections::{BTreeMap, BTreeSet};

use super::Job;
use super::replay::Replay;
use crate::prediction::{Feature, Likeness};

/// Jobs of one kind belong together if none was asked for longer than this after the one before:
/// a script that submits, or a person who tries again.
const GAP_S: f64 = 300.0;

/// How many of its siblings an end tells something at once, the oldest first; the others are told
/// when they are next looked at.
const MOST_SIBLINGS: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Bursts {
    /// Of each kind, the number of its latest burst and when it was last asked for.
    latest: BTreeMap<String, (u64, f64)>,
    /// Of each burst, who has not ended.
    members: BTreeMap<String, BTreeSet<usize>>,
}

fn kind(name: String) -> Feature {
    Feature {
        name,
        likeness: Likeness::Kind,
    }
}

fn burst(kind: &str, number: u64) -> Feature {
    Feature {
        name: format!("{kind} {number}"),
        likeness: Likeness::Burst,
    }
}

impl Replay<'_> {
    /// What a job shares with others, the least specific first; and the burst before, if all of
    /// it has ended.
    fn features(&mut self, job: usize) -> (Vec<Feature>, Option<Feature>) {
        let Job {
            gpus,
            virtual_cluster,
            submit_s,
            ..
        } = &self.jobs[job];
        let own = format!("{virtual_cluster} {gpus}");
        let latest = self.bursts.latest.entry(own.clone()).or_default();
        let mut over = None;
        if submit_s - latest.1 > GAP_S {
            let before = burst(&own, latest.0);
            over = (!self.bursts.members.contains_key(&before.name)).then_some(before);
            latest.0 += 1;
        }
        latest.1 = *submit_s;
        let siblings = burst(&own, latest.0);
        let members = self.bursts.members.entry(siblings.name.clone());
        members.or_default().insert(job);
        let size = kind(format!("{gpus}"));
        let cluster = kind(virtual_cluster.clone());
        let features = vec![kind(String::new()), size, cluster, kind(own), siblings];
        (features, over)
    }

    /// Tells the history how long the job has lived, and asks it again.
    pub(super) fn look(&mut self, job: usize) {
        if self.live[job].features.is_empty() {
            let (features, over) = self.features(job);
            self.live[job].features = features;
            if let Some(over) = over {
                self.history.forget(&over);
            }
        }
        let age = self.age(job);
        let live = &mut self.live[job];
        live.told = self.history.survive(&live.features, live.told, age);
        live.outlook = Some(self.history.outlook(&live.features));
    }

    /// Tells the history that a job has ended, and looks again at its siblings, of whom that
    /// tells something.
    pub(super) fn learn(&mut self, job: usize) {
        let live = &self.live[job];
        let duration_s = self.jobs[job].duration_s;
        self.history.observe(&live.features, live.told, duration_s);
        for other in self.siblings_left_by(job) {
            let before = self.live[other].rank;
            if self.live[other].taken.is_some() {
                self.look(other);
                self.rank_running(other);
            } else if let Some(before) = before {
                let queue = self.waiting.entry(self.jobs[other].gpus).or_default();
                queue.remove(&(before, other));
                self.enqueue(other);
            }
        }
    }

    /// Takes a job out of its burst; the oldest of those who stay.
    fn siblings_left_by(&mut self, job: usize) -> Vec<usize> {
        let features = std::mem::take(&mut self.live[job].features);
        let [.., own, burst_of_it] = &features[..] else {
            return Vec::new();
        };
        let Some(members) = self.bursts.members.get_mut(&burst_of_it.name) else {
            return Vec::new();
        };
        members.remove(&job);
        let left: Vec<usize> = members.iter().copied().take(MOST_SIBLINGS).collect();
        if left.is_empty() {
            self.bursts.members.remove(&burst_of_it.name);
            let latest = self.bursts.latest.get(&own.name);
            if latest.is_some_and(|(number, _)| burst(&own.name, *number) != *burst_of_it) {
                self.history.forget(burst_of_it);
            }
        }
        left
    }
}
