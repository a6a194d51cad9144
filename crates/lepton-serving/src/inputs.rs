//! Whether the tensors of a request fit a model.
//!
//! Owns: the check against a signature, and the words for each misfit. Must not know: how a
//! model runs, or how a request was written.

use lepton_types::signature::{Datatype, Signature, TensorSpec};

use crate::tensor::{NamedTensor, Shape};

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

/// Checks that every input is there once, with the right type and shape, and that
/// nothing else is.
///
/// # Errors
/// The first tensor that does not fit, in the order given; then the first that is missing.
pub fn check(signature: &Signature, inputs: &[NamedTensor]) -> Result<(), InputError> {
    for (at, given) in inputs.iter().enumerate() {
        let spec = spec_of(signature, &given.name)?;
        if inputs[..at].iter().any(|other| other.name == given.name) {
            return Err(InputError::Duplicate {
                name: given.name.clone(),
            });
        }
        fits(spec, given)?;
    }
    let mut specs = signature.inputs.iter();
    match specs.find(|spec| !inputs.iter().any(|given| given.name == spec.name)) {
        Some(absent) => Err(InputError::Missing {
            name: absent.name.clone(),
            datatype: absent.datatype,
            shape: Shape(absent.shape.clone()),
        }),
        None => Ok(()),
    }
}

fn spec_of<'a>(signature: &'a Signature, name: &str) -> Result<&'a TensorSpec, InputError> {
    let mut specs = signature.inputs.iter();
    specs
        .find(|spec| spec.name == name)
        .ok_or_else(|| InputError::Unknown {
            name: name.to_owned(),
            expected: signature
                .inputs
                .iter()
                .map(|spec| spec.name.clone())
                .collect(),
        })
}

fn fits(spec: &TensorSpec, given: &NamedTensor) -> Result<(), InputError> {
    if given.tensor.datatype() != spec.datatype {
        return Err(InputError::Datatype {
            name: spec.name.clone(),
            expected: spec.datatype,
            got: given.tensor.datatype(),
        });
    }
    let shape = given.tensor.shape();
    let fits = shape.len() == spec.shape.len()
        && spec
            .shape
            .iter()
            .zip(shape)
            .all(|(wanted, &got)| *wanted < 0 || usize::try_from(*wanted) == Ok(got));
    if fits {
        Ok(())
    } else {
        Err(InputError::Shape {
            name: spec.name.clone(),
            expected: Shape(spec.shape.clone()),
            got: Shape::of(shape),
        })
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
    fn every_misfit_is_named_with_what_was_expected_and_what_came() {
        let signature = signature();
        let age = || named("age", &[2, 1], TensorData::Fp32(vec![1.0, 2.0]));
        let colour = || {
            let texts = vec!["red".to_owned(), "blue".to_owned()];
            named("colour", &[2, 1], TensorData::Bytes(texts))
        };
        assert_eq!(check(&signature, &[colour(), age()]), Ok(()));
        let message = |inputs: &[NamedTensor]| check(&signature, inputs).unwrap_err().to_string();
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
    fn edit_distance_is_levenshteins() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("Same", "same"), 0);
    }
}
