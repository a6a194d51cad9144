//! A local executor in a folder of its own, and ways to wait for it.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use lepton_executors::{
    Executor, LocalConfig, LocalExecutor, LogStream, Observation, Program, WorkloadId, WorkloadSpec,
};
use tempfile::TempDir;

use crate::suite::{self, Behaviour, Ground};

/// The longest any worker of these tests may take, on a machine that builds beside it.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Local {
    // Dropped first, while the folder is still there.
    pub(crate) executor: LocalExecutor,
    news: Arc<(Mutex<()>, Condvar)>,
    pub(crate) folder: TempDir,
}

pub(crate) fn config(root: &Path) -> LocalConfig {
    LocalConfig::at(root.to_owned(), std::env::current_exe().unwrap())
}

impl Local {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut LocalConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::at(folder, change)
    }

    pub(crate) fn at(folder: TempDir, change: impl FnOnce(&mut LocalConfig)) -> Self {
        let mut config = config(&folder.path().join("workers"));
        change(&mut config);
        let executor = LocalExecutor::open(config).unwrap();
        let news = Arc::new((Mutex::new(()), Condvar::new()));
        let wake = Arc::clone(&news);
        executor.subscribe(Arc::new(move || wake.1.notify_all()));
        Self {
            executor,
            news,
            folder,
        }
    }

    /// Starts `sh -c SCRIPT`.
    pub(crate) fn sh(&self, script: &str) -> WorkloadId {
        let spec = suite::spec(sh(script));
        self.start(&spec)
    }

    pub(crate) fn start(&self, spec: &WorkloadSpec) -> WorkloadId {
        self.executor.start(spec).unwrap();
        spec.id
    }

    pub(crate) fn log(&self, id: WorkloadId, stream: LogStream) -> String {
        let chunk = self.executor.read_log(id, stream, 0, 1 << 20).unwrap();
        String::from_utf8(chunk.bytes).unwrap()
    }

    /// Waits for a condition that no wake announces.
    pub(crate) fn eventually(&self, what: &str, done: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < deadline, "never: {what}");
            self.pause(Duration::from_millis(5));
        }
    }

    fn pause(&self, longest: Duration) {
        let guard = self.news.0.lock().unwrap();
        drop(self.news.1.wait_timeout(guard, longest).unwrap());
    }
}

pub(crate) fn sh(script: &str) -> Program {
    Program::Command(["sh", "-c", script].map(str::to_owned).to_vec())
}

impl Ground for Local {
    fn executor(&self) -> &dyn Executor {
        &self.executor
    }

    fn program(&self, behaviour: Behaviour) -> Program {
        match behaviour {
            Behaviour::Exit(code) => sh(&format!("echo hello; exit {code}")),
            Behaviour::UntilAsked => sh("exec sleep 1000"),
            Behaviour::Stubborn => sh("trap '' TERM; while :; do sleep 1; done"),
            Behaviour::Missing => Program::Command(vec!["no-such-command".to_owned()]),
        }
    }

    fn until(&self, id: WorkloadId, wanted: &dyn Fn(&Observation) -> bool) -> Observation {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.executor.observe().unwrap().remove(&id);
            if let Some(seen) = seen.as_ref().filter(|seen| wanted(seen)) {
                return seen.clone();
            }
            let stuck = seen.as_ref().is_some_and(Observation::is_final);
            assert!(!stuck && Instant::now() < deadline, "{id} stayed {seen:?}");
            self.pause(Duration::from_millis(20));
        }
    }
}
