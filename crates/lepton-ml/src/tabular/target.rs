//! What is predicted: classes or numbers.
//!
//! Owns: reading the target column, telling classification from regression, and the
//! refusals that belong to it. Must not know: features or models.

use std::collections::BTreeMap;

use lepton_types::signature::Task;

use super::frame::{Column, Frame, UnknownColumn};

/// The most classes; more is an identifier or a number in disguise.
pub const CLASSES_MAX: usize = 256;

/// A whole number counts as a class up to this many distinct values.
const INTEGER_CLASSES_MAX: usize = 20;

/// The fewest rows with a target: two folds of five.
pub const ROWS_MIN: usize = 10;

/// The target of each row that has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The target's values.
    pub values: TargetValues,
    /// The rows of the frame that have a target, in order; the others are left out.
    pub rows: Vec<usize>,
}

/// Values of a target.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetValues {
    /// Classes.
    Classes {
        /// Each row's class, a position in `names`.
        labels: Vec<u32>,
        /// The classes as text: numbers in numeric order, else sorted as text.
        names: Vec<String>,
        /// Whether every class is a whole number.
        integers: bool,
    },
    /// Numbers.
    Numbers(Vec<f64>),
}

/// A target that nothing can be learned for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// No such column.
    #[error("the target is not in the data: {0}")]
    Unknown(#[from] UnknownColumn),
    /// No value at all.
    #[error("the target `{column}` has no value in any row")]
    AllMissing {
        /// The target.
        column: String,
    },
    /// One class.
    #[error("the target `{column}` has one class only, `{class}`: there is nothing to tell apart")]
    OneClass {
        /// The target.
        column: String,
        /// Its class.
        class: String,
    },
    /// One number.
    #[error("the target `{column}` is always {value}: there is nothing to predict")]
    Constant {
        /// The target.
        column: String,
        /// Its value.
        value: f64,
    },
    /// Past [`CLASSES_MAX`].
    #[error(
        "the target `{column}` has {count} classes, more than {CLASSES_MAX}: is it an identifier?"
    )]
    TooManyClasses {
        /// The target.
        column: String,
        /// How many.
        count: usize,
    },
    /// An infinite number.
    #[error("the target `{column}` is infinite, or beyond 32-bit numbers, in row {row}")]
    NotFinite {
        /// The target.
        column: String,
        /// Which row, from 1.
        row: usize,
    },
    /// Text where regression was asked for.
    #[error("the target `{column}` holds text, such as `{value}`: regression needs numbers")]
    NotANumber {
        /// The target.
        column: String,
        /// One of its values.
        value: String,
    },
    /// Fewer than [`ROWS_MIN`].
    #[error("only {rows} rows have a target; at least {ROWS_MIN} are needed")]
    TooFewRows {
        /// How many.
        rows: usize,
    },
}

impl Target {
    /// Reads the target column; `task` decides between classes and numbers where given,
    /// else text and up to 20 whole numbers are classes.
    ///
    /// # Errors
    /// Fails if there is no such column, or nothing to learn in it.
    pub fn read(frame: &Frame, name: &str, task: Option<Task>) -> Result<Self, TargetError> {
        let column = frame.column(name)?;
        let rows: Vec<usize> = (0..frame.rows())
            .filter(|&r| !column.is_missing(r))
            .collect();
        if rows.is_empty() {
            return Err(TargetError::AllMissing {
                column: name.to_owned(),
            });
        }
        if let Column::Number(values) = column
            && let Some(&row) = rows.iter().find(|&&r| !fits_f32(values[r]))
        {
            return Err(TargetError::NotFinite {
                column: name.to_owned(),
                row: row + 1,
            });
        }
        let values = match (task.unwrap_or_else(|| guess(column, &rows)), column) {
            (Task::Regression, Column::Number(values)) => numbers(name, values, &rows)?,
            (Task::Regression, Column::Text(_)) => {
                let value = column.text(rows[0]).unwrap_or_default();
                let value = value.chars().take(64).collect();
                return Err(TargetError::NotANumber {
                    column: name.to_owned(),
                    value,
                });
            }
            (Task::Classification, _) => classes(name, column, &rows)?,
        };
        if rows.len() < ROWS_MIN {
            return Err(TargetError::TooFewRows { rows: rows.len() });
        }
        Ok(Self { values, rows })
    }

    /// Which task this is.
    #[must_use]
    pub fn task(&self) -> Task {
        self.values.task()
    }
}

impl TargetValues {
    /// Which task this is.
    #[must_use]
    pub fn task(&self) -> Task {
        match self {
            Self::Classes { .. } => Task::Classification,
            Self::Numbers(_) => Task::Regression,
        }
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Numbers(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes as text; none for numbers.
    #[must_use]
    pub fn class_names(&self) -> &[String] {
        match self {
            Self::Classes { names, .. } => names,
            Self::Numbers(_) => &[],
        }
    }

    /// How many numbers a model gives for a row: one a class, or one.
    #[must_use]
    pub fn width(&self) -> usize {
        self.class_names().len().max(1)
    }

    /// The values at these positions.
    #[must_use]
    pub fn take(&self, rows: &[usize]) -> Self {
        match self {
            Self::Classes {
                labels,
                names,
                integers,
            } => Self::Classes {
                labels: rows.iter().map(|&r| labels[r]).collect(),
                names: names.clone(),
                integers: *integers,
            },
            Self::Numbers(values) => Self::Numbers(rows.iter().map(|&r| values[r]).collect()),
        }
    }
}

/// Whether a number is finite as a 32-bit one, which is what models compute with.
pub(super) fn fits_f32(value: f64) -> bool {
    value.abs() <= f64::from(f32::MAX)
}

fn guess(column: &Column, rows: &[usize]) -> Task {
    let Column::Number(values) = column else {
        return Task::Classification;
    };
    let mut distinct = std::collections::BTreeSet::new();
    for &row in rows {
        let value = values[row];
        if value.fract() != 0.0 {
            return Task::Regression;
        }
        distinct.insert(value.to_bits());
        if distinct.len() > INTEGER_CLASSES_MAX {
            return Task::Regression;
        }
    }
    // Ten different counts in ten rows are no classes.
    if distinct.len() <= 2 || distinct.len() * 3 <= rows.len() {
        Task::Classification
    } else {
        Task::Regression
    }
}

fn numbers(name: &str, values: &[f64], rows: &[usize]) -> Result<TargetValues, TargetError> {
    let values: Vec<f64> = rows.iter().map(|&r| values[r]).collect();
    if values.iter().all(|v| *v == values[0]) {
        return Err(TargetError::Constant {
            column: name.to_owned(),
            value: values[0],
        });
    }
    Ok(TargetValues::Numbers(values))
}

fn classes(name: &str, column: &Column, rows: &[usize]) -> Result<TargetValues, TargetError> {
    let text = column.to_text();
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for &row in rows {
        let class = text.get(row).expect("invariant: rows with a target only");
        counts.insert(class, 0);
        if counts.len() > CLASSES_MAX {
            let count = text.values().len();
            return Err(TargetError::TooManyClasses {
                column: name.to_owned(),
                count,
            });
        }
    }
    let mut names: Vec<&str> = counts.keys().copied().collect();
    if let Column::Number(_) = column {
        let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
        names.sort_by(|a, b| number(a).total_cmp(&number(b)));
    }
    if let [class] = names[..] {
        return Err(TargetError::OneClass {
            column: name.to_owned(),
            class: class.to_owned(),
        });
    }
    for (position, name) in (0..).zip(&names) {
        counts.insert(name, position);
    }
    let labels = rows
        .iter()
        .map(|&r| counts[text.get(r).unwrap_or_default()])
        .collect();
    let integers = names
        .iter()
        .all(|n| n.parse::<i64>().is_ok_and(|i| i.to_string() == **n));
    let names = names.into_iter().map(str::to_owned).collect();
    Ok(TargetValues::Classes {
        labels,
        names,
        integers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(values: Vec<f64>) -> Frame {
        Frame::new(vec![("y".into(), Column::Number(values))]).unwrap()
    }

    fn texts(texts: &[Option<&str>]) -> Frame {
        let column = Column::Text(texts.iter().copied().collect());
        Frame::new(vec![("y".into(), column)]).unwrap()
    }

    fn refusal(frame: &Frame, task: Option<Task>) -> String {
        Target::read(frame, "y", task).unwrap_err().to_string()
    }

    #[test]
    fn few_whole_numbers_are_classes_in_numeric_order() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i % 12)).collect();
        let target = Target::read(&frame(values), "y", None).unwrap();
        assert_eq!(target.task(), Task::Classification);
        assert_eq!(target.values.class_names()[9..], ["9", "10", "11"]);
        let values: Vec<f64> = (0..60).map(|i| f64::from(i % 12) + 0.5).collect();
        assert_eq!(
            Target::read(&frame(values), "y", None).unwrap().task(),
            Task::Regression
        );
    }

    #[test]
    fn rows_without_a_target_are_left_out() {
        let mut column = vec![Some("a"), Some("b"), None];
        column.extend([Some("a"); 9]);
        let target = Target::read(&texts(&column), "y", None).unwrap();
        assert_eq!((target.rows.len(), target.rows[2]), (11, 3));
    }

    #[test]
    fn hopeless_targets_are_refused() {
        assert_eq!(
            refusal(&texts(&[None; 12]), None),
            "the target `y` has no value in any row"
        );
        assert_eq!(
            refusal(&texts(&[Some("yes"); 12]), None),
            "the target `y` has one class only, `yes`: there is nothing to tell apart"
        );
        let mut values: Vec<f64> = (0..40).map(|i| f64::from(i) + 0.5).collect();
        values[3] = f64::INFINITY;
        assert!(refusal(&frame(values.clone()), None).ends_with("in row 4"));
        values[3] = 1e39;
        assert!(refusal(&frame(values), None).ends_with("in row 4"));
        let many: Vec<String> = (0..300).map(|i| format!("id{i}")).collect();
        let many: Vec<_> = many.iter().map(|s| Some(s.as_str())).collect();
        assert!(refusal(&texts(&many), None).contains("300 classes"));
        assert!(refusal(&texts(&many), Some(Task::Regression)).contains("needs numbers"));
        assert!(refusal(&frame(vec![2.5; 30]), Some(Task::Regression)).contains("always 2.5"));
        assert!(refusal(&frame(vec![1.0, 0.0, 1.0]), None).contains("only 3 rows"));
    }
}
