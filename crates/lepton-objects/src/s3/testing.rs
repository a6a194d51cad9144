//! A face for tests, over a folder, that knows nobody.

use std::path::Path;
use std::sync::Arc;

use lepton_store::index::ObjectIndex;
use lepton_types::{DurationMs, IdSource, ManualClock, SystemIds, Timestamp};

use super::gate::{Gate, GateError, Holder};
use super::{Face, Parts};
use crate::{BackendConfig, Contents, ContentsConfig, MasterWrapper};

struct Nobody;

#[async_trait::async_trait]
impl Gate for Nobody {
    async fn holder(&self, _access_key: &str) -> Result<Option<Holder>, GateError> {
        Ok(None)
    }

    fn keeps(&self, _: &str, _: &str) -> bool {
        false
    }
}

/// A face without buckets.
pub(super) async fn face_in(folder: &Path, now: Timestamp, lifecycle_day: DurationMs) -> Face {
    let ids: Arc<dyn IdSource> = Arc::new(SystemIds);
    let contents = Contents::open(ContentsConfig {
        backend: BackendConfig::Local {
            root: folder.join("contents"),
        },
        replica: None,
        wrapper: Arc::new(MasterWrapper::new([1; 32])),
        retired_wrappers: Vec::new(),
        owner: None,
        ids: Arc::clone(&ids),
        inline_bytes_max: 100,
    });
    Face::new(Parts {
        index: ObjectIndex::open(&folder.join("objects.db")).unwrap(),
        contents: contents.await.unwrap(),
        gate: Arc::new(Nobody),
        clock: Arc::new(ManualClock::starting_at(now)),
        ids,
        lifecycle_day,
    })
}
