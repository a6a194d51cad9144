//! What is learned of columns, from the rows that are fitted on.
//!
//! Owns: counts and moments of a piece, how pieces are put together, what a slot becomes.
//! Must not know: files, steps.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};

use crate::description::Constant;
use crate::error::StepFault;
use crate::plan::Ask;
use crate::quantile::{Look, Quantile, Seen, Sum};
use crate::statistics::{Moments, numbers, present};

/// The most different values of a column that are counted; more name rows, not kinds of them.
const VALUES_MAX: usize = 1 << 20;

/// What was fitted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fitted {
    /// What a missing value becomes.
    Fill(Constant),
    /// Subtracted, then multiplied by.
    Scale { centre: f64, factor: f64 },
    /// The values that have a place, in their order, and how many rows have each.
    Categories {
        values: Values,
        counts: Vec<u64>,
        rows: u64,
    },
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    Texts(Vec<String>),
    Numbers(Vec<f64>),
}

impl Values {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    /// A value as part of a column's name.
    pub(crate) fn name(&self, at: usize) -> String {
        match self {
            Self::Texts(texts) => texts[at].clone(),
            Self::Numbers(numbers) => numbers[at].to_string(),
        }
    }
}

/// Counts by value: texts, or the keys of numbers.
#[derive(Debug, Clone)]
pub(crate) enum Counts {
    Texts(HashMap<String, u64>),
    Numbers(HashMap<u64, u64>),
}

/// What a pass looks for in a column.
#[derive(Debug, Clone)]
pub(crate) enum Task {
    Moments,
    Counts,
    Looks(Vec<Look>),
}

/// What a piece holds.
#[derive(Debug)]
pub(crate) enum Found {
    Moments(Moments),
    Counts(Counts, u64),
    Seen(Vec<Seen>),
}

/// All pieces together.
#[derive(Debug)]
pub(crate) enum Total {
    Moments(Moments),
    Counts(Option<Counts>, u64),
    Sums(Vec<(Look, Sum)>),
}

impl Task {
    /// Looks at a column of the rows that are fitted on.
    pub(crate) fn look(&self, array: &ArrayRef) -> Found {
        let floats = numbers(array);
        match (self, floats) {
            (Self::Moments, floats) => {
                let rows = array.len();
                Found::Moments(floats.map_or_else(Moments::default, |floats| {
                    Moments::of(present(&floats), rows)
                }))
            }
            (Self::Looks(looks), floats) => {
                let floats = floats.expect("invariant: quantiles are asked of numbers");
                Found::Seen(looks.iter().map(|look| look.at(present(&floats))).collect())
            }
            (Self::Counts, Some(floats)) => {
                let mut counts = HashMap::new();
                let mut there = 0;
                for value in present(&floats) {
                    *counts.entry(crate::quantile::key_of(value)).or_insert(0) += 1;
                    there += 1;
                }
                Found::Counts(Counts::Numbers(counts), array.len() as u64 - there)
            }
            (Self::Counts, None) => {
                let texts = array.as_string::<i32>();
                let mut counts: HashMap<&str, u64> = HashMap::new();
                for text in texts.iter().flatten() {
                    *counts.entry(text).or_insert(0) += 1;
                }
                let counts = counts
                    .into_iter()
                    .map(|(text, count)| (text.to_owned(), count));
                Found::Counts(Counts::Texts(counts.collect()), array.null_count() as u64)
            }
        }
    }

    pub(crate) fn total(&self) -> Total {
        match self {
            Self::Moments => Total::Moments(Moments::default()),
            Self::Counts => Total::Counts(None, 0),
            Self::Looks(looks) => {
                Total::Sums(looks.iter().map(|look| (*look, Sum::new(*look))).collect())
            }
        }
    }
}

fn add<K: std::hash::Hash + Eq>(all: &mut HashMap<K, u64>, more: HashMap<K, u64>) -> usize {
    for (key, count) in more {
        *all.entry(key).or_insert(0) += count;
    }
    all.len()
}

impl Total {
    /// Adds the next piece; pieces come in their order.
    pub(crate) fn add(&mut self, found: Found, column: &str) -> Result<(), StepFault> {
        match (self, found) {
            (Self::Moments(all), Found::Moments(more)) => *all = all.and(more),
            (Self::Counts(all, missing), Found::Counts(more, lacking)) => {
                *missing += lacking;
                let different = match (all, more) {
                    (all @ None, more) => {
                        *all = Some(more);
                        0
                    }
                    (Some(Counts::Texts(all)), Counts::Texts(more)) => add(all, more),
                    (Some(Counts::Numbers(all)), Counts::Numbers(more)) => add(all, more),
                    _ => unreachable!("a column has one type"),
                };
                if different > VALUES_MAX {
                    return Err(StepFault::TooManyValues {
                        column: column.to_owned(),
                        limit: VALUES_MAX,
                    });
                }
            }
            (Self::Sums(sums), Found::Seen(seen)) => {
                sums.iter_mut()
                    .zip(seen)
                    .for_each(|((_, sum), seen)| sum.add(seen));
            }
            _ => unreachable!("a piece answers what it was asked"),
        }
        Ok(())
    }
}

/// The quantiles that an ask needs.
pub(crate) fn quantiles(ask: &Ask) -> Vec<Quantile> {
    let shares: &[f64] = match ask {
        Ask::Median => &[0.5],
        Ask::Robust => &[0.25, 0.5, 0.75],
        _ => &[],
    };
    shares.iter().map(|share| Quantile::new(*share)).collect()
}

/// What an ask becomes, from the moments or counts of its column.
pub(crate) fn conclude(
    ask: &Ask,
    total: Option<Total>,
    quantiles: &[Quantile],
    fill: Option<&Constant>,
) -> Option<Fitted> {
    let number = |fill: Option<&Constant>| match fill {
        Some(Constant::Number(number)) => Some(*number),
        _ => None,
    };
    match (ask, total) {
        (Ask::Given(constant), _) => Some(Fitted::Fill(constant.clone())),
        (Ask::Median, _) => Some(Fitted::Fill(Constant::Number(quantiles.first()?.value()?))),
        (Ask::Robust, _) => {
            let values: Option<Vec<f64>> = quantiles.iter().map(Quantile::value).collect();
            let values = values?;
            let (low, middle, high) = (*values.first()?, *values.get(1)?, *values.get(2)?);
            Some(scale(middle, high - low))
        }
        (ask, Some(Total::Moments(moments))) => {
            let moments = number(fill).map_or(moments, |value| moments.filled(value));
            if moments.count == 0 {
                return None;
            }
            Some(match ask {
                Ask::Mean => Fitted::Fill(Constant::Number(moments.mean)),
                Ask::MinMax => scale(moments.min, moments.max - moments.min),
                _ => scale(moments.mean, moments.deviation()),
            })
        }
        (ask, Some(Total::Counts(counts, missing))) => {
            let (counts, missing) = fill.map_or((counts.clone(), missing), |fill| {
                (filled(counts, fill, missing), 0)
            });
            let max = match ask {
                Ask::Categories { max } => *max,
                _ => 1,
            };
            let categories = categories(counts?, missing, max)?;
            match (ask, categories) {
                (Ask::Mode, Fitted::Categories { values, .. }) => {
                    Some(Fitted::Fill(match values {
                        Values::Texts(mut texts) => Constant::Text(texts.pop()?),
                        Values::Numbers(mut numbers) => Constant::Number(numbers.pop()?),
                    }))
                }
                (_, categories) => Some(categories),
            }
        }
        _ => None,
    }
}

/// A width of nothing makes zeros.
fn scale(centre: f64, width: f64) -> Fitted {
    let factor = 1.0 / width;
    let factor = if width > 0.0 && factor.is_finite() {
        factor
    } else {
        0.0
    };
    Fitted::Scale { centre, factor }
}

fn filled(counts: Option<Counts>, fill: &Constant, missing: u64) -> Option<Counts> {
    if missing == 0 {
        return counts;
    }
    match (counts, fill) {
        (Some(Counts::Texts(mut counts)), Constant::Text(text)) => {
            *counts.entry(text.clone()).or_insert(0) += missing;
            Some(Counts::Texts(counts))
        }
        (Some(Counts::Numbers(mut counts)), Constant::Number(number)) => {
            *counts.entry(crate::quantile::key_of(*number)).or_insert(0) += missing;
            Some(Counts::Numbers(counts))
        }
        (counts, _) => counts,
    }
}

/// The most frequent values, the first in order of several as frequent; then all in order.
fn categories(counts: Counts, missing: u64, max: usize) -> Option<Fitted> {
    fn kept<K: Ord>(counts: HashMap<K, u64>, max: usize) -> (Vec<(K, u64)>, u64) {
        let rows = counts.values().sum();
        let mut all: Vec<(K, u64)> = counts.into_iter().collect();
        all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all.truncate(max);
        all.sort_by(|a, b| a.0.cmp(&b.0));
        (all, rows)
    }
    let (values, counts, rows) = match counts {
        Counts::Texts(counts) => {
            let (all, rows) = kept(counts, max);
            let (texts, counts): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            (Values::Texts(texts), counts, rows)
        }
        Counts::Numbers(counts) => {
            let (all, rows) = kept(counts, max);
            let (keys, counts): (Vec<_>, Vec<_>) = all.into_iter().unzip();
            let numbers = keys.into_iter().map(crate::quantile::value_of).collect();
            (Values::Numbers(numbers), counts, rows)
        }
    };
    (values.len() > 0).then_some(Fitted::Categories {
        values,
        counts,
        rows: rows + missing,
    })
}

/// Whether a column can be counted, or has moments.
pub(crate) fn task(ask: &Ask) -> Option<Task> {
    match ask {
        Ask::Given(_) | Ask::Median | Ask::Robust => None,
        Ask::Mean | Ask::Standard | Ask::MinMax => Some(Task::Moments),
        Ask::Mode | Ask::Categories { .. } => Some(Task::Counts),
    }
}
