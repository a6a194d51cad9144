//! The bin: what was deleted and can still be restored, and its end.

use lepton_types::{Id, Name, Timestamp};

use crate::transaction::Write;
use crate::{Backend, CommitError, Store, StoreError, Transaction};

/// Which part of a project's bin.
#[derive(Debug, Clone)]
pub struct BinQuery {
    /// Whose.
    pub project: Name,
    /// What was put there at this time or earlier.
    pub until: Timestamp,
}

/// How much is in a bin, or left it for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BinCounts {
    /// Runs. Those of jobs go with their job, and are not counted.
    pub runs: u64,
    /// Experiments without runs.
    pub experiments: u64,
    /// Logged models.
    pub logged_models: u64,
}

/// What lies in bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binned {
    Runs,
    Experiments,
    LoggedModels,
}

impl Binned {
    /// Experiments after the runs that keep them.
    const ALL: [Self; 3] = [Self::Runs, Self::Experiments, Self::LoggedModels];
}

/// Ids that one transaction of a purge takes, which bounds how long others wait for it.
const STEP_MAX: usize = 32;

impl BinCounts {
    fn of(&mut self, what: Binned) -> &mut u64 {
        match what {
            Binned::Runs => &mut self.runs,
            Binned::Experiments => &mut self.experiments,
            Binned::LoggedModels => &mut self.logged_models,
        }
    }
}

impl Store {
    /// How much a purge would take.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn bin(&self, query: &BinQuery) -> Result<BinCounts, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let query = query.clone();
        sqlite
            .read(move |reader| {
                let mut counts = BinCounts::default();
                for what in Binned::ALL {
                    *counts.of(what) = reader.count_binned(what, &query)?;
                }
                Ok(counts)
            })
            .await
    }

    /// Deletes for good what is in a bin, with all that hangs on it: series, files, traces. What is
    /// restored meanwhile stays. Cut off anywhere, it is gone on with by the next.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn purge(&self, query: &BinQuery) -> Result<BinCounts, CommitError> {
        let mut gone = BinCounts::default();
        for what in Binned::ALL {
            let mut after = None;
            loop {
                let ids = self.binned(what, query, after).await?;
                let Some(last) = ids.last().copied() else {
                    break;
                };
                *gone.of(what) += ids.len() as u64;
                self.purge_step(what, query, (after, ids)).await?;
                after = Some(last);
            }
        }
        Ok(gone)
    }

    /// Deletes these, which come after `after`, in as many transactions as it takes.
    async fn purge_step(
        &self,
        what: Binned,
        query: &BinQuery,
        (after, mut ids): (Option<Id>, Vec<Id>),
    ) -> Result<(), CommitError> {
        while !ids.is_empty() {
            let mut transaction = Transaction::new();
            transaction.writes.push(Write::Purge {
                what,
                ids: ids.clone(),
                until: query.until,
            });
            self.commit(transaction).await?;
            let left = self.binned(what, query, after).await?;
            ids.retain(|id| left.contains(id));
        }
        Ok(())
    }

    async fn binned(
        &self,
        what: Binned,
        query: &BinQuery,
        after: Option<Id>,
    ) -> Result<Vec<Id>, StoreError> {
        let Backend::Sqlite(sqlite) = &self.backend;
        let query = query.clone();
        sqlite
            .read(move |reader| reader.binned(what, &query, after, STEP_MAX))
            .await
    }
}
