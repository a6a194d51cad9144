//! The data keys of each project, kept wrapped beside the contents.
//!
//! Owns: which keys a project has, which one seals, and that a shredded key is gone and
//! remembered as gone. Must not know: what is sealed under a key.
//!
//! Most of a project's data keys have no name, and the newest of them seals what is written. A key
//! with a name seals only what asks for it by that name; renewed, the newest of the name does.

mod file;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lepton_types::{DataKeyId, IdSource, Name};
use object_store::UpdateVersion;
use zeroize::Zeroizing;

use crate::backend::{Backend, KeyWrite, block};
use crate::error::ContentError;
use crate::index::PieceKey;
use crate::keys::{KeyError, KeyWrapper, keyed, random};
use file::{close, open, parse};

/// A data key, in memory only.
#[derive(Clone)]
pub(crate) struct DataKey {
    pub(crate) id: DataKeyId,
    pub(crate) secret: Arc<Zeroizing<[u8; 32]>>,
}

/// Names pieces within one project.
#[derive(Clone)]
pub(crate) struct PieceNamer(Arc<Zeroizing<[u8; 32]>>);

impl PieceNamer {
    pub(crate) fn name(&self, piece: &[u8]) -> PieceKey {
        PieceKey(keyed(self.0.as_slice(), &[piece]))
    }
}

/// All projects' keys.
pub(crate) struct KeyRings {
    backend: Backend,
    ids: Arc<dyn IdSource>,
    /// The first wraps; all of them open.
    wrappers: RwLock<Vec<Arc<dyn KeyWrapper>>>,
    /// One small ring a project.
    opened: Mutex<BTreeMap<Name, Arc<Ring>>>,
    /// Held while a ring is read, changed and written.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Ring {
    /// Oldest first; the last live one seals.
    keys: Vec<RingKey>,
    /// None: nothing is kept yet.
    kept: Option<KeptVersion>,
    /// Whether what is kept was written before names were bound into the wrapping.
    names_are_loose: bool,
}

/// What the kept ring must be when it is replaced.
#[derive(Clone)]
struct KeptVersion(Option<UpdateVersion>);

#[derive(Clone)]
struct RingKey {
    id: DataKeyId,
    /// None: one of those that seal what asks for none.
    name: Option<Name>,
    /// None: it was shredded.
    secret: Option<Arc<Zeroizing<[u8; 32]>>>,
    wrapped_by: String,
}

/// A data key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKey {
    /// Its id.
    pub id: DataKeyId,
    /// The name that it goes by, if it seals only what asks for it.
    pub name: Option<Name>,
    /// What wraps it; none: it was shredded.
    pub wrapped_by: Option<String>,
}

/// Which data keys are wrapped anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrap {
    /// Those that another master key wraps.
    Foreign,
    /// All: a key service may have a newer version of the same master key.
    All,
}

impl Ring {
    /// The newest live key of a name, or of those without one.
    fn current(&self, name: Option<&Name>) -> Option<DataKey> {
        let mut named = self.of(name).rev();
        named.find_map(|key| {
            key.secret.as_ref().map(|secret| DataKey {
                id: key.id,
                secret: Arc::clone(secret),
            })
        })
    }

    /// The keys of a name, or those without one.
    fn of<'a>(&'a self, name: Option<&'a Name>) -> impl DoubleEndedIterator<Item = &'a RingKey> {
        self.keys
            .iter()
            .filter(move |key| key.name.as_ref() == name)
    }

    /// Why a name has no live key.
    fn missing(&self, project: &Name, name: &Name) -> KeyError {
        let is_known = self.of(Some(name)).next().is_some();
        let (project, name) = (project.clone(), name.clone());
        match is_known {
            true => KeyError::NameShredded { project, name },
            false => KeyError::NoSuchName { project, name },
        }
    }

    fn find(&self, id: DataKeyId) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.id == id)
    }
}

impl KeyRings {
    pub(crate) fn new(
        backend: Backend,
        ids: Arc<dyn IdSource>,
        wrapper: Arc<dyn KeyWrapper>,
        retired: Vec<Arc<dyn KeyWrapper>>,
    ) -> Self {
        Self {
            backend,
            ids,
            wrappers: RwLock::new(std::iter::once(wrapper).chain(retired).collect()),
            opened: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// The key that seals new contents; made at the first call.
    pub(crate) async fn current(&self, project: &Name) -> Result<DataKey, ContentError> {
        if let Some(key) = self.cached(project).and_then(|ring| ring.current(None)) {
            return Ok(key);
        }
        let _changing = self.changing.lock().await;
        let ring = self.load(project).await?;
        if let Some(key) = ring.current(None) {
            return Ok(key);
        }
        match self.add_key(project, None, &ring).await {
            // Another server made one first.
            Err(ContentError::Key(KeyError::Changed { .. })) => {
                let ring = self.load(project).await?;
                ring.current(None).ok_or_else(|| changed(project).into())
            }
            made => made,
        }
    }

    /// The key that seals what asks for this name.
    pub(crate) async fn named(&self, project: &Name, name: &Name) -> Result<DataKey, ContentError> {
        let cached = self.cached(project);
        if let Some(key) = cached.and_then(|ring| ring.current(Some(name))) {
            return Ok(key);
        }
        let ring = self.load(project).await?;
        let key = ring.current(Some(name));
        key.ok_or_else(|| ring.missing(project, name).into())
    }

    /// Makes a key of a name that has none, or none any more.
    pub(crate) async fn create(
        &self,
        project: &Name,
        name: &Name,
    ) -> Result<DataKeyId, ContentError> {
        // What the project seals by itself comes first: names are no reason to have none.
        self.current(project).await?;
        let _changing = self.changing.lock().await;
        let ring = self.load(project).await?;
        if ring.current(Some(name)).is_some() {
            let (project, name) = (project.clone(), name.clone());
            return Err(KeyError::NameTaken { project, name }.into());
        }
        Ok(self.add_key(project, Some(name), &ring).await?.id)
    }

    pub(crate) async fn find(
        &self,
        project: &Name,
        id: DataKeyId,
    ) -> Result<DataKey, ContentError> {
        let cached = self.cached(project);
        let ring = match cached.filter(|ring| ring.find(id).is_some()) {
            Some(ring) => ring,
            None => self.load(project).await?,
        };
        let key = ring.find(id).ok_or_else(|| KeyError::NotFound {
            project: project.clone(),
            key: id,
        })?;
        let secret = key.secret.clone().ok_or(KeyError::Shredded { key: id })?;
        Ok(DataKey { id, secret })
    }

    /// What names the project's pieces, none of which is under a key with a name. It is another one
    /// after any other key was shredded, so that no piece is found that cannot be read.
    pub(crate) async fn piece_namer(&self, project: &Name) -> Result<PieceNamer, ContentError> {
        self.current(project).await?;
        let ring = match self.cached(project) {
            Some(ring) => ring,
            None => self.load(project).await?,
        };
        let live = ring.of(None).find_map(|key| key.secret.clone());
        // Destroyed in this very moment, or failing: the caller may try again.
        let oldest = live.ok_or_else(|| KeyError::Damaged {
            project: project.clone(),
        })?;
        let shredded = ring.of(None).filter(|key| key.secret.is_none()).count();
        let secret = keyed(
            oldest.as_slice(),
            &[
                b"lepton piece keys v1",
                &(shredded as u64).to_be_bytes(),
                project.as_str().as_bytes(),
            ],
        );
        Ok(PieceNamer(Arc::new(Zeroizing::new(secret))))
    }

    pub(crate) async fn ids(&self, project: &Name) -> Result<Vec<DataKeyId>, ContentError> {
        let ring = self.load(project).await?;
        let live = ring.keys.iter().filter(|key| key.secret.is_some());
        Ok(live.map(|key| key.id).collect())
    }

    /// Makes a new key for what asks for this name, or for what asks for none.
    pub(crate) async fn renew(
        &self,
        project: &Name,
        name: Option<&Name>,
    ) -> Result<DataKeyId, ContentError> {
        let _changing = self.changing.lock().await;
        let ring = self.load(project).await?;
        if let Some(name) = name
            && ring.current(Some(name)).is_none()
        {
            return Err(ring.missing(project, name).into());
        }
        Ok(self.add_key(project, name, &ring).await?.id)
    }

    pub(crate) async fn rewrap(&self, project: &Name, which: Rewrap) -> Result<bool, ContentError> {
        let _changing = self.changing.lock().await;
        let ring = self.load(project).await?;
        let label = self.wrapper().label();
        let mut live = ring.keys.iter().filter(|key| key.secret.is_some());
        let is_current = !ring.names_are_loose && live.clone().all(|key| key.wrapped_by == label);
        if live.next().is_none() || (is_current && which == Rewrap::Foreign) {
            return Ok(false);
        }
        self.store(project, Ring::clone(&ring)).await?;
        Ok(true)
    }

    /// From now on `wrapper` wraps; those before it still open. What is under way with the one
    /// before is kept when this returns.
    pub(crate) async fn wrap_with(&self, wrapper: Arc<dyn KeyWrapper>) {
        let _changing = self.changing.lock().await;
        let mut wrappers = self
            .wrappers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let label = wrapper.label();
        wrappers.retain(|known| known.label() != label);
        wrappers.insert(0, wrapper);
    }

    /// Opens nothing with a wrapper any more, unless it is the one that wraps.
    pub(crate) fn forget_wrapper(&self, label: &str) {
        let mut wrappers = self
            .wrappers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let current = wrappers.first().map(|wrapper| wrapper.label());
        wrappers.retain(|known| {
            let known = known.label();
            known != label || Some(&known) == current.as_ref()
        });
    }

    /// All wrappers, the one that wraps first.
    pub(crate) fn wrappers(&self) -> Vec<Arc<dyn KeyWrapper>> {
        let wrappers = self.wrappers.read().unwrap_or_else(PoisonError::into_inner);
        wrappers.clone()
    }

    fn wrapper(&self) -> Arc<dyn KeyWrapper> {
        let mut wrappers = self.wrappers().into_iter();
        wrappers
            .next()
            .expect("invariant: one wrapper is never taken away")
    }

    /// What is kept of a project's keys, without opening them.
    pub(crate) async fn kept(&self, project: &Name) -> Result<Vec<KeptKey>, ContentError> {
        let Some(file) = self.backend.load_keys(project).await? else {
            return Ok(Vec::new());
        };
        let rows = parse(project, &file.bytes)?.keys;
        let kept = rows.into_iter().map(|row| KeptKey {
            id: row.id,
            name: row.name,
            wrapped_by: row.sealed.map(|sealed| sealed.by),
        });
        Ok(kept.collect())
    }

    pub(crate) async fn shred_key(
        &self,
        project: &Name,
        id: DataKeyId,
    ) -> Result<(), ContentError> {
        let _changing = self.changing.lock().await;
        let mut ring = Ring::clone(&*self.load(project).await?);
        let was_current = ring.current(None).is_some_and(|key| key.id == id);
        let key = ring.keys.iter_mut().find(|key| key.id == id);
        let key = key.ok_or_else(|| KeyError::NotFound {
            project: project.clone(),
            key: id,
        })?;
        key.secret = None;
        if was_current {
            // An older key would be the current one otherwise.
            self.add_key(project, None, &ring).await?;
            return Ok(());
        }
        self.store(project, ring).await
    }

    /// Destroys all keys of a name; the name has none then. Tells how many there were.
    pub(crate) async fn shred_name(
        &self,
        project: &Name,
        name: &Name,
    ) -> Result<u64, ContentError> {
        let _changing = self.changing.lock().await;
        let mut ring = Ring::clone(&*self.load(project).await?);
        let mut keys = 0;
        for key in &mut ring.keys {
            if key.name.as_ref() == Some(name) && key.secret.take().is_some() {
                keys += 1;
            }
        }
        if keys == 0 {
            return Err(ring.missing(project, name).into());
        }
        self.store(project, ring).await?;
        Ok(keys)
    }

    pub(crate) async fn shred_project(&self, project: &Name) -> Result<(), ContentError> {
        let _changing = self.changing.lock().await;
        // Read without opening: a ring whose master key is lost can be shredded, too.
        let Some(file) = self.backend.load_keys(project).await? else {
            return Ok(());
        };
        let rows = parse(project, &file.bytes).map(|file| file.keys);
        let keys = rows.unwrap_or_default().into_iter().map(|row| RingKey {
            id: row.id,
            name: row.name,
            secret: None,
            wrapped_by: String::new(),
        });
        let ring = Ring {
            keys: keys.collect(),
            kept: Some(KeptVersion(file.version)),
            names_are_loose: false,
        };
        self.store(project, ring).await
    }

    /// Copies a project's wrapped keys to `replica`, if they differ from what it has.
    pub(crate) async fn copy_to(
        &self,
        project: &Name,
        replica: &Backend,
    ) -> Result<(), ContentError> {
        let _changing = self.changing.lock().await;
        let ours = self.backend.load_keys(project).await?;
        let theirs = replica.load_keys(project).await?;
        if let Some(ours) = ours
            && theirs.is_none_or(|theirs| theirs.bytes != ours.bytes)
        {
            let write = KeyWrite::Overwrite;
            replica.store_keys(project, ours.bytes, write).await?;
        }
        Ok(())
    }

    fn cached(&self, project: &Name) -> Option<Arc<Ring>> {
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.get(project).cloned()
    }

    fn forget(&self, project: &Name) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.remove(project);
    }

    fn remember(&self, project: &Name, ring: Ring) -> Arc<Ring> {
        let ring = Arc::new(ring);
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.insert(project.clone(), Arc::clone(&ring));
        ring
    }

    async fn load(&self, project: &Name) -> Result<Arc<Ring>, ContentError> {
        let Some(file) = self.backend.load_keys(project).await? else {
            return Ok(Arc::default());
        };
        let wrappers = self.wrappers();
        let of = project.clone();
        let mut opened = block(move || open(&of, &file.bytes, &wrappers)).await?;
        opened.kept = Some(KeptVersion(file.version));
        Ok(self.remember(project, opened))
    }

    async fn add_key(
        &self,
        project: &Name,
        name: Option<&Name>,
        ring: &Ring,
    ) -> Result<DataKey, ContentError> {
        let key = DataKey {
            id: self.ids.next_id().into(),
            secret: Arc::new(Zeroizing::new(random())),
        };
        let mut ring = ring.clone();
        ring.keys.push(RingKey {
            id: key.id,
            name: name.cloned(),
            secret: Some(Arc::clone(&key.secret)),
            wrapped_by: String::new(),
        });
        self.store(project, ring).await?;
        Ok(key)
    }

    /// Wraps all keys anew and keeps them. What is in memory follows what is on disk.
    async fn store(&self, project: &Name, mut ring: Ring) -> Result<(), ContentError> {
        let (wrapper, of) = (self.wrapper(), project.clone());
        let (ring, bytes) = block(move || {
            let bytes = close(&of, &mut ring, &*wrapper)?;
            Ok::<_, KeyError>((ring, bytes))
        })
        .await?;
        let write = match &ring.kept {
            None => KeyWrite::Create,
            Some(KeptVersion(version)) => KeyWrite::Replace(version.clone()),
        };
        // Until it is known which of the two is there, neither is remembered.
        self.forget(project);
        if !self.backend.store_keys(project, bytes, write).await? {
            return Err(changed(project).into());
        }
        self.remember(project, ring);
        Ok(())
    }
}

fn changed(project: &Name) -> KeyError {
    KeyError::Changed {
        project: project.clone(),
    }
}
