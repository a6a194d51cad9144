//! What a model takes and gives: names, element types, shapes, and, where known, what
//! its numbers mean.
//!
//! Owns: the signature's JSON and the check of a request's tensors against it. Must not
//! know: how a model runs, or how a request was written.

use serde::{Deserialize, Serialize};

use crate::tensor::{Datatype, NamedTensor, Shape};

/// A model's inputs and outputs, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The inputs, in the model's own order.
    pub inputs: Vec<TensorSpec>,
    /// The outputs, in the model's own order.
    pub outputs: Vec<TensorSpec>,
    /// What kind of question the model answers, if its maker said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The classes in the order of the probabilities' columns; empty where unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// The name of the predicted column, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name in the model file.
    pub name: String,
    /// The type of its elements.
    pub datatype: Datatype,
    /// Its dimensions; -1 where any length is taken.
    pub shape: Vec<i64>,
    /// What it stands for.
    #[serde(default, skip_serializing_if = "Role::is_tensor")]
    pub role: Role,
}

/// What a tensor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A tensor of which nothing more is known.
    #[default]
    Tensor,
    /// A raw column that the model uses.
    Feature,
    /// A raw column that the model takes and does not use; rows may leave it out.
    Ignored,
    /// The predicted class.
    Label,
    /// The probability of each class.
    Probabilities,
    /// The predicted number.
    Prediction,
}

/// What kind of question a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Which of some classes.
    Classification,
    /// How much.
    Regression,
}

/// Why a request's tensors do not fit a model's inputs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InputError {
    /// A tensor that the model has no input for.
    #[error("the model has no input `{name}`: {}", suggest(name, expected))]
    Unknown {
        /// The name given.
        name: String,
        /// The names of the model's inputs.
        expected: Vec<String>,
    },
    /// An input that was not given.
    #[error("input `{name}` is missing: {datatype} of shape {shape} is expected")]
    Missing {
        /// The input.
        name: String,
        /// Its element type.
        datatype: Datatype,
        /// Its shape.
        shape: Shape,
    },
    /// An input that was given twice.
    #[error("input `{name}` is given twice")]
    Duplicate {
        /// The input.
        name: String,
    },
    /// Another element type.
    #[error("input `{name}` expects {expected}, got {got}")]
    Datatype {
        /// The input.
        name: String,
        /// What the model takes.
        expected: Datatype,
        /// What came.
        got: Datatype,
    },
    /// Another shape.
    #[error("input `{name}` expects shape {expected}, got {got}")]
    Shape {
        /// The input.
        name: String,
        /// What the model takes.
        expected: Shape,
        /// What came.
        got: Shape,
    },
}

/// The most names that an error lists.
const NAMES_LISTED_MAX: usize = 20;

impl Role {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    fn is_tensor(&self) -> bool {
        *self == Self::Tensor
    }
}

impl Signature {
    /// Takes over what `told` says of the meaning of these very inputs and outputs. Names,
    /// types and shapes stay the model's own.
    pub fn adopt(&mut self, told: &Self) {
        self.task = told.task.or(self.task);
        if !told.classes.is_empty() {
            self.classes.clone_from(&told.classes);
        }
        if told.target.is_some() {
            self.target.clone_from(&told.target);
        }
        let specs = self.inputs.iter_mut().chain(&mut self.outputs);
        for spec in specs {
            let mut all = told.inputs.iter().chain(&told.outputs);
            if let Some(told) = all.find(|told| told.name == spec.name) {
                spec.role = told.role;
            }
        }
    }

    /// Checks that every input is there once, with the right type and shape, and that
    /// nothing else is.
    ///
    /// # Errors
    /// The first tensor that does not fit, in the order given; then the first that is missing.
    pub fn check(&self, inputs: &[NamedTensor]) -> Result<(), InputError> {
        for (at, given) in inputs.iter().enumerate() {
            let spec = self.input(&given.name)?;
            if inputs[..at].iter().any(|other| other.name == given.name) {
                return Err(InputError::Duplicate {
                    name: given.name.clone(),
                });
            }
            spec.check(given)?;
        }
        match self
            .inputs
            .iter()
            .find(|spec| !inputs.iter().any(|given| given.name == spec.name))
        {
            Some(absent) => Err(InputError::Missing {
                name: absent.name.clone(),
                datatype: absent.datatype,
                shape: Shape(absent.shape.clone()),
            }),
            None => Ok(()),
        }
    }

    /// The input of that name.
    ///
    /// # Errors
    /// [`InputError::Unknown`], with the name that was probably meant.
    pub fn input(&self, name: &str) -> Result<&TensorSpec, InputError> {
        self.inputs
            .iter()
            .find(|spec| spec.name == name)
            .ok_or_else(|| InputError::Unknown {
                name: name.to_owned(),
                expected: self.inputs.iter().map(|spec| spec.name.clone()).collect(),
            })
    }

    /// Whether axis 0 of every input and output is free, so that it may be the rows.
    #[must_use]
    pub fn has_free_rows(&self) -> bool {
        self.inputs
            .iter()
            .chain(&self.outputs)
            .all(|spec| spec.shape.first() == Some(&-1))
    }
}

impl TensorSpec {
    fn check(&self, given: &NamedTensor) -> Result<(), InputError> {
        if given.tensor.datatype() != self.datatype {
            return Err(InputError::Datatype {
                name: self.name.clone(),
                expected: self.datatype,
                got: given.tensor.datatype(),
            });
        }
        let shape = given.tensor.shape();
        let fits = shape.len() == self.shape.len()
            && self
                .shape
                .iter()
                .zip(shape)
                .all(|(wanted, &got)| *wanted < 0 || usize::try_from(*wanted) == Ok(got));
        if fits {
            Ok(())
        } else {
            Err(InputError::Shape {
                name: self.name.clone(),
                expected: Shape(self.shape.clone()),
                got: Shape::of(shape),
            })
        }
    }
}

/// "did you mean" where a name is close, else the list of names.
pub(crate) fn suggest(name: &str, known: &[String]) -> String {
    let nearest = known
        .iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance);
    match nearest {
        // A third of the letters: two slips in a short word, not another word.
        Some((distance, candidate)) if distance * 3 <= name.chars().count().max(3) => {
            format!("did you mean `{candidate}`?")
        }
        Some(_) => {
            let listed: Vec<String> = known
                .iter()
                .take(NAMES_LISTED_MAX)
                .map(|name| format!("`{name}`"))
                .collect();
            let more = if known.len() > NAMES_LISTED_MAX {
                ", …"
            } else {
                ""
            };
            format!("it has {}{more}", listed.join(", "))
        }
        None => "it has none".to_owned(),
    }
}

/// Levenshtein's distance over the first 64 characters, which bounds the work.
fn edit_distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).flat_map(char::to_lowercase).collect();
    let right: Vec<char> = right
        .chars()
        .take(64)
        .flat_map(char::to_lowercase)
        .collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Tensor, TensorData};

    fn signature() -> Signature {
        serde_json::from_str(
            r#"{"inputs":[{"name":"age","datatype":"FP32","shape":[-1,1]},
                          {"name":"colour","datatype":"BYTES","shape":[-1,1]}],
                "outputs":[{"name":"label","datatype":"BYTES","shape":[-1,1]}],
                "task":"classification","classes":["no","yes"],"target":"bought"}"#,
        )
        .unwrap()
    }

    fn named(name: &str, shape: &[usize], data: TensorData) -> NamedTensor {
        NamedTensor {
            name: name.to_owned(),
            tensor: Tensor::new(shape.to_vec(), data).unwrap(),
        }
    }

    #[test]
    fn the_json_round_trips_and_leaves_out_what_is_unknown() {
        let signature = signature();
        let text = serde_json::to_string(&signature).unwrap();
        assert_eq!(serde_json::from_str::<Signature>(&text).unwrap(), signature);
        let bare = Signature {
            task: None,
            classes: Vec::new(),
            target: None,
            ..signature
        };
        let text = serde_json::to_string(&bare).unwrap();
        assert!(
            !text.contains("task") && !text.contains("classes"),
            "{text}"
        );
    }

    #[test]
    fn every_misfit_is_named_with_what_was_expected_and_what_came() {
        let signature = signature();
        let age = || named("age", &[2, 1], TensorData::Fp32(vec![1.0, 2.0]));
        let colour = || {
            let texts = vec!["red".to_owned(), "blue".to_owned()];
            named("colour", &[2, 1], TensorData::Bytes(texts))
        };
        assert_eq!(signature.check(&[colour(), age()]), Ok(()));
        let message = |inputs: &[NamedTensor]| signature.check(inputs).unwrap_err().to_string();
        assert_eq!(
            message(&[age()]),
            "input `colour` is missing: BYTES of shape [-1,1] is expected"
        );
        assert_eq!(
            message(&[age(), colour(), age()]),
            "input `age` is given twice"
        );
        assert_eq!(
            message(&[named("aged", &[1], TensorData::Fp32(vec![1.0]))]),
            "the model has no input `aged`: did you mean `age`?"
        );
        assert_eq!(
            message(&[named("weather", &[1], TensorData::Fp32(vec![1.0]))]),
            "the model has no input `weather`: it has `age`, `colour`"
        );
        assert_eq!(
            message(&[named("age", &[1, 1], TensorData::Fp64(vec![1.0]))]),
            "input `age` expects FP32, got FP64"
        );
        assert_eq!(
            message(&[named("age", &[2], TensorData::Fp32(vec![1.0, 2.0]))]),
            "input `age` expects shape [-1,1], got [2]"
        );
    }

    #[test]
    fn what_is_told_adds_meaning_and_changes_nothing_else() {
        let mut own = signature();
        (own.task, own.target) = (None, None);
        own.classes.clear();
        let told: Signature = serde_json::from_str(
            r#"{"inputs":[{"name":"age","datatype":"FP64","shape":[7],"role":"ignored","example":3.5},
                          {"name":"gone","datatype":"FP64","shape":[7]}],
                "outputs":[{"name":"label","datatype":"BYTES","shape":[-1],"role":"label"}],
                "task":"classification","classes":["no","yes"],"target":"bought"}"#,
        )
        .unwrap();
        own.adopt(&told);
        assert_eq!(own.inputs[0].role, Role::Ignored);
        assert_eq!(own.inputs[1].role, Role::Tensor);
        assert_eq!(own.outputs[0].role, Role::Label);
        own.inputs[0].role = Role::Tensor;
        own.outputs[0].role = Role::Tensor;
        assert_eq!(own, signature());
    }

    #[test]
    fn edit_distance_is_levenshteins() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("Same", "same"), 0);
    }
}
