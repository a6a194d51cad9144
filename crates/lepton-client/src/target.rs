//! Paths and queries, percent-encoded (RFC 3986 §2.3).

use std::fmt::Write as _;

/// What is called: a path under the server's URL, with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    text: String,
    has_query: bool,
}

impl Target {
    /// The path of these segments, each encoded as a whole.
    pub(crate) fn of(segments: &[&str]) -> Self {
        let mut target = Self {
            text: String::new(),
            has_query: false,
        };
        for segment in segments {
            target.push_segment(segment);
        }
        target
    }

    /// Goes on with a relative path whose `/` separate folders.
    pub(crate) fn files(mut self, path: &str) -> Self {
        for segment in path.split('/') {
            self.push_segment(segment);
        }
        self
    }

    /// Adds `key=value` to the query.
    pub(crate) fn query(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        encode(key, &mut self.text);
        self.text.push('=');
        encode(value.as_ref(), &mut self.text);
        self
    }

    /// Adds `key=value` if there is a value.
    pub(crate) fn maybe_query(self, key: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.query(key, value.to_string()),
            None => self,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    fn push_segment(&mut self, segment: &str) {
        self.text.push('/');
        // A dot segment would be taken out by whoever reads the URL; its escape is not.
        match segment {
            "." => self.text.push_str("%2E"),
            ".." => self.text.push_str("%2E%2E"),
            other => encode(other, &mut self.text),
        }
    }
}

fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            into.push(char::from(byte));
        } else {
            write!(into, "%{byte:02X}").expect("invariant: a String takes all text");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_leaves_its_segment() {
        let target = Target::of(&["api", "a/b?c#d é", ".."])
            .files("x y/z")
            .query("k", "a&b=c")
            .maybe_query("n", Some(3))
            .maybe_query("none", None::<u8>);
        assert_eq!(
            target.as_str(),
            "/api/a%2Fb%3Fc%23d%20%C3%A9/%2E%2E/x%20y/z?k=a%26b%3Dc&n=3"
        );
    }
}
