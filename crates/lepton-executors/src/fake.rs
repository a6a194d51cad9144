//! The executor of the simulation: no process, no wall clock, every fate drawn from a seed.
//!
//! What a worker does is settled when it starts, from the seed and its own id, so it does not depend
//! on what else happens; what is seen of it follows from the clock.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lepton_types::{Clock, DurationMs, MemoryBytes, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::{
    CpuEnforcement, Enforcement, Executor, ExitOutcome, LogChunk, LogStream, LostReason,
    MemoryEnforcement, Observation, ObserveError, ReadError, RemoveError, StartError, StopError,
    StopReason, Usage, Wake, WorkloadId, WorkloadSpec,
};

/// What one worker of the simulation does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeScript {
    /// From being accepted to running.
    pub starts_after: DurationMs,
    /// From running to its end; none runs until it is stopped.
    pub runs_for: Option<DurationMs>,
    /// How it ends by itself. `CouldNotStart` ends it before it runs.
    pub outcome: ExitOutcome,
    /// From being accepted to being lost, if it lives so long.
    pub lost_after: Option<DurationMs>,
    /// It ignores the request to stop, and ends only when its grace is over.
    pub stubborn: bool,
    /// What it prints as it starts to run.
    pub stdout: Vec<u8>,
    /// What it leaves in its working directory.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// From what the fates of workers without a script are drawn. Rates are per thousand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeConfig {
    /// The same seed and the same calls give the same answers.
    pub seed: u64,
    /// The longest a start takes.
    pub starts_within: DurationMs,
    /// The longest a worker runs.
    pub runs_within: DurationMs,
    /// How many end with a code other than 0.
    pub failing: u32,
    /// How many are lost on the way.
    pub lost: u32,
    /// How many calls to start, stop, observe or remove fail; half of those that failed to answer did
    /// their work all the same.
    pub unavailable: u32,
}

impl Default for FakeConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            starts_within: DurationMs::from_millis(500),
            runs_within: DurationMs::from_secs(60),
            failing: 0,
            lost: 0,
            unavailable: 0,
        }
    }
}

type Scripts = Box<dyn Fn(&WorkloadSpec) -> Option<FakeScript> + Send + Sync>;

/// An [`Executor`] in memory.
pub struct FakeExecutor {
    config: FakeConfig,
    clock: Arc<dyn Clock>,
    scripts: Scripts,
    state: Mutex<State>,
    wakes: Mutex<Vec<Wake>>,
}

#[derive(Default)]
struct State {
    workers: BTreeMap<WorkloadId, Worker>,
    /// What the last [`FakeExecutor::tick`] saw.
    seen: BTreeMap<WorkloadId, Observation>,
    calls: u64,
    starts: BTreeMap<WorkloadId, u32>,
    ports: u16,
}

struct Worker {
    script: FakeScript,
    accepted: Timestamp,
    timeout: Option<DurationMs>,
    grace: DurationMs,
    addresses: BTreeMap<String, SocketAddr>,
    stop: Option<(Timestamp, StopReason)>,
    lost: Option<(Timestamp, LostReason)>,
}

/// What becomes of a call.
enum Luck {
    Works,
    FailsButWorks,
    Fails,
}

impl FakeExecutor {
    /// An executor whose workers all draw their fates from the seed.
    #[must_use]
    pub fn seeded(config: FakeConfig, clock: Arc<dyn Clock>) -> Self {
        Self::scripted(config, clock, |_| None)
    }

    /// An executor whose workers do what `scripts` says; those without a script draw their fates.
    #[must_use]
    pub fn scripted(
        config: FakeConfig,
        clock: Arc<dyn Clock>,
        scripts: impl Fn(&WorkloadSpec) -> Option<FakeScript> + Send + Sync + 'static,
    ) -> Self {
        Self {
            config,
            clock,
            scripts: Box::new(scripts),
            state: Mutex::default(),
            wakes: Mutex::default(),
        }
    }

    /// Call it when the clock moved: wakes the subscribers if a worker changed.
    pub fn tick(&self) {
        let now = self.clock.now();
        let changed = {
            let mut state = self.state();
            let current = state.observe(now);
            let changed = current != state.seen;
            state.seen = current;
            changed
        };
        if changed {
            self.wake();
        }
    }

    /// When the next worker changes by itself, so that a simulation may jump there.
    #[must_use]
    pub fn next_change(&self) -> Option<Timestamp> {
        let now = self.clock.now();
        let state = self.state();
        let changes = state.workers.values().flat_map(|worker| {
            let (end, _) = worker.end();
            [Some(worker.begins()), end].into_iter().flatten()
        });
        changes.filter(|at| *at > now).min()
    }

    /// The machine is gone, with all that has not ended.
    pub fn lose_all(&self) {
        let now = self.clock.now();
        for worker in self.state().workers.values_mut() {
            if !worker.observe(now).is_final() {
                worker.lost = Some((now, LostReason::NodeGone));
            }
        }
        self.tick();
    }

    /// How often each worker was really started; more than once breaks the promise of the seam.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<WorkloadId, u32> {
        self.state().starts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        let wakes = self
            .wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        wakes.iter().for_each(|wake| wake());
    }

    fn luck(&self, state: &mut State) -> Luck {
        state.calls += 1;
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed ^ state.calls.rotate_left(32));
        match (
            per_thousand(&mut rng, self.config.unavailable),
            rng.next_u32() % 2,
        ) {
            (false, _) => Luck::Works,
            (true, 0) => Luck::Fails,
            (true, _) => Luck::FailsButWorks,
        }
    }

    /// One random stream per worker.
    fn draw(&self, id: WorkloadId) -> FakeScript {
        let mut seed = [0_u8; 32];
        seed[..8].copy_from_slice(&self.config.seed.to_le_bytes());
        for (at, byte) in id.to_string().bytes().enumerate() {
            seed[8 + at % 24] = seed[8 + at % 24].rotate_left(3) ^ byte;
        }
        let mut rng = ChaCha8Rng::from_seed(seed);
        let starts_after = below(&mut rng, self.config.starts_within);
        let runs_for = below(&mut rng, self.config.runs_within);
        let code = if per_thousand(&mut rng, self.config.failing) {
            1
        } else {
            0
        };
        let lost = per_thousand(&mut rng, self.config.lost);
        let lost_after = lost.then(|| below(&mut rng, self.config.runs_within));
        FakeScript {
            starts_after,
            runs_for: Some(runs_for),
            outcome: ExitOutcome::Code(code),
            lost_after,
            stubborn: rng.next_u32().is_multiple_of(4),
            stdout: Vec::new(),
            files: BTreeMap::new(),
        }
    }
}

fn per_thousand(rng: &mut ChaCha8Rng, rate: u32) -> bool {
    rng.next_u32() % 1_000 < rate
}

fn below(rng: &mut ChaCha8Rng, most: DurationMs) -> DurationMs {
    DurationMs::from_millis(rng.next_u64() % most.as_millis().saturating_add(1))
}

impl State {
    fn observe(&self, now: Timestamp) -> BTreeMap<WorkloadId, Observation> {
        self.workers
            .iter()
            .map(|(id, worker)| (*id, worker.observe(now)))
            .collect()
    }
}

impl Worker {
    fn begins(&self) -> Timestamp {
        self.accepted + self.script.starts_after
    }

    /// When it ends and how: the earliest of all causes; its own end wins a tie.
    fn end(&self) -> (Option<Timestamp>, Option<ExitOutcome>) {
        let begins = self.begins();
        let mut causes = Vec::new();
        if matches!(self.script.outcome, ExitOutcome::CouldNotStart(_)) {
            causes.push((begins, self.script.outcome.clone()));
        } else if let Some(runs_for) = self.script.runs_for {
            causes.push((begins + runs_for, self.script.outcome.clone()));
        }
        if let Some(after) = self.timeout {
            causes.push((begins + after, ExitOutcome::TimedOut { after }));
        }
        if let Some((at, reason)) = self.stop {
            let grace = if self.script.stubborn && at >= begins {
                self.grace
            } else {
                DurationMs::ZERO
            };
            causes.push((at + grace, ExitOutcome::Stopped(reason)));
        }
        // `min_by_key` takes the first of equals.
        match causes.into_iter().min_by_key(|(at, _)| *at) {
            Some((at, outcome)) => (Some(at), Some(outcome)),
            None => (None, None),
        }
    }

    fn lost_at(&self) -> Option<(Timestamp, LostReason)> {
        let drawn = self
            .script
            .lost_after
            .map(|after| (self.accepted + after, LostReason::ShimDied));
        [drawn, self.lost]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn observe(&self, now: Timestamp) -> Observation {
        let begins = self.begins();
        let (end, outcome) = self.end();
        if let Some((at, reason)) = self.lost_at()
            && at <= now
            && end.is_none_or(|end| at < end)
        {
            return Observation::Lost { reason };
        }
        match (end, outcome) {
            (Some(finished_at), Some(outcome)) if finished_at <= now => {
                let ran =
                    begins <= finished_at && !matches!(outcome, ExitOutcome::CouldNotStart(_));
                Observation::Exited {
                    outcome,
                    started_at: ran.then_some(begins),
                    finished_at,
                    usage: Usage {
                        memory_peak: MemoryBytes::from_mib(1),
                        cpu_time: if ran {
                            finished_at.since(begins)
                        } else {
                            DurationMs::ZERO
                        },
                        log_bytes_lost: 0,
                    },
                }
            }
            _ if begins <= now => Observation::Running {
                pid: 1,
                since: begins,
                addresses: self.addresses.clone(),
                enforcement: Enforcement {
                    cpu: CpuEnforcement::Unlimited,
                    memory: MemoryEnforcement::Unlimited,
                },
            },
            _ => Observation::Starting,
        }
    }
}

impl Executor for FakeExecutor {
    fn start(&self, spec: &WorkloadSpec) -> Result<(), StartError> {
        let now = self.clock.now();
        let mut state = self.state();
        let luck = self.luck(&mut state);
        if !matches!(luck, Luck::Fails) && !state.workers.contains_key(&spec.id) {
            let script = (self.scripts)(spec).unwrap_or_else(|| self.draw(spec.id));
            let mut addresses = BTreeMap::new();
            for name in &spec.ports {
                let port = 20_000 + state.ports % 40_000;
                state.ports = state.ports.wrapping_add(1);
                addresses.insert(name.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            }
            let worker = Worker {
                script,
                accepted: now,
                timeout: spec.timeout,
                grace: spec.grace,
                addresses,
                stop: None,
                lost: None,
            };
            state.workers.insert(spec.id, worker);
            *state.starts.entry(spec.id).or_default() += 1;
        }
        drop(state);
        self.tick();
        match luck {
            Luck::Works => Ok(()),
            Luck::Fails | Luck::FailsButWorks => Err(StartError::Unavailable),
        }
    }

    fn observe(&self) -> Result<BTreeMap<WorkloadId, Observation>, ObserveError> {
        let mut state = self.state();
        match self.luck(&mut state) {
            Luck::Works => Ok(state.observe(self.clock.now())),
            Luck::Fails | Luck::FailsButWorks => Err(ObserveError::Unavailable),
        }
    }

    fn stop(&self, id: WorkloadId, reason: StopReason) -> Result<(), StopError> {
        let now = self.clock.now();
        let mut state = self.state();
        let luck = self.luck(&mut state);
        if !matches!(luck, Luck::Fails)
            && let Some(worker) = state.workers.get_mut(&id)
        {
            worker.stop.get_or_insert((now, reason));
        }
        drop(state);
        self.tick();
        match luck {
            Luck::Works => Ok(()),
            Luck::Fails | Luck::FailsButWorks => Err(StopError::Unavailable),
        }
    }

    fn remove(&self, id: WorkloadId) -> Result<(), RemoveError> {
        let now = self.clock.now();
        let mut state = self.state();
        let luck = self.luck(&mut state);
        match state.workers.get(&id) {
            Some(worker) if !worker.observe(now).is_final() => {
                return Err(RemoveError::StillRunning { id });
            }
            Some(_) if !matches!(luck, Luck::Fails) => {
                state.workers.remove(&id);
            }
            _ => {}
        }
        match luck {
            Luck::Works => Ok(()),
            Luck::Fails | Luck::FailsButWorks => Err(RemoveError::Unavailable),
        }
    }

    fn read_log(
        &self,
        id: WorkloadId,
        stream: LogStream,
        cursor: u64,
        max: usize,
    ) -> Result<LogChunk, ReadError> {
        let state = self.state();
        let worker = state
            .workers
            .get(&id)
            .ok_or(ReadError::UnknownWorkload { id })?;
        let printed = match (worker.observe(self.clock.now()), stream) {
            (Observation::Starting, _) | (_, LogStream::Stderr) => &[][..],
            _ => &worker.script.stdout,
        };
        let from = usize::try_from(cursor)
            .unwrap_or(usize::MAX)
            .min(printed.len());
        let bytes = &printed[from..printed.len().min(from.saturating_add(max))];
        let next = cursor.saturating_add(bytes.len() as u64);
        Ok(LogChunk {
            bytes: bytes.to_vec(),
            next,
            end: worker.observe(self.clock.now()).is_final() && next >= printed.len() as u64,
            truncated: false,
        })
    }

    fn read_file(&self, id: WorkloadId, path: &str, max: usize) -> Result<Vec<u8>, ReadError> {
        let state = self.state();
        let worker = state
            .workers
            .get(&id)
            .ok_or(ReadError::UnknownWorkload { id })?;
        match worker.script.files.get(path) {
            None => Err(ReadError::NotFound {
                path: path.to_owned(),
            }),
            Some(bytes) if bytes.len() > max => Err(ReadError::TooLarge {
                path: path.to_owned(),
                max,
            }),
            Some(bytes) => Ok(bytes.clone()),
        }
    }

    fn subscribe(&self, wake: Wake) {
        self.wakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(wake);
    }
}
