//! Lines of a trace, and what can be wrong with one.
//!
//! Owns: the error that names a line. Must not know: any format.

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

/// A finite number that is not negative.
pub(crate) fn amount(text: &str, name: &str, line: usize) -> Result<f64, TraceError> {
    let shown: String = text.chars().take(64).collect();
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

/// A whole number that is not negative.
pub(crate) fn whole(text: &str, name: &str, line: usize) -> Result<u64, TraceError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        TraceError::at(line, format!("`{name}` is not a whole number: `{shown}`"))
    })
}
