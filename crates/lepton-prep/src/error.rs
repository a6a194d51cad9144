//! What can be wrong with a preparation, each fact a variant.

use std::path::PathBuf;

/// A description that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DescriptionError {
    /// No YAML, or other keys than a description has.
    #[error("the description is not YAML of a preparation: {0}")]
    Yaml(String),
    /// Too many bytes.
    #[error("the description is longer than {limit} bytes")]
    TooLong {
        /// The bound.
        limit: usize,
    },
    /// Too many entries.
    #[error("a description has at most {steps} steps and {inputs} inputs")]
    TooMany {
        /// The bound on steps.
        steps: usize,
        /// The bound on inputs.
        inputs: usize,
    },
    /// A step is a map of one key.
    #[error("step {step}: a step has one key, the step's name: put a `-` before each step")]
    NotOneKey {
        /// Which step, from 1.
        step: usize,
    },
    /// No input at all.
    #[error("no input is named: add `inputs: {{NAME: DATASET}}`")]
    NoInput,
    /// A name that no input has.
    #[error("`{name}` is no input: the inputs are {known}")]
    UnknownInput {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// Two ways to begin.
    #[error("`from` and `sql` are both given: leave one out")]
    FromAndSql,
    /// A query that cannot be planned.
    #[error("the query cannot be carried out: {0}")]
    Query(String),
    /// One step is wrong.
    #[error("step {step} ({word}): {fault}")]
    Step {
        /// Which step, from 1.
        step: usize,
        /// Its word.
        word: String,
        /// What is wrong.
        fault: Box<StepFault>,
    },
}

impl DescriptionError {
    pub(crate) fn at(step: usize, word: &str, fault: StepFault) -> Self {
        Self::Step {
            step,
            word: word.chars().take(40).collect(),
            fault: Box::new(fault),
        }
    }
}

/// What is wrong with one step.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StepFault {
    /// A word that is no step.
    #[error(
        "there is no such step: use clean, types, filter, select, derive, join, split, impute, normalise or encode"
    )]
    UnknownStep,
    /// Options that do not fit.
    #[error("{0}")]
    Options(String),
    /// A word that fills nothing.
    #[error("`{word}` fills no column `{column}`: use mean, median, mode or {{constant: VALUE}}")]
    UnknownFill {
        /// The column.
        column: String,
        /// The word.
        word: String,
    },
    /// A column that is not there at this step.
    #[error("there is no column `{column}` here: there is {known}")]
    UnknownColumn {
        /// The name asked for.
        column: String,
        /// The first of those there are.
        known: String,
    },
    /// A column that one-hot encoding has taken.
    #[error("column `{column}` is encoded already: move this step before `encode`")]
    Encoded {
        /// The column.
        column: String,
    },
    /// A type that is not known.
    #[error(
        "`{word}` is no type of column `{column}`: use int, float, bool, text, date or timestamp"
    )]
    UnknownType {
        /// The column.
        column: String,
        /// The word.
        word: String,
    },
    /// An expression that cannot be read or typed.
    #[error("the expression `{expression}` cannot be used: {reason}")]
    Expression {
        /// The text.
        expression: String,
        /// Why.
        reason: String,
    },
    /// A step that needs numbers.
    #[error(
        "column `{column}` holds {found}, and numbers are needed: give it `types: {{{column}: float}}` first"
    )]
    NotNumbers {
        /// The column.
        column: String,
        /// What it holds.
        found: String,
    },
    /// A step that needs texts, numbers or truth values.
    #[error(
        "column `{column}` holds {found}, which cannot be used here: give it `types: {{{column}: text}}` first"
    )]
    NotCategories {
        /// The column.
        column: String,
        /// What it holds.
        found: String,
    },
    /// Two columns of one name.
    #[error("two columns are called `{column}`: rename one with `select`")]
    DuplicateColumn {
        /// The name.
        column: String,
    },
    /// Something that is wrong by itself.
    #[error("{0}")]
    Rule(&'static str),
    /// A part's name that no file can have.
    #[error("`{name}` cannot name a part: use letters, digits, `-` and `_`")]
    PartName {
        /// The name.
        name: String,
    },
    /// Keys of different types.
    #[error("column `{column}` holds {left} here and {right} in `{with}`: bring both to one type")]
    KeyTypes {
        /// The key.
        column: String,
        /// This side's type.
        left: String,
        /// The other side's type.
        right: String,
        /// The other input.
        with: String,
    },
    /// A constant that does not fit.
    #[error("the constant for column `{column}` must be {needed}")]
    ConstantType {
        /// The column.
        column: String,
        /// What it must be.
        needed: &'static str,
    },
    /// An input that is not there.
    #[error("`{name}` is no input: the inputs are {known}")]
    UnknownInput {
        /// The name.
        name: String,
        /// Those there are.
        known: String,
    },
    /// No value to fit on.
    #[error(
        "column `{column}` has no value in the rows that are fitted on: drop it with `select`, or fill it with a constant"
    )]
    NothingToFit {
        /// The column.
        column: String,
    },
    /// Too many different values.
    #[error(
        "column `{column}` has more than {limit} different values: it names rows rather than kinds of them"
    )]
    TooManyValues {
        /// The column.
        column: String,
        /// The bound.
        limit: usize,
    },
    /// A split has too many strata.
    #[error(
        "the columns of `stratify` have more than {limit} different values: they name rows rather than kinds of them"
    )]
    TooManyStrata {
        /// The bound.
        limit: usize,
    },
    /// A value that was not fitted on.
    #[error(
        "column `{column}` has the value `{value}`, which the fitted part lacks: use `unseen: ignore`, or split otherwise"
    )]
    Unseen {
        /// The column.
        column: String,
        /// The value.
        value: String,
    },
    /// A value that cannot become of a type.
    #[error(
        "column `{column}` has the value `{value}`, which is no {wanted}: name it in `clean: {{nulls: […]}}` if it means that there is none, or choose another type"
    )]
    Cast {
        /// The column.
        column: String,
        /// The value.
        value: String,
        /// The type.
        wanted: String,
    },
    /// An expression that failed on a row.
    #[error("failed on a row: {0}")]
    Evaluation(String),
    /// The other side of a join takes too much memory.
    #[error(
        "`{with}` takes more than {limit} bytes: join the other way round, or ask for more memory"
    )]
    JoinTooLarge {
        /// The other input.
        with: String,
        /// The bound.
        limit: u64,
    },
    /// A join that makes too many rows.
    #[error(
        "some {rows} rows find {matches} partners in `{with}`: are its keys meant to repeat? Drop repeated ones with `clean: {{drop_duplicates: [KEY]}}` or join on more columns"
    )]
    JoinExplodes {
        /// The other input.
        with: String,
        /// Rows of a piece.
        rows: usize,
        /// Rows that they become.
        matches: u64,
    },
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// A row with more or fewer fields than the header.
    #[error("{found} fields where the header has {expected}")]
    Ragged {
        /// How many there are.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Bytes that are no text.
    #[error("not UTF-8: save the file as UTF-8")]
    NotUtf8,
    /// A record beyond the bound.
    #[error("a record is longer than {limit} bytes: is a quote left open?")]
    RecordTooLong {
        /// The bound.
        limit: usize,
    },
    /// Too many columns.
    #[error("more than {limit} columns")]
    TooManyColumns {
        /// The bound.
        limit: usize,
    },
    /// Two columns of one name.
    #[error("two columns are called `{column}`")]
    DuplicateColumn {
        /// The name.
        column: String,
    },
    /// A value of another type.
    #[error(
        "column `{column}` holds {wanted}, but here `{value}`: declare the type that suits all its values as the first step, `types: {{{column}: text}}`, or name the value in `clean: {{nulls: […]}}` if it means that there is none"
    )]
    Value {
        /// The column.
        column: String,
        /// Its type.
        wanted: &'static str,
        /// The value.
        value: String,
    },
    /// A line that is no JSON object.
    #[error("no JSON object: {0}")]
    Json(String),
    /// A value inside a value.
    #[error(
        "column `{column}` holds {kind}, which is not supported: keep numbers, texts and truth values at the top"
    )]
    Nested {
        /// The column.
        column: String,
        /// What it is.
        kind: &'static str,
    },
    /// Several files of different columns.
    #[error("the columns differ from those of `{first}`: {difference}")]
    HeaderMismatch {
        /// The first file.
        first: String,
        /// What differs.
        difference: String,
    },
    /// A column type that is not supported.
    #[error(
        "column `{column}` is {kind}, which is not supported: leave it out, or store it as numbers or text"
    )]
    Unsupported {
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
    /// A broken Parquet file.
    #[error("not a readable Parquet file: {0}")]
    Parquet(String),
    /// A file whose name says no format.
    #[error("its name ends with none of .csv, .tsv, .jsonl, .ndjson, .json and .parquet")]
    UnknownFormat,
    /// The bytes could not be had.
    #[error("cannot be read: {0}")]
    Io(String),
}

/// A preparation that failed.
#[derive(Debug, thiserror::Error)]
pub enum PrepError {
    /// The description is wrong, or a step failed on the data.
    #[error(transparent)]
    Description(#[from] DescriptionError),
    /// A file is wrong.
    #[error("`{file}`{}: {fault}", line.map(|l| format!(", line {l}")).unwrap_or_default())]
    Read {
        /// The file's name.
        file: String,
        /// The line, from 1, where one is to blame.
        line: Option<u64>,
        /// What is wrong.
        fault: ReadFault,
    },
    /// A query failed while it ran.
    #[error("the query failed: {0}")]
    Query(String),
    /// The output or the spill folder cannot be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No row is left.
    #[error("no row is left: the steps drop them all")]
    NoRows,
    /// Somebody asked for the end.
    #[error("the preparation was cancelled")]
    Cancelled,
    /// A thread ended early, which is a fault of the program.
    #[error("a worker thread died")]
    ThreadDied,
}

/// The first names of many, for messages.
pub(crate) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 12;
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<String> = names.take(SHOWN).map(|name| format!("`{name}`")).collect();
    match (shown.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The beginning of a value, for messages.
pub(crate) fn excerpt(value: &str) -> String {
    value.chars().take(64).collect()
}
