//! The events of a replay: jobs are asked for, started, stopped, and end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::machines::{Machines, Taken};
use super::{Job, Outcome, Setting, SettingError, jain};
use crate::prediction::{History, Outlook};
use crate::queueing::{Facts, Policy, Rank};

/// How many waiting jobs of each size backfilling looks at: those behind are younger by days.
const BACKFILL_DEPTH: usize = 32;

/// A job runs this many times the cost of a checkpoint before it may be stopped again, so that
/// at most a third of its time goes into being stopped.
const RUN_AT_LEAST_CHECKPOINTS: f64 = 2.0;

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
    if let Some((job, number)) = jobs.iter().zip(1..).find(|(job, _)| job.gpus > gpus) {
        let asked = job.gpus;
        return Err(SettingError::TooLarge {
            number,
            asked,
            gpus,
        });
    }
    Ok(Replay::new(jobs, setting, policy).run(progress))
}

/// What there is to know of a job that is not in the log.
struct Live {
    /// Seconds of its own work done.
    done: f64,
    /// Seconds of checkpoints still to be paid for.
    owed: f64,
    since: f64,
    taken: Option<Taken>,
    /// Of the stretch of service; events of an earlier one are void.
    stretch: u32,
    rank: Option<Rank>,
    outlook: Option<Outlook>,
    ended: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    End,
    RankChanges,
}

/// Times as bits: those of floats that are not negative order as the floats do.
type Event = Reverse<(u64, What, usize, u32)>;

struct Replay<'a> {
    jobs: &'a [Job],
    setting: &'a Setting,
    policy: Policy,
    live: Vec<Live>,
    clusters: BTreeMap<&'a str, usize>,
    machines: Machines,
    running: BTreeSet<usize>,
    /// By size, in the order of service.
    waiting: BTreeMap<u32, BTreeSet<(Rank, usize)>>,
    events: BinaryHeap<Event>,
    history: History,
    now: f64,
    preemptions: u64,
    count: u64,
    used_gpu_s: f64,
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
            waiting: BTreeMap::new(),
            events: BinaryHeap::new(),
            history: History::default(),
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

    fn features(&self, job: usize) -> Vec<String> {
        let Job {
            gpus,
            virtual_cluster,
            ..
        } = &self.jobs[job];
        vec![
            String::new(),
            format!("{gpus}"),
            format!("{virtual_cluster}"),
            format!("{virtual_cluster} {gpus}"),
        ]
    }

    /// Seconds of its own work that a job has done by now.
    fn age(&self, job: usize) -> f64 {
        let live = &self.live[job];
        match live.taken {
            None => live.done,
            Some(_) => live.done + (self.now - live.since - live.owed).max(0.0),
        }
    }

    fn rank(&self, job: usize) -> Rank {
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

    fn enqueue(&mut self, job: usize) {
        if self.policy.predicts() {
            self.live[job].outlook = Some(self.history.outlook(&self.features(job)));
        }
        let rank = self.rank(job);
        self.live[job].rank = Some(rank);
        self.waiting
            .entry(self.jobs[job].gpus)
            .or_default()
            .insert((rank, job));
    }

    fn start(&mut self, rank: Rank, job: usize, taken: Taken) {
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

    /// Ranks a running job anew, and notes when to do so again.
    fn update_rank(&mut self, job: usize) {
        let rank = self.rank(job);
        self.live[job].rank = Some(rank);
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
            let when = self.now + owed + (at - age).max(0.001);
            self.events.push(Reverse((
                when.to_bits(),
                What::RankChanges,
                job,
                live.stretch,
            )));
        }
    }

    fn leave(&mut self, job: usize) {
        self.running.remove(&job);
        let age = self.age(job);
        let live = &mut self.live[job];
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
            self.history
                .observe(&self.features(job), self.jobs[job].duration_s);
        }
    }

    fn stop(&mut self, job: usize) {
        self.leave(job);
        self.live[job].owed += self.setting.checkpoint_s;
        self.preemptions += 1;
        self.enqueue(job);
    }

    /// Starts, and stops for others, until nothing more is to be done.
    fn schedule(&mut self) {
        let mut blocked: BTreeSet<u32> = BTreeSet::new();
        loop {
            let open = self
                .waiting
                .iter()
                .filter(|(size, _)| !blocked.contains(size));
            let heads = open.filter_map(|(_, queue)| queue.first().copied());
            let Some((rank, job)) = heads.min() else {
                return;
            };
            let gpus = self.jobs[job].gpus;
            if let Some(taken) = self.machines.find(gpus) {
                self.start(rank, job, taken);
                continue;
            }
            if self.policy.stops() && self.make_room(rank, job) {
                continue;
            }
            match self.policy {
                Policy::Fifo => return,
                Policy::Backfill => return self.backfill(job),
                _ => blocked.insert(gpus),
            };
        }
    }

    /// Stops the least important jobs whose room lets `job` in.
    fn make_room(&mut self, rank: Rank, job: usize) -> bool {
        let victims_of_node = self.victims(rank);
        let mut chosen: BTreeSet<usize> = BTreeSet::new();
        let mut taken: Taken = Vec::new();
        for part in self.machines.parts(self.jobs[job].gpus) {
            let nodes = (0..self.machines.free.len())
                .filter(|node| taken.iter().all(|(other, _)| other != node));
            let choice = nodes.filter_map(|node| {
                let mut free = self.machines.free[node];
                let mut victims = Vec::new();
                for (rank, victim, gpus) in &victims_of_node[node] {
                    if free >= part {
                        break;
                    }
                    free += gpus;
                    victims.push((*rank, *victim));
                }
                let most_important = victims.last().map(|(rank, _)| Reverse(*rank));
                (free >= part).then_some((most_important, victims.len(), node, victims))
            });
            let Some((_, _, node, victims)) = choice.min() else {
                return false;
            };
            chosen.extend(victims.into_iter().map(|(_, victim)| victim));
            taken.push((node, part));
        }
        for victim in chosen {
            self.stop(victim);
        }
        self.start(rank, job, taken);
        true
    }

    /// On every node, whom a job of this rank may stop, the least important first.
    fn victims(&self, rank: Rank) -> Vec<Vec<(Rank, usize, u32)>> {
        let mut victims = vec![Vec::new(); self.machines.free.len()];
        let at_least = RUN_AT_LEAST_CHECKPOINTS * self.setting.checkpoint_s;
        for job in &self.running {
            let live = &self.live[*job];
            let current = match self.policy {
                Policy::ShortestRemaining => self.rank(*job),
                _ => live.rank.unwrap_or(rank),
            };
            if self.now - live.since < at_least + live.owed || !self.policy.may_stop(current, rank)
            {
                continue;
            }
            for (node, gpus) in live.taken.iter().flatten() {
                victims[*node].push((current, *job, *gpus));
            }
        }
        for of_node in &mut victims {
            of_node.sort_by_key(|(rank, job, _)| Reverse((*rank, *job)));
        }
        victims
    }

    /// Starts those behind `first` that should have ended by the time it has its room, or leave
    /// it its room.
    fn backfill(&mut self, first: usize) {
        let rest = |job: usize| -> f64 {
            let age = self.age(job);
            let outlook = self.live[job].outlook.as_ref();
            let median = outlook.and_then(|outlook| outlook.quantile(age, 0.5));
            median.map_or(f64::INFINITY, |total| (total - age).max(0.0))
        };
        let mut ends: Vec<(f64, u32)> = self
            .running
            .iter()
            .map(|job| (rest(*job), self.jobs[*job].gpus))
            .collect();
        ends.sort_by(|left, right| left.0.total_cmp(&right.0));
        let needed = self.jobs[first].gpus;
        let mut free = self.machines.total_free();
        let mut shadow = f64::INFINITY;
        for (end, gpus) in ends {
            free += gpus;
            if free >= needed {
                shadow = end;
                break;
            }
        }
        let mut spare = free.saturating_sub(needed);
        let candidates: Vec<(Rank, usize)> = self
            .waiting
            .values()
            .flat_map(|queue| queue.iter().take(BACKFILL_DEPTH).copied())
            .filter(|(_, job)| *job != first)
            .map(|(rank, job)| (rank, job, rest(job)))
            .filter(|(_, job, rest)| *rest <= shadow || self.jobs[*job].gpus <= spare)
            .map(|(rank, job, _)| (rank, job))
            .collect();
        for (rank, job) in candidates {
            let gpus = self.jobs[job].gpus;
            let in_time = self.live[job].outlook.as_ref().is_some_and(|outlook| {
                outlook
                    .quantile(0.0, 0.5)
                    .is_some_and(|total| total <= shadow)
            });
            if !in_time && gpus > spare {
                continue;
            }
            if let Some(taken) = self.machines.find(gpus) {
                if !in_time {
                    spare -= gpus;
                }
                self.start(rank, job, taken);
            }
        }
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
