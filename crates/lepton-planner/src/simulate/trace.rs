//! Lines of a trace, and what can be wrong with one.
//!
//! Owns: the error that names a line, and the fields that every format reads. Must not know: any
//! format.

/// A trace that cannot be read; the line is counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct TraceError {
    /// Which line.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

impl TraceError {
    pub(crate) fn at(line: usize, problem: impl Into<String>) -> Self {
        Self {
            line,
            problem: problem.into(),
        }
    }
}

/// Times of a trace in seconds are at most three hundred years: beyond, a millisecond is lost in rounding.
pub(crate) const SECONDS_MOST: f64 = 1e10;

/// What was given, short enough for a message and without characters that a terminal would obey.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

/// The field `index` of `fields`, or an error that names it.
pub(crate) fn field<'a>(
    fields: &[&'a str],
    index: usize,
    name: &str,
    line: usize,
) -> Result<&'a str, TraceError> {
    fields
        .get(index)
        .map(|text| text.trim())
        .ok_or_else(|| TraceError::at(line, format!("the field `{name}` is missing")))
}

/// An error if a line has more than its header's fields: a comma too many moves all that follow.
pub(crate) fn no_more_than(most: usize, fields: &[&str], line: usize) -> Result<(), TraceError> {
    if fields.len() > most {
        let found = fields.len();
        let problem = format!("{found} fields where {most} belong");
        return Err(TraceError::at(line, problem));
    }
    Ok(())
}

/// A finite number that is not negative.
pub(crate) fn amount(text: &str, name: &str, line: usize) -> Result<f64, TraceError> {
    let shown = shown(text);
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        Ok(value) if value < 0.0 => Err(TraceError::at(
            line,
            format!("`{name}` is negative: `{shown}`"),
        )),
        _ => Err(TraceError::at(
            line,
            format!("`{name}` is not a number: `{shown}`"),
        )),
    }
}

/// [`amount`], and no more than makes sense.
pub(crate) fn amount_up_to(
    most: f64,
    text: &str,
    name: &str,
    line: usize,
) -> Result<f64, TraceError> {
    let value = amount(text, name, line)?;
    if value > most {
        let problem = format!("`{name}` is more than {most}: `{}`", shown(text));
        return Err(TraceError::at(line, problem));
    }
    Ok(value)
}

/// A whole number that is not negative.
pub(crate) fn whole(text: &str, name: &str, line: usize) -> Result<u64, TraceError> {
    text.parse().map_err(|_| {
        let shown = shown(text);
        let what = if text.starts_with('-') {
            "negative"
        } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            "too large"
        } else {
            "not a whole number"
        };
        TraceError::at(line, format!("`{name}` is {what}: `{shown}`"))
    })
}
