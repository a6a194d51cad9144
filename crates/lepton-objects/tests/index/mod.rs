//! An index in memory, for tests of what is built on one.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use lepton_objects::{Content, ContentIndex};
use lepton_types::{ContentId, Name};

/// The contents that are named. Clones are the same index.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryIndex(Arc<Mutex<BTreeMap<(Name, ContentId), Content>>>);

impl MemoryIndex {
    pub(crate) fn record(&self, project: &Name, content: Content) {
        let mut rows = self.0.lock().unwrap();
        rows.insert((project.clone(), content.id), content);
    }

    pub(crate) fn forget(&self, project: &Name, content: ContentId) {
        self.0.lock().unwrap().remove(&(project.clone(), content));
    }
}

impl ContentIndex for MemoryIndex {
    type Error = Infallible;

    async fn named(
        &self,
        project: &Name,
        ids: &[ContentId],
    ) -> Result<BTreeSet<ContentId>, Infallible> {
        let rows = self.0.lock().unwrap();
        let named = ids.iter().copied();
        Ok(named
            .filter(|id| rows.contains_key(&(project.clone(), *id)))
            .collect())
    }

    async fn contents_after(
        &self,
        project: &Name,
        after: Option<ContentId>,
        limit: usize,
    ) -> Result<Vec<Content>, Infallible> {
        let rows = self.0.lock().unwrap();
        let of_project = rows.iter().filter(|((of, _), _)| of == project);
        let later = of_project.filter(|((_, id), _)| after.is_none_or(|after| *id > after));
        Ok(later.take(limit).map(|(_, row)| row.clone()).collect())
    }
}
