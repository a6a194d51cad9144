//! Tabular data: from rows of numbers and text to a model that predicts a column.
//!
//! Owns: the whole path from a file to a trained, judged, exported model. Must not
//! know: who asked, where the bytes live, or how the model will be served.

mod csv;
mod evaluate;
pub mod export;
mod figures;
pub mod folds;
pub mod frame;
mod learning;
pub mod metrics;
pub mod models;
pub mod observer;
mod pace;
mod parquet;
pub mod pipeline;
pub mod portfolio;
pub mod prepare;
pub mod read;
mod remote;
mod search;
mod selection;
pub mod summary;
pub mod target;
mod train;

pub use csv::separator;
pub use evaluate::Importance;
pub use frame::{Column, ColumnType, Frame};
pub use learning::LearningPoint;
pub use metrics::Metric;
pub use observer::{Observer, Phase, Point, Progress};
pub use pace::Budget;
pub use read::{ReadError, ReadOptions, Source, read};
pub use remote::ReadAt;
pub use search::{Entry, Outcome};
pub use train::{JudgedOn, TrainError, TrainOptions, Trained, train};
