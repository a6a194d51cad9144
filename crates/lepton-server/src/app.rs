//! What every handler and the reconciler share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arc_swap::{ArcSwap, ArcSwapOption};
use lepton_access::MasterKey;
use lepton_executors::Executor;
use lepton_planner::workloads::{Health, View};
use lepton_serving::gateway::Gateway;
use lepton_store::Store;
use lepton_types::resources::Waiting;
use lepton_types::{Clock, Id, IdSource, Timestamp};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blobs::Blobs;
use crate::cache::Cache;
use crate::config::Config;
use crate::inputs::Inputs;
use crate::lineage::Ledger;
use crate::loads::Loads;
use crate::metering::Meter;
use crate::s3::Objects;
use crate::upkeep::Passes;

/// The parts of a running Lepton. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// See [`App`].
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) inputs: Inputs,
    pub(crate) objects: Objects,
    pub(crate) key: MasterKey,
    pub(crate) cache: Cache,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) gateway: Gateway,
    /// What the probes know of replicas.
    pub(crate) health: Mutex<BTreeMap<Id, Health>>,
    /// What the endpoints that follow their load were asked.
    pub(crate) loads: Loads,
    /// The newest decision about how many replicas there should be.
    pub(crate) scaled: ArcSwapOption<Taken>,
    /// Why things wait, from the last pass of the reconciler.
    pub(crate) waiting: ArcSwap<BTreeMap<Id, Waiting>>,
    /// The newest decision that moved something, to be taken again.
    pub(crate) decision: ArcSwapOption<Taken>,
    /// Turns for work that reads whole files.
    pub(crate) long_reads: Semaphore,
    /// What is known of lineage between two writes.
    pub(crate) lineage: Ledger,
    /// What went over the wire of this API since it was last written down.
    pub(crate) meter: Meter,
    /// The newest pass over all objects.
    pub(crate) passes: Passes,
    /// Rings when the reconciler should look.
    pub(crate) nudge: Notify,
    /// Cancelled when the server stops.
    pub(crate) stopping: CancellationToken,
    /// Every task of the server, so that stopping waits for them.
    pub(crate) tasks: TaskTracker,
}

/// What a decision was taken from. Sharing the view's values makes keeping it cheap.
pub(crate) struct Taken {
    pub(crate) view: View,
    pub(crate) now: Timestamp,
    pub(crate) seed: u64,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Under which URL workloads and clients of this machine reach the server.
    pub(crate) fn url(&self) -> String {
        self.config.url()
    }

    /// Does work with the executor off the async threads.
    pub(crate) async fn with_executor<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Executor) -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        let executor = Arc::clone(&self.executor);
        tokio::task::spawn_blocking(move || work(executor.as_ref())).await
    }
}
