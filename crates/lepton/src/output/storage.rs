//! How usage looks as a line of a table.

use lepton_api::{StorageUsage, TierUsage};
use lepton_types::Timestamp;

use super::listing::Listed;
use super::{Cell, bytes};

impl Listed for StorageUsage {
    const PLURAL: &'static str = "projects";
    const HEADERS: &'static [&'static str] = &[
        "PROJECT", "STORED", "QUOTA", "OBJECTS", "MONTH", "REQUESTS", "RECEIVED", "SENT", "COST",
    ];
    const NARROW: usize = 9;

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        let cost = self.cost.as_ref();
        vec![
            self.project.as_str().into(),
            bytes(self.stored_bytes).into(),
            Cell::maybe(self.quota.storage.map(|max| bytes(max.as_bytes()))),
            self.objects.to_string().into(),
            self.month.as_str().into(),
            self.requests.to_string().into(),
            bytes(self.received_bytes).into(),
            bytes(self.sent_bytes).into(),
            Cell::maybe(cost.map(|cost| format!("{:.2} {}", cost.total, cost.currency))),
        ]
    }
}

impl Listed for TierUsage {
    const PLURAL: &'static str = "stored bytes";
    const HEADERS: &'static [&'static str] = &["CLASS", "STORED", "OBJECTS", "GIB-MONTHS", "COST"];
    const NARROW: usize = 5;

    fn cells(&self, _now: Timestamp) -> Vec<Cell> {
        vec![
            self.tier.as_str().into(),
            bytes(self.stored_bytes).into(),
            self.objects.to_string().into(),
            format!("{:.4}", self.gib_months).into(),
            Cell::maybe(self.cost.map(|cost| format!("{cost:.2}"))),
        ]
    }
}
