//! A pipeline as one ONNX file, preparation included.
//!
//! Owns: the graph that repeats [`Pipeline::predict`] operation by operation. Must not know:
//! the wire format.
//!
//! Inputs: one `[rows, 1]` tensor a raw column under the column's name, 32-bit floats with NaN
//! for missing or strings with `""` for missing, in the columns' order; columns that the model
//! ignores are accepted too. Outputs: `label` `[rows]`, 64-bit integers where every class is a
//! whole number, else strings, and `probabilities` `[rows, classes]`; or `prediction` `[rows]`.

use std::collections::HashMap;

use lepton_types::signature::{Datatype, Example, Role, Signature, Task, TensorSpec};

use super::frame::{Column, ColumnType, Frame};
use super::models::{Layers, Link, Model, Node, Trees};
use super::pipeline::Pipeline;
use super::prepare::{Encoding, SCALED_MAX};
use super::target::TargetValues;
use crate::fitted::{Front, ValueName};
use crate::onnx::{Constant, Graph};

/// What the model takes and gives; examples are the first values of each column.
#[must_use]
pub fn signature(
    pipeline: &Pipeline,
    frame: &Frame,
    target_name: &str,
    target: &TargetValues,
) -> Signature {
    let inputs = pipeline.preparation.columns.iter().map(|column| {
        let datatype = match column.column_type {
            ColumnType::Number => Datatype::Fp32,
            ColumnType::Text => Datatype::Bytes,
        };
        let role = match column.encoding {
            Encoding::Dropped(_) => Role::Ignored,
            _ => Role::Feature,
        };
        let mut spec = TensorSpec::new(&column.name, datatype, vec![-1, 1]).with_role(role);
        spec.example = frame.column(&column.name).ok().and_then(example);
        spec
    });
    let classes = target.class_names().to_vec();
    let outputs = match target {
        TargetValues::Classes { integers, .. } => {
            let label = if *integers {
                Datatype::Int64
            } else {
                Datatype::Bytes
            };
            let count = i64::try_from(classes.len()).expect("invariant: classes are bounded");
            vec![
                TensorSpec::new("label", label, vec![-1]).with_role(Role::Label),
                TensorSpec::new("probabilities", Datatype::Fp32, vec![-1, count])
                    .with_role(Role::Probabilities),
            ]
        }
        TargetValues::Numbers(_) => {
            vec![
                TensorSpec::new("prediction", Datatype::Fp32, vec![-1]).with_role(Role::Prediction),
            ]
        }
    };
    Signature {
        inputs: inputs.collect(),
        outputs,
        task: Some(target.task()),
        target: Some(target_name.to_owned()),
        classes,
    }
}

fn example(column: &Column) -> Option<Example> {
    let row = (0..column.len()).find(|&row| !column.is_missing(row))?;
    Some(match column {
        Column::Number(values) => Example::Number(values[row]),
        Column::Text(text) => Example::Text(text.get(row)?.to_owned()),
    })
}

/// The same signature for a model that takes the raw columns of a preparation.
#[must_use]
pub fn signature_behind(front: &Front, signature: &Signature) -> Signature {
    let inputs = front.inputs.iter().map(|input| {
        let datatype = match input.column_type {
            ColumnType::Number => Datatype::Fp32,
            ColumnType::Text => Datatype::Bytes,
        };
        let role = if front.used.contains(&input.name) {
            Role::Feature
        } else {
            Role::Ignored
        };
        TensorSpec::new(&input.name, datatype, vec![-1, 1]).with_role(role)
    });
    Signature {
        inputs: inputs.collect(),
        ..signature.clone()
    }
}

/// The columns that the models of a pipeline look at.
#[must_use]
pub fn used_columns(pipeline: &Pipeline) -> Vec<&str> {
    let columns = pipeline.preparation.columns.iter();
    columns
        .filter(|column| !matches!(column.encoding, Encoding::Dropped(_)))
        .map(|column| column.name.as_str())
        .collect()
}

/// The file's bytes.
#[must_use]
pub fn onnx(pipeline: &Pipeline, signature: &Signature) -> Vec<u8> {
    write(pipeline, signature, None)
}

/// The bytes of a file that takes raw columns, whose preparation is `front`.
#[must_use]
pub fn onnx_behind(pipeline: &Pipeline, signature: &Signature, front: &Front) -> Vec<u8> {
    write(pipeline, signature, Some(front))
}

fn write(pipeline: &Pipeline, signature: &Signature, front: Option<&Front>) -> Vec<u8> {
    let mut writer = Writer {
        graph: Graph::new("lepton"),
        pipeline,
        prepared: HashMap::new(),
    };
    for spec in &signature.inputs {
        writer.graph.input(spec);
    }
    if let Some(front) = front {
        writer.prepared = front.add(&mut writer.graph);
    }
    signature
        .outputs
        .iter()
        .for_each(|spec| writer.graph.output(spec));
    writer.describe(signature);
    let mean = writer.members();
    match signature.task {
        Some(Task::Classification) => writer.classes(&mean, signature),
        _ => writer.number(&mean),
    }
    writer.graph.finish()
}

struct Writer<'a> {
    graph: Graph,
    pipeline: &'a Pipeline,
    /// Where a preparation's columns are; the others are inputs.
    prepared: HashMap<String, ValueName>,
}

/// The values that hold the two views of the rows.
struct Views {
    dense: Option<String>,
    trees: Option<String>,
}

impl Writer<'_> {
    fn describe(&mut self, signature: &Signature) {
        let task = match signature.task {
            Some(Task::Classification) => "classification",
            _ => "regression",
        };
        self.graph
            .metadata("lepton.version", env!("CARGO_PKG_VERSION"));
        self.graph.metadata("lepton.task", task);
        self.graph.metadata(
            "lepton.target",
            signature.target.as_deref().unwrap_or_default(),
        );
        for (index, class) in signature.classes.iter().enumerate() {
            self.graph.metadata(&format!("lepton.class.{index}"), class);
        }
    }

    /// The weighted mean of the members' predictions.
    fn members(&mut self) -> String {
        let pipeline = self.pipeline;
        let uses = |f: fn(&Model) -> bool| pipeline.members.iter().any(|m| f(&m.model));
        let views = Views {
            dense: uses(|m| matches!(m, Model::Layers(_))).then(|| self.dense()),
            trees: uses(|m| matches!(m, Model::Trees(_))).then(|| self.tree_view()),
        };
        let mut mean: Option<String> = None;
        for member in &pipeline.members {
            let prediction = match &member.model {
                Model::Layers(layers) => {
                    self.layers(layers, views.dense.as_deref().unwrap_or_default())
                }
                Model::Trees(trees) => {
                    self.trees(trees, views.trees.as_deref().unwrap_or_default())
                }
            };
            let weight = self
                .graph
                .constant(&[], &Constant::Floats(&[member.weight]));
            let own = self.graph.node("Mul", &[&prediction, &weight]).add();
            mean = Some(match mean {
                None => own,
                Some(before) => self.graph.node("Add", &[&before, &own]).add(),
            });
        }
        mean.expect("invariant: a pipeline has a member")
    }

    fn raw_numbers(&mut self) -> Option<String> {
        let names = self.pipeline.preparation.numbers().map(|n| n.0);
        let names: Vec<&str> = names
            .map(|name| self.prepared.get(name).map_or(name, |value| &value.name))
            .collect();
        (!names.is_empty()).then(|| self.graph.node("Concat", &names).int("axis", 1).add())
    }

    fn dense(&mut self) -> String {
        let preparation = &self.pipeline.preparation;
        let mut parts = Vec::new();
        if let Some(raw) = self.raw_numbers() {
            let pick = |f: fn((f32, f32, f32)) -> f32| -> Vec<f32> {
                preparation.numbers().map(|n| f((n.1, n.2, n.3))).collect()
            };
            let (fills, means, scales) = (pick(|n| n.0), pick(|n| n.1), pick(|n| n.2));
            let width = fills.len();
            let absent = self.graph.node("IsNaN", &[&raw]).add();
            let fill = self.graph.constant(&[1, width], &Constant::Floats(&fills));
            let filled = self.graph.node("Where", &[&absent, &fill, &raw]).add();
            let mean = self.graph.constant(&[1, width], &Constant::Floats(&means));
            let centred = self.graph.node("Sub", &[&filled, &mean]).add();
            let scale = self.graph.constant(&[1, width], &Constant::Floats(&scales));
            let scaled = self.graph.node("Mul", &[&centred, &scale]).add();
            let low = self.graph.constant(&[], &Constant::Floats(&[-SCALED_MAX]));
            let high = self.graph.constant(&[], &Constant::Floats(&[SCALED_MAX]));
            parts.push(self.graph.node("Clip", &[&scaled, &low, &high]).add());
            let flagged: Vec<i64> = (0..)
                .zip(preparation.numbers())
                .filter(|(_, n)| n.4)
                .map(|(i, _)| i)
                .collect();
            if !flagged.is_empty() {
                let flags = self.graph.node("Cast", &[&absent]).int("to", 1).add();
                let chosen = self
                    .graph
                    .constant(&[flagged.len()], &Constant::Ints(&flagged));
                parts.push(
                    self.graph
                        .node("Gather", &[&flags, &chosen])
                        .int("axis", 1)
                        .add(),
                );
            }
        }
        for (name, categories, _) in preparation.categories() {
            parts.push(self.one_hot(name, categories));
        }
        self.concatenate(&parts)
    }

    fn tree_view(&mut self) -> String {
        let mut parts: Vec<String> = self.raw_numbers().into_iter().collect();
        for (name, categories, ranks) in self.pipeline.preparation.categories() {
            parts.push(if Encoding::one_hot_for_trees(categories) {
                self.one_hot(name, categories)
            } else {
                self.encode(name, categories, ranks.to_vec(), f32::NAN)
            });
        }
        self.concatenate(&parts)
    }

    fn concatenate(&mut self, parts: &[String]) -> String {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        self.graph.node("Concat", &parts).int("axis", 1).add()
    }

    fn encode(
        &mut self,
        name: &str,
        categories: &[String],
        mut codes: Vec<f32>,
        unseen: f32,
    ) -> String {
        let mut keys: Vec<&str> = categories.iter().map(String::as_str).collect();
        let mut value = name;
        if let Some(prepared) = self.prepared.get(name) {
            prepared.with_missing(&mut keys, &mut codes, unseen);
            value = &prepared.name;
        }
        self.graph
            .node("LabelEncoder", &[value])
            .ml()
            .texts("keys_strings", keys)
            .floats("values_floats", codes)
            .float("default_float", unseen)
            .add()
    }

    fn one_hot(&mut self, name: &str, categories: &[String]) -> String {
        let places: Vec<f32> = (0_u8..).map(f32::from).take(categories.len()).collect();
        let code = self.encode(name, categories, places.clone(), -1.0);
        let places = self
            .graph
            .constant(&[1, categories.len()], &Constant::Floats(&places));
        let equal = self.graph.node("Equal", &[&code, &places]).add();
        self.graph.node("Cast", &[&equal]).int("to", 1).add()
    }

    fn layers(&mut self, layers: &Layers, input: &str) -> String {
        let mut value = input.to_owned();
        for (at, layer) in layers.layers.iter().enumerate() {
            if at > 0 {
                value = self.graph.node("Relu", &[&value]).add();
            }
            let weights = self.graph.constant(
                &[layer.inputs(), layer.bias.len()],
                &Constant::Floats(&layer.weights),
            );
            let bias = self
                .graph
                .constant(&[layer.bias.len()], &Constant::Floats(&layer.bias));
            value = self.graph.node("Gemm", &[&value, &weights, &bias]).add();
        }
        self.link(value, layers.link)
    }

    fn trees(&mut self, trees: &Trees, input: &str) -> String {
        let table = TreeTable::new(trees);
        let outputs = i64::try_from(trees.base.len()).expect("invariant: classes are bounded");
        let sums = self
            .graph
            .node("TreeEnsembleRegressor", &[input])
            .ml()
            .int("n_targets", outputs)
            .text("aggregate_function", "SUM")
            .text("post_transform", "NONE")
            .floats("base_values", trees.base.clone())
            .ints("nodes_treeids", table.node_trees)
            .ints("nodes_nodeids", table.node_ids)
            .ints("nodes_featureids", table.features)
            .texts("nodes_modes", table.modes)
            .floats("nodes_values", table.thresholds)
            .ints("nodes_truenodeids", table.lefts)
            .ints("nodes_falsenodeids", table.rights)
            .ints("nodes_missing_value_tracks_true", table.missing_left)
            .ints("target_treeids", table.leaf_trees)
            .ints("target_nodeids", table.leaf_nodes)
            .ints("target_ids", table.leaf_outputs)
            .floats("target_weights", table.leaf_values)
            .add();
        self.link(sums, trees.link)
    }

    fn link(&mut self, sums: String, link: Link) -> String {
        let scores = match link {
            Link::Identity => return sums,
            Link::Softmax => sums,
            Link::LogOdds => {
                let zero = self.graph.node("Sub", &[&sums, &sums]).add();
                self.graph
                    .node("Concat", &[&zero, &sums])
                    .int("axis", 1)
                    .add()
            }
        };
        self.graph.node("Softmax", &[&scores]).int("axis", 1).add()
    }

    fn classes(&mut self, mean: &str, signature: &Signature) {
        self.graph.node("Identity", &[mean]).name("probabilities");
        let best = self
            .graph
            .node("ArgMax", &[mean])
            .int("axis", 1)
            .int("keepdims", 0)
            .add();
        let integers = signature.outputs[0].datatype == Datatype::Int64;
        let count = [signature.classes.len()];
        let names = if integers {
            let numbers: Vec<i64> = signature
                .classes
                .iter()
                .filter_map(|c| c.parse().ok())
                .collect();
            self.graph.constant(&count, &Constant::Ints(&numbers))
        } else {
            self.graph
                .constant(&count, &Constant::Texts(&signature.classes))
        };
        self.graph
            .node("Gather", &[&names, &best])
            .int("axis", 0)
            .name("label");
    }

    fn number(&mut self, mean: &str) {
        let factor = self
            .graph
            .constant(&[], &Constant::Floats(&[self.pipeline.scale.factor]));
        let offset = self
            .graph
            .constant(&[], &Constant::Floats(&[self.pipeline.scale.offset]));
        let stretched = self.graph.node("Mul", &[mean, &factor]).add();
        let moved = self.graph.node("Add", &[&stretched, &offset]).add();
        let flat = self.graph.constant(&[1], &Constant::Ints(&[-1]));
        self.graph
            .node("Reshape", &[&moved, &flat])
            .name("prediction");
    }
}

/// Trees as the parallel lists of `TreeEnsembleRegressor`.
#[derive(Default)]
struct TreeTable {
    node_trees: Vec<i64>,
    node_ids: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<&'static str>,
    thresholds: Vec<f32>,
    lefts: Vec<i64>,
    rights: Vec<i64>,
    missing_left: Vec<i64>,
    leaf_trees: Vec<i64>,
    leaf_nodes: Vec<i64>,
    leaf_outputs: Vec<i64>,
    leaf_values: Vec<f32>,
}

impl TreeTable {
    fn new(trees: &Trees) -> Self {
        let int = |v: usize| i64::try_from(v).expect("invariant: trees are bounded");
        let mut table = Self::default();
        for (tree_id, tree) in (0..).zip(&trees.trees) {
            for (node_id, node) in (0..).zip(&tree.nodes) {
                table.node_trees.push(tree_id);
                table.node_ids.push(node_id);
                match node {
                    Node::Split {
                        feature,
                        threshold,
                        missing_left,
                        left,
                        right,
                    } => {
                        table.features.push(int(*feature));
                        table.modes.push("BRANCH_LEQ");
                        table.thresholds.push(*threshold);
                        table.lefts.push(int(*left));
                        table.rights.push(int(*right));
                        table.missing_left.push(i64::from(*missing_left));
                    }
                    Node::Leaf(values) => {
                        table.features.push(0);
                        table.modes.push("LEAF");
                        table.thresholds.push(0.0);
                        table.lefts.push(0);
                        table.rights.push(0);
                        table.missing_left.push(0);
                        for (at, value) in values.iter().enumerate() {
                            table.leaf_trees.push(tree_id);
                            table.leaf_nodes.push(node_id);
                            table.leaf_outputs.push(int(tree.output + at));
                            table.leaf_values.push(*value);
                        }
                    }
                }
            }
        }
        table
    }
}
