//! Formulas: what a graph can compute of numbers.
//!
//! Owns: the arithmetic, with missing values as NaN and truth as 1, 0 or NaN for unknown, which
//! is SQL's. Must not know: SQL's spelling.

use serde::{Deserialize, Serialize};

/// A number, computed from columns of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Formula {
    /// A column's value.
    Column(String),
    /// This number.
    Number(f64),
    /// No value.
    Missing,
    /// A function of one number.
    Call(Function, Box<Formula>),
    /// Two numbers put together.
    Binary(Operator, Box<Formula>, Box<Formula>),
    /// The first value whose condition is true, or the last one.
    Case(Vec<(Formula, Formula)>, Box<Formula>),
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Function {
    Negative,
    Absolute,
    SquareRoot,
    Exponential,
    Logarithm,
    Floor,
    Ceiling,
    Not,
    /// 1 where there is no value, else 0.
    IsMissing,
}

/// How two numbers are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
}
