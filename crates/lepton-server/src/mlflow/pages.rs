//! Pages of a search: how long, from where, and of what.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lepton_store::Lifecycle;
use serde::{Deserialize, Serialize};

use super::error::{MlflowError, shown};

/// How many a page holds: `default` where nothing is asked for.
pub(super) fn limit(asked: Option<i64>, default: usize, most: usize) -> Result<usize, MlflowError> {
    let Some(asked) = asked else {
        return Ok(default);
    };
    match usize::try_from(asked) {
        Ok(asked) if (1..=most).contains(&asked) => Ok(asked),
        _ => Err(MlflowError::invalid(format!(
            "Invalid value {asked} for parameter 'max_results' supplied: it must be a positive \
             integer of at most {most}"
        ))),
    }
}

/// What a page token holds.
#[derive(Serialize, Deserialize)]
struct Token {
    offset: u64,
}

/// Where the page of `token` begins.
pub(super) fn offset(token: Option<&str>) -> Result<u64, MlflowError> {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(0);
    };
    let bytes = STANDARD.decode(token).ok();
    let parsed: Option<Token> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    parsed
        .map(|token| token.offset)
        .ok_or_else(|| MlflowError::invalid(format!("Invalid page token '{}'", shown(token))))
}

/// The token of the page that begins at `offset`.
pub(super) fn token(offset: u64) -> String {
    let token = serde_json::to_vec(&Token { offset }).expect("invariant: a number serialises");
    STANDARD.encode(token)
}

/// The page at `offset`, and the token of the next one if there is one.
pub(super) fn cut<T>(found: Vec<T>, offset: u64, limit: usize) -> (Vec<T>, Option<String>) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let more = found.len() > from.saturating_add(limit);
    let page = found.into_iter().skip(from).take(limit).collect();
    (
        page,
        more.then(|| token(offset.saturating_add(limit as u64))),
    )
}

/// What a search looks at: what lives, unless it says otherwise.
pub(super) fn lifecycle(view: Option<&str>) -> Result<Lifecycle, MlflowError> {
    match view {
        None | Some("" | "ACTIVE_ONLY" | "1") => Ok(Lifecycle::Active),
        Some("DELETED_ONLY" | "2") => Ok(Lifecycle::Deleted),
        Some("ALL" | "3") => Ok(Lifecycle::Any),
        Some(other) => Err(MlflowError::invalid(format!(
            "Invalid view type '{}': use ACTIVE_ONLY, DELETED_ONLY or ALL",
            shown(other)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_and_end() {
        let (first, next) = cut(vec![1, 2, 3], 0, 2);
        assert_eq!(first, [1, 2]);
        let at = offset(next.as_deref()).unwrap();
        let (last, end) = cut(vec![1, 2, 3], at, 2);
        assert_eq!((last, end), (vec![3], None));
        assert!(offset(Some("nonsense")).is_err());
        assert!(limit(Some(0), 1, 2).is_err());
        assert!(limit(Some(3), 1, 2).is_err());
    }
}
