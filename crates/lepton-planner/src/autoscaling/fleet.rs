//! A fleet of replicas behind one queue, simulated event by event.
//!
//! Owns: starting, serving, draining and what is paid for them. Must not know: who decides
//! how many there are, or why.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use serde::{Deserialize, Serialize};

/// What a fleet is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetSpec {
    /// Requests that one replica serves at once.
    pub slots: u32,
    /// Time from the order to the first request, paid.
    pub cold_start_ms: u64,
    /// A request that waits longer than this is late.
    pub late_after_ms: u64,
    /// Whether a replica that drains may take requests again; a gateway of its own can do
    /// so, a pod that Kubernetes is ending cannot.
    pub revive: bool,
}

impl FleetSpec {
    /// Replicas that serve `load` requests at once.
    #[must_use]
    pub fn replicas_for(&self, load: u64) -> u32 {
        u32::try_from(load.div_ceil(u64::from(self.slots.max(1)))).unwrap_or(u32::MAX)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Ready,
    Draining,
    Gone,
}

#[derive(Debug, Clone, Copy)]
struct Replica {
    phase: Phase,
    running: u32,
    since_ms: u64,
}

/// A simulated fleet. Time only moves forward.
#[derive(Debug, Clone)]
pub struct Fleet {
    spec: FleetSpec,
    replicas: Vec<Replica>,
    /// Replicas that cost something, oldest first.
    live: Vec<usize>,
    /// (ready at, replica), in the order in which they were ordered.
    starting: VecDeque<(u64, usize)>,
    /// (ends at, replica, service time).
    serving: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// (arrived at, service time).
    queue: VecDeque<(u64, u64)>,
    now_ms: u64,
    in_system: u64,
    in_system_ms: u64,
    paid_ms: u64,
    late: u64,
    ended: u64,
    ended_ms: u64,
    fresh: Vec<u64>,
}

/// How many replicas are in which phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Serving, or able to.
    pub ready: u32,
    /// Ordered and not ready yet.
    pub starting: u32,
    /// Finishing what they have.
    pub draining: u32,
}

impl Fleet {
    /// A fleet of `warm` ready replicas at time zero.
    #[must_use]
    pub fn warm(spec: FleetSpec, warm: u32) -> Self {
        let ready = Replica {
            phase: Phase::Ready,
            running: 0,
            since_ms: 0,
        };
        Self {
            spec,
            replicas: vec![ready; warm as usize],
            live: (0..warm as usize).collect(),
            starting: VecDeque::new(),
            serving: BinaryHeap::new(),
            queue: VecDeque::new(),
            now_ms: 0,
            in_system: 0,
            in_system_ms: 0,
            paid_ms: 0,
            late: 0,
            ended: 0,
            ended_ms: 0,
            fresh: Vec::new(),
        }
    }

    /// Moves time on to `to_ms`: replicas become ready, requests end.
    pub fn advance(&mut self, to_ms: u64) {
        loop {
            let ready = self.starting.front().map_or(u64::MAX, |(at, _)| *at);
            let done = self
                .serving
                .peek()
                .map_or(u64::MAX, |Reverse((at, ..))| *at);
            if ready.min(done) > to_ms {
                break;
            }
            if done <= ready {
                self.end_one();
            } else {
                self.ready_one();
            }
        }
        self.tick(to_ms);
    }

    fn tick(&mut self, to_ms: u64) {
        let passed = to_ms.saturating_sub(self.now_ms);
        self.in_system_ms += passed * self.in_system;
        self.now_ms = self.now_ms.max(to_ms);
    }

    fn end_one(&mut self) {
        let Some(Reverse((at, who, service_ms))) = self.serving.pop() else {
            return;
        };
        self.tick(at);
        self.ended += 1;
        self.ended_ms += service_ms;
        self.fresh.push(service_ms);
        self.in_system -= 1;
        self.replicas[who].running -= 1;
        match self.replicas[who].phase {
            Phase::Draining if self.replicas[who].running == 0 => self.stop(who),
            Phase::Ready => self.feed(who),
            Phase::Draining | Phase::Starting | Phase::Gone => {}
        }
    }

    fn ready_one(&mut self) {
        let Some((at, who)) = self.starting.pop_front() else {
            return;
        };
        self.tick(at);
        self.replicas[who].phase = Phase::Ready;
        self.feed(who);
    }

    /// Gives `who` what waits, as far as it has room.
    fn feed(&mut self, who: usize) {
        while self.replicas[who].running < self.spec.slots {
            let Some((arrived, service)) = self.queue.pop_front() else {
                return;
            };
            self.serve(who, arrived, service);
        }
    }

    fn serve(&mut self, who: usize, arrived_ms: u64, service_ms: u64) {
        self.replicas[who].running += 1;
        if self.now_ms - arrived_ms > self.spec.late_after_ms {
            self.late += 1;
        }
        let ends_ms = self.now_ms.saturating_add(service_ms);
        self.serving.push(Reverse((ends_ms, who, service_ms)));
    }

    /// A request arrives at the time that `advance` was last given. It goes to the fullest
    /// replica with room, so that the emptiest can be drained.
    pub fn arrive(&mut self, service_ms: u64) {
        self.in_system += 1;
        let fullest = self
            .live
            .iter()
            .copied()
            .filter(|who| {
                let replica = &self.replicas[*who];
                replica.phase == Phase::Ready && replica.running < self.spec.slots
            })
            .max_by_key(|who| (self.replicas[*who].running, Reverse(*who)));
        match fullest {
            Some(who) => self.serve(who, self.now_ms, service_ms),
            None => self.queue.push_back((self.now_ms, service_ms)),
        }
    }

    /// Orders or drains replicas until `target` are ready or starting.
    pub fn scale_to(&mut self, target: u32) {
        let counts = self.counts();
        let have = counts.ready + counts.starting;
        for _ in have..target {
            self.add_one();
        }
        for _ in target..have {
            self.remove_one();
        }
    }

    fn add_one(&mut self) {
        if self.spec.revive {
            let fullest = self
                .live
                .iter()
                .copied()
                .filter(|who| self.replicas[*who].phase == Phase::Draining)
                .max_by_key(|who| (self.replicas[*who].running, Reverse(*who)));
            if let Some(who) = fullest {
                self.replicas[who].phase = Phase::Ready;
                self.feed(who);
                return;
            }
        }
        let who = self.replicas.len();
        self.replicas.push(Replica {
            phase: Phase::Starting,
            running: 0,
            since_ms: self.now_ms,
        });
        self.live.push(who);
        self.starting
            .push_back((self.now_ms + self.spec.cold_start_ms, who));
    }

    /// The youngest that has not started yet, else the emptiest.
    fn remove_one(&mut self) {
        if let Some((_, who)) = self.starting.pop_back() {
            self.stop(who);
            return;
        }
        let emptiest = self
            .live
            .iter()
            .copied()
            .filter(|who| self.replicas[*who].phase == Phase::Ready)
            .min_by_key(|who| (self.replicas[*who].running, Reverse(*who)));
        if let Some(who) = emptiest {
            self.replicas[who].phase = Phase::Draining;
            if self.replicas[who].running == 0 {
                self.stop(who);
            }
        }
    }

    fn stop(&mut self, who: usize) {
        self.replicas[who].phase = Phase::Gone;
        self.paid_ms += self.now_ms - self.replicas[who].since_ms;
        self.live.retain(|other| *other != who);
    }

    /// What the fleet is made of.
    #[must_use]
    pub fn spec(&self) -> FleetSpec {
        self.spec
    }

    /// How many replicas are in which phase.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for who in &self.live {
            match self.replicas[*who].phase {
                Phase::Ready => counts.ready += 1,
                Phase::Starting => counts.starting += 1,
                Phase::Draining => counts.draining += 1,
                Phase::Gone => {}
            }
        }
        counts
    }

    /// Requests that wait or are served.
    #[must_use]
    pub fn in_system(&self) -> u64 {
        self.in_system
    }

    /// The integral of the requests in the system over time, in request-milliseconds.
    #[must_use]
    pub fn in_system_ms(&self) -> u64 {
        self.in_system_ms
    }

    /// Requests ended, and the milliseconds that they were served for.
    #[must_use]
    pub fn ended(&self) -> (u64, u64) {
        (self.ended, self.ended_ms)
    }

    /// Replica-milliseconds paid up to now.
    #[must_use]
    pub fn paid_ms(&self) -> u64 {
        let open: u64 = self
            .live
            .iter()
            .map(|who| self.now_ms - self.replicas[*who].since_ms)
            .sum();
        self.paid_ms + open
    }

    /// Requests that began to be served late, and those that wait and already are.
    #[must_use]
    pub fn late(&self) -> u64 {
        let waiting = self
            .queue
            .iter()
            .take_while(|(arrived, _)| self.now_ms - arrived > self.spec.late_after_ms)
            .count();
        self.late + waiting as u64
    }

    /// Takes the service times of what ended since the last call.
    pub fn take_ended(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.fresh)
    }
}
