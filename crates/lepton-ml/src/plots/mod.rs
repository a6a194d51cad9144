//! Plots as SVG, drawn by hand: small, without scripts, legible on light and dark pages.
//!
//! Owns: canvases, axes, marks, and their looks. Must not know: models.

mod axis;
mod canvas;
mod charts;

use serde::{Deserialize, Serialize};

pub use charts::{Bars, Guide, Heat, Lines, Points, Series, stack};

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plot {
    /// A file name without its ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// The picture.
    pub svg: String,
}
