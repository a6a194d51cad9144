//! Building an ONNX graph, node by node.
//!
//! Owns: names of values, attributes, constants. Must not know: what is computed.

use lepton_types::signature::{Datatype, TensorSpec};
use prost::Message;

use super::proto::{
    Attribute, Dimension, Entry, GraphProto, Model, NodeProto, OperatorSet, Shape, Tensor,
    TensorType, ValueInfo, ValueType,
};

/// IR version 8 and operator sets 17 and `ai.onnx.ml` 3 are what ONNX Runtime has loaded since
/// 1.12 and every converter of the field still reads.
const IR_VERSION: i64 = 8;
const OPSET: i64 = 17;
const OPSET_ML: i64 = 3;

/// A graph under construction. Values are known by name.
#[derive(Debug, Default)]
pub struct Graph {
    proto: GraphProto,
    metadata: Vec<Entry>,
    values: usize,
}

/// A constant tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant<'a> {
    /// 32-bit numbers.
    Floats(&'a [f32]),
    /// 64-bit numbers.
    Doubles(&'a [f64]),
    /// 64-bit whole numbers.
    Ints(&'a [i64]),
    /// Texts.
    Texts(&'a [String]),
}

impl Graph {
    /// An empty graph.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let proto = GraphProto {
            name: name.to_owned(),
            ..GraphProto::default()
        };
        Self {
            proto,
            ..Self::default()
        }
    }

    /// Adds an input.
    pub fn input(&mut self, spec: &TensorSpec) {
        self.proto.inputs.push(value_info(spec));
    }

    /// Adds an output, which a node must produce under that name.
    pub fn output(&mut self, spec: &TensorSpec) {
        self.proto.outputs.push(value_info(spec));
    }

    /// Adds a text for whoever reads the file.
    pub fn metadata(&mut self, key: &str, value: &str) {
        self.metadata.push(Entry {
            key: key.to_owned(),
            value: value.to_owned(),
        });
    }

    /// Adds a constant and returns its name.
    pub fn constant(&mut self, shape: &[usize], constant: &Constant<'_>) -> String {
        let name = self.fresh("constant");
        let mut tensor = Tensor {
            dims: shape.iter().map(|d| int(*d)).collect(),
            name: name.clone(),
            ..Tensor::default()
        };
        match constant {
            Constant::Floats(values) => {
                tensor.data_type = 1;
                tensor.floats = values.to_vec();
            }
            Constant::Doubles(values) => {
                tensor.data_type = 11;
                tensor.doubles = values.to_vec();
            }
            Constant::Ints(values) => {
                tensor.data_type = 7;
                tensor.ints = values.to_vec();
            }
            Constant::Texts(values) => {
                tensor.data_type = 8;
                tensor.strings = values.iter().map(|v| v.clone().into_bytes()).collect();
            }
        }
        self.proto.initializers.push(tensor);
        name
    }

    /// Adds a node of the standard operators and returns the name of its output.
    pub fn node(&mut self, op: &str, inputs: &[&str]) -> NodeBuilder<'_> {
        let output = self.fresh(op);
        let node = NodeProto {
            inputs: inputs.iter().map(|i| (*i).to_owned()).collect(),
            outputs: vec![output.clone()],
            name: format!("make_{output}"),
            op_type: op.to_owned(),
            ..NodeProto::default()
        };
        NodeBuilder { graph: self, node }
    }

    /// The file. The same calls give the same bytes.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        let opset = |domain: &str, version| OperatorSet {
            domain: domain.to_owned(),
            version,
        };
        let model = Model {
            ir_version: IR_VERSION,
            producer_name: "lepton".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(self.proto),
            opsets: vec![opset("", OPSET), opset("ai.onnx.ml", OPSET_ML)],
            metadata: self.metadata,
        };
        model.encode_to_vec()
    }

    /// A name that no column has: columns never begin with a control character.
    fn fresh(&mut self, what: &str) -> String {
        self.values += 1;
        format!("\u{1}{what}_{}", self.values)
    }
}

/// A node that still takes attributes.
#[derive(Debug)]
#[must_use = "a node is added by `add` or `name`"]
pub struct NodeBuilder<'a> {
    graph: &'a mut Graph,
    node: NodeProto,
}

impl NodeBuilder<'_> {
    /// Takes the operator from `ai.onnx.ml`.
    pub fn ml(mut self) -> Self {
        "ai.onnx.ml".clone_into(&mut self.node.domain);
        self
    }

    /// A whole number.
    pub fn int(self, name: &str, value: i64) -> Self {
        self.attribute(name, 2, |a| a.int = Some(value))
    }

    /// A number.
    pub fn float(self, name: &str, value: f32) -> Self {
        self.attribute(name, 1, |a| a.float = Some(value))
    }

    /// A text.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.attribute(name, 3, |a| a.string = Some(value.as_bytes().to_vec()))
    }

    /// Numbers.
    pub fn floats(self, name: &str, values: Vec<f32>) -> Self {
        self.attribute(name, 6, |a| a.floats = values)
    }

    /// Whole numbers.
    pub fn ints(self, name: &str, values: Vec<i64>) -> Self {
        self.attribute(name, 7, |a| a.ints = values)
    }

    /// Texts.
    pub fn texts<'t>(self, name: &str, values: impl IntoIterator<Item = &'t str>) -> Self {
        let values = values.into_iter().map(|v| v.as_bytes().to_vec()).collect();
        self.attribute(name, 8, |a| a.strings = values)
    }

    /// Adds the node; returns the name of its output.
    #[must_use]
    pub fn add(self) -> String {
        let output = self.node.outputs[0].clone();
        self.graph.proto.nodes.push(self.node);
        output
    }

    /// Adds the node with an output of that name.
    pub fn name(mut self, output: &str) {
        self.node.outputs = vec![output.to_owned()];
        self.graph.proto.nodes.push(self.node);
    }

    fn attribute(mut self, name: &str, kind: i32, fill: impl FnOnce(&mut Attribute)) -> Self {
        let mut attribute = Attribute {
            name: name.to_owned(),
            kind,
            ..Attribute::default()
        };
        fill(&mut attribute);
        self.node.attributes.push(attribute);
        self
    }
}

fn int(value: usize) -> i64 {
    i64::try_from(value).expect("invariant: extents of things in memory fit 63 bits")
}

fn value_info(spec: &TensorSpec) -> ValueInfo {
    let element = match spec.datatype {
        Datatype::Fp32 => 1,
        Datatype::Uint8 => 2,
        Datatype::Int8 => 3,
        Datatype::Uint16 => 4,
        Datatype::Int16 => 5,
        Datatype::Int32 => 6,
        Datatype::Int64 => 7,
        Datatype::Bytes => 8,
        Datatype::Bool => 9,
        Datatype::Fp16 => 10,
        Datatype::Fp64 => 11,
        Datatype::Uint32 => 12,
        Datatype::Uint64 => 13,
        Datatype::Bf16 => 16,
    };
    let dims = spec.shape.iter().map(|&extent| Dimension {
        value: (extent >= 0).then_some(extent),
        // Free extents of tabular models are the rows of a request.
        name: (extent < 0).then(|| "rows".to_owned()),
    });
    let shape = Some(Shape {
        dims: dims.collect(),
    });
    let tensor = Some(TensorType { element, shape });
    ValueInfo {
        name: spec.name.clone(),
        value_type: Some(ValueType { tensor }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::signature_of;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut graph = Graph::new("g");
        let input = TensorSpec::new("x", Datatype::Fp32, vec![-1, 3]);
        let output = TensorSpec::new("y", Datatype::Int64, vec![-1]);
        graph.input(&input);
        graph.output(&output);
        graph
            .node("ArgMax", &["x"])
            .int("axis", 1)
            .int("keepdims", 0)
            .name("y");
        let bytes = graph.finish();
        let signature = signature_of(&bytes).unwrap();
        assert_eq!(
            (signature.inputs, signature.outputs),
            (vec![input], vec![output])
        );
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in [&b""[..], b"hello", b"PK\x03\x04", &[0xff; 64]] {
            assert!(signature_of(bytes).is_err());
        }
    }
}
