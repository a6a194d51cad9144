//! What a preparation is asked to do.
//!
//! Owns: the steps' options and how they are read from YAML. Must not know: the inputs' columns.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::{DescriptionError, StepFault};

/// The longest description, in bytes; a longer one is no description.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// The most steps.
const STEPS_MAX: usize = 200;
/// The most inputs.
const INPUTS_MAX: usize = 64;

/// A whole preparation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preparation {
    /// Datasets by the names that the steps know them by: `wine: wine:3`.
    pub inputs: Named<String>,
    /// The input that the steps begin with; the first one where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A whole query over the inputs, by name, instead of one input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// How the result is written.
    pub output: Output,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Texts are trimmed, spellings of nothing become missing, rows are dropped.
    Clean(Clean),
    /// Columns become of these types.
    Types(Named<String>),
    /// Rows for which the expression holds stay.
    Filter(String),
    /// Only these columns stay: names, or `expression AS name`.
    Select(Vec<String>),
    /// Columns are added or replaced, each an expression over the columns before the step.
    Derive(Named<Derived>),
    /// Columns of another input are added.
    Join(Join),
    /// Rows are dealt to parts.
    Split(Split),
    /// Missing values are filled.
    Impute(Impute),
    /// Numbers are brought to one scale.
    Normalise(Normalise),
    /// Texts become numbers.
    Encode(Encode),
}

/// The SQL expression of a derived column.
pub type Derived = String;

/// Options of `clean`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clean {
    /// Whether white space around texts goes.
    pub trim: bool,
    /// Texts that mean that there is no value; the usual spellings where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Vec<String>>,
    /// Rows that repeat an earlier one go: `true`, or the columns that decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_duplicates: Option<DropDuplicates>,
    /// Rows go that lack more than this share of their values: 0 drops every row that lacks one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop_missing: Option<f64>,
}

impl Default for Clean {
    fn default() -> Self {
        Self {
            trim: true,
            nulls: None,
            drop_duplicates: None,
            drop_missing: None,
        }
    }
}

/// Which rows are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DropDuplicates {
    /// `true`: all columns are equal.
    All(bool),
    /// These are.
    Columns(Vec<String>),
}

/// Options of `join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The other input. It is held in memory: let it be the smaller one.
    pub with: String,
    /// The columns that must be equal; of the same names in both.
    pub on: Vec<String>,
    /// What becomes of rows without a partner.
    #[serde(default)]
    pub kind: JoinKind,
}

/// What becomes of rows without a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinKind {
    /// They go.
    #[default]
    Inner,
    /// They stay; the other's columns are missing.
    Left,
    /// Only rows with a partner stay, once, without the other's columns.
    Semi,
    /// Only rows without a partner stay.
    Anti,
}

/// Options of `split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The parts and their shares, which sum to 1; the first is what steps are fitted on.
    pub fractions: Named<f64>,
    /// Another seed deals the rows otherwise.
    #[serde(default)]
    pub seed: u64,
    /// Rows that are equal in these columns come into one part; all columns where absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// Every part gets its share of the rows of each value (or combination of values) of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stratify: Vec<String>,
}

impl Split {
    /// The shares, each added to those before it.
    pub(crate) fn shares(&self) -> Vec<f64> {
        let mut sum = 0.0;
        let shares = self.fractions.iter().map(|(_, share)| {
            sum += *share;
            sum
        });
        shares.collect()
    }
}

/// Options of `impute`: by column, what fills it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impute {
    /// By column.
    pub columns: Named<Fill>,
}

/// What fills a missing value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fill {
    /// The mean of the numbers.
    Mean,
    /// The number in the middle, exactly; the mean of the two where there are two.
    Median,
    /// The most frequent value; the first in order where several are.
    Mode,
    /// This.
    Constant(Constant),
}

/// A value written in a description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Constant {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// Options of `normalise`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Which columns.
    pub columns: Vec<String>,
    /// How.
    #[serde(default)]
    pub method: NormaliseMethod,
}

/// How numbers are brought to one scale. A column of one value only becomes zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormaliseMethod {
    /// Less the mean, by the standard deviation.
    #[default]
    Standard,
    /// From 0 at the least to 1 at the greatest.
    MinMax,
    /// Less the median, by the distance of the quartiles.
    Robust,
}

/// Options of `encode`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encode {
    /// Which columns.
    pub columns: Vec<String>,
    /// How.
    #[serde(default)]
    pub method: EncodeMethod,
    /// What becomes of values that were not seen in the part that is fitted on.
    #[serde(default)]
    pub unseen: Unseen,
    /// The most values that get a place of their own, the most frequent ones; rarer ones are
    /// treated as unseen.
    #[serde(default = "categories_max")]
    pub max: usize,
}

const fn categories_max() -> usize {
    64
}

/// How texts become numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncodeMethod {
    /// A column a value, `column=value`, 1 where it is that value, else 0.
    #[default]
    OneHot,
    /// The value's place in the order of the values, from 0.
    Ordinal,
    /// The value's share of the rows.
    Frequency,
}

/// What becomes of values that were not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unseen {
    /// Zeros in one-hot columns, missing as ordinal, 0 as frequency.
    #[default]
    Ignore,
    /// The preparation fails.
    Error,
}

/// How the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// The files' format.
    #[serde(default)]
    pub format: Format,
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Parquet, compressed.
    #[default]
    Parquet,
    /// CSV.
    Csv,
    /// JSON lines.
    Jsonl,
}

impl Format {
    /// What file names end with.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }
}

impl Step {
    /// The word that the description uses for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Clean(_) => "clean",
            Self::Types(_) => "types",
            Self::Filter(_) => "filter",
            Self::Select(_) => "select",
            Self::Derive(_) => "derive",
            Self::Join(_) => "join",
            Self::Split(_) => "split",
            Self::Impute(_) => "impute",
            Self::Normalise(_) => "normalise",
            Self::Encode(_) => "encode",
        }
    }

    fn read(word: &str, options: yaml_serde::Value) -> Result<Self, StepFault> {
        // `clean:` alone is all its defaults.
        let options = match options {
            yaml_serde::Value::Null if word == "clean" => {
                yaml_serde::Value::Mapping(yaml_serde::Mapping::new())
            }
            other => other,
        };
        Ok(match word {
            "clean" => Self::Clean(read(options)?),
            "types" => Self::Types(read(options)?),
            "filter" => Self::Filter(read(options)?),
            "select" => Self::Select(read(options)?),
            "derive" => Self::Derive(read(options)?),
            "join" => Self::Join(read(options)?),
            "split" => Self::Split(read(options)?),
            "impute" => Self::Impute(Impute {
                columns: read_fills(options)?,
            }),
            "normalise" | "normalize" => Self::Normalise(read(options)?),
            "encode" => Self::Encode(read(options)?),
            _ => return Err(StepFault::UnknownStep),
        })
    }
}

fn read<T: DeserializeOwned>(options: yaml_serde::Value) -> Result<T, StepFault> {
    yaml_serde::from_value(options).map_err(|error| StepFault::Options(error.to_string()))
}

/// `age: median` and `city: {constant: "?"}`.
fn read_fills(options: yaml_serde::Value) -> Result<Named<Fill>, StepFault> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Constantly {
        constant: Constant,
    }
    let raw: Named<yaml_serde::Value> = read(options)?;
    let fill = |(column, value): (String, yaml_serde::Value)| {
        let fill = match value {
            yaml_serde::Value::String(word) => match word.as_str() {
                "mean" => Fill::Mean,
                "median" => Fill::Median,
                "mode" => Fill::Mode,
                _ => return Err(StepFault::UnknownFill { column, word }),
            },
            other => Fill::Constant(read::<Constantly>(other)?.constant),
        };
        Ok((column, fill))
    };
    let fills: Result<Vec<_>, _> = raw.0.into_iter().map(fill).collect();
    Ok(Named(fills?))
}

/// The outermost keys of a description.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outline {
    #[serde(default = "Named::empty")]
    inputs: Named<String>,
    from: Option<String>,
    sql: Option<String>,
    #[serde(default)]
    steps: Vec<Named<yaml_serde::Value>>,
    #[serde(default)]
    output: Output,
}

impl Preparation {
    /// Reads a description.
    ///
    /// # Errors
    /// Fails with the step that is wrong.
    pub fn from_yaml(text: &str) -> Result<Self, DescriptionError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(DescriptionError::TooLong {
                limit: TEXT_BYTES_MAX,
            });
        }
        let outline: Outline = yaml_serde::from_str(text)
            .map_err(|error| DescriptionError::Yaml(error.to_string()))?;
        if outline.steps.len() > STEPS_MAX || outline.inputs.0.len() > INPUTS_MAX {
            return Err(DescriptionError::TooMany {
                steps: STEPS_MAX,
                inputs: INPUTS_MAX,
            });
        }
        let mut steps = Vec::with_capacity(outline.steps.len());
        for (index, step) in outline.steps.into_iter().enumerate() {
            let mut entries = step.0.into_iter();
            let (Some((word, options)), None) = (entries.next(), entries.next()) else {
                return Err(DescriptionError::NotOneKey { step: index + 1 });
            };
            let step = Step::read(&word, options)
                .map_err(|fault| DescriptionError::at(index + 1, &word, fault))?;
            steps.push(step);
        }
        Ok(Self {
            inputs: outline.inputs,
            from: outline.from,
            sql: outline.sql,
            steps,
            output: outline.output,
        })
    }

    /// The SHA-256 of what the description means, in hex: comments and spelling do not count.
    #[must_use]
    pub fn digest(&self) -> String {
        let text = serde_json::to_vec(self).expect("invariant: descriptions have text keys");
        Sha256::digest(text)
            .iter()
            .fold(String::new(), |mut hex, byte| {
                use fmt::Write as _;
                let _infallible = write!(hex, "{byte:02x}");
                hex
            })
    }
}

/// Entries by name, in the order written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Named<T> {
    /// None.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Vec::new())
    }

    /// The entry of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    }

    /// Names and entries, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("entries by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut entries: Vec<(String, T)> = Vec::new();
                let mut seen = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, T>()? {
                    if seen.insert(name.clone(), ()).is_some() {
                        let message = format!("`{name}` is there twice");
                        return Err(serde::de::Error::custom(message));
                    }
                    entries.push((name, value));
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_of_every_step_is_read() {
        let text = "
inputs: {wine: 'wine:3', regions: regions}
from: wine
steps:
  - clean: {nulls: ['', 'NA'], drop_duplicates: [id], drop_missing: 0.5}
  - clean:
  - types: {price: float, id: int}
  - filter: price > 0
  - derive: {b: price * 2, a: id + 1}
  - select: [a, b, 'price AS p']
  - join: {with: regions, on: [region], kind: left}
  - split: {fractions: {train: 0.8, test: 0.2}, seed: 1, by: [id]}
  - impute: {age: median, city: {constant: '?'}}
  - normalise: {columns: [age], method: min-max}
  - encode: {columns: [city], method: one-hot, unseen: error}
output: {format: csv}
";
        let read = Preparation::from_yaml(text).unwrap();
        assert_eq!(read.steps.len(), 11);
        let Step::Derive(derived) = &read.steps[4] else {
            panic!("{:?}", read.steps[4]);
        };
        assert_eq!(derived.0[0].0, "b", "in the order written");
        let spaced = text.replace(": price > 0", ":   'price > 0' # yes");
        assert_eq!(
            Preparation::from_yaml(&spaced).unwrap().digest(),
            read.digest()
        );
    }

    #[test]
    fn mistakes_name_their_step() {
        for (text, said) in [
            ("steps: [{clean: {trimm: true}}]", "step 1 (clean)"),
            ("steps: [{filter: x}, {fillter: x}]", "step 2 (fillter)"),
            ("steps: [{impute: {a: middle}}]", "`middle`"),
            ("steps: [{filter: x, types: {}}]", "step 1"),
            (
                "steps: [{normalise: {columns: [a], method: odd}}]",
                "step 1 (normalise)",
            ),
            ("stepz: []", "stepz"),
            ("steps: [", "YAML"),
        ] {
            let error = Preparation::from_yaml(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
