//! What is to be started: one worker, its program, inputs, limits and ports.
//!
//! Must not know how it is started.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use lepton_types::{DurationMs, Id, Name, Resources};
use serde::{Deserialize, Serialize};

/// One start of one worker, written `<32 hex>-<rank>`. It runs at most once, ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId {
    /// The attempt that the worker belongs to.
    pub attempt: Id,
    /// Which of the attempt's workers this is, from 0.
    pub rank: u32,
}

/// A text that names no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a workload id: 32 hex digits, `-` and a rank are expected")]
pub struct ParseWorkloadIdError {
    /// The first 64 characters of what was given.
    pub text: String,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.attempt, self.rank)
    }
}

impl FromStr for WorkloadId {
    type Err = ParseWorkloadIdError;

    fn from_str(text: &str) -> Result<Self, ParseWorkloadIdError> {
        let parse = || {
            let (attempt, rank) = text.split_once('-')?;
            let id = Self {
                attempt: attempt.parse().ok()?,
                rank: rank.parse().ok()?,
            };
            // One text per id: no `+1`, no `01`.
            (id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| ParseWorkloadIdError {
            text: text.chars().take(64).collect(),
        })
    }
}

impl Serialize for WorkloadId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WorkloadId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// All that an executor needs to start one worker.
#[derive(Debug, Clone)]
pub struct WorkloadSpec {
    /// Which start this is.
    pub id: WorkloadId,
    /// The tenant; on one machine, workers of one project share a user.
    pub project: Name,
    /// A label for people.
    pub name: String,
    /// What runs.
    pub program: Program,
    /// What lies in the working directory before the program starts. The sources must stay until
    /// the worker is seen running or exited.
    pub inputs: Vec<Input>,
    /// Added to a clean environment; wins over what the executor sets.
    pub env: BTreeMap<String, String>,
    /// File name → content, in the folder that `LEPTON_SECRETS` names, readable by the worker only.
    pub secrets: BTreeMap<String, SecretText>,
    /// Upper limits; zero is no limit.
    pub resources: Resources,
    /// How long it may run.
    pub timeout: Option<DurationMs>,
    /// How long it has between the request to end (SIGTERM) and its end (SIGKILL).
    pub grace: DurationMs,
    /// Named ports; each becomes `PORT_<NAME>`, and an only one also `PORT`.
    pub ports: Vec<String>,
    /// How much is kept of standard output, and as much again of standard error.
    pub log_bytes_max: u64,
}

/// What a worker runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A command and its arguments; looked up in `PATH` if it has no slash.
    Command(Vec<String>),
    /// Arguments to this same binary.
    Builtin(Vec<String>),
}

/// Something put into the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A tar archive, plain, gzip or zstd (told by its first bytes), unpacked.
    Archive {
        /// Where it is on this machine.
        source: PathBuf,
    },
    /// One file, copied.
    File {
        /// Where it is on this machine.
        source: PathBuf,
        /// Where it goes, below the working directory.
        path: String,
    },
}

/// A text that never shows itself in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_types::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_round_trip(at in 0..i64::MAX >> 16, random: [u8; 10], rank: u32) {
            let id = WorkloadId { attempt: Id::from_parts(Timestamp::from_millis(at), random), rank };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn near_misses_are_no_ids() {
        let hex = "0123456789abcdef0123456789abcdef";
        for bad in [
            "",
            hex,
            &format!("{hex}-"),
            &format!("{hex}-+1"),
            &format!("{hex}-01"),
        ] {
            assert!(bad.parse::<WorkloadId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(
            format!("{:?}", SecretText::from("hunter2".to_owned())),
            "***"
        );
    }
}
