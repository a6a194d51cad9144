//! What a model takes and gives, in the words of the Open Inference Protocol v2.
//!
//! Owns: the signature that stands beside every model as JSON, trained here or imported. Must not
//! know: how a model computes, how a request is written.

use std::fmt;

use serde::{Deserialize, Serialize};

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
    /// What kind of question the model answers, if its maker said so.
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

/// What kind of question a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Which of at least two classes.
    Classification,
    /// How much.
    Regression,
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
    /// empty when the model was trained. Rows may leave it out.
    Ignored,
    /// The predicted class.
    Label,
    /// The probability of each class.
    Probabilities,
    /// The predicted number.
    Prediction,
}

/// The element types of the Open Inference Protocol v2, under its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

impl Role {
    /// Whether nothing more is known than that it is a tensor.
    #[must_use]
    pub fn is_tensor(&self) -> bool {
        *self == Self::Tensor
    }
}

impl Datatype {
    /// The protocol's name of the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// Bytes an element, or `None` where that varies.
    #[must_use]
    pub const fn element_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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
            ["role", "classes", "task", "target", "example"]
                .iter()
                .all(|field| !again.contains(field)),
            "{again}"
        );
        assert_eq!(
            serde_json::from_str::<Signature>(&again).unwrap(),
            signature
        );
    }

    #[test]
    fn what_is_told_adds_meaning_and_changes_nothing_else() {
        let bare: Signature = serde_json::from_str(
            r#"{"inputs":[{"name":"age","datatype":"FP32","shape":[-1,1]},
                          {"name":"colour","datatype":"BYTES","shape":[-1,1]}],
                "outputs":[{"name":"label","datatype":"BYTES","shape":[-1,1]}]}"#,
        )
        .unwrap();
        let mut own = bare.clone();
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
        assert_eq!(own.task, Some(Task::Classification));
        assert_eq!(own.target.as_deref(), Some("bought"));
        assert_eq!(own.classes, ["no", "yes"]);
        own = Signature {
            inputs: own.inputs,
            outputs: own.outputs,
            ..bare.clone()
        };
        own.inputs[0].role = Role::Tensor;
        own.outputs[0].role = Role::Tensor;
        assert_eq!(own, bare);
    }

    #[test]
    fn a_type_is_written_under_its_name() {
        for name in ["BOOL", "UINT16", "INT64", "FP16", "BF16", "BYTES"] {
            let read: Datatype = serde_json::from_str(&format!("\"{name}\"")).unwrap();
            assert_eq!(read.to_string(), name);
        }
    }
}
