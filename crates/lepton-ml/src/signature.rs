//! What a model takes and gives, in the words of the Open Inference Protocol.
//!
//! Owns: the serialised signature that stands beside every model, ours or
//! imported. Must not know: how a model computes.

use serde::{Deserialize, Serialize};

use crate::tabular::Task;

/// The inputs and outputs of a model, and what they mean if that is known.
///
/// A foreign ONNX file has `inputs` and `outputs` only; a model that Lepton
/// trained has the rest too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Signature {
    /// The tensors to send, in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// The tensors that come back, in the model's order.
    pub outputs: Vec<TensorSpec>,
    /// What was learned, if the model is a tabular one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// The column that is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The classes as text, in the order of the columns of `probabilities`; empty
    /// unless the model classifies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
}

/// One named tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its name in the graph; for a tabular model, the column's.
    pub name: String,
    /// The type of its elements.
    pub datatype: Datatype,
    /// Its extents; -1 where any extent will do.
    pub shape: Vec<i64>,
    /// What it stands for.
    #[serde(default, skip_serializing_if = "Role::is_tensor")]
    pub role: Role,
    /// One value as it may be sent: a number, or a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Example>,
}

/// One value of an input, for documentation and first tries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Example {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// What a tensor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A tensor of which nothing more is known.
    #[default]
    Tensor,
    /// A raw column, used by the model.
    Feature,
    /// A raw column that the model accepts and ignores: constant, an identifier, or
    /// empty when the model was trained.
    Ignored,
    /// The predicted class.
    Label,
    /// The probability of each class.
    Probabilities,
    /// The predicted number.
    Prediction,
}

impl Role {
    /// Whether nothing more is known than that it is a tensor.
    #[must_use]
    pub fn is_tensor(&self) -> bool {
        *self == Self::Tensor
    }
}

/// The element types of the Open Inference Protocol v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the protocol's own names say it")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    Bytes,
}

impl TensorSpec {
    /// A tensor of which nothing is known but its type.
    #[must_use]
    pub fn new(name: impl Into<String>, datatype: Datatype, shape: Vec<i64>) -> Self {
        Self {
            name: name.into(),
            datatype,
            shape,
            role: Role::Tensor,
            example: None,
        }
    }

    /// The same with a meaning.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_signature_needs_names_types_and_shapes_only() {
        let text = r#"{"inputs":[{"name":"X","datatype":"FP32","shape":[-1,4]}],
                       "outputs":[{"name":"y","datatype":"BYTES","shape":[-1]}]}"#;
        let signature: Signature = serde_json::from_str(text).unwrap();
        assert_eq!(signature.inputs[0].shape, [-1, 4]);
        assert_eq!(signature.outputs[0].datatype, Datatype::Bytes);
        let again = serde_json::to_string(&signature).unwrap();
        assert!(
            !again.contains("role") && !again.contains("classes"),
            "{again}"
        );
        assert_eq!(
            serde_json::from_str::<Signature>(&again).unwrap(),
            signature
        );
    }
}
