//! From raw columns to the numbers that models learn from.
//!
//! Owns: what is fitted on the training rows (fill values, scales, categories) and how it
//! is applied. Must not know: models. Every step is one that the ONNX graph repeats in
//! the same 32-bit arithmetic.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::frame::{Column, ColumnType, Frame, UnknownColumn};
use super::target::{TargetValues, fits_f32};

/// The most categories of one column that get a place of their own; rarer ones are
/// treated like unseen ones.
const CATEGORIES_MAX: usize = 64;

/// Up to here trees see one feature a category, beyond it one ordered code.
const TREE_ONE_HOT_MAX: usize = 12;

/// Scaled numbers are clipped here, in standard deviations: an absurd or infinite value
/// at serving must not outweigh everything else.
pub(super) const SCALED_MAX: f32 = 20.0;

/// What the training rows taught about each raw column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Preparation {
    /// One entry a raw column, in the frame's order, the target left out.
    pub columns: Vec<PreparedColumn>,
}

/// One raw column and what becomes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreparedColumn {
    /// The column's name.
    pub name: String,
    /// What its values are.
    pub column_type: ColumnType,
    /// What becomes of it.
    pub encoding: Encoding,
}

/// What becomes of a raw column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// Accepted and ignored.
    Dropped(DropReason),
    /// A number: itself for trees; filled, scaled and clipped for the others.
    Number {
        /// Stands for a missing value: the median.
        fill: f32,
        /// Subtracted.
        mean: f32,
        /// Multiplied by: one over the standard deviation.
        scale: f32,
        /// Whether training rows lacked it, so that its absence is a feature too.
        flag_missing: bool,
    },
    /// A category.
    Category {
        /// The categories that have a place, most frequent first; `""` is a missing value.
        categories: Vec<String>,
        /// Each category's rank by its mean target, for trees, where there are many.
        ranks: Vec<f32>,
    },
}

/// Why a column is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// One value only.
    Constant,
    /// No value at all.
    Empty,
    /// A different text in almost every row, or the row's own number.
    Identifier,
}

/// A column that cannot be learned from or predicted with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PrepareError {
    /// A column that the model needs is not there.
    #[error(transparent)]
    Unknown(#[from] UnknownColumn),
    /// An infinite number, or one that 32 bits cannot hold.
    #[error(
        "column `{column}` is infinite, or beyond 32-bit numbers, in row {row}: leave the value empty if it is not known"
    )]
    NotFinite {
        /// Which column.
        column: String,
        /// Which row, from 1.
        row: usize,
    },
    /// Text where the model was trained on numbers.
    #[error("column `{column}` must be a number, but is `{value}` in row {row}")]
    NotANumber {
        /// Which column.
        column: String,
        /// The value.
        value: String,
        /// Which row, from 1.
        row: usize,
    },
}

/// Features of some rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Matrix {
    /// Row-major values.
    pub values: Vec<f32>,
    /// How many features a row has.
    pub width: usize,
}

impl Matrix {
    /// How many rows there are; none where there are no features.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.width).unwrap_or(0)
    }

    /// One row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }
}

/// The two views of the same rows that models choose from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    /// Filled, scaled, one-hot: for linear models and networks.
    pub dense: Matrix,
    /// Raw numbers, NaN where missing: for trees.
    pub trees: Matrix,
}

/// Checks all numbers of the columns but the target once, before anything is fitted.
pub(super) fn check_finite(frame: &Frame, target: &str) -> Result<(), PrepareError> {
    for (name, column) in frame.iter().filter(|(name, _)| *name != target) {
        if let Column::Number(values) = column
            && let Some(row) = values.iter().position(|v| !v.is_nan() && !fits_f32(*v))
        {
            return Err(PrepareError::NotFinite {
                column: name.to_owned(),
                row: row + 1,
            });
        }
    }
    Ok(())
}

impl Preparation {
    /// Fits on these rows of a frame, whose targets are `target`, row by row.
    #[must_use]
    pub fn fit(frame: &Frame, rows: &[usize], target_name: &str, target: &TargetValues) -> Self {
        let columns = frame
            .iter()
            .filter(|(name, _)| *name != target_name)
            .map(|(name, column)| PreparedColumn {
                name: name.to_owned(),
                column_type: column.column_type(),
                encoding: match column {
                    Column::Number(values) => fit_number(values, rows),
                    Column::Text(_) => fit_category(column, rows, target),
                },
            })
            .collect();
        Self { columns }
    }

    /// Names of the dense features, for coefficients.
    #[must_use]
    pub fn dense_width(&self) -> usize {
        self.columns.iter().map(|c| c.encoding.dense_width()).sum()
    }

    /// How many features trees see.
    #[must_use]
    pub fn tree_width(&self) -> usize {
        self.columns.iter().map(|c| c.encoding.tree_width()).sum()
    }

    /// Applies to all rows of a frame. Columns that were dropped may be absent.
    ///
    /// # Errors
    /// Fails if a column is not there or holds text instead of numbers.
    pub fn apply(&self, frame: &Frame) -> Result<Features, PrepareError> {
        let rows = frame.rows();
        let mut features = Features {
            dense: Matrix {
                values: vec![0.0; rows * self.dense_width()],
                width: self.dense_width(),
            },
            trees: Matrix {
                values: vec![0.0; rows * self.tree_width()],
                width: self.tree_width(),
            },
        };
        // Numbers first, then their flags, then categories: the order of the graph.
        let (mut dense, mut tree) = (0, 0);
        for (column, fill, mean, scale, _) in self.numbers() {
            let values = numbers_of(frame, column)?;
            for (row, value) in values.iter().enumerate() {
                features.trees.values[row * features.trees.width + tree] = *value;
                let filled = if value.is_nan() { fill } else { *value };
                let scaled = ((filled - mean) * scale).clamp(-SCALED_MAX, SCALED_MAX);
                features.dense.values[row * features.dense.width + dense] = scaled;
            }
            dense += 1;
            tree += 1;
        }
        for (column, ..) in self.numbers().filter(|n| n.4) {
            for (row, value) in numbers_of(frame, column)?.iter().enumerate() {
                let flag = f32::from(u8::from(value.is_nan()));
                features.dense.values[row * features.dense.width + dense] = flag;
            }
            dense += 1;
        }
        for (column, categories, ranks) in self.categories() {
            let codes = codes_of(frame, column, categories)?;
            let one_hot = categories.len() <= TREE_ONE_HOT_MAX;
            for (row, code) in codes.into_iter().enumerate() {
                if let Some(code) = code {
                    features.dense.values[row * features.dense.width + dense + code] = 1.0;
                }
                let at = row * features.trees.width + tree;
                match code {
                    Some(code) if one_hot => features.trees.values[at + code] = 1.0,
                    Some(code) => features.trees.values[at] = ranks[code],
                    None if one_hot => {}
                    None => features.trees.values[at] = f32::NAN,
                }
            }
            dense += categories.len();
            tree += if one_hot { categories.len() } else { 1 };
        }
        Ok(features)
    }

    /// The numbers: column, fill, mean, scale, whether absence is flagged.
    pub(super) fn numbers(&self) -> impl Iterator<Item = (&str, f32, f32, f32, bool)> {
        self.columns
            .iter()
            .filter_map(|column| match &column.encoding {
                Encoding::Number {
                    fill,
                    mean,
                    scale,
                    flag_missing,
                } => Some((column.name.as_str(), *fill, *mean, *scale, *flag_missing)),
                _ => None,
            })
    }

    /// The categories: column, categories, ranks.
    pub(super) fn categories(&self) -> impl Iterator<Item = (&str, &[String], &[f32])> {
        self.columns
            .iter()
            .filter_map(|column| match &column.encoding {
                Encoding::Category { categories, ranks } => {
                    Some((column.name.as_str(), &categories[..], &ranks[..]))
                }
                _ => None,
            })
    }
}

impl Encoding {
    /// Whether trees see one feature a category.
    pub(super) fn one_hot_for_trees(categories: &[String]) -> bool {
        categories.len() <= TREE_ONE_HOT_MAX
    }

    fn dense_width(&self) -> usize {
        match self {
            Self::Dropped(_) => 0,
            Self::Number { flag_missing, .. } => 1 + usize::from(*flag_missing),
            Self::Category { categories, .. } => categories.len(),
        }
    }

    fn tree_width(&self) -> usize {
        match self {
            Self::Dropped(_) => 0,
            Self::Number { .. } => 1,
            Self::Category { categories, .. } if Self::one_hot_for_trees(categories) => {
                categories.len()
            }
            Self::Category { .. } => 1,
        }
    }
}

/// The column as 32-bit numbers; a column of nothing but missing texts counts as numbers.
#[expect(
    clippy::cast_possible_truncation,
    reason = "models compute with 32 bits"
)]
fn numbers_of(frame: &Frame, name: &str) -> Result<Vec<f32>, PrepareError> {
    match frame.column(name)? {
        Column::Number(values) => Ok(values.iter().map(|v| *v as f32).collect()),
        Column::Text(text) => (0..frame.rows())
            .map(|row| match text.get(row) {
                None => Ok(f32::NAN),
                Some(value) => Err(PrepareError::NotANumber {
                    column: name.to_owned(),
                    value: value.chars().take(64).collect(),
                    row: row + 1,
                }),
            })
            .collect(),
    }
}

fn codes_of(
    frame: &Frame,
    name: &str,
    categories: &[String],
) -> Result<Vec<Option<usize>>, PrepareError> {
    let text = frame.column(name)?.to_text();
    let places: HashMap<&str, usize> = categories
        .iter()
        .enumerate()
        .map(|(at, c)| (c.as_str(), at))
        .collect();
    let of_value: Vec<_> = text
        .values()
        .iter()
        .map(|v| places.get(v.as_str()).copied())
        .collect();
    let missing = places.get("").copied();
    Ok(text
        .codes()
        .iter()
        .map(|&code| of_value.get(code as usize).copied().unwrap_or(missing))
        .collect())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "models compute with 32 bits"
)]
fn fit_number(values: &[f64], rows: &[usize]) -> Encoding {
    let mut present: Vec<f32> = rows
        .iter()
        .map(|&r| values[r] as f32)
        .filter(|v| !v.is_nan())
        .collect();
    if present.is_empty() {
        return Encoding::Dropped(DropReason::Empty);
    }
    if is_row_number(&present) && present.len() == rows.len() {
        return Encoding::Dropped(DropReason::Identifier);
    }
    let flag_missing = present.len() < rows.len();
    present.sort_by(f32::total_cmp);
    let (low, high) = (present[0], present[present.len() - 1]);
    if low == high && !flag_missing {
        return Encoding::Dropped(DropReason::Constant);
    }
    let fill = present[present.len() / 2];
    let absent = rows.len() - present.len();
    let filled = present
        .iter()
        .copied()
        .chain(std::iter::repeat_n(fill, absent))
        .map(f64::from);
    #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
    let count = rows.len() as f64;
    let mean = filled.clone().sum::<f64>() / count;
    let deviation = (filled.map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
    let scale = (1.0 / deviation) as f32;
    let scale = if scale.is_finite() { scale } else { 1.0 };
    Encoding::Number {
        fill,
        mean: mean as f32,
        scale,
        flag_missing,
    }
}

/// Whether the values count up by one from the first to the last, which an index does.
fn is_row_number(values: &[f32]) -> bool {
    values.len() >= 20 && (values.windows(2).all(|w| w[1] == w[0] + 1.0))
}

fn fit_category(column: &Column, rows: &[usize], target: &TargetValues) -> Encoding {
    let text = column.to_text();
    let numbers = ordering_target(target);
    // By value, so that the order of files does not matter: count and sum of targets.
    let mut seen: HashMap<&str, (usize, f64)> = HashMap::new();
    for (&row, number) in rows.iter().zip(&numbers) {
        let entry = seen.entry(text.get(row).unwrap_or("")).or_default();
        entry.0 += 1;
        entry.1 += number;
    }
    if seen.len() == 1 {
        let empty = seen.contains_key("");
        return Encoding::Dropped(if empty {
            DropReason::Empty
        } else {
            DropReason::Constant
        });
    }
    // Where most values occur once, the column names rows instead of describing them.
    let once = seen.values().filter(|(count, _)| *count == 1).count();
    if rows.len() >= 20 && once * 2 > rows.len() {
        return Encoding::Dropped(DropReason::Identifier);
    }
    let mut found: Vec<(&str, usize, f64)> = seen
        .into_iter()
        .map(|(value, (count, sum))| {
            #[expect(clippy::cast_precision_loss, reason = "rows are fewer than 2^53")]
            let mean = sum / count as f64;
            (value, count, mean)
        })
        .collect();
    found.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    found.truncate(CATEGORIES_MAX);
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|&a, &b| found[a].2.total_cmp(&found[b].2).then(a.cmp(&b)));
    let mut ranks = vec![0.0; found.len()];
    for (rank, &at) in (0_u8..).zip(&order) {
        ranks[at] = f32::from(rank);
    }
    let categories = found
        .into_iter()
        .map(|(value, ..)| value.to_owned())
        .collect();
    Encoding::Category { categories, ranks }
}

/// The number that categories are ordered by: the target, the second of two classes, or
/// the first of more.
fn ordering_target(target: &TargetValues) -> Vec<f64> {
    match target {
        TargetValues::Numbers(values) => values.clone(),
        TargetValues::Classes { labels, names, .. } => {
            let chosen = u32::from(names.len() == 2);
            labels
                .iter()
                .map(|l| f64::from(u8::from(*l == chosen)))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fit(columns: Vec<(&str, Column)>) -> (Frame, Preparation) {
        let columns = columns
            .into_iter()
            .map(|(n, c)| (n.to_owned(), c))
            .collect();
        let frame = Frame::new(columns).unwrap();
        let rows: Vec<usize> = (0..frame.rows()).collect();
        #[expect(clippy::cast_precision_loss)]
        let target = TargetValues::Numbers(rows.iter().map(|r| *r as f64).collect());
        let preparation = Preparation::fit(&frame, &rows, "y", &target);
        (frame, preparation)
    }

    fn texts(values: &[&str]) -> Column {
        Column::Text(values.iter().map(|v| Some(*v)).collect())
    }

    #[test]
    fn useless_columns_are_dropped_and_may_be_absent() {
        let ids: Vec<String> = (0..30).map(|i| format!("id{i}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let (frame, preparation) = fit(vec![
            ("row", Column::Number((0..30).map(f64::from).collect())),
            ("same", Column::Number(vec![3.0; 30])),
            ("none", Column::Number(vec![f64::NAN; 30])),
            ("id", texts(&ids)),
            (
                "x",
                Column::Number((0..30).map(|i| f64::from(i * i % 7)).collect()),
            ),
        ]);
        let reasons: Vec<_> = preparation.columns.iter().map(|c| &c.encoding).collect();
        assert_eq!(*reasons[0], Encoding::Dropped(DropReason::Identifier));
        assert_eq!(*reasons[1], Encoding::Dropped(DropReason::Constant));
        assert_eq!(*reasons[2], Encoding::Dropped(DropReason::Empty));
        assert_eq!(*reasons[3], Encoding::Dropped(DropReason::Identifier));
        let only = Frame::new(vec![("x".into(), frame.column("x").unwrap().clone())]).unwrap();
        assert_eq!(preparation.apply(&only), preparation.apply(&frame));
    }

    #[test]
    fn categories_missing_and_unseen_have_their_places() {
        let (_, preparation) = fit(vec![(
            "c",
            texts(&["a", "b", "a", "", "a", "b", "a", "", "b"]),
        )]);
        let new = Frame::new(vec![("c".into(), texts(&["b", "", "zebra"]))]).unwrap();
        let features = preparation.apply(&new).unwrap();
        // Most frequent first: a, b, missing; an unseen one is none of them.
        assert_eq!(features.dense.values, [0., 1., 0., 0., 0., 1., 0., 0., 0.]);
        assert_eq!(features.trees, features.dense);
    }

    #[test]
    fn many_categories_are_ranked_for_trees() {
        let values: Vec<String> = (0..60).map(|i| format!("v{:02}", (i / 3))).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let (frame, preparation) = fit(vec![("c", texts(&values))]);
        let features = preparation.apply(&frame).unwrap();
        assert_eq!((features.dense.width, features.trees.width), (20, 1));
        let sorted = features.trees.values.windows(2).all(|w| w[0] <= w[1]);
        assert!(sorted, "the target grows with the category");
        let new = Frame::new(vec![("c".into(), texts(&["unseen"]))]).unwrap();
        assert!(preparation.apply(&new).unwrap().trees.values[0].is_nan());
    }

    #[test]
    fn a_missing_column_and_a_wrong_type_are_refused() {
        let (_, preparation) = fit(vec![("size", Column::Number(vec![1.0, 2.0, 4.0]))]);
        let other = Frame::new(vec![("sizes".into(), Column::Number(vec![1.0]))]).unwrap();
        let error = preparation.apply(&other).unwrap_err().to_string();
        assert_eq!(error, "there is no column `size`: did you mean `sizes`?");
        let other = Frame::new(vec![("size".into(), texts(&["", "big"]))]).unwrap();
        let error = preparation.apply(&other).unwrap_err().to_string();
        assert_eq!(
            error,
            "column `size` must be a number, but is `big` in row 2"
        );
    }

    proptest! {
        /// Against the definition, computed naively in 64 bits.
        #[test]
        fn scaled_numbers_have_mean_zero_and_deviation_one(
            values in proptest::collection::vec(-1e3_f64..1e3, 3..50), missing in 0_usize..4
        ) {
            let mut column = values;
            column.extend(std::iter::repeat_n(f64::NAN, missing));
            let (frame, preparation) = fit(vec![("x", Column::Number(column.clone()))]);
            let features = preparation.apply(&frame).unwrap();
            prop_assume!(features.dense.width == 1 + usize::from(missing > 0));
            let scaled: Vec<f64> = features.dense.values.chunks(features.dense.width).map(|r| f64::from(r[0])).collect();
            let count = f64::from(u32::try_from(scaled.len()).unwrap());
            let mean = scaled.iter().sum::<f64>() / count;
            let variance = scaled.iter().map(|v| v * v).sum::<f64>() / count - mean * mean;
            prop_assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-2, "{mean} {variance}");
            for (row, value) in column.iter().enumerate() {
                #[expect(clippy::cast_possible_truncation)]
                let raw = *value as f32;
                prop_assert!(features.trees.values[row] == raw || raw.is_nan());
            }
        }
    }
}
