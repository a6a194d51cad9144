//! Searching runs: what must hold of them, and in which order they come.

use lepton_types::resources::{MetricPoint, Run};
use lepton_types::tracking::{ModelLink, RunDataset};
use lepton_types::{ExperimentId, Id, Name, Timestamp};

use crate::Comparison;

/// Which runs, in which order, and which page of them.
#[derive(Debug, Clone)]
pub struct RunSearch {
    /// The tenant.
    pub project: Name,
    /// Only those of these experiments.
    pub experiments: Vec<Id>,
    /// Only those that live so.
    pub lifecycle: Lifecycle,
    /// All of these must hold.
    pub clauses: Vec<RunClause>,
    /// What decides the order; then the newest start, then the id.
    pub order: Vec<RunOrder>,
    /// Runs to skip.
    pub offset: u64,
    /// At most this many; [`RunSearch::LIMIT_MAX`] where larger.
    pub limit: usize,
}

impl RunSearch {
    /// The most that one page holds, as MLflow has it.
    pub const LIMIT_MAX: usize = 50_000;
}

/// What lives, what is in the bin, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// What is not in the bin.
    Active,
    /// What is.
    Deleted,
    /// Both.
    Any,
}

impl Lifecycle {
    /// Whether something that is in the bin, or not, is meant.
    #[must_use]
    pub fn includes(self, deleted: bool) -> bool {
        match self {
            Self::Active => !deleted,
            Self::Deleted => deleted,
            Self::Any => true,
        }
    }
}

/// Something that must hold of a run.
#[derive(Debug, Clone)]
pub struct RunClause {
    /// Of what.
    pub field: RunField,
    /// What.
    pub test: Test,
}

/// How runs are ordered. What has no value comes last either way, and NaN before it.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// By what.
    pub field: RunField,
    /// From the largest down.
    pub descending: bool,
}

/// What a run is searched or ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunField {
    /// A parameter.
    Param(String),
    /// A tag.
    Tag(String),
    /// The newest value of a metric.
    Metric(String),
    /// A text that every run has.
    Text(TextField),
    /// A time that runs have.
    Number(NumberField),
    /// Of the data that went in.
    Dataset(DatasetField),
}

/// A text that every run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextField {
    /// Its id.
    Id,
    /// Its name.
    Name,
    /// Where it stands.
    Status,
    /// Who ran it.
    User,
    /// Where its artifacts are.
    ArtifactUri,
}

/// A time that runs have, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberField {
    /// When it began.
    Started,
    /// When it ended.
    Finished,
}

/// What is known of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetField {
    /// What it is called.
    Name,
    /// Its fingerprint.
    Digest,
    /// What it was used for: the tag `mlflow.data.context`.
    Context,
}

/// What must hold of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// It compares so with a number.
    Number(Comparison, f64),
    /// It is this text.
    Is(String),
    /// It is another text.
    IsNot(String),
    /// It fits a pattern with `%` for any text and `_` for any character.
    Like(String),
    /// The same, whatever the case of ASCII letters.
    LikeAnyCase(String),
    /// It is one of these.
    Among(Vec<String>),
    /// It is none of these.
    NotAmong(Vec<String>),
    /// There is one.
    Present,
    /// There is none.
    Absent,
}

/// What a search found.
#[derive(Debug, Clone)]
pub struct Found<S = Vec<FoundRun>> {
    /// What took the runs.
    pub runs: S,
    /// How many there were.
    pub count: usize,
    /// Whether there are more.
    pub more: bool,
}

/// What a run is searched by and shown with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHead {
    /// Its id.
    pub id: Id,
    /// Its tenant.
    pub project: String,
    /// Its experiment.
    pub experiment: ExperimentId,
    /// What it is called.
    pub name: String,
    /// Where it stands, in the word of its phase.
    pub phase: String,
    /// Who ran it, or who made the record.
    pub user: String,
    /// Where its artifacts are, if not in Lepton itself.
    pub artifact_uri: Option<String>,
    /// When it began, or was made.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether it is in the bin.
    pub is_deleted: bool,
}

impl RunHead {
    /// What a record says.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let (meta, status) = (&run.metadata, &run.status);
        Self {
            id: meta.id,
            project: meta.project.to_string(),
            experiment: run.spec.experiment,
            name: meta.name.clone(),
            phase: status.phase.as_str().to_owned(),
            user: run.spec.user.as_ref().unwrap_or(&meta.created_by).clone(),
            artifact_uri: run.spec.artifact_uri.clone(),
            started_at: status.started_at.unwrap_or(meta.created_at),
            finished_at: status.finished_at,
            is_deleted: status.deleted_at.is_some(),
        }
    }
}

/// Takes runs as they are read, so that a page of many need not be in memory as records. Of each run first
/// comes its head, then what it logged, each sorted by key, then the data that went in and the logged models
/// that it used and made in the order of logging, then its end.
pub trait RunSink: Send + 'static {
    /// A run begins.
    fn head(&mut self, head: RunHead);
    /// The newest point of a metric.
    fn metric(&mut self, key: &str, value: f64, at: Timestamp, step: i64);
    /// A parameter.
    fn param(&mut self, key: &str, value: &str);
    /// A tag.
    fn tag(&mut self, key: &str, value: &str);
    /// Data that went in.
    fn dataset(&mut self, data: RunDataset);
    /// A logged model that it used or made.
    fn model(&mut self, link: ModelLink);
    /// The run is whole.
    fn end(&mut self);
}

/// A run with what it logged, used and made.
#[derive(Debug, Clone)]
pub struct FoundRun {
    /// The run.
    pub head: RunHead,
    /// The newest point of every metric.
    pub metrics: Vec<MetricPoint>,
    /// Its parameters.
    pub params: Vec<(String, String)>,
    /// Its tags.
    pub tags: Vec<(String, String)>,
    /// The data that went in.
    pub datasets: Vec<RunDataset>,
    /// The logged models that went in or came out.
    pub models: Vec<ModelLink>,
}

impl RunSink for Vec<FoundRun> {
    fn head(&mut self, head: RunHead) {
        self.push(FoundRun {
            head,
            metrics: Vec::new(),
            params: Vec::new(),
            tags: Vec::new(),
            datasets: Vec::new(),
            models: Vec::new(),
        });
    }

    fn metric(&mut self, key: &str, value: f64, at: Timestamp, step: i64) {
        let point = MetricPoint {
            key: key.to_owned(),
            step,
            timestamp: Some(at),
            value,
        };
        last(self).metrics.push(point);
    }

    fn param(&mut self, key: &str, value: &str) {
        last(self).params.push((key.to_owned(), value.to_owned()));
    }

    fn tag(&mut self, key: &str, value: &str) {
        last(self).tags.push((key.to_owned(), value.to_owned()));
    }

    fn dataset(&mut self, data: RunDataset) {
        last(self).datasets.push(data);
    }

    fn model(&mut self, link: ModelLink) {
        last(self).models.push(link);
    }

    fn end(&mut self) {}
}

fn last(runs: &mut [FoundRun]) -> &mut FoundRun {
    runs.last_mut()
        .expect("invariant: a run begins before what it logged")
}

impl Test {
    /// Whether it holds of `text`, or of its absence.
    #[must_use]
    pub fn holds_for_text(&self, text: Option<&str>) -> bool {
        let Some(text) = text else {
            return matches!(self, Self::Absent);
        };
        match self {
            Self::Is(wanted) => text == wanted,
            Self::IsNot(other) => text != other,
            Self::Like(pattern) => like(pattern, text),
            Self::LikeAnyCase(pattern) => {
                like(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
            }
            Self::Among(list) => list.iter().any(|wanted| wanted == text),
            Self::NotAmong(list) => !list.iter().any(|other| other == text),
            Self::Present => true,
            Self::Absent | Self::Number(..) => false,
        }
    }

    /// Whether it holds of `number`, or of its absence.
    #[must_use]
    pub fn holds_for_number(&self, number: Option<f64>) -> bool {
        match (self, number) {
            (Self::Number(comparison, bound), Some(number)) => comparison.holds(number, *bound),
            (Self::Absent, None) | (Self::Present, Some(_)) => true,
            _ => false,
        }
    }
}

/// SQL's LIKE: `%` is any text, `_` any character. Takes time in proportion to both lengths'
/// product at worst, never more.
fn like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut seen) = (0, 0);
    // Where the last `%` was, and how far it has swallowed.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some('%') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(c) if *c == '_' || *c == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match star {
                Some((back, swallowed)) => {
                    star = Some((back, swallowed + 1));
                    at = back + 1;
                    seen = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_in_sql() {
        for (pattern, text, fits) in [
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("a_c", "abc", true),
            ("a_c", "abbc", false),
            ("%%", "", true),
            ("", "", true),
            ("_", "", false),
            ("%ab%ab", "abab", true),
            ("%ab%ab", "aba", false),
            ("A%", "abc", false),
        ] {
            assert_eq!(like(pattern, text), fits, "{pattern} {text}");
        }
        assert!(Test::LikeAnyCase("A%".to_owned()).holds_for_text(Some("abc")));
    }

    #[test]
    fn only_absence_fits_what_is_not_there() {
        assert!(!Test::IsNot("x".to_owned()).holds_for_text(None));
        assert!(!Test::NotAmong(vec!["x".to_owned()]).holds_for_text(None));
        assert!(Test::Absent.holds_for_text(None));
        assert!(Test::Number(Comparison::Differs, 1.0).holds_for_number(Some(f64::NAN)));
        assert!(!Test::Number(Comparison::Above, 1.0).holds_for_number(Some(f64::NAN)));
    }
}
