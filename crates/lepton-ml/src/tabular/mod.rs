//! Tabular data: from rows of numbers and text to a model that predicts a column.
pub mod frame;
mod csv;
mod parquet;
pub mod read;
use serde::{Deserialize, Serialize};
/// x
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// x
    A,
}
