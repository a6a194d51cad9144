//! Faults: an executor that fails on the way to the fake one, and remembers what it saw.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lepton_executors::{
    Executor, FakeExecutor, LogChunk, LogStream, Observation, ObserveError, ReadError, RemoveError,
    StartError, StopError, StopReason, Wake, WorkloadId, WorkloadSpec,
};
use lepton_types::Resources;

use crate::fates::Stream;

/// How calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// They do not.
    Fair,
    /// Some fail; half of those have done their work all the same.
    Rough,
    /// All fail, and do nothing.
    Outage,
}

/// The executor that the server sees.
pub(crate) struct FaultyExecutor {
    seed: u64,
    pub(crate) fake: FakeExecutor,
    memory: Mutex<Memory>,
}

struct Memory {
    weather: Weather,
    /// How often each call was made, so that each try has its own luck.
    tries: BTreeMap<(&'static str, Option<WorkloadId>), u64>,
    asked_for: BTreeMap<WorkloadId, Resources>,
    /// How workers ended that are dropped already.
    ended: BTreeMap<WorkloadId, Observation>,
}

/// What becomes of a call.
#[derive(PartialEq, Eq)]
enum Luck {
    Works,
    FailsButWorks,
    Fails,
}

impl FaultyExecutor {
    pub(crate) fn new(seed: u64, fake: FakeExecutor) -> Arc<Self> {
        let memory = Memory {
            weather: Weather::Fair,
            tries: BTreeMap::new(),
            asked_for: BTreeMap::new(),
            ended: BTreeMap::new(),
        };
        let memory = Mutex::new(memory);
        Arc::new(Self { seed, fake, memory })
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.memory().weather = weather;
    }

    /// What the workers really do, whatever the weather.
    pub(crate) fn truth(&self) -> BTreeMap<WorkloadId, Observation> {
        self.fake.observe().unwrap_or_default()
    }

    /// What each worker was started with.
    pub(crate) fn asked_for(&self) -> BTreeMap<WorkloadId, Resources> {
        self.memory().asked_for.clone()
    }

    /// How every worker that is over ended.
    pub(crate) fn ends(&self) -> BTreeMap<WorkloadId, Observation> {
        let over = self.truth().into_iter().filter(|(_, seen)| seen.is_final());
        over.chain(self.memory().ended.clone()).collect()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn luck(&self, call: &'static str, id: Option<WorkloadId>) -> Luck {
        let mut memory = self.memory();
        match memory.weather {
            Weather::Fair => Luck::Works,
            Weather::Outage => Luck::Fails,
            Weather::Rough => {
                let tries = memory.tries.entry((call, id)).or_default();
                *tries += 1;
                let mut stream = Stream::new(self.seed, &format!("{call} {id:?} {tries}"));
                match (stream.chance(200), stream.chance(500)) {
                    (false, _) => Luck::Works,
                    (true, true) => Luck::FailsButWorks,
                    (true, false) => Luck::Fails,
                }
            }
        }
    }
}

impl Executor for FaultyExecutor {
    fn start(&self, spec: &WorkloadSpec) -> Result<(), StartError> {
        let luck = self.luck("start", Some(spec.id));
        if luck != Luck::Fails {
            self.memory().asked_for.insert(spec.id, spec.resources);
            self.fake.start(spec)?;
        }
        match luck {
            Luck::Works => Ok(()),
            Luck::Fails | Luck::FailsButWorks => Err(StartError::Unavailable),
        }
    }

    fn observe(&self) -> Result<BTreeMap<WorkloadId, Observation>, ObserveError> {
        match self.luck("observe", None) {
            Luck::Works => self.fake.observe(),
            Luck::Fails | Luck::FailsButWorks => Err(ObserveError::Unavailable),
        }
    }

    fn stop(&self, id: WorkloadId, reason: StopReason) -> Result<(), StopError> {
        let luck = self.luck("stop", Some(id));
        if luck != Luck::Fails {
            self.fake.stop(id, reason)?;
        }
        match luck {
            Luck::Works => Ok(()),
            Luck::Fails | Luck::FailsButWorks => Err(StopError::Unavailable),
        }
    }

    fn remove(&self, id: WorkloadId) -> Result<(), RemoveError> {
        let luck = self.luck("remove", Some(id));
        if luck != Luck::Fails {
            let last = self.truth().remove(&id);
            self.fake.remove(id)?;
            if let Some(last) = last {
                self.memory().ended.insert(id, last);
            }
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
        self.fake.read_log(id, stream, cursor, max)
    }

    fn read_file(&self, id: WorkloadId, path: &str, max: usize) -> Result<Vec<u8>, ReadError> {
        self.fake.read_file(id, path, max)
    }

    fn subscribe(&self, wake: Wake) {
        self.fake.subscribe(wake);
    }
}
