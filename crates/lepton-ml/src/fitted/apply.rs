//! Fitted steps on rows: what the graph does, in 64 bits.
//!
//! Owns: the reference that graphs are held to. Must not know: graphs.

use std::collections::HashMap;

use super::{FittedStep, FittedTransform, Formula, Function, Operator, Value, Values};
use crate::tabular::frame::{DuplicateColumn, UnknownColumn};
use crate::tabular::{Column, Frame};

/// Rows that cannot be transformed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// A column that a step reads is not there.
    #[error(transparent)]
    Unknown(#[from] UnknownColumn),
    /// Two columns of one name.
    #[error(transparent)]
    Duplicate(#[from] DuplicateColumn),
    /// A step that no model can repeat.
    #[error("column `{column}` cannot be computed: {reason}")]
    Opaque {
        /// The column.
        column: String,
        /// Why.
        reason: String,
    },
    /// Texts where numbers are needed.
    #[error("column `{column}` must hold numbers")]
    NotNumbers {
        /// The column.
        column: String,
    },
}

impl FittedTransform {
    /// Applies all steps to rows; each row by itself.
    ///
    /// # Errors
    /// Fails if a column is not there or of another type, or if a step cannot be repeated.
    pub fn apply(&self, frame: &Frame) -> Result<Frame, ApplyError> {
        let mut columns: Vec<(String, Column)> = Vec::new();
        for input in &self.inputs {
            columns.push((input.name.clone(), frame.column(&input.name)?.clone()));
        }
        for step in &self.steps {
            apply(step, &mut columns)?;
        }
        Ok(Frame::new(columns)?)
    }
}

fn place(columns: &[(String, Column)], name: &str) -> Result<usize, ApplyError> {
    let found = columns.iter().position(|(other, _)| other == name);
    found.ok_or_else(|| {
        let unknown = UnknownColumn {
            name: name.to_owned(),
            nearest: None,
        };
        unknown.into()
    })
}

fn numbers<'a>(columns: &'a [(String, Column)], name: &str) -> Result<&'a [f64], ApplyError> {
    match &columns[place(columns, name)?].1 {
        Column::Number(values) => Ok(values),
        Column::Text(_) => Err(ApplyError::NotNumbers {
            column: name.to_owned(),
        }),
    }
}

fn apply(step: &FittedStep, columns: &mut Vec<(String, Column)>) -> Result<(), ApplyError> {
    match step {
        FittedStep::Opaque { column, reason } => Err(ApplyError::Opaque {
            column: column.clone(),
            reason: reason.clone(),
        }),
        FittedStep::Fill { column, value } => {
            let at = place(columns, column)?;
            let filled = match (&columns[at].1, value) {
                (Column::Number(values), Value::Number(fill)) => {
                    let filled = values.iter().map(|v| if v.is_nan() { *fill } else { *v });
                    Column::Number(filled.collect())
                }
                (Column::Text(texts), Value::Text(fill)) => {
                    let rows = 0..columns[at].1.len();
                    Column::Text(rows.map(|row| texts.get(row).or(Some(fill))).collect())
                }
                _ => {
                    return Err(ApplyError::NotNumbers {
                        column: column.clone(),
                    });
                }
            };
            columns[at].1 = filled;
            Ok(())
        }
        FittedStep::Scale {
            column,
            centre,
            factor,
        } => {
            let scaled = numbers(columns, column)?
                .iter()
                .map(|v| (v - centre) * factor);
            let scaled = Column::Number(scaled.collect());
            let at = place(columns, column)?;
            columns[at].1 = scaled;
            Ok(())
        }
        FittedStep::Codes {
            column,
            values,
            codes,
            unseen,
        } => {
            let at = place(columns, column)?;
            let unseen = unseen.unwrap_or(f64::NAN);
            let places = places(values, &columns[at].1).into_iter();
            let coded = places.map(|place| place.map_or(unseen, |place| codes[place]));
            columns[at].1 = Column::Number(coded.collect());
            Ok(())
        }
        FittedStep::OneHot {
            column,
            values,
            outputs,
        } => {
            let at = place(columns, column)?;
            let (_, raw) = columns.remove(at);
            let places = places(values, &raw);
            for (offset, output) in outputs.iter().enumerate() {
                let ones = places
                    .iter()
                    .map(|p| f64::from(u8::from(*p == Some(offset))));
                columns.insert(
                    at + offset,
                    (output.clone(), Column::Number(ones.collect())),
                );
            }
            Ok(())
        }
        FittedStep::Derive { column, formula } => {
            let made = derive(formula, columns)?;
            match place(columns, column) {
                Ok(at) => columns[at].1 = made,
                Err(_) => columns.push((column.clone(), made)),
            }
            Ok(())
        }
    }
}

fn derive(formula: &Formula, columns: &[(String, Column)]) -> Result<Column, ApplyError> {
    if let Formula::Column(name) = formula {
        return Ok(columns[place(columns, name)?].1.clone());
    }
    let mut read = HashMap::new();
    for name in formula.columns() {
        read.insert(name, numbers(columns, name)?);
    }
    let rows = columns.first().map_or(0, |(_, column)| column.len());
    let value = |row: usize| formula.value(&|name| read[name][row]);
    Ok(Column::Number((0..rows).map(value).collect()))
}

fn places(values: &Values, column: &Column) -> Vec<Option<usize>> {
    match (values, column) {
        (Values::Texts(texts), column) => {
            let known: HashMap<&str, usize> = texts.iter().map(String::as_str).zip(0..).collect();
            let rows = 0..column.len();
            rows.map(|row| known.get(&*column.text(row)?).copied())
                .collect()
        }
        (Values::Numbers(numbers), Column::Number(all)) => {
            let place = |value: &f64| numbers.iter().position(|number| number == value);
            all.iter().map(place).collect()
        }
        (Values::Numbers(_), column) => vec![None; column.len()],
    }
}

impl Formula {
    /// The columns that it reads.
    #[must_use]
    pub fn columns(&self) -> Vec<&str> {
        match self {
            Self::Column(name) => vec![name],
            Self::Number(_) | Self::Missing => Vec::new(),
            Self::Call(_, of) => of.columns(),
            Self::Binary(_, left, right) => [left.columns(), right.columns()].concat(),
            Self::Case(branches, otherwise) => {
                let parts = branches.iter().flat_map(|(when, then)| [when, then]);
                let parts = parts.chain([otherwise.as_ref()]);
                parts.flat_map(Self::columns).collect()
            }
        }
    }

    /// Its value for a row.
    #[must_use]
    pub fn value(&self, row: &dyn Fn(&str) -> f64) -> f64 {
        match self {
            Self::Column(name) => row(name),
            Self::Number(number) => *number,
            Self::Missing => f64::NAN,
            Self::Call(function, of) => function.value(of.value(row)),
            Self::Binary(operator, left, right) => {
                operator.value(left.value(row), right.value(row))
            }
            Self::Case(branches, otherwise) => {
                let chosen = branches.iter().find(|(when, _)| when.value(row) == 1.0);
                chosen
                    .map_or(otherwise.as_ref(), |(_, then)| then)
                    .value(row)
            }
        }
    }
}

fn truth(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

impl Function {
    fn value(self, of: f64) -> f64 {
        match self {
            Self::Negative => -of,
            Self::Absolute => of.abs(),
            Self::SquareRoot => of.sqrt(),
            Self::Exponential => of.exp(),
            Self::Logarithm => of.ln(),
            Self::Floor => of.floor(),
            Self::Ceiling => of.ceil(),
            Self::Not => 1.0 - of,
            Self::IsMissing => truth(of.is_nan()),
        }
    }
}

impl Operator {
    fn value(self, left: f64, right: f64) -> f64 {
        let known = |holds: bool| {
            if left.is_nan() || right.is_nan() {
                f64::NAN
            } else {
                truth(holds)
            }
        };
        match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide => left / right,
            Self::Power => left.powf(right),
            Self::Equal => known(left == right),
            Self::NotEqual => known(left != right),
            Self::Less => known(left < right),
            Self::LessOrEqual => known(left <= right),
            Self::Greater => known(left > right),
            Self::GreaterOrEqual => known(left >= right),
            Self::And if left == 0.0 || right == 0.0 => 0.0,
            Self::And => left * right,
            Self::Or if left == 1.0 || right == 1.0 => 1.0,
            Self::Or => left + right,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_neither_true_nor_false() {
        let nan = f64::NAN;
        assert_eq!(Operator::And.value(0.0, nan), 0.0);
        assert!(Operator::And.value(1.0, nan).is_nan());
        assert_eq!(Operator::Or.value(nan, 1.0), 1.0);
        assert!(Operator::Or.value(nan, 0.0).is_nan());
        assert!(Operator::Less.value(nan, 0.0).is_nan());
    }

    #[test]
    fn each_step_changes_its_column() {
        let text = |all: &[Option<&str>]| Column::Text(all.iter().copied().collect());
        let frame = Frame::new(vec![
            ("a".into(), Column::Number(vec![1.0, f64::NAN])),
            ("c".into(), text(&[Some("x"), None])),
        ]);
        let json = r#"{"inputs":[{"name":"a","column_type":"number"},{"name":"c","column_type":"text"}],
            "steps":[{"step":"fill","column":"a","value":3.0},
                     {"step":"scale","column":"a","centre":1.0,"factor":0.5},
                     {"step":"fill","column":"c","value":"y"},
                     {"step":"derive","column":"d","formula":{"binary":["add",{"column":"a"},{"number":1.0}]}},
                     {"step":"one_hot","column":"c","values":["x","y"],"outputs":["c=x","c=y"]}]}"#;
        let transform: FittedTransform = serde_json::from_str(json).unwrap();
        let applied = transform.apply(&frame.unwrap()).unwrap();
        assert_eq!(applied.names(), ["a", "c=x", "c=y", "d"]);
        let numbers = |name: &str| match applied.column(name).unwrap() {
            Column::Number(values) => values.clone(),
            Column::Text(_) => panic!("{name}"),
        };
        assert_eq!(numbers("a"), [0.0, 1.0]);
        assert_eq!(numbers("d"), [1.0, 2.0]);
        assert_eq!(numbers("c=y"), [0.0, 1.0]);
    }
}
