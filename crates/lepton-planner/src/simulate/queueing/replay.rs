//! The events of a replay: jobs are asked for, started, stopped, and end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::bursts::Bursts;
use super::machines::{Machines, Taken};
use super::{Job, NODES_MOST, Outcome, Setting, SettingError, jain};
use crate::prediction::{Feature, History, Outlook};
use crate::queueing::{Facts, Policy, Rank};

/// Replays `jobs`, sorted by the time of asking; `progress` is told the number that has ended.
///
/// # Errors
///
/// If the pool is empty or a job is larger than it.
pub fn replay(
    jobs: &[Job],
    setting: &Setting,
    policy: Policy,
    progress: impl FnMut(usize),
) -> Result<Outcome, SettingError> {
    let Setting {
        gpus,
        gpus_per_node,
        ..
    } = *setting;
    if gpus == 0 || gpus_per_node == 0 {
        return Err(SettingError::Empty {
            gpus,
            gpus_per_node,
        });
    }
    if gpus / gpus_per_node > NODES_MOST {
        return Err(SettingError::TooMany {
            gpus,
            gpus_per_node,
        });
    }
    if let Some(job) = jobs.iter().find(|job| job.gpus > gpus) {
        let (line, asked) = (job.line, job.gpus);
        return Err(SettingError::TooLarge { line, asked, gpus });
    }
    Ok(Replay::new(jobs, setting, policy).run(progress))
}

/// What there is to know of a job that is not in the log.
pub(super) struct Live {
    /// Seconds of its own work done.
    pub(super) done: f64,
    /// Seconds of checkpoints still to be paid for.
    pub(super) owed: f64,
    pub(super) since: f64,
    pub(super) taken: Option<Taken>,
    /// Of the stretch of service; events of an earlier one are void.
    pub(super) stretch: u32,
    pub(super) rank: Option<Rank>,
    pub(super) outlook: Option<Outlook>,
    /// From the least to the most specific, once it has been asked for.
    pub(super) features: Vec<Feature>,
    /// How many steps of its age the history has been told.
    pub(super) told: usize,
    pub(super) ended: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    End,
    RankChanges,
}

/// Times as bits: those of floats that are not negative order as the floats do.
pub(super) type Event = Reverse<(u64, What, usize, u32)>;

pub(super) struct Replay<'a> {
    pub(super) jobs: &'a [Job],
    pub(super) setting: &'a Setting,
    pub(super) policy: Policy,
    pub(super) live: Vec<Live>,
    pub(super) clusters: BTreeMap<&'a str, usize>,
    pub(super) machines: Machines,
    pub(super) running: BTreeSet<usize>,
    /// Those that run, in the order of service.
    pub(super) served: BTreeSet<(Rank, usize)>,
    /// By size, in the order of service.
    pub(super) waiting: BTreeMap<u32, BTreeSet<(Rank, usize)>>,
    pub(super) events: BinaryHeap<Event>,
    pub(super) history: History,
    pub(super) bursts: Bursts,
    pub(super) now: f64,
    pub(super) preemptions: u64,
    pub(super) count: u64,
    pub(super) used_gpu_s: f64,
}

impl<'a> Replay<'a> {
    fn new(jobs: &'a [Job], setting: &'a Setting, policy: Policy) -> Self {
        let live = |_: &Job| Live {
            done: 0.0,
            owed: 0.0,
            since: 0.0,
            taken: None,
            stretch: 0,
            rank: None,
            outlook: None,
            features: Vec::new(),
            told: 0,
            ended: None,
        };
        let mut clusters = BTreeMap::new();
        for job in jobs {
            let next = clusters.len();
            clusters.entry(job.virtual_cluster.as_str()).or_insert(next);
        }
        Self {
            jobs,
            setting,
            policy,
            live: jobs.iter().map(live).collect(),
            clusters,
            machines: Machines::new(setting.gpus, setting.gpus_per_node),
            running: BTreeSet::new(),
            served: BTreeSet::new(),
            waiting: BTreeMap::new(),
            events: BinaryHeap::new(),
            history: History::default(),
            bursts: Bursts::default(),
            now: 0.0,
            preemptions: 0,
            count: 0,
            used_gpu_s: 0.0,
        }
    }

    fn run(mut self, mut progress: impl FnMut(usize)) -> Outcome {
        let (mut next, mut ended) = (0, 0);
        loop {
            let arrival = self.jobs.get(next).map(|job| job.submit_s);
            let event = self
                .events
                .peek()
                .map(|Reverse((at, ..))| f64::from_bits(*at));
            self.now = match (arrival, event) {
                (None, None) => break,
                (Some(arrival), Some(event)) => arrival.min(event),
                (one, other) => one.or(other).unwrap_or_default(),
            };
            while self
                .jobs
                .get(next)
                .is_some_and(|job| job.submit_s <= self.now)
            {
                self.enqueue(next);
                next += 1;
                self.count += 1;
            }
            while let Some(Reverse((at, what, job, stretch))) = self.events.peek().copied() {
                if f64::from_bits(at) > self.now {
                    break;
                }
                self.events.pop();
                if self.live[job].stretch != stretch || self.live[job].taken.is_none() {
                    continue;
                }
                self.count += 1;
                match what {
                    What::End => {
                        self.end(job);
                        ended += 1;
                        if ended % 1_024 == 0 {
                            progress(ended);
                        }
                    }
                    What::RankChanges => self.update_rank(job),
                }
            }
            self.schedule();
        }
        self.outcome()
    }

    /// Seconds of its own work that a job has done by now.
    pub(super) fn age(&self, job: usize) -> f64 {
        let live = &self.live[job];
        match live.taken {
            None => live.done,
            Some(_) => live.done + (self.now - live.since - live.owed).max(0.0),
        }
    }

    pub(super) fn rank(&self, job: usize) -> Rank {
        let none = Outlook::unknown();
        let age = self.age(job);
        let facts = Facts {
            submitted: self.jobs[job].submit_s,
            age,
            gpus: self.jobs[job].gpus,
            rest: self.jobs[job].duration_s - age,
            outlook: self.live[job].outlook.as_ref().unwrap_or(&none),
        };
        self.policy.rank(&facts)
    }

    pub(super) fn enqueue(&mut self, job: usize) {
        if self.policy.predicts() {
            self.look(job);
        }
        let rank = self.rank(job);
        self.live[job].rank = Some(rank);
        self.waiting
            .entry(self.jobs[job].gpus)
            .or_default()
            .insert((rank, job));
    }

    pub(super) fn start(&mut self, rank: Rank, job: usize, taken: Taken) {
        if let Some(queue) = self.waiting.get_mut(&self.jobs[job].gpus) {
            queue.remove(&(rank, job));
        }
        self.machines.take(&taken);
        self.running.insert(job);
        let live = &mut self.live[job];
        live.taken = Some(taken);
        live.since = self.now;
        live.stretch += 1;
        let end = self.now + live.owed + self.jobs[job].duration_s - live.done;
        self.events
            .push(Reverse((end.to_bits(), What::End, job, live.stretch)));
        self.update_rank(job);
    }

    pub(super) fn rank_running(&mut self, job: usize) {
        let rank = self.rank(job);
        if let Some(before) = self.live[job].rank.replace(rank) {
            self.served.remove(&(before, job));
        }
        self.served.insert((rank, job));
    }

    /// Ranks a running job anew, and notes when to do so again.
    fn update_rank(&mut self, job: usize) {
        if self.policy.predicts() {
            self.look(job);
        }
        self.rank_running(job);
        let age = self.age(job);
        let live = &self.live[job];
        let none = Outlook::unknown();
        let facts = Facts {
            submitted: self.jobs[job].submit_s,
            age,
            gpus: self.jobs[job].gpus,
            rest: 0.0,
            outlook: live.outlook.as_ref().unwrap_or(&none),
        };
        if let Some(at) = self.policy.next_change(&facts) {
            let owed = (live.owed - (self.now - live.since)).max(0.0);
            // At least a millisecond, or rounding could bring the clock to a stand.
            let when = (self.now + owed + (at - age).max(0.001)).max(self.now.next_up());
            self.events.push(Reverse((
                when.to_bits(),
                What::RankChanges,
                job,
                live.stretch,
            )));
        }
    }

    pub(super) fn leave(&mut self, job: usize) {
        self.running.remove(&job);
        let age = self.age(job);
        let live = &mut self.live[job];
        if let Some(rank) = live.rank {
            self.served.remove(&(rank, job));
        }
        if let Some(taken) = live.taken.take() {
            self.machines.release(&taken);
            self.used_gpu_s += (self.now - live.since) * f64::from(self.jobs[job].gpus);
        }
        live.owed = (live.owed - (self.now - live.since)).max(0.0);
        live.done = age;
        live.stretch += 1;
    }

    fn end(&mut self, job: usize) {
        self.leave(job);
        self.live[job].ended = Some(self.now);
        self.live[job].outlook = None;
        if self.policy.predicts() {
            self.learn(job);
        }
    }

    pub(super) fn stop(&mut self, job: usize) {
        self.leave(job);
        self.live[job].owed += self.setting.checkpoint_s;
        self.preemptions += 1;
        self.enqueue(job);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts")]
    fn outcome(self) -> Outcome {
        let ended = self
            .live
            .iter()
            .zip(self.jobs)
            .filter_map(|(live, job)| Some((live.ended?, job)));
        let mut times: Vec<f64> = ended.clone().map(|(end, job)| end - job.submit_s).collect();
        times.sort_by(f64::total_cmp);
        let count = times.len().max(1) as f64;
        let last = times.len().saturating_sub(1);
        let p99 = times
            .get(times.len() * 99 / 100)
            .or(times.get(last))
            .copied()
            .unwrap_or_default();
        let first_submit = self.jobs.first().map_or(0.0, |job| job.submit_s);
        let last_submit = self.jobs.last().map_or(0.0, |job| job.submit_s);
        let last_end = ended
            .clone()
            .map(|(end, _)| end)
            .fold(first_submit, f64::max);
        let work: f64 = ended.clone().map(|(_, job)| job.duration_s).sum();
        let slow_downs = ended.map(|(end, job)| {
            let cluster = self.clusters[job.virtual_cluster.as_str()];
            // Of jobs of seconds any wait is a large multiple: ten seconds at least, as usual.
            (cluster, (end - job.submit_s) / job.duration_s.max(10.0))
        });
        let mean = times.iter().sum::<f64>() / count;
        let span = (last_end.max(last_submit) - first_submit).max(1.0);
        Outcome {
            jct_mean_s: mean,
            jct_p99_s: p99,
            wait_mean_s: mean - work / count,
            makespan_s: last_end - first_submit,
            preemptions: self.preemptions,
            fairness: jain(slow_downs),
            utilisation: self.used_gpu_s / (span * f64::from(self.setting.gpus)),
            events: self.count,
        }
    }
}
