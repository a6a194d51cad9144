//! MLflow's filter language: comparisons joined by AND.
//!
//! ```text
//! filter     = comparison { AND comparison }
//! comparison = identifier operator value
//!            | identifier [NOT] IN ( text { , text } )
//!            | identifier IS [NOT] NULL
//! identifier = [ entity . ] key         either may stand in `…` or "…"
//! operator   = = | != | > | >= | < | <= | LIKE | ILIKE | RLIKE
//! value      = number | 'text' | "text"
//! ```
//!
//! This module knows the grammar; what keys there are and what they can be compared with is each
//! resource's own.

mod lexer;
mod order;
pub(super) mod registry;
pub(super) mod runs;

use lepton_store::{Comparison as NumberComparison, Test};

use super::error::MlflowError;
use lexer::{Lexer, Token};

pub(super) use order::{Order, parse_order};

/// Comparisons in one filter: far more than people write, and few enough for one statement.
const COMPARISONS_MAX: usize = 64;

/// Texts in one list.
const LIST_MAX: usize = 1_000;

/// One comparison, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Comparison {
    /// `metrics` in `metrics.loss > 1`, if it was there.
    pub(super) entity: Option<String>,
    /// `loss` in the same.
    pub(super) key: String,
    pub(super) operator: Operator,
    pub(super) value: Literal,
}

/// How a comparison compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equals,
    Differs,
    Above,
    AtLeast,
    Below,
    AtMost,
    Like,
    LikeAnyCase,
    Matches,
    In,
    NotIn,
    IsNull,
    IsNotNull,
}

/// What a comparison compares with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Nothing,
    /// A number, and how it was written.
    Number(f64, String),
    Text(String),
    List(Vec<String>),
}

impl Operator {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Equals => "=",
            Self::Differs => "!=",
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
            Self::Like => "LIKE",
            Self::LikeAnyCase => "ILIKE",
            Self::Matches => "RLIKE",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::IsNull => "IS NULL",
            Self::IsNotNull => "IS NOT NULL",
        }
    }

    const fn number(self) -> Option<NumberComparison> {
        Some(match self {
            Self::Equals => NumberComparison::Equals,
            Self::Differs => NumberComparison::Differs,
            Self::Above => NumberComparison::Above,
            Self::AtLeast => NumberComparison::AtLeast,
            Self::Below => NumberComparison::Below,
            Self::AtMost => NumberComparison::AtMost,
            _ => return None,
        })
    }
}

/// Which operators a text takes beside `=`, `!=`, LIKE and ILIKE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum More {
    Nothing,
    /// IN and NOT IN.
    Lists,
    /// IS NULL and IS NOT NULL.
    Absence,
}

impl Comparison {
    /// `metrics.loss`, as it was written but for its quotes.
    pub(super) fn subject(&self) -> String {
        match &self.entity {
            Some(entity) => format!("{entity}.{}", self.key),
            None => self.key.clone(),
        }
    }

    /// What must hold of a number.
    pub(super) fn number_test(&self) -> Result<Test, MlflowError> {
        let comparison = self
            .operator
            .number()
            .ok_or_else(|| self.wrong_operator())?;
        match &self.value {
            Literal::Number(number, _) => Ok(Test::Number(comparison, *number)),
            _ => Err(self.wrong_value("a number")),
        }
    }

    /// What must hold of a whole number.
    pub(super) fn whole_test(&self) -> Result<Test, MlflowError> {
        let test = self.number_test()?;
        match &self.value {
            Literal::Number(_, written) if written.parse::<i64>().is_ok() => Ok(test),
            _ => Err(self.wrong_value("a whole number")),
        }
    }

    /// What must hold of a text.
    pub(super) fn text_test(&self, more: More) -> Result<Test, MlflowError> {
        let test: fn(String) -> Test = match self.operator {
            Operator::Equals => Test::Is,
            Operator::Differs => Test::IsNot,
            Operator::Like => Test::Like,
            Operator::LikeAnyCase => Test::LikeAnyCase,
            Operator::In | Operator::NotIn if more == More::Lists => {
                let Literal::List(list) = self.value.clone() else {
                    return Err(self.wrong_value("a list of quoted texts"));
                };
                return Ok(match self.operator {
                    Operator::In => Test::Among(list),
                    _ => Test::NotAmong(list),
                });
            }
            Operator::IsNull if more == More::Absence => return Ok(Test::Absent),
            Operator::IsNotNull if more == More::Absence => return Ok(Test::Present),
            _ => return Err(self.wrong_operator()),
        };
        match &self.value {
            Literal::Text(text) => Ok(test(text.clone())),
            _ => Err(self.wrong_value("a quoted text")),
        }
    }

    fn wrong_operator(&self) -> MlflowError {
        MlflowError::invalid(format!(
            "Invalid comparator '{}' for '{}'",
            self.operator.as_str(),
            super::error::shown(&self.subject())
        ))
    }

    fn wrong_value(&self, expected: &str) -> MlflowError {
        let found = match &self.value {
            Literal::Nothing => "nothing".to_owned(),
            Literal::Number(_, written) => written.clone(),
            Literal::Text(text) => format!("'{}'", super::error::shown(text)),
            Literal::List(_) => "a list".to_owned(),
        };
        MlflowError::invalid(format!(
            "Expected {expected} for '{}'. Found {found}",
            super::error::shown(&self.subject())
        ))
    }
}

/// Reads a filter; an empty one has no comparisons.
pub(super) fn parse(filter: &str) -> Result<Vec<Comparison>, MlflowError> {
    let mut lexer = Lexer::new(filter)?;
    let mut comparisons = Vec::new();
    if lexer.peek().is_none() {
        return Ok(comparisons);
    }
    loop {
        comparisons.push(comparison(&mut lexer)?);
        if comparisons.len() > COMPARISONS_MAX {
            return Err(MlflowError::invalid(format!(
                "Invalid filter: it has more than {COMPARISONS_MAX} comparisons"
            )));
        }
        match lexer.next() {
            None => return Ok(comparisons),
            Some(token) if token.is_word("AND") => {}
            Some(_) => return Err(lexer.unexpected("AND or the end")),
        }
    }
}

fn comparison(lexer: &mut Lexer<'_>) -> Result<Comparison, MlflowError> {
    let Some(Token::Name(name)) = lexer.next() else {
        return Err(lexer.unexpected("an identifier such as metrics.loss"));
    };
    let (entity, key) = name.split();
    let operator = operator(lexer)?;
    let value = match operator {
        Operator::IsNull | Operator::IsNotNull => Literal::Nothing,
        Operator::In | Operator::NotIn => list(lexer)?,
        _ => match lexer.next() {
            Some(Token::Number(number, written)) => Literal::Number(number, written.to_owned()),
            Some(Token::Text(text)) => Literal::Text(text.to_owned()),
            Some(Token::Name(name)) if name.whole_quoted().is_some() => {
                Literal::Text(name.whole_quoted().unwrap_or_default().to_owned())
            }
            _ => return Err(lexer.unexpected("a number or a quoted text")),
        },
    };
    Ok(Comparison {
        entity,
        key,
        operator,
        value,
    })
}

fn operator(lexer: &mut Lexer<'_>) -> Result<Operator, MlflowError> {
    const EXPECTED: &str = "an operator such as =, >, LIKE, IN or IS NULL";
    match lexer.next() {
        Some(Token::Operator(operator)) => Ok(operator),
        Some(token) if token.is_word("LIKE") => Ok(Operator::Like),
        Some(token) if token.is_word("ILIKE") => Ok(Operator::LikeAnyCase),
        Some(token) if token.is_word("RLIKE") => Ok(Operator::Matches),
        Some(token) if token.is_word("IN") => Ok(Operator::In),
        Some(token) if token.is_word("NOT") => match lexer.next() {
            Some(token) if token.is_word("IN") => Ok(Operator::NotIn),
            _ => Err(lexer.unexpected("IN after NOT")),
        },
        Some(token) if token.is_word("IS") => {
            let negated = lexer.peek().is_some_and(|token| token.is_word("NOT"));
            if negated {
                lexer.next();
            }
            match lexer.next() {
                Some(token) if token.is_word("NULL") && negated => Ok(Operator::IsNotNull),
                Some(token) if token.is_word("NULL") => Ok(Operator::IsNull),
                _ => Err(lexer.unexpected("NULL")),
            }
        }
        _ => Err(lexer.unexpected(EXPECTED)),
    }
}

fn list(lexer: &mut Lexer<'_>) -> Result<Literal, MlflowError> {
    let mut texts = Vec::new();
    if lexer.next() != Some(Token::Open) {
        return Err(lexer.unexpected("a list in brackets"));
    }
    loop {
        match lexer.next() {
            Some(Token::Text(text)) => texts.push(text.to_owned()),
            Some(Token::Name(name)) if name.whole_quoted().is_some() => {
                texts.push(name.whole_quoted().unwrap_or_default().to_owned());
            }
            // `('a',)` is how Python writes a list of one.
            Some(Token::Close) if !texts.is_empty() => return Ok(Literal::List(texts)),
            _ => return Err(lexer.unexpected("a quoted text")),
        }
        if texts.len() > LIST_MAX {
            return Err(MlflowError::invalid(format!(
                "Invalid filter: a list has more than {LIST_MAX} texts"
            )));
        }
        match lexer.next() {
            Some(Token::Comma) => {}
            Some(Token::Close) => return Ok(Literal::List(texts)),
            _ => return Err(lexer.unexpected("a comma or a closing bracket")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(filter: &str) -> Comparison {
        let mut parsed = parse(filter).unwrap();
        assert_eq!(parsed.len(), 1, "{filter}");
        parsed.remove(0)
    }

    #[test]
    fn comparisons_are_read() {
        for (filter, entity, key, operator, value) in [
            (
                "metrics.acc > 0.5",
                Some("metrics"),
                "acc",
                Operator::Above,
                Literal::Number(0.5, "0.5".into()),
            ),
            (
                "params.`a b`='x'",
                Some("params"),
                "a b",
                Operator::Equals,
                Literal::Text("x".into()),
            ),
            (
                "tags.\"mlflow.user\" != \"me\"",
                Some("tags"),
                "mlflow.user",
                Operator::Differs,
                Literal::Text("me".into()),
            ),
            (
                "tags.mlflow.runName like 'a%'",
                Some("tags"),
                "mlflow.runName",
                Operator::Like,
                Literal::Text("a%".into()),
            ),
            (
                "name ILIKE 'it''s'",
                None,
                "name",
                Operator::LikeAnyCase,
                Literal::Text("it''s".into()),
            ),
            (
                "run_id NOT IN ('a', 'b',)",
                None,
                "run_id",
                Operator::NotIn,
                Literal::List(vec!["a".into(), "b".into()]),
            ),
            (
                "tags.x IS NOT NULL",
                Some("tags"),
                "x",
                Operator::IsNotNull,
                Literal::Nothing,
            ),
            (
                "metrics.m <= -1e-3",
                Some("metrics"),
                "m",
                Operator::AtMost,
                Literal::Number(-1e-3, "-1e-3".into()),
            ),
        ] {
            let read = one(filter);
            assert_eq!(read.entity.as_deref(), entity, "{filter}");
            assert_eq!(
                (read.key.as_str(), read.operator),
                (key, operator),
                "{filter}"
            );
            assert_eq!(read.value, value, "{filter}");
        }
        assert_eq!(parse("  ").unwrap(), []);
        assert_eq!(parse("a = '1' AND b = '2' and c > 3").unwrap().len(), 3);
    }

    #[test]
    fn what_is_not_a_filter_is_refused_with_its_place() {
        for bad in [
            "metrics.acc",
            "metrics.acc >",
            "> 1",
            "a = 'x",
            "a = 'x' OR b = 'y'",
            "a = x",
            "a IN ()",
            "a IN 'x'",
            "a IS 3",
            "a = 'x' b = 'y'",
            "a NOT LIKE 'x'",
            "a == 1 2",
            "params.a-b = 'x'",
            "a = 'x';",
            "(a = 'x')",
            "a AND b",
            "tags.`x = 'y'",
        ] {
            let refused = parse(bad).unwrap_err();
            assert!(
                refused.message.starts_with("Invalid filter"),
                "{bad}: {}",
                refused.message
            );
        }
        assert!(parse(&vec!["a = 1"; COMPARISONS_MAX + 1].join(" AND ")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _either = parse(&text);
        }
    }
}
