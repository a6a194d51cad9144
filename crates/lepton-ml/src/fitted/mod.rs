//! What a preparation fitted, as part of a model.
//!
//! Owns: the fitted steps as data, their application to rows, and their part of a model's graph.
//! Must not know: how they were fitted, or how a model computes.

mod apply;
mod formula;
mod graph;

use serde::{Deserialize, Serialize};

pub use apply::ApplyError;
pub use formula::{Formula, Function, Operator};
pub use graph::{Front, FrontError, ValueName};

use crate::tabular::ColumnType;

/// Steps that turn raw rows into the rows that a model was trained on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FittedTransform {
    /// The raw columns that enter, in order.
    pub inputs: Vec<RawColumn>,
    /// What happens, in order.
    pub steps: Vec<FittedStep>,
}

/// A raw column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawColumn {
    /// Its name.
    pub name: String,
    /// What its values are.
    pub column_type: ColumnType,
}

/// One step. Each changes or adds one column, and leaves the others as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum FittedStep {
    /// A missing value becomes this.
    Fill {
        /// Which column.
        column: String,
        /// What it becomes.
        value: Value,
    },
    /// `(value - centre) * factor`; a missing value stays missing.
    Scale {
        /// Which column.
        column: String,
        /// Subtracted.
        centre: f64,
        /// Multiplied by.
        factor: f64,
    },
    /// Each value becomes its code.
    Codes {
        /// Which column.
        column: String,
        /// The values that are known.
        values: Values,
        /// Their codes.
        codes: Vec<f64>,
        /// The code of others, and of missing ones; missing itself where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unseen: Option<f64>,
    },
    /// A column for each value: 1 where it is that value, else 0.
    OneHot {
        /// Which column.
        column: String,
        /// The values that have a column.
        values: Values,
        /// The columns' names.
        outputs: Vec<String>,
    },
    /// A column is computed from others.
    Derive {
        /// Which column.
        column: String,
        /// From what.
        formula: Formula,
    },
    /// A column that no graph can compute.
    Opaque {
        /// Which column.
        column: String,
        /// Which step of the description it is, from 1, and why it cannot.
        reason: String,
    },
}

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// Numbers.
    Numbers(Vec<f64>),
    /// Texts.
    Texts(Vec<String>),
}

impl FittedStep {
    /// Whether it changes or takes away that column.
    #[must_use]
    pub fn touches(&self, name: &str) -> bool {
        match self {
            Self::Fill { column, .. }
            | Self::Scale { column, .. }
            | Self::Codes { column, .. }
            | Self::OneHot { column, .. }
            | Self::Derive { column, .. }
            | Self::Opaque { column, .. } => column == name,
        }
    }
}

impl Values {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Numbers(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
