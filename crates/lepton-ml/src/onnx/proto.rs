//! The messages of ONNX that we write, with the field numbers of `onnx.proto` (IR version 8).
//!
//! Owns: the wire format. Must not know: operators.

use prost::Message;

use lepton_types::signature::{Datatype, Signature, TensorSpec};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opsets: Vec<OperatorSet>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) nodes: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializers: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    pub(super) inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    pub(super) outputs: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(super) inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) outputs: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    pub(super) domain: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, optional, tag = "2")]
    pub(super) float: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(super) int: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) string: Option<Vec<u8>>,
    #[prost(float, repeated, tag = "7")]
    pub(super) floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub(super) ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub(super) strings: Vec<Vec<u8>>,
    #[prost(int32, tag = "20")]
    pub(super) kind: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub(super) floats: Vec<f32>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub(super) strings: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "7")]
    pub(super) ints: Vec<i64>,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(double, repeated, tag = "10")]
    pub(super) doubles: Vec<f64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfo {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value_type: Option<ValueType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueType {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor: Option<TensorType>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorType {
    #[prost(int32, tag = "1")]
    pub(super) element: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<Shape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Shape {
    #[prost(message, repeated, tag = "1")]
    pub(super) dims: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(super) value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) name: Option<String>,
}

/// A file, of which only inputs and outputs are decoded: weights are skipped unread.
#[derive(Clone, PartialEq, Message)]
struct ModelFace {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphFace>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphFace {
    #[prost(message, repeated, tag = "5")]
    initializers: Vec<TensorFace>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<ValueInfo>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorFace {
    #[prost(string, tag = "8")]
    name: String,
}

/// Bytes that are no ONNX model which can be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not the wire format, or no graph.
    #[error("not an ONNX model")]
    NotOnnx,
    /// A sequence, a map, or an element type that the inference protocol lacks.
    #[error("the {side} `{name}` is no tensor of a type that can be served")]
    NotATensor {
        /// `input` or `output`.
        side: &'static str,
        /// Which.
        name: String,
    },
}

/// The signature of any ONNX file, read from its bytes: names, types and shapes, -1 where
/// an extent is free. A tensor of unknown rank has the shape `[-1]`.
///
/// # Errors
/// Fails if the bytes are no model, or an input or output is no tensor.
pub fn signature_of(onnx: &[u8]) -> Result<Signature, SignatureError> {
    let graph = ModelFace::decode(onnx).ok().and_then(|model| model.graph);
    let graph = graph
        .filter(|g| !g.outputs.is_empty())
        .ok_or(SignatureError::NotOnnx)?;
    // Before IR version 4, weights are listed as inputs too.
    let constant: std::collections::HashSet<&str> = graph
        .initializers
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
    let specs = |side, values: &[ValueInfo]| {
        let asked = values
            .iter()
            .filter(|value| !constant.contains(value.name.as_str()));
        asked
            .map(|value| spec(side, value))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Signature {
        inputs: specs("input", &graph.inputs)?,
        outputs: specs("output", &graph.outputs)?,
        task: None,
        target: None,
        classes: Vec::new(),
    })
}

fn spec(side: &'static str, value: &ValueInfo) -> Result<TensorSpec, SignatureError> {
    let tensor = value.value_type.as_ref().and_then(|t| t.tensor.as_ref());
    let datatype = tensor.and_then(|t| datatype(t.element));
    let (Some(tensor), Some(datatype)) = (tensor, datatype) else {
        return Err(SignatureError::NotATensor {
            side,
            name: value.name.clone(),
        });
    };
    let extent = |dim: &Dimension| dim.value.filter(|v| *v > 0).unwrap_or(-1);
    let shape = tensor
        .shape
        .as_ref()
        .map_or(vec![-1], |s| s.dims.iter().map(extent).collect());
    Ok(TensorSpec::new(&value.name, datatype, shape))
}

/// `TensorProto.DataType` in the inference protocol's words.
fn datatype(element: i32) -> Option<Datatype> {
    Some(match element {
        1 => Datatype::Fp32,
        2 => Datatype::Uint8,
        3 => Datatype::Int8,
        4 => Datatype::Uint16,
        5 => Datatype::Int16,
        6 => Datatype::Int32,
        7 => Datatype::Int64,
        8 => Datatype::Bytes,
        9 => Datatype::Bool,
        10 => Datatype::Fp16,
        11 => Datatype::Fp64,
        12 => Datatype::Uint32,
        13 => Datatype::Uint64,
        16 => Datatype::Bf16,
        _ => return None,
    })
}
