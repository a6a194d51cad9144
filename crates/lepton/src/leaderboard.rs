//! The trainer's leaderboard: which algorithms were tried, and how they did.

use std::io::Read as _;

use lepton_client::Client;
use lepton_types::RunId;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::output::{Cell, Table, Tone, number};

/// The artifact that holds it.
const ARTIFACT: &str = "leaderboard.json";
/// Thousands of trials stay below this.
const BYTES_MAX: u64 = 16 << 20;
/// More lines than this hide what follows.
const LINES_MAX: usize = 10;

/// Trials, as the trainer ranked them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Leaderboard(Vec<Entry>);

/// One trial. Every field but its algorithm may be absent.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    #[serde(default)]
    trial: Option<u32>,
    model: String,
    #[serde(default)]
    score: Option<f64>,
    #[serde(default)]
    outcome: Option<String>,
    /// Its part in the final model.
    #[serde(default)]
    weight: Option<f64>,
}

impl Leaderboard {
    /// The leaderboard that a run left; empty if it left none.
    pub(crate) fn of_run(client: &Client, run: RunId) -> Result<Self, Failure> {
        let artifacts = client.artifacts(run)?.items;
        let found = artifacts.iter().find(|file| file.path.ends_with(ARTIFACT));
        let Some(file) = found else {
            return Ok(Self::default());
        };
        let mut text = Vec::new();
        client
            .artifact(run, &file.path)?
            .take(BYTES_MAX)
            .read_to_end(&mut text)?;
        // One of another form is shown as none; the artifact itself can still be fetched.
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that are part of the model first, then the best.
    pub(crate) fn table(&self) -> Table {
        let mut entries: Vec<&Entry> = self
            .0
            .iter()
            .filter(|entry| entry.score.is_some())
            .collect();
        entries.sort_by(|a, b| {
            let weight = |entry: &Entry| entry.weight.unwrap_or(0.0);
            weight(b).total_cmp(&weight(a))
        });
        let mut table = Table::new(vec!["MODEL", "TRIAL", "SCORE", "WEIGHT", "OUTCOME"], "");
        for entry in entries.iter().take(LINES_MAX) {
            let weight = entry.weight.filter(|weight| *weight > 0.0);
            let tone = if weight.is_some() {
                Tone::Good
            } else {
                Tone::Plain
            };
            table.push(vec![
                Cell::toned(entry.model.as_str(), tone),
                Cell::maybe(entry.trial),
                Cell::maybe(entry.score.map(number)),
                Cell::maybe(weight.map(number)),
                entry.outcome.as_deref().unwrap_or_default().into(),
            ]);
        }
        table
    }
}
