//! From the text of a filter to its words.

use super::Operator;
use crate::mlflow::error::{MlflowError, shown};

/// The longest filter, in bytes.
const BYTES_MAX: usize = 64 << 10;

/// A word of a filter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// An identifier or a keyword.
    Name(Name<'a>),
    /// A number, and how it was written.
    Number(f64, &'a str),
    /// What stands between single quotes.
    Text(&'a str),
    Operator(Operator),
    Open,
    Close,
    Comma,
}

/// An identifier as it was written, quotes and dots included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Name<'a>(&'a str);

impl<'a> Name<'a> {
    /// The entity, if there is one, and the key, without their quotes.
    pub(super) fn split(self) -> (Option<String>, String) {
        if let Some(whole) = self.whole_quoted() {
            return (None, whole.to_owned());
        }
        match self.0.split_once('.') {
            None => (None, unquoted(self.0).to_owned()),
            Some((entity, key)) => (Some(unquoted(entity).to_owned()), unquoted(key).to_owned()),
        }
    }

    /// What stands in double quotes or backticks, if that is all there is: a text may be written so.
    pub(super) fn whole_quoted(self) -> Option<&'a str> {
        let quote = self.0.chars().next().filter(|c| *c == '"' || *c == '`')?;
        let inner = self.0.strip_prefix(quote)?.strip_suffix(quote)?;
        (!inner.contains(quote)).then_some(inner)
    }
}

fn unquoted(text: &str) -> &str {
    for quote in ['`', '"', '\''] {
        if let Some(inner) = text
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote))
        {
            return inner;
        }
    }
    text
}

impl Token<'_> {
    /// Whether it is this keyword, in any case.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Name(name) if name.0.eq_ignore_ascii_case(word))
    }
}

/// Gives the words of a filter one by one.
pub(super) struct Lexer<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token<'a>)>,
    next: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self, MlflowError> {
        if text.len() > BYTES_MAX {
            return Err(MlflowError::invalid(format!(
                "Invalid filter: it is longer than {BYTES_MAX} bytes"
            )));
        }
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(c) = text[at..].chars().next() {
            if c.is_whitespace() {
                at += c.len_utf8();
                continue;
            }
            let (token, length) = token(&text[at..]).ok_or_else(|| refuse(text, at, None))?;
            tokens.push((at, token));
            at += length;
        }
        Ok(Self {
            text,
            tokens,
            next: 0,
        })
    }

    pub(super) fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.next).map(|(_, token)| *token)
    }

    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.next += 1;
        token
    }

    /// A refusal of the word that was taken last.
    pub(super) fn unexpected(&self, expected: &str) -> MlflowError {
        let last = self.next.saturating_sub(1);
        let at = self.tokens.get(last).map_or(self.text.len(), |(at, _)| *at);
        refuse(self.text, at, Some(expected))
    }
}

fn refuse(text: &str, at: usize, expected: Option<&str>) -> MlflowError {
    let place = text[..at].chars().count() + 1;
    let rest: String = text[at..].chars().take(32).collect();
    let found = match rest.is_empty() {
        true => "the end".to_owned(),
        false => format!("`{}`", shown(&rest)),
    };
    let expected = expected.map(|expected| format!("expected {expected}, "));
    MlflowError::invalid(format!(
        "Invalid filter: at character {place}, {}found {found}",
        expected.unwrap_or_default()
    ))
}

/// The word that `rest` begins with, and its length.
fn token(rest: &str) -> Option<(Token<'_>, usize)> {
    const SIGNS: [(&str, Token<'_>); 11] = [
        (">=", Token::Operator(Operator::AtLeast)),
        ("<=", Token::Operator(Operator::AtMost)),
        ("!=", Token::Operator(Operator::Differs)),
        ("<>", Token::Operator(Operator::Differs)),
        ("==", Token::Operator(Operator::Equals)),
        ("=", Token::Operator(Operator::Equals)),
        (">", Token::Operator(Operator::Above)),
        ("<", Token::Operator(Operator::Below)),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    let sign = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign));
    if let Some((sign, token)) = sign {
        return Some((*token, sign.len()));
    }
    let first = rest.chars().next()?;
    if first == '\'' {
        let length = quoted_length(rest, '\'')?;
        return Some((Token::Text(&rest[1..length - 1]), length));
    }
    if first.is_ascii_digit() || first == '-' || first == '+' || first == '.' {
        let length = number_length(rest);
        let number = rest[..length].parse().ok()?;
        return Some((Token::Number(number, &rest[..length]), length));
    }
    name_length(rest).map(|length| (Token::Name(Name(&rest[..length])), length))
}

/// The length of what stands in `quote`s, which are written twice inside.
fn quoted_length(rest: &str, quote: char) -> Option<usize> {
    let mut inner = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = inner.next() {
        if c == quote {
            match inner.peek() {
                Some((_, next)) if *next == quote && quote == '\'' => {
                    inner.next();
                }
                _ => return Some(at + quote.len_utf8()),
            }
        }
    }
    None
}

fn number_length(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut at = 0;
    while let Some(b) = bytes.get(at) {
        let sign = matches!(b, b'-' | b'+') && (at == 0 || matches!(bytes[at - 1], b'e' | b'E'));
        if !(b.is_ascii_alphanumeric() || *b == b'.' || sign) {
            break;
        }
        at += 1;
    }
    at
}

fn name_length(rest: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(c) = rest[at..].chars().next() {
        if c == '`' || c == '"' {
            at += quoted_length(&rest[at..], c)?;
        } else if c.is_alphanumeric() || c == '_' || c == '.' {
            at += c.len_utf8();
        } else {
            break;
        }
    }
    (at > 0).then_some(at)
}
