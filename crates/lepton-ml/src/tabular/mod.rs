//! Tabular data: from rows of numbers and text to a model that predicts a column.
//!
//! Owns: the whole path from a file to a trained, judged, exported model. Must not
//! know: who asked, where the bytes live, or how the model will be served.

mod csv;
pub mod folds;
pub mod frame;
pub mod metrics;
mod parquet;
pub mod prepare;
pub mod read;
pub mod summary;
pub mod target;

pub use frame::{Column, ColumnType, Frame};
pub use metrics::Metric;
pub use read::{ReadOptions, Source, read};
pub use target::Task;
