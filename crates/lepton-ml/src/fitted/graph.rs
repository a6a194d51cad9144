//! Fitted steps as nodes in front of a model.
//!
//! Owns: which steps a model needs, and their nodes, which compute in 64 bits. Must not know:
//! what the model does with the columns.

use std::collections::{BTreeSet, HashMap};

use super::{FittedStep, FittedTransform, Formula, Function, Operator, RawColumn, Value, Values};
use crate::onnx::{Constant, Graph};
use crate::tabular::ColumnType;

/// Why a model cannot take raw columns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontError {
    /// A column that the model uses is made by a step that no graph can repeat.
    #[error(
        "the model would need column `{column}`, which cannot be part of it: {reason}; do it before the fitted steps, or leave the column out"
    )]
    Opaque {
        /// The column.
        column: String,
        /// Why.
        reason: String,
    },
    /// A column that the model uses is not made from the raw columns.
    #[error("the model uses column `{column}`, which the preparation does not make")]
    NotMade {
        /// The column.
        column: String,
    },
    /// A column is made from what is predicted.
    #[error(
        "column `{column}`, from which the model learns, is made from the target: leave it out"
    )]
    FromTarget {
        /// The target.
        column: String,
    },
}

/// The part of a preparation that a model needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    steps: Vec<FittedStep>,
    /// The raw columns that matter.
    pub used: BTreeSet<String>,
    /// All raw columns but the target, in order.
    pub inputs: Vec<RawColumn>,
}

/// A column's value in a graph: 32-bit numbers or texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueName {
    /// The value's name.
    pub name: String,
    /// The text that a missing one stands for.
    pub missing: Option<String>,
}

impl FittedTransform {
    /// What is needed to make the columns that a model uses, of all those that it was shown.
    ///
    /// # Errors
    /// Fails if one of them cannot be made from raw columns.
    pub fn front(&self, used: &[&str], shown: &[&str], target: &str) -> Result<Front, FrontError> {
        let (steps, needed) = self.trace(used);
        for step in &steps {
            if let FittedStep::Opaque { column, reason } = step {
                return Err(FrontError::Opaque {
                    column: column.clone(),
                    reason: reason.clone(),
                });
            }
        }
        if needed.contains(target) {
            return Err(FrontError::FromTarget {
                column: target.to_owned(),
            });
        }
        let known = |column: &String| self.inputs.iter().any(|input| input.name == *column);
        if let Some(column) = needed.iter().find(|column| !known(column)) {
            return Err(FrontError::NotMade {
                column: column.clone(),
            });
        }
        // What the model was shown and found useless is accepted and ignored.
        let (_, shown) = self.trace(shown);
        let inputs = self.inputs.iter();
        let inputs = inputs.filter(|input| input.name != target && shown.contains(&input.name));
        Ok(Front {
            steps,
            used: needed,
            inputs: inputs.cloned().collect(),
        })
    }

    /// The steps that make these columns, and the raw columns that they are made from.
    fn trace(&self, columns: &[&str]) -> (Vec<FittedStep>, BTreeSet<String>) {
        let mut needed: BTreeSet<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        let mut steps = Vec::new();
        for step in self.steps.iter().rev() {
            let wanted = match step {
                FittedStep::OneHot {
                    column, outputs, ..
                } => {
                    let before = needed.len();
                    needed.retain(|name| !outputs.contains(name));
                    let any = needed.len() < before;
                    if any {
                        needed.insert(column.clone());
                    }
                    any
                }
                FittedStep::Derive { column, formula } => {
                    let any = needed.remove(column);
                    if any {
                        needed.extend(formula.columns().into_iter().map(str::to_owned));
                    }
                    any
                }
                FittedStep::Opaque { column, .. }
                | FittedStep::Fill { column, .. }
                | FittedStep::Scale { column, .. }
                | FittedStep::Codes { column, .. } => needed.contains(column),
            };
            if wanted {
                steps.push(step.clone());
            }
        }
        steps.reverse();
        (steps, needed)
    }
}

impl Front {
    /// Adds the nodes; gives the value of each column. The inputs are in the graph already.
    pub(crate) fn add(&self, graph: &mut Graph) -> HashMap<String, ValueName> {
        let mut nodes = Nodes {
            graph,
            values: HashMap::new(),
        };
        for input in self.inputs.iter().filter(|i| self.used.contains(&i.name)) {
            let value = match input.column_type {
                ColumnType::Number => Held::Double(nodes.cast(&input.name, DOUBLE)),
                ColumnType::Text => Held::Text(ValueName {
                    name: input.name.clone(),
                    missing: None,
                }),
            };
            nodes.values.insert(input.name.clone(), value);
        }
        for step in &self.steps {
            nodes.step(step);
        }
        let held: Vec<(String, Held)> = nodes.values.drain().collect();
        // In order, so that the same transform gives the same bytes.
        let held: std::collections::BTreeMap<String, Held> = held.into_iter().collect();
        let finished = held.into_iter().map(|(column, held)| {
            let value = match held {
                Held::Text(value) => value,
                Held::Double(name) => ValueName {
                    name: nodes.cast(&name, FLOAT),
                    missing: None,
                },
            };
            (column, value)
        });
        finished.collect()
    }
}

const FLOAT: i64 = 1;
const DOUBLE: i64 = 11;

#[derive(Debug, Clone)]
enum Held {
    Double(String),
    Text(ValueName),
}

struct Nodes<'a> {
    graph: &'a mut Graph,
    values: HashMap<String, Held>,
}

impl Nodes<'_> {
    fn cast(&mut self, value: &str, to: i64) -> String {
        self.graph.node("Cast", &[value]).int("to", to).add()
    }

    fn node(&mut self, op: &str, inputs: &[&str]) -> String {
        self.graph.node(op, inputs).add()
    }

    fn number(&mut self, number: f64) -> String {
        self.graph.constant(&[1, 1], &Constant::Doubles(&[number]))
    }

    fn double(&mut self, column: &str) -> String {
        match self.values.get(column) {
            Some(Held::Double(name)) => name.clone(),
            _ => unreachable!("the preparation's plan has checked that `{column}` holds numbers"),
        }
    }

    fn step(&mut self, step: &FittedStep) {
        match step {
            FittedStep::Fill { column, value } => self.fill(column, value),
            FittedStep::Scale {
                column,
                centre,
                factor,
            } => {
                let (value, centre, factor) = (
                    self.double(column),
                    self.number(*centre),
                    self.number(*factor),
                );
                let centred = self.node("Sub", &[&value, &centre]);
                let scaled = self.node("Mul", &[&centred, &factor]);
                self.values.insert(column.clone(), Held::Double(scaled));
            }
            FittedStep::Codes {
                column,
                values,
                codes,
                unseen,
            } => {
                let coded = self.encode(column, values, codes, unseen.unwrap_or(f64::NAN));
                let coded = self.cast(&coded, DOUBLE);
                self.values.insert(column.clone(), Held::Double(coded));
            }
            FittedStep::OneHot {
                column,
                values,
                outputs,
            } => {
                let places: Vec<f64> = (0_u32..).map(f64::from).take(values.len()).collect();
                let code = self.encode(column, values, &places, -1.0);
                let code = self.cast(&code, DOUBLE);
                for (place, output) in places.iter().zip(outputs) {
                    let place = self.number(*place);
                    let equal = self.node("Equal", &[&code, &place]);
                    let one = self.cast(&equal, DOUBLE);
                    self.values.insert(output.clone(), Held::Double(one));
                }
            }
            FittedStep::Derive { column, formula } => {
                let held = match formula {
                    Formula::Column(name) => self.values.get(name).cloned(),
                    formula => Some(Held::Double(self.formula(formula))),
                };
                let held = held.expect("invariant: a front has all columns that it reads");
                self.values.insert(column.clone(), held);
            }
            FittedStep::Opaque { .. } => unreachable!("a front has no such step"),
        }
    }

    fn fill(&mut self, column: &str, value: &Value) {
        let held = match (self.values.get(column), value) {
            (Some(Held::Double(name)), Value::Number(number)) => {
                let name = name.clone();
                let absent = self.node("IsNaN", &[&name]);
                let fill = self.number(*number);
                Held::Double(self.node("Where", &[&absent, &fill, &name]))
            }
            // Whatever looks the text up next takes "" for this one.
            (Some(Held::Text(text)), Value::Text(fill)) => Held::Text(ValueName {
                missing: text.missing.clone().or_else(|| Some(fill.clone())),
                ..text.clone()
            }),
            _ => unreachable!("the preparation's plan has checked the constant's type"),
        };
        self.values.insert(column.to_owned(), held);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the encoder computes with 32 bits"
    )]
    fn encode(&mut self, column: &str, values: &Values, codes: &[f64], unseen: f64) -> String {
        let mut codes: Vec<f32> = codes.iter().map(|code| *code as f32).collect();
        match (self.values.get(column).cloned(), values) {
            (Some(Held::Text(text)), Values::Texts(texts)) => {
                let mut keys: Vec<&str> = texts.iter().map(String::as_str).collect();
                text.with_missing(&mut keys, &mut codes, unseen as f32);
                self.graph
                    .node("LabelEncoder", &[&text.name])
                    .ml()
                    .texts("keys_strings", keys)
                    .floats("values_floats", codes)
                    .float("default_float", unseen as f32)
                    .add()
            }
            (Some(Held::Double(name)), Values::Numbers(numbers)) => {
                let value = self.cast(&name, FLOAT);
                let keys = numbers.iter().map(|number| *number as f32).collect();
                self.graph
                    .node("LabelEncoder", &[&value])
                    .ml()
                    .floats("keys_floats", keys)
                    .floats("values_floats", codes)
                    .float("default_float", unseen as f32)
                    .add()
            }
            _ => unreachable!("values were counted in a column of their own type"),
        }
    }

    fn formula(&mut self, formula: &Formula) -> String {
        match formula {
            Formula::Column(name) => self.double(name),
            Formula::Number(number) => self.number(*number),
            Formula::Missing => self.number(f64::NAN),
            Formula::Call(function, of) => {
                let of = self.formula(of);
                self.call(*function, &of)
            }
            Formula::Binary(operator, left, right) => {
                let (left, right) = (self.formula(left), self.formula(right));
                self.binary(*operator, &left, &right)
            }
            Formula::Case(branches, otherwise) => {
                let mut value = self.formula(otherwise);
                for (when, then) in branches.iter().rev() {
                    let (when, then, one) =
                        (self.formula(when), self.formula(then), self.number(1.0));
                    let holds = self.node("Equal", &[&when, &one]);
                    value = self.node("Where", &[&holds, &then, &value]);
                }
                value
            }
        }
    }

    fn call(&mut self, function: Function, of: &str) -> String {
        let op = match function {
            Function::Negative => "Neg",
            Function::Absolute => "Abs",
            Function::SquareRoot => "Sqrt",
            Function::Exponential => "Exp",
            Function::Logarithm => "Log",
            Function::Floor => "Floor",
            Function::Ceiling => "Ceil",
            Function::Not => {
                let one = self.number(1.0);
                return self.node("Sub", &[&one, of]);
            }
            Function::IsMissing => {
                let absent = self.node("IsNaN", &[of]);
                return self.cast(&absent, DOUBLE);
            }
        };
        self.node(op, &[of])
    }

    fn binary(&mut self, operator: Operator, left: &str, right: &str) -> String {
        let compare = match operator {
            Operator::Add => return self.node("Add", &[left, right]),
            Operator::Subtract => return self.node("Sub", &[left, right]),
            Operator::Multiply => return self.node("Mul", &[left, right]),
            Operator::Divide => return self.node("Div", &[left, right]),
            Operator::Power => return self.node("Pow", &[left, right]),
            Operator::And => return self.decided(left, right, 0.0, "Mul"),
            Operator::Or => return self.decided(left, right, 1.0, "Add"),
            Operator::NotEqual => {
                let equal = self.binary(Operator::Equal, left, right);
                return self.call(Function::Not, &equal);
            }
            Operator::Equal => "Equal",
            Operator::Less => "Less",
            Operator::LessOrEqual => "LessOrEqual",
            Operator::Greater => "Greater",
            Operator::GreaterOrEqual => "GreaterOrEqual",
        };
        let holds = self.node(compare, &[left, right]);
        let holds = self.cast(&holds, DOUBLE);
        let (no_left, no_right) = (self.node("IsNaN", &[left]), self.node("IsNaN", &[right]));
        let unknown = self.node("Or", &[&no_left, &no_right]);
        let nan = self.number(f64::NAN);
        self.node("Where", &[&unknown, &nan, &holds])
    }

    /// One side may decide alone; else arithmetic keeps what is unknown.
    fn decided(&mut self, left: &str, right: &str, decisive: f64, otherwise: &str) -> String {
        let decisive = self.number(decisive);
        let by_left = self.node("Equal", &[left, &decisive]);
        let by_right = self.node("Equal", &[right, &decisive]);
        let either = self.node("Or", &[&by_left, &by_right]);
        let value = self.node(otherwise, &[left, right]);
        self.node("Where", &[&either, &decisive, &value])
    }
}

impl ValueName {
    /// Gives a missing text the code of the one that it stands for.
    pub(crate) fn with_missing(&self, keys: &mut Vec<&str>, codes: &mut Vec<f32>, unseen: f32) {
        let Some(stands_for) = &self.missing else {
            return;
        };
        let code = keys.iter().position(|key| key == stands_for);
        let code = code.map_or(unseen, |at| codes[at]);
        match keys.iter().position(|key| key.is_empty()) {
            Some(at) => codes[at] = code,
            None => {
                keys.push("");
                codes.push(code);
            }
        }
    }
}
