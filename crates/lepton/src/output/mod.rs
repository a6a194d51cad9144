//! How results look: tables for people, JSON and YAML for programs.

mod amounts;
mod braille;
mod listing;
mod page;
mod series;
mod storage;
mod table;

use lepton_types::Timestamp;
use serde::Serialize;

pub(crate) use amounts::{age, bytes, count, number, shell_words, took};
pub(crate) use braille::{Curve, braille};
pub(crate) use listing::{Listed, table_of};
pub(crate) use page::Page;
pub(crate) use series::sparkline;
pub(crate) use table::{Cell, Table, Tone, paint};

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns for people.
    Wide,
    /// JSON for programs, in the API's own form.
    Json,
    /// The same as YAML.
    Yaml,
}

impl Format {
    pub(crate) const fn is_for_people(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

pub(crate) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("invariant: results have string keys")
}

/// JSON as YAML, so that both forms show the same in the same order.
pub(crate) fn json_as_yaml(json: &str) -> String {
    let value: yaml_serde::Value = yaml_serde::from_str(json).expect("invariant: all JSON is YAML");
    yaml_serde::to_string(&value).expect("invariant: every JSON value is a YAML value")
}

/// A result, ready to be shown in the form that was asked for.
pub(crate) enum Shown {
    /// Columns.
    People(Table),
    /// JSON or YAML.
    Programs(String),
}

impl Shown {
    /// Several of a kind, as the API lists them.
    pub(crate) fn list<T: Listed + Serialize>(items: &[T], format: Format, now: Timestamp) -> Self {
        #[derive(Serialize)]
        struct Items<'a, T> {
            items: &'a [T],
        }
        if format.is_for_people() {
            Self::People(table_of(items, format, now))
        } else {
            Self::Programs(json(&Items { items }))
        }
    }

    /// One thing.
    pub(crate) fn one<T: Listed + Serialize>(item: &T, format: Format, now: Timestamp) -> Self {
        if format.is_for_people() {
            Self::People(table_of([item], format, now))
        } else {
            Self::Programs(json(item))
        }
    }
}
