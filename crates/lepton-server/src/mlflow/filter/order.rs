//! `order_by`: a key, and perhaps which way.

use super::lexer::{Lexer, Token};
use crate::mlflow::error::{MlflowError, shown};

/// One entry of `order_by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mlflow) struct Order {
    /// `metrics` in `metrics.loss DESC`, if it was there.
    pub(in crate::mlflow) entity: Option<String>,
    /// `loss` in the same.
    pub(in crate::mlflow) key: String,
    pub(in crate::mlflow) descending: bool,
}

/// Entries in one request.
const ORDERS_MAX: usize = 32;

/// Reads what a request orders by.
pub(in crate::mlflow) fn parse_order(clauses: &[String]) -> Result<Vec<Order>, MlflowError> {
    if clauses.len() > ORDERS_MAX {
        return Err(MlflowError::invalid(format!(
            "`order_by` takes {ORDERS_MAX} entries"
        )));
    }
    let orders: Vec<Order> = clauses
        .iter()
        .map(|clause| one(clause))
        .collect::<Result<_, _>>()?;
    for (at, order) in orders.iter().enumerate() {
        let same = |other: &&Order| (&other.entity, &other.key) == (&order.entity, &order.key);
        if orders[..at].iter().any(|other| same(&other)) {
            return Err(MlflowError::invalid(format!(
                "`order_by` contains duplicate fields: {}",
                shown(&order.key)
            )));
        }
    }
    Ok(orders)
}

fn one(clause: &str) -> Result<Order, MlflowError> {
    let refuse = || {
        let clause = shown(clause);
        MlflowError::invalid(format!(
            "Invalid order_by clause '{clause}': write a key, and ASC or DESC if you like"
        ))
    };
    let mut lexer = Lexer::new(clause).map_err(|_| refuse())?;
    let Some(Token::Name(name)) = lexer.next() else {
        return Err(refuse());
    };
    let descending = match lexer.next() {
        None => false,
        Some(token) if token.is_word("ASC") => false,
        Some(token) if token.is_word("DESC") => true,
        Some(_) => return Err(refuse()),
    };
    if lexer.next().is_some() {
        return Err(refuse());
    }
    let (entity, key) = name.split();
    Ok(Order {
        entity,
        key,
        descending,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_nonsense_is_refused() {
        let read = |clause: &str| parse_order(&[clause.to_owned()]);
        let order = read("metrics.`val loss` desc").unwrap().remove(0);
        assert_eq!(order.entity.as_deref(), Some("metrics"));
        assert_eq!((order.key.as_str(), order.descending), ("val loss", true));
        assert!(!read("start_time").unwrap()[0].descending);
        for bad in ["", "a b", "a DESC x", "a > 1", "'a'", "DESC DESC DESC"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(parse_order(&["a".to_owned(), "a DESC".to_owned()]).is_err());
    }
}
