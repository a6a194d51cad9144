//! Which pieces uploads under way rely on.
//!
//! Owns: that no sweep removes a piece between the moment an upload found it and the moment the
//! upload's blob is recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use lepton_types::Name;
use tokio::sync::{RwLock, RwLockWriteGuard};

use crate::index::PieceKey;

/// The pieces in use.
#[derive(Debug, Clone, Default)]
pub(crate) struct PinnedPieces(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: Mutex<BTreeMap<(Name, PieceKey), usize>>,
    /// Held for writing while pieces are removed: nothing is pinned meanwhile.
    removing: RwLock<()>,
}

/// Keeps a piece until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: PinnedPieces,
    piece: (Name, PieceKey),
}

impl PinnedPieces {
    /// From here on the piece stays, if the index has it.
    pub(crate) async fn pin(&self, project: &Name, key: PieceKey) -> Pin {
        let _removing = self.0.removing.read().await;
        let piece = (project.clone(), key);
        let mut counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(piece.clone()).or_default() += 1;
        Pin {
            pins: self.clone(),
            piece,
        }
    }

    /// Drops pinned pieces from `keys`. Nothing is pinned until the guard is dropped.
    pub(crate) async fn removable(
        &self,
        project: &Name,
        keys: &mut Vec<PieceKey>,
    ) -> RwLockWriteGuard<'_, ()> {
        let removing = self.0.removing.write().await;
        let counts = self.0.counts.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| !counts.contains_key(&(project.clone(), *key)));
        drop(counts);
        removing
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let counts = self.pins.0.counts.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.piece) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.piece);
            }
        }
    }
}
