//! What operators do with keys: data keys renewed, wrapped anew and shredded, master keys changed.
//!
//! Owns: that the replica's copy of the wrapped keys follows. Must not know: what is sealed.

use std::sync::Arc;

use lepton_types::{DataKeyId, Name};

use crate::contents::Contents;
use crate::error::ContentError;
use crate::key_ring::{KeptKey, Rewrap};
use crate::keys::KeyWrapper;

impl Contents {
    /// The data keys of a project, oldest first; new contents are sealed under the last.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn keys(&self, project: &Name) -> Result<Vec<DataKeyId>, ContentError> {
        self.key_rings().ids(project).await
    }

    /// Makes a new data key for what is written from now on. Rewrites no content.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub async fn rotate(&self, project: &Name) -> Result<DataKeyId, ContentError> {
        self.key_rings().renew(project, None).await
    }

    /// Makes a data key that seals only what asks for it by this name.
    ///
    /// # Errors
    /// If the name has a key, or it cannot be kept.
    pub async fn create_key(&self, project: &Name, name: &Name) -> Result<DataKeyId, ContentError> {
        self.key_rings().create(project, name).await
    }

    /// Makes a new data key for what asks for this name from now on. Rewrites no content.
    ///
    /// # Errors
    /// If the name has no key, or it cannot be kept.
    pub async fn renew_named(
        &self,
        project: &Name,
        name: &Name,
    ) -> Result<DataKeyId, ContentError> {
        self.key_rings().renew(project, Some(name)).await
    }

    /// Whether something can be sealed under the key of this name.
    ///
    /// # Errors
    /// If the name has no key, or it cannot be opened.
    pub async fn check_named(&self, project: &Name, name: &Name) -> Result<(), ContentError> {
        self.key_rings().named(project, name).await.map(drop)
    }

    /// Destroys all keys of this name, in the replica, too: what they sealed can never be read
    /// again, and the name has no key. Tells how many there were.
    ///
    /// # Errors
    /// If the name has no key, or the backend or the replica fails.
    pub async fn shred_named(&self, project: &Name, name: &Name) -> Result<u64, ContentError> {
        let keys = self.key_rings().shred_name(project, name).await?;
        self.copy_keys(project).await?;
        Ok(keys)
    }

    /// Wraps the data keys of all projects under the current master key, after it changed; those
    /// of the replica, too. Rewrites no content. Returns how many projects' keys were wrapped anew.
    ///
    /// # Errors
    /// If any cannot be opened or kept; what is left is done by calling it again.
    pub async fn rewrap(&self, which: Rewrap) -> Result<usize, ContentError> {
        let mut changed = 0;
        for project in self.projects().await? {
            changed += usize::from(self.key_rings().rewrap(&project, which).await?);
            self.copy_keys(&project).await?;
        }
        Ok(changed)
    }

    /// From now on `wrapper` wraps data keys; those before it still open what they wrapped.
    pub async fn wrap_with(&self, wrapper: Arc<dyn KeyWrapper>) {
        self.key_rings().wrap_with(wrapper).await;
    }

    /// Opens nothing any more with the wrapper of this label, unless it is the one that wraps.
    pub fn forget_wrapper(&self, label: &str) {
        self.key_rings().forget_wrapper(label);
    }

    /// The labels of all wrappers, the one that wraps first.
    #[must_use]
    pub fn wrappers(&self) -> Vec<String> {
        let wrappers = self.key_rings().wrappers();
        wrappers.iter().map(|wrapper| wrapper.label()).collect()
    }

    /// What is kept of a project's data keys, oldest first, shredded ones included.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn kept_keys(&self, project: &Name) -> Result<Vec<KeptKey>, ContentError> {
        self.key_rings().kept(project).await
    }

    /// Makes the wrapped keys of the replica those of the backend.
    async fn copy_keys(&self, project: &Name) -> Result<(), ContentError> {
        match self.replica() {
            Some(replica) => self.key_rings().copy_to(project, replica).await,
            None => Ok(()),
        }
    }

    /// Destroys one data key, in the replica, too: what it sealed can never be read again. The
    /// project's current key is replaced first.
    ///
    /// # Errors
    /// If there is no such key, or the backend fails.
    pub async fn shred_key(&self, project: &Name, key: DataKeyId) -> Result<(), ContentError> {
        self.key_rings().shred_key(project, key).await?;
        self.copy_keys(project).await
    }

    /// Destroys all data keys of a project, in the replica, too.
    ///
    /// # Errors
    /// If the backend or the replica fails; call it again until it does not.
    pub async fn shred_project(&self, project: &Name) -> Result<(), ContentError> {
        self.key_rings().shred_project(project).await?;
        self.copy_keys(project).await
    }
}
