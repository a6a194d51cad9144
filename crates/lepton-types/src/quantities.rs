//! Amounts of machine: processor, memory, accelerators.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::ids::written_as_text;

/// Thousandths of a processor; written `2`, `0.5` or `500m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CpuMillis(u64);

/// Bytes of memory or storage; written `1Gi`, `512Mi`, `2G` or `1048576`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemoryBytes(u64);

/// A text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an amount of {what}: write it as {example}")]
pub struct ParseQuantityError {
    /// The first 64 characters of what was given.
    pub text: String,
    /// What was to be measured.
    pub what: &'static str,
    /// How it is written.
    pub example: &'static str,
}

/// What one worker asks for, or what one machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors.
    #[serde(default)]
    pub cpu: CpuMillis,
    /// Memory.
    #[serde(default)]
    pub memory: MemoryBytes,
    /// Whole accelerators.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpus: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks for a reference"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl CpuMillis {
    /// From thousandths of a processor.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Thousandths of a processor.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }
}

impl MemoryBytes {
    /// From bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From 2^20 bytes.
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// Bytes.
    #[must_use]
    pub const fn as_bytes(self) -> u64 {
        self.0
    }
}

impl Resources {
    /// Nothing.
    pub const ZERO: Self = Self {
        cpu: CpuMillis(0),
        memory: MemoryBytes(0),
        gpus: 0,
    };

    /// Whether all of `ask` is here.
    #[must_use]
    pub const fn covers(&self, ask: &Self) -> bool {
        self.cpu.0 >= ask.cpu.0 && self.memory.0 >= ask.memory.0 && self.gpus >= ask.gpus
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            cpu: CpuMillis(self.cpu.0.saturating_add(other.cpu.0)),
            memory: MemoryBytes(self.memory.0.saturating_add(other.memory.0)),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What stays when `other` is taken; never below nothing.
    #[must_use]
    pub const fn minus(&self, other: &Self) -> Self {
        Self {
            cpu: CpuMillis(self.cpu.0.saturating_sub(other.cpu.0)),
            memory: MemoryBytes(self.memory.0.saturating_sub(other.memory.0)),
            gpus: self.gpus.saturating_sub(other.gpus),
        }
    }

    /// `count` times as much.
    #[must_use]
    pub fn times(&self, count: u32) -> Self {
        Self {
            cpu: CpuMillis(self.cpu.0.saturating_mul(u64::from(count))),
            memory: MemoryBytes(self.memory.0.saturating_mul(u64::from(count))),
            gpus: self.gpus.saturating_mul(count),
        }
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu {}, memory {}", self.cpu, self.memory)?;
        if self.gpus > 0 {
            write!(f, ", gpus {}", self.gpus)?;
        }
        Ok(())
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) {
            write!(f, "{}", self.0 / 1_000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

impl fmt::Debug for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CpuMillis {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let parsed = match text.strip_suffix('m') {
            Some(millis) => digits(millis),
            None => decimal(text, 1_000),
        };
        parsed
            .map(Self)
            .ok_or_else(|| refuse(text, "cpu", "`2`, `0.5` or `500m`"))
    }
}

const BINARY: [(&str, u64); 4] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: [(&str, u64); 5] = [
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
    ("K", 1_000),
];

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match BINARY
            .iter()
            .find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size))
        {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MemoryBytes {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let (number, size) = BINARY
            .iter()
            .chain(&DECIMAL)
            .find_map(|(unit, size)| text.strip_suffix(unit).map(|number| (number, *size)))
            .unwrap_or((text, 1));
        decimal(number, size)
            .map(Self)
            .ok_or_else(|| refuse(text, "memory", "`1Gi`, `512Mi` or a number of bytes"))
    }
}

fn refuse(text: &str, what: &'static str, example: &'static str) -> ParseQuantityError {
    ParseQuantityError {
        text: text.chars().take(64).collect(),
        what,
        example,
    }
}

fn digits(text: &str) -> Option<u64> {
    let valid = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| text.parse().ok()).flatten()
}

/// `text` × `scale`, exact, rounded down; at most nine decimals.
fn decimal(text: &str, scale: u64) -> Option<u64> {
    let Some((whole, fraction)) = text.split_once('.') else {
        return digits(text)?.checked_mul(scale);
    };
    if fraction.len() > 9 {
        return None;
    }
    let unit = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let parts = u128::from(digits(whole)?) * unit + u128::from(digits(fraction)?);
    u64::try_from(parts * u128::from(scale) / unit).ok()
}

written_as_text!(CpuMillis, "processors: `2`, `0.5` or `500m`");
written_as_text!(MemoryBytes, "bytes: `1Gi`, `512Mi` or a number");

impl<'de> Deserialize<'de> for CpuMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Amount(PhantomData))
    }
}

impl<'de> Deserialize<'de> for MemoryBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Amount(PhantomData))
    }
}

/// An amount as text, or as the number that YAML and TOML make of `cpu: 2`.
struct Amount<T>(PhantomData<T>);

impl<T: FromStr<Err = ParseQuantityError>> Visitor<'_> for Amount<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount as text or as a number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_parse_as_kubernetes_writes_them() {
        assert_eq!("1".parse(), Ok(CpuMillis(1_000)));
        assert_eq!("0.25".parse(), Ok(CpuMillis(250)));
        assert_eq!("500m".parse(), Ok(CpuMillis(500)));
        assert_eq!("1.5Gi".parse(), Ok(MemoryBytes(3 << 29)));
        assert_eq!("2G".parse(), Ok(MemoryBytes(2_000_000_000)));
        for bad in [
            "",
            "-1",
            "1e3",
            "Gi",
            "1.2.3",
            "0x10",
            "1 Gi",
            "99999999999999999999",
        ] {
            assert!(bad.parse::<MemoryBytes>().is_err(), "{bad}");
            assert!(bad.parse::<CpuMillis>().is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_are_read_from_text_and_from_numbers() {
        let read = |json: &str| serde_json::from_str::<Resources>(json);
        let written = read(r#"{"cpu": "500m", "memory": "2Gi"}"#).unwrap();
        assert_eq!(
            read(r#"{"cpu": 0.5, "memory": 2147483648}"#).unwrap(),
            written
        );
        assert_eq!(read(r#"{"cpu": 2}"#).unwrap().cpu, CpuMillis(2_000));
        for (bad, why) in [
            (
                "-1",
                "`-1` is not an amount of cpu: write it as `2`, `0.5` or `500m`",
            ),
            ("-0.5", "`-0.5` is not an amount of cpu"),
            ("[]", "expected an amount as text or as a number"),
            ("true", "expected an amount as text or as a number"),
        ] {
            let refused = read(&format!(r#"{{"cpu": {bad}}}"#)).unwrap_err();
            assert!(refused.to_string().contains(why), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn quantities_round_trip(cpu in 0..u64::MAX / 2_000, memory: u64) {
            prop_assert_eq!(CpuMillis(cpu).to_string().parse(), Ok(CpuMillis(cpu)));
            prop_assert_eq!(MemoryBytes(memory).to_string().parse(), Ok(MemoryBytes(memory)));
        }
    }
}
