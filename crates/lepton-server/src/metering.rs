//! What projects store and use: quotas carried to where they are enforced, samples taken, traffic
//! of this API counted, and the price of it all.
//!
//! Owns: what a month costs. Must not know: how the index counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use lepton_api::{StorageCost, StorageUsage, TierUsage};
use lepton_store::Query;
use lepton_store::StoreError;
use lepton_store::index::{IndexError, Metered, Quota, Stored, Traffic, Usage};
use lepton_types::resources::{ProjectQuota, ProjectSpec};
use lepton_types::{DurationMs, MemoryBytes, Name, Timestamp};

use crate::app::App;
use crate::config::PricesConfig;

/// Between two writes of traffic; a crash loses that much of the count.
const WRITE_EVERY: DurationMs = DurationMs::from_secs(10);
/// Between two samples of what is stored, in writes: a minute of a month.
const SAMPLE_EVERY: u64 = 6;

const GIB: f64 = (1_u64 << 30) as f64;
/// Seconds of a month as clouds bill it: 730 hours.
const MONTH_SECS: f64 = 730.0 * 3_600.0;

/// What went over the wire of this API since the last write.
#[derive(Default)]
pub(crate) struct Meter(Mutex<BTreeMap<Name, Traffic>>);

impl Meter {
    fn count(&self, project: &Name, add: impl FnOnce(&mut Traffic)) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(project) {
            Some(traffic) => add(traffic),
            None => add(known.entry(project.clone()).or_default()),
        }
    }

    /// A body that came in.
    pub(crate) fn received(&self, project: &Name, bytes: u64) {
        self.count(project, |traffic| {
            traffic.requests += 1;
            traffic.received_bytes += bytes;
        });
    }

    /// A body that goes out.
    pub(crate) fn sent(&self, project: &Name, bytes: u64) {
        self.count(project, |traffic| {
            traffic.requests += 1;
            traffic.sent_bytes += bytes;
        });
    }

    fn take(&self) -> Vec<(Name, Traffic)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *known).into_iter().collect()
    }
}

/// Counts and samples until the server stops.
pub(crate) async fn run(app: App) {
    let mut every = tokio::time::interval(WRITE_EVERY.to_std());
    for tick in 0_u64.. {
        tokio::select! {
            () = app.stopping.cancelled() => break,
            _ = every.tick() => {}
        }
        write(&app).await;
        if tick.is_multiple_of(SAMPLE_EVERY) {
            report(app.objects.index.meter(app.now()).await);
        }
    }
    write(&app).await;
}

async fn write(app: &App) {
    let traffic = app.meter.take();
    if !traffic.is_empty() {
        report(app.objects.index.add_traffic(traffic, app.now()).await);
    }
}

fn report(done: Result<(), IndexError>) {
    if let Err(error) = done {
        tracing::warn!(%error, "usage could not be written down");
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum QuotaError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Sets in the index what a project may have. What it has already stays.
pub(crate) async fn carry_quota(
    app: &App,
    project: &Name,
    quota: &ProjectQuota,
) -> Result<(), IndexError> {
    let quota = Quota {
        bytes_max: quota.storage.map(MemoryBytes::as_bytes),
        objects_max: quota.objects,
    };
    app.objects.index.set_quota(project, quota).await
}

/// The same of all projects, as a crash may have come between a project's record and the index.
pub(crate) async fn carry_quotas(app: &App) -> Result<(), QuotaError> {
    let known = app.objects.index.all_usage().await?;
    for project in app.store.list_all::<ProjectSpec>(Query::default()).await? {
        let Ok(name) = project.metadata.name.parse::<Name>() else {
            continue;
        };
        let quota = &project.spec.quota;
        let has = known.get(name.as_str()).map(|(usage, _)| usage.quota);
        if has.unwrap_or_default() != Quota::default() || !quota.is_open() {
            carry_quota(app, &name, quota).await?;
        }
    }
    Ok(())
}

/// `2026-11`, in UTC.
pub(crate) fn month_of(now: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default();
    at.strftime("%Y-%m").to_string()
}

/// What a project stores now and used in a month, priced.
pub(crate) fn statement(
    project: Name,
    (usage, stored): (Usage, Vec<Stored>),
    (month, metered): (String, Metered),
    prices: Option<&PricesConfig>,
) -> StorageUsage {
    let now: BTreeMap<&str, &Stored> = stored.iter().map(|it| (it.class.as_str(), it)).collect();
    let classes: BTreeSet<&str> = now
        .keys()
        .copied()
        .chain(metered.byte_seconds.keys().map(String::as_str))
        .collect();
    let tiers = classes.into_iter().map(|class| {
        let stored = now.get(class);
        let seconds = metered.byte_seconds.get(class).copied().unwrap_or_default();
        let gib_months = seconds / GIB / MONTH_SECS;
        let price = prices.and_then(|prices| prices.storage_gib_month.get(class));
        TierUsage {
            tier: class.to_owned(),
            stored_bytes: stored.map_or(0, |it| it.bytes),
            objects: stored.map_or(0, |it| it.objects),
            gib_months,
            cost: price.map(|price| price * gib_months),
        }
    });
    let tiers: Vec<TierUsage> = tiers.collect();
    let traffic = metered.traffic;
    let cost = prices.map(|prices| {
        let storage = tiers.iter().filter_map(|tier| tier.cost).sum();
        let requests = traffic.requests as f64 / 1e6 * prices.requests_million;
        let egress = traffic.sent_bytes as f64 / GIB * prices.egress_gib;
        StorageCost {
            currency: prices.currency.clone(),
            storage,
            requests,
            egress,
            total: storage + requests + egress,
        }
    });
    StorageUsage {
        project,
        stored_bytes: usage.bytes,
        objects: usage.objects,
        quota: ProjectQuota {
            storage: usage.quota.bytes_max.map(MemoryBytes::from_bytes),
            objects: usage.quota.objects_max,
        },
        month,
        tiers,
        requests: traffic.requests,
        received_bytes: traffic.received_bytes,
        sent_bytes: traffic.sent_bytes,
        cost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_priced_by_what_was_stored_asked_and_sent() {
        let stored = vec![Stored {
            class: "STANDARD".to_owned(),
            bytes: 3 << 30,
            objects: 2,
        }];
        let metered = Metered {
            byte_seconds: BTreeMap::from([
                ("STANDARD".to_owned(), 4.0 * GIB * MONTH_SECS / 2.0),
                ("GLACIER".to_owned(), GIB * MONTH_SECS),
            ]),
            traffic: Traffic {
                requests: 500_000,
                received_bytes: 7,
                sent_bytes: 10 << 30,
            },
        };
        let prices = PricesConfig {
            currency: "EUR".to_owned(),
            requests_million: 4.0,
            egress_gib: 0.1,
            storage_gib_month: BTreeMap::from([("STANDARD".to_owned(), 0.05)]),
        };
        let month = "2026-11".to_owned();
        let told = |prices| {
            let now = (Usage::default(), stored.clone());
            let month = (month.clone(), metered.clone());
            statement(Name::default_project(), now, month, prices)
        };
        let priced = told(Some(&prices));
        let tiers: Vec<_> = priced
            .tiers
            .iter()
            .map(|it| (it.tier.as_str(), it.gib_months, it.cost))
            .collect();
        assert_eq!(
            tiers,
            [("GLACIER", 1.0, None), ("STANDARD", 2.0, Some(0.1))]
        );
        let cost = priced.cost.unwrap();
        assert_eq!((cost.storage, cost.requests, cost.egress), (0.1, 2.0, 1.0));
        assert!((cost.total - 3.1).abs() < 1e-9);
        assert!(told(None).cost.is_none());
        assert_eq!(
            month_of(Timestamp::from_millis(1_795_000_000_000)),
            "2026-11"
        );
    }
}
