//! Patterns with stars, and the pairs of queries.

/// The pairs of a query or of tags in a header.
pub(super) fn form_pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .map(|(key, value)| (percent_decoded(key), percent_decoded(value)))
        .collect()
}

/// The parameters of a request that names this version.
pub(super) fn version_parameter(version: Option<&str>) -> Vec<(String, String)> {
    let named = version.map(|version| ("versionId".to_owned(), version.to_owned()));
    named.into_iter().collect()
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Whether `text` is of a pattern in which `*` stands for any text and `?` for one character.
pub(super) fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = without_beginning(first, text) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        // The leftmost place leaves the most for the parts that follow.
        let Some(after) = after_first(part, rest) else {
            return false;
        };
        rest = after;
    }
    let length = last.chars().count();
    let at = match length {
        0 => return true,
        _ => rest.char_indices().rev().nth(length - 1),
    };
    at.is_some_and(|(at, _)| without_beginning(last, &rest[at..]) == Some(""))
}

/// What follows a part at the beginning of a text.
fn without_beginning<'a>(part: &str, text: &'a str) -> Option<&'a str> {
    let mut left = text.chars();
    for wanted in part.chars() {
        let there = left.next()?;
        if wanted != '?' && wanted != there {
            return None;
        }
    }
    Some(left.as_str())
}

/// What follows the first place of a part in a text. Linear in the text unless the part has a `?`.
fn after_first<'a>(part: &str, text: &'a str) -> Option<&'a str> {
    if !part.contains('?') {
        return text.split_once(part).map(|(_, after)| after);
    }
    let mut places = text.char_indices();
    places.find_map(|(at, _)| without_beginning(part, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match() {
        for (pattern, text, is) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*/x*", "a/b/xy", true),
            ("", "a", false),
            ("", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("ab*b", "ab", false),
            ("*b*", "abc", true),
            ("*?c", "bc", true),
            ("*?c", "c", false),
            ("a*?b*c", "axbc", true),
            ("a*?b*c", "abc", false),
            ("*ü?", "süß", true),
        ] {
            assert_eq!(is_like(pattern, text), is, "{pattern} {text}");
        }
    }
}
