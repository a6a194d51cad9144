//! Lists come in pages; most callers want all of them, one after the other.

use lepton_api::List;

use crate::error::ClientError;
use crate::target::Target;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// How many items at most; the server's own bound where absent.
    pub limit: Option<u32>,
    /// What the page before gave as `next_page_token`.
    pub token: Option<String>,
}

impl Page {
    /// The first `limit` items.
    #[must_use]
    pub const fn first(limit: u32) -> Self {
        Self {
            limit: Some(limit),
            token: None,
        }
    }

    pub(crate) fn onto(&self, target: Target) -> Target {
        target
            .maybe_query("limit", self.limit)
            .maybe_query("page_token", self.token.as_ref())
    }
}

/// Every item of a list, fetched page by page as it is asked for.
pub struct Pages<T, F> {
    fetch: F,
    token: Option<String>,
    ready: std::vec::IntoIter<T>,
    done: bool,
}

impl<T, F> Pages<T, F>
where
    F: FnMut(Page) -> Result<List<T>, ClientError>,
{
    /// All items of the list that `fetch` gives pages of.
    pub fn new(fetch: F) -> Self {
        Self {
            fetch,
            token: None,
            ready: Vec::new().into_iter(),
            done: false,
        }
    }
}

impl<T, F> Iterator for Pages<T, F>
where
    F: FnMut(Page) -> Result<List<T>, ClientError>,
{
    type Item = Result<T, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.ready.next() {
                return Some(Ok(item));
            }
            if self.done {
                return None;
            }
            let page = Page {
                limit: None,
                token: self.token.take(),
            };
            match (self.fetch)(page) {
                Ok(list) => {
                    self.ready = list.items.into_iter();
                    self.done = list.next_page_token.is_none();
                    self.token = list.next_page_token;
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_last() {
        let fetch = |page: Page| {
            let start: u32 = page.token.map_or(0, |token| token.parse().unwrap());
            Ok(List {
                items: (start..start + 2).collect(),
                next_page_token: (start < 4).then(|| (start + 2).to_string()),
            })
        };
        let all: Result<Vec<u32>, _> = Pages::new(fetch).collect();
        assert_eq!(all.unwrap(), [0, 1, 2, 3, 4, 5]);
    }
}
